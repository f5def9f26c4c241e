"""What is wrong with a command line, said in korbert's words: Hydra's own advice for a misspelled key is to add it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass

from hydra.errors import CompactHydraException, MissingConfigException
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from korbert.errors import meant

_FULL = "HYDRA_FULL_ERROR"
_OURS = "KORBERT_FULL_ERROR"  # that it was set here, for the doors that this one starts


def without_hydra_s_words(main: Callable[[], object]) -> None:
    """Call a door; a command line that Hydra cannot read ends with a message and exit status 1.

    With HYDRA_FULL_ERROR=1 in the environment it ends as Hydra has it, with a traceback.
    """
    if os.environ.get(_FULL) == "1" and _OURS not in os.environ:
        main()
        return
    os.environ[_FULL] = os.environ[_OURS] = "1"  # Hydra then raises what it would print
    try:
        main()
    except (CompactHydraException, OmegaConfBaseException) as error:
        _end(explained(error))
    except ValueError as error:
        if "Config group override must be a string or a list" in str(error):  # a traceback of Hydra's
            groups = [word for word in sys.argv[1:] if word.partition("=")[2].lower() in ("null", "none", "")]
            _end(f"{' or '.join(groups) or 'a group of settings'}: wanted the name of a file in conf/, not nothing")
        if str(error) != "No trials are completed yet.":  # Optuna's
            raise
        _end("not one trial of this search has a score; what went wrong stands above")


def _end(message: str) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


def explained(error: Exception) -> str:
    """The message of an error of Hydra's, naming the key, and what was wanted of it."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        options = sorted(error.options)
        return (
            f"{group}={name}: there is no such file in conf/{group}, wanted {', '.join(options)}{meant(name, options)}"
        )
    if match := re.match(r"Could not override '([^']+)'\. No match in the defaults list", str(error)):
        return f"{match[1]}: this command has no such group of settings; see --help"
    cause = error if isinstance(error, OmegaConfBaseException) else error.__cause__
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        if isinstance(cause, ConfigAttributeError | ConfigKeyError):
            return no_such_key(cause.full_key, _known(cause))
        problem = (cause.msg or str(cause)).splitlines()[0]
        given = re.search(rf"{re.escape(cause.full_key)}=(.*)", str(error))
        if "is not a ListConfig" in problem:
            value = given[1].strip("'\"") if given and given[1] else "VALUE"
            value = f'"{value}"' if re.search(r"[\s,=()]", value) else value
            return f"{cause.full_key}: wanted a list, e.g. {cause.full_key}='[{value}]'"
        return f"{cause.full_key}: {problem}"
    if cause is error:
        return str(error).splitlines()[0]
    override = getattr(error, "override", None)  # of those that cannot be parsed
    if override and "=" not in override:
        return f"{override!r}: wanted KEY=VALUE"
    lines = str(error).splitlines() or [type(error).__name__]
    problem = "\n".join(line for line in lines if not line.startswith("See https://hydra.cc"))
    return f"{override}: {problem}" if override else problem


def no_such_key(key: str, known: list[str]) -> str:
    """That a key is unknown, and which of those that are there may have been meant; known: the last parts of keys."""
    before, dot, last = key.rpartition(".")
    return f"{key}: there is no such key{meant(last, known, f'{before}{dot}')}"


def _known(error: OmegaConfBaseException) -> list[str]:
    parent = error.parent_node
    if parent is None:
        return []
    schema = OmegaConf.get_type(parent)
    own = [field.name for field in fields(schema)] if is_dataclass(schema) else []
    return [*own, *map(str, parent.keys() if hasattr(parent, "keys") and not own else [])]

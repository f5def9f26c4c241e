"""What is wrong with a command line, said in korbert's words: Hydra's own advice for a misspelled key is to add it."""

from __future__ import annotations

import functools
import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from typing import Any, NoReturn

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException, MissingConfigException
from hydra.experimental.callback import Callback
from omegaconf import OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError  # type: ignore[import-untyped]  # Hydra's

from korbert.errors import KorbertError, meant
from korbert.redaction import redacted

EXPLAINED = (CompactHydraException, OmegaConfBaseException, YAMLError)  # what `explained` has words for
_FULL = "HYDRA_FULL_ERROR"
_OURS = "KORBERT_FULL_ERROR"  # that it was set here, for the doors that this one starts


def without_hydra_s_words(main: Callable[[], object]) -> None:
    """Call a door; a command line that Hydra cannot read ends with a message and exit status 1.

    With HYDRA_FULL_ERROR=1 in the environment it ends as Hydra has it, with a traceback.
    """
    if _wants_hydra_s_words():
        main()
        return
    os.environ[_FULL] = os.environ[_OURS] = "1"  # Hydra then raises what it would print
    try:
        main()
    except EXPLAINED as error:
        _end(explained(error))
    except ValueError as error:
        if "Config group override must be a string or a list" in str(error):  # a traceback of Hydra's
            groups = [word for word in sys.argv[1:] if word.partition("=")[2].lower() in ("null", "none", "")]
            _end(f"{' or '.join(groups) or 'a group of settings'}: wanted the name of a file in conf/, not nothing")
        if str(error) != "No trials are completed yet.":  # Optuna's
            raise
        _end("not one trial of this search has a score; what went wrong stands above")


class Guard(Callback):
    """A callback whose errors end the door: Hydra makes warnings of them, and goes on with what was to be stopped."""

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        for name, method in list(vars(cls).items()):
            if name.startswith("on_"):
                setattr(cls, name, _ending(method))


def _ending(method: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(method)
    def guarded(*arguments: Any, **more: Any) -> None:
        try:
            method(*arguments, **more)
        except KorbertError as error:
            _end(redacted(str(error)))
        except Exception as error:
            if _wants_hydra_s_words():
                traceback.print_exc()
            problem = explained(error) if isinstance(error, EXPLAINED) else f"{type(error).__name__}: {error}"
            _end(redacted(f"{method.__qualname__}: {problem}"))

    return guarded


def _wants_hydra_s_words() -> bool:
    return os.environ.get(_FULL) == "1" and _OURS not in os.environ


def _end(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)


def explained(error: Exception) -> str:
    """The message of an error of Hydra's, naming the key, or the file's line, and what was wanted of it."""
    if isinstance(error, YAMLError):
        return _explained_yaml(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        group, _, name = error.missing_cfg_file.rpartition("/")
        options = sorted(error.options)
        return (
            f"{group}={name}: there is no such file in conf/{group}, wanted {', '.join(options)}{meant(name, options)}"
        )
    if match := re.match(r"Could not override '([^']+)'\. No match in the defaults list", str(error)):
        return f"{match[1]}: this command has no such group of settings; see --help"
    if match := re.match(r"In '(([^/']+)/[^']+)': ConfigKeyError .*\s+Key '\2' not in", str(error)):
        return (
            f"{match[1]}: its settings are put below {match[2]!r}, where this command has none; wanted a first line "
            "that says where they belong: # @package _global_"
        )
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
    if override and (hint := _in_quotation_marks(override)):
        return f"{override}: wanted quotation marks for Hydra inside of those for the shell: {shlex.quote(hint)}"
    lines = str(error).splitlines() or [type(error).__name__]
    problem = "\n".join(line for line in lines if not line.startswith("See https://hydra.cc"))
    return f"{override}: {problem}" if override else problem


def _explained_yaml(error: YAMLError) -> str:
    mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
    if mark is None:
        return " ".join(str(error).split())
    problem = str(error.problem)
    tab = "; lines begin with spaces in YAML, a key is followed by one" if r"'\t'" in problem else ""
    return f"{mark.name}, line {mark.line + 1}: {problem}{tab}"


def _in_quotation_marks(override: str) -> str | None:
    """The override with its text in quotation marks, where Hydra could read it so, but not without them.

    Its grammar has no Hangul, which is quoted for those who type it (commandline.py), but not beside `${…}`; and no =.
    """
    key, _, value = override.partition("=")
    if '"' in value or "'" in value or (value.isascii() and "=" not in value):
        return None
    listed = value.startswith("[") and value.endswith("]")
    parts = [f'"{part.strip()}"' for part in (value[1:-1].split(",") if listed else [value])]
    made = f"{key}=[{','.join(parts)}]" if listed else f"{key}={parts[0]}"
    try:
        OverridesParser.create().parse_overrides([made])
    except CompactHydraException:
        return None
    return made


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

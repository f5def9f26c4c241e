"""From YAML files and overrides to typed configurations, and from an error to its message."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from korbert.config.identity import outdone_lengths
from korbert.config.mistakes import explained, no_such_key
from korbert.config.places import refuse_place_of_init
from korbert.config.sweeping import forget_failure, in_sweep, note_failure
from korbert.errors import ConfigError, DataError, KorbertError, WriteError
from korbert.files import raise_unwritable
from korbert.redaction import redacted
from korbert.study.results import main_score
from korbert.training.interrupt import Interrupted

# Text that Hydra takes for nothing but text.
_PLAIN = re.compile(r"(?:[A-Za-z]|\.{0,2}/)[A-Za-z0-9_/.-]*")
_WORDS = ("null", "true", "false", "nan", "inf")


def run_door(task: Callable[[Any], object], config: DictConfig) -> float | None:
    """Run a task with its typed configuration; returns its score for a sweeper, see `korbert.study.results.main_score`.

    An error meant for the user prints its message alone, exit status 1. In a sweep it is noted, and the other jobs go
    on; the sweep's end names them.
    """
    noted = in_sweep() and "run_dir" in config
    logging.raiseExceptions = False  # a log on a full disk is silent, or each of its lines would be a traceback
    try:
        if os.environ.get("WORLD_SIZE", "1") != "1" and not getattr(task, "by_ranks", False):
            raise ConfigError("torchrun starts several processes, but this is done by one: start it with python")
        if HydraConfig.initialized() and "run_dir" in config:
            _set_place(config)
            _let_named_length_win(config, HydraConfig.get().overrides.task)
        return main_score(_told(task, typed(config)))
    except Interrupted as error:  # ends the sweep, too
        place = f" with run_dir={config.run_dir}" if "run_dir" in config and not in_sweep() else ""
        print(f"error: {redacted(str(error))}; the same command{place} goes on", file=sys.stderr)
        sys.exit(1)
    except WriteError as error:  # ends the sweep: other jobs would fail alike
        print(f"error: {redacted(str(error))}", file=sys.stderr)
        sys.exit(1)
    except KorbertError as error:
        print(f"error: {redacted(str(error))}", file=sys.stderr)
        if not noted:
            sys.exit(1)
        _note(config, str(error))
    except Exception as error:
        if not noted:
            raise
        traceback.print_exc()
        _note(config, repr(error))
    except KeyboardInterrupt:  # outside the training loop, which stops at a step's end
        print("interrupted; the same command begins this part anew", file=sys.stderr)
        sys.exit(130)
    return None


def _told(task: Callable[[Any], object], config: Any) -> object:
    """What the task returns. Raises WriteError where a file or folder cannot be written, DataError: be read."""
    try:
        return task(config)
    except OSError as error:
        if error.filename is not None:
            path = Path(os.fsdecode(error.filename))
            is_hidden = not os.access(path.parent, os.X_OK) or (path.exists() and not os.access(path, os.R_OK))
            if isinstance(error, PermissionError) and is_hidden:
                raise DataError(path, "file", f"cannot be read ({error.strerror})") from error
            raise_unwritable(path, error)
        raise


def _note(config: DictConfig, error: str) -> None:
    """Leave word for the sweep's end; where that cannot be written either, this is it."""
    try:
        note_failure(Path(config.run_dir), error)
    except (KorbertError, OSError) as unwritable:
        print(f"error: {unwritable}", file=sys.stderr)
        sys.exit(1)


def _set_place(config: DictConfig) -> None:
    """The run's folder as Hydra has it; jobs of one sweep are a group of their tracker."""
    config.run_dir = _relative(HydraConfig.get().runtime.output_dir)
    if in_sweep():
        forget_failure(Path(config.run_dir))
        if "tracker" in config and config.tracker.group is None:
            config.tracker.group = Path(HydraConfig.get().sweep.dir).name
    refuse_place_of_init(config.run_dir, config.get("init"))  # of a sweep's job, nobody has looked yet


def compose_config(name: str, overrides: Sequence[str]) -> Any:
    """The typed configuration of the door `name` with `overrides`, inside another door.

    Raises ConfigError for overrides that do not fit it.
    """
    try:
        config = compose(config_name=name, overrides=list(overrides))
        _let_named_length_win(config, overrides)
    except Exception as error:  # for some overrides Hydra has bare assertions and errors of Python's own
        problem = explained(error) if isinstance(error, CompactHydraException) else error or type(error).__name__
        raise ConfigError(f"{name}: {problem}; overrides: {' '.join(overrides)}") from error
    return typed(config)


def as_overrides(group: str, values: Any) -> list[str]:
    """A part of a configuration as overrides, to be passed on to another door."""
    return [as_override(f"{group}.{key}", value) for key, value in asdict(values).items()]


def as_override(key: str, value: Any) -> str:
    """`key=value` for text, numbers or a list of them; text that could be more to Hydra than text is quoted."""
    return f"{key}={quoted(value)}"


def quoted(value: Any) -> str:
    """A value as Hydra reads it; text that could be more than text is in quotation marks."""
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    if isinstance(value, str):
        # Hydra takes a backslash as it is, but before a quotation mark.
        inside = re.sub(r"(\\*)('|\Z)", lambda match: 2 * match[1] + ("\\'" if match[2] else ""), value)
        return f"'{inside}'"
    if isinstance(value, list):
        return f"[{','.join(map(quoted, value))}]"
    return json.dumps(value)


def _let_named_length_win(config: DictConfig, overrides: Sequence[str]) -> None:
    """`train.budget=20m` on the command line is enough: a length from the configuration files then does not count."""
    for key in outdone_lengths(config.get("train", {}), overrides):
        config.train[key] = None


def _relative(folder: str) -> str:
    """A folder below the working directory by its relative name, which means the same on another machine."""
    path = Path(folder)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _unknown_keys(node: DictConfig, prefix: str = "") -> Iterator[str]:
    """Keys that no schema has, each with the one that may have been meant."""
    schema = OmegaConf.get_type(node)
    known = [field.name for field in fields(schema)] if is_dataclass(schema) else None
    for key in map(str, node):
        if known is not None and key not in known:
            yield no_such_key(f"{prefix}{key}", known)
        elif isinstance(child := node._get_node(key), DictConfig) and not (child._is_none() or child._is_missing()):
            yield from _unknown_keys(child, f"{prefix}{key}.")


def typed(config: DictConfig) -> Any:
    """Turn a composed configuration into its dataclasses.

    Raises ConfigError naming a key without a value, or one that was added (`+key=value`) and that nothing reads.
    """
    if unknown := list(_unknown_keys(config)):
        raise ConfigError("; ".join(unknown))
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise ConfigError(f"no value for: {', '.join(missing)}")
        made = OmegaConf.to_object(config)
        # What was taken away by ~key is no missing key of the configuration.
        if is_dataclass(made) and (absent := [f.name for f in fields(made) if getattr(made, f.name) == MISSING]):
            raise ConfigError(f"no value for: {', '.join(absent)}")
        return made
    except KorbertError:
        raise
    except OmegaConfBaseException as error:
        if isinstance(error.__cause__, KorbertError):
            raise error.__cause__ from None
        raise ConfigError(f"{error.full_key}: {error.msg}" if error.full_key else str(error)) from error
    except Exception as error:
        if isinstance(error.__cause__, KorbertError):
            raise error.__cause__ from None
        raise

"""From YAML files and overrides to typed configurations, and from an error to its message."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra import compose
from hydra.core.hydra_config import HydraConfig
from omegaconf import MISSING, DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from korbert.config.identity import outdone_lengths
from korbert.config.mistakes import EXPLAINED, explained, no_such_key
from korbert.config.overrides import as_typed, for_the_shell
from korbert.config.places import refuse_place_of_init
from korbert.config.sweeping import forget_failure, in_sweep, note_failure
from korbert.errors import ConfigError, DataError, KorbertError, WriteError
from korbert.files import raise_unwritable
from korbert.redaction import redacted
from korbert.study.results import main_score
from korbert.training.interrupt import Interrupted


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
            _let_named_length_win(config, as_typed(HydraConfig.get().overrides.task))
        score = main_score(_told(task, typed(config)))
        if noted:
            forget_failure(Path(config.run_dir))
        return score
    except Interrupted as error:  # ends the sweep, too
        print(f"error: {redacted(str(error))}; {_again(config)} goes on", file=sys.stderr)
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
        print(f"interrupted; {_again(config)} begins this part anew", file=sys.stderr)
        sys.exit(130)
    return None


def _again(config: DictConfig) -> str:
    """How the command is given once more: where its folder is named after the time, another one would begin anew."""
    if "run_dir" not in config:
        return "the same command"
    folder = _relative(HydraConfig.get().sweep.dir) if in_sweep() else config.run_dir
    return f"the same command with {for_the_shell('run_dir', folder)}"


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
    if in_sweep() and "tracker" in config and config.tracker.group is None:
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
        problem = explained(error) if isinstance(error, EXPLAINED) else error or type(error).__name__
        raise ConfigError(f"{name}: {problem}; overrides: {' '.join(overrides)}") from error
    return typed(config)


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
        problem = str(error.msg).splitlines()[0]
        raise ConfigError(f"{error.full_key}: {problem}" if error.full_key else str(error)) from error
    except Exception as error:
        if isinstance(error.__cause__, KorbertError):
            raise error.__cause__ from None
        raise

"""What a sweep is beyond its jobs: a job that fails leaves a note, and the sweep's end says which ones did."""

from __future__ import annotations

import re
import shlex
import sys
import tempfile
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from korbert.config.identity import is_free
from korbert.config.mistakes import Guard
from korbert.config.overrides import as_typed, for_the_shell
from korbert.config.parts import check_given
from korbert.config.places import refuse_place_of_init
from korbert.errors import ConfigError, DataError
from korbert.files import FAILURE, RECORD, read_json, write_json_atomically
from korbert.parallel import own_place
from korbert.redaction import redacted

_OFFLINE = "offline-run-*"  # what wandb kept of a run, in its folder's wandb/
_ROOM = 1 << 16  # bytes; Hydra writes less
_current = ""  # the sweep that this process does jobs of
# The presets in conf/hydra have the names of what they are presets of, whose schemas they are checked by. That Hydra
# 1.2 would end this, as it says, is not so.
warnings.filterwarnings("ignore", message=r"\s*'hydra/(launcher|sweeper)/\w+' is validated against ConfigStore schema")


def in_sweep() -> bool:
    """Whether this is a job of `-m`."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def note_failure(folder: Path, error: str) -> None:
    """Leave word in the job's folder: with some launchers the sweep itself is another process, or machine.

    Two sweeps at once may both have the job; the word is for both.
    """
    sweeps = [*dict.fromkeys([*_note(folder).get("sweeps", ()), _current])]
    write_json_atomically(folder / FAILURE, {"time": time.time(), "error": redacted(error), "sweeps": sweeps})


def forget_failure(folder: Path) -> None:
    """Take the word back that an earlier start of the job has left; of torchrun's processes the first one does."""
    if own_place()[0] == 0:
        (folder / FAILURE).unlink(missing_ok=True)


class SweepEnd(Guard):
    """Names the jobs that failed, which makes the exit status 1, and says how to upload what wandb kept offline.

    Hydra's own way is to run all jobs and then to show the first error alone. Launchers that start other processes give
    them a copy of this object, by which they know what sweep they belong to.
    """

    def __init__(self) -> None:
        self._sweep = self._folder = ""
        self._command: list[str] = []

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Refuse what would be no sweep, and let the jobs' folders be named after what varies.

        Hydra has a setting for such names. What the experiment varies and the command does not is in them, too:
        `arm=none` of a study is a part of it.
        """
        global _current
        given = as_typed(config.hydra.overrides.task)
        params = swept_params(config)
        _refuse_varied([*(f"{key}={value}" for key, value in params.items()), *given], config)
        self._folder = _folder(config, "sweep")
        _check_place(self._folder)
        _check_writable(Path(self._folder))
        self._sweep = _current = uuid.uuid4().hex
        self._command = list(sys.argv)
        keys = [override.key_or_group for override in _parsed(given) if not override.is_sweep_override()]
        fixed = ",".join(f"'{key}'" for key in keys if key not in params)
        with read_write(config):
            config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys=[{fixed}]")

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Stop before Hydra writes its own files where that cannot be, or must not; or what is a sweep is run once."""
        params = swept_params(config)
        keys = {override.key_or_group for override in _parsed(as_typed(config.hydra.overrides.task))}
        if missing := [key for key in params if key not in keys]:
            raise ConfigError(
                f"without -m this is one run, but the experiment is a sweep over {', '.join(params)}: give -m for the "
                f"sweep, or for one run {' '.join(f'{key}=…' for key in missing)}"
            )
        folder = _folder(config, "run")
        _check_place(folder, config.get("init"))
        _check_writable(Path(folder))

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Know the sweep in a process that a launcher has started, too."""
        global _current
        if not self._sweep:
            return
        if str(config.hydra.sweep.dir) != self._folder:
            raise ConfigError(
                f"run_dir={config.hydra.sweep.dir}: wanted the same for all jobs of a sweep, here {self._folder}; each "
                "job has a folder of its own in it"
            )
        _current = self._sweep
        sys.argv[:] = self._command  # a launcher's process has its own, and a record shall say how to make the run

    def on_job_end(self, config: DictConfig, job_return: Any, **_: Any) -> None:
        """Stop before the next job, whose folder Hydra would have to make."""
        if in_sweep():
            _check_writable(Path(str(config.hydra.sweep.dir)))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print what there is to say."""
        folder = Path(self._folder)
        # A pipeline's pretrainings lie elsewhere, where its sweeps share them.
        shared = [Path(config.pretrained)] if config.get("pretrained") else []
        places = [folder, *(place for place in shared if not place.is_relative_to(folder))]
        if offline := [place for place in places if next(place.glob(f"**/wandb/{_OFFLINE}"), None) is not None]:
            found = f"find {shlex.join(map(str, offline))} -name '{_OFFLINE}' -prune"
            # In order: of a run of several sessions the last one has everything, and replaces what was before.
            print(f"upload with: {found} -print0 | sort -z | xargs -0 wandb sync", file=sys.stderr)
        if next(folder.glob(f"*/**/{RECORD}"), None) is not None:
            print(
                f"tables of its jobs: python experiments/report.py {for_the_shell('runs', [str(folder)])}",
                file=sys.stderr,
            )
        notes = {path.parent: _note(path.parent) for path in sorted(folder.glob(f"*/{FAILURE}"))}
        failures = {job: note["error"] for job, note in notes.items() if self._sweep in note.get("sweeps", ())}
        if failures:
            print(f"error: {len(failures)} jobs of this sweep failed:", file=sys.stderr)
            for job, error in failures.items():
                print(f"  {job}: {error}", file=sys.stderr)
            again = for_the_shell("run_dir", str(folder))
            print(f"the same command with {again} tries them again, and leaves alone what is finished", file=sys.stderr)
            sys.exit(1)


def swept_params(config: DictConfig) -> dict[str, Any]:
    """What the experiment varies."""
    params = OmegaConf.to_container(config.hydra.sweeper, resolve=False)
    assert isinstance(params, dict)
    return {str(key): value for key, value in (params.get("params") or {}).items()}


def _parsed(overrides: list[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(overrides)


def _note(job: Path) -> dict[str, Any]:
    """What the job has left when it failed; {} where it did not, or where that cannot be read."""
    try:
        return read_json(job / FAILURE)
    except DataError:
        return {}


def _refuse_varied(overrides: list[str], config: DictConfig) -> None:
    """Raise ConfigError where jobs would differ in nothing that decides results, and so would be one and the same run.

    Or where each would have the folder of a sweep of its own.
    """
    varied = [key for key, override in _last(overrides).items() if override.is_sweep_override()]
    own = "a sweep has one folder, and each of its jobs one of its own in it"
    if "run_dir" in varied:
        raise ConfigError(f"run_dir: wanted one name: {own}")
    if free := [key for key in varied if is_free(key)]:
        raise ConfigError(
            f"{', '.join(free)}: wanted one value: it does not count among what decides results, so that jobs which "
            "differ in it alone would be the same run; for several, give a command for each, with a run_dir of its own"
        )
    place = str(config._get_node("run_dir")._value()) if "run_dir" in config else ""  # type: ignore[union-attr]
    for name in re.findall(r"\$\{([\w.]+)\}", place):
        if any(key == name or key.startswith(f"{name}.") or name.startswith(f"{key}.") for key in varied):
            raise ConfigError(f"run_dir={place}: wanted the same for all jobs, but {name} varies: {own}")


def _last(overrides: list[str]) -> Mapping[str, Override]:
    """Key → the last override of it, which counts."""
    return {override.key_or_group: override for override in _parsed(overrides)}


def _folder(config: DictConfig, kind: str) -> str:
    """The folder of the run, or the sweep. Raises ConfigError where it has in its name what nothing says yet."""
    try:
        try:
            return str(config.hydra[kind].dir)
        except OmegaConfBaseException:
            if kind != "run":
                raise
            with _as_hydra_s(config):
                return str(config.hydra[kind].dir)
    except OmegaConfBaseException as error:
        wanted = f"wanted a name ({str(error).splitlines()[0]})"
        if kind == "sweep":
            wanted = "wanted one name for the sweep, without what only its jobs know"
        raise ConfigError(f"run_dir: {wanted}") from error


@contextmanager
def _as_hydra_s(config: DictConfig) -> Iterator[None]:
    """Let `${hydra:…}` be resolved before Hydra itself lets it, which is as the run begins."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before
        OmegaConf.set_readonly(config.hydra, None)


def _check_place(folder: str, init: str | None = None) -> None:
    """Raise ConfigError for a folder in which no run must be made."""
    check_given("run_dir", folder, "a folder")
    refuse_place_of_init(folder, init)


def _check_writable(folder: Path) -> None:
    """Raise ConfigError where `folder` cannot be made or has no room for what Hydra writes into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_ROOM))
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror})") from error

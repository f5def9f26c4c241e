"""What a sweep is beyond its jobs: a job that fails leaves a note, and the sweep's end says which ones did."""

from __future__ import annotations

import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any, NoReturn

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, read_write

from korbert.config.parts import check_given
from korbert.config.places import refuse_place_of_init
from korbert.errors import ConfigError
from korbert.files import RECORD, read_json, write_json_atomically
from korbert.redaction import redacted

_NOTE = "failure.json"
_ROOM = 1 << 16  # bytes; Hydra writes less
# The presets in conf/hydra have the names of what they are presets of, whose schemas they are checked by. That Hydra
# 1.2 would end this, as it says, is not so.
warnings.filterwarnings("ignore", message=r"\s*'hydra/(launcher|sweeper)/\w+' is validated against ConfigStore schema")


def in_sweep() -> bool:
    """Whether this is a job of `-m`."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def note_failure(folder: Path, error: str) -> None:
    """Leave word in the job's folder: with some launchers the sweep itself is another process, or machine."""
    write_json_atomically(folder / _NOTE, {"time": time.time(), "error": redacted(error)})


def forget_failure(folder: Path) -> None:
    """Take the word back that an earlier start of the job has left."""
    (folder / _NOTE).unlink(missing_ok=True)


class SweepEnd(Callback):
    """Names the jobs that failed, which makes the exit status 1, and says how to upload what wandb kept offline.

    Hydra's own way is to run all jobs and then to show the first error alone.
    """

    def __init__(self) -> None:
        self._earlier: dict[Path, Any] = {}

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Remember what is noted already, and let the jobs' folders be named after what varies.

        Hydra has a setting for such names. What the experiment varies and the command does not is in them, too:
        `arm=none` of a study is a part of it.
        """
        folder = str(config.hydra.sweep.dir)
        _check_place(folder)
        _check_writable(Path(folder))
        self._earlier = _notes(Path(folder))
        parsed = OverridesParser.create().parse_overrides(list(config.hydra.overrides.task))
        varied = config.hydra.sweeper.get("params") or {}
        keys = [override.key_or_group for override in parsed if not override.is_sweep_override()]
        fixed = ",".join(f"'{key}'" for key in keys if key not in varied)
        with read_write(config):
            config.hydra.overrides.hydra.append(f"hydra.job.config.override_dirname.exclude_keys=[{fixed}]")

    def on_run_start(self, config: DictConfig, **_: Any) -> None:
        """Stop before Hydra writes its own files where that cannot be, or must not."""
        folder = str(config.hydra.run.dir)
        _check_place(folder, config.get("init"))
        _check_writable(Path(folder))

    def on_job_end(self, config: DictConfig, job_return: Any, **_: Any) -> None:
        """Stop before the next job, whose folder Hydra would have to make."""
        if in_sweep():
            _check_writable(Path(str(config.hydra.sweep.dir)))

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """Print what there is to say."""
        folder = Path(str(config.hydra.sweep.dir))
        if next(folder.glob("**/wandb/offline-run-*"), None) is not None:
            print(f"upload with: wandb sync $(find {folder} -name 'offline-run-*' -prune)", file=sys.stderr)
        if next(folder.glob(f"*/**/{RECORD}"), None) is not None:
            print(f"tables of its jobs: python experiments/report.py runs='[{folder}]'", file=sys.stderr)
        # Not by the time in a note: the clock of the machine that wrote it may be another one.
        failures = {job: note["error"] for job, note in _notes(folder).items() if note != self._earlier.get(job)}
        if failures:
            print(f"error: {len(failures)} jobs of this sweep failed:", file=sys.stderr)
            for job, error in failures.items():
                print(f"  {job}: {error}", file=sys.stderr)
            print("the same command tries them again, and leaves alone what is finished", file=sys.stderr)
            sys.exit(1)


def _notes(sweep: Path) -> dict[Path, Any]:
    """What the failed jobs of a sweep have left, by the job's folder."""
    return {path.parent: read_json(path) for path in sorted(sweep.glob(f"*/{_NOTE}"))}


def _check_place(folder: str, init: str | None = None) -> None:
    """End with a message for a folder in which no run must be made."""
    try:
        check_given("run_dir", folder, "a folder")
        refuse_place_of_init(folder, init)
    except ConfigError as error:
        _end(str(error))


def _check_writable(folder: Path) -> None:
    """End with a message where `folder` cannot be made or has no room for what Hydra writes into it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(_ROOM))
    except OSError as error:
        _end(f"{folder}: cannot be written ({error.strerror})")


def _end(message: str) -> NoReturn:
    """Stop Hydra, which makes warnings of a callback's errors."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(1)

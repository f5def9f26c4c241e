"""Where a run must not be made."""

from __future__ import annotations

from pathlib import Path

from korbert.errors import ConfigError
from korbert.files import HUGGING_FACE


def refuse_place_of_init(run_dir: str, init: str | None) -> None:
    """Raise ConfigError where a run in `run_dir` would write over the model that it begins with.

    init: a run, a model folder, or "hf:" and a folder; a name of the hub lies nowhere.
    """
    source = Path((init or "").removeprefix(HUGGING_FACE))
    if not init or not source.exists():
        return
    # A run's model lies in model/; a model folder may lie there without the run that it was made in.
    read, written = ({path.resolve() for path in (folder, folder / "model")} for folder in (source, Path(run_dir)))
    if read & written:
        raise ConfigError(
            f"run_dir={run_dir}: the model of init={init} lies there, and would be overwritten; choose another folder"
        )

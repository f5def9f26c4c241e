"""Finished runs with the settings that they came from, those of the runs that they began with included."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from korbert.errors import DataError
from korbert.files import HUGGING_FACE, read_json
from korbert.study.collection import Found, read_metrics, read_record, whole_of
from korbert.study.page import curve
from korbert.study.protocols import of_file, recorded_protocol, scored_file

# Settings that do not tell two runs apart: what is repeated, where things lie, how they are computed and shown.
_FREE = (
    "run_dir", "seed", "pretraining_seed", "pretrained", "until", "runtime", "tracker", "data", "task.fold", "fold",
    "train.log_every", "train.checkpoint_every",
)  # fmt: skip
# Of those, what the runs of one row of a table are repeats in.
REPEATED = ("seed", "pretraining_seed", "task.fold", "fold")
_LINKS = ("init", "run")  # settings that name an earlier run


@dataclass(frozen=True)
class Run:
    """A finished run.

    settings: dotted keys of its configuration and of the runs it came from, without what `seed` and `fold` say.
    origin: what tells the earlier run that its weights are from, or its name; its seed is pretraining_seed. protocol:
    without the fold, with what tells its file of questions from another one of the same name. test_file: the checksum
    of that file. warnings: what is not known of the runs it came from.
    """

    found: Found
    task: str
    settings: Mapping[str, Any]
    seed: int | None
    pretraining_seed: int | None
    origin: str | None
    fold: int | None
    protocol: str
    test_file: str | None = None
    warnings: Sequence[str] = field(default=())

    @property
    def name(self) -> str:
        """Its folder below the one that was searched, or its name on a page."""
        return self.found.name

    @property
    def results(self) -> Mapping[str, Any]:
        """What came out."""
        return self.found.record["results"]

    @property
    def config(self) -> Mapping[str, Any]:
        """The whole configuration."""
        return self.found.record.get("config", {})

    def score(self, key: str) -> float | None:
        """A number of the results; None where it was not measured, or is none.

        Raises DataError where something else stands in its place.
        """
        value = self.results.get(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(self.found.path, f"{self.found.where}results.{key}", f"wanted a number, found {value!r}")
        return float(value) if math.isfinite(value) else None

    def row(self) -> dict[str, Any]:
        """Settings and results, for conditions, see `korbert.study.query`; lists as JSON."""
        results = {f"results.{key}": value for key, value in self.results.items()}
        row = {**self.settings, **results, "task": self.task, "seed": self.seed, "fold": self.fold}
        return {k: json.dumps(v, ensure_ascii=False) if isinstance(v, list) else v for k, v in row.items()}

    def curve(self) -> list[dict[str, Any]]:
        """Points of its training, see `korbert.study.page.curve`. Raises DataError for a damaged metrics.jsonl."""
        if self.found.folder is None:
            return list(self.found.record.get("curve", []))
        return curve(read_metrics(self.found.folder))

    def tokenizer(self) -> str | None:
        """The fingerprint of its model's tokenizer, where its record says it or its folder has a model."""
        said = self.found.record.get("tokenizer")
        if isinstance(said, dict) and "fingerprint" in said:
            return str(said["fingerprint"])
        path = None if self.found.folder is None else self.found.folder / "model" / "model.json"
        return str(read_json(path)["tokenizer"]) if path is not None and path.exists() else None


def describe_runs(found: Sequence[Found], defaults: Mapping[str, Mapping[str, Any]]) -> list[Run]:
    """Runs with their settings. defaults: by task, for settings that are younger than a record.

    What a run was begun with is followed to that run's record, among `found` or, unless a page tells of the run, to
    where it lies; that run is among those returned, then. Where it is not at hand, a pipeline's own record tells of it.
    """
    known = _Known(found)
    runs = [_describe(one, known, defaults) for one in found]
    while len(runs) < len(known.found):
        runs.append(_describe(known.found[len(runs)], known, defaults))
    return _by_test_file(runs)


def _by_test_file(runs: Sequence[Run]) -> list[Run]:
    """Runs whose protocols are apart where their files of questions are, of one name or not.

    Runs that do not say which file it was stay with the others as long as these have but one.
    """
    files: dict[str, set[str]] = {run.protocol: set() for run in runs}
    for run in runs:
        files[run.protocol] |= set() if run.test_file is None else {run.test_file}
    return [
        replace(run, protocol=of_file(run.protocol, run.test_file)) if len(files[run.protocol]) > 1 else run
        for run in runs
    ]


class _Known:
    """Finds the record of a run by what later runs call it."""

    def __init__(self, found: Sequence[Found]) -> None:
        self.found = list(found)
        self._by_place: dict[str, list[Found]] = {}
        for one in found:
            self._add(one)

    def _add(self, found: Found) -> None:
        for place in dict.fromkeys(_places(found)):
            self._by_place.setdefault(place, []).append(found)

    def find(self, named: str, weights: Set[str], here: bool) -> tuple[Found | None, str]:
        """The record of the run of that name, None where none is known, nor lies there; and what is doubtful of it.

        weights: SHA-256 of those that the later run took, where it says so; by them the run is told from others of its
        name, of other machines, say. here: whether the later run lies on this machine; what a page calls by that name
        lay on the machine of its runs, and what lies there now may be another run.
        """

        def fits(found: Found) -> bool:
            return not weights or found.record.get("weights") in {None, *weights}

        places = (os.path.normpath(named), str(Path(named).resolve()))
        known = [found for place in dict.fromkeys(places) for found in self._by_place.get(place, [])]
        fitting = list({id(found): found for found in known if fits(found)}.values())
        if here and not fitting and (read := _read(Path(named))) is not None and fits(read):
            self.found.append(read)
            self._add(read)
            fitting = [read]
        sure = [found for found in fitting if found.record.get("weights") in weights]
        if known and not fitting:
            return None, "has other weights here"
        if sure or len(fitting) < 2:
            return next(iter(sure or fitting), None), ""
        return fitting[0], f"is the name of {len(fitting)} runs here, of which {fitting[0].name} is taken"


def _read(named: Path) -> Found | None:
    """The run that lies at a name, or, where that is of its model, around it."""
    return read_record(named, str(named)) or (read_record(named.parent, str(named)) if named.name == "model" else None)


def _places(found: Found) -> Iterator[str]:
    """Names under which later runs may refer to a run."""
    folders = []
    if run_dir := found.record.get("config", {}).get("run_dir"):
        folders.append(os.path.normpath(str(run_dir)))
    if found.folder is not None:
        folders += [os.path.normpath(found.folder), str(found.folder.resolve())]
    for folder in folders:
        yield folder
        yield os.path.join(folder, "model")  # noqa: PTH118 - a name, which need not be here


def _describe(found: Found, known: _Known, defaults: Mapping[str, Mapping[str, Any]]) -> Run:
    settings = _settings(found, defaults)
    warnings: list[str] = []
    seeds = {found.record["task"]: found.record.get("seed")}
    origin = None
    passed, last = [found.record], found
    while (link := next((key for key in _LINKS if isinstance(settings.get(key), str)), None)) is not None:
        named = str(settings[link])
        if not any(record["task"] == "pretrain" for record in passed[1:]):
            origin = _plain_name(named)  # also where nothing is known of it but its name
        if named.startswith(HUGGING_FACE):
            break
        earlier, doubt = known.find(named, _weights_taken(passed[-1]), here=found.folder is not None)
        if earlier is None or earlier.record in passed:
            problem = doubt or "has no record here"
            if link == "init" and (whole := whole_of(last)) is not None and whole.record["task"] == "pipeline":
                del settings[link]
                seeds.setdefault("pretrain", _pretraining_seed(whole.record))
                told = {k: v for k, v in _settings(whole, defaults).items() if k != "finetuning"}
                _add_settings(settings, told, "pretrain")
                warnings.append(f"{link} {problem}; its seed and settings are as the job's own record tells them")
                break
            warnings.append(f"{link}={named} {problem}; its seed and settings are not known")
            break
        if doubt:
            warnings.append(f"{link}={named} {doubt}")
        del settings[link]
        passed.append(earlier.record)
        last = earlier
        task = earlier.record["task"]
        seeds.setdefault(task, earlier.record.get("seed"))
        origin = _identity(earlier, named) if task == "pretrain" else origin
        _add_settings(settings, _settings(earlier, defaults), task)
    if found.record["task"] == "pipeline":  # without its stages
        seeds["pretrain"] = _pretraining_seed(found.record)
        made = found.record["results"].get("pretraining")
        origin = _plain_name(str(made["run"])) if isinstance(made, dict) and "run" in made else None
    protocol, fold = recorded_protocol(found.record)
    task = "finetune_korquad" if "finetune_korquad" in seeds else found.record["task"]  # predicting draws nothing
    return Run(
        found=found,
        task=found.record["task"],
        settings=settings,
        seed=seeds[task],
        pretraining_seed=seeds.get("pretrain") if found.record["task"] != "pretrain" else None,
        origin=origin,
        fold=fold,
        protocol=protocol or _pretraining_protocol(settings, found.record["task"]),
        test_file=scored_file(found.record),
        warnings=warnings,
    )


def _add_settings(settings: dict[str, Any], earlier: Mapping[str, Any], task: str) -> None:
    """Add those of an earlier run; where they have the same key, it is that of `task`."""
    for key, value in earlier.items():
        while key in settings:
            key = f"{task}.{key}"
        settings[key] = value


def _pretraining_seed(record: Mapping[str, Any]) -> int | None:
    """The seed of a pipeline's pretraining."""
    seed = record.get("config", {}).get("pretraining_seed")
    return record.get("seed") if seed is None else seed


def _plain_name(named: str) -> str:
    """A run's name, however it is written: with `/model` or a stroke at the end, say."""
    if named.startswith(HUGGING_FACE):
        return named
    path = Path(os.path.normpath(named))
    return str(path.parent if path.name == "model" else path)


def _identity(found: Found, named: str) -> str:
    """What tells a pretraining from another one: its weights, where its record has them."""
    return str(found.record.get("weights") or found.folder or _plain_name(named))


def _weights_taken(record: Mapping[str, Any]) -> set[str]:
    """SHA-256 of all weights that a run was made from, as far as its record says it."""
    inputs = record.get("inputs")
    named = inputs.items() if isinstance(inputs, dict) else ()
    return {str(checksum) for path, checksum in named if Path(path).name == "model.safetensors"}


def _pretraining_protocol(settings: Mapping[str, Any], task: str) -> str:
    """What a pretraining's held-out loss was measured on: that of other documents is no comparison."""
    if task != "pretrain":
        return ""
    files = settings.get("corpus.shards") or settings.get("corpus.files") or "?"
    named = ", ".join(map(str, files)) if isinstance(files, list) else str(files)
    count = settings.get("task.validation_examples")
    share = float(settings.get("corpus.holdout") or 0)
    documents = settings.get("corpus.max_documents")
    return (
        f"held-out {share:.1%} of {named}" + (f" (first {documents:,} documents)" if documents else "")
        + f", {count or '?'} sequences of {settings.get('task.validation_length') or '?'} tokens"
    )  # fmt: skip


def _settings(found: Found, defaults: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    task = found.record["task"]
    config = _fill(found.record.get("config", {}), defaults.get(task, {}))
    settings = {key: value for key, value in _flat("", config) if not _is_free(key)}
    for key in ("pretraining", "finetuning"):  # a pipeline's overrides
        if isinstance(settings.get(key), list):
            settings[key] = [one for one in settings[key] if not _is_free(str(one).lstrip("+").partition("=")[0])]
    return settings


def _is_free(key: str) -> bool:
    """Whether the setting, or what it belongs to, changes no result."""
    return any(f"{key}.".startswith(f"{free}.") for free in _FREE)


def _fill(config: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """`config` with the default values of the keys it lacks; "???" is none."""
    filled = {key: value for key, value in defaults.items() if key not in config and value != "???"}
    for key, value in config.items():
        default = defaults.get(key)
        filled[key] = _fill(value, default if isinstance(default, dict) else {}) if isinstance(value, dict) else value
    return filled


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(f"{prefix}{key}.", value)
        else:
            yield f"{prefix}{key}", value

"""What of a configuration decides results, and the folder that a job of a sweep gets from it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from korbert.config.overrides import as_typed, key_of
from korbert.files import digest, plain_paths
from korbert.training.settings import LENGTHS

# May differ when a run goes on: where things lie, how they are computed and shown, not what is computed.
FREE = ("run_dir", "runtime", "tracker", "data", "pretrained", "until")
_FREE_TRAIN = ("log_every", "checkpoint_every")
_LISTS = ("pretraining", "finetuning")  # overrides for the stages of a pipeline
_STAGE = "/finetune"  # of a job of pipeline.py: the job says more
_LONGEST_WORD, _LONGEST_NAME = 24, 70  # of a job's folder, in characters


def decisive(values: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration, as JSON-able values, that decides results."""
    kept = _without_free(values)
    for key in _LISTS:
        if isinstance(kept.get(key), list):
            kept[key] = [override for override in kept[key] if not is_free(key_of(str(override)))]
    return kept


def _without_free(values: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in values.items() if key not in FREE}
    if "train" in kept:
        kept["train"] = {key: value for key, value in kept["train"].items() if key not in _FREE_TRAIN}
    return kept


def is_free(key: str) -> bool:
    """Whether a setting, or a group of them, decides no result."""
    part, _, rest = key.partition(".")
    return part in FREE or (part == "train" and rest in _FREE_TRAIN)


def outdone_lengths(train: Mapping[str, Any], overrides: Iterable[str]) -> list[str]:
    """Lengths of `train` that do not count: `train.budget=20m` on the command line is enough."""
    keys = {key_of(override) for override in overrides}
    named = [key for key in LENGTHS if f"train.{key}" in keys and train.get(key) is not None]
    return [key for key in LENGTHS if named and f"train.{key}" not in keys]


def job_folder(*, _root_: DictConfig) -> str:
    """The name of a job's folder in its sweep's: what was varied, to be read, and a digest of what decides results.

    The same configuration has the same folder, however it was asked for: one that is there is found by its digest, or
    by that of the very texts, which was the name before paths that mean the same counted as one.
    """
    values = _values(_root_)
    identity = digest(plain_paths(decisive(values)))
    for known in (identity, digest(_without_free(values))):
        for folder in sorted(Path(str(_root_.hydra.sweep.dir)).glob(f"*-{known}")):
            return folder.name
    job = _root_.hydra.job.config.override_dirname
    return f"{_readable(as_typed(_root_.hydra.overrides.task), job.exclude_keys)}-{identity}"


def _values(config: DictConfig) -> dict[str, Any]:
    values: dict[str, Any] = {
        str(key): "???" if OmegaConf.is_missing(config, key) else _plain(config[key])
        for key in config
        if key not in ("hydra", *FREE)
    }
    if "train" in values:
        values["train"] |= dict.fromkeys(outdone_lengths(values["train"], as_typed(config.hydra.overrides.task)))
    return values


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node


def _readable(overrides: Sequence[str], left_out: Sequence[str]) -> str:
    """Overrides as words, but for those `left_out`: `tokenizer=syllable seed=1` is syllable-seed1."""
    words = []
    for override in overrides:
        key, _, value = override.lstrip("+~").partition("=")
        if key not in left_out and key.partition(".")[0] not in FREE:
            number = bool(re.fullmatch(r"[\d.e+-]+|true|false|null", value, re.IGNORECASE))
            value = value.rstrip("/").removesuffix(_STAGE).rpartition("/")[2]
            word = f"{key.rpartition('.')[2]}{value}" if number else value
            words.append(re.sub(r"[^\w.]+", "-", word)[:_LONGEST_WORD].strip("-."))
    return "-".join(word for word in words if word)[:_LONGEST_NAME].strip("-.") or "run"


def shards_folder(base: str, *, _root_: DictConfig) -> str | None:
    """Where the shards lie that a tokenizer and an annotator make of a corpus, whichever door asks.

    All modes that cut tokens at entities read the same ones, "cut"; mode none those of the "whole" tokens. None for a
    door that has none of the two.
    """
    if "entities" not in _root_ or "tokenizer" not in _root_:
        return None
    entities = _root_.entities
    kind = "whole" if entities.mode == "none" else "cut"
    corpus = {key: _plain(_root_.corpus[key]) for key in ("files", "max_documents")}
    return f"{base}-{kind}-{digest([_plain(_root_.tokenizer), entities.annotator, kind, corpus])}"


OmegaConf.register_new_resolver("korbert.job_folder", job_folder, replace=True)
OmegaConf.register_new_resolver("korbert.shards_folder", shards_folder, replace=True)

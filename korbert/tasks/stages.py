"""Runs inside another run: their configurations, and the folders that several of them share."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from korbert.config import PretrainConfig, compose_config, expand_root, is_free, key_of
from korbert.data.shardfiles import MANIFEST
from korbert.data.wikidump import reading_rules
from korbert.entities import make_annotator
from korbert.errors import ConfigError, DataError
from korbert.files import checksum, digest
from korbert.tasks.inputs import input_files
from korbert.tasks.prepare import corpus_files, corpus_identity
from korbert.tasks.runs import fixed_pretraining
from korbert.text import NORMALISATION
from korbert.tokenizers import Tokenizer

_GROUPS = {"arm": "entities"}  # what is set by a group of another name
# What an experiment has where it stands alone is left out: conf/experiment/alone.
_INSIDE = {"pretrain": ["experiment/alone=none"]}


def stage(name: str, overrides: Sequence[str], **parts: Any) -> Any:
    """The configuration of the door `name` with overrides, and with parts that the run outside decides.

    Raises ConfigError for an override of such a part, by its own name or by an experiment that makes something else of
    it. What decides no results, such as the runtime, may be another in an experiment: it is the same for all stages.
    """
    inside = _INSIDE.get(name, [])
    outside = {*parts, *map(key_of, inside)}
    for override in overrides:
        key = key_of(override).partition(".")[0]
        key = _GROUPS.get(key, key)
        if key in outside:
            raise ConfigError(f"{override}, for {name}: {key} is decided outside of it")
    made = compose_config(name, [*overrides, *inside])
    if groups := [override for override in overrides if "." not in key_of(override)]:
        plain = compose_config(name, inside)
        for key, part in parts.items():
            if is_free(key):
                continue
            if in_vain := _changed(key, getattr(plain, key), getattr(made, key), part):
                raise ConfigError(
                    f"{' '.join(groups)}, for {name}: {'; '.join(in_vain)}: {key} is decided outside of it"
                )
    for key, part in parts.items():
        setattr(made, key, copy.deepcopy(part))
    return made


def _changed(key: str, plain: Any, made: Any, part: Any) -> list[str]:
    """Settings that are not as they would be by themselves, nor as they are in the part."""
    if is_dataclass(made):
        return [
            change
            for field in fields(made)
            for change in _changed(f"{key}.{field.name}", *(getattr(one, field.name) for one in (plain, made, part)))
        ]
    return [] if made in (plain, part) else [f"{key}={made}"]


def shared_folder(config: PretrainConfig, tokenizer: Tokenizer, root: Path) -> Path:
    """The folder below `root` of a pretraining: one for everything that decides what comes of it.

    That is the configuration, and the contents of what it names: tokenizer, text, annotator.
    """
    fixed = fixed_pretraining(config, tokenizer=tokenizer.identity, normalisation=str(NORMALISATION))
    if config.init is not None:
        fixed["init"] = list(input_files({"init": config.init}, config.data).values()) or config.init
    if config.corpus.shards is not None:
        manifest = Path(config.corpus.shards) / MANIFEST  # it has the checksum of every file
        if not manifest.is_file():
            raise DataError(manifest, "corpus.shards", "not found; experiments/build_corpus.py makes it")
        fixed["corpus"]["shards"] = checksum(manifest)
    else:
        files = corpus_files(config.corpus, config.data)
        fixed["corpus"]["files"] = corpus_identity(files, Path(config.data.cache))
        fixed["corpus"] |= reading_rules(files)
    annotator = make_annotator(expand_root(config.entities.annotator, config.data), cache=config.data.cache)
    fixed["entities"]["annotator"] = annotator.fingerprint
    return root / f"{tokenizer.kind}-{config.entities.mode}-seed{config.seed}-{digest(fixed)}"

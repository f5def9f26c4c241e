"""A model folder: weights, sizes, tokenizer and entity input together, so that none can be mixed up with another's."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from korbert.data.decoding import DecodingConfig
from korbert.data.tagging import TagsConfig
from korbert.data.windows import WindowConfig
from korbert.encoding import EntityInput, EntityMode
from korbert.entities import EntityAnnotator
from korbert.errors import ConfigError, DataError
from korbert.files import CONFIG, RECORD, SESSIONS, check_seal, read_json, write_sealed_json
from korbert.model import EncoderModel, ModelConfig, PretrainingModel, ReplacedTokenModel, SpanModel, TaggerModel
from korbert.tokenizers import Tokenizer, load_tokenizer
from korbert.training.settings import CHECKPOINT
from korbert.training.state import check_same_run, load_tensors, load_weights

log = logging.getLogger(__name__)
FORMAT = 1
_KINDS = ("encoder", "pretraining", "span", "tagger")
Model = EncoderModel | PretrainingModel | ReplacedTokenModel | SpanModel | TaggerModel


@dataclass(frozen=True, slots=True)
class Description:
    """Everything about a model but its weights.

    `objectives` only for a pretraining model, `window` and `decoding` only for a span model, `tags` and `tagging` only
    for a tagger. `annotator_fingerprint` is of the one that marked what the model learned from, None where nothing was
    marked, and in models of before it was noted.
    """

    kind: str
    model: ModelConfig
    annotator: str
    entities: EntityInput
    max_length: int
    objectives: tuple[str, ...] = ()
    window: WindowConfig | None = None
    decoding: DecodingConfig | None = None
    tags: tuple[str, ...] = ()
    tagging: TagsConfig | None = None
    annotator_fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Bundle:
    """A model folder, loaded."""

    folder: Path
    description: Description
    tokenizer: Tokenizer
    model: Model


def begin_model(run: Path, description: Description, tokenizer_folder: Path, fixed_config: Mapping[str, Any]) -> None:
    """Write the description of a run's model, unless a training with another configuration was begun in its folder.

    fixed_config: see `Trainer`. Raises ConfigError then, and changes nothing.
    """
    check_same_run(run / CHECKPOINT, fixed_config)
    write_description(run / "model", description, tokenizer_folder)


def write_description(folder: Path, description: Description, tokenizer_folder: Path) -> None:
    """Write `model.json` and a copy of the tokenizer; the trainer puts `model.safetensors` beside them."""
    tokenizer = load_tokenizer(tokenizer_folder)
    if tokenizer_folder.resolve() != (folder / "tokenizer").resolve():
        shutil.rmtree(folder / "tokenizer", ignore_errors=True)
        tokenizer.save(folder / "tokenizer")  # what it is, and nothing else that may lie, or lead somewhere, there
    content = asdict(description)
    content["entities"]["mode"] = description.entities.mode.value
    write_sealed_json(folder / "model.json", {"format": FORMAT, "tokenizer": tokenizer.fingerprint, **content})


def task_of(folder: Path) -> dict[str, Any]:
    """The settings `task` of the run whose folder, or whose model's, this is; {} where it is neither."""
    for run in (folder.resolve(), folder.resolve().parent):
        config = read_json(run / CONFIG) if (run / CONFIG).is_file() and (run / "model").is_dir() else {}
        if "run_dir" in config:
            return dict(config.get("task", {}))
    return {}


def load_bundle(run: Path | str, kind: str | tuple[str, ...] = _KINDS) -> Bundle:
    """Load the model of a run folder (or a model folder itself), if it is of that kind or of one of them.

    A run of several stages has the model of its last one.

    Raises DataError where the run is not finished, something is missing or damaged, where the model was made with
    another tokenizer than the one in the folder, or is of another kind.
    """
    folder = Path(run)
    if (folder / SESSIONS).is_file() and not (folder / RECORD).is_file():
        raise DataError(
            folder, "run", "not finished: give the command of its training again, which goes on where it was; its "
            f"weights as they are now, if there are any, are in {folder / 'model'}",
        )  # fmt: skip
    folder = folder / "model" if (folder / "model" / "model.json").exists() else folder
    path = folder / "model.json"
    if not path.exists() and (folder / RECORD).is_file() and (stages := read_json(folder / RECORD).get("stages")):
        return load_bundle(folder / stages[-1], kind)
    if not path.exists():
        raise DataError(run, "run", _no_model(Path(run)))
    raw = read_json(path)
    if raw.get("format") != FORMAT or raw.get("kind") not in _KINDS:
        found = f"format {raw.get('format')}, kind {raw.get('kind')}"
        raise DataError(path, "format", f"wanted format {FORMAT} of kind {' or '.join(_KINDS)}, found {found}")
    kinds = (kind,) if isinstance(kind, str) else kind
    if raw["kind"] not in kinds:
        raise DataError(path, "kind", f"wanted a {' or '.join(kinds)} model, this is a {raw['kind']} model")
    tokenizer = load_tokenizer(folder / "tokenizer")
    if tokenizer.fingerprint != raw.get("tokenizer"):
        raise DataError(
            path,
            "tokenizer",
            f"the model was made with tokenizer {raw.get('tokenizer')}, but the tokenizer folder beside it is "
            f"{tokenizer.fingerprint}: token ids would mean other tokens",
        )
    check_seal(path, raw)
    description = _description(path, raw)
    weights = folder / "model.safetensors"
    tensors, _ = load_tensors(weights)
    model = make_model(description)
    load_weights(model, tensors, weights)
    model.eval()
    return Bundle(folder, description, tokenizer, model)


def _no_model(folder: Path) -> str:
    """Why a folder has no model to load."""
    wanted = f"wanted the folder of a training run, which has {Path('model') / 'model.json'}, or a model folder itself"
    if not folder.is_dir():
        return f"there is no such folder; {wanted}"
    if (folder / RECORD).is_file():
        record = read_json(folder / RECORD)
        other = record.get("config", {}).get("run")
        told = f"; its model is that of {other}" if other else ""
        return f"is one of {record.get('task')}, which trains no model{told}"
    runs = sorted(path.parent.name for path in folder.glob(f"*/{RECORD}"))
    if runs:
        return f"holds {len(runs)} runs, e.g. {runs[0]}; {wanted}"
    return f"has no model; {wanted}"


def make_model(description: Description) -> Model:
    """The model of a description, with random weights."""
    if description.kind == "span":
        return SpanModel(description.model)
    if description.kind == "encoder":
        return EncoderModel(description.model)
    if description.kind == "tagger":
        return TaggerModel(description.model, len(description.tags))
    if "detection" in description.objectives:
        return ReplacedTokenModel(description.model)
    return PretrainingModel(description.model, description.objectives)


def _description(path: Path, raw: dict[str, Any]) -> Description:
    try:
        return Description(
            kind=raw["kind"],
            model=ModelConfig(**raw["model"]),
            annotator=_text(raw["annotator"]),
            entities=_entity_input(raw),
            max_length=raw["max_length"],
            objectives=tuple(raw.get("objectives", ("mlm", "nsp"))),
            window=WindowConfig(**raw["window"]) if raw.get("window") else None,
            decoding=DecodingConfig(**raw["decoding"]) if raw.get("decoding") else None,
            tags=tuple(raw.get("tags", ())),
            tagging=TagsConfig(**raw["tagging"]) if raw.get("tagging") else None,
            annotator_fingerprint=raw.get("annotator_fingerprint"),
        )
    except (KeyError, TypeError, ValueError, ConfigError) as error:
        raise DataError(path, "content", f"not a model description ({error!r})") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"wanted text, found {value!r}")
    return value


def _entity_input(raw: dict[str, Any]) -> EntityInput:
    # Models of before there was more to choose than a mode have nothing but the mode.
    given = raw.get("entities") or {"mode": raw["mode"]}
    return EntityInput(**{**given, "mode": EntityMode(given["mode"])})


def warn_of_other_annotator(bundle: Bundle, annotator: EntityAnnotator) -> None:
    """Say so where `annotator`, of the name that the model has, marks in another way than the one it learned from.

    Another version of an analyser, or another list of names: what it gets wrong then is not its own fault.
    """
    learned = bundle.description.annotator_fingerprint
    if bundle.description.entities.mode.cuts and learned is not None and learned != annotator.fingerprint:
        log.warning(
            "%s: learned from entities of %s, but the annotator here is %s; it may mark other entities",
            bundle.folder, learned, annotator.fingerprint,
        )  # fmt: skip


def copy_shared(source: nn.Module, target: nn.Module, but: str | None = None) -> None:
    """Give `target` the weights of every part that `source` has under the same name: encoder, and span head if any.

    but: the beginning of names that are left out.
    Types that the source's entity table does not have begin as its last one, which is for entities of any type.
    """
    weights = {name: value for name, value in source.state_dict().items() if but is None or not name.startswith(but)}
    for name, value in target.state_dict().items():
        if name.endswith("embeddings.entity.weight") and name in weights and len(weights[name]) < len(value):
            missing = len(value) - len(weights[name])
            weights[name] = torch.cat([weights[name], weights[name][-1:].expand(missing, -1)])
    target.load_state_dict({name: weights.get(name, value) for name, value in target.state_dict().items()})

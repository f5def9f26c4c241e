"""korbert's models for transformers: a folder that `from_pretrained` loads."""

from __future__ import annotations

import logging
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from korbert.config import ExportConfig
from korbert.encoding import EntityMode
from korbert.errors import ConfigError, KorbertError
from korbert.files import write_json_atomically, write_text_atomically
from korbert.model import EncoderModel, ReplacedTokenModel
from korbert.model.foreign import is_plain, to_bert
from korbert.tokenizers.conversion import as_fast_tokenizer
from korbert.training.bundle import Bundle, copy_shared, load_bundle
from korbert.training.state import save_tensors

_MODELING = Path(__file__).resolve().parents[1] / "export" / "modeling_korbert.py"
# Kind → transformers' BERT class, our class in the modelling file, its auto class.
_CLASSES = {
    "encoder": ("BertModel", "KorbertModel", "AutoModel"),
    "pretraining": ("BertForMaskedLM", "KorbertForMaskedLM", "AutoModelForMaskedLM"),
    "span": ("BertForQuestionAnswering", "KorbertForQuestionAnswering", "AutoModelForQuestionAnswering"),
    "tagger": ("BertForTokenClassification", "KorbertForTokenClassification", "AutoModelForTokenClassification"),
}
_TAGS = {"tags.weight": "classifier.weight", "tags.bias": "classifier.bias"}
log = logging.getLogger(__name__)


def export_model(config: ExportConfig) -> Path:
    """Write the model of a run as a folder for transformers: as BERT where it is one, else with a modelling file.

    Raises ConfigError for a target that is there already, DataError for a run that cannot be loaded.
    """
    target = Path(config.folder)
    if target.exists() and any(target.iterdir()):
        raise ConfigError(f"folder={target}: there is something already; choose another one")
    loaded = load_bundle(config.run)
    bundle = _without_generator(loaded)
    target.mkdir(parents=True, exist_ok=True)
    reads_entities = bundle.description.entities.mode is not EntityMode.NONE
    if is_plain(bundle.model.config) and not reads_entities:
        described, tensors = _as_bert(bundle)
    else:
        described, tensors = _as_korbert(bundle)
        shutil.copy(_MODELING, target / _MODELING.name)
    save_tensors(target / "model.safetensors", tensors, None)
    notes = _write_tokenizer(bundle, target)
    if "auto_map" in described:
        notes.append(
            "It is called as transformers' BERT is, with `entity_ids` beside the other inputs, and its heads give the "
            "same losses for labels; it knows no `inputs_embeds`, `head_mask` or `output_attentions`."
        )
    if bundle is not loaded:
        notes.append(
            "The encoder alone: it has learned to tell replaced tokens from original ones, and the masked-LM head is "
            "that of the generator which replaced them."
        )
        log.warning("%s: %s", config.run, notes[-1])
    if bundle.model.config.letters:
        notes.append("The letter head, which finds edges of answers inside of tokens, is not part of this export.")
    if reads_entities:
        special = bundle.tokenizer.special
        if bundle.description.entities.shared_positions:
            described["marker_ids"] = [special.ent, special.ent_end]
        entities = asdict(bundle.description.entities) | {"mode": bundle.description.entities.mode.value}
        described["korbert_entities"] = {"annotator": bundle.description.annotator, **entities}
        notes.append(
            "Entities are given as `entity_ids` and, where the model was trained with them, as [ENT] and [/ENT]; "
            "korbert.encoding.encode makes both from a text."
        )
    write_json_atomically(target / "config.json", described)
    has_tokenizer = (target / "tokenizer.json").is_file()
    write_text_atomically(target / "README.md", _readme(bundle, described, notes, has_tokenizer))
    log.info("%s: %s; load it with %s", target, described["architectures"][0], _call(bundle, described))
    return target


def _without_generator(bundle: Bundle) -> Bundle:
    """A model that detects replaced tokens as an encoder alone: its masked-LM head fits the generator; others as is."""
    if not isinstance(bundle.model, ReplacedTokenModel):
        return bundle
    encoder = EncoderModel(bundle.model.config).eval()
    copy_shared(bundle.model, encoder)
    return replace(bundle, description=replace(bundle.description, kind="encoder", objectives=()), model=encoder)


def _as_bert(bundle: Bundle) -> tuple[dict[str, Any], dict[str, Any]]:
    weights = bundle.model.state_dict()
    tags = {_TAGS[name]: weights.pop(name) for name in list(weights) if name in _TAGS}
    kind = bundle.description.kind
    # A pretraining that looked for places has a span head that nobody asks there.
    parts = {"encoder", "mlm", "nsp", *(["span"] if kind == "span" else [])}
    described, tensors = to_bert(
        bundle.model.config, {k: v for k, v in weights.items() if k.split(".")[0] in parts},
        bundle.tokenizer.special.pad,
    )  # fmt: skip
    if kind == "pretraining" and "nsp" in bundle.description.objectives:
        described["architectures"] = ["BertForPreTraining"]
    else:
        described["architectures"] = [_CLASSES[kind][0]]
        tensors = {name: value for name, value in tensors.items() if kind == "pretraining" or "cls." not in name}
    return described | _labels(bundle), {**tensors, **tags}


def _as_korbert(bundle: Bundle) -> tuple[dict[str, Any], dict[str, Any]]:
    sizes = bundle.model.config
    _, name, auto = _CLASSES[bundle.description.kind]
    known = {"span": ("encoder.", "span."), "pretraining": ("encoder.", "mlm."), "tagger": ("encoder.", "tags.")}
    prefixes = known.get(bundle.description.kind, ("encoder.",))
    tensors = {key: value for key, value in bundle.model.state_dict().items() if key.startswith(prefixes)}
    module = _MODELING.stem
    described = {
        "model_type": "korbert", "architectures": [name], **asdict(sizes), "feed_forward_size": sizes.feed_forward_size,
        "pad_token_id": bundle.tokenizer.special.pad,
        "auto_map": {"AutoConfig": f"{module}.KorbertConfig", "AutoModel": f"{module}.KorbertModel"}
        | {auto: f"{module}.{name}"},
    }  # fmt: skip
    return described | _labels(bundle), tensors


def _labels(bundle: Bundle) -> dict[str, Any]:
    tags = bundle.description.tags
    if not tags:
        return {}
    return {"id2label": dict(enumerate(tags)), "label2id": {tag: number for number, tag in enumerate(tags)}}


def _write_tokenizer(bundle: Bundle, target: Path) -> list[str]:
    """Hugging Face's files where its library can do what the tokenizer does; korbert's in any case."""
    bundle.tokenizer.save(target / "korbert_tokenizer")
    try:
        fast = as_fast_tokenizer(bundle.tokenizer)
        fast.model_max_length = bundle.description.model.max_positions
        fast.save_pretrained(target)
    except KorbertError as error:
        return [f"The tokenizer is in `korbert_tokenizer/` alone: {error}."]
    return ["`korbert_tokenizer/` has the tokenizer as korbert reads it, with exact spans of characters."]


def _call(bundle: Bundle, described: dict[str, Any]) -> str:
    auto = _CLASSES[bundle.description.kind][2]
    if described["architectures"] == ["BertForPreTraining"]:
        auto = "AutoModelForPreTraining"
    more = ", trust_remote_code=True" if "auto_map" in described else ""
    if described["architectures"] == ["BertModel"]:
        more = ", add_pooling_layer=False"  # there are no weights of one, and random ones are of no use
    return f"transformers.{auto}.from_pretrained(folder{more})"


def _readme(bundle: Bundle, described: dict[str, Any], notes: list[str], has_tokenizer: bool) -> str:
    more = ", trust_remote_code=True" if "auto_map" in described else ""  # else it asks, and waits
    lines = [
        f"# {described['architectures'][0]}", "",
        f"A model of korbert's ({bundle.description.kind}), for transformers:", "", "```python", "import transformers",
        f"model = {_call(bundle, described)}",
        *([f"tokenizer = transformers.AutoTokenizer.from_pretrained(folder{more})"] if has_tokenizer else []),
        "```", "",
    ]  # fmt: skip
    return "\n".join([*lines, *(f"- {note}" for note in notes)]) + "\n"

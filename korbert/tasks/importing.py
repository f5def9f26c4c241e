"""Models of Hugging Face's as korbert's: a folder, or a name of the hub, becomes a model folder."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from korbert.data.decoding import DecodingConfig
from korbert.data.download import RemoteFile, verify
from korbert.data.windows import WindowConfig
from korbert.encoding import EntityInput, EntityMode
from korbert.errors import ConfigError, DataError, KorbertError
from korbert.files import checksum, read_json
from korbert.model.foreign import Imported, WeightError, from_transformers
from korbert.tokenizers import Tokenizer, open_published
from korbert.training.bundle import Description, load_bundle, make_model, write_description
from korbert.training.state import load_tensors, save_tensors

_CONVERSION = 2  # of from_transformers: what an earlier one made may be another model
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_FILES = ["config.json", "tokenizer*", "vocab.txt", "special_tokens_map.json", "*.model", *_WEIGHTS]
_HUB_NAME = re.compile(r"(?!.*\.\.)[\w.-]+(/[\w.-]+)?")
_HEXADECIMAL = re.compile("[0-9a-f]+")
_CHECKSUMS = {64: "sha256", 40: "git-blob-sha1"}  # by their length
log = logging.getLogger(__name__)


def import_model(source: str, cache: Path) -> Path:
    """The model folder of what Hugging Face calls `source`, made in `cache` if it is not there.

    source: a folder with config.json, weights and tokenizer files, or a name of the hub, which is downloaded. Raises
    DataError naming file and key for what is missing, damaged or of another kind, KorbertError without the package or
    the network.
    """
    folder = Path(source)
    if not folder.is_dir():
        folder = _download(source)
    config = read_json(folder / "config.json")
    weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise DataError(folder, "weights", f"wanted {' or '.join(_WEIGHTS)} in one file")
    tokenizer = open_published(folder)
    key = f"{checksum(weights)[:12]}-{checksum(folder / 'config.json')[:4]}-{tokenizer.fingerprint[:8]}-{_CONVERSION}"
    name = re.sub(r"[^\w.-]+", "-", source.rstrip("/").split("/")[-1])
    target = cache / "models" / f"{name}-{key}"
    if not (target / "model.safetensors").exists():
        tensors = read_weights(weights)
        try:
            imported = from_transformers(config, tensors, len(tokenizer))
        except WeightError as error:
            raise DataError(weights, error.name, error.problem) from None
        except ValueError as error:
            raise DataError(folder / "config.json", "model", str(error)) from None
        for remark in (*imported.remarks, *_other_padding(config, tokenizer), *_without_rows(config, tokenizer)):
            log.warning("%s: %s", source, remark)
        _write(target, imported, tokenizer, source)
    log.info("model: %s, from %s", target, source)
    return target


def _other_padding(config: dict[str, Any], tokenizer: Tokenizer) -> list[str]:
    """A word on RoBERTa's where the padding of model and tokenizer differ: it counts no position for its own."""
    pad_id = config.get("pad_token_id", 1)
    if "roberta" not in config["model_type"] or pad_id == tokenizer.special.pad or pad_id >= len(tokenizer):
        return []
    return [
        f"config.json's pad_token_id={pad_id} is {tokenizer.vocabulary[pad_id]} in the tokenizer; in texts with it "
        "transformers counts the positions in another way than korbert"
    ]


def _without_rows(config: dict[str, Any], tokenizer: Tokenizer) -> list[str]:
    """A word on tokens that the checkpoint has no embedding of; a few that korbert needs are always added."""
    first: int = config["vocab_size"]
    added = {i for i in tokenizer.special.ids.tolist() if i >= first}
    count = len(tokenizer) - first - len(added)
    if count <= 0:
        return []
    return [f"{count} tokens of the tokenizer have no embedding in the checkpoint (vocab_size={first}): random ones"]


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a .safetensors or, with nothing but tensors in it, a .bin file, by name. Raises DataError."""
    if path.suffix == ".safetensors":
        return load_tensors(path)[0]
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds; a pickle with code in it is refused as one of them
        raise DataError(path, "file", f"no plain tensors, or damaged ({error})") from None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise DataError(path, "file", "wanted tensors by name")
    return found


def _write(target: Path, imported: Imported, tokenizer: Tokenizer, source: str) -> None:
    kind = "span" if "span" in imported.heads else "pretraining" if "mlm" in imported.heads else "encoder"
    objectives = tuple(head for head in ("mlm", "nsp") if head in imported.heads)
    description = Description(
        kind, imported.sizes, "none", EntityInput(EntityMode.NONE), imported.sizes.max_positions,
        objectives=objectives if kind == "pretraining" else (),
        window=_window(imported.sizes.max_positions) if kind == "span" else None,
        decoding=DecodingConfig() if kind == "span" else None,
    )  # fmt: skip
    with torch.device("meta"):  # for the names of its weights, whose shapes `from_transformers` has compared
        own = make_model(description).state_dict()
    tokenizer.save(target / "tokenizer")
    write_description(target, description, target / "tokenizer")
    # Last: a folder with weights is a complete one.
    save_tensors(target / "model.safetensors", {name: imported.weights[name].float() for name in own}, {"step": 0})
    load_bundle(target)


def _window(positions: int) -> WindowConfig:
    """The usual windows, or smaller ones for a model that has fewer positions."""
    longest = min(384, positions)
    return WindowConfig(longest, doc_stride=min(128, longest // 3), max_question_length=min(64, longest // 4))


def _download(name: str) -> Path:
    if not _HUB_NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no folder, and cannot be a name of the Hugging Face hub")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise KorbertError("downloading a model needs packages: pip install -e '.[hf]'") from None
    try:
        folder = Path(snapshot_download(name, allow_patterns=_FILES))
    except Exception as error:  # no network, no such name, no permission
        raise KorbertError(
            f"{name}: no folder of that name, and it could not be downloaded from the hub ({error})"
        ) from None
    _verify_snapshot(folder, name)
    return folder


def _verify_snapshot(folder: Path, name: str) -> None:
    """Check what the hub's cache holds: a file there is a link to one that is named by its checksum.

    Raises DataError for one whose content is another.
    """
    for path in sorted(folder.rglob("*")):
        blob = path.resolve().name
        kind = _CHECKSUMS.get(len(blob)) if path.is_symlink() and _HEXADECIMAL.fullmatch(blob) else None
        if kind is not None:
            verify(path, RemoteFile(path.name, f"https://huggingface.co/{name}", f"{kind}:{blob}"))

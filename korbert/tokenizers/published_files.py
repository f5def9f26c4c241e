"""Files of published tokenizers: a Hugging Face folder, tokenizer.json, vocab.txt, or a SentencePiece .model.

What transformers' tokenizer_config.json beside them says is followed where it changes tokens or ids; what cannot be
followed is refused, because a model that is given other ids learns, or answers, nonsense without a word.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from korbert.errors import ConfigError, DataError, KorbertError
from korbert.files import read_json, read_text
from korbert.text import WORD_START
from korbert.tokenizers.published import ROLES, HuggingFaceTokenizer, PublishedSentencePiece, PublishedTokenizer

log = logging.getLogger(__name__)
_NAMES = ("tokenizer.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
_CONFIG = "tokenizer_config.json"
# Settings of BERT's normaliser: as transformers calls them, and in tokenizer.json.
_NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
# Settings that change tokens in Python, and the values with which they do not.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "do_basic_tokenize": (True,),
    "never_split": (None, []),
    "word_tokenizer_type": (None, "basic"),
    "subword_tokenizer_type": (None, "wordpiece"),
    "wordpieces_prefix": ("##",),
}
_AS_SAVED = ("pretrained", "tokenizersbackend")  # classes for which tokenizer.json is all there is
# Classes of transformers, by how they begin, and types of models. What reads a vocab.txt in another way than BERT:
_NO_BERT = ("bertjapanese", "bertweet", "esm", "phobert", "tapas")
# What changes the text before the .model sees it, or has other ids than the .model:
_NO_MODEL = (
    "albert", "barthez", "bartpho", "camembert", "cpm", "deberta", "fnet", "layoutxlm", "m2m", "mbart", "mluke", "nllb",
    "pegasus", "plbart", "rembert", "xlnet",
)  # fmt: skip
_FAIRSEQ = "xlmroberta"  # as the .model, but for the first four and the mask
_WANTED = (
    "wanted a tokenizer.json, which transformers' AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) writes"
)


def open_published(path: Path, lowercase: bool = False) -> PublishedTokenizer:
    """Open a folder of Hugging Face's, a tokenizer.json, a vocab.txt or a SentencePiece .model.

    lowercase: for a vocab.txt, where no tokenizer_config.json beside it says so. A .model that is named itself keeps
    its own ids. Raises DataError for what is none of them, and for settings that are not followed here, ConfigError for
    a `lowercase` that would change nothing.
    """
    training, named = {"published": path.name}, not path.is_dir()
    if not named:
        inside = next((path / name for name in _NAMES if (path / name).is_file()), None)
        if inside is None:
            raise DataError(path, "folder", f"holds no tokenizer: wanted one of {', '.join(_NAMES)}")
        path = inside
    settings = _settings(path.parent)
    if lowercase and (path.suffix != ".txt" or not settings.get("do_lower_case", True)):
        raise ConfigError(
            f"tokenizer.normalizer.lowercase=true: {path} says itself what becomes of capitals; this is for a "
            f"vocab.txt without a word of it in {_CONFIG}"
        )
    called = _called(settings)
    models = sorted(path.parent.glob("*.model"))
    if path.name == "vocab.txt" and models:  # KoBERT: pieces of the one, ids of the other
        order = _entries(path)
        if any(token.startswith(WORD_START) for token in order):
            return PublishedSentencePiece.opened(models[0], training, order, called)
    if path.suffix == ".json":
        return _with_settings(HuggingFaceTokenizer.opened(path, training, called), path, settings)
    if path.suffix == ".model":
        return PublishedSentencePiece.opened(path, training, None if named else _order(path, settings), called)
    if path.suffix != ".txt":
        raise DataError(path, "file", "wanted a folder, tokenizer.json, vocab.txt or a SentencePiece .model")
    return _of_vocabulary(path, settings, lowercase, training)


def _of_vocabulary(
    path: Path, settings: Mapping[str, Any], lowercase: bool, training: dict[str, Any]
) -> HuggingFaceTokenizer:
    entries = _entries(path)
    if any(token.startswith(WORD_START) and token[1:2].isalpha() for token in entries):  # as WordPiece all is unknown
        raise DataError(path, "vocabulary", f"has entries with {WORD_START}: wanted SentencePiece's .model beside it")
    if _is_of(settings, _NO_BERT):
        raise DataError(path, "vocabulary", f"{_class(settings)} does not read it as BERT does: {_WANTED}")
    for key, plain in _PLAIN.items():
        if key in settings and settings[key] not in plain:
            problem = f"{settings[key]!r} is not followed with a vocab.txt: {_WANTED}"
            raise DataError(path.with_name(_CONFIG), key, problem)
    if "do_lower_case" not in settings and not lowercase and _seems_lower(entries):
        log.warning(
            "%s: no entry has a capital letter, and no %s says do_lower_case; capitals are unknown to it "
            "(tokenizer.normalizer.lowercase=true makes small letters of them, and takes syllables apart)",
            path,
            _CONFIG,
        )
    try:
        return HuggingFaceTokenizer.from_vocabulary(
            entries,
            training,
            _called(settings),
            lowercase=bool(settings.get("do_lower_case", lowercase)),
            strip_accents=settings.get("strip_accents"),
            spaced_hanja=bool(settings.get("tokenize_chinese_chars", True)),
        )
    except KorbertError as error:
        raise DataError(path, "vocabulary", str(error)) from None
    except TypeError as error:
        raise DataError(path.with_name(_CONFIG), "strip_accents", str(error)) from None


def _with_settings(tokenizer: HuggingFaceTokenizer, path: Path, settings: Mapping[str, Any]) -> HuggingFaceTokenizer:
    """The tokenizer of a tokenizer.json, its normaliser as the settings say, which transformers follows for BERT's."""
    content = json.loads(tokenizer.serialized)
    normalizer = content.get("normalizer") or {}
    given = {key: settings[name] for name, key in _NORMALIZER.items() if name in settings}
    changed = {key: value for key, value in given.items() if normalizer.get(key) != value}
    if normalizer.get("type") != "BertNormalizer" or not changed or _is_of(settings, _AS_SAVED):
        return tokenizer
    log.warning("%s: %s says otherwise, and is followed: %s", path, _CONFIG, json.dumps(changed))
    content["normalizer"] = normalizer | changed
    try:
        return HuggingFaceTokenizer(json.dumps(content, ensure_ascii=False), tokenizer.training, _called(settings))
    except Exception as error:  # the library raises a bare Exception
        raise DataError(path.with_name(_CONFIG), ", ".join(changed), str(error)) from None


def _order(path: Path, settings: Mapping[str, Any]) -> list[str] | None:
    """The entries in the order of their ids for the .model of a folder; None for those of the .model."""
    if _is_of(settings, (_FAIRSEQ,)):
        model = PublishedSentencePiece.opened(path, {})
        return ["<s>", "<pad>", "</s>", "<unk>", *model.pieces[3:], "<mask>"]
    problem = ""
    if _is_of(settings, _NO_MODEL):
        problem = f"{_class(settings)} has other ids than it, or changes texts beforehand"
    elif settings.get("do_lower_case"):
        problem = f"{_CONFIG} says do_lower_case, which it does not do"
    elif path.name == "sentencepiece.bpe.model":  # of four families, each with other ids
        problem = f"neither {_CONFIG} nor config.json says whose it is, and so which ids"
    if problem:
        raise DataError(path, "model", f"{problem}: {_WANTED}; or name the .model itself to take it as it is")
    return None


def _settings(folder: Path) -> dict[str, Any]:
    """What transformers' files in a folder say of its tokenizer."""
    settings: dict[str, Any] = {}
    for name in ("config.json", "special_tokens_map.json", _CONFIG):
        path = folder / name
        if path.is_file():
            content = read_json(path)
            of_model = name == "config.json"
            settings |= {key: content[key] for key in content.keys() & {"model_type"}} if of_model else content
    return settings


def _class(settings: Mapping[str, Any]) -> str:
    """Of the tokenizer, or the type of the model."""
    return str(settings.get("tokenizer_class") or settings.get("model_type") or "")


def _is_of(settings: Mapping[str, Any], beginnings: tuple[str, ...]) -> bool:
    return _class(settings).lower().replace("-", "").replace("_", "").startswith(beginnings)


def _called(settings: Mapping[str, Any]) -> dict[str, str]:
    """Names of special tokens by their field of SpecialTokens."""
    found = {role: settings.get(f"{role}_token") for role in ROLES}
    names = {role: name.get("content") if isinstance(name, dict) else name for role, name in found.items()}
    return {role: name for role, name in names.items() if isinstance(name, str)}


def _entries(path: Path) -> list[str]:
    """The lines of a vocab.txt, also of one that was written on Windows."""
    return [line.removesuffix("\r") for line in read_text(path).rstrip("\r\n").split("\n")]


def _seems_lower(entries: Sequence[str]) -> bool:
    letters = "".join(entry for entry in entries if entry[:1] not in ("[", "<"))
    return letters == letters.lower() and any("a" <= char <= "z" for char in letters)

"""Tokenizers by kind; each lives in its own module."""

from __future__ import annotations

from pathlib import Path

from korbert.errors import DataError
from korbert.files import read_json
from korbert.tokenizers.base import SpecialTokens, Tokenizer, Tokens
from korbert.tokenizers.characters import SyllableTokenizer
from korbert.tokenizers.subwords import SentencePieceTokenizer

KINDS: dict[str, type[Tokenizer]] = {cls.kind: cls for cls in (SentencePieceTokenizer, SyllableTokenizer)}

__all__ = [
    "KINDS",
    "SentencePieceTokenizer",
    "SpecialTokens",
    "SyllableTokenizer",
    "Tokenizer",
    "Tokens",
    "load_tokenizer",
]


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """Load a tokenizer folder of any kind. Raises DataError for a folder that is not one."""
    path = Path(folder) / "tokenizer.json"
    kind = read_json(path).get("kind")
    if kind is None:
        raise DataError(path, "kind", "missing: this is not a korbert tokenizer folder")
    if kind not in KINDS:
        raise DataError(path, "kind", f"{kind!r} is unknown, wanted one of {', '.join(KINDS)}")
    return KINDS[kind].load(Path(folder))

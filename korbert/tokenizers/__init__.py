"""Tokenizers by kind; each lives in its own module."""

from __future__ import annotations

from pathlib import Path

from korbert.errors import DataError
from korbert.files import read_json
from korbert.tokenizers.base import SpecialTokens, Tokenizer, Tokens
from korbert.tokenizers.lookup import CharacterTokenizer, WordTokenizer
from korbert.tokenizers.pretokenizer import Pretokenizer
from korbert.tokenizers.published import HuggingFaceTokenizer, PublishedSentencePiece
from korbert.tokenizers.published_files import open_published
from korbert.tokenizers.subwords import SentencePieceTokenizer
from korbert.tokenizers.wordpiece import WordPieceTokenizer

KINDS: dict[str, type[Tokenizer]] = {
    cls.kind: cls
    for cls in (
        CharacterTokenizer,
        WordTokenizer,
        SentencePieceTokenizer,
        WordPieceTokenizer,
        HuggingFaceTokenizer,
        PublishedSentencePiece,
    )
}

__all__ = [
    "KINDS",
    "CharacterTokenizer",
    "HuggingFaceTokenizer",
    "Pretokenizer",
    "PublishedSentencePiece",
    "SentencePieceTokenizer",
    "SpecialTokens",
    "Tokenizer",
    "Tokens",
    "WordPieceTokenizer",
    "WordTokenizer",
    "is_own_folder",
    "load_tokenizer",
    "open_published",
]


def is_own_folder(folder: Path) -> bool:
    """Whether korbert wrote this tokenizer's folder, and not Hugging Face."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        return False
    try:
        content = read_json(path)
    except DataError:  # opening it says so
        return False
    return isinstance(content, dict) and "fingerprint" in content


def load_tokenizer(folder: Path | str) -> Tokenizer:
    """Load a tokenizer folder of any kind. Raises DataError for a folder that is not one."""
    path = Path(folder) / "tokenizer.json"
    kind = read_json(path).get("kind")
    if kind is None:
        problem = "missing: this is not a korbert tokenizer folder (tokenizer=published reads Hugging Face's)"
        raise DataError(path, "kind", problem)
    if not isinstance(kind, str) or kind not in KINDS:
        raise DataError(path, "kind", f"{kind!r} is unknown, wanted one of {', '.join(KINDS)}")
    return KINDS[kind].load(Path(folder))

"""Tokenizers whose vocabulary is all that they learn: a folder of theirs has no model beside vocab.txt."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from korbert.errors import DataError
from korbert.files import read_text
from korbert.text import Normalizer
from korbert.tokenizers.base import SpecialTokens
from korbert.tokenizers.pretokenizer import Pretokenizer
from korbert.tokenizers.trained import TrainedTokenizer

_T = TypeVar("_T", bound="ListedTokenizer")


class ListedTokenizer(TrainedTokenizer):
    """What is saved and read of them; how text is segmented is a subclass's own."""

    def _payload(self) -> bytes:
        return "\n".join(self.vocabulary).encode("utf-8", "surrogatepass")

    def _save_payload(self, folder: Path) -> None:
        pass  # vocab.txt is written for every tokenizer

    @classmethod
    def _load_payload(
        cls: type[_T], folder: Path, normalizer: Normalizer, training: dict[str, Any], pretokenizer: Pretokenizer
    ) -> _T:
        return cls(_read_vocabulary(folder), normalizer, training, pretokenizer)


def _read_vocabulary(folder: Path) -> list[str]:
    """The lines of vocab.txt. Raises DataError where it is missing, or is no korbert vocabulary."""
    path = folder / "vocab.txt"
    vocabulary = read_text(path).split("\n")[:-1]
    if tuple(vocabulary[: len(SpecialTokens().names)]) != tuple(SpecialTokens().names):
        raise DataError(path, "line 1", f"a vocabulary must begin with {' '.join(SpecialTokens().names)}")
    if "" in vocabulary:
        raise DataError(path, f"line {vocabulary.index('') + 1}", "is empty: wanted an entry")
    return vocabulary

"""The Tokenizer interface: token ids with exact spans of original characters, whatever the segmentation.

The offset algebra stands here once. A tokenizer only cuts normalised text into vocabulary entries; this module
normalises, cuts at forced boundaries first, and maps every piece back to the characters of the user's own string.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from korbert.errors import DataError
from korbert.files import read_json, write_text_atomically
from korbert.text import IntArray, NormalizedText, Normalizer
from korbert.tokenizers.pretokenizer import WORD_START, Pretokenizer

FORMAT = 1


@dataclass(frozen=True, slots=True)
class SpecialTokens:
    """Ids of the special tokens. They are never text: a document with the letters "[MASK]" has just letters."""

    pad: int = 0
    unk: int = 1
    cls: int = 2
    sep: int = 3
    mask: int = 4
    ent: int = 5
    ent_end: int = 6

    @property
    def names(self) -> dict[str, int]:
        """Printed name → id, in id order for the default layout."""
        printed = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[ENT]", "[/ENT]")
        return dict(zip(printed, dataclasses.astuple(self), strict=True))

    @property
    def ids(self) -> IntArray:
        """All special ids, (7,) int32."""
        ids = (self.pad, self.unk, self.cls, self.sep, self.mask, self.ent, self.ent_end)
        return np.array(ids, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Tokens:
    """Token ids of one text and the original characters that each token covers.

    ids, starts, ends: (T,) int32; spans are in order and never overlap. A token whose characters are the inside of
    an expansion (the "주" of ㈜) has an empty span right behind it: the expansion's first token covers the character.
    """

    ids: IntArray
    starts: IntArray
    ends: IntArray

    def __len__(self) -> int:
        return len(self.ids)


class Tokenizer(ABC):
    """Text ↔ token ids. Subclasses say how normalised text is cut; spans, saving and loading are common."""

    kind: ClassVar[str]

    def __init__(
        self,
        vocabulary: Sequence[str],
        normalizer: Normalizer,
        training: dict[str, Any],
        pretokenizer: Pretokenizer | None = None,
    ) -> None:
        """Take a vocabulary that begins with the special tokens; `training` is kept for the record only."""
        self.special = SpecialTokens()
        self.normalizer = normalizer
        self.pretokenizer = pretokenizer or Pretokenizer()
        self.training = training
        self.vocabulary = tuple(vocabulary)
        if self.vocabulary[: len(self.special.names)] != tuple(self.special.names):
            raise ValueError(f"a vocabulary must begin with {' '.join(self.special.names)}")

    def __len__(self) -> int:
        return len(self.vocabulary)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change whenever any text could be encoded differently."""
        described = json.dumps(self._description(), sort_keys=True, ensure_ascii=False).encode()
        return hashlib.sha256(described + b"\0" + self._payload()).hexdigest()[:16]

    def encode(self, text: str, boundaries: Iterable[int] = ()) -> Tokens:
        """Tokenize `text`; no token crosses any of `boundaries` (character positions, in any order).

        A boundary at the first character of a word falls before the white space in front of it, so that the word
        keeps its word-initial form. One inside characters that normalise together cannot be cut and is ignored.
        """
        normal = self.normalizer(text)
        if not normal.text:
            nothing = np.zeros(0, dtype=np.int32)
            return Tokens(nothing, nothing, nothing)
        cuts = (index for position in boundaries if (index := normal.cut_before(position)) is not None)
        pieces = self.pretokenizer(normal.text, cuts)
        ids, lengths = self._segment(pieces.pieces)
        return _align(normal, ids, lengths, pieces.firsts)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the normalised text of `ids`, for people to read; special tokens are shown by name.

        Answers are never made from this: they are slices of the original text.
        """
        parts: list[str] = []
        for special, run in itertools.groupby(ids, key=frozenset(self.special.names.values()).__contains__):
            if special:
                parts += (f" {self.vocabulary[i]} " for i in run)
            else:
                parts.append(self.pretokenizer.text(self._joined(run).replace(WORD_START, " ")))
        return "".join(parts).strip()

    def _joined(self, ids: Iterable[int]) -> str:
        """The symbols of ids that are not special."""
        return "".join(self.vocabulary[i] for i in ids)

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`, `vocab.txt` and what the kind needs beside them."""
        folder.mkdir(parents=True, exist_ok=True)
        self._save_payload(folder)
        write_text_atomically(folder / "vocab.txt", "".join(f"{token}\n" for token in self.vocabulary))
        # Last, because a folder with this file is a complete one.
        description = self._description() | {"fingerprint": self.fingerprint, "training": self.training}
        write_text_atomically(folder / "tokenizer.json", json.dumps(description, ensure_ascii=False, indent=2) + "\n")

    def _description(self) -> dict[str, Any]:
        description = {
            "format": FORMAT,
            "kind": self.kind,
            "normalizer": dataclasses.asdict(self.normalizer),
            "special_tokens": self.special.names,
        }
        pretokenizer = self.pretokenizer.description()
        return description | ({"pretokenizer": pretokenizer} if pretokenizer else {})

    @abstractmethod
    def _segment(self, pieces: list[str]) -> tuple[IntArray, IntArray]:
        """Cut each piece into tokens: ids (T,) and lengths in symbols (T,), both int32, of all pieces in order.

        A leading space marks the start of a word. The lengths of a piece's tokens sum to its own; no token may contain
        a space except as its first symbol.
        """

    @abstractmethod
    def _payload(self) -> bytes:
        """Whatever decides the segmentation, as bytes, for the fingerprint."""

    @abstractmethod
    def _save_payload(self, folder: Path) -> None: ...

    @classmethod
    @abstractmethod
    def _load(
        cls, folder: Path, normalizer: Normalizer, training: dict[str, Any], pretokenizer: Pretokenizer
    ) -> Tokenizer: ...

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Load a folder that `save` wrote.

        Raises DataError where a file is missing or damaged, or where the content no longer has the fingerprint it
        was saved with.
        """
        path = folder / "tokenizer.json"
        description = read_json(path)
        for key in ("format", "kind", "normalizer", "fingerprint"):
            if key not in description:
                raise DataError(path, key, "missing: this is not a korbert tokenizer folder")
        if description["format"] != FORMAT or description["kind"] != cls.kind:
            found = f"format {description['format']}, kind {description['kind']!r}"
            raise DataError(path, "format", f"wanted format {FORMAT}, kind {cls.kind!r}, found {found}")
        normalizer = Normalizer(**description["normalizer"])
        pretokenizer = Pretokenizer(**description.get("pretokenizer", {}))
        tokenizer = cls._load(folder, normalizer, description.get("training", {}), pretokenizer)
        if tokenizer.fingerprint != description["fingerprint"]:
            raise DataError(
                path,
                "fingerprint",
                f"saved as {description['fingerprint']}, but the files now give {tokenizer.fingerprint}: "
                "the tokenizer was changed or damaged after it was saved",
            )
        return tokenizer


def _align(normal: NormalizedText, ids: IntArray, lengths: IntArray, firsts: IntArray | None) -> Tokens:
    """Turn token lengths, in the symbols of `" " + normal.text`, into spans of original characters."""
    zero = np.zeros(1, dtype=np.int32)
    is_space = np.frombuffer(f" {normal.text} ".encode("utf-32-le"), dtype=np.uint32) == ord(" ")
    char_starts = np.concatenate([zero, normal.starts])
    char_ends = np.concatenate([zero, normal.ends])
    last = np.cumsum(lengths, dtype=np.int32)
    if firsts is not None:
        # A character belongs to the token that has its first symbol; one with only later symbols has no characters.
        last = np.searchsorted(firsts[:-1], last, side="left").astype(np.int32)
    first = np.concatenate([zero, last[:-1]])
    is_empty = first == last
    # The space in front of a word is not part of its span.
    begin = np.minimum(first + (is_space[first] & (last - first > 1)), len(char_starts) - 1)
    ends = char_ends[last - 1]
    starts = np.where(is_empty, ends, char_starts[begin])
    starts = np.maximum(starts, np.concatenate([zero, ends[:-1]]))
    return Tokens(ids, starts.astype(np.int32), ends.astype(np.int32))

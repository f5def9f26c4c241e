"""The Tokenizer interface: token ids with exact spans of original characters, whatever the segmentation.

Those that are trained here share their offset algebra (`trained.py`); those of others keep theirs (`published.py`).
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
import numpy.typing as npt

from korbert.errors import ConfigError, DataError
from korbert.files import read_json, write_text_atomically
from korbert.text import IntArray

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

    def among(self, token_ids: IntArray) -> npt.NDArray[np.bool_]:
        """Where special tokens stand, (T,); for a sequence's tokens much faster than np.isin."""
        found = token_ids == self.pad
        for special in {self.unk, self.cls, self.sep, self.mask, self.ent, self.ent_end}:
            found |= token_ids == special
        return found


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
    """Text ↔ token ids with exact spans, saved as a folder."""

    kind: ClassVar[str]
    rules: ClassVar[str] = ""  # another one where new code gives other tokens for the same fingerprint

    def __init__(self, vocabulary: Sequence[str], special: SpecialTokens, training: dict[str, Any]) -> None:
        """Take the entries in id order; `training` is kept for the record only."""
        self.vocabulary = tuple(vocabulary)
        self.special = special
        self.training = training

    def __len__(self) -> int:
        return len(self.vocabulary)

    @cached_property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change whenever any text could be encoded differently by the same code.

        What is kept of encoded text goes by `identity` and `korbert.text.NORMALISATION`.
        """
        described = json.dumps(self._description(), sort_keys=True, ensure_ascii=False).encode()
        return hashlib.sha256(described + b"\0" + self._payload()).hexdigest()[:16]

    @property
    def identity(self) -> str:
        """The fingerprint with the `rules` of the code."""
        return self.fingerprint + self.rules

    @abstractmethod
    def encode(self, text: str, boundaries: Iterable[int] = ()) -> Tokens:
        """Tokenize `text`; no token crosses any of `boundaries` (character positions, in any order)."""

    def encode_ids(self, text: str) -> IntArray:
        """The ids that `encode` gives, (T,) int32; where spans cost time, without them."""
        return self.encode(text).ids

    def encode_all(self, texts: Sequence[str], boundaries: Sequence[Iterable[int]] = ()) -> list[Tokens]:
        """Several texts as `encode` gives them, in their order; boundaries: those of each text, or none at all."""
        return [self.encode(text, edges) for text, edges in zip(texts, boundaries or [()] * len(texts), strict=True)]

    def encode_ids_all(self, texts: Sequence[str]) -> list[IntArray]:
        """Several texts as `encode_ids` gives them, in their order."""
        return [self.encode_ids(text) for text in texts]

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`, for people to read; special tokens are shown by name.

        Answers are never made from this: they are slices of the original text.
        """
        parts: list[str] = []
        names = {token: name for name, token in self.special.names.items()}
        for special, run in itertools.groupby(map(int, ids), key=names.__contains__):
            tokens = list(run)
            parts += [f" {names[token]} " for token in tokens] if special else [self._text(tokens)]
        return "".join(parts).strip()

    @property
    @abstractmethod
    def begins_word(self) -> npt.NDArray[np.bool_]:
        """Whether each entry is one for the start of a word, (V,)."""

    @abstractmethod
    def _text(self, ids: list[int]) -> str:
        """The text of ids that are not special."""

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`, `vocab.txt` and what the kind needs beside them."""
        folder.mkdir(parents=True, exist_ok=True)
        self._save_payload(folder)
        write_text_atomically(folder / "vocab.txt", "".join(f"{token}\n" for token in self.vocabulary))
        # Last, because a folder with this file is a complete one.
        description = self._description() | {"fingerprint": self.fingerprint, "training": self.training}
        write_text_atomically(folder / "tokenizer.json", json.dumps(description, ensure_ascii=False, indent=2) + "\n")

    def _description(self) -> dict[str, Any]:
        return {"format": FORMAT, "kind": self.kind, "special_tokens": self.special.names}

    @abstractmethod
    def _payload(self) -> bytes:
        """Whatever decides the segmentation, as bytes, for the fingerprint."""

    @abstractmethod
    def _save_payload(self, folder: Path) -> None: ...

    @classmethod
    @abstractmethod
    def _load(cls, folder: Path, description: dict[str, Any]) -> Tokenizer:
        """Load what `_save_payload` wrote; `description` is the content of tokenizer.json."""

    @classmethod
    def load(cls, folder: Path) -> Tokenizer:
        """Load a folder that `save` wrote.

        Raises DataError where a file is missing or damaged, or where the content no longer has the fingerprint it
        was saved with.
        """
        path = folder / "tokenizer.json"
        description = read_json(path)
        for key in ("format", "kind", "fingerprint"):
            if key not in description:
                raise DataError(path, key, "missing: this is not a korbert tokenizer folder")
        if description["format"] != FORMAT or description["kind"] != cls.kind:
            found = f"format {description['format']}, kind {description['kind']!r}"
            raise DataError(path, "format", f"wanted format {FORMAT}, kind {cls.kind!r}, found {found}")
        try:
            tokenizer = cls._load(folder, description)
        except (TypeError, ValueError, AttributeError, ConfigError) as error:
            raise DataError(path, "content", f"not the description of a tokenizer ({error})") from error
        if tokenizer.fingerprint != description["fingerprint"]:
            raise DataError(
                path,
                "fingerprint",
                f"saved as {description['fingerprint']}, but the files now give {tokenizer.fingerprint}: "
                "the tokenizer was changed or damaged after it was saved",
            )
        return tokenizer

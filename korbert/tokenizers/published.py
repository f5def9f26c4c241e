"""Tokenizers that others have published, as they are: a Hugging Face folder, tokenizer.json, vocab.txt, or a .model.

Ids are those of the original library on the whole text. It also says where tokens stand; spans are tidied here: no
white space, no overlap where a character is split over tokens. Where a token crosses a forced boundary, its parts are
looked up in the vocabulary, the longest known entry first.
"""

from __future__ import annotations

import itertools
import json
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sentencepiece

from korbert.errors import DataError, KorbertError
from korbert.files import read_json, read_text, write_bytes_atomically
from korbert.text import LONE_SURROGATE, WORD_START, IntArray, place_of
from korbert.tokenizers.base import SpecialTokens, Tokenizer, Tokens
from korbert.tokenizers.pretokenizer import as_bytes

_ORDER = "pieces.txt"
# What the field calls the tokens that a model needs, in the order of SpecialTokens; those for entities are ours.
_ROLES: tuple[tuple[str, ...], ...] = (
    ("[PAD]", "<pad>"),
    ("[UNK]", "<unk>"),
    ("[CLS]", "<s>", "<|endoftext|>"),
    ("[SEP]", "</s>", "<|endoftext|>"),
    ("[MASK]", "<mask>"),
    ("[ENT]",),
    ("[/ENT]",),
)


class PublishedTokenizer(Tokenizer):
    """A tokenizer that was trained elsewhere. Special tokens that it lacks are added behind its vocabulary."""

    def __init__(self, vocabulary: Sequence[str], training: dict[str, Any]) -> None:
        """Take the original vocabulary in id order."""
        names = list(vocabulary)
        known = {token: i for i, token in enumerate(names)}
        ids = []
        for role in _ROLES:
            found = next((known[name] for name in role if name in known), None)
            if found is None:
                found = len(names)
                names.append(role[0])
            ids.append(found)
        super().__init__(names, SpecialTokens(*ids), training)
        self._known = {token: i for token, i in known.items() if i not in ids}
        self._longest = max(map(len, self._known), default=0)

    def encode(self, text: str, boundaries: Iterable[int] = ()) -> Tokens:
        """Tokenize as the original does; a token that crosses one of `boundaries` is cut there."""
        text = LONE_SURROGATE.sub("\ufffd", text)  # the libraries cannot take lone surrogates
        ids, starts, ends = self._encode(text)
        starts, ends = _tidied(text, starts, ends)
        places = np.unique(np.fromiter(boundaries, dtype=np.int32))
        crossed = np.searchsorted(places, starts, side="right") < np.searchsorted(places, ends, side="left")
        # Some vocabularies have their special tokens among the pieces of text; text is never one of them.
        crossed |= self.special.among(ids) & (ids != self.special.unk)
        if not crossed.any():
            return Tokens(ids, starts, ends)
        rows: list[tuple[int, int, int]] = []
        for token, start, end, is_crossed in zip(ids.tolist(), starts.tolist(), ends.tolist(), crossed, strict=True):
            if not is_crossed:
                rows.append((token, start, end))
                continue
            inside = places[place_of(places, start, "right") : place_of(places, end, "left")]
            edges = [start, *inside.tolist(), end]
            for a, b in itertools.pairwise(edges):
                rows += self._part(text, a, b, bool(self.begins_word[token]) and a == start)
        table = np.array(rows, dtype=np.int32)
        return Tokens(table[:, 0], *_tidied(text, table[:, 1], table[:, 2]))

    def _part(self, text: str, start: int, end: int, begins_word: bool) -> list[tuple[int, int, int]]:
        """Tokens (id, start, end) of a part of a token."""
        normal = self._normalized(text[start:end])
        symbols, firsts = self._symbols(normal)
        if not symbols:
            return [(self.special.unk, start, end)]
        rows = []
        at = 0
        previous = start
        while at < len(symbols):
            for stop in range(min(len(symbols), at + self._longest), at, -1):
                token = self._find(symbols[at:stop], begins_word and at == 0)
                if token is not None:
                    break
            else:
                token, stop = self.special.unk, len(symbols)
            # Characters that begin before `stop`; where normalisation changed their number, the last token has them.
            characters = int(np.searchsorted(firsts[:-1], stop, side="left"))
            after = start + characters if len(normal) == end - start else start
            after = end if stop == len(symbols) else after
            rows.append((token, previous, after))
            at, previous = stop, after
        return rows

    def _find(self, symbols: str, begins_word: bool) -> int | None:
        """The entry for these symbols; at the start of a word one for the inside is better than none."""
        found = self._known.get(self._entry(symbols, begins_word))
        return self._known.get(self._entry(symbols, False)) if found is None and begins_word else found

    @cached_property
    def begins_word(self) -> npt.NDArray[np.bool_]:
        """Whether each entry is one for the start of a word, (V,)."""
        return np.array([self._begins_word(token) for token in self.vocabulary])

    @abstractmethod
    def _encode(self, text: str) -> tuple[IntArray, IntArray, IntArray]:
        """Ids and the original library's spans of characters."""

    @abstractmethod
    def _normalized(self, text: str) -> str: ...

    @abstractmethod
    def _entry(self, symbols: str, begins_word: bool) -> str:
        """How the vocabulary writes these symbols, at the start of a word or inside one."""

    @abstractmethod
    def _begins_word(self, token: str) -> bool: ...

    def _symbols(self, text: str) -> tuple[str, IntArray]:
        """What the vocabulary's entries are made of, and the first symbol of each character."""
        return text, np.arange(len(text) + 1, dtype=np.int32)


class HuggingFaceTokenizer(PublishedTokenizer):
    """WordPiece, BPE (byte-level too) and unigram vocabularies of Hugging Face's `tokenizers`."""

    kind = "huggingface"

    def __init__(self, serialized: str, training: dict[str, Any]) -> None:
        """Take the content of a Hugging Face tokenizer.json. Raises KorbertError without the package `tokenizers`."""
        self.serialized = serialized
        self._backend = _tokenizers().Tokenizer.from_str(serialized)
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True  # "[MASK]" in a text is six letters
        by_id = {i: token for token, i in self._backend.get_vocab(with_added_tokens=True).items()}
        described = json.loads(serialized)
        self._prefix = described["model"].get("continuing_subword_prefix") or ""
        self._is_wordpiece = described["model"]["type"] == "WordPiece"
        self._is_bytes = '"ByteLevel"' in json.dumps([described["pre_tokenizer"], described["decoder"]])
        super().__init__([by_id.get(i, f"[unused {i}]") for i in range(max(by_id) + 1)], training)

    @classmethod
    def from_vocabulary(cls, tokens: Sequence[str], lowercase: bool, training: dict[str, Any]) -> HuggingFaceTokenizer:
        """The WordPiece tokenizer of BERT over the entries of a vocab.txt."""
        parts = _tokenizers()
        vocab = {token: i for i, token in enumerate(tokens)}
        unknown = next((name for name in _ROLES[1] if name in vocab), None)
        if unknown is None:
            raise KorbertError("a WordPiece vocabulary needs an entry for what is unknown: [UNK]")
        backend = parts.Tokenizer(parts.models.WordPiece(vocab, unk_token=unknown))
        backend.normalizer = parts.normalizers.BertNormalizer(lowercase=lowercase)
        backend.pre_tokenizer = parts.pre_tokenizers.BertPreTokenizer()
        backend.decoder = parts.decoders.WordPiece()
        return cls(backend.to_str(), training)

    def _encode(self, text: str) -> tuple[IntArray, IntArray, IntArray]:
        found = self._backend.encode(text, add_special_tokens=False)
        ids = np.array(found.ids, dtype=np.int32)
        starts, ends = np.array(found.offsets, dtype=np.int32).reshape(-1, 2).T
        # The sign of a word's start as a token of its own is said to have the word's first character too.
        alone = np.flatnonzero((ids[:-1] == self._known.get(WORD_START, -1)) & (starts[1:] < ends[:-1]))
        ends = ends.copy()
        ends[alone] = starts[alone]
        return ids, starts, ends

    def _normalized(self, text: str) -> str:
        normalizer = self._backend.normalizer
        return text if normalizer is None else normalizer.normalize_str(text).strip().lstrip(WORD_START)

    def _symbols(self, text: str) -> tuple[str, IntArray]:
        return as_bytes(text) if self._is_bytes else super()._symbols(text)

    def _entry(self, symbols: str, begins_word: bool) -> str:
        if self._is_wordpiece:
            return symbols if begins_word else self._prefix + symbols
        return ("Ġ" if self._is_bytes else WORD_START) + symbols if begins_word else symbols

    def _begins_word(self, token: str) -> bool:
        if self._is_wordpiece:
            return not token.startswith(self._prefix)
        return token.startswith("Ġ" if self._is_bytes else WORD_START)

    def _text(self, ids: list[int]) -> str:
        return self._backend.decode(ids, skip_special_tokens=False)

    def _payload(self) -> bytes:
        return self.serialized.encode()

    def _save_payload(self, folder: Path) -> None:
        write_bytes_atomically(folder / "huggingface.json", self.serialized.encode())

    @classmethod
    def _load(cls, folder: Path, description: dict[str, Any]) -> HuggingFaceTokenizer:
        return _opened(folder / "huggingface.json", description.get("training", {}))


class PublishedSentencePiece(PublishedTokenizer):
    """A SentencePiece .model with its own normalisation, and with its own ids or those of a vocab.txt, as KoBERT's."""

    kind = "sentencepiece_model"

    def __init__(self, model: bytes, training: dict[str, Any], order: Sequence[str] | None = None) -> None:
        """Take the content of a .model file and, where ids are not its own, the pieces in the order of their ids."""
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces = [self._processor.id_to_piece(i) for i in range(self._processor.get_piece_size())]
        self._order = list(pieces if order is None else order)
        super().__init__(self._order, training)
        known = {piece: i for i, piece in enumerate(self._order)}
        self._ids = np.array([known.get(piece, self.special.unk) for piece in pieces], dtype=np.int32)
        self._is_reordered = order is not None

    def _encode(self, text: str) -> tuple[IntArray, IntArray, IntArray]:
        found = self._processor.encode(text, return_type="offset_mapping")
        offsets = np.array(found["offsets"], dtype=np.int32).reshape(-1, 2)
        return self._ids[np.array(found["ids"], dtype=np.int64)], offsets[:, 0], offsets[:, 1]

    def _normalized(self, text: str) -> str:
        return self._processor.normalize(text).strip().strip(WORD_START)

    def _entry(self, symbols: str, begins_word: bool) -> str:
        return WORD_START + symbols if begins_word else symbols

    def _begins_word(self, token: str) -> bool:
        return token.startswith(WORD_START)

    def _text(self, ids: list[int]) -> str:
        return self._processor.decode_pieces([self.vocabulary[int(i)] for i in ids])

    def _payload(self) -> bytes:
        return self._model + ("\n".join(self._order).encode() if self._is_reordered else b"")

    def _save_payload(self, folder: Path) -> None:
        write_bytes_atomically(folder / "sentencepiece.model", self._model)
        if self._is_reordered:
            write_bytes_atomically(folder / _ORDER, "\n".join(self._order).encode())

    @classmethod
    def _load(cls, folder: Path, description: dict[str, Any]) -> PublishedSentencePiece:
        order = folder / _ORDER
        pieces = read_text(order).split("\n") if order.is_file() else None
        return _opened_model(folder / "sentencepiece.model", description.get("training", {}), pieces)


def open_published(path: Path, lowercase: bool = False) -> PublishedTokenizer:
    """Open a folder of Hugging Face's, a tokenizer.json, a vocab.txt or a SentencePiece .model.

    lowercase: for a vocab.txt, where no tokenizer_config.json beside it says so. Raises DataError for what is none of
    them.
    """
    training = {"published": path.name}
    if path.is_dir():
        names = ("tokenizer.json", "vocab.txt", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
        inside = next((path / name for name in names if (path / name).is_file()), None)
        if inside is None:
            raise DataError(path, "folder", f"holds no tokenizer: wanted one of {', '.join(names)}")
        path = inside
    models = sorted(path.parent.glob("*.model"))
    if path.name == "vocab.txt" and models:  # KoBERT: pieces of the one, ids of the other
        order = _entries(path)
        if any(token.startswith(WORD_START) for token in order):
            return _opened_model(models[0], training, order)
    if path.suffix == ".json":
        return _opened(path, training)
    if path.suffix == ".model":
        return _opened_model(path, training)
    if path.suffix != ".txt":
        raise DataError(path, "file", "wanted a folder, tokenizer.json, vocab.txt or a SentencePiece .model")
    entries = _entries(path)
    if any(token.startswith(WORD_START) and token[1:2].isalpha() for token in entries):  # as WordPiece all is unknown
        raise DataError(path, "vocabulary", f"has entries with {WORD_START}: wanted SentencePiece's .model beside it")
    config = path.with_name("tokenizer_config.json")
    if config.is_file():
        lowercase = bool(read_json(config).get("do_lower_case", lowercase))
    try:
        return HuggingFaceTokenizer.from_vocabulary(entries, lowercase, training)
    except KorbertError as error:
        raise DataError(path, "vocabulary", str(error)) from None


def _entries(path: Path) -> list[str]:
    """The lines of a vocab.txt, also of one that was written on Windows."""
    return [line.removesuffix("\r") for line in read_text(path).rstrip("\r\n").split("\n")]


def _opened(path: Path, training: dict[str, Any]) -> HuggingFaceTokenizer:
    text = read_text(path)
    _tokenizers()
    try:
        return HuggingFaceTokenizer(text, training)
    except Exception as error:  # the library raises a bare Exception
        raise DataError(path, "content", f"is no tokenizer of Hugging Face's ({error})") from None


def _opened_model(path: Path, training: dict[str, Any], order: Sequence[str] | None = None) -> PublishedSentencePiece:
    if not path.is_file():
        raise DataError(path, "file", "not found")
    try:
        return PublishedSentencePiece(path.read_bytes(), training, order)
    except (RuntimeError, OSError) as error:
        raise DataError(path, "model", f"not a SentencePiece model ({error})") from None


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise KorbertError("a Hugging Face tokenizer needs a package: pip install -e '.[hf]'") from None
    return tokenizers


def _tidied(text: str, starts: IntArray, ends: IntArray) -> tuple[IntArray, IntArray]:
    """Spans without white space at their ends and without overlap: a shared character belongs to its first token."""
    blank = np.array([char.isspace() for char in text] + [False])
    skipped = np.arange(len(text) + 1)
    for i in np.flatnonzero(blank)[::-1]:
        skipped[i] = skipped[i + 1]  # the first character from i on that is not white space
    kept = np.arange(len(text) + 1)
    for i in np.flatnonzero(blank) + 1:
        kept[i] = kept[i - 1]  # the end of the last one before i
    ends = np.maximum.accumulate(np.maximum(kept[ends], 0)) if len(ends) else ends
    if len(ends):
        starts = np.maximum(starts, np.concatenate([np.zeros(1, dtype=np.int32), ends[:-1]]))
    starts = np.minimum(skipped[starts], ends)
    return starts.astype(np.int32), ends.astype(np.int32)

"""Tokenizers that others have published, as they are: a Hugging Face folder, tokenizer.json, vocab.txt, or a .model.

Ids are those of the original library on the whole text. It also says where tokens stand; spans are tidied here: no
white space, no overlap where a character is split over tokens. Where a token crosses a forced boundary, its parts are
looked up in the vocabulary, the longest known entry first; tokens that share a character are cut together.
"""

from __future__ import annotations

import itertools
import json
import unicodedata
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
_Row = tuple[int, int, int]  # a token's id, start and end
_BoolArray = npt.NDArray[np.bool_]


class PublishedTokenizer(Tokenizer):
    """A tokenizer that was trained elsewhere. Special tokens that it lacks are added behind its vocabulary."""

    rules = "spans-2"

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
        is_blank = np.array([char.isspace() for char in text], dtype=np.bool_)
        # The sign of a word's start as a token of its own shares the word's first character in some libraries: it is
        # the white space before it. Where there is none, the sign is of the character itself, as "´" is " \u0301".
        at = np.flatnonzero((ids[:-1] == self._sign) & (starts[1:] < ends[:-1]))
        at = at[np.append(True, is_blank)[starts[at]]]
        ends[at] = starts[at]
        starts, ends = _visible(is_blank, starts, ends)
        ends = self._with_marks(text, is_blank, starts, ends)
        places = np.unique(np.fromiter(boundaries, dtype=np.int32))
        crossed = np.searchsorted(places, starts, side="right") < np.searchsorted(places, ends, side="left")
        # Some vocabularies have their special tokens among the pieces of text; text is never one of them.
        crossed |= self.special.among(ids) & (ids != self.special.unk)
        if crossed.any():
            rows = list(zip(ids.tolist(), starts.tolist(), ends.tolist(), strict=True))
            # A token may hold the end of one character and the next one: all that share characters are cut as one.
            firsts = np.flatnonzero(np.append(True, starts[1:] >= np.maximum.accumulate(ends)[:-1]))
            runs = itertools.pairwise([*firsts.tolist(), len(rows)])
            cut: list[_Row] = []
            for (first, last), is_crossed in zip(runs, np.logical_or.reduceat(crossed, firsts), strict=True):
                cut += self._parts(text, rows[first:last], places) if is_crossed else rows[first:last]
            ids, starts, ends = np.array(cut, dtype=np.int32).T
            starts, ends = _visible(is_blank, starts, ends)
        return Tokens(ids, *_apart(is_blank, starts, ends))

    def _with_marks(self, text: str, is_blank: _BoolArray, starts: IntArray, ends: IntArray) -> IntArray:
        """Ends of visible spans, each behind what is one with its last character but no token's in the library's spans.

        Hugging Face's gives a syllable that normalisation composes the span of its first letter, and a letter whose
        accent is taken off its own. What is left out, as invisible characters are, stays nobody's.
        """
        change = np.zeros(len(text) + 1, dtype=np.int64)
        np.add.at(change, starts, 1)
        np.add.at(change, ends, -1)
        is_free = (change.cumsum()[:-1] == 0) & ~is_blank
        for place in np.flatnonzero(is_free).tolist():
            is_free[place] = unicodedata.category(text[place])[0] == "M" or self._normalized(text[place]) != ""
        return np.where(starts < ends, _following(is_free)[ends], ends).astype(np.int32)

    def _parts(self, text: str, rows: Sequence[_Row], places: IntArray) -> list[_Row]:
        """Tokens that share characters, cut at the `places` inside."""
        token, start, _ = rows[0]
        end = max(row[2] for row in rows)
        inside = places[place_of(places, start, "right") : place_of(places, end, "left")]
        parts: list[_Row] = []
        for a, b in itertools.pairwise([start, *inside.tolist(), end]):
            parts += self._part(text, a, b, bool(self.begins_word[token]) and a == start)
        return parts

    def _part(self, text: str, start: int, end: int, begins_word: bool) -> list[_Row]:
        """Tokens of a part of tokens; those of one character share it."""
        normal = self._normalized(text[start:end])
        symbols, firsts = self._symbols(normal)
        if not symbols:
            return [(self.special.unk, start, end)]
        numbers = np.arange(end - start + 1)
        if len(normal) != end - start:  # how many characters each beginning of the part becomes
            numbers = np.array([len(self._normalized(text[start : start + n])) for n in numbers])
            numbers = np.maximum.accumulate(np.minimum(numbers, len(normal)))
        before = firsts[numbers]  # symbols before each character, and of all of them
        rows = []
        at = first = 0
        while at < len(symbols):
            for stop in range(min(len(symbols), at + self._longest), at, -1):
                token = self._find(symbols[at:stop], begins_word and at == 0)
                if token is not None:
                    break
            else:
                token, stop = self.special.unk, len(symbols)
            ended = int(before[1:].searchsorted(stop, "right"))  # characters without a symbol behind the token
            begun = int(before[:-1].searchsorted(stop, "left"))
            last = end - start if stop == len(symbols) else max(ended, begun)
            rows.append((token, start + first, start + last))
            at, first = stop, ended
        return rows

    def _find(self, symbols: str, begins_word: bool) -> int | None:
        """The entry for these symbols; at the start of a word one for the inside is better than none."""
        found = self._known.get(self._entry(symbols, begins_word))
        return self._known.get(self._entry(symbols, False)) if found is None and begins_word else found

    @cached_property
    def begins_word(self) -> _BoolArray:
        """Whether each entry is one for the start of a word, (V,)."""
        return np.array([self._begins_word(token) for token in self.vocabulary])

    @cached_property
    def _sign(self) -> int:
        """The entry that says that a word starts, and nothing else; -1 where there is none."""
        return self._known.get(self._entry("", True), -1)

    @abstractmethod
    def _encode(self, text: str) -> tuple[IntArray, IntArray, IntArray]:
        """Ids and the original library's spans, arrays of their own; tokens of one character all have its span."""

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
        self._is_byte = np.array([self._processor.is_byte(i) for i in range(len(pieces))], dtype=np.bool_)
        # <0x80> to <0xBF>: the bytes of a character in UTF-8 but its first one.
        self._goes_on = self._is_byte & [piece[3:4] in "89AB" for piece in pieces]
        self._is_reordered = order is not None

    def _encode(self, text: str) -> tuple[IntArray, IntArray, IntArray]:
        found = self._processor.encode(text, return_type="offset_mapping")
        numbers = np.array(found["ids"], dtype=np.int64)
        # The library's own spans give a character that becomes several to the last token: what tokens have of the
        # normalised text says more. Of a character's bytes the first has it, and the others share it.
        _, places = self._processor.normalize(text, with_offsets=True)
        lengths = np.array([len(piece) for piece in found["pieces"]], dtype=np.int64)
        goes_on = self._goes_on[numbers]
        lengths[self._is_byte[numbers]] = 1
        lengths[goes_on] = 0
        lasts = np.cumsum(lengths)
        origins = np.array(places, dtype=np.int32)
        starts = origins[lasts - lengths - goes_on]
        following = origins.searchsorted(origins[lasts - 1], "right")
        return self._ids[numbers], starts, np.append(origins, origins[-1:])[following]

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


def _visible(is_blank: _BoolArray, starts: IntArray, ends: IntArray) -> tuple[IntArray, IntArray]:
    """Spans without white space at their ends; one of nothing else is empty, where the next character begins.

    It is not empty at the end of the character before: what stands there is the rest of that character.
    """
    following = _following(is_blank)
    places = np.arange(1, len(is_blank) + 1)
    kept = np.append(0, np.maximum.accumulate(np.where(is_blank, 0, places)))  # the end of the last character before
    begins = following[starts]
    return begins.astype(np.int32), np.where(begins >= ends, begins, kept[ends]).astype(np.int32)


def _apart(is_blank: _BoolArray, starts: IntArray, ends: IntArray) -> tuple[IntArray, IntArray]:
    """Visible spans without overlap: a shared character belongs to its first token."""
    if not len(ends):
        return starts, ends
    ends = np.maximum.accumulate(ends)
    starts = np.maximum(starts, np.append(np.int32(0), ends[:-1]))
    return np.minimum(_following(is_blank)[starts], ends).astype(np.int32), ends


def _following(is_passed: _BoolArray) -> npt.NDArray[np.int64]:
    """Of each place the first one from there on that is not passed over, (length + 1,)."""
    places = np.append(np.where(is_passed, len(is_passed), np.arange(len(is_passed))), len(is_passed))
    return np.minimum.accumulate(places[::-1])[::-1]

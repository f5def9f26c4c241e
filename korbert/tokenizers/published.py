"""Tokenizers that others have published, as they are; `published_files.py` opens their files.

Ids are those of the original library on the whole text, but for BPE that passes over characters that it does not know:
here they are unknown tokens. It also says where tokens stand; spans are tidied here: no
white space, no overlap where a character is split over tokens. Where a token crosses a forced boundary, its parts are
looked up in the vocabulary, the longest known entry first; tokens that share a character are cut together.
"""

from __future__ import annotations

import itertools
import json
import unicodedata
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sentencepiece

from korbert.errors import DataError, KorbertError
from korbert.files import read_text, write_bytes_atomically
from korbert.text import LONE_SURROGATE, WORD_START, IntArray, place_of
from korbert.tokenizers.base import SpecialTokens, Tokenizer, Tokens
from korbert.tokenizers.pretokenizer import as_bytes

_ORDER = "pieces.txt"
# What the field calls the tokens that a model needs, by the field of SpecialTokens; those for entities are ours.
ROLES: dict[str, tuple[str, ...]] = {
    "pad": ("[PAD]", "<pad>"),
    "unk": ("[UNK]", "<unk>"),
    "cls": ("[CLS]", "<s>", "<|endoftext|>"),
    "sep": ("[SEP]", "</s>", "<|endoftext|>"),
    "mask": ("[MASK]", "<mask>"),
    "ent": ("[ENT]",),
    "ent_end": ("[/ENT]",),
}
_Row = tuple[int, int, int]  # a token's id, start and end
_BoolArray = npt.NDArray[np.bool_]


class PublishedTokenizer(Tokenizer):
    """A tokenizer that was trained elsewhere. Special tokens that it lacks are added behind its vocabulary."""

    rules = "spans-3"

    def __init__(
        self,
        vocabulary: Sequence[str],
        training: dict[str, Any],
        called: Mapping[str, str] | None = None,
        unknown: str | None = None,
    ) -> None:
        """Take the original vocabulary in id order.

        called: special tokens that have other names than the usual ones, by their field of `SpecialTokens`. unknown:
        the entry that the library itself gives for what it does not know.
        """
        names = list(vocabulary)
        known = {token: i for i, token in enumerate(names)}
        ids = []
        self._called: dict[str, str] = {}  # what is needed to find the same ones again
        for role, usual in ROLES.items():
            own = (unknown,) if role == "unk" and unknown in known else ()
            plain = next((name for name in (*own, *usual) if name in known), None)
            name = plain if own else (called or {}).get(role, plain)
            if name not in known:
                name = plain
            if name is None:
                ids.append(len(names))
                names.append(usual[0])
                continue
            ids.append(known[name])
            if name != plain:
                self._called[role] = name
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
        base = -1
        for place in np.flatnonzero(is_free).tolist():
            base = base if place and is_free[place - 1] else place - 1
            is_free[place] = base >= 0 and self._goes_into(text[base:place], text[place])
        return np.where(starts < ends, _following(is_free)[ends], ends).astype(np.int32)

    def _goes_into(self, before: str, char: str) -> bool:
        """Whether a character becomes one with those before it, and is not just left out."""
        if unicodedata.category(char)[0] != "M" and not self._normalized(char):
            return False
        return len(self._normalized(before + char)) == len(self._normalized(before)) > 0

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

    def _description(self) -> dict[str, Any]:
        return super()._description() | ({"called": self._called} if self._called else {})

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

    def __init__(self, serialized: str, training: dict[str, Any], called: Mapping[str, str] | None = None) -> None:
        """Take the content of a Hugging Face tokenizer.json. Raises KorbertError without the package `tokenizers`.

        called: as for `PublishedTokenizer`.
        """
        self.serialized = serialized
        self._backend = _tokenizers().Tokenizer.from_str(_with_unknown(serialized))
        self._backend.no_truncation()
        self._backend.no_padding()
        self._backend.encode_special_tokens = True  # "[MASK]" in a text is six letters
        by_id = {i: token for token, i in self._backend.get_vocab(with_added_tokens=True).items()}
        described = json.loads(self._backend.to_str())  # older files leave out what the library fills in
        model = described["model"]
        self._prefix = model.get("continuing_subword_prefix") or ""
        self._is_wordpiece = model["type"] == "WordPiece"
        self._is_bytes = _has_bytes(described)
        unknown = model.get("unk_token")
        if model.get("unk_id") is not None:  # of unigram
            unknown = model["vocab"][model["unk_id"]][0]
        super().__init__([by_id.get(i, f"[unused {i}]") for i in range(max(by_id) + 1)], training, called, unknown)

    @classmethod
    def from_vocabulary(
        cls,
        tokens: Sequence[str],
        training: dict[str, Any],
        called: Mapping[str, str] | None = None,
        lowercase: bool = False,
        strip_accents: bool | None = None,
        spaced_hanja: bool = True,
    ) -> HuggingFaceTokenizer:
        """The WordPiece tokenizer of BERT over the entries of a vocab.txt.

        strip_accents, which takes syllables apart into letters: None for `lowercase`, as BERT has it. spaced_hanja:
        each Chinese character is a word. Raises KorbertError where no entry is for what is unknown.
        """
        parts = _tokenizers()
        vocab = {token: i for i, token in enumerate(tokens)}
        unknown = next((name for name in ((called or {}).get("unk"), *ROLES["unk"]) if name in vocab), None)
        if unknown is None:
            raise KorbertError("a WordPiece vocabulary needs an entry for what is unknown: [UNK]")
        backend = parts.Tokenizer(parts.models.WordPiece(vocab, unk_token=unknown))
        backend.normalizer = parts.normalizers.BertNormalizer(
            lowercase=lowercase, strip_accents=strip_accents, handle_chinese_chars=spaced_hanja
        )
        backend.pre_tokenizer = parts.pre_tokenizers.BertPreTokenizer()
        backend.decoder = parts.decoders.WordPiece()
        return cls(backend.to_str(), training, called)

    def _encode(self, text: str) -> tuple[IntArray, IntArray, IntArray]:
        try:
            found = self._backend.encode(text, add_special_tokens=False)
        except Exception as error:  # the library raises a bare one, where its model lacks an entry for the unknown, say
            raise KorbertError(f"{self.training.get('published', self.kind)}: cannot encode a text: {error}") from None
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
        return cls.opened(folder / "huggingface.json", description.get("training", {}), description.get("called"))

    @classmethod
    def opened(
        cls, path: Path, training: dict[str, Any], called: Mapping[str, str] | None = None
    ) -> HuggingFaceTokenizer:
        """Of a file of the library's. Raises DataError for what it does not take."""
        text = read_text(path)
        _tokenizers()
        try:
            return cls(text, training, called)
        except Exception as error:  # the library raises a bare Exception
            raise DataError(path, "content", f"is no tokenizer of Hugging Face's ({error})") from None


class PublishedSentencePiece(PublishedTokenizer):
    """A SentencePiece .model with its own normalisation, and with its own ids or those of a vocab.txt, as KoBERT's."""

    kind = "sentencepiece_model"

    def __init__(
        self,
        model: bytes,
        training: dict[str, Any],
        order: Sequence[str] | None = None,
        called: Mapping[str, str] | None = None,
    ) -> None:
        """Take the content of a .model file and, where ids are not its own, the pieces in the order of their ids.

        called: as for `PublishedTokenizer`. Raises RuntimeError or ValueError for what is no model.
        """
        if not model:
            raise ValueError("the file is empty")
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces = [self._processor.id_to_piece(i) for i in range(self._processor.get_piece_size())]
        self.pieces = tuple(pieces)  # in the order of the .model's own ids
        self._order = list(pieces if order is None else order)
        unknown = pieces[self._processor.unk_id()] if self._processor.unk_id() >= 0 else None
        super().__init__(self._order, training, called, unknown)
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
        path, training = folder / "sentencepiece.model", description.get("training", {})
        return cls.opened(path, training, pieces, description.get("called"))

    @classmethod
    def opened(
        cls,
        path: Path,
        training: dict[str, Any],
        order: Sequence[str] | None = None,
        called: Mapping[str, str] | None = None,
    ) -> PublishedSentencePiece:
        """Of a .model file. Raises DataError where it is not there, or no model."""
        if not path.is_file():
            raise DataError(path, "file", "not found")
        try:
            return cls(path.read_bytes(), training, order, called)
        except (RuntimeError, ValueError, OSError) as error:
            raise DataError(path, "model", f"not a SentencePiece model ({error})") from None


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError:
        raise KorbertError("a Hugging Face tokenizer needs a package: pip install -e '.[hf]'") from None
    return tokenizers


def _with_unknown(serialized: str) -> str:
    """A tokenizer.json with an entry for the unknown where its BPE has none and passes over characters instead.

    The library's spans are wrong behind such a one, and nobody sees that it is lost. Of bytes none is unknown.
    """
    content = json.loads(serialized)
    model = content["model"]
    is_bpe = "merges" in model and not isinstance(model["vocab"], list)
    if not is_bpe or model.get("unk_token") or model.get("byte_fallback") or _has_bytes(content):
        return serialized
    added = {token["content"]: token["id"] for token in content.get("added_tokens") or []}
    known = added | model["vocab"]
    name = next((name for name in ROLES["unk"] if name in known), ROLES["unk"][0])
    model["vocab"][name] = known.get(name, max(known.values(), default=-1) + 1)
    model["unk_token"] = name
    return json.dumps(content, ensure_ascii=False)


def _has_bytes(content: Mapping[str, Any]) -> bool:
    """Whether the symbols of a tokenizer.json are bytes."""
    return '"ByteLevel"' in json.dumps([content.get("pre_tokenizer"), content.get("decoder")])


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

"""SentencePiece subwords (Kudo 2018 unigram LM; Sennrich et al. 2016 BPE), trained here, with exact offsets.

The model is trained with the identity normaliser, because text is normalised once, upstream, where the map back to
original characters is kept.
"""

from __future__ import annotations

import functools
import io
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import sentencepiece

from korbert.errors import ConfigError, DataError, KorbertError, check_known
from korbert.files import write_bytes_atomically
from korbert.text import WORD_START, IntArray, Normalizer
from korbert.tokenizers.base import SpecialTokens
from korbert.tokenizers.pretokenizer import Pretokenizer
from korbert.tokenizers.trained import TrainedTokenizer
from korbert.tokenizers.wordcache import WordCache

MODEL_TYPES = ("unigram", "bpe")
_SPECIAL = SpecialTokens()
_OFFSET = len(_SPECIAL.names) - 1  # SentencePiece's id 0 is its own <unk>; piece 1 follows our last special token
_MAX_SENTENCE_BYTES = 1 << 20
_RESERVED = "▅"  # SentencePiece's own sign; its trainer leaves out sentences with it, without a word
_LEAST_COVERAGE = 0.98  # of the library's own check
_MANY = 1000  # symbols; fewer are segmented sooner than they are looked up
_SHORT, _MOST_REMEMBERED = 12, 1 << 17  # of pieces whose ids are kept: characters, number


class SentencePieceTokenizer(TrainedTokenizer):
    """Subwords of a SentencePiece model; a token never crosses white space."""

    kind = "sentencepiece"

    def __init__(
        self,
        model: bytes,
        normalizer: Normalizer,
        training: dict[str, Any],
        pretokenizer: Pretokenizer | None = None,
    ) -> None:
        """Wrap a serialised SentencePiece model that `train` made."""
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces = [self._processor.id_to_piece(i) for i in range(1, self._processor.get_piece_size())]
        super().__init__([*_SPECIAL.names, *pieces], normalizer, training, pretokenizer)
        self._remembered: dict[str, IntArray] = {}
        # Of each of SentencePiece's own ids: ours, and its symbols; of a character's bytes the first one has it.
        self._ids = np.arange(_OFFSET, _OFFSET + len(pieces) + 1, dtype=np.int32)
        self._ids[0] = _SPECIAL.unk
        self._lengths = np.zeros(len(pieces) + 1, dtype=np.int32)
        for i, piece in enumerate(pieces, start=1):
            is_byte = self._processor.is_byte(i)
            self._lengths[i] = _begins_character(piece) if is_byte else len(piece)

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        model_type: str = "unigram",
        normalizer: Normalizer | None = None,
        pretokenizer: Pretokenizer | None = None,
        character_coverage: float = 0.9995,
        byte_fallback: bool = False,
    ) -> SentencePieceTokenizer:
        """Learn `vocab_size` entries, special tokens included, from `texts`.

        Raises ConfigError where the settings cannot be met by the texts (a vocabulary larger than they can fill),
        KorbertError where there is no text at all.
        """
        check_known("tokenizer.model_type", model_type, MODEL_TYPES)
        if not _LEAST_COVERAGE <= character_coverage <= 1:
            raise ConfigError(
                f"tokenizer.character_coverage={character_coverage}: SentencePiece takes {_LEAST_COVERAGE} to 1"
            )
        if vocab_size <= len(_SPECIAL.names):
            raise ConfigError(f"tokenizer.vocab_size: wanted more than {len(_SPECIAL.names)}, got {vocab_size}")
        normalizer, pretokenizer = normalizer or Normalizer(), pretokenizer or Pretokenizer()
        sentences = _Sentences(texts, normalizer, pretokenizer)
        lines = iter(sentences)
        model = io.BytesIO()
        # The model keeps all settings that are given: only these are, so that it is the same for the same meaning.
        special: dict[str, Any] = {
            "required_chars": pretokenizer.required,
            "byte_fallback": byte_fallback,
            "input_format": "tsv" if sentences.counted else "",
        }
        given = {key: value for key, value in special.items() if value}
        if pretokenizer.symbols == "bytes":  # their signs are of several scripts, and a syllable of three of them
            given |= {"split_by_unicode_script": False, "split_by_number": False}
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=lines,
                model_writer=model,
                model_type=model_type,
                vocab_size=vocab_size - _OFFSET,
                character_coverage=1.0 if pretokenizer.symbols == "bytes" else character_coverage,
                normalization_rule_name="identity",
                add_dummy_prefix=False,  # the space in front of a text's first word is put there by us
                remove_extra_whitespaces=False,
                max_sentence_length=_MAX_SENTENCE_BYTES,
                unk_id=0,
                bos_id=-1,
                eos_id=-1,
                pad_id=-1,
                num_threads=2,  # a constant: the unigram trainer's sums depend on it
                minloglevel=2,
                **given,
            )
        except (RuntimeError, OSError) as error:
            if not sentences.count:
                raise KorbertError("no text to train a SentencePiece model on: the corpus is empty") from None
            reason = str(error).strip().splitlines()[-1]
            if largest := re.search(r"Vocabulary size too high .*<= (\d+)", reason):
                reason = f"they fill {int(largest[1]) + _OFFSET} entries at most, choose no more, or give more text"
            elif smallest := re.search(r"smaller than required_chars\. \d+ vs (\d+)", reason):
                reason = (
                    f"their characters alone fill {int(smallest[1]) + _OFFSET}; a lower tokenizer.character_coverage "
                    "leaves rare ones unknown"
                )
            raise ConfigError(
                f"tokenizer.vocab_size={vocab_size}: SentencePiece ({model_type}) cannot learn that many entries from "
                f"{sentences.count} texts: {reason}"
            ) from error
        training = {
            "vocab_size": vocab_size,
            "model_type": model_type,
            "character_coverage": character_coverage,
            "byte_fallback": byte_fallback,
            "texts": sentences.count,
            "characters": sentences.characters,
        }
        return cls(model.getvalue(), normalizer, training, pretokenizer)

    @property
    def processor(self) -> Any:
        """SentencePiece's own object, which knows neither normalisation nor spans; its ids are not ours."""
        return self._processor

    def scores(self) -> dict[str, float]:
        """SentencePiece's own pieces, its unknown one first, with their scores, in the order of its ids."""
        processor = self._processor
        return {processor.id_to_piece(i): processor.get_score(i) for i in range(processor.get_piece_size())}

    def _segment(self, pieces: list[str]) -> tuple[IntArray, IntArray]:
        found = self._found(pieces)
        lengths = self._lengths.take(found)
        if np.count_nonzero(found) < len(found):  # an unknown token is as long as the unknown characters it stands for
            lengths[found == 0] = self._unknown_runs(pieces)
        return self._ids.take(found), lengths

    def _segment_ids(self, pieces: list[str]) -> IntArray:
        return self._ids.take(self._found(pieces))

    def _found(self, pieces: list[str]) -> IntArray:
        """SentencePiece's ids, one piece at a time: a list would go to threads, which cost more than they save."""
        if len(pieces) == 1:
            return self._processor.encode(pieces[0], return_type="numpy")
        if sum(map(len, pieces)) >= _MANY and self._words is not None:
            return self._words(pieces)
        return np.concatenate(list(map(self._remember, pieces)))

    def _remember(self, piece: str) -> IntArray:
        """SentencePiece's ids of a piece: morphemes come again and again."""
        known = self._remembered.get(piece)
        if known is None:
            known = self._processor.encode(piece, return_type="numpy")
            if len(piece) <= _SHORT and len(self._remembered) < _MOST_REMEMBERED:
                self._remembered[piece] = known.copy()
        return known

    @cached_property
    def _words(self) -> WordCache | None:
        """What knows the words of many texts; None where a word may be segmented otherwise in a text than alone.

        It is not in BPE, whose merges look at nothing but the two tokens that become one, where no token goes on behind
        a space. Scores of BPE are ranks; unigram's are logarithms, and what their sums are rounded to can break a tie.
        """
        scores = self.scores()
        is_bpe = all(score == int(score) for score in scores.values())
        if not is_bpe or WORD_START not in scores or any(WORD_START in piece[1:] for piece in scores):
            return None
        encode = functools.partial(self._processor.encode, return_type="numpy")
        return WordCache(encode, np.array([piece.startswith(WORD_START) for piece in scores]))

    def _unknown_runs(self, pieces: list[str]) -> npt.NDArray[np.int64]:
        """How many unknown characters stand together, each time that some do; a piece's do not with another's."""
        codes = np.frombuffer("".join(pieces).encode("utf-32-le"), dtype=np.uint32)
        is_unknown = self._is_unknown.take(codes, mode="clip")
        begins = is_unknown.copy()
        begins[1:] &= ~is_unknown[:-1]
        edges = np.cumsum([0, *map(len, pieces[:-1])])
        begins[edges] = is_unknown[edges]
        places = np.flatnonzero(is_unknown)
        return np.diff(np.flatnonzero(begins[places]), append=len(places))

    @cached_property
    def _is_unknown(self) -> npt.NDArray[np.bool_]:
        """Of each character, whether it is no token by itself: none has it then, because all that they have are."""
        known = [ord(" " if piece == WORD_START else piece) for piece in self.scores() if len(piece) == 1]
        is_unknown = np.ones(max(known) + 2, dtype=np.bool_)  # the last one stands for all beyond
        is_unknown[known] = False
        return is_unknown

    def _joined(self, ids: list[int]) -> str:
        parts: list[str] = []
        for is_byte, run in itertools.groupby(ids, key=lambda i: self._processor.is_byte(i - _OFFSET)):
            tokens = [self.vocabulary[i] for i in run]
            if is_byte:
                tokens = [bytes(int(token[3:5], 16) for token in tokens).decode("utf-8", "replace")]
            parts += tokens
        return "".join(parts)

    def _payload(self) -> bytes:
        return self._model

    def _save_payload(self, folder: Path) -> None:
        write_bytes_atomically(folder / "sentencepiece.model", self._model)

    @classmethod
    def _load_payload(
        cls, folder: Path, normalizer: Normalizer, training: dict[str, Any], pretokenizer: Pretokenizer
    ) -> SentencePieceTokenizer:
        path = folder / "sentencepiece.model"
        if not path.is_file():
            raise DataError(path, "file", "not found")
        try:
            return cls(path.read_bytes(), normalizer, training, pretokenizer)
        except (RuntimeError, OSError) as error:
            raise DataError(path, "model", f"not a SentencePiece model ({error})") from error


def _begins_character(byte_piece: str) -> bool:
    """Whether the byte that a piece like <0xEA> stands for is the first one of a character in UTF-8."""
    return int(byte_piece[3:5], 16) & 0xC0 != 0x80


class _Sentences:
    """Normalised texts as the trainer wants them, counted on the way; overlong ones are cut at white space.

    Where a text is cut into pieces, each different piece is given once with its frequency.
    """

    def __init__(self, texts: Iterable[str], normalizer: Normalizer, pretokenizer: Pretokenizer) -> None:
        self.texts = texts
        self.normalizer = normalizer
        self.pretokenizer = pretokenizer
        self.counted = pretokenizer.analyser is not None
        self.count = 0
        self.characters = 0

    def __iter__(self) -> Iterator[str]:
        if not self.counted:
            return self._lines()
        counts = Counter(self._lines())
        return (f"{piece}\t{count}" for piece, count in counts.items())

    def _lines(self) -> Iterator[str]:
        limit = _MAX_SENTENCE_BYTES // 4  # a character takes at most four bytes
        for text in self.texts:
            normal = self.normalizer(text).text
            if not normal:
                continue
            self.count += 1
            self.characters += len(normal)
            pieces = self.pretokenizer(normal, learn=True).pieces
            for words in itertools.chain.from_iterable(piece.split(_RESERVED) for piece in pieces):
                rest = words
                while len(rest) > limit:
                    end = rest.rfind(" ", 1, limit)
                    end = limit if end < 0 else end
                    yield rest[:end]
                    rest = rest[end:]
                if rest:
                    yield rest

"""SentencePiece subwords (Kudo 2018 unigram LM; Sennrich et al. 2016 BPE), trained here, with exact offsets.

The model is trained with the identity normaliser, because text is normalised once, upstream, where the map back to
original characters is kept.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import sentencepiece

from korbert.errors import ConfigError, DataError, KorbertError
from korbert.files import write_bytes_atomically
from korbert.text import Normalizer
from korbert.tokenizers.base import WORD_START, SpecialTokens, Tokenizer

MODEL_TYPES = ("unigram", "bpe")
_SPECIAL = SpecialTokens()
_OFFSET = len(_SPECIAL.names) - 1  # SentencePiece's id 0 is its own <unk>; piece 1 follows our last special token
_MAX_SENTENCE_BYTES = 1 << 20


class SentencePieceTokenizer(Tokenizer):
    """Subwords of a SentencePiece model; a token never crosses white space."""

    kind = "sentencepiece"

    def __init__(self, model: bytes, normalizer: Normalizer, training: dict[str, Any]) -> None:
        """Wrap a serialised SentencePiece model that `train` made."""
        self._model = model
        self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces = [self._processor.id_to_piece(i) for i in range(1, self._processor.get_piece_size())]
        super().__init__([*_SPECIAL.names, *pieces], normalizer, training)
        self._lengths = [0] + [len(piece) for piece in pieces]

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        vocab_size: int,
        *,
        model_type: str = "unigram",
        normalizer: Normalizer | None = None,
        character_coverage: float = 0.9995,
    ) -> SentencePieceTokenizer:
        """Learn `vocab_size` entries, special tokens included, from `texts`.

        Raises ConfigError where the settings cannot be met by the texts (a vocabulary larger than they can fill),
        KorbertError where there is no text at all.
        """
        if model_type not in MODEL_TYPES:
            raise ConfigError(f"tokenizer.model_type: {model_type!r} is unknown, wanted {' or '.join(MODEL_TYPES)}")
        normalizer = normalizer or Normalizer()
        sentences = _Sentences(texts, normalizer)
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(sentences),
                model_writer=model,
                model_type=model_type,
                vocab_size=vocab_size - _OFFSET,
                character_coverage=character_coverage,
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
            )
        except (RuntimeError, OSError) as error:
            if not sentences.count:
                raise KorbertError("no text to train a SentencePiece model on: the corpus is empty") from None
            reason = str(error).strip().splitlines()[-1]
            if largest := re.search(r"Vocabulary size too high .*<= (\d+)", reason):
                reason = f"they fill {int(largest[1]) + _OFFSET} entries at most"
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
            "texts": sentences.count,
            "characters": sentences.characters,
        }
        return cls(model.getvalue(), normalizer, training)

    def _segment(self, text: str) -> tuple[list[int], list[int]]:
        # The metasymbol as a literal character would be taken for a space.
        text = text.replace(WORD_START, "_")
        ids = self._processor.encode(text)
        if 0 in ids:  # an unknown piece is as long as the unknown characters it stands for
            lengths = [len(piece) for piece in self._processor.encode(text, out_type=str)]
        else:
            lengths = [self._lengths[i] for i in ids]
        return [i + _OFFSET if i else _SPECIAL.unk for i in ids], lengths

    def _payload(self) -> bytes:
        return self._model

    def _save_payload(self, folder: Path) -> None:
        write_bytes_atomically(folder / "sentencepiece.model", self._model)

    @classmethod
    def _load(cls, folder: Path, normalizer: Normalizer, training: dict[str, Any]) -> SentencePieceTokenizer:
        path = folder / "sentencepiece.model"
        if not path.is_file():
            raise DataError(path, "file", "not found")
        try:
            return cls(path.read_bytes(), normalizer, training)
        except (RuntimeError, OSError) as error:
            raise DataError(path, "model", f"not a SentencePiece model ({error})") from error


class _Sentences:
    """Normalised texts as the trainer wants them, counted on the way; overlong ones are cut at white space."""

    def __init__(self, texts: Iterable[str], normalizer: Normalizer) -> None:
        self.texts = texts
        self.normalizer = normalizer
        self.count = 0
        self.characters = 0

    def __iter__(self) -> Iterator[str]:
        limit = _MAX_SENTENCE_BYTES // 4  # a character takes at most four bytes
        for text in self.texts:
            words = f" {self.normalizer(text).text.replace(WORD_START, '_')}"
            if len(words) == 1:
                continue
            self.count += 1
            self.characters += len(words) - 1
            while len(words) > limit:
                end = words.rfind(" ", 1, limit)
                end = limit if end < 0 else end
                yield words[:end]
                words = words[end:]
            yield words

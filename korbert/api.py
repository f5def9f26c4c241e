"""Use a trained model: `korbert.load(run).answer(question, context)`, `korbert.load(run).fill_mask(text)`."""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from korbert.config import DataConfig, expand_root
from korbert.data.batching import Batch, collate_windows, encoder_inputs
from korbert.data.decoding import Candidate, DecodingConfig
from korbert.data.pretraining import single_segment
from korbert.data.shards import stretch
from korbert.data.windows import WindowConfig, WindowMaker
from korbert.encoding import Encoding, encode_sequence
from korbert.entities import EntityAnnotator, make_annotator
from korbert.errors import KorbertError
from korbert.model import PretrainingModel, SpanModel
from korbert.prediction import predict
from korbert.study.calibration import confidence
from korbert.text import WORD_START, AnnotatedText, Span, blank_mask, span_edges
from korbert.tokenizers import SpecialTokens
from korbert.training.bundle import Bundle, load_bundle, warn_of_other_annotator
from korbert.training.runtime import Runtime

_BATCH = 16  # windows at a time
_WORD_SIGNS = (WORD_START, "Ġ")  # as tokens of their own, ours and those of others


@dataclass(frozen=True, slots=True)
class Answer:
    """Characters `[start, end)` of the context, their text, and how sure the model is of it.

    confidence: the answer's share among the n-best (softmax of their scores); calibrated where the model was fine-tuned
    with task.validation_share. nbest includes the answer itself, best first.
    """

    text: str
    start: int
    end: int
    score: float
    confidence: float
    nbest: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Filling:
    """One proposal for a masked token and its probability."""

    token: str
    token_id: int
    probability: float


@dataclass(frozen=True, slots=True)
class Reader:
    """A trained model with its tokenizer and annotator, on the CPU or the device it was loaded to."""

    bundle: Bundle
    annotator: EntityAnnotator
    device: torch.device

    def answer(self, question: str, context: str) -> Answer:
        """Find the answer to `question` in `context`.

        Raises KorbertError where the model was not fine-tuned for questions, or where either text has no letter
        and no digit.
        """
        model, description = self.bundle.model, self.bundle.description
        if not isinstance(model, SpanModel):
            raise KorbertError(
                f"{self.bundle.folder}: wanted a model that was fine-tuned to answer (span), found {description.kind}"
            )
        for name, text in (("question", question), ("context", context)):
            _check_text(name, text)
            if not any(map(str.isalnum, text)):
                raise KorbertError(f"{name}: wanted text with letters or digits, got {text!r}")
        decoding = description.decoding or DecodingConfig()
        maker = WindowMaker(
            self.bundle.tokenizer, self.annotator, description.entities, description.window or WindowConfig()
        )
        windows = maker.question(question, context)
        pad_id = self.bundle.tokenizer.special.pad
        collate = functools.partial(collate_windows, pad_id=pad_id, sharing=self._sharing)
        (candidates,) = predict(model, windows, collate, decoding, Runtime(self.device, bf16=False), _BATCH).values()
        if not candidates:
            raise KorbertError("no answer: the context has no token that could be one")
        best = candidates[0]
        sure = confidence([candidate.score for candidate in candidates], decoding.temperature)
        return Answer(best.text, best.start, best.end, best.score, sure, tuple(candidates))

    def fill_mask(self, text: str, mask: str = "[MASK]", top: int = 5) -> list[list[Filling]]:
        """Propose tokens for every `mask` in `text`: a list of the `top` most probable ones for each place.

        `mask` is a marker of this call alone; in any other text "[MASK]" is six ordinary characters. Raises
        KorbertError where the model has no masked-LM head, where `mask` is blank or not in `text`, where text
        is too long, or `top` below 1.
        """
        model, tokenizer = self.bundle.model, self.bundle.tokenizer
        if not isinstance(model, PretrainingModel):
            raise KorbertError(
                f"{self.bundle.folder}: fill_mask needs a pretraining whose encoder has a masked-LM head; this "
                "model was fine-tuned, or told replaced tokens"
            )
        _check_text("text", text)
        _check_text("mask", mask)
        if not isinstance(top, int) or top < 1:
            raise KorbertError(f"fill_mask: top={top!r}: wanted a whole number, 1 or more")
        if blank_mask(mask).all():  # of no characters, too
            raise KorbertError(f"fill_mask: mask={mask!r}: wanted a marker that can be seen")
        if mask not in text:
            raise KorbertError(f"fill_mask: {mask!r} does not occur in the text")
        special = tokenizer.special
        room = model.config.max_positions
        if text.count(mask) > room:
            raise KorbertError(f"fill_mask: {text.count(mask)} masks are too many for {room} positions")
        encoding = self._masked(text, mask)
        if len(encoding) + 2 > room:
            raise KorbertError(f"fill_mask: {len(encoding)} tokens, [CLS] and [SEP] are too many for {room} positions")
        inputs = single_segment(stretch(encoding), special)
        batch = Batch(**encoder_inputs([inputs], special.pad, sharing=self._sharing)[0]).to(self.device)
        with torch.inference_mode():
            masks = torch.nonzero(batch.token_ids.flatten() == special.mask).flatten()
            logits = model.mlm_logits(model.encode(batch), masks)
        logits = logits.index_fill(1, torch.from_numpy(special.ids).long().to(self.device), -torch.inf)
        best = logits.softmax(-1).topk(min(top, len(tokenizer) - len(special.ids)))
        return [
            [Filling(tokenizer.vocabulary[i], i, p) for i, p in zip(ids, probabilities, strict=True)]
            for ids, probabilities in zip(best.indices.tolist(), best.values.tolist(), strict=True)
        ]

    @property
    def _sharing(self) -> SpecialTokens | None:
        return self.bundle.tokenizer.special if self.bundle.description.entities.shared_positions else None

    def _masked(self, text: str, mask: str) -> Encoding:
        """Encode `text`, one [MASK] id in the place of each `mask`."""
        places = _occurrences(text, mask)
        entities = [
            entity
            for entity in self.annotator.annotate(text).entities
            if all(entity.end <= place.start or place.end <= entity.start for place in places)
        ]
        annotated = AnnotatedText(text, tuple(entities))
        given = self.bundle.description.entities
        encoding = encode_sequence(annotated, self.bundle.tokenizer, given, span_edges(text, places))
        token_ids, keep = encoding.token_ids.copy(), np.ones(len(encoding), dtype=np.bool_)
        for place in places:
            inside = np.flatnonzero((encoding.starts < place.end) & (encoding.ends > place.start))
            token_ids[inside[0]] = self.bundle.tokenizer.special.mask
            keep[inside[1:]] = False
            # The sign of a word's start is part of what the mask hides, also where it is a token of its own.
            before = max(0, inside[0] - 1)
            begins_word = place.start == 0 or text[place.start - 1].isspace()
            if begins_word and self.bundle.tokenizer.vocabulary[encoding.token_ids[before]] in _WORD_SIGNS:
                keep[before] = False
        return replace(encoding, token_ids=token_ids).take(np.flatnonzero(keep).astype(np.int32))


def _check_text(name: str, text: object) -> None:
    if not isinstance(text, str):
        raise KorbertError(f"{name}: wanted text, got {text!r}")


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise KorbertError(f"device: {name!r} is unknown, wanted cpu, cuda, or cuda:NUMBER") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise KorbertError(f"device: {name} is not here: torch sees {torch.cuda.device_count()} GPUs")
    return device


def _occurrences(text: str, part: str) -> list[Span]:
    return [Span(match.start(), match.end()) for match in re.finditer(re.escape(part), text)]


def load(run: Path | str, device: str = "cpu", data_root: Path | str | None = None) -> Reader:
    """Load a run folder for use; of a job of `experiments/pipeline.py`, the model that it ended with.

    data_root: the data folder of an annotator that needs one; None for KORBERT_DATA. Raises ConfigError where it is
    needed and not known, KorbertError for a device that is not there, DataError where the run's folder is not a
    finished run, is damaged, its tokenizer is not the model's, or a file of the annotator is missing.
    """
    place = _device(device)
    bundle = load_bundle(run)
    bundle.model.to(place)
    root = os.environ.get("KORBERT_DATA") if data_root is None else str(data_root)
    data = DataConfig(root=root)
    cache = data.cache if Path(data.cache).is_dir() else None  # in a checkout; no folder is made in other places
    annotator = make_annotator(expand_root(bundle.description.annotator, data), cache=cache)
    warn_of_other_annotator(bundle, annotator)
    return Reader(bundle, annotator, place)

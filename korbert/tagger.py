"""Entities found by a tagger that korbert trained: "tagger:RUN", see `experiments/train_tagger.py`."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from korbert.data.batching import collate_tagged
from korbert.data.tagging import TaggedWindow, TagMaker, own_scores
from korbert.entities.base import EntityAnnotator
from korbert.errors import DataError
from korbert.files import checksum
from korbert.model import TaggerModel
from korbert.text import AnnotatedText
from korbert.training.bundle import Bundle, load_bundle

_RULES = "tagger-3"  # raise the number when spans are read off the scores in another way
_BATCH = 32


class TaggerAnnotator(EntityAnnotator):
    """The entities of the most probable tags.

    Raises DataError where `run` is not a tagger's, is not finished or damaged, or its tokenizer is not the one it was
    trained with.
    """

    def __init__(self, run: Path | str, device: str = "cpu") -> None:
        _check_folder(Path(run))
        self.bundle = load_bundle(run, kind="tagger")
        self.bundle.model.to(device)
        self.device = torch.device(device)

    @cached_property
    def fingerprint(self) -> str:
        """What the weights are, all about the model but them (tokenizer, tags), and what cuts the tokens."""
        folder = self.bundle.folder
        files = "+".join(checksum(folder / name)[:16] for name in ("model.json", "model.safetensors"))
        return f"{_RULES}/{files}/{self.maker.fingerprint}"

    def annotate(self, text: str) -> AnnotatedText:
        """Return `text` with its entities."""
        return self.annotate_all([text])[0]

    def annotate_all(self, texts: Sequence[str]) -> list[AnnotatedText]:
        """Several texts, their windows in batches of like length."""
        return tag(self.maker, self._model, texts, self.device)

    @cached_property
    def maker(self) -> TagMaker:
        """Text → windows, and back."""
        return tag_maker(self.bundle)

    @property
    def _model(self) -> TaggerModel:
        assert isinstance(self.bundle.model, TaggerModel)
        return self.bundle.model


def _check_folder(run: Path) -> None:
    if not run.is_dir():
        raise DataError(run, "run", "not found: wanted the folder of a run of experiments/train_tagger.py")


def tag_maker(bundle: Bundle) -> TagMaker:
    """The windows as the tagger of `bundle` saw them in training."""
    description = bundle.description
    if description.tagging is None or not description.tags:
        raise DataError(bundle.folder / "model.json", "tags", "missing: this tagger says nothing of what it tags")
    return TagMaker(bundle.tokenizer, description.tags, description.tagging, trained=True)


def tag(maker: TagMaker, model: TaggerModel, texts: Sequence[str], device: torch.device) -> list[AnnotatedText]:
    """Texts with the entities that `model`, in evaluation mode, finds."""
    encodings = [maker.encode(text) for text in texts]
    windows = [maker.windows(encoding) for encoding in encodings]
    scores = _scores(maker, model, [window for of_text in windows for window in of_text], device)
    out, place = [], 0
    for text, encoding, of_text in zip(texts, encodings, windows, strict=True):
        own = scores[place : place + len(of_text)]
        place += len(of_text)
        out.append(AnnotatedText(text, maker.spans(text, encoding, own_scores(of_text, own)) if of_text else ()))
    return out


def _scores(
    maker: TagMaker, model: TaggerModel, windows: Sequence[TaggedWindow], device: torch.device
) -> list[np.ndarray]:
    """Log-probabilities of the tags of each window, (T, tags)."""
    collate = functools.partial(collate_tagged, pad_id=maker.tokenizer.special.pad)
    out: list[np.ndarray] = [np.empty(0)] * len(windows)
    order = sorted(range(len(windows)), key=lambda i: len(windows[i]))
    with torch.inference_mode():
        for first in range(0, len(order), _BATCH):
            chosen = order[first : first + _BATCH]
            logits = model.logits(collate([windows[i] for i in chosen]).to(device)).log_softmax(-1).cpu().numpy()
            for row, index in enumerate(chosen):
                out[index] = logits[row, : len(windows[index])]
    return out

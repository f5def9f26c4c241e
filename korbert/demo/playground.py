"""What the page shows, as JSON-able values: answers of several models, cuts of several tokenizers, masked words.

Everything stands at characters `[start, end)` of the text that was sent, code points as in Python; the page counts in
code points too.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from korbert.api import Filling, Reader
from korbert.data.decoding import DecodingConfig
from korbert.data.korquad import read_korquad
from korbert.demo.refusal import Refusal
from korbert.encoding import Encoding, EntityInput, EntityMode, encode_sequence
from korbert.entities import EntityAnnotator
from korbert.entities.types import TYPES, type_id
from korbert.errors import ConfigError, KorbertError
from korbert.study.calibration import shares
from korbert.text import WORD_START, AnnotatedText, Span
from korbert.tokenizers import Tokenizer

_MASK, _SPACE = "[MASK]", "␣"
_ARTICLES, _QUESTIONS = 40, 3  # of each file of examples, and of each of its articles


@dataclass(frozen=True, slots=True)
class Limits:
    """The longest input in characters: of a text to answer from, a question, and a text to cut or with masks."""

    text: int = 10_000
    question: int = 500
    cut: int = 1_000

    def __post_init__(self) -> None:
        for key, value in asdict(self).items():
            if value < 1:
                raise ConfigError(f"limits.{key}: wanted 1 or more, got {value}")


@dataclass(frozen=True, slots=True)
class Question:
    """A question to pick, and its gold answer."""

    text: str
    gold: str


@dataclass(frozen=True, slots=True)
class Example:
    """A text to pick. trained_on: whether the models have learned from its questions."""

    title: str
    text: str
    trained_on: bool
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Cutter:
    """A tokenizer with what it is shown with. annotator: None leaves it to the page whether entities are marked."""

    name: str
    tokenizer: Tokenizer
    entities: EntityInput
    annotator: EntityAnnotator | None = None


@dataclass(frozen=True)
class Playground:
    """Models by name, tokenizers, and the annotator whose entities are shown.

    For one thread, which `korbert.demo.server` sees to. Every method raises Refusal for what the user can
    put right.
    """

    readers: Mapping[str, Reader]
    cutters: Sequence[Cutter]
    annotator: EntityAnnotator
    annotator_name: str
    masked: Reader | None = None
    examples: Sequence[Example] = ()
    masked_examples: Sequence[str] = ()
    limits: Limits = field(default_factory=Limits)

    def setup(self) -> dict[str, Any]:
        """What there is to choose from."""
        return {
            "readers": [_described(name, reader) for name, reader in self.readers.items()],
            "cutters": [cutter.name for cutter in self.cutters],
            "annotator": self.annotator_name,
            "masked": None if self.masked is None else str(self.masked.bundle.folder),
            "types": TYPES,
            "limits": asdict(self.limits),
            "examples": [asdict(example) for example in self.examples],
            "masked_examples": list(self.masked_examples),
        }

    def answer(self, text: str, question: str) -> dict[str, Any]:
        """What every model answers; a model that cannot has a message instead."""
        _check("text", text, self.limits.text)
        _check("question", question, self.limits.question)
        return {"answers": [_answer(name, reader, text, question) for name, reader in self.readers.items()]}

    def cut(self, text: str, marked: bool) -> dict[str, Any]:
        """How every tokenizer cuts the text. marked: whether those that belong to no model are shown with entities."""
        _check("text", text, self.limits.cut)
        annotated = self.annotator.annotate(text)
        return {
            "entities": _entities(annotated),
            "rows": [_row(cutter, annotated, marked) for cutter in self.cutters],
        }

    def fill(self, text: str) -> dict[str, Any]:
        """The five most probable tokens in the place of every [MASK]."""
        _check("text", text, self.limits.cut)
        if self.masked is None:
            raise Refusal(404, "no_masked", "no pretraining run was given: start with pretrain=RUN")
        if _MASK not in text:
            raise Refusal(400, "no_mask", f"text: wanted {_MASK} somewhere in it")
        try:
            places = self.masked.fill_mask(text, _MASK)
        except KorbertError as error:
            raise Refusal(400, "model", str(error)) from None
        tokenizer = self.masked.bundle.tokenizer
        return {"places": [[_proposal(filling, tokenizer) for filling in place] for place in places]}


def _check(name: str, text: str, limit: int) -> None:
    if len(text) > limit:
        message = f"{name}: {len(text):,} characters are too many, wanted at most {limit:,}"
        raise Refusal(413, "too_long", message, field=name, limit=limit, found=len(text))
    if not any(map(str.isalnum, text)):
        raise Refusal(400, "blank", f"{name}: wanted text", field=name)


def _proposal(filling: Filling, tokenizer: Tokenizer) -> dict[str, Any]:
    text = tokenizer.decode([filling.token_id]) or filling.token
    return {
        "piece": filling.token,
        "text": _SPACE if text == WORD_START else text,
        "probability": filling.probability,
    }


def _described(name: str, reader: Reader) -> dict[str, Any]:
    description = reader.bundle.description
    return {
        "name": name,
        "mode": description.entities.mode.value,
        "annotator": description.annotator if description.entities.mode.cuts else "none",
        "parameters": sum(parameter.numel() for parameter in reader.bundle.model.parameters()),
    }


def _answer(name: str, reader: Reader, text: str, question: str) -> dict[str, Any]:
    description = reader.bundle.description
    annotated = reader.annotator.annotate(text) if description.entities.mode.cuts else AnnotatedText(text)
    began = time.perf_counter()
    try:
        found = reader.answer(question, text)
    except KorbertError as error:
        return {"name": name, "problem": str(error)}
    seconds = time.perf_counter() - began
    temperature = (description.decoding or DecodingConfig()).temperature
    parts = shares([candidate.score for candidate in found.nbest], temperature).tolist()
    return {
        "name": name,
        "text": found.text,
        "start": found.start,
        "end": found.end,
        "confidence": found.confidence,
        "nbest": [
            {"text": c.text, "start": c.start, "end": c.end, "share": share}
            for c, share in zip(found.nbest, parts, strict=True)
        ],
        "entities": _entities(annotated),
        "seconds": seconds,
    }


def _entities(annotated: AnnotatedText) -> list[dict[str, Any]]:
    return [{"start": e.start, "end": e.end, "type": _type(e), "label": e.label} for e in annotated.entities]


def _type(entity: Span) -> str:
    return TYPES[type_id(entity.label) - 1]


def _row(cutter: Cutter, annotated: AnnotatedText, marked: bool) -> dict[str, Any]:
    """One tokenizer's cut; a model's own entities go with its tokenizer."""
    entities = cutter.entities
    if cutter.annotator is None:
        entities = EntityInput.of(EntityMode.BOTH if marked else EntityMode.NONE)
    else:
        annotated = cutter.annotator.annotate(annotated.text)
    if not entities.mode.cuts:
        annotated = AnnotatedText(annotated.text)
    encoding = encode_sequence(annotated, cutter.tokenizer, entities)
    return {
        "name": cutter.name,
        "vocabulary": len(cutter.tokenizer),
        "entities": _entities(annotated),
        "tokens": _tokens(encoding, cutter.tokenizer),
    }


def _tokens(encoding: Encoding, tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Tokens with their kind: "text", "unknown", "open" for [ENT], "close" for [/ENT]."""
    special = tokenizer.special
    kinds = {special.unk: "unknown", special.ent: "open", special.ent_end: "close"}
    columns = (encoding.token_ids.tolist(), encoding.starts.tolist(), encoding.ends.tolist())
    return [
        {"id": i, "piece": tokenizer.vocabulary[i], "start": start, "end": end, "kind": kinds.get(i, "text")}
        for i, start, end in zip(*columns, strict=True)
    ]


def read_examples(files: Sequence[Path], trained_on: Sequence[Path]) -> list[Example]:
    """Texts and questions to pick from question files: the first paragraph of every article that has one.

    trained_on: those of the files that the models have learned from.
    """
    learned = {path.resolve() for path in trained_on}
    return [
        Example(
            article.title,
            article.paragraphs[0].context,
            path.resolve() in learned,
            tuple(Question(q.text, q.answers[0].text) for q in article.paragraphs[0].questions[:_QUESTIONS]),
        )
        for path in files
        for article in [article for article in read_korquad(path).articles if article.paragraphs][:_ARTICLES]
    ]

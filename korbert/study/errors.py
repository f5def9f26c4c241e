"""What kind of questions a model answers, and how it misses the others.

Everything here is said of the questions and of the texts of answers, so that models of any kind can be compared.
"""

from __future__ import annotations

import bisect
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from korbert.data.korquad import Answer, KorquadDataset, Paragraph, Question
from korbert.entities.base import EntityAnnotator
from korbert.entities.types import TYPES, type_id
from korbert.josa import is_josa
from korbert.metrics import QuestionScore, normalize_answer, score_question
from korbert.text import Span

# The first that is found in a question.
_QUESTION_WORDS = {
    "누구 (who)": "누구|누가|누굴", "언제 (when)": "언제|며칠|몇\\s?년|몇\\s?월|몇\\s?일|연도|년도|날짜",
    "어디 (where)": "어디|어느\\s?(?:곳|나라|지역|도시|국가)", "몇, 얼마 (how many)": "몇|얼마",
    "왜 (why)": "왜|이유|까닭", "어떻게 (how)": "어떻게|어떠한\\s?방법", "무엇 (what)": "무엇|무슨|뭐|무얼|뭘",
    "어느, 어떤 (which)": "어느|어떤",
}  # fmt: skip
_LENGTHS = ((2, "1–2"), (4, "3–4"), (8, "5–8"), (16, "9–16"))
_BRACKETED = re.compile(r"\([^()]*\)|\[[^\[\]]*\]|《|》|〈|〉|<|>|‘|’|“|”|'|\"|「|」|『|』")
_RIGHT, _NOTHING = "right", "no answer"
# What questions are broken down by without a model, by a word that a command line takes.
BREAKDOWNS = {
    "type": "answer type", "entities": "answer and entities", "length": "answer length (characters)",
    "question": "question word", "paragraph": "paragraph length (characters)",
}  # fmt: skip
OF_ENTITIES = frozenset({"type", "entities"})  # those that an annotator decides
OF_ANSWERS = ("type", "entities", "length")  # those that can be asked of a model's answer, too
# Kinds of error in the order of the report.
KINDS = ("josa", "brackets and quotes", "longer", "shorter", "overlapping", "elsewhere", _NOTHING)


@dataclass(frozen=True, slots=True)
class Case:
    """One question, what was answered, and what is known of it."""

    id: str
    question: str
    gold: str
    predicted: str
    score: QuestionScore
    kind: str  # "right", or one of KINDS
    groups: Mapping[str, str]  # what the report breaks down by → which part this one belongs to
    article: str


def cases(
    dataset: KorquadDataset,
    predictions: Mapping[str, str],
    annotator: EntityAnnotator,
    windows: Mapping[str, int] | None = None,
) -> list[Case]:
    """All questions in file order. windows: how many model inputs each needs, where that is known."""
    found = []
    asked = annotated_questions(dataset, annotator)
    for (article, _, question), groups in zip(dataset.questions(), question_groups(asked, windows), strict=True):
        predicted = predictions.get(question.id)
        answers = [answer.text for answer in question.answers]
        score = score_question(predicted, answers) if predicted is not None else QuestionScore(0.0, 0.0)
        kind = _RIGHT if score.exact_match else error_kind(predicted, answers)
        found.append(Case(question.id, question.text, answers[0], predicted or "", score, kind, groups, article.title))
    return found


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with its paragraph, and the entities of that."""

    paragraph: Paragraph
    question: Question
    entities: Sequence[Span]


def annotated_questions(dataset: KorquadDataset, annotator: EntityAnnotator) -> list[Asked]:
    """All questions in file order."""
    found = []
    for article in dataset.articles:
        for paragraph in article.paragraphs:
            entities = annotator.annotate(paragraph.context).entities
            found += [Asked(paragraph, question, entities) for question in paragraph.questions]
    return found


def question_groups(asked: Iterable[Asked], windows: Mapping[str, int] | None = None) -> list[dict[str, str]]:
    """What each question is broken down by (values of BREAKDOWNS) → its part; windows: see `cases`."""
    found = []
    for one in asked:
        question = one.question
        parts = answer_parts(question.answers[0], one.entities)
        parts |= {"question": question_word(question.text), "paragraph": _paragraph_length(one.paragraph)}
        groups = {title: parts[key] for key, title in BREAKDOWNS.items()}
        found.append(groups | ({"windows": _count(windows[question.id])} if windows is not None else {}))
    return found


def answer_parts(answer: Answer, entities: Sequence[Span]) -> dict[str, str]:
    """The part of an answer by each key of OF_ANSWERS; entities: of its context."""
    if not answer.text:
        return dict.fromkeys(OF_ANSWERS, _NOTHING)
    return {
        "type": answer_type(answer, entities), "entities": _relation(answer, entities), "length": _length(answer.text),
    }  # fmt: skip


def answer_type(answer: Answer, entities: Sequence[Span]) -> str:
    """The common type of the entity that the answer is, or lies in; "other" without one."""
    for entity in _touching(answer, entities):
        if entity.start <= answer.start and answer.end <= entity.end:
            return TYPES[type_id(entity.label) - 1]
    return "number" if any(map(str.isdigit, answer.text)) else "other"


def _touching(answer: Answer, entities: Sequence[Span]) -> Sequence[Span]:
    """Those that share a character with the answer, of entities in order."""
    first = bisect.bisect_right(entities, answer.start, key=lambda entity: entity.end)
    return entities[first : bisect.bisect_left(entities, answer.end, key=lambda entity: entity.start)]


def _relation(answer: Answer, entities: Sequence[Span]) -> str:
    touching = _touching(answer, entities)
    if not touching:
        return "no entity"
    if any((entity.start, entity.end) == (answer.start, answer.end) for entity in touching):
        return "is an entity"
    if any(entity.start <= answer.start and answer.end <= entity.end for entity in touching):
        return "inside of an entity"
    return "holds an entity"


def _length(text: str) -> str:
    return next((name for limit, name in _LENGTHS if len(text) <= limit), "17 or more")


def _paragraph_length(paragraph: Paragraph) -> str:
    size = len(paragraph.context)
    return "below 400" if size < 400 else "400–599" if size < 600 else "600–999" if size < 1000 else "1000 or more"


def _count(windows: int) -> str:
    return str(windows) if windows < 4 else "4 or more"


def question_word(question: str) -> str:
    """What is asked for, by the question word."""
    return next((name for name, pattern in _QUESTION_WORDS.items() if re.search(pattern, question)), "none of these")


def error_kind(predicted: str | None, answers: Iterable[str]) -> str:
    """How a wrong answer misses the gold answer that it is nearest to; see KINDS."""
    if not (predicted or "").strip():
        return _NOTHING
    assert predicted is not None
    kinds = {_kind(predicted, gold) for gold in answers}
    return next(kind for kind in KINDS if kind in kinds)


def _kind(predicted: str, gold: str) -> str:
    for longer, shorter in ((predicted, gold), (gold, predicted)):
        if longer.startswith(shorter) and is_josa(longer[len(shorter) :], shorter[-1]):
            return "josa"
    ours, theirs = (normalize_answer(_BRACKETED.sub(" ", text)) for text in (predicted, gold))
    if ours == theirs and ours:
        return "brackets and quotes"
    ours, theirs = ("".join(normalize_answer(text).split()) for text in (predicted, gold))
    if theirs and theirs in ours:
        return "longer"
    if ours and ours in theirs:
        return "shorter"
    return "overlapping" if _share_an_end(ours, theirs) else "elsewhere"


def _share_an_end(a: str, b: str) -> bool:
    """Whether the end of one is the beginning of the other, by two characters or more."""
    return max(_overlap(a, b), _overlap(b, a)) >= 2


def _overlap(first: str, second: str) -> int:
    """The longest beginning of `second` that `first` ends with, in characters (Knuth, Morris and Pratt 1977)."""
    size = min(len(first), len(second))
    joined = [*second[:size], "", *first[len(first) - size :]]  # "" is no character
    borders = [0]
    for char in joined[1:]:
        border = borders[-1]
        while border and joined[border] != char:
            border = borders[border - 1]
        borders.append(border + (joined[border] == char))
    return borders[-1]


@dataclass(frozen=True, slots=True)
class Part:
    """Of the questions of one part of a breakdown: how many, and their scores in percent."""

    name: str
    questions: int
    exact_match: float
    f1: float


def breakdown(found: Sequence[Case], key: str) -> list[Part]:
    """Scores by the parts of `key`, the largest part first."""
    parts: dict[str, list[Case]] = {}
    for case in found:
        parts.setdefault(case.groups[key], []).append(case)
    return sorted((_part(name, of_part) for name, of_part in parts.items()), key=lambda part: -part.questions)


def _part(name: str, found: Sequence[Case]) -> Part:
    matches, f1 = ([getattr(case.score, key) for case in found] for key in ("exact_match", "f1"))
    return Part(name, len(found), 100 * sum(matches) / len(found), 100 * sum(f1) / len(found))


def kinds(found: Sequence[Case]) -> dict[str, int]:
    """How often each kind of error occurs, in the order of KINDS."""
    counts = Counter(case.kind for case in found)
    return {kind: counts[kind] for kind in KINDS}

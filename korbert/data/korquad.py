"""KorQuAD 1.0 (and SQuAD 1.1) question files: read with every check, split by article, predictions in and out.

The layout is Lim et al. 2019, https://korquad.github.io: articles hold paragraphs, a paragraph holds its context and
questions, an answer is a text and the character at which it starts in the context.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from korbert.data.download import KORQUAD_DEV, KORQUAD_TRAIN
from korbert.errors import ConfigError, DataError
from korbert.files import json_value, read_json, read_text, text_checksum, write_json_atomically

FOLDS = 5
VERSION = "KorQuAD_v1.0"
_SHOWN_PROBLEMS = 5
_DOWNLOADED = (KORQUAD_TRAIN.name, KORQUAD_DEV.name)
_T = TypeVar("_T", str, int, list[Any])


@dataclass(frozen=True, slots=True)
class Answer:
    """`text` stands at characters `[start, end)` of the context, exactly."""

    text: str
    start: int

    @property
    def end(self) -> int:
        """The character behind the last one."""
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Question:
    """A question and its gold answers; the first is the one that training uses."""

    id: str
    text: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A context and what is asked about it."""

    context: str
    questions: tuple[Question, ...]


@dataclass(frozen=True, slots=True)
class Article:
    """The unit by which data sets are split: two paragraphs of one article never land on different sides."""

    title: str
    paragraphs: tuple[Paragraph, ...]

    @property
    def num_questions(self) -> int:
        """How many questions its paragraphs have."""
        return sum(len(paragraph.questions) for paragraph in self.paragraphs)


@dataclass(frozen=True)
class KorquadDataset:
    """The articles of one file, or of several merged. `len()` counts questions."""

    articles: tuple[Article, ...]
    version: str
    path: Path

    def __len__(self) -> int:
        return sum(article.num_questions for article in self.articles)

    def article_numbers(self) -> list[int]:
        """The article of each question, by its place: questions of one article are alike, and drawn together."""
        return [number for number, article in enumerate(self.articles) for _ in range(article.num_questions)]

    def questions(self) -> Iterator[tuple[Article, Paragraph, Question]]:
        """All questions in file order, with where they belong."""
        for article in self.articles:
            for paragraph in article.paragraphs:
                for question in paragraph.questions:
                    yield article, paragraph, question

    def texts(self) -> Iterator[str]:
        """Every context once, and behind it its questions, in file order."""
        for article in self.articles:
            for paragraph in article.paragraphs:
                yield paragraph.context
                yield from (question.text for question in paragraph.questions)

    def gold(self) -> dict[str, list[str]]:
        """Gold answer texts by question id."""
        return {question.id: [answer.text for answer in question.answers] for _, _, question in self.questions()}

    @property
    def has_answers(self) -> bool:
        """Whether there are gold answers."""
        return any(question.answers for _, _, question in self.questions())

    @property
    def is_korquad_1(self) -> bool:
        """Whether the file says so, as "KorQuAD_v1.0_dev"; the official script asks for no more of it either."""
        return self.version.startswith(f"{VERSION}_")

    def subset(self, articles: Sequence[int]) -> KorquadDataset:
        """The articles with these indices, in the given order."""
        return KorquadDataset(tuple(self.articles[i] for i in articles), self.version, self.path)


def read_korquad(path: Path, answered: bool = True) -> KorquadDataset:
    """Read and check a whole question file, with or without a byte order mark.

    answered: whether its questions must have gold answers; if not, all of them have some or none does.

    Raises DataError naming the file and, as `data[0].paragraphs[3].qas[1].answers[0].answer_start`, the first few of
    all the places that are wrong: missing keys, wrong types, an empty context or answer, an answer that does not stand
    where `answer_start` says, an id used twice. A file that is no JSON, or has a key twice in one object, is refused as
    `read_json` says. A file of KorQuAD 2, whose layout is another one, is named as such.
    """
    if path.name in _DOWNLOADED and not path.exists():
        raise DataError(path, "file", "not found; experiments/prepare_data.py downloads it")
    reader = _Reader(read_json(path))
    if reader.is_korquad_2():
        raise DataError(path, "version", f"{reader.version()!r} is KorQuAD 2: {_KORQUAD_2}")
    dataset = KorquadDataset(reader.articles(), reader.version(), path)
    if answered or dataset.has_answers:
        reader.problems += reader.unanswered
    if not reader.problems and len(dataset) == 0:
        reader.problem("data", "holds no question")
    if reader.problems:
        where, problem = reader.problems[0]
        others = [f"{path}: {w}: {p}" for w, p in reader.problems[1:_SHOWN_PROBLEMS]]
        hidden = len(reader.problems) - _SHOWN_PROBLEMS
        raise DataError(path, where, "\n".join([problem, *others, *([f"and {hidden} more"] if hidden > 0 else [])]))
    return dataset


class _Reader:
    """Walks the JSON, collecting problems instead of stopping at the first."""

    def __init__(self, root: dict[str, Any]) -> None:
        self.root = root
        self.problems: list[tuple[str, str]] = []
        self.unanswered: list[tuple[str, str]] = []  # problems, too, where there must be gold answers
        self.seen: dict[str, str] = {}  # question id → where

    def problem(self, where: str, what: str) -> None:
        self.problems.append((where, what))

    def version(self) -> str:
        version = self.root.get("version", "")
        return version if isinstance(version, str) else str(version)

    def is_korquad_2(self) -> bool:
        """By its version, or because an article has questions where KorQuAD 1.0 has paragraphs."""
        data = self.root.get("data")
        first = data[0] if isinstance(data, list) and data and isinstance(data[0], dict) else {}
        return self.version().startswith("KorQuAD_v2") or ("qas" in first and "paragraphs" not in first)

    def articles(self) -> tuple[Article, ...]:
        articles = []
        for where, value in self._objects(self.root, "data", ""):
            title = value.get("title", "")  # TyDi QA's files have none
            if not isinstance(title, str):
                self.problem(f"{where}.title", f"wanted a string, found {_kind(title)}")
            articles.append(Article(str(title), self._paragraphs(value, where)))
        return tuple(articles)

    def _paragraphs(self, article: dict[str, Any], where: str) -> tuple[Paragraph, ...]:
        paragraphs = []
        for here, value in self._objects(article, "paragraphs", where):
            context = self._get(value, "context", here, str)
            if context is not None and not context.strip():
                self.problem(f"{here}.context", "is empty")
                context = None
            questions = tuple(
                question
                for at, qa in self._objects(value, "qas", here)
                if (question := self._question(qa, context, at)) is not None
            )
            if context is not None:
                paragraphs.append(Paragraph(context, questions))
        return tuple(paragraphs)

    def _question(self, value: dict[str, Any], context: str | None, where: str) -> Question | None:
        id = self._get(value, "id", where, str)
        text = self._get(value, "question", where, str)
        if text is not None and not text.strip():
            self.problem(f"{where}.question", "is empty")
        if id is not None and self.seen.setdefault(id, where) != where:
            self.problem(f"{where}.id", f"{id!r} is also the id of {self.seen[id]}")
        answers = self._answers(value, context, where)
        return Question(id, text, answers) if id is not None and text is not None else None

    def _answers(self, value: dict[str, Any], context: str | None, where: str) -> tuple[Answer, ...]:
        if value.get("is_impossible") is True:
            self.problem(f"{where}.is_impossible", "is true: KorQuAD 1.0 has no questions without an answer")
        elif value.get("answers") == []:
            self.unanswered.append((f"{where}.answers", "wanted at least one answer, the list is empty"))
        elif "answers" not in value:
            self.unanswered.append((f"{where}.answers", "this key is missing"))
            return ()
        return tuple(
            answer
            for at, item in self._objects(value, "answers", where)
            if (answer := self._answer(item, context, at)) is not None
        )

    def _answer(self, value: dict[str, Any], context: str | None, where: str) -> Answer | None:
        text = self._get(value, "text", where, str)
        start = self._get(value, "answer_start", where, int)
        if text is not None and not text.strip():
            self.problem(f"{where}.text", "is empty")
            return None
        if text is None or start is None or context is None:
            return None
        if start < 0 or not context.startswith(text, start):
            shown = len(self.problems) < _SHOWN_PROBLEMS  # nobody reads the others, and looking takes time
            self.problem(f"{where}.answer_start", _mismatch(text, start, context) if shown else "")
        return Answer(text, start)

    def _objects(self, parent: dict[str, Any], key: str, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
        """The JSON objects of the list `parent[key]`, each with its path."""
        here = f"{where}.{key}" if where else key
        for index, value in enumerate(self._get(parent, key, where, list) or []):
            if isinstance(value, dict):
                yield f"{here}[{index}]", value
            else:
                self.problem(f"{here}[{index}]", f"wanted an object, found {_kind(value)}")

    def _get(self, parent: dict[str, Any], key: str, where: str, kind: type[_T]) -> _T | None:
        here = f"{where}.{key}" if where else key
        if key not in parent:
            self.problem(here, "this key is missing")
            return None
        value = parent[key]
        if not isinstance(value, kind) or isinstance(value, bool):
            self.problem(here, f"wanted {_NAMES[kind]}, found {_kind(value)}")
            return None
        return value


_KORQUAD_2 = (
    "its contexts are web pages, its answers parts of HTML, its metric another one; wanted KorQuAD 1.0, or any file "
    "with the layout of SQuAD 1.1"
)
_NAMES = {str: "a string", int: "an integer", list: "a list", dict: "an object", bool: "true or false"}


def _kind(value: Any) -> str:
    return "null" if value is None else _NAMES.get(type(value), "a number")


def _mismatch(text: str, start: int, context: str) -> str:
    """What stands at `start` instead of `text`, and where `text` does stand."""
    found = context[start : start + len(text)] if 0 <= start < len(context) else None
    there = f"has {found!r}" if found else f"is outside the context of {len(context)} characters"
    message = f"character {start} {there}, not the answer {text!r}"
    near = min(max(start, 0), len(context))
    places = [at for at in (context.rfind(text, 0, near + len(text)), context.find(text, near)) if at >= 0]
    if places:
        return f"{message}; the nearest {text!r} is at {min(places, key=lambda at: abs(at - start))}"
    if unicodedata.normalize("NFC", text) in unicodedata.normalize("NFC", context):
        return f"{message}; it is there in another Unicode form: context and answer must both be NFC or both NFD"
    return f"{message}, which is nowhere in the context"


def merge(*datasets: KorquadDataset) -> KorquadDataset:
    """One data set of several. Raises DataError for a question id that two of them use."""
    owners: dict[str, Path] = {}
    for dataset in datasets:
        for _, _, question in dataset.questions():
            if question.id in owners:
                raise DataError(dataset.path, f"question id {question.id!r}", f"is also used in {owners[question.id]}")
        owners |= dict.fromkeys(dataset.gold(), dataset.path)
    articles = tuple(article for dataset in datasets for article in dataset.articles)
    return KorquadDataset(articles, " + ".join(dataset.version for dataset in datasets), datasets[0].path)


def korquad_dev_5fold(dataset: KorquadDataset) -> list[list[int]]:
    """Article indices of the five folds of the `korquad-dev-5fold` protocol, for KorQuAD dev or any other file.

    Articles by number of questions, largest first, ties by sha256(title) in hexadecimal; each in turn goes to the fold
    with the fewest questions so far, ties to the lowest fold. No article is in two folds.
    """
    articles = dataset.articles
    order = sorted(
        range(len(articles)),
        key=lambda i: (-articles[i].num_questions, text_checksum(articles[i].title)),
    )
    folds: list[list[int]] = [[] for _ in range(FOLDS)]
    sizes = [0] * FOLDS
    for index in order:
        smallest = sizes.index(min(sizes))
        folds[smallest].append(index)
        sizes[smallest] += articles[index].num_questions
    return [sorted(fold) for fold in folds]


def fold_split(dataset: KorquadDataset, fold: int) -> tuple[KorquadDataset, KorquadDataset]:
    """(train, test) of one fold of `korquad-dev-5fold`: test is fold `fold`, train the other four.

    Raises ConfigError for a fold that does not exist or a file with too few articles to split.
    """
    if not 0 <= fold < FOLDS:
        raise ConfigError(f"fold: wanted 0 to {FOLDS - 1}, got {fold}")
    if len(dataset.articles) < FOLDS:
        raise ConfigError(
            f"fold={fold}: {dataset.path} has {len(dataset.articles)} articles; cross-validation needs {FOLDS} or more"
        )
    test = korquad_dev_5fold(dataset)[fold]
    train = sorted(set(range(len(dataset.articles))) - set(test))
    held_out = dataset.subset(test)
    if not len(held_out):
        raise ConfigError(f"fold={fold}: {dataset.path} has no question in this fold")
    return dataset.subset(train), held_out


def read_predictions(path: Path) -> dict[str, str]:
    """Read a prediction file in the official layout, a JSON object of question id → answer text.

    Raises DataError for broken JSON, an answer that is not text, or an id that occurs twice.
    """
    value = json_value(path, read_text(path))
    if not isinstance(value, dict):
        raise DataError(path, "top level", f"wanted an object of question id to answer text, found {_kind(value)}")
    if isinstance(value.get("data"), list):
        raise DataError(path, "data", "this is a file of questions; wanted an object of question id to answer text")
    for id, answer in value.items():
        if not isinstance(answer, str):
            raise DataError(path, f"question {id!r}", f"wanted the answer's text, found {_kind(answer)}")
    return value


def write_predictions(path: Path, predictions: Mapping[str, str]) -> None:
    """Write predictions in the layout that the official script reads."""
    write_json_atomically(path, dict(predictions))

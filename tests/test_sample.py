"""The bundled sample: valid, large and varied enough, and split so that nothing that is scored was seen before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from korbert.data.corpus import read_documents
from korbert.data.korquad import KorquadDataset, merge, read_korquad
from korbert.text import Normalizer


@pytest.fixture(scope="module")
def parts(sample: Path) -> tuple[KorquadDataset, KorquadDataset]:
    return tuple(read_korquad(sample / f"KorQuAD_sample_{name}.json") for name in ("train", "dev"))  # type: ignore[return-value]


def test_size(parts: tuple[KorquadDataset, KorquadDataset]) -> None:
    whole = merge(*parts)
    paragraphs = [paragraph for article in whole.articles for paragraph in article.paragraphs]
    assert len(paragraphs) >= 60
    assert len(whole) >= 300
    assert len({paragraph.context for paragraph in paragraphs}) == len(paragraphs)
    assert len({article.title for article in whole.articles}) == len(whole.articles) >= 30
    assert min(len(paragraph.questions) for paragraph in paragraphs) >= 4
    assert len(parts[1]) >= 60


def test_official_layout(sample: Path) -> None:
    """Keys, key order and types of the official files, so that any KorQuAD 1.0 reader takes the sample."""
    for name in ("train", "dev"):
        data = json.loads((sample / f"KorQuAD_sample_{name}.json").read_text("utf-8"))
        assert list(data) == ["version", "data"]
        for article in data["data"]:
            assert list(article) == ["paragraphs", "title"]
            for paragraph in article["paragraphs"]:
                assert list(paragraph) == ["qas", "context"]
                for qa in paragraph["qas"]:
                    assert list(qa) == ["answers", "id", "question"]
                    assert [list(answer) for answer in qa["answers"]] == [["text", "answer_start"]]


def test_answers_and_questions_are_clean(parts: tuple[KorquadDataset, KorquadDataset]) -> None:
    questions = set()
    for dataset in parts:
        for _, paragraph, question in dataset.questions():
            answer = question.answers[0]
            assert paragraph.context[answer.start : answer.end] == answer.text == answer.text.strip()
            assert 0 < len(answer.text) <= 25
            assert question.text.endswith("?")
            assert answer.text not in question.text, question.id
            for text in (question.text, paragraph.context):
                assert Normalizer("NFC")(text).text == text, question.id
            questions.add(question.text)
    assert len(questions) == len(parts[0]) + len(parts[1])


def test_corpus_is_the_training_articles_and_only_they(
    sample: Path, parts: tuple[KorquadDataset, KorquadDataset]
) -> None:
    documents = list(read_documents(sample / "corpus.txt"))
    assert documents == [[p.context for p in article.paragraphs] for article in parts[0].articles]
    held_out = {p.context for article in parts[1].articles for p in article.paragraphs}
    assert not held_out & {paragraph for document in documents for paragraph in document}

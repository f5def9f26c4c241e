"""Reading question files: the real ones, every way to be wrong, folds, merging, predictions."""

from __future__ import annotations

import copy
import hashlib
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from korbert.config import FinetuneConfig, KorquadTask
from korbert.data.korquad import (
    Answer,
    Article,
    KorquadDataset,
    Paragraph,
    Question,
    fold_split,
    korquad_dev_5fold,
    merge,
    read_korquad,
    read_predictions,
    write_predictions,
)
from korbert.errors import ConfigError, DataError
from korbert.lines import json_line
from korbert.tasks.finetune import korquad_data

CONTEXT = "세종은 조선의 왕이다. 세종의 이름은 이도이다."
GOOD: dict[str, Any] = {
    "version": "KorQuAD_v1.0_test",
    "data": [
        {
            "title": "세종",
            "paragraphs": [
                {
                    "context": CONTEXT,
                    "qas": [
                        {"id": "q1", "question": "누구?", "answers": [{"text": "세종", "answer_start": 13}]},
                        {"id": "q2", "question": "이름?", "answers": [{"text": "이도", "answer_start": 21}]},
                    ],
                }
            ],
        }
    ],
}
QA = "data[0].paragraphs[0].qas[0]"


def write(path: Path, value: Any) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), "utf-8")
    return path


def changed(where: list[Any], value: Any = None, remove: bool = False) -> dict[str, Any]:
    """GOOD with one place changed."""
    data = copy.deepcopy(GOOD)
    node: Any = data
    for key in where[:-1]:
        node = node[key]
    if remove:
        del node[where[-1]]
    else:
        node[where[-1]] = value
    return data


PARAGRAPH = ["data", 0, "paragraphs", 0]
QUESTION = [*PARAGRAPH, "qas", 0]
ANSWER = [*QUESTION, "answers", 0]


def test_reads_what_is_written(tmp_path: Path) -> None:
    dataset = read_korquad(write(tmp_path / "good.json", GOOD))
    assert len(dataset) == 2
    assert dataset.version == "KorQuAD_v1.0_test"
    article, paragraph, question = next(dataset.questions())
    assert (article.title, paragraph.context, question.id, question.text) == ("세종", CONTEXT, "q1", "누구?")
    assert question.answers == (Answer("세종", 13),)
    assert CONTEXT[question.answers[0].start : question.answers[0].end] == "세종"
    assert dataset.gold() == {"q1": ["세종"], "q2": ["이도"]}
    (tmp_path / "bom.json").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "good.json").read_bytes())
    assert read_korquad(tmp_path / "bom.json").articles == dataset.articles


@pytest.mark.parametrize(
    ("data", "where", "problem"),
    [
        (changed(["data"], remove=True), "data", "missing"),
        (changed(["data"], []), "data", "holds no question"),
        (changed(["data"], {"title": "x"}), "data", "wanted a list, found an object"),
        (changed(["data", 0], "x"), "data[0]", "wanted an object, found a string"),
        (changed(["data", 0, "title"], 3), "data[0].title", "wanted a string, found an integer"),
        (changed(["data", 0, "paragraphs"], remove=True), "data[0].paragraphs", "missing"),
        (changed([*PARAGRAPH, "context"], remove=True), "data[0].paragraphs[0].context", "missing"),
        (changed([*PARAGRAPH, "context"], " \n"), "data[0].paragraphs[0].context", "is empty"),
        (changed([*PARAGRAPH, "qas"], None), "data[0].paragraphs[0].qas", "wanted a list, found null"),
        (changed([*QUESTION, "id"], remove=True), f"{QA}.id", "missing"),
        (changed([*QUESTION, "id"], 7), f"{QA}.id", "wanted a string, found an integer"),
        (changed([*QUESTION, "id"], "q2"), "data[0].paragraphs[0].qas[1].id", f"'q2' is also the id of {QA}"),
        (changed([*QUESTION, "question"], " "), f"{QA}.question", "is empty"),
        (changed([*QUESTION, "answers"], []), f"{QA}.answers", "at least one answer"),
        (changed([*QUESTION, "is_impossible"], True), f"{QA}.is_impossible", "is true"),
        (changed([*ANSWER, "text"], remove=True), f"{QA}.answers[0].text", "missing"),
        (changed([*ANSWER, "text"], ""), f"{QA}.answers[0].text", "is empty"),
        (changed([*ANSWER, "answer_start"], remove=True), f"{QA}.answers[0].answer_start", "missing"),
        (changed([*ANSWER, "answer_start"], "13"), f"{QA}.answers[0].answer_start", "wanted an integer, found a str"),
        (changed([*ANSWER, "answer_start"], 13.0), f"{QA}.answers[0].answer_start", "wanted an integer, found a num"),
        (changed([*ANSWER, "answer_start"], True), f"{QA}.answers[0].answer_start", "found true or false"),
        (changed([*ANSWER, "answer_start"], 12), f"{QA}.answers[0].answer_start", "the nearest '세종' is at 13"),
        (changed([*ANSWER, "answer_start"], 2), f"{QA}.answers[0].answer_start", "the nearest '세종' is at 0"),
        (changed([*ANSWER, "answer_start"], -13), f"{QA}.answers[0].answer_start", "outside the context of 26"),
        (changed([*ANSWER, "answer_start"], 99), f"{QA}.answers[0].answer_start", "outside the context of 26"),
        (changed([*ANSWER, "text"], "태종"), f"{QA}.answers[0].answer_start", "nowhere in the context"),
        (
            changed([*ANSWER, "text"], unicodedata.normalize("NFD", "세종")),
            f"{QA}.answers[0].answer_start",
            "another Unicode form",
        ),
    ],
)
def test_wrong_files_name_the_place(tmp_path: Path, data: Any, where: str, problem: str) -> None:
    path = write(tmp_path / "bad.json", data)
    with pytest.raises(DataError) as error:
        read_korquad(path)
    assert str(error.value).startswith(f"{path}: {where}: ")
    assert problem in str(error.value)


def test_questions_without_gold_answers_are_read_where_none_is_wanted(tmp_path: Path) -> None:
    """All of a file, or none: one that lacks some is a mistake."""
    bare = changed([*QUESTION, "answers"], remove=True)
    some = write(tmp_path / "some.json", bare)
    with pytest.raises(DataError, match=re.escape(f"{QA}.answers: this key is missing")):
        read_korquad(some, answered=False)
    bare["data"][0]["paragraphs"][0]["qas"][1] |= {"answers": [], "is_impossible": False}
    none = write(tmp_path / "none.json", bare)
    with pytest.raises(DataError, match=r"missing\n.*at least one answer"):
        read_korquad(none)
    dataset = read_korquad(none, answered=False)
    assert not dataset.has_answers
    assert dataset.gold() == {"q1": [], "q2": []}
    good = write(tmp_path / "good.json", GOOD)
    assert read_korquad(good, answered=False) == read_korquad(good)
    assert read_korquad(good).has_answers
    wrong = copy.deepcopy(bare)
    wrong["data"][0]["paragraphs"][0]["qas"][0]["question"] = " "
    with pytest.raises(DataError, match=r"question: is empty$"):
        read_korquad(write(tmp_path / "wrong.json", wrong), answered=False)


def test_several_problems_are_told_together(tmp_path: Path) -> None:
    data = copy.deepcopy(GOOD)
    for number in range(8):
        data["data"][0]["paragraphs"][0]["qas"].append(
            {"id": f"n{number}", "question": "?", "answers": [{"text": "세종", "answer_start": 5}]}
        )
    with pytest.raises(DataError, match="and 3 more") as error:
        read_korquad(write(tmp_path / "bad.json", data))
    for number in range(2, 7):
        assert f"qas[{number}].answers[0].answer_start" in str(error.value)


def test_a_file_that_is_not_json(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"bad.json: line 2 column 3: broken JSON"):
        read_korquad(write(tmp_path / "bad.json", '{"data": [\n  x]}'))
    with pytest.raises(DataError, match="wanted a JSON object, found list"):
        read_korquad(write(tmp_path / "bad.json", "[]"))
    with pytest.raises(DataError, match=r"none\.json: file: not found"):
        read_korquad(tmp_path / "none.json")
    (tmp_path / "bad.json").write_bytes("세종".encode("cp949"))
    with pytest.raises(DataError, match="byte 0: not UTF-8"):
        read_korquad(tmp_path / "bad.json")


LONG, DEEP = "9" * 5000, "[" * 100_000


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"version": "KorQuAD_v1.0_test", "data": [], "data": []}', r"key 'data': occurs twice in one object, \{"),
        (json.dumps(GOOD).replace('"id": "q2"', '"id": "q2", "id": "q3"'), r"key 'id': occurs twice .*'id': 'q3'"),
        (json.dumps(GOOD).replace(": 13", f": {LONG}"), r"content: a number that cannot be read \(.*5000 digits\)$"),
        (json.dumps(GOOD).replace(": 13", f": {DEEP}"), "content: brackets within brackets, deeper than can be read"),
    ],
)
def test_a_file_that_would_not_be_read_as_it_is_written(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"bad\.json: {message}"):
        read_korquad(write(tmp_path / "bad.json", text))


KORQUAD_2: dict[str, Any] = {
    "version": "KorQuAD_v2.1_dev",
    "data": [
        {
            "title": "세종", "url": "", "raw_html": "<p>세종</p>", "context": "<html><p>세종</p></html>",
            "qas": [{"id": "1", "question": "누구?", "answer": {"text": "세종", "answer_start": 9}}],
        }
    ],
}  # fmt: skip


@pytest.mark.parametrize("version", ["KorQuAD_v2.1_dev", "", "KorQuAD_v1.0_dev"])
def test_korquad_2_is_named(tmp_path: Path, version: str) -> None:
    """By its version, and by its layout whatever version it names."""
    with pytest.raises(DataError, match=rf"^.*2\.json: version: {version!r} is KorQuAD 2: .* wanted KorQuAD 1\.0"):
        read_korquad(write(tmp_path / "2.json", {**KORQUAD_2, "version": version}))


@pytest.mark.parametrize(
    ("version", "is_it"),
    [("KorQuAD_v1.0_dev", True), ("KorQuAD_v1.0_my_dev", True), ("KorQuAD_v1.0", False), ("KorQuAD_v1.1_dev", False),
     ("1.1", False), ("", False)],
)  # fmt: skip
def test_versions_are_told_apart(tmp_path: Path, version: str, is_it: bool) -> None:
    """The official script's rule takes all but the last part of the name; parts in between may be anyone's own."""
    dataset = read_korquad(write(tmp_path / "x.json", {**GOOD, "version": version}))
    assert dataset.is_korquad_1 == is_it
    if version.count("_") == 2:
        assert is_it == ("_".join(version.split("_")[:-1]) == "KorQuAD_v1.0")


def test_official_dev_and_tydi(data_root: Path) -> None:
    dataset = read_korquad(data_root / "korquad" / "KorQuAD_v1.0_dev.json")
    paragraphs = [paragraph for article in dataset.articles for paragraph in article.paragraphs]
    assert (len(dataset.articles), len(paragraphs), len(dataset)) == (140, 964, 5774)
    folds = korquad_dev_5fold(dataset)
    assert [len(dataset.subset(fold)) for fold in folds] == [1157, 1155, 1153, 1153, 1156]
    assert len(read_korquad(data_root / "tydiqa_ko" / "tydiqa_goldp_ko_train.json")) == 1621


def make_dataset(sizes: list[int], name: str = "x") -> KorquadDataset:
    articles = tuple(
        Article(
            f"{name}{i}",
            (Paragraph("가나", tuple(Question(f"{name}{i}-{j}", "?", (Answer("가", 0),)) for j in range(size))),),
        )
        for i, size in enumerate(sizes)
    )
    return KorquadDataset(articles, name, Path(f"{name}.json"))


def reference_folds(dataset: KorquadDataset) -> list[set[str]]:
    """The protocol's sentence, word for word, over titles."""
    articles = [(a.title, sum(len(p.questions) for p in a.paragraphs)) for a in dataset.articles]
    articles.sort(key=lambda item: hashlib.sha256(item[0].encode("utf-8", "surrogatepass")).hexdigest())
    articles.sort(key=lambda item: item[1], reverse=True)
    folds: list[set[str]] = [set() for _ in range(5)]
    counts = [0] * 5
    for title, count in articles:
        k = min(range(5), key=lambda i: (counts[i], i))
        folds[k].add(title)
        counts[k] += count
    return folds


@given(st.lists(st.integers(0, 9), min_size=5, max_size=30), st.sampled_from(["x", "세종", "\ud800"]))
def test_folds_follow_the_protocol_and_share_no_article(sizes: list[int], name: str) -> None:
    dataset = make_dataset(sizes, name)
    folds = korquad_dev_5fold(dataset)
    assert [{dataset.articles[i].title for i in fold} for fold in folds] == reference_folds(dataset)
    assert sorted(i for fold in folds for i in fold) == list(range(len(sizes)))
    for k in range(5):
        held_out = sum(sizes[i] for i in folds[k])
        if held_out == 0:
            with pytest.raises(ConfigError, match="has no question in"):
                fold_split(dataset, k)
            continue
        train, test = fold_split(dataset, k)
        assert not train.gold().keys() & test.gold().keys()
        assert train.gold().keys() | test.gold().keys() == dataset.gold().keys()
        assert {a.title for a in test.articles} == reference_folds(dataset)[k]


def test_folds_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="wanted 0 to 4, got 5"):
        fold_split(make_dataset([1] * 9), 5)
    with pytest.raises(ConfigError, match=r"x\.json has 4 articles"):
        fold_split(make_dataset([1] * 4), 0)
    with pytest.raises(ConfigError, match=r"fold=4: x\.json has no question in this fold"):
        fold_split(make_dataset([3, 2, 1, 1, 0]), 4)


def test_merge_keeps_all_and_refuses_an_id_used_twice() -> None:
    first, second = make_dataset([2, 3], "a"), make_dataset([1], "b")
    both = merge(first, second)
    assert both.gold() == first.gold() | second.gold()
    assert len(both.articles) == 3
    with pytest.raises(DataError, match=r"a\.json: question id 'a0-0': is also used in a\.json"):
        merge(first, second, first)


def test_predictions_round_trip(tmp_path: Path) -> None:
    predictions = {"q2": '세종 "대왕"\n', "q1": ""}
    path = tmp_path / "deep" / "predictions.json"
    write_predictions(path, predictions)
    assert read_predictions(path) == predictions
    assert list(read_predictions(path)) == ["q2", "q1"]
    assert '세종 \\"대왕\\"' in path.read_text("utf-8")


def test_halves_of_surrogate_pairs_come_through_predictions(tmp_path: Path) -> None:
    """A file of JSON may have them, as escapes, and any reader of JSON must be able to read what is written."""
    predictions = {"\ud800": "가\udfff\\\ud83d", "\\ud800": "\\\\ud800"}
    path = tmp_path / "predictions.json"
    write_predictions(path, predictions)
    assert json.loads(path.read_text("utf-8")) == read_predictions(path) == predictions


@given(st.text(st.characters(categories=["Cs", "Lo", "Po"])))
def test_any_text_comes_through_json(text: str) -> None:
    written = json_line([text, {text: text}])
    assert json.loads(written.encode()) == json.loads(json.dumps([text, {text: text}]))
    assert all(char in written for char in text if not "\ud800" <= char <= "\udfff" and char not in '"\\')  # readable


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"q1": "a", "q1": "b"}', "key 'q1': occurs twice in one object"),
        ('{"q1": 3}', "question 'q1': wanted the answer's text, found an integer"),
        ('{"q1": null}', "found null"),
        ('["a"]', "wanted an object of question id to answer text, found a list"),
        (json.dumps(GOOD), "data: this is a file of questions; wanted an object of question id to answer text"),
        ('{"q1": ', "line 1 column 8: broken JSON"),
        (f'{{"q1": {LONG}}}', "content: a number that cannot be read"),
        (f'{{"q1": {DEEP}', "content: brackets within brackets, deeper than can be read"),
    ],
)
def test_wrong_predictions(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as error:
        read_predictions(write(tmp_path / "p.json", text))
    assert message in str(error.value)


def test_one_context_is_on_one_side(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Articles that share a context are trained on together or held out together; one of the test is warned of."""

    def file(name: str, articles: list[list[str]]) -> str:
        def paragraph(number: str, context: str) -> dict[str, Any]:
            answer = {"text": context[:2], "answer_start": 0}
            return {"context": context, "qas": [{"id": number, "question": f"{number}은 누구?", "answers": [answer]}]}

        data = [
            {"title": f"{name}{i}", "paragraphs": [paragraph(f"{name}-{i}-{j}", c) for j, c in enumerate(contexts)]}
            for i, contexts in enumerate(articles)
        ]
        return str(write(tmp_path / f"{name}.json", {"version": "KorQuAD_v1.0_dev", "data": data}))

    first = file("first", [["세종은 왕이다."], ["이순신은 장군이다."], ["김구는 독립운동가이다."]])
    second = file("second", [["세종은 왕이다.", "다윈은 학자이다."], ["다윈은 학자이다."], ["퀴리는 학자이다."]])
    for seed in range(8):
        task = KorquadTask(train=[first, second], test=file("test", [["달은 위성이다."]]), validation_share=0.2)
        train, validation, _ = korquad_data(FinetuneConfig(task=task, seed=seed))
        assert validation is not None
        sides = [{p.context for a in part.articles for p in a.paragraphs} for part in (train, validation)]
        assert not sides[0] & sides[1]
        assert sum(len(part.articles) for part in (train, validation)) == 6
    assert "are trained on" not in caplog.text
    shared = KorquadTask(train=[first], test=file("again", [["세종은 왕이다."]]))
    korquad_data(FinetuneConfig(task=shared))
    assert "task.train: 1 contexts of task.test are trained on, and 0 of the questions on them" in caplog.text

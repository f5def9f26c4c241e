"""Two prediction files against each other, and the error report: by hand, as laws, and as a user calls them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from korbert.config import ComparePredictionsConfig, DataConfig, ErrorsConfig, EvaluateConfig
from korbert.data.korquad import KorquadDataset, read_korquad, write_predictions
from korbert.entities import make_annotator
from korbert.errors import ConfigError, DataError
from korbert.files import read_json, write_json_atomically
from korbert.metrics import character_f1, exact_match
from korbert.study.errors import KINDS, answer_type, breakdown, cases, error_kind, kinds, question_word
from korbert.study.significance import paired_difference
from korbert.tasks.answering import _is_same_file
from korbert.tasks.evaluate import evaluate_korquad
from korbert.tasks.predictions import compare_predictions, report_errors


@pytest.fixture(scope="module")
def dev(sample: Path) -> KorquadDataset:
    return read_korquad(sample / "KorQuAD_sample_dev.json")


# ---- significance ----


def test_differences_against_the_normal_test() -> None:
    """Many independent questions: the paired z-test's interval and p-value."""
    from math import erfc, sqrt

    rng = np.random.default_rng(4)
    a = rng.normal(size=3000)
    b = a + rng.normal(0.05, 1, size=3000)
    found = paired_difference(a.tolist(), b.tolist(), range(3000))
    gains = b - a
    error = gains.std() / np.sqrt(3000)
    assert found.difference == pytest.approx(gains.mean())
    assert found.low == pytest.approx(gains.mean() - 1.96 * error, abs=0.15 * error)
    assert found.high == pytest.approx(gains.mean() + 1.96 * error, abs=0.15 * error)
    assert found.p == pytest.approx(erfc(abs(gains.mean()) / error / sqrt(2)), abs=0.01)
    turned = paired_difference(b.tolist(), a.tolist(), range(3000))
    assert (turned.difference, turned.low, turned.high, turned.p) == pytest.approx(
        (-found.difference, -found.high, -found.low, found.p)
    )


def test_equal_predictions_do_not_differ() -> None:
    found = paired_difference([1.0, 0.0, 1.0], [1.0, 0.0, 1.0], [0, 0, 1])
    assert (found.difference, found.low, found.high, found.p) == (0, 0, 0, 1)


@pytest.mark.slow
def test_p_values_are_uniform_without_a_difference() -> None:
    """Over many pairs of equally good models, one in twenty is below 0.05, with grouped questions too."""
    rng = np.random.default_rng(5)
    small = 0
    for _ in range(300):
        groups = np.repeat(np.arange(40), rng.integers(5, 20, size=40))
        gains = rng.normal(size=40)[groups] + rng.normal(size=len(groups))
        small += paired_difference([0.0] * len(gains), gains.tolist(), groups.tolist()).p < 0.05
    assert 0.015 <= small / 300 <= 0.12


# ---- kinds ----


@pytest.mark.parametrize(
    ("predicted", "gold", "kind"),
    [
        ("서울에서", "서울", "josa"),
        ("서울", "서울에서", "josa"),
        ("세종(世宗)", "세종", "brackets and quotes"),
        ("《토지》의 작가", "토지", "longer"),
        ("박경리의 토지", "토지", "longer"),
        ("경리", "박경리", "shorter"),
        ("조선의 제4대 국왕", "제4대 국왕 세종", "overlapping"),
        ("부산", "서울", "elsewhere"),
        ("", "서울", "no answer"),
        (None, "서울", "no answer"),
        ("  ", "서울", "no answer"),
    ],
)
def test_kinds_of_errors_by_hand(predicted: str | None, gold: str, kind: str) -> None:
    assert error_kind(predicted, [gold]) == kind
    assert error_kind(predicted, ["전혀 다른 답", gold]) == kind  # the nearest of several


@pytest.mark.parametrize(
    ("question", "word"),
    [
        ("누가 만들었는가?", "누구"),
        ("세종이 태어난 곳은 어디인가?", "어디"),
        ("몇 년에 끝났나?", "언제"),
        ("모두 몇 명인가?", "몇"),
        ("왜 떠났는가?", "왜"),
        ("그 책의 이름은?", "none"),
        ("무엇을 만들었나?", "무엇"),
        ("어느 팀인가?", "어느"),
    ],
)
def test_question_words_by_hand(question: str, word: str) -> None:
    assert question_word(question).startswith(word)


def test_every_question_is_in_one_part_of_each_breakdown(dev: KorquadDataset) -> None:
    predictions = {q.id: q.answers[0].text + ("은" if i % 3 else "") for i, (_, _, q) in enumerate(dev.questions())}
    windows = dict.fromkeys(predictions, 2)
    found = cases(dev, predictions, make_annotator("expressions-mecab+mecab"), windows)
    assert [case.id for case in found] == list(predictions)
    assert sum(kinds(found).values()) + sum(case.kind == "right" for case in found) == len(dev)
    assert set(kinds(found)) == set(KINDS)
    for key in found[0].groups:
        parts = breakdown(found, key)
        assert sum(part.questions for part in parts) == len(dev)
        mean = sum(part.questions * part.exact_match for part in parts) / len(dev)
        assert mean == pytest.approx(100 * np.mean([case.score.exact_match for case in found]))
    assert breakdown(found, "windows")[0].name == "2"
    types = {part.name for part in breakdown(found, "answer type")}
    assert {"entity", "number", "time"} <= types
    answer = next(q.answers[0] for _, _, q in dev.questions())
    assert answer_type(answer, []) in ("other", "number")


# ---- doors ----


@pytest.fixture
def files(dev: KorquadDataset, tmp_path: Path) -> dict[str, Any]:
    gold = {q.id: q.answers[0].text for _, _, q in dev.questions()}
    write_predictions(tmp_path / "gold.json", gold)
    half = {key: text if i % 2 else text + "도" for i, (key, text) in enumerate(gold.items())}
    write_predictions(tmp_path / "half.json", half)
    few = dict(list(gold.items())[:10]) | {"unknown": "x"}
    write_predictions(tmp_path / "few.json", few)
    write_predictions(tmp_path / "other.json", {"u1": "x", "u2": "y"})
    return {"gold": str(tmp_path / "gold.json"), "half": str(tmp_path / "half.json"), "few": str(tmp_path / "few.json"),
            "other": str(tmp_path / "other.json"), "dataset": str(dev.path), "count": len(gold)}  # fmt: skip


def test_comparing_two_files(files: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    result = compare_predictions(ComparePredictionsConfig(files["half"], files["gold"], files["dataset"]))
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(json.dumps(result))
    count = files["count"]
    wrong = -(-count // 2)
    assert result["exact_match"]["b"] == 100
    assert result["exact_match"]["difference"] == pytest.approx(100 * wrong / count)
    assert result["exact_match"]["low"] > 0
    assert result["exact_match"]["p"] < 0.01
    assert result["exact_in"] == {"both": count - wrong, "a alone": 0, "b alone": wrong, "neither": 0}


def test_files_that_do_not_fit_are_said_and_scored_as_officially(
    files: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    result = compare_predictions(ComparePredictionsConfig(files["few"], files["gold"], files["dataset"]))
    said = capsys.readouterr().err
    assert f"a: {files['count'] - 10} of {files['count']} questions have no prediction; each scores 0 (" in said
    assert "a: 1 of 11 predictions are for no question here; ignored (unknown)" in said
    assert "b:" not in said
    assert result["exact_match"]["a"] == pytest.approx(1000 / files["count"])
    assert result["unanswered"] == {"a": files["count"] - 10, "b": 0}
    assert result["unknown"] == {"a": 1, "b": 0}
    with pytest.raises(ConfigError, match=r"have no question of .* in common"):
        compare_predictions(ComparePredictionsConfig(files["other"], files["gold"], files["dataset"]))
    assert "is this another data set, or another version of it?" in capsys.readouterr().err
    with pytest.raises(DataError, match="not found"):
        compare_predictions(ComparePredictionsConfig("nowhere.json", files["gold"], files["dataset"]))


def official_score(dataset: dict[str, Any], predictions: dict[str, str]) -> tuple[float, float]:
    """EM and F1 as the official script's loop has them: over the questions of the file, whatever else there is."""
    exact, f1, total = 0.0, 0.0, 0
    for article in dataset["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                total += 1
                if question["id"] in predictions:
                    answers = [answer["text"] for answer in question["answers"]]
                    exact += max(exact_match(predictions[question["id"]], answer) for answer in answers)
                    f1 += max(character_f1(predictions[question["id"]], answer) for answer in answers)
    return 100 * exact / total, 100 * f1 / total


@pytest.mark.parametrize("version", ["KorQuAD_v1.0_dev", "KorQuAD_v1.1_dev", "1.1", None])
def test_other_ids_and_versions_are_said_and_scored_as_officially(
    files: dict[str, Any], version: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = json.loads(Path(files["dataset"]).read_text("utf-8"))
    content = {"data": content["data"], **({} if version is None else {"version": version})}
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(content), "utf-8")
    half = json.loads(Path(files["half"]).read_text("utf-8"))
    given = dict(list(half.items())[5:]) | {"x1": "세종", "x2": ""}
    write_predictions(tmp_path / "given.json", given)
    evaluate_korquad(EvaluateConfig(str(path), str(tmp_path / "given.json")))
    out, err = capsys.readouterr()
    score = json.loads(out)
    assert (score["exact_match"], score["f1"]) == pytest.approx(official_score(content, given))
    assert (score["total"], score["unanswered"], score["unknown"]) == (files["count"], 5, 2)
    assert f"5 of {files['count']} questions have no prediction; each scores 0 (" in err
    assert f"2 of {files['count'] - 3} predictions are for no question here; ignored (x1, x2)" in err
    named = "names no version" if version is None else f"version is {version!r}"
    assert (f"{named}, not KorQuAD_v1.0_*: scores are not comparable" in err) == (version != "KorQuAD_v1.0_dev")
    evaluate_korquad(EvaluateConfig(str(path), files["other"]))
    assert "not one question fits: is this another data set, or another version of it?" in capsys.readouterr().err


def test_report_of_a_file(files: dict[str, Any], tmp_path: Path) -> None:
    report = report_errors(
        ErrorsConfig(predictions=files["half"], dataset=files["dataset"], folder=str(tmp_path / "report"))
    )
    assert report["kinds"]["josa"] > 0.8 * report["questions"] / 2
    assert report["official"]["exact_match"]["mean"] < 55
    assert report["kortok"]["exact_match"] > 80  # another metric: josa do not count
    text = (tmp_path / "report" / "errors.md").read_text("utf-8")
    assert "## By question word" in text
    assert "kortok variant" in text
    assert "scored on KorQuAD_sample_dev.json: " in text
    page = (tmp_path / "report" / "errors.html").read_text("utf-8")
    assert "<h2>By answer type</h2>" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_an_annotator_s_files_may_lie_in_the_data_folder(files: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("서울\n", "utf-8")
    config = ErrorsConfig(
        predictions=files["half"], dataset=files["dataset"], folder=str(tmp_path / "report"),
        annotator="gazetteer:{root}/names.txt", data=DataConfig(root=str(tmp_path), cache=str(tmp_path / "cache")),
    )  # fmt: skip
    assert report_errors(config)["annotator"] == "gazetteer:{root}/names.txt"
    assert (tmp_path / "cache").is_dir()


def test_what_is_shown_is_escaped(dev: KorquadDataset, tmp_path: Path) -> None:
    evil = {q.id: "<script>alert(1)</script>|x" for _, _, q in dev.questions()}
    write_predictions(tmp_path / "evil.json", evil)
    report_errors(ErrorsConfig(predictions=str(tmp_path / "evil.json"), dataset=str(dev.path)))
    assert "<script>" not in (tmp_path / "errors.html").read_text("utf-8")
    markdown = (tmp_path / "errors.md").read_text("utf-8")
    assert "<script>" not in markdown
    assert "\\|x" in markdown


def test_what_a_report_needs() -> None:
    with pytest.raises(ConfigError, match="give run=FOLDER of a fine-tuning, or predictions=FILE and dataset=FILE"):
        report_errors(ErrorsConfig(predictions="x.json"))
    with pytest.raises(ConfigError, match="dataset is decided by run=r"):
        report_errors(ErrorsConfig(run="r", dataset="x.json"))


def test_report_of_a_run_that_is_none_of_questions(tmp_path: Path) -> None:
    write_json_atomically(tmp_path / "record.json", {"task": "pretrain", "results": {}})
    with pytest.raises(DataError, match="is 'pretrain': it has answered no questions"):
        report_errors(ErrorsConfig(run=str(tmp_path)))
    with pytest.raises(DataError, match="not found"):
        report_errors(ErrorsConfig(run=str(tmp_path / "nowhere")))


def test_a_file_is_the_same_by_its_content(sample: Path, tmp_path: Path) -> None:
    """Where both are here; another one may have the same name."""
    dev = sample / "KorQuAD_sample_dev.json"
    other, copy = tmp_path / dev.name, tmp_path / "copy.json"
    other.write_text("{}")
    copy.write_bytes(dev.read_bytes())
    data = DataConfig(root=str(sample))
    assert _is_same_file("{root}/" + dev.name, str(copy), data)
    assert not _is_same_file(str(dev), str(other), data)
    assert _is_same_file("{root}/" + dev.name, str(other), DataConfig(root=None))
    assert _is_same_file(f"elsewhere/{dev.name}", str(other), data)


def test_one_article_promises_nothing(dev: KorquadDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = json.loads(dev.path.read_text("utf-8"))
    raw["data"] = raw["data"][:1]
    write_json_atomically(tmp_path / "one.json", raw)
    answers = {q["id"]: q["answers"][0]["text"] for p in raw["data"][0]["paragraphs"] for q in p["qas"]}
    write_predictions(tmp_path / "right.json", answers)
    write_predictions(tmp_path / "wrong.json", dict.fromkeys(answers, "?"))
    names = [str(tmp_path / name) for name in ("one.json", "wrong.json", "right.json")]
    found = compare_predictions(ComparePredictionsConfig(dataset=names[0], a=names[1], b=names[2]))
    assert found["f1"] == {"a": 0.0, "b": 100.0, "difference": 100.0, "low": None, "high": None, "p": None}
    assert "one article: unknown" in capsys.readouterr().err
    report_errors(ErrorsConfig(dataset=names[0], predictions=names[2]))
    for name in ("errors.md", "errors.html"):
        assert "one article: unknown" in (tmp_path / name).read_text("utf-8")


def test_differences_stay_within_what_can_be(dev: KorquadDataset, tmp_path: Path) -> None:
    """Resamples of few articles are stretched, but no difference of percentages is beyond 100."""
    content = read_json(dev.path)
    write_json_atomically(tmp_path / "few.json", content | {"data": content["data"][:3]})
    gold = {key: answers[0] for key, answers in read_korquad(tmp_path / "few.json").gold().items()}
    half = dict.fromkeys([*gold][: len(gold) // 10], "전혀 다른 답")
    write_predictions(tmp_path / "right.json", gold | half)
    write_predictions(tmp_path / "wrong.json", dict.fromkeys(gold, "전혀 다른 답"))
    found = compare_predictions(
        ComparePredictionsConfig(
            a=str(tmp_path / "right.json"), b=str(tmp_path / "wrong.json"), dataset=str(tmp_path / "few.json")
        )
    )
    assert all(-100 <= found[key]["low"] <= found[key]["high"] <= 100 for key in ("exact_match", "f1"))

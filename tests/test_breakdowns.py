"""Differences by kinds of questions: the parts are the questions by hand, and add up to the whole."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from studies import SAMPLE, asked, finetuned, report, rows_of

from korbert.config import DataConfig, PublishConfig
from korbert.data.korquad import Answer, read_predictions
from korbert.entities import make_annotator
from korbert.errors import ConfigError, KorbertError
from korbert.files import read_json, write_json_atomically
from korbert.metrics import score_per_question
from korbert.study.errors import BREAKDOWNS, annotated_questions, answer_parts, cases, question_groups
from korbert.study.multibootstrap import bootstrap_difference
from korbert.study.page import BEGIN, END
from korbert.study.significance import holm
from korbert.tasks.publish import publish_results

ANNOTATOR = "expressions-mecab"  # of the runs, and not one that anything has by default
ARMS = {"none": ("entities=none",), "both": ("entities=mecab", f"entities.annotator={ANNOTATOR}", "entities.mode=both")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two arms of one published model, three seeds, two folds."""
    root = tmp_path_factory.mktemp("arms")
    for number, (mode, overrides) in enumerate(ARMS.items()):
        for seed in (1, 2, 3):
            for fold in (0, 1):
                name = f"{mode}-{seed}-{fold}"
                finetuned(root / name, 0.4 + 0.2 * number, *overrides, seed=seed, fold=fold, chance=7 * number + fold)
    return root


def scores(runs: Path, mode: str, key: str) -> np.ndarray:
    rows = []
    for seed in (1, 2, 3):
        row: list[float] = []
        for fold in (0, 1):
            predictions = read_predictions(runs / f"{mode}-{seed}-{fold}" / "predictions.json")
            row += [100 * getattr(s, key) for s in score_per_question(asked(fold).gold(), predictions).values()]
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("key", BREAKDOWNS)
def test_parts_are_the_questions_by_hand(runs: Path, key: str, tmp_path: Path) -> None:
    said = report(tmp_path, runs, baseline="entities.mode:none", breakdowns=[key])
    rows = rows_of(said["md"].replace("\\", ""), f"Differences by {BREAKDOWNS[key].partition(' (')[0]}")
    annotator = make_annotator(ANNOTATOR)
    of_folds = [question_groups(annotated_questions(asked(fold), annotator)) for fold in (0, 1)]
    names = np.array([groups[BREAKDOWNS[key]] for of_fold in of_folds for groups in of_fold])
    articles = [(fold, article.title) for fold in (0, 1) for article, _, _ in asked(fold).questions()]
    assert {row[BREAKDOWNS[key]] for row in rows} == set(names)
    p_values, shown = [], []
    for measure, name in (("EM (%)", "exact_match"), ("F1 (%)", "f1")):
        without, with_ = (scores(runs, mode, name) for mode in ARMS)
        whole = 0.0
        of_measure = [row for row in rows if row["measure"] == measure]
        for row in of_measure:
            there = names == row[BREAKDOWNS[key]]
            a, b = without[:, there], with_[:, there]
            assert int(row["questions"]) == there.sum()
            assert float(row["baseline's"]) == pytest.approx(a.mean(), abs=0.006)
            difference = float(row["difference"].rstrip("*").replace("−", "-"))
            assert difference == pytest.approx(b.mean() - a.mean(), abs=0.006)
            whole += difference * int(row["questions"]) / len(names)
            if name == "exact_match":
                pairs = [(x, y) for x in a / 100 for y in b / 100]
                mended = 100 * np.mean([(y > x).mean() for x, y in pairs])
                made = 100 * np.mean([(x > y).mean() for x, y in pairs])
                assert float(row["mended (%)"]) == pytest.approx(mended, abs=0.06)
                assert float(row["made (%)"]) == pytest.approx(made, abs=0.06)
                assert mended - made == pytest.approx(b.mean() - a.mean())
            of_part = [article for article, is_there in zip(articles, there, strict=True) if is_there]
            if len(set(of_part)) > 1:
                wanted = bootstrap_difference(a, b, of_part, paired=True)
                low, high = max(-100.0, wanted.low), min(100.0, wanted.high)
                assert row["95 % interval"] == f"{low:+.2f} to {high:+.2f}".replace("-", "−")
                p_values.append(wanted.p)
                shown.append(row["p (Holm)"])
            else:
                assert row["95 % interval"] == row["p"] == ""
        assert whole == pytest.approx(with_.mean() - without.mean(), abs=0.02)
        sizes = [int(row["questions"]) for row in of_measure]
        assert sizes == sorted(sizes, reverse=True)
    assert shown == ["< 0.0001" if p < 0.0001 else f"{p:.4f}" for p in holm(p_values)]
    assert BREAKDOWNS[key] in said["html"]
    assert (f"Entities are those that {ANNOTATOR} finds" in said["md"]) == (key in ("type", "entities"))
    assert "mended" in said["tex"]


def test_a_models_report_has_the_same_parts() -> None:
    """What one model's errors are broken down by, and what differences are, are one thing."""
    dataset, annotator = asked(None), make_annotator(ANNOTATOR)
    groups = question_groups(annotated_questions(dataset, annotator))
    assert [case.groups for case in cases(dataset, {}, annotator)] == groups


def test_what_cannot_be(runs: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="breakdowns: 'colour' is unknown, wanted type, entities, length"):
        report(tmp_path, runs, baseline="entities.mode:none", breakdowns=["type", "colour"])
    with pytest.raises(ConfigError, match="breakdowns and trends are of differences: give a baseline"):
        report(tmp_path, runs, breakdowns=["type"])


@pytest.fixture(scope="module")
def placed(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same runs, which say where their answers stand: the second arm's at the beginning of an entity, if it can."""
    root = tmp_path_factory.mktemp("placed")
    annotator = make_annotator(ANNOTATOR)
    for run in sorted(runs.iterdir()):
        shutil.copytree(run, root / run.name)
        predictions = read_predictions(run / "predictions.json")
        listed = {}
        for number, one in enumerate(annotated_questions(asked(int(run.name[-1])), annotator)):
            text, start = predictions[one.question.id], number % len(one.paragraph.context)
            if run.name.startswith("both"):
                start = next((entity.start for entity in one.entities), start)
            answer = {"text": text, "start": start, "end": start + len(text), "score": 1.0}
            listed[one.question.id] = {"confidence": 1.0, "answers": [answer]}
        write_json_atomically(root / run.name / "nbest.json", listed)
    return root


def places(runs: Path, mode: str, seed: int, key: str) -> list[str]:
    """The part of each answer of a seed's runs, by hand."""
    found = []
    for fold in (0, 1):
        listed = read_json(runs / f"{mode}-{seed}-{fold}" / "nbest.json")
        for one in annotated_questions(asked(fold), make_annotator(ANNOTATOR)):
            best = listed[one.question.id]["answers"][0]
            text = one.paragraph.context[best["start"] : best["end"]]
            found.append(answer_parts(Answer(text, best["start"]), one.entities)[key])
    return found


@pytest.mark.parametrize("key", ["type", "entities", "length"])
def test_what_is_answered_is_counted_by_hand(placed: Path, key: str, tmp_path: Path) -> None:
    said = report(tmp_path, placed, baseline="entities.mode:none", breakdowns=[key])
    title = BREAKDOWNS[key].partition(" (")[0]
    rows = rows_of(said["md"].replace("\\", ""), f"What is answered, by {title}")
    whole = {row[BREAKDOWNS[key]]: row for row in rows}
    annotator = make_annotator(ANNOTATOR)
    asked_for = [one for fold in (0, 1) for one in annotated_questions(asked(fold), annotator)]
    gold = [answer_parts(one.question.answers[0], one.entities)[key] for one in asked_for]
    articles = [(fold, article.title) for fold in (0, 1) for article, _, _ in asked(fold).questions()]
    none, both = (np.array([places(placed, mode, seed, key) for seed in (1, 2, 3)]) for mode in ARMS)
    assert whole.keys() == {*gold, *none.flat, *both.flat}
    p_values = []
    for name, row in whole.items():
        a, b = 100.0 * (none == name), 100.0 * (both == name)
        assert float(row["gold (%)"]) == pytest.approx(100 * gold.count(name) / len(gold), abs=0.06)
        assert float(row["baseline's (%)"]) == pytest.approx(a.mean(), abs=0.06)
        assert float(row["answered (%)"]) == pytest.approx(b.mean(), abs=0.06)
        wanted = bootstrap_difference(a, b, articles, paired=True)
        if wanted.has_spread:
            low, high = max(-100.0, wanted.low), min(100.0, wanted.high)
            assert row["95 % interval"] == f"{low:+.2f} to {high:+.2f}".replace("-", "−")
            p_values.append((wanted.p, row["p (Holm)"]))
    corrected = holm([p for p, _ in p_values])
    assert [shown for _, shown in p_values] == ["< 0.0001" if p < 0.0001 else f"{p:.4f}" for p in corrected]
    for column in ("gold (%)", "baseline's (%)", "answered (%)"):
        assert sum(float(row[column]) for row in rows) == pytest.approx(100, abs=0.1 * len(rows))
    assert title in said["html"]


def test_places_that_are_not_known(placed: Path, tmp_path: Path) -> None:
    """Then nothing is said of them, but why: of runs without n-best answers, of other predictions, and of damage."""
    runs = tmp_path / "runs"
    shutil.copytree(placed, runs)
    path = runs / "none-1-0" / "nbest.json"
    listed = read_json(path)
    first = next(iter(listed))
    given = {"baseline": "entities.mode:none", "breakdowns": ["entities", "question"]}
    whole = report(tmp_path, runs, **given)["md"]
    assert "What is answered, by answer and entities" in whole
    assert "What is answered, by question word" not in whole
    answer = listed[first]["answers"][0]
    for damaged in (
        [{**answer, "text": "또 딴것"}], [], [{**answer, "start": -1, "end": len(answer["text"]) - 1}],
        [{**answer, "end": answer["end"] + 1}], [{**answer, "start": float("inf")}], "answers", None,
    ):  # fmt: skip
        path.write_text(json.dumps(listed | {first: {"answers": damaged}}), "utf-8")
        said = report(tmp_path, runs, **given)["md"]
        assert "What is answered" not in said
        assert "what is answered is not told of runs without an nbest.json that fits" in said.replace("\\", "")
        assert rows_of(said, "Differences by") == rows_of(whole, "Differences by")
    path.unlink()
    assert "What is answered" not in report(tmp_path, runs, **given)["md"]


def test_what_some_groups_answer(placed: Path, tmp_path: Path) -> None:
    """One group that does not say where its answers stand hides no other one's; a focus turns the difference."""
    runs = tmp_path / "runs"
    shutil.copytree(placed, runs)
    for seed, fold in itertools.product((1, 2, 3), (0, 1)):
        finetuned(runs / f"split-{seed}-{fold}", 0.5, *ARMS["both"][:2], "entities.mode=split", seed=seed, fold=fold)
    given = {"breakdowns": ["entities"]}
    said, turned = (
        rows_of(report(tmp_path / key, runs, **given, **{key: f"entities.mode:{mode}"})["md"], "What is answered")
        for key, mode in (("baseline", "none"), ("focus", "both"))
    )
    assert {row["runs"] for row in said} == {"both"}
    assert said == rows_of(report(tmp_path, placed, **given, baseline="entities.mode:none")["md"], "What is answered")
    assert [row["difference"] for row in turned] == [row["difference"] for row in said]
    assert {row["baseline"] for row in turned} == {"none"}


def test_several_runs_of_a_seed_are_one_in_the_mean(placed: Path, tmp_path: Path) -> None:
    """Also where only one fold was run twice: the share is the mean over its runs."""
    runs = tmp_path / "runs"
    shutil.copytree(placed, runs)
    shutil.copytree(runs / "both-1-0", runs / "again-1-0")
    given = {"baseline": "entities.mode:none", "breakdowns": ["length"]}
    before, after = (rows_of(report(tmp_path, place, **given)["md"], "What is answered") for place in (placed, runs))
    assert [row["answered (%)"] for row in after] == [row["answered (%)"] for row in before]


def test_pages_keep_places(placed: Path, tmp_path: Path) -> None:
    """A page's report says what that of its runs says, and the page holds none of the data set's own text."""
    (tmp_path / "page.md").write_text(f"# Page\n{BEGIN}\n{END}\n", "utf-8")
    publish_results(PublishConfig(page="page", runs=list(map(str, placed.iterdir())), folder=str(tmp_path)))
    given = {"baseline": "entities.mode:none", "breakdowns": ["entities"]}
    of_runs, of_page = (
        rows_of(report(tmp_path / name, place, **given)["md"], "What is answered")
        for name, place in (("a", placed), ("b", tmp_path / "page.jsonl"))
    )
    assert of_page == of_runs
    answer = next(asked(0).questions())[2].answers[0].text
    assert answer not in (tmp_path / "page.jsonl").read_text("utf-8")


def test_whose_entities(runs: Path, tmp_path: Path) -> None:
    """Those that the compared runs mark, where they have one annotator, unless another one is named."""
    given = {"baseline": "entities.mode:none", "breakdowns": ["entities"]}
    title = "Differences by answer and entities"
    own, mecab = (report(tmp_path, runs, **given, annotator=name)["md"] for name in (None, "mecab"))
    assert f"Entities are those that {ANNOTATOR} finds" in own
    assert "Entities are those that mecab finds" in mecab
    assert rows_of(own, title) != rows_of(mecab, title)
    more = tmp_path / "more"
    control = ("entities=mecab", f"entities.annotator=random-{ANNOTATOR}", "entities.mode=both")
    unused = ("entities=mecab", "entities.annotator=kiwi", "entities.mode=none", "dropout=0.3")
    for seed, fold in itertools.product((1, 2, 3), (0, 1)):
        finetuned(more / f"random-{seed}-{fold}", 0.4, *control, seed=seed, fold=fold)
        finetuned(more / f"unused-{seed}-{fold}", 0.4, *unused, seed=seed, fold=fold)
    said = report(tmp_path, runs, more, baseline=["entities.mode:none", "entities.annotator:none"], breakdowns=["type"])
    assert f"Entities are those that {ANNOTATOR} finds" in said["md"]
    for seed, fold in itertools.product((1, 2, 3), (0, 1)):
        finetuned(more / f"other-{seed}-{fold}", 0.4, "entities=mecab", "entities.mode=both", seed=seed, fold=fold)
    with pytest.raises(ConfigError, match=f"annotator: the runs have {ANNOTATOR} and mecab; which one says"):
        report(tmp_path, runs, more, baseline=["entities.mode:none", "entities.annotator:none"], breakdowns=["type"])


def test_an_annotator_that_is_not_at_hand(tmp_path: Path) -> None:
    """The runs', on a machine without the list: all but the breakdown is told. One that was asked for is an error."""
    names = ("entities=mecab", "entities.annotator='gazetteer:{root}/names.txt'", "entities.mode=both")
    for seed in (1, 2, 3):
        finetuned(tmp_path / "runs" / f"none-{seed}", 0.4, "entities=none", seed=seed)
        finetuned(tmp_path / "runs" / f"both-{seed}", 0.6, *names, seed=seed, chance=1)
    given = {"baseline": "entities.mode:none", "breakdowns": ["entities"]}
    said = report(tmp_path, tmp_path / "runs", **given)["md"]
    assert "nothing is broken down: the annotator of the runs is not at hand" in said
    assert rows_of(said, "Differences, KorQuAD")
    assert "Differences by" not in said
    with pytest.raises(KorbertError, match=r"names\.txt"):
        report(tmp_path, tmp_path / "runs", **given, annotator="gazetteer:nowhere/names.txt")


def test_questions_that_are_not_at_hand_are_said(tmp_path: Path) -> None:
    for mode, overrides in ARMS.items():
        for seed in (1, 2):
            run = finetuned(tmp_path / "runs" / f"{mode}-{seed}", 0.5, *overrides, seed=seed)
            record = read_json(run / "record.json")
            record["config"]["task"]["test"] = "{root}/KorQuAD_sample_dev.json"
            record["config"]["data"]["root"] = str(tmp_path / "elsewhere")
            write_json_atomically(run / "record.json", record)
    wanted = {"baseline": "entities.mode:none", "breakdowns": ["type"]}
    said = report(tmp_path / "report", tmp_path / "runs", **wanted)["md"]
    assert "questions are not at hand" in said
    assert "Differences by" not in said
    found = report(tmp_path / "report", tmp_path / "runs", data=DataConfig(root=str(SAMPLE.parent)), **wanted)["md"]
    assert "Differences by answer type" in found

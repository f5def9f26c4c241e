"""The report on finished runs: what is missing or damaged, tokenizers, sections, and what the repository holds."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from doors import run_door
from studies import (
    REPOSITORY,
    finetuned,
    pretrained,
    report,
    rows_of,
    set_results,
    tables_of,
)
from web import Page

from korbert.config import REPORT_SECTIONS
from korbert.errors import ConfigError, DataError
from korbert.files import read_json
from korbert.study.answers import Answers
from korbert.study.grouping import shown
from korbert.study.report_plots import forest_picture
from korbert.study.report_sheets import score_table

EVIL = '<script>alert("1")</script>'


# ---- missing and damaged ----


def test_missing_scores(tmp_path: Path) -> None:
    whole = finetuned(tmp_path / "runs" / "whole", 0.5)
    part = finetuned(tmp_path / "runs" / "part", 0.5, "dropout=0.3")
    set_results(part, f1=None, exact_match=float("nan"))
    said = report(tmp_path / "report", tmp_path / "runs", baseline="whole")
    rows = {row["run"]: row for row in rows_of(said["md"], "KorQuAD")}
    assert rows["part"]["EM (%)"] == rows["part"]["F1 (%)"] == "not measured"
    assert rows["whole"]["EM (%)"] == f"{read_json(whole / 'record.json')['results']['exact_match']:.2f}"
    assert "no exact_match in part" in said["md"].replace("\\", "")
    assert "nan" not in said["md"]
    assert ">nan<" not in said["html"]


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        ('{"task": "pretrain", "results": {', r"bad/record\.json: line 1 column \d+: broken JSON"),
        ("[]", r"bad/record\.json: top level: wanted a JSON object"),
        ('{"results": {}}', r"bad/record\.json: task: wanted a string"),
        ('{"task": "pretrain", "results": []}', r"bad/record\.json: results: wanted an object"),
        ('{"task": "pretrain", "results": {}, "config": 3}', r"bad/record\.json: config: wanted an object"),
        ('{"task": "x", "results": {"f1": 1}, "config": {"seed": [}', r"bad/record\.json: line 1 column \d+"),
    ],
)
def test_damaged_records_are_named(tmp_path: Path, damage: str, where: str) -> None:
    finetuned(tmp_path / "good", 0.5)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "record.json").write_text(damage, "utf-8")
    with pytest.raises(DataError, match=where):
        report(tmp_path / "report", tmp_path)


def test_damaged_scores_and_curves_are_named(tmp_path: Path) -> None:
    run = finetuned(tmp_path / "runs" / "one", 0.5)
    set_results(run, f1="good")
    with pytest.raises(DataError, match=r"one/record\.json: results\.f1: wanted a number, found 'good'"):
        report(tmp_path / "report", tmp_path / "runs")
    set_results(run, f1=50.0)
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": 2}\n{"loss": 3}\n', "utf-8")
    with pytest.raises(DataError, match=r"one/metrics\.jsonl: line 2: wanted an object with a step"):
        report(tmp_path / "report", tmp_path / "runs")
    (run / "metrics.jsonl").write_text('{"step": 1, "loss": "low"}\n', "utf-8")
    with pytest.raises(DataError, match=r"one/metrics\.jsonl: line 1: wanted numbers alone"):
        report(tmp_path / "report", tmp_path / "runs")


def test_a_pattern_takes_runs_alone(study_runs: Path, tmp_path: Path) -> None:
    """The store of records lies beside them."""
    (study_runs / "records.sqlite").write_bytes(b"SQLite format 3\0\xff")
    made = [report(tmp_path / name, runs) for name, runs in (("a", study_runs), ("b", study_runs / "*"))]
    (study_runs / "records.sqlite").unlink()
    assert made[0] == made[1]


def test_nothing_to_report(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"runs=.*no record\.json"):
        report(tmp_path / "report", tmp_path)
    with pytest.raises(DataError, match=r"nowhere: file: not found"):
        report(tmp_path / "report", tmp_path / "nowhere")
    finetuned(tmp_path / "one", 0.5)
    with pytest.raises(ConfigError, match=r"baseline=seed:3: no run here has a setting seed"):
        report(tmp_path / "report", tmp_path, baseline="seed:3")
    with pytest.raises(ConfigError, match=r"baseline=two: no group of runs is that; there are: one"):
        report(tmp_path / "report", tmp_path, baseline="two")
    with pytest.raises(ConfigError, match=r"no run here has a setting entity\.mode; is entities\.mode meant"):
        report(tmp_path / "report", tmp_path, baseline="entity.mode:none")
    with pytest.raises(ConfigError, match="baseline: wanted key:value"):
        report(tmp_path / "report", tmp_path, baseline=[3])
    assert not (tmp_path / "report").exists()
    for number in range(9):
        finetuned(tmp_path / f"more{number}", 0.5, f"train.optimizer.learning_rate={number + 1}e-4")
    with pytest.raises(ConfigError, match=r"focus=nobody: .*; and \d+ more$"):
        report(tmp_path / "report", tmp_path, focus="nobody")


def test_runs_of_one_name_keep_their_own_scores(tmp_path: Path) -> None:
    """Each is told by what is around it, in the table of scores as in that of differences."""
    exact = {}
    for folder, right, rate in (("a", 0.9, "3e-4"), ("b", 0.1, "1e-4")):
        run = finetuned(tmp_path / folder / "job" / "finetune", right, f"train.optimizer.learning_rate={rate}")
        exact[f"{folder}/job/finetune"] = read_json(run / "record.json")["results"]["exact_match"]
    places = [tmp_path / folder / "job" for folder in ("a", "b")]
    said = report(tmp_path / "report", *places, baseline="a/job/finetune")["md"]
    rows = rows_of(said, "KorQuAD")
    assert {row["run"]: float(row["EM (%)"]) for row in rows} == {k: round(v, 2) for k, v in exact.items()}
    (table,) = tables_of(*places)
    (difference, _) = score_table(table, ["a/job/finetune"], Answers(None)).contrasts
    assert difference.difference == pytest.approx(exact["b/job/finetune"] - exact["a/job/finetune"])


def test_long_settings_are_told_apart(tmp_path: Path) -> None:
    """Of a long one the end is shown, too; all of it where two are alike but in the middle."""
    assert shown("x" * 60 + "/one") == "x" * 16 + "…" + "x" * 27 + "/one"
    stores = [f"{'/folder' * 9}/{end}" for end in ("1" + "/entities" * 5, "2" + "/entities" * 5, "other")]
    for seed, store in itertools.product((1, 2), stores):
        finetuned(tmp_path / f"{stores.index(store)}-{seed}", 0.5, f"entities.store={store}", seed=seed)
    (table,) = tables_of(tmp_path)
    assert [group.label for group in table.groups] == [*stores[:2], shown(stores[2])]


def test_a_baseline_is_named_by_the_one_name_of_its_runs(tmp_path: Path) -> None:
    """The same run made again elsewhere, on another commit, say: two records of one name are one group."""
    places = [tmp_path / "here", tmp_path / "there"]
    for chance, place in enumerate(places):
        finetuned(place / "best", 0.5, chance=chance)
    finetuned(tmp_path / "here" / "other", 0.4, "train.optimizer.learning_rate=3e-4")
    assert "Difference" in report(tmp_path / "report", *places, baseline="best")["md"]
    (tmp_path / "there" / "best").rename(tmp_path / "there" / "second")
    with pytest.raises(ConfigError, match="baseline=best: no group of runs is that"):
        report(tmp_path / "report", *places, baseline="best")


# ---- tokenizers ----


def comparison(folder: Path, **fingerprints: str) -> Path:
    """Rows as `compare_tokenizers` leaves them, of the study's two tokenizers."""
    rows = []
    for name, fertility, ceiling in (("syllable", 3.5, 100.0), ("mecab_bpe", 2.1, 97.0)):
        settings = read_json(pretrained(folder / name, f"tokenizer={name}") / "config.json")["tokenizer"]
        cost, reach = {"per_eojeol": fertility}, {"exact_match": ceiling}
        rows.append(
            {"name": name, "fingerprint": fingerprints.get(name, name), "settings": "s", "tokenizer": settings,
             "vocabulary": 8000, "results": {"cost": cost, "ceiling": reach}}
        )  # fmt: skip
    rows[0]["results"]["downstream"] = {"protocol": "p", "exact_match": 30.0, "f1": 40.0}
    rows[1]["results"]["downstream"] = {"protocol": "p", "exact_match": 31.0, "f1": 42.0}
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def test_scores_against_tokenizers(study_runs: Path, tmp_path: Path) -> None:
    made = report(tmp_path / "report", study_runs, comparison=str(comparison(tmp_path / "comparison")))
    titles = re.findall(r"<h3>((?:EM|F1) against [^<]*)</h3>", made["html"])
    assert titles == [f"{m} against {x}" for m in ("EM", "F1") for x in ("tokens by eojeol", "oracle EM")] * 2
    assert "comparison&#39;s own models, p" in made["html"]
    with pytest.raises(DataError, match=r"results\.jsonl: file: not found"):
        report(tmp_path / "report", study_runs, comparison=str(tmp_path))


def test_scores_stand_beside_figures_of_tokenizers(study_runs: Path, tmp_path: Path) -> None:
    """Two tokenizers with two modes of entities each: their figures, and no correlation, as each stands twice."""
    rows = comparison(tmp_path / "comparison")
    made = report(tmp_path / "report", study_runs, comparison=str(rows))
    found = rows_of(made["md"], "Tokenizers, KorQuAD")
    scores = {(row["tokenizer.kind"], row["entities.mode"]): row["F1 (%)"] for row in rows_of(made["md"], "KorQuAD")}
    names = {"sentencepiece": "mecab\\_bpe", "character": "syllable"}
    assert len(found) == len(scores) == 4
    for row, ((kind, mode), f1) in zip(found, scores.items(), strict=True):
        assert (row["runs"], row["tokenizer"], row["entries"]) == (f"{kind} · {mode}", names[kind], "8,000")
        assert f1.startswith(row["F1 (%)"])
        assert (row["tok/eojeol"], row["oracle EM"]) == (
            ("2.10", "97.0") if kind == "sentencepiece" else ("3.50", "100.0")
        )
    assert "Figures that go with scores" not in made["html"]
    for ending in ("html", "tex"):
        assert "Tokenizers, KorQuAD" in made[ending]
    assert "Tokenizers, " not in report(tmp_path / "plain", study_runs)["html"]


def test_what_goes_with_scores_is_tested(tmp_path: Path) -> None:
    """Six tokenizers: scores fall with the length, go with one ceiling nearly, and with names, which are alike, not."""
    rows = []
    for number, name in enumerate(("jamo", "syllable", "word", "wordpiece", "mecab_bpe", "sentencepiece_bpe")):
        before = pretrained(tmp_path / "runs" / f"p-{name}", f"tokenizer={name}")
        for seed in (1, 2):
            run = finetuned(tmp_path / "runs" / f"{name}-{seed}", 0.5, seed=seed, init=before)
            set_results(run, exact_match=20.0 + number + seed / 4, f1=30.0 + number + seed / 4)
            (run / "predictions.json").unlink()
        settings = read_json(before / "config.json")["tokenizer"]
        ceiling = {"exact_match": 80.0 + number**2, "f1": 90.0 + (number ^ 1)}  # the first is the length's reverse
        results = {"cost": {"per_eojeol": 9.0 - number}, "ceiling": ceiling, "names": {"whole": 0.5}}
        row = {"name": name, "fingerprint": name, "settings": "s", "tokenizer": settings}
        rows.append({**row, "vocabulary": 8, "results": results})
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    made = report(tmp_path / "report", tmp_path / "runs", comparison=str(tmp_path))
    found = rows_of(made["md"], "Figures that go with scores, KorQuAD")
    value = 1 - 6 * 6 / (6 * 35)  # three pairs of neighbours have changed places
    extreme = [
        abs(1 - 6 * sum((a - b) ** 2 for a, b in enumerate(order)) / 210) >= value - 1e-9
        for order in itertools.permutations(range(6))
    ]
    wanted = {"tok/eojeol": ("−1.00", 2 / 720, 4), "oracle F1": (f"+{value:.2f}", sum(extreme) / 720, 2)}
    assert [(row["figure"], row["score"]) for row in found] == [(f, m) for f in wanted for m in ("EM (%)", "F1 (%)")]
    for row in found:
        correlation, p, times = wanted[row["figure"]]
        assert row["rank correlation"].replace("\\", "").rstrip("*") == correlation
        assert float(row["p"]) == pytest.approx(p, abs=0.01 if p > 0.01 else 0.002)
        assert float(row["p (Holm)"]) == pytest.approx(times * float(row["p"]), abs=0.0005)
        assert row["rank correlation"].endswith("*") == (p < 0.01)
    (picture,) = re.findall(r"EM against tokens by eojeol</h3>\s*(<svg.*?</svg>)", made["html"], re.DOTALL)
    assert all(name in picture for name in ("jamo", "mecab_bpe"))


def test_sections_are_chosen(study_runs: Path, tmp_path: Path) -> None:
    """What is left out is in none of the forms; what is there is the whole report's."""
    asked = {"baseline": "entities.mode:none", "comparison": str(comparison(tmp_path / "comparison"))}
    whole, part = (
        report(tmp_path / name, study_runs, **asked, **sections)
        for name, sections in (("whole", {}), ("part", {"sections": ["differences", "cost"]}))
    )
    assert re.findall(r'<h2 id="(\w+)">', whole["html"]) == [*REPORT_SECTIONS, "runs"]
    assert re.findall(r'<a href="#(\w+)">', whole["html"]) == [*REPORT_SECTIONS, "runs"]
    assert re.findall(r'<h2 id="(\w+)">', part["html"]) == ["differences", "cost", "runs"]
    assert re.findall(r"^## (.*)$", part["md"], re.MULTILINE) == ["Differences", "What it took", "Runs"]
    assert rows_of(part["md"], "Differences, KorQuAD") == rows_of(whole["md"], "Differences, KorQuAD")
    assert "nats / character, interval" not in part["tex"]
    assert len(part["tex"]) < len(whole["tex"]) - 500
    assert part["html"].count("<svg") == 2 < whole["html"].count("<svg")  # the two tables' forests
    for sections, said in (
        (["figures"], "sections: 'figures' is unknown, wanted scores, diff"),
        ([], "sections: wanted one or more"),
    ):
        with pytest.raises(ConfigError, match=said):
            report(tmp_path / "report", study_runs, sections=sections)


def test_runs_are_chosen(study_runs: Path, tmp_path: Path) -> None:
    """By their settings, those of the pretraining included, by seed and by results; the others are as if not there."""
    whole, part = (
        rows_of(report(tmp_path / name, study_runs, where=where)["md"], "Runs, KorQuAD")
        for name, where in (("whole", None), ("part", "tokenizer.kind=character entities.mode=both seed<3"))
    )
    assert len(whole) == 12
    wanted = [row for row in whole if re.match(r"\[syllable-both-[12]/", row["run"])]
    assert [(row["run"], row["EM (%)"]) for row in part] == [(row["run"], row["EM (%)"]) for row in wanted]
    assert len(wanted) == 2
    best = max(float(row["EM (%)"]) for row in whole)
    (one,) = rows_of(report(tmp_path / "best", study_runs, where=f"exact_match>{best - 0.01}")["md"], "Runs, KorQuAD")
    assert float(one["EM (%)"]) == best
    for where, said in (
        ("entities.mod=both", r"where=entities\.mod=both: no run has 'entities\.mod'; is entities\.mode"),
        ("seed=99", "where=seed=99: of 24 runs none is so"),
        ("seed", "where: 'seed': wanted KEY"),
    ):
        with pytest.raises(ConfigError, match=said):
            report(tmp_path / "report", study_runs, where=where)


# ---- what the repository holds ----


@pytest.mark.slow
def test_committed_results_make_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the door, and in another process the same to the byte."""
    run_door("report", f"folder={tmp_path}", "baseline=task:lexical_baseline")
    files = {ending: (tmp_path / f"report.{ending}").read_text("utf-8") for ending in ("md", "tex", "html")}
    monkeypatch.chdir(REPOSITORY)
    assert report(tmp_path, Path("experiments/results"), baseline="task:lexical_baseline") == files
    records = [
        json.loads(line)
        for page in (REPOSITORY / "experiments" / "results").rglob("*.jsonl")
        if page.with_suffix(".md").exists()
        for line in page.read_text("utf-8").splitlines()
    ]
    for record in records:
        if "exact_match" in record["results"]:
            assert f"| {record['results']['exact_match']:.2f} |" in files["md"]
            assert record["commit"][:12] in files["md"]
    assert Page(files["html"]).open == []


@pytest.mark.filterwarnings("error:constrained_layout")
@pytest.mark.parametrize("long", [False, True])
def test_a_plot_has_room_beside_the_names_of_its_rows(study_runs: Path, long: bool) -> None:
    """Rows that differ in much have names longer than the plot is wide: they stand above their lines."""
    scored = score_table(tables_of(study_runs)[0], ["entities.mode:none"], Answers(None))
    name = "finetune_korquad · sentencepiece · unigram · none · expressions-mecab · 256 · 0 · 2.0 · 0.0005 · muon · 2"
    renamed = [replace(one, group=replace(one.group, label=name) if long else one.group) for one in scored.contrasts]
    picture = forest_picture(replace(scored, contrasts=renamed), "forest")
    assert picture is not None
    places = [float(x) for x in re.findall(r'<use [^>]*x="([\d.]+)"', picture.svg)]
    assert max(places) - min(places) > 100  # points and ticks stand apart
    assert ("· muon" in picture.svg) == long

"""Result pages: the committed ones hold what their records say, and nothing is published without a commit."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from korbert.config import PublishConfig
from korbert.errors import ConfigError, DataError
from korbert.files import read_json, write_json_atomically
from korbert.study.collection import read_records
from korbert.study.page import BEGIN, END, curve, draw, render, replace_records, report_settings
from korbert.study.results import make_record
from korbert.tasks.publish import made_again, publish_results

REPOSITORY = Path(__file__).resolve().parents[1]
RESULTS = REPOSITORY / "experiments" / "results"
PAGES = sorted(store for store in RESULTS.rglob("*.jsonl") if store.with_suffix(".md").exists())


@pytest.mark.parametrize("store", PAGES, ids=lambda path: path.stem)
def test_committed_pages_are_what_the_command_writes(store: Path) -> None:
    records = read_records(store)
    page = store.with_suffix(".md").read_text("utf-8")
    assert replace_records(store, page, render(list(records.values()))) == page
    for record in records.values():
        assert len(record["commit"]) == 40
        assert {"command", "seed", "hardware", "date", "versions", "results"} <= record.keys()
        assert not any(part.startswith("/") for part in record["command"].replace("=", " ").split())


@pytest.mark.parametrize(
    "store",
    [
        page.with_suffix(".jsonl")
        for page in sorted(RESULTS.rglob("*.md"))
        if report_settings(page, page.read_text("utf-8"))
    ],
    ids=lambda path: path.stem,
)
def test_committed_reports_are_what_the_command_writes(
    store: Path, data_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    store = store.relative_to(REPOSITORY)
    page = store.with_suffix(".md")
    text, pictures = made_again(page, page.read_text("utf-8"), store, str(data_root))
    assert text == page.read_text("utf-8")
    assert {path.name for path in page.parent.glob(f"{page.stem}-report*.svg")} == set(pictures)
    assert page.with_suffix(".svg").exists() == (f"({page.stem}.svg)" in text)
    for name, picture in pictures.items():
        assert ET.fromstring(picture).tag.endswith("svg")
        assert words(picture) == words((page.parent / name).read_text("utf-8"))


def words(picture: str) -> list[str]:
    """Its texts: where lines end up is also a matter of matplotlib's version."""
    return [element.text or "" for element in ET.fromstring(picture).iter() if element.tag.endswith("text")]


def test_there_are_pages() -> None:
    assert PAGES
    assert (RESULTS / "README.md").is_file()


def test_files_of_a_run_are_published_beside_its_page(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "run")
    write_json_atomically(run / "record.json", read_json(run / "record.json") | {"files": ["report.html"]})
    (run / "report.html").write_text("<p>한글", "utf-8")
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "index.md").write_text(f"# Title\n{BEGIN}\n{END}\n", "utf-8")
    publish_results(PublishConfig(page="pages/index", runs=[str(run)], folder=str(tmp_path)))
    assert (tmp_path / "pages" / "report.html").read_text("utf-8") == "<p>한글"


def run_folder(folder: Path, commit: str = "0" * 40) -> Path:
    record = make_record("pretrain", {"seed": 3}, {"mlm_loss": 2.34567, "tokens": 1234567, "protocol": "x"})
    write_json_atomically(folder / "record.json", record | {"commit": commit})
    rows: list[dict[str, Any]] = [{"step": step, "loss": 1000 / step} for step in range(1, 251)]
    rows.insert(100, {"step": 100, "validation/mlm_loss": 5.5})
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder


def page(folder: Path) -> Path:
    path = folder / "page.md"
    path.write_text(f"# Title\n\nText.\n\n{BEGIN}\nold 99.9\n{END}\n\n![Curves](page.svg)\n\nMore.\n", "utf-8")
    return path


def test_publish_and_write_again(tmp_path: Path) -> None:
    run = run_folder(tmp_path / "some_run")
    path = page(tmp_path)
    config = PublishConfig("page", [str(run)], str(tmp_path))
    publish_results(config)
    text = path.read_text("utf-8")
    assert text.startswith("# Title\n\nText.\n")
    assert text.endswith("\nMore.\n")
    assert "99.9" not in text
    assert "### some_run" in text
    assert "| mlm loss | 2.35 |" in text
    assert "| tokens | 1,234,567 |" in text
    assert "| 100 | " in text
    assert ET.parse(tmp_path / "page.svg").getroot().tag.endswith("svg")
    before = {name: (tmp_path / name).read_bytes() for name in ("page.md", "page.jsonl", "page.svg")}
    publish_results(config)  # the run takes its own place
    publish_results(PublishConfig("page", [], str(tmp_path)))
    assert before == {name: (tmp_path / name).read_bytes() for name in before}
    path.write_text(text.replace("![Curves](page.svg)", ""), "utf-8")
    publish_results(PublishConfig("page", [], str(tmp_path)))
    assert not (tmp_path / "page.svg").exists()  # nobody would see it


def test_two_runs_of_one_name_are_refused(tmp_path: Path) -> None:
    path = page(tmp_path)
    runs = [str(run_folder(tmp_path / sweep / "fold0", commit=40 * digit)) for sweep, digit in (("a", "1"), ("b", "2"))]
    before = path.read_text("utf-8")
    with pytest.raises(ConfigError, match=r"a/fold0 and .*b/fold0 would both be 'fold0' on the page"):
        publish_results(PublishConfig("page", runs, str(tmp_path)))
    for record, message in (({}, "task: wanted a string"), ({"task": "x", "results": {}}, "commit: is 'unknown'")):
        write_json_atomically(tmp_path / "none" / "record.json", record)
        with pytest.raises(DataError, match=message):
            publish_results(PublishConfig("page", [str(tmp_path / "none")], str(tmp_path)))
    assert path.read_text("utf-8") == before
    assert not (tmp_path / "page.jsonl").exists()
    shutil.copytree(runs[0], tmp_path / "copy" / "fold0")
    publish_results(PublishConfig("page", [runs[0], str(tmp_path / "copy")], str(tmp_path)))  # the same one


@pytest.mark.parametrize(("clock", "label"), [("cpu", "training minutes × threads"), ("wall", "training minutes")])
def test_pretrainings_are_drawn_together(tmp_path: Path, clock: str, label: str) -> None:
    """Two minutes of two threads lie where four of one lie, if the clock was that of the processors."""
    records = []
    for threads in (1, 2):
        curve = [
            {"step": n, "training_loss": 9.0 - n, "minutes": n * 2 / threads, "mlm_loss_per_character": 5.0 - n}
            for n in range(1, 4)
        ]
        record = make_record("pretrain", {"seed": 3, "train": {"clock": clock}}, {})
        record |= {"name": f"run_{threads}", "curve": curve, "hardware": {"threads": threads}}
        records.append(record)
    draw(tmp_path / "page.svg", records)
    text = (tmp_path / "page.svg").read_text("utf-8")
    assert f"<!-- {label} -->" in text
    lines = re.findall(r'<path d="(M [^"]*)" clip-path="[^"]*" style="fill: none; stroke: #(?:1f77b4|ff7f0e)', text)
    together = [line.split() for line in lines[:2]]  # the panel that is made first
    assert (together[0] == together[1]) == (clock == "cpu")


def test_memory_is_drawn_and_shown_in_part(tmp_path: Path) -> None:
    """Twenty-five lines of a build's memory: every third or second one in the table, all in the picture."""
    run, path = tmp_path / "build", page(tmp_path)
    lines = [{"seconds": 60.0 * n, "main": 100.0 + n, "workers": 500.0} for n in range(25)]
    record = make_record("build_corpus", {"seed": 3}, {"memory": lines, "tokens": 7})
    write_json_atomically(run / "record.json", record | {"commit": "0" * 40})
    publish_results(PublishConfig("page", [str(run)], str(tmp_path)))
    shown = [line for line in path.read_text("utf-8").splitlines() if line.endswith(" 500.0 |")]
    assert [line.split(" | ")[1] for line in shown] == [
        f"{100.0 + n:.1f}" for n in (2, 4, 7, 9, 12, 14, 17, 19, 22, 24)
    ]
    drawn = (tmp_path / "page.svg").read_text("utf-8")
    assert drawn.count("<!-- workers together -->") == 1
    assert "<!-- memory (MB) -->" in drawn


def test_long_lists_and_zeros_are_shown_short(tmp_path: Path) -> None:
    """Ten values whole, of more the ends; nothing below zero that rounds to zero."""
    path = page(tmp_path)
    results = {"ten": list(range(10)), "eleven": [1000.5, *range(9), 7], "off": -0.0002, "below": -0.5, "low": -2.0}
    write_json_atomically(tmp_path / "run" / "record.json", make_record("x", {}, results) | {"commit": "0" * 40})
    publish_results(PublishConfig("page", [str(tmp_path / "run")], str(tmp_path)))
    shown = path.read_text("utf-8")
    assert "| ten | 0 to 1 to 2 to 3 to 4 to 5 to 6 to 7 to 8 to 9 |" in shown
    assert "| eleven | 1,000.5 … 7 |" in shown
    assert "| off | 0.000 |\n| below | -0.500 |\n| low | -2.00 |" in shown


def test_unfinished_or_uncommitted_runs_are_refused(tmp_path: Path) -> None:
    page(tmp_path)
    changed = run_folder(tmp_path / "changed", "0" * 40 + "+changes")
    with pytest.raises(DataError, match="committed code only"):
        publish_results(PublishConfig("page", [str(changed)], str(tmp_path)))
    (changed / "record.json").unlink()
    with pytest.raises(DataError, match="only a finished run"):
        publish_results(PublishConfig("page", [str(changed)], str(tmp_path)))
    assert not (tmp_path / "page.jsonl").exists()


def test_page_without_marks_and_broken_store(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("# Title\n", "utf-8")
    with pytest.raises(DataError, match=r"page\.md: page: wanted the lines"):
        publish_results(PublishConfig("page", [], str(tmp_path)))
    (tmp_path / "page.jsonl").write_text('{"name": "a"}\n[]\n', "utf-8")
    with pytest.raises(DataError, match=r"page\.jsonl: line 2"):
        publish_results(PublishConfig("page", [], str(tmp_path)))


@given(st.lists(st.floats(0, 100), max_size=350))
def test_curve_keeps_the_mean(losses: list[float]) -> None:
    points = curve([{"step": step, "loss": loss} for step, loss in enumerate(losses, start=1)])
    assert len(points) == min(100, len(losses))
    before, total = 0, 0.0
    for point in points:
        total += point["training_loss"] * (point["step"] - before)
        before = point["step"]
    assert before == len(losses)
    assert total == pytest.approx(sum(losses))


def test_record_says_how_to_repeat_it(tmp_path: Path) -> None:
    record = read_json(run_folder(tmp_path) / "record.json")
    assert record["seed"] == 3
    assert record["hardware"]["device"]
    assert {"python", "torch", "numpy"} <= record["versions"].keys()


def test_held_out_scores_keep_their_steps() -> None:
    """However few rows are left."""
    metrics = [{"step": step, "loss": 1.0} for step in range(50, 6001, 50)]
    metrics += [{"step": step, "validation/mlm_loss": 1 / step} for step in range(700, 6001, 700)]
    points = curve(sorted(metrics, key=lambda row: (row["step"], "loss" not in row)))
    measured = [point for point in points if "mlm_loss" in point]
    assert [(point["step"], point["mlm_loss"]) for point in measured] == [(s, 1 / s) for s in range(700, 6001, 700)]
    record = {
        "task": "pretrain", "name": "one", "curve": points, "results": {}, "config": {},
        "hardware": {"device": "x", "threads": 1}, "versions": {}, "command": "x", "date": "2026-11-29", "commit": "x",
        "seed": 1,
    }  # fmt: skip
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in render([record]).splitlines()]
    shown = [(int(row[0].replace(",", "")), row[-1]) for row in rows if len(row) == 3 and row[0][:1].isdigit()]
    assert 9 <= len(shown) <= 11
    assert [step for step, score in shown if score] == list(range(700, 6001, 700))

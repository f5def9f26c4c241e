"""The report's page: it stands alone, its links and numbers lead somewhere, and names on it are text."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import COMMIT, finetuned, pretrained, report, rows_of
from web import Page

from korbert.files import read_json, write_json_atomically
from korbert.study.sheets import Cell, Sheet, latex_text, relative_link, sheet_as_markdown

EVIL = '<script>alert("1")</script>'


@pytest.mark.slow
def test_page_stands_alone(study_report: dict[str, str]) -> None:
    page = Page(study_report["html"])
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert page.tags.count("script") == 1
    # differences of two tables, training and held-out loss of pretraining
    assert page.tags.count("svg") == 4
    assert all(re.match(r"#|\.\.?/", address) for address in page.addresses)
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    assert not re.search(r"@import|url\((?!#)|https?:", study_report["html"])
    said = " ".join("".join(page.said).split())
    assert "보고서" in said
    assert "Energy was not measured." in said
    for svg in re.findall(r"<svg.*?</svg>", study_report["html"], re.DOTALL):
        assert ET.fromstring(svg).get("viewBox")
        assert "<text" in svg
    assert "prefers-color-scheme: dark" in study_report["html"]
    assert "Noto Sans KR" in study_report["html"]


@pytest.mark.parametrize(("clock", "unit"), [("cpu", " × threads"), ("wall", "")])
def test_times_of_several_threads_are_held_against_each_other(tmp_path: Path, clock: str, unit: str) -> None:
    for seed in (1, 2):
        pretrained(tmp_path / "runs" / str(seed), f"train.clock={clock}", seed=seed)
    said = Page(report(tmp_path / "report", tmp_path / "runs")["html"]).said
    assert f"minutes of training{unit}" in said


def test_links_lead_to_configurations(study_runs: Path, tmp_path: Path) -> None:
    made = report(tmp_path / "a report" / "of runs", study_runs)
    links = [address for address in Page(made["html"]).addresses if not address.startswith("#")]
    assert len(links) == 24
    for link in links:
        assert read_json(tmp_path / "a report" / "of runs" / link)["run_dir"]
    assert all(f"({link})" in made["md"] for link in links)


def test_every_number_has_its_command_and_commit(study_runs: Path, study_report: dict[str, str]) -> None:
    rows = rows_of(study_report["md"], "Runs, KorQuAD")
    assert len(rows) == 12
    for row in rows:
        name = re.match(r"\[(.*)\]", row["run"])[1].replace("\\", "")  # type: ignore[index]
        record = read_json(study_runs / name / "record.json")
        assert row["EM (%)"] == f"{record['results']['exact_match']:.2f}"
        assert row["command"] == f"`{record['command']}`"
        assert row["commit"] == f"`{COMMIT[:12]}`"
        assert row["seed"] == f"{record['seed']} (pretraining {record['seed']})"


def test_names_are_shown_and_not_run(tmp_path: Path) -> None:
    run = finetuned(tmp_path / "runs" / "one", 0.5, "dropout=0.3")
    finetuned(tmp_path / "runs" / "two", 0.5)
    record = read_json(run / "record.json")
    record |= {"command": f"python {EVIL} | `x` $y$ 100%_&", "commit": EVIL, "hardware": {"device": EVIL}}
    record["results"]["protocol"] = record["results"]["protocol"] + EVIL
    record["config"]["entities"]["annotator"] = EVIL
    name = EVIL.replace("/", "∕")
    write_json_atomically(tmp_path / "runs" / name / "record.json", record)
    write_json_atomically(tmp_path / "runs" / name / "predictions.json", read_json(run / "predictions.json"))
    made = report(tmp_path / "report", tmp_path / "runs", title=f"{EVIL} $a_b$", baseline="one")
    page = Page(made["html"])
    assert page.tags.count("script") == 1
    said = "".join(page.said)
    assert name in said
    assert f"python {EVIL} | `x` $y$ 100%_&" in said
    assert "<script" not in re.sub("`[^`]*`", "", made["md"])  # in a code span it is shown
    assert "<code>python &#60;script&#62;alert" in made["md"]
    assert r"\textless{}script\textgreater{}" in made["tex"]


def test_the_same_records_make_the_same_files(study_runs: Path, tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    finetuned(tmp_path / "more" / "one", 0.5)
    first = report(tmp_path / "report", study_runs, tmp_path / "more")
    assert report(tmp_path / "report", tmp_path / "more", study_runs) == first


def test_latex_can_be_set(study_report: dict[str, str]) -> None:
    tex = study_report["tex"]
    for part in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", tex, re.DOTALL):
        rows = [line for line in part[1].strip().splitlines() if line.endswith(r"\\")]
        assert len(rows) > 1
        assert all(len(re.findall(r"(?<!\\)&", row)) == len(part[0]) - 1 for row in rows)
    for name in ("table", "tabular"):
        assert tex.count(rf"\begin{{{name}}}") == tex.count(rf"\end{{{name}}}") > 0
    assert len(re.findall(r"(?<!\\)\{", tex)) == len(re.findall(r"(?<!\\)\}", tex))
    body = re.sub(r"(?m)^%.*$", "", tex)
    assert not re.search(r"(?<!\\)[%#_]", body)
    assert r"95 \% interval" in body


@given(st.text())
def test_latex_text_has_no_special_left(text: str) -> None:
    said = latex_text(text)
    for known in ("{}", r"\textasciitilde", r"\textasciicircum", r"\textbackslash", r"\textless", r"\textgreater"):
        said = said.replace(known, "")
    said = re.sub(r"\\textbar|\\dots|\$\\(?:le|pm|times|cdot)\$|\$-\$", "", said)
    assert not re.search(r"[~^\\<>|&%$#_{}]", re.sub(r"\\[&%$#_{}]", "", said))


@given(st.text(alphabet="`|ab \\", min_size=1))
def test_cells_stay_in_their_column(text: str) -> None:
    sheet = Sheet("t", ["a", "b"], [[Cell(text), Cell(text, code=True)]])
    row = sheet_as_markdown(sheet)[4]
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", row)) == 3


@pytest.mark.parametrize("path", ["javascript:alert(1)", "a b/c?d#e", "../x", "한글"])
def test_links_stay_relative(path: str) -> None:
    link = relative_link(path)
    assert link.startswith(("./", "../"))
    assert not re.search(r"[?#\s:]", link)

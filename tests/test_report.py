"""Tables, advice and the page, from rows made by hand."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from korbert.comparison.figures import best_trades, recommend, summaries, used_columns
from korbert.comparison.report import as_csv, as_html, as_latex, as_markdown, as_rich, parts_of


def row(name: str, em: float = 90.0, length: float = 2.0, lost: float = 0.0, **more: Any) -> dict[str, Any]:
    cost = {"per_eojeol": length, "lost": lost, "fits": {"128": 0.25, "384": 0.5}}
    return {
        "name": name,
        "fingerprint": f"f{name}",
        "vocabulary": 1200,
        "date": "2026-01-02T03:04:05+00:00",
        "commit": "0123456789abcdef",
        "hardware": {"device": "a computer"},
        "training": {},
        "results": {"cost": cost, "ceiling": {"exact_match": em, "f1": 99.0}},
        "examples": [{"text": "가 <나>", "tokens": [[0, 1, False], [1, 5, True]], "entities": [[3, 4]]}],
    } | more


ROWS = [row("word", 24.0, 1.0), row("bpe@8000", 73.0, 2.0), row("morpheme", 99.0, 2.0), row("a&b_%", 98.5, 1.9, 0.2)]


def test_columns_by_hand() -> None:
    found = summaries([ROWS[1], with_josa(ROWS[0])])[0]
    assert found["tokenizer"] == "bpe@8000"
    assert (found["tok/eojeol"], found["≤384 %"], found["oracle EM"]) == (2.0, 50.0, 73.0)
    assert found["josa %"] == ""
    assert "names %" not in found


def with_josa(one: dict[str, Any]) -> dict[str, Any]:
    """The row, measured in one more way."""
    return {**one, "results": one["results"] | {"boundaries": {"josa": 0.5}}}


def test_columns_are_of_the_numbers_that_were_asked_for() -> None:
    """Lengths and processes; of several lengths the usual one stands for all."""
    for fits, titles in (({"200": 0.1, "1024": 1.0}, ["≤200 %", "≤1024 %"]), ({"128": 0.1, "384": 0.7}, ["≤384 %"])):
        measured = {"cost": {"fits": fits}, "speed": {"by_processes": {"16": 2.0, "1": 0.5, "4": 1.0}}}
        rows = [row("bpe", results=measured)]
        titles = [*titles, "1 process", "4 processes", "16 processes"]
        assert [column.title for column in used_columns(rows)] == titles
        assert [cells[title] for cells in summaries(rows) for title in titles[-3:]] == [0.5, 1.0, 2.0]


def test_advice_is_the_best_trade_that_loses_nothing() -> None:
    assert [r["name"] for r in best_trades(ROWS)] == ["word", "morpheme"]
    first, second, *_ = recommend(ROWS)
    assert "word (24.0 at 1.00), morpheme (99.0 at 2.00)." in first
    assert second.startswith("For a reader that points at tokens: morpheme,")
    assert "None of them reaches" in recommend(ROWS[:2])[1]
    assert recommend([ROWS[3]])[0].startswith("All of them lose")
    assert recommend([row("bare", results={})]) == []


def test_equals_do_not_beat_each_other() -> None:
    twins = [row("one"), row("two")]
    assert len(best_trades(twins)) == 2


def test_tables_hold_the_same_figures() -> None:
    read = list(csv.DictReader(io.StringIO(as_csv(ROWS))))
    assert [r["ceiling.exact_match"] for r in read] == ["24.0", "73.0", "99.0", "98.5"]
    assert read[0]["cost.fits.128"] == "0.25"
    markdown, latex = as_markdown(ROWS), as_latex(ROWS)
    assert "| morpheme | 1,200 | 2.00 | 50.0 |" in markdown
    assert r"a\&b\_\%" in latex
    body = latex[latex.index(r"\midrule") : latex.index(r"\bottomrule")]
    assert all(
        line.count("&") - line.count(r"\&") == latex[: latex.index("\\\\")].count("&")
        for line in body.split("\n")[1:-1]
    )
    assert [table.title for table in as_rich(ROWS)] == ["Length and vocabulary", "Loss", "KorQuAD ceiling"]


def test_parts_of_an_example() -> None:
    parts = parts_of(ROWS[0]["examples"][0])
    assert [(p.text, p.token, p.is_unknown, p.is_entity) for p in parts] == [
        ("가", 0, False, False),
        (" <", 1, True, False),
        ("나", 1, True, True),
        (">", 1, True, False),
    ]


class Text(HTMLParser):
    """What a page says, its tags, and where it would fetch something from."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for key, value in attrs if key in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def test_page_stands_alone_and_escapes_what_it_is_given() -> None:
    page = Text()
    page.feed(as_html([*ROWS, row("<script>alert(1)</script>")], {"<b>": "needs <i>Java</i>"}))
    said = "".join(page.said)
    assert "<script>alert(1)</script>" in said
    assert "needs <i>Java</i>" in said
    assert page.tags.count("script") == 1
    assert "i" not in page.tags
    assert page.tags.count("svg") == 2
    assert all(address.startswith("#") for address in page.addresses)
    assert not re.search(r"@import|url\((?!#)", "".join(page.said))
    assert "morpheme ★" in re.sub(r"\s+", " ", said)


@pytest.mark.parametrize("rows", [[row("one", results={})], [row("one", examples=[])]])
def test_page_of_little(rows: list[dict[str, Any]]) -> None:
    assert "one" in as_html(rows, {})
    assert as_markdown(rows) is not None

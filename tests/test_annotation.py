"""Agreement and shares by hand."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from test_expressions import Fixed

from korbert.comparison.annotation import agreement, answer_shares
from korbert.config import compose_config
from korbert.data.korquad import Answer, Article, KorquadDataset, Paragraph, Question
from korbert.errors import ConfigError, KorbertError
from korbert.tasks import annotators
from korbert.tasks.annotators import evaluate_annotators
from korbert.text import AnnotatedText, Span


def test_agreement_by_hand() -> None:
    gold = AnnotatedText("가나다라마바사아", (Span(0, 2, "PS"), Span(3, 4, "LC"), Span(5, 8, "QT")))
    ours = Fixed("x", Span(0, 2, "PER"), Span(3, 4, "NNP"), Span(5, 7, "QT"))
    found = agreement(ours, [gold, AnnotatedText("가나다라마바사아")])
    assert (found.precision, found.recall, found.f1) == (
        pytest.approx(100 * 2 / 6),
        pytest.approx(100 * 2 / 3),
        200 * 2 / 9,
    )
    assert found.typed_f1 == pytest.approx(200 * 1 / 9)
    assert found.recall_by_type == {"number": 0.0, "person": 100.0, "place": 100.0}
    assert found.entities == 3
    with pytest.raises(ValueError, match="no gold entity"):
        agreement(ours, [AnnotatedText("가나다라마바사아")])


@pytest.mark.parametrize(
    ("answer", "relations"),
    [
        ((2, 5), {"exact"}),
        ((3, 4), {"inside", "crossed"}),
        ((2, 4), {"inside", "crossed"}),
        ((1, 6), {"cut"}),
        ((2, 6), {"cut"}),
        ((4, 6), {"cut", "crossed"}),
        ((0, 2), {"apart"}),
        ((5, 7), {"apart"}),
    ],
)
def test_relations_of_an_answer(answer: tuple[int, int], relations: set[str]) -> None:
    text = "가나다라마바사"
    start, end = answer
    question = Question("1", "?", (Answer(text[start:end], start),))
    dataset = KorquadDataset((Article("t", (Paragraph(text, (question,)),)),), "1", "p")
    found = answer_shares(Fixed("x", Span(2, 5)), dataset)
    named = {key: getattr(found, key) for key in ("exact", "inside", "cut", "apart", "crossed")}
    assert {key for key, share in named.items() if share == 100} == relations
    assert sum(named.values()) == 100 * len(relations)
    assert found.entities_per_paragraph == 1


def evaluate(repository: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> dict[str, Any]:
    monkeypatch.chdir(repository)
    lines = [json.dumps({"text": "세종은 1443년", "entities": [[0, 2, "PER"]], "file": str(n)}) for n in range(4)]
    (folder / "gold.jsonl").write_text("\n".join(lines), "utf-8")
    basic = [
        f"data.cache={folder / 'cache'}", f"run_dir={folder / 'run'}", "speed_seconds=0.01", "corpus=sample",
        "tokenizers=[word@1000]", "korquad=data/sample/KorQuAD_sample_dev.json", "~corpora",
        f"+corpora.mine={folder}/gold.jsonl", "held_out=0.5",
    ]  # fmt: skip
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        return evaluate_annotators(compose_config("evaluate_annotators", [*basic, *overrides]))


def test_door(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An annotator that lacks its package is left out, alone and in a union; one that was measured is so once."""
    measured: list[str] = []
    whole = annotators._measured

    def measure(name: str, *rest: Any) -> Any:
        measured.append(name)
        if name == "expressions-mecab" and measured.count(name) == 1:
            raise KeyboardInterrupt
        return whole(name, *rest)

    monkeypatch.setattr(annotators, "_measured", measure)
    monkeypatch.setitem(sys.modules, "kiwipiepy", None)
    chosen = "annotators=[none,kiwi,mecab,mecab+kiwi,expressions-mecab]"
    with pytest.raises(KeyboardInterrupt):
        evaluate(repository, tmp_path, monkeypatch, chosen)
    results = evaluate(repository, tmp_path, monkeypatch, chosen)["results"]
    assert sorted(measured) == ["expressions-mecab"] * 2 + ["kiwi"] * 2 + ["mecab", "mecab+kiwi", "mecab+kiwi", "none"]
    found = {row["annotator"]: row for row in results["gold names"]}
    assert {name: row["f1"] for name, row in found.items()} == {"none": 0, "mecab": 100, "expressions-mecab": 0}
    assert found["mecab"]["entities"] == 2  # half of the documents
    assert found["mecab"]["recall: person"] == 100
    shares = {row["annotator"]: row for row in results["KorQuAD answers"]}
    assert shares["none"]["apart"] == 100
    assert shares["mecab"]["thousand_characters_per_second"] > 300 * shares["mecab"]["megabytes_per_second"] > 0
    limits = {row["annotator"]: row["oracle EM"] for row in results["ceilings"]}
    assert limits["none"] < limits["mecab"]
    assert found.keys() == shares.keys() == limits.keys()
    assert results["left out"].keys() == {"kiwi", "mecab+kiwi"}
    assert all("pip install kiwipiepy" in why for why in results["left out"].values())


@pytest.mark.parametrize("key", ["corpora", "korquad", "annotators"])
def test_what_was_taken_away_is_missing(repository: Path, key: str) -> None:
    with (
        initialize_config_dir(str(repository / "conf"), version_base="1.3"),
        pytest.raises(ConfigError, match=f"^no value for: {key}$"),
    ):
        compose_config("evaluate_annotators", [f"~{key}", "data.root=x"])


def test_half_a_surrogate_pair_is_annotated(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sample: Path
) -> None:
    text = (sample / "KorQuAD_sample_dev.json").read_text("utf-8").replace('"context": "', '"context": " \\ud800 ')
    text = re.sub(r'(?<="answer_start": )\d+', lambda start: str(int(start[0]) + 3), text)
    (tmp_path / "dev.json").write_text(text, "utf-8")
    chosen = ("annotators=[none]", f"korquad={tmp_path / 'dev.json'}", "tokenizers=[]")
    (row,) = evaluate(repository, tmp_path, monkeypatch, *chosen)["results"]["KorQuAD answers"]
    assert row["apart"] == 100


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["annotators=[]"], "annotators: wanted at least one"),
        (["annotators=[mecab,none,mecab]"], "annotators: wanted each of them once, got mecab more than once"),
        (["tokenizers=[word@9,word@9]"], "tokenizers: wanted each of them once, got word@9"),
        (["annotators=[mecab,kiwwi]"], "'kiwwi' is unknown, wanted none, one of mecab"),
        (["annotators=['gazetteer:nowhere.txt']"], r"nowhere\.txt: entities.annotator: not found"),
        (["annotators=['mecab+gazetteer:{folder}/broken.tsv']"], r"broken\.tsv: line 1: wanted a name, a tab"),
        (["annotators=['tagger:nowhere']"], "nowhere: run: not found"),
        (["annotators=['links:nowhere.sqlite']"], r"nowhere\.sqlite: file: not found"),
        (["tokenizers=[word@1000,word]"], "'word': wanted NAME@SIZE"),
        (["korquad=nowhere.json"], r"nowhere\.json"),
        (["+corpora.other=nowhere.jsonl"], r"nowhere\.jsonl"),
        (["+corpora.other={folder}/blank.jsonl"], r"corpora\.other: .*blank\.jsonl has no entity"),
        (["held_out=0"], "held_out: wanted more than 0"),
        (["speed_seconds=0"], "speed_seconds: wanted more than 0"),
        (["speed_seconds=inf"], "speed_seconds: wanted more than 0, got inf"),
    ],
)
def test_what_is_wrong_is_said_first(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], message: str
) -> None:
    (tmp_path / "broken.tsv").write_text("서울\n", "utf-8")
    (tmp_path / "blank.jsonl").write_text('{"text": "가", "entities": []}\n', "utf-8")
    chosen = [override.format(folder=tmp_path) for override in overrides]
    with pytest.raises(KorbertError, match=message):
        evaluate(repository, tmp_path, monkeypatch, "annotators=[mecab]", *chosen)
    assert not (tmp_path / "run" / "sessions.jsonl").exists()  # nothing was begun

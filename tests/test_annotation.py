"""Agreement and shares by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from test_expressions import Fixed

from korbert.comparison.annotation import agreement, answer_shares
from korbert.config import compose_config
from korbert.data.korquad import Answer, Article, KorquadDataset, Paragraph, Question
from korbert.errors import ConfigError
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


def test_door(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository)
    lines = [json.dumps({"text": "세종은 1443년", "entities": [[0, 2, "PER"]], "file": str(n)}) for n in range(4)]
    (tmp_path / "gold.jsonl").write_text("\n".join(lines), "utf-8")
    basic = [
        f"data.cache={tmp_path / 'cache'}", f"run_dir={tmp_path / 'run'}", "speed_seconds=0.01", "corpus=sample",
        "tokenizers=[word@1000]", "korquad=data/sample/KorQuAD_sample_dev.json", "~corpora",
        f"+corpora.mine={tmp_path}/gold.jsonl",
    ]  # fmt: skip
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        chosen = "annotators=[none,mecab,expressions-mecab,'gazetteer:nowhere.txt']"
        record = evaluate_annotators(compose_config("evaluate_annotators", [*basic, chosen, "held_out=0.5"]))
        with pytest.raises(ConfigError, match="wanted at least one"):
            evaluate_annotators(
                compose_config("evaluate_annotators", [*basic, "annotators=[]", f"run_dir={tmp_path / 'none'}"])
            )
    results = record["results"]
    found = {row["annotator"]: row for row in results["gold names"]}
    assert [found[name]["f1"] for name in ("none", "mecab", "expressions-mecab")] == [0, 100, 0]
    assert found["mecab"]["entities"] == 2  # half of the documents
    assert found["mecab"]["recall: person"] == 100
    shares = {row["annotator"]: row for row in results["KorQuAD answers"]}
    assert shares["none"]["apart"] == 100
    assert shares["mecab"]["thousand_characters_per_second"] > 0
    limits = {row["annotator"]: row["oracle EM"] for row in results["ceilings"]}
    assert limits["none"] < limits["mecab"]
    assert "nowhere.txt" in results["left out"]["gazetteer:nowhere.txt"]

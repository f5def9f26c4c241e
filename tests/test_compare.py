"""The comparison as a whole, on the sample: rows, resume, what is left out, and what cannot be."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir

from korbert.config import compose_config
from korbert.config.comparisons import DownstreamConfig
from korbert.errors import ConfigError, DataError, KorbertError
from korbert.files import read_json
from korbert.tasks import compare as module
from korbert.tasks.compare import Materials, all_named, compare_tokenizers, named, read_rows

Compare = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def compare(repository: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Compare]:
    monkeypatch.chdir(repository)

    def run(*overrides: str, folder: str = "run") -> dict[str, Any]:
        basic = ["measures=[cost,ceiling]", "vocab_sizes=[1000]", f"data.cache={cache}", f"run_dir={tmp_path / folder}"]
        return compare_tokenizers(compose_config("compare_tokenizers", [*basic, *overrides]))

    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        yield run


def names(record: dict[str, Any]) -> list[str]:
    return [row["tokenizer"] for row in record["results"]["tokenizers"]]


@pytest.mark.slow
def test_every_measure_and_every_file(compare: Compare, tmp_path: Path) -> None:
    ner = tmp_path / "names.tsv"
    ner.write_text("서\tB-LC\n울\tI-LC\n에\tO\n", "utf-8")
    record = compare(
        "tokenizers=[syllable,sentencepiece_unigram@1100,mecab_bpe]", f"ner={ner}", "speed_seconds=0.02",
        "processes=[1]", "measures=[speed,cost,ceiling,boundaries,names,consistency]",
    )  # fmt: skip
    assert names(record) == ["syllable@1000", "sentencepiece_unigram@1100", "mecab_bpe@1000"]
    run = tmp_path / "run"
    assert {"results.jsonl", "table.md", "table.csv", "table.tex", "report.html"} == set(record["files"])
    assert all((run / name).stat().st_size > 100 for name in record["files"])
    rows = list(read_rows(run / "results.jsonl").values())
    assert [row["vocabulary"] for row in rows] == [1000, 1100, 1000]
    syllable, unigram, mecab = (row["results"] for row in rows)
    assert set(syllable) == {
        "speed", "cost", "ceiling", "ceiling_at_entities", "ceiling_without_josa", "boundaries", "names", "consistency"
    }  # fmt: skip
    assert syllable["ceiling"]["exact_match"] == 100
    assert syllable["names"]["whole"] == 1
    assert unigram["ceiling"]["exact_match"] <= unigram["ceiling_at_entities"]["exact_match"]
    assert mecab["boundaries"]["recall"] == 1
    assert mecab["alignment"]["unaligned"] == 0
    assert mecab["alignment"]["morphemes"] > 100
    assert all(row["training"]["seconds"] >= 0 for row in rows)
    assert all(row["commit"] and row["date"] and row["hardware"] for row in rows)


@pytest.mark.slow
def test_a_run_that_was_cut_off_goes_on(compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    real = module.make_row

    def make_row(candidate: Any, *more: Any) -> dict[str, Any]:
        made.append(candidate.name)
        if len(made) == 2:
            raise KeyboardInterrupt
        return real(candidate, *more)

    monkeypatch.setattr(module, "make_row", make_row)
    chosen = "tokenizers=[syllable,word,jamo]"
    with pytest.raises(KeyboardInterrupt):
        compare(chosen)
    rows = tmp_path / "run" / "results.jsonl"
    with rows.open("a", encoding="utf-8") as file:
        file.write('{"name": "word", "finger')  # killed in the middle of a line
    record = compare(chosen)
    assert made == ["syllable@1000", "word@1000", "word@1000", "jamo@1000"]
    assert names(record) == ["syllable@1000", "word@1000", "jamo@1000"]
    assert len(rows.read_text("utf-8").splitlines()) == 3
    assert compare(chosen) == record  # not measured again
    assert len(made) == 4
    with pytest.raises(ConfigError, match=r"finished, with another configuration.*vocab_sizes was \[1000\], is \[1100"):
        compare(chosen, "vocab_sizes=[1100]")


def test_a_measure_is_added_to_what_was_measured_before(
    compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare("tokenizers=[syllable]", "measures=[cost]", folder="first")
    made = []
    real = module._measured
    monkeypatch.setattr(module, "_measured", lambda *given: made.append(list(given[2])) or real(*given))
    include = f"include=[{tmp_path / 'first'}]"
    record = compare("tokenizers=[syllable,word]", "measures=[cost,ceiling]", include)
    assert made == [["ceiling"], ["cost", "ceiling"]]
    assert names(record) == ["syllable@1000", "word@1000"]
    (syllable, word) = read_rows(tmp_path / "run" / "results.jsonl").values()
    assert set(syllable["results"]) == set(word["results"]) == {
        "cost", "ceiling", "ceiling_at_entities", "ceiling_without_josa"
    }  # fmt: skip
    (before,) = read_rows(tmp_path / "first" / "results.jsonl").values()
    assert syllable["results"]["cost"] == before["results"]["cost"]
    assert [entry["date"] for entry in syllable["earlier"]] == [before["date"]]
    assert word["earlier"] == []


@pytest.mark.slow
def test_downstream_scores_are_made_once(compare: Compare, tmp_path: Path, cache: Path) -> None:
    chosen = (
        "tokenizers=[syllable,word]", "measures=[downstream]", "downstream.seeds=[1,2]", "downstream.characters=4000",
        "downstream.pretraining=['recipe=modern','model=tiny','model.num_layers=1','train.batch_size=8']",
        "downstream.finetuning=['task=korquad_sample','train.steps=2','train.batch_size=4']", "runtime.threads=1",
    )  # fmt: skip
    record = compare(*chosen)
    rows = list(read_rows(tmp_path / "run" / "results.jsonl").values())
    for row in rows:
        found = row["results"]["downstream"]
        assert found["protocol"].startswith("trained on KorQuAD_sample_train.json")
        assert found["f1"] == pytest.approx(sum(run["f1"] for run in found["runs"]) / 2)
    assert record["results"]["tokenizers"][0]["F1"] == rows[0]["results"]["downstream"]["f1"]
    pretrained = [
        read_json(path)["results"] for path in sorted((tmp_path / "run").glob("downstream/*/pretrain/record.json"))
    ]
    assert len(pretrained) == 4
    # As many characters: one token a syllable, or one a word.
    assert pretrained[0]["tokens"] > 2 * pretrained[2]["tokens"]
    for done in ("record.json", "results.jsonl"):
        (tmp_path / "run" / done).unlink()
    assert compare(*chosen)["results"]["tokenizers"] == record["results"]["tokenizers"]
    for more, missing in ((), []), (("corpus.max_documents=3",), ["downstream"]):  # models of another corpus
        given = [*chosen, *more, f"data.cache={cache}", "run_dir=x", "vocab_sizes=[1000]"]
        asked = Materials(compose_config("compare_tokenizers", given))
        assert list(asked.missing(rows[0])) == missing
    sessions = list((tmp_path / "run").glob("downstream/*/*/sessions.jsonl"))
    assert len(sessions) == 8
    assert all(path.read_text("utf-8").count('"date"') == 1 for path in sessions)  # each run was started once


@pytest.mark.slow
def test_sizes_of_a_sweep_on_one_page(compare: Compare, tmp_path: Path) -> None:
    for size in (1000, 1100):
        compare("tokenizers=[sentencepiece_bpe]", f"vocab_sizes=[{size}]", folder=str(size))
    compare("tokenizers=[syllable]", "lengths=[64]", folder="other")
    folders = f"{tmp_path}/1?00,{tmp_path}/other"
    record = compare("tokenizers=[]", f"include=[{folders}]")
    assert names(record) == ["sentencepiece_bpe@1000", "sentencepiece_bpe@1100"]
    with pytest.raises(DataError, match="nowhere"):
        compare("tokenizers=[]", "include=[nowhere]", folder="more")
    with pytest.raises(KorbertError, match="no tokenizer was measured: 2 rows were measured on other texts or"):
        compare("tokenizers=[]", f"include=[{tmp_path}/1?00]", "lengths=[64]", folder="longer")
    with pytest.raises(KorbertError, match="no tokenizer was measured: none is named, nor any earlier row"):
        compare("tokenizers=[]", folder="nothing")


def test_what_cannot_be_had_is_named_and_the_others_go_on(
    compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.import_module

    def without(package: str, *anchor: str) -> Any:
        if package == "kiwipiepy":
            raise ImportError("No module named 'kiwipiepy'")
        if package == "konlpy.tag":
            return NoJava
        return real(package, *anchor)

    class NoJava:
        @staticmethod
        def Komoran() -> None:  # noqa: N802
            raise OSError("no JVM shared library file (libjvm.so) found")

    monkeypatch.setattr(importlib, "import_module", without)
    record = compare("tokenizers=[morpheme_kiwi,morpheme_komoran,sentencepiece_bpe@90000,syllable]", "analyser=mecab")
    assert names(record) == ["syllable@1000"]
    left_out = record["results"]["left_out"]
    assert "pip install kiwipiepy" in left_out["morpheme_kiwi@1000"]
    assert "Java runtime" in left_out["morpheme_komoran@1000"]
    assert "tokenizer.vocab_size=90000" in left_out["sentencepiece_bpe@90000"]
    assert all(why.count("\n") == 0 for why in left_out.values())
    assert "Java runtime" in (tmp_path / "run" / "report.html").read_text("utf-8")
    with pytest.raises(KorbertError, match=r"no tokenizer was measured: morpheme_kiwi@1000: .*pip install"):
        compare("tokenizers=[morpheme_kiwi]", folder="none")


def test_published_and_saved_tokenizers(compare: Compare, tmp_path: Path, cache: Path) -> None:
    vocab = tmp_path / "vocab.txt"
    vocab.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "서울", "##은", "가", "나"]), "utf-8")
    compare("tokenizers=[syllable]", folder="first")
    row = next(iter(read_rows(tmp_path / "first" / "results.jsonl").values()))
    saved = next(path.parent for path in (cache / "tokenizers").glob("*/tokenizer.json")
                 if read_json(path)["fingerprint"] == row["fingerprint"])  # fmt: skip
    record = compare(f"tokenizers=[{vocab},{saved}]")
    assert names(record) == [tmp_path.name, saved.name]
    shown = list(read_rows(tmp_path / "run" / "results.jsonl").values())
    assert shown[1]["fingerprint"] == row["fingerprint"]
    assert shown[0]["results"]["cost"]["lost"] > 0.5


def test_published_ones_are_told_apart_by_their_folders(compare: Compare, tmp_path: Path) -> None:
    config = compose_config("compare_tokenizers", ["run_dir=x"])
    for place in ("one/kobert/vocab.txt", "two/kobert/vocab.txt", "two/spm.model", "two/mine.model", "kept"):
        path = tmp_path / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for place, name in (
        ("one/kobert/vocab.txt", "kobert"), ("two/spm.model", "two"), ("two/mine.model", "mine.model"),
        ("kept", "kept"),
    ):  # fmt: skip
        assert named(str(tmp_path / place), config)[0].name == name
    config.tokenizers = [str(tmp_path / name / "kobert" / "vocab.txt") for name in ("one", "two")]
    assert [candidate.name for candidate in all_named(config)] == config.tokenizers


def test_how_long_models_are_pretrained_is_said_in_characters() -> None:
    assert DownstreamConfig(pretraining=["train.steps=null"]).characters
    with pytest.raises(ConfigError, match=r"downstream\.pretraining: train\.steps=5: how long it is"):
        DownstreamConfig(pretraining=["model=tiny", "train.steps=5"])


def test_what_was_left_out_is_tried_again(compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        real = importlib.import_module
        without = {"kiwipiepy": "no such package"}
        patch.setattr(importlib, "import_module", lambda name, *more: real(without.get(name, name), *more))
        first = compare("tokenizers=[syllable,morpheme_kiwi]", "analyser=mecab", "measures=[cost]")
    assert list(first["results"]["left_out"]) == first["results"]["missing"] == ["morpheme_kiwi@1000"]
    second = compare("tokenizers=[syllable,morpheme_kiwi]", "analyser=mecab", "measures=[cost]")
    assert names(second) == ["syllable@1000", "morpheme_kiwi@1000"]
    assert not second["results"]["left_out"]


def test_the_same_tokenizer_twice_is_told(compare: Compare) -> None:
    """A corpus with fewer syllables than asked for, say."""
    record = compare("tokenizers=[syllable@5000,syllable@9000]", "measures=[cost]")
    assert names(record) == ["syllable@5000"]
    assert "the same tokenizer as syllable@5000" in record["results"]["left_out"]["syllable@9000"]
    assert not record["results"]["missing"]  # trying again would bring nothing


def test_rows_of_other_code_are_measured_again(
    compare: Compare, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = compare("tokenizers=[syllable]", "measures=[cost]", folder="first")
    monkeypatch.setattr(module, "NORMALISATION", 99)
    again = compare("tokenizers=[syllable]", "measures=[cost]", f"include=[{tmp_path}/first]", folder="again")
    assert names(again) == names(first)
    (row,) = read_rows(tmp_path / "again" / "results.jsonl").values()
    assert row["encoding"] == "/99"
    with pytest.raises(KorbertError, match="no tokenizer was measured"):
        compare("tokenizers=[]", "measures=[cost]", f"include=[{tmp_path}/first]", folder="included")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("measures=[costs]", "measures: 'costs' is unknown, wanted cost, ceiling, .*; is cost meant"),
        ("tokenizers=[syllables]", "tokenizer=syllables: there is no such file .* is syllable meant"),
        ("tokenizers=[syllable@many]", "wanted NAME@SIZE"),
        ("tokenizers=[syllable,nowhere/vocab.txt]", "tokenizers: nowhere/vocab.txt: no such file or folder"),
        ("analyser=mekab", "analyser: 'mekab' is unknown"),
        ("korquad=nowhere.json", "nowhere.json"),
        ("ner=nowhere.tsv", "nowhere.tsv"),
    ],
)
def test_wrong_settings(compare: Compare, override: str, message: str) -> None:
    with pytest.raises(KorbertError, match=message):
        compare(override)
    with pytest.raises(KorbertError, match=r"downstream.seeds: wanted one or more, got \[\]"):
        compare("measures=[cost,downstream]", "downstream.seeds=[]")


def test_rows_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text(json.dumps({"fingerprint": "a"}) + "\n" + "{}\n", "utf-8")
    with pytest.raises(DataError, match="line 1: is no row"):
        read_rows(path)

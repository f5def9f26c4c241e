"""Stages inside a pipeline: what they share by fingerprint, and what may not be overridden. The whole: test_sweeps."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from korbert.config import compose_config
from korbert.data import wikidump
from korbert.errors import ConfigError, KorbertError
from korbert.files import read_json
from korbert.tasks.pipeline import run_pipeline, stages
from korbert.tasks.prepare import prepare_tokenizer
from korbert.tasks.stages import shared_folder, stage
from korbert.tokenizers import CharacterTokenizer, load_tokenizer


@pytest.fixture(autouse=True)
def conf(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(repository)
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        yield


def folder(tmp_path: Path, *overrides: str) -> str:
    given = ["tokenizer=syllable", "model=tiny", f"data.cache={tmp_path}/cache", "run_dir=x", *overrides]
    config = compose_config("pretrain", given)
    tokenizer = load_tokenizer(prepare_tokenizer(config.tokenizer, config.corpus, config.data))
    return shared_folder(config, tokenizer, tmp_path).name


@pytest.mark.slow
def test_pretrainings_are_shared_by_what_decides_them(repository: Path, tmp_path: Path) -> None:
    first = folder(tmp_path)
    copy = tmp_path / "corpus.txt"
    shutil.copy(repository / "data" / "sample" / "corpus.txt", copy)
    same = ["runtime.threads=1", "tracker=wandb", "train.log_every=3", "run_dir=y", f"corpus.files=[{copy}]"]
    assert {folder(tmp_path, change) for change in same} == {first}
    other = [
        "seed=7", "entities.mode=split", "entities.annotator=nouns-mecab", "train.steps=5", "model.num_layers=1",
        "tokenizer.vocab_size=500", "corpus.holdout=0.1",
    ]  # fmt: skip
    different = {folder(tmp_path, change) for change in other}
    with copy.open("a", encoding="utf-8") as file:
        file.write("\n새 문서의 문장이다.\n")
    different.add(folder(tmp_path, f"corpus.files=[{copy}]"))
    assert len(different | {first}) == len(other) + 2


def test_a_dump_that_is_read_in_another_way_is_another_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dump.xml").write_text("<mediawiki/>", "utf-8")
    given = ["run_dir=x", f"data.cache={tmp_path}/cache", f"corpus.files=[{tmp_path}/dump.xml]"]
    config = compose_config("pretrain", given)
    tokenizer = CharacterTokenizer.train(["가 나"], 20)
    before = shared_folder(config, tokenizer, tmp_path)
    assert shared_folder(config, tokenizer, tmp_path) == before
    monkeypatch.setattr(wikidump, "RULES", "another")
    assert shared_folder(config, tokenizer, tmp_path) != before


def test_shards_count_by_what_is_in_them(tmp_path: Path) -> None:
    """The manifest has the checksum of every file."""
    for name, content in (("one", "a"), ("copy", "a"), ("other", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").write_text(content, "utf-8")
    found = {name: folder(tmp_path, f"corpus.shards={tmp_path / name}") for name in ("one", "copy", "other")}
    assert found["one"] == found["copy"] != found["other"]
    assert folder(tmp_path) not in found.values()


def test_weights_to_begin_with_count_by_what_they_are(tmp_path: Path) -> None:
    for name, content in (("one", "a"), ("copy", "a"), ("other", "b")):
        (tmp_path / name / "model").mkdir(parents=True)
        (tmp_path / name / "model" / "model.safetensors").write_text(content, "utf-8")
    found = {name: folder(tmp_path, f"init={tmp_path / name}") for name in ("one", "copy", "other")}
    assert found["one"] == found["copy"] != found["other"]
    shutil.copy(tmp_path / "other" / "model" / "model.safetensors", tmp_path / "one" / "model")
    assert folder(tmp_path, f"init={tmp_path / 'one'}") == found["other"]  # made again with another result


def test_how_far_a_pipeline_goes_is_spelled_right(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="until: 'pretrain' is unknown, wanted pretraining or null"):
        compose_config("pipeline", ["until=pretrain", f"run_dir={tmp_path}/run"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ["finetuning=['task=korquad']", "data.root=DATA"],
            "file: not found; experiments/prepare_data",
        ),
        (["fold=9"], "fold: wanted 0 to 4, got 9"),
        (["entities.annotator='gazetteer:DATA/names.txt'"], "names.txt"),
        (["entities.annotator=mecap", "until=pretraining"], "entities.annotator: 'mecap' is unknown"),
    ],
)
def test_what_is_wrong_with_its_parts_is_said_first(tmp_path: Path, change: list[str], message: str) -> None:
    """Before a tokenizer is trained, and days of pretraining."""
    given = [one.replace("DATA", str(tmp_path)) for one in change]
    with pytest.raises(KorbertError, match=message):
        run_pipeline(compose_config("pipeline", [*given, f"run_dir={tmp_path}/run", f"data.cache={tmp_path}/cache"]))
    assert not (tmp_path / "cache" / "tokenizers").exists()


@pytest.mark.slow
def test_what_the_pipeline_decides_cannot_be_overridden(tmp_path: Path) -> None:
    for change, named in (
        ("pretraining=['tokenizer=word']", "tokenizer=word, for pretrain: tokenizer is decided outside of it"),
        ("pretraining=['seed=3']", "seed=3, for pretrain"),
        ("finetuning=['init=runs/x']", "init=runs/x, for finetune_korquad"),
        ("finetuning=['runtime.threads=1']", "runtime.threads=1, for finetune_korquad"),
        ("pretraining=['model=tiny','arm=none']", "arm=none, for pretrain: entities is decided"),
        ("pretraining=['arm=mecab']", "arm=mecab, for pretrain: entities is"),  # what it would be by itself
        ("pretraining=['entities=none']", "entities=none, for pretrain: entities is"),
        (
            "pretraining=['experiment/alone=full_text']",
            "experiment/alone=full_text, for pretrain: .*is decided outside",
        ),
        (
            "pretraining=['experiment=pretrain_mini_cpu']",
            r"_cpu, for pretrain: corpus.files=\[.*: corpus is",
        ),
        (
            "pretraining=['experiment=pretrain_mini_bpe32k','train.steps=1']",
            "tokenizer.vocab_size=32000; .*: token",
        ),
        ("finetuning=['experiment=korquad_klue_bert_base']", "for finetune_korquad: init=hf:klue/bert-base: init is"),
    ):
        config = compose_config("pipeline", [change, f"run_dir={tmp_path}/run", f"data.cache={tmp_path}/cache"])
        with pytest.raises(ConfigError, match=named):
            run_pipeline(config)
    with pytest.raises(ConfigError, match="lerning"):
        run_pipeline(compose_config("pipeline", ["pretraining=['train.lerning_rate=1']", f"run_dir={tmp_path}/run"]))


@pytest.mark.slow
def test_what_agrees_with_the_pipeline_or_is_for_itself_alone_may_stand_in_its_lists(tmp_path: Path) -> None:
    """An experiment of a study brings no text of its own into a pipeline, but has one where it stands alone."""
    lists = [
        "pretraining=['experiment=study_pretrain','train.steps=1']",
        "finetuning=['experiment=full_finetune']",
    ]
    given = ["arm=none", "tokenizer=syllable", f"run_dir={tmp_path}/run"]
    pretraining, finetuning = stages(compose_config("pipeline", [*given, *lists]))
    assert pretraining.corpus.files == ["data/sample/corpus.txt"]
    assert (pretraining.tokenizer.kind, pretraining.tokenizer.vocab_size) == ("character", 1500)
    assert pretraining.entities.mode == "none"
    assert finetuning.runtime.precision == "auto"  # the pipeline's, whatever the experiment has
    for experiment, files, size in (("study", "{root}/kowiki/", 8000), ("full", "runs/kowiki/", 32000)):
        asked = [f"experiment={experiment}_pretrain", "train.steps=1"]
        alone = compose_config("pretrain", asked)
        assert alone.corpus.files[0].startswith(files)
        assert alone.tokenizer.vocab_size == size
        inside = stage("pretrain", asked, corpus=alone.corpus, tokenizer=alone.tokenizer)
        assert (inside.task, inside.train, inside.model) == (alone.task, alone.train, alone.model)


def test_parts_are_the_stage_s_own(tmp_path: Path) -> None:
    """A stage that fills in what is inherited must not change what the next job is given."""
    config = compose_config("pipeline", [f"run_dir={tmp_path}/run"])
    made = stage("pretrain", ["model=tiny"], entities=config.entities, run_dir="x")
    made.entities.mode = "none"
    assert config.entities.mode == "both"


@pytest.mark.slow
def test_one_pretraining_for_several_fine_tunings(tmp_path: Path, one_thread: None) -> None:
    small = "'train.steps=1','train.batch_size=4'"
    given = [
        "tokenizer=syllable", "entities=none", "runtime.threads=1", "runtime.workers=1", "pretraining_seed=9",
        f"pretraining=['model=tiny','model.num_layers=1',{small}]", f"finetuning=['train.epochs=null',{small}]",
        f"data.cache={tmp_path}/cache", f"pretrained={tmp_path}/pretrained",
    ]  # fmt: skip
    records = [
        run_pipeline(compose_config("pipeline", [*given, f"seed={s}", f"run_dir={tmp_path}/{s}"])) for s in (1, 2)
    ]
    (pretrained,) = (tmp_path / "pretrained").iterdir()
    first = read_json(pretrained / "record.json")
    assert len(first["sessions"]) == 1
    for seed, record in enumerate(records, start=1):
        assert record["results"]["pretraining"] == {"run": str(pretrained), **first["results"]}
        assert read_json(tmp_path / str(seed) / "finetune" / "record.json")["seed"] == seed
        assert all((tmp_path / str(seed) / name).exists() for name in record["refers_to"])
        assert "finetune/predictions.json" in record["refers_to"]
        assert record["stages"] == [str(pretrained), "finetune"]  # a report takes these for it
        assert {"data/sample/corpus.txt", "data/sample/KorQuAD_sample_dev.json"} <= record["inputs"].keys()

"""The doors, as a user runs them: the whole path in small, resume, and wrong input."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from doors import run_door

import korbert
from korbert.config import DataConfig, ErrorsConfig
from korbert.data.korquad import read_korquad, read_predictions, write_predictions
from korbert.data.windows import WindowConfig, WindowMaker
from korbert.encoding import EntityMode
from korbert.entities import make_annotator
from korbert.errors import ConfigError, DataError, KorbertError
from korbert.files import checksum, read_json, write_json_atomically
from korbert.metrics import score_predictions
from korbert.model import SpanModel
from korbert.study.answers import digest_of
from korbert.tasks.finetune import make_windows
from korbert.tasks.predictions import report_errors
from korbert.tasks.starting import take_over
from korbert.tokenizers import load_tokenizer
from korbert.training.bundle import load_bundle
from korbert.training.runtime import make_runtime
from korbert.training.settings import RuntimeConfig

TINY = ("model=tiny", "model.hidden_size=32", "model.num_layers=1", "runtime.threads=1", "runtime.workers=1")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def pretrain_overrides(cache: Path, run: Path) -> tuple[str, ...]:
    return (
        *TINY, "tokenizer.vocab_size=1000", "train.steps=8", "train.batch_size=8", "train.log_every=1",
        "train.checkpoint_every=2", f"data.cache={cache}", f"run_dir={run}",
    )  # fmt: skip


@pytest.fixture(scope="module")
def pretrained(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("pretrained") / "run"
    run_door("pretrain", *pretrain_overrides(cache, run))
    return run


@pytest.fixture(scope="module")
def finetuned(pretrained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("finetuned") / "run"
    run_door(
        "finetune_korquad", f"init={pretrained}", "train.epochs=1", "task.validation_share=0.1",
        "train.evaluate_every=10", "runtime.threads=1", f"run_dir={run}",
    )  # fmt: skip
    return run


@pytest.mark.slow
def test_run_folders_hold_everything(pretrained: Path, finetuned: Path) -> None:
    common = {"config.json", "metrics.jsonl", "checkpoint.safetensors", "model", "record.json", "log.txt"}
    assert common <= {p.name for p in pretrained.iterdir()}
    assert common | {"predictions.json", "nbest.json"} <= {p.name for p in finetuned.iterdir()}
    assert {p.name for p in (finetuned / "model").iterdir()} == {"model.json", "model.safetensors", "tokenizer"}
    record = read_json(finetuned / "record.json")
    assert record["seed"] == 42
    assert set(record["results"]) >= {"exact_match", "f1", "total", "protocol"}
    assert record["command"].startswith("python")
    assert record["command"].split()[1] == "experiments/finetune_korquad.py"


def test_record_agrees_with_the_official_metric_on_the_predictions(sample: Path, finetuned: Path) -> None:
    done = run_door(
        "evaluate_korquad", f"dataset={sample / 'KorQuAD_sample_dev.json'}",
        f"predictions={finetuned / 'predictions.json'}",
    )  # fmt: skip
    lines = done.stdout.strip().splitlines()
    assert len(lines) == 1
    score = json.loads(lines[0])
    assert set(score) == {"exact_match", "f1", "total", "unanswered", "unknown"}
    results = read_json(finetuned / "record.json")["results"]
    assert {key: results[key] for key in score} == score


def test_answers_are_slices_of_the_context(finetuned: Path) -> None:
    reader = korbert.load(finetuned)
    context = "  세종(世宗)은 조선의 제4대 국왕으로, 이름은 이도(李祹)이다.\n" * 30  # several windows
    answer = reader.answer("세종의 본명은 무엇인가?", context)
    assert context[answer.start : answer.end] == answer.text == answer.nbest[0].text
    assert answer.text == answer.text.strip() != ""
    assert 0 < answer.confidence <= 1
    assert len(answer.nbest) > 1
    for candidate in answer.nbest:
        assert context[candidate.start : candidate.end] == candidate.text
    assert [c.score for c in answer.nbest] == sorted((c.score for c in answer.nbest), reverse=True)
    for question, text in (("", context), ("누구인가?", " \n")):
        with pytest.raises(KorbertError, match="wanted text"):
            reader.answer(question, text)
    with pytest.raises(KorbertError, match="this model was fine-tuned"):
        reader.fill_mask("[MASK]은 왕이다.")


def test_a_job_of_a_sweep_is_read_as_its_fine_tuning(finetuned: Path, tmp_path: Path) -> None:
    (tmp_path / "finetune").symlink_to(finetuned.resolve())
    write_json_atomically(tmp_path / "record.json", {"task": "pipeline", "stages": ["elsewhere", "finetune"]})
    given = ("한글은 누가 만들었나?", "세종은 조선의 임금으로, 한글을 만들었다.")
    assert korbert.load(tmp_path).answer(*given) == korbert.load(finetuned).answer(*given)


def test_fill_mask(pretrained: Path) -> None:
    reader = korbert.load(pretrained)
    places = reader.fill_mask("세종은 [MASK]의 제4대 국왕이며 [MASK]에 묻혔다.", top=3)
    assert [len(place) for place in places] == [3, 3]
    for place in places:
        probabilities = [filling.probability for filling in place]
        assert probabilities == sorted(probabilities, reverse=True)
        assert all(0 < p <= 1 for p in probabilities)
        assert not any(f.token.startswith("[") and f.token.endswith("]") for f in place)
    assert reader.fill_mask("세종은 ___의 왕이다.", mask="___", top=1) == reader.fill_mask(
        "세종은 [MASK]의 왕이다.", top=1
    )
    special = reader.bundle.tokenizer.special
    for text in ("훈민정음은 {} 만들었다.", "{}은 왕이다.", "대왕{} 왕"):  # however the mask is written
        ids = [reader._masked(text.format(mask), mask).token_ids.tolist() for mask in ("[MASK]", "___", "가나다", "⟨⟩")]
        assert all(found == ids[0] for found in ids)
        before = reader.bundle.tokenizer.encode(text.partition("{}")[0]).ids.tolist()
        tokens = [token for token in ids[0] if token not in (special.ent, special.ent_end)]
        assert tokens[: len(before) + 1] == [*before, special.mask]  # and no sign of a word's start in front of it
    description = reader.bundle.description
    for limit, marked in ((None, 4), (2, 2), (0, 0)):
        limited = replace(description, entities=replace(description.entities, max_entities=limit))
        given = replace(reader, bundle=replace(reader.bundle, description=limited))
        tokens = given._masked("이순신과 세종대왕과 [MASK]은 서울특별시와 부산광역시에 있다.", "[MASK]").token_ids
        assert (tokens == reader.bundle.tokenizer.special.ent).sum() == marked
        assert len(given.fill_mask("세종은 [MASK]의 왕이다.")) == 1
    with pytest.raises(KorbertError, match=r"'\[MASK\]' does not occur"):
        reader.fill_mask("세종은 왕이다.")
    for mask in ("", " ", "\u200b"):
        with pytest.raises(KorbertError, match="wanted a marker that can be seen"):
            reader.fill_mask("세종은 조선의\u200b 왕이다.", mask)
    with pytest.raises(KorbertError, match="wanted a model that was fine-tuned to answer"):
        reader.answer("누구인가?", "세종이다.")


MODERN = (
    "recipe=modern", "model.span_query=true", "task.selection.inside=0.5",
    "task.curriculum=[{start:0,max_length:72},{start:0.5,max_length:128,selection:1.0}]", "train.accumulation=2",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [(), MODERN], ids=["bert", "modern"])
def test_killed_pretraining_goes_on_to_the_same_weights(
    repository: Path, pretrained: Path, cache: Path, tmp_path: Path, recipe: tuple[str, ...]
) -> None:
    """SIGKILL in the middle of a real process; the same command again ends where the uninterrupted run ended."""
    run, whole = tmp_path / "run", pretrained
    if recipe:
        whole = tmp_path / "whole"
        run_door("pretrain", *pretrain_overrides(cache, whole), *recipe)
    overrides = [*pretrain_overrides(cache, run), *recipe]
    process = subprocess.Popen(
        [sys.executable, "experiments/pretrain.py", *overrides], cwd=repository, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while not (run / "checkpoint.safetensors").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run_door("pretrain", *overrides)
    weights = (Path("model") / "model.safetensors").as_posix()
    assert (run / weights).read_bytes() == (whole / weights).read_bytes()
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert steps == [*range(1, 9), 8]  # eight steps, and the evaluation at the end
    assert len(read_json(run / "record.json")["sessions"]) == 2


@pytest.mark.slow
def test_budget_ends_the_run_and_its_schedule(cache: Path, tmp_path: Path) -> None:
    """ELECTRA's objective, five seconds: the rate has come down to nearly nothing when the time is over."""
    options = [
        "task.nsp=false",
        "task.replaced_tokens=true",
        "train.budget=5s",
        "train.log_every=5",
        "runtime.layout=packed",
    ]
    overrides = [o for o in pretrain_overrides(cache, tmp_path / "run") if not o.startswith("train.steps")]
    run_door("pretrain", *overrides, *options)
    record = read_json(tmp_path / "run" / "record.json")
    assert record["results"]["seconds"] == pytest.approx(5, abs=0.5)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()]
    share = max(0.05, 2 / lines[-2]["step"])  # a busy machine has time for few steps
    assert lines[-2]["learning_rate"] < share * max(line.get("learning_rate", 0) for line in lines)
    assert lines[-2]["detection_loss"] < lines[0]["detection_loss"]
    done = run_door(
        "finetune_korquad", f"init={tmp_path / 'run'}", "train.steps=2", "runtime.threads=1", "dropout=0.2",
        "runtime.layout=packed", f"run_dir={tmp_path / 'finetuned'}",
    )  # fmt: skip
    assert "EM" in done.stderr
    assert read_json(tmp_path / "finetuned" / "model" / "model.json")["model"]["hidden_dropout"] == 0.2


@pytest.mark.slow
def test_pretraining_goes_on_from_another(pretrained: Path, cache: Path, tmp_path: Path) -> None:
    silent = "train.optimizer.learning_rate=1e-12"  # the weights stay where they were
    same = run_door("pretrain", *pretrain_overrides(cache, tmp_path / "again"), f"init={pretrained}", silent)
    assert "held out other documents" not in same.stderr
    other = run_door("pretrain", *pretrain_overrides(cache, tmp_path / "other"), f"init={pretrained}", "seed=7")
    assert "it held out other documents (seed=42)" in other.stderr
    there, here = (load_bundle(run).model.state_dict() for run in (pretrained, tmp_path / "again"))
    assert all(torch.allclose(here[name], there[name], atol=1e-9) for name in there)
    wider = [*pretrain_overrides(cache, tmp_path / "wider"), f"init={pretrained}", "model.intermediate_size=48"]
    assert "its model.intermediate_size is" in run_door("pretrain", *wider, ok=False).stderr


def test_finished_run_is_not_overwritten(pretrained: Path, cache: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (pretrained / "record.json", pretrained / "model")}
    done = run_door("pretrain", *pretrain_overrides(cache, pretrained))
    assert "finished before, skipped" in done.stderr
    done = run_door("pretrain", *pretrain_overrides(cache, pretrained), "seed=7", ok=False)
    assert "this run is finished, with another configuration" in done.stderr
    assert "seed was 42, is 7" in done.stderr
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_an_unfinished_run_is_not_taken_for_its_end(pretrained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(pretrained, run)
    (run / "record.json").unlink()
    with pytest.raises(DataError, match=r"run: not finished: give the command of its training again.*run/model"):
        load_bundle(run)
    assert load_bundle(run / "model").folder == run / "model"  # who wants them as they are says so


def test_a_folder_without_a_model_is_named(pretrained: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such folder; wanted the folder of a training run"):
        korbert.load(tmp_path / "nowhere")
    with pytest.raises(DataError, match="has no model; wanted"):
        korbert.load(tmp_path)
    (tmp_path / "seed1").symlink_to(pretrained.resolve())
    with pytest.raises(DataError, match=r"holds 1 runs, e\.g\. seed1; wanted"):
        korbert.load(tmp_path)
    write_json_atomically(tmp_path / "record.json", {"task": "predict_korquad", "config": {"run": "runs/mine"}})
    with pytest.raises(
        DataError, match="is one of predict_korquad, which trains no model; its model is that of runs/mine"
    ):
        korbert.load(tmp_path)


def test_what_is_not_text_or_not_here_is_named(pretrained: Path, finetuned: Path) -> None:
    with pytest.raises(KorbertError, match="context: wanted text, got None"):
        korbert.load(finetuned).answer("누구?", None)  # type: ignore[arg-type]
    with pytest.raises(KorbertError, match="text: wanted text, got 3"):
        korbert.load(pretrained).fill_mask(3)  # type: ignore[arg-type]
    with pytest.raises(KorbertError, match="top='3': wanted a whole number, 1 or more"):
        korbert.load(pretrained).fill_mask("[MASK]", top="3")  # type: ignore[arg-type]
    with pytest.raises(KorbertError, match="device: 'foo' is unknown"):
        korbert.load(pretrained, device="foo")
    with pytest.raises(KorbertError, match="device: cuda:99 is not here: torch sees"):
        korbert.load(pretrained, device="cuda:99")


def test_a_tokenizer_of_another_program_is_not_written_over(cache: Path, tmp_path: Path) -> None:
    for name in ("vocab.txt", "tokenizer.json"):
        (tmp_path / name).write_text('{"version": "1.0"}', "utf-8")
        given = ("tokenizer=syllable", f"data.cache={cache}", f"output={tmp_path}")
        done = run_door("train_tokenizer", *given, ok=False)
        assert f"{name} is there already, is not of a tokenizer of korbert's, and would be" in done.stderr
        assert sorted(path.name for path in tmp_path.iterdir()) == [name]
        (tmp_path / name).unlink()
    run_door("train_tokenizer", *given)
    (tmp_path / "tokenizer.json").unlink()  # as if it had been killed while it was saved
    run_door("train_tokenizer", *given)
    load_tokenizer(tmp_path)


@pytest.mark.slow
def test_gazetteer_from_pretraining_to_answers(cache: Path, tmp_path: Path) -> None:
    """An annotator that needs files of its own goes through shards, fine-tuning and use."""
    (tmp_path / "names.txt").write_text("훈민정음\n세종\n집현전\n", "utf-8")
    chosen = "entities.annotator='expressions-mecab+gazetteer:{root}/names.txt'"
    run = tmp_path / "run"
    root = f"data.root={tmp_path}"
    run_door("pretrain", *pretrain_overrides(cache, run), chosen, "entities.mode=both", root)
    reader = tmp_path / "reader"
    small = ("train.epochs=null", "train.steps=2", "train.batch_size=4", "runtime.threads=1")
    task = ("task=korquad_sample", f"data.cache={cache}", f"run_dir={reader}")
    run_door("finetune_korquad", f"init={run}", *task, *small, root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KORBERT_DATA", str(tmp_path))
        loaded = korbert.load(reader)
        assert [e.label for e in loaded.annotator.annotate("세종은 1443년에").entities] == ["NAME", "DT"]
        patch.delenv("KORBERT_DATA")
        with pytest.raises(ConfigError, match=r"needs data\.root: give data\.root=FOLDER or set KORBERT_DATA"):
            korbert.load(reader)
        assert korbert.load(reader, data_root=tmp_path).annotator.fingerprint == loaded.annotator.fingerprint


@pytest.mark.slow
def test_entity_modes_and_a_run_without_pretraining(pretrained: Path, sample: Path, tmp_path: Path) -> None:
    small = tmp_path / "train.json"
    data = json.loads((sample / "KorQuAD_sample_train.json").read_text("utf-8"))
    data["data"] = data["data"][:2]
    small.write_text(json.dumps(data, ensure_ascii=False), "utf-8")
    done = run_door(
        "finetune_korquad", "-m", f"init={pretrained}", "entities=none,mecab", f"task.train=[{small}]",
        "train.steps=1", "train.epochs=null", "runtime.threads=1", f"run_dir={tmp_path / 'sweep'}",
    )  # fmt: skip
    assert "EM" in done.stderr
    for job, mode in (("none", "none"), ("mecab", "both")):
        (folder,) = (tmp_path / "sweep").glob(f"{job}-*")
        record = read_json(folder / "record.json")
        assert record["config"]["entities"]["mode"] == mode
        assert read_json(folder / "model" / "model.json")["entities"]["mode"] == mode
    run_door(
        "finetune_korquad", *TINY, f"tokenizer_path={pretrained / 'model' / 'tokenizer'}", "entities=none",
        f"task.train=[{small}]", "train.steps=1", "train.epochs=null", f"run_dir={tmp_path / 'scratch'}",
    )  # fmt: skip
    assert (tmp_path / "scratch" / "predictions.json").exists()


@pytest.mark.slow
def test_tokenizer_door_and_wandb_offline(cache: Path, tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    tokenizer = tmp_path / "syllable"
    run_door("train_tokenizer", "tokenizer=syllable", f"data.cache={cache}", f"output={tokenizer}")
    done = run_door(
        "pretrain", *TINY, f"tokenizer.path={tokenizer}", "entities=none", "tracker=wandb", "train.steps=2",
        "train.log_every=1", f"data.cache={cache}", f"run_dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert re.search(r"upload later with: wandb sync \S+", done.stderr)
    assert list((tmp_path / "run").glob("wandb/offline-run-*/*.wandb"))
    assert len((tmp_path / "run" / "metrics.jsonl").read_text("utf-8").splitlines()) == 3


# ---- wrong input: a message that names the place, before any training ----


@pytest.mark.parametrize(
    ("name", "override", "named"),
    [
        ("pretrain", "train.lerning_rate=1", "lerning_rate"),
        ("pretrain", "+train.step=5", "error: train.step: there is no such key; is train.steps meant?"),
        ("pretrain", "+traim.steps=5", "error: traim: there is no such key; is train meant?"),
        ("pipeline", "pretraining=['+train.step=5']", "train.step: there is no such key; is train.steps meant?"),
        ("pretrain", "tokenizer.vocab_size=many", "tokenizer.vocab_size"),
        ("pretrain", "tokenizer=sentencepeice", "sentencepeice"),
        ("pretrain", "entities.mode=everything", "entities.mode: 'everything'"),
        ("pretrain", "entities.annotator=none", "entities.mode=both needs an annotator"),
        ("pretrain", "train={epochs:1,steps:2}", "got steps, epochs"),
        ("pretrain", "train.budget=20", "train.budget: wanted a time such as 90s"),
        ("pretrain", "task.curriculum=[{start:0.5,max_length:64}]", "task.curriculum: wanted starts that rise from 0"),
        ("pretrain", "recipe=modren", "modren"),
        ("pretrain", "model.norm=middle", "model.norm: 'middle' is unknown"),
        ("pretrain", "task.masking.rate=1.5", "task.masking.rate"),
        ("pretrain", "task.max_length=1024", "task.max_length=1024: wanted 8 to model.max_positions=512"),
        ("pretrain", "model.num_heads=3", "model.num_heads=3"),
        ("pretrain", "corpus=kowiki", "needs data.root"),
        ("pretrain", "corpus=text", "corpus.files"),
        ("pretrain", "tokenizer.vocab_size=100000", "tokenizer.vocab_size=100000"),
        (
            "pretrain",
            "init=hf:klue/bert-base",
            "init=hf:klue/bert-base: pretraining goes on from a pretraining of korb",
        ),
        ("pretrain", "corpus=null", "error: corpus=null: wanted the name of a file in conf/"),
        ("finetune_korquad", "train.epochs=1", "give init=RUN"),
        ("finetune_korquad", "init=no/such/run", "no/such/run: run: there is no such folder"),
        ("finetune_korquad", "task.window.max_length=100", "doc_stride=128"),
        ("evaluate_korquad", "dataset=no.json", "predictions"),
        ("prepare_data", "data.root=no/such/folder", "data.root=no/such/folder: no such folder"),
    ],
)
def test_wrong_settings_name_the_key(cache: Path, tmp_path: Path, name: str, override: str, named: str) -> None:
    extra = () if name in ("evaluate_korquad", "prepare_data") else (f"data.cache={cache}", f"run_dir={tmp_path}/run")
    done = run_door(name, override, *extra, ok=False)
    assert named in done.stderr
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_typo_in_a_group_file_names_the_key(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository / "conf", tmp_path / "conf")
    with (tmp_path / "conf" / "model" / "tiny.yaml").open("a", encoding="utf-8") as file:
        file.write("hiden_size: 64\n")
    done = run_door("pretrain", "--config-path", str(tmp_path / "conf"), "model=tiny", ok=False)
    assert "hiden_size" in done.stderr


def question_file(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


GOOD = {
    "version": "v",
    "data": [
        {
            "title": "t",
            "paragraphs": [
                {
                    "context": "세종은 왕이다.",
                    "qas": [{"id": "q1", "question": "누구?", "answers": [{"text": "세종", "answer_start": 0}]}],
                }
            ],
        }
    ],
}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ('"answer_start": 0|"answer_start": 1', "data[0].paragraphs[0].qas[0].answers[0].answer_start"),
        ('"id": "q1", |', "data[0].paragraphs[0].qas[0].id"),
        ("세종은 왕이다.|", "data[0].paragraphs[0].context"),
        ('"version": "v",|"version": "v"', "line 1"),
    ],
)
def test_wrong_questions_stop_before_training(pretrained: Path, tmp_path: Path, change: str, named: str) -> None:
    old, new = change.split("|")
    text = json.dumps(GOOD, ensure_ascii=False)
    assert old in text
    path = tmp_path / "bad.json"
    path.write_text(text.replace(old, new), "utf-8")
    done = run_door(
        "finetune_korquad", f"init={pretrained}", f"task.train=[{path}]", f"run_dir={tmp_path / 'run'}",
        ok=False,
    )  # fmt: skip
    assert "bad.json" in done.stderr
    assert named in done.stderr
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("id", "named"),
    [
        ("q1", "share 1 question ids, e.g. 'q1'"),
        ("renamed", "share 1 questions on the same contexts, under other ids"),
    ],
)
def test_same_questions_in_train_and_test_are_refused(pretrained: Path, tmp_path: Path, id: str, named: str) -> None:
    train, test = tmp_path / "train.json", tmp_path / "test.json"
    text = json.dumps(GOOD, ensure_ascii=False)
    test.write_text(text, "utf-8")
    train.write_text(text.replace('"q1"', f'"{id}"'), "utf-8")
    done = run_door(
        "finetune_korquad", f"init={pretrained}", f"task.train=[{train}]", f"task.test={test}",
        f"run_dir={tmp_path / 'run'}", ok=False,
    )  # fmt: skip
    assert named in done.stderr


@pytest.mark.parametrize(
    ("content", "named"),
    [(b"", "holds no document"), (b"\n \n", "holds no document"), ("가나다\n".encode("cp949"), "line 1: not UTF-8")],
)
def test_unusable_corpus_names_file_and_line(cache: Path, tmp_path: Path, content: bytes, named: str) -> None:
    (tmp_path / "bad.txt").write_bytes(content)
    done = run_door(
        "pretrain", *pretrain_overrides(cache, tmp_path / "run"), f"corpus.files=[{tmp_path}/bad.txt]",
        ok=False,
    )  # fmt: skip
    assert "bad.txt" in done.stderr
    assert named in done.stderr


def test_model_of_another_tokenizer_is_refused(pretrained: Path, tmp_path: Path) -> None:
    other = tmp_path / "run"
    shutil.copytree(pretrained, other)
    path = other / "model" / "model.json"
    write_json_atomically(path, read_json(path) | {"tokenizer": "0123456789abcdef"})
    with pytest.raises(DataError, match=r"model\.json: tokenizer: the model was made with tokenizer 0123456789abcdef"):
        korbert.load(other)
    done = run_door("finetune_korquad", f"init={other}", f"run_dir={tmp_path / 'next'}", ok=False)
    assert "made with tokenizer 0123456789abcdef" in done.stderr


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"tokenizer": None}, "tokenizer: the model was made with tokenizer None"),
        ({"annotator": 5}, "content: not a model description"),
        ({"decoding": {"n_best": 0}}, r"content: not a model description .*n_best"),
    ],
)
def test_damaged_description_names_its_file(
    pretrained: Path, tmp_path: Path, change: dict[str, object], named: str
) -> None:
    """Also where nothing is sealed, as in models of before."""
    other = tmp_path / "run"
    shutil.copytree(pretrained, other)
    path = other / "model" / "model.json"
    described = {key: value for key, value in read_json(path).items() if key != "checksum"}
    write_json_atomically(path, described | change)
    with pytest.raises(DataError, match=rf"model\.json: {named}"):
        korbert.load(other)


def test_checkpoint_of_another_configuration_is_refused(pretrained: Path, cache: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(pretrained, run)
    (run / "record.json").unlink()
    done = run_door("pretrain", *pretrain_overrides(cache, run), "train.optimizer.weight_decay=0.5", ok=False)
    assert "train.optimizer.weight_decay was 0.01, is 0.5" in done.stderr


def test_prepare_data_checks_the_real_files(data_root: Path) -> None:
    done = run_door("prepare_data", f"data.root={data_root}")
    assert "140 articles, 5774 questions, all valid" in done.stderr
    assert "folds of 1157, 1155, 1153, 1153, 1156 questions" in done.stderr


@pytest.mark.slow
def test_a_fine_tuned_model_answers_again(finetuned: Path, tmp_path: Path) -> None:
    """The same answers as in fine-tuning; decoded in another way, others."""
    call = ("predict_korquad", f"run={finetuned}", "runtime.threads=1", f"data.cache={tmp_path / 'cache'}")
    run_door(*call, f"run_dir={tmp_path / 'same'}")
    before, same = (read_json(folder / "predictions.json") for folder in (finetuned, tmp_path / "same"))
    assert before == same
    scores = [read_json(folder / "record.json")["results"]["f1"] for folder in (finetuned, tmp_path / "same")]
    assert scores[0] == scores[1]
    run_door(*call, f"run_dir={tmp_path / 'short'}", "+decoding.max_answer_length=1")
    assert read_json(tmp_path / "short" / "predictions.json") != before
    done = run_door(*call, f"run_dir={tmp_path / 'wrong'}", "+decoding.nbest=1", ok=False)
    assert "decoding: 'nbest' is unknown, wanted n_best" in done.stderr
    done = run_door(*call, f"run_dir={tmp_path / 'known'}", "task.test=data/sample/KorQuAD_sample_train.json", ok=False)
    assert re.search(r"task\.test=\S+: run=\S+ was trained on \d+ of its questions", done.stderr)
    done = run_door(*call, f"run_dir={tmp_path / 'wrong'}", "task.decoding.max_answer_length=2", ok=False)
    assert "task.decoding: is the model's own (" in done.stderr
    done = run_door(*call, f"run_dir={tmp_path / 'wrong'}", "task.letters=2", ok=False)
    assert "task.letters: is the model's own (0), this has no effect" in done.stderr
    used, own = (read_json(folder / "record.json")["config"]["task"] for folder in (tmp_path / "short", finetuned))
    temperature = read_json(finetuned / "model" / "model.json")["decoding"]["temperature"]  # which training has found
    assert used["decoding"] == own["decoding"] | {"max_answer_length": 1, "temperature": temperature}
    assert (used["window"], used["train"]) == (own["window"], own["train"])
    folded = tmp_path / "folded"
    shutil.copytree(finetuned, folded)
    config = read_json(folded / "config.json")
    config["task"]["fold"] = 2
    write_json_atomically(folded / "config.json", config)
    done = run_door(call[0], f"run={folded}", f"run_dir={tmp_path / 'leak'}", "task.fold=1", ok=False)
    assert "was trained on all folds but 2" in done.stderr
    done = run_door(call[0], f"run={folded}/model", f"run_dir={tmp_path / 'leak'}", "task.fold=1", ok=False)
    assert "was trained on all folds but 2" in done.stderr
    record = read_json(tmp_path / "same" / "record.json")["config"]["task"]
    assert {record["test"], record["fold"]} == {"data/sample/KorQuAD_sample_dev.json", None}  # the run's own
    run_door(call[0], f"run={folded}", f"run_dir={tmp_path / 'own'}", *call[2:])
    assert read_json(tmp_path / "own" / "record.json")["config"]["task"]["fold"] == 2
    (folded / "model").rename(folded / "moved")  # a folder whose neighbour is not the run's settings
    write_json_atomically(folded / "config.json", {"task": "x"})
    done = run_door(call[0], f"run={folded}/moved", f"run_dir={tmp_path / 'leak'}", ok=False)
    assert "does not say what it was scored on" in done.stderr
    (folded / "moved").rename(folded / "model")
    (folded / "config.json").unlink()
    done = run_door(call[0], f"run={folded}", f"run_dir={tmp_path / 'unsaid'}", ok=False)
    assert f"task=own: run={folded} does not say what it was scored on: give task=" in done.stderr


def test_untrained_positions_are_told(pretrained: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The rows of a learned table behind the longest sequence of pretraining are what they began as."""
    bundle = load_bundle(pretrained)
    assert (bundle.description.model.positions, bundle.description.max_length) == ("learned", 128)
    for length, told in ((128, False), (129, True)):
        caplog.clear()
        take_over(SpanModel(bundle.description.model), bundle, make_runtime(RuntimeConfig()), "task.length", length)
        assert (f"task.length={length}: the pretraining had sequences of up to 128 tokens" in caplog.text) == told


def test_entities_of_which_no_window_shows_any_are_told(
    finetuned: Path, sample: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As of a dump's links, which are of its own texts and no others."""
    dataset = read_korquad(sample / "KorQuAD_sample_dev.json")
    tokenizer = load_bundle(finetuned).tokenizer
    for annotator, mode, told in (("none", "both", True), ("mecab", "both", False), ("none", "split", False)):
        caplog.clear()
        maker = WindowMaker(tokenizer, make_annotator(annotator), EntityMode(mode), WindowConfig())
        make_windows(maker, dataset, "test", tmp_path / annotator)
        assert (f"test: entities.mode={mode}, and no window has an entity" in caplog.text) == told


def test_questions_without_gold_answers_are_answered_and_not_scored(
    sample: Path, finetuned: Path, tmp_path: Path
) -> None:
    """The same answers as with them; a report leaves the run out of its tables, an analysis refuses it."""
    data = read_json(sample / "KorQuAD_sample_dev.json")
    data["data"] = data["data"][:2]
    for article in data["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                del question["answers"]
    path, run = tmp_path / "asked.json", tmp_path / "run"
    write_json_atomically(path, data)
    call = ("predict_korquad", f"run={finetuned}", f"task.test={path}", "runtime.threads=1", f"run_dir={run}")
    for name in ("made", "read"):
        done = run_door(*call, f"data.cache={tmp_path / 'cache'}")
        asked = len(read_korquad(path, answered=False))
        assert f"{asked} questions are answered, and not scored: {path} has no gold answers" in done.stderr
        assert "whole in no window" not in done.stderr
        found, before = (read_predictions(folder / "predictions.json") for folder in (run, finetuned))
        assert len(found) == asked
        assert found.items() <= before.items()
        results = read_json(run / "record.json")["results"]
        assert results == {"protocol": "not scored: asked.json has no gold answers", "scored": False, "total": asked}
        run.rename(tmp_path / name)
    done = run_door("report", f"runs=[{tmp_path / 'made'},{finetuned}]", f"folder={tmp_path / 'report'}")
    assert "without a score of their own, in no table: made" in done.stderr
    assert "no f1" not in done.stderr
    done = run_door("report_errors", f"run={tmp_path / 'made'}", ok=False)
    assert "results.scored: is false" in done.stderr
    done = run_door(
        "evaluate_korquad", f"predictions={tmp_path / 'made/predictions.json'}", f"dataset={path}", ok=False
    )
    assert "answers: this key is missing" in done.stderr


def test_answers_are_held_to_what_their_run_was_scored_on(finetuned: Path, tmp_path: Path) -> None:
    """Of questions that have changed, and of other answers, a report would say what is not so."""
    run, questions = tmp_path / "run", tmp_path / "questions.json"
    shutil.copytree(finetuned, run)
    record = read_json(run / "record.json")
    questions.write_bytes(Path(record["config"]["task"]["test"]).read_bytes())
    record["config"]["task"]["test"] = str(questions)
    record["inputs"][str(questions)] = checksum(questions)
    write_json_atomically(run / "record.json", record)
    config = ErrorsConfig(run=str(run), folder=str(tmp_path / "report"), data=DataConfig(cache=str(tmp_path / "cache")))
    assert report_errors(config)["official"]["f1"]["mean"] == pytest.approx(record["results"]["f1"])
    answers = read_predictions(run / "predictions.json")
    write_predictions(run / "predictions.json", dict.fromkeys(answers, "없음"))
    with pytest.raises(
        DataError, match=r"predictions\.json: content: .*the answers have changed since the run was scored"
    ):
        report_errors(config)
    questions.write_text(questions.read_text("utf-8").replace("세종", "단종"), "utf-8")
    with pytest.raises(DataError, match=r"questions\.json: content: not what .*/run was scored on, says its record"):
        report_errors(config)


def test_half_a_surrogate_pair_in_an_id_comes_through(sample: Path, finetuned: Path, tmp_path: Path) -> None:
    """Read, predicted, written, read again and scored as any other name of the question."""
    data = read_json(sample / "KorQuAD_sample_dev.json")
    question = data["data"][0]["paragraphs"][0]["qas"][0]
    plain, question["id"] = question["id"], "\ud800"
    data["data"] = data["data"][:2]
    path, run = tmp_path / "dev.json", tmp_path / "run"
    write_json_atomically(path, data)
    run_door(
        "predict_korquad", f"run={finetuned}", f"task.test={path}", "runtime.threads=1", f"run_dir={run}",
        f"data.cache={tmp_path / 'cache'}",
    )  # fmt: skip
    found, before = (read_predictions(folder / "predictions.json") for folder in (run, finetuned))
    assert found["\ud800"] == before[plain]
    assert read_json(run / "nbest.json")["\ud800"]["answers"][0]["text"] == found["\ud800"]
    results = read_json(run / "record.json")["results"]
    dataset = read_korquad(path)
    assert results["f1"] == score_predictions(dataset.gold(), found).f1
    assert digest_of(dataset) != digest_of(read_korquad(sample / "KorQuAD_sample_dev.json"))  # a report asks for it


def test_a_fine_tuned_model_reads_damaged_entities(finetuned: Path, tmp_path: Path) -> None:
    """Its record says which; the model's own windows are not taken for them."""
    call = ("predict_korquad", f"run={finetuned}", "runtime.threads=1", f"data.cache={tmp_path / 'cache'}")
    for name in ("dropped", "moved"):
        run_door(*call, f"run_dir={tmp_path / name}", f"damage.{name}=1.0")
        record = read_json(tmp_path / name / "record.json")
        assert record["config"]["damage"][name] == 1.0
        counts = record["results"]["damage"]
        assert 0 < counts["entities"] == counts[name] + counts["no_room"]
    run_door(*call, f"run_dir={tmp_path / 'whole'}")
    windows = list((tmp_path / "cache" / "windows").glob("*.safetensors"))
    assert len(windows) == 3
    done = run_door(*call, f"run_dir={tmp_path / 'wrong'}", "damage.moved=2", ok=False)
    assert "damage.moved: wanted a share between 0 and 1, got 2.0" in done.stderr
    assert not (tmp_path / "wrong" / "record.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("door", ["finetune_korquad", "train_tagger", "pretrain"])
def test_a_run_does_not_write_over_what_it_begins_with(pretrained: Path, tmp_path: Path, door: str) -> None:
    """A model folder that was copied from elsewhere has no record that would say that something is finished there."""
    copied, nested = tmp_path / "copied", tmp_path / "nested"
    shutil.copytree(pretrained / "model", copied)
    shutil.copytree(pretrained / "model", nested / "model")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for init, run_dir in ((copied, copied), (nested, nested), (nested / "model", nested), (f"hf:{copied}", copied)):
        done = run_door(door, f"init={init}", f"run_dir={run_dir}", ok=False)
        assert f"error: run_dir={run_dir}: the model of init={init} lies there" in done.stderr
    done = run_door(door, "-m", f"init={copied}", f"run_dir={tmp_path}", "hydra.sweep.subdir=copied", ok=False)
    assert f"the model of init={copied} lies there" in done.stderr
    after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert before.items() <= after.items()


def test_an_empty_name_is_no_folder_of_a_run(repository: Path) -> None:
    """It meant the working directory."""
    for more in ([], ["-m", "seed=1,2"]):
        done = run_door("finetune_korquad", *more, "init=x", "run_dir=''", ok=False)
        assert done.returncode == 1
        assert "error: run_dir: wanted a folder, got an empty name" in done.stderr
    assert not {"hydra", "log.txt", "config.json", "multirun.yaml"} & {path.name for path in repository.iterdir()}


def test_doors_without_a_run_folder_leave_nothing_behind(repository: Path, tmp_path: Path) -> None:
    run_door("runs", "list", f"records={tmp_path / 'records.sqlite'}", ok=False)
    assert not (repository / "runs.log").exists()

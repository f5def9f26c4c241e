"""The full-size studies, dry: their commands compose as written, one GPU and eight take the same steps, and models of
BERT-base's size train for a few."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from doors import run_door
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from test_studies import axes

from korbert.config import compose_config
from korbert.data.batching import BatchStream, FixedSource
from korbert.data.loading import BatchLoader
from korbert.errors import DataError
from korbert.files import read_json
from korbert.tasks.finetune import protocol
from korbert.tasks.pipeline import located, run_pipeline, stages

REPOSITORY = Path(__file__).resolve().parents[1]
CONF = REPOSITORY / "conf"
STUDIES = ("full_main", "full_arms", "full_tokenizers", "full_scale")
PROTOCOL = "trained on KorQuAD_v1.0_train.json, scored on KorQuAD_v1.0_dev.json"
FILES = sorted((CONF / "experiment").glob("full_*.yaml"))
pytestmark = pytest.mark.filterwarnings(r"ignore:\s*'hydra/launcher")  # see korbert.config.sweeping


@pytest.fixture(autouse=True)
def conf() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def commands(path: Path) -> list[tuple[str, list[str]]]:
    """Door and overrides of each command in a file's comments; of a sweep, and of a shell's loop, the first job."""
    lines = [line.removeprefix("#").strip() for line in path.read_text("utf-8").splitlines() if line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    if variable := re.search(r'STUDY="(.*)"', text):
        text = text.replace("$STUDY", variable[1]).replace(variable[0], "")
    text = text.replace("$arm", "none").replace("$seed", "1")
    found = []
    for door, rest in re.findall(r"experiments/(\w+)\.py([^;\n]*)", text):
        given = OverridesParser.create().parse_overrides([word for word in rest.split() if word != "-m"])
        first = [
            f"{override.key_or_group}={next(override.sweep_string_iterator())}"
            if override.is_sweep_override()
            else str(override.input_line)
            for override in given
        ]
        found.append((door, first))
    return found


def test_full_sizes_are_known() -> None:
    assert {path.stem for path in FILES} == {
        *STUDIES, "full_text", "full_corpus", "full_pretrain", "full_finetune", "full_pipeline",
    }  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_commands_compose_as_they_are_written(path: Path) -> None:
    made = commands(path)
    assert made or path.stem == "full_text"
    for door, overrides in made:
        run_dir = [o for o in overrides if o.startswith("run_dir=")]
        assert run_dir or door in ("prepare_data", "report")
        if any(o.startswith("hydra/") for o in overrides):
            compose(door, overrides, return_hydra_config=True)
        else:
            compose_config(door, overrides)


@pytest.mark.parametrize("study", STUDIES)
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local", "submitit_slurm", "ray"])
def test_launchers_compose_with_a_study(study: str, launcher: str) -> None:
    options = ["hydra.launcher.ray.remote.num_gpus=1"] if launcher == "ray" else []
    made = compose(
        "pipeline", [f"experiment={study}", f"hydra/launcher={launcher}", "run_dir=x", *options],
        return_hydra_config=True,
    )  # fmt: skip
    assert launcher.partition("_")[0] in made.hydra.launcher._target_
    assert made.hydra.sweeper.params.seed == "1,2,3"


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_every_value_of_a_study_composes(study: str) -> None:
    made = axes(study)
    assert made["seed"] == list("123")
    first = {key: values[0] for key, values in made.items()}
    for choice in [first, *({**first, key: value} for key, values in made.items() for value in values[1:])]:
        overrides = [f"{key}={value}" for key, value in choice.items()]
        config = compose_config("pipeline", [f"experiment={study}", "run_dir=x", "data.root=data", *overrides])
        pretraining, finetuning = stages(config)
        assert pretraining.model.hidden_size in (512, 768)
        assert pretraining.entities == config.entities
        assert pretraining.seed == finetuning.seed == config.seed
        assert pretraining.task.max_length == finetuning.task.window.max_length == pretraining.model.max_positions
        # Packed without padding is what runtime.layout=auto means on a GPU.
        assert (config.runtime.device, config.runtime.precision, config.runtime.layout) == ("cuda", "bf16", "auto")
        assert protocol(finetuning.task, Path(finetuning.task.test)) == PROTOCOL
        assert finetuning.task.validation_share == 0.0


def test_main_contrast_is_what_was_decided() -> None:
    assert axes("full_main") == {"arm": ["none", "split", "both"], "seed": list("123")}
    assert axes("full_arms")["arm"] == axes("study_arms")["arm"]
    pretraining, _ = stages(compose_config("pipeline", ["experiment=full_main", "run_dir=x"]))
    assert (pretraining.model.num_layers, pretraining.model.hidden_size, pretraining.model.num_heads) == (12, 768, 12)


def test_the_corpus_is_found_where_it_was_built() -> None:
    """By its tokenizer and annotator; arms that cut at the same entities share it."""

    def shards(door: str, *overrides: str) -> str:
        config = compose_config(door, [*overrides, "data.root=data", "run_dir=x"])
        return str(config.output if door == "build_corpus" else config.corpus.shards)

    built = {arm: shards("build_corpus", "experiment=full_corpus", f"arm={arm}") for arm in ("none", "both", "random")}
    assert len(set(built.values())) == 3
    read = {arm: shards("pipeline", "experiment=full_main", f"arm={arm}") for arm in axes("full_arms")["arm"]}
    assert read["none"] == built["none"] == shards("pretrain", "experiment=full_pretrain", "arm=none")
    assert {read[arm] for arm in ("split", "markers", "embedding", "both", "typed")} == {built["both"]}
    assert read["random"] == built["random"]
    assert len(set(read.values())) == 5  # with gazetteer and mecab
    smaller = ("tokenizer=wordpiece", "tokenizer.vocab_size=8000", "arm=none")
    assert shards("build_corpus", "experiment=full_corpus", *smaller) == shards(
        "pipeline", "experiment=full_tokenizers", *smaller
    )
    assert compose_config("train_tokenizer", ["corpus=kowiki_dump"]).corpus.shards is None  # reads none


def test_one_gpu_and_eight_take_the_same_steps() -> None:
    """The two commands differ in torchrun alone; a step's batches are dealt out, one to each of eight GPUs."""
    alone, together = (
        overrides
        for door, overrides in commands(CONF / "experiment" / "full_pipeline.yaml")
        if door == "pipeline" and "until=pretraining" in overrides
    )
    assert alone == together
    train = stages(compose_config("pipeline", together))[0].train
    assert (train.batch_size * train.accumulation, train.total_steps(lambda: 0)) == (512, 20_000)

    def loader(rank: int, size: int) -> BatchLoader[Any]:
        stream = BatchStream(FixedSource([np.array([number]) for number in range(3000)]), train.batch_size, seed=1)
        made: BatchLoader[Any] = BatchLoader([(0.0, stream)], lambda arrays: [int(a[0]) for a in arrays], 0)  # type: ignore[arg-type, return-value]
        made.deal(train.accumulation, rank, size)
        return made

    whole, parts = loader(0, 1), [loader(rank, 8) for rank in range(8)]
    for _ in range(3):
        expected = whole.next_step()
        dealt = [part.next_step() for part in parts]
        assert [len(batches) for batches in dealt] == [1] * 8
        assert sorted((batch for batches in dealt for batch in batches), key=lambda item: item[0]) == expected
        assert sum(len(batch) for _, batch in expected) == 512


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data as the full-size commands want it, in small, and its corpus for the arms none and both."""
    folder = tmp_path_factory.mktemp("full")
    (folder / "korquad").mkdir()
    for part in ("train", "dev"):
        asked = {"세종은 무엇을 만들었는가?": ("한글", 4), "한글을 만든 사람은 누구인가?": ("세종", 0)}
        questions = [
            {"id": f"{part}-{number}", "question": question, "answers": [{"text": text, "answer_start": start}]}
            for number, (question, (text, start)) in enumerate(asked.items())
        ]
        context = f"세종은 한글을 만들었다. {part}"  # of the test none is trained on
        article = {"title": part, "paragraphs": [{"context": context, "qas": questions}]}
        made = json.dumps({"version": "KorQuAD_v1.0_" + part, "data": [article]}, ensure_ascii=False)
        (folder / "korquad" / f"KorQuAD_v1.0_{part}.json").write_text(made, "utf-8")
    (folder / "gazetteer").mkdir()
    with gzip.open(folder / "gazetteer" / "kowiki_titles.txt.gz", "wt", encoding="utf-8") as file:
        file.write("세종\n조선\n")
    build = ["build_corpus", "-m", "experiment=full_corpus", "arm=none,both", "filters.min_characters=1"]
    run_door(*build, *small(folder), f"run_dir={folder}/build")
    assert len(list(folder.glob("corpora/kowiki-*/manifest.json"))) == 2
    return folder


def small(folder: Path) -> list[str]:
    """What is other than at full size: the text and its tokenizer, a processor, where things lie."""
    return [
        f"corpus.files=[{REPOSITORY}/data/sample/corpus.txt]", "tokenizer=syllable", "tokenizer.vocab_size=1500",
        f"corpus.shards=${{korbert.shards_folder:{folder}/corpora/kowiki}}", f"data.root={folder}",
        f"data.cache={folder}/cache", f"data.records={folder}/records.sqlite",
        "runtime=cpu", "runtime.threads=1", "runtime.workers=1",
    ]  # fmt: skip


def few_steps(*pretraining: str, accumulation: int = 1) -> list[str]:
    """Two steps, with batches of two."""
    sizes = ["train.steps=2", "train.batch_size=2", "train.log_every=1"]
    first = ["experiment=full_pretrain", *sizes, f"train.accumulation={accumulation}", "task.validation_examples=2"]
    quoted = [",".join(f"'{part}'" for part in parts) for parts in ([*first, *pretraining], sizes)]
    return [f"pretraining=[{quoted[0]}]", f"finetuning=['experiment=full_finetune',{quoted[1]}]"]


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["none", "both"])
def test_base_sizes_run_for_a_few_steps(
    world: Path, tmp_path: Path, arm: str, monkeypatch: pytest.MonkeyPatch, one_thread: None
) -> None:
    """Twelve layers, 768 wide, packed as on a GPU; without what costs time alone: Muon, long sequences, checkpoints."""
    monkeypatch.setattr("korbert.training.loop.save_checkpoint", lambda *_, **__: None)
    options = [f"arm={arm}", "seed=1", *small(world), "runtime.layout=packed", f"run_dir={tmp_path}/run"]
    steps = few_steps("train.optimizer.kind=adamw", "task.curriculum=[]", "task.max_length=64")
    where = f"pretrained={tmp_path}/pretrained"
    record = run_pipeline(compose_config("pipeline", ["experiment=full_main", *options, *steps, where]))
    (folder,) = (tmp_path / "pretrained").iterdir()
    pretrained = read_json(folder / "record.json")
    assert pretrained["results"]["steps"] == record["results"]["steps"] == 2
    assert record["results"]["protocol"] == PROTOCOL
    model = read_json(tmp_path / "run" / "finetune" / "model" / "model.json")["model"]
    assert (model["num_layers"], model["hidden_size"], model["num_heads"]) == (12, 768, 12)
    assert pretrained["config"]["entities"]["mode"] == arm
    for weights in tmp_path.rglob("*.safetensors"):  # hundreds of megabytes each, which pytest would keep
        weights.unlink()


TINY = ("model=tiny", "model.hidden_size=32", "model.num_layers=1", "model.matching_heads=1")


@pytest.mark.slow
def test_a_sweep_finds_what_torchrun_has_pretrained(world: Path, tmp_path: Path) -> None:
    given = [*small(world), *few_steps(*TINY, accumulation=2), f"pretrained={tmp_path}/pretrained"]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "experiments/pipeline.py",
        "experiment=full_pipeline", "arm=both", "seed=1", *given, f"run_dir={tmp_path}/pretraining",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    started: dict[str, Any] = {"cwd": REPOSITORY, "env": environment, "capture_output": True, "text": True}
    refused = subprocess.run(command, check=False, **started)
    assert refused.returncode != 0
    assert "give until=pretraining" in refused.stderr
    done = subprocess.run([*command, "until=pretraining"], check=False, **started)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "pretrained").iterdir()
    first = read_json(folder / "record.json")
    assert first["results"]["steps"] == 2

    run_door("pipeline", "-m", "experiment=full_main", "arm=none,both", "seed=1", *given, f"run_dir={tmp_path}/runs")
    records = {path.parent.name.partition("-")[0]: read_json(path) for path in tmp_path.glob("runs/*/record.json")}
    assert records["both"]["results"]["pretraining"] == {"run": str(folder), **first["results"]}
    assert len(read_json(folder / "record.json")["sessions"]) == 1
    assert len(list((tmp_path / "pretrained").iterdir())) == 2
    options = ["arm=both", "seed=1", "until=pretraining", f"run_dir={tmp_path}/again"]
    again = run_door("pipeline", "experiment=full_main", *given, *options)
    assert "finished before, skipped" in again.stderr


def test_shards_that_are_not_built_yet(tmp_path: Path) -> None:
    given = [o for o in small(tmp_path) if not o.startswith("runtime")]
    config = compose_config("pipeline", ["experiment=full_main", "arm=none", *given, "entities=none", "run_dir=x"])
    with pytest.raises(DataError, match=r"manifest\.json: corpus\.shards: not found; experiments/build_corpus\.py"):
        located(config)

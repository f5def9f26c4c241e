"""The studies' sweeps: every value of every axis composes, and the shapes run for a few steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from doors import run_door
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from korbert.config import compose_config
from korbert.files import read_json
from korbert.tasks.pipeline import stages

CONF = Path(__file__).resolve().parents[1] / "conf"
STUDIES = ("study_main", "study_arms", "study_masking", "study_scale", "study_tokenizers")
LARGE = {
    "pretraining": "['experiment=study_pretrain','model=base','train.tokens=2_000_000_000','train.batch_size=256']",
    "finetuning": "['task=korquad','train.epochs=2','train.batch_size=32','train.optimizer.learning_rate=5e-5']",
    "fold": "null",
}


@pytest.fixture(autouse=True)
def conf() -> Iterator[None]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def axes(study: str, door: str = "pipeline") -> dict[str, list[str]]:
    """Key → the values that the sweep gives it."""
    params = compose(door, [f"experiment={study}", "run_dir=x"], return_hydra_config=True).hydra.sweeper.params
    parser = OverridesParser.create()
    found = {}
    for key, values in params.items():
        override = parser.parse_override(f"{key}={values}")
        found[key] = list(override.sweep_string_iterator()) if override.is_sweep_override() else [str(override.value())]
    return found


@pytest.mark.slow
@pytest.mark.parametrize("study", STUDIES)
def test_every_value_of_a_study_composes(study: str) -> None:
    """At this size, and with the full-size commands of the README."""
    made = axes(study)
    first = {key: values[0] for key, values in made.items()}
    chosen = [first, *({**first, key: value} for key, values in made.items() for value in values[1:] if key != "seed")]
    for number, choice in enumerate(chosen):
        overrides = [f"{key}={value}" for key, value in choice.items()]
        large = LARGE if number == 0 else {}
        overrides = [o for o in overrides if o.partition("=")[0] not in large]
        overrides += [f"{key}={value}" for key, value in large.items()]
        config = compose_config("pipeline", [f"experiment={study}", "run_dir=x", "data.root=/data", *overrides])
        pretraining, finetuning = stages(config)
        assert pretraining.entities.mode == config.entities.mode
        assert pretraining.task.selection.share == 1.0
        assert pretraining.train.steps is None
        assert finetuning.task.fold == config.fold
        assert finetuning.task.test.endswith("KorQuAD_v1.0_dev.json")
    assert {"seed"} < made.keys()


def test_main_contrast_is_what_was_decided() -> None:
    made = axes("study_main")
    assert made == {"arm": ["none", "split", "both"], "fold": list("01234"), "seed": list("12345")}
    every_arm = {path.stem for path in (CONF / "arm").glob("*.yaml")}
    assert set(axes("study_arms")["arm"]) == every_arm - {"tagger"}  # which has to be trained before


def test_tokenizers_are_fed_the_same_text() -> None:
    """Six strategies of two sizes, plain, on a fold that is not the one of the choice of size and budget."""
    made = axes("study_tokenizers")
    assert (made["arm"], made["tokenizer.vocab_size"], made["seed"]) == (["none"], ["8000", "32000"], list("123"))
    assert len(set(made["tokenizer"])) == 6
    first = ["experiment=study_tokenizers", "run_dir=x", "data.root=/data", "arm=none", "seed=1"]
    found = []
    for tokenizer in [*made["tokenizer"], "syllable"]:
        pretraining, finetuning = stages(compose_config("pipeline", [*first, f"tokenizer={tokenizer}"]))
        assert (pretraining.train.epochs, finetuning.train.epochs, finetuning.task.fold) == (0.2, 1.0, 1)
        found.append((pretraining.corpus, pretraining.model, pretraining.train.batch_size))
    assert all(one == found[0] for one in found)


def test_objectives_differ_in_what_is_learned_alone() -> None:
    """The same model and heads: a step, masked words alone, and the pretraining of the other studies."""
    made = axes("study_objective")
    assert (made["arm"], made["fold"], made["seed"]) == (["none"], ["0"], list("12345"))
    first = ["experiment=study_objective", "run_dir=x", "data.root=/data", "arm=none", "seed=1"]
    none, masked, places = (
        stages(compose_config("pipeline", [*first, f"pretraining={value}"]))[0] for value in made["pretraining"]
    )
    assert none.model == masked.model == places.model
    assert none.model.matching_heads == 2
    assert (none.train.steps, masked.train.epochs, places.train.epochs) == (1, 0.4, 0.4)
    assert (masked.task.objectives(), places.task.objectives()) == (("mlm",), ("mlm", "selection"))
    assert places == stages(compose_config("pipeline", ["experiment=study_main", *first[1:]]))[0]


def test_damage_is_done_in_shares() -> None:
    """Entities left out and entities moved, each 10, 30 and 100 %; on the run's own questions."""
    (shares,) = axes("study_damage", "predict_korquad").values()
    overrides = ["experiment=study_damage", "run=x", "run_dir=x"]
    made = [compose_config("predict_korquad", [*overrides, f"damage={share}"]) for share in shares]
    wanted = [(share, 0.0) for share in (0.1, 0.3, 1.0)] + [(0.0, share) for share in (0.1, 0.3, 1.0)]
    assert [(one.damage.dropped, one.damage.moved) for one in made] == wanted
    assert {one.task.test for one in made} == {"own"}


@pytest.mark.slow
def test_a_study_runs_for_a_few_steps(tmp_path: Path) -> None:
    """Two arms on the sample: one pretraining each, folders named after what varies."""
    small = "'model=tiny','model.hidden_size=32','model.num_layers=1','train.batch_size=4'"
    command = [
        "pipeline", "-m", "experiment=study_main", "arm=none,both", "fold=null",
        "seed=1", "corpus=sample", "tokenizer=syllable", "tokenizer.vocab_size=1500", f"run_dir={tmp_path}/runs",
        f"pretrained={tmp_path}/pretrained", f"data.cache={tmp_path}/cache", f"data.records={tmp_path}/records.sqlite",
        f"pretraining=['experiment=study_pretrain','train.epochs=null','train.steps=2',{small}]",
        "finetuning=['experiment=finetune_mini','task=korquad_sample','train.epochs=null','train.steps=2']",
        "runtime.threads=1", "runtime.workers=1", "entities.annotator=mecab",
    ]  # fmt: skip
    run_door(*command)
    records = {path.parent.name: read_json(path) for path in (tmp_path / "runs").glob("*/record.json")}
    assert sorted(name.partition("-")[0] for name in records) == ["both", "none"]
    assert {record["config"]["entities"]["mode"] for record in records.values()} == {"none", "both"}
    assert len(list((tmp_path / "pretrained").iterdir())) == 2

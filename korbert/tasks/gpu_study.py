"""The entity study in one command for a GPU machine that has neither analysers nor a network.

`prepare`, on any machine, makes a folder of token shards, annotations and questions. `run`, in minutes, pretrains and
fine-tunes each kind of entity input over seeds and folds, checks the unpadded path against the padded one, and
measures its speed beside Hugging Face's. What is finished stays; a second call goes on.
"""

from __future__ import annotations

import functools
import itertools
import logging
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from korbert.config import EntitiesConfig, GpuStudyConfig, as_override, as_overrides, compose_config, expand_root
from korbert.data.batching import collate_pretraining
from korbert.data.corpus import read_documents
from korbert.data.korquad import read_korquad
from korbert.data.masking import MaskingConfig
from korbert.data.pretraining import Passages
from korbert.data.shards import ShardedCorpus
from korbert.encoding import EntityMode
from korbert.entities import make_annotator, write_store
from korbert.errors import ConfigError, KorbertError
from korbert.files import RECORD, plain_name, read_json, write_json_atomically, write_text_atomically
from korbert.model import ModelConfig, PretrainingModel
from korbert.study.collection import read_record
from korbert.study.page import table
from korbert.study.results import make_stamp
from korbert.tasks.benchmark import benchmark
from korbert.tasks.finetune import finetune_korquad
from korbert.tasks.own_folders import check_own, renew
from korbert.tasks.prepare import corpus_files, prepare_shards, prepare_tokenizer
from korbert.tasks.pretrain import pretrain
from korbert.tokenizers import load_tokenizer
from korbert.training.runtime import Runtime, make_runtime, seed_everything
from korbert.training.settings import CHECKPOINT

log = logging.getLogger(__name__)
_LIMIT_MEGABYTES = 60
_MARKER = ".gpu_study"  # in what `prepare` makes
_PARAGRAPHS, _PARAGRAPH_BYTES = "paragraphs.txt", 3_000_000
_TASKS = {"check": "check_layouts", "pretrain": "pretrain", "finetune": "finetune_korquad", "benchmark": "benchmark"}
# Arm → whose spans, and how they enter the input.
ARMS = {
    "none": ("none", "none"),
    "split": ("entities", "split"),
    "random": ("random", "both"),
    "markers": ("entities", "markers"),
    "embedding": ("entities", "embedding"),
    "both": ("entities", "both"),
}


def gpu_study(config: GpuStudyConfig) -> None:
    """Prepare or run, as `config.stage` says."""
    stages = {"prepare": prepare_study, "run": run_study}
    if config.stage not in stages:
        raise ConfigError(f"stage: {config.stage!r} is unknown, wanted {' or '.join(stages)}")
    unknown = [arm for arm in config.arms if arm not in ARMS]
    if unknown or not config.arms:
        raise ConfigError(f"arms: wanted some of {', '.join(ARMS)}, got {config.arms}")
    stages[config.stage](config)


def annotators(config: GpuStudyConfig) -> dict[str, str]:
    """Whose spans → the annotator's name, of those that the arms need."""
    names = {"none": "none", "entities": config.annotator, "random": f"random-{config.annotator}"}
    needed = {ARMS[arm][0] for arm in config.arms}
    return {kind: name for kind, name in names.items() if kind in needed}


# ---- prepare ----


def prepare_study(config: GpuStudyConfig) -> None:
    """Make everything that `run` needs in `config.folder`; it replaces what an earlier call made there.

    Raises ConfigError for a folder with anything else in it. What an earlier call made stays until all that goes into
    the new folder is there.
    """
    folder = Path(config.folder)
    check_own(folder, _MARKER, lambda made: (made / "study.json").is_file() and (made / "tokenizer").is_dir())
    questions = [Path(expand_root(path, config.data)) for path in (config.test_file, *config.train_files)]
    datasets = [read_korquad(path) for path in questions]
    tokenizer_folder = prepare_tokenizer(config.tokenizer, config.corpus, config.data)
    shards, stores = {}, {}
    for kind, name in annotators(config).items():
        entities = EntitiesConfig(annotator=name, mode="none" if kind == "none" else "both")
        made = prepare_shards(tokenizer_folder, entities, config.corpus, config.data, config.runtime.workers)
        shards[kind] = made.folder
        if kind != "none":
            stores[kind] = make_annotator(expand_root(name, config.data), cache=config.data.cache)
    for path in (*questions, tokenizer_folder, *shards.values()):
        if path.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"folder={folder}: {path} lies in it, which is made anew; choose another folder")

    renew(folder, _MARKER)
    shutil.copytree(tokenizer_folder, folder / "tokenizer")
    for path in questions:
        shutil.copy(path, folder / path.name)
    for kind, name in annotators(config).items():
        shutil.copytree(shards[kind], folder / f"shards-{kind}")
        if kind in stores:
            texts = {text for dataset in datasets for text in dataset.texts()}
            write_store(folder / f"annotations-{kind}.sqlite", name, stores[kind], sorted(texts))
    write_json_atomically(
        folder / "study.json",
        {"annotators": annotators(config), "test": questions[0].name, "train": [path.name for path in questions[1:]]},
    )
    _write_paragraphs(config, folder / _PARAGRAPHS)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    log.info("%s: %.1f MB", folder, size)
    if size > _LIMIT_MEGABYTES:
        raise ConfigError(
            f"{folder} has {size:.1f} MB, more than {_LIMIT_MEGABYTES}: choose a lower corpus.max_documents than "
            f"{config.corpus.max_documents}"
        )


def _write_paragraphs(config: GpuStudyConfig, path: Path) -> None:
    """The first megabytes of the corpus as text, for the benchmark."""
    lines: list[str] = []
    size = 0
    for document in itertools.chain.from_iterable(map(read_documents, corpus_files(config.corpus, config.data))):
        lines += [*document, ""]
        size += sum(len(paragraph.encode()) for paragraph in document)
        if size > _PARAGRAPH_BYTES:
            break
    write_text_atomically(path, "\n".join(lines) + "\n")


# ---- run ----


def run_study(config: GpuStudyConfig) -> None:
    """Work through the jobs until all are done or the time is over, and write the table of what there is."""
    started = time.perf_counter()
    folder, output = Path(config.folder), Path(config.output)
    prepared = read_json(folder / "study.json")
    for name in (prepared["test"], *prepared["train"]):
        plain_name(folder / "study.json", "questions", name)
    missing = annotators(config).keys() - prepared["annotators"].keys()
    if missing:
        raise ConfigError(f"{folder} was prepared without {', '.join(missing)}: prepare it again with these arms")
    output.mkdir(parents=True, exist_ok=True)
    took: dict[str, list[float]] = {}
    left = []
    done = {name for kind, name, _ in jobs(config, prepared) if _is_done(output / name, _TASKS[kind])}
    write_table(config, output)  # of what is there, whatever follows
    for kind, name, job in jobs(config, prepared):
        if name in done:
            if kind != "check":
                job()  # which makes no finished run again, and says so where it is not what was asked for
            continue
        passed = time.perf_counter() - started
        if took and passed + max(took.get(kind, [0.0])) > 60 * config.minutes:
            left.append(name)
            continue
        log.info("%s: begins after %.0f s", name, passed)
        began = time.perf_counter()
        failure = output / f"failed-{name}.json"
        failure.unlink(missing_ok=True)
        try:
            job()
        except ConfigError:
            raise
        except Exception as error:  # one part that fails must not cost the others, on a machine lent for minutes
            log.exception("%s failed", name)
            write_json_atomically(failure, {"error": repr(error)})
        took.setdefault(kind, []).append(time.perf_counter() - began)
        write_table(config, output)
    write_table(config, output)
    if left:
        log.info("time is over; the same command goes on with: %s", ", ".join(left))


def _is_done(run: Path, task: str) -> bool:
    """Whether the run is finished. Raises ConfigError for another one in its place, DataError for a damaged record."""
    found = read_record(run, run.name)
    if found is not None and found.record["task"] != task:
        raise ConfigError(f"output: in {run} is a run of the task {found.record['task']!r}; choose another folder")
    return found is not None


def jobs(config: GpuStudyConfig, prepared: dict[str, Any]) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """Kind, name and work of each job, the most telling first."""
    folder, output = Path(config.folder), Path(config.output)
    yield "check", "check", functools.partial(check_layouts, config, folder, output / "check")
    for arm in config.arms:
        yield "pretrain", f"pretrain-{arm}", functools.partial(_pretrain, config, prepared, arm)
    first = True
    for seed in config.seeds:
        for fold in config.folds:
            for arm in config.arms:
                name = _finetuning(arm, fold, seed)
                yield "finetune", name, functools.partial(_finetune, config, prepared, arm, fold, seed)
            if first:  # the table has a whole row; now the speed
                yield "benchmark", "benchmark", functools.partial(_benchmark, config, folder, output / "benchmark")
            first = False


def _finetuning(arm: str, fold: int, seed: int) -> str:
    return f"finetune-{arm}-fold{fold}-seed{seed}"


def _compose(name: str, config: GpuStudyConfig, *overrides: str) -> Any:
    return compose_config(name, [*overrides, *as_overrides("runtime", config.runtime)])


def _entities(config: GpuStudyConfig, prepared: dict[str, Any], arm: str) -> list[str]:
    kind, mode = ARMS[arm]
    chosen = [as_override("entities.annotator", prepared["annotators"][kind]), f"entities.mode={mode}"]
    store = as_override("entities.store", f"{config.folder}/annotations-{kind}.sqlite")
    return chosen if kind == "none" else [*chosen, store]


def _pretrain(config: GpuStudyConfig, prepared: dict[str, Any], arm: str) -> None:
    kind, _ = ARMS[arm]
    pretrain(
        _compose(
            "pretrain", config, *config.pretraining, *_entities(config, prepared, arm),
            as_override("tokenizer.path", f"{config.folder}/tokenizer"),
            as_override("corpus.shards", f"{config.folder}/shards-{kind}"),
            as_override("run_dir", f"{config.output}/pretrain-{arm}"),
        )
    )  # fmt: skip


def _finetune(config: GpuStudyConfig, prepared: dict[str, Any], arm: str, fold: int, seed: int) -> None:
    train = [f"{config.folder}/{name}" for name in prepared["train"]]
    run = Path(config.output) / _finetuning(arm, fold, seed)
    finetune_korquad(
        _compose(
            "finetune_korquad", config, *config.finetuning, *_entities(config, prepared, arm), "task=korquad_5fold",
            f"task.fold={fold}", f"seed={seed}", as_override("init", f"{config.output}/pretrain-{arm}"),
            as_override("task.train", train), as_override("task.test", f"{config.folder}/{prepared['test']}"),
            as_override("run_dir", str(run)),
        )
    )  # fmt: skip
    (run / CHECKPOINT).unlink(missing_ok=True)


def _benchmark(config: GpuStudyConfig, folder: Path, output: Path) -> None:
    places = {
        "tokenizer.path": f"{folder}/tokenizer",
        "corpus.files": [f"{folder}/{_PARAGRAPHS}"],
        "run_dir": str(output),
    }
    overrides = [as_override(key, value) for key, value in places.items()]
    benchmark(_compose("benchmark", config, *config.benchmark, *overrides))


def check_layouts(config: GpuStudyConfig, folder: Path, output: Path) -> None:
    """Compare loss and gradients of packed and of padded batches, on this device, on the study's text.

    Both are computed in the device's training precision, and padded in float32 beside it: packed must be as near to
    that as padded is. Raises KorbertError where it is not.
    """
    runtime = make_runtime(config.runtime)
    tokenizer = load_tokenizer(folder / "tokenizer")
    corpus = ShardedCorpus(folder / "shards-none", tokenizer.fingerprint)
    data = Passages(corpus, tokenizer, EntityMode.NONE, max_length=128, masking=MaskingConfig(), seed=0)
    examples = data.examples(0, 32)
    seed_everything(0)
    sizes: dict[str, Any] = {"hidden_size": 256, "num_layers": 4, "num_heads": 4, "intermediate_size": 1024}
    switches: dict[str, dict[str, Any]] = {
        "bert": {},
        "modern": {"norm": "pre", "positions": "rotary", "feed_forward": "geglu"},
    }
    exact = Runtime(runtime.device, bf16=False)
    results = {}
    for recipe, switch in switches.items():
        dropout: dict[str, Any] = {"hidden_dropout": 0.0, "attention_dropout": 0.0}
        model = PretrainingModel(ModelConfig(len(tokenizer), **sizes, **switch, **dropout), ("mlm",))
        model.to(runtime.device)

        def gradients(where: Runtime, packed: bool, model: PretrainingModel = model) -> torch.Tensor:
            batch = collate_pretraining(examples, tokenizer.special.pad, packed).to(where.device)
            with where.autocast():
                loss = model(batch)["mlm"]
            loss.backward()
            found = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).double()
            model.zero_grad(set_to_none=True)
            return torch.cat([loss.detach().double()[None], found])

        reference = gradients(exact, False)
        for name, packed in (("padded", False), ("packed", True)):
            difference = gradients(runtime, packed) - reference
            results[f"{recipe} {name}: loss, relative error"] = float(difference[0].abs() / reference[0])
            results[f"{recipe} {name}: gradient, relative error"] = float(difference[1:].norm() / reference[1:].norm())
    output.mkdir(parents=True, exist_ok=True)
    write_json_atomically(output / RECORD, {"task": _TASKS["check"], **make_stamp(), "results": results})
    for key, error in results.items():
        if "packed" in key and error > 2 * results[key.replace("packed", "padded")] + 1e-4:
            raise KorbertError(f"{key}: {error:.2e}, padded {results[key.replace('packed', 'padded')]:.2e}")
    log.info("packed and padded agree: %s", results)


# ---- what came out ----


def write_table(config: GpuStudyConfig, output: Path) -> None:
    """Write `study.md`: scores by arm over what is finished, speed, and the check."""
    scored = []
    for arm in config.arms:
        names = [_finetuning(arm, fold, seed) for fold in config.folds for seed in config.seeds]
        records = [read_json(output / name / RECORD) for name in names if (output / name / RECORD).exists()]
        if records:
            spreads = (_spread([record["results"][key] for record in records]) for key in ("exact_match", "f1"))
            pretrained = read_json(output / f"pretrain-{arm}" / RECORD)["results"]
            scored.append([arm, str(len(records)), *spreads, f"{pretrained['mlm_loss_per_character']:.3f}"])
    lines = [
        "# GPU study", "", f"Protocol: korquad-dev-5fold, folds {config.folds} as far as they are finished.", "",
        *table(["arm", "runs", "EM (%)", "F1 (%)", "held-out masked-LM loss (nats a character)"], scored),
    ]  # fmt: skip
    if (output / "benchmark" / RECORD).exists():
        rows = read_json(output / "benchmark" / RECORD)["results"]["steps"]
        lines += table(rows[0], (map(_cell, row.values()) for row in rows))
    if (output / "check" / RECORD).exists():
        results = read_json(output / "check" / RECORD)["results"]
        lines += table(["packed against padded", ""], ([key, f"{error:.1e}"] for key, error in results.items()))
    lines += (f"failed: {path.stem.removeprefix('failed-')}" for path in sorted(output.glob("failed-*.json")))
    write_text_atomically(output / "study.md", "\n".join(lines).rstrip() + "\n")


def _spread(values: list[float]) -> str:
    """Mean and standard deviation, the latter of two values or more."""
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def _cell(value: Any) -> str:
    return f"{value:,.3g}" if isinstance(value, float) else str(value)

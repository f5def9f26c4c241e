"""The entity study in one command for a GPU machine that has neither analysers nor a network.

`prepare`, on any machine, makes a folder of token shards, annotations and questions. `run`, in minutes, pretrains and
fine-tunes each kind of entity input over seeds and folds, several side by side because one does not keep a GPU busy,
checks the unpadded path against the padded one, and measures its speed beside Hugging Face's. A second call goes on.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import lzma
import shutil
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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
from korbert.errors import ConfigError, DataError, KorbertError
from korbert.files import RECORD, checksum, plain_name, read_json, write_json_atomically, write_text_atomically
from korbert.model import ModelConfig, PretrainingModel
from korbert.study.collection import read_record
from korbert.study.page import table
from korbert.study.results import make_record
from korbert.tasks.benchmark import benchmark
from korbert.tasks.finetune import finetune_korquad
from korbert.tasks.own_folders import check_own, renew
from korbert.tasks.prepare import corpus_files, prepare_shards, prepare_tokenizer
from korbert.tasks.pretrain import pretrain
from korbert.tokenizers import load_tokenizer
from korbert.training.interrupt import StopSignal
from korbert.training.runtime import Runtime, make_runtime, seed_everything
from korbert.training.settings import CHECKPOINT

log = logging.getLogger(__name__)
_LIMIT_MEGABYTES = 60
_MARKER = ".gpu_study"  # in what `prepare` makes
_PARAGRAPHS, _PARAGRAPH_BYTES = "paragraphs.txt", 3_000_000
_ARCHIVE, _UNPACKED = "study.tar.xz", "unpacked"
_QUESTIONS, _ANNOTATIONS, _TEXT = "questions", "annotations", "text"  # in the archive, beside the shards
# Wide enough for the same piece of every kind's shards: what they have in common is then written once.
_COMPRESSION = [{"id": lzma.FILTER_LZMA2, "preset": 6, "dict_size": 64 << 20}]
_CHECK, _BENCHMARK = "check", "benchmark"
_TABLE = "study.md"
_GRACE_SECONDS = 60  # for a process that was told to stop to write its checkpoint
# Arm → whose spans, and how they enter the input.
ARMS = {
    "none": ("none", "none"),
    "split": ("entities", "split"),
    "random": ("random", "both"),
    "markers": ("entities", "markers"),
    "embedding": ("entities", "embedding"),
    "both": ("entities", "both"),
    "typed": ("entities", "both"),
    "gazetteer": ("gazetteer", "both"),
    "mecab": ("mecab", "both"),
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
    """Whose spans → the annotator's name. Raises ConfigError where an arm's are not among them."""
    found = {"none": "none", **config.annotators}
    missing = {ARMS[arm][0] for arm in config.arms} - found.keys()
    if missing:
        raise ConfigError(f"annotators: {', '.join(sorted(missing))} wanted by arms={config.arms}")
    return found


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
    names = {kind: expand_root(name, config.data) for kind, name in annotators(config).items()}
    tokenizer_folder = prepare_tokenizer(config.tokenizer, config.corpus, config.data)
    shards, stores = {}, {}
    for kind, name in annotators(config).items():
        is_plain = kind == "none"
        entities = EntitiesConfig(annotator=name, mode="none" if is_plain else "both", typed=not is_plain)
        made = prepare_shards(tokenizer_folder, entities, config.corpus, config.data, config.runtime.workers)
        shards[kind] = made.folder
        if not is_plain:
            stores[kind] = make_annotator(names[kind], cache=config.data.cache)
    for path in (*questions, tokenizer_folder, *shards.values()):
        if path.resolve().is_relative_to(folder.resolve()):
            raise ConfigError(f"folder={folder}: {path} lies in it, which is made anew; choose another folder")

    renew(folder, _MARKER)
    shutil.copytree(tokenizer_folder, folder / "tokenizer")
    loose = {place: folder / place for place in (_QUESTIONS, _ANNOTATIONS, _TEXT)}
    for place in loose.values():
        place.mkdir()
    for path in questions:
        shutil.copy(path, loose[_QUESTIONS] / path.name)
    texts = sorted({text for dataset in datasets for text in dataset.texts()})
    for kind, annotator in stores.items():
        write_store(loose[_ANNOTATIONS] / f"{kind}.sqlite", config.annotators[kind], annotator, texts)
    _write_paragraphs(config, loose[_TEXT] / _PARAGRAPHS)
    log.info("packing the shards of %s", ", ".join(shards))
    _pack(folder / _ARCHIVE, loose | {f"shards-{kind}": made for kind, made in shards.items()})
    for place in loose.values():
        shutil.rmtree(place)
    write_json_atomically(
        folder / "study.json",
        {
            "annotators": annotators(config),
            "test": questions[0].name,
            "train": [path.name for path in questions[1:]],
            "archive": checksum(folder / _ARCHIVE),
        },
    )
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    log.info("%s: %.1f MB", folder, size)
    if size > _LIMIT_MEGABYTES:
        raise ConfigError(
            f"{folder} has {size:.1f} MB, more than {_LIMIT_MEGABYTES}: choose a lower corpus.max_documents than "
            f"{config.corpus.max_documents}"
        )


def _pack(archive: Path, places: Mapping[str, Path]) -> None:
    """Write the files of each place's folder, those of one name beside each other."""
    files = sorted((path.name, place, path) for place, folder in places.items() for path in folder.iterdir())
    with (
        lzma.open(archive, "wb", format=lzma.FORMAT_XZ, filters=_COMPRESSION) as stream,
        tarfile.open(fileobj=stream, mode="w") as tar,
    ):
        for name, place, path in files:
            tar.add(path, f"{place}/{name}")


def _unpack(folder: Path, wanted: str, output: Path) -> None:
    """All that was packed, below `output`, once. Raises DataError for an archive that is not what `prepare` wrote."""
    archive, target = folder / _ARCHIVE, output / _UNPACKED
    if (target / _MARKER).exists() and (target / _MARKER).read_text("utf-8") == wanted:
        return
    if checksum(archive) != wanted:
        raise DataError(archive, "checksum", "damaged: this is not what was written, says study.json beside it")
    check_own(target, _MARKER)
    renew(target, _MARKER)
    with tarfile.open(archive) as tar:
        for member in tar:
            place, _, name = member.name.partition("/")
            source = tar.extractfile(member) if member.isfile() else None
            if source is None:
                raise DataError(archive, member.name, "wanted files and nothing else")
            (target / plain_name(archive, "member", place)).mkdir(exist_ok=True)
            with contextlib.closing(source), (target / place / plain_name(archive, "member", name)).open("wb") as out:
                shutil.copyfileobj(source, out)
    write_text_atomically(target / _MARKER, wanted)


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


@dataclass(frozen=True, slots=True)
class Unit:
    """What one process does: a pretraining and what is fine-tuned from it, or another job."""

    name: str
    runs: tuple[str, ...]  # its folders below `output`
    work: Callable[[], object]
    alone: bool = False  # whether nothing may run beside it


def run_study(config: GpuStudyConfig) -> None:
    """Work through the units until all are done or the time is over, and write the table of what there is.

    `side_by_side` processes at a time, each of which does one unit; when the time is over they are told to stop, and
    go on where they were when the command is given again.
    """
    folder, output = Path(config.folder), Path(config.output)
    prepared = read_json(folder / "study.json")
    for name in (prepared["test"], *prepared["train"]):
        plain_name(folder / "study.json", "questions", name)
    missing = {ARMS[arm][0] for arm in config.arms} - prepared["annotators"].keys()
    if missing:
        raise ConfigError(
            f"{folder} was prepared without {', '.join(sorted(missing))}: prepare it with such annotators"
        )
    every = units(config, prepared)
    if config.unit is not None:
        by_name = {unit.name: unit for unit in every}
        if config.unit not in by_name:
            raise ConfigError(f"unit: {config.unit!r} is unknown, wanted one of {', '.join(by_name)}")
        by_name[config.unit].work()
        return
    for compose_one in (_pretraining, functools.partial(_finetuning, fold=config.folds[0])):
        compose_one(config, prepared, config.arms[0], config.seeds[0])  # a wrong override is told before all else
    output.mkdir(parents=True, exist_ok=True)
    todo = [unit for unit in every if not _are_done(output, unit)]
    write_table(config, output)  # of what is there, whatever follows
    for unit in every:
        if unit not in todo:
            log.info("%s: finished before, skipped", unit.name)
    if todo:
        _unpack(folder, str(prepared["archive"]), output)
        left = _side_by_side(config, output, todo)
        if left:
            log.info("not done; the same command goes on with: %s", ", ".join(left))
            return
    log.info("nothing is left: %s", output / _TABLE)


def _side_by_side(config: GpuStudyConfig, output: Path, todo: list[Unit]) -> list[str]:
    """Start the units in order, each in a process of its own, and return the names of those that are not done."""
    waiting, running = list(todo), dict[str, subprocess.Popen[bytes]]()
    started, left = time.perf_counter(), list[str]()
    is_over, told = False, 0.0
    logs = output / "logs"
    logs.mkdir(exist_ok=True)
    with StopSignal() as stop, _none_left_behind(running):
        while running or (waiting and not is_over):
            passed = time.perf_counter() - started
            if not is_over and (stop.requested or passed > 60 * config.minutes):
                is_over, told = True, passed
                for process in running.values():
                    process.terminate()
            while waiting and not is_over and _has_room(config, waiting[0], running):
                unit = waiting.pop(0)
                log.info("%s: begins after %.0f s, writes to %s", unit.name, passed, logs / f"{unit.name}.txt")
                running[unit.name] = _start(unit, logs / f"{unit.name}.txt")
            for name, process in list(running.items()):
                if process.poll() is None:
                    if is_over and passed > told + _GRACE_SECONDS:
                        process.kill()
                    continue
                del running[name]
                unit = next(unit for unit in todo if unit.name == name)
                if not _has_ended_well(output, unit, process.returncode, is_over):
                    left.append(name)
                write_table(config, output)
            time.sleep(0.1)
    return [*left, *(unit.name for unit in waiting)]


@contextlib.contextmanager
def _none_left_behind(running: Mapping[str, subprocess.Popen[bytes]]) -> Iterator[None]:
    """Tell the processes to stop where an error ends this one."""
    try:
        yield
    finally:
        for process in running.values():
            process.terminate()


def _has_room(config: GpuStudyConfig, unit: Unit, running: Mapping[str, object]) -> bool:
    """Whether `unit` may begin now; behind one that is alone nothing begins, for it is the last."""
    return not running if unit.alone else len(running) < config.side_by_side


def _start(unit: Unit, file: Path) -> subprocess.Popen[bytes]:
    """The same command for one unit. Its output goes to a file: of several at once nobody could read it."""
    with file.open("ab") as stream:
        return subprocess.Popen([sys.executable, *sys.argv, f"unit={unit.name}"], stdout=stream, stderr=stream)


def _has_ended_well(output: Path, unit: Unit, status: int, is_over: bool) -> bool:
    """Say what became of a unit; one that failed must not cost the others, on a machine lent for minutes."""
    failure = output / f"failed-{unit.name}.json"
    failure.unlink(missing_ok=True)
    if _are_done(output, unit):
        log.info("%s: finished", unit.name)
        return True
    if not is_over:
        lines = (output / "logs" / f"{unit.name}.txt").read_text("utf-8", errors="replace").strip().splitlines()
        log.error("%s failed, exit status %d: %s", unit.name, status, lines[-1] if lines else "")
        write_json_atomically(failure, {"error": lines[-1] if lines else f"exit status {status}"})
    return False


def _are_done(output: Path, unit: Unit) -> bool:
    return all(map(_is_done, [output / run for run in unit.runs]))


def _is_done(run: Path) -> bool:
    """Whether the run is finished. Raises ConfigError for another one in its place, DataError for a damaged record."""
    found = read_record(run, run.name)
    wanted = {_CHECK: "check_layouts", _BENCHMARK: "benchmark"}.get(run.name)
    wanted = wanted or ("pretrain" if run.name.startswith("pretrain-") else "finetune_korquad")
    if found is not None and found.record["task"] != wanted:
        raise ConfigError(f"output: in {run} is a run of the task {found.record['task']!r}; choose another folder")
    return found is not None


def units(config: GpuStudyConfig, prepared: dict[str, Any]) -> list[Unit]:
    """What there is to do, the most telling first; speed, which wants the GPU for itself, last."""
    folder, output = Path(config.folder), Path(config.output)
    found = [Unit(_CHECK, (_CHECK,), functools.partial(check_layouts, config, folder, output))]
    for seed, arm in itertools.product(config.seeds, config.arms):
        runs = (_pretrained(arm, seed), *(_finetuned(arm, fold, seed) for fold in config.folds))
        found.append(Unit(f"{arm}-seed{seed}", runs, functools.partial(_train, config, prepared, arm, seed)))
    found.append(Unit(_BENCHMARK, (_BENCHMARK,), functools.partial(_benchmark, config, folder, output), alone=True))
    return found


def _pretrained(arm: str, seed: int) -> str:
    return f"pretrain-{arm}-seed{seed}"


def _finetuned(arm: str, fold: int, seed: int) -> str:
    return f"{arm}-fold{fold}-seed{seed}"


def _train(config: GpuStudyConfig, prepared: dict[str, Any], arm: str, seed: int) -> None:
    """One pretraining, and a model fine-tuned from it for each fold; what is finished is left as it is."""
    pretrain(_pretraining(config, prepared, arm, seed))
    for fold in config.folds:
        finetune_korquad(_finetuning(config, prepared, arm, seed, fold))
        (Path(config.output) / _finetuned(arm, fold, seed) / CHECKPOINT).unlink(missing_ok=True)


def _unpacked(config: GpuStudyConfig, place: str) -> str:
    return f"{config.output}/{_UNPACKED}/{place}"


def _compose(name: str, config: GpuStudyConfig, *overrides: str) -> Any:
    return compose_config(name, [*overrides, *as_overrides("runtime", config.runtime)])


def _entities(config: GpuStudyConfig, prepared: dict[str, Any], arm: str) -> list[str]:
    kind, mode = ARMS[arm]
    chosen = [as_override("entities.annotator", prepared["annotators"][kind]), f"entities.mode={mode}"]
    # The annotator's own files, which the root would lead to, are not asked for: all texts are in the store.
    store = [
        as_override("entities.store", f"{_unpacked(config, _ANNOTATIONS)}/{kind}.sqlite"),
        as_override("data.root", config.folder),
    ]
    return [*chosen, f"entities.typed={str(arm == 'typed').lower()}", *(store if kind != "none" else [])]


def _pretraining(config: GpuStudyConfig, prepared: dict[str, Any], arm: str, seed: int) -> Any:
    kind, _ = ARMS[arm]
    return _compose(
        "pretrain", config, *config.pretraining, *_entities(config, prepared, arm), f"seed={seed}",
        as_override("tokenizer.path", f"{config.folder}/tokenizer"),
        as_override("corpus.shards", _unpacked(config, f"shards-{kind}")),
        as_override("run_dir", f"{config.output}/{_pretrained(arm, seed)}"),
    )  # fmt: skip


def _finetuning(config: GpuStudyConfig, prepared: dict[str, Any], arm: str, seed: int, fold: int) -> Any:
    return _compose(
        "finetune_korquad", config, *config.finetuning, *_entities(config, prepared, arm), "task=korquad_5fold",
        f"task.fold={fold}", f"seed={seed}", as_override("init", f"{config.output}/{_pretrained(arm, seed)}"),
        as_override("task.train", [f"{_unpacked(config, _QUESTIONS)}/{name}" for name in prepared["train"]]),
        as_override("task.test", f"{_unpacked(config, _QUESTIONS)}/{prepared['test']}"),
        as_override("run_dir", f"{config.output}/{_finetuned(arm, fold, seed)}"),
    )  # fmt: skip


def _benchmark(config: GpuStudyConfig, folder: Path, output: Path) -> None:
    places = {
        "tokenizer.path": f"{folder}/tokenizer",
        "corpus.files": [f"{_unpacked(config, _TEXT)}/{_PARAGRAPHS}"],
        "run_dir": str(output / _BENCHMARK),
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
    corpus = ShardedCorpus(output / _UNPACKED / "shards-none", tokenizer.fingerprint)
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
    for key, error in results.items():
        if "packed" in key and error > 2 * results[key.replace("packed", "padded")] + 1e-4:
            raise KorbertError(f"{key}: {error:.2e}, padded {results[key.replace('packed', 'padded')]:.2e}")
    place = output / _CHECK
    place.mkdir(parents=True, exist_ok=True)
    write_json_atomically(place / RECORD, make_record("check_layouts", {}, results))
    log.info("packed and padded agree: %s", results)


# ---- what came out ----


def write_table(config: GpuStudyConfig, output: Path) -> None:
    """Write `study.md`: scores by arm over what is finished, speed, and the check."""
    scored = []
    for arm in config.arms:
        names = [_finetuned(arm, fold, seed) for fold in config.folds for seed in config.seeds]
        records = _results(output, names)
        if records:
            spreads = (_spread([record[key] for record in records]) for key in ("exact_match", "f1"))
            losses = _results(output, [_pretrained(arm, seed) for seed in config.seeds])
            scored.append(
                [arm, str(len(records)), *spreads, _spread([loss["mlm_loss_per_character"] for loss in losses])]
            )
    lines = [
        "# GPU study", "", f"Protocol: korquad-dev-5fold, folds {config.folds} as far as they are finished.", "",
        *table(["arm", "runs", "EM (%)", "F1 (%)", "held-out masked-LM loss (nats a character)"], scored),
    ]  # fmt: skip
    if (output / _BENCHMARK / RECORD).exists():
        rows = read_json(output / _BENCHMARK / RECORD)["results"]["steps"]
        lines += table(rows[0], (map(_cell, row.values()) for row in rows))
    if (output / _CHECK / RECORD).exists():
        results = read_json(output / _CHECK / RECORD)["results"]
        lines += table(["packed against padded", ""], ([key, f"{error:.1e}"] for key, error in results.items()))
    lines += (f"failed: {path.stem.removeprefix('failed-')}" for path in sorted(output.glob("failed-*.json")))
    write_text_atomically(output / _TABLE, "\n".join(lines).rstrip() + "\n")


def _results(output: Path, names: list[str]) -> list[dict[str, Any]]:
    """What came out in the runs of these names that are finished."""
    return [read_json(output / name / RECORD)["results"] for name in names if (output / name / RECORD).exists()]


def _spread(values: list[float]) -> str:
    """Mean and standard deviation, the latter of two values or more."""
    mean = f"{statistics.mean(values):.2f}"
    return f"{mean} ± {statistics.stdev(values):.2f}" if len(values) > 1 else mean


def _cell(value: Any) -> str:
    return f"{value:,.3g}" if isinstance(value, float) else str(value)

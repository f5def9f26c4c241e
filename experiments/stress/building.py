"""Build one corpus in several ways, some of them killed on the way: all must give the same bytes, and be fast.

python experiments/stress/building.py corpus=kowiki data.root=FOLDER filters=korquad tokenizer.path=TOKENIZER \
    output=corpora/stress run_dir=runs/building

Beside each way stands how fast the tokenizer and the annotator alone are in as many processes.
What is measured is kept: killed itself, the same command goes on.
"""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import random
import shutil
import signal
import time
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from korbert.config import BuildCorpusConfig, expand_root, run_door, start
from korbert.data.corpus import read_raw, to_record
from korbert.entities import make_annotator
from korbert.errors import KorbertError
from korbert.files import appended_json, checksum, digest, read_json
from korbert.sentences import split_sentences
from korbert.tasks.prepare import corpus_files, prepare_tokenizer
from korbert.tasks.runs import finish_run, kept, run_once, start_run
from korbert.text import span_edges
from korbert.tokenizers import load_tokenizer

log = logging.getLogger(__name__)
_MEGA = 1e6
_MEMORY = "memory.jsonl"
_SPEED = "million_characters_per_cpu_second"


@dataclass
class Way:
    """Processes that build, and how often all of them are killed."""

    workers: int = 1
    kills: int = 0


@dataclass
class BuildingConfig(BuildCorpusConfig):
    """The ways to build; the first one is the undisturbed one that others are compared with. output: their folders.

    documents: that the tokenizer and the annotator are measured with alone, from all files.
    """

    ways: list[Way] = field(default_factory=list)
    documents: int = 3000


ConfigStore.instance().store(name="building_schema", node=BuildingConfig)


@run_once
def building(config: BuildingConfig) -> dict[str, Any]:
    """Build in every way, and return the record. Raises KorbertError where one gives other bytes."""
    folder = start_run(config)
    alone = kept(config, "alone", lambda: [_alone(config, n) for n in sorted({way.workers for way in config.ways})])
    for row in alone:
        log.info("%d processes, the tokenizer and the annotator alone: %.3f million characters a CPU second",
                 row["workers"], row[_SPEED])  # fmt: skip
    rows: list[dict[str, Any]] = []
    for number, way in enumerate(config.ways):
        rows.append(kept(config, number, lambda number=number: _build(config, number, folder)))  # type: ignore[misc]
        log.info("%d workers, %d kills: %.0f s", way.workers, way.kills, rows[-1]["seconds"])
    own_speed = {row["workers"]: row[_SPEED] for row in alone}
    memory = rows[0].pop("memory")
    for row in rows:
        row.pop("memory", None)
        if _SPEED in row:
            row["share_of_speed_alone"] = row[_SPEED] / own_speed[row["workers"]]
        row["same_bytes"] = row["digest"] == rows[0]["digest"]
    found = finish_run(folder, "building", config, {"alone": alone, "ways": rows, "memory": memory})
    if different := [str(row["workers"]) for row in rows if not row["same_bytes"]]:
        raise KorbertError(f"other bytes than the first way's came out with {', '.join(different)} workers")
    return found


def _alone(config: BuildingConfig, workers: int) -> dict[str, Any]:
    """How fast annotating paragraphs and tokenizing their sentences, cut as in the build, is in so many processes.

    All at once, as in a build: processors that share memory and caches are slower together.
    """
    prepare_tokenizer(config.tokenizer, config.corpus, config.data)  # once, if it is to be trained
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        found = pool.map(_annotate_and_tokenize, [config] * workers, chunksize=1)
    characters, seconds = map(sum, zip(*found, strict=True))
    return {"workers": workers, "characters": characters // workers, _SPEED: characters / seconds / _MEGA}


def _annotate_and_tokenize(config: BuildingConfig) -> tuple[int, float]:
    """One document after the other, as many of each file; characters and CPU seconds."""
    tokenizer = load_tokenizer(prepare_tokenizer(config.tokenizer, config.corpus, config.data))
    annotator = make_annotator(expand_root(config.entities.annotator, config.data))
    sources = corpus_files(config.corpus, config.data)
    each = -(-config.documents // len(sources))
    records = [to_record(raw) for source in sources for raw in itertools.islice(read_raw(source), each)]
    cut = config.entities.entity_input().mode.cuts
    annotator.annotate("시작")
    began = time.process_time()
    for record in records:
        for paragraph in annotator.annotate_all(record.paragraphs):
            for sentence in split_sentences(paragraph):
                tokenizer.encode(sentence.text, span_edges(sentence.text, sentence.entities) if cut else ())
    return sum(map(len, records)), time.process_time() - began


def _build(config: BuildingConfig, number: int, folder: Path) -> dict[str, Any]:
    """Build in one way, and say what came out and what it took, all sessions together."""
    way = config.ways[number]
    output, run_dir = f"{config.output}/{number}", folder / f"way{number}"
    shutil.rmtree(output, ignore_errors=True)
    shutil.rmtree(run_dir, ignore_errors=True)
    build = replace(
        _as_build(config), output=output, run_dir=str(run_dir), runtime=replace(config.runtime, workers=way.workers)
    )
    rng = random.Random(f"{config.seed} {number}")
    began = time.perf_counter()
    pieces = len(_pieces(folder / "way0" / _MEMORY))  # signed and encoded ones, of the undisturbed way
    moments = sorted(rng.uniform(0, pieces) for _ in range(way.kills))
    killed = [stage for moment in moments if (stage := _killed(build, moment))]
    child = _start(build)
    child.join()
    if child.exitcode != 0:
        raise KorbertError(f"{run_dir}: the build ended with {child.exitcode}")
    seconds = time.perf_counter() - began
    results = read_json(run_dir / "record.json")["results"]
    speed = {}
    if not killed:  # what was done before a kill is not in the last session's figures
        millions = results["characters"] / _MEGA
        speed = {
            _SPEED: millions / results["cpu_seconds"],
            "million_characters_per_second": millions / seconds,
        }
    return {
        **{"workers": way.workers, "kills": len(killed), "killed_in": " ".join(killed), "seconds": seconds, **speed},
        **{key: results[key] for key in ("read", "documents", "characters", "tokens", "shards", "peak_megabytes")},
        "dropped": sum(results["dropped"].values()),
        "memory": results["memory"],
        "digest": _digest(Path(output)),
    }


def _as_build(config: BuildingConfig) -> BuildCorpusConfig:
    return BuildCorpusConfig(**{key.name: getattr(config, key.name) for key in fields(BuildCorpusConfig)})


def _start(build: BuildCorpusConfig) -> Any:
    child = multiprocessing.get_context("spawn").Process(target=_work, args=(build,))
    child.start()
    return child


def _work(build: BuildCorpusConfig) -> None:
    from korbert.tasks.build_corpus import build_corpus

    os.setsid()
    build_corpus(build)


def _killed(build: BuildCorpusConfig, moment: float) -> str:
    """Start the build, kill it after so many pieces, and return what it was at, or nothing if it was faster."""
    child = _start(build)
    memory = Path(build.run_dir) / _MEMORY
    while child.is_alive() and len(_pieces(memory)) <= moment:
        time.sleep(0.02)
    if not child.is_alive():
        return ""
    os.killpg(child.pid, signal.SIGKILL)
    child.join()
    return str(_pieces(memory)[-1]["stage"])


def _pieces(memory: Path) -> list[dict[str, Any]]:
    """What a build has noted of its pieces so far."""
    return appended_json(memory) if memory.exists() else []


def _digest(output: Path) -> str:
    """Of all files of a folder, names and bytes."""
    files = sorted(path for path in output.rglob("*") if path.is_file())
    return digest([[str(path.relative_to(output)), checksum(path)] for path in files])


@hydra.main(version_base="1.3", config_path="../../conf", config_name="building")
def main(config: DictConfig) -> None:
    """Run the door."""
    run_door(building, config)


if __name__ == "__main__":
    start(main)

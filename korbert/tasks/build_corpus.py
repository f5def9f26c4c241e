"""Building a corpus of token shards, of which one machine's memory need not hold more than a few pieces."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from korbert.config import BuildCorpusConfig, check_given, expand_root, expand_roots
from korbert.data.building import Builder, check_output, check_some
from korbert.data.corpus import expand_paths
from korbert.data.piecework import Done, Recipe
from korbert.data.shardfiles import MANIFEST, Manifest
from korbert.data.shards import ShardedCorpus
from korbert.errors import DataError, check_known
from korbert.files import append_json, appended_json
from korbert.parallel import megabytes
from korbert.tasks.prepare import corpus_files, corpus_identity, prepare_tokenizer, progress_bar
from korbert.tasks.runs import finish_run, start_run

STAGES = ("all", "sign", "encode", "merge", "check")
_MEMORY = "memory.jsonl"
_SHOWN = ("documents", "characters")
_SILENCE = 60.0  # seconds without a line in the log, at least
_POINTS = 500  # of the memory's curve in the record
log = logging.getLogger(__name__)


def build_corpus(config: BuildCorpusConfig) -> dict[str, Any]:
    """Do the stages that `config` names for its part of the corpus, and return the run's record.

    The shards are complete when the output folder has a manifest, which the part writes that ends last. Raises
    DataError where no document is left.
    """
    check_known("stage", config.stage, STAGES)
    check_given("output", config.output, "a folder")
    output = Path(config.output)
    if config.stage == "check":
        return _check(output)
    if not (output / MANIFEST).exists():
        check_output(output)  # before the tokenizer is trained
    folder = start_run(config, again="build_corpus")
    watch = _Watch(folder / _MEMORY)
    builder = Builder(
        output, _recipe(config), part=config.part, parts=config.parts, workers=config.runtime.workers,
        progress=watch.add,
    )  # fmt: skip
    manifest = builder.finished()
    if manifest is not None:
        log.info("%s: is complete already", output)
    else:
        with builder.working(), watch:
            manifest = _stages(builder, config)
    results: dict[str, Any] = {"complete": manifest is not None, **watch.results()}
    if manifest is not None:
        _tell(output, manifest)
        counts = ("read", "documents", "empty", "dropped", "sentences", "tokens", "characters", "shards")
        results |= {key: getattr(manifest, key) for key in counts}
        results["manifest"] = {"tokenizer": manifest.tokenizer, "annotator": manifest.annotator}
    return finish_run(folder, "build_corpus", config, results)


def _recipe(config: BuildCorpusConfig) -> Recipe:
    data, cache = config.data, Path(config.data.cache)
    files = corpus_files(config.corpus, data)
    titles, evaluation = (
        [str(path) for path in expand_paths(expand_roots(names, data))]
        for names in (config.filters.titles, config.filters.evaluation)
    )
    return Recipe(
        sources=tuple(files),
        tokenizer_folder=prepare_tokenizer(config.tokenizer, config.corpus, data),
        annotator=expand_root(config.entities.annotator, data),
        cut=config.entities.entity_input().mode.cuts,
        units=config.units,
        filters=replace(config.filters, titles=titles, evaluation=evaluation),
        max_documents=config.corpus.max_documents,
        piece_characters=config.piece_characters,
        checksums=tuple(checksum for _, checksum in corpus_identity(files, cache)),
        cache=cache,
        annotations=cache if config.annotations else None,
    )


def _stages(builder: Builder, config: BuildCorpusConfig) -> Manifest | None:
    """What was asked for, as far as other parts' work allows it."""
    seconds = 60 * config.wait
    if config.stage in ("all", "sign"):
        builder.sign()
        if config.stage == "sign":
            return None
    if config.stage in ("all", "encode"):
        if not builder.wait(builder.decide, seconds):
            log.info("%s: other parts have not signed all of their documents yet; then, go on", config.output)
            return None
        builder.encode()
    manifest: list[Manifest | None] = [None]

    def merged() -> bool:
        manifest[0] = builder.merge()
        return manifest[0] is not None

    if not builder.wait(merged, seconds if config.stage == "merge" else 0):
        if config.stage == "merge":
            raise DataError(config.output, "stage=merge", f"{builder.unfinished()}; run those parts' commands first")
        log.info("%s: this part is done; %s", config.output, builder.unfinished())
    return manifest[0]


def _check(output: Path) -> dict[str, Any]:
    corpus = ShardedCorpus(output, verify=True)
    log.info("%s: all %d files are as they were written", output, len(corpus.manifest.files))
    _tell(output, corpus.manifest)
    return {"files": len(corpus.manifest.files)}


def _tell(output: Path, manifest: Manifest) -> None:
    check_some(output, manifest)  # earlier versions finished such a corpus, too
    log.info(
        "%s: %s documents, %s sentences, %s tokens in %s shards; %s documents without a token",
        output, *(f"{n:,}" for n in (manifest.documents, manifest.sentences, manifest.tokens)), manifest.shards,
        f"{manifest.empty:,}",
    )  # fmt: skip
    if manifest.dropped:
        found = ", ".join(f"{reason} {count:,}" for reason, count in manifest.dropped.items() if count)
        log.info("left out of %s: %s", f"{manifest.read:,}", found or "none")


class _Watch:
    """Shows what is done and keeps how long it took and how much memory it needed, also from before an interruption."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._began = time.perf_counter()
        self._told = 0.0
        self._bar: Any = None
        self._stage = ""
        self._done: dict[str, Counter[str]] = {}
        self._workers: dict[int, tuple[float, float]] = {}

    def __enter__(self) -> _Watch:
        self._bar = progress_bar(unit=" documents")
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def add(self, done: Done) -> None:
        """One more piece."""
        now = time.perf_counter() - self._began
        if done.stage != self._stage:
            self._stage = done.stage
            self._workers.clear()  # those of the stage before have ended
            self._bar.reset()
            self._bar.set_description(done.stage)
        counts = self._done.setdefault(done.stage, Counter())
        counts.update(documents=done.documents, characters=done.characters, tokens=done.tokens)
        self._bar.update(done.documents)
        if done.process != os.getpid():
            self._workers[done.process] = done.memory
        main, peak = megabytes()
        line = {
            "seconds": round(now, 2), "stage": done.stage, **counts, "main": main,
            "workers": round(sum(memory for memory, _ in self._workers.values()), 1), "main_peak": peak,
            "workers_peak": round(sum(most for _, most in self._workers.values()), 1),
        }  # fmt: skip
        append_json(self.path, line)
        if now - self._told > _SILENCE:
            self._told = now
            log.info("%s: %s documents, %s characters", done.stage, *(f"{counts[k]:,}" for k in _SHOWN))

    def results(self) -> dict[str, Any]:
        """Seconds of this session, and of processors, workers too; memory in megabytes, some lines of all sessions."""
        lines = appended_json(self.path) if self.path.exists() else []
        step = -(-max(1, len(lines)) // _POINTS)
        peak = max((line["main_peak"] + line["workers_peak"] for line in lines), default=None)
        return {
            "seconds": round(time.perf_counter() - self._began, 1),
            "cpu_seconds": round(sum(os.times()[:4]), 1),
            "stages": {stage: dict(counts) for stage, counts in self._done.items()},
            "peak_megabytes": peak,
            "memory": lines[::step],
        }

"""Annotating a corpus: every paragraph's entities into the cache and, where asked for, into a file."""

from __future__ import annotations

import itertools
import logging
import time
from collections import Counter
from dataclasses import dataclass
from typing import IO, Any

from korbert.config import AnnotateConfig, expand_root
from korbert.data.corpus import Document, read_documents
from korbert.entities import CachedAnnotator, EntityAnnotator, make_annotator, with_cache
from korbert.errors import ConfigError, WriteError
from korbert.files import writing
from korbert.lines import json_line
from korbert.parallel import megabytes, ordered_map
from korbert.tasks.prepare import corpus_files, progress_bar
from korbert.tasks.runs import finish_run, run_once, start_run
from korbert.text import AnnotatedText

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Done:
    """A document's entities; new: paragraphs that were not in the cache."""

    paragraphs: list[AnnotatedText]
    labels: Counter[str]
    characters: int
    new: int


class _Annotate:
    """Document → its entities; `keep` sends the paragraphs back, too."""

    def __init__(self, annotator: EntityAnnotator, keep: bool) -> None:
        self.annotator, self.keep = annotator, keep

    def __call__(self, document: Document) -> _Done:
        before = self._made()
        found = self.annotator.annotate_all(document)
        labels = Counter(entity.label for text in found for entity in text.entities)
        return _Done(found if self.keep else [], labels, sum(map(len, document)), self._made() - before)

    def _made(self) -> int:
        return self.annotator.made if isinstance(self.annotator, CachedAnnotator) else 0


def _make(name: str, cache: str, keep: bool) -> _Annotate:
    return _Annotate(with_cache(make_annotator(name, cache=cache), cache), keep)


@run_once
def annotate_corpus(config: AnnotateConfig) -> dict[str, Any]:
    """Annotate all documents, show how far it is, and return the record.

    What was annotated before an interruption is in the cache: the same command goes on there. Memory does not grow with
    the corpus.
    """
    files = corpus_files(config.corpus, config.data)
    name = expand_root(config.annotator, config.data)
    if name == "none":
        raise ConfigError("annotator=none finds nothing: choose one, e.g. annotator=mecab")
    if config.corpus.shards is not None:
        raise ConfigError(f"corpus.shards={config.corpus.shards}: text of corpus.files is annotated, not shards")
    _check(name, config)
    folder = start_run(config)
    every = itertools.chain.from_iterable(map(read_documents, files))
    documents = itertools.islice(every, config.corpus.max_documents)
    counts = Counter[str]()
    labels = Counter[str]()
    peak: list[tuple[int, float]] = []  # documents done, megabytes
    began = time.perf_counter()
    part = folder / "entities.jsonl.part"
    with (
        writing(part),
        part.open("w", encoding="utf-8") as out,
        progress_bar(unit=" documents", desc=config.annotator) as bar,
    ):
        arguments = (name, config.data.cache, config.output)
        for done in ordered_map(_make, arguments, documents, config.runtime.workers):
            counts.update(documents=1, characters=done.characters, new_paragraphs=done.new)
            labels.update(done.labels)
            _write(out, counts["documents"], done.paragraphs)
            bar.update()
            if counts["documents"] % 1000 == 1:
                bar.set_postfix_str(f"{labels.total():,} entities", refresh=False)
                peak.append((counts["documents"], megabytes()[1]))
    if config.output:
        part.replace(folder / "entities.jsonl")
    else:
        part.unlink()
    seconds = time.perf_counter() - began
    log.info(
        "%s entities in %s characters; %s characters a second; %s paragraphs were new",
        *(f"{n:,}" for n in (labels.total(), counts["characters"], round(counts["characters"] / seconds))),
        f"{counts['new_paragraphs']:,}",
    )
    results = {
        "entities": labels.total(), "labels": dict(labels.most_common()), **counts, "seconds": round(seconds, 1),
        "characters_per_second": round(counts["characters"] / seconds), "peak_megabytes": peak,
    }  # fmt: skip
    return finish_run(folder, "annotate_corpus", config, results)


def _check(name: str, config: AnnotateConfig) -> None:
    """Say what is missing before anything is begun. Raises WriteError where nothing would be kept of what is found."""
    annotator = with_cache(make_annotator(name, cache=config.data.cache), config.data.cache)
    annotator.annotate("")
    if isinstance(annotator, CachedAnnotator) and not annotator.can_write and not config.output:
        raise WriteError(annotator.folder, "data.cache", "only can be read: give another one, or output=true")


def _write(out: IO[str], number: int, paragraphs: list[AnnotatedText]) -> None:
    """A paragraph a line, as `korbert.data.ner` reads it."""
    for text in paragraphs:
        entities = [[e.start, e.end, e.label, e.of(text.text)] for e in text.entities]
        out.write(json_line({"file": str(number), "text": text.text, "entities": entities}))

"""A MediaWiki dump as a corpus: articles, their links as entities, their titles as a list of names."""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from korbert.config import WikiConfig, expand_root
from korbert.data.wikidump import RULES, Article, extract, read_pages
from korbert.entities import LINKS
from korbert.entities.store import AnnotationFile
from korbert.errors import DataError
from korbert.files import checksum, plain_name, read_json, write_json_atomically, writing
from korbert.lines import json_line, open_gzip, parse_json, read_lines
from korbert.parallel import ordered_map
from korbert.tasks.prepare import progress_bar
from korbert.tasks.runs import finish_run, run_once, start_run

_STATE, _LINKS, _TITLES = "progress.json", "links.sqlite", "titles.txt.gz"
_COUNTS = ("articles", "unread", "paragraphs", "links", "characters")
log = logging.getLogger(__name__)


@run_once
def extract_wiki(config: WikiConfig) -> dict[str, Any]:
    """Read a dump into the run's folder and return its record.

    It is written article file by article file; the same command goes on behind the last one. Where the dump is cut off
    or damaged, what could be read before is kept, and DataError says where; one in which no article has any text is
    refused, too. An article that cannot be read is named, counted as `unread`, and left blank.
    """
    dump = Path(expand_root(config.dump, config.data))
    if not dump.is_file():
        raise DataError(dump, "dump", "not found")
    folder = start_run(config)
    identity = checksum(dump)
    state: dict[str, Any] = {"dump": identity, "files": [], **dict.fromkeys(_COUNTS, 0)}
    if (folder / _STATE).exists():
        state = read_json(folder / _STATE)
        if state["dump"] != identity:
            raise DataError(folder / _STATE, "dump", f"these articles are from another dump than {dump}")
        log.info("going on behind %s articles", f"{state['articles']:,}")
    pages = itertools.islice(read_pages(dump), state["articles"], None)
    articles = ordered_map(_extractor, (), pages, config.runtime.workers)
    with (
        contextlib.closing(AnnotationFile(folder / _LINKS, LINKS, f"{RULES}/{identity[:16]}")) as links,
        progress_bar(unit=" articles", initial=state["articles"]) as bar,
    ):
        stream = _Resumable(articles)
        while part := list(itertools.islice(stream, config.articles_per_file)):
            _write(folder, part, state, links)
            bar.update(len(part))
        if stream.error is not None:
            log.warning("%s articles are kept in %s", f"{state['articles']:,}", folder)
            raise stream.error
        if not state["paragraphs"]:
            problem = f"{state['articles']:,} articles, and no text in any of them; wanted one such as"
            raise DataError(dump, "pages", f"{problem} kowiki-latest-pages-articles.xml.bz2")
        links.seal()
    _write_titles(folder, state["files"])
    log.info(
        "%s articles, %s links in %s characters; corpus.files=[%s/articles-*.jsonl.gz] entities.annotator=links:%s/%s",
        *(f"{state[key]:,}" for key in ("articles", "links", "characters")), folder, folder, _LINKS,
    )  # fmt: skip
    return finish_run(folder, "extract_wiki", config, {key: state[key] for key in state if key != "dump"})


def _extractor() -> Any:
    return extract


class _Resumable:
    """Articles up to the first error, which is kept for later."""

    def __init__(self, articles: Iterable[Article]) -> None:
        self._articles = iter(articles)
        self.error: DataError | None = None

    def __iter__(self) -> Iterator[Article]:
        return self

    def __next__(self) -> Article:
        if self.error is not None:
            raise StopIteration
        try:
            return next(self._articles)
        except DataError as error:
            self.error = error
            raise StopIteration from None


def _write(folder: Path, articles: list[Article], state: dict[str, Any], links: AnnotationFile) -> None:
    """One more file of articles; counted only when it and its links are whole."""
    path = folder / f"articles-{len(state['files']):05d}.jsonl.gz"
    links.add(paragraph for article in articles for paragraph in article.paragraphs)
    part = path.with_name(f"{path.name}.part")
    with writing(part), open_gzip(part) as out:
        for article in articles:
            article.warn()
            state["unread"] += bool(article.problem)
            text = "\n".join(paragraph.text for paragraph in article.paragraphs)
            out.write(json_line({"id": article.id, "title": article.title, "text": text}))
            state["paragraphs"] += len(article.paragraphs)
            state["characters"] += len(text)
            state["links"] += sum(len(paragraph.entities) for paragraph in article.paragraphs)
    part.replace(path)
    state["files"].append(path.name)
    state["articles"] += len(articles)
    write_json_atomically(folder / _STATE, state)


def _write_titles(folder: Path, files: list[str]) -> None:
    """A title a line, as a gazetteer reads it."""
    part = folder / f"{_TITLES}.part"
    with writing(part), open_gzip(part) as out:
        for name in files:
            plain_name(folder / _STATE, "files", name)
            for number, line in read_lines(folder / name):
                out.write(parse_json(folder / name, number, line)["title"] + "\n")
    part.replace(folder / _TITLES)

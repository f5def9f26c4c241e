"""A MediaWiki dump of a hundred megabytes: links as their authors mark them, through every step to annotated text.

Wikipedia's text, or where there is no data.root the sample, is written as a dump, with links where MeCab finds proper
nouns. What comes out must be what went in.
"""

from __future__ import annotations

import bz2
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from bench import REPOSITORY, SAMPLE, Bench
from hydra import initialize_config_dir

from korbert.config import compose_config
from korbert.data.corpus import read_documents
from korbert.entities import make_annotator
from korbert.tasks.annotate import annotate_corpus
from korbert.tasks.wiki import extract_wiki
from korbert.text import AnnotatedText

_BYTES = 100_000_000  # of text, at scale 1
_WIKITEXT = re.compile(r"[^\w .,가-힣]|_")  # what could be a sign of wikitext
_HEAD = (
    '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="ko"><siteinfo>'
    "<sitename>위키백과</sitename><dbname>kowiki</dbname><base>b</base><generator>g</generator>"
    '<case>first-letter</case><namespaces><namespace key="0" case="first-letter" /></namespaces></siteinfo>\n'
)
_PAGE = (
    "<page><title>글 {number}</title><ns>0</ns><id>{number}</id><revision><id>{number}</id>"
    "<timestamp>2026-01-01T00:00:00Z</timestamp><model>wikitext</model><format>text/x-wiki</format>"
    '<text xml:space="preserve">{text}</text><sha1>x</sha1></revision></page>\n'
)


def dump(bench: Bench) -> None:
    """Write it, take its articles and links out, annotate them from the links, and once more from the cache."""
    size = bench.size(_BYTES)
    path, run, cache = bench.folder / "dump.xml.bz2", bench.folder / "wiki", f"data.cache={bench.folder / 'cache'}"
    articles, links = _write(path, _articles(bench, size))
    with bench.part("articles and links of a dump", size):
        found = extract_wiki(_config("extract_wiki", f"dump={path}", f"run_dir={run}"))["results"]
    assert (found["articles"], found["links"]) == (articles, links), found
    annotator = f"links:{run / 'links.sqlite'}"
    files = sorted(run.glob("articles-*.jsonl.gz"))
    stored = make_annotator(annotator)
    documents = itertools.chain.from_iterable(map(read_documents, files))
    for article, document in zip(_articles(bench, size), documents, strict=True):
        for paragraph, text in zip(article, document, strict=True):
            got = stored.annotate(text)
            assert text == paragraph.text, (text, paragraph.text)
            assert [(e.start, e.end) for e in got.entities] == [(e.start, e.end) for e in paragraph.entities], got
    for number, name in enumerate(("annotated from the links", "once more")):
        overrides = ("corpus=text", f"corpus.files=['{run}/articles-*.jsonl.gz']", f"annotator='{annotator}'", cache)
        with bench.part(name, size):
            config = _config("annotate_corpus", *overrides, f"run_dir={bench.folder / str(number)}")
            assert annotate_corpus(config)["results"]["entities"] == links


def _config(name: str, *overrides: str) -> Any:
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return compose_config(name, [*overrides, "runtime.workers=1"])


def _articles(bench: Bench, size: int) -> Iterator[list[AnnotatedText]]:
    """Articles with the names in them, until there are so many bytes; no paragraph without a letter: it is left out."""
    files = sorted(Path(bench.root, "kowiki").glob("*.jsonl.xz")) if bench.root else [SAMPLE]
    names = make_annotator("mecab")
    for document in itertools.chain.from_iterable(map(read_documents, files)):
        article = [paragraph for paragraph in names.annotate_all(document) if any(map(str.isalpha, paragraph.text))]
        size -= sum(len(paragraph.text.encode()) for paragraph in article)
        if article:
            yield article
        if size <= 0:
            return


def _write(path: Path, articles: Iterator[list[AnnotatedText]]) -> tuple[int, int]:
    """Write the dump; how many articles and links it has."""
    counts = [0, 0]
    with bz2.open(path, "wt", encoding="utf-8", compresslevel=1) as out:
        out.write(_HEAD)
        for number, article in enumerate(articles, start=1):
            text = "\n\n".join(map(_wikitext, article))
            out.write(_PAGE.format(number=number, text=escape(text)))
            counts[0] += 1
            counts[1] += sum(len(paragraph.entities) for paragraph in article)
        out.write("</mediawiki>\n")
    return counts[0], counts[1]


def _wikitext(paragraph: AnnotatedText) -> str:
    """The paragraph with its links, and every sign that could mean something as a character's number."""
    parts = []
    end = 0
    for entity in paragraph.entities:
        parts += [_plain(paragraph.text[end : entity.start]), f"[[대상|{_plain(entity.of(paragraph.text))}]]"]
        end = entity.end
    return "".join(parts) + _plain(paragraph.text[end:])


def _plain(text: str) -> str:
    return _WIKITEXT.sub(lambda sign: f"&#{ord(sign[0])};", text)

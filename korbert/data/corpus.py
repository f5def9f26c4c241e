"""Raw corpora as streams of documents.

Formats: `.txt` (documents separated by blank lines, a paragraph or sentence a line) and `.jsonl` (one object a line
with "text", paragraphs on its lines, and maybe "title"), either of them also as `.gz`, `.xz`, `.bz2` or `.zst`;
`.parquet` with columns "text" and maybe "title", as `wikimedia/wikipedia` has them; MediaWiki dumps (`.xml`, also
compressed).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from korbert.data.wikidump import Article, Page, extract, read_pages
from korbert.errors import DataError, KorbertError
from korbert.files import matching
from korbert.lines import kind_of, parse_json, read_lines
from korbert.text import Span

Document = list[str]  # its paragraphs, none of them blank

_MOST_CHARACTERS = 1 << 24  # of a document of a text file: many more are a file without blank lines
_ROWS = 256  # of Parquet at a time


def expand_paths(patterns: Iterable[str]) -> list[Path]:
    """Resolve file names and glob patterns, each pattern's matches in name order, see `korbert.files.matching`.

    Raises DataError for a pattern that matches no file, and for a name that is a folder's.
    """
    paths: dict[Path, Path] = {}  # a file that several patterns match is there once
    for pattern in patterns:
        if Path(pattern).is_dir():
            raise DataError(pattern, "corpus.files", f"a folder; wanted a file, or a pattern such as {pattern}/*.txt")
        found = [path for path in matching(pattern) if not path.is_dir()]
        if not found:
            raise DataError(pattern, "corpus.files", "no such file, and no file matches it as a pattern")
        for path in found:
            paths.setdefault(path.resolve(), path)
    return list(paths.values())


@dataclass(frozen=True, slots=True)
class Record:
    """A document with its title, "" where it has none. links: of each paragraph, where the source marks them."""

    title: str
    paragraphs: Document
    links: tuple[tuple[Span, ...], ...] | None = None

    def __len__(self) -> int:
        return sum(map(len, self.paragraphs))


Raw = Record | Page  # a page of a dump is not extracted where it is read, because that takes long


def read_raw(path: Path) -> Iterator[Raw]:
    """Stream the documents of one file; a record whose text is blank is an empty document.

    Raises DataError, naming file and line, for an unknown format, text that is not UTF-8, broken JSON, a record
    without "text", a damaged archive, or a file without any document.
    """
    reader = _READERS.get(kind_of(path))
    if reader is None:
        wanted = "wanted .txt, .jsonl or .xml, as it is or with .gz, .xz, .bz2 or .zst behind it, or .parquet"
        raise DataError(path, "file name", wanted)
    is_blank = True
    for raw in reader(path):
        is_blank = is_blank and not (isinstance(raw, Page) or raw.paragraphs)
        yield raw
    if is_blank:
        raise DataError(path, "file", "holds no document: it is empty or blank")


def to_record(raw: Raw) -> Record:
    """The document that was read; blank, with a warning, for a page that cannot be."""
    return _from_article(extract(raw)) if isinstance(raw, Page) else raw


def read_documents(path: Path) -> Iterator[Document]:
    """Stream the paragraphs of each document of a file, see `read_raw`."""
    for raw in read_raw(path):
        yield to_record(raw).paragraphs


def _from_article(article: Article) -> Record:
    article.warn()
    links = tuple(paragraph.entities for paragraph in article.paragraphs)
    return Record(article.title, [paragraph.text for paragraph in article.paragraphs], links)


def _text_records(path: Path) -> Iterator[Record]:
    document: Document = []
    size = 0
    for number, line in read_lines(path):
        if line.strip():
            document.append(line.strip())
            size += len(line)
            if size > _MOST_CHARACTERS:
                problem = f"a document of more than {_MOST_CHARACTERS:,} characters: a blank line ends a document"
                raise DataError(path, f"line {number}", problem)
        elif document:
            yield Record("", document)
            document, size = [], 0
    if document:
        yield Record("", document)


def _json_records(path: Path) -> Iterator[Record]:
    for number, line in read_lines(path):
        if not line.strip():
            continue
        record = parse_json(path, number, line)
        text = record.get("text") if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise DataError(path, f"line {number}", 'wanted an object with a string "text"')
        yield _from_columns(record.get("title"), text)


def _parquet_records(path: Path) -> Iterator[Record]:
    """Row group by row group, so that memory does not grow with the file."""
    try:
        from pyarrow import ArrowException, parquet
    except ImportError:
        raise KorbertError("reading .parquet needs a package: pip install -e '.[parquet]'") from None
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            if "text" not in names:
                raise DataError(path, "columns", f'wanted "text", found {", ".join(names)}')
            wanted = ["title", "text"] if "title" in names else ["text"]
            for batch in file.iter_batches(batch_size=_ROWS, columns=wanted):
                texts = batch.column("text").to_pylist()
                titles = batch.column("title").to_pylist() if "title" in names else [""] * len(texts)
                for title, text in zip(titles, texts, strict=True):
                    number += 1
                    if not isinstance(text, str):
                        raise DataError(path, f"row {number}", '"text" is no string')
                    yield _from_columns(title, text)
    except (ArrowException, OSError) as error:
        raise DataError(path, f"after row {number}", f"no Parquet, or cut off or damaged ({error})") from error


def _from_columns(title: object, text: str) -> Record:
    paragraphs = [part.strip() for part in text.split("\n") if part.strip()]
    return Record(title if isinstance(title, str) else "", paragraphs)


_READERS: dict[str, Callable[[Path], Iterator[Raw]]] = {
    ".txt": _text_records,
    ".jsonl": _json_records,
    ".parquet": _parquet_records,
    ".xml": read_pages,
}

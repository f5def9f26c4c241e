"""Raw corpora as streams of documents, and sentences as spans of them.

Formats: `.txt` (documents separated by blank lines, a paragraph or sentence a line) and `.jsonl` (one object a line
with "text", paragraphs on its lines), either of them also as `.gz`, `.xz` or `.bz2`.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from korbert.errors import DataError
from korbert.lines import kind_of, parse_json, read_lines
from korbert.text import AnnotatedText

Document = list[str]  # its paragraphs, none of them blank

# A full stop, question or exclamation mark, closing quotes or brackets behind it, then white space.
_SENTENCE_END = re.compile(r"[.!?。…][\"'”’」』)\]》〉]*\s+")
_MIN_SENTENCE = 10  # characters; shorter ones ("1. ", "Mr. ") stay with what follows


def expand_paths(patterns: Iterable[str]) -> list[Path]:
    """Resolve file names and glob patterns, each pattern's matches in name order.

    Raises DataError for a pattern that matches no file.
    """
    paths: list[Path] = []
    for pattern in patterns:
        found = sorted(Path(name) for name in glob.glob(pattern, recursive=True))
        if not found:
            raise DataError(pattern, "corpus.files", "no such file, and no file matches it as a pattern")
        paths += found
    return paths


def read_documents(path: Path) -> Iterator[Document]:
    """Stream the documents of one file; a record whose text is blank is an empty document.

    Raises DataError, naming file and line, for an unknown format, text that is not UTF-8, broken JSON, a record
    without "text", a damaged archive, or a file without any document.
    """
    reader = {".txt": _text_documents, ".jsonl": _json_documents}.get(kind_of(path))
    if reader is None:
        raise DataError(path, "file name", "wanted .txt or .jsonl, as it is or with .gz, .xz or .bz2 behind it")
    count = 0
    for document in reader(path, read_lines(path)):
        count += bool(document)
        yield document
    if count == 0:
        raise DataError(path, "file", "holds no document: it is empty or blank")


def _text_documents(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[Document]:
    document: Document = []
    for _, line in lines:
        if line.strip():
            document.append(line.strip())
        elif document:
            yield document
            document = []
    if document:
        yield document


def _json_documents(path: Path, lines: Iterator[tuple[int, str]]) -> Iterator[Document]:
    for number, line in lines:
        if not line.strip():
            continue
        record = parse_json(path, number, line)
        text = record.get("text") if isinstance(record, dict) else None
        if not isinstance(text, str):
            raise DataError(path, f"line {number}", 'wanted an object with a string "text"')
        yield [part.strip() for part in text.split("\n") if part.strip()]


def split_sentences(annotated: AnnotatedText) -> list[AnnotatedText]:
    """Cut a paragraph into sentences, white space at their ends removed; never inside an entity.

    The rule is typographic (an end mark and white space), fast, and good enough for next-sentence segments.
    """
    text = annotated.text
    cuts = [0]
    for match in _SENTENCE_END.finditer(text):
        position = match.end()
        inside = any(entity.start < position < entity.end for entity in annotated.entities)
        if position - cuts[-1] >= _MIN_SENTENCE and not inside:
            cuts.append(position)
    if len(text) - cuts[-1] < _MIN_SENTENCE and len(cuts) > 1:
        cuts.pop()
    sentences = []
    for start, end in zip(cuts, [*cuts[1:], len(text)], strict=True):
        lead = len(text[start:end]) - len(text[start:end].lstrip())
        trail = len(text[start:end]) - len(text[start:end].rstrip())
        if start + lead < end - trail:
            sentences.append(annotated.slice(start + lead, end - trail))
    return sentences

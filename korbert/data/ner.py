"""Named-entity corpora: sentences with gold spans.

Formats: `.jsonl` (one object a line with "text" and "entities", each [start, end, type, …] in characters, as in the
KMOU corpus), and `.tsv` (a character and its BIO tag a line, sentences apart by blank lines, comments begin with "##",
as in KLUE-NER), either of them also as `.gz`, `.xz` or `.bz2`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from korbert.errors import DataError
from korbert.files import text_checksum
from korbert.lines import kind_of, parse_json, read_lines
from korbert.text import AnnotatedText, Span


def read_ner(path: Path) -> list[AnnotatedText]:
    """All sentences of one file, see `read_ner_documents`."""
    return [sentence for _, sentence in read_ner_documents(path)]


def read_ner_documents(path: Path) -> list[tuple[str, AnnotatedText]]:
    """All sentences of one file, each with the name of its document: "file" of an object, else its own number.

    Raises DataError, naming file and line, for an unknown format, broken JSON, spans outside the text or overlapping
    ones, a tag that is not B-TYPE, I-TYPE or O, an I without its B, or a file without any sentence.
    """
    readers = {".jsonl": _json_sentences, ".tsv": _tagged_sentences}
    kind = kind_of(path)
    if kind not in readers:
        raise DataError(path, "file name", "wanted .jsonl or .tsv, as it is or with .gz, .xz or .bz2 behind it")
    sentences = list(readers[kind](path, read_lines(path)))
    if not sentences:
        raise DataError(path, "file", "holds no sentence: it is empty or blank")
    return [(document or str(number), sentence) for number, (document, sentence) in enumerate(sentences)]


def split_documents(
    sentences: Sequence[tuple[str, AnnotatedText]], share: float
) -> tuple[list[AnnotatedText], list[AnnotatedText]]:
    """Sentences of most documents, and those of `share` of them, so that no document is in both.

    A hash of a document's name decides, so that what a tagger has learned from is never what it is scored on.
    """
    documents = sorted({document for document, _ in sentences}, key=text_checksum)
    held_out = set(documents[: max(1, round(share * len(documents)))])
    return (
        [sentence for document, sentence in sentences if document not in held_out],
        [sentence for document, sentence in sentences if document in held_out],
    )


def known_among(learned: Iterable[AnnotatedText], scored: Sequence[AnnotatedText]) -> int:
    """How many of the sentences to be scored have the text of one that was learned from."""
    known = {sentence.text for sentence in learned}
    return sum(sentence.text in known for sentence in scored)


def _json_sentences(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[str, AnnotatedText]]:
    for number, line in lines:
        if not line.strip():
            continue
        record = parse_json(path, number, line)
        try:
            if not isinstance(record["text"], str):
                raise TypeError('"text" is no string')
            entities = sorted(_span(record["text"], *entity) for entity in record["entities"])
            yield str(record.get("file", "")), AnnotatedText(record["text"], tuple(entities))
        except (KeyError, TypeError, ValueError) as error:
            wanted = 'wanted an object with a string "text" and "entities" as [start, end, type], apart and inside'
            raise DataError(path, f"line {number}", f"{wanted} ({error!r})") from None


def _span(text: str, start: object, end: object, label: object, said: object = None, *_: object) -> Span:
    if type(start) is not int or type(end) is not int or not isinstance(label, str) or not label:
        raise TypeError(f"{[start, end, label]} is no entity")
    if isinstance(said, str) and text[start:end] != said:
        raise ValueError(f"{[start, end, label, said]}: the text has {text[start:end]!r} there")
    return Span(start, end, label)


def _tagged_sentences(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[str, AnnotatedText]]:
    chars: list[str] = []
    tags: list[str] = []
    for number, raw in lines:
        line = raw.rstrip("\r\n")
        if line.startswith("##"):  # the character # has its tab behind it
            continue
        if not line:
            if chars:
                yield "", AnnotatedText("".join(chars), tuple(spans_of(tags)))
            chars, tags = [], []
            continue
        char, _, tag = line.rpartition("\t")
        tag = tag.rstrip()
        before = tags[-1] if tags else "O"
        if len(char) != 1 or not (tag == "O" or (tag[:2] in ("B-", "I-") and tag[2:])):
            raise DataError(path, f"line {number}", f"wanted a character, a tab and B-TYPE, I-TYPE or O, got {line!r}")
        if tag[0] == "I" and (before == "O" or before[2:] != tag[2:]):
            raise DataError(path, f"line {number}", f"the tag {tag} follows {before}: an entity must begin with B")
        chars.append(char)
        tags.append(tag)
    if chars:
        yield "", AnnotatedText("".join(chars), tuple(spans_of(tags)))


def spans_of(tags: Iterable[str]) -> Iterator[Span]:
    """Spans of BIO tags, one tag for each place; an I without its B goes on with what stands before it, or begins."""
    start, label = 0, ""
    place = -1
    for place, tag in enumerate(tags):
        goes_on = tag[0] == "I" and tag[2:] == label
        if label and not goes_on:
            yield Span(start, place, label)
            label = ""
        if tag != "O" and not goes_on:
            start, label = place, tag[2:]
    if label:
        yield Span(start, place + 1, label)

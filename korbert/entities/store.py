"""Annotations made beforehand, in a file: for machines without the analyser, and to analyse a text only once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from korbert.entities.base import EntityAnnotator
from korbert.errors import DataError
from korbert.files import read_json, write_json_atomically
from korbert.text import AnnotatedText, Span

FORMAT = 1


def write_store(path: Path, name: str, annotator: EntityAnnotator, texts: Iterable[str]) -> int:
    """Annotate every text and write the spans, keyed by a hash of the text; the number of different texts."""
    spans = {
        _key(text): [[entity.start, entity.end, entity.label] for entity in annotator.annotate(text).entities]
        for text in texts
    }
    content = {"format": FORMAT, "annotator": name, "fingerprint": annotator.fingerprint, "texts": spans}
    write_json_atomically(path, content)
    return len(spans)


class StoredAnnotator(EntityAnnotator):
    """Gives stored annotations; a text that is not stored is annotated by `make`, where that can be had.

    Raises DataError where the file is not a store, or one of another annotator than `name`.
    """

    def __init__(self, path: Path, name: str, make: Callable[[], EntityAnnotator]) -> None:
        raw = read_json(path)
        if raw.get("format") != FORMAT or not isinstance(raw.get("texts"), dict):
            raise DataError(path, "format", f"wanted a store of annotations of format {FORMAT}")
        if raw.get("annotator") != name:
            raise DataError(path, "annotator", f"these are annotations of {raw.get('annotator')!r}, wanted {name!r}")
        self.path, self._make = path, make
        self._texts: dict[str, list[list[Any]]] = raw["texts"]
        self._fingerprint = str(raw["fingerprint"])
        self._other: EntityAnnotator | None = None

    @property
    def fingerprint(self) -> str:
        """That of the annotator whose annotations these are."""
        return self._fingerprint

    def annotate(self, text: str) -> AnnotatedText:
        """Return `text` with its entities."""
        found = self._texts.get(_key(text))
        if found is not None:
            return AnnotatedText(text, tuple(Span(start, end, label) for start, end, label in found))
        if self._other is None:
            other = self._make()
            if other.fingerprint != self._fingerprint:
                problem = f"is {self._fingerprint}, but the annotator here is {other.fingerprint}"
                raise DataError(self.path, "fingerprint", f"{problem}: texts would be annotated in two ways")
            self._other = other
        return self._other.annotate(text)


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

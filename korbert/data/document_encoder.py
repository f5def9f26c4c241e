"""Documents as encoded sentences, their entities marked."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt

from korbert.data.corpus import Record
from korbert.data.shardfiles import EOJEOL_UNITS, Stretch, stretch
from korbert.data.units import unit_flags
from korbert.data.wikidump import RULES
from korbert.encoding import encode_all
from korbert.entities import LINKS, EntityAnnotator, make_annotator, merged, with_cache
from korbert.errors import ConfigError
from korbert.lines import kind_of
from korbert.morphology import make_analyser
from korbert.sentences import split_sentences
from korbert.text import AnnotatedText
from korbert.tokenizers import Tokenizer


class RecordAnnotator:
    """An annotator by name, and "links" for those that a dump itself has, alone or before others ("links+mecab").

    annotations: a folder in which what is found is kept.
    """

    def __init__(self, name: str, cache: Path | None = None, annotations: Path | None = None) -> None:
        self.has_links = name == LINKS or name.startswith(f"{LINKS}+")
        rest = name.removeprefix(LINKS).removeprefix("+") or "none" if self.has_links else name
        self._base: EntityAnnotator = with_cache(make_annotator(rest, cache=cache), annotations)

    @property
    def fingerprint(self) -> str:
        """Changes whenever any text could be annotated differently."""
        return f"{RULES}, {self._base.fingerprint}" if self.has_links else self._base.fingerprint

    def check(self, sources: tuple[Path, ...]) -> None:
        """Raise ConfigError for a source that marks no links, where they are asked for."""
        for path in sources:
            if self.has_links and kind_of(path) != ".xml":
                raise ConfigError(
                    f"entities.annotator={LINKS}: {path} is no MediaWiki dump; {LINKS}:FILE takes the links of one "
                    "that experiments/extract_wiki.py has read"
                )

    def __call__(self, record: Record) -> list[AnnotatedText]:
        """The paragraphs with their entities; each is annotated whole, so that an analyser sees its context."""
        found = self._base.annotate_all(record.paragraphs)
        if not self.has_links or record.links is None:
            return found
        own = [AnnotatedText(text, spans) for text, spans in zip(record.paragraphs, record.links, strict=True)]
        return [merged(pair) for pair in zip(own, found, strict=True)]


class DocumentEncoder:
    """Document → encoded sentences. units: "", "eojeol", or the analyser whose morphemes are flagged as well."""

    def __init__(self, tokenizer: Tokenizer, annotator: RecordAnnotator, cut: bool, units: str = "") -> None:
        self.tokenizer, self.annotator = tokenizer, annotator
        self.cut, self.units = cut, units
        self._analyser = make_analyser(units) if units not in ("", EOJEOL_UNITS) else None

    def __call__(self, record: Record) -> tuple[Stretch, npt.NDArray[np.int64]]:
        """The tokens of all sentences, end to end, and how many each of those has that have one."""
        sentences = [sentence for paragraph in self.annotator(record) for sentence in split_sentences(paragraph)]
        encoding, lengths = encode_all(sentences, self.tokenizer, self.cut)
        units = None
        if self.units:
            parts = itertools.pairwise(np.append(0, np.cumsum(lengths)).tolist())
            flags = [
                unit_flags(sentence.text, encoding.take(slice(first, last)), self.tokenizer.special, self._analyser)
                for sentence, (first, last) in zip(sentences, parts, strict=True)
            ]
            units = np.concatenate([np.zeros(0, dtype=np.int32), *flags])
        return stretch(encoding, units), lengths[lengths > 0]

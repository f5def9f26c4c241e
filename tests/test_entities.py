"""Annotators: proper-noun runs by hand and on real text; analysers aligned, counted, and absent."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from korbert.entities import (
    EntityAnnotator,
    RandomSpanAnnotator,
    annotator_files,
    make_annotator,
)
from korbert.errors import ConfigError, KorbertError
from korbert.morphology import ANALYSERS, Analyser, Morpheme, align_morphemes, kiwi, make_analyser
from korbert.morphology.base import RememberingAnalyser, cut_long
from korbert.sentences import split_sentences
from korbert.text import AnnotatedText, Normalizer, Span, blank_mask, trim

TEXTS = st.text(
    st.sampled_from("서울특별시는 삼성전자와 KBS 2020년 ㈜李 \n\t\u3000\u200b\u00ad\ufe0f👨.()하였다했다"), max_size=40
) | st.text(max_size=15)
JAVA = {"komoran": "서울", "kkma": "世宗"}  # and a proper noun that each of them knows


@pytest.fixture(scope="module")
def mecab() -> EntityAnnotator:
    return make_annotator("mecab")


def mentions(annotator: EntityAnnotator, text: str) -> list[str]:
    return [entity.of(text) for entity in annotator.annotate(text).entities]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("임종석이 서울특별시에서 태어났다.", ["임종석", "서울특별시"]),
        ("세종대왕은 한양에서 즉위하였다.", ["세종대왕", "한양"]),
        ("삼성전자가 애플과 다툰다.", ["삼성전자", "애플"]),
        ("서울 부산", ["서울", "부산"]),  # white space ends a run
        ("나는 밥을 먹었다.", []),
        ("", []),
        (" \n\t", []),
    ],
)
def test_runs_by_hand(mecab: EntityAnnotator, text: str, expected: list[str]) -> None:
    assert mentions(mecab, text) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("mecab", ["미국", "FBI", "삼성전자", "KBS교향악단", "김철수"]),
        ("proper-mecab", ["미국", "삼성전자", "김철수"]),
        ("compounds-mecab", ["경제성장률", "KBS교향악단", "국립중앙박물관장"]),
        ("nouns-mecab", ["미국", "FBI", "경제성장률", "삼성전자", "KBS교향악단", "조사", "국립중앙박물관장", "김철수"]),
        (
            "proper-mecab+compounds-mecab",
            ["미국", "경제성장률", "삼성전자", "KBS교향악단", "국립중앙박물관장", "김철수"],
        ),
    ],
)
def test_kinds_of_runs_by_hand(name: str, expected: list[str]) -> None:
    text = "미국 FBI는 경제성장률을 삼성전자와 KBS교향악단에서 조사했다. 국립중앙박물관장 김철수"
    assert [entity.of(text) for entity in make_annotator(name).annotate(text).entities] == expected


def test_text_is_never_changed(mecab: EntityAnnotator) -> None:
    """NFD, invisible characters and odd white space: spans are those of the text that was given."""
    text = "임종석이  서울\u200b특별시에서 태어났다."
    decomposed = unicodedata.normalize("NFD", text)
    for given_text in (text, decomposed, f"\n\t {text}", f"\ufeff{text}"):
        annotated = mecab.annotate(given_text)
        assert annotated.text is given_text
        found = [unicodedata.normalize("NFC", m) for m in mentions(mecab, given_text)]
        assert found == ["임종석", "서울\u200b특별시"]


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
@pytest.mark.parametrize("name", ["mecab", "kiwi"])
def test_entities_are_apart_trimmed_and_repeatable(name: str, text: str) -> None:
    annotator = annotators(name)
    annotated = annotator.annotate(text)
    assert annotated.text == text
    for entity in annotated.entities:
        assert trim(text, entity.start, entity.end) == (entity.start, entity.end)
    for one, next_one in itertools.pairwise(annotated.entities):
        assert one.end <= next_one.start
    assert annotator.annotate(text) == annotated


needs_lattices = pytest.mark.skipif(
    not ANALYSERS["mecab"]().is_installed, reason="python-mecab-ko, whose lattices these are, is not installed"
)


@needs_lattices
@settings(max_examples=300, deadline=None)
@given(text=TEXTS)
def test_mecabs_lattice_says_what_its_parse_says(text: str) -> None:
    quick, slow = make_analyser("mecab"), make_analyser("mecab")
    slow.__dict__["_lattices"] = None  # as with a package that is made differently
    assert quick.analyse(text) == slow.analyse(text)
    assert quick.edges(text) == slow.edges(text) == {e for m in slow.analyse(text) for e in (m.start, m.end)}


@needs_lattices
def test_mecabs_lattice_on_the_sample() -> None:
    quick, slow = make_analyser("mecab"), make_analyser("mecab")
    slow.__dict__["_lattices"] = None
    assert quick._lattices is not None  # type: ignore[attr-defined]
    for line in Path("data/sample/corpus.txt").read_text("utf-8").splitlines():
        assert quick.analyse(line) == slow.analyse(line)


_STARTED: dict[str, EntityAnnotator] = {}


def annotators(name: str) -> EntityAnnotator:
    """Started once: Kiwi takes seconds."""
    if name == "kiwi":
        pytest.importorskip("kiwipiepy")
    return _STARTED.setdefault(name, make_annotator(name))


def test_kiwi_finds_names() -> None:
    assert mentions(annotators("kiwi"), "임종석이 서울특별시에서 태어났다.") == ["임종석", "서울특별시"]


@pytest.mark.slow
@pytest.mark.parametrize("limit", [1, 4, 9])
def test_kiwi_is_given_long_texts_in_parts(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a word without end it would take the square of its length."""
    annotators("kiwi")
    analyser = make_analyser("kiwi")
    text = "임종석이 서울특별시에서 태어났다.\n 그는 학생이었다"
    whole = analyser.analyse(text)
    monkeypatch.setattr(kiwi, "_MAX_TEXT", limit)
    expected, end = [], 0
    for first, part in cut_long(text, limit):
        assert first == end
        assert len(part) <= limit
        expected += [Morpheme(m.start + first, m.end + first, m.tag) for m in analyser.analyse(part)]
        end += len(part)
    assert end == len(text)
    assert analyser.analyse(text) == expected
    assert analyser.edges(text) == {edge for m in expected for edge in (m.start, m.end)}
    assert whole[0] == expected[0] if limit == 9 else whole != expected


def java() -> None:
    if shutil.which("java") is None and "JAVA_HOME" not in os.environ:
        message = "KoNLPy's taggers need a Java runtime"
        if os.environ.get("KORBERT_REQUIRE_DATA") == "1":
            pytest.fail(message)
        pytest.skip(message)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "known"), JAVA.items())
def test_konlpy_s_java_taggers(name: str, known: str) -> None:
    """Each gives spans of the very text, although KoNLPy gives none and changes forms (하였 → 하았)."""
    java()
    annotator = make_annotator(name)
    text = "세종(世宗)은 서울에서 태어났다.\n 이순신은  거북선을 만들었다고 했다."
    assert known in mentions(annotator, text)
    analyser = make_analyser(name)
    morphemes = analyser.analyse(text)
    assert morphemes
    forms = [text[m.start : m.end] for m in morphemes]
    assert "거북선" in "".join(forms)
    for one, next_one in itertools.pairwise(morphemes):
        assert one.end <= next_one.start
    assert all(form.strip() == form != "" for form in forms)


def test_java_starts_only_when_it_is_used() -> None:
    """In a process of its own: other tests have started it here."""
    import subprocess

    code = (
        "import sys; from korbert.entities import make_annotator; make_annotator('komoran').annotate('');"
        "sys.exit('jpype' in sys.modules or 'konlpy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- what is not there ----


@pytest.mark.parametrize("name", ["mecab", "kiwi", "komoran"])
def test_missing_analyser_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    analyser = make_analyser(name)
    monkeypatch.setitem(sys.modules, analyser.package, None)
    annotator = make_annotator(name)  # not needed before the first text
    with pytest.raises(KorbertError, match=f"pip install {analyser.install}"):
        annotator.annotate("세종은 왕이다.")


def test_java_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("konlpy")
    import konlpy.tag

    def fail() -> None:
        raise ValueError("No JVM shared library file (libjvm.so) found.")

    monkeypatch.setattr(konlpy.tag, "Komoran", fail)
    with pytest.raises(KorbertError, match="Komoran cannot start: it needs a Java runtime"):
        make_analyser("komoran").analyse("세종")


def test_system_mecab_that_is_missing_is_named() -> None:
    pytest.importorskip("konlpy")
    if importlib.util.find_spec("MeCab") is not None:
        pytest.skip("MeCab is installed on this system")
    with pytest.raises(KorbertError, match="the analyser mecab needs neither"):
        make_analyser("konlpy_mecab").analyse("세종")


@pytest.mark.parametrize(
    ("name", "message"),
    [("okt", "'okt' tags no proper nouns"), ("hannanum", "'hannanum' tags no"), ("mecap", "'mecap' is unknown")],
)
def test_unknown_annotators(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"entities\.annotator: .*{message}"):
        make_annotator(name)


@pytest.mark.parametrize("name", ["names-mecab", "proper-", "links", "mecab+kiwwi", "mecab+", "", "random-x", "Mecab"])
def test_unknown_annotators_are_told_what_there_is(name: str) -> None:
    with pytest.raises(ConfigError, match=r"is unknown, wanted none, one of mecab.*gazetteer:FILE.*joined by \+"):
        make_annotator(name)


@pytest.mark.parametrize("name", ["links:", "tagger:", "mecab+links:", "gazetteer:", "gazetteer:,"])
def test_annotators_without_their_files(name: str) -> None:
    with pytest.raises(ConfigError, match=r"entities\.annotator: .*(lacks what it reads|needs a list of names)"):
        make_annotator(name)


def test_the_files_of_an_annotator() -> None:
    name = "random-links:x/l.sqlite+gazetteer:a.tsv,{root}/b.gz+mecab+random-tagger:runs/t+gazetteer:c"
    assert annotator_files(name) == ["x/l.sqlite", "a.tsv", "{root}/b.gz", "runs/t", "c"]
    assert annotator_files("expressions-mecab+kiwi") == annotator_files("hf:klue/bert-base") == []


def test_fingerprints() -> None:
    names = [name for name, analyser in ANALYSERS.items() if analyser.proper_noun and name != "mecab_ko"]
    prints = {name: make_annotator(name).fingerprint for name in [*names, "none", "random-mecab", "random-kiwi"]}
    assert len(set(prints.values())) == len(prints)
    assert prints["mecab"] == make_annotator("mecab").fingerprint
    assert "unknown" not in prints["mecab"]


# ---- random spans, the control ----


@settings(max_examples=200, deadline=None)
@given(TEXTS)
@example("0A\u06e7")  # a letter with a mark that NFC has no one character for
@example("서울\u200b은 \u00ad 부산\ufeff \ufe0f")
def test_random_spans_are_as_many_and_as_long(text: str) -> None:
    """Or fewer, where the text has no room; never with blanks at their ends; the same for the same text.

    As long is of as many visible characters in NFC.
    """

    def size(part: str) -> int:
        return int((~blank_mask(Normalizer("NFC")(part).text)).sum())

    found = make_annotator("mecab").annotate(text).entities
    drawn = make_annotator("random-mecab").annotate(text)
    assert drawn == make_annotator("random-mecab").annotate(text)
    rest = [size(span.of(text)) for span in found]
    for span in drawn.entities:
        rest.remove(size(span.of(text)))
        assert trim(text, span.start, span.end) == (span.start, span.end)


def test_random_spans_hold_whole_syllables(sample: Path) -> None:
    """Those of a text in NFD are those of the same text in NFC."""
    random = make_annotator("random-mecab")
    for line in (sample / "corpus.txt").read_text("utf-8").splitlines()[:30]:
        composed = unicodedata.normalize("NFC", line)
        decomposed = unicodedata.normalize("NFD", line)
        drawn = [unicodedata.normalize("NFC", span.of(decomposed)) for span in random.annotate(decomposed).entities]
        assert drawn == [span.of(composed) for span in random.annotate(composed).entities]


def test_random_spans_on_real_text(sample: Path) -> None:
    """Nearly every one finds room, and they lie anywhere."""
    mecab, random = make_annotator("mecab"), make_annotator("random-mecab")
    lines = [line for line in (sample / "corpus.txt").read_text("utf-8").splitlines() if line.strip()]
    found = [span for line in lines for span in mecab.annotate(line).entities]
    drawn = [span for line in lines for span in random.annotate(line).entities]
    assert 0.98 * len(found) < len(drawn) <= len(found)
    same = 0
    for line in lines:
        places = {(span.start, span.end) for span in random.annotate(line).entities}
        same += sum((span.start, span.end) in places for span in mecab.annotate(line).entities)
    assert same < 0.15 * len(found)
    middles = [(s.start + s.end) / 2 / len(line) for line in lines for s in random.annotate(line).entities]
    assert sum(middles) / len(middles) == pytest.approx(0.5, abs=0.03)


def test_random_spans_leave_sentences_as_they_are(sample: Path) -> None:
    """Pretraining asks for sentences, and joins them in pairs: the control's must be those of the entities."""
    base, random = make_annotator("expressions-mecab+mecab"), make_annotator("random-expressions-mecab+mecab")
    several = 0
    documents = (sample / "corpus.txt").read_text("utf-8").split("\n\n")
    for number, document in enumerate(documents):
        # As it is, in NFD, and with white space that counts as one blank where text is normalised.
        paragraph = (document, unicodedata.normalize("NFD", document), document.replace(" ", "   "))[number % 3]
        wanted = [sentence.text for sentence in split_sentences(base.annotate(paragraph))]
        drawn = random.annotate(paragraph)
        assert [sentence.text for sentence in split_sentences(drawn)] == wanted
        assert len(drawn.entities) > 0.9 * len(base.annotate(paragraph).entities)
        several += len(wanted) > 3
    assert several > 20


def test_random_spans_of_entities_that_share_a_character() -> None:
    """In NFD, the parts of a syllable may belong to two entities of somebody's own annotator."""

    class Halves(EntityAnnotator):
        fingerprint = "halves"

        def annotate(self, text: str) -> AnnotatedText:
            return AnnotatedText(text, (Span(0, 1), Span(1, 3)))

    text = unicodedata.normalize("NFD", "각 나라에는 저마다 말이 있다.")
    assert len(RandomSpanAnnotator(Halves()).annotate(text).entities) in (1, 2)


# ---- alignment ----


def test_alignment_by_hand() -> None:
    pairs = [("세종", "NNP"), ("은", "JX"), ("만들", "VV"), ("었", "EP"), ("다", "EF")]
    text = "세종은 만들었다"
    morphemes, lost = align_morphemes(text, pairs)
    assert [(text[m.start : m.end], m.tag) for m in morphemes] == pairs
    assert lost == 0
    text = "그는 말했다 하였다"
    morphemes, lost = align_morphemes(
        text, [("그", "NP"), ("는", "JX"), ("말", "NNG"), ("하", "XSV"), ("았", "EP"), ("다", "EF")]
    )
    assert [text[m.start : m.end] for m in morphemes] == ["그", "는", "말", "다"]
    assert lost == 2  # 하+았 is not in 했; the next 하 belongs to another word and must not be taken
    assert morphemes[-1] == Morpheme(5, 6, "EF")
    assert align_morphemes("가", [("", "X"), ("나", "Y")]) == ([], 2)


@given(st.text("가나다라 ", max_size=20), st.lists(st.text("가나다라", max_size=3), max_size=8))
def test_alignment_laws(text: str, forms: list[str]) -> None:
    """What is found stands where it says, in order; what is not found is counted."""
    morphemes, lost = align_morphemes(text, [(form, str(i)) for i, form in enumerate(forms)])
    assert len(morphemes) + lost == len(forms)
    for m in morphemes:
        assert text[m.start : m.end] == forms[int(m.tag)]
    for one, next_one in itertools.pairwise(morphemes):
        assert one.end <= next_one.start
        assert int(one.tag) < int(next_one.tag)


@given(st.lists(st.text("가나다라", min_size=1, max_size=3), max_size=8), st.data())
def test_whole_segmentations_are_found_whole(forms: list[str], data: st.DataObject) -> None:
    text = "".join(form + data.draw(st.sampled_from(["", " ", "  "])) for form in forms)
    morphemes, lost = align_morphemes(text, [(form, "") for form in forms])
    assert lost == 0
    assert [text[m.start : m.end] for m in morphemes] == forms


def test_unaligned_forms_are_counted_by_the_analyser() -> None:
    class Fake(Analyser):
        """Says something that is not in the text."""

        name, package, install = "fake", "json", "fake"

        def _start(self, module: object) -> object:
            return module

        def parse(self, text: str) -> list[tuple[str, str]]:
            return [("세종", "NNP"), ("없다", "X")]

        def _analyse(self, text: str) -> list[Morpheme]:
            found, lost = align_morphemes(text, self.parse(text))
            self.unaligned += lost
            return found

    fake = Fake()
    assert fake.analyse("세종은") == [Morpheme(0, 2, "NNP")]
    assert fake.analyse(" ") == []
    assert fake.unaligned == 1
    remembering = RememberingAnalyser(fake)  # counts its own texts, each once
    for text in ("세종은", "세종이", "세종은"):
        assert remembering.analyse(text) == [Morpheme(0, 2, "NNP")]
        fake.analyse("세종도")
    assert (remembering.found, remembering.unaligned) == (2, 2)

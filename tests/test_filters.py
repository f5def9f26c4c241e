"""Filters: by hand, against plain Python, against exact Jaccard similarity, and against leaks of KorQuAD."""

from __future__ import annotations

import random
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from korbert.data import duplicates
from korbert.data.corpus import Record
from korbert.data.duplicates import MINIMA, Signatures, SignatureStore, bands, decide, signatures
from korbert.data.filters import DocumentFilter, Filters, Reason, korean_share
from korbert.data.korquad import read_korquad
from korbert.data.overlap import EvaluationText, comparable, ngram_hashes
from korbert.errors import ConfigError, DataError

KOREAN = "훈민정음은 세종이 만든 글자이다."


def reason(filters: Filters, text: str, title: str = "", **files: list[Path]) -> Reason:
    return DocumentFilter(filters, **files)(Record(title, text.split("\n")), comparable(text))


def test_each_filter_by_hand(tmp_path: Path) -> None:
    assert reason(Filters(), "!?…") is Reason.BLANK
    assert reason(Filters(min_characters=18), KOREAN) is Reason.KEPT
    assert reason(Filters(min_characters=19), KOREAN) is Reason.SHORT
    assert reason(Filters(max_characters=17), KOREAN) is Reason.LONG
    assert reason(Filters(max_characters=18), KOREAN) is Reason.KEPT
    mixed = "가나 abc 12345 日"  # two of six letters
    assert reason(Filters(min_korean=0.34), mixed) is Reason.NOT_KOREAN
    assert reason(Filters(min_korean=0.33), mixed) is Reason.KEPT
    (tmp_path / "titles.txt").write_text("세종 (음악)\n\n??\n", "utf-8")
    titles = [tmp_path / "titles.txt"]
    assert reason(Filters(), KOREAN, unicodedata.normalize("NFD", "세종(음악)"), titles=titles) is Reason.TITLE
    assert reason(Filters(), KOREAN, "??", titles=titles) is Reason.TITLE
    assert reason(Filters(), KOREAN, "세종", titles=titles) is Reason.KEPT
    assert reason(Filters(), KOREAN, "", titles=titles) is Reason.KEPT


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_characters": -1}, "filters.min_characters: wanted at least 0"),
        ({"shingle": 0}, "filters.shingle: wanted at least 1"),
        ({"min_characters": 9, "max_characters": 8}, "filters.max_characters=8 leaves nothing"),
        ({"near_duplicates": 1.1}, "filters.near_duplicates: wanted a share"),
        ({"min_korean": -0.1}, "filters.min_korean: wanted a share"),
    ],
)
def test_impossible_filters_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Filters(**values)


@given(st.text(max_size=60))
def test_korean_share_is_what_it_says(text: str) -> None:
    letters = [c for c in text if c.isalpha()]
    hangul = [c for c in letters if unicodedata.name(c, "").startswith("HANGUL")]
    assert korean_share(text) == pytest.approx(len(hangul) / len(letters) if letters else 0.0)


@given(st.text(st.characters(min_codepoint=0xAC00, max_codepoint=0xAC20), max_size=40), st.integers(1, 20))
def test_hashes_are_equal_where_ngrams_are(text: str, length: int) -> None:
    hashes = ngram_hashes(text, length).tolist()
    ngrams = [text[start : start + length] for start in range(len(text) - length + 1)]
    assert len(hashes) == len(ngrams)
    assert len({*zip(hashes, ngrams, strict=True)}) == len({*hashes}) == len({*ngrams})


def test_what_is_comparable() -> None:
    text = "세종(世宗)은, 조선의 제4대 국왕이다."
    for other in (unicodedata.normalize("NFD", text), text.replace(" ", ""), "세종 世宗 은 조선의 제４대\n국왕이다"):
        assert comparable(other) == comparable(text) == "세종世宗은조선의제4대국왕이다"
    assert comparable("Straße ＡＢＣ") == "strasseabc"
    marks = "\u0301\u0316" * 200_000  # to be put in order, which takes the square of their number
    assert comparable(f"가{marks}나e\u0301\u0316") == comparable("가\u0301나e\u0301\u0316") == "가나é"


# ---- duplicates ----


def store(folder: Path, texts: list[str], filters: Filters, pieces: int) -> SignatureStore:
    """Signatures of documents, in several pieces."""
    names = []
    for number, rows in enumerate(np.array_split(np.arange(len(texts)), pieces)):
        part = [comparable(texts[row]) for row in rows]
        exact = np.array([hash(text) & (1 << 63) - 1 for text in part], dtype=np.uint64)
        minima = signatures(part, filters.shingle) if filters.near_duplicates is not None else None
        names.append(f"{number:05d}")
        Signatures(np.zeros(len(part), dtype=np.uint8), exact, minima).save(folder, names[-1], folder)
    return SignatureStore(folder, names)


def words(rng: random.Random, count: int) -> list[str]:
    return ["".join(rng.choices("가나다라마바사아자차카타파하", k=rng.randint(2, 5))) for _ in range(count)]


def jaccard(a: str, b: str, shingle: int) -> float:
    first, second = (
        {text[i : i + shingle] for i in range(len(text) - shingle + 1)} for text in (comparable(a), comparable(b))
    )
    return len(first & second) / len(first | second)


def family(seed: int) -> list[str]:
    """Documents and edited copies of them, mixed."""
    rng = random.Random(seed)
    texts = []
    for _ in range(12):
        original = words(rng, 120)
        texts.append(" ".join(original))
        for edits in (0, 2, 5, 15, 60):
            copy = list(original)
            for place in rng.sample(range(len(copy)), edits):
                copy[place] = words(rng, 1)[0]
            texts.append(rng.choice([" ", "\n", ""]).join(copy))
    rng.shuffle(texts)
    return texts


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_near_duplicates_against_exact_similarity(tmp_path: Path, seed: int) -> None:
    """What is far above the threshold goes, what is far below it stays, and the first of its like always stays."""
    filters = Filters(duplicates=True, near_duplicates=0.7)
    texts = family(seed)
    reasons = decide(store(tmp_path, texts, filters, pieces=4), filters)
    for number, text in enumerate(texts):
        similar = [jaccard(text, earlier, filters.shingle) for earlier in texts[:number]]
        if comparable(text) in map(comparable, texts[:number]):
            assert reasons[number] == Reason.DUPLICATE
        elif not similar or max(similar) < 0.5:
            assert reasons[number] == Reason.KEPT
        elif max(similar) > 0.88:
            assert reasons[number] == Reason.NEAR_DUPLICATE
    assert {*reasons.tolist()} == {Reason.KEPT, Reason.DUPLICATE, Reason.NEAR_DUPLICATE}


def test_of_many_that_share_a_band_each_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stubs of one template, say: too different to be left out, and as many rounds as there are of them."""
    rng = np.random.default_rng(0)
    minima = rng.integers(0, 1 << 32, (60, duplicates.MINIMA), dtype=np.uint32)
    minima[:, :8] = 1
    minima[40] = minima[30]
    exact = np.arange(60, dtype=np.uint64)
    for number in range(3):
        rows = slice(20 * number, 20 * number + 20)
        Signatures(np.zeros(20, dtype=np.uint8), exact[rows], minima[rows]).save(tmp_path, f"p{number}", tmp_path)
    found = SignatureStore(tmp_path, ["p0", "p1", "p2"])
    asked: list[int] = []
    minima_of = found.minima
    monkeypatch.setattr(found, "minima", lambda documents: (asked.append(len(documents)), minima_of(documents))[1])
    reasons = decide(found, Filters(near_duplicates=0.8))
    assert np.flatnonzero(reasons).tolist() == [40]
    assert len(asked) <= duplicates.BANDS
    monkeypatch.setattr(duplicates, "_MOST_HELD", 10)  # too many to be held
    asked.clear()
    assert decide(found, Filters(near_duplicates=0.8)).tolist() == reasons.tolist()
    assert len(asked) > 60


def similar_by_hand(minima: np.ndarray, groups: list[int], threshold: float) -> list[bool]:
    """Each row beside all before it in its group that are left."""
    found: list[bool] = []
    for row, group in enumerate(groups):
        before = [i for i in range(row) if groups[i] == group and not found[i]]
        found.append(any((minima[row] == minima[i]).mean() >= threshold for i in before))
    return found


@settings(max_examples=150, deadline=None)
@given(
    sizes=st.lists(st.integers(2, 40), min_size=1, max_size=5),
    shared=st.floats(0.5, 1.0),
    threshold=st.sampled_from([0.0, 0.5, 0.7, 0.8, 103 / 128, 1.0]),
    seed=st.integers(0, 999),
    limits=st.tuples(st.integers(0, 3), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
)
def test_many_that_share_a_band_are_decided_as_one_by_one(
    sizes: list[int], shared: float, threshold: float, seed: int, limits: tuple[int, ...]
) -> None:
    """However they are looked through: by rounds, by themselves, and in pieces of any size."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(len(sizes)), sizes)
    bases = rng.integers(0, 1 << 32, (len(sizes), 2, MINIMA), dtype=np.uint32)
    base = bases[groups, rng.integers(0, 2, len(groups))]  # of two families in each group
    own = rng.integers(0, 1 << 32, base.shape, dtype=np.uint32)
    minima = np.where(rng.random(base.shape) < shared ** rng.random((len(groups), 1)), base, own)
    expected = similar_by_hand(minima, groups.tolist(), threshold)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in zip(("_ROUNDS", "_LARGE", "_LEADERS", "_OTHERS", "_ROWS"), limits, strict=True):
            patch.setattr(duplicates, name, value)
        assert duplicates._similar(minima.__getitem__, groups, threshold).tolist() == expected
    assert duplicates._similar(minima.__getitem__, groups, threshold).tolist() == expected


@given(st.integers(0, 999), st.floats(0.0, 1.0))
def test_sketches_differ_only_where_minima_do(seed: int, shared: float) -> None:
    """And where minima differ, seldom do sketches not."""
    rng = np.random.default_rng(seed)
    minima = rng.integers(0, 1 << 26, (2, MINIMA), dtype=np.uint32)  # minima are small
    minima[1] = np.where(rng.random(MINIMA) < shared, minima[0], minima[1])
    truth = int((minima[0] != minima[1]).sum())
    sketches = duplicates._sketches(minima)
    found = int(duplicates._differences(sketches[:, :, 0], sketches[:, :, 1]))
    assert 0.6 * truth - 4 <= found <= truth
    words = sketches.copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr(np, "bitwise_count", raising=False)  # as in numpy 1
        assert int(duplicates._differences(sketches[:, :, :1], sketches[:, :, 1:])[0]) == found
    assert np.array_equal(words, sketches)


def test_many_that_share_a_band_take_little_time() -> None:
    """A template's stubs, half of whose minima are the same: not three comparisons of whole signatures for each."""
    rng = np.random.default_rng(0)
    base, own = (rng.integers(0, 1 << 32, shape, dtype=np.uint32) for shape in (MINIMA, (2000, MINIMA)))
    minima = np.where(rng.random(own.shape) < 0.7, base, own)
    minima[1500] = minima[700]
    read = 0

    def reader(rows: np.ndarray) -> np.ndarray:
        nonlocal read
        read += len(rows)
        return minima[rows]

    found = duplicates._similar(reader, np.zeros(2000, dtype=np.int64), 0.8)
    assert np.flatnonzero(found).tolist() == [1500]
    assert read < 2000 * (2 * duplicates._ROUNDS + 3)


def test_decisions_do_not_depend_on_pieces_or_partitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filters = Filters(duplicates=True, near_duplicates=0.7)
    texts = family(4)
    found = []
    for pieces, most in ((1, 1 << 24), (5, 1 << 24), (3, 7)):
        monkeypatch.setattr(duplicates, "_MOST", most)
        monkeypatch.setattr(duplicates, "_ROWS", max(3, most >> 4))
        (tmp_path / str(len(found))).mkdir()
        found.append(decide(store(tmp_path / str(len(found)), texts, filters, pieces), filters).tolist())
    assert found[0] == found[1] == found[2]
    only_exact = decide(store(tmp_path / "0", texts, Filters(duplicates=True), 2), Filters(duplicates=True))
    assert {*only_exact.tolist()} == {Reason.KEPT, Reason.DUPLICATE}


def test_documents_left_out_before_do_not_count(tmp_path: Path) -> None:
    filters = Filters(duplicates=True)
    same = np.array([7, 7, 7, 9], dtype=np.uint64)
    Signatures(np.array([Reason.SHORT, 0, 0, 0], dtype=np.uint8), same, None).save(tmp_path, "a", tmp_path)
    assert decide(SignatureStore(tmp_path, ["a"]), filters).tolist() == [Reason.SHORT, 0, Reason.DUPLICATE, 0]
    (tmp_path / "a.npz").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"a\.npz: reasons: missing or damaged"):
        SignatureStore(tmp_path, ["a"])


def test_minima_estimate_similarity() -> None:
    """The law of MinHash: the share of equal minima is the Jaccard similarity, to the error of 128 draws."""
    rng = random.Random(5)
    base = words(rng, 200)
    for kept in (180, 120, 60):
        other = base[:kept] + words(rng, 200 - kept)
        first, second = " ".join(base), " ".join(other)
        minima = signatures([comparable(first), comparable(second)], 6)
        truth = jaccard(first, second, 6)
        assert abs((minima[0] == minima[1]).mean() - truth) < 4 * np.sqrt(truth * (1 - truth) / MINIMA)
    assert signatures([], 6).shape == (0, MINIMA)
    assert bands(minima).shape == (16, 2)


# ---- evaluation files ----


def edited(rng: random.Random, text: str, kind: str) -> str:
    """A passage as pages copy it."""
    if kind == "nfd":
        return unicodedata.normalize("NFD", text)
    if kind == "spacing":
        return rng.choice(["\n", "  ", "\u00a0"]).join(text.replace(".", ". ").split())
    eojeol = text.split()
    for place in rng.sample(range(len(eojeol)), len(eojeol) // 10):
        if kind == "dropped":
            eojeol[place] = ""
        elif kind == "josa":
            swap = str.maketrans("은는이가을를", "는은가이를을")
            eojeol[place] = eojeol[place][:-1] + eojeol[place][-1].translate(swap) + rng.choice(["", "도"])
    return " ".join(filter(None, eojeol))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["exact", "nfd", "spacing", "dropped", "josa"])
def test_no_passage_of_korquad_leaks(data_root: Path, kind: str) -> None:
    """Every one of the 964, alone and in the middle of an innocent document."""
    dev = read_korquad(data_root / "korquad" / "KorQuAD_v1.0_dev.json")
    contexts = [paragraph.context for article in dev.articles for paragraph in article.paragraphs]
    evaluation = EvaluationText(contexts)
    rng = random.Random(6)
    filler = " ".join(words(rng, 2000))
    missed = []
    for number, context in enumerate(contexts):
        copy = context if kind == "exact" else edited(rng, context, kind)
        around = f"{filler}\n{copy}\n{filler}" if number % 2 else copy
        if not evaluation.overlaps(comparable(around)):
            missed.append(context)
    assert not missed
    assert not evaluation.overlaps(comparable(filler))


def test_a_part_of_a_passage_is_found_and_a_name_is_not(data_root: Path) -> None:
    dev = read_korquad(data_root / "korquad" / "KorQuAD_v1.0_dev.json")
    contexts = [paragraph.context for article in dev.articles for paragraph in article.paragraphs]
    evaluation = EvaluationText(contexts)
    for context in contexts[:50]:
        text = comparable(context)
        third = max(len(text) // 3, 40)
        assert evaluation.overlaps(text[-third:])
        assert not evaluation.overlaps(text[:20])


def test_paragraphs_shorter_than_an_ngram_and_none() -> None:
    assert not EvaluationText([]).overlaps(comparable(KOREAN))
    assert not EvaluationText(["짧다"]).overlaps("짧다")
    assert EvaluationText([KOREAN]).overlaps(comparable(KOREAN))  # shorter than what is wanted of long ones


@settings(max_examples=50)
@given(st.lists(st.text("가나다라", min_size=0, max_size=30), max_size=4), st.text("가나다라", max_size=60))
def test_overlap_against_sets(paragraphs: list[str], text: str) -> None:
    found = EvaluationText(paragraphs, length=3, share=0.5, fewest=4).overlaps(text)
    mine = {text[i : i + 3] for i in range(len(text) - 2)}
    expected = False
    for paragraph in paragraphs:
        theirs = {paragraph[i : i + 3] for i in range(len(paragraph) - 2)}
        shared = len(mine & theirs)
        expected |= shared > 0 and shared >= max(0.5 * len(theirs), min(4, len(theirs)))
    assert found == expected

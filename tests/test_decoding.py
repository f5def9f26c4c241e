"""Decoding against brute force and against run_qa's own procedure; edges inside of tokens; answers as slices."""

from __future__ import annotations

import itertools
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import CONFIG, shaken

from korbert import prediction
from korbert.data import decoding
from korbert.data.batching import collate_windows
from korbert.data.decoding import (
    Candidate,
    DecodingConfig,
    Logits,
    _Found,
    _numbers,
    _top,
    _without_josa,
    decode_answers,
)
from korbert.data.korquad import KorquadDataset, read_korquad
from korbert.data.letters import letter_numbers, token_letters
from korbert.data.windows import Window, WindowConfig, WindowMaker
from korbert.encoding import EntityMode
from korbert.entities import make_annotator
from korbert.metrics import exact_match
from korbert.model import IGNORE_INDEX, SpanModel
from korbert.morphology import Analyser, Morpheme, make_analyser
from korbert.prediction import window_logits
from korbert.text import trim
from korbert.tokenizers import Pretokenizer, Tokenizer, WordPieceTokenizer, WordTokenizer
from korbert.tokenizers.lookup import CharacterTokenizer
from korbert.tokenizers.subwords import SentencePieceTokenizer
from korbert.training.runtime import Runtime

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def syllables(sample: Path) -> Tokenizer:
    return CharacterTokenizer.train((sample / "corpus.txt").read_text("utf-8").splitlines(), vocab_size=1200)


@pytest.fixture(scope="module")
def dev(data_root: Path) -> KorquadDataset:
    return read_korquad(data_root / "korquad" / "KorQuAD_v1.0_dev.json")


def brute_force(
    context: str, windows: list[Window], logits: list[Logits], config: DecodingConfig
) -> dict[tuple[int, int], float]:
    """Best score of each answer span, over every pair of tokens."""
    best: dict[tuple[int, int], float] = {}
    for window, (start_logits, end_logits, *_) in zip(windows, logits, strict=True):
        for i, j in itertools.combinations_with_replacement(range(len(window.starts)), 2):
            if (
                window.is_marker[i]
                or window.is_marker[j]
                or np.sum(~window.is_marker[i : j + 1]) > config.max_answer_length
            ):
                continue
            span = trim(context, int(window.starts[i]), int(window.ends[j]))
            if span[0] < span[1]:
                score = float(start_logits[window.context_start + i] + end_logits[window.context_start + j])
                best[span] = max(score, best.get(span, -np.inf))
    return best


def test_no_windows_no_answers() -> None:
    assert decode_answers([], [], DecodingConfig()) == {}


@pytest.mark.parametrize("mode", list(EntityMode))
def test_markers_make_no_answer_longer(syllables: Tokenizer, mode: EntityMode) -> None:
    context = "세종은 이순신이 한글을 만들었다."
    maker = WindowMaker(syllables, make_annotator("mecab"), mode, WindowConfig(60, 6, 12))
    (window,) = maker.question("누가?", context)
    first, last = (
        i + window.context_start for i, token in enumerate(window.starts) if token in (0, 9) and not window.is_marker[i]
    )
    count = int(np.sum(~window.is_marker[first - window.context_start : last - window.context_start + 1]))
    start, end = np.zeros((2, len(window)), dtype=np.float32)
    start[first], end[last] = 5, 5
    for length, whole in ((count, True), (count - 1, False)):
        found = decode_answers([window], [Logits(start, end)], DecodingConfig(max_answer_length=length))
        assert (found[window.question_id][0].text == context[: int(window.ends[last - window.context_start])]) == whole


def test_how_many_windows_are_decoded_at_a_time_changes_nothing(
    syllables: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = WindowMaker(syllables, make_annotator("none"), EntityMode.NONE, WindowConfig(28, 6, 12))
    windows = maker.question("누가 한글을?", "세종은 조선의 제4대 국왕이다. 한글은 세종이 만들었다. 이순신은 장군이다.")
    rng = np.random.default_rng(0)
    logits = [Logits(*rng.normal(size=(2, len(window))).astype(np.float32)) for window in windows]
    config = DecodingConfig(n_best=300)
    found = []
    for pairs in (decoding._PAIRS, 1):
        monkeypatch.setattr(decoding, "_PAIRS", pairs)
        found.append(decode_answers(windows, logits, config))
    assert len(windows) > 2
    assert found[0] == found[1]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("mode", [EntityMode.NONE, EntityMode.BOTH])
def test_decoding_against_brute_force(syllables: Tokenizer, mode: EntityMode, seed: int) -> None:
    context = "세종(世宗)은 조선의 제4대 국왕이다.  ㈜한글은\u200b 세종이 만들었다.\n이순신은 조선의 장군이다."
    annotator = make_annotator("mecab" if mode.cuts else "none")
    maker = WindowMaker(syllables, annotator, mode, WindowConfig(28, 6, 12))
    windows = maker.question("누가 한글을?", context)
    assert len(windows) > 2
    rng = np.random.default_rng(seed)
    padded = 40
    logits = [Logits(*rng.normal(size=(2, padded)).astype(np.float32)) for _ in windows]
    config = DecodingConfig(n_best=500, max_answer_length=9)
    (candidates,) = decode_answers(windows, logits, config).values()
    best = brute_force(context, windows, logits, config)
    assert len(candidates) == min(500, len(best))
    assert [c.score for c in candidates] == pytest.approx(sorted(best.values(), reverse=True)[: len(candidates)])
    for candidate in candidates:
        assert candidate.score == pytest.approx(best[candidate.start, candidate.end])
        assert candidate.text == context[candidate.start : candidate.end] == candidate.text.strip()
    (few,) = decode_answers(windows, logits, DecodingConfig(n_best=20, max_answer_length=9)).values()
    assert (few[0].start, few[0].end) == (candidates[0].start, candidates[0].end)
    assert len(few) == 20


@given(st.integers(1, 60), st.integers(1, 25), st.integers(0, 2**32 - 1), st.booleans())
def test_top_is_a_stable_sort_cut_short(width: int, count: int, seed: int, has_ties: bool) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 4, size=(5, width)) if has_ties else rng.normal(size=(5, width))
    values = np.where(rng.random((5, width)) < 0.2, -np.inf, values).astype(np.float32)
    expected = np.argsort(-values, axis=1, kind="stable")[:, :count]
    assert _top(values, count).tolist() == expected.tolist()


def run_qa_answers(windows: list[Window], logits: list[Logits], config: DecodingConfig) -> dict[str, str]:
    """Top answers as transformers' `postprocess_qa_predictions` finds them, written down from its description.

    Of each window the n best starts and ends; every pair inside of the context, in order and not too long; over all
    windows the pair with the largest sum, the first of equals.
    """
    best: dict[str, tuple[float, str]] = {}
    for window, said in zip(windows, logits, strict=True):
        starts = np.argsort(said.start)[-1 : -config.n_best - 1 : -1].tolist()
        ends = np.argsort(said.end)[-1 : -config.n_best - 1 : -1].tolist()
        last = window.context_start + len(window.starts)
        for start in starts:
            for end in ends:
                if not (window.context_start <= start < last and window.context_start <= end < last):
                    continue
                if end < start or end - start + 1 > config.max_answer_length:
                    continue
                score = float(said.start[start] + said.end[end])
                if window.question_id not in best or score > best[window.question_id][0]:
                    a, b = window.starts[start - window.context_start], window.ends[end - window.context_start]
                    best[window.question_id] = (score, window.context[a:b])
    return {key: text for key, (_, text) in best.items()}


def test_top_answers_are_those_of_run_qa(dev: KorquadDataset, syllables: Tokenizer) -> None:
    """On logits that leave questions and special tokens out, as a trained model's do: 100 % of all questions."""
    maker = WindowMaker(syllables, make_annotator("none"), EntityMode.NONE, WindowConfig(384, 128, 64))
    windows, _ = maker.dataset(dev.subset(range(0, 140, 3)))
    rng = np.random.default_rng(0)
    logits = []
    for window in windows:
        values = rng.normal(size=(2, len(window))).astype(np.float32)
        values[:, ~window.allowed] = -30
        logits.append(Logits(*values))
    config = DecodingConfig()
    found = decode_answers(windows, logits, config)
    expected = run_qa_answers(windows, logits, config)
    assert len(expected) > 1500
    same = [found[key][0].text == text[slice(*trim(text, 0, len(text)))] for key, text in expected.items()]
    assert sum(same) == len(same)


def test_most_context_by_hand(syllables: Tokenizer) -> None:
    """Where windows overlap, a token counts where it has most text on its scarcer side."""
    context = "가나다라마바사아자차카타파하거너더러머버"
    maker = WindowMaker(syllables, make_annotator("none"), EntityMode.NONE, WindowConfig(20, 8, 4))
    windows = maker.question("뭐?", context)
    spans = [(int(w.starts[0]), int(w.ends[-1])) for w in windows]
    assert spans == [(0, 15), (7, 20)]
    # Every token in both windows: 가장 좋은 시작은 각 글자 하나씩.
    for place in range(7, 15):
        logits = []
        for window in windows:
            start = np.zeros(len(window), dtype=np.float32)
            end = np.zeros(len(window), dtype=np.float32)
            at = window.context_start + place - int(window.starts[0])
            bonus = 1 if window is windows[1] else 0  # the second window is surer
            start[at] = end[at] = 9 + bonus
            logits.append(Logits(start, end))
        loose, strict = (
            decode_answers(windows, logits, DecodingConfig(max_context=flag))[""][0] for flag in (False, True)
        )
        assert loose == Candidate(context[place], place, place + 1, 20.0)
        room = [min(place - a, b - 1 - place) + 0.01 * (b - a) for a, b in spans]
        assert strict.score == (20.0 if room[1] > room[0] else 18.0)


def test_most_context_of_tokens_of_one_character(syllables: Tokenizer) -> None:
    """The empty rest of an expanded character begins where the token behind it does, with the same id, perhaps."""
    context = "넓이 3㎢2만 명"
    tokenizer = CharacterTokenizer.train([f"km2만 명넓이3? {context}"] * 3, 100)
    maker = WindowMaker(tokenizer, make_annotator("none"), EntityMode.NONE, WindowConfig(40, 8, 4))
    (window,) = maker.question("뭐?", context)
    start, end = np.zeros((2, len(window)), dtype=np.float32)
    (begin,) = np.flatnonzero((window.starts == 5) & (window.ends == 6)) + window.context_start
    start[begin], end[begin + 1] = 9, 9
    for flag in (False, True):
        best = decode_answers([window], [Logits(start, end)], DecodingConfig(max_context=flag))[""][0]
        assert best == Candidate("2만", 5, 7, 18.0)


def test_equal_ones_are_numbered() -> None:
    keys = np.array([[0, 0, 0, 1, 0], [3, 3, 4, 3, 3], [7, 7, 7, 7, 7]])
    assert _numbers(keys).tolist() == [0, 1, 0, 0, 2]
    assert _numbers(np.zeros((3, 0), dtype=np.int64)).tolist() == []


@pytest.mark.parametrize("context", ["", " \n"])
@pytest.mark.parametrize("max_context", [False, True])
def test_without_a_context_there_is_no_answer(syllables: Tokenizer, context: str, max_context: bool) -> None:
    windows = WindowMaker(syllables, make_annotator("none"), EntityMode.NONE, WindowConfig(20, 8, 4)).question(
        "뭐?", context
    )
    logits = [Logits(*np.zeros((2, len(window)), dtype=np.float32)) for window in windows]
    assert decode_answers(windows, logits, DecodingConfig(max_context=max_context)) == {"": []}


# ---- edges inside of tokens ----


def test_letters_by_hand() -> None:
    numbers = letter_numbers("가각힣A가")
    assert numbers.tolist() == [[1, 1, 1, 0], [1, 1, 2, 0], [19, 21, 28, 0], [0, 0, 0, 1 + ord("A")], [1, 1, 1, 0]]
    assert letter_numbers("\ud800😀").shape == (2, 4)
    window = Window(
        "q", "서울에서 왔다", *[np.zeros(9, np.int32)] * 3, 5, np.array([0, 5]), np.array([4, 7]),
        np.zeros(2, np.bool_), (5, 5), (0, 2),
    )  # fmt: skip
    letters, lengths = token_letters(window, np.array([0, 1]), 3, from_end=True)
    assert lengths.tolist() == [4, 2]
    assert letters[0].tolist() == letter_numbers("서에울").tolist()
    assert letters[1].tolist() == [*letter_numbers("다왔").tolist(), [0, 0, 0, 0]]
    letters, _ = token_letters(window, np.array([0, 1]), 5, from_end=False)
    assert letters[0].tolist() == [*letter_numbers("서울에서").tolist(), [0, 0, 0, 0]]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["words", "unigram", "bpe", "wordpiece", "jamo", "bytes", "syllables"])
def test_with_letters_every_answer_can_be_given(dev: KorquadDataset, sample: Path, name: str) -> None:
    """Oracle EM of 100 for every tokenizer, with the smallest windows of `run_qa`'s procedure; and without, not."""
    lines = (sample / "corpus.txt").read_text("utf-8").splitlines()
    tokenizer = {
        "words": lambda: WordTokenizer.train(lines, 2000),
        "unigram": lambda: SentencePieceTokenizer.train(lines, 1600),
        "bpe": lambda: SentencePieceTokenizer.train(lines, 1600, model_type="bpe"),
        "wordpiece": lambda: WordPieceTokenizer.train(lines, 1600),
        "jamo": lambda: CharacterTokenizer.train(lines, 1000, pretokenizer=Pretokenizer(symbols="jamo")),
        "bytes": lambda: SentencePieceTokenizer.train(lines, 1000, pretokenizer=Pretokenizer(symbols="bytes")),
        "syllables": lambda: CharacterTokenizer.train(lines, 1200),
    }[name]()
    most = 48
    maker = WindowMaker(tokenizer, make_annotator("none"), EntityMode.NONE, WindowConfig(2000, 128, 200))
    some = dev.subset(range(0, 140, 10)) if name in ("jamo", "bytes") else dev.subset(range(0, 140, 2))
    windows, made = maker.dataset(some)
    assert made.unanswerable == 0
    logits = []
    for window in windows:
        start, end = np.zeros((2, len(window)), dtype=np.float32)
        skip, cut = np.full((2, len(window.starts), most), -5.0, dtype=np.float32)
        skip[:, 0] = cut[:, 0] = 0.0
        if window.answer != (0, 0):
            start[window.answer[0]] = end[window.answer[1]] = 20
            for side, scores in enumerate((skip, cut)):
                at = window.answer[side] - window.context_start
                scores[at, 0] = -5
                scores[at, window.beyond[side]] = 0
        logits.append(Logits(start, end, skip, cut))
    config = DecodingConfig(max_answer_length=2000)
    with_letters = decode_answers(windows, logits, config)
    without = decode_answers(windows, [Logits(said.start, said.end) for said in logits], config)
    right = {True: 0, False: 0}
    for _, paragraph, question in some.questions():
        gold = question.answers[0]
        best = with_letters[question.id][0]
        assert (best.start, best.end) == trim(paragraph.context, gold.start, gold.end)
        assert exact_match(best.text, gold.text) == 1
        right[False] += exact_match(without[question.id][0].text, gold.text) == 1
        right[True] += 1
    if name == "words":
        assert right[False] < 0.4 * right[True]
    if name in ("syllables", "jamo"):
        assert right[False] == right[True]


def test_edges_of_one_token_leave_something_of_it(syllables: Tokenizer) -> None:
    words = WordTokenizer.train(["서울에서부터 왔다"], 100)
    maker = WindowMaker(words, make_annotator("none"), EntityMode.NONE, WindowConfig(30, 4, 10))
    (window,) = maker.question("어디?", "서울에서부터 왔다")
    start, end = np.zeros((2, len(window)), dtype=np.float32)
    start[window.context_start] = end[window.context_start] = 9
    skip, cut = np.log(np.full((2, 2, 8), 1e-4, dtype=np.float32))
    skip[0, 4], skip[0, 0] = np.log(0.6), np.log(0.3)
    cut[0, 4], cut[0, 1] = np.log(0.7), np.log(0.2)
    best = decode_answers([window], [Logits(start, end, skip, cut)], DecodingConfig())[""][0]
    # 4 + 4 is more than the token's six letters: the best pair that leaves one is 0 + 4.
    assert best.text == "서울"
    assert best.score == pytest.approx(18 + np.log(0.3) + np.log(0.7), abs=1e-5)


@pytest.fixture(scope="module")
def windows(sample: Path) -> list[Window]:
    lines = (sample / "corpus.txt").read_text("utf-8").splitlines()
    maker = WindowMaker(
        WordTokenizer.train(lines, 90), make_annotator("none"), EntityMode.NONE, WindowConfig(40, 5, 12)
    )
    made, _ = maker.dataset(read_korquad(sample / "KorQuAD_sample_dev.json"))
    return made[:24]


def test_letter_loss_by_hand(windows: list[Window]) -> None:
    """Minus the log-probabilities at the answer's own edges, halved; the same padded and packed."""
    torch.manual_seed(0)
    model = shaken(SpanModel(type(CONFIG)(**{**vars(CONFIG), "letters": 6})), std=0.05)
    batch = collate_windows(windows, pad_id=0, letters=6)
    answered = [window for window in windows if window.answer != (0, 0)]
    assert 0 < len(answered) < len(windows)
    assert batch.target_counts() == {"span": len(windows), "letters": len(answered)}
    runtime = Runtime(torch.device("cpu"), bf16=False)
    with torch.inference_mode():
        value = float(model.losses(batch)["letters"])
        packed = float(model.losses(collate_windows(windows, pad_id=0, packed=True, letters=6))["letters"])
    said = window_logits(model, windows, lambda some: collate_windows(some, pad_id=0), runtime, 7)
    expected = 0.0
    ignored = 0
    for window, logits in zip(windows, said, strict=True):
        if window.answer == (0, 0):
            continue
        for side, scores in enumerate((logits.skip, logits.trim)):
            assert scores is not None
            row = scores[window.answer[side] - window.context_start]
            assert np.exp(row).sum() == pytest.approx(1, abs=1e-5)
            length = (
                window.ends[window.answer[side] - window.context_start]
                - window.starts[window.answer[side] - window.context_start]
            )
            assert np.isneginf(row[max(1, length) :]).all()
            if window.beyond[side] < 6:
                expected -= float(row[window.beyond[side]]) / 2
            else:
                ignored += 1
    assert value == pytest.approx(expected, rel=1e-4)
    assert packed == pytest.approx(expected, rel=1e-4)
    assert batch.edges is not None
    assert int((batch.edges.right == IGNORE_INDEX).sum()) == ignored


def test_what_a_window_says_does_not_depend_on_its_batch(
    windows: list[Window], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor on how many tokens the letter head looks into at a time."""
    monkeypatch.setattr(prediction, "_TOKENS", 7)
    model = shaken(SpanModel(type(CONFIG)(**{**vars(CONFIG), "letters": 4})), std=0.1)
    runtime = Runtime(torch.device("cpu"), bf16=False)
    both = [
        window_logits(model, windows, lambda some: collate_windows(some, pad_id=0), runtime, size) for size in (1, 9)
    ]
    for alone, together in zip(*both, strict=True):
        for a, b in zip(alone, together, strict=True):
            assert a is not None
            assert b is not None
            assert np.allclose(a, b, atol=1e-5)


def test_the_letter_head_learns_where_josa_begin(syllables: Tokenizer) -> None:
    """From a handful of names with particles to other names: the letters say it, whatever the token is."""
    words = WordTokenizer.train(["x"], 20)  # every token is unknown: nothing but the letters can tell
    names = ["서울", "부산", "대구", "광주", "인천", "울산", "수원", "춘천", "강릉", "여수", "목포", "전주"]
    josa = ["에서", "은", "까지", "에는", ""]
    maker = WindowMaker(words, make_annotator("none"), EntityMode.NONE, WindowConfig(30, 4, 10))

    def made(names: list[str]) -> list[Window]:
        from korbert.data.korquad import Answer, Article, Paragraph, Question

        paragraphs = [
            Paragraph(f"{name}{rest} 만났다", (Question(f"{name}{rest}", "어디?", (Answer(name, 0),)),))
            for name, rest in itertools.product(names, josa)
        ]
        return maker.dataset(KorquadDataset((Article("t", tuple(paragraphs)),), "1", Path("x")))[0]

    torch.manual_seed(0)
    model = SpanModel(type(CONFIG)(**{**vars(CONFIG), "letters": 8, "hidden_dropout": 0.0, "attention_dropout": 0.0}))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    train, test = made(names[:9]), made(names[9:])
    batch = collate_windows(train, pad_id=0, letters=8)
    for _ in range(60):
        loss = sum(model.losses(batch).values())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[union-attr]
        optimizer.step()
    model.eval()
    runtime = Runtime(torch.device("cpu"), bf16=False)
    said = window_logits(model, test, lambda some: collate_windows(some, pad_id=0), runtime, 32)
    right = 0
    for window, logits in zip(test, said, strict=True):
        assert logits.trim is not None
        right += int(logits.trim[0].argmax()) == window.beyond[1]
    assert right / len(test) > 0.9


# ---- particles ----


@pytest.mark.parametrize(
    ("context", "token", "answer"),
    [
        ("그는 서울에서 왔다", "서울에서", "서울"),
        ("그는 서울에서는 왔다", "서울에서는", "서울"),
        ("그는 제주도에 갔다", "제주도에", "제주도"),  # 도 is no particle here
        ("그는 은 왔다", "은", "은"),  # something is always left
        ("왕은 이도이다", "이도이다", "이도이다"),  # the copula is no particle
    ],
)
def test_particles_are_left_out_of_answers(syllables: Tokenizer, context: str, token: str, answer: str) -> None:
    words = WordTokenizer.train([context], 60)
    maker = WindowMaker(words, make_annotator("none"), EntityMode.NONE, WindowConfig(30, 4, 10))
    (window,) = maker.question("어디?", context)
    at = window.context_start + context.split().index(token)
    start, end = np.zeros((2, len(window)), dtype=np.float32)
    start[at] = end[at] = 9
    found = decode_answers([window], [Logits(start, end)], DecodingConfig(trim_josa="mecab"))[""]
    assert found[0].text == answer
    assert len({(c.start, c.end) for c in found}) == len(found)  # what became the same counts once
    plain = decode_answers([window], [Logits(start, end)], DecodingConfig())[""]
    assert plain[0].text == token


def test_particles_of_decomposed_text_are_left_out() -> None:
    context = unicodedata.normalize("NFD", "그는 서울에서 왔다")
    start = context.index(unicodedata.normalize("NFD", "서울"))
    end = context.index(" ", start)
    found = _Found(np.array([0]), np.array([start]), np.array([end]), np.array([1.0]))
    (place,) = _without_josa(found, [context], make_analyser("mecab")).tolist()
    assert unicodedata.normalize("NFC", context[start:place]) == "서울"


def test_a_particle_before_the_end_takes_nothing_away() -> None:
    """As with analysers that leave out 위하 and 아, which 위해 lacks."""

    class Lossy(Analyser):
        def _start(self, module: object) -> object:
            return module

        def parse(self, text: str) -> str:
            return text

        def _analyse(self, text: str) -> list[Morpheme]:
            return [Morpheme(0, 1, "NNG"), Morpheme(1, 2, "JKO")]

    found = _Found(np.array([0, 0]), np.array([0, 0]), np.array([5, 2]), np.array([2.0, 1.0]))
    assert _without_josa(found, ["왕을 위해"], Lossy()).tolist() == [5, 1]

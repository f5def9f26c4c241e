"""Windows against transformers' overflow windows, decoding against brute force, answers as slices of the context."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from korbert.data.decoding import DecodingConfig
from korbert.data.korquad import Answer, Article, KorquadDataset, Paragraph, Question, read_korquad
from korbert.data.windows import (
    WindowConfig,
    WindowMaker,
    _Context,
    marker_mask,
    window_ranges,
)
from korbert.encoding import EntityMode, encode
from korbert.entities import make_annotator
from korbert.errors import ConfigError
from korbert.text import AnnotatedText, trim
from korbert.tokenizers import Pretokenizer, Tokenizer
from korbert.tokenizers.lookup import CharacterTokenizer
from korbert.tokenizers.subwords import SentencePieceTokenizer


@pytest.fixture(scope="module")
def syllables(sample: Path) -> Tokenizer:
    return CharacterTokenizer.train((sample / "corpus.txt").read_text("utf-8").splitlines(), vocab_size=1200)


@pytest.fixture(scope="module")
def dev(data_root: Path) -> KorquadDataset:
    return read_korquad(data_root / "korquad" / "KorQuAD_v1.0_dev.json")


# ---- windows ----


@given(length=st.integers(0, 300), room=st.integers(1, 60), share=st.floats(0, 0.99))
def test_ranges_cover_all_and_share_the_stride(length: int, room: int, share: float) -> None:
    stride = int(share * room)
    ranges = window_ranges(length, room, stride)
    assert ranges[0][0] == 0
    assert ranges[-1][1] == length
    assert all(0 < end - start <= room for start, end in ranges) or length == 0
    for (_, end), (start, _) in itertools.pairwise(ranges):
        assert end - start == stride
    assert len(ranges) == (1 if length <= room else 1 + -(-(length - room) // (room - stride)))


@pytest.mark.parametrize(("max_length", "stride"), [(40, 8), (64, 20), (384, 128)])
def test_windows_are_those_of_run_qa(sample: Path, max_length: int, stride: int) -> None:
    """`tokenizer(question, context, truncation="only_second", stride, return_overflowing_tokens)`, token by token."""
    pytest.importorskip("transformers")
    from tokenizers import Tokenizer as HfTokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Split
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    context = "".join((sample / "corpus.txt").read_text("utf-8").split())[:700]
    question = "세종은누구인가?"
    ours = CharacterTokenizer.train(list(context + question), vocab_size=2000)  # one character a token
    vocabulary = {token: number for number, token in enumerate(ours.vocabulary)}
    characters = {
        char: vocabulary.get(char, vocabulary.get(f"▁{char}", ours.special.unk)) for char in set(context + question)
    }
    backend = HfTokenizer(WordLevel({**ours.special.names, **characters}, unk_token="[UNK]"))
    backend.pre_tokenizer = Split("", "isolated")
    backend.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    theirs = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]")(
        question, context, truncation="only_second", max_length=max_length, stride=stride,
        return_overflowing_tokens=True, return_offsets_mapping=True, return_token_type_ids=True,
    )  # fmt: skip
    maker = WindowMaker(
        ours, make_annotator("none"), EntityMode.NONE, WindowConfig(max_length, stride, max_question_length=10)
    )
    windows = maker.question(question, context)
    assert len(windows) == len(theirs["input_ids"])
    for window, ids, types, offsets in zip(
        windows, theirs["input_ids"], theirs["token_type_ids"], theirs["offset_mapping"], strict=True
    ):
        assert len(window) == len(ids) <= max_length
        assert window.segment_ids.tolist() == types
        begin = window.context_start
        spans = list(zip(window.starts.tolist(), window.ends.tolist(), strict=True))
        assert spans == [tuple(o) for o in offsets[begin:-1]]
        # The first character of a word has an id of its own with us; all others must be the same ids.
        same = np.array(ids) == window.token_ids
        assert same[begin + (window.starts[0] == 0) :].all()


def test_window_by_hand(syllables: Tokenizer) -> None:
    maker = WindowMaker(syllables, make_annotator("mecab"), EntityMode.BOTH, WindowConfig(64, 10, 20))
    context = "세종은 조선의 왕이다."
    dataset = KorquadDataset(
        (Article("t", (Paragraph(context, (Question("q", "조선의 왕은", (Answer("세종", 0),)),)),)),), "", Path("x")
    )
    windows, statistics = maker.dataset(dataset)
    assert (statistics.questions, statistics.windows, statistics.unanswerable) == (1, 1, 0)
    (window,) = windows
    printed = [syllables.vocabulary[i].lstrip("▁") for i in window.token_ids]
    assert printed == [
        "[CLS]", "[ENT]", "조", "선", "[/ENT]", "의", "왕", "은", "[SEP]",
        "[ENT]", "세", "종", "[/ENT]", "은", "[ENT]", "조", "선", "[/ENT]", "의", "왕", "이", "다", ".", "[SEP]",
    ]  # fmt: skip
    assert window.entity_ids.tolist() == [0, 0, 1, 1, *[0] * 6, 1, 1, 0, 0, 0, 1, 1, *[0] * 7]
    assert window.segment_ids.tolist() == [0] * 9 + [1] * 15
    assert window.answer == (10, 11)  # the mention, not its markers
    assert [printed[i] for i in np.flatnonzero(window.allowed)] == ["[CLS]", *"세종은조선의왕이다."]


MODES = list(EntityMode)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sentencepiece", "character", "jamo"])
def test_every_window_slices_back_to_the_gold_answer(dev: KorquadDataset, sample: Path, kind: str) -> None:
    """All 5,774 questions: wherever a window claims an answer, its tokens' characters hold the gold text, tightly."""
    texts = [paragraph.context for article in dev.articles for paragraph in article.paragraphs]
    tokenizer: Tokenizer = (
        SentencePieceTokenizer.train(texts, vocab_size=4000)
        if kind == "sentencepiece"
        else CharacterTokenizer.train(
            texts, vocab_size=3000, pretokenizer=Pretokenizer(symbols="jamo" if kind == "jamo" else "text")
        )
    )
    config = WindowConfig(192, 64, 64) if kind != "jamo" else WindowConfig(512, 128, 128)
    gold = {question.id: (paragraph.context, question) for _, paragraph, question in dev.questions()}
    for mode in (EntityMode.NONE, EntityMode.BOTH):
        maker = WindowMaker(tokenizer, make_annotator("mecab" if mode.cuts else "none"), mode, config)
        windows, statistics = maker.dataset(dev)
        held: dict[str, int] = {}
        exact = 0
        for window in windows:
            assert len(window) <= config.max_length
            context, question = gold[window.question_id]
            answer = question.answers[0]
            start, end = trim(context, answer.start, answer.end)
            first, last = window.answer
            visible = [
                int(i)
                for i in np.flatnonzero(~window.is_marker)
                if window.ends[i] > start and window.starts[i] < end and window.ends[i] > window.starts[i]
            ]
            if window.answer == (0, 0):
                covered = visible and window.starts[visible[0]] <= start and window.ends[visible[-1]] >= end
                assert not covered
                continue
            assert first >= window.context_start
            i, j = first - window.context_start, last - window.context_start
            assert (i, j) == (visible[0], visible[-1])
            text = context[window.starts[i] : window.ends[j]]
            assert context[start:end] in text
            assert not window.is_marker[i]
            assert not window.is_marker[j]
            exact += text == context[start:end]
            held[question.id] = held.get(question.id, 0) + 1
        assert statistics.unanswerable == len(dev) - len(held)
        assert statistics.unanswerable < 0.002 * len(dev)
        if kind == "character":
            assert exact == sum(held.values())  # one character a token: every answer can be said exactly


@settings(max_examples=150, deadline=None)
@given(data=st.data(), mode=st.sampled_from(MODES))
def test_answer_tokens_are_the_tightest_cover(syllables: Tokenizer, data: st.DataObject, mode: EntityMode) -> None:
    context = data.draw(
        st.text(st.sampled_from("세종은 ㈜왕\u200b이다.(NFD)\u1112\u1161\u11ab"), min_size=1, max_size=40)
    )
    start = data.draw(st.integers(0, len(context) - 1))
    end = data.draw(st.integers(start + 1, len(context)))
    annotated = make_annotator("mecab").annotate(context) if mode.cuts else AnnotatedText(context)
    part = encode(annotated, syllables, mode)
    is_marker = marker_mask(part.token_ids, syllables.special)
    cover = _Context(context, part, syllables.special).cover(Answer(context[start:end], start))
    found = None if cover is None else cover.tokens
    visible = trim(context, start, end)
    touching = [
        i
        for i in range(len(part))
        if not is_marker[i] and part.starts[i] < visible[1] and part.ends[i] > visible[0]
        and part.ends[i] > part.starts[i]
    ]  # fmt: skip
    if visible[0] == visible[1]:
        assert found is None
    else:
        assert found == (touching[0], touching[-1])
        assert part.starts[found[0]] <= visible[0]
        assert part.ends[found[1]] >= visible[1]


def test_windows_that_cannot_be() -> None:
    with pytest.raises(ConfigError, match=r"leaves 33 context tokens .* more than doc_stride=128"):
        WindowConfig(100, 128, 64)
    with pytest.raises(ConfigError, match=r"task\.decoding\.n_best: wanted 1 or more, at most \d+, got 0"):
        DecodingConfig(n_best=0)


def test_truncated_questions_are_counted(syllables: Tokenizer) -> None:
    maker = WindowMaker(syllables, make_annotator("none"), EntityMode.NONE, WindowConfig(64, 10, 5))
    paragraph = Paragraph("세종은 왕이다.", tuple(Question(str(n), "가" * n, (Answer("왕", 4),)) for n in (4, 5, 6, 9)))
    windows, statistics = maker.dataset(KorquadDataset((Article("", (paragraph,)),), "", Path("x")))
    assert statistics.truncated_questions == 2
    assert [w.context_start for w in windows] == [6, 7, 7, 7]

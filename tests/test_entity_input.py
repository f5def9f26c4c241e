"""Every switch of the entity input by hand, and as laws over random spans: markers, ids, positions, limits, dropout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from models import CONFIG, write_run

import korbert
from korbert.config import EntitiesConfig
from korbert.data.batching import collate_windows, encoder_inputs
from korbert.data.korquad import Answer, Article, KorquadDataset, Paragraph, Question
from korbert.data.masking import MaskingConfig
from korbert.data.mention_dropout import MentionDropout, without_marks
from korbert.data.pretraining import Passages, SentencePairs
from korbert.data.shards import ShardedCorpus
from korbert.data.windows import Window, WindowConfig, WindowMaker
from korbert.encoding import (
    EntityInput,
    EntityMode,
    balanced,
    encode,
    marker_mask,
    mention_count,
    mention_numbers,
    shared_positions,
)
from korbert.entities import make_annotator
from korbert.entities.base import EntityAnnotator
from korbert.entities.types import TYPES, type_id
from korbert.errors import ConfigError
from korbert.model import Encoder, SpanModel
from korbert.text import AnnotatedText, Span
from korbert.tokenizers import CharacterTokenizer, SpecialTokens, Tokenizer
from korbert.training.bundle import copy_shared

SPECIAL = SpecialTokens()
ENT, ENT_END = SPECIAL.ent, SPECIAL.ent_end
LETTERS = CharacterTokenizer.train(["세종은서울에서태어났다가나마바사 0123?"], vocab_size=60)
TEXT = AnnotatedText("세종은 서울에", (Span(0, 2, "PER"), Span(4, 6, "LC")))
PERSON, PLACE = type_id("PS"), type_id("LOC")


@pytest.mark.parametrize(
    ("given_input", "tokens", "entity_ids", "positions"),
    [
        (EntityInput(EntityMode.SPLIT), "세종은서울에", [0] * 6, [0, 1, 2, 3, 4, 5]),
        (EntityInput(EntityMode.EMBEDDING), "세종은서울에", [1, 1, 0, 1, 1, 0], [0, 1, 2, 3, 4, 5]),
        (
            EntityInput(EntityMode.EMBEDDING, typed=True), "세종은서울에",
            [PERSON, PERSON, 0, PLACE, PLACE, 0], [0, 1, 2, 3, 4, 5],
        ),
        (EntityInput(EntityMode.MARKERS), "<세종>은<서울>에", [0] * 10, list(range(10))),
        (
            EntityInput(EntityMode.MARKERS, typed=True, embed_markers=True), "<세종>은<서울>에",
            [PERSON, 0, 0, PERSON, 0, PLACE, 0, 0, PLACE, 0], list(range(10)),
        ),
        (EntityInput(EntityMode.BOTH), "<세종>은<서울>에", [0, 1, 1, 0, 0, 0, 1, 1, 0, 0], list(range(10))),
        (
            EntityInput(EntityMode.BOTH, embed_markers=True), "<세종>은<서울>에",
            [1, 1, 1, 1, 0, 1, 1, 1, 1, 0], list(range(10)),
        ),
        (
            EntityInput(EntityMode.BOTH, typed=True, embed_markers=True, shared_positions=True), "<세종>은<서울>에",
            [PERSON] * 4 + [0] + [PLACE] * 4 + [0], [0, 0, 1, 1, 2, 3, 3, 4, 4, 5],
        ),
    ],
)  # fmt: skip
def test_switches_by_hand(given_input: EntityInput, tokens: str, entity_ids: list[int], positions: list[int]) -> None:
    encoding = encode(TEXT, LETTERS, given_input)
    signs = {ENT: "<", ENT_END: ">"}
    shown = [
        signs.get(int(token), TEXT.text[a:b])
        for token, a, b in zip(encoding.token_ids, encoding.starts, encoding.ends, strict=True)
    ]
    assert "".join(shown) == tokens
    assert encoding.entity_ids.tolist() == entity_ids
    ids = encoding.token_ids
    found = shared_positions(ids, SPECIAL) if given_input.shared_positions else np.arange(len(ids))
    assert found.tolist() == positions


def test_types() -> None:
    assert [TYPES[type_id(label) - 1] for label in ("PER", "LC", "OG", "DUR", "QT")] == [
        "person", "place", "organisation", "time", "number",
    ]  # fmt: skip
    assert type_id("NNP") == type_id("RANDOM") == type_id("") == type_id("POH") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": EntityMode.SPLIT, "typed": True}, "typed changes nothing in mode split"),
        ({"mode": EntityMode.MARKERS, "typed": True}, "for typed markers set embed_markers"),
        ({"mode": EntityMode.EMBEDDING, "embed_markers": True}, "embed_markers needs markers, but mode is embedding"),
        ({"mode": EntityMode.NONE, "shared_positions": True}, "shared_positions needs markers, but mode is none"),
        ({"max_entities": -1}, "wanted 0 or more, got -1"),
    ],
)
def test_what_would_change_nothing_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EntityInput(**options)
    mode = options.get("mode", EntityMode.BOTH).value
    with pytest.raises(ConfigError, match=message):
        EntitiesConfig("mecab", mode, **{k: v for k, v in options.items() if k != "mode"}).entity_input()


@pytest.mark.parametrize("mode", EntityMode)
def test_a_mode_by_its_name(mode: EntityMode) -> None:
    for given_input in (EntityInput(mode.value), EntityInput.of(mode.value)):  # type: ignore[arg-type]
        assert given_input == EntityInput(mode)
        assert type(given_input.mode) is EntityMode
        assert encode(TEXT, LETTERS, given_input).token_ids.tolist() == encode(TEXT, LETTERS, mode).token_ids.tolist()


@pytest.mark.parametrize("mode", ["marker", "Both", "", None, 1])
def test_a_wrong_mode_is_told_what_there_is(mode: Any) -> None:
    message = f"mode: {mode!r} is unknown, wanted one of none, split, markers, embedding, both"
    for make in (EntityInput, EntityInput.of, EntityMode):
        with pytest.raises(ValueError, match=message):
            make(mode)
    with pytest.raises(ConfigError, match=rf"entities\.{message}"):
        EntitiesConfig("mecab", mode).entity_input()


def test_dropout_needs_marks() -> None:
    with pytest.raises(ConfigError, match="mode split marks no mention"):
        EntitiesConfig("mecab", "split", dropout=0.5).entity_input()
    with pytest.raises(ConfigError, match=r"wanted a share between 0 and 1, got 1\.5"):
        EntitiesConfig("mecab", "both", dropout=1.5)


INPUTS = st.sampled_from(
    [
        EntityInput(EntityMode.MARKERS), EntityInput(EntityMode.BOTH), EntityInput(EntityMode.EMBEDDING),
        EntityInput(EntityMode.BOTH, typed=True, embed_markers=True),
        EntityInput(EntityMode.MARKERS, typed=True, embed_markers=True),
    ]
)  # fmt: skip


@st.composite
def annotated(draw: st.DrawFn, longest: int = 60) -> AnnotatedText:
    text = draw(st.text("가나마바 사은0", min_size=1, max_size=longest))
    edges = sorted(draw(st.sets(st.integers(0, len(text)), max_size=16)))
    step = draw(st.sampled_from([1, 2]))  # mentions that adjoin, or lie apart
    spans = [
        Span(a, b, draw(st.sampled_from(["PER", "LOC", "NNP"])))
        for a, b in zip(edges[0::step], edges[1::step], strict=False)
        if text[a] != " " and text[b - 1] != " "
    ]
    return AnnotatedText(text, tuple(spans))


def is_well_formed(ids: Any) -> bool:
    """Markers open and close in turns, and hold something."""
    signs = "".join("<" if i == ENT else ">" if i == ENT_END else "." for i in ids)
    return "<>" not in signs and signs.replace(".", "").replace("<>", "") == ""


@given(annotated(), INPUTS, st.integers(0, 5))
def test_no_more_mentions_than_allowed(text: AnnotatedText, given_input: EntityInput, limit: int) -> None:
    whole = encode(text, LETTERS, given_input)
    count = mention_numbers(whole.token_ids, whole.entity_ids, SPECIAL).max(initial=-1) + 1
    limited = replace(given_input, max_entities=limit)
    keep, entity_ids = limited.limited(whole.token_ids, whole.entity_ids, SPECIAL)
    ids = whole.token_ids[keep]
    assert is_well_formed(ids)
    left = mention_numbers(ids, entity_ids, SPECIAL).max(initial=-1) + 1
    assert left == min(count, limit)
    plain = ~marker_mask(ids, SPECIAL)
    assert ids[plain].tolist() == whole.token_ids[~marker_mask(whole.token_ids, SPECIAL)].tolist()
    if left == 0:
        assert not entity_ids.any()
        assert plain.all()


@given(annotated(), INPUTS, st.integers(0, 60), st.integers(0, 60))
def test_cuts_leave_no_marker_alone_and_positions_are_those_of_the_text(
    text: AnnotatedText, given_input: EntityInput, a: int, b: int
) -> None:
    whole = encode(text, LETTERS, EntityInput(typed=True))
    a, b = sorted((min(a, len(whole)), min(b, len(whole))))
    ids, entities = whole.token_ids[a:b], whole.entity_ids[a:b]
    keep, shown = given_input.shown(ids, entities, SPECIAL)
    assert is_well_formed(ids[keep])
    if given_input.mode.has_markers and given_input.embed_markers:
        numbers = mention_numbers(ids[keep], shown, SPECIAL)
        for number in range(int(numbers.max(initial=-1)) + 1):
            marked = shown[(numbers == number) & marker_mask(ids[keep], SPECIAL)]
            assert len(marked) in (0, 2)  # a cut may have parted them
            assert len(marked) == 0 or marked[0] == marked[1] > 0
    kept = balanced(ids, SPECIAL)
    positions = shared_positions(ids[kept], SPECIAL)
    is_text = ~marker_mask(ids[kept], SPECIAL)
    assert positions[is_text].tolist() == list(range(int(is_text.sum())))
    for place in np.flatnonzero(ids[kept] == ENT):
        assert positions[place] == positions[place + 1]
    for place in np.flatnonzero(ids[kept] == ENT_END):
        assert positions[place] == positions[place - 1]


class Fixed(EntityAnnotator):
    """The entities it is given."""

    fingerprint = "fixed"

    def __init__(self, *texts: AnnotatedText) -> None:
        self.texts = {text.text: text for text in texts}

    def annotate(self, text: str) -> AnnotatedText:
        return self.texts.get(text, AnnotatedText(text))


SHORT = WindowConfig(max_length=30, doc_stride=3, max_question_length=10)


@given(
    annotated(80), annotated(20), st.sampled_from([mode for mode in EntityMode if mode.cuts]), st.integers(0, 5),
    st.data(),
)  # fmt: skip
def test_markers_never_push_text_out(
    text: AnnotatedText, question: AnnotatedText, mode: EntityMode, limit: int, data: st.DataObject
) -> None:
    """With a limit windows hold the same text, of question and context, as where nothing is marked."""
    starts = encode(text, LETTERS, EntityMode.SPLIT).starts
    answers: tuple[Answer, ...] = ()
    if len(starts):
        at = int(data.draw(st.sampled_from(starts.tolist())))
        answers = (Answer(text.text[at : at + 1], at),)
    paragraph = one_paragraph(Paragraph(text.text, (Question("q", question.text, answers),)))
    windows, statistics = {}, {}
    for name, source in (("marked", Fixed(question, text)), ("plain", Fixed())):
        maker = WindowMaker(LETTERS, source, EntityInput(mode, max_entities=limit), SHORT)
        windows[name], statistics[name] = maker.dataset(paragraph)
    assert statistics["marked"] == statistics["plain"]
    for marked, plain in zip(windows["marked"], windows["plain"], strict=True):
        assert len(marked) <= SHORT.max_length
        assert is_well_formed(marked.token_ids)
        asked, others = (window.token_ids[: window.context_start] for window in (marked, plain))
        assert asked[~marker_mask(asked, SPECIAL)].tolist() == others.tolist()
        own = ~marked.is_marker
        assert marked.starts[own].tolist() == plain.starts.tolist()
        assert marked.ends[own].tolist() == plain.ends.tolist()
        assert (marked.answer == (0, 0)) == (plain.answer == (0, 0))
        assert mention_count(mention_numbers(marked.token_ids, marked.entity_ids, SPECIAL)) <= limit


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_shares_of_a_sequence(limit: int, first: int, second: int) -> None:
    """As many as are allowed; nobody lacks a part of its half for the other's sake."""
    a, b = EntityInput(max_entities=limit).shares(first, second)
    assert (0 <= a <= first, 0 <= b <= second) == (True, True)
    assert a + b == min(limit, first + second)
    assert a >= min(first, (limit + 1) // 2)
    assert b >= min(second, limit // 2)
    assert EntityInput().shares(first, second) == (first, second)


@pytest.mark.parametrize(
    ("limit", "shown"),
    [
        (8, "<가><나><마>/<가><나><마><바><사>"),
        (6, "<가><나><마>/<가>나<마>바<사>"),
        (4, "<가>나<마>/<가>나마바<사>"),
        (3, "<가>나<마>/<가>나마바사"),
        (1, "<가>나마/가나마바사"),
        (0, "가나마/가나마바사"),
    ],
)
def test_which_mentions_stay_by_hand(limit: int, shown: str) -> None:
    question = AnnotatedText("가 나 마", tuple(Span(i, i + 1) for i in (0, 2, 4)))
    text = AnnotatedText("가 나 마 바 사", tuple(Span(i, i + 1) for i in range(0, 9, 2)))
    maker = WindowMaker(LETTERS, Fixed(question, text), EntityInput(max_entities=limit), WindowConfig(60, 10, 20))
    (window,) = maker.question(question.text, text.text)
    signs = {ENT: "<", ENT_END: ">", SPECIAL.sep: "/", SPECIAL.cls: ""}
    assert "".join(signs.get(i, LETTERS.vocabulary[i].lstrip("▁")) for i in window.token_ids.tolist()) == f"{shown}/"


def test_a_question_is_cut_by_its_text_alone() -> None:
    """Ten of its tokens stay, as of one without mentions."""
    question = AnnotatedText("가나마바사은가나마바사", tuple(Span(i, i + 1) for i in (0, 2, 4, 9)))
    for limit, marked in ((4, 4), (2, 2)):
        maker = WindowMaker(LETTERS, Fixed(question), EntityInput(max_entities=limit), SHORT)
        (window,) = maker.question(question.text, "서울")
        head = window.token_ids[1 : window.context_start - 1]
        assert (head == ENT).sum() == (head == ENT_END).sum() == marked
        assert (~marker_mask(head, SPECIAL)).sum() == 10


@given(annotated(80), st.integers(0, 5), st.integers(0, 80))
def test_a_limit_marks_the_same_mentions_in_every_mode(text: AnnotatedText, limit: int, start: int) -> None:
    """Also where an edge has left a part of one."""
    inputs = {mode: EntityInput(mode, max_entities=limit) for mode in EntityMode if mode.cuts}
    paragraph = one_paragraph(Paragraph(text.text, (Question("q", "가나?", ()),)))
    both, markers = (
        WindowMaker(LETTERS, Fixed(text), inputs[mode], SHORT).dataset(paragraph)[0]
        for mode in (EntityMode.BOTH, EntityMode.MARKERS)
    )
    assert [w.token_ids.tolist() for w in both] == [w.token_ids.tolist() for w in markers]
    part = encode(text, LETTERS, EntityInput(typed=True)).window(start, start + 20, SPECIAL)
    entities = []
    for mode in (EntityMode.BOTH, EntityMode.EMBEDDING):
        keep, shown = inputs[mode].fitting(part.token_ids, part.entity_ids, SPECIAL)
        entities.append(shown[~marker_mask(part.token_ids[keep], SPECIAL)].tolist())
    assert entities[0] == entities[1]


def test_limits_that_leave_no_room() -> None:
    with pytest.raises(ConfigError, match=r"max_entities=7: their markers leave 3 of 17 context tokens"):
        WindowMaker(LETTERS, Fixed(), EntityInput(max_entities=7), SHORT)
    WindowMaker(LETTERS, Fixed(), EntityInput(EntityMode.NONE, max_entities=7), SHORT)  # marks and cuts nothing


@given(annotated(80), st.integers(0, 3))
def test_with_a_limit_controls_read_the_same_text(text: AnnotatedText, limit: int) -> None:
    """Windows begin and end at the same characters whatever is shown of the entities."""
    paragraph = one_paragraph(Paragraph(text.text, (Question("q", "가나?", ()),)))
    parts = [
        [
            [(int(a), int(b)) for a, b, hidden in zip(w.starts, w.ends, w.is_marker, strict=True) if not hidden]
            for w in WindowMaker(LETTERS, Fixed(text), EntityInput(mode, max_entities=limit), SHORT).dataset(paragraph)[
                0
            ]
        ]
        for mode in EntityMode
        if mode.cuts
    ]
    assert all(part == parts[0] for part in parts)


def a_window(text: AnnotatedText, given_input: EntityInput, answer: Answer) -> Window:
    paragraph = Paragraph(text.text, (Question("q", "세종은?", (answer,)),))
    question = AnnotatedText("세종은?", (Span(0, 2, "PER"),))
    maker = WindowMaker(LETTERS, Fixed(text, question), given_input, WindowConfig(120, 10, 20))
    return maker.dataset(one_paragraph(paragraph))[0][0]


def one_paragraph(paragraph: Paragraph) -> KorquadDataset:
    return KorquadDataset((Article("t", (paragraph,)),), "", Path("x"))


@given(annotated(), INPUTS, st.floats(0, 1), st.integers(0, 99), st.data())
def test_mention_dropout_leaves_the_text_and_the_answer(
    text: AnnotatedText, given_input: EntityInput, share: float, seed: int, data: st.DataObject
) -> None:
    starts = encode(text, LETTERS, EntityMode.SPLIT).starts.tolist()
    at = data.draw(st.sampled_from(starts)) if starts else 0
    window = a_window(text, given_input, Answer(text.text[at : at + 1], at))
    out = without_marks(window, share, SPECIAL, np.random.default_rng(seed))
    plain = [w.token_ids[~marker_mask(w.token_ids, SPECIAL)].tolist() for w in (window, out)]
    assert plain[0] == plain[1]
    assert is_well_formed(out.token_ids)
    assert len({len(out), len(out.segment_ids), len(out.entity_ids)}) == 1
    assert len({len(out.starts), len(out.ends), len(out.is_marker)}) == 1
    assert (
        out.is_marker.tolist() == marker_mask(out.token_ids[out.context_start :][: len(out.starts)], SPECIAL).tolist()
    )
    assert out.starts[~out.is_marker].tolist() == window.starts[~window.is_marker].tolist()
    for before, after in zip(window.answer, out.answer, strict=True):
        assert window.token_ids[before] == out.token_ids[after]
        if before:
            assert window.starts[before - window.context_start] == out.starts[after - out.context_start]
    if share == 1:
        assert not out.entity_ids.any()
        assert len(out) == len(plain[0])
    if share == 0:
        assert out.token_ids.tolist() == window.token_ids.tolist()


def test_mention_dropout_has_its_share_and_is_drawn_anew() -> None:
    text = AnnotatedText("가나 " * 20, tuple(Span(3 * i, 3 * i + 2, "NNP") for i in range(20)))
    window = a_window(text, EntityInput(), Answer("가", 3))
    source = MentionDropout([window] * 3, 0.3, SPECIAL, seed=5)
    counts = []
    made = {}
    for number in range(40):
        epoch = source.epoch(number)
        assert len(epoch) == 3
        for request in epoch.requests(np.arange(3)):
            made[request] = source.make(request)
            counts.append((made[request].token_ids == ENT).sum())
            assert np.array_equal(source.make(request).token_ids, made[request].token_ids)
    # 21 mentions with the question's; four deviations of the mean of 120 draws.
    assert np.mean(counts) == pytest.approx(21 * 0.7, abs=4 * np.sqrt(21 * 0.21 / 120))
    assert len({window.token_ids.tobytes() for window in made.values()}) > 100


@pytest.mark.parametrize("kind", [Passages, SentencePairs])
def test_pretraining_sees_every_switch(corpus: tuple[ShardedCorpus, Tokenizer], kind: type[Passages]) -> None:
    special = corpus[1].special

    def examples(given_input: EntityInput, dropout: float = 0.0) -> list[Any]:
        masking = MaskingConfig(1e-9)  # one token, so that the rest can be compared
        data = kind(*corpus, given_input, max_length=64, masking=masking, seed=3, entity_dropout=dropout)
        return data.examples(0, 120)

    everything = examples(EntityInput())
    count = sum(int((e.token_ids == special.ent).sum()) for e in everything)
    assert count > 200
    none = examples(EntityInput(), dropout=1.0)
    assert not any((e.token_ids == special.ent).any() or e.entity_ids.any() for e in none)
    some = examples(EntityInput(), dropout=0.25)
    left = sum(int((e.token_ids == special.ent).sum()) for e in some)
    assert left / count == pytest.approx(0.75, abs=4 * np.sqrt(0.1875 / count) + 0.02)
    limited = examples(EntityInput(max_entities=3))
    assert max(int((e.token_ids == special.ent).sum()) for e in limited) == 3
    for example in (*some, *limited, *everything):
        assert is_well_formed(example.token_ids)
    marked = examples(EntityInput(EntityMode.MARKERS, embed_markers=True))
    for example in marked:
        assert np.array_equal(example.entity_ids > 0, marker_mask(example.token_ids, special))


def test_marker_embeddings_and_positions_by_hand() -> None:
    """The four terms of the input, summed by hand from the tables."""
    torch.manual_seed(0)
    given_input = EntityInput(EntityMode.BOTH, typed=True, embed_markers=True, shared_positions=True)
    window = a_window(TEXT, given_input, Answer("세종", 0))
    batch = collate_windows([window, window], pad_id=0, sharing=SPECIAL)
    assert batch.position_ids is not None
    config = replace(CONFIG, vocab_size=len(LETTERS), entity_types=given_input.entity_types, hidden_dropout=0.0)
    encoder = Encoder(config).eval()
    seen: list[torch.Tensor] = []
    encoder.embeddings.norm.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    SpanModel.logits(_with(encoder, config), batch)
    tables = encoder.embeddings
    for place in range(len(window)):
        text_before = int((~marker_mask(window.token_ids[:place], SPECIAL)).sum())
        position = text_before - int(window.token_ids[place] == ENT_END)
        expected = (
            tables.token.weight[int(window.token_ids[place])]
            + tables.segment.weight[int(window.segment_ids[place])]
            + tables.position.weight[position]  # type: ignore[union-attr]
            + tables.entity.weight[int(window.entity_ids[place])]  # type: ignore[union-attr]
        )
        assert torch.allclose(seen[0][1, place], expected, atol=1e-6)
    packed = collate_windows([window, window], pad_id=0, packed=True, sharing=SPECIAL)
    assert packed.position_ids.tolist() == batch.position_ids.flatten().tolist()  # type: ignore[union-attr]
    assert encoder_inputs([window], 0)[0].get("position_ids") is None


def _with(encoder: Encoder, config: Any) -> SpanModel:
    model = SpanModel(config).eval()
    model.encoder = encoder
    return model


def test_types_begin_as_what_entities_were(tmp_path: Any) -> None:
    binary, typed = (SpanModel(replace(CONFIG, entity_types=types)) for types in (1, len(TYPES)))
    copy_shared(binary, typed)
    table = typed.encoder.embeddings.entity.weight  # type: ignore[union-attr]
    before = binary.encoder.embeddings.entity.weight  # type: ignore[union-attr]
    assert not table[0].any()
    assert all(torch.equal(row, before[1]) for row in table[1:])
    assert torch.equal(typed.encoder.embeddings.token.weight, binary.encoder.embeddings.token.weight)


def test_a_model_says_so_where_its_annotator_is_another_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = tmp_path / "names.txt"
    names.write_text("세종\n", "utf-8")
    LETTERS.save(tmp_path / "tokenizer")
    annotator = make_annotator(f"gazetteer:{names}")
    learned: dict[str, Any] = {"annotator": f"gazetteer:{names}", "annotator_fingerprint": annotator.fingerprint}
    for mode in EntityMode:
        write_run(tmp_path / mode.value, "span", tmp_path / "tokenizer", mode, **learned)
        korbert.load(tmp_path / mode.value)
    assert not caplog.records
    names.write_text("세종\n서울\n", "utf-8")
    korbert.load(tmp_path / "none")
    assert not caplog.records
    reader = korbert.load(tmp_path / "both")
    assert f"{tmp_path}/both/model: learned from entities of {annotator.fingerprint}, but" in caplog.text
    assert reader.annotator.fingerprint in caplog.text

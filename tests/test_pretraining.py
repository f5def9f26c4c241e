"""Pretraining examples: masking statistics and pair balance as laws of large numbers, examples as pure functions."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from korbert.data.masking import MaskingConfig, mask_tokens
from korbert.data.pretraining import (
    NEXT,
    RANDOM,
    HeldOut,
    Passages,
    PretrainingExample,
    SentencePairs,
    halves,
    truncate_pair,
)
from korbert.data.shards import ShardedCorpus, Stretch
from korbert.encoding import EntityMode, balanced
from korbert.errors import ConfigError
from korbert.model import IGNORE_INDEX
from korbert.text import IntArray
from korbert.tokenizers import SpecialTokens, Tokenizer

SPECIAL = SpecialTokens()
VOCABULARY = 1000


def make(
    corpus: tuple[ShardedCorpus, Tokenizer],
    mode: EntityMode = EntityMode.BOTH,
    kind: Any = SentencePairs,
    **options: Any,
) -> Any:
    settings = {"max_length": 64, "seed": 1, "masking": MaskingConfig()} | options
    return kind(corpus[0], corpus[1], mode, **settings)


def example(data: Any, epoch: int, index: int) -> PretrainingExample:
    return data.make(data.epoch(epoch).requests(np.array([index]))[0])


# ---- masking ----


def test_masking_statistics_on_100k_tokens() -> None:
    """15 % exactly; of these 80/10/10, within four standard deviations; every ordinary token is as likely."""
    rng = np.random.default_rng(0)
    config = MaskingConfig()
    chosen = masked = changed = 0
    where = np.zeros(200, dtype=np.int64)
    replaced_by: list[int] = []
    rows, length = 500, 200
    for _ in range(rows):
        ids = np.full(length, 500, dtype=np.int32)
        new, labels = mask_tokens(ids, rng, SPECIAL, VOCABULARY, config)
        at = labels != IGNORE_INDEX
        assert at.sum() == 30  # 15 % of 200, every time
        assert (labels[at] == 500).all()
        assert (new[~at] == 500).all()
        where += at
        chosen += int(at.sum())
        masked += int((new[at] == SPECIAL.mask).sum())
        others = new[at][(new[at] != SPECIAL.mask) & (new[at] != 500)]
        changed += len(others)
        replaced_by += others.tolist()

    def deviations(count: float, share: float, trials: float) -> float:
        return abs(count - share * trials) / np.sqrt(share * (1 - share) * trials)

    assert deviations(masked, 0.8, chosen) < 4
    assert deviations(changed, 0.1, chosen) < 4  # a random token is the same one in 1 of 993 cases: not visible here
    assert np.max(np.abs(where - 0.15 * rows)) / np.sqrt(0.15 * 0.85 * rows) < 5
    assert min(replaced_by) >= 7  # no special token
    assert max(replaced_by) <= VOCABULARY - 1
    assert deviations(np.mean(np.array(replaced_by) < 7 + 993 / 2) * len(replaced_by), 0.5, len(replaced_by)) < 4


@given(
    ids=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=60),
    rate=st.floats(0.01, 0.99),
    seed=st.integers(0, 99),
)
def test_masking_leaves_special_tokens_alone(ids: list[int], rate: float, seed: int) -> None:
    before = np.array(ids, dtype=np.int32)
    after, labels = mask_tokens(before, np.random.default_rng(seed), SPECIAL, VOCABULARY, MaskingConfig(rate))
    ordinary = ~np.isin(before, SPECIAL.ids)
    at = labels != IGNORE_INDEX
    assert not (at & ~ordinary).any()
    assert at.sum() == (max(1, round(rate * ordinary.sum())) if ordinary.any() else 0)
    assert (labels[at] == before[at]).all()
    assert (after[~at] == before[~at]).all()
    assert not np.isin(after[at], np.delete(SPECIAL.ids, SPECIAL.mask)).any()


@pytest.mark.parametrize(
    "options", [{"rate": 0.0}, {"rate": 1.0}, {"mask_share": 0.8, "random_share": 0.3}, {"mask_share": -0.1}]
)
def test_wrong_masking(options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=r"task\.masking"):
        MaskingConfig(**options)


# ---- pairs ----


def unmasked(example: PretrainingExample) -> IntArray:
    return np.where(example.mlm_labels == IGNORE_INDEX, example.token_ids, example.mlm_labels)


def segments(example: PretrainingExample) -> tuple[list[int], list[int]]:
    """Token ids of A and B, and the frame around them checked."""
    ids = unmasked(example)
    seps = np.flatnonzero(ids == SPECIAL.sep)
    assert ids[0] == SPECIAL.cls
    assert len(seps) == 2
    assert seps[1] == len(ids) - 1
    expected = np.repeat([0, 1], [seps[0] + 1, len(ids) - seps[0] - 1])
    assert (example.segment_ids == expected).all()
    return ids[1 : seps[0]].tolist(), ids[seps[0] + 1 : -1].tolist()


def contains(tokens: list[int], part: list[int]) -> bool:
    return f",{','.join(map(str, part))}," in f",{','.join(map(str, tokens))},"


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(EntityMode)[1:])
def test_pairs_are_what_their_label_says(corpus: tuple[ShardedCorpus, Tokenizer], mode: EntityMode) -> None:
    """NEXT: both segments from one document, in order; RANDOM: from two. Half and half."""
    shards = corpus[0]
    data = make(corpus, mode)
    documents = []
    for number in range(len(shards)):
        ids, *_ = shards.sentences(number, 0, len(shards.sentence_lengths(number)))
        if not mode.has_markers:
            ids = ids[(ids != SPECIAL.ent) & (ids != SPECIAL.ent_end)]
        documents.append(ids.tolist())
    labels = []
    for epoch in range(4):
        for made in data.examples(epoch, 10**9):
            a, b = segments(made)
            assert 5 <= len(made) <= 64
            labels.append(made.nsp_label)
            if mode.has_markers:  # a marker at the edge of a segment may have gone with its partner
                continue
            home = [i for i, document in enumerate(documents) if contains(document, a)]
            other = [i for i, document in enumerate(documents) if contains(document, b)]
            assert home
            assert other
            assert bool(set(home) & set(other)) == (made.nsp_label == NEXT)
    count, share = len(labels), np.mean(labels)
    assert count > 500
    assert set(labels) == {NEXT, RANDOM}
    assert abs(share - 0.5) < 4 * np.sqrt(0.25 / count)


def test_epochs_use_every_sentence(corpus: tuple[ShardedCorpus, Tokenizer]) -> None:
    shards, _ = corpus
    plan = make(corpus).epoch(0).rows
    for number in range(len(shards)):
        used: set[int] = set()
        for document, first, middle, last, *_ in plan:
            if document == number:
                used |= set(range(first, max(middle, last)))
        assert used == set(range(len(shards.sentence_lengths(number))))
    assert not np.array_equal(plan, make(corpus).epoch(1).rows[: len(plan)])
    assert (plan[plan[:, 4] >= 0][:, 4] != plan[plan[:, 4] >= 0][:, 0]).all()


@pytest.mark.parametrize("mode", list(EntityMode))
@pytest.mark.parametrize("kind", [SentencePairs, Passages])
def test_entity_ids_and_markers_follow_the_mode(
    corpus: tuple[ShardedCorpus, Tokenizer], mode: EntityMode, kind: Any
) -> None:
    data = make(corpus, mode, kind)
    marked = embedded = 0
    for made in data.examples(0, 60):
        depth = 0
        for token, entity in zip(unmasked(made), made.entity_ids, strict=True):
            depth += int(token == SPECIAL.ent) - int(token == SPECIAL.ent_end)
            assert depth in (0, 1)
            if mode is EntityMode.BOTH and token not in SPECIAL.ids:
                # Inside markers is an entity; outside is one only where truncation took a marker of the pair.
                assert entity == 1 or depth == 0
        assert depth == 0
        marked += int((unmasked(made) == SPECIAL.ent).sum())
        embedded += int(made.entity_ids.sum())
        assert not made.entity_ids[np.isin(unmasked(made), SPECIAL.ids)].any()
    assert (marked > 0) == mode.has_markers
    assert (embedded > 0) == mode.has_embedding


@pytest.mark.parametrize("kind", [SentencePairs, Passages])
def test_an_example_depends_on_seed_epoch_and_index_alone(corpus: tuple[ShardedCorpus, Tokenizer], kind: Any) -> None:
    first, second = make(corpus, kind=kind), make(corpus, kind=kind)
    first.examples(0, 10)  # what was made before does not matter
    for epoch, index in itertools.product((0, 3), (5, 2)):
        a, b = example(first, epoch, index), example(second, epoch, index)
        assert np.array_equal(a.token_ids, b.token_ids)
        assert np.array_equal(a.mlm_labels, b.mlm_labels)
    other = example(make(corpus, kind=kind, seed=2), 0, 5)
    assert not np.array_equal(example(first, 0, 5).token_ids, other.token_ids)


def test_masks_change_from_epoch_to_epoch(corpus: tuple[ShardedCorpus, Tokenizer]) -> None:
    data = make(corpus)
    row = data.epoch(0).rows[0]
    assert not np.array_equal(data.make((0, 0, row)).mlm_labels, data.make((1, 0, row)).mlm_labels)


# ---- passages ----


@pytest.mark.parametrize("length", [16, 64, 100_000])
def test_passages_hold_every_token_once(corpus: tuple[ShardedCorpus, Tokenizer], length: int) -> None:
    """Cut at other places in every epoch, in as few parts as fit, none longer than allowed."""
    shards = corpus[0]
    data = make(corpus, kind=Passages, max_length=length)
    totals = shards.document_lengths()
    cuts = []
    for epoch in range(3):
        rows = data.epoch(epoch).rows
        assert data.epoch(epoch).lengths.tolist() == (rows[:, 2] - rows[:, 1] + 2).tolist()
        assert (rows[:, 2] - rows[:, 1] <= length - 2).all()
        for document in range(len(shards)):
            mine = rows[rows[:, 0] == document]
            fewest = -(-totals[document] // (length - 2))
            assert fewest <= len(mine) <= fewest + (fewest > 1)
            assert mine[0, 1] == 0
            assert mine[-1, 2] == totals[document]
            assert (mine[1:, 1] == mine[:-1, 2]).all()
        cuts.append(rows.tolist())
    assert length == 100_000 or cuts[0] != cuts[1]
    first = example(data, 0, 0)
    ids, *_ = shards.tokens(0, 0, int(data.epoch(0).rows[0, 2]))
    assert first.nsp_label is None
    assert not first.segment_ids.any()
    inner = unmasked(first)[1:-1].tolist()
    assert contains(ids.tolist(), inner)
    assert len(ids) - len(inner) <= 1  # a marker whose partner is in the next passage


@pytest.mark.parametrize("mode", list(EntityMode))
def test_held_out_tokens_are_the_same_for_pairs_and_for_passages(
    corpus: tuple[ShardedCorpus, Tokenizer], mode: EntityMode
) -> None:
    pairs, passages = (make(corpus, mode, HeldOut, pairs=p).examples(0, 50) for p in (True, False))
    assert len(pairs) == len(passages) == 50
    for a, b in zip(pairs, passages, strict=True):
        text = [x.token_ids[~np.isin(x.token_ids, (SPECIAL.cls, SPECIAL.sep))] for x in (a, b)]
        hidden = [x.mlm_labels[~np.isin(x.token_ids, (SPECIAL.cls, SPECIAL.sep))] for x in (a, b)]
        assert np.array_equal(*text)
        assert np.array_equal(*hidden)
        assert (hidden[0] != IGNORE_INDEX).any()
        assert len(a) == len(b) + 1 <= 64
        assert a.nsp_label == NEXT
        assert b.nsp_label is None
        segments(a)


def test_held_out_halves_have_whole_mentions(corpus: tuple[ShardedCorpus, Tokenizer]) -> None:
    """In training no marker is without its partner in a segment; what is scored must look like that."""
    made = make(corpus, EntityMode.BOTH, HeldOut, pairs=True, max_length=48).examples(0, 400)
    marked = 0
    for one in made:
        for part in segments(one):
            ids = np.array(part, dtype=np.int32)
            assert len(balanced(ids, SPECIAL)) == len(ids)
            marked += SPECIAL.ent in part
    assert marked > 200


@pytest.mark.parametrize(
    ("ids", "first"),
    [
        ([7, 7, 5, 7, 7, 6, 7, 7], 2),  # the middle one of six tokens of text is the mention's second
        ([7, 5, 7, 7, 7, 7, 6, 7, 7, 7, 7], 7),
        ([5, 7, 7, 7, 6, 7], 5),  # the nearer edge would leave nothing in front
        ([5, 7, 7, 7, 6], 0),
        ([7, 7, 7, 7], 2),
        ([7, 5, 7, 6, 7, 7], 4),  # it was no mention that was cut
    ],
)
def test_halves_at_a_mention_s_edge_by_hand(ids: list[int], first: int) -> None:
    tokens = np.array(ids, dtype=np.int32)
    part = Stretch(tokens, np.zeros_like(tokens), np.zeros_like(tokens))
    a, b = halves(part, SPECIAL, whole=True)
    assert len(a.ids) == first
    assert np.concatenate((a.ids, b.ids)).tolist() == ids


@pytest.mark.parametrize("rate", [0.05, 0.3, 0.5])
def test_any_rate_is_kept(corpus: tuple[ShardedCorpus, Tokenizer], rate: float) -> None:
    """Of the ordinary tokens `rate` is predicted, rounded in each sequence; 80/10/10 of those."""
    data = make(corpus, kind=Passages, masking=MaskingConfig(rate=rate))
    chosen = ordinary = masks = kept = 0
    for made in data.examples(0, 400):
        at = made.mlm_labels != IGNORE_INDEX
        candidates = int((~np.isin(unmasked(made), SPECIAL.ids)).sum())
        assert at.sum() == max(1, round(rate * candidates))
        chosen, ordinary = chosen + int(at.sum()), ordinary + candidates
        masks += int((made.token_ids[at] == SPECIAL.mask).sum())
        kept += int((made.token_ids[at] == made.mlm_labels[at]).sum())
    assert chosen / ordinary == pytest.approx(rate, abs=0.01)
    assert masks / chosen == pytest.approx(0.8, abs=4 * np.sqrt(0.16 / chosen))
    assert kept / chosen == pytest.approx(0.1, abs=4 * np.sqrt(0.09 / chosen) + 0.002)


def test_one_document_is_not_enough(corpus: tuple[ShardedCorpus, Tokenizer]) -> None:
    with pytest.raises(ConfigError, match="two documents or more, this part of the corpus has 1"):
        SentencePairs(*corpus, EntityMode.BOTH, max_length=64, masking=MaskingConfig(), seed=0, documents=[3])


@settings(max_examples=50)
@given(a=st.integers(0, 40), b=st.integers(0, 40), limit=st.integers(2, 60), seed=st.integers(0, 9))
def test_truncation_keeps_a_stretch_of_each(a: int, b: int, limit: int, seed: int) -> None:
    parts = [Stretch(*[np.arange(n, dtype=np.int32)] * 3) for n in (a, b)]
    cut = truncate_pair(parts[0], parts[1], limit, np.random.default_rng(seed))
    lengths = [len(part.ids) for part in cut]
    assert sum(lengths) == min(a + b, limit)
    for (ids, entities, units), size in zip(cut, (a, b), strict=True):
        assert np.array_equal(ids, entities)
        assert np.array_equal(ids, units)
        assert len(ids) >= min(size, limit // 2)
        assert len(ids) == 0 or np.array_equal(ids, np.arange(ids[0], ids[0] + len(ids)))


class Sentences:
    """A corpus of documents of given sentences."""

    def __init__(self, *documents: list[list[int]]) -> None:
        self.documents = documents

    def __len__(self) -> int:
        return len(self.documents)

    def sentence_lengths(self, document: int) -> Any:
        return np.array([len(sentence) for sentence in self.documents[document]])

    def sentences(self, document: int, first: int, last: int) -> Stretch:
        ids = np.concatenate([np.array(s, dtype=np.int32) for s in self.documents[document][first:last]])
        return Stretch(ids, (ids > 6).astype(np.int32), np.zeros_like(ids))


@pytest.mark.parametrize("mode", [EntityMode.BOTH, EntityMode.SPLIT, EntityMode.NONE])
def test_both_segments_of_a_pair_have_text(corpus: tuple[ShardedCorpus, Tokenizer], mode: EntityMode) -> None:
    """A sentence of one name, which has two markers, cannot follow itself."""
    ent, end = SPECIAL.ent, SPECIAL.ent_end
    small = Sentences([[ent, 10, end]], [[ent, 11, end], [ent, 12, end, 13]], [[14]], [[15, ent, 16, end]])
    data = SentencePairs(small, corpus[1], mode, max_length=64, seed=1, masking=MaskingConfig())  # type: ignore[arg-type]
    labels = set()
    for epoch in range(20):
        planned = data.epoch(epoch)
        for request in planned.requests(np.arange(len(planned.rows))):
            made = data.make(request)
            text = ~np.isin(made.token_ids, [SPECIAL.cls, SPECIAL.sep, ent, end])
            assert {0, 1} == set(made.segment_ids[text].tolist())
            labels.add(made.nsp_label)
    assert labels == {0, 1}

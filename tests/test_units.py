"""What masking takes as a whole: flags by hand, exact budgets and whole units as laws, their statistics with a seed."""

from __future__ import annotations

import bisect
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from korbert.data.masking import UNITS, MaskingConfig, mask_tokens
from korbert.data.pretraining import HeldOut, Passages, SentencePairs
from korbert.data.shards import ShardedCorpus, build_shards
from korbert.data.units import EOJEOL, MENTION, MORPHEME, NEW_MENTION, PROPER, unit_flags, units_identity, with_mentions
from korbert.encoding import EntityInput, EntityMode, encode
from korbert.errors import ConfigError
from korbert.model import IGNORE_INDEX
from korbert.morphology import make_analyser
from korbert.text import AnnotatedText, Span
from korbert.tokenizers import CharacterTokenizer, Pretokenizer, SpecialTokens, Tokenizer, load_tokenizer

SPECIAL = SpecialTokens()
TEXT = "이순신은 서울에서 이겼다."
LETTERS = CharacterTokenizer.train([TEXT], vocab_size=60)


def test_flags_by_hand() -> None:
    annotated = AnnotatedText(TEXT, (Span(0, 3, "PER"), Span(5, 7, "LOC")))
    encoding = encode(annotated, LETTERS, EntityInput(typed=True))
    signs = {SPECIAL.ent: "<", SPECIAL.ent_end: ">"}
    shown = "".join(
        signs.get(int(i), TEXT[a:b]) for i, a, b in zip(encoding.token_ids, encoding.starts, encoding.ends, strict=True)
    )
    assert shown == "<이순신>은<서울>에서이겼다."
    flags = unit_flags(TEXT, encoding, SPECIAL, make_analyser("mecab"))

    def at(bit: int) -> str:
        return "".join(sign if flag & bit else "·" for sign, flag in zip(shown, flags, strict=True))

    assert at(EOJEOL) == "·이·····서····이···"
    assert at(PROPER) == "·이순신···서울·······"
    assert at(MORPHEME) == "·이···은·서··에·이·다."
    assert not (unit_flags(TEXT, encoding, SPECIAL) & (MORPHEME | PROPER)).any()
    assert (unit_flags(TEXT, encoding, SPECIAL) & EOJEOL).tolist() == (flags & EOJEOL).tolist()
    flags = with_mentions(flags, encoding.token_ids, encoding.entity_ids, SPECIAL)
    assert at(MENTION) == "·이순신···서울·······"
    assert at(NEW_MENTION) == "·이·····서········"


@pytest.mark.parametrize("symbols", ["jamo", "bytes"])
def test_the_rest_of_a_character_is_in_its_unit(corpus_lines: list[str], symbols: str) -> None:
    """Tokens without characters of their own: a vowel, the second byte."""
    analyser = make_analyser("mecab")
    small = CharacterTokenizer.train(corpus_lines, 400, pretokenizer=Pretokenizer(symbols=symbols))
    for text in [TEXT, *corpus_lines[:30]]:
        encoding = encode(AnnotatedText(text), small, EntityInput(EntityMode.NONE))
        flags = unit_flags(text, encoding, small.special, analyser)
        lengths = encoding.ends > encoding.starts
        assert lengths[(flags & EOJEOL) > 0].all()
        assert lengths[(flags & MORPHEME) > 0].all()
        assert ((flags & EOJEOL) > 0).sum() == len(text.split())
        rest = ~lengths[1:] & (encoding.starts[1:] == encoding.ends[:-1])
        assert ((flags[1:] & PROPER) == (flags[:-1] & PROPER))[rest].all()


def test_a_token_belongs_to_the_morpheme_in_which_it_begins(corpus_lines: list[str]) -> None:
    """Whatever the tokens are: no unit begins inside of a morpheme that another token has begun."""
    from korbert.tokenizers.subwords import SentencePieceTokenizer

    tokenizer = SentencePieceTokenizer.train(corpus_lines, 1200)
    analyser = make_analyser("mecab")
    for text in corpus_lines[:60]:
        encoding = encode(AnnotatedText(text), tokenizer, EntityMode.NONE)
        flags = unit_flags(text, encoding, SPECIAL, analyser)
        morphemes = analyser.analyse(text)
        eojeol = [match.start() for match in re.finditer(r"\S+", text)]
        begun: set[tuple[str, int]] = set()
        before = 0
        for start, end, flag in zip(encoding.starts.tolist(), encoding.ends.tolist(), flags.tolist(), strict=True):
            start -= start == end == before > 0  # the C of ℃
            before = end
            start += len(text[start:]) - len(text[start:].lstrip())
            for bit, edges in ((MORPHEME, [morpheme.start for morpheme in morphemes]), (EOJEOL, eojeol)):
                own = (str(bit), bisect.bisect(edges, start))
                assert bool(flag & bit) == (own not in begun)
                begun.add(own)


def test_flags_are_those_of_the_text_as_it_is_read(corpus_lines: list[str]) -> None:
    """Decomposed, with invisible characters in it, or with other white space: letter by letter the same."""
    letters = CharacterTokenizer.train(corpus_lines, 1200)
    analyser = make_analyser("mecab")
    proper = 0
    for line in corpus_lines[:15]:
        forms = [
            line, unicodedata.normalize("NFD", line), re.sub(r"(?<=\w)(?=\w)", "\u200b", line),
            re.sub(" ", "\u00a0\u3000", line),
        ]  # fmt: skip
        encodings = [encode(AnnotatedText(form), letters, EntityMode.NONE) for form in forms]
        flags = [unit_flags(*pair, SPECIAL, analyser).tolist() for pair in zip(forms, encodings, strict=True)]
        assert all(one == flags[0] for one in flags)
        proper += sum(flag & PROPER > 0 for flag in flags[0])
    assert proper > 20


def test_older_flags_are_not_taken_for_newer_ones() -> None:
    assert (units_identity(""), units_identity("eojeol"), units_identity("mecab")) == ("", "eojeol:4", "mecab:4")


@pytest.fixture(scope="module")
def corpus_lines(sample: Path) -> list[str]:
    return [line for line in (sample / "corpus.txt").read_text("utf-8").splitlines() if line]


@st.composite
def sequences(draw: st.DrawFn) -> tuple[Any, Any]:
    """Ids with special tokens and mentions among them, and flags as shards give them."""
    parts = draw(st.lists(st.sampled_from(["text", "mention", "sep", "mask"]), min_size=1, max_size=14))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    ids: list[int] = [SPECIAL.cls]
    entities: list[int] = [0]
    for part in parts:
        if part in ("sep", "mask"):
            ids, entities = [*ids, SPECIAL.sep if part == "sep" else SPECIAL.mask], [*entities, 0]
            continue
        length = int(rng.integers(1, 9))
        body = rng.integers(7, 90, size=length).tolist()
        if part == "mention":
            ids, entities = [*ids, SPECIAL.ent, *body, SPECIAL.ent_end], [*entities, 0, *[1] * length, 0]
        else:
            ids, entities = [*ids, *body], [*entities, *[0] * length]
    token_ids, entity_ids = np.array(ids, dtype=np.int32), np.array(entities, dtype=np.int32)
    flags = np.where(rng.random(len(ids)) < 0.3, EOJEOL | MORPHEME, 0) | np.where(
        rng.random(len(ids)) < 0.3, MORPHEME, 0
    )
    flags |= np.where(rng.random(len(ids)) < 0.3, PROPER, 0)
    flags = np.where(np.isin(token_ids, SPECIAL.ids), 0, flags).astype(np.int32)
    return token_ids, with_mentions(flags, token_ids, entity_ids, SPECIAL)


@given(sequences(), st.sampled_from(UNITS), st.floats(0.01, 0.9), st.floats(0, 1), st.integers(0, 999))
def test_budgets_are_exact_in_every_unit(
    sequence: tuple[Any, Any], unit: str, rate: float, share: float, seed: int
) -> None:
    token_ids, flags = sequence
    config = MaskingConfig(rate, unit=unit, entity_share=share)
    masked, labels = mask_tokens(token_ids, np.random.default_rng(seed), SPECIAL, 97, config, flags)
    ordinary = ~np.isin(token_ids, SPECIAL.ids)
    chosen = labels != IGNORE_INDEX
    assert chosen.sum() == (max(1, round(rate * ordinary.sum())) if ordinary.any() else 0)
    assert not (chosen & ~ordinary).any()
    assert labels[chosen].tolist() == token_ids[chosen].tolist()
    assert masked[~chosen].tolist() == token_ids[~chosen].tolist()


def pieces(token_ids: Any, flags: Any, unit: str) -> list[list[int]]:
    """Units one after the other, written as a reader would: token by token."""
    found: list[list[int]] = []
    parted, kind_before = True, -1
    for place, (token, flag) in enumerate(zip(token_ids.tolist(), flags.tolist(), strict=True)):
        if token in (SPECIAL.ent, SPECIAL.ent_end):
            continue
        if np.isin(token, SPECIAL.ids):
            parted = True
            continue
        if unit == "eojeol":
            begins = bool(flag & EOJEOL)
        elif unit == "morpheme":
            begins = bool(flag & MORPHEME)
        else:
            kind = 2 if flag & MENTION else 1 if flag & PROPER else 0
            begins = kind != kind_before or bool(flag & NEW_MENTION)
            begins |= (kind == 0 and bool(flag & MORPHEME)) or (kind == 1 and bool(flag & EOJEOL))
            kind_before = kind
        if begins or parted:
            found.append([])
        found[-1].append(place)
        parted = False
    return found


@given(sequences(), st.sampled_from(["eojeol", "morpheme", "entity"]), st.floats(0.01, 0.6), st.integers(0, 999))
def test_units_are_hidden_whole_but_for_one(sequence: tuple[Any, Any], unit: str, rate: float, seed: int) -> None:
    token_ids, flags = sequence
    config = MaskingConfig(rate, 1.0, 0.0, unit=unit)
    masked, labels = mask_tokens(token_ids, np.random.default_rng(seed), SPECIAL, 97, config, flags)
    chosen = labels != IGNORE_INDEX
    shares = [chosen[piece].mean() for piece in pieces(token_ids, flags, unit)]
    assert sum(0 < share < 1 for share in shares) <= 1
    assert (masked[chosen] == SPECIAL.mask).all()


@pytest.fixture(scope="module")
def flagged(
    corpus: tuple[ShardedCorpus, Tokenizer], sample: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ShardedCorpus, Tokenizer]:
    folder = tmp_path_factory.mktemp("flagged")
    corpus[1].save(folder / "tokenizer")
    build_shards(folder / "shards", [sample / "corpus.txt"], folder / "tokenizer", "mecab", units="mecab")
    tokenizer = load_tokenizer(folder / "tokenizer")
    return ShardedCorpus(folder / "shards", tokenizer.fingerprint), tokenizer


def test_flagged_shards_are_the_same_but_for_the_flags(
    corpus: tuple[ShardedCorpus, Tokenizer], flagged: tuple[ShardedCorpus, Tokenizer]
) -> None:
    plain, more = corpus[0], flagged[0]
    assert (plain.manifest.units, more.manifest.units) == ("", make_analyser("mecab").name)
    assert plain.manifest.typed
    for number in range(len(plain)):
        one, other = (shards.tokens(number, 0, shards.document_length(number)) for shards in (plain, more))
        assert one.ids.tolist() == other.ids.tolist()
        assert one.entities.tolist() == other.entities.tolist()
        assert not one.units.any()
        assert other.units.any()


@pytest.mark.parametrize("kind", [Passages, SentencePairs])
@pytest.mark.parametrize("mode", [EntityMode.SPLIT, EntityMode.BOTH])
@pytest.mark.parametrize("unit", UNITS)
def test_units_on_text(flagged: tuple[ShardedCorpus, Tokenizer], kind: Any, mode: EntityMode, unit: str) -> None:
    """15 % exactly, 80/10/10, and units as long as they should be, over some hundred sequences."""
    data = kind(*flagged, mode, max_length=128, masking=MaskingConfig(unit=unit, entity_share=0.5), seed=1)
    chosen = masks = kept = entities = 0
    lengths: list[int] = []
    for made in data.examples(0, 400):
        at = made.mlm_labels != IGNORE_INDEX
        ordinary = int((~np.isin(np.where(at, made.mlm_labels, made.token_ids), SPECIAL.ids)).sum())
        assert at.sum() == max(1, round(0.15 * ordinary))
        chosen += int(at.sum())
        masks += int((made.token_ids[at] == SPECIAL.mask).sum())
        kept += int((made.token_ids[at] == made.mlm_labels[at]).sum())
        entities += int(((made.entity_ids > 0) & at).sum())
        edges = np.flatnonzero(np.diff(np.concatenate([[0], at.astype(int), [0]])))
        lengths += (edges[1::2] - edges[::2]).tolist()
    # A unit has one fate, so the deviations are those of units, not of tokens.
    size = 1 if unit == "token" else 4
    assert masks / chosen == pytest.approx(0.8, abs=4 * np.sqrt(0.16 * size / chosen))
    assert kept / chosen == pytest.approx(0.1, abs=4 * np.sqrt(0.09 * size / chosen) + 0.003)
    mean = np.mean(lengths)
    assert mean < 1.5 if unit == "token" else mean > 1.5
    if mode.has_embedding and unit == "entity":
        assert entities / chosen > 0.25
    if mode.has_embedding and unit == "token":
        assert entities / chosen < 0.25


def test_spans_have_their_lengths() -> None:
    """Of a geometric distribution cut at ten, as in SpanBERT, but for the last span of each sequence."""
    config = MaskingConfig(0.1, unit="span", span_p=0.2, max_span=10)
    ids = np.arange(7, 2007, dtype=np.int32)
    counts: Counter[int] = Counter()
    for seed in range(60):
        _, labels = mask_tokens(ids, np.random.default_rng(seed), SPECIAL, 3000, config)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], (labels != IGNORE_INDEX).astype(int), [0]])))
        counts.update((edges[1::2] - edges[::2]).tolist())
    expected = np.array([0.2 * 0.8 ** (n - 1) for n in range(1, 10)] + [0.8**9])
    total = sum(counts.values())
    for length in range(1, 7):
        share = expected[length - 1]
        # Spans that touch count as one: some lengths are rarer, and longer ones are more.
        assert counts[length] / total == pytest.approx(share, abs=4 * np.sqrt(share / total) + 0.25 * share)


def test_entities_first() -> None:
    """They have their share of what is hidden, and more only where the rest is too little."""
    ids = np.arange(7, 107, dtype=np.int32)
    flags = np.full(100, EOJEOL | MORPHEME, dtype=np.int32)
    flags[:20] |= np.tile([MENTION | NEW_MENTION, MENTION], 10)
    for share in (1.0, 0.5, 0.2, 0.0):
        config = MaskingConfig(0.2, unit="entity", entity_share=share)
        found = []
        for seed in range(50):
            _, labels = mask_tokens(ids, np.random.default_rng(seed), SPECIAL, 200, config, flags)
            found.append(int((labels[:20] != IGNORE_INDEX).sum()))
        assert set(found) == {round(20 * share)}
    config = MaskingConfig(0.9, unit="entity", entity_share=0.0)  # there is nothing else left
    _, labels = mask_tokens(ids, np.random.default_rng(0), SPECIAL, 200, config, flags)
    assert (labels[:20] != IGNORE_INDEX).sum() == 10


def test_shards_without_flags_are_refused(corpus: tuple[ShardedCorpus, Tokenizer]) -> None:
    for unit, wanted in (("eojeol", "eojeol"), ("entity", "kiwi")):
        masking = MaskingConfig(unit=unit, analyser="kiwi")
        with pytest.raises(ConfigError, match=f"unit={unit} needs shards with flags of {wanted}, these have none"):
            Passages(*corpus, EntityMode.BOTH, max_length=64, masking=masking, seed=0)
    HeldOut(*corpus, EntityMode.BOTH, max_length=64, masking=MaskingConfig(unit="span"), seed=0, pairs=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit": "word"}, "'word' is unknown, wanted token, eojeol, morpheme, span or entity"),
        ({"span_p": 0.0}, "wanted 0 < span_p <= 1"),
        ({"max_span": 0}, "max_span of 1 or more"),
        ({"entity_share": 1.5}, "entity_share: wanted a share"),
    ],
)
def test_wrong_masking_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MaskingConfig(**options)

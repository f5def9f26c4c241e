"""All of KorQuAD dev through transformers' own procedure and through korbert: the same features, the same answers.

What differs, and is counted below: three gold answers of the file end with a space, behind which `run_qa` takes the
next word's first token for the answer's last one; and where several tokens stand for one character (the sign of a
word's start and the word, the parts of a character that normalisation expands), it is the first one's alone here.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from korbert.data.decoding import DecodingConfig, Logits, decode_answers
from korbert.data.korquad import KorquadDataset, read_korquad
from korbert.data.windows import Window, WindowConfig, WindowMaker, WindowStatistics
from korbert.encoding import EntityMode
from korbert.entities import make_annotator
from korbert.tasks.run_qa import as_examples, postprocessed, training_features, validation_features
from korbert.text import trim
from korbert.tokenizers import SentencePieceTokenizer, Tokenizer, WordPieceTokenizer, open_published
from korbert.tokenizers.conversion import as_fast_tokenizer

transformers = pytest.importorskip("transformers")
pytest.importorskip("datasets")
WINDOW = WindowConfig()


@dataclasses.dataclass(frozen=True, repr=False)
class Pair:
    """The same questions as windows of korbert's and as features of `run_qa`'s."""

    dev: KorquadDataset
    windows: list[Window]
    made: WindowStatistics
    examples: Any
    training: Any
    validation: Any
    beyond: int  # answers that end with a space
    shared: float  # tokens to which `run_qa` gives characters that another token has, for each window, at most


@functools.lru_cache(maxsize=1)
def read(path: Path) -> KorquadDataset:
    return read_korquad(path)


def wordpiece(texts: list[str], folder: Path) -> tuple[Tokenizer, Any]:
    """As klue/bert-base and KoELECTRA publish theirs: a vocab.txt, opened by both."""
    trained = WordPieceTokenizer.train(texts, 8000)
    pieces = [t[1:] if t.startswith("▁") else f"##{t}" for t in trained.vocabulary[7:] if t != "▁"]
    path = folder / "vocab.txt"
    path.write_text("".join(f"{t}\n" for t in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *pieces]), "utf-8")
    return open_published(path), transformers.BertTokenizerFast(str(path), do_lower_case=False, strip_accents=False)


def unigram(texts: list[str], folder: Path) -> tuple[Tokenizer, Any]:
    """As XLM-R and KoBigBird publish theirs: a tokenizer.json with signs for the start of a word."""
    theirs = as_fast_tokenizer(SentencePieceTokenizer.train(texts, 8000))
    theirs.save_pretrained(folder)
    return open_published(folder / "tokenizer.json"), theirs


@pytest.fixture(scope="module", params=[(wordpiece, 1, 3, 0.0), (unigram, 4, 1, 0.1)], ids=["wordpiece", "unigram"])
def pair(request: pytest.FixtureRequest, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """All questions with WordPiece, those of every fourth article with unigram."""
    make, step, beyond, shared = request.param
    dev = read(data_root / "korquad" / "KorQuAD_v1.0_dev.json")
    texts = [paragraph.context for article in dev.articles for paragraph in article.paragraphs]
    ours, theirs = make(texts, tmp_path_factory.mktemp("vocabulary"))
    dev = dev.subset(range(0, len(dev.articles), step))
    examples = as_examples(dev)
    windows, made = WindowMaker(ours, make_annotator("none"), EntityMode.NONE, WINDOW).dataset(dev)
    return Pair(
        dev, windows, made, examples, training_features(theirs, examples, WINDOW, pad=False),
        validation_features(theirs, examples, WINDOW, pad=False), beyond, shared,
    )  # fmt: skip


def visible(span: tuple[int, int]) -> tuple[int, int] | None:
    """A span that has characters; all others are alike."""
    return span if span[0] < span[1] else None


@pytest.mark.slow
def test_features_are_those_of_run_qa(pair: Pair) -> None:
    """Ids, segments, windows, the tokens' characters, start and end: of all 5,774 questions."""
    assert pair.made.questions == len(pair.dev) == (5774 if pair.shared == 0 else 1567)
    assert pair.made.truncated_questions == 0  # which run_qa would not do
    training, validation = pair.training.to_dict(), pair.validation.to_dict()
    assert [w.question_id for w in pair.windows] == validation["example_id"]
    assert pair.made.windows == len(pair.training) > len(pair.dev)
    asked = {question.id: (paragraph.context, question.answers[0]) for _, paragraph, question in pair.dev.questions()}
    beyond = shared = 0
    for row, window in enumerate(pair.windows):
        context, gold = asked[window.question_id]
        assert window.token_ids.tolist() == training["input_ids"][row]
        assert window.segment_ids.tolist() == training["token_type_ids"][row]
        spans = validation["offset_mapping"][row]
        inside = [place for place, span in enumerate(spans) if span is not None]
        assert inside == list(range(window.context_start, len(window) - 1))
        # A space in front of a word is no part of its span here; there it is, where the vocabulary has it in the token.
        theirs = [visible(trim(context, *spans[place])) for place in inside]
        ours = list(map(visible, zip(window.starts.tolist(), window.ends.tolist(), strict=True)))
        if theirs != ours:
            differ = [place for place, (a, b) in enumerate(zip(theirs, ours, strict=True)) if a != b]
            assert {ours[place] for place in differ} == {None}
            elsewhere = set(itertools.chain.from_iterable(range(*span) for span in ours if span is not None))
            assert all(
                elsewhere.issuperset(range(*span)) for span in map(theirs.__getitem__, differ) if span is not None
            )
            shared += len(differ)
        first, last = (training[f"{side}_positions"][row] for side in ("start", "end"))
        if gold.text != gold.text.strip() and window.answer != (0, 0):
            assert window.answer == (first, last - 1)
            assert context[spans[last][0] : spans[last][1]].strip() == context[gold.end : spans[last][1]]
            beyond += 1
        else:
            assert window.answer == (first, last)
    assert beyond == pair.beyond
    assert shared <= pair.shared * len(pair.windows)


def logits(windows: list[Window], kind: str, seed: int = 0) -> list[Logits]:
    """As long as a batch padded to max_length, and never for tokens without characters.

    context: nothing stands out but the context, as in korbert's models, which rule everything else out. peaked: [CLS],
    question and padding compete, but some places stand out, as a trained model's do. noise: nothing stands out, and
    what is outside of the context is a little better.
    """
    rng = np.random.default_rng(seed)
    said = []
    for window in windows:
        values = rng.normal(size=(2, WINDOW.max_length)).astype(np.float32)
        context = slice(window.context_start, window.context_start + len(window.starts))
        outside = np.ones(WINDOW.max_length, dtype=np.bool_)
        outside[context] = False
        places = window.context_start + np.flatnonzero(window.ends > window.starts)
        if kind == "context":
            values[:, outside] = -30
        elif kind == "noise":
            values[:, outside] += 1
        else:
            values[:, 0] += 6
            at = rng.integers(0, len(places), size=4)
            values[0, places[at]] += 8
            values[1, places[np.minimum(at + rng.integers(0, 6, size=4), len(places) - 1)]] += 8
        values[:, context][:, window.ends == window.starts] = -30
        said.append(Logits(*values))
    return said


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["context", "peaked"])
def test_answers_are_those_of_run_qa(pair: Pair, kind: str) -> None:
    """The same logits, the same best answer and score: of all questions. White space at its ends does not count."""
    said = logits(pair.windows, kind)
    config = DecodingConfig()
    found = decode_answers(pair.windows, said, config)
    expected = postprocessed(pair.examples, pair.validation, [s.start for s in said], [s.end for s in said], config)
    assert len(found) == len(expected) == len(pair.dev)
    same = 0
    for key, candidates in found.items():
        best = expected[key][0]
        same += candidates[0].text == best["text"][slice(*trim(best["text"], 0, len(best["text"])))]
        assert candidates[0].score == pytest.approx(best["score"], abs=1e-6)
    assert same == len(pair.dev)


@pytest.mark.slow
def test_what_is_outside_of_the_context_takes_no_place_here(pair: Pair) -> None:
    """The one difference: in run_qa's ranking question, [CLS] and padding take places that the context needs.

    So on logits without any preference korbert's best answer is at least as good; with places enough it is the same.
    """
    some = pair.examples.select(range(0, len(pair.examples), 150))
    wanted = set(some["id"])
    rows = [row for row, window in enumerate(pair.windows) if window.question_id in wanted]
    windows = [pair.windows[row] for row in rows]
    said = logits(windows, "noise")
    features = pair.validation.select(rows)
    better = 0
    for n_best in (20, WINDOW.max_length):
        config = DecodingConfig(n_best=n_best)
        found = decode_answers(windows, said, config)
        expected = postprocessed(some, features, [s.start for s in said], [s.end for s in said], config)
        for key, candidates in found.items():
            ours, theirs = candidates[0], expected[key][0]
            if n_best == 20 and ours.score > theirs["score"]:
                better += 1
                continue
            assert ours.score == pytest.approx(theirs["score"], abs=1e-6)
            assert ours.text == theirs["text"][slice(*trim(theirs["text"], 0, len(theirs["text"])))]
    assert better > 0

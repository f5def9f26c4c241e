"""All of KorQuAD dev through transformers' own procedure and through korbert: the same features, the same answers."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from korbert.data.decoding import DecodingConfig, Logits, decode_answers
from korbert.data.korquad import KorquadDataset, read_korquad
from korbert.data.windows import Window, WindowConfig, WindowMaker, WindowStatistics
from korbert.encoding import EntityMode
from korbert.entities import make_annotator
from korbert.tasks.run_qa import Asked, Columns, postprocessed, training_features, validation_features
from korbert.text import trim
from korbert.tokenizers import SentencePieceTokenizer, Tokenizer, WordPieceTokenizer, open_published
from korbert.tokenizers.conversion import as_fast_tokenizer

transformers = pytest.importorskip("transformers")
WINDOW = WindowConfig()


class Pair(NamedTuple):
    """The same questions as windows of korbert's and as features of `run_qa`'s."""

    dev: KorquadDataset
    windows: list[Window]
    made: WindowStatistics
    training: Columns
    validation: Columns

    @property
    def asked(self) -> list[Asked]:
        return [(paragraph, question) for _, paragraph, question in self.dev.questions()]


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
    """korbert's own, turned into transformers' for the other side."""
    trained = SentencePieceTokenizer.train(texts, 8000)
    return trained, as_fast_tokenizer(trained)


@pytest.fixture(scope="module", params=[wordpiece, unigram], ids=lambda make: make.__name__)
def pair(request: pytest.FixtureRequest, data_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    dev = read(data_root / "korquad" / "KorQuAD_v1.0_dev.json")
    texts = [paragraph.context for article in dev.articles for paragraph in article.paragraphs]
    ours, theirs = request.param(texts, tmp_path_factory.mktemp("vocabulary"))
    asked = [(paragraph, question) for _, paragraph, question in dev.questions()]
    windows, made = WindowMaker(ours, make_annotator("none"), EntityMode.NONE, WINDOW).dataset(dev)
    return Pair(
        dev, windows, made, training_features(theirs, asked, WINDOW, pad=False),
        validation_features(theirs, asked, WINDOW, pad=False),
    )  # fmt: skip


def test_features_are_those_of_run_qa(pair: Pair) -> None:
    """Ids, segments, windows, the tokens' characters, start and end: of all 5,774 questions."""
    assert pair.made.questions == 5774
    assert pair.made.truncated_questions == 0  # which run_qa would not do
    assert [w.question_id for w in pair.windows] == pair.validation["example_id"]
    assert pair.made.windows == len(pair.training["input_ids"]) > 6000
    contexts = {question.id: paragraph.context for paragraph, question in pair.asked}
    for row, window in enumerate(pair.windows):
        assert window.token_ids.tolist() == pair.training["input_ids"][row]
        assert window.segment_ids.tolist() == pair.training["token_type_ids"][row]
        spans = pair.validation["offset_mapping"][row]
        inside = [place for place, span in enumerate(spans) if span is not None]
        assert inside == list(range(window.context_start, len(window) - 1))
        # A space in front of a word is no part of its span here; there it is, where the vocabulary has it in the token.
        assert [trim(contexts[window.question_id], *spans[place]) for place in inside] == list(
            zip(window.starts.tolist(), window.ends.tolist(), strict=True)
        )
        assert window.answer == (pair.training["start_positions"][row], pair.training["end_positions"][row])


def logits(windows: list[Window], kind: str, seed: int = 0) -> list[Logits]:
    """As long as a batch padded to max_length. context: nothing stands out but the context, as in korbert's models,
    which rule everything else out; peaked: also [CLS] and question compete, but some places stand out, as a trained
    model's do; noise: nothing stands out.
    """
    rng = np.random.default_rng(seed)
    said = []
    for window in windows:
        values = rng.normal(size=(2, WINDOW.max_length)).astype(np.float32)
        context = slice(window.context_start, window.context_start + len(window.starts))
        if kind == "context":
            outside = np.ones(WINDOW.max_length, dtype=np.bool_)
            outside[context] = False
            values[:, outside] = -30
        if kind == "peaked":
            values[:, 0] += 6
            at = rng.integers(0, len(window.starts), size=4) + window.context_start
            values[0, at] += 8
            values[1, np.minimum(at + rng.integers(0, 6, size=4), context.stop - 1)] += 8
        said.append(Logits(*values))
    return said


@pytest.mark.parametrize("kind", ["context", "peaked"])
def test_answers_are_those_of_run_qa(pair: Pair, kind: str) -> None:
    """The same logits, the same best answer and score: of all questions. White space at its ends does not count."""
    said = logits(pair.windows, kind)
    config = DecodingConfig()
    found = decode_answers(pair.windows, said, config)
    expected = postprocessed(pair.asked, pair.validation, [s.start for s in said], [s.end for s in said], config)
    assert len(found) == len(expected) == 5774
    same = 0
    for key, candidates in found.items():
        best = expected[key][0]
        same += candidates[0].text == best["text"][slice(*trim(best["text"], 0, len(best["text"])))]
        assert candidates[0].score == pytest.approx(best["score"], abs=1e-6)
    assert same == 5774


def test_what_is_outside_of_the_context_takes_no_place_here(pair: Pair) -> None:
    """The one difference: in run_qa's ranking question, [CLS] and padding take places that the context needs.

    So on logits without any preference korbert's best answer is at least as good; with places enough it is the same.
    """
    some = pair.asked[::40]
    wanted = {question.id for _, question in some}
    rows = [row for row, window in enumerate(pair.windows) if window.question_id in wanted]
    windows = [pair.windows[row] for row in rows]
    said = logits(windows, "noise")
    features = {name: [column[row] for row in rows] for name, column in pair.validation.items()}
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

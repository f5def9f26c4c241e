"""The KorQuAD ceiling: what a reader scores that always points at the best tokens where the answer was annotated.

That is where training tells it to point. The official score counts the same words elsewhere in a paragraph, too, so
that luck can add some points, most with tokens that are whole eojeol. Fair across vocabularies, because the question
is the same for all: which characters can be pointed at? It says nothing about how hard that is to learn; a tokenizer of
single characters has a ceiling of 100 and long sequences.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from korbert.data.korquad import KorquadDataset
from korbert.metrics import QuestionScore, score_question
from korbert.text import Span, place_of, span_edges
from korbert.tokenizers import Tokenizer, Tokens

# In the manner of kortok's changed script (arXiv 2010.02534): particles at the end of gold and prediction go.
_JOSA = re.compile(
    "(?:에서는|으로는|에게서|이라는|에서|에게|으로|부터|까지|이다|라는|에는|은|는|이|가|을|를|의|에|로|와|과|도|만)$"
)


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Means over questions, in percent. at_boundary: answers that begin and end where tokens do."""

    exact_match: float
    f1: float
    at_boundary: float
    start_at_boundary: float
    end_at_boundary: float
    questions: int


def best_span(tokens: Tokens, text: str, start: int, end: int, score: Callable[[str], QuestionScore]) -> QuestionScore:
    """The best exact match and the best F1 of spans of tokens at the answer `[start, end)`, each on its own.

    Spans are those whose ends are at most a token off the tightest ones around the answer. An answer without a token
    scores 0.
    """
    first = place_of(tokens.ends, start, "right")
    last = place_of(tokens.starts, end, "left")  # exclusive
    best_match = best_f1 = 0.0
    for a in range(max(0, first - 1), min(len(tokens), first + 2)):
        for b in range(max(a + 1, last - 1), min(len(tokens), last + 1) + 1):
            found = score(text[tokens.starts[a] : tokens.ends[b - 1]])
            best_match, best_f1 = max(best_match, found.exact_match), max(best_f1, found.f1)
            if best_match == 1.0:
                return QuestionScore(best_match, best_f1)
    return QuestionScore(best_match, best_f1)


def strip_josa(text: str) -> str:
    """Text without a particle at its end, as kortok's variant of the metric compares it."""
    return _JOSA.sub("", text.strip())


def ceiling(
    dataset: KorquadDataset,
    tokenizer: Tokenizer,
    entities: Callable[[str], tuple[Span, ...]] | None = None,
    without_josa: bool = False,
) -> Ceiling:
    """Measure over all questions; every context is tokenized once.

    entities: where tokens are cut as well, the entities of a context. without_josa: particles are stripped off gold
    answers and predictions before the official metric; not to be compared with the official figures.
    """
    change = strip_josa if without_josa else str
    scores: list[QuestionScore] = []
    starts_fit: list[bool] = []
    ends_fit: list[bool] = []
    both_fit: list[bool] = []
    for context, tokens, answers in _tokenized(dataset, tokenizer, entities):
        token_starts, token_ends = set(tokens.starts.tolist()), set(tokens.ends.tolist())
        for spans in answers:
            gold = [change(context[start:end]) for start, end in spans]
            found = [
                best_span(tokens, context, start, end, lambda said, gold=gold: score_question(change(said), gold))  # type: ignore[misc]
                for start, end in spans
            ]
            scores.append(QuestionScore(max(f.exact_match for f in found), max(f.f1 for f in found)))
            starts_fit.append(any(start in token_starts for start, _ in spans))
            ends_fit.append(any(end in token_ends for _, end in spans))
            both_fit.append(any(start in token_starts and end in token_ends for start, end in spans))
    return Ceiling(
        exact_match=100 * float(np.mean([score.exact_match for score in scores])),
        f1=100 * float(np.mean([score.f1 for score in scores])),
        at_boundary=100 * float(np.mean(both_fit)),
        start_at_boundary=100 * float(np.mean(starts_fit)),
        end_at_boundary=100 * float(np.mean(ends_fit)),
        questions=len(scores),
    )


def _tokenized(
    dataset: KorquadDataset, tokenizer: Tokenizer, entities: Callable[[str], tuple[Span, ...]] | None
) -> Iterator[tuple[str, Tokens, list[list[tuple[int, int]]]]]:
    """Each context, its tokens, and the spans of each question's answers."""
    for article in dataset.articles:
        for paragraph in article.paragraphs:
            found = entities(paragraph.context) if entities else ()
            tokens = tokenizer.encode(paragraph.context, span_edges(paragraph.context, found))
            answers = [[(a.start, a.start + len(a.text)) for a in q.answers] for q in paragraph.questions]
            yield paragraph.context, tokens, answers

"""How fast tokenizers are beside Hugging Face's fast ones, or beside the analyser they are made of, interleaved.

All read the same paragraphs, on one core: seconds are processor time, and Hugging Face's threads are limited to one.
What is compared is what a user would get: both in batches, which suit them best, korbert a text at a time as well (and
with an analyser only so). Each kind of work has a tokenizer of its own, which has read the shares of the rounds before
(in the median round, half of the paragraphs) and nothing of this one: what korbert remembers of words is worth as much
as on a small corpus, less than on a large one. A paragraph that comes twice in the corpus comes twice here.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from korbert.config import BenchmarkConfig
from korbert.data.corpus import read_documents
from korbert.errors import ConfigError, KorbertError
from korbert.tasks.prepare import corpus_files, named_tokenizer, prepare_tokenizer
from korbert.tasks.runs import finish_run, kept, start_run
from korbert.tokenizers import SentencePieceTokenizer, load_tokenizer
from korbert.tokenizers.conversion import sentencepiece_model
from korbert.tokenizers.trained import TrainedTokenizer

log = logging.getLogger(__name__)
_BATCH = 1000
_OURS = "korbert"
Work = Callable[[Sequence[str]], object]


def benchmark_tokenizers(config: BenchmarkConfig) -> dict[str, Any]:
    """Measure every tokenizer of `config.tokenizers`, write the record, and return it."""
    os.environ["RAYON_NUM_THREADS"] = "1"  # before tokenizers is imported
    contenders = {name: _contenders(name, config) for name in config.tokenizers}
    folder = start_run(config)
    texts = list(itertools.islice(_paragraphs(config), config.paragraphs))
    rows = []
    for name, works in contenders.items():
        rows += kept(config, name, functools.partial(measure, name, works, texts, config.rounds))
    return finish_run(folder, "benchmark", config, {"suite": config.suite, "tokenizers": rows})


def _paragraphs(config: BenchmarkConfig) -> Any:
    for path in corpus_files(config.corpus, config.data):
        for document in read_documents(path):
            yield from document


def _contenders(name: str, config: BenchmarkConfig) -> dict[str, dict[str, Work]]:
    """Kind of work → contender → what it does with some texts; korbert is one of each."""
    path = prepare_tokenizer(named_tokenizer(name), config.corpus, config.data)
    tokenizer = load_tokenizer(path)
    assert isinstance(tokenizer, TrainedTokenizer)
    analyser = tokenizer.pretokenizer.analyser
    if analyser is not None:
        alone = {_OURS: _each(tokenizer.encode), f"{analyser.name} alone": _each(analyser.parse)}
        return {"ids and spans": alone}
    if not isinstance(tokenizer, SentencePieceTokenizer):
        raise ConfigError(f"tokenizers: {name!r}: wanted a SentencePiece strategy or one with an analyser")
    theirs = functools.partial(hugging_face(tokenizer), add_special_tokens=False)
    alone = tokenizer.processor.encode  # what is left to gain: nothing around it, not even the normaliser
    return {
        "ids": {
            _OURS: _in_batches(load_tokenizer(path).encode_ids_all),
            "korbert, a text at a time": _each(tokenizer.encode_ids),
            "Hugging Face": _in_batches(theirs),
            "SentencePiece alone": _each(lambda text: alone(f" {text}")),
        },
        "ids and spans": {
            _OURS: _in_batches(load_tokenizer(path).encode_all),
            "korbert, a text at a time": _each(tokenizer.encode),
            "Hugging Face": _in_batches(functools.partial(theirs, return_offsets_mapping=True)),
        },
    }


def _in_batches(encode: Callable[[list[str]], object]) -> Work:
    def work(texts: Sequence[str]) -> None:
        for first in range(0, len(texts), _BATCH):
            encode(list(texts[first : first + _BATCH]))

    return work


def _each(encode: Callable[[str], object]) -> Work:
    def work(texts: Sequence[str]) -> None:
        for text in texts:
            encode(text)

    return work


def hugging_face(tokenizer: SentencePieceTokenizer) -> Any:
    """The same SentencePiece model as a fast tokenizer of transformers.

    Raises KorbertError without transformers.
    """
    try:
        from tokenizers import Tokenizer, pre_tokenizers
        from transformers import PreTrainedTokenizerFast
    except ImportError:
        raise KorbertError("the benchmark compares with Hugging Face: pip install -e '.[hf]'") from None
    made = Tokenizer(sentencepiece_model(tokenizer, with_special=False))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    return PreTrainedTokenizerFast(tokenizer_object=made)


def measure(name: str, kinds: dict[str, dict[str, Work]], texts: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """One row for each contender: megabytes a second, and how much faster korbert is, medians of the rounds.

    A round gives everyone the same share of the texts, one after the other; the first share warms up.
    """
    shares = [list(texts[number :: rounds + 1]) for number in range(rounds + 1)]
    sizes = [sum(len(text.encode("utf-8", "surrogatepass")) for text in share) / 1e6 for share in shares]
    speeds: dict[tuple[str, str], list[float]] = {(kind, who): [] for kind, works in kinds.items() for who in works}
    for number, (share, size) in enumerate(zip(shares, sizes, strict=True)):
        for kind, works in kinds.items():
            for who, work in works.items():
                began = time.process_time()
                work(share)
                speeds[kind, who].append(size / (time.process_time() - began))
        log.info("%s  round %d of %d", name, number, rounds)
    return [
        {
            "tokenizer": name,
            "what": kind,
            "contender": who,
            "megabytes_per_second": statistics.median(speed[1:]),
            "korbert_is_faster_by": statistics.median(
                a / b for a, b in zip(speeds[kind, _OURS][1:], speed[1:], strict=True)
            ),
        }
        for (kind, who), speed in speeds.items()
    ]

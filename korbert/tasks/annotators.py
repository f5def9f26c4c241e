"""Comparing annotators: gold names, KorQuAD's answers, speed, and what cutting at their entities does to a ceiling."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from korbert.comparison.annotation import agreement, answer_shares
from korbert.comparison.ceiling import ceiling
from korbert.comparison.speed import rate
from korbert.config import AnnotatorsConfig, expand_root
from korbert.data.korquad import KorquadDataset, read_korquad
from korbert.data.ner import read_ner_documents, split_documents
from korbert.entities import EntityAnnotator, make_annotator
from korbert.errors import ConfigError, KorbertError
from korbert.metrics import as_row
from korbert.tasks.prepare import named_tokenizer, prepare_tokenizer
from korbert.tasks.runs import finish_run, run_once, start_run
from korbert.text import AnnotatedText
from korbert.tokenizers import Tokenizer, load_tokenizer

log = logging.getLogger(__name__)


@run_once
def evaluate_annotators(config: AnnotatorsConfig) -> dict[str, Any]:
    """Measure every annotator, write the record, show the tables, and return the record.

    An annotator that cannot be had, for want of a package, say, is named with what is wanting, and the others go on.
    """
    if not config.annotators:
        raise ConfigError("annotators: wanted at least one, e.g. annotators=[mecab]")
    corpora = {name: gold_sentences(path, config) for name, path in config.corpora.items()}
    dataset = read_korquad(Path(expand_root(config.korquad, config.data)))
    folder = start_run(config)
    tokenizers = {
        name: load_tokenizer(prepare_tokenizer(named_tokenizer(name), config.corpus, config.data))
        for name in config.tokenizers
    }
    names, answers, ceilings = [], [], []
    left_out: dict[str, str] = {}
    for annotator_name in config.annotators:
        log.info("%s", annotator_name)
        try:
            annotator = make_annotator(expand_root(annotator_name, config.data), cache=config.data.cache)
            names += _against_gold(annotator_name, annotator, corpora)
            answers.append(_against_answers(annotator_name, annotator, dataset, config))
            ceilings += _ceilings(annotator_name, annotator, dataset, tokenizers)
        except KorbertError as error:
            left_out[annotator_name] = str(error)
            log.warning("%s is left out: %s", annotator_name, error)
    if not names and not answers:
        raise KorbertError("; ".join(f"{name}: {why}" for name, why in left_out.items()))
    results = {"gold names": names, "KorQuAD answers": answers, "ceilings": ceilings, "left out": left_out}
    _show({title: rows for title, rows in results.items() if isinstance(rows, list)})
    return finish_run(folder, "evaluate_annotators", config, results)


def gold_sentences(path: str, config: AnnotatorsConfig) -> list[AnnotatedText]:
    """The held-out documents of a corpus with gold names; all of them where `held_out` is 1."""
    sentences = read_ner_documents(Path(expand_root(path, config.data)))
    if config.held_out >= 1:
        return [sentence for _, sentence in sentences]
    return split_documents(sentences, config.held_out)[1]


def _against_gold(
    name: str, annotator: EntityAnnotator, corpora: dict[str, list[AnnotatedText]]
) -> list[dict[str, Any]]:
    rows = []
    for corpus, sentences in corpora.items():
        rows.append({"annotator": name, "corpus": corpus, **as_row(agreement(annotator, sentences))})
    return rows


def _against_answers(
    name: str, annotator: EntityAnnotator, dataset: KorquadDataset, config: AnnotatorsConfig
) -> dict[str, Any]:
    contexts = [paragraph.context for article in dataset.articles for paragraph in article.paragraphs]
    characters_by_byte = sum(map(len, contexts)) / sum(len(context.encode()) for context in contexts)
    speed = rate(annotator.annotate, contexts, config.speed_seconds)
    shares = asdict(answer_shares(annotator, dataset))
    return {"annotator": name, **shares, "thousand_characters_per_second": 1e3 * speed * characters_by_byte}


def _ceilings(
    name: str, annotator: EntityAnnotator, dataset: KorquadDataset, tokenizers: dict[str, Tokenizer]
) -> list[dict[str, Any]]:
    found = {
        paragraph.context: annotator.annotate(paragraph.context).entities
        for article in dataset.articles
        for paragraph in article.paragraphs
    }
    rows = []
    for tokenizer_name, tokenizer in tokenizers.items():
        measured = ceiling(dataset, tokenizer, found.__getitem__)
        scores = {"oracle EM": measured.exact_match, "oracle F1": measured.f1}
        rows.append({"annotator": name, "tokenizer": tokenizer_name, **scores})
    return rows


def _show(tables: dict[str, list[dict[str, Any]]]) -> None:
    console = Console(markup=False)
    if not console.is_terminal:
        console = Console(markup=False, width=140)
    for title, rows in tables.items():
        if rows:
            made = Table(*dict.fromkeys(key for row in rows for key in row), title=title, title_justify="left")
            columns = list(dict.fromkeys(key for row in rows for key in row))
            for row in rows:
                made.add_row(*(_cell(row.get(column, "")) for column in columns))
            console.print(made)


def _cell(value: Any) -> str:
    return f"{value:,.1f}" if isinstance(value, float) else str(value)

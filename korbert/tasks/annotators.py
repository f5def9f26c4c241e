"""Comparing annotators: gold names, KorQuAD's answers, speed, and what cutting at their entities does to a ceiling."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from korbert.comparison.annotation import agreement, answer_shares
from korbert.comparison.ceiling import ceiling
from korbert.comparison.speed import rate
from korbert.config import AnnotatorsConfig, TokenizerConfig, expand_root, path_in_settings
from korbert.data.korquad import KorquadDataset, read_korquad
from korbert.data.ner import known_among, read_ner_documents, split_documents
from korbert.entities import EntityAnnotator, annotator_files, make_annotator
from korbert.errors import ConfigError, DataError, KorbertError
from korbert.metrics import as_row
from korbert.tasks.prepare import named_tokenizer, prepare_tokenizer
from korbert.tasks.runs import finish_run, kept, run_once, start_run
from korbert.text import AnnotatedText
from korbert.tokenizers import Tokenizer, load_tokenizer
from korbert.training.bundle import task_of

_MOST_KNOWN = 0.01  # of the sentences that count; some are alike by chance
log = logging.getLogger(__name__)


@run_once
def evaluate_annotators(config: AnnotatorsConfig) -> dict[str, Any]:
    """Measure every annotator, write the record, show the tables, and return the record.

    What is wrong with the settings or the files that they name is said before anything is measured. An annotator that
    lacks a package is named with what is wanting, and the others go on. What was measured before an interruption is
    kept.
    """
    chosen = _checked_tokenizers(config)
    corpora = {name: gold_sentences(path, config) for name, path in config.corpora.items()}
    for name, sentences in corpora.items():
        if not any(sentence.entities for sentence in sentences):
            raise ConfigError(f"corpora.{name}: {config.corpora[name]} has no entity in the sentences that count")
    dataset = read_korquad(Path(expand_root(config.korquad, config.data)))
    left_out: dict[str, str] = {}
    for name in config.annotators:
        _refuse_known(name, corpora, config)
        with _leaving_out(name, left_out):
            _annotator(name, config).annotate("")  # reads its files
    folder = start_run(config)
    tokenizers = {
        name: load_tokenizer(prepare_tokenizer(tokenizer, config.corpus, config.data))
        for name, tokenizer in chosen.items()
    }
    tables: dict[str, list[dict[str, Any]]] = {"gold names": [], "KorQuAD answers": [], "ceilings": []}
    for name in config.annotators:
        if name in left_out:
            continue
        log.info("%s", name)
        with _leaving_out(name, left_out):
            annotator = _annotator(name, config)
            measure = functools.partial(_measured, name, annotator, corpora, dataset, tokenizers, config)
            for title, rows in kept(config, [name, annotator.fingerprint], measure).items():
                tables[title] += rows
    if not any(tables.values()):
        raise KorbertError("; ".join(f"{name}: {why}" for name, why in left_out.items()))
    _show(tables)
    return finish_run(folder, "evaluate_annotators", config, {**tables, "left out": left_out})


def _checked_tokenizers(config: AnnotatorsConfig) -> dict[str, TokenizerConfig]:
    """The tokenizers by name. Raises ConfigError for settings that cannot be."""
    if not config.annotators:
        raise ConfigError("annotators: wanted at least one, e.g. annotators=[mecab]")
    for key, names in (("annotators", config.annotators), ("tokenizers", config.tokenizers)):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise ConfigError(f"{key}: wanted each of them once, got {', '.join(twice)} more than once")
    return {name: named_tokenizer(name) for name in config.tokenizers}


def _refuse_known(name: str, corpora: dict[str, list[AnnotatedText]], config: AnnotatorsConfig) -> None:
    """Raise ConfigError where a tagger has learned from sentences that count, as far as its corpora are here."""
    for run in annotator_files(expand_root(name, config.data)):
        used = task_of(Path(run)) if Path(run).is_dir() else {}
        files = [path_in_settings(corpus["file"], config.data) for corpus in used.get("corpora", {}).values()]
        documents = [read_ner_documents(path) for path in files if path.is_file()]
        learned = [sentence for of_file in documents for sentence in split_documents(of_file, used["held_out"])[0]]
        for corpus, sentences in corpora.items():
            known = known_among(learned, sentences)
            if known > _MOST_KNOWN * len(sentences):
                raise ConfigError(
                    f"corpora.{corpus}: {name} has learned from {known} of the {len(sentences)} sentences that count; "
                    f"it has held out a share of {used['held_out']}: give held_out={used['held_out']}, or less"
                )
            if known:
                log.warning("%s has learned from %d of the %d sentences of %s", name, known, len(sentences), corpus)


def _annotator(name: str, config: AnnotatorsConfig) -> EntityAnnotator:
    return make_annotator(expand_root(name, config.data), cache=config.data.cache)


@contextlib.contextmanager
def _leaving_out(name: str, left_out: dict[str, str]) -> Iterator[None]:
    """Note, and go on, where an annotator cannot be had here; a wrong name or file is an error."""
    try:
        yield
    except (ConfigError, DataError):
        raise
    except KorbertError as error:
        left_out[name] = str(error)
        log.warning("%s is left out: %s", name, error)


def _measured(
    name: str,
    annotator: EntityAnnotator,
    corpora: dict[str, list[AnnotatedText]],
    dataset: KorquadDataset,
    tokenizers: dict[str, Tokenizer],
    config: AnnotatorsConfig,
) -> dict[str, list[dict[str, Any]]]:
    """One annotator's rows of each table."""
    return {
        "gold names": _against_gold(name, annotator, corpora),
        "KorQuAD answers": [_against_answers(name, annotator, dataset, config)],
        "ceilings": _ceilings(name, annotator, dataset, tokenizers),
    }


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
    # Articles, as a corpus has them: all paragraphs of a document are annotated together.
    articles = ["\n".join(paragraph.context for paragraph in article.paragraphs) for article in dataset.articles]
    bytes_ = sum(len(article.encode("utf-8", "surrogatepass")) for article in articles)
    characters_by_byte = sum(map(len, articles)) / bytes_
    speed = rate(lambda article: annotator.annotate_all(article.split("\n")), articles, config.speed_seconds)
    shares = asdict(answer_shares(annotator, dataset))
    speeds = {"thousand_characters_per_second": 1e3 * speed * characters_by_byte, "megabytes_per_second": speed}
    return {"annotator": name, **shares, **speeds}


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

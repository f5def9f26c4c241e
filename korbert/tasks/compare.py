"""Comparing tokenizers: every strategy on the same texts, one row each, resumable, with a page to look at."""

from __future__ import annotations

import io
import json
import logging
import statistics
from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from korbert.comparison.ceiling import ceiling
from korbert.comparison.cost import cost
from korbert.comparison.figures import recommend, summaries
from korbert.comparison.linguistics import boundary_agreement, consistency, entity_cuts
from korbert.comparison.report import as_csv, as_html, as_latex, as_markdown, as_rich
from korbert.comparison.speed import speed
from korbert.config import CompareConfig, TokenizerConfig, as_override, expand_root, expand_roots
from korbert.data.korquad import read_korquad
from korbert.data.ner import read_ner
from korbert.entities import make_annotator
from korbert.errors import ConfigError, DataError, KorbertError, check_all_known
from korbert.files import digest, matching, read_text, write_text_atomically, writing
from korbert.lines import json_line
from korbert.morphology import Analyser, RememberingAnalyser, make_analyser
from korbert.study.results import make_stamp
from korbert.tasks.finetune import finetune_korquad
from korbert.tasks.prepare import (
    corpus_files,
    corpus_identity,
    is_path,
    named_tokenizer,
    prepare_tokenizer,
    training_of,
)
from korbert.tasks.pretrain import pretrain
from korbert.tasks.runs import as_dict, finish_run, run_once, start_run
from korbert.tasks.stages import stage
from korbert.text import NORMALISATION, Span
from korbert.tokenizers import KINDS, Tokenizer, load_tokenizer
from korbert.tokenizers.trained import TrainedTokenizer

MEASURES = ("cost", "ceiling", "boundaries", "names", "consistency", "speed", "downstream")
_ROWS = "results.jsonl"
_USUAL_NAMES = (  # of files that are named after what is around them
    "vocab.txt", "tokenizer.json", "spm.model", "spiece.model", "tokenizer.model", "sentencepiece.model",
    "sentencepiece.bpe.model",
)  # fmt: skip
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A tokenizer to compare, not yet trained."""

    name: str
    config: TokenizerConfig


@run_once
def compare_tokenizers(config: CompareConfig) -> dict[str, Any]:
    """Measure every tokenizer that has no row yet, write tables and the page, and return the run's record.

    A tokenizer that cannot be had, for want of a package, say, is named with what is wanting, and the others go on.
    """
    check_all_known("measures", config.measures, MEASURES)
    candidates = all_named(config)
    materials = Materials(config)
    folder = start_run(config, again="compare_tokenizers")
    rows = read_rows(folder / _ROWS)
    for other in config.include:
        for path in matching(str(Path(other) / _ROWS)) or [Path(other) / _ROWS]:
            rows |= read_rows(path, must_exist=True)
    current = {f"{kind.rules}/{NORMALISATION}" for kind in KINDS.values()}
    stale = {key for key, row in rows.items() if "encoding" in row and row["encoding"] not in current}
    if stale:
        log.warning("%d rows are of a version that encodes otherwise, and do not count", len(stale))
        rows = {key: row for key, row in rows.items() if key not in stale}
    shown: dict[str, dict[str, Any]] = {
        key[0]: row for key, row in rows.items() if config.include and key[1] == materials.settings
    }
    failed: dict[str, str] = {}
    wanting: list[str] = []  # names of what may be had another time
    measured: dict[str, str] = {}  # fingerprint → name
    with _progress() as progress:
        bar = progress.add_task("", total=len(candidates))
        for candidate in candidates:
            progress.update(bar, description=candidate.name)
            try:
                prepared = prepare_tokenizer(candidate.config, config.corpus, config.data)
                tokenizer = load_tokenizer(prepared)
                if (same := measured.setdefault(tokenizer.fingerprint, candidate.name)) != candidate.name:
                    raise ConfigError(f"it is the same tokenizer as {same}, to the last entry")
                key = (tokenizer.fingerprint, materials.settings)
                earlier = rows.get(key)
                if missing := materials.missing(earlier):
                    rows[key] = make_row(candidate, tokenizer, prepared, materials, missing, earlier)
                    _append(folder / _ROWS, rows[key])
                shown.setdefault(tokenizer.fingerprint, rows[key])
            except KorbertError as error:
                failed[candidate.name] = str(error)
                if not isinstance(error, ConfigError):
                    wanting.append(candidate.name)
                log.warning("%s is left out: %s", candidate.name, error)
            progress.advance(bar)
    left_out = len(rows) - sum(key[1] == materials.settings for key in rows)
    reasons = [f"{name}: {why}" for name, why in failed.items()]
    if left_out:
        reasons.append(f"{left_out} rows were measured on other texts or in another way, and are not shown")
        log.warning("%s", reasons[-1])
    if not shown:
        raise KorbertError(f"no tokenizer was measured: {'; '.join(reasons) or 'none is named, nor any earlier row'}")
    return _report(folder, config, list(shown.values()), failed, wanting)


def all_named(config: CompareConfig) -> list[Candidate]:
    """The tokenizers that are asked for; published ones go by their whole path where the end of it does not tell."""
    found = [candidate for name in config.tokenizers for candidate in named(name, config)]
    names = Counter(candidate.name for candidate in found)
    return [
        replace(one, name=str(one.config.path)) if names[one.name] > 1 and one.config.path else one for one in found
    ]


def named(name: str, config: CompareConfig) -> list[Candidate]:
    """The tokenizers that an entry of `tokenizers` means: one for each size.

    Raises ConfigError for a path where nothing is.
    """
    if is_path(name):
        path = Path(name)
        if not path.exists():
            raise ConfigError(f"tokenizers: {name}: no such file or folder")
        called = path.resolve().parent.name if path.name in _USUAL_NAMES else path.name
        return [Candidate(called, named_tokenizer(name))]
    names = [name] if "@" in name else [f"{name}@{size}" for size in config.vocab_sizes]
    return [Candidate(one, named_tokenizer(one)) for one in names]


class Materials:
    """What all tokenizers are measured on; each text is read, annotated and analysed once."""

    def __init__(self, config: CompareConfig) -> None:
        self.config = config
        names = [name for name in (config.korquad, config.ner) if name is not None]
        self._files = [Path(name) for name in expand_roots(names, config.data)]
        self.dataset = read_korquad(self._files[0])
        self.contexts = [paragraph.context for article in self.dataset.articles for paragraph in article.paragraphs]
        self.sentences = [] if config.ner is None else read_ner(self._files[1])  # with gold names
        self.annotator = make_annotator(expand_root(config.annotator, config.data), cache=config.data.cache)
        # Finds the morphemes that boundaries are compared with.
        self.analyser: Analyser = RememberingAnalyser(make_analyser(config.analyser, "analyser"))

    @cached_property
    def settings(self) -> str:
        """Changes whenever a row could not be compared with another one's any more."""
        config = self.config
        keys = ["words", "lengths", "hidden_size", "speed_seconds", "processes", "examples"]
        chosen = {key: value for key, value in as_dict(config).items() if key in keys}
        cache = Path(config.data.cache)
        version = self.analyser.version
        if "+" not in version:  # no dictionary's, but that of a package, which may have several analysers
            version = f"{self.analyser.name}-{version}"
        return digest([chosen, corpus_identity(self._files, cache), version, self.annotator.fingerprint])

    @cached_property
    def measures(self) -> dict[str, str]:
        """What is to be measured; with each measure, what it alone depends on."""
        downstream = ""
        if "downstream" in self.config.measures:  # its models learn from the corpus, too, which may be large
            cache = Path(self.config.data.cache)
            corpus = {key: value for key, value in asdict(self.config.corpus).items() if key != "files"}
            files = corpus_identity(corpus_files(self.config.corpus, self.config.data), cache)
            downstream = digest([as_dict(self.config)["downstream"], corpus, files])
        return {measure: downstream if measure == "downstream" else "" for measure in self.config.measures}

    def missing(self, row: dict[str, Any] | None) -> dict[str, str]:
        """The measures that a tokenizer's row does not have."""
        known = {} if row is None else row["measures"]
        return {measure: how for measure, how in self.measures.items() if known.get(measure) != how}

    @cached_property
    def words(self) -> list[str]:
        """The most frequent eojeol of the contexts."""
        counts = Counter(word for context in self.contexts for word in context.split())
        return sorted(counts, key=lambda word: (-counts[word], word))[: self.config.words]

    @cached_property
    def entities(self) -> Callable[[str], tuple[Span, ...]]:
        """Entities of a text."""

        @cache
        def find(text: str) -> tuple[Span, ...]:
            return self.annotator.annotate(text).entities

        return find


def encoding_of(tokenizer: Tokenizer) -> str:
    """What the code does with the tokenizer's texts that its fingerprint does not say."""
    return f"{tokenizer.rules}/{NORMALISATION}"


def make_row(
    candidate: Candidate,
    tokenizer: Tokenizer,
    folder: Path,
    materials: Materials,
    measures: dict[str, str],
    earlier: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Measure one tokenizer: what it is, when and where it was measured, and the results by measure.

    earlier: its row, to which these measures are added.
    """
    results = {}
    analyser: RememberingAnalyser | None = None
    pretokenizer = tokenizer.pretokenizer if isinstance(tokenizer, TrainedTokenizer) else None
    if "speed" in measures:  # first, before anything is remembered
        config = materials.config
        results["speed"] = asdict(speed(tokenizer, folder, materials.contexts, config.processes, config.speed_seconds))
    if pretokenizer is not None and pretokenizer.analyser is not None:
        analyser = pretokenizer.analyser = RememberingAnalyser(pretokenizer.analyser)
    for measure, found in _measured(tokenizer, materials, measures):
        results[measure] = asdict(found)
        if measure == "cost" and analyser is not None:
            lost = analyser.unaligned
            results["alignment"] = {"morphemes": analyser.found + lost, "unaligned": lost}
    if "downstream" in measures:
        results["downstream"] = downstream(candidate.name, tokenizer, folder, materials)
    row = {
        "name": candidate.name,
        "fingerprint": tokenizer.fingerprint,
        "encoding": encoding_of(tokenizer),
        "settings": materials.settings,
        "measures": {**(earlier["measures"] if earlier else {}), **measures},
        **make_stamp(),
        "earlier": [{key: earlier[key] for key in ("date", "commit", "hardware")}, *earlier["earlier"]]
        if earlier
        else [],
        "tokenizer": asdict(candidate.config),
        "vocabulary": len(tokenizer),
        "training": training_of(tokenizer, folder),
        "results": {**(earlier["results"] if earlier else {}), **results},
        "examples": [_example(text, tokenizer, materials) for text in materials.config.examples],
    }
    return json.loads(json.dumps(row))  # as it will be read again


def _measured(tokenizer: Tokenizer, materials: Materials, measures: Container[str]) -> Iterator[tuple[str, Any]]:
    config = materials.config
    if "cost" in measures:
        yield "cost", cost(tokenizer, materials.contexts, config.lengths, config.hidden_size)
    if "ceiling" in measures:
        yield "ceiling", ceiling(materials.dataset, tokenizer)
        yield "ceiling_at_entities", ceiling(materials.dataset, tokenizer, materials.entities)
        yield "ceiling_without_josa", ceiling(materials.dataset, tokenizer, without_josa=True)
    if "boundaries" in measures:
        yield "boundaries", boundary_agreement(materials.contexts, tokenizer, materials.analyser)
    if "names" in measures and materials.sentences:
        yield "names", entity_cuts(materials.sentences, tokenizer)
    if "consistency" in measures:
        yield "consistency", consistency(materials.words, tokenizer, materials.analyser)


def downstream(name: str, tokenizer: Tokenizer, folder: Path, materials: Materials) -> dict[str, Any]:
    """EM and F1 of models that differ in the tokenizer alone, over seeds; finished runs are not made again.

    Fair across vocabularies, because all see as many characters of text, not tokens, in models of the same size but for
    the embedding table. Sequences have the same length in tokens, so a tokenizer that cuts small sees less at a time.
    """
    config = materials.config
    chosen = config.downstream
    by_character = cost(tokenizer, materials.contexts).per_character
    found = []
    for seed in chosen.seeds:
        which = f"{name.replace('/', '_')}-{tokenizer.identity}-{NORMALISATION}-seed{seed}"
        runs = Path(config.run_dir) / "downstream" / which
        shared: dict[str, Any] = {"seed": seed, "data": config.data, "runtime": config.runtime}
        tokens = f"train.tokens={round(chosen.characters * by_character)}"
        pretraining = stage(
            "pretrain", [*chosen.pretraining, as_override("tokenizer.path", str(folder)), tokens], **shared,
            corpus=config.corpus, run_dir=str(runs / "pretrain"),
        )  # fmt: skip
        pretrain(pretraining)
        finetuning = stage(
            "finetune_korquad", chosen.finetuning, **shared, init=pretraining.run_dir, run_dir=str(runs / "finetune")
        )
        found.append(finetune_korquad(finetuning)["results"])
    return {
        "protocol": found[0]["protocol"],
        "seeds": chosen.seeds,
        **{key: statistics.mean(result[key] for result in found) for key in ("exact_match", "f1")},
        "runs": [{key: result[key] for key in ("exact_match", "f1")} for result in found],
    }


def _example(text: str, tokenizer: Tokenizer, materials: Materials) -> dict[str, Any]:
    tokens = tokenizer.encode(text)
    return {
        "text": text,
        "tokens": [
            [start, end, token == tokenizer.special.unk]
            for token, start, end in zip(tokens.ids.tolist(), tokens.starts.tolist(), tokens.ends.tolist(), strict=True)
        ],
        "entities": [[span.start, span.end] for span in materials.entities(text)],
    }


def read_rows(path: Path, must_exist: bool = False) -> dict[tuple[str, str], dict[str, Any]]:
    """Rows by fingerprint and settings, the last of each; a last line that was cut off in writing is none.

    Raises DataError naming another line that is no row, and a missing file where it `must_exist`.
    """
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    if not path.exists() and not must_exist:
        return rows
    lines = list(io.StringIO(read_text(path)))  # unlike splitlines, at line feeds alone: a text may hold others
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            rows[row["fingerprint"], row["settings"]] = row
        except (json.JSONDecodeError, TypeError, KeyError) as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise DataError(path, f"line {number}", f"is no row of a comparison ({error})") from None
    return rows


def _append(path: Path, row: dict[str, Any]) -> None:
    """Add a row; what a killed run left of its last one goes first."""
    whole = read_text(path) if path.exists() else ""
    if not whole.endswith("\n"):
        write_text_atomically(path, whole[: whole.rfind("\n") + 1])
    with writing(path), path.open("a", encoding="utf-8") as file:
        file.write(json_line(row))


def _report(
    folder: Path, config: CompareConfig, rows: list[dict[str, Any]], failed: dict[str, str], wanting: list[str]
) -> dict[str, Any]:
    files = {
        "table.md": as_markdown(rows),
        "table.csv": as_csv(rows),
        "table.tex": as_latex(rows),
        "report.html": as_html(rows, failed),
    }
    for name, content in files.items():
        write_text_atomically(folder / name, content)
    console = Console(markup=False)  # a name may have brackets
    if not console.is_terminal:
        console = Console(markup=False, width=120)
    for table in as_rich(rows):
        console.print(table)
    for sentence in recommend(rows):
        console.print(sentence, highlight=False)
    for name, why in failed.items():
        console.print(f"left out: {name}: {why}", highlight=False)
    log.info("page: %s", folder / "report.html")
    results = {
        "tokenizers": summaries(rows),
        "advice": " ".join(recommend(rows)),
        "left_out": failed,
        "missing": wanting,
    }
    return finish_run(folder, "compare_tokenizers", config, results, files=[_ROWS, *files])


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description:32}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True)

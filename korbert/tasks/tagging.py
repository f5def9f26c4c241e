"""Training a tagger for named entities, from corpora with gold entities to its scores on documents held out."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from korbert.config import TaggerConfig, expand_root
from korbert.data.batching import BatchStream, FixedSource, collate_tagged
from korbert.data.loading import BatchLoader
from korbert.data.ner import known_among, read_ner_documents, split_documents
from korbert.data.tagging import TaggedWindow, TagMaker, bio_tags, mapped
from korbert.encoding import EntityInput, EntityMode
from korbert.errors import ConfigError
from korbert.files import METRICS, SESSIONS, plain_name, write_text_atomically
from korbert.lines import json_line
from korbert.metrics import as_row, score_entities
from korbert.model import TaggerModel
from korbert.tagger import tag
from korbert.tasks.runs import described, finish_run, fixed_config, run_once, start_run
from korbert.tasks.starting import model_sizes, starting_point, take_over
from korbert.text import AnnotatedText, Span
from korbert.tokenizers import load_tokenizer
from korbert.training.bundle import Description, begin_model
from korbert.training.loop import Trainer
from korbert.training.runtime import make_runtime, seed_everything
from korbert.training.tracking import Tracker

log = logging.getLogger(__name__)
Sides = dict[str, tuple[list[AnnotatedText], list[AnnotatedText]]]  # corpus → what is learned from, what is held out


@run_once
def train_tagger(config: TaggerConfig) -> dict[str, Any]:
    """Run (or go on with) one training, score it on the documents held out, and return its record."""
    runtime = make_runtime(config.runtime)
    corpora = _corpora(config)
    pretrained, tokenizer_folder = starting_point(config)
    tokenizer = load_tokenizer(tokenizer_folder)
    folder = start_run(config)

    seed_everything(config.seed)
    tags = bio_tags(entity.label for sides in corpora.values() for text in sides[0] for entity in text.entities)
    model = TaggerModel(model_sizes(config, pretrained, len(tokenizer)), len(tags))
    take_over(model, pretrained, runtime, "task.tags.max_length", config.task.tags.max_length)
    maker = TagMaker(tokenizer, tags, config.task.tags)
    windows = _windows(maker, corpora, config)
    fixed: dict[str, Any] = fixed_config(config, tokenizer=tokenizer.fingerprint)
    fixed["task"]["tags"]["cut"] = maker.config.cut
    description = Description(
        "tagger", model.config, "none", EntityInput(EntityMode.NONE), config.task.tags.max_length,
        tags=tags, tagging=maker.config,
    )  # fmt: skip
    begin_model(folder, description, tokenizer_folder, fixed)
    with Tracker(folder, config.tracker, fixed) as tracker:
        trainer = Trainer(
            model,
            BatchLoader(
                [(0.0, BatchStream(FixedSource(windows), config.train.batch_size, config.seed))],
                functools.partial(collate_tagged, pad_id=tokenizer.special.pad, packed=runtime.packed),
                runtime.loader_workers,
                pin=runtime.device.type == "cuda",
            ),
            config.train,
            runtime,
            folder,
            tracker,
            fixed_config=fixed,
            seed=config.seed,
        )
        trainer.run()
        model.eval()
        scores = []
        limits = _oracle(maker, corpora)
        for name, (learned, held_out) in corpora.items():
            found = tag(maker, model, [text.text for text in held_out], runtime.device)
            score = score_entities([t.entities for t in held_out], [t.entities for t in found])
            sizes = {"sentences_learned": len(learned), "sentences": len(held_out), "boundary_oracle": limits[name]}
            scores.append({"corpus": name, **as_row(score), **sizes})
            _write_found(folder / f"{name}.jsonl", held_out, found)
            log.info("%s: boundary F1 %.2f, with types %.2f, on %d sentences held out", name, score.f1, score.typed_f1,
                     len(held_out))  # fmt: skip
        tracker.finish({f"{score['corpus']}/f1": float(score["f1"]) for score in scores})
    done = trainer.progress
    results = {
        "scores": scores, "tags": ", ".join(tags), "steps": done.step, "seconds": round(done.seconds, 1),
    }  # fmt: skip
    return finish_run(folder, "train_tagger", config, results, tokenizer=described(tokenizer))


def _corpora(config: TaggerConfig) -> Sides:
    """Each corpus's sentences to learn from, and those held out."""
    if not config.task.corpora:
        raise ConfigError("task.corpora: wanted at least one, e.g. task=ner")
    if not 0 < config.task.held_out < 1:
        raise ConfigError(f"task.held_out: wanted a share between 0 and 1, got {config.task.held_out}")
    sides = {}
    for name, corpus in config.task.corpora.items():
        plain_name(Path("task"), "corpora", name)  # of the file of what is found in it
        if f"{name}.jsonl" in (SESSIONS, METRICS):
            raise ConfigError(f"task.corpora.{name}: a run has a file {name}.jsonl of its own; choose another name")
        path = Path(expand_root(corpus.file, config.data))
        documents = read_ner_documents(path)
        unknown = corpus.types.keys() - {entity.label for _, text in documents for entity in text.entities}
        if unknown:
            raise ConfigError(f"task.corpora.{name}.types: {path} has no entity of type {', '.join(sorted(unknown))}")
        parts = split_documents(documents, config.task.held_out)
        learned, held_out = (list(mapped(part, corpus.types)) for part in parts)
        if known := known_among(learned, held_out):
            log.warning(
                "task.corpora.%s: %d of the %d sentences held out have the text of one that is learned from: scores on "
                "them say less; in .jsonl, sentences with the same \"file\" are held out together",
                name, known, len(held_out),
            )  # fmt: skip
        for side, sentences in (("to learn from", learned), ("held out", held_out)):
            if not any(sentence.entities for sentence in sentences):
                raise ConfigError(f"task.corpora.{name}: {path} has no entity in the sentences {side}")
        if corpus.repeat < 0:
            raise ConfigError(f"task.corpora.{name}.repeat: wanted 0 or more, got {corpus.repeat}")
        sides[name] = (learned, held_out)
    return sides


def _windows(maker: TagMaker, corpora: Sides, config: TaggerConfig) -> list[TaggedWindow]:
    windows = []
    for name, (learned, _) in corpora.items():
        made = [w for text in learned for w in maker.windows(maker.encode(text.text), text.entities)]
        windows += made * config.task.corpora[name].repeat
        log.info("%s: %d sentences in %d windows", name, len(learned), len(made))
    if not windows:
        raise ConfigError("task.corpora: every corpus has repeat=0, nothing is left to learn from")
    return windows


def _oracle(maker: TagMaker, corpora: Sides) -> dict[str, float]:
    """Boundary F1 of the gold tags themselves: what cutting tokens where they are cut allows at most."""
    limits = {}
    for name, (_, held_out) in corpora.items():
        found = []
        for sentence in held_out:
            encoding = maker.encode(sentence.text)
            known = [e for e in sentence.entities if f"B-{e.label}" in maker.tags]
            scores = np.full((len(encoding), len(maker.tags)), -1.0, dtype=np.float32)
            scores[np.arange(len(encoding)), maker.gold(encoding, known)] = 0.0
            found.append(maker.spans(sentence.text, encoding, scores))
        limits[name] = score_entities([sentence.entities for sentence in held_out], found).f1
    return limits


def _write_found(path: Path, gold: Sequence[AnnotatedText], found: Sequence[AnnotatedText]) -> None:
    """One sentence a line, with its entities as they are and as they were found: to look at errors."""
    lines = (
        json_line({"text": a.text, "gold": _spans(a.entities), "found": _spans(b.entities)})
        for a, b in zip(gold, found, strict=True)
    )
    write_text_atomically(path, "".join(lines))


def _spans(entities: Sequence[Span]) -> list[list[Any]]:
    return [[entity.start, entity.end, entity.label] for entity in entities]

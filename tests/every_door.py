"""Runs every door that makes something, in small, in one process: `python tests/every_door.py WORKERS` in a folder with
data/sample in it. What they make lies in runs/DOOR there, with what they print in runs/DOOR.txt."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir

from korbert.config import compose_config
from korbert.files import write_text_atomically

REPOSITORY = Path(__file__).resolve().parents[1]
SMALL_MODEL = ("model=tiny", "model.hidden_size=32", "model.num_layers=1")
QUESTIONS = "data/sample/KorQuAD_sample_dev.json"


@dataclass(frozen=True)
class Call:
    """A door: its task, its configuration, and whether it takes runtime settings and a run's folder."""

    task: str  # module:function of korbert.tasks
    config: str
    overrides: Sequence[str] = ()
    is_run: bool = True


# In an order in which each finds what it begins with.
CALLS = {
    "train_tokenizer": Call(
        "prepare:train_tokenizer_folder", "train_tokenizer",
        ("tokenizer=mecab_bpe", "tokenizer.vocab_size=1500", "output=runs/train_tokenizer"), is_run=False,
    ),
    "extract_wiki": Call("wiki:extract_wiki", "extract_wiki", ("dump=wiki.xml", "articles_per_file=40")),
    "annotate_corpus": Call(
        "annotate:annotate_corpus", "annotate_corpus", ("annotator=random-expressions-mecab+mecab", "output=true")
    ),
    "build_corpus": Call(
        "build_corpus:build_corpus", "build_corpus",
        (
            "tokenizer.path=runs/train_tokenizer", "output=runs/build_corpus/shards", "piece_characters=5000",
            "units=mecab", "filters.min_characters=1",
        ),
    ),
    "pretrain": Call(
        "pretrain:pretrain", "pretrain",
        (
            *SMALL_MODEL, "tokenizer=sentencepiece_unigram", "tokenizer.vocab_size=1200", "train.steps=3",
            "train.batch_size=8", "train.log_every=1", "train.checkpoint_every=2", "task.validation_examples=8",
            "task.masking.unit=entity", "entities.dropout=0.3", "recipe=selection",
            "task.selection.share=0.5",
        ),
    ),
    "finetune_korquad": Call(
        "finetune:finetune_korquad", "finetune_korquad",
        (
            "init=runs/pretrain", "train.epochs=null", "train.steps=3", "train.batch_size=8", "train.log_every=1",
            "task.validation_share=0.1", "entities.dropout=0.3",
        ),
    ),
    "predict_korquad": Call(
        "answering:predict_korquad", "predict_korquad", ("run=runs/finetune_korquad", "+decoding.trim_josa=mecab")
    ),
    "train_tagger": Call(
        "tagging:train_tagger", "train_tagger",
        ("init=runs/pretrain", "task=ner_sample", "train.epochs=null", "train.steps=3", "train.batch_size=8"),
    ),
    "pipeline": Call(
        "pipeline:run_pipeline", "pipeline",
        (
            "tokenizer=syllable", "tokenizer.vocab_size=600", "pretrained=runs/pipeline/pretrained",
            "pretraining=['model=tiny','model.hidden_size=32','train.steps=2','task.validation_examples=8']",
            "finetuning=['train.epochs=null','train.steps=2']",
        ),
    ),
    "lexical_baseline": Call("baseline:lexical_baseline", "lexical_baseline"),
    "compare_tokenizers": Call(
        "compare:compare_tokenizers", "compare_tokenizers",
        ("tokenizers=[jamo,wordpiece]", "measures=[cost,ceiling,boundaries,consistency]", "words=50"),
    ),
    "evaluate_annotators": Call(
        "annotators:evaluate_annotators", "evaluate_annotators",
        (
            "corpus=sample", "annotators=[mecab,random-mecab]", "~corpora",
            "+corpora.sample=data/sample/ner.jsonl",
            f"korquad={QUESTIONS}", "held_out=1", "tokenizers=[syllable@600]", "speed_seconds=0.05",
        ),
    ),
    "export_model": Call(
        "exporting:export_model", "export_model", ("run=runs/finetune_korquad", "folder=runs/export_model"),
        is_run=False,
    ),
    "evaluate_korquad": Call(
        "evaluate:evaluate_korquad", "evaluate_korquad",
        (f"dataset={QUESTIONS}", "predictions=runs/finetune_korquad/predictions.json"), is_run=False,
    ),
    "compare_predictions": Call(
        "predictions:compare_predictions", "compare_predictions",
        (
            "a=runs/finetune_korquad/predictions.json", "b=runs/lexical_baseline/predictions.json",
            f"dataset={QUESTIONS}",
        ), is_run=False,
    ),
    "report_errors": Call(
        "predictions:report_errors", "report_errors", ("run=runs/finetune_korquad", "folder=runs/report_errors"),
        is_run=False,
    ),
    "report": Call(
        "report:make_report", "report",
        (
            "runs=[runs/finetune_korquad,runs/predict_korquad,runs/lexical_baseline]", "folder=runs/report",
            "baseline=lexical_baseline",
        ), is_run=False,
    ),
}  # fmt: skip
# The others, and why two runs of them need not be the same.
OTHERS = {
    "benchmark": "measures time",
    "demo": "serves a page",
    "gpu_study": "runs pretrain, finetune_korquad and benchmark",
    "plan_run": "reckons with measured times",
    "prepare_data": "downloads what has one right content",
    "publish_results": "copies records, of which the committed pages are tested to be made",
    "quickstart": "runs pretrain and finetune_korquad",
    "reproduce": "runs finetune_korquad",
    "runs": "lists what was run, and when",
}


def overrides(name: str, call: Call, workers: int) -> list[str]:
    """All of a call's."""
    run = (
        f"run_dir=runs/{name}",
        "runtime.threads=1",
        f"runtime.workers={workers}",
        f"runtime.loader_workers={workers - 1}",
    )
    return [*(run if call.is_run else ()), *call.overrides]


def main() -> None:
    """Run all of them."""
    workers = int(sys.argv[1])
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        for name, call in CALLS.items():
            module, function = call.task.split(":")
            task: Callable[[Any], object] = getattr(importlib.import_module(f"korbert.tasks.{module}"), function)
            said = io.StringIO()
            with contextlib.redirect_stdout(said):
                task(compose_config(call.config, overrides(name, call, workers)))
            write_text_atomically(Path("runs") / f"{name}.txt", said.getvalue())


if __name__ == "__main__":
    main()

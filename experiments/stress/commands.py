"""The commands that are disturbed: each does in seconds, on a small part of the sample, what takes days elsewhere."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from nursery import REPOSITORY, Child, Nursery

Running = subprocess.Popen[bytes] | Child
SAMPLE = REPOSITORY / "data" / "sample"
_RUNTIME = ("runtime=cpu", "runtime.threads=1", "runtime.workers=1")
_TINY = (
    "model=tiny", "model.hidden_size=32", "model.num_layers=1", "model.intermediate_size=64", "train.batch_size=8",
    "task.validation_examples=8", "task.max_length=64", "task.validation_length=64", "train.log_every=1",
)  # fmt: skip
_SYLLABLES = ("tokenizer=syllable", "tokenizer.vocab_size=600")


@dataclass(frozen=True)
class Material:
    """What the commands are given: texts of the sample in several files, a few questions, and a pretrained model.

    port: where the slow server listens.
    """

    folder: Path
    port: int = 0

    @property
    def texts(self) -> list[Path]:
        """The corpus."""
        return [self.folder / f"texts-{number}.jsonl" for number in range(3)]

    @property
    def base(self) -> Path:
        """The pretrained model's run."""
        return self.folder / "base"

    def write(self) -> None:
        """Make the files, but for the model."""
        self.folder.mkdir(parents=True, exist_ok=True)
        documents = (SAMPLE / "corpus.txt").read_text("utf-8").strip().split("\n\n")
        documents = [*documents, *documents[3:6], *(f"{text} 덧붙인 말." for text in documents[8:12])]  # duplicates
        for number, path in enumerate(self.texts):
            lines = (json.dumps({"text": text}, ensure_ascii=False) for text in documents[number::3])
            path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        for name, source, count in (("train", "train", 4), ("few", "train", 1), ("dev", "dev", 1)):
            root = json.loads((SAMPLE / f"KorQuAD_sample_{source}.json").read_text("utf-8"))
            some = {**root, "data": root["data"][:count]}
            (self.folder / f"{name}.json").write_text(json.dumps(some, ensure_ascii=False), "utf-8")


@dataclass(frozen=True)
class Command:
    """A command line of which everything that it writes lies below a folder.

    stages: what is being done as long as no file of the next pattern is there, in order; tidy: folders in which nothing
    half-written is left at the end; spared: whether only its first
    process is killed, now and then, and its workers are left to see that they are orphans; weight: of its kills among
    those of others, because it takes longer.
    """

    name: str
    line: Callable[[Path, Material], list[str]]
    stages: tuple[tuple[str, str], ...]
    tidy: tuple[str, ...] = ("run/",)
    spared: bool = False
    weight: float = 1.0

    def start(self, place: Path, material: Material, output: Path, nursery: Nursery | None = None) -> Running:
        """Start it as the first process of a group of its own; what it says goes to `output`."""
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY),
            "KORBERT_RECORDS": str(place / "records.sqlite"),
        }  # fmt: skip
        environment.pop("HYDRA_FULL_ERROR", None)
        line = self.line(place, material)
        if nursery is not None:
            return nursery.start(line, environment, output)
        with output.open("wb") as out:
            return subprocess.Popen(
                line, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=out,
                stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip

    def run(self, place: Path, material: Material, output: Path, limit: float = 300.0) -> int:
        """Run it to its end; its exit status."""
        process = self.start(place, material, output)
        try:
            return process.wait(limit)
        except subprocess.TimeoutExpired:
            kill(process, alone=False)
            return -signal.SIGKILL

    def stage(self, place: Path) -> str:
        """What it was at when it was last at work in `place`."""
        now = "start-up"
        for name, pattern in self.stages:
            if next(place.glob(pattern), None) is not None:
                now = name
        return now


def kill(process: Running, alone: bool) -> None:
    """kill -9, of all its processes or of the first one alone."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL) if alone else os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _door(name: str, *overrides: str, sweep: bool = False) -> list[str]:
    return [sys.executable, str(REPOSITORY / "experiments" / f"{name}.py"), *(["-m"] if sweep else []), *overrides]


def _corpus(material: Material) -> tuple[str, str]:
    return "corpus=text", f"corpus.files=[{','.join(map(str, material.texts))}]"


def pretrain(place: Path, material: Material, steps: int = 24) -> list[str]:
    """Tokenizer, shards, training with evaluations and checkpoints."""
    return _door(
        "pretrain", *_corpus(material), *_SYLLABLES, *_TINY, *_RUNTIME, f"train.steps={steps}",
        "train.checkpoint_every=3", "train.evaluate_every=8", "corpus.holdout=0.1", f"run_dir={place}/run",
        f"data.cache={place}/cache",
    )  # fmt: skip


def _finetune(place: Path, material: Material) -> list[str]:
    return _door(
        "finetune_korquad", f"init={material.base}", f"task.train=[{material.folder}/train.json]",
        f"task.test={material.folder}/dev.json", "task.validation_share=0.25", "task.window.max_length=64",
        "task.window.doc_stride=16", "task.window.max_question_length=24", "train.epochs=null", "train.steps=20",
        "train.batch_size=8", "train.checkpoint_every=2", "train.evaluate_every=5", "train.log_every=1",
        "train.optimizer.learning_rate=1e-3", *_RUNTIME, f"run_dir={place}/run", f"data.cache={place}/cache",
    )  # fmt: skip


def _build_corpus(place: Path, material: Material) -> list[str]:
    return _door(
        "build_corpus", *_corpus(material), *_SYLLABLES, *_RUNTIME, "piece_characters=400", f"output={place}/corpus",
        f"run_dir={place}/run", f"data.cache={place}/cache",
    )  # fmt: skip


def _train_tokenizer(place: Path, material: Material) -> list[str]:
    return _door(
        "train_tokenizer", *_corpus(material), "tokenizer=sentencepiece_unigram", "tokenizer.vocab_size=1300",
        f"output={place}/tokenizer", f"data.cache={place}/cache",
    )  # fmt: skip


def _annotate(place: Path, material: Material) -> list[str]:
    return _door(
        "annotate_corpus", *_corpus(material), "annotator=expressions-mecab+mecab", "output=true", *_RUNTIME[:2],
        "runtime.workers=2", f"run_dir={place}/run", f"data.cache={place}/cache",
    )  # fmt: skip


def _sweep(place: Path, material: Material) -> list[str]:
    def listed(*overrides: str) -> str:
        return "[" + ",".join(f"'{override}'" for override in overrides) + "]"

    inner = ("train.steps=6", "train.checkpoint_every=2", "train.evaluate_every=4")
    questions = (f"task.train=[{material.folder}/few.json]", f"task.test={material.folder}/dev.json")
    return _door(
        "pipeline", *_corpus(material), *_SYLLABLES, *_RUNTIME, "corpus.holdout=0.1", "entities.mode=none,both",
        "seed=1,2", "pretraining_seed=5", f"pretraining={listed(*_TINY, *inner)}",
        f"finetuning={listed(*questions, *inner, 'train.epochs=null', 'train.batch_size=8')}",
        f"pretrained={place}/pretrained", f"run_dir={place}/sweep", f"data.cache={place}/cache", sweep=True,
    )  # fmt: skip


def _download(place: Path, material: Material) -> list[str]:
    address = f"http://127.0.0.1:{material.port}/file.bin"
    digest = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    return [
        sys.executable,
        str(Path(__file__).with_name("fetch.py")),
        address,
        digest,
        str(len(CONTENT)),
        str(place / "downloads"),
    ]


_RUN = (
    ("tokenizer", "run/sessions.jsonl"), ("shards", "cache/tokenizers/*/tokenizer.json"),
    ("first steps", "cache/shards/*/manifest.json"), ("training", "run/checkpoint.safetensors"),
    ("after the record", "run/record.json"),
)  # fmt: skip
COMMANDS = {
    command.name: command
    for command in (
        Command("pretrain", pretrain, _RUN),
        Command("finetune", _finetune, (
            ("windows", "run/sessions.jsonl"), ("first steps", "run/model/model.json"),
            ("training", "run/checkpoint.safetensors"), ("scoring", "run/predictions.json"),
            ("after the record", "run/record.json"),
        )),
        Command("build_corpus", _build_corpus, (
            ("tokenizer", "run/sessions.jsonl"), ("signing", "corpus/build"), ("deciding", "corpus/build/reasons"),
            ("encoding", "corpus/build/reasons/complete.json"), ("tidying", "corpus/manifest.json"),
            ("after the record", "run/record.json"),
        ), ("corpus/",)),
        Command("train_tokenizer", _train_tokenizer, (
            ("training", "cache/checksums.json"), ("saving", "cache/tokenizers/*/tokenizer.json"),
            ("complete", "tokenizer/tokenizer.json"),
        )),
        Command("download", _download, (
            ("downloading", "downloads/*.part"), ("complete", "downloads/file.bin"),
        ), ("downloads/",)),
        Command("sweep", _sweep, (
            ("first pretraining", "pretrained/*"), ("first job", "pretrained/*/record.json"),
            ("second job", "sweep/*/record.json"), ("second pretraining", "pretrained/*-both-*"),
            ("last jobs", "pretrained/*-both-*/record.json"), ("at the end", "sweep/both-seed2-*/record.json"),
        ), ("sweep/", "pretrained/"), weight=0.4),
        Command("annotate", _annotate, (
            ("annotating", "cache/annotations/*"), ("writing", "run/entities.jsonl"),
            ("after the record", "run/record.json"),
        ), spared=True, weight=0.2),
    )
}  # fmt: skip


# ---- downloads ----

CONTENT = hashlib.shake_256(b"korbert").digest(6 << 20)
_BLOCK, _PAUSE = 1 << 18, 0.05  # a block of bytes, and the seconds that pass before the next


class _Handler(BaseHTTPRequestHandler):
    """Sends CONTENT, or what is left of it, slowly."""

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start >= len(CONTENT):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        try:
            for first in range(start, len(CONTENT), _BLOCK):
                self.wfile.write(CONTENT[first : first + _BLOCK])
                time.sleep(_PAUSE)
        except OSError:
            pass  # whoever asked was killed

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def slow_server() -> Iterator[int]:
    """A server on this machine; its port."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()

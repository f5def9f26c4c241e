"""Cases of load.py, each with its parts: what is done, on how much, and what it took.

Run as `loads.py CASE SCALE [DATA_ROOT]`, it prints the parts of one case and the process's memory as JSON.
"""

from __future__ import annotations

import contextlib
import functools
import json
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dumps
import hostile
import numpy as np
from bench import REPOSITORY, Bench, sample

from korbert.data.corpus import read_documents
from korbert.data.decoding import DecodingConfig, Logits, decode_answers
from korbert.data.korquad import fold_split, read_korquad, read_predictions, write_predictions
from korbert.data.piecework import Done, Recipe
from korbert.data.shards import ShardedCorpus, build_shards
from korbert.data.windows import WindowConfig, WindowMaker
from korbert.encoding import EntityMode, encode
from korbert.entities import NoEntities, make_annotator
from korbert.entities.gazetteer import GazetteerAnnotator, GazetteerRules
from korbert.files import write_json_atomically
from korbert.metrics import score_per_question, score_predictions
from korbert.parallel import megabytes
from korbert.study.error_report import as_html, as_markdown
from korbert.study.errors import breakdown, cases, kinds
from korbert.study.significance import bootstrap_interval, paired_difference
from korbert.text import AnnotatedText
from korbert.tokenizers import (
    CharacterTokenizer,
    Pretokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    WordPieceTokenizer,
    WordTokenizer,
    open_published,
)

PARAGRAPH, DOCUMENT_BYTES, NAMES, QUESTIONS = 1_000_000, 50_000_000, 1_000_000, 100_000  # at scale 1


# ---- texts that hurt ----


def _repeated(unit: str, length: int) -> str:
    return (unit * (length // len(unit) + 1))[:length]


TEXTS: dict[str, Callable[[int], str]] = {
    "plain": lambda n: _repeated(" ".join(sample()), n),
    "one word": lambda n: _repeated("".join("".join(sample()).split()), n),
    "one letter": lambda n: "a" * n,
    "entities": lambda n: _repeated("서울특별시에서 이순신은 1592년 ", n),
    "sentences": lambda n: _repeated("김철수가 서울특별시에 갔다. ", n),
    "plurals": lambda n: _repeated("서울특별시" + "들" * 5000, n),
    "marks": lambda n: "가" + _repeated("\u0301\u0323", n - 1),
    "invisible": lambda n: _repeated("가\u200b\u0301\u200d", n),
    "syllables of jamo": lambda n: _repeated("\u1112\u1161\u11ab", n),
    "anything": lambda n: "".join(random.Random(1).choices(hostile.FRAGMENTS, k=n))[:n],
}


# ---- one paragraph of a million characters ----


@functools.cache
def tokenizer(name: str) -> Tokenizer:
    """A small one of each kind."""
    if name == "published":
        folder = Path(tempfile.mkdtemp(prefix="korbert-load-"))
        letters = sorted({letter for line in sample() for letter in line if not letter.isspace()})
        lines = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
        (folder / "vocab.txt").write_text("\n".join(lines), "utf-8")
        return open_published(folder / "vocab.txt")
    return _KINDS[name](sample())


_KINDS: dict[str, Callable[[list[str]], Tokenizer]] = {
    "unigram": lambda texts: SentencePieceTokenizer.train(texts, 1200),
    "bpe": lambda texts: SentencePieceTokenizer.train(texts, 1200, model_type="bpe"),
    "byte_bpe": lambda texts: SentencePieceTokenizer.train(
        texts, 1200, model_type="bpe", pretokenizer=Pretokenizer(symbols="bytes")
    ),
    "wordpiece": lambda texts: WordPieceTokenizer.train(texts, 1200),
    "syllable": lambda texts: CharacterTokenizer.train(texts, 1200),
    "jamo": lambda texts: CharacterTokenizer.train(texts, 300, pretokenizer=Pretokenizer(symbols="jamo")),
    "word": lambda texts: WordTokenizer.train(texts, 1200),
    "tagged_mecab_bpe": lambda texts: SentencePieceTokenizer.train(
        texts, 1200, model_type="bpe", pretokenizer=Pretokenizer("mecab", True)
    ),
    "kiwi_morpheme": lambda texts: WordTokenizer.train(texts, 1200, pretokenizer=Pretokenizer("kiwi")),
}


def tokenize(name: str, bench: Bench) -> None:
    """Ids and spans of every text, cut at many places too."""
    chosen = tokenizer(name)
    length = bench.size(PARAGRAPH)
    for kind, make in TEXTS.items():
        text = make(length)
        with bench.part(kind, length):
            tokens = chosen.encode(text)
        assert (tokens.starts <= tokens.ends).all()
        assert (tokens.starts[1:] >= tokens.ends[:-1]).all()
        with bench.part(f"{kind}, cut", length):
            chosen.encode(text, range(0, length, 7))


def annotate(name: str, bench: Bench) -> None:
    """Entities of every text."""
    annotator = make_annotator(name)
    annotator.annotate("서울")  # starts what it needs
    length = bench.size(PARAGRAPH)
    for kind, make in TEXTS.items():
        text = make(length)
        with bench.part(kind, length):
            annotator.annotate(text)


def paragraph(bench: Bench) -> None:
    """A paragraph with very many entities and sentences, from text to answers."""
    from korbert.sentences import split_sentences

    length = bench.size(PARAGRAPH)
    chosen = tokenizer("syllable")
    for kind in ("entities", "sentences"):
        text = TEXTS[kind](length)
        annotated = make_annotator("mecab").annotate(text)
        with bench.part(f"{kind}: sentences", length):
            parts = split_sentences(annotated)
        assert sum(len(part.text) for part in parts) <= length
        with bench.part(f"{kind}: encoding", length):
            encode(annotated, chosen)
        maker = WindowMaker(chosen, _Given(annotated), EntityMode.BOTH, WindowConfig())
        with bench.part(f"{kind}: windows of a question", length):
            windows = maker.question("누가 갔는가?", text)
        with bench.part(f"{kind}: decoding", length):
            decode_answers(windows, _logits(windows), DecodingConfig(trim_josa="mecab"))


class _Given(NoEntities):
    """What was found before."""

    def __init__(self, known: AnnotatedText) -> None:
        self.known = known

    def annotate(self, text: str) -> AnnotatedText:
        return self.known if text == self.known.text else AnnotatedText(text)


def _logits(windows: list[Any]) -> list[Logits]:
    rng = np.random.default_rng(0)
    return [Logits(*rng.standard_normal((2, len(window)), dtype=np.float32)) for window in windows]


# ---- lists, documents, questions ----


def gazetteer(bench: Bench) -> None:
    """A list of a million names, made of syllables."""
    count, length = bench.size(NAMES), bench.size(PARAGRAPH)
    rng = random.Random(0)
    syllables = [chr(code) for code in range(0xAC00, 0xAC00 + 11172, 13)]
    names = {"".join(rng.choices(syllables, k=rng.randrange(2, 9))) for _ in range(count)}
    path = bench.folder / "names.txt"
    path.write_text("\n".join(sorted(names)) + "\n서울특별시\n", "utf-8")
    with bench.part("reading", len(names)):
        annotator = GazetteerAnnotator([path], GazetteerRules(common_length=0), bench.folder / "cache")
        annotator.annotate("서울특별시에")
    for kind in ("plain", "one word", "entities", "plurals"):
        with bench.part(kind, length):
            annotator.annotate(TEXTS[kind](length))
    dense = " ".join(rng.choices(sorted(names), k=length // 6))[:length]
    with bench.part("names alone", length):
        found = annotator.annotate(dense)
    assert len(found.entities) > length / 30


def document(bench: Bench) -> None:
    """One document of 50 MB, of many paragraphs and of one, from a file to shards."""
    size = bench.size(DOCUMENT_BYTES)
    text = "\n".join(sample())
    many = (text + "\n") * (size // len(text.encode()) + 1)  # so many bytes, or a few more
    one = many.replace("\n", " ")
    chosen = bench.folder / "tokenizer"
    tokenizer("syllable").save(chosen)
    for name, content in (("many paragraphs", many), ("one paragraph", one)):
        path = bench.folder / f"{name}.jsonl"
        path.write_text(json.dumps({"text": content}, ensure_ascii=False) + "\n", "utf-8")
        bytes_ = path.stat().st_size
        assert bytes_ >= size
        with bench.part(f"{name}: reading", bytes_):
            assert sum(1 for _ in read_documents(path)) == 1
        with bench.part(f"{name}: shards", bytes_):
            build_shards(bench.folder / f"shards {name}", [path], chosen, workers=1)
        assert len(ShardedCorpus(bench.folder / f"shards {name}")) == 1
    (bench.folder / "many.txt").write_text(many.replace("\n\n", "\n"), "utf-8")
    with bench.part("learning a vocabulary", len(many)):
        SentencePieceTokenizer.train(iter(many.split("\n")[: 2 + bench.size(100_000)]), 1200, model_type="bpe")


def questions(bench: Bench) -> None:
    """A data set of a hundred thousand questions: everything that is done with one."""
    count = bench.size(QUESTIONS)
    path = bench.folder / "questions.json"
    write_json_atomically(path, made_questions(count))
    with bench.part("reading", count):
        dataset = read_korquad(path)
    assert len(dataset) == count
    with bench.part("folds", count):
        fold_split(dataset, 3)
    maker = WindowMaker(tokenizer("unigram"), NoEntities(), EntityMode.NONE, WindowConfig())
    with bench.part("windows", count):
        windows, _ = maker.dataset(dataset)
    logits = _logits(windows)
    with bench.part("decoding", count):
        answers = decode_answers(windows, logits, DecodingConfig(n_best=5))
    predictions = {key: found[0].text if found else "" for key, found in answers.items()}
    with bench.part("predictions, written and read", count):
        write_predictions(bench.folder / "predictions.json", predictions)
        assert read_predictions(bench.folder / "predictions.json") == predictions
    gold = dataset.gold()
    with bench.part("scores", count):
        score_predictions(gold, predictions)
        scores = list(score_per_question(gold, predictions).values())
    articles = [number for number, article in enumerate(dataset.articles) for _ in range(article.num_questions)]
    f1 = [score.f1 for score in scores]
    with bench.part("intervals", count):
        bootstrap_interval(f1, articles)
        paired_difference(f1, f1[::-1], articles)
    with bench.part("error report", count):
        found = cases(dataset, predictions, make_annotator("mecab"))
        parts = {key: [vars_of(part) for part in breakdown(found, key)] for key in found[0].groups}
        interval = {"mean": 1.0, "interval": [0.0, 1.0]}
        report = {
            "title": "x", "protocol": "x", "questions": count, "unanswered": 0, "unknown": 0, "kinds": kinds(found),
            "breakdowns": parts, "official": {"f1": interval}, "kortok": {"f1": 1.0},
        }  # fmt: skip
        as_markdown(report, found)
        as_html(report, found)
    wrong = json.loads(path.read_text("utf-8"))
    for paragraph in (p for article in wrong["data"] for p in article["paragraphs"]):
        for qa in paragraph["qas"]:
            qa["answers"][0]["answer_start"] += 1
    write_json_atomically(bench.folder / "wrong.json", wrong)
    with bench.part("every answer wrong", count), contextlib.suppress(Exception):
        read_korquad(bench.folder / "wrong.json")
    twice = (bench.folder / "predictions.json").read_text("utf-8").rstrip().removesuffix("}").rstrip()
    (bench.folder / "twice.json").write_text(f'{twice}, "q0": "x", "q{count - 1}": "x"}}', "utf-8")
    with bench.part("a prediction twice", count), contextlib.suppress(Exception):
        read_predictions(bench.folder / "twice.json")


def vars_of(part: Any) -> dict[str, Any]:
    """A breakdown's part as the report has it."""
    return {key: getattr(part, key) for key in ("name", "questions", "exact_match", "f1")}


def made_questions(count: int) -> dict[str, Any]:
    """Twenty questions on each of the sample's paragraphs, again and again, with ids of their own."""
    articles: list[dict[str, Any]] = []
    number = 0
    while number < count:
        paragraphs = []
        for context in sample():
            words = list(re.finditer(r"\w+", context))[:20]
            qas = []
            for word in words[: count - number]:
                answer = {"text": word[0], "answer_start": word.start()}
                qas.append({"id": f"q{number}", "question": f"{word[0]} 다음은 무엇인가?", "answers": [answer]})
                number += 1
            if qas:
                paragraphs.append({"context": context, "qas": qas})
        articles.append({"title": f"글 {len(articles)}", "paragraphs": paragraphs})
    # Folds need five articles, whatever the size.
    while len(articles) < 5:
        largest = max(articles, key=lambda article: len(article["paragraphs"]))
        half = largest["paragraphs"][: len(largest["paragraphs"]) // 2]
        largest["paragraphs"] = largest["paragraphs"][len(half) :]
        articles.append({"title": f"글 {len(articles)}", "paragraphs": half})
    return {"version": "KorQuAD_v1.0_load", "data": articles}


def corpus(bench: Bench) -> None:
    """Korean Wikipedia to shards, filtered, by two processes: memory must not grow with the number of articles."""
    files = sorted(Path(bench.root, "kowiki").glob("*.jsonl.xz"))
    articles = max(100, round(600_000 * bench.scale))  # more than there are
    tokenizer("unigram").save(bench.folder / "tokenizer")
    peak = [0.0]

    def show(done: Done) -> None:
        peak[0] = max(peak[0], done.memory[1])

    from korbert.data.building import Builder
    from korbert.data.filters import Filters

    filters = Filters(min_characters=100, duplicates=True, near_duplicates=0.8)
    recipe = Recipe(tuple(files), bench.folder / "tokenizer", "mecab", filters=filters, max_documents=articles)
    with bench.part("shards", articles):
        manifest = Builder(bench.folder / "shards", recipe, workers=2, progress=show).build()
    bench.parts["shards"] |= {"characters": manifest.characters, "worker_megabytes": peak[0]}


# ---- Ctrl-C ----

_TRAINING = (
    "model=mini", "train.steps=100000", "train.log_every=1", "train.checkpoint_every=1", "runtime.threads=1",
    "runtime.workers=1", "tokenizer=syllable", "entities=none",
)  # fmt: skip


def interrupt(bench: Bench) -> None:
    """Ctrl-C while doors are at work: how long they still take, and whether what they leave can be gone on with."""
    long = bench.folder / "long.txt"
    long.write_text("\n\n".join([_repeated(" ".join(sample()), 400_000)] * 40), "utf-8")
    cache = f"data.cache={bench.folder / 'cache'}"
    text = ("corpus=text", f"corpus.files=[{long}]")
    two = ("runtime.workers=2", *text, cache)
    doors: dict[str, tuple[tuple[str, ...], str]] = {
        "pretrain": ((*_TRAINING, cache), "checkpoint.safetensors"),
        "annotate_corpus": (("annotator=kiwi", *two), "sessions.jsonl"),
        "build_corpus": (
            ("entities=kiwi", "tokenizer=syllable", f"output={bench.folder / 'shards'}", *two), "memory.jsonl"
        ),
    }  # fmt: skip
    for door, (overrides, sign) in doors.items():
        run = bench.folder / door
        command = [sys.executable, f"experiments/{door}.py", *overrides, f"run_dir={run}"]
        process = subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )  # fmt: skip
        end = time.monotonic() + 300
        while not (run / sign).exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.1)
        time.sleep(5)  # in the middle of something
        assert process.poll() is None, process.communicate()[0]
        with bench.part(f"{door}: until it ends", 1):
            process.send_signal(signal.SIGINT)
            said, _ = process.communicate(timeout=600)
        assert process.returncode in (1, 130), said
        assert "Traceback" not in said, said
        assert "goes on" in said or "interrupted" in said, said
        assert not list(run.glob(".*.??????*")), "something half-written is left"


CASES: dict[str, Callable[[Bench], None]] = {
    **{f"tokenizer {name}": functools.partial(tokenize, name) for name in (*_KINDS, "published")},
    **{
        f"annotator {name}": functools.partial(annotate, name)
        for name in ("mecab", "kiwi", "expressions-mecab", "random-mecab", "expressions-mecab+mecab")
    },
    "paragraph": paragraph,
    "gazetteer": gazetteer,
    "document": document,
    "questions": questions,
    "corpus": corpus,
    "dump": dumps.dump,
    "interrupt": interrupt,
}
REAL = ("corpus",)  # of real data


def main() -> None:
    """Run one case."""
    name, scale, root = sys.argv[1], float(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else ""
    with tempfile.TemporaryDirectory(prefix="korbert-load-") as folder:
        bench = Bench(scale, Path(folder), root)
        CASES[name](bench)
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / (
        1 << 20 if sys.platform == "darwin" else 1 << 10
    )
    print(json.dumps({"parts": bench.parts, "megabytes": megabytes()[1], "megabytes_of_a_child": round(children, 1)}))


if __name__ == "__main__":
    main()

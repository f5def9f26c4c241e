"""What must hold for any input: one function a target, which makes its input from a seed and checks the laws.

An error that is meant for the user (KorbertError) is a right answer to a broken file; anything else is a crash.
"""

from __future__ import annotations

import functools
import json
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile
import numpy as np

from korbert.config import compose_config
from korbert.data.decoding import DecodingConfig, Logits, decode_answers
from korbert.data.korquad import read_korquad
from korbert.data.ner import read_ner
from korbert.data.shards import ShardedCorpus, build_shards
from korbert.data.windows import WindowConfig, WindowMaker
from korbert.encoding import EntityInput, EntityMode, encode
from korbert.entities import NoEntities
from korbert.entities.base import EntityAnnotator
from korbert.entities.gazetteer import GazetteerAnnotator, GazetteerRules
from korbert.errors import KorbertError
from korbert.text import FORMS, AnnotatedText, Normalizer, Span, _Builder
from korbert.tokenizers import (
    CharacterTokenizer,
    Pretokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    WordPieceTokenizer,
    WordTokenizer,
)

REPOSITORY = Path(__file__).resolve().parents[2]
SAMPLE = REPOSITORY / "data" / "sample"
Target = Callable[[random.Random], None]


@functools.cache
def folder() -> Path:
    """A folder of this process's own, in memory where there is such a place."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(prefix="korbert-fuzz-", dir=memory if memory.is_dir() else None))


def forget() -> None:
    """Remove that folder."""
    if folder.cache_info().currsize:
        shutil.rmtree(folder(), ignore_errors=True)
        folder.cache_clear()
        shards.cache_clear()


# ---- text ----


def normalizer(rng: random.Random) -> None:
    """The map back is in order and in range; the fast path gives what the slow one gives."""
    normalize = Normalizer(rng.choice(FORMS), rng.random() < 0.5)
    text = hostile.text(rng)
    normal = normalize(text)
    slow = _Builder(text, normalize).build()
    assert normal.text == slow.text
    assert (normal.starts == slow.starts).all()
    assert (normal.ends == slow.ends).all()
    assert len(normal.text) == len(normal.starts) == len(normal.ends)
    assert (normal.starts < normal.ends).all()
    same = normal.starts[1:] == normal.starts[:-1]
    assert (same | (normal.starts[1:] >= normal.ends[:-1])).all(), "clusters overlap"
    assert (normal.ends[1:][same] == normal.ends[:-1][same]).all()
    assert not len(normal.text) or (normal.starts[0] >= 0 and normal.ends[-1] <= len(text))
    for place in hostile.edges(rng, len(text)):
        cut = normal.cut_before(place)
        assert cut is None or (0 < cut < len(normal.text) and normal.ends[cut - 1] <= place <= normal.starts[cut])


@functools.cache
def tokenizers() -> list[Tokenizer]:
    """One of each kind that needs no analyser, trained on the sample."""
    lines = (SAMPLE / "corpus.txt").read_text("utf-8").split("\n")
    makers: list[tuple[Any, str, dict[str, Any]]] = [
        (CharacterTokenizer, "text", {}),
        (CharacterTokenizer, "jamo", {}),
        (WordTokenizer, "text", {}),
        (WordPieceTokenizer, "text", {}),
        (WordPieceTokenizer, "jamo", {}),
        (SentencePieceTokenizer, "text", {}),
        (SentencePieceTokenizer, "text", {"model_type": "bpe"}),
        (SentencePieceTokenizer, "text", {"byte_fallback": True, "character_coverage": 0.98}),
        (SentencePieceTokenizer, "bytes", {"model_type": "bpe"}),
        (SentencePieceTokenizer, "jamo", {}),
    ]
    return [
        kind.train(lines, 1100, pretokenizer=Pretokenizer("none", False, symbols), **options)
        for kind, symbols, options in makers
    ]


def spans(rng: random.Random) -> None:
    """Tokens of any text: in order, apart, in range, covering all that is seen; nothing crosses a boundary."""
    tokenizer = rng.choice(tokenizers())
    text = hostile.text(rng)
    boundaries = hostile.edges(rng, len(text))
    tokens = tokenizer.encode(text, boundaries)
    normal = tokenizer.normalizer(text)  # type: ignore[attr-defined]
    check_spans(text, tokens.starts, tokens.ends)
    uncovered = np.ones(len(text), dtype=np.bool_)
    for start, end in zip(tokens.starts, tokens.ends, strict=True):
        uncovered[start:end] = False
    for char, start, end in zip(normal.text, normal.starts, normal.ends, strict=True):
        assert char == " " or not uncovered[start:end].any(), f"characters {start} to {end} are in no token"
    for place in boundaries:
        cut = normal.cut_before(place)
        crossing = (tokens.starts < place) & (tokens.ends > place)
        assert cut is None or not crossing.any(), f"a token crosses {place}"
    assert ((tokens.ids >= 0) & (tokens.ids < len(tokenizer))).all()
    if not boundaries:
        assert (tokenizer.encode_ids(text) == tokens.ids).all()
    tokenizer.decode(tokens.ids)


def check_spans(text: str, starts: np.ndarray, ends: np.ndarray) -> None:
    """In order, apart, in range."""
    assert (starts <= ends).all()
    assert (starts[1:] >= ends[:-1]).all()
    assert not len(starts) or (starts[0] >= 0 and ends[-1] <= len(text))


def annotated(rng: random.Random, text: str) -> AnnotatedText:
    """Random entities in it."""
    places = hostile.edges(rng, len(text), 9)
    pairs = zip(places[0::2], places[1::2], strict=False)
    return AnnotatedText(text, tuple(Span(a, b, rng.choice(["PER", "LOC", "", "XX"])) for a, b in pairs))


def entity_input(rng: random.Random) -> EntityInput:
    """Any that is possible."""
    mode = rng.choice(list(EntityMode))
    embed = mode.has_markers and rng.random() < 0.5
    typed = (mode.has_embedding or embed) and rng.random() < 0.5
    most = rng.choice([None, 0, 1, 2])
    return EntityInput(mode, typed, embed, mode.has_markers and rng.random() < 0.5, most)


def entities(rng: random.Random) -> None:
    """Markers are balanced and nothing but markers is added, in the whole and in any window of it."""
    tokenizer = rng.choice(tokenizers())
    text, how = annotated(rng, hostile.text(rng)), entity_input(rng)
    encoding = encode(text, tokenizer, how, cut=rng.random() < 0.8)
    check_spans(text.text, encoding.starts, encoding.ends)
    special = tokenizer.special
    check_markers(encoding.token_ids, special.ent, special.ent_end)
    assert how.uses_embedding or not encoding.entity_ids.any()
    assert encoding.entity_ids.max(initial=0) <= how.entity_types
    a, b = sorted((rng.randrange(len(encoding) + 1), rng.randrange(len(encoding) + 1)))
    part = encoding.window(a, b, special)
    check_markers(part.token_ids, special.ent, special.ent_end)
    keep, limited = how.limited(part.token_ids, part.entity_ids, special)
    check_markers(part.token_ids[keep], special.ent, special.ent_end)
    assert len(keep) == len(limited)


def check_markers(ids: np.ndarray, ent: int, ent_end: int) -> None:
    """[ENT] and [/ENT] in turn, beginning with the former, ending with the latter."""
    markers = ids[(ids == ent) | (ids == ent_end)]
    assert len(markers) % 2 == 0
    assert (markers[0::2] == ent).all()
    assert (markers[1::2] == ent_end).all()


class RandomEntities(EntityAnnotator):
    """Finds anything."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    @property
    def fingerprint(self) -> str:
        """The seed."""
        return str(self.seed)

    def annotate(self, text: str) -> AnnotatedText:
        """Random spans, the same for the same text."""
        return annotated(random.Random(f"{self.seed}:{text!r}"), text)


def decoding(rng: random.Random) -> None:
    """Windows hold all tokens of a text between them; answers are slices of it, best first, each once."""
    tokenizer, how = rng.choice(tokenizers()), entity_input(rng)
    room = rng.randrange(1, 12)
    config = WindowConfig(max_length=room + 3 + 9, doc_stride=rng.randrange(room), max_question_length=9)
    annotator = RandomEntities(rng.randrange(1000)) if how.mode.cuts else NoEntities()
    try:
        maker = WindowMaker(tokenizer, annotator, how, config)
    except KorbertError:
        return
    context = hostile.text(rng)
    windows = maker.question(hostile.text(rng, 8), context)
    assert windows
    assert all(len(window) <= config.max_length for window in windows)
    settings = DecodingConfig(
        n_best=rng.randrange(1, 5), max_answer_length=rng.randrange(1, 6), max_context=rng.random() < 0.5
    )
    values = np.random.default_rng(rng.randrange(1 << 30))
    logits = [Logits(*values.standard_normal((2, len(window)), dtype=np.float32)) for window in windows]
    (answers,) = decode_answers(windows, logits, settings).values()
    for answer in answers:
        assert context[answer.start : answer.end] == answer.text == answer.text.strip() != ""
    assert [a.score for a in answers] == sorted((a.score for a in answers), reverse=True)
    assert len({(a.start, a.end) for a in answers}) == len(answers) <= settings.n_best


# ---- files ----


@functools.cache
def questions() -> Any:
    """A small question file's content."""
    root = json.loads((SAMPLE / "KorQuAD_sample_dev.json").read_text("utf-8"))
    article = {**root["data"][0], "paragraphs": root["data"][0]["paragraphs"][:2]}
    return {**root, "data": [article]}


def broken_json(rng: random.Random, value: Any) -> bytes:
    """A value changed in one to three places, or the bytes of what was written changed."""
    for _ in range(rng.randrange(3)):
        value = hostile.changed_value(rng, value)
    data = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
    return hostile.changed_bytes(rng, data) if rng.random() < 0.5 else data


def korquad_reader(rng: random.Random) -> None:
    """A broken question file is refused, or all answers of what is read stand where they say."""
    path = folder() / "questions.json"
    path.write_bytes(broken_json(rng, questions()))
    try:
        dataset = read_korquad(path)
    except KorbertError as error:
        assert str(path) in str(error)
        return
    for _, paragraph, question in dataset.questions():
        for answer in question.answers:
            assert paragraph.context[answer.start : answer.end] == answer.text != ""


NAMES = "세종\tPER\n서울특별시\tLOC\n이순신\tPER\n한국어\tNOH\n훈민정음\tPOH\n"
SENTENCES = [
    {"text": "세종은 서울에서", "entities": [[0, 2, "PER", "세종"], [4, 6, "LOC", "서울"]], "file": "a"},
    {"text": "이순신", "entities": [[0, 3, "PER", "이순신"]], "file": "b"},
]
TAGGED = "## 1\n세\tB-PS\n종\tI-PS\n은\tO\n \tO\n서\tB-LC\n울\tI-LC\n\n## 2\n왕\tO\n"


def gazetteer(rng: random.Random) -> None:
    """A broken list is refused with its line, or finds names in order in any text."""
    kind = rng.choice([".txt", ".tsv", ".tsv.gz", ".txt.xz", ".txt.bz2"])
    path = folder() / f"names{kind}"
    path.write_bytes(compressed(rng, kind, NAMES.encode()))
    try:
        found = GazetteerAnnotator([path], GazetteerRules(common_length=0)).annotate(hostile.text(rng) + "세종은")
    except KorbertError:
        return
    assert all(entity.of(found.text) for entity in found.entities)


def compressed(rng: random.Random, kind: str, data: bytes) -> bytes:
    """Broken before or behind the compression."""
    import bz2
    import gzip
    import lzma

    pack: dict[str, Any] = {"gz": gzip.compress, "xz": lzma.compress, "bz2": bz2.compress}
    packer = pack.get(kind.rpartition(".")[2])
    if packer is None or rng.random() < 0.5:
        data = hostile.changed_bytes(rng, data)
        return data if packer is None else packer(data)
    return hostile.changed_bytes(rng, packer(data))


def ner_reader(rng: random.Random) -> None:
    """A broken corpus is refused with its line, or all its entities lie in their sentences."""
    if rng.random() < 0.5:
        kind = rng.choice([".tsv", ".tsv.gz"])
        data = compressed(rng, kind, TAGGED.encode())
    else:
        kind = ".jsonl"
        data = b"\n".join(broken_json(rng, sentence) for sentence in SENTENCES)
    path = folder() / f"sentences{kind}"
    path.write_bytes(data)
    try:
        sentences = read_ner(path)
    except KorbertError as error:
        assert str(path) in str(error)
        return
    assert all(0 <= e.start < e.end <= len(s.text) for s in sentences for e in s.entities)


@functools.cache
def shards() -> tuple[Path, str]:
    """A small shard folder and its tokenizer's fingerprint."""
    at, tokenizer = folder() / "whole", tokenizers()[0]
    tokenizer.save(folder() / "tokenizer")
    text = folder() / "corpus.txt"
    text.write_text("\n".join((SAMPLE / "corpus.txt").read_text("utf-8").splitlines()[:30]) + "\n", "utf-8")
    build_shards(at, [text], folder() / "tokenizer")
    return at, tokenizer.fingerprint


def shard_reader(rng: random.Random) -> None:
    """A damaged folder is refused by name, or every document can be read, with as many tokens as it says."""
    whole, fingerprint = shards()
    broken = folder() / "broken"
    shutil.rmtree(broken, ignore_errors=True)
    shutil.copytree(whole, broken)
    victim = rng.choice(sorted(path for path in broken.rglob("*") if path.is_file()))
    victim.write_bytes(hostile.changed_bytes(rng, victim.read_bytes()))
    try:
        corpus = ShardedCorpus(broken, fingerprint, verify=True)
        for document in range(len(corpus)):
            part = corpus.tokens(document, 0, corpus.document_length(document))
            assert len(part.ids) == len(part.entities) == corpus.document_length(document)
            assert part.ids.max(initial=0) < len(tokenizers()[0])
    except KorbertError as error:
        assert str(broken) in str(error)


KEYS = [
    "train.steps",
    "train.budget",
    "train.batch_size",
    "train.optimizer.kind",
    "train.optimizer.warmup",
    "model.norm",
    "model.num_heads",
    "model.hidden_size",
    "task.max_length",
    "task.masking.rate",
    "task.selection.share",
    "seed",
    "entities.mode",
    "entities.annotator",
    "entities.dropout",
    "tokenizer.kind",
    "tokenizer.vocab_size",
    "runtime.device",
    "tokenizer",
    "model",
    "recipe",
    "experiment",
    "tracker.mode",
    "data.root",
    "corpus.files",
    "task.curriculum",
    "nokey",
    "train.nokey",
    "init",
    "run_dir",
    "~seed",
    "+new",
    "train",
    "task.masking",
]
VALUES = [
    "1",
    "0",
    "-1",
    "0.5",
    "null",
    "true",
    "mini",
    "syllable",
    "none",
    "both",
    "20m",
    "adamw",
    "[]",
    "{}",
    "[1,2]",
    "nan",
    "{a:1}",
    "${seed}",
    "${nokey}",
    "${oc.env:NO_SUCH}",
    "1e309",
    "[",
    "\\",
    "가",
    "../..",
    "@",
    "a=b",
    "99999999999999999999",
    "'x",
    "",
    "{a: 1}",
    "'x y'",
    " ",
]


def config(rng: random.Random) -> None:
    """Any overrides compose, or are refused with a message."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    if not GlobalHydra.instance().is_initialized():
        initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3")
    overrides = [f"{rng.choice(KEYS)}={rng.choice(VALUES)}" for _ in range(rng.randrange(4))]
    try:
        made = compose_config(rng.choice(["pretrain", "finetune_korquad", "train_tagger"]), overrides)
        made.entities.entity_input() if hasattr(made, "entities") else None
    except KorbertError as error:
        assert str(error).strip(), overrides


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (
        normalizer, spans, entities, decoding, korquad_reader, gazetteer, ner_reader, shard_reader, config,
    )
}  # fmt: skip

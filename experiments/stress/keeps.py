"""What korbert keeps in files, small, and how each is read: what `damage.py` damages."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from commands import SAMPLE, Material, pretrain
from damage import Kept
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from nursery import REPOSITORY
from outcomes import outcome

from korbert.config import CorpusConfig, DataConfig, EntitiesConfig, TokenizerConfig, compose_config
from korbert.data.building import Builder
from korbert.data.filters import Filters
from korbert.data.korquad import read_korquad
from korbert.data.piecework import Done, Recipe
from korbert.data.shards import ShardedCorpus, build_shards
from korbert.data.window_store import stored_windows
from korbert.data.windows import WindowConfig, WindowMaker
from korbert.encoding import EntityMode
from korbert.entities import CachedAnnotator, StoredAnnotator, make_annotator, write_store
from korbert.entities.gazetteer import GazetteerAnnotator, GazetteerRules
from korbert.study.records import RecordStore
from korbert.tasks import pretrain as pretraining
from korbert.tasks.prepare import prepare_shards, prepare_tokenizer
from korbert.tokenizers import (
    CharacterTokenizer,
    Pretokenizer,
    SentencePieceTokenizer,
    Tokenizer,
    WordPieceTokenizer,
    load_tokenizer,
)
from korbert.training.bundle import load_bundle
from korbert.training.loop import Trainer

_LINES = (SAMPLE / "corpus.txt").read_text("utf-8").splitlines()
_TEXTS = [line for line in _LINES if line][:40]
_STOP_AT = 5  # the step behind which the pretraining is cut off that goes on from damaged files


class _Stop(Exception):
    """Cuts a piece of work off, as a crash does."""


def kept_files(material: Material) -> dict[str, Kept]:
    """All of them, by name."""
    trained = {
        "character": lambda: CharacterTokenizer.train(_LINES, 700),
        "sentencepiece": lambda: SentencePieceTokenizer.train(iter(_LINES), 1500),
        "wordpiece": lambda: WordPieceTokenizer.train(iter(_LINES), 1500),
        "jamo": lambda: CharacterTokenizer.train(_LINES, 300, pretokenizer=Pretokenizer("mecab", True, "jamo")),
    }
    each = [
        Kept(f"tokenizer_{name}", _saving(train), _read_tokenizer, ("tokenizer/*",)) for name, train in trained.items()
    ]
    each += [
        Kept("shards", _make_shards, _read_shards, ("shards/*",)),
        *(
            Kept(f"build_{stage}", _building(material, stage, count), _finishing(material), ("shards/**/*",))
            for stage, count in (("sign", 6), ("encode", 1), ("encode", 9))
        ),
        Kept("cache", _preparing(material), _preparing(material), (
            "cache/tokenizers/*/*", "cache/shards/*/*", "cache/*.json",
        )),
        Kept("annotations", _annotate, _annotate, ("annotations/*",)),
        Kept("store", _make_store, _read_store, ("store.sqlite*",)),
        Kept("records", _make_records, _read_records, ("records.sqlite",)),
        Kept("windows", _windows(material), _windows(material), ("windows/*",)),
        Kept("gazetteer", _gazetteer(material), _gazetteer(material), ("gazetteers/*",)),
        Kept("model", _copying(material), _read_model, ("model/*", "model/tokenizer/*")),
        Kept("run", _pretraining(material, cut_off=True), _pretraining(material), (
            "run/checkpoint.safetensors", "run/model/*", "run/model/tokenizer/*", "run/*.json*",
        )),
    ]  # fmt: skip
    named: dict[str, Kept] = {}
    for one in each:
        name = one.name if one.name not in named else f"{one.name}_late"
        named[name] = dataclasses.replace(one, name=name)
    return named


def _digest(value: Any) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()


# ---- tokenizers and shards ----


def _saving(train: Callable[[], Tokenizer]) -> Callable[[Path], None]:
    return lambda folder: train().save(folder / "tokenizer")


def _read_tokenizer(folder: Path) -> object:
    tokenizer = load_tokenizer(folder / "tokenizer")
    return (
        tokenizer.fingerprint,
        tokenizer.vocabulary,
        _digest([tokenizer.encode_ids(text).tolist() for text in _TEXTS]),
    )


def _make_shards(folder: Path) -> None:
    CharacterTokenizer.train(_LINES, 700).save(folder / "tokenizer")
    build_shards(folder / "shards", [SAMPLE / "corpus.txt"], folder / "tokenizer", "mecab", piece_characters=2000)


def _read_shards(folder: Path) -> object:
    """As training opens them."""
    entities = EntitiesConfig(annotator="mecab", mode="both")
    corpus = CorpusConfig(files=[], shards=str(folder / "shards"))
    return _tokens(prepare_shards(folder / "tokenizer", entities, corpus, DataConfig(cache=str(folder / "cache")), 1))


def _tokens(corpus: ShardedCorpus) -> object:
    stretches = [corpus.tokens(n, 0, corpus.document_length(n)) for n in range(len(corpus))]
    arrays = [(part.ids.tolist(), part.entities.tolist()) for part in stretches]
    return _digest(arrays), dataclasses.asdict(corpus.manifest)


def _recipe(folder: Path, material: Material) -> Recipe:
    filters = Filters(min_characters=30, duplicates=True, near_duplicates=0.8)
    return Recipe(tuple(material.texts), folder / "tokenizer", filters=filters, piece_characters=400)


def _building(material: Material, stage: str, count: int) -> Callable[[Path], None]:
    """A build that stops behind so many pieces of a stage."""

    def make(folder: Path) -> None:
        CharacterTokenizer.train(_LINES, 700).save(folder / "tokenizer")
        seen: list[Done] = []

        def watch(done: Done) -> None:
            seen.append(done)
            if sum(one.stage == stage for one in seen) == count:
                raise _Stop

        with contextlib.suppress(_Stop):
            Builder(folder / "shards", _recipe(folder, material), progress=watch).build()

    return make


def _finishing(material: Material) -> Callable[[Path], object]:
    def read(folder: Path) -> object:
        Builder(folder / "shards", _recipe(folder, material)).build()
        return outcome(folder / "shards")

    return read


def _preparing(material: Material) -> Callable[[Path], Any]:
    """Tokenizer and shards as a run finds them in the cache."""

    def prepare(folder: Path) -> object:
        corpus = CorpusConfig(files=list(map(str, material.texts)))
        data = DataConfig(cache=str(folder / "cache"))
        tokenizer = prepare_tokenizer(TokenizerConfig(kind="character", vocab_size=600), corpus, data)
        entities = EntitiesConfig(annotator="mecab", mode="both")
        return load_tokenizer(tokenizer).fingerprint, _tokens(prepare_shards(tokenizer, entities, corpus, data, 1))

    return prepare


# ---- stores ----


def _annotate(folder: Path) -> Any:
    annotator = CachedAnnotator(make_annotator("mecab"), folder / "annotations")
    found = annotator.annotate_all(_TEXTS)
    annotator._file.close()
    return found


def _make_store(folder: Path) -> None:
    write_store(folder / "store.sqlite", "mecab", make_annotator("mecab"), _TEXTS)


def _read_store(folder: Path) -> object:
    annotator = StoredAnnotator(folder / "store.sqlite", "mecab", None)
    found = annotator.annotate_all(_TEXTS)
    annotator._file.close()
    return found


def _make_records(folder: Path) -> None:
    store = RecordStore(folder / "records.sqlite")
    for number in range(12):
        results = {"f1": 50.5 + number, "exact_match": 40.25 - number}
        store.add(folder / f"runs/{number}", {"task": "t", "date": f"2026-01-{number + 1:02}", "results": results})
    store.close()


def _read_records(folder: Path) -> object:
    store = RecordStore(folder / "records.sqlite", must_exist=True)
    try:
        return [(run.id, str(run.folder), run.record) for run in store.runs()]
    finally:
        store.close()


def _windows(material: Material) -> Callable[[Path], Any]:
    def make(folder: Path) -> object:
        tokenizer = CharacterTokenizer.train(_LINES, 700)
        maker = WindowMaker(tokenizer, make_annotator("mecab"), EntityMode.BOTH, WindowConfig(90, 20, 24))
        windows, statistics = stored_windows(maker, read_korquad(material.folder / "dev.json"), folder)
        fields = [field.name for field in dataclasses.fields(windows[0])]
        columns = [[getattr(window, name) for name in fields] for window in windows]
        return statistics, _digest(
            [[getattr(value, "tolist", lambda v=value: v)() for value in row] for row in columns]
        )

    return make


def _gazetteer(material: Material) -> Callable[[Path], Any]:
    def make(folder: Path) -> object:
        names = material.folder / "names.tsv"
        if not names.exists():
            names.write_text(
                "".join(f"{word}\tPS\n" for word in sorted(set(" ".join(_LINES).split())) if word), "utf-8"
            )
        annotator = GazetteerAnnotator([names], GazetteerRules(common_length=0), folder / "gazetteers")
        return annotator.names, annotator.labels

    return make


# ---- models and runs ----


def _copying(material: Material) -> Callable[[Path], None]:
    def copy(folder: Path) -> None:
        shutil.copytree(material.base / "model", folder / "model")

    return copy


def _read_model(folder: Path) -> object:
    bundle = load_bundle(folder / "model")
    weights = {name: value.numpy().tobytes() for name, value in bundle.model.state_dict().items()}
    return bundle.description, bundle.tokenizer.fingerprint, _digest(sorted(weights.items()))


def _pretraining(material: Material, cut_off: bool = False) -> Callable[[Path], Any]:
    """A short pretraining to its end, from wherever it is, or until it is cut off."""

    def run(folder: Path) -> object:
        if not GlobalHydra.instance().is_initialized():
            initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3")
        torch.set_num_threads(1)
        overrides = [*pretrain(folder, material, steps=8)[2:], "data.records=null"]
        original = Trainer._after_step

        def stopping(self: Trainer[Any], *arguments: Any) -> None:
            original(self, *arguments)
            if self.progress.step == _STOP_AT:
                raise _Stop

        if cut_off:
            Trainer._after_step = stopping  # type: ignore[method-assign, assignment]
        try:
            pretraining.pretrain(compose_config("pretrain", overrides))
        except _Stop:
            return None
        finally:
            Trainer._after_step = original  # type: ignore[method-assign]
        found = outcome(folder / "run")
        del found["metrics.jsonl"]  # what was logged before is not promised to outlast damage
        return found

    return run

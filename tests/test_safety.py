"""Hostile files: no code of theirs is run, and special tokens, markup and SQL in them are text."""

from __future__ import annotations

import ast
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.table import Table
from test_tokenizers import TRAIN
from test_wikidump import dump

import korbert
from korbert.data.duplicates import SignatureStore
from korbert.data.shards import ShardedCorpus, build_shards
from korbert.data.wikidump import read_pages
from korbert.entities.store import AnnotationFile
from korbert.errors import DataError, KorbertError
from korbert.files import read_json, write_json_atomically
from korbert.study.page import render
from korbert.study.records import RecordStore
from korbert.tasks.importing import read_weights
from korbert.tokenizers import CharacterTokenizer, Tokenizer, load_tokenizer, open_published
from korbert.training.state import load_tensors

REPOSITORY = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(path for folder in ("korbert", "experiments") for path in (REPOSITORY / folder).rglob("*.py"))

# ---- no code of a file's is ever run ----

_MODULES = {"pickle", "_pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "joblib", "yaml", "jsonpickle"}
_BUILTINS = {"eval", "exec", "compile", "__import__"}
_CALLS = {"os.system", "os.popen", "tempfile.mktemp", "ssl._create_unverified_context", "torch.hub.load"}
_METHODS = {"extractall", "unpack_archive", "read_pickle", "instantiate"}
_KEYWORDS = {"allow_pickle": "False", "weights_only": "True", "trust_remote_code": "False", "shell": "False"}


def dangers(source: str) -> Iterator[str]:
    """What in a module could run what a file says, or unpack it anywhere."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in _MODULES)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in _MODULES:
            if not all(alias.name.endswith("Error") for alias in node.names):  # which what Hydra has read may raise
                yield str(node.module)
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {keyword.arg for keyword in node.keywords}
            if called in _BUILTINS | _CALLS or called.rpartition(".")[2] in _METHODS:
                yield called
            if called == "torch.load" and "weights_only" not in given:
                yield called
        elif isinstance(node, ast.keyword) and node.arg in _KEYWORDS and ast.unparse(node.value) != _KEYWORDS[node.arg]:
            yield f"{node.arg}={ast.unparse(node.value)}"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.relative_to(REPOSITORY).as_posix())
def test_no_module_runs_what_a_file_says(path: Path) -> None:
    assert list(dangers(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "from joblib import load", "import yaml as y", "from yaml import YAMLError, load",
        "import marshal, os", "eval(x)", "exec('a')",
        "torch.load(p)", "torch.load(p, weights_only=False)", "np.load(p, allow_pickle=True)", "a.extractall(f)",
        "AutoModel.from_pretrained(p, trust_remote_code=True)", "subprocess.run(c, shell=True)", "os.system(c)",
        "shutil.unpack_archive(a)", "hydra.utils.instantiate(c)", "def f():\n    import dill",
    ],
)  # fmt: skip
def test_what_is_looked_for_would_be_found(source: str) -> None:
    assert list(dangers(source))


class Harm:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def as_object_array(path: Path, harm: Harm) -> None:
    array = np.empty(1, dtype=object)
    array[0] = harm
    with path.open("wb") as file:
        if path.suffix == ".npz":
            np.savez(file, reasons=array)
        else:
            np.save(file, array)


WRITERS: dict[str, Callable[[Path, Harm], object]] = {
    "pickle": lambda path, harm: path.write_bytes(pickle.dumps(harm)),
    "zip": lambda path, harm: torch.save({"x": harm}, path),
    "old": lambda path, harm: torch.save({"x": harm}, path, _use_new_zipfile_serialization=False),
    "array": as_object_array,
}


def read_shards(path: Path) -> object:
    """As the tokens of a folder of shards whose manifest agrees with it."""
    folder = path.parent
    sample = REPOSITORY / "data" / "sample" / "corpus.txt"
    CharacterTokenizer.train(sample.read_text("utf-8").splitlines()[:5], 100).save(folder / "tokenizer")
    build_shards(folder / "shards", [sample], folder / "tokenizer", max_documents=1)
    tokens = next((folder / "shards").glob("*.tokens.npy"))
    tokens.write_bytes(path.read_bytes())
    manifest = read_json(folder / "shards" / "manifest.json")
    write_json_atomically(folder / "shards" / "manifest.json", {**manifest, "files": {}})
    return ShardedCorpus(folder / "shards")


def read_sentencepiece(path: Path) -> object:
    """As the model of one of korbert's own tokenizers."""
    described = {"format": 1, "kind": "sentencepiece", "fingerprint": "0" * 16, "normalizer": {}}
    write_json_atomically(path.with_name("tokenizer.json"), described)
    return load_tokenizer(path.rename(path.with_name("sentencepiece.model")).parent)


def read_run(path: Path) -> object:
    """As the weights of a run."""
    folder = path.parent / "run" / "model"
    sample = (REPOSITORY / "data" / "sample" / "corpus.txt").read_text("utf-8").splitlines()[:5]
    tokenizer = CharacterTokenizer.train(sample, 100)
    tokenizer.save(folder / "tokenizer")
    sizes = {"vocab_size": len(tokenizer), "hidden_size": 8, "num_layers": 1, "num_heads": 1, "intermediate_size": 8}
    described = {"format": 1, "kind": "encoder", "model": sizes, "annotator": "none", "mode": "none", "max_length": 8}
    write_json_atomically(folder / "model.json", {**described, "tokenizer": tokenizer.fingerprint})
    path.rename(folder / "model.safetensors")
    return korbert.load(folder.parent)


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "bin": ("pytorch_model.bin", read_weights),
    "safetensors": ("x.safetensors", load_tensors),
    "run": ("x.safetensors", read_run),
    "published model": ("x.model", open_published),
    "published json": ("tokenizer.json", open_published),
    "own tokenizer": ("x.model", read_sentencepiece),
    "shards": ("x.npy", read_shards),
    "signatures": ("x.npz", lambda path: SignatureStore(path.parent, ["x"])),
    "annotations": ("x.sqlite", AnnotationFile),
    "records": ("x.sqlite", lambda path: list(RecordStore(path, must_exist=True).runs())),
    "json": ("x.json", read_json),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("writer", WRITERS)
def test_no_reader_runs_code(tmp_path: Path, reader: str, writer: str) -> None:
    name, read = READERS[reader]
    WRITERS[writer](tmp_path / name, Harm(tmp_path / "harm"))
    with pytest.raises(KorbertError):
        read(tmp_path / name)
    assert not (tmp_path / "harm").exists()


def test_the_harm_is_real(tmp_path: Path) -> None:
    """What the test above would see."""
    pickle.loads(pickle.dumps(Harm(tmp_path / "harm")))
    assert (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    "declaration",
    [
        f"<!ENTITY a '{'x' * 1000}'>"
        + "".join(f"<!ENTITY {b} '{f'&{a};' * 50}'>" for a, b in ("ab", "bc", "cd", "de")),
        "<!ENTITY e SYSTEM 'file:///etc/passwd'>",
    ],
    ids=["bomb", "file"],
)
def test_entities_of_a_dump_neither_grow_nor_read_files(tmp_path: Path, declaration: str) -> None:
    text = f"<!DOCTYPE mediawiki [{declaration}]>{dump()}".replace("''세종''", "''&e;''", 1)
    (tmp_path / "wiki.xml").write_text(text, "utf-8")
    with pytest.raises(DataError, match=r"wiki\.xml"):
        assert not any(
            "root:" in page.wikitext or len(page.wikitext) > 1e6 for page in read_pages(tmp_path / "wiki.xml")
        )


# ---- special tokens are never text, not even to a tokenizer that has learned from texts full of them ----

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[ENT]", "[/ENT]", "<s>", "</s>", "<unk>", "<pad>", "▁", "##"]


@pytest.fixture(scope="module")
def taught() -> dict[str, Tokenizer]:
    lines = (REPOSITORY / "data" / "sample" / "corpus.txt").read_text("utf-8").splitlines()
    hostile = [*lines, *(f"{a}{b} {line[:9]}{a}" for a in _SPECIAL for b, line in zip(_SPECIAL, lines, strict=False))]
    return {name: train(hostile * 2) for name, train in TRAIN.items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", TRAIN)
@settings(max_examples=150, deadline=None)
@given(parts=st.lists(st.sampled_from([*_SPECIAL, " ", "세종은", "가", "a", "[", "]", "/"]), max_size=12))
@example(parts=_SPECIAL)
def test_special_tokens_stay_text(taught: dict[str, Tokenizer], kind: str, parts: list[str]) -> None:
    tokenizer = taught[kind]
    special = set(tokenizer.special.names.values()) - {tokenizer.special.unk}
    text = "".join(parts)
    assert not special & set(tokenizer.encode(text).ids.tolist())
    assert not special & set(tokenizer.encode(text, range(len(text))).ids.tolist())
    assert not special & set(tokenizer.encode_ids(text).tolist())


# ---- names are shown ----


def test_names_are_text_on_pages_and_terminals(capsys: pytest.CaptureFixture[str]) -> None:
    from test_report import row

    from korbert.comparison.report import as_markdown, as_rich
    from korbert.tasks.predictions import Console

    evil = "<script>alert(1)</script>|[/ENT]"
    record = {
        "name": evil, "task": "x", "command": "python ```\n<script>", "date": "2026-01-01", "commit": "0" * 40,
        "seed": 1, "hardware": {"device": "a", "threads": 1}, "versions": {},
        "results": {"f1": 1.0, "said": evil}, "curve": [],
    }  # fmt: skip
    page = render([record, {**record, "name": "other"}])
    outside = page.split("```")[::2]
    assert len(outside) == 3
    assert not any("<script" in part for part in outside)
    assert "&lt;script>alert(1)&lt;/script>\\|[/ENT]" in page
    assert "<script" not in as_markdown([row(evil)])
    for table in as_rich([row(evil)]):
        assert isinstance(table, Table)
        Console(markup=False, width=200).print(table)
    assert "[/ENT]" in capsys.readouterr().out


def test_stores_hold_what_they_are_given_as_values(tmp_path: Path) -> None:
    """A folder or a text with quotes is no SQL."""
    evil = "x'); DROP TABLE runs; --"
    store = RecordStore(tmp_path / "records.sqlite")
    store.add(tmp_path / evil.replace("/", ""), {"task": evil, "results": {}, "date": evil})
    store.add(tmp_path / "b", {"task": "b", "results": {}, "date": "2"})
    assert sorted(run.record["task"] for run in store.runs()) == ["b", evil]
    store.close()
    with sqlite3.connect(tmp_path / "records.sqlite") as connection:
        assert connection.execute("SELECT COUNT(*) FROM runs").fetchone() == (2,)

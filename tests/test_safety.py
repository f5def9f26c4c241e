"""Hostile files and names: no code of theirs is run, nothing is written or read elsewhere, no secret is kept."""

from __future__ import annotations

import ast
import json
import logging
import os
import pickle
import re
import sqlite3
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doors import run_door
from hydra import initialize_config_dir
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.table import Table
from test_tokenizers import TRAIN
from test_wikidump import dump

import korbert
from korbert.config import PublishConfig, RunConfig, compose_config
from korbert.data.duplicates import SignatureStore
from korbert.data.shards import ShardedCorpus, build_shards
from korbert.data.wikidump import read_pages
from korbert.entities.store import AnnotationFile
from korbert.errors import ConfigError, DataError, KorbertError
from korbert.files import plain_name, read_json, read_text, write_bytes_atomically, write_json_atomically
from korbert.redaction import HIDDEN, RedactingFormatter, redacted, redacted_values, refuse_secrets
from korbert.study.page import BEGIN, END, render
from korbert.study.records import RecordStore
from korbert.tasks.importing import import_model, read_weights
from korbert.tasks.publish import publish_results
from korbert.tasks.runs import as_dict
from korbert.tasks.wiki import extract_wiki
from korbert.tokenizers import CharacterTokenizer, Tokenizer, load_tokenizer, open_published
from korbert.training.bundle import load_bundle
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
        "import pickle", "from joblib import load", "import yaml as y", "import marshal, os", "eval(x)", "exec('a')",
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


# ---- names lead nowhere else ----

ELSEWHERE = ["../x", "/etc/passwd", "a/b", "..", ".", "", "a\\b", "a\0", 3, None]


@given(st.text(st.sampled_from("a./\\~\0가"), max_size=8))
@example("..")
@example("...")
def test_plain_names_stay_in_their_folder(name: str) -> None:
    folder = Path("/folder")
    if not name or set(name) & set("/\\\0") or name in (".", ".."):
        with pytest.raises(DataError, match=re.escape(repr(name))):
            plain_name(folder / "x.json", "files", name)
    else:
        assert Path(os.path.normpath(folder / plain_name(folder / "x.json", "files", name))).parent == folder


@pytest.mark.parametrize("name", ELSEWHERE)
def test_names_that_are_none(name: Any) -> None:
    with pytest.raises(DataError, match=r"x\.json: files: .* is no name of a file in this folder"):
        plain_name(Path("x.json"), "files", name)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["../secret.txt", "link.txt", "{tmp}/secret.txt"])
def test_a_run_publishes_its_own_files_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "secret.txt").write_text("mine")
    pages, run = tmp_path / "pages" / "deep", tmp_path / "run"
    pages.mkdir(parents=True)
    run.mkdir()
    (run / "link.txt").symlink_to(tmp_path / "secret.txt")
    (pages / "index.md").write_text(f"{BEGIN}\n{END}\n")
    record = {"task": "x", "commit": "0" * 40, "files": [name.replace("{tmp}", str(tmp_path))], "results": {}}
    write_json_atomically(run / "record.json", record)
    before = tree(tmp_path)
    with pytest.raises(DataError, match=r"is no name of a file in this folder|outside of the run's folder"):
        publish_results(PublishConfig(page="index", runs=[str(run)], folder=str(pages)))
    assert tree(tmp_path) == before


def composed(door: str, *overrides: str) -> Any:
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        return compose_config(door, list(overrides))


def test_titles_and_progress_of_a_dump_name_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(REPOSITORY)
    titles = ["../../evil", "/tmp/evil", "a/b\\c", "..", "<script>alert(1)</script>"]
    pages = [(number, 0, title, f"[[{title}]]은 문서이다.", False) for number, title in enumerate(titles, start=1)]
    (tmp_path / "wiki.xml").write_text(dump(pages), "utf-8")
    config = composed(
        "extract_wiki", f"run_dir={tmp_path / 'run'}", f"dump={tmp_path / 'wiki.xml'}", "runtime.workers=1"
    )
    extract_wiki(config)
    assert {path.name for path in tmp_path.iterdir()} == {"run", "wiki.xml"}
    assert not list(tmp_path.parent.glob("evil*"))
    assert len(list((tmp_path / "run").glob("articles-*"))) == 1
    (tmp_path / "run" / "record.json").unlink()
    progress = tmp_path / "run" / "progress.json"
    write_json_atomically(progress, {**read_json(progress), "files": ["../wiki.xml"]})
    with pytest.raises(DataError, match=r"progress\.json: files: '\.\./wiki\.xml' is no name"):
        extract_wiki(config)


@pytest.mark.parametrize("name", ["../../evil", "a/..", "..", "../evil", "/etc/none", "a/b/c", "a b", "https://x/y"])
def test_names_of_the_hub_are_names(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is asked of the hub, and nothing of its cache."""
    hub = pytest.importorskip("huggingface_hub")
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: pytest.fail("was asked"))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KorbertError):  # "..", which is a folder here, has no model in it
        import_model(name, tmp_path / "cache")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("changed", [False, True])
def test_what_the_hub_s_cache_holds_is_checked(tmp_path: Path, changed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = pytest.importorskip("huggingface_hub")
    import hashlib

    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "0"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    config, weights = b'{"model_type": "gpt2"}', b"weights"
    names = {
        "config.json": hashlib.sha1(b"blob %d\0" % len(config) + config).hexdigest(),
        "model.safetensors": hashlib.sha256(weights).hexdigest(),
    }
    for (name, blob), content in zip(names.items(), (config, weights), strict=True):
        (blobs / blob).write_bytes(content)
        (snapshot / name).symlink_to(blobs / blob)
    if changed:
        (blobs / names["model.safetensors"]).write_bytes(b"weightx")
    monkeypatch.setattr(hub, "snapshot_download", lambda *_, **__: str(snapshot))
    wanted = r"model\.safetensors: checksum: wanted sha256:" if changed else "holds no tokenizer"
    with pytest.raises(DataError, match=wanted):
        import_model("some/model", tmp_path / "cache")


def test_links_are_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_bytes(b"mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.json").symlink_to(tmp_path / "mine.txt")
    write_bytes_atomically(tmp_path / "run" / "record.json", b"theirs")
    assert (tmp_path / "mine.txt").read_bytes() == b"mine"
    assert (tmp_path / "run" / "record.json").read_bytes() == b"theirs"


def test_a_shard_that_is_a_link_elsewhere_shows_nothing_of_it(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").write_bytes(b"my secret " * 100)
    WRITERS["pickle"](tmp_path / "x.npy", Harm(tmp_path / "harm"))
    with pytest.raises(DataError):
        read_shards(tmp_path / "x.npy")
    tokens = next((tmp_path / "shards").glob("*.tokens.npy"))
    tokens.unlink()
    tokens.symlink_to(tmp_path / "secret.txt")
    with pytest.raises(DataError) as caught:
        ShardedCorpus(tmp_path / "shards")
    assert "my secret" not in str(caught.value)


def test_a_tokenizer_s_folder_brings_nothing_else_into_a_run(tmp_path: Path) -> None:
    """A link to a file of this machine's would be published with the model."""
    from models import write_run

    from korbert.encoding import EntityMode

    (tmp_path / "secret.txt").write_text("mine")
    lines = (REPOSITORY / "data" / "sample" / "corpus.txt").read_text("utf-8").splitlines()[:20]
    CharacterTokenizer.train(lines, 300).save(tmp_path / "tokenizer")
    (tmp_path / "tokenizer" / "more.txt").symlink_to(tmp_path / "secret.txt")
    write_run(tmp_path / "run", "span", tmp_path / "tokenizer", EntityMode.NONE)
    own = {path.name for path in (tmp_path / "run" / "model" / "tokenizer").iterdir()}
    assert own == {"tokenizer.json", "vocab.txt"}
    there, here = (
        load_tokenizer(folder) for folder in (tmp_path / "tokenizer", tmp_path / "run" / "model" / "tokenizer")
    )
    assert there.fingerprint == here.fingerprint == load_bundle(tmp_path / "run").tokenizer.fingerprint


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


# ---- secrets ----

SECRETS = {
    "WANDB_API_KEY": "0123456789abcdef0123456789abcdef01234567",
    "HF_TOKEN": "hf_abcdefghijklmnopqrstuvwxyz",
    "PGPASSWORD": "open sesame now",
    "MY_SECRET_2": "swordfish-swordfish",
    "GITHUB_PAT": "github_pat_abcdefgh",
    "MYSQL_PWD": "open barley now",
    "SSL_KEY": "MIIEvQIBADANBgkqhkiG9w0B/" * 200,
    "HTTPS_PROXY": "http://user:s3cretpassword@127.0.0.1:9",
}


@pytest.fixture
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SHORT_KEY", "abc")


@pytest.mark.usefixtures("secrets")
def test_secrets_are_hidden() -> None:
    for name, value in SECRETS.items():
        assert redacted(f"<{value}>") == (f"<http://{HIDDEN}@127.0.0.1:9>" if name == "HTTPS_PROXY" else f"<{HIDDEN}>")
    assert (
        redacted("abc https://a.b/c?d=e:f@g ssh://git@host a:b@c") == "abc https://a.b/c?d=e:f@g ssh://git@host a:b@c"
    )
    nested = {"a": [SECRETS["HF_TOKEN"], 1, None, True], "b": {"c": "x"}}
    assert redacted_values(nested) == {"a": [HIDDEN, 1, None, True], "b": {"c": "x"}}
    config = RunConfig(run_dir=f"runs/{SECRETS['PGPASSWORD']}")
    assert as_dict(config)["run_dir"] == f"runs/{HIDDEN}"
    refuse_secrets(["seed=1", "run_dir=abc", "corpus.files=[https://host/a@b]"])
    for word, said in (
        (f"x.y={SECRETS['HF_TOKEN']}", "x.y: has the value of HF_TOKEN"),
        (f"x.y={SECRETS['GITHUB_PAT']}", "x.y: has the value of GITHUB_PAT"),
        (f"x.y={SECRETS['MYSQL_PWD']}", "x.y: has the value of MYSQL_PWD"),
        ("z=ftp://u:p@h", "z: has a password or a token"),
        ("z=https://u:p/w@h", "z: has a password or a token"),
        ("z=[git+https://token@h]", "z: has a password or a token"),
    ):
        with pytest.raises(ConfigError, match=said):
            refuse_secrets([word])


@given(st.from_regex(r"[^\s/@:'\"]{0,20}", fullmatch=True), st.from_regex(r"[^\s'\"]{1,20}", fullmatch=True))
@example("u", "p/w")
@example("", "p@ss/w@rd")
@example("token", "")
@example("token" * 200, "/" * 999)
def test_no_part_of_a_password_in_an_address_is_left(user: str, password: str) -> None:
    if "://" not in password:
        for scheme in ("https", "HTTP", "postgresql", "git+ssh"):
            assert redacted(f"<{scheme}://{user}:{password}@host:80/x> a@b") == f"<{scheme}://{HIDDEN}@host:80/x> a@b"
    if user:
        assert redacted(f"'https://{user}@host/x' http://a@b") == f"'https://{HIDDEN}@host/x' http://{HIDDEN}@b"
        assert redacted(f"ssh://{user}@host/x") == f"ssh://{user}@host/x"


def test_where_the_shell_is_is_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PWD", "OLDPWD", "OLD_PWD"):
        monkeypatch.setenv(name, str(tmp_path))
    assert redacted(str(tmp_path / "x")) == str(tmp_path / "x")
    monkeypatch.setenv("PWD", "/a/folder/that/is/gone")
    refuse_secrets(["run_dir=/a/folder/that/is/gone/run"])


@pytest.mark.usefixtures("secrets")
def test_log_lines_have_no_secrets() -> None:
    formatter = RedactingFormatter("%(message)s")
    try:
        raise OSError(f"proxy {SECRETS['HTTPS_PROXY']} refused {SECRETS['WANDB_API_KEY']}")
    except OSError as error:
        record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "failed (%s)", (error,), sys.exc_info())
    said = formatter.format(record)
    assert "proxy http://[hidden]@127.0.0.1:9 refused [hidden]" in said
    assert "Traceback" in said
    assert "s3cret" not in said
    assert SECRETS["WANDB_API_KEY"] not in said


TINY = (
    "model=tiny", "model.hidden_size=16", "model.num_layers=1", "model.num_heads=2", "train.steps=2",
    "train.batch_size=2", "task.validation_examples=4", "tokenizer=syllable", "tokenizer.vocab_size=300",
    "entities=none", "runtime.threads=1", "runtime.workers=1", "corpus.max_documents=5", "corpus.holdout=0.3",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.usefixtures("secrets")
def test_a_run_keeps_no_secret(tmp_path: Path) -> None:
    """Everything that the door and wandb write, byte for byte."""
    pytest.importorskip("wandb")
    folders = (f"data.cache={tmp_path / 'cache'}", f"run_dir={tmp_path / 'run'}")
    done = run_door("pretrain", *TINY, "tracker=wandb", *folders)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"record.json", "config.json", "sessions.jsonl", "log.txt", "hydra.yaml"} <= {path.name for path in files}
    assert any(path.suffix == ".wandb" for path in files)
    contents = [*((str(path), path.read_bytes()) for path in files), ("stderr", done.stderr.encode())]
    for name, value in {**SECRETS, "HTTPS_PROXY": "s3cretpassword"}.items():
        assert [path for path, content in contents if value.encode() in content] == [], name


@pytest.mark.slow
@pytest.mark.usefixtures("secrets")
@pytest.mark.parametrize(
    ("override", "said"),
    [
        (f"tracker.group={SECRETS['HF_TOKEN']}", "value of HF_TOKEN"),
        ("tracker.group='http://me:pw@host'", "a password or a token"),
    ],
)
@pytest.mark.parametrize("sweep", [(), ("-m",)], ids=["run", "sweep"])
def test_a_command_line_with_a_secret_stops_at_once(
    tmp_path: Path, override: str, said: str, sweep: tuple[str, ...]
) -> None:
    done = run_door("pretrain", *sweep, *TINY, override, f"run_dir={tmp_path / 'run'}", ok=False)
    assert done.returncode == 1
    assert f"error: tracker.group: has {'the ' if 'HF' in said else ''}{said} in it" in done.stderr
    assert SECRETS["HF_TOKEN"] not in done.stderr
    assert not (tmp_path / "run").exists()


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
    assert json.loads(json.dumps(evil)) == evil


def test_a_name_that_is_too_long_is_named(tmp_path: Path) -> None:
    path = tmp_path / f"{'가' * 300}.json"
    with pytest.raises(DataError, match=r"file: cannot be looked for \(.*too long"):
        read_text(path)
    with pytest.raises(DataError, match=r"file: cannot be written \(.*too long"):
        write_json_atomically(path, {})

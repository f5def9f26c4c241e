"""Names in files and from elsewhere lead to their own folder and nowhere else."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hypothesis import example, given
from hypothesis import strategies as st
from test_safety import WRITERS, Harm, read_shards
from test_wikidump import dump

from korbert.config import PublishConfig, compose_config
from korbert.data.shards import ShardedCorpus
from korbert.errors import DataError, KorbertError
from korbert.files import plain_name, read_json, read_text, write_bytes_atomically, write_json_atomically
from korbert.study.page import BEGIN, END
from korbert.tasks.importing import import_model
from korbert.tasks.publish import publish_results
from korbert.tasks.wiki import extract_wiki
from korbert.tokenizers import CharacterTokenizer, load_tokenizer
from korbert.training.bundle import load_bundle

REPOSITORY = Path(__file__).resolve().parents[1]
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


def test_a_name_that_is_too_long_is_named(tmp_path: Path) -> None:
    path = tmp_path / f"{'가' * 300}.json"
    with pytest.raises(DataError, match=r"file: cannot be looked for \(.*too long"):
        read_text(path)
    with pytest.raises(DataError, match=r"file: cannot be written \(.*too long"):
        write_json_atomically(path, {})

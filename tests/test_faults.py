"""What kills, full disks and lost bytes leave behind: resumed to the same, made again, or refused by name.

A short run of experiments/stress/faults.py, and what a long one has found.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import doors
import pytest
import torch
from omegaconf import OmegaConf

from korbert.config import run_door
from korbert.entities import CachedAnnotator, StoredAnnotator, make_annotator, write_store
from korbert.entities.gazetteer import GazetteerAnnotator, GazetteerRules
from korbert.errors import DataError, WriteError
from korbert.files import (
    append_json,
    appended_json,
    atomic_file,
    read_sealed_json,
    remove_leftovers,
    write_sealed_json,
    writing,
)
from korbert.parallel import ordered_map
from korbert.study.records import RecordStore
from korbert.tasks.prepare import corpus_identity
from korbert.training.state import load_tensors, save_tensors
from korbert.training.tracking import Tracker, TrackerConfig


def run(repository: Path, folder: Path, *overrides: str) -> dict[str, Any]:
    command = [sys.executable, "experiments/stress/faults.py", f"run_dir={folder}", *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)
    cases = folder / "cases.jsonl"
    assert done.returncode == 0, done.stderr[-3000:] + (cases.read_text("utf-8") if cases.exists() else "")
    return json.loads((folder / "record.json").read_text("utf-8"))["results"]


@pytest.mark.slow
def test_faults_in_short(repository: Path, tmp_path: Path) -> None:
    """Kills of the two cheapest commands, a disk that is full, one that only can be read, and a few damages."""
    results = run(
        repository,
        tmp_path / "kills",
        "targets=[download,train_tokenizer]",
        "kills=4",
        "kills_at_once=2",
        "damages=15",
        "stores=[shards,annotations]",
        "faults=[kills,damage]",
    )
    assert results["problems"] == {}
    assert results["kills"]["kills"] >= 4
    assert results["kills"]["problems"] == results["damage"]["problems"] == 0
    ends = results["damage"]
    assert sum(ends.get(key, 0) for key in ("refused", "refused_folder", "remade", "harmless", "nothing")) == 2 * 15
    assert ends["refused"] > 10
    results = run(repository, tmp_path / "disks", "targets=[download]", "disks=2", "faults=[full,readonly]")
    assert results["problems"] == {}
    if "skipped" not in results["full"]:
        assert results["full"]["refused"] + results["readonly"]["refused"] >= 2


# ---- writing ----


def make_failing() -> Callable[[int], int]:
    """A worker whose disk is full."""

    def work(item: int) -> int:
        if item == 3:
            raise WriteError("some/file.npy", "file", "cannot be written")
        return item

    return work


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_worker_is_told_as_it_is(workers: int) -> None:
    """It could not be unpickled, and then a full disk looked like a worker that was killed."""
    with pytest.raises(WriteError, match=r"some/file\.npy: file: cannot be written") as caught:
        list(ordered_map(make_failing, (), range(6), workers, chunk=1))
    assert (caught.value.path, caught.value.where) == ("some/file.npy", "file")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EFBIG])
def test_what_cannot_be_written_is_named(tmp_path: Path, number: int) -> None:
    for around in (atomic_file, writing):
        with (
            pytest.raises(WriteError, match=r"some\.json: file: cannot be written \(.*what was finished"),
            around(tmp_path / "some.json"),
        ):
            raise OSError(number, os.strerror(number))
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match="other"), writing(tmp_path / "some.json"):
        raise OSError(number, "not this one", "other")


@pytest.mark.parametrize("refused", [os.R_OK, os.X_OK], ids=["the file", "its folder"])
def test_a_door_names_what_cannot_be_read(
    refused: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told by what may be done with it: the error is the same as that of a file that cannot be written."""
    path = tmp_path / "corpus.txt"
    path.write_text("글", "utf-8")

    def task(_: Any) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    for refuse, said in ((refused, "cannot be read (Permission denied)"), (os.W_OK, "cannot be written (")):
        monkeypatch.setattr(os, "access", lambda _, mode, refuse=refuse: mode != refuse)
        with pytest.raises(SystemExit):
            run_door(task, OmegaConf.create({}))
        assert f"error: {path}: file: {said}" in capsys.readouterr().err


def test_a_door_names_a_folder_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", True)

    def task(_: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/media/cache")

    with pytest.raises(SystemExit) as caught:
        run_door(task, OmegaConf.create({}))
    assert caught.value.code == 1
    assert "error: /media/cache: file: cannot be written (Read-only file system)" in capsys.readouterr().err

    def bug(_: Any) -> None:
        raise FileNotFoundError(errno.ENOENT, "no such file", "x")

    with pytest.raises(FileNotFoundError):
        run_door(bug, OmegaConf.create({}))


def test_a_run_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """Hydra would write into it first."""
    (tmp_path / "file").touch()
    for more in ([], ["-m", "seed=1,2"]):
        done = doors.run_door("pretrain", *more, f"run_dir={tmp_path}/file/run", ok=False)
        assert done.returncode == 1
        assert f"error: {tmp_path}/file/run: cannot be written (Not a directory)" in done.stderr


@pytest.mark.parametrize(
    ("door", "overrides"),
    [
        ("export_model", ["run=x", "folder={file}"]),
        ("runs", ["action=export", "records={folder}/runs.sqlite", "output={file}/runs.csv"]),
        ("annotate_corpus", ["annotator=mecab", "corpus=sample", "data.cache={file}", "run_dir={folder}/run"]),
        ("build_corpus", ["corpus=sample", "output={file}", "run_dir={folder}/run", "data.cache={folder}/cache"]),
    ],
)
def test_a_file_where_a_folder_is_to_be_is_named(tmp_path: Path, door: str, overrides: list[str]) -> None:
    file = tmp_path / "README.md"
    file.write_text("kept", "utf-8")
    RecordStore(tmp_path / "runs.sqlite").close()
    done = doors.run_door(door, *(override.format(file=file, folder=tmp_path) for override in overrides), ok=False)
    assert done.returncode == 1
    assert re.search(rf"error: (\w+=)?{file}\S*: .*(folder|Not a directory)", done.stderr), done.stderr
    assert file.read_text("utf-8") == "kept"


def test_a_line_that_was_cut_off_costs_no_other(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    append_json(path, {"step": 1})
    with path.open("ab") as file:
        file.write(b'{"step": 2, "loss": 0.\xea')
    append_json(path, {"step": 3})
    assert appended_json(path) == [{"step": 1}, {"step": 3}]
    Tracker(tmp_path, TrackerConfig(), {}).resume(9)  # there is no metrics.jsonl
    path.rename(tmp_path / "metrics.jsonl")
    Tracker(tmp_path, TrackerConfig(), {}).resume(2)
    assert (tmp_path / "metrics.jsonl").read_text("utf-8") == '{"step": 1}\n'


def test_what_killed_writers_leave_is_removed(tmp_path: Path) -> None:
    """And nothing else: what looked much like it, such as .env.template, was removed as well."""
    names = {".lock", "kept.json", ".model.json", ".env.template", ".gitignore.old_copy", ".a.12345678.korbert-tmp.gz"}
    for name in names:
        (tmp_path / name).touch()
    folders = {".foo.cachedir", ".foo.cachedir.korbert-tmp"}
    for name in folders:
        (tmp_path / name).mkdir()
    file = atomic_file(tmp_path / "checkpoint.safetensors")
    file.__enter__()
    assert len(list(tmp_path.iterdir())) == len(names | folders) + 1
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == names | folders
    file.gen.close()  # type: ignore[attr-defined]


# ---- reading ----


def bits(content: bytes, count: int) -> Iterator[bytes]:
    """`content` with one bit flipped, at places all over it."""
    rng = random.Random(5)
    for place in sorted(rng.sample(range(8 * len(content)), min(count, 8 * len(content)))):
        yield content[: place // 8] + bytes([content[place // 8] ^ 1 << place % 8]) + content[place // 8 + 1 :]


def test_a_flipped_bit_of_a_checkpoint_is_noticed(tmp_path: Path) -> None:
    """safetensors itself has no checksums: weights were taken as they came."""
    path = tmp_path / "checkpoint.safetensors"
    tensors = {"a": torch.randn(40, 3), "b": torch.arange(7), "c": torch.tensor(3.5), "d": torch.randn(4).bfloat16()}
    save_tensors(path, tensors, {"step": 7, "losses": {"mlm": 0.25}})
    content = path.read_bytes()
    save_tensors(path, tensors, {"step": 7, "losses": {"mlm": 0.25}})
    assert path.read_bytes() == content
    found, state = load_tensors(path)
    assert state == {"step": 7, "losses": {"mlm": 0.25}}
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
    unnoticed, said = 0, []
    for broken in bits(content, 1500):
        path.write_bytes(broken)
        try:
            again, state = load_tensors(path)
        except DataError as error:
            said.append(str(error))
            continue
        # The name of the state, or of the checksum in it: the tensors are whole.
        assert state == {} or set(state) == {"step", "losses", *(set(state) - {"step", "losses"})}
        assert all(torch.equal(again[name], value) for name, value in tensors.items())
        unnoticed += 1
    assert unnoticed < 60
    assert all("checkpoint.safetensors" in message for message in said)


def test_a_changed_value_of_a_sealed_file_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    value = {"tokens": 12345, "names": ("a", "b"), "share": 0.1, "각": {"2": 1, "10": None}}
    write_sealed_json(path, value)
    assert read_sealed_json(path) == json.loads(json.dumps(value))
    content = path.read_bytes()
    said = []
    for broken in bits(content, 8 * len(content)):
        path.write_bytes(broken)
        try:
            found = read_sealed_json(path)
        except DataError as error:
            said.append(str(error))
        else:  # the checksum's own name
            assert {key: found[key] for key in value} == json.loads(json.dumps(value))
    assert len(said) > 0.9 * 8 * len(content)
    assert all("manifest.json" in message for message in said)
    path.write_text('{"tokens": 1}', "utf-8")  # of before there were checksums
    assert read_sealed_json(path) == {"tokens": 1}


TEXTS = ["세종은 조선의 왕이다.", "이순신이 서울특별시에 갔다.", "아무것도 없다."]


def change(path: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    assert connection.execute(statement, values).rowcount > 0
    connection.commit()
    connection.close()


def test_a_changed_annotation_is_noticed(tmp_path: Path) -> None:
    """Entities would silently be others, and all that is made from them."""
    annotator = CachedAnnotator(make_annotator("mecab"), tmp_path)
    expected = annotator.annotate_all(TEXTS)
    annotator._file.close()
    (path,) = tmp_path.glob("*.sqlite")
    assert CachedAnnotator(make_annotator("mecab"), tmp_path).annotate_all(TEXTS) == expected
    change(path, "UPDATE spans SET found = replace(found, '[[0,2', '[[0,1')")
    with pytest.raises(DataError, match=rf"{path.name}: content: .*an entry is not what was written"):
        CachedAnnotator(make_annotator("mecab"), tmp_path).annotate_all(TEXTS)
    # Those of before there were checksums are read.
    change(path, "UPDATE spans SET found = substr(replace(found, '[[0,1', '[[0,2'), 1, length(found) - 8)")
    assert CachedAnnotator(make_annotator("mecab"), tmp_path).annotate_all(TEXTS) == expected


def test_a_changed_store_is_noticed(tmp_path: Path) -> None:
    """A text whose key is damaged would look like one without entities."""
    path = tmp_path / "links.sqlite"
    write_store(path, "mecab", make_annotator("mecab"), TEXTS)
    expected = make_annotator("mecab").annotate_all(TEXTS)
    annotator = StoredAnnotator(path, "mecab", None)
    assert annotator.annotate_all(TEXTS) == expected
    annotator._file.close()
    done = subprocess.run(
        ["sha256sum", "--check", f"{path.name}.sha256"], cwd=tmp_path, capture_output=True, check=False
    )
    assert done.returncode == 0
    change(path, "UPDATE spans SET text = zeroblob(16) WHERE found LIKE '[[0,2%'")
    with pytest.raises(DataError, match=r"links\.sqlite: checksum: damaged"):
        StoredAnnotator(path, "mecab", None)


@pytest.mark.parametrize("column", ["record", "folder", "task", "date", "id"])
def test_a_changed_record_is_noticed(tmp_path: Path, column: str) -> None:
    store = RecordStore(tmp_path / "records.sqlite")
    record = {"task": "t1", "date": "2026-01-01", "results": {"f1": 81.5, "by": {10: 1, 9: 2}}}
    store.add(tmp_path / "run1", record)
    store.add(tmp_path / "run1", json.loads(json.dumps(record)))  # as `scan` finds it
    (found,) = store.runs()
    assert found.record["results"]["f1"] == 81.5
    store.close()
    change(store.path, f"UPDATE runs SET {column} = replace({column}, '1', '2')")
    again = RecordStore(store.path)
    with pytest.raises(DataError, match=r"records\.sqlite: content: .*is not what was written\); without it, .* scan"):
        list(again.runs())
    again.close()


def test_a_store_of_before_there_were_checksums_is_read(tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE runs (id TEXT PRIMARY KEY, folder TEXT, task TEXT, date TEXT, record TEXT)")
    connection.commit()
    connection.close()
    store = RecordStore(path)
    store.add(tmp_path / "run", {"task": "t", "date": "d", "results": {}})
    change(path, "UPDATE runs SET folder_sum = NULL")
    assert [run.folder.name for run in store.runs()] == ["run"]
    store.close()


def test_a_damaged_gazetteer_in_the_cache_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    names = tmp_path / "names.tsv"
    names.write_text("이순신\tPS\n서울특별시\tLC\n", "utf-8")

    def found() -> tuple[list[str], list[str]]:
        annotator = GazetteerAnnotator([names], GazetteerRules(common_length=0), tmp_path / "cache")
        return annotator.names, annotator.labels

    expected = found()
    (path,) = (tmp_path / "cache").iterdir()
    content = path.read_bytes()
    assert found() == expected
    for broken in (content.replace(b"PS", b"PT"), content[:-3], b"", b"\xff" * 9):
        path.write_bytes(broken)
        assert found() == expected
        assert path.read_bytes() == content
    assert f"{path}: damaged; the names are read again" in caplog.text


def test_a_file_that_kept_its_time_is_read_again(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("글", "utf-8")
    before, status = corpus_identity([text], tmp_path), text.stat()
    text.write_text("굴", "utf-8")
    os.utime(text, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert text.stat().st_mtime_ns == status.st_mtime_ns
    assert corpus_identity([text], tmp_path) != before


def test_damaged_checksums_are_made_again(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("글", "utf-8")
    expected = corpus_identity([text], tmp_path)
    path = tmp_path / "checksums.json"
    content = path.read_text("utf-8")
    digit = expected[0][1][0]
    for broken in (content.replace(f'"{digit}', f'"{"0" if digit != "0" else "1"}'), content[:30], ""):
        assert broken != content
        path.write_text(broken, "utf-8")
        assert corpus_identity([text], tmp_path) == expected
        assert path.read_text("utf-8") == content


def test_an_emptied_store_of_records_is_no_empty_list(tmp_path: Path) -> None:
    (tmp_path / "records.sqlite").touch()
    with pytest.raises(DataError, match=r"records\.sqlite: file: empty; .* scan"):
        RecordStore(tmp_path / "records.sqlite", must_exist=True)
    RecordStore(tmp_path / "records.sqlite").close()  # one that was killed when it made the file has left it so

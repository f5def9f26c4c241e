"""What the GPU study is packed into: it comes out as it went in, and nothing else comes out of it."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from korbert.errors import DataError
from korbert.files import write_json_atomically
from korbert.tasks.gpu_study_archive import Prepared, pack, unpack


def test_files_come_out_as_they_went_in(tmp_path: Path) -> None:
    places = {}
    for place in ("a", "b"):
        places[place] = tmp_path / "from" / place
        places[place].mkdir(parents=True)
        for name in ("x.bin", "한글 이름"):
            (places[place] / name).write_bytes(f"{place}/{name}".encode() * 1000)
    pack(tmp_path / "study.tar.xz", places)
    with tarfile.open(tmp_path / "study.tar.xz") as tar:  # what has one name is alike, and lies together
        assert tar.getnames() == ["a/x.bin", "b/x.bin", "a/한글 이름", "b/한글 이름"]
    (tmp_path / "to").mkdir()
    unpack(tmp_path / "study.tar.xz", tmp_path / "to")
    found = {path.relative_to(tmp_path / "to"): path.read_bytes() for path in (tmp_path / "to").glob("*/*")}
    assert found == {path.relative_to(tmp_path / "from"): path.read_bytes() for path in (tmp_path / "from").glob("*/*")}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"test": "../x.json"}, r"questions: '\.\./x\.json' is no name"),
        ({"train": ["x.json", "/x.json"]}, "questions: '/x.json' is no name"),
        ({"annotators": {"mecab": "a/b"}}, "annotators: 'a/b' is no name"),
        ({"annotators": ["mecab"]}, "wanted what `prepare` writes"),
        ({"train": None}, "wanted what `prepare` writes"),
    ],
)
def test_names_in_a_study_are_of_its_own_files(changed: dict[str, Any], message: str, tmp_path: Path) -> None:
    described = {"annotators": {"none": "none"}, "test": "x.json", "train": ["x.json"], "archive": "0"}
    write_json_atomically(tmp_path / "study.json", {**described, **changed})
    with pytest.raises(DataError, match=rf"study\.json: .*{message}"):
        Prepared.read(tmp_path, tmp_path / "unpacked")


def member(name: str, kind: bytes = tarfile.REGTYPE) -> tuple[tarfile.TarInfo, bytes]:
    described = tarfile.TarInfo(name)
    content = b"evil" if kind == tarfile.REGTYPE else b""
    described.type, described.size, described.linkname = kind, len(content), "/etc/passwd"
    return described, content


@pytest.mark.parametrize(
    "crafted",
    [
        member("../evil"), member("a/../../evil"), member("/tmp/evil"), member("a/b/evil"), member("evil"),
        member("a/"), member("../evil", tarfile.DIRTYPE), member("a", tarfile.DIRTYPE), member("a/b", tarfile.SYMTYPE),
        member("a/b", tarfile.LNKTYPE), member("a/b", tarfile.FIFOTYPE), member("a/b", tarfile.CHRTYPE),
    ],
    ids=lambda crafted: f"{crafted[0].name} of type {crafted[0].type.decode()}",
)  # fmt: skip
def test_a_crafted_archive_of_a_study_writes_nothing(crafted: tuple[tarfile.TarInfo, bytes], tmp_path: Path) -> None:
    described, content = crafted
    with tarfile.open(tmp_path / "study.tar.xz", "w:xz") as tar:
        tar.addfile(described, io.BytesIO(content))
    target = tmp_path / "inner" / "unpacked"
    target.mkdir(parents=True)
    with pytest.raises(DataError, match=r"study\.tar\.xz: "):
        unpack(tmp_path / "study.tar.xz", target)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == [tmp_path / "study.tar.xz"]


@pytest.mark.parametrize("content", [b"", b"no archive", b"\xfd7zXZ\x00 cut off"])
def test_what_is_no_archive_of_a_study_is_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "study.tar.xz").write_bytes(content)
    with pytest.raises(DataError, match=r"study\.tar\.xz: .*no archive of a study"):
        unpack(tmp_path / "study.tar.xz", tmp_path)

"""Folders that are made anew each time: nothing of anybody else's is removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from korbert.config import QuickstartConfig
from korbert.errors import ConfigError, KorbertError
from korbert.tasks import quickstart as module
from korbert.tasks.own_folders import check_own, renew
from korbert.training.interrupt import Interrupted

MARKER = ".made"


def test_only_its_own_folder_is_emptied(tmp_path: Path) -> None:
    folder, kept = tmp_path / "a" / "b", tmp_path / "kept"
    kept.mkdir()
    (kept / "thesis.txt").touch()
    for _ in range(2):
        check_own(folder, MARKER)
        renew(folder, MARKER)
        assert [path.name for path in folder.iterdir()] == [MARKER]
        (folder / "report.md").touch()
        (folder / "runs").mkdir()
        (folder / "runs" / "x").touch()
        (folder / "link").symlink_to(kept)
    for other, message in ((kept, "there is something in it"), (kept / "thesis.txt", "this is a file")):
        with pytest.raises(ConfigError, match=f"folder={other}: {message}"):
            check_own(other, MARKER)
    check_own(kept, MARKER, lambda made: (made / "thesis.txt").exists())
    assert (kept / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("files", "is_own"),
    [
        ([], True),
        ([".quickstart", "plain/x", "report.md"], True),
        (["tokenizer/x", "pretrain/x", "plain/x"], True),
        (["tokenizer/x", "pretrain/x", "plain/x", "report.md"], True),
        (["tokenizer/x", "pretrain/x"], False),
        (["plain/x", "thesis.txt"], False),
        (["thesis.txt"], False),
    ],
)
def test_the_quickstart_knows_its_folder(
    tmp_path: Path, files: list[str], is_own: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("# korbert quickstart\n" if name == "report.md" else "", "utf-8")

    def begin(*_: str, **__: bool) -> str:
        raise KorbertError("began")

    monkeypatch.setattr(module, "_door", begin)
    before = sorted(folder.rglob("*"))
    with pytest.raises(KorbertError, match="began" if is_own else "choose another folder"):
        module.quickstart(QuickstartConfig(str(folder)))
    assert sorted(folder.rglob("*")) == ([folder / ".quickstart"] if is_own else before)


def test_a_quickstart_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is told to the command that it runs, too; what that has written stays, until a report is there."""
    (tmp_path / ".quickstart").touch()
    (tmp_path / "tokenizer").mkdir()
    ended: list[str] = []

    class Command:
        returncode = 0

        def __init__(self, *_: object, **__: object) -> None:
            pass

        def communicate(self) -> tuple[str, None]:
            raise KeyboardInterrupt

        def wait(self) -> None:
            ended.append("waited for")

    monkeypatch.setattr(module.subprocess, "Popen", Command)
    with pytest.raises(Interrupted, match="stopped in 1/7"):
        module.quickstart(QuickstartConfig(str(tmp_path)))
    assert ended == ["waited for"]
    assert (tmp_path / "tokenizer").is_dir()

"""Hangul on the command line, which Hydra's grammar does not know."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from doors import run_door
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from korbert.config.commandline import with_quotes
from korbert.data.korquad import read_korquad

# Folders that people have: letters of any script, digits, and what stands between them.
_LETTERS = "가-힣ㄱ-ㅎ一-龥éa-z0-9"
PATHS = st.from_regex(rf"[/.]?[{_LETTERS}][{_LETTERS} /._=+:#()~-]*[{_LETTERS}]", fullmatch=True).filter(
    lambda path: not path.isascii() and re.match(r"[a-z]+\(", path) is None  # a function's name
)


def parsed(argument: str) -> object:
    return OverridesParser.create().parse_override(with_quotes(argument))


@given(PATHS)
def test_a_path_is_what_was_typed(path: str) -> None:
    assert parsed(f"data.root={path}").value() == path  # type: ignore[attr-defined]
    assert with_quotes(with_quotes(f"data.root={path}")) == with_quotes(f"data.root={path}")


@given(st.lists(PATHS, min_size=2, max_size=4))
def test_lists_and_sweeps_have_a_path_in_each_place(paths: list[str]) -> None:
    assert parsed(f"runs=[{','.join(paths)}]").value() == paths  # type: ignore[attr-defined]
    override = parsed(f"runs={','.join(paths)}")
    assert list(override.sweep_string_iterator()) == [f"'{path}'" for path in paths]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "argument",
    [
        "-m", "--config-dir=설정", "seed=1,2", "data.root='/집'", 'files=["{root}/글.txt"]', "files={root}/글.txt",
        "+name=choice(가,나)", "arm=none", "폴더",
    ],
)  # fmt: skip
def test_what_is_quoted_or_more_than_words_is_left_alone(argument: str) -> None:
    assert with_quotes(argument) == argument


def test_a_door_in_a_folder_with_hangul(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "내 자료(1)"
    folder.mkdir()
    sample = repository / "data" / "sample" / "KorQuAD_sample_dev.json"
    (folder / "질문.json").write_bytes(sample.read_bytes())
    answers = {question.id: question.answers[0].text for _, _, question in read_korquad(sample).questions()}
    (folder / "답.json").write_text(json.dumps(answers), "utf-8")
    done = run_door("evaluate_korquad", f"dataset={folder}/질문.json", f"predictions={folder}/답.json")
    assert json.loads(done.stdout)["exact_match"] == 100.0

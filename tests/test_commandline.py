"""Hangul on the command line, which Hydra's grammar does not know."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from doors import REPOSITORY, run_door
from hydra import initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import ConfigCompositionException, OverrideParseException
from hypothesis import given
from hypothesis import strategies as st

from korbert.config import compose_config
from korbert.config.commandline import with_quotes
from korbert.config.mistakes import explained, without_hydra_s_words
from korbert.config.overrides import for_the_shell
from korbert.data.korquad import read_korquad
from korbert.errors import ConfigError
from korbert.study.records import keep_record

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


@given(st.one_of(PATHS, st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), min_size=1)))
def test_what_a_message_says_to_type_is_read_as_it_was_meant(path: str) -> None:
    (word,) = shlex.split(for_the_shell("run_dir", path))
    assert parsed(word).value() == path  # type: ignore[attr-defined]


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


@pytest.mark.slow
@pytest.mark.parametrize(
    ("door", "argument", "message"),
    [
        ("pretrain", "train.step=5", "train.step: there is no such key; is train.steps meant?"),
        ("pretrain", "tokeniser=x", "tokeniser: there is no such key; is tokenizer meant?"),
        ("pretrain", "+train.step=5", "train.step: there is no such key; is train.steps meant?"),
        ("pretrain", "train.steps=abc", "train.steps: Value 'abc' of type 'str' could not be converted to Integer"),
        ("pretrain", "experiment=foo", "experiment=foo: there is no such file in conf/experiment, wanted "),
        (
            "pretrain",
            "recipe=modren",
            "recipe=modren: there is no such file in conf/recipe, wanted bert, modern, selection; is modern meant?",
        ),
        ("compare_tokenizers", "tokenizers=[sylable]", "train_tokenizer: tokenizer=sylable: there is no such file in "),
        ("annotate_corpus", "entities=gazetteer", "entities: this command has no such group of settings; see --help"),
        ("compare_tokenizers", "tokenizers=syllable", "tokenizers: wanted a list, e.g. tokenizers='[syllable]'"),
        ("compare_tokenizers", "tokenizers='a b/c'", "tokenizers: wanted a list, e.g. tokenizers='[\"a b/c\"]'"),
        ("gpu_study", "prepar", "'prepar': wanted KEY=VALUE"),
        ("pretrain", "train.steps=[1", "train.steps=[1: "),
        ("report", "baseline=entities.mode=none", "baseline=entities.mode=none: wanted quotation marks"),
        ("pretrain", "seed=${nope}", "seed: Interpolation key 'nope' not found\n"),
        (
            "pipeline",
            "finetuning=['train.epoch=1']",
            "finetune_korquad: train.epoch: there is no such key",
        ),
    ],
)
def test_a_wrong_command_line_is_told_in_our_words(door: str, argument: str, message: str, tmp_path: Path) -> None:
    """Hydra's advice for a misspelled key is to add it."""
    place = [] if door == "gpu_study" else [f"run_dir={tmp_path / 'run'}"]
    done = run_door(door, argument, *place, ok=False)
    assert f"error: {message}" in done.stderr
    assert "HYDRA_FULL_ERROR" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("override", ["run_dir=runs/실험/${seed}", "baseline=entities.mode=none", "x=[a=b,{root}/글]"])
def test_quotation_marks_that_are_asked_for_are_enough(override: str) -> None:
    with pytest.raises(OverrideParseException) as unread:
        OverridesParser.create().parse_overrides([override])
    said = explained(unread.value)
    assert said.startswith(f"{override}: wanted quotation marks")
    (typed,) = shlex.split(said.rpartition("shell: ")[2])
    parsed = OverridesParser.create().parse_override(with_quotes(typed))
    key, _, text = override.partition("=")
    assert parsed.key_or_group == key
    assert parsed.value() == (text[1:-1].split(",") if text.startswith("[") else text)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "# @package _global_\nseed:\t3\n",
            "own.yaml, line 2: found character '\\t' that cannot start any token; lines",
        ),
        ("# @package _global_\nseed: 3\n\nseed: 4\n", "own.yaml, line 4: found duplicate key seed"),
        ("# @package _global_\nseed: [3\n", "own.yaml, line 3: expected ',' or ']'"),
        ("seed: 3\n", "experiment/own: its settings are put below 'experiment', where this command has none; wanted a"),
    ],
    ids=["tab", "twice", "bracket", "package"],
)
def test_an_own_experiment_that_cannot_be_read_is_told_by_its_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "own.yaml").write_text(content, "utf-8")
    done = run_door("pretrain", "--config-dir", str(tmp_path), "experiment=own", f"run_dir={tmp_path}/x", ok=False)
    assert message in done.stderr
    assert done.stderr.startswith("error: ")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("given", "store"), [("null", None), ("", None), ("null.sqlite", "null.sqlite")])
def test_no_store_of_records_can_be_asked_for_by_the_environment(
    repository: Path, monkeypatch: pytest.MonkeyPatch, given: str, store: str | None
) -> None:
    """Which knows text alone: it must not be the name of a file."""
    monkeypatch.setenv("KORBERT_RECORDS", given)
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        assert compose_config("pretrain", ["run_dir=x"]).data.records == store
        if store is None:
            with pytest.raises(ConfigError, match="records: wanted the file of a store"):
                compose_config("runs", [])


def test_hydra_s_own_words_are_there_for_the_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ConfigCompositionException("x")

    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(ConfigCompositionException):
        without_hydra_s_words(fail)


def test_a_search_without_a_score_ends_with_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(message: str) -> None:
        raise ValueError(message)

    monkeypatch.setenv("HYDRA_FULL_ERROR", "")  # set back behind the test
    monkeypatch.delenv("HYDRA_FULL_ERROR")
    with pytest.raises(SystemExit):
        without_hydra_s_words(lambda: fail("No trials are completed yet."))
    assert "error: not one trial of this search has a score" in capsys.readouterr().err
    monkeypatch.delenv("HYDRA_FULL_ERROR")
    with pytest.raises(ValueError, match="else"):
        without_hydra_s_words(lambda: fail("else"))


@pytest.mark.parametrize("command", ["pretrain.py --cfg job", "report_errors.py --help", "runs.py list records={}"])
def test_a_reader_that_has_gone_is_no_error(command: str, tmp_path: Path) -> None:
    """As of `| head`, which ends when it has what it wants."""
    store = tmp_path / "records.sqlite"
    keep_record(str(store), tmp_path / "run", {"task": "pretrain", "date": "2026", "results": {}})
    arguments = [sys.executable, *f"experiments/{command.format(store)}".split()]
    process = subprocess.Popen(arguments, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1

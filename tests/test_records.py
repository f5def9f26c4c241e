"""The store of records under many writers and after a crash; conditions, tables and files made of it."""

from __future__ import annotations

import csv
import json
import mmap
import operator
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from doors import run_door
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from korbert.config import RunsConfig, as_override
from korbert.errors import ConfigError, DataError
from korbert.files import under, write_json_atomically
from korbert.study.collection import find_records
from korbert.study.query import as_row, check_keys, parse, value
from korbert.study.records import RecordStore, StoredRun, keep_record, scan
from korbert.study.results import Meter, add_costs, main_score, make_record
from korbert.tasks.records import as_overrides, look_at_runs, with_conditions

WRITER = """
import sys
from pathlib import Path
from korbert.study.records import keep_record
store, name, count = sys.argv[1:]
for number in range(int(count)):
    keep_record(store, Path(store).parent / f"{name}-{number}", {"task": "t", "date": f"{number:06}", "results": {"by": name, "n": number}})
    if number % 10 == 9:
        print(number + 1, flush=True)
"""  # noqa: E501


def writer(repository: Path, store: Path, name: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(store), name, str(count)]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_two_writers_of_a_thousand_records_each_lose_none(repository: Path, tmp_path: Path) -> None:
    store = tmp_path / "records.sqlite"
    both = [writer(repository, store, name, 1000) for name in ("a", "b")]
    errors = [process.communicate(timeout=900)[1] for process in both]
    assert errors == ["", ""]  # no warning that a record could not be kept
    found = [(run.record["results"]["by"], run.record["results"]["n"]) for run in RecordStore(store).runs()]
    assert sorted(found) == [(name, number) for name in ("a", "b") for number in range(1000)]
    # The file alone, read by SQLite itself.
    assert sqlite3.connect(store).execute("SELECT COUNT(*), COUNT(DISTINCT id) FROM runs").fetchone() == (2000, 2000)


def test_a_killed_writer_leaves_a_store_that_can_be_read_and_written(repository: Path, tmp_path: Path) -> None:
    path = tmp_path / "records.sqlite"
    process = writer(repository, path, "a", 100_000)
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 200:
            break
    process.kill()
    process.communicate()
    store = RecordStore(path)
    numbers = sorted(run.record["results"]["n"] for run in store.runs())
    assert len(numbers) >= 200  # what was said to be written is there
    assert numbers == list(range(len(numbers)))
    store.add(tmp_path, {"task": "t", "results": {}})
    assert len(list(store.runs())) == len(numbers) + 1
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def run(folder: Path, **changes: Any) -> dict[str, Any]:
    seed, f1 = changes.get("seed", 1), changes.get("f1", 20.5)
    config = {
        "seed": seed,
        "tokenizer": {"kind": changes.get("kind", "character"), "path": None},
        "train": {"steps": 5},
    }
    record = make_record("finetune_korquad", config, {"f1": f1, "exact_match": 3, "f1_interval": [1.0, 30.0]})
    record["date"] = f"2026-01-0{seed}"
    write_json_atomically(folder / "record.json", record)
    return record


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Three runs in folders, and a store that has them."""
    for seed, (f1, kind) in enumerate([(20.5, "character"), (9.0, "sentencepiece"), (100.0, "sentencepiece")], start=1):
        folder = tmp_path / "runs" / f"run{seed}"
        keep_record(str(tmp_path / "runs" / "records.sqlite"), folder, run(folder, seed=seed, f1=f1, kind=kind))
    return tmp_path / "runs" / "records.sqlite"


def seeds(store: Path, where: str) -> list[int]:
    conditions = parse(where)
    return [r.record["seed"] for r in RecordStore(store).runs() if all(c.holds(as_row(r)) for c in conditions)]


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        ("", [1, 2, 3]),
        ("f1>20", [1, 3]),  # as numbers: 9 is less, 100 is more
        ("f1>=20.5 f1<100", [1]),
        ("task=finetune_korquad tokenizer.kind=sentencepiece", [2, 3]),
        ("config.tokenizer.kind!=sentencepiece", [1]),
        ("seed=2", [2]),
        ("exact_match=3.0 seed<=2", [1, 2]),
        ("date>2026-01-01", [2, 3]),
        ("folder~/run3", [3]),
        ("tokenizer.path=null", [1, 2, 3]),
        ("tokenizer.path!=null", []),
        ("'command~py' seed=1", [1]),
        ("task=pretrain", []),
    ],
)
def test_conditions(store: Path, where: str, wanted: list[int]) -> None:
    assert seeds(store, where) == wanted


@given(
    st.integers(-50, 50) | st.floats(-50, 50), st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), st.integers(-50, 50)
)
def test_conditions_compare_numbers_as_numbers(found: float, sign: str, wanted: int) -> None:
    by_name = {"=": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}
    row = as_row(StoredRun("x", Path("x"), {"results": {"f1": found}}))
    (condition,) = parse(f"f1{sign}{wanted}")
    assert condition.holds(row) == getattr(operator, by_name[sign])(found, wanted)


def test_wrong_conditions_name_what_is_wrong(store: Path) -> None:
    with pytest.raises(ConfigError, match=r"'f1': wanted KEY, one of"):
        parse("f1")
    with pytest.raises(ConfigError, match="No closing quotation"):
        parse("task='x")
    rows = [as_row(r) for r in RecordStore(store).runs()]
    for text in ("abc", ">20"):
        with pytest.raises(ConfigError, match=f"where: f1>{text}: f1 is a number, wanted another one"):
            seeds(store, f"f1>{text}")
    with pytest.raises(ConfigError, match=r"wanted list, compare, export, scan, got 'lst'"):
        look_at_runs(RunsConfig(as_overrides(["lst"])[0].removeprefix("action="), str(store)))
    with pytest.raises(ConfigError, match=r"where: no run has 'tokenizer\.knd'; is tokenizer\.kind"):
        check_keys(rows, ["tokenizer.knd"], "where")
    with pytest.raises(ConfigError, match="wanted list, compare, export, scan, got 'show'"):
        look_at_runs(RunsConfig("show", str(store)))
    with pytest.raises(DataError, match=r"no\.sqlite: file: not found.*scan"):
        look_at_runs(RunsConfig("list", str(store.with_name("no.sqlite"))))
    broken = store.with_name("broken.sqlite")
    broken.write_text("no data base, but long enough to be none for certain" * 20, "utf-8")
    with pytest.raises(DataError, match="cannot be used as a store"):
        look_at_runs(RunsConfig("list", str(broken)))


def test_a_row_has_values_by_short_and_by_full_name(store: Path) -> None:
    row = as_row(next(RecordStore(store).runs()))
    assert value(row, "f1") == value(row, "results.f1") == 20.5
    assert value(row, "train.steps") == 5
    assert json.loads(value(row, "f1_interval")) == [1.0, 30.0]
    assert value(row, "hardware.device")
    assert value(row, "nothing") is None


def test_store_is_made_again_from_the_folders(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {r.id: (r.folder, r.record) for r in RecordStore(store).runs()}
    root = store.parent
    shutil.move(root / "run1", root / "moved")
    (root / "run2" / "record.json").write_text("{", "utf-8")  # damaged since
    again = RecordStore(store)
    count, problems = scan(again, [root])
    assert count == 2
    assert len(problems) == 1
    assert "run2" in problems[0]
    after = {r.id: (r.folder, r.record) for r in again.runs()}
    assert {key: record for key, (_, record) in after.items()} == {key: record for key, (_, record) in before.items()}
    assert sorted(folder.name for folder, _ in after.values()) == ["moved", "run2", "run3"]
    new = root.parent / "new.sqlite"
    look_at_runs(RunsConfig("scan", str(new), runs=[str(root)]))
    assert "2 records" in capsys.readouterr().out
    assert {r.id for r in RecordStore(new).runs()} < set(before)
    with pytest.raises(DataError, match="folder: not found"):
        scan(again, [root / "nowhere"])


def test_runs_behind_links_are_found(store: Path, tmp_path: Path) -> None:
    """As where the runs lie on another disk; a link that leads back up ends."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(store.parent / "run1", elsewhere / "run1")
    here = tmp_path / "here"
    here.mkdir()
    (here / "linked").symlink_to(elsewhere)
    (elsewhere / "up").symlink_to(elsewhere)
    (elsewhere / "another").symlink_to(elsewhere / "run1")
    assert [found.name for found in find_records([str(here)])] == ["linked/run1"]
    assert under(elsewhere, "record.json") == [elsewhere / "run1" / "record.json"]
    assert scan(RecordStore(tmp_path / "x.sqlite"), [here]) == (1, [])


def test_a_record_that_cannot_be_kept_costs_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "taken").mkdir()
    keep_record(str(tmp_path / "taken"), tmp_path, {"task": "t"})
    assert "not in the store" in caplog.text
    keep_record(None, tmp_path, {"task": "t"})


def test_tables(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    look_at_runs(RunsConfig("list", str(store), where="f1>10", sort="f1"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-1] for line in lines[1:3]] == ["20.5", "100"]
    assert lines[-1] == "2 runs"
    look_at_runs(RunsConfig("list", str(store), columns=["seed", "tokenizer.kind"], sort="date"))
    assert capsys.readouterr().out.split()[:4] == ["seed", "tokenizer.kind", "1", "character"]
    first = next(RecordStore(store).runs())
    look_at_runs(RunsConfig("compare", str(store), runs=[str(store.parent / "run2"), first.id[:8]]))
    cells = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.split()}
    assert cells["config.tokenizer.kind"] == ["sentencepiece", "character"]
    assert cells["results.f1"] == ["9", "20.5"]
    assert cells["config.seed"] == ["2", "1"]
    assert "config.train.steps" not in cells  # the same in both
    with pytest.raises(ConfigError, match="neither the folder nor the id"):
        look_at_runs(RunsConfig("compare", str(store), runs=["nowhere", "run1"]))
    with pytest.raises(ConfigError, match="wanted two runs or more"):
        look_at_runs(RunsConfig("compare", str(store), where="seed=1"))


def test_a_folder_that_was_used_again_is_the_last_run_s(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What was run in it before is in the store still, and is shown to who asks for it."""
    again = store.parent / "run1"
    shutil.rmtree(again)
    keep_record(str(store), again, run(again, seed=5, f1=77.0))
    assert [(r.record["seed"], r.superseded) for r in RecordStore(store).runs()] == [
        (1, True), (2, False), (3, False), (5, False)
    ]  # fmt: skip

    def listed(**values: Any) -> tuple[list[str], str]:
        caplog.clear()
        look_at_runs(RunsConfig("list", str(store), columns=values.pop("columns", ["seed"]), **values))
        return [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:-1]], caplog.text

    seeds, said = listed()
    assert seeds == ["2", "3", "5"]
    assert "1 runs are left out, in whose folders later ones were run: where='superseded=true' shows them" in said
    assert listed(where="folder~run1")[0] == ["5"]
    assert listed(where="superseded=true") == (["1"], "")
    assert listed(sort="superseded")[0] == ["2", "3", "5", "1"]
    assert listed(columns=["seed", "superseded"])[0] == ["1", "2", "3", "5"]
    look_at_runs(RunsConfig("list", str(store), sort="superseded"))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[-2] for line in lines[:-1]] == ["superseded", "False", "False", "False", "True"]
    look_at_runs(RunsConfig("export", str(store), output=str(tmp_path / "runs.csv")))
    assert (tmp_path / "runs.csv").read_text("utf-8").count("\n") == 4
    first = next(RecordStore(store).runs())
    capsys.readouterr()
    look_at_runs(RunsConfig("compare", str(store), runs=[str(again), first.id]))
    cells = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.split()}
    assert cells["results.f1"] == ["77", "20.5"]  # the folder's last run, and by its id the one before
    assert scan(RecordStore(store), [store.parent]) == (3, [])  # nothing is lost, nor made the last again
    assert [r.superseded for r in RecordStore(store).runs()] == [True, False, False, False]


def test_the_beginning_of_several_ids_is_refused(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(20):  # of seventeen ids two have the same first digit
        folder = tmp_path / "runs" / f"more{number}"
        keep_record(str(store), folder, run(folder, seed=9, f1=float(number)))
    ids = [r.id for r in RecordStore(store).runs()]
    digit = next(one[0] for number, one in enumerate(ids) if one[0] in [other[0] for other in ids[:number]])
    several = [one for one in ids if one.startswith(digit)]
    with pytest.raises(
        ConfigError, match=f"runs: {digit} is the beginning of {len(several)} ids, wanted that of one"
    ) as e:
        look_at_runs(RunsConfig("compare", str(store), runs=[digit, ids[0]]))
    assert all(one[:8] in str(e.value) for one in several[:8])
    look_at_runs(RunsConfig("compare", str(store), runs=[several[0][:12], several[1][:12]]))
    monkeypatch.chdir(tmp_path / "runs")
    (tmp_path / "runs" / digit).mkdir()
    keep_record(str(store), Path(digit), run(Path(digit), seed=8))
    look_at_runs(RunsConfig("compare", str(store), runs=[digit, "run1"]))  # a folder of that very name


def test_small_numbers_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Learning rates, say."""
    store = tmp_path / "records.sqlite"
    for rate in (1e-5, 4e-5):
        folder = tmp_path / f"run{rate}"
        config = {"seed": 1, "train": {"learning_rate": rate, "warmup": 0.1}}
        record = make_record("finetune_korquad", config, {"f1": 0.00004})
        write_json_atomically(folder / "record.json", record)
        keep_record(str(store), folder, record)
    look_at_runs(RunsConfig("compare", str(store), where="seed=1"))
    cells = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.split()}
    assert sorted(cells["config.train.learning_rate"]) == ["1e-05", "4e-05"]
    assert cells["results.f1"] == ["4e-05"] * 2
    assert "config.train.warmup" not in cells


def test_exports_are_read_by_others(store: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    for name in ("runs.csv", "runs.parquet"):
        look_at_runs(RunsConfig("export", str(store), where="seed<3", output=str(tmp_path / name)))
    with (tmp_path / "runs.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["results.f1"]) for row in rows] == [20.5, 9.0]
    table = parquet.read_table(tmp_path / "runs.parquet").to_pydict()
    assert table["results.f1"] == [20.5, 9.0]
    assert table["config.tokenizer.kind"] == ["character", "sentencepiece"]
    assert set(table) == set(rows[0])
    look_at_runs(RunsConfig("export", str(store), output=str(tmp_path / "few.csv"), columns=["seed", "f1", "seed"]))
    assert all(row.count(",") == 1 for row in (tmp_path / "few.csv").read_text("utf-8").splitlines())
    with pytest.raises(ConfigError, match=r"\.csv or \.parquet"):
        look_at_runs(RunsConfig("export", str(store), output="runs.xlsx"))


def test_texts_that_look_like_numbers_are_texts() -> None:
    rows = [{"versions.torch": "2.1"}, {"versions.torch": "2.10"}, {"folder": "1e5", "config.x": 1e5}]
    for where, holds in (("versions.torch=2.10", 1), ("versions.torch=2.1", 0), ("folder=1e5", 2), ("x=100000", 2)):
        (condition,) = parse(where)
        assert [condition.holds(row) for row in rows] == [number == holds for number in range(3)]


def test_words_of_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    where = "task='a b' f1>20 tokenizer.kind=x"
    made = as_overrides(["list", f"where={where}", "sort=f1"])
    parsed = {o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(made)}
    assert parsed == {"action": "list", "where": where, "sort": "f1"}
    (tmp_path / "lr=1e-3,x").mkdir()
    monkeypatch.chdir(tmp_path)
    made = as_overrides(["compare", "lr=1e-3,x", "runs/it's"])
    parsed = {o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(made)}
    assert parsed["runs"] == ["lr=1e-3,x", "runs/it's"]  # a folder may be named after what varied
    made = as_overrides(["compare", "runs/it's", "0123abcd", "records=a b.sqlite"])
    parsed = {o.key_or_group: o.value() for o in OverridesParser.create().parse_overrides(made)}
    assert parsed["runs"] == ["runs/it's", "0123abcd"]
    assert parsed["records"] == "a b.sqlite"
    assert as_overrides(["--help"]) == ["--help"]
    assert with_conditions(["where=seed<2 f1>20", "runs=[a]", "where="]) == [
        "where='seed<2 f1>20'",
        "runs=[a]",
        "where=",
    ]
    for words in (with_conditions, as_overrides):
        assert words(['where="seed<2 f1>20"']) == ['where="seed<2 f1>20"']  # for Hydra already
        assert words(["where='seed'=2 name='a b'"]) == [r"where='\'seed\'=2 name=\'a b\''"]


@given(st.lists(st.text(st.sampled_from("a가 '\"\\,=[]{}()#~+-.:/*?1"), max_size=9), max_size=3))
def test_any_path_comes_through_an_override(texts: list[str]) -> None:
    for given_value in (texts, *texts):
        parsed = OverridesParser.create().parse_override(as_override("key", given_value)).value()
        as_it_is = [str(part) for part in parsed] if isinstance(given_value, list) else str(parsed)
        assert as_it_is == given_value


def test_the_door(store: Path) -> None:
    done = run_door("runs", "list", "where=f1>20 tokenizer.kind=character", f"records={store}")
    assert "run1" in done.stdout
    assert "run2" not in done.stdout


# ---- what a record says of cost, and to a search ----


def test_a_command_names_no_place_of_a_machine(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(repository / "experiments" / "report.py"), f"runs=[{tmp_path}/runs/a]"])
    assert make_record("report", {}, {})["command"].endswith(" experiments/report.py 'runs=[runs/a]'")
    monkeypatch.setattr(sys, "argv", ["report.py", f"runs=[/mnt{tmp_path}/runs/a]", f"x=file://{tmp_path}/b"])
    assert make_record("report", {}, {})["command"].endswith(
        f"report.py 'runs=[/mnt{tmp_path}/runs/a]' x=file://{tmp_path}/b"
    )


def test_costs_are_measured_and_added() -> None:
    meter = Meter()
    block = mmap.mmap(-1, 80_000_000)  # given back when it is closed, whatever malloc keeps
    for place in range(0, len(block), 4096):
        block[place] = 1  # touched, so that it is there
    peak = meter.read()["peak_memory_mb"]
    block.close()
    sum(number * number for number in range(3_000_000))
    found = meter.read()
    assert found["cpu_seconds"] > 0.01
    assert found["wall_seconds"] >= found["cpu_seconds"] * 0.5
    assert peak > 80
    if Path("/proc/self/clear_refs").exists():
        assert Meter().read()["peak_memory_mb"] < peak - 40  # another run's peak is not counted
    assert add_costs([{"wall_seconds": 1.5, "peak_memory_mb": 7.0}, {"wall_seconds": 2.0, "peak_memory_mb": 5.0}]) == {
        "wall_seconds": 3.5, "peak_memory_mb": 7.0,
    }  # fmt: skip
    assert add_costs([]) == {}


@pytest.mark.parametrize(
    ("task", "results", "score"),
    [
        ("pretrain", {"mlm_loss_per_character": 2.5, "mlm_loss": 3.0}, 2.5),
        ("finetune_korquad", {"f1": 20.0, "exact_match": 5.0}, 20.0),
        ("finetune_korquad", {"f1": 20.0, "validation": {"f1": 30.0, "exact_match": 1.0}}, 30.0),
        ("train_tagger", {"scores": [{"f1": 40.0}, {"f1": 60.0}]}, 50.0),
        ("benchmark", {"steps": 1}, None),
    ],
)
def test_score_for_a_search(task: str, results: dict[str, Any], score: float | None) -> None:
    assert main_score({"task": task, "results": results}) == score
    assert main_score(None) is None

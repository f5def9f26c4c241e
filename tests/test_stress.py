"""The stress harnesses in short, and what they have found, such as overrides that Hydra answers with assertions."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir

from korbert.config import compose_config
from korbert.errors import ConfigError
from korbert.files import read_json


def run(repository: Path, script: str, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, f"experiments/stress/{script}.py", *overrides]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_fuzz_in_short(tmp_path: Path, repository: Path) -> None:
    """The same cases every time: other ones would hold up whoever is unlucky, a long run draws new ones."""
    chosen = "targets=[normalizer,spans,entities,decoding,korquad_reader,gazetteer,ner_reader,shard_reader]"
    done = run(repository, "fuzz", chosen, "cases=300", "processes=1", f"run_dir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr + "".join(
        path.read_text("utf-8") for path in (tmp_path / "run").glob("crashes/*")
    )
    results = read_json(tmp_path / "run" / "record.json")["results"]
    assert results["cases"] == 300 * len(results["targets"]) == 300 * 8
    assert results["crashes"] == 0


@pytest.mark.slow
def test_a_crash_is_kept_with_its_seed_and_can_be_made_again(tmp_path: Path, repository: Path) -> None:
    """A target that is broken on purpose."""
    code = (
        "import sys; sys.path.insert(0, 'experiments/stress'); import targets, fuzz, random\n"
        "def broken(rng): assert rng.random() < 0.9\n"
        "targets.TARGETS['broken'] = broken\n"
        "outcome = fuzz.work('broken', '1.0', 1.0, 200)\n"
        "assert outcome.cases == 200 and len(outcome.crashes) == 5, outcome\n"
        "for seed, crash in outcome.crashes.items(): assert fuzz.attempt('broken', seed) == crash\n"
        "assert fuzz.work('config', '0', 60.0, 25).crashes == {}\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=repository, check=True)


@pytest.fixture
def conf(repository: Path) -> Iterator[None]:
    with initialize_config_dir(str(repository / "conf"), version_base="1.3"):
        yield


@pytest.mark.usefixtures("conf")
@pytest.mark.parametrize(
    "override", ["seed=${oc.env:NO_SUCH}", "train=null", "model=1", "seed=[", "nokey=1", "~seed=x"]
)
def test_overrides_that_cannot_be(override: str) -> None:
    with pytest.raises(ConfigError, match=r"\w"):
        compose_config("pretrain", [override, "run_dir=x"])


@pytest.mark.slow
def test_building_in_several_ways(tmp_path: Path, repository: Path) -> None:
    """Other bytes would be an error; here one way is killed, and the other uses two processes."""
    where = [f"run_dir={tmp_path / 'run'}", f"output={tmp_path / 'out'}", f"data.cache={tmp_path / 'cache'}"]
    small = ["tokenizer=syllable", "piece_characters=3000", "documents=20"]
    done = run(repository, "building", *where, *small, "ways=[{workers: 1}, {workers: 2, kills: 1}]")
    assert done.returncode == 0, done.stderr
    results = read_json(tmp_path / "run" / "record.json")["results"]
    one, other = results["ways"]
    assert one["digest"] == other["digest"]
    assert one["same_bytes"] is other["same_bytes"] is True
    assert (one["kills"], other["kills"]) == (0, 1)
    assert one["documents"] > 0
    alone = {row["workers"]: row["million_characters_per_cpu_second"] for row in results["alone"]}
    assert alone.keys() == {1, 2}
    assert one["share_of_speed_alone"] == one["million_characters_per_cpu_second"] / alone[1]
    assert {"seconds", "main", "workers"} <= results["memory"][0].keys()

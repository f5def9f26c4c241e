"""Training with several ranks: the same batches, losses and weights as with one, killed and resumed on any number."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from test_training import make_trainer

from korbert.config import run_door
from korbert.data.batching import BatchStream, FixedSource
from korbert.data.loading import BatchLoader
from korbert.errors import ConfigError
from korbert.tasks.finetune import finetune_korquad
from korbert.tasks.pretrain import pretrain
from korbert.training.distributed import Ranks, joined
from korbert.training.interrupt import Interrupted
from korbert.training.state import load_tensors

pytestmark = pytest.mark.usefixtures("one_thread")


def work(folder: Path, rank: int, environment: dict[str, str], options: dict[str, Any]) -> None:
    """What a rank does: a run of tests/test_training.py, its batches written down, a kill where asked for."""
    os.environ.update(environment, RANK=str(rank))
    torch.set_num_threads(1)
    kill_at, kill_rank = options.pop("kill_at", None), options.pop("kill_rank", None)
    with joined(torch.device("cpu")) as ranks, (folder / f"seen-{rank}.jsonl").open("a") as seen:
        trainer = make_trainer(folder, ranks=ranks, **options)
        original = trainer._backward

        def backward(batch: Any, totals: Any) -> Any:
            seen.write(json.dumps([trainer.progress.step, batch.token_ids.tolist()]) + "\n")
            seen.flush()
            if trainer.progress.step == kill_at and kill_rank in (None, rank):
                os.kill(os.getpid(), signal.SIGKILL)
            return original(batch, totals)

        trainer._backward = backward  # type: ignore[method-assign]
        trainer.run()


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def train(folder: Path, ranks: int, ok: bool = True, **options: Any) -> None:
    """Start a process for each rank, as torchrun does, and end them all when one has died."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(ranks),
        "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    fork = multiprocessing.get_context("fork")
    running = [fork.Process(target=work, args=(folder, rank, environment, dict(options))) for rank in range(ranks)]
    for process in running:
        process.start()
    limit = time.monotonic() + 120
    while any(p.is_alive() for p in running) and time.monotonic() < limit:
        if any(p.exitcode not in (None, 0) for p in running):
            break
        time.sleep(0.05)
    for process in running:
        process.kill() if process.is_alive() else None
        process.join()
    assert all(p.exitcode == 0 for p in running) == ok, [p.exitcode for p in running]


def losses(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines] == list(range(1, len(lines) + 1))
    return [line["loss"] for line in lines]


def final_weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_tensors(folder / "model" / "model.safetensors")[0]


def seen(folder: Path) -> dict[int, Counter[str]]:
    """Step → the batches that were learned from in it, by all ranks."""
    found: dict[int, Counter[str]] = {}
    for path in folder.glob("seen-*.jsonl"):
        for line in path.read_text("utf-8").splitlines():
            step, ids = json.loads(line)
            found.setdefault(step, Counter())[json.dumps(ids)] += 1
    return found


STEPS = {"steps": 9, "accumulation": 4, "batch_size": 3}


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    train(folder, 1, **STEPS)
    return folder


@pytest.mark.parametrize("ranks", [2, 3, 5])
def test_ranks_learn_what_one_learns(tmp_path: Path, alone: Path, ranks: int) -> None:
    """With dropout; five ranks are more than a step has batches."""
    train(tmp_path, ranks, **STEPS)
    assert losses(tmp_path) == pytest.approx(losses(alone), rel=1e-5)
    assert seen(tmp_path) == seen(alone)
    expected = final_weights(alone)
    for name, value in final_weights(tmp_path).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kill_rank", [0, 1, None], ids=["first", "second", "all"])
def test_killed_ranks_resume_to_the_same_weights(tmp_path: Path, kill_rank: int | None) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(whole, 2, **STEPS)
    train(cut, 2, ok=False, checkpoint_every=2, kill_at=5, kill_rank=kill_rank, **STEPS)
    for path in cut.glob("seen-*.jsonl"):
        path.unlink()
    train(cut, 2, checkpoint_every=2, **STEPS)
    assert losses(cut) == losses(whole)
    for name, value in final_weights(cut).items():
        assert torch.equal(value, final_weights(whole)[name]), name
    assert seen(cut) == {step: batches for step, batches in seen(whole).items() if step >= 4}


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_run_goes_on_with_another_number_of_ranks(tmp_path: Path, alone: Path, ranks: int) -> None:
    train(tmp_path, 2, ok=False, checkpoint_every=2, kill_at=5, **STEPS)
    for path in tmp_path.glob("seen-*.jsonl"):
        path.unlink()
    train(tmp_path, ranks, checkpoint_every=2, **STEPS)
    assert losses(tmp_path) == pytest.approx(losses(alone), rel=1e-5)
    assert seen(tmp_path) == {step: batches for step, batches in seen(alone).items() if step >= 4}


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_batches_are_dealt_out_without_loss(ranks: int, workers: int) -> None:
    """Every rank's loader is at the same place after every step, epochs of another length than the steps included."""

    def loader(rank: int, size: int) -> BatchLoader[Any]:
        source = FixedSource([np.array([number]) for number in range(7)])
        made = BatchLoader([(0.0, BatchStream(source, 2, seed=0))], lambda arrays: [int(a[0]) for a in arrays], workers)  # type: ignore[arg-type, return-value]
        made.deal(4, rank, size)
        return made

    whole, parts = loader(0, 1), [loader(rank, ranks) for rank in range(ranks)]
    for step in range(5):
        expected = whole.next_step()
        dealt = sorted((item for part in parts for item in part.next_step()), key=lambda item: item[0])
        assert dealt == expected
        assert [number for number, _ in dealt] == [0, 1, 2, 3]
        assert all(part.state() == whole.state() for part in parts)
        if step == 2:
            for part in parts:
                part.restore(whole.state())
    for part in [whole, *parts]:
        part.close()


def test_one_alone_needs_no_process_group() -> None:
    ranks = Ranks()
    assert ranks.exchange(3) == [3]
    ranks.agree("run_dir", "runs/a")
    with ranks.in_turn():
        pass


class TwoRanks(Ranks):
    """The second of two, the first of which has said something else."""

    def exchange(self, value: Any) -> list[Any]:
        return ["runs/other", value]


class WithAnother(Ranks):
    """The first of two, the other of which does nothing but agree; a signal comes while messages of a step travel."""

    signals: ClassVar[list[int]] = []

    def exchange(self, value: Any) -> list[Any]:
        if isinstance(value, tuple) and len(self.signals) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        if isinstance(value, tuple):
            self.signals.append(1)
        return [value, value if not isinstance(value, list) else []]

    def sum_gradients(self, model: Any, losses: Any, names: Any) -> Any:
        return dict(losses)


def test_a_signal_is_not_lost_among_messages(tmp_path: Path) -> None:
    """It came when this rank had said that there was none: all stop behind the next step."""
    WithAnother.signals.clear()
    trainer = make_trainer(tmp_path, ranks=WithAnother(0, 2), accumulation=2, batch_size=2)
    with pytest.raises(Interrupted):
        trainer.run()
    assert trainer.progress.step == 4


def test_an_evaluation_of_several_ranks_may_be_killed(tmp_path: Path) -> None:
    """It cannot be stopped, and torchrun does not wait for it: the steps before are kept, and it is made again."""
    WithAnother.signals[:] = [1, 1, 1]  # none comes
    seen: list[int] = []
    options: dict[str, Any] = {"ranks": WithAnother(0, 2), "accumulation": 2, "evaluate_every": 5}

    def killed() -> dict[str, float]:
        raise SystemExit

    with pytest.raises(SystemExit):
        make_trainer(tmp_path, evaluate=killed, **options).run()

    def evaluated() -> dict[str, float]:
        seen.append(again.progress.step)
        return {"loss": 1.0}

    again = make_trainer(tmp_path, evaluate=evaluated, **options)
    again.run()
    assert seen == [5, 10, 13]


def test_ranks_that_cannot_share_evenly_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        make_trainer(tmp_path / "a", ranks=WithAnother(0, 2), accumulation=2)
        assert not caplog.records
        make_trainer(tmp_path / "b", ranks=WithAnother(0, 2), accumulation=1)
    assert "train.accumulation=1: 2 processes share the batches of a step" in caplog.text


def test_ranks_that_disagree_are_stopped() -> None:
    with pytest.raises(ConfigError, match=r"run_dir: the processes disagree \('runs/other', 'runs/mine'\)"):
        TwoRanks(1, 2).agree("run_dir", "runs/mine")


@pytest.mark.slow
def test_a_signal_to_one_rank_stops_all_and_the_run_goes_on(tmp_path: Path, repository: Path) -> None:
    """The door under torchrun, with two ranks."""
    cache = tmp_path / "cache"

    def command(run: str) -> list[str]:
        return [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2",
            "experiments/pretrain.py", "model=tiny", "model.hidden_size=32", "model.num_layers=1", "tokenizer=syllable",
            "tokenizer.vocab_size=1000", "entities=none", "train.steps=40", "train.batch_size=4",
            "train.accumulation=2", "train.log_every=1", "runtime.workers=1", "runtime.loader_workers=2",
            f"data.cache={cache}",
            f"run_dir={tmp_path / run}",
        ]  # fmt: skip

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(
        command("whole"), cwd=repository, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    process = subprocess.Popen(command("cut"), cwd=repository, env=environment, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "cut" / "metrics.jsonl"
    limit = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text("utf-8").count("\n") > 3) and time.monotonic() < limit:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)  # torchrun passes it on to its processes
    process.communicate()
    stopped = len(metrics.read_text("utf-8").splitlines())
    assert 3 < stopped < 40
    done = subprocess.run(command("cut"), cwd=repository, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("model: ") == 1  # the second rank keeps quiet
    lines = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == list(range(1, 41))
    assert [line["loss"] for line in lines if "loss" in line] == [
        json.loads(line)["loss"]
        for line in (tmp_path / "whole" / "metrics.jsonl").read_text("utf-8").splitlines()
        if '"loss"' in line
    ]
    record = json.loads((tmp_path / "cut" / "record.json").read_text("utf-8"))
    assert record["results"]["steps"] == 40
    log = (tmp_path / "cut" / "log.txt").read_text("utf-8")
    assert "resumed at step" in log


def test_doors_that_are_for_one_process(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Two processes would do the same work twice, over each other's files."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit):
        run_door(lambda config: pytest.fail("it runs"), OmegaConf.create({}))
    assert "done by one: start it with python" in capsys.readouterr().err
    assert pretrain.by_ranks
    assert finetune_korquad.by_ranks

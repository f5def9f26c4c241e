"""The training loop: schedule, accumulation, checkpoints, exact resume, bad numbers."""

from __future__ import annotations

import functools
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from korbert.data.batching import BatchStream, FixedSource, collate_pretraining
from korbert.data.loading import BatchLoader
from korbert.data.pretraining import PretrainingExample
from korbert.errors import ConfigError, DataError, KorbertError
from korbert.model import IGNORE_INDEX, ModelConfig, PretrainingModel
from korbert.training import interrupt
from korbert.training.interrupt import Interrupted, StopSignal
from korbert.training.loop import Metric, Trainer
from korbert.training.optimizer import make_optimizers
from korbert.training.runtime import Runtime, make_runtime, seed_everything
from korbert.training.settings import OptimizerConfig, RuntimeConfig, TrainConfig
from korbert.training.state import load_checkpoint, load_tensors, load_weights, save_checkpoint
from korbert.training.tracking import Tracker, TrackerConfig

pytestmark = pytest.mark.usefixtures("one_thread")
VOCABULARY = 60
CPU = Runtime(torch.device("cpu"), bf16=False)
collate = functools.partial(collate_pretraining, pad_id=0)


def examples(count: int = 23) -> list[PretrainingExample]:
    """Sequences of different lengths with a different number of masked tokens each."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        length = int(rng.integers(6, 20))
        ids = rng.integers(7, VOCABULARY, size=length).astype(np.int32)
        labels = np.full(length, IGNORE_INDEX, dtype=np.int32)
        masked = rng.choice(length, size=1 + number % 4, replace=False)
        labels[masked] = ids[masked]
        ids[masked] = 4
        entities = rng.integers(0, 2, size=length).astype(np.int32)
        made.append(PretrainingExample(ids, np.zeros(length, dtype=np.int32), entities, labels, number % 2))
    return made


def make_model(dropout: float = 0.1) -> PretrainingModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_layers": 2, "num_heads": 2, "intermediate_size": 32, "max_positions": 32}
    return PretrainingModel(ModelConfig(VOCABULARY, **sizes, hidden_dropout=dropout, attention_dropout=dropout))


def make_trainer(
    folder: Path,
    *,
    dropout: float = 0.1,
    evaluate: Any = None,
    kind: str = "adamw",
    workers: int = 0,
    ranks: Any = None,
    **train: Any,
) -> Trainer[Any]:
    optimizer = OptimizerConfig(kind=kind, learning_rate=1e-3, weight_decay=0.1)
    options = {"steps": 13, "batch_size": 4, "log_every": 1, "checkpoint_every": 0} | train
    if options.get("epochs"):
        options["steps"] = None
    config = TrainConfig(optimizer=optimizer, **options)
    seed_everything(7)
    folder.mkdir(parents=True, exist_ok=True)
    return Trainer(
        make_model(dropout),
        BatchLoader([(0.0, BatchStream(FixedSource(examples()), config.batch_size, seed=3))], collate, workers),
        config,
        CPU,
        folder,
        Tracker(folder, TrackerConfig(), {}),
        fixed_config={"train": {"steps": config.steps}, "seed": 7},
        seed=7,
        ranks=ranks,
        evaluate=evaluate,
        metric=Metric("loss", larger_is_better=False) if evaluate else None,
    )


def weights(trainer: Trainer[Any]) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.model.state_dict().items()}


def assert_equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


class Killed(Exception):
    """Stands for a crash."""


def timeless(folder: Path) -> list[dict[str, float]]:
    """What was logged, without how long it took."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    timed = ("tokens_per_second", "seconds", "waiting")
    return [{key: value for key, value in line.items() if key not in timed} for line in lines]


def assert_same_end(whole: Trainer[Any], cut: Trainer[Any]) -> None:
    """Weights, moments, metrics: bit for bit."""
    assert_equal(weights(whole), weights(cut))
    for one, other in zip(whole.optimizers, cut.optimizers, strict=True):
        mine, theirs = one.state_dict()["state"], other.state_dict()["state"]
        assert mine.keys() == theirs.keys()
        for number in mine:
            assert_equal(mine[number], theirs[number])
    assert timeless(whole.folder) == timeless(cut.folder)


@pytest.mark.slow
@pytest.mark.parametrize(("accumulation", "log_every"), [(1, 1), (3, 1), (1, 3)])
@pytest.mark.parametrize("killed_at", [1, 4, 5, 6, 12])
@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_resumed_run_equals_the_uninterrupted_one(
    tmp_path: Path, killed_at: int, accumulation: int, log_every: int, kind: str
) -> None:
    """Wherever it was killed, across epochs (6 batches each), with dropout, with either optimizer."""
    options: dict[str, Any] = {"accumulation": accumulation, "log_every": log_every, "kind": kind}
    whole = make_trainer(tmp_path / "whole", **options)
    whole.run()

    first = make_trainer(tmp_path / "cut", checkpoint_every=2, **options)
    train_step = first._train_step

    def step_or_die(stop: StopSignal) -> None:
        if first.progress.step == killed_at:
            raise Killed
        train_step(stop)

    first._train_step = step_or_die  # type: ignore[method-assign]
    with pytest.raises(Killed):
        first.run()
    torch.manual_seed(999)  # a new process knows nothing of the old one's generators
    second = make_trainer(tmp_path / "cut", checkpoint_every=2, **options)
    second.run()

    assert_same_end(whole, second)
    steps = [line["step"] for line in timeless(tmp_path / "cut")]
    assert steps == [s for s in range(1, 14) if s % log_every == 0 or s == 13]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("stopped_after", [1, 2, 3, 4, 17, 20, 38])
def test_stop_in_the_middle_of_an_accumulation(tmp_path: Path, stopped_after: int, kind: str) -> None:
    """The gradients so far are kept: nothing is computed again, and the end is the same to the last bit."""
    whole = make_trainer(tmp_path / "whole", accumulation=3, kind=kind)
    whole.run()
    first = make_trainer(tmp_path / "cut", accumulation=3, kind=kind)
    backward, done = first._backward, []

    def count(trainer: Trainer[Any], original: Any, signal_at: int) -> Any:
        def counted(*arguments: Any) -> Any:
            done.append(trainer)
            if len(done) == signal_at:
                os.kill(os.getpid(), signal.SIGTERM)
            return original(*arguments)

        return counted

    first._backward = count(first, backward, stopped_after)  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match=rf"stopped at step {stopped_after // 3}/13 of "):
        first.run()
    assert len(done) == stopped_after
    torch.manual_seed(999)
    second = make_trainer(tmp_path / "cut", accumulation=3, kind=kind)
    second._backward = count(second, second._backward, 0)  # type: ignore[method-assign]
    second.run()
    assert len(done) == 39
    assert_same_end(whole, second)


def test_logged_losses_are_means_since_the_last_line(tmp_path: Path) -> None:
    def losses(log_every: int) -> list[float]:
        make_trainer(tmp_path / str(log_every), log_every=log_every).run()
        path = tmp_path / str(log_every) / "metrics.jsonl"
        return [json.loads(line)["loss"] for line in path.read_text("utf-8").splitlines()]

    single, grouped = losses(1), losses(5)
    expected = [np.mean(single[:5]), np.mean(single[5:10]), np.mean(single[10:])]
    assert grouped == pytest.approx(expected)


def send_signal(trainer: Trainer[Any], step: int) -> None:
    """Have the process told to stop while it makes this step."""
    train_step = trainer._train_step

    def step_with_signal(stop: StopSignal) -> None:
        if trainer.progress.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        train_step(stop)

    trainer._train_step = step_with_signal  # type: ignore[method-assign]


def test_a_signal_and_its_echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """What several senders pass on at about the same time is one request; a later signal ends the run at once."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has its background ignore it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))
    for echo, error in ((2.0, Interrupted), (0.0, KeyboardInterrupt)):
        monkeypatch.setattr(interrupt, "_ECHO", echo)
        trainer = make_trainer(tmp_path / str(echo))
        train_step = trainer._train_step

        def step_with_signals(stop: StopSignal, train_step: Any = train_step) -> None:
            for number in (signal.SIGTERM, signal.SIGINT):
                os.kill(os.getpid(), number)
            train_step(stop)

        trainer._train_step = step_with_signals  # type: ignore[method-assign]
        with pytest.raises(error):
            trainer.run()
        assert trainer.checkpoint.exists() == (error is Interrupted)


_WITH_WORKERS = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_training import make_trainer
trainer = make_trainer(Path(sys.argv[2]), workers=2)
backward = trainer._backward
def end(*arguments):
    if trainer.progress.step == 2:
        if sys.argv[3] == "error":
            raise ValueError("as it happens")
        worker = trainer.loader._batches._workers[0].pid
        if sys.argv[3] == "lost":  # its end is noticed by what it does not send, before this process is told
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
        os.kill(*((os.getpid(), signal.SIGTERM) if sys.argv[3] == "signal" else (worker, signal.SIGKILL)))
        if sys.argv[3] == "lost":
            raise ConnectionResetError("by peer")
    return backward(*arguments)
trainer._backward = end
trainer.run()
"""


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("error", "as it happens"),
        ("signal", "stopped at step 3/13"),
        ("killed", "KorbertError: a worker process was killed"),
        ("lost", "KorbertError: a worker process was killed"),
    ],
)
def test_a_run_with_workers_ends_whatever_happens(kind: str, message: str, tmp_path: Path) -> None:
    """They do not listen to signals, and Python waits for them before it exits."""
    command = [sys.executable, "-c", _WITH_WORKERS, str(Path(__file__).parent), str(tmp_path), kind]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert message in done.stderr


class Slow:
    """A number of a device that has to be waited for."""

    def __float__(self) -> float:
        time.sleep(0.05)
        return 1.0


def test_waiting_for_the_device_is_on_the_clock(tmp_path: Path) -> None:
    """With the next step, or at once behind the last one; a run's length does not depend on how often it is logged."""
    trainer = make_trainer(tmp_path)
    trainer.runtime = replace(CPU, device=torch.device("meta"))  # stands for one that works on its own
    trainer.progress.seconds = 1.0
    trainer.unlogged = {"loss": Slow(), "seconds": 0.5}
    trainer._check()
    assert trainer.unlogged["seconds"] >= 0.55
    assert trainer.progress.seconds == 1.0  # what decides when the ranks end is changed by steps alone
    trainer.unlogged["loss"] = 1.0
    trainer._save()
    state = load_checkpoint(trainer.checkpoint, trainer.model, trainer.optimizers)
    assert state["progress"]["seconds"] == 1.0
    assert state["device_seconds"] >= 0.05
    trainer.runtime = CPU
    trainer.unlogged = {}
    trainer._train_step(StopSignal())
    assert trainer.progress.seconds >= 1.05
    trainer.runtime = replace(CPU, device=torch.device("meta"))
    trainer.progress.step, before = 13, trainer.progress.seconds
    trainer.unlogged = {"loss": Slow()}
    trainer._check()
    assert trainer.progress.seconds >= before + 0.05


def test_signal_stops_at_a_step_and_the_same_command_goes_on(tmp_path: Path) -> None:
    whole = make_trainer(tmp_path / "whole")
    whole.run()
    first = make_trainer(tmp_path / "cut")
    send_signal(first, step=5)
    with pytest.raises(Interrupted, match=r"stopped at step 6/13 of "):
        first.run()
    second = make_trainer(tmp_path / "cut")
    second.run()
    assert_equal(weights(whole), weights(second))


@pytest.mark.parametrize("stopped_at", [5, 10, 13])
def test_stop_in_the_middle_of_an_evaluation(tmp_path: Path, stopped_at: int) -> None:
    """It takes minutes: it ends at once, and is made when the run goes on, to the same end."""
    seen: list[int] = []
    trainers: list[Trainer[Any]] = []

    def evaluate(signal_at: int = 0) -> dict[str, float]:
        step = trainers[-1].progress.step
        if step == signal_at:
            os.kill(os.getpid(), signal.SIGINT)
            raise AssertionError("goes on")
        seen.append(step)
        return {"loss": float(abs(step - 10))}

    def run(folder: str, signal_at: int = 0) -> dict[str, float]:
        trainers.append(
            make_trainer(tmp_path / folder, evaluate_every=5, evaluate=functools.partial(evaluate, signal_at))
        )
        return trainers[-1].run()

    kept = run("whole")
    with pytest.raises(Interrupted, match=rf"stopped at step {stopped_at}/13"):
        run("cut", stopped_at)
    assert trainers[-1].model.training
    assert run("cut") == kept == {"loss": 0.0, "kept_step": 10}
    assert seen == [5, 10, 13] * 2
    assert_same_end(trainers[0], trainers[-1])


def test_stop_before_an_evaluation(tmp_path: Path) -> None:
    """One that comes in the step before is honoured before the evaluation begins."""
    trainer = make_trainer(tmp_path, evaluate_every=5, evaluate=lambda: pytest.fail("was begun"))
    send_signal(trainer, step=4)
    with pytest.raises(Interrupted, match=r"stopped at step 5/13"):
        trainer.run()


def test_evaluations_without_anything_to_evaluate_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        make_trainer(tmp_path)
        assert "evaluate_every" not in caplog.text
        make_trainer(tmp_path, evaluate_every=5)
    assert "train.evaluate_every=5: not used, nothing is held out to evaluate on" in caplog.text


def test_accumulated_step_equals_the_large_batch(tmp_path: Path) -> None:
    """Although small batches differ in masked tokens and pairs: the loss is a sum over all, divided once."""
    large = make_trainer(tmp_path / "large", dropout=0.0, steps=1, batch_size=12)
    small = make_trainer(tmp_path / "small", dropout=0.0, steps=1, batch_size=4, accumulation=3)
    chosen = examples()[:12]
    parts = [chosen[:4], chosen[4:8], chosen[8:]]
    large.loader.next_step = lambda: [(0, collate(chosen))]  # type: ignore[method-assign]
    small.loader.next_step = lambda: [(n, collate(part)) for n, part in enumerate(parts)]  # type: ignore[method-assign]
    gradients = {}
    for trainer in (large, small):
        step = trainer.optimizers[-1].step

        def keep(trainer: Trainer[Any] = trainer, step: Any = step) -> None:
            gradients[trainer.folder.name] = [p.grad.clone() for p in trainer.model.parameters()]
            step()

        trainer.optimizers[-1].step = keep  # type: ignore[method-assign, assignment]
        trainer.run()
    logged = [json.loads((tmp_path / name / "metrics.jsonl").read_text("utf-8")) for name in ("large", "small")]
    for name in ("loss", "mlm_loss", "nsp_loss", "gradient_norm", "tokens"):
        assert logged[0][name] == pytest.approx(logged[1][name], rel=1e-5), name
    for a, b in zip(gradients["large"], gradients["small"], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-7)


def test_loss_falls_and_best_weights_are_kept(tmp_path: Path) -> None:
    values = iter([3.0, 1.0, 2.0, 2.5])
    trainer: Trainer[Any] = make_trainer(
        tmp_path, steps=40, evaluate_every=10, evaluate=lambda: {"loss": next(values)}, dropout=0.0
    )
    for group in trainer.optimizers[0].param_groups:
        group["peak"] = 1e-2
    assert trainer.run() == {"loss": 1.0, "kept_step": 20}
    tensors, state = load_tensors(tmp_path / "model" / "model.safetensors")
    assert state == {"step": 20}
    assert any(not torch.equal(tensors[name], value) for name, value in trainer.model.state_dict().items())
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text("utf-8").splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:5])


def test_the_best_is_known_with_its_weights_whenever_it_is_killed(tmp_path: Path) -> None:
    """What comes after a resume need not be what came before: on a GPU, or under a budget of time."""
    made: dict[str, Any] = {"steps": 40, "evaluate_every": 10}
    values = iter([3.0, 1.0])

    def evaluate() -> dict[str, float]:
        if (value := next(values, None)) is None:
            raise Killed
        return {"loss": value}

    with pytest.raises(Killed):
        make_trainer(tmp_path, **made, evaluate=evaluate).run()
    worse = iter([2.0, 2.5])
    assert make_trainer(tmp_path, **made, evaluate=lambda: {"loss": next(worse)}).run() == {
        "loss": 1.0,
        "kept_step": 20,
    }
    assert load_tensors(tmp_path / "model" / "model.safetensors")[1] == {"step": 20}


@pytest.mark.parametrize("steps", [13, 20])
def test_a_score_of_other_weights_is_forgotten(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """The weights of step 10 were written, and the checkpoint, which has the score of step 5, was not."""
    values = iter([2.0, 1.0])
    made: dict[str, Any] = {"steps": steps, "evaluate_every": 5, "checkpoint_every": 5}
    trainer = make_trainer(tmp_path, **made, evaluate=lambda: {"loss": next(values)})
    save = trainer._save

    def killed_at_10() -> None:
        if trainer.progress.step == 10:
            raise Killed
        save()

    monkeypatch.setattr(trainer, "_save", killed_at_10)
    with pytest.raises(Killed):
        trainer.run()
    again = make_trainer(tmp_path, **made, evaluate=lambda: {"loss": 2.5})
    assert again.run() == {"loss": 2.5, "kept_step": 10}
    assert "of step 10, the best that the checkpoint has of step 5" in caplog.text
    assert load_tensors(tmp_path / "model" / "model.safetensors")[1] == {"step": 10}


def test_without_a_metric_the_last_weights_are_kept(tmp_path: Path) -> None:
    """A schedule that ends at zero is meant to be followed to its end."""
    values = iter([3.0, 1.0, 2.0])
    trainer = make_trainer(tmp_path, steps=9, evaluate_every=3, evaluate=lambda: {"loss": next(values)})
    trainer.metric = None
    assert trainer.run() == {"loss": 2.0, "kept_step": 9}
    tensors, state = load_tensors(tmp_path / "model" / "model.safetensors")
    assert state == {"step": 9}
    assert_equal(tensors, weights(trainer))


def test_run_killed_after_its_last_step_still_knows_its_scores(tmp_path: Path) -> None:
    """The checkpoint of the last step is there, the record is not: nothing is left to train, all is left to say."""
    evaluations = {"evaluate_every": 5, "evaluate": lambda: {"loss": 1.0}}
    first = make_trainer(tmp_path, **evaluations).run()
    assert first == {"loss": 1.0, "kept_step": 5}
    again = make_trainer(tmp_path, **evaluations)
    assert again.run() == first
    assert again.progress.step == 13


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    make_trainer(tmp_path).run()
    other = make_trainer(tmp_path)
    other.fixed_config = {"train": {"steps": 99}, "seed": 7}
    with pytest.raises(ConfigError, match=r"train\.steps was 13, is 99"):
        other.run()


def test_loss_that_is_not_a_number_stops_with_the_step(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    with torch.no_grad():
        trainer.model.encoder.embeddings.token.weight.fill_(torch.nan)  # type: ignore[union-attr, operator]
    with pytest.raises(KorbertError, match=r"step 1: .*not a finite number.*learning_rate"):
        trainer.run()


def test_time_left_of_more_than_a_day(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make_trainer(tmp_path)
    trainer.progress.seconds = 24 * 3600.0
    with caplog.at_level(logging.INFO):
        trainer.run()
    assert re.search(r"tokens/s  \d days?, [\d:]+ left", caplog.text)


@pytest.mark.parametrize("evaluate", [None, lambda: {"loss": 1.0}])
def test_weights_that_are_not_numbers_are_never_written(tmp_path: Path, evaluate: Any) -> None:
    """The loss of the last step is of the weights before it, and fine."""
    trainer = make_trainer(tmp_path, steps=3, checkpoint_every=1, evaluate=evaluate)
    step, taken = trainer.optimizers[-1].step, []

    def ruin() -> None:
        step()
        taken.append(1)
        if len(taken) == 3:
            next(iter(trainer.optimizers[-1].param_groups[0]["params"])).data.view(-1)[0] = torch.inf

    trainer.optimizers[-1].step = ruin  # type: ignore[method-assign, assignment]
    with pytest.raises(KorbertError, match=r"step 3: encoder\S+ is not all finite numbers.*learning_rate"):
        trainer.run()
    assert not (tmp_path / "model" / "model.safetensors").exists()
    _, state = load_tensors(trainer.checkpoint)
    assert state["progress"]["step"] == 2


def test_weights_that_are_not_numbers_are_not_read(tmp_path: Path) -> None:
    model = make_model()
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    tensors["encoder.embeddings.token.weight"][3, 1] = torch.nan
    with pytest.raises(DataError, match=r"m\.safetensors: encoder\.embeddings\.token\.weight: .*not finite"):
        load_weights(model, tensors, tmp_path / "m.safetensors")


def test_checkpoint_is_complete_or_absent(tmp_path: Path) -> None:
    model = make_model()
    optimizers = make_optimizers(model, OptimizerConfig())
    path = tmp_path / "checkpoint.safetensors"
    save_checkpoint(path, model, optimizers, {"step": 1})
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.safetensors"]
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"checkpoint\.safetensors: file: not a checkpoint, or damaged"):
        load_checkpoint(path, model, optimizers)
    with pytest.raises(DataError, match="not found"):
        load_checkpoint(tmp_path / "none.safetensors", model, optimizers)


def test_checkpoint_of_another_model_names_the_parameter(tmp_path: Path) -> None:
    model = make_model()
    optimizers = make_optimizers(model, OptimizerConfig())
    save_checkpoint(tmp_path / "c.safetensors", model, optimizers, {})
    other = PretrainingModel(ModelConfig(VOCABULARY, 16, 2, 2, 64, 32))
    with pytest.raises(DataError, match=r"encoder\.layers\.0\.(up|down)\.\w+: shape"):
        load_checkpoint(tmp_path / "c.safetensors", other, make_optimizers(other, OptimizerConfig()))


def test_row_0_stays_zero_through_training_and_checkpoints(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, steps=30)
    trainer.run()
    row = trainer.model.encoder.embeddings.entity.weight  # type: ignore[union-attr]
    assert torch.equal(row[0], torch.zeros(16))
    assert row[1].abs().sum() > 0
    tensors, _ = load_tensors(trainer.checkpoint)
    assert torch.equal(tensors["model.encoder.embeddings.entity.weight"][0], torch.zeros(16))


def test_runtime_refuses_what_is_not_there() -> None:
    with pytest.raises(ConfigError, match=r"runtime\.device: 'tpu'"):
        make_runtime(RuntimeConfig(device="tpu"))
    with pytest.raises(ConfigError, match=r"runtime\.precision: 'fp8'"):
        make_runtime(RuntimeConfig(precision="fp8"))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="torch sees no GPU"):
            make_runtime(RuntimeConfig(device="cuda"))
        assert make_runtime(RuntimeConfig()) == CPU

"""Optimizers against written-out references, and the schedule by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import CONFIG, MODERN

from korbert.errors import ConfigError
from korbert.model import PretrainingModel
from korbert.training.optimizer import Muon, layer_matrices, make_optimizers, orthogonalize, schedule
from korbert.training.progress import Progress
from korbert.training.settings import OptimizerConfig, TrainConfig

pytestmark = pytest.mark.usefixtures("one_thread")


def reference_muon(
    weight: np.ndarray, gradients: list[np.ndarray], lr: float, momentum: float, decay: float
) -> np.ndarray:
    """Jordan et al. 2024, written out in float64 for one matrix."""
    buffer = np.zeros_like(weight)
    for gradient in gradients:
        buffer = momentum * buffer + (1 - momentum) * gradient
        x = (1 - momentum) * gradient + momentum * buffer
        wide = x if x.shape[0] <= x.shape[1] else x.T
        wide = wide / (np.sqrt((wide**2).sum()) + 1e-7)
        for _ in range(5):
            a = wide @ wide.T
            wide = 3.4445 * wide + (-4.7750 * a + 2.0315 * a @ a) @ wide
        x = wide if x.shape[0] <= x.shape[1] else wide.T
        weight = weight * (1 - lr * decay) - lr * math.sqrt(max(1, x.shape[0] / x.shape[1])) * x
    return weight


@pytest.mark.parametrize(("rows", "columns", "parts"), [(12, 12, 1), (24, 8, 1), (8, 24, 1), (36, 12, 3), (40, 10, 2)])
def test_muon_is_the_written_out_reference(rows: int, columns: int, parts: int) -> None:
    rng = np.random.default_rng(0)
    start = rng.normal(size=(2, rows, columns))
    gradients = rng.normal(size=(4, 2, rows, columns))
    parameters = [torch.nn.Parameter(torch.tensor(value, dtype=torch.float64)) for value in start]
    optimizer = Muon([(p, parts) for p in parameters], lr=0.05, momentum=0.9, weight_decay=0.1)
    for step in gradients:
        for parameter, gradient in zip(parameters, step, strict=True):
            parameter.grad = torch.tensor(gradient)
        optimizer.step()
    for number, parameter in enumerate(parameters):
        pieces = np.split(start[number], parts)
        expected = [
            reference_muon(piece, [np.split(g[number], parts)[i] for g in gradients], 0.05, 0.9, 0.1)
            for i, piece in enumerate(pieces)
        ]
        np.testing.assert_allclose(parameter.detach().numpy(), np.concatenate(expected), atol=1e-10)


def test_muon_is_torch_s_but_for_bf16() -> None:
    """torch.optim.Muon iterates in bf16, so only the direction can agree, within its rounding."""
    theirs_class: Any = getattr(torch.optim, "Muon", None)
    if theirs_class is None:
        pytest.skip("this torch has no Muon")
    torch.manual_seed(0)
    start, gradients = torch.randn(24, 16), [torch.randn(24, 16) for _ in range(3)]
    mine, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    ours = Muon([(mine, 1)], lr=0.1, momentum=0.95, weight_decay=0.1)
    other = theirs_class([theirs], lr=0.1, momentum=0.95, weight_decay=0.1, nesterov=True)
    for gradient in gradients:
        mine.grad, theirs.grad = gradient.clone(), gradient.clone()
        ours.step()
        other.step()
    moved, expected = mine.detach() - start, theirs.detach() - start
    assert (moved - expected).norm() < 0.02 * expected.norm()


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, 1000))
def test_orthogonalized_matrices_have_singular_values_near_one(rows: int, columns: int, seed: int) -> None:
    """And the same singular vectors: a matrix is turned into U f(S) Vᵀ, with f(S) between 0.5 and 1.3."""
    x = torch.randn(1, rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    u, s, v = torch.linalg.svd(x[0], full_matrices=False)
    out = orthogonalize(x)[0]
    inner = u.T @ out @ v.T
    values = inner.diagonal()
    assert (inner - torch.diag(values)).abs().max() < 1e-8
    clear = s / s.norm() > 0.02  # five iterations lift these; smaller ones are still on their way
    assert (values[clear] > 0.5).all()
    assert (values[clear] < 1.3).all()


def test_muon_has_the_layers_matrices_and_adamw_the_rest() -> None:
    model = PretrainingModel(MODERN, ("mlm",))
    muon, adamw = make_optimizers(model, OptimizerConfig(kind="muon"))
    names = {id(p): name for name, p in model.named_parameters()}
    mine = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    rest = {names[id(p)] for group in adamw.param_groups for p in group["params"]}
    assert mine == {n for n, p in model.named_parameters() if n.startswith("encoder.layers.") and p.ndim == 2}
    assert mine | rest == set(names.values())
    assert not mine & rest
    parts = {names[id(weight)].split(".", 3)[3]: number for weight, number in layer_matrices(model)}
    assert parts == {"attention.qkv.weight": 3, "attention.out.weight": 1, "up.weight": 2, "down.weight": 1}


def test_only_matrices_decay() -> None:
    model = PretrainingModel(CONFIG)
    (optimizer,) = make_optimizers(model, OptimizerConfig(learning_rate=0.1, weight_decay=0.5))
    before = {name: value.clone() for name, value in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        kept = 1.0 if parameter.ndim < 2 else 1 - 0.1 * 0.5
        torch.testing.assert_close(parameter.detach(), before[name] * kept, msg=name)
        assert (parameter.ndim < 2) == (name.endswith("bias") or "norm" in name), name


# ---- how long, and at what rate ----


def test_schedule_by_hand() -> None:
    assert [schedule(p, 0.2) for p in (0, 0.1, 0.2, 0.4, 0.6, 1)] == pytest.approx([0, 0.5, 1, 0.75, 0.5, 0])
    assert [schedule(p, 0) for p in (0, 0.5, 1)] == [1, 0.5, 0]
    assert [schedule(p, 1) for p in (0, 0.5, 1)] == [0, 0.5, 0]


def test_steps_tokens_and_time_end_where_the_schedule_ends() -> None:
    """Ten equal steps of 100 tokens and 2 seconds give the same rates however the run's length was said."""
    rates = []
    for length in ({"steps": 10}, {"tokens": 1000}, {"budget": "20s"}):
        config = TrainConfig(**length)  # type: ignore[arg-type]
        progress = Progress(config, config.total_steps(lambda: 0))
        rates.append([])
        while not progress.finished:
            rates[-1].append(progress.middle)
            progress.step += 1
            progress.tokens += 100
            progress.seconds += 2.0
    assert rates[0] == pytest.approx([(n + 0.5) / 10 for n in range(10)])
    assert rates[1][1:] == pytest.approx(rates[0][1:])  # how long a step is, is not known before the first
    assert rates[2][1:] == pytest.approx(rates[0][1:])


def test_lengths() -> None:
    assert TrainConfig(epochs=2.5).total_steps(lambda: 10) == 25
    assert TrainConfig(epochs=1, accumulation=4).total_steps(lambda: 10) == 3
    assert TrainConfig(steps=7).total_steps(lambda: 10) == 7
    assert TrainConfig(budget="20m").total_steps(lambda: 10) is None
    seconds = [TrainConfig(budget=text).budget_seconds for text in ("90s", "20m", "1.5h", " 2h ")]
    assert seconds == [90, 1200, 5400, 7200]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"one of train\.steps, train\.epochs, train\.tokens, train\.budget .* got none"),
        ({"steps": 1, "epochs": 1.0}, "got steps, epochs"),
        ({"steps": 0}, r"train\.steps"),
        ({"tokens": -1}, r"train\.tokens"),
        ({"budget": "20"}, r"train\.budget: wanted a time such as 90s, 20m or 1\.5h, got '20'"),
        ({"budget": "0m"}, r"train\.budget"),
        ({"steps": 1, "clock": "sun"}, r"train\.clock: 'sun' is unknown, wanted wall or cpu"),
        ({"steps": 1, "batch_size": 0}, r"train\.batch_size"),
        ({"epochs": math.nan}, r"train\.epochs"),
    ],
)
def test_bad_train_settings_name_the_key(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "sgd"}, r"optimizer\.kind: 'sgd' is unknown, wanted adamw or muon"),
        ({"matrix_learning_rate": 0}, r"optimizer\.matrix_learning_rate"),
        ({"warmup": 1.5}, r"optimizer\.warmup"),
        ({"momentum": 1.0}, r"optimizer\.momentum"),
    ],
)
def test_bad_optimizer_settings_name_the_key(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OptimizerConfig(**options)

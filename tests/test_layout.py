"""Packed sequences compute what padded ones do, outputs and gradients, to rounding."""

from __future__ import annotations

import dataclasses
import shutil
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import CONFIG, MODERN, VOCABULARY, shaken

from korbert.data.batching import collate_pretraining, collate_windows
from korbert.data.pretraining import PretrainingExample
from korbert.data.windows import Window
from korbert.model import IGNORE_INDEX, Encoder, ModelConfig, Packed, PretrainingModel, SpanModel
from korbert.model import layout as layout_module
from korbert.training.runtime import Runtime, compile_layers

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIGS = {"bert": CONFIG, "modern": MODERN, "query": dataclasses.replace(MODERN, span_query=True)}


def examples(lengths: list[int], pairs: bool, seed: int = 0) -> list[PretrainingExample]:
    rng = np.random.default_rng(seed)
    made = []
    for n in lengths:
        ids = rng.integers(7, VOCABULARY, size=n).astype(np.int32)
        labels = np.where(rng.random(n) < 0.3, ids, IGNORE_INDEX).astype(np.int32)
        segments, entities = (rng.integers(0, 2, size=n).astype(np.int32) for _ in range(2))
        made.append(PretrainingExample(ids, segments, entities, labels, int(rng.integers(2)) if pairs else None))
    return made


def windows(lengths: list[int], seed: int = 0) -> list[Window]:
    rng = np.random.default_rng(seed)
    made = []
    for n in lengths:
        ids = rng.integers(7, VOCABULARY, size=n).astype(np.int32)
        context = n - 4
        marker = np.zeros(context, dtype=np.bool_)
        marker[1::3] = True
        places = np.arange(context, dtype=np.int32)
        made.append(Window("q", "가" * n, ids, ids * 0, ids % 2, 3, places, places + 1, marker, (3, 5)))
    return made


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


def assert_close(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    for name, value in a.items():
        assert (value - b[name]).abs().max() <= 1e-5 * max(1.0, float(value.abs().max())), name


@pytest.mark.parametrize("recipe", CONFIGS)
@pytest.mark.parametrize("lengths", [[23, 7, 7, 40, 1], [12], [9, 9, 9]])
def test_pretraining_packed_equals_padded(recipe: str, lengths: list[int]) -> None:
    objectives = ("mlm", "nsp") if recipe == "bert" else ("mlm",)
    model = shaken(PretrainingModel(CONFIGS[recipe], objectives), std=0.05)
    made = examples(lengths, pairs=recipe == "bert")
    padded, packed = (collate_pretraining(made, pad_id=0, packed=p) for p in (False, True))
    assert packed.token_ids.shape == (sum(lengths),)
    assert packed.tokens == padded.tokens == sum(lengths)
    results = []
    for batch in (padded, packed):
        losses = model.losses(batch)
        sum(losses.values(), torch.zeros(())).backward()
        results.append((losses, gradients(model)))
    assert results[0][0].keys() == set(objectives)
    assert_close({k: v.detach() for k, v in results[0][0].items()}, {k: v.detach() for k, v in results[1][0].items()})
    assert_close(results[0][1], results[1][1])


@pytest.mark.parametrize("recipe", CONFIGS)
def test_span_logits_and_gradients_packed_equal_padded(recipe: str) -> None:
    model = shaken(SpanModel(CONFIGS[recipe]), std=0.05)
    made = windows([23, 11, 40, 11])
    padded, packed = (collate_windows(made, pad_id=0, packed=p) for p in (False, True))
    results: list[Any] = []
    for batch in (padded, packed):
        start, end = model.logits(batch)
        assert start.shape == (4, 40)
        model.losses(batch)["span"].backward()
        results.append(({"start": start.detach().exp(), "end": end.detach().exp()}, gradients(model)))
    assert_close(results[0][0], results[1][0])
    assert_close(results[0][1], results[1][1])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.sampled_from(sorted(CONFIGS)))
def test_sequences_do_not_see_each_other(lengths: list[int], recipe: str) -> None:
    """Each packed sequence is encoded as if it were alone."""
    torch.manual_seed(0)
    encoder = shaken(Encoder(CONFIGS[recipe]), std=0.05)
    made = examples(lengths, pairs=False)
    batch = collate_pretraining(made, pad_id=0, packed=True)
    with torch.no_grad():
        together = encoder(batch.token_ids, batch.segment_ids, batch.entity_ids, batch.layout)
        first = 0
        for example in made:
            alone = collate_pretraining([example], pad_id=0)
            hidden = encoder(alone.token_ids, alone.segment_ids, alone.entity_ids, alone.layout)[0]
            assert (together[first : first + len(example)] - hidden).abs().max() < 1e-5
            first += len(example)


@pytest.mark.parametrize("recipe", CONFIGS)
def test_nested_attention_is_the_same(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a GPU takes with dropout or in float32 also runs on a CPU, slowly: outputs and gradients."""
    model = shaken(Encoder(CONFIGS[recipe]), std=0.05)
    batch = collate_pretraining(examples([23, 7, 7, 40, 1], pairs=False), pad_id=0, packed=True)
    results = []
    for nested in (False, True):
        if nested:
            other = lambda q, k, v, offsets, p: layout_module._attend_nested(q, k, v, batch.layout, p)  # noqa: E731
            monkeypatch.setattr(layout_module, "_attend_by_length", other)
        hidden = model(batch.token_ids, batch.segment_ids, batch.entity_ids, batch.layout)
        hidden.square().sum().backward()
        results.append((hidden.detach(), gradients(model)))
    assert (results[0][0] - results[1][0]).abs().max() < 1e-5
    assert_close(results[0][1], results[1][1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_layers_compute_the_same() -> None:
    """Weights keep their names, and batches of other sizes need no other code."""
    made = [examples([23, 7, 7, 40], pairs=True), examples([30, 2, 19], pairs=True, seed=1)]
    losses = []
    for compiled in (False, True):
        torch.manual_seed(0)
        model = shaken(PretrainingModel(MODERN), std=0.05)
        names = list(model.state_dict())
        compile_layers(model, Runtime(torch.device("cpu"), bf16=False, compile=compiled))
        assert list(model.state_dict()) == names
        with torch.no_grad():
            losses.append([float(model(collate_pretraining(some, pad_id=0))["mlm"]) for some in made])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_packed_places_by_hand() -> None:
    layout = Packed.of([3, 1, 2])
    assert layout.offsets.tolist() == [0, 3, 4, 6]
    assert layout.position_ids().tolist() == [0, 1, 2, 0, 0, 1]
    values = torch.arange(1.0, 7.0)
    assert layout.rectangle(values, -1).tolist() == [[1, 2, 3], [4, -1, -1], [5, 6, -1]]
    assert layout.first(values[:, None]).tolist() == [[1], [4], [5]]
    with pytest.raises(ValueError, match="wanted sequences of 1 token or more"):
        Packed.of([3, 0])


def test_rotary_depends_on_distances_alone() -> None:
    """Source: Su et al. 2021: attention sees relative positions only."""
    encoder = shaken(Encoder(MODERN), std=0.05)
    batch = collate_pretraining(examples([19, 19], pairs=False), pad_id=0)
    inputs = (batch.token_ids, batch.segment_ids, batch.entity_ids, batch.layout)
    with torch.no_grad():
        here, there = encoder(*inputs), encoder(*inputs, position_ids=torch.arange(19)[None] + 11)
        turned = encoder(*inputs, position_ids=torch.arange(19).flip(0)[None])
    assert (here - there).abs().max() < 1e-4
    assert (here - turned).abs().max() > 1e-2


def test_switches_that_are_unknown() -> None:
    with pytest.raises(ValueError, match=r"model\.norm: 'middle' is unknown, wanted post or pre"):
        dataclasses.replace(CONFIG, norm="middle")
    with pytest.raises(ValueError, match=r"model\.positions=rotary needs an even width of heads, 3 is odd"):
        ModelConfig(10, 12, 1, 4, 16, positions="rotary")

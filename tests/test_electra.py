"""Replaced-token detection: what is drawn, what is detected, who learns from what."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from models import CONFIG, MODERN, pretraining_batch, shaken
from test_layout import examples
from torch.nn import functional as F

from korbert.data.batching import collate_pretraining
from korbert.model import PretrainingModel, ReplacedTokenModel, SpanModel
from korbert.tasks.pretrain import _start_from
from korbert.training.bundle import copy_shared
from korbert.training.optimizer import make_optimizers
from korbert.training.settings import OptimizerConfig

pytestmark = pytest.mark.usefixtures("one_thread")


def test_losses_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the draws fixed: every masked token is replaced by the generator's, the others are the original ones."""
    model = shaken(ReplacedTokenModel(CONFIG), std=0.1)
    made = examples([9, 23, 4], pairs=False)
    batch = collate_pretraining(made, pad_id=0)
    seen = []
    original_forward = model.encoder.forward
    monkeypatch.setattr(model.encoder, "forward", lambda ids, *rest: seen.append(ids) or original_forward(ids, *rest))
    with torch.no_grad():
        torch.manual_seed(3)
        losses = model.losses(batch)
        logits = model.masked_logits(batch)
        assert float(losses["mlm"]) == pytest.approx(
            float(F.cross_entropy(logits, batch.mlm_labels, reduction="sum")), rel=1e-5
        )
        (shown,) = seen
        expected = 0.0
        replaced = 0
        for row, example in enumerate(made):
            ids = shown[row, : len(example)]
            truth = torch.from_numpy(np.where(example.mlm_labels >= 0, example.mlm_labels, example.token_ids))
            assert (ids == truth)[torch.from_numpy(example.mlm_labels < 0)].all()
            alone = collate_pretraining([example], pad_id=0)
            hidden = original_forward(ids[None].long(), alone.segment_ids, alone.entity_ids, alone.layout)[0]
            doubt = model.detect(hidden)[:, 0]
            wrong = (ids != truth).float()
            replaced += int(wrong.sum())
            expected += float((F.softplus(doubt) - wrong * doubt).sum())
    assert replaced > 0
    assert float(losses["detection"]) == pytest.approx(50 * expected, rel=1e-4)


def test_heads_that_match_words_are_the_encoders() -> None:
    """The generator has a quarter of the heads, of which none is one."""
    model = ReplacedTokenModel(replace(CONFIG, matching_heads=CONFIG.num_heads))
    batch = collate_pretraining(examples([9, 23, 4], pairs=False), pad_id=0)
    assert {name: bool(loss.isfinite()) for name, loss in model.losses(batch).items()} == {
        "mlm": True,
        "detection": True,
    }


@pytest.mark.slow
def test_draws_follow_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as its probabilities say; chi-squared with a fixed seed."""
    model = shaken(ReplacedTokenModel(CONFIG), std=0.1)
    batch = collate_pretraining(examples([12], pairs=False, seed=4), pad_id=0)
    at = int(batch.mlm_positions[0])
    drawn = []
    forward = model.encoder.forward
    monkeypatch.setattr(
        model.encoder, "forward", lambda ids, *rest: drawn.append(int(ids[0, at])) or forward(ids, *rest)
    )
    torch.manual_seed(0)
    with torch.no_grad():
        p = model.masked_logits(batch)[0].softmax(0).numpy()
        for _ in range(3000):
            model.losses(batch)
    counts = np.bincount(drawn, minlength=len(p))
    common = p * 3000 > 5
    assert common.sum() > 5
    chi = (((counts - p * 3000) ** 2) / (p * 3000))[common].sum()
    assert chi < common.sum() + 5 * np.sqrt(2 * common.sum())


def test_who_learns_from_what() -> None:
    """Detection teaches the encoder and its head, not the generator: drawing a token has no gradient."""
    model = shaken(ReplacedTokenModel(MODERN), std=0.05)
    torch.manual_seed(0)
    losses = model.losses(pretraining_batch())
    losses["detection"].backward(retain_graph=True)
    own = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert not any(name.startswith(("generator", "up", "down", "mlm")) for name in own)
    assert any(name.startswith("encoder.layers") for name in own)
    losses["mlm"].backward()
    every = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert every == {name for name, _ in model.named_parameters()}


def test_muon_has_the_generator_s_matrices_too() -> None:
    model = ReplacedTokenModel(MODERN)
    muon, _ = make_optimizers(model, OptimizerConfig(kind="muon"))
    names = {id(p): name for name, p in model.named_parameters()}
    mine = {names[id(p)].split(".")[0] for group in muon.param_groups for p in group["params"]}
    assert mine == {"encoder", "generator"}


def test_the_encoder_goes_on_to_fine_tuning() -> None:
    source, target = shaken(ReplacedTokenModel(MODERN)), SpanModel(MODERN)
    copy_shared(source, target)
    for name, value in target.encoder.state_dict().items():
        assert torch.equal(value, source.encoder.state_dict()[name])


@pytest.mark.parametrize(
    ("earlier", "now"), [(ReplacedTokenModel, PretrainingModel), (PretrainingModel, ReplacedTokenModel)]
)
def test_the_head_that_reads_a_generator_is_not_taken_for_the_encoder_s(
    caplog: pytest.LogCaptureFixture, earlier: Any, now: Any
) -> None:
    tokenizer = SimpleNamespace(fingerprint="x")
    for begun in (earlier, now):
        source, target = shaken(begun(CONFIG)), shaken(now(CONFIG))
        for model in (source, target):
            torch.nn.init.normal_(model.mlm.bias)
        fresh = {name: value.clone() for name, value in target.state_dict().items()}
        bundle = SimpleNamespace(model=source, tokenizer=tokenizer, description=SimpleNamespace(model=CONFIG))
        _start_from("runs/x", bundle, target, CONFIG, tokenizer)
        for name, value in target.state_dict().items():
            other = begun is not now and name.startswith("mlm.")
            assert torch.equal(value, fresh[name] if other else source.state_dict().get(name, fresh[name])), name
        assert ("begins anew" in caplog.text) == (begun is not now)
        caplog.clear()

"""The model by hand: the embedding sum, the entity table, masks, sums, shapes."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch
from models import CONFIG, VOCABULARY, pretraining_batch, random_ids, row, shaken, span_batch
from torch import nn

from korbert.model import Encoder, ModelConfig, Padded, PretrainingModel, SpanModel
from korbert.model.encoder import Embeddings, rotate
from korbert.training.optimizer import make_optimizers
from korbert.training.settings import OptimizerConfig

pytestmark = pytest.mark.usefixtures("one_thread")


# ---- first weights ----


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_matching_heads_find_a_token_s_other_place(positions: str) -> None:
    """A text and the same again: every token's best score but itself is its other place's, mostly."""
    torch.manual_seed(3)
    sizes = dataclasses.replace(
        CONFIG, hidden_size=256, num_heads=4, max_positions=512, positions=positions, matching_heads=3, num_layers=3
    )
    encoder = Encoder(sizes)
    half = 100
    x = torch.nn.functional.layer_norm(torch.randn(half, 256), (256,)).repeat(2, 1)
    others = ~torch.eye(2 * half, dtype=torch.bool)
    for number, layer in enumerate(encoder.layers):
        q, k, _ = layer.attention.qkv(x).unflatten(-1, (3, 4, -1)).unbind(-3)
        if encoder.rotary is not None:
            angles = encoder.rotary(torch.arange(2 * half))
            q, k = rotate(torch.stack((q, k), -3), angles).unbind(-3)
        scores = torch.einsum("ihd,jhd->hij", q, k) / 8
        best = scores.masked_fill(~others, -torch.inf).argmax(-1)
        found = (best == (torch.arange(2 * half) + half) % (2 * half)).float().mean(-1)
        is_matching = torch.tensor([number < 2] * 3 + [False])
        assert ((found > 0.95) == is_matching).all(), (number, found)
        if number < 2:
            assert scores.diagonal(dim1=1, dim2=2)[:3].mean().item() == pytest.approx(8, rel=0.1)


def test_matching_heads_change_nothing_else() -> None:
    weights = []
    for heads in (0, 1):
        torch.manual_seed(4)
        weights.append(Encoder(dataclasses.replace(CONFIG, matching_heads=heads)).state_dict())
    changed = [name for name, weight in weights[0].items() if not torch.equal(weight, weights[1][name])]
    assert changed == [f"layers.{number}.attention.qkv.weight" for number in range(min(2, CONFIG.num_layers))]
    size = CONFIG.head_size
    a, b = (state[changed[0]].unflatten(0, (3, -1)) for state in weights)
    assert torch.equal(a[2], b[2])
    assert torch.equal(a[:, size:], b[:, size:])
    assert torch.equal(b[0, :size], b[1, :size])
    with pytest.raises(ValueError, match="matching_heads"):
        dataclasses.replace(CONFIG, matching_heads=CONFIG.num_heads + 1)


# ---- the entity embedding ----


def test_embedding_sum_by_hand() -> None:
    embeddings = shaken(Embeddings(CONFIG))
    table = dict(embeddings.named_parameters())
    ids = random_ids()
    out = embeddings(ids["token_ids"], ids["segment_ids"], ids["entity_ids"], torch.arange(23)[None])
    for b, t in [(0, 0), (1, 5), (4, 22), (2, 11), (3, 7)]:
        x = (
            table["token.weight"][ids["token_ids"][b, t]]
            + table["segment.weight"][ids["segment_ids"][b, t]]
            + table["position.weight"][t]
            + table["entity.weight"][ids["entity_ids"][b, t]]
        )
        mean = x.sum() / len(x)
        variance = ((x - mean) ** 2).sum() / len(x)
        x = (x - mean) / (variance + CONFIG.layer_norm_eps).sqrt() * table["norm.weight"] + table["norm.bias"]
        assert (out[b, t] - x).abs().max() < 1e-5
    without = embeddings(
        ids["token_ids"], ids["segment_ids"], torch.zeros_like(ids["entity_ids"]), torch.arange(23)[None]
    )
    assert torch.equal((out != without).any(-1), ids["entity_ids"] == 1)


@pytest.mark.parametrize("training", [True, False])
def test_zero_entity_ids_are_bit_identical_to_no_term(training: bool) -> None:
    """Same seed, with and without the table: the same weights elsewhere, and the same outputs to the last bit."""
    outputs, weights = [], []
    ids = random_ids()
    ids["entity_ids"].zero_()
    for entity_embedding in (True, False):
        torch.manual_seed(5)
        encoder = Encoder(dataclasses.replace(CONFIG, entity_embedding=entity_embedding)).train(training)
        weights.append({k: v for k, v in encoder.state_dict().items() if "entity" not in k})
        torch.manual_seed(6)  # dropout
        outputs.append(encoder(**ids))
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert torch.equal(outputs[0], outputs[1])


def test_row_0_stays_zero_through_training() -> None:
    model = PretrainingModel(CONFIG)
    table = model.encoder.embeddings.entity
    assert table is not None
    before = table.weight.detach().clone()
    assert not before[0].any()
    assert before[1].any()
    (optimizer,) = make_optimizers(model, OptimizerConfig(learning_rate=1e-2, weight_decay=0.1))
    for seed in range(6):
        optimizer.zero_grad()
        sum(model.losses(pretraining_batch(seed)).values(), torch.zeros(())).backward()
        optimizer.step()
        assert not table.weight[0].any()
    assert (table.weight[1] - before[1]).abs().mean() > 1e-2


# ---- masks, sums, shapes ----


def test_masked_logits_are_those_of_the_full_vocabulary_head() -> None:
    model = PretrainingModel(CONFIG)
    shaken(model)
    batch = pretraining_batch()
    hidden = model.encode(batch)
    full = model.mlm(hidden, model.encoder.embeddings.token.weight)
    assert full.shape == (5, 23, VOCABULARY)
    assert (model.mlm_logits(hidden, batch.mlm_positions) - full.flatten(0, 1)[batch.mlm_positions]).abs().max() < 1e-5


@torch.no_grad()
def test_losses_are_sums_over_examples_and_ignore_padding() -> None:
    model = PretrainingModel(CONFIG)
    shaken(model, std=0.05)
    batch = pretraining_batch()
    whole = model.losses(batch)
    for key, value in whole.items():
        parts = [model.losses(row(batch, i))[key] for i in range(5)]
        assert float(value) == pytest.approx(float(sum(parts)), rel=1e-5)
    names = ("token_ids", "segment_ids", "entity_ids")
    longer = dataclasses.replace(
        batch,
        **{n: nn.functional.pad(getattr(batch, n), (0, 9), value=1) for n in names},
        layout=Padded(nn.functional.pad(batch.layout.attention_mask, (0, 9))),
        mlm_positions=batch.mlm_positions // 23 * 32 + batch.mlm_positions % 23,
    )
    for key, value in model.losses(longer).items():
        assert float(value) == pytest.approx(float(whole[key]), rel=1e-5)
    span, spans = SpanModel(CONFIG), span_batch()
    shaken(span, std=0.05)
    parts = [span.losses(row(spans, i))["span"] for i in range(5)]
    assert float(span.losses(spans)["span"]) == pytest.approx(float(sum(parts)), rel=1e-5)


def test_nothing_masked_gives_zero_loss_and_finite_gradients() -> None:
    model = PretrainingModel(CONFIG)
    batch = pretraining_batch()
    batch = dataclasses.replace(batch, mlm_positions=batch.mlm_positions[:0], mlm_labels=batch.mlm_labels[:0])
    losses = model.losses(batch)
    assert losses["mlm"] == 0
    sum(losses.values(), torch.zeros(())).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_unattended_positions_cannot_be_seen() -> None:
    encoder = shaken(Encoder(CONFIG), std=0.05)
    ids = random_ids()
    attended = ids["layout"].attention_mask
    changed = {**ids, "token_ids": torch.where(attended, ids["token_ids"], 3)}
    assert (encoder(**ids) - encoder(**changed))[attended].abs().max() < 1e-6
    seen = {**ids, "token_ids": torch.where(attended, 3, ids["token_ids"])}
    assert (encoder(**ids) - encoder(**seen))[attended].abs().max() > 0.1


def test_positions_can_be_given() -> None:
    encoder = shaken(Encoder(CONFIG))
    ids = random_ids()
    positions = torch.arange(23).expand(5, 23)
    assert torch.equal(encoder(**ids), encoder(**ids, position_ids=positions))
    assert not torch.allclose(encoder(**ids), encoder(**ids, position_ids=positions + 1))


def test_every_parameter_learns() -> None:
    """No parameter is left out of the losses, and the vocabulary weights are the token embeddings (tied)."""
    model = PretrainingModel(CONFIG)
    shaken(model, std=0.05)
    sum(model.losses(pretraining_batch()).values(), torch.zeros(())).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    assert model.encoder.embeddings.token.weight.grad is not None
    unseen = model.encoder.embeddings.token.weight.grad[:7]  # ids that no input has: they learn as output weights
    assert unseen.any(-1).all()


def test_parameter_count_by_hand() -> None:
    """BERT-base with 30,522 entries: 109,482,240 with its pooler, plus the heads' own and the entity table."""
    model = PretrainingModel(dataclasses.replace(ModelConfig(30_522), num_layers=1))
    d, inner = 768, 3072
    layer = 4 * (d * d + d) + (d * inner + inner) + (inner * d + d) + 4 * d
    expected = 109_482_240 - 11 * layer  # one layer built instead of twelve
    heads = (d * d + d) + 2 * d + 30_522 + (2 * d + 2)
    assert sum(p.numel() for p in model.parameters()) == expected + heads + 2 * d


def test_inputs_that_cannot_be() -> None:
    encoder = Encoder(CONFIG)
    with pytest.raises(ValueError, match="41 tokens in a sequence, but the model has positions for 40"):
        encoder(**random_ids(length=41))
    ids = random_ids()
    with pytest.raises(TypeError, match=r"wanted bool with True = attend, got torch\.int64"):
        encoder(**{**ids, "layout": Padded(ids["layout"].attention_mask.long())})
    with pytest.raises(ValueError, match=r"model\.hidden_size=50 is not a multiple of model\.num_heads=4"):
        dataclasses.replace(CONFIG, hidden_size=50)
    with pytest.raises(ValueError, match=r"model\.num_layers: wanted 1 or more, got 0"):
        dataclasses.replace(CONFIG, num_layers=0)
    with pytest.raises(ValueError, match=r"model\.hidden_dropout: wanted 0 or more, below 1, got 1\.0"):
        dataclasses.replace(CONFIG, hidden_dropout=1.0)
    for key, wrong in (
        ("hidden_size", 48.0), ("vocab_size", None), ("num_layers", True), ("segment_types", 0), ("entity_types", -1),
        ("layer_norm_eps", None), ("layer_norm_eps", "1e-12"), ("layer_norm_eps", 0), ("initializer_range", -1),
        ("initializer_range", float("nan")), ("attention_dropout", None), ("letters", -1), ("matching_heads", 5),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=rf"model\.{key}: wanted .*, got {re.escape(repr(wrong))}"):
            dataclasses.replace(CONFIG, **{key: wrong})

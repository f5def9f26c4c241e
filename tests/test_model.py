"""The model against torch's own layer, against transformers, and by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from korbert.data.batching import PretrainingBatch, SpanBatch
from korbert.model import IGNORE_INDEX, ModelConfig, PretrainingModel, SpanModel
from korbert.model.encoder import Embeddings, Encoder, Layer
from korbert.training.optimizer import OptimizerConfig, make_optimizer

pytestmark = pytest.mark.usefixtures("one_thread")
VOCABULARY = 97
CONFIG = ModelConfig(VOCABULARY, 48, 3, 4, 80, max_positions=40)


def shaken(model: nn.Module, seed: int = 0, std: float = 0.3) -> nn.Module:
    """Weights far from their initial values, so that no term is near zero; row 0 of the entity table stays zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * std)
            if name.endswith("entity.weight"):
                parameter[0].zero_()
    return model.eval()


def random_ids(batch: int = 5, length: int = 23, seed: int = 1) -> dict[str, Tensor]:
    """Ids, and a mask with holes anywhere but at [CLS]: not only padding at the right."""
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(batch, length, generator=g) < 0.8
    mask[:, 0] = True
    return {
        "token_ids": torch.randint(7, VOCABULARY, (batch, length), generator=g),
        "segment_ids": torch.randint(0, 2, (batch, length), generator=g),
        "entity_ids": torch.randint(0, 2, (batch, length), generator=g),
        "attention_mask": mask,
    }


def pretraining_batch(seed: int = 1, **sizes: int) -> PretrainingBatch:
    inputs = random_ids(seed=seed, **sizes)
    g = torch.Generator().manual_seed(seed)
    chosen = inputs["attention_mask"] & (torch.rand(inputs["token_ids"].shape, generator=g) < 0.3)
    labels = torch.where(chosen, inputs["token_ids"], IGNORE_INDEX)
    return PretrainingBatch(**inputs, mlm_labels=labels, nsp_labels=torch.arange(len(labels)) % 2)


def span_batch(seed: int = 1) -> SpanBatch:
    inputs = random_ids(seed=seed)
    allowed = inputs["attention_mask"] & (torch.arange(23) > 6)
    allowed[:, 0] = True
    positions = [int(torch.nonzero(row)[-2]) for row in allowed]
    starts, ends = (
        torch.tensor([0, *positions[1:]]),
        torch.tensor([0, *(int(torch.nonzero(r)[-1]) for r in allowed[1:])]),
    )
    return SpanBatch(**inputs, allowed=allowed, start_positions=starts, end_positions=ends)


def rows(batch: Any, keep: slice) -> Any:
    return type(batch)(**{field.name: getattr(batch, field.name)[keep] for field in dataclasses.fields(batch)})


# ---- one layer against torch ----


def copy_to_torch(layer: Layer) -> nn.TransformerEncoderLayer:
    theirs = nn.TransformerEncoderLayer(
        CONFIG.hidden_size, CONFIG.num_heads, CONFIG.intermediate_size, 0.0, "gelu", CONFIG.layer_norm_eps, True
    )
    pairs = {
        "self_attn.in_proj_": layer.attention.qkv, "self_attn.out_proj.": layer.attention.out,
        "linear1.": layer.up, "linear2.": layer.down,
        "norm1.": layer.attention_norm, "norm2.": layer.output_norm,
    }  # fmt: skip
    theirs.load_state_dict({f"{k}{n}": p for k, module in pairs.items() for n, p in module.state_dict().items()})
    return theirs


@pytest.mark.parametrize("seed", range(5))
def test_layer_is_torch_s_encoder_layer(seed: int) -> None:
    """Outputs, and gradients of the input, in training mode (torch's fast path off) and in evaluation mode."""
    ours = shaken(Layer(dataclasses.replace(CONFIG, hidden_dropout=0, attention_dropout=0)), seed, 0.1)
    theirs = copy_to_torch(ours)  # type: ignore[arg-type]
    mask = random_ids(seed=seed)["attention_mask"]
    x = torch.randn(5, 23, CONFIG.hidden_size, generator=torch.Generator().manual_seed(seed))
    for training in (True, False):
        ours.train(training)
        theirs.train(training)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        mine, reference = ours(a, mask[:, None, None, :]), theirs(b, src_key_padding_mask=~mask)
        assert (mine - reference)[mask].abs().max() < 1e-5
        assert mine[mask].std() > 0.3
        mine[mask].square().sum().backward()
        reference[mask].square().sum().backward()
        assert (a.grad - b.grad).abs().max() < 1e-4 * b.grad.abs().max()  # type: ignore[operator, union-attr]


# ---- whole models against transformers ----


def bert_state(encoder: Encoder) -> dict[str, Tensor]:
    """The encoder's weights under transformers' names."""
    state = {
        "embeddings.word_embeddings.weight": encoder.embeddings.token.weight,
        "embeddings.token_type_embeddings.weight": encoder.embeddings.segment.weight,
        "embeddings.position_embeddings.weight": encoder.embeddings.position.weight,
        "embeddings.LayerNorm.weight": encoder.embeddings.norm.weight,
        "embeddings.LayerNorm.bias": encoder.embeddings.norm.bias,
    }
    for number, layer in enumerate(encoder.layers):
        assert isinstance(layer, Layer)
        at = f"encoder.layer.{number}."
        for kind in ("weight", "bias"):
            q, k, v = getattr(layer.attention.qkv, kind).chunk(3)
            state |= {
                f"{at}attention.self.query.{kind}": q,
                f"{at}attention.self.key.{kind}": k,
                f"{at}attention.self.value.{kind}": v,
                f"{at}attention.output.dense.{kind}": getattr(layer.attention.out, kind),
                f"{at}attention.output.LayerNorm.{kind}": getattr(layer.attention_norm, kind),
                f"{at}intermediate.dense.{kind}": getattr(layer.up, kind),
                f"{at}output.dense.{kind}": getattr(layer.down, kind),
                f"{at}output.LayerNorm.{kind}": getattr(layer.output_norm, kind),
            }
    return {f"bert.{name}": value.detach().clone() for name, value in state.items()}


def bert(kind: str, attention: str, state: dict[str, Tensor]) -> Any:
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=CONFIG.hidden_size, num_hidden_layers=CONFIG.num_layers,
        num_attention_heads=CONFIG.num_heads, intermediate_size=CONFIG.intermediate_size,
        max_position_embeddings=CONFIG.max_positions, layer_norm_eps=CONFIG.layer_norm_eps,
        hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1, attn_implementation=attention,
    )  # fmt: skip
    model = getattr(transformers, kind)(config).eval()
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert all("position_ids" in name or "decoder" in name for name in missing)
    return model


def their_inputs(batch: Any) -> dict[str, Tensor]:
    return {
        "input_ids": batch.token_ids,
        "token_type_ids": batch.segment_ids,
        "attention_mask": batch.attention_mask.long(),
    }


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("seed", range(3))
def test_pretraining_model_is_bert(attention: str, seed: int) -> None:
    """Hidden states, both heads' logits and both losses, on random masks; entity ids all zero."""
    ours = PretrainingModel(CONFIG)
    shaken(ours, seed, 0.05)
    heads = {
        "cls.predictions.transform.dense.": ours.mlm.transform, "cls.predictions.transform.LayerNorm.": ours.mlm.norm,
        "bert.pooler.dense.": ours.nsp.pooler, "cls.seq_relationship.": ours.nsp.decision,
    }  # fmt: skip
    state = bert_state(ours.encoder)
    state |= {f"{k}{n}": p for k, module in heads.items() for n, p in module.state_dict().items()}
    state["cls.predictions.bias"] = ours.mlm.bias.detach()
    theirs = bert("BertForPreTraining", attention, state)
    theirs.tie_weights()
    batch = dataclasses.replace(pretraining_batch(seed), entity_ids=torch.zeros(5, 23, dtype=torch.int64))
    with torch.no_grad():
        expected = theirs(
            **their_inputs(batch), labels=batch.mlm_labels, next_sentence_label=batch.nsp_labels,
            output_hidden_states=True,
        )  # fmt: skip
        hidden = ours.encode(batch)
        at = batch.mlm_labels != IGNORE_INDEX
        attended = batch.attention_mask
        assert (hidden - expected.hidden_states[-1])[attended].abs().max() < 1e-5
        assert (ours.mlm_logits(hidden, at) - expected.prediction_logits[at]).abs().max() < 1e-5
        assert (ours.nsp(hidden) - expected.seq_relationship_logits).abs().max() < 1e-5
        losses = ours.losses(batch)
    counts = batch.target_counts()
    mean = losses["mlm"] / counts["mlm"] + losses["nsp"] / counts["nsp"]
    assert mean == pytest.approx(float(expected.loss), abs=1e-5)
    assert hidden[attended].std() > 0.3


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("seed", range(3))
def test_span_model_is_bert_for_question_answering(attention: str, seed: int) -> None:
    ours = SpanModel(CONFIG)
    shaken(ours, seed, 0.05)
    state = bert_state(ours.encoder) | {f"qa_outputs.{n}": p for n, p in ours.span.state_dict().items()}
    theirs = bert("BertForQuestionAnswering", attention, state)
    batch = dataclasses.replace(span_batch(seed), entity_ids=torch.zeros(5, 23, dtype=torch.int64))
    everywhere = dataclasses.replace(batch, allowed=torch.ones_like(batch.allowed))
    with torch.no_grad():
        expected = theirs(
            **their_inputs(batch), start_positions=batch.start_positions, end_positions=batch.end_positions
        )
        start, end = ours.logits(batch)
        assert (start - expected.start_logits)[batch.allowed].abs().max() < 1e-5
        assert (end - expected.end_logits)[batch.allowed].abs().max() < 1e-5
        assert torch.isneginf(start[~batch.allowed]).all()
        assert torch.isneginf(end[~batch.allowed]).all()
        loss = ours.losses(everywhere)["span"] / 5  # transformers rules no position out
        assert loss == pytest.approx(float(expected.loss), abs=1e-5)
        assert ours.losses(batch)["span"] < ours.losses(everywhere)["span"]


# ---- the entity embedding ----


def test_embedding_sum_by_hand() -> None:
    embeddings = shaken(Embeddings(CONFIG))
    table = dict(embeddings.named_parameters())
    ids = random_ids()
    out = embeddings(ids["token_ids"], ids["segment_ids"], ids["entity_ids"])
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
    without = embeddings(ids["token_ids"], ids["segment_ids"], torch.zeros_like(ids["entity_ids"]))
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
    optimizer = make_optimizer(model, OptimizerConfig(learning_rate=1e-2, weight_decay=0.1))
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
    at = batch.mlm_labels != IGNORE_INDEX
    full = model.mlm(hidden, model.encoder.embeddings.token.weight)
    assert full.shape == (5, 23, VOCABULARY)
    assert (model.mlm_logits(hidden, at) - full[at]).abs().max() < 1e-5


@torch.no_grad()
def test_losses_are_sums_over_examples_and_ignore_padding() -> None:
    model = PretrainingModel(CONFIG)
    shaken(model, std=0.05)
    batch = pretraining_batch()
    whole = model.losses(batch)
    for key, value in whole.items():
        parts = [model.losses(rows(batch, slice(i, i + 1)))[key] for i in range(5)]
        assert float(value) == pytest.approx(float(sum(parts)), rel=1e-5)
    fill = {"attention_mask": False, "mlm_labels": IGNORE_INDEX}
    names = ("token_ids", "segment_ids", "entity_ids", "attention_mask", "mlm_labels")
    longer = dataclasses.replace(
        batch, **{n: nn.functional.pad(getattr(batch, n), (0, 9), value=fill.get(n, 1)) for n in names}
    )
    for key, value in model.losses(longer).items():
        assert float(value) == pytest.approx(float(whole[key]), rel=1e-5)
    span, spans = SpanModel(CONFIG), span_batch()
    shaken(span, std=0.05)
    parts = [span.losses(rows(spans, slice(i, i + 1)))["span"] for i in range(5)]
    assert float(span.losses(spans)["span"]) == pytest.approx(float(sum(parts)), rel=1e-5)


def test_nothing_masked_gives_zero_loss_and_finite_gradients() -> None:
    model = PretrainingModel(CONFIG)
    batch = pretraining_batch()
    batch = dataclasses.replace(batch, mlm_labels=torch.full_like(batch.mlm_labels, IGNORE_INDEX))
    losses = model.losses(batch)
    assert losses["mlm"] == 0
    sum(losses.values(), torch.zeros(())).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_unattended_positions_cannot_be_seen() -> None:
    encoder = shaken(Encoder(CONFIG), std=0.05)
    ids = random_ids()
    changed = {**ids, "token_ids": torch.where(ids["attention_mask"], ids["token_ids"], 3)}
    attended = ids["attention_mask"]
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
        encoder(**{**ids, "attention_mask": ids["attention_mask"].long()})
    with pytest.raises(ValueError, match=r"model\.hidden_size=50 is not a multiple of model\.num_heads=4"):
        dataclasses.replace(CONFIG, hidden_size=50)
    with pytest.raises(ValueError, match=r"model\.num_layers: wanted a positive number, got 0"):
        dataclasses.replace(CONFIG, num_layers=0)
    with pytest.raises(ValueError, match=r"model\.hidden_dropout: wanted 0 <= p < 1, got 1\.0"):
        dataclasses.replace(CONFIG, hidden_dropout=1.0)

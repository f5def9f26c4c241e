"""The model against torch's own layer and against transformers' BERT."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from models import CONFIG, VOCABULARY, full_labels, pretraining_batch, random_ids, shaken, span_batch
from torch import Tensor, nn

from korbert.model import PretrainingModel, SpanModel
from korbert.model.encoder import Encoder, Layer

pytestmark = pytest.mark.usefixtures("one_thread")


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
    layout = random_ids(seed=seed)["layout"]
    mask = layout.attention_mask
    x = torch.randn(5, 23, CONFIG.hidden_size, generator=torch.Generator().manual_seed(seed))
    for training in (True, False):
        ours.train(training)
        theirs.train(training)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        mine, reference = ours(a, layout), theirs(b, src_key_padding_mask=~mask)
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
        "attention_mask": batch.layout.attention_mask.long(),
    }


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("seed", range(3))
def test_pretraining_model_is_bert(attention: str, seed: int) -> None:
    """Hidden states, both heads' logits and both losses, on random masks; entity ids all zero."""
    ours = PretrainingModel(CONFIG)
    shaken(ours, seed, 0.05)
    assert ours.nsp is not None
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
            **their_inputs(batch), labels=full_labels(batch), next_sentence_label=batch.nsp_labels,
            output_hidden_states=True,
        )  # fmt: skip
        hidden = ours.encode(batch)
        attended = batch.layout.attention_mask
        expected_logits = expected.prediction_logits.flatten(0, 1)[batch.mlm_positions]
        assert (hidden - expected.hidden_states[-1])[attended].abs().max() < 1e-5
        assert (ours.mlm_logits(hidden, batch.mlm_positions) - expected_logits).abs().max() < 1e-5
        assert (ours.nsp(hidden[:, 0]) - expected.seq_relationship_logits).abs().max() < 1e-5
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
    state = bert_state(ours.encoder) | {f"qa_outputs.{n}": p for n, p in ours.span.scores.state_dict().items()}
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

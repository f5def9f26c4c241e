"""Replaced-token detection: a small generator fills masked tokens, the encoder says which tokens it replaced.

Source: Clark et al. 2020, ELECTRA, section 2; the generator shares the encoder's embeddings and is a quarter as wide.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from korbert.model.config import ModelConfig
from korbert.model.encoder import Encoder, Layer, initialize
from korbert.model.heads import MaskedLMHead
from korbert.model.targets import Inputs, PretrainingTargets, chosen

_WEIGHT = 50.0  # of the detection loss beside the generator's


class ReplacedTokenModel(nn.Module):
    """Encoder, its generator, and the head that tells replaced tokens from original ones."""

    objectives = ("mlm", "detection")

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        heads = max(1, config.num_heads // 4)
        small = replace(
            config, num_heads=heads, hidden_size=heads * config.head_size, matching_heads=0,
            intermediate_size=max(1, config.intermediate_size // 4),
        )  # fmt: skip
        self.down = nn.Linear(config.hidden_size, small.hidden_size)
        self.generator = nn.ModuleList(Layer(small) for _ in range(config.num_layers))
        self.up = nn.Linear(small.hidden_size, config.hidden_size)
        self.mlm = MaskedLMHead(config)
        self.detect = nn.Sequential(
            nn.Linear(config.hidden_size, config.hidden_size), nn.GELU(), nn.Linear(config.hidden_size, 1)
        )
        for part in (self.down, self.generator, self.up, self.mlm, self.detect):
            initialize(part, config.initializer_range)

    def masked_logits(self, batch: PretrainingTargets) -> Tensor:
        """The generator's vocabulary logits (M, V) at masked tokens."""
        at = self.up(chosen(self._generate(batch), batch.mlm_positions))
        return self.mlm(at, self.encoder.embeddings.token.weight)

    def _generate(self, batch: Inputs) -> Tensor:
        position_ids = self.encoder.position_ids(batch.layout) if batch.position_ids is None else batch.position_ids
        x = self.down(self.encoder.embeddings(batch.token_ids, batch.segment_ids, batch.entity_ids, position_ids))
        angles = None if self.encoder.rotary is None else self.encoder.rotary(position_ids)
        for layer in self.generator:
            x = layer(x, batch.layout, angles)
        return x

    def losses(self, batch: PretrainingTargets) -> dict[str, Tensor]:
        """Summed: "mlm", the generator's over masked tokens; "detection", over all tokens, times its weight."""
        logits = self.masked_logits(batch).float()
        original = batch.token_ids.flatten().index_copy(0, batch.mlm_positions, batch.mlm_labels)
        with torch.no_grad():
            drawn = (logits - torch.empty_like(logits).exponential_().log()).argmax(1)  # the Gumbel trick
            corrupted = original.index_copy(0, batch.mlm_positions, drawn)
        hidden = self.encoder(
            corrupted.view_as(batch.token_ids), batch.segment_ids, batch.entity_ids, batch.layout, batch.position_ids
        )  # (..., D)
        doubt = self.detect(hidden)[..., 0].float().flatten()
        is_token = batch.layout.is_token().flatten()
        detection = F.binary_cross_entropy_with_logits(
            doubt, (corrupted != original).float(), weight=is_token.float(), reduction="sum"
        )
        return {
            "mlm": F.cross_entropy(logits, batch.mlm_labels, reduction="sum"),
            "detection": _WEIGHT * detection,
        }

    forward = losses

"""Encoder with a tag for each token: named entities in BIO. Source: Devlin et al. 2019, section 5.3."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from korbert.model.config import ModelConfig
from korbert.model.dropout import Dropout
from korbert.model.encoder import Encoder, initialize
from korbert.model.targets import IGNORE_INDEX, Inputs, TagTargets


class TaggerModel(nn.Module):
    """A linear layer over every token's last hidden state."""

    def __init__(self, config: ModelConfig, num_tags: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.dropout = Dropout(config.hidden_dropout)
        self.tags = nn.Linear(config.hidden_size, num_tags)
        initialize(self.tags, config.initializer_range)

    def logits(self, batch: Inputs) -> Tensor:
        """A score for each token and tag, (..., tags) float32."""
        hidden = self.encoder(batch.token_ids, batch.segment_ids, batch.entity_ids, batch.layout, batch.position_ids)
        return self.tags(self.dropout(hidden)).float()

    def losses(self, batch: TagTargets) -> dict[str, Tensor]:
        """Summed cross-entropy over the tokens that have a tag."""
        logits = self.logits(batch).flatten(0, -2)
        labels = batch.tags.flatten()
        return {"tagging": F.cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="sum")}

    forward = losses

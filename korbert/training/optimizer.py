"""AdamW with decoupled weight decay (Loshchilov and Hutter 2019) and BERT's schedule: linear warm-up, linear decay."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from korbert.errors import ConfigError


@dataclass
class OptimizerConfig:
    """`warmup` is a share of all steps. Weight decay leaves biases and LayerNorm alone."""

    learning_rate: float = 1e-4
    warmup: float = 0.1
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-6
    max_gradient_norm: float = 1.0

    def __post_init__(self) -> None:
        if not self.learning_rate > 0:
            raise ConfigError(f"optimizer.learning_rate: wanted more than 0, got {self.learning_rate}")
        if not 0 <= self.warmup <= 1:
            raise ConfigError(f"optimizer.warmup: wanted a share of the steps, 0 to 1, got {self.warmup}")
        if not self.max_gradient_norm > 0:
            raise ConfigError(f"optimizer.max_gradient_norm: wanted more than 0, got {self.max_gradient_norm}")


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; only matrices decay."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.epsilon, fused=True
    )


def learning_rate_at(step: int, steps: int, config: OptimizerConfig) -> float:
    """Rate of optimizer step `step` (from 0) of `steps`: up to the peak at the end of warm-up, then down towards 0."""
    warmup = round(config.warmup * steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    return config.learning_rate * (steps - step) / max(1, steps - warmup)

"""Optimizers and the schedule: AdamW as BERT uses it, or Muon for the weight matrices with AdamW for the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from korbert.model.encoder import FusedLinear, Layer
from korbert.training.settings import OptimizerConfig

# Of x + x³ + x⁵ in one Newton-Schulz iteration, chosen to lift small singular values fast (Jordan et al. 2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)


def make_optimizers(model: nn.Module, config: OptimizerConfig) -> list[torch.optim.Optimizer]:
    """AdamW over the trainable parameters, after Muon over the layers' matrices where asked for.

    Every parameter group has its peak rate as "peak". Source: Loshchilov and Hutter 2019; Jordan et al. 2024.
    """
    optimizers: list[torch.optim.Optimizer] = []
    parameters = [p for p in model.parameters() if p.requires_grad]
    if config.kind == "muon":
        muon = Muon(layer_matrices(model), config.matrix_learning_rate, config.momentum, config.weight_decay)
        taken = {id(p) for group in muon.param_groups for p in group["params"]}
        parameters = [p for p in parameters if id(p) not in taken]
        optimizers.append(muon)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizers.append(
        torch.optim.AdamW(
            groups, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.epsilon, fused=True
        )
    )
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers


def layer_matrices(model: nn.Module) -> list[tuple[Tensor, int]]:
    """The weight matrices of the model's layers, each with the number of projections fused in it."""
    layers = (module for module in model.modules() if isinstance(module, Layer))
    linear = (module for layer in layers for module in layer.modules() if isinstance(module, nn.Linear))
    return [(module.weight, module.parts if isinstance(module, FusedLinear) else 1) for module in linear]


def schedule(progress: float, warmup: float) -> float:
    """Share of the peak rate at share `progress` of the run: straight up during warm-up, straight down to 0."""
    if progress < warmup:
        return progress / warmup
    return (1 - progress) / (1 - warmup) if progress < 1 else 0.0


class Muon(torch.optim.Optimizer):
    """Momentum whose every matrix is replaced by its nearest semi-orthogonal one.

    matrices: (parameter, parts); a fused weight of `parts` projections is orthogonalised part by part. The update is
    scaled by sqrt(max(1, rows / columns)), so that a rate means the same for tall and for wide matrices.
    Source: Jordan et al. 2024, "Muon: an optimizer for hidden layers".
    """

    def __init__(
        self, matrices: Iterable[tuple[Tensor, int]], lr: float, momentum: float = 0.95, weight_decay: float = 0.0
    ) -> None:
        groups: dict[tuple[Any, ...], dict[str, Any]] = {}
        for parameter, parts in matrices:
            if parameter.ndim != 2 or parameter.shape[0] % parts:
                raise ValueError(f"Muon: wanted a matrix of {parts} parts, got shape {tuple(parameter.shape)}")
            key = (tuple(parameter.shape), parts)
            groups.setdefault(key, {"params": [], "parts": parts})["params"].append(parameter)
        super().__init__(groups.values(), {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient; matrices of one shape are orthogonalised together."""
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            directions = torch.stack(self._directions(parameters, group["momentum"]))
            count, rows, columns = directions.shape
            parts = group["parts"]
            parted = directions.view(count * parts, rows // parts, columns)
            updates = orthogonalize(parted).reshape(count, rows, columns)
            scale = max(1.0, rows / parts / columns) ** 0.5
            torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
            steps = updates.to(parameters[0].dtype).unbind()
            torch._foreach_add_(parameters, steps, alpha=-group["lr"] * scale)

    def _directions(self, parameters: list[Tensor], momentum: float) -> list[Tensor]:
        """Nesterov momentum: the mean gradients, looked up one step ahead."""
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        means = [self.state[parameter]["momentum"] for parameter in parameters]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        torch._foreach_lerp_(means, gradients, 1 - momentum)
        return list(torch._foreach_lerp(gradients, means, momentum))


def orthogonalize(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Approximately U Vᵀ of each matrix U S Vᵀ of (n, rows, columns); singular values come out in about 0.7 to 1.2.

    In bf16 on a GPU, in the matrices' own precision elsewhere. Source: Jordan et al. 2024 (Newton-Schulz).
    """
    a, b, c = _QUINTIC
    x = matrices.bfloat16() if matrices.is_cuda else matrices
    is_tall = x.shape[1] > x.shape[2]
    x = x.mT if is_tall else x
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if is_tall else x

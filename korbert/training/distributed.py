"""Several processes that train one model together, as torchrun starts them: gradients are summed, nothing else differs.

A step's batches are those that a single process would have, dealt out to the ranks in turn, and each batch draws its
dropout from a seed of its own: how many ranks there are changes speed and rounding, not what is learned from.
Source: Li et al. 2020, "PyTorch Distributed" (data parallel training), with one reduction a step.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from korbert.errors import ConfigError, KorbertError
from korbert.parallel import own_place

T = TypeVar("T")
log = logging.getLogger(__name__)
# A rank waits so long for the others: the first one may be encoding a corpus. torchrun ends all when one has died.
_PATIENCE = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of how many processes this is; `control` carries the messages of their CPUs. One alone by default."""

    rank: int = 0
    size: int = 1
    control: Any = None

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and talks to the user."""
        return self.rank == 0

    def exchange(self, value: T) -> list[T]:
        """Everybody's value, in the order of the ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value, group=self.control)
        return values

    def agree(self, key: str, value: object) -> None:
        """Raise ConfigError where the ranks have different values for a key of the configuration."""
        values = self.exchange(value)
        if any(other != value for other in values):
            raise ConfigError(
                f"{key}: the processes disagree ({', '.join(map(repr, values))}); give it on the command line"
            )

    @contextlib.contextmanager
    def in_turn(self) -> Iterator[None]:
        """The first rank does what follows before the others do, who then find it in the cache.

        Raises KorbertError in the others where the first one failed.
        """
        if not self.is_first:
            (failure, *_) = self.exchange(None)
            if failure is not None:
                raise KorbertError(f"the first process stopped: {failure}")
        try:
            yield
        except BaseException as error:
            if self.is_first:
                self.exchange(str(error) or type(error).__name__)
            raise
        if self.is_first:
            self.exchange(None)

    def sum_gradients(self, model: nn.Module, losses: Mapping[str, Tensor], names: Sequence[str]) -> dict[str, Tensor]:
        """Give every rank the sum of all gradients, and return the sums of the losses; names: of all possible ones.

        A parameter, or a loss, that no rank has stays absent, as it would in a single process.
        """
        if self.size == 1:
            return dict(losses)
        parameters = [p for p in model.parameters() if p.requires_grad]
        device = parameters[0].device
        present = [p.grad is not None for p in parameters] + [name in losses for name in names]
        numbers = [losses.get(name, torch.zeros(())).to(device, torch.float32).reshape(1) for name in names]
        gradients = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters]
        flat = torch.cat([torch.tensor(present, dtype=torch.float32, device=device), *numbers, *gradients])
        dist.all_reduce(flat)
        sizes = [len(present), len(names), *(p.numel() for p in parameters)]
        counts, sums, *parts = flat.split(sizes)
        somewhere = (counts > 0).tolist()
        for parameter, part, is_there in zip(parameters, parts, somewhere, strict=False):
            parameter.grad = part.view_as(parameter).clone() if is_there else None
        there = somewhere[len(parameters) :]
        return {name: sums[i].double() for i, name in enumerate(names) if there[i]}


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Ranks]:
    """The ranks of this run, as torchrun has put them into the environment; without it, this process alone.

    On a GPU each rank takes the card of its local number. Ranks behind the first log warnings only.
    """
    rank, size = own_place()
    if size == 1:
        yield Ranks()
        return
    if device.type == "cuda":
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("nccl", timeout=_PATIENCE)
    else:
        dist.init_process_group("gloo", timeout=_PATIENCE)
    if rank > 0:
        logging.getLogger().setLevel(logging.WARNING)
    try:
        yield Ranks(rank, size, dist.new_group(backend="gloo", timeout=_PATIENCE))
    finally:
        dist.destroy_process_group()

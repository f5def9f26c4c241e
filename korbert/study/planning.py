"""What a pretraining run will take, from what measured ones took: tokens, steps, hours, memory, disk.

A run does as many operations a second as the measured one that is nearest to it, or as many as are assumed of a device
that nobody has measured: its time follows from the operations that its tokens need. All of it is for runs that are not
starved by their loader and whose batches are as full as the measured ones'.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_FORWARD_AND_BACKWARD = 3  # the backward pass costs twice the forward pass
_FLOAT, _HALF = 4, 2  # bytes


@dataclass(frozen=True, slots=True)
class Shape:
    """What operations and memory of a pretraining step depend on.

    width: of the model; feed_forward: columns of the matrices up, inputs of the one down, the latter `inner`. length:
    tokens of a sequence; predicted: share of the tokens that the vocabulary head sees; second: layers that read every
    token beside these, of a generator, say.
    """

    layers: int
    width: int
    feed_forward: int
    inner: int
    vocabulary: int
    length: int
    predicted: float
    second: Shape | None = None

    @property
    def operations(self) -> float:
        """Floating-point operations that a training step needs for each token; a product and its sum are two."""
        matrices = self.layers * self.width * (4 * self.width + self.feed_forward + self.inner)
        attention = 2 * self.layers * self.width * self.length
        head = self.predicted * self.width * (self.width + self.vocabulary)
        beside = self.second.operations if self.second is not None else 0.0
        return _FORWARD_AND_BACKWARD * 2.0 * (matrices + attention + head) + beside

    def activation_bytes(self, bf16: bool) -> float:
        """Memory of what the forward pass keeps for the backward pass, for each token.

        Of a layer: the inputs of its two norms and parts, queries, keys and values, the attention's result, two dropout
        masks (a byte and, on a CPU, a number each), and the feed-forward part before and behind its activation.
        """
        number = _HALF if bf16 else _FLOAT
        kept = 12 * self.width + self.feed_forward + self.inner
        beside = self.second.activation_bytes(bf16) if self.second is not None else 0.0
        return self.layers * kept * number + self.predicted * (3 * self.width) * number + beside


@dataclass(frozen=True, slots=True)
class Measured:
    """A run that was made: its shape, its speed in tokens a second, and how full its sequences were (0 to 1)."""

    name: str
    device: str
    threads: int
    shape: Shape
    tokens_per_second: float
    fullness: float

    @property
    def operations_per_second(self) -> float:
        """What the run's device and code came to."""
        return self.shape.operations * self.tokens_per_second


@dataclass(frozen=True, slots=True)
class Assumed:
    """A device that was not measured. peak: operations a second, as its maker has it; share: of them that are reached
    (0 to 1), by assumption; fullness: of the sequences, see `Measured`.
    """

    peak: float
    share: float
    fullness: float

    @property
    def operations_per_second(self) -> float:
        """What is assumed that device and code come to."""
        return self.peak * self.share


@dataclass(frozen=True, slots=True)
class Plan:
    """A run that is planned. batch: sequences of a batch, `accumulation` batches a step. batch_length: the tokens that
    such a sequence has room for, where a curriculum changes lengths, and with them how many are in a batch; None: those
    of the shape.
    """

    shape: Shape
    parameters: int
    matrix_parameters: int
    batch: int
    accumulation: int
    bf16: bool
    devices: int = 1
    scaling: float = 1.0
    muon: bool = False
    batch_length: int | None = None

    @property
    def room(self) -> int:
        """Tokens that a batch has room for, whatever the length of its sequences."""
        return self.batch * (self.batch_length or self.shape.length)

    def speed(self, basis: Measured | Assumed) -> float:
        """Tokens a second of all devices; each beyond the first adds the share `scaling` of one.

        They share the batches of a step: those that have fewer than the others wait for them.
        """
        alone = basis.operations_per_second / self.shape.operations
        rounds = -(-self.accumulation // self.devices)
        return alone * (1 + self.scaling * (self.accumulation / rounds - 1))

    def tokens_per_step(self, basis: Measured | Assumed) -> float:
        """Tokens without padding in one optimizer step."""
        return self.room * self.accumulation * basis.fullness

    def memory_bytes(self, basis: Measured | Assumed) -> dict[str, float]:
        """Of one device: what lies there all the time, and what a batch needs beside it."""
        moments = 2 * self.parameters - (self.matrix_parameters if self.muon else 0)
        tokens = self.room * (basis.fullness if self.bf16 else 1.0)
        return {
            "weights and gradients": 2.0 * self.parameters * _FLOAT,
            "moments of the optimizer": float(moments * _FLOAT),
            "activations of a batch": tokens * self.shape.activation_bytes(self.bf16),
        }

    def checkpoint_bytes(self) -> float:
        """Of checkpoint.safetensors; the model beside it has a third of it, or half with Muon."""
        moments = 2 * self.parameters - (self.matrix_parameters if self.muon else 0)
        return float((self.parameters + moments) * _FLOAT)


def nearest(plan: Plan, measured: list[Measured]) -> Measured:
    """The measured run whose operations a token are the most alike. Raises ValueError where there is none."""
    if not measured:
        raise ValueError("wanted at least one measured run")
    return min(measured, key=lambda m: abs(math.log(m.shape.operations / plan.shape.operations)))


def shape_of(config: Mapping[str, Any], vocabulary: int, feed_forward: int, length: int) -> Shape:
    """The shape of a pretraining's configuration, as its record has it.

    feed_forward: width inside of the feed-forward part, see `ModelConfig.feed_forward_size`.
    """
    model, task = config["model"], config["task"]
    gated = model["feed_forward"] == "geglu"
    second = None
    if task.get("replaced_tokens"):  # see korbert.model.ReplacedTokenModel
        heads, inner = max(1, model["num_heads"] // 4), max(1, feed_forward // 4)
        second = Shape(
            layers=model["num_layers"], width=heads * model["hidden_size"] // model["num_heads"],
            feed_forward=inner * (2 if gated else 1), inner=inner, vocabulary=0, length=length, predicted=0.0,
        )  # fmt: skip
    return Shape(
        layers=model["num_layers"], width=model["hidden_size"], feed_forward=feed_forward * (2 if gated else 1),
        inner=feed_forward, vocabulary=vocabulary, length=length, predicted=task["masking"]["rate"], second=second,
    )  # fmt: skip

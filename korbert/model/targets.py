"""What batches have to give the models: inputs, and the targets of each objective."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:  # the data that batches are made from is made without torch
    from torch import Tensor

    from korbert.model.layout import Layout

IGNORE_INDEX = -100


class Inputs(Protocol):
    """What every batch gives the encoder: ids, each (...), and how they lie; position_ids may be None."""

    @property
    def token_ids(self) -> Tensor: ...
    @property
    def segment_ids(self) -> Tensor: ...
    @property
    def entity_ids(self) -> Tensor: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def position_ids(self) -> Tensor | None: ...


class PretrainingTargets(Inputs, Protocol):
    """mlm_positions: (M,), where a token is predicted, in (...) laid out flat; mlm_labels: (M,), which.

    nsp_labels: (B,), 1 = true next; None without pairs. asked, queries: (Q,) the sequence of each question and the
    token that asks; starts, ends: (Q, T) bool, where answers begin and end; allowed: (...) bool, where they may
    lie; all of them None without questions.
    """

    @property
    def mlm_positions(self) -> Tensor: ...
    @property
    def mlm_labels(self) -> Tensor: ...
    @property
    def nsp_labels(self) -> Tensor | None: ...
    @property
    def asked(self) -> Tensor | None: ...
    @property
    def queries(self) -> Tensor | None: ...
    @property
    def starts(self) -> Tensor | None: ...
    @property
    def ends(self) -> Tensor | None: ...
    @property
    def allowed(self) -> Tensor | None: ...


class SpanTargets(Inputs, Protocol):
    """start_positions, end_positions: (B,) tokens, inclusive; allowed: (...) bool, where a span may lie.

    edges: what a letter head needs of those tokens, None without one.
    """

    @property
    def start_positions(self) -> Tensor: ...
    @property
    def end_positions(self) -> Tensor: ...
    @property
    def allowed(self) -> Tensor: ...
    @property
    def edges(self) -> EdgeTargets | None: ...


class EdgeTargets(Protocol):
    """Of the first and the last answer token of each window that has one, one row each.

    at: (2, A) places in (...) laid out flat; letters: (2, A, most, 4); lengths: (2, A); right: (2, A), letters by
    which the answer's edge lies inside.
    """

    @property
    def at(self) -> Tensor: ...
    @property
    def letters(self) -> Tensor: ...
    @property
    def lengths(self) -> Tensor: ...
    @property
    def right(self) -> Tensor: ...


class TagTargets(Inputs, Protocol):
    """tags: (...) int64, IGNORE_INDEX where nothing is asked."""

    @property
    def tags(self) -> Tensor: ...


def chosen(hidden: Tensor, positions: Tensor) -> Tensor:
    """Rows (M, D) of (..., D) laid out flat."""
    return hidden.flatten(0, -2).index_select(0, positions)

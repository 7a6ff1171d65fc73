"""Zeros around a map, as a layer of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .. import backend, kernels
from ..backend import Array
from ..context import Context
from ..kernels.windows import Padding, Windows, as_padding
from ..rules import Rule
from .base import Layer, Pass, Shape, Trace


@dataclass(frozen=True, eq=False)
class Pad(Layer):
    """Zeros around a map: (…, height, width, channel) → (…, top + height + bottom, left + width + right, channel).

    To the layer that follows, these zeros are inputs like all others. Rules in proportion to x_i w_ij give them no relevance;
    ♭, w² and zᴮ do, and a maximum may be a zero of the edge. This relevance belongs to no input: the ledger records it as
    padding. The `padding` of a convolution itself is better, since no rule gives it relevance.
    """

    padding: Padding = 1  # an int, (height, width), or ((top, bottom), (left, right))

    axes: ClassVar[int] = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "padding", as_padding(self.padding))

    def _windows(self, shape: Shape) -> Windows:
        if len(shape) < 3:
            raise ValueError(f"x: Pad expects (…, height, width, channel), got shape {tuple(shape)}")
        return Windows((1, 1), padding=self.padding)  # type: ignore[arg-type]

    def effective_rule(self, rule: Rule) -> Rule:
        return Pass()

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return nonneg

    def output_shape(self, shape: Shape) -> Shape:
        return (*shape[:-3], *self._windows(shape).extent((shape[-3], shape[-2])), shape[-1])

    def forward(self, x: Array) -> Array:
        return self._windows(x.shape).pad(x)

    def gradient(self, trace: Trace, g: Array) -> Array:
        windows, size = self._windows(trace.x.shape), (trace.x.shape[-3], trace.x.shape[-2])
        return g[(..., *windows.inside(size), slice(None))]

    def _redistribute(self, trace: Trace, R: Array, rule: Rule, context: Context) -> Array:
        if context.recorder is not None:
            inside = self.forward(backend.ones(trace.x.shape[-3:], R)) > 0
            context.record_loss("padding", lambda R, inside: kernels.zero_unless(R, ~inside), R, inside)
        return self.gradient(trace, R)

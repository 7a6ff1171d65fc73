"""Zeros around a map, as a layer of their own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from .. import backend
from ..backend import Array, namespace
from ..rules import Book, Pass, Rule
from .base import Layer, Shape, Trace
from .windows import Padding, Windows, as_padding


@dataclass(frozen=True, eq=False)
class Pad(Layer):
    """Zeros around a map: (…, height, width, channel) → (…, top + height + bottom, left + width + right, channel).

    To the layer that follows, these zeros are inputs like all others. Rules in proportion to x_i w_ij give them nothing; ♭,
    w² and zᴮ do, and a maximum may be a zero of the edge. None of it belongs to an input: the ledger has it, as padding.
    A convolution's own `padding` is better, since no rule gives it anything.
    """

    padding: Padding = 1  # an int, (height, width), or ((top, bottom), (left, right))

    axes: ClassVar[int] = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "padding", as_padding(self.padding))

    def _windows(self, shape: Shape) -> Windows:
        if len(shape) < 3:
            raise ValueError(f"x: Pad expects (…, height, width, channel), got shape {tuple(shape)}")
        return Windows((1, 1), padding=self.padding)  # type: ignore[arg-type]

    def takes(self, rule: Rule) -> Rule:
        return Pass()

    def keeps_sign(self, nonneg: bool) -> bool:
        return nonneg

    def output_shape(self, shape: Shape) -> Shape:
        return (*shape[:-3], *self._windows(shape).extent((shape[-3], shape[-2])), shape[-1])

    def forward(self, x: Array) -> Array:
        return self._windows(x.shape).pad(x)

    def gradient(self, trace: Trace, g: Array) -> Array:
        windows, size = self._windows(trace.x.shape), (trace.x.shape[-3], trace.x.shape[-2])
        return g[(..., *windows.inside(size), slice(None))]

    def _share(self, trace: Trace, R: Array, rule: Rule, book: Book | None) -> Array:
        if book is not None:
            xp, nothing = namespace(R), backend.zeros((), R)
            inside = self.forward(backend.ones(trace.x.shape[-3:], R)) > 0
            book.lose("padding", lambda R, inside: xp.where(inside, nothing, R), R, inside)
        return self.gradient(trace, R)

"""Places around a map, as a layer of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from .. import backend, kernels
from ..backend import Array
from ..context import Context
from ..kernels.windows import Padding, Windows, as_padding
from ..rules import Rule
from .base import Layer, Pass, Shape, Trace


@dataclass(frozen=True, eq=False)
class Pad(Layer):
    """Places around a map: (…, height, width, channel) → (…, top + height + bottom, left + width + right, channel).

    `mode` says what stands there: "zeros"; "constant", the number `value`; "edge", the nearest place of the map; "reflect", the
    map mirrored at its outermost places, which are not repeated (so each padding is less than the size of the map).

    Zeros and constants belong to no input, but to the layer that follows they are inputs like all others. Rules in proportion
    to x_i w_ij give zeros no relevance; ♭, w² and zᴮ do, and a maximum may be at the edge; constants other than 0 get some
    under every rule. The ledger records this as padding. The `padding` of a convolution itself is better than zeros here,
    since no rule gives it relevance. "edge" and "reflect" make copies: whatever the rule, the relevance of a copy goes to the
    place that it is a copy of, and nothing is lost.
    """

    padding: Padding = 1  # an int, (height, width), or ((top, bottom), (left, right))
    mode: Literal["zeros", "constant", "reflect", "edge"] = "zeros"
    value: float = 0

    axes: ClassVar[int] = 3

    def __post_init__(self) -> None:
        if self.mode not in ("zeros", "constant", "reflect", "edge"):
            raise ValueError(f"mode: expected 'zeros', 'constant', 'reflect' or 'edge', got {self.mode!r}")
        if self.value and self.mode != "constant":
            raise ValueError(f"value: {self.value!r} has no meaning with mode={self.mode!r}")
        object.__setattr__(self, "padding", as_padding(self.padding))

    def _windows(self, shape: Shape) -> Windows:
        if len(shape) < 3:
            raise ValueError(f"x: Pad expects (…, height, width, channel), got shape {tuple(shape)}")
        if self.mode == "reflect" and any(max(p) >= n for n, p in zip(shape[-3:-1], self._border, strict=True)):
            raise ValueError(f"padding: expected less than the map, {tuple(shape[-3:-1])}, to reflect it, got {self._border}")
        return Windows((1, 1), padding=self._border)

    @property
    def _border(self) -> tuple[tuple[int, int], ...]:
        return self.padding  # type: ignore[return-value]

    def effective_rule(self, rule: Rule) -> Rule:
        return Pass()

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return nonneg and self.value >= 0

    def output_shape(self, shape: Shape) -> Shape:
        return (*shape[:-3], *self._windows(shape).extent((shape[-3], shape[-2])), shape[-1])

    def forward(self, x: Array) -> Array:
        windows = self._windows(x.shape)
        if self.mode in ("zeros", "constant"):
            return windows.pad(x, backend.like(self.value, x))  # type: ignore[arg-type]
        y = backend.zeros(self.output_shape(x.shape), x)
        y[(..., *windows.inside((x.shape[-3], x.shape[-2])), slice(None))] = x
        for copy, original in self._copies(x.shape):
            y[copy] = y[original]
        return y

    def gradient(self, trace: Trace, g: Array) -> Array:
        windows, size = self._windows(trace.x.shape), (trace.x.shape[-3], trace.x.shape[-2])
        if self.mode in ("edge", "reflect"):
            g = g + backend.zeros((), g)  # a copy, to add to
            for copy, original in reversed(list(self._copies(trace.x.shape))):
                g[original] += g[copy]
        return g[(..., *windows.inside(size), slice(None))]

    def _redistribute(self, trace: Trace, R: Array, rule: Rule, context: Context) -> Array:
        if context.recorder is not None and self.mode in ("zeros", "constant"):
            windows, size = self._windows(trace.x.shape), (trace.x.shape[-3], trace.x.shape[-2])
            outside = backend.ones((*windows.extent(size), trace.x.shape[-1]), R) > 0
            outside[(*windows.inside(size), slice(None))] = False
            context.record_loss("padding", lambda R, outside: kernels.zero_unless(R, outside), R, outside)
        return self.gradient(trace, R)

    def _copies(self, shape: Shape) -> Iterator[tuple[Any, Any]]:
        """The rows, and then the columns, of y that are copies, and of which: as indices."""
        for axis, (n, (before, after)) in enumerate(zip(shape[-3:-1], self._border, strict=True)):
            behind = (slice(None),) * (2 - axis)
            last = before + n - 1
            for far in range(1, max(before, after) + 1):
                within = far if self.mode == "reflect" else 0
                if far <= before:
                    yield (..., _only(before - far), *behind), (..., _only(before + within), *behind)
                if far <= after:
                    yield (..., _only(last + far), *behind), (..., _only(last - within), *behind)


def _only(k: int) -> slice:
    return slice(k, k + 1)

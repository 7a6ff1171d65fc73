"""Places around a map, as a layer of their own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from .. import backend, kernels
from ..backend import Array
from ..context import Context
from ..kernels.windows import AXES, Padding, Windows, as_paddings
from ..rules import Rule
from .base import Layer, Pass, Shape, Trace

COPYING = ("reflect", "edge", "wrap")


@dataclass(frozen=True, eq=False)
class Pad(Layer):
    """Places around a map: (…, height, width, channel) → (…, top + height + bottom, left + width + right, channel).

    `mode` says what stands there: "zeros"; "constant", the number `value`; "edge", the nearest place of the map; "reflect", the
    map mirrored at its outermost places, which are not repeated (so each padding is less than the size of the map); "wrap", the
    map once more, from its other end (each padding is its size at most).

    Zeros and constants belong to no input, but to the layer that follows they are inputs like all others. Rules in proportion
    to x_i w_ij give zeros no relevance; ♭, w² and zᴮ do, and a maximum may be at the edge; constants other than 0 get some
    under every rule. The ledger records this as padding. The `padding` of a convolution itself is better than zeros here,
    since no rule gives it relevance. "edge", "reflect" and "wrap" make copies: whatever the rule, the relevance of a copy goes
    to the place that it is a copy of, and nothing is lost.
    """

    padding: Padding = 1  # an int, (height, width), or ((top, bottom), (left, right))
    mode: Literal["zeros", "constant", "reflect", "edge", "wrap"] = "zeros"
    value: float = 0

    axes: ClassVar[int] = 3

    def __post_init__(self) -> None:
        if self.mode not in ("zeros", "constant", *COPYING):
            raise ValueError(f"mode: expected 'zeros', 'constant', 'reflect', 'edge' or 'wrap', got {self.mode!r}")
        if self.value and self.mode != "constant":
            raise ValueError(f"value: {self.value!r} has no meaning with mode={self.mode!r}")
        object.__setattr__(self, "padding", as_paddings(self.padding, self.axes - 1))

    def _windows(self, shape: Shape) -> Windows:
        if len(shape) < self.axes:
            form = f"(…, {', '.join(AXES[self.axes - 1])}, channel)"
            raise ValueError(f"x: {type(self).__name__} expects {form}, got shape {tuple(shape)}")
        size = tuple(shape[-self.axes : -1])
        if self.mode in ("reflect", "wrap"):
            most = tuple(n - 1 if self.mode == "reflect" else n for n in size)
            if any(max(pair) > n for n, pair in zip(most, self._border, strict=True)):
                found = f"{self._border} with mode={self.mode!r}"
                raise ValueError(f"padding: expected at most {most}, since the map is {size}, got {found}")
        return Windows((1,) * len(size), padding=self._border)

    @property
    def _border(self) -> tuple[tuple[int, int], ...]:
        return self.padding  # type: ignore[return-value]

    def effective_rule(self, rule: Rule) -> Rule:
        return Pass()

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return nonneg and self.value >= 0

    def output_shape(self, shape: Shape) -> Shape:
        return (*shape[: -self.axes], *self._windows(shape).extent(shape[-self.axes : -1]), shape[-1])

    def forward(self, x: Array) -> Array:
        windows = self._windows(x.shape)
        if self.mode in ("zeros", "constant"):
            return windows.pad(x, backend.like(self.value, x))  # type: ignore[arg-type]
        y = backend.zeros(self.output_shape(x.shape), x)
        y[(..., *windows.inside(windows.size(x.shape)), slice(None))] = x
        for copy, original in self._copies(x.shape):
            y[copy] = y[original]
        return y

    def gradient(self, trace: Trace, g: Array) -> Array:
        windows = self._windows(trace.x.shape)
        if self.mode in COPYING:
            g = g + backend.zeros((), g)  # a copy, to add to
            for copy, original in reversed(list(self._copies(trace.x.shape))):
                g[original] += g[copy]
        return g[(..., *windows.inside(windows.size(trace.x.shape)), slice(None))]

    def _redistribute(self, trace: Trace, R: Array, rule: Rule, context: Context) -> Array:
        if context.recorder is not None and self.mode not in COPYING:
            windows = self._windows(trace.x.shape)
            size = windows.size(trace.x.shape)
            outside = backend.ones((*windows.extent(size), trace.x.shape[-1]), R) > 0
            outside[(*windows.inside(size), slice(None))] = False
            context.record_loss("padding", lambda R, outside: kernels.zero_unless(R, outside), R, outside)
        return self.gradient(trace, R)

    def _copies(self, shape: Shape) -> Iterator[tuple[Any, Any]]:
        """The rows, and then the columns, of y that are copies, and of which: as indices."""
        for axis, (n, (before, after)) in enumerate(zip(shape[-self.axes : -1], self._border, strict=True)):
            behind = (slice(None),) * (self.axes - 1 - axis)
            first, last = before, before + n - 1
            for far in range(1, max(before, after) + 1):
                ahead, back = {
                    "edge": (first, last),
                    "reflect": (first + far, last - far),
                    "wrap": (last + 1 - far, first - 1 + far),
                }[self.mode]
                if far <= before:
                    yield (..., _only(first - far), *behind), (..., _only(ahead), *behind)
                if far <= after:
                    yield (..., _only(last + far), *behind), (..., _only(back), *behind)


@dataclass(frozen=True, eq=False)
class Pad1D(Pad):
    """`Pad` on (…, length, channel): an int, or (before, after)."""

    axes: ClassVar[int] = 2


@dataclass(frozen=True, eq=False)
class Pad3D(Pad):
    """`Pad` on (…, depth, height, width, channel)."""

    axes: ClassVar[int] = 4


def _only(k: int) -> slice:
    return slice(k, k + 1)

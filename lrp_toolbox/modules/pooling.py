"""Pooling: MaxPool, AvgPool, SumPool, and the two that pool the whole map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from .. import backend, kernels, propagation
from ..backend import Array, namespace
from ..context import Context
from ..kernels.windows import Padding, Windows, as_padding, as_pair
from ..rules import Flat, Rule, Z
from ..weights import ONE
from .base import Layer, LinearModule, Shape, Trace


class _Windowed:
    """The geometry that all pooling layers share. `kernel=None` pools the whole map."""

    kernel: int | Sequence[int] | None
    stride: int | Sequence[int] | None
    padding: Padding
    ceil_mode: bool

    def _check(self) -> None:
        if self.kernel is None:
            if self.stride is not None or self.padding != 0 or self.ceil_mode:
                raise ValueError("kernel: with None, which pools the whole map, stride, padding and ceil_mode have no meaning")
            return
        kernel = as_pair("kernel", self.kernel, 1)
        padding = as_padding(self.padding)
        if any(n >= k for k, pair in zip(kernel, padding, strict=True) for n in pair):
            raise ValueError(f"padding: expected less than the kernel, {kernel}, got {self.padding}: windows see nothing")
        object.__setattr__(self, "kernel", kernel)
        object.__setattr__(self, "stride", kernel if self.stride is None else as_pair("stride", self.stride, 1))
        object.__setattr__(self, "padding", padding)

    def windows(self, shape: Shape) -> Windows:
        """Where the windows lie on a map of `shape` (…, height, width, channel)."""
        if len(shape) < 3:
            raise ValueError(f"x: {type(self).__name__} expects (…, height, width, channel), got shape {tuple(shape)}")
        if self.kernel is None:
            return Windows((shape[-3], shape[-2]))
        return Windows(self.kernel, self.stride, self.padding, ceil_mode=self.ceil_mode)  # type: ignore[arg-type]

    def output_shape(self, shape: Shape) -> Shape:
        return (*shape[:-3], *self.windows(shape).counts((shape[-3], shape[-2])), shape[-1])


@dataclass(frozen=True, repr=False)
class Winner(Rule):
    """Max-pooling: the winner of a window takes all of its relevance; tied winners get equal parts."""

    symbol: ClassVar[str] = "max"
    formula: ClassVar[str] = "z_ij = 1 for the largest x_i of the window, else 0"


@dataclass(frozen=True, eq=False)
class MaxPool(_Windowed, Layer):
    """The largest x of each window. `ties`: several largest share relevance and gradient, or the first takes them."""

    kernel: int | Sequence[int] | None = 2
    stride: int | Sequence[int] | None = None  # None: the kernel's
    padding: Padding = 0
    ceil_mode: bool = False
    ties: Literal["share", "first"] = "share"

    axes: ClassVar[int] = 3

    def __post_init__(self) -> None:
        self._check()
        if self.ties not in ("share", "first"):
            raise ValueError(f"ties: expected 'share' or 'first', got {self.ties!r}")

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return nonneg

    def effective_rule(self, rule: Rule) -> Rule:
        return rule if isinstance(rule, Flat) else Winner()

    def forward(self, x: Array) -> Array:
        return self.windows(x.shape).max(x)

    def gradient(self, trace: Trace, g: Array) -> Array:
        return self._to_winners(trace, g)

    def _redistribute(self, trace: Trace, R: Array, rule: Rule, context: Context) -> Array:
        if isinstance(rule, Flat):  # in equal parts to the places of the window that exist, whatever their values
            windows = SumPool(self.kernel, self.stride, self.padding, self.ceil_mode)
            return propagation.relprop(rule, windows, trace.x, R, context)
        return self._to_winners(trace, R)

    def _to_winners(self, trace: Trace, R: Array) -> Array:
        windows, size = self.windows(trace.x.shape), trace.x.shape[-3:-1]
        xp = namespace(R)
        padded = windows.pad(trace.x, float("-inf"))
        wins = [(v, padded[..., v[0], v[1], :] == trace.y) for _, _, v in windows.views(size)]
        if self.ties == "first":
            taken, first = None, []
            for v, won in wins:
                first.append((v, won if taken is None else won & ~taken))
                taken = won if taken is None else taken | won
            wins, s = first, R
        else:
            s = R / xp.astype(sum(xp.astype(won, xp.int32) for _, won in wins), R.dtype)
        R_in = backend.zeros((*R.shape[:-3], *padded.shape[-3:]), R)
        for (rows, columns), won in wins:
            R_in[..., rows, columns, :] += kernels.zero_unless(s, won)
        return R_in[(..., *windows.inside(size), slice(None))]


class _Adding(_Windowed, LinearModule):
    """Σ over each window, times a weight of the window's own: AvgPool and SumPool. Channels do not mix."""

    w: Any = None  # `apply` makes the weights from the shape of x
    b = None

    axes: ClassVar[int] = 3

    def weight(self, x_shape: Shape, x: Array) -> Array | None:
        """w of each window, (rows, columns, 1), or None where it is 1."""
        return None

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return nonneg

    def effective_rule(self, rule: Rule) -> Rule:
        return rule if isinstance(rule, Flat) else Z()  # always in proportion, unless ♭ is asked for (decision 5)

    def apply(self, x: Array, w: Any) -> Array:
        y = self.windows(x.shape).sum(x)
        weight = None if w is ONE else self.weight(x.shape, x)
        return y if weight is None else y * weight

    def apply_T(self, s: Array, w: Any, shape: Shape) -> Array:
        weight = None if w is ONE else self.weight(shape, s)
        return self.windows(shape).sum_T(s if weight is None else s * weight, (shape[-3], shape[-2]))

    def sees_only_padding(self, x: Array) -> Array | None:
        return self.windows(x.shape).sees_only_padding(x)


@dataclass(frozen=True, eq=False)
class SumPool(_Adding):
    """Σ over each window."""

    kernel: int | Sequence[int] | None = 2
    stride: int | Sequence[int] | None = None  # None: the kernel's
    padding: Padding = 0
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        self._check()


@dataclass(frozen=True, eq=False)
class AvgPool(_Adding):
    """The mean of each window. Padding counts as zeros (Caffe, PyTorch), or not at all (Keras) with
    `count_include_pad=False`; what a window of ceil mode sees beyond the padded edge never counts."""

    kernel: int | Sequence[int] | None = 2
    stride: int | Sequence[int] | None = None  # None: the kernel's
    padding: Padding = 0
    ceil_mode: bool = False
    count_include_pad: bool = True

    def __post_init__(self) -> None:
        self._check()

    def weight(self, x_shape: Shape, x: Array) -> Array | None:
        windows, size = self.windows(x_shape), (x_shape[-3], x_shape[-2])
        counted = backend.zeros((*windows.extent(size), 1), x)
        if self.count_include_pad:
            (top, bottom), (left, right) = windows.padding
            counted[: size[0] + top + bottom, : size[1] + left + right, :] = 1
        else:
            counted[(*windows.inside(size), slice(None))] = 1
        unpadded = Windows(windows.kernel, windows.stride)
        return backend.ones((), x) / unpadded.sum(counted)

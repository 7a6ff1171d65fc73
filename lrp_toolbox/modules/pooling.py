"""Pooling over windows, over maps of one, two or three axes of places; over the whole map; and adaptive pooling."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from .. import backend, kernels, propagation
from ..backend import Array, asarray_like, namespace
from ..context import Context
from ..kernels.windows import AXES, AdaptiveWindows, Padding, Windows, as_paddings, as_sizes
from ..rules import Epsilon, Flat, Rule, Z
from ..weights import ONE
from .base import Layer, LinearModule, Module, Shape, Trace


class _Pooling(Layer):
    """What all pooling layers share: windows on a map, whose channels do not mix."""

    axes: ClassVar[int] = 3  # the axes of places, and the channels

    def windows(self, shape: Shape) -> Windows | AdaptiveWindows:
        """Where the windows lie on a map of `shape` (…, height, width, channel)."""
        raise NotImplementedError

    def _require_map(self, shape: Shape) -> None:
        if len(shape) < self.axes:
            form = f"(…, {', '.join(AXES[self.axes - 1])}, channel)"
            raise ValueError(f"x: {type(self).__name__} expects {form}, got shape {tuple(shape)}")

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return nonneg

    def output_shape(self, shape: Shape) -> Shape:
        windows = self.windows(shape)
        return (*shape[: -self.axes], *windows.counts(windows.size(shape)), shape[-1])


class _Windowed(_Pooling):
    """Windows of one size, at regular distances. `kernel=None` pools the whole map."""

    kernel: int | Sequence[int] | None
    stride: int | Sequence[int] | None
    padding: Padding
    ceil_mode: bool

    def __post_init__(self) -> None:
        if self.kernel is None:
            if self.stride is not None or self.padding != 0 or self.ceil_mode:
                raise ValueError("kernel: with None, which pools the whole map, stride, padding and ceil_mode have no meaning")
            return
        n = self.axes - 1
        kernel = as_sizes("kernel", self.kernel, 1, n)
        padding = as_paddings(self.padding, n)
        if any(p >= k for k, pair in zip(kernel, padding, strict=True) for p in pair):
            raise ValueError(f"padding: expected less than the kernel, {kernel}, got {self.padding}: windows see nothing")
        object.__setattr__(self, "kernel", kernel)
        object.__setattr__(self, "stride", kernel if self.stride is None else as_sizes("stride", self.stride, 1, n))
        object.__setattr__(self, "padding", padding)

    def windows(self, shape: Shape) -> Windows:
        self._require_map(shape)
        if self.kernel is None:
            return Windows(tuple(shape[-self.axes : -1]))
        return Windows(self.kernel, self.stride, self.padding, ceil_mode=self.ceil_mode)  # type: ignore[arg-type]


class Adding(LinearModule):
    """A layer that adds up its inputs, each times a weight that is fixed by the geometry: Σ_i x_i w_ij with w_ij ≥ 0.

    Its weights have no signs to tell apart, and it has no bias. So each output gives its relevance to its inputs in proportion
    to x_i w_ij, whatever the rule (z or, with its stabiliser, ε); under ♭ they get equal parts (decision 5).
    """

    w: Any = None  # `apply` makes the weights from the shape of x
    b = None

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return nonneg

    def effective_rule(self, rule: Rule) -> Rule:
        return rule if isinstance(rule, (Flat, Epsilon)) else Z()


# ---- maxima ----------------------------------------------------------------------------------------------------------


Ties = Literal["share", "first"]


def require_ties(ties: Any) -> None:
    if ties not in get_args(Ties):
        raise ValueError(f"ties: expected 'share' or 'first', got {ties!r}")


def with_ties(net: Module, ties: Ties) -> Module:
    """The same net, in which tied winners of every max-pooling share relevance, or the first takes it.

    "share" is the default of this toolbox: it is symmetric, so that a mirrored picture gets the mirrored heatmap, and the
    order of pixels in memory does not matter. Frameworks, and toolboxes that use their gradients, take the first.
    """
    require_ties(ties)
    return net.transform(lambda _, layer: layer.with_ties(ties) if isinstance(layer, _Maximum) else layer)


def ties_of(net: Module) -> str:
    """What tied winners get in the max-pooling of `net`: "share", "first", both, or "–" if there is none."""
    found = {layer.ties for _, layer in net.walk() if isinstance(layer, _Maximum)}
    return " and ".join(sorted(found)) or "–"


@dataclass(frozen=True, repr=False)
class Winner(Rule):
    """Max-pooling: the winner of a window takes all of its relevance. Tied winners get equal parts, or the first all."""

    formula: ClassVar[str] = "z_ij = 1 for the largest x_i of the window, else 0"
    ties: Ties = "share"

    @property
    def symbol(self) -> str:  # type: ignore[override]
        return "max" if self.ties == "share" else "first max"


class _Maximum(_Pooling):
    """The largest x of each window."""

    ties: Ties

    def with_ties(self, ties: Ties) -> Layer:
        return replace(self, ties=ties)  # type: ignore[type-var]  # final classes are dataclasses

    def effective_rule(self, rule: Rule) -> Rule:
        return rule if isinstance(rule, Flat) else Winner(self.ties)

    def forward(self, x: Array) -> Array:
        return self.windows(x.shape).max(x)

    def gradient(self, trace: Trace, g: Array) -> Array:
        return self._to_winners(trace, g)

    def _redistribute(self, trace: Trace, R: Array, rule: Rule, context: Context) -> Array:
        if isinstance(rule, Flat):  # in equal parts to the places of the window that exist, whatever their values
            return propagation.relprop(rule, _Sums(self.windows(trace.x.shape)), trace.x, R, context)
        return self._to_winners(trace, R)

    def _to_winners(self, trace: Trace, R: Array) -> Array:
        """R of each window to its largest places."""
        raise NotImplementedError

    def _least(self, y: Array) -> Array:
        """From which size on a place of the window wins: rounding decides no tie that is shared, in double precision.

        In float32 real maps have neighbours within one ulp that are no ties.
        """
        if self.ties == "first" or backend.is_exact(y) or y.dtype == namespace(y).float32:
            return y
        return kernels.elementwise(lambda y: y - backend.rounding(y) * abs(y), y)


class _Sums(Adding):
    """Σ over windows that are given."""

    def __init__(self, windows: Windows | AdaptiveWindows):
        self.given = windows

    def apply(self, x: Array, w: Any) -> Array:
        return self.given.sum(x)

    def apply_T(self, s: Array, w: Any, shape: Shape) -> Array:
        return self.given.sum_T(s, self.given.size(shape))

    def sees_only_padding(self, x: Array) -> Array | None:
        return self.given.sees_only_padding(x)


@dataclass(frozen=True, eq=False)
class MaxPool(_Windowed, _Maximum):
    """The largest x of each window. `ties`: several largest share relevance and gradient, or the first takes them."""

    kernel: int | Sequence[int] | None = 2
    stride: int | Sequence[int] | None = None  # None: the kernel's
    padding: Padding = 0
    ceil_mode: bool = False
    ties: Ties = "share"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_ties(self.ties)

    def _to_winners(self, trace: Trace, R: Array) -> Array:
        windows = self.windows(trace.x.shape)
        size, xp = windows.size(trace.x.shape), namespace(R)
        padded = windows.pad(trace.x, float("-inf"))
        least = self._least(trace.y)
        wins = [(view, padded[(..., *view, slice(None))] >= least) for *_, view in windows.views(size)]
        if self.ties == "first":
            taken, first = None, []
            for view, won in wins:
                first.append((view, won if taken is None else won & ~taken))
                taken = won if taken is None else taken | won
            wins, s = first, R
        else:
            s = R / xp.astype(sum(xp.astype(won, xp.int32) for _, won in wins), R.dtype)
        R_in = backend.zeros((*R.shape[: -self.axes], *padded.shape[-self.axes :]), R)
        for view, won in wins:
            R_in[(..., *view, slice(None))] += kernels.zero_unless(s, won)
        return R_in[(..., *windows.inside(size), slice(None))]


@dataclass(frozen=True, eq=False)
class MaxPool1D(MaxPool):
    """`MaxPool` on (…, length, channel)."""

    axes: ClassVar[int] = 2


@dataclass(frozen=True, eq=False)
class MaxPool3D(MaxPool):
    """`MaxPool` on (…, depth, height, width, channel)."""

    axes: ClassVar[int] = 4


# ---- sums ------------------------------------------------------------------------------------------------------------


class _Adding(_Pooling, Adding):
    """Σ over each window, times a weight of the window's own: average and sum pooling."""

    def weight(self, x_shape: Shape, x: Array) -> Array | None:
        """w of each window, (rows, columns, 1), or None where it is 1."""
        return None

    def apply(self, x: Array, w: Any) -> Array:
        y = self.windows(x.shape).sum(x)
        weight = None if w is ONE else self.weight(x.shape, x)
        return y if weight is None else y * weight

    def apply_T(self, s: Array, w: Any, shape: Shape) -> Array:
        weight, windows = None if w is ONE else self.weight(shape, s), self.windows(shape)
        return windows.sum_T(s if weight is None else s * weight, windows.size(shape))

    def sees_only_padding(self, x: Array) -> Array | None:
        return self.windows(x.shape).sees_only_padding(x)


@dataclass(frozen=True, eq=False)
class SumPool(_Windowed, _Adding):
    """Σ over each window."""

    kernel: int | Sequence[int] | None = 2
    stride: int | Sequence[int] | None = None  # None: the kernel's
    padding: Padding = 0
    ceil_mode: bool = False


@dataclass(frozen=True, eq=False)
class AvgPool(_Windowed, _Adding):
    """The mean of each window. Padding counts as zeros (Caffe, PyTorch), or not at all (Keras) with
    `count_include_pad=False`; what a window of ceil mode sees beyond the padded edge never counts."""

    kernel: int | Sequence[int] | None = 2
    stride: int | Sequence[int] | None = None  # None: the kernel's
    padding: Padding = 0
    ceil_mode: bool = False
    count_include_pad: bool = True

    def weight(self, x_shape: Shape, x: Array) -> Array | None:
        windows = self.windows(x_shape)
        size = windows.size(x_shape)
        counted = backend.zeros((*windows.extent(size), 1), x)
        if self.count_include_pad:
            inside = tuple(slice(0, before + n + after) for n, (before, after) in zip(size, windows.padding, strict=True))
        else:
            inside = windows.inside(size)
        counted[(*inside, slice(None))] = 1
        unpadded = Windows(windows.kernel, windows.stride)
        return backend.ones((), x) / unpadded.sum(counted)


@dataclass(frozen=True, eq=False)
class AvgPool1D(AvgPool):
    """`AvgPool` on (…, length, channel)."""

    axes: ClassVar[int] = 2


@dataclass(frozen=True, eq=False)
class AvgPool3D(AvgPool):
    """`AvgPool` on (…, depth, height, width, channel)."""

    axes: ClassVar[int] = 4


# ---- adaptive pooling ------------------------------------------------------------------------------------------------


class _Adaptive(_Pooling):
    """As many windows as are asked for, whatever the size of the map."""

    size: int | Sequence[int]

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", as_sizes("size", self.size, 1, self.axes - 1))

    def windows(self, shape: Shape) -> AdaptiveWindows:
        self._require_map(shape)
        return AdaptiveWindows(self.size)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class AdaptiveAvgPool(_Adaptive, _Adding):
    """Means over `size` windows, an int or (rows, columns), on a map of any size.

    Along an axis of n places, window k of m sees the places ⌊k n / m⌋ to ⌈(k + 1) n / m⌉ − 1, as in PyTorch. Where m does not
    divide n, windows overlap. Relevance is shared as in `AvgPool`.
    """

    size: int | Sequence[int]

    def weight(self, x_shape: Shape, x: Array) -> Array | None:
        windows = self.windows(x_shape)
        return backend.ones((), x) / windows.sum(backend.ones((*windows.size(x_shape), 1), x))


@dataclass(frozen=True, eq=False)
class AdaptiveMaxPool(_Adaptive, _Maximum):
    """The largest of each of `size` windows, which lie as in `AdaptiveAvgPool`. `ties` as in `MaxPool`."""

    size: int | Sequence[int]
    ties: Ties = "share"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_ties(self.ties)

    def _to_winners(self, trace: Trace, R: Array) -> Array:
        x, xp = trace.x, namespace(R)
        R_in, least = backend.zeros((*R.shape[: -self.axes], *x.shape[-self.axes :]), R), self._least(trace.y)
        for window, seen in self._cells(x.shape):
            won = x[seen] >= least[window]
            s = R[window]
            if self.ties == "first":
                flat = xp.reshape(xp.astype(won, xp.int32), (*won.shape[: -self.axes], -1, won.shape[-1]))
                order = asarray_like(np.arange(flat.shape[-2])[:, None], x)
                won = won & xp.reshape(order == xp.argmax(flat, axis=-2, keepdims=True), won.shape)
            else:
                s = s / xp.astype(xp.sum(xp.astype(won, xp.int32), axis=tuple(range(-self.axes, -1)), keepdims=True), R.dtype)
            R_in[seen] += xp.where(won, s, backend.zeros((), R))
        return R_in

    def _cells(self, shape: Shape) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
        """For each window, where it lies among the windows, and what it sees of the map, both as indices."""
        windows = self.windows(shape)
        for cell in product(*(enumerate(bounds) for bounds in windows.bounds(windows.size(shape)))):
            yield (..., *(slice(k, k + 1) for k, _ in cell), slice(None)), (..., *(seen for _, seen in cell), slice(None))

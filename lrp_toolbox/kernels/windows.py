"""Sliding windows: the geometry of convolution and pooling, and sums and maxima over windows.

A window of `kernel` taps slides over a padded map. `views` goes through the taps and not through the windows: for the tap
(i, j) it shows what this tap sees in all windows at once, an array (…, output height, output width, channel). A map may have
one axis of places (length), two (height, width) or three (depth, height, width). Everything here works with any module of
the array API standard, and with Fractions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from itertools import product
from operator import add, or_
from typing import Any

import numpy as np

from .. import backend
from ..backend import Array, asarray_like, namespace

Padding = int | Sequence[int] | Sequence[Sequence[int]]
Sizes = tuple[int, ...]  # one number for each axis of places

AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
PLACES = {1: ("places",), 2: ("rows", "columns"), 3: ("slices", "rows", "columns")}
COUNTED = {1: "one", 2: "two", 3: "three"}


def as_sizes(name: str, value: int | Sequence[int], minimum: int, n: int) -> Sizes:
    """`value` as `n` ints, one for each axis of places. Raises ValueError unless it is one int or `n`, none below `minimum`."""
    sizes = tuple(value) if isinstance(value, Sequence) else (value,) * n
    if len(sizes) != n or not all(isinstance(v, int) and not isinstance(v, bool) and v >= minimum for v in sizes):
        wanted = f"{COUNTED[n]} for ({', '.join(AXES[n])})"
        raise ValueError(f"{name}: expected an int ≥ {minimum}, or {wanted}, got {value!r}")
    return sizes


def as_pair(name: str, value: int | Sequence[int], minimum: int) -> tuple[int, int]:
    """`value` as (height, width). Raises ValueError unless it is one int or two, none below `minimum`."""
    height, width = as_sizes(name, value, minimum, 2)
    return height, width


def as_paddings(value: Padding, n: int) -> tuple[tuple[int, int], ...]:
    """(before, after) for each of `n` axes, from an int, one int for each axis, or that form itself.

    For one axis, (before, after) alone will do.
    """
    if n == 1 and isinstance(value, Sequence) and len(value) == 2 and all(isinstance(v, int) for v in value):
        value = (value,)  # type: ignore[assignment]
    if isinstance(value, Sequence) and len(value) == n and not all(isinstance(v, int) for v in value):
        return tuple(as_pair("padding", v, 0) for v in value)
    return tuple((v, v) for v in as_sizes("padding", value, 0, n))  # type: ignore[arg-type]


def as_padding(value: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right)) from an int, (height, width), or that form itself."""
    rows, columns = as_paddings(value, 2)
    return rows, columns


@dataclass(frozen=True)
class Windows:
    """Where windows lie. With `ceil_mode` a last window may reach beyond the padded edge, if it begins inside the map or
    its leading padding (the rule of Caffe and PyTorch). So it may be the only one, and larger than the map.

    `kernel` has one number for each axis of places. What else is left out is 1 for each axis, and no padding.
    """

    kernel: Sizes
    stride: Sizes = ()
    padding: tuple[tuple[int, int], ...] = ()
    dilation: Sizes = ()
    ceil_mode: bool = False

    def __post_init__(self) -> None:
        n = len(self.kernel)
        object.__setattr__(self, "stride", self.stride or (1,) * n)
        object.__setattr__(self, "padding", self.padding or ((0, 0),) * n)
        object.__setattr__(self, "dilation", self.dilation or (1,) * n)

    @property
    def axes(self) -> int:
        """How many axes of places a map has."""
        return len(self.kernel)

    def size(self, shape: tuple[int, ...]) -> Sizes:
        """The size of a map of `shape` (…, height, width, channel): (height, width)."""
        return tuple(shape[-1 - self.axes : -1])

    def counts(self, size: Sizes) -> Sizes:
        """How many windows there are on a map of `size` (height, width). Raises ValueError if there is none."""
        return tuple(self._count(axis, n) for axis, n in enumerate(size))

    def _count(self, axis: int, n: int) -> int:
        span = self._span(axis)
        before, after = self.padding[axis]
        room = n + before + after - span
        count = (math.ceil if self.ceil_mode else math.floor)(room / self.stride[axis]) + 1
        if count < 1:
            raise ValueError(
                f"x: a window of {span} taps does not fit into {n} + {before} + {after} "
                f"{PLACES[self.axes][axis]} (map and padding)"
            )
        return count - 1 if self.ceil_mode and (count - 1) * self.stride[axis] >= n + before else count

    def _span(self, axis: int) -> int:
        """How many places a window reaches over."""
        return self.dilation[axis] * (self.kernel[axis] - 1) + 1

    def cover(self, size: Sizes) -> bool:
        """Whether there is one window, with a tap for every place of the map, and without padding where it is larger."""
        if any(count != 1 for count in self.counts(size)):
            return False
        return all(k == n or (k > n and not any(pair)) for k, n, pair in zip(self.kernel, size, self.padding, strict=True))

    def extent(self, size: Sizes) -> Sizes:
        """Height and width of the padded map, with what the last windows of ceil mode reach beyond."""
        return tuple(
            max(n + sum(self.padding[a]), (count - 1) * self.stride[a] + self._span(a))
            for a, (n, count) in enumerate(zip(size, self.counts(size), strict=True))
        )

    def inside(self, size: Sizes) -> tuple[slice, ...]:
        """Where in the padded map the map itself lies."""
        return tuple(slice(before, before + n) for (before, _), n in zip(self.padding, size, strict=True))

    def pad(self, x: Array, value: float = 0) -> Array:
        """x (…, height, width, channel) in the middle of its padding."""
        size = self.size(x.shape)
        if self.extent(size) == size:
            return x
        padded = backend.zeros((*self._lead(x), *self.extent(size), x.shape[-1]), x)
        if value:
            padded = padded + value
        padded[(..., *self.inside(size), slice(None))] = x
        return padded

    def _lead(self, x: Array) -> tuple[int, ...]:
        return tuple(x.shape[: -1 - self.axes])

    def views(self, size: Sizes) -> Iterator[tuple[Any, ...]]:
        """For each tap, (i, j, view): the rows and columns of the padded map that it sees, over all windows."""
        counts = self.counts(size)
        for tap in product(*(range(k) for k in self.kernel)):
            yield (*tap, tuple(self._tap(axis, i, n) for axis, (i, n) in enumerate(zip(tap, counts, strict=True))))

    def _tap(self, axis: int, tap: int, count: int) -> slice:
        start = tap * self.dilation[axis]
        return slice(start, start + (count - 1) * self.stride[axis] + 1, self.stride[axis])

    # -- what windows do with maps, the plain way

    def sum(self, x: Array) -> Array:
        """Σ over each window: (…, h, w, c) → (…, rows, columns, c)."""
        return self._fold(self.pad(x), self.size(x.shape), add)

    def max(self, x: Array) -> Array:
        """The largest of each window."""
        return self._fold(self.pad(x, float("-inf")), self.size(x.shape), namespace(x).maximum)

    def _fold(self, padded: Array, size: Sizes, f: Callable[[Array, Array], Array]) -> Array:
        """f over each window, down its rows first and then along them: as many steps as the kernel is high and wide."""
        for axis, count in enumerate(self.counts(size)):
            padded = reduce(f, [padded[self._along(axis, tap, count)] for tap in range(self.kernel[axis])])
        return padded

    def _along(self, axis: int, tap: int, count: int) -> tuple[Any, ...]:
        """What a tap sees along one axis, as an index."""
        return (..., self._tap(axis, tap, count), *(slice(None),) * (self.axes - axis))

    def sum_T(self, s: Array, size: Sizes) -> Array:
        """The transpose of `sum`: each place of the map gets Σ of s over the windows that see it."""
        extent, lead = self.extent(size), self._lead(s)
        for axis in reversed(range(self.axes)):
            count = s.shape[len(lead) + axis]
            spread = backend.zeros((*lead, *s.shape[len(lead) : len(lead) + axis], *extent[axis:], s.shape[-1]), s)
            for tap in range(self.kernel[axis]):
                spread[self._along(axis, tap, count)] += s
            s = spread
        return s[(..., *self.inside(size), slice(None))]

    def sees_only_padding(self, x: Array) -> Array | None:
        """A mask (rows, columns, 1) of the windows over x that see only padding; None if there are none."""
        masks = [self._only_padding(axis, n) for axis, n in enumerate(self.size(x.shape))]
        if not any(map(any, masks)):
            return None
        return reduce(or_, (self._mask(mask, axis, x) for axis, mask in enumerate(masks)))

    def _mask(self, mask: list[bool], axis: int, x: Array) -> Array:
        """A mask along one axis of places, to combine with those along the others."""
        return namespace(x).reshape(asarray_like(np.asarray(mask), x), (-1, *(1,) * (self.axes - axis)))

    def _only_padding(self, axis: int, n: int) -> list[bool]:
        first = [k * self.stride[axis] - self.padding[axis][0] for k in range(self._count(axis, n))]
        taps = range(0, self.dilation[axis] * self.kernel[axis], self.dilation[axis])
        return [not any(0 <= start + tap < n for tap in taps) for start in first]


@dataclass(frozen=True)
class AdaptiveWindows:
    """Windows of which there are `count`, whatever the size of the map: PyTorch's adaptive pooling.

    Along an axis of n places, window k of `count` sees the places ⌊k n / count⌋ to ⌈(k + 1) n / count⌉ − 1. Windows may
    differ in size and overlap, and none sees padding.
    """

    count: Sizes

    @property
    def axes(self) -> int:
        return len(self.count)

    def size(self, shape: tuple[int, ...]) -> Sizes:
        return tuple(shape[-1 - self.axes : -1])

    def counts(self, size: Sizes) -> Sizes:
        return self.count

    def cover(self, size: Sizes) -> bool:
        return all(n == 1 for n in self.count)

    def bounds(self, size: Sizes) -> list[list[slice]]:
        """For each axis, the places that each of its windows sees."""
        return [[slice(k * n // m, -(-(k + 1) * n // m)) for k in range(m)] for n, m in zip(size, self.count, strict=True)]

    def sum(self, x: Array) -> Array:
        return self._fold(x, namespace(x).sum)

    def max(self, x: Array) -> Array:
        return self._fold(x, namespace(x).max)

    def _fold(self, x: Array, f: Callable[..., Array]) -> Array:
        xp = namespace(x)
        for axis, windows in enumerate(self.bounds(self.size(x.shape))):
            behind = (slice(None),) * (self.axes - axis)
            at = -1 - len(behind)
            x = xp.concat([f(x[(..., window, *behind)], axis=at, keepdims=True) for window in windows], axis=at)
        return x

    def sum_T(self, s: Array, size: Sizes) -> Array:
        for axis, windows in enumerate(self.bounds(size)):
            behind = (slice(None),) * (self.axes - axis)
            shape = list(s.shape)
            shape[-1 - len(behind)] = size[axis]
            spread = backend.zeros(tuple(shape), s)
            for k, window in enumerate(windows):
                spread[(..., window, *behind)] += s[(..., slice(k, k + 1), *behind)]
            s = spread
        return s

    def sees_only_padding(self, x: Array) -> None:
        return None


def sum_of_groups(x: Array, groups: int) -> Array:
    """Σ over the channels of each group: (…, channel) → (…, groups)."""
    xp = namespace(x)
    return xp.sum(xp.reshape(x, (*x.shape[:-1], groups, x.shape[-1] // groups)), axis=-1)


def to_groups(s: Array, groups: int, channels: int) -> Array:
    """The transpose of `sum_of_groups`: every channel of a group gets the group's value."""
    xp = namespace(s)
    spread = xp.broadcast_to(s[..., None], (*s.shape, channels // groups))
    return xp.reshape(spread, (*s.shape[:-1], channels))

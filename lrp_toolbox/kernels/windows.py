"""Sliding windows: the geometry of convolution and pooling, and sums and maxima over windows.

A window of `kernel` taps slides over a padded map. `views` goes through the taps and not through the windows: for the tap
(i, j) it shows what this tap sees in all windows at once, an array (…, output height, output width, channel). Everything
here works with any module of the array API standard, and with Fractions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np

from .. import backend
from ..backend import Array, asarray_like, namespace

Padding = int | Sequence[int] | Sequence[Sequence[int]]


def as_pair(name: str, value: int | Sequence[int], minimum: int) -> tuple[int, int]:
    """`value` as (height, width). Raises ValueError unless it is one int or two, none below `minimum`."""
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) and n >= minimum for n in pair):
        raise ValueError(f"{name}: expected an int ≥ {minimum}, or two for (height, width), got {value!r}")
    return pair


def as_padding(value: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right)) from an int, (height, width), or that form itself."""
    if not isinstance(value, int) and len(value) == 2 and not all(isinstance(v, int) for v in value):
        rows, columns = (as_pair("padding", v, 0) for v in value)
        return rows, columns
    high, wide = as_pair("padding", value, 0)  # type: ignore[arg-type]
    return (high, high), (wide, wide)


@dataclass(frozen=True)
class Windows:
    """Where windows lie. With `ceil_mode` a last window may reach beyond the padded edge, if it begins inside the map or
    its leading padding (the rule of Caffe and PyTorch)."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[tuple[int, int], tuple[int, int]] = ((0, 0), (0, 0))
    dilation: tuple[int, int] = (1, 1)
    ceil_mode: bool = False

    def counts(self, size: tuple[int, int]) -> tuple[int, int]:
        """How many windows there are on a map of `size` (height, width). Raises ValueError if there is none."""
        rows, columns = (self._count(axis, n) for axis, n in enumerate(size))
        return rows, columns

    def _count(self, axis: int, n: int) -> int:
        span = self.dilation[axis] * (self.kernel[axis] - 1) + 1
        before, after = self.padding[axis]
        room = n + before + after - span
        if room < 0:
            raise ValueError(
                f"x: a window of {span} taps does not fit into {n} + {before} + {after} "
                f"{('rows', 'columns')[axis]} (map and padding)"
            )
        count = (math.ceil if self.ceil_mode else math.floor)(room / self.stride[axis]) + 1
        return count - 1 if self.ceil_mode and (count - 1) * self.stride[axis] >= n + before else count

    def extent(self, size: tuple[int, int]) -> tuple[int, int]:
        """Height and width of the padded map, with what the last windows of ceil mode reach beyond."""
        return tuple(  # type: ignore[return-value]
            max(n + sum(self.padding[a]), (count - 1) * self.stride[a] + self.dilation[a] * (self.kernel[a] - 1) + 1)
            for a, (n, count) in enumerate(zip(size, self.counts(size), strict=True))
        )

    def inside(self, size: tuple[int, int]) -> tuple[slice, slice]:
        """Where in the padded map the map itself lies."""
        return tuple(slice(self.padding[a][0], self.padding[a][0] + n) for a, n in enumerate(size))  # type: ignore[return-value]

    def pad(self, x: Array, value: float = 0) -> Array:
        """x (…, height, width, channel) in the middle of its padding."""
        size = x.shape[-3:-1]
        if self.extent(size) == size:
            return x
        padded = backend.zeros((*x.shape[:-3], *self.extent(size), x.shape[-1]), x)
        if value:
            padded = padded + value
        padded[(..., *self.inside(size), slice(None))] = x
        return padded

    def views(self, size: tuple[int, int]) -> Iterator[tuple[int, int, tuple[slice, slice]]]:
        """For each tap (i, j): the rows and columns of the padded map that it sees, over all windows."""
        rows, columns = self.counts(size)
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                yield i, j, (self._tap(0, i, rows), self._tap(1, j, columns))

    def _tap(self, axis: int, tap: int, count: int) -> slice:
        start = tap * self.dilation[axis]
        return slice(start, start + (count - 1) * self.stride[axis] + 1, self.stride[axis])

    # -- what windows do with maps, the plain way

    def sum(self, x: Array) -> Array:
        """Σ over each window: (…, h, w, c) → (…, rows, columns, c)."""
        return self._fold(self.pad(x), x.shape[-3:-1], add)

    def max(self, x: Array) -> Array:
        """The largest of each window."""
        return self._fold(self.pad(x, float("-inf")), x.shape[-3:-1], namespace(x).maximum)

    def _fold(self, padded: Array, size: tuple[int, int], f: Callable[[Array, Array], Array]) -> Array:
        """f over each window, down its rows first and then along them: as many steps as the kernel is high and wide."""
        rows, columns = self.counts(size)
        y = reduce(f, (padded[..., self._tap(0, i, rows), :, :] for i in range(self.kernel[0])))
        return reduce(f, (y[..., self._tap(1, j, columns), :] for j in range(self.kernel[1])))

    def sum_T(self, s: Array, size: tuple[int, int]) -> Array:
        """The transpose of `sum`: each place of the map gets Σ of s over the windows that see it."""
        (rows, columns), (high, wide) = self.counts(size), self.extent(size)
        across = backend.zeros((*s.shape[:-2], wide, s.shape[-1]), s)
        for j in range(self.kernel[1]):
            across[..., self._tap(1, j, columns), :] += s
        padded = backend.zeros((*s.shape[:-3], high, wide, s.shape[-1]), s)
        for i in range(self.kernel[0]):
            padded[..., self._tap(0, i, rows), :, :] += across
        return padded[(..., *self.inside(size), slice(None))]

    def sees_only_padding(self, x: Array) -> Array | None:
        """A mask (rows, columns, 1) of the windows over x that see only padding; None if there are none."""
        rows, columns = (self._only_padding(axis, n) for axis, n in enumerate(x.shape[-3:-1]))
        if not any(rows) and not any(columns):
            return None
        below, beside = (asarray_like(np.asarray(mask), x) for mask in (rows, columns))
        return (below[:, None] | beside[None, :])[:, :, None]

    def _only_padding(self, axis: int, n: int) -> list[bool]:
        first = [k * self.stride[axis] - self.padding[axis][0] for k in range(self._count(axis, n))]
        taps = range(0, self.dilation[axis] * self.kernel[axis], self.dilation[axis])
        return [not any(0 <= start + tap < n for tap in taps) for start in first]


def sum_of_groups(x: Array, groups: int) -> Array:
    """Σ over the channels of each group: (…, channel) → (…, groups)."""
    xp = namespace(x)
    return xp.sum(xp.reshape(x, (*x.shape[:-1], groups, x.shape[-1] // groups)), axis=-1)


def to_groups(s: Array, groups: int, channels: int) -> Array:
    """The transpose of `sum_of_groups`: every channel of a group gets the group's value."""
    xp = namespace(s)
    spread = xp.broadcast_to(s[..., None], (*s.shape, channels // groups))
    return xp.reshape(spread, (*s.shape[:-1], channels))

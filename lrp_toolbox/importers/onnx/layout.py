"""Where the axes of an ONNX value are in ours: reshapes and transposes of a file become bookkeeping, and not layers.

ONNX has (sample, channel, height, width), we have (height, width, channel) and free axes for samples before it. The axes of
a value are products of factors. A reshape says anew which factors make up an axis, a transpose says in which order the axes
are read, and neither moves a number: only where a layer needs another order than the one that is there, a layer for that is
put in (see `graph.Walk.arrange`). So the flattening before a dense layer only reorders the rows of its weights, and a net
that TensorFlow exported, which transposes all the time, has no transpose left.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...backend import Array
from ...modules.base import Shape

Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Layout:
    """The factors of a value, in the order of ONNX's axes; which of them make up an axis of ours; and which axis is samples.

    `sizes`     the size of each factor
    `counts`    for each axis of ONNX, how many factors it has; the axis of samples has none
    `ours`      for each of our axes (without samples), its factors; a factor of size 1 may be missing
    `samples`   the axis of ONNX that is samples, or None; `batch` is its size in the file
    """

    sizes: tuple[int, ...]
    counts: tuple[int, ...]
    ours: Groups
    samples: int | None
    batch: int = 1

    @classmethod
    def of(cls, shape: Shape, order: Sequence[int], samples: int | None) -> Layout:
        """A value of `shape` in ONNX, whose axes are ours in this `order` (without that of samples)."""
        sizes = tuple(n for axis, n in enumerate(shape) if axis != samples)
        counts = tuple(int(axis != samples) for axis in range(len(shape)))
        batch = 1 if samples is None else shape[samples]
        first = [sum(counts[:axis]) for axis in range(len(shape))]
        return cls(sizes, counts, tuple((first[axis],) for axis in order), samples, batch)

    # -- shapes

    @property
    def rank(self) -> int:
        return len(self.counts)

    @property
    def groups(self) -> Groups:
        """For each axis of ONNX, its factors."""
        starts = np.cumsum([0, *self.counts]).tolist()
        return tuple(tuple(range(start, start + n)) for start, n in zip(starts, self.counts, strict=False))

    def size(self, factors: Sequence[int]) -> int:
        return math.prod(self.sizes[f] for f in factors)

    @property
    def shape(self) -> Shape:
        """In ONNX."""
        return tuple(self.batch if a == self.samples else self.size(group) for a, group in enumerate(self.groups))

    @property
    def our_shape(self) -> Shape:
        return tuple(self.size(group) for group in self.ours)

    # -- what changes no number

    def transposed(self, order: Sequence[int]) -> Layout:
        """ONNX's Transpose: axis k is what axis order[k] was."""
        groups = self.groups
        moved = [f for axis in order for f in groups[axis]]
        new = {old: k for k, old in enumerate(moved)}
        return Layout(
            tuple(self.sizes[f] for f in moved),
            tuple(self.counts[axis] for axis in order),
            tuple(tuple(new[f] for f in group) for group in self.ours),
            None if self.samples is None else list(order).index(self.samples),
            self.batch,
        )

    def reshaped(self, shape: Shape) -> Layout | None:
        """ONNX's Reshape to `shape`; None if its axes cut across those that are there, or across samples."""
        if math.prod(shape) != math.prod(self.shape):
            return None
        samples = self._samples_of(shape)
        if samples is None and self.samples is not None:
            return None
        wanted = [n for axis, n in enumerate(shape) if axis != samples]
        kept = [f for f, n in enumerate(self.sizes) if n != 1]
        left = [(f, self.sizes[f]) for f in kept]  # factors, or what is left of them, in order
        sizes: list[int] = []
        counts: list[int] = []
        parts: dict[int, list[int]] = {f: [] for f in kept}  # new factors of each old one
        for n in wanted:
            start = len(sizes)
            while n != 1:
                if not left:
                    return None
                f, size = left.pop(0)
                if size > n:
                    if size % n:
                        return None
                    left.insert(0, (f, size // n))
                    size = n
                elif n % size:
                    return None
                n //= size
                parts[f].append(len(sizes))
                sizes.append(size)
            if start == len(sizes):
                sizes.append(1)
            counts.append(len(sizes) - start)
        if samples is not None:
            counts.insert(samples, 0)
        ours = tuple(tuple(p for f in group if f in parts for p in parts[f]) for group in self.ours)
        return Layout(tuple(sizes), tuple(counts), ours, samples, self.batch)

    def _samples_of(self, shape: Shape) -> int | None:
        """Which axis of `shape` is samples: the one of that size with as many numbers before it."""
        if self.samples is None:
            return None
        before, here = math.prod(self.shape[: self.samples]), 1
        for axis, n in enumerate(shape):
            if here == before and n == self.batch:
                return axis
            here *= n
        return None

    def resized(self, axes: dict[int, int]) -> Layout:
        """The same with other sizes of some axes, where each axis of ours is one of ONNX's."""
        return Layout.of(tuple(axes.get(axis, n) for axis, n in enumerate(self.shape)), self.order, self.samples)

    def without(self, axes: Sequence[int]) -> Layout:
        """Without some axes, likewise."""
        new = {axis: k for k, axis in enumerate(a for a in range(self.rank) if a not in axes)}
        order = [new[axis] for axis in self.order if axis in new]
        return Layout.of(tuple(self.shape[a] for a in new), order, None if self.samples is None else new[self.samples])

    # -- orders

    def in_order(self, axes: Sequence[int]) -> Groups:
        """Our axes, if each is one of ONNX's, in this order."""
        groups = self.groups
        return tuple(groups[axis] for axis in axes)

    @property
    def features(self) -> list[int]:
        """The axes of ONNX that are not samples."""
        return [axis for axis in range(self.rank) if axis != self.samples]

    @property
    def channels_last(self) -> Groups:
        """ONNX's axes (sample, channel, height, width) as (height, width, channel), for any number of places."""
        first, *places = self.features
        return self.in_order([*places, first])

    @property
    def one_by_one(self) -> bool:
        """Whether each of our axes is one of ONNX's."""
        return sorted(self.ours) == sorted(self.in_order(self.features))

    @property
    def order(self) -> list[int]:
        """Which axis of ONNX each of ours is, where each is one."""
        return [self.groups.index(group) for group in self.ours]

    def position(self, axis: int) -> int:
        """Where ONNX's axis is among ours, counted from the last: −1, −2, …"""
        return self.order.index(axis) - len(self.ours)

    def with_ours(self, ours: Groups) -> Layout:
        return Layout(self.sizes, self.counts, ours, self.samples, self.batch)

    def same_numbers(self, wanted: Groups) -> bool:
        """Whether our numbers are in the order `wanted` already, whatever the axes."""

        def flat(groups: Groups) -> list[int]:
            return [f for group in groups for f in group if self.sizes[f] != 1]

        return flat(self.ours) == flat(wanted)

    # -- numbers

    def to_ours(self, a: Array) -> Array:
        """A value of ONNX in our axes, behind that of samples; the number of samples is free."""
        a = a if self.samples is None else np.moveaxis(a, self.samples, 0)
        lead = () if self.samples is None else a.shape[:1]
        order = self._full_order
        a = a.reshape(*lead, *self.sizes).transpose(*range(len(lead)), *(len(lead) + f for f in order))
        return np.ascontiguousarray(a).reshape(*lead, *self.our_shape)

    def to_onnx(self, a: Array) -> Array:
        """The inverse of `to_ours`."""
        lead = () if self.samples is None else a.shape[:1]
        order = self._full_order
        a = a.reshape((*lead, *(self.sizes[f] for f in order)))
        a = a.transpose(*range(len(lead)), *(len(lead) + order.index(f) for f in range(len(order))))
        a = a.reshape((*lead, *(n for axis, n in enumerate(self.shape) if axis != self.samples)))
        return a if self.samples is None else np.moveaxis(a, 0, self.samples)

    @property
    def _full_order(self) -> list[int]:
        """The factors in our order, and at the end those of size 1 that ours have not."""
        order = [f for group in self.ours for f in group]
        return order + [f for f in range(len(self.sizes)) if f not in order]

    # -- constants

    def constant(self, a: Array) -> Array:
        """A constant that broadcasts against the value in ONNX, as one that does in ours.

        Raises ValueError if it has more axes than the value, or differs between samples.
        """
        if a.ndim > self.rank:
            if a.shape[: a.ndim - self.rank] != (1,) * (a.ndim - self.rank):
                raise ValueError(f"a constant of shape {a.shape} has more axes than {self.shape}")
            a = a.reshape(a.shape[a.ndim - self.rank :])
        a = a.reshape((1,) * (self.rank - a.ndim) + a.shape)
        if any(n not in (1, m) for n, m in zip(a.shape, self.shape, strict=True)):
            raise ValueError(f"a constant of shape {a.shape} does not broadcast against {self.shape}")
        if self.samples is not None:
            if a.shape[self.samples] != 1:
                raise ValueError(f"a constant of shape {a.shape} differs between samples")
            a = a.reshape(a.shape[: self.samples] + a.shape[self.samples + 1 :])
        groups = [group for axis, group in enumerate(self.groups) if axis != self.samples]
        factors = [self.sizes[f] if n != 1 else 1 for n, group in zip(a.shape, groups, strict=True) for f in group]
        a = a.reshape(factors)
        a = a.transpose(self._full_order)
        taken, shape, full = 0, [], list(a.shape)
        for group in self.ours:
            n = len(group)
            if any(k != 1 for k in a.shape[taken : taken + n]):
                full[taken : taken + n] = [self.sizes[f] for f in group]
                shape.append(self.size(group))
            else:
                shape.append(1)
            taken += n
        return np.ascontiguousarray(np.broadcast_to(a, full)).reshape(shape)

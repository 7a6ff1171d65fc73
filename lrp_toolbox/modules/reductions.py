"""Sums and means over axes of the features."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..backend import Array, like, namespace
from ..weights import ONE
from .base import Shape
from .pooling import Adding
from .rearranging import as_axes, features


class _Reducing(Adding):
    """Σ over axes of the features, times one weight. Relevance is shared in proportion, as in pooling."""

    over: int | Sequence[int]
    keepdims: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "over", as_axes("over", self.over))

    def factor(self, x: Array, shape: Shape) -> Any:
        """The weight of every input, for an x of `shape`."""
        return 1

    @property
    def axes(self) -> int:  # type: ignore[override]
        return -min(self._over)

    @property
    def _over(self) -> tuple[int, ...]:
        return self.over  # type: ignore[return-value]

    @property
    def output_axes(self) -> int:
        return self.axes if self.keepdims else max(1, self.axes - len(self._over))

    def apply(self, x: Array, w: Any) -> Array:
        self.output_shape(x.shape)
        y = namespace(x).sum(x, axis=tuple(x.ndim + a for a in self._over), keepdims=self.keepdims)
        return y if w is ONE else y * self.factor(x, x.shape)

    def apply_T(self, s: Array, w: Any, shape: Shape) -> Array:
        xp = namespace(s)
        if not self.keepdims:
            for axis in sorted(self._over, reverse=True):
                s = xp.expand_dims(s, axis=axis)
        s = s if w is ONE else s * self.factor(s, shape)
        return xp.broadcast_to(s, (*s.shape[: s.ndim - self.axes], *features(self, shape)))

    def output_shape(self, shape: Shape) -> Shape:
        features(self, shape)
        summed = {len(shape) + a for a in self._over}
        if self.keepdims:
            return tuple(1 if k in summed else n for k, n in enumerate(shape))
        return tuple(n for k, n in enumerate(shape) if k not in summed)


@dataclass(frozen=True, eq=False)
class ReduceSum(_Reducing):
    """Σ over axes of the features, counted from the end: `ReduceSum((-3, -2))` adds up the places of a map."""

    over: int | Sequence[int]
    keepdims: bool = False


@dataclass(frozen=True, eq=False)
class Mean(_Reducing):
    """The mean over axes of the features, counted from the end: `Mean((-3, -2))` is global average pooling."""

    over: int | Sequence[int]
    keepdims: bool = False

    def factor(self, x: Array, shape: Shape) -> Any:
        return 1 / like(math.prod(shape[a] for a in self._over), x)

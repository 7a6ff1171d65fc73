"""Layers that only rearrange values, or take some of them: relevance goes back to where its value came from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .. import backend
from ..backend import Array, namespace
from ..context import Context
from ..rules import Rule
from .base import Layer, PassingLayer, Shape, Trace


def features(layer: Layer, shape: Shape) -> Shape:
    """The trailing axes of `shape` that are features of the layer's input. Raises ValueError if there are too few."""
    if len(shape) < layer.axes:
        raise ValueError(f"x: {type(layer).__name__} expects at least {layer.axes} axes, got shape {tuple(shape)}")
    return tuple(shape[len(shape) - layer.axes :])


def require_broadcast(layer: Any, shape: Shape, names: Sequence[str] = ("w", "b")) -> None:
    """Raise ValueError unless a layer's constants (or None) broadcast against features of `shape`, and do not enlarge them."""
    for name in names:
        a = getattr(layer, name)
        pairs = zip(shape[::-1], () if a is None else a.shape[::-1], strict=False)
        if a is not None and (a.ndim > len(shape) or any(m not in (1, n) for n, m in pairs)):
            raise ValueError(f"x: {type(layer).__name__}'s {name}, {tuple(a.shape)}, does not broadcast to {tuple(shape)}")


class _Rearranging(PassingLayer):
    """Values in other places. Relevance and gradient take the way back."""

    def back(self, y: Array, shape: Shape) -> Array:
        """What `forward` did, undone: from places of y to places of x, whose features are the last of `shape`."""
        raise NotImplementedError

    def gradient(self, trace: Trace, g: Array) -> Array:
        return self.back(g, trace.x.shape)

    def _redistribute(self, trace: Trace, R: Array, rule: Rule, context: Context) -> Array:
        return self.back(R, trace.x.shape)

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return nonneg

    def _features(self, shape: Shape) -> Shape:
        return features(self, shape)

    def _lead(self, shape: Shape) -> Shape:
        return tuple(shape[: len(shape) - self.axes])


def as_axes(name: str, value: int | Sequence[int]) -> tuple[int, ...]:
    """`value` as axes counted from the end, such as −1. Raises ValueError for others, and for one that occurs twice."""
    axes = (value,) if isinstance(value, int) else tuple(value)
    if (
        not axes
        or len(set(axes)) < len(axes)
        or not all(isinstance(a, int) and not isinstance(a, bool) and a < 0 for a in axes)
    ):
        raise ValueError(f"{name}: expected axes counted from the end, −1 for the last, each once, got {value!r}")
    return axes


@dataclass(frozen=True, eq=False)
class ChannelShuffle(_Rearranging):
    """The channels of `groups` groups in turn: the first of each group, then the second of each (ShuffleNet)."""

    groups: int

    def __post_init__(self) -> None:
        if not isinstance(self.groups, int) or isinstance(self.groups, bool) or self.groups < 1:
            raise ValueError(f"groups: expected a number of groups ≥ 1, got {self.groups!r}")

    def forward(self, x: Array) -> Array:
        self.output_shape(x.shape)
        return self._turned(x, self.groups)

    def back(self, y: Array, shape: Shape) -> Array:
        return self._turned(y, y.shape[-1] // self.groups)

    @staticmethod
    def _turned(x: Array, rows: int) -> Array:
        xp = namespace(x)
        table = xp.reshape(x, (*x.shape[:-1], rows, x.shape[-1] // rows))
        return xp.reshape(xp.moveaxis(table, -1, -2), x.shape)

    def output_shape(self, shape: Shape) -> Shape:
        if shape[-1] % self.groups:
            raise ValueError(f"x: ChannelShuffle({self.groups}) expects groups of one size, got {shape[-1]} channels")
        return shape


@dataclass(frozen=True, eq=False)
class Slice(_Rearranging):
    """Every `step`-th value from `start` on, below `stop`, along one axis of the features: Python's slices, with their meaning.

    `axis` counts from the end, −1 for the channels. What is left out gets no relevance.
    """

    axis: int
    start: int | None = None
    stop: int | None = None
    step: int = 1

    def __post_init__(self) -> None:
        as_axes("axis", self.axis)
        if not isinstance(self.step, int) or self.step == 0:
            raise ValueError(f"step: expected an int other than 0, got {self.step!r}")

    @property
    def axes(self) -> int:  # type: ignore[override]
        return -self.axis

    @property
    def input_axes(self) -> int | None:
        return None  # x may have more axes

    def _index(self) -> tuple[object, ...]:
        return (..., slice(self.start, self.stop, self.step), *(slice(None),) * (-self.axis - 1))

    def forward(self, x: Array) -> Array:
        self.output_shape(x.shape)
        return x[self._index()]

    def back(self, y: Array, shape: Shape) -> Array:
        x = backend.zeros((*self._lead(y.shape), *self._features(shape)), y)
        x[self._index()] = y
        return x

    def output_shape(self, shape: Shape) -> Shape:
        n = len(range(*slice(self.start, self.stop, self.step).indices(self._features(shape)[0])))
        if n == 0:
            raise ValueError(f"x: {self} leaves nothing of axis {self.axis} of shape {tuple(shape)}")
        return (*self._lead(shape), n, *self._features(shape)[1:])


@dataclass(frozen=True, eq=False)
class Transpose(_Rearranging):
    """The last axes in another order: axis k of y's features is the axis `order[k]` of x, counted from the end.

    `Transpose((-2, -3, -1))` turns rows into columns.
    """

    order: Sequence[int]

    def __post_init__(self) -> None:
        order = as_axes("order", self.order)
        if sorted(order) != list(range(-len(order), 0)):
            raise ValueError(f"order: expected all of {tuple(range(-len(order), 0))}, in any order, got {self.order!r}")
        object.__setattr__(self, "order", order)

    @property
    def axes(self) -> int:  # type: ignore[override]
        return len(self.order)

    @property
    def input_axes(self) -> int | None:
        return None  # x may have more axes

    def forward(self, x: Array) -> Array:
        self._features(x.shape)
        return self._permuted(x, self.order)

    def back(self, y: Array, shape: Shape) -> Array:
        n, order = len(self.order), tuple(self.order)
        return self._permuted(y, [order.index(k - n) - n for k in range(n)])

    @staticmethod
    def _permuted(x: Array, order: Sequence[int]) -> Array:
        lead = range(x.ndim - len(order))
        return namespace(x).permute_dims(x, (*lead, *(x.ndim + k for k in order)))

    def output_shape(self, shape: Shape) -> Shape:
        features = self._features(shape)
        return (*self._lead(shape), *(features[k] for k in self.order))


@dataclass(frozen=True, eq=False)
class Reshape(_Rearranging):
    """The last `axes_in` axes as another `shape`, in which one number may be −1. `Flatten()` is `Reshape(-1, 3)`."""

    shape: int | Sequence[int]
    axes_in: int = 1

    def __post_init__(self) -> None:
        shape = (self.shape,) if isinstance(self.shape, int) else tuple(self.shape)
        if not shape or not all(isinstance(n, int) and (n > 0 or n == -1) for n in shape) or shape.count(-1) > 1:
            raise ValueError(f"shape: expected numbers ≥ 1, of which one may be −1, got {self.shape!r}")
        if not isinstance(self.axes_in, int) or self.axes_in < 1:
            raise ValueError(f"axes_in: expected a number of axes ≥ 1, got {self.axes_in!r}")
        object.__setattr__(self, "shape", shape)

    @property
    def axes(self) -> int:  # type: ignore[override]
        return self.axes_in

    @property
    def output_axes(self) -> int:
        return len(self.shape)  # type: ignore[arg-type]

    def forward(self, x: Array) -> Array:
        return namespace(x).reshape(x, self.output_shape(x.shape))

    def back(self, y: Array, shape: Shape) -> Array:
        return namespace(y).reshape(y, (*y.shape[: y.ndim - self.output_axes], *self._features(shape)))

    def output_shape(self, shape: Shape) -> Shape:
        wanted: tuple[int, ...] = self.shape  # type: ignore[assignment]
        features = math.prod(self._features(shape))
        known = math.prod(n for n in wanted if n != -1)
        if features % known or (-1 not in wanted and features != known):
            raise ValueError(f"x: {self} does not fit {features} features, of shape {tuple(shape)}")
        return (*self._lead(shape), *(features // known if n == -1 else n for n in wanted))

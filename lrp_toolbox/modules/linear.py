"""Layers with weights: Linear, Conv, Scale and BatchNorm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import mul
from typing import Any, ClassVar

import numpy as np

from .. import backend, kernels, propagation
from ..backend import Array, Number, namespace, smallest_divisor
from ..cached import cached
from ..context import Context
from ..kernels.windows import Padding, Windows, as_padding, as_pair, sum_of_groups, to_groups
from ..rules import Rule
from ..weights import ONE, Given, Weights, as_weights
from .base import LinearModule, Shape, Trace, proportional

PIECE = 1 << 22  # weights of which sums are taken at a time


def _require_bias(layer: LinearModule, outputs: int) -> None:
    if layer.b is not None:
        if tuple(layer.b.shape) != (outputs,):
            raise ValueError(f"b: expected {outputs} numbers, one for each output, got shape {tuple(layer.b.shape)}")
        backend.require_same("b", layer.b, "w", layer.w)


def _require_channels(layer: LinearModule, shape: Shape, channels: int) -> None:
    if len(shape) < layer.axes or shape[-1] != channels:
        axes = "(…, height, width, channel)" if layer.axes == 3 else "(…, feature)"
        raise ValueError(f"x: {type(layer).__name__} expects {channels} features in {axes}, got shape {tuple(shape)}")


def _largest(a: Array) -> Array:
    """What to divide by, so that squares neither overflow nor vanish."""
    xp = namespace(a)
    return xp.maximum(xp.max(a), -xp.min(a)) + smallest_divisor(a)


def _lengths(w: Array) -> Array:
    """√(Σ w_ij²) over all axes i but the last."""
    xp, largest = namespace(w), _largest(w)
    return largest * xp.sqrt(xp.sum((w / largest) ** 2, axis=tuple(range(w.ndim - 1))))


class Mixing(LinearModule):
    """A layer whose outputs each have many weights of their own."""

    groups = 1

    def magnitude(self, x: Array, w: Any) -> Array:
        """√(Σ x_i²) √(Σ w_ij²), over the inputs i of output j, which bounds Σ |x_i w_ij| without another product."""
        xp = namespace(x)
        largest = _largest(x)
        squares = self.apply(kernels.elementwise(lambda x: (x / largest) ** 2, x), ONE)
        lengths = largest * xp.sqrt(squares[..., :1] if self.groups == 1 else squares)  # in one group, all outputs see the same
        weights = as_weights(backend.ones(self.w.shape, self.w) if w is ONE else w)
        own = isinstance(weights, Given) and weights.array() is self.w
        return kernels.elementwise(mul, lengths, self._own_lengths if own else self._lengths_of(weights))

    @cached
    def _own_lengths(self) -> Array:
        return self._lengths_of(as_weights(self.w))

    def _lengths_of(self, w: Weights) -> Array:
        """√(Σ w_ij²) of each output j."""
        return _lengths(w.array())


@dataclass(frozen=True, eq=False)
class Linear(Mixing):
    """y_j = Σ_i x_i w_ij + b_j, a dense layer: (…, in) → (…, out)."""

    w: Array  # (in, out)
    b: Array | None = None  # (out)

    def __post_init__(self) -> None:
        if len(self.w.shape) != 2:
            raise ValueError(f"w: expected (in, out), got shape {tuple(self.w.shape)}")
        _require_bias(self, self.w.shape[1])

    @property
    def input_axes(self) -> int | None:
        return 1

    def _lengths_of(self, w: Weights) -> Array:
        """Some inputs after the other: a copy of the weights of a large layer would double the memory."""
        inputs, outputs = w.shape
        step = max(1, PIECE // outputs)
        pieces = [slice(first, min(first + step, inputs)) for first in range(0, inputs, step)]
        lengths = _lengths(w.rows((pieces[0], ...)))
        for piece in pieces[1:]:
            lengths = namespace(lengths).hypot(lengths, _lengths(w.rows((piece, ...))))
        return lengths

    def apply(self, x: Array, w: Any) -> Array:
        _require_channels(self, x.shape, self.w.shape[0])
        if w is ONE:
            xp = namespace(x)
            return xp.broadcast_to(xp.sum(x, axis=-1, keepdims=True), (*x.shape[:-1], self.w.shape[1]))
        return kernels.of(x, self.w).dense(x, as_weights(w))

    def apply_T(self, s: Array, w: Any, shape: Shape) -> Array:
        if w is ONE:
            xp = namespace(s)
            return xp.broadcast_to(xp.sum(s, axis=-1, keepdims=True), (*s.shape[:-1], self.w.shape[0]))
        return kernels.of(s, self.w).dense_T(s, as_weights(w))

    def output_shape(self, shape: Shape) -> Shape:
        _require_channels(self, shape, self.w.shape[0])
        return (*shape[:-1], self.w.shape[1])

    def trace(self, x: Array, nonneg: bool = False, context: Rule | Context | None = None) -> Trace:
        """Always by the layer's own weights: these are the logits, and a sum of z⁺ and z⁻ would round differently."""
        if context is None:
            return super().trace(x, nonneg)
        rule = self.effective_rule(Context.of(context).rule)
        y, z = propagation.by_own_weights(rule, self, x, nonneg)
        return Trace(x, y, nonneg=nonneg, rule=rule, z=z)


@dataclass(frozen=True, eq=False)
class Conv(Mixing):
    """A convolution, in the sense of networks: (…, height, width, in) → (…, rows, columns, out).

    `stride`, `dilation`: an int or (height, width). `padding`: an int, (height, width), or ((top, bottom), (left, right)).
    With `groups` the channels fall into that many groups of neighbours that do not mix; `groups = in` is depthwise.
    """

    w: Array  # (kernel height, kernel width, in / groups, out)
    b: Array | None = None  # (out)
    stride: int | Sequence[int] = 1
    padding: Padding = 0
    dilation: int | Sequence[int] = 1
    groups: int = 1

    axes: ClassVar[int] = 3

    def __post_init__(self) -> None:
        if len(self.w.shape) != 4:
            form = "(kernel height, kernel width, in / groups, out)"
            raise ValueError(f"w: expected {form}, got shape {tuple(self.w.shape)}")
        if self.groups < 1 or self.w.shape[3] % self.groups:
            raise ValueError(f"groups: {self.groups} groups do not divide {self.w.shape[3]} outputs")
        _require_bias(self, self.w.shape[3])
        object.__setattr__(self, "stride", as_pair("stride", self.stride, 1))
        object.__setattr__(self, "dilation", as_pair("dilation", self.dilation, 1))
        object.__setattr__(self, "padding", as_padding(self.padding))

    @property
    def windows(self) -> Windows:
        return Windows(tuple(self.w.shape[:2]), self.stride, self.padding, self.dilation)  # type: ignore[arg-type]

    @property
    def channels(self) -> tuple[int, int]:
        """How many channels go in, and how many come out."""
        return self.w.shape[2] * self.groups, self.w.shape[3]

    def join(self, arrays: Sequence[Array]) -> Array:
        if self.groups == 1:
            return super().join(arrays)
        xp = namespace(*arrays)  # outputs of a group stay with their group
        joined = super().join([xp.reshape(a, (*a.shape[:-1], self.groups, -1)) for a in arrays])
        return xp.reshape(joined, (*arrays[0].shape[:-1], -1))

    def join_times(self, R: Array, factors: Sequence[Number]) -> Array:
        if self.groups == 1:
            return super().join_times(R, factors)
        xp = namespace(R)
        joined = super().join_times(xp.reshape(R, (*R.shape[:-1], self.groups, -1)), factors)
        return xp.reshape(joined, (*R.shape[:-1], -1))

    def separate(self, z: Array, n: int) -> list[Array]:
        if self.groups == 1:
            return super().separate(z, n)
        xp = namespace(z)
        parts = super().separate(xp.reshape(z, (*z.shape[:-1], self.groups, -1)), n)
        return [xp.reshape(part, (*z.shape[:-1], -1)) for part in parts]

    def apply(self, x: Array, w: Any) -> Array:
        _require_channels(self, x.shape, self.channels[0])
        if w is ONE:
            return to_groups(self.windows.sum(sum_of_groups(x, self.groups)), self.groups, self.channels[1])
        return kernels.of(x, self.w).correlate(x, as_weights(w), self.windows, self.groups)

    def apply_T(self, s: Array, w: Any, shape: Shape) -> Array:
        size = shape[-3], shape[-2]
        if w is ONE:
            return to_groups(self.windows.sum_T(sum_of_groups(s, self.groups), size), self.groups, self.channels[0])
        return kernels.of(s, self.w).correlate_T(s, as_weights(w), self.windows, size, self.groups)

    def sees_only_padding(self, x: Array) -> Array | None:
        return self.windows.sees_only_padding(x)

    def output_shape(self, shape: Shape) -> Shape:
        _require_channels(self, shape, self.channels[0])
        return (*shape[:-3], *self.windows.counts((shape[-3], shape[-2])), self.channels[1])


class _Diagonal(LinearModule):
    """y_i = x_i w_i + b_i: each output has one input, which gets what the bias leaves."""

    def apply(self, x: Array, w: Any) -> Array:
        _require_channels(self, x.shape, self.w.shape[0])
        return x if w is ONE else x * as_weights(w).array()

    def apply_T(self, s: Array, w: Any, shape: Shape) -> Array:
        return s if w is ONE else s * as_weights(w).array()

    def effective_rule(self, rule: Rule) -> Rule:
        return proportional(rule)

    def output_shape(self, shape: Shape) -> Shape:
        _require_channels(self, shape, self.w.shape[0])
        return shape


@dataclass(frozen=True, eq=False)
class Scale(_Diagonal):
    """y = x w + b, channel by channel."""

    w: Array  # (channel)
    b: Array | None = None  # (channel)

    def __post_init__(self) -> None:
        if len(self.w.shape) != 1:
            raise ValueError(f"w: expected one number for each channel, got shape {tuple(self.w.shape)}")
        _require_bias(self, self.w.shape[0])


@dataclass(frozen=True, eq=False)
class BatchNorm(_Diagonal):
    """y = (x − mean) / √(variance + eps) · gamma + beta, with the statistics of training: a Scale.

    `lrp_toolbox.fuse(net)` merges it into the layer with weights before or after it, as `explain` does. On its own it
    follows the z-rule, in which its bias absorbs relevance.

    Raises ValueError if variance + eps ≤ 0, or if the dtype cannot hold the factors and offsets of this Scale.
    """

    mean: Array  # (channel)
    variance: Array  # (channel)
    gamma: Array | None = None  # (channel); None is 1
    beta: Array | None = None  # (channel); None is 0
    eps: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("mean", "variance", "gamma", "beta"):
            a = getattr(self, name)
            if a is not None:
                if tuple(a.shape) != (self.mean.shape[0],) or len(self.mean.shape) != 1:
                    raise ValueError(f"{name}: expected one number for each channel, got shape {tuple(a.shape)}")
                backend.require_same(name, a, "mean", self.mean)
        if not bool(namespace(self.variance).all(self.variance + self.eps > 0)):
            raise ValueError("variance: expected variance + eps > 0 for every channel")
        with np.errstate(all="ignore"):  # what does not fit is refused here
            for name, formula in (("w", "gamma / √(variance + eps)"), ("b", "beta − mean · w")):
                if not backend.is_finite(getattr(self, name)):
                    raise ValueError(f"{name}: expected {formula} that {self.mean.dtype} can hold, found more, or NaN")

    @property
    def w(self) -> Array:
        w = (self.variance + self.eps) ** -0.5
        return w if self.gamma is None else w * self.gamma

    @property
    def b(self) -> Array:  # type: ignore[override]
        b = -self.mean * self.w
        return b if self.beta is None else b + self.beta

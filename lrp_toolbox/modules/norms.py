"""Normalisation by the statistics of x itself: LayerNorm, GroupNorm and InstanceNorm.

    y_i = (x_i − m) / √(v + eps) · w_i + b_i        m, v: mean and variance of x over the group of i

They differ in what a group is. Relevance, by the field `relevance`:

    "identity"   R_i = R_i: it passes as it is, as through an activation. The default.
    "detached"   √(v + eps) is taken as a constant (LN-rule of Ali et al. 2022). What is left is linear in x, with
                 w_ij = (δ_ij − 1/N) w_j / √(v + eps) for i and j of one group of N, and follows the rule z or ε:
                 R_i = x_i Σ_j w_ij / y_j · R_j. The bias takes its part, as in any layer.

The whole gradient would add the terms of ∂v/∂x. These cancel what the output carries: the normalised x has one length
whatever x, so that x · ∂y/∂x is about 0 and gradient × input loses nearly all relevance (Ali et al. 2022, Sec. 3).

Reference: Ali et al. 2022, XAI for transformers: better explanations through conservative propagation, ICML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .. import backend, propagation
from ..backend import Array, namespace
from ..context import Context
from ..rules import Epsilon, Rule, Z
from ..weights import ONE
from .base import Layer, LinearModule, Pass, Shape, Trace
from .rearranging import as_axes, require_broadcast

Passing = Literal["identity", "detached"]


class _Norm(Layer):
    """What they share. Final classes say what a group is: by the mean over it."""

    w: Array | None  # broadcasts against the features; None is 1
    b: Array | None  # likewise; None is 0
    eps: float
    relevance: Passing

    def _check(self) -> None:
        if self.relevance not in ("identity", "detached"):
            raise ValueError(f"relevance: expected 'identity' or 'detached', got {self.relevance!r}")
        if not isinstance(self.eps, (int, float)) or isinstance(self.eps, bool) or self.eps < 0:
            raise ValueError(f"eps: expected a number ≥ 0, got {self.eps!r}")
        if self.w is not None and self.b is not None:
            backend.require_same("b", self.b, "w", self.w)

    def mean(self, x: Array) -> Array:
        """The mean over the group of each x, in a shape that broadcasts against x."""
        raise NotImplementedError

    def total(self, x: Array) -> Array:
        """Σ over the group of each x, likewise."""
        raise NotImplementedError

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) < self.axes:
            raise ValueError(f"x: {type(self).__name__} expects at least {self.axes} axes, got shape {tuple(shape)}")
        require_broadcast(self, shape)
        return shape

    def forward(self, x: Array) -> Array:
        self.output_shape(x.shape)
        for name in ("w", "b"):
            a = getattr(self, name)
            if a is not None:
                backend.require_same("x", x, f"{type(self).__name__}.{name}", a)
        centred = x - self.mean(x)
        y = centred * self._factor(centred)
        return y if self.b is None else y + self.b

    def _factor(self, centred: Array) -> Array:
        """w_i / √(v + eps)."""
        factor = (self.mean(centred * centred) + self.eps) ** -0.5
        return factor if self.w is None else factor * self.w

    def gradient(self, trace: Trace, g: Array) -> Array:
        centred = trace.x - self.mean(trace.x)
        scale = (self.mean(centred * centred) + self.eps) ** -0.5
        g, normal = g if self.w is None else g * self.w, centred * scale
        return scale * (g - self.mean(g) - normal * self.mean(g * normal))

    def effective_rule(self, rule: Rule) -> Rule:
        if self.relevance == "identity":
            return Pass()
        return rule if isinstance(rule, (Z, Epsilon)) else Z(bias=rule.bias)

    def _redistribute(self, trace: Trace, R: Array, rule: Rule, context: Context) -> Array:
        if isinstance(rule, Pass):
            return R
        centred = trace.x - self.mean(trace.x)
        return propagation.relprop(rule, _Detached(self, self._factor(centred), trace.x), trace.x, R, context)


class _Detached(LinearModule):
    """A norm whose factor w_i / √(v + eps) is a constant."""

    w: Any = None

    def __init__(self, norm: _Norm, factor: Array, x: Array):
        self.norm, self.factor = norm, factor
        shape = x.shape[x.ndim - norm.axes :]
        self.b = None if norm.b is None else namespace(x).broadcast_to(norm.b, shape)

    def apply(self, x: Array, w: Any) -> Array:
        if w is ONE:
            return self.norm.total(x) + 0 * x
        return (x - self.norm.mean(x)) * self.factor

    def magnitude(self, x: Array, w: Any) -> Array:
        size = abs(x)
        return (size + self.norm.mean(size)) * abs(self.factor)

    def apply_T(self, s: Array, w: Any, shape: Shape) -> Array:
        if w is ONE:
            return self.norm.total(s) + 0 * s
        s = s * self.factor
        return s - self.norm.mean(s)


class _OverSomeAxes(_Norm):
    """A norm whose groups are whole axes."""

    def _over(self) -> tuple[int, ...]:
        raise NotImplementedError

    def mean(self, x: Array) -> Array:
        return namespace(x).mean(x, axis=self._over(), keepdims=True)

    def total(self, x: Array) -> Array:
        return namespace(x).sum(x, axis=self._over(), keepdims=True)


@dataclass(frozen=True, eq=False)
class LayerNorm(_OverSomeAxes):
    """Groups: the features of a sample along the axes `over`, counted from the end; −1 is the channels of each place or token.

    `w` and `b` broadcast against the features. `relevance`: see the top of this page.
    """

    over: int | Sequence[int] = -1
    w: Array | None = None
    b: Array | None = None
    eps: float = 1e-5
    relevance: Passing = "identity"

    def __post_init__(self) -> None:
        object.__setattr__(self, "over", as_axes("over", self.over))
        self._check()

    @property
    def axes(self) -> int:  # type: ignore[override]
        return max(-min(self._over()), *(0 if a is None else a.ndim for a in (self.w, self.b)))

    def _over(self) -> tuple[int, ...]:
        return self.over  # type: ignore[return-value]


class _OnMaps(_Norm):
    """A norm on (…, places, channel), with `axes_in` axes of features; w and b have one number for each channel."""

    axes_in: int

    def __post_init__(self) -> None:
        self._check()
        if not isinstance(self.axes_in, int) or isinstance(self.axes_in, bool) or self.axes_in < 1:
            raise ValueError(f"axes_in: expected a number of axes ≥ 1, got {self.axes_in!r}")
        for name in ("w", "b"):
            a = getattr(self, name)
            if a is not None and a.ndim != 1:
                raise ValueError(f"{name}: expected one number for each channel, got shape {tuple(a.shape)}")

    @property
    def axes(self) -> int:  # type: ignore[override]
        return self.axes_in


@dataclass(frozen=True, eq=False)
class GroupNorm(_OnMaps):
    """Groups: the channels in `groups` groups of neighbours, each over all places. One group is LayerNorm over the whole map.

    `axes_in`: how many axes the features have, 3 for a map. `relevance`: see the top of this page.
    """

    groups: int
    w: Array | None = None  # (channel)
    b: Array | None = None  # (channel)
    eps: float = 1e-5
    relevance: Passing = "identity"
    axes_in: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.groups, int) or isinstance(self.groups, bool) or self.groups < 1:
            raise ValueError(f"groups: expected a number of groups ≥ 1, got {self.groups!r}")

    def output_shape(self, shape: Shape) -> Shape:
        if shape[-1] % self.groups:
            raise ValueError(f"groups: {self.groups} groups do not divide {shape[-1]} channels")
        return super().output_shape(shape)

    def mean(self, x: Array) -> Array:
        return self._of_groups(x, namespace(x).mean)

    def total(self, x: Array) -> Array:
        return self._of_groups(x, namespace(x).sum)

    def _of_groups(self, x: Array, f: Any) -> Array:
        xp, per = namespace(x), x.shape[-1] // self.groups
        apart = xp.reshape(x, (*x.shape[:-1], self.groups, per))
        places = tuple(range(-1 - self.axes_in, -2))
        found = f(apart, axis=(*places, -1), keepdims=True)
        return xp.reshape(xp.broadcast_to(found, (*found.shape[:-1], per)), (*found.shape[:-2], x.shape[-1]))


@dataclass(frozen=True, eq=False)
class InstanceNorm(_OnMaps, _OverSomeAxes):
    """Groups: each channel by itself, over all places.

    `axes_in`: how many axes the features have, 3 for a map. `relevance`: see the top of this page.
    """

    w: Array | None = None  # (channel)
    b: Array | None = None  # (channel)
    eps: float = 1e-5
    relevance: Passing = "identity"
    axes_in: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.axes_in < 2:
            raise ValueError(f"axes_in: expected at least 2, places and channels, got {self.axes_in}")

    def _over(self) -> tuple[int, ...]:
        return tuple(range(-self.axes_in, -1))

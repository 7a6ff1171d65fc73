"""Layers that work on each x by itself, rearrange, or normalise: relevance passes through them unchanged (decision 11)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from operator import mul
from typing import ClassVar, Literal, NoReturn

from .. import backend, kernels, special
from ..backend import Array, Number, namespace
from ..context import Context
from ..kernels import divide
from ..kernels.windows import Windows
from ..rules import Rule
from .base import Layer, Pass, PassingLayer, Shape, Trace
from .rearranging import require_broadcast


@dataclass(frozen=True, eq=False)
class ReLU(PassingLayer):
    """max(x, 0)."""

    def forward(self, x: Array) -> Array:
        return kernels.positive_part(x)

    def trace(self, x: Array, nonneg: bool = False, context: Rule | Context | None = None) -> Trace:
        y = self.forward(x)
        return Trace(y, y, nonneg=nonneg)  # x is not kept: the way back needs only where it is > 0, as y is

    def gradient(self, trace: Trace, g: Array) -> Array:
        return namespace(g).where(trace.y > 0, g, backend.zeros((), g))

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return True


@dataclass(frozen=True, eq=False)
class LeakyReLU(PassingLayer):
    """x where x > 0, else slope · x. (Caffe: negative_slope; Keras: alpha.)"""

    slope: float = 0.01

    def forward(self, x: Array) -> Array:
        return namespace(x).where(x > 0, x, x * backend.like(self.slope, x))

    def gradient(self, trace: Trace, g: Array) -> Array:
        return namespace(g).where(trace.x > 0, g, g * backend.like(self.slope, g))

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return nonneg


@dataclass(frozen=True, eq=False)
class ClippedReLU(PassingLayer):
    """min(max(x, 0), maximum): ReLU6 for example."""

    maximum: float = 6.0

    def __post_init__(self) -> None:
        if not self.maximum > 0:
            raise ValueError(f"maximum: expected a number > 0, got {self.maximum!r}")

    def forward(self, x: Array) -> Array:
        maximum = backend.like(self.maximum, x)
        return kernels.positive_part(namespace(x).where(x < maximum, x, maximum))

    def gradient(self, trace: Trace, g: Array) -> Array:
        inside = (trace.x > 0) & (trace.x < backend.like(self.maximum, trace.x))
        return namespace(g).where(inside, g, backend.zeros((), g))

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return True


@dataclass(frozen=True, eq=False)
class PReLU(PassingLayer):
    """x where x > 0, else slope · x, with learned slopes that broadcast against x: one a channel, or one a feature."""

    slope: Array

    def forward(self, x: Array) -> Array:
        backend.require_same("x", x, "PReLU.slope", self.slope)
        self.output_shape(x.shape)
        return namespace(x).where(x > 0, x, x * self.slope)

    def gradient(self, trace: Trace, g: Array) -> Array:
        return namespace(g).where(trace.x > 0, g, g * self.slope)

    def output_shape(self, shape: Shape) -> Shape:
        require_broadcast(self, shape, ["slope"])
        return shape

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return nonneg


@dataclass(frozen=True, eq=False)
class Tanh(PassingLayer):
    def forward(self, x: Array) -> Array:
        return namespace(x).tanh(x)

    def gradient(self, trace: Trace, g: Array) -> Array:
        return g * (1 - trace.y * trace.y)

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return nonneg


@dataclass(frozen=True, eq=False)
class Sigmoid(PassingLayer):
    """1 / (1 + exp(−x))."""

    def forward(self, x: Array) -> Array:
        return kernels.elementwise(special.sigmoid, x)

    def gradient(self, trace: Trace, g: Array) -> Array:
        return g * trace.y * (1 - trace.y)

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return True


@dataclass(frozen=True, eq=False)
class Clip(PassingLayer):
    """min(max(x, minimum), maximum); None stands for no bound."""

    minimum: float | None = None
    maximum: float | None = None

    def __post_init__(self) -> None:
        for name, none in (("minimum", -math.inf), ("maximum", math.inf)):
            if getattr(self, name) == none:
                object.__setattr__(self, name, None)
        if self.minimum is not None and self.maximum is not None and not self.minimum <= self.maximum:
            raise ValueError(f"maximum: expected at least the minimum, {self.minimum!r}, got {self.maximum!r}")

    def forward(self, x: Array) -> Array:
        xp = namespace(x)
        for f, bound in ((xp.maximum, self.minimum), (xp.minimum, self.maximum)):
            x = x if bound is None else f(x, backend.like(bound, x) + backend.zeros((), x))
        return x

    def gradient(self, trace: Trace, g: Array) -> Array:
        inside = trace.x == trace.x
        if self.minimum is not None:
            inside = inside & (trace.x > backend.like(self.minimum, trace.x))
        if self.maximum is not None:
            inside = inside & (trace.x < backend.like(self.maximum, trace.x))
        return namespace(g).where(inside, g, backend.zeros((), g))

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        at_least_0 = self.minimum is not None and self.minimum >= 0
        return at_least_0 or (nonneg and (self.maximum is None or self.maximum >= 0))


@dataclass(frozen=True, eq=False)
class HardSigmoid(PassingLayer):
    """min(max(alpha x + beta, 0), 1). The defaults are those of PyTorch and Keras 3; ONNX has alpha = 0.2 by default."""

    alpha: float = 1 / 6
    beta: float = 0.5

    def forward(self, x: Array) -> Array:
        return _between_0_and_1(x * backend.like(self.alpha, x) + backend.like(self.beta, x))

    def gradient(self, trace: Trace, g: Array) -> Array:
        inside = (trace.y > 0) & (trace.y < 1)
        return namespace(g).where(inside, g * backend.like(self.alpha, g), backend.zeros((), g))

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return True


def _between_0_and_1(x: Array) -> Array:
    xp = namespace(x)
    return xp.minimum(xp.maximum(x, backend.zeros((), x)), backend.ones((), x))


@dataclass(frozen=True, eq=False)
class ELU(PassingLayer):
    """x where x > 0, else alpha (exp(x) − 1)."""

    alpha: float = 1.0

    def forward(self, x: Array) -> Array:
        xp = namespace(x)
        return xp.where(x > 0, x, self.alpha * xp.expm1(xp.minimum(x, backend.zeros((), x))))

    def gradient(self, trace: Trace, g: Array) -> Array:
        return namespace(g).where(trace.x > 0, g, g * (trace.y + self.alpha))

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return nonneg


@dataclass(frozen=True, eq=False)
class Softplus(PassingLayer):
    """log(1 + exp(x)): a ReLU without the corner."""

    def forward(self, x: Array) -> Array:
        return kernels.elementwise(special.softplus, x)

    def gradient(self, trace: Trace, g: Array) -> Array:
        return g * special.sigmoid(trace.x)

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return True


class _Gated(PassingLayer):
    """y = x f(x), a value times a gate between 0 and 1 (about) that it sets itself. Relevance passes as it is.

    The product is not split between value and gate: a gate of x's own is part of the activation, as the step of a ReLU is.
    """

    def gate(self, x: Array) -> Array:
        raise NotImplementedError

    def slope(self, x: Array) -> Array:
        """∂y/∂x."""
        raise NotImplementedError

    def forward(self, x: Array) -> Array:
        return kernels.elementwise(lambda x: x * self.gate(x), x)

    def gradient(self, trace: Trace, g: Array) -> Array:
        return g * kernels.elementwise(self.slope, trace.x)

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return nonneg


@dataclass(frozen=True, eq=False)
class HardSwish(_Gated):
    """x · min(max(x / 6 + ½, 0), 1)."""

    def gate(self, x: Array) -> Array:
        return _between_0_and_1(x / backend.like(6, x) + backend.like(0.5, x))

    def slope(self, x: Array) -> Array:
        xp, one, nothing = namespace(x), backend.ones((), x), backend.zeros((), x)
        return xp.where(x >= 3, one, xp.where(x <= -3, nothing, x / backend.like(3, x) + backend.like(0.5, x)))


@dataclass(frozen=True, eq=False)
class SiLU(_Gated):
    """x / (1 + exp(−x)), also called Swish."""

    def gate(self, x: Array) -> Array:
        return special.sigmoid(x)

    def slope(self, x: Array) -> Array:
        gate = special.sigmoid(x)
        return gate * (1 + x * (1 - gate))


@dataclass(frozen=True, eq=False)
class GELU(_Gated):
    """x Φ(x) with Φ the normal distribution function; `approximate="tanh"`: Φ(x) ≈ ½ (1 + tanh(√(2/π) (x + 0.044715 x³)))."""

    approximate: Literal["none", "tanh"] = "none"

    def __post_init__(self) -> None:
        if self.approximate not in ("none", "tanh"):
            raise ValueError(f"approximate: expected 'none' or 'tanh', got {self.approximate!r}")

    def gate(self, x: Array) -> Array:
        return special.normal_cdf(x) if self.approximate == "none" else special.sigmoid(2 * self._inner(x))

    @staticmethod
    def _inner(x: Array) -> Array:
        return math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)

    def slope(self, x: Array) -> Array:
        gate = self.gate(x)
        if self.approximate == "none":
            return gate + x * namespace(x).exp(-x * x / 2) / math.sqrt(2 * math.pi)
        return gate + 2 * x * gate * (1 - gate) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x * x)


@dataclass(frozen=True, eq=False)
class Mish(_Gated):
    """x tanh(log(1 + exp(x)))."""

    def gate(self, x: Array) -> Array:
        return namespace(x).tanh(special.softplus(x))

    def slope(self, x: Array) -> Array:
        gate = self.gate(x)
        return gate + x * (1 - gate * gate) * special.sigmoid(x)


class _Identity(PassingLayer):
    def forward(self, x: Array) -> Array:
        return x

    def gradient(self, trace: Trace, g: Array) -> Array:
        return g

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return nonneg


@dataclass(frozen=True, eq=False)
class Identity(_Identity):
    """y = x; a skip connection is a branch that is the Identity."""


@dataclass(frozen=True, eq=False)
class Dropout(_Identity):
    """y = x: what dropout does once training is over."""

    rate: float = 0.5


@dataclass(frozen=True, eq=False)
class Flatten(PassingLayer):
    """(…, height, width, channel) → (…, height · width · channel): the last `axes_in` axes become one."""

    axes_in: int = 3

    @property
    def axes(self) -> int:  # type: ignore[override]
        return self.axes_in

    @property
    def output_axes(self) -> int:
        return 1

    def forward(self, x: Array) -> Array:
        return namespace(x).reshape(x, (*self._lead(x.shape), -1))

    def gradient(self, trace: Trace, g: Array) -> Array:
        return namespace(g).reshape(g, g.shape[:-1] + trace.x.shape[len(self._lead(trace.x.shape)) :])

    def _redistribute(self, trace: Trace, R: Array, rule: Rule, context: Context) -> Array:
        return self.gradient(trace, R)

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return nonneg

    def output_shape(self, shape: Shape) -> Shape:
        features = 1
        for n in shape[len(self._lead(shape)) :]:
            features *= n
        return (*self._lead(shape), features)

    def _lead(self, shape: Shape) -> Shape:
        if len(shape) < self.axes_in:
            raise ValueError(f"x: Flatten expects at least {self.axes_in} axes, got shape {tuple(shape)}")
        return tuple(shape[: len(shape) - self.axes_in])


@dataclass(frozen=True, eq=False)
class SoftMax(Layer):
    """exp(x_i) / Σ exp(x): forward only. Explain the logits instead."""

    def forward(self, x: Array) -> Array:
        xp = namespace(x)
        e = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
        return e / xp.sum(e, axis=-1, keepdims=True)

    def gradient(self, trace: Trace, g: Array) -> NoReturn:
        self._refuse()

    def effective_rule(self, rule: Rule) -> NoReturn:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TypeError(
            "SoftMax mixes all classes, and no relevance passes through it: explain the logits, that is the net without it "
            "(net[:-1])"
        )

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return True

    def output_shape(self, shape: Shape) -> Shape:
        return shape


@dataclass(frozen=True, repr=False)
class Taylor(Rule):
    """Local response normalisation y_j = x_j s_j^−β, s_j = k + a Σ_i x_i², in first order (terms of Binder et al. 2016):

        z_jj = x_j (k + a x_j²)^−β,    z_ij = −2 a β x_j x_i² s_j^(−β−1)  for the other i of j's window

    These go into Eq. 1, which divides by their sum. Without this rule relevance passes LRN unchanged.
    """

    symbol: ClassVar[str] = "Taylor"
    formula: ClassVar[str] = "first-order terms of the normalisation, divided by their sum"
    eps: Number = 0


@dataclass(frozen=True, eq=False)
class LRN(Layer):
    """y_j = x_j / s_j^β with s_j = k + α / n · Σ x_i², over the n neighbours of j (local response normalisation).

    The neighbours are the `size` channels around j at its place, n = size; or, within j's channel, the places of a square
    around it, n = size². Those beyond the edge count in n, as zeros (Caffe).

    Relevance passes unchanged, or, under the rule `Taylor`, by the first-order terms of the normalisation.
    """

    size: int = 5  # odd
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0
    region: Literal["across", "within"] = "across"

    axes: ClassVar[int] = 3

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or self.size < 1 or self.size % 2 == 0:
            raise ValueError(f"size: expected an odd number of channels or places, got {self.size!r}")
        if self.region not in ("across", "within"):
            raise ValueError(f"region: expected 'across' channels or 'within' each, got {self.region!r}")

    def effective_rule(self, rule: Rule) -> Rule:
        return rule if isinstance(rule, Taylor) else Pass()

    def output_is_nonnegative(self, nonneg: bool) -> bool:
        return nonneg

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def forward(self, x: Array) -> Array:
        return x * self._s(x) ** -self.beta

    def _s(self, x: Array) -> Array:
        return self.k + self._a * self._around(x * x)

    @property
    def _a(self) -> float:
        return self.alpha / (self.size if self.region == "across" else self.size**2)

    def _around(self, x: Array) -> Array:
        """Σ over the neighbours; the window is symmetric, so this is its own transpose."""
        rows, columns, half = (min(self.size // 2, n - 1) for n in x.shape[-3:])  # there is nothing farther away
        if self.region == "within":
            return Windows((2 * rows + 1, 2 * columns + 1), padding=((rows, rows), (columns, columns))).sum(x)
        channels = x.shape[-1]
        padded = backend.zeros((*x.shape[:-1], channels + 2 * half), x)
        padded[..., half : half + channels] = x
        y = padded[..., 0:channels]
        for i in range(1, 2 * half + 1):
            y = y + padded[..., i : i + channels]
        return y

    def gradient(self, trace: Trace, g: Array) -> Array:
        x, s, a = trace.x, self._s(trace.x), self._a
        return g * s**-self.beta - 2 * a * self.beta * x * self._around(g * x * s ** (-self.beta - 1))

    def _redistribute(self, trace: Trace, R: Array, rule: Rule, context: Context) -> Array:
        if not isinstance(rule, Taylor):
            return R
        x, a = trace.x, self._a
        own = x * (self.k + a * x * x) ** -self.beta  # z_jj
        other = -2 * a * self.beta * x * self._s(x) ** (-self.beta - 1)  # z_ij = x_i² · other_j
        z = own + other * (self._around(x * x) - x * x)
        s = divide(R, z, rule.eps, self.axes)
        if rule.eps:
            context.record_loss("eps", mul, s, kernels.added(z, rule.eps, self.axes))
        context.record_loss("zero_denominator", lambda R, s: kernels.zero_unless(R, s == 0), R, s)
        s_other = other * s
        return own * s + x * x * (self._around(s_other) - s_other)

"""The fast evaluation of a rule: the numbers of `rules.relprop`, with fewer passes over the data, and the ledger.

- The parts of a rule (αβ has two) are joined as if the layer had so many times its outputs, [w⁺, w⁻]. So there is one product
  forward and one back, whatever the rule.
- Denominators that the forward pass has computed are used again: y_j = z_j under z and ε; z⁺_j and z⁻_j, whose sum is y_j,
  under αβ.
- Elementwise formulas are evaluated in pieces that fit the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import add, mul
from typing import Any, Protocol

from . import backend, kernels
from .backend import Array, Number
from .context import Context
from .kernels import Stabilizer, divide, elementwise
from .rules import AlphaBeta, Rule, split
from .terms import ZERO, Bias, Input, Part, Weight, is_rounding, require_fits, without_rounding
from .weights import ONE, Joined

Term = tuple[Array, Any]  # an input, and weights


class Layer(Protocol):
    """What is needed of a layer that mixes its inputs."""

    @property
    def w(self) -> Any: ...
    @property
    def b(self) -> Array | None: ...
    @property
    def output_axes(self) -> int: ...
    def forward(self, x: Array) -> Array: ...
    def apply(self, x: Array, w: Any) -> Array: ...
    def apply_T(self, s: Array, w: Any, shape: tuple[int, ...]) -> Array: ...
    def join(self, arrays: Sequence[Array]) -> Array: ...
    def join_times(self, R: Array, factors: Sequence[Number]) -> Array: ...
    def separate(self, z: Array, n: int) -> list[Array]: ...
    def sees_only_padding(self, x: Array) -> Array | None: ...
    def magnitude(self, x: Array, w: Any) -> Array: ...


def forward(rule: Rule, layer: Layer, x: Array, nonneg: bool) -> tuple[Array, Array | None]:
    """y of `layer` and, if they come with it at no cost, the denominators that `relprop` will need.

    Under αβ one product gives z⁺_j and z⁻_j, and y_j is their sum.
    """
    parts = _parts(rule, *_operands(rule, layer, x, nonneg)) if isinstance(rule, AlphaBeta) else []
    if len(parts) < 2:
        return by_own_weights(rule, layer, x, nonneg)
    z = _denominators(layer, *_joined(layer, parts))
    bias = [layer.b] if rule.bias == "ignore" and layer.b is not None else []
    return elementwise(_sum_of_signs, *layer.separate(z, 2), *bias), z


def by_own_weights(rule: Rule, layer: Layer, x: Array, nonneg: bool) -> tuple[Array, Array | None]:
    """The same with Σ_i x_i w_ij + b_j as one sum, whatever the rule.

    A y_j that is only rounding is 0 (see `terms.without_rounding`), so that no other layer takes it for a number.
    """
    require_fits(rule, x)
    X, w, b = _operands(rule, layer, x, nonneg)
    own = Part(X * w, ZERO if layer.b is None else Bias(layer.b))
    y = without_rounding(layer, own, layer.forward(x), rule.eps)
    is_z = rule.uses_output and rule.bias != "ignore" and _is_plain(_parts(rule, X, w, b), X, w)
    return y, y if is_z else None


def _is_plain(parts: Sequence[Part], x: Input, w: Weight) -> bool:
    """Whether z_ij = x_i w_ij is all that there is."""
    return len(parts) == 1 and parts[0].z.terms == ((x, w),)


def _sum_of_signs(positive: Array, negative: Array, *bias: Array) -> Array:
    """y_j = z⁺_j + z⁻_j (+ b_j), without rounding: the size of the summands is known here."""
    y, size = positive + negative, positive - negative
    for b in bias:
        y, size = y + b, size + abs(b)
    return y if backend.is_exact(y) else kernels.zero_unless(y, ~is_rounding(y, size))


def relprop(
    rule: Rule,
    layer: Layer,
    x: Array,
    R: Array,
    context: Context,
    *,
    nonneg: bool = False,
    y: Array | None = None,
    z: Array | None = None,
) -> Array:
    """The relevance of the inputs x of `layer`, whose outputs have relevance R.

    What is known already can be given: whether x ≥ 0, the outputs y, the denominators z of `forward`.
    """
    X, w, b = _operands(rule, layer, x, nonneg)
    parts = _parts(rule, X, w, b)
    _require_joinable(rule, parts)
    terms, joined_b = _joined(layer, parts)
    if z is None:
        z = y if _is_plain(parts, X, w) and y is not None and joined_b is layer.b else _denominators(layer, terms, joined_b)
        if len(parts) == 1:
            z = without_rounding(layer, parts[0], z, rule.eps)
        elif not all(part.one_signed or part.where is not None for part in parts):
            z = layer.join(
                [without_rounding(layer, *pair, rule.eps) for pair in zip(parts, layer.separate(z, len(parts)), strict=True)]
            )
    if rule.renormalize or any(part.where is not None for part in parts):
        if any(part.where is not None for part in parts):
            y = y if y is not None and b.array is layer.b else _denominators(layer, [(x, layer.w)], b.array)
            y = without_rounding(layer, Part(X * w, b), y)
        pieces = split(rule, parts, R, layer.separate(z, len(parts)), y)
        _record_outputs_of_no_part(layer, x, context, parts, R, y)
        R = layer.join(pieces)
    elif [part.share for part in parts] != [1]:
        R = layer.join_times(R, [part.share for part in parts])
    return _redistribute(rule, layer, terms, joined_b, R, z, context)


def _operands(rule: Rule, layer: Layer, x: Array, nonneg: bool) -> tuple[Input, Weight, Any]:
    return Input(x, int(nonneg)), Weight(layer.w), ZERO if layer.b is None or rule.bias == "ignore" else Bias(layer.b)


def _parts(rule: Rule, x: Input, w: Weight, b: Any) -> list[Part]:
    """The parts that get relevance at all. One without contributions, such as x.neg * w where x ≥ 0, has some that are 0."""
    found = [part for part in rule.parts(x, w, b) if part.share != 0 or rule.renormalize]
    return [part if part.z.terms else replace(part, z=x * (0 * w)) for part in found]


def _require_joinable(rule: Rule, parts: Sequence[Part]) -> None:
    """Raise TypeError for a rule of one's own whose parts cannot be computed side by side."""
    if not parts:
        raise TypeError(f"{rule}: expected a part with a share of the relevance other than 0")
    if len({tuple(id(x) for x, _ in part.z) for part in parts}) > 1:
        raise TypeError(f"{rule}: expected parts that use the same inputs in the same order, x.pos and x.neg for example")
    if len(parts) > 1 and any(w.weights is ONE for part in parts for _, w in part.z):
        raise TypeError(f"{rule}: expected w.one in a rule of one part only")


def _joined(layer: Layer, parts: Sequence[Part]) -> tuple[list[Term], Array | None]:
    """The parts of a rule as one: for each input the weights of all parts side by side, and the biases."""
    if len(parts) == 1:
        return [(x.array, w.weights) for x, w in parts[0].z], parts[0].b.array
    terms = [
        (column[0][0].array, Joined(layer.join, [w.weights for _, w in column]))
        for column in zip(*(part.z for part in parts), strict=True)
    ]
    if layer.b is None or all(part.b is ZERO for part in parts):
        return terms, None
    nothing = backend.zeros(layer.b.shape, layer.b)
    return terms, layer.join([nothing if part.b is ZERO else part.b.array for part in parts])


def _denominators(layer: Layer, terms: Sequence[Term], b: Array | None) -> Array:
    """z_j = Σ_t apply(x_t, w_t)_j + b_j."""
    z = layer.apply(*terms[0])
    for x, w in terms[1:]:
        z = z + layer.apply(x, w)
    return z if b is None else elementwise(add, z, b)


def _redistribute(
    rule: Rule, layer: Layer, terms: Sequence[Term], b: Array | None, R: Array, z: Array, context: Context
) -> Array:
    """Equation 1: s_j = R_j / (z_j + ε sign(z_j)), R_i = Σ_t x_t,i · apply_T(s, w_t)_i."""
    s = divide(R, z, rule.eps, layer.output_axes)
    x, w = terms[0]
    R_in = elementwise(mul, x, layer.apply_T(s, w, x.shape))
    for x, w in terms[1:]:
        R_in = R_in + x * layer.apply_T(s, w, x.shape)
    if b is not None and rule.bias == "distribute":
        R_in = R_in + _distributed(layer, s * b, x, context)
    elif b is not None:
        context.record_loss("bias", mul, s, b)
    if context.recorder is not None:
        _record(rule, layer, x, R, z, s, context)
    return R_in


def _distributed(layer: Layer, taken: Array, x: Array, context: Context) -> Array:
    """What the biases took, in equal parts to all inputs: R_i = Σ_j taken_j / (number of inputs of j)."""
    assert layer.b is not None
    parts = layer.separate(taken, taken.shape[-1] // layer.b.shape[-1])
    taken = sum(parts[1:], parts[0])
    inputs = layer.apply(backend.ones(x.shape, x), ONE)
    each = divide(taken, inputs)
    context.record_loss("padding", lambda taken, each, inputs: taken - each * inputs, taken, each, inputs)
    return layer.apply_T(each, ONE, x.shape)


# ---- For the ledger --------------------------------------------------------------------------------------------------


def _record(rule: Rule, layer: Layer, x: Array, R: Array, z: Array, s: Array, context: Context) -> None:
    """What ε absorbed, and what was lost where the denominator is zero or a window sees only padding."""
    eps = rule.eps
    if isinstance(eps, Stabilizer):
        context.record_loss("eps", mul, s, kernels.added(z, eps, layer.output_axes))
    elif eps:
        context.record_loss("eps", lambda s, z: s * kernels.signed(eps, z), s, z)
    if kernels.never_vanishes(z, rule.eps):
        return
    _record_nowhere(layer, x, context, lambda R, s: kernels.zero_unless(R, s == 0), R, s)


def _record_outputs_of_no_part(
    layer: Layer, x: Array, context: Context, parts: Sequence[Part], R: Array, y: Array | None
) -> None:
    """What was lost because no part is for these outputs: under γ, those with z_j = 0."""
    conditions = [part.where for part in parts if part.where is not None]
    if context.recorder is None or len(conditions) < len(parts):
        return

    def left(R: Array, y: Array) -> Array:
        taken = conditions[0](y)
        for condition in conditions[1:]:
            taken = taken | condition(y)
        return kernels.zero_unless(R, ~taken)

    _record_nowhere(layer, x, context, left, R, y)


def _record_nowhere(layer: Layer, x: Array, context: Context, lost: Callable[..., Array], *arrays: Any) -> None:
    """lost(*arrays) goes to no input: to padding, where a window sees nothing else, or to a zero denominator."""
    hidden = layer.sees_only_padding(x)
    if hidden is None:
        context.record_loss("zero_denominator", lost, *arrays)
    else:
        context.record_loss("zero_denominator", lambda *a: kernels.zero_unless(lost(*a[:-1]), ~a[-1]), *arrays, hidden)
        context.record_loss("padding", lambda *a: kernels.zero_unless(lost(*a[:-1]), a[-1]), *arrays, hidden)

"""What the formula of a rule is written with: x, w and b, their parts, and sums of products of them.

    x.pos, x.neg    max(x, 0) and min(x, 0); likewise w.pos, w.neg and b.pos, b.neg
    x.one           1 for every input
    w.one           1 on every connection that exists: not into the padding, not across groups
    w**2, w + γ * w.pos, b + γ * b.pos
    x * w           the contributions z_ij = x_i w_ij; these are added and subtracted

Nothing is computed while a formula is written: a term says what it is, and `array` (of an input or a bias) or `weights`
computes it. Where the structure of the net says that x ≥ 0, as after a ReLU, x.neg is ZERO, and products with it vanish.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import prod
from operator import add, sub
from typing import Any

from .backend import Array, Number, is_exact, like, namespace, on_host, ones, ulp
from .kernels import elementwise, negative_part, positive_part, zero_unless
from .weights import ONE, Derived, as_weights


class _Zero:
    """A term that is 0: its parts are 0, sums do not change, products vanish."""

    array = None

    @property
    def pos(self) -> _Zero:
        return self

    @property
    def neg(self) -> _Zero:
        return self

    def __add__(self, other: Any) -> Any:
        return other

    def __radd__(self, other: Any) -> Any:
        return other

    def __sub__(self, other: Any) -> Any:
        return self if other is self else -1 * other

    def __mul__(self, other: Any) -> Any:
        return Contributions() if isinstance(other, Weight) else self

    def __rmul__(self, other: Any) -> Any:
        return self

    def __repr__(self) -> str:
        return "ZERO"


ZERO = _Zero()


class Input:
    """x, or a part of it. `nonneg`: whether x ≥ 0 is known from the structure of the net, without a look at the data.

    `sign`: 1 or −1 if all its numbers are known to be ≥ 0 or ≤ 0, else 0; likewise of weights and biases.
    """

    def __init__(self, array: Array, nonneg: bool = False, sign: int = 0):
        self.array, self.nonneg, self.sign = array, nonneg, 1 if nonneg else sign

    @property
    def pos(self) -> Input:
        return self if self.nonneg else self._pos

    @cached_property
    def _pos(self) -> Input:  # never `self`: arrays in a cycle of references would be freed late
        return Input(positive_part(self.array), nonneg=True)

    @cached_property
    def neg(self) -> Input | _Zero:
        return ZERO if self.nonneg else Input(negative_part(self.array), sign=-1)

    @cached_property
    def one(self) -> Input:
        return Input(ones(self.array.shape, self.array), nonneg=True)

    def __neg__(self) -> Input:
        return Input(-self.array, sign=-self.sign)

    def __mul__(self, w: Weight) -> Contributions:
        return Contributions(((self, w),))


class Weight:
    """w, or weights derived from it, which the layer computes where it needs them (see `lrp_toolbox.weights`)."""

    def __init__(self, weights: Any, sign: int = 0):
        self.weights, self.sign = weights if weights is ONE else as_weights(weights), sign

    @cached_property
    def pos(self) -> Weight:
        return self._derived(1, positive_part)

    @cached_property
    def neg(self) -> Weight:
        return self._derived(-1, negative_part)

    @cached_property
    def one(self) -> Weight:
        return Weight(ONE, 1)

    def __pow__(self, exponent: int) -> Weight:
        return self._derived(1 if exponent % 2 == 0 else self.sign, lambda w: w**exponent)

    def __rmul__(self, factor: Number) -> Weight:
        return self._derived(self.sign if factor >= 0 else -self.sign, lambda w: w * like(factor, w))

    def __add__(self, other: Weight) -> Weight:
        return self._derived(_common((self.sign, other.sign)), add, other)

    def __sub__(self, other: Weight) -> Weight:
        return self._derived(_common((self.sign, -other.sign)), sub, other)

    def _derived(self, sign: int, f: Callable[..., Array], *others: Weight) -> Weight:
        return Weight(Derived(f, *(as_weights(w.weights) for w in (self, *others))), sign)


class Bias:
    """b of a layer that has one; a layer without has ZERO."""

    def __init__(self, array: Array, sign: int = 0):
        self.array, self.sign = array, sign

    @cached_property
    def pos(self) -> Bias:
        return Bias(positive_part(self.array), 1)

    @cached_property
    def neg(self) -> Bias:
        return Bias(negative_part(self.array), -1)

    def __rmul__(self, factor: Number) -> Bias:
        return Bias(self.array * like(factor, self.array), self.sign if factor >= 0 else -self.sign)

    def __add__(self, other: Bias) -> Bias:
        return Bias(self.array + other.array, _common((self.sign, other.sign)))

    def __sub__(self, other: Bias) -> Bias:
        return Bias(self.array - other.array, _common((self.sign, -other.sign)))


def _common(signs: Iterable[int]) -> int:
    """The sign of a sum of numbers of these signs: theirs if it is one, else 0, not known."""
    found = set(signs)
    return found.pop() if len(found) == 1 else 0


@dataclass(frozen=True)
class Contributions:
    """z_ij = Σ_t x_t,i w_t,ij, as its (input, weight) terms."""

    terms: tuple[tuple[Input, Weight], ...] = ()

    def __iter__(self) -> Iterator[tuple[Input, Weight]]:
        return iter(self.terms)

    def __add__(self, other: Contributions) -> Contributions:
        return Contributions(self.terms + other.terms)

    def __sub__(self, other: Contributions) -> Contributions:
        return Contributions(self.terms + tuple((-x, w) for x, w in other.terms))


@dataclass(frozen=True)
class Part:
    """A part of a rule: its contributions z_ij, the bias that joins them in the denominator, and its share of R_j.

    `where`: for which outputs j it is, by z_j = Σ_i x_i w_ij + b_j; None for all.
    """

    z: Contributions
    b: Bias | _Zero = ZERO
    share: Number = 1
    where: Callable[[Array], Array] | None = None

    @property
    def one_signed(self) -> bool:
        """Whether all summands of z_j are known to have one sign, so that they cannot cancel."""
        signs = [x.sign * w.sign for x, w in self.z] + ([] if self.b is ZERO else [self.b.sign])  # type: ignore[union-attr]
        return _common(signs) != 0


def without_rounding(layer: Any, part: Part, z: Array, eps: Any = 0) -> Array:
    """z_j, the sum of the part's z_ij and b_j, but 0 where it is no more than the rounding of its own summands.

    In exact numbers these sums are 0, and R_j / z_j would be a large number of any sign. A sum of many floats is wrong by
    about half an ulp of √(Σ x_i²) √(Σ w_ij²), which is larger than √n times the root of Σ z_ij². `layer.magnitude` gives this
    product, or Σ |z_ij| where it is cheap. Sums of one sign are not looked at: they do not cancel.

    With ε in the denominator, a remainder matters by its sign only. It is removed if all of it is far below ε (1/1000). Else
    ε is no larger than rounding, and R_j / ε would be worse than R_j over the remainder.
    """
    if is_exact(z) or part.one_signed or not isinstance(eps, (int, float, Fraction)):
        return z
    terms = [layer.magnitude(x.array, w.weights) for x, w in part.z]
    xp, coarse = namespace(z), None
    if eps:
        coarse = 1000 * ulp(z) * sum(prod(xp.max(factor) for factor in term) for term in terms) > float(eps)
        if on_host(z) and coarse:  # a look into an array would wait for a GPU
            return z
    bias = [] if part.b is ZERO else [part.b.array]
    limit = 2 * ulp(z)

    def clean(z: Array, *arrays: Array) -> Array:
        size, rest = 0, list(arrays)
        for term in terms:
            size = size + prod(rest.pop(0) for _ in term)
        for b in rest:
            size = size + abs(b)
        kept = abs(z) > limit * size
        return zero_unless(z, kept if coarse is None else kept | coarse)

    return elementwise(clean, z, *(factor for term in terms for factor in term), *bias)


def require_number(name: str, value: Any) -> Number:
    """`value` as a plain number (a NumPy scalar would change the dtype of the data).

    Raises TypeError if it is not a number, ValueError if it is not finite or below 0.
    """
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name}: expected a number, got {value!r}")
    if not math.isfinite(value) or value < 0:
        raise ValueError(f"{name}: expected a finite number ≥ 0, got {value!r}")
    if isinstance(value, Fraction):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def require_fits(rule: Any, x: Array) -> None:
    """Raise ValueError if a number of `rule` is too large or too small for the dtype of x: it would become infinity or 0."""
    if is_exact(x):
        return
    info = namespace(x).finfo(x.dtype)
    for name in ("eps", "alpha", "gamma"):
        value = getattr(rule, name, 0)
        size = abs(float(getattr(value, "eps", value)))
        if size and not float(info.smallest_normal) <= size <= float(info.max):
            raise ValueError(f"{name}: {value!r} cannot be written in {x.dtype}, the dtype of the data")


def require_bounds(**bounds: Any) -> None:
    """Raise ValueError if a bound is missing."""
    for name, bound in bounds.items():
        if bound is None:
            raise ValueError(f"{name}: expected a number or an array of bounds, got None")


def box_around(x: Input, low: Any, high: Any) -> tuple[Input, Input]:
    """The bounds l and h of x, as inputs.

    Raises TypeError if a bound is an array of another kind than x, ValueError if some x lies outside its box.
    """
    low, high = (_bound(name, bound, x.array) for name, bound in (("low", low), ("high", high)))
    xp = namespace(x.array)
    slack = 4 * ulp(x.array) * xp.maximum(abs(low), abs(high))
    if not bool(xp.all((low - slack <= x.array) & (x.array <= high + slack))):
        raise ValueError("x: zᴮ expects low ≤ x ≤ high; some lies outside (are these the preprocessing's bounds?)")
    return Input(low), Input(high)


def _bound(name: str, bound: Any, x: Array) -> Array:
    xp = namespace(x)
    if not hasattr(bound, "dtype"):
        bound = like(bound, x) * ones((), x)
    elif namespace(bound) is not xp or bound.dtype != x.dtype:
        raise TypeError(f"{name}: expected {x.dtype} of {xp.__name__}, as x is, got {bound.dtype} of {type(bound)}")
    return xp.broadcast_to(bound, x.shape)

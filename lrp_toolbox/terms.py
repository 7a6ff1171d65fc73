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
from operator import add, sub
from typing import Any

from .backend import Array, Number, is_exact, like, namespace, on_host, ones, rounding, ulp
from .cached import cached
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
    """x, or a part of it.

    `sign`: 1 or −1 if all its numbers are ≥ 0 or ≤ 0 by the structure of the net, without a look at the data; 0 if nothing is
    known. Likewise of weights and biases.
    """

    def __init__(self, array: Array, sign: int = 0):
        self.array, self.sign = array, sign

    @property
    def pos(self) -> Input:
        return self if self.sign == 1 else self._pos

    @cached
    def _pos(self) -> Input:  # never `self`: arrays in a cycle of references would be freed late
        return Input(positive_part(self.array), 1)

    @cached
    def neg(self) -> Input | _Zero:
        return ZERO if self.sign == 1 else Input(negative_part(self.array), -1)

    @cached
    def one(self) -> Input:
        return Input(ones(self.array.shape, self.array), 1)

    def __neg__(self) -> Input:
        return Input(-self.array, -self.sign)

    def __mul__(self, w: Weight) -> Contributions:
        return Contributions(((self, w),))


class Weight:
    """w, or weights derived from it, which the layer computes where it needs them (see `lrp_toolbox.weights`)."""

    def __init__(self, weights: Any, sign: int = 0):
        self.weights, self.sign = weights if weights is ONE else as_weights(weights), sign

    @cached
    def pos(self) -> Weight:
        return self._derived(1, positive_part)

    @cached
    def neg(self) -> Weight:
        return self._derived(-1, negative_part)

    @cached
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

    @cached
    def pos(self) -> Bias:
        return Bias(positive_part(self.array), 1)

    @cached
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
        signs = [x.sign * w.sign for x, w in self.z] + ([self.b.sign] if isinstance(self.b, Bias) else [])
        return _common(signs) != 0


def without_rounding(layer: Any, part: Part, z: Array, eps: Any = 0) -> Array:
    """z_j, the sum of the part's z_ij and b_j, but 0 where it is no more than the rounding of its own summands.

    In exact numbers these sums are 0, and R_j / z_j would be a large number of any sign. Rounding is in proportion to
    Σ |z_ij| + |b_j|, or to a bound on it (`layer.magnitude`); see `backend.rounding`. Sums of one sign are not looked at: they
    do not cancel.

    With ε in the denominator, a remainder matters by its sign only. It is removed if all of it is far below ε (1/1000). Else
    ε is no larger than rounding, and R_j / ε would be worse than R_j over the remainder.
    """
    if is_exact(z) or part.one_signed or not isinstance(eps, (int, float, Fraction)):
        return z
    xp, far = namespace(z), 1000 * ulp(z)
    if eps and on_host(z) and (far * xp.max(z) > float(eps) or far * xp.min(z) < -float(eps)):  # Σ |z_ij| + |b_j| ≥ |z_j|
        return z
    sizes = [layer.magnitude(x.array, w.weights) for x, w in part.z]
    sizes += [abs(part.b.array)] if isinstance(part.b, Bias) else []
    if not eps:
        return elementwise(lambda z, *sizes: zero_unless(z, ~is_rounding(z, sum(sizes))), z, *sizes)
    coarse = far * sum(xp.max(size) for size in sizes) > float(eps)
    if on_host(z) and coarse:  # a look into an array would wait for a GPU
        return z
    return elementwise(lambda z, *sizes: zero_unless(z, ~is_rounding(z, sum(sizes)) | coarse), z, *sizes)


def is_rounding(z: Array, size: Array) -> Array:
    """Whether z is no more than the rounding of summands of this size: not where z or the size is infinite or NaN."""
    return (abs(z) < rounding(z) * size) & (size < math.inf)


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
        raise ValueError(
            "x: zᴮ expects low ≤ x ≤ high; some lies outside: it is for the first layer only, with its preprocessing's bounds"
        )
    return Input(low), Input(high)


def _bound(name: str, bound: Any, x: Array) -> Array:
    xp = namespace(x)
    if not hasattr(bound, "dtype"):
        bound = like(bound, x) * ones((), x)
    elif namespace(bound) is not xp or bound.dtype != x.dtype:
        raise TypeError(f"{name}: expected {x.dtype} of {xp.__name__}, as x is, got {bound.dtype} of {type(bound)}")
    return xp.broadcast_to(bound, x.shape)

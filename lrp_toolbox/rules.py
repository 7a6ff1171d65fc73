"""Every rule of LRP, each beside its formula.

One idea carries them all, Equation 1 of Kohlbrenner et al. 2020: the relevance of an output j goes to the inputs i in
proportion to what each of them brought,

    R_i = Σ_j z_ij / z_j · R_j        z_j = Σ_i z_ij                                                              (1)

and a rule is only a choice of z_ij. Here a rule says what its z_ij are by listing (input, weight) terms,
z_ij = Σ_t x_t,i w_t,ij, and `share` does Equation 1 for any such list. The layer knows how its inputs are connected:

    layer.apply(x, w)              Σ_i x_i w_ij       no bias; for the weights that are handed in
    layer.apply_T(s, w, shape)     Σ_j w_ij s_j       back in the shape of x

A rule may have several parts, such as αβ, among which it divides R_j. To a layer these are so many more outputs: their
weights are joined, [w⁺, w⁻], and `share` takes one product forward and one back, whatever the rule.

x⁺ = max(x, 0) and x⁻ = min(x, 0) are written `x.pos` and `x.neg`; `x.one` is 1 for every input, and `w.one` is 1 on
every connection that exists. Bias, ε, neurons without anyone to give to, and padding keep relevance from being
conserved; `share` enters what they take in a book (see `lrp_toolbox.ledger`).

References
----------
Bach et al. 2015, On pixel-wise explanations for non-linear classifier decisions by LRP, PLoS ONE 10(7).
Montavon et al. 2017, Explaining nonlinear classification decisions with deep Taylor decomposition, Pattern Recognition 65.
Montavon et al. 2019, Layer-wise relevance propagation: an overview, LNCS 11700.
Kohlbrenner et al. 2020, Towards best practice in explaining neural network decisions with LRP, IJCNN.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from functools import cached_property
from operator import add, mul
from typing import Any, ClassVar, Literal, Protocol

from . import backend
from .backend import Array, Lazy, elementwise, like, namespace

Number = int | float | Fraction
BiasPolicy = Literal["absorb", "ignore", "distribute"]
Reason = Literal["bias", "eps", "empty", "padding"]


class _One:
    """The weight 1 on every connection that exists: neither into the padding nor across groups."""

    def __repr__(self) -> str:
        return "ONE"


ONE = _One()
Weights = Array | Lazy | _One


class Layer(Protocol):
    """What a rule needs to know of a layer that mixes its inputs."""

    @property
    def w(self) -> Array: ...
    @property
    def b(self) -> Array | None: ...
    def forward(self, x: Array) -> Array: ...
    def apply(self, x: Array, w: Weights) -> Array: ...
    def apply_T(self, s: Array, w: Weights, shape: tuple[int, ...]) -> Array: ...
    def join(self, arrays: Sequence[Array]) -> Array: ...  # as if the layer had so many times its outputs
    def join_times(self, R: Array, factors: Sequence[Number]) -> Array: ...  # R times each factor, joined
    def separate(self, z: Array, n: int) -> list[Array]: ...  # the inverse of `join`
    def blind(self, x: Array) -> Array | None: ...  # the outputs that see nothing but padding; None if there are none


class Book(Protocol):
    """Where a layer enters what it did with the relevance; `lrp_toolbox.ledger` keeps one."""

    def lose(self, reason: Reason, f: Callable[..., Array], *arrays: Array) -> None: ...  # Σ f(*arrays), f elementwise
    def close(self, rule: Rule, R_arriving: Array, R_passed: Array) -> None: ...
    def at(self, name: str) -> Book: ...


# ---- Equation 1 ------------------------------------------------------------------------------------------------------


def share(
    layer: Layer,
    terms: Sequence[tuple[Array, Weights]],
    b: Array | None,
    R: Array,
    eps: Number = 0,
    *,
    z: Array | None = None,
    bias: BiasPolicy = "absorb",
    book: Book | None = None,
) -> Array:
    """R_i = Σ_j z_ij / (z_j + ε sign(z_j)) · R_j for any z_ij = Σ_t x_t,i w_t,ij, z_j = Σ_i z_ij + b_j.

        z = Σ_t apply(x_t, w_t) + b;   s = divide(R, z, ε);   R_i = Σ_t x_t,i · apply_T(s, w_t)_i

    The bias takes s_j b_j of R_j. It keeps it ("absorb"), or hands it on, evenly, to all inputs of j ("distribute").
    `z` may be handed in where it is known already.

    >>> import numpy as np
    >>> from lrp_toolbox import Linear
    >>> x, w, R = np.asarray([1.0, 2.0]), np.asarray([[3.0, -1.0], [1.0, 2.0]]), np.asarray([5.0, 3.0])
    >>> share(Linear(w), [(x, w)], None, R)  # the z-rule
    array([2., 6.])
    """
    if z is None:
        z = total(layer, terms, b)
    s = divide(R, z, eps)
    x, w = terms[0]
    R_in = elementwise(mul, x, layer.apply_T(s, w, x.shape))
    for x, w in terms[1:]:
        R_in = R_in + x * layer.apply_T(s, w, x.shape)

    if b is not None and bias == "distribute":
        R_in = R_in + _evenly(layer, s * b, x, book)
    if book is not None:
        if b is not None and bias == "absorb":
            book.lose("bias", mul, s, b)
        _enter(book, layer, x, R, z, s, eps)
    return R_in


def total(layer: Layer, terms: Sequence[tuple[Array, Weights]], b: Array | None) -> Array:
    """z_j = Σ_t apply(x_t, w_t)_j + b_j."""
    z = layer.apply(*terms[0])
    for x, w in terms[1:]:
        z = z + layer.apply(x, w)
    return z if b is None else elementwise(add, z, b)


def divide(R: Array, z: Array, eps: Number = 0) -> Array:
    """s_j = R_j / (z_j + ε · sign(z_j)), with sign(0) = +1; and s_j = 0 where there is nothing to divide by.

    "Nothing" is z_j = 0 or, in floating point, a |z_j + ε sign(z_j)| so small that its summands are subnormal.
    """
    return elementwise(lambda R, z: _divide(R, z, eps), R, z)


def _divide(R: Array, z: Array, eps: Number) -> Array:
    if eps:
        z = z + backend.signed(eps, z)
    return R / z if _suffices(eps, z) else backend.quotient(R, z, vanishes(z))


def _suffices(eps: Number, z: Array) -> bool:
    """Whether ε alone is large enough to divide by, whatever z."""
    return eps > 0 and eps > backend.smallest_divisor(z)


def vanishes(z: Array) -> Array:
    """Where z is too small to divide by (see `divide`)."""
    smallest = backend.smallest_divisor(z)
    return abs(z) < smallest if smallest else z == 0


def _evenly(layer: Layer, taken: Array, x: Array, book: Book | None) -> Array:
    """What the biases took, handed to all inputs alike: R_i = Σ_j taken_j / (number of inputs of j)."""
    assert layer.b is not None
    taken = sum(layer.separate(taken, taken.shape[-1] // layer.b.shape[-1]))
    inputs = layer.apply(backend.ones(x.shape, x), ONE)
    each = divide(taken, inputs)
    if book is not None:
        book.lose("padding", lambda taken, each, inputs: taken - each * inputs, taken, each, inputs)
    return layer.apply_T(each, ONE, x.shape)


def _enter(book: Book, layer: Layer, x: Array, R: Array, z: Array, s: Array, eps: Number) -> None:
    """What ε took, and what had no one to go to: for want of contributions, or because the window saw only padding."""
    if eps:
        book.lose("eps", lambda s, z: s * backend.signed(eps, z), s, z)
    if _suffices(eps, z):
        return
    blind = layer.blind(x)
    if blind is None:
        book.lose("empty", lambda R, s: backend.only(R, s == 0), R, s)
    else:
        book.lose("empty", lambda R, s, blind: backend.only(R, (s == 0) & ~blind), R, s, blind)
        book.lose("padding", lambda R, s, blind: backend.only(R, (s == 0) & blind), R, s, blind)


# ---- What a rule is made of ------------------------------------------------------------------------------------------


class Operand:
    """x, w or b as it stands in a formula, with the parts a rule may ask for. `None` is a part known to be empty."""

    def __init__(self, array: Array, nonneg: bool = False):
        self.array = array
        self.nonneg = nonneg  # known from the structure (behind a ReLU), without asking the data

    def _derived(self, f: Callable[..., Array], *others: Operand) -> Array:
        return f(self.array, *(other.array for other in others))

    @cached_property
    def pos(self) -> Operand:
        return self if self.nonneg else type(self)(self._derived(backend.positive_part), nonneg=True)

    @cached_property
    def neg(self) -> Operand | None:
        return None if self.nonneg else type(self)(self._derived(backend.negative_part))

    @cached_property
    def square(self) -> Operand:
        return type(self)(self._derived(lambda a: a * a), nonneg=True)

    def plus(self, factor: Number, other: Operand | None) -> Operand:
        """self + factor · other."""
        return self if other is None else type(self)(self._derived(lambda a, b: a + b * like(factor, a), other))


class Input(Operand):
    """x, for which `one` is 1 for every input."""

    @cached_property
    def one(self) -> Operand:
        return Operand(backend.ones(self.array.shape, self.array), nonneg=True)


class Weight(Operand):
    """Weights are many: their parts are worked out by the layer, some at a time."""

    one = Operand(ONE, nonneg=True)

    def _derived(self, f: Callable[..., Array], *others: Operand) -> Array:
        return Lazy(f, (self.array, *(other.array for other in others)))


class _NoBias(Operand):
    pos = neg = property(lambda self: self)

    def plus(self, factor: Number, other: Operand | None) -> Operand:
        return self


NO_BIAS = _NoBias(None)


@dataclass(frozen=True)
class Part:
    """z_ij = Σ_t x_t,i w_t,ij; the bias that joins Σ_i z_ij in the denominator; how much of R_j is given to this part.

    All parts of a rule have the same inputs x_t, in the same order.
    """

    terms: Sequence[tuple[Operand | None, Operand | None]]
    b: Operand = NO_BIAS
    weight: Number = 1


def _joined(layer: Layer, parts: Sequence[Part]) -> tuple[list[tuple[Array, Weights]], Array | None]:
    """The parts of a rule as one: the weights of each input joined, and the biases."""
    terms = []
    for columns in zip(*(part.terms for part in parts), strict=True):
        weights = [w.array for x, w in columns if x is not None and w is not None]
        if weights:
            x = columns[0][0]
            assert x is not None
            assert all(x_n is x for x_n, _ in columns)
            joined = weights[0] if len(weights) == 1 else Lazy(lambda *w: layer.join(w), tuple(weights), joins=True)
            terms.append((x.array, joined))
    if parts[0].b is NO_BIAS:
        return terms, None
    biases = [part.b.array for part in parts]
    return terms, biases[0] if len(biases) == 1 else layer.join(biases)


# ---- The rules -------------------------------------------------------------------------------------------------------


class Rule:
    """A choice of z_ij. Rules are frozen data: printable, comparable; wrong parameters refuse on construction."""

    eps: Number = 0
    bias: BiasPolicy = "absorb"
    symbol: ClassVar[str] = ""
    formula: ClassVar[str] = ""
    reads_y: ClassVar[bool] = False  # whether `relprop` is cheaper for the outputs y

    def parts(self, x: Input, w: Weight, b: Operand) -> list[Part]:
        """The terms of z_ij, for one or more parts among which the relevance is divided."""
        raise TypeError(f"{self} is for layers that do not mix their inputs, not for a layer with weights")

    def divide_among(
        self, layer: Layer, parts: Sequence[Part], R: Array, z: Array, plain: Callable[[], Array], book: Book | None
    ) -> Array:
        """How much of R goes to each part, joined: the part's own weight, unless a rule looks at z (or at the plain z_j)."""
        weights = [part.weight for part in parts]
        return R if weights == [1] else layer.join_times(R, weights)

    def forward(self, layer: Layer, x: Array, nonneg: bool = False) -> tuple[Array, Array | None]:
        """y of `layer` and, where they come with it for nothing, the denominators that `relprop` will need."""
        return layer.forward(x), None

    def relprop(
        self,
        layer: Layer,
        x: Array,
        R: Array,
        *,
        nonneg: bool = False,
        y: Array | None = None,
        z: Array | None = None,
        book: Book | None = None,
    ) -> Array:
        """The relevance of the inputs x of `layer`, whose outputs have relevance R.

        What is known already may be handed in: whether x ≥ 0, the outputs y, the denominators z.
        """
        X, w, b = self._operands(layer, x, nonneg)
        parts = self.parts(X, w, b)
        terms, b_joined = _joined(layer, parts)
        is_plain = len(parts) == 1 and parts[0].terms == [(X, w)]
        if z is None:  # the forward pass may have computed the plain z_j already
            z = y if is_plain and y is not None and b_joined is layer.b else total(layer, terms, b_joined)

        def plain() -> Array:
            return y if y is not None and b.array is layer.b else total(layer, [(x, layer.w)], b.array)

        R = self.divide_among(layer, parts, R, z, plain, book)
        return share(layer, terms, b_joined, R, self.eps, z=z, bias=self.bias, book=book)

    def _operands(self, layer: Layer, x: Array, nonneg: bool) -> tuple[Input, Weight, Operand]:
        b = NO_BIAS if layer.b is None or self.bias == "ignore" else Operand(layer.b)
        return Input(x, nonneg), Weight(layer.w), b

    def __post_init__(self) -> None:
        if self.bias not in ("absorb", "ignore", "distribute"):
            raise ValueError(f"bias: expected 'absorb', 'ignore' or 'distribute', got {self.bias!r}")
        if "eps" in self.__dict__:
            self._settle("eps")

    def _settle(self, name: str) -> None:
        """Make a plain number of a parameter: a NumPy scalar would change the dtype of the data."""
        value = getattr(self, name)
        if not isinstance(value, numbers.Real) or isinstance(value, bool):
            raise TypeError(f"{name}: expected a number, got {value!r}")
        if not math.isfinite(value) or value < 0:
            raise ValueError(f"{name}: expected a finite number ≥ 0, got {value!r}")
        if not isinstance(value, Fraction):
            object.__setattr__(self, name, int(value) if isinstance(value, numbers.Integral) else float(value))

    def __repr__(self) -> str:
        own = ((f.name, getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]
        usual = {"bias": "absorb", "renormalize": False}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in own if usual.get(k) != v)})"


@dataclass(frozen=True, repr=False)
class Z(Rule):
    """LRP_z, Eq. 1: R_i = Σ_j x_i w_ij / z_j · R_j. In a ReLU net it equals gradient × input (Sec. II-A)."""

    symbol: ClassVar[str] = "z"
    formula: ClassVar[str] = "z_ij = x_i w_ij"
    reads_y: ClassVar[bool] = True
    bias: BiasPolicy = "absorb"

    def parts(self, x: Input, w: Weight, b: Operand) -> list[Part]:
        return [Part([(x, w)], b)]


@dataclass(frozen=True, repr=False)
class Epsilon(Rule):
    """LRP_ε, Eq. 2: R_i = Σ_j x_i w_ij / (z_j + ε sign(z_j)) · R_j. ε takes its share, most from weak neurons."""

    symbol: ClassVar[str] = "ε"
    formula: ClassVar[str] = "z_ij = x_i w_ij,  over z_j + ε sign(z_j)"
    reads_y: ClassVar[bool] = True
    eps: Number = 1e-6
    bias: BiasPolicy = "absorb"

    def parts(self, x: Input, w: Weight, b: Operand) -> list[Part]:
        return [Part([(x, w)], b)]


def activating(x: Input, w: Weight, b: Operand, weight: Number = 1) -> Part:
    """z⁺_ij = max(x_i w_ij, 0): the sign is the product's, so negative inputs count with negative weights (Eq. 4)."""
    return Part([(x.pos, w.pos), (x.neg, w.neg)], b.pos, weight)


def inhibiting(x: Input, w: Weight, b: Operand, weight: Number = 1) -> Part:
    """z⁻_ij = min(x_i w_ij, 0) (Eq. 4)."""
    return Part([(x.pos, w.neg), (x.neg, w.pos)], b.neg or NO_BIAS, weight)


@dataclass(frozen=True, repr=False)
class AlphaBeta(Rule):
    """LRP_αβ, Eq. 3 and 4: R_i = Σ_j (α z⁺_ij / z⁺_j + β z⁻_ij / z⁻_j) R_j with α + β = 1, so that β = 1 − α ≤ 0 for α ≥ 1.

    b⁺ joins z⁺_j, and b⁻ joins z⁻_j. Where a part is empty its share is lost, and entered in the ledger;
    `renormalize=True` hands it to the other part instead.
    """

    symbol: ClassVar[str] = "αβ"
    formula: ClassVar[str] = "α z⁺_ij / z⁺_j + β z⁻_ij / z⁻_j,  β = 1 − α"
    alpha: Number = 2
    bias: BiasPolicy = "absorb"
    renormalize: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle("alpha")

    @property
    def beta(self) -> Number:
        return 1 - self.alpha

    def parts(self, x: Input, w: Weight, b: Operand) -> list[Part]:
        parts = [activating(x, w, b, self.alpha), inhibiting(x, w, b, self.beta)]
        return parts if self.renormalize else [part for part in parts if part.weight != 0]

    def divide_among(
        self, layer: Layer, parts: Sequence[Part], R: Array, z: Array, plain: Callable[[], Array], book: Book | None
    ) -> Array:
        if not self.renormalize:
            return super().divide_among(layer, parts, R, z, plain, book)
        xp = namespace(R)
        no_act, no_inh = (vanishes(part) for part in layer.separate(z, 2))
        nothing = backend.zeros((), R)
        R_act = xp.where(no_inh, R, xp.where(no_act, nothing, R * like(self.alpha, R)))  # both empty: lost here
        R_inh = xp.where(no_inh, nothing, xp.where(no_act, R, R * like(self.beta, R)))
        return layer.join([R_act, R_inh])

    def forward(self, layer: Layer, x: Array, nonneg: bool = False) -> tuple[Array, Array | None]:
        """z⁺_j and z⁻_j in one product, and with them y_j, which is their sum."""
        parts = self.parts(*self._operands(layer, x, nonneg))
        if len(parts) == 1:
            return super().forward(layer, x, nonneg)
        z = total(layer, *_joined(layer, parts))
        act, inh = layer.separate(z, 2)
        y = elementwise(add, act, inh)
        return (y + layer.b if self.bias == "ignore" and layer.b is not None else y), z


@dataclass(frozen=True, repr=False)
class ZPlus(Rule):
    """LRP_z⁺, which is LRP_αβ with α = 1: R_i = Σ_j z⁺_ij / z⁺_j · R_j (Eq. 3 and 4; Montavon et al. 2017)."""

    symbol: ClassVar[str] = "z⁺"
    formula: ClassVar[str] = "z_ij = max(x_i w_ij, 0)"
    bias: BiasPolicy = "absorb"

    def parts(self, x: Input, w: Weight, b: Operand) -> list[Part]:
        return [activating(x, w, b)]


@dataclass(frozen=True, repr=False)
class Gamma(Rule):
    """LRP_γ for inputs of any sign: R_i = Σ_j (z_ij + γ z⁺_ij) / (z_j + γ z⁺_j) · R_j where z_j > 0; z⁻ instead where z_j < 0.

    For x ≥ 0 and z_j > 0 this is Σ_j x_i (w_ij + γ w⁺_ij) / (…) · R_j of Montavon et al. 2019, Sec. 10.2.3. The bias
    follows suit, b + γ b⁺. A neuron with z_j = 0 gives nothing: the ledger has it.
    """

    symbol: ClassVar[str] = "γ"
    formula: ClassVar[str] = "z_ij = x_i w_ij + γ max(x_i w_ij, 0)"
    reads_y: ClassVar[bool] = True
    gamma: Number = 0.25
    bias: BiasPolicy = "absorb"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._settle("gamma")

    def parts(self, x: Input, w: Weight, b: Operand) -> list[Part]:
        up, down = w.plus(self.gamma, w.pos), w.plus(self.gamma, w.neg)  # z_ij + γ z⁺_ij = x⁺ (w + γ w⁺) + x⁻ (w + γ w⁻)
        return [
            Part([(x.pos, up), (x.neg, down)], b.plus(self.gamma, b.pos)),
            Part([(x.pos, down), (x.neg, up)], b.plus(self.gamma, b.neg)),
        ]

    def divide_among(
        self, layer: Layer, parts: Sequence[Part], R: Array, z: Array, plain: Callable[[], Array], book: Book | None
    ) -> Array:
        z_j = plain()
        if book is not None:
            book.lose("empty", lambda R, z_j: backend.only(R, z_j == 0), R, z_j)
        return layer.join([backend.only(R, z_j > 0), backend.only(R, z_j < 0)])


@dataclass(frozen=True, repr=False)
class Flat(Rule):
    """LRP_♭: z_ij = 1, so that R_j is spread evenly over all its inputs (Sec. II-A). No bias.

    Counted are the inputs that exist, of all channels: neither the padding nor what groups keep apart. Not meant for
    dense layers, where it says nothing.
    """

    symbol: ClassVar[str] = "♭"
    formula: ClassVar[str] = "z_ij = 1"

    def parts(self, x: Input, w: Weight, b: Operand) -> list[Part]:
        return [Part([(x.one, w.one)])]


@dataclass(frozen=True, repr=False)
class WSquare(Rule):
    """LRP_w²: z_ij = w_ij², whatever the input (Montavon et al. 2017, Table 1). No bias."""

    symbol: ClassVar[str] = "w²"
    formula: ClassVar[str] = "z_ij = w_ij²"

    def parts(self, x: Input, w: Weight, b: Operand) -> list[Part]:
        return [Part([(x.one, w.square)])]


@dataclass(frozen=True, eq=False, repr=False)
class ZBox(Rule):
    """LRP_zᴮ for inputs in a box l ≤ x ≤ h, as pixels are: z_ij = x_i w_ij − l_i w⁺_ij − h_i w⁻_ij ≥ 0. No bias.

    `low` and `high`: numbers or arrays that broadcast against x, such as one bound a channel (Montavon et al. 2017,
    Table 1). Raises ValueError if some x lies outside of its box.
    """

    symbol: ClassVar[str] = "zᴮ"
    formula: ClassVar[str] = "z_ij = x_i w_ij − l_i w⁺_ij − h_i w⁻_ij"
    low: Any = field(default=None)
    high: Any = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, bound in (("low", self.low), ("high", self.high)):
            if bound is None:
                raise ValueError(f"{name}: expected a number or an array of bounds, got None")

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, ZBox) and repr(self) == repr(other))  # repr fetches bounds from a GPU

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        low, high = (backend.to_numpy(b).tolist() if hasattr(b, "dtype") else b for b in (self.low, self.high))
        return f"ZBox(low={low}, high={high})"

    def parts(self, x: Input, w: Weight, b: Operand) -> list[Part]:
        low, high = (self._box(name, bound, x.array) for name, bound in (("low", self.low), ("high", self.high)))
        xp = namespace(x.array)
        slack = 4 * backend.ulp(x.array) * xp.maximum(abs(low), abs(high))
        if not bool(xp.all((low - slack <= x.array) & (x.array <= high + slack))):
            raise ValueError("x: zᴮ expects low ≤ x ≤ high; some lies outside (are these the preprocessing's bounds?)")
        return [Part([(x, w), (Operand(-low), w.pos), (Operand(-high), w.neg)])]

    @staticmethod
    def _box(name: str, bound: Any, x: Array) -> Array:
        xp = namespace(x)
        if not hasattr(bound, "dtype"):
            bound = bound * backend.ones((), x)
        elif namespace(bound) is not xp or bound.dtype != x.dtype:
            raise TypeError(f"{name}: expected {x.dtype} of {xp.__name__}, as x is, got {bound.dtype} of {type(bound)}")
        return xp.broadcast_to(bound, x.shape)


# ---- What layers do that have no z_ij of their own to choose ---------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Pass(Rule):
    """R_i = R_i: activations, and layers that only rearrange, hand relevance on as it is."""

    symbol: ClassVar[str] = "="
    formula: ClassVar[str] = "R_i = R_i"


@dataclass(frozen=True, repr=False)
class Winner(Rule):
    """Max-pooling: the winner of a window takes all of its relevance; ties share it evenly."""

    symbol: ClassVar[str] = "max"
    formula: ClassVar[str] = "z_ij = 1 for the largest x_i of the window, else 0"


@dataclass(frozen=True, repr=False)
class Taylor(Rule):
    """Local response normalisation y_j = x_j s_j^−β, s_j = k + a Σ_i x_i², in first order (terms of Binder et al. 2016):

        z_jj = x_j (k + a x_j²)^−β,    z_ij = −2 a β x_j x_i² s_j^(−β−1)  for the other i of j's window

    shared as in Eq. 1, that is divided by their sum. By default relevance passes LRN unchanged.
    """

    symbol: ClassVar[str] = "Taylor"
    formula: ClassVar[str] = "first-order terms of the normalisation, divided by their sum"
    eps: Number = 0


RULES: tuple[type[Rule], ...] = (Z, Epsilon, AlphaBeta, ZPlus, Gamma, Flat, WSquare, ZBox)

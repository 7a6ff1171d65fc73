"""What every module is: frozen parameters, a forward pass that leaves a trace, and the two ways back along it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import add, mul
from typing import Any, ClassVar

from .. import backend, rules
from ..backend import Array, namespace
from ..rules import ONE, AlphaBeta, BiasPolicy, Book, Epsilon, Flat, Gamma, Number, Pass, Rule, Weights, Z, ZBox, ZPlus

Shape = tuple[int, ...]


@dataclass(eq=False)
class Trace:
    """What a forward pass leaves behind: a module's input and output, and the traces of its children.

    Activations are what needs memory, and none is held that nobody will ask for: see `passed_on` and `for_one_walk`.
    """

    x: Array
    y: Array  # None where it has been passed on, and the rule does without
    children: tuple[Trace, ...] = ()
    nonneg: bool = False  # whether x ≥ 0 is known from the structure
    rule: Rule | None = None  # the rule for which z holds
    z: Array | None = None  # denominators that came with y for nothing
    once: bool = False  # whether relevance walks along here once only, and arrays may go when it has

    def passed_on(self) -> Trace:
        """The trace of a layer whose y has gone on to the next one: without y, unless the rule reads it."""
        return self if self.rule is None or self.rule.reads_y else replace(self, y=None)

    def for_one_walk(self) -> Trace:
        """The same trace, of which `relprop` lets go step by step: it can be walked along once more only."""
        self.once = True
        for child in self.children:
            child.for_one_walk()
        return self

    def let_go(self) -> None:
        """Frees the arrays, if this was the one walk."""
        if self.once:
            self.x = self.y = self.z = None


RuleTree = Any  # a Rule for every layer alike, or a sequence with one RuleTree for each child


class Module:
    """A layer or a net of layers. Holds parameters and never activations, so that nets may be shared between threads.

    Every module does three things: `forward` (which is `trace(x).y`), `gradient` and `relprop`. Leading axes of x
    (samples, targets, …) ride along: layers look at the trailing axes only, (height, width, channel) or (channel).
    A relevance or gradient may have more leading axes than broadcasting x needs, e.g. one for targets.
    """

    @property
    def input_axes(self) -> int | None:
        """How many trailing axes one input has: 3 for a map, 1 for features, None where any will do."""
        return None

    # -- forward

    def forward(self, x: Array) -> Array:
        """y = f(x)."""
        return self.trace(x).y

    def __call__(self, x: Array) -> Array:
        return self.forward(x)

    def trace(self, x: Array, nonneg: bool = False, rule: RuleTree = None) -> Trace:
        """The forward pass, with what the passes back need. `nonneg`: whether x ≥ 0 is known beforehand.

        `rule`: how relevance will be shared, if that is known; any other may be asked for later all the same.
        """
        return Trace(x, self.forward(x), nonneg=nonneg)

    def keeps_sign(self, nonneg: bool) -> bool:
        """Whether y ≥ 0 is known from the structure, given whether x ≥ 0 is."""
        return False

    def output_shape(self, shape: Shape) -> Shape:
        """The shape of y for an x of `shape`, without leading axes. Raises ValueError if x does not fit."""
        raise NotImplementedError

    # -- backward

    def gradient(self, trace: Trace, g: Array) -> Array:
        """g · ∂y/∂x at the point of the trace, for g in the shape of y."""
        raise NotImplementedError

    def relprop(self, trace: Trace, R: Array, rule: RuleTree, book: Book | None = None) -> Array:
        """The relevance of x, given the relevance R of y and the rule to share it by; entered in `book` if there is one."""
        raise NotImplementedError

    def takes(self, rule: Rule) -> Rule:
        """The rule that this layer follows where `rule` is asked for."""
        raise NotImplementedError

    # -- the rules as methods: written once, for layers, Sequentials and branches

    def relprop_z(self, x: Array, R: Array, bias: BiasPolicy = "absorb") -> Array:
        """LRP_z, Eq. 1."""
        return self._relprop(x, R, Z(bias=bias))

    def relprop_epsilon(self, x: Array, R: Array, eps: Number = 1e-6, bias: BiasPolicy = "absorb") -> Array:
        """LRP_ε, Eq. 2."""
        return self._relprop(x, R, Epsilon(eps, bias=bias))

    def relprop_alphabeta(
        self, x: Array, R: Array, alpha: Number = 2, bias: BiasPolicy = "absorb", renormalize: bool = False
    ) -> Array:
        """LRP_αβ with β = 1 − α, Eq. 3 and 4."""
        return self._relprop(x, R, AlphaBeta(alpha, bias=bias, renormalize=renormalize))

    def relprop_zplus(self, x: Array, R: Array, bias: BiasPolicy = "absorb") -> Array:
        """LRP_z⁺: LRP_αβ with α = 1."""
        return self._relprop(x, R, ZPlus(bias=bias))

    def relprop_gamma(self, x: Array, R: Array, gamma: Number = 0.25, bias: BiasPolicy = "absorb") -> Array:
        """LRP_γ, for inputs of any sign."""
        return self._relprop(x, R, Gamma(gamma, bias=bias))

    def relprop_flat(self, x: Array, R: Array) -> Array:
        """LRP_♭ (Sec. II-A)."""
        return self._relprop(x, R, Flat())

    def relprop_wsquare(self, x: Array, R: Array) -> Array:
        """LRP_w²."""
        return self._relprop(x, R, rules.WSquare())

    def relprop_zbox(self, x: Array, R: Array, low: Any, high: Any) -> Array:
        """LRP_zᴮ for low ≤ x ≤ high."""
        return self._relprop(x, R, ZBox(low, high))

    def _relprop(self, x: Array, R: Array, rule: Rule) -> Array:
        return self.relprop(self.trace(x, rule=rule), R, rule)

    # -- parameters

    def map(self, f: Callable[[Array], Array]) -> Module:
        """The same module with every parameter array `a` replaced by `f(a)`."""
        arrays = {
            field.name: f(getattr(self, field.name))
            for field in dataclasses.fields(self)  # type: ignore[arg-type]
            if hasattr(getattr(self, field.name), "dtype")
        }
        return dataclasses.replace(self, **arrays) if arrays else self  # type: ignore[type-var]

    def parameters(self) -> list[Array]:
        """Every parameter array, in order."""
        found: list[Array] = []
        self.map(lambda a: found.append(a) or a)  # type: ignore[func-returns-value]
        return found

    def to(self, array_module: Any) -> Module:
        """The same module with its parameters in another array module: `net.to(cupy)`, `net.to(numpy)`."""
        return self.map(lambda a: backend.asarray(a, array_module))

    def astype(self, dtype: Any) -> Module:
        """The same module with its parameters in another dtype: `net.astype(numpy.float64)`."""
        return self.map(lambda a: namespace(a).astype(a, dtype))


class Layer(Module):
    """A module without children. Final classes say `forward`, `gradient` and `_share`."""

    axes: ClassVar[int] = 1  # how many trailing axes of x are features, and not samples or targets

    @property
    def input_axes(self) -> int | None:
        return self.axes if self.axes > 1 else None

    @property
    def output_axes(self) -> int:
        return self.axes

    def relprop(self, trace: Trace, R: Array, rule: RuleTree, book: Book | None = None) -> Array:
        if not isinstance(rule, Rule):
            raise TypeError(f"rule: {type(self).__name__} takes one rule, got {rule!r}")
        self._require_relevance(R, self.output_shape(trace.x.shape) if trace.y is None else trace.y.shape)
        backend.require_same("R", R, "x", trace.x)
        rule = self.takes(rule)
        R_in = self._share(trace, R, rule, book)
        trace.let_go()
        if book is not None:
            book.close(rule, R, R_in)
        return R_in

    def _share(self, trace: Trace, R: Array, rule: Rule, book: Book | None) -> Array:
        raise NotImplementedError

    def _require_relevance(self, R: Array, y_shape: Shape) -> None:
        """R has y's feature axes; its leading axes are y's, or more, or ones that y has as 1."""
        axes = self.output_axes
        n = len(y_shape) - axes
        shape, wanted = tuple(R.shape), tuple(y_shape)
        leads = zip(wanted[:n][::-1], shape[: len(shape) - axes][::-1], strict=False)
        if len(shape) < len(wanted) or shape[-axes:] != wanted[n:] or not all(w in (s, 1) for w, s in leads):
            raise ValueError(f"R: expected the relevance of {type(self).__name__}'s output, {wanted}, got {shape}")


class LinearModule(Layer):
    """A layer that mixes its inputs, y = Σ_i x_i w_ij + b_j. It says how inputs are connected; `rules.py` does the rest.

    apply(x, w)            Σ_i x_i w_ij     without bias
    apply_T(s, w, shape)   Σ_j w_ij s_j     in the trailing axes of `shape`; s and the result may have more leading axes

    for the weights w that are handed in: an array like the layer's own `w`, a `Lazy` one, or `ONE` for 1 on every connection.
    """

    w: Array
    b: Array | None

    def apply(self, x: Array, w: Weights) -> Array:
        raise NotImplementedError

    def apply_T(self, s: Array, w: Weights, shape: Shape) -> Array:
        raise NotImplementedError

    def blind(self, x: Array) -> Array | None:
        """Which outputs see nothing but padding; None where geometry rules it out."""
        return None

    def join(self, arrays: Sequence[Array]) -> Array:
        """Several arrays over the outputs (weights, biases, relevances) as one, as of a layer with so many times as many."""
        return namespace(*arrays).concat(list(arrays), axis=-1)

    def join_times(self, R: Array, factors: Sequence[Number]) -> Array:
        """R times each factor, joined."""
        xp = namespace(R)
        column = xp.stack([backend.ones((1,), R) * backend.like(f, R) for f in factors])
        joined = backend.elementwise(mul, R[..., None, :], column)
        return xp.reshape(joined, (*R.shape[:-1], len(factors) * R.shape[-1]))

    def separate(self, z: Array, n: int) -> list[Array]:
        """The inverse of `join`."""
        size = z.shape[-1] // n
        return [z[..., k * size : (k + 1) * size] for k in range(n)]

    def trace(self, x: Array, nonneg: bool = False, rule: RuleTree = None) -> Trace:
        if rule is None:
            return Trace(x, self.forward(x), nonneg=nonneg)
        rule = self.takes(rule)
        y, z = rule.forward(self, x, nonneg)
        return Trace(x, y, nonneg=nonneg, rule=rule, z=z)

    def forward(self, x: Array) -> Array:
        if self.w is not None and self.w is not ONE:
            backend.require_same("x", x, f"{type(self).__name__}.w", self.w)
        y = self.apply(x, self.w)
        return y if self.b is None else backend.elementwise(add, y, self.b)

    def gradient(self, trace: Trace, g: Array) -> Array:
        return self.apply_T(g, self.w, trace.x.shape)

    def takes(self, rule: Rule) -> Rule:
        return rule

    def _share(self, trace: Trace, R: Array, rule: Rule, book: Book | None) -> Array:
        z = trace.z if rule == trace.rule else None
        return rule.relprop(self, trace.x, R, nonneg=trace.nonneg, y=trace.y, z=z, book=book)


class PassingLayer(Layer):
    """An activation, or a layer that only rearranges: relevance passes as it is, under every rule."""

    def takes(self, rule: Rule) -> Rule:
        return Pass()

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def _share(self, trace: Trace, R: Array, rule: Rule, book: Book | None) -> Array:
        return R


def proportional(rule: Rule) -> Rule:
    """What scaling and adding do where `rule` is asked for: they have no weights of either sign to tell apart.

    They share in proportion to x_i w_ij (z or ε) or, under ♭, evenly.
    """
    return rule if isinstance(rule, (Z, Epsilon, Flat)) else Z(bias=rule.bias)


def as_pair(name: str, value: int | Sequence[int], least: int) -> tuple[int, int]:
    """`value` as (height, width). Raises ValueError unless it is one int or two, none below `least`."""
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) and n >= least for n in pair):
        raise ValueError(f"{name}: expected an int ≥ {least}, or two for (height, width), got {value!r}")
    return pair

"""What every module is: frozen parameters, a forward pass that leaves a trace, and two ways back along the trace."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from operator import add, mul
from typing import Any, ClassVar

from .. import backend, kernels, propagation, rules
from ..backend import Array, Number, Value, namespace
from ..context import Context
from ..rules import AlphaBeta, BiasPolicy, Epsilon, Flat, Gamma, Rule, Z, ZBox, ZPlus
from ..terms import require_fits
from ..weights import ONE, Derived, as_weights

Shape = tuple[int, ...]


@dataclass(eq=False)
class Trace:
    """What a forward pass leaves: a module's input and output, and the traces of its children.

    Activations take most of the memory. Where the rule of a layer is known and does not need y, y is not kept.
    """

    x: Value
    y: Value
    children: list[Trace] = field(default_factory=list)
    nonneg: bool = False  # whether x ≥ 0 is known from the structure of the net
    rule: Rule | None = None  # the rule that z belongs to, and that decided whether y is kept
    z: Array | None = None  # denominators that came with y at no cost
    y_shape: Shape = ()

    def __post_init__(self) -> None:
        if self.y is not None:  # else it is that of the trace without its y
            self.y_shape = tuple(self.y.shape)

    def without_y(self) -> Trace:
        """The same trace, without y unless relevance will need it."""
        return self if self.rule is not None and self.rule.uses_output else replace(self, y=None)


class Module:
    """A layer, or a net of layers. It holds parameters and never activations, so that threads can share nets.

    Every module has `forward` (which is `trace(x).y`), `gradient` and `relprop`. The leading axes of x (samples, targets, …)
    are free: layers look at the trailing axes only, (height, width, channel) or (feature). A relevance or gradient may have
    more leading axes than x, one for targets for example.

    A module with several inputs (`several_inputs`) takes a tuple of arrays where others take an array, and gives one back.
    """

    def __init_subclass__(cls, **more: Any) -> None:
        """Keep the `__repr__` of this class: the one that a dataclass would write prints every number of every array."""
        super().__init_subclass__(**more)
        if "__repr__" not in vars(cls):
            cls.__repr__ = cls.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        """The type and the parameters that are not the usual ones; of an array, its shape."""
        said = []
        known: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(self) if dataclasses.is_dataclass(self) else ()
        for f in known:
            value = getattr(self, f.name)
            if hasattr(value, "dtype"):
                said.append(f"{f.name}: {'×'.join(map(str, value.shape))}")
            elif f.repr and value is not f.default and _in_short(value) != f.default:
                said.append(f"{f.name}={_in_short(value)!r}")
        return f"{type(self).__name__}({', '.join(said)})"

    @property
    def several_inputs(self) -> bool:
        return False

    @property
    def input_axes(self) -> int | None:
        """How many trailing axes one input has: 3 for a map, 1 for features, None where any number will do."""
        return None

    # -- forward

    def forward(self, x: Value) -> Array:
        """y = f(x)."""
        return self.trace(x).y

    def __call__(self, x: Value) -> Array:
        return self.forward(x)

    def trace(self, x: Value, nonneg: bool = False, context: Rule | Context | None = None) -> Trace:
        """The forward pass, with what the ways back need. `nonneg`: whether x ≥ 0 is known.

        `context`: the rules by which relevance will go back, if they are known. Any other can be asked for later.
        """
        raise NotImplementedError

    def output_is_nonnegative(self, nonneg: Any) -> bool:
        """Whether y ≥ 0 is known from the structure, given whether x ≥ 0 is (a tuple, for several inputs)."""
        return False

    def output_shape(self, shape: Any) -> Shape:
        """The shape of y for an x of `shape`, without leading axes. Raises ValueError if x does not fit."""
        raise NotImplementedError

    # -- back

    def gradient(self, trace: Trace, g: Array) -> Value:
        """g · ∂y/∂x at the point of the trace, for g in the shape of y."""
        raise NotImplementedError

    def relprop(self, trace: Trace, R: Array, context: Rule | Context) -> Value:
        """The relevance of x, given the relevance R of y, by a rule (for all layers) or a context with one for each layer."""
        raise NotImplementedError

    # -- the layers of a net

    def walk(self, name: str = "") -> Iterator[tuple[str, Layer]]:
        """(name, layer) of every layer, in the order of the forward pass."""
        raise NotImplementedError

    def walk_trace(self, trace: Trace, name: str = "") -> Iterator[tuple[str, Layer, Trace]]:
        """(name, layer, its trace) of every layer."""
        raise NotImplementedError

    def transform(self, f: Callable[[str, Layer], Module], name: str = "") -> Module:
        """The same net with f(name, layer) in place of every layer."""
        raise NotImplementedError

    def flow(self, value: Any, step: Callable[[str, Layer, Any], Any], name: str = "") -> Any:
        """What comes out if `step(name, layer, value)` says what each layer does to a value; `forward` is one such flow."""
        raise NotImplementedError

    # -- the rules as methods

    def relprop_z(self, x: Value, R: Array, bias: BiasPolicy = "absorb") -> Value:
        """LRP_z, Eq. 1."""
        return self._relprop(x, R, Z(bias=bias))

    def relprop_epsilon(self, x: Value, R: Array, eps: Number = 1e-6, bias: BiasPolicy = "absorb") -> Value:
        """LRP_ε, Eq. 2."""
        return self._relprop(x, R, Epsilon(eps, bias=bias))

    def relprop_alphabeta(
        self, x: Value, R: Array, alpha: Number = 2, bias: BiasPolicy = "absorb", renormalize: bool = False
    ) -> Value:
        """LRP_αβ with β = 1 − α, Eq. 3 and 4."""
        return self._relprop(x, R, AlphaBeta(alpha, bias=bias, renormalize=renormalize))

    def relprop_zplus(self, x: Value, R: Array, bias: BiasPolicy = "absorb") -> Value:
        """LRP_z⁺: LRP_αβ with α = 1."""
        return self._relprop(x, R, ZPlus(bias=bias))

    def relprop_gamma(self, x: Value, R: Array, gamma: Number = 0.25, bias: BiasPolicy = "absorb") -> Value:
        """LRP_γ, for inputs of any sign."""
        return self._relprop(x, R, Gamma(gamma, bias=bias))

    def relprop_flat(self, x: Value, R: Array) -> Value:
        """LRP_♭ (Sec. II-A)."""
        return self._relprop(x, R, Flat())

    def relprop_wsquare(self, x: Value, R: Array) -> Value:
        """LRP_w²."""
        return self._relprop(x, R, rules.WSquare())

    def relprop_zbox(self, x: Value, R: Array, low: Any, high: Any) -> Value:
        """LRP_zᴮ for low ≤ x ≤ high."""
        return self._relprop(x, R, ZBox(low, high))

    def _relprop(self, x: Value, R: Array, rule: Rule) -> Value:
        return self.relprop(self.trace(x, context=rule), R, rule)

    # -- parameters

    def map(self, f: Callable[[Array], Array]) -> Module:
        """The same module with every parameter array `a` replaced by `f(a)`."""
        return self.transform(lambda _, layer: layer.map_own(f))

    def parameters(self) -> list[Array]:
        """Every parameter array, in order."""
        return [a for _, layer in self.walk() for a in layer.own_parameters().values()]

    def to(self, array_module: Any) -> Module:
        """The same module with its parameters in another array module: `net.to(cupy)`, `net.to(numpy)`."""
        return self.map(lambda a: backend.asarray(a, array_module))

    def astype(self, dtype: Any) -> Module:
        """The same module with its parameters in another dtype: `net.astype(numpy.float64)`."""
        return self.map(lambda a: namespace(a).astype(a, dtype))


class Layer(Module):
    """A module without children. Final classes define `forward`, `gradient` and `_redistribute`."""

    axes: ClassVar[int] = 1  # how many trailing axes of x are features, and not samples or targets

    @property
    def input_axes(self) -> int | None:
        return self.axes if self.axes > 1 else None

    @property
    def output_axes(self) -> int:
        return self.axes

    def trace(self, x: Value, nonneg: bool = False, context: Rule | Context | None = None) -> Trace:
        return Trace(x, self.forward(x), nonneg=nonneg)

    def effective_rule(self, rule: Rule) -> Rule:
        """The rule that this layer follows where `rule` is asked for."""
        raise NotImplementedError

    def relprop(self, trace: Trace, R: Array, context: Rule | Context) -> Value:
        context = Context.of(context)
        self._require_relevance(R, trace.y_shape)
        backend.require_same("R", R, "x", trace.x[0] if isinstance(trace.x, tuple) else trace.x)
        rule = self.effective_rule(context.rule)
        require_fits(rule, R)
        R_in = self._redistribute(trace, R, rule, context)
        context.close(rule, R, R_in)
        return R_in

    def _redistribute(self, trace: Trace, R: Array, rule: Rule, context: Context) -> Value:
        """The relevance of x by `rule`; what is lost goes to `context.record_loss`."""
        raise NotImplementedError

    def _require_relevance(self, R: Array, y_shape: Shape) -> None:
        """R has the feature axes of y. Its leading axes are those of y, or more, or other sizes where y has 1."""
        axes = self.output_axes
        n = len(y_shape) - axes
        shape, wanted = tuple(R.shape), tuple(y_shape)
        leads = zip(wanted[:n][::-1], shape[: len(shape) - axes][::-1], strict=False)
        if len(shape) < len(wanted) or shape[-axes:] != wanted[n:] or not all(w in (s, 1) for w, s in leads):
            raise ValueError(f"R: expected the relevance of {type(self).__name__}'s output, {wanted}, got {shape}")

    def walk(self, name: str = "") -> Iterator[tuple[str, Layer]]:
        yield name, self

    def walk_trace(self, trace: Trace, name: str = "") -> Iterator[tuple[str, Layer, Trace]]:
        yield name, self, trace

    def transform(self, f: Callable[[str, Layer], Module], name: str = "") -> Module:
        return f(name, self)

    def flow(self, value: Any, step: Callable[[str, Layer, Any], Any], name: str = "") -> Any:
        return step(name, self, value)

    def own_parameters(self) -> dict[str, Array]:
        """The parameter arrays by name."""
        values = ((f.name, getattr(self, f.name)) for f in dataclasses.fields(self))  # type: ignore[arg-type]
        return {name: value for name, value in values if hasattr(value, "dtype")}

    def map_own(self, f: Callable[[Array], Array]) -> Layer:
        """The same layer with every parameter array `a` replaced by `f(a)`."""
        arrays = {name: f(a) for name, a in self.own_parameters().items()}
        return dataclasses.replace(self, **arrays) if arrays else self  # type: ignore[type-var]


class LinearModule(Layer):
    """A layer that mixes its inputs, y_j = Σ_i x_i w_ij + b_j. It says how inputs are connected; rules do the rest.

    apply(x, w)            Σ_i x_i w_ij     without the bias
    apply_T(s, w, shape)   Σ_j w_ij s_j     in the trailing axes of `shape`; s and the result may have more leading axes

    w is what a rule asks for (see `lrp_toolbox.weights`): weights in the shape of the layer's own, several of them side by
    side, or `ONE` for 1 on every connection.
    """

    w: Any
    b: Array | None

    def apply(self, x: Array, w: Any) -> Array:
        raise NotImplementedError

    def apply_T(self, s: Array, w: Any, shape: Shape) -> Array:
        raise NotImplementedError

    def sees_only_padding(self, x: Array) -> Array | None:
        """A mask of the outputs that see only padding; None where the geometry rules it out."""
        return None

    def magnitude(self, x: Array, w: Any) -> Array:
        """Σ_i |x_i w_ij|, or a bound on it that broadcasts against `apply(x, w)`: the rounding of this sum is in proportion.

        A layer without w whose connections have both signs has a method of its own.
        """
        return self.apply(abs(x), w if w is ONE or not hasattr(self.w, "dtype") else Derived(abs, as_weights(w)))

    def join(self, arrays: Sequence[Array]) -> Array:
        """Several arrays over the outputs (weights, biases, relevances) as one, as of a layer with so many times as many."""
        return namespace(*arrays).concat(list(arrays), axis=-1)

    def join_times(self, R: Array, factors: Sequence[Number]) -> Array:
        """R times each factor, joined."""
        xp = namespace(R)
        column = xp.stack([backend.ones((1,), R) * backend.like(f, R) for f in factors])
        joined = kernels.elementwise(mul, R[..., None, :], column)
        return xp.reshape(joined, (*R.shape[:-1], len(factors) * R.shape[-1]))

    def separate(self, z: Array, n: int) -> list[Array]:
        """The inverse of `join`."""
        size = z.shape[-1] // n
        return [z[..., k * size : (k + 1) * size] for k in range(n)]

    def trace(self, x: Array, nonneg: bool = False, context: Rule | Context | None = None) -> Trace:
        if context is None:
            return Trace(x, self.forward(x), nonneg=nonneg)
        rule = self.effective_rule(Context.of(context).rule)
        y, z = propagation.forward(rule, self, x, nonneg)
        return Trace(x, y, nonneg=nonneg, rule=rule, z=z)

    def forward(self, x: Array) -> Array:
        if hasattr(self.w, "dtype"):
            backend.require_same("x", x, f"{type(self).__name__}.w", self.w)
        y = self.apply(x, self.w)
        return y if self.b is None else kernels.elementwise(add, y, self.b)

    def gradient(self, trace: Trace, g: Array) -> Array:
        return self.apply_T(g, self.w, trace.x.shape)

    def effective_rule(self, rule: Rule) -> Rule:
        return rule

    def _redistribute(self, trace: Trace, R: Array, rule: Rule, context: Context) -> Array:
        z = trace.z if rule == trace.rule else None
        return propagation.relprop(rule, self, trace.x, R, context, nonneg=trace.nonneg, y=trace.y, z=z)


@dataclass(frozen=True, repr=False)
class Pass(Rule):
    """R_i = R_i: activations, and layers that only rearrange, pass relevance on as it is."""

    symbol: ClassVar[str] = "="
    formula: ClassVar[str] = "R_i = R_i"


class PassingLayer(Layer):
    """An activation, or a layer that only rearranges: relevance passes as it is, under every rule."""

    def effective_rule(self, rule: Rule) -> Rule:
        return Pass()

    def output_shape(self, shape: Shape) -> Shape:
        return shape

    def _redistribute(self, trace: Trace, R: Array, rule: Rule, context: Context) -> Value:
        return R


def _in_short(value: Any) -> Any:
    """2 for (2, 2) and for ((2, 2), (2, 2)), as one may write it; other values as they are."""

    def leaves(value: Any) -> list[Any]:
        return [leaf for item in value for leaf in leaves(item)] if isinstance(value, tuple) else [value]

    found = leaves(value)
    return found[0] if found and all(leaf == found[0] for leaf in found) else value


def proportional(rule: Rule) -> Rule:
    """The rule of scaling and adding where `rule` is asked for. Their weights have no signs to tell apart.

    They redistribute in proportion to x_i w_ij (z or ε) or, under ♭, in equal parts.
    """
    return rule if isinstance(rule, (Z, Epsilon, Flat)) else Z(bias=rule.bias)

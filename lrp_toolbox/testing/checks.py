"""`check_rule` and `check_layer`: the properties that every rule and every layer has, each looked for a counterexample.

In Fractions a property holds with `==`. If one does not hold, AssertionError says which, for which rule, layer and numbers
(the simplest that were found in some seconds), what was expected and what came.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from ..backend import Array, is_exact
from ..context import Context
from ..explain import explain
from ..kernels import divide, positive_part
from ..ledger import REASONS, Ledger, Recorder
from ..modules.base import Layer, LinearModule, Shape
from ..rules import RULES, AlphaBeta, Flat, Rule, WSquare, ZBox, relprop
from ..terms import ZERO, Bias, Input, Part, Weight
from .search import Found, Property, each, require, search_for
from .strategies import WEIGHTED, Case, cases, inputs, layers, rules, to_fractions

Pairs = SearchStrategy[tuple[Any, Shape]]


def check_rule(
    rule: Rule | SearchStrategy[Rule],
    on: Pairs | None = None,
    *,
    least: int = -3,
    most: int = 3,
    scale: bool | None = None,
    max_examples: int = 20,
) -> None:
    """Raise AssertionError if `rule` lacks a property that every rule has.

    - It changes none of its arguments, and gives the same when it is asked again.
    - float32 stays float32.
    - The ledger closes: what arrives = what is passed on + what was absorbed or lost.
    - The fast evaluation is the plain one, `rules.relprop`; floats agree with Fractions to rounding.
    - A batch is a stack, and several targets are a loop; R_in is linear in R.
    - R_in does not depend on the unit of x: c · x and c · b give the same, for any c > 0.
    - `explain` gives the same.

    `rule`: one, or a strategy of several. It has to work in Fractions (a relative `Stabilizer` does not).
    `on`: a strategy of (layer, shape of input), by default `layers(*WEIGHTED)`.
    `least`, `most`: the range of the inputs, for a rule that does not take all.
    `scale`: False for a rule that has a number in the unit of x or z, such as ε or a box. The default is True, but for ZBox and
    rules with ε.
    `max_examples`: how many are drawn for each property. The search is the same every time.
    """
    own: dict[str, Property] = {"R does not depend on the unit of x": partial(_unit, scale), "explain gives the same": _explain}
    drawn = cases(layers(*WEIGHTED) if on is None else on, least, most)
    if not isinstance(rule, (Rule, SearchStrategy)):
        raise TypeError(f"rule: expected a rule, or a strategy of rules, got {rule!r}")
    name, drawn_rules = (f"check_rule({rule})", st.just(rule)) if isinstance(rule, Rule) else ("check_rule", rule)
    search_for(name, _FIRST | _RELEVANCE | own, drawn_rules, drawn, max_examples)


def check_layer(layer: Layer | Pairs, shape: Any = None, *, exact: bool = True, max_examples: int = 20) -> None:
    """Raise AssertionError if `layer` lacks a property that every layer has.

    - It changes none of its arguments; float32 stays float32; leading axes ride along.
    - `output_shape` says what `forward` gives, and both refuse the same shapes, with ValueError; a relevance of another shape
      than the output's is refused. `output_is_nonnegative` promises nothing wrong.
    - `gradient` is that of finite differences.
    - Under every rule: the ledger closes, batch = stack, targets = loop, R_in is linear in R, floats agree with Fractions.

    And of a `LinearModule`, which says how inputs are connected:

    - `forward` is `apply` with the layer's weights, plus b. `apply_T` is the transpose of `apply`, for all weights that a rule
      asks for (w, w.pos, w.neg, w**2, ONE).
    - These weights are what they are derived from, on every connection: w.pos is max(w, 0), ONE is 1 where there is a w.
    - `magnitude` is Σ_i |x_i w_ij| or more, so that a sum that is only rounding is seen.
    - The fast evaluation of every rule is the plain one, `rules.relprop`.

    `shape`: of one input, without leading axes; a tuple of shapes if the layer has several inputs. Or `layer` is a strategy of
    (layer, shape of input), such as `layers(Conv)`.
    `exact`: the layer is computed in Fractions, its parameters as well, and what is equal has to be equal. False for a layer
    that needs a root or an exponential: then in float64, to rounding.
    `max_examples`: how many are drawn for each property. The search is the same every time.
    """
    if not isinstance(layer, (Layer, SearchStrategy)):
        raise TypeError(f"layer: expected a layer, or a strategy of (layer, shape), got {layer!r}")
    if (shape is None) != isinstance(layer, SearchStrategy):
        raise TypeError("shape: expected the shape of an input beside a layer, and none beside a strategy")
    pairs = layer if isinstance(layer, SearchStrategy) else st.just((layer, shape))
    name = f"check_layer({type(layer).__name__})" if isinstance(layer, Layer) else "check_layer"
    search_for(
        name,
        {"output_shape tells the truth": _shapes} | _FIRST | _STRUCTURE | _RELEVANCE,
        rules(*RULES),
        _inputs_of(pairs, exact),
        max_examples,
    )


# ---- Numbers ---------------------------------------------------------------------------------------------------------


def _as(case: Case, dtype: Any) -> Case:
    """The layer with its parameters, x and R in another dtype; with `object`, as Fractions."""

    def convert(a: Array) -> Array:
        return to_fractions(a) if dtype is object else a.astype(dtype)

    return Case(case.module.map(convert), each(convert, case.x), convert(case.R))


@st.composite
def _inputs_of(draw: DrawFn, pairs: Pairs, exact: bool) -> Case:
    """A case for a layer that may have several inputs, in Fractions or in float64."""
    layer, shape = draw(pairs)
    shapes: Any = shape  # of several inputs, several
    x = tuple(draw(inputs(s)) for s in shapes) if layer.several_inputs else draw(inputs(shapes))
    case = Case(layer, x, draw(inputs(tuple(layer.output_shape(shape)))))
    return _as(case, object if exact else np.float64)


def _flip(a: Array) -> Array:
    return a.reshape(-1)[::-1].reshape(a.shape).copy()


def _two_of(case: Case) -> tuple[list[Any], list[Array]]:
    """x and another input in the same range; R and another relevance."""
    return [case.x, each(lambda a: np.minimum(a, _flip(a)), case.x)], [case.R, _flip(case.R) - 1]


def _back(rule: Rule, layer: Any, x: Any, R: Array, lead: int = 0) -> tuple[Any, Ledger]:
    """The relevance of x, and the ledger."""
    recorder = Recorder(lead)
    R_in = layer.relprop(layer.trace(x, context=rule), R, Context(rule, recorder, name="layer"))
    return R_in, recorder.ledger(R, R_in)


def _absorbed(ledger: Ledger) -> Any:
    return sum(ledger.absorbed(reason) for reason in REASONS)


def _effective(rule: Rule, layer: Any) -> Rule | None:
    """The rule that a layer with one input follows if it has parts, which `rules.relprop` evaluates; else None."""
    if not isinstance(layer, LinearModule) or layer.several_inputs:
        return None
    effective = layer.effective_rule(rule)
    return None if type(effective).parts is Rule.parts else effective


def _parts(rule: Rule, layer: Any, x: Array) -> list[Part]:
    return rule.parts(Input(x), Weight(layer.w), ZERO if layer.b is None or rule.bias == "ignore" else Bias(layer.b))


def _matrix(layer: Any, weights: Any, shape: Shape) -> Array:
    """(inputs, outputs) in float64: what `apply` makes of each unit vector."""
    n = math.prod(shape)
    y = layer.apply(np.eye(n).reshape(n, *shape), weights)
    return y.reshape(n, -1)


def _rounding(rule: Rule, case: Case, R_in: Any) -> float:
    """What one rounding of every number, 1 ulp = 1, does to R_in at most.

    z_j has the error Σ_i |z_ij| + |b_j|, and s_j = R_j / z_j so many times more than its own as this is larger than |z_j|.
    """
    layer, x, R = case
    total = float(abs(R).sum()) + sum(float(abs(r).sum()) for r in (R_in if isinstance(R_in, tuple) else (R_in,)))
    effective = _effective(rule, layer)
    if effective is None:
        return total
    there = _as(case, np.float64)
    y = layer.apply(x, layer.w) + (0 if layer.b is None or effective.bias == "ignore" else layer.b)
    for part, rounded in zip(_parts(effective, layer, x), _parts(effective, *there[:2]), strict=True):
        b = 0 if part.b is ZERO else part.b.array
        z = sum(layer.apply(x_t.array, w_t.weights) for x_t, w_t in part.z) + b
        share = max(1, abs(float(part.share))) * (1 if part.where is None else part.where(y))
        sizes = abs(np.asarray(b).astype(np.float64)) + sum(
            (abs(x_t.array).reshape(-1) @ abs(_matrix(there.module, w_t.weights, x.shape))).reshape(y.shape)
            for x_t, w_t in rounded.z
        )
        inverse = abs(divide(R * 0 + 1, z, effective.eps, layer.output_axes)).astype(np.float64)
        total += float((share * abs(R.astype(np.float64)) * (sizes * inverse) ** 2).sum())
    return total


# ---- What holds for every rule in every layer ------------------------------------------------------------------------


def _arguments(rule: Rule, case: Case) -> None:
    """In Fractions and in floats, which have other kernels."""
    for layer, x, R in (case, _as(case, np.float64)):
        arrays = [*layer.own_parameters().values(), *(x if isinstance(x, tuple) else (x,)), R]
        before = [a.copy() for a in arrays]
        y = layer.forward(x).copy()
        once, _ = _back(rule, layer, x, R)
        for a, b in zip(arrays, before, strict=True):
            require(a, b, "forward or relprop has changed an argument", 0)
        require(layer.forward(x), y, "forward, asked again", 0)
        require(_back(rule, layer, x, R)[0], once, "R of the inputs, asked again", 0)


def _exact(rule: Rule, case: Case) -> None:
    if is_exact(case.R) and not all(isinstance(v, (Fraction, int)) for v in case.module.forward(case.x).flat):
        raise Found("forward of Fractions\n  expected Fractions\n  got      floats: a layer that needs them takes exact=False")


def _dtype(rule: Rule, case: Case) -> None:
    for dtype in (np.float32, np.float64):
        layer, x, R = _as(case, dtype)
        R_in = _back(rule, layer, x, R)[0]
        found = {"forward": layer.forward(x), "R of the inputs": R_in}
        for name, value in found.items():
            for a in value if isinstance(value, tuple) else (value,):
                if a.dtype != dtype:
                    raise Found(f"{name}\n  expected {np.dtype(dtype)}\n  got      {a.dtype}")


def _closes(rule: Rule, case: Case) -> None:
    R_in, ledger = _back(rule, *case)
    if len(ledger) != 1:
        raise Found(f"the ledger\n  expected one entry\n  got      {len(ledger)}: relprop has to end with context.close")
    parts = R_in if isinstance(R_in, tuple) else (R_in,)
    reached, absorbed = sum(r.sum() for r in parts), _absorbed(ledger)
    size = float(abs(absorbed)) + sum(float(abs(a).sum()) for a in (case.R, *parts))
    require(reached + absorbed, case.R.sum(), "Σ R of the inputs + what was absorbed = Σ R of the outputs", 1e-9 * size)


def _fast_is_plain(rule: Rule, case: Case) -> None:
    """Also where x ≥ 0 is known, and with or without what the forward pass has left for the rule."""
    layer, x, R = case
    effective = _effective(rule, layer)
    if effective is None:
        return
    for nonneg, X in ((False, x), (True, positive_part(x))):
        y, plain = layer.forward(X), relprop(effective, layer, X, R)
        for context in (rule, None):
            trace = layer.trace(X, nonneg, context)
            what = f"R of the inputs{', where x ≥ 0 is known' if nonneg else ''}: rules.relprop, and layer.relprop"
            require(layer.relprop(trace, R, rule), plain, what)
            require(trace.y, y, "trace(x).y is forward(x)")


def _floats(rule: Rule, case: Case) -> None:
    layer, x, R = case
    if not is_exact(R):
        return
    exact = _back(rule, layer, x, R)[0]
    size = _rounding(rule, case, exact)
    for dtype in (np.float64, np.float32):
        there = _as(case, dtype)
        tolerance = 40 * float(np.finfo(dtype).eps) * size
        if not math.isfinite(size):
            return
        expected = each(lambda a, dtype=dtype: a.astype(dtype), exact)
        require(_back(rule, *there)[0], expected, f"R of the inputs in {np.dtype(dtype)}", tolerance)
        effective = _effective(rule, layer)
        if effective is not None:
            require(relprop(effective, *there), expected, f"rules.relprop in {np.dtype(dtype)}", tolerance)


def _as_one(rule: Rule, case: Case, samples: int, targets: int) -> None:
    """(sample, target, …) at once is each of them alone; and so is the ledger."""
    layer = case.module
    xs, Rs = (both[:n] for both, n in zip(_two_of(case), (samples, targets), strict=True))
    X = each(lambda *several: np.stack(several)[:, None], *xs)
    R_in, ledger = _back(rule, layer, X, np.stack([np.stack(Rs)] * samples), lead=2)
    for n, x in enumerate(xs):
        for t, R in enumerate(Rs):
            alone, own = _back(rule, layer, x, R)
            require(each(lambda a, at=(n, t): a[at], R_in), alone, f"R of the inputs of sample {n}, target {t}")
            require(_absorbed(ledger[n, t]), _absorbed(own), f"what was absorbed of sample {n}, target {t}")


def _linear(rule: Rule, case: Case) -> None:
    layer, x, _ = case
    R, S = _two_of(case)[1]
    one, other, both = (_back(rule, layer, x, r)[0] for r in (R, S, 2 * R - 3 * S))
    require(both, each(lambda a, b: 2 * a - 3 * b, one, other), "R_in(2 R − 3 S) = 2 R_in(R) − 3 R_in(S)")


_FIRST: dict[str, Property] = {"arguments are unchanged": _arguments, "the dtype is kept": _dtype}
_RELEVANCE: dict[str, Property] = {
    "the ledger closes": _closes,
    "fast = plain": _fast_is_plain,
    "a batch is a stack": partial(_as_one, samples=2, targets=1),
    "several targets are a loop": partial(_as_one, samples=1, targets=2),
    "linear in R": _linear,
    "floats agree with Fractions": _floats,
}


# ---- What holds for every rule ---------------------------------------------------------------------------------------


def _unit(scale: bool | None, rule: Rule, case: Case) -> None:
    """c · x and c · b give c · z_ij and c · z_j."""
    layer, x, R = case
    if not (not rule.eps and not isinstance(rule, ZBox) if scale is None else scale):
        return
    c = Fraction(7, 3)
    scaled = layer if layer.b is None else dataclasses.replace(layer, b=c * layer.b)
    what = f"R of the inputs for {c} x and {c} b (scale=False for a rule that has a number in the unit of x)"
    require(_back(rule, scaled, c * x, R)[0], _back(rule, layer, x, R)[0], what)


def _explain(rule: Rule, case: Case) -> None:
    """With two samples and two targets."""
    layer = case.module
    xs, Rs = map(np.stack, _two_of(case))
    e = explain(layer, xs, None, rule, start=np.stack([Rs, Rs]))
    for n, t in ((0, 1), (1, 0)):
        require(e.R[n, t], _back(rule, layer, xs[n], Rs[t])[0], f"explain(…).R of sample {n}, target {t}")


# ---- What holds for every layer --------------------------------------------------------------------------------------


def _shapes(rule: Rule, case: Case) -> None:
    layer, x, R = case
    _require_shape(layer.forward(x), R.shape, "forward(x), by output_shape")
    if layer.several_inputs:
        return
    for k, n in enumerate(x.shape):
        for other in (n - 1, n + 1):
            wrong = (*x.shape[:k], other, *x.shape[k + 1 :])
            said = done = None
            if other:
                with suppress(ValueError):
                    said = tuple(layer.output_shape(wrong))
                with suppress(ValueError):
                    done = layer.forward(np.zeros(wrong, x.dtype) + x.dtype.type(0)).shape
                if said != done:
                    answers = ["ValueError" if shape is None else str(shape) for shape in (said, done)]
                    raise Found(f"an x of shape {wrong}\n  output_shape says {answers[0]}\n  forward gives     {answers[1]}")


def _relevance_fits(rule: Rule, case: Case) -> None:
    layer, x, R = case
    wrong = np.concatenate([R, R], axis=-1)
    try:
        found = layer.relprop(layer.trace(x), wrong, rule)
    except ValueError:
        return
    raise Found(f"relprop with an R of shape {wrong.shape}\n  expected ValueError\n  got      {found}")


def _require_shape(a: Array, shape: Shape, what: str) -> None:
    if tuple(a.shape) != tuple(shape):
        raise Found(f"the shape of {what}\n  expected {tuple(shape)}\n  got      {tuple(a.shape)}")


def _leading_axes(rule: Rule, case: Case) -> None:
    layer, (xs, gs) = case.module, _two_of(case)
    X = each(lambda *several: np.stack(several)[:, None], *xs)
    y, gradient = layer.forward(X), layer.gradient(layer.trace(X), np.stack([np.stack(gs)] * 2))
    for n, x in enumerate(xs):
        require(y[n, 0], layer.forward(x), f"forward of sample {n}")
        for t, g in enumerate(gs):
            alone = layer.gradient(layer.trace(x), g)
            require(each(lambda a, at=(n, t): a[at], gradient), alone, f"the gradient of sample {n}, target {t}")


def _promise(rule: Rule, case: Case) -> None:
    layer = case.module
    for known in (False, True):
        x = each(positive_part, case.x) if known else case.x
        if layer.output_is_nonnegative((known,) * len(x) if isinstance(x, tuple) else known):
            y = layer.forward(x)
            require(y, positive_part(y), f"output_is_nonnegative({known}) promises y ≥ 0")


def _slope(rule: Rule, case: Case) -> None:
    """At a point without ties and corners; of a kinked function, one step of 1e-6 seldom crosses a corner."""
    layer, rng, h = _as(case, np.float64).module, np.random.default_rng(0), 1e-6
    x, direction = (each(lambda a: rng.standard_normal(a.shape), case.x) for _ in range(2))
    g = rng.standard_normal(case.R.shape)
    ahead, behind = (layer.forward(each(lambda a, d, h=h: a + h * d, x, direction)) for h in (h, -h))
    back = layer.gradient(layer.trace(x), g)
    products = each(lambda a, d: (a * d).sum(), back, direction)
    found = sum(products) if isinstance(products, tuple) else products
    size = float(abs(g).sum() * (1 + abs(ahead).max()))
    require(found, (g * (ahead - behind)).sum() / (2 * h), "g · ∂y/∂x along a direction, by finite differences", 1e-6 * size)


def _forward(rule: Rule, case: Case) -> None:
    layer, x, _ = case
    if isinstance(layer, LinearModule):
        y = layer.apply(layer.trace(x).x, layer.w)
        require(layer.forward(x), y if layer.b is None else y + layer.b, "forward(x) = apply(x, w) + b")


_DERIVED: dict[str, tuple[Rule, Callable[[Weight], Weight], Callable[[Array], Array]]] = {
    # a rule that asks for them; as a rule writes them; what they are on each connection
    "w.pos": (AlphaBeta(2), lambda w: w.pos, lambda w: np.maximum(w, 0)),
    "w.neg": (AlphaBeta(2), lambda w: w.neg, lambda w: np.minimum(w, 0)),
    "w**2": (WSquare(), lambda w: w**2, lambda w: w * w),
    "ONE": (Flat(), lambda w: w.one, lambda w: (w != 0) * 1.0),
}


def _weights(layer: Any) -> dict[str, Any]:
    """The weights that rules ask this layer for."""
    w, asked = Weight(layer.w), {"w": layer.w}
    for name, (rule, derive, _) in _DERIVED.items():
        if layer.effective_rule(rule) == rule:
            asked[name] = derive(w).weights
    return asked


def _transposes(rule: Rule, case: Case) -> None:
    layer, R = case.module, case.R
    if isinstance(layer, LinearModule):
        x = layer.trace(case.x).x
        for name, w in _weights(layer).items():
            y, back = layer.apply(x, w), layer.apply_T(R, w, x.shape)
            _require_shape(back, x.shape, f"apply_T(s, {name}, shape)")
            what = f"⟨x, apply_T(s, {name})⟩ = ⟨apply(x, {name}), s⟩ for s = R"
            require((x * back).sum(), (y * R).sum(), what, 1e-9 * float(abs(x * back).sum() + abs(y * R).sum()))


def _derived(rule: Rule, case: Case) -> None:
    layer = _as(case, np.float64).module
    if isinstance(layer, LinearModule):
        shape = layer.trace(case.x).x.shape if layer.several_inputs else case.x.shape
        matrices = {name: _matrix(layer, w, shape) for name, w in _weights(layer).items()}
        for name, matrix in matrices.items():
            if name == "ONE":  # a connection may have the weight 0
                expected = np.maximum((matrix != 0) * 1.0, matrices["w"] != 0)
            else:
                expected = _DERIVED[name][2](matrices["w"]) if name in _DERIVED else matrix
            require(matrix, expected, f"the matrix of apply(x, {name}), by unit vectors")


def _magnitude(rule: Rule, case: Case) -> None:
    layer, x, R = _as(case, np.float64)
    if isinstance(layer, LinearModule):
        x = layer.trace(x).x
        for name, w in _weights(layer).items():
            sizes = (abs(x).reshape(-1) @ abs(_matrix(layer, w, x.shape))).reshape(R.shape)
            said = np.broadcast_to(layer.magnitude(x, w), R.shape)
            require(np.minimum(said, sizes), sizes, f"magnitude(x, {name}) is Σ_i |x_i w_ij| or more")


_STRUCTURE: dict[str, Property] = {
    "Fractions give Fractions": _exact,
    "leading axes ride along": _leading_axes,
    "forward = apply + b": _forward,
    "apply_T is the transpose of apply": _transposes,
    "derived weights are what they are derived from": _derived,
    "magnitude is a bound": _magnitude,
    "output_is_nonnegative keeps its promise": _promise,
    "the gradient is that of finite differences": _slope,
    "a relevance of another shape is refused": _relevance_fits,
}

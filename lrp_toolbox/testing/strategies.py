"""Strategies of hypothesis. A layer or a net comes with the shape of an input for it; `cases` adds the numbers.

>>> from hypothesis import given
>>> from lrp_toolbox import Conv, explain
>>> from lrp_toolbox.testing import cases, layers, rules
>>> @given(cases(layers(Conv)), rules())
... def test_the_ledger_closes(case, rule):
...     e = explain(case.module, case.x, None, rule, start=case.R)
...     assert e.ledger.rounding == 0
>>> test_the_ledger_closes()
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from .. import modules
from ..backend import Array
from ..composites import Composite, First, is_dense, lrp_cmp, uniform
from ..modules.base import Layer, Module, Shape
from ..rules import RULES, Rule, ZBox

Pair = tuple[Any, Shape]  # a module, and the shape of an input

_fractions = np.vectorize(Fraction, otypes=[object])


def to_fractions(values: Any) -> Array:
    """The same numbers as an array of Fractions. A float is a Fraction, exactly."""
    return _fractions(values)


class _Noise:
    """Random bytes that are added to what hypothesis draws; none for the seed 0, the simplest.

    Hypothesis tries many examples whose last choices are all the simplest. Without the noise these arrays would be 0.
    """

    def __init__(self, seed: int):
        self.rng = np.random.default_rng(seed) if seed else None

    def bytes(self, n: int) -> Any:
        return np.zeros(n, np.uint8) if self.rng is None else self.rng.integers(0, 256, n, np.uint8)


_noise = st.shared(st.integers(0, 2**32 - 1).map(_Noise), key="lrp_toolbox.testing")  # one for all arrays of an example


def _numbers_first(strategy: SearchStrategy[Any]) -> SearchStrategy[Any]:
    """The same, but the seed is the first choice of all."""
    return _noise.flatmap(lambda _: strategy)


@st.composite
def inputs(draw: DrawFn, shape: Shape, least: int = -3, most: int = 3) -> Array:
    """An array of Fractions that are integers from `least` to `most`. The simplest is all zeros, or the nearest to it."""
    values = to_fractions(sorted(range(least, most + 1), key=abs))
    n, noise = math.prod(shape), draw(_noise)
    drawn = np.frombuffer(draw(st.binary(min_size=n, max_size=n)), np.uint8)  # at once: quick, and simplified one by one
    return values[(drawn + noise.bytes(n)) % len(values)].reshape(shape)


# ---- Layers ----------------------------------------------------------------------------------------------------------


def layers(*kinds: type[Layer]) -> SearchStrategy[Pair]:
    """(layer, shape of an input for it), of `kinds`; by default of every kind that is known here.

    Sizes, strides, padding, dilation, groups and weights are drawn; a bias may be missing. Kinds: those of `WEIGHTED`, of
    `ADDING` (in which rules find nothing to split), and of `MAXIMA`. Raises ValueError for another.
    """
    unknown = [kind.__name__ for kind in kinds if kind not in _LAYERS]
    if unknown:
        raise ValueError(f"kinds: expected some of {', '.join(k.__name__ for k in _LAYERS)}, got {', '.join(unknown)}")
    return _numbers_first(st.one_of([_LAYERS[kind](kind) for kind in kinds or _LAYERS]))


def _bias(outputs: int) -> SearchStrategy[Array | None]:
    return st.one_of(inputs((outputs,)), inputs((outputs,)), st.none())


@st.composite
def _linear(draw: DrawFn, kind: Any) -> Pair:
    n_in, n_out = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    return kind(draw(inputs((n_in, n_out))), draw(_bias(n_out))), (n_in,)


@st.composite
def _geometries(draw: DrawFn, axes: int, *, dilated: bool = True, pool: bool = False, ceil_mode: bool = False) -> Any:
    """The size of a map, kernel, stride, padding, dilation that fit together; in ceil mode also with larger windows."""
    most = {1: 7, 2: 5, 3: 3}[axes]
    size = draw(st.tuples(*[st.integers(1, most)] * axes))
    kernel = draw(st.tuples(*[st.integers(1, 3 if axes < 3 else 2)] * axes))
    stride = draw(st.tuples(*[st.integers(1, 3)] * axes))
    dilation = draw(st.tuples(*[st.integers(1, 2)] * axes)) if dilated else (1,) * axes
    pad = [st.integers(0, k - 1 if pool else (3 if axes < 3 else 1)) for k in kernel]
    padding = tuple((draw(p), draw(p)) for p in pad)
    for n, k, s, d, (before, after) in zip(size, kernel, stride, dilation, padding, strict=True):
        assume(n + before + after + (s - 1 if ceil_mode else 0) >= d * (k - 1) + 1)
    return size, kernel, stride, padding, dilation


@st.composite
def _conv(draw: DrawFn, kind: Any) -> Pair:
    size, kernel, stride, padding, dilation = draw(_geometries(kind.axes - 1))
    groups, per_in, per_out = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    w, b = draw(inputs((*kernel, per_in, groups * per_out))), draw(_bias(groups * per_out))
    return kind(w, b, stride, padding, dilation, groups), (*size, per_in * groups)


@st.composite
def _transposed(draw: DrawFn, kind: Any) -> Pair:
    size, kernel, stride, padding, dilation = draw(_geometries(2))
    size = tuple(min(n, 3) for n in size)
    extra = tuple(draw(st.integers(0, s - 1)) for s in stride)
    groups, per_in, per_out = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
    for n, s, d, k, pair, e in zip(size, stride, dilation, kernel, padding, extra, strict=True):
        assume((n - 1) * s + d * (k - 1) + 1 + e > sum(pair))
    w, b = draw(inputs((*kernel, groups * per_in, per_out))), draw(_bias(groups * per_out))
    return kind(w, b, stride, padding, extra, dilation, groups), (*size, per_in * groups)


@st.composite
def _pool(draw: DrawFn, kind: Any) -> Pair:
    ceil_mode = draw(st.booleans())
    size, kernel, stride, padding, _ = draw(_geometries(kind.axes - 1, dilated=False, pool=True, ceil_mode=ceil_mode))
    options: dict[str, Any] = {"ceil_mode": ceil_mode}
    names = {field.name for field in dataclasses.fields(kind)}
    if "count_include_pad" in names:
        options["count_include_pad"] = draw(st.booleans())
    if "ties" in names:
        options["ties"] = draw(st.sampled_from(["share", "first"]))
    return kind(kernel, stride, padding, **options), (*size, draw(st.integers(1, 2)))


@st.composite
def _adaptive(draw: DrawFn, kind: Any) -> Pair:
    shape = draw(st.tuples(*[st.integers(1, 6)] * 2, st.integers(1, 2)))
    return kind(draw(st.tuples(*[st.integers(1, 4)] * 2))), shape


@st.composite
def _resize(draw: DrawFn, kind: Any) -> Pair:
    shape = draw(st.tuples(*[st.integers(1, 4)] * 2, st.integers(1, 2)))
    options = (
        draw(st.sampled_from(["nearest", "bilinear"])),
        draw(st.sampled_from(["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"])),
        draw(st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])),
    )
    if draw(st.booleans()):
        return kind(draw(st.tuples(*[st.integers(1, 6)] * 2)), None, *options), shape
    return kind(None, draw(st.tuples(*[st.sampled_from([1.0, 1.25, 1.5, 2.0, 3.0])] * 2)), *options), shape


@st.composite
def _reduce(draw: DrawFn, kind: Any) -> Pair:
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=2, max_size=3)))
    axes = draw(st.lists(st.integers(-len(shape), -1), min_size=1, max_size=len(shape) - 1, unique=True))
    return kind(tuple(axes), draw(st.booleans())), shape


@st.composite
def _scale(draw: DrawFn, kind: Any) -> Pair:
    channels = draw(st.integers(1, 4))
    return kind(draw(inputs((channels,))), draw(_bias(channels))), (channels,)


@st.composite
def _affine(draw: DrawFn, kind: Any) -> Pair:
    """Constants of any shape that broadcasts, one of which may be missing."""
    shape = draw(st.tuples(*[st.integers(1, 3)] * 3))

    def constant() -> Array:
        sizes = tuple(n if draw(st.booleans()) else 1 for n in shape)
        return draw(inputs(sizes[draw(st.integers(0, 3)) :]))

    which = draw(st.sampled_from(["both", "w", "b"]))
    return kind(None if which == "b" else constant(), None if which == "w" else constant()), shape


WEIGHTED: tuple[type[Layer], ...] = (modules.Linear, modules.Conv, modules.Conv1D, modules.Conv3D, modules.ConvTranspose)
ADDING: tuple[type[Layer], ...] = (
    modules.Scale,
    modules.Affine,
    modules.SumPool,
    modules.AvgPool,
    modules.AvgPool1D,
    modules.AvgPool3D,
    modules.AdaptiveAvgPool,
    modules.Resize,
    modules.ReduceSum,
    modules.Mean,
)
MAXIMA: tuple[type[Layer], ...] = (modules.MaxPool, modules.MaxPool1D, modules.MaxPool3D)

_LAYERS: dict[type[Layer], Callable[[Any], SearchStrategy[Pair]]] = {
    modules.Linear: _linear,
    **dict.fromkeys((modules.Conv, modules.Conv1D, modules.Conv3D), _conv),
    modules.ConvTranspose: _transposed,
    modules.Scale: _scale,
    modules.Affine: _affine,
    **dict.fromkeys((modules.SumPool, modules.AvgPool, modules.AvgPool1D, modules.AvgPool3D, *MAXIMA), _pool),
    modules.AdaptiveAvgPool: _adaptive,
    modules.Resize: _resize,
    **dict.fromkeys((modules.ReduceSum, modules.Mean), _reduce),
}


# ---- Nets ------------------------------------------------------------------------------------------------------------


@st.composite
def sequentials(draw: DrawFn) -> Pair:
    """(net, (4, 5, 2)): a small Sequential with all that branches and pools, ending in 3 outputs."""
    draw(_noise)

    def conv(n_in: int, n_out: int) -> Module:
        groups = draw(st.sampled_from([g for g in (1, 2) if n_in % g == 0 and n_out % g == 0]))
        k = draw(st.integers(1, 3))
        w, b = draw(inputs((k, k, n_in // groups, n_out))), draw(_bias(n_out))
        return modules.Conv(w, b, draw(st.integers(1, 2)), (k // 2, 1), 1, groups)

    def linear(n_in: int, n_out: int) -> Module:
        return modules.Linear(draw(inputs((n_in, n_out))), draw(_bias(n_out)))

    shape, channels = (4, 5, 2), 4
    found: list[Module] = [conv(2, 4), modules.ReLU()]
    for kind in draw(st.lists(st.sampled_from(["conv", "max", "avg", "sum", "concat", "add", "leaky", "scale"]), max_size=3)):
        if kind == "conv":
            found += [conv(channels, 4), modules.ReLU()]
            channels = 4
        elif kind in ("max", "avg"):
            pool = modules.MaxPool if kind == "max" else modules.AvgPool
            found.append(pool(2, draw(st.integers(1, 2)), 1, draw(st.booleans())))
        elif kind == "sum":
            found.append(modules.SumPool((1, 2), 1, ((0, 0), (1, 0))))
        elif kind in ("concat", "add"):
            same = modules.Conv(draw(inputs((3, 3, channels, channels))), draw(_bias(channels)), padding=1)
            branch = modules.Sequential(same, modules.ReLU())
            if kind == "add":
                found.append(modules.Add(modules.Sequential(*branch, same), modules.Identity()))
            else:
                found.append(modules.Concat(branch, modules.Conv(draw(inputs((1, 1, channels, 2))), draw(_bias(2)))))
                channels += 2
        elif kind == "leaky":
            found.append(modules.LeakyReLU(0.25))
        else:
            found.append(modules.Scale(draw(inputs((channels,))), draw(_bias(channels))))
    features = math.prod(modules.Sequential(found).output_shape(shape))
    hidden = [linear(features, 4), modules.ReLU()] if draw(st.booleans()) else []
    out = linear(4 if hidden else features, 3)
    return modules.Sequential([*found, modules.Flatten(), *hidden, modules.Dropout(), out]), shape


@st.composite
def graphs(draw: DrawFn) -> Pair:
    """(net, (3,)): a directed acyclic Graph over vectors, whose values are read by any number of nodes, ending in 3 outputs."""
    draw(_noise)

    def linear(n_in: int) -> Module:
        return modules.Linear(draw(inputs((n_in, 3))), draw(_bias(3)))

    nodes: list[tuple[str, Module, Any]] = []
    values = ["input"]
    for k in range(draw(st.integers(2, 9))):
        name = f"n{k}"
        kind = draw(st.sampled_from(["linear", "relu", "sum", "concat"]))
        read = tuple(draw(st.lists(st.sampled_from(values), min_size=2, max_size=3)))
        if kind == "linear":
            nodes.append((name, linear(3), read[0]))
        elif kind == "relu":
            nodes.append((name, modules.ReLU(), read[0]))
        elif kind == "sum":
            nodes.append((name, modules.Sum(), read))
        else:
            nodes += [(f"{name}c", modules.Concatenation(), read), (name, linear(3 * len(read)), f"{name}c")]
        values.append(name)
    seen = {value for _, _, reads in nodes for value in ((reads,) if isinstance(reads, str) else reads)}
    ends = tuple(value for value in values if value not in seen)
    return modules.Graph([*nodes, ("end", modules.Sum(), ends), ("logits", linear(3), "end")]), (3,)


def nets() -> SearchStrategy[Pair]:
    """(net, shape of an input for it): of `sequentials` or `graphs`. All have 3 outputs."""
    return sequentials() | graphs()


# ---- Numbers to go through them --------------------------------------------------------------------------------------


class Case(NamedTuple):
    """A layer or a net, an input for it, and a relevance of its outputs."""

    module: Any
    x: Array
    R: Array


@st.composite
def cases(draw: DrawFn, of: SearchStrategy[Pair], least: int = -3, most: int = 3) -> Case:
    """A `Case` for a strategy such as `layers(Conv)` or `nets()`. The inputs are integers from `least` to `most`."""
    module, shape = draw(of)
    return Case(module, draw(inputs(shape, least, most)), draw(inputs(tuple(module.output_shape(shape)))))


# ---- Rules and composites --------------------------------------------------------------------------------------------

_biases = st.sampled_from(["absorb", "ignore", "distribute"])
_numbers = st.sampled_from([Fraction(1, 4), Fraction(1), Fraction(5, 2)])
_PARAMETERS: dict[str, SearchStrategy[Any]] = {
    "bias": _biases,
    "eps": _numbers,
    "alpha": _numbers,
    "gamma": _numbers,
    "renormalize": st.booleans(),
    "low": st.sampled_from([Fraction(-5), Fraction(-7, 2), Fraction(-3)]),
    "high": st.sampled_from([Fraction(3), Fraction(9, 2), Fraction(5)]),
}


@st.composite
def rules(draw: DrawFn, *kinds: type[Rule]) -> Rule:
    """A rule of one of `kinds`, with exact parameters; by default of every kind but zᴮ.

    A rule `ZBox` has a box around what `inputs` draws. Deeper in a net, x may lie outside.
    """
    kind = draw(st.sampled_from(kinds or [rule for rule in RULES if rule is not ZBox]))
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(kind)  # type: ignore[arg-type]  # all rules are dataclasses
    given = {f.name: draw(_PARAMETERS[f.name]) for f in fields if f.name in _PARAMETERS}
    return kind(**(given | {"alpha": 2} if given.get("renormalize") else given))


@st.composite
def composites(draw: DrawFn) -> Composite:
    """A composite for any net that has a layer with weights: one rule for all, a variant of LRP_CMP, or rules by place."""
    how = draw(st.sampled_from(["uniform", "lrp_cmp", "by place"]))
    if how == "uniform":
        return uniform(draw(rules()))
    if how == "lrp_cmp":
        return lrp_cmp(draw(_numbers), draw(_numbers), draw(st.sampled_from([0, 1, "all"])))
    first, dense, others = draw(rules()), draw(rules()), draw(rules())
    return Composite([(First(1), first), (is_dense, dense), (Module, others)], name="by place")

"""Random layers, nets and inputs, of small integers: zeros, ties and empty parts are common, and floats are exact."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import oracle
from hypothesis import assume
from hypothesis import strategies as st

import lrp_toolbox as lrp

to_fractions = np.vectorize(Fraction, otypes=[object])


def integers(rng, *shape, least=-3, most=3):
    """Fractions that are integers."""
    return to_fractions(rng.integers(least, most + 1, shape))


@dataclass
class Case:
    """A layer, an input and an output relevance in Fractions, and the layer as an explicit matrix."""

    layer: Any
    x: Any
    R: Any
    W: Any
    M: Any
    b: Any

    @property
    def b_flat(self):
        """The bias of each output, for the explicit matrix."""
        if self.b is None:
            return None
        return np.tile(self.b, self.W.shape[1] // len(self.b))


@st.composite
def rngs(draw):
    return np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


@st.composite
def geometries(draw, dilated=True, pool=False, axes=2, ceil_mode=False):
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


def _bias(rng, n):
    return integers(rng, n) if rng.integers(4) else None


@st.composite
def linear_cases(draw):
    rng = draw(rngs())
    n_in, n_out = draw(st.integers(1, 5)), draw(st.integers(1, 4))
    w, b = integers(rng, n_in, n_out), _bias(rng, n_out)
    return Case(lrp.Linear(w, b), integers(rng, n_in), integers(rng, n_out), *oracle.linear(w), b)


@st.composite
def conv_cases(draw, kind=lrp.Conv):
    rng = draw(rngs())
    size, kernel, stride, padding, dilation = draw(geometries(axes=kind.axes - 1))
    groups = draw(st.integers(1, 3))
    per_in, per_out = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    w, b = integers(rng, *kernel, per_in, groups * per_out), _bias(rng, groups * per_out)
    layer = kind(w, b, stride, padding, dilation, groups)
    shape = (*size, per_in * groups)
    W, M = oracle.conv(w, shape, stride, padding, dilation, groups)
    return Case(layer, integers(rng, *shape), integers(rng, *layer.output_shape(shape)), W, M, b)


@st.composite
def transposed_cases(draw):
    rng = draw(rngs())
    size, kernel, stride, padding, dilation = draw(geometries())
    size = tuple(min(n, 3) for n in size)
    extra = tuple(draw(st.integers(0, s - 1)) for s in stride)
    groups = draw(st.integers(1, 3))
    per_in, per_out = draw(st.integers(1, 2)), draw(st.integers(1, 2))
    w, b = integers(rng, *kernel, groups * per_in, per_out), _bias(rng, groups * per_out)
    layer = lrp.ConvTranspose(w, b, stride, padding, extra, dilation, groups)
    shape = (*size, per_in * groups)
    for n, s, d, k, pair, e in zip(size, stride, dilation, kernel, padding, extra, strict=True):
        assume((n - 1) * s + d * (k - 1) + 1 + e > sum(pair))
    W, M = oracle.conv_transpose(w, shape, stride, padding, extra, dilation, groups)
    return Case(layer, integers(rng, *shape), integers(rng, *layer.output_shape(shape)), W, M, b)


@st.composite
def pool_cases(draw, kind):
    rng = draw(rngs())
    ceil_mode, channels = draw(st.booleans()), draw(st.integers(1, 2))
    size, kernel, stride, padding, _ = draw(geometries(dilated=False, pool=True, axes=kind.axes - 1, ceil_mode=ceil_mode))
    shape, one = (*size, channels), Fraction(1)
    if kind is lrp.SumPool:
        layer = lrp.SumPool(kernel, stride, padding, ceil_mode)
        W, M = oracle.sum_pool(shape, kernel, stride, padding, ceil_mode, one)
    else:
        include_pad = draw(st.booleans())
        layer = kind(kernel, stride, padding, ceil_mode, include_pad)
        W, M = oracle.avg_pool(shape, kernel, stride, padding, ceil_mode, include_pad, one)
    return Case(layer, integers(rng, *shape), integers(rng, *layer.output_shape(shape)), W, M, None)


@st.composite
def max_pool_cases(draw, kind=lrp.MaxPool):
    rng = draw(rngs())
    ceil_mode, channels, ties = draw(st.booleans()), draw(st.integers(1, 2)), draw(st.sampled_from(["share", "first"]))
    size, kernel, stride, padding, _ = draw(geometries(dilated=False, pool=True, axes=kind.axes - 1, ceil_mode=ceil_mode))
    layer = kind(kernel, stride, padding, ceil_mode, ties)
    x = integers(rng, *size, channels)
    y, shares = oracle.max_pool_winners(x, kernel, stride, padding, ceil_mode, ties)
    R = integers(rng, *y.shape)
    W, M = oracle.sum_pool(x.shape, kernel, stride, padding, ceil_mode, Fraction(1))
    return Case(layer, x, R, W, M, None), y, shares


def _adding_case(rng, layer, shape, W, M):
    return Case(layer, integers(rng, *shape), integers(rng, *layer.output_shape(shape)), W, M, None)


@st.composite
def adaptive_cases(draw):
    shape, counts = draw(st.tuples(*[st.integers(1, 6)] * 2, st.integers(1, 2))), draw(st.tuples(*[st.integers(1, 4)] * 2))
    return _adding_case(draw(rngs()), lrp.AdaptiveAvgPool(counts), shape, *oracle.adaptive_pool(shape, counts, Fraction(1)))


@st.composite
def resize_cases(draw):
    shape = draw(st.tuples(*[st.integers(1, 4)] * 2, st.integers(1, 2)))
    options = (
        draw(st.sampled_from(["nearest", "bilinear"])),
        draw(st.sampled_from(["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"])),
        draw(st.sampled_from(["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])),
    )
    if draw(st.booleans()):
        sizes = draw(st.tuples(*[st.integers(1, 6)] * 2))
        layer, scales = lrp.Resize(sizes, None, *options), [Fraction(m, n) for m, n in zip(sizes, shape, strict=False)]
    else:
        scales = [Fraction(draw(st.sampled_from([1, 1.25, 1.5, 2, 3]))) for _ in range(2)]
        layer, sizes = (
            lrp.Resize(None, tuple(map(float, scales)), *options),
            [n * s // 1 for n, s in zip(shape, scales, strict=False)],
        )
    return _adding_case(draw(rngs()), layer, shape, *oracle.resize(shape, sizes, scales, *options, Fraction(1)))


@st.composite
def reduce_cases(draw):
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    axes = tuple(draw(st.lists(st.integers(-len(shape), -1), min_size=1, unique=True)))
    assume(len(axes) < len(shape))
    keepdims, mean = draw(st.booleans()), draw(st.booleans())
    n = np.prod([shape[a] for a in axes]).item()
    layer = (lrp.Mean if mean else lrp.ReduceSum)(axes, keepdims)
    return _adding_case(draw(rngs()), layer, shape, *oracle.reduce(shape, axes, Fraction(1, n if mean else 1)))


@st.composite
def affine_cases(draw):
    """Constants of any shape that broadcasts, one of which may be missing."""
    rng, shape = draw(rngs()), draw(st.tuples(*[st.integers(1, 3)] * 3))

    def constant():
        sizes = tuple(n if draw(st.booleans()) else 1 for n in shape)
        return integers(rng, *sizes[draw(st.integers(0, 3)) :])

    w, b = constant(), constant()
    which = draw(st.sampled_from(["both", "w", "b"]))
    w, b = None if which == "b" else w, None if which == "w" else b
    ones = integers(rng, *shape, least=1, most=1)
    factor = (ones if w is None else ones * w).reshape(-1)
    W = np.array([[factor[i] if i == j else Fraction(0) for j in range(factor.size)] for i in range(factor.size)], dtype=object)
    full = None if b is None else (0 * ones + b).reshape(-1)
    return Case(lrp.Affine(w, b), integers(rng, *shape), integers(rng, *shape), W, np.eye(factor.size, dtype=bool), full)


def scale_case(rng):
    w, b = integers(rng, 3), _bias(rng, 3)
    W = np.array([[w[i] if i == j else Fraction(0) for j in range(3)] for i in range(3)], dtype=object)
    return Case(lrp.Scale(w, b), integers(rng, 3), integers(rng, 3), W, np.eye(3, dtype=bool), b)


convolutions = (conv_cases(), conv_cases(lrp.Conv1D), conv_cases(lrp.Conv3D), transposed_cases())
weighted_cases = st.one_of(linear_cases(), *convolutions)
pools = (pool_cases(kind) for kind in (lrp.SumPool, lrp.AvgPool, lrp.AvgPool1D, lrp.AvgPool3D))
adding_cases = st.one_of(rngs().map(scale_case), *pools, adaptive_cases(), resize_cases(), reduce_cases(), affine_cases())
max_cases = max_pool_cases() | max_pool_cases(lrp.MaxPool1D) | max_pool_cases(lrp.MaxPool3D)


# ---- whole nets ------------------------------------------------------------------------------------------------------


def _conv(rng, n_in, n_out, draw):
    groups = draw(st.sampled_from([g for g in (1, 2) if n_in % g == 0 and n_out % g == 0]))
    k = draw(st.integers(1, 3))
    return lrp.Conv(
        integers(rng, k, k, n_in // groups, n_out), _bias(rng, n_out), draw(st.integers(1, 2)), (k // 2, 1), 1, groups
    )


@st.composite
def conv_nets(draw):
    """A small net with all that branches and pools, for (4, 5, 2), ending in 3 outputs."""
    rng = draw(rngs())
    layers: list[Any] = [_conv(rng, 2, 4, draw), lrp.ReLU()]
    channels = 4
    for kind in draw(st.lists(st.sampled_from(["conv", "max", "avg", "sum", "concat", "add", "leaky", "scale"]), max_size=3)):
        same = lrp.Conv(integers(rng, 3, 3, channels, channels), _bias(rng, channels), padding=1)
        if kind == "conv":
            layers += [_conv(rng, channels, 4, draw), lrp.ReLU()]
            channels = 4
        elif kind == "max":
            layers.append(lrp.MaxPool(2, draw(st.integers(1, 2)), 1, draw(st.booleans())))
        elif kind == "avg":
            layers.append(lrp.AvgPool(2, draw(st.integers(1, 2)), 1, draw(st.booleans())))
        elif kind == "sum":
            layers.append(lrp.SumPool((1, 2), 1, ((0, 0), (1, 0))))
        elif kind == "concat":
            branch = lrp.Sequential(same, lrp.ReLU())
            layers.append(lrp.Concat(branch, lrp.Conv(integers(rng, 1, 1, channels, 2), _bias(rng, 2))))
            channels += 2
        elif kind == "add":
            layers.append(lrp.Add(lrp.Sequential(same, lrp.ReLU(), same), lrp.Identity()))
        elif kind == "leaky":
            layers.append(lrp.LeakyReLU(0.25))
        elif kind == "scale":
            layers.append(lrp.Scale(integers(rng, channels), _bias(rng, channels)))
    features = int(np.prod(lrp.Sequential(layers).output_shape((4, 5, 2))))
    hidden = [lrp.Linear(integers(rng, features, 4), _bias(rng, 4)), lrp.ReLU()] if draw(st.booleans()) else []
    out = lrp.Linear(integers(rng, 4 if hidden else features, 3), _bias(rng, 3))
    return lrp.Sequential([*layers, lrp.Flatten(), *hidden, lrp.Dropout(), out]), integers(rng, 4, 5, 2)


biases = st.sampled_from(["absorb", "ignore", "distribute"])
fractions = st.sampled_from([Fraction(1, 4), Fraction(1), Fraction(5, 2)])


@st.composite
def rules(draw):
    """A rule of every kind but zᴮ, whose box has to fit x, with exact parameters."""
    kind = draw(st.sampled_from([rule for rule in lrp.RULES if rule is not lrp.ZBox]))
    drawn = {"bias": biases, "eps": fractions, "alpha": fractions, "gamma": fractions, "renormalize": st.booleans()}
    given = {field.name: draw(drawn[field.name]) for field in dataclasses.fields(kind) if field.name in drawn}
    return kind(**(given | {"alpha": 2} if given.get("renormalize") else given))


@st.composite
def broken(draw, content):
    """A file with some bytes changed, left out or put in."""
    content = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content) - 1))
        how = draw(st.sampled_from(["flip", "set", "cut", "insert"]))
        if how == "flip":
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif how == "set":
            content[at] = draw(st.integers(0, 255))
        elif how == "cut":
            del content[at : at + draw(st.integers(1, 9))]
        else:
            content[at:at] = draw(st.binary(min_size=1, max_size=9))
        if not content:
            break
    return bytes(content)

"""Sums that are 0 in exact numbers, and a rounding remainder in floats: both give the same explanation."""

import math
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support import integers, rngs

import lrp_toolbox as lrp
from lrp_toolbox.modules import linear
from lrp_toolbox.rules import relprop
from lrp_toolbox.weights import as_weights

RULES = [lrp.Z(), lrp.Z(bias="distribute"), lrp.Epsilon(Fraction(1, 1000)), lrp.Gamma(Fraction(1, 4)), lrp.ZBox(-4, 4)]
OF_SIGNS = [lrp.AlphaBeta(2), lrp.AlphaBeta(1), lrp.ZPlus(), lrp.AlphaBeta(Fraction(3, 2), bias="ignore")]


def parts_of_one(rng, *shape):
    """Numbers that floats cannot hold, whose sums are often 0."""
    return integers(rng, *shape) / Fraction(int(rng.choice([3, 7, 10, 30])))


@st.composite
def nets(draw, most):
    """Layers of sums that cancel, up to so many, and two dense ones, on few small numbers.

    Max-pooling is the first of them, if at all. Behind a sum that cancels nearly, its ties are decided by more than rounding.
    """
    rng, channels, layers = draw(rngs()), 2, []
    for k in range(draw(st.integers(1, most))):
        kind = draw(st.sampled_from(["mean", "branches", "biased", "conv", "relu", "leaky", "scale"] + ["max"] * (k == 0)))
        layers += {
            "mean": [lrp.AvgPool(2, 1, 1)],
            "branches": [lrp.Add(lrp.Conv(parts_of_one(rng, 1, 1, channels, channels)), lrp.Identity())],
            "biased": [lrp.Conv(parts_of_one(rng, 2, 2, channels, 2), parts_of_one(rng, 2))],
            "conv": [lrp.Conv(parts_of_one(rng, 2, 2, channels, 2), padding=1)],
            "relu": [lrp.ReLU()],
            "leaky": [lrp.LeakyReLU(0.5)],
            "scale": [lrp.Scale(parts_of_one(rng, channels), parts_of_one(rng, channels))],
            "max": [lrp.MaxPool(2, 1)],
        }[kind]
    size = lrp.Sequential(layers).output_shape((5, 5, 2))
    n = int(np.prod(size))
    layers += [lrp.Flatten(), lrp.Linear(parts_of_one(rng, n, 3)), lrp.ReLU(), lrp.Linear(parts_of_one(rng, 3, 2))]
    return lrp.Sequential(layers), parts_of_one(rng, 5, 5, 2)


def require_agreement(net, x, rule, dtype, digits):
    if isinstance(rule, lrp.ZBox):
        rule = lrp.Composite([(lrp.First(1), rule), (lrp.Module, lrp.Z())])
    exact = lrp.explain(net, x, 0, rule)
    found = lrp.explain(net.map(lambda a: a.astype(dtype)), x.astype(dtype), 0, rule)
    largest = max(1, *(abs(float(e.arriving)) for e in exact.ledger), float(abs(exact.R).max()))
    np.testing.assert_allclose(found.R, exact.R.astype(float), atol=digits * largest)
    np.testing.assert_allclose(float(found.ledger.end), float(exact.ledger.end), atol=digits * largest)


@given(nets(most=4), st.sampled_from([*RULES, *OF_SIGNS]))
def test_double_precision_agrees_with_exact_numbers(case, rule):
    require_agreement(*case, rule, np.float64, 1e-9)


@given(nets(most=1), st.sampled_from(RULES))
def test_single_precision_agrees_with_exact_numbers(case, rule):
    require_agreement(*case, rule, np.float32, 2e-3)


@pytest.mark.parametrize("kind", [lrp.MaxPool, lrp.AdaptiveMaxPool])
def test_rounding_decides_no_tie_of_max_pooling(kind):
    """0.1 + 0.2 and 0.3 are the same number, written in floats as two. The first of several takes what the very largest is."""
    x = np.array([0.1 + 0.2, 0.3, 0.3 - 1e-12, -1.0]).reshape(2, 2, 1)
    assert x[0, 0, 0] != x[0, 1, 0]
    pool = kind(2) if kind is lrp.MaxPool else kind(1)
    R = pool.relprop(pool.trace(x), np.ones((1, 1, 1)), lrp.Z())
    np.testing.assert_array_equal(R.ravel(), [0.5, 0.5, 0, 0])
    first = pool.with_ties("first")
    np.testing.assert_array_equal(first.relprop(first.trace(x), np.ones((1, 1, 1)), lrp.Z()).ravel(), [1, 0, 0, 0])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("rule", [lrp.Z(), lrp.Epsilon(1e-3), lrp.Gamma(0.25)])
def test_a_remainder_is_not_divided_by(rule, dtype):
    """0.1 + 0.2 − 0.3 is about 1e-17 in float64 and 1e-8 in float32: the first output has nothing to divide by."""
    w = np.array([[1, 1, 1], [1, 0, 1], [1, 2, 1]], dtype)
    layer = lrp.Linear(w)
    tenths = [np.array([a / 10, b / 10, -(a + b) / 10], dtype) for a in range(1, 9) for b in range(1, 9)]
    x = next(x for x in tenths if layer.forward(x)[0] != 0)
    assert abs(layer.forward(x)[0]) < 1e-7
    R = np.array([1, 1, 1], dtype)
    plain, fast = relprop(rule, layer, x, R), layer.relprop(layer.trace(x), R, rule)
    np.testing.assert_allclose(plain, fast, rtol=1e-5)
    exact = lrp.Linear(w.astype(int) + np.full((3, 3), Fraction(0)))
    X = np.array([Fraction(round(10 * float(v)), 10) for v in x])
    expected = relprop(rule, exact, X, np.array([Fraction(1)] * 3))
    np.testing.assert_allclose(fast, expected.astype(float), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-150, 1e-20, 1.0, 1e20, 1e150])
def test_the_size_of_the_data_does_not_matter(scale):
    rng = np.random.default_rng(0)
    layer = lrp.Conv(rng.standard_normal((3, 3, 1, 4)), padding=1, groups=2)
    x = rng.standard_normal((5, 5, 2))
    R = rng.standard_normal((5, 5, 4))
    one = layer.relprop(layer.trace(x), R, lrp.Z())
    np.testing.assert_allclose(layer.relprop(layer.trace(x * scale), R, lrp.Z()), one, rtol=1e-9)


def test_a_small_sum_of_small_numbers_keeps_its_relevance():
    """Small is measured by the summands, not by the other outputs."""
    w = np.array([[1e-12, 1.0], [1e-12, 2.0]])
    e = lrp.explain(lrp.Linear(w), np.array([1.0, 2.0]), 0, lrp.Z())
    np.testing.assert_allclose(e.R, [1e-12, 2e-12])
    assert float(e.ledger.absorbed("zero_denominator")) == 0


@pytest.mark.parametrize(
    "rule", [lrp.Z(), lrp.Epsilon(0.1), lrp.Gamma(), lrp.AlphaBeta(2), lrp.AlphaBeta(2, bias="ignore"), lrp.ZPlus()]
)
@pytest.mark.parametrize("b", [None, np.zeros(1, np.float32)])
@pytest.mark.filterwarnings("ignore:overflow", "ignore:invalid value")
def test_an_overflow_is_not_taken_for_rounding(rule, b):
    """∞ − ∞ is NaN, and neither is 0."""
    first = lrp.Conv(np.full((1, 1, 3, 2), 1e30, np.float32))
    net = lrp.Sequential(first, lrp.ReLU(), lrp.Conv(np.array([[[[1e10], [-1e10]]]], np.float32), b))
    assert np.isnan(
        lrp.explain(net, np.ones((1, 1, 3), np.float32), target=None, start=np.ones((1, 1, 1), np.float32), composite=rule).y
    )
    up = lrp.Sequential(first, lrp.ReLU(), lrp.Conv(np.full((1, 1, 2, 1), 1e10, np.float32), b))
    assert np.isinf(
        lrp.explain(up, np.ones((1, 1, 3), np.float32), target=None, start=np.ones((1, 1, 1), np.float32), composite=rule).y
    )


@pytest.mark.filterwarnings("ignore:overflow")
def test_nothing_is_rounding_where_its_bound_overflows():
    """|x| |w| is beyond float32, and z_j is within."""
    x, w = np.full(2, 2.3e38, np.float32), np.array([[1], [-0.9]], np.float32)
    e = lrp.explain(lrp.Linear(w), x, None, lrp.Z(), start=np.ones(1, np.float32))
    np.testing.assert_allclose(e.R, [10, -9], rtol=1e-5)


def test_an_eps_that_is_smaller_than_what_can_be_divided_by_is_no_denominator():
    x, w = np.ones(2, np.float32), np.array([[1], [-1]], np.float32)
    e = lrp.explain(lrp.Linear(w), x, None, lrp.Epsilon(1e-33), start=np.ones(1, np.float32))
    np.testing.assert_array_equal(e.R, 0)
    assert e.ledger.absorbed("zero_denominator") == 1


@pytest.mark.parametrize("rule", [lrp.Z(), lrp.AlphaBeta(1), lrp.AlphaBeta(2), lrp.Gamma(0.5)], ids=repr)
def test_a_large_dense_layer_is_not_copied_to_know_how_large_its_sums_are(rule):
    w = np.random.default_rng(0).standard_normal((6000, 6000), dtype=np.float32)
    net = lrp.Sequential(lrp.Linear(w))
    tracemalloc.start()
    try:
        lrp.explain(net, w[0], 0, rule)
        assert tracemalloc.get_traced_memory()[1] < w.nbytes / 2
    finally:
        tracemalloc.stop()


@given(arrays(np.float64, (7, 3), elements=st.integers(-1000, 1000)), st.sampled_from([1e-200, 1, 1e200]))
def test_lengths_in_pieces_are_those_of_the_whole(w, unit):
    w = w * unit
    layer = lrp.Linear(w)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "PIECE", 6)  # two rows at a time
        np.testing.assert_allclose(layer._lengths_of(as_weights(w)), [math.hypot(*column) for column in w.T], rtol=1e-14)

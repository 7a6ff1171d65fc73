"""The ledger closes: with equality in Fractions, to rounding in floats, for random nets with branches and pools."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from support import integers

import lrp_toolbox as lrp
from lrp_toolbox.kernels import divide
from lrp_toolbox.terms import ZERO, Bias, Input, Weight
from lrp_toolbox.testing import cases, composites, nets, rules, sequentials
from lrp_toolbox.weights import ONE, Derived


@settings(max_examples=100)
@given(cases(nets()), composites())
def test_every_unit_of_relevance_is_found_again_exactly(case, composite):
    net, x, _ = case
    e = lrp.explain(net, x, [0, 2], composite)
    assert e.R.shape == (2, *x.shape)
    reached = e.R.reshape(2, -1).sum(axis=1)
    absorbed = sum(e.ledger.absorbed(reason) for reason in ("bias", "eps", "zero_denominator", "padding"))
    assert (reached + absorbed == e.y[[0, 2]]).all()
    assert (e.ledger.end == reached).all()
    assert (e.ledger.start == e.y[[0, 2]]).all()
    for page in e.ledger:
        assert (page.rounding == 0).all()
        assert all(isinstance(v, (Fraction, int)) for v in page.arriving.flat)


@given(cases(nets()))
def test_where_nothing_can_take_relevance_it_is_conserved(case):
    """Eq. 1's own promise, layer by layer, under ♭: no bias, no ε, and every input counts."""
    net, x, _ = case
    e = lrp.explain(net, x, 1, lrp.Flat())
    assert e.R.sum() == e.y[1] - e.ledger.absorbed("padding") - e.ledger.absorbed("zero_denominator")
    assert e.ledger.absorbed("bias") == e.ledger.absorbed("eps") == 0


@given(cases(sequentials()), rules())
def test_floats_close_to_rounding(xp, case, rule):
    """To some ulps of Σ |z_ij s_j| over all layers: what is added up, signs aside."""
    net, x, _ = case
    for dtype in ("float64", "float32"):
        there, X = net.astype(dtype).to(xp), xp.asarray(x.astype(dtype))
        e = lrp.explain(there, X, 0, rule)
        size = sum_of_sizes(net.astype(dtype), x.astype(dtype), rule)
        if np.isfinite(size):  # a float may leave its range where a Fraction does not
            assert abs(float(e.ledger.rounding)) <= 50 * np.finfo(dtype).eps * size


def sum_of_sizes(net, x, rule):
    """Σ_j |R_j| of the output and Σ_ij |z_ij s_j| of all layers."""
    e = lrp.explain(net, x, 0, rule, keep=["*"])
    size = float(abs(e.ledger.start))
    with np.errstate(all="ignore"):
        for name, layer, trace in net.walk_trace(net.trace(x[None, None])):
            R, own = e.layers[name], e.rules[name]
            size += float(abs(R.astype(np.float64)).sum())
            if isinstance(layer, lrp.LinearModule) and isinstance(own, lrp.RULES):
                size += sum_of_contributions(layer, own, trace.x[0, 0], R)
    return size


def sum_of_contributions(layer, rule, x, R):
    size = 0.0
    b = ZERO if layer.b is None or rule.bias == "ignore" else Bias(layer.b)
    for part in rule.parts(Input(x), Weight(layer.w), b):
        b_j = 0 if part.b is ZERO else part.b.array
        s = abs(divide(R, sum(layer.apply(x_t.array, w_t.weights) for x_t, w_t in part.z) + b_j, rule.eps))
        size += float((s * (abs(b_j) + float(rule.eps))).sum())
        for x_t, w_t in part.z:
            sizes = w_t.weights if w_t.weights is ONE or layer.w is None or layer.w is ONE else Derived(abs, w_t.weights)
            size += float((abs(x_t.array) * layer.apply_T(s, sizes, x_t.array.shape)).sum())
    return size


def test_the_ledger_prints_and_can_be_looked_up():
    rng = np.random.default_rng(0)
    net = lrp.Sequential(lrp.Linear(integers(rng, 4, 3), integers(rng, 3)), lrp.ReLU(), lrp.Linear(integers(rng, 3, 2)))
    e = lrp.explain(net, integers(rng, 2, 4), [0, 1], lrp.Epsilon(Fraction(1, 2)))
    assert len(e.ledger) == 3
    assert e.ledger.start.shape == (2, 2)
    assert e.ledger[0].start.shape == (2,)
    assert e.ledger[0, 1].entry("linear1").bias == e.ledger.entry("linear1").bias[0, 1]
    lines = str(e.ledger[0, 1]).splitlines()
    assert [line.split()[0] for line in lines] == ["layer", "linear2", "linear1", "total"]
    assert lines[0].split() == [
        "layer",
        "rule",
        "arriving",
        "passed",
        "bias",
        "ε",
        "zero",
        "denominator",
        "padding",
        "rounding",
    ]
    assert lines[1].split()[-1] == "·"  # in Fractions, rounding is 0
    padded = lrp.Sequential(lrp.Pad(1), lrp.ReLU(), lrp.Conv(integers(rng, 2, 2, 1, 1)), lrp.Flatten())
    lines = str(lrp.explain(padded, integers(rng, 2, 2, 1), 0, lrp.Flat()).ledger).splitlines()
    assert [line.split()[0] for line in lines] == ["layer", "conv1", "pad1", "total"]  # what loses relevance has a row
    with pytest.raises(KeyError, match="no layer 'x' in this ledger; there are linear2, relu1, linear1"):
        e.ledger.entry("x")
    with pytest.raises(ValueError, match="reason: expected one of bias, eps, zero_denominator, padding, got 'gone'"):
        e.ledger.absorbed("gone")

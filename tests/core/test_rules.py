"""Every rule in every layer against the explicit matrix of z_ij: with equality in Fractions, and so in floats."""

import dataclasses
import inspect
from fractions import Fraction

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lrp_toolbox as lrp
from lrp_toolbox.context import Context
from lrp_toolbox.kernels import divide
from lrp_toolbox.ledger import Recorder
from lrp_toolbox.rules import relprop
from lrp_toolbox.testing import ADDING, MAXIMA, WEIGHTED, Case, cases, layers, rules

weighted_cases, adding_cases, max_cases = (cases(layers(*kinds)) for kinds in (WEIGHTED, ADDING, MAXIMA))


def by_matrix(rule, case: Case, only=slice(None), **more):
    """R of the inputs, and what is lost to bias, ε, zero denominators and padding, on the explicit matrix.

    `only`: some of the outputs.
    """
    options = {k: getattr(rule, k) for k in ("eps", "alpha", "gamma", "bias", "renormalize") if hasattr(rule, k)}
    layer, x, R = case
    (W, M), b = oracle.matrix(layer, x.shape), oracle.bias(layer, x.shape)
    name, b_j = type(rule).__name__.lower(), None if b is None else b[only]
    R_in, lost = oracle.relprop(name, x.reshape(-1), W[:, only], M[:, only], b_j, R.reshape(-1)[only], **options, **more)
    return R_in.reshape(x.shape), [sum(kind) for kind in zip(*lost, strict=True)]


def by_toolbox(rule, case: Case):
    recorder = Recorder(lead=0)
    R_in = case.module.relprop(case.module.trace(case.x), case.R, Context(rule, recorder, name="layer"))
    return R_in, recorder.entries[0]


@given(weighted_cases, rules())
def test_weighted_layers_follow_the_formulas_exactly(case, rule):
    expected, lost = by_matrix(rule, case)
    found, page = by_toolbox(rule, case)
    assert (found == expected).all()
    assert all(isinstance(r, Fraction) for r in found.flat)
    assert page.arriving == case.R.sum()
    assert page.passed == expected.sum()
    assert [page.bias, page.eps, page.zero_denominator, page.padding] == lost
    assert page.rounding == 0


@given(adding_cases, rules())
def test_pooling_and_scaling_share_in_proportion_or_evenly(case, rule):
    """In proportion whatever the rule, with ε if it is asked for, unless it is ♭."""
    kept = isinstance(rule, (lrp.Z, lrp.Epsilon, lrp.Flat))
    expected, _ = by_matrix(rule if kept else lrp.Z(bias=rule.bias), case)
    found, page = by_toolbox(rule, case)
    assert (found == expected).all()
    assert page.rounding == 0


def winners_of(case):
    layer = case.module
    return oracle.max_pool_winners(case.x, layer.kernel, layer.stride, layer.padding, layer.ceil_mode, layer.ties)


@given(max_cases, rules())
def test_max_pooling_gives_to_winners_or_evenly(case, rule):
    y, shares = winners_of(case)
    assert (case.module.forward(case.x) == y).all()
    found, page = by_toolbox(rule, case)
    if isinstance(rule, lrp.Flat):
        expected, _ = by_matrix(rule, case)
    else:
        expected = np.full((case.x[..., 0].size, case.x.shape[-1]), Fraction(0))
        R = case.R.reshape(-1, case.x.shape[-1])
        for place, window, channel, winners in shares:
            expected[place, channel] += R[window, channel] / winners
        expected = expected.reshape(case.x.shape)
    assert (found == expected).all()
    assert page.passed == page.arriving


@given(weighted_cases)
def test_box_rule(case):
    low, high = Fraction(-4), Fraction(7, 2)
    expected, _ = by_matrix(lrp.ZBox(low, high), case, low=[low] * case.x.size, high=[high] * case.x.size)
    found = case.module.relprop_zbox(case.x, case.R, low, high)
    assert (found == expected).all()


def sum_of_sizes(rule, case):
    """Σ_ij |R_ij|, what goes from each output to each input, on the columns of the explicit matrix."""
    return float(sum(abs(r) for j in range(case.R.size) for r in by_matrix(rule, case, only=[j])[0].flat))


@given(weighted_cases, rules())
def test_floats_and_other_array_modules_agree_with_fractions(xp, case, rule):
    """Integers are exact in floats, so that only divisions round, and products of what they give: a few ulps of Σ |R_ij|."""
    exact, _ = by_toolbox(rule, case)
    size = sum_of_sizes(rule, case)
    for dtype in ("float64", "float32"):
        layer = case.module.astype(dtype).to(xp)
        x, R = (xp.asarray(a.astype(dtype)) for a in (case.x, case.R))
        found = layer.relprop(layer.trace(x), R, rule)
        assert found.dtype == x.dtype
        np.testing.assert_allclose(lrp.to_numpy(found), exact.astype(dtype), rtol=0, atol=20 * np.finfo(dtype).eps * size)


@given(weighted_cases)
def test_methods_are_the_rules(case):
    layer, x, R = case.module, case.x, case.R

    def by_rule(rule):
        return layer.relprop(layer.trace(x), R, rule)

    for found, rule in [
        (layer.relprop_z(x, R), lrp.Z()),
        (layer.relprop_z(x, R, bias="ignore"), lrp.Z(bias="ignore")),
        (layer.relprop_epsilon(x, R), lrp.Epsilon(1e-6)),
        (layer.relprop_epsilon(x, R, eps=2), lrp.Epsilon(2)),
        (layer.relprop_alphabeta(x, R, alpha=1), lrp.AlphaBeta(1)),
        (layer.relprop_alphabeta(x, R, alpha=2, renormalize=True), lrp.AlphaBeta(2, renormalize=True)),
        (layer.relprop_zplus(x, R), lrp.AlphaBeta(1)),
        (layer.relprop_gamma(x, R), lrp.Gamma(0.25)),
        (layer.relprop_gamma(x, R, gamma=1), lrp.Gamma(1)),
        (layer.relprop_flat(x, R), lrp.Flat()),
        (layer.relprop_wsquare(x, R), lrp.WSquare()),
    ]:
        assert (found == by_rule(rule)).all()


METHODS = [name for name in dir(lrp.Module) if name.startswith("relprop_")]


@pytest.mark.parametrize("method", METHODS)
def test_methods_have_the_parameters_of_their_rules_and_the_same_defaults(method):
    """A rule that somebody adds needs no method of its own."""
    [rule] = [rule for rule in lrp.RULES if rule.__name__.lower() == method.removeprefix("relprop_")]
    asked = list(inspect.signature(getattr(lrp.Module, method)).parameters.values())[3:]
    assert [p.name for p in asked] == [f.name for f in dataclasses.fields(rule)]
    if rule is not lrp.ZBox:  # there are no usual bounds
        assert [p.default for p in asked] == [f.default for f in dataclasses.fields(rule)]


@given(cases(layers(lrp.Linear)))
def test_structure_that_says_x_is_not_negative_changes_nothing(case):
    """Behind a ReLU half of the αβ terms are left out, because they are known to be 0."""
    x = abs(case.x)
    for rule in (lrp.Z(), lrp.AlphaBeta(2), lrp.ZPlus(), lrp.Gamma(1), lrp.Epsilon(1)):
        plain = case.module.relprop(case.module.trace(x), case.R, rule)
        known = case.module.relprop(case.module.trace(x, nonneg=True), case.R, rule)
        assert (plain == known).all()


def test_sign_of_zero_is_plus():
    """Eq. 2 with sign(0) = 0 would divide by zero."""
    layer = lrp.Linear(np.array([[1.0], [1.0]]))
    x, R = np.array([1.0, -1.0]), np.array([3.0])
    np.testing.assert_array_equal(layer.relprop_epsilon(x, R, eps=0.5), [6.0, -6.0])


def test_z_rule_at_zero_gives_nothing_and_the_ledger_has_it():
    layer = lrp.Linear(np.array([[1.0], [1.0]]))
    recorder = Recorder(lead=0)
    R_in = layer.relprop(layer.trace(np.array([1.0, -1.0])), np.array([3.0]), Context(lrp.Z(), recorder))
    np.testing.assert_array_equal(R_in, [0.0, 0.0])
    assert recorder.entries[0].zero_denominator == 3.0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_denominator_is_too_small_to_be_finite(dtype):
    """A z_j of subnormal size is nothing to divide by; 1e-16 added to it would be no help."""
    for z in (0, 1e-45, 1e-39, 1e-33, 5e-324, 1e-310, 1e-300):
        s = divide(np.array([1e4, -1e4], dtype), np.array([z, -z], dtype))
        assert np.isfinite(s).all()
    np.testing.assert_allclose(divide(np.array([1.0], dtype), np.array([1e-20], dtype)), [1e20], rtol=1e-6)


def test_windows_in_the_padding_have_no_one_to_give_to():
    exact = np.vectorize(Fraction, otypes=[object])
    layer = lrp.Conv(exact(np.ones((1, 1, 1, 1), int)), exact([2]), padding=1)
    x, R = exact(np.ones((1, 1, 1), int)), exact(np.ones((3, 3, 1), int))
    for rule, reason in ((lrp.Flat(), "padding"), (lrp.Z(), "bias"), (lrp.Z(bias="distribute"), "padding")):
        recorder = Recorder(lead=0)
        R_in = layer.relprop(layer.trace(x), R, Context(rule, recorder))
        lost = recorder.entries[0]
        assert getattr(lost, reason) == (
            8 if reason == "padding" else 8 + Fraction(2, 3)
        )  # the window in the middle has 1 of 3
        assert R_in.sum() + lost.absorbed == 9


@pytest.mark.parametrize(
    ("rule", "dead"),
    [
        *((rule, 1) for rule in (lrp.Z(), lrp.AlphaBeta(2, renormalize=True), lrp.ZPlus(), lrp.Gamma(1))),
        *((lrp.Gamma(1, bias=bias), 1) for bias in ("ignore", "distribute")),
        (lrp.AlphaBeta(2), 0),  # 2 − 1, and −1 of the output that has no negative part
        *((rule, 0) for rule in (lrp.Flat(), lrp.WSquare(), lrp.ZBox(-9, 9))),
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", [lrp.Conv, lrp.ConvTranspose])
def test_without_a_bias_every_rule_loses_to_padding_what_sees_only_padding(xp, rule, dead, kind):
    """And to a zero denominator what sees inputs whose sum is 0."""
    pads = {lrp.Conv: {"padding": 1}, lrp.ConvTranspose: {"stride": 2, "output_padding": 1}}[kind]
    for dtype in (np.float64, np.float32):
        w, x = xp.asarray(np.ones((1, 1, 1, 1), dtype)), xp.asarray(np.array([[[1], [0]]], dtype))
        layer = kind(w, **pads)
        size = layer.output_shape((1, 2, 1))
        recorder = Recorder(lead=0)
        layer.relprop(layer.trace(x), xp.ones(size, dtype=x.dtype), Context(rule, recorder))
        lost = recorder.entries[0]
        assert (float(lost.padding), float(lost.zero_denominator)) == (np.prod(size) - 2, dead)
        assert float(lost.bias) == 0


def test_bias_is_absorbed_in_two_halves_and_not_twice():
    """W = (1, −1), b = −1, x = (1, 1): iNNvestigate 2.1.2 gives (−1e7, 0) for α = 1, the full b in both denominators."""
    layer = lrp.Linear(np.array([[1.0], [-1.0]]), np.array([-1.0]))
    x, R = np.ones(2), np.ones(1)
    np.testing.assert_array_equal(layer.relprop_alphabeta(x, R, alpha=1), [1.0, 0.0])
    np.testing.assert_array_equal(layer.relprop_alphabeta(x, R, alpha=2), [2.0, -0.5])
    positive = lrp.Linear(np.ones((2, 1)))  # nothing has the weight β: without renormalising, α R arrives
    np.testing.assert_array_equal(positive.relprop_alphabeta(np.ones(2), np.ones(1)), [1.0, 1.0])


def test_negative_inputs_count_by_the_sign_of_the_product():
    """Captum 0.9.0 takes the sign of the weight."""
    layer = lrp.Linear(np.array([[-2.0], [1.0]]))
    x, R = np.array([-1.0, 1.0]), np.array([3.0])
    np.testing.assert_array_equal(layer.relprop_zplus(x, R), [2.0, 1.0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lrp.Epsilon(-1), "eps: expected a finite number ≥ 0, got -1"),
        (lambda: lrp.Epsilon(float("nan")), "eps: expected a finite number"),
        (lambda: lrp.AlphaBeta(-0.5), "alpha: expected a finite number ≥ 0, got -0.5"),
        (lambda: lrp.AlphaBeta(float("inf")), "alpha: expected a finite number"),
        (lambda: lrp.Gamma(-1), "gamma: expected a finite number ≥ 0"),
        (lambda: lrp.Z(bias="keep"), "bias: expected 'absorb', 'ignore' or 'distribute', got 'keep'"),
        (lambda: lrp.ZBox(0, None), "high: expected a number or an array of bounds, got None"),
    ],
)
def test_wrong_parameters_refuse_on_construction(make, message):
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        make()


@pytest.mark.parametrize("wrong", ["1", None, True, [1], np.ones(2)])
def test_parameters_are_numbers(wrong):
    with pytest.raises(TypeError, match="alpha: expected a number"):
        lrp.AlphaBeta(wrong)


@given(st.one_of(weighted_cases, adding_cases), st.booleans(), st.booleans(), st.sampled_from([1e-6, 0.25, 3]))
def test_stabilisers_of_other_toolboxes(case, clip, relative, eps):
    """z + ε sign(z) or sign(z) max(|z|, ε), and ε perhaps times the root mean square of z, written out."""
    layer = case.module.map(lambda a: a.astype(float))
    x, R = case.x.astype(float), case.R.astype(float)
    W, b = oracle.matrix(case.module, x.shape)[0].astype(float), oracle.bias(case.module, x.shape)
    z = x.reshape(-1) @ W + (0 if b is None else b.astype(float))
    outputs = z.reshape(R.shape)
    mean = np.mean(outputs**2, axis=tuple(range(-layer.output_axes, 0)), keepdims=True)  # a Scale has channels only
    size = eps * np.broadcast_to(np.sqrt(mean), R.shape).reshape(-1) if relative else eps
    sign = np.where(z >= 0, 1, -1)
    below = sign * np.maximum(abs(z), size) if clip else z + size * sign
    s = np.divide(R.reshape(-1), below, out=np.zeros_like(z), where=below != 0)
    rule = lrp.Epsilon(lrp.Stabilizer(eps, clip, relative))
    recorder = Recorder(lead=0)
    R_in = layer.relprop(layer.trace(x), R, Context(rule, recorder, name="layer"))
    scale = 1e-12 + abs(x.reshape(-1)[:, None] * W * s).sum()
    np.testing.assert_allclose(R_in.reshape(-1), x.reshape(-1) * (W @ s), atol=1e-9 * scale)
    np.testing.assert_allclose(relprop(rule, layer, x, R), R_in, atol=1e-9 * scale)
    np.testing.assert_allclose(recorder.entries[0].eps, (s * (below - z)).sum(), atol=1e-9 * (scale + abs(R).sum()))
    assert abs(recorder.entries[0].rounding) <= 1e-9 * (scale + abs(R).sum() + abs(s * z).sum())


def test_stabilisers_in_a_whole_net_close_the_ledger(xp):
    rng = np.random.default_rng(0)
    net = lrp.Sequential(
        lrp.Conv(rng.standard_normal((3, 3, 2, 4)), rng.standard_normal(4)), lrp.ReLU(), lrp.AvgPool(2), lrp.Flatten(),
        lrp.Linear(rng.standard_normal((16, 3)), rng.standard_normal(3)),
    )  # fmt: skip
    x = rng.standard_normal((5, 6, 6, 2))
    rule = lrp.Epsilon(lrp.Stabilizer(0.25, relative=True))
    e = lrp.explain(net.to(xp), xp.asarray(x), [0, 2], rule)
    np.testing.assert_allclose(lrp.to_numpy(e.ledger.rounding), 0, atol=1e-12)
    alone = lrp.explain(net, x[2], [0, 2], rule)
    np.testing.assert_allclose(lrp.to_numpy(e.R)[2], alone.R, rtol=1e-9, atol=1e-12)  # each sample by its own outputs
    assert "Stabilizer(eps=0.25, clip=False, relative=True)" in str(e.rules)


@pytest.mark.parametrize("wrong", [0, -1, True, "1", float("inf"), float("nan")])
def test_a_stabiliser_needs_a_number(wrong):
    with pytest.raises(ValueError, match="eps: expected a finite number > 0"):
        lrp.Stabilizer(wrong)


def test_a_relative_stabiliser_needs_floats():
    layer = lrp.Linear(np.array([[Fraction(1)]], dtype=object))
    x = np.array([Fraction(2)], dtype=object)
    with pytest.raises(TypeError, match="a relative stabiliser needs floats"):
        layer.relprop_epsilon(x, x, lrp.Stabilizer(1, relative=True))


@pytest.mark.parametrize(
    ("rule", "name"),
    [
        (lrp.Epsilon(1e300), "eps: 1e[+]300"),
        (lrp.Epsilon(1e-300), "eps: 1e-300"),
        (lrp.Epsilon(lrp.Stabilizer(1e300)), "eps: Stabilizer"),
        (lrp.AlphaBeta(1e300), "alpha: 1e[+]300"),
        (lrp.Gamma(1e300), "gamma: 1e[+]300"),
    ],
)
def test_numbers_that_the_dtype_cannot_hold_are_an_error(rule, name):
    """And not a warning and infinities, nor a silent 0."""
    rng = np.random.default_rng(0)
    net, x = lrp.Sequential(lrp.Linear(rng.standard_normal((4, 3)))), rng.standard_normal(4)
    assert np.isfinite(lrp.explain(net, x, 0, lrp.Epsilon(1e-300)).R).all()
    with pytest.raises(ValueError, match=f"{name}.* cannot be written in float32"):
        lrp.explain(net.astype(np.float32), x.astype("f4"), 0, rule)


def test_numpy_scalars_become_plain_numbers_and_change_no_dtype():
    rule = lrp.AlphaBeta(np.float64(1.5))
    assert type(rule.alpha) is float
    assert type(lrp.Epsilon(np.int64(1)).eps) is int
    layer = lrp.Linear(np.ones((2, 2), "float32"))
    x = np.ones(2, "float32")
    assert layer.relprop(layer.trace(x), x, rule).dtype == np.float32


def test_rules_are_comparable_printable_data():
    assert lrp.AlphaBeta(2) == lrp.AlphaBeta(alpha=2) != lrp.AlphaBeta(1)
    assert len({lrp.Epsilon(0.1), lrp.Epsilon(0.1), lrp.Epsilon(0.2), lrp.Z()}) == 3
    assert repr(lrp.Epsilon(0.1)) == "Epsilon(eps=0.1)"
    assert repr(lrp.AlphaBeta(1, bias="ignore")) == "AlphaBeta(alpha=1, bias='ignore')"
    assert lrp.ZBox(np.array([0.0, 1.0]), 2) == lrp.ZBox(np.array([0.0, 1.0]), 2) != lrp.ZBox(np.array([0.0, 0.0]), 2)
    assert repr(lrp.ZBox(np.array([0.0, 1.0]), 2)) == "ZBox(low=[0.0, 1.0], high=2)"
    with pytest.raises(AttributeError):
        lrp.Epsilon(0.1).eps = 0.2


def test_box_rule_refuses_what_lies_outside():
    layer = lrp.Linear(np.ones((2, 1)))
    x, R = np.array([0.0, 2.0]), np.ones(1)
    with pytest.raises(ValueError, match="x: zᴮ expects low ≤ x ≤ high"):
        layer.relprop_zbox(x, R, 0.0, 1.0)
    with pytest.raises(TypeError, match="low: expected float64 of numpy"):
        layer.relprop_zbox(x, R, np.zeros(2, "float32"), 3.0)

"""What must hold of whole nets, whatever their weights."""

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from support import integers, rngs, small_cnn

import lrp_toolbox as lrp
from lrp_toolbox.testing import cases, rules, sequentials

SHAPE = (12, 12, 3)
RULES = [
    *(rule() for rule in lrp.RULES if rule is not lrp.ZBox),
    lrp.Epsilon(0.1),
    lrp.AlphaBeta(1),
    lrp.AlphaBeta(2, renormalize=True),
    lrp.Z(bias="ignore"),
    lrp.Epsilon(0.1, bias="distribute"),
    lrp.lrp_cmp(1),
    lrp.lrp_cmp(2, flat=0, first=lrp.ZBox(-9, 9)),
    lrp.lrp_cmp(2, flat=2, pooling=True),
    lrp.lrp_cmp(flat="all"),
]
each_rule = pytest.mark.parametrize("rule", RULES, ids=str)


@given(cases(sequentials()), rngs())
def test_z_is_gradient_times_input_in_relu_nets(drawn, rng):
    """Sec. II-A: with the bias kept in z_j, R_i = x_i · ∂f/∂x_i, exactly, where no z_j happens to cancel to 0.

    Inputs with many digits see to that: a z_j is 0 only if every z_ij is, and then both sides give nothing.
    """
    net, x, _ = drawn
    assume(not any(isinstance(m, lrp.LeakyReLU) for m in net))  # which passes relevance whole, but slopes gradients
    x = x + integers(rng, *x.shape, least=1, most=10**9) / Fraction(10**9 + 7)
    trace = net.trace(x)
    one = np.array([Fraction(0), Fraction(1), Fraction(0)], dtype=object)
    R = net.relprop(trace, trace.y * one, lrp.Z())
    assert (x * net.gradient(trace, one) == R).all()


@each_rule
def test_linear_in_relevance(rule, xp):
    rng = np.random.default_rng(1)
    net, x = small_cnn(rng).to(xp), xp.asarray(rng.standard_normal(SHAPE))
    a, b = (xp.asarray(rng.standard_normal(5)) for _ in range(2))

    def R(start):
        return lrp.to_numpy(lrp.explain(net, x, None, rule, start=start).R)

    np.testing.assert_allclose(R(2 * a - 3 * b), 2 * R(a) - 3 * R(b), rtol=1e-8, atol=1e-8 * abs(R(a)).max())


@each_rule
def test_batch_is_stack_and_targets_are_loop(rule, xp):
    rng = np.random.default_rng(2)
    net, x = small_cnn(rng).to(xp), rng.standard_normal((3, *SHAPE))
    together = lrp.explain(net, xp.asarray(x), [0, "top", 3], rule, keep=["conv2", "branch/*"])
    for n in range(3):
        alone = lrp.explain(net, xp.asarray(x[n]), [0, "top", 3], rule)
        for t, target in enumerate([0, "top", 3]):
            single = lrp.explain(net, xp.asarray(x[n]), target, rule, keep=["conv2"])
            for found in (together.R[n, t, ...], alone.R[t, ...]):
                scale = abs(lrp.to_numpy(single.R)).max()
                np.testing.assert_allclose(lrp.to_numpy(found), lrp.to_numpy(single.R), rtol=1e-7, atol=1e-9 * scale)
            assert int(single.target) == alone.target[t] == together.target[n, t]
            np.testing.assert_allclose(
                lrp.to_numpy(together.layers["conv2"][n, t, ...]), lrp.to_numpy(single.layers["conv2"]), rtol=1e-7, atol=1e-9
            )


def arrays_of(trace):
    xs = trace.x if isinstance(trace.x, tuple) else (trace.x,)
    own = {id(a): a for a in (*xs, trace.y, trace.z) if a is not None}
    return own | {i: a for child in trace.children for i, a in arrays_of(child).items()}


@each_rule
def test_a_trace_serves_many_walks_and_is_freed_on_the_last(rule):
    """Unneeded arrays are freed: y of a layer whose rule does not need it, and all of them on a walk that releases."""
    rng = np.random.default_rng(7)
    net, x = small_cnn(rng), rng.standard_normal(SHAPE)
    table = lrp.explain(net, x, 0, rule).rules
    context = table.context()
    plain, trace = net.trace(x), net.trace(x, context=context)
    R = rng.standard_normal(5)
    expected = net.relprop(plain, R, context)
    assert len(arrays_of(plain)) > len(net)
    for other in (lrp.Z(), lrp.Gamma(), lrp.AlphaBeta(2), lrp.AlphaBeta(3, renormalize=True), lrp.Flat()):
        np.testing.assert_allclose(net.relprop(trace, R, other), net.relprop(plain, R, other), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(net.gradient(trace, R), net.gradient(plain, R))
    for _ in range(2):
        np.testing.assert_allclose(net.relprop(trace, R, context), expected, rtol=1e-9, atol=1e-12)
    found = net.relprop(trace, R, table.context(release=True))
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
    assert arrays_of(trace) == {}


def test_each_layer_holds_one_array_more_and_two_for_alphabeta():
    """ReLU's output and, where they come with the forward pass, two denominators; neither y of the convolution nor x of the
    ReLU, and nothing that the walk back has passed."""
    rng = np.random.default_rng(8)
    x = rng.standard_normal((40, 40, 16))

    def most(depth, rule):
        layers = [m for _ in range(depth) for m in (lrp.Conv(rng.standard_normal((3, 3, 16, 16)) / 9, padding=1), lrp.ReLU())]
        net = lrp.Sequential(*layers, lrp.Flatten(), lrp.Linear(rng.standard_normal((x.size, 2)) / 100))
        tracemalloc.start()
        lrp.explain(net, x, 0, rule)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak / x.nbytes

    most(20, lrp.AlphaBeta(2))  # scratch of the threads
    for rule, arrays in ((lrp.Flat(), 1), (lrp.AlphaBeta(1), 1), (lrp.Epsilon(), 2), (lrp.AlphaBeta(2), 3)):
        assert most(40, rule) - most(20, rule) == pytest.approx(20 * arrays, abs=5)


@each_rule
def test_array_type_dtype_and_arguments_are_kept(rule, xp):
    rng = np.random.default_rng(3)
    for dtype in ("float32", "float64"):
        net = small_cnn(np.random.default_rng(3), dtype).to(xp)
        x = xp.asarray(rng.standard_normal((2, *SHAPE)).astype(dtype))
        before = [lrp.to_numpy(a).copy() for a in (x, *net.parameters())]
        e = lrp.explain(net, x, [1, 2], rule, keep=["*"])
        for a in (e.R, e.y, e.heatmap, *e.layers.values()):
            assert type(a) is type(x)
            assert a.dtype == x.dtype
        for a, b in zip((x, *net.parameters()), before, strict=True):
            np.testing.assert_array_equal(lrp.to_numpy(a), b)


@each_rule
def test_float32_is_close_to_float64(rule):
    """The bound follows from the dtype: 2^-24 of rounding, by the condition of the nets' denominators."""
    rng = np.random.default_rng(4)
    net, x = small_cnn(rng, "float32"), rng.standard_normal((4, *SHAPE)).astype("float32")
    R32 = lrp.explain(net, x, 0, rule).R
    R64 = lrp.explain(net.astype(np.float64), x.astype(np.float64), 0, rule).R
    for a, b in zip(R32, R64, strict=True):
        assert abs(a - b).max() <= 2e-3 * abs(b).max()


@pytest.mark.parametrize("factor", [0.125, 8.0])
@pytest.mark.parametrize("rule", [r for r in RULES if not isinstance(r, lrp.Epsilon)][:8], ids=str)
def test_relevance_does_not_depend_on_the_unit_of_the_input(rule, factor):
    """x in other units, and the first layer's weights to match: the same function, the same shares of it."""
    rng = np.random.default_rng(5)
    net, x = small_cnn(rng), rng.standard_normal(SHAPE)
    first = net["conv1"]
    scaled = lrp.Sequential([("conv1", lrp.Conv(first.w / factor, first.b, padding=1)), *list(net.items())[1:]])
    R, R_scaled = lrp.explain(net, x, 0, rule).R, lrp.explain(scaled, x * factor, 0, rule).R
    np.testing.assert_allclose(R_scaled, R, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_relevance_grows_with_the_output(factor):
    """Twice the last weights, twice the logit, twice its relevance."""
    rng = np.random.default_rng(6)
    net, x = small_cnn(rng), rng.standard_normal(SHAPE)
    last = net["fc2"]
    louder = lrp.Sequential([*list(net.items())[:-1], ("fc2", lrp.Linear(last.w * factor, last.b * factor))])
    for rule in (lrp.Z(), lrp.AlphaBeta(2), lrp.ZPlus(), lrp.Flat(), lrp.Gamma()):
        np.testing.assert_allclose(
            lrp.explain(louder, x, 0, rule).R, factor * lrp.explain(net, x, 0, rule).R, rtol=1e-9, atol=1e-12
        )


@settings(max_examples=25)
@given(rngs(), rules())
def test_a_module_that_stands_twice_is_right(rng, rule):
    """As right as two modules with the same weights."""
    w, b = integers(rng, 3, 3, 2, 2), integers(rng, 2)
    conv, relu = lrp.Conv(w, b, padding=1), lrp.ReLU()
    dense = lrp.Linear(integers(rng, 18, 2))
    shared = lrp.Sequential(conv, relu, conv, lrp.Add(conv, conv), relu, conv, lrp.Flatten(), dense)

    def twin():
        return lrp.Conv(w.copy(), b.copy(), padding=1)

    apart = lrp.Sequential(twin(), lrp.ReLU(), twin(), lrp.Add(twin(), twin()), lrp.ReLU(), twin(), lrp.Flatten(), dense)
    x = integers(rng, 3, 3, 2)
    for composite in (rule, lrp.lrp_cmp(2, flat=2)):
        assert (lrp.explain(shared, x, 0, composite).R == lrp.explain(apart, x, 0, composite).R).all()


def test_sixteen_threads_on_one_net_give_sixteen_right_heatmaps():
    rng = np.random.default_rng(7)
    net, x = small_cnn(rng, "float32"), rng.standard_normal((16, *SHAPE)).astype("float32")
    alone = [lrp.explain(net, x[n], n % 5).R for n in range(16)]
    with ThreadPoolExecutor(16) as pool:
        for _ in range(5):
            together = list(pool.map(lambda n: lrp.explain(net, x[n], n % 5).R, range(16)))
            for a, b in zip(alone, together, strict=True):
                np.testing.assert_array_equal(a, b)


def test_other_array_modules_give_the_same_numbers(xp):
    rng = np.random.default_rng(8)
    net, x = small_cnn(rng), rng.standard_normal((2, *SHAPE))
    there, X = net.to(xp), xp.asarray(x)
    for rule in RULES:
        a, b = lrp.explain(net, x, [0, "top"], rule), lrp.explain(there, X, [0, "top"], rule)
        np.testing.assert_allclose(lrp.to_numpy(b.R), a.R, rtol=1e-8, atol=1e-10 * abs(a.R).max())
        np.testing.assert_allclose(lrp.to_numpy(b.ledger.rounding), 0, atol=1e-8 * max(1, abs(a.ledger.start).max()))
    assert there.to(np).parameters()[0].dtype == np.float64

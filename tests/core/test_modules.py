"""Layers: forward against loops, transposes by inner products, gradients by finite differences, and what they refuse."""

from fractions import Fraction

import numpy as np
import oracle
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support import integers, rngs

import lrp_toolbox as lrp
from lrp_toolbox.testing import ADDING, MAXIMA, WEIGHTED, cases, layers
from lrp_toolbox.weights import ONE

linear_cases = cases(layers(*WEIGHTED, *ADDING))


@given(linear_cases)
def test_forward_is_the_explicit_matrix(case):
    layer, x, R = case
    expected = oracle.forward(x.reshape(-1), oracle.matrix(layer, x.shape)[0], oracle.bias(layer, x.shape))
    assert (layer.forward(x).reshape(-1) == expected).all()
    assert layer.output_shape(x.shape) == R.shape


@given(linear_cases)
def test_both_ways_are_the_explicit_matrix(case):
    """With the layer's weights and with ones; so they are each other's transposes, too."""
    layer, x, R = case
    W, M = oracle.matrix(layer, x.shape)
    for w, matrix in ((layer.w, W), (ONE, M.astype(int))):
        assert (layer.apply_T(R, w, x.shape).reshape(-1) == matrix @ R.reshape(-1)).all()
        assert (layer.apply(x, w).reshape(-1) == x.reshape(-1) @ matrix).all()


@given(cases(layers(*MAXIMA)))
def test_max_pool_gradient_goes_to_winners(case):
    trace = case.module.trace(case.x)
    assert (case.module.gradient(trace, case.R) == case.module.relprop(trace, case.R, lrp.Z())).all()


@pytest.mark.parametrize("kind", [lrp.Conv, lrp.ConvTranspose])
def test_options_of_windows_stand_as_they_are_given_or_for_each_axis(kind):
    """The oracle reads them from the layer."""
    w = np.ones((3, 3, 2, 2))
    layer = kind(w, None, stride=(2, 3), padding=((0, 1), (2, 3)), dilation=(1, 2))
    assert (layer.stride, layer.padding, layer.dilation) == ((2, 3), ((0, 1), (2, 3)), (1, 2))
    layer = kind(w, None, stride=2, padding=(1, 2), dilation=3)
    assert (layer.stride, layer.padding, layer.dilation) == ((2, 2), ((1, 1), (2, 2)), (3, 3))
    assert lrp.Conv1D(w[0], padding=(1, 2)).padding == lrp.Conv1D(w[0], padding=((1, 2),)).padding == ((1, 2),)
    assert lrp.MaxPool(2, padding=((0, 1), (1, 0))).padding == ((0, 1), (1, 0))


SMOOTH = [
    lrp.Tanh(),
    lrp.Sigmoid(),
    lrp.LRN(3, 0.5, 0.75, 2.0),
    lrp.LRN(5, 1e-4, 0.75, 1.0),
    lrp.LRN(3, 5.0, 0.75, 2.0, "within"),
    lrp.LRN(99, 5.0, region="within"),
    lrp.LRN(99, 5.0),
    lrp.ReLU(),
    lrp.LeakyReLU(0.1),
    lrp.PReLU(np.array([0.1, -0.5, 2.0, 0.0])),
    lrp.BatchNorm(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 3, 4]), np.array([1.0, -2, 3, 4]), np.ones(4)),
    lrp.Scale(np.array([1.0, 2, 3, 4])),
    lrp.MaxPool(2, 1),
    lrp.MaxPool(2, 1, ties="first"),
    lrp.MaxPool(None),
    lrp.AvgPool(2, 2, 1),
    lrp.AvgPool(None),
    lrp.SumPool((2, 1)),
    lrp.Flatten(),
    lrp.Dropout(),
    lrp.Identity(),
    lrp.Pad(((1, 0), (2, 1))),
    lrp.ClippedReLU(0.5),
    lrp.Conv(np.arange(24.0).reshape(3, 2, 2, 2) / 24, groups=2, padding=1),
    lrp.Concat(lrp.Tanh(), lrp.Conv(np.ones((1, 1, 4, 2)))),
    lrp.Add(lrp.Tanh(), lrp.Identity(), lrp.Sigmoid()),
    lrp.Sequential(lrp.Tanh(), lrp.Flatten(), lrp.Linear(np.arange(144.0).reshape(48, 3) / 99, np.ones(3)), lrp.Sigmoid()),
]


@pytest.mark.parametrize("module", SMOOTH, ids=lambda m: type(m).__name__)
def test_gradients_by_finite_differences(module, xp):
    rng = np.random.default_rng(0)
    x, g_shape, h = rng.standard_normal((2, 4, 3, 4)), (2, *module.output_shape((4, 3, 4))), 1e-6
    g, direction = rng.standard_normal(g_shape), rng.standard_normal(x.shape)
    slope = (g * (module.forward(x + h * direction) - module.forward(x - h * direction))).sum() / (2 * h)
    there, X = module.to(xp), xp.asarray(x)
    found = lrp.to_numpy(there.gradient(there.trace(X), xp.asarray(g)))
    np.testing.assert_allclose((found * direction).sum(), slope, rtol=1e-6)
    np.testing.assert_allclose(lrp.to_numpy(there.forward(X)), module.forward(x), rtol=1e-12)


def lrn_neighbours(shape, size, region):
    """Which places (row, column, channel) of a map each place of it sees, as a matrix."""
    places = np.array(list(np.ndindex(shape)))
    apart = abs(places[:, None] - places[None, :])
    rows, columns, channels = np.moveaxis(apart <= size // 2, -1, 0)
    if region == "within":
        return rows & columns & (apart[..., 2] == 0)
    return channels & (apart[..., :2] == 0).all(axis=-1)


lrn_regions = pytest.mark.parametrize(("region", "n"), [("across", 3), ("within", 9)])


def test_lrn_by_hand():
    """Two neighbours: s_j = 1 + ½ (1² + 2²) = 3.5 for both, since a window of 3 channels or of 3 × 3 places sees both."""
    x = np.array([[[1.0, 2.0]]])
    np.testing.assert_allclose(lrp.LRN(3, 1.5, 0.5, 1.0).forward(x), x / np.sqrt(3.5))
    usual = 20 * x[..., ::-1] / (1 + 1e-4 / 5 * 20**2 * (x**2).sum()) ** 0.75  # the numbers of AlexNet
    np.testing.assert_allclose(lrp.LRN().forward(20 * x[..., ::-1]), usual, rtol=1e-12)
    x = np.array([[[1.0], [2.0]]])
    np.testing.assert_allclose(lrp.LRN(3, 4.5, 0.5, 1.0, "within").forward(x), x / np.sqrt(3.5))


def test_taylor_prints_and_compares_as_the_other_rules_do():
    assert repr(lrp.Taylor(1e-6)) == "Taylor(eps=1e-06)"
    assert lrp.Taylor() == lrp.Taylor() != lrp.Z()


@lrn_regions
@pytest.mark.parametrize("eps", [0, 0.25])
def test_lrn_passes_relevance_or_shares_it_by_taylor(region, n, eps, xp):
    rng = np.random.default_rng(0)
    layer, x, R = lrp.LRN(3, 1.5, 0.75, 1.25, region), rng.standard_normal((3, 2, 4)), rng.standard_normal((3, 2, 4))
    trace = layer.trace(xp.asarray(x))
    np.testing.assert_array_equal(lrp.to_numpy(layer.relprop(trace, xp.asarray(R), lrp.Z())), R)
    a, beta, v = 1.5 / n, 0.75, x.reshape(-1)
    sees = lrn_neighbours(x.shape, 3, region)
    s = 1.25 + a * sees @ v**2
    np.testing.assert_allclose(lrp.to_numpy(trace.y).reshape(-1), v * s**-beta)
    z = np.where(sees, -2 * a * beta * v * v[:, None] ** 2 * s ** (-beta - 1), 0)
    np.fill_diagonal(z, v * (1.25 + a * v**2) ** -beta)
    total = z.sum(axis=0)
    expected = (z / (total + eps * np.where(total < 0, -1, 1)) * R.reshape(-1)).sum(axis=1)
    found = lrp.to_numpy(layer.relprop(trace, xp.asarray(R), lrp.Taylor(eps)))
    np.testing.assert_allclose(found.reshape(-1), expected)
    assert eps or abs(found.sum() - R.sum()) < 1e-9


@pytest.mark.parametrize("kind", [lrp.MaxPool1D, lrp.MaxPool, lrp.MaxPool3D, lrp.AvgPool1D, lrp.AvgPool, lrp.AvgPool3D])
def test_pooling_slides_over_as_many_axes_as_its_name_says(kind):
    """A cube of 4 places a side, whose channels are apart: 2 windows along each axis."""
    n = {"1": 1, "3": 3}.get(kind.__name__[-2], 2)
    x = np.arange(4.0**n * 2).reshape(*(4,) * n, 2)
    windows = x.reshape(*(2, 2) * n, 2)
    taken = np.max if "Max" in kind.__name__ else np.mean
    np.testing.assert_array_equal(kind(2).forward(x), taken(windows, axis=tuple(range(1, 2 * n, 2))))
    with pytest.raises(ValueError, match="channel"):
        kind(2).forward(x[0])


@given(layers(lrp.MaxPool))
def test_ceil_mode_is_caffes_and_pytorchs(drawn):
    """Every window begins inside of the map or its leading padding; and no place after the padding is left unseen."""
    layer, size = drawn
    kernel, stride, padding = layer.kernel, layer.stride, layer.padding
    for axis in (0, 1):
        count = lrp.MaxPool(kernel, stride, padding, ceil_mode=True).output_shape(size)[axis]
        before, after = padding[axis]
        last = (count - 1) * stride[axis]
        assert last < size[axis] + before
        assert last + kernel[axis] >= size[axis] + before + after or last + stride[axis] >= size[axis] + before


@pytest.mark.parametrize(
    ("n", "kernel", "stride", "padding", "count"),  # as PyTorch 2.14 says
    [
        *((2, 3, 2, 0, 1), (1, 3, 3, 0, 1), (1, 3, 2, 0, 0), (2, 4, 3, 0, 1)),
        *((2, 4, 2, 0, 0), (3, 5, 3, 0, 1), (1, 4, 2, 1, 1), (2, 2, 1, 0, 1)),
    ],
)
def test_a_window_of_ceil_mode_may_be_larger_than_the_map(n, kernel, stride, padding, count):
    x = np.arange(1.0, n * n + 1).reshape(n, n, 1)
    for kind in (lrp.MaxPool, lrp.AvgPool, lrp.SumPool):
        layer = kind(kernel, stride, padding, ceil_mode=True)
        if count == 0:
            with pytest.raises(ValueError, match=f"x: a window of {kernel} taps does not fit into {n}"):
                layer.forward(x)
        else:
            y = layer.forward(x)
            assert y.shape == (count, count, 1)
            counted = (n + 2 * padding) ** 2
            assert y[0, 0, 0] == {lrp.MaxPool: x.max(), lrp.SumPool: x.sum(), lrp.AvgPool: x.sum() / counted}[kind]
            np.testing.assert_allclose(layer.relprop_z(x, y).sum(), y.sum())
    if kernel > n + 2 * padding:
        with pytest.raises(ValueError, match=f"x: a window of {kernel} taps does not fit into {n}"):
            lrp.MaxPool(kernel, stride, padding).forward(x)


def test_pooling_the_whole_map():
    x = integers(np.random.default_rng(0), 2, 4, 3, 2)
    assert (lrp.AvgPool(None).forward(x)[:, 0, 0] == x.sum(axis=(1, 2)) / Fraction(12)).all()
    assert (lrp.SumPool(None).forward(x)[:, 0, 0] == x.sum(axis=(1, 2))).all()
    assert (lrp.MaxPool(None).forward(x)[:, 0, 0] == x.max(axis=(1, 2))).all()


@given(cases(layers(lrp.Conv)), rngs(), st.sampled_from([lrp.Z(), lrp.AlphaBeta(2), lrp.Gamma(Fraction(1, 4))]))
def test_zeros_around_a_map_are_padding(case, rng, rule):
    """A Pad in front of a convolution is the convolution's own padding, but for rules that give zeros something: the ledger."""
    border = tuple((int(rng.integers(3)), int(rng.integers(3))) for _ in range(2))
    w, b, stride, dilation, groups = (getattr(case.module, name) for name in ("w", "b", "stride", "dilation", "groups"))
    both = tuple((n + p, m + q) for (n, m), (p, q) in zip(border, case.module.padding, strict=True))
    apart = lrp.Sequential(lrp.Pad(border), case.module)
    own = lrp.Sequential(lrp.Conv(w, b, stride, both, dilation, groups))
    y = own.forward(case.x)
    R = integers(rng, *y.shape)
    assert (apart.forward(case.x) == y).all()
    assert (apart.relprop(apart.trace(case.x), R, rule) == own.relprop(own.trace(case.x), R, rule)).all()
    flat = lrp.explain(apart, case.x, None, lrp.Flat(), start=R)
    assert flat.ledger.rounding == 0


def test_flat_gives_zeros_around_a_map_what_the_ledger_then_has():
    """One place and eight zeros around it, of which ♭ gives each a ninth."""
    ones = np.vectorize(Fraction, otypes=[object])(np.ones((3, 3, 1, 1), int))
    e = lrp.explain(lrp.Sequential(lrp.Pad(1), lrp.Conv(ones)), ones[:1, :1, 0], None, lrp.Flat(), start=9 * ones[:1, :1, 0])
    assert (e.R.item(), e.ledger.absorbed("padding")) == (1, 8)


def test_softmax_is_forward_only():
    layer = lrp.SoftMax()
    y = layer.forward(np.array([1000.0, 1000.0, -1000.0]))
    np.testing.assert_allclose(y, [0.5, 0.5, 0.0])
    trace = layer.trace(np.array([1.0, 2.0]))
    for refused in (lambda: layer.relprop(trace, trace.y, lrp.Z()), lambda: layer.gradient(trace, trace.y)):
        with pytest.raises(TypeError, match="explain the logits"):
            refused()


def test_activations_pass_relevance_as_it_is(xp):
    x, R = xp.asarray([[1.0, -2.0, 0.0]]), xp.asarray([[3.0, 4.0, 5.0]])
    for layer in (lrp.ReLU(), lrp.LeakyReLU(), lrp.PReLU(xp.asarray([0.5])), lrp.Tanh(), lrp.Sigmoid(), lrp.Dropout()):
        for rule in (lrp.Z(), lrp.AlphaBeta(2), lrp.Flat(), lrp.Gamma()):
            np.testing.assert_array_equal(lrp.to_numpy(layer.relprop(layer.trace(x), R, rule)), lrp.to_numpy(R))


def test_batch_norm_is_a_scale_and_fuses(xp):
    rng = np.random.default_rng(1)
    mean, gamma, beta = rng.standard_normal((3, 4))
    norm = lrp.BatchNorm(mean, rng.uniform(0.5, 2, 4), gamma, beta, 1e-3)
    x = rng.standard_normal((2, 5, 5, 4))
    np.testing.assert_allclose(norm.forward(x), (x - mean) / np.sqrt(norm.variance + 1e-3) * gamma + beta)
    conv = lrp.Conv(rng.standard_normal((3, 3, 4, 4)), rng.standard_normal(4), padding=1)
    dense = lrp.Linear(rng.standard_normal((100, 4)))
    inner = lrp.Sequential(c=conv, n=norm, r=lrp.ReLU())
    net = lrp.Sequential(norm, lrp.Add(inner, lrp.Identity()), lrp.Flatten(), dense, norm).to(xp)
    fused = lrp.fuse(net)
    X = xp.asarray(x)
    np.testing.assert_allclose(lrp.to_numpy(fused.forward(X)), lrp.to_numpy(net.forward(X)), rtol=1e-9, atol=1e-9)
    assert fused.names == ("batchnorm1", "add1", "flatten1", "linear1")
    assert fused["add1"]["sequential1"].names == ("c", "r")
    assert lrp.fuse(fused) is fused


def test_names_slices_and_repeats():
    relu = lrp.ReLU()
    net = lrp.Sequential(lrp.Linear(np.eye(2)), relu, lrp.Linear(np.eye(2)), relu)
    assert net.names == ("linear1", "relu1", "linear2", "relu2")
    assert net["relu2"] is net[1] is relu
    assert net[:-1].names == ("linear1", "relu1", "linear2")
    assert len(net) == 4
    assert list(net)[3] is relu
    for same in (
        lrp.Sequential([("a", relu), ("b", relu)]),
        lrp.Sequential({"a": relu, "b": relu}),
        lrp.Sequential(a=relu, b=relu),
    ):
        assert same.names == ("a", "b")
    with pytest.raises(KeyError, match="no module 'x' here; there are linear1, relu1"):
        net["x"]
    with pytest.raises(AttributeError, match="frozen"):
        net.children = ()
    with pytest.raises(AttributeError):
        net[0].w = np.zeros((2, 2))


WHERE = {  # place k of m, among the n places of the map
    "half_pixel": lambda k, n, m: Fraction((2 * k + 1) * n, 2 * m) - Fraction(1, 2),
    "pytorch_half_pixel": lambda k, n, m: Fraction((2 * k + 1) * n, 2 * m) - Fraction(1, 2) if m > 1 else 0,
    "asymmetric": lambda k, n, m: Fraction(k * n, m),
    "align_corners": lambda k, n, m: Fraction(k * (n - 1), m - 1) if m > 1 else 0,
}
NEAREST = {
    "round_prefer_floor": lambda at, n: min(range(n), key=lambda i: (abs(i - at), i)),
    "round_prefer_ceil": lambda at, n: min(range(n), key=lambda i: (abs(i - at), -i)),
    "floor": lambda at, n: max((i for i in range(n) if i <= at), default=0),
    "ceil": lambda at, n: min((i for i in range(n) if i >= at), default=n - 1),
}


@example(3, 1, "pytorch_half_pixel", "floor")  # a single place is the first
@given(st.integers(1, 7), st.integers(1, 7), st.sampled_from(list(WHERE)), st.sampled_from(list(NEAREST)))
def test_resize_looks_where_its_coordinates_say(n, m, coordinates, rounding):
    """On a ramp, x_i = i, the bilinear y_k is the place that k lies at, moved to the edge; the nearest is rounded."""
    ramp = np.array([Fraction(i) for i in range(n)]).reshape(n, 1, 1)
    at = [min(max(WHERE[coordinates](k, n, m), 0), n - 1) for k in range(m)]
    between = lrp.Resize((m, 1), mode="bilinear", coordinates=coordinates)
    assert list(between.forward(ramp).flat) == at
    nearest = lrp.Resize((m, 1), coordinates=coordinates, rounding=rounding)
    assert list(nearest.forward(ramp).flat) == [NEAREST[rounding](place, n) for place in at]
    along_the_rows = lrp.Resize((1, m), mode="bilinear", coordinates=coordinates)
    assert list(along_the_rows.forward(ramp.reshape(1, n, 1)).flat) == at


def test_flat_through_a_bilinear_resize_counts_the_places_that_are_looked_at():
    layer, units = lrp.Resize((7, 1), mode="bilinear"), np.eye(3).reshape(3, 3, 1, 1)
    weights, ones = (layer.apply(units, w).reshape(3, 7) for w in (layer.w, ONE))
    assert ((weights > 0) & (weights < 1)).any()
    np.testing.assert_array_equal(ones, weights > 0)


BASES = (lrp.modules.base.Layer, lrp.LinearModule)
PUBLIC = [vars(lrp.modules)[name] for name in lrp.modules.__all__]
LAYERS = [kind for kind in PUBLIC if isinstance(kind, type) and issubclass(kind, BASES) and kind not in BASES]


@pytest.mark.parametrize("kind", [*LAYERS, lrp.modules.Node])
def test_layers_are_frozen_data_and_each_is_equal_to_itself_only(kind):
    """Networks share layers, and threads share networks; two layers with the same numbers are two layers."""
    parameters = vars(kind)["__dataclass_params__"]
    assert parameters.frozen
    assert not parameters.eq


W22 = np.ones((2, 2))
ZERO32 = np.zeros(2, np.float32)
K = np.ones((3, 3, 2, 4))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lrp.Linear(np.ones(3)), "w: expected (in, out), got shape (3,)"),
        (lambda: lrp.Linear(W22, np.ones(3)), "b: expected 2 numbers, one for each output, got shape (3,)"),
        (lambda: lrp.Conv(W22), "w: expected (kernel height, kernel width, in / groups, out), got shape (2, 2)"),
        (lambda: lrp.Conv(K, stride=0), "stride: expected an int ≥ 1, or two for (height, width), got 0"),
        (lambda: lrp.Conv(K, stride=(1, 2, 3)), "stride: expected an int ≥ 1"),
        (lambda: lrp.Conv(K, padding=-1), "padding: expected an int ≥ 0"),
        (lambda: lrp.Conv(K, padding=1.5), "padding: expected an int ≥ 0, or two for (height, width), got 1.5"),
        (lambda: lrp.Conv(K, padding=((1, 0), 1.5)), "padding: expected an int ≥ 0, or two for (height, width), got 1.5"),
        (lambda: lrp.Conv(K, stride=1.5), "stride: expected an int ≥ 1, or two for (height, width), got 1.5"),
        (lambda: lrp.MaxPool(2.5), "kernel: expected an int ≥ 1, or two for (height, width), got 2.5"),
        (lambda: lrp.Pad1D(1.5), "padding: expected an int ≥ 0, or one for (length), got 1.5"),
        (lambda: lrp.Conv(K, dilation=0), "dilation: expected an int ≥ 1"),
        (lambda: lrp.Conv1D(K[0], stride=0), "stride: expected an int ≥ 1, or one for (length), got 0"),
        (lambda: lrp.MaxPool3D((2, 2)), "kernel: expected an int ≥ 1, or three for (depth, height, width), got (2, 2)"),
        (lambda: lrp.Conv1D(K[0]).forward(np.ones((2, 2))), "x: a window of 3 taps does not fit into 2 + 0 + 0 places"),
        (lambda: lrp.Conv(K, groups=3), "groups: 3 groups do not divide 4 outputs"),
        (lambda: lrp.MaxPool(2, padding=2), "padding: expected less than the kernel, (2, 2), got 2"),
        (lambda: lrp.MaxPool(2, ties="last"), "ties: expected 'share' or 'first', got 'last'"),
        (lambda: lrp.AvgPool(None, stride=2), "kernel: with None, which pools the whole map"),
        (lambda: lrp.LRN(4), "size: expected an odd number of channels or places, got 4"),
        (lambda: lrp.LRN(3, region="beside"), "region: expected 'across' channels or 'within' each, got 'beside'"),
        (lambda: lrp.BatchNorm(np.ones(2), np.ones(3)), "variance: expected one number for each channel, got shape (3,)"),
        (lambda: lrp.BatchNorm(np.ones(1), -np.ones(1)), "variance: expected variance + eps > 0"),
        (
            lambda: lrp.BatchNorm(ZERO32, ZERO32 + 1e-30, ZERO32 + 3e38, eps=1e-30),
            "w: expected gamma / √(variance + eps) that float32 can hold, found more, or NaN",
        ),
        (
            lambda: lrp.BatchNorm(ZERO32 + 3e38, ZERO32 + 1, ZERO32 + 9),
            "b: expected beta − mean · w that float32 can hold, found more, or NaN",
        ),
        (
            lambda: lrp.BatchNorm(ZERO32, ZERO32 + 1e-4, ZERO32 + 1000).astype(np.float16),
            "w: expected gamma / √(variance + eps) that float16 can hold",
        ),
        (lambda: lrp.Sequential(), "Sequential: expected at least one module, got none"),
        (lambda: lrp.Sequential([("a", lrp.ReLU()), ("a", lrp.ReLU())]), "names: 'a' occurs twice"),
        (lambda: lrp.Linear(W22).forward(np.ones(3)), "x: Linear expects 2 features in (…, feature), got shape (3,)"),
        (lambda: lrp.Conv(K).forward(np.ones((5, 5, 3))), "x: Conv expects 2 features in (…, height, width, channel)"),
        (lambda: lrp.Conv(K).forward(np.ones((2, 5, 2))), "x: a window of 3 taps does not fit into 2 + 0 + 0 rows"),
        (lambda: lrp.Flatten().forward(np.ones(3)), "x: Flatten expects at least 3 axes, got shape (3,)"),
        (lambda: lrp.MaxPool().forward(np.ones((4, 4))), "x: MaxPool expects (…, height, width, channel)"),
        (
            lambda: lrp.Linear(W22).relprop_z(np.ones(2), np.ones(3)),
            "R: expected the relevance of Linear's output, (2,), got (3,)",
        ),
        (
            lambda: lrp.Linear(W22).relprop_z(np.ones((4, 2)), np.ones((3, 2))),
            "R: expected the relevance of Linear's output, (4, 2), got (3, 2)",
        ),
        (
            lambda: lrp.Add(lrp.Linear(W22), lrp.Linear(np.ones((2, 3)))).forward(np.ones(2)),
            "x: Sum expects inputs of one shape",
        ),
    ],
)
def test_what_does_not_fit_is_refused_by_name(make, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lrp.Linear(W22).forward(np.ones(2, "float32")), "x is float32, but Linear.w is float64"),
        (lambda: lrp.Linear(W22, np.ones(2, "float32")), "b is float32, but w is float64"),
        (lambda: lrp.Linear(W22).relprop_z(np.ones(2), np.ones(2, "float32")), "R is float32, but x is float64"),
        (lambda: lrp.Linear(W22).forward([1.0, 2.0]), "expected an array"),
        (lambda: lrp.backend.namespace(), "expected at least one array, got none"),
        (lambda: lrp.backend.namespace(None, 1.0), "expected at least one array, got none"),
        (lambda: lrp.Sequential(lrp.ReLU(), 3), "Sequential: expected modules, got 3"),
        (lambda: lrp.Sequential(lrp.ReLU()).relprop(lrp.ReLU().trace(W22), W22, "z"), "rule: expected a rule, or a context"),
    ],
)
def test_wrong_types_are_refused(make, message):
    with pytest.raises((TypeError, ValueError, AttributeError)) as caught:
        make()
    assert message in str(caught.value)


def test_mixed_array_modules_are_refused():
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(TypeError, match="arrays of array_api_strict and numpy are mixed, and data is never moved in silence"):
        lrp.Linear(W22).forward(strict.ones(2))

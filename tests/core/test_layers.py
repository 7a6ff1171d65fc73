"""Activations, gates, norms and layers that rearrange: forward against SciPy, JAX or NumPy, gradients, relevance, storage."""

import dataclasses
from fractions import Fraction

import jax
import numpy as np
import pytest
import scipy.special
from hypothesis import given
from hypothesis import strategies as st
from support import integers, rngs

import lrp_toolbox as lrp

jax.config.update("jax_enable_x64", True)
X = np.random.default_rng(0).standard_normal((2, 4, 6, 4)) * 2

ACTIVATIONS = {  # layer: the same by a library
    lrp.ReLU(): lambda x: np.maximum(x, 0),
    lrp.LeakyReLU(0.1): lambda x: np.where(x > 0, x, 0.1 * x),
    lrp.ClippedReLU(1.5): lambda x: np.clip(x, 0, 1.5),
    lrp.Tanh(): np.tanh,
    lrp.Sigmoid(): scipy.special.expit,
    lrp.SiLU(): jax.nn.silu,
    lrp.GELU(): lambda x: jax.nn.gelu(x, approximate=False),
    lrp.GELU("tanh"): lambda x: jax.nn.gelu(x, approximate=True),
    lrp.ELU(0.7): lambda x: jax.nn.elu(x, 0.7),
    lrp.Softplus(): jax.nn.softplus,
    lrp.Mish(): jax.nn.mish,
    lrp.HardSwish(): jax.nn.hard_swish,
    lrp.HardSigmoid(): jax.nn.hard_sigmoid,
    lrp.HardSigmoid(0.2, 0.4): lambda x: np.clip(0.2 * x + 0.4, 0, 1),
    lrp.Clip(-0.5, 1.5): lambda x: np.clip(x, -0.5, 1.5),
    lrp.Clip(None, 1.0): lambda x: np.minimum(x, 1),
}
REARRANGING = {
    lrp.ChannelShuffle(2): lambda x: x[..., [0, 2, 1, 3]],
    lrp.Slice(-1, 1, None, 2): lambda x: x[..., 1::2],
    lrp.Slice(-2, -2, None): lambda x: x[..., -2:, :],
    lrp.Slice(-3, None, None, -1): lambda x: x[..., ::-1, :, :],
    lrp.Transpose((-2, -3, -1)): lambda x: x.swapaxes(-2, -3),
    lrp.Transpose((-1, -3, -2)): lambda x: np.moveaxis(x, -1, -3),
    lrp.Reshape((6, -1), 3): lambda x: x.reshape(2, 6, 16),
    lrp.Pad(((2, 1), (0, 3)), "reflect"): lambda x: np.pad(x, ((0, 0), (2, 1), (0, 3), (0, 0)), mode="reflect"),
    lrp.Pad(((2, 1), (0, 3)), "edge"): lambda x: np.pad(x, ((0, 0), (2, 1), (0, 3), (0, 0)), mode="edge"),
    lrp.Pad(((4, 1), (0, 6)), "wrap"): lambda x: np.pad(x, ((0, 0), (4, 1), (0, 6), (0, 0)), mode="wrap"),
}
CONSTANT = lrp.Pad(1, "constant", 2.5)
NORMS = [
    lrp.LayerNorm(-1, np.array([1.0, -2.0, 3.0, 0.5]), np.array([1.0, 2.0, 3.0, 4.0])),
    lrp.LayerNorm((-3, -2, -1), None, None, 1e-3, "detached"),
    lrp.GroupNorm(2, np.array([1.0, -2.0, 3.0, 0.5]), np.array([1.0, 2.0, 3.0, 4.0]), 1e-3, "detached"),
    lrp.GroupNorm(4),
    lrp.InstanceNorm(np.array([1.0, -2.0, 3.0, 0.5]), None, 1e-2, "detached"),
]


def named(layer):
    return f"{type(layer).__name__}"


@pytest.mark.parametrize("layer", [*ACTIVATIONS, *REARRANGING], ids=named)
def test_forward_is_that_of_a_library(layer, xp):
    expected = np.asarray((ACTIVATIONS | REARRANGING)[layer](X))
    there = layer.forward(xp.asarray(X))
    np.testing.assert_allclose(lrp.to_numpy(there), expected, rtol=1e-12, atol=1e-14)
    assert (2, *layer.output_shape(X.shape[1:])) == expected.shape
    for x in (X, abs(X)):
        if layer.output_is_nonnegative(bool((x >= 0).all())):
            assert (layer.forward(x) >= 0).all()


@pytest.mark.parametrize("mode", ["zeros", "reflect", "edge", "wrap"])
def test_borders_around_sequences_and_volumes_are_those_of_numpy(mode, xp):
    of_numpy = "constant" if mode == "zeros" else mode
    for layer, border in (
        (lrp.Pad1D((2, 1), mode), [(2, 1)]),
        (lrp.Pad3D(((1, 0), 2, (0, 3)), mode), [(1, 0), (2, 2), (0, 3)]),
    ):
        x = np.random.default_rng(0).standard_normal((2, *(3, 4, 5)[-len(border) :], 2))
        expected = np.pad(x, [(0, 0), *border, (0, 0)], mode=of_numpy)
        np.testing.assert_array_equal(lrp.to_numpy(layer.forward(xp.asarray(x))), expected)
        assert layer.output_shape(x.shape) == expected.shape


MIXING = [
    lrp.Linear(np.ones((4, 2))), lrp.Conv(np.ones((1, 1, 4, 2))), lrp.Conv1D(np.ones((1, 4, 2))), lrp.Scale(np.ones(4)),
    lrp.Conv3D(np.ones((1, 1, 1, 4, 2))), lrp.ConvTranspose(np.ones((1, 1, 4, 2))), lrp.SumPool(), lrp.AvgPool(), lrp.MaxPool(),
    lrp.AdaptiveAvgPool(1), lrp.AdaptiveMaxPool(1), lrp.LRN(), lrp.Resize(2), lrp.Mean(-1), lrp.ReduceSum(-1),
]  # fmt: skip


@pytest.mark.parametrize("layer", [*ACTIVATIONS, *REARRANGING, CONSTANT, *NORMS, *MIXING], ids=named)
def test_layers_do_not_change_and_are_compared_as_objects(layer):
    """Two with the same numbers are two places of a net."""
    layer.forward(X)
    with pytest.raises(dataclasses.FrozenInstanceError):
        layer.axes = 1
    assert dataclasses.replace(layer) != layer
    assert len({layer, dataclasses.replace(layer)}) == 2


@pytest.mark.parametrize("layer", ACTIVATIONS, ids=named)
def test_activations_pass_relevance_and_do_not_overflow(layer):
    trace, R = layer.trace(X), np.random.default_rng(1).standard_normal(X.shape)
    np.testing.assert_array_equal(layer.relprop(trace, R, lrp.AlphaBeta(2)), R)
    with np.errstate(over="raise", invalid="raise"):
        for dtype in (np.float32, np.float64):
            y = layer.forward(np.asarray([-1e4, -200.0, 0.0, 200.0, 1e4], dtype))
            assert np.isfinite(y).all()
            assert y.dtype == dtype


@pytest.mark.parametrize("layer", [*ACTIVATIONS, *REARRANGING, CONSTANT, *NORMS], ids=named)
def test_gradients_by_finite_differences(layer, xp):
    rng, h = np.random.default_rng(2), 1e-6
    g, direction = rng.standard_normal((2, *layer.output_shape(X.shape[1:]))), rng.standard_normal(X.shape)
    slope = (g * (layer.forward(X + h * direction) - layer.forward(X - h * direction))).sum() / (2 * h)
    there = layer.to(xp)
    found = lrp.to_numpy(there.gradient(there.trace(xp.asarray(X)), xp.asarray(g)))
    np.testing.assert_allclose((found * direction).sum(), slope, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("layer", REARRANGING, ids=named)
def test_relevance_goes_back_to_where_its_value_came_from(layer):
    """With values that are numbers of places: a place gets the relevance of all its copies, and nothing is lost."""
    x = np.arange(96.0).reshape(1, 4, 6, 4) + 1
    y = layer.forward(x)
    R = np.random.default_rng(3).standard_normal(y.shape)
    found = layer.relprop(layer.trace(x), R, lrp.Flat())
    expected = np.array([R[y == value].sum() for value in x.ravel()]).reshape(x.shape)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    assert found.sum() == pytest.approx(R.sum())


def test_constants_around_a_map_get_relevance_that_the_ledger_records():
    net = lrp.Sequential(pad=CONSTANT, sum=lrp.SumPool(3, 1))
    e = lrp.explain(net, np.ones((1, 1, 1)), None, lrp.Z(), start=np.full((1, 1, 1), 21.0))
    assert (e.R.item(), e.ledger.entry("pad").padding, e.ledger.rounding) == (1.0, 20.0, 0.0)


@pytest.mark.parametrize("norm", NORMS, ids=named)
def test_norms_have_mean_0_and_variance_1_before_their_constants(norm):
    x = np.random.default_rng(4).standard_normal((2, 4, 6, 4)) * 3 + 5
    plain = (norm.forward(x) - (0 if norm.b is None else norm.b)) / (1 if norm.w is None else norm.w)
    if isinstance(norm, lrp.LayerNorm):
        over, groups = tuple(norm.over), plain
    else:
        n = norm.groups if isinstance(norm, lrp.GroupNorm) else 4
        over, groups = (1, 2, 4), plain.reshape(2, 4, 6, n, 4 // n)
    np.testing.assert_allclose(groups.mean(axis=over), 0, atol=1e-12)
    variance = groups.var(axis=over)
    assert (variance > 0.99).all()
    assert (variance <= 1).all()


@pytest.mark.parametrize("norm", NORMS, ids=named)
def test_norms_pass_relevance_or_redistribute_with_a_constant_factor(norm):
    """The detached form is a linear layer at x: y_j = Σ_i (δ_ij − 1/n) f_j x_i + b_j. Its matrix is found by unit vectors."""
    x = np.random.default_rng(5).standard_normal((2, 2, 4))
    net = lrp.Sequential(norm=norm)
    R = np.random.default_rng(6).standard_normal(norm.forward(x).shape)
    e = lrp.explain(net, x, None, lrp.Z(), start=R)
    if norm.relevance == "identity":
        np.testing.assert_array_equal(e.R, R)
        return
    factor = (norm.mean((x - norm.mean(x)) ** 2) + norm.eps) ** -0.5 * (1 if norm.w is None else norm.w) + 0 * x
    unit = np.eye(16).reshape(16, 2, 2, 4)
    W = np.stack([((u - norm.mean(u)) * factor).ravel() for u in unit])
    b = np.zeros(16) if norm.b is None else np.broadcast_to(norm.b, x.shape).ravel()
    z = x.ravel() @ W + b
    np.testing.assert_allclose(z, norm.forward(x).ravel())
    expected = x.ravel() * (W @ (R.ravel() / z))
    np.testing.assert_allclose(e.R.ravel(), expected, rtol=1e-9, atol=1e-12)
    assert abs(float(e.ledger.rounding)) < 1e-9 * abs(R / z.reshape(R.shape)).sum()


@given(rngs(), st.sampled_from([(2, 3, 4), (1, 1, 4), (4,), (2, 1, 1)]), st.booleans())
def test_a_gate_gets_nothing_and_the_signal_everything_exactly(rng, gate, first):
    shape = (2, 3, 4)
    x, g = integers(rng, *shape), integers(rng, *gate)
    layer = lrp.Multiply(0 if first else 1)
    inputs = (x, g) if first else (g, x)
    y = layer.forward(inputs)
    expected = x * (g if g.ndim == 3 else g.reshape(1, 1, 4))
    assert (y == expected).all()
    assert layer.output_shape(tuple(i.shape for i in inputs)) == shape
    R = integers(rng, *shape)
    back = layer.relprop(layer.trace(inputs), R, lrp.AlphaBeta(2))
    signal, gates = back if first else back[::-1]
    assert (signal == R).all()
    assert gates.shape == g.shape
    assert (gates == 0).all()
    dx, dg = layer.gradient(layer.trace(inputs), R)[:: 1 if first else -1]
    assert (dx == R * (g if g.ndim == 3 else g.reshape(1, 1, 4))).all()
    assert (dg * g).sum() == (R * y).sum() == (dx * x).sum()  # y is linear in each of them


def test_a_squeeze_and_excite_block_closes_its_ledger_exactly():
    exact = np.vectorize(Fraction, otypes=[object])
    rng = np.random.default_rng(7)
    net = lrp.Graph(
        [
            ("conv", lrp.Conv(integers(rng, 1, 1, 2, 3), integers(rng, 3)), "input"),
            ("pool", lrp.AvgPool(None), "conv"),
            ("gate", lrp.Conv(integers(rng, 1, 1, 3, 3), integers(rng, 3)), "pool"),
            ("scaled", lrp.Multiply(), ("conv", "gate")),
            ("flat", lrp.Flatten(), "scaled"),
            ("fc", lrp.Linear(integers(rng, 12, 2), integers(rng, 2)), "flat"),
        ]
    )
    x = exact(rng.integers(-3, 4, (2, 2, 2)))
    e = lrp.explain(net, x, [0, 1], lrp.Z())
    assert (e.ledger.rounding == 0).all()
    assert all((entry.rounding == 0).all() for entry in e.ledger)
    assert (e.ledger.entry("gate").arriving == 0).all()


@given(rngs(), st.integers(-3, -1), st.lists(st.integers(1, 3), min_size=1, max_size=3))
def test_inputs_side_by_side_along_any_axis_get_what_is_theirs(rng, axis, sizes):
    shapes = [tuple(n if k == axis else 2 for k in (-3, -2, -1)) for n in sizes]
    inputs, layer = tuple(integers(rng, *shape) for shape in shapes), lrp.Concatenation(axis)
    trace, y = layer.trace(inputs), np.concatenate(inputs, axis)
    assert (trace.y == y).all()
    assert layer.output_shape(tuple(shapes)) == y.shape
    for back in (layer.relprop(trace, y, lrp.Flat()), layer.gradient(trace, y)):
        assert all((part == x).all() for part, x in zip(back, inputs, strict=True))
    for other in (-3, -2, -1):
        if other != axis:
            wrong = tuple(3 if k == other else 2 for k in (-3, -2, -1))
            with pytest.raises(ValueError, match="x: Concatenation expects maps of one size, got"):
                layer.output_shape((shapes[0], wrong))


def test_concatenation_of_tokens_and_layers_of_any_rank():
    """(tokens, features): dense layers, norms and activations work on any number of axes before the last."""
    rng = np.random.default_rng(8)
    net = lrp.Graph(
        [
            ("up", lrp.Linear(rng.standard_normal((3, 5)), rng.standard_normal(5)), "input"),
            ("act", lrp.GELU(), "up"),
            ("down", lrp.Linear(rng.standard_normal((5, 3))), "act"),
            ("sum", lrp.Sum(), ("input", "down")),
            ("norm", lrp.LayerNorm(), "sum"),
            ("mean", lrp.Mean(-2), "norm"),
            ("fc", lrp.Linear(rng.standard_normal((3, 2))), "mean"),
        ]
    )
    x = rng.standard_normal((4, 7, 3))
    R = rng.standard_normal((4, 2))
    trace = net.trace(x)
    assert trace.y.shape == (4, 2)
    assert net.relprop(trace, R, lrp.Epsilon(1e-3)).shape == x.shape


@pytest.mark.parametrize(
    "layer", [lrp.Slice(-2, 1), lrp.Affine(np.ones(4)), lrp.Transpose((-2, -1)), lrp.LayerNorm()], ids=named
)
def test_one_map_is_explained_by_nets_that_begin_with_any_layer(layer):
    """What tells how many axes an input has is the first layer that has to know."""
    shape = layer.output_shape((4, 4, 4))
    conv = lrp.Conv(np.ones((*shape[:2], shape[2], 2)))
    net = lrp.Sequential(layer, conv, lrp.Flatten())
    assert net.input_axes == 3
    assert lrp.explain(net, np.ones((4, 4, 4)), 0, lrp.Z()).R.shape == (4, 4, 4)


STORED = [*ACTIVATIONS, *REARRANGING, CONSTANT, *NORMS]


@pytest.mark.parametrize("layer", STORED, ids=named)
def test_layers_are_stored_and_read(layer, tmp_path):
    rng, shape = np.random.default_rng(9), layer.output_shape((4, 6, 4))
    conv, fc = lrp.Conv(rng.standard_normal((1, 1, 3, 4))), lrp.Linear(rng.standard_normal((int(np.prod(shape)), 2)))
    net = lrp.Sequential(conv, layer, lrp.Flatten(len(shape)), fc).astype("float32")
    model = lrp.Model("one", net, ("a", "b"), lrp.Preprocessing((4, 6)))
    again = lrp.load(lrp.save(model, tmp_path / "one"))
    x = rng.standard_normal((4, 6, 3)).astype("float32")
    np.testing.assert_array_equal(again.net(x), net(x))


W4 = np.ones(4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        *((lambda n=n: lrp.ChannelShuffle(n), "groups: expected a number of groups ≥ 1, got") for n in (0, True, 2.0)),
        (lambda: lrp.ChannelShuffle(3).forward(X), "x: ChannelShuffle(3) expects groups of one size, got 4 channels"),
        *((lambda a=a: lrp.Slice(a), "axis: expected axes counted from the end, −1 for the last") for a in (0, True)),
        *((lambda s=s: lrp.Slice(-1, step=s), "step: expected an int other than 0, got") for s in (0, 1.5)),
        (lambda: lrp.Slice(-1, 4).forward(X), "leaves nothing of axis -1 of shape (2, 4, 6, 4)"),
        (lambda: lrp.Transpose((-1, -1)), "order: expected axes counted from the end, −1 for the last, each once"),
        (lambda: lrp.Transpose(()), "order: expected axes counted from the end"),
        (lambda: lrp.Transpose((-1, -3)), "order: expected all of (-2, -1), in any order, got (-1, -3)"),
        (
            lambda: lrp.Transpose((-1, -2, -3)).forward(np.ones((2, 2))),
            "x: Transpose expects at least 3 axes, got shape (2, 2)",
        ),
        *(
            (lambda s=s: lrp.Reshape(s), "shape: expected numbers ≥ 1, of which")
            for s in ((), 0, (2.0,), (0, -1), -2, (-1, -1))
        ),
        *((lambda n=n: lrp.Reshape(-1, n), "axes_in: expected a number of axes ≥ 1, got") for n in (0, 1.0)),
        *((lambda s=s: lrp.Reshape(s).forward(X), "does not fit 4 features, of shape (2, 4, 6, 4)") for s in ((3, -1), 2)),
        (lambda: lrp.Resize(), "size: expected a size or a scale, got size=None and scale=None"),
        (lambda: lrp.Resize(2, 2), "size: expected a size or a scale, got size=2 and scale=2"),
        (lambda: lrp.Resize(0), "size: expected an int ≥ 1, or two for (height, width), got 0"),
        *(
            (lambda s=s: lrp.Resize(scale=s), "scale: expected a number > 0, or two for (height, width), got")
            for s in (0, -1.0, (1, 2, 3), (1,), np.inf, ("1", 2))
        ),
        (lambda: lrp.Resize(2, mode="cubic"), "mode: expected one of nearest, bilinear, got 'cubic'"),
        (lambda: lrp.Resize(2, coordinates="corners"), "coordinates: expected one of half_pixel, "),
        (lambda: lrp.Resize(2, rounding="up"), "rounding: expected one of round_prefer_floor, "),
        (lambda: lrp.Resize(2).forward(W4), "x: Resize expects (…, height, width, channel), got shape (4,)"),
        (lambda: lrp.Resize(scale=0.1).forward(X), "leaves nothing of a map of (4, 6)"),
        (lambda: lrp.LayerNorm(0), "over: expected axes counted from the end"),
        (lambda: lrp.LayerNorm(relevance="none"), "relevance: expected 'identity' or 'detached', got 'none'"),
        *((lambda e=e: lrp.LayerNorm(eps=e), "eps: expected a number ≥ 0, got") for e in (-1, True, None)),
        (lambda: lrp.LayerNorm((-2, -1)).forward(W4), "x: LayerNorm expects at least 2 axes, got shape (4,)"),
        (lambda: lrp.LayerNorm(-1, np.ones(3)).forward(X), "x: LayerNorm's w, (3,), does not broadcast to (2, 4, 6, 4)"),
        (lambda: lrp.LayerNorm(-1, W4, np.ones(2)).forward(X), "x: LayerNorm's b, (2,), does not broadcast to (2, 4, 6, 4)"),
        *((lambda n=n: lrp.GroupNorm(n), "groups: expected a number of groups ≥ 1, got") for n in (0, True, 2.0)),
        *((lambda n=n: lrp.GroupNorm(2, axes_in=n), "axes_in: expected a number of axes ≥ 1, got") for n in (0, True, 2.0)),
        (lambda: lrp.GroupNorm(3).forward(X), "groups: 3 groups do not divide 4 channels"),
        (lambda: lrp.GroupNorm(2, np.ones((1, 4))), "w: expected one number for each channel, got shape (1, 4)"),
        (lambda: lrp.InstanceNorm(axes_in=1), "axes_in: expected at least 2, places and channels, got 1"),
        (lambda: lrp.Pad(1, "mirror"), "mode: expected 'zeros', 'constant', 'reflect', 'edge' or 'wrap', got 'mirror'"),
        (lambda: lrp.Pad(1, "edge", 1.0), "value: 1.0 has no meaning with mode='edge'"),
        (
            lambda: lrp.Pad(((0, 4), (0, 0)), "reflect").forward(X),
            "padding: expected at most (3, 5), since the map is (4, 6), got ((0, 4), (0, 0)) with mode='reflect'",
        ),
        (lambda: lrp.Pad1D((0, 7), "wrap").forward(X), "padding: expected at most (6,), since the map is (6,), got ((0, 7),)"),
        (lambda: lrp.Pad1D((0, 7)).forward(W4), "x: Pad1D expects (…, length, channel), got shape (4,)"),
        (lambda: lrp.Pad3D((1, 1)), "padding: expected an int ≥ 0, or three for (depth, height, width), got (1, 1)"),
        (lambda: lrp.Pad().forward(W4), "x: Pad expects (…, height, width, channel), got shape (4,)"),
        (lambda: lrp.Affine(None), "w: expected w, b or both, got neither"),
        (
            lambda: lrp.Affine(np.ones((2, 1, 4))).forward(np.ones((1, 4))),
            "x: Affine's w, (2, 1, 4), does not broadcast to (1, 4)",
        ),
        (lambda: lrp.Mean((-1, -1)), "over: expected axes counted from the end, −1 for the last, each once"),
        (lambda: lrp.Mean(-3).forward(np.ones((2, 2))), "x: Mean expects at least 3 axes, got shape (2, 2)"),
        *((lambda a=a: lrp.Concatenation(a), "axis: expected an axis counted from the end, −1") for a in (0, 1, -1.0)),
        (lambda: lrp.Concatenation(-2).output_shape(((3,), (3,))), "x: Concatenation expects maps of one size, got (3,), (3,)"),
        (lambda: lrp.Clip(1, 0), "maximum: expected at least the minimum, 1, got 0"),
        (lambda: lrp.ClippedReLU(0), "maximum: expected a number > 0, got 0"),
        (lambda: lrp.GELU("erf"), "approximate: expected 'none' or 'tanh', got 'erf'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(make, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        make()
    assert message in str(caught.value)


def test_what_just_fits_is_taken():
    assert lrp.ChannelShuffle(1).forward(X).shape == X.shape
    assert lrp.GroupNorm(1, axes_in=1).forward(X).shape == X.shape
    assert lrp.InstanceNorm(axes_in=2).forward(X).shape == X.shape
    np.testing.assert_array_equal(lrp.LayerNorm(b=W4).forward(X), lrp.LayerNorm().forward(X) + 1)
    assert lrp.LayerNorm(eps=0).forward(X).shape == X.shape
    assert lrp.Clip(1, 1).forward(X).max() == 1
    assert lrp.Clip(-1, 0.5).output_is_nonnegative(True)
    assert lrp.Clip(-1, 0).output_is_nonnegative(True)
    assert not lrp.Clip(-1, -0.5).output_is_nonnegative(True)
    assert lrp.ClippedReLU(0.5).forward(X).max() == 0.5
    exact = integers(np.random.default_rng(0), 3)
    assert (lrp.Clip(-np.inf, np.inf).forward(exact) == exact).all()  # no bound: infinity is no Fraction
    assert lrp.Pad(((0, 3), (0, 5)), "reflect").forward(X).shape == (2, 7, 11, 4)
    assert lrp.Pad(((0, 4), (6, 6)), "wrap").forward(X).shape == (2, 8, 18, 4)
    assert lrp.Resize(scale=(0.25, 1 / 6)).forward(X).shape == (2, 1, 1, 4)
    assert lrp.Reshape(4).forward(X).shape == X.shape


@pytest.mark.parametrize("make", [lrp.LayerNorm, lrp.Affine])
def test_constants_of_two_dtypes_are_refused(make):
    with pytest.raises(TypeError, match="b is float32, but w is float64"):
        make(w=W4, b=W4.astype("float32"))
    with pytest.raises(TypeError, match=r"x is float32, but \w+\.b is float64"):
        make(w=None, b=W4).forward(X.astype("float32"))

"""Attribution methods: one protocol for all, and for each an oracle of its own."""

import pickle
import re
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from support import integers, rngs

import lrp_toolbox as lrp
import lrp_toolbox.attribution.patterns as patterns_module
from lrp_toolbox import modules
from lrp_toolbox.attribution import (
    CAM,
    LRP,
    METHODS,
    ContrastiveLRP,
    DeconvNet,
    Fit,
    GradCAM,
    Gradient,
    GradientInput,
    GuidedBackprop,
    IntegratedGradients,
    Occlusion,
    PatternAttribution,
    PatternNet,
    Patterns,
    SmoothGrad,
    Uniform,
    excitation_backprop,
    parse_composite,
    parse_method,
)
from lrp_toolbox.attribution.cam import _scaled_up
from lrp_toolbox.attribution.fitting import find_images
from lrp_toolbox.cli import main
from lrp_toolbox.modules import Layer
from lrp_toolbox.testing import cases, layers, nets, to_fractions

F = to_fractions
RNG = np.random.default_rng(0)


def conv(*shape, **more):
    return lrp.Conv(RNG.standard_normal(shape), RNG.standard_normal(shape[-1]), **more)


NET = lrp.Sequential(
    conv1=conv(3, 3, 2, 4, padding=1),
    relu1=lrp.ReLU(),
    pool=lrp.MaxPool((1, 2)),
    add=lrp.Add(lrp.Sequential(conv(3, 3, 4, 4, padding=1), lrp.ReLU()), lrp.Identity()),
    concat=lrp.Concat(lrp.Sequential(conv(1, 1, 4, 3), lrp.ReLU()), lrp.Sequential(conv(3, 3, 4, 2, padding=1), lrp.ReLU())),
    mean=lrp.AvgPool(None),
    flatten=lrp.Flatten(),
    dropout=lrp.Dropout(),
    fc=lrp.Linear(RNG.standard_normal((5, 3)), RNG.standard_normal(3)),
)
X = RNG.standard_normal((2, 5, 6, 2))
NAMES = ("cat", "dog", "fish")


def fitted(net, x, **more):
    fit = Fit(net, **more)
    fit.add(x)
    return fit.patterns()


PATTERNS = fitted(NET, RNG.standard_normal((50, 5, 6, 2)))
EACH = [
    LRP(),
    LRP(lrp.uniform(lrp.Z())),
    excitation_backprop(),
    ContrastiveLRP(),
    Gradient(),
    GradientInput(),
    GuidedBackprop(),
    GuidedBackprop(start="logit"),
    DeconvNet(),
    SmoothGrad(samples=3),
    IntegratedGradients(steps=3, baseline=0.5),
    PatternNet(patterns=PATTERNS),
    PatternAttribution(patterns=PATTERNS),
    GradCAM(),
    CAM(),
    Occlusion(window=2, stride=1),
    Uniform(),
]
each_method = pytest.mark.parametrize("method", EACH, ids=lambda m: m.name)


def one_hot(net, x, target):
    """What ∂y_t/∂x begins with."""
    y = net.forward(x)
    start = np.zeros(y.shape, y.dtype)
    start[..., target] = 1
    return start


def gradient(net, x, target):
    return net.gradient(net.trace(x), one_hot(net, x, target))


def differences(net, x, target, h=1e-6):
    """∂y_t/∂x by central differences."""
    g = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = h
        g[i] = (net.forward(x + step)[target] - net.forward(x - step)[target]) / (2 * h)
    return g


# ---- one protocol ----------------------------------------------------------------------------------------------------


@each_method
def test_relevance_is_as_explain_gives_it(method, xp):
    """Shape, array module and dtype for one or several samples and targets; the same as one by one; nothing is changed."""
    net, x = NET.to(xp), lrp.asarray(X.copy(), xp)
    whole = lrp.to_numpy(method(net, x, [2, 0]))
    assert whole.shape == (2, 2, 5, 6, 2)
    for n in range(2):
        for k, target in enumerate([2, 0]):
            R = method(net, x[n, ...], target)
            assert lrp.asarray(R, xp) is R
            assert R.dtype == x.dtype
            np.testing.assert_allclose(lrp.to_numpy(R), whole[n, k], atol=1e-12)
    np.testing.assert_allclose(lrp.to_numpy(method(net, x, 2)), whole[:, 0], atol=1e-12)
    np.testing.assert_allclose(lrp.to_numpy(method(net, x[1, ...], [2, 0])), whole[1], atol=1e-12)
    np.testing.assert_array_equal(lrp.to_numpy(x), X)
    assert np.isfinite(whole).all()
    assert abs(whole).max() > 0


@each_method
def test_targets_may_be_names_or_the_top_and_each_samples_own(method):
    model = SimpleNamespace(net=NET, classes=NAMES)
    top = NET.forward(X).argmax(axis=1).tolist()
    whole = method(NET, X, [0, 1, 2])
    np.testing.assert_allclose(method(model, X, "fish"), whole[:, 2], atol=1e-12)
    np.testing.assert_allclose(method(model, X, "top"), np.stack([whole[n, t] for n, t in enumerate(top)]), atol=1e-12)
    own = method(model, X, [["dog", "top"], [2, "cat"]])
    expected = np.stack([whole[0, [1, top[0]]], whole[1, [2, 0]]])
    np.testing.assert_allclose(own, expected, atol=1e-12)


@each_method
def test_float32_gives_float32_close_to_float64(method):
    R = method(NET.astype(np.float32), X.astype(np.float32), [0, 2])
    exact = method(NET, X, [0, 2])
    assert R.dtype == np.float32
    np.testing.assert_allclose(R, exact, atol=1e-3 * abs(exact).max())


@each_method
def test_methods_are_data(method):
    assert method == replace(method)
    with pytest.raises(AttributeError):
        method.title = "mine"
    if not isinstance(method, PatternNet):  # these travel with a folder, below
        again = pickle.loads(pickle.dumps(method))
        assert again == method
        np.testing.assert_array_equal(again(NET, X[0], 1), method(NET, X[0], 1))
    assert len({m.name for m in EACH}) == len(EACH)


@each_method
@pytest.mark.parametrize(
    ("ask", "error", "message"),
    [
        (lambda m: m(NET, X, 3), ValueError, "target: expected a class from 0 to 2, got 3"),
        (lambda m: m(NET, X, "cat"), ValueError, "this net does not know its classes"),
        (lambda m: m(NET, X, []), ValueError, "target: expected at least one class"),
        (lambda m: m(NET, X[0, 0], 0), ValueError, "x: expected"),
        (lambda m: m("vgg16-voc", X, 0), TypeError, "net: expected a module or a loaded model, got str"),
    ],
)
def test_bad_input_gets_a_clear_error(method, ask, error, message):
    with pytest.raises(error) as caught:
        ask(method)
    assert message in str(caught.value)


@pytest.mark.parametrize("method", [m for m in EACH if not isinstance(m, Uniform)], ids=lambda m: m.name)
def test_numbers_that_are_none_or_of_another_dtype_refuse(method):
    x = X.copy()
    x[1, 2, 3, 1] = np.nan
    with pytest.raises(ValueError, match="expected finite numbers, got NaN or infinity"):
        method(NET, x, 0)
    with pytest.raises(TypeError, match="nothing is cast in silence"):
        method(NET, X.astype(np.float32), 0)


def test_batches_are_cut_to_fit(monkeypatch):
    for method in (Occlusion(2, 1), IntegratedGradients(2)):
        whole = method(NET, X, [0, 1])
        monkeypatch.setitem(lrp.backend.MEMORY, "host", 1)
        monkeypatch.setattr("lrp_toolbox.attribution.perturbing.AT_A_TIME", 3)
        np.testing.assert_allclose(method(NET, X, [0, 1]), whole, atol=1e-12)
        monkeypatch.undo()


# ---- gradients -------------------------------------------------------------------------------------------------------


@given(cases(nets()), st.integers(0, 2))
def test_the_walk_by_gradient_is_the_gradient(case, target):
    """Over random nets with branches, in Fractions: what `explain` walks with gradient steps is what modules know."""
    net, x, _ = case
    expected = net.gradient(net.trace(x), F(np.eye(3, dtype=int)[target]))
    assert (Gradient()(net, x, target) == expected).all()


def test_gradient_by_differences():
    for target in range(3):
        np.testing.assert_allclose(Gradient()(NET, X[0], target), differences(NET, X[0], target), atol=1e-7)


def test_a_start_with_the_logit_multiplies_by_it():
    y = NET.forward(X[0])
    np.testing.assert_allclose(Gradient(start="logit")(NET, X[0], 1), y[1] * gradient(NET, X[0], 1))


def test_gradient_times_input_is_lrp_z():
    """Sec. II-A: in a ReLU net, biases or not, as long as they absorb."""
    R = GradientInput()(NET, X, [0, 1, 2])
    np.testing.assert_allclose(R, lrp.explain(NET, X, [0, 1, 2], lrp.Z()).R, atol=1e-10)
    np.testing.assert_allclose(R[:, 1], gradient(NET, X, 1) * X, atol=1e-12)


def test_batch_norm_is_part_of_the_gradient():
    norm = lrp.BatchNorm(RNG.standard_normal(4), np.full(4, 2.0), beta=np.ones(4))
    net = lrp.Sequential([("conv1", NET["conv1"]), ("norm", norm), *list(NET.items())[1:]])
    np.testing.assert_allclose(Gradient()(net, X[0], 1), differences(net, X[0], 1), atol=1e-7)


def test_a_single_layer_is_a_net():
    np.testing.assert_array_equal(Gradient()(NET["fc"], X[:, 0, :5, 0], 1), np.tile(NET["fc"].w[:, 1], (2, 1)))


def relu_net():
    """h = (x1 − x2, x2 − x1, x1 + x2), y = (−h1⁺ + 3 h2⁺ + 2 h3⁺, −that)."""
    hidden, out = F([[1, -1, 1], [-1, 1, 1]]), F([[-1, 1], [3, -3], [2, -2]])
    return lrp.Sequential(lrp.Linear(hidden), lrp.ReLU(), lrp.Linear(out))


@pytest.mark.parametrize(
    ("method", "first", "second"),
    [  # x = (2, 1): h = (1, −1, 3), of which the first and the last are active; y = (5, −5)
        (Gradient(), [1, 3], [-1, -3]),  # −1 (1, −1) + 2 (1, 1)
        (GuidedBackprop(), [2, 2], [1, -1]),  # of (−1, 2) only 2; of (1, −2) only 1
        (DeconvNet(), [-1, 5], [1, -1]),  # of (−1, 3, 2) 3 (−1, 1) + 2 (1, 1); of (1, −3, −2) only 1
        (GuidedBackprop(start="logit"), [10, 10], [10, 10]),  # −5 (1, −3, −2) = 5 (−1, 3, 2): both say the same
        (DeconvNet(start="logit"), [-5, 25], [-5, 25]),
    ],
    ids=lambda p: p.name if hasattr(p, "name") else "",
)
def test_rectified_gradients_by_hand(method, first, second):
    assert method(relu_net(), F([2, 1]), [0, 1]).tolist() == [first, second]


@pytest.mark.parametrize("activation", [lrp.LeakyReLU(0.5), lrp.PReLU(np.ones(5)), lrp.Tanh(), lrp.Sigmoid()])
def test_what_is_said_of_relu_is_not_done_to_others(activation):
    net = lrp.Sequential(lrp.Linear(np.ones((4, 5))), activation, lrp.Linear(np.ones((5, 2))))
    for method in (GuidedBackprop(), DeconvNet()):
        with pytest.raises(TypeError, match=f"are defined for ReLU only, and this net has {type(activation).__name__}"):
            method(net, np.ones(4), 0)
    np.testing.assert_allclose(Gradient()(net, np.full(4, 0.1), 0), differences(net, np.full(4, 0.1), 0), atol=1e-8)


@pytest.mark.parametrize("relu6", [lrp.ClippedReLU(6), lrp.Clip(0, 6)])
def test_relu6_passes_positive_gradients_through_its_open_part(relu6):
    """x = (1, 7, −1, 2) is in, above, below and in its open part; from above come (3, 5, 7, −2)."""
    net = lrp.Sequential(relu6, lrp.Linear(F([[3, -3], [5, -5], [7, -7], [-2, 2]])))
    assert Gradient()(net, F([1, 7, -1, 2]), [0, 1]).tolist() == [[3, 0, 0, -2], [-3, 0, 0, 2]]
    assert GuidedBackprop()(net, F([1, 7, -1, 2]), [0, 1]).tolist() == [[3, 0, 0, 0], [0, 0, 0, 2]]
    assert DeconvNet()(net, F([1, 7, -1, 2]), [0, 1]).tolist() == [[3, 5, 7, 0], [0, 0, 0, 2]]


RECTIFIED = {"ReLU", "ClippedReLU"}
ORDINARY = {  # rectified gradients are ordinary gradients there
    *("Linear", "Conv", "Conv1D", "Conv3D", "ConvTranspose", "Scale", "BatchNorm", "Affine", "Sum", "Concatenation"),
    *("AvgPool", "AvgPool1D", "AvgPool3D", "SumPool", "AdaptiveAvgPool", "Mean", "ReduceSum", "Resize"),
    *("Pad", "Pad1D", "Pad3D"),
    *("MaxPool", "MaxPool1D", "MaxPool3D", "AdaptiveMaxPool"),
    *("Flatten", "Reshape", "Transpose", "Slice", "ChannelShuffle", "Identity", "Dropout"),
}
REFUSED = {
    *(
        "LeakyReLU",
        "PReLU",
        "ELU",
        "GELU",
        "SiLU",
        "Mish",
        "HardSwish",
        "HardSigmoid",
        "Sigmoid",
        "Tanh",
        "Softplus",
        "SoftMax",
    ),
    *("Clip", "Multiply", "LRN", "LayerNorm", "GroupNorm", "InstanceNorm"),
}


def test_rectified_gradients_take_a_stand_on_every_layer():
    """A new layer has to be put into one of the three groups."""
    kinds = {name for name in modules.__all__ if isinstance(kind := getattr(modules, name), type) and issubclass(kind, Layer)}
    assert kinds - {"Layer", "LinearModule"} == RECTIFIED | ORDINARY | REFUSED
    for method in (GuidedBackprop(), DeconvNet()):
        for name in RECTIFIED | ORDINARY:
            layer = object.__new__(getattr(modules, name))
            assert (method.step("a", layer) is method.at_relu) == (name in RECTIFIED)
        for name in REFUSED:
            layer = lrp.Clip(-1, 1) if name == "Clip" else object.__new__(getattr(modules, name))
            with pytest.raises(TypeError, match=rf"are defined for ReLU only, and this net has {name} \(block/a\)"):
                method.step("block/a", layer)


def test_softmax_is_to_be_taken_off():
    with pytest.raises(TypeError, match="explain the logits"):
        Gradient()(lrp.Sequential(NET, lrp.SoftMax()), X, 0)


# ---- other starts for LRP --------------------------------------------------------------------------------------------


@given(rngs())
def test_excitation_backprop_is_lrp_alpha1(rng):
    """Winners drawn from the top: P(i | j) = x_i w⁺_ij / Σ_i x_i w⁺_ij, P(i) = Σ_j P(i | j) P(j) (Zhang et al. 2018, Eq. 4)."""
    weights = [integers(rng, 4, 5), integers(rng, 5, 4), integers(rng, 4, 3)]
    bias = [integers(rng, len(w.T)) for w in weights]
    layers = [lrp.Linear(w, b) for w, b in zip(weights, bias, strict=True)]
    net, x = lrp.Sequential(layers[0], lrp.ReLU(), layers[1], lrp.ReLU(), layers[2]), integers(rng, 4, least=0)
    xs = [x]
    for layer in layers[:2]:
        xs.append(np.maximum(layer.forward(xs[-1]), 0))
    for target in range(3):
        P = F(np.eye(3, dtype=int)[target])
        for a, w in zip(xs[::-1], weights[::-1], strict=True):
            z = a[:, None] * np.maximum(w, 0)
            total = z.sum(axis=0)
            P = (z[:, total != 0] / total[total != 0]) @ P[total != 0]
        R = excitation_backprop()(net, x, target)
        assert (R == P).all()
        assert 0 <= R.sum() <= 1


def test_excitation_backprop_and_alpha1_on_digits(lenet):
    """Begun with 1 and with the logit they differ by that factor; without biases α1 is the plain rule."""
    net = lrp.Sequential([(n, replace(m, b=None) if hasattr(m, "b") else m) for n, m in lenet.net.astype(float).items()])
    x = RNG.uniform(0, 1, (3, 28, 28, 1))
    y = net.forward(x)
    expected = lrp.explain(net, x, [1, 7], lrp.AlphaBeta(1)).R
    np.testing.assert_allclose(excitation_backprop()(net, x, [1, 7]) * y[:, [1, 7], None, None, None], expected, atol=1e-12)
    assert (excitation_backprop()(net, x, [1, 7]) >= 0).all()


@pytest.mark.parametrize("composite", [lrp.uniform(lrp.ZPlus()), lrp.lrp_cmp(), lrp.uniform(lrp.Z())], ids=lambda c: c.name)
def test_contrastive_lrp_is_two_walks(composite):
    y = NET.forward(X)
    for target in range(3):
        own = y[:, [target]] * np.eye(3)[target]
        others = y[:, [target]] * (1 - np.eye(3)[target]) / 2
        R, R_dual = (lrp.explain(NET, X, None, composite, start=start).R for start in (own, others))
        np.testing.assert_allclose(ContrastiveLRP(composite)(NET, X, target), np.maximum(R - R_dual, 0), atol=1e-10)


def test_contrastive_lrp_by_hand_and_without_another_class():
    """y = (1 + 3, 2 + 4). The 6 of the second: (2, 4). The same 6 from the first: (1, 3) · 6/4. max(0, (1/2, −1/2))."""
    with pytest.raises(ValueError, match="sets a class against others, and this net has one output"):
        ContrastiveLRP()(lrp.Linear(np.ones((2, 1))), np.ones(2), 0)
    assert ContrastiveLRP()(lrp.Linear(F([[1, 2], [3, 4]])), F([1, 1]), 1).tolist() == [Fraction(1, 2), 0]


# ---- other inputs ----------------------------------------------------------------------------------------------------


def test_smoothgrad_is_the_mean_over_noisy_copies():
    noise = np.random.default_rng(7).standard_normal((4, *X[0].shape))
    sigma = 0.3 * (X[0].max() - X[0].min())
    expected = np.mean([gradient(NET, X[0] + sigma * n, 1) for n in noise], axis=0)
    np.testing.assert_allclose(SmoothGrad(4, 0.3, seed=7)(NET, X[0], 1), expected, atol=1e-12)
    np.testing.assert_allclose(SmoothGrad(2, noise=0)(NET, X, [0, 1]), Gradient()(NET, X, [0, 1]), atol=1e-12)
    assert abs(SmoothGrad(4, 0.3, seed=8)(NET, X[0], 1) - expected).max() > 1e-3


def test_the_top_class_of_smoothgrad_is_that_of_x():
    """The noise may change which output is the largest; what is explained stays."""
    net = lrp.Linear(np.array([[1.0, -1.0], [0.0, 0.0]]), np.array([0.0, 0.1]))
    x = np.array([0.1, 5.0])
    assert net.forward(x).argmax() == 0
    np.testing.assert_array_equal(SmoothGrad(20, noise=2)(net, x, "top"), [1, 0])


def smooth_net():
    rng = np.random.default_rng(3)
    return lrp.Sequential(
        lrp.Linear(rng.standard_normal((4, 6))), lrp.Tanh(), lrp.Linear(rng.standard_normal((6, 5))), lrp.Sigmoid(),
        lrp.Linear(rng.standard_normal((5, 3)), rng.standard_normal(3)),
    )  # fmt: skip


@pytest.mark.parametrize("net", [smooth_net(), NET], ids=["smooth", "relu"])
def test_integrated_gradients_are_complete(net):
    x = X if net is NET else X[:, 0, :4, 0]
    for baseline in (0.0, -1.5):
        method = IntegratedGradients(steps=300, baseline=baseline)
        R = method(net, x, [0, 2])
        difference = (net.forward(x) - net.forward(np.full_like(x, baseline)))[:, [0, 2]]
        sums = R.reshape(2, 2, -1).sum(axis=-1)
        np.testing.assert_allclose(sums, difference, atol=0.1 if net is NET else 1e-4)
        np.testing.assert_allclose(method.missing(net, x, [0, 2], R), difference - sums, atol=1e-12)
        assert method.missing(net, x[0], 1, method(net, x[0], 1)).shape == ()


def test_integrated_gradients_converge_with_the_square_of_the_steps():
    net, x = smooth_net(), X[0, 0, :4, 0]
    errors = [float(abs(m.missing(net, x, 0, m(net, x, 0)))) for m in map(IntegratedGradients, (64, 128, 256))]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.1)
    assert errors[1] / errors[2] == pytest.approx(4, rel=0.1)
    linear = lrp.Linear(RNG.standard_normal((4, 3)), RNG.standard_normal(3))
    np.testing.assert_allclose(IntegratedGradients(1)(linear, x, 0), x * linear.w[:, 0])


def test_integrated_gradients_are_complete_on_digits(lenet, data):
    x = np.load(data / "mnist" / "mnist.npz")["test_images"][::1500].astype(np.float32)[..., None] / 255
    method = IntegratedGradients(steps=64)
    R = method(lenet, x, "top")
    difference = lenet.net.forward(x).max(axis=1) - lenet.net.forward(x * 0)[range(len(x)), lenet.net.forward(x).argmax(axis=1)]
    assert (abs(method.missing(lenet, x, "top", R)) <= 0.01 * abs(difference)).all()
    np.testing.assert_allclose(R.sum(axis=(1, 2, 3)), difference, rtol=0.01)


@pytest.mark.parametrize(("window", "stride"), [(1, 1), (2, 1), (3, 2), (3, 3), (9, 1), (4, None), (None, None)])
def test_occlusion_is_the_mean_fall_over_the_squares_on_a_pixel(window, stride):
    x, value = X[0], 0.25
    R = Occlusion(window, stride, value)(NET, x, [0, 2])
    w = window or 1
    s = stride or max(1, w // 2)
    falls = [[[] for _ in range(6)] for _ in range(5)]
    top = 0
    while True:
        left = 0
        while True:
            covered = x.copy()
            covered[top : top + w, left : left + w] = value
            fall = (NET.forward(x) - NET.forward(covered))[[0, 2]]
            for i in range(top, min(top + w, 5)):
                for j in range(left, min(left + w, 6)):
                    falls[i][j].append(fall)
            if left + w >= 6:
                break
            left += s
        if top + w >= 5:
            break
        top += s
    for i in range(5):
        for j in range(6):
            np.testing.assert_allclose(R[:, i, j].sum(axis=-1), np.mean(falls[i][j], axis=0), atol=1e-12)
            np.testing.assert_allclose(R[:, i, j, 0], R[:, i, j, 1])


def test_occlusion_of_single_pixels_in_a_linear_net_is_gradient_times_input():
    net = lrp.Sequential(conv(3, 3, 1, 2, padding=1), lrp.Flatten(), lrp.Linear(RNG.standard_normal((24, 2))))
    x = RNG.standard_normal((4, 3, 1))
    np.testing.assert_allclose(Occlusion(1, 1)(net, x, [0, 1]), GradientInput()(net, x, [0, 1]), atol=1e-12)
    with pytest.raises(ValueError, match="covers squares"):
        Occlusion()(relu_net().map(lambda a: a.astype(float)), np.ones(2), 0)
    with pytest.raises(ValueError, match="stride: expected at most the window, 2, for every pixel to be covered, got 3"):
        Occlusion(2, 3)(NET, X, 0)


def test_the_uniform_baseline():
    R = Uniform()(NET, X, [0, 1])
    assert (R.flat[0] == R).all()
    np.testing.assert_allclose(R.sum(axis=(2, 3, 4)), 1)


# ---- class activation maps -------------------------------------------------------------------------------------------


def test_grad_cam_against_its_definition():
    """α_k = mean of ∂y/∂A_k; Σ α_k A_k, rectified; scaled up as Pillow does it."""
    for layer in ("relu1", "pool", "add", None):
        at = NET.names.index(layer or "concat") + 1
        A = NET[:at].forward(X[0])
        g = gradient(NET[at:], A, 1)
        small = np.maximum((g.mean(axis=(0, 1)) * A).sum(axis=-1), 0)
        expected = Image.fromarray(small.astype(np.float32)).resize((6, 5), Image.Resampling.BILINEAR)
        R = GradCAM(layer)(NET, X[0], 1)
        np.testing.assert_allclose(R.sum(axis=-1), np.asarray(expected), atol=1e-6)
        np.testing.assert_array_equal(R[..., 0], R[..., 1])


def test_cam_is_the_relevance_of_the_last_maps():
    """With LRP_z the maps under a global average get α_k A_k, whose sum is the logit but for the bias."""
    net = lrp.Sequential([(name, module) for name, module in NET.items() if name != "pool"])
    R = CAM()(net, X, [0, 1]).sum(axis=-1)
    e = lrp.explain(net, X, [0, 1], lrp.Z(), keep=["concat/*/relu1"])
    of_maps = sum(a.sum(axis=-1) for a in e.layers.values())
    np.testing.assert_allclose(R, of_maps, atol=1e-12)
    np.testing.assert_allclose(R.sum(axis=(2, 3)), net.forward(X)[:, :2] - net["fc"].b[:2])
    assert (R < 0).any()


def test_the_last_map_may_be_that_of_a_transposed_convolution():
    rng = np.random.default_rng(0)
    layers = {
        "conv": lrp.Conv(rng.standard_normal((2, 2, 1, 3))),
        "up": lrp.ConvTranspose(rng.standard_normal((2, 2, 3, 2)), stride=2),
    }
    net = lrp.Sequential(**layers, flatten=lrp.Flatten(), fc=lrp.Linear(rng.standard_normal((72, 2))))
    x = rng.standard_normal((4, 4, 1))
    np.testing.assert_array_equal(GradCAM()(net, x, 0), GradCAM("up")(net, x, 0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: GradCAM("conv9")(NET, X, 0), "layer: no 'conv9' at the top level; there are conv1, relu1"),
        (lambda: GradCAM("flatten")(NET, X, 0), "layer: expected one that gives a map, got 'flatten', which gives (5,)"),
        (lambda: GradCAM()(lrp.Linear(np.ones((2, 2))), np.ones(2), 0), "Grad-CAM needs a net of several layers, got Linear"),
        (
            lambda: GradCAM()(lrp.Sequential(NET["fc"]), np.ones(5), 0),
            "the last map (height, width, channel) that a Conv gives, and there is none",
        ),
        (lambda: GradCAM()(NET[:2], X, 0), "net: expected one number for each class"),
        (lambda: CAM("pool")(NET, X, 0), "CAM is for nets that end in an average over the whole map"),
        (
            lambda: CAM()(lrp.Sequential([*NET.items(), ("relu", lrp.ReLU())]), X, 0),
            "got AvgPool, Flatten, Dropout, Linear, ReLU",
        ),
    ],
)
def test_maps_that_are_not_there_get_a_clear_error(make, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        make()
    assert message in str(caught.value)


# ---- patterns --------------------------------------------------------------------------------------------------------


def samples_of(layer, xs, group):
    """Every window of every map as a row, with zeros in the padding, and the outputs of that group: by loops."""
    per = layer.w.shape[2]
    rows = []
    (top, bottom), (left, right) = layer.padding
    for x in xs:
        padded = np.pad(x, ((top, bottom), (left, right), (0, 0)))[..., group * per : (group + 1) * per]
        (kh, kw), (down, across), (sh, sw) = layer.w.shape[:2], layer.dilation, layer.stride
        for i in range(0, padded.shape[0] - down * (kh - 1), sh):
            for j in range(0, padded.shape[1] - across * (kw - 1), sw):
                rows.append(padded[i : i + down * kh : down, j : j + across * kw : across][:kh, :kw].ravel())
    return np.array(rows)


def pattern_of(w, x, y, only):
    """a of one neuron by its formula, from samples x (n, in), y (n)."""
    plus = y[only]
    c = (x[only] * plus[:, None]).mean(axis=0) - x[only].mean(axis=0) * y.mean()
    return c / (w @ c)


@pytest.mark.parametrize("estimator", ["relu", "linear"])
@given(rng=rngs(), drawn=layers(lrp.Conv), groups=st.integers(1, 2))
def test_the_estimator_against_its_formula(estimator, rng, drawn, groups):
    geometry, (*size, _) = drawn
    w, b = rng.standard_normal((*geometry.w.shape[:2], 2, 2 * groups)), rng.standard_normal(2 * groups)
    layer = replace(geometry, w=w, b=b, groups=groups)
    x = rng.standard_normal((6, *size, 2 * groups))
    a = fitted(lrp.Sequential(conv=layer, relu=lrp.ReLU()), x, estimator=estimator).arrays["conv"]
    assert a.shape == layer.w.shape
    for j in range(2 * groups):
        rows, w, b = samples_of(layer, x, j // 2), layer.w[..., j].ravel(), layer.b[j]
        y = rows @ w
        only = y + b > 0 if estimator == "relu" else np.full(len(y), True)
        if not only.any() or np.ptp(y[only]) < 1e-3:  # silent, or a single sample: too little to compare
            continue
        np.testing.assert_allclose(a[..., j].ravel(), pattern_of(w, rows, y, only), rtol=1e-6, atol=1e-8)


def test_a_signal_is_told_from_what_distracts():
    """The example of the paper's Sec. 2: x = s (1, 0) + ε (1, 1), w = (1, −1) filters ε out; the pattern is (1, 0), not w."""
    rng = np.random.default_rng(0)
    s, eps = rng.uniform(-1, 1, 20000), rng.standard_normal(20000)
    x = s[:, None] * [1.0, 0.0] + eps[:, None] * [1.0, 1.0]
    net = lrp.Linear(np.array([[1.0], [-1.0]]))
    patterns = fitted(net, x)
    np.testing.assert_allclose(patterns.arrays["linear"][:, 0], [1, 0], atol=0.03)
    np.testing.assert_allclose(PatternNet(patterns=patterns)(net, x[:9], 0), s[:9, None] * patterns.arrays["linear"].T)
    np.testing.assert_allclose(PatternAttribution(patterns=patterns)(net, x[:9], 0).sum(axis=1), s[:9])


def test_which_layers_feed_a_relu():
    """Through pooling and dropout, into the branches of a Concat, but not of an Add; never the last layer."""
    rng = np.random.default_rng(1)

    def layer():
        return lrp.Conv(rng.standard_normal((1, 1, 2, 2)), rng.standard_normal(2))

    net = lrp.Sequential(
        pooled=lrp.Sequential(layer(), lrp.MaxPool(2)), dropout=lrp.Dropout(), relu=lrp.ReLU(),
        concat=lrp.Concat(a=layer(), b=layer()), relu2=lrp.ReLU(),
        narrow=lrp.Conv(rng.standard_normal((1, 1, 4, 2))), add=lrp.Add(c=layer(), skip=lrp.Identity()), relu3=lrp.ReLU(),
        mean=lrp.AvgPool(None), flatten=lrp.Flatten(), last=lrp.Linear(rng.standard_normal((2, 2))),
    )  # fmt: skip
    x = rng.standard_normal((30, 4, 4, 2))
    relu, linear = fitted(net, x).arrays, fitted(net, x, estimator="linear").arrays
    assert list(relu) == ["pooled/conv1", "concat/a", "concat/b", "narrow", "add/c", "last"]
    same = [name for name in relu if np.allclose(relu[name], linear[name])]
    assert same == ["narrow", "add/c", "last"]


def test_digits_leave_residuals_that_are_uncorrelated(lenet, data):
    """The defining property, on real data, for every layer of a real net: cov[x − a y, y] = 0, and w·a = 1.

    With E₊ for E where a ReLU reads y. Computed anew from the rows that each neuron sees, by loops.
    """
    x = np.load(data / "mnist" / "mnist.npz")["train_images"][::1500].astype(float)[..., None] / 255
    net = lenet.net.astype(float)
    for estimator in ("relu", "linear"):
        patterns = fitted(net, x, estimator=estimator)
        before = x
        for name, layer in net.items():
            if name in patterns.arrays:
                residuals_are_uncorrelated(layer, patterns.arrays[name], before, estimator == "relu" and name != "fc3")
            before = layer.forward(before)


@pytest.mark.parametrize(
    "layer", [lrp.Conv1D(np.ones((2, 1, 3))), lrp.ConvTranspose(np.ones((2, 2, 1, 3))), lrp.Conv3D(np.ones((1, 1, 1, 1, 3)))]
)
def test_patterns_are_not_left_out_of_a_layer_that_can_have_none(layer):
    x = np.ones((*[4] * (layer.axes - 1), 1))
    net = lrp.Sequential(other=layer, flatten=lrp.Flatten(layer.axes))
    message = rf"net: patterns are of Linear and Conv, and other is a {type(layer).__name__}"
    for method in (PatternNet, PatternAttribution):
        with pytest.raises(TypeError, match=message):
            method(patterns=PATTERNS)(net, x, 0)
    with pytest.raises(TypeError, match=message):
        Fit(net)


def test_the_patterns_that_ship_are_those_of_digits(lenet, data):
    """Fitted anew to every 50th of the digits, the patterns of half the neurons and more point the same way."""
    digits = np.load(data / "mnist" / "mnist.npz")["train_images"][::50]
    fit, shipped = Fit(lenet.net), Patterns.load(lenet.folder)
    assert shipped.about["images"] == 60000
    for part in np.array_split(digits, 8):
        fit.add(part.astype(np.float32)[..., None] / 255)
    for name, a in fit.patterns().arrays.items():
        A, B = (p.reshape(-1, p.shape[-1]).astype(float) for p in (a, shipped.arrays[name]))
        lengths = np.sqrt((A * A).sum(axis=0) * (B * B).sum(axis=0))
        cosine = (A * B).sum(axis=0)[lengths > 0] / lengths[lengths > 0]
        assert np.median(cosine) > 0.97, name


def residuals_are_uncorrelated(layer, a, x, only_active):
    rows = samples_of(layer, x, 0) if isinstance(layer, lrp.Conv) else x
    W, A = layer.w.reshape(-1, layer.w.shape[-1]), a.reshape(-1, a.shape[-1])
    alive = abs(A).max(axis=0) > 0
    assert alive.mean() > 0.3
    np.testing.assert_allclose((W * A).sum(axis=0)[alive], 1, atol=1e-9)
    Y = rows @ W
    for j in np.flatnonzero(alive):
        y, residual = Y[:, j], rows - Y[:, [j]] * A[:, j]
        some = y + layer.b[j] > 0 if only_active else np.full(len(y), True)
        leftover = (residual[some] * y[some, None]).mean(axis=0) - residual[some].mean(axis=0) * y.mean()
        of_x = (rows[some] * y[some, None]).mean(axis=0) - rows[some].mean(axis=0) * y.mean()
        assert abs(leftover).max() <= 1e-8 * abs(of_x).max()


def test_photographs_leave_residuals_that_are_uncorrelated_in_vgg16(vgg16, data):
    """The same for the first layers of VGG-16 on photographs, in float32 as it is used."""
    files = sorted((data / "voc2007" / "train_256").glob("*.jpg"))[:6]
    x = np.stack([vgg16.prepare(lrp.read_photo(file))[60:100, 60:100] for file in files])
    net = vgg16.net[:4]
    patterns = fitted(net, x, estimator="linear")
    before = x
    for name, layer in net.items():
        if name in patterns.arrays:
            rows = samples_of(layer, before.astype(float), 0)
            W, A = (w.reshape(-1, 64).astype(float) for w in (layer.w, patterns.arrays[name]))
            Y = rows @ W
            covariance = (rows - rows.mean(axis=0)).T @ (Y - Y.mean(axis=0)) / len(rows)  # of every x with every y
            residual = covariance - A * Y.var(axis=0)  # cov[x − a y, y]
            np.testing.assert_allclose((W * A).sum(axis=0), 1, atol=1e-3)
            assert abs(residual).max() <= 1e-3 * abs(covariance).max()
        before = layer.forward(before)


def test_one_pass_in_any_pieces():
    x = RNG.standard_normal((11, 5, 6, 2))
    fit = Fit(NET)
    for piece in (x[:4], x[4:5], x[5], x[6:]):
        fit.add(piece)
    assert fit.images == 11
    for name, a in fitted(NET, x).arrays.items():
        np.testing.assert_allclose(fit.patterns().arrays[name], a, rtol=1e-9, atol=1e-9)


@given(rng=rngs(), drawn=layers(lrp.Conv), most=st.integers(1, 9))
def test_fewer_windows_are_every_so_many(rng, drawn, most):
    """As the fit of a layer with a longer stride; no map gives none."""
    geometry, (*size, _) = drawn
    layer = replace(geometry, w=rng.standard_normal((*geometry.w.shape[:2], 2, 2)), b=None, groups=1)
    x = rng.standard_normal((8, *size, 2))
    rows, columns = layer.output_shape((*size, 2))[:2]
    k = next(k for k in range(1, 9) if k * k >= rows * columns / most)
    longer = replace(layer, stride=(k * layer.stride[0], k * layer.stride[1]))
    fit = Fit(lrp.Sequential(conv=layer, relu=lrp.ReLU()), windows=most)
    fit.add(x)
    expected = fitted(lrp.Sequential(conv=longer, relu=lrp.ReLU()), x)
    np.testing.assert_allclose(fit.patterns().arrays["conv"], expected.arrays["conv"], rtol=1e-6, atol=1e-8)
    assert 8 <= fit.sums["conv"].samples[0] <= 8 * (-(-rows // k)) * (-(-columns // k))


def test_sums_are_in_double_precision():
    """Many samples far from 0: float32 sums would lose what varies. The net is float32, and each image is."""
    rng = np.random.default_rng(0)
    net = lrp.Linear(rng.standard_normal((3, 2)).astype(np.float32))
    x = (100 + rng.standard_normal((4000, 3))).astype(np.float32)
    fit = Fit(net)
    for part in x:
        fit.add(part)
    a = fit.patterns().arrays["linear"]
    assert a.dtype == np.float32
    for j in range(2):
        np.testing.assert_allclose(
            a[:, j],
            pattern_of(net.w[:, j].astype(float), x.astype(float), (x @ net.w)[:, j].astype(float), slice(None)),
            rtol=0.02,
            atol=0.02,
        )


def test_fits_on_any_array_module(xp):
    x = RNG.standard_normal((7, 5, 6, 2))
    patterns = fitted(NET.to(xp), lrp.asarray(x, xp))
    for name, a in fitted(NET, x).arrays.items():
        np.testing.assert_allclose(lrp.to_numpy(patterns.arrays[name]), a, rtol=1e-9, atol=1e-9)


def test_an_interrupted_fit_goes_on(tmp_path):
    x, file = RNG.standard_normal((9, 5, 6, 2)), tmp_path / "sums.npz"
    first = Fit(NET, source="nine")
    first.store(file)
    first.add(x[:5])
    first.store(file)
    second = Fit(NET, source="nine")
    second.go_on(file)
    assert second.images == 5
    second.add(x[5:])
    for name, a in fitted(NET, x).arrays.items():
        np.testing.assert_allclose(second.patterns().arrays[name], a, rtol=1e-9, atol=1e-9)
    assert [p.name for p in tmp_path.iterdir()] == ["sums.npz"]


def test_sums_of_something_else_refuse(tmp_path):
    file = tmp_path / "sums.npz"
    fit = Fit(NET, source="nine")
    fit.add(X)
    fit.store(file)
    other = NET.map(lambda a: a + 0.125)
    for wrong, word in (
        (Fit(other, source="nine"), "weights"),
        (Fit(NET), "source"),
        (Fit(NET, "linear", source="nine"), "estimator"),
    ):
        with pytest.raises(lrp.ModelFormatError, match=f"{word}: expected"):
            wrong.go_on(file)
        assert wrong.images == 0
    whole = file.read_bytes()
    for broken in (b"", b"no npz", whole[: len(whole) // 2]):
        file.write_bytes(broken)
        with pytest.raises(lrp.ModelFormatError, match=r"sums.npz: not a readable .npz"):
            Fit(NET, source="nine").go_on(file)
    with pytest.raises(ValueError, match="estimator: expected 'relu' or 'linear', got 'sigmoid'"):
        Fit(NET, "sigmoid")
    with pytest.raises(ValueError, match="windows: expected a number of windows ≥ 1, or None for all, got 0"):
        Fit(NET, windows=0)
    with pytest.raises(ValueError, match="expected at least one to fit patterns to"):
        Fit(NET).patterns()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: {**a, "conv.x": a["conv.x"].astype(np.float32)}, r"conv\.x: .*found float32"),
        (lambda a: {**a, "conv.y": a["conv.y"].astype(str)}, r"conv\.y: .*expected finite float64"),
        (lambda a: {**a, "conv.samples": a["conv.samples"] * 0}, r"conv\.samples: expected numbers > 0"),
        (lambda a: {**a, "conv.xy": a["conv.xy"] * np.nan}, r"conv\.xy: .*expected finite float64"),
        (lambda a: {**a, "conv.counted": a["conv.counted"][:1]}, r"conv\.counted: .*shape"),
        (lambda a: {**a, "state": np.array("9" * 5000)}, "expected the sums of a fit"),
    ],
)
def test_sums_that_are_none_are_refused(tmp_path, change, message):
    """What `python -m fuzz patterns` found."""
    file = tmp_path / "sums.npz"
    net = lrp.Sequential(conv=lrp.Conv(np.ones((1, 1, 3, 2))), flatten=lrp.Flatten(), fc=lrp.Linear(np.ones((8, 2))))
    fit = Fit(net, source="noise")
    fit.add(np.random.default_rng(0).random((5, 2, 2, 3)))
    fit.store(file)
    Fit(net, source="noise").go_on(file)
    with np.load(file) as stored:
        arrays = dict(stored)
    np.savez(file, **change(arrays))
    with pytest.raises(lrp.ModelFormatError, match=message) as caught:
        Fit(net, source="noise").go_on(file)
    assert "sums.npz" in str(caught.value)
    assert len(str(caught.value)) < 5000


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06" + bytes(18), b"\x93NUMPY\x01\x00", b"PK\x03\x04" + bytes(80)])
def test_images_in_a_broken_npz_are_refused_with_its_name(tmp_path, content):
    """What `python -m fuzz patterns` found, too."""
    (tmp_path / "images.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"images\.npz: "):
        find_images(f"{tmp_path / 'images.npz'}:x")


def test_an_empty_name_is_not_the_folder_in_which_we_are():
    with pytest.raises(ValueError, match=r"images: expected a folder of photographs, or FILE\.npz:ARRAY, got ''"):
        find_images("")


def test_neurons_that_are_never_active_have_no_pattern():
    net = lrp.Sequential(
        fc=lrp.Linear(np.ones((2, 2)), np.array([0.0, -100.0])), relu=lrp.ReLU(), out=lrp.Linear(np.ones((2, 1)))
    )
    patterns = fitted(net, RNG.standard_normal((20, 2)))
    np.testing.assert_array_equal(patterns.arrays["fc"][:, 1], 0)
    assert patterns.about["silent neurons"]["fc"] == 1
    assert np.isfinite(PatternAttribution(patterns=patterns)(net, np.ones(2), 0)).all()


@given(rngs())
def test_pattern_methods_replace_the_weights_of_the_gradient(rng):
    """R = ∂y/∂x of the net with a, or w ⊙ a, in place of w, with the ReLUs as they were."""
    net = lrp.Sequential(
        lrp.Linear(rng.standard_normal((4, 6)), rng.standard_normal(6)), lrp.ReLU(), lrp.Linear(rng.standard_normal((6, 2)))
    )
    patterns = fitted(net, rng.standard_normal((40, 4)))
    x = rng.standard_normal(4)
    (w1, a1), (w2, a2) = ((net[name].w, patterns.arrays[name]) for name in ("linear1", "linear2"))
    active, y = net[:1].forward(x) > 0, net.forward(x)
    for method, v1, v2 in ((PatternNet, a1, a2), (PatternAttribution, w1 * a1, w2 * a2)):
        expected = v1 @ (active * v2[:, 1])
        np.testing.assert_allclose(method(patterns=patterns)(net, x, 1), y[1] * expected, atol=1e-12)
        np.testing.assert_allclose(method(patterns=patterns, start="one")(net, x, 1), expected, atol=1e-12)


def test_patterns_live_in_the_folder_of_a_model(tmp_path, lenet):
    folder = lrp.save(lenet, tmp_path / "mine")
    model = lrp.load(folder)
    assert model.folder == folder
    with pytest.raises(FileNotFoundError, match=r"mine: .* no patterns .*: lrp patterns PHOTOGRAPHS --model \S*mine$"):
        parse_method("pattern_attribution", model)
    x = RNG.uniform(0, 1, (20, 28, 28, 1)).astype(np.float32)
    patterns = fitted(model.net, x, source="noise")
    patterns.save(folder)
    read = Patterns.load(folder)
    assert read.about == patterns.about
    assert read.about["images"] == 20
    method = parse_method("pattern_attribution", model)
    again = pickle.loads(pickle.dumps(method))
    assert method == again == parse_method(f"pattern_attribution:patterns={folder},start=logit", model)
    np.testing.assert_array_equal(again(model, x[0], [1, 2]), PatternAttribution(patterns=patterns)(model, x[0], [1, 2]))
    fitted(model.net, x[:10]).save(folder)  # another fit in the same place is noticed
    assert abs(again(model, x[0], 1) - PatternAttribution(patterns=patterns)(model, x[0], 1)).max() > 0


def test_patterns_that_do_not_fit_get_a_clear_error(tmp_path):
    other = NET.map(lambda a: a[..., ::-1].copy())
    with pytest.raises(ValueError, match="expected w·a = 1 for every neuron; these patterns are of another net"):
        PatternNet(patterns=PATTERNS)(other, X, 0)
    with pytest.raises(ValueError, match=r"patterns: conv1: expected a pattern of shape \(3, 3, 2, 4\), found none"):
        PatternNet(patterns=Patterns({}))(NET, X, 0)
    with pytest.raises(TypeError, match="patterns: expected a folder or Patterns, got None"):
        PatternNet()
    PATTERNS.save(tmp_path)
    (tmp_path / "patterns.json").write_text('{"format": 2}')
    with pytest.raises(lrp.ModelFormatError, match=r"patterns.json: format: expected 1, found 2"):
        Patterns.load(tmp_path)
    (tmp_path / "patterns.npz").write_bytes(b"")
    (tmp_path / "patterns.json").write_text('{"format": 1}')
    with pytest.raises(lrp.ModelFormatError, match=r"patterns.npz: not a readable .npz"):
        Patterns.load(tmp_path)
    with pytest.raises(ValueError, match="conv1: not finite as float16"):
        Patterns({"conv1": np.full(2, 1e9)}).save(tmp_path, np.float16)


@given(rngs(), st.integers(1, 7), st.integers(1, 7), st.integers(1, 20), st.integers(1, 20))
def test_coarse_maps_are_scaled_up_as_scipy_does(rng, rows, columns, height, width):
    maps = rng.standard_normal((2, rows, columns))
    zoom = (height / rows, width / columns)
    expected = [ndimage.zoom(m, zoom, order=1, mode="nearest", grid_mode=True) for m in maps]
    np.testing.assert_allclose(_scaled_up(maps, (height, width, 3)), expected, atol=1e-12)


@pytest.fixture
def digits_and_model(tmp_path, lenet):
    """FILE.npz:ARRAY of ten images of noise, the same as inputs of the model in the order of a fit, and the model."""
    digits = RNG.integers(0, 256, (10, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "digits.npz", images=digits)
    order = np.random.default_rng(0).permutation(10)
    x = np.stack([lenet.prepare(np.repeat(digits[k][..., None], 3, axis=-1)) for k in order])
    return f"{tmp_path / 'digits.npz'}:images", x, lrp.save(lenet, tmp_path / "model")


def assert_patterns(folder, expected, rtol=1e-3):
    found = Patterns.load(folder)
    assert found.about["images"] == 10
    for name, a in expected.arrays.items():
        np.testing.assert_allclose(found.arrays[name], a, rtol=rtol, atol=1e-4)


def test_lrp_patterns_goes_on_where_it_stopped(digits_and_model, lenet, capsys):
    images, x, model = digits_and_model
    fit = Fit(lenet.net, source="10 of 10 images of digits.npz:images, drawn with seed 0")
    fit.add(x[:6])
    fit.store(model / "patterns.partial.npz")
    assert main(["patterns", images, "--model", str(model), "--batch", "3", "--dtype", "float16"]) == 0
    out, err = capsys.readouterr()
    assert "fitted to 10 of 10 images of digits.npz:images" in out
    assert re.findall(r"\d+/10", err)[0] == "6/10"  # the bar begins there
    assert not (model / "patterns.partial.npz").exists()
    assert_patterns(model, fitted(lenet.net, x))


def test_an_interrupted_fit_loses_nothing(digits_and_model, lenet, monkeypatch):
    images, x, model = digits_and_model
    sums, calls = patterns_module._sums, []

    def interrupted(*arguments, **more):
        calls.append(1)
        if len(calls) == 12:  # in the middle of the third batch: LeNet-5 has five layers with weights
            raise KeyboardInterrupt
        return sums(*arguments, **more)

    monkeypatch.setattr(patterns_module, "_sums", interrupted)
    assert main(["patterns", images, "--model", str(model), "--batch", "2"]) == 130
    fit = Fit(lenet.net, source="10 of 10 images of digits.npz:images, drawn with seed 0")
    fit.go_on(model / "patterns.partial.npz")
    assert fit.images == 4
    assert not (model / "patterns.npz").exists()
    assert main(["patterns", images, "--model", str(model), "--batch", "2"]) == 0
    assert_patterns(model, fitted(lenet.net, x))


def test_patterns_of_a_folder_of_photographs(tmp_path, lenet, capsys):
    for k in range(3):
        (tmp_path / "photos" / "inner").mkdir(parents=True, exist_ok=True)
        Image.fromarray(RNG.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(tmp_path / "photos" / "inner" / f"{k}.JPG")
    options = ["--model", "lenet5-mnist", "--out", str(tmp_path / "out"), "--limit", "2"]
    assert main(["patterns", str(tmp_path / "photos"), *options]) == 0
    assert "fitted to 2 of 3 images of photos" in capsys.readouterr().out
    assert Patterns.load(tmp_path / "out").about["images"] == 2
    assert main(["patterns", str(tmp_path / "photos"), *options, "--limit", "1"]) == 2
    assert "patterns.npz: there are patterns already; --overwrite replaces them" in capsys.readouterr().err
    assert Patterns.load(tmp_path / "out").about["images"] == 2
    assert main(["patterns", str(tmp_path / "photos"), *options, "--limit", "1", "--overwrite"]) == 0
    assert Patterns.load(tmp_path / "out").about["images"] == 1


@pytest.mark.parametrize(
    ("images", "more", "message"),
    [
        ("nowhere", [], "nowhere: there is no such folder"),
        (".", [], "no photographs in this folder"),
        ("a.npz:b", [], "no array 'b'; there are a"),
        ("a.npz:a", [], "expected uint8 (image, height, width), or with 3 channels, got float64 (3,)"),
        ("none.npz:a", [], "none.npz"),
        ("a.npz:a", ["--limit", "0"], "limit: expected a number ≥ 1, got 0"),
    ],
)
def test_images_that_cannot_be_fitted_to(tmp_path, monkeypatch, capsys, images, more, message):
    monkeypatch.chdir(tmp_path)
    np.savez("a.npz", a=np.zeros(3))
    assert main(["patterns", images, "--model", "lenet5-mnist", "--out", "out", *more]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


# ---- by name ---------------------------------------------------------------------------------------------------------


def test_every_method_has_a_name(lenet):
    x = RNG.uniform(0, 1, (28, 28, 1)).astype(np.float32)
    for name in METHODS:
        method = parse_method(name, lenet)
        assert pickle.loads(pickle.dumps(method)) == method
        if name not in ("cam", "zbox"):  # LeNet-5 does not end in a global average, and only pixels lie in the box of pixels
            assert method(lenet, x, [1, 2]).shape == (2, 28, 28, 1)


@pytest.mark.parametrize(
    ("spec", "method"),
    [
        ("cmp", LRP()),
        ("cmp:alpha=1,flat=all,pooling=yes", LRP(lrp.lrp_cmp(1, flat="all", pooling=True))),
        ("alphabeta:alpha=1,bias=ignore", LRP(lrp.uniform(lrp.AlphaBeta(1, bias="ignore")))),
        ("guided_backprop:start=logit", GuidedBackprop(start="logit")),
        ("smoothgrad:samples=5,noise=0.5", SmoothGrad(5, 0.5)),
        ("integrated_gradients:steps=9, baseline=-1", IntegratedGradients(9, -1)),
        ("contrastive_lrp:of=cmp", ContrastiveLRP(lrp.lrp_cmp())),
        ("gradcam:layer=relu1", GradCAM("relu1")),
        ("occlusion:window=4", Occlusion(4)),
    ],
)
def test_methods_as_they_are_typed(lenet, spec, method):
    assert parse_method(spec, lenet) == method
    assert parse_method(spec, lenet).name == method.name


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("gradients", "method 'gradients': there is no 'gradients'; there are cmp, z, epsilon"),
        ("smoothgrad:sample=3", "no parameter 'sample'; there are samples, noise, seed"),
        ("uniform:a=1", "method 'uniform:a=1': no parameter 'a'; there are none"),
        ("zbox:low=1", "method 'zbox:low=1': no parameter 'low'; there are none"),
        ("smoothgrad:samples=2.5", "samples: expected a whole number ≥ 1, got 2.5"),
        ("smoothgrad:noise=-1", "noise: expected a number ≥ 0, got -1"),
        ("integrated_gradients:baseline=black", "baseline: expected a finite number, got 'black'"),
        ("occlusion:stride=0", "stride: expected a whole number ≥ 1, got 0"),
        ("guided_backprop:start=two", "start: expected 'logit' or 'one', got 'two'"),
        ("cmp:first=gradient", "rule 'gradient': there is no 'gradient'; there are z, epsilon"),
        ("cmp:first=cmp", "rule 'cmp': there is no 'cmp'; there are z, epsilon"),
        ("contrastive_lrp:of=uniform", "composite 'uniform': there is no 'uniform'; there are cmp, z, epsilon"),
    ],
)
def test_what_cannot_be_typed_gets_a_clear_error(lenet, spec, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse_method(spec, lenet)
    assert message in str(caught.value)


def test_lrp_begins_with_the_logit_or_with_one():
    with pytest.raises(ValueError, match="start: expected 'logit' or 'one', got 2"):
        LRP(start=2)


def test_a_model_without_a_folder_has_no_patterns_of_its_own(lenet):
    with pytest.raises(ValueError, match="lenet5-mnist was not read from a folder; give patternnet:patterns=FOLDER"):
        parse_method("patternnet", replace(lenet, folder=None))
    with pytest.raises(ValueError, match="Sequential was not read from a folder; give patternnet:patterns=FOLDER"):
        parse_method("patternnet", NET)
    assert parse_composite("z", lenet) == lrp.uniform(lrp.Z())

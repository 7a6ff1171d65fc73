"""Composites by name: each preset against the formulas written a second time, and one reading for each spec."""

from fractions import Fraction

import numpy as np
import oracle
import pytest
from support import integers

import lrp_toolbox as lrp
from lrp_toolbox.attribution import LRP, ContrastiveLRP, canonical, excitation_backprop, parse_method
from lrp_toolbox.presets import COMPOSITES, PRESETS, parse_composite

LOW, HIGH = -3, 4
EPS = Fraction(1e-6)
PLUS, ABSORBED = ("zplus", {}), ("zplus", {"bias": "absorb"})
EPSILON, IGNORED, FLAT = ("epsilon", {"eps": EPS}), ("zplus", {"bias": "ignore"}), ("flat", {})
A2B1, GAMMA, BOX = ("alphabeta", {"alpha": 2}), ("gamma", {"gamma": Fraction(1, 4)}), ("zbox", {})
# what each layer of NET follows: both convolutions, both dense layers
EXPECTED = {
    "epsilon_plus": (PLUS, PLUS, EPSILON, EPSILON),
    "epsilon_plus_flat": (FLAT, PLUS, EPSILON, EPSILON),
    "epsilon_alpha2_beta1": (A2B1, A2B1, EPSILON, EPSILON),
    "epsilon_alpha2_beta1_flat": (FLAT, A2B1, EPSILON, EPSILON),
    "epsilon_gamma_box": (BOX, GAMMA, EPSILON, EPSILON),
    "excitation_backprop": (ABSORBED, ABSORBED, ABSORBED, ABSORBED),
    "excitation_backprop:bias=ignore": (IGNORED, IGNORED, IGNORED, IGNORED),
    "deep_taylor": (BOX, IGNORED, IGNORED, IGNORED),
}
DENSE_FIRST = {
    "epsilon_plus": EPSILON,
    "epsilon_plus_flat": FLAT,
    "epsilon_alpha2_beta1": EPSILON,
    "epsilon_alpha2_beta1_flat": FLAT,
    "epsilon_gamma_box": EPSILON,
    "excitation_backprop": ABSORBED,
    "deep_taylor": BOX,
}
RNG = np.random.default_rng(12)
SHAPE, NONE = (4, 4, 2), ((0, 0), (0, 0))
NET = lrp.Sequential(
    conv1=lrp.Conv(integers(RNG, 3, 3, 2, 3), integers(RNG, 3), padding=1),
    relu1=lrp.ReLU(),
    pool=lrp.MaxPool(2),
    conv2=lrp.Conv(integers(RNG, 1, 2, 3, 2), integers(RNG, 2)),
    relu2=lrp.ReLU(),
    flatten=lrp.Flatten(),
    fc1=lrp.Linear(integers(RNG, 4, 3), integers(RNG, 3)),
    relu3=lrp.ReLU(),
    fc2=lrp.Linear(integers(RNG, 3, 2), integers(RNG, 2)),
)
X = integers(RNG, *SHAPE)


class Boxed:
    """A net that knows its classes and the box of its inputs."""

    def __init__(self, net=NET):
        self.net = net
        self.classes = ("cat", "dog")
        self.bounds = Fraction(LOW), Fraction(HIGH)


def by_hand(rules, x, target):
    """The walk back, layer by layer on explicit matrices; ReLU passes relevance on, and the winner of a pool takes all."""
    xs = [x]
    for module in NET:
        xs.append(module.forward(xs[-1]))
    (a, _, pooled, c, _, _, d, _, e) = xs[:-1]
    y = xs[-1]
    R = np.array([y[k] if k == target else Fraction(0) for k in range(2)], dtype=object)

    def back(R, x, layer, matrices, rule):
        W, M = matrices
        name, more = rule
        box = {"low": [LOW] * x.size, "high": [HIGH] * x.size} if name == "zbox" else {}
        b = np.tile(layer.b, W.shape[1] // layer.b.size)
        return oracle.relprop(name, x.reshape(-1), W, M, b, R.reshape(-1), **more, **box)[0].reshape(x.shape)

    conv1, conv2, fc1, fc2 = (NET[name] for name in ("conv1", "conv2", "fc1", "fc2"))
    R = back(R, e, fc2, oracle.linear(fc2.w), rules[3])
    R = back(R, d, fc1, oracle.linear(fc1.w), rules[2])
    R = back(R, c, conv2, oracle.conv(conv2.w, c.shape, (1, 1), NONE, (1, 1), 1), rules[1]).reshape(-1, 3)
    spread = np.full((16, 3), Fraction(0), dtype=object)
    for place, window, k, ties in oracle.max_pool_winners(pooled, (2, 2), (2, 2), NONE, False, "even")[1]:
        spread[place, k] += R[window, k] / ties
    padded = ((1, 1), (1, 1))
    return back(spread, a, conv1, oracle.conv(conv1.w, SHAPE, (1, 1), padded, (1, 1), 1), rules[0])


@pytest.mark.parametrize("spec", EXPECTED)
@pytest.mark.parametrize(
    ("kind", "places"),
    [(lrp.Conv1D, 1), (lrp.Conv3D, 3), (lrp.ConvTranspose, 2)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_convolution_is_one_over_any_axes_and_transposed(spec, kind, places):
    w, shape = integers(RNG, *[2] * places, 2, 2), (*[4] * places, 2)
    convolutions = lrp.Sequential(conv1=kind(w), relu=lrp.ReLU(), conv2=kind(w), flatten=lrp.Flatten(places + 1))
    net = lrp.Sequential(**dict(convolutions.items()), fc=lrp.Linear(integers(RNG, *convolutions.output_shape(shape), 2)))
    rules = parse_composite(spec, Boxed(net)).resolve(net, shape)
    assert [rules[name].symbol for name in ("conv1", "conv2", "fc")] == [
        {"alphabeta": "αβ", "zplus": "z⁺", "epsilon": "ε", "flat": "♭", "zbox": "zᴮ", "gamma": "γ"}[rule]
        for rule, _ in (EXPECTED[spec][0], EXPECTED[spec][1], EXPECTED[spec][3])
    ]


@pytest.mark.parametrize("spec", EXPECTED)
@pytest.mark.parametrize("target", [0, 1])
def test_a_preset_is_the_formulas_by_hand(spec, target):
    """With equality, in Fractions."""
    R = lrp.explain(Boxed(), X, target, spec).R
    assert (by_hand(EXPECTED[spec], X, target) == R).all()
    assert R.any()


def test_by_hand_tells_the_presets_apart():
    found = {tuple(by_hand(rules, X, 0).reshape(-1)) for rules in EXPECTED.values()}
    assert len(found) == len(EXPECTED)
    assert {spec.partition(":")[0] for spec in EXPECTED} == set(PRESETS) == set(DENSE_FIRST)


@pytest.mark.parametrize("name", PRESETS)
def test_the_first_layer_may_be_dense(name):
    """♭ and zᴮ of deep_taylor are for it, too; the box of epsilon_gamma_box is for a convolution only."""
    layer = lrp.Linear(integers(RNG, 5, 2), integers(RNG, 2))
    x, (rule, more) = integers(RNG, 5), DENSE_FIRST[name]
    y = layer.forward(x)
    box = {"low": [LOW] * 5, "high": [HIGH] * 5} if rule == "zbox" else {}
    R = np.array([y[0], Fraction(0)], dtype=object)
    expected = oracle.relprop(rule, x, layer.w, np.ones((5, 2), bool), layer.b, R, **more, **box)[0]
    assert (expected == lrp.explain(Boxed(lrp.Sequential(layer)), x, 0, name).R).all()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_method_of_that_name(name, lenet):
    x = RNG.uniform(0, 1, (28, 28, 1)).astype("float32")
    method = parse_method(name, lenet)
    if name == "excitation_backprop":  # the method is the one of the paper: no bias, and begun with 1
        assert method == excitation_backprop()
        name, method = f"{name}:bias=ignore", parse_method("excitation_backprop:bias=absorb", lenet)
        assert method.composite.entries == parse_composite("excitation_backprop").entries
        assert excitation_backprop().composite.entries == parse_composite(name).entries
    else:
        assert method == LRP(parse_composite(name, lenet))
        np.testing.assert_array_equal(method(lenet, x, 3), lrp.explain(lenet, x, 3, name).R)
    assert PRESETS[name.partition(":")[0]].__doc__


def test_parameters_of_a_preset():
    assert parse_composite("epsilon_plus:eps=0.1") == PRESETS["epsilon_plus"](eps=0.1)
    assert parse_composite("epsilon_plus:eps=0.1").name == "epsilon_plus (eps=0.1)"
    assert PRESETS["epsilon_gamma_box"](0, 1, gamma=0.5).name == "epsilon_gamma_box (gamma=0.5)"
    assert lrp.Gamma(0.5) in [rule for _, rule in PRESETS["epsilon_gamma_box"](0, 1, gamma=0.5).entries]
    with pytest.raises(ValueError, match="eps: expected a finite number ≥ 0, got -1"):
        PRESETS["epsilon_plus_flat"](-1)


# ---- one reading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("specs", "canonical_form"),
    [
        (("cmp", "cmp:alpha=2,flat=1", "cmp:flat=1,alpha=2", "cmp:alpha=2.0", "cmp: flat = 1.0 ,", "cmp:pooling=no"), "cmp"),
        (("cmp:flat=3,alpha=1", "cmp:alpha=1.0,flat=3,eps=1e-6", "cmp:alpha=1,flat=3,pooling=false"), "cmp:alpha=1,flat=3"),
        (("cmp:pooling=yes,flat=all", "cmp:flat=all,pooling=1"), "cmp:flat=all,pooling=yes"),
        (("cmp:first=zbox", "cmp:first=zbox,flat=1"), "cmp:first=zbox"),
        (("cmp:first=epsilon:eps=0.10", "cmp:first=epsilon:eps=1e-1"), "cmp:first=epsilon:eps=0.1"),
        (("cmp:dense=7", "cmp:dense=7,alpha=2"), "cmp:dense=7"),
        (("epsilon", "epsilon:eps=0.000001", "epsilon:bias=absorb"), "epsilon"),
        (("alphabeta:renormalize=true", "alphabeta:alpha=2,renormalize=YES"), "alphabeta:renormalize=yes"),
        (("epsilon_plus_flat", "epsilon_plus_flat:eps=1e-6"), "epsilon_plus_flat"),
        (("contrastive_lrp", "contrastive_lrp:of=zplus"), "contrastive_lrp"),
        (("contrastive_lrp:of=cmp", "contrastive_lrp:of=cmp:alpha=2.0"), "contrastive_lrp:of=cmp"),
        (("smoothgrad:samples=50", "smoothgrad:noise=0.150,samples=50.0"), "smoothgrad:samples=50"),
        (("integrated_gradients", "integrated_gradients:baseline=0"), "integrated_gradients"),
        (("excitation_backprop", "excitation_backprop:bias=ignore"), "excitation_backprop"),
        (("gradient:start=logit",), "gradient:start=logit"),
    ],
)
def test_specs_that_say_the_same_are_one_method(lenet, specs, canonical_form):
    methods = [parse_method(spec, lenet) for spec in specs]
    assert {canonical(spec, lenet) for spec in specs} == {canonical_form}
    assert all(method == methods[0] for method in methods)
    assert len({method.name for method in methods}) == 1
    assert canonical(canonical_form, lenet) == canonical_form
    assert parse_method(canonical_form, lenet) == methods[0]


def test_specs_that_differ_are_not_one(lenet):
    specs = ["cmp", "cmp:alpha=1", "cmp:flat=0", "cmp:flat=all", "cmp:eps=0.1", "z", "epsilon", "epsilon:eps=0.1", "zplus",
             "alphabeta:alpha=1", "cmp:first=z", "cmp:first=zbox", "gradient", "smoothgrad", "smoothgrad:seed=1"]  # fmt: skip
    assert len({canonical(spec, lenet) for spec in specs}) == len(specs)
    methods = [parse_method(spec, lenet) for spec in specs]
    assert not any(a == b for i, a in enumerate(methods) for b in methods[:i])


def test_the_models_own_patterns_are_the_usual_ones(lenet, tmp_path):
    own = f"pattern_attribution:patterns={lenet.folder}"
    assert canonical(own, lenet) == canonical("pattern_attribution", lenet) == "pattern_attribution"
    assert parse_method(own, lenet) == parse_method("pattern_attribution", lenet)
    assert canonical(f"pattern_attribution:patterns={tmp_path}", lenet) == f"pattern_attribution:patterns={tmp_path}"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("epsilon_plsu", "there is no 'epsilon_plsu'; there are cmp, z, epsilon, alphabeta"),
        ("epsilon_plsu", "did you mean 'epsilon_plus' or 'epsilon_plus_flat'?"),
        ("gradient", "composite 'gradient': there is no 'gradient'; there are cmp, z, epsilon"),
        ("epsilon_plus:alpha=1", "composite 'epsilon_plus:alpha=1': no parameter 'alpha'; there are eps"),
        ("deep_taylor:low=1", "no parameter 'low'; there are none"),
        ("cmp:alpha", "composite 'cmp:alpha': expected name=value, got 'alpha'"),
        ("cmp:alpha=1,alpha=2", "composite 'cmp:alpha=1,alpha=2': alpha is given twice"),
        ("cmp:pooling=perhaps", "composite 'cmp:pooling=perhaps': pooling: expected yes or no, got 'perhaps'"),
        ("cmp:flat=yes", "flat: expected a number of layers ≥ 0, or 'all', got 'yes'"),
        ("cmp:flat=1.5", "flat: expected a number of layers ≥ 0, or 'all', got 1.5"),
        ("cmp:first=cmp", "rule 'cmp': there is no 'cmp'; there are z, epsilon"),
        ("epsilon:eps=nan", "eps: expected a finite number ≥ 0, got nan"),
        (
            "zbox",
            "composite 'zbox': zᴮ needs the box of the inputs, which a loaded model knows; for others use ZBox(low, high)",
        ),
        ("cmp:first=zbox", "rule 'zbox': zᴮ needs the box of the inputs"),
        ("deep_taylor", "composite 'deep_taylor': zᴮ needs the box of the inputs"),
        ("", "there is no ''; there are cmp"),
    ],
)
def test_what_cannot_be_read_gets_a_clear_error(spec, message):
    for ask in (parse_composite, lambda spec: lrp.explain(NET, X, 0, spec), LRP, ContrastiveLRP):
        with pytest.raises(ValueError) as caught:  # noqa: PT011
            ask(spec)
        assert message in str(caught.value)


@pytest.mark.parametrize("spec", [name for name in COMPOSITES if name not in ("zbox", "epsilon_gamma_box", "deep_taylor")])
def test_a_name_works_wherever_a_composite_does(spec):
    composite = parse_composite(spec)
    expected = lrp.explain(NET, X, 0, composite).R
    assert (expected == lrp.explain(NET, X, 0, spec).R).all()
    assert LRP(spec) == LRP(composite)
    assert (LRP(spec)(NET, X, 0) == expected).all()
    assert ContrastiveLRP(spec) == ContrastiveLRP(composite)


def test_a_rule_works_wherever_a_composite_does():
    assert LRP(lrp.Z()) == LRP("z") == LRP(lrp.uniform(lrp.Z()))
    for other in (3, ["cmp"], lrp.Epsilon):
        for ask in (LRP, ContrastiveLRP, lambda other: lrp.explain(NET, X, 0, other)):
            with pytest.raises(TypeError, match="composite: expected a Composite, a Rule or a name such as"):
                ask(other)


def test_the_box_is_in_the_dtype_of_the_net(lenet):
    """The bounds of a model that was read in float64 are float64, so that zᴮ works there, too."""
    x = lenet.prepare(lenet.example)
    R = lrp.explain(lenet, x, 3, "cmp:first=zbox").R
    wide = lrp.load(lenet.folder, dtype=np.float64)
    assert wide.prepare(lenet.example).dtype == np.float64
    np.testing.assert_allclose(lrp.explain(wide, wide.prepare(lenet.example), 3, "cmp:first=zbox").R, R, atol=1e-4)

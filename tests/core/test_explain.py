"""explain(): targets, start relevance, layers to keep, and clear errors."""

from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from support import integers

import lrp_toolbox as lrp
from lrp_toolbox.composites import uniform
from lrp_toolbox.explain import _sizes

RNG = np.random.default_rng(0)
NET = lrp.Sequential(
    fc1=lrp.Linear(RNG.standard_normal((4, 5)), RNG.standard_normal(5)),
    relu=lrp.ReLU(),
    fc2=lrp.Linear(RNG.standard_normal((5, 3)), RNG.standard_normal(3)),
)
X = RNG.standard_normal((2, 4))
NAMES = ("cat", "dog", "catfish")


def explain(x=X, target="top", rule=None, net=NET, **more):
    return lrp.explain(net, x, target, rule or lrp.Z(), **more)


def test_a_worked_example_in_fractions():
    """x = (1, 2); z1 = 1·1 + 2·1 = 3 and z2 = 1·1 − 2·2 = −3, of which ReLU keeps the first; y = 2·3 + 1 = 7.

    y's 7: 6/7 of it to z1, the bias absorbs 1. z1's 6: a third and two thirds.
    """
    F = np.vectorize(Fraction, otypes=[object])
    net = lrp.Sequential(lrp.Linear(F([[1, 1], [1, -2]])), lrp.ReLU(), lrp.Linear(F([[2], [5]]), F([1])))
    e = lrp.explain(net, F([1, 2]), 0, lrp.Z())
    assert e.y.tolist() == [7]
    assert e.R.tolist() == [2, 4]
    assert e.ledger.entry("linear2").bias == 1
    assert e.ledger.absorbed("bias") == 1


def test_xor_by_hand():
    """XOR with two hidden units: h1 = x1 + x2, h2 = x1 + x2 − 1, y = h1 − 2 h2. For (1, 1): h = (2, 1), y = 0.

    Class 1 begins with relevance 2 − 2·1 = 0: nothing to explain. Begun with 1 instead, z of y is 0, and the ledger has it.
    """
    F = np.vectorize(Fraction, otypes=[object])
    net = lrp.Sequential(lrp.Linear(F([[1, 1], [1, 1]]), F([0, -1])), lrp.ReLU(), lrp.Linear(F([[1], [-2]])))
    for x, y in (([0, 0], 0), ([0, 1], 1), ([1, 0], 1), ([1, 1], 0)):
        assert net.forward(F(x)).tolist() == [y]
    assert lrp.explain(net, F([1, 0]), 0, lrp.Z()).R.tolist() == [1, 0]
    e = lrp.explain(net, F([1, 1]), 0, lrp.Z(), start="one")
    assert e.R.tolist() == [0, 0]
    assert e.ledger.entry("linear2").zero_denominator == 1


def test_targets_by_index_name_and_top():
    model = SimpleNamespace(net=NET, classes=NAMES)
    top = NET.forward(X).argmax(axis=1)
    for target, expected in [(1, [1, 1]), ("dog", [1, 1]), ("top", top), (np.int64(2), [2, 2])]:
        e = lrp.explain(model, X, target, lrp.Z())
        assert e.R.shape == X.shape
        assert e.target.tolist() == list(expected)
        assert e.labels.tolist() == [NAMES[i] for i in expected]
        np.testing.assert_allclose(e.ledger.start, NET.forward(X)[[0, 1], expected])
    e = explain(X[0], ["catfish", "top"], classes=NAMES)
    assert e.R.shape == (2, 4)
    assert e.target.tolist() == [2, top[0]]
    assert explain(X[0], "top").labels is None


def test_each_sample_may_have_its_own_targets():
    for own in ([[0, 1], [2, 0]], np.array([[0, 1], [2, 0]]), [["cat", "dog"], [2, "cat"]]):
        e = explain(target=own, classes=NAMES)
        assert e.target.tolist() == [[0, 1], [2, 0]]
        np.testing.assert_array_equal(e.R[1, 0], explain(X[1], 2).R)
    assert explain(target=[0, 1, 2]).R.shape == (2, 3, 4)
    assert explain(target=[0]).R.shape == (2, 1, 4)


def test_start_relevance():
    y = NET.forward(X)
    np.testing.assert_allclose(explain(target=1, start="one").R * y[:, [1]], explain(target=1).R)
    np.testing.assert_allclose(explain(target=None, start=y).R, sum(explain(target=t).R for t in range(3)))
    several = np.eye(3)[None] * y[:, None]
    e = explain(target=None, start=several)
    np.testing.assert_allclose(e.R, explain(target=[0, 1, 2]).R)
    assert e.target is None
    assert e.labels is None
    assert explain(X[0], None, start=y[0]).R.shape == (4,)
    assert explain(X[0], None, start=several[0]).R.shape == (3, 4)


@pytest.mark.parametrize("memory", [1, 300, 2000])
def test_batches_are_cut_to_fit(monkeypatch, memory):
    """Whatever fits at a time, the result is the same, samples and targets in order."""
    x = RNG.standard_normal((5, 4))
    for target, start in ([[0, "top", 2], "logit"], [[[0], [1], ["top"], [2], [0]], "one"], ["top", "logit"]):
        whole = explain(x, target, start=start, keep=["relu"], classes=NAMES)
        monkeypatch.setitem(lrp.backend.MEMORY, "host", memory)
        cut = explain(x, target, start=start, keep=["relu"], classes=NAMES)
        monkeypatch.undo()
        for name in ("target", "labels"):
            np.testing.assert_array_equal(getattr(cut, name), getattr(whole, name))
        np.testing.assert_allclose(cut.R, whole.R)
        np.testing.assert_allclose(cut.y, whole.y)
        np.testing.assert_allclose(cut.layers["relu"], whole.layers["relu"])
        for a, b in zip(cut.ledger, whole.ledger, strict=True):
            assert a.name == b.name
            np.testing.assert_allclose(a.bias, b.bias)
        np.testing.assert_allclose(cut.ledger.end, whole.ledger.end)


def test_negative_logits_keep_their_sign():
    y = NET.forward(X[0])
    target = int(y.argmin())
    assert y[target] < 0
    assert float(explain(X[0], target).ledger.start) == y[target]


def test_layers_that_are_kept():
    e = explain(target=[0, 1], keep=["fc*", "relu"])
    assert {name: a.shape for name, a in e.layers.items()} == {"fc1": (2, 2, 5), "relu": (2, 2, 5), "fc2": (2, 2, 3)}
    np.testing.assert_array_equal(e.layers["fc2"][:, 0, 1:], 0)
    np.testing.assert_array_equal(e.layers["fc2"][:, 0, 0], NET.forward(X)[:, 0])
    np.testing.assert_allclose(e.layers["fc1"].sum(axis=-1), e.ledger.entry("fc1").arriving)


def test_batch_norm_is_fused_first():
    norm = lrp.BatchNorm(np.ones(5), np.full(5, 2.0), beta=np.ones(5))
    net = lrp.Sequential(NET["fc1"], norm, lrp.ReLU(), NET["fc2"])
    e = lrp.explain(net, X, 0, lrp.AlphaBeta(2))
    assert [p.name for p in e.rules.layers] == ["linear1", "relu1", "linear2"]
    np.testing.assert_allclose(e.y, net.forward(X))
    np.testing.assert_array_equal(e.R, lrp.explain(lrp.fuse(net), X, 0, lrp.AlphaBeta(2)).R)


def test_a_single_layer_is_a_net():
    e = lrp.explain(NET["fc1"], X, 0, lrp.Z())
    assert [entry.name for entry in e.ledger] == ["linear"]
    np.testing.assert_allclose(e.R, NET["fc1"].relprop_z(X, NET["fc1"].forward(X) * np.eye(5)[0]))


def test_the_default_is_the_papers_best():
    rng = np.random.default_rng(0)
    net = lrp.Sequential(
        lrp.Conv(rng.standard_normal((3, 3, 1, 2))), lrp.ReLU(), lrp.Flatten(), lrp.Linear(rng.standard_normal((8, 2)))
    )
    x = rng.standard_normal((4, 4, 1))
    e = lrp.explain(net, x)
    assert e.rules.name == "LRP_CMP:α2+♭"
    np.testing.assert_array_equal(e.R, lrp.explain(net, x, "top", lrp.lrp_cmp(alpha=2, flat=1)).R)
    np.testing.assert_array_equal(e.heatmap, e.R.sum(axis=-1))
    assert explain(rule=lrp.lrp_cmp()).rules.rules[0] == lrp.Epsilon(1e-6)  # where there are no convolutions, ε is what is left


CNN = lrp.Sequential(lrp.Conv(np.ones((3, 3, 2, 2))), lrp.ReLU())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: explain(np.array([1.0, np.nan, 0, 0])), "x: expected finite numbers, got NaN or infinity"),
        (lambda: explain(np.array([1.0, np.inf, 0, 0])), "x: expected finite numbers, got NaN or infinity"),
        (lambda: explain(np.ones((2, 2, 4))), "x: expected (feature), or that with an axis for samples before it"),
        (lambda: explain(np.ones(3)), "fc1: x: Linear expects 4 features"),
        (lambda: explain(np.ones((0, 4))), "x: expected (feature)"),
        (lambda: lrp.explain(CNN, np.ones((5, 5))), "x: expected (height, width, channel)"),
        (
            lambda: lrp.explain(CNN, np.ones((5, 5, 2))),
            "net: expected one number for each class, got outputs of shape (3, 3, 2)",
        ),
        (lambda: explain(target=3), "target: expected a class from 0 to 2, got 3"),
        (lambda: explain(target=-1), "target: expected a class from 0 to 2, got -1"),
        (lambda: explain(target="cat"), "target: 'cat' is a name, and this net does not know its classes"),
        (lambda: explain(target="cot", classes=NAMES), "target: no class 'cot'; did you mean 'cat'?"),
        (lambda: explain(target="zebra", classes=NAMES), "target: no class 'zebra'; there are cat, dog, catfish"),
        (
            lambda: explain(target="cat", classes=("cat", "cat", "dog")),
            "target: 'cat' names 2 classes; give one of the indices [0, 1]",
        ),
        (lambda: explain(target=0, classes=("cat",)), "classes: expected 3 names, one for each output, got 1"),
        (lambda: explain(target=[]), "target: expected at least one class, got an empty list"),
        (lambda: explain(target=[[0], [1], [2]]), "target: expected as many targets for each of 2 samples"),
        (lambda: explain(target=[[0], [1, 2]]), "target: expected as many targets for each of 2 samples"),
        (lambda: explain(target=None), "target: expected a class; None goes with a start relevance"),
        (lambda: explain(target=1, start=np.ones((2, 3))), "target: expected None together with a start relevance"),
        (lambda: explain(target=None, start=np.ones((2, 4))), "start: expected the shape of the output, (2, 3), got (2, 4)"),
        (lambda: explain(target=None, start=np.ones(3)), "start: expected the shape of the output, (2, 3), got (3,)"),
        (lambda: explain(start="softmax"), "start: expected 'logit', 'one' or an array, got 'softmax'"),
        (lambda: explain(keep=["conv*"]), "keep: 'conv*' matches no layer; there are fc1, relu, fc2"),
    ],
)
def test_bad_values_get_a_clear_error(make, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        make()
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: explain(X.astype("float32")), "x is float32, but the net is float64; nothing is cast in silence"),
        (lambda: explain(X.astype("int64")), "x is int64, but the net is float64"),
        (
            lambda: lrp.explain(lrp.Sequential(lrp.ReLU()), np.ones(2, int)),
            "x: expected float32, float64 or Fractions, got int64",
        ),
        (lambda: explain(X.astype("float16"), net=NET.astype("float16")), "x: expected float32, float64 or Fractions, got"),
        (lambda: explain([1.0, 2.0]), "expected an array"),
        (lambda: explain(target=True), "target: expected an index, a class name or 'top', got True"),
        (lambda: explain(target=1.5), "target: expected an index, a class name or 'top', got 1.5"),
        (lambda: explain(rule=3), "composite: expected a Composite, a Rule or a name such as 'cmp:alpha=2,flat=1', got 3"),
        (lambda: lrp.explain("vgg16-voc", X), "net: expected a module or a loaded model, got str"),
        (lambda: lrp.explain(lrp.Sequential(NET, lrp.SoftMax()), X), "explain the logits"),
        (lambda: explain(target=None, start=np.ones((2, 3), "float32")), "start is float32, but x is float64"),
    ],
)
def test_wrong_types_get_a_clear_error(make, message):
    with pytest.raises(TypeError) as caught:
        make()
    assert message in str(caught.value)


def test_mixed_devices_get_a_clear_error():
    strict = pytest.importorskip("array_api_strict")
    with pytest.raises(
        TypeError, match=r"move the data with lrp_toolbox.asarray\(x, like=...\), or the parameters with net.to"
    ):
        explain(strict.asarray(X))
    e = explain(lrp.asarray(X, strict), net=NET.to(strict))
    np.testing.assert_allclose(lrp.to_numpy(e.R), explain().R)
    assert integers(RNG, 2).dtype == object


def test_there_may_be_many_classes():
    """More than the numbers that Python has only one of."""
    net, names = lrp.Linear(np.eye(300)), [f"class {k}" for k in range(300)]
    assert lrp.explain(net, np.ones(300), "class 299", lrp.Z(), classes=names).target == 299


@pytest.mark.parametrize("memory", [1, 200, 1000, 12345, 1 << 20])
def test_as_many_samples_and_targets_at_a_time_as_fit(monkeypatch, memory):
    """Outputs with two denominators each, of all layers; on the way back four arrays of the largest layer for each target."""
    monkeypatch.setitem(lrp.backend.MEMORY, "host", memory)
    x = np.ones((50, 4))
    samples, targets = _sizes(uniform(lrp.Z()).resolve(NET, (4,)), x)
    for most, size in ((samples, 2 * 8 * (5 + 5 + 3)), (targets, 4 * 8 * (5 + 5) * min(samples, len(x)))):
        assert most >= 1
        assert most == 1 or most * size <= memory
        assert (most + 1) * size > memory

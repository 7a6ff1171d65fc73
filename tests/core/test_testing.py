"""check_rule and check_layer: what is right passes, and each planted error is found, by the property that it breaks."""

import importlib
import subprocess
import sys
from dataclasses import dataclass
from fractions import Fraction
from itertools import count
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

import lrp_toolbox as lrp
from lrp_toolbox import testing
from lrp_toolbox.modules.base import PassingLayer
from lrp_toolbox.terms import ZERO, Input, Part
from lrp_toolbox.testing import check_layer, check_rule, inputs, layers
from lrp_toolbox.weights import ONE

UNCHANGED = "arguments are unchanged"
KINDS = (*testing.WEIGHTED, *testing.ADDING, *testing.MAXIMA)


# ---- What is right ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", lrp.RULES, ids=lambda kind: kind.__name__)
def test_every_rule(kind):
    check_rule(testing.rules(kind), max_examples=min(10, settings.default.max_examples))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_layer(kind):
    check_layer(layers(kind), max_examples=min(5, settings.default.max_examples))


C = np.array([1.0, -2.0, 3.0, 0.5])
RATIONAL = [
    lrp.ReLU(), lrp.LeakyReLU(0.1), lrp.PReLU(C), lrp.HardSwish(), lrp.HardSigmoid(), lrp.Clip(-0.5, 1.5), lrp.ClippedReLU(0.5),
    lrp.Identity(), lrp.Dropout(), lrp.Flatten(), lrp.ChannelShuffle(2), lrp.Slice(-1, 1, None, 2), lrp.Transpose((-2, -3, -1)),
    lrp.Reshape((6, -1), 3), lrp.Pad(((2, 1), (0, 3)), "reflect"), lrp.Pad(1, "edge"), lrp.Pad(((1, 0), (2, 1))),
    lrp.Pad(1, "constant", 2.5), lrp.Pad(((3, 1), (0, 4)), "wrap"), lrp.Pad1D((3, 0)), lrp.Pad1D(2, "reflect"),
    lrp.AdaptiveMaxPool(2), lrp.AdaptiveMaxPool(2, "first"), lrp.MaxPool(None), lrp.AvgPool(None),
]  # fmt: skip
IN_FLOATS = [
    lrp.Tanh(), lrp.Sigmoid(), lrp.SiLU(), lrp.GELU(), lrp.ELU(0.7), lrp.Softplus(), lrp.Mish(), lrp.LRN(3, 0.5, 0.75, 2.0),
    lrp.LRN(3, 5.0, 0.75, 2.0, "within"), lrp.BatchNorm(C, abs(C), C, C), lrp.LayerNorm(-1, C, C), lrp.GroupNorm(4),
    lrp.LayerNorm((-3, -2, -1), None, None, 1e-3, "detached"), lrp.GroupNorm(2, C, C, 1e-3, "detached"),
    lrp.InstanceNorm(C, None, 1e-2, "detached"),
]  # fmt: skip


@pytest.mark.parametrize("layer", [*RATIONAL, *IN_FLOATS], ids=repr)
def test_other_layers(layer):
    check_layer(layer, (3, 4, 4), exact=layer in RATIONAL, max_examples=3)


@pytest.mark.parametrize(
    ("layer", "shapes"),
    [
        (lrp.Sum(), ((3, 2), (3, 2))),
        (lrp.Concatenation(), ((3, 2), (3, 1))),
        (lrp.Concatenation(-2), ((2, 2), (1, 2))),
        (lrp.Multiply(0), ((2, 2, 3), (3,))),
    ],
    ids=str,
)
def test_layers_with_several_inputs(layer, shapes):
    check_layer(layer, shapes, max_examples=5)


def test_rules_that_need_a_range_or_have_rounding():
    check_rule(lrp.ZBox(0, 1), least=0, most=1, max_examples=5)
    check_rule(lrp.Gamma(0.1), max_examples=5)
    check_rule(lrp.Epsilon(lrp.Stabilizer(0.1, clip=True)), on=layers(lrp.Linear), max_examples=10)


# ---- Rules with a planted error --------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Planted(lrp.Rule):
    symbol: ClassVar[str] = "planted"
    formula: ClassVar[str] = "z_ij = x_i w_ij"
    bias: Any = "absorb"

    def parts(self, x, w, b):
        return [Part(x * w, b)]


class SharesOfNine(Planted):
    """A tenth is lost in silence."""

    def parts(self, x, w, b):
        return [Part(x * w, b, share=Fraction(9, 10))]


class SharesOfThree(Planted):
    """α and β that do not add up to 1."""

    def parts(self, x, w, b):
        return [Part(x.pos * w.pos + x.neg * w.neg, b.pos, share=2), Part(x.pos * w.neg + x.neg * w.pos, b.neg, share=1)]


class HalfForSome(Planted):
    """One part is for some outputs only, and nothing replaces it for the others."""

    def parts(self, x, w, b):
        half = Fraction(1, 2)
        return [Part(x * w, b, share=half), Part(x * w.pos, share=half, where=lambda z: z > 0)]


class OtherInputs(Planted):
    """The fast evaluation takes the inputs of the first part for all parts."""

    def parts(self, x, w, b):
        return [Part(x.pos * w, share=2), Part(x.neg * w, share=-1)]


class OfTheLargest(Planted):
    """It looks at all samples of a batch."""

    def parts(self, x, w, b):
        return [Part(x * w + Input(0 * x.array + x.array.max()) * w.pos)]


class InUnits(Planted):
    """It adds 1 to x, whatever the unit."""

    def parts(self, x, w, b):
        return [Part(x * w + x.one * w.pos, b)]


class Doubling(Planted):
    """In place."""

    def parts(self, x, w, b):
        if b is not ZERO:
            b.array *= 2
        return [Part(x * w, b)]


class Stateful(Planted):
    """Another answer each time."""

    calls: ClassVar[Any] = count(1)

    def parts(self, x, w, b):
        return [Part(x * w, share=next(self.calls))]


class InFloat64(Planted):
    """A scalar of NumPy has a dtype, and float32 becomes float64."""

    def parts(self, x, w, b):
        return [Part(Input(x.array * np.float64(2)) * w, b)]


class LessInFloats(Planted):
    """A clip at a number that floats reach and Fractions do not."""

    def parts(self, x, w, b):
        return [Part(x * w._derived(0, lambda w: w if w.dtype == object else w.clip(-2, 2)), b)]


class OneWithoutBias(Planted):
    """Nothing is wrong: two parts, of which one has no bias."""

    def parts(self, x, w, b):
        return [Part(x * w, b, share=2), Part(x * w.pos, share=-1)]


@pytest.mark.parametrize(
    ("rule", "broken"),
    [
        (SharesOfNine(), "the ledger closes"),
        (SharesOfThree(), "the ledger closes"),
        (HalfForSome(), "the ledger closes"),
        (OfTheLargest(), "a batch is a stack"),
        (InUnits(), "R does not depend on the unit of x"),
        (Doubling(), UNCHANGED),
        (Stateful(), UNCHANGED),
        (InFloat64(), "the dtype is kept"),
        (LessInFloats(), "floats agree with Fractions"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_rule_is_found(rule, broken):
    with pytest.raises(AssertionError, match=rf"^check_rule\({type(rule).__name__}\(\)\): {broken}: this does not hold for\n"):
        check_rule(rule, on=layers(lrp.Linear))


def test_a_rule_that_cannot_run_says_what_was_checked():
    with pytest.raises(TypeError, match="expected parts that use the same inputs") as caught:
        check_rule(OtherInputs())
    assert "while this was checked, for\n  rule  = OtherInputs()\n  layer = " in caught.value.__notes__[0]


def test_a_rule_with_a_unit_says_so_and_a_planted_one_passes_without_the_error():
    check_rule(Planted(), max_examples=5)
    check_rule(OneWithoutBias(), max_examples=5)
    check_rule(InUnits(), on=layers(lrp.Linear), scale=False, max_examples=10)


# ---- Layers with a planted error -------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Dense(lrp.LinearModule):
    """As Linear, with nothing wrong."""

    w: Any
    b: Any = None

    def apply(self, x, w):
        return x @ self._array(w, x)

    def apply_T(self, s, w, shape):
        return s @ self._array(w, s).T

    def _array(self, w, x):
        return (np.full(self.w.shape, 1 + 0 * x.flat[0]) if w is ONE else lrp.modules.base.as_weights(w).array()).astype(
            x.dtype
        )

    def output_shape(self, shape):
        if shape[-1] != self.w.shape[0]:
            raise ValueError(f"x: expected {self.w.shape[0]} features, got {shape}")
        return (*shape[:-1], self.w.shape[1])


class NoTranspose(Dense):
    def apply_T(self, s, w, shape):
        return np.roll(super().apply_T(s, w, shape), 1, axis=-1)


class NoTransposeOfOnes(Dense):
    def apply_T(self, s, w, shape):
        return super().apply_T(s, self.w if w is ONE else w, shape)


class OnesAreWeights(Dense):
    """Its own weights where a rule asks for ones."""

    def _array(self, w, x):
        return super()._array(self.w if w is ONE else w, x)


class BiasForgotten(Dense):
    def forward(self, x):
        return self.apply(x, self.w)


class BiasTwice(Dense):
    def apply(self, x, w):
        y = super().apply(x, w)
        return y + self.b if w is self.w else y


class InPlace(Dense):
    def forward(self, x):
        y = self.apply(x, self.w)
        x *= 0
        return y + self.b


class MixedBatch(Dense):
    def forward(self, x):
        y = super().forward(x)
        return y - y.mean(axis=0, keepdims=True) + y[0] if y.ndim > 1 else y


class OnlyOneTarget(Dense):
    def apply_T(self, s, w, shape):
        back = super().apply_T(s, w, shape)
        return back if back.ndim < 3 else back[:, :1] + 0 * back


class Float64(Dense):
    def forward(self, x):
        y = super().forward(x)
        return y if y.dtype == object else y.astype(np.float64)


class WrongShape(Dense):
    def output_shape(self, shape):
        return (*super().output_shape(shape)[:-1], self.w.shape[1] + 1)


class TakesAnyShape(Dense):
    def output_shape(self, shape):
        return (*shape[:-1], self.w.shape[1])


class SmallerThanItsSums(Dense):
    """Inputs and weights that cancel."""

    def magnitude(self, x, w):
        return abs(self.apply(x, w))


class WrongInFloats(Dense):
    def _redistribute(self, trace, R, rule, context):
        return super()._redistribute(trace, R, rule, context) * (1 if R.dtype == object else 1 + 1e-6)


class Gains(Dense):
    """Its own way back, in which relevance becomes more."""

    def _redistribute(self, trace, R, rule, context):
        return 2 * super()._redistribute(trace, R, rule, context)


@dataclass(frozen=True, eq=False)
class NotLinear(PassingLayer):
    def forward(self, x):
        return x

    def gradient(self, trace, g):
        return g

    def _redistribute(self, trace, R, rule, context):
        """All to the first, but in whole numbers: what is given up is recorded, so that the ledger closes."""
        kept = R // 2
        context.record_loss("padding", lambda R, kept: R - kept, R, kept)
        return kept


@dataclass(frozen=True, eq=False)
class WrongSlope(PassingLayer):
    def forward(self, x):
        return x * x

    def gradient(self, trace, g):
        return g * trace.x


@dataclass(frozen=True, eq=False)
class PromisesTooMuch(PassingLayer):
    def forward(self, x):
        return x - 1

    def gradient(self, trace, g):
        return g

    def output_is_nonnegative(self, nonneg):
        return nonneg


@dataclass(frozen=True, eq=False)
class TakesAnyRelevance(NotLinear):
    def relprop(self, trace, R, context):
        return R


@dataclass(frozen=True, eq=False)
class NoLedger(NotLinear):
    def relprop(self, trace, R, context):
        self._require_relevance(R, trace.y_shape)
        return R


@dataclass(frozen=True, eq=False)
class Root(PassingLayer):
    def forward(self, x):
        return abs(x) ** 0.5

    def gradient(self, trace, g):
        return g


W, B = testing.to_fractions([[1, -2], [3, 1], [0, 2]]), testing.to_fractions([1, -1])


@pytest.mark.parametrize(
    ("layer", "broken"),
    [
        (NoTranspose(W, B), "apply_T is the transpose of apply"),
        (NoTransposeOfOnes(W, B), "apply_T is the transpose of apply"),
        (OnesAreWeights(W, B), "derived weights are what they are derived from"),
        (BiasForgotten(W, B), r"forward = apply \+ b"),
        (BiasTwice(W, B), "apply_T is the transpose of apply"),
        (InPlace(W, B), UNCHANGED),
        (MixedBatch(W, B), "leading axes ride along"),
        (OnlyOneTarget(W, B), "leading axes ride along"),
        (Float64(W, B), "the dtype is kept"),
        (WrongShape(W, B), "output_shape tells the truth"),
        (TakesAnyShape(W, B), "output_shape tells the truth"),
        (SmallerThanItsSums(W, B), "magnitude is a bound"),
        (WrongInFloats(W, B), "floats agree with Fractions"),
        (Gains(W, B), "the ledger closes"),
        (NotLinear(), "linear in R"),
        (WrongSlope(), "the gradient is that of finite differences"),
        (PromisesTooMuch(), "output_is_nonnegative keeps its promise"),
        (TakesAnyRelevance(), "a relevance of another shape is refused"),
        (NoLedger(), "the ledger closes"),
        (Root(), "Fractions give Fractions"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_layer_is_found(layer, broken):
    with pytest.raises(AssertionError, match=rf"^check_layer\({type(layer).__name__}\): ({broken}): this does not hold for\n"):
        check_layer(layer, (3,))


def test_the_layer_without_a_planted_error_passes():
    check_layer(Dense(W, B), (3,), max_examples=10)


def test_the_message_has_the_numbers_and_what_was_expected():
    with pytest.raises(AssertionError) as caught:  # the search is the same every time
        check_layer(BiasForgotten(W, B), (3,))
    message = str(caught.value)
    for part in (
        "layer = BiasForgotten(w: 3×2, b: 2)",
        "w = [[1, -2],\n     [3, 1],\n     [0, 2]]",
        "b = [1, -1]",
        "x = [0, 0, 0]",
    ):
        assert part in message
    assert message.endswith("forward(x) = apply(x, w) + b\n  expected [1, -1]\n  got      [0, 0]")


# ---- The strategies --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=5)
@given(st.data())
def test_a_kind_is_that_kind(kind, data):
    assert type(data.draw(layers(kind))[0]) is kind


@given(testing.cases(layers()), testing.cases(testing.graphs(), least=0, most=1), testing.rules(), testing.composites())
def test_what_is_drawn_is_what_is_asked_for(case, net, rule, composite):
    assert case.R.shape == case.module.output_shape(case.x.shape)
    assert all(isinstance(v, Fraction) and v.denominator == 1 and -3 <= v <= 3 for v in (*case.x.flat, *case.R.flat))
    assert set(net.x.flat) <= {0, 1}
    assert not isinstance(rule, lrp.ZBox)
    assert lrp.explain(*net[:2], 2, composite).ledger.rounding == 0


def has_ties(case):
    return len(set(case.x.flat)) < case.x.size


def has_no_bias(case):
    return getattr(case.module, "b", None) is None


def has_shared_values(case):
    readers = [value for node in case.module.nodes for value in set(node.reads)]
    return len(readers) > len(set(readers))


@pytest.mark.parametrize("wanted", [True, False])
@pytest.mark.parametrize(
    ("strategy", "seen"),
    [(layers(), has_ties), (layers(), has_no_bias), (testing.graphs(), has_shared_values)],
)
def test_both_kinds_are_drawn(strategy, seen, wanted):
    find(testing.cases(strategy), lambda case: seen(case) is wanted, settings=settings(max_examples=2000, database=None))


def test_the_simplest_input_is_nothing():
    assert (find(inputs((2, 3)), lambda x: True) == 0).all()
    shrinking = settings(phases=list(Phase))  # whatever the profile says
    assert find(inputs((3,)), lambda x: (x > 1).any(), settings=shrinking).tolist() in ([2, 0, 0], [0, 2, 0], [0, 0, 2])


def test_what_is_unknown_is_refused():
    with pytest.raises(ValueError, match=r"kinds: expected some of Linear, .*, got ReLU"):
        layers(lrp.Conv, lrp.ReLU)
    for wrong in (lambda: check_layer(lrp.ReLU()), lambda: check_layer(layers(lrp.Conv), (3, 3, 2))):
        with pytest.raises(TypeError, match="shape: expected the shape of an input beside a layer"):
            wrong()
    with pytest.raises(TypeError, match=r"rule: expected a rule, or a strategy of rules, got <class .*Z'>"):
        check_rule(lrp.Z)
    with pytest.raises(TypeError, match=r"layer: expected a layer, or a strategy of \(layer, shape\), got Sequential"):
        check_layer(lrp.Sequential(lrp.ReLU()), (3,))


def test_the_package_does_not_need_hypothesis_and_testing_says_that_it_does(monkeypatch):
    code = "import sys, lrp_toolbox as l; assert 'hypothesis' not in sys.modules; l.testing; assert 'hypothesis' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    for name in [name for name in sys.modules if name.startswith("lrp_toolbox.testing")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ImportError, match=r'hypothesis: pip install "lrp_toolbox\[testing\]"'):
        importlib.import_module("lrp_toolbox.testing")

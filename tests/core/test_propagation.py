"""The fast evaluation of a rule gives the numbers of the plain one: exactly in Fractions, to rounding in floats."""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import adding_cases, rules, weighted_cases

import lrp_toolbox as lrp
from lrp_toolbox import propagation
from lrp_toolbox.context import Context
from lrp_toolbox.rules import relprop
from lrp_toolbox.terms import ZERO, Bias, Input, Part, Weight

every_rule = st.one_of(rules(), st.just(lrp.ZBox(Fraction(-5), Fraction(9, 2))))


@given(weighted_cases, every_rule, st.booleans())
def test_fast_is_plain_exactly(case, rule, known):
    """Also where the forward pass has left y and the denominators, and where x ≥ 0 is known."""
    x = abs(case.x) if known else case.x
    plain = relprop(rule, case.layer, x, case.R)
    assert (propagation.relprop(rule, case.layer, x, case.R, Context(rule), nonneg=known) == plain).all()
    y, z = propagation.forward(rule, case.layer, x, known)
    assert (y == case.layer.forward(x)).all()
    found = propagation.relprop(rule, case.layer, x, case.R, Context(rule), nonneg=known, y=y, z=z)
    assert (found == plain).all()


@given(adding_cases, st.sampled_from([lrp.Z(), lrp.Flat(), lrp.Z(bias="distribute")]))
def test_fast_is_plain_in_layers_that_add(case, rule):
    rule = case.layer.effective_rule(rule)
    assert (case.layer.relprop(case.layer.trace(case.x), case.R, rule) == relprop(rule, case.layer, case.x, case.R)).all()


@given(weighted_cases, every_rule)
def test_fast_is_plain_in_floats(case, rule):
    """To a few ulps of Σ |R_ij|: the cases are integers, so that only divisions round, and products of what they give."""
    for dtype in (np.float64, np.float32):
        layer = case.layer.astype(dtype)
        x, R = case.x.astype(dtype), case.R.astype(dtype)
        plain, fast = relprop(rule, layer, x, R), layer.relprop(layer.trace(x, context=rule), R, rule)
        assert fast.dtype == plain.dtype == dtype
        np.testing.assert_allclose(fast, plain, rtol=0, atol=40 * np.finfo(dtype).eps * sum_of_sizes(rule, case))


def sum_of_sizes(rule, case):
    """Σ_ij |R_ij|, what goes from each output to each input, exactly; rounding is relative to this."""
    total = Fraction(0)
    for j, R_j in enumerate(case.R.flat):
        alone = np.full(case.R.size, Fraction(0), dtype=object)
        alone[j] = R_j
        total += sum(abs(r) for r in relprop(rule, case.layer, case.x, alone.reshape(case.R.shape)).flat)
    return float(total)


def test_parts_with_different_inputs_are_refused():
    @dataclass(frozen=True, repr=False)
    class Mixed(lrp.Rule):
        def parts(self, x, w, b):
            return [Part(x.pos * w), Part(x.neg * w)]

    layer, x = lrp.Linear(np.ones((2, 1))), np.array([1.0, -2.0])
    with pytest.raises(TypeError, match="expected parts that use the same inputs in the same order"):
        layer.relprop(layer.trace(x), np.ones(1), Mixed())


@given(weighted_cases, st.booleans())
def test_signs_that_are_known_are_those_of_the_numbers(case, known):
    """Sums of one sign are not looked at for cancelling, and parts that are known to be 0 are not computed."""
    x, w, b = Input(abs(case.x) if known else case.x, int(known)), Weight(case.layer.w), Bias(case.R)
    signs = [(x, int(known)), (x.pos, 1), (x.neg, -1), (x.one, 1), (-x.pos, -1)] if not known else [(x, 1), (-x, -1)]
    signs += [(w, 0), (w.pos, 1), (w.neg, -1), (w**2, 1), (w**3, 0), (w.neg**3, -1), (2 * w.pos, 1), (-2 * w.pos, -1)]
    signs += [(w.pos + w**2, 1), (w.pos + w.neg, 0), (w.pos - w.neg, 1), (w.pos - w**2, 0), (w.neg - w.pos, -1)]
    signs += [(b, 0), (b.pos, 1), (b.neg, -1), (2 * b.pos, 1), (-2 * b.pos, -1), (b.pos + b.neg, 0), (b.pos - b.neg, 1)]
    for term, sign in signs:
        array = term.weights.array() if isinstance(term, Weight) else term.array
        assert term.sign == sign
        assert (array * sign >= 0).all()
    assert not known or (x.pos is x and x.neg is ZERO and (x.neg * w).terms == ())
    for rule in (lrp.AlphaBeta(), lrp.ZPlus(), lrp.Flat(), lrp.WSquare()):
        assert all(part.one_signed for part in rule.parts(x, w, b)), rule
    assert not any(part.one_signed for part in [*lrp.Z().parts(x, w, b), Part(x * w.pos, b.neg)])

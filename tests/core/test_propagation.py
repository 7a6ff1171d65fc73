"""What the fast evaluation of a rule refuses. That it gives the numbers of the plain one is in `test_testing.py`."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import lrp_toolbox as lrp
from lrp_toolbox.context import Context
from lrp_toolbox.ledger import Recorder
from lrp_toolbox.rules import relprop as plainly
from lrp_toolbox.terms import ZERO, Bias, Input, Part, Weight
from lrp_toolbox.testing import WEIGHTED, cases, layers


def one_of_ones_own(make):
    """A rule whose parts are `make(x, w)`."""

    @dataclass(frozen=True, repr=False)
    class Own(lrp.Rule):
        def parts(self, x, w, b):
            return make(x, w)

    return Own()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda x, w: [Part(x.pos * w), Part(x.neg * w)], "expected parts that use the same inputs in the same order"),
        (lambda x, w: [Part(x * w, share=2), Part(x * w.one, share=-1)], "expected w.one in a rule of one part only"),
        (lambda x, w: [Part(x * w, share=0)], "expected a part with a share of the relevance other than 0"),
        (lambda x, w: [], "expected a part with a share of the relevance other than 0"),
    ],
)
def test_parts_that_cannot_be_computed_together_are_refused(make, message):
    layer, x = lrp.Linear(np.ones((2, 1))), np.array([1.0, -2.0])
    with pytest.raises(TypeError, match=rf"^Own\(\): {message}"):
        layer.relprop(layer.trace(x), np.ones(1), one_of_ones_own(make))


NEGATIVE = one_of_ones_own(lambda x, w: [Part(x.neg * w)])


@given(cases(layers(*WEIGHTED)))
def test_part_that_is_known_to_be_zero_gives_what_it_gives_when_nothing_is_known(case):
    """Negative inputs only, behind a ReLU: there are none, and all relevance goes nowhere."""
    x = abs(case.x)
    for nonneg in (False, True):
        recorder = Recorder(0)
        context = Context(NEGATIVE, recorder)
        R = case.module.relprop(case.module.trace(x, nonneg=nonneg), case.R, context)
        assert (plainly(NEGATIVE, case.module, x, case.R) == R).all()
        assert (R == 0).all()
        [entry] = recorder.ledger(case.R, R)
        assert entry.zero_denominator + entry.padding == case.R.sum()


@given(cases(layers(*WEIGHTED)), st.booleans())
def test_signs_that_are_known_are_those_of_the_numbers(case, known):
    """Sums of one sign are not looked at for cancelling, and parts that are known to be 0 are not computed."""
    x, w, b = Input(abs(case.x) if known else case.x, int(known)), Weight(case.module.w), Bias(case.R)
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

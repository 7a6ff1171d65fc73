"""What the fast evaluation of a rule refuses. That it gives the numbers of the plain one is in `test_testing.py`."""

from dataclasses import dataclass

import numpy as np
import pytest

import lrp_toolbox as lrp
from lrp_toolbox.terms import Part


def test_parts_with_different_inputs_are_refused():
    @dataclass(frozen=True, repr=False)
    class Mixed(lrp.Rule):
        def parts(self, x, w, b):
            return [Part(x.pos * w), Part(x.neg * w)]

    layer, x = lrp.Linear(np.ones((2, 1))), np.array([1.0, -2.0])
    with pytest.raises(TypeError, match="expected parts that use the same inputs in the same order"):
        layer.relprop(layer.trace(x), np.ones(1), Mixed())

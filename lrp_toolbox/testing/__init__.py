"""Random layers, nets, inputs, rules and composites; and `check_rule`, `check_layer` for a rule or a layer of your own.

    from lrp_toolbox.testing import check_layer, check_rule

    check_rule(MyRule())
    check_layer(MyLayer(w, b), shape=(4, 4, 2))

Everything is drawn by hypothesis (the extra `testing`): small integers, as Fractions. So zeros, ties and empty parts are
common, what is equal is equal without a tolerance, and floats are exact until something is divided.
"""

try:
    import hypothesis as hypothesis
except ImportError as error:
    raise ImportError('lrp_toolbox.testing draws its examples with hypothesis: pip install "lrp_toolbox[testing]"') from error

from .checks import check_layer, check_rule
from .strategies import (
    ADDING,
    MAXIMA,
    WEIGHTED,
    Case,
    cases,
    composites,
    graphs,
    inputs,
    layers,
    nets,
    rules,
    sequentials,
    to_fractions,
)

__all__ = [
    "ADDING",
    "MAXIMA",
    "WEIGHTED",
    "Case",
    "cases",
    "check_layer",
    "check_rule",
    "composites",
    "graphs",
    "inputs",
    "layers",
    "nets",
    "rules",
    "sequentials",
    "to_fractions",
]

"""Layer-wise Relevance Propagation in NumPy and CuPy: see the README, and `rules.py` for the formulas."""

__version__ = "0.1.0"

from .backend import asarray, to_numpy
from .composites import Composite, First, RuleTable, is_dense, lrp_cmp, uniform
from .data import Preprocessing, read_photo
from .explain import Explanation, explain
from .io import Model, ModelFormatError, available, load, save
from .ledger import Ledger
from .modules import *  # noqa: F403
from .modules import __all__ as _modules
from .rules import *  # noqa: F403
from .rules import __all__ as _rules

__all__ = [
    "Composite",
    "Explanation",
    "First",
    "Ledger",
    "Model",
    "ModelFormatError",
    "Preprocessing",
    "RuleTable",
    "asarray",
    "available",
    "explain",
    "is_dense",
    "load",
    "lrp_cmp",
    "read_photo",
    "save",
    "to_numpy",
    "uniform",
    *_modules,
    *_rules,
]

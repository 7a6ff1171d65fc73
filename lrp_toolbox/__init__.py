"""Layer-wise Relevance Propagation in NumPy and CuPy: see the README, and `rules.py` for the formulas.

`import lrp_toolbox as lrp` gives the modules `lrp.render`, `lrp.metrics`, `lrp.attribution`, `lrp.importers`,
`lrp.experiments`, `lrp.data` and `lrp.testing`, too. Each is imported when it is first used.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

__version__ = "0.1.0"

from .backend import asarray, to_numpy
from .composites import Composite, First, RuleTable, is_dense, lrp_cmp, uniform
from .data import Preprocessing, read_photo
from .explain import explain
from .explanation import Explanation
from .io import Model, ModelFormatError, available, load, save
from .kernels import Stabilizer
from .ledger import Ledger
from .modules import *  # noqa: F403
from .modules import __all__ as _modules
from .presets import COMPOSITES, PRESETS, parse_composite
from .rules import *  # noqa: F403
from .rules import __all__ as _rules

if TYPE_CHECKING:
    from . import attribution as attribution
    from . import data as data
    from . import experiments as experiments
    from . import importers as importers
    from . import metrics as metrics
    from . import render as render
    from . import testing as testing

__all__ = [
    "COMPOSITES",
    "PRESETS",
    "Composite",
    "Explanation",
    "First",
    "Ledger",
    "Model",
    "ModelFormatError",
    "Preprocessing",
    "RuleTable",
    "Stabilizer",
    "asarray",
    "available",
    "explain",
    "is_dense",
    "load",
    "lrp_cmp",
    "parse_composite",
    "read_photo",
    "save",
    "to_numpy",
    "uniform",
    *_modules,
    *_rules,
]

_LATER = ("attribution", "data", "experiments", "importers", "metrics", "render", "testing")  # some of these import matplotlib


def __getattr__(name: str) -> ModuleType:
    if name in _LATER:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})

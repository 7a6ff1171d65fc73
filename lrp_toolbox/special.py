"""Functions that activations need and the array API standard lacks: SciPy's for NumPy, CuPy's copy of them for CuPy.

Arrays of any other module take a formula of the standard or, for the error function, go through NumPy.
"""

from __future__ import annotations

import importlib
import math
from typing import Any

import scipy.special

from .backend import Array, asarray, namespace, to_numpy


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(−x)), for any x without overflow."""
    library = _library(x)
    return (namespace(x).tanh(x / 2) + 1) / 2 if library is None else library.expit(x)


def softplus(x: Array) -> Array:
    """log(1 + exp(x)), for any x without overflow."""
    return namespace(x).logaddexp(x, 0 * x)


def normal_cdf(x: Array) -> Array:
    """Φ(x) = (1 + erf(x / √2)) / 2, the probability that a standard normal number is below x."""
    library, scaled = _library(x), x * math.sqrt(0.5)
    return (1 + (asarray(scipy.special.erf(to_numpy(scaled)), x) if library is None else library.erf(scaled))) / 2


def _library(x: Array) -> Any:
    """The special functions for arrays like x; None if their module has none."""
    module = type(x).__module__.partition(".")[0]
    if module == "cupy":
        return importlib.import_module("cupyx.scipy.special")
    return scipy.special if module == "numpy" else None

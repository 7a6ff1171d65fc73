"""Functions that activations need and array modules lack: the sigmoid, softplus and the error function.

They use the array API standard only, so that NumPy, CuPy and any other module give the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .backend import Array, namespace, zeros


def sigmoid(x: Array) -> Array:
    """1 / (1 + exp(−x)) = (tanh(x / 2) + 1) / 2, which does not overflow."""
    return (namespace(x).tanh(x / 2) + 1) / 2


def softplus(x: Array) -> Array:
    """log(1 + exp(x)) = max(x, 0) + log(1 + exp(−|x|)), which does not overflow."""
    xp = namespace(x)
    return xp.maximum(x, zeros((), x)) + xp.log1p(xp.exp(-xp.abs(x)))


def erf(x: Array) -> Array:
    """2 / √π ∫₀ˣ exp(−t²) dt, up to rounding in float32 and float64.

    Rational approximations of Cody 1969 (Mathematics of Computation 23, 631–637): of erf(x) / x in x² for |x| ≤ ½, and of
    exp(x²) (1 − erf(x)) in x from there on. From 6 on erf(x) is 1 in float64.
    """
    xp = namespace(x)
    size = xp.abs(x)
    small, large = xp.minimum(size, zeros((), x) + 0.5), xp.minimum(xp.maximum(size, zeros((), x) + 0.5), zeros((), x) + 6)
    square = small * small
    near = small * (_polynomial(NEAR, square) / _polynomial(NEAR_BELOW, square))
    far = 1 - xp.exp(-large * large) * (_polynomial(FAR, large) / _polynomial(FAR_BELOW, large))
    y = xp.where(size <= 0.5, near, far)
    return xp.where(x < 0, -y, y)


def normal_cdf(x: Array) -> Array:
    """Φ(x) = (1 + erf(x / √2)) / 2, the probability that a standard normal number is below x."""
    return (1 + erf(x * math.sqrt(0.5))) / 2


def _polynomial(coefficients: Sequence[float], x: Array) -> Array:
    """Σ_k coefficients[k] x^k."""
    y = zeros(x.shape, x) + coefficients[-1]
    for c in reversed(coefficients[:-1]):
        y = y * x + c
    return y


# Table 2 of Cody 1969, n = 4 and n = 8; the constant term comes first
NEAR = (3.20937758913846947e03, 3.77485237685302021e02, 1.13864154151050156e02, 3.16112374387056560e00, 1.85777706184603153e-1)
NEAR_BELOW = (2.84423683343917062e03, 1.28261652607737228e03, 2.44024637934444173e02, 2.36012909523441209e01, 1.0)
FAR = (
    1.23033935479799725e03, 2.05107837782607147e03, 1.71204761263407058e03, 8.81952221241769090e02, 2.98635138197400131e02,
    6.61191906371416295e01, 8.88314979438837594e00, 5.64188496988670089e-1, 2.15311535474403846e-8,
)  # fmt: skip
FAR_BELOW = (
    1.23033935480374942e03, 3.43936767414372164e03, 4.36261909014324716e03, 3.29079923573345963e03, 1.62138957456669019e03,
    5.37181101862009858e02, 1.17693950891312499e02, 1.57449261107098347e01, 1.0,
)  # fmt: skip

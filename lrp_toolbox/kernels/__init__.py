"""What the heavy arithmetic is done with: one set of functions for each kind of array.

    plain   any array module, and Fractions: the reference, short and readable
    cpu     NumPy's float32 and float64: tiles that fit the cache, spread over threads
    gpu     CuPy's float32 and float64: few launches, products by cuBLAS

The three modules have the same functions with the same signatures. `of(*arrays)` picks one. The functions below are for
formulas that work on each element by itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from types import ModuleType
from typing import Any

import numpy as np

from ..backend import Array, Number, is_exact, like, namespace, ones, owner, smallest_divisor
from . import cpu, gpu, plain, threads

FAST = {"numpy": cpu, "cupy": gpu}
DTYPES = {np.dtype(kind) for kind in ("float32", "float64", "bool")}  # of the arrays they are for: floats, and masks


def of(*arrays: Array) -> ModuleType:
    """The kernels for these arrays: `cpu` or `gpu` if all are floats (or masks) of NumPy or of CuPy, else `plain`."""
    owners = {owner(a) for a in arrays}
    fast = FAST.get(owners.pop(), plain) if len(owners) == 1 else plain
    return fast if fast is not plain and all(a.dtype in DTYPES for a in arrays) else plain


def turn(x: Array) -> AbstractContextManager[None]:
    """The turn of an explanation of x: on the CPU, as many are under way at once as there are threads (see `threads.turn`)."""
    return threads.turn() if of(x) is cpu else nullcontext()


def elementwise(f: Callable[..., Array], *arrays: Array) -> Array:
    """f(*arrays), for an f that works on each element by itself."""
    result: Array = of(*arrays).elementwise(f, *arrays)
    return result


def total(f: Callable[..., Array], lead: int, *arrays: Array) -> Array:
    """Σ f(*arrays) over all axes but the first `lead`, in double precision (exact if the arrays are exact).

    f works on each element by itself, and the first array has all axes.
    """
    return of(*arrays).total(f, lead, *arrays)


def positive_part(x: Array) -> Array:
    """x⁺ = max(x, 0)."""
    return elementwise(lambda x: namespace(x).maximum(x, like(0, x)), x)


def negative_part(x: Array) -> Array:
    """x⁻ = min(x, 0)."""
    return elementwise(lambda x: namespace(x).minimum(x, like(0, x)), x)


def zero_unless(a: Array, where: Array) -> Array:
    """a where `where`, else 0."""
    return of(a).zero_unless(a, where)


def quotient(a: Array, b: Array, nothing: Array) -> Array:
    """a / b, and 0 where the mask `nothing` says that b cannot be divided by."""
    return of(a, b).quotient(a, b, nothing)


def signed(value: Number, x: Array) -> Array:
    """value · sign(x), with sign(0) = +1."""
    return of(x).signed(like(value, x), x)


def vanishes(z: Array) -> Array:
    """Where z is too small to divide by: 0 or, in floats, a sum of subnormal numbers, which have lost their digits."""
    smallest = smallest_divisor(z)
    return abs(z) < smallest if smallest else z == 0


@dataclass(frozen=True)
class Stabilizer:
    """ε in the forms of other toolboxes, for `Epsilon(Stabilizer(…))`. The usual form, z + ε sign(z), is `Epsilon(ε)`.

    clip        sign(z) max(|z|, ε) instead: only small denominators change
    relative    ε times √(mean of z_j² over the outputs of the layer), for each sample: independent of the scale of the data;
                layers that look at channels only (Scale, BatchNorm, Linear on maps) take it for each place

    sign(0) = 1. With both this is Zennit's `Stabilizer(ε, clip=True, norm_scale=True)`. Raises ValueError if eps is not a
    number > 0; a relative one needs floats, since Fractions have no roots.
    """

    eps: Number
    clip: bool = False
    relative: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.eps, bool) or not isinstance(self.eps, (int, float, Fraction)) or not 0 < self.eps < math.inf:
            raise ValueError(f"eps: expected a finite number > 0, got {self.eps!r}")

    def __call__(self, z: Array, axes: int) -> Array:
        """The denominators for z, whose last `axes` axes are the outputs of a layer."""
        xp, eps = namespace(z), like(self.eps, z) * ones((1,) * z.ndim, z)
        if self.relative:
            if is_exact(z):
                raise TypeError("eps: a relative stabiliser needs floats, since Fractions have no roots")
            eps = eps * xp.sqrt(xp.mean(z * z, axis=tuple(range(-axes, 0)), keepdims=True))
        sign = xp.where(z >= 0, ones((), z), -ones((), z))
        return sign * xp.maximum(abs(z), eps) if self.clip else z + sign * eps


def divide(R: Array, z: Array, eps: Number | Stabilizer = 0, axes: int = 1) -> Array:
    """s_j = R_j / (z_j + ε · sign(z_j)), with sign(0) = +1; and 0 where the denominator vanishes (see `vanishes`).

    `eps` may be another stabiliser; the last `axes` axes of z are the outputs of a layer.
    """
    if isinstance(eps, Stabilizer):
        z, eps = eps(z, axes), 0
    return elementwise(lambda R, z: _divide(R, z, eps), R, z)


def _divide(R: Array, z: Array, eps: Any) -> Array:
    if eps:
        z = z + signed(eps, z)
    return R / z if never_vanishes(z, eps) else quotient(R, z, vanishes(z))


def added(z: Array, eps: Number | Stabilizer, axes: int) -> Array:
    """What the stabiliser adds to z: ε sign(z), in its usual form."""
    return eps(z, axes) - z if isinstance(eps, Stabilizer) else signed(eps, z)


def never_vanishes(z: Any, eps: Number | Stabilizer) -> bool:
    """Whether ε alone makes every denominator large enough to divide by."""
    return not isinstance(eps, Stabilizer) and eps > 0 and eps > smallest_divisor(z)

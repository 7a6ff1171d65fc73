"""Which array module owns these arrays, and the only doors between host and device.

The data decides: a function asks `xp = namespace(x)` and works with that module, so array type in is array type out.
There is no global switch. NumPy, CuPy and any module of the array API standard will do; so do NumPy arrays of
`fractions.Fraction` (dtype object), in which every formula of this toolbox is exact.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from .kernels import cpu, gpu

Array = Any  # numpy.ndarray, cupy.ndarray or an array of the standard; SciPy's choice of annotation, too
Module = Any  # an array module

__all__ = [
    "Array",
    "Lazy",
    "asarray",
    "beside",
    "elementwise",
    "evaluated",
    "is_exact",
    "is_finite",
    "like",
    "memory",
    "namespace",
    "negative_part",
    "ones",
    "only",
    "positive_part",
    "quotient",
    "require_same",
    "signed",
    "smallest_divisor",
    "to_numpy",
    "total",
    "ulp",
    "zeros",
]


def namespace(*arrays: Array) -> Module:
    """The one array module that owns all `arrays` (`None` and plain numbers own nothing and are passed over).

    Raises TypeError if two modules are mixed, or if an argument is no array.
    """
    found: dict[str, Module] = {}
    for a in arrays:
        if a is None or isinstance(a, (int, float, Fraction)):
            continue
        name = type(a).__module__.partition(".")[0]
        if name in ("numpy", "cupy"):  # CuPy's arrays have no __array_namespace__
            found[name] = sys.modules[name]
        elif hasattr(a, "__array_namespace__"):
            found[name] = a.__array_namespace__()
        else:
            raise TypeError(f"expected an array (NumPy, CuPy, or of the array API standard), got {type(a).__name__}")
    if not found:
        raise TypeError("expected at least one array, got none")
    if len(found) > 1:
        names = " and ".join(sorted(found))
        raise TypeError(
            f"arrays of {names} are mixed, and data is never moved in silence: "
            "move the data with lrp_toolbox.asarray(x, like=...), or the parameters with net.to(array_module)"
        )
    return next(iter(found.values()))


def require_same(name: str, x: Array, like_name: str, like: Array) -> None:
    """Raise TypeError unless `x` is of the same array module and dtype as `like`: nothing is cast in silence."""
    namespace(x, like)
    if x.dtype != like.dtype:
        raise TypeError(
            f"{name} is {x.dtype}, but {like_name} is {like.dtype}; nothing is cast in silence: "
            "use x.astype(...) or net.astype(...)"
        )


def to_numpy(x: Array) -> np.ndarray[Any, Any]:
    """`x` on the host. A copy from a GPU; of a NumPy array, the array itself."""
    if isinstance(x, np.ndarray):
        return x
    if hasattr(x, "get"):  # CuPy
        return np.asarray(x.get())
    return np.from_dlpack(x) if hasattr(x, "__dlpack__") else np.asarray(x)


def asarray(x: Array, like: Array | Module) -> Array:
    """`x` in the array module of `like`, an array or the module itself (`asarray(x, cupy)`). Keeps the dtype."""
    xp = like if hasattr(like, "asarray") else namespace(like)
    if type(x).__module__.partition(".")[0] == xp.__name__.partition(".")[0]:
        return x
    return xp.asarray(to_numpy(x))


def beside(values: np.ndarray[Any, Any], x: Array) -> Array:
    """NumPy's `values`, small ones that were made here, in the module and device of `x`, whatever its dtype."""
    xp = namespace(x)
    return xp.asarray(values, **({} if xp.__name__ in ("numpy", "cupy") else {"device": x.device}))


def is_exact(x: Array) -> bool:
    """Whether `x` is an object array, taken to hold Fractions."""
    return bool(x.dtype == object) if isinstance(x, np.ndarray) else False


def like(value: int | float | Fraction, x: Array) -> int | float | Fraction:
    """`value` as a scalar to stand beside `x`: a Fraction of that very value if `x` is exact, else a plain number."""
    if is_exact(x):
        return Fraction(value)
    return float(value) if isinstance(value, Fraction) else value


def zeros(shape: tuple[int, ...], x: Array) -> Array:
    """Zeros of `shape`, in the module, dtype and device of `x`."""
    return _full(shape, 0, x)


def ones(shape: tuple[int, ...], x: Array) -> Array:
    """Ones of `shape`, in the module, dtype and device of `x`."""
    return _full(shape, 1, x)


def _full(shape: tuple[int, ...], value: int, x: Array) -> Array:
    xp = namespace(x)
    device = {} if xp.__name__ in ("numpy", "cupy") else {"device": x.device}
    return xp.full(shape, like(value, x), dtype=x.dtype, **device)


@dataclass(frozen=True, eq=False)
class Lazy:
    """f(*arrays), worked out where it is asked for and as far as it is: lazy[part] = f(*(a[part] for a in arrays)).

    f keeps the leading axes and works on each place of these by itself, such as max(w, 0), or joining along the last axis.
    w⁺ of a dense layer is so never in memory as a whole.
    """

    f: Callable[..., Array]
    arrays: tuple[Array, ...]  # or Lazy themselves
    joins: bool = False  # whether f is `join` of a layer: for a dense one, the arrays side by side

    def __getitem__(self, part: Any) -> Array:
        return self.f(*(a[part] for a in self.arrays))


def evaluated(a: Array | Lazy) -> Array:
    """The array that a Lazy stands for; an array as it is."""
    return cpu.evaluated(a) if isinstance(a, Lazy) else a


def elementwise(f: Callable[..., Array], *arrays: Array) -> Array:
    """f(*arrays) for an f that works on each element by itself. Large NumPy arrays go through the cache in pieces."""
    return cpu.in_pieces(f, *arrays) if cpu.pays(*arrays) else f(*arrays)


def total(f: Callable[..., Array], lead: int, *arrays: Array) -> Array:
    """Σ f(*arrays) over all axes but the first `lead`, in double precision (exactly, if the arrays are exact).

    f works on each element by itself, and the first array has all axes.
    """
    if cpu.pays(*arrays):
        return cpu.sum_in_pieces(f, lead, *arrays)
    xp, values = namespace(*arrays), f(*arrays)
    axes = tuple(range(lead, values.ndim))
    return xp.sum(values, axis=axes) if is_exact(values) else xp.sum(values, axis=axes, dtype=xp.float64)


def positive_part(x: Array) -> Array:
    """x⁺ = max(x, 0)."""
    return elementwise(lambda x: namespace(x).maximum(x, like(0, x)), x)


def negative_part(x: Array) -> Array:
    """x⁻ = min(x, 0)."""
    return elementwise(lambda x: namespace(x).minimum(x, like(0, x)), x)


def only(a: Array, where: Array) -> Array:
    """a where `where`, else 0."""
    if cpu.suits(a):
        return cpu.only(a, where)
    if gpu.suits(a):
        return gpu.only(a, where)
    return namespace(a).where(where, a, zeros((), a))


def quotient(a: Array, b: Array, nothing: Array) -> Array:
    """a / b, and 0 where b is `nothing` to divide by."""
    if cpu.suits(a, b):
        return cpu.only(a / (b + nothing), ~nothing) if nothing.any() else a / b
    if gpu.suits(a, b):
        return gpu.quotient(a, b, nothing)
    xp = namespace(a, b)
    return xp.where(nothing, zeros((), b), a / xp.where(nothing, ones((), b), b))


def signed(value: int | float | Fraction, x: Array) -> Array:
    """value · sign(x), with sign(0) = +1."""
    value = like(value, x)
    if cpu.suits(x):
        return cpu.signed(float(value), x)
    if gpu.suits(x):
        return gpu.signed(value, x)
    v = value * ones((), x)
    return namespace(x).where(x >= 0, v, -v)


def is_finite(x: Array) -> bool:
    """Whether there is neither NaN nor infinity in `x`."""
    return is_exact(x) or bool(namespace(x).all(namespace(x).isfinite(x)))


MEMORY = {"cupy": 1 << 32, "host": 1 << 28}


def memory(x: Array) -> int:
    """How many bytes of activations, or of relevance, it pays to hold at a time.

    On the host few: what does not stay in the caches takes longer (measured on VGG-16: ten targets two at a time take
    half of the processor's time that ten at a time take). A GPU wants to be kept busy.
    """
    return MEMORY.get(namespace(x).__name__, MEMORY["host"])


def smallest_divisor(x: Array) -> float:
    """The magnitude below which a sum in x's dtype is no divisor: its terms are subnormal and have lost their digits.

    Exact arithmetic has no such limit: 0.
    """
    if is_exact(x):
        return 0.0
    info = namespace(x).finfo(x.dtype)
    return float(info.smallest_normal) / float(info.eps)


def ulp(x: Array) -> float:
    """The distance from 1 to the next number of x's dtype; 0 if `x` is exact."""
    return 0.0 if is_exact(x) else float(namespace(x).finfo(x.dtype).eps)

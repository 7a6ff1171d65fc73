"""Which array module owns these arrays, and the only doors between host and device.

The data decides: a function asks `xp = namespace(x)` and works with that module, so array type in is array type out.
There is no global switch. NumPy, CuPy and any module of the array API standard will do; so do NumPy arrays of
`fractions.Fraction` (dtype object), in which every formula of this toolbox is exact.
"""

from __future__ import annotations

import sys
from fractions import Fraction
from typing import Any

import numpy as np

Array = Any  # numpy.ndarray, cupy.ndarray or an array of the standard; SciPy's choice of annotation, too
Value = Any  # an array or, for a layer with several inputs, a tuple of arrays
Module = Any  # an array module
Number = int | float | Fraction


def owner(a: Array) -> str:
    """The name of the array module that `a` comes from."""
    return type(a).__module__.partition(".")[0]


def namespace(*arrays: Array) -> Module:
    """The one array module that owns all `arrays` (`None` and plain numbers own nothing and are passed over).

    Raises TypeError if two modules are mixed, or if an argument is no array.
    """
    if arrays and all(type(a) is np.ndarray for a in arrays):  # by far the most common case, asked for often
        return np
    found: dict[str, Module] = {}
    for a in arrays:
        if a is None or isinstance(a, (int, float, Fraction)):
            continue
        name = owner(a)
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
    if owner(x) == xp.__name__.partition(".")[0]:
        return x
    return xp.asarray(to_numpy(x))


def asarray_like(values: np.ndarray[Any, Any], x: Array) -> Array:
    """NumPy's `values` in the module and on the device of `x`, with their own dtype."""
    xp = namespace(x)
    return xp.asarray(values, **({} if xp.__name__ in ("numpy", "cupy") else {"device": x.device}))


def on_host(x: Array) -> bool:
    """Whether `x` is NumPy's, so that a look at its numbers takes no time."""
    return isinstance(x, np.ndarray)


def is_exact(x: Array) -> bool:
    """Whether `x` is an object array, taken to hold Fractions."""
    return bool(x.dtype == object) if isinstance(x, np.ndarray) else False


def like(value: Number, x: Array) -> Number:
    """`value` as a scalar to compute with `x`: the Fraction of exactly this value if `x` is exact, else a plain number."""
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


def is_finite(x: Array) -> bool:
    """Whether there is neither NaN nor infinity in `x`."""
    return is_exact(x) or bool(namespace(x).all(namespace(x).isfinite(x)))


MEMORY = {"cupy": 1 << 32, "host": 1 << 28}


def memory(x: Array) -> int:
    """How many bytes of activations, or of relevance, to work on at a time.

    Few on the host, where large maps leave the caches (measured on VGG-16: ten targets take half of the time when they
    are done two at a time). Many on a GPU, which needs much work at once to be busy.
    """
    return MEMORY.get(namespace(x).__name__, MEMORY["host"])


def smallest_divisor(x: Array) -> float:
    """The size below which a sum in x's dtype cannot be divided by: its terms are subnormal and have lost their digits.

    Exact arithmetic has no such limit: 0.
    """
    if is_exact(x):
        return 0.0
    info = namespace(x).finfo(x.dtype)
    return float(info.smallest_normal) / float(info.eps)


def ulp(x: Array) -> float:
    """The distance from 1 to the next number of x's dtype; 0 if `x` is exact."""
    return 0.0 if is_exact(x) else float(namespace(x).finfo(x.dtype).eps)


def rounding(x: Array) -> float:
    """By how much of its summands' sizes a sum in x's dtype may be wrong, a few layers behind the input; 0 if `x` is exact.

    In float64, 8 units in the last place: each layer adds about one. In float32, one, since real nets have many sums of that
    size: 8 would move LRP_z on VGG-16 by 0.9 % of the largest relevance (one: 0.3 %; none: 0.15 %).
    """
    return ulp(x) if x.dtype == namespace(x).float32 else 8 * ulp(x)

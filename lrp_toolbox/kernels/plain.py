"""The plain kernels: short, for any array module of the standard, and exact for Fractions. A lecture shows these."""

from __future__ import annotations

from collections.abc import Callable

from ..backend import Array, Number, is_exact, namespace, ones, zeros
from ..weights import Weights
from .windows import Windows

# ---- convolution -----------------------------------------------------------------------------------------------------


def correlate(x: Array, w: Weights, windows: Windows, groups: int) -> Array:
    """y_j = Σ_i x_i w_ij over the windows: x (…, h, w, in), w (kh, kw, in / groups, out) → (…, rows, columns, out)."""
    size, weights = x.shape[-3:-1], w.array()
    padded, y = windows.pad(x), None
    for i, j, (rows, columns) in windows.views(size):
        seen = _mix(padded[..., rows, columns, :], weights[i, j, ...], groups)
        y = seen if y is None else y + seen
    return y


def correlate_T(s: Array, w: Weights, windows: Windows, size: tuple[int, int], groups: int) -> Array:
    """The transpose of `correlate`: Σ_j w_ij s_j on the map of `size`, for s (…, rows, columns, out)."""
    weights = w.array()
    padded = zeros((*s.shape[:-3], *windows.extent(size), w.shape[2] * groups), s)
    for i, j, (rows, columns) in windows.views(size):
        padded[..., rows, columns, :] += _mix(s, _transposed(weights[i, j, ...], groups), groups)
    return padded[(..., *windows.inside(size), slice(None))]


def _mix(x: Array, w: Array, groups: int) -> Array:
    """Σ_i x_i w_ij at every place: x (…, h, w, in), w (in / groups, out)."""
    if groups == 1:
        return x @ w
    xp = namespace(x, w)
    n_in, n_out = w.shape[0], w.shape[1] // groups
    if n_in == 1:  # depthwise: nothing to add up
        y = x[..., None] * xp.reshape(w, (groups, n_out))
        return xp.reshape(y, (*x.shape[:-1], groups * n_out))
    x = xp.moveaxis(xp.reshape(x, (*x.shape[:-1], groups, n_in)), -2, -4)  # (…, groups, h, w, in / groups)
    w = xp.moveaxis(xp.reshape(w, (n_in, groups, n_out)), 1, 0)[:, None, :, :]  # (groups, 1, in / groups, out / groups)
    y = xp.moveaxis(x @ w, -4, -2)
    return xp.reshape(y, (*y.shape[:-2], groups * n_out))


def _transposed(w: Array, groups: int) -> Array:
    """The weights (in / groups, out) of each group transposed: (out / groups, in)."""
    xp = namespace(w)
    n_in, n_out = w.shape[0], w.shape[1] // groups
    return xp.reshape(xp.permute_dims(xp.reshape(w, (n_in, groups, n_out)), (2, 1, 0)), (n_out, groups * n_in))


# ---- dense layers ----------------------------------------------------------------------------------------------------


def dense(x: Array, w: Weights) -> Array:
    """Σ_i x_i w_ij: x (…, in), w (in, out) → (…, out)."""
    return x @ w.array()


def dense_T(s: Array, w: Weights) -> Array:
    """Σ_j w_ij s_j: s (…, out), w (in, out) → (…, in)."""
    return s @ namespace(s).permute_dims(w.array(), (1, 0))


# ---- elementwise -----------------------------------------------------------------------------------------------------


def elementwise(f: Callable[..., Array], *arrays: Array) -> Array:
    """f(*arrays), for an f that works on each element by itself."""
    return f(*arrays)


def total(f: Callable[..., Array], lead: int, *arrays: Array) -> Array:
    """Σ f(*arrays) over all axes but the first `lead`, in double precision (exact if the arrays are exact)."""
    xp, values = namespace(*arrays), f(*arrays)
    axes = tuple(range(lead, values.ndim))
    return xp.sum(values, axis=axes) if is_exact(values) else xp.sum(values, axis=axes, dtype=xp.float64)


def zero_unless(a: Array, where: Array) -> Array:
    """a where `where`, else 0."""
    return namespace(a).where(where, a, zeros((), a))


def quotient(a: Array, b: Array, nothing: Array) -> Array:
    """a / b, and 0 where b is `nothing` to divide by."""
    xp = namespace(a, b)
    return xp.where(nothing, zeros((), b), a / xp.where(nothing, ones((), b), b))


def signed(value: Number, x: Array) -> Array:
    """value · sign(x), with sign(0) = +1."""
    v = value * ones((), x)
    return namespace(x).where(x >= 0, v, -v)

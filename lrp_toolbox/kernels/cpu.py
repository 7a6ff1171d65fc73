"""The kernels for NumPy's floats: tiles of about the size of the cache, spread over threads.

A convolution is a matrix product once every window is written out as a row (im2col). A whole layer written out would not
fit the cache; a tile of rows does, and BLAS reads it from there. The transposed convolution works the other way round: one
product gives what each window contributes to each of its places, and these are added up while they are in the cache.

`np.matmul` and ufuncs release Python's lock, so several threads can work on tiles (see `threads.py`).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..backend import Number
from ..weights import Derived, Given, Joined, Weights
from . import plain
from .threads import busy, scratch, spread, threads
from .windows import Windows

Array = Any  # numpy.ndarray, wherever it stands here

TILE = 1 << 20  # bytes of a tile; at least as many as the weights have, since BLAS packs these anew for each tile
PIECE = 1 << 18  # maximum number of elements of a piece of an elementwise formula
RUNS_TILE = 1 << 17  # the same for a depthwise convolution, which reads and writes a tile once for each tap
NARROW = 32  # channels up to which longer runs are faster when windows are added up
WORTH = 1 << 22  # multiplications of a convolution from which more than one thread is faster
BLOCK = 1 << 18  # weights of a dense layer that are worked on at a time
PART = 1 << 16  # weights from which more than one thread is faster to derive others from them


# ---- convolution -----------------------------------------------------------------------------------------------------


def correlate(x: Array, w: Weights, windows: Windows, groups: int) -> Array:
    """y_j = Σ_i x_i w_ij over the windows: x (…, h, w, in), w (kh, kw, in / groups, out) → (…, rows, columns, out)."""
    if _is_depthwise(w, groups):
        return _depthwise(x, w, windows)
    if _is_pointwise(windows, groups):
        return _product(x, whole(w)[0, 0])
    maps = x.reshape(-1, *x.shape[-3:])
    rows, columns = windows.counts(maps.shape[1:3])
    y = np.empty((len(maps), rows, columns, w.shape[3]), x.dtype)
    channels, outputs, matrices = _matrices(w, groups)

    def work(tile: Tile) -> None:
        out = y[tile].reshape(-1, y.shape[3])
        strip = _strip(maps[tile[0]], windows, tile[1], columns)
        for g, matrix in enumerate(matrices):
            view = _seen(strip[..., g * channels : (g + 1) * channels], windows, columns)
            seen = scratch("written out", view.shape, x.dtype)
            seen[...] = view
            np.matmul(seen.reshape(len(out), -1), matrix, out=out[:, g * outputs : (g + 1) * outputs])

    spread(work, _tiles(len(maps), rows, columns, matrices[0], minimum=1))
    return y.reshape(*x.shape[:-3], *y.shape[1:])


def correlate_T(s: Array, w: Weights, windows: Windows, size: tuple[int, int], groups: int) -> Array:
    """The transpose of `correlate`: Σ_j w_ij s_j on the map of `size`, for s (…, rows, columns, out)."""
    if _is_depthwise(w, groups):
        return _depthwise_T(s, w, windows, size, groups)
    if _is_pointwise(windows, groups):
        return _product(s, whole(w)[0, 0].T)
    maps = s.reshape(-1, *s.shape[-3:])
    rows, columns = maps.shape[1:3]
    channels, outputs, matrices = _matrices(w, groups)
    out = np.zeros((len(maps), *size, channels * groups), s.dtype)
    (kh, kw), (stride, step), ((top, _), (left, _)) = windows.kernel, windows.stride, windows.padding
    high, wide = _span(windows, 0), (columns - 1) * step + _span(windows, 1)
    meeting = threading.Lock()  # neighbours add to the same rows: two summands at most, in whichever order

    def work(tile: Tile) -> None:
        s_tile, first = maps[tile], tile[1].start
        n, count = s_tile.shape[:2]
        strip = scratch("strip", (n, (count - 1) * stride + high, wide, channels * groups), s.dtype)
        strip[...] = 0
        for g, matrix in enumerate(m.T for m in matrices):
            given = scratch("written out", (n * count * columns, matrix.shape[1]), s.dtype)
            np.matmul(s_tile[..., g * outputs : (g + 1) * outputs].reshape(len(given), -1), matrix, out=given)
            given = given.reshape(n, count, columns, kh, kw, channels)
            _add_windows(strip[..., g * channels : (g + 1) * channels], given, windows)
        above = max(0, top - first * stride)
        start = first * stride - top + above
        inside = strip[:, above : above + max(0, size[0] - start), left : left + size[1]]
        with meeting:
            out[tile[0], start : start + inside.shape[1], : inside.shape[2]] += inside

    overlap = -(-high // stride)  # tiles that are this many rows high touch none but their neighbours
    spread(work, _tiles(len(maps), rows, columns, matrices[0], minimum=overlap))
    return out.reshape(*s.shape[:-3], *out.shape[1:])


def _is_pointwise(windows: Windows, groups: int) -> bool:
    """Whether each place has a product of its own: nothing is to be written out, and nothing to be added up."""
    plain = windows.padding == ((0, 0), (0, 0)) and windows.stride == (1, 1)
    return plain and windows.kernel == (1, 1) and groups == 1


def _product(x: Array, matrix: Array) -> Array:
    """x @ matrix over the last axis."""
    rows = x.reshape(-1, x.shape[-1])
    y = np.empty((len(rows), matrix.shape[1]), x.dtype)
    count = threads() if rows.size * matrix.shape[1] > WORTH else 1
    count *= -(-x.nbytes // max(TILE, matrix.nbytes) // count)

    def work(part: slice) -> None:
        np.matmul(rows[part], matrix, out=y[part])

    spread(work, _parts(len(rows), max(1, min(count, len(rows)))))
    return y.reshape(*x.shape[:-1], matrix.shape[1])


def _is_depthwise(w: Weights, groups: int) -> bool:
    """Whether each channel has a convolution of its own: a matrix product would have one column."""
    return groups > 1 and w.shape[2] == 1


def _matrices(w: Weights, groups: int) -> tuple[int, int, list[Array]]:
    """Channels and outputs of one group, and for each group its weights as (kh · kw · channels, outputs)."""
    outputs = w.shape[3] // groups
    matrix = whole(w).reshape(-1, w.shape[3])
    return w.shape[2], outputs, [matrix[:, g * outputs : (g + 1) * outputs] for g in range(groups)]


Tile = tuple[slice, slice]  # maps, rows: some rows of one map, or all rows of some


def _tiles(maps: int, rows: int, columns: int, matrix: Array, minimum: int) -> list[Tile]:
    """Tiles of about TILE bytes, as many as there are threads, or a multiple.

    `matrix` has the weights, and as many rows as a window is written out to.
    """
    written_out = maps * rows * columns * len(matrix)
    count = -(-written_out * matrix.itemsize // max(TILE, matrix.nbytes))
    if count > 1 or written_out * matrix.shape[1] > WORTH:
        count = -(-count // threads()) * threads()
    return _tiled(maps, rows, count, minimum)


def _tiled(maps: int, rows: int, count: int, minimum: int) -> list[Tile]:
    """About `count` tiles, of which none has fewer than `minimum` rows."""
    if count <= maps:
        return [(part, slice(0, rows)) for part in _parts(maps, count)]
    parts = _parts(rows, min(-(-count // maps), max(1, rows // minimum)))
    return [(slice(n, n + 1), part) for n in range(maps) for part in parts]


def _parts(size: int, count: int) -> list[slice]:
    """0 … size − 1 in `count` parts, as equal as can be."""
    ends = [size * k // count for k in range(count + 1)]
    return [slice(first, last) for first, last in pairwise(ends)]


def _tap(start: int, count: int, step: int) -> slice:
    return slice(start, start + (count - 1) * step + 1, step)


def _strip(maps: Array, windows: Windows, rows: slice, columns: int) -> Array:
    """What these rows of windows see of the maps (n, h, w, c), with their padding."""
    (top, _), (left, _) = windows.padding
    start = rows.start * windows.stride[0] - top
    high = (rows.stop - rows.start - 1) * windows.stride[0] + windows.dilation[0] * (windows.kernel[0] - 1) + 1
    wide = (columns - 1) * windows.stride[1] + windows.dilation[1] * (windows.kernel[1] - 1) + 1
    if left == 0 and wide <= maps.shape[2] and start >= 0 and start + high <= maps.shape[1]:
        return maps[:, start : start + high, :wide]
    strip = scratch("strip", (len(maps), high, wide, maps.shape[3]), maps.dtype)
    a, b = max(start, 0), min(start + high, maps.shape[1])
    seen = max(0, min(wide - left, maps.shape[2]))
    strip[:, : max(0, a - start)] = 0
    strip[:, max(0, b - start) :] = 0
    if b > a:
        within = strip[:, a - start : b - start]
        within[:, :, :left] = 0
        within[:, :, left + seen :] = 0
        within[:, :, left : left + seen] = maps[:, a:b, :seen]
    return strip


def _seen(strip: Array, windows: Windows, columns: int, writeable: bool = False) -> Array:
    """What each window of the strips (n, h, w, c) sees: (n, rows, columns, kh, kw, c), a view."""
    (kh, kw), (down, right), (stride, step) = windows.kernel, windows.dilation, windows.stride
    n, a, b, c = strip.strides
    rows = (strip.shape[1] - down * (kh - 1) - 1) // stride + 1
    shape = (len(strip), rows, columns, kh, kw, strip.shape[3])
    return as_strided(strip, shape, (n, stride * a, step * b, down * a, right * b, c), writeable=writeable)


def _add_windows(strip: Array, given: Array, windows: Windows) -> None:
    """Add what each window gives to its places, (n, rows, columns, kh, kw, c), to the strips (n, h, w, c).

    One tap of all windows at a time, in runs of c numbers. Where these are few, one row of a window at a time, in runs of
    kw · c, of windows that do not overlap.
    """
    columns, kh, kw, channels = given.shape[2:]
    seen = _seen(strip, windows, columns, writeable=True)
    apart = -(-_span(windows, 1) // windows.stride[1])
    parts: list[tuple[Any, ...]]
    if channels <= NARROW:
        parts = [(slice(k, None, apart), i) for i in range(kh) for k in range(min(apart, columns))]
    else:
        parts = [(slice(None), i, j) for i in range(kh) for j in range(kw)]
    for part in parts:
        where = (slice(None), slice(None), *part)
        np.add(seen[where], given[where], out=seen[where])


# ---- depthwise convolution -------------------------------------------------------------------------------------------
# Each channel has a convolution of its own, so that a matrix product would have one column. For each tap there is a product
# and a sum of whole runs: a row of columns · channels numbers, with the weights of the tap laid out as long as that. What a
# tap sees is such a run, too, once columns stand together by phase, their number modulo the stride.


def _depthwise(x: Array, w: Weights, windows: Windows) -> Array:
    """`correlate` for as many groups as channels."""
    maps = x.reshape(-1, *x.shape[-3:])
    channels, (rows, columns) = maps.shape[3], windows.counts(maps.shape[1:3])
    run, weights = columns * channels, _runs(w, channels, columns)
    y = np.empty((len(maps), rows, run, len(weights)), x.dtype)

    def work(tile: Tile) -> None:
        out = y[tile]
        phases = _by_phase(_strip(maps[tile[0]], windows, tile[1], columns), windows.stride[1])
        views = [phases[view] for view in _run_views(windows, out.shape[1], channels, run)]
        product = scratch("product", out.shape[:3], x.dtype)
        for k, taps in enumerate(weights):
            sums = out[..., 0] if len(weights) == 1 else scratch("sums", out.shape[:3], x.dtype)
            np.multiply(views[0], taps[0], out=sums)
            for seen, tap in zip(views[1:], taps[1:], strict=True):
                np.add(sums, np.multiply(seen, tap, out=product), out=sums)
            if len(weights) > 1:
                out[..., k] = sums

    spread(work, _row_tiles(len(maps), rows, run * x.itemsize, minimum=1))
    return y.reshape(*x.shape[:-3], rows, columns, channels * len(weights))


def _depthwise_T(s: Array, w: Weights, windows: Windows, size: tuple[int, int], channels: int) -> Array:
    """`correlate_T` for as many groups as channels: each tap adds its products to the runs that it sees."""
    rows, columns = s.shape[-3:-1]
    run, weights = columns * channels, _runs(w, channels, columns)
    maps = s.reshape(-1, rows, run, len(weights))
    out = np.zeros((len(maps), *size, channels), s.dtype)
    (stride, step), ((top, _), (left, _)) = windows.stride, windows.padding
    high, wide = _span(windows, 0), (columns - 1) * step + _span(windows, 1)
    meeting = threading.Lock()  # as in `correlate_T`

    def work(tile: Tile) -> None:
        given, first = maps[tile], tile[1].start
        n, count = given.shape[:2]
        phases = scratch("phases", (n, (count - 1) * stride + high, step, -(-wide // step) * channels), s.dtype)
        phases[...] = 0
        views = [phases[view] for view in _run_views(windows, count, channels, run)]
        product = scratch("product", given.shape[:3], s.dtype)
        for k, taps in enumerate(weights):
            part = np.ascontiguousarray(given[..., k])
            for seen, tap in zip(views, taps, strict=True):
                np.add(seen, np.multiply(part, tap, out=product), out=seen)
        strip = (
            phases.reshape(*phases.shape[:3], -1, channels).transpose(0, 1, 3, 2, 4).reshape(n, phases.shape[1], -1, channels)
        )
        above = max(0, top - first * stride)
        start = first * stride - top + above
        inside = strip[:, above : above + max(0, size[0] - start), left : left + size[1]]
        with meeting:
            out[tile[0], start : start + inside.shape[1], : inside.shape[2]] += inside

    spread(work, _row_tiles(len(maps), rows, run * s.itemsize, minimum=-(-high // stride)))
    return out.reshape(*s.shape[:-3], *out.shape[1:])


def _runs(w: Weights, channels: int, columns: int) -> list[Array]:
    """For each of the outputs that a channel has, the weights of all taps as runs: (tap, columns · channels)."""
    weights = whole(w).reshape(-1, channels, w.shape[3] // channels)
    return [np.tile(weights[..., k], (1, columns)) for k in range(weights.shape[2])]


def _by_phase(strip: Array, step: int) -> Array:
    """The strips (n, h, w, c) as runs, with the columns of a phase together: (n, h, step, columns of a phase · c)."""
    n, high, wide, channels = strip.shape
    together = strip.strides[2:] == (channels * strip.itemsize, strip.itemsize)
    if step == 1 and together:
        return strip.reshape(n, high, 1, wide * channels)
    phases = scratch("phases", (n, high, step, -(-wide // step), channels), strip.dtype)
    for phase in range(step):
        columns = strip[:, :, phase::step]
        phases[:, :, phase, : columns.shape[2]] = columns
    return phases.reshape(n, high, step, -1)


def _run_views(windows: Windows, rows: int, channels: int, run: int) -> list[tuple[Any, ...]]:
    """For each tap, where in the phases of a tile of `rows` rows the runs lie that it sees."""
    (kh, kw), (down, right), (stride, step) = windows.kernel, windows.dilation, windows.stride
    views = []
    for i in range(kh):
        for j in range(kw):
            start, phase = divmod(j * right, step)
            views.append((slice(None), _tap(i * down, rows, stride), phase, slice(start * channels, start * channels + run)))
    return views


def _span(windows: Windows, axis: int) -> int:
    """How many rows or columns a window reaches over."""
    return windows.dilation[axis] * (windows.kernel[axis] - 1) + 1


def _row_tiles(maps: int, rows: int, run: int, minimum: int) -> list[Tile]:
    """Tiles of about RUNS_TILE bytes, for runs of so many bytes; as many as there are threads, or a multiple."""
    count = -(-maps * rows * run // RUNS_TILE)
    if count > 1:
        count = -(-count // threads()) * threads()
    return _tiled(maps, rows, count, minimum)


# ---- dense layers ----------------------------------------------------------------------------------------------------


def dense(x: Array, w: Weights) -> Array:
    """Σ_i x_i w_ij: x (…, in), w (in, out) → (…, out).

    This takes as long as reading the weights, so only the rows of inputs that are not 0 are read.
    """
    inputs = w.shape[0]
    rows, sides = x.reshape(-1, inputs), _sides(w)
    ends = np.cumsum([side.shape[1] for side in sides])
    used: Any = np.flatnonzero(rows.any(axis=0)) if len(rows) <= FEW else np.arange(inputs)
    skip = 4 * len(used) < 3 * inputs  # gathering rows has its own cost
    blocks = _blocks(len(used) if skip else inputs, ends[0])
    runs = [blocks[k::RUNS] for k in range(min(RUNS, len(blocks)))]  # as many for any number of threads: the same sums
    sums = np.zeros((len(runs), len(rows), ends[-1]), x.dtype)

    def work(k: int) -> None:
        parts = np.split(sums[k], ends[:-1], axis=-1)
        for block in runs[k]:
            part = used[block] if skip else block
            for side, out in zip(sides, parts, strict=True):
                out += rows[:, part] @ side.rows(part)

    spread(work, range(len(runs)))
    return sums.sum(axis=0).reshape(*x.shape[:-1], ends[-1])


def dense_T(s: Array, w: Weights) -> Array:
    """Σ_j w_ij s_j: s (…, out), w (in, out) → (…, in)."""
    inputs = w.shape[0]
    rows, sides = s.reshape(-1, s.shape[-1]), _sides(w)
    ends = np.cumsum([side.shape[1] for side in sides])
    given = np.split(rows, ends[:-1], axis=-1)
    out = np.empty((len(rows), inputs), s.dtype)

    def work(block: slice) -> None:
        np.matmul(given[0], sides[0].rows(block).T, out=out[:, block])
        for s_part, side in zip(given[1:], sides[1:], strict=True):
            out[:, block] += s_part @ side.rows(block).T

    blocks = _blocks(inputs, ends[0])
    if isinstance(w, Given):  # no rows are derived that should stay in the cache
        blocks = _parts(inputs, min(RUNS, len(blocks)))
    spread(work, blocks)
    return out.reshape(*s.shape[:-1], inputs)


def _sides(w: Weights) -> tuple[Weights, ...]:
    """The weights that w is joined of, or w alone: a block of each is read while it is in the cache, and none is copied."""
    return w.sides if isinstance(w, Joined) else (w,)


FEW = 16  # samples (and targets) up to which reading the weights takes longer than multiplying
RUNS = 8


def _blocks(inputs: int, out: int) -> list[slice]:
    """The inputs of a dense layer, in blocks of about BLOCK weights."""
    step = max(1, BLOCK // out)
    return [slice(first, min(first + step, inputs)) for first in range(0, inputs, step)]


def whole(w: Weights) -> Array:
    """All of the weights as one array. Derived ones of a convolution are computed by all threads, tap by tap."""
    taps = list(np.ndindex(w.shape[:-2]))
    if not isinstance(w, (Derived, Joined)) or len(taps) < 2 or int(np.prod(w.shape)) < PART:
        return w.array()
    first = w.rows(taps[0])
    out = np.empty(w.shape, first.dtype)
    out[taps[0]] = first

    def work(tap: tuple[int, ...]) -> None:
        out[tap] = w.rows(tap)

    spread(work, taps[1:])
    return out


# ---- elementwise -----------------------------------------------------------------------------------------------------


def worth_tiling(*arrays: Array) -> bool:
    """Whether a formula over these arrays is large enough to be cut into pieces."""
    return max(a.size for a in arrays) >= PIECE // 2 and not busy()


def elementwise(f: Callable[..., Array], *arrays: Array) -> Array:
    """f(*arrays), for an f that works on each element by itself: in pieces that fit the cache."""
    return _in_pieces(f, *arrays) if worth_tiling(*arrays) else f(*arrays)


def total(f: Callable[..., Array], lead: int, *arrays: Array) -> Array:
    """Σ f(*arrays) over all axes but the first `lead`, in double precision."""
    return _sum_in_pieces(f, lead, *arrays) if worth_tiling(*arrays) else plain.total(f, lead, *arrays)


def _in_pieces(f: Callable[..., Array], *arrays: Array) -> Array:
    """Piece by piece, so that intermediate results stay in the cache. Axes lie in memory as those of the first whole array."""
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    like = next((a for a in arrays if a.shape == shape), arrays[0])
    out = np.empty_like(like, np.result_type(*arrays), shape=shape, subok=False)

    def work(cut: tuple[Any, ...]) -> None:
        out[cut] = f(*(_cut(a, cut) for a in arrays))

    spread(work, _cuts(shape, range(len(shape))))
    return out


def _sum_in_pieces(f: Callable[..., Array], lead: int, *arrays: Array) -> Array:
    """Piece by piece. The result is the same for any number of threads."""
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    cuts = _cuts(shape, range(lead, len(shape)))
    sums = np.empty((len(cuts), *shape[:lead]))

    def work(k: int) -> None:
        values = f(*(_cut(a, cuts[k]) for a in arrays))
        sums[k] = values.sum(axis=tuple(range(lead, len(shape))), dtype=np.float64)

    spread(work, range(len(cuts)))
    total: Array = sums.sum(axis=0)
    return total


def zero_unless(a: Array, where: Array) -> Array:
    """a where `where`, else 0. Done with bits and a mask: a branch at random costs more than the arithmetic around it."""
    bits = np.dtype(f"i{a.itemsize}")
    return (a.view(bits) & -(where.astype(bits))).view(a.dtype)


def quotient(a: Array, b: Array, nothing: Array) -> Array:
    """a / b, and 0 where b is `nothing` to divide by."""
    return zero_unless(a / (b + nothing), ~nothing) if nothing.any() else a / b


def signed(value: Number, x: Array) -> Array:
    """value · sign(x) for a value ≥ 0, with sign(0) = +1: the bits of value, with the sign bit of x."""
    bits = np.dtype(f"i{x.itemsize}")
    out = np.asarray(x + 0)  # −0 + 0 = +0
    np.bitwise_and(out.view(bits), np.iinfo(bits).min, out=out.view(bits))
    np.bitwise_or(out.view(bits), np.asarray(value, x.dtype).view(bits), out=out.view(bits))
    return out


def _cuts(shape: tuple[int, ...], axes: Iterable[int]) -> list[tuple[Any, ...]]:
    """Pieces of up to PIECE elements, four at least, along the outermost of `axes` that is long enough, or the longest."""
    axes, count = list(axes), max(4, -(-int(np.prod(shape)) // PIECE))
    axis = next((a for a in axes if shape[a] >= count), max(axes, key=lambda a: shape[a]))
    high = -(-shape[axis] // count)
    behind = (slice(None),) * (len(shape) - axis - 1)
    return [(..., slice(first, first + high), *behind) for first in range(0, shape[axis], high)]


def _cut(a: Array, cut: tuple[Any, ...]) -> Array:
    """That piece of `a`, which may be broadcast along the axis of the cut."""
    axis = len(cut) - 1
    return a[cut] if a.ndim >= axis and a.shape[-axis] > 1 else a

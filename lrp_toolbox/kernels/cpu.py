"""Convolution and elementwise formulas for NumPy floats: tiles of about the cache's size, spread over threads.

A convolution is a matrix product once every window is written out as a row (im2col). Whole layers written out would go
through memory; a tile of rows stays in the cache until BLAS has read it. The transposed convolution goes the other way:
one product gives what each window hands to each of its places, and these are added up while they are in the cache.

`np.matmul` and ufuncs release the GIL, so that a thread works on each tile, with one BLAS thread to itself. The number of
threads is LRP_NUM_THREADS, or as many as this process may use.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.lib.stride_tricks import as_strided
from threadpoolctl import ThreadpoolController

Array = Any  # numpy.ndarray, wherever it stands here

TILE = 1 << 20  # bytes of a tile; at least as many as the weights have, since BLAS packs these anew for each tile
PIECE = 1 << 16  # elements of a piece of an elementwise formula
BLOCK = 1 << 18  # weights of a dense layer that are worked on at a time


class Windows(Protocol):
    """Where windows lie; `lrp_toolbox.modules.windows.Windows`."""

    @property
    def kernel(self) -> tuple[int, int]: ...
    @property
    def stride(self) -> tuple[int, int]: ...
    @property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int]]: ...
    @property
    def dilation(self) -> tuple[int, int]: ...
    def counts(self, size: tuple[int, int]) -> tuple[int, int]: ...


# ---- threads ---------------------------------------------------------------------------------------------------------


def threads() -> int:
    """How many threads work on a layer: LRP_NUM_THREADS, or as many as this process may use."""
    asked = os.environ.get("LRP_NUM_THREADS", "")
    if asked:
        if not asked.isdecimal() or int(asked) < 1:
            raise ValueError(f"LRP_NUM_THREADS: expected a number ≥ 1, got {asked!r}")
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _pool(n: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n, thread_name_prefix="lrp")


class _OneBlasThread:
    """While tiles are worked on, BLAS keeps to one thread for each; the last to leave gives it back the others."""

    def __init__(self) -> None:
        self.lock, self.inside = threading.Lock(), 0
        self.limit: Any = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            if self.inside == 0:
                self.limit = _blas().limit(limits=1)
            self.inside += 1
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if self.inside == 0:
                    self.limit.restore_original_limits()


_one_blas_thread = _OneBlasThread()


@cache
def _blas() -> Any:
    return ThreadpoolController().select(user_api="blas")


def spread(work: Callable[[Any], None], tasks: Iterable[Any]) -> None:
    """`work(task)` for every task, by all threads. A single task is done here, with all of BLAS' threads.

    What is spread from within a task is done by the thread that has it.
    """
    tasks, n = list(tasks), threads()
    if n == 1 or len(tasks) == 1 or _busy():
        for task in tasks:
            work(task)
        return
    with _one_blas_thread():
        for done in [_pool(n).submit(_task, work, task) for task in tasks]:
            done.result()


def _task(work: Callable[[Any], None], task: Any) -> None:
    _local.busy = True
    try:
        work(task)
    finally:
        _local.busy = False


def _busy() -> bool:
    """Whether this thread is at work on a task already."""
    return getattr(_local, "busy", False)


_local = threading.local()


def _scratch(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Memory that this thread uses again and again: fresh memory would be paged in anew each time."""
    size = int(np.prod(shape)) * dtype.itemsize
    held = _local.__dict__.get(name)
    if held is None or held.nbytes < size:
        held = _local.__dict__[name] = np.empty(size, np.uint8)
    return held[:size].view(dtype).reshape(shape)


# ---- convolution -----------------------------------------------------------------------------------------------------


def suits(*arrays: Any) -> bool:
    """Whether the fast paths are made for these arrays: NumPy's, of float32 or float64."""
    return all(isinstance(a, np.ndarray) and a.dtype in (np.float32, np.float64) for a in arrays)


def correlate(x: Array, w: Array, windows: Windows, groups: int) -> Array:
    """y_j = Σ_i x_i w_ij over the windows: x (…, h, w, in), w (kh, kw, in / groups, out) → (…, rows, columns, out)."""
    maps = x.reshape(-1, *x.shape[-3:])
    rows, columns = windows.counts(maps.shape[1:3])
    y = np.empty((len(maps), rows, columns, w.shape[3]), x.dtype)
    channels, outputs = w.shape[2], w.shape[3] // groups
    matrices = [np.ascontiguousarray(part).reshape(-1, outputs) for part in np.split(w, groups, axis=3)]

    def work(task: tuple[int, int, int]) -> None:
        n, first, last = task
        strip = _strip(maps[n], windows, first, last, columns)
        for g, matrix in enumerate(matrices):
            seen = _written_out(strip[..., g * channels : (g + 1) * channels], windows, last - first, columns)
            out = y[n, first:last, :, g * outputs : (g + 1) * outputs]
            if groups == 1:
                np.matmul(seen, matrix, out=out.reshape(-1, outputs))
            else:
                out[...] = (seen @ matrix).reshape(out.shape)

    spread(work, _tiles(len(maps), rows, columns * matrices[0].shape[0], matrices[0].size, x.itemsize, least=1))
    return y.reshape(*x.shape[:-3], *y.shape[1:])


def correlate_T(s: Array, w: Array, windows: Windows, size: tuple[int, int], groups: int) -> Array:
    """The transpose of `correlate`: Σ_j w_ij s_j on the map of `size`, for s (…, rows, columns, out)."""
    maps = s.reshape(-1, *s.shape[-3:])
    rows, columns = maps.shape[1:3]
    channels, outputs = w.shape[2], w.shape[3] // groups
    out = np.zeros((len(maps), *size, channels * groups), s.dtype)
    matrices = [np.ascontiguousarray(part).reshape(-1, outputs).T for part in np.split(w, groups, axis=3)]
    (kh, kw), (stride, step), (down, right) = windows.kernel, windows.stride, windows.dilation
    (top, _), (left, _) = windows.padding
    high = (kh - 1) * down + 1  # rows that a window spans
    wide = (columns - 1) * step + (kw - 1) * right + 1

    def work(task: tuple[int, int, int]) -> None:
        n, first, last = task
        count = last - first
        strip = _scratch("strip", ((count - 1) * stride + high, wide, channels * groups), s.dtype)
        strip[...] = 0
        for g, matrix in enumerate(matrices):
            given = _scratch("written out", (count * columns, matrix.shape[1]), s.dtype)
            np.matmul(maps[n, first:last, :, g * outputs : (g + 1) * outputs].reshape(-1, outputs), matrix, out=given)
            given = given.reshape(count, columns, kh, kw, channels)
            part = strip[..., g * channels : (g + 1) * channels]
            for i in range(kh):
                for j in range(kw):
                    part[_tap(i * down, count, stride), _tap(j * right, columns, step)] += given[:, :, i, j]
        above, before = max(0, top - first * stride), left
        at = first * stride - top + above
        inside = strip[above : above + max(0, size[0] - at), before : before + size[1]]
        out[n, at : at + inside.shape[0], : inside.shape[1]] += inside

    overlap = -(-high // stride)  # tiles that are this many rows high touch none but their neighbours
    tiles = _tiles(len(maps), rows, columns * kh * kw * channels, matrices[0].size, s.itemsize, least=overlap)
    for parity in (0, 1):  # neighbours write to the same rows: one after the other, and always in the same order
        spread(work, (task for k, task in enumerate(tiles) if k % 2 == parity))
    return out.reshape(*s.shape[:-3], *out.shape[1:])


def _tiles(maps: int, rows: int, row_size: int, weights: int, itemsize: int, least: int) -> list[tuple[int, int, int]]:
    """(map, first row, last row): tiles of about TILE bytes, as many for each map as there are threads, or a multiple.

    `row_size` counts the numbers that a row of windows is written out to.
    """
    n = threads()
    high = max(least, max(TILE, weights * itemsize) // (row_size * itemsize), 1)
    count = -(-rows // high)
    if maps == 1 and count > 1:
        count = -(-count // n) * n
    high = max(least, -(-rows // count))
    return [(m, first, min(first + high, rows)) for m in range(maps) for first in range(0, rows, high)]


def _tap(start: int, count: int, step: int) -> slice:
    return slice(start, start + (count - 1) * step + 1, step)


def _strip(x: Array, windows: Windows, first: int, last: int, columns: int) -> Array:
    """The rows of the map x (h, w, c) that windows first … last − 1 see, with their padding."""
    (top, _), (left, _) = windows.padding
    start = first * windows.stride[0] - top
    high = (last - first - 1) * windows.stride[0] + windows.dilation[0] * (windows.kernel[0] - 1) + 1
    wide = (columns - 1) * windows.stride[1] + windows.dilation[1] * (windows.kernel[1] - 1) + 1
    if left == 0 and wide <= x.shape[1] and start >= 0 and start + high <= x.shape[0]:
        return x[start : start + high, :wide]
    strip = _scratch("strip", (high, wide, x.shape[2]), x.dtype)
    a, b = max(start, 0), min(start + high, x.shape[0])
    seen = max(0, min(wide - left, x.shape[1]))
    strip[: max(0, a - start)] = 0
    strip[max(0, b - start) :] = 0
    if b > a:
        rows = strip[a - start : b - start]
        rows[:, :left] = 0
        rows[:, left + seen :] = 0
        rows[:, left : left + seen] = x[a:b, :seen]
    return strip


def _written_out(strip: Array, windows: Windows, rows: int, columns: int) -> Array:
    """Every window of the strip as a row: (rows · columns, kh · kw · c)."""
    (kh, kw), channels = windows.kernel, strip.shape[2]
    a, b, c = strip.strides
    (down, right), (stride, step) = windows.dilation, windows.stride
    shape = (rows, columns, kh, kw, channels)
    view = as_strided(strip, shape, (stride * a, step * b, down * a, right * b, c), writeable=False)
    if kh == kw == 1 and view.flags.c_contiguous:
        return view.reshape(rows * columns, channels)
    out = _scratch("written out", shape, strip.dtype)
    out[...] = view
    return out.reshape(rows * columns, kh * kw * channels)


# ---- dense layers ----------------------------------------------------------------------------------------------------


def dense(x: Array, w: Any, inputs: int) -> Array:
    """Σ_i x_i w_ij: x (…, in), w (in, out), which may be Lazy → (…, out).

    It takes as long as reading the weights, and so reads only the rows of inputs that are not 0.
    """
    rows = x.reshape(-1, inputs)
    out = w[:1].shape[1]
    used: Any = np.flatnonzero(rows.any(axis=0)) if len(rows) <= FEW else np.arange(inputs)
    skip = 4 * len(used) < 3 * inputs  # gathering rows costs something, too
    blocks = _blocks(len(used) if skip else inputs, out)
    runs = [blocks[k::RUNS] for k in range(min(RUNS, len(blocks)))]  # as many for any number of threads: the same sums
    sums = np.zeros((len(runs), len(rows), out), x.dtype)

    def work(k: int) -> None:
        for block in runs[k]:
            part = used[block] if skip else block
            sums[k] += rows[:, part] @ w[part]

    spread(work, range(len(runs)))
    return sums.sum(axis=0).reshape(*x.shape[:-1], out)


def dense_T(s: Array, w: Any, inputs: int) -> Array:
    """Σ_j w_ij s_j: s (…, out), w (in, out) → (…, in)."""
    rows = s.reshape(-1, s.shape[-1])
    out = np.empty((len(rows), inputs), s.dtype)

    def work(block: slice) -> None:
        np.matmul(rows, w[block].T, out=out[:, block])

    spread(work, _blocks(inputs, rows.shape[1]))
    return out.reshape(*s.shape[:-1], inputs)


FEW = 16  # samples (and targets) up to which a dense layer waits for memory rather than for arithmetic
RUNS = 8


def _blocks(inputs: int, out: int) -> list[slice]:
    """The inputs of a dense layer, in blocks of about BLOCK weights."""
    step = max(1, BLOCK // out)
    return [slice(first, min(first + step, inputs)) for first in range(0, inputs, step)]


def evaluated(w: Any) -> Array:
    """The whole of a Lazy array, by all threads; see `lrp_toolbox.backend.Lazy`."""
    first = w
    while not hasattr(first, "shape"):
        first = first.arrays[0]
    places = list(np.ndindex(first.shape[:-2]))
    if len(places) < 2 or not suits(first) or first.size < BLOCK:
        return w[...]
    part = w[places[0]]
    out = np.empty((*first.shape[:-2], *part.shape), part.dtype)
    out[places[0]] = part

    def work(place: tuple[int, ...]) -> None:
        out[place] = w[place]

    spread(work, places[1:])
    return out


# ---- elementwise -----------------------------------------------------------------------------------------------------


def pays(*arrays: Array) -> bool:
    """Whether an elementwise formula over these arrays is large enough to be worth cutting."""
    return max(a.size for a in arrays) >= 2 * PIECE and suits(*arrays) and not _busy()


def in_pieces(f: Callable[..., Array], *arrays: Array) -> Array:
    """f(*arrays) for an elementwise f, piece by piece, so that what f makes on its way stays in the cache."""
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    out = np.empty(shape, np.result_type(*arrays))

    def work(cut: tuple[Any, ...]) -> None:
        out[cut] = f(*(_cut(a, cut) for a in arrays))

    spread(work, _cuts(shape, range(len(shape))))
    return out


def sum_in_pieces(f: Callable[..., Array], lead: int, *arrays: Array) -> Array:
    """Σ f(*arrays) over all axes but the first `lead`, in double precision, piece by piece; the same for any threads."""
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    cuts = _cuts(shape, range(lead, len(shape)))
    sums = np.empty((len(cuts), *shape[:lead]))

    def work(k: int) -> None:
        values = f(*(_cut(a, cuts[k]) for a in arrays))
        sums[k] = values.sum(axis=tuple(range(lead, len(shape))), dtype=np.float64)

    spread(work, range(len(cuts)))
    total: Array = sums.sum(axis=0)
    return total


def only(a: Array, where: Array) -> Array:
    """a where `where`, else 0: bits and a mask, for a choice at random costs more than the arithmetic around it."""
    bits = np.dtype(f"i{a.itemsize}")
    return (a.view(bits) & -(where.astype(bits))).view(a.dtype)


def _cuts(shape: tuple[int, ...], axes: Iterable[int]) -> list[tuple[Any, ...]]:
    """Pieces of some PIECE elements along the outermost of `axes` that is long enough for that, or else the longest."""
    axes, size = list(axes), int(np.prod(shape))
    axis = next((a for a in axes if shape[a] * PIECE >= size), max(axes, key=lambda a: shape[a]))
    high = max(1, PIECE * shape[axis] // size)
    behind = (slice(None),) * (len(shape) - axis - 1)
    return [(..., slice(first, first + high), *behind) for first in range(0, shape[axis], high)]


def _cut(a: Array, cut: tuple[Any, ...]) -> Array:
    """That piece of `a`, which may be broadcast along the axis of the cut."""
    axis = len(cut) - 1
    return a[cut] if a.ndim >= axis and a.shape[-axis] > 1 else a

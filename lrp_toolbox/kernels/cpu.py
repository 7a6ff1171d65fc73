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
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.lib.stride_tricks import as_strided
from threadpoolctl import ThreadpoolController

Array = Any  # numpy.ndarray, wherever it stands here

TILE = 1 << 20  # bytes of a tile; at least as many as the weights have, since BLAS packs these anew for each tile
PIECE = 1 << 18  # most elements of a piece of an elementwise formula
WORTH = 1 << 22  # multiplications of a convolution from which on more than one thread pays
BLOCK = 1 << 18  # weights of a dense layer that are worked on at a time
PART = 1 << 16  # weights from which on more than one thread pays to work out parts of them


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
    """`work(task)` for every task, by all threads, this one among them: each takes the next as soon as it is free.

    A single task is done with all of BLAS' threads. What is spread from within a task is done by the thread that has it.
    """
    waiting, n = deque(tasks), threads()
    if n == 1 or len(waiting) == 1 or _busy():
        for task in waiting:
            work(task)
        return

    def take() -> None:
        _local.busy = True
        try:
            while waiting:
                try:
                    task = waiting.popleft()
                except IndexError:  # another thread was faster
                    return
                work(task)
        except BaseException:
            waiting.clear()
            raise
        finally:
            _local.busy = False

    with _one_blas_thread():
        others = [_pool(n - 1).submit(take) for _ in range(min(n, len(waiting)) - 1)]
        try:
            take()
        finally:
            begun = [other for other in others if not other.cancel()]  # the rest would find nothing to do
            wait(begun)
        for other in begun:
            other.result()


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

    def work(tile: Tile) -> None:
        out = y[tile].reshape(-1, y.shape[3])
        strip = _strip(maps[tile[0]], windows, tile[1], columns)
        for g, matrix in enumerate(matrices):
            view = _seen(strip[..., g * channels : (g + 1) * channels], windows, columns)
            seen = _scratch("written out", view.shape, x.dtype)
            seen[...] = view
            np.matmul(seen.reshape(len(out), -1), matrix, out=out[:, g * outputs : (g + 1) * outputs])

    spread(work, _tiles(len(maps), rows, columns, matrices[0], least=1))
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
    meeting = threading.Lock()  # neighbours add to the same rows: two summands at most, in whichever order

    def work(tile: Tile) -> None:
        s_tile, first = maps[tile], tile[1].start
        n, count = s_tile.shape[:2]
        strip = _scratch("strip", (n, (count - 1) * stride + high, wide, channels * groups), s.dtype)
        strip[...] = 0
        for g, matrix in enumerate(matrices):
            given = _scratch("written out", (n * count * columns, matrix.shape[1]), s.dtype)
            np.matmul(s_tile[..., g * outputs : (g + 1) * outputs].reshape(len(given), -1), matrix, out=given)
            given = given.reshape(n, count, columns, kh, kw, channels)
            part = strip[..., g * channels : (g + 1) * channels]
            for i in range(kh):
                for j in range(kw):
                    part[:, _tap(i * down, count, stride), _tap(j * right, columns, step)] += given[:, :, :, i, j]
        above = max(0, top - first * stride)
        start = first * stride - top + above
        inside = strip[:, above : above + max(0, size[0] - start), left : left + size[1]]
        with meeting:
            out[tile[0], start : start + inside.shape[1], : inside.shape[2]] += inside

    overlap = -(-high // stride)  # tiles that are this many rows high touch none but their neighbours
    spread(work, _tiles(len(maps), rows, columns, matrices[0].T, least=overlap))
    return out.reshape(*s.shape[:-3], *out.shape[1:])


Tile = tuple[slice, slice]  # maps, rows: some rows of one map, or all rows of some


def _tiles(maps: int, rows: int, columns: int, matrix: Array, least: int) -> list[Tile]:
    """Tiles of about TILE bytes, as many as there are threads, or a multiple.

    `matrix` has the weights, and as many rows as a window is written out to.
    """
    written_out = maps * rows * columns * len(matrix)
    count = -(-written_out * matrix.itemsize // max(TILE, matrix.nbytes))
    if count > 1 or written_out * matrix.shape[1] > WORTH:
        count = -(-count // threads()) * threads()
    if count <= maps:
        return [(part, slice(0, rows)) for part in _parts(maps, count)]
    parts = _parts(rows, min(-(-count // maps), max(1, rows // least)))
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
    strip = _scratch("strip", (len(maps), high, wide, maps.shape[3]), maps.dtype)
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


def _seen(strip: Array, windows: Windows, columns: int) -> Array:
    """What each window of the strips (n, h, w, c) sees: (n, rows, columns, kh, kw, c), a view."""
    (kh, kw), (down, right), (stride, step) = windows.kernel, windows.dilation, windows.stride
    n, a, b, c = strip.strides
    rows = (strip.shape[1] - down * (kh - 1) - 1) // stride + 1
    shape = (len(strip), rows, columns, kh, kw, strip.shape[3])
    return as_strided(strip, shape, (n, stride * a, step * b, down * a, right * b, c), writeable=False)


# ---- dense layers ----------------------------------------------------------------------------------------------------


def dense(x: Array, w: Any, inputs: int) -> Array:
    """Σ_i x_i w_ij: x (…, in), w (in, out), which may be Lazy → (…, out).

    It takes as long as reading the weights, and so reads only the rows of inputs that are not 0.
    """
    rows, sides = x.reshape(-1, inputs), _side_by_side(w)
    ends = np.cumsum([side[:1].shape[1] for side in sides])
    used: Any = np.flatnonzero(rows.any(axis=0)) if len(rows) <= FEW else np.arange(inputs)
    skip = 4 * len(used) < 3 * inputs  # gathering rows costs something, too
    blocks = _blocks(len(used) if skip else inputs, ends[0])
    runs = [blocks[k::RUNS] for k in range(min(RUNS, len(blocks)))]  # as many for any number of threads: the same sums
    sums = np.zeros((len(runs), len(rows), ends[-1]), x.dtype)

    def work(k: int) -> None:
        parts = np.split(sums[k], ends[:-1], axis=-1)
        for block in runs[k]:
            part = used[block] if skip else block
            for side, out in zip(sides, parts, strict=True):
                out += rows[:, part] @ side[part]

    spread(work, range(len(runs)))
    return sums.sum(axis=0).reshape(*x.shape[:-1], ends[-1])


def dense_T(s: Array, w: Any, inputs: int) -> Array:
    """Σ_j w_ij s_j: s (…, out), w (in, out) → (…, in)."""
    rows, sides = s.reshape(-1, s.shape[-1]), _side_by_side(w)
    ends = np.cumsum([side[:1].shape[1] for side in sides])
    given = np.split(rows, ends[:-1], axis=-1)
    out = np.empty((len(rows), inputs), s.dtype)

    def work(block: slice) -> None:
        np.matmul(given[0], sides[0][block].T, out=out[:, block])
        for s_part, side in zip(given[1:], sides[1:], strict=True):
            out[:, block] += s_part @ side[block].T

    blocks = _blocks(inputs, ends[0])
    if hasattr(w, "shape"):  # nothing is worked out that should stay in the cache
        blocks = _parts(inputs, min(RUNS, len(blocks)))
    spread(work, blocks)
    return out.reshape(*s.shape[:-1], inputs)


def _side_by_side(w: Any) -> tuple[Any, ...]:
    """The arrays that w is joined of, if it is: a block of each is read while it is in the cache, and nothing copied."""
    return w.arrays if getattr(w, "joins", False) else (w,)


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
    if len(places) < 2 or not suits(first) or first.size < PART:
        return w[...]
    row = w[(*places[0], slice(1))]
    out = np.empty((*first.shape[:-1], row.shape[-1]), row.dtype)

    def work(place: tuple[int, ...]) -> None:
        out[place] = w[place]

    spread(work, places)
    return out


# ---- elementwise -----------------------------------------------------------------------------------------------------


def pays(*arrays: Array) -> bool:
    """Whether an elementwise formula over these arrays is large enough to be worth cutting."""
    return max(a.size for a in arrays) >= PIECE // 2 and suits(*arrays) and not _busy()


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


def signed(value: float, x: Array) -> Array:
    """value · sign(x) for a value ≥ 0, with sign(0) = +1: its bits, and the first of x's."""
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

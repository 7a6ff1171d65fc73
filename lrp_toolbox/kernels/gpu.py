"""The kernels for CuPy's floats: few launches, and cuBLAS for products.

A convolution is a matrix product once every window is written out as a row (im2col). On a GPU one kernel does this for many
samples, because launches are expensive and memory is fast. The transposed convolution works the other way round: one
product gives what each window contributes to each of its places, and a kernel adds up for each place of the map what it
gets. It does so in a fixed order and without atomics: the sums are the same each time.

CuPy's `@` of more than two axes copies transposed weights, and goes through them again for each sample; products of matrices
do neither (read in CuPy 14's source). All products here are of matrices, or of one matrix a group.

TF32 keeps 10 of the 23 bits of a float32 and costs relevance about three digits. CuPy's products use it only with CUPY_TF32=1
in the environment before the first product: that is the switch, and it is off unless asked for. Products of groups never do.

Nothing here waits for the GPU. In an explanation three things do: whether x is finite (before it), "top" (between forward
and back), and whether x lies in the box of zᴮ (in the first layer, which comes last).

These kernels have not run on a card yet. The tests compile the kernels' source with NVRTC, and run the very
source on the CPU, with what drives it, against the plain path over random geometries. It has not run on a card, and no speed
is claimed. `benchmarks/gpu.sh` does both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np

from ..backend import Number
from ..weights import Weights
from . import plain
from .windows import Windows

Array = Any  # cupy.ndarray, wherever it stands here
Module = Any

SCRATCH = 1 << 28  # bytes that windows are written out to at a time, or as many as one sample needs
THREADS = (32, 8)  # of a block: along what lies side by side in memory, and along rows
SLICES = 16  # blocks that share a row of windows, or of the map

# A thread has a channel (and a tap of the window), which the grid covers along x, and goes through rows and columns in steps
# of the grid along y and z, whatever its size. REAL is float or double.
SOURCE = r"""
#define GEOMETRY \
    int count, int high, int wide, int groups, int channels, int kh, int kw, int rows, int columns, \
    int stride_y, int stride_x, int top, int left, int dilation_y, int dilation_x

/* maps (count, high, wide, groups * channels) -> seen (groups, count * rows * columns, kh * kw * channels) */
extern "C" __global__ void im2col(const REAL* maps, REAL* seen, GEOMETRY)
{
    const int size = kh * kw * channels;
    const int place = blockIdx.x * blockDim.x + threadIdx.x;
    if (place >= groups * size) return;
    const int g = place / size, k = place % size;
    const int i = k / channels / kw * dilation_y, j = k / channels % kw * dilation_x;
    const int channel = g * channels + k % channels;
    for (int line = blockIdx.y * blockDim.y + threadIdx.y; line < count * rows; line += gridDim.y * blockDim.y) {
        const int y = line % rows * stride_y - top + i;
        const long long row = ((long long)(line / rows) * high + y) * wide;
        const long long window = ((long long)g * count * rows + line) * columns;
        for (int column = blockIdx.z; column < columns; column += gridDim.z) {
            const int x = column * stride_x - left + j;
            const bool inside = y >= 0 && y < high && x >= 0 && x < wide;
            seen[(window + column) * size + k] = inside ? maps[(row + x) * groups * channels + channel] : (REAL)0;
        }
    }
}

/* the transpose: given (groups, count * rows * columns, kh * kw * channels) -> maps (count, high, wide, groups * channels) */
extern "C" __global__ void col2im(const REAL* given, REAL* maps, GEOMETRY)
{
    const int size = kh * kw * channels;
    const int channel = blockIdx.x * blockDim.x + threadIdx.x;
    if (channel >= groups * channels) return;
    const int g = channel / channels, c = channel % channels;
    for (int line = blockIdx.y * blockDim.y + threadIdx.y; line < count * high; line += gridDim.y * blockDim.y) {
        const int y = line % high + top;
        const long long first = ((long long)g * count + line / high) * rows;
        for (int x = blockIdx.z; x < wide; x += gridDim.z) {
            REAL sum = 0;
            for (int i = 0; i < kh; i++) {
                const int above = y - i * dilation_y;
                if (above < 0 || above % stride_y != 0 || above / stride_y >= rows) continue;
                const long long windows = (first + above / stride_y) * columns;
                for (int j = 0; j < kw; j++) {
                    const int before = x + left - j * dilation_x;
                    if (before < 0 || before % stride_x != 0 || before / stride_x >= columns) continue;
                    sum += given[(windows + before / stride_x) * size + (i * kw + j) * channels + c];
                }
            }
            maps[((long long)line * wide + x) * groups * channels + channel] = sum;
        }
    }
}
"""

ELEMENTWISE = {  # name: what goes in, what comes out, one element of it
    "zero_unless": ("T a, bool where", "T y", "y = where ? a : T(0)"),
    "quotient": ("T a, T b, bool nothing", "T y", "y = nothing ? T(0) : a / b"),
    "signed": ("T value, T x", "T y", "y = x >= T(0) ? value : -value"),
}


def _cupy() -> Module:
    """CuPy; code that has an array of it has imported it."""
    return sys.modules["cupy"]


@cache
def _kernel(xp: Module, name: str, itemsize: int) -> Any:
    return xp.RawKernel(SOURCE, name, options=("-DREAL=float" if itemsize == 4 else "-DREAL=double",))


@cache
def _elementwise(xp: Module, name: str) -> Any:
    return xp.ElementwiseKernel(*ELEMENTWISE[name], name=f"lrp_{name}")


# ---- convolution -----------------------------------------------------------------------------------------------------


def correlate(x: Array, w: Weights, windows: Windows, groups: int) -> Array:
    """y_j = Σ_i x_i w_ij over the windows: x (…, h, w, in), w (kh, kw, in / groups, out) → (…, rows, columns, out)."""
    if groups > 1 and w.shape[2] == 1:  # depthwise: no matrix product
        return plain.correlate(x, w, windows, groups)
    xp = _cupy()
    maps = xp.ascontiguousarray(x.reshape(-1, *x.shape[-3:]))
    y = xp.empty((len(maps), *windows.counts(maps.shape[1:3]), w.shape[3]), x.dtype)
    weights = _by_group(w.array(), groups)
    for some, seen in _chunks(y, weights.shape[1], windows, groups):
        if seen is None:
            seen = _split(maps[some], groups)
        else:
            _run("im2col", maps[some], seen, maps[some].shape, windows, groups)
        _product(seen, weights, _split(y[some], groups))
    return y.reshape(*x.shape[:-3], *y.shape[1:])


def correlate_T(s: Array, w: Weights, windows: Windows, size: tuple[int, int], groups: int) -> Array:
    """The transpose of `correlate`: Σ_j w_ij s_j on the map of `size`, for s (…, rows, columns, out)."""
    if groups > 1 and w.shape[2] == 1:
        return plain.correlate_T(s, w, windows, size, groups)
    xp = _cupy()
    maps = s.reshape(-1, *s.shape[-3:])
    out = xp.empty((len(maps), *size, w.shape[2] * groups), s.dtype)
    weights = _by_group(w.array(), groups).transpose(0, 2, 1)
    for some, given in _chunks(maps, weights.shape[2], windows, groups):
        if given is None:
            _product(_split(maps[some], groups), weights, _split(out[some], groups))
        else:
            _product(_split(maps[some], groups), weights, given)
            _run("col2im", given, out[some], out[some].shape, windows, groups)
    return out.reshape(*s.shape[:-3], *out.shape[1:])


def _chunks(y: Array, size: int, windows: Windows, groups: int) -> Iterator[tuple[slice, Array | None]]:
    """Samples to be worked on together, and scratch for their windows, (groups, windows of all of them, `size` of one).

    `y` (sample, rows, columns, …) says how many windows there are. The chunks share the scratch, so that CuPy's memory pool
    is asked once. Windows that are the places of the map themselves need none.
    """
    if (windows.kernel, windows.stride, windows.padding) == ((1, 1), (1, 1), ((0, 0), (0, 0))):
        yield slice(0, len(y)), None
        return
    count = y.shape[1] * y.shape[2]
    step = max(1, min(len(y), SCRATCH // (groups * count * size * y.dtype.itemsize)))
    scratch = _cupy().empty(groups * step * count * size, y.dtype)
    for first in range(0, len(y), step):
        last = min(first + step, len(y))
        used = scratch[: groups * (last - first) * count * size]
        yield slice(first, last), used.reshape(groups, (last - first) * count, size)


def _by_group(w: Array, groups: int) -> Array:
    """Weights (kh, kw, in / groups, out) as a matrix for each group: (groups, kh · kw · in / groups, out / groups)."""
    return w.reshape(-1, groups, w.shape[3] // groups).transpose(1, 0, 2)


def _split(maps: Array, groups: int) -> Array:
    """Maps (sample, h, w, channel) as a matrix for each group: (groups, sample · h · w, channel / groups). A view."""
    return maps.reshape(-1, groups, maps.shape[3] // groups).transpose(1, 0, 2)


def _product(a: Array, b: Array, out: Array) -> None:
    """out = a @ b, group by group. For one group without the axis: see above for what CuPy does to more than two."""
    if len(a) == 1:
        _cupy().dot(a[0], b[0], out=out[0])
    else:
        _cupy().matmul(a, b, out=out)


def _run(name: str, source: Array, out: Array, maps: tuple[int, ...], windows: Windows, groups: int) -> None:
    """Launch im2col or col2im, for `maps` of that shape (sample, height, width, channel)."""
    count, high, wide, channels = maps
    (kh, kw), (rows, columns) = windows.kernel, windows.counts((high, wide))
    (top, _), (left, _) = windows.padding
    geometry = (count, high, wide, groups, channels // groups, kh, kw, rows, columns, *windows.stride, top, left)
    grid = {
        "im2col": (channels * kh * kw, count * rows, columns),
        "col2im": (channels, count * high, wide),
    }[name]
    blocks = (-(-grid[0] // THREADS[0]), min(-(-grid[1] // THREADS[1]), 65535), min(grid[2], SLICES))
    arguments = (source, out, *map(np.int32, (*geometry, *windows.dilation)))
    _kernel(_cupy(), name, source.dtype.itemsize)(blocks, (*THREADS, 1), arguments)


# ---- dense layers ----------------------------------------------------------------------------------------------------


def dense(x: Array, w: Weights) -> Array:
    """Σ_i x_i w_ij: x (…, in), w (in, out) → (…, out)."""
    return _cupy().dot(x.reshape(-1, w.shape[0]), w.array()).reshape(*x.shape[:-1], w.shape[1])


def dense_T(s: Array, w: Weights) -> Array:
    """Σ_j w_ij s_j: s (…, out), w (in, out) → (…, in)."""
    return _cupy().dot(s.reshape(-1, w.shape[1]), w.array().T).reshape(*s.shape[:-1], w.shape[0])


# ---- elementwise -----------------------------------------------------------------------------------------------------


def elementwise(f: Callable[..., Array], *arrays: Array) -> Array:
    """f(*arrays), for an f that works on each element by itself."""
    return f(*arrays)


def total(f: Callable[..., Array], lead: int, *arrays: Array) -> Array:
    """Σ f(*arrays) over all axes but the first `lead`, in double precision."""
    return plain.total(f, lead, *arrays)


def zero_unless(a: Array, where: Array) -> Array:
    """a where `where`, else 0."""
    return _elementwise(_cupy(), "zero_unless")(a, where)


def quotient(a: Array, b: Array, nothing: Array) -> Array:
    """a / b, and 0 where b is `nothing` to divide by."""
    return _elementwise(_cupy(), "quotient")(a, b, nothing)


def signed(value: Number, x: Array) -> Array:
    """value · sign(x), with sign(0) = +1."""
    return _elementwise(_cupy(), "signed")(value, x)

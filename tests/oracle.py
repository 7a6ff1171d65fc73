"""The formulas a second time, on an explicit matrix of z_ij, and layers as explicit matrices: loops, nothing clever.

Everything here is plain Python on nested lists or NumPy object arrays, so that it is exact in Fractions and shares no code
with the toolbox. A layer is (W, M): W[i, j] the weight from input i to output j, M[i, j] whether they are connected.
"""

from __future__ import annotations

from fractions import Fraction
from itertools import product

import numpy as np

# ---- layers as matrices ----------------------------------------------------------------------------------------------


def window_count(n, kernel, stride, before, after, dilation=1, ceil_mode=False):
    room = n + before + after - dilation * (kernel - 1) - 1
    count = (-(-room // stride) if ceil_mode else room // stride) + 1
    if ceil_mode and (count - 1) * stride >= n + before:
        count -= 1
    return count


def taps(n, kernel, stride, before, dilation, k):
    """The places of a row that window k sees, with the tap each falls on; padding left out."""
    for tap in range(kernel):
        place = k * stride - before + tap * dilation
        if 0 <= place < n:
            yield tap, place


def pairs(size, kernel, stride, padding, dilation=None, ceil_mode=False):
    """Every (place, window, tap) of a map with any number of axes, as flat numbers, and how many windows lie along each."""
    axes = range(len(size))
    dilation = dilation or (1,) * len(size)
    counts = tuple(window_count(size[a], kernel[a], stride[a], *padding[a], dilation[a], ceil_mode) for a in axes)
    found = []
    for window, at in enumerate(product(*map(range, counts))):
        along = [list(taps(size[a], kernel[a], stride[a], padding[a][0], dilation[a], at[a])) for a in axes]
        for seen in product(*along):
            place = 0
            for n, (_, k) in zip(size, seen, strict=True):
                place = place * n + k
            found.append((place, window, tuple(tap for tap, _ in seen)))
    return found, counts


def linear(w):
    return w, np.ones(w.shape, bool)


def conv(w, shape, stride, padding, dilation, groups):
    """w (*kernel, in / groups, out) on a map (*size, in)."""
    *size, n_in = shape
    n_out, per_in, per_out = w.shape[-1], n_in // groups, w.shape[-1] // groups
    found, counts = pairs(size, w.shape[:-2], stride, padding, dilation)
    W = np.full((np.prod(size) * n_in, np.prod(counts) * n_out), 0 * w.flat[0], dtype=w.dtype)
    M = np.zeros(W.shape, bool)
    for place, window, tap in found:
        for g in range(groups):
            for a, o in product(range(per_in), range(per_out)):
                i = place * n_in + g * per_in + a
                j = window * n_out + g * per_out + o
                W[i, j] += w[(*tap, a, g * per_out + o)]
                M[i, j] = True
    return W, M


def conv_transpose(w, shape, stride, padding, extra, dilation, groups):
    """w (kh, kw, in, out / groups) on a map (h, w, in): each place is spread over a window of the output."""
    *size, n_in = shape
    per_in, per_out = n_in // groups, w.shape[3]
    full = [(n - 1) * s + d * (k - 1) + 1 + e for n, s, d, k, e in zip(size, stride, dilation, w.shape[:2], extra, strict=True)]
    rows, columns = (n - before - after for n, (before, after) in zip(full, padding, strict=True))
    W = np.full((np.prod(size) * n_in, rows * columns * per_out * groups), 0 * w.flat[0], dtype=w.dtype)
    M = np.zeros(W.shape, bool)
    for r, c, ti, tj in product(range(size[0]), range(size[1]), range(w.shape[0]), range(w.shape[1])):
        i, j = r * stride[0] + ti * dilation[0] - padding[0][0], c * stride[1] + tj * dilation[1] - padding[1][0]
        if 0 <= i < rows and 0 <= j < columns:
            for g, a, o in product(range(groups), range(per_in), range(per_out)):
                here = (r * size[1] + c) * n_in + g * per_in + a
                there = (i * columns + j) * groups * per_out + g * per_out + o
                W[here, there] += w[ti, tj, g * per_in + a, o]
                M[here, there] = True
    return W, M


def sum_pool(shape, kernel, stride, padding, ceil_mode, one):
    *size, c = shape
    found, counts = pairs(size, kernel, stride, padding, ceil_mode=ceil_mode)
    W = np.full((np.prod(size) * c, np.prod(counts) * c), 0 * one, dtype=np.asarray(one).dtype)
    for place, window, _ in found:
        for k in range(c):
            W[place * c + k, window * c + k] = one
    return W, W != 0


def avg_pool(shape, kernel, stride, padding, ceil_mode, include_pad, one):
    *size, c = shape
    W, M = sum_pool(shape, kernel, stride, padding, ceil_mode, one)
    counts = pairs(size, kernel, stride, padding, ceil_mode=ceil_mode)[1]
    for window, at in enumerate(product(*map(range, counts))):
        for k in range(c):
            j = window * c + k
            n = int(M[:, j].sum())
            if include_pad:  # the window, cut at the edge of the padding
                n = 1
                for place, size_k, step, length, (before, after) in zip(at, kernel, stride, size, padding, strict=True):
                    n *= min(place * step + size_k, length + before + after) - place * step
            W[:, j] = [v / n for v in W[:, j]]
    return W, M


def along_axes(matrices, channels):
    """One matrix (n_in, n_out) for each axis of a map, whose channels do not mix, as one."""
    W = matrices[0]
    for matrix in [*matrices[1:], np.eye(channels, dtype=int)]:
        W = np.kron(W, matrix)
    return W


def adaptive_pool(shape, counts, one):
    """Means over windows from ⌊k n / m⌋ to ⌈(k + 1) n / m⌉."""
    matrices = []
    for n, m in zip(shape, counts, strict=False):
        matrix = np.full((n, m), 0 * one, dtype=object)
        for k in range(m):
            seen = [i for i in range(n) if i + 1 > k * n / m and i < (k + 1) * n / m]
            for i in seen:
                matrix[i, k] = one / len(seen)
        matrices.append(matrix)
    W = along_axes(matrices, shape[-1])
    return W, W != 0


def resize(shape, sizes, scales, mode, coordinates, rounding, one):
    matrices = []
    for n, m, scale in zip(shape, sizes, scales, strict=False):
        matrix = np.full((n, m), 0 * one, dtype=object)
        for k in range(m):
            at = {
                "half_pixel": lambda k, s: (k + one / 2) / s - one / 2,
                "pytorch_half_pixel": lambda k, s, m=m: (k + one / 2) / s - one / 2 if m > 1 else 0 * one,
                "asymmetric": lambda k, s: k / s,
                "align_corners": lambda k, s, n=n, m=m: k * one * (n - 1) / (m - 1) if m > 1 else 0 * one,
            }[coordinates](k, scale)
            for i in range(n):
                if mode == "bilinear":  # a tent of width 1 around what is looked at
                    matrix[i, k] = max(0 * one, 1 - abs(min(max(at, 0), n - 1) - i))
                else:
                    near = {
                        "floor": lambda at: at // 1,
                        "ceil": lambda at: -(-at // 1),
                        "round_prefer_floor": lambda at: -((one / 2 - at) // 1),
                        "round_prefer_ceil": lambda at: (at + one / 2) // 1,
                    }[rounding](at)
                    matrix[i, k] = one if i == min(max(near, 0), n - 1) else 0 * one
        matrices.append(matrix)
    W = along_axes(matrices, shape[-1])
    return W, W != 0


def reduce(shape, axes, factor):
    """Σ over axes of a shape, times a factor."""
    kept = [a for a in range(len(shape)) if a - len(shape) not in axes]
    counts = tuple(shape[a] for a in kept)
    W = np.full((np.prod(shape), np.prod(counts, dtype=int)), 0 * factor, dtype=object)
    for i, at in enumerate(np.ndindex(tuple(shape))):
        j = 0
        for a in kept:
            j = j * shape[a] + at[a]
        W[i, j] = factor
    return W, W != 0


def max_pool_winners(x, kernel, stride, padding, ceil_mode, ties):
    """The maxima (*windows, c), and for every window and channel the places that win, with what each gets of 1."""
    *size, c = x.shape
    found, counts = pairs(size, kernel, stride, padding, ceil_mode=ceil_mode)
    flat = x.reshape(-1, c)
    y = np.empty((np.prod(counts), c), dtype=x.dtype)
    shares = []
    for window, k in product(range(len(y)), range(c)):
        places = [place for place, win, _ in found if win == window]
        best = max(flat[place, k] for place in places)
        winners = [place for place in places if flat[place, k] == best]
        y[window, k] = best
        for place in winners[:1] if ties == "first" else winners:
            shares.append((place, window, k, 1 if ties == "first" else len(winners)))
    return y.reshape(*counts, c), shares


def diagonal(w, shape):
    """Each output has one input; w broadcasts against x, None is 1."""
    factor = (np.full(shape, Fraction(1), dtype=object) * (1 if w is None else w)).reshape(-1)
    W = np.array([[factor[i] if i == j else Fraction(0) for j in range(factor.size)] for i in range(factor.size)], dtype=object)
    return W, np.eye(factor.size, dtype=bool)


def resized(layer, shape):
    """The sizes and scales of a Resize, from what it was given: sizes or scales."""
    if layer.size is not None:
        return layer.size, [Fraction(m, n) for m, n in zip(layer.size, shape, strict=False)]
    scales = [Fraction(s) for s in layer.scale]
    return [n * s // 1 for n, s in zip(shape, scales, strict=False)], scales


ONE = Fraction(1)
MATRICES = {  # by the name of the layer's class: (W, M) of a layer whose x has a shape
    "Linear": lambda layer, shape: linear(layer.w),
    **dict.fromkeys(
        ("Conv", "Conv1D", "Conv3D"),
        lambda layer, shape: conv(layer.w, shape, layer.stride, layer.padding, layer.dilation, layer.groups),
    ),
    "ConvTranspose": lambda layer, shape: conv_transpose(
        layer.w, shape, layer.stride, layer.padding, layer.output_padding, layer.dilation, layer.groups
    ),
    **dict.fromkeys(
        ("SumPool", "MaxPool", "MaxPool1D", "MaxPool3D"),
        lambda layer, shape: sum_pool(shape, layer.kernel, layer.stride, layer.padding, layer.ceil_mode, ONE),
    ),
    **dict.fromkeys(
        ("AvgPool", "AvgPool1D", "AvgPool3D"),
        lambda layer, shape: avg_pool(
            shape, layer.kernel, layer.stride, layer.padding, layer.ceil_mode, layer.count_include_pad, ONE
        ),
    ),
    "AdaptiveAvgPool": lambda layer, shape: adaptive_pool(shape, layer.size, ONE),
    "Resize": lambda layer, shape: resize(shape, *resized(layer, shape), layer.mode, layer.coordinates, layer.rounding, ONE),
    "ReduceSum": lambda layer, shape: reduce(shape, layer.over, ONE),
    "Mean": lambda layer, shape: reduce(shape, layer.over, ONE / int(np.prod([shape[a] for a in layer.over]))),
    **dict.fromkeys(("Scale", "Affine"), lambda layer, shape: diagonal(layer.w, shape)),
}


def matrix(layer, shape):
    """(W, M) of a layer of the toolbox, of which its parameters are read and nothing else."""
    return MATRICES[type(layer).__name__](layer, tuple(shape))


def bias(layer, shape):
    """The bias of each output, or None."""
    b = getattr(layer, "b", None)  # a maximum has none
    if b is None:
        return None
    if type(layer).__name__ == "Affine":
        return (np.full(shape, 0 * ONE, dtype=object) + b).reshape(-1)
    return np.tile(b, matrix(layer, shape)[0].shape[1] // len(b))


# ---- rules on matrices -----------------------------------------------------------------------------------------------


def pos(v):
    return v if v > 0 else 0 * v


def neg(v):
    return v if v < 0 else 0 * v


def _share(z_ij, b, connected, R, eps=0, bias="absorb"):
    """Equation 1 with a stabiliser and a bias for one output j; what is lost is (bias, eps, zero denominator, padding)."""
    b = 0 * R if bias == "ignore" else b
    z = sum(z_ij, 0 * R) + b
    d = z + eps if z >= 0 else z - eps
    if d == 0:
        return [0 * R for _ in z_ij], _nowhere(R, connected)
    R_i = [z_i / d * R for z_i in z_ij]
    taken, lost = b / d * R, 0 * R
    if bias == "distribute" and any(connected):
        R_i = [r + (taken / sum(connected) if m else 0 * R) for r, m in zip(R_i, connected, strict=True)]
        taken = 0 * R
    elif bias == "distribute":  # no input to distribute it to
        taken, lost = 0 * R, taken
    return R_i, (taken, (eps if z >= 0 else -eps) / d * R, 0 * R, lost)


def _nowhere(R, connected):
    """What is lost where nothing can be divided: to a zero denominator, or to padding if j has no input at all."""
    return (0 * R, 0 * R, R, 0 * R) if any(connected) else (0 * R, 0 * R, 0 * R, R)


def relprop(rule, x, W, M, b, R, *, eps=0, alpha=2, gamma=0, low=None, high=None, bias="absorb", renormalize=False):
    """R of the inputs (n_in) and the losses per output, for x (n_in), W (n_in, n_out), b (n_out) or None, R (n_out)."""
    n_in, n_out = W.shape
    R_in = [0 * R[0] for _ in range(n_in)]
    losses = []
    for j in range(n_out):
        w, m, b_j = W[:, j], M[:, j], 0 * R[0] if b is None else b[j]
        z_ij = [x[i] * w[i] for i in range(n_in)]
        if rule in ("z", "epsilon"):
            parts = [(z_ij, b_j, R[j])]
        elif rule in ("alphabeta", "zplus"):
            a = 1 if rule == "zplus" else alpha
            z_pos, z_neg = [pos(z) for z in z_ij], [neg(z) for z in z_ij]
            R_pos, R_neg = a * R[j], (1 - a) * R[j]
            if renormalize:
                kept = 0 if bias == "ignore" else b_j
                no_pos, no_neg = sum(z_pos) + pos(kept) == 0, sum(z_neg) + neg(kept) == 0
                if no_neg:
                    R_pos, R_neg = R[j], 0 * R[j]
                elif no_pos:
                    R_pos, R_neg = 0 * R[j], R[j]
            parts = [(z_pos, pos(b_j), R_pos), (z_neg, neg(b_j), R_neg)]
        elif rule == "gamma":
            z = sum(z_ij) + (0 if bias == "ignore" else b_j)
            part = pos if z > 0 else neg
            parts = [([v + gamma * part(v) for v in z_ij], b_j + gamma * part(b_j), R[j])] if z != 0 else []
            if not parts:
                losses.append(_nowhere(R[j], m))
        elif rule == "flat":
            parts = [([(1 if m[i] else 0) + 0 * R[j] for i in range(n_in)], 0 * R[j], R[j])]
        elif rule == "wsquare":
            parts = [([w[i] * w[i] for i in range(n_in)], 0 * R[j], R[j])]
        elif rule == "zbox":
            parts = [([z_ij[i] - low[i] * pos(w[i]) - high[i] * neg(w[i]) for i in range(n_in)], 0 * R[j], R[j])]
        for z_part, b_part, R_part in parts:
            given, lost = _share(z_part, b_part, m, R_part, eps, bias)
            R_in = [r + g for r, g in zip(R_in, given, strict=True)]
            losses.append(lost)
    return np.array(R_in, dtype=W.dtype), losses


def forward(x, W, b):
    y = [sum(x[i] * W[i, j] for i in range(len(x))) + (0 if b is None else b[j]) for j in range(W.shape[1])]
    return np.array(y, dtype=W.dtype)

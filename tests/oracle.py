"""The formulas a second time, on an explicit matrix of z_ij, and layers as explicit matrices: loops, nothing clever.

Everything here is plain Python on nested lists or NumPy object arrays, so that it is exact in Fractions and shares no code
with the toolbox. A layer is (W, M): W[i, j] the weight from input i to output j, M[i, j] whether they are connected.
"""

from __future__ import annotations

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


def pairs(h, w, kernel, stride, padding, dilation=(1, 1), ceil_mode=False):
    """Every (place, window, tap) of a map, as flat numbers, and (rows, columns) of windows."""
    (top, bottom), (left, right) = padding
    rows = window_count(h, kernel[0], stride[0], top, bottom, dilation[0], ceil_mode)
    columns = window_count(w, kernel[1], stride[1], left, right, dilation[1], ceil_mode)
    found = []
    for r, c in product(range(rows), range(columns)):
        for ti, i in taps(h, kernel[0], stride[0], top, dilation[0], r):
            for tj, j in taps(w, kernel[1], stride[1], left, dilation[1], c):
                found.append((i * w + j, r * columns + c, (ti, tj)))
    return found, (rows, columns)


def linear(w):
    return w, np.ones(w.shape, bool)


def conv(w, shape, stride, padding, dilation, groups):
    """w (kh, kw, in / groups, out) on a map (h, w, in)."""
    h, wide, n_in = shape
    n_out, per_in, per_out = w.shape[3], n_in // groups, w.shape[3] // groups
    found, (rows, columns) = pairs(h, wide, w.shape[:2], stride, padding, dilation)
    W = np.full((h * wide * n_in, rows * columns * n_out), 0 * w.flat[0], dtype=w.dtype)
    M = np.zeros(W.shape, bool)
    for place, window, (ti, tj) in found:
        for g in range(groups):
            for a, o in product(range(per_in), range(per_out)):
                i = place * n_in + g * per_in + a
                j = window * n_out + g * per_out + o
                W[i, j] += w[ti, tj, a, g * per_out + o]
                M[i, j] = True
    return W, M


def sum_pool(shape, kernel, stride, padding, ceil_mode, one):
    h, w, c = shape
    found, (rows, columns) = pairs(h, w, kernel, stride, padding, ceil_mode=ceil_mode)
    W = np.full((h * w * c, rows * columns * c), 0 * one, dtype=np.asarray(one).dtype)
    for place, window, _ in found:
        for k in range(c):
            W[place * c + k, window * c + k] = one
    return W, W != 0


def avg_pool(shape, kernel, stride, padding, ceil_mode, include_pad, one):
    h, w, c = shape
    W, M = sum_pool(shape, kernel, stride, padding, ceil_mode, one)
    (top, bottom), (left, right) = padding
    rows = window_count(h, kernel[0], stride[0], top, bottom, 1, ceil_mode)
    columns = window_count(w, kernel[1], stride[1], left, right, 1, ceil_mode)
    for r, col, k in product(range(rows), range(columns), range(c)):
        j = (r * columns + col) * c + k
        if include_pad:  # the window, cut at the edge of the padding
            high = min(r * stride[0] + kernel[0], h + top + bottom) - r * stride[0]
            wide = min(col * stride[1] + kernel[1], w + left + right) - col * stride[1]
            n = high * wide
        else:
            n = int(M[:, j].sum())
        W[:, j] = [v / n for v in W[:, j]]
    return W, M


def max_pool_winners(x, kernel, stride, padding, ceil_mode, ties):
    """The maxima (rows · columns, c), and for every window and channel the places that win, with what each gets of 1."""
    h, w, c = x.shape
    found, (rows, columns) = pairs(h, w, kernel, stride, padding, ceil_mode=ceil_mode)
    flat = x.reshape(h * w, c)
    y = np.empty((rows * columns, c), dtype=x.dtype)
    shares = []
    for window, k in product(range(rows * columns), range(c)):
        places = [place for place, win, _ in found if win == window]
        best = max(flat[place, k] for place in places)
        winners = [place for place in places if flat[place, k] == best]
        y[window, k] = best
        for place in winners[:1] if ties == "first" else winners:
            shares.append((place, window, k, 1 if ties == "first" else len(winners)))
    return y.reshape(rows, columns, c), shares


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
        return [0 * R for _ in z_ij], ((0 * R, 0 * R, R, 0 * R) if any(connected) else (0 * R, 0 * R, 0 * R, R))
    R_i = [z_i / d * R for z_i in z_ij]
    taken, lost = b / d * R, 0 * R
    if bias == "distribute" and any(connected):
        R_i = [r + (taken / sum(connected) if m else 0 * R) for r, m in zip(R_i, connected, strict=True)]
        taken = 0 * R
    elif bias == "distribute":  # no input to distribute it to
        taken, lost = 0 * R, taken
    return R_i, (taken, (eps if z >= 0 else -eps) / d * R, 0 * R, lost)


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
                losses.append((0 * R[j], 0 * R[j], R[j], 0 * R[j]))
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

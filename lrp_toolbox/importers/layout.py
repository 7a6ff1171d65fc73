"""How other frameworks arrange numbers, and how it is done here.

Here a map is (height, width, channel), a kernel (height, width, in, out), dense weights (in, out), and `Flatten` counts the
channel fastest. Keras does the same. Caffe and PyTorch have the channel first: maps (channel, height, width), kernels
(out, in, height, width), dense weights (out, in), and the width is counted fastest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast, get_args

import numpy as np

from ..backend import Array
from ..data.photos import Order

Map = tuple[int, int, int]  # (channel, height, width)


def channel_order(given: str | None, usual: Order, depth: int, where: str, assumed: dict[str, Any]) -> Order:
    """The order of the channels of an input with so many: the given one, else L for one channel, else `usual`.

    The last is an assumption and is entered in `assumed`. Raises ValueError if the given one does not fit.
    """
    if given is None and depth == len(usual):
        assumed["channels"] = usual
    order = given or (usual if depth > 1 else "L")
    if order not in get_args(Order) or len(order) != depth:
        raise ValueError(f"channels: expected RGB, BGR or L, as many as the input of {where} has, {depth}, got {order!r}")
    return cast(Order, order)


def kernel(w: Array) -> Array:
    """(height, width, in, out) from (out, in, height, width)."""
    return np.ascontiguousarray(w.transpose(2, 3, 1, 0))


def flattened_rows(a: Array, maps: Sequence[Map]) -> Array:
    """`a` with its rows in our order.

    `a` has one row for each feature. The features are flattened maps, one map after the other: `maps` has the (channel,
    height, width) of each. In `a` each map is in the order (channel, height, width), in the result (height, width, channel).
    """
    ours, start = np.empty_like(a, order="C"), 0
    for c, h, w in maps:
        rows = slice(start, start + c * h * w)
        there, here = ours[rows].reshape(h, w, c, -1), a[rows].reshape(c, h, w, -1).transpose(1, 2, 0, 3)
        for k in range(0, here.shape[3], 64):  # 64 columns fit into the cache: four times as fast for 100 million weights
            there[..., k : k + 64] = here[..., k : k + 64]
        start += c * h * w
    return ours

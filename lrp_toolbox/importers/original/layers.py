"""A layer as the files of the original LRP Toolbox describe it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...backend import Array
from ...io import brief
from ..draft import MAX_NUMBERS

SIZES = {"Linear": 2, "Convolution": 6, "SumPool": 4, "MaxPool": 4, "Rect": 0, "Tanh": 0, "SoftMax": 0, "Flatten": 0}


@dataclass(frozen=True, eq=False)
class Layer:
    """`where` begins errors about it. `window` and `stride` are (height, width)."""

    kind: str
    where: str
    window: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    w: Array | None = None  # (in, out), or (height, width, in, out)
    b: Array | None = None


def require_sizes(kind: str, sizes: Sequence[Any]) -> tuple[int, ...]:
    """The numbers behind a layer's name. Raises ValueError if they are not as many as expected, < 1, or too large.

    Linear in out; Convolution height width in out stride stride; SumPool and MaxPool height width stride stride.
    """
    if kind not in SIZES:
        raise ValueError(f"expected one of the layers {', '.join(SIZES)}, found {brief(kind)}")
    if len(sizes) != SIZES[kind] or not all(isinstance(n, int) and 1 <= n <= MAX_NUMBERS for n in sizes):
        raise ValueError(f"{kind}: expected {SIZES[kind]} whole numbers from 1 to {MAX_NUMBERS:,}, found {brief(list(sizes))}")
    if kind in ("Linear", "Convolution") and math.prod(sizes[:4]) > MAX_NUMBERS:
        raise ValueError(f"{kind}: expected at most {MAX_NUMBERS:,} weights, found {math.prod(sizes[:4]):,}")
    return tuple(sizes)

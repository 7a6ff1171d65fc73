"""The weights of a network in the form of Deep Compression (Han et al. 2016), as SqueezeNet was published.

All numbers are little-endian. First, how many weights of each layer are stored, uint32 each; then, for each layer,

    float32 codebook[256]      the values there are; code 0 is the value 0
    float32 bias[out]
    uint8   code[stored]       which value
    uint8   gap[]              how many zeros come before it: 4 bits each, the first in the lower half of a byte
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..backend import Array
from ..io import ModelFormatError, read_at_most

CODES = 256


def read_compressed(file: str | PathLike[str], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Array]:
    """The weights of that file, float32, for convolutions whose "NAME.w" (kernel height, kernel width, in, out) and
    "NAME.b" have these shapes, in the order of the file.

    Raises ModelFormatError if the file is of another length than it says, if a weight lies outside of its layer, or if a
    value is not finite.
    """
    path = Path(file)
    data = read_at_most(path, 4096 * len(shapes) + 4 * sum(math.prod(shape) for shape in shapes.values()))
    names = [name.removesuffix(".w") for name in shapes if name.endswith(".w")]
    start = 0

    def take(dtype: str, count: int, what: str) -> np.ndarray[Any, Any]:
        nonlocal start
        size = count * np.dtype(dtype).itemsize
        if start + size > len(data):
            raise ModelFormatError(f"{path}: {what}: expected {size} bytes at byte {start}, found {len(data) - start}: cut off")
        array = np.frombuffer(data, dtype, count, start)
        start += size
        return array

    stored = take("<u4", len(names), "header")
    weights: dict[str, Array] = {}
    for name, n in zip(names, stored.tolist(), strict=True):
        kh, kw, n_in, n_out = shapes[f"{name}.w"]
        codebook = take("<f4", CODES, f"{name}: codebook").astype(np.float32)
        bias = take("<f4", n_out, f"{name}: bias").astype(np.float32)
        code = take("u1", n, f"{name}: codes")
        pairs = take("u1", (n + 1) // 2, f"{name}: gaps")
        gap = np.stack([pairs & 15, pairs >> 4], axis=1).reshape(-1)[:n]
        place = np.cumsum(gap.astype(np.int64) + 1) - 1
        if n and place[-1] >= kh * kw * n_in * n_out:
            raise ModelFormatError(f"{path}: {name}: expected {kh * kw * n_in * n_out} weights, found one at {place[-1]}")
        codebook[0] = 0
        w = np.zeros((n_out, n_in, kh, kw), np.float32)
        w.reshape(-1)[place] = codebook[code]
        if not (np.isfinite(w).all() and np.isfinite(bias).all()):
            raise ModelFormatError(f"{path}: {name}: expected finite numbers, found NaN or infinity")
        weights[f"{name}.w"] = np.ascontiguousarray(w.transpose(2, 3, 1, 0))
        weights[f"{name}.b"] = bias
    if start != len(data):
        raise ModelFormatError(f"{path}: expected {start} bytes, found {len(data)}")
    return weights

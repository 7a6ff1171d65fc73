"""Maps in another size: nearest neighbour and bilinear."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar, Literal

import numpy as np

from ..backend import Array, Number, asarray_like, is_exact, namespace
from ..kernels.windows import as_sizes
from ..weights import ONE
from .base import Shape
from .pooling import Adding

COORDINATES: dict[str, Callable[[int, Fraction, int, int], Fraction]] = {  # place k of m, scale, n: where on n places it lies
    "half_pixel": lambda k, scale, n, m: (k + Fraction(1, 2)) / scale - Fraction(1, 2),
    "pytorch_half_pixel": lambda k, scale, n, m: (k + Fraction(1, 2)) / scale - Fraction(1, 2) if m > 1 else Fraction(0),
    "asymmetric": lambda k, scale, n, m: k / scale,
    "align_corners": lambda k, scale, n, m: Fraction(k * (n - 1), m - 1) if m > 1 else Fraction(0),
}
ROUNDING: dict[str, Callable[[Fraction], int]] = {
    "round_prefer_floor": lambda at: math.ceil(at - Fraction(1, 2)),
    "round_prefer_ceil": lambda at: math.floor(at + Fraction(1, 2)),
    "floor": math.floor,
    "ceil": math.ceil,
}


@dataclass(frozen=True, eq=False)
class Resize(Adding):
    """A map in another size: (…, height, width, channel) → (…, rows, columns, channel).

    `size`: an int or (rows, columns); or else `scale`: a factor, or one for each axis, which gives ⌊n · scale⌋ of n places.
    `mode`: "nearest" copies the nearest place; "bilinear" weights the two nearest along each axis by their distance.
    `coordinates`: where place k of m lies among the n places of the map, with scale s (for `size`, s = m / n):

        "half_pixel"           (k + ½) / s − ½: centres on centres. OpenCV, Keras; PyTorch with align_corners=False
        "pytorch_half_pixel"   the same, but 0 where m = 1
        "asymmetric"           k / s: edges on edges; with rounding="floor" PyTorch's "nearest"
        "align_corners"        k (n − 1) / (m − 1): corners on corners

    What lies outside is moved to the edge. `rounding`, for "nearest": "round_prefer_floor" (½ goes down), "round_prefer_ceil",
    "floor" or "ceil". The words and the defaults are those of the operator Resize of ONNX; it has more modes, which need
    negative weights or look at the scale only.

    y is linear in x, with weights ≥ 0 that add up to 1. So relevance is shared in proportion to x_i w_ij, as in pooling: a
    copy gives all of its relevance back to the place that it is a copy of. Under ♭ the places with w_ij > 0 get equal parts.
    """

    size: int | Sequence[int] | None = None
    scale: float | Sequence[float] | None = None
    mode: Literal["nearest", "bilinear"] = "nearest"
    coordinates: Literal["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"] = "half_pixel"
    rounding: Literal["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"] = "round_prefer_floor"

    axes: ClassVar[int] = 3

    def __post_init__(self) -> None:
        if (self.size is None) == (self.scale is None):
            raise ValueError(f"size: expected a size or a scale, got size={self.size!r} and scale={self.scale!r}")
        if self.size is not None:
            object.__setattr__(self, "size", as_sizes("size", self.size, 1, 2))
        if self.scale is not None:
            scale = (self.scale,) * 2 if isinstance(self.scale, (int, float)) else tuple(self.scale)
            if len(scale) != 2 or not all(isinstance(s, (int, float)) and math.isfinite(s) and s > 0 for s in scale):
                raise ValueError(f"scale: expected a number > 0, or two for (height, width), got {self.scale!r}")
            object.__setattr__(self, "scale", scale)
        for name, known in (("mode", ("nearest", "bilinear")), ("coordinates", COORDINATES), ("rounding", ROUNDING)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) < 3:
            raise ValueError(f"x: Resize expects (…, height, width, channel), got shape {tuple(shape)}")
        if self.size is not None:
            return (*shape[:-3], *self.size, shape[-1])  # type: ignore[misc]
        sizes = [math.floor(n * s) for n, s in zip(shape[-3:-1], self.scale, strict=True)]  # type: ignore[arg-type]
        if min(sizes) < 1:
            raise ValueError(f"x: Resize by {self.scale} leaves nothing of a map of {tuple(shape[-3:-1])}")
        return (*shape[:-3], *sizes, shape[-1])

    def apply(self, x: Array, w: Any) -> Array:
        for axis, matrix in self._matrices(x.shape, w, x):
            x = _along(axis, matrix, x)
        return x

    def apply_T(self, s: Array, w: Any, shape: Shape) -> Array:
        for axis, matrix in self._matrices(shape, w, s):
            s = _along(axis, namespace(s).permute_dims(matrix, (1, 0)), s)
        return s

    def _matrices(self, shape: Shape, w: Any, x: Array) -> list[tuple[int, Array]]:
        """For both axes, the weights (place of y, place of x), or 1 where there is one, like x."""
        wanted, found = self.output_shape(shape), []
        for axis in (-3, -2):
            n, m = shape[axis], wanted[axis]
            scale = Fraction(m, n) if self.scale is None else Fraction(self.scale[axis + 3])  # type: ignore[index]
            matrix = np.full((m, n), Fraction(0))
            for k in range(m):
                for place, weight in self._weights(COORDINATES[self.coordinates](k, scale, n, m), n):
                    matrix[k, place] += weight
            if w is ONE:
                matrix[matrix > 0] = Fraction(1)
            if not is_exact(x):
                matrix = asarray_like(matrix.astype(np.float64), x)
                matrix = namespace(x).astype(matrix, x.dtype)
            found.append((axis, matrix))
        return found

    def _weights(self, at: Fraction, n: int) -> list[tuple[int, Number]]:
        """The places that are looked at, and their weights, for what lies `at` among n places."""
        if self.mode == "nearest":
            return [(min(max(ROUNDING[self.rounding](at), 0), n - 1), 1)]
        at = min(max(at, Fraction(0)), Fraction(n - 1))
        first = math.floor(at)
        return [(first, 1 - (at - first)), (min(first + 1, n - 1), at - first)]


def _along(axis: int, matrix: Array, x: Array) -> Array:
    """Σ_i matrix[k, i] x[…, i, …] along an axis of maps, the rows (−3) or the columns (−2)."""
    xp = namespace(x)
    behind = x.shape[x.ndim + axis + 1 :]
    y = matrix @ xp.reshape(x, (*x.shape[: x.ndim + axis + 1], math.prod(behind)))
    return xp.reshape(y, (*y.shape[:-1], *behind))

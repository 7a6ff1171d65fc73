"""Receptive fields: which part of the input each layer's outputs see, and how far apart they look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .composites import POOLING, LayerInfo, layers
from .kernels.windows import Windows, as_padding
from .modules import LRN, Conv, Flatten, Module, Pad
from .modules.base import Layer, Shape

Pair = tuple[int, int]  # (height, width)


@dataclass(frozen=True)
class Field:
    """What the outputs of a layer see of a map: the one in row 0 the rows `first` to `last`, the next one `stride` further.

    The same for columns. Rows below 0, or beyond the map, are padding.
    """

    first: Pair = (0, 0)
    last: Pair = (0, 0)
    stride: Pair = (1, 1)

    @property
    def size(self) -> Pair:
        """How many rows and columns one output sees, padding included."""
        return self.last[0] - self.first[0] + 1, self.last[1] - self.first[1] + 1

    def through(self, windows: Windows) -> Field:
        """What windows over these outputs see."""
        reach = [d * (k - 1) for k, d in zip(windows.kernel, windows.dilation, strict=True)]
        before = [pair[0] for pair in windows.padding]
        return Field(
            _pair(f - j * b for f, j, b in zip(self.first, self.stride, before, strict=True)),
            _pair(f + j * (r - b) for f, j, r, b in zip(self.last, self.stride, reach, before, strict=True)),
            _pair(j * s for j, s in zip(self.stride, windows.stride, strict=True)),
        )


def receptive_fields(net: Module, shape: Shape) -> list[tuple[LayerInfo, Field | None]]:
    """Every layer of `net`, for an x of `shape`, and what its outputs see; None means the whole input, as after a Flatten.

    A layer with several inputs sees what any of them sees. Raises ValueError, with the name of the layer, where x does not fit.
    """
    infos = iter(layers(net, shape))
    found: list[tuple[LayerInfo, Field | None]] = []

    def step(name: str, layer: Layer, field: Any) -> Field | None:
        info = next(infos)
        seen = _through(layer, info, _union(field) if layer.several_inputs else field)
        found.append((info, seen))
        return seen

    net.flow(Field() if len(shape) == 3 else None, step)
    return found


def _through(layer: Layer, info: LayerInfo, field: Field | None) -> Field | None:
    if field is None or isinstance(layer, Flatten):
        return None
    if isinstance(layer, Conv):
        return field.through(layer.windows)
    if isinstance(layer, POOLING):
        return field.through(layer.windows(info.shape))
    if isinstance(layer, Pad):
        return field.through(Windows((1, 1), padding=as_padding(layer.padding)))
    if isinstance(layer, LRN) and layer.region == "within":
        half = layer.size // 2
        return field.through(Windows((layer.size, layer.size), padding=((half, half), (half, half))))
    return field


def _union(fields: Sequence[Field | None]) -> Field | None:
    known = [field for field in fields if field is not None]
    if len(known) < len(fields):
        return None
    return Field(
        _pair(min(f.first[axis] for f in known) for axis in (0, 1)),
        _pair(max(f.last[axis] for f in known) for axis in (0, 1)),
        _pair(max(f.stride[axis] for f in known) for axis in (0, 1)),
    )


def _pair(values: Iterator[int]) -> Pair:
    rows, columns = values
    return rows, columns

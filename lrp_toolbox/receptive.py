"""Receptive fields: which part of the input each layer's outputs see, and how far apart they look."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from .composites import POOLING, LayerInfo, layers
from .kernels.windows import AdaptiveWindows, Windows, as_paddings
from .modules import (
    LRN,
    Conv,
    Conv1D,
    Conv3D,
    ConvTranspose,
    Flatten,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    Mean,
    Module,
    Pad,
    ReduceSum,
    Reshape,
    Resize,
    Slice,
    Transpose,
)
from .modules.base import Layer, Shape
from .modules.pad import COPYING

Sizes = tuple[int, ...]  # one number for each axis of places: (height, width)


@dataclass(frozen=True)
class Field:
    """What the outputs of a layer see of a map: the one in row 0 the rows `first` to `last`, the next one `stride` further.

    The same for columns, and for the places of a sequence or of a volume. Rows below 0, or beyond the map, are padding.
    """

    first: Sizes = (0, 0)
    last: Sizes = (0, 0)
    stride: Sizes = (1, 1)

    @property
    def size(self) -> Sizes:
        """How many rows and columns one output sees, padding included."""
        return tuple(last - first + 1 for first, last in zip(self.first, self.last, strict=True))

    def through(self, windows: Windows) -> Field:
        """What windows over these outputs see."""
        reach = [d * (k - 1) for k, d in zip(windows.kernel, windows.dilation, strict=True)]
        before = [pair[0] for pair in windows.padding]
        return Field(
            tuple(f - j * b for f, j, b in zip(self.first, self.stride, before, strict=True)),
            tuple(f + j * (r - b) for f, j, r, b in zip(self.last, self.stride, reach, before, strict=True)),
            tuple(j * s for j, s in zip(self.stride, windows.stride, strict=True)),
        )


def receptive_fields(net: Module, shape: Shape) -> list[tuple[LayerInfo, Field | None]]:
    """Every layer of `net`, for an x of `shape`, and what its outputs see; None means up to the whole input.

    It is None after a Flatten or a mean over all places, and wherever neighbouring outputs do not look at places that are one
    fixed stride apart: after a transposed convolution or a Resize, for example. A layer with several inputs sees what any of
    them sees. Raises ValueError, with the name of the layer, where x does not fit.
    """
    infos = iter(layers(net, shape))
    found: list[tuple[LayerInfo, Field | None]] = []

    def step(name: str, layer: Layer, field: Any) -> Field | None:
        info = next(infos)
        seen = _through(layer, info, _union(field) if layer.several_inputs else field)
        found.append((info, seen))
        return seen

    n = len(shape) - 1
    net.flow(Field((0,) * n, (0,) * n, (1,) * n) if n else None, step)
    return found


def _through(layer: Layer, info: LayerInfo, field: Field | None) -> Field | None:
    if field is None:
        return None
    n = len(field.stride)
    if isinstance(layer, (Conv, Conv1D, Conv3D)):
        return field.through(layer.windows)
    if isinstance(layer, POOLING):
        windows = _regular(layer.windows(info.shape), info.shape[-layer.axes : -1])
        return None if windows is None else field.through(windows)
    if isinstance(layer, Pad):
        # a copy has an input outside of the field
        windows = Windows((1,) * (layer.axes - 1), padding=as_paddings(layer.padding, layer.axes - 1))
        return None if layer.mode in COPYING else field.through(windows)
    if isinstance(layer, LRN) and layer.region == "within":
        half = layer.size // 2
        return field.through(Windows((layer.size, layer.size), padding=((half, half), (half, half))))
    if isinstance(layer, Slice) and layer.axis < -1:
        return _of_slice(layer, info.shape, field)
    if isinstance(layer, (Mean, ReduceSum, LayerNorm)):
        return field if layer.over == (-1,) and len(info.output_shape) == len(info.shape) else None
    if isinstance(layer, (GroupNorm, InstanceNorm)):
        return field if layer.axes == 1 else None
    if isinstance(layer, (ConvTranspose, Flatten, Reshape, Resize, Transpose)) or len(info.output_shape) != n + 1:
        return None
    return field


def _regular(windows: Windows | AdaptiveWindows, size: Shape) -> Windows | None:
    """The windows as ones of one size at regular distances; None if they are not."""
    if isinstance(windows, Windows):
        return windows
    if any(n % count for n, count in zip(size, windows.count, strict=True)):
        return None
    kernel = tuple(n // count for n, count in zip(size, windows.count, strict=True))
    return Windows(kernel, kernel)


def _of_slice(layer: Slice, shape: Shape, field: Field) -> Field | None:
    """What is left of the places along one axis."""
    axis, n = layer.axis + len(field.stride) + 1, len(field.stride)
    places = range(*slice(layer.start, layer.stop, layer.step).indices(shape[layer.axis]))
    if places.step < 1 or axis < 0:
        return None
    padding = tuple((-places.start if a == axis else 0, 0) for a in range(n))
    return field.through(Windows((1,) * n, tuple(places.step if a == axis else 1 for a in range(n)), padding))


def _union(fields: Sequence[Field | None]) -> Field | None:
    known = [field for field in fields if field is not None]
    if len(known) < len(fields) or len({len(field.stride) for field in known}) > 1:
        return None

    def of_all(choose: Any, columns: Iterable[Sizes]) -> Sizes:
        return tuple(choose(column) for column in zip(*columns, strict=True))

    return Field(
        of_all(min, (f.first for f in known)), of_all(max, (f.last for f in known)), of_all(max, (f.stride for f in known))
    )

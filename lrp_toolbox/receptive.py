"""Receptive fields: which part of the input each layer's outputs see, and how far apart they look."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from .composites import POOLING, Place, places
from .modules import LRN, Add, Conv, Flatten, Module, Pad, Sequential
from .modules.base import Shape
from .modules.container import Branches
from .modules.windows import Windows, as_padding

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


def receptive_fields(net: Module, shape: Shape) -> list[tuple[Place, Field | None]]:
    """Every layer of `net`, for an x of `shape`, and what its outputs see; None is all of it, as behind a Flatten.

    Of branches that join, what any of them sees. Raises ValueError, with the name of the layer, where x does not fit.
    """
    found: list[tuple[Place, Field | None]] = []
    _walk(net, Field() if len(shape) == 3 else None, iter(places(net, shape)), found)
    return found


def _walk(module: Module, field: Field | None, at: Iterator[Place], found: list[tuple[Place, Field | None]]) -> Field | None:
    if isinstance(module, Sequential):
        for child in module:
            field = _walk(child, field, at, found)
        return field
    if isinstance(module, Branches):
        field = _union([_walk(child, field, at, found) for child in module])
        if isinstance(module, Add):
            found.append((next(at), field))
        return field
    place = next(at)
    if isinstance(module, Flatten):
        field = None
    elif field is not None and isinstance(module, Conv):
        field = field.through(module.windows)
    elif field is not None and isinstance(module, POOLING):
        field = field.through(module.windows(place.shape))
    elif field is not None and isinstance(module, Pad):
        field = field.through(Windows((1, 1), padding=as_padding(module.padding)))
    elif field is not None and isinstance(module, LRN) and module.region == "within":
        half = module.size // 2
        field = field.through(Windows((module.size, module.size), padding=((half, half), (half, half))))
    found.append((place, field))
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

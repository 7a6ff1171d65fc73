"""Boxes around objects, and the pixels of a network's input that lie in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .annotations import Box, Size
from .photos import Photo, Preprocessing, read_photo

Boxes = np.ndarray[Any, np.dtype[np.float64]]  # (n, 4): x0, y0, x1, y1
Mask = np.ndarray[Any, np.dtype[np.bool_]]


@dataclass(frozen=True, eq=False)
class Item:
    """A photograph, the classes on it, and their boxes.

    size         (height, width) of the original photograph, in which the boxes are counted. The file at `photo` may hold
                 the whole of it at another size
    boxes        for each class, (n, 4) of x0, y0, x1, y1: edges in pixels from the upper left corner, 0, 0. A box covers
                 x0 ≤ x < x1 and y0 ≤ y < y1, and a pixel belongs to it if its centre does
    labels       the classes that are on the photograph, with or without boxes
    incomplete   classes of which boxes are missing: to be left out of measurements
    difficult    for each class, (n), which of its boxes are flagged as difficult; False where nothing is said
    """

    id: str
    photo: Path
    size: Size
    boxes: Mapping[str, Boxes]
    labels: tuple[str, ...]
    incomplete: frozenset[str] = frozenset()
    difficult: Mapping[str, np.ndarray[Any, np.dtype[np.bool_]]] = field(default_factory=dict)

    @property
    def measured(self) -> tuple[str, ...]:
        """The classes that measurements are to be made for: {class × image} of Sec. IV-A."""
        return tuple(kind for kind in self.boxes if kind not in self.incomplete)

    def read(self) -> Photo:
        """The photograph as its pixels are stored: boxes are counted in these, whatever EXIF says about turning them."""
        return read_photo(self.photo, upright=False)

    def mask(self, kind: str, preprocessing: Preprocessing) -> Mask:
        """Which pixels of `preprocessing(item.read())` lie in a box of that class (see `box_mask`)."""
        with Image.open(self.photo) as image:  # reads no more than the head of the file
            stored = image.size[::-1]
        return box_mask(self.boxes[kind], preprocessing, self.size, stored)


def box_mask(boxes: Boxes, preprocessing: Preprocessing, size: Size, stored: Size | None = None) -> Mask:
    """The pixels of a network's input whose centres lie in one of the boxes, (height, width).

    The boxes are cut, rescaled and moved as `preprocessing` does it with the photograph. A box that is cut off, or is smaller
    than a pixel, may have no pixel.

    boxes    (n, 4) of x0, y0, x1, y1 (see `Item`) on a photograph of `size`, (height, width)
    stored   the size of the photograph that `preprocessing` gets, if all of it was rescaled before
    """
    boxes = np.asarray(boxes)
    if boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"boxes: expected (n, 4) of x0, y0, x1, y1, got shape {boxes.shape}")
    inside = []
    stored = stored or size
    for axis, (seen, place) in enumerate(zip(preprocessing.window(*stored), preprocessing.place(*stored), strict=True)):
        n, before, now = place.stop - place.start, size[axis], stored[axis]
        i = np.arange(preprocessing.size[axis]) - place.start
        # The centre of pixel i is (start + (i + ½) length / n) · before / now; multiplied out, all of it is in integers.
        centres = (2 * i + 1) * (seen.stop - seen.start) * before + 2 * n * before * seen.start
        low, high = (2 * n * now * boxes[:, k, None] for k in (1 - axis, 3 - axis))
        inside.append((low <= centres) & (centres < high) & (i >= 0) & (i < n))
    rows, columns = inside
    mask: Mask = (rows[:, :, None] & columns[:, None, :]).any(axis=0)
    return mask


def by_class(objects: Iterable[tuple[str, Box, bool]]) -> tuple[dict[str, Boxes], dict[str, np.ndarray[Any, Any]]]:
    """Boxes and flags, (class, box, difficult) one by one, as `Item` has them; classes in the order of their names."""
    found: dict[str, list[tuple[Box, bool]]] = {}
    for kind, box, difficult in objects:
        found.setdefault(kind, []).append((box, difficult))
    boxes = {kind: np.array([box for box, _ in found[kind]], np.float64) for kind in sorted(found)}
    return boxes, {kind: np.array([difficult for _, difficult in found[kind]]) for kind in sorted(found)}

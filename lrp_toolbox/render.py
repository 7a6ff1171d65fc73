"""Relevance → colours: red speaks for the class, blue against it, and nothing is the colour in the middle.

Zero is always the middle of the map, so that a colour means the same sign in every picture. Nothing here writes into its
arguments. Arrays become pictures of uint8 (height, width, 3); figures with words on them go through matplotlib.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from .backend import Array, to_numpy
from .files import new_file

Picture = np.ndarray[Any, np.dtype[np.uint8]]  # (height, width, 3), RGB
MARGINS: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.06}


def _picture(values: np.ndarray[Any, Any]) -> Picture:
    picture: Picture = np.rint(values).astype(np.uint8)
    return picture


@dataclass(frozen=True)
class ColourMap:
    """Colours for −1 … 1 by linear interpolation between equally spaced stops, from all against to all for."""

    name: str
    stops: tuple[tuple[int, int, int], ...]

    def __call__(self, v: np.ndarray[Any, Any]) -> Picture:
        """(height, width) in [−1, 1] → (height, width, 3)."""
        at = np.linspace(-1, 1, len(self.stops))
        channels = [np.interp(v, at, [stop[c] for stop in self.stops]) for c in range(3)]
        return _picture(np.stack(channels, axis=-1))


DAY = ColourMap(
    "day", ((9, 27, 84), (25, 84, 176), (134, 182, 228), (255, 255, 255), (246, 160, 128), (208, 46, 38), (94, 6, 20))
)
NIGHT = ColourMap(
    "night", ((172, 240, 255), (20, 136, 240), (12, 40, 120), (0, 0, 0), (128, 22, 14), (242, 92, 14), (255, 232, 140))
)
COLOUR_MAPS = {m.name: m for m in (DAY, NIGHT)}


def normalize(R: Array, quantile: float = 1.0) -> np.ndarray[Any, Any]:
    """R (height, width) or (height, width, channel), summed over channels, in [−1, 1]: divided by the largest |R|.

    `quantile` < 1 divides by that quantile of |R| instead, and clips what lies beyond: single pixels do not hide the rest.
    """
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile: expected a number in (0, 1], got {quantile!r}")
    v = to_numpy(R).astype(np.float64)
    if v.ndim == 3:
        v = v.sum(axis=-1)
    if v.ndim != 2 or v.size == 0:
        raise ValueError(f"R: expected (height, width) or (height, width, channel), got shape {tuple(np.shape(R))}")
    if not np.isfinite(v).all():
        raise ValueError("R: expected finite relevance, got NaN or infinity")
    size = np.abs(v)
    top = np.quantile(size, quantile) or size.max()
    return np.clip(v / top, -1, 1) if top > 0 else np.zeros_like(v)


def heatmap(R: Array, *, colours: ColourMap = DAY, quantile: float = 1.0) -> Picture:
    """The relevance of each pixel as its colour."""
    return colours(normalize(R, quantile))


def overlay(R: Array, photo: Picture, *, colours: ColourMap = DAY, quantile: float = 1.0) -> Picture:
    """The heatmap over the photograph in pale grey, at the photograph's size: the stronger, the less grey."""
    height, width = photo.shape[:2]
    small = Image.fromarray(normalize(R, quantile).astype(np.float32))
    v = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
    grey = np.asarray(Image.fromarray(np.ascontiguousarray(photo)).convert("L"), dtype=np.float64)[..., None]
    pale = 255 - 0.55 * (255 - grey) if colours is DAY else 0.45 * grey
    opacity = np.clip(2.5 * np.abs(v), 0, 1)[..., None] ** 0.7
    return _picture(opacity * colours(v) + (1 - opacity) * pale)


class Montage(Figure):
    """A figure that a notebook shows where it stands at the end of a cell."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        self.savefig(picture, format="png", **MARGINS)
        return picture.getvalue()


def montage(
    photo: Picture,
    maps: Sequence[Sequence[Array]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str = "",
    colours: ColourMap = DAY,
    quantile: float = 1.0,
) -> Figure:
    """A figure in the manner of the paper's Fig. 1: a row for each target, a column for each composite.

    `maps[row][column]` is a relevance. The photograph stands to the left; a single map is also shown without it.
    """
    if len(maps) != len(rows) or any(len(row) != len(columns) for row in maps):
        raise ValueError(f"maps: expected {len(rows)} rows of {len(columns)} maps, got {[len(row) for row in maps]}")
    aspect = photo.shape[0] / photo.shape[1]
    alone = len(rows) == len(columns) == 1
    panels = [["photograph", *(["relevance"] if alone else []), *columns] for _ in rows]
    width = min(3.2, 16 / len(panels[0]))
    size = width * len(panels[0]), (width * aspect + 0.42) * len(rows) + 0.35
    figure = Montage(figsize=size, layout="compressed", dpi=150)
    axes = figure.subplots(len(rows), len(panels[0]), squeeze=False)
    for i, row in enumerate(maps):
        pictures = [photo]
        if alone:
            pictures.append(_stretched(heatmap(row[0], colours=colours, quantile=quantile), photo))
        pictures += [overlay(R, photo, colours=colours, quantile=quantile) for R in row]
        for ax, picture, name in zip(axes[i], pictures, panels[i], strict=True):
            ax.imshow(picture, interpolation="antialiased")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
            if i == 0:
                ax.set_title(name, fontsize=9)
        axes[i, 0].set_ylabel(rows[i], fontsize=10)
    if title:
        figure.suptitle(title, fontsize=10)
    return figure


def _stretched(picture: Picture, photo: Picture) -> Picture:
    """`picture` at the size of `photo`, every one of its pixels to be seen."""
    return np.asarray(Image.fromarray(picture).resize((photo.shape[1], photo.shape[0]), Image.Resampling.NEAREST))


def save_picture(picture: Picture | Figure, path: str | os.PathLike[str]) -> Path:
    """Write a picture, or a figure, in the format that the ending of `path` names. No unfinished file bears that name."""
    path = Path(path)
    require_picture_name(path, isinstance(picture, Figure))
    with new_file(path) as temporary:
        if isinstance(picture, Figure):
            picture.savefig(temporary, **MARGINS)
        else:
            Image.fromarray(np.ascontiguousarray(picture)).save(temporary)
    return path


def require_picture_name(path: Path, figure: bool = True) -> None:
    """Raise ValueError or FileNotFoundError if no picture, or figure, can be written by that name."""
    known = [".png", ".jpg", ".jpeg", *([".pdf", ".svg"] if figure else [])]
    if path.suffix.lower() not in known:
        raise ValueError(f"{path}: expected a name that ends in one of {', '.join(known)}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")

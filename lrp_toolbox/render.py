"""Relevance as colours: red pixels speak for the class, blue pixels against it, the colour in the middle means none.

Zero is always in the middle, so that a colour has the same sign in every picture. Nothing here writes into its arguments.
Arrays become pictures of uint8 (height, width, 3); figures with words on them are made with matplotlib.
"""

from __future__ import annotations

import io
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from PIL import Image

from .backend import Array, to_numpy
from .files import new_file

Picture = np.ndarray[Any, np.dtype[np.uint8]]  # (height, width, 3), RGB
MARGINS: dict[str, Any] = {"bbox_inches": "tight", "pad_inches": 0.06}
# The font that comes with matplotlib has ♭, α and ⁺; PDF and SVG hold text, which can be searched and edited.
TEXT: dict[Any, Any] = {"font.family": ["DejaVu Sans"], "pdf.fonttype": 42, "svg.fonttype": "none"}
PANEL = 3.2  # inches: a panel is at most so wide …
HIGHEST = 4.8  # … and so high
WIDEST, LONGEST = 16.0, 60.0  # inches: the panels of a figure side by side, and one below the other
NARROWEST = 0.2  # inches
ASPECT = 3.0  # a longer or wider photograph is drawn squeezed to this
DPI = 150
BAND = 256  # rows that are blended at a time: a large photograph takes no more memory than it has to


def _picture(values: np.ndarray[Any, Any]) -> Picture:
    picture: Picture = np.rint(values).astype(np.uint8)
    return picture


@dataclass(frozen=True)
class ColourMap:
    """Colours for −1 … 1, interpolated linearly between stops at equal distances: the first is for −1, the last for 1."""

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


def scale_of(R: Array, quantile: float = 1.0) -> float:
    """The relevance of a pixel at which the colours end: that quantile of |R|, or the maximum if the quantile is 0.

    R is (height, width), or (height, width, channel), which is summed over the channels.
    """
    return _scale(_of_pixels(R), quantile)


def normalize(R: Array, quantile: float = 1.0, scale: float | None = None) -> np.ndarray[Any, Any]:
    """R, summed over channels, divided by `scale_of(R, quantile)` or by `scale`, and clipped to [−1, 1].

    A `quantile` < 1 keeps single pixels from hiding the rest. A `scale`, the same for several pictures, makes the same colour
    the same relevance in all of them. Raises ValueError if R is not (height, width) or (height, width, channel), or not finite.
    """
    v = _of_pixels(R)
    if scale is None:
        scale = _scale(v, quantile)
    elif not (0 <= scale < np.inf):
        raise ValueError(f"scale: expected a finite number ≥ 0, got {scale!r}")
    return np.clip(v / scale, -1, 1) if scale > 0 else np.zeros_like(v)


def _of_pixels(R: Array) -> np.ndarray[Any, Any]:
    """R of each pixel, (height, width), in float64."""
    v = to_numpy(R).astype(np.float64)
    if v.ndim == 3:
        v = v.sum(axis=-1)
    if v.ndim != 2 or v.size == 0:
        raise ValueError(f"R: expected (height, width) or (height, width, channel), got shape {tuple(np.shape(R))}")
    if not np.isfinite(v).all():
        raise ValueError("R: expected finite relevance, got NaN or infinity")
    return v


def _scale(v: np.ndarray[Any, Any], quantile: float) -> float:
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile: expected a number in (0, 1], got {quantile!r}")
    size = np.abs(v)
    return float(np.quantile(size, quantile) or size.max())


def heatmap(R: Array, *, colours: ColourMap = DAY, quantile: float = 1.0, scale: float | None = None) -> Picture:
    """The relevance of each pixel as a colour, (height, width, 3). For `quantile` and `scale` see `normalize`."""
    return colours(normalize(R, quantile, scale))


def overlay(
    R: Array, photo: Picture, *, colours: ColourMap = DAY, quantile: float = 1.0, scale: float | None = None
) -> Picture:
    """The heatmap over the photograph in pale grey, in the size of the photograph: the stronger R, the less grey.

    For `quantile` and `scale` see `normalize`.
    """
    height, width = photo.shape[:2]
    small = Image.fromarray(normalize(R, quantile, scale).astype(np.float32))
    v = np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))
    blended = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, BAND):
        rows = slice(top, top + BAND)
        grey = Image.fromarray(np.ascontiguousarray(photo[rows])).convert("L")
        blended[rows] = _blend(v[rows], np.asarray(grey, dtype=np.float64)[..., None], colours)
    return blended


def _blend(v: np.ndarray[Any, Any], grey: np.ndarray[Any, Any], colours: ColourMap) -> Picture:
    pale = 255 - 0.55 * (255 - grey) if colours is DAY else 0.45 * grey
    opacity = np.clip(2.5 * np.abs(v), 0, 1)[..., None] ** 0.7
    return _picture(opacity * colours(v) + (1 - opacity) * pale)


# ---- Figures ---------------------------------------------------------------------------------------------------------


class Montage(Figure):
    """A figure that a notebook shows when it is the last expression of a cell."""

    def _repr_png_(self) -> bytes:
        picture = io.BytesIO()
        with rc_context(TEXT):
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
    same_scale: bool = False,
) -> Figure:
    """A figure like Fig. 1 of the paper: a row for each target, a column for each composite, and a colour bar.

    `maps[row][column]` is a relevance, (height, width) or (height, width, channel). The photograph is on the left of each
    row; a single map is also shown without the photograph. The colours of each panel end at that `quantile` of its |R|, or,
    with `same_scale`, at the largest of these in all panels; the colour bar says which.

    The photograph is reduced to what a panel can show. One that is more than three times as high as wide, or as wide as
    high, is drawn squeezed to that, and the title above it says so. Raises ValueError if the number of maps differs from
    rows and columns, or if there are too many for a figure.
    """
    if len(maps) != len(rows) or any(len(row) != len(columns) for row in maps):
        raise ValueError(f"maps: expected {len(rows)} rows of {len(columns)} maps, got {[len(row) for row in maps]}")
    alone = len(rows) == len(columns) == 1
    across = len(columns) + (2 if alone else 1)
    width, height, squeezed = _panel(photo, len(rows), across)
    names = ["photograph" + squeezed, *(["relevance"] if alone else []), *columns]
    titles = [_wrapped(name, width, 9) for name in names]
    labels = [_wrapped(row, height, 10) for row in rows]
    scales = [[scale_of(R, quantile) for R in row] for row in maps]
    if same_scale:
        scales = [[max(map(max, scales))] * len(columns) for _ in rows]

    lines = max(name.count("\n") for name in titles)
    beside = 0.2 * max(label.count("\n") for label in labels)
    size = width * across + beside, (height + 0.08) * len(rows) + 0.15 * lines + 1.3
    with rc_context(TEXT):
        figure = Montage(figsize=size, layout="compressed", dpi=DPI)
        axes = figure.subplots(len(rows), across, squeeze=False)
        small = _fitted(photo, width, height, [R for row in maps for R in row])
        for i, row in enumerate(maps):
            pictures = [small]
            if alone:
                pictures.append(heatmap(row[0], colours=colours, scale=scales[0][0]))
            pictures += [overlay(R, small, colours=colours, scale=scale) for R, scale in zip(row, scales[i], strict=True)]
            for k, (ax, picture) in enumerate(zip(axes[i], pictures, strict=True)):
                aspect = height / width * picture.shape[1] / picture.shape[0]
                ax.imshow(picture, aspect=aspect, interpolation="nearest" if alone and k == 1 else "antialiased")
                ax.set(xticks=[], yticks=[])
                ax.spines[:].set_visible(False)
                if i == 0:
                    ax.set_title(titles[k], fontsize=9, parse_math=False)
            axes[i, 0].set_ylabel(labels[i], fontsize=10, parse_math=False)
        end = f"{scales[0][0]:.3g}" if same_scale or alone else "1"
        _colour_bar(figure, axes, colours, quantile < 1, end, _words_of_scale(quantile, same_scale, alone))
        if title:
            figure.suptitle(title, fontsize=10, parse_math=False)
    return figure


def _panel(photo: Picture, down: int, across: int) -> tuple[float, float, str]:
    """Width and height of a panel in inches; and what the title has to say of its shape, "" if it is the photograph's."""
    aspect = photo.shape[0] / photo.shape[1]
    drawn = min(max(aspect, 1 / ASPECT), ASPECT)
    width = min(PANEL, WIDEST / across)
    height = min(width * drawn, HIGHEST, LONGEST / down)
    width = height / drawn
    if min(width, height) < NARROWEST:
        raise ValueError(f"maps: {down} rows of {across} panels do not fit on a figure; draw fewer at a time")
    shape = f"1:{ASPECT:g}" if drawn > 1 else f"{ASPECT:g}:1"
    return width, height, "" if drawn == aspect else f" of {photo.shape[1]}×{photo.shape[0]}, drawn {shape}"


def _fitted(photo: Picture, width: float, height: float, maps: Sequence[Array]) -> Picture:
    """The photograph with at most twice the pixels along each side that the panel has, and at least those of the maps."""
    sides = []
    for axis, inches in enumerate((height, width)):
        sides.append(max(min(photo.shape[axis], round(2 * DPI * inches)), *(R.shape[axis] for R in maps)))
    if tuple(sides) == photo.shape[:2]:
        return photo
    image = Image.fromarray(np.ascontiguousarray(photo))
    return np.asarray(image.resize((sides[1], sides[0]), Image.Resampling.BOX))


def _wrapped(text: str, inches: float, points: float) -> str:
    """`text` in lines that are about so many inches wide at that size of the font."""
    letters = max(8, int(inches * 72 / (0.6 * points)))
    return "\n".join(part for line in text.splitlines() for part in textwrap.wrap(line, letters) or [""])


def _words_of_scale(quantile: float, same_scale: bool, alone: bool) -> str:
    end = "largest |R|" if quantile == 1 else f"{100 * quantile:g} % quantile of |R|"
    if alone:
        return f"relevance of a pixel, on the same scale in both panels: the colours end at the {end}"
    if same_scale:
        largest = end if quantile == 1 else f"largest {end}"
        return f"relevance of a pixel; all panels share one scale: the colours end at the {largest}"
    return f"relevance of a pixel; each panel has its own scale: 1 is the {end} in it"


def _colour_bar(figure: Figure, axes: np.ndarray[Any, Any], colours: ColourMap, clips: bool, end: str, label: str) -> None:
    """What the colours mean. `end`: the number at which they end; `clips`: whether there may be relevance beyond it."""
    across = figure.get_figwidth()
    length = min(4.0, 0.8 * across)
    bar = figure.colorbar(
        ScalarMappable(Normalize(-1, 1), ListedColormap(colours(np.linspace(-1, 1, 255)[None])[0] / 255)),
        ax=axes,
        location="bottom",
        shrink=length / across,
        pad=0.12 / figure.get_figheight(),
        aspect=length / 0.11,
        extend="both" if clips else "neither",
        ticks=[-1, 0, 1],
    )
    bar.set_ticklabels([f"−{end}\nagainst the class", "0", f"{end}\nfor the class"], fontsize=8)
    bar.outline.set_linewidth(0.5)
    bar.set_label(_wrapped(label, across, 8), fontsize=8)


# ---- Files -----------------------------------------------------------------------------------------------------------


def save_picture(picture: Picture | Figure, path: str | os.PathLike[str]) -> Path:
    """Write a picture or a figure in the format that the ending of `path` names. An error leaves `path` as it was.

    Raises ValueError or FileNotFoundError as `require_picture_name`.
    """
    path = Path(path)
    require_picture_name(path, isinstance(picture, Figure))
    with new_file(path) as temporary:
        if isinstance(picture, Figure):
            with rc_context(TEXT):
                picture.savefig(temporary, **MARGINS)
        else:
            Image.fromarray(np.ascontiguousarray(picture)).save(temporary)
    return path


def picture_endings(figure: bool = True) -> tuple[str, ...]:
    """The endings of files that `save_picture` writes."""
    return (".png", ".jpg", ".jpeg", *((".pdf", ".svg") if figure else ()))


def require_picture_name(path: Path, figure: bool = True) -> None:
    """Raise ValueError or FileNotFoundError if no picture, or figure, can be written to `path`."""
    known = picture_endings(figure)
    if path.suffix.lower() not in known:
        raise ValueError(f"{path}: expected a name that ends in one of {', '.join(known)}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: there is no folder {path.parent}")

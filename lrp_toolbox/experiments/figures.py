"""Figures 1 to 4 of the paper."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ..backend import to_numpy
from ..data import Item
from ..metrics import Curve
from ..render import Picture, montage
from .measure import Localise, Setup
from .methods import BASELINE
from .results import Localised, Occluded
from .shared_passes import attribute

# ---- Fig. 1 and 4 ----------------------------------------------------------------------------------------------------


def sheet(setup: Setup, item: Item, targets: Sequence[int], methods: Sequence[str], letters: str = "") -> Figure:
    """A photograph; a row for each target, a column for each method. `letters` stand before the names of the methods."""
    model, asked = setup.open(), Localise(setup, tuple(methods)).parsed()
    y, relevances = attribute(model, setup.x(item), targets, asked)
    return montage(
        model.preprocessing.view(item.read()),
        [[to_numpy(R)[row] for R in relevances] for row in range(len(targets))],
        rows=[f"{model.classes[target]} ({logit:.1f})" for target, logit in zip(targets, y, strict=True)],
        columns=[f"({letters[k]}) {m.name}" if k < len(letters) else m.name for k, m in enumerate(asked)],
        quantile=0.999,
    )


def two_targets(setup: Setup, item: Item, outputs: Sequence[int]) -> tuple[list[int], bool]:
    """The two outputs to explain for an image, and whether the model is right about the image.

    If the image shows several classes (`outputs`), these are the two with the largest logits; if it shows one, this class and
    the strongest other. The model is right if the classes that are shown have the largest logits.
    """
    y = to_numpy(setup.open().net(setup.x(item)[None, ...]))[0]
    best = [int(k) for k in (-y).argsort()]
    shown = sorted(outputs, key=best.index)[:2]
    seen = bool(shown) and set(shown) == set(best[: len(shown)])
    return shown if len(shown) == 2 else [*shown, *[k for k in best if k not in shown][: 2 - len(shown)]], seen


def stacked(figures: Sequence[Figure]) -> Picture:
    """Figures of about the same width, one below the other."""
    pictures = [raster(figure) for figure in figures]
    width = max(picture.shape[1] for picture in pictures)
    rows = [np.pad(p, ((0, 24), (0, width - p.shape[1]), (0, 0)), constant_values=255) for p in pictures]
    return np.concatenate(rows)


def raster(figure: Figure, dpi: float = 150) -> Picture:
    """The pixels of a figure, as a file of it has them."""
    opened = io.BytesIO()
    figure.savefig(opened, format="png", dpi=dpi, bbox_inches="tight", pad_inches=0.06)
    with Image.open(opened) as image:
        return np.asarray(image.convert("RGB"))


# ---- Fig. 2 and 3 ----------------------------------------------------------------------------------------------------


def figure_2(found: Occluded, title: str, bins: int = 100) -> Figure:
    """Δf over the size of boxes where the object, or its context, is replaced by the mean colour: mean ± std."""
    figure, above, below = _axes(title)
    for what, label, colour in (("object", "object hidden", "#c23b22"), ("context", "context hidden", "#2c6fbb")):
        curve = found.curve(what, bins)
        _draw(above, curve, label, colour)
        size, mean, std = (a[curve.n > 0] for a in (curve.size, curve.mean, curve.std))
        above.fill_between(size, mean - std, mean + std, color=colour, alpha=0.15, linewidth=0)
    above.axhline(0, color="#888888", linewidth=0.8)
    above.set_ylabel("Δf(x), logit of the class")
    above.legend(frameon=False)
    _histogram(below, curve)
    return figure


def figure_3(found: Localised, title: str, bins: int = 100) -> Figure:
    """μ over the size of boxes, with the baseline, and lines at 25 % and 50 % of the image."""
    figure, above, below = _axes(title)
    drawn = [method for method in found.methods if method != BASELINE]
    for k, method in enumerate(drawn):
        curve = found.curve(method, bins)
        composite = method.startswith("cmp")
        _draw(above, curve, found.names[method], f"C{k}", width=1.6 if composite else 1.0, style="-" if composite else "--")
    above.plot([0, 1], [0, 1], color="black", linewidth=1.2, linestyle=":", label="Baseline")
    for quarter in (0.25, 0.5):
        above.axvline(quarter, color="#888888", linewidth=0.8)
    above.set(ylabel="μ", ylim=(0, 1.02))
    above.legend(frameon=False, fontsize=7.5, loc="lower right")
    _histogram(below, curve)
    return figure


def _axes(title: str) -> tuple[Figure, Axes, Axes]:
    figure = Figure(figsize=(7.2, 5.2), layout="compressed", dpi=150)
    above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [5, 1]})
    above.set_title(title, fontsize=10)
    above.spines[["top", "right"]].set_visible(False)
    return figure, above, below


def _draw(axes: Axes, curve: Curve, label: str, colour: str, width: float = 1.4, style: str = "-") -> None:
    some = curve.n > 0
    axes.plot(curve.size[some], curve.mean[some], style, color=colour, linewidth=width, label=label)


def _histogram(axes: Axes, curve: Curve) -> None:
    axes.bar(curve.size, curve.n, width=1 / len(curve.n), color="#aaaaaa")
    axes.set(xlabel="size of the boxes, as a share of the image", ylabel="pairs", xlim=(0, 1))
    axes.spines[["top", "right"]].set_visible(False)

"""What explanations and models look like: figures, and HTML for notebooks that holds all that it shows."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from . import render
from .backend import to_numpy
from .explanation import MOST, QUANTILE, Explanation, Row, largest_features, number
from .ledger import REASONS, TITLES

if TYPE_CHECKING:
    from .io import Model

SHOWN = 4  # targets in a notebook
LOGITS = 5  # classes in a list
SIDE = 320  # pixels: the longer side of a picture in a notebook, at most
COLOURS = "red speaks for the class, blue against it; each picture has its own scale"
FOR, AGAINST = "#d02e26", "#1954b0"  # as in render.DAY

STYLE = """<style>
.lrp { font-size: 13px; line-height: 1.45; max-width: 75em; }
.lrp h4 { font-size: 15px; margin: 0 0 .2em; }
.lrp p { margin: .2em 0 .6em; }
.lrp .lrp-pale { opacity: .7; }
.lrp .lrp-row { display: flex; flex-wrap: wrap; gap: 14px 22px; align-items: flex-start; margin: 0 0 .3em; }
.lrp figure { margin: 0; width: min(220px, 50% - 11px); }
.lrp figure img { width: 100%; box-sizing: border-box; display: block; border: 1px solid rgba(128, 128, 128, .35); }
.lrp figure.lrp-wide { width: 100%; }
.lrp figcaption { margin-top: .25em; }
.lrp .lrp-scroll { overflow-x: auto; max-width: 100%; }
.lrp table { border-collapse: collapse; margin: .2em 0 .6em; font-variant-numeric: tabular-nums; font-size: 13px; }
.lrp td, .lrp th { padding: 1px 12px 1px 0; text-align: right; white-space: nowrap; font-weight: normal; }
.lrp th { opacity: .7; border-bottom: 1px solid rgba(128, 128, 128, .5); }
.lrp .lrp-left { text-align: left; }
.lrp .lrp-wrap { white-space: normal; }
.lrp .lrp-bar { display: inline-block; height: .8em; }
.lrp summary { cursor: pointer; }
.lrp pre { font-size: 12px; line-height: 1.35; overflow-x: auto; margin: .3em 0; }
</style>"""


# ---- Figures ---------------------------------------------------------------------------------------------------------


def figure_of(e: Explanation) -> Figure:
    """The picture of an explanation (see `Explanation.figure`)."""
    rows = list(islice(e.rows(), MOST))
    if axes_of_one(e) == 1:
        figure = _bars(rows)
    elif axes_of_one(e) == 2:
        figure = _signals(rows)
    elif axes_of_one(e) != 3:
        known = "(feature), (place, channel) or (height, width, channel)"
        raise ValueError(f"R: expected {known} of one input, got {tuple(e.R.shape)} of all")
    elif e.photo is not None:
        titles, maps = [row.title for row in rows], [[row.R] for row in rows]
        return render.montage(e.photo, maps, rows=titles, columns=[e.rules.name], quantile=QUANTILE)
    else:
        figure = _heatmaps(rows)
    more = f" (the first {MOST} of {e.count})" if e.count > MOST else ""
    figure.suptitle(f"{e.rules.name}{more}", fontsize=10)
    return figure


def axes_of_one(e: Explanation) -> int:
    """How many axes one input has: 1 for features, 2 for a signal, 3 for a map."""
    return int(e.R.ndim) - int(e.ledger.start.ndim)


def _bars(rows: Sequence[Row]) -> Figure:
    figure = render.Montage(figsize=(6, 0.6 + 2.8 * len(rows)), layout="constrained", dpi=150)
    for ax, row in zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        names, values = zip(*largest_features(row), strict=True)
        ax.barh(range(len(names)), values, color=[FOR if r > 0 else AGAINST for r in values])  # two may have one name
        ax.set_yticks(range(len(names)), names)
        ax.invert_yaxis()
        ax.axvline(0, color="black", linewidth=0.6)
        ax.set_title(row.title, fontsize=9)
        ax.tick_params(labelsize=8)
        ax.spines[["top", "right", "left"]].set_visible(False)
        ax.set_xlabel("relevance", fontsize=8)
    return figure


def _signals(rows: Sequence[Row]) -> Figure:
    """Places from left to right, and a line for each channel."""
    height = min(3.0, 0.8 + 0.15 * rows[0].R.shape[-1])
    figure = render.Montage(figsize=(7, 0.6 + height * len(rows)), layout="constrained", dpi=150)
    for ax, row in zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        ax.imshow(_of_signal(row), aspect="auto", interpolation="nearest")
        ax.set_title(row.title, fontsize=9)
        ax.tick_params(labelsize=8)
        ax.yaxis.get_major_locator().set_params(integer=True)
        ax.set_ylabel("channel", fontsize=8)
    ax.set_xlabel("place", fontsize=8)
    figure.supxlabel(COLOURS, fontsize=7, color="0.4")
    return figure


def _of_signal(row: Row) -> render.Picture:
    return render.heatmap(to_numpy(row.R).T, quantile=QUANTILE)


def _heatmaps(rows: Sequence[Row]) -> Figure:
    columns = min(4, len(rows))
    lines = -(-len(rows) // columns)
    figure = render.Montage(figsize=(max(3.2, 2.6 * columns), 2.9 * lines + 0.4), layout="constrained", dpi=150)
    for k, ax in enumerate(figure.subplots(lines, columns, squeeze=False).flat):
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(k < len(rows))
        ax.spines[:].set_color("0.7")
        if k < len(rows):
            ax.imshow(render.heatmap(rows[k].R, quantile=QUANTILE), interpolation="nearest")
            ax.set_title(rows[k].title, fontsize=9)
    figure.supxlabel(COLOURS, fontsize=7, color="0.4")
    return figure


# ---- HTML ------------------------------------------------------------------------------------------------------------


def explanation_html(e: Explanation) -> str:
    """The picture, the prediction, and the ledger."""
    rows = list(islice(e.rows(), SHOWN))
    more = f", the first {SHOWN} of {e.count}" if e.count > SHOWN else ""
    parts = [f"<h4>{escape(e.rules.name)}{more}</h4>"]
    if e.model is not None and hasattr(e.model, "name"):
        parts.append(f"<p>{escape(e.model.name)}</p>")
    parts.append(f'<div class="lrp-row">{"".join(_panels(e, rows))}</div><p class="lrp-pale">{COLOURS}</p>')
    prediction = _prediction(e)
    if prediction:
        parts.append(prediction)
    parts.append(_where_it_went(rows))
    for row in rows:
        name = row.title.partition("\n")[0]
        parts.append(
            f"<details><summary>{escape(name)}, layer by layer</summary><pre>{escape(str(row.ledger))}</pre></details>"
        )
    return _html(parts)


def _panels(e: Explanation, rows: Sequence[Row]) -> list[str]:
    axes = axes_of_one(e)
    if axes == 1:
        return [_features(row) for row in rows]
    if axes == 2:
        return [_signal(row) for row in rows]
    if axes != 3:
        return [f"<p>R {'×'.join(map(str, e.R.shape))}</p>"]
    if e.photo is None:
        return [_figure(render.heatmap(row.R, quantile=QUANTILE), row.title) for row in rows]
    photo = _reduced(e.photo)
    overlays = [render.overlay(row.R, photo, quantile=QUANTILE) for row in rows]
    pictures = [_figure(p, row.title) for p, row in zip(overlays, rows, strict=True)]
    return [_figure(photo, "photograph, as far as the net sees it"), *pictures]


def _figure(picture: render.Picture, caption: str) -> str:
    name, _, verdict = caption.partition("\n")
    small = ' style="image-rendering: pixelated"' if max(picture.shape[:2]) < 120 else ""
    text = escape(name) + (f"<br>{escape(verdict)}" if verdict else "")
    return (
        f'<figure><img{small} alt="{escape(name, quote=True)}" src="{_png(picture)}"><figcaption>{text}</figcaption></figure>'
    )


def _signal(row: Row) -> str:
    name, caption = escape(row.title.partition("\n")[0], quote=True), escape(row.title).replace("\n", "<br>")
    style = f"width: 100%; height: {min(200, 40 + 12 * row.R.shape[-1])}px; image-rendering: pixelated"
    image = f'<img style="{style}" alt="{name}" src="{_png(_of_signal(row))}">'
    return f'<figure class="lrp-wide">{image}<figcaption>{caption} (a line for each channel)</figcaption></figure>'


def _features(row: Row) -> str:
    found = largest_features(row)
    top = max((abs(r) for _, r in found), default=0.0) or 1.0
    lines = []
    for name, r in found:
        bar = f'<span class="lrp-bar" style="width:{110 * abs(r) / top:.0f}px;background:{FOR if r > 0 else AGAINST}"></span>'
        lines.append([name, number(r), bar])
    caption = escape(row.title).replace("\n", "<br>")
    return f"<div>{caption}{_table(['feature', 'relevance', ''], lines, left=(0, 2), raw=(2,))}</div>"


def _prediction(e: Explanation) -> str:
    """The largest logits and those of the explained classes, of one sample."""
    y = to_numpy(e.y)
    if e.target is None or (y.ndim == 2 and len(y) > 1):
        return ""
    y = y.reshape(-1)
    explained = set(np.asarray(e.target).reshape(-1).tolist())
    best = np.argsort(-y.astype(np.float64), kind="stable")[:LOGITS].tolist()
    listed = best + sorted(explained.difference(best))[:LOGITS]
    says = getattr(e.model, "says_yes", None)
    verdicts = None if says is None else says(y)
    head = ["class", "logit", *([] if verdicts is None else ["the net says"]), ""]
    lines = []
    for k in listed:
        name = f"class {k}" if e.classes is None else str(e.classes[k])
        verdict = [] if verdicts is None else ["yes" if verdicts[k] else "no"]
        lines.append([name, number(y[k]), *verdict, "← explained" if k in explained else ""])
    return _table(head, lines, left=(0, len(head) - 1))


def _where_it_went(rows: Sequence[Row]) -> str:
    """The ledger in a line for each target: what began, what reached the input, and what became of the rest."""
    reasons = [reason for reason in REASONS if any(float(row.ledger.absorbed(reason)) for row in rows)]
    head = ["relevance of", "start", "on the input", *(TITLES.get(reason, reason) for reason in reasons), "rounding"]
    lines = []
    for row in rows:
        ledger = row.ledger
        lost = [*(ledger.absorbed(reason) for reason in reasons), ledger.rounding]
        sample = "" if row.sample is None else f"sample {row.sample}: "
        lines.append([sample + row.name, number(ledger.start), number(ledger.end), *(number(a, 3) for a in lost)])
    return _table(head, lines, left=(0,))


def model_html(model: Model) -> str:
    """The example, what the model takes and says, and its layers."""
    facts = _table(["", ""], [[name, text] for name, text in model.facts()], left=(0, 1), wrap=(1,))
    parts = [f"<h4>{escape(model.name)}</h4>", f"<p>{escape(model.summary)}</p>" if model.summary else ""]
    example = ""
    if model.example is not None and model.example.is_file():
        from .data import read_photo

        example = _figure(_reduced(model.preprocessing.view(read_photo(model.example))), f"example: {model.example.name}")
    parts.append(f'<div class="lrp-row">{example}{facts}</div>')
    parts.append(f"<details><summary>layers</summary><pre>{escape(repr(model.net))}</pre></details>")
    return _html(parts)


def _html(parts: Sequence[str]) -> str:
    return f'{STYLE}<div class="lrp">{"".join(parts)}</div>'


def _table(
    head: Sequence[str], lines: Sequence[Sequence[str]], left: Sequence[int], raw: Sequence[int] = (), wrap: Sequence[int] = ()
) -> str:
    """A table that scrolls sideways where it is too wide. Columns in `raw` are HTML already."""

    def row(cells: Sequence[str], tag: str) -> str:
        made = []
        for k, cell in enumerate(cells):
            names = [name for name, columns in (("lrp-left", left), ("lrp-wrap", wrap)) if k in columns]
            kind = f' class="{" ".join(names)}"' if names else ""
            made.append(f"<{tag}{kind}>{cell if k in raw and tag == 'td' else escape(cell)}</{tag}>")
        return f"<tr>{''.join(made)}</tr>"

    top = f"<thead>{row(head, 'th')}</thead>" if any(head) else ""
    return f'<div class="lrp-scroll"><table>{top}<tbody>{"".join(row(line, "td") for line in lines)}</tbody></table></div>'


def _reduced(photo: render.Picture) -> render.Picture:
    """The photograph with a longer side of at most `SIDE` pixels, and a shorter one of at least 1."""
    height, width = photo.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return np.asarray(Image.fromarray(np.ascontiguousarray(photo)).resize(size, Image.Resampling.BOX))


def _png(picture: Any) -> str:
    """The picture as a data URI."""
    png = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(picture)).save(png, format="PNG")
    return f"data:image/png;base64,{base64.b64encode(png.getvalue()).decode()}"

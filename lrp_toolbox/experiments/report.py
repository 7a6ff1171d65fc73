"""One page of HTML that holds all of it: the table, the curves, and a sheet of examples to leaf through."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from .figures import raster
from .paper import TABLE_I
from .results import HEADER, Line, cells, counts

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1200px; padding: 0 1em; color: #222; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { text-align: left; padding: .25em .8em .25em 0; border-bottom: 1px solid #ddd; white-space: nowrap; }
.wide { overflow-x: auto; }
img { max-width: 100%; }
details { border-bottom: 1px solid #ddd; padding: .4em 0; }
summary { cursor: pointer; }
dt { float: left; clear: left; width: 9em; color: #666; }
"""


def page(
    title: str,
    facts: Mapping[str, Any],
    lines: Sequence[Line],
    figures: Mapping[str, Figure],
    examples: Mapping[str, Figure],
    dataset: str,
) -> str:
    """The page. `figures` and `examples` by what stands above them; `facts` as they are to be read."""
    parts = [
        f"<h1>{_text(title)}</h1>",
        f"<dl>{''.join(f'<dt>{_text(k)}</dt><dd>{_text(v)}</dd>' for k, v in facts.items())}</dl>",
        "<h2>Table I</h2>",
        _table(HEADER, [cells(line) for line in lines]),
        f"<p>{_text(counts(lines))}</p>",
        "<h2>Beside the paper's</h2>",
        _beside_the_paper(lines, dataset),
        *(f"<h2>{_text(name)}</h2>{_png(figure)}" for name, figure in figures.items()),
        "<h2>Examples</h2>",
        *(f"<details><summary>{_text(name)}</summary>{_jpeg(figure)}</details>" for name, figure in examples.items()),
    ]
    head = f'<meta charset="utf-8"><title>{_text(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _beside_the_paper(lines: Sequence[Line], dataset: str) -> str:
    """μ_w here and there, and the place of each row among those that both have."""
    theirs = TABLE_I[dataset]
    common = [line for line in lines if line.method in theirs]
    order = sorted((line.method for line in common), key=lambda method: -theirs[method][0])
    rows = []
    for place, line in enumerate(common, 1):
        s, (mu_w, mu_25, mu_50, mu) = line.summary, theirs[line.method]
        here = [f"{e.value:.3f}" for e in (s.mu_w, s.mu_25, s.mu_50, s.mu)]
        there = ["–" if value is None else f"{value:.3f}" for value in (mu_w, mu_25, mu_50, mu)]
        pairs = [f"{a} ({b})" for a, b in zip(here, there, strict=True)]
        rows.append((line.name, *pairs, f"{place} ({order.index(line.method) + 1})"))
    header = ("method", *(f"{name} here (paper)" for name in ("μ_w", "μ≤0.25", "μ≤0.5", "μ")), "place here (paper)")
    return _table(header, rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    def row(tag: str, values: Sequence[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{_text(value)}</{tag}>' for value in values)}</tr>"

    return f'<div class="wide"><table>{row("th", header)}{"".join(row("td", r) for r in rows)}</table></div>'


def _text(value: Any) -> str:
    return html.escape(str(value))


def _png(figure: Figure) -> str:
    opened = io.BytesIO()
    figure.savefig(opened, format="png", bbox_inches="tight", pad_inches=0.06)
    return _embedded(opened, "png")


def _jpeg(figure: Figure) -> str:
    opened = io.BytesIO()
    Image.fromarray(raster(figure, dpi=100)).save(opened, format="jpeg", quality=85)
    return _embedded(opened, "jpeg")


def _embedded(opened: io.BytesIO, kind: str) -> str:
    return f'<p><img loading="lazy" src="data:image/{kind};base64,{base64.b64encode(opened.getvalue()).decode()}"></p>'

"""One HTML file with the finding, the table, the curves, examples and the provenance; it needs no other file."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from .figures import raster
from .results import Table

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 1180px; padding: 1em; color: #222; background: #fff; }
h1 { font-size: 1.5em; line-height: 1.25; } h2 { font-size: 1.15em; margin-top: 2em; }
.finding { font-size: 1.2em; max-width: 45em; } .meaning, .note { max-width: 55em; color: #444; } .note { font-size: .9em; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { text-align: left; padding: .3em 1em .3em 0; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { position: sticky; left: 0; background: #fff; white-space: normal; min-width: 7em; }
img { display: block; max-width: 100%; height: auto; }
.sheet img { min-width: 900px; } .figure img { min-width: 600px; }
details { border-bottom: 1px solid #ddd; padding: .6em 0; } summary { cursor: pointer; padding: .3em 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2em 1em; font-size: .9em; }
dt { color: #666; } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 600px) { dl { display: block; } dd { margin-bottom: .5em; } }
"""


LEGEND = (
    "A row for each class, with its logit; a column for each method. Red pixels have positive relevance for the class, "
    "blue ones negative. Each heatmap has a scale of its own."
)


@dataclass(frozen=True, eq=False)
class Shown:
    """A figure, its name, and what it shows in words, for readers who do not see it."""

    name: str
    figure: Figure
    alt: str


def page(
    title: str,
    finding: str,
    meaning: str,
    tables: Mapping[str, Table],
    note: str,
    figures: Sequence[Shown],
    examples: Sequence[Shown],
    facts: Mapping[str, Any],
) -> str:
    """The page. The first of the `tables`, with `note` below it, comes before figures and examples, the others behind them."""
    (first, table), *others = tables.items()
    parts = [
        f"<h1>{_text(title)}</h1>",
        f'<p class="finding">{_text(finding)}</p>',
        f'<p class="meaning">{_text(meaning)}</p>',
        f"<h2>{_text(first)}</h2>{_table(table)}",
        f'<p class="note">{_text(note)}</p>',
        *(f'<h2>{_text(shown.name)}</h2><div class="wide figure">{_png(shown)}</div>' for shown in figures),
        f'<h2>Examples</h2><p class="meaning">{_text(LEGEND)}</p>' if examples else "",
        *(_example(shown, opened=k == 0) for k, shown in enumerate(examples)),
        *(f"<h2>{_text(name)}</h2>{_table(table)}" for name, table in others),
        "<h2>How it was measured</h2>",
        f"<dl>{''.join(f'<dt>{_text(k)}</dt><dd>{_text(v)}</dd>' for k, v in facts.items())}</dl>",
    ]
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{STYLE}</style>"
    )
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(filter(None, parts)) + "\n</body></html>\n"
    )


def _example(shown: Shown, opened: bool) -> str:
    picture = f'<div class="wide sheet">{_jpeg(shown)}</div>'
    return f"<details{' open' if opened else ''}><summary>{_text(shown.name)}</summary>{picture}</details>"


def _table(table: Table) -> str:
    def row(tag: str, values: Sequence[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{_text(value)}</{tag}>' for value in values)}</tr>"

    header, *rows = table
    return f'<div class="wide"><table>{row("th", header)}{"".join(row("td", r) for r in rows)}</table></div>'


def _text(value: Any) -> str:
    return html.escape(str(value))


def _png(shown: Shown) -> str:
    opened = io.BytesIO()
    shown.figure.savefig(opened, format="png", bbox_inches="tight", pad_inches=0.06)
    return _embedded(opened, "png", shown.alt)


def _jpeg(shown: Shown) -> str:
    opened = io.BytesIO()
    Image.fromarray(raster(shown.figure, dpi=100)).save(opened, format="jpeg", quality=85)
    return _embedded(opened, "jpeg", shown.alt)


def _embedded(opened: io.BytesIO, kind: str, alt: str) -> str:
    data = base64.b64encode(opened.getvalue()).decode()
    return f'<p><img loading="lazy" alt="{_text(alt)}" src="data:image/{kind};base64,{data}"></p>'

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
from .results import Table

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
    tables: Mapping[str, Table],
    note: str,
    figures: Mapping[str, Figure],
    examples: Mapping[str, Figure],
) -> str:
    """The page. Tables, figures and examples by what stands above them; `note` stands below the first table."""
    above, *others = (f"<h2>{_text(name)}</h2>{_table(table)}" for name, table in tables.items())
    parts = [
        f"<h1>{_text(title)}</h1>",
        f"<dl>{''.join(f'<dt>{_text(k)}</dt><dd>{_text(v)}</dd>' for k, v in facts.items())}</dl>",
        above,
        f"<p>{_text(note)}</p>",
        *others,
        *(f"<h2>{_text(name)}</h2>{_png(figure)}" for name, figure in figures.items()),
        "<h2>Examples</h2>",
        *(f"<details><summary>{_text(name)}</summary>{_jpeg(figure)}</details>" for name, figure in examples.items()),
    ]
    head = f'<meta charset="utf-8"><title>{_text(title)}</title><style>{STYLE}</style>'
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n' + "\n".join(parts) + "\n</body></html>\n"


def _table(table: Table) -> str:
    def row(tag: str, values: Sequence[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{_text(value)}</{tag}>' for value in values)}</tr>"

    header, *rows = table
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

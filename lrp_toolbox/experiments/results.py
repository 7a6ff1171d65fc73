"""What was measured, as numbers and tables: Table I, sorted by μ_w, and whether its order of rows holds."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import text
from ..metrics import Curve, Estimate, Localisation, Numbers, Summary, over_size, summarise
from .measure import Localise, Occlude
from .store import Store

BASELINE = "uniform"


@dataclass(frozen=True, eq=False)
class Localised:
    """The measurements of all methods on the same {class × image} pairs, in the same order.

    items, classes   (n): what was measured
    methods          by method, as it was asked for: (n) of each
    channels         the same, with R⁺ taken in each channel before they are summed
    names            by method, as it calls itself
    """

    items: Numbers
    classes: Numbers
    methods: Mapping[str, Localisation]
    channels: Mapping[str, Localisation]
    names: Mapping[str, str]

    @staticmethod
    def read(store: Store, measurement: Localise, items: Collection[str]) -> Localised:
        """What the store has of these images."""
        rows = _by_method(store, measurement.methods, items)
        first = rows[measurement.methods[0]]
        methods, channels = {}, {}
        for method, (_, values) in rows.items():
            inside, total, box, image, inside_channels, total_channels, _ = values.T
            methods[method] = Localisation(inside, total, box.astype(np.int64), image.astype(np.int64))
            channels[method] = Localisation(inside_channels, total_channels, box.astype(np.int64), image.astype(np.int64))
        own = [method.name for method in measurement.parsed()]
        several = zip(measurement.methods, own, strict=True)
        names = {spec: name if own.count(name) == 1 else f"{name} ({spec})" for spec, name in several}
        return Localised(first[0][:, 0], first[0][:, 1], methods, channels, names)

    def curve(self, method: str, bins: int) -> Curve:
        """μ over the size of boxes, as in Fig. 3."""
        measured = self.methods[method]
        return over_size(measured.mu, measured.box, measured.image, bins, self.items)


@dataclass(frozen=True, eq=False)
class Occluded:
    """Δf = f(x') − f(x) where the object, or all but the object, is hidden; (n) each, for the same pairs in the same order."""

    items: Numbers
    classes: Numbers
    deltas: Mapping[str, Numbers]
    box: Numbers
    image: Numbers

    @staticmethod
    def read(store: Store, items: Collection[str]) -> Occluded:
        rows = _by_method(store, Occlude.methods, items)
        (keys, values), *_ = rows.values()
        deltas = {method: of[:, 1] - of[:, 0] for method, (_, of) in rows.items()}
        return Occluded(keys[:, 0], keys[:, 1], deltas, values[:, 2].astype(np.int64), values[:, 3].astype(np.int64))

    def curve(self, what: str, bins: int) -> Curve:
        """Δf over the size of boxes, as in Fig. 2."""
        return over_size(self.deltas[what], self.box, self.image, bins, self.items)


def _by_method(store: Store, methods: Sequence[str], items: Collection[str]) -> dict[str, tuple[Numbers, Numbers]]:
    """By method: (item, class) pairs (n, 2), and their values (n, columns)."""
    items, found = set(items), dict[str, list[Any]]()
    for row in store.rows():
        if row[0] in items:
            found.setdefault(row[2], []).append(row)
    if not found:
        raise ValueError(f"{store.folder}: nothing is measured of the images that are asked for")
    split = {m: (np.array([row[:2] for row in rows]), np.array([row[3:] for row in rows], float)) for m, rows in found.items()}
    return {method: split[method] for method in methods}


# ---- Table I ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A row of the table: a method, and by how much it is better than the row below it, pair by pair."""

    method: str
    name: str
    summary: Summary
    better: Summary | None


def table(found: Localised, samples: int = 2000) -> list[Line]:
    """The rows of Table I, the largest μ_w first."""
    summaries = {m: summarise(measured, found.items, samples=samples) for m, measured in found.methods.items()}
    order = sorted(summaries, key=lambda m: -summaries[m].mu_w.value)
    below = dict(itertools.pairwise(order))
    lines = []
    for m in order:
        other = found.methods[below[m]] if m in below else None
        better = None if other is None else summarise(found.methods[m], found.items, minus=other, samples=samples)
        lines.append(Line(m, found.names[m], summaries[m], better))
    return lines


Table = list[tuple[str, ...]]  # a header, and rows


def table_1(lines: Sequence[Line]) -> Table:
    """Table I as text, with medians and intervals. A difference is marked where its interval does not hold 0.000."""
    rows: Table = [
        ("method", "μ_w", "μ≤0.25", "μ≤0.5", "μ", "median μ_w", "median μ", "Δμ_w to the next row", "Δ median μ_w"),
    ]
    for line in lines:
        s = line.summary
        estimates = (s.mu_w, s.mu_25, s.mu_50, s.mu, s.median_mu_w, s.median_mu)
        differences = ("", "") if line.better is None else (_marked(line.better.mu_w), _marked(line.better.median_mu_w))
        rows.append((line.name, *map(str, estimates), *differences))
    return rows


def _marked(difference: Estimate) -> str:
    return f"{difference}{' *' if difference.low > 0.0005 or difference.high < -0.0005 else ''}"


def choices(found: Localised, lines: Sequence[Line]) -> Table:
    """How μ_w, and the place of each row by it, depend on choices that the paper does not make."""
    whole = {line.method: line.summary for line in lines}
    columns: dict[str, dict[str, float]] = {
        "μ_w": {m: s.mu_w.value for m, s in whole.items()},
        "R⁺ in each channel": {m: float(np.nanmean(found.channels[m].mu_w)) for m in whole},
        "boxes ≥ 1 %": {m: _mean_of_larger(found.methods[m], 0.01) for m in whole},
        "median μ_w": {m: s.median_mu_w.value for m, s in whole.items()},
        "mean μ": {m: s.mu.value for m, s in whole.items()},
    }
    places = {name: sorted(values, key=lambda m, v=values: -v[m]) for name, values in columns.items()}  # type: ignore[misc]
    rows: Table = [("method", *columns)]
    for line in lines:
        cells = (f"{values[line.method]:.3f} ({places[name].index(line.method) + 1})" for name, values in columns.items())
        rows.append((line.name, *cells))
    return rows


def _mean_of_larger(measured: Localisation, share: float) -> float:
    return float(np.nanmean(np.where(measured.box >= share * measured.image, measured.mu_w, np.nan)))


def as_text(table: Table) -> str:
    """A table for a terminal."""
    return text.table(table, left=len(table[0]))


def as_markdown(table: Table) -> str:
    """A table for a page."""
    header, *rows = ("| " + " | ".join(row) + " |" for row in table)
    return "\n".join([header, "|---" * len(table[0]) + "|", *rows])


def counts(lines: Sequence[Line]) -> str:
    """What the numbers are made of."""
    s = lines[0].summary
    without = {line.name: line.summary.without_relevance for line in lines if line.summary.without_relevance}
    left_out = f"{s.empty} pairs left out, of whose boxes no pixel is seen"
    left_out += "".join(f"; {n} of {name}, without positive relevance" for name, n in without.items())
    return (
        f"{s.mu.n} {{class × image}} pairs, {s.mu_25.n} of them with boxes ≤ 0.25 and {s.mu_50.n} with boxes ≤ 0.5 of the "
        f"image; {left_out}. In brackets: 95 % intervals of a bootstrap over images. * the interval of the paired difference "
        "to the row below does not hold 0.000."
    )


def table_csv(lines: Sequence[Line]) -> str:
    """The table as CSV, unrounded."""
    columns = ("mu_w", "mu_25", "mu_50", "mu", "median_mu_w", "median_mu")
    header = ["method", "name", *(f"{c}{end}" for c in columns for end in ("", "_low", "_high")), "n", "n_25", "n_50",
              "empty", "without_relevance"]  # fmt: skip
    rows: list[list[Any]] = [header]
    for line in lines:
        s = line.summary
        estimates: list[Estimate] = [getattr(s, column) for column in columns]
        numbers = [value for e in estimates for value in (e.value, e.low, e.high)]
        rows.append([line.method, line.name, *numbers, s.mu.n, s.mu_25.n, s.mu_50.n, s.empty, s.without_relevance])
    return _csv(rows)


def rows_csv(store: Store, items: Collection[str]) -> str:
    """Every measurement of these images as CSV."""
    items = set(items)
    return _csv([["item", "class", "method", *store.columns], *(row for row in store.rows() if row[0] in items)])


def _csv(rows: Sequence[Sequence[Any]]) -> str:
    opened = io.StringIO()
    csv.writer(opened, lineterminator="\n").writerows(rows)
    return opened.getvalue()

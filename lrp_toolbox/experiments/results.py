"""Measurements as numbers and tables: Table I, sorted by μ_w, and whether the order of its rows is more than chance."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from .. import text
from ..attribution import Method
from ..metrics import Curve, Estimate, Localisation, Numbers, Summary, over_size, summarise
from .measure import Occlude
from .store import Store


@dataclass(frozen=True, eq=False)
class Localised:
    """The measurements of all methods on the same {class × image} pairs, in the same order.

    items, classes   (n): the image and the class of each pair
    methods          the measurements (n) of each method, by its spelling
    channels         the same, with R⁺ taken in each channel before they are summed
    names            the name of each method, by its spelling
    """

    items: Numbers
    classes: Numbers
    methods: Mapping[str, Localisation]
    channels: Mapping[str, Localisation]
    names: Mapping[str, str]

    @staticmethod
    def read(store: Store, asked: Mapping[str, Method], items: Collection[str]) -> Localised:
        """The measurements of these images by the methods that are asked for, by spelling."""
        rows = _by_method(store, list(asked), items)
        first = rows[next(iter(asked))]
        methods, channels = {}, {}
        for method, (_, values) in rows.items():
            inside, total, box, image, inside_channels, total_channels, _ = values.T
            methods[method] = Localisation(inside, total, box.astype(np.int64), image.astype(np.int64))
            channels[method] = Localisation(inside_channels, total_channels, box.astype(np.int64), image.astype(np.int64))
        own = [method.name for method in asked.values()]
        names = {spec: m.name if own.count(m.name) == 1 else f"{m.name} ({spec})" for spec, m in asked.items()}
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
    pairs = {method: [row[:2] for row in found.get(method, [])] for method in methods}
    if not any(pairs.values()):
        raise ValueError(f"{store.folder}: nothing is measured of the images that are asked for")
    for method in methods:
        if pairs[method] != pairs[methods[0]]:
            raise ValueError(f"{store.folder}: expected the same images and classes for each method, found others for {method}")
    values = {method: np.array([row[3:] for row in found[method]], float) for method in methods}
    for k, column in enumerate(store.columns):
        if column in PIXELS and not all(np.all((of[:, k] >= 0) & (of[:, k] < 1 << 53)) for of in values.values()):
            raise ValueError(f"{store.folder}: {column}: expected numbers of pixels, found others")
    return {method: (np.array(pairs[method]), values[method]) for method in methods}


PIXELS = ("box", "image")  # columns that count pixels


# ---- Table I ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A row of the table: a method, and its paired difference to the next row."""

    method: str
    name: str
    summary: Summary
    better: Summary | None


def table(found: Localised, samples: int = 2000, progress: bool = False) -> list[Line]:
    """The rows of Table I, the largest μ_w first. A method that has no μ_w comes last."""
    with tqdm(total=2 * len(found.methods), desc="intervals", unit="row", disable=not progress) as bar:
        summaries = {}
        for m, measured in found.methods.items():
            summaries[m] = summarise(measured, found.items, samples=samples)
            bar.update()
        order = sorted(summaries, key=lambda m: -np.nan_to_num(summaries[m].mu_w.value))
        below, lines = dict(itertools.pairwise(order)), []
        for m in order:
            other = found.methods[below[m]] if m in below else None
            better = None if other is None else summarise(found.methods[m], found.items, minus=other, samples=samples)
            lines.append(Line(m, found.names[m], summaries[m], better))
            bar.update()
    return lines


MEANING = (
    "μ is the share of the positive relevance that lies in the boxes of the class. μ_w is μ divided by the share of the image "
    "that these boxes cover: 1 if relevance is spread evenly, and larger if it lies on the object."
)


def finding(lines: Sequence[Line]) -> str:
    """Which method is first by μ_w, by how much, and whether this is more than chance."""
    first, *others = lines
    if not first.summary.mu_w.n:
        return "No pair of a class and an image could be measured."
    said = f"{first.name} is first, with a mean μ_w of {first.summary.mu_w.value:.2f}."
    if not others or first.better is None:
        return f"{said} No other method was measured."
    by = first.better.mu_w
    if not by.n:
        return f"{said} No pair was measured with {others[0].name}, too."
    said += f" {others[0].name} is second; the mean difference, pair by pair, is {by.value:.2f}."
    if not by.has_interval:
        return f"{said} There are too few images to say whether this is more than chance."
    if _excludes_0(by):
        return f"{said} Its 95 % interval, {by.low:.2f} to {by.high:.2f}, excludes 0."
    return f"{said} Its 95 % interval, {by.low:.2f} to {by.high:.2f}, contains 0: the order of these two may be chance."


Table = list[tuple[str, ...]]  # a header, and rows


def table_1(lines: Sequence[Line]) -> Table:
    """Table I as text, with medians and intervals. A difference has a star if its interval excludes 0.000."""
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
    return f"{difference}{' *' if _excludes_0(difference) else ''}"


def _excludes_0(difference: Estimate) -> bool:
    """Whether the interval excludes 0.000, as it is printed."""
    return bool(difference.low > 0.0005 or difference.high < -0.0005)


def choices(found: Localised, lines: Sequence[Line]) -> Table:
    """How the numbers, and the place of each row, depend on choices that the paper does not make."""
    whole = {line.method: line.summary for line in lines}
    columns: dict[str, dict[str, float]] = {
        "μ_w": {m: s.mu_w.value for m, s in whole.items()},
        "R⁺ in each channel": {m: _mean(found.channels[m].mu_w) for m in whole},
        "boxes ≥ 1 %": {m: _mean(_of_larger(found.methods[m], 0.01)) for m in whole},
        "median μ_w": {m: s.median_mu_w.value for m, s in whole.items()},
        "mean μ": {m: s.mu.value for m, s in whole.items()},
    }
    orders = {name: sorted(whole, key=lambda m, v=values: -np.nan_to_num(v[m])) for name, values in columns.items()}  # type: ignore[misc]
    rows: Table = [("method", *columns)]
    for line in lines:
        places = {name: order.index(line.method) + 1 for name, order in orders.items()}
        cells = [(values[line.method], places[name]) for name, values in columns.items()]
        rows.append((line.name, *("–" if np.isnan(value) else f"{value:.3f} ({place})" for value, place in cells)))
    return rows


def _mean(values: Numbers) -> float:
    """The mean of what is not nan; nan if there is nothing else."""
    some = values[~np.isnan(values)]
    return float(some.mean()) if some.size else float("nan")


def _of_larger(measured: Localisation, least: float) -> Numbers:
    """μ_w where the boxes cover at least so much of the image, and nan elsewhere."""
    return np.where(measured.box >= least * measured.image, measured.mu_w, np.nan)


def as_text(table: Table) -> str:
    """A table for a terminal."""
    return text.table(table, left=len(table[0]))


def as_markdown(table: Table) -> str:
    """A table for a page."""
    header, *rows = ("| " + " | ".join(row) + " |" for row in table)
    return "\n".join([header, "|---" * len(table[0]) + "|", *rows])


def counts(lines: Sequence[Line]) -> str:
    """The number of pairs behind the table, and what its signs mean."""
    s = lines[0].summary
    without = {line.name: line.summary.without_relevance for line in lines if line.summary.without_relevance}
    left_out = f"{s.empty} pairs left out, because no pixel of their boxes is seen"
    left_out += "".join(f"; {n} of {name}, without positive relevance" for name, n in without.items())
    pairs = (
        f"{s.mu.n} {{class × image}} pairs, {s.mu_25.n} of them with boxes ≤ 0.25 and {s.mu_50.n} with boxes ≤ 0.5 of the image"
    )
    brackets = (
        "In brackets: 95 % intervals of a bootstrap over images. * the interval of the paired difference to the next row "
        "excludes 0.000."
    )
    every = [e for line in lines for e in vars(line.summary).values() if isinstance(e, Estimate)]
    if not all(e.has_interval for e in every):
        brackets += " Numbers without brackets come from too few images for an interval (fewer than six)."
    return f"{pairs}; {left_out}. {brackets}"


def table_csv(lines: Sequence[Line]) -> str:
    """The table as CSV, unrounded. A number that there is not is an empty cell."""
    columns = ("mu_w", "mu_25", "mu_50", "mu", "median_mu_w", "median_mu")
    header = ["method", "name", *(f"{c}{end}" for c in columns for end in ("", "_low", "_high")), "n", "n_25", "n_50",
              "empty", "without_relevance"]  # fmt: skip
    rows: list[list[Any]] = [header]
    for line in lines:
        s = line.summary
        estimates: list[Estimate] = [getattr(s, column) for column in columns]
        numbers = ["" if np.isnan(value) else value for e in estimates for value in (e.value, e.low, e.high)]
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

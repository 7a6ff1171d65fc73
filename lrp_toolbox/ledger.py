"""Where relevance went. For every layer: what arrived, what was passed on, and what became of the rest.

    arriving = passed + bias + ε + empty + padding

bias      absorbed by b_j in the denominator (Eq. 1 has no bias; a network has)
ε         absorbed by the stabiliser of Eq. 2
empty     nothing to divide by: z_j = 0, or z⁺_j or z⁻_j is empty
padding   a window that sees nothing but padding has no one to give to

In Fractions this is an equation. In floating point its two sides differ by rounding, which is a column of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import reduce
from typing import Any

import numpy as np

from . import backend
from .backend import Array
from .modules.container import join
from .rules import Rule
from .text import table

REASONS = ("bias", "eps", "empty", "padding")
AMOUNTS = ("arriving", "passed", *REASONS)


@dataclass(frozen=True, eq=False)
class Entry:
    """One layer's page. Every amount has one number for each sample and target."""

    name: str
    rule: str
    arriving: Array
    passed: Array
    bias: Array
    eps: Array
    empty: Array
    padding: Array

    @property
    def absorbed(self) -> Array:
        return self.bias + self.eps + self.empty + self.padding

    @property
    def rounding(self) -> Array:
        """What is left unexplained: 0 in Fractions, rounding in floats."""
        return self.arriving - self.passed - self.absorbed


@dataclass(frozen=True)
class Ledger:
    """The pages of all layers, from the output down to the input. `print(ledger)` shows the table.

    `ledger[i]` is the ledger of one sample or target, or whatever `i` picks from the leading axes.

    >>> from lrp_toolbox import Linear, ReLU, Sequential, Z, explain
    >>> w, v, b = np.asarray([[1.0, 1.0], [1.0, -2.0]]), np.asarray([[2.0], [5.0]]), np.asarray([1.0])
    >>> net = Sequential(hidden=Linear(w), relu=ReLU(), out=Linear(v, b))
    >>> print(explain(net, np.asarray([1.0, 2.0]), target=0, composite=Z()).ledger)
    layer   rule  arriving  passed  bias  ε  empty  padding  rounding
    out     z            7       6     1  ·      ·        ·         ·
    hidden  z            6       6     ·  ·      ·        ·         ·
    total                7       6     1  ·      ·        ·         ·
    """

    entries: tuple[Entry, ...]
    start: Array  # relevance that was put in, at the output
    end: Array  # relevance that came out, at the input

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: Any) -> Ledger:
        return self._map(lambda a: a[index])

    def entry(self, name: str) -> Entry:
        """The page of the layer of that name."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise KeyError(f"no layer {name!r} in this ledger; there are {', '.join(e.name for e in self.entries)}")

    def absorbed(self, reason: str) -> Array:
        """Σ over the layers of what `reason` ("bias", "eps", "empty", "padding") took."""
        if reason not in REASONS:
            raise ValueError(f"reason: expected one of {', '.join(REASONS)}, got {reason!r}")
        return reduce(lambda a, b: a + b, (getattr(entry, reason) for entry in self.entries), self.start * 0)

    @property
    def rounding(self) -> Array:
        """start − end − all that was absorbed: 0 in Fractions, rounding in floats."""
        return self.start - self.end - sum(self.absorbed(reason) for reason in REASONS)

    @staticmethod
    def merge(ledgers: Sequence[Ledger], join: Callable[[list[Array]], Array]) -> Ledger:
        """The ledgers of several samples or targets as one, for a `join` that puts their arrays side by side."""
        pages = zip(*(ledger.entries for ledger in ledgers), strict=True)
        entries = [replace(p[0], **{name: join([getattr(e, name) for e in p]) for name in AMOUNTS}) for p in pages]
        return Ledger(tuple(entries), join([e.start for e in ledgers]), join([e.end for e in ledgers]))

    def _map(self, f: Callable[[Array], Array]) -> Ledger:
        entries = tuple(replace(e, **{name: f(getattr(e, name)) for name in AMOUNTS}) for e in self.entries)
        return Ledger(entries, f(self.start), f(self.end))

    def __str__(self) -> str:
        """The table. Several samples or targets are added up; layers that pass everything on are left out."""

        def amount(a: Array) -> str:
            value = float(np.sum(backend.to_numpy(a)))
            return "·" if value == 0 else f"{value:.4g}"

        columns = ("arriving", "passed", *REASONS, "rounding")
        rows: list[tuple[str, ...]] = [("layer", "rule", *columns[:2], "bias", "ε", *columns[4:])]
        for entry in self.entries:
            if entry.rule not in ("=", "max"):
                rows.append((entry.name, entry.rule, *(amount(getattr(entry, column)) for column in columns)))
        taken = [amount(self.absorbed(reason)) for reason in REASONS]
        rows.append(("total", "", amount(self.start), amount(self.end), *taken, amount(self.rounding)))
        return table(rows, left=2)


@dataclass
class Recorder:
    """A book that is being written while relevance is on its way. One for each explanation; it belongs to one thread.

    `lead` counts the leading axes (samples, targets) over which nothing is summed. `keep` names layers (patterns over
    their names) whose outputs' relevance is to be kept.
    """

    lead: int
    keep: Sequence[str] = ()
    entries: list[Entry] = field(default_factory=list)
    kept: dict[str, Array] = field(default_factory=dict)
    _last: tuple[Array, Array] | None = None  # what was added up last, and its sum: it arrives at the next layer

    def book(self, name: str = "") -> Page:
        """The page of the layer of that name; pages for the layers inside of it are made with `at`."""
        return Page(self, name)

    def close(self, R: Array, R_in: Array) -> Ledger:
        """The ledger, once the relevance R of the output has become R_in of the input."""
        return Ledger(tuple(self.entries), self.sum(R), self.sum(R_in))

    def sum(self, R: Array) -> Array:
        """Σ R over all but the leading axes."""
        if self._last is None or self._last[0] is not R:
            self._last = R, self.amount(lambda R: R, R)
        return self._last[1]

    def amount(self, f: Callable[..., Array], *arrays: Array) -> Array:
        """Σ f(*arrays) over all but the leading axes."""
        return backend.total(f, self.lead, *arrays)


@dataclass
class Page:
    recorder: Recorder
    name: str
    lost: dict[str, Array] = field(default_factory=dict)

    def at(self, name: str) -> Page:
        return Page(self.recorder, join(self.name, name))

    def lose(self, reason: str, f: Callable[..., Array], *arrays: Array) -> None:
        amount = self.recorder.amount(f, *arrays)
        self.lost[reason] = self.lost[reason] + amount if reason in self.lost else amount

    def close(self, rule: Rule, R_arriving: Array, R_passed: Array) -> None:
        arriving = self.recorder.sum(R_arriving)
        lost = {reason: self.lost.get(reason, arriving * 0) for reason in REASONS}
        passed = self.recorder.sum(R_passed)
        self.recorder.entries.append(Entry(self.name, rule.symbol, arriving, passed, **lost))
        if any(fnmatchcase(self.name, pattern) for pattern in self.recorder.keep):
            self.recorder.kept[self.name] = R_arriving

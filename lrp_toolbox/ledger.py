"""Where relevance went. For every layer: what arrived, what was passed on, and what became of the rest.

    arriving = passed + bias + ε + zero denominator + padding

bias               absorbed by b_j in the denominator (Eq. 1 has no bias; a network has one)
ε                  absorbed by the stabiliser of Eq. 2
zero denominator   lost because z_j = 0, or because z⁺_j or z⁻_j is 0: there is nothing to divide by
padding            lost because a window sees only padding, and no input

In Fractions this is an equation. In floating point the two sides differ by rounding, which has a column of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from . import backend, kernels
from .backend import Array, Value
from .rules import Rule
from .text import table

REASONS = ("bias", "eps", "zero_denominator", "padding")
TITLES = {"eps": "ε", "zero_denominator": "zero denominator"}  # of columns
AMOUNTS = ("arriving", "passed", *REASONS)
TIES = {"max": "share", "first max": "first"}  # by the symbol of the rule: what tied winners of max-pooling get


@dataclass(frozen=True, eq=False)
class Entry:
    """What one layer did. Every amount has one number for each sample and target."""

    name: str
    rule: str
    arriving: Array
    passed: Array
    bias: Array
    eps: Array
    zero_denominator: Array
    padding: Array

    @property
    def absorbed(self) -> Array:
        return self.bias + self.eps + self.zero_denominator + self.padding

    @property
    def rounding(self) -> Array:
        """arriving − passed − absorbed: 0 in Fractions, rounding in floats."""
        return self.arriving - self.passed - self.absorbed


@dataclass(frozen=True)
class Ledger:
    """The entries of all layers, from the output down to the input. `print(ledger)` shows the table.

    `ledger[i]` is the ledger of one sample or target, or whatever `i` picks from the leading axes.

    >>> from lrp_toolbox import Linear, ReLU, Sequential, Z, explain
    >>> w, v, b = np.asarray([[1.0, 1.0], [1.0, -2.0]]), np.asarray([[2.0], [5.0]]), np.asarray([1.0])
    >>> net = Sequential(hidden=Linear(w), relu=ReLU(), out=Linear(v, b))
    >>> print(explain(net, np.asarray([1.0, 2.0]), target=0, composite=Z()).ledger)
    layer   rule  arriving  passed  bias  ε  zero denominator  padding  rounding
    out     z            7       6     1  ·                 ·        ·         ·
    hidden  z            6       6     ·  ·                 ·        ·         ·
    total                7       6     1  ·                 ·        ·         ·
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
        """The entry of the layer of that name."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise KeyError(f"no layer {name!r} in this ledger; there are {', '.join(e.name for e in self.entries)}")

    def absorbed(self, reason: str) -> Array:
        """Σ over the layers of what was lost to `reason`: "bias", "eps", "zero_denominator" or "padding"."""
        if reason not in REASONS:
            raise ValueError(f"reason: expected one of {', '.join(REASONS)}, got {reason!r}")
        return reduce(add, (getattr(entry, reason) for entry in self.entries), self.start * 0)

    @property
    def rounding(self) -> Array:
        """start − end − all that was absorbed: 0 in Fractions, rounding in floats."""
        return self.start - self.end - sum(self.absorbed(reason) for reason in REASONS)

    @staticmethod
    def merge(ledgers: Sequence[Ledger], join: Callable[[list[Array]], Array]) -> Ledger:
        """The ledgers of several samples or targets as one, for a `join` that puts their arrays side by side."""
        columns = zip(*(ledger.entries for ledger in ledgers), strict=True)
        entries = [replace(p[0], **{name: join([getattr(e, name) for e in p]) for name in AMOUNTS}) for p in columns]
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
        rows: list[tuple[str, ...]] = [("layer", "rule", *(TITLES.get(column, column) for column in columns))]
        for entry in self.entries:
            if entry.rule not in ("=", *TIES) or np.any(backend.to_numpy(entry.absorbed) != 0):
                rows.append((entry.name, entry.rule, *(amount(getattr(entry, column)) for column in columns)))
        taken = [amount(self.absorbed(reason)) for reason in REASONS]
        rows.append(("total", "", amount(self.start), amount(self.end), *taken, amount(self.rounding)))
        found = dict.fromkeys(TIES[entry.rule] for entry in self.entries if entry.rule in TIES)
        return table(rows, left=2) + "".join(f"\nties in max-pooling: {what}" for what in found)


@dataclass
class Recorder:
    """Writes a ledger while relevance goes back through a net. One for each explanation; not for several threads.

    `lead` counts the leading axes (samples, targets) that are kept apart. `keep` names layers (patterns over names) whose
    outputs' relevance is kept.
    """

    lead: int
    keep: Sequence[str] = ()
    entries: list[Entry] = field(default_factory=list)
    kept: dict[str, Array] = field(default_factory=dict)
    _lost: dict[str, Array] = field(default_factory=dict)  # by reason, of the layer at work
    _last: tuple[Array, Array] | None = None  # the last relevance that was added up, and its sum: it arrives at the next layer

    def record_loss(self, reason: str, f: Callable[..., Array], *arrays: Array) -> None:
        """Σ f(*arrays) was lost to `reason`, for an f that works on each element by itself."""
        amount = kernels.total(f, self.lead, *arrays)
        self._lost[reason] = self._lost[reason] + amount if reason in self._lost else amount

    def close(self, name: str, rule: Rule, R: Value, R_in: Value) -> None:
        """The layer of that name is done: R arrived, and R_in was passed on."""
        arriving, passed = self._sum(R), self._sum(R_in)
        lost = {reason: self._lost.get(reason, arriving * 0) for reason in REASONS}
        self._lost = {}
        self.entries.append(Entry(name, rule.symbol, arriving, passed, **lost))
        if any(fnmatchcase(name, pattern) for pattern in self.keep):
            self.kept[name] = R

    def ledger(self, R: Value, R_in: Value) -> Ledger:
        """The whole ledger, once the relevance R of the output has become R_in of the input."""
        return Ledger(tuple(self.entries), self._sum(R), self._sum(R_in))

    def _sum(self, R: Value) -> Array:
        """Σ R over all but the leading axes; of several values, all together."""
        if isinstance(R, tuple):
            return reduce(add, map(self._sum, R))
        if self._last is None or self._last[0] is not R:
            self._last = R, kernels.total(lambda R: R, self.lead, R)
        return self._last[1]

"""Explanations as numbers: what the command and the page put into a .npz file, without pickles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .backend import Array, to_numpy
from .composites import RuleTable
from .ledger import AMOUNTS, Ledger

COLUMNS = (*AMOUNTS, "rounding")  # the amounts of a ledger's entry


def arrays(
    relevance: Sequence[Array],
    logits: Array,
    classes: Sequence[str],
    targets: Sequence[int],
    methods: Sequence[str],
    tables: Sequence[RuleTable | None],
    ledgers: Sequence[Ledger | None],
) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays of a .npz, for one photograph.

    relevance        R by each method: (method, target, height, width, channel)
    logits, classes  a number and a name for each class;   targets   the indices of the classes that are explained
    methods          their names;   rules   which layer follows which rule, as text, "" for methods that are not LRP
    ledger           (method, target, layer, amount), NaN for methods that are not LRP
    ledger_layers, ledger_amounts   the names of the last two axes of the ledger
    """
    layers = next(([entry.name for entry in ledger] for ledger in ledgers if ledger is not None), [])
    amounts = np.full((len(methods), len(targets), len(layers), len(COLUMNS)), np.nan)
    for k, ledger in enumerate(ledgers):
        if ledger is not None:
            rows = [[to_numpy(getattr(entry, column)) for column in COLUMNS] for entry in ledger]
            amounts[k] = np.moveaxis(np.asarray(rows, np.float64).reshape(len(layers), len(COLUMNS), -1), -1, 0)
    return {
        "relevance": np.stack([to_numpy(R) for R in relevance]),
        "logits": to_numpy(logits),
        "classes": np.asarray(classes, dtype=np.str_),
        "targets": np.asarray(targets),
        "methods": np.asarray(methods, dtype=np.str_),
        "rules": np.asarray(["" if table is None else str(table) for table in tables], dtype=np.str_),
        "ledger": amounts,
        "ledger_layers": np.asarray(layers, dtype=np.str_),
        "ledger_amounts": np.asarray(COLUMNS),
    }

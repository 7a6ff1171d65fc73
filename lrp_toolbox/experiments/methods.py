"""The methods of an experiment: each once, under one spelling."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from ..attribution import Method, MissingPatternsError, parse_method
from ..io import Model

BASELINE = "uniform"
# The columns (a) … (g) of Fig. 1.
COLUMNS = (
    "z",
    "alphabeta:alpha=1",
    "guided_backprop",
    "pattern_attribution",
    "cmp:alpha=1,flat=0",
    "cmp:alpha=1,flat=3",
    "cmp:flat=all",
)
# The rows of Table I.
ROWS = (
    BASELINE,
    "z",
    "alphabeta:alpha=1",
    "alphabeta:alpha=2",
    "guided_backprop",
    "pattern_attribution",
    "gradient_input",
    "cmp:alpha=1,flat=0",
    "cmp:alpha=2,flat=0",
    "cmp:alpha=1,flat=1",
    "cmp:alpha=2,flat=1",
)


def asked_methods(specs: Sequence[str], model: Model) -> dict[str, Method]:
    """The methods that a user names, by spelling. Two spellings of the same method are one, and a note says so.

    Raises ValueError for what is no method, and MissingPatternsError if a method needs patterns and there are none.
    """
    found: dict[str, Method] = {}
    for spec in specs:
        method = parse_method(spec, model)
        if spelling(method, found) is not None:
            note(f"{spec}: {method.name} is named twice, and measured once")
            continue
        usual = next((name for name in (*ROWS, *COLUMNS) if _stands_for(name, method, model)), spec)
        found[usual] = method
    return found


def usual_methods(specs: Sequence[str], model: Model) -> dict[str, Method]:
    """The paper's methods, by spelling. Without patterns, methods that need them are left out, and a note says so."""
    found: dict[str, Method] = {}
    for spec in specs:
        try:
            found[spec] = parse_method(spec, model)
        except MissingPatternsError as error:
            note(f"{spec} is left out: {error}")
    return found


def spelling(method: Method, methods: Mapping[str, Method]) -> str | None:
    """The spelling under which the method is among `methods`; None if it is not."""
    return next((spec for spec, other in methods.items() if other == method), None)


def _stands_for(spec: str, method: Method, model: Model) -> bool:
    try:
        return parse_method(spec, model) == method
    except MissingPatternsError:
        return False


def note(text: str) -> None:
    print(f"lrp: note: {text}", file=sys.stderr)

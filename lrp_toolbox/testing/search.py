"""The search for a counterexample: hypothesis draws, and the simplest that was found in some seconds is told."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import monotonic
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis.strategies import SearchStrategy

from ..backend import Array
from ..rules import Rule
from .strategies import Case

Property = Callable[[Rule, Case], None]  # raises Found

SIMPLIFY = 3  # seconds that are spent on a simpler counterexample
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def search_for(
    name: str, properties: dict[str, Property], rule: SearchStrategy[Rule], drawn: SearchStrategy[Case], max_examples: int
) -> None:
    """Look for a counterexample to each property, one after the other."""
    quiet = settings(
        max_examples=max_examples,
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        verbosity=Verbosity.quiet,  # the message says all
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=_SLOW,
    )
    for title, holds in properties.items():
        _seek(f"{name}: {title}", holds, quiet, given(rule, drawn))


def _seek(about: str, holds: Property, quiet: settings, numbers_drawn: Callable[[Property], Callable[[], None]]) -> None:
    known: dict[str, Exception] = {}  # the counterexamples so far, of which the simplest is looked for
    until = math.inf

    @quiet
    @numbers_drawn
    def search(rule: Rule, case: Case) -> None:
        nonlocal until
        if known:
            again = known.get(_described(rule, case))
            if again is not None:
                raise again
            if monotonic() > until:
                return
        before = Case(case.module.map(np.copy), each(np.copy, case.x), np.copy(case.R))
        try:
            holds(rule, case)
        except Exception as error:
            numbers = _described(rule, before)
            if isinstance(error, Found):
                found: Exception = AssertionError(f"{about}: this does not hold for\n{numbers}  {error}")
            else:
                error.add_note(f"{about}: while this was checked, for\n{numbers}")
                found = error
            known[numbers] = found
            until = min(until, monotonic() + SIMPLIFY)
            raise found from None

    search()


class Found(Exception):  # noqa: N818  # it is no error of ours
    """A counterexample."""


def require(found: Any, expected: Any, what: str, tolerance: float | None = None) -> None:
    """That both are equal; of floats, to a tolerance, by default 1e-9 of the largest number."""
    pairs = zip(found, expected, strict=True) if isinstance(expected, tuple) else [(found, expected)]
    for a, b in pairs:
        a, b = np.asarray(a), np.asarray(b)
        if a.shape != b.shape or not _equal(a, b, tolerance):
            raise Found(f"{what}\n  expected {text(b)}\n  got      {text(a)}")


def _equal(a: Array, b: Array, tolerance: float | None) -> bool:
    if b.dtype == object:
        return bool(np.all(a == b))
    if tolerance is None:
        tolerance = 1e-9 * max(float(np.max(abs(b), initial=0)), 1.0)
    return bool(np.all(abs(a - b) <= tolerance))


def _described(rule: Rule, case: Case) -> str:
    layer = case.module
    lines = [f"  rule  = {rule}", f"  layer = {layer}"]
    lines += [f"    {name} = {text(a)}" for name, a in layer.own_parameters().items()]
    xs = case.x if isinstance(case.x, tuple) else (case.x,)
    return "\n".join([*lines, *(f"  x = {text(x)}" for x in xs), f"  R = {text(case.R)}\n"])


def text(a: Any) -> str:
    return np.array2string(np.asarray(a), separator=", ", formatter={"all": str}).replace("\n", "\n    ")


def each(f: Callable[..., Any], *values: Any) -> Any:
    """f of arrays, or of each of the arrays of several inputs."""
    return tuple(f(*parts) for parts in zip(*values, strict=True)) if isinstance(values[0], tuple) else f(*values)

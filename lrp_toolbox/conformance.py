"""The public conformance cases, run against this package: `lrp conformance`.

A case is a small network, an input, a rule for each layer, and the answer in exact fractions; `conformance/README.md` is the
specification. The answers come from formulas that share no code with this package.
"""

from __future__ import annotations

import importlib
import json
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numpy as np

from . import backend, modules, rules
from .backend import Array
from .composites import Composite
from .explain import explain
from .modules.elementwise import Taylor
from .text import table

Verdict = Literal["exact", "to rounding", "wrong", "cannot express"]
DTYPES = ("fraction", "float64", "float32")
ARRAYS = ("numpy", "array_api_strict", "cupy")
TOLERANCE = {"fraction": 1e-12, "float64": 1e-12, "float32": 1e-5}  # of the largest number of a case
SYMBOLS = {rule.__name__.lower(): rule.symbol for rule in rules.RULES} | {"winner": "max", "pass": "=", "taylor": "Taylor"}


KEYS = ("id", "catches", "rule", "layer", "net", "input", "start", "output", "relevance", "ledger")  # of a case

# ---- Reading ---------------------------------------------------------------------------------------------------------


def default_folder() -> Path:
    """`conformance/` of a clone, or what was installed with the package."""
    beside = Path(__file__).resolve().parent.parent
    user = sysconfig.get_path("data", sysconfig.get_preferred_scheme("user"))
    installed = [Path(base) / "share" / "lrp_toolbox" / "conformance" for base in (beside, sysconfig.get_path("data"), user)]
    return next((f for f in (beside / "conformance", *installed) if (f / "cases").is_dir()), beside / "conformance")


def read_cases(folder: Path) -> list[dict[str, Any]]:
    """All cases of `folder`/cases/*.json, or of `folder`/*.json.

    Raises FileNotFoundError if there are none, and ValueError for what is none.
    """
    files = sorted((folder / "cases").glob("*.json")) or sorted(folder.glob("*.json"))
    cases = []
    for file in files:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{file}: no JSON: {error}") from error
        if isinstance(content, dict) and "cases" in content:
            if content.get("format") != 1:
                raise ValueError(f"{file}: expected format 1, got {content.get('format')!r}")
            cases += _cases(f"{file}", content["cases"])
    if not cases:
        raise FileNotFoundError(f"{folder}: no conformance cases (cases/*.json)")
    return cases


# ---- From a case to a net --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Numbers:
    """What the numbers of a case become: arrays of one module and dtype."""

    arrays: str = "numpy"
    dtype: str = "fraction"

    def scalar(self, value: int | str) -> Any:
        return Fraction(value) if self.dtype == "fraction" else float(Fraction(value))

    def array(self, nested: Any) -> Array:
        """Nested lists of numbers, ints or "p/q", as an array."""
        exact = np.vectorize(Fraction, otypes=[object])(np.asarray(nested, dtype=object))
        if self.dtype == "fraction":
            return exact
        return backend.asarray(exact.astype(self.dtype), importlib.import_module(self.arrays))

    def optional(self, nested: Any) -> Array | None:
        return None if nested is None else self.array(nested)


def _tuple(value: Any) -> Any:
    return tuple(map(_tuple, value)) if isinstance(value, list) else value


def _options(node: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: _tuple(node[name]) for name in names}


def _convolution(kind: Any, *more: str) -> Callable[[dict[str, Any], Numbers], modules.Module]:
    names = ("stride", "padding", "dilation", "groups", *more)
    return lambda node, n: kind(n.array(node["w"]), n.optional(node["b"]), **_options(node, *names))


def _pooling(kind: Any, *more: str) -> Callable[[dict[str, Any], Numbers], modules.Module]:
    return lambda node, n: kind(**_options(node, "kernel", "stride", "padding", "ceil_mode", *more))


def _maximum(kind: Any) -> Callable[[dict[str, Any], Numbers], modules.Module]:
    names = ("kernel", "stride", "padding", "ceil_mode") if "Adaptive" not in kind.__name__ else ("size",)
    return lambda node, n: kind(**_options(node, *names), ties=node["rule"].get("ties", "share"))


def _weights(kind: Any) -> Callable[[dict[str, Any], Numbers], modules.Module]:
    return lambda node, n: kind(n.array(node["w"]), n.optional(node["b"]))


LAYERS: dict[str, Callable[[dict[str, Any], Numbers], modules.Module]] = {
    "dense": _weights(modules.Linear),
    "scale": _weights(modules.Scale),
    "conv1d": _convolution(modules.Conv1D),
    "conv2d": _convolution(modules.Conv),
    "conv3d": _convolution(modules.Conv3D),
    "conv_transpose2d": _convolution(modules.ConvTranspose, "output_padding"),
    "sum_pool2d": _pooling(modules.SumPool),
    "avg_pool1d": _pooling(modules.AvgPool1D, "count_include_pad"),
    "avg_pool2d": _pooling(modules.AvgPool, "count_include_pad"),
    "avg_pool3d": _pooling(modules.AvgPool3D, "count_include_pad"),
    "adaptive_avg_pool2d": lambda node, n: modules.AdaptiveAvgPool(_tuple(node["size"])),
    "max_pool1d": _maximum(modules.MaxPool1D),
    "max_pool2d": _maximum(modules.MaxPool),
    "max_pool3d": _maximum(modules.MaxPool3D),
    "adaptive_max_pool2d": _maximum(modules.AdaptiveMaxPool),
    "batch_norm": lambda node, n: modules.BatchNorm(
        **{name: n.array(node[name]) for name in ("mean", "variance", "gamma", "beta")}, eps=n.scalar(node["eps"])
    ),
    "lrn": lambda node, n: modules.LRN(node["size"], *(n.scalar(node[name]) for name in ("alpha", "beta", "k"))),
    "relu": lambda node, n: modules.ReLU(),
    "leaky_relu": lambda node, n: modules.LeakyReLU(n.scalar(node["slope"])),
    "dropout": lambda node, n: modules.Dropout(),
    "flatten": lambda node, n: modules.Flatten(),
    "sum": lambda node, n: modules.Sum(),
    "concat": lambda node, n: modules.Concatenation(),
    "multiply": lambda node, n: modules.Multiply(node["signal"]),
}

RULES: dict[str, Callable[[dict[str, Any], Numbers], rules.Rule]] = {
    "z": lambda r, n: rules.Z(bias=r["bias"]),
    "epsilon": lambda r, n: rules.Epsilon(n.scalar(r["eps"]), bias=r["bias"]),
    "alphabeta": lambda r, n: rules.AlphaBeta(n.scalar(r["alpha"]), r["bias"], r["empty_part"] == "other_part"),
    "zplus": lambda r, n: rules.ZPlus(bias=r["bias"]),
    "gamma": lambda r, n: rules.Gamma(n.scalar(r["gamma"]), bias=r["bias"]),
    "flat": lambda r, n: rules.Flat(),
    "wsquare": lambda r, n: rules.WSquare(),
    "zbox": lambda r, n: rules.ZBox(*(n.array(r[b]) if isinstance(r[b], list) else n.scalar(r[b]) for b in ("low", "high"))),
    "taylor": lambda r, n: Taylor(),
}
FOLLOWS = ("winner", "pass", "merged")  # from the layer: nothing is chosen
CONVENTIONS = {  # those that this package has no choice about
    "sign_of_zero": (1,),
    "parts_by": ("product",),
    "acts_on": ("contributions",),
    "sign_of": ("sum",),
    "counts": ("inputs",),
    "zero_denominator": ("lost",),
    "bias": ("absorb", "ignore", "distribute"),
}


def _cases(where: str, found: Any) -> list[dict[str, Any]]:
    if not isinstance(found, list):
        raise ValueError(f"{where}: cases: expected a list, got {found!r:.100}")
    for k, case in enumerate(found, 1):
        if not isinstance(case, dict) or not case.keys() >= set(KEYS):
            raise ValueError(f"{where}: case {k}: expected {', '.join(KEYS)}, got {case!r:.100}")
    return found


class CannotExpressError(ValueError):
    """A case asks for something that this package does not have."""


def build(case: dict[str, Any], numbers: Numbers) -> tuple[modules.Graph, Composite]:
    """The net of a case, and the composite that gives each layer its rule. Raises CannotExpressError."""
    nodes: list[tuple[str, modules.Module, tuple[str, ...]]] = []
    entries: list[tuple[Any, rules.Rule]] = []
    for node in case["net"]["nodes"]:
        name, kind, rule = node["name"], node["layer"], node["rule"]
        if kind not in LAYERS:
            raise CannotExpressError(f"{name}: no layer {kind!r}")
        nodes.append((name, LAYERS[kind](node, numbers), tuple(node["reads"])))
        if rule["name"] in FOLLOWS:
            continue
        for convention, known in CONVENTIONS.items():
            if rule.get(convention, known[0]) not in known:
                raise CannotExpressError(f"{name}: no {convention} {rule[convention]!r}")
        if rule["name"] not in RULES:
            raise CannotExpressError(f"{name}: no rule {rule['name']!r}")
        entries.append((name, RULES[rule["name"]](rule, numbers)))
    return modules.Graph(nodes, output=case["net"]["output"]), Composite(entries, name="case")


def answer(case: dict[str, Any], numbers: Numbers) -> dict[str, Any]:
    """What this package says: output, relevance and ledger, in the form of the case."""
    net, composite = build(case, numbers)
    x, R = numbers.array(case["input"]["input"]), numbers.array(case["start"]["relevance"])
    e = explain(net, x[None, ...], target=None, start=R[None, ...], composite=composite, keep=["*"])
    relevance = {name: backend.to_numpy(a)[0] for name, a in e.layers.items()} | {"input": backend.to_numpy(e.R)[0]}
    amounts = ("arriving", "passed", "bias", "eps", "zero_denominator", "padding")
    ledger = [{"layer": row.name} | {a: backend.to_numpy(getattr(row, a)).item() for a in amounts} for row in e.ledger]
    return {"output": backend.to_numpy(e.y)[0], "relevance": relevance, "ledger": ledger}


# ---- Comparing -------------------------------------------------------------------------------------------------------


BROKEN = (AttributeError, TypeError, ValueError, LookupError, ArithmeticError)  # what a case raises that makes no sense


@dataclass(frozen=True)
class Result:
    """What became of a case, and where it differs."""

    case: dict[str, Any]
    verdict: Verdict
    difference: str = ""

    @property
    def size(self) -> int:
        """How long the case is, in characters."""
        return len(json.dumps([self.case["net"], self.case["input"]]))


def _pairs(case: dict[str, Any], found: dict[str, Any]) -> Iterator[tuple[str, Fraction, Any]]:
    """(what, expected, found) for every number of the answer."""

    def each(what: str, expected: Any, got: Any) -> Iterator[tuple[str, Fraction, Any]]:
        wanted = np.vectorize(Fraction, otypes=[object])(np.asarray(expected, dtype=object))
        if wanted.shape != got.shape:
            raise ValueError(f"{what}: expected shape {wanted.shape}, got {got.shape}")
        for at in np.ndindex(wanted.shape):
            yield f"{what} at {list(at)}", wanted[at], got[at]

    yield from each("output", case["output"], found["output"])
    for name, expected in case["relevance"].items():
        if name not in found["relevance"]:
            raise ValueError(f"no relevance of {name!r}")
        yield from each(f"relevance of {name}", expected, found["relevance"][name])
    rows = {row["layer"]: row for row in found["ledger"]}
    for row in case["ledger"]:
        for amount, expected in row.items():
            if amount != "layer":
                yield f"ledger of {row['layer']}, {amount}", Fraction(expected), rows[row["layer"]][amount]


def check(case: dict[str, Any], numbers: Numbers) -> Result:
    """Run a case, and compare all that it says."""
    try:
        found = answer(case, numbers)
    except CannotExpressError as error:
        return Result(case, "cannot express", str(error))
    except BROKEN as error:
        return Result(case, "wrong", f"{type(error).__name__}: {error}")
    try:
        pairs = list(_pairs(case, found))
    except BROKEN as error:
        return Result(case, "wrong", str(error))
    if all(isinstance(got, (int, Fraction)) and expected == got for _, expected, got in pairs):
        return Result(case, "exact")
    allowed = TOLERANCE[numbers.dtype] * max(abs(float(expected)) for _, expected, _ in pairs)
    for what, expected, got in pairs:
        if not abs(float(got) - float(expected)) <= allowed:
            return Result(case, "wrong", f"{what}: expected {expected}, got {got}")
    return Result(case, "to rounding")


# ---- Reporting -------------------------------------------------------------------------------------------------------

MARKS: dict[Verdict, str] = {"exact": "=", "to rounding": "≈", "wrong": "✗", "cannot express": "·"}


def report(results: Sequence[Result]) -> str:
    """The table layer × rule, and the smallest case of each cell that is wrong."""
    cells: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        cells.setdefault((result.case["layer"], result.case["rule"]), []).append(result)
    layers, names = (list(dict.fromkeys(key[k] for key in cells)) for k in (0, 1))

    def cell(found: list[Result]) -> str:
        counts = {verdict: sum(result.verdict == verdict for result in found) for verdict in MARKS}
        return " ".join(f"{n}{MARKS[verdict]}" for verdict, n in counts.items() if n)

    rows = [("layer", *(SYMBOLS.get(name, name) for name in names))]
    rows += [(layer, *(cell(cells.get((layer, name), [])) for name in names)) for layer in layers]
    lines = [table(rows, left=1), ""]
    counts = {verdict: sum(result.verdict == verdict for result in results) for verdict in MARKS}
    said = ", ".join(f"{n} {verdict} {MARKS[verdict]}" for verdict, n in counts.items() if n)
    lines.append(f"{len(results)} cases: {said}")
    for (layer, name), found in cells.items():
        wrong = [result for result in found if result.verdict == "wrong"]
        if wrong:
            smallest = min(wrong, key=lambda result: result.size)
            lines += [f"{SYMBOLS.get(name, name)}, {layer}: {smallest.case['id']}", f"  {smallest.difference}"]
            lines.append(f"  this case catches: {smallest.case['catches']}")
    return "\n".join(lines)


def run(folder: Path | None, arrays: str, dtype: str | None) -> int:
    """The command: print the table. Returns 1 if a case is wrong, else 0."""
    dtype = dtype or ("fraction" if arrays == "numpy" else "float64")
    if dtype == "fraction" and arrays != "numpy":
        raise ValueError(f"dtype: {arrays} has no fractions; expected float64 or float32")
    try:
        importlib.import_module(arrays)
    except ImportError as error:
        raise ValueError(f"arrays: {arrays} cannot be imported: {error}") from error
    results = [check(case, Numbers(arrays, dtype)) for case in read_cases(folder or default_folder())]
    print(report(results))
    return int(any(result.verdict == "wrong" for result in results))

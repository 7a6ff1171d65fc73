"""explain(): forward, start relevance, walk back. What comes out is an Explanation."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

import numpy as np

from . import backend, kernels
from .backend import Array, namespace
from .composites import Composite, RuleTable
from .explanation import Explanation
from .inputs import Classifier, checked_input, net_and_classes, start_relevance
from .ledger import Ledger, Recorder
from .modules import Module, Trace, fuse, with_ties
from .modules.pooling import Ties
from .presets import as_composite
from .rules import Rule

__all__ = ["Classifier", "Explanation", "Target", "Targets", "explain"]

Target = int | str
Targets = Target | Sequence[Target] | Sequence[Sequence[Target]] | Array


def explain(
    net: Module | Classifier,
    x: Array,
    target: Targets | None = "top",
    composite: Composite | Rule | str | None = None,
    *,
    start: Literal["logit", "one"] | Array = "logit",
    keep: Sequence[str] = (),
    classes: Sequence[str] | None = None,
    ties: Ties | None = None,
) -> Explanation:
    """Why does `net` say `target` of x?

    Parameters
    ----------
    net : a module or, from `load`, a model that knows its classes. BatchNorm is fused into the layer beside it.
    x : one input, (height, width, channel) or (feature), or several with a leading axis.
    target : an index, a class name, or "top" for the largest output. A list explains several targets, which share the
        forward pass; a list of lists (samples × targets), or an array of that shape, asks each sample for its own.
    composite : which rule for which layer. A rule stands for itself in every layer; a name such as "cmp:alpha=2,flat=1" or
        "epsilon_plus_flat" stands for what it does on the command line. The default is LRP_CMP:α2+♭.
    start : the relevance to begin with: the target's own output, whatever its sign ("logit"); 1 ("one"); or an array
        like the output, with `target=None`. An array may have an axis for targets in front of the outputs.
    keep : names of layers, or patterns over them, whose outputs' relevance is to be kept.
    classes : names of the outputs, for a module that does not know them.
    ties : what several largest inputs of a max-pooling window get: "share" (equal parts) or "first" (the first takes all, as
        in frameworks); None leaves each layer as it was made, with "share" by default.

    >>> from lrp_toolbox import load, read_photo
    >>> model = load("lenet5-mnist")
    >>> e = explain(model, model.prepare(read_photo(model.example)), target=["2", "7"])
    >>> e.R.shape, e.labels.tolist()
    ((2, 28, 28, 1), ['2', '7'])

    Raises TypeError if x is of another dtype or device than the net, ValueError if it is not finite or does not fit, or if
    a class or the name of a composite is unknown.
    """
    module, names = net_and_classes(net, classes)
    module = fuse(module if ties is None else with_ties(module, ties))
    shape = checked_input(module, x)
    table = as_composite(composite, net).resolve(module, shape)
    for pattern in keep:
        if not any(fnmatchcase(layer.name, pattern) for layer in table.layers):
            raise ValueError(f"keep: {pattern!r} matches no layer; there are {', '.join(p.name for p in table.layers)}")

    batched = x.ndim > len(shape)
    X = x[:, None, ...] if batched else x[None, None, ...]  # (sample, 1, …): targets share the forward pass
    outputs = module.output_shape(shape)
    index: np.ndarray[Any, Any] | None = None
    given: Array = None
    if isinstance(start, str):
        if start not in ("logit", "one"):
            raise ValueError(f"start: expected 'logit', 'one' or an array, got {start!r}")
        index, several = _indices(target, X.shape[0], outputs, names)
        targets = index.shape[1]
    else:
        given, several = _given(start, target, X, outputs, batched)
        targets = given.shape[1]

    pieces: list[list[_Piece]] = []
    samples_at_a_time, targets_at_a_time = _sizes(table, X)
    for rows in _slices(X.shape[0], samples_at_a_time):
        with kernels.turn(X):
            trace = module.trace(X[rows, ...], context=table.context())
            if index is not None:
                index[rows] = np.where(index[rows] == TOP, _top(trace.y), index[rows])
                R = start_relevance(trace.y, index[rows], start)
            else:
                R = given[rows, ...]
            y, columns = trace.y, _slices(targets, targets_at_a_time)
            row = []
            for some in columns:
                row.append(_walk_back(module, trace, y, R[:, some, ...], table, keep, release=some is columns[-1]))
        pieces.append(row)

    axes: tuple[int | slice, ...] = (slice(None) if batched else 0, slice(None) if several else 0)
    whole = _merge([_merge(row, axis=1) for row in pieces], axis=0)
    labels = None if index is None or names is None else np.asarray(names, dtype=object)[index]
    return Explanation(
        R=whole.R[(*axes, ...)],
        y=whole.y[axes[0], 0, ...],
        target=None if index is None else index[axes],
        labels=None if labels is None else labels[axes],
        ledger=whole.ledger[axes],
        layers={name: a[(*axes, ...)] for name, a in whole.layers.items()},
        rules=table,
        classes=names,
        model=None if isinstance(net, Module) else net,
    )


# ---- One piece at a time ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Piece:
    """What was found for some samples and some targets; every array begins with these two axes."""

    R: Array
    y: Array  # (sample, 1, …)
    ledger: Ledger
    layers: dict[str, Array]


def _walk_back(net: Module, trace: Trace, y: Array, R: Array, table: RuleTable, keep: Sequence[str], release: bool) -> _Piece:
    recorder = Recorder(lead=2, keep=keep)
    R_in = net.relprop(trace, R, table.context(recorder, release))
    return _Piece(R_in, y, recorder.ledger(R, R_in), recorder.kept)


def _merge(pieces: list[_Piece], axis: int) -> _Piece:
    """Pieces side by side along the axis of samples (0) or targets (1)."""
    if len(pieces) == 1:
        return pieces[0]

    def join(arrays: list[Array]) -> Array:
        return namespace(*arrays).concat(arrays, axis=axis)

    return _Piece(
        R=join([p.R for p in pieces]),
        y=join([p.y for p in pieces]) if axis == 0 else pieces[0].y,
        ledger=Ledger.merge([p.ledger for p in pieces], join),
        layers={name: join([p.layers[name] for p in pieces]) for name in pieces[0].layers},
    )


def _sizes(table: RuleTable, X: Array) -> tuple[int, int]:
    """How many samples, and how many targets of these, to work on at a time: batches are cut to fit."""
    itemsize = 8 if backend.is_exact(X) else namespace(X).finfo(X.dtype).bits // 8
    layers = [(sum(map(math.prod, layer.shapes)), math.prod(layer.output_shape)) for layer in table.layers]
    activations = 2 * itemsize * sum(out for _, out in layers)  # outputs, and the denominators of two parts
    relevance = 4 * itemsize * max(sum(sizes) for sizes in layers)  # the arrays of one layer on the way back
    memory = backend.memory(X)
    samples = max(1, memory // activations)
    return samples, max(1, memory // (relevance * min(samples, X.shape[0])))


def _slices(n: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, n)) for first in range(0, n, size)]


# ---- What was asked for ----------------------------------------------------------------------------------------------


def _given(start: Any, target: Any, X: Array, outputs: tuple[int, ...], batched: bool) -> tuple[Array, bool]:
    """A start relevance that was given, as (sample, target, …), and whether it is for several targets."""
    if target is not None and target != "top":
        raise ValueError("target: expected None together with a start relevance")
    backend.require_same("start", start, "x", X)
    R = start if batched else start[None, ...]
    several = R.ndim == len(outputs) + 2
    R = R if several else R[:, None, ...]
    if (R.shape[0], *R.shape[2:]) != (X.shape[0], *outputs) or R.shape[1] == 0:
        wanted = (X.shape[0], *outputs) if batched else tuple(outputs)
        raise ValueError(f"start: expected the shape of the output, {wanted}, got {tuple(start.shape)}")
    return R, several


TOP = -1


def _indices(
    target: Any, samples: int, outputs: tuple[int, ...], names: Sequence[str] | None
) -> tuple[np.ndarray[Any, Any], bool]:
    """Class indices (sample, target), TOP where the largest output is meant; and whether several targets were asked for."""
    if target is None:
        raise ValueError("target: expected a class; None goes with a start relevance")
    if len(outputs) != 1:
        raise ValueError(f"net: expected one number for each class, got outputs of shape {outputs}; flatten or pool")
    if names is not None and len(names) != outputs[0]:
        raise ValueError(f"classes: expected {outputs[0]} names, one for each output, got {len(names)}")
    if hasattr(target, "dtype"):
        target = backend.to_numpy(target).tolist()

    def index(t: Any) -> int:
        if isinstance(t, str):
            return TOP if t == "top" else _by_name(t, names)
        if isinstance(t, bool) or not hasattr(t, "__index__"):
            raise TypeError(f"target: expected an index, a class name or 'top', got {t!r}")
        i: int = t.__index__()
        if not 0 <= i < outputs[0]:
            raise ValueError(f"target: expected a class from 0 to {outputs[0] - 1}, got {i}")
        return i

    several = isinstance(target, (list, tuple))
    rows = target if several else [target]
    if several and not rows:
        raise ValueError("target: expected at least one class, got an empty list")
    if several and all(isinstance(row, (list, tuple)) for row in rows):
        if len(rows) != samples or len({len(row) for row in rows}) != 1 or not rows[0]:
            raise ValueError(f"target: expected as many targets for each of {samples} samples, got {target!r}")
    else:
        rows = [rows] * samples
    return np.asarray([[index(t) for t in row] for row in rows]), several


def _top(y: Array) -> np.ndarray[Any, Any]:
    """The largest output of each sample, (sample, 1), for y (sample, 1, class)."""
    return np.asarray([[max(range(len(row)), key=row.__getitem__) for row in rows] for rows in backend.to_numpy(y)])


def _by_name(name: str, names: Sequence[str] | None) -> int:
    if names is None:
        raise ValueError(f"target: {name!r} is a name, and this net does not know its classes; give an index, or classes=")
    found = [i for i, n in enumerate(names) if n == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(f"target: {name!r} names {len(found)} classes; give one of the indices {found}")
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"there are {', '.join(names[:20])}"
    raise ValueError(f"target: no class {name!r}; {hint}{' …' if not near and len(names) > 20 else ''}")

"""explain(): forward, start relevance, walk back. What comes out is an Explanation."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, Protocol

import numpy as np

from . import backend
from .backend import Array, namespace
from .composites import Composite, RuleTable, lrp_cmp, uniform
from .ledger import Ledger, Recorder
from .modules import Module, fuse
from .modules.container import Container
from .rules import Rule

Target = int | str
Targets = Target | Sequence[Target] | Sequence[Sequence[Target]] | Array


class Classifier(Protocol):
    """A net that knows its classes by name, such as `lrp_toolbox.load` returns."""

    @property
    def net(self) -> Module: ...
    @property
    def classes(self) -> Sequence[str]: ...


@dataclass(frozen=True, eq=False)
class Explanation:
    """What `explain` found.

    R        relevance of the input, in the shape of x; with an axis for targets, behind the one for samples, if several
             targets were asked for: (sample, target, height, width, channel)
    y        the output of the net: the logits, (sample, class)
    target   the index of the class that each R explains; None if the start relevance was handed in
    labels   the same as words
    ledger   where relevance went, with the leading axes of R
    layers   relevance of the outputs of the layers that were to be kept, by name, with the leading axes of R
    rules    which layer followed which rule
    """

    R: Array
    y: Array
    target: np.ndarray[Any, Any] | None
    labels: Any
    ledger: Ledger
    layers: Mapping[str, Array]
    rules: RuleTable

    @property
    def heatmap(self) -> Array:
        """R summed over the channels: one number for each pixel."""
        return namespace(self.R).sum(self.R, axis=-1)


def explain(
    net: Module | Classifier,
    x: Array,
    target: Targets | None = "top",
    composite: Composite | Rule | None = None,
    *,
    start: Literal["logit", "one"] | Array = "logit",
    keep: Sequence[str] = (),
    classes: Sequence[str] | None = None,
) -> Explanation:
    """Why does `net` say `target` of x?

    Parameters
    ----------
    net : a module or, from `load`, a model that knows its classes. BatchNorm is fused into the layer before it.
    x : one input, (height, width, channel) or (feature), or several with a leading axis.
    target : an index, a class name, or "top" for the largest output. A list explains several targets, which share the
        forward pass; a list of lists (samples × targets), or an array of that shape, asks each sample for its own.
    composite : which rule for which layer; a rule stands for itself in every layer. The default is LRP_CMP:α2+♭.
    start : the relevance to begin with: the target's own output, whatever its sign ("logit"); 1 ("one"); or an array
        like the output, with `target=None`. An array may have an axis for targets in front of the outputs.
    keep : names of layers, or patterns over them, whose outputs' relevance is to be kept.
    classes : names of the outputs, for a module that does not know them.

    Raises TypeError if x is of another dtype or device than the net, ValueError if it is not finite or does not fit, or if
    a class is unknown.
    """
    module, names = _net_and_classes(net, classes)
    module = fuse(module)
    shape = _check_input(module, x)
    table = _as_composite(composite).resolve(module, shape)
    for pattern in keep:
        if not any(fnmatchcase(place.name, pattern) for place in table.places):
            raise ValueError(f"keep: {pattern!r} matches no layer; there are {', '.join(p.name for p in table.places)}")

    batched = x.ndim > len(shape)
    X = x[:, None, ...] if batched else x[None, None, ...]  # (sample, 1, …): targets will share the forward pass
    trace = module.trace(X, rule=table.tree)
    y = trace.y[:, 0, ...]
    R, index, several = _start(y, target, start, names, batched)

    recorder = Recorder(lead=2, keep=keep)
    name = "" if isinstance(module, Container) else table.places[0].name
    R_in = module.relprop(trace, R, table.tree, recorder.book(name))
    ledger = Ledger(tuple(recorder.entries), recorder.amount(lambda r: r, R), recorder.amount(lambda r: r, R_in))

    axes: tuple[int | slice, ...] = (slice(None) if batched else 0, slice(None) if several else 0)
    labels = None if index is None or names is None else np.asarray(names, dtype=object)[index]
    return Explanation(
        R=R_in[(*axes, ...)],
        y=y if batched else y[0, ...],
        target=None if index is None else index[axes],
        labels=None if labels is None else labels[axes],
        ledger=ledger[axes],
        layers={kept: a[(*axes, ...)] for kept, a in recorder.kept.items()},
        rules=table,
    )


def _net_and_classes(net: Module | Classifier, classes: Sequence[str] | None) -> tuple[Module, Sequence[str] | None]:
    if isinstance(net, Module):
        return net, classes
    if not isinstance(getattr(net, "net", None), Module):
        raise TypeError(f"net: expected a module or a loaded model, got {type(net).__name__}")
    return net.net, net.classes if classes is None else classes


def _as_composite(composite: Composite | Rule | None) -> Composite:
    if composite is None:
        return lrp_cmp()
    if isinstance(composite, Rule):
        return uniform(composite)
    if not isinstance(composite, Composite):
        raise TypeError(f"composite: expected a Composite or a Rule, got {composite!r}")
    return composite


def _check_input(net: Module, x: Array) -> tuple[int, ...]:
    """The shape of one x, without the axis for samples."""
    xp = namespace(x)
    parameters = net.parameters()
    if parameters:
        backend.require_same("x", x, "the net", parameters[0])
    elif not (backend.is_exact(x) or xp.isdtype(x.dtype, "real floating")):
        raise TypeError(f"x: expected floating point numbers or Fractions, got {x.dtype}")
    if not backend.is_finite(x):
        raise ValueError("x: expected finite numbers, got NaN or infinity")
    axes = net.input_axes or max(x.ndim - 1, 1)
    if x.ndim not in (axes, axes + 1) or 0 in x.shape:
        form = {1: "(feature)", 3: "(height, width, channel)"}.get(axes, f"{axes} axes")
        raise ValueError(f"x: expected {form}, or that with an axis for samples before it, got shape {tuple(x.shape)}")
    return tuple(x.shape[x.ndim - axes :])


def _start(
    y: Array, target: Targets | None, start: Any, names: Sequence[str] | None, batched: bool
) -> tuple[Array, np.ndarray[Any, Any] | None, bool]:
    """The start relevance (sample, target, …), the classes it stands for, and whether several targets were asked for."""
    xp = namespace(y)
    if not isinstance(start, str):
        if target is not None and target != "top":
            raise ValueError("target: expected None beside a start relevance that is handed in")
        backend.require_same("start", start, "the output", y)
        R = start if batched else start[None, ...]
        several = R.ndim == y.ndim + 1
        R = R if several else R[:, None, ...]
        if (R.shape[0], *R.shape[2:]) != tuple(y.shape):
            raise ValueError(f"start: expected the shape of the output, {tuple(y.shape)}, got {tuple(start.shape)}")
        return R, None, several
    if start not in ("logit", "one"):
        raise ValueError(f"start: expected 'logit', 'one' or an array, got {start!r}")
    if target is None:
        raise ValueError("target: expected a class; None is for a start relevance that is handed in")
    if y.ndim != 2:
        shape = tuple(y.shape[1:])
        raise ValueError(f"net: expected one number for each class, got outputs of shape {shape}; flatten or pool")
    index, several = _indices(target, y, names)
    one_hot = xp.asarray(index[:, :, None] == np.arange(y.shape[1]))
    if xp.__name__ not in ("numpy", "cupy"):
        one_hot = xp.asarray(one_hot, device=y.device)
    R = y[:, None, :] if start == "logit" else backend.ones((), y)
    return xp.where(one_hot, R, backend.zeros((), y)), index, several


def _indices(target: Any, y: Array, names: Sequence[str] | None) -> tuple[np.ndarray[Any, Any], bool]:
    """Class indices (sample, target), and whether there may be several targets."""
    samples, outputs = y.shape
    if names is not None and len(names) != outputs:
        raise ValueError(f"classes: expected {outputs} names, one for each output, got {len(names)}")
    if hasattr(target, "dtype"):
        target = backend.to_numpy(target).tolist()
    top = _top(y)

    def index(t: Any, sample: int) -> int:
        if isinstance(t, str) and t == "top":
            return int(top[sample])
        if isinstance(t, str):
            return _by_name(t, names)
        if isinstance(t, bool) or not hasattr(t, "__index__"):
            raise TypeError(f"target: expected an index, a class name or 'top', got {t!r}")
        i: int = t.__index__()
        if not 0 <= i < outputs:
            raise ValueError(f"target: expected a class from 0 to {outputs - 1}, got {i}")
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
    return np.asarray([[index(t, n) for t in row] for n, row in enumerate(rows)]), several


def _top(y: Array) -> list[int]:
    host = backend.to_numpy(y)
    return [max(range(len(row)), key=row.__getitem__) for row in host]


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

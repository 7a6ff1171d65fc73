"""What is asked: the net and its classes, the input, and the relevance to begin with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from . import backend
from .backend import Array, namespace
from .modules import Module


class Classifier(Protocol):
    """A net that knows its classes by name, such as `lrp_toolbox.load` returns."""

    @property
    def net(self) -> Module: ...
    @property
    def classes(self) -> Sequence[str]: ...


def net_and_classes(net: Any, classes: Sequence[str] | None = None) -> tuple[Module, Sequence[str] | None]:
    """The module, and the names of its outputs if they are known. Raises TypeError if `net` is neither net nor model."""
    if isinstance(net, Module):
        return net, classes
    if not isinstance(getattr(net, "net", None), Module):
        raise TypeError(f"net: expected a module or a loaded model, got {type(net).__name__}")
    return net.net, net.classes if classes is None else classes


def checked_input(net: Module, x: Array) -> tuple[int, ...]:
    """The shape of one x, without the axis for samples.

    Raises TypeError if x is of another dtype or array module than the net, ValueError if it is not finite or does not fit.
    """
    xp = namespace(x)
    parameters = net.parameters()
    if parameters:
        backend.require_same("x", x, "the net", parameters[0])
    if not backend.is_exact(x) and x.dtype not in (xp.float32, xp.float64):
        raise TypeError(f"x: expected float32, float64 or Fractions, got {x.dtype}")
    if not backend.is_finite(x):
        raise ValueError("x: expected finite numbers, got NaN or infinity")
    return shape_of_one(net, x)


def shape_of_one(net: Module, x: Array) -> tuple[int, ...]:
    """The shape of one x, without the axis for samples. Raises ValueError if x has another number of axes, or is empty."""
    axes = net.input_axes or max(x.ndim - 1, 1)
    if x.ndim not in (axes, axes + 1) or 0 in x.shape:
        form = {1: "(feature)", 3: "(height, width, channel)"}.get(axes, f"{axes} axes")
        raise ValueError(f"x: expected {form}, or that with an axis for samples before it, got shape {tuple(x.shape)}")
    return tuple(x.shape[x.ndim - axes :])


def start_relevance(y: Array, index: np.ndarray[Any, Any], start: str) -> Array:
    """R of the outputs y (…, class) for the classes `index` (…, target): (…, target, class), with 0 at the other classes.

    `start`: "logit" for the output of the class itself, whatever its sign, or "one" for 1.
    """
    xp = namespace(y)
    one_hot = backend.asarray_like(index[..., None] == np.arange(y.shape[-1]), y)
    return xp.where(one_hot, y if start == "logit" else backend.ones((), y), backend.zeros((), y))

"""The protocol of all methods, and their common parts: targets, and forward passes that fit into memory."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from .. import backend
from ..backend import Array, namespace
from ..composites import layers
from ..explain import Targets, explain
from ..explanation import Explanation
from ..inputs import Classifier, shape_of_one
from ..modules import Identity, Module
from ..rules import Z


@dataclass(frozen=True)
class Method:
    """A way to attribute an output to the inputs: R = method(net, x, target). Frozen data: printable, comparable, picklable.

    `net`: a module or a loaded model. `x`: one input, (height, width, channel) or (feature), or several. `target`: as in
    `explain`: an index, a class name or "top", or a list of these, which share the forward pass. R is as `explain(…).R`:
    in the shape of x, with an axis for targets, behind the one for samples, if `target` is a list.
    """

    title: ClassVar[str] = ""

    def __call__(self, net: Module | Classifier, x: Array, target: Targets = "top") -> Array:
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The title, and the parameters that are not the usual ones: "SmoothGrad (samples=50)"."""
        own = [f"{f.name}={getattr(self, f.name)}" for f in fields(self) if getattr(self, f.name) != f.default]
        return self.title + (f" ({', '.join(own)})" if own else "")


def explained_outputs(y: Array, target: Targets, classes: Any) -> Explanation:
    """The outputs y, explained by themselves: `.target` are the classes that are meant, `.R` has y there and 0 elsewhere."""
    return explain(Identity(), y, target, Z(), classes=classes)


def same_for_all(e: Explanation) -> list[Any] | int:
    """The classes that were settled, in the form in which `explain` gives each sample its own, at whatever point x is."""
    assert e.target is not None
    index: list[Any] | int = (e.target.reshape(len(e.target), -1) if e.y.ndim == 2 else e.target).tolist()
    return index


def forward(module: Module, x: Array) -> Array:
    """y of one x, or of many, as many at a time as fit into memory."""
    shape = shape_of_one(module, x)
    if x.ndim == len(shape):
        return module.forward(x)
    largest = max(sum(map(math.prod, p.shapes)) + math.prod(p.output_shape) for p in layers(module, shape))
    step = max(1, backend.memory(x) // (16 * largest))  # up to 8 bytes a number, and room for what a layer makes on its way
    n = x.shape[0]
    ys = [module.forward(x[first : min(first + step, n), ...]) for first in range(0, n, step)]
    return ys[0] if len(ys) == 1 else namespace(x).concat(ys, axis=0)


def across_targets(a: Array, R: Array, sample_axis: bool) -> Array:
    """`a`, in the shape of x, to stand beside R, which may have an axis for targets behind the one for samples."""
    return a[:, None, ...] if sample_axis and R.ndim > a.ndim else a

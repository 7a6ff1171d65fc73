"""The baseline that every method has to beat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from .. import backend
from ..backend import Array, like, namespace
from ..explain import Targets
from ..inputs import Classifier, net_and_classes, shape_of_one
from ..modules import Module
from .base import Method, explained_outputs


@dataclass(frozen=True)
class Uniform(Method):
    """The same for every pixel, 1 in sum: the paper's baseline (Sec. IV-C)."""

    title: ClassVar[str] = "Baseline"

    def __call__(self, net: Module | Classifier, x: Array, target: Targets = "top") -> Array:
        module, classes = net_and_classes(net)
        shape = shape_of_one(module, x)
        lead = tuple(x.shape[: x.ndim - len(shape)])
        y = backend.zeros((*lead, *module.output_shape(shape)), x)  # the outputs make no difference
        index = explained_outputs(y, target, classes).target
        assert index is not None
        each = backend.zeros((*index.shape, *shape), x) + like(1, x) / math.prod(shape)
        return namespace(x).astype(each, x.dtype)

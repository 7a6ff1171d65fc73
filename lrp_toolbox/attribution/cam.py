"""Class activation maps: the places of a late feature map that support a class.

References
----------
Zhou et al. 2016, Learning deep features for discriminative localization, CVPR (CAM).
Selvaraju et al. 2017, Grad-CAM: visual explanations from deep networks via gradient-based localization, ICCV.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import backend, kernels
from ..backend import Array, namespace
from ..explain import Targets, explain
from ..inputs import Classifier, net_and_classes, shape_of_one
from ..modules import AvgPool, BatchNorm, Conv, ConvTranspose, Dropout, Flatten, Identity, Linear, Module, ReLU
from ..modules.base import Shape
from ..modules.container import Graph
from .backward import NO_RULES, Gradient
from .base import Method, across_targets, forward


@dataclass(frozen=True)
class GradCAM(Method):
    """max(0, Σ_k a_k A_k), scaled up to x: A_k are the maps of a layer, a_k the mean of ∂y_t/∂A_k over the map.

    `layer`: a name at the top level of the net, whose output the A_k are; None for the last that has a convolution, with
    the ReLU behind it. Scaling up is linear between the middles of places. R has its amount evenly in all channels.
    """

    title: ClassVar[str] = "Grad-CAM"

    layer: str | None = None

    def __call__(self, net: Module | Classifier, x: Array, target: Targets = "top") -> Array:
        module, classes = net_and_classes(net)
        shape = shape_of_one(module, x)
        head, tail = self._cut(module, shape)
        A = forward(head, x)
        g = explain(Gradient().rewired(tail), A, target, NO_RULES, start="one", classes=classes).R
        maps = self._map(g, across_targets(A, g, A.ndim > 3))
        each = _scaled_up(maps, shape)[..., None] / shape[2]
        return each + backend.zeros((*each.shape[:-1], shape[2]), x)

    def _map(self, g: Array, A: Array) -> Array:
        """(…, height, width) from the gradient g of the maps A."""
        return kernels.positive_part(_weighted(g, A))

    def _cut(self, net: Module, shape: Shape) -> tuple[Graph, Graph]:
        """The net up to the layer, and what follows."""
        if not isinstance(net, Graph):
            raise ValueError(f"net: {self.title} needs a net of several layers, got {type(net).__name__}")
        if self.layer is not None and self.layer not in net.names:
            raise ValueError(f"layer: no {self.layer!r} at the top level; there are {', '.join(net.names)}")
        shapes = net.shapes(shape)
        is_map = {name: len(shapes[name]) == 3 and shapes[name][:2] != (1, 1) for name in net.names}
        if self.layer is not None:
            if not is_map[self.layer]:
                raise ValueError(f"layer: expected one that gives a map, got {self.layer!r}, which gives {shapes[self.layer]}")
            if self.layer == net.output:
                raise ValueError(f"layer: expected a layer before the last, got {self.layer!r}, the last")
            return net.cut(self.layer)
        last = None
        for node in net.nodes:
            follows = last in node.reads and isinstance(node.module, (BatchNorm, ReLU))
            if is_map[node.name] and node.name != net.output and (_has_conv(node.module) or follows) and net.can_cut(node.name):
                last = node.name
        if last is None:
            raise ValueError(
                f"net: {self.title} uses the last map (height, width, channel) that a Conv gives, and there is none"
            )
        return net.cut(last)


@dataclass(frozen=True)
class CAM(GradCAM):
    """Σ_k a_k A_k of either sign, scaled up to x, for a net that ends in a global average and at most one dense layer.

    There a_k is w_kt / (places of the map), so that before it is scaled up, the map is y_t without its bias in sum.
    """

    title: ClassVar[str] = "CAM"

    def _map(self, g: Array, A: Array) -> Array:
        return _weighted(g, A)

    def _cut(self, net: Module, shape: Shape) -> tuple[Graph, Graph]:
        head, tail = super()._cut(net, shape)
        maps = head.output_shape(shape)
        mixing = [m for _, m in tail.walk() if not isinstance(m, (Flatten, Dropout, Identity))]
        pool = mixing[0] if mixing else tail
        averages_all = isinstance(pool, AvgPool) and pool.windows(maps).kernel == maps[:2]
        if not averages_all or pool.output_shape(maps)[:2] != (1, 1) or [type(m) for m in mixing[1:]] not in ([], [Linear]):
            raise ValueError(
                "net: CAM is for nets that end in an average over the whole map and at most one Linear behind it, got "
                f"{', '.join(type(m).__name__ for _, m in tail.walk())}; Grad-CAM is for any"
            )
        return head, tail


def _weighted(g: Array, A: Array) -> Array:
    """Σ_k a_k A_k, (…, height, width)."""
    xp = namespace(A)
    return xp.sum(xp.mean(g, axis=(-3, -2), keepdims=True) * A, axis=-1)


def _has_conv(module: Module) -> bool:
    return any(isinstance(layer, (Conv, ConvTranspose)) for _, layer in module.walk())


def _scaled_up(maps: Array, shape: Shape) -> Array:
    """(…, rows, columns) → (…, height, width), linear between the middles of places, constant beyond the outermost.

    `scipy.ndimage.zoom` gives the same numbers (a test compares them). These two products work in every array module, and on
    all maps at once.
    """
    rows, columns = (_between(n, size, maps) for n, size in zip(maps.shape[-2:], shape[:2], strict=True))
    return rows @ maps @ namespace(maps).permute_dims(columns, (1, 0))


def _between(n: int, size: int, like: Array) -> Array:
    """The matrix (size, n) that takes n values, at the middles of n pieces, to the middles of `size` pieces of the same way."""
    at = np.clip((np.arange(size) + 0.5) * n / size - 0.5, 0, n - 1)
    weights = np.maximum(0, 1 - abs(at[:, None] - np.arange(n)))
    return namespace(like).astype(backend.asarray_like(weights, like), like.dtype)

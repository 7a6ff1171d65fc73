"""What a framework does to photographs within the net, as part of our preprocessing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..backend import Array
from ..data import Preprocessing
from ..modules import Conv, Graph, Identity, Node, Scale, Sequential


def fold(p: Preprocessing, net: Graph) -> tuple[Preprocessing, Graph]:
    """A Scale at the input as part of the preprocessing, (pixel − mean) · scale · w + b = (pixel − mean') · scale'.

    A preprocessing has one scale for all channels: if they differ, w stays and is multiplied into the weights of the
    convolution that follows, or remains a Scale without bias, through which all relevance passes.
    """
    [source] = net.inputs
    while True:
        first, *others = net.nodes
        scale = first.module
        if not isinstance(scale, Scale) or len(scale.w) != len(p.mean) or not (scale.w != 0).all():
            return p, net
        if any(source in node.reads for node in others):
            return p, net
        w = np.asarray(scale.w, np.float64)
        b = np.zeros(len(w)) if scale.b is None else np.asarray(scale.b, np.float64)
        if not (w[0] > 0 and (w == w[0]).all()):
            break
        p = replace(p, mean=_shifted(p, w, b), scale=p.scale * float(w[0]))
        net = _without_first(net, others)
    p = replace(p, mean=_shifted(p, w, b))
    readers = [node for node in others if first.name in node.reads]
    following = readers[0].module if len(readers) == 1 else None
    if isinstance(following, Conv) and following.groups == 1:
        merged = replace(following, w=following.w * scale.w[:, None].astype(following.w.dtype))
        others = [replace(node, module=merged) if node is readers[0] else node for node in others]
        return p, _without_first(net, others)
    return p, net.with_modules([Scale(scale.w), *(node.module for node in others)])


def _shifted(p: Preprocessing, w: Array, b: Array) -> tuple[float, ...]:
    return tuple(float(m) for m in np.asarray(p.mean) - b / (p.scale * w))


def _without_first(net: Graph, others: list[Node]) -> Graph:
    """The net without its first node: what read its value reads the input."""
    if not others:
        return Sequential(identity=Identity())
    first, [source] = net.nodes[0].name, net.inputs
    nodes = [replace(node, reads=tuple(source if value == first else value for value in node.reads)) for node in others]
    return net.of_nodes(nodes, net.inputs, net.output)

"""Batch normalisation merged into the layer before it (decision 11)."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from ..backend import namespace
from .base import Module
from .container import Graph, Node
from .linear import BatchNorm, Conv, Linear


def fuse(net: Module) -> Module:
    """The same function with every BatchNorm that alone reads a Linear or Conv merged into it: w · γ', b · γ' + β'.

    A BatchNorm that reads anything else stays. `net` itself is returned if there is nothing to merge.
    """
    if not isinstance(net, Graph):
        return net
    net = net.with_modules([fuse(child) for child in net])
    readers = Counter(value for node in net.nodes for value in node.reads)
    kept: dict[str, Node] = {}
    now: dict[str, str] = {}  # the node that has the value of a merged one
    for node in net.nodes:
        before = kept.get(now.get(node.reads[0], node.reads[0]))
        if (
            isinstance(node.module, BatchNorm)
            and before is not None
            and isinstance(before.module, (Linear, Conv))
            and readers[node.reads[0]] == 1
            and net.output not in (before.name, node.reads[0])
        ):
            kept[before.name] = replace(before, module=_merge(before.module, node.module))
            now[node.name] = before.name
        else:
            kept[node.name] = replace(node, reads=tuple(now.get(value, value) for value in node.reads))
    if not now:
        return net
    return net.of_nodes(list(kept.values()), net.inputs, now.get(net.output, net.output))


def _merge(layer: Linear | Conv, norm: BatchNorm) -> Linear | Conv:
    scale, shift = norm.w, norm.b
    if scale.shape[0] != layer.w.shape[-1]:
        raise ValueError(f"BatchNorm: expected {layer.w.shape[-1]} channels, as many as come in, got {scale.shape[0]}")
    namespace(layer.w, scale)
    return replace(layer, w=layer.w * scale, b=shift if layer.b is None else layer.b * scale + shift)

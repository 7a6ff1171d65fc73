"""Batch normalisation merged into the layer with weights beside it (decision 11).

w (x) + b, then BatchNorm     w · γ',  b · γ' + β'                       with γ' = gamma / √(variance + eps)
BatchNorm, then w (x) + b     w · γ' over the inputs,  b + Σ_i w_ij β'_i      and β' = beta − mean · γ'
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

from ..backend import Array, namespace
from ..context import join
from .base import Layer, LinearModule, Module
from .container import Graph, Node
from .convolutions import Conv1D, Conv3D, ConvTranspose
from .elementwise import Dropout, Identity
from .linear import BatchNorm, Conv, Linear

AFTER = (Linear, Conv, Conv1D, Conv3D, ConvTranspose)  # what a BatchNorm that reads it is merged into
BEFORE = (Linear, Conv, Conv1D, Conv3D)  # what a BatchNorm that it reads is merged into, unless it pads


def fuse(net: Module) -> Module:
    """The same function with every BatchNorm merged into the layer with weights that it reads, or else that reads it.

    The value between the two has no other reader. Nesting does not matter, nor do Identity and Dropout between them. A
    convolution that pads cannot take up a shift of its inputs, since padding is not shifted. What cannot be merged stays;
    `net` itself is returned if nothing is merged.
    """
    if not isinstance(net, Graph) or not any(isinstance(layer, BatchNorm) for _, layer in net.walk()):
        return net
    flow = _Flow(net)
    merged: set[str] = set()
    for merge, names in ((flow.merge_into_source, list(flow.layers)), (flow.merge_into_reader, list(flow.layers)[::-1])):
        for name in names:
            if isinstance(flow.layers.get(name), BatchNorm) and merge(name):
                merged.add(name)
    if not merged:
        return net
    found = _without(net.transform(lambda name, layer: flow.layers.get(name, layer)), merged)
    assert found is not None, "what a BatchNorm was merged into is still there"
    return found


class _Flow:
    """The layers of a net by name, and the layers that each reads, without regard to nesting."""

    def __init__(self, net: Graph) -> None:
        self.layers: dict[str, Layer] = {}
        self.reads: dict[Any, tuple[Any, ...]] = {}

        def step(name: str, layer: Layer, value: Any) -> str:
            self.layers[name], self.reads[name] = layer, value if layer.several_inputs else (value,)
            return name

        inputs = tuple(range(len(net.inputs)))  # no names, so that a layer may be called "input"
        self.output = net.flow(inputs if net.several_inputs else inputs[0], step)
        self.readers = Counter(value for values in self.reads.values() for value in values)
        self.readers[self.output] += 1

    def merge_into_source(self, name: str) -> bool:
        norm, source = self.layers[name], self.reads[name][0]
        while isinstance(self.layers.get(source), (Identity, Dropout)) and self.readers[source] == 1:
            source = self.reads[source][0]
        layer = self.layers.get(source)
        if not isinstance(norm, BatchNorm) or not isinstance(layer, AFTER) or self.readers[source] > 1:
            return False
        self.layers[source] = _scaled_after(layer, norm)
        self._leave_out(name)
        return True

    def merge_into_reader(self, name: str) -> bool:
        norm, value = self.layers[name], name
        while True:
            reader = next((reader for reader, values in self.reads.items() if value in values), None)
            if reader is None or self.readers[value] > 1:
                return False
            layer = self.layers[reader]
            if not isinstance(layer, (Identity, Dropout)):
                break
            value = reader
        if not isinstance(norm, BatchNorm) or not isinstance(layer, BEFORE) or not _takes_shift(layer, norm):
            return False
        self.layers[reader] = _scaled_before(layer, norm)
        self._leave_out(name)
        return True

    def _leave_out(self, name: str) -> None:
        """Who reads `name` reads its source."""
        source = self.reads.pop(name)[0]
        del self.layers[name]
        self.readers[source] += self.readers[name] - 1
        for reader, values in self.reads.items():
            self.reads[reader] = tuple(source if value == name else value for value in values)
        self.output = source if self.output == name else self.output


def _scaled_after(layer: Any, norm: BatchNorm) -> Layer:
    scale, shift = norm.w, norm.b
    outputs = layer.w.shape[1] if isinstance(layer, Linear) else layer.channels[1]
    _require_channels(norm, outputs)
    xp = namespace(layer.w, scale)
    of_weights = scale
    if isinstance(layer, ConvTranspose):  # w has (in, outputs of the group)
        groups = xp.reshape(scale, (layer.groups, 1, -1))
        shape = (layer.groups, layer.w.shape[2] // layer.groups, groups.shape[-1])
        of_weights = xp.reshape(xp.broadcast_to(groups, shape), layer.w.shape[2:])
    scaled: Layer = replace(layer, w=layer.w * of_weights, b=shift if layer.b is None else layer.b * scale + shift)
    return scaled


def _scaled_before(layer: Any, norm: BatchNorm) -> Layer:
    _require_channels(norm, layer.w.shape[0] if isinstance(layer, Linear) else layer.channels[0])
    xp = namespace(layer.w, norm.w)

    def over_weights(a: Array) -> Array:
        """A number for each input channel, as (in / groups, out)."""
        inputs, outputs = layer.w.shape[-2:]
        groups = a.shape[0] // inputs
        column = xp.reshape(a, (groups, inputs, 1))
        spread = xp.broadcast_to(column, (groups, inputs, outputs // groups))
        return xp.reshape(xp.permute_dims(spread, (1, 0, 2)), (inputs, outputs))

    shift = xp.sum(layer.w * over_weights(norm.b), axis=tuple(range(len(layer.w.shape) - 1)))
    scaled: Layer = replace(layer, w=layer.w * over_weights(norm.w), b=shift if layer.b is None else layer.b + shift)
    return scaled


def _takes_shift(layer: LinearModule, norm: BatchNorm) -> bool:
    padding = () if isinstance(layer, Linear) else layer.padding  # type: ignore[attr-defined]
    return not any(map(any, padding)) or bool(namespace(norm.b).all(norm.b == 0))


def _require_channels(norm: BatchNorm, channels: int) -> None:
    if norm.mean.shape[0] != channels:
        raise ValueError(f"BatchNorm: expected {channels} channels, as many as come in, got {norm.mean.shape[0]}")


def _without(graph: Any, names: set[str], prefix: str = "") -> Graph | None:
    """The graph without the layers of these names, and without the graphs that are empty then; None if it is one of them."""
    kept: list[Node] = []
    now: dict[str, str] = {}  # the value that stands for that of a node which is left out
    for node in graph.nodes:
        name = join(prefix, node.name)
        module = _without(node.module, names, name) if isinstance(node.module, Graph) else node.module
        if module is None or name in names:
            now[node.name] = now.get(node.reads[0], node.reads[0])
        else:
            kept.append(Node(node.name, module, tuple(now.get(value, value) for value in node.reads)))
    if not kept:
        return None
    if not now:
        same: Graph = graph.with_modules([node.module for node in kept])
        return same
    fewer: Graph = graph.of_nodes(kept, graph.inputs, now.get(graph.output, graph.output))
    return fewer

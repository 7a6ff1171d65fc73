"""What is simplified in every network that was read.

A pass takes and returns nodes by name. Each node comes after its inputs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..data import Preprocessing
from ..modules import (
    AvgPool,
    BatchNorm,
    Conv,
    Conv1D,
    Conv3D,
    Dropout,
    Flatten,
    Identity,
    MaxPool,
    Module,
    Pad,
    Scale,
    Sigmoid,
    SoftMax,
)
from .graph import Node

Nodes = Mapping[str, Node]
Border = tuple[tuple[int, int], ...]  # (before, after) of each axis of places: ((top, bottom), (left, right))


def leading_to(nodes: Nodes, target: str) -> Nodes:
    """The nodes that `target` depends on."""
    needed = {target}
    for node in reversed(list(nodes.values())):
        if node.name in needed:
            needed.update(node.inputs)
    return {name: node for name, node in nodes.items() if name in needed}


def drop_last_activation(nodes: Nodes, target: str) -> tuple[Nodes, str, Node | None]:
    """The net without a softmax or sigmoid at its end, its output, and the node that was left out, if there was one.

    Layers behind it that only rearrange numbers stay.
    """
    name, reader = target, ""
    while name in nodes:
        node = nodes[name]
        if isinstance(node.module, (SoftMax, Sigmoid)):
            kept = {other: n for other, n in nodes.items() if other != name}
            if not reader:
                return kept, node.inputs[0], node
            return kept | {reader: replace(nodes[reader], inputs=node.inputs)}, target, node
        if not isinstance(node.module, (Flatten, Dropout, Identity)):
            break
        name, reader = node.inputs[0], name
    return nodes, target, None


def absorb_padding(nodes: Nodes) -> Nodes:
    """Zeros that a layer of their own puts around a map become the padding of the convolution or pooling that reads them.

    A convolution takes all. Average pooling takes them if it counts its own padding in the mean, or has none. Max-pooling takes
    them if the map is ≥ 0 by structure: then zeros are never the larger numbers. Pooling takes less than its kernel.
    """
    found: dict[str, Node] = {}
    nonnegative: dict[str, bool] = {}
    inside: dict[str, tuple[str, Border]] = {}  # of what a Pad makes: the value in the middle, and all zeros around it
    for node in nodes.values():
        known = [nonnegative.get(name, False) for name in node.inputs]
        given = tuple(known) if node.module.several_inputs else known[0]
        nonnegative[node.name] = node.module.output_is_nonnegative(given)
        middle, border = inside.get(node.inputs[0], (node.inputs[0], None))
        if isinstance(node.module, Pad) and node.module.mode == "zeros":
            own: Border = node.module.padding  # type: ignore[assignment]
            inside[node.name] = middle, plus(border, own) if border else own
        padded = _padded(node.module, border, known[0]) if border else None
        found[node.name] = node if padded is None else replace(node, inputs=(middle,), module=padded)
    return found


def _padded(module: Module, border: Border, nonnegative: bool) -> Module | None:
    """The layer with `border` as further padding; None if that is not the same."""
    if isinstance(module, (Conv, Conv1D, Conv3D)):
        return replace(module, padding=plus(border, module.padding))  # type: ignore[arg-type]
    if not isinstance(module, (MaxPool, AvgPool)) or module.kernel is None or module.ceil_mode:
        return None
    total = plus(border, module.padding)  # type: ignore[arg-type]
    if any(n >= k for pair, k in zip(total, module.kernel, strict=True) for n in pair):  # type: ignore[arg-type]
        return None
    if isinstance(module, MaxPool):
        return replace(module, padding=total) if nonnegative else None
    same = module.count_include_pad or not any(map(any, module.padding))  # type: ignore[arg-type]
    return replace(module, padding=total, count_include_pad=True) if same else None


def plus(a: Border, b: Border) -> Border:
    """Two borders, one around the other."""
    return tuple((p[0] + q[0], p[1] + q[1]) for p, q in zip(a, b, strict=True))


def fuse_normalisation(nodes: Nodes, target: str) -> Nodes:
    """A BatchNorm without γ and β and the Scale that reads it become one BatchNorm. Caffe writes them as two layers."""
    found, readers = dict(nodes), _readers(nodes)
    for node in nodes.values():
        norm = found.get(node.inputs[0])
        if not isinstance(node.module, Scale) or norm is None or norm.name == target or len(readers[norm.name]) > 1:
            continue
        if isinstance(norm.module, BatchNorm) and norm.module.gamma is None and norm.module.beta is None:
            fused = replace(norm.module, gamma=node.module.w, beta=node.module.b)
            found[node.name] = Node(node.name, norm.inputs, fused)
            del found[norm.name]
    return found


def absorb_input_scaling(nodes: Nodes, source: str, target: str, p: Preprocessing) -> tuple[Nodes, Preprocessing]:
    """Scales at the input as part of the preprocessing: (pixel − mean) / std · w + b = (pixel − mean') / std'.

    So the layer that follows keeps the weights of the file, and relevance is of what it was trained on. A standard deviation
    is > 0: if one of w is negative, w stays as a Scale without bias, which passes all relevance on.
    """
    found, readers = dict(nodes), _readers(nodes)
    value = source  # what the preprocessing computes
    while len(readers[value]) == 1 and (name := readers[value][0]) != target:
        scale = found[name].module
        if not isinstance(scale, Scale) or len(scale.w) != len(p.channels) or (scale.w == 0).any():
            break
        w = np.asarray(scale.w, np.float64)
        b = np.zeros(len(w)) if scale.b is None else np.asarray(scale.b, np.float64)
        std = np.asarray(p.std)
        p = replace(p, mean=tuple(np.asarray(p.mean) - b * std / w))
        if (w < 0).any():
            found[name] = replace(found[name], module=Scale(scale.w))
            break
        p, value = replace(p, std=tuple(std / w)), name
        del found[name]
    for reader in readers[value] if value != source else ():
        inputs = tuple(source if n == value else n for n in found[reader].inputs)
        found[reader] = replace(found[reader], inputs=inputs)
    return found, p


def _readers(nodes: Nodes) -> dict[str, list[str]]:
    """The names of the nodes that read each value."""
    readers: dict[str, list[str]] = defaultdict(list)
    for node in nodes.values():
        for name in node.inputs:
            readers[name].append(node.name)
    return readers

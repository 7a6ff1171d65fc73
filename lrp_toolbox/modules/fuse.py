"""Batch normalisation merged into the layer before it (decision 11)."""

from __future__ import annotations

from dataclasses import replace

from ..backend import namespace
from .base import Module
from .container import Container, Sequential
from .linear import BatchNorm, Conv, Linear


def fuse(net: Module) -> Module:
    """The same function with every BatchNorm that follows a Linear or Conv merged into it: w · γ', b · γ' + β'.

    A BatchNorm that follows anything else stays. `net` itself is returned where there is nothing to merge.
    """
    if not isinstance(net, Container):
        return net
    merged: list[tuple[str, Module]] = []
    for name, child in net.items():
        last = merged[-1][1] if merged else None
        if isinstance(child, BatchNorm) and isinstance(last, (Linear, Conv)) and isinstance(net, Sequential):
            merged[-1] = (merged[-1][0], _merge(last, child))
        else:
            merged.append((name, fuse(child)))
    same = len(merged) == len(net) and all(a is b for (_, a), b in zip(merged, net, strict=True))
    return net if same else type(net)(merged)


def _merge(layer: Linear | Conv, norm: BatchNorm) -> Linear | Conv:
    scale, shift = norm.w, norm.b
    if scale.shape[0] != layer.w.shape[-1]:
        raise ValueError(f"BatchNorm: expected {layer.w.shape[-1]} channels, as many as come in, got {scale.shape[0]}")
    namespace(layer.w, scale)
    return replace(layer, w=layer.w * scale, b=shift if layer.b is None else layer.b * scale + shift)

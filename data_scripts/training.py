"""What training needs beyond the toolbox, which only explains: gradients of weights, Adam, average precision. NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lrp_toolbox import Conv, Linear, Module, Sequential, Trace

Array = np.ndarray


def weight_gradient(layer: Linear | Conv, x: Array, g: Array) -> tuple[Array, Array]:
    """∂L/∂w and ∂L/∂b of a layer that got x and whose output has gradient g."""
    if isinstance(layer, Linear):
        return x.T @ g, g.sum(axis=0)
    windows, flat = layer.windows, g.reshape(-1, g.shape[-1])
    padded, w = windows.pad(x), np.empty_like(layer.w)
    for i, j, (rows, columns) in windows.views(x.shape[-3:-1]):
        w[i, j] = padded[..., rows, columns, :].reshape(-1, x.shape[-1]).T @ flat
    return w, flat.sum(axis=0)


def backward(net: Sequential, trace: Trace, g: Array) -> dict[str, tuple[Array, Array]]:
    """Gradients of all weights of a Sequential, by the name of the layer."""
    found = {}
    for name, layer, t in reversed(list(zip(net.names, net.children, trace.children, strict=True))):
        if isinstance(layer, (Linear, Conv)):
            found[name] = weight_gradient(layer, t.x, g)
        g = layer.gradient(t, g)
    return found


class Adam:
    """Adam with decoupled weight decay (Kingma and Ba 2015; Loshchilov and Hutter 2019)."""

    def __init__(self, decay: float = 0.0):
        self.decay, self.steps = decay, 0
        self.moments: dict[str, list[Array]] = {}

    def step(self, net: Sequential, gradients: dict[str, tuple[Array, Array]], rate: float) -> Sequential:
        """A net that is one step further."""
        self.steps += 1
        children: list[tuple[str, Module]] = []
        for name, layer in net.items():
            if name in gradients:
                w, b = gradients[name]
                w_new = layer.w - rate * (self._direction(f"{name}.w", w) + self.decay * layer.w)
                layer = replace(layer, w=w_new, b=layer.b - rate * self._direction(f"{name}.b", b))
            children.append((name, layer))
        return Sequential(children)

    def _direction(self, key: str, g: Array) -> Array:
        m, v = self.moments.setdefault(key, [np.zeros_like(g), np.zeros_like(g)])
        m += 0.1 * (g - m)
        v += 0.001 * (g * g - v)
        return (m / (1 - 0.9**self.steps)) / (np.sqrt(v / (1 - 0.999**self.steps)) + 1e-8)


def cosine(rate: float, step: int, steps: int) -> float:
    """`rate`, falling to 0 along half a cosine."""
    return float(rate * 0.5 * (1 + np.cos(np.pi * step / steps)))  # a NumPy scalar would turn float32 into float64


def he_normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Normal numbers of variance 2 / inputs (He et al. 2015)."""
    return (rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[:-1]))).astype(np.float32)


def average_precision(shown: Array, score: Array) -> float:
    """The area under the precision–recall curve: the mean, over the positives, of the precision at their rank."""
    hits = shown[np.argsort(-score, kind="stable")]
    return float((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())

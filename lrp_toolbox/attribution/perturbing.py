"""Methods that evaluate the net at other inputs than x: SmoothGrad, Integrated Gradients, occlusion.

References
----------
Smilkov et al. 2017, SmoothGrad: removing noise by adding noise, arXiv 1706.03825.
Sundararajan et al. 2017, Axiomatic attribution for deep networks, ICML.
Zeiler and Fergus 2014, Visualizing and understanding convolutional networks, ECCV (occlusion).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import ClassVar

import numpy as np

from .. import backend
from ..backend import Array, namespace
from ..explain import Targets, explain
from ..inputs import Classifier, net_and_classes, shape_of_one
from ..modules import Module
from .backward import NO_RULES, Gradient
from .base import Method, across_targets, explained_outputs, forward, same_for_all

AT_A_TIME = 16  # copies of x that are held at a time


def _mean_gradient(net: Module | Classifier, x: Array, target: Targets, copies: Iterator[Array]) -> Array:
    """The gradient of the target, which is decided at x, on average over copies of x (sample, …) that were moved."""
    module, classes = net_and_classes(net)
    shape = shape_of_one(module, x)
    index = explained_outputs(forward(module, x), target, classes).target
    assert index is not None
    n = x.shape[0] if x.ndim > len(shape) else 1
    own, rewired, xp = index.reshape(n, -1), Gradient().rewired(module), namespace(x)
    total, count = backend.zeros((n, own.shape[1], *shape), x), 0
    while some := list(islice(copies, AT_A_TIME)):
        R = explain(rewired, xp.concat(some, axis=0), np.tile(own, (len(some), 1)), NO_RULES, start="one").R
        total = total + xp.sum(xp.reshape(R, (len(some), *total.shape)), axis=0)
        count += len(some)
    return xp.reshape(total, (*index.shape, *shape)) / count


def _whole(name: str, value: int, minimum: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ValueError(f"{name}: expected a whole number ≥ {minimum}, got {value!r}")


def _number(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")


@dataclass(frozen=True)
class SmoothGrad(Method):
    """The gradient on average over `samples` copies of x with Gaussian noise of σ = noise · (max x − min x).

    Each call draws the noise from `seed`, the same for every x, so that a batch gives the results of its parts.
    """

    title: ClassVar[str] = "SmoothGrad"

    samples: int = 25
    noise: float = 0.15
    seed: int = 0

    def __post_init__(self) -> None:
        _whole("samples", self.samples, 1)
        _whole("seed", self.seed, 0)
        _number("noise", self.noise)
        if self.noise < 0:
            raise ValueError(f"noise: expected a number ≥ 0, got {self.noise!r}")

    def __call__(self, net: Module | Classifier, x: Array, target: Targets = "top") -> Array:
        shape = shape_of_one(net_and_classes(net)[0], x)
        return _mean_gradient(net, x, target, self._copies(namespace(x).reshape(x, (-1, *shape))))

    def _copies(self, x: Array) -> Iterator[Array]:
        """Noisy copies of x (sample, …)."""
        xp, rng, axes = namespace(x), np.random.default_rng(self.seed), tuple(range(1, x.ndim))
        scale = (xp.max(x, axis=axes, keepdims=True) - xp.min(x, axis=axes, keepdims=True)) * self.noise
        for _ in range(self.samples):
            noise = backend.asarray_like(rng.standard_normal(x.shape[1:]), x)
            yield x + scale * xp.astype(noise, x.dtype)


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """(x − x₀) · ∫₀¹ ∂y_t/∂x (x₀ + a (x − x₀)) da, the integral as the mean over the middles of `steps` equal pieces.

    `baseline`: x₀, one number for all of it, in the units of x. 0 is the mean colour where preprocessing subtracts it.
    Completeness, Σ R = y_t(x) − y_t(x₀), holds up to the error of the integral; `missing` computes this error.
    """

    title: ClassVar[str] = "Integrated Gradients"

    steps: int = 32
    baseline: float = 0.0

    def __post_init__(self) -> None:
        _whole("steps", self.steps, 1)
        _number("baseline", self.baseline)

    def __call__(self, net: Module | Classifier, x: Array, target: Targets = "top") -> Array:
        shape = shape_of_one(net_and_classes(net)[0], x)
        way = x - self.baseline
        samples = namespace(x).reshape(way, (-1, *shape))
        copies = (self.baseline + samples * ((k + 0.5) / self.steps) for k in range(self.steps))
        R = _mean_gradient(net, x, target, copies)
        return R * across_targets(way, R, x.ndim > len(shape))

    def missing(self, net: Module | Classifier, x: Array, target: Targets, R: Array) -> Array:
        """y_t(x) − y_t(x₀) − Σ R for each sample and target: the error of the integral. 0 would be complete."""
        module, classes = net_and_classes(net)
        e = explained_outputs(forward(module, x), target, classes)
        at_baseline = explained_outputs(forward(module, x * 0 + self.baseline), same_for_all(e), None)
        xp, axes = namespace(x), tuple(range(-len(shape_of_one(module, x)), 0))
        difference = xp.sum(e.R, axis=-1) - xp.reshape(xp.sum(at_baseline.R, axis=-1), e.R.shape[:-1])
        return difference - xp.sum(R, axis=axes)


@dataclass(frozen=True)
class Occlusion(Method):
    """How much y_t falls if a square of `window` pixels is covered with `value`: the mean over all squares on a pixel.

    Squares are `stride` apart; the last one of a row or column ends at the edge. `window=None` is a seventh of the shorter
    side, `stride=None` half the window. R is divided evenly among the channels, so that its sum over them is the mean fall.
    """

    title: ClassVar[str] = "Occlusion"

    window: int | None = None
    stride: int | None = None
    value: float = 0.0

    def __post_init__(self) -> None:
        for name in ("window", "stride"):
            if getattr(self, name) is not None:
                _whole(name, getattr(self, name), 1)
        _number("value", self.value)

    def __call__(self, net: Module | Classifier, x: Array, target: Targets = "top") -> Array:
        module, classes = net_and_classes(net)
        shape = shape_of_one(module, x)
        if len(shape) != 3:
            raise ValueError(f"x: Occlusion covers squares of (height, width, channel), got shape {tuple(x.shape)}")
        e = explained_outputs(forward(module, x), target, classes)
        assert e.target is not None
        samples = x if x.ndim > 3 else x[None, ...]
        index = e.target.reshape(samples.shape[0], -1)
        y = e.y if x.ndim > 3 else e.y[None, ...]
        xp = namespace(x)
        Rs = [self._falls(module, samples[n, ...], y[n, ...], index[n].tolist()) for n in range(samples.shape[0])]
        return xp.reshape(xp.stack(Rs, axis=0), (*e.target.shape, *shape))

    def _falls(self, module: Module, x: Array, y: Array, targets: list[int]) -> Array:
        """R (target, height, width, channel) for one x (height, width, channel)."""
        xp, (height, width, channels) = namespace(x), x.shape
        window = self.window or max(1, min(height, width) // 7)
        stride = self.stride or max(1, window // 2)
        if stride > window:
            raise ValueError(f"stride: expected at most the window, {window}, for every pixel to be covered, got {stride}")
        squares = [(r, c) for r in _cover(height, window, stride) for c in _cover(width, window, stride)]
        fallen = backend.zeros((len(targets), height, width), x)
        covered = backend.zeros((height, width), x)
        for first in range(0, len(squares), AT_A_TIME):
            some = squares[first : first + AT_A_TIME]
            copies = x + backend.zeros((len(some), *x.shape), x)
            for k, (rows, columns) in enumerate(some):
                copies[k, rows, columns, :] = self.value
            ys = forward(module, copies)
            for k, (rows, columns) in enumerate(some):
                fall = xp.stack([y[t] - ys[k, t] for t in targets])
                fallen[:, rows, columns] += fall[:, None, None]
                covered[rows, columns] += 1
        share = fallen / (covered * channels)
        return share[..., None] + backend.zeros((*share.shape, channels), x)


def _cover(n: int, window: int, stride: int) -> list[slice]:
    """Pieces of `window` places, `stride` apart, that cover 0 … n − 1; the last ends there."""
    count = max(0, -(-(n - window) // stride)) + 1
    return [slice(k * stride, min(k * stride + window, n)) for k in range(count)]

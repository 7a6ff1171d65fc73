"""Methods that ask the net about other inputs than x: SmoothGrad, Integrated Gradients, occlusion.

References
----------
Smilkov et al. 2017, SmoothGrad: removing noise by adding noise, arXiv 1706.03825.
Sundararajan et al. 2017, Axiomatic attribution for deep networks, ICML.
Zeiler and Fergus 2014, Visualizing and understanding convolutional networks, ECCV (occlusion).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .. import backend
from ..backend import Array, namespace
from ..explain import Classifier, Targets
from ..modules import Module
from .backward import Gradient
from .base import Method, across_targets, forward, module_and_classes, same_for_all, settle, shape_of_one


def _mean_gradient(net: Module | Classifier, x: Array, target: Targets, points: Iterable[Array]) -> Array:
    """The gradient of the target, which is decided at x, on average over the points."""
    module, classes = module_and_classes(net)
    settled = settle(forward(module, x), target, classes)
    index = same_for_all(settled)
    total, n = None, 0
    for point in points:
        g = Gradient()(module, point, index)
        total, n = g if total is None else total + g, n + 1
    assert total is not None
    assert settled.target is not None
    return namespace(x).reshape(total, (*settled.target.shape, *shape_of_one(module, x))) / n


def _whole(name: str, value: int, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name}: expected a whole number ≥ {least}, got {value!r}")


def _number(name: str, value: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{name}: expected a finite number, got {value!r}")


@dataclass(frozen=True)
class SmoothGrad(Method):
    """The gradient on average over `samples` copies of x with Gaussian noise of σ = noise · (max x − min x).

    The noise is drawn from `seed`, anew for each call and alike for each x, so that a batch gives what its parts give.
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
        return _mean_gradient(net, x, target, self._copies(x, shape_of_one(module_and_classes(net)[0], x)))

    def _copies(self, x: Array, shape: tuple[int, ...]) -> Iterable[Array]:
        xp, rng, axes = namespace(x), np.random.default_rng(self.seed), tuple(range(-len(shape), 0))
        scale = (xp.max(x, axis=axes, keepdims=True) - xp.min(x, axis=axes, keepdims=True)) * self.noise
        for _ in range(self.samples):
            yield x + scale * xp.astype(backend.beside(rng.standard_normal(shape), x), x.dtype)


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """(x − x₀) · ∫₀¹ ∂y_t/∂x (x₀ + a (x − x₀)) da, the integral as the mean over the middles of `steps` equal pieces.

    `baseline`: x₀, one number for all of it, in the units of x. 0 is the mean colour where preprocessing subtracts it.
    Completeness, Σ R = y_t(x) − y_t(x₀), holds up to the error of the integral, which `missing` tells.
    """

    title: ClassVar[str] = "Integrated Gradients"

    steps: int = 32
    baseline: float = 0.0

    def __post_init__(self) -> None:
        _whole("steps", self.steps, 1)
        _number("baseline", self.baseline)

    def __call__(self, net: Module | Classifier, x: Array, target: Targets = "top") -> Array:
        way = x - self.baseline
        points = (self.baseline + way * ((k + 0.5) / self.steps) for k in range(self.steps))
        R = _mean_gradient(net, x, target, points)
        return R * across_targets(way, R, x.ndim > len(shape_of_one(module_and_classes(net)[0], x)))

    def missing(self, net: Module | Classifier, x: Array, target: Targets, R: Array) -> Array:
        """y_t(x) − y_t(x₀) − Σ R for each sample and target: the error of the integral. 0 would be complete."""
        module, classes = module_and_classes(net)
        e = settle(forward(module, x), target, classes)
        at_baseline = settle(forward(module, x * 0 + self.baseline), same_for_all(e), None)
        xp, axes = namespace(x), tuple(range(-len(shape_of_one(module, x)), 0))
        difference = xp.sum(e.R, axis=-1) - xp.reshape(xp.sum(at_baseline.R, axis=-1), e.R.shape[:-1])
        return difference - xp.sum(R, axis=axes)


@dataclass(frozen=True)
class Occlusion(Method):
    """How far y_t falls when a square of `window` pixels is covered with `value`, on average over the squares on a pixel.

    Squares lie `stride` apart, and the last of a row or column ends at the edge. `window=None` is a seventh of the shorter
    side, `stride=None` half the window. R has its amount evenly in all channels, so that Σ over these is the mean fall.
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
        module, classes = module_and_classes(net)
        shape = shape_of_one(module, x)
        if len(shape) != 3:
            raise ValueError(f"x: Occlusion covers squares of (height, width, channel), got shape {tuple(x.shape)}")
        e = settle(forward(module, x), target, classes)
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


AT_A_TIME = 64  # covered copies of x that are held at a time


def _cover(n: int, window: int, stride: int) -> list[slice]:
    """Pieces of `window` places, `stride` apart, that cover 0 … n − 1; the last ends there."""
    count = max(0, -(-(n - window) // stride)) + 1
    return [slice(k * stride, min(k * stride + window, n)) for k in range(count)]

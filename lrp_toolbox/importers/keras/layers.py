"""From a layer of Keras to modules: a table from the names of Keras' classes to functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ...backend import Array
from ...io import brief
from ...modules import (
    ELU,
    GELU,
    AvgPool,
    BatchNorm,
    ClippedReLU,
    Concatenation,
    Conv,
    Dropout,
    Flatten,
    HardSigmoid,
    HardSwish,
    LayerNorm,
    LeakyReLU,
    Linear,
    MaxPool,
    Mish,
    Module,
    Multiply,
    Pad,
    PReLU,
    ReLU,
    Reshape,
    Scale,
    Sigmoid,
    SiLU,
    Slice,
    SoftMax,
    Softplus,
    Sum,
    Tanh,
)
from ...modules.base import Shape
from ..draft import Draft, Value
from ..passes import Border
from .config import LayerConfig, layer_config
from .files import Arrays


@dataclass
class Net:
    """What a layer needs to become nodes: the draft that they are added to, and the arrays."""

    draft: Draft
    arrays: Arrays
    dtype: np.dtype[Any]
    taken: dict[str, list[Array]] = field(default_factory=dict)  # a layer that is called twice has its arrays once

    def add(self, name: str, module: Module, x: Value) -> Value:
        """A new node. If its name is taken, because the layer is called twice, it gets a number."""
        return self.draft.add(self.draft.free_name(name), x, module)

    def join(self, layer: LayerConfig, module: Module, inputs: Sequence[Value], shape: Shape) -> Value:
        return self.draft.join(self.draft.free_name(layer.name), module, inputs, Value("", shape))

    def weights(self, layer: LayerConfig, **shapes: Shape | None) -> list[Array]:
        """The arrays of a layer, by name and shape. Those without a shape are stored, but not needed and not read."""
        if layer.name not in self.taken:
            self.taken[layer.name] = self.arrays.take(layer, self.dtype, **shapes)
        return self.taken[layer.name]

    def weights_and_bias(self, layer: LayerConfig, outputs: int, **shapes: Shape) -> list[Any]:
        """The same, and at the end the bias, None if there is none."""
        if layer.flag("use_bias", True):
            return self.weights(layer, **shapes, bias=(outputs,))
        return [*self.weights(layer, **shapes), None]


def _conv(net: Net, layer: LayerConfig, x: Value) -> Value:
    kernel, filters, groups = layer.pair("kernel_size"), layer.whole("filters"), layer.whole("groups", 1)
    channels = _channels(layer, x)
    if channels % groups:
        layer.refuse("groups", f"a divisor of {channels}, the number of channels")
    w, b = net.weights_and_bias(layer, filters, kernel=(*kernel, channels // groups, filters))
    return _convolve(net, layer, x, layer.name, w, b, groups)


def _depthwise(net: Net, layer: LayerConfig, x: Value) -> Value:
    shape = (*layer.pair("kernel_size"), _channels(layer, x), layer.whole("depth_multiplier", 1))
    w, b = net.weights_and_bias(layer, shape[2] * shape[3], kernel=shape)
    return _convolve(net, layer, x, layer.name, w.reshape(*shape[:2], 1, -1), b, groups=shape[2])


def _separable(net: Net, layer: LayerConfig, x: Value) -> Value:
    """A depthwise convolution, then a 1 × 1 convolution."""
    shape = (*layer.pair("kernel_size"), _channels(layer, x), layer.whole("depth_multiplier", 1))
    filters = layer.whole("filters")
    across = (1, 1, shape[2] * shape[3], filters)
    w, v, b = net.weights_and_bias(layer, filters, depthwise_kernel=shape, pointwise_kernel=across)
    x = _convolve(net, layer, x, f"{layer.name}/depthwise", w.reshape(*shape[:2], 1, -1), None, groups=shape[2])
    return net.add(layer.name, Conv(v, b), x)


def _convolve(net: Net, layer: LayerConfig, x: Value, name: str, w: Array, b: Array | None, groups: int) -> Value:
    stride, dilation = layer.pair("strides", 1), layer.pair("dilation_rate", 1)
    padding = _border(layer, x.shape, (w.shape[0], w.shape[1]), stride, dilation)
    return net.add(name, Conv(w, b, stride=stride, padding=padding, dilation=dilation, groups=groups), x)


def _channels(layer: LayerConfig, x: Value) -> int:
    if len(x.shape) != 3:
        layer.fail(f"expected a map (height, width, channel) to come in, found {x.shape}")
    return x.shape[2]


def _border(layer: LayerConfig, shape: Shape, kernel: Shape, stride: Shape, dilation: Shape = (1, 1)) -> Border:
    """ "same": as many windows as strides fit into the map, and of the zeros that it takes the odd one below and right."""
    padding = layer.config.get("padding", "valid")
    if padding not in ("valid", "same"):
        layer.refuse("padding", "'valid' or 'same'")
    if padding == "valid":
        return ((0, 0),) * len(kernel)
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    missing = [max(0, (-(-n // s) - 1) * s + span - n) for n, s, span in zip(shape[:2], stride, spans, strict=True)]
    rows, columns = ((n // 2, n - n // 2) for n in missing)
    return rows, columns


def _zero_padding(net: Net, layer: LayerConfig, x: Value) -> Value:
    _channels(layer, x)
    return net.add(layer.name, Pad(_edges(layer, "padding", 1)), x)


def _cropping(net: Net, layer: LayerConfig, x: Value) -> Value:
    _channels(layer, x)
    for axis, n, (before, after) in zip((-3, -2), x.shape, _edges(layer, "cropping", 0), strict=False):
        if before + after >= n:
            layer.refuse("cropping", f"one that leaves something of {x.shape}")
        if before or after:
            x = net.add(layer.name, Slice(axis, before, n - after), x)
    return x


def _edges(layer: LayerConfig, key: str, default: int) -> Border:
    """((top, bottom), (left, right))."""
    match layer.config.get(key, default):
        case int(n):
            rows, columns = (n, n), (n, n)
        case [int(n), int(m)]:
            rows, columns = (n, n), (m, m)
        case [[int(top), int(bottom)], [int(left), int(right)]]:
            rows, columns = (top, bottom), (left, right)
        case _:
            layer.refuse(key, "a whole number, two, or two pairs")
    if not all(0 <= n <= 1 << 16 for n in (*rows, *columns)):
        layer.refuse(key, "whole numbers ≥ 0")
    return rows, columns


def _max_pool(net: Net, layer: LayerConfig, x: Value) -> Value:
    return net.add(layer.name, MaxPool(*_pooling(layer, x)), x)


def _avg_pool(net: Net, layer: LayerConfig, x: Value) -> Value:
    """In Keras the padding of the layer does not count in the mean."""
    return net.add(layer.name, AvgPool(*_pooling(layer, x), count_include_pad=False), x)


def _pooling(layer: LayerConfig, x: Value) -> tuple[tuple[int, int], tuple[int, int], Border]:
    _channels(layer, x)
    kernel = layer.pair("pool_size", 2)
    stride = kernel if layer.config.get("strides") is None else layer.pair("strides")
    return kernel, stride, _border(layer, x.shape, kernel, stride)


def _global(kind: type[MaxPool] | type[AvgPool]) -> Converter:
    def convert(net: Net, layer: LayerConfig, x: Value) -> Value:
        _channels(layer, x)
        y = net.add(layer.name, kind(None), x)
        return y if layer.flag("keepdims", False) else net.add(f"{layer.name}/flatten", Flatten(), y)

    return convert


def _dense(net: Net, layer: LayerConfig, x: Value) -> Value:
    """On a map it is applied at every place, like a 1 × 1 convolution."""
    units = layer.whole("units")
    w, b = net.weights_and_bias(layer, units, kernel=(x.shape[-1], units))
    return net.add(layer.name, Linear(w, b) if len(x.shape) == 1 else Conv(w[None, None], b), x)


def _batch_norm(net: Net, layer: LayerConfig, x: Value) -> Value:
    layer.last("axis", x.shape)
    n = x.shape[-1:]
    parts = {name: n for name, flag in (("gamma", "scale"), ("beta", "center")) if layer.flag(flag, True)}
    parts |= {"mean": n, "variance": n}
    arrays = dict(zip(parts, net.weights(layer, **parts), strict=True))
    return net.add(layer.name, BatchNorm(**arrays, eps=layer.number("epsilon", 1e-3)), x)


def _layer_norm(net: Net, layer: LayerConfig, x: Value) -> Value:
    layer.last("axis", x.shape)
    if layer.flag("rms_scaling", False):
        layer.refuse("rms_scaling", "false")
    n = x.shape[-1:]
    parts = {name: n for name, flag in (("gamma", "scale"), ("beta", "center")) if layer.flag(flag, True)}
    arrays = dict(zip(parts, net.weights(layer, **parts), strict=True))
    eps = layer.number("epsilon", 1e-3)
    return net.add(layer.name, LayerNorm(-1, arrays.get("gamma"), arrays.get("beta"), eps), x)


def _layer_scale(net: Net, layer: LayerConfig, x: Value) -> Value:
    """x · γ, a layer that keras-applications has for ConvNeXt."""
    _require_applications(layer)
    [gamma] = net.weights(layer, gamma=x.shape[-1:])
    return net.add(layer.name, Scale(gamma), x)


def _scaled_sum(net: Net, layer: LayerConfig, inputs: Sequence[Value]) -> Value:
    """x + c · y, a layer that keras-applications has for InceptionResNetV2."""
    _require_applications(layer)
    if len(inputs) != 2:
        layer.fail(f"expected two inputs, found {len(inputs)}")
    scaled = net.add(f"{layer.name}/scale", Scale(layer.numbers("scale", inputs[1].shape[-1])), inputs[1])
    return _add(net, layer, [inputs[0], scaled])


def _require_applications(layer: LayerConfig) -> None:
    """Others may have a class of the same name that does something else."""
    if layer.module is None:
        layer.fail("expected a .keras archive, since this file does not say whether the layer is one of Keras")
    if not layer.module.startswith("keras.src.applications."):
        layer.fail(f"expected a layer of Keras, found one of {brief(layer.module)}: code is never run")


def _rescaling(net: Net, layer: LayerConfig, x: Value) -> Value:
    n = x.shape[-1]
    return _scale(net, layer, x, layer.numbers("scale", n), layer.numbers("offset", n, 0.0))


def _normalization(net: Net, layer: LayerConfig, x: Value) -> Value:
    """(x − mean) / σ, or with `invert` x σ + mean. Keras replaces σ < 1e-7 by 1e-7."""
    n, one_for_all = x.shape[-1], layer.config.get("axis", -1) in (None, [])
    if not one_for_all:
        layer.last("axis", x.shape)
    if layer.config.get("mean") is not None:
        mean, variance = layer.numbers("mean", n), layer.numbers("variance", n)
    else:
        shape = () if one_for_all else (n,)
        stored = net.weights(layer, mean=shape, variance=shape, count=None)
        mean, variance = (np.broadcast_to(a.astype(np.float64).reshape(-1), (n,)) for a in stored)
    if (variance < 0).any():
        layer.fail(f"variance: expected numbers ≥ 0, found {brief(variance.min())}")
    sigma = np.maximum(np.sqrt(variance), 1e-7)
    return _scale(net, layer, x, *((sigma, mean) if layer.flag("invert", False) else (1 / sigma, -mean / sigma)))


def _scale(net: Net, layer: LayerConfig, x: Value, w: Array, b: Array) -> Value:
    return net.add(layer.name, Scale(w, b), x)


def _relu(net: Net, layer: LayerConfig, x: Value) -> Value:
    return net.add(layer.name, _relu_of(layer), x)


def _relu_of(layer: LayerConfig) -> Module:
    slope = layer.number("negative_slope", 0.0)
    most = None if layer.config.get("max_value") is None else layer.number("max_value")
    if layer.number("threshold", 0.0) != 0:
        layer.refuse("threshold", "0")
    if most is None:
        return LeakyReLU(slope) if slope else ReLU()
    if slope or most <= 0:
        layer.refuse("max_value", "a number > 0, and no negative_slope beside it")
    return ClippedReLU(most)


def _leaky_relu(net: Net, layer: LayerConfig, x: Value) -> Value:
    return net.add(layer.name, _leaky_relu_of(layer), x)


def _leaky_relu_of(layer: LayerConfig) -> Module:
    return LeakyReLU(layer.number("alpha" if "alpha" in layer.config else "negative_slope", 0.3))


def _elu(net: Net, layer: LayerConfig, x: Value) -> Value:
    return net.add(layer.name, ELU(layer.number("alpha", 1.0)), x)


def _prelu(net: Net, layer: LayerConfig, x: Value) -> Value:
    shared = layer.config.get("shared_axes") or []
    if not isinstance(shared, list) or not all(axis in range(1, len(x.shape) + 1) for axis in shared):
        layer.refuse("shared_axes", f"axes from 1 to {len(x.shape)}")
    shape = tuple(1 if axis in shared else n for axis, n in enumerate(x.shape, 1))
    [slope] = net.weights(layer, alpha=shape)
    return net.add(layer.name, PReLU(slope), x)


def _softmax(net: Net, layer: LayerConfig, x: Value) -> Value:
    return net.add(layer.name, _softmax_of(layer, x.shape), x)


def _softmax_of(layer: LayerConfig, shape: Shape) -> Module:
    layer.last("axis", shape)
    if len(shape) == 3 and shape[2] == 1:
        layer.fail(f"expected several numbers to take the softmax of, found {shape}")
    return SoftMax()


def _flatten(net: Net, layer: LayerConfig, x: Value) -> Value:
    return net.add(layer.name, Flatten(len(x.shape)), x) if len(x.shape) > 1 else x


def _reshape(net: Net, layer: LayerConfig, x: Value) -> Value:
    target: Any = layer.config.get("target_shape")  # of any type: Reshape checks it
    if target in ([-1], [math.prod(x.shape)]):
        return _flatten(net, layer, x)
    if target == list(x.shape):
        return x
    try:
        reshape = Reshape(target, len(x.shape))
        reshape.output_shape(x.shape)
    except (TypeError, ValueError):
        layer.refuse("target_shape", f"as many numbers as come in, {x.shape}")
    return net.add(layer.name, reshape, x)


def _unchanged(net: Net, layer: LayerConfig, x: Value) -> Value:
    return x


def _dropout(net: Net, layer: LayerConfig, x: Value) -> Value:
    return net.add(layer.name, Dropout(layer.number("rate", 0.5)), x)


def _add(net: Net, layer: LayerConfig, inputs: Sequence[Value]) -> Value:
    if len({x.shape for x in inputs}) != 1:
        layer.fail(f"expected inputs of one shape, found {', '.join(str(x.shape) for x in inputs) or 'none'}")
    return net.join(layer, Sum(), inputs, inputs[0].shape)


def _multiply(net: Net, layer: LayerConfig, inputs: Sequence[Value]) -> Value:
    """A signal and its gates: the signal is the first input that has the shape of the product."""
    try:
        shape = Multiply().output_shape(tuple(x.shape for x in inputs))
        signal = [x.shape for x in inputs].index(shape)
    except ValueError:
        layer.fail(
            f"expected one input, and others that broadcast to it, found {', '.join(str(x.shape) for x in inputs) or 'none'}"
        )
    return net.join(layer, Multiply(signal), inputs, shape)


def _concatenate(net: Net, layer: LayerConfig, inputs: Sequence[Value]) -> Value:
    if len({x.shape[:-1] for x in inputs}) != 1:
        layer.fail(f"expected inputs that differ in their channels only, found {', '.join(str(x.shape) for x in inputs)}")
    layer.last("axis", inputs[0].shape)
    return net.join(layer, Concatenation(), inputs, (*inputs[0].shape[:-1], sum(x.shape[-1] for x in inputs)))


Converter = Callable[[Net, LayerConfig, Value], Value]
LAYERS: dict[str, Converter] = {
    "InputLayer": _unchanged,
    "Conv2D": _conv,
    "DepthwiseConv2D": _depthwise,
    "SeparableConv2D": _separable,
    "Dense": _dense,
    "MaxPooling2D": _max_pool,
    "AveragePooling2D": _avg_pool,
    "GlobalMaxPooling2D": _global(MaxPool),
    "GlobalAveragePooling2D": _global(AvgPool),
    "BatchNormalization": _batch_norm,
    "Activation": _unchanged,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "PReLU": _prelu,
    "ELU": _elu,
    "Softmax": _softmax,
    "ZeroPadding2D": _zero_padding,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Cropping2D": _cropping,
    "LayerNormalization": _layer_norm,
    "LayerScale": _layer_scale,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "Dropout": _dropout,
    "SpatialDropout2D": _dropout,
    "GaussianDropout": _dropout,
    "GaussianNoise": _unchanged,  # this and the following do something in training only
    "ActivityRegularization": _unchanged,
    "RandomBrightness": _unchanged,
    "RandomContrast": _unchanged,
    "RandomFlip": _unchanged,
    "RandomRotation": _unchanged,
    "RandomTranslation": _unchanged,
    "RandomZoom": _unchanged,
}
JOINS: dict[str, Callable[[Net, LayerConfig, Sequence[Value]], Value]] = {
    "Add": _add,
    "Multiply": _multiply,
    "Concatenate": _concatenate,
    "CustomScaleLayer": _scaled_sum,
}

ACTIVATIONS: dict[str, Callable[[], Module]] = {
    "relu": ReLU,
    "relu6": ClippedReLU,
    "leaky_relu": lambda: LeakyReLU(0.2),
    "sigmoid": Sigmoid,
    "tanh": Tanh,
    "silu": SiLU,
    "swish": SiLU,
    "elu": ELU,
    "softplus": Softplus,
    "mish": Mish,
    "gelu": GELU,
    "hard_silu": HardSwish,
    "hard_swish": HardSwish,
}


def activation(net: Net, layer: LayerConfig, value: Any, shape: Shape) -> Module | None:
    """The activation in the config of another layer: a name, or an object that describes a function or layer."""
    if isinstance(value, Mapping):
        config = value.get("config")
        inner = layer_config({**value, "config": config if isinstance(config, Mapping) else {}}, layer.where)
        inner = replace(inner, path=layer.path)
        if inner.kind == "ReLU":
            return _relu_of(inner)
        if inner.kind == "LeakyReLU":
            return _leaky_relu_of(inner)
        if inner.kind == "Softmax":
            return _softmax_of(inner, shape)
        value = config if inner.kind == "function" else value
    if value is None or value == "linear":
        return None
    if value == "softmax":
        return _softmax_of(replace(layer, config={}), shape)
    if value == "hard_sigmoid":  # relu6(x + 3) / 6 since Keras 3; the same name was a steeper line before
        return HardSigmoid(1 / 6, 0.5) if net.arrays.keras_3 else HardSigmoid(0.2, 0.5)
    if not isinstance(value, str) or value not in ACTIVATIONS:
        layer.refuse("activation", f"one of linear, softmax, hard_sigmoid, {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[value]()

"""From a layer of Caffe to modules: a table from the names of Caffe's layer types to functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ... import modules
from ...modules import Module
from ..draft import Draft, Value
from ..layout import flattened_rows, kernel
from .files import Weights, listed, name_of


@dataclass
class Net:
    """What a layer needs to become nodes: the draft that they are added to, and the weights."""

    draft: Draft
    weights: Weights

    def join(self, name: str, inputs: list[Value], module: Module) -> Value:
        """A node that adds or concatenates, and its value."""
        fit = [(x.shape, x.maps) if isinstance(module, modules.Sum) else x.shape[:-1] for x in inputs]
        if any(f != fit[0] for f in fit):
            raise ValueError(f"expected inputs that fit together, found the shapes {listed(str(x.shape) for x in inputs)}")
        if len(inputs) == 1:
            return inputs[0]
        if isinstance(module, modules.Sum):
            return self.draft.join(name, module, inputs, inputs[0])
        channels, maps = sum(x.shape[-1] for x in inputs), sum((x.maps for x in inputs), ())
        return self.draft.join(name, module, inputs, Value(name, (*inputs[0].shape[:-1], channels), maps))

    def flattened(self, name: str, x: Value) -> Value:
        return self.draft.add(name, x, modules.Flatten()) if x.is_map else x


def in_our_order(x: Value, a: Any) -> Any:
    """`a`, which has one row for each channel or feature of `x`, in our order."""
    return a if x.is_map else flattened_rows(a, x.maps)


def require_channel_axis(x: Value, axis: int) -> None:
    if axis not in (1, -len(x.shape)):
        raise ValueError(f"axis: expected 1, the channels, found {axis}")


Converter = Callable[[Net, Any, list[Value]], Value]


def _one(make: Callable[[Any, Value, Weights], Module]) -> Converter:
    """A layer that is one module; `make` makes it from the layer, its input and the weights."""
    return lambda net, layer, values: net.draft.add(layer.name, values[0], make(layer, values[0], net.weights))


def _pair(p: Any, name: str, several: str, default: int = 0) -> tuple[int, int]:
    """(height, width) from the fields `name`_h and `name`_w, or from `several`, which has one number or two."""
    pair = f"{name}_h", f"{name}_w"
    if any(f in p.DESCRIPTOR.fields_by_name and p.HasField(f) for f in pair):
        return getattr(p, pair[0]), getattr(p, pair[1])
    given = getattr(p, several) or [default]
    if len(given) > 2:
        raise ValueError(f"{several}: expected one number, or one for height and width, found {len(given)}")
    return given[0], given[-1]


def _conv(layer: Any, x: Value, weights: Weights) -> Module:
    p = layer.convolution_param
    require_channel_axis(x, p.axis)
    size, channels = _pair(p, "kernel", "kernel_size"), x.shape[-1]
    if p.num_output < 1 or p.group < 1 or channels % p.group or p.num_output % p.group:
        raise ValueError(f"group: expected a divisor of {channels} channels and {p.num_output} outputs, found {p.group}")
    shape = (p.num_output, channels // p.group, *size)
    w, *b = weights.take(layer.name, shape, *[(p.num_output,)] * p.bias_term)
    return modules.Conv(
        kernel(w),
        b[0] if b else None,
        stride=_pair(p, "stride", "stride", 1),
        padding=_pair(p, "pad", "pad"),
        dilation=_pair(p, "dilation", "dilation", 1),
        groups=p.group,
    )


def _dense(net: Net, layer: Any, values: list[Value]) -> Value:
    p, [x] = layer.inner_product_param, values
    require_channel_axis(x, p.axis)
    x = net.flattened(f"{layer.name}/flatten", x)
    if p.num_output < 1:
        raise ValueError(f"num_output: expected a number ≥ 1, found {p.num_output}")
    shape = (x.shape[0], p.num_output)
    w, *b = net.weights.take(layer.name, shape if p.transpose else shape[::-1], *[(p.num_output,)] * p.bias_term)
    return net.draft.add(layer.name, x, modules.Linear(in_our_order(x, w if p.transpose else w.T), *b))


def _pool(layer: Any, x: Value, weights: Weights) -> Module:
    p = layer.pooling_param
    method = name_of(p, "pool")
    if method not in ("MAX", "AVE"):
        raise ValueError(f"pool: expected MAX or AVE, found {method}")
    kind: type[modules.MaxPool] | type[modules.AvgPool] = modules.MaxPool if method == "MAX" else modules.AvgPool
    if p.global_pooling:
        return kind(None)
    kernel, stride, padding = _pair(p, "kernel", "kernel_size"), _pair(p, "stride", "stride", 1), _pair(p, "pad", "pad")
    ceil = name_of(p, "round_mode") == "CEIL" and p.ceil_mode
    if ceil and x.is_map and min(*kernel, *stride) > 0:
        room = [n + 2 * pad for n, pad in zip(x.shape, padding, strict=False)]
        sizes = list(zip(room, kernel, stride, strict=True))
        if not any(padding) and any(-(-(n - k) // s) * s >= n for n, k, s in sizes):
            raise ValueError(f"stride: {stride} puts a window outside of the map {x.shape}, where Caffe finds no number")
    return kind(kernel, stride, padding, ceil)


def _relu(layer: Any, x: Value, weights: Weights) -> Module:
    slope = layer.relu_param.negative_slope
    return modules.LeakyReLU(slope) if slope else modules.ReLU()


def _prelu(layer: Any, x: Value, weights: Weights) -> Module:
    if layer.prelu_param.channel_shared:
        return modules.PReLU(weights.take(layer.name, (1,))[0])
    return modules.PReLU(in_our_order(x, *weights.take(layer.name, x.shape[-1:])))


def _lrn(layer: Any, x: Value, weights: Weights) -> Module:
    p = layer.lrn_param
    if name_of(p, "norm_region") == "WITHIN_CHANNEL":
        return modules.LRN(p.local_size, p.alpha, p.beta, 1.0, "within")  # whatever k
    return modules.LRN(p.local_size, p.alpha, p.beta, p.k)


def _batch_norm(layer: Any, x: Value, weights: Weights) -> Module:
    """Caffe stores sums: mean and variance times a third number, 0 before training."""
    p = layer.batch_norm_param
    if p.HasField("use_global_stats") and not p.use_global_stats:
        raise ValueError("use_global_stats: expected true, the statistics of training, found false")
    mean, variance, count = weights.take(layer.name, x.shape[-1:], x.shape[-1:], (1,))
    with np.errstate(all="ignore"):
        mean, variance = (a / count[0] if count[0] else 0 * a for a in (mean, variance))
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        raise ValueError(f"expected sums to be divided by their count, found the count {count[0]}")
    return modules.BatchNorm(in_our_order(x, mean), in_our_order(x, variance), eps=p.eps)


def _scale(net: Net, layer: Any, values: list[Value]) -> Value:
    p, [x] = layer.scale_param, values
    require_channel_axis(x, p.axis)
    if p.num_axes != 1:
        raise ValueError(f"num_axes: expected 1, found {p.num_axes}")
    w, *b = (in_our_order(x, a) for a in net.weights.take(layer.name, *[x.shape[-1:]] * (1 + p.bias_term)))
    return net.draft.add(layer.name, x, modules.Scale(w, *b))


def _softmax(layer: Any, x: Value, weights: Weights) -> Module:
    require_channel_axis(x, layer.softmax_param.axis)
    return modules.SoftMax()


def _flatten(net: Net, layer: Any, values: list[Value]) -> Value:
    p, [x] = layer.flatten_param, values
    require_channel_axis(x, p.axis)
    if p.end_axis not in (-1, len(x.shape)):
        raise ValueError(f"end_axis: expected −1, the last, found {p.end_axis}")
    return net.flattened(layer.name, x)


def _concat(net: Net, layer: Any, values: list[Value]) -> Value:
    p = layer.concat_param
    require_channel_axis(values[0], p.concat_dim if p.HasField("concat_dim") else p.axis)
    return net.join(layer.name, values, modules.Concatenation())


def _eltwise(net: Net, layer: Any, values: list[Value]) -> Value:
    p = layer.eltwise_param
    if name_of(p, "operation") != "SUM":
        raise ValueError(f"operation: expected SUM, found {name_of(p, 'operation')}")
    if p.coeff and len(p.coeff) != len(values):
        raise ValueError(f"coeff: expected a number for each of {len(values)} inputs, found {len(p.coeff)}")
    for k, (c, x) in enumerate(zip(p.coeff, values, strict=False)):
        if c != 1:
            values[k] = net.draft.add(f"{layer.name}/{k + 1}", x, modules.Scale(np.full(x.shape[-1:], c, net.weights.dtype)))
    return net.join(layer.name, values, modules.Sum())


LAYERS: dict[str, Converter] = {
    "BatchNorm": _one(_batch_norm),
    "Concat": _concat,
    "Convolution": _one(_conv),
    "Dropout": _one(lambda layer, x, weights: modules.Dropout(layer.dropout_param.dropout_ratio)),
    "Eltwise": _eltwise,
    "Flatten": _flatten,
    "InnerProduct": _dense,
    "LRN": _one(_lrn),
    "PReLU": _one(_prelu),
    "Pooling": _one(_pool),
    "ReLU": _one(_relu),
    "Scale": _scale,
    "Sigmoid": _one(lambda layer, x, weights: modules.Sigmoid()),
    "Softmax": _one(_softmax),
    "TanH": _one(lambda layer, x, weights: modules.Tanh()),
}

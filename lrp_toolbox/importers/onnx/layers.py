"""ONNX's operators as our layers, one function each."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ... import modules as m
from ...backend import Array
from ...modules import BatchNorm, Concatenation, Conv, Linear, Module, Pad, Pad1D, Pad3D, Scale, Sum
from ...modules.base import Shape
from .constants import axes_of, axis_of, slices, squeezed, target_shape, unsqueezed, whole_numbers
from .file import UnsupportedError
from .graph import Call, Constant, Converter, Signal, Value
from .layout import Layout

Border = tuple[tuple[int, int], ...]
MAX_WINDOW = 1 << 16  # places that a kernel, stride or border spans
MAX_PIECES = 64  # of an axis, put together in another order

# ---- Windows ---------------------------------------------------------------------------------------------------------


def _sizes(call: Call, name: str, places: int, default: Shape | None = None, least: int = 1) -> Shape:
    """One number for each axis of places."""
    value = call.whole(name, None) or default or (1,) * places
    if len(value) != places or not all(least <= n <= MAX_WINDOW for n in value):
        call.refuse(f"{name} as {places} whole numbers ≥ {least}", value)
    return value


def _border(call: Call, shape: Shape, kernel: Shape, stride: Shape, dilation: Shape) -> Border:
    """The padding, before and after, of each axis of places."""
    auto = call.text("auto_pad", "NOTSET")
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        missing = [max(0, (-(-n // s) - 1) * s + span - n) for n, s, span in zip(shape, stride, spans, strict=True)]
        small = [(n // 2, n - n // 2) for n in missing]
        return tuple(small if auto == "SAME_UPPER" else [(after, before) for before, after in small])
    if auto not in ("NOTSET", "VALID"):
        call.refuse("auto_pad as NOTSET, VALID, SAME_UPPER or SAME_LOWER", auto)
    pads = (call.whole("pads", None) if auto == "NOTSET" else None) or (0,) * (2 * len(shape))
    if len(pads) != 2 * len(shape) or not all(0 <= n <= MAX_WINDOW for n in pads):
        call.refuse(f"pads as {2 * len(shape)} whole numbers ≥ 0", pads)
    return tuple(zip(pads[: len(shape)], pads[len(shape) :], strict=True))


def _of_places(call: Call, places: int, *kinds: Any) -> Any:
    """The layer for 1, 2 or 3 axes of places."""
    if not 1 <= places <= 3:
        call.refuse("1, 2 or 3 axes of places", places)
    return kinds[places - 1]


def _plain(values: Sequence[Any]) -> Any:
    """What a layer of one axis takes: the value of that axis."""
    return values[0] if len(values) == 1 else tuple(values)


def _places(x: Signal) -> Shape:
    return tuple(x.layout.shape[axis] for axis in x.layout.features[1:])


def _after(x: Signal, module: Module, channels: int | None = None) -> Layout:
    """The layout of what a layer makes of x, which has its channels last."""
    *places, last = module.output_shape(x.layout.our_shape)
    first, *axes = x.layout.features
    return x.layout.resized({first: channels or last, **dict(zip(axes, places, strict=True))})


def _conv(call: Call) -> Signal:
    x = call.channels_last(call.signal())
    w, b = call.required(1, "W"), call.weights(2, "B")
    places = w.ndim - 2
    kind = _of_places(call, places, m.Conv1D, Conv, m.Conv3D)
    kernel = _sizes(call, "kernel_shape", places, w.shape[2:])
    if kernel != w.shape[2:] or len(_places(x)) != places:
        call.refuse(f"a kernel as the weights {w.shape} have, on as many axes", f"{kernel} on {x.layout.shape}")
    stride, dilation = _sizes(call, "strides", places), _sizes(call, "dilations", places)
    source, outer = _unpadded(call, x)
    border = _border(call, _places(x), kernel, stride, dilation)
    border = tuple((a + c, b + d) for (a, b), (c, d) in zip(border, outer, strict=True))
    w = np.ascontiguousarray(w.transpose(*range(2, w.ndim), 1, 0))
    module = kind(
        w, b, stride=_plain(stride), padding=_plain(border), dilation=_plain(dilation), groups=call.number("group", 1)
    )
    return call.add(module, source, _after(source, module))


def _unpadded(call: Call, x: Signal) -> tuple[Signal, Border]:
    """x, or what it was before zeros were put around it: those become the convolution's own padding."""
    module, none = call.walk.module(x), ((0, 0),) * len(_places(x))
    if not isinstance(module, Pad) or module.mode != "zeros":
        return x, none
    border: Border = module.padding  # type: ignore[assignment]
    axes, sizes = x.layout.features[1:], _places(x)
    before = {axis: n - a - b for axis, n, (a, b) in zip(axes, sizes, border, strict=True)}
    return Signal(call.walk.nodes[x.node].inputs[0], x.layout.resized(before)), border


def _conv_transpose(call: Call) -> Signal:
    x = call.channels_last(call.signal())
    w, b = call.required(1, "W"), call.weights(2, "B")
    places = w.ndim - 2
    if places not in (1, 2) or len(_places(x)) != places:
        call.refuse("1 or 2 axes of places", places)
    kernel = _sizes(call, "kernel_shape", places, w.shape[2:])
    stride, dilation = _sizes(call, "strides", places), _sizes(call, "dilations", places)
    extra = _sizes(call, "output_padding", places, (0,) * places, least=0)
    spans = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    full = [(n - 1) * s + span + e for n, s, span, e in zip(_places(x), stride, spans, extra, strict=True)]
    wanted, auto = call.whole("output_shape", None), call.text("auto_pad", "NOTSET")
    if wanted is None and auto in ("SAME_UPPER", "SAME_LOWER"):
        wanted = tuple(n * s for n, s in zip(_places(x), stride, strict=True))
    if wanted is None:
        border = _border(call, _places(x), kernel, stride, dilation)
    else:
        if len(wanted) != places:
            call.refuse(f"output_shape as {places} whole numbers", wanted)
        cut = [n - size for n, size in zip(full, wanted, strict=True)]
        if min(cut) < 0:  # more is asked for than there is: zeros at the end
            extra = tuple(e + max(0, -n) for e, n in zip(extra, cut, strict=True))
            cut = [max(0, n) for n in cut]
        halves = [(n // 2, n - n // 2) for n in cut]
        border = tuple(halves if auto != "SAME_LOWER" else [(after, before) for before, after in halves])
    if kernel != w.shape[2:]:
        call.refuse(f"a kernel as the weights {w.shape} have", kernel)
    one = 2 - places  # a sequence is a map of height 1
    w = np.ascontiguousarray(w.reshape(*w.shape[:2], *[1] * one, *kernel).transpose(2, 3, 0, 1))
    module = m.ConvTranspose(
        w,
        b,
        stride=(*[1] * one, *stride),
        padding=(*[(0, 0)] * one, *border),
        output_padding=(*[0] * one, *extra),
        dilation=(*[1] * one, *dilation),
        groups=call.number("group", 1),
    )
    if not one:
        return call.add(module, x, _after(x, module))
    first, axis = x.layout.features
    lifted = call.arrange(x, ((), *x.layout.ours))
    _, length, channels = module.output_shape(lifted.layout.our_shape)
    layout = x.layout.resized({first: channels, axis: length})
    y = call.add(module, lifted, layout.with_ours(((), *layout.ours)))
    return call.arrange(y, layout.ours)


def _max_pool(call: Call) -> Signal:
    x, kernel, stride, border = _window(call)
    kind = _of_places(call, len(kernel), m.MaxPool1D, m.MaxPool, m.MaxPool3D)
    module = kind(_plain(kernel), _plain(stride), _plain(border), ceil_mode=bool(call.number("ceil_mode", 0)))
    return call.add(module, x, _after(x, module))


def _avg_pool(call: Call) -> Signal:
    x, kernel, stride, border = _window(call)
    kind = _of_places(call, len(kernel), m.AvgPool1D, m.AvgPool, m.AvgPool3D)
    counted, ceil = bool(call.number("count_include_pad", 0)), bool(call.number("ceil_mode", 0))
    module = kind(_plain(kernel), _plain(stride), _plain(border), ceil_mode=ceil, count_include_pad=counted)
    return call.add(module, x, _after(x, module))


def _window(call: Call) -> tuple[Signal, Shape, Shape, Border]:
    x = call.channels_last(call.signal())
    places = len(_places(x))
    kernel = call.whole("kernel_shape", None)
    if kernel is None:
        call.refuse("kernel_shape", "none")
    kernel = _sizes(call, "kernel_shape", places)
    stride, dilation = _sizes(call, "strides", places), _sizes(call, "dilations", places)
    if dilation != (1,) * places:
        call.refuse("windows without dilation", dilation)
    return x, kernel, stride, _border(call, _places(x), kernel, stride, dilation)


POOLS: dict[str, tuple[Any, ...]] = {
    "Mean": (m.AvgPool1D, m.AvgPool, m.AvgPool3D),
    "Max": (m.MaxPool1D, m.MaxPool, m.MaxPool3D),
}


def _global_pool(kind: str) -> Converter:
    return lambda call: _pool_all(call, call.channels_last(call.signal()), kind)


def _pool_all(call: Call, x: Signal, kind: str) -> Signal:
    """Over the whole map, whose places remain as axes of size 1."""
    module = _of_places(call, len(_places(x)), *POOLS[kind])(None)
    return call.add(module, x, _after(x, module))


def _lrn(call: Call) -> Signal:
    x = call.channels_last(call.signal())
    alpha, beta, k = (call.number(name, value) for name, value in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    return call.add(m.LRN(call.number("size", 1), alpha, beta, k), x, x.layout)


# ---- Dense -----------------------------------------------------------------------------------------------------------


def _gemm(call: Call) -> Signal:
    if call.number("transA", 0):
        call.refuse("an input that is not transposed", "transA = 1")
    x, w = call.signal(), call.required(1, "B")
    w = (w.T if call.number("transB", 0) else w) * w.dtype.type(call.number("alpha", 1.0))
    b = call.weights(2, "C")
    if b is not None:
        b = b * b.dtype.type(call.number("beta", 1.0))
        if b.size not in (1, w.shape[1]) or b.shape[-1:] not in ((), (1,), (w.shape[1],)):
            call.refuse(f"C as one number, or one for each of {w.shape[1]} outputs", f"shape {b.shape}")
        b = np.ascontiguousarray(np.broadcast_to(b.reshape(-1), w.shape[1:]))
    if x.layout.rank != 2:
        call.refuse("(sample, feature)", f"shape {x.layout.shape}")
    return _dense(call, x, w, b)


def _matmul(call: Call) -> Signal:
    x, w = call.signal(), call.required(1, "B")
    if w.ndim == 1:
        y = _dense(call, x, w[:, None], None)
        return relabelled(call, y, y.layout.shape[:-1])
    return _dense(call, x, w, None)


def _dense(call: Call, x: Signal, w: Array, b: Array | None) -> Signal:
    """w is (in, out). If several axes were flattened into one, its rows are brought into the order of our axes."""
    layout = x.layout
    if w.ndim != 2 or not layout.features or layout.features[-1] != layout.rank - 1 or layout.shape[-1] != w.shape[0]:
        call.refuse(f"weights (in, out) for the last axis of {layout.shape}", f"shape {w.shape}")
    if len(layout.features) == 1:
        order = tuple(f for group in layout.ours for f in group)
        x = call.arrange(x, (order,))
        order = (*order, *(f for f in range(len(layout.sizes)) if f not in order))
        rows = np.arange(len(w)).reshape(layout.sizes).transpose(order).reshape(-1)
        module: Module = Linear(np.ascontiguousarray(w[rows]), b)
        shape = tuple(n if axis == layout.samples else w.shape[1] for axis, n in enumerate(layout.shape))
        return call.add(module, x, Layout.of(shape, layout.features, layout.samples))
    if not layout.one_by_one or layout.position(layout.rank - 1) != -1:
        x = call.in_order(x)
    w = np.ascontiguousarray(w)
    module = Conv(w[None, None], b) if len(x.layout.ours) == 3 else Linear(w, b)
    return call.add(module, x, x.layout.resized({layout.rank - 1: w.shape[1]}))


# ---- Normalisation ---------------------------------------------------------------------------------------------------


def _batch_norm(call: Call) -> Signal:
    if call.number("training_mode", 0) or not call.number("spatial", 1):
        call.refuse("batch normalisation with the statistics of training, a number for each channel", "another kind")
    x = call.signal()
    x = call.in_order(x) if len(x.layout.features) == 1 and x.layout.samples == 0 else call.channels_last(x)
    gamma, beta, mean, variance = (call.required(k, name) for k, name in enumerate(("scale", "B", "mean", "var"), 1))
    return call.add(BatchNorm(mean, variance, gamma, beta, call.number("epsilon", 1e-5)), x, x.layout)


def _layer_norm(call: Call) -> Signal:
    rank = call.signal().layout.rank
    first = axis_of(call.number("axis", -1), rank)
    given = call.weights(1, "scale"), call.weights(2, "B")
    return normed(call, call.signal(), tuple(range(first, rank)), call.number("epsilon", 1e-5), *given)


def normed(call: Call, x: Signal, axes: Sequence[int], eps: float, w: Array | None = None, b: Array | None = None) -> Signal:
    """(x − mean) / √(variance + ε) · w + b over some axes of ONNX; with w or b, over its last ones."""
    x = call.separate(x)
    if x.layout.samples in axes:
        call.refuse("a norm of each sample by itself", f"axes {tuple(axes)} of {x.layout.shape}")
    positions, last = tuple(sorted(x.layout.position(axis) for axis in axes)), tuple(range(-len(axes), 0))
    if positions != last and not (w is None and b is None):  # they belong to the last axes
        x, positions = call.in_order(x), last
    w, b = (None if a is None else _last(x.layout.constant(a), x.layout.our_shape[-len(axes) :]) for a in (w, b))
    return call.add(m.LayerNorm(positions, w, b, eps), x, x.layout)


def _last(a: Array, shape: Shape) -> Array:
    """A constant for the last axes, in the shape of these."""
    if any(n != 1 for n in a.shape[: a.ndim - len(shape)]):
        raise UnsupportedError(f"expected a number for each of the last {len(shape)} axes, found shape {a.shape}")
    return np.ascontiguousarray(np.broadcast_to(a.reshape(a.shape[a.ndim - len(shape) :]), shape))


def _instance_norm(call: Call) -> Signal:
    x = call.channels_last(call.signal())
    w, b = call.required(1, "scale"), call.required(2, "B")
    return call.add(m.InstanceNorm(w, b, call.number("epsilon", 1e-5), axes_in=len(x.layout.ours)), x, x.layout)


def _group_norm(call: Call) -> Signal:
    x = call.channels_last(call.signal())
    channels, groups = x.layout.our_shape[-1], call.number("num_groups", 1)
    w, b = call.required(1, "scale"), call.required(2, "bias")
    if w.shape != (channels,):  # opset 18: a number for each group
        w, b = (np.repeat(a, channels // max(a.size, 1)) for a in (w, b))
    return call.add(m.GroupNorm(groups, w, b, call.number("epsilon", 1e-5), axes_in=len(x.layout.ours)), x, x.layout)


# ---- Each number by itself -------------------------------------------------------------------------------------------


def _activation(make: Any) -> Converter:
    def convert(call: Call) -> Signal:
        x = call.signal()
        return call.add(make(call), x, x.layout)

    return convert


def _unchanged(call: Call) -> Signal:
    return call.signal()


def _dropout(call: Call) -> Signal:
    training = call.constant(2, "training_mode")
    if training is not None and training.any():
        call.refuse("dropout once training is over", "training_mode = true")
    return call.signal()


def _cast(call: Call) -> Signal:
    if call.number("to", 1) not in (1, 10, 11, 16):
        call.refuse("a cast to floating-point numbers", f"type {call.number('to', 1)}")
    return call.signal()


def _clip(call: Call) -> Module:
    low, high = (
        call.number(name, infinity) if name in call.node.attributes else _scalar(call, k, name, infinity)
        for k, name, infinity in ((1, "min", -math.inf), (2, "max", math.inf))
    )
    if low == 0 and high > 0:
        return m.ReLU() if high >= 3e38 else m.ClippedReLU(high)
    return m.Clip(low, high)


def _scalar(call: Call, k: int, name: str, default: float) -> float:
    a = call.constant(k, name)
    if a is None:
        return default
    if a.size != 1:
        call.refuse(f"{name} as one number", f"shape {a.shape}")
    return float(a.reshape(-1)[0])


def _elu(call: Call) -> Module:
    return m.ELU(call.number("alpha", 1.0))


def _selu(call: Call) -> Signal:
    x = call.signal()
    y = call.add(m.ELU(call.number("alpha", 1.6732632423543772)), x, x.layout)
    return _scaled(call, y, np.asarray(call.number("gamma", 1.0507009873554805)), None)


def _gelu(call: Call) -> Module:
    approximate = call.text("approximate", "none")
    if approximate == "none":
        return m.GELU()
    if approximate == "tanh":
        return m.GELU("tanh")
    call.refuse("approximate as none or tanh", approximate)


def _swish(call: Call) -> Signal:
    alpha = call.number("alpha", 1.0)
    if alpha == 0:
        call.refuse("x · sigmoid(alpha · x) with an alpha other than 0", alpha)
    return silu(call, call.signal(), alpha)


def silu(call: Call, x: Signal, alpha: float) -> Signal:
    """x · sigmoid(α x) = SiLU(α x) / α."""
    if alpha == 1:
        return call.add(m.SiLU(), x, x.layout)
    x = _scaled(call, x, np.asarray(alpha), None)
    x = call.add(m.SiLU(), x, x.layout)
    return _scaled(call, x, np.asarray(1 / alpha), None)


def _prelu(call: Call) -> Signal:
    x = call.signal()
    slope = x.layout.constant(call.required(1, "slope"))
    return call.add(m.PReLU(_trimmed(slope)), x, x.layout)


def _trimmed(a: Array) -> Array:
    """Without axes of size 1 in front."""
    first = next((k for k, n in enumerate(a.shape) if n != 1), max(a.ndim - 1, 0))
    return a.reshape(a.shape[first:])


def _softmax(call: Call) -> Signal:
    x = call.separate(call.signal())
    axis = axis_of(call.number("axis", -1 if call.walk.file.opset >= 13 else 1), x.layout.rank)
    if call.walk.file.opset < 13 and any(n != 1 for n in x.layout.shape[axis + 1 :]):
        call.refuse("a softmax over one axis", f"over all axes from {axis} on of {x.layout.shape}")
    if axis == x.layout.samples or (len(x.layout.ours) == 3 and x.layout.shape[axis] == 1):
        call.refuse("a softmax over several numbers of one sample", f"over axis {axis} of {x.layout.shape}")
    if x.layout.position(axis) != -1:
        rest = [a for a in x.layout.order if a != axis]
        x = call.arrange(x, x.layout.in_order([*rest, axis]))
    return call.add(m.SoftMax(), x, x.layout)


def _only_last(call: Call) -> Signal:
    raise UnsupportedError("expected a softmax or sigmoid like this at the end of the net only, where it is left off")


# ---- Sums and products -----------------------------------------------------------------------------------------------


def _scaled(call: Call, x: Signal, w: Array | None, b: Array | None) -> Signal:
    """x · w + b with constants, as a bias of the layer before, a Scale of the channels, or an Affine layer."""
    dtype = call.walk.dtype
    w, b = (None if a is None else x.layout.constant(a.astype(dtype)) for a in (w, b))
    shape = x.layout.our_shape

    def vector(a: Array | None, default: float) -> Array | None:
        """One number for each channel, if a has no more."""
        if a is None:
            return np.full(shape[-1:], default, dtype)
        if not shape or math.prod(a.shape[:-1]) != 1:
            return None
        return np.ascontiguousarray(np.broadcast_to(a.reshape(-1), shape[-1:]))

    scale, shift = vector(w, 1.0), vector(b, 0.0)
    if scale is None or shift is None:
        return call.add(m.Affine(w, b), x, x.layout)
    before = call.walk.module(x)
    if w is None and isinstance(before, (Linear, Conv, m.Conv1D, m.Conv3D, m.ConvTranspose)) and before.b is None:
        return _with(call, replace(before, b=shift), x)
    if isinstance(before, m.LayerNorm) and before.over == (-1,) and before.b is None and (b is None or w is None):
        if b is not None:
            return _with(call, replace(before, b=shift), x)
        if before.w is None:
            return _with(call, replace(before, w=scale), x)
    return _channelwise(call, x, scale, None if b is None else shift)


def _channelwise(call: Call, x: Signal, w: Array, b: Array | None) -> Signal:
    """x · w + b, channel by channel. Several such steps one behind the other are one.

    Behind a dense layer or a convolution this is a batch normalisation that was written out, and is read as one: `explain`
    merges it into that layer.
    """
    before = call.walk.module(x)
    chained = isinstance(before, (Scale, BatchNorm))
    source = call.walk.nodes[x.node].inputs[0] if chained else x.node
    if isinstance(before, (Scale, BatchNorm)):
        b = b if before.b is None else before.b * w + (0 if b is None else b)
        w = before.w * w
    behind = source in call.walk.nodes and isinstance(call.walk.nodes[source].module, (Linear, Conv))
    none = np.zeros_like(w)
    module = BatchNorm(none, none + 1, w, b, 0.0) if behind and b is not None else Scale(w, b)
    return _with(call, module, x) if chained else call.add(module, x, x.layout)


def _with(call: Call, module: Module, x: Signal) -> Signal:
    """`module` in place of the layer that made x, which is left out if no one else reads x."""
    walk = call.walk
    name = f"{len(walk.nodes)}"
    walk.nodes[name] = replace(walk.nodes[x.node], name=name, module=module)
    walk.origins[name] = walk.origins[x.node]
    return Signal(name, x.layout)


def _two(call: Call) -> tuple[Signal, Signal]:
    """Two values with their axes in the same order."""
    first, second = _aligned(call, [call.signal(0), call.signal(1)])
    return first, second


def _aligned(call: Call, values: Sequence[Signal]) -> tuple[Signal, ...]:
    first = values[0]
    if any(x.layout.rank != first.layout.rank or x.layout.samples != first.layout.samples for x in values):
        call.refuse("values with as many axes", ", ".join(str(x.layout.shape) for x in values))
    if all(x.layout == first.layout for x in values):
        return tuple(values)
    first = call.separate(first)
    return tuple(call.arrange(x, x.layout.in_order(first.layout.order)) for x in (first, *values[1:]))


def _constants(call: Call) -> tuple[Signal | None, Array | None, bool]:
    """(value, constant, whether the constant comes first) of an operator with two inputs; no constant if both are values."""
    if len(call.inputs) != 2:
        call.refuse("two inputs", len(call.inputs))
    first, second = call.inputs
    if isinstance(first, Constant):
        return call.signal(1), call.required(0, "A"), True
    if isinstance(second, Constant):
        return call.signal(0), call.required(1, "B"), False
    return None, None, False


def _add(call: Call) -> Signal:
    x, c, _ = _constants(call)
    if x is not None:
        return _scaled(call, x, None, c)
    return _summed(call, _two(call))


def _sum(call: Call) -> Signal:
    values = [call.signal(k) for k in range(len(call.inputs))]
    return values[0] if len(values) == 1 else _summed(call, _aligned(call, values))


def _summed(call: Call, values: Sequence[Signal]) -> Signal:
    if any(x.layout.shape != values[0].layout.shape for x in values):
        try:
            shape = np.broadcast_shapes(*(x.layout.shape for x in values))
        except ValueError:
            call.refuse("values that broadcast", ", ".join(str(x.layout.shape) for x in values))
        values = _aligned(call, [expanded(call, x, shape) for x in values])
    return call.add(Sum(), values, values[0].layout)


def _expand(call: Call) -> Signal:
    x, shape = call.signal(), call.whole("shape", 1)
    try:
        shape = np.broadcast_shapes(x.layout.shape, () if shape is None else shape)
    except ValueError:
        call.refuse(f"a shape that {x.layout.shape} broadcasts to", shape)
    return expanded(call, relabelled(call, x, (1,) * (len(shape) - x.layout.rank) + x.layout.shape), shape)


def expanded(call: Call, x: Signal, shape: Shape) -> Signal:
    """x with its numbers repeated along axes of size 1, which is a resize to the nearest neighbour.

    The relevance of the copies is added up.
    """
    repeated = [axis for axis, n in enumerate(shape) if n != x.layout.shape[axis]]
    if not repeated:
        return x
    if x.layout.samples in repeated:
        call.refuse("a value of each sample that is repeated", f"{x.layout.shape} to {shape}")
    x = call.separate(relabelled(call, x, (*x.layout.shape, 1, 1)))  # a resize takes three axes
    for axis in repeated:
        others = [a for a in x.layout.order if a != axis]
        x = call.arrange(x, x.layout.in_order([*others[:-2], axis, *others[-2:]]))
        size = (shape[axis], x.layout.our_shape[-2])
        x = call.add(m.Resize(size=size, rounding="floor"), x, x.layout.resized({axis: shape[axis]}))
    return relabelled(call, x, shape)


def _without_expand(call: Call, k: int) -> Signal:
    """Input k, or what it repeats: a product repeats it anyway."""
    maker, x = call.walk.makers.get(call.node.inputs[k]), call.signal(k)
    if maker is not None and maker.op == "Expand" and isinstance(before := call.walk.values[maker.inputs[0]], Signal):
        return before if before.layout.rank == x.layout.rank else x
    return x


def _sub(call: Call) -> Signal:
    x, c, constant_first = _constants(call)
    minus = np.asarray(-1.0)
    if x is not None and c is not None:
        return _scaled(call, x, minus, c) if constant_first else _scaled(call, x, None, -c)
    first, second = _two(call)
    return _summed(call, [first, _scaled(call, second, minus, None)])


def _mul(call: Call) -> Signal:
    x, c, _ = _constants(call)
    if x is not None:
        return _scaled(call, x, c, None)
    values = list(_aligned(call, [_without_expand(call, 0), _without_expand(call, 1)]))
    if _is_gate(call, values):
        values.reverse()
    try:
        shape = np.broadcast_shapes(*(v.layout.shape for v in values))
    except ValueError:
        call.refuse("a gate that fits the value", ", ".join(str(v.layout.shape) for v in values))
    if values[0].layout.shape != shape:
        values = list(_aligned(call, [expanded(call, values[0], shape), values[1]]))
    return call.add(m.Multiply(), values, values[0].layout)


def _is_gate(call: Call, values: Sequence[Signal]) -> bool:
    """Whether the first of two is the gate: the smaller one, or the one that a bounded activation makes."""
    sizes = [math.prod(v.layout.shape) for v in values]
    if sizes[0] != sizes[1]:
        return sizes[0] < sizes[1]
    bounded = (m.Sigmoid, m.SoftMax, m.Tanh, m.HardSigmoid)
    gates = [isinstance(call.walk.module(v), bounded) for v in values]
    return gates[0] and not gates[1]


def _div(call: Call) -> Signal:
    x, c, constant_first = _constants(call)
    if x is None or c is None or constant_first:
        call.refuse("a constant to divide by", "a value that depends on the input")
    if (c == 0).any():
        call.refuse("a constant other than 0 to divide by", 0)
    return _scaled(call, x, 1 / c, None)


def _neg(call: Call) -> Signal:
    return _scaled(call, call.signal(), np.asarray(-1.0), None)


# ---- Axes ------------------------------------------------------------------------------------------------------------


def relabelled(call: Call, x: Signal, shape: Shape) -> Signal:
    """ONNX's Reshape; no layer, unless the new axes cut across the old ones."""
    layout = x.layout.reshaped(shape)
    if layout is not None:
        return Signal(x.node, layout)
    samples = x.layout._samples_of(shape)
    if (samples is None) != (x.layout.samples is None) or math.prod(shape) != math.prod(x.layout.shape):
        call.refuse("a reshape of each sample by itself", f"{x.layout.shape} to {shape}")
    x = call.in_order(x)
    layout = Layout.of(shape, [a for a in range(len(shape)) if a != samples], samples)
    return call.add(m.Reshape(layout.our_shape, len(x.layout.ours)), x, layout)


def _reshape(call: Call) -> Signal:
    x, target = call.signal(), call.whole("shape", 1)
    if target is None:
        call.refuse("a shape", "none")
    return relabelled(call, x, target_shape(x.layout.shape, target, bool(call.number("allowzero", 0))))


def _flatten(call: Call) -> Signal:
    x, shape = call.signal(), call.signal().layout.shape
    axis = call.number("axis", 1)
    axis = axis if axis == len(shape) else axis_of(axis, len(shape))
    return relabelled(call, x, (math.prod(shape[:axis]), math.prod(shape[axis:])))


def _squeeze(call: Call) -> Signal:
    x, axes = call.signal(), call.whole("axes", 1)
    layout = x.layout
    gone = axes_of(axes, layout.rank) if axes else [a for a in layout.features if layout.shape[a] == 1]
    if layout.samples in gone:
        call.refuse("an axis of samples that stays", f"axes {tuple(gone)} of {layout.shape}")
    return relabelled(call, x, squeezed(layout.shape, gone))


def _unsqueeze(call: Call) -> Signal:
    x, axes = call.signal(), call.whole("axes", 1) or ()
    shape = unsqueezed(x.layout.shape, axes)
    if x.layout.samples is not None:  # where samples are now is known, even if other axes are of size 1
        kept = [a for a in range(len(shape)) if a not in axes_of(axes, len(shape))]
        samples, rest = kept[x.layout.samples], [a for a in range(len(shape)) if a != kept[x.layout.samples]]
        inner = Layout(x.layout.sizes, tuple(n for n in x.layout.counts if n), x.layout.ours, None)
        layout = inner.reshaped(tuple(shape[a] for a in rest))
        assert layout is not None  # axes of size 1 cut across nothing
        counts = [*layout.counts[:samples], 0, *layout.counts[samples:]]
        return Signal(x.node, Layout(layout.sizes, tuple(counts), layout.ours, samples, x.layout.batch))
    return relabelled(call, x, shape)


def _transpose(call: Call) -> Signal:
    x = call.signal()
    order = call.whole("perm", None) or tuple(reversed(range(x.layout.rank)))
    if sorted(order) != list(range(x.layout.rank)):
        call.refuse(f"perm as an order of {x.layout.rank} axes", order)
    return Signal(x.node, x.layout.transposed(order))


def _depth_to_space(call: Call) -> Signal:
    x, size, mode = call.signal(), call.number("blocksize", 1), call.text("mode", "DCR")
    n, c, h, w = _map_shape(call, x)
    if size < 1 or c % (size * size):
        call.refuse(f"a blocksize whose square divides {c} channels", size)
    first = (size, size, c // (size * size)) if mode == "DCR" else (c // (size * size), size, size)
    order = (0, 3, 4, 1, 5, 2) if mode == "DCR" else (0, 1, 4, 2, 5, 3)
    x = relabelled(call, x, (n, *first, h, w))
    x = Signal(x.node, x.layout.transposed(order))
    return relabelled(call, x, (n, c // (size * size), h * size, w * size))


def _space_to_depth(call: Call) -> Signal:
    x, size, mode = call.signal(), call.number("blocksize", 1), call.text("mode", "DCR")
    n, c, h, w = _map_shape(call, x)
    if size < 1 or h % size or w % size:
        call.refuse(f"a blocksize that divides {h} × {w}", size)
    x = relabelled(call, x, (n, c, h // size, size, w // size, size))
    x = Signal(x.node, x.layout.transposed((0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)))
    return relabelled(call, x, (n, c * size * size, h // size, w // size))


def _map_shape(call: Call, x: Signal) -> Shape:
    if x.layout.rank != 4 or x.layout.samples not in (0, None):
        call.refuse("(sample, channel, height, width)", f"shape {x.layout.shape}")
    return x.layout.shape


def _concat(call: Call) -> Signal:
    values = [call.signal(k) for k in range(len(call.inputs))]
    axis = axis_of(call.number("axis", 1), values[0].layout.rank)
    if axis == values[0].layout.samples:
        call.refuse("axes other than that of samples", axis)
    if len(values) == 1:
        return values[0]
    first = call.separate(values[0])
    values = [first, *values[1:]]
    if any(x.layout.rank != first.layout.rank or x.layout.samples != first.layout.samples for x in values):
        call.refuse("values with as many axes", ", ".join(str(x.layout.shape) for x in values))
    values = [call.arrange(x, x.layout.in_order(first.layout.order)) for x in values]
    position = first.layout.position(axis)
    layout = first.layout.resized({axis: sum(x.layout.shape[axis] for x in values)})
    return call.add(Concatenation(position), values, layout)


def _cut(call: Call, x: Signal, axis: int, start: int, stop: int, step: int = 1) -> Signal:
    """x[start:stop:step] along an axis; x is separate."""
    if axis == x.layout.samples:
        call.refuse("slices of axes other than that of samples", axis)
    count = len(range(start, stop, step))
    if count < 1:
        call.refuse("a slice that is not empty", (start, stop, step))
    if count == x.layout.shape[axis] and step > 0:
        return x
    module = m.Slice(x.layout.position(axis), start, stop if stop >= 0 else None, step)
    return call.add(module, x, x.layout.resized({axis: count}))


def _slice(call: Call) -> Signal:
    x = call.signal()
    wanted = slices(call, x.layout.shape)
    moved = {a: s for a, s in wanted.items() if s != (0, x.layout.shape[a], 1)}
    if not moved:
        return x
    x = call.separate(x)
    for axis, (start, stop, step) in moved.items():
        x = _cut(call, x, axis, start, stop, step)
    return x


def _split(call: Call) -> list[Value]:
    x = call.separate(call.signal())
    axis = axis_of(call.number("axis", 0), x.layout.rank)
    n, parts = x.layout.shape[axis], len(call.node.outputs)
    size = -(-n // parts)
    sizes = call.whole("split", 1) or tuple(min(size, max(0, n - k * size)) for k in range(parts))
    if len(sizes) != parts or sum(sizes) != n or min(sizes) < 1:
        call.refuse(f"{parts} parts of {n}", sizes)
    ends = np.cumsum(sizes).tolist()
    return [_cut(call, x, axis, end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _gather(call: Call) -> Signal:
    """Some places of an axis."""
    x, indices = call.separate(call.signal()), call.constant(1, "indices")
    axis = axis_of(call.number("axis", 0), x.layout.rank)
    if indices is None or indices.ndim > 1 or indices.size == 0:
        call.refuse("indices of one axis", None if indices is None else f"shape {indices.shape}")
    y = _taken(call, x, axis, indices)
    return y if indices.ndim == 1 else relabelled(call, y, squeezed(y.layout.shape, [axis]))


def _gather_nd(call: Call) -> Signal:
    """Some places of the first axis."""
    x, indices = call.separate(call.signal()), call.constant(1, "indices")
    if indices is None or indices.ndim != 2 or indices.shape[1] != 1 or indices.size == 0 or call.number("batch_dims", 0):
        call.refuse("indices of one axis", None if indices is None else f"shape {indices.shape}")
    return _taken(call, x, 0, indices)


def _taken(call: Call, x: Signal, axis: int, indices: Array) -> Signal:
    """These places of an axis: neighbours by one slice, others by several."""
    n = x.layout.shape[axis]
    found = [k + n if k < 0 else k for k in whole_numbers(indices, "indices")]
    if not all(0 <= k < n for k in found):
        call.refuse(f"indices from {-n} to {n - 1}", found)
    starts = [k for k, place in enumerate(found) if k == 0 or place != found[k - 1] + 1]
    if len(starts) > MAX_PIECES:
        call.refuse(f"indices that make at most {MAX_PIECES} slices", f"{len(starts)} slices")
    runs = [found[a:b] for a, b in zip(starts, [*starts[1:], len(found)], strict=True)]
    pieces = [_cut(call, x, axis, run[0], run[-1] + 1) for run in runs]
    if len(pieces) == 1:
        return pieces[0]
    return call.add(Concatenation(x.layout.position(axis)), pieces, x.layout.resized({axis: len(found)}))


def _reduce(kind: str) -> Converter:
    def convert(call: Call) -> Signal:
        x, layout = call.signal(), call.signal().layout
        axes = call.whole("axes", 1)
        if not axes and call.number("noop_with_empty_axes", 0):
            return x
        gone = axes_of(axes, layout.rank) if axes else tuple(range(layout.rank))
        if layout.samples in gone:
            call.refuse("axes other than that of samples", f"axes {gone} of {layout.shape}")
        if kind in POOLS and len(layout.features) in (3, 4) and gone == tuple(layout.features[1:]) and layout.samples == 0:
            y = _pool_all(call, call.channels_last(x), kind)
        elif kind in POOLS and layout.one_by_one and list(gone) == sorted(layout.order[:-1]) and 3 <= len(layout.order) <= 4:
            pool = POOLS[kind][len(gone) - 1](None)  # (sample, height, width, channel)
            y = call.add(pool, x, layout.resized(dict.fromkeys(gone, 1)))
        elif kind == "Max":
            y = _maximum_over(call, x, gone)
        else:
            x = call.separate(x)
            positions = tuple(sorted(x.layout.position(axis) for axis in gone))
            layer = {"Mean": m.Mean, "Sum": m.ReduceSum}[kind]
            if not call.number("keepdims", 1) and len(gone) < len(x.layout.features):
                return call.add(layer(positions), x, x.layout.without(gone))
            y = call.add(layer(positions, keepdims=True), x, x.layout.resized(dict.fromkeys(gone, 1)))
        return y if call.number("keepdims", 1) else relabelled(call, y, squeezed(y.layout.shape, gone))

    return convert


def _maximum_over(call: Call, x: Signal, gone: Sequence[int]) -> Signal:
    """The maximum over any axes, which stay as axes of size 1: they are the places of a sequence, the others its channels."""
    layout = x.layout
    over, rest = (
        tuple(f for axis in layout.features if (axis in gone) == which for f in layout.groups[axis]) for which in (True, False)
    )
    x = call.arrange(x, (over, rest))
    sizes = tuple(1 if f in over else n for f, n in enumerate(layout.sizes))
    return call.add(m.MaxPool1D(None), x, Layout(sizes, layout.counts, (over, rest), layout.samples, layout.batch))


def _pad(call: Call) -> Signal:
    x, mode = call.signal(), call.text("mode", "constant")
    pads, value = call.whole("pads", 1), float(call.number("value", _scalar(call, 2, "constant_value", 0.0)))
    rank = x.layout.rank
    axes = call.whole("axes", 3) or tuple(range(rank))
    if pads is None or len(pads) != 2 * len(axes) or not all(0 <= n <= MAX_WINDOW for n in pads):
        call.refuse(f"pads as {2 * len(axes)} whole numbers ≥ 0", pads)
    by_axis = {axis_of(a, rank): (pads[k], pads[k + len(axes)]) for k, a in enumerate(axes)}
    moved = {a: pair for a, pair in by_axis.items() if pair != (0, 0)}
    if not moved:
        return x
    if x.layout.samples in moved:
        call.refuse("a border around places or channels", f"pads {pads} on {x.layout.shape}")
    x = call.separate(x)
    if not set(moved) <= set(x.layout.order[:-1]) and x.layout.samples == 0:
        x = call.channels_last(x)
    of_places = set(moved) <= set(x.layout.order[:-1])
    places = x.layout.order[:-1] if of_places else x.layout.order  # channels become places, too
    kind = _of_places(call, len(places), Pad1D, Pad, Pad3D)
    border = tuple(moved.get(a, (0, 0)) for a in places)
    if mode == "constant":
        module = kind(border, "constant", value) if value else kind(border)
    elif mode in ("edge", "reflect", "wrap"):
        module = kind(border, mode)
    else:
        call.refuse("mode as constant, edge, reflect or wrap", mode)
    layout = x.layout.resized({a: x.layout.shape[a] + sum(pair) for a, pair in moved.items()})
    if of_places:
        return call.add(module, x, layout)
    return call.add(module, call.arrange(x, (*x.layout.ours, ())), layout.with_ours((*layout.ours, ())))


ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def _resize(call: Call) -> Signal:
    """Height and width by nearest neighbour or bilinear."""
    x, opset = call.channels_last(call.signal()), call.walk.file.opset
    old = call.node.op == "Upsample" or opset < 11  # scales are the second input, and places begin at their edges
    mode = call.text("mode", "nearest")
    coordinates = "asymmetric" if old else call.text("coordinate_transformation_mode", "half_pixel")
    rounding = "floor" if old else call.text("nearest_mode", "round_prefer_floor")
    modes = {"nearest": "nearest", "linear": "bilinear", "bilinear": "bilinear"}
    known = ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")
    if mode not in modes or coordinates not in known or rounding not in ROUNDINGS:
        call.refuse("nearest or linear, without cropping", (mode, coordinates, rounding))
    if call.number("antialias", 0) or call.number("exclude_outside", 0):
        call.refuse("a resize without antialias and exclude_outside", "one of them")
    rank = x.layout.rank
    places = x.layout.features[1:]
    axes = tuple(axis_of(a, rank) for a in call.whole("axes", None) or range(rank))
    sizes, scales = None if old else call.whole("sizes", 3), _scales(call, old, len(axes))
    if len(places) != 2 or call.text("keep_aspect_ratio_policy", "stretch") != "stretch":
        call.refuse("height and width, stretched", f"{x.layout.shape}")
    if (sizes is None) == (scales is None) or len(axes) != len(sizes or scales or ()):
        call.refuse(f"sizes or scales of {len(axes)} axes", f"{sizes}, {scales}")
    given = dict(zip(axes, sizes or scales or (), strict=True))
    others = {axis: n for axis, n in given.items() if axis not in places}
    if any(n != (x.layout.shape[axis] if sizes else 1) for axis, n in others.items()):
        call.refuse("height and width in another size, and nothing else", given)
    if sizes:
        pair: Any = {"size": tuple(given.get(a, x.layout.shape[a]) for a in places)}
    else:
        pair = {"scale": tuple(given.get(a, 1.0) for a in places)}
        ends = [given.get(a, 1.0) * x.layout.shape[a] for a in places]
        if coordinates == "align_corners" and any(n != round(n) for n in ends):
            call.refuse("scales that give whole sizes, where corners are aligned", ends)
    module = m.Resize(**pair, mode=modes[mode], coordinates=coordinates, rounding=rounding)  # type: ignore[arg-type]
    return call.add(module, x, _after(x, module))


def _scales(call: Call, old: bool, count: int) -> tuple[float, ...] | None:
    if "scales" in call.node.attributes:
        a = np.asarray(call.node.attributes["scales"])
    else:
        constant = call.constant(1 if old else 2, "scales")
        if constant is None or constant.size == 0:
            return None
        a = constant
    if a.dtype.kind != "f" or a.size != count or not (np.isfinite(a).all() and (a > 0).all() and (a <= MAX_WINDOW).all()):
        call.refuse(f"scales as {count} numbers > 0", a)
    return tuple(float(s) for s in a.reshape(-1))


# ---- The table -------------------------------------------------------------------------------------------------------

LAYERS: Mapping[str, Converter] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "AveragePool": _avg_pool,
    "GlobalMaxPool": _global_pool("Max"),
    "GlobalAveragePool": _global_pool("Mean"),
    "LRN": _lrn,
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
    "Relu": _activation(lambda call: m.ReLU()),
    "LeakyRelu": _activation(lambda call: m.LeakyReLU(call.number("alpha", 0.01))),
    "PRelu": _prelu,
    "Clip": _activation(_clip),
    "Elu": _activation(_elu),
    "Selu": _selu,
    "Gelu": _activation(_gelu),
    "Swish": _swish,
    "HardSwish": _activation(lambda call: m.HardSwish()),
    "HardSigmoid": _activation(lambda call: m.HardSigmoid(call.number("alpha", 0.2), call.number("beta", 0.5))),
    "Mish": _activation(lambda call: m.Mish()),
    "Softplus": _activation(lambda call: m.Softplus()),
    "Sigmoid": _activation(lambda call: m.Sigmoid()),
    "Tanh": _activation(lambda call: m.Tanh()),
    "Softmax": _softmax,
    "LogSoftmax": _only_last,
    "Identity": _unchanged,
    "Expand": _expand,
    "Dropout": _dropout,
    "Cast": _cast,
    "Add": _add,
    "Sum": _sum,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Neg": _neg,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "GatherND": _gather_nd,
    "Pad": _pad,
    "Resize": _resize,
    "Upsample": _resize,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Transpose": _transpose,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
    "ReduceMean": _reduce("Mean"),
    "ReduceSum": _reduce("Sum"),
    "ReduceMax": _reduce("Max"),
    "Shape": lambda call: _shape(call),
    "Size": lambda call: Constant(np.asarray(math.prod(call.signal().layout.shape), np.int64)),
}


def _shape(call: Call) -> Constant:
    """Samples count as one, or as many as the file says: a net does the same with each of them."""
    return Constant(np.asarray(call.signal().layout.shape[call.number("start", 0) : call.number("end", None)], np.int64))

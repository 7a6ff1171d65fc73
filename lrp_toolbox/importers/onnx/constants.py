"""What a file computes from constants alone, mostly shapes: computed once, with NumPy, when the file is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...backend import Array
from ...modules.base import Shape
from .file import Tensor, UnsupportedError, require_onnx

MAX_FOLDED = 1 << 24  # numbers in a constant that is computed

if TYPE_CHECKING:
    from .graph import Call

Fold = Callable[["Call", Sequence[Any]], Any]


def require_small(shape: Sequence[int]) -> None:
    """Raise UnsupportedError before an array is made that is larger than any constant that is meant."""
    if any(n < 0 for n in shape) or math.prod(shape) > MAX_FOLDED:
        raise UnsupportedError(f"expected a constant of at most {MAX_FOLDED:,} numbers, found shape {tuple(shape)}")


def whole_numbers(a: Array, what: str) -> tuple[int, ...]:
    """The numbers of a constant that holds sizes or axes. At most 64. Raises UnsupportedError for others."""
    if a.dtype.kind not in "iu" or a.size > 64:
        raise UnsupportedError(f"expected {what} as a few whole numbers, found {a.dtype} of shape {a.shape}")
    return tuple(int(n) for n in a.reshape(-1))


def axis_of(axis: int, rank: int) -> int:
    """`axis`, counted from the first. Raises UnsupportedError if there is no such axis."""
    if not -rank <= axis < rank:
        raise UnsupportedError(f"expected an axis from {-rank} to {rank - 1}, found {axis}")
    return axis % rank


def axes_of(axes: Sequence[int], rank: int) -> tuple[int, ...]:
    found = tuple(sorted(axis_of(axis, rank) for axis in axes))
    if len(set(found)) < len(found):
        raise UnsupportedError(f"expected each axis once, found {tuple(axes)}")
    return found


def unsqueezed(shape: Shape, axes: Sequence[int]) -> Shape:
    """`shape` with axes of size 1 put in, so that they are where `axes` says."""
    rest, new = iter(shape), axes_of(axes, len(shape) + len(axes))
    return tuple(1 if axis in new else next(rest) for axis in range(len(shape) + len(axes)))


def squeezed(shape: Shape, axes: Sequence[int] | None) -> Shape:
    """`shape` without some axes, which have to be of size 1; without all such axes, if none are given."""
    gone = [a for a, n in enumerate(shape) if n == 1] if axes is None else axes_of(axes, len(shape))
    if any(shape[a] != 1 for a in gone):
        raise UnsupportedError(f"expected axes of size 1, found axes {tuple(gone)} of {shape}")
    return tuple(n for a, n in enumerate(shape) if a not in gone)


def target_shape(shape: Shape, target: Sequence[int], allow_zero: bool) -> Shape:
    """ONNX's Reshape: 0 copies the size that is there, −1 is what is left."""
    sizes = list(target)
    for k, n in enumerate(sizes):
        if n == 0 and not allow_zero:
            if k >= len(shape):
                raise UnsupportedError(f"expected a shape whose zeros stand for axes of {shape}, found {tuple(target)}")
            sizes[k] = shape[k]
    if sizes.count(-1) == 1:
        known = math.prod(n for n in sizes if n != -1)
        sizes[sizes.index(-1)] = math.prod(shape) // known if known else 0
    if any(n < 0 for n in sizes) or math.prod(sizes) != math.prod(shape):
        raise UnsupportedError(f"expected a shape with as many numbers as {shape}, found {tuple(target)}")
    return tuple(sizes)


def slices(call: Call, shape: Shape) -> dict[int, tuple[int, int, int]]:
    """ONNX's Slice, as start, stop and step of some axes; a stop of −1 with a negative step is before the first."""
    starts, ends = call.whole("starts", 1), call.whole("ends", 2)
    if starts is None or ends is None:
        raise UnsupportedError("expected starts and ends")
    axes = call.whole("axes", 3) or tuple(range(len(starts)))
    steps = call.whole("steps", 4) or (1,) * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise UnsupportedError(f"expected as many starts, ends, axes and steps, found {starts}, {ends}, {axes}, {steps}")
    axes = tuple(axis_of(axis, len(shape)) for axis in axes)
    found = zip(axes, starts, ends, steps, strict=True)
    return {axis: slice(a, b, step).indices(shape[axis]) for axis, a, b, step in found}


def _elementwise(f: Callable[..., Any]) -> Fold:
    def fold(call: Call, arrays: Sequence[Any]) -> Any:
        try:
            require_small(np.broadcast_shapes(*(a.shape for a in arrays)))
        except ValueError as error:
            raise UnsupportedError(str(error)) from error
        return np.asarray(f(*arrays))

    return fold


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind not in "iu":
        return a / b
    quotient = np.floor_divide(np.abs(a), np.abs(b))  # towards zero, as in C
    return (np.sign(a) * np.sign(b) * quotient).astype(a.dtype)


def _many(f: Callable[[Array, Array], Array]) -> Fold:
    """An operator of any number of inputs."""

    def fold(call: Call, arrays: Sequence[Any]) -> Any:
        result = arrays[0]
        for a in arrays[1:]:
            result = _elementwise(f)(call, [result, a])
        return result

    return fold


def _constant(call: Call, arrays: Sequence[Any]) -> Any:
    for name, value in call.node.attributes.items():
        if isinstance(value, Tensor):
            return value.array
        if name in ("value_float", "value_floats"):
            return np.asarray(value, np.float32)
        if name in ("value_int", "value_ints"):
            return np.asarray(value, np.int64)
    raise UnsupportedError("expected a constant of numbers")


def _constant_of_shape(call: Call, arrays: Sequence[Any]) -> Any:
    shape, value = whole_numbers(arrays[0], "a shape"), call.node.attributes.get("value")
    require_small(shape)
    return np.full(shape, np.float32(0) if value is None else value.array.reshape(-1)[0])


def _cast(call: Call, arrays: Sequence[Any]) -> Any:
    onnx = require_onnx()
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(call.number("to", 0))
    except KeyError as error:
        raise UnsupportedError(f"expected a type of numbers, found {call.number('to', 0)}") from error
    if dtype.kind not in "fiub":
        raise UnsupportedError(f"expected a type of numbers, found {dtype}")
    return arrays[0].astype(dtype)


def _gather(call: Call, arrays: Sequence[Any]) -> Any:
    a, indices = arrays
    axis = axis_of(call.number("axis", 0), a.ndim)
    n = a.shape[axis]
    require_small((*a.shape[:axis], *indices.shape, *a.shape[axis + 1 :]))
    if indices.dtype.kind not in "iu" or (indices.size and not (-n <= indices.min() and indices.max() < n)):
        raise UnsupportedError(f"expected indices from {-n} to {n - 1}")
    return np.take(a, indices, axis=axis)


def _concat(call: Call, arrays: Sequence[Any]) -> Any:
    require_small((sum(a.size for a in arrays),))
    return np.concatenate(arrays, axis=axis_of(call.number("axis", 0), arrays[0].ndim))


def _slice(call: Call, arrays: Sequence[Any]) -> Any:
    a = arrays[0]
    view = [slice(None)] * a.ndim
    for axis, (start, stop, step) in slices(call, a.shape).items():
        view[axis] = slice(start, None if stop < 0 else stop, step)
    return a[tuple(view)]


def _expand(call: Call, arrays: Sequence[Any]) -> Any:
    shape = np.broadcast_shapes(arrays[0].shape, whole_numbers(arrays[1], "a shape"))
    require_small(shape)
    return np.broadcast_to(arrays[0], shape)


def _range(call: Call, arrays: Sequence[Any]) -> Any:
    start, limit, delta = (a.reshape(-1)[0] for a in arrays)
    if delta == 0:
        raise UnsupportedError("expected steps other than 0")
    require_small((max(math.ceil((float(limit) - float(start)) / float(delta)), 0),))
    return np.arange(start, limit, delta, dtype=arrays[0].dtype)


def _reduce(f: Callable[..., Any]) -> Fold:
    def fold(call: Call, arrays: Sequence[Any]) -> Any:
        a = arrays[0]
        axes = call.whole("axes", 1)
        if not axes and call.number("noop_with_empty_axes", 0):
            return a
        return np.asarray(f(a, axis=axes_of(axes, a.ndim) if axes else None, keepdims=bool(call.number("keepdims", 1))))

    return fold


def _matmul(call: Call, arrays: Sequence[Any]) -> Any:
    a, b = arrays
    require_small((*a.shape[:-1], *b.shape[-1:]))
    return a @ b


def _reshape(call: Call, arrays: Sequence[Any]) -> Any:
    target = call.whole("shape", 1)
    return arrays[0].reshape(target_shape(arrays[0].shape, target or (), bool(call.number("allowzero", 0))))


def _clip(call: Call, arrays: Sequence[Any]) -> Any:
    names = ((1, "min"), (2, "max"))
    low, high = (call.constant(k, n) if call.given(k) else call.node.attributes.get(n) for k, n in names)
    return arrays[0] if low is None and high is None else np.clip(arrays[0], low, high)


def _standardised(call: Call, arrays: Sequence[Any]) -> Any:
    """Batch normalisation of weights, which are "samples" here: a standardisation of each filter, if by its own statistics."""
    a, scale, shift, mean, variance = (b.astype(np.float64) for b in arrays[:5])
    across = (1, -1, *(1,) * (a.ndim - 2))
    if call.number("training_mode", 0):
        over = tuple(axis for axis in range(a.ndim) if axis != 1)
        mean, variance = a.mean(over), a.var(over)
    factor = scale / np.sqrt(variance + call.number("epsilon", 1e-5))
    found = (a - mean.reshape(across)) * factor.reshape(across) + shift.reshape(across)
    return found.astype(arrays[0].dtype)


FOLDS: dict[str, Fold] = {
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Identity": lambda call, arrays: arrays[0],
    "Dropout": lambda call, arrays: arrays[0],
    "Cast": _cast,
    "Clip": _clip,
    "BatchNormalization": _standardised,
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Expand": _expand,
    "Range": _range,
    "MatMul": _matmul,
    "Reshape": _reshape,
    "Squeeze": lambda call, arrays: arrays[0].reshape(squeezed(arrays[0].shape, call.whole("axes", 1))),
    "Unsqueeze": lambda call, arrays: arrays[0].reshape(unsqueezed(arrays[0].shape, call.whole("axes", 1) or ())),
    "Flatten": lambda call, arrays: arrays[0].reshape(math.prod(arrays[0].shape[: call.number("axis", 1)]), -1),
    "Transpose": lambda call, arrays: arrays[0].transpose(call.whole("perm", None)),
    "Shape": lambda call, arrays: np.asarray(arrays[0].shape[call.number("start", 0) : call.number("end", None)], np.int64),
    "Size": lambda call, arrays: np.asarray(arrays[0].size, np.int64),
    "Where": _elementwise(np.where),
    "Add": _elementwise(np.add),
    "Sub": _elementwise(np.subtract),
    "Mul": _elementwise(np.multiply),
    "Div": _elementwise(_divide),
    "Pow": _elementwise(lambda a, b: np.power(a, b).astype(a.dtype)),
    "Mod": _elementwise(np.mod),
    "Neg": _elementwise(np.negative),
    "Abs": _elementwise(np.abs),
    "Sqrt": _elementwise(np.sqrt),
    "Exp": _elementwise(np.exp),
    "Log": _elementwise(np.log),
    "Reciprocal": _elementwise(np.reciprocal),
    "Floor": _elementwise(np.floor),
    "Ceil": _elementwise(np.ceil),
    "Equal": _elementwise(np.equal),
    "Less": _elementwise(np.less),
    "Greater": _elementwise(np.greater),
    "LessOrEqual": _elementwise(np.less_equal),
    "GreaterOrEqual": _elementwise(np.greater_equal),
    "And": _elementwise(np.logical_and),
    "Or": _elementwise(np.logical_or),
    "Not": _elementwise(np.logical_not),
    "Min": _many(np.minimum),
    "Max": _many(np.maximum),
    "Sum": _many(np.add),
    "ReduceSum": _reduce(np.sum),
    "ReduceMean": _reduce(np.mean),
    "ReduceProd": _reduce(np.prod),
    "ReduceMin": _reduce(np.min),
    "ReduceMax": _reduce(np.max),
}

"""Functions that a file writes out as several nodes: GELU, SiLU, HardSwish, Mish, Softplus, and layer normalisation.

And a view of PyTorch's memory, which its exporter writes out as a gather.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from ... import modules as m
from ...modules import Module
from .constants import axes_of
from .file import OnnxNode, UnsupportedError
from .graph import Call, Constant, Signal, Walk
from .layers import normed, relabelled, silu

MAX_FACTORS = 8


def _number(walk: Walk, name: str) -> float | None:
    """The value of that name, if it is a constant of one number."""
    value = walk.values.get(name)
    if not isinstance(value, Constant) or math.prod(value.shape) != 1:
        return None
    return float(value.array.reshape(-1)[0])


def _factors(walk: Walk, name: str) -> tuple[float, list[str]]:
    """A product, taken apart: the numbers in it as one, and the names of the values."""
    number, left = 1.0, [name]
    values: list[str] = []
    for _ in range(4 * MAX_FACTORS):
        if not left:
            return number, sorted(values)
        name = left.pop()
        node = walk.makers.get(name)
        if (n := _number(walk, name)) is not None:
            number *= n
        elif node is not None and node.op == "Mul" and len(node.inputs) == 2:
            left += node.inputs
        elif node is not None and node.op == "Div" and len(node.inputs) == 2 and (n := _number(walk, node.inputs[1])):
            number /= n
            left.append(node.inputs[0])
        else:
            values.append(name)
    return number, []  # too long to be an activation


def _is(a: float | None, b: float) -> bool:
    return a is not None and abs(a - b) <= 1e-6 * abs(b)


def product(walk: Walk, node: OnnxNode) -> Signal | None:
    """x times a function of x, as one activation."""
    if len(node.outputs) != 1 or len(node.inputs) != 2:
        return None
    number, values = _factors(walk, node.inputs[0])
    if node.op == "Mul":
        factor, more = _factors(walk, node.inputs[1])
        number, values = number * factor, sorted(values + more)
    elif by := _number(walk, node.inputs[1]):
        number /= by
    else:
        return None
    for gate in values:
        x, expected, module = _gate(walk, gate) or ("", 0.0, m.SiLU())
        signal = walk.values.get(x)
        if not isinstance(signal, Signal):
            continue
        factor, inner = _factors(walk, x)  # x may be a product itself
        if sorted([*inner, gate]) == values and _is(number, expected * factor):
            call = Call(walk, node, (signal,))
            return silu(call, signal, module) if isinstance(module, float) else call.add(module, signal, signal.layout)
    return None


def _gate(walk: Walk, name: str) -> tuple[str, float, Module | float] | None:
    """(x, c, f), if f(x) = c · x · gate is an activation; f is a number α for x · sigmoid(α x)."""
    node = walk.makers.get(name)
    if node is None or not node.inputs:
        return None
    [inner, *_] = node.inputs
    before = walk.makers.get(inner)
    match node.op:
        case "Sigmoid":
            number, x = _times(walk, inner)
            return (x, 1.0, number) if number else None
        case "HardSigmoid":
            value = walk.values.get(name)
            module = walk.module(value) if isinstance(value, Signal) else None
            fits = isinstance(module, m.HardSigmoid) and _is(module.alpha, 1 / 6) and _is(module.beta, 0.5)
            return (inner, 1.0, m.HardSwish()) if fits else None
        case "Clip" | "Min":
            value = walk.values.get(name)
            module = walk.module(value) if isinstance(value, Signal) else None
            x = _plus(walk, inner, 3)
            return (x, 1 / 6, m.HardSwish()) if x and isinstance(module, m.ClippedReLU) and module.maximum == 6 else None
        case "Tanh" if before is not None and before.op == "Softplus":
            return before.inputs[0], 1.0, m.Mish()
        case "Add":
            bent = walk.makers.get(_plus(walk, name, 1))
            if bent is None or bent.op not in ("Erf", "Tanh"):
                return None
            number, x = _times(walk, bent.inputs[0])
            if bent.op == "Erf":
                return (x, 0.5, m.GELU()) if _is(number, math.sqrt(0.5)) else None
            x = _plus_cube(walk, x)
            return (x, 0.5, m.GELU("tanh")) if x and _is(number, math.sqrt(2 / math.pi)) else None
    return None


def _times(walk: Walk, name: str) -> tuple[float, str]:
    """(c, x) of c · x, one number behind the other."""
    number = 1.0
    for _ in range(MAX_FACTORS):
        node = walk.makers.get(name)
        if node is None or node.op not in ("Mul", "Div") or len(node.inputs) != 2:
            break
        first, second = (_number(walk, n) for n in node.inputs)
        if second is not None and second != 0:
            number, name = number / second if node.op == "Div" else number * second, node.inputs[0]
        elif first is not None and node.op == "Mul":
            number, name = number * first, node.inputs[1]
        else:
            break
    return number, name


def _plus(walk: Walk, name: str, number: float) -> str:
    """x, if the value is x + number; else nothing."""
    node = walk.makers.get(name)
    if node is None or node.op != "Add" or len(node.inputs) != 2:
        return ""
    first, second = node.inputs
    return first if _is(_number(walk, second), number) else second if _is(_number(walk, first), number) else ""


def _plus_cube(walk: Walk, name: str) -> str:
    """x, if the value is x + 0.044715 x³; else nothing."""
    node = walk.makers.get(name)
    if node is None or node.op != "Add" or len(node.inputs) != 2:
        return ""
    for x, other in (node.inputs, node.inputs[::-1]):
        number, cube = _factors(walk, other)
        factor, inner = _factors(walk, x)
        if cube == sorted(inner * 3) and _is(number, 0.044715 * factor**3):
            return x
        if len(cube) == 1 and _is(number, 0.044715) and _power(walk, cube[0], 3) == x:
            return x
    return ""


def _power(walk: Walk, name: str, exponent: float) -> str:
    """x, if the value is x to the power of that number; else nothing."""
    node = walk.makers.get(name)
    if node is None or node.op != "Pow" or not _is(_number(walk, node.inputs[1]), exponent):
        return ""
    return node.inputs[0]


def quotient(walk: Walk, node: OnnxNode) -> Signal | None:
    """(x − mean) / √(variance + ε), as one norm."""
    if len(node.inputs) != 2 or len(node.outputs) != 1:
        return None
    for centred, factor in (node.inputs, node.inputs[::-1]):
        root = walk.makers.get(factor)
        if node.op == "Mul":
            if root is None or root.op != "Reciprocal":
                continue
            root = walk.makers.get(root.inputs[0])
        if (found := _norm(walk, centred, root)) is not None:
            x, axes, eps = found
            return normed(Call(walk, node, (x,)), x, axes, eps)
        if node.op == "Div":
            break
    return None


def _norm(walk: Walk, centred: str, root: OnnxNode | None) -> tuple[Signal, tuple[int, ...], float] | None:
    """(x, axes, ε), if `centred` is x − mean and `root` makes √(variance + ε), both over those axes."""
    difference = walk.makers.get(centred)
    if root is None or not (root.op == "Sqrt" or (root.outputs and _power(walk, root.outputs[0], 0.5))):
        return None
    if difference is None or difference.op != "Sub" or difference.inputs[0] not in walk.values:
        return None
    x, total = walk.values[difference.inputs[0]], walk.makers.get(root.inputs[0])
    if not isinstance(x, Signal) or total is None or total.op != "Add" or len(total.inputs) != 2:
        return None
    eps = next((n for name in total.inputs if (n := _number(walk, name)) is not None), None)
    variance = next((name for name in total.inputs if _number(walk, name) is None), "")
    axes = _mean_axes(walk, difference.inputs[1], x.layout.rank)
    if eps is None or eps < 0 or axes is None or _read(walk, difference.inputs[1]) != difference.inputs[0]:
        return None
    square = walk.makers.get(_read(walk, variance))
    if square is None or _mean_axes(walk, variance, x.layout.rank) != axes:
        return None
    twice = square.op == "Mul" and square.inputs[0] == square.inputs[1]
    if not (twice or _power(walk, _read(walk, variance), 2)):
        return None
    again = walk.makers.get(square.inputs[0])
    return (x, axes, eps) if again is not None and (again.op, again.inputs) == ("Sub", difference.inputs) else None


def _read(walk: Walk, name: str) -> str:
    node = walk.makers.get(name)
    return node.inputs[0] if node is not None and node.inputs else ""


def _mean_axes(walk: Walk, name: str, rank: int) -> tuple[int, ...] | None:
    """The axes of a mean that stay as axes of size 1."""
    node = walk.makers.get(name)
    if node is None or node.op != "ReduceMean":
        return None
    values = [walk.values.get(name) for name in node.inputs]
    call = Call(walk, node, tuple(v if isinstance(v, (Constant, Signal)) else None for v in values))
    try:
        axes = call.whole("axes", 1)
        return axes_of(axes, rank) if axes and call.number("keepdims", 1) else None
    except UnsupportedError:
        return None


def view(walk: Walk, node: OnnxNode) -> Signal | None:
    """All numbers of a value in a row, and from there by their places into another shape.

    PyTorch's exporter writes so what PyTorch does by a view of the same memory (as_strided), with samples and all.
    """
    flat = walk.makers.get(node.inputs[0]) if node.inputs else None
    if flat is None or flat.op != "Reshape" or len(node.inputs) != 2 or node.attributes.get("axis", 0) != 0:
        return None
    x, target, places = (walk.values.get(name) for name in (*flat.inputs[:2], node.inputs[1]))
    if not isinstance(x, Signal) or not isinstance(target, Constant) or not isinstance(places, Constant):
        return None
    count = math.prod(x.layout.shape)
    if target.shape != (1,) or math.prod(places.shape) != count or target.array[0] not in (-1, count):
        return None
    if not np.array_equal(places.array.reshape(-1), np.arange(count)):
        return None
    return relabelled(Call(walk, node, (x,)), x, places.shape)


def softplus(walk: Walk, node: OnnxNode) -> Signal | None:
    """log(1 + exp(β x)) / β, or x where β x is above a bound: PyTorch's Softplus.

    Above the bound both are alike to the precision of a file in float32, so that it is one function everywhere.
    """
    if len(node.inputs) != 3:
        return None
    test, x, bent = node.inputs
    greater = walk.makers.get(test)
    factor, name = _times(walk, bent)
    soft, signal = walk.makers.get(name), walk.values.get(bent)
    if greater is None or greater.op != "Greater" or len(greater.inputs) != 2 or not isinstance(signal, Signal):
        return None
    scaled, bound = greater.inputs
    (beta, inner), (one, same) = _times(walk, scaled), _times(walk, x)
    limit = _number(walk, bound)
    if soft is None or soft.op != "Softplus" or soft.inputs != (scaled,):
        return None
    if inner != same or not _is(factor * beta, one) or limit is None or not limit > 0:
        return None
    if math.exp(-limit) > 1e-7 * limit:
        return None
    return signal


def of_two(walk: Walk, node: OnnxNode) -> Signal | None:
    return product(walk, node) or quotient(walk, node)


PATTERNS: Mapping[str, Callable[[Walk, OnnxNode], Signal | None]] = {
    "Mul": of_two,
    "Div": of_two,
    "Where": softplus,
    "Gather": view,
}

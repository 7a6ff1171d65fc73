"""Functions that a file writes out as several nodes: GELU, SiLU, HardSwish, Mish, and layer normalisation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from ... import modules as m
from ...modules import Module
from .file import OnnxNode
from .graph import Call, Constant, Signal, Walk

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


def _gelu(walk: Walk, name: str, x: str) -> bool:
    """1 + erf(x / √2), which times x / 2 is a GELU."""
    node = walk.makers.get(name)
    if node is None or node.op != "Add" or len(node.inputs) != 2:
        return False
    for one, other in (node.inputs, node.inputs[::-1]):
        erf = walk.makers.get(other)
        if _is(_number(walk, one), 1) and erf is not None and erf.op == "Erf" and len(erf.inputs) == 1:
            number, values = _factors(walk, erf.inputs[0])
            return values == [x] and _is(number, math.sqrt(0.5))
    return False


def _reads(walk: Walk, name: str, op: str, x: str) -> OnnxNode | None:
    """The node that makes `name`, if it is this operator of x."""
    node = walk.makers.get(name)
    return node if node is not None and node.op == op and node.inputs[:1] == (x,) else None


def product(walk: Walk, node: OnnxNode) -> Signal | None:
    """x times a function of x, as one activation."""
    if len(node.outputs) != 1 or len(node.inputs) != 2:
        return None
    number, values = 1.0, list[str]()
    for name in node.inputs:
        factor, more = _factors(walk, name)
        number, values = number * factor, values + more
    if len(values) != 2:
        return None
    for x, gate in (values, values[::-1]):
        signal = walk.values.get(x)
        if isinstance(signal, Signal) and (module := _activation(walk, x, gate, number)) is not None:
            return Call(walk, node, (signal,)).add(module, signal, signal.layout)
    return None


def _activation(walk: Walk, x: str, gate: str, number: float) -> Module | None:
    """What x · gate · number is, if it is an activation that has a name."""
    if _gelu(walk, gate, x) and _is(number, 0.5):
        return m.GELU()
    if not _is(number, 1):
        return None
    if _reads(walk, gate, "Sigmoid", x):
        return m.SiLU()
    value = walk.values.get(gate)
    if isinstance(value, Signal) and _reads(walk, gate, "HardSigmoid", x):
        module = walk.module(value)
        fits = isinstance(module, m.HardSigmoid) and _is(module.alpha, 1 / 6) and _is(module.beta, 0.5)
        return m.HardSwish() if fits else None
    tanh = walk.makers.get(gate)
    if tanh is not None and tanh.op == "Tanh" and len(tanh.inputs) == 1 and _reads(walk, tanh.inputs[0], "Softplus", x):
        return m.Mish()
    return None


PATTERNS: Mapping[str, Callable[[Walk, OnnxNode], Signal | None]] = {"Mul": product}

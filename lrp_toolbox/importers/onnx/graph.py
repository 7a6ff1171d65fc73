"""From the nodes of an ONNX file to our graph: constants are computed, axes are followed, names are made readable."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np

from ... import modules as m
from ...backend import Array
from ...io import ModelFormatError, as_numbers, brief
from ...modules import Flatten, Graph, Module
from ...modules.base import Shape
from ..draft import MAX_LAYERS, MAX_NUMBERS
from ..graph import Node, build
from .constants import FOLDS, MAX_FOLDED, whole_numbers
from .file import OnnxFile, OnnxNode, Tensor, UnsupportedError
from .layout import Groups, Layout

INPUT = "input"
MAX_TIMES = 12  # that a constant of the file is computed with: weights that are standardised take 10
MAX_LISTED = 50  # nodes in an error message
MAX_NAME = 200  # letters of a name
OUTPUT = OnnxNode("output", "output", (), (), {}, None)  # where a layer comes from that no node asks for


@dataclass(frozen=True, eq=False)
class Constant:
    """A value that does not depend on the input."""

    source: Tensor | Array

    @property
    def array(self) -> Array:
        return self.source.array if isinstance(self.source, Tensor) else self.source

    @property
    def shape(self) -> Shape:
        return tuple(self.source.shape)


@dataclass(frozen=True)
class Signal:
    """A value that does: the node of ours that makes it, and where its axes are."""

    node: str
    layout: Layout


@dataclass(frozen=True)
class Unknown:
    """A value that cannot be had: the nodes that it depends on and that were refused."""

    nodes: tuple[str, ...]


Value = Constant | Signal | Unknown


@dataclass(frozen=True)
class Call:
    """A node with the values that it reads, as converters and folds see it."""

    walk: Walk
    node: OnnxNode
    inputs: tuple[Constant | Signal | None, ...]

    def refuse(self, expected: str, found: Any) -> NoReturn:
        raise UnsupportedError(f"expected {expected}, found {brief(found)}")

    # -- attributes, and inputs in their place

    def number(self, name: str, default: Any) -> Any:
        """An attribute that is one number."""
        value = self.node.attributes.get(name, default)
        if name in self.node.attributes and not isinstance(value, (int, float)):
            self.refuse(f"{name} as a number", value)
        if isinstance(value, float) and not math.isfinite(value):
            self.refuse(f"{name} as a finite number", value)
        return value

    def text(self, name: str, default: str) -> str:
        value = self.node.attributes.get(name, default)
        if not isinstance(value, str):
            self.refuse(f"{name} as text", value)
        return value

    def whole(self, name: str, position: int | None) -> tuple[int, ...] | None:
        """Whole numbers that are an attribute or, in newer opsets, the input at `position`; None if there are none."""
        if name in self.node.attributes:
            value = self.node.attributes[name]
            if not isinstance(value, tuple) or not all(isinstance(n, int) for n in value) or len(value) > 64:
                self.refuse(f"{name} as a few whole numbers", value)
            return value
        a = None if position is None else self.constant(position, name)
        return None if a is None else whole_numbers(a, name)

    def given(self, k: int) -> bool:
        return k < len(self.inputs) and self.inputs[k] is not None

    def constant(self, k: int, name: str) -> Array | None:
        """The constant at input k; None if there is none. Raises UnsupportedError if it is computed from the net's input."""
        if not self.given(k):
            return None
        value = self.inputs[k]
        if not isinstance(value, Constant):
            self.refuse(f"{name} as a constant", "a value that depends on the input")
        return value.array

    def weights(self, k: int, name: str) -> Array | None:
        """The same as finite numbers in the dtype of the net."""
        a = self.constant(k, name)
        if a is None:
            return None
        a = a.astype(np.float32) if a.dtype.kind in "iu" or a.dtype.kind == "V" else a
        return as_numbers(a, f"{self.walk.file.where}: {self.node.label}: {name}", self.walk.dtype)

    def required(self, k: int, name: str) -> Array:
        a = self.weights(k, name)
        if a is None:
            self.refuse(f"an input {name}", "none")
        return a

    def signal(self, k: int = 0) -> Signal:
        """The value at input k. Raises UnsupportedError if it is missing or constant."""
        value = self.inputs[k] if self.given(k) else None
        if not isinstance(value, Signal):
            self.refuse(f"input {k} to depend on the net's input", "a constant" if value else "none")
        return value

    # -- layers

    def add(self, module: Module, x: Signal | Sequence[Signal], layout: Layout) -> Signal:
        """A node of ours, whose value has this layout."""
        return self.walk.enter(self.node, module, (x,) if isinstance(x, Signal) else tuple(x), layout)

    def arrange(self, x: Signal, wanted: Groups) -> Signal:
        """x with its axes as wanted; puts in a layer that moves numbers only if they are in another order."""
        layout, target = x.layout, x.layout.with_ours(wanted)
        if layout.same_numbers(wanted):
            if layout.our_shape == target.our_shape:
                return Signal(x.node, target)
            return self.add(_regrouped(layout.our_shape, target.our_shape), x, target)
        if (groups := _shuffled(layout, wanted)) is not None:
            return self.add(m.ChannelShuffle(groups), x, target)
        factors = [f for group in layout.ours for f in group if layout.sizes[f] != 1]
        order = [f for group in wanted for f in group if layout.sizes[f] != 1]
        split = layout.with_ours(tuple((f,) for f in factors))
        if split.our_shape != layout.our_shape:
            x = self.add(_regrouped(layout.our_shape, split.our_shape), x, split)
        moved = layout.with_ours(tuple((f,) for f in order))
        x = self.add(m.Transpose(tuple(factors.index(f) - len(factors) for f in order)), x, moved)
        if moved.our_shape == target.our_shape:
            return Signal(x.node, target)
        return self.add(_regrouped(moved.our_shape, target.our_shape), x, target)

    def channels_last(self, x: Signal) -> Signal:
        """x as (height, width, channel), for any number of places."""
        if len(x.layout.features) < 2 or x.layout.samples != 0:
            self.refuse("samples, channels and places", f"shape {x.layout.shape}")
        return self.arrange(x, x.layout.channels_last)

    def separate(self, x: Signal) -> Signal:
        """x with each of our axes one of ONNX's."""
        layout = x.layout
        if layout.one_by_one:
            return x
        if not layout.features:  # one number for each sample: an axis of its own
            return self.arrange(x, ((),))
        plain = layout.in_order(layout.features)
        return self.arrange(x, plain if len(layout.features) < 2 or layout.same_numbers(plain) else layout.channels_last)

    def in_order(self, x: Signal) -> Signal:
        """x with our axes as ONNX has them."""
        return self.arrange(x, x.layout.in_order(x.layout.features))


def _regrouped(before: Shape, after: Shape) -> Module:
    return Flatten(len(before)) if len(after) == 1 else m.Reshape(after, len(before))


def _shuffled(layout: Layout, wanted: Groups) -> int | None:
    """How many groups a shuffle of the last axis has, if that is all it takes."""
    if len(layout.ours) != len(wanted) or layout.ours[:-1] != wanted[:-1]:
        return None
    old, new = ([f for f in group if layout.sizes[f] != 1] for group in (layout.ours[-1], wanted[-1]))
    if sorted(old) != sorted(new) or not new:
        return None
    k = old.index(new[0])
    return layout.size(old[:k]) if old[k:] + old[:k] == new else None


Converter = Callable[[Call], "Value | Sequence[Value]"]


@dataclass
class Walk:
    """All nodes of a file, in order."""

    file: OnnxFile
    dtype: np.dtype[Any]
    layers: Mapping[str, Converter]
    patterns: Mapping[str, Callable[[Walk, OnnxNode], Signal | None]]
    passed: frozenset[int] = frozenset()  # nodes that are left off
    values: dict[str, Value] = field(default_factory=dict)
    nodes: dict[str, Node] = field(default_factory=dict)
    origins: dict[str, OnnxNode] = field(default_factory=dict)  # the node of the file that each of ours comes from
    makers: dict[str, OnnxNode] = field(default_factory=dict)  # of each value of the file
    inputs: tuple[str, ...] = ()  # of ours
    folded: int = 0
    folds: dict[int, int] = field(default_factory=dict)  # how many numbers each constant of the file has that is computed with

    def run(self, inputs: Mapping[str, Layout]) -> None:
        names = [INPUT] if len(inputs) == 1 else [f"{INPUT}{k}" for k in range(1, len(inputs) + 1)]
        self.inputs = tuple(names)
        self.values.update({source: Signal(n, layout) for n, (source, layout) in zip(names, inputs.items(), strict=True)})
        self.values.update({name: Constant(tensor) for name, tensor in self.file.tensors.items()})
        for k, node in enumerate(self.file.nodes):
            for name, value in zip(node.outputs, self._outputs(k, node), strict=False):
                if not name:
                    continue
                if name in self.values:
                    raise ModelFormatError(f"{self.file.where}: {node.label}: makes {brief(name)}, which is there already")
                self.values[name], self.makers[name] = value, node

    def _outputs(self, k: int, node: OnnxNode) -> Sequence[Value]:
        inputs: list[Value | None] = []
        for name in node.inputs:
            if name and name not in self.values:
                raise ModelFormatError(
                    f"{self.file.where}: {node.label}: reads {brief(name)}, which neither the file nor a node before it has"
                )
            inputs.append(self.values[name] if name else None)
        missing = [n for value in inputs if isinstance(value, Unknown) for n in value.nodes]
        try:
            found: Any = self.patterns[node.op](self, node) if node.op in self.patterns else None
            if found is None and node.op not in self.layers and node.op not in FOLDS:
                raise UnsupportedError("")
            if found is None and not missing:
                found = self._convert(node, inputs, k in self.passed)
        except UnsupportedError as refusal:
            missing.append(f"{node.label}{': ' if str(refusal) else ''}{refusal}")
            found = None
        except (ValueError, TypeError, OverflowError, MemoryError, IndexError) as error:
            if isinstance(error, ModelFormatError):
                raise
            missing.append(f"{node.label}: {brief(error)}")
            found = None
        if found is None:
            return (Unknown(tuple(dict.fromkeys(missing))[: 4 * MAX_LISTED]),) * len(node.outputs)
        outputs = (found,) if isinstance(found, (Constant, Signal, Unknown)) else tuple(found)
        if any(node.outputs[len(outputs) :]):
            reason = f"{node.label}: expected at most {len(outputs)} outputs to be read, found {len(node.outputs)}"
            return (*outputs, *(Unknown((reason,)),) * (len(node.outputs) - len(outputs)))
        return outputs

    def _convert(self, node: OnnxNode, inputs: Sequence[Any], passed: bool) -> Any:
        self.file.check(node)
        call = Call(self, node, tuple(inputs))
        given = [value for value in inputs if value is not None]
        if passed:
            return call.signal()
        if node.op in FOLDS and all(isinstance(value, Constant) for value in given):
            for value in given:
                if isinstance(value.source, Tensor):
                    self.folds[id(value.source)] = value.array.size
            return self._fold(call, [value.array for value in given])
        if node.op not in self.layers:
            raise UnsupportedError("expected constants to come in, found values that depend on the net's input")
        return self.layers[node.op](call)

    def _fold(self, call: Call, arrays: Sequence[Array]) -> Constant:
        with np.errstate(all="ignore"):
            a = np.asarray(FOLDS[call.node.op](call, arrays))
        if a.dtype.kind not in "fiubV":
            call.refuse("numbers", a.dtype)
        if call.node.op != "Constant" and a.base is None:
            self.folded += a.size
        if self.folded > (most := MAX_FOLDED + MAX_TIMES * sum(self.folds.values())):
            call.refuse(f"at most {most:,} numbers that are computed from constants", "more")
        return Constant(a)

    # -- nodes of ours

    def enter(self, origin: OnnxNode, module: Module, inputs: Sequence[Signal], layout: Layout) -> Signal:
        shapes = tuple(x.layout.our_shape for x in inputs)
        made = tuple(module.output_shape(shapes if module.several_inputs else shapes[0]))
        if math.prod(made) > MAX_NUMBERS:
            raise UnsupportedError(f"expected a map of at most {MAX_NUMBERS:,} numbers, found {made}")
        if made != layout.our_shape:
            raise UnsupportedError(f"expected shape {layout.our_shape}, found {made}")
        if len(self.nodes) >= MAX_LAYERS:
            raise ModelFormatError(f"{self.file.where}: expected at most {MAX_LAYERS} layers, found more")
        name = f"{len(self.nodes)}"
        self.nodes[name] = Node(name, tuple(x.node for x in inputs), module)
        self.origins[name] = origin
        return Signal(name, layout)

    def module(self, x: Signal) -> Module | None:
        """The layer that makes a value."""
        return self.nodes[x.node].module if x.node in self.nodes else None

    # -- the net

    def signal(self, output: str) -> Signal:
        """The value of that name. Raises ModelFormatError, with all nodes that it needs and that were refused."""
        where, value = self.file.where, self.values.get(output)
        if value is None:
            raise ModelFormatError(f"{where}: output: expected a value that a node makes, found {brief(output)}")
        if isinstance(value, Unknown):
            listed = "; ".join(value.nodes[:MAX_LISTED])
            more = f"; and {len(value.nodes) - MAX_LISTED} more" if len(value.nodes) > MAX_LISTED else ""
            raise ModelFormatError(f"{where}: no layer here does what these nodes do: {listed}{more}")
        if isinstance(value, Constant):
            raise ModelFormatError(f"{where}: {brief(output)}: expected an output that depends on the input, found a constant")
        return value

    def finish(self, output: Signal) -> Signal:
        """The output as it leaves the net: one number for each class in a row, or axes in our order."""
        layout = output.layout
        call = Call(self, OUTPUT, (output,))
        if len(layout.features) > 1 and math.prod(layout.shape[a] for a in layout.features[1:]) == 1:
            return call.arrange(output, (tuple(f for group in layout.groups for f in group),))  # (class, 1, 1)
        return call.in_order(output) if len(layout.features) == 1 else call.separate(output)

    def net(self, output: Signal) -> Graph:
        """The graph from the inputs to that value, with readable names."""
        where = self.file.where
        if output.node not in self.nodes and len(self.inputs) == 1:
            return build([], INPUT, INPUT, where)
        needed = {output.node}
        for name in reversed(self.nodes):
            if name in needed:
                needed.update(self.nodes[name].inputs)
        kept = [node for name, node in self.nodes.items() if name in needed]
        new = self._names([node.name for node in kept])
        nodes = [Node(new[n.name], tuple(new.get(x, x) for x in n.inputs), n.module) for n in kept]
        if len(self.inputs) == 1:
            return build(nodes, INPUT, new[output.node], where)
        if unread := [name for name in self.inputs if name not in needed]:
            raise ModelFormatError(f"{where}: expected an output that depends on all inputs, found none that does: {unread}")
        return Graph([(n.name, n.module, n.inputs) for n in nodes], self.inputs, new[output.node])

    def _names(self, kept: Sequence[str]) -> dict[str, str]:
        """A readable name for each node: that of PyTorch's module, with the operator if the module has several nodes.

        Layers that only rearrange what a node reads have the name of their kind behind that.
        """
        main = {id(self.origins[name]): name for name in kept}  # of several of ours for one node, the last
        paths = {name: readable(self.origins[name]) for name in kept}
        times = Counter(paths[name] for name in main.values())
        taken, new = set(self.inputs), {}
        for name in (*main.values(), *(name for name in kept if name not in main.values())):
            path, origin = paths[name], self.origins[name]
            if main[id(origin)] != name:
                path = f"{path}/{type(self.nodes[name].module).__name__.lower()}"
            elif times[path] > 1 and path.rpartition(".")[2] != origin.op.lower():
                path = f"{path}/{origin.op.lower()}"
            free, k = path, 2
            while free in taken:
                free, k = f"{path}_{k}", k + 1
            taken.add(free)
            new[name] = free
        return new


def readable(node: OnnxNode) -> str:
    """ "layer1.0.conv1" for "/layer1/layer1.0/conv1/Conv", as PyTorch calls the module; other names as they are.

    PyTorch's newer exporter says the module beside the node; a convolution with the batch normalisation behind it merged into
    it says that of the latter, but still has the weights of the former. A node without a name goes by what it makes, or by its
    operator.
    """
    if node.module is not None:
        weights = (node.inputs[1:2] or ("",))[0].removesuffix(".weight")
        beside = weights.rpartition(".")[0] == node.module.rpartition(".")[0] and weights not in node.inputs
        return ((weights if node.op == "Conv" and beside else node.module) or _snake(node.op))[:MAX_NAME]
    name = node.name or next(iter(node.outputs), "") or node.op.lower()
    if not name.startswith("/") or len(name) > MAX_NAME:
        return name[:MAX_NAME]
    *parts, op = name.strip("/").split("/")
    path: list[str] = []
    for part in parts:
        if path and part.startswith(f"{path[-1]}."):
            path.pop()
        path.append(part)
    return ".".join(path) or _snake(op) or name


def _snake(op: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", op).lower()

"""From Keras' description of a model to a draft: which layer reads what another one makes, in order."""

from __future__ import annotations

import graphlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ...io import ModelFormatError, brief
from ...kernels.windows import as_pair
from ...modules.base import Shape
from ..draft import MAX_LAYERS, MAX_NUMBERS, Value
from .config import MODELS, LayerConfig, children_of
from .layers import JOINS, LAYERS, Net, activation

MAX_DEPTH = 8  # of models within models


class Caller:
    """Calls layers and models on values, as the description says. `net` gets the nodes."""

    def __init__(self, net: Net):
        self.net, self.calls = net, 0

    def call(self, layer: LayerConfig, inputs: Sequence[Value]) -> Value:
        """The value of `layer` for these inputs."""
        self.calls += 1
        if self.calls > MAX_LAYERS or len(layer.path) > MAX_DEPTH:
            layer.fail(f"expected at most {MAX_LAYERS} layers, in at most {MAX_DEPTH} models within models, found more")
        if layer.kind not in JOINS and len(inputs) != 1:
            layer.fail(f"expected one input, found {len(inputs)}")
        if layer.kind == "Sequential":
            [x] = inputs
            for child, _ in children_of(layer):
                x = self.call(child, [x])
            return x
        if layer.kind in MODELS:
            return self._functional(layer, inputs[0])
        if layer.kind not in LAYERS and layer.kind not in JOINS:
            code = ", which holds code that is never run" if layer.kind in ("Lambda", "TFOpLambda") else ""
            known = ", ".join(sorted({*LAYERS, *JOINS, *MODELS}))
            layer.fail(f"expected one of {known}, found {layer.kind}{code}")
        try:
            return self._layer(layer, inputs)
        except ModelFormatError:
            raise
        except ValueError as error:
            layer.fail(str(error))

    def _layer(self, layer: LayerConfig, inputs: Sequence[Value]) -> Value:
        if layer.kind in JOINS:
            return JOINS[layer.kind](self.net, layer, inputs)
        y = LAYERS[layer.kind](self.net, layer, inputs[0])
        module = activation(self.net, layer, layer.config.get("activation"), y.shape) if "activation" in layer.config else None
        if module is None:
            return y
        name = layer.name if layer.kind == "Activation" else f"{layer.name}/{type(module).__name__.lower()}"
        return self.net.add(name, module, y)

    def _functional(self, model: LayerConfig, x: Value) -> Value:
        """The value of a functional model: its layers in the order in which they need each other."""
        layers = {child.path[-1]: (child, spec) for child, spec in children_of(model)}
        sources = [name for name, (child, _) in layers.items() if child.kind == "InputLayer"]
        if len(sources) != 1 or [name for name, _ in references(model, model.config.get("input_layers"))] != sources:
            model.fail(f"input_layers: expected the one InputLayer, found {brief(sources)}")
        reads: dict[tuple[str, int], list[tuple[str, int]]] = {}
        for name, (child, spec) in layers.items():
            nodes = spec.get("inbound_nodes", [])
            if not isinstance(nodes, list):
                child.fail(f"inbound_nodes: expected a list, found {brief(nodes)}")
            reads.update({(name, k): inputs_of(child, node) for k, node in enumerate(nodes)})
        targets = references(model, model.config.get("output_layers"))
        if len(targets) != 1:
            model.fail(f"output_layers: expected one output, found {brief(model.config.get('output_layers'))}")
        mentioned = {reference for references in [*reads.values(), targets] for reference in references}
        # The calls of an inner model may count from 1: then Keras counted the making of the model as its first call.
        late = {n for n, k in mentioned if (n, k) not in reads and (n, k - 1) in reads and layers[n][0].kind in MODELS}

        def call_of(reference: tuple[str, int]) -> tuple[str, int]:
            return (reference[0], reference[1] - 1) if reference[0] in late else reference

        target = call_of(targets[0])
        reads = {key: [call_of(reference) for reference in references] for key, references in reads.items()}
        values = {(sources[0], 0): x}
        try:
            for key in (*graphlib.TopologicalSorter(reads).static_order(), target):
                if key in values:
                    continue
                if key not in reads:
                    model.fail(f"{key[0]}: read by a layer or as an output, but no layer makes it (call {key[1]})")
                values[key] = self.call(layers[key[0]][0], [values[reference] for reference in reads[key]])
        except graphlib.CycleError as error:
            around = " → ".join(name for name, _ in error.args[1])
            raise ModelFormatError(f"{model.where}: {model.name}: expected no cycle, found {around}") from error
        return values[target]


def references(layer: LayerConfig, value: Any) -> list[tuple[str, int]]:
    """(layer, which of its calls) for values written as ["conv", 0, 0], for one or a list of them."""
    if not isinstance(value, list):
        layer.fail(f"expected values such as ['conv', 0, 0], found {brief(value)}")
    found = []
    for reference in [value] if value and isinstance(value[0], str) else value:
        match reference:
            case [str(name), int(call), 0]:
                found.append((name, call))
            case _:
                layer.fail(f"expected values such as ['conv', 0, 0], the first output of a call, found {brief(reference)}")
    return found


def inputs_of(layer: LayerConfig, node: Any) -> list[tuple[str, int]]:
    """What one call of a layer reads: [["conv", 0, 0, {}], …] (Keras 2), or {"args": [tensor or tensors], "kwargs": {}}.

    A sum that was written a + b has two tensors as arguments.
    """
    if isinstance(node, list):
        node = [node] if node and isinstance(node[0], str) else node
        read = [item[:3] if isinstance(item, list) and len(item) == 4 else item for item in node]
        settings = [item[3] for item in node if isinstance(item, list) and len(item) == 4]
    else:
        args = node.get("args") if isinstance(node, Mapping) else None
        if not isinstance(args, list) or not 1 <= len(args) <= (2 if layer.kind == "Add" else 1):
            layer.fail(f"inbound_nodes: expected calls with one argument, found {brief(node)}")
        tensors = args[0] if len(args) == 1 and isinstance(args[0], list) else args
        configs = [tensor.get("config") if isinstance(tensor, Mapping) else None for tensor in tensors]
        read = [config.get("keras_history") if isinstance(config, Mapping) else config for config in configs]
        settings = [node.get("kwargs", {})]
    for setting in settings:  # training=False and mask=None are what holds here anyway
        if not isinstance(setting, Mapping) or any(setting.values()):
            layer.fail(f"inbound_nodes: expected calls without further arguments, found {brief(setting)}")
    return references(layer, read)


def input_shape(model: LayerConfig, size: tuple[int, int] | None, channels: str | None) -> tuple[Shape, Shape]:
    """(height, width, channel) of a picture, and the shape that the first layer takes: the same, or flattened."""
    declared = _declared(model)
    if declared is None:
        declared = [None, None, None]
    if len(declared) == 2:  # Conv2D takes no such map, and Flatten does not care
        declared = [*declared, 1]
    in_a_row = len(declared) == 1
    if not (in_a_row or len(declared) == 3):
        model.fail(f"input: expected (height, width, channel), found {brief(declared)}")
    if size is None and (in_a_row or None in declared[:2]):
        where = f"{model.where}: {model.name} ({model.kind}): input"
        problem = f"{where}: expected (height, width, channel), found {brief(declared)}"
        raise ModelFormatError(f"{problem}; give size=(height, width)")
    height, width = as_pair("size", declared[:2] if size is None else size, 1)  # type: ignore[arg-type]
    depth = len(channels or "RGB") if declared[-1] is None else declared[-1] // (height * width if in_a_row else 1)
    shape = (height, width, depth)
    first = (math.prod(shape),) if in_a_row else shape
    if any(n not in (None, m) for n, m in zip(declared, first, strict=True)):
        raise ValueError(f"size: expected one that fits {declared}, the input of {model.where}, got {size}")
    return shape, first


def _declared(model: LayerConfig) -> list[int | None] | None:
    """The shape of a model's input in its description; None if it is not there."""
    children = children_of(model)
    first = next((pair for pair in children if pair[0].kind == "InputLayer"), children[0])
    if first[0].kind in MODELS:
        return _declared(first[0])
    build = first[1].get("build_config")
    shapes = [first[0].config.get("batch_shape"), first[0].config.get("batch_input_shape"),
              model.config.get("build_input_shape"), isinstance(build, Mapping) and build.get("input_shape")]  # fmt: skip
    shape = next((shape for shape in shapes if shape), None)
    if shape is None:
        return None
    sizes = shape[1:] if isinstance(shape, list) else [0]
    if not all(n is None or (isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= MAX_NUMBERS) for n in sizes):
        first[0].fail(f"shape: expected sizes, found {brief(shape)}")
    return sizes

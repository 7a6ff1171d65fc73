"""The model of an ONNX file: its net, its classes, and how photographs are prepared for it."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...data.photos import Fit
from ...io import Logits, Model, ModelFormatError, brief
from ...kernels.windows import as_pair
from ...modules import Graph
from ...modules.base import Shape
from ..assemble import assemble
from ..draft import MAX_NUMBERS, Draft, Value
from ..graph import Node
from ..input_scaling import TORCHVISION, Given, input_scaling
from ..layout import channel_order
from .file import MAX_AXES, OnnxFile, read_file
from .graph import Walk
from .layers import LAYERS
from .layout import Layout
from .patterns import PATTERNS

File = str | os.PathLike[str]
Channels = Literal["RGB", "BGR", "L"]

ENDS: dict[str, Logits] = {  # what is left off at the end, and what the logits then mean
    "Softmax": "exclusive",
    "LogSoftmax": "exclusive",
    "Sigmoid": "independent",
}
REARRANGING = ("Identity", "Dropout", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze")


@dataclass(frozen=True, eq=False)
class Net:
    """A net from a file, without what it takes to ask it about photographs."""

    net: Graph
    inputs: tuple[Layout, ...]  # where ONNX's axes are in ours: `to_ours` and `to_onnx` bring numbers from one to the other
    output: Layout
    left_off: str  # the softmax or sigmoid at the end, by ONNX's name
    producer: str

    @property
    def shape(self) -> Any:
        """The shape of the input, in our order, without samples; of several inputs, a tuple of shapes."""
        shapes = tuple(layout.our_shape for layout in self.inputs)
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def output_shape(self) -> Shape:
        return self.output.our_shape


def read_onnx(
    file: File,
    *,
    mean: Given | None = None,
    std: Given | None = None,
    pixels: Literal[1, 255] | None = None,
    labels: File | Sequence[str] | None = None,
    channels: Channels | None = None,
    fit: Fit | None = None,
    border: int = 0,
    fill: Given = 0.0,
    size: tuple[int, int] | None = None,
    output: str | None = None,
    logits: bool = True,
    dtype: Any = np.float32,
    assumed: dict[str, Any] | None = None,
) -> Model:
    """The model of an ONNX file that takes photographs and gives a number for each class.

    Parameters
    ----------
    file : .onnx, opset 7 to 28, with one input (sample, channel, height, width) or (sample, height, width, channel).
    mean, std : x = (pixel − mean) / std, one number a channel, in the order of `channels`. The file does not say what they
        were; the default is torchvision's, (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225), and of grey pictures 0 and 1. If
        only one of them is given, the other is 0 or 1.
    pixels : whether `mean` and `std` are for pixels from 0 to 1 (torchvision) or from 0 to 255 (Caffe). The default is 1 if
        no number is greater than 1, else 255.
    labels : the names of the classes, or a file that `zoo.read_labels` reads; the default is their numbers.
    channels : the order of the channels that the net was trained on. The default is RGB, for one channel L.
    fit, border, fill : how a photograph gets the size of the input, see `Preprocessing`; the default of `fit` is "warp".
    size : (height, width) of the input, where the file leaves it open.
    output : the name of the value that is explained, if the net has several outputs.
    logits : leaves a softmax or sigmoid at the end off, so that the outputs are logits, which can be explained.
    dtype : of the weights.
    assumed : a dictionary that gets the arguments which neither the caller nor the file decides, and their values; `mean` and
        `std` as of pixels from 0 to 255.

    Raises FileNotFoundError if there is no such file, ModelFormatError if it is not what it should be or holds what this
    toolbox has no layer for (all such nodes are named), ValueError if an argument does not fit the file, and ImportError if
    onnx is not installed.
    """
    path, assumed = Path(file), {} if assumed is None else assumed
    stored = read_file(path)
    if len(stored.inputs) != 1:
        names = brief(", ".join(stored.inputs)) if stored.inputs else "none"
        raise ModelFormatError(f"{path}: expected one input, found {names}")
    found = net_of(stored, channels=channels, size=size, output=output, logits=logits, dtype=dtype)
    if len(found.shape) != 3 or found.shape[2] not in (1, 3):
        raise ModelFormatError(
            f"{path}: input: expected pictures of 1 or 3 channels, found (height, width, channel) {found.shape}; "
            "read_net reads nets of anything else"
        )
    order = channel_order(channels, "RGB", found.shape[2], f"{path}", assumed)
    preprocessing = input_scaling(
        (found.shape[0], found.shape[1]),
        order,
        assumed,
        mean=mean,
        std=std,
        pixels=pixels,
        fit=fit,
        border=border,
        fill=fill,
        usual=TORCHVISION[order],
        white=None,
    )
    draft, y = _draft(found)
    by = f", written by {found.producer}" if found.producer else ""
    ends = f". Its {found.left_off} at the end is left off: the outputs are logits" if found.left_off else ""
    model = assemble(
        draft,
        y,
        preprocessing,
        labels,
        where=f"{path}",
        name=path.stem,
        origin=f"Imported from {path.name}{by}{ends}",
        dtype=np.dtype(dtype),
        assumed=assumed,
        logits=False,  # what is at the end is left off by `net_of`
    )
    return replace(model, logits=ENDS.get(found.left_off))


def _draft(found: Net) -> tuple[Draft, Value]:
    """The nodes of a net, and its output."""
    [source] = found.net.inputs
    draft = Draft(Value(source, found.shape))
    for node in found.net.nodes:
        draft.nodes[node.name] = Node(node.name, tuple(node.reads), node.module)
    return draft, Value(found.net.output, found.output_shape)


def read_net(
    file: File,
    *,
    shape: Shape | Sequence[Shape] | None = None,
    channels: Channels | None = None,
    size: tuple[int, int] | None = None,
    output: str | None = None,
    logits: bool = True,
    dtype: Any = np.float32,
) -> Net:
    """The net of an ONNX file with inputs and an output of any shape.

    `shape`: of the input in ONNX, with that of samples, where the file leaves it open; of several inputs, a list of shapes.
    The other arguments, and what is raised, are those of `read_onnx`. Maps (sample, channel, height, width) become (height,
    width, channel), and signals (sample, channel, place) become (place, channel).
    """
    return net_of(read_file(Path(file)), shape=shape, channels=channels, size=size, output=output, logits=logits, dtype=dtype)


def net_of(
    stored: OnnxFile,
    *,
    shape: Shape | Sequence[Shape] | None = None,
    channels: Channels | None = None,
    size: tuple[int, int] | None = None,
    output: str | None = None,
    logits: bool = True,
    samples: bool = True,
    dtype: Any = np.float32,
) -> Net:
    """The net of a file that was read. `samples`: whether the first axis of its inputs is samples."""
    if not stored.inputs:
        raise ModelFormatError(f"{stored.where}: expected an input, found none")
    if output is None:
        if len(stored.outputs) != 1:
            names = brief(", ".join(stored.outputs)) if stored.outputs else "none"
            raise ModelFormatError(f"{stored.where}: expected one output, found {names}; give output=, the one to explain")
        [output] = stored.outputs
    given: Sequence[Any] = [shape] if len(stored.inputs) == 1 or shape is None else shape
    given = [None] * len(stored.inputs) if shape is None else given
    if len(given) != len(stored.inputs):
        raise ValueError(f"shape: expected shapes of {len(stored.inputs)} inputs, {', '.join(stored.inputs)}, got {shape}")
    layouts = {}
    for (source, declared), known in zip(stored.inputs.items(), given, strict=True):
        leads = _leads_to_transpose(stored, source)
        full = _shape(stored, source, declared, known, channels, size, samples, leads)
        first = 0 if samples else None
        axes = [axis for axis in range(len(full)) if axis != first]
        plain = Layout.of(full, axes, first)
        layouts[source] = plain.with_ours(plain.in_order(_order(stored, source, axes, leads)))
    for node in stored.nodes:
        if node.op != "Cast" and (whole := stored.whole.intersection(node.inputs)):
            found = f"one of another type, {brief(next(iter(whole)))}"
            raise ModelFormatError(f"{stored.where}: {node.label}: expected an input of floating-point numbers, found {found}")
    passed, left_off = _ends(stored, output) if logits else (frozenset[int](), "")
    walk = Walk(stored, np.dtype(dtype), LAYERS, PATTERNS, passed)
    walk.run(layouts)
    y = walk.finish(walk.signal(output))
    return Net(walk.net(y), tuple(layouts.values()), y.layout, left_off, stored.producer)


def _shape(
    stored: OnnxFile,
    source: str,
    declared: tuple[int | None, ...] | None,
    shape: Shape | None,
    channels: str | None,
    size: tuple[int, int] | None,
    samples: bool,
    leads: tuple[int, ...] | None,
) -> Shape:
    """The whole shape of the input, in ONNX. Samples of which the file does not say how many there are count as one."""
    where = f"{stored.where}: {brief(source)}"
    if shape is not None:
        found: list[int | None] = list(shape)
    elif declared is not None:
        found = list(declared)
    elif size is not None:
        found = [None] * 4
    else:
        raise ModelFormatError(f"{where}: expected a shape, found none; give size=(height, width), or shape= to read_net")
    if declared is not None and (
        len(declared) != len(found) or any(n not in (None, m) for n, m in zip(declared, found, strict=True))
    ):
        raise ValueError(f"shape: expected one that fits {declared}, the input of {stored.where}, got {shape}")
    if not int(samples) < len(found) <= MAX_AXES:
        raise ModelFormatError(f"{where}: expected an axis of samples and others, found {brief(found)}")
    if samples and found[0] is None:
        found[0] = 1
    if len(found) == 4 and samples:
        last = leads is not None and leads == (0, 3, 1, 2)  # (sample, height, width, channel), as TensorFlow has it
        places, depth = ([1, 2], 3) if last else ([2, 3], 1)
        if size is not None:
            pair = as_pair("size", size, 1)
            for axis, n in zip(places, pair, strict=True):
                if found[axis] not in (None, n):
                    raise ValueError(
                        f"size: expected {found[places[0]]} × {found[places[1]]}, as {stored.where} has, got {size}"
                    )
                found[axis] = n
        if found[depth] is None:
            found[depth] = len(channels or "RGB")
    elif size is not None:
        raise ValueError(f"size: expected None, since the input of {stored.where} is no picture, got {size}")
    if None in found:
        raise ModelFormatError(
            f"{where}: expected sizes, found {brief(found)}; give size=(height, width), or shape= to read_net"
        )
    known = tuple(int(n) for n in found if n is not None)
    if any(not 1 <= n <= MAX_NUMBERS for n in known):
        raise ModelFormatError(f"{where}: expected sizes from 1 to {MAX_NUMBERS:,}, found {brief(known)}")
    if math.prod(known) > MAX_NUMBERS:
        raise ModelFormatError(f"{where}: expected a map of at most {MAX_NUMBERS:,} numbers, found {known}")
    return known


MAPS = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "LRN",
                  "BatchNormalization", "InstanceNormalization", "GroupNormalization"})  # fmt: skip
SINGLE = frozenset({"Add", "Sub", "Mul", "Div", "Identity", "Cast", "Relu", "Clip", "Pad", "Dropout", "Sigmoid", "Tanh"})


def _chain(stored: OnnxFile, source: str) -> Any:
    """The nodes that read the input one after the other, each the first reader of what is before it."""
    readers: dict[str, Any] = {}
    for node in stored.nodes:
        for name in node.inputs:
            readers.setdefault(name, node)
    seen: set[str] = set()
    while source in readers and source not in seen:
        seen.add(source)
        node = readers[source]
        yield node
        source = node.outputs[0] if node.outputs else ""


def _leads_to_transpose(stored: OnnxFile, source: str) -> tuple[int, ...] | None:
    """The order of a Transpose near the input, if there is one."""
    for node in _chain(stored, source):
        if node.op == "Transpose":
            order = node.attributes.get("perm")
            return order if isinstance(order, tuple) and sorted(order) == list(range(len(order))) else None
        if node.op not in SINGLE:
            return None
    return None


def _order(stored: OnnxFile, source: str, axes: list[int], leads: tuple[int, ...] | None) -> list[int]:
    """Which axis of the input each of ours is: channels last, as the first layer wants it."""
    if leads is not None and len(leads) == len(axes) + 1 and leads[0] == 0 and len(axes) > 1:
        first, *places = [leads[k] for k in range(1, len(leads))]
        return [*places, first]
    if len(axes) >= 3:
        return [*axes[1:], axes[0]]
    if len(axes) == 2:
        for node in _chain(stored, source):
            if node.op in MAPS:
                return [axes[1], axes[0]]
            if node.op not in SINGLE:
                break
    return axes


def _ends(stored: OnnxFile, output: str) -> tuple[frozenset[int], str]:
    """The softmax or sigmoid before the output, by the number of its node, and its name."""
    makers = {name: k for k, node in enumerate(stored.nodes) for name in node.outputs}
    readers = Counter(name for node in stored.nodes for name in node.inputs)
    seen: set[str] = set()
    while output in makers and output not in seen:
        seen.add(output)
        k = makers[output]
        node = stored.nodes[k]
        if node.op in ENDS:
            return frozenset({k}), node.op
        if node.op not in REARRANGING or not node.inputs or readers[output] > 1:
            break
        output = node.inputs[0]
    return frozenset(), ""

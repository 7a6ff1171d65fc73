"""The model of an ONNX file: its net, its classes, and how photographs are prepared for it."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...data import Preprocessing
from ...io import Logits, Model, ModelFormatError, brief
from ...kernels.windows import as_pair
from ...modules import Graph, Scale
from ...modules.base import Shape
from ...zoo import class_names
from ..assemble import choose
from ..draft import MAX_NUMBERS
from ..graph import Node, build
from ..layout import channel_order
from ..passes import absorb_input_scaling
from .file import MAX_AXES, OnnxFile, read_file
from .graph import Walk, require_size
from .layers import LAYERS
from .layout import Layout
from .patterns import PATTERNS

File = str | os.PathLike[str]
Channels = Literal["RGB", "BGR", "L"]

ENDS = ("Softmax", "LogSoftmax", "Sigmoid")  # left off at the end
MEANING: dict[str, Logits] = {"Softmax": "exclusive", "LogSoftmax": "exclusive", "Sigmoid": "independent"}  # of logits
REARRANGING = ("Identity", "Dropout", "Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze")

USUAL: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {  # mean and standard deviation of pixels from 0 to 1
    "RGB": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "BGR": ((0.406, 0.456, 0.485), (0.225, 0.224, 0.229)),
    "L": ((0.0,), (1.0,)),
}


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
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    pixels: Literal[1, 255] | None = None,
    labels: File | Sequence[str] | None = None,
    channels: Channels | None = None,
    fit: Literal["warp", "crop"] | None = None,
    size: tuple[int, int] | None = None,
    output: str | None = None,
    logits: bool = True,
    dtype: Any = np.float32,
    assumed: dict[str, Any] | None = None,
) -> Model:
    """The model of an ONNX file that takes photographs and gives a number for each class.

    Parameters
    ----------
    file : .onnx, opset 7 to 24, with one input (sample, channel, height, width) or (sample, height, width, channel).
    mean, std : x = (pixel − mean) / std, one number a channel, in the order of `channels`. The file does not say what they
        were; the default is torchvision's, (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225), and of grey pictures 0 and 1.
        The summary says so. Where `std` differs between channels, it joins the weights of the first convolution.
    pixels : whether `mean` and `std` are of pixels from 0 to 1 (torchvision) or from 0 to 255 (Caffe). The default is 1 if
        no number is greater than 1, else 255.
    labels : the names of the classes, or a file that `zoo.read_labels` reads; the default is their numbers.
    channels : the order of the channels that the net was trained on: RGB, unless it has one channel only, "L".
    fit : how a photograph becomes that large, see `Preprocessing`.
    size : (height, width) of the input, where the file leaves it open.
    output : the name of the value that is explained, if the net has several outputs.
    logits : leaves a softmax or sigmoid at the end off, so that the outputs are logits, which can be explained.
    dtype : of the weights.
    assumed : a dictionary that gets the arguments which neither the caller nor the file decides, and their values.

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
    if len(found.output_shape) != 1:
        raise ModelFormatError(f"{path}: output: expected one number for each class, found shape {found.output_shape}")
    order = channel_order(channels, "RGB", found.shape[2], f"{path}", assumed)
    minus, over, prepared = _input_scaling(order, mean, std, pixels, assumed)
    fitted: Literal["warp", "crop"] = choose("fit", fit, None, "warp", assumed)
    if labels is None:
        assumed["labels"] = None
    divided = [("std", Scale(1 / np.asarray(over)), ("input",)), *_renamed(found.net)]
    made, target = {name: Node(name, reads, module) for name, module, reads in divided}, divided[-1][0]
    given = Preprocessing((found.shape[0], found.shape[1]), fitted, order, minus)
    nodes, preprocessing = absorb_input_scaling(made, "input", target, given)
    net = build(nodes.values(), "input", target, f"{path}").map(lambda a: a.astype(dtype, copy=False))
    ends = f" Its {found.left_off} at the end is left off: the outputs are logits." if found.left_off else ""
    by = f", written by {found.producer}" if found.producer else ""
    summary = f"Imported from {path.name}{by}. {prepared}{ends}"
    classes = class_names(labels, found.output_shape[0])
    card = f"# {path.stem}\n\n{summary}\n"
    return Model(path.stem, net, classes, preprocessing, summary, card, logits=MEANING.get(found.left_off))


def _renamed(net: Graph) -> list[Any]:
    """The nodes of a net that reads "std" instead of its input; a node that has that name gets another."""
    taken = {"input", *net.names}
    names = {name: name for name in net.names}
    if "std" in names:
        names["std"] = next(n for k in range(2, len(taken) + 3) if (n := f"std_{k}") not in taken)
    names[net.inputs[0]] = "std"
    return [(names[node.name], node.module, tuple(names[value] for value in node.reads)) for node in net.nodes]


def _input_scaling(
    order: str, mean: Sequence[float] | None, std: Sequence[float] | None, pixels: int | None, assumed: dict[str, Any]
) -> tuple[tuple[float, ...], tuple[float, ...], str]:
    """Mean and standard deviation of pixels from 0 to 255, and a sentence on them."""
    if pixels not in (None, 1, 255):
        raise ValueError(f"pixels: expected 1 or 255, the value of white, got {pixels!r}")
    given: list[tuple[float, ...]] = []
    for name, value, least in (("mean", mean, -math.inf), ("std", std, 0.0)):
        numbers = () if value is None else tuple(float(n) for n in value)
        if value is not None and (len(numbers) != len(order) or not all(math.isfinite(n) and n > least for n in numbers)):
            raise ValueError(f"{name}: expected {len(order)} numbers{' > 0' * (name == 'std')}, one a channel, got {value!r}")
        given.append(numbers)
    white = pixels or (255 if any(abs(n) > 1 for n in (*given[0], *given[1])) else 1)
    if mean is None and std is None:
        minus, over, white, said_by = *USUAL[order], 1, "Assumed, since the file does not say it: "
    else:
        minus, over, said_by = given[0] or (0.0,) * len(order), given[1] or (1.0,) * len(order), ""
    assumed |= {name: value for name, value, asked in (("mean", minus, mean), ("std", over, std)) if asked is None}
    said = "({}) and divided by ({})".format(*(", ".join(f"{n:g}" for n in part) for part in (minus, over)))
    sentence = f"{said_by}Pixels from 0 to {white} minus {said}."
    return tuple(255 / white * n for n in minus), tuple(255 / white * n for n in over), sentence


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
    require_size(known, where)
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

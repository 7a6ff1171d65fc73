"""Networks from Caffe: a description (.prototxt) and its weights (.caffemodel, .caffemodel.h5).

Caffe's maps are (channel, height, width), ours (height, width, channel). All that follows from it happens here, once:
convolution kernels (out, in, height, width) become (height, width, in, out), and whatever reads a flattened map has its
inputs in the order (height, width, channel).
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal, NoReturn

import numpy as np

try:
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError

    from . import caffe_schema as schema
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: reading Caffe's files takes lrp_toolbox[caffe]", name=error.name) from error

from .. import modules
from ..backend import Array
from ..data import Preprocessing
from ..io import BROKEN, Model, ModelFormatError, brief, read_at_most
from ..kernels.windows import as_pair
from ..modules import Module
from ..modules.base import Shape
from ..zoo import class_names
from . import hdf5
from .graph import MOST_LAYERS, Node, build, require_size

File = str | os.PathLike[str]


def read_caffe(
    prototxt: File,
    weights: File,
    *,
    mean: File | Sequence[float] | None = None,
    scale: float | None = None,
    labels: File | Sequence[str] | None = None,
    channels: Literal["BGR", "RGB", "L"] | None = None,
    fit: Literal["warp", "crop"] = "warp",
    size: tuple[int, int] | None = None,
    output: str | None = None,
    ignore: Sequence[str] = (),
    name: str | None = None,
    dtype: Any = np.float32,
) -> Model:
    """The model that Caffe trained.

    Parameters
    ----------
    prototxt : the description, as for deployment, or for training: then it is read as in the phase TEST.
    weights : the weights, in protobuf (`layer`, or `layers` as before 2014) or HDF5.
    mean : what to subtract: one number a channel, in the order of `channels`, or a file, .binaryproto or .npy, of which each
        channel is averaged. The default is what the data layer says, or nothing.
    scale : what to multiply by afterwards. The default is what the data layer says, or 1.
    labels : the names of the classes, or a file that `zoo.read_labels` reads; the default is their numbers.
    channels : the order of the channels that the network was trained on: BGR, unless it has one channel only, "L".
    fit : how a photograph becomes that large, see `Preprocessing`.
    size : (height, width) of the input, where the description does not say, or another than it says.
    output : the blob that is explained, for networks with more than one output.
    ignore : patterns of layers that have weights but do not stand in the description.
    name : the model's name; the default is what the description says.

    A SoftMax at the end is left off: the model gives logits.

    Raises ModelFormatError, which names file, layer, what was expected and what was found.
    """
    net = _Graph(_read_description(Path(prototxt)), Path(prototxt))
    stored = _read_weights(Path(weights), np.dtype(dtype))
    stored.require_known(net.names, ignore, net.file)
    end, key, softmax = net.output(output)
    steps, source_key = net.leading_to(key)
    source = _source(net, source_key, steps, stored, size)
    converter = _Converter(net, source, key, stored)
    for step in steps:
        converter.convert(step)
    classes = converter.finish(key)
    module = build(list(converter.nodes.values()), source.key, classes.key, str(prototxt))

    height, width, depth = source.shape
    order = channels or ("L" if depth == 1 else "BGR")
    if len(order) != depth:
        _fail(net.file, source.key, f"{len(order)} channels, {order}", f"{depth}")
    transform = net.sources[source_key].transform
    mean = _data_mean(net.file, source, transform) if mean is None else _mean(mean, depth)
    scale = transform.scale if scale is None else scale
    preprocessing = Preprocessing((height, width), fit, order, mean, scale)
    name = name or net.name or Path(prototxt).stem
    outputs = classes.shape[0]
    card = _CARD.format(
        name=name,
        prototxt=Path(prototxt).name,
        weights=Path(weights).name,
        parameters=f"{sum(math.prod(a.shape) for a in module.parameters()):,}",
        input=f"{height}×{width}, {order}",
        mean=", ".join(f"{m:.6g}" for m in preprocessing.mean),
        scale=f"{scale:.6g}",
        fit=fit,
        output=end,
        outputs=outputs,
        softmax=f"; the SoftMax `{softmax}` behind it is left off" if softmax else "",
    )
    summary = f"{name}, from Caffe: {height}×{width} {order}, {outputs} outputs"
    return Model(name, module, class_names(labels, outputs), preprocessing, summary, card)


_CARD = """\
# {name}

Imported from Caffe: `{prototxt}` with the weights of `{weights}`, {parameters} parameters. The licence is that of these files.

| | |
|---|---|
| input | {input}: (pixel − ({mean})) · {scale}; fit: {fit} |
| output | `{output}`, {outputs} numbers{softmax} |
"""


def _fail(file: Path, where: str, expected: str, found: str) -> NoReturn:
    raise ModelFormatError(f"{file}: {f'{where}: ' if where else ''}expected {expected}, found {found}")


def _listed(names: Iterable[str]) -> str:
    """Names in an error message."""
    first = list(islice(names, 21))
    return ", ".join([*first[:20], "…"] if len(first) > 20 else first)


# ---- The description -------------------------------------------------------------------------------------------------

LONGEST_LINE = 1 << 14  # bytes; for whatever it does not know the parser copies the line
MOST_TEXT = 1 << 21  # bytes of a description; that of ResNet-152 has some 100,000


def _read_description(file: Path) -> Any:
    """The NetParameter in a text file, with its layers in the new form."""
    content, net = read_at_most(file, MOST_TEXT), schema.NetParameter()
    for k, line in enumerate(content.split(b"\n"), 1):
        if len(line) > LONGEST_LINE:
            _fail(
                file,
                f"line {k}",
                f"the description of a network in text, at most {LONGEST_LINE:,} bytes a line",
                f"{len(line):,}",
            )
    try:
        text_format.Parse(content.decode("utf-8-sig"), net, allow_unknown_field=True)
    except (text_format.ParseError, ValueError, RecursionError, DeprecationWarning) as error:
        # the last of a backslash that escapes nothing, where Python is told to take warnings for errors
        raise ModelFormatError(f"{file}: expected the description of a network in text: {brief(error)}") from error
    if len(net.layers) + len(net.layer) > MOST_LAYERS:
        _fail(file, "", f"at most {MOST_LAYERS:,} layers", f"{len(net.layers) + len(net.layer):,}")
    if net.layers and net.layer:
        _fail(file, "", "either `layer` or, in the old form, `layers`", "both")
    for old in net.layers:
        if old.HasField("layer"):
            _fail(file, old.layer.name, "`layer` or `layers`", "the form of 2013; Caffe's upgrade_net_proto_text rewrites it")
        new = net.layer.add(type=schema.V1_TYPES[_name_of(old, "type")][1])
        for known, value in old.ListFields():
            if hasattr(value, "CopyFrom"):
                getattr(new, known.name).CopyFrom(value)
            elif known.name == "name":
                new.name = value
            elif known.name != "type":
                getattr(new, known.name).extend(value)
    if not net.layer:
        _fail(file, "", "the description of a network", "no layers")
    return net


def _require_finite(file: Path, where: str, message: Any) -> None:
    """Texts may say nan and inf."""
    for f, value in message.ListFields():
        for number in value if isinstance(value, Iterable) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                _fail(file, f"{where}: {f.name}", "a finite number", str(number))


def _name_of(message: Any, enum: str) -> str:
    """The name of the value that the field `enum` has."""
    name: str = message.DESCRIPTOR.fields_by_name[enum].enum_type.values_by_number[getattr(message, enum)].name
    return name


def _in_test(layer: Any) -> bool:
    """Whether the layer is there in the phase TEST, at level 0 and without stages."""

    def holds(rule: Any) -> bool:
        return (
            (not rule.HasField("phase") or _name_of(rule, "phase") == "TEST")
            and (not rule.HasField("min_level") or rule.min_level <= 0)
            and (not rule.HasField("max_level") or rule.max_level >= 0)
            and not rule.stage
        )

    return any(map(holds, layer.include)) if layer.include else not any(map(holds, layer.exclude))


# ---- The graph -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Source:
    """An input: (samples, channels, height, width), if the description says so; and what a data layer does to it."""

    dims: Sequence[int] | None
    transform: Any = field(default_factory=schema.TransformationParameter)


@dataclass(frozen=True)
class _Step:
    """A layer, and the keys of the values that it reads: names of layers, or of inputs."""

    layer: Any
    inputs: tuple[str, ...]


class _Graph:
    """Which layer reads what another one makes.

    A blob may be written again and again ("in place"): a layer reads what the last layer before it wrote. So values are known
    by a key, the name of the layer that makes them, and `blobs` says which of them a blob holds.
    """

    def __init__(self, net: Any, file: Path):
        self.file, self.name = file, net.name
        self.names = {layer.name for layer in net.layer}  # of both phases
        self.sources: dict[str, _Source] = {}
        self.steps: dict[str, _Step] = {}
        self.blobs: dict[str, str] = {}
        self.readers: Counter[str] = Counter()
        for k, blob in enumerate(net.input):
            dims = net.input_shape[k].dim if k < len(net.input_shape) else net.input_dim[4 * k : 4 * k + 4]
            self._add_source(blob, "input", _Source(dims))
        for k, layer in enumerate(filter(_in_test, net.layer), 1):
            if not layer.name:
                _fail(file, f"layer {k}", "a name", "none")
            if layer.type in _DATA:
                for top, dims in zip(layer.top, _DATA[layer.type](layer), strict=False):
                    self._add_source(top, layer.name, _Source(dims, layer.transform_param))
            else:
                self._add(layer)

    def _add_source(self, blob: str, where: str, source: _Source) -> None:
        if blob in self.blobs:
            _fail(self.file, where, "to make a blob of its own", f"{blob!r}, which is there already")
        self.sources[blob] = source
        self.blobs[blob] = blob

    def _add(self, layer: Any) -> None:
        if layer.type in ("Accuracy", "HDF5Output", "Silence") or layer.type.endswith("Loss"):
            return  # for training and testing; no part of the network
        for blob in layer.bottom:
            if blob not in self.blobs:
                _fail(self.file, layer.name, f"a layer before it that makes {blob!r}, which it reads", "none")
        inputs = tuple(self.blobs[blob] for blob in layer.bottom)
        if layer.type == "Split":
            self.blobs.update((top, key) for key in inputs for top in layer.top)
            return
        if layer.name in self.steps:
            _fail(self.file, layer.name, "names to be unique", "two layers of that name")
        self.steps[layer.name] = _Step(layer, inputs)
        self.readers.update(inputs)
        for k, top in enumerate(layer.top):
            if top in self.blobs and top not in layer.bottom:
                _fail(self.file, layer.name, "to make a blob of its own, or what it reads", f"{top!r}, which is there already")
            self.blobs[top] = f"{layer.name}:{k}" if k else layer.name

    def output(self, asked: str | None) -> tuple[str, str, str]:
        """The blob that is explained, its key, and the name of the SoftMax behind it that is left off, if there is one."""
        ends = [blob for blob, key in self.blobs.items() if key not in self.readers and key not in self.sources]
        if asked is None and len(ends) != 1:
            _fail(self.file, "output", "one output", f"{len(ends)}; say which one, output=…: {_listed(ends)}")
        if asked is not None and asked not in self.blobs:
            _fail(self.file, "output", f"one of {_listed(self.blobs)}", repr(asked))
        blob = ends[0] if asked is None else asked
        step = self.steps.get(self.blobs[blob])
        if step is not None and step.layer.type == "Softmax" and len(step.inputs) == 1:
            return step.layer.bottom[0], step.inputs[0], step.layer.name
        return blob, self.blobs[blob], ""

    def leading_to(self, key: str) -> tuple[list[_Step], str]:
        """The layers that `key` depends on, in order, and the one input among these."""
        found, to_do = set(), [(key, "output")]
        while to_do:
            key, reader = to_do.pop()
            if key in found:
                continue
            found.add(key)
            if key in self.steps:
                to_do += [(k, key) for k in self.steps[key].inputs]
            elif key not in self.sources:
                _fail(self.file, reader, "to read the first output of a layer", repr(key))
        sources = [key for key in self.sources if key in found]
        if len(sources) != 1:
            _fail(self.file, "output", "to depend on one input", f"{len(sources)}: {_listed(sources)}")
        return [step for key, step in self.steps.items() if key in found], sources[0]


def _input(layer: Any) -> list[Sequence[int] | None]:
    shapes = [shape.dim for shape in layer.input_param.shape]
    return shapes * len(layer.top) if len(shapes) == 1 else shapes or [None] * len(layer.top)


def _memory_data(layer: Any) -> list[Sequence[int] | None]:
    p = layer.memory_data_param
    return [(1, p.channels, p.height, p.width), None]


def _dummy_data(layer: Any) -> list[Sequence[int] | None]:
    p = layer.dummy_data_param
    shapes = [shape.dim for shape in p.shape] or list(zip(p.num, p.channels, p.height, p.width, strict=False))
    return shapes * len(layer.top) if len(shapes) == 1 else shapes or [None] * len(layer.top)


def _data(layer: Any) -> list[Sequence[int] | None]:
    return [None] * len(layer.top)


# Data layers, and the dimensions of what they make.
_DATA: dict[str, Callable[[Any], list[Sequence[int] | None]]] = {
    "Input": _input,
    "MemoryData": _memory_data,
    "DummyData": _dummy_data,
    **dict.fromkeys(("Data", "HDF5Data", "ImageData", "WindowData"), _data),
}


# ---- The weights -----------------------------------------------------------------------------------------------------

MOST_FIELDS = 100_000  # of a network: its layers, and little else
MOST_BLOBS = 64  # of a layer
MOST_AXES = 32  # of a blob: Caffe's own limit
MOST_MEAN = 1 << 28  # bytes of a mean picture; that of ImageNet has some 786,000


@dataclass(frozen=True)
class _Weights:
    """The arrays of each layer, as the file has them."""

    file: Path
    dtype: np.dtype[Any]
    arrays: dict[str, list[Array]] = field(default_factory=dict)

    def add(self, layer: str, arrays: list[Array]) -> None:
        if layer in self.arrays:
            _fail(self.file, layer, "names to be unique", "two layers of that name")
        self.arrays[layer] = arrays

    def require_known(self, names: Collection[str], ignore: Sequence[str], description: Path) -> None:
        for layer in self.arrays:
            if layer not in names and not any(fnmatchcase(layer, pattern) for pattern in ignore):
                _fail(self.file, layer, f"the layers that {description.name} names", "another; ignore=… leaves it out")

    def take(self, layer: str, *shapes: Shape) -> list[Array]:
        """The arrays of a layer in these shapes. A stored shape may have more ones in front, as of four axes in old files."""
        arrays = self.arrays.pop(layer, [])
        if len(arrays) != len(shapes):
            _fail(self.file, layer, f"{len(shapes)} arrays of weights", f"{len(arrays) or 'none'}")
        for k, (a, shape) in enumerate(zip(arrays, shapes, strict=True)):
            if _core(a.shape) != _core(shape):
                _fail(self.file, f"{layer}: array {k}", f"the shape {shape}", f"{a.shape}")
        return [a.reshape(shape) for a, shape in zip(arrays, shapes, strict=True)]


def _core(shape: Shape) -> Shape:
    """The shape without the ones that it begins with."""
    ones = next((k for k, n in enumerate(shape) if n != 1), len(shape))
    return tuple(shape[ones:])


def _read_weights(file: Path, dtype: np.dtype[Any]) -> _Weights:
    """The weights in a file, of all layers that have any."""
    with file.open("rb") as opened:
        is_hdf5 = opened.read(8) == hdf5.SIGNATURE
    weights = _Weights(file, dtype)
    for layer, stored in (_hdf5_layers if is_hdf5 else _protobuf_layers)(file):
        arrays: list[Array] = []
        while stored:
            with np.errstate(over="ignore"):  # what does not fit is refused here
                a = np.asarray(stored.pop(0), dtype)
            if not np.isfinite(a).all():
                _fail(file, f"{layer}: array {len(arrays)}", "finite numbers", "NaN or infinity")
            arrays.append(a)
        weights.add(layer, arrays)
    if not weights.arrays:
        _fail(file, "", "the weights of a network", "none")
    return weights


def _protobuf_layers(file: Path) -> Iterator[tuple[str, list[Array]]]:
    """(name, arrays) of each layer that has any.

    Layer by layer: the network in one message would take its memory twice, and could not have 2 GB.
    """
    fields = schema.NetParameter.DESCRIPTOR.fields_by_name
    forms = {fields["layer"].number: schema.LayerParameter, fields["layers"].number: schema.V1LayerParameter}
    for number, content in _fields(file, forms):
        layer = _parse(file, "", forms[number](), content)
        del content
        if not isinstance(layer.name, str):
            _fail(file, "", "the name of a layer in UTF-8", repr(layer.name))
        if len(layer.blobs) > MOST_BLOBS:
            _fail(file, layer.name, f"at most {MOST_BLOBS} arrays of weights", f"{len(layer.blobs):,}")
        name, blobs, arrays = layer.name, list(layer.blobs), []
        del layer  # nothing is held longer than need be: the first dense layer of VGG-16 has 400 MB
        while blobs:
            arrays.append(_array(file, name, _parse(file, name, schema.BlobProto(), blobs.pop(0))))
        if arrays:
            yield name, arrays


def _fields(file: Path, wanted: Collection[int]) -> Iterator[tuple[int, bytes]]:
    """The fields of these numbers in a message that fills a file. Their lengths are believed as far as the file goes."""
    end = file.stat().st_size
    with file.open("rb") as opened:
        for _ in range(MOST_FIELDS):
            if opened.tell() == end:
                return
            tag = _varint(file, opened)
            number, wire_type = tag >> 3, tag & 7
            if number == 0 or wire_type not in (0, 1, 2, 5):
                _fail(file, "", "a .caffemodel, that is protobuf, or HDF5", f"the field {number} of wire type {wire_type}")
            value = _varint(file, opened) if wire_type in (0, 2) else 0
            length = {0: 0, 1: 8, 2: value, 5: 4}[wire_type]
            if length > end - opened.tell():
                _fail(file, "", f"{length:,} more bytes at byte {opened.tell():,}", f"{end - opened.tell():,}; is it cut off?")
            if wire_type == 2 and number in wanted:
                yield number, opened.read(length)
            else:
                opened.seek(length, os.SEEK_CUR)
    _fail(file, "", f"at most {MOST_FIELDS:,} fields", "more")


def _varint(file: Path, opened: BinaryIO) -> int:
    value = 0
    for k in range(10):
        [byte] = opened.read(1) or _fail(file, "", "a number", "the end of the file; is it cut off?")
        value |= (byte & 127) << 7 * k
        if byte < 128:
            return value
    _fail(file, "", "a .caffemodel, that is protobuf, or HDF5", "a number of more than ten bytes")


def _parse(file: Path, where: str, message: Any, content: bytes) -> Any:
    try:
        message.ParseFromString(content)
    except DecodeError:
        _fail(file, where, f"a {type(message).__name__}, that is protobuf", f"{len(content):,} bytes that are none")
    return message


def _array(file: Path, where: str, blob: Any) -> Array:
    """The numbers of a BlobProto in its shape, in the form of today or the old one with four axes."""
    if len(blob.shape.dim) > MOST_AXES:
        _fail(file, where, f"at most {MOST_AXES} axes", f"{len(blob.shape.dim):,}")
    old = (blob.num, blob.channels, blob.height, blob.width)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else old
    content, dtype = (blob.double_data, np.dtype("<f8")) if blob.HasField("double_data") else (blob.data, np.dtype("<f4"))
    if min(shape, default=1) < 0 or math.prod(shape) * dtype.itemsize != len(content):
        _fail(file, where, f"as many numbers as the shape {shape} says", f"{len(content)} bytes of {dtype.name}")
    return np.frombuffer(content, dtype).reshape(shape)


def _hdf5_layers(file: Path) -> Iterator[tuple[str, list[Array]]]:
    """(name, arrays) of each layer that has any: the datasets data/<name>/0, 1, …"""
    with hdf5.opened(file, f"{file}") as stored:
        if "data" not in stored:
            _fail(file, "data", "a group of layers", "none")
        layers: dict[str, list[str]] = {}
        for path in stored.arrays("data"):
            layer, _, number = path.removeprefix("data/").rpartition("/")
            layers.setdefault(layer, []).append(number)
        for layer, numbers in layers.items():
            expected = [str(k) for k in range(len(numbers))]
            if sorted(numbers) != sorted(expected):
                _fail(file, layer, f"datasets {_listed(expected)}, in this file", _listed(sorted(numbers)))
            paths = [f"data/{layer}/{number}" for number in expected]
            yield layer, [stored.array(p, f"{layer}: array {k}", stored.dtype(p)) for k, p in enumerate(paths)]


# ---- Layers ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Value:
    """What one sample of a blob is here: the key, and the shape (height, width, channel), or (feature).

    Features are flattened maps, one after the other: `maps` has the (channel, height, width) of each.
    """

    key: str
    shape: Shape
    maps: tuple[tuple[int, int, int], ...] = ()

    @property
    def is_map(self) -> bool:
        return len(self.shape) == 3

    def in_our_order(self, a: Array) -> Array:
        """a, that has a row for each feature in the order (channel, height, width), in the order (height, width, channel)."""
        if self.is_map:
            return a
        ours, start = np.empty_like(a, order="C"), 0
        for c, h, w in self.maps:
            rows = slice(start, start + c * h * w)
            there, here = ours[rows].reshape(h, w, c, -1), a[rows].reshape(c, h, w, -1).transpose(1, 2, 0, 3)
            for k in range(0, here.shape[3], 64):  # as many columns as caches hold: four times as fast for 100 million weights
                there[..., k : k + 64] = here[..., k : k + 64]
            start += c * h * w
        return ours

    def require_channel_axis(self, axis: int) -> None:
        if axis not in (1, -len(self.shape)):
            raise ValueError(f"axis: expected 1, the channels, found {axis}")


class _Converter:
    """From layers to nodes, in order. `values` has what each key stands for."""

    def __init__(self, graph: _Graph, source: _Value, end: str, weights: _Weights):
        self.graph, self.end, self.weights = graph, end, weights
        self.values = {source.key: source}
        self.nodes: dict[str, Node] = {}

    def convert(self, step: _Step) -> None:
        name, kind = step.layer.name, step.layer.type
        file = self.graph.file
        if kind not in _LAYERS:
            _fail(file, name, f"one of the layers {', '.join(sorted(_LAYERS))}", kind or "no type")
        for f, p in step.layer.ListFields():
            if f.name.endswith("_param"):
                _require_finite(file, name, p)
        values = [self.values[key] for key in step.inputs]
        if not values or (len(values) > 1 and kind not in ("Concat", "Eltwise")):
            _fail(file, name, "one input", f"{len(values)}")
        try:
            self.values[name] = _LAYERS[kind](self, step.layer, values)
        except ModelFormatError:
            raise
        except (ValueError, TypeError) as error:
            raise ModelFormatError(f"{file}: {name}: {error}") from error

    def add(self, name: str, x: _Value, module: Module) -> _Value:
        """A node that applies `module` to x, and its value."""
        if module.input_axes not in (None, len(x.shape)):
            raise ValueError(f"expected an input of {module.input_axes} axes, found the shape {x.shape}")
        shape = module.output_shape(x.shape)
        require_size(shape, f"{self.graph.file}: {name}")
        self._make(Node(name, (x.key,), module))
        if len(shape) == 3:
            return _Value(name, shape)
        if x.is_map:
            return _Value(name, shape, ((x.shape[2], x.shape[0], x.shape[1]),))
        return _Value(name, shape, ((shape[0], 1, 1),) if isinstance(module, modules.Linear) else x.maps)

    def _make(self, node: Node) -> None:
        if node.name in self.nodes:
            raise ValueError(f"expected names to be unique, found another layer {node.name!r}")
        self.nodes[node.name] = node

    def join(self, name: str, values: list[_Value], module: Module) -> _Value:
        """A node that adds or concatenates, and its value."""
        shapes = [v.shape for v in values]
        fit = [(v.shape, v.maps) if isinstance(module, modules.Sum) else v.shape[:-1] for v in values]
        if any(f != fit[0] for f in fit):
            raise ValueError(f"expected inputs that fit together, found the shapes {_listed(map(str, shapes))}")
        if len(values) == 1:
            return values[0]
        self._make(Node(name, tuple(v.key for v in values), module))
        if isinstance(module, modules.Sum):
            return replace(values[0], key=name)
        return _Value(name, (*shapes[0][:-1], sum(s[-1] for s in shapes)), sum((v.maps for v in values), ()))

    def flattened(self, name: str, x: _Value) -> _Value:
        return self.add(name, x, modules.Flatten()) if x.is_map else x

    def finish(self, key: str) -> _Value:
        """The value of `key` as one number for each class."""
        y = self.values[key]
        if y.is_map and y.shape[:2] == (1, 1):
            y = self.flattened(f"{key}/flatten", y)
        if y.is_map or any(h * w > 1 for _, h, w in y.maps):
            _fail(self.graph.file, key, "one number for each class", f"maps, {y.shape}; hand in another `output` or `size`")
        return y


_Layer = Callable[[_Converter, Any, list[_Value]], _Value]


def _one(make: Callable[[Any, _Value, _Weights], Module]) -> _Layer:
    """A layer that is one module, which `make` makes for its parameters, its input and the weights."""
    return lambda net, layer, values: net.add(layer.name, values[0], make(layer, values[0], net.weights))


def _pair(p: Any, name: str, several: str, default: int = 0) -> tuple[int, int]:
    """(height, width) from the fields `name`_h and `name`_w, or from `several`, which has one number or two."""
    pair = f"{name}_h", f"{name}_w"
    if any(f in p.DESCRIPTOR.fields_by_name and p.HasField(f) for f in pair):
        return getattr(p, pair[0]), getattr(p, pair[1])
    given = getattr(p, several) or [default]
    if len(given) > 2:
        raise ValueError(f"{several}: expected one number, or one for height and width, found {len(given)}")
    return given[0], given[-1]


def _conv(layer: Any, x: _Value, weights: _Weights) -> Module:
    p = layer.convolution_param
    x.require_channel_axis(p.axis)
    kernel, channels = _pair(p, "kernel", "kernel_size"), x.shape[-1]
    if p.num_output < 1 or p.group < 1 or channels % p.group or p.num_output % p.group:
        raise ValueError(f"group: expected a divisor of {channels} channels and {p.num_output} outputs, found {p.group}")
    shape = (p.num_output, channels // p.group, *kernel)
    w, *b = weights.take(layer.name, shape, *[(p.num_output,)] * p.bias_term)
    return modules.Conv(
        np.ascontiguousarray(w.transpose(2, 3, 1, 0)),
        b[0] if b else None,
        stride=_pair(p, "stride", "stride", 1),
        padding=_pair(p, "pad", "pad"),
        dilation=_pair(p, "dilation", "dilation", 1),
        groups=p.group,
    )


def _dense(net: _Converter, layer: Any, values: list[_Value]) -> _Value:
    p, [x] = layer.inner_product_param, values
    x.require_channel_axis(p.axis)
    x = net.flattened(f"{layer.name}/flatten", x)
    if p.num_output < 1:
        raise ValueError(f"num_output: expected a number ≥ 1, found {p.num_output}")
    shape = (x.shape[0], p.num_output)
    w, *b = net.weights.take(layer.name, shape if p.transpose else shape[::-1], *[(p.num_output,)] * p.bias_term)
    return net.add(layer.name, x, modules.Linear(x.in_our_order(w if p.transpose else w.T), *b))


def _pool(layer: Any, x: _Value, weights: _Weights) -> Module:
    p = layer.pooling_param
    method = _name_of(p, "pool")
    if method not in ("MAX", "AVE"):
        raise ValueError(f"pool: expected MAX or AVE, found {method}")
    kind: type[modules.MaxPool] | type[modules.AvgPool] = modules.MaxPool if method == "MAX" else modules.AvgPool
    if p.global_pooling:
        return kind(None)
    kernel, stride, padding = _pair(p, "kernel", "kernel_size"), _pair(p, "stride", "stride", 1), _pair(p, "pad", "pad")
    ceil = _name_of(p, "round_mode") == "CEIL" and p.ceil_mode
    if ceil and x.is_map and min(*kernel, *stride) > 0:
        room = [n + 2 * pad for n, pad in zip(x.shape, padding, strict=False)]
        sizes = list(zip(room, kernel, stride, strict=True))
        if not any(padding) and any(-(-(n - k) // s) * s >= n for n, k, s in sizes):
            raise ValueError(f"stride: {stride} puts a window outside of the map {x.shape}, where Caffe finds no number")
        high, wide = (min(k, n) if k < n + s else k for n, k, s in sizes)  # the only window is clipped
        kernel = high, wide
    return kind(kernel, stride, padding, ceil)


def _relu(layer: Any, x: _Value, weights: _Weights) -> Module:
    slope = layer.relu_param.negative_slope
    return modules.LeakyReLU(slope) if slope else modules.ReLU()


def _prelu(layer: Any, x: _Value, weights: _Weights) -> Module:
    if layer.prelu_param.channel_shared:
        return modules.PReLU(weights.take(layer.name, (1,))[0])
    return modules.PReLU(x.in_our_order(*weights.take(layer.name, x.shape[-1:])))


def _lrn(layer: Any, x: _Value, weights: _Weights) -> Module:
    p = layer.lrn_param
    if _name_of(p, "norm_region") == "WITHIN_CHANNEL":
        return modules.LRN(p.local_size, p.alpha, p.beta, 1.0, "within")  # whatever k
    return modules.LRN(p.local_size, p.alpha, p.beta, p.k)


def _batch_norm(layer: Any, x: _Value, weights: _Weights) -> Module:
    """Caffe stores sums: mean and variance times a third number, 0 before training."""
    p = layer.batch_norm_param
    if p.HasField("use_global_stats") and not p.use_global_stats:
        raise ValueError("use_global_stats: expected true, the statistics of training, found false")
    mean, variance, count = weights.take(layer.name, x.shape[-1:], x.shape[-1:], (1,))
    with np.errstate(all="ignore"):
        mean, variance = (a / count[0] if count[0] else 0 * a for a in (mean, variance))
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        raise ValueError(f"expected sums to be divided by their count, found the count {count[0]}")
    return modules.BatchNorm(x.in_our_order(mean), x.in_our_order(variance), eps=p.eps)


def _scale(net: _Converter, layer: Any, values: list[_Value]) -> _Value:
    """Caffe's batch normalisation is two layers, of which the second has γ and β: these become one."""
    p, [x] = layer.scale_param, values
    x.require_channel_axis(p.axis)
    if p.num_axes != 1:
        raise ValueError(f"num_axes: expected 1, found {p.num_axes}")
    w, *b = (x.in_our_order(a) for a in net.weights.take(layer.name, *[x.shape[-1:]] * (1 + p.bias_term)))
    norm = net.nodes[x.key] if net.graph.readers[x.key] == 1 and x.key in net.nodes and x.key != net.end else None
    if norm is not None and isinstance(norm.module, modules.BatchNorm) and norm.module.gamma is None:
        del net.nodes[x.key]
        return net.add(layer.name, replace(x, key=norm.inputs[0]), replace(norm.module, gamma=w, beta=b[0] if b else None))
    return net.add(layer.name, x, modules.Scale(w, *b))


def _softmax(layer: Any, x: _Value, weights: _Weights) -> Module:
    x.require_channel_axis(layer.softmax_param.axis)
    return modules.SoftMax()


def _flatten(net: _Converter, layer: Any, values: list[_Value]) -> _Value:
    p, [x] = layer.flatten_param, values
    x.require_channel_axis(p.axis)
    if p.end_axis not in (-1, len(x.shape)):
        raise ValueError(f"end_axis: expected −1, the last, found {p.end_axis}")
    return net.flattened(layer.name, x)


def _concat(net: _Converter, layer: Any, values: list[_Value]) -> _Value:
    p = layer.concat_param
    values[0].require_channel_axis(p.concat_dim if p.HasField("concat_dim") else p.axis)
    return net.join(layer.name, values, modules.Concatenation())


def _eltwise(net: _Converter, layer: Any, values: list[_Value]) -> _Value:
    p = layer.eltwise_param
    if _name_of(p, "operation") != "SUM":
        raise ValueError(f"operation: expected SUM, found {_name_of(p, 'operation')}")
    if p.coeff and len(p.coeff) != len(values):
        raise ValueError(f"coeff: expected a number for each of {len(values)} inputs, found {len(p.coeff)}")
    for k, (c, x) in enumerate(zip(p.coeff, values, strict=False)):
        if c != 1:
            values[k] = net.add(f"{layer.name}/{k + 1}", x, modules.Scale(np.full(x.shape[-1:], c, net.weights.dtype)))
    return net.join(layer.name, values, modules.Sum())


_LAYERS: dict[str, _Layer] = {
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


# ---- What goes in, and what comes out --------------------------------------------------------------------------------


def _source(graph: _Graph, key: str, steps: Sequence[_Step], weights: _Weights, size: tuple[int, int] | None) -> _Value:
    """The input as a value. A data layer does not say how many channels it has: the convolution that reads it does."""
    dims, transform = graph.sources[key].dims, graph.sources[key].transform
    _require_finite(graph.file, key, transform)
    if transform.scale <= 0:
        _fail(graph.file, key, "a scale > 0", str(transform.scale))
    crop = transform.crop_size
    if dims is None:
        if not (crop or size):
            _fail(graph.file, key, "the size of the input; hand it in, size=(height, width)", "a data layer")
        convs = [step.layer for step in steps if step.layer.type == "Convolution" and step.inputs == (key,)]
        stored = [(weights.arrays.get(conv.name, []), conv.convolution_param.group) for conv in convs]
        depths = [arrays[0].shape[1] * groups for arrays, groups in stored if arrays and arrays[0].ndim == 4]
        if not depths:
            _fail(graph.file, key, "a convolution that says how many channels the data have", "none")
        dims = (1, depths[0], 0, 0)
    if len(dims) != 4:
        _fail(graph.file, key, "four dimensions (samples, channels, height, width)", str(tuple(dims)))
    height, width = as_pair("size", size, 1) if size else (crop, crop) if crop else dims[2:]
    if dims[1] not in (1, 3) or height < 1 or width < 1:
        _fail(graph.file, key, "pictures of 1 or 3 channels", f"channels, height and width {dims[1], height, width}")
    shape = (int(height), int(width), int(dims[1]))
    require_size(shape, f"{graph.file}: {key}")
    return _Value(key, shape)


def _data_mean(file: Path, source: _Value, transform: Any) -> tuple[float, ...]:
    """The mean that the data layer says, one number a channel; zeros, if it says none."""
    if transform.mean_file:
        _fail(file, source.key, "a mean: hand in as `mean` a copy of the file that it names", repr(transform.mean_file))
    values, channels = tuple(transform.mean_value) or (0.0,), source.shape[2]
    if len(values) not in (1, channels):
        _fail(file, source.key, f"a mean_value for each of {channels} channels", f"{len(values)}")
    return values if len(values) == channels else values * channels


def _mean(mean: File | Sequence[float], channels: int) -> tuple[float, ...]:
    """One number a channel, from a mean picture or such numbers."""
    if not isinstance(mean, (str, os.PathLike)):
        return tuple(float(m) for m in mean)
    file = Path(mean)
    with file.open("rb") as opened:
        is_npy = opened.read(6) == b"\x93NUMPY"
    if is_npy:
        try:
            a = np.load(file, mmap_mode="r", allow_pickle=False)
        except BROKEN as error:
            raise ModelFormatError(f"{file}: not a readable .npy: {brief(error)}") from error
    else:
        a = _array(file, "mean", _parse(file, "mean", schema.BlobProto(), read_at_most(file, MOST_MEAN)))
    a = a[0] if a.ndim == 4 and len(a) == 1 else a
    if a.dtype.kind != "f" or a.ndim not in (1, 3) or len(a) != channels or not a.size:
        _fail(file, "mean", f"floats of shape ({channels}) or ({channels}, height, width)", f"{a.dtype} of shape {a.shape}")
    with np.errstate(all="ignore"):  # what comes of it is refused here
        values = np.mean(a.reshape(channels, -1), axis=1, dtype=np.float64)
    if not np.isfinite(values).all():
        _fail(file, "mean", "finite numbers", "NaN or infinity")
    return tuple(float(v) for v in np.atleast_1d(values))

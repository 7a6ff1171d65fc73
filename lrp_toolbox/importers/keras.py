"""Nets that Keras wrote: whole models and weights, as .h5 (Keras 2 and 3), .weights.h5 and .keras archives.

Read with h5py and json alone. Nothing in a file is run: Lambda layers, custom classes and pickles are refused. What a file
says is checked before it is believed: names, shapes, how much there is to read; and only what lies in the file itself is
followed.
"""

from __future__ import annotations

import graphlib
import json
import math
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NoReturn

import numpy as np

from ..backend import Array
from ..data import Preprocessing
from ..io import MOST_TEXT, Model, ModelFormatError, brief, read_at_most
from ..kernels.windows import as_pair
from ..modules import (
    AvgPool,
    BatchNorm,
    ClippedReLU,
    Concatenation,
    Conv,
    Dropout,
    Flatten,
    Graph,
    Identity,
    LeakyReLU,
    Linear,
    MaxPool,
    Module,
    Pad,
    PReLU,
    ReLU,
    Scale,
    Sigmoid,
    SoftMax,
    Sum,
    Tanh,
)
from ..modules.base import Shape
from ..zoo import VGG_BLOCKS, class_names
from . import hdf5
from .graph import MOST_LAYERS, MOST_NUMBERS, Node, build, require_size
from .preparation import fold

MOST_NESTED = 8  # models within models

File = str | os.PathLike[str]
Border = tuple[tuple[int, int], tuple[int, int]]  # ((top, bottom), (left, right))
NO_BORDER: Border = ((0, 0), (0, 0))


# ---- The model -------------------------------------------------------------------------------------------------------


def read_keras(
    file: File,
    architecture: File | None = None,
    *,
    mean: Sequence[float] | None = None,
    scale: float = 1.0,
    labels: File | Sequence[str] | None = None,
    channels: Literal["RGB", "BGR", "L"] | None = None,
    fit: Literal["warp", "crop"] = "warp",
    size: tuple[int, int] | None = None,
    logits: bool = True,
    dtype: Any = np.float32,
) -> Model:
    """The model in a file that Keras wrote.

    Parameters
    ----------
    file : a whole model (.keras or .h5), or weights alone (.weights.h5 or .h5).
    architecture : of weights alone: a JSON file (`model.to_json()`, or the config.json of a .keras archive), "vgg16" or
        "vgg19". Weight files whose layers have the names of these two are known without it.
    mean : what was subtracted from pixels of 0 to 255 before they went into the net: one number a channel, in the order of
        `channels`. The default is nothing, and for the VGG nets what they were trained without.
    scale : what they were multiplied by afterwards. A Rescaling or Normalization at the net's own input becomes part of
        both, so that relevance is of what the first convolution sees.
    labels : the names of the classes, or a file that `zoo.read_labels` reads; the default is their numbers.
    channels : the order of the channels that the net was trained on: RGB, unless it has one channel only, "L", or is a VGG,
        BGR.
    fit : how a photograph becomes that large, see `Preprocessing`.
    size : (height, width) of the input, where the file leaves it open, or takes pixels in a row.
    logits : leaves a softmax or sigmoid at the end off, so that the outputs are logits, which can be explained.
    dtype : of the weights.

    Raises FileNotFoundError if there is no such file, ModelFormatError if one is not what it should be or holds what this
    toolbox has no layer for, ValueError if an argument does not fit the file, and ImportError if h5py is not installed.
    """
    hdf5.require_h5py()
    path = Path(file)
    with _opened(path) as (spec, arrays):
        if spec is not None and architecture is not None:
            raise ValueError(f"architecture: expected None, since {path} holds a whole model, got {str(architecture)!r}")
        if spec is None:
            spec = _architecture(path, architecture or _vgg_of(arrays.names))
        model = _layer(spec, f"{path}")
        if model.kind not in MODELS:
            model.fail(f"expected one of {', '.join(MODELS)}, found {model.kind}; what it does is code, which is never run")
        shape, first = _input_shape(model, size, channels)
        order, usual = _usual(model, shape)
        order, mean = channels or order, usual if mean is None else mean
        if len(order) != shape[2]:
            raise ValueError(f"channels: expected {shape[2]}, as the input of {path} has, got {order}")
        preprocessing = Preprocessing((shape[0], shape[1]), fit, order, tuple(mean), scale)
        graph = _Graph(arrays, f"{path}", np.dtype(dtype))
        net, output = graph.net(model, shape, first, logits)
        arrays.finish()
    if len(output) != 1:
        raise ModelFormatError(f"{path}: output: expected one number for each class, found {brief(output)}")
    preprocessing, net = fold(preprocessing, net)
    ends = f" Its {graph.left_off} at the end is left off: the outputs are logits." if graph.left_off else ""
    summary = f"Imported from {path.name}, {arrays.written_by}.{ends}"
    name, classes = re.sub(r"(\.weights)?\.[^.]+$", "", path.name), class_names(labels, output[0])
    return Model(name, _in(net, np.dtype(dtype)), classes, preprocessing, summary, card=f"# {name}\n\n{summary}\n")


def _in(net: Module, dtype: np.dtype[Any]) -> Module:
    """`net` in `dtype`: what is computed here rather than read, the weights of a Scale, is in double precision so far."""
    return net.map(lambda a: a if a.dtype == dtype else a.astype(dtype))


VGG = ("vgg16", "vgg19")  # which Keras has
VGG_MEAN = (103.939, 116.779, 123.68)  # of ImageNet, BGR, which these nets were trained without


def _vgg(name: str) -> dict[str, Any]:
    """The architecture of that name, as Keras would write it."""
    layers: list[dict[str, Any]] = []

    def add(kind: str, name: str, **config: Any) -> None:
        layers.append({"class_name": kind, "config": {"name": name, **config}})

    add("InputLayer", "input", batch_shape=[None, 224, 224, 3])
    for block, count in enumerate(VGG_BLOCKS[name], 1):
        for k in range(1, count + 1):
            same = {"filters": 64 * min(2 ** (block - 1), 8), "kernel_size": [3, 3], "padding": "same"}
            add("Conv2D", f"block{block}_conv{k}", **same, activation="relu")
        add("MaxPooling2D", f"block{block}_pool", pool_size=[2, 2], strides=[2, 2])
    add("Flatten", "flatten")
    add("Dense", "fc1", units=4096, activation="relu")
    add("Dense", "fc2", units=4096, activation="relu")
    add("Dense", "predictions", units=1000, activation="softmax")
    return {"class_name": "Sequential", "config": {"name": name, "layers": layers}}


def _vgg_of(names: Sequence[str]) -> str | None:
    """Which VGG the layers of these names make up; those without weights may be left out."""
    for vgg in VGG:
        layers = _vgg(vgg)["config"]["layers"]
        weighted = {layer["config"]["name"] for layer in layers if layer["class_name"] in ("Conv2D", "Dense")}
        if {name for name in names if re.fullmatch(r"block\d+_conv\d+|fc\d+|predictions", name)} == weighted:
            return vgg
    return None


def _architecture(path: Path, given: File | None) -> Any:
    if given is None:
        raise ModelFormatError(
            f"{path}: expected a whole model, found weights alone; give architecture=, the file of model.to_json(), or one "
            f"of {', '.join(VGG)}"
        )
    if str(given) in VGG:
        return _vgg(str(given))
    return _parse(read_at_most(Path(given), MOST_TEXT), f"{given}")


def _usual(model: _Layer, shape: Shape) -> tuple[Literal["RGB", "BGR", "L"], tuple[float, ...]]:
    """The channels and the mean of a net where nothing else is said."""
    if shape[2] == 3 and _vgg_of([child.path[-1] for child, _ in _children(model)]):
        return "BGR", VGG_MEAN
    if shape[2] not in (1, 3):
        model.fail(f"input: expected pictures of 1 or 3 channels, found {shape}")
    return ("L", (0.0,)) if shape[2] == 1 else ("RGB", (0.0,) * 3)


# ---- Files -----------------------------------------------------------------------------------------------------------

CONFIG, METADATA, WEIGHTS = ARCHIVE = ("config.json", "metadata.json", "model.weights.h5")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, _Arrays]]:
    """The description of the net, None where there are weights alone, and its arrays."""
    if path.is_dir():
        raise ModelFormatError(f"{path}: expected a file, found a folder; a SavedModel has to be saved as .keras first")
    with path.open("rb") as file:
        beginning = file.read(len(hdf5.SIGNATURE))
    if beginning == hdf5.SIGNATURE:
        with hdf5.opened(path, f"{path}") as stored:
            description = stored.text("", "model_config")
            if description is not None:
                yield _parse(description, f"{path}: model_config"), _Legacy(stored, "model_weights")
            elif stored.texts("", "layer_names") is not None:
                yield None, _Legacy(stored, "")
            else:
                yield None, _Store(stored, "Keras 3")
    elif beginning.startswith(b"PK"):
        with tempfile.TemporaryDirectory() as folder:
            config, version = _unpack(path, Path(folder) / WEIGHTS)
            with hdf5.opened(Path(folder) / WEIGHTS, f"{path}/{WEIGHTS}") as stored:
                yield config, _Store(stored, f"Keras {version}")
    else:
        raise ModelFormatError(f"{path}: expected HDF5 (.h5) or a .keras archive, found a file that begins {beginning!r}")


def _unpack(path: Path, weights: Path) -> tuple[Any, str]:
    """The description in an archive, and the version of Keras; the weights are copied to the file `weights`."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name, count in Counter(archive.namelist()).items():
                if count > 1 or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                    raise ModelFormatError(f"{path}: expected plain names that occur once, found {name!r}, {count} times")
            for name in ARCHIVE:
                if name not in archive.namelist():
                    raise ModelFormatError(f"{path}: expected {', '.join(ARCHIVE)}, found no {name}")
                most = hdf5.allowance(path.stat().st_size) if name == WEIGHTS else MOST_TEXT
                if (size := archive.getinfo(name).file_size) > most:
                    raise ModelFormatError(f"{path}/{name}: expected at most {most} bytes, found {size}")
            config, metadata = (_parse(archive.read(name), f"{path}/{name}") for name in (CONFIG, METADATA))
            with archive.open(WEIGHTS) as packed, weights.open("wb") as copy:
                shutil.copyfileobj(packed, copy, 1 << 20)  # ends at the size that is declared; its checksum is checked
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, NotImplementedError, RuntimeError, UnicodeError) as error:
        raise ModelFormatError(f"{path}: not a readable .keras archive: {brief(error)}") from error
    return config, str(metadata.get("keras_version", 3))


def _parse(text: str | bytes, where: str) -> Any:
    if len(text) > MOST_TEXT:
        raise ModelFormatError(f"{where}: expected at most {MOST_TEXT} bytes of JSON, found more")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{where}: expected JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelFormatError(f"{where}: expected an object, found {brief(found)}")
    return found


class _Arrays:
    """The arrays of a file, by layer."""

    names: Sequence[str] = ()  # of layers, where the file says so

    def __init__(self, file: hdf5.File, path: str, version: str):
        if path not in file:
            raise ModelFormatError(f"{file.where}: expected weights that Keras wrote, found no {path!r}")
        self.file, self.path, self.written_by = file, path, version
        self.left = set(file.arrays(path))

    def of(self, layer: _Layer) -> list[str]:
        """The paths of a layer's arrays, in Keras' order."""
        raise NotImplementedError

    def take(self, layer: _Layer, dtype: np.dtype[Any], **shapes: Shape | None) -> list[Array]:
        """The arrays of these names, whose shapes have to be these; those without a shape are not read."""
        paths = self.of(layer)
        found = [self.file.shape(path) for path in paths]
        if len(found) != len(shapes) or any(b not in (None, a) for a, b in zip(found, shapes.values(), strict=True)):
            wanted = ", ".join(f"{name} {'' if shape is None else shape}" for name, shape in shapes.items())
            given = ", ".join(f"{path.rpartition('/')[2]} {shape}" for path, shape in zip(paths, found, strict=True))
            layer.fail(f"expected arrays {wanted}, found {given or 'none'}")
        self.left -= set(paths)
        read = [path for path, shape in zip(paths, shapes.values(), strict=True) if shape is not None]
        return [self.file.array(path, f"{layer.name}: {path.rpartition('/')[2]}", dtype) for path in read]

    def finish(self) -> None:
        """Raise ModelFormatError if there are arrays that no layer asked for; the seeds of dropout are none."""
        left = sorted(path for path in self.left if "seed_generator" not in path)
        if left:
            raise ModelFormatError(f"{self.file.where}: arrays that no layer asks for: {brief(left)}")


class _Legacy(_Arrays):
    """A group for each layer, with the names of its arrays: .h5 of Keras 1 (weights alone), 2 and 3."""

    def __init__(self, file: hdf5.File, path: str):
        version, backend = (file.text(path, name) for name in ("keras_version", "backend"))
        super().__init__(file, path, f"Keras {version or 1}")
        if backend == "theano":
            raise ModelFormatError(f"{file.where}: backend: expected one that does not flip its kernels, found {backend!r}")
        self.names = file.texts(path, "layer_names") or []

    def of(self, layer: _Layer) -> list[str]:
        group = f"{self.path}/{layer.path[0]}".lstrip("/")
        names = self.file.texts(group, "weight_names") or []
        if len(layer.path) > 1:  # a model within the model: "base/conv/kernel", or "conv/kernel:0"
            ends = {"/".join(layer.path[k:]) for k in range(len(layer.path))}
            names = [name for name in names if name.rpartition("/")[0] in ends]
        return [f"{group}/{name}" for name in names]


class _Store(_Arrays):
    """layers/conv2d_1/vars/0: .weights.h5 and .keras of Keras 3. Layers are known by their class and their order."""

    def __init__(self, file: hdf5.File, version: str):
        super().__init__(file, "layers" if "layers" in file else "_layer_checkpoint_dependencies", version)

    def of(self, layer: _Layer) -> list[str]:
        group = "/".join(f"{self.path}/{key}" for key in layer.keys) + "/vars"
        return [f"{group}/{k}" for k in range(len(self.file.arrays(group)))]


# ---- Descriptions ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layer:
    """A layer as Keras describes it."""

    kind: str  # the name of its class
    config: Mapping[str, Any]
    where: str
    path: tuple[str, ...]  # its name, behind those of the models that it is in
    keys: tuple[str, ...]  # the same, as weights of Keras 3 name it

    @property
    def name(self) -> str:
        return "/".join(self.path) or "model"

    def fail(self, message: str) -> NoReturn:
        raise ModelFormatError(f"{self.where}: {self.name} ({self.kind}): {message}")

    def refuse(self, key: str, expected: str) -> NoReturn:
        self.fail(f"{key}: expected {expected}, found {brief(self.config.get(key))}")

    def whole(self, key: str, default: int | None = None) -> int:
        value = self.config.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_NUMBERS:
            self.refuse(key, "a whole number ≥ 1")
        return value

    def pair(self, key: str, default: Any = None) -> tuple[int, int]:
        value = self.config.get(key, default)
        pair = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, list) else ()
        if len(pair) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= 1 << 16 for n in pair):
            self.refuse(key, "one whole number ≥ 1, or two")
        return pair

    def number(self, key: str, default: float | None = None) -> float:
        [value] = self.numbers(key, 1, default)
        return float(value)

    def numbers(self, key: str, count: int, default: Any = None) -> np.ndarray[Any, np.dtype[np.float64]]:
        """So many numbers, or one for all. NumPy's may come in an object: {"value": 6.0}, {"config": {"value": 6.0}}."""
        value = self.config.get(key, default)
        for inner in ("config", "value"):
            value = value[inner] if isinstance(value, Mapping) and inner in value else value
        try:
            numbers = np.asarray(value, np.float64).reshape(-1)
        except (TypeError, ValueError, OverflowError):
            self.refuse(key, "numbers")
        if isinstance(value, (str, bool)) or value is None or len(numbers) not in (1, count) or not np.isfinite(numbers).all():
            self.refuse(key, "a number" if count == 1 else f"one number, or {count}")
        return np.broadcast_to(numbers, (count,))

    def flag(self, key: str, default: bool) -> bool:
        value = self.config.get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, "true or false")
        return value

    def last(self, key: str, shape: Shape, default: int = -1) -> None:
        """Refuses an axis that is not the last, that of the channels."""
        axis = self.config.get(key, default)
        axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
        if axis not in (-1, len(shape)) or isinstance(axis, bool):
            self.refuse(key, "the last axis, that of the channels")


def _layer(spec: Any, where: str, model: _Layer | None = None, used: Counter[str] | None = None) -> _Layer:
    """The layer of `model` that `spec` describes, or the model itself. `used` counts classes, by which keys are told apart."""
    path, keys = (model.path, model.keys) if model else ((), ())
    here = f"{where}: {'/'.join(path) or 'model'}"
    kind = spec.get("class_name") if isinstance(spec, Mapping) else None
    config = spec.get("config") if isinstance(spec, Mapping) else None
    if not isinstance(kind, str):
        raise ModelFormatError(f"{here}: expected a layer with class_name and config, found {brief(spec)}")
    if isinstance(config, list):  # a Sequential of Keras 2 before 2.2.3
        config = {"layers": config}
    if not isinstance(config, Mapping):
        raise ModelFormatError(f"{here}: {kind}: config: expected an object, found {brief(config)}")
    name = config.get("name", spec.get("name"))
    if used is not None:
        if not isinstance(name, str) or not name:
            raise ModelFormatError(f"{here}: {kind}: name: expected a name, found {brief(name)}")
        key = _snake(kind)
        path, keys = (*path, name), (*keys, f"{key}_{used[key]}" if used[key] else key)
        used[key] += 1
    layer = _Layer(kind, config, where, path, keys)
    module, registered = spec.get("module"), spec.get("registered_name")
    if not isinstance(module, str | None) or (module or "keras").split(".")[0] not in ("keras", "tf_keras", "builtins"):
        layer.fail(f"module: expected one of Keras, found {brief(module)}: layers of one's own hold code, which is never run")
    if registered not in (None, kind) and ">" in str(registered):
        layer.fail(f"registered_name: expected a layer of Keras, found {brief(registered)}: code is never run")
    if config.get("data_format") == "channels_first":
        layer.refuse("data_format", "channels_last")
    return layer


def _snake(kind: str) -> str:
    """LeakyReLU as leaky_re_lu."""
    return re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", kind).lower()


def _children(model: _Layer) -> list[tuple[_Layer, Mapping[str, Any]]]:
    """The layers of a model, each with all that is said of it."""
    specs = model.config.get("layers")
    if not isinstance(specs, list) or not 1 <= len(specs) <= MOST_LAYERS:
        model.fail(f"layers: expected a list of up to {MOST_LAYERS} layers, found {brief(specs)}")
    used: Counter[str] = Counter()
    children = [(_layer(spec, model.where, model, used), spec) for spec in specs]
    for name, count in Counter(child.name for child, _ in children).items():
        if count > 1:
            model.fail(f"layers: expected names to be unique, found {count} layers named {name!r}")
    return children


def _references(layer: _Layer, value: Any) -> list[tuple[str, int]]:
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


def _inputs(layer: _Layer, node: Any) -> list[tuple[str, int]]:
    """What a call of a layer reads: [["conv", 0, 0, {}], …] (Keras 2), or {"args": [tensor or tensors], "kwargs": {}}.

    A sum that was written a + b has its two tensors for arguments.
    """
    if isinstance(node, list):
        node = [node] if node and isinstance(node[0], str) else node
        references = [item[:3] if isinstance(item, list) and len(item) == 4 else item for item in node]
        settings = [item[3] for item in node if isinstance(item, list) and len(item) == 4]
    else:
        args = node.get("args") if isinstance(node, Mapping) else None
        if not isinstance(args, list) or not 1 <= len(args) <= (2 if layer.kind == "Add" else 1):
            layer.fail(f"inbound_nodes: expected calls with one argument, found {brief(node)}")
        tensors = args[0] if len(args) == 1 and isinstance(args[0], list) else args
        configs = [tensor.get("config") if isinstance(tensor, Mapping) else None for tensor in tensors]
        references = [config.get("keras_history") if isinstance(config, Mapping) else config for config in configs]
        settings = [node.get("kwargs", {})]
    for setting in settings:  # training=False and mask=None say what is so anyway
        if not isinstance(setting, Mapping) or any(setting.values()):
            layer.fail(f"inbound_nodes: expected calls without further arguments, found {brief(setting)}")
    return _references(layer, references)


def _input_shape(model: _Layer, size: tuple[int, int] | None, channels: str | None) -> tuple[Shape, Shape]:
    """(height, width, channel) of a picture, and the shape that the first layer takes: that, or all of it in a row."""
    declared = _declared(model)
    if declared is None:
        declared = [None, None, None]
    if len(declared) == 2:  # Conv2D takes no such map, and Flatten does not care
        declared = [*declared, 1]
    in_a_row = len(declared) == 1
    if not (in_a_row or len(declared) == 3):
        model.fail(f"input: expected (height, width, channel), found {brief(declared)}")
    if size is None and (in_a_row or None in declared[:2]):
        model.fail(f"input: expected (height, width, channel), found {brief(declared)}; give size=(height, width)")
    height, width = as_pair("size", declared[:2] if size is None else size, 1)  # type: ignore[arg-type]
    depth = len(channels or "RGB") if declared[-1] is None else declared[-1] // (height * width if in_a_row else 1)
    shape = (height, width, depth)
    first = (math.prod(shape),) if in_a_row else shape
    if any(n not in (None, m) for n, m in zip(declared, first, strict=True)):
        raise ValueError(f"size: expected one that fits {declared}, the input of {model.where}, got {size}")
    return shape, first


def _declared(model: _Layer) -> list[int | None] | None:
    """The shape of a model's input as it is written down; None if it is not."""
    children = _children(model)
    first = next((pair for pair in children if pair[0].kind == "InputLayer"), children[0])
    if first[0].kind in MODELS:
        return _declared(first[0])
    build = first[1].get("build_config")
    shapes = [first[0].config.get("batch_shape"), first[0].config.get("batch_input_shape"),
              model.config.get("build_input_shape"), isinstance(build, Mapping) and build.get("input_shape")]  # fmt: skip
    shape = next((shape for shape in shapes if shape), None)
    if shape is None:
        return None
    if not isinstance(shape, list) or not all(n is None or (isinstance(n, int) and 1 <= n <= MOST_NUMBERS) for n in shape[1:]):
        first[0].fail(f"shape: expected sizes, found {brief(shape)}")
    return shape[1:]


# ---- Graphs ----------------------------------------------------------------------------------------------------------

INPUT = "(input)"
MODELS = ("Sequential", "Functional", "Model")


@dataclass(frozen=True)
class _Value:
    """What a node makes; and, if that is a zero-padded map, what is in the middle of it."""

    name: str
    shape: Shape
    nonneg: bool = False  # whether it is ≥ 0 by structure
    middle: _Value | None = None
    border: Border = NO_BORDER


@dataclass
class _Graph:
    """The nodes so far."""

    arrays: _Arrays
    where: str
    dtype: np.dtype[Any]
    nodes: dict[str, Node] = field(default_factory=dict)
    taken: dict[str, list[Array]] = field(default_factory=dict)  # layers that are called twice have their arrays once
    calls: int = 0
    left_off: str = ""  # the activation at the end

    def net(self, model: _Layer, shape: Shape, first: Shape, logits: bool) -> tuple[Graph, Shape]:
        """The net, and the shape of what comes out."""
        x = _Value(INPUT, shape)
        if first != shape:
            x = self.add("flatten", Flatten(), x)
        y = self.call(model, [x])
        target = self._without_activation(y) if logits else y.name
        return build(list(self.nodes.values()), INPUT, target, self.where), y.shape

    def _without_activation(self, y: _Value) -> str:
        """The name of the output, once a softmax or sigmoid at the end is gone."""
        name, reader = y.name, ""
        while name in self.nodes and math.prod(y.shape) == y.shape[-1]:
            node = self.nodes[name]
            if isinstance(node.module, (SoftMax, Sigmoid)):
                self.left_off = type(node.module).__name__.lower()
                if not reader:
                    return node.inputs[0]
                self.nodes[reader] = replace(self.nodes[reader], inputs=node.inputs)
            if not isinstance(node.module, (Flatten, Dropout, Identity)):
                break
            name, reader = node.inputs[0], name
        return y.name

    def add(self, name: str, module: Module, x: _Value) -> _Value:
        """A new node; a name that is taken is counted on."""
        try:
            shape = tuple(module.output_shape(x.shape))
        except ValueError as error:
            raise ModelFormatError(f"{self.where}: {name}: {error}") from error
        return self._enter(name, (x.name,), module, shape, module.output_is_nonnegative(x.nonneg))

    def join(self, layer: _Layer, module: Module, inputs: Sequence[_Value], shape: Shape) -> _Value:
        return self._enter(layer.name, tuple(x.name for x in inputs), module, shape, all(x.nonneg for x in inputs))

    def _enter(self, name: str, inputs: tuple[str, ...], module: Module, shape: Shape, nonneg: bool) -> _Value:
        require_size(shape, f"{self.where}: {name}")
        free = next(n for n in (name, *(f"{name}_{k}" for k in range(2, len(self.nodes) + 3))) if n not in self.nodes)
        self.nodes[free] = Node(free, inputs, module)
        return _Value(free, shape, nonneg)

    def weights(self, layer: _Layer, **shapes: Shape | None) -> list[Array]:
        """The arrays of a layer, by name and shape; those without a shape are there but of no use."""
        if layer.name not in self.taken:
            self.taken[layer.name] = self.arrays.take(layer, self.dtype, **shapes)
        return self.taken[layer.name]

    def weights_and_bias(self, layer: _Layer, outputs: int, **shapes: Shape) -> list[Any]:
        """The same, and at the end the bias, None if there is none."""
        if layer.flag("use_bias", True):
            return self.weights(layer, **shapes, bias=(outputs,))
        return [*self.weights(layer, **shapes), None]

    def call(self, layer: _Layer, inputs: Sequence[_Value]) -> _Value:
        """The value of `layer` for these inputs."""
        self.calls += 1
        if self.calls > MOST_LAYERS or len(layer.path) > MOST_NESTED:
            layer.fail(f"expected at most {MOST_LAYERS} layers, in at most {MOST_NESTED} models within models, found more")
        if layer.kind in JOINS:
            return JOINS[layer.kind](self, layer, inputs)
        if len(inputs) != 1:
            layer.fail(f"expected one input, found {len(inputs)}")
        [x] = inputs
        if layer.kind == "Sequential":
            for child, _ in _children(layer):
                x = self.call(child, [x])
            return x
        if layer.kind in MODELS:
            return self._functional(layer, x)
        if layer.kind not in LAYERS:
            code = ", which holds code that is never run" if layer.kind in ("Lambda", "TFOpLambda") else ""
            known = ", ".join(sorted({*LAYERS, *JOINS, *MODELS}))
            layer.fail(f"expected one of {known}, found {layer.kind}{code}")
        y = LAYERS[layer.kind](self, layer, x)
        module = _activation(layer, layer.config.get("activation"), y.shape) if "activation" in layer.config else None
        if module is None:
            return y
        name = layer.name if layer.kind == "Activation" else f"{layer.name}/{type(module).__name__.lower()}"
        return self.add(name, module, y)

    def _functional(self, model: _Layer, x: _Value) -> _Value:
        """Layers in the order in which they need each other."""
        layers = {child.path[-1]: (child, spec) for child, spec in _children(model)}
        sources = [name for name, (child, _) in layers.items() if child.kind == "InputLayer"]
        if len(sources) != 1 or [name for name, _ in _references(model, model.config.get("input_layers"))] != sources:
            model.fail(f"input_layers: expected the one InputLayer, found {brief(sources)}")
        reads: dict[tuple[str, int], list[tuple[str, int]]] = {}
        for name, (child, spec) in layers.items():
            nodes = spec.get("inbound_nodes", [])
            if not isinstance(nodes, list):
                child.fail(f"inbound_nodes: expected a list, found {brief(nodes)}")
            reads.update({(name, k): _inputs(child, node) for k, node in enumerate(nodes)})
        targets = _references(model, model.config.get("output_layers"))
        if len(targets) != 1:
            model.fail(f"output_layers: expected one output, found {brief(model.config.get('output_layers'))}")
        mentioned = {reference for references in [*reads.values(), targets] for reference in references}
        # The calls of an inner model may count from 1: Keras then takes the making of the model for its first call.
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


# ---- Layers ----------------------------------------------------------------------------------------------------------


def _conv(graph: _Graph, layer: _Layer, x: _Value) -> _Value:
    kernel, filters, groups = layer.pair("kernel_size"), layer.whole("filters"), layer.whole("groups", 1)
    channels = _channels(layer, x)
    if channels % groups:
        layer.refuse("groups", f"a divisor of {channels}, the number of channels")
    w, b = graph.weights_and_bias(layer, filters, kernel=(*kernel, channels // groups, filters))
    return _convolve(graph, layer, x, layer.name, w, b, groups)


def _depthwise(graph: _Graph, layer: _Layer, x: _Value) -> _Value:
    shape = (*layer.pair("kernel_size"), _channels(layer, x), layer.whole("depth_multiplier", 1))
    w, b = graph.weights_and_bias(layer, shape[2] * shape[3], kernel=shape)
    return _convolve(graph, layer, x, layer.name, w.reshape(*shape[:2], 1, -1), b, groups=shape[2])


def _separable(graph: _Graph, layer: _Layer, x: _Value) -> _Value:
    """A depthwise convolution and a dense one of 1 × 1 in turn."""
    shape = (*layer.pair("kernel_size"), _channels(layer, x), layer.whole("depth_multiplier", 1))
    filters = layer.whole("filters")
    across = (1, 1, shape[2] * shape[3], filters)
    w, v, b = graph.weights_and_bias(layer, filters, depthwise_kernel=shape, pointwise_kernel=across)
    x = _convolve(graph, layer, x, f"{layer.name}/depthwise", w.reshape(*shape[:2], 1, -1), None, groups=shape[2])
    return graph.add(layer.name, Conv(v, b), x)


def _convolve(graph: _Graph, layer: _Layer, x: _Value, name: str, w: Array, b: Array | None, groups: int) -> _Value:
    """Zeros that were put around x become the convolution's own padding."""
    stride, dilation = layer.pair("strides", 1), layer.pair("dilation_rate", 1)
    padding = _plus(x.border, _border(layer, x.shape, (w.shape[0], w.shape[1]), stride, dilation))
    return graph.add(name, Conv(w, b, stride=stride, padding=padding, dilation=dilation, groups=groups), x.middle or x)


def _channels(layer: _Layer, x: _Value) -> int:
    if len(x.shape) != 3:
        layer.fail(f"expected a map (height, width, channel) to come in, found {x.shape}")
    return x.shape[2]


def _border(layer: _Layer, shape: Shape, kernel: Shape, stride: Shape, dilation: Shape = (1, 1)) -> Border:
    """ "same": as many windows as strides fit into the map, and of the zeros that it takes the odd one below and right."""
    padding = layer.config.get("padding", "valid")
    if padding not in ("valid", "same"):
        layer.refuse("padding", "'valid' or 'same'")
    if padding == "valid":
        return NO_BORDER
    spans = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    missing = [max(0, (-(-n // s) - 1) * s + span - n) for n, s, span in zip(shape[:2], stride, spans, strict=True)]
    rows, columns = ((n // 2, n - n // 2) for n in missing)
    return rows, columns


def _plus(a: Border, b: Border) -> Border:
    rows, columns = ((p[0] + q[0], p[1] + q[1]) for p, q in zip(a, b, strict=True))
    return rows, columns


def _zero_padding(graph: _Graph, layer: _Layer, x: _Value) -> _Value:
    _channels(layer, x)
    match layer.config.get("padding", 1):
        case int(n):
            rows, columns = (n, n), (n, n)
        case [int(n), int(m)]:
            rows, columns = (n, n), (m, m)
        case [[int(top), int(bottom)], [int(left), int(right)]]:
            rows, columns = (top, bottom), (left, right)
        case _:
            layer.refuse("padding", "a whole number, two, or two pairs")
    if not all(0 <= n <= 1 << 16 for n in (*rows, *columns)):
        layer.refuse("padding", "whole numbers ≥ 0")
    y = graph.add(layer.name, Pad((rows, columns)), x)
    return replace(y, middle=x.middle or x, border=_plus(x.border, (rows, columns)))


def _max_pool(graph: _Graph, layer: _Layer, x: _Value) -> _Value:
    """Zeros around a map that is ≥ 0 are never larger than what is in it, and become the pooling's own padding."""
    kernel, stride, own = _pooling(layer, x)
    outer = x.border if x.nonneg and _within(_plus(x.border, own), kernel) else NO_BORDER
    source = x.middle if x.middle and outer != NO_BORDER else x
    return graph.add(layer.name, MaxPool(kernel, stride, _plus(outer, own)), source)


def _avg_pool(graph: _Graph, layer: _Layer, x: _Value) -> _Value:
    """Keras' own padding does not count in the mean; zeros that were put around x do."""
    kernel, stride, own = _pooling(layer, x)
    if x.middle and own == NO_BORDER and _within(x.border, kernel):
        return graph.add(layer.name, AvgPool(kernel, stride, x.border), x.middle)
    return graph.add(layer.name, AvgPool(kernel, stride, own, count_include_pad=False), x)


def _pooling(layer: _Layer, x: _Value) -> tuple[tuple[int, int], tuple[int, int], Border]:
    _channels(layer, x)
    kernel = layer.pair("pool_size", 2)
    stride = kernel if layer.config.get("strides") is None else layer.pair("strides")
    return kernel, stride, _border(layer, x.shape, kernel, stride)


def _within(border: Border, kernel: Shape) -> bool:
    return all(n < k for pair, k in zip(border, kernel, strict=True) for n in pair)


def _global(kind: type[MaxPool] | type[AvgPool]) -> Converter:
    def convert(graph: _Graph, layer: _Layer, x: _Value) -> _Value:
        _channels(layer, x)
        y = graph.add(layer.name, kind(None), x)
        return y if layer.flag("keepdims", False) else graph.add(f"{layer.name}/flatten", Flatten(), y)

    return convert


def _dense(graph: _Graph, layer: _Layer, x: _Value) -> _Value:
    """On a map it works at every place, as a convolution of 1 × 1."""
    units = layer.whole("units")
    w, b = graph.weights_and_bias(layer, units, kernel=(x.shape[-1], units))
    return graph.add(layer.name, Linear(w, b) if len(x.shape) == 1 else Conv(w[None, None], b), x)


def _batch_norm(graph: _Graph, layer: _Layer, x: _Value) -> _Value:
    layer.last("axis", x.shape)
    n = x.shape[-1:]
    parts = {name: n for name, flag in (("gamma", "scale"), ("beta", "center")) if layer.flag(flag, True)}
    parts |= {"mean": n, "variance": n}
    arrays = dict(zip(parts, graph.weights(layer, **parts), strict=True))
    try:
        return graph.add(layer.name, BatchNorm(**arrays, eps=layer.number("epsilon", 1e-3)), x)
    except ValueError as error:
        layer.fail(str(error))


def _rescaling(graph: _Graph, layer: _Layer, x: _Value) -> _Value:
    n = x.shape[-1]
    return _scale(graph, layer, x, layer.numbers("scale", n), layer.numbers("offset", n, 0.0))


def _normalization(graph: _Graph, layer: _Layer, x: _Value) -> _Value:
    """(x − mean) / σ, or with `invert` x σ + mean; Keras sees to σ ≥ 1e-7."""
    n, one_for_all = x.shape[-1], layer.config.get("axis", -1) in (None, [])
    if not one_for_all:
        layer.last("axis", x.shape)
    if layer.config.get("mean") is not None:
        mean, variance = layer.numbers("mean", n), layer.numbers("variance", n)
    else:
        shape = () if one_for_all else (n,)
        stored = graph.weights(layer, mean=shape, variance=shape, count=None)
        mean, variance = (np.broadcast_to(a.astype(np.float64).reshape(-1), (n,)) for a in stored)
    if (variance < 0).any():
        layer.fail(f"variance: expected numbers ≥ 0, found {brief(variance.min())}")
    sigma = np.maximum(np.sqrt(variance), 1e-7)
    return _scale(graph, layer, x, *((sigma, mean) if layer.flag("invert", False) else (1 / sigma, -mean / sigma)))


def _scale(graph: _Graph, layer: _Layer, x: _Value, w: Array, b: Array) -> _Value:
    return graph.add(layer.name, Scale(w, b), x)


def _relu(graph: _Graph, layer: _Layer, x: _Value) -> _Value:
    return graph.add(layer.name, _relu_of(layer), x)


def _relu_of(layer: _Layer) -> Module:
    slope = layer.number("negative_slope", 0.0)
    most = None if layer.config.get("max_value") is None else layer.number("max_value")
    if layer.number("threshold", 0.0) != 0:
        layer.refuse("threshold", "0")
    if most is None:
        return LeakyReLU(slope) if slope else ReLU()
    if slope or most <= 0:
        layer.refuse("max_value", "a number > 0, and no negative_slope beside it")
    return ClippedReLU(most)


def _leaky_relu(graph: _Graph, layer: _Layer, x: _Value) -> _Value:
    return graph.add(layer.name, _leaky_relu_of(layer), x)


def _leaky_relu_of(layer: _Layer) -> Module:
    return LeakyReLU(layer.number("alpha" if "alpha" in layer.config else "negative_slope", 0.3))


def _prelu(graph: _Graph, layer: _Layer, x: _Value) -> _Value:
    shared = layer.config.get("shared_axes") or []
    if not isinstance(shared, list) or not all(axis in range(1, len(x.shape) + 1) for axis in shared):
        layer.refuse("shared_axes", f"axes from 1 to {len(x.shape)}")
    shape = tuple(1 if axis in shared else n for axis, n in enumerate(x.shape, 1))
    [slope] = graph.weights(layer, alpha=shape)
    return graph.add(layer.name, PReLU(slope), x)


def _softmax(graph: _Graph, layer: _Layer, x: _Value) -> _Value:
    return graph.add(layer.name, _softmax_of(layer, x.shape), x)


def _softmax_of(layer: _Layer, shape: Shape) -> Module:
    layer.last("axis", shape)
    if len(shape) == 3 and shape[2] == 1:
        layer.fail(f"expected several numbers to take the softmax of, found {shape}")
    return SoftMax()


def _flatten(graph: _Graph, layer: _Layer, x: _Value) -> _Value:
    return graph.add(layer.name, Flatten(), x) if len(x.shape) == 3 else x


def _reshape(graph: _Graph, layer: _Layer, x: _Value) -> _Value:
    """Only what changes nothing, or flattens."""
    target = layer.config.get("target_shape")
    if target in ([-1], [math.prod(x.shape)]):
        return _flatten(graph, layer, x)
    if target != list(x.shape):
        layer.refuse("target_shape", f"that of what comes in, {x.shape}, or one number")
    return x


def _unchanged(graph: _Graph, layer: _Layer, x: _Value) -> _Value:
    return x


def _dropout(graph: _Graph, layer: _Layer, x: _Value) -> _Value:
    return graph.add(layer.name, Dropout(layer.number("rate", 0.5)), x)


def _add(graph: _Graph, layer: _Layer, inputs: Sequence[_Value]) -> _Value:
    if len({x.shape for x in inputs}) != 1:
        layer.fail(f"expected inputs of one shape, found {', '.join(str(x.shape) for x in inputs) or 'none'}")
    return graph.join(layer, Sum(), inputs, inputs[0].shape)


def _concatenate(graph: _Graph, layer: _Layer, inputs: Sequence[_Value]) -> _Value:
    if len({x.shape[:-1] for x in inputs}) != 1:
        layer.fail(f"expected inputs that differ in their channels only, found {', '.join(str(x.shape) for x in inputs)}")
    layer.last("axis", inputs[0].shape)
    return graph.join(layer, Concatenation(), inputs, (*inputs[0].shape[:-1], sum(x.shape[-1] for x in inputs)))


Converter = Callable[[_Graph, _Layer, _Value], _Value]
LAYERS: dict[str, Converter] = {
    "InputLayer": _unchanged,
    "Conv2D": _conv,
    "DepthwiseConv2D": _depthwise,
    "SeparableConv2D": _separable,
    "Dense": _dense,
    "MaxPooling2D": _max_pool,
    "AveragePooling2D": _avg_pool,
    "GlobalMaxPooling2D": _global(MaxPool),
    "GlobalAveragePooling2D": _global(AvgPool),
    "BatchNormalization": _batch_norm,
    "Activation": _unchanged,
    "ReLU": _relu,
    "LeakyReLU": _leaky_relu,
    "PReLU": _prelu,
    "Softmax": _softmax,
    "ZeroPadding2D": _zero_padding,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Rescaling": _rescaling,
    "Normalization": _normalization,
    "Dropout": _dropout,
    "SpatialDropout2D": _dropout,
    "GaussianDropout": _dropout,
    "GaussianNoise": _unchanged,  # and so on: nothing, once training is over
    "ActivityRegularization": _unchanged,
    "RandomBrightness": _unchanged,
    "RandomContrast": _unchanged,
    "RandomFlip": _unchanged,
    "RandomRotation": _unchanged,
    "RandomTranslation": _unchanged,
    "RandomZoom": _unchanged,
}
JOINS: dict[str, Callable[[_Graph, _Layer, Sequence[_Value]], _Value]] = {"Add": _add, "Concatenate": _concatenate}

ACTIVATIONS: dict[str, Callable[[], Module]] = {
    "relu": ReLU,
    "relu6": ClippedReLU,
    "leaky_relu": lambda: LeakyReLU(0.2),
    "sigmoid": Sigmoid,
    "tanh": Tanh,
}


def _activation(layer: _Layer, value: Any, shape: Shape) -> Module | None:
    """The activation that a layer brings with it: a name, or a function or layer that is written down as an object."""
    if isinstance(value, Mapping):
        config = value.get("config")
        inner = _layer({**value, "config": config if isinstance(config, Mapping) else {}}, layer.where)
        inner = replace(inner, path=layer.path)
        if inner.kind == "ReLU":
            return _relu_of(inner)
        if inner.kind == "LeakyReLU":
            return _leaky_relu_of(inner)
        if inner.kind == "Softmax":
            return _softmax_of(inner, shape)
        value = config if inner.kind == "function" else value
    if value is None or value == "linear":
        return None
    if value == "softmax":
        return _softmax_of(replace(layer, config={}), shape)
    if not isinstance(value, str) or value not in ACTIVATIONS:
        layer.refuse("activation", f"one of linear, softmax, {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[value]()

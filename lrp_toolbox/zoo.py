"""Well-known networks as tables: their layers, the preprocessing of photographs, and the source of the weights.

An architecture called with weights is a `Model`:

    zoo.squeezenet(weights, classes)      weights: {"conv1.w": (7, 7, 3, 96), "conv1.b": (96), …}, as `shapes` says

Weights are (kernel height, kernel width, in / groups, out) and (in, out), as everywhere in this project. They do not come with
it, except for LeNet-5; `data_scripts/fetch_*.py` downloads them and makes a folder for `load`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from .backend import Array
from .composites import WEIGHTED, layers
from .data import Preprocessing
from .io import Model, ModelFormatError, brief, read_at_most
from .modules import LRN, AvgPool, Concat, Conv, Dropout, Flatten, Linear, MaxPool, Module, ReLU, Sequential
from .modules.base import Shape

Row = tuple[str, type[Module], Any]  # name, kind, and its options; the rows of a container
Table = Sequence[Row]


@dataclass(frozen=True, eq=False)
class Architecture:
    """A network without its weights. In `table`, `outputs` and `kernel` stand for the weights of a layer."""

    name: str
    summary: str
    preprocessing: Preprocessing
    table: Table
    source: str  # of architecture and weights
    licence: str

    @property
    def shapes(self) -> dict[str, Shape]:
        """The shapes of the weights, by their names, in the order of the layers."""
        shapes: dict[str, Shape] = {}

        def weightless(name: str, shape: Shape) -> Array:
            shapes[name] = shape
            return np.broadcast_to(np.float32(0), shape)

        _build(self.table, self.preprocessing.shape, weightless)
        return shapes

    def net(self, weights: Mapping[str, Array]) -> Sequential:
        """The network with these weights. Raises ModelFormatError if one is missing, not needed, or of another shape."""
        left = dict(weights)

        def given(name: str, shape: Shape) -> Array:
            if name not in left:
                raise ModelFormatError(f"{self.name}: {name}: expected weights of shape {shape}, found none")
            array = left.pop(name)
            if tuple(array.shape) != shape:
                raise ModelFormatError(f"{self.name}: {name}: expected shape {shape}, found {tuple(array.shape)}")
            return array

        net = _build(self.table, self.preprocessing.shape, given)
        if left:
            raise ModelFormatError(f"{self.name}: weights that no layer asks for: {', '.join(sorted(left))}")
        return net

    def __call__(self, weights: Mapping[str, Array], classes: Sequence[str]) -> Model:
        """The model with these weights and names of its outputs. Raises ModelFormatError as `net` does."""
        net = self.net(weights)
        outputs = net.output_shape(self.preprocessing.shape)
        if outputs != (len(classes),):
            raise ModelFormatError(f"{self.name}: classes: expected {outputs[0]} names, found {len(classes)}")
        return Model(
            self.name, net, tuple(classes), self.preprocessing, self.summary, self.card(), logits="exclusive"
        )  # all of them were trained with a softmax

    def of(self, net: Module, classes: Sequence[str]) -> Model:
        """The model with the weights of `net`, which was read from elsewhere and has layers of the same names."""
        found = [layer for layer in layers(net, self.preprocessing.shape) if isinstance(layer.module, WEIGHTED)]
        arrays = {f"{layer.name}.{part}": getattr(layer.module, part) for layer in found for part in ("w", "b")}
        return self({name: array for name, array in arrays.items() if array is not None}, classes)

    def card(self) -> str:
        """README.md of the model."""
        rows = {
            **self.preprocessing.facts(),
            "output": "logits, no softmax; the largest is the answer",
            "parameters": f"{sum(int(np.prod(shape)) for shape in self.shapes.values()):,}",
            "source": self.source,
            "licence": self.licence,
        }
        lines = [
            f"# {self.name}",
            "",
            f"{self.summary}.",
            "",
            "| | |",
            "|---|---|",
            *(f"| {k} | {v} |" for k, v in rows.items()),
        ]
        return "\n".join(lines) + "\n"


def _build(table: Table, shape: Shape, weight: Callable[[str, Shape], Array], where: str = "") -> Sequential:
    """The modules that `table` lists, for an x of `shape`; `weight(name, shape)` gives each array."""
    modules: list[tuple[str, Module]] = []
    for name, kind, options in table:
        path = f"{where}{name}"
        module: Module
        if kind is Sequential:
            module = _build(options, shape, weight, f"{path}/")
        elif kind is Concat:
            module = Concat([(branch, _build(rows, shape, weight, f"{path}/{branch}/")) for branch, _, rows in options])
        elif kind in (Conv, Linear):
            rest = {key: value for key, value in options.items() if key not in ("outputs", "kernel")}
            taps = (options["kernel"],) * 2 if kind is Conv else ()
            w = weight(f"{path}.w", (*taps, shape[-1] // rest.get("groups", 1), options["outputs"]))
            module = kind(w, weight(f"{path}.b", (options["outputs"],)), **rest)
        else:
            module = kind(**options)
        shape = module.output_shape(shape)
        modules.append((name, module))
    return Sequential(modules)


# ---- The tables ------------------------------------------------------------------------------------------------------


def _conv(name: str, outputs: int, kernel: int, relu: str, **options: Any) -> list[Row]:
    return [(name, Conv, {"outputs": outputs, "kernel": kernel, **options}), (relu, ReLU, {})]


VGG_BLOCKS = {  # convolutions in each of the five blocks: Simonyan and Zisserman 2015, Table 1, A, B, D and E
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}


def _vgg(name: str) -> list[Row]:
    """With Keras' names."""
    rows: list[Row] = []
    for block, (n, outputs) in enumerate(zip(VGG_BLOCKS[name], (64, 128, 256, 512, 512), strict=True), 1):
        for i in range(1, n + 1):
            rows += _conv(f"block{block}_conv{i}", outputs, 3, f"block{block}_relu{i}", padding=1)
        rows.append((f"block{block}_pool", MaxPool, {"kernel": 2}))
    dense: list[Row] = [("fc1", Linear, {"outputs": 4096}), ("fc1_relu", ReLU, {})]
    dense += [("fc2", Linear, {"outputs": 4096}), ("fc2_relu", ReLU, {}), ("predictions", Linear, {"outputs": 1000})]
    return [*rows, ("flatten", Flatten, {}), *dense]


def _alexnet(pool_first: bool) -> list[Row]:
    """AlexNet in the form of Caffe's model zoo; CaffeNet pools before it normalises."""

    def pool(k: int) -> Row:
        return (f"pool{k}", MaxPool, {"kernel": 3, "stride": 2, "ceil_mode": True})

    def pool_and_norm(k: int) -> list[Row]:
        norm = (f"norm{k}", LRN, {"size": 5, "alpha": 1e-4, "beta": 0.75})
        return [pool(k), norm] if pool_first else [norm, pool(k)]

    def fc(k: int) -> list[Row]:
        return [(f"fc{k}", Linear, {"outputs": 4096}), (f"relu{k}", ReLU, {}), (f"drop{k}", Dropout, {"rate": 0.5})]

    return [
        *_conv("conv1", 96, 11, "relu1", stride=4), *pool_and_norm(1),
        *_conv("conv2", 256, 5, "relu2", padding=2, groups=2), *pool_and_norm(2),
        *_conv("conv3", 384, 3, "relu3", padding=1),
        *_conv("conv4", 384, 3, "relu4", padding=1, groups=2),
        *_conv("conv5", 256, 3, "relu5", padding=1, groups=2), pool(5),
        ("flatten", Flatten, {}), *fc(6), *fc(7), ("fc8", Linear, {"outputs": 1000}),
    ]  # fmt: skip


def _squeezenet() -> list[Row]:
    """Version 1.0. As in its prototxt, `conv_final` is 1×1 with a padding of 1, and a ReLU follows it: the border of the map
    that is averaged at the end is the bias alone, and all scores are ≥ 0."""

    def pool(name: str) -> Row:
        return (name, MaxPool, {"kernel": 3, "stride": 2, "ceil_mode": True})

    def fire(k: int, squeeze: int, expand: int) -> Row:
        branches: list[Row] = [
            ("1x1", Sequential, _conv("conv", expand, 1, "relu")),
            ("3x3", Sequential, _conv("conv", expand, 3, "relu", padding=1)),
        ]
        return (f"fire{k}", Sequential, [*_conv("squeeze", squeeze, 1, "relu"), ("expand", Concat, branches)])

    return [
        *_conv("conv1", 96, 7, "relu_conv1", stride=2), pool("pool1"),
        fire(2, 16, 64), fire(3, 16, 64), fire(4, 32, 128), pool("pool4"),
        fire(5, 32, 128), fire(6, 48, 192), fire(7, 48, 192), fire(8, 64, 256), pool("pool8"),
        fire(9, 64, 256), ("drop9", Dropout, {"rate": 0.5}),
        *_conv("conv_final", 1000, 1, "relu_conv_final", padding=1),
        ("pool_final", AvgPool, {"kernel": None}), ("flatten", Flatten, {}),
    ]  # fmt: skip


_LENET5: list[Row] = [
    *_conv("conv1", 6, 5, "relu1", padding=2), ("pool1", MaxPool, {"kernel": 2}),
    *_conv("conv2", 16, 5, "relu2"), ("pool2", MaxPool, {"kernel": 2}), ("flatten", Flatten, {}),
    ("fc1", Linear, {"outputs": 120}), ("relu3", ReLU, {}),
    ("fc2", Linear, {"outputs": 84}), ("relu4", ReLU, {}), ("fc3", Linear, {"outputs": 10}),
]  # fmt: skip

# Each network subtracted another mean pixel of ImageNet. Photographs are warped, as in the paper.
_VGG_INPUT = Preprocessing((224, 224), "warp", "BGR", (103.939, 116.779, 123.68))
_CAFFE_INPUT = Preprocessing((227, 227), "warp", "BGR", (104.00698793, 116.66876762, 122.67891434))
_SQUEEZENET_INPUT = Preprocessing((227, 227), "warp", "BGR", (104.0, 117.0, 123.0))

_VGG_SOURCE = "Simonyan and Zisserman 2015, weights as converted for Keras (fchollet/deep-learning-models)"
_VGG_LICENCE = "CC BY 4.0, K. Simonyan and A. Zisserman, <https://www.robots.ox.ac.uk/~vgg/research/very_deep/>"
_BVLC_LICENCE = "released for unrestricted use, as its page in Caffe's model zoo says"

vgg16 = Architecture("vgg16", "VGG-16 for the 1000 classes of ImageNet", _VGG_INPUT, _vgg("vgg16"), _VGG_SOURCE, _VGG_LICENCE)
vgg19 = Architecture("vgg19", "VGG-19 for the 1000 classes of ImageNet", _VGG_INPUT, _vgg("vgg19"), _VGG_SOURCE, _VGG_LICENCE)
caffenet = Architecture(
    "caffenet",
    "CaffeNet, the BVLC's variant of AlexNet, for the 1000 classes of ImageNet",
    _CAFFE_INPUT,
    _alexnet(pool_first=True),
    "BVLC/caffe, models/bvlc_reference_caffenet, trained by J. Donahue",
    _BVLC_LICENCE,
)
alexnet = Architecture(
    "alexnet",
    "AlexNet (Krizhevsky et al. 2012) as the BVLC trained it, for the 1000 classes of ImageNet",
    _CAFFE_INPUT,
    _alexnet(pool_first=False),
    "BVLC/caffe, models/bvlc_alexnet, trained by E. Shelhamer",
    _BVLC_LICENCE,
)
squeezenet = Architecture(
    "squeezenet",
    "SqueezeNet v1.0 (Iandola et al. 2016) for the 1000 classes of ImageNet",
    _SQUEEZENET_INPUT,
    _squeezenet(),
    "songhan/SqueezeNet-Deep-Compression: weights pruned, and rounded to 256 values a layer",
    "BSD 2-Clause, as its repository",
)
lenet5 = Architecture(
    "lenet5",
    "LeNet-5 (LeCun et al. 1998) with ReLU and max-pooling, for handwritten digits",
    Preprocessing((28, 28), "crop", "L", std=255.0),
    _LENET5,
    "trained by this project, `data_scripts/train_lenet5.py`",
    "CC BY-SA 3.0, as MNIST",
)

ZOO = {a.name: a for a in (vgg16, vgg19, caffenet, alexnet, squeezenet, lenet5)}


# ---- Labels ----------------------------------------------------------------------------------------------------------

MAX_LABELS = 1 << 24  # bytes; those of ImageNet's thousand classes have 31,675


def class_names(labels: str | PathLike[str] | Sequence[str] | None, outputs: int) -> tuple[str, ...]:
    """The names of the classes, one for each output: `labels`, or those in a file, or numbers if `labels` is None.

    Raises ModelFormatError as `read_labels` does, or if their number differs from `outputs`.
    """
    if labels is None:
        return tuple(map(str, range(outputs)))
    where, names = (labels, read_labels(labels)) if isinstance(labels, (str, PathLike)) else ("labels", tuple(labels))
    if len(names) != outputs:
        raise ModelFormatError(f"{where}: expected {outputs} names, one for each output, found {len(names)}")
    return names


def read_labels(file: str | PathLike[str]) -> tuple[str, ...]:
    """The names of the classes in a file: a line for each, or Keras' `imagenet_class_index.json`.

    A line of Caffe's `synset_words.txt`, "n02123159 tiger cat, tabby", gives "tiger cat". If two classes have the same words,
    the synset follows in brackets. Raises ModelFormatError if the file is empty or not text, or has an empty line.
    """
    path = Path(file)
    content = read_at_most(path, MAX_LABELS)
    try:
        text = content.decode("utf-8-sig").rstrip()
        pairs = _json_labels(json.loads(text)) if path.suffix == ".json" else [_split(line) for line in text.splitlines()]
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ModelFormatError(f"{path}: expected names of classes: {brief(error)}") from error
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ModelFormatError(f'{path}: expected {{"0": ["n01440764", "tench"], …}}: {brief(error)}') from error
    for k, (_, name) in enumerate(pairs):
        if not name:
            raise ModelFormatError(f"{path}: class {k}: expected a name, found none")
    if not pairs:
        raise ModelFormatError(f"{path}: expected a line for each class, found none")
    times = Counter(name for _, name in pairs)
    return tuple(f"{name} ({synset})" if synset and times[name] > 1 else name for synset, name in pairs)


def _split(line: str) -> tuple[str, str]:
    """("n02123159", "tiger cat") from a line of synset_words.txt; ("", line) from any other."""
    first, _, rest = line.strip().partition(" ")
    if len(first) == 9 and first[0] == "n" and first[1:].isdecimal():
        return first, rest.partition(",")[0].strip()
    return "", line.strip()


def _json_labels(index: Any) -> list[tuple[str, str]]:
    pairs = [index[str(k)] for k in range(len(index))]
    return [(str(synset), str(name).replace("_", " ")) for synset, name in pairs]

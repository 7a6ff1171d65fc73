"""From the description to steps: which layer reads what another one makes, from the input to one output."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...io import ModelFormatError
from . import schema
from .files import fail, in_test, listed


@dataclass(frozen=True)
class Source:
    """An input: (samples, channels, height, width), if the description says it, and what a data layer does to it."""

    dims: Sequence[int] | None
    transform: Any = field(default_factory=schema.TransformationParameter)


@dataclass(frozen=True)
class Step:
    """A layer, and the keys of the values that it reads: names of layers, or of inputs."""

    layer: Any
    inputs: tuple[str, ...]


class Graph:
    """Which layer reads what another one makes.

    Several layers may write to one blob, one after the other ("in place"): a layer reads what the last layer before it wrote.
    So a value has a key, the name of the layer that makes it, and `blobs` has the key of the value that a blob holds.
    """

    def __init__(self, net: Any, file: Path):
        self.file, self.name = file, net.name
        self.names = {layer.name for layer in net.layer}  # of both phases
        self.sources: dict[str, Source] = {}
        self.steps: dict[str, Step] = {}
        self.blobs: dict[str, str] = {}
        self.readers: set[str] = set()
        for k, blob in enumerate(net.input):
            dims = net.input_shape[k].dim if k < len(net.input_shape) else net.input_dim[4 * k : 4 * k + 4]
            self._add_source(blob, "input", Source(dims))
        for k, layer in enumerate(filter(in_test, net.layer), 1):
            if not layer.name:
                fail(file, f"layer {k}", "a name", "none")
            if layer.type in _DATA:
                for top, dims in zip(layer.top, _DATA[layer.type](layer), strict=False):
                    self._add_source(top, layer.name, Source(dims, layer.transform_param))
            else:
                self._add(layer)

    def _add_source(self, blob: str, where: str, source: Source) -> None:
        if blob in self.blobs:
            fail(self.file, where, "to make a blob of its own", f"{blob!r}, which is there already")
        self.sources[blob] = source
        self.blobs[blob] = blob

    def _add(self, layer: Any) -> None:
        if layer.type in ("Accuracy", "HDF5Output", "Silence") or layer.type.endswith("Loss"):
            return  # for training and testing, not part of the network
        for blob in layer.bottom:
            if blob not in self.blobs:
                fail(self.file, layer.name, f"a layer before it that makes {blob!r}, which it reads", "none")
        inputs = tuple(self.blobs[blob] for blob in layer.bottom)
        if layer.type == "Split":
            self.blobs.update((top, key) for key in inputs for top in layer.top)
            return
        if layer.name in self.steps:
            fail(self.file, layer.name, "names to be unique", "two layers of that name")
        self.steps[layer.name] = Step(layer, inputs)
        self.readers.update(inputs)
        for k, top in enumerate(layer.top):
            if top in self.blobs and top not in layer.bottom:
                fail(self.file, layer.name, "to make a blob of its own, or what it reads", f"{top!r}, which is there already")
            self.blobs[top] = f"{layer.name}:{k}" if k else layer.name

    def output(self, asked: str | None) -> str:
        """The blob that is explained: the one that is asked for, or the only one that no layer reads."""
        ends = [blob for blob, key in self.blobs.items() if key not in self.readers and key not in self.sources]
        if asked is None and len(ends) != 1:
            problem = f"{self.file}: expected one output, found {len(ends)}, {listed(ends)}"
            raise ModelFormatError(f"{problem}; say which one, output=")
        if asked is not None and asked not in self.blobs:
            raise ModelFormatError(f"output: expected one of {listed(self.blobs)}, found {asked!r}; these are in {self.file}")
        return ends[0] if asked is None else asked

    def leading_to(self, key: str) -> tuple[list[Step], str]:
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
                fail(self.file, reader, "to read the first output of a layer", repr(key))
        sources = [key for key in self.sources if key in found]
        if len(sources) != 1:
            fail(self.file, "output", "to depend on one input", f"{len(sources)}: {listed(sources)}")
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

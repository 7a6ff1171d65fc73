"""Caffe's files: the description of a network as a NetParameter, and its weights as arrays by layer."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from ...backend import Array
from ...io import ModelFormatError, brief, read_at_most, read_npy
from ...modules.base import Shape
from .. import hdf5
from ..draft import MAX_LAYERS
from ..pickles import refuse_pickle
from . import schema


def fail(file: Path, where: str, expected: str, found: str) -> NoReturn:
    raise ModelFormatError(f"{file}: {f'{where}: ' if where else ''}expected {expected}, found {found}")


def listed(names: Iterable[str]) -> str:
    """Names in an error message."""
    first = list(islice(names, 21))
    return ", ".join([*first[:20], "…"] if len(first) > 20 else first)


# ---- The description -------------------------------------------------------------------------------------------------

MAX_LINE = 1 << 14  # bytes; the parser copies the line for every field that it does not know
MAX_TEXT = 1 << 21  # bytes of a description; that of ResNet-152 has some 100,000


def read_description(file: Path) -> Any:
    """The NetParameter in a text file, with its layers in the new form."""
    content, net = read_at_most(file, MAX_TEXT), schema.NetParameter()
    for k, line in enumerate(content.split(b"\n"), 1):
        if len(line) > MAX_LINE:
            fail(
                file,
                f"line {k}",
                f"the description of a network in text, at most {MAX_LINE:,} bytes a line",
                f"{len(line):,}",
            )
    try:
        text_format.Parse(content.decode("utf-8-sig"), net, allow_unknown_field=True)
    except (text_format.ParseError, ValueError, RecursionError, DeprecationWarning) as error:
        # DeprecationWarning: of an invalid escape, if Python turns warnings into errors
        raise ModelFormatError(f"{file}: expected the description of a network in text: {brief(error)}") from error
    if len(net.layers) + len(net.layer) > MAX_LAYERS:
        fail(file, "", f"at most {MAX_LAYERS:,} layers", f"{len(net.layers) + len(net.layer):,}")
    if net.layers and net.layer:
        fail(file, "", "either `layer` or, in the old form, `layers`", "both")
    for old in net.layers:
        if old.HasField("layer"):
            fail(file, old.layer.name, "`layer` or `layers`", "the form of 2013; Caffe's upgrade_net_proto_text rewrites it")
        new = net.layer.add(type=schema.V1_TYPES[name_of(old, "type")][1])
        for known, value in old.ListFields():
            if hasattr(value, "CopyFrom"):
                getattr(new, known.name).CopyFrom(value)
            elif known.name == "name":
                new.name = value
            elif known.name != "type":
                getattr(new, known.name).extend(value)
    if not net.layer:
        fail(file, "", "the description of a network", "no layers")
    return net


def require_finite(file: Path, where: str, message: Any) -> None:
    """Raise ModelFormatError for nan and inf, which a text may have."""
    for f, value in message.ListFields():
        for number in value if isinstance(value, Iterable) else [value]:
            if isinstance(number, float) and not math.isfinite(number):
                fail(file, f"{where}: {f.name}", "a finite number", str(number))


def name_of(message: Any, enum: str) -> str:
    """The name of the value of the field `enum`."""
    name: str = message.DESCRIPTOR.fields_by_name[enum].enum_type.values_by_number[getattr(message, enum)].name
    return name


def in_test(layer: Any) -> bool:
    """Whether the layer is there in the phase TEST, at level 0 and without stages."""

    def holds(rule: Any) -> bool:
        return (
            (not rule.HasField("phase") or name_of(rule, "phase") == "TEST")
            and (not rule.HasField("min_level") or rule.min_level <= 0)
            and (not rule.HasField("max_level") or rule.max_level >= 0)
            and not rule.stage
        )

    return any(map(holds, layer.include)) if layer.include else not any(map(holds, layer.exclude))


# ---- The weights -----------------------------------------------------------------------------------------------------

MAX_FIELDS = 100_000  # of a network: its layers, and little else
MAX_BLOBS = 64  # of a layer
MAX_AXES = 32  # of a blob: Caffe's own limit
MAX_MEAN = 1 << 28  # bytes of a mean picture; that of ImageNet has some 786,000


@dataclass(frozen=True)
class Weights:
    """The arrays of each layer, as the file has them."""

    file: Path
    dtype: np.dtype[Any]
    arrays: dict[str, list[Array]] = field(default_factory=dict)

    def add(self, layer: str, arrays: list[Array]) -> None:
        if layer in self.arrays:
            fail(self.file, layer, "names to be unique", "two layers of that name")
        self.arrays[layer] = arrays

    def require_known(self, names: Collection[str], ignore: Sequence[str], description: Path) -> None:
        for layer in self.arrays:
            if layer not in names and not any(fnmatchcase(layer, pattern) for pattern in ignore):
                where = f"{self.file}: {layer}" if layer else f"{self.file}"
                problem = f"{where}: expected the layers that {description.name} names, found another"
                raise ModelFormatError(f"{problem}; ignore= leaves it out")

    def take(self, layer: str, *shapes: Shape) -> list[Array]:
        """The arrays of a layer in these shapes. A stored shape may have ones in front: old files have four axes."""
        arrays = self.arrays.pop(layer, [])
        if len(arrays) != len(shapes):
            fail(self.file, layer, f"{len(shapes)} arrays of weights", f"{len(arrays) or 'none'}")
        for k, (a, shape) in enumerate(zip(arrays, shapes, strict=True)):
            if _core(a.shape) != _core(shape):
                fail(self.file, f"{layer}: array {k}", f"the shape {shape}", f"{a.shape}")
        return [a.reshape(shape) for a, shape in zip(arrays, shapes, strict=True)]


def _core(shape: Shape) -> Shape:
    """The shape without the ones that it begins with."""
    ones = next((k for k, n in enumerate(shape) if n != 1), len(shape))
    return tuple(shape[ones:])


def read_weights(file: Path, dtype: np.dtype[Any]) -> Weights:
    """The weights in a file, by layer."""
    refuse_pickle(file)
    with file.open("rb") as opened:
        is_hdf5 = opened.read(8) == hdf5.SIGNATURE
    weights = Weights(file, dtype)
    for layer, stored in (_hdf5_layers if is_hdf5 else _protobuf_layers)(file):
        arrays: list[Array] = []
        while stored:
            with np.errstate(over="ignore"):  # too large numbers are refused here
                a = np.asarray(stored.pop(0), dtype)
            if not np.isfinite(a).all():
                fail(file, f"{layer}: array {len(arrays)}", "finite numbers", "NaN or infinity")
            arrays.append(a)
        weights.add(layer, arrays)
    if not weights.arrays:
        fail(file, "", "the weights of a network", "none")
    return weights


def _protobuf_layers(file: Path) -> Iterator[tuple[str, list[Array]]]:
    """(name, arrays) of each layer that has any.

    Layer by layer: one message for the network would need the memory twice and could not have more than 2 GB.
    """
    fields = schema.NetParameter.DESCRIPTOR.fields_by_name
    forms = {fields["layer"].number: schema.LayerParameter, fields["layers"].number: schema.V1LayerParameter}
    for number, content in _fields(file, forms):
        layer = parse(file, "", forms[number](), content)
        del content
        if not isinstance(layer.name, str):
            fail(file, "", "the name of a layer in UTF-8", repr(layer.name))
        if len(layer.blobs) > MAX_BLOBS:
            fail(file, layer.name, f"at most {MAX_BLOBS} arrays of weights", f"{len(layer.blobs):,}")
        name, blobs, arrays = layer.name, list(layer.blobs), []
        del layer  # frees memory early: the first dense layer of VGG-16 has 400 MB
        while blobs:
            arrays.append(as_array(file, name, parse(file, name, schema.BlobProto(), blobs.pop(0))))
        if arrays:
            yield name, arrays


def _fields(file: Path, wanted: Collection[int]) -> Iterator[tuple[int, bytes]]:
    """The fields of these numbers in the message that a file consists of. A length beyond the end of the file is an error."""
    end = file.stat().st_size
    with file.open("rb") as opened:
        for _ in range(MAX_FIELDS):
            if opened.tell() == end:
                return
            tag = _varint(file, opened)
            number, wire_type = tag >> 3, tag & 7
            if number == 0 or wire_type not in (0, 1, 2, 5):
                fail(file, "", "a .caffemodel, that is protobuf, or HDF5", f"the field {number} of wire type {wire_type}")
            value = _varint(file, opened) if wire_type in (0, 2) else 0
            length = {0: 0, 1: 8, 2: value, 5: 4}[wire_type]
            if length > end - opened.tell():
                fail(file, "", f"{length:,} more bytes at byte {opened.tell():,}", f"{end - opened.tell():,}; is it cut off?")
            if wire_type == 2 and number in wanted:
                yield number, opened.read(length)
            else:
                opened.seek(length, os.SEEK_CUR)
    fail(file, "", f"at most {MAX_FIELDS:,} fields", "more")


def _varint(file: Path, opened: BinaryIO) -> int:
    value = 0
    for k in range(10):
        [byte] = opened.read(1) or fail(file, "", "a number", "the end of the file; is it cut off?")
        value |= (byte & 127) << 7 * k
        if byte < 128:
            return value
    fail(file, "", "a .caffemodel, that is protobuf, or HDF5", "a number of more than ten bytes")


def parse(file: Path, where: str, message: Any, content: bytes) -> Any:
    try:
        message.ParseFromString(content)
    except DecodeError:
        fail(file, where, f"a {type(message).__name__}, that is protobuf", f"{len(content):,} bytes that are none")
    return message


def as_array(file: Path, where: str, blob: Any) -> Array:
    """The numbers of a BlobProto in its shape, which is in the new form or in the old one with four axes."""
    if len(blob.shape.dim) > MAX_AXES:
        fail(file, where, f"at most {MAX_AXES} axes", f"{len(blob.shape.dim):,}")
    old = (blob.num, blob.channels, blob.height, blob.width)
    shape = tuple(blob.shape.dim) if blob.HasField("shape") else old
    content, dtype = (blob.double_data, np.dtype("<f8")) if blob.HasField("double_data") else (blob.data, np.dtype("<f4"))
    if min(shape, default=1) < 0 or math.prod(shape) * dtype.itemsize != len(content):
        fail(file, where, f"as many numbers as the shape {shape} says", f"{len(content)} bytes of {dtype.name}")
    return np.frombuffer(content, dtype).reshape(shape)


def _hdf5_layers(file: Path) -> Iterator[tuple[str, list[Array]]]:
    """(name, arrays) of each layer that has any: the datasets data/<name>/0, 1, …"""
    with hdf5.opened(file, f"{file}") as stored:
        if "data" not in stored:
            fail(file, "data", "a group of layers", "none")
        layers: dict[str, list[str]] = {}
        for path in stored.arrays("data"):
            layer, _, number = path.removeprefix("data/").rpartition("/")
            layers.setdefault(layer, []).append(number)
        for layer, numbers in layers.items():
            expected = [str(k) for k in range(len(numbers))]
            if sorted(numbers) != sorted(expected):
                fail(file, layer, f"datasets {listed(expected)}, in this file", listed(sorted(numbers)))
            paths = [f"data/{layer}/{number}" for number in expected]
            yield layer, [stored.array(p, f"{layer}: array {k}", stored.dtype(p)) for k, p in enumerate(paths)]


# ---- Means -----------------------------------------------------------------------------------------------------------


def read_mean(file: Path, channels: int) -> tuple[float, ...]:
    """The mean of each channel, from a .binaryproto or .npy with a picture, or with one number a channel."""
    with file.open("rb") as opened:
        is_npy = opened.read(6) == b"\x93NUMPY"
    if is_npy:
        a = read_npy(file)
    else:
        a = as_array(file, "mean", parse(file, "mean", schema.BlobProto(), read_at_most(file, MAX_MEAN)))
    a = a[0] if a.ndim == 4 and len(a) == 1 else a
    if a.dtype.kind != "f" or a.ndim not in (1, 3) or len(a) != channels or not a.size:
        fail(file, "mean", f"floats of shape ({channels}) or ({channels}, height, width)", f"{a.dtype} of shape {a.shape}")
    with np.errstate(all="ignore"):  # the result is checked here
        values = np.mean(a.reshape(channels, -1), axis=1, dtype=np.float64)
    if not np.isfinite(values).all():
        fail(file, "mean", "finite numbers", "NaN or infinity")
    return tuple(float(v) for v in np.atleast_1d(values))

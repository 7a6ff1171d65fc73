"""An ONNX file, read and checked: its nodes, its constants, its input and its output. Nothing in it is run.

The official `onnx` package parses the file and checks each node against the definition of its operator. What the package
does not check is checked here: sizes, names, and where the file says that its weights are.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np

from ...backend import Array
from ...io import ModelFormatError, brief
from ...modules.base import Shape
from ..draft import MAX_NUMBERS

MAX_BYTES = 1 << 31  # of a file: no protobuf has more
MAX_NODES = 100_000  # constants are nodes, too
MAX_AXES = 16
MAX_SCOPES = 10_000  # letters
SCOPES = "pkg.torch.onnx.name_scopes"
OPSETS = range(7, 29)  # whose operators are known here


def require_onnx() -> Any:
    """The package `onnx`. Raises ImportError, which says how to get it."""
    try:
        import onnx
        import onnx.checker
        import onnx.defs
        import onnx.numpy_helper
    except ImportError as error:
        raise ImportError('a .onnx is read with onnx: pip install "lrp_toolbox[onnx]"') from error
    return onnx


class UnsupportedError(Exception):
    """What a node asks for is something that this toolbox does not have; says what was expected and what was found."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A constant of the file, which is read when it is asked for."""

    where: str
    proto: Any
    folder: Path

    @property
    def shape(self) -> Shape:
        return tuple(self.proto.dims)

    @cached_property
    def array(self) -> Array:
        """The numbers. Raises ModelFormatError if there are more or fewer of them than the shape says."""
        onnx = require_onnx()
        shape, proto = self.shape, self.proto
        if len(shape) > MAX_AXES or any(n < 0 for n in shape) or math.prod(shape) > MAX_NUMBERS:
            raise ModelFormatError(f"{self.where}: expected at most {MAX_NUMBERS:,} numbers, found shape {brief(shape)}")
        if proto.data_location == onnx.TensorProto.EXTERNAL:
            proto = self._with_external()
        if proto.data_type == onnx.TensorProto.STRING:
            raise ModelFormatError(f"{self.where}: expected numbers, found text")
        try:
            a = np.asarray(onnx.numpy_helper.to_array(proto))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, MemoryError) as error:
            raise ModelFormatError(f"{self.where}: not readable as numbers of shape {shape}: {brief(error)}") from error
        if a.shape != shape:
            raise ModelFormatError(f"{self.where}: expected shape {shape}, found {a.shape}")
        return a

    def _with_external(self) -> Any:
        """The same tensor with its numbers, which are in another file of the same folder."""
        onnx = require_onnx()
        entries = {_text(entry.key): _text(entry.value) for entry in self.proto.external_data}
        location = entries.get("location", "")
        file = _inside(self.folder, location, self.where)
        try:
            offset = int(entries.get("offset", "0"))
            size = file.stat().st_size
            length = int(entries.get("length", str(size - offset)))
        except ValueError as error:
            raise ModelFormatError(f"{self.where}: external data: {brief(error)}") from error
        if not (offset >= 0 and length >= 0 and offset + length <= size and length <= 16 * MAX_NUMBERS):
            raise ModelFormatError(f"{self.where}: expected {offset} + {length} bytes within {location}, found {size}")
        with file.open("rb") as opened:
            opened.seek(offset)
            content = opened.read(length)
        return onnx.TensorProto(dims=self.proto.dims, data_type=self.proto.data_type, raw_data=content)


def _inside(folder: Path, location: str, where: str) -> Path:
    """The file `location` of `folder`. Raises ModelFormatError if it is not a file of that folder, or a link."""

    def fail(found: str) -> ModelFormatError:
        return ModelFormatError(f"{where}: expected external data in the folder of the file, found {brief(location)}, {found}")

    parts = PurePosixPath(location).parts
    if not parts or "\0" in location or "\\" in location:
        raise fail("which is no name of a file")
    if PurePosixPath(location).is_absolute() or PureWindowsPath(location).drive or ".." in parts:
        raise fail("which leads out of it")
    path = folder
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise fail("which is a link; copy the file to where the link is")
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        raise fail("which is not there") from None
    if not stat.S_ISREG(mode):
        raise fail("which is no file")
    return path


@dataclass(frozen=True, eq=False)
class OnnxNode:
    """A node: an operator, its attributes, and the names of what it reads and makes."""

    op: str  # with its domain, if that is not ONNX's own
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    proto: Any = field(repr=False)
    module: str | None = None  # PyTorch's path of the module that the node is of, where its exporter wrote that down

    @property
    def label(self) -> str:
        """How messages call it."""
        return f"{brief(self.name or ', '.join(self.outputs))} ({self.op})"


@dataclass(frozen=True, eq=False)
class OnnxFile:
    where: str
    opset: int
    producer: str
    inputs: Mapping[str, tuple[int | None, ...] | None]  # names and shapes; None where the file leaves a size open
    whole: frozenset[str]  # inputs of whole numbers
    outputs: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    nodes: tuple[OnnxNode, ...]
    checker: Any = field(repr=False, default=None)

    def check(self, node: OnnxNode) -> None:
        """Raise UnsupportedError if the node is not as ONNX defines its operator."""
        onnx = require_onnx()
        try:
            onnx.checker.check_node(node.proto, self.checker)
        except onnx.checker.ValidationError as error:
            raise UnsupportedError(brief(" ".join(str(error).split()))) from error


def read_file(path: Path) -> OnnxFile:
    """What is in the file. Raises FileNotFoundError if there is none, ModelFormatError if it is not what it should be."""
    if path.is_dir():
        raise ModelFormatError(f"{path}: expected a file, found a folder")
    with path.open("rb") as opened:
        if (size := os.fstat(opened.fileno()).st_size) > MAX_BYTES:
            raise ModelFormatError(f"{path}: expected at most {MAX_BYTES:,} bytes, found {size:,}")
        content = opened.read(size)
    return parse(content, f"{path}", path.parent)


def parse(content: bytes, where: str, folder: Path) -> OnnxFile:
    """The same from the bytes of a file; `folder` is where its external data are."""
    onnx = require_onnx()
    from google.protobuf.message import DecodeError

    try:
        model = onnx.ModelProto.FromString(content)
    except (DecodeError, RecursionError, ValueError, MemoryError) as error:
        raise ModelFormatError(f"{where}: not a readable .onnx: {brief(error)}") from error
    graph = model.graph
    opsets = {_text(entry.domain): entry.version for entry in model.opset_import}
    opset = opsets.get("", opsets.get("ai.onnx", 1 if model.ir_version < 3 else None))
    if not model.ir_version <= onnx.IR_VERSION:
        raise ModelFormatError(f"{where}: expected a version of the format up to {onnx.IR_VERSION}, found {model.ir_version}")
    if not graph.node and not graph.output:
        raise ModelFormatError(f"{where}: expected an ONNX model, found no node and no output in it")
    if opset is None or opset not in OPSETS:
        raise ModelFormatError(f"{where}: expected an opset from {OPSETS[0]} to {OPSETS[-1]}, found {opset}")
    if model.functions:
        found = brief([_text(f.name) for f in model.functions[:3]])
        raise ModelFormatError(
            f"{where}: expected operators of ONNX only, found functions of the file's own, {found}; "
            "onnx.inliner.inline_local_functions puts what they do in their place"
        )
    if len(graph.node) > MAX_NODES:
        raise ModelFormatError(f"{where}: expected at most {MAX_NODES:,} nodes, found {len(graph.node):,}")
    if graph.sparse_initializer:
        raise ModelFormatError(f"{where}: expected constants with all their numbers, found sparse ones")
    tensors: dict[str, Tensor] = {}
    for tensor in graph.initializer:
        name = _text(tensor.name)
        if not name or name in tensors:
            raise ModelFormatError(f"{where}: expected constants with names of their own, found {brief(name)}")
        tensors[name] = Tensor(f"{where}: {brief(name)}", tensor, folder)
    inputs = {name: _declared(value) for value in graph.input if (name := _text(value.name)) not in tensors}
    floats = {onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16}
    whole = frozenset(_text(v.name) for v in graph.input if v.type.tensor_type.elem_type not in floats).intersection(inputs)
    checker = onnx.checker.C.CheckerContext()
    checker.ir_version, checker.opset_imports = max(model.ir_version, 3), {"": opset}
    nodes = tuple(_node(proto, where, folder) for proto in graph.node)
    producer = " ".join(f"{_text(model.producer_name)} {_text(model.producer_version)}".split())
    outputs = tuple(_text(value.name) for value in graph.output)
    return OnnxFile(where, opset, producer, inputs, whole, outputs, tensors, nodes, checker)


def _text(found: str | bytes) -> str:
    """A name. What is no UTF-8 comes as bytes."""
    return found if isinstance(found, str) else found.decode("utf-8", "backslashreplace")


def _declared(value: Any) -> tuple[int | None, ...] | None:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return None
    return tuple(d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim)


def _node(proto: Any, where: str, folder: Path) -> OnnxNode:
    onnx = require_onnx()
    domain, op, name = _text(proto.domain), _text(proto.op_type), _text(proto.name)
    attributes = {}
    for a in proto.attribute:
        key = _text(a.name)
        here = f"{where}: {brief(name or op)}: {brief(key)}"
        if key in attributes:
            raise ModelFormatError(f"{here}: expected attributes that occur once, found two")
        if a.ref_attr_name:
            raise ModelFormatError(f"{here}: expected a value, found a reference to {brief(_text(a.ref_attr_name))}")
        match a.type:
            case onnx.AttributeProto.FLOAT:
                value: Any = float(str(np.float32(a.f)))  # the decimal that was meant: 0.001, and not 0.0010000000474974513
            case onnx.AttributeProto.INT:
                value = a.i
            case onnx.AttributeProto.STRING:
                value = a.s.decode("utf-8", "replace")
            case onnx.AttributeProto.TENSOR:
                value = Tensor(here, a.t, folder)
            case onnx.AttributeProto.FLOATS:
                value = tuple(a.floats)
            case onnx.AttributeProto.INTS:
                value = tuple(a.ints)
            case onnx.AttributeProto.STRINGS:
                value = tuple(s.decode("utf-8", "replace") for s in a.strings)
            case _:  # graphs (control flow), sparse tensors, types: no operator here has them
                value = None
        attributes[key] = value
    inputs, outputs = (tuple(map(_text, names)) for names in (proto.input, proto.output))
    op = op if domain in ("", "ai.onnx") else f"{domain}.{op}"
    return OnnxNode(op, name, inputs, outputs, attributes, proto, _module(proto))


def _module(proto: Any) -> str | None:
    """ "layer1.0.conv1" for ['', 'layer1', 'layer1.0', 'layer1.0.conv1', 'conv2d'], which PyTorch writes beside a node."""
    for entry in proto.metadata_props:
        if _text(entry.key) == SCOPES and len(value := _text(entry.value)) <= MAX_SCOPES:
            scopes = re.findall(r"'([^']*)'", value)
            return scopes[-2] if len(scopes) > 1 else None
    return None

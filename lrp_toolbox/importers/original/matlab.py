"""The .mat files of the original LRP Toolbox: objects of its Matlab classes, as `save` writes them (up to version 7).

A file is a list of elements: a tag, which says kind and length, and its data. Numbers, cells and structs are documented in
"MAT-File Format" (MathWorks). Objects are not. What is known of them is from those who took files apart (Bauman's "Decoding
MCOS", Luzgarev's MatFileHandler, foreverallama's mat-io): a variable refers to objects by number, and a variable without a name
holds the "subsystem", a file in the file, with all objects. No code of a file is run.

subsystem     struct with the field MCOS: an opaque FileWrapper__ with a cell. [0] is the table below, [2:] the values of
              properties, [-1] for each class a struct of the values that are its default
table         int32: version, number of names, then where each of 8 regions ends or begins; the names, each with a 0 behind it;
              classes (namespace, name, 0, 0); …; objects (class, 0, 0, one of …, block, number); blocks of properties: their
              count, then (name, kind, value) each, filled up to 8 bytes
references    uint32: 0xDD000000, the number of axes, the sizes, the objects, their class
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ...backend import Array
from ...io import ModelFormatError, as_numbers, brief, read_at_most
from ..draft import MAX_LAYERS
from .layers import SIZES, Layer, require_sizes

MAX_BYTES = 1 << 29  # of a file, and of what is in it without compression
MAX_DEPTH = 16  # of cells in cells
REFERENCE = 0xDD000000
NUMBERS = {1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4", 7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"}
TEXTS = {1: "latin-1", 2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"}
MATRIX, COMPRESSED = 14, 15
CELL, STRUCT, CHAR, OPAQUE = 1, 2, 4, 17


class _BrokenError(ValueError):
    """A file that does not keep to the format."""


@dataclass(frozen=True, eq=False)
class _Opaque:
    """An object, or what refers to objects."""

    kind: str
    content: Any


def read_layers(path: Path, dtype: np.dtype[Any]) -> list[Layer]:
    """The layers in a file, their weights in `dtype`. Raises ModelFormatError if it is not what it should be."""
    data = read_at_most(path, MAX_BYTES)
    try:
        objects = _objects(data)
        return _layers(path, objects, dtype)
    except (_BrokenError, struct.error, zlib.error) as error:
        raise ModelFormatError(f"{path}: not a readable .mat of the original LRP Toolbox: {brief(error)}") from error


# ---- Layers ----------------------------------------------------------------------------------------------------------


def _layers(path: Path, objects: _Objects, dtype: np.dtype[Any]) -> list[Layer]:
    kind, properties = objects.get(objects.root)
    cells = properties.get("modules")
    if kind != "Sequential" or not isinstance(cells, list):
        raise _BrokenError(f"expected an object Sequential with a cell of modules, found {brief(kind)}")
    if len(cells) > MAX_LAYERS:
        raise _BrokenError(f"expected at most {MAX_LAYERS:,} layers, found {len(cells):,}")
    layers = []
    for k, cell in enumerate(cells, start=1):
        kind, own = objects.get(cell)
        where = f"layer {k}, {brief(kind)}"
        try:
            layers.append(_layer(f"{path}: {where}", where, kind, own, dtype))
        except _BrokenError as error:
            raise _BrokenError(f"{where}: {error}") from error
        except ModelFormatError:
            raise
        except ValueError as error:
            raise ModelFormatError(f"{path}: {where}: {error}") from error
    return layers


def _layer(full: str, where: str, kind: str, own: Mapping[str, Any], dtype: np.dtype[Any]) -> Layer:
    if kind == "Linear":
        shape = require_sizes(kind, _whole(own.get("W"), sizes=True))
        return Layer(kind, where, w=_weights(full, own, "W", shape, dtype), b=_weights(full, own, "B", shape[-1:], dtype))
    if kind == "Convolution":
        sizes = require_sizes(kind, [*_whole(own.get("filtersize")), *_whole(own.get("stride"))])
        w, b = _weights(full, own, "W", sizes[:4], dtype), _weights(full, own, "B", sizes[3:4], dtype)
        return Layer(kind, where, sizes[:2], sizes[4:], w, b)
    sizes = require_sizes(kind, [*_whole(own.get("pool")), *_whole(own.get("stride"))] if SIZES.get(kind) else [])
    return Layer(kind, where, sizes[:2], sizes[2:])


def _whole(a: Any, *, sizes: bool = False) -> list[Any]:
    """The numbers of a small array as ints, where they are whole; with `sizes`, the sizes of an array."""
    if not isinstance(a, np.ndarray):
        return [a]
    if sizes:
        return list(a.shape)
    return [int(n) if float(n).is_integer() else float(n) for n in a.reshape(-1, order="F")[:9]]


def _weights(full: str, own: Mapping[str, Any], name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A property in this shape. Matlab counts the first axis fastest and drops last axes of size 1."""
    a = own.get(name)
    if not isinstance(a, np.ndarray) or a.size != math.prod(shape):
        found = f"shape {a.shape}" if isinstance(a, np.ndarray) else brief(a)
        raise ModelFormatError(f"{full}: {name}: expected {' × '.join(map(str, shape))} numbers, found {found}")
    whole = a if a.dtype.kind == "f" else a.astype(np.float64)  # Matlab stores whole numbers in fewer bytes
    return np.ascontiguousarray(as_numbers(whole.reshape(shape, order="F"), f"{full}: {name}", dtype))


# ---- Objects ---------------------------------------------------------------------------------------------------------


class _Objects:
    """The objects of a file, by what refers to them."""

    def __init__(self, root: Any, cells: list[Any]):
        self.root = root.content if isinstance(root, _Opaque) else root
        table = cells[0] if cells else None
        if not isinstance(table, np.ndarray) or table.dtype != np.uint8 or table.size < 40:
            raise _BrokenError("expected a table of objects, found none")
        data = table.tobytes(order="F")
        version, count, *ends = struct.unpack_from("<10i", data)
        if not 2 <= version <= 4:
            raise _BrokenError(f"expected a table of objects of version 2 to 4, found {version}")
        if not 40 <= ends[0] <= ends[1] <= ends[2] <= ends[3] <= ends[4] <= len(data):
            raise _BrokenError(f"expected regions of {len(data)} bytes, found {brief(ends)}")
        self.names = [name.decode("latin-1") for name in data[40 : ends[0]].split(b"\0")[:count]]
        self.classes, _, self.objects, blocks = (
            np.frombuffer(data, "<i4", (end - start) // 4, start) for start, end in pairwise(ends[:5])
        )
        self.blocks = list(_in_blocks(blocks))
        self.values = cells[2:]
        self.defaults = cells[-1]

    def get(self, reference: Any) -> tuple[str, dict[str, Any]]:
        """The class, without its package, and the properties of the one object that `reference` refers to."""
        found = isinstance(reference, np.ndarray) and reference.dtype == np.dtype("<u4") and reference.size == 6
        words = reference.reshape(-1).tolist() if found else []
        if words[:4] != [REFERENCE, 2, 1, 1]:
            raise _BrokenError(f"expected an object, found {brief(reference)}")
        row = self.objects[6 * words[4] : 6 * words[4] + 6].tolist()
        if len(row) != 6 or not 0 <= row[4] < len(self.blocks):
            raise _BrokenError(f"expected one of {len(self.objects) // 6} objects, found number {words[4]}")
        properties = self._defaults(row[0])
        for name, kind, value in self.blocks[row[4]]:
            if kind != 1 or not 0 <= value < len(self.values):
                continue  # a logical value or an enumeration: no layer has one
            properties[self._name(name)] = self.values[value]
        names = self.classes[4 * row[0] : 4 * row[0] + 4].tolist() if row[0] >= 0 else []
        return self._name(names[1] if len(names) == 4 else 0), properties

    def _defaults(self, number: int) -> dict[str, Any]:
        of_class = self.defaults[number] if isinstance(self.defaults, list) and 0 <= number < len(self.defaults) else None
        return dict(of_class) if isinstance(of_class, dict) else {}

    def _name(self, number: int) -> str:
        if not 1 <= number <= len(self.names):
            raise _BrokenError(f"expected one of {len(self.names)} names, found number {number}")
        return self.names[number - 1]


def _in_blocks(numbers: Array) -> Iterator[list[tuple[int, int, int]]]:
    """Blocks of (name, kind, value); each begins with their count and has an even number of int32."""
    at = 0
    while at < len(numbers):
        count = int(numbers[at])
        end = at + 1 + 3 * count
        if count < 0 or end > len(numbers):
            raise _BrokenError(f"expected a block of properties, found {count} of them in {len(numbers) - at} numbers")
        yield [(int(a), int(b), int(c)) for a, b, c in numbers[at + 1 : end].reshape(-1, 3)]
        at = end + end % 2


def _objects(data: bytes) -> _Objects:
    if data[:8] == b"\x89HDF\r\n\x1a\n" or (data[:6] == b"MATLAB" and data[124:126] == b"\x00\x02"):
        raise _BrokenError("expected version 5, 6 or 7, found 7.3; Matlab writes version 7 with save(path, 'model', '-v7')")
    if len(data) < 128 or data[124:128] != b"\x00\x01IM":
        raise _BrokenError("expected the head of a .mat of version 5 to 7, little-endian, found another")
    variables = dict(_variables(memoryview(data)[128:]))
    named = [value for name, value in variables.items() if name and isinstance(value, _Opaque)]
    subsystem = variables.get("")
    if len(named) != 1 or not isinstance(subsystem, np.ndarray) or subsystem.dtype != np.uint8:
        raise _BrokenError(f"expected one object, the model, found the variables {brief(sorted(variables))}")
    inner = subsystem.tobytes(order="F")
    if inner[:4] != b"\x00\x01IM":
        raise _BrokenError(f"expected a subsystem, little-endian, found {brief(inner[:4])}")
    fields = next((value for _, value in _variables(memoryview(inner)[8:]) if isinstance(value, dict)), {})
    wrapper = fields.get("MCOS")
    if not isinstance(wrapper, _Opaque) or wrapper.kind != "FileWrapper__" or not isinstance(wrapper.content, list):
        raise _BrokenError(f"expected objects in a FileWrapper__, found {brief(wrapper)}")
    return _Objects(named[0], wrapper.content)


# ---- Elements --------------------------------------------------------------------------------------------------------


def _variables(data: memoryview) -> Iterator[tuple[str, Any]]:
    """The names and values of the variables."""
    left = MAX_BYTES
    while len(data) >= 8:
        kind, size = struct.unpack_from("<2I", data)
        if size > len(data) - 8:
            raise _BrokenError(f"expected {size:,} bytes, found {len(data) - 8:,}: cut off")
        element, data = data[: 8 + size], data[8 + size :]
        if kind == COMPRESSED:
            engine = zlib.decompressobj()
            plain = engine.decompress(element[8:], left + 1)
            left -= len(plain)
            if left < 0:
                raise _BrokenError(f"expected at most {MAX_BYTES:,} bytes without compression, found more")
            element = memoryview(plain)
        kind, body, _ = _element(element)
        if kind != MATRIX:
            raise _BrokenError(f"expected a variable, found an element of kind {kind}")
        yield _matrix(body, 0)


def _element(data: memoryview) -> tuple[int, memoryview, memoryview]:
    """The kind and data of the first element, and what is behind it."""
    if len(data) < 8:
        raise _BrokenError(f"expected an element, found {len(data)} bytes")
    kind, size = struct.unpack_from("<2I", data)
    if kind >> 16:  # a small one, whose data are in its tag
        kind, size, start = kind & 0xFFFF, kind >> 16, 4
    else:
        start = 8
    if size > (4 if start == 4 else len(data) - 8):
        raise _BrokenError(f"expected {size:,} bytes, found {len(data) - 8:,}: cut off")
    behind = 8 if start == 4 else min(len(data), 8 + -(-size // 8) * 8)
    return kind, data[start : start + size], data[behind:]


def _numbers(data: memoryview) -> tuple[Array, memoryview]:
    kind, body, behind = _element(data)
    if kind not in NUMBERS:
        raise _BrokenError(f"expected numbers, found an element of kind {kind}")
    dtype = np.dtype(NUMBERS[kind])
    return np.frombuffer(body[: len(body) // dtype.itemsize * dtype.itemsize], dtype), behind


def _text(data: memoryview) -> tuple[str, memoryview]:
    kind, body, behind = _element(data)
    if kind not in TEXTS:
        raise _BrokenError(f"expected text, found an element of kind {kind}")
    return bytes(body).decode(TEXTS[kind], "replace"), behind


def _matrix(data: memoryview, depth: int) -> tuple[str, Any]:
    """Name and value of an array: numbers as an array, a cell as a list, a struct as a dict, text as str; None for the rest."""
    if depth > MAX_DEPTH:
        raise _BrokenError(f"expected at most {MAX_DEPTH} cells in cells, found more")
    if not len(data):
        return "", np.empty((0, 0))
    flags, data = _numbers(data)
    if not len(flags):
        raise _BrokenError("expected the flags of an array, found none")
    kind, is_complex = int(flags[0]) & 0xFF, bool(int(flags[0]) & 0x800)
    if kind == OPAQUE:
        name, data = _text(data)
        _, data = _text(data)
        of, data = _text(data)
        return name, _Opaque(of, _inside(data, depth)[0])
    shape_numbers, data = _numbers(data)
    name, data = _text(data)
    shape = tuple(int(n) for n in shape_numbers)
    if not 2 <= len(shape) <= 32 or min(shape) < 0:
        raise _BrokenError(f"expected the sizes of an array, found {brief(shape)}")
    count = math.prod(shape)
    if kind == CELL:
        return name, list(_each(data, count, depth))
    if kind == STRUCT:
        length, data = _numbers(data)
        fields, data = _text(data)
        width = int(length[0]) if len(length) else 0
        if width < 1:
            raise _BrokenError("expected the names of fields, found none")
        names = [fields[at : at + width].partition("\0")[0] for at in range(0, len(fields), width)]
        values = list(_each(data, count * len(names), depth))
        return name, dict(zip(names, values, strict=True)) if count == 1 else None
    if kind == CHAR:
        return name, _text(data)[0]
    if not 6 <= kind <= 15:
        return name, None
    numbers, _ = _numbers(data)
    if len(numbers) != count or is_complex:
        raise _BrokenError(f"expected {count:,} real numbers, found {len(numbers):,}")
    numbers = numbers.astype(WIDE[kind]) if kind in WIDE and numbers.dtype != WIDE[kind] else numbers
    return name, numbers.reshape(shape, order="F")


WIDE = {9: np.dtype("u1"), 13: np.dtype("<u4")}  # kinds of which the bytes matter; others stay as they are stored


def _inside(data: memoryview, depth: int) -> tuple[Any, memoryview]:
    kind, body, behind = _element(data)
    if kind != MATRIX:
        raise _BrokenError(f"expected an array, found an element of kind {kind}")
    return _matrix(body, depth + 1)[1], behind


def _each(data: memoryview, count: int, depth: int) -> Iterator[Any]:
    if count > len(data) // 8:
        raise _BrokenError(f"expected {count:,} arrays, found {len(data):,} bytes")
    for _ in range(count):
        value, data = _inside(data, depth)
        yield value

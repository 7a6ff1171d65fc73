"""The .mat files of the original LRP Toolbox: objects of its Matlab classes, as `save` writes them (up to version 7).

`lrp_toolbox.mat` reads the arrays. Objects are not documented. What is known of them is from those who took files apart
(Bauman's "Decoding MCOS", Luzgarev's MatFileHandler, foreverallama's mat-io): a variable refers to objects by number, and a
variable without a name holds the "subsystem", a file in the file, with all objects. No code of a file is run.

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
from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ...backend import Array
from ...io import ModelFormatError, as_numbers, brief, read_at_most
from ...mat import MatError, Other, described, read_mat, read_subsystem
from ..draft import MAX_LAYERS
from .layers import SIZES, Layer, require_sizes

MAX_BYTES = 1 << 29  # of a file, and of memory that its arrays may take beside
REFERENCE = 0xDD000000


def read_layers(path: Path, dtype: np.dtype[Any]) -> list[Layer]:
    """The layers in a file, their weights in `dtype`. Raises ModelFormatError if it is not what it should be."""
    data = read_at_most(path, MAX_BYTES)
    try:
        objects = _objects(data)
        return _layers(path, objects, dtype)
    except MatError as error:
        raise ModelFormatError(f"{path}: not a readable .mat of the original LRP Toolbox: {brief(error)}") from error


# ---- Layers ----------------------------------------------------------------------------------------------------------


def _layers(path: Path, objects: _Objects, dtype: np.dtype[Any]) -> list[Layer]:
    kind, properties = objects.get(objects.root)
    cells = properties.get("modules")
    if kind != "Sequential" or not isinstance(cells, list):
        raise MatError(f"expected an object Sequential with a cell of modules, found {brief(kind)}")
    if len(cells) > MAX_LAYERS:
        raise MatError(f"expected at most {MAX_LAYERS:,} layers, found {len(cells):,}")
    layers = []
    for k, cell in enumerate(cells, start=1):
        kind, own = objects.get(cell)
        where = f"layer {k}, {brief(kind)}"
        try:
            layers.append(_layer(f"{path}: {where}", where, kind, own, dtype))
        except MatError as error:
            raise MatError(f"{where}: {error}") from error
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
        return [described(a)]
    if sizes:
        return list(a.shape)
    return [int(n) if float(n).is_integer() else float(n) for n in a.reshape(-1, order="F")[:9]]


def _weights(full: str, own: Mapping[str, Any], name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """A property in this shape. Matlab counts the first axis fastest and drops last axes of size 1."""
    a = own.get(name)
    if not isinstance(a, np.ndarray) or a.size != math.prod(shape):
        raise ModelFormatError(f"{full}: {name}: expected {' × '.join(map(str, shape))} numbers, found {described(a)}")
    whole = a if a.dtype.kind == "f" else a.astype(np.float64)  # of a class of whole numbers
    return np.ascontiguousarray(as_numbers(whole.reshape(shape, order="F"), f"{full}: {name}", dtype))


# ---- Objects ---------------------------------------------------------------------------------------------------------


class _Objects:
    """The objects of a file, by what refers to them."""

    def __init__(self, root: Other, cells: list[Any]):
        self.root = root.content
        table = cells[0] if cells else None
        if not isinstance(table, np.ndarray) or table.dtype != np.uint8 or table.size < 40:
            raise MatError("expected a table of objects, found none")
        data = table.tobytes(order="F")
        version, count, *ends = struct.unpack_from("<10i", data)
        if not 2 <= version <= 4:
            raise MatError(f"expected a table of objects of version 2 to 4, found {version}")
        if not 40 <= ends[0] <= ends[1] <= ends[2] <= ends[3] <= ends[4] <= len(data):
            raise MatError(f"expected regions of {len(data)} bytes, found {brief(ends)}")
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
            raise MatError(f"expected an object, found {described(reference)}")
        row = self.objects[6 * words[4] : 6 * words[4] + 6].tolist()
        if len(row) != 6 or not 0 <= row[4] < len(self.blocks):
            raise MatError(f"expected one of {len(self.objects) // 6} objects, found number {words[4]}")
        properties = self._defaults(row[0])
        for name, kind, value in self.blocks[row[4]]:
            if kind != 1 or not 0 <= value < len(self.values):
                continue  # a logical value or an enumeration: no layer has one
            properties[self._name(name)] = self.values[value]
        names = self.classes[4 * row[0] : 4 * row[0] + 4].tolist() if row[0] >= 0 else []
        return self._name(names[1] if len(names) == 4 else 0), properties

    def _defaults(self, number: int) -> dict[str, Any]:
        of_class = self.defaults[number] if isinstance(self.defaults, list) and 0 <= number < len(self.defaults) else None
        return dict(_fields(of_class))

    def _name(self, number: int) -> str:
        if not 1 <= number <= len(self.names):
            raise MatError(f"expected one of {len(self.names)} names, found number {number}")
        return self.names[number - 1]


def _fields(value: Any) -> dict[str, Any]:
    """The fields of a struct of one element; none of what is no such struct."""
    is_one = isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict)
    return value[0] if is_one else {}


def _in_blocks(numbers: Array) -> Iterator[list[tuple[int, int, int]]]:
    """Blocks of (name, kind, value); each begins with their count and has an even number of int32."""
    at = 0
    while at < len(numbers):
        count = int(numbers[at])
        end = at + 1 + 3 * count
        if count < 0 or end > len(numbers):
            raise MatError(f"expected a block of properties, found {count} of them in {len(numbers) - at} numbers")
        yield [(int(a), int(b), int(c)) for a, b, c in numbers[at + 1 : end].reshape(-1, 3)]
        at = end + end % 2


def _objects(data: bytes) -> _Objects:
    if data[:8] == b"\x89HDF\r\n\x1a\n" or (data[:6] == b"MATLAB" and data[124:126] == b"\x00\x02"):
        raise MatError("expected version 5, 6 or 7, found 7.3; Matlab writes version 7 with save(path, 'model', '-v7')")
    if len(data) < 128 or data[124:128] != b"\x00\x01IM":
        raise MatError("expected the head of a .mat of version 5 to 7, little-endian, found another")
    variables = dict(read_mat(data, MAX_BYTES))
    named = [value for name, value in variables.items() if name and isinstance(value, Other) and value.content is not None]
    subsystem = variables.get("")
    if len(named) != 1 or not isinstance(subsystem, np.ndarray) or subsystem.dtype != np.uint8:
        raise MatError(f"expected one object, the model, found the variables {brief(sorted(variables))}")
    structs = (_fields(value) for _, value in read_subsystem(subsystem.tobytes(order="F"), MAX_BYTES))
    wrapper = next(filter(None, structs), {}).get("MCOS")
    if not isinstance(wrapper, Other) or wrapper.kind != "FileWrapper__" or not isinstance(wrapper.content, list):
        raise MatError(f"expected objects in a FileWrapper__, found {described(wrapper)}")
    return _Objects(named[0], wrapper.content)

"""MATLAB's .mat files, version 5 to 7, that are not trusted. SciPy's reader crashes over broken ones, and Python with it.

A file is a head of 128 bytes and elements: a kind and a size, 4 bytes each, and the data, padded to 8 bytes. Data of up to 4
bytes stand in the place of the size, which then is the upper half of the kind. An element may be compressed with zlib. An array
is an element of elements: flags, sizes, name, and what is in it (MathWorks, "MAT-File Format"). Objects are not documented: an
array of class 17 has a name, a system, a class and an array, and a variable without a name, the "subsystem", is a file in the
file, with a head of 8 bytes, that holds what the objects consist of.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from .backend import Array

MAX_DEPTH = 16  # of arrays in cells and structures
OVERHEAD = 256  # bytes of memory of each array in a cell or a structure, beside its numbers
MATRIX, COMPRESSED = 14, 15
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # by kind of element
TEXTS = {1: "latin-1", 2: "latin-1", 3: "utf-16", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}  # of arrays
CELL, STRUCTURE, TEXT, OBJECT = 1, 2, 4, 17
COMPLEX = 0x800  # a flag
ORDERS = {b"IM": "<", b"MI": ">"}
EMPTY = np.zeros((0, 0))
EMPTY.flags.writeable = False  # it stands in many places


class MatError(ValueError):
    """A file that is not what it should be: "expected …, found …". Who reads it names the file."""


@dataclass(frozen=True, eq=False)
class Other:
    """What is not numbers, text, cells or structures: an object, or what refers to objects, with its content; or what is
    not read, with none."""

    kind: str  # the name of its class, or what it is
    content: Any = None


def read_mat(content: bytes, most: int) -> list[tuple[str, Any]]:
    """The names and values of the variables in a file, which may take `most` bytes of memory beside `content`.

    Numbers are an array of the type of their class, also where they are stored in fewer bytes; logical ones are uint8. Text is
    a str, cells are a list, and structures a list of dictionaries, both in the order of MATLAB, the first axis first. All
    else is an `Other`: objects, complex numbers, sparse arrays, functions, text of several rows.

    Raises MatError if the file does not keep to the format.
    """
    if content[126:128] not in ORDERS or content[124:126] in (b"\0\2", b"\2\0"):
        raise MatError("expected a .mat of version 5 to 7, found another file, or one of version 7.3")
    return _Reader(ORDERS[content[126:128]], most).variables(memoryview(content)[128:])


def read_subsystem(content: bytes, most: int) -> list[tuple[str, Any]]:
    """What `read_mat` gives, of the file in a file that holds the objects."""
    if content[2:4] not in ORDERS:
        raise MatError(f"expected a subsystem, found {content[:4]!r}")
    return _Reader(ORDERS[content[2:4]], most).variables(memoryview(content)[8:])


def described(value: Any) -> str:
    """What a value is, in an error message, however large it is."""
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}, {value.dtype}"
    if isinstance(value, list):
        return f"{'a structure' if value and isinstance(value[0], dict) else 'a cell'} of {len(value):,}"
    return value.kind[:100] if isinstance(value, Other) else repr(value[:100] if isinstance(value, str) else value)


class _Reader:
    def __init__(self, order: str, most: int):
        self.order, self.most, self.left = order, most, most

    def fail(self, what: str) -> NoReturn:
        raise MatError(f"expected {what}")

    def take(self, size: int) -> None:
        """Count so many bytes of memory."""
        self.left -= size
        if self.left < 0:
            self.fail(f"arrays of at most {self.most:,} bytes, found more")

    def variables(self, content: memoryview) -> list[tuple[str, Any]]:
        found = []
        for kind, data in self.elements(content):
            for of, array in self.inflated(data) if kind == COMPRESSED else [(kind, data)]:
                if of != MATRIX:
                    self.fail(f"an array, found an element of kind {of}")
                self.take(OVERHEAD)
                found.append(self.array(array))
        return found

    def elements(self, content: memoryview) -> Iterator[tuple[int, memoryview]]:
        """(kind, data) of each element."""
        at = 0
        while at < len(content):
            if at + 8 > len(content):
                self.fail(f"an element, found {len(content) - at} bytes: cut off")
            kind, size = struct.unpack_from(f"{self.order}II", content, at)
            if kind >> 16:
                kind, size, start, after = kind & 0xFFFF, kind >> 16, at + 4, at + 8
            else:
                start = at + 8
                after = start + size + (-size % 8 if kind != COMPRESSED else 0)
            if (size > 4 and start == at + 4) or start + size > len(content):
                self.fail(f"{size:,} bytes of an element, found {len(content) - start:,}: cut off")
            yield kind, content[start : start + size]
            at = after

    def inflated(self, data: memoryview) -> Iterator[tuple[int, memoryview]]:
        unpacker = zlib.decompressobj()
        try:
            content = unpacker.decompress(data, self.left + 1)  # 0 would be no limit
        except zlib.error as error:
            self.fail(f"compressed data, found others: {error}")
        if len(content) > self.left or not unpacker.eof:
            self.fail(f"compressed data of at most {self.most:,} bytes, found more, or no end")
        self.take(len(content))
        return self.elements(memoryview(content))

    def array(self, data: memoryview, depth: int = 0) -> tuple[str, Any]:
        """The name of an array, and what is in it."""
        if not data:
            return "", EMPTY  # MATLAB writes it for a cell that is empty
        parts = self.elements(data)
        flags = self.whole(parts)
        kind = flags[0] & 0xFF if len(flags) == 2 else 0
        if kind == OBJECT:
            name, _, of = self.text(parts), self.text(parts), self.text(parts)
            return name, Other(of, self.inner(parts, depth))
        shape, name = tuple(self.whole(parts)), self.text(parts)
        if not kind or not 2 <= len(shape) <= 32 or min(shape) < 0:
            self.fail(f"an array of numbers, text, cells or structures, found others: {name[:100]!r}")
        count = math.prod(shape)
        if kind == CELL:
            self.require(count, data)
            return name, [self.inner(parts, depth) for _ in range(count)]
        if kind == STRUCTURE:
            keys = self.keys(parts)
            self.require(count * len(keys), data)
            self.take(count * OVERHEAD)
            return name, [{key: self.inner(parts, depth) for key in keys} for _ in range(count)]
        if kind == TEXT:
            return name, self.text(parts) if shape[0] < 2 else Other(f"text of {shape[0]:,} rows")
        if kind not in CLASSES or flags[0] & COMPLEX:
            return name, Other("complex numbers" if kind in CLASSES else f"an array of class {kind}")
        values = self.numbers(parts)
        if len(values) != count:
            self.fail(f"{count:,} numbers, found {len(values):,}: {name[:100]!r}")
        dtype = np.dtype(CLASSES[kind])
        self.take(count * max(0, dtype.itemsize - values.itemsize))
        with np.errstate(all="ignore"):
            return name, values.astype(dtype, copy=False).reshape(shape, order="F")

    def inner(self, parts: Iterator[tuple[int, memoryview]], depth: int) -> Any:
        kind, data = self.part(parts)
        if kind != MATRIX:
            self.fail(f"an array, found an element of kind {kind}")
        if depth == MAX_DEPTH:
            self.fail(f"at most {MAX_DEPTH} arrays in each other, found more")
        return self.array(data, depth + 1)[1]

    def keys(self, parts: Iterator[tuple[int, memoryview]]) -> list[str]:
        """The names of the fields of a structure, each in so many bytes."""
        width, (_, names) = self.whole(parts), self.part(parts)
        if len(width) != 1 or width[0] < 1 or len(names) % width[0]:
            self.fail("the names of fields, found others")
        self.take(len(names) // width[0] * OVERHEAD)
        each = (bytes(names[k : k + width[0]]) for k in range(0, len(names), width[0]))
        return [name.partition(b"\0")[0].decode("latin-1") for name in each]

    def require(self, count: int, data: memoryview) -> None:
        """Fail if these bytes cannot hold so many arrays, each of which has 8 at least; else count their memory."""
        if count > len(data) // 8:
            self.fail(f"{count:,} arrays, found {len(data):,} bytes")
        self.take(count * OVERHEAD)

    def part(self, parts: Iterator[tuple[int, memoryview]]) -> tuple[int, memoryview]:
        return next(parts, None) or self.fail("another element, found the end of an array")

    def numbers(self, parts: Iterator[tuple[int, memoryview]]) -> Array:
        kind, data = self.part(parts)
        if kind not in NUMBERS or len(data) % int(NUMBERS[kind][1]):
            self.fail(f"numbers, found {len(data):,} bytes of kind {kind}")
        return np.frombuffer(data, f"{self.order}{NUMBERS[kind]}")

    def whole(self, parts: Iterator[tuple[int, memoryview]]) -> list[int]:
        values = self.numbers(parts)
        if values.dtype.kind == "f":
            self.fail("whole numbers, found others")
        if len(values) > 32:
            self.fail(f"at most 32 sizes of an array, found {len(values):,}")
        found: list[int] = values.tolist()
        return found

    def text(self, parts: Iterator[tuple[int, memoryview]]) -> str:
        kind, data = self.part(parts)
        if kind not in TEXTS:
            self.fail(f"text, found {len(data):,} bytes of kind {kind}")
        self.take(4 * len(data))  # a character takes 1 to 4 bytes
        wide = "" if TEXTS[kind] in ("latin-1", "utf-8") else {"<": "-le", ">": "-be"}[self.order]
        try:
            return str(data, TEXTS[kind] + wide)
        except UnicodeDecodeError as error:
            self.fail(f"text, found other bytes: {error}")

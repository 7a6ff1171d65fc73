"""MATLAB's .mat files, version 5, that are not trusted. SciPy's reader crashes over broken ones, and Python with it.

A file is a head of 128 bytes and elements: a kind and a size, 4 bytes each, and the data, padded to 8 bytes. Data of up to 4
bytes stand in the place of the size, which then is the upper half of the kind. An element may be compressed with zlib. An array
is an element of elements: flags, sizes, name, and what is in it (MathWorks, "MAT-File Format").
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from .annotations import DataFormatError

MAX_BYTES = 1 << 26  # of a file, and of each element that was compressed
MAX_DEPTH = 8  # of arrays in cells and structures
MATRIX, COMPRESSED = 14, 15
NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}  # by kind of element
TEXTS = {1: "latin-1", 2: "latin-1", 3: "utf-16", 4: "utf-16", 16: "utf-8", 17: "utf-16", 18: "utf-32"}
CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}  # of arrays
CELL, STRUCTURE, TEXT = 1, 2, 4


def read_mat(file: Path) -> dict[str, Any]:
    """The arrays of a .mat by name: numbers as an array, text as str, cells as a list, and structures as a list of
    dictionaries, both in the order of MATLAB, the first axis first.

    Raises DataFormatError if the file is not what it should be, or has an array of another class: objects, complex numbers.
    """
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise DataFormatError(f"{file}: expected at most {MAX_BYTES:,} bytes, found more")
    ends = {b"IM": "<", b"MI": ">"}
    if content[126:128] not in ends:
        raise DataFormatError(f"{file}: expected a .mat of version 5, found another file, or one of version 7.3")
    reader = _Reader(file, ends[content[126:128]])
    found = {}
    for kind, data in reader.elements(content[128:]):
        inner = reader.inflated(data) if kind == COMPRESSED else [(kind, data)]
        for of, bytes_of in inner:
            if of != MATRIX:
                reader.fail(f"an array, found an element of kind {of}")
            name, value = reader.array(bytes_of)
            found[name] = value
    return found


class _Reader:
    def __init__(self, file: Path, order: str):
        self.file, self.order, self.left = file, order, MAX_BYTES

    def fail(self, what: str) -> NoReturn:
        raise DataFormatError(f"{self.file}: expected {what}")

    def elements(self, content: bytes) -> Iterator[tuple[int, bytes]]:
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

    def inflated(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        unpacker = zlib.decompressobj()
        try:
            content = unpacker.decompress(data, self.left)
        except zlib.error as error:
            self.fail(f"compressed data, found others: {error}")
        self.left -= len(content)
        if not unpacker.eof:
            self.fail(f"compressed data of at most {MAX_BYTES:,} bytes, found more, or no end")
        return self.elements(content)

    def array(self, data: bytes, depth: int = 0) -> tuple[str, Any]:
        """The name of an array, and what is in it."""
        parts = self.elements(data)
        if not data:
            return "", np.zeros((0, 0))  # MATLAB writes it for a cell that is empty
        flags = self.whole(parts)
        shape, name = tuple(self.whole(parts)), self.text(parts)
        if depth > MAX_DEPTH or len(flags) != 2 or flags[0] & 0x800 or not 2 <= len(shape) <= 32 or min(shape) < 0:
            self.fail(f"an array of numbers, text, cells or structures, found others: {name[:100]!r}")
        kind, count = flags[0] & 0xFF, math.prod(shape)
        if kind == CELL:
            return name, [self.inner(parts, depth) for _ in range(self.bounded(count, data))]
        if kind == STRUCTURE:
            width, names = self.whole(parts), self.part(parts)[1]
            if len(width) != 1 or width[0] < 1 or len(names) % width[0]:
                self.fail("the names of fields, found others")
            step = width[0]
            keys = [names[k : k + step].partition(b"\0")[0].decode("latin-1") for k in range(0, len(names), step)]
            return name, [{key: self.inner(parts, depth) for key in keys} for _ in range(self.bounded(count, data))]
        if kind == TEXT:
            return name, self.text(parts)
        if kind not in CLASSES:
            self.fail(f"an array of numbers, text, cells or structures, found one of class {kind}: {name[:100]!r}")
        values = self.numbers(parts)
        if len(values) != count:
            self.fail(f"{count:,} numbers, found {len(values):,}: {name[:100]!r}")
        with np.errstate(all="ignore"):
            return name, values.astype(CLASSES[kind]).reshape(shape, order="F")

    def inner(self, parts: Iterator[tuple[int, bytes]], depth: int) -> Any:
        kind, data = self.part(parts)
        if kind != MATRIX:
            self.fail(f"an array, found an element of kind {kind}")
        return self.array(data, depth + 1)[1]

    def bounded(self, count: int, data: bytes) -> int:
        """The number of arrays in these bytes, each of which has 8 at least."""
        if count > len(data) // 8:
            self.fail(f"{count:,} arrays, found {len(data):,} bytes")
        return count

    def part(self, parts: Iterator[tuple[int, bytes]]) -> tuple[int, bytes]:
        return next(parts, None) or self.fail("another element, found the end of an array")

    def numbers(self, parts: Iterator[tuple[int, bytes]]) -> np.ndarray[Any, Any]:
        kind, data = self.part(parts)
        if kind not in NUMBERS or len(data) % int(NUMBERS[kind][1]):
            self.fail(f"numbers, found {len(data):,} bytes of kind {kind}")
        return np.frombuffer(data, f"{self.order}{NUMBERS[kind]}")

    def whole(self, parts: Iterator[tuple[int, bytes]]) -> list[int]:
        values = self.numbers(parts)
        if values.dtype.kind == "f":
            self.fail("whole numbers, found others")
        found: list[int] = values.tolist()
        return found

    def text(self, parts: Iterator[tuple[int, bytes]]) -> str:
        kind, data = self.part(parts)
        if kind not in TEXTS:
            self.fail(f"text, found {len(data):,} bytes of kind {kind}")
        wide = "" if TEXTS[kind] in ("latin-1", "utf-8") else {"<": "-le", ">": "-be"}[self.order]
        try:
            return data.decode(TEXTS[kind] + wide)
        except UnicodeDecodeError as error:
            self.fail(f"text, found other bytes: {error}")

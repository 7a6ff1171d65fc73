"""The text format of the original LRP Toolbox, which its Python part and its Matlab part share.

A line for each layer, its name and its sizes; behind Linear and Convolution the weights, in the order of C, and a line with the
biases. In older files each row of the weights of a Linear has a line of its own.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from ...backend import Array
from ...io import ModelFormatError, as_numbers, brief
from ..draft import MAX_LAYERS
from .layers import Layer, require_sizes

CHUNK = 1 << 20  # bytes that are read at a time
MAX_HEAD = 200  # bytes of the line of a layer
MAX_WORD = 64  # bytes of a number


def read_layers(path: Path, dtype: np.dtype[Any]) -> list[Layer]:
    """The layers in a file, their weights in `dtype`. Raises ModelFormatError if it is not what it should be."""
    layers: list[Layer] = []
    with path.open("rb") as file:
        lines = _Lines(path, file, dtype)
        while head := lines.head():
            if len(layers) == MAX_LAYERS:
                lines.fail(f"expected at most {MAX_LAYERS:,} layers, found more")
            layers.append(_layer(lines, head))
    if not layers:
        raise ModelFormatError(f"{path}: expected the layers of a network as text, found none")
    return layers


def _layer(lines: _Lines, head: list[str]) -> Layer:
    kind, where = head[0], f"line {lines.number}, {brief(head[0])}"
    try:
        sizes = require_sizes(kind, [int(word) if word.isascii() and word.isdecimal() else word for word in head[1:]])
    except ValueError as error:
        lines.fail(brief(error))
    if kind in ("Linear", "Convolution"):
        shape = sizes[:4]
        w = lines.numbers(math.prod(shape), f"{kind}, weights").reshape(shape)
        b = lines.numbers(shape[-1], f"{kind}, biases")
        return Layer(kind, where, shape[:2] if kind == "Convolution" else (), sizes[4:], w, b)
    return Layer(kind, where, sizes[:2], sizes[2:])


class _Lines:
    """A file that is read from top to bottom, never more than a piece of it at a time."""

    def __init__(self, path: Path, file: IO[bytes], dtype: np.dtype[Any]):
        self.path, self.file, self.dtype = path, file, dtype
        self.number = 0  # of the line that was read last

    def fail(self, what: str) -> NoReturn:
        raise ModelFormatError(f"{self.path}: line {self.number}: {what}")

    def head(self) -> list[str]:
        """The words of the next line; none at the end. Behind an empty line there is nothing else."""
        self.number += 1
        line = self.file.readline(MAX_HEAD + 1)
        if len(line) > MAX_HEAD:
            self.fail(f"expected the name of a layer and its sizes, found {brief(line[:40])}…")
        if line and not line.strip():
            while rest := self.file.read(CHUNK):
                if rest.strip():
                    self.fail("expected the name of a layer, found an empty line")
            return []
        try:
            return line.decode("ascii").split()
        except UnicodeDecodeError:
            self.fail(f"expected the name of a layer and its sizes, found {brief(line[:40])}")

    def numbers(self, count: int, what: str) -> Array:
        """The next `count` numbers, which end where a line ends."""
        parts: list[Array] = []
        n, rest, start = 0, b"", self.number + 1
        while n < count or rest:
            chunk = self.file.readline(CHUNK)
            if not chunk and not rest:
                self.fail(f"{what}: expected {count:,} numbers, found {n:,}, and then the end of the file")
            whole = chunk.endswith(b"\n") or len(chunk) < CHUNK
            self.number += whole
            cut = len(rest) + len(chunk) if whole else max((rest + chunk).rfind(b" "), (rest + chunk).rfind(b"\t")) + 1
            text, rest = (rest + chunk)[:cut], (rest + chunk)[cut:]
            if len(rest) > CHUNK or (whole and not text.strip()):
                self.fail(f"{what}: expected {count:,} numbers, found {n:,}")
            parts.append(self._parsed(text, f"line {start}: {what}"))
            n += len(parts[-1])
            if n > count:
                self.fail(f"{what}: expected {count:,} numbers, found more")
            if n == count and not whole and not rest:  # the line goes on
                if self.file.readline(CHUNK).strip():
                    self.fail(f"{what}: expected {count:,} numbers, found more")
                self.number += 1
        return np.concatenate(parts)

    def _parsed(self, text: bytes, what: str) -> Array:
        words = text.split()
        if max(map(len, words), default=0) > MAX_WORD:
            raise ModelFormatError(f"{self.path}: {what}: expected numbers, found {brief(max(words, key=len)[:40])}…")
        try:
            numbers = np.array(words, dtype=np.bytes_).astype(np.float64)
        except ValueError as error:
            raise ModelFormatError(f"{self.path}: {what}: expected numbers, found {brief(error)}") from error
        return as_numbers(numbers, f"{self.path}: {what}", self.dtype)

"""HDF5 files that are not trusted.

A few flipped bytes make libhdf5 crash, hang or allocate gigabytes. So another process reads the file (`hdf5_child.py`), with
a limit on its memory and time. If it fails, a ModelFormatError is raised here. Arrays come over a pipe, after their shape was
checked.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from ..backend import Array
from ..io import ModelFormatError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
MAX_TEXT = 1 << 26  # bytes of attributes
INFLATED = 4  # arrays may be so many times as large as the file: float16 is read as float32, and HDF5 may compress


def allowance(size: int) -> int:
    """How many bytes of arrays a file of `size` bytes may hold."""
    return INFLATED * size + (1 << 20)


@dataclass
class File:
    """What an HDF5 file holds, by path ("" is the root). `where` begins its error messages."""

    where: str
    contents: Mapping[str, Any]
    process: subprocess.Popen[bytes]
    left: int  # bytes that may still be read

    def __contains__(self, path: str) -> bool:
        return path in self.contents

    def shape(self, path: str) -> tuple[int, ...] | None:
        """The shape of an array; None if there is none at `path`."""
        shape = self.contents.get(path, {}).get("shape")
        return None if shape is None else tuple(shape)

    def dtype(self, path: str) -> np.dtype[Any]:
        """The dtype of the array at `path`, as it is stored."""
        stored: np.dtype[Any] = np.dtype(self.contents[path]["dtype"])
        return stored

    def arrays(self, path: str) -> list[str]:
        """The paths of all arrays below `path`."""
        below = f"{path}/" if path else ""
        return [name for name, about in self.contents.items() if name.startswith(below) and "shape" in about]

    def texts(self, path: str, name: str) -> list[str] | None:
        """An attribute that is a list of strings, whole or, as Keras stores long ones, in pieces name0, name1, …"""
        attributes: dict[str, list[str]] = self.contents.get(path, {}).get("attributes", {})
        if name in attributes or f"{name}0" not in attributes:
            return attributes.get(name)
        pieces = (attributes.get(f"{name}{k}") for k in range(len(attributes)))
        return [text for piece in pieces for text in piece or ()]

    def text(self, path: str, name: str) -> str | None:
        """An attribute that is one string; None if there is none."""
        texts = self.texts(path, name)
        if texts is not None and len(texts) != 1:
            raise ModelFormatError(f"{self.where}: {name}: expected one string, found {len(texts)}")
        return texts[0] if texts else None

    def array(self, path: str, name: str, dtype: np.dtype[Any]) -> Array:
        """The array at `path` in `dtype`. Raises ModelFormatError if it holds no floats, is not finite or too large."""
        shape, stored = self.shape(path) or (), self.dtype(path)
        if stored.kind != "f":
            raise ModelFormatError(f"{self.where}: {name}: expected floating-point numbers, found {stored}")
        self.left -= math.prod(shape) * stored.itemsize
        if self.left < 0:
            raise ModelFormatError(f"{self.where}: {name}: expected what fits into the file, found an array of {shape}")
        self._ask([path, dtype.str], name)
        a = np.empty(shape, dtype)
        if self._stdout.readinto(a.reshape(-1).view(np.uint8)) != a.nbytes:
            self._broken(name)
        if not np.isfinite(a).all():
            raise ModelFormatError(f"{self.where}: {name}: expected finite numbers, found NaN or infinity")
        return a

    @property
    def _stdout(self) -> Any:
        return self.process.stdout

    def _ask(self, question: Any, name: str) -> None:
        assert self.process.stdin is not None
        try:
            os.write(self.process.stdin.fileno(), json.dumps(question).encode() + b"\n")
        except BrokenPipeError:
            self._broken(name)
        self._answer(name)

    def _answer(self, name: str) -> Any:
        line = self._stdout.readline(MAX_TEXT)
        if not line.endswith(b"\n"):
            self._broken(name)
        answer = json.loads(line)
        if isinstance(answer.get("error"), str):
            raise ModelFormatError(f"{self.where}: {name}: not readable: {answer['error']}")
        return answer

    def _broken(self, name: str) -> NoReturn:
        self.process.kill()
        code = self.process.wait()
        why = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        raise ModelFormatError(f"{self.where}: {name}: not readable: libhdf5 crashed over it, or took too long ({why})")


def require_h5py() -> None:
    if importlib.util.find_spec("h5py") is None:
        raise ImportError('h5py is needed to read HDF5 files: pip install "lrp_toolbox[keras]", or [caffe]')


@contextmanager
def opened(path: str | os.PathLike[str], where: str) -> Iterator[File]:
    """The HDF5 file at `path`. Raises ModelFormatError if it is none, ImportError if h5py is not installed."""
    require_h5py()
    size = Path(path).stat().st_size
    memory, seconds = (1 << 30) + 2 * allowance(size), 5 + size // 10_000_000
    command = [sys.executable, "-P", str(Path(__file__).with_name("hdf5_child.py")), os.fspath(path), str(memory), str(seconds)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # threads would count as memory, and it needs none
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # Ctrl-C reaches this process only, and it ends the other one
    ) as process:
        try:
            file = File(where, {}, process, allowance(size))
            file.contents = file._answer("contents")
            yield file
        finally:
            process.kill()

"""HDF5 files from strangers, read with bounds.

What a file declares is checked before memory is asked for, only what lies in the file itself is followed (no links to other
files, no external or virtual data), and whatever h5py makes of a broken file becomes a ModelFormatError.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

try:
    import h5py
except ImportError as error:
    raise ImportError('HDF5 files are read with h5py: pip install "lrp_toolbox[keras]"') from error

from ..backend import Array
from ..io import ModelFormatError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
INFLATED = 4  # a file may become so many times its size in memory: float16 is read as float32, and HDF5 may compress


def allowance(size: int) -> int:
    """How many bytes may come out of a file of `size` bytes."""
    return INFLATED * size + (1 << 20)


@dataclass
class File:
    """An open HDF5 file. `where` begins its error messages."""

    root: Any
    where: str
    left: int  # bytes that may still be read

    def child(self, group: Any, path: str) -> Any:
        """What is at `path` below `group`, a group or a dataset; None if nothing is."""
        with self._reading(path):
            for step in path.split("/"):
                if not isinstance(group, h5py.Group) or group.get(step, getlink=True) is None:
                    return None
                if not isinstance(group.get(step, getlink=True), h5py.HardLink):
                    raise ModelFormatError(f"{self.where}: {path}: expected to be in this file, found a link elsewhere")
                group = group[step]
        return group

    def datasets(self, group: Any) -> list[str]:
        """The full paths of all datasets below `group`, each object once."""
        found: list[str] = []
        with self._reading("list of arrays"):
            group.visititems(lambda _, item: found.append(item.name) if isinstance(item, h5py.Dataset) else None)
        return found

    def text(self, group: Any, name: str) -> str | None:
        """An attribute that is one string; None if there is none."""
        texts = self._attribute(group, name)
        if texts is not None and len(texts) != 1:
            raise ModelFormatError(f"{self.where}: {name}: expected one string, found {len(texts)}")
        return texts[0] if texts else None

    def texts(self, group: Any, name: str) -> list[str] | None:
        """An attribute that is a list of strings, whole or, as Keras stores long ones, in pieces name0, name1, …"""
        whole = self._attribute(group, name)
        if whole is not None:
            return whole
        pieces = list(itertools.takewhile(bool, (self._attribute(group, f"{name}{k}") for k in itertools.count())))
        return [text for piece in pieces if piece for text in piece] or None

    def _attribute(self, group: Any, name: str) -> list[str] | None:
        with self._reading(name):
            if name not in group.attrs:
                return None
            stored = group.attrs.get_id(name)
            count = int(np.prod(stored.shape, dtype=object))
            if count * max(stored.dtype.itemsize, 1) > self.left:
                raise ModelFormatError(f"{self.where}: {name}: expected strings, found {count} in a file too small for them")
            if count == 0:
                return []
            values = np.asarray(group.attrs[name], dtype=object).reshape(-1).tolist()
            texts = [value.decode("utf-8") if isinstance(value, bytes) else value for value in values]
            if not all(isinstance(text, str) for text in texts):
                raise ModelFormatError(f"{self.where}: {name}: expected strings, found {stored.dtype}")
            return texts

    def array(self, dataset: Any, name: str, dtype: np.dtype[Any]) -> Array:
        """The numbers of `dataset` in `dtype`. Raises ModelFormatError if they are not floats, not finite or too many."""
        with self._reading(name):
            if dataset.is_virtual or dataset.external:
                raise ModelFormatError(f"{self.where}: {name}: expected to be in this file, found its data elsewhere")
            if dataset.dtype.kind != "f":
                raise ModelFormatError(f"{self.where}: {name}: expected floating-point numbers, found {dataset.dtype}")
            self.left -= int(np.prod(dataset.shape, dtype=object)) * dataset.dtype.itemsize
            if self.left < 0:
                raise ModelFormatError(
                    f"{self.where}: {name}: expected no more than fits into the file, found an array of {dataset.shape}"
                )
            a = np.empty(dataset.shape, dtype)
            dataset.read_direct(a)
        if not np.isfinite(a).all():
            raise ModelFormatError(f"{self.where}: {name}: expected finite numbers, found NaN or infinity")
        return a

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except ModelFormatError:
            raise
        except (OSError, RuntimeError, KeyError, ValueError, TypeError, OverflowError, MemoryError) as error:
            raise ModelFormatError(f"{self.where}: {what}: not readable: {error}") from error


@contextmanager
def opened(path: str | os.PathLike[str], where: str) -> Iterator[File]:
    """The HDF5 file at `path`. Raises ModelFormatError if it is none."""
    try:
        root = h5py.File(path, "r")
    except (OSError, RuntimeError, ValueError, KeyError, TypeError) as error:
        raise ModelFormatError(f"{where}: not a readable HDF5 file: {error}") from error
    with root:
        yield File(root, where, allowance(Path(path).stat().st_size))

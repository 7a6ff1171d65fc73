"""The process that reads an HDF5 file for `hdf5.py`, and may crash: python hdf5_child.py FILE MEMORY SECONDS

Writes a line of JSON with all that the file holds, {"path": {"attributes": {"name": ["text"]}, "shape": [3], "dtype": "<f4"}},
or {"error": "…"}. Then it reads lines ["path", "dtype"] and answers each with {} and the bytes of the array, or with an error.
"""

import json
import sys
from typing import Any

import h5py
import numpy as np

MAX_ATTRIBUTE = 1 << 16  # bytes, without strings of variable length; Keras splits longer attributes
PIECE = 1 << 24  # bytes that are read at a time
BROKEN = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    OverflowError,
    MemoryError,
    AttributeError,
)  # what h5py raises for a broken file


def limit(memory: int, seconds: int) -> None:
    """Limit memory and time, if the system has such limits; a process that needs more is ended."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def contents(file: Any) -> dict[str, Any]:
    """What `hdf5.File` knows of the file. Only hard links are followed, so that nothing outside of the file is read."""
    found: dict[str, Any] = {}

    def see(path: str, item: Any) -> None:
        about: dict[str, Any] = {"attributes": texts(item)}
        if isinstance(item, h5py.Dataset):
            about |= {"shape": list(item.shape), "dtype": item.dtype.str}
        found[path] = about

    see("", file)
    file.visititems(see)
    return found


def texts(item: Any) -> dict[str, list[str]]:
    """The attributes that are strings."""
    found = {}
    for name in item.attrs:
        stored = item.attrs.get_id(name)
        count = int(np.prod(stored.shape, dtype=object))
        if count and h5py.check_string_dtype(stored.dtype) is None:
            continue
        if count * max(stored.dtype.itemsize, 16) > MAX_ATTRIBUTE:  # 16: where a string of variable length is found
            raise ValueError(f"{name}: an attribute of {count} strings is larger than {MAX_ATTRIBUTE} bytes")
        values = np.asarray(item.attrs[name], dtype=object).reshape(-1).tolist() if count else []
        found[name] = [value.decode("utf-8") if isinstance(value, bytes) else value for value in values]
    return found


def pieces(dataset: Any, dtype: str) -> Any:
    """The array in C order, some rows at a time."""
    if dataset.is_virtual or dataset.external:
        raise ValueError("its data lies outside of the file")
    if not dataset.shape:
        yield np.asarray(dataset[()], dtype).tobytes()
        return
    row = max(1, int(np.prod(dataset.shape[1:], dtype=object)) * np.dtype(dtype).itemsize)
    step = max(1, PIECE // row)
    for start in range(0, dataset.shape[0], step):
        yield np.ascontiguousarray(dataset[start : start + step], dtype).data


def main(path: str, memory: str, seconds: str) -> None:
    limit(int(memory), int(seconds))

    def say(message: dict[str, Any]) -> None:
        sys.stdout.buffer.write(json.dumps(message).encode() + b"\n")
        sys.stdout.buffer.flush()

    try:
        file = h5py.File(path, "r")
        say(contents(file))
    except BROKEN as error:
        say({"error": str(error)})
        return
    for line in sys.stdin:
        name, dtype = json.loads(line)
        try:
            rest = pieces(file[name], dtype)
            first = next(rest, b"")
        except BROKEN as error:
            say({"error": str(error)})
            continue
        say({})
        sys.stdout.buffer.write(first)
        for piece in rest:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])

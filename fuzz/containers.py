"""Ways to break files that hold parts: protobuf, zip archives, HDF5, pictures, SQLite."""

from __future__ import annotations

import io
import lzma
import sqlite3
import struct
import tempfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from .mutators import NUMBERS, STRINGS, WHOLE, Bytes, any_bytes, encoded, json_text, npy

# ---- Protobuf --------------------------------------------------------------------------------------------------------


def varint(n: int) -> bytes:
    n, out = n % (1 << 64), bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes([*out, n])


def _fields(content: bytes) -> list[list[Any]] | None:
    """[number, wire type, value] of each field; None if the bytes are no message."""
    found, at = [], 0

    def number() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = content[at]
            at, value, shift = at + 1, value | (byte & 127) << shift, shift + 7
            if byte < 128:
                return value

    try:
        while at < len(content):
            tag = number()
            kind = tag & 7
            if tag >> 3 == 0 or kind not in (0, 1, 2, 5):
                return None
            size = {0: 0, 1: 8, 2: 0, 5: 4}[kind]
            value: Any = number() if kind in (0, 2) else None
            size = value if kind == 2 else size
            if kind != 0:
                if at + size > len(content):
                    return None
                value, at = content[at : at + size], at + size
            found.append([tag >> 3, kind, value])
    except IndexError:
        return None
    return found


def _message(fields: Sequence[Sequence[Any]]) -> bytes:
    pieces = []
    for number, kind, value in fields:
        pieces.append(varint(number << 3 | kind))
        pieces += [varint(value)] if kind == 0 else [varint(len(value)), value] if kind == 2 else [value]
    return b"".join(pieces)


def protobuf(rng: Random, content: bytes) -> bytes:
    """A field, at any depth: another number, another kind, another value, doubled, left out, moved, deeply nested."""
    if rng.random() < 0.2:
        return any_bytes(rng, content)
    for _ in range(rng.choice((1, 1, 2))):
        content = _protobuf(rng, content, 0) if len(content) < 1 << 23 else content
    return content


def _protobuf(rng: Random, content: bytes, depth: int) -> bytes:
    fields = _fields(content)
    if not fields:
        return any_bytes(rng, content)
    k = rng.randrange(len(fields))
    number, kind, value = fields[k]
    if kind == 2 and len(value) > 2 and rng.random() < 0.75 and depth < 6:
        fields[k][2] = _protobuf(rng, value, depth + 1)
        return _message(fields)
    match rng.randrange(9):
        case 0:
            fields[k] = [number, 0, rng.choice(WHOLE)]
        case 1:
            fields[k] = [
                number,
                2,
                rng.choice((encoded(rng.choice(STRINGS)), rng.randbytes(9), b"", struct.pack("<f", float("nan")))),
            ]
        case 2:
            fields[k][0] = rng.choice((1, 2, 3, 4, 5, 6, 7, 8, 100, rng.randrange(1, 150), (1 << 29) - 1))
        case 3:
            fields[k:k] = [fields[k]] * (rng.choice((1, 1, 70, 3000)) if len(content) < 10_000 else 1)
        case 4:
            del fields[k]
        case 5:
            fields[k] = fields[rng.randrange(len(fields))]
        case 6:
            rng.shuffle(fields)
        case 7:
            inner = b""
            for _ in range(rng.choice((20, 150, 3000))):
                inner = _message([[number, 2, inner]])
            fields[k] = [number, 2, inner]
        case _ if kind == 2:
            fields[k][2] = any_bytes(rng, value) if value else b"\0"
        case _:
            fields[k] = [number, rng.choice((1, 5)), rng.randbytes(8)]
            fields[k][2] = fields[k][2][: 8 if fields[k][1] == 1 else 4]
    return _message(fields)


# ---- Zip archives ----------------------------------------------------------------------------------------------------


def npy_header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    opened = io.BytesIO()
    np.lib.format.write_array_header_1_0(opened, {"descr": descr, "fortran_order": False, "shape": shape})
    return opened.getvalue()


@cache
def _deflated_zeros(size: int) -> tuple[bytes, int, int]:
    """A .npy of about `size` bytes of zeros: deflated, its checksum, its size."""
    piece, count = bytes(1 << 24), size >> 24
    header = npy_header((count << 22,))
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    first, crc = packer.compress(header) + packer.flush(zlib.Z_FULL_FLUSH), zlib.crc32(header)
    repeated = packer.compress(piece) + packer.flush(zlib.Z_FULL_FLUSH)  # the same bytes each time
    for _ in range(count):
        crc = zlib.crc32(piece, crc)
    return first + repeated * count + packer.flush(), crc, len(header) + len(piece) * count


def bomb(name: str, size: int = 1400 << 20) -> bytes:
    """An archive with one array of zeros that is a thousand times as large as the archive."""
    content, crc, whole = _deflated_zeros(size)
    about = struct.pack("<HHHHHIIIHH", 20, 0, zipfile.ZIP_DEFLATED, 0, 33, crc, len(content), whole, len(name.encode()), 0)
    local = b"PK\x03\x04" + about + name.encode() + content
    entry = b"PK\x01\x02" + struct.pack("<H", 20) + about + bytes(14) + name.encode()
    return local + entry + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(entry), len(local), 0)


def archive(inner: Mapping[str, Bytes], otherwise: Bytes = npy) -> Bytes:
    """Mutations of a zip archive: of its members by `inner`, by name, or `otherwise`; of its list; of its bytes."""

    def mutate(rng: Random, content: bytes) -> bytes:
        if rng.random() < 0.25:
            return any_bytes(rng, content)
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as opened:
                small = all(info.file_size < 1 << 24 for info in opened.infolist())  # it may have been broken before
                members = {name: opened.read(name) for name in opened.namelist() if small}
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            NotImplementedError,
            ValueError,
            RuntimeError,
            KeyError,
            struct.error,
            lzma.LZMAError,
        ):
            return any_bytes(rng, content)
        if not members:
            return any_bytes(rng, content)
        entries = list(members.items())
        k = rng.randrange(len(entries))
        name, member = entries[k]
        methods = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
        method = rng.choice((*methods[:2], *methods))
        way = rng.random()
        if way < 0.6:
            entries[k] = name, inner.get(name, otherwise)(rng, member)
        elif way < 0.7:
            names = [n for n, _ in entries]
            entries[k] = (
                rng.choice(
                    ("../x", "/x", "a/../../x", "x\0y", name.upper(), *names, "", "x" * 60_000, "é", "data.pkl", "a\\b", "x/")
                ),
                member,
            )
        elif way < 0.75:
            del entries[k]
        elif way < 0.8:
            entries.append((rng.choice((name, "extra", "extra.npy", "a/data.pkl")), rng.choice((member, b""))))
        elif way < 0.82:
            return bomb(name)
        made = io.BytesIO()
        with warnings.catch_warnings(), zipfile.ZipFile(made, "w", method) as opened:
            warnings.simplefilter("ignore")  # of names that occur twice
            for n, m in entries:
                opened.writestr(n.encode("utf-8", "replace").decode() or "_", m)
        content = made.getvalue()
        return _patched(rng, content) if way >= 0.82 else content

    return mutate


def _patched(rng: Random, content: bytes) -> bytes:
    """A number in a header of a member, in the directory, or in the record at the end."""
    changed = bytearray(content)
    marks = {
        b"PK\x03\x04": (4, 6, 8, 14, 18, 22, 26, 28),
        b"PK\x01\x02": (4, 6, 8, 10, 16, 20, 24, 28, 30, 32, 42),
        b"PK\x05\x06": (4, 8, 10, 12, 16, 20),
    }
    for _ in range(rng.choice((1, 1, 2, 3))):
        mark = rng.choice(list(marks))
        found = (
            [k for k in range(len(content) - 4) if content.startswith(mark, k)]
            if len(content) < 1 << 16
            else [content.rfind(mark)]
        )
        if not found or found[0] < 0:
            continue
        at, size = rng.choice(found) + rng.choice(marks[mark]), rng.choice((2, 4))
        changed[at : at + size] = (rng.choice((1, 8, 9, 12, 14, 93, 95, *WHOLE)) % (1 << 8 * size)).to_bytes(size, "little")
    return bytes(changed)


# ---- safetensors -----------------------------------------------------------------------------------------------------


def safetensors(rng: Random, content: bytes) -> bytes:
    if rng.random() < 0.3:
        return any_bytes(rng, content)
    size = int.from_bytes(content[:8], "little")
    header = json_text(rng, content[8 : 8 + size])
    length = len(header) if rng.random() < 0.9 else rng.choice(WHOLE) % (1 << 64)
    return length.to_bytes(8, "little") + header + content[8 + size :]


# ---- HDF5 ------------------------------------------------------------------------------------------------------------


def hdf5(attributes: Bytes = json_text) -> Bytes:
    """Mutations of an HDF5 file: of its bytes, and, with h5py, of what it holds. `attributes` breaks the text in attributes."""

    def mutate(rng: Random, content: bytes) -> bytes:
        if rng.random() < 0.35:
            return any_bytes(rng, content)
        import h5py

        opened = io.BytesIO(content)
        try:
            with h5py.File(opened, "r+") as file:
                for _ in range(rng.choice((1, 1, 2))):
                    _of_hdf5(rng, file, attributes)
        except (OSError, ValueError, KeyError, RuntimeError, TypeError, OverflowError, AttributeError, MemoryError):
            return any_bytes(rng, content)  # what HDF5 itself does not write
        content = opened.getvalue()
        return any_bytes(rng, content) if rng.random() < 0.1 else content

    return mutate


def _of_hdf5(rng: Random, file: Any, attributes: Bytes) -> None:
    import h5py

    items = [""]
    file.visit(items.append)
    holders = [name for name in items if len(file[name or "/"].attrs)]
    datasets = [name for name in items if isinstance(file[name or "/"], h5py.Dataset)]
    group = rng.choice([name for name in items if name not in datasets])
    if rng.random() < 0.45 and holders:
        attrs = file[rng.choice(holders) or "/"].attrs
        name = rng.choice(list(attrs))
        value = attrs[name]
        match rng.randrange(9):
            case 0 | 1 | 2 | 3 if isinstance(value, str | bytes):
                attrs[name] = attributes(rng, value if isinstance(value, bytes) else value.encode())
            case 0 | 1 | 2 if isinstance(value, np.ndarray) and value.size:
                changed = np.array(value.reshape(-1), object)
                k = rng.randrange(len(changed))
                changed[k] = rng.choice((changed[rng.randrange(len(changed))], "x", "../x", "x/../y", "", "é"))
                attrs[name] = [v.decode() if isinstance(v, bytes) else str(v) for v in changed]
            case 4:
                del attrs[name]
            case 5:
                attrs[name] = np.full(rng.choice(((), (0,), (3,), (2, 2))), rng.choice((0, 1.5, b"x", np.complex64(1))))
            case 6:
                attrs.create(name, encoded(rng.choice(STRINGS))[:200].replace(b"\0", b" ") or b"_")
            case 7:
                attrs.create(
                    name, rng.choice((h5py.Empty("S1"), np.array([b"ab"], "S2"), np.array([b"\xff\xfe"], "S2"), "x" * 60_000))
                )
            case _:
                attrs[f"{name}0"] = ["x"]
                del attrs[name]
        return
    target = rng.choice(datasets or [""])
    if not target:
        return
    old = file[target][()]
    del file[target]
    match rng.randrange(12):
        case 0:
            file[target] = h5py.SoftLink(rng.choice(("/nowhere", "/", f"/{target}", f"/{group}")))
        case 1:
            file[target] = h5py.ExternalLink(rng.choice(("/etc/passwd", "../x.h5", "file.h5")), "/")
        case 2:
            file.create_dataset(
                target, tuple(rng.choice((1, 3, 1 << 20, 1 << 40)) for _ in range(rng.randrange(1, 5))), "f4", chunks=True
            )
        case 3:
            file.create_dataset(target, data=old.astype(rng.choice(("f2", "f8", ">f4", "i8", "u1", "?", "c8", "S4"))))
        case 4:
            file.create_dataset(target, data=np.zeros(3, [("a", "f4"), ("b", "i4")]))
        case 5:
            file.create_dataset(target, data=rng.choice((h5py.Empty("f4"), "text", np.float32(1))))
        case 6:
            file.create_group(target)
        case 7:
            changed = np.array(old)
            if changed.size and changed.dtype.kind == "f":
                changed.reshape(-1)[rng.randrange(changed.size)] = rng.choice((np.nan, np.inf, 1e38))
            file.create_dataset(target, data=changed)
        case 8:
            size = max(1, old.size)
            file.create_dataset(
                target,
                data=np.resize(old, size * rng.choice((1, 2))).reshape(rng.choice(((-1,), (1, -1), (-1, 1), (1, 1, -1)))),
            )
        case 9:
            file.create_dataset(
                target,
                data=old,
                chunks=True if old.ndim else None,
                compression=rng.choice(("gzip", "lzf")) if old.ndim else None,
                shuffle=bool(old.ndim),
                fletcher32=bool(old.ndim),
            )
        case 10:
            with tempfile.TemporaryDirectory() as folder:
                file.create_dataset(target, (4,), "f4", external=[(f"{folder}/x", 0, 16)])
        case _:
            file.create_dataset(target, data=old, chunks=tuple(1 for _ in old.shape) or None)


# ---- Pictures --------------------------------------------------------------------------------------------------------

Split = Callable[[bytes], list[bytes]]  # into the parts that a format consists of; joined, they are the file
Seal = Callable[[bytes], bytes]  # a part with its size and checksum made right


def _png(content: bytes) -> list[bytes]:
    found, at = [content[:8]], 8
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big") + 12
        found.append(content[at : at + size])
        at += size
    return found


def _seal_png(part: bytes) -> bytes:
    kind, data = part[4:8].ljust(4), part[8:-4]
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _jpeg(content: bytes) -> list[bytes]:
    found, at = [content[:2]], 2
    while at + 4 <= len(content) and content[at] == 0xFF and content[at + 1] != 0xDA:
        size = int.from_bytes(content[at + 2 : at + 4], "big") + 2
        found.append(content[at : at + size])
        at += size
    return [*found, content[at:]]


def _seal_jpeg(part: bytes) -> bytes:
    return part[:2].ljust(2) + struct.pack(">H", (len(part[4:]) + 2) % 65536) + part[4:]


def _riff(content: bytes) -> list[bytes]:
    found, at = [content[:12]], 12
    while at + 8 <= len(content):
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        found.append(content[at : at + 8 + size + size % 2])
        at += 8 + size + size % 2
    return found


def _seal_riff(part: bytes) -> bytes:
    return part[:4].ljust(4) + struct.pack("<I", len(part[8:])) + part[8:]


def _gif(content: bytes) -> list[bytes]:
    size = 13 + (3 << (content[10] & 7) + 1 if content[10] & 128 else 0)
    found, at = [content[:10], content[10:13], content[13:size]], size
    while at < len(content):
        begin = at
        if content[at] == 0x2C:
            at += 10
            at += (3 << (content[at - 1] & 7) + 1) + 1 if content[at - 1] & 128 else 1
        elif content[at] == 0x21:
            at += 2
        else:
            return [*found, content[at:]]
        while at < len(content) and content[at]:
            at += content[at] + 1
        at += 1
        found.append(content[begin:at])
    return found


def _tiff(content: bytes) -> list[bytes]:
    """Head, what lies before the first directory, its entries of 12 bytes, and the rest."""
    end = "little" if content[:2] == b"II" else "big"
    at = int.from_bytes(content[4:8], end)
    count = int.from_bytes(content[at : at + 2], end)
    entries = [content[at + 2 + 12 * k : at + 14 + 12 * k] for k in range(min(count, 100))]
    return [content[:8], content[8 : at + 2], *entries, content[at + 2 + 12 * len(entries) :]]


def _as_it_is(part: bytes) -> bytes:
    return part


KINDS: tuple[tuple[bytes, int, Split, Seal], ...] = (
    (b"\x89PNG", 0, _png, _seal_png),
    (b"\xff\xd8\xff", 0, _jpeg, _seal_jpeg),
    (b"WEBP", 8, _riff, _seal_riff),
    (b"GIF8", 0, _gif, _as_it_is),
    (b"II*\0", 0, _tiff, _as_it_is),
    (b"MM\0*", 0, _tiff, _as_it_is),
)


def picture(rng: Random, content: bytes) -> bytes:
    """Parts of a picture (chunks, segments, entries of a directory): changed, with a right checksum, doubled, moved."""
    known = [(split, seal) for mark, at, split, seal in KINDS if content[at:].startswith(mark)]
    if not known or rng.random() < 0.35:
        return any_bytes(rng, content)
    split, seal = known[0]
    try:
        parts = split(content)
    except IndexError:
        return any_bytes(rng, content)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        k = rng.randrange(len(parts))
        match rng.randrange(10):
            case 0 | 1 | 2 | 3 | 4 | 5 if len(parts[k]) > 8:
                parts[k] = seal(any_bytes(rng, parts[k])) if k else parts[k]
            case 6:
                parts[k:k] = [parts[k]] * rng.choice((1, 2, 300))
            case 7:
                del parts[k]
                parts = parts or [b""]
            case 8:
                other = rng.randrange(len(parts))
                parts[k], parts[other] = parts[other], parts[k]
            case _ if len(parts[k]) > 8:
                part = bytearray(parts[k])
                at, size = rng.randrange(len(part)), rng.choice((1, 2, 4))
                part[at : at + size] = (rng.choice(WHOLE) % (1 << 8 * size)).to_bytes(size, rng.choice(("big", "little")))
                parts[k] = seal(bytes(part)) if k else parts[k]
    return b"".join(parts)


# ---- MATLAB ----------------------------------------------------------------------------------------------------------


def mat(rng: Random, content: bytes) -> bytes:
    """The bytes of a .mat, also of what is compressed in it."""
    if rng.random() < 0.6 or content[128:132] != b"\x0f\0\0\0":
        return any_bytes(rng, content)
    try:
        inner = zlib.decompress(content[136:])
    except zlib.error:
        return any_bytes(rng, content)
    packed = zlib.compress(any_bytes(rng, inner))
    return content[:132] + struct.pack("<I", len(packed)) + packed


# ---- SQLite ----------------------------------------------------------------------------------------------------------


def sqlite(rng: Random, content: bytes) -> bytes:
    """A database: other values in a row, other tables, other columns; or broken bytes."""
    if rng.random() < 0.4:
        return any_bytes(rng, content)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "x.sqlite"
        file.write_bytes(content)
        connection = sqlite3.connect(file, isolation_level=None)
        connection.set_progress_handler(lambda: 1, 1_000_000)  # ends a statement on a view that has no end
        try:
            connection.execute("PRAGMA journal_mode = DELETE")
            for _ in range(rng.choice((1, 1, 2))):
                _of_sqlite(rng, connection)
        except sqlite3.Error:
            return any_bytes(rng, content)
        finally:
            connection.close()
        return file.read_bytes()


def _of_sqlite(rng: Random, connection: sqlite3.Connection) -> None:
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    table = rng.choice(tables)
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    column = rng.choice(columns)
    odd = rng.choice(
        (
            None,
            0,
            -1,
            1.5,
            float("inf"),
            b"\xff",
            b"",
            "x",
            "",
            "NaN",
            "é",
            1 << 62,
            "[" * 100_000,
            "{}",
            "[]",
            "1",
            "null",
            *NUMBERS[:12],
        )
    )
    match rng.randrange(8):
        case 0 | 1 | 2:
            connection.execute(f"UPDATE OR REPLACE {table} SET {column} = ?", (odd,))
        case 3:
            [(key,)] = connection.execute("SELECT key FROM meta ORDER BY random() LIMIT 1").fetchall() or [("x",)]
            [(value,)] = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchall() or [("1",)]
            connection.execute(
                "UPDATE meta SET value = ? WHERE key = ?", (json_text(rng, str(value).encode()).decode("utf-8", "replace"), key)
            )
        case 4:
            connection.execute(f"DROP TABLE {table}")
        case 5:
            connection.execute(f"DELETE FROM {table}" + rng.choice(("", " WHERE random() % 2 = 0")))
        case 6:
            connection.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO x")
        case _:
            connection.execute(f"CREATE VIEW v AS SELECT * FROM {table}")
            connection.execute(f"ALTER TABLE {table} RENAME TO {table}_old")
            connection.execute(
                f"CREATE VIEW {table} AS "
                + rng.choice(
                    (
                        "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) "
                        "SELECT x AS item, x AS key, x AS value, x AS seconds FROM c",
                        f"SELECT * FROM {table}_old",
                        "SELECT 1 AS item",
                    )
                )
            )

"""Ways to break a file: its bytes, its text, and what its text means (JSON, XML, numbers, headers of NumPy)."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any

WHOLE = (0, -1, 1, 2, 3, 7, 64, 255, 256, 65535, *(1 << k for k in (16, 20, 31, 32, 40, 62, 63, 70)),
         (1 << 31) - 1, (1 << 63) - 1, (1 << 64) - 1, -(1 << 62))  # fmt: skip
NUMBERS = (
    *"0 -0 -1 1 2 3.5 1e3 1e38 1e39 1e308 1e309 -1e309 1e-320 nan -nan inf -inf NaN Infinity 0x10 017".split(),  # noqa: SIM905
    *"1_000 ٣ １ 1. .5 +1 1e --1".split(),  # noqa: SIM905
    "9" * 30,
    "9" * 5000,
    *map(str, WHOLE),
)
STRINGS = (
    "", " ", "\0", "a\0b", "x" * 300, "x" * 70_000, "é", "\u202e", "🙂", "\ud800", "../x", "/etc/passwd", "C:\\x", "~", ".",
    "con", "%s%n", "{0}", "{}", "<script>", "\x1b[31m", "\r\n", "__class__", "None", "nan", "-1", "true", "\ufeff",
)  # fmt: skip
Bytes = Callable[[Random, bytes], bytes]


# ---- Bytes -----------------------------------------------------------------------------------------------------------


def bits(rng: Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def few_bytes(rng: Random, content: bytes) -> bytes:
    """Other bytes, near the beginning more often than elsewhere: heads of files are there."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        end = rng.choice((len(changed), len(changed), min(len(changed), 512), min(len(changed), 64)))
        changed[rng.randrange(end)] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    return bytes(changed)


def truncated(rng: Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def cut(rng: Random, content: bytes) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.randrange(1, 64) :]


def repeated(rng: Random, content: bytes) -> bytes:
    start = rng.randrange(len(content))
    piece = content[start : start + rng.randrange(1, 64)]
    return content[:start] + piece * rng.choice((2, 3, 1000)) + content[start:]


def integers(rng: Random, content: bytes) -> bytes:
    """A number of 1 to 8 bytes, such as a size, an offset or a count, becomes an extreme one."""
    changed = bytearray(content)
    size = rng.choice((1, 2, 2, 4, 4, 4, 8))
    end = rng.choice((len(changed), min(len(changed), 1024), min(len(changed), 128)))
    start = rng.randrange(max(1, end - size))
    changed[start : start + size] = (rng.choice(WHOLE) % (1 << 8 * size)).to_bytes(size, rng.choice(("little", "big")))
    return bytes(changed)


def moved(rng: Random, content: bytes) -> bytes:
    """A piece of the file also stands elsewhere."""
    start, to = rng.randrange(len(content)), rng.randrange(len(content))
    piece = content[start : start + rng.choice((2, 4, 8, 32, 256))]
    return content[:to] + piece + content[to + len(piece) * rng.randrange(2) :]


def noise(rng: Random, content: bytes) -> bytes:
    return rng.randbytes(rng.randrange(2000))


OF_BYTES: tuple[Bytes, ...] = (bits, bits, few_bytes, few_bytes, truncated, cut, repeated, integers, integers, moved, noise)


def any_bytes(rng: Random, content: bytes) -> bytes:
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content = rng.choice(OF_BYTES)(rng, content) if len(content) > 8 else content + rng.randbytes(9)
    return content


# ---- Text ------------------------------------------------------------------------------------------------------------

TOKEN = re.compile(rb"[A-Za-z_][\w.]*|[-+]?\d[\w.+-]*|\"[^\"\n]*\"|\s+|.", re.DOTALL)
NUMBER = re.compile(rb"[-+]?\d[\w.+-]*")


def _kind(token: bytes) -> bytes:
    return b"0" if NUMBER.fullmatch(token) else b"a" if token[:1].isalpha() else token[:1]


def encoded(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def tokens(rng: Random, content: bytes) -> bytes:
    """Words, numbers, strings and punctuation of a text: changed, left out, doubled, exchanged, nested."""
    found = TOKEN.findall(content)
    if not found:
        return b"{"
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        solid = [k for k, token in enumerate(found) if not token.isspace()] or [0]
        k, other = rng.choice(solid), rng.choice(solid)
        numbers = [i for i in solid if NUMBER.fullmatch(found[i])]
        alike = rng.choice([i for i in solid if _kind(found[i]) == _kind(found[k])] or [k])
        match rng.randrange(14):
            case 0 | 1 | 2 if numbers:
                found[rng.choice(numbers)] = encoded(rng.choice(NUMBERS))
            case 3:
                found[k], found[other] = found[other], found[k]
            case 10 | 11 | 12:  # a word for a word, a number for a number: the text stays right
                found[k] = found[alike]
            case 13:
                found[k], found[alike] = found[alike], found[k]
            case 4:
                found[k] = b""
            case 5:
                found[k : k + 1] = found[k : k + 1] * rng.choice((2, 2, 3, 5000))
            case 6:
                found[k] = encoded(rng.choice(STRINGS) if rng.random() < 0.5 else f'"{rng.choice(STRINGS)}"')
            case 7:
                found[k] = rng.choice(
                    (b"{", b"}", b"[", b"]", b"<", b">", b":", b",", b'"', b"'", b"\\", b"#", b"\n", b"&", b"\xff")
                )
            case 8:
                lines = b"".join(found).split(b"\n")
                i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
                lines[i : i + rng.randrange(2)] = rng.choice(([lines[j]], []))
                found = TOKEN.findall(b"\n".join(lines)) or [b""]
            case _:
                opened = rng.choice((b"{", b"[", b"(", b"<a>", b"layer {", b'{"a":'))
                found[k] = opened * rng.choice((10, 100, 5000)) + found[k]
    return b"".join(found)


# ---- JSON ------------------------------------------------------------------------------------------------------------


def odd_value(rng: Random) -> Any:
    deep: Any = []
    for _ in range(rng.choice((1, 5, 60))):
        deep = [deep] if rng.random() < 0.5 else {"a": deep}
    return rng.choice(
        (
            None,
            True,
            False,
            [],
            {},
            [[]],
            [None],
            rng.choice(WHOLE),
            rng.choice(WHOLE),
            -rng.choice(WHOLE),
            0.5,
            1e308,
            float("nan"),
            float("inf"),
            1.0,
            rng.choice(STRINGS),
            rng.choice(STRINGS),
            [rng.choice(WHOLE)] * rng.randrange(6),
            deep,
            {"array": "x"},
            {"class_name": "Dense", "config": {}},
            [0] * 20_000,
        )
    )


def places(value: Any) -> list[tuple[Any, Any]]:
    """(container, key) of everything in a JSON value."""
    found, to_do = [], [value]
    while to_do:
        here = to_do.pop()
        for key, inner in here.items() if isinstance(here, dict) else enumerate(here):
            found.append((here, key))
            if isinstance(inner, dict | list):
                to_do.append(inner)
    return found


def json_value(rng: Random, value: Any) -> Any:
    """A JSON value that is broken in a few places. `value` itself is changed."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not isinstance(value, dict | list) or not (found := places(value)):
            return odd_value(rng)
        container, key = rng.choice(found)
        other, other_key = rng.choice(found)
        if isinstance(container, list) and key >= len(container):
            continue
        match rng.randrange(9):
            case 0 | 1 | 2:
                container[key] = odd_value(rng)
            case 3:
                del container[key]
            case 4 if isinstance(container, dict):
                container[rng.choice((*STRINGS[:6], *(k for _, k in found if isinstance(k, str))))] = container.pop(key)
            case 5 if isinstance(container[key], int | float):
                container[key] = rng.choice((-1, 2, 0.5, 10, 0)) * container[key]
            case 6 if isinstance(container, list):
                container[key:key] = [container[key]] * rng.choice((1, 1, 40))
            case 7 if isinstance(container[key], dict | list):
                copied = json.loads(json.dumps(container[key]))
                container[key] = {"a": copied} if rng.random() < 0.5 else [copied]
            case _:
                copied = json.loads(json.dumps(container[key]))
                if not isinstance(other, list) or other_key < len(other):
                    other[other_key] = copied
    return value


def json_text(rng: Random, content: bytes) -> bytes:
    """JSON that is broken in what it means, in its text, or in its bytes."""
    way = rng.random()
    if way < 0.15:
        return any_bytes(rng, content)
    if way < 0.3:
        return tokens(rng, content)
    if way < 0.33:
        return rng.choice(
            (
                b"[" * 100_000,
                b'{"a":' * 100_000,
                b"[1e400]",
                b"9" * 5000,
                b"NaN",
                b'{"a":1,"a":2}',
                encoded('"\ud800"'),
                b"\xef\xbb\xbf{}",
            )
        )
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):  # it was broken before
        return tokens(rng, content)
    return json.dumps(json_value(rng, value), ensure_ascii=rng.random() < 0.7).encode("utf-8", "surrogatepass")


# ---- XML -------------------------------------------------------------------------------------------------------------

HEADS = (
    b'<?xml version="1.0" encoding="utf-16"?>',
    b'<?xml version="1.0" encoding="utf-7"?>',
    b'<?xml version="1.0" encoding="x"?>',
    b'<?xml version="1.1"?>',
    b"<?xml?>",
    b"<!DOCTYPE a>",
    b'<!DOCTYPE a [<!ENTITY b "bb">]>',
    b'<!DOCTYPE a SYSTEM "/etc/passwd">',
    b"<!-- -->",
    b"<![CDATA[x]]>",
    b"<?a b?>",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\0",
)


def xml(rng: Random, content: bytes) -> bytes:
    """Elements: left out, doubled, exchanged, nested, with other text; heads with other encodings and with document types."""
    way = rng.random()
    if way < 0.15:
        return any_bytes(rng, content)
    if way < 0.35:
        return tokens(rng, content)
    if way < 0.45:
        return rng.choice(HEADS) + content
    if len(content) > 1 << 15:  # it was broken before, and the expression below would take minutes
        return any_bytes(rng, content)
    elements = list(re.finditer(rb"<(\w+)[^<>]*>(?:[^<>]*)</\1>|<(\w+)[^<>]*>.*?</\2>", content, re.DOTALL))
    if not elements:
        return tokens(rng, content)
    for _ in range(rng.choice((1, 1, 2))):
        one, other = rng.choice(elements), rng.choice(elements)
        piece, tag = content[one.start() : one.end()], one[1] or one[2] or b"a"
        new = rng.choice(
            (
                b"",
                piece * 2,
                piece * 1000,
                content[other.start() : other.end()],
                b"<%s>%s</%s>" % (tag, piece, tag),
                b"<%s/>" % tag,
                b"<%s>%s</%s>" % (tag, encoded(rng.choice(NUMBERS)), tag),
                b"<%s>%s</%s>" % (tag, encoded(rng.choice(STRINGS)), tag),
                b"<%s>&b;</%s>" % (tag, tag),
                b"<%s>&#0;</%s>" % (tag, tag),
                b"<a>" * rng.choice((10, 2000, 100_000)),
                b"<%s a='1' a='2'/>" % tag,
            )
        )
        content = content[: one.start()] + new + content[one.end() :]
        elements = elements[:1]  # their places are no longer right, but what is cut wrongly is a mutation, too
    return content


def lines(rng: Random, content: bytes) -> bytes:
    """A table or a list: cells and lines."""
    way = rng.random()
    if way < 0.2:
        return any_bytes(rng, content)
    if way < 0.4:
        return tokens(rng, content)
    separator = b"," if b"," in content else b" "
    rows = [line.split(separator) for line in content.split(b"\n")]
    for _ in range(rng.choice((1, 1, 2, 3))):
        row = rng.choice(rows)
        k = rng.randrange(len(row)) if row else 0
        match rng.randrange(7):
            case 0 | 1 if row:
                row[k] = encoded(rng.choice(NUMBERS))
            case 2 if row:
                row[k] = encoded(rng.choice(STRINGS))
            case 3 if row:
                row[k] = rng.choice((b'"', b'""', b'"a\nb"', b'"' + b"x" * 200_000, b"'", b"\r", b"\0", b"\xff"))
            case 4 if row:
                del row[k]
            case 5:
                row.insert(k, rng.choice(rng.choice(rows) or [b""]))
            case _:
                rows.insert(rng.randrange(len(rows)), rng.choice((row, [])))
    ends = rng.choice((b"\n", b"\n", b"\n", b"\r\n", b"\r", b"\x0b"))
    return ends.join(separator.join(row) for row in rows)


# ---- NumPy's arrays --------------------------------------------------------------------------------------------------

DTYPES = (
    "<f4",
    ">f4",
    "<f2",
    "<f8",
    "<f16",
    "|b1",
    "|u1",
    "<i8",
    "<c8",
    "|O",
    "|S4",
    "<U4",
    "|V8",
    "<M8[s]",
    "<m8",
    "f",
    "x",
    "",
    "O",
    "<f3",
    "<f4,<f4",
    "(2,)f4",
    "S2147483647",
    "V0",
    "U0",
    "{'a': 1}",
)


def npy(rng: Random, content: bytes) -> bytes:
    """A .npy whose header says something else, or whose bytes are broken."""
    if rng.random() < 0.3 or len(content) < 12 or content[:6] != b"\x93NUMPY":
        return any_bytes(rng, content)
    size = int.from_bytes(content[8:10], "little")
    body = content[10 + size :]
    shape = rng.choice(
        (
            [rng.choice(WHOLE) for _ in range(rng.randrange(1, 6))],
            [1 << 29],
            [1 << 33],
            [0, 1 << 40],
            [2] * 70,
            [1] * 33,
            [True],
            [1.5],
        )
    )
    text = rng.choice(
        (
            f"{{'descr': {rng.choice(DTYPES)!r}, 'fortran_order': False, 'shape': (3,), }}",
            f"{{'descr': '<f4', 'fortran_order': {rng.choice((True, 1, None, []))}, 'shape': {tuple(shape)}, }}",
            f"{{'descr': '<f4', 'fortran_order': False, 'shape': {rng.choice((tuple(shape), shape, 3, None, 'x'))}, }}",
            f"{{'descr': [('a', '<f4'), ('b', {rng.choice(DTYPES)!r})], 'fortran_order': False, 'shape': (1,), }}",
            "(" * rng.choice((10, 90, 300, 5000)),
            "{" * 90,
            "-" * 5000 + "1",
            "{'descr': '<f4'}",
            "__import__('os')",
            "'\\N{x}'",
            "'\\d'",
            "{'a': 1L}",
            "1 is 1",
            "{1: {2}}",
            "\0",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), 'a': 1}",
            "'" * rng.randrange(1, 8),
            "0" + "9" * 5000,
            content[10 : 10 + size].decode("latin-1").replace("'", rng.choice(('"', "b'", "''", "\xe9"))),
        )
    )
    header = encoded(text) + b"\n"
    version = rng.choice((1, 1, 1, 2, 3, 0, 4, 255))
    length = len(header) if rng.random() < 0.9 else rng.choice(WHOLE) % 65536
    head = (
        b"\x93NUMPY"
        + bytes([version, rng.choice((0, 0, 0, 1))])
        + (length % (1 << 16)).to_bytes(2 if version == 1 else 4, "little")
    )
    return head + header + body * rng.choice((1, 1, 1, 0))

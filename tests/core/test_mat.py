"""The reader of .mat files, against a writer of the documented format."""

import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrp_toolbox.mat import CLASSES, MAX_DEPTH, NUMBERS, OVERHEAD, MatError, Other, described, read_mat, read_subsystem

KINDS = {np.dtype(name): kind for kind, name in NUMBERS.items()}
ORDERS = st.sampled_from("<>")


def element(order, kind, data, small=False):
    """`small`: in 8 bytes, with the data in the place of the size."""
    if small and len(data) <= 4:
        return struct.pack(f"{order}I", len(data) << 16 | kind) + data.ljust(4, b"\0")
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)


def packed(order, data):
    content = zlib.compress(data)
    return struct.pack(f"{order}II", 15, len(content)) + content


def numbers(order, values, stored, small=False):
    a = np.asarray(values).astype(np.dtype(stored).newbyteorder(order))
    return element(order, KINDS[np.dtype(stored)], a.tobytes(order="F"), small)


def array(order, kind, shape, body, name="", flags=0):
    head = numbers(order, [flags | kind, 0], "u4") + numbers(order, shape, "i4")
    return element(order, 14, head + element(order, 1, name.encode("latin-1"), small=True) + body)


def written(order, value, name=""):
    """Any of what the reader gives, and (class, stored type, numbers), as MATLAB stores it."""
    if isinstance(value, tuple):
        kind, stored, a = value
        return array(order, kind, a.shape, numbers(order, a, stored, small=True), name)
    if isinstance(value, str):
        text = value.encode("utf-16-le" if order == "<" else "utf-16-be")
        return array(order, 4, (1, len(text) // 2), element(order, 4, text), name)
    if value and isinstance(value[0], dict):
        keys = b"".join(key.encode().ljust(8, b"\0") for key in value[0])
        head = numbers(order, [8], "i4", small=True) + element(order, 1, keys)
        return array(
            order, 2, (len(value), 1), head + b"".join(written(order, d[key]) for d in value for key in value[0]), name
        )
    return array(order, 1, (1, len(value)), b"".join(written(order, v) for v in value), name)


def file(order, *variables):
    return b"MATLAB 5.0".ljust(124) + struct.pack(f"{order}HH", 0x0100, 0x4D49) + b"".join(variables)


def mat(order, **variables):
    return file(order, *(written(order, value, name) for name, value in variables.items()))


@st.composite
def arrays(draw):
    """Numbers of a class, in a type that holds them and that may be smaller."""
    kind, stored = draw(st.sampled_from(sorted(CLASSES))), draw(st.sampled_from(sorted(NUMBERS.values())))
    shape = draw(st.lists(st.integers(0, 3), min_size=2, max_size=4))
    both = [np.iinfo(name) for name in (CLASSES[kind], stored) if "f" not in name]
    least, most = max([-100, *(i.min for i in both)]), min([100, *(i.max for i in both)])
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    return kind, stored, rng.integers(least, most, shape)


texts = st.text(st.characters(codec="utf-16", exclude_categories=["Cs"]), max_size=9)
values = st.recursive(
    arrays() | texts,
    lambda inner: (
        st.lists(inner, max_size=3) | st.lists(st.fixed_dictionaries({"a": inner, "key": inner}), min_size=1, max_size=3)
    ),
    max_leaves=8,
)


def require_equal(found, value):
    if isinstance(value, tuple):
        assert found.dtype == CLASSES[value[0]]
        np.testing.assert_array_equal(found, value[2], strict=False)
        assert found.shape == value[2].shape
    elif isinstance(value, list):
        assert len(found) == len(value)
        for one, expected in zip(found, value, strict=True):
            require_equal(one, expected)
    elif isinstance(value, dict):
        assert set(found) == set(value)
        for key in value:
            require_equal(found[key], value[key])
    else:
        assert found == value


@given(values, ORDERS, st.booleans())
def test_what_was_written_is_read(value, order, compressed):
    """In both orders of bytes, compressed or not; numbers have the type of their class, however they are stored."""
    variables = [written(order, value, "one"), written(order, "end", "two")]
    content = file(order, *(packed(order, v) for v in variables) if compressed else variables)
    [(first, found), last] = read_mat(content, 1 << 20)
    assert (first, last) == ("one", ("two", "end"))
    require_equal(found, value)
    assert described(found)


@pytest.mark.parametrize("order", "<>")
def test_what_is_not_read_says_what_it_is(order):
    """A file may hold more than what is asked for."""
    real = numbers(order, [1.0], "f8")
    both = element(order, 1, b"ac bd ")
    variables = {
        "complex numbers": array(order, 6, (1, 1), real + real, flags=0x800),
        "an array of class 5": array(order, 5, (1, 1), real),
        "an array of class 16": array(order, 16, (1, 1), real),
        "text of 2 rows": array(order, 4, (2, 3), both),
    }
    found = read_mat(file(order, *variables.values()), 1 << 20)
    assert [(value.kind, value.content) for _, value in found] == [(kind, None) for kind in variables]
    assert [described(value) for _, value in found] == list(variables)
    [(_, logical)] = read_mat(file(order, array(order, 9, (1, 2), element(order, 2, b"\0\1"), flags=0x200)), 1 << 20)
    np.testing.assert_array_equal(logical, np.uint8([[0, 1]]), strict=True)
    [(_, [empty])] = read_mat(file(order, array(order, 1, (1, 1), element(order, 14, b""))), 1 << 20)
    assert empty.shape == (0, 0)


@pytest.mark.parametrize("order", "<>")
def test_objects_and_their_subsystem(order):
    head = numbers(order, [17, 0], "u4") + b"".join(element(order, 1, text) for text in (b"net", b"MCOS", b"pack.Net"))
    [(name, found)] = read_mat(file(order, element(order, 14, head + written(order, ["in"]))), 1 << 20)
    assert (name, found.kind, found.content) == ("net", "pack.Net", ["in"])
    assert isinstance(found, Other)
    inner = struct.pack(f"{order}HHI", 0x0100, 0x4D49, 0) + written(order, "text")
    assert read_subsystem(inner, 1 << 20) == [("", "text")]
    with pytest.raises(MatError, match="expected a subsystem, found b'no'"):
        read_subsystem(b"no", 1 << 20)


def nested(depth, value):
    for _ in range(depth):
        value = [value]
    return value


LARGE = written("<", (9, "u1", np.zeros((1, 1000), int)), "a")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"MATLAB 7.3".ljust(124) + b"\x00\x02IM" + bytes(400), "or one of version 7.3"),
        (mat("<", a=nested(MAX_DEPTH + 1, "x")), "at most 16 arrays in each other, found more"),
        (mat(">", a=(6, "u1", np.zeros((100, 100), int))), "arrays of at most 65,536 bytes, found more"),
        (mat("<", a=["" for _ in range(300)]), "arrays of at most 65,536 bytes, found more"),
        (mat("<", a="x" * 10_000), "arrays of at most 65,536 bytes, found more"),
        (file("<", packed("<", LARGE * 70)), "compressed data of at most 65,536 bytes, found more"),
        (file("<", *[packed("<", LARGE)] * 70), "compressed data of at most 65,536 bytes, found more"),
        (file("<", packed("<", LARGE)[:-5]), "cut off"),
        (file("<", array("<", 2, (9999, 1), numbers("<", [8], "i4") + element("<", 1, b""))), "arrays of at most 65,536"),
        (file("<", array("<", 2, (0, 1), numbers("<", [1], "i4") + element("<", 1, b"x" * 9999))), "arrays of at most 65,536"),
        (file("<", array("<", 2, (1, 1), numbers("<", [3], "i4") + element("<", 1, b"x" * 8))), "the names of fields"),
        (file("<", array("<", 9, [1] * 33, element("<", 2, b"a"))), "at most 32 sizes of an array, found 33"),
        (file("<", array("<", 4, (1, 1), element("<", 16, b"\xff"))), "text, found other bytes"),
        (file("<", array("<", 4, (1, 1), element("<", 9, b""))), "text, found 0 bytes of kind 9"),
        (file("<", array("<", 1, (1, 1), element("<", 9, b""))), "an array, found an element of kind 9"),
        (file("<", array("<", 9, (1, 1), b"")), "another element, found the end of an array"),
    ],
)
def test_what_breaks_the_format_is_refused(content, message):
    with pytest.raises(MatError, match=message):
        read_mat(content, 1 << 16)


def test_a_bomb_behind_what_fills_the_memory_is_not_unpacked():
    """zlib takes 0 for "no limit", and 0 bytes are left."""
    first = written("<", (9, "u1", np.zeros((1, 1 << 16), int)), "a")
    bomb = file("<", packed("<", first), packed("<", bytes(1 << 26)))
    tracemalloc.start()
    with pytest.raises(MatError, match="compressed data of at most"):
        read_mat(bomb, len(first) + OVERHEAD + 4)  # of the name
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20

"""Files as the original LRP Toolbox writes them, and its layers as its documentation states them, independent of ours.

The facts are from its sources (github.com/sebastian-lapuschkin/lrp_toolbox: python/model_io.py, python/modules/*.py,
matlab/+model_io/*.m, matlab/+modules/*.m); the code is ours.
"""

import struct
import zlib

import numpy as np

# ---- Its text format -------------------------------------------------------------------------------------------------


def text_of(layers, *, rows=False, by="python"):
    """`rows`: each row of a dense layer's weights on a line of its own, as in older files. `by` matlab: %e and a last space."""
    lines = []

    def line(a):
        return " ".join(map(repr, a.ravel().tolist())) if by == "python" else "".join(f"{n:e} " for n in a.flat)

    for kind, sizes, *arrays in layers:
        lines.append(" ".join(map(str, (kind, *sizes))))
        for a in arrays:
            lines += map(line, a) if rows and kind == "Linear" and a.ndim == 2 else [line(a)]
    return "\n".join(lines) + "\n"


def lenet(rng):
    """The layers of its LeNet-5, which it feeds with 32 × 32."""

    def conv(h, w, d, n):
        return "Convolution", (h, w, d, n, 1, 1), rng.standard_normal((h, w, d, n)) / np.sqrt(h * w * d), rng.standard_normal(n)

    rect, pool = ("Rect", ()), ("SumPool", (2, 2, 2, 2))
    return [conv(5, 5, 1, 10), rect, pool, conv(5, 5, 10, 25), rect, pool, conv(4, 4, 25, 100), rect, pool, conv(1, 1, 100, 10),
            ("Flatten", ())]  # fmt: skip


# ---- Its .mat files: objects of Matlab classes -----------------------------------------------------------------------

PROPERTIES = {
    "Linear": lambda sizes, w, b: {"m": [[sizes[0]]], "n": [[sizes[1]]], "W": w, "B": b[None]},
    "Convolution": lambda sizes, w, b: {"filtersize": [sizes[:4]], "stride": [sizes[4:]], "W": w, "B": b[None]},
    "SumPool": lambda sizes: {"stride": [sizes[2:]], "pool": [sizes[:2]]},
    "MaxPool": lambda sizes: {"stride": [sizes[2:]], "pool": [sizes[:2]]},
}


def element(kind, data):
    return struct.pack("<2I", kind, len(data)) + data + b"\0" * (-len(data) % 8)


def matrix(kind, shape, body, name=b""):
    head = element(6, struct.pack("<2I", kind, 0)) + element(5, np.array(shape, "<i4").tobytes()) + element(1, name)
    return element(14, head + body)


def value(a, name=b""):
    """Numbers, as Matlab stores them: a last axis of size 1 is dropped, and whole numbers take one byte."""
    a = np.asarray(a)
    if a.dtype == np.uint32:
        return matrix(13, a.shape, element(6, a.tobytes("F")), name)
    if a.dtype == np.uint8:
        return matrix(9, a.shape, element(2, a.tobytes("F")), name)
    shape = list(a.shape)
    while len(shape) > 2 and shape[-1] == 1:
        shape.pop()
    small = (a == a.astype(np.uint8)).all() if a.size and (abs(a) < 256).all() else False
    return matrix(
        6, shape, element(2, a.astype("u1").tobytes("F")) if small else element(9, a.astype("<f8").tobytes("F")), name
    )


def cell(values, shape=None):
    return matrix(1, shape or (1, len(values)), b"".join(values))


def record(fields):
    """A struct."""
    width = 32
    names = b"".join(name.encode().ljust(width, b"\0") for name in fields)
    return matrix(2, (1, 1), element(5, struct.pack("<i", width)) + element(1, names) + b"".join(fields.values()))


def opaque(name, kind, content):
    head = element(6, struct.pack("<2I", 17, 0)) + element(1, name) + element(1, b"MCOS") + element(1, kind)
    return element(14, head + content)


def reference(number, kind):
    return np.array([[0xDD000000], [2], [1], [1], [number], [kind]], np.uint32)


def mat_of(layers, *, compressed=True, version=4):
    """The model as an object Sequential with a cell of objects, in version 7 (compressed) or 6."""
    kinds = ["Sequential", *dict.fromkeys(kind for kind, *_ in layers)]
    objects = [
        (
            "Sequential",
            {"modules": cell([value(reference(k, 1 + kinds.index(kind))) for k, (kind, *_) in enumerate(layers, 2)])},
        )
    ]
    for kind, sizes, *arrays in layers:
        own = PROPERTIES[kind](sizes, *arrays) if kind in PROPERTIES else {}
        objects.append((kind, {name: value(np.asarray(a, float)) for name, a in own.items()}))
    names = ["modules", *kinds, *dict.fromkeys(name for _, own in objects for name in own)]
    number = {name: k for k, name in enumerate(names, 1)}
    values, blocks = [], [0, 0]
    for _, own in objects:
        block = [len(own)]
        for name, stored in own.items():
            block += [number[name], 1, len(values)]
            values.append(stored)
        blocks += block + [0] * (len(block) % 2)
    regions = [
        [0] * 4 + [n for kind in kinds for n in (1, number[kind], 0, 0)],
        [0, 0],
        [0] * 6 + [n for k, (kind, _) in enumerate(objects, 1) for n in (1 + kinds.index(kind), 0, 0, 0, k, k)],
        blocks,
        [0, 0] * (len(objects) + 1),
    ]
    text = b"".join(name.encode() + b"\0" for name in names)
    text += b"\0" * (-(40 + len(text)) % 8)
    ends = [40 + len(text)]
    for region in regions:
        ends.append(ends[-1] + 4 * len(region))
    table = struct.pack("<10i", version, len(names), *ends, *[0] * (8 - len(ends))) + text
    table += b"".join(np.array(region, "<i4").tobytes() for region in regions)
    defaults = cell([record({"lrp_var": value(np.empty((0, 0)))})] * (len(kinds) + 1), (len(kinds) + 1, 1))
    empty, aliases = value(np.empty((0, 0))), value(np.zeros((len(kinds) + 1, 1)))
    tail = {2: [], 3: [aliases], 4: [cell([empty] * (len(kinds) + 1), (len(kinds) + 1, 1)), aliases]}[version]
    cells = [value(np.frombuffer(table, "u1")[:, None]), value(np.empty((0, 0))), *values, *tail, defaults]
    wrapper = opaque(b"", b"FileWrapper__", cell(cells, (len(cells), 1)))
    inner = b"\x00\x01IM\0\0\0\0" + record({"MCOS": wrapper})
    variables = [opaque(b"model", b"modules.Sequential", value(reference(1, 1))), value(np.frombuffer(inner, "u1")[None])]
    if compressed:
        variables = [struct.pack("<2I", 15, len(z)) + z for z in map(zlib.compress, variables)]
    head = b"MATLAB 5.0 MAT-file, Platform: GLNXA64".ljust(116) + struct.pack("<Q", 128 + len(variables[0])) + b"\x00\x01IM"
    return head + b"".join(variables)


# ---- Its layers, forward and backward --------------------------------------------------------------------------------


def windows(x, h, w, s, t):
    """Where the windows lie on (height, width, channel)."""
    for i in range((x.shape[0] - h) // s + 1):
        for j in range((x.shape[1] - w) // t + 1):
            yield i, j, (slice(i * s, i * s + h), slice(j * t, j * t + w))


def forward(layers, x, flatten="C"):
    """The inputs of all layers, and the output. `flatten`: C as its Python part does it, F as its Matlab part."""
    seen = [x]
    for kind, sizes, *arrays in layers:
        if kind == "Linear":
            x = x @ arrays[0] + arrays[1]
        elif kind in ("Convolution", "SumPool", "MaxPool"):
            h, w, s, t = (*sizes[:2], *sizes[-2:])
            y = np.zeros(((x.shape[0] - h) // s + 1, (x.shape[1] - w) // t + 1, sizes[3] if arrays else x.shape[2]))
            for i, j, at in windows(x, h, w, s, t):
                if kind == "Convolution":
                    y[i, j] = np.einsum("abc,abcn->n", x[at], arrays[0]) + arrays[1]
                else:
                    y[i, j] = x[at].max((0, 1)) if kind == "MaxPool" else x[at].sum((0, 1)) / np.sqrt(h * w)
            x = y
        elif kind == "Flatten":
            x = x.reshape(-1, order=flatten)
        else:
            x = {"Rect": lambda x: np.maximum(x, 0), "Tanh": np.tanh, "SoftMax": lambda x: np.exp(x) / np.exp(x).sum()}[kind](x)
        seen.append(x)
    return seen


def shares(rule, param, z, w, b):
    """What each z_ij gets of R_j, (in, out): "simple", "epsilon", "alphabeta", "flat" and "ww"."""
    if rule in ("flat", "ww"):
        z = np.ones_like(z) if rule == "flat" else w**2
        return z / z.sum(0)
    if rule == "alphabeta":
        p, n = np.maximum(z, 0), np.minimum(z, 0)
        positive = p / (p.sum(0) + np.maximum(b, 0) + 1e-300)
        return param * positive + (1 - param) * (n / (n.sum(0) + np.minimum(b, 0) - 1e-300))
    total = z.sum(0) + b
    return z / (total + (param if rule == "epsilon" else 1e-300) * np.where(total >= 0, 1, -1))


def relevance(layers, seen, R, rule, param=0.0, pool=None, flatten="C"):
    """R at the input. `pool`: rule and parameter of SumPool, of which the weights are 1 for all rules."""
    for (kind, sizes, *arrays), x in zip(layers[::-1], seen[-2::-1], strict=True):
        if kind == "Linear":
            R = shares(rule, param, x[:, None] * arrays[0], arrays[0], arrays[1]) @ R
        elif kind == "Flatten":
            R = R.reshape(x.shape, order=flatten)
        elif kind in ("Convolution", "SumPool", "MaxPool"):
            h, w, s, t = (*sizes[:2], *sizes[-2:])
            below = np.zeros(x.shape)
            for i, j, at in windows(x, h, w, s, t):
                if kind == "Convolution":
                    v = arrays[0].reshape(-1, arrays[0].shape[3])
                    below[at] += (shares(rule, param, x[at].reshape(-1, 1) * v, v, arrays[1]) @ R[i, j]).reshape(x[at].shape)
                else:
                    z = x[at].reshape(-1, x.shape[2])
                    if rule in ("flat", "ww"):
                        z = np.ones(z.shape) / len(z)
                    elif kind == "MaxPool":  # all that are as large as the largest get equal parts
                        z = (z == z.max(0)) / (z == z.max(0)).sum(0)
                    else:
                        z = shares(*(pool or (rule, param)), z, np.ones(z.shape), np.zeros(z.shape[1]))
                    below[at] += (z * R[i, j]).reshape(x[at].shape)
            R = below
    return R

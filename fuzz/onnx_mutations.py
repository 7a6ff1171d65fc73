"""Ways to break an ONNX file: its bytes, and, with the package `onnx`, its structure."""

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

GIANT = (0, -1, 1, 2, 3, 7, 64, 65535, 1 << 16, 1 << 20, 1 << 31, (1 << 31) - 1, 1 << 40, (1 << 62), -(1 << 62), (1 << 63) - 1)
OPS = ["Conv", "Gemm", "MatMul", "Relu", "Reshape", "Transpose", "Expand", "ConstantOfShape", "Range", "Concat", "Slice"]
OPS += ["Pad", "Resize", "Split", "Gather", "MaxPool", "AveragePool", "ReduceMean", "Softmax", "If", "Loop", "QuantizeLinear"]
OPS += [
    "DequantizeLinear",
    "Tile",
    "Add",
    "Mul",
    "Cast",
    "Unsqueeze",
    "Squeeze",
    "Flatten",
    "BatchNormalization",
    "LRN",
    "Clip",
]


def net():
    """A small net with everything in it that shapes or numbers of a file decide on."""
    rng = np.random.default_rng(0)

    def constant(name, a):
        return numpy_helper.from_array(np.asarray(a), name)

    def w(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    nodes = [
        helper.make_node("Pad", ["x", "pads"], ["p"], name="pad"),
        helper.make_node("Conv", ["p", "w1", "b1"], ["c1"], name="conv1", kernel_shape=[3, 3], strides=[1, 1]),
        helper.make_node("BatchNormalization", ["c1", "s", "s", "s", "v"], ["n1"], name="norm"),
        helper.make_node("Clip", ["n1", "zero", "six"], ["r1"], name="relu6"),
        helper.make_node("MaxPool", ["r1"], ["m1"], name="pool", kernel_shape=[2, 2], strides=[2, 2], pads=[0, 0, 1, 1]),
        helper.make_node("Conv", ["m1", "w2"], ["c2"], name="conv2", group=2, pads=[1, 1, 1, 1], dilations=[1, 1]),
        helper.make_node("Sigmoid", ["c2"], ["g"], name="gate"),
        helper.make_node("Mul", ["c2", "g"], ["silu"], name="silu"),
        helper.make_node("Add", ["silu", "m1"], ["sum"], name="add"),
        helper.make_node("Shape", ["sum"], ["shape"], name="shape"),
        helper.make_node("Constant", [], ["k"], name="k", value=constant("", np.asarray(0, np.int64))),
        helper.make_node("Gather", ["shape", "k"], ["n"], name="gather", axis=0),
        helper.make_node("Unsqueeze", ["n", "axes"], ["n1d"], name="unsqueeze"),
        helper.make_node("ConstantOfShape", ["one"], ["rest"], name="rest", value=constant("", np.asarray([-1], np.int64))),
        helper.make_node("Concat", ["n1d", "rest"], ["target"], name="concat", axis=0),
        helper.make_node("Resize", ["sum", "", "scales"], ["up"], name="up", mode="nearest"),
        helper.make_node("AveragePool", ["up"], ["down"], name="down", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Split", ["down"], ["left", "right"], name="split", axis=1),
        helper.make_node("Concat", ["right", "left"], ["swapped"], name="swap", axis=1),
        *_written_out(),
        helper.make_node("Reshape", ["bent", "target"], ["flat"], name="flatten"),
        helper.make_node("Gemm", ["flat", "w3", "b3"], ["logits"], name="fc", transB=1),
        helper.make_node("Softmax", ["logits"], ["y"], name="softmax", axis=1),
    ]
    tensors = [
        constant("pads", np.asarray([0, 0, 1, 1, 0, 0, 1, 1], np.int64)),
        constant("w1", w(4, 3, 3, 3)), constant("b1", w(4)), constant("s", w(4)), constant("v", abs(w(4))),
        constant("zero", np.float32(0)), constant("six", np.float32(6)), constant("w2", w(4, 2, 3, 3)),
        constant("axes", np.asarray([0], np.int64)), constant("one", np.asarray([1], np.int64)),
        constant("scales", np.asarray([1, 1, 2, 2], np.float32)), constant("w3", w(5, 64)), constant("b3", w(5)),
        constant("three", np.float32(3)), constant("all", np.asarray([-1], np.int64)),
        constant("places", np.arange(64).reshape(1, 4, 4, 4)), constant("full", np.asarray([1, 4, 4, 4], np.int64)),
    ]  # fmt: skip
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 3, 8, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 5])
    graph = helper.make_graph(nodes, "net", [x], [y], tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _written_out():
    """Nodes that are read as one layer: a view, a norm, HardSwish, and a gate that is repeated."""
    return [
        helper.make_node("Reshape", ["swapped", "all"], ["row"], name="row"),
        helper.make_node("Gather", ["row", "places"], ["view"], name="view"),
        helper.make_node("ReduceMean", ["view"], ["mean"], name="mean", axes=[1]),
        helper.make_node("Sub", ["view", "mean"], ["centred"], name="centred"),
        helper.make_node("Mul", ["centred", "centred"], ["square"], name="square"),
        helper.make_node("ReduceMean", ["square"], ["variance"], name="variance", axes=[1]),
        helper.make_node("Add", ["variance", "three"], ["more"], name="more"),
        helper.make_node("Sqrt", ["more"], ["root"], name="root"),
        helper.make_node("Div", ["centred", "root"], ["normal"], name="normal"),
        helper.make_node("Add", ["normal", "three"], ["up3"], name="up3"),
        helper.make_node("Clip", ["up3", "zero", "six"], ["relu6b"], name="relu6b"),
        helper.make_node("Mul", ["normal", "relu6b"], ["product"], name="product"),
        helper.make_node("Div", ["product", "six"], ["hardswish"], name="hardswish"),
        helper.make_node("Sigmoid", ["mean"], ["gate"], name="gate2"),
        helper.make_node("Expand", ["gate", "full"], ["wide"], name="wide"),
        helper.make_node("Mul", ["wide", "hardswish"], ["bent"], name="bent"),
    ]


# ---- Bytes -----------------------------------------------------------------------------------------------------------


def _bits(rng, content):
    content = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8, 64))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def _truncated(rng, content):
    return content[: rng.randrange(len(content))]


def _cut(rng, content):
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.randrange(1, 64) :]


def _repeated(rng, content):
    start = rng.randrange(len(content))
    piece = content[start : start + rng.randrange(1, 64)]
    return content[:start] + piece * rng.choice((2, 3, 1000)) + content[start:]


def _lengths(rng, content):
    """Bytes that say how long or large something is."""
    content = bytearray(content)
    start = rng.randrange(len(content) - 10)
    content[start : start + rng.randrange(1, 10)] = b"\xff" * rng.randrange(1, 10) + bytes([rng.randrange(128)])
    return bytes(content)


def _deep(rng, content):
    """Graphs within graphs, deeper than a parser that calls itself can go."""

    def field(number, inner):
        size, length = len(inner), b""
        while size > 127:
            length, size = length + bytes([size & 127 | 128]), size >> 7
        return bytes([number << 3 | 2]) + length + bytes([size]) + inner

    graph = b""
    for _ in range(rng.choice((30, 100, 1000))):
        graph = field(1, field(5, field(6, graph)))  # a node, its attribute, and the graph that this is
    return content + field(7, graph)


def _noise(rng, content):
    return rng.randbytes(rng.randrange(2000))


# ---- Structure -------------------------------------------------------------------------------------------------------


def _sizes(rng, model):
    """A size, of a constant or of the input."""
    if rng.random() < 0.5:
        tensor = rng.choice(model.graph.initializer)
        tensor.dims[:] = [rng.choice(GIANT) for _ in range(rng.randrange(1, 6))]
    else:
        dims = model.graph.input[0].type.tensor_type.shape.dim
        rng.choice(dims).dim_value = rng.choice(GIANT)


def _whole_constants(rng, model):
    """What shapes, axes and borders are computed from."""
    tensors = [t for t in model.graph.initializer if t.data_type == TensorProto.INT64]
    tensor = rng.choice(tensors)
    count = rng.choice((1, 2, 4, 8, 65))
    tensor.CopyFrom(numpy_helper.from_array(np.asarray([rng.choice(GIANT) for _ in range(count)], np.int64), tensor.name))


def _attributes(rng, model):
    node = rng.choice([n for n in model.graph.node if n.attribute])
    a = rng.choice(node.attribute)
    if a.ints:
        a.ints[:] = [rng.choice(GIANT) for _ in range(rng.randrange(7))]
    elif a.type == onnx.AttributeProto.INT:
        a.i = rng.choice(GIANT)
    else:
        a.type = rng.randrange(15)


def _wires(rng, model):
    """Cycles, and names that are not there."""
    node, other = rng.choice(model.graph.node), rng.choice(model.graph.node)
    if node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice([*other.output, "nowhere", ""])
    if rng.random() < 0.3:
        node.output[0] = rng.choice([*other.output, "", "x"])


def _order(rng, model):
    nodes = list(model.graph.node)
    rng.shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _operators(rng, model):
    node = rng.choice(model.graph.node)
    node.op_type = rng.choice(OPS)
    if rng.random() < 0.2:
        node.domain = rng.choice(("com.microsoft", "ai.onnx.ml", "x" * 10_000))


def _folded(rng, model):
    """Constants that are large only once they are computed."""
    big = helper.make_tensor("big", TensorProto.INT64, [3], [rng.choice(GIANT) for _ in range(3)])
    model.graph.initializer.append(big)
    kind = rng.choice(("ConstantOfShape", "Expand", "Range", "Add"))
    if kind == "ConstantOfShape":
        nodes = [helper.make_node(kind, ["big"], ["w"], name="big")]
    elif kind == "Expand":
        nodes = [helper.make_node(kind, ["zero", "big"], ["w"], name="big")]
    elif kind == "Range":
        limits = [helper.make_tensor(n, TensorProto.INT64, [], [rng.choice(GIANT)]) for n in ("from", "to", "by")]
        model.graph.initializer.extend(limits)
        nodes = [helper.make_node(kind, ["from", "to", "by"], ["w"], name="big")]
    else:  # twice as many at each step
        nodes = [helper.make_node("Concat", [f"v{k}"] * 8, [f"v{k + 1}"], axis=0) for k in range(20)]
        model.graph.initializer.append(helper.make_tensor("v0", TensorProto.FLOAT, [8], [1.0] * 8))
        nodes.append(helper.make_node("Identity", ["v20"], ["w"], name="big"))
    before = list(model.graph.node)
    next(n for n in before if n.name == "conv1").input[1] = "w"
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *before])


def _nested(rng, model):
    """Graphs within graphs."""
    graph = helper.make_graph([], "inner", [], [])
    for _ in range(rng.choice((1, 5, 20))):
        node = helper.make_node("If", ["x"], ["z"], then_branch=graph, else_branch=helper.make_graph([], "no", [], []))
        graph = helper.make_graph([node], "outer", [], [])
    model.graph.node.extend(graph.node)


def _outside(rng, model):
    """Constants in other files."""
    tensor = rng.choice(model.graph.initializer)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    places = ("../secret", "/etc/passwd", "a/../../secret", "..\\secret", "link", "folder", "", ".", "\0", "C:\\x", "secret/x")
    for key, value in (
        ("location", rng.choice(places)),
        ("offset", rng.choice(("0", "-1", "x", str(1 << 62)))),
        ("length", rng.choice(("0", "36", "-1", str(1 << 62)))),
    ):
        tensor.external_data.add(key=key, value=value)


def _head(rng, model):
    model.ir_version = rng.choice(GIANT)
    model.opset_import[0].version = rng.choice((*GIANT, 6, 29, 99))
    if rng.random() < 0.5:
        model.functions.add(name="f", domain="x")


def _endings(rng, model):
    """No inputs, several, no outputs, others."""
    rng.choice(
        (
            lambda: model.graph.ClearField("input"),
            lambda: model.graph.ClearField("output"),
            lambda: model.graph.input.add(name="z"),
            lambda: setattr(model.graph.output[0], "name", rng.choice(("nowhere", "x", "w1", "shape", "c1"))),
            lambda: setattr(model.graph.input[0].type.tensor_type, "elem_type", rng.randrange(30)),
        )
    )()


def _many(rng, model):
    """More nodes, or longer names, than any net has."""
    if rng.random() < 0.5:
        model.graph.node.extend(helper.make_node("Relu", ["x"], [f"r{k}"]) for k in range(rng.choice((100, 12_000))))
        model.graph.output[0].name = "r99"
    else:
        name = "x" * rng.choice((1000, 1_000_000))
        node = rng.choice(model.graph.node)
        node.name, node.op_type = name, rng.choice((name, node.op_type))


OF_BYTES = (_bits, _bits, _truncated, _cut, _repeated, _lengths, _lengths, _deep, _noise)
OF_STRUCTURE = (
    _sizes,
    _whole_constants,
    _attributes,
    _attributes,
    _wires,
    _order,
    _operators,
    _operators,
    _folded,
    _nested,
    _outside,
    _head,
    _endings,
    _many,
)


def mutated(rng, content):
    """A broken file."""
    if rng.random() < 0.4:
        mutations = [rng.choice(OF_BYTES) for _ in range(rng.choice((1, 1, 2)))]
        for f in mutations:
            content = f(rng, content) if len(content) > 64 else content
    else:
        try:
            model = onnx.ModelProto.FromString(content)
        except DecodeError:  # it was broken before
            return _bits(rng, content)
        mutations = [rng.choice(OF_STRUCTURE) for _ in range(rng.choice((1, 1, 2, 3)))]
        for f in mutations:
            try:
                f(rng, model)
            except (IndexError, StopIteration, ValueError):  # an earlier mutation took away what this one is about
                continue
        content = model.SerializeToString()
    return content

"""ONNX files: what is read computes what onnxruntime computes, and what is not read is refused for a reason."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from conftest import ROOT  # noqa: E402
from hypothesis import assume, given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx_files import model, onnxruntime, save  # noqa: E402
from support import blocks, closes, rngs, run  # noqa: E402

import lrp_toolbox as lrp  # noqa: E402
from lrp_toolbox.importers.onnx import read_net, read_onnx  # noqa: E402
from lrp_toolbox.importers.onnx.file import parse  # noqa: E402
from lrp_toolbox.importers.onnx.model import net_of  # noqa: E402
from lrp_toolbox.io import ModelFormatError  # noqa: E402


def read(made, **options):
    return net_of(parse(made.SerializeToString(), "net.onnx", Path()), **{"dtype": np.float64, **options})


def ours(found, *inputs):
    """The output in ONNX's axes, of inputs in ONNX's axes."""
    x = tuple(layout.to_ours(a.astype(np.float64)) for layout, a in zip(found.inputs, inputs, strict=True))
    return found.output.to_onnx(found.net(x if len(x) > 1 else x[0]))


def agree(made, *inputs, **options):
    """The net, once its output is onnxruntime's."""
    found = read(made, logits=False, **options)
    expected = onnxruntime(made, *inputs)
    y = ours(found, *inputs)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5 * max(abs(expected).max(), 1))
    return found.net


def w(rng, *shape):
    return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


def kinds(net):
    return [type(module).__name__ for module in net]


# ---- Random graphs ---------------------------------------------------------------------------------------------------


KINDS = ["conv", "depthwise", "pool", "norm", "activation", "join", "gate"]
KINDS += ["constant", "slice", "pad", "resize", "shuffle", "split"]


@st.composite
def graphs(draw):
    """A random net of convolutions, pools, norms, activations, sums, gates, concatenations, slices, pads and resizes."""
    rng = draw(rngs())
    size = draw(st.integers(5, 9)), draw(st.integers(5, 9))
    nodes, constants, values = [], {}, [("x", 4, size)]  # name, channels, (height, width)

    def constant(a):
        name = f"k{len(constants)}"
        constants[name] = a
        return name

    def node(op, reads, **attributes):
        name = f"v{len(nodes)}"
        nodes.append((op, reads, [name], attributes))
        return name

    def slide(n, kernel, stride, pads, dilation=1):
        return (n + sum(pads) - dilation * (kernel - 1) - 1) // stride + 1

    for _ in range(draw(st.integers(1, 7))):
        name, channels, (high, wide) = draw(st.sampled_from(values))
        kind = draw(st.sampled_from(KINDS))
        if kind in ("conv", "depthwise"):
            kernel, dilation, stride = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
            pads = [draw(st.integers(0, 1)) for _ in range(4)]
            span = dilation * (kernel - 1) + 1
            if min(high + pads[0] + pads[2], wide + pads[1] + pads[3]) < span:
                continue
            group = channels if kind == "depthwise" else 1
            out = channels if kind == "depthwise" else 4
            reads = [name, constant(w(rng, out, channels // group, kernel, kernel))]
            reads += [constant(w(rng, out))] if draw(st.booleans()) else []
            options = {"pads": pads, "strides": [stride] * 2, "dilations": [dilation] * 2, "group": group}
            if draw(st.integers(0, 3)) == 0:
                auto = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER"]))
                y = node("Conv", reads, auto_pad=auto, strides=[stride] * 2, group=group)
                shape = -(-high // stride), -(-wide // stride)
            else:
                y = node("Conv", reads, **options)
                shape = (slide(high, kernel, stride, pads[::2], dilation), slide(wide, kernel, stride, pads[1::2], dilation))
            values.append((y, out, shape))
        elif kind == "pool":
            kernel, stride = draw(st.integers(2, 3)), draw(st.integers(1, 2))
            pads = [draw(st.integers(0, 1)) for _ in range(4)]
            if min(high + pads[0] + pads[2], wide + pads[1] + pads[3]) < kernel:
                continue
            op = draw(st.sampled_from(["MaxPool", "AveragePool"]))
            more = {"count_include_pad": draw(st.integers(0, 1))} if op == "AveragePool" else {}
            y = node(op, [name], kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads, **more)
            values.append((y, channels, (slide(high, kernel, stride, pads[::2]), slide(wide, kernel, stride, pads[1::2]))))
        elif kind == "norm":
            kind = draw(st.sampled_from(["BatchNormalization", "InstanceNormalization"]))
            parts = [w(rng, channels, 1)[:, 0] for _ in range(3)] + [abs(w(rng, channels, 1)[:, 0]) + 0.5]
            parts = parts[: 4 if kind == "BatchNormalization" else 2]
            values.append((node(kind, [name, *map(constant, parts)], epsilon=0.01), channels, (high, wide)))
        elif kind == "activation":
            ops = [
                "Relu",
                "LeakyRelu",
                "Sigmoid",
                "Tanh",
                "Elu",
                "Softplus",
                "HardSigmoid",
                "HardSwish",
                "PRelu",
                "Selu",
                "Neg",
            ]
            op = draw(st.sampled_from(ops))
            values.append(
                (node(op, [name, *([constant(w(rng, channels, 1, 1))] if op == "PRelu" else [])]), channels, (high, wide))
            )
        elif kind == "join":
            others = [v for v in values if v[2] == (high, wide)]
            other = draw(st.sampled_from(others))
            op = draw(st.sampled_from(["Concat", *["Add", "Sub", "Mul"] * (other[1] == channels)]))
            more, out = ({"axis": 1}, channels + other[1]) if op == "Concat" else ({}, channels)
            if out <= 16:
                values.append((node(op, [name, other[0]], **more), out, (high, wide)))
        elif kind == "gate":
            pooled = node("GlobalAveragePool", [name])
            gate = node("Sigmoid", [node("Conv", [pooled, constant(w(rng, channels, channels, 1, 1))])])
            values.append((node("Mul", draw(st.permutations([name, gate]))), channels, (high, wide)))
        elif kind == "constant":
            shape = draw(st.sampled_from([(), (1, channels, 1, 1), (channels, high, wide), (1, 1, 1, wide), (high, 1)]))
            op = draw(st.sampled_from(["Add", "Mul", "Sub", "Div"]))
            a = (rng.random(shape) + 0.5).astype(np.float32)
            reads = [name, constant(a)]
            values.append((node(op, reads if op == "Div" else draw(st.permutations(reads))), channels, (high, wide)))
        elif kind == "slice":
            axis = draw(st.sampled_from([1, 2, 3, -1]))
            n = (channels, high, wide)[axis - 1 if axis > 0 else 2]
            start, step = draw(st.integers(0, n - 1)), draw(st.integers(1, 2))
            parts = [constant(np.asarray([k])) for k in (start, 1 << 31, axis, step)]
            sizes = [channels, high, wide]
            sizes[axis - 1 if axis > 0 else 2] = len(range(start, n, step))
            values.append((node("Slice", [name, *parts]), sizes[0], tuple(sizes[1:])))
        elif kind == "pad":
            pads = [draw(st.integers(0, 1)) for _ in range(4)]
            mode = draw(st.sampled_from(["constant", "edge", "reflect"]))
            if mode == "reflect" and min(high, wide) < 2:
                continue
            reads = [name, constant(np.asarray([0, 0, *pads[:2], 0, 0, *pads[2:]]))]
            reads += [constant(np.float32(draw(st.sampled_from([0, 2]))))] if mode == "constant" else []
            values.append((node("Pad", reads, mode=mode), channels, (high + pads[0] + pads[2], wide + pads[1] + pads[3])))
        elif kind == "resize" and high * wide <= 100:
            mode = draw(st.sampled_from(["nearest", "linear"]))
            place = draw(st.sampled_from(["half_pixel", "asymmetric", "align_corners"]))
            scale = constant(np.asarray([1, 1, 2, 3], np.float32))
            more = {"nearest_mode": "floor"} if mode == "nearest" else {}
            y = node("Resize", [name, "", scale], mode=mode, coordinate_transformation_mode=place, **more)
            values.append((y, channels, (2 * high, 3 * wide)))
        elif kind == "shuffle" and channels % 2 == 0:
            split = constant(np.asarray([0, 2, channels // 2, high, wide]))
            whole = constant(np.asarray([0, -1, high, wide]))
            turned = node("Transpose", [node("Reshape", [name, split])], perm=[0, 2, 1, 3, 4])
            values.append((node("Reshape", [turned, whole]), channels, (high, wide)))
        elif kind == "split" and channels % 2 == 0:
            first, second = f"v{len(nodes)}a", f"v{len(nodes)}b"
            nodes.append(("Split", [name], [first, second], {"axis": 1}))
            values += [(first, channels // 2, (high, wide)), (second, channels // 2, (high, wide))]
    name, channels, (high, wide) = values[-1]
    end = draw(st.sampled_from(["map", "flatten", "mean", "reshape"]))
    if end == "map" or name == "x":
        nodes.append(("Relu", [name], ["y"]))
    else:
        features = channels if end == "mean" else channels * high * wide
        if end == "mean":
            flat = node("ReduceMean", [name], axes=[2, 3], keepdims=0)
        elif end == "flatten":
            flat = node("Flatten", [name])
        else:  # as PyTorch writes x.view(x.shape[0], -1)
            n = node("Gather", [node("Shape", [name]), constant(np.asarray(0))], axis=0)
            shape = node("Concat", [node("Unsqueeze", [n, constant(np.asarray([0]))]), constant(np.asarray([-1]))], axis=0)
            flat = node("Reshape", [name, shape])
        hidden = node("Relu", [flat])
        nodes.append(("Gemm", [hidden, constant(w(rng, 3, features)), constant(w(rng, 3))], ["y"], {"transB": 1}))
    x = rng.standard_normal((2, 4, *size)).astype(np.float32)
    return model(nodes, constants, x=("n", 4, *size)), x


@given(graphs())
def test_random_graphs_compute_what_onnxruntime_computes(graph):
    made, x = graph
    agree(made, x)


@given(graphs())
def test_the_ledger_of_a_random_graph_closes(graph):
    made, x = graph
    found = read(made, logits=False)
    assume(found.net.input_axes == 3)  # `explain` takes the first layer's axes for the input's, those of a Slice for example
    one = found.inputs[0].to_ours(x.astype(np.float64))[0]
    y = found.net(one[None])[0]
    R = np.random.default_rng(0).standard_normal(y.shape)
    e = lrp.explain(found.net, one, target=None, composite=lrp.Epsilon(0.01), start=R)
    assert closes(e, 1e-9)


# ---- Axes ------------------------------------------------------------------------------------------------------------


def test_a_net_of_tensorflow_keeps_no_transpose():
    rng = np.random.default_rng(0)
    nodes = [
        ("Transpose", ["x"], ["a"], {"perm": [0, 3, 1, 2]}),
        ("Conv", ["a", "w"], ["b"], {"pads": [1, 1, 1, 1]}),
        ("Relu", ["b"], ["c"]),
        ("Transpose", ["c"], ["d"], {"perm": [0, 2, 3, 1]}),
        ("Reshape", ["d", "shape"], ["e"]),
        ("MatMul", ["e", "v"], ["f"]),
        ("Add", ["f", "b2"], ["y"]),
    ]
    constants = {"w": w(rng, 5, 3, 3, 3), "v": w(rng, 5 * 8 * 6, 4), "b2": w(rng, 4), "shape": np.asarray([-1, 5 * 8 * 6])}
    made = model(nodes, constants, x=(None, 8, 6, 3))
    net = agree(made, rng.standard_normal((2, 8, 6, 3)))
    assert kinds(net) == ["Conv", "ReLU", "Flatten", "Linear"]
    assert read(made).shape == (8, 6, 3)


def test_a_channel_shuffle_is_one_layer():
    rng = np.random.default_rng(0)
    nodes = [
        ("Reshape", ["x", "split"], ["a"]),
        ("Transpose", ["a"], ["b"], {"perm": [0, 2, 1, 3, 4]}),
        ("Reshape", ["b", "whole"], ["c"]),
        ("Conv", ["c", "w"], ["y"]),
    ]
    constants = {"split": np.asarray([-1, 3, 2, 4, 5]), "whole": np.asarray([-1, 6, 4, 5]), "w": w(rng, 2, 6, 1, 1)}
    assert kinds(agree(model(nodes, constants, x=(1, 6, 4, 5)), rng.standard_normal((1, 6, 4, 5)))) == [
        "ChannelShuffle",
        "Conv",
    ]


def test_signals_and_volumes_have_their_channels_last():
    rng = np.random.default_rng(0)
    for places in (1, 3):
        nodes = [
            ("Conv", ["x", "w"], ["a"], {"pads": [1] * 2 * places}),
            ("MaxPool", ["a"], ["b"], {"kernel_shape": [2] * places, "strides": [2] * places}),
            ("GlobalAveragePool", ["b"], ["c"]),
            ("Flatten", ["c"], ["y"]),
        ]
        shape = (2, 3, *(4, 5, 6)[:places])
        net = agree(model(nodes, {"w": w(rng, 4, 3, *[3] * places)}, x=shape), rng.standard_normal(shape))
        assert kinds(net) == [f"Conv{places}D", f"MaxPool{places}D", f"AvgPool{places}D", "Flatten"]


def test_a_net_for_signals():
    """Causal borders, steps back up to the length, the maximum over time."""
    rng = np.random.default_rng(0)
    nodes = [
        ("Pad", ["x", "before"], ["a"]),
        ("Conv", ["a", "w"], ["b"], {"dilations": [2]}),
        ("Relu", ["b"], ["c"]),
        ("MaxPool", ["c"], ["d"], {"kernel_shape": [2], "strides": [2]}),
        ("ConvTranspose", ["d", "v", "v0"], ["e"], {"strides": [2], "group": 2, "pads": [1, 0], "output_padding": [1]}),
        ("Pad", ["e", "around"], ["f"], {"mode": "reflect"}),
        ("ReduceMax", ["f"], ["g"], {"axes": [2], "keepdims": 0}),
        ("Gemm", ["g", "u"], ["y"]),
    ]
    constants = {"before": np.asarray([0, 0, 4, 0, 0, 0]), "around": np.asarray([0, 0, 1, 0, 0, 2])}
    constants |= {"w": w(rng, 4, 3, 3), "v": w(rng, 4, 3, 3), "v0": w(rng, 6, 1)[:, 0], "u": w(rng, 6, 2)}
    net = agree(model(nodes, constants, x=("n", 3, 12)), rng.standard_normal((2, 3, 12)))
    expected = ["Conv1D", "ReLU", "MaxPool1D", "Reshape", "ConvTranspose", "Reshape", "Pad1D", "MaxPool1D", "Flatten", "Linear"]
    assert kinds(net) == expected
    e = lrp.explain(net, rng.standard_normal((12, 3)), 0, lrp.lrp_cmp(alpha=2, flat=1))
    assert closes(e, 1e-12)


def test_the_page_s_code_for_signals(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    nodes = [
        ("Pad", ["x", "before"], ["a"]),
        ("Conv", ["a", "w"], ["b"]),
        ("Relu", ["b"], ["c"]),
        ("GlobalAveragePool", ["c"], ["d"]),
        ("Flatten", ["d"], ["e"]),
        ("Gemm", ["e", "u"], ["y"]),
    ]
    constants = {"before": np.asarray([0, 0, 2, 0, 0, 0]), "w": w(rng, 4, 2, 3), "u": w(rng, 4, 3)}
    save(tmp_path, model(nodes, constants, x=("n", 2, 30)), "ecg.onnx")
    monkeypatch.chdir(tmp_path)
    page = (ROOT / "docs" / "howto" / "onnx.md").read_text(encoding="utf-8")
    [code] = [block for block in blocks(page) if "ecg.onnx" in block]
    known = {"recordings": rng.standard_normal((5, 2, 30)).astype(np.float32)}
    exec(code, known)
    assert known["relevance"].shape == known["recordings"].shape
    absorbed = sum(known["e"].ledger.absorbed(reason) for reason in ("bias", "eps", "zero_denominator", "padding"))
    np.testing.assert_allclose(known["relevance"].sum(axis=(1, 2)) + absorbed, known["e"].ledger.start, rtol=1e-4)
    assert "total" in capsys.readouterr().out
    assert (tmp_path / "ecg.png").is_file()


@pytest.mark.parametrize("axes", [(1,), (2,), (3,), (1, 2), (1, 3), (2, 3), (1, 2, 3)])
@pytest.mark.parametrize("keep", [0, 1])
def test_a_maximum_over_any_axes(axes, keep):
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    nodes = [("Sigmoid", ["x"], ["a"]), ("ReduceMax", ["a"], ["b"], {"axes": list(axes), "keepdims": keep})]
    ends = [[("Neg", ["b"], ["y"])], [("Flatten", ["b"], ["y"])]]
    if keep:
        ends.append([("Mul", ["x", "b"], ["y"])])
    if keep and axes == (1,):
        ends.append([("Concat", ["x", "b"], ["y"], {"axis": 1})])
    nets = [agree(model([*nodes, *end], x=x.shape), x) for end in ends]
    e = lrp.explain(nets[1], np.random.default_rng(1).standard_normal((4, 5, 3)), 0, lrp.uniform(lrp.Z()))
    assert abs(e.R).max() == abs(e.R).sum() > 0  # the winner takes all


@pytest.mark.parametrize(
    "last", [("Neg", ["b"], ["y"]), ("Relu", ["b"], ["y"]), ("Add", ["b", "c"], ["y"]), ("Add", ["b", "b"], ["y"])]
)
def test_one_number_for_each_sample(last):
    """As nets that end with a squeeze."""
    rng = np.random.default_rng(0)
    nodes = [("Flatten", ["x"], ["f"]), ("Gemm", ["f", "w"], ["a"]), ("Squeeze", ["a", "one"], ["b"]), last]
    constants = {"w": w(rng, 60, 1), "one": np.asarray([1]), "c": np.float32(3)}
    net = agree(model(nodes, constants, x=("n", 3, 4, 5)), rng.standard_normal((2, 3, 4, 5)))
    assert lrp.explain(net, rng.standard_normal((2, 4, 5, 3)), 0, lrp.uniform(lrp.Z())).R.shape == (2, 4, 5, 3)
    mean = ("ReduceMean", ["x"], ["b"], {"axes": [1, 2, 3], "keepdims": 0})
    agree(model([mean, last], constants, x=("n", 3, 4, 5)), rng.standard_normal((2, 3, 4, 5)))


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
@pytest.mark.parametrize("shape", [(2, 3, 6), (2, 3, 6, 5), (2, 3, 4, 6, 5)])
def test_borders_of_signals_maps_and_volumes(mode, shape):
    rng = np.random.default_rng(0)
    places = len(shape) - 2
    pads = np.asarray([0, 0, *[2, 0, 1][:places], 0, 0, *[1, 3, 0][:places]])
    nodes = [("Pad", ["x", "pads", "value"], ["a"], {"mode": mode}), ("GlobalAveragePool", ["a"], ["y"])]
    made = model(nodes, {"pads": pads, "value": np.float32(0.5)}, x=shape, opset=19)
    made.ir_version = 9
    assert kinds(agree(made, rng.standard_normal(shape)))[0] == {1: "Pad1D", 2: "Pad", 3: "Pad3D"}[places]


def test_a_shortcut_with_fewer_channels_gets_zeros_beside_them():
    """As in residual networks for CIFAR, whose shortcuts have no weights."""
    rng = np.random.default_rng(0)
    nodes = [
        ("Conv", ["x", "w"], ["a"], {"pads": [1] * 4, "strides": [2, 2]}),
        ("Slice", ["x", "start", "end", "axes", "steps"], ["b"]),
        ("Pad", ["b", "pads"], ["c"]),
        ("Add", ["a", "c"], ["d"]),
        ("Flatten", ["d"], ["y"]),
    ]
    constants = {"w": w(rng, 6, 3, 3, 3), "pads": np.asarray([0, 1, 0, 0, 0, 2, 0, 0]), "start": np.asarray([0, 0])}
    constants |= {"end": np.asarray([99, 99]), "axes": np.asarray([2, 3]), "steps": np.asarray([2, 2])}
    net = agree(model(nodes, constants), rng.standard_normal((2, 3, 8, 8)))
    assert "Pad3D" in kinds(net)
    assert closes(lrp.explain(net, rng.standard_normal((8, 8, 3)), 5, lrp.uniform(lrp.Epsilon(1e-3))), 1e-12)
    again = [
        ("Reshape", ["x", "apart"], ["a"]),
        ("Reshape", ["a", "whole"], ["b"]),
        ("Pad", ["b", "pads"], ["c"]),
        ("Relu", ["c"], ["y"]),
    ]
    shapes = {"apart": np.asarray([0, 2, 2, 3, 5]), "whole": np.asarray([0, 4, 3, 5]), "pads": constants["pads"]}
    agree(model(again, shapes, x=("n", 4, 3, 5)), rng.standard_normal((2, 4, 3, 5)))  # channels of several factors
    batch = np.asarray([1, 0, 0, 0, 0, 0, 0, 0])
    refused(model([("Pad", ["x", "pads"], ["y"])], {"pads": batch}), "a border around places or channels")


@pytest.mark.parametrize("places", [[2, 1, 0], [0, 2], [1, 1, 0, 2], [-1, 0]])
def test_channels_in_another_order(places):
    """As nets that turn RGB into BGR themselves."""
    x = np.random.default_rng(0).standard_normal((2, 3, 4, 5))
    nodes = [("Gather", ["x", "places"], ["a"], {"axis": 1}), ("Relu", ["a"], ["y"])]
    agree(model(nodes, {"places": np.asarray(places)}, x=x.shape), x)
    around = {"perm": [1, 0, 2, 3]}  # as PyTorch's newer exporter writes it
    nodes = [("Transpose", ["x"], ["a"], around), ("GatherND", ["a", "places"], ["b"]), ("Transpose", ["b"], ["y"], around)]
    agree(model(nodes, {"places": np.asarray(places)[:, None]}, x=x.shape), x)
    refused(model([("GatherND", ["x", "places"], ["y"])], {"places": np.zeros((3, 2), int)}, x=x.shape), "indices of one axis")
    turned = [("Slice", ["x", "start", "end", "axes", "steps"], ["a"]), ("Relu", ["a"], ["y"])]
    for step in (-1, -2):
        parts = {"start": [-1, -2], "end": [-(2**31), -4], "axes": [1, 2], "steps": [step, -1]}
        agree(model(turned, {name: np.asarray(part) for name, part in parts.items()}, x=x.shape), x)


def test_tokens_go_through_dense_layers_and_norms():
    rng = np.random.default_rng(0)
    nodes = [
        ("LayerNormalization", ["x", "s", "b"], ["a"], {"axis": -1}),
        ("MatMul", ["a", "w"], ["c"]),
        ("Add", ["c", "b"], ["d"]),
        ("ReduceMean", ["d"], ["e"], {"axes": [1], "keepdims": 0}),
        ("Gemm", ["e", "w"], ["y"]),
    ]
    constants = {"s": w(rng, 6), "b": w(rng, 6), "w": w(rng, 6, 6)}
    net = agree(model(nodes, constants, x=(2, 7, 6)), rng.standard_normal((2, 7, 6)))
    assert kinds(net) == ["LayerNorm", "Linear", "Mean", "Linear"]


def test_the_axis_of_samples_may_not_become_one_of_features():
    for nodes in (
        [("Transpose", ["x"], ["a"], {"perm": [1, 0, 2, 3]}), ("GlobalAveragePool", ["a"], ["y"])],
        [("ReduceMean", ["x"], ["y"], {"axes": [0]})],
        [("Softmax", ["x"], ["a"], {"axis": 0}), ("Relu", ["a"], ["y"])],
        [("Reshape", ["x", "shape"], ["y"])],
    ):
        with pytest.raises(ModelFormatError, match="sample"):
            read(model(nodes, {"shape": np.asarray([3, -1])}, x=(4, 3, 8, 8)))


@pytest.mark.parametrize("opset", [7, 9, 10, 11, 12, 13, 17, 18, 21, 24])
def test_old_and_new_ways_to_write_the_same(opset):
    """Axes, pads, bounds, sizes and parts as attributes in old opsets, as inputs in new ones."""
    rng = np.random.default_rng(0)
    constants = {"w": w(rng, 4, 3, 3, 3), "axes1": np.asarray([1]), "pads": np.asarray([0, 0, 1, 1, 0, 0, 1, 1])}
    constants |= {"low": np.float32(0), "high": np.float32(6), "parts": np.asarray([1, 3]), "axes": np.asarray([2, 3])}
    constants |= {"starts": np.asarray([1]), "ends": np.asarray([8])}
    pad = ("Pad", ["x"], ["p"], {"pads": [0, 0, 1, 1, 0, 0, 1, 1]}) if opset < 11 else ("Pad", ["x", "pads"], ["p"])
    clip = ("Clip", ["c"], ["r"], {"min": 0.0, "max": 6.0}) if opset < 11 else ("Clip", ["c", "low", "high"], ["r"])
    split = ("Split", ["r"], ["s", "t"], {"axis": 1, "split": [1, 3]} if opset < 13 else {"axis": 1})
    split = split if opset < 13 else ("Split", ["r", "parts"], ["s", "t"], {"axis": 1})
    cut = ("Slice", ["t"], ["u"], {"starts": [1], "ends": [8], "axes": [1]})
    cut = cut if opset < 10 else ("Slice", ["t", "starts", "ends", "axes1"], ["u"])
    mean = ("ReduceMean", ["u"], ["m"], {"axes": [2, 3], "keepdims": 0})
    mean = mean if opset < 18 else ("ReduceMean", ["u", "axes"], ["m"], {"keepdims": 0})
    grow = ("Unsqueeze", ["m"], ["g"], {"axes": [1]}) if opset < 13 else ("Unsqueeze", ["m", "axes1"], ["g"])
    shrink = ("Squeeze", ["g"], ["y"], {"axes": [1]}) if opset < 13 else ("Squeeze", ["g", "axes1"], ["y"])
    nodes = [pad, ("Conv", ["p", "w"], ["c"]), clip, split, cut, mean, grow, ("Dropout", ["g"], ["h"]), shrink]
    made = model([*nodes[:-1], (shrink[0], ["h", *shrink[1][1:]], *shrink[2:])], constants, opset=opset)
    net = agree(made, rng.standard_normal((2, 3, 8, 8)))
    assert kinds(net)[:2] == ["Conv", "ClippedReLU"]  # zeros around the map are the convolution's own padding


def test_a_border_that_copies_its_map_stays(tmp_path):
    rng = np.random.default_rng(0)
    constants = {"pads": np.asarray([0, 0, 2, 1, 0, 0, 1, 2]), "w": w(rng, 4, 3, 3, 3)}
    for mode, expected in (("edge", ["Pad", "Conv"]), ("reflect", ["Pad", "Conv"]), ("constant", ["Conv"])):
        nodes = [("Pad", ["x", "pads"], ["p"], {"mode": mode}), ("Conv", ["p", "w"], ["c"])]
        nodes += [("GlobalAveragePool", ["c"], ["g"]), ("Flatten", ["g"], ["y"])]
        made = model(nodes, constants)
        x = rng.standard_normal((1, 3, 8, 8)).astype(np.float32)
        assert kinds(agree(made, x))[:-2] == expected
        found = read_onnx(save(tmp_path, made), mean=(0, 0, 0), std=(1, 1, 1), pixels=255)
        y = found.net(np.ascontiguousarray(x[0].transpose(1, 2, 0)))
        np.testing.assert_allclose(y, onnxruntime(made, x)[0], rtol=1e-3, atol=1e-5)


def test_activations_that_are_written_out():
    rng = np.random.default_rng(0)
    x = 3 * rng.standard_normal((2, 5)).astype(np.float32)
    numbers = {
        "root2": 2**0.5,
        "one": 1,
        "half": 0.5,
        "three": 3,
        "zero": 0,
        "six": 6,
        "twenty": 20,
        "k": 0.044715,
        "root": (2 / np.pi) ** 0.5,
    }
    constants = {name: np.float32(number) for name, number in numbers.items()} | {"s": np.float32(1.702)}
    constants["root"] = np.float32((2 / np.pi) ** 0.5)
    cube = [("Mul", ["x", "x"], ["p"]), ("Mul", ["x", "p"], ["q"])]
    tanh = [("Mul", ["k", "q"], ["e"]), ("Add", ["x", "e"], ["f"]), ("Mul", ["root", "f"], ["g"]), ("Tanh", ["g"], ["h"])]
    tanh += [("Add", ["one", "h"], ["i"]), ("Mul", ["x", "i"], ["j"]), ("Mul", ["half", "j"], ["y"])]
    clip = [("Add", ["x", "three"], ["a"]), ("Clip", ["a", "zero", "six"], ["b"])]
    gelu = [("Div", ["x", "root2"], ["a"]), ("Erf", ["a"], ["b"]), ("Add", ["b", "one"], ["c"])]
    forms = {
        "GELU": [*gelu, ("Mul", ["x", "c"], ["d"]), ("Mul", ["d", "half"], ["y"])],
        "GELU ": [*gelu, ("Mul", ["half", "x"], ["d"]), ("Mul", ["c", "d"], ["y"])],
        "SiLU": [("Sigmoid", ["x"], ["a"]), ("Mul", ["a", "x"], ["y"])],
        "HardSwish": [("HardSigmoid", ["x"], ["a"], {"alpha": 1 / 6}), ("Mul", ["x", "a"], ["y"])],
        "GELU  ": [*cube, *tanh],
        "GELU   ": [("Pow", ["x", "three"], ["q"]), *tanh],
        "HardSwish ": [*clip, ("Div", ["b", "six"], ["d"]), ("Mul", ["x", "d"], ["y"])],
        "HardSwish  ": [*clip, ("Mul", ["b", "x"], ["d"]), ("Div", ["d", "six"], ["y"])],
        "Mish": [("Softplus", ["x"], ["a"]), ("Tanh", ["a"], ["b"]), ("Mul", ["x", "b"], ["y"])],
        "Softplus": [("Softplus", ["x"], ["a"]), ("Greater", ["x", "twenty"], ["b"]), ("Where", ["b", "x", "a"], ["y"])],
    }
    for name, nodes in forms.items():
        assert kinds(agree(model(nodes, constants, x=(2, 5)), x)) == [name.strip()]
    steep = [("Mul", ["x", "three"], ["a"]), ("Softplus", ["a"], ["b"]), ("Div", ["b", "three"], ["c"])]
    steep += [("Greater", ["a", "twenty"], ["d"]), ("Where", ["d", "x", "c"], ["y"])]
    assert kinds(agree(model(steep, constants, x=(2, 5)), x)) == ["Scale", "Softplus", "Scale"]
    for soon in (2, 0, -1e9, np.nan):  # another function
        refused(model(steep, constants | {"twenty": np.float32(soon)}, x=(2, 5)), r"\(Greater\)")
    steep = [("Mul", ["s", "x"], ["a"]), ("Sigmoid", ["a"], ["b"]), ("Mul", ["x", "b"], ["y"])]
    assert kinds(agree(model(steep, constants, x=(2, 5)), x)) == ["Scale", "SiLU", "Scale"]
    of_product = [("Relu", ["x"], ["r"]), ("Sigmoid", ["x"], ["z"]), ("Mul", ["r", "z"], ["t"]), ("Sigmoid", ["t"], ["u"])]
    of_product += [("Mul", ["t", "u"], ["y"])]
    assert kinds(agree(model(of_product, x=(2, 5)), x))[-1] == "SiLU"
    nearly = [("Sigmoid", ["x"], ["a"]), ("Mul", ["x", "a"], ["b"]), ("Mul", ["x", "b"], ["y"])]  # x² σ(x)
    assert "Multiply" in kinds(agree(model(nearly, x=(2, 5)), x))
    gated = [("Sigmoid", ["x"], ["a"]), ("Relu", ["x"], ["b"]), ("Mul", ["a", "b"], ["y"])]
    assert kinds(agree(model(gated, x=(2, 5)), x))[-1] == "Multiply"


def test_norms_that_are_written_out():
    rng = np.random.default_rng(0)
    constants = {"two": np.float32(2), "eps": np.float32(1e-3), "s": w(rng, 6), "b": w(rng, 6)}

    def mean(x, y, axes=(-1,)):
        return ("ReduceMean", [x], [y], {"axes": list(axes), "keepdims": 1})

    centred, root = [mean("x", "m"), ("Sub", ["x", "m"], ["d"])], [("Add", ["v", "eps"], ["e"]), ("Sqrt", ["e"], ["r"])]
    by_reciprocal = [("Reciprocal", ["r"], ["i"]), ("Mul", ["i", "d"], ["n"])]
    affine = [("Mul", ["n", "s"], ["o"]), ("Add", ["o", "b"], ["y"])]
    forms = [
        [*centred, ("Pow", ["d", "two"], ["p"]), mean("p", "v"), *root, ("Div", ["d", "r"], ["n"]), *affine],
        [*centred, ("Mul", ["d", "d"], ["p"]), mean("p", "v"), *root, *by_reciprocal, *affine],
    ]
    for nodes in forms:
        assert kinds(agree(model(nodes, constants, x=(2, 7, 6)), rng.standard_normal((2, 7, 6)))) == ["LayerNorm"]
    over_places = [mean("x", "m", (2, 3)), ("Sub", ["x", "m"], ["d"]), ("Mul", ["d", "d"], ["p"]), mean("p", "v", (2, 3))]
    over_places += [*root, ("Div", ["d", "r"], ["y"])]
    assert kinds(agree(model(over_places, constants), rng.standard_normal((2, 3, 8, 8)))) == ["LayerNorm"]
    other = [mean("x", "m"), ("Sub", ["x", "m"], ["d"]), ("Mul", ["d", "d"], ["p"]), mean("p", "v", (1,)), *root]
    refused(model([*other, ("Div", ["d", "r"], ["y"])], constants, x=(2, 6, 6)), r"\(Sqrt\)")  # the variance of something else


def test_batch_normalisation_and_borders_with_channels_last_as_keras_writes_them():
    rng = np.random.default_rng(0)
    nodes = [
        ("Pad", ["x", "pads"], ["p"]),
        ("Transpose", ["p"], ["t"], {"perm": [0, 3, 1, 2]}),
        ("Conv", ["t", "w"], ["c"]),
        ("Transpose", ["c"], ["u"], {"perm": [0, 2, 3, 1]}),
        ("Sub", ["u", "m"], ["d"]),
        ("Mul", ["d", "s"], ["e"]),
        ("Add", ["e", "b"], ["f"]),
        ("Relu", ["f"], ["g"]),
        ("ReduceMean", ["g"], ["h"], {"axes": [1, 2], "keepdims": 0}),
        ("MatMul", ["h", "v"], ["y"]),
    ]
    constants = {"pads": np.asarray([0, 0, 1, 0, 0, 1, 2, 0]), "w": w(rng, 5, 3, 3, 3), "v": w(rng, 5, 2)}
    made = model(nodes, constants | {name: w(rng, 1, 1, 1, 5) for name in "msb"}, x=(None, 8, 6, 3))
    net = agree(made, rng.standard_normal((2, 8, 6, 3)))
    assert kinds(net) == ["Conv", "BatchNorm", "ReLU", "AvgPool", "Flatten", "Linear"]
    assert kinds(lrp.fuse(net)) == ["Conv", "ReLU", "AvgPool", "Flatten", "Linear"]


def test_weights_that_are_computed_from_others():
    """Standardised filters, as timm exports them: batch normalisation whose samples are weights."""
    rng = np.random.default_rng(0)
    filters, one, none = w(rng, 5, 3, 3, 3), np.ones(5, np.float32), np.zeros(5, np.float32)
    constants = {"w": filters, "one": one, "none": none, "low": np.float32(-0.1)}
    constants |= {"flat": np.asarray([1, 5, -1]), "full": np.asarray([5, 3, 3, 3])}
    nodes = [
        ("Reshape", ["w", "flat"], ["a"]),
        ("BatchNormalization", ["a", "one", "none", "none", "one"], ["c", "unread", "unread2"], {"training_mode": 1}),
        ("Reshape", ["c", "full"], ["d"]),
        ("Clip", ["d", "low"], ["e"]),
        ("Conv", ["x", "e"], ["y"]),
    ]
    [conv] = read(model(nodes, constants)).net
    rows = filters.reshape(5, -1).astype(np.float64)
    expected = (rows - rows.mean(1, keepdims=True)) / np.sqrt(rows.var(1, keepdims=True) + 1e-5)
    np.testing.assert_allclose(conv.w.transpose(3, 2, 0, 1).reshape(5, -1), np.maximum(expected, -0.1), rtol=1e-5, atol=1e-6)


def test_values_are_repeated_where_they_broadcast():
    rng = np.random.default_rng(0)
    x, pooled = rng.standard_normal((2, 3, 4, 5)), ("GlobalAveragePool", ["x"], ["p"])
    across = ("ReduceMean", ["x"], ["q"], {"axes": [1]})
    for nodes in ([pooled, ("Add", ["x", "p"], ["y"])], [across, ("Sub", ["q", "x"], ["y"])],
                  [pooled, across, ("Add", ["p", "q"], ["y"])]):  # fmt: skip
        nodes = [*nodes[:-1], (*nodes[-1][:2], ["s"]), ("Flatten", ["s"], ["y"])]
        net = agree(model(nodes, x=x.shape), x)
        e = lrp.explain(net, rng.standard_normal((4, 5, 3)), target=7, composite=lrp.uniform(lrp.Z()))
        np.testing.assert_allclose(e.R.sum(), e.ledger.start, rtol=1e-9)  # no bias: all of it arrives at the input
    gate = [
        pooled,
        ("Shape", ["x"], ["n"]),
        ("Sigmoid", ["p"], ["g"]),
        ("Expand", ["g", "n"], ["h"]),
        ("Mul", ["h", "x"], ["y"]),
    ]
    assert kinds(agree(model(gate, x=x.shape), x)) == ["AvgPool", "Sigmoid", "Multiply"]
    two_gates = [pooled, across, ("Mul", ["p", "q"], ["y"])]
    assert kinds(agree(model(two_gates, x=x.shape), x))[-1] == "Multiply"
    refused(model([("Expand", ["x", "n"], ["y"])], {"n": np.asarray([4, 3, 8, 8])}, x=(1, 3, 8, 8)), "each sample")


def test_a_view_of_memory_that_pytorch_writes_as_a_gather():
    nodes = [("Reshape", ["x", "all"], ["a"]), ("Gather", ["a", "places"], ["b"]), ("Relu", ["b"], ["y"])]
    places = np.arange(3 * 4 * 5)
    constants = {"all": np.asarray([-1]), "places": places.reshape(1, 3, 4, 5)}
    assert kinds(agree(model(nodes, constants, x=(1, 3, 4, 5)), np.random.default_rng(0).standard_normal((1, 3, 4, 5)))) == [
        "ReLU"
    ]
    refused(model(nodes, constants | {"places": places[::-1].reshape(1, 3, 4, 5)}, x=(1, 3, 4, 5)), "sample")


def test_names_are_those_that_the_newer_exporter_of_pytorch_writes_beside_a_node():
    rng = np.random.default_rng(0)
    paths = {
        "node_Conv_292": ["", "layer1", "layer1.0", "layer1.0.bn1", "native_batch_norm"],
        "node_relu": ["", "layer1", "layer1.0", "layer1.0.relu", "relu"],
        "node_relu_1": ["", "layer1", "layer1.0", "layer1.0.relu", "relu_1"],
        "node_mean": ["", "avgpool", "mean"],
        "node_view": ["", "view"],
        "node_linear": ["", "fc", "linear"],
    }
    nodes = [
        ("Conv", ["x", "layer1.0.conv1.weight"], ["a"], {"name": "node_Conv_292"}),
        ("Relu", ["a"], ["b"], {"name": "node_relu"}),
        ("Relu", ["b"], ["d"], {"name": "node_relu_1"}),
        ("ReduceMean", ["d"], ["e"], {"name": "node_mean", "axes": [-1, -2]}),
        ("Flatten", ["e"], ["f"], {"name": "node_view"}),
        ("Gemm", ["f", "fc.weight"], ["y"], {"name": "node_linear"}),
    ]
    made = model(nodes, {"layer1.0.conv1.weight": w(rng, 4, 3, 1, 1), "fc.weight": w(rng, 4, 2)})
    for node in made.graph.node:
        node.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=str(paths[node.name]))
    assert read(made).net.names == ("layer1.0.conv1", "layer1.0.relu", "layer1.0.relu_2", "avgpool", "fc/flatten", "fc")


def test_names_are_those_of_the_modules_in_pytorch():
    rng = np.random.default_rng(0)
    nodes = [
        ("Conv", ["x", "w"], ["a"], {"name": "/layer1/layer1.0/conv1/Conv"}),
        ("Relu", ["a"], ["b"], {"name": "/layer1/layer1.0/relu/Relu"}),
        ("Add", ["a", "b"], ["c"], {"name": "/layer1/layer1.0/Add"}),
        ("Relu", ["c"], ["d"], {"name": "/layer1/layer1.0/relu_1/Relu"}),
        ("GlobalAveragePool", ["d"], ["e"], {"name": "/avgpool/GlobalAveragePool"}),
        ("Flatten", ["e"], ["f"], {"name": "/Flatten"}),
        ("Gemm", ["f", "v"], ["y"], {"name": "/fc/Gemm"}),
    ]
    net = read(model(nodes, {"w": w(rng, 4, 3, 1, 1), "v": w(rng, 4, 2)})).net
    names = ("layer1.0.conv1", "layer1.0.relu", "layer1.0", "layer1.0.relu_1", "avgpool", "fc/flatten", "fc")
    assert net.names == names


# ---- What is refused -------------------------------------------------------------------------------------------------


def refused(made, match, **options):
    with pytest.raises(ModelFormatError, match=match) as caught:
        read(made, **options)
    return str(caught.value)


def test_all_unsupported_nodes_are_named_at_once():
    nodes = [
        ("Erf", ["x"], ["a"], {"name": "first"}),
        ("Relu", ["a"], ["b"]),
        ("Det", ["b"], ["c"], {"name": "second"}),
        ("FusedConv", ["c"], ["d"], {"name": "third", "domain": "com.microsoft"}),
        ("MaxPool", ["x"], ["e"], {"name": "fourth", "kernel_shape": [2, 2], "dilations": [2, 2]}),
        ("Sinh", ["x"], ["unread"], {"name": "unread"}),
        ("Concat", ["d", "e"], ["y"], {"axis": 1}),
    ]
    message = refused(model(nodes), "net.onnx")
    for what in (
        "'first' (Erf)",
        "'second' (Det)",
        "'third' (com.microsoft.FusedConv)",
        "'fourth' (MaxPool): expected windows",
    ):
        assert what in message
    assert "unread" not in message


def test_quantised_nets_and_control_flow_are_refused():
    constants = {"s": np.float32(0.1), "z": np.uint8(0), "yes": np.asarray(True)}
    nodes = [("QuantizeLinear", ["x", "s", "z"], ["a"]), ("DequantizeLinear", ["a", "s", "z"], ["y"])]
    assert "DequantizeLinear" in refused(model(nodes, constants), "quantize")
    inner = helper.make_graph([helper.make_node("Relu", ["x"], ["z"])], "g", [], [helper.make_tensor_value_info("z", 1, None)])
    refused(model([("If", ["yes"], ["y"], {"then_branch": inner, "else_branch": inner})], constants), r"\(If\)")


def test_versions_functions_and_broken_wires_are_refused():
    plain = [("Relu", ["x"], ["y"])]
    refused(model(plain, opset=6), "opset from 7")
    refused(model(plain, opset=99), "opset from 7")
    made = model(plain)
    made.functions.add(name="f", domain="mine")
    refused(made, "functions of the file's own")
    refused(model([("Relu", ["nowhere"], ["y"])]), "'nowhere'")
    refused(model([("Relu", ["b"], ["a"]), ("Relu", ["a"], ["b"])], outputs=["b"]), "neither the file nor a node before it")
    refused(model([("Relu", ["x"], ["y"]), ("Tanh", ["x"], ["y"])]), "there already")
    refused(model(plain, outputs=["x"], inputs={}), "expected an input, found none")
    refused(model(plain, outputs=["y", "x"]), "output=")
    refused(model([("Shape", ["x"], ["y"])]), "found a constant")
    refused(model([("Relu", ["x"], ["y"], {"alpha": 1.0})]), "alpha")
    made = model(plain)
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.INT32
    refused(made, "floating-point")


def test_constants_outside_of_the_folder_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "models"
    (folder / "inside").mkdir(parents=True)
    a = w(rng, 4, 3, 1, 1)
    for file in (tmp_path / "secret", folder / "w.bin", folder / "inside" / "w.bin"):
        file.write_bytes(b"12345678" + a.tobytes())
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "linked").symlink_to(tmp_path)

    def with_data(location, offset="8", length=str(a.nbytes)):
        made = model([("Conv", ["x", "w"], ["y"])], {"w": a})
        [tensor] = made.graph.initializer
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=key, value=value)
        return save(folder, made)

    for location in ("w.bin", "inside/w.bin"):
        net = read_net(with_data(location), shape=(1, 3, 8, 8)).net
        np.testing.assert_array_equal(net[0].w, a.transpose(2, 3, 1, 0))
    for location in ("../secret", f"{tmp_path}/secret", "link", "linked/secret", "inside", "inside/../../secret", "", "none"):
        with pytest.raises(ModelFormatError, match="folder of the file"):
            read_net(with_data(location))
    for offset, length in (("9", str(a.nbytes)), ("-1", "8"), ("8", "many"), ("8", "8")):
        with pytest.raises(ModelFormatError, match="w"):
            read_net(with_data("w.bin", offset, length))


def test_hostile_files():
    """500 broken files, in a process that has 1 GB beside what Python and onnx take."""
    command = [sys.executable, "-m", "fuzz", "onnx", "--mutations", "500"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert re.search(r"^onnx +500 ", done.stdout, re.MULTILINE)


# ---- Models ----------------------------------------------------------------------------------------------------------


def classifier(tmp_path, last="Softmax", channels=3):
    rng = np.random.default_rng(0)
    nodes = [
        ("Conv", ["x", "w", "b"], ["a"], {"name": "/conv/Conv", "pads": [1, 1, 1, 1], "strides": [2, 2]}),
        ("BatchNormalization", ["a", "g", "b", "m", "v"], ["n"], {"name": "/norm/BatchNormalization"}),
        ("Relu", ["n"], ["r"], {"name": "/relu/Relu"}),
        ("GlobalAveragePool", ["r"], ["p"], {"name": "/pool/GlobalAveragePool"}),
        ("Flatten", ["p"], ["f"], {"name": "/Flatten"}),
        ("Gemm", ["f", "v2"], ["z"], {"name": "/fc/Gemm"}),
        (last, ["z"], ["y"]),
    ]
    constants = {
        "w": w(rng, 6, channels, 3, 3),
        "b": w(rng, 6),
        "g": w(rng, 6),
        "m": w(rng, 6),
        "v": abs(w(rng, 6)),
        "v2": w(rng, 6, 4),
    }
    made = model(nodes, constants, x=("batch", channels, 16, 12))
    return save(tmp_path, made), made


@pytest.mark.parametrize("last", ["Softmax", "Sigmoid", "LogSoftmax"])
def test_what_is_at_the_end_is_left_off_and_said_so(tmp_path, last):
    file, made = classifier(tmp_path, last)
    read_model = read_onnx(file, mean=(0, 0, 0), std=(1, 1, 1))
    assert f"Its {last} at the end is left off" in read_model.summary
    assert read_model.logits == ("independent" if last == "Sigmoid" else "exclusive")
    x = np.random.default_rng(1).random((1, 3, 16, 12)).astype(np.float32)
    z = read_model.net(255 * x[0].transpose(1, 2, 0) * np.float32(1 / read_model.preprocessing.std[0]))
    z = z if last != "Softmax" else np.exp(z) / np.exp(z).sum()
    z = z if last != "LogSoftmax" else z - np.log(np.exp(z).sum())
    z = z if last != "Sigmoid" else 1 / (1 + np.exp(-z))
    np.testing.assert_allclose(z, onnxruntime(made, x)[0], rtol=1e-4, atol=1e-4)


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("options", "mean", "std", "told"),
    [
        ({}, MEAN, STD, {"mean", "std"}),
        ({"mean": MEAN, "std": STD}, MEAN, STD, set()),
        ({"mean": (123.0, 117.0, 104.0)}, (123 / 255, 117 / 255, 104 / 255), (1 / 255,) * 3, {"std"}),
        ({"std": (0.5,) * 3}, (0,) * 3, (0.5,) * 3, {"mean"}),
        ({"mean": (0.5,) * 3, "std": (0.5,) * 3}, (0.5,) * 3, (0.5,) * 3, set()),
        ({"mean": 0.5, "std": [0.25]}, (0.5,) * 3, (0.25,) * 3, set()),
        ({"mean": (0, 0, 0), "std": (1, 1, 1), "pixels": 255}, (0,) * 3, (1 / 255,) * 3, set()),
    ],
)
def test_photographs_are_prepared_as_the_user_says(tmp_path, options, mean, std, told):
    file, made = classifier(tmp_path, "Identity")
    photo = np.random.default_rng(2).integers(0, 256, (16, 12, 3), dtype=np.uint8)
    assumed = {}
    found = read_onnx(file, **options, assumed=assumed)
    assert set(assumed) == {"channels", "fit", "labels", *told}
    for name, numbers in (("mean", mean), ("std", std)):
        assert name not in told or np.allclose(assumed[name], 255 * np.asarray(numbers))
    expected = onnxruntime(made, ((photo / 255 - mean) / std).transpose(2, 0, 1)[None])[0]
    np.testing.assert_allclose(found.net(found.prepare(photo)), expected, rtol=1e-3, atol=1e-4 * abs(expected).max())
    saved = lrp.load(lrp.save(found, tmp_path / "model"))
    np.testing.assert_array_equal(saved.net(found.prepare(photo)), found.net(found.prepare(photo)))
    assert closes(lrp.explain(saved, found.prepare(photo)), 1e-5)


def test_arguments_that_do_not_fit(tmp_path):
    file, _ = classifier(tmp_path)
    for options, match in (
        ({"mean": (1.0, 2.0)}, "mean: expected a number for each of RGB"),
        ({"std": (0.0, 1.0, 1.0)}, "std: expected a number > 0 for each of RGB"),
        ({"channels": "L"}, "channels: expected RGB, BGR or L"),
        ({"size": (5, 5)}, "size: expected 16 × 12"),
        ({"pixels": 7}, "pixels: expected 1 or 255"),
        ({"labels": ["a"]}, "expected 4 names"),
        ({"output": "nowhere"}, "'nowhere'"),
    ):
        with pytest.raises(ValueError, match=match):
            read_onnx(file, **options)
    with pytest.raises(FileNotFoundError):
        read_onnx(tmp_path / "none.onnx")
    with pytest.raises(ModelFormatError, match="found a folder"):
        read_onnx(tmp_path)
    rng = np.random.default_rng(0)
    tabular = save(tmp_path, model([("Gemm", ["x", "w"], ["y"])], {"w": w(rng, 6, 2)}, x=(None, 6)), "tabular.onnx")
    with pytest.raises(ModelFormatError, match="read_net"):
        read_onnx(tabular)
    assert read_net(tabular).shape == (6,)
    grey, _ = classifier(tmp_path, channels=1)
    assert read_onnx(grey).preprocessing.channels == "L"


def test_sizes_that_the_file_leaves_open(tmp_path):
    rng = np.random.default_rng(0)
    nodes = [("Conv", ["x", "w"], ["a"]), ("GlobalAveragePool", ["a"], ["b"]), ("Flatten", ["b"], ["y"])]
    for shape in (None, ("n", "c", "h", "w")):
        file = save(tmp_path, model(nodes, {"w": w(rng, 4, 3, 3, 3)}, x=shape))
        with pytest.raises(ModelFormatError, match=r"size=\(height, width\)"):
            read_onnx(file)
        assert read_onnx(file, size=(20, 10)).preprocessing.shape == (20, 10, 3)


def test_one_of_several_outputs(tmp_path):
    nodes = [
        ("GlobalAveragePool", ["x"], ["a"]),
        ("Flatten", ["a"], ["y"]),
        ("GlobalMaxPool", ["x"], ["b"]),
        ("Flatten", ["b"], ["z"]),
    ]
    file = save(tmp_path, model(nodes, outputs=["y", "z"]))
    with pytest.raises(ModelFormatError, match="expected one output"):
        read_onnx(file)
    assert kinds(read_onnx(file, output="z", mean=(0, 0, 0)).net)[-2:] == ["MaxPool", "Flatten"]


def test_weights_of_half_precision_are_read(tmp_path):
    made = model(
        [("Cast", ["h"], ["w"], {"to": 1}), ("Gemm", ["x", "w"], ["y"])], {"h": np.ones((6, 2), np.float16)}, x=(None, 6)
    )
    assert read(made).net[0].w.dtype == np.float64
    half = onnx.helper.make_tensor("w", TensorProto.BFLOAT16, [6, 2], [1.0] * 12)
    made = model([("Gemm", ["x", "w"], ["y"])], x=(None, 6))
    made.graph.initializer.append(half)
    np.testing.assert_array_equal(read(made).net[0].w, np.ones((6, 2)))
    broken = model([("Gemm", ["x", "w"], ["y"])], {"w": np.full((6, 2), np.nan, np.float32)}, x=(None, 6))
    refused(broken, "finite")
    short = numpy_helper.from_array(np.ones((6, 2), np.float32), "w")
    short.raw_data = short.raw_data[:-4]
    made = model([("Gemm", ["x", "w"], ["y"])], x=(None, 6))
    made.graph.initializer.append(short)
    refused(made, "'w'")


def test_the_command(tmp_path, capsys):
    file, _ = classifier(tmp_path)
    (tmp_path / "labels.txt").write_text("cat\ndog\nfish\nbird\n")
    code, out, err = run(
        capsys, "import", "onnx", file, "-o", tmp_path / "mine", "--labels", tmp_path / "labels.txt",
        "--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert "Softmax at the end is left off" in out
    assert lrp.load(tmp_path / "mine").classes == ("cat", "dog", "fish", "bird")
    code, out, err = run(capsys, "import", "onnx", tmp_path / "labels.txt", "-o", tmp_path / "other")
    assert code == 2
    assert "not a readable .onnx" in err
    assert not (tmp_path / "other").exists()

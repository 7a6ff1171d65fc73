"""Graphs of layers become nested modules that compute what the graph says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import integers, rngs

import lrp_toolbox as lrp
from lrp_toolbox.importers.graph import Node, build
from lrp_toolbox.io import ModelFormatError


@st.composite
def graphs(draw):
    """A random graph over 2 features: dense layers, ReLUs, sums, and concats that a dense layer brings back to 2."""
    rng = draw(rngs())
    nodes, values = [], ["x"]
    for k in range(draw(st.integers(1, 8))):
        kind = draw(st.sampled_from(["dense", "relu", "add", "concat"]))
        inputs = tuple(draw(st.sampled_from(values)) for _ in range(draw(st.integers(1, 3))))
        name = f"{kind}{k}"
        if kind == "dense":
            nodes.append(Node(name, inputs[:1], lrp.Linear(integers(rng, 2, 2), integers(rng, 2))))
        elif kind == "relu":
            nodes.append(Node(name, inputs[:1], lrp.ReLU()))
        elif kind == "add":
            nodes.append(Node(name, inputs, lrp.Sum()))
        else:
            nodes.append(Node(name, inputs, lrp.Concatenation()))
            nodes.append(Node(f"{name}-back", (name,), lrp.Linear(integers(rng, 2 * len(inputs), 2))))
            name = f"{name}-back"
        values.append(name)
    return nodes, values[-1], integers(rng, 2), integers(rng, 2)


def evaluate(nodes, x):
    """The graph itself, node by node."""
    values = {"x": x}
    for node in nodes:
        inputs = [values[name] for name in node.inputs]
        if isinstance(node.module, lrp.Sum):
            values[node.name] = sum(inputs[1:], inputs[0])
        elif isinstance(node.module, lrp.Concatenation):
            values[node.name] = np.concatenate(inputs)
        else:
            values[node.name] = node.module.forward(inputs[0])
    return values


def gradient(nodes, values, target, g):
    """Back through the graph, adding up what reaches a value over several ways."""
    at = {name: 0 * v for name, v in values.items()}
    at[target] = g
    for node in reversed(nodes):
        g, start = at[node.name], 0
        for name in node.inputs:
            if isinstance(node.module, lrp.Sum):
                at[name] = at[name] + g
            elif isinstance(node.module, lrp.Concatenation):
                at[name] = at[name] + g[start : start + len(values[name])]
                start += len(values[name])
            else:
                at[name] = at[name] + node.module.gradient(node.module.trace(values[name]), g)
    return at["x"]


@given(graphs(), st.randoms())
def test_nets_compute_what_the_graph_says_forward_and_backward(drawn, random):
    nodes, target, x, g = drawn
    values = evaluate(nodes, x)
    shuffled = list(nodes)
    random.shuffle(shuffled)
    net = build(shuffled, "x", target)
    assert (net.forward(x) == values[target]).all()
    assert (net.gradient(net.trace(x), g) == gradient(nodes, values, target, g)).all()
    e = lrp.explain(net, x, None, lrp.Z(), start=g)
    assert e.ledger.rounding == 0


def test_what_is_shared_stands_once_and_what_is_unused_is_left_out():
    conv = lrp.Linear(np.eye(2))
    nodes = [
        Node("stem", ("x",), conv),
        Node("left", ("stem",), conv),
        Node("relu", ("left",), lrp.ReLU()),
        Node("sum", ("relu", "stem"), lrp.Sum()),
        Node("head", ("sum",), conv),
        Node("unused", ("stem",), conv),
    ]
    net = build(nodes, "x", "head")
    assert net.names == ("stem", "left", "relu", "sum", "head")
    assert net.nodes[3].reads == ("relu", "stem")


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([Node("a", ("x",), lrp.ReLU()), Node("a", ("x",), lrp.ReLU())], "net: a: expected names to be unique"),
        ([Node("a", ("b",), lrp.ReLU())], "net: a: reads 'b', which no layer makes"),
        ([Node("b", ("x",), lrp.ReLU())], "net: output: reads 'a', which no layer makes"),
        ([Node("a", ("b",), lrp.ReLU()), Node("b", ("a",), lrp.ReLU())], "which itself depends on it: a cycle"),
        ([Node("a", ("a",), lrp.ReLU())], "which itself depends on it: a cycle"),
        ([Node("a", (), lrp.ReLU())], "net: a: expected an input, found none"),
    ],
)
def test_what_is_no_graph_is_refused(nodes, message):
    with pytest.raises(ModelFormatError) as caught:
        build(nodes, "x", "a")
    assert message in str(caught.value)


def test_dense_sharing_and_depth_are_no_problem(tmp_path):
    """Every value is read twice: nets with a copy for each reader would have as many modules as Fibonacci's rabbits."""
    nodes = [Node("0", ("x",), lrp.ReLU())]
    for k in range(1, 250):
        nodes.append(Node(f"r{k}", (f"{k - 1}",), lrp.Scale(np.full(1, 0.5))))
        nodes.append(Node(f"{k}", (f"r{k}", f"r{k - 1}" if k > 1 else "x"), lrp.Sum()))
    net, x = build([*nodes, Node("flatten", ("249",), lrp.Flatten())], "x", "flatten"), np.ones((2, 2, 1))
    assert len(net) == 500
    model = lrp.Model("shared", net.astype("float32"), tuple("abcd"), lrp.Preprocessing((2, 2), channels="L", mean=(0.0,)))
    e = lrp.explain(lrp.load(lrp.save(model, tmp_path / "shared")), x.astype("float32"), 0)
    assert e.R.sum() + e.ledger.absorbed("eps") == pytest.approx(e.y[0], rel=1e-4)
    deep = [Node(f"{k + 1}", (f"{k}",), lrp.ReLU()) for k in range(5000)]
    assert len(build(deep, "0", "5000")) == 5000

"""Graphs of layers become nested modules that compute what the graph says."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import integers, rngs

import lrp_toolbox as lrp
from lrp_toolbox.importers.graph import MOST_NESTED, Node, build
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
            nodes.append(Node(name, inputs, lrp.Add))
        else:
            nodes.append(Node(name, inputs, lrp.Concat))
            nodes.append(Node(f"{name}-back", (name,), lrp.Linear(integers(rng, 2 * len(inputs), 2))))
            name = f"{name}-back"
        values.append(name)
    return nodes, values[-1], integers(rng, 2), integers(rng, 2)


def evaluate(nodes, x):
    """The graph itself, node by node."""
    values = {"x": x}
    for node in nodes:
        inputs = [values[name] for name in node.inputs]
        if node.module is lrp.Add:
            values[node.name] = sum(inputs[1:], inputs[0])
        elif node.module is lrp.Concat:
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
            if node.module is lrp.Add:
                at[name] = at[name] + g
            elif node.module is lrp.Concat:
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


def test_what_is_shared_before_a_branch_stands_once():
    conv = lrp.Linear(np.eye(2))
    nodes = [
        Node("stem", ("x",), conv),
        Node("left", ("stem",), conv),
        Node("relu", ("left",), lrp.ReLU()),
        Node("sum", ("relu", "stem"), lrp.Add),
        Node("head", ("sum",), conv),
        Node("unused", ("stem",), conv),
    ]
    net = build(nodes, "x", "head")
    assert net.names == ("stem", "sum", "head")
    assert net["sum"].names == ("1", "2")
    assert net["sum"]["1"].names == ("left", "relu")


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


def test_a_graph_that_would_not_end_is_refused():
    nodes = [Node("0", ("x",), lrp.ReLU())]
    for k in range(1, 40):  # every level reads the two before it: as many copies as Fibonacci's rabbits
        nodes.append(Node(f"r{k}", (f"{k - 1}",), lrp.ReLU()))
        nodes.append(Node(f"{k}", (f"r{k}", f"r{k - 1}" if k > 1 else "x"), lrp.Add))
    with pytest.raises(ModelFormatError, match="would not end"):
        build(nodes, "x", "39")
    deep = [Node(f"{k + 1}", (f"{k}",), lrp.ReLU()) for k in range(5000)]
    assert len(build(deep, "0", "5000")) == 5000


def test_branches_within_branches_work_as_deep_as_they_are_read(tmp_path):
    def nested(depth):
        nodes = [Node("0", ("x",), lrp.ReLU())]
        for k in range(1, depth + 1):
            nodes += [Node(f"r{k}", (f"{k - 1}",), lrp.ReLU()), Node(f"{k}", (f"r{k}", "x"), lrp.Add)]
        return build(nodes, "x", f"{depth}")

    net, x = nested(MOST_NESTED), np.ones((2, 2, 1))
    assert (net.forward(x) == MOST_NESTED + 1).all()
    net = lrp.Sequential([*net.items(), ("flatten", lrp.Flatten())])
    model = lrp.Model("deep", net, tuple("abcd"), lrp.Preprocessing((2, 2), channels="L", mean=(0.0,)))
    e = lrp.explain(lrp.load(lrp.save(model, tmp_path / "deep")), x.astype("float32"), 0)
    assert e.R.sum() == pytest.approx(MOST_NESTED + 1, rel=1e-5)
    for depth in (MOST_NESTED + 1, 3000):
        with pytest.raises(ModelFormatError, match="expected branches within branches at most 64 deep, found more"):
            nested(depth)

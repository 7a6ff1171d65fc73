"""Graph: shared values, exact relevance, memory, and what it refuses."""

import dataclasses
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings

import lrp_toolbox as lrp
from lrp_toolbox.composites import layers
from lrp_toolbox.testing import cases, graphs, rules


def unrolled(net, name):
    """The same function as nested Sequentials and branches, in which every reader has a copy of what it reads."""
    if name == "input":
        return lrp.Identity()
    [node] = [node for node in net.nodes if node.name == name]
    if not node.module.several_inputs:
        return lrp.Sequential(before=unrolled(net, node.reads[0]), layer=node.module)
    kind = lrp.Add if isinstance(node.module, lrp.Sum) else lrp.Concat
    return kind([(f"b{k}", unrolled(net, value)) for k, value in enumerate(node.reads)])


@settings(max_examples=100)
@given(cases(graphs()), rules())
def test_a_graph_is_its_unrolled_tree_and_its_ledger_closes_exactly(case, rule):
    """Relevance is linear in R: what the readers of a value send back adds up to what the copies of it get."""
    net, x, R = case
    tree = unrolled(net, net.output)
    e, expected = (lrp.explain(n, x, [0, 1], rule) for n in (net, tree))
    assert (e.y == expected.y).all()
    assert (e.R == expected.R).all()
    assert (net.gradient(net.trace(x), R) == tree.gradient(tree.trace(x), R)).all()
    absorbed = sum(e.ledger.absorbed(reason) for reason in ("bias", "eps", "zero_denominator", "padding"))
    assert (e.R.sum(axis=1) + absorbed == e.y[:2]).all()
    assert all((entry.rounding == 0).all() for entry in e.ledger)
    assert sorted(entry.name for entry in e.ledger) == sorted(net.names), "one entry a node"


@given(cases(graphs()))
def test_a_layer_runs_once_and_flows_are_forward(case):
    net, x, _ = case
    seen = []
    y = net.flow(x, lambda name, layer, value: (seen.append(name), layer.forward(value))[1])
    assert (y == net(x)).all()
    assert (y == net.trace(x).y).all()
    assert seen == list(net.names) == [name for name, _ in net.walk()]
    assert [(name, layer) for name, layer, _ in net.walk_trace(net.trace(x))] == list(net.walk())
    assert net.output_shape((3,)) == (3,)
    assert net.shapes((3,)) == {i.name: i.output_shape for i in layers(net, (3,))}


@given(cases(graphs()))
def test_a_cut_net_is_the_same_function(case):
    net, x, _ = case
    for name in net.names[:-1]:
        if net.can_cut(name):
            head, tail = net.cut(name)
            assert (tail(head(x)) == net(x)).all()
        else:
            with pytest.raises(ValueError, match="what follows also reads"):
                net.cut(name)
    assert net.can_cut("end")


def test_a_graph_of_many_shared_values_is_quick():
    """500 nodes that each read the two before them: unrolled, there would be more copies than atoms."""
    w = np.eye(4) / 2
    nodes = [("a", lrp.Linear(w), "input"), ("b", lrp.ReLU(), "a")]
    for k in range(500):
        nodes.append((f"s{k}", lrp.Sum(), (nodes[-1][0], nodes[-2][0])))
        nodes.append((f"l{k}", lrp.Linear(w), f"s{k}"))
    net = lrp.Graph([*nodes, ("end", lrp.Sum(), (nodes[-1][0], nodes[-2][0])), ("logits", lrp.Linear(w), "end")])
    e = lrp.explain(net, np.ones(4), 0, lrp.Epsilon())
    np.testing.assert_allclose(e.R.sum() + e.ledger.absorbed("eps"), e.y[0])


def test_activations_are_freed_when_the_last_reader_is_done():
    """Forward, a chain of 40 maps needs the memory of a few; a value that is read late stays until then."""
    maps = np.ones((60, 60, 32))
    chain = [(f"n{k}", lrp.Scale(np.ones(32)), f"n{k - 1}" if k else "input") for k in range(40)]
    net = lrp.Graph([*chain, ("late", lrp.Sum(), ("n39", "n0"))])
    tracemalloc.start()
    net.forward(maps)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * maps.nbytes


def test_nodes_and_entries_do_not_change_and_are_compared_as_objects():
    net = lrp.Sequential(lrp.Linear(np.ones((3, 2))), lrp.ReLU())
    e = lrp.explain(net, np.ones(3), 0, lrp.Z())
    for thing in (net.nodes[0], e.ledger.entries[0]):
        with pytest.raises(dataclasses.FrozenInstanceError):
            thing.name = "other"
        assert dataclasses.replace(thing) != thing


def test_several_inputs():
    net = lrp.Graph([("wa", lrp.Linear(np.eye(2)), "a"), ("sum", lrp.Sum(), ("wa", "b"))], inputs=("a", "b"))
    a, b = np.array([1.0, 2.0]), np.array([3.0, -1.0])
    np.testing.assert_array_equal(net((a, b)), [4.0, 1.0])
    R_a, R_b = net.relprop(net.trace((a, b)), np.array([4.0, 1.0]), lrp.Z())
    np.testing.assert_array_equal(R_a, a)
    np.testing.assert_array_equal(R_b, b)
    with pytest.raises(ValueError, match="x: expected a tuple of 2 inputs, a, b"):
        net(a)


def test_branches_are_there_by_name():
    a, b = lrp.ReLU(), lrp.Identity()
    assert lrp.Concat(left=a, right=b).branches == {"left": a, "right": b}


@pytest.mark.parametrize(
    ("axis", "shapes", "expected"),
    [
        (-1, [(4, 3, 1), (4, 3, 5)], (4, 3, 6)),
        (-2, [(4, 1, 6), (4, 2, 6)], (4, 3, 6)),
        (-3, [(1, 3, 6), (3, 3, 6)], (4, 3, 6)),
        (-3, [(1, 3, 6), (3, 2, 6)], None),
        (-3, [(1, 3, 6), (3, 3, 5)], None),
        (-2, [(1, 3, 6), (3, 3, 6)], None),
        (-3, [(3, 6), (3, 6)], None),
    ],
)
def test_concatenation_takes_what_differs_along_its_axis_only(axis, shapes, expected):
    layer = lrp.Concatenation(axis)
    if expected is None:
        with pytest.raises(ValueError, match="x: Concatenation expects maps of one size"):
            layer.output_shape(shapes)
    else:
        assert layer.output_shape(shapes) == layer.forward(tuple(map(np.ones, shapes))).shape == expected


@pytest.mark.parametrize(
    ("nodes", "options", "message"),
    [
        ([], {}, "Graph: expected at least one module, got none"),
        (
            [("a", lrp.ReLU(), "b"), ("b", lrp.ReLU(), "a")],
            {},
            "Graph: 'a' reads 'b', which is neither an input nor an earlier node",
        ),
        ([("a", lrp.ReLU(), "input"), ("a", lrp.ReLU(), "a")], {}, "names: 'a' occurs twice"),
        ([("a", lrp.ReLU(), "input"), ("b", lrp.ReLU(), "input")], {}, "Graph: no node reads 'a', and it is not the output"),
        ([("a", lrp.ReLU(), ("input", "input"))], {}, r"Graph: 'a' \(ReLU\) cannot read 2 values"),
        ([("a", lrp.ReLU(), "input")], {"output": "b"}, "output: 'b' is no node; there are a"),
    ],
)
def test_what_is_no_graph_is_refused(nodes, options, message):
    with pytest.raises(ValueError, match=message):
        lrp.Graph(nodes, **options)


def test_batch_normalisation_is_fused_where_it_alone_reads():
    rng = np.random.default_rng(0)
    conv, norm = lrp.Conv(rng.standard_normal((3, 3, 2, 4)), padding=1), lrp.BatchNorm(*rng.uniform(1, 2, (4, 4)))
    x = rng.standard_normal((5, 5, 2))
    once = lrp.Graph([("c", conv, "input"), ("n", norm, "c"), ("r", lrp.ReLU(), "n"), ("s", lrp.Sum(), ("n", "r"))])
    twice = lrp.Graph([("c", conv, "input"), ("n", norm, "c"), ("s", lrp.Sum(), ("n", "c"))])
    assert lrp.fuse(once).names == ("c", "r", "s")
    np.testing.assert_allclose(lrp.fuse(once)(x), once(x))
    assert lrp.fuse(twice) is twice


@pytest.mark.parametrize("n", [1, 28, 29, 30, 31, 60])
def test_a_long_net_prints_its_beginning_and_its_end_on_one_screen(n):
    net = lrp.Sequential([lrp.ReLU()] * n)
    lines, all_lines = repr(net).split("\n"), ["Sequential(", *(f"  relu{k}: ReLU()" for k in range(1, n + 1)), ")"]
    if len(all_lines) <= 31:
        assert lines == all_lines
    else:
        assert lines == [*all_lines[:15], f"  … {len(all_lines) - 30} more lines …", *all_lines[-15:]]

"""What the importers simplify computes the same as before, on random networks."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import integers, rngs

import lrp_toolbox as lrp
from lrp_toolbox.importers import layout, passes
from lrp_toolbox.importers.graph import Node, build

BORDERS = st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2)


def chain(*modules):
    """Nodes that apply one module after the other, "0", "1", … to "x"."""
    names = ["x", *map(str, range(len(modules)))]
    return {name: Node(name, (before,), m) for before, name, m in zip(names, names[1:], modules, strict=False)}


def forward(nodes, target, x):
    return build(nodes.values(), "x", target).forward(x)


KINDS = st.sampled_from(["conv", "max", "mean", "all"])


@given(rngs(), st.lists(BORDERS, min_size=1, max_size=3), BORDERS, KINDS, st.booleans())
def test_zeros_around_a_map_are_absorbed_only_where_that_is_the_same(rng, pads, own, kind, positive):
    layer = {
        "conv": lambda: lrp.Conv(rng.standard_normal((3, 3, 2, 2)), rng.standard_normal(2), padding=own),
        "max": lambda: lrp.MaxPool(3, 1, own),
        "mean": lambda: lrp.AvgPool(3, 1, own, count_include_pad=positive),
        "all": lambda: lrp.MaxPool(None),
    }[kind]()
    nodes = chain(*[lrp.ReLU()] * positive, *(lrp.Pad(pad) for pad in pads), layer)
    target, x = list(nodes)[-1], rng.standard_normal((5, 4, 2))
    found = passes.absorb_padding(nodes)
    np.testing.assert_allclose(forward(found, target, x), forward(nodes, target, x), rtol=1e-12, atol=1e-12)
    if kind == "conv":
        assert not any(isinstance(node.module, lrp.Pad) for node in passes.leading_to(found, target).values())


def test_a_map_that_others_read_keeps_its_zeros():
    nodes = chain(lrp.Pad(1), lrp.Conv(np.ones((3, 3, 1, 1)))) | {"sum": Node("sum", ("0", "0"), lrp.Sum())}
    found = passes.absorb_padding(nodes)
    assert found["1"].inputs == ("x",)
    assert found["sum"] == nodes["sum"]
    assert isinstance(found["0"].module, lrp.Pad)


@given(rngs(), st.booleans(), st.integers(0, 2))
def test_scales_at_the_input_join_the_preprocessing(rng, positive, following):
    def scale():
        w = rng.uniform(0.5, 2, 3) * (1 if positive else rng.choice([-1, 1], 3))
        return lrp.Scale(w, rng.uniform(-9, 9, 3))

    conv = lrp.Conv(rng.standard_normal((1, 1, 3, 2)))
    depthwise = lrp.Conv(rng.standard_normal((1, 1, 1, 3)), groups=3)
    nodes = chain(scale(), scale(), (conv, depthwise, lrp.ReLU())[following], lrp.AvgPool(None))
    before = lrp.Preprocessing((2, 2), mean=(1.0, 2.0, 3.0), std=(2.0, 1.0, 0.5))
    found, after = passes.absorb_input_scaling(nodes, "x", "3", before)
    photo = rng.integers(0, 256, (2, 2, 3)).astype(np.float64)
    x, expected = ((photo - p.mean) / p.std for p in (after, before))
    np.testing.assert_allclose(forward(found, "3", x), forward(nodes, "3", expected), rtol=1e-9, atol=1e-9)
    left = [node.module for node in found.values() if isinstance(node.module, lrp.Scale)]
    assert all(m.b is None for m in left[:1])
    assert not left or not positive
    assert found["2"].module is nodes["2"].module  # its weights stay as they are in the file


def test_a_scaling_that_is_not_the_only_reader_of_the_input_stays():
    nodes = chain(lrp.Scale(np.full(3, 2.0), np.ones(3))) | {"sum": Node("sum", ("0", "x"), lrp.Sum())}
    before = lrp.Preprocessing((2, 2))
    assert passes.absorb_input_scaling(nodes, "x", "sum", before) == (nodes, before)


@given(rngs())
def test_a_normalisation_in_two_layers_becomes_one(rng):
    norm = lrp.BatchNorm(rng.standard_normal(3), rng.uniform(0.5, 2, 3))
    nodes = chain(lrp.ReLU(), norm, lrp.Scale(rng.standard_normal(3), rng.standard_normal(3)))
    x = rng.standard_normal((4, 3))
    found = passes.fuse_normalisation(nodes, "2")
    assert [type(node.module) for node in found.values()] == [lrp.ReLU, lrp.BatchNorm]
    np.testing.assert_allclose(forward(found, "2", x), forward(nodes, "2", x), rtol=1e-9, atol=1e-12)
    assert passes.fuse_normalisation(nodes, "1") == nodes  # it is the output
    read = nodes | {"sum": Node("sum", ("1", "2"), lrp.Sum())}
    assert passes.fuse_normalisation(read, "sum") == read  # another layer reads it
    scaled = nodes | {"1": replace(nodes["1"], module=replace(norm, gamma=np.ones(3)))}
    assert passes.fuse_normalisation(scaled, "2") == scaled


@pytest.mark.parametrize("end", [lrp.SoftMax(), lrp.Sigmoid()])
@pytest.mark.parametrize("behind", [(), (lrp.Dropout(),), (lrp.Identity(), lrp.Dropout())])
def test_an_activation_at_the_end_is_left_off(end, behind):
    nodes = chain(lrp.Linear(np.eye(3)), end, *behind)
    found, target, dropped = passes.drop_last_activation(nodes, list(nodes)[-1])
    assert dropped.name == "1"
    x = np.array([1.0, 2.0, 4.0])
    assert (forward(found, target, x) == x).all()
    inner = chain(lrp.Linear(np.eye(3)), end, lrp.Linear(np.eye(3)))
    assert passes.drop_last_activation(inner, "2") == (inner, "2", None)


@given(rngs(), st.lists(st.tuples(*[st.integers(1, 4)] * 3), min_size=1, max_size=3))
def test_rows_of_flattened_maps_are_reordered(rng, maps):
    """A dense layer in their order on maps in their order is one in our order on maps in our order."""
    theirs = [integers(rng, *shape) for shape in maps]
    w = integers(rng, sum(a.size for a in theirs), 3)
    ours = np.concatenate([a.transpose(1, 2, 0).reshape(-1) for a in theirs])
    assert (ours @ layout.flattened_rows(w, maps) == np.concatenate([a.reshape(-1) for a in theirs]) @ w).all()

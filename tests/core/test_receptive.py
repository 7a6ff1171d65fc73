"""Receptive fields, against what a gradient reaches: with weights and inputs above 0 no path cancels."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import lrp_toolbox as lrp
from lrp_toolbox.receptive import Field, receptive_fields

ROWS, COLUMNS = 21, 17


@st.composite
def windowed(draw):
    """A layer that looks through windows, or pads."""
    kernel, stride = (draw(st.tuples(st.integers(1, n), st.integers(1, n))) for n in (3, 2))
    kind = draw(st.sampled_from(["conv", "conv", "avg", "sum", "pad", "within"]))
    if kind == "conv":
        padding = draw(st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2))
        dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
        return lrp.Conv(np.ones((*kernel, 1, 1)), None, stride, padding, dilation)
    if kind == "pad":
        return lrp.Pad(draw(st.tuples(*[st.tuples(st.integers(0, 2), st.integers(0, 2))] * 2)))
    if kind == "within":
        return lrp.LRN(draw(st.sampled_from([1, 3])), 1e-3, region="within")
    return (lrp.AvgPool if kind == "avg" else lrp.SumPool)(kernel, stride, ceil_mode=draw(st.booleans()))


@st.composite
def nets(draw):
    """Layers one after the other, some in two branches that are joined, where they fit."""
    modules = []
    for _ in range(draw(st.integers(1, 4))):
        first = draw(windowed())
        if draw(st.booleans()) and isinstance(first, lrp.Conv):
            small = lrp.Conv(np.ones((1, 1, 1, 1)), None, first.stride, 0)
            modules.append(draw(st.sampled_from([lrp.Concat, lrp.Add]))(first, small))
            if isinstance(modules[-1], lrp.Concat):
                modules.append(lrp.Conv(np.ones((1, 1, 2, 1))))
        else:
            modules.append(first)
    net = lrp.Sequential(modules)
    try:
        net.output_shape((ROWS, COLUMNS, 1))
    except ValueError:  # the map is used up, or the branches give maps that differ
        assume(False)
    return net


@given(nets())
def test_an_output_sees_what_its_gradient_reaches(net):
    shape = (ROWS, COLUMNS, 1)
    trace = net.trace(np.random.default_rng(0).uniform(1, 2, shape))
    place, field = receptive_fields(net, shape)[-1]
    assert place.output_shape == trace.y.shape
    for at in np.ndindex(*trace.y.shape[:2]):
        g = np.zeros(trace.y.shape)
        g[at] = 1
        reached = np.argwhere(net.gradient(trace, g)[..., 0])
        first, last = (np.add(edge, np.multiply(at, field.stride)) for edge in (field.first, field.last))
        assert (reached >= first).all()
        assert (reached <= last).all()
        if (first >= 0).all() and (last < shape[:2]).all():  # elsewhere it sees padding, too, and less of the map
            assert (reached.min(axis=0) == first).all()
            assert (reached.max(axis=0) == last).all()


def test_vgg16_as_the_literature_has_it(vgg16):
    fields = {place.name: field for place, field in receptive_fields(vgg16.net, vgg16.preprocessing.shape)}
    assert fields["block1_conv1"] == Field((-1, -1), (1, 1), (1, 1))
    sizes = {name: fields[name].size[0] for name in ("block1_pool", "block2_pool", "block3_pool", "block4_pool", "block5_pool")}
    assert list(sizes.values()) == [6, 16, 44, 100, 212]
    assert fields["block5_pool"].stride == (32, 32)
    assert fields["fc1"] is fields["flatten"] is None


def test_what_does_not_fit_is_told_with_the_layer():
    with pytest.raises(ValueError, match=r"^conv1: x: a window of 3 taps does not fit"):
        receptive_fields(lrp.Sequential(lrp.Conv(np.ones((3, 3, 1, 1)))), (2, 2, 1))


def test_neighbours_at_no_fixed_stride_see_up_to_the_whole_input():
    """So do all behind them. A slice of the channels, or a mean over them, changes nothing."""
    for layer in (
        lrp.Slice(-3, None, None, -1),
        lrp.Resize(9),
        lrp.Transpose((-2, -3, -1)),
        lrp.Mean((-3, -2)),
    ):
        assert receptive_fields(lrp.Sequential(layer), (4, 6, 2))[0][1] is None, layer
    for layer in (lrp.Slice(-1, 1, None, 2), lrp.Mean(-1, keepdims=True), lrp.ReLU(), lrp.LayerNorm()):
        assert receptive_fields(lrp.Sequential(layer), (4, 6, 2))[0][1] == Field(), layer
    assert Field().size == (1, 1)
    adaptive = receptive_fields(lrp.Sequential(lrp.AdaptiveAvgPool((2, 3)), lrp.AdaptiveAvgPool((2, 2))), (4, 6, 2))
    assert [field for _, field in adaptive] == [Field((0, 0), (1, 1), (2, 2)), None]


@given(st.integers(0, 4), st.integers(1, 3), st.booleans(), st.integers(1, 2))
def test_a_slice_begins_further_down_and_takes_longer_steps(start, step, rows, before):
    net = lrp.Sequential(lrp.Conv(np.ones((3, 2, 1, 1)), None, before), lrp.Slice(-3 if rows else -2, start, None, step))
    at, steps = ((start, 0), (step, 1)) if rows else ((0, start), (1, step))
    first = tuple(before * k for k in at)
    expected = Field(first, (first[0] + 2, first[1] + 1), tuple(before * k for k in steps))
    assert receptive_fields(net, (ROWS, COLUMNS, 1))[-1][1] == expected

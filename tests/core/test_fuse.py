"""Batch normalisation is merged where the flow of data allows it, whatever the nesting; the function stays."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support import rngs

import lrp_toolbox as lrp
from lrp_toolbox.modules import BatchNorm


def norm(rng, channels, shift=True):
    found = lrp.BatchNorm(rng.standard_normal(channels), rng.uniform(0.5, 2, channels), *rng.standard_normal((2, channels)))
    return found if shift else replace(found, mean=np.zeros(channels), beta=None)


def conv(rng, n_in, n_out, **options):
    return lrp.Conv(rng.standard_normal((3, 3, n_in // options.get("groups", 1), n_out)), rng.standard_normal(n_out), **options)


@st.composite
def chains(draw):
    """Layers one after the other, on maps of 4 channels, and then a dense layer."""
    rng = draw(rngs())
    makers = {
        "conv": lambda: conv(rng, 4, 4, padding=draw(st.integers(0, 1)), groups=draw(st.sampled_from([1, 2, 4]))),
        "norm": lambda: norm(rng, 4, draw(st.booleans())),
        "relu": lrp.ReLU,
        "dropout": lrp.Dropout,
        "identity": lrp.Identity,
    }
    kinds = draw(st.lists(st.sampled_from(list(makers)), min_size=2, max_size=8))
    layers = [(f"{kind}{k}", makers[kind]()) for k, kind in enumerate(kinds)]
    size = 11 - sum(2 - 2 * m.padding[0][0] for _, m in layers if isinstance(m, lrp.Conv))
    assume(size > 0)
    dense = lrp.Linear(rng.standard_normal((4 * size**2, 3)), rng.standard_normal(3))
    layers += [("flatten", lrp.Flatten()), ("norm of features", norm(rng, 4 * size**2)), ("dense", dense)]
    return layers, rng.standard_normal((11, 11, 4))


def nested(draw, layers, depth=0):
    """The same layers, some runs of them in a Sequential of their own."""
    if len(layers) < 2 or depth == 3:
        return layers
    first = draw(st.integers(0, len(layers) - 1))
    last = draw(st.integers(first + 1, len(layers)))
    inner = nested(draw, layers[first:last], depth + 1)
    before, after = nested(draw, layers[:first], depth + 1), nested(draw, layers[last:], depth + 1)
    return [*before, (f"group {layers[first][0]} {depth}", lrp.Sequential(inner)), *after]


@given(chains(), st.data())
def test_regrouping_into_nested_sequentials_changes_nothing(case, data):
    layers, x = case
    flat, deep = lrp.Sequential(layers), lrp.Sequential(nested(data.draw, layers))
    np.testing.assert_array_equal(deep(x), flat(x))
    fused, other = lrp.fuse(flat), lrp.fuse(deep)
    assert [name.rpartition("/")[2] for name, _ in other.walk()] == [name for name, _ in fused.walk()]
    for composite in (lrp.Z(), lrp.AlphaBeta(2), lrp.lrp_cmp(1), "epsilon_plus"):
        a, b = lrp.explain(flat, x, 0, composite), lrp.explain(deep, x, 0, composite)
        np.testing.assert_array_equal(a.R, b.R)


@given(chains())
def test_the_function_stays_and_what_can_be_merged_is(case):
    layers, x = case
    net = lrp.Sequential(layers)
    fused = lrp.fuse(net)
    np.testing.assert_allclose(fused(x), net(x), rtol=1e-9, atol=1e-9 * abs(net(x)).max())
    assert lrp.fuse(fused) is fused
    following = [m for _, m in fused.walk() if not isinstance(m, (lrp.Dropout, lrp.Identity))]
    for m, reader in pairwise(following):
        assert not (isinstance(m, (lrp.Conv, lrp.Linear)) and isinstance(reader, BatchNorm))
        if isinstance(m, BatchNorm) and isinstance(reader, (lrp.Conv, lrp.Linear)):
            assert isinstance(reader, lrp.Conv)  # only padding is in the way
            assert any(map(any, reader.padding))
            assert (m.b != 0).any()


def layers_with_weights(rng):
    return {
        "Linear": (lrp.Linear(rng.standard_normal((6, 4)), rng.standard_normal(4)), (6,)),
        "Conv": (conv(rng, 6, 4, groups=2, stride=2, dilation=2), (9, 9, 6)),
        "depthwise": (conv(rng, 6, 12, groups=6), (5, 5, 6)),
        "Conv1D": (lrp.Conv1D(rng.standard_normal((3, 3, 4)), groups=2), (8, 6)),
        "Conv3D": (lrp.Conv3D(rng.standard_normal((2, 2, 2, 6, 4)), stride=2), (5, 4, 6, 6)),
        "ConvTranspose": (lrp.ConvTranspose(rng.standard_normal((3, 3, 6, 2)), rng.standard_normal(4), 2, groups=2), (4, 3, 6)),
    }


@pytest.mark.parametrize("kind", list(layers_with_weights(np.random.default_rng(0))))
def test_every_layer_with_weights_takes_up_what_follows_and_what_precedes(kind):
    rng = np.random.default_rng(1)
    layer, shape = layers_with_weights(rng)[kind]
    x = rng.standard_normal((2, *shape))
    outputs = layer.output_shape(shape)[-1]
    after = lrp.Sequential(layer, lrp.Dropout(), norm(rng, outputs), norm(rng, outputs))
    assert [type(m).__name__ for m in lrp.fuse(after)] == [type(layer).__name__, "Dropout"]
    np.testing.assert_allclose(lrp.fuse(after)(x), after(x), rtol=1e-10, atol=1e-10)
    before = lrp.Sequential(norm(rng, shape[-1]), norm(rng, shape[-1]), lrp.Identity(), layer)
    if kind == "ConvTranspose":  # an output has as many taps as its place allows: a shift would not be one bias
        assert lrp.fuse(before) is before
    else:
        assert [type(m).__name__ for m in lrp.fuse(before)] == ["Identity", type(layer).__name__]
        np.testing.assert_allclose(lrp.fuse(before)(x), before(x), rtol=1e-10, atol=1e-10)


def test_padding_is_in_the_way_of_a_shift_only():
    rng = np.random.default_rng(2)
    layer, x = conv(rng, 2, 3, padding=1), rng.standard_normal((5, 5, 2))
    shifted, scaled = (lrp.Sequential(n=norm(rng, 2, shift), c=layer) for shift in (True, False))
    assert lrp.fuse(shifted) is shifted
    assert lrp.fuse(scaled).names == ("c",)
    np.testing.assert_allclose(lrp.fuse(scaled)(x), scaled(x))


def test_a_value_with_several_readers_stays():
    rng = np.random.default_rng(3)
    c, n, m = conv(rng, 2, 4), norm(rng, 4), norm(rng, 4)
    x = rng.standard_normal((5, 5, 2))
    net = lrp.Graph([("c", c, "input"), ("n", n, "c"), ("m", m, "n"), ("r", lrp.ReLU(), "n"), ("s", lrp.Sum(), ("m", "r"))])
    assert lrp.fuse(net).names == ("c", "m", "r", "s")  # m does not read alone what n was merged into
    np.testing.assert_allclose(lrp.fuse(net)(x), net(x))
    nested_output = lrp.Graph([("a", lrp.Sequential(c=c), "input"), ("n", n, "a"), ("s", lrp.Sum(), ("n", "a"))])
    assert lrp.fuse(nested_output) is nested_output


def test_channels_that_do_not_fit_are_an_error():
    rng = np.random.default_rng(4)
    with pytest.raises(ValueError, match="BatchNorm: expected 4 channels, as many as come in, got 3"):
        lrp.fuse(lrp.Sequential(conv(rng, 2, 4), norm(rng, 3)))

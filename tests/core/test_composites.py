"""Which layer follows which rule: the paper's variants of LRP_CMP, names, positions, and what is refused."""

import dataclasses

import numpy as np
import pytest

import lrp_toolbox as lrp
from lrp_toolbox.composites import layers
from lrp_toolbox.modules.base import Pass
from lrp_toolbox.modules.pooling import Winner


def zeros(*shape):
    return np.zeros(shape)


def vgg_like():
    return lrp.Sequential(
        conv1=lrp.Conv(zeros(3, 3, 3, 4), padding=1),
        relu1=lrp.ReLU(),
        conv2=lrp.Conv(zeros(3, 3, 4, 4), padding=1),
        relu2=lrp.ReLU(),
        pool1=lrp.MaxPool(2),
        conv3=lrp.Conv(zeros(3, 3, 4, 4), padding=1),
        relu3=lrp.ReLU(),
        conv4=lrp.Conv(zeros(3, 3, 4, 4), padding=1),
        relu4=lrp.ReLU(),
        pool2=lrp.AvgPool(2),
        flatten=lrp.Flatten(),
        fc1=lrp.Linear(zeros(16, 8)),
        relu5=lrp.ReLU(),
        fc2=lrp.Linear(zeros(8, 3)),
    )


SHAPE = (8, 8, 3)
EPS, FLAT, Z = lrp.Epsilon(1e-6), lrp.Flat(), lrp.Z()


def chosen(composite, net=None, shape=SHAPE):
    """Symbols of the rules of all layers that are no activation."""
    table = composite.resolve(net or vgg_like(), shape)
    return {p.name: r for p, r in zip(table.layers, table.rules, strict=True) if r.symbol != "="}


@pytest.mark.parametrize(
    ("composite", "convs", "pools"),
    [
        (lrp.lrp_cmp(alpha=1, flat=0), ["α1"] * 4, ["max", "z"]),  # Fig. 1(e)
        (lrp.lrp_cmp(alpha=2, flat=0), ["α2"] * 4, ["max", "z"]),
        (lrp.lrp_cmp(alpha=1, flat=1), ["♭", "α1", "α1", "α1"], ["max", "z"]),
        (lrp.lrp_cmp(), ["♭", "α2", "α2", "α2"], ["max", "z"]),  # the default: the best of Table I
        (lrp.lrp_cmp(alpha=1, flat=3), ["♭", "♭", "♭", "α1"], ["max", "z"]),  # Fig. 1(f)
        (lrp.lrp_cmp(flat="all"), ["♭"] * 4, ["♭", "♭"]),  # Fig. 1(g)
        (lrp.lrp_cmp(alpha=1, flat=3, pooling=True), ["♭", "♭", "α1", "α1"], ["♭", "z"]),
        (lrp.lrp_cmp(alpha=1, flat=6, pooling=True), ["♭"] * 4, ["♭", "♭"]),
        (lrp.lrp_cmp(alpha=1, flat=2, first=lrp.WSquare()), ["w²", "♭", "α1", "α1"], ["max", "z"]),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_lrp_cmp_as_the_paper_has_it(composite, convs, pools):
    rules = {"α1": lrp.AlphaBeta(1), "α2": lrp.AlphaBeta(2), "♭": FLAT, "z": Z, "w²": lrp.WSquare()}
    found = chosen(composite)
    assert [found[f"conv{i}"] for i in (1, 2, 3, 4)] == [rules[c] for c in convs]
    assert [found[f"pool{i}"].symbol for i in (1, 2)] == pools
    assert found["fc1"] == found["fc2"] == EPS


def test_names_say_which_variant():
    names = {
        lrp.lrp_cmp().name: "LRP_CMP:α2+♭",
        lrp.lrp_cmp(alpha=1, flat=0).name: "LRP_CMP:α1",
        lrp.lrp_cmp(alpha=1, flat=3).name: "LRP_CMP:α1+♭(3)",
        lrp.lrp_cmp(flat="all").name: "LRP_CMP:α2+♭(all)",
        lrp.lrp_cmp(flat=0, first=lrp.ZBox(0, 1)).name: "LRP_CMP:α2+zᴮ",
    }
    assert all(found == expected for found, expected in names.items())


def test_a_composite_of_ones_own_in_three_lines():
    mine = lrp.Composite(
        [(lrp.First(2), lrp.Flat()), ("fc*", lrp.Epsilon(0.5)), ((lrp.Conv, lrp.AvgPool), lrp.Gamma(1))], name="mine"
    )
    found = chosen(mine)
    assert [found[f"conv{i}"] for i in (1, 2, 3, 4)] == [FLAT, FLAT, lrp.Gamma(1), lrp.Gamma(1)]
    assert found["fc1"] == lrp.Epsilon(0.5)
    assert found["pool2"] == Z
    by_predicate = lrp.Composite([(lambda place: place.shape[:2] == (8, 8), lrp.Flat()), (lrp.Module, lrp.ZPlus())])
    assert [r.symbol for r in chosen(by_predicate).values()] == ["♭", "♭", "♭", "z⁺", "z⁺", "z", "z⁺", "z⁺"]


def test_the_first_entry_that_fits_decides():
    found = chosen(lrp.Composite([("conv2", lrp.Z()), ("conv*", lrp.Flat()), (lrp.Module, EPS)]))
    assert (found["conv1"], found["conv2"], found["fc1"]) == (FLAT, Z, EPS)


def test_uniform_takes_layers_by_what_they_are():
    found = chosen(lrp.uniform(lrp.AlphaBeta(2)))
    assert found["conv1"] == found["fc1"] == lrp.AlphaBeta(2)
    assert found["pool1"].symbol == "max"
    assert found["pool2"] == Z


def test_the_table_prints():
    text = str(lrp.lrp_cmp().resolve(vgg_like(), SHAPE))
    lines = text.splitlines()
    assert lines[0] == "LRP_CMP:α2+♭"
    assert lines[1].split() == ["layer", "type", "input", "rule"]
    assert lines[2].split() == ["conv1", "Conv", "8×8×3", "♭", "Flat()"]
    assert lines[-1].split() == ["fc2", "Linear", "8", "ε", "Epsilon(eps=1e-06)"]
    assert "♭ is uninformative in a dense layer" in str(lrp.uniform(lrp.Flat()).resolve(vgg_like(), SHAPE))
    assert "♭ says nothing" not in text


def branching():
    """Two convolutions touch the input; after the concat comes the second layer, in the residual the third and fourth."""
    c3, c4 = lrp.Conv(zeros(3, 3, 3, 2), padding=1), lrp.Conv(zeros(3, 3, 4, 4), padding=1)
    return lrp.Sequential(
        stem=lrp.Concat(a=lrp.Sequential(c=c3, r=lrp.ReLU()), b=c3),
        conv=c4,
        res=lrp.Add(main=lrp.Sequential(one=c4, r=lrp.ReLU(), two=c4), skip=lrp.Identity()),
        last=c4,
        pool=lrp.AvgPool(None),
        flatten=lrp.Flatten(),
        fc=lrp.Linear(zeros(4, 2)),
    )


def test_first_is_graph_order():
    found = {p.name: p.depth for p in layers(branching(), SHAPE)}
    assert found["stem/a/c"] == found["stem/b"] == 1
    assert [found[n] for n in ("conv", "res/main/one", "res/main/two", "res/sum", "last", "fc")] == [2, 3, 4, 4, 5, 6]
    one = chosen(lrp.lrp_cmp(flat=1), branching())
    assert [n for n, r in one.items() if r == FLAT] == ["stem/a/c", "stem/b"]
    three = chosen(lrp.lrp_cmp(flat=3), branching())
    assert [n for n, r in three.items() if r == FLAT] == ["stem/a/c", "stem/b", "conv", "res/main/one"]
    assert one["res/sum"] == EPS


def test_dense_is_a_role_with_an_override_by_name():
    """A head of convolutions that see the whole map is dense; a 1×1 convolution over a map is not, unless one says so."""
    net = lrp.Sequential(
        conv=lrp.Conv(zeros(3, 3, 3, 4), padding=1),
        fc6=lrp.Conv(zeros(8, 8, 4, 5)),
        relu=lrp.ReLU(),
        fc7=lrp.Conv(zeros(1, 1, 5, 3)),
        flatten=lrp.Flatten(),
    )
    assert [r.symbol for r in chosen(lrp.lrp_cmp(), net).values()] == ["♭", "ε", "ε"]
    assert [r.symbol for r in chosen(lrp.lrp_cmp(), net[:1]).values()] == ["♭"]
    wide = chosen(lrp.lrp_cmp(dense="fc*"), net, (9, 9, 3))
    assert [r.symbol for r in wide.values()] == ["♭", "ε", "ε"]
    assert [r.symbol for r in chosen(lrp.lrp_cmp(), net, (9, 9, 3)).values()] == ["♭", "αβ", "αβ"]


def test_pooling_of_the_whole_map_is_dense():
    """♭ would spread all there is over all places: a map that says nothing, in a net whose classes are told apart below."""
    for pool in (lrp.AvgPool(None), lrp.MaxPool(None), lrp.AvgPool(4), lrp.AvgPool(5, ceil_mode=True)):  # 5 reaches beyond
        net = lrp.Sequential(
            lrp.Conv(zeros(3, 3, 3, 2), padding=1), lrp.MaxPool(2), lrp.Conv(zeros(1, 1, 2, 3)), pool, lrp.Flatten()
        )
        symbols = [rule.symbol for rule in chosen(lrp.lrp_cmp(flat="all"), net, (8, 8, 3)).values()]
        assert symbols == ["♭", "♭", "♭", "max" if isinstance(pool, lrp.MaxPool) else "ε"]
        assert symbols == [r.symbol for r in chosen(lrp.lrp_cmp(flat=3, pooling=True), net, (8, 8, 3)).values()]


def mobile(*head):
    """Depthwise and 1 × 1 convolutions; the map halves three times."""
    layers = [lrp.Conv(zeros(3, 3, 3, 4), stride=2, padding=1), lrp.ReLU()]
    for stride in (2, 2):
        layers += [lrp.Conv(zeros(3, 3, 1, 4), stride=stride, padding=1, groups=4), lrp.ReLU(), lrp.Conv(zeros(1, 1, 4, 4))]
    return lrp.Sequential(*layers, *head)


@pytest.mark.parametrize("size", [8, 5, 32, 70])
@pytest.mark.parametrize(
    "pool", [lrp.AvgPool(None), lrp.AdaptiveAvgPool(1), lrp.AdaptiveMaxPool((1, 1)), lrp.Mean((-3, -2), True)]
)
def test_what_is_dense_does_not_vary_with_the_size_of_the_input(size, pool):
    """On 8 × 8 pixels the last convolutions stand on maps of 1 × 1. Those behind the pooling are dense on any input."""
    net = mobile(
        pool, lrp.Conv(zeros(1, 1, 4, 5)), lrp.ReLU(), lrp.Conv(zeros(1, 1, 5, 2)), lrp.Flatten(), lrp.Linear(zeros(2, 2))
    )
    found = layers(net, (size, size, 3))
    dense = [info.name for info in found if lrp.is_dense(info)]
    assert [name for name in dense if "pool" not in name] == ["conv6", "conv7", "linear1"]
    gated = lrp.Graph([
        ("c", lrp.Conv(zeros(3, 3, 3, 4), padding=1), "input"), ("squeeze", pool, "c"),
        ("a", lrp.Conv(zeros(1, 1, 4, 2)), "squeeze"), ("b", lrp.Conv(zeros(1, 1, 2, 4)), "a"),
        ("gate", lrp.Multiply(), ("c", "b")), ("d", lrp.Conv(zeros(1, 1, 4, 3)), "gate"),
    ])  # fmt: skip
    dense = [info.name for info in layers(gated, (size, size, 3)) if lrp.is_dense(info)]
    assert [name for name in dense if name != "squeeze"] == ["a", "b"]


def test_windows_that_cover_a_small_map_by_chance():
    """A convolution with a stride is no head; max-pooling of the last 2 × 2 places does not make what follows dense."""
    net = lrp.Sequential(lrp.Conv(zeros(2, 2, 3, 4), stride=2), lrp.MaxPool(2), lrp.Conv(zeros(1, 1, 4, 4)))
    assert not any(lrp.is_dense(info) for info in layers(net, (4, 4, 3)) if isinstance(info.module, lrp.Conv))
    assert not lrp.is_dense(layers(net[:1], (2, 2, 3))[0])
    head = lrp.Sequential(lrp.Conv(zeros(4, 4, 3, 4)), lrp.Conv(zeros(1, 1, 4, 4)))
    assert "dense: its window covers the whole map" in str(lrp.lrp_cmp().resolve(head, (4, 4, 3))).splitlines()[2]
    assert "dense" not in str(lrp.lrp_cmp().resolve(head, (5, 5, 3)))


def test_the_context_has_the_rule_of_each_layer_by_name():
    table = lrp.lrp_cmp().resolve(branching(), SHAPE)
    with pytest.raises(dataclasses.FrozenInstanceError):
        table.name = "other"
    symbols = {name: rule.symbol for name, rule in table.context().rules.items()}
    assert symbols == {
        "stem/a/c": "♭", "stem/a/r": "=", "stem/b": "♭", "stem/concat": "=", "conv": "αβ", "res/main/one": "αβ",
        "res/main/r": "=", "res/main/two": "αβ", "res/skip": "=", "res/sum": "ε", "last": "αβ", "pool": "ε", "flatten": "=",
        "fc": "ε",
    }  # fmt: skip
    assert table["res/main/one"] == lrp.AlphaBeta(2)
    with pytest.raises(KeyError, match="no layer 'x'; there are stem/a/c"):
        table["x"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: lrp.Composite([("conv9", FLAT), (lrp.Module, Z)], "mine").resolve(vgg_like(), SHAPE),
            "mine: the pattern 'conv9' matches no layer; there are conv1 (Conv), relu1 (ReLU)",
        ),
        (
            lambda: lrp.Composite([(lrp.Conv, FLAT)]).resolve(vgg_like(), SHAPE),
            "composite: no rule for fc1 (Linear), fc2 (Linear)",
        ),
        (lambda: lrp.lrp_cmp(flat=5).resolve(vgg_like(), SHAPE), "the first 5 layers are asked for, but there are 4"),
        (lambda: lrp.lrp_cmp(flat=-1), "flat: expected a number of layers ≥ 0, or 'all', got -1"),
        (lambda: lrp.lrp_cmp(flat="most"), "flat: expected a number of layers ≥ 0, or 'all', got 'most'"),
        (lambda: lrp.lrp_cmp(dense="head").resolve(vgg_like(), SHAPE), "the pattern 'head' matches no layer"),
        (
            lambda: lrp.Composite([("fc1", Pass()), (lrp.Module, Z)], "mine").resolve(vgg_like(), SHAPE),
            "mine: Pass() is for layers that do not mix their inputs, not for fc1 (Linear)",
        ),
        (
            lambda: lrp.uniform(Winner()).resolve(vgg_like(), SHAPE),
            "Winner(ties='share') is for layers that do not mix their inputs, not",
        ),
        (lambda: lrp.First(0), "n: expected a number of layers ≥ 1, got 0"),
        (lambda: lrp.lrp_cmp().resolve(vgg_like(), (8, 8, 4)), "conv1: x: Conv expects 3 features"),
        (lambda: lrp.lrp_cmp().resolve(vgg_like(), (16, 16, 3)), "fc1: x: Linear expects 16 features"),
    ],
)
def test_what_cannot_be_resolved_is_refused(make, message):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        make()
    assert message in str(caught.value)


def test_wrong_entries_are_refused():
    with pytest.raises(TypeError, match="entries: expected"):
        lrp.Composite([(lrp.Conv, "flat")])
    with pytest.raises(TypeError, match="entries: expected a type, a name pattern or a predicate"):
        lrp.Composite([(3, FLAT)])
    with pytest.raises(TypeError, match="explain the logits"):
        lrp.lrp_cmp().resolve(lrp.Sequential(lrp.Linear(zeros(2, 2)), lrp.SoftMax()), (2,))

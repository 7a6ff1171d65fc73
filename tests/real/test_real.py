"""Real weights on real pictures: what holds on toys has to hold here."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import ROOT
from support import closes

import lrp_toolbox as lrp

COMPOSITES = [
    lrp.Z(),
    lrp.Epsilon(0.1),
    lrp.AlphaBeta(1),
    lrp.AlphaBeta(2),
    lrp.lrp_cmp(1, flat=0),
    lrp.lrp_cmp(),
    lrp.lrp_cmp(flat="all"),
]
each_composite = pytest.mark.parametrize("composite", COMPOSITES, ids=lambda c: getattr(c, "name", None) or str(c))


@pytest.fixture(scope="session")
def annotations(data):
    return json.loads((data / "voc2007" / "annotations.json").read_text())


@pytest.fixture(scope="session")
def val(data, annotations):
    """(id, classes shown) of the validation photographs; `person` only where its boxes are complete."""
    ids = [line.split()[0] for line in (data / "voc2007/ImageSets/val.txt").read_text().splitlines()]
    return [(i, {kind for kind, *_ in annotations[i]["objects"]}) for i in ids]


def photo(data, model, name):
    return model.prepare(lrp.read_photo(data / "voc2007" / "JPEGImages" / f"{name}.jpg"))


# ---- LeNet-5 on digits -----------------------------------------------------------------------------------------------


def test_lenet_reads_ten_thousand_digits(lenet, digits):
    x, label = digits
    found = np.concatenate([lenet.net.forward(part).argmax(axis=1) for part in np.split(x, 20)])
    right = int((found == label).sum())
    assert right >= 9850
    assert f"**{right:,} of 10,000**" in lenet.card


@each_composite
def test_lenet_conserves_through_the_ledger(lenet, digits, composite):
    x = digits[0][::199]
    assert closes(lrp.explain(lenet, x, [0, "top", 9], composite), 1e-5)
    e = lrp.explain(lenet.net.astype(np.float64), x[:10].astype(np.float64), [0, "top", 9], composite)
    assert closes(e, 1e-12)


def test_lenet_z_is_gradient_times_input(lenet, digits):
    net, x = lenet.net.astype(np.float64), digits[0][::499].astype(np.float64)
    trace = net.trace(x)
    for target in (0, 7):
        R = lrp.explain(net, x, target, lrp.Z()).R
        expected = x * net.gradient(trace, np.eye(10)[[target] * len(x)])
        np.testing.assert_allclose(R, expected, rtol=1e-6, atol=1e-9 * abs(R).max())


def test_lenet_is_the_same_on_other_array_modules(lenet, digits, xp):
    x = digits[0][:3]
    for composite in (lrp.Epsilon(0.1), lrp.lrp_cmp()):
        here, there = lrp.explain(lenet, x, "top", composite), lrp.explain(lenet.net.to(xp), xp.asarray(x), "top", composite)
        np.testing.assert_allclose(lrp.to_numpy(there.R), here.R, rtol=1e-3, atol=1e-4 * abs(here.R).max())


def test_sixteen_threads_on_lenet(lenet, digits):
    x = digits[0][:16]
    alone = [lrp.explain(lenet, x[n]).R for n in range(16)]
    with ThreadPoolExecutor(16) as pool:
        for a, b in zip(alone, pool.map(lambda n: lrp.explain(lenet, x[n]).R, range(16)), strict=True):
            np.testing.assert_array_equal(a, b)


# ---- VGG-16 on photographs -------------------------------------------------------------------------------------------


@each_composite
def test_vgg16_conserves_through_the_ledger(vgg16, data, val, composite):
    """float32; LRP_z alone is so ill-conditioned in a net this deep that amounts pass which are far larger than the logit."""
    name, kinds = val[3]
    e = lrp.explain(vgg16, photo(data, vgg16, name), [*sorted(kinds)[:1], "top"], composite)
    assert closes(e, 1e-4)


def test_vgg16_z_is_gradient_times_input_in_double(vgg16, data, val):
    net = vgg16.net.astype(np.float64)
    x = photo(data, vgg16, val[7][0]).astype(np.float64)
    one = np.eye(20)[7]
    R = lrp.explain(net, x, 7, lrp.Z()).R
    expected = x * net.gradient(net.trace(x), one)
    np.testing.assert_allclose(R, expected, rtol=1e-5, atol=1e-8 * abs(expected).max())


@pytest.mark.parametrize(
    ("composite", "each_step", "whole"),
    [(lrp.lrp_cmp(), 1e-5, 1e-2), (lrp.AlphaBeta(1), 1e-5, 1e-2), (lrp.Epsilon(1e-6), 2e-2, 0.2)],
    ids=["cmp", "alphabeta", "epsilon"],
)
def test_vgg16_float32_is_close_to_float64(vgg16, data, val, composite, each_step, whole):
    """Layer by layer to rounding: αβ sums what has one sign; ε divides by sums that cancel (measured: 3e-3).

    The whole map is less alike, for rounding decides who wins in a max-pooling window of all but equal values, such as in a
    plain sky: single pixels jump by some percent of the largest (measured: 3 %), which is 0.1 % of all relevance.
    """
    net, double = vgg16.net, vgg16.net.astype(np.float64)
    x = photo(data, vgg16, val[11][0])
    e = lrp.explain(net, x, 7, composite, keep=["*"])
    trace = net.trace(x, context=e.rules.context())
    below = [e.R] + [e.layers[name] for name in net.names]
    for name, layer, t, R_in in zip(net.names, double.children, trace.children, below, strict=False):
        rule = e.rules[name]
        exact = layer.relprop(layer.trace(t.x.astype(np.float64), context=rule), e.layers[name].astype(np.float64), rule)
        assert abs(R_in - exact).max() <= each_step * abs(exact).max(), name
    exact = lrp.explain(double, x.astype(np.float64), 7, composite).R
    assert abs(e.R - exact).sum() <= whole * abs(exact).sum()


def likeness(a, b):
    """The cosine between two heatmaps."""
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def test_composites_tell_classes_apart_and_uniform_alphabeta_does_not(vgg16, data, val):
    """Sec. IV-B: for two classes in one photograph, LRP_α1 shows nearly the same twice, LRP_CMP two different things."""
    two = [(i, sorted(kinds)) for i, kinds in val if len(kinds) == 2][:5]
    same, different = [], []
    for name, kinds in two:
        x = photo(data, vgg16, name)
        for composite, found in ((lrp.AlphaBeta(1), same), (lrp.lrp_cmp(), different)):
            found.append(likeness(*lrp.explain(vgg16, x, kinds, composite).heatmap))
    assert np.median(np.abs(same)) > 0.9
    assert np.median(different) < 0.6


def test_vgg16_finds_classes_in_photographs(vgg16, data, val, annotations):
    """Mean average precision on every eighth validation photograph; on all 981 it stands in the card."""
    part = val[::8]
    logits = np.stack([vgg16.net.forward(photo(data, vgg16, name)) for name, _ in part])
    precisions = []
    for c, kind in enumerate(vgg16.classes):
        known = np.array([kind != "person" or annotations[name]["person_boxes_complete"] for name, _ in part])
        shown = np.array([kind in kinds for _, kinds in part])[known]
        if shown.any():
            hits = shown[np.argsort(-logits[known, c])]
            precisions.append((np.cumsum(hits) / np.arange(1, len(hits) + 1))[hits].mean())
    assert np.mean(precisions) >= 0.7


def test_one_command_explains_with_little_memory(tmp_path):
    """`lrp explain` with the photograph and the model that ship: under 1.2 GB, half of which are weights and libraries."""
    script = """
from lrp_toolbox.cli import main
assert main(["explain", "--ledger"]) == 0
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert done.stdout.splitlines()[1].split()[0] == "cat"
    assert (tmp_path / "cat-lrp.png").exists()
    assert int(done.stdout.split()[-2]) < 1_200_000  # KiB

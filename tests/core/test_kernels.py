"""The fast paths give the numbers of the plain paths, for any geometry, tiling and number of threads."""

import inspect
import threading
from concurrent.futures import ThreadPoolExecutor

import array_api_strict
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import ODD, rngs

import lrp_toolbox as lrp
from lrp_toolbox import kernels
from lrp_toolbox.kernels import cpu, gpu, plain
from lrp_toolbox.kernels.windows import Windows
from lrp_toolbox.weights import Derived, Given, Joined


@st.composite
def convolutions(draw):
    """Windows, a map, weights and groups; larger than those of the exact tests, so that there are several tiles."""
    rng = draw(rngs())
    kernel, stride, dilation = (draw(st.tuples(st.integers(1, 4), st.integers(1, 4))) for _ in range(3))
    padding = tuple((draw(st.integers(0, 4)), draw(st.integers(0, 4))) for _ in range(2))
    pointwise = draw(st.integers(0, 4)) == 0
    if pointwise:
        kernel, stride, padding = (1, 1), (1, 1), ((0, 0), (0, 0))
    size = tuple(
        max(draw(st.integers(1, 20)), d * (k - 1) + 1 - sum(p)) for k, d, p in zip(kernel, dilation, padding, strict=True)
    )
    groups, per_in, per_out = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 4))
    if pointwise:
        groups = 1
    elif draw(st.booleans()):  # depthwise
        groups, per_in = draw(st.integers(2, 9)), 1
    lead = draw(st.sampled_from([(), (2,), (2, 3)]))
    x = rng.standard_normal((*lead, *size, groups * per_in))
    w = rng.standard_normal((*kernel, per_in, groups * per_out))
    return Windows(kernel, stride, padding, dilation), x, w, groups, rng


@given(convolutions(), st.sampled_from([1, 100, 3000, 1 << 20]), st.sampled_from(["1", "2", "5"]), st.sampled_from([4, 8]))
def test_fast_convolution_is_plain_convolution(case, tile, threads, itemsize):
    windows, x, w, groups, rng = case
    x, w = x.astype(f"f{itemsize}"), w.astype(f"f{itemsize}")
    tolerance = {"rtol": 1e-4, "atol": 1e-4} if itemsize == 4 else {"rtol": 1e-10, "atol": 1e-10}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRP_NUM_THREADS", threads)
        patch.setattr(cpu, "TILE", tile)
        patch.setattr(cpu, "RUNS_TILE", tile)
        patch.setattr(cpu, "WORTH", 0)
        y = cpu.correlate(x, Given(w), windows, groups)
        np.testing.assert_allclose(y, plain.correlate(x, Given(w), windows, groups), **tolerance)
        assert y.dtype == x.dtype
        s = rng.standard_normal(y.shape).astype(x.dtype)
        back = cpu.correlate_T(s, Given(w), windows, x.shape[-3:-1], groups)
        np.testing.assert_allclose(back, plain.correlate_T(s, Given(w), windows, x.shape[-3:-1], groups), **tolerance)
        np.testing.assert_array_equal(back, cpu.correlate_T(s, Given(w), windows, x.shape[-3:-1], groups))  # whoever is first
        assert back.shape == x.shape
        assert back.dtype == x.dtype


@pytest.mark.parametrize("kernel", [(1, 1), (1, 2), (2, 1)])
@pytest.mark.parametrize("stride", [(1, 1), (1, 2), (2, 1)])
@pytest.mark.parametrize("groups", [1, 2])
def test_nothing_is_written_out_for_one_tap_and_what_is_nearly_that_is_right(kernel, stride, groups):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((3, 4, 4)), rng.standard_normal((*kernel, 4 // groups, 6))
    for padding in (((0, 0), (0, 0)), ((1, 0), (0, 0)), ((0, 1), (0, 0)), ((0, 0), (1, 0)), ((0, 0), (0, 1))):
        windows = Windows(kernel, stride, padding)
        assert cpu._is_pointwise(windows, groups) == (windows == Windows((1, 1)) and groups == 1)
        y = cpu.correlate(x, Given(w), windows, groups)
        np.testing.assert_allclose(y, plain.correlate(x, Given(w), windows, groups))
        back = cpu.correlate_T(y, Given(w), windows, (3, 4), groups)
        np.testing.assert_allclose(back, plain.correlate_T(y, Given(w), windows, (3, 4), groups), atol=1e-12)


@given(convolutions(), st.sampled_from(["1", "3"]))
def test_transposes_by_inner_products(case, threads):
    """⟨x ⋆ w, s⟩ = ⟨x, s ⋆ᵀ w⟩, without the plain path."""
    windows, x, w, groups, rng = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRP_NUM_THREADS", threads)
        patch.setattr(cpu, "TILE", 500)
        patch.setattr(cpu, "RUNS_TILE", 500)
        y = cpu.correlate(x, Given(w), windows, groups)
        s = rng.standard_normal(y.shape)
        np.testing.assert_allclose(
            (y * s).sum(), (x * cpu.correlate_T(s, Given(w), windows, x.shape[-3:-1], groups)).sum(), rtol=1e-8
        )


def test_inputs_that_are_views():
    """Neither strides nor broadcast axes matter, and arguments stay as they are."""
    rng = np.random.default_rng(0)
    windows, w = Windows((3, 3), padding=((1, 1), (1, 1))), rng.standard_normal((3, 3, 4, 5))
    for x in (
        rng.standard_normal((9, 8, 8))[::-1, :, ::2],
        np.broadcast_to(rng.standard_normal((1, 1, 4)), (9, 8, 4)),
        rng.standard_normal((4, 9, 8)).transpose(1, 2, 0),
    ):
        before = x.copy()
        y = cpu.correlate(x, Given(w), windows, 1)
        np.testing.assert_allclose(y, plain.correlate(x, Given(w), windows, 1))
        back = cpu.correlate_T(y[::, ::-1], Given(w[..., :]), windows, (9, 8), 1)
        np.testing.assert_allclose(back, plain.correlate_T(y[::, ::-1], Given(w), windows, (9, 8), 1))
        np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("top", [0, 1, 4])
def test_depthwise_convolutions_in_tiles_of_a_row(monkeypatch, stride, top):
    """Padding is above the first tiles only."""
    monkeypatch.setattr(cpu, "RUNS_TILE", 1)
    rng = np.random.default_rng(0)
    windows = Windows((5, 3), (stride, 1), ((top, 2), (1, 0)))
    x, w = rng.standard_normal((2, 12, 7, 3)), rng.standard_normal((5, 3, 1, 6))
    y = cpu.correlate(x, Given(w), windows, 3)
    np.testing.assert_allclose(y, plain.correlate(x, Given(w), windows, 3), atol=1e-12)
    back = cpu.correlate_T(y, Given(w), windows, (12, 7), 3)
    np.testing.assert_allclose(back, plain.correlate_T(y, Given(w), windows, (12, 7), 3), atol=1e-12)


@given(rngs(), st.integers(1, 40), st.integers(1, 9), st.integers(1, 40), st.sampled_from([1, 30, 1000]), st.floats(0, 1))
def test_dense_layers_in_blocks(rng, inputs, outputs, samples, block, zeros):
    """For an array of weights, and for weights that are derived block by block; with inputs that are 0 for all samples."""
    x, w = rng.standard_normal((samples, inputs)), rng.standard_normal((inputs, outputs))
    x[:, rng.random(inputs) < zeros] = 0
    s = rng.standard_normal((2, samples, 2 * outputs))
    parts = np.concatenate([np.maximum(w, 0), w * w], axis=1)
    joined = Joined(lambda sides: np.concatenate(sides, axis=-1), [Derived(kernels.positive_part, Given(w)), Given(w * w)])
    assert joined.shape == parts.shape
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cpu, "BLOCK", block)
        for threads in ("1", "3"):
            patch.setenv("LRP_NUM_THREADS", threads)
            np.testing.assert_allclose(cpu.dense(x, Given(w)), x @ w, rtol=1e-9, atol=1e-12)
            for weights in (joined, Derived(lambda w: w, joined)):
                np.testing.assert_allclose(cpu.dense(x, weights), x @ parts, rtol=1e-9, atol=1e-12)
                np.testing.assert_allclose(cpu.dense_T(s, weights), s @ parts.T, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("threads", ["1", "2"])
def test_derived_weights_of_a_convolution(monkeypatch, threads):
    monkeypatch.setenv("LRP_NUM_THREADS", threads)
    monkeypatch.setattr(cpu, "PART", 10)
    w = np.random.default_rng(0).standard_normal((3, 2, 5, 4))
    derived = Derived(np.multiply, Derived(kernels.positive_part, Given(w)), Given(w))
    np.testing.assert_array_equal(cpu.whole(derived), np.maximum(w, 0) * w)
    np.testing.assert_array_equal(derived.array(), np.maximum(w, 0) * w)
    np.testing.assert_array_equal(derived.rows((1, slice(1))), (np.maximum(w, 0) * w)[1, :1])


def test_all_kernels_have_the_same_functions_with_the_same_signatures():
    def public(module):
        functions = inspect.getmembers(module, inspect.isfunction)
        return {name: str(inspect.signature(f)) for name, f in functions if f.__module__ == module.__name__ and name[0] != "_"}

    helpers = {"whole", "worth_tiling"}  # how the CPU's kernels work
    assert {"correlate", "correlate_T", "dense", "dense_T", "elementwise", "total"} <= public(plain).keys()
    assert public(gpu) == public(plain)
    assert {name: s for name, s in public(cpu).items() if name not in helpers} == public(plain)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_choices_without_branches_are_those_of_where(dtype):
    """`zero_unless`, `quotient` and `signed`, bit by bit, beside what the array API standard gives."""
    with np.errstate(all="ignore"):
        a, b = (part.ravel() for part in np.meshgrid(np.asarray(ODD, dtype), np.asarray(ODD, dtype)))
        a, nothing = np.nan_to_num(a, posinf=3.0, neginf=-3.0), abs(b) < 1e-30
        A, B, N = (array_api_strict.asarray(v) for v in (a, b, nothing))
        for here, there in (
            (kernels.zero_unless(a, nothing), kernels.zero_unless(A, N)),
            (kernels.quotient(a, b, nothing), kernels.quotient(A, B, N)),
            (kernels.quotient(a, a, a == 9), kernels.quotient(A, A, A == 9)),
            (kernels.signed(0.25, b), kernels.signed(0.25, B)),
            (kernels.zero_unless(a.reshape(10, 10)[::2, ::3], np.eye(10, dtype=bool)[::2, ::3]), None),
        ):
            assert here.dtype == dtype
            if there is not None:
                np.testing.assert_array_equal(here, lrp.to_numpy(there))
        np.testing.assert_array_equal(
            kernels.zero_unless(a.reshape(10, 10), np.eye(10, dtype=bool)), np.diag(np.diag(a.reshape(10, 10)))
        )


@pytest.mark.parametrize("threads", ["1", "2", "7"])
def test_elementwise_in_pieces(monkeypatch, threads):
    monkeypatch.setenv("LRP_NUM_THREADS", threads)
    monkeypatch.setattr(cpu, "PIECE", 64)
    rng = np.random.default_rng(0)
    a, b, c = rng.standard_normal((3, 1, 9, 10, 4)), rng.standard_normal((3, 2, 9, 10, 4)), rng.standard_normal(4)
    for arrays in ((a, b), (b, c), (a, c), (b,), (b[0, 0],), (c, b), (rng.standard_normal((2, 999)), np.ones(999))):
        assert cpu.worth_tiling(*arrays)
        expected = sum(arrays) * 2
        np.testing.assert_array_equal(kernels.elementwise(lambda *v: sum(v) * 2, *arrays), expected)
        for lead in range(expected.ndim):
            total = kernels.total(lambda *v: sum(v) * 2, lead, *arrays)
            np.testing.assert_allclose(total, expected.sum(axis=tuple(range(lead, expected.ndim))))
    assert kernels.elementwise(np.negative, b.astype("f4")).dtype == np.float32


def test_elementwise_keeps_the_order_in_memory(monkeypatch):
    """Of the maps that `Sum` has side by side, each stays in one piece."""
    monkeypatch.setattr(cpu, "PIECE", 100)
    rng = np.random.default_rng(0)
    maps, factor = np.moveaxis(rng.standard_normal((2, 9, 8, 7)), 0, -1), rng.standard_normal((9, 8, 7, 1))
    y = cpu.elementwise(np.multiply, maps, factor)
    np.testing.assert_array_equal(y, maps * factor)
    assert y.strides == maps.strides
    assert cpu.elementwise(np.multiply, factor, maps[..., :1]).flags.c_contiguous


def test_pieces_are_neither_large_nor_many():
    sizes, x = [], np.ones((10, 300, 700))
    kernels.elementwise(lambda a: (sizes.append(a.size), a)[1], x)
    assert sum(sizes) == x.size
    assert max(sizes) <= 2 * cpu.PIECE
    assert len(sizes) <= 2 * x.size / cpu.PIECE


def test_the_number_of_threads_changes_no_sum(monkeypatch):
    """Pieces do not depend on it, and are added up in order."""
    x = np.random.default_rng(0).standard_normal((1, 500, 700)).astype("f4")
    sums = set()
    for threads in ("1", "2", "5"):
        monkeypatch.setenv("LRP_NUM_THREADS", threads)
        sums.add(float(kernels.total(np.square, 1, x)[0]))
    assert len(sums) == 1


def test_errors_come_out_of_threads_and_threads_share_no_scratch():
    rng = np.random.default_rng(0)
    windows = Windows((3, 3), padding=((1, 1), (1, 1)))
    jobs = [(rng.standard_normal((20, 20, c)), rng.standard_normal((3, 3, c, 4))) for c in range(1, 17)]
    alone = [cpu.correlate(x, Given(w), windows, 1) for x, w in jobs]
    start = threading.Barrier(16)

    def work(job):
        start.wait()
        x, w = job
        return [cpu.correlate(x, Given(w), windows, 1) for _ in range(20)]

    with ThreadPoolExecutor(16) as pool:
        for expected, found in zip(alone, pool.map(work, jobs), strict=True):
            for y in found:
                np.testing.assert_array_equal(y, expected)


def test_depthwise_and_small_layers_are_right_either_way(monkeypatch):
    """A Conv decides for itself which path it takes."""
    rng = np.random.default_rng(0)
    for groups in (1, 2, 6):
        layer = lrp.Conv(rng.standard_normal((3, 3, 6 // groups, 12)), padding=1, groups=groups)
        x = rng.standard_normal((2, 7, 7, 6))
        y = plain.correlate(x, Given(layer.w), layer.windows, groups)
        np.testing.assert_allclose(layer.forward(x), y)
        back = plain.correlate_T(y, Given(layer.w), layer.windows, (7, 7), groups)
        np.testing.assert_allclose(layer.gradient(layer.trace(x), y), back)

"""The metrics, against a second computation, and by the properties that make them metrics."""

import dataclasses
import json
import statistics
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support import rngs

import lrp_toolbox as lrp
from lrp_toolbox.data import VOC
from lrp_toolbox.kernels import positive_part
from lrp_toolbox.metrics import (
    Localisation,
    _median,
    aopc,
    bootstrap,
    few,
    localisation,
    over_size,
    pixel_flipping,
    pointing_game,
    summarise,
    uniform,
)
from lrp_toolbox.testing import to_fractions


@st.composite
def maps(draw, lead=()):
    """Relevance (…, height, width, channel) of small integers, and a mask."""
    rng = draw(rngs())
    size = (draw(st.integers(1, 7)), draw(st.integers(1, 7)))
    channels = draw(st.integers(1, 3))
    assume(not size[0] == size[1] == channels and not (lead and lead[-1] == size[0]))  # heatmaps or relevance?
    R = rng.integers(-3, 4, (*lead, *size, channels)).astype(float)
    return R, rng.random(size) < draw(st.sampled_from([0, 0.2, 0.5, 1]))


# ---- inside over total -----------------------------------------------------------------------------------------------


def mu_by_hand(R, boxes, width, height):
    """μ and μ_w of R (row, column, channel) for [class, xmin, ymin, xmax, ymax] as PASCAL VOC has them; pixel by pixel."""
    inside = total = pixels = 0
    for i, row in enumerate(R):
        for j, channels in enumerate(row):
            y, x = (i + 0.5) * height / len(R), (j + 0.5) * width / len(row)
            here = any(xmin - 1 <= x < xmax and ymin - 1 <= y < ymax for _, xmin, ymin, xmax, ymax in boxes)
            positive = max(sum(channels), 0)
            inside, total, pixels = inside + here * positive, total + positive, pixels + here
    return inside / total, inside / total * len(R) * len(R[0]) / pixels


def test_mu_on_a_real_photograph(data, vgg16):
    """Real relevance, real boxes; the second computation reads the annotations by itself."""
    raw = json.loads((data / "voc2007" / "annotations.json").read_text())
    items = VOC(data / "voc2007").items("val")
    item = next(item for item in items if len(item.measured) > 1)
    kinds = list(item.measured)
    e = lrp.explain(vgg16, vgg16.prepare(item.read()), kinds)
    found = localisation(e.R, np.stack([item.mask(kind, vgg16.preprocessing) for kind in kinds]))
    for k, kind in enumerate(kinds):
        boxes = [o for o in raw[item.id]["objects"] if o[0] == kind]
        mu, mu_w = mu_by_hand(e.R[k].astype(float).tolist(), boxes, raw[item.id]["width"], raw[item.id]["height"])
        assert found.mu[k] == pytest.approx(mu, rel=1e-5)  # channels are summed in float32
        assert found.mu_w[k] == pytest.approx(mu_w, rel=1e-5)
        assert 0 < mu < 1


@given(maps())
def test_mu_is_what_equation_5_says(case):
    R, mask = case
    found = localisation(R, mask)
    positive = [(max(sum(R[i, j]), 0), mask[i, j]) for i in range(mask.shape[0]) for j in range(mask.shape[1])]
    inside, total = sum(r for r, here in positive if here), sum(r for r, _ in positive)
    assert (found.inside, found.total, found.box, found.image) == (inside, total, mask.sum(), mask.size)
    assert found.empty == (not mask.any())
    assert found.without_relevance == (total == 0)
    if mask.any() and total:
        assert found.mu == inside / total
        assert found.mu_w == pytest.approx(inside / total * mask.size / mask.sum())
        assert 0 <= found.mu <= 1
    else:
        assert not found.counted
        assert np.isnan(found.mu)
        assert np.isnan(found.mu_w)


@given(maps())
def test_mu_in_fractions_is_exact(case):
    R, mask = case
    found, exact = localisation(R, mask), localisation(to_fractions(R), mask)
    assert exact.inside == found.inside
    assert exact.total == found.total
    if found.counted:
        assert exact.mu == Fraction(int(found.inside), int(found.total))
        assert exact.mu_w == exact.mu * Fraction(int(found.image), int(found.box))
        assert isinstance(exact.mu_w[()], Fraction)
    else:
        assert np.isnan(float(exact.mu))


@given(maps(), st.integers(-40, 40), st.floats(1e-3, 1e3))
def test_mu_does_not_depend_on_the_scale(case, power, factor):
    R, mask = case
    found = localisation(R, mask)
    np.testing.assert_array_equal(localisation(R * 2.0**power, mask).mu, found.mu)
    np.testing.assert_allclose(localisation(R * factor, mask).mu, found.mu, rtol=1e-12, atol=1e-15)


@given(maps())
def test_inside_and_outside_are_everything(case):
    R, mask = case
    found, rest = localisation(R, mask), localisation(R, ~mask)
    assert found.inside + rest.inside == found.total
    assert found.box + rest.box == found.image
    everything = localisation(R, np.ones_like(mask))
    assert everything.without_relevance or everything.mu == everything.mu_w == 1


@given(st.integers(1, 300), st.integers(1, 300), rngs(), st.floats(1e-30, 1e30))
def test_no_mu_is_above_one(height, width, rng, scale):
    """Not by a rounding either: everything relevant lies inside."""
    R = (rng.standard_normal((height, width)) * scale).astype(np.float32)
    found = localisation(R, R > 0)
    assert found.without_relevance or found.mu == 1


@given(maps(), st.floats(1e-3, 1e3))
def test_relevance_spread_evenly_is_the_baseline(case, value):
    _, mask = case
    baseline, spread = uniform(mask), localisation(np.full(mask.shape, value), mask)
    ones = localisation(np.ones(mask.shape), mask)
    if mask.any():
        assert baseline.mu == ones.mu == mask.mean()
        assert baseline.mu_w == ones.mu_w == 1
        assert spread.mu_w == pytest.approx(1)
    else:
        assert np.isnan([baseline.mu, baseline.mu_w, spread.mu_w]).all()


@given(maps(lead=(2, 3)), rngs())
def test_samples_and_targets_ride_along(case, rng):
    R, mask = case
    masks = rng.random((2, 3, *mask.shape)) < 0.5
    shared, own = localisation(R, mask), localisation(R, masks)
    for n in range(2):
        for t in range(3):
            np.testing.assert_array_equal(shared.mu_w[n, t], localisation(R[n, t], mask).mu_w)
            np.testing.assert_array_equal(own.mu_w[n, t], localisation(R[n, t], masks[n, t]).mu_w)


def test_what_was_measured_does_not_change():
    found = uniform(np.eye(3, dtype=bool))
    assert found.mu == 1 / 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.box = 0


def test_a_heatmap_is_relevance_with_its_channels_summed():
    rng = np.random.default_rng(0)
    R, mask = rng.standard_normal((4, 6, 5, 3)), rng.random((6, 5)) < 0.5
    np.testing.assert_array_equal(localisation(R, mask).mu, localisation(R.sum(axis=-1), mask).mu)
    one = np.array([[[2.0, -1.0]], [[-1.0, 2.0]], [[-2.0, 1.0]]])  # sums of 1, 1 and −1
    assert localisation(one, np.array([[True], [False], [True]])).mu == 0.5
    assert localisation(positive_part(one), np.array([[True], [False], [True]])).mu == 3 / 5


def test_any_array_module(xp):
    rng = np.random.default_rng(0)
    R, mask = rng.standard_normal((2, 6, 5, 3)).astype("float32"), rng.random((6, 5)) < 0.5
    expected = localisation(R, mask)
    for m in (mask, xp.asarray(mask)):
        found = localisation(xp.asarray(R), m)
        np.testing.assert_allclose(found.mu_w, expected.mu_w, rtol=1e-6)
        assert type(found.mu_w) is np.ndarray
    np.testing.assert_array_equal(pointing_game(xp.asarray(R), mask, 1), pointing_game(R, mask, 1))
    x, background = xp.asarray(R[0]), xp.asarray(np.zeros((6, 5, 3), "float32"))
    scores = pixel_flipping(lambda x: xp.sum(x, axis=(1, 2, 3)), x, x, background, region=2, steps=9)
    assert scores.shape == (10,)
    assert scores[-1] == 0


def test_what_does_not_fit_is_refused():
    R, mask = np.ones((4, 5, 3)), np.ones((4, 5), bool)
    with pytest.raises(TypeError, match="mask: expected booleans, got float64"):
        localisation(R, mask.astype(float))
    for wrong in (R[:3], R[..., None], np.ones((2, 5, 4, 3)), np.ones(20)):
        with pytest.raises(ValueError, match=r"R: expected .* to fit a mask of shape \(4, 5\), got shape"):
            localisation(wrong, mask)
    with pytest.raises(ValueError, match=r"to fit a mask of shape \(2, 4, 5\)"):
        localisation(np.ones((3, 4, 5)), np.ones((2, 4, 5), bool))
    with pytest.raises(ValueError, match=r"to fit a mask of shape \(5,\)"):
        localisation(R, mask[0])
    with pytest.raises(ValueError, match=r"R: shape \(4, 4, 4\) could be relevance or heatmaps"):
        localisation(np.ones((4, 4, 4)), np.ones((4, 4), bool))
    assert localisation(np.ones((4, 4, 4, 1)), np.ones((4, 4), bool)).mu.shape == (4,)
    for bad in (np.nan, np.inf):
        R[0, 0, 0] = bad
        with pytest.raises(ValueError, match="R: expected finite numbers, got NaN or infinity"):
            localisation(R, mask)


# ---- many measurements -----------------------------------------------------------------------------------------------


@st.composite
def measurements(draw, most=30):
    """Of two methods on the same boxes; some without relevance, some without a box."""
    n, rng = draw(st.integers(1, most)), draw(rngs())
    box = rng.integers(0, 101, n) * (rng.random(n) < 0.9)
    methods = []
    for _ in range(2):
        total = rng.integers(1, 50, n) * (rng.random(n) < 0.9)
        methods.append(Localisation(total * rng.random(n), total, box, np.full(n, 100)))
    return *methods, rng.integers(0, n, n)


def close(estimate, values, f):
    values = [v for v in values if not np.isnan(v)]
    assert estimate.n == len(values)
    assert estimate.value == pytest.approx(f(values) if values else np.nan, nan_ok=True)


@given(measurements())
def test_a_summary_is_table_1(case):
    method, other, groups = case
    rows = list(zip(method.mu, method.mu_w, method.box / method.image, strict=True))
    s = summarise(method, groups, samples=50)
    close(s.mu, [mu for mu, _, _ in rows], statistics.fmean)
    close(s.mu_w, [w for _, w, _ in rows], statistics.fmean)
    close(s.mu_25, [mu for mu, _, share in rows if share <= 0.25], statistics.fmean)
    close(s.mu_50, [mu for mu, _, share in rows if share <= 0.5], statistics.fmean)
    close(s.median_mu, [mu for mu, _, _ in rows], statistics.median)
    close(s.median_mu_w, [w for _, w, _ in rows], statistics.median)
    assert s.counted + s.empty + s.without_relevance == len(rows)
    assert s.empty == sum(method.box == 0)

    d = summarise(method, groups, minus=other, samples=50)
    close(d.mu, [a - b for a, b in zip(method.mu, other.mu, strict=True)], statistics.fmean)
    close(d.median_mu_w, [a - b for a, b in zip(method.mu_w, other.mu_w, strict=True)], statistics.median)
    assert d.counted + d.empty + d.without_relevance == len(rows)
    for field in ("mu", "mu_w", "mu_25", "median_mu"):
        estimate = getattr(d, field)
        assert np.isnan(estimate.low) or estimate.low <= estimate.high


@given(measurements())
def test_the_baseline_in_table_1_is_one(case):
    method, _, groups = case
    s = summarise(Localisation(method.box, method.image, method.box, method.image), groups, samples=50)
    if s.mu_w.n > 1 and not np.isnan(s.mu_w.low):
        assert (s.mu_w.value, s.mu_w.low, s.mu_w.high, s.median_mu_w.value) == (1, 1, 1, 1)


def test_a_method_against_itself_differs_by_nothing():
    rng = np.random.default_rng(0)
    method = Localisation(rng.random(40), np.ones(40), rng.integers(1, 100, 40), np.full(40, 100))
    s = summarise(method, minus=method)
    assert (s.mu_w.value, s.mu_w.low, s.mu_w.high) == (0, 0, 0)
    other = Localisation(method.inside, method.total, method.box[::-1], method.image)
    with pytest.raises(ValueError, match="minus: expected the same measurements, of the same boxes, got others"):
        summarise(method, minus=other)
    with pytest.raises(ValueError, match="groups: expected one for each of 40 values, got 3"):
        summarise(method, [1, 2, 3])
    with pytest.raises(ValueError, match=r"method: expected measurements in a row, \(n\), got shape \(\)"):
        summarise(localisation(np.ones((2, 2)), np.ones((2, 2), bool)))
    with pytest.raises(ValueError, match=r"values: expected \(n, k\) or \(n\)"):
        bootstrap(np.ones((1, 1, 1)))


def test_pairs_make_differences_sharp():
    """A method that is better by a little, always: the intervals overlap, that of the difference excludes nothing."""
    rng = np.random.default_rng(0)
    inside = rng.random(200) * 0.8
    box, image = np.full(200, 25), np.full(200, 100)
    worse, better = (Localisation(r, np.ones(200), box, image) for r in (inside, inside + 0.01 + 0.01 * rng.random(200)))
    a, b, d = summarise(worse).mu, summarise(better).mu, summarise(better, minus=worse).mu
    assert a.high > b.low
    assert d.low > 0.01
    assert d.value == pytest.approx(b.value - a.value)


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(0, 3)), min_size=1, max_size=12))
def test_a_weighted_median_is_the_median_of_repeated_values(pairs):
    values, weights = (np.array(part, float) for part in zip(*pairs, strict=True))
    [[median]] = _median(values[:, None], np.arange(len(values)), len(values))(weights[None])
    repeated = np.repeat(values, weights.astype(int))
    assert median == np.median(repeated) if len(repeated) else np.isnan(median)


@given(rngs(), st.integers(6, 12), st.sampled_from(["mean", "median"]))
def test_rows_of_one_image_are_drawn_together(rng, images, statistic):
    """Every row three times, said to be of one image, is no more evidence than once."""
    values = rng.integers(0, 9, images).astype(float)
    once = bootstrap(values, statistic, np.arange(images), samples=200)
    thrice = bootstrap(np.tile(values, 3), statistic, np.tile(np.arange(images), 3), samples=200)
    for a, b in zip(once, thrice, strict=True):
        assert (a.low, a.high) == (pytest.approx(b.low), pytest.approx(b.high))
        assert (b.value, b.n) == (pytest.approx(a.value), 3 * a.n)


@given(rngs(), st.sampled_from(["mean", "median"]))
def test_columns_do_not_see_each_other(rng, statistic):
    values = np.where(rng.random((20, 3)) < 0.8, rng.standard_normal((20, 3)), np.nan)
    together = bootstrap(values, statistic, samples=100)
    for k, estimate in enumerate(together):
        [alone] = bootstrap(values[:, k], statistic, samples=100)
        np.testing.assert_allclose(dataclasses.astuple(estimate), dataclasses.astuple(alone), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("statistic", ["mean", "median"])
@pytest.mark.parametrize("each", [1, 4])
def test_intervals_cover_what_they_say(statistic, each):
    """400 samples of a normal distribution, single or with rows of an image alike: 0 lies in 95 % of the intervals."""
    rng = np.random.default_rng(0)
    values = np.repeat(rng.standard_normal((80, 400)), each, axis=0)
    estimates = bootstrap(values, statistic, np.repeat(np.arange(80), each), samples=400)
    covered = sum(e.low <= 0 <= e.high for e in estimates) / 400
    assert 0.92 < covered < 0.98  # ± 3 standard errors
    ignorant = bootstrap(values, statistic, samples=400)
    if each > 1:
        assert sum(e.low <= 0 <= e.high for e in ignorant) / 400 < 0.8


def test_the_seed_decides():
    values = np.random.default_rng(0).standard_normal(50)
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values) != bootstrap(values, seed=1)
    assert bootstrap(values)[0].low > bootstrap(values, level=0.99)[0].low
    [single] = bootstrap(np.array([1.0, np.nan]))
    assert (single.value, single.n) == (1, 1)
    assert np.isnan(single.low)
    [nothing] = bootstrap(np.zeros(0))
    assert np.isnan([nothing.value, nothing.low, nothing.high]).all()
    assert str(bootstrap(np.ones(6))[0]) == "1.000 [1.000, 1.000]"
    assert [str(bootstrap(np.ones(n))[0]) for n in (0, 2)] == ["–", "1.000"]


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_intervals_are_those_of_resamples_drawn_one_by_one(statistic):
    """The rows of each image as a list of their own; a resample is the lists of the images that NumPy draws."""
    rng = np.random.default_rng(3)
    groups = rng.integers(0, 20, 60)
    values = np.where(rng.random(60) < 0.8, rng.standard_normal(60), np.nan)
    lists = [values[(groups == g) & ~np.isnan(values)] for g in np.unique(groups)]
    f = {"mean": np.mean, "median": np.median}[statistic]
    drawn = np.random.default_rng(7).integers(len(lists), size=(300, len(lists)))
    expected = np.quantile([f(np.concatenate([lists[k] for k in of])) for of in drawn], (0.05, 0.95))
    [found] = bootstrap(values, statistic, groups, samples=300, level=0.9, seed=7)
    assert (found.low, found.high) == pytest.approx(tuple(expected), rel=1e-12)


@given(rngs(), st.integers(1, 8), st.sampled_from(["mean", "median"]))
def test_too_few_images_have_no_interval(rng, images, statistic):
    """With five images, all differences have the same sign by chance more often than once in twenty."""
    values = rng.uniform(0.1, 1, 3 * images)
    [found] = bootstrap(values, statistic, np.repeat(np.arange(images), 3), samples=50)
    assert found.has_interval == (images >= 6) == (not few(images))
    assert few(6, level=0.99)
    assert not few(8, level=0.99)


# ---- over the size of boxes ------------------------------------------------------------------------------------------


@given(measurements(most=60), st.sampled_from([1, 4, 100]))
def test_curves_are_means_in_bins(case, bins):
    method, _, groups = case
    curve = over_size(method.mu, method.box, method.image, bins, groups, samples=50)
    assert len(curve.size) == bins
    for k in range(bins):
        inside = [
            mu
            for mu, box in zip(method.mu, method.box.tolist(), strict=True)
            if Fraction(k, bins) < Fraction(box, 100) <= Fraction(k + 1, bins) and not np.isnan(mu)
        ]
        assert curve.n[k] == len(inside)
        assert curve.size[k] == pytest.approx((k + 0.5) / bins)
        if inside:
            assert curve.mean[k] == pytest.approx(statistics.fmean(inside))
            assert curve.std[k] == pytest.approx(statistics.pstdev(inside), abs=1e-12)
        else:
            assert np.isnan([curve.mean[k], curve.std[k], curve.low[k], curve.high[k]]).all()
    assert curve.n.sum() == method.counted.sum()


def test_a_quarter_of_the_curve_is_mu_25():
    rng = np.random.default_rng(0)
    method = Localisation(rng.random(2000), np.ones(2000), rng.integers(1, 101, 2000), np.full(2000, 100))
    curve, s = over_size(method.mu, method.box, method.image), summarise(method)
    assert s.mu_25.n == curve.n[:25].sum()
    assert s.mu_25.value == pytest.approx(np.average(curve.mean[:25], weights=curve.n[:25]))
    baseline = over_size(method.box / method.image, method.box, method.image)
    assert (np.abs(baseline.mean - baseline.size) <= 0.5 / 100 + 1e-12).all()
    with pytest.raises(ValueError, match=r"values, box, image: expected \(n\) each"):
        over_size(method.mu, method.box[:3], method.image)


# ---- other judges ----------------------------------------------------------------------------------------------------


@given(maps(), st.sampled_from([0, 1, 1.5, 2, 3, 15]))
def test_pointing_is_measured_pixel_by_pixel(case, tolerance):
    R, mask = case
    heatmap = R.sum(axis=-1)
    best = [(i, j) for i, j in np.ndindex(*mask.shape) if heatmap[i, j] == heatmap.max()]
    boxes = np.argwhere(mask)
    hits = [any((i - y) ** 2 + (j - x) ** 2 <= tolerance**2 for y, x in boxes) for i, j in best]
    expected = sum(hits) / len(hits) if heatmap.max() > 0 and mask.any() else np.nan
    np.testing.assert_array_equal(pointing_game(R, mask, tolerance), expected)


@given(maps(lead=(3,)))
def test_pointing_takes_several(case):
    R, mask = case
    heatmaps = R.sum(axis=-1)
    np.testing.assert_array_equal(pointing_game(heatmaps, mask, 1), [pointing_game(R, mask, 1) for R in heatmaps])
    masks = np.stack([mask, ~mask, mask])
    np.testing.assert_array_equal(pointing_game(heatmaps, masks, 1)[1], pointing_game(heatmaps[1], ~mask, 1))


@pytest.mark.parametrize("tolerance", [0, 1, 2.9, 5, 15])
def test_tolerance_is_a_disc(tolerance):
    """A box of one pixel, and a map for each pixel that points there and nowhere else."""
    points = np.eye(17 * 19).reshape(-1, 17, 19)
    mask = np.zeros((17, 19), bool)
    mask[6, 8] = True
    expected = [(i - 6) ** 2 + (j - 8) ** 2 <= tolerance**2 for i in range(17) for j in range(19)]
    np.testing.assert_array_equal(pointing_game(points, mask, tolerance), expected)


def test_pointing_forgives_fifteen_pixels():
    """As in Zhang et al. 2018."""
    mask = np.eye(1, 40, dtype=bool)
    assert [float(pointing_game(np.eye(1, 40, k), mask)) for k in (0, 15, 16)] == [1, 1, 0]


def test_pointing_anywhere_is_chance():
    mask = np.zeros((20, 20), bool)
    mask[5:10, 5:10] = True
    assert pointing_game(np.ones((20, 20)), mask, 0) == mask.mean()
    with pytest.raises(ValueError, match="tolerance: expected a number of pixels ≥ 0, got -1"):
        pointing_game(np.ones((20, 20)), mask, -1)


@st.composite
def linear_models(draw):
    """Weights (height, width, channel), an input, a background, and the side of a region; small integers."""
    rng, size = draw(rngs()), (draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(1, 3)))
    w, x, background = (rng.integers(-3, 4, size).astype(float) for _ in range(3))
    return rng, w, x, background, draw(st.integers(1, 4))


@given(linear_models(), st.booleans(), st.integers(1, 5))
def test_flipping_region_by_region(case, first, batch):
    """One region after the other, in a copy of x, for a linear model."""
    rng, w, x, background, region = case
    R = rng.integers(-3, 4, x.shape).astype(float)
    corners = [(i, j) for i in range(0, x.shape[0], region) for j in range(0, x.shape[1], region)]
    sign = -1 if first else 1
    ordered = sorted(corners, key=lambda c: sign * R[c[0] : c[0] + region, c[1] : c[1] + region].sum())
    expected, flipped = [(w * x).sum()], x.copy()
    for i, j in ordered:
        at = slice(i, i + region), slice(j, j + region)
        flipped[at] = background[at]
        expected.append((w * flipped).sum())
    steps = int(rng.integers(0, len(corners) + 1))
    found, fewer = (
        pixel_flipping(
            lambda x: (w * x).sum(axis=(1, 2, 3)), x, R, background,
            region=region, steps=n, most_relevant_first=first, batch=batch,
        )
        for n in (len(corners), steps)
    )  # fmt: skip
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(fewer, expected[: steps + 1])
    assert aopc(found) == pytest.approx(statistics.fmean(expected[0] - y for y in expected))


@given(linear_models())
def test_no_order_beats_the_true_one(case):
    """For a linear model w · (x − background) is what each pixel brings: MoRF has the largest area, LeRF the smallest."""
    rng, w, x, background, region = case

    def area(R, first=True):
        scores = pixel_flipping(
            lambda x: (w * x).sum(axis=(1, 2, 3)), x, R, background,
            region=region, steps=regions, most_relevant_first=first,
        )  # fmt: skip
        return aopc(scores)

    regions = -(-x.shape[0] // region) * -(-x.shape[1] // region)
    truth, random = w * (x - background), rng.standard_normal(x.shape)
    assert area(truth) >= area(random) - 1e-9
    assert area(random) >= area(truth, first=False) - 1e-9


def test_flipping_a_digit(lenet):
    """A real network notices when what LRP points at goes, and hardly when the rest does."""
    x = lenet.prepare(lrp.read_photo(lenet.example))
    e = lrp.explain(lenet, x)
    target = int(e.target)
    background = np.full_like(x, lenet.bounds[0][0])

    def f(x):
        return lenet.net(x)[:, target]

    morf, lerf = (pixel_flipping(f, x, e.R, background, region=4, steps=30, most_relevant_first=m) for m in (True, False))
    assert morf[0] == pytest.approx(lerf[0], rel=1e-5)
    assert morf[0] == pytest.approx(float(e.y[target]), rel=1e-5)
    assert aopc(morf) > 3 * aopc(lerf)


def test_regions_are_nine_pixels_wide_as_those_of_samek():
    x = np.ones((10, 10, 1))
    scores = pixel_flipping(f=lambda x: x.sum(axis=(1, 2, 3)), x=x, R=x, background=0 * x, steps=4)
    assert scores.tolist() == [100, 19, 10, 1, 0]


def test_flipping_refuses_what_does_not_fit():
    x = np.ones((4, 4, 3), "float32")
    zero = np.zeros_like(x)
    f = lambda x: x.sum(axis=(1, 2, 3))
    with pytest.raises(ValueError, match="steps: expected at most 4, as many as there are regions, got 5"):
        pixel_flipping(f, x, x, zero, region=2, steps=5)
    with pytest.raises(TypeError, match="background is float64, but x is float32"):
        pixel_flipping(f, x, x, zero.astype(float), region=2, steps=4)
    with pytest.raises(ValueError, match=r"f: expected a number for each of 5 x, got shape \(5, 3\)"):
        pixel_flipping(lambda x: x.sum(axis=(1, 2)), x, x, zero, region=2, steps=4)
    with pytest.raises(ValueError, match=r"x: expected \(height, width, channel\), got shape \(1, 4, 4, 3\)"):
        pixel_flipping(f, x[None], x, zero)
    with pytest.raises(ValueError, match=r"R: expected \(4, 4, 3\), the relevance of x, or \(4, 4\), got \(2, 4, 4\)"):
        pixel_flipping(f, x, np.ones((2, 4, 4)), zero)
    with pytest.raises(ValueError, match="R: expected finite numbers, got NaN or infinity"):
        pixel_flipping(f, x, x * np.nan, zero)

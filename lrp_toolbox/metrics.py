"""How good an explanation is: how much of it lies on the object, and how fast the output falls without what it points at.

The inside-total relevance ratio of Kohlbrenner et al. 2020 (Sec. III-C),

    μ = R_in / R_tot        μ_w = μ · S_tot / S_in                                                                    (5)

with R_in and R_tot the sums of positive relevance in the boxes of a class and on the whole image, S_in and S_tot their
sizes in pixels. What the paper does not say, and is done here: relevance is summed over the channels before its positive
part is taken; the boxes of a class count as their union; sizes are counted on the network's input, where relevance is
counted, too; a pair without positive relevance, or whose boxes have no pixel after cropping, is left out and counted.

μ_w is heavy-tailed, since a box of few pixels may weigh hundreds. So there are medians beside means, and every number has
an interval: percentiles over bootstrap resamples (Efron and Tibshirani 1993), which draw images, and not measurements,
where several measurements come from one image. Resamples depend only on the seed and the number of images, so that all
methods are compared on the same resamples.

References
----------
Kohlbrenner et al. 2020, Towards best practice in explaining neural network decisions with LRP, IJCNN.
Samek et al. 2017, Evaluating the visualization of what a deep neural network has learned, IEEE TNNLS 28(11).
Zhang et al. 2018, Top-down neural attention by excitation backprop, IJCV 126(10).
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from . import backend, kernels
from .backend import Array, namespace

Numbers = np.ndarray[Any, Any]
Statistic = Literal["mean", "median"]


# ---- Inside over total -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Localisation:
    """The parts of μ and μ_w: one number each, or an array of them for many measurements.

    inside, total   R_in and R_tot: positive relevance in the boxes and on the image
    box, image      S_in and S_tot: pixels in the boxes and of the image
    """

    inside: Any
    total: Any
    box: Any
    image: Any

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, np.asarray(getattr(self, field.name)))

    @property
    def empty(self) -> Numbers:
        """Where no pixel is left of the boxes."""
        return np.asarray(self.box == 0)

    @property
    def without_relevance(self) -> Numbers:
        """Where no relevance is positive."""
        return np.asarray(self.total == 0)

    @property
    def counted(self) -> Numbers:
        """Where there is something to measure."""
        return ~(self.empty | self.without_relevance)

    @property
    def mu(self) -> Numbers:
        """μ = R_in / R_tot (Eq. 5), from 0 to 1; nan where it does not count."""
        return self._ratio(self.inside, self.total)

    @property
    def mu_w(self) -> Numbers:
        """μ_w = μ · S_tot / S_in (Eq. 5): how many times the μ of evenly spread relevance; nan where it does not count."""
        return self._ratio(self.inside * self.image, self.total * self.box)

    def _ratio(self, above: Numbers, below: Numbers) -> Numbers:
        return np.asarray(np.where(self.counted, above, np.nan) / np.where(self.counted, below, 1))


def localisation(R: Array, mask: Array) -> Localisation:
    """How much of the positive relevance lies in the boxes (Eq. 5).

    R is relevance (…, height, width, channel), or a heatmap (…, height, width): the mask says which. The mask,
    (height, width) or with leading axes like those of R, is True in the boxes. To take the positive part in each channel
    before the sum, give R⁺.

    Raises ValueError if R is not finite, or fits the mask in neither way or both, TypeError if the mask is not boolean.
    """
    heatmap = _heatmap(R, mask)
    xp, lead = namespace(heatmap), heatmap.ndim - 2
    nothing, pixels = backend.zeros((), heatmap), backend.to_numpy(mask)
    inside_boxes = backend.asarray_like(mask, heatmap) if isinstance(mask, np.ndarray) else mask
    total = kernels.total(lambda h: xp.where(h > nothing, h, nothing), lead, heatmap)
    inside = kernels.total(lambda h, m: xp.where(m & (h > nothing), h, nothing), lead, heatmap, inside_boxes)
    box = np.broadcast_to(pixels.sum(axis=(-2, -1)), heatmap.shape[:-2])
    image = np.full(box.shape, heatmap.shape[-2] * heatmap.shape[-1])
    return Localisation(backend.to_numpy(inside), backend.to_numpy(total), box, image)


def uniform(mask: Array) -> Localisation:
    """The baseline, relevance spread evenly over the image: μ = S_in / S_tot, and μ_w = 1."""
    pixels = backend.to_numpy(mask)
    box = pixels.sum(axis=(-2, -1))
    image = np.full(box.shape, pixels.shape[-2] * pixels.shape[-1])
    return Localisation(box, image, box, image)


def _heatmap(R: Array, mask: Array) -> Array:
    """R as (…, height, width), its channels summed, as it fits the mask."""
    xp = namespace(R)
    if backend.to_numpy(mask).dtype != np.bool_:
        raise TypeError(f"mask: expected booleans, got {mask.dtype}")
    size, lead = tuple(mask.shape[-2:]), tuple(mask.shape[:-2])
    shapes = (tuple(R.shape), tuple(R.shape[:-1]))  # as a heatmap, and as relevance
    fits = [len(size) == 2 and shape[-2:] == size and shape[len(shape) - 2 - len(lead) : -2] == lead for shape in shapes]
    if fits == [True, True]:
        raise ValueError(
            f"R: shape {shapes[0]} could be relevance or heatmaps; sum the channels, or give heatmaps an axis of 1"
        )
    if fits == [False, False]:
        raise ValueError(
            f"R: expected (…, height, width, channel) or (…, height, width) to fit a mask of shape {tuple(mask.shape)}, "
            f"got shape {shapes[0]}"
        )
    if not backend.is_finite(R):
        raise ValueError("R: expected finite numbers, got NaN or infinity")
    return R if fits[0] else xp.sum(R, axis=-1)


# ---- Many measurements -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Estimate:
    """A statistic of n values, and the interval in which it lies for most resamples.

    `value` is nan if n is 0; `low` and `high` are nan if there are too few images for an interval.
    """

    value: float
    low: float
    high: float
    n: int

    @property
    def has_interval(self) -> bool:
        return not np.isnan(self.low)

    def __str__(self) -> str:
        if not self.n:
            return "–"
        return f"{self.value:.3f}" + (f" [{self.low:.3f}, {self.high:.3f}]" if self.has_interval else "")


def bootstrap(
    values: Numbers,
    statistic: Statistic = "mean",
    groups: Sequence[Any] | Numbers | None = None,
    *,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Estimate]:
    """The statistic of each column of `values`, (n, k) or (n), with its percentile interval. nan values do not count.

    groups   the image of each row: all rows of an image are drawn together. None: each row is an image of its own

    `scipy.stats.bootstrap` draws the images. All columns see the same resamples, and so do two calls with the same number of
    images and the same seed. A column with too few images (see `few`) has no interval: `low` and `high` are nan.
    """
    values = np.asarray(values, np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2:
        raise ValueError(f"values: expected (n, k) or (n), got shape {values.shape}")
    image = _numbered(groups, len(values))
    images, counts = int(image.max(initial=-1)) + 1, ~np.isnan(values)
    of_times = {"mean": _mean, "median": _median}[statistic](values, image, images)
    found = of_times(np.ones((1, images)))[0]
    enough = np.array([not few(len(np.unique(image[of])), level) for of in counts.T], bool)
    intervals = np.full((2, values.shape[1]), np.nan)
    if enough.any():
        drawn = _resampled(of_times, images, len(values), samples, seed)
        intervals[:, enough] = np.nanquantile(drawn[enough], ((1 - level) / 2, (1 + level) / 2), axis=1)
    columns = zip(found, *intervals, counts.sum(axis=0), strict=True)
    return [Estimate(float(value), float(low), float(high), int(n)) for value, low, high, n in columns]


def few(images: int, level: float = 0.95) -> bool:
    """Whether so few images allow no interval at this level: with fewer than six, 95 % cannot be reached.

    Even if the differences of all n images have the same sign, chance alone does this with probability 2 · 2⁻ⁿ.
    """
    return bool(2.0 ** (1 - images) > 1 - level)


def _numbered(groups: Sequence[Any] | Numbers | None, rows: int) -> Numbers:
    """For each row the number of its image."""
    if groups is None:
        return np.arange(rows)
    if len(groups) != rows:
        raise ValueError(f"groups: expected one for each of {rows} values, got {len(groups)}")
    return np.unique(np.asarray(groups), return_inverse=True)[1]


OfTimes = Callable[[Numbers], Numbers]  # times (resample, image) that each image is drawn → the statistic (resample, k)
MAX_WEIGHTS = 1 << 22  # numbers in memory at a time


def _resampled(of_times: OfTimes, images: int, rows: int, samples: int, seed: int) -> Numbers:
    """The statistic of each resample, (k, resample)."""
    from scipy import stats  # takes a second to import, which is for those who ask for intervals

    def statistic(drawn: Numbers, axis: int) -> Numbers:
        """From the numbers of the images that are drawn, (resample, images), to (k, resample)."""
        apart = drawn + images * np.arange(len(drawn))[:, None]
        times = np.bincount(apart.ravel(), minlength=drawn.size).reshape(drawn.shape)
        return of_times(times.astype(np.float64)).T

    with warnings.catch_warnings():  # nan in a resample that has no value of a column; the quantiles pass over these
        warnings.simplefilter("ignore", stats.DegenerateDataWarning)
        found = stats.bootstrap(
            (np.arange(images),),
            statistic,
            n_resamples=samples,
            batch=max(1, MAX_WEIGHTS // rows),
            method="percentile",
            vectorized=True,
            rng=np.random.default_rng(seed),
        )
    return np.asarray(found.bootstrap_distribution)


def _mean(values: Numbers, image: Numbers, images: int) -> OfTimes:
    """Σ_i t_i s_i / Σ_i t_i n_i, with s_i the sum of the n_i values of image i, drawn t_i times; nan where nothing is drawn."""
    sums, n = np.zeros((images, values.shape[1])), np.zeros((images, values.shape[1]))
    np.add.at(sums, image, np.where(np.isnan(values), 0, values))
    np.add.at(n, image, ~np.isnan(values))

    def of_times(times: Numbers) -> Numbers:
        drawn = times @ n
        return np.asarray(np.where(drawn > 0, times @ sums, np.nan) / np.where(drawn > 0, drawn, 1))

    return of_times


def _median(values: Numbers, image: Numbers, images: int) -> OfTimes:
    """The middle one of the drawn values, or the mean of the middle two; nan where nothing is drawn."""

    def of_times(times: Numbers) -> Numbers:
        medians = np.full((len(times), values.shape[1]), np.nan)
        for k, column in enumerate(values.T):
            order = np.argsort(column)[: np.count_nonzero(~np.isnan(column))]  # nan is sorted to the end
            if len(order):
                drawn = np.cumsum(times[:, image[order]], axis=1)
                n = drawn[:, -1:]
                middle = (np.argmax(drawn >= place, axis=1) for place in ((n + 1) // 2, n // 2 + 1))
                ordered = column[order]
                medians[:, k] = np.where(n[:, 0] > 0, sum(ordered[m] for m in middle) / 2, np.nan)
        return medians

    return of_times


@dataclass(frozen=True)
class Summary:
    """A row of Table I, with medians, intervals, and the number of measurements that are left out.

    mu_25, mu_50        the mean of μ over boxes that cover at most 0.25 and 0.5 of the image
    counted             measurements that are in the means; others are left out:
    empty               the boxes have no pixel
    without_relevance   no relevance is positive
    """

    mu_w: Estimate
    mu_25: Estimate
    mu_50: Estimate
    mu: Estimate
    median_mu_w: Estimate
    median_mu: Estimate
    counted: int
    empty: int
    without_relevance: int


def summarise(
    method: Localisation,
    groups: Sequence[Any] | Numbers | None = None,
    *,
    minus: Localisation | None = None,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Summary:
    """The measurements (n) of a method, summed up as in Table I.

    groups   the image of each measurement (see `bootstrap`)
    minus    another method, measured on the same, in the same order: sums up the differences between the two, one by one,
             where both count
    """
    mu, mu_w, counted = method.mu, method.mu_w, method.counted
    without = method.without_relevance
    if minus is not None:
        if not (np.array_equal(minus.box, method.box) and np.array_equal(minus.image, method.image)):
            raise ValueError("minus: expected the same measurements, of the same boxes, got others")
        mu, mu_w = mu - minus.mu, mu_w - minus.mu_w
        counted, without = counted & minus.counted, without | minus.without_relevance
    if counted.ndim != 1:
        raise ValueError(f"method: expected measurements in a row, (n), got shape {counted.shape}")
    most_25, most_50 = (np.where(method.box <= share * method.image, mu, np.nan) for share in (0.25, 0.5))

    def estimates(statistic: Statistic, *values: Numbers) -> list[Estimate]:
        columns = np.stack([np.asarray(v, np.float64) for v in values], axis=1)
        return bootstrap(columns, statistic, groups, samples=samples, level=level, seed=seed)

    mean_w, mean_25, mean_50, mean = estimates("mean", mu_w, most_25, most_50, mu)
    median_w, median = estimates("median", mu_w, mu)
    counts = (int(where.sum()) for where in (counted, method.empty, without & ~method.empty))
    return Summary(mean_w, mean_25, mean_50, mean, median_w, median, *counts)


@dataclass(frozen=True, eq=False)
class Curve:
    """Values over the size of boxes, (bins) each: as the curves of Fig. 2 and 3.

    size        the middle of each bin, as a share of the image
    n           how many values there are in it
    mean, std   of these, nan where there are none
    low, high   the interval of the mean
    """

    size: Numbers
    n: Numbers
    mean: Numbers
    std: Numbers
    low: Numbers
    high: Numbers


def over_size(
    values: Numbers,
    box: Numbers,
    image: Numbers,
    bins: int = 100,
    groups: Sequence[Any] | Numbers | None = None,
    *,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Curve:
    """Values, (n), by the share S_in / S_tot of the image that their boxes cover, in bins of equal width.

    Bin k has k / bins < S_in / S_tot ≤ (k + 1) / bins, so that the first quarter of them is what μ≤0.25 is the mean of.
    What is nan, or has no box, does not count.
    """
    values, box, image = np.asarray(values, np.float64), np.asarray(box), np.asarray(image)
    if not (values.shape == box.shape == image.shape and values.ndim == 1):
        raise ValueError(f"values, box, image: expected (n) each, got {values.shape}, {box.shape}, {image.shape}")
    k = -(-box * bins // image) - 1  # in integers; a box of nothing is in bin −1, which there is not
    columns = np.where(k[:, None] == np.arange(bins), values[:, None], np.nan)
    estimates = bootstrap(columns, "mean", groups, samples=samples, level=level, seed=seed)
    value, low, high, n = (np.array(part) for part in zip(*map(dataclasses.astuple, estimates), strict=True))
    deviations = np.where(np.isnan(columns), 0, columns - value) ** 2
    std = np.sqrt(deviations.sum(axis=0) / np.where(n > 0, n, 1))
    return Curve((np.arange(bins) + 0.5) / bins, n, value, np.where(n > 0, std, np.nan), low, high)


# ---- Other judges ----------------------------------------------------------------------------------------------------


def pointing_game(R: Array, mask: Array, tolerance: float = 15) -> Numbers:
    """Whether the most relevant pixel hits a box, or lies no further from it than `tolerance` pixels (Zhang et al. 2018).

    1 for a hit, 0 for a miss; of several pixels that are the most relevant alike, the share that hits. nan if no relevance
    is positive, or if the mask is empty. R and the mask are as for `localisation`; Zhang et al. average over the images of
    each class, and then over classes.
    """
    heatmap = backend.to_numpy(_heatmap(R, mask))
    near = _within(backend.to_numpy(mask), tolerance)
    most = heatmap.max(axis=(-2, -1), keepdims=True)
    best = heatmap == most
    hits = (best & near).sum(axis=(-2, -1)) / best.sum(axis=(-2, -1))
    counts = (most[..., 0, 0] > 0) & near.any(axis=(-2, -1))
    return np.asarray(np.where(counts, hits, np.nan))


def _within(mask: Numbers, distance: float) -> Numbers:
    """The pixels whose centres are no further than that from the centre of a pixel of the mask (…, height, width)."""
    from scipy import ndimage

    if not 0 <= distance < np.inf:
        raise ValueError(f"tolerance: expected a number of pixels ≥ 0, got {distance!r}")
    near = np.zeros_like(mask)
    for at in np.ndindex(mask.shape[:-2]):
        if mask[at].any():  # SciPy measures the distance to the next pixel that is False, and there has to be one
            near[at] = ndimage.distance_transform_edt(~mask[at]) <= distance
    return near


def pixel_flipping(
    f: Callable[[Array], Array],
    x: Array,
    R: Array,
    background: Array,
    *,
    region: int = 9,
    steps: int = 100,
    most_relevant_first: bool = True,
    batch: int = 16,
) -> Numbers:
    """What f says of x while its regions are replaced one by one, in the order of their relevance: `steps` + 1 numbers.

    Region perturbation of Samek et al. 2017, MoRF, or LeRF if not the most relevant come first. Regions are squares of a
    grid that begins in the upper left corner, the last ones cut off by the image; of two with the same relevance, the
    upper left is first.

    f            any model: (n, height, width, channel) → (n), such as `lambda x: net(x)[:, target]`
    R            relevance of x, or a heatmap (height, width)
    background   what regions are replaced by: numbers that broadcast against x. Samek et al. draw theirs evenly from all
                 colours, `rng.uniform(*model.bounds, x.shape)` in the dtype of x; zeros are the mean colour
    batch        f gets so many x at a time

    Raises ValueError if there are fewer regions than steps, or if R does not fit x or is not finite.
    """
    if x.ndim != 3:
        raise ValueError(f"x: expected (height, width, channel), got shape {tuple(x.shape)}")
    height, width, _ = x.shape
    if tuple(R.shape) not in (tuple(x.shape), (height, width)):
        raise ValueError(f"R: expected {tuple(x.shape)}, the relevance of x, or {(height, width)}, got {tuple(R.shape)}")
    if not backend.is_finite(R):
        raise ValueError("R: expected finite numbers, got NaN or infinity")
    backend.require_same("background", background, "x", x)
    heatmap = backend.to_numpy(R).astype(np.float64)
    heatmap = heatmap if heatmap.ndim == 2 else heatmap.sum(axis=-1)
    edges = [np.arange(0, n, region) for n in (height, width)]
    relevance = np.add.reduceat(np.add.reduceat(heatmap, edges[0], axis=0), edges[1], axis=1)
    if not 0 <= steps <= relevance.size:
        raise ValueError(f"steps: expected at most {relevance.size}, as many as there are regions, got {steps}")
    order = np.argsort(-relevance.ravel() if most_relevant_first else relevance.ravel(), kind="stable")
    turn = np.empty(relevance.size, np.int64)
    turn[order] = np.arange(1, relevance.size + 1)
    step = turn.reshape(relevance.shape)[np.arange(height)[:, None] // region, np.arange(width) // region]

    xp, scores = namespace(x), []
    for first in range(0, steps + 1, batch):
        k = np.arange(first, min(first + batch, steps + 1))
        replaced = backend.asarray_like(step[..., None] <= k[:, None, None, None], x)
        y = backend.to_numpy(f(xp.where(replaced, background, x)))
        if y.shape != k.shape:
            raise ValueError(f"f: expected a number for each of {len(k)} x, got shape {y.shape}")
        scores.append(y.astype(np.float64))
    return np.concatenate(scores)


def aopc(scores: Numbers) -> Numbers:
    """The area over the perturbation curve, 1 / (L + 1) Σ_k (f(x) − f(x_k)), k = 0 … L (Samek et al. 2017).

    scores   (…, L + 1) as from `pixel_flipping`. Average over images; for MoRF, larger is better.
    """
    scores = np.asarray(scores)
    return np.asarray((scores[..., :1] - scores).mean(axis=-1))

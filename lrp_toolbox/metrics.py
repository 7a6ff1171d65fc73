"""How good an explanation is: how much of it lies on the object, and what the network loses with what it points at.

The inside-total relevance ratio of Kohlbrenner et al. 2020 (Sec. III-C),

    μ = R_in / R_tot        μ_w = μ · S_tot / S_in                                                                    (5)

with R_in and R_tot the sums of positive relevance in the boxes of a class and on the whole image, S_in and S_tot their
sizes in pixels. Where the paper is silent: relevance is summed over the channels before its positive part is taken; the
boxes of a class count as their union; sizes are counted on the network's input, as relevance is; what has no positive
relevance, or no box left after cropping, is no measurement, and is counted.

μ_w is heavy-tailed, since a box of few pixels may weigh hundreds. So there are medians beside means, and every number has
an interval: percentiles over bootstrap resamples (Efron and Tibshirani 1993), which draw images, and not measurements,
where several measurements come from one image. Resamples depend on nothing but the seed and the images, so that methods
are compared on the same ones.

References
----------
Kohlbrenner et al. 2020, Towards best practice in explaining neural network decisions with LRP, IJCNN.
Samek et al. 2017, Evaluating the visualization of what a deep neural network has learned, IEEE TNNLS 28(11).
Zhang et al. 2018, Top-down neural attention by excitation backprop, IJCV 126(10).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
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
    """What μ and μ_w are made of, one number or an array of them for many measurements.

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
        """μ_w = μ · S_tot / S_in (Eq. 5): how many times more than if relevance were spread evenly; nan where not counted."""
        return self._ratio(self.inside * self.image, self.total * self.box)

    def _ratio(self, above: Numbers, below: Numbers) -> Numbers:
        return np.asarray(np.where(self.counted, above, np.nan) / np.where(self.counted, below, 1))


def localisation(R: Array, mask: Array) -> Localisation:
    """How much of the positive relevance lies in the boxes (Eq. 5).

    R is relevance (…, height, width, channel), or a heatmap (…, height, width): the mask says which. The mask,
    (height, width) or with leading axes like those of R, is True in the boxes. For the positive part of each channel by
    itself, hand in R⁺.

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
    return Localisation(_on_host(inside), _on_host(total), box, image)


def uniform(mask: Array) -> Localisation:
    """The baseline, relevance spread evenly over the image: μ = S_in / S_tot, and μ_w = 1."""
    pixels = backend.to_numpy(mask)
    box = pixels.sum(axis=(-2, -1))
    image = np.full(box.shape, pixels.shape[-2] * pixels.shape[-1])
    return Localisation(box, image, box, image)


def _on_host(sums: Array) -> Numbers:
    return np.asarray(backend.to_numpy(sums) if hasattr(sums, "dtype") else sums)


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
    """A statistic of n values, and the interval in which it lies for most resamples; nan where there is nothing to say."""

    value: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(
    values: Numbers,
    statistic: Statistic = "mean",
    groups: Sequence[Any] | Numbers | None = None,
    *,
    samples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> list[Estimate]:
    """The statistic of each column of `values`, (n, k) or (n), with its interval; what is nan does not count.

    groups   for each row the image it comes from: rows of one image are drawn together. None: each row by itself
    """
    values = np.asarray(values, np.float64)
    values = values[:, None] if values.ndim == 1 else values
    if values.ndim != 2:
        raise ValueError(f"values: expected (n, k) or (n), got shape {values.shape}")
    image = _numbered(groups, len(values))
    stat = {"mean": _mean, "median": _median}[statistic]
    found = stat(np.ones((1, len(values))), values)[0]
    resampled = np.concatenate([stat(weights, values) for weights in _resamples(image, samples, seed)] or [found[None]])
    estimates = []
    for value, column, drawn in zip(found, values.T, resampled.T, strict=True):
        counts = ~np.isnan(column)
        low = high = np.nan
        if len(np.unique(image[counts])) > 1:  # of a single image nothing can be said
            low, high = np.nanquantile(drawn, ((1 - level) / 2, (1 + level) / 2))
        estimates.append(Estimate(float(value), float(low), float(high), int(counts.sum())))
    return estimates


def _numbered(groups: Sequence[Any] | Numbers | None, rows: int) -> Numbers:
    """For each row the number of its image."""
    if groups is None:
        return np.arange(rows)
    if len(groups) != rows:
        raise ValueError(f"groups: expected one for each of {rows} values, got {len(groups)}")
    return np.unique(np.asarray(groups), return_inverse=True)[1]


AT_A_TIME = 1 << 22  # weights that are held at a time


def _resamples(image: Numbers, samples: int, seed: int) -> Iterator[Numbers]:
    """How often each row is drawn in each resample, (some resamples, n), for rows that belong to these images."""
    rng, images = np.random.default_rng(seed), int(image.max(initial=-1)) + 1
    size = max(1, AT_A_TIME // max(1, len(image)))
    for first in range(0, samples if images else 0, size):
        some = min(size, samples - first)
        drawn = rng.integers(images, size=(some, images)) + images * np.arange(some)[:, None]
        yield np.bincount(drawn.ravel(), minlength=some * images).reshape(some, images)[:, image].astype(np.float64)


def _mean(weights: Numbers, values: Numbers) -> Numbers:
    """Σ w v / Σ w, (resample, k), for weights (resample, n) and values (n, k); nan where nothing is drawn."""
    counts = ~np.isnan(values)
    drawn = weights @ counts
    sums = weights @ np.where(counts, values, 0)
    return np.where(drawn > 0, sums, np.nan) / np.where(drawn > 0, drawn, 1)


def _median(weights: Numbers, values: Numbers) -> Numbers:
    """The middle one of the values that are drawn, or the mean of the middle two, (resample, k)."""
    medians = np.full((len(weights), values.shape[1]), np.nan)
    for k, column in enumerate(values.T):
        order = np.argsort(column)[: np.count_nonzero(~np.isnan(column))]  # nan is sorted to the end
        if len(order):
            drawn = np.cumsum(weights[:, order], axis=1)
            n = drawn[:, -1:]
            middle = (np.argmax(drawn >= place, axis=1) for place in ((n + 1) // 2, n // 2 + 1))
            ordered = column[order]
            medians[:, k] = np.where(n[:, 0] > 0, sum(ordered[m] for m in middle) / 2, np.nan)
    return medians


@dataclass(frozen=True)
class Summary:
    """A row of Table I, with medians, intervals, and what was left out.

    mu_25, mu_50        the mean of μ over boxes that cover at most 0.25 and 0.5 of the image
    counted             measurements that went into it; others were left out:
    empty               no pixel was left of the boxes
    without_relevance   there was no positive relevance
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
    if not 0 <= distance < np.inf:
        raise ValueError(f"tolerance: expected a number of pixels ≥ 0, got {distance!r}")
    height, width = mask.shape[-2:]
    near = np.zeros_like(mask)
    before = np.concatenate([np.zeros_like(mask[..., :1], np.int64), np.cumsum(mask, axis=-1)], axis=-1)
    x = np.arange(width)
    for dy in range(min(int(distance), height - 1) + 1):
        dx = int(np.sqrt(distance**2 - dy**2))
        row = before[..., np.minimum(x + dx + 1, width)] > before[..., np.maximum(x - dx, 0)]
        near[..., dy:, :] |= row[..., : height - dy, :]
        near[..., : height - dy, :] |= row[..., dy:, :]
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
    batch        how many x are handed to f at a time

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

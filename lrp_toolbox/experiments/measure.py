"""What is measured of one image. A measurement is plain data, so that it travels to other processes and machines.

It names its model. Every process reads the model from disk once, so that all of them need the folder.
"""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar

import numpy as np

from .. import backend
from ..attribution import Method, parse_method
from ..backend import Array, to_numpy
from ..data import VOC, ImageNet, Item
from ..data.photos import Fit
from ..io import Model, load
from ..kernels import positive_part
from ..metrics import localisation
from ..modules.pooling import Ties
from .shared_passes import attribute
from .store import Found, Row


@dataclass(frozen=True)
class Setup:
    """A model, and how it is used.

    `fit` says how photographs are fitted to its input, `ties` what tied winners of max-pooling get (None: the model's own
    way), `backend` names the array module.
    """

    model: str
    fit: Fit | None = None
    backend: str = "numpy"
    ties: Ties | None = None

    def open(self) -> Model:
        """The model, read once in each process."""
        with _opening:
            return _opened(self)

    def x(self, item: Item) -> Array:
        """The input for that photograph."""
        model = self.open()
        return backend.asarray(model.prepare(item.read()), model.net.parameters()[0])


_opening = threading.Lock()  # for workers of several threads


@cache
def _opened(setup: Setup) -> Model:
    model = load(setup.model, ties=setup.ties)
    fit = setup.fit or model.preprocessing.fit
    try:
        xp = importlib.import_module(setup.backend)
    except ImportError as error:
        raise ValueError(f"backend {setup.backend}: cannot be imported: {error}") from error
    return replace(model, net=model.net.to(xp), preprocessing=replace(model.preprocessing, fit=fit))


@cache
def _methods(setup: Setup, specs: tuple[str, ...]) -> list[Method]:
    return [parse_method(spec, setup.open()) for spec in specs]


@dataclass(frozen=True)
class Localise:
    """R_in, R_tot, S_in and S_tot of Eq. 5 for each class and method, in the order of a `metrics.Localisation`.

    The paper does not say whether R is summed over the channels before its positive part is taken. Here it is summed first;
    the columns that end in `_channels` take the positive part first. `logit` is the output that is explained.
    """

    name: ClassVar[str] = "localisation"
    columns: ClassVar[tuple[str, ...]] = ("inside", "total", "box", "image", "inside_channels", "total_channels", "logit")

    setup: Setup
    methods: tuple[str, ...]

    def parsed(self) -> list[Method]:
        return _methods(self.setup, self.methods)

    def __call__(self, item: Item, outputs: Mapping[str, int]) -> Found:
        """All classes of an image at once; `outputs` says which output of the net stands for which class."""
        begun = time.perf_counter()
        model, rows = self.setup.open(), []
        if outputs:
            y, relevances = attribute(model, self.setup.x(item), list(outputs.values()), self.parsed())
            masks = np.stack([item.mask(name, model.preprocessing) for name in outputs])
            for method, R in zip(self.methods, relevances, strict=True):
                summed, each = localisation(R, masks), localisation(positive_part(R), masks)
                values = (summed.inside, summed.total, summed.box, summed.image, each.inside, each.total, y)
                rows += [Row(name, method, tuple(map(float, of))) for name, of in zip(outputs, np.stack(values).T, strict=True)]
        return Found(item.id, time.perf_counter() - begun, rows)


@dataclass(frozen=True)
class Occlude:
    """f(x) and f(x') of each class, where x' is x with the mean colour in the boxes of the class, or everywhere else.

    The mean colour is what preprocessing subtracts, so that x' is 0 there.
    """

    name: ClassVar[str] = "occlusion"
    columns: ClassVar[tuple[str, ...]] = ("before", "after", "box", "image")
    methods: ClassVar[tuple[str, ...]] = ("object", "context")

    setup: Setup

    def __call__(self, item: Item, outputs: Mapping[str, int]) -> Found:
        begun = time.perf_counter()
        model, rows = self.setup.open(), []
        if outputs:
            x = self.setup.x(item)
            masks = np.stack([item.mask(name, model.preprocessing) for name in outputs])
            hidden = backend.asarray_like(np.stack([masks, ~masks])[..., None], x)  # (object or context, class, …)
            y = to_numpy(model.net(x[None, ...]))[0]
            y_hidden = to_numpy(model.net(backend.namespace(x).where(hidden, backend.zeros((), x), x)))
            for k, method in enumerate(self.methods):
                for n, (name, output) in enumerate(outputs.items()):
                    values = (y[output], y_hidden[k, n, output], masks[n].sum(), masks[n].size)
                    rows.append(Row(name, method, tuple(map(float, values))))
        return Found(item.id, time.perf_counter() - begun, rows)


Measurement = Localise | Occlude


# ---- Which items, which classes --------------------------------------------------------------------------------------


def outputs_of(dataset: VOC | ImageNet, model: Model) -> dict[str, int]:
    """Which output of the model stands for which class of the data set.

    Raises ValueError if the model does not know these classes.
    """
    if isinstance(dataset, VOC):
        missing = [name for name in dataset.classes if name not in model.classes]
        if missing:
            raise ValueError(f"model {model.name}: does not know the classes of the data set: {', '.join(missing)}")
        return {name: model.classes.index(name) for name in dataset.classes}
    if len(model.classes) != len(dataset.classes):
        raise ValueError(f"model {model.name}: expected {len(dataset.classes)} classes, found {len(model.classes)}")
    return {name: k for k, name in enumerate(dataset.classes)}


def chosen(items: Sequence[Item], limit: int | None, seed: int) -> list[Item]:
    """All items, or `limit` of them drawn at random. With the same seed, a larger limit only adds items."""
    if limit is None:
        return list(items)
    if not 1 <= limit <= len(items):
        raise ValueError(f"limit: expected a number from 1 to {len(items)}, got {limit}")
    return [items[k] for k in np.random.default_rng(seed).permutation(len(items))[:limit]]


def shard(items: Sequence[Item], part: tuple[int, int]) -> list[Item]:
    """Part i of n: every n-th item, from the i-th on."""
    i, n = part
    return list(items[i - 1 :: n])


def wanted(item: Item, outputs: Mapping[str, int]) -> dict[str, int]:
    """The classes of an image that are to be measured, and their outputs."""
    return {name: outputs[name] for name in item.measured}

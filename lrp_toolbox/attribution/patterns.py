"""PatternNet and Pattern Attribution, and the patterns that they use in the backward pass (Kindermans et al. 2018, ICLR).

A neuron y = w·x reads a signal from x, and x has other parts, too. The neuron's pattern a is the direction in which x varies
with y: a = cov[x, y] / var[y]. So the rest of x, the residual x − a y, is uncorrelated with y; and w·a = 1. If a ReLU reads
y, only those x count for which y > 0 (the "two-component estimator" there):

    a = (E₊[x y] − E₊[x] E[y]) / w·(E₊[x y] − E₊[x] E[y])        E₊: the mean over the samples with y > 0

and the same with E for E₊ is cov[x, y] / var[y]. For a convolution, every window of every image is a sample. A bias that is
added to y changes neither form.

`Fit` needs one pass over any images. It keeps sums in double precision, which can be stored, and read to go on.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np

from .. import backend
from ..backend import Array, namespace, to_numpy
from ..composites import WEIGHTED
from ..files import new_file, write_text
from ..inputs import shape_of_one
from ..io import ModelFormatError, brief, opened_npz, read_arrays, read_json
from ..modules import Concatenation, Conv, Dropout, Flatten, Identity, Linear, MaxPool, Module, ReLU, Trace, fuse
from ..modules.base import Layer
from .backward import Start, Step, Walk, gradient_step, rewire

Estimator = Literal["relu", "linear"]
FORMAT = 1


# ---- Fitting ---------------------------------------------------------------------------------------------------------


@dataclass
class _Sums:
    """Over the samples of one layer. The first two are in the shape of w, the others have one number for each output."""

    x: Array  # Σ x, over the samples that count
    xy: Array  # Σ x y, over the samples that count
    counted: Array
    y: Array  # Σ y, of all
    samples: Array


class Fit:
    """Sums over images, from which patterns follow: `fit.add(x)` for images, then `fit.patterns()`.

    `estimator`: "relu" is the two-component estimator where a ReLU reads the output of a layer, and cov[x, y] / var[y]
    elsewhere, as in the last layer; "linear" is the latter everywhere. `windows`: of a map that has more windows than this,
    only every second, third, … row and column counts, so that about as many remain; None for all. `source`: which images,
    in words.
    """

    def __init__(self, net: Module, estimator: Estimator = "relu", windows: int | None = None, source: str = ""):
        if estimator not in ("relu", "linear"):
            raise ValueError(f"estimator: expected 'relu' or 'linear', got {estimator!r}")
        if windows is not None and (not isinstance(windows, int) or windows < 1):
            raise ValueError(f"windows: expected a number of windows ≥ 1, or None for all, got {windows!r}")
        _require_kinds(net)
        self.net, self.estimator, self.windows, self.source = fuse(net), estimator, windows, source
        self.images = 0
        self.sums: dict[str, _Sums] = {}

    def add(self, x: Array) -> None:
        """Add some images, (sample, height, width, channel), or one. If this is interrupted, none of them is added."""
        shape = shape_of_one(self.net, x)
        x = x if x.ndim > len(shape) else x[None, ...]
        sums = {}
        for name, layer, trace, rectified in _weighted(self.net, self.net.trace(x)):
            layer, y = _thinned(layer, trace.y, self.windows)
            found = _sums(layer, trace.x, y, only_active=rectified and self.estimator == "relu")
            if name in self.sums:
                before = self.sums[name]
                found = _Sums(**{key: getattr(before, key) + value for key, value in vars(found).items()})
            sums[name] = found
        self.sums, self.images = sums, self.images + x.shape[0]

    def patterns(self) -> Patterns:
        """The patterns of all layers. Neurons that were never active, or always the same, have none: 0."""
        if not self.images:
            raise ValueError("images: expected at least one to fit patterns to, got none")
        arrays = {name: _pattern(layer.w, self.sums[name]) for name, layer in _layers(self.net)}
        silent = {name: int((abs(to_numpy(a)).reshape(-1, a.shape[-1]).max(axis=0) == 0).sum()) for name, a in arrays.items()}
        return Patterns(arrays, {**self._what(), "images": self.images, "silent neurons": silent})

    def store(self, file: str | os.PathLike[str]) -> None:
        """Write the sums so far to `file`, a .npz that `go_on` reads; what was there is replaced once all is written."""
        arrays = {f"{name}.{key}": to_numpy(a) for name, sums in self.sums.items() for key, a in vars(sums).items()}
        arrays["state"] = np.array(json.dumps(self._state()))
        with new_file(Path(file)) as temporary:
            np.savez(temporary, allow_pickle=False, **arrays)

    def go_on(self, file: str | os.PathLike[str]) -> None:
        """Take up the sums in `file`. Raises ModelFormatError if they are of another net, other images or another estimator."""
        with opened_npz(Path(file)) as stored:
            arrays = {name: stored.read(name) for name in stored.names}
        try:
            state = json.loads(str(arrays.pop("state")))
            images = int(state.pop("images"))
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ModelFormatError(f"{file}: expected the sums of a fit of patterns: {brief(error)}") from error
        for key, value in self._state().items():
            if key != "images" and state.get(key) != value:
                raise ModelFormatError(f"{file}: {key}: expected {value!r}, found {brief(state.get(key))}")
        layers = dict(_layers(self.net))
        keys = list(_Sums.__dataclass_fields__)
        if images and set(arrays) != {f"{name}.{key}" for name in layers for key in keys}:
            raise ModelFormatError(f"{file}: expected sums for {', '.join(layers)}")
        for name, layer in layers.items() if images else ():
            for key in keys:
                a, shape = arrays[f"{name}.{key}"], tuple(layer.w.shape) if key in ("x", "xy") else (layer.w.shape[-1],)
                if a.dtype != np.float64 or a.shape != shape or not np.isfinite(a).all():
                    expected = f"expected finite float64 of shape {shape}, found {a.dtype} of shape {a.shape}"
                    raise ModelFormatError(f"{file}: {name}.{key}: {brief(expected)}")
                if key == "samples" and not (a > 0).all():
                    raise ModelFormatError(f"{file}: {name}.{key}: expected numbers > 0, found {a.min():g}")
        self.images = images
        self.sums = {
            name: _Sums(**{key: backend.asarray(arrays[f"{name}.{key}"], layer.w) for key in keys})
            for name, layer in layers.items()
            if images
        }

    def _state(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for a in self.net.parameters():
            digest.update(np.ascontiguousarray(to_numpy(a)).tobytes())
        return {**self._what(), "images": self.images, "weights": digest.hexdigest()}

    def _what(self) -> dict[str, Any]:
        return {"estimator": self.estimator, "windows": self.windows, "source": self.source}


PASSING = (Dropout, Flatten, Identity, MaxPool)  # between a layer and its ReLU, these do not change where y > 0


def _weighted(net: Module, trace: Trace) -> list[tuple[str, Linear | Conv, Trace, bool]]:
    """(name, layer, trace, whether a ReLU reads its output) of every Linear and Conv, from the output down."""
    found = [item for item in net.walk_trace(trace) if isinstance(item[1], (Linear, Conv))]
    rectified = _rectified(net)
    return [(name or type(layer).__name__.lower(), layer, t, name in rectified) for name, layer, t in reversed(found)]  # type: ignore[misc]


def _rectified(net: Module) -> set[str]:
    """The names of the layers whose output a ReLU reads, or a layer of PASSING before one."""
    found: set[str] = set()

    def step(name: str, layer: Layer, reached: Any) -> frozenset[str]:
        """The weighted layers whose y > 0 the value still shows."""
        if isinstance(layer, ReLU):
            found.update(reached)
        if isinstance(layer, (Linear, Conv)):
            return frozenset({name})
        if isinstance(layer, Concatenation):
            return frozenset().union(*reached)
        return reached if isinstance(layer, PASSING) else frozenset()

    net.flow(frozenset(), step)
    return found


def _require_kinds(net: Module) -> None:
    """Raise TypeError if a layer with weights is of a kind that has no patterns here."""
    for name, layer in net.walk():
        if isinstance(layer, WEIGHTED) and not isinstance(layer, (Linear, Conv)):
            raise TypeError(f"net: patterns are of Linear and Conv, and {name or 'it'} is a {type(layer).__name__}")


def _layers(net: Module) -> Iterator[tuple[str, Linear | Conv]]:
    for name, layer in net.walk():
        if isinstance(layer, (Linear, Conv)):
            yield name or type(layer).__name__.lower(), layer


def _thinned(layer: Linear | Conv, y: Array, most: int | None) -> tuple[Linear | Conv, Array]:
    """The layer with so long a stride that its output y has about `most` windows on a map at most, and that output."""
    if most is None or isinstance(layer, Linear):
        return layer, y
    k = math.ceil(math.sqrt(y.shape[-3] * y.shape[-2] / most))
    down, across = layer.windows.stride
    return replace(layer, stride=(k * down, k * across)), y[..., ::k, ::k, :]


def _sums(layer: Linear | Conv, x: Array, y: Array, only_active: bool) -> _Sums:
    xp = namespace(x)
    counts = xp.astype(y > 0, y.dtype) if only_active else backend.ones(y.shape, y)
    Σx, Σxy = layer.separate(_outer(layer, x, layer.join([counts, counts * y])), 2)
    axes = tuple(range(y.ndim - 1))
    per_output = [xp.sum(a, axis=axes, dtype=xp.float64) for a in (counts, y, backend.ones(y.shape, y))]
    return _Sums(xp.astype(Σx, xp.float64), xp.astype(Σxy, xp.float64), *per_output)


def _outer(layer: Linear | Conv, x: Array, g: Array) -> Array:
    """Σ over the samples of x_i g_j, for every connection: in the shape of w, with the outputs of g."""
    xp = namespace(x)
    if isinstance(layer, Linear):
        return _product(xp.reshape(x, (-1, 1, x.shape[-1])), xp.reshape(g, (-1, 1, g.shape[-1])))
    padded, groups = layer.windows.pad(x), layer.groups
    g = xp.reshape(g, (-1, groups, g.shape[-1] // groups))
    (kh, kw), taps = layer.windows.kernel, []
    for _, _, (rows, columns) in layer.windows.views(x.shape[-3:-1]):
        seen = xp.reshape(padded[..., rows, columns, :], (-1, groups, x.shape[-1] // groups))
        taps.append(_product(seen, g))
    return xp.reshape(xp.stack(taps), (kh, kw, *taps[0].shape))


def _product(x: Array, g: Array) -> Array:
    """Σ_s x_si g_sj in each group: (sample, group, in), (sample, group, out) → (in, group · out)."""
    xp = namespace(x)
    products = xp.permute_dims(x, (1, 2, 0)) @ xp.permute_dims(g, (1, 0, 2))
    return xp.reshape(xp.permute_dims(products, (1, 0, 2)), (x.shape[2], -1))


def _pattern(w: Array, sums: _Sums) -> Array:
    """a, in the shape and dtype of w."""
    xp = namespace(w)
    w64 = xp.astype(w, xp.float64)
    axes = tuple(range(w.ndim - 1))
    counted = xp.where(sums.counted > 0, sums.counted, 1.0)
    xy, x_y = sums.xy / counted, sums.x / counted * (sums.y / sums.samples)
    c = xy - x_y
    d = xp.sum(w64 * c, axis=axes)
    rounding = 1e-6 * xp.sum(abs(w64) * (abs(xy) + abs(x_y)), axis=axes)
    none = abs(d) <= rounding
    return xp.astype(xp.where(none, 0.0, c / xp.where(none, 1.0, d)), w.dtype)


# ---- Storing ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Patterns:
    """a of every layer with weights, by the layer's name, in the shape of its w; and what they were fitted to."""

    arrays: Mapping[str, Array]
    about: Mapping[str, Any] = field(default_factory=dict)
    moved: dict[tuple[str, str], Mapping[str, Array]] = field(default_factory=dict, init=False, repr=False)

    def like(self, w: Array) -> Mapping[str, Array]:
        """The arrays in the array module and dtype of w; moved there once."""
        xp = namespace(w)
        key = xp.__name__, str(w.dtype)
        if key not in self.moved:
            self.moved[key] = {name: xp.astype(backend.asarray(a, w), w.dtype) for name, a in self.arrays.items()}
        return self.moved[key]

    def save(self, folder: str | os.PathLike[str], dtype: Any = np.float32) -> Path:
        """Write patterns.npz, and patterns.json, which says what they were fitted to, into a model's folder."""
        folder = Path(folder)
        with np.errstate(over="ignore"):  # what does not fit is refused below
            arrays = {name: to_numpy(a).astype(dtype) for name, a in self.arrays.items()}
        for name, a in arrays.items():
            if not np.isfinite(a).all():
                raise ValueError(f"{name}: not finite as {np.dtype(dtype)}")
        with new_file(folder / "patterns.npz") as temporary:
            np.savez_compressed(temporary, allow_pickle=False, **arrays)
        write_text(folder / "patterns.json", json.dumps({"format": FORMAT, **self.about}, indent=1, ensure_ascii=False) + "\n")
        return folder

    @staticmethod
    def load(folder: str | os.PathLike[str], dtype: Any = np.float32) -> Patterns:
        """The patterns in a model's folder. Raises FileNotFoundError if there are none, ModelFormatError if they are broken."""
        folder = require_patterns(folder)
        about = read_json(folder / "patterns.json") if (folder / "patterns.json").is_file() else {}
        if about.get("format") != FORMAT:
            raise ModelFormatError(f"{folder / 'patterns.json'}: format: expected {FORMAT}, found {brief(about.get('format'))}")
        del about["format"]
        return Patterns(read_arrays(folder / "patterns.npz", np.dtype(dtype)), about)


class MissingPatternsError(FileNotFoundError):
    """A folder has no patterns."""


def require_patterns(folder: str | os.PathLike[str]) -> Path:
    """That folder. Raises MissingPatternsError, with the command that fits patterns, if there are none in it."""
    if not (Path(folder) / "patterns.npz").is_file():
        raise MissingPatternsError(
            f"{folder}: this folder has no patterns (patterns.npz). To fit them to a folder of photographs: "
            f"lrp patterns PHOTOGRAPHS --model {shlex.quote(str(folder))}"
        )
    return Path(folder)


@lru_cache(maxsize=2)
def _read(folder: Path, changed: int) -> Patterns:
    return Patterns.load(folder)


# ---- The methods -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PatternNet(Walk):
    """The gradient with the pattern a of each layer in place of its w: the signal that the net detected.

    `patterns`: `Patterns`, or the folder that has them, such as the model's own. A method that has only the folder is small
    when it is sent to other processes.
    """

    title: ClassVar[str] = "PatternNet"

    start: Start = "logit"
    patterns: Path | Patterns | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.patterns, (Path, Patterns)):
            raise TypeError(f"patterns: expected a folder or Patterns, got {self.patterns!r}")

    @property
    def name(self) -> str:
        return self.title if self.start == "logit" else f"{self.title} (start={self.start})"

    @staticmethod
    def weights(w: Array, a: Array) -> Array:
        """The weights that replace w in the backward pass."""
        return a

    def rewired(self, module: Module) -> Module:
        _require_kinds(module)
        net, patterns = fuse(module), self._found()
        parameters = net.parameters()
        arrays = patterns.like(parameters[0]) if parameters else {}

        def step(name: str, layer: Layer) -> Step:
            if not isinstance(layer, (Linear, Conv)):
                return gradient_step
            name = name or type(layer).__name__.lower()
            if name not in arrays or tuple(arrays[name].shape) != tuple(layer.w.shape):
                found = tuple(arrays[name].shape) if name in arrays else "none"
                raise ValueError(f"patterns: {name}: expected a pattern of shape {tuple(layer.w.shape)}, found {found}")
            return self._step(name, arrays[name])

        return rewire(net, step)

    def _step(self, name: str, a: Array) -> Step:
        def step(layer: Layer, trace: Trace, R: Array) -> Array:
            assert isinstance(layer, (Linear, Conv))
            xp, axes = namespace(a), tuple(range(a.ndim - 1))
            w_a = xp.sum(layer.w * a, axis=axes)
            if not bool(xp.all((abs(w_a - 1) < 0.01) | (w_a == 0))):
                raise ValueError(f"patterns: {name}: expected w·a = 1 for every neuron; these patterns are of another net")
            return replace(layer, w=self.weights(layer.w, a), b=None).gradient(trace, R)

        return step

    def _found(self) -> Patterns:
        if isinstance(self.patterns, Patterns):
            return self.patterns
        assert self.patterns is not None
        return _read(self.patterns, (require_patterns(self.patterns) / "patterns.npz").stat().st_mtime_ns)


@dataclass(frozen=True)
class PatternAttribution(PatternNet):
    """The gradient with w ⊙ a in place of w: how much each input contributed to the detected signal.

    It starts with the logit and distributes it: Σ_i w_i a_i = 1, so that a neuron passes on all the relevance that it gets.
    Relevance of a neuron whose ReLU gives 0 ends there, as in the gradient.
    """

    title: ClassVar[str] = "Pattern Attribution"

    @staticmethod
    def weights(w: Array, a: Array) -> Array:
        return w * a

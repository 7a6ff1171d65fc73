"""torchvision's VGG and AlexNet, from the state_dict of a network that was trained or tuned with PyTorch.

A state_dict has names and numbers, but no architecture: these families are known by their names. It is read from .safetensors
or .npz. torch.save writes a pickle, which can run any code when it is opened, so it is refused. PyTorch converts it:

    import torch; from safetensors.torch import save_file
    state = torch.load("net.pth", map_location="cpu", weights_only=True)
    save_file(state, "net.safetensors")
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np

from ..backend import Array
from ..data.photos import Fit
from ..io import Model, ModelFormatError, StoredArrays, as_numbers, brief, opened_npz
from ..modules import BatchNorm, Conv, Dropout, Flatten, Linear, MaxPool, Module, ReLU
from ..modules.base import Shape
from ..zoo import VGG_BLOCKS
from .assemble import assemble
from .draft import MAX_NUMBERS, Draft, Value
from .input_scaling import TORCHVISION, Given, input_scaling
from .layout import channel_order, flattened_rows, kernel
from .pickles import refuse_pickle

File = str | os.PathLike[str]
Row = tuple[type[Module], dict[str, Any]]  # kind, and its options but for weights

SIZE = 224  # at which torchvision's adaptive pooling before the classifier leaves the map as it is


def read_torch(
    file: File,
    *,
    mean: Given | None = None,
    std: Given | None = None,
    labels: File | Sequence[str] | None = None,
    channels: Literal["RGB", "BGR", "L"] | None = None,
    pixels: Literal[1, 255] | None = None,
    fit: Fit | None = None,
    border: int = 0,
    fill: Given = 0.0,
    dtype: Any = np.float32,
    assumed: dict[str, Any] | None = None,
) -> Model:
    """The model of a state_dict: vgg11, vgg13, vgg16, vgg19, these with batch normalisation, or alexnet of torchvision.

    Parameters
    ----------
    file : .safetensors, or .npz with one array for each name. The numbers of classes and channels are the file's.
    mean, std : x = (pixel − mean) / std, one number a channel, in the order of `channels`. The default is torchvision's,
        (0.485, 0.456, 0.406) and (0.229, 0.224, 0.225), and of grey pictures 0 and 1. If only one of them is given, the other
        is 0 or 1.
    pixels : whether `mean` and `std` are for pixels from 0 to 1 or from 0 to 255. The default is 1 if no number is greater
        than 1, else 255.
    labels : the names of the classes, or a file that `zoo.read_labels` reads; the default is their numbers.
    channels : the order of the channels that the net was trained on. The default is RGB, for one channel L.
    fit, border, fill : how a photograph becomes 224 × 224, see `Preprocessing`; the default of `fit` is "warp".
    dtype : of the weights.
    assumed : a dictionary that gets the arguments which the caller does not decide, and their values.

    Raises FileNotFoundError if there is no such file, ModelFormatError if it is not what it should be, ValueError if an
    argument does not fit the file, and ImportError if a .safetensors is given and safetensors is not installed.
    """
    path, assumed = Path(file), {} if assumed is None else assumed
    with _opened(path) as stored:
        architecture, rows = _architecture(stored)
        layers = list(_layers(stored, rows, np.dtype(dtype)))
    depth = layers[0].arrays[0].shape[2]
    if depth not in (1, 3):
        raise ModelFormatError(f"{path}: features.0.weight: expected pictures of 1 or 3 channels, found {depth}")
    order = channel_order(channels, "RGB", depth, f"{path}", assumed)
    preprocessing = input_scaling(
        (SIZE, SIZE),
        order,
        assumed,
        mean=mean,
        std=std,
        pixels=pixels,
        fit=fit,
        border=border,
        fill=fill,
        usual=TORCHVISION[order],
        white=None,
    )
    draft = Draft(Value("(input)", (SIZE, SIZE, depth)))
    output = draft.source
    for layer in layers:
        try:
            output = draft.add(layer.name, output, layer.kind(*layer.arrays, **layer.options))
        except (TypeError, ValueError) as error:
            raise ModelFormatError(f"{path}: {architecture} on {SIZE} × {SIZE}: {layer.name}: {brief(error)}") from error
    return assemble(
        draft,
        output,
        preprocessing,
        labels,
        where=f"{path}",
        name=path.stem,
        origin=f"Imported from {path.name}, {architecture} as torchvision has it",
        dtype=np.dtype(dtype),
        assumed=assumed,
    )


# ---- Architectures ---------------------------------------------------------------------------------------------------


def _vgg(*blocks: int, batch_norm: bool) -> dict[str, list[Row]]:
    norm: list[Row] = [(BatchNorm, {})] if batch_norm else []
    convolution: list[Row] = [(Conv, {"padding": 1}), *norm, (ReLU, {})]
    pool: Row = (MaxPool, {"kernel": 2})
    features = [row for count in blocks for row in [*convolution * count, pool]]
    dense: list[Row] = [(Linear, {}), (ReLU, {}), (Dropout, {"rate": 0.5})]
    return {"features": features, "classifier": [*dense, *dense, (Linear, {})]}


def _alexnet() -> dict[str, list[Row]]:
    """Krizhevsky 2014: no groups, no normalisation, and pools that hang over nothing."""
    pool: Row = (MaxPool, {"kernel": 3, "stride": 2})
    relu: Row = (ReLU, {})
    features: list[Row] = [(Conv, {"stride": 4, "padding": 2}), relu, pool, (Conv, {"padding": 2}), relu, pool]
    features += [(Conv, {"padding": 1}), relu] * 3 + [pool]
    dense: list[Row] = [(Dropout, {"rate": 0.5}), (Linear, {}), relu]
    return {"features": features, "classifier": [*dense, *dense, (Linear, {})]}


ARCHITECTURES = {
    f"{name}{'_bn' * batch_norm}": _vgg(*blocks, batch_norm=batch_norm)
    for name, blocks in VGG_BLOCKS.items()
    for batch_norm in (False, True)
} | {"alexnet": _alexnet()}

PARTS = {Conv: ("weight", "bias"), Linear: ("weight", "bias"), BatchNorm: ("running_mean", "running_var", "weight", "bias")}


def _named(rows: dict[str, list[Row]]) -> Iterator[tuple[str, type[Module], dict[str, Any]]]:
    """The layers with PyTorch's names, and what it does not name, the flattening between its two parts."""
    for part, layers in rows.items():
        if part == "classifier":
            yield "flatten", Flatten, {}
        yield from ((f"{part}.{k}", kind, options) for k, (kind, options) in enumerate(layers))


def _names(rows: dict[str, list[Row]]) -> set[str]:
    return {f"{name}.{part}" for name, kind, _ in _named(rows) for part in PARTS.get(kind, ())}


def _architecture(stored: _Stored) -> tuple[str, dict[str, list[Row]]]:
    """Which network has these names."""
    found = set(stored.full_names)
    nearest = min(ARCHITECTURES, key=lambda name: len(_names(ARCHITECTURES[name]) ^ found))
    expected = _names(ARCHITECTURES[nearest])
    if found & expected and found != expected:
        differences = {"no": expected - found, "unknown": found - expected}
        wrong = [f"{word} {', '.join(sorted(names)[:3])[:200]}" for word, names in differences.items() if names]
        stored.fail(f"expected the names of {nearest}, found {'; '.join(wrong)}")
    if found != expected:
        stored.fail(f"expected the state_dict of one of {', '.join(ARCHITECTURES)}, found {brief(sorted(found)[:3])}")
    return nearest, ARCHITECTURES[nearest]


@dataclass(frozen=True)
class _Layer:
    name: str
    kind: type[Module]
    arrays: list[Array]  # in our order
    options: dict[str, Any]


def _layers(stored: _Stored, rows: dict[str, list[Row]], dtype: np.dtype[Any]) -> Iterator[_Layer]:
    channels = 1  # of the map that the next dense layer flattens
    for name, kind, options in _named(rows):
        arrays = [stored.array(f"{name}.{part}", dtype, 1 if k else AXES[kind]) for k, part in enumerate(PARTS.get(kind, ()))]
        if kind is Conv:
            channels, arrays[0] = len(arrays[0]), kernel(arrays[0])
        elif kind is Linear:
            w, places = arrays[0].T, arrays[0].shape[1] // channels
            if places * channels != len(w):
                stored.fail(f"{name}: weight: expected inputs in {channels} channels, found {len(w)}")
            arrays[0], channels = flattened_rows(w, [(channels, 1, places)]), 1
        yield _Layer(name, kind, arrays, options)


AXES = {Conv: 4, Linear: 2, BatchNorm: 1}


# ---- Files -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stored:
    """A state_dict, each array of which is read when it is asked for."""

    path: Path
    full_names: Mapping[str, str]  # by the names that are used here, without a wrapper's prefix
    shape: Callable[[str], Shape]  # without reading the numbers
    read: Callable[[str], Array]
    broken: tuple[type[Exception], ...]  # what these two raise where the file is not as it should be

    def array(self, name: str, dtype: np.dtype[Any], axes: int) -> Array:
        try:
            shape = self.shape(self.full_names[name])
            if len(shape) != axes or 0 in shape or math.prod(shape) > MAX_NUMBERS:
                self.fail(f"{name}: expected {axes} axes and at most {MAX_NUMBERS:,} numbers, found shape {brief(shape)}")
            numbers = self.read(self.full_names[name])
        except ModelFormatError:
            raise
        except self.broken as error:
            self.fail(f"{name}: not readable: {brief(error)}")
        return as_numbers(numbers, f"{self.path}: {name}", dtype)

    def fail(self, what: str) -> NoReturn:
        raise ModelFormatError(f"{self.path}: {what}")


@contextmanager
def _opened(path: Path) -> Iterator[_Stored]:
    if path.is_dir():
        raise ModelFormatError(f"{path}: expected a file, found a folder")
    refuse_pickle(path)
    with path.open("rb") as file:
        beginning = file.read(9)
    if beginning[:2] == b"PK":
        with opened_npz(path) as stored:
            yield _npz(stored)
    elif beginning[8:] == b"{":
        yield _safetensors(path)
    else:
        raise ModelFormatError(f"{path}: expected .safetensors or .npz, found neither")


def _npz(stored: StoredArrays) -> _Stored:
    def shape(name: str) -> Shape:
        found, dtype = stored.header(name)
        if dtype.kind != "f":
            raise ModelFormatError(f"{stored.file}: {name}: expected floating-point numbers, found {dtype}")
        return found

    return _Stored(stored.file, _unwrapped(stored.names), shape, stored.read, ())


def _safetensors(path: Path) -> _Stored:
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ImportError('a .safetensors is read by safetensors: pip install "lrp_toolbox[torch]"') from error

    def opened() -> Any:
        return safe_open(path, framework="numpy")  # anew for each array: what was mapped into memory is let go

    def shape(name: str) -> Shape:
        with opened() as file:
            piece = file.get_slice(name)
            if piece.get_dtype() not in ("F16", "F32", "F64"):
                raise ModelFormatError(f"{path}: {name}: expected F16, F32 or F64, found {piece.get_dtype()}")
            return tuple(piece.get_shape())

    def array(name: str) -> Array:
        with opened() as file:
            return file.get_tensor(name)

    try:
        with opened() as file:
            names = _unwrapped(file.keys())
    except SafetensorError as error:
        raise ModelFormatError(f"{path}: not a readable .safetensors: {brief(error)}") from error
    return _Stored(path, names, shape, array, (SafetensorError,))


def _unwrapped(names: Any) -> dict[str, str]:
    """The names without what is counted in training, and without the "module." of a DataParallel, if all have it."""
    kept = [name for name in names if not name.endswith(".num_batches_tracked")]
    prefix = "module." if all(name.startswith("module.") for name in kept) else ""
    return {name.removeprefix(prefix): name for name in kept}

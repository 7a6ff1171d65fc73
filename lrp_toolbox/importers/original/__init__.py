"""Networks of the original LRP Toolbox (Lapuschkin et al. 2016, JMLR 17(114)): its text format and its .mat files.

Its maps are (height, width, channel), its kernels (height, width, in, out) and its dense weights (in, out), as here. Its
SumPool divides the sum by √(height · width) of the window: here that is a SumPool and a Scale. Its Matlab part flattens a map
with the height counted fastest, its Python part with the channel counted fastest.

`text` and `matlab` read the two kinds of files. Pickles (.nn, .pickle) are refused.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...backend import Array
from ...data.photos import Fit
from ...io import Model, ModelFormatError, brief
from ...kernels.windows import as_pair
from ...modules import Conv, Flatten, Linear, MaxPool, Module, ReLU, Scale, SoftMax, SumPool, Tanh
from ..assemble import assemble, choose
from ..draft import Draft, Value
from ..input_scaling import Given, input_scaling
from ..layout import channel_order
from . import matlab, text
from .layers import Layer

File = str | os.PathLike[str]
Size = tuple[int, int]

LARGEST = 512  # the height and width up to which a size is looked for


def read_original(
    file: File,
    *,
    size: Size | None = None,
    flatten: Literal["python", "matlab"] | None = None,
    mean: Given | None = None,
    std: Given | None = None,
    pixels: Literal[1, 255] | None = None,
    labels: File | Sequence[str] | None = None,
    channels: Literal["RGB", "BGR", "L"] | None = None,
    fit: Fit | None = None,
    border: int = 0,
    fill: Given = 0.0,
    logits: bool = True,
    dtype: Any = np.float32,
    assumed: dict[str, Any] | None = None,
) -> Model:
    """The model in a file of the original LRP Toolbox.

    Parameters
    ----------
    file : .txt, or the .mat of its Matlab part (up to version 7).
    size : (height, width) of the input, which the files do not say. The default is the smallest square with which all layers
        fit and one number comes out for each class.
    flatten : whether maps are flattened as the toolbox's Python part does it, or as its Matlab part. Files do not say it
        either. The default is "matlab" for .mat, else "python". It matters only if a map of several places is flattened.
    mean, std : x = (pixel − mean) / std, one number a channel. The default is 127.5 for both, so that x is from −1 to 1, as in
        all examples of the toolbox.
    pixels : whether `mean` and `std` are for pixels from 0 to 255, which is the default, or from 0 to 1.
    labels : the names of the classes, or a file that `zoo.read_labels` reads; the default is their numbers.
    channels : the order of the channels that the net was trained on. The default is RGB, for one channel L.
    fit, border, fill : how a photograph gets the size of the input, see `Preprocessing`; the default of `fit` is "warp". The
        toolbox's LeNet-5 sees 28 × 28 digits with a black border of 2 pixels.
    logits : whether a softmax at the end is left off, so that the outputs are logits, which can be explained.
    dtype : of the weights.
    assumed : a dictionary that gets the arguments which neither the caller nor the file decides, and their values.

    Raises FileNotFoundError if there is no such file, ModelFormatError if it is not what it should be, and ValueError if an
    argument does not fit the file.
    """
    path, assumed = Path(file), {} if assumed is None else assumed
    if flatten not in (None, "python", "matlab"):
        raise ValueError(f"flatten: expected 'python' or 'matlab', got {flatten!r}")
    is_matlab, layers = _read(path, np.dtype(dtype))
    by = flatten or ("matlab" if is_matlab else "python")
    size = None if size is None else as_pair("size", size, 1)
    shape = _shape(path, layers, size, channels)
    if size is None:
        assumed["size"] = shape[:2]
    order = channel_order(channels, "RGB", shape[2], f"{path}", assumed)
    preprocessing = input_scaling(
        shape[:2],
        order,
        assumed,
        mean=mean,
        std=std,
        pixels=pixels,
        fit=fit,
        border=border,
        fill=fill,
        usual=(127.5, 127.5),
    )
    draft = Draft(Value("(input)", shape))
    output = _follow(path, layers, draft, by)
    if flatten is None and not is_matlab and _rearranges(draft):
        choose("flatten", None, None, by, assumed)
    return assemble(
        draft,
        output,
        preprocessing,
        labels,
        where=f"{path}",
        name=path.stem,
        origin=f"Imported from {path.name} of the original LRP Toolbox",
        logits=logits,
        dtype=np.dtype(dtype),
        assumed=assumed,
    )


PICKLES = (".nn", ".pickle", ".pickled", ".pkl")


def _read(path: Path, dtype: np.dtype[Any]) -> tuple[bool, list[Layer]]:
    """Whether the file is of Matlab, and its layers."""
    if path.is_dir():
        raise ModelFormatError(f"{path}: expected a file, found a folder")
    with path.open("rb") as opened:
        beginning = opened.read(128)
    if beginning[:1] == b"\x80" or path.suffix in PICKLES:
        raise ModelFormatError(
            f"{path}: found a pickle. A pickle can run any code when it is opened, so it is not opened. The original LRP "
            "Toolbox makes a file of it that `lrp import original` reads: import model_io; "
            f"model_io.write(model_io.read({str(path)!r}), {str(path.with_suffix('.txt'))!r})"
        )
    if path.suffix == ".mat" or beginning.startswith(b"MATLAB"):
        return True, matlab.read_layers(path, dtype)
    return False, text.read_layers(path, dtype)


# ---- The input -------------------------------------------------------------------------------------------------------


def _shape(path: Path, layers: list[Layer], size: Size | None, channels: str | None) -> tuple[int, int, int]:
    """(height, width, channel) of the input, from the first layer that has weights, and from what fits."""
    first = next((layer for layer in layers if layer.w is not None), None)
    if first is None or first.w is None:
        raise ModelFormatError(f"{path}: expected a layer with weights, Linear or Convolution, found none")
    if first.kind == "Linear":
        return _row_of_pixels(path, len(first.w), size, channels)
    depth = first.w.shape[2]
    if depth not in (1, 3):
        raise ModelFormatError(f"{path}: {first.where}: expected pictures of 1 or 3 channels, found {depth}")
    if size is not None:
        return (*size, depth)
    found = next((n for n in range(1, LARGEST + 1) if _ends_in_a_row(layers, (n, n, depth))), None)
    if found is None:
        raise ModelFormatError(
            f"{path}: expected layers that fit a square of up to {LARGEST} × {LARGEST} pixels and end in one number for each "
            "class, found others; give size=(height, width)"
        )
    return found, found, depth


def _row_of_pixels(path: Path, n: int, size: Size | None, channels: str | None) -> tuple[int, int, int]:
    """The shape of a picture whose pixels in a row are the n inputs of a dense layer."""
    for depth in (1, 3):
        if channels is None or depth == len(channels):
            side = math.isqrt(n // depth)
            height, width = size or (side, side)
            if height * width * depth == n:
                return height, width, depth
    if size is None:
        raise ModelFormatError(
            f"{path}: expected a square of pixels, found a net of {n} inputs; give size=(height, width), "
            "of one row for numbers that are no picture"
        )
    raise ValueError(f"size: expected one that fits {n} inputs, as {path} has, got {size}")


def _ends_in_a_row(layers: list[Layer], shape: tuple[int, ...]) -> bool:
    """Whether the layers fit an input of this shape and each other, and one number for each class comes out."""
    for layer in layers:
        if layer.kind == "Flatten":
            shape = (math.prod(shape),)
        elif layer.kind == "Linear" and layer.w is not None:
            if shape != (len(layer.w),):
                return False
            shape = layer.w.shape[1:]
        elif layer.window:
            if len(shape) != 3 or (layer.w is not None and layer.w.shape[2] != shape[2]):
                return False
            rows, columns = ((n - k) // s + 1 for n, k, s in zip(shape, layer.window, layer.stride, strict=False))
            if rows < 1 or columns < 1:
                return False
            shape = (rows, columns, shape[2] if layer.w is None else layer.w.shape[3])
    return len(shape) == 1


# ---- Layers ----------------------------------------------------------------------------------------------------------


def _follow(path: Path, layers: list[Layer], draft: Draft, by: str) -> Value:
    """Enter the layers into `draft`; what the last one makes."""
    x = draft.source
    first = next(layer for layer in layers if layer.w is not None)
    if first.kind == "Linear" and layers[0].kind != "Flatten":
        x = draft.add("flatten", x, Flatten())  # a row of pixels, row by row in both parts of the toolbox
    counts: dict[str, int] = {}
    places: tuple[int, ...] = ()  # (height, width, channel) of the map that Matlab flattened, until a dense layer reads it
    for layer in layers:
        if layer.kind == "Flatten" and by == "matlab" and x.is_map:
            places = x.shape
        modules = _modules(layer, x, places)
        places = () if layer.kind == "Linear" else places
        for kind, module in modules:
            counts[kind] = counts.get(kind, 0) + 1
            try:
                x = draft.add(draft.free_name(f"{kind}{counts[kind]}"), x, module)
            except (TypeError, ValueError) as error:
                raise ModelFormatError(f"{path}: {layer.where}: {brief(error)}") from error
    if places and math.prod(places[:2]) > 1:
        raise ModelFormatError(f"{path}: expected one number for each class, found a map of {places} that is flattened")
    return x


def _modules(layer: Layer, x: Value, places: tuple[int, ...]) -> list[tuple[str, Module]]:
    """The modules of a layer, with the beginnings of their names."""
    if layer.kind == "Linear" and layer.w is not None:
        w = _from_matlab(layer.w, places) if places and math.prod(places) == len(layer.w) else layer.w
        return [("fc", Linear(w, layer.b))]
    if layer.kind == "Convolution" and layer.w is not None:
        return [("conv", Conv(layer.w, layer.b, stride=layer.stride))]
    if layer.kind == "SumPool":
        factor = np.full(x.shape[-1], 1 / math.sqrt(math.prod(layer.window)))
        return [("pool", SumPool(layer.window, layer.stride)), ("scale", Scale(factor))]
    if layer.kind == "MaxPool":
        return [("pool", MaxPool(layer.window, layer.stride))]
    return [PLAIN[layer.kind]]


PLAIN: dict[str, tuple[str, Module]] = {  # layers without sizes, which have no state
    "Rect": ("relu", ReLU()),
    "Tanh": ("tanh", Tanh()),
    "SoftMax": ("softmax", SoftMax()),
    "Flatten": ("flatten", Flatten()),
}


def _from_matlab(w: Array, places: tuple[int, ...]) -> Array:
    """`w` with its rows in our order. In `w` the height of the map `places` is counted fastest, then the width."""
    return np.ascontiguousarray(w.reshape(*places[::-1], -1).transpose(2, 1, 0, 3)).reshape(w.shape)


def _rearranges(draft: Draft) -> bool:
    """Whether a map of several places and several channels, or of several rows and columns, is flattened for a layer."""
    shapes = {draft.source.name: draft.source.shape}
    for node in draft.nodes.values():
        shape = shapes[node.inputs[0]]
        if isinstance(node.module, Flatten) and node.inputs[0] != draft.source.name and sum(n > 1 for n in shape) > 1:
            return True
        shapes[node.name] = tuple(node.module.output_shape(shape))
    return False

"""Nets that Keras wrote: whole models and weights, as .h5 (Keras 2 and 3), .weights.h5 and .keras archives.

They are read with h5py and json alone. No code in a file is ever run: Lambda layers, custom classes and pickles are refused.
Names, shapes and sizes in a file are checked before they are used, and links to other files are not followed.

`files` reads a description and arrays, `graph` follows the description, `layers` makes modules.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...data.photos import Fit
from ...io import Model, ModelFormatError, read_at_most
from ...modules import Flatten, Scale
from .. import hdf5
from ..assemble import assemble
from ..draft import Draft, Value
from ..input_scaling import NOTHING, Given, input_scaling
from ..layout import channel_order
from .config import MODELS, LayerConfig, children_of, layer_config
from .files import MAX_TEXT, opened, parse
from .graph import Caller, input_shape
from .layers import Net
from .vgg import VGG, VGG_MEAN, architecture_of, vgg_with_layers

File = str | os.PathLike[str]
INPUT = "(input)"


def read_keras(
    file: File,
    architecture: File | None = None,
    *,
    mean: Given | None = None,
    std: Given | None = None,
    pixels: Literal[1, 255] | None = None,
    labels: File | Sequence[str] | None = None,
    channels: Literal["RGB", "BGR", "L"] | None = None,
    fit: Fit | None = None,
    border: int = 0,
    fill: Given = 0.0,
    size: tuple[int, int] | None = None,
    logits: bool = True,
    dtype: Any = np.float32,
    assumed: dict[str, Any] | None = None,
) -> Model:
    """The model in a file that Keras wrote.

    Parameters
    ----------
    file : a whole model (.keras or .h5), or weights alone (.weights.h5 or .h5).
    architecture : for weights alone: a JSON file (`model.to_json()`, or the config.json of a .keras archive), "vgg16" or
        "vgg19". It is not needed if the layers have the names of these two.
    mean : what was subtracted from pixels of 0 to 255 before they went into the net: one number a channel, in the order of
        `channels`. The default is nothing, and for the VGG nets the mean that they were trained with.
    std : what the difference was divided by. The default is 1. A Rescaling or Normalization at the net's own input is added
        to `mean` and `std`, so that relevance is of what the first convolution sees.
    pixels : whether `mean` and `std` are for pixels from 0 to 255, which is the default, or from 0 to 1.
    labels : the names of the classes, or a file that `zoo.read_labels` reads; the default is their numbers.
    channels : the order of the channels that the net was trained on. The default is RGB, for one channel L, for VGG BGR.
    fit, border, fill : how a photograph gets that size, see `Preprocessing`; the default of `fit` is "warp".
    size : (height, width) of the input, if the file does not say it, or if the net takes pixels in a row.
    logits : whether a softmax or sigmoid at the end is left off, so that the outputs are logits, which can be explained.
    dtype : of the weights.
    assumed : a dictionary that gets the arguments which neither the caller nor the file decides, and their values.

    Raises FileNotFoundError if there is no such file, ModelFormatError if it is not what it should be or holds a layer that
    this toolbox does not have, ValueError if an argument does not fit the file, and ImportError if h5py is not installed.
    """
    hdf5.require_h5py()
    path, assumed = Path(file), {} if assumed is None else assumed
    with opened(path) as (spec, arrays):
        if spec is not None and architecture is not None:
            raise ValueError(f"architecture: expected none, since {path} holds a whole model, got {str(architecture)!r}")
        if spec is None:
            spec = _architecture(path, architecture or vgg_with_layers(arrays.names))
        model = layer_config(spec, f"{path}")
        if model.kind not in MODELS:
            model.fail(f"expected one of {', '.join(MODELS)}, found {model.kind}; what it does is code, which is never run")
        shape, first = input_shape(model, size, channels)
        if shape[2] not in (1, 3):
            model.fail(f"input: expected pictures of 1 or 3 channels, found {shape}")
        draft = _draft(model, shape)
        x = draft.source if first == shape else draft.add("flatten", draft.source, Flatten())
        output = Caller(Net(draft, arrays, np.dtype(dtype))).call(model, [x])
        arrays.finish()
    is_vgg = shape[2] == 3 and vgg_with_layers([child.path[-1] for child, _ in children_of(model)]) is not None
    order = channel_order(channels, "BGR" if is_vgg else "RGB", shape[2], f"{path}", assumed)
    own = any(isinstance(node.module, Scale) and node.inputs == (INPUT,) for node in draft.nodes.values())
    preprocessing = input_scaling(
        (shape[0], shape[1]),
        order,
        assumed,
        mean=mean,
        std=std,
        pixels=pixels,
        fit=fit,
        border=border,
        fill=fill,
        usual=(VGG_MEAN, 1.0) if is_vgg else NOTHING,
        stated=NOTHING if own else (None, None),
    )
    return assemble(
        draft,
        output,
        preprocessing,
        labels,
        where=f"{path}",
        name=re.sub(r"(\.weights)?\.[^.]+$", "", path.name),
        origin=f"Imported from {path.name}, {arrays.written_by}",
        logits=logits,
        dtype=np.dtype(dtype),
        assumed=assumed,
    )


def _draft(model: LayerConfig, shape: tuple[int, ...]) -> Draft:
    try:
        return Draft(Value(INPUT, shape))
    except ValueError as error:
        model.fail(f"input: {error}")


def _architecture(path: Path, given: File | None) -> Any:
    """The description of a model whose weights are in `path`."""
    if given is None:
        raise ModelFormatError(
            f"{path}: expected a whole model, found weights alone; give architecture=, the file of model.to_json(), or one of "
            f"{', '.join(VGG)}"
        )
    if str(given) in VGG:
        return architecture_of(str(given))
    return parse(read_at_most(Path(given), MAX_TEXT), f"{given}")

"""Networks from Caffe: a description (.prototxt) and its weights (.caffemodel, .caffemodel.h5).

Caffe's maps have the channel first. All that follows from this is done here, once: kernels are transposed, and a layer that
reads a flattened map gets its weights in our order.

`files` reads a description and arrays, `graph` follows the description, `layers` makes modules.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

try:
    import google.protobuf  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}: to read Caffe's files install lrp_toolbox[caffe]", name=error.name) from error

from ...data.photos import Fit
from ...io import Model, ModelFormatError
from ...kernels.windows import as_pair
from ..assemble import assemble
from ..draft import Draft, Value
from ..input_scaling import Given, input_scaling
from ..layout import channel_order
from .files import Weights, fail, read_description, read_mean, read_weights, require_finite
from .graph import Graph, Step
from .layers import LAYERS, Net

File = str | os.PathLike[str]


def read_caffe(
    prototxt: File,
    weights: File,
    *,
    mean: File | Given | None = None,
    std: Given | None = None,
    pixels: Literal[1, 255] | None = None,
    labels: File | Sequence[str] | None = None,
    channels: Literal["BGR", "RGB", "L"] | None = None,
    fit: Fit | None = None,
    border: int = 0,
    fill: Given = 0.0,
    size: tuple[int, int] | None = None,
    output: str | None = None,
    ignore: Sequence[str] = (),
    name: str | None = None,
    logits: bool = True,
    dtype: Any = np.float32,
    assumed: dict[str, Any] | None = None,
) -> Model:
    """The model that Caffe trained.

    Parameters
    ----------
    prototxt : the description, as for deployment, or for training: of the latter the layers of the phase TEST are read.
    weights : the weights, in protobuf (`layer`, or `layers` as before 2014) or HDF5.
    mean : what to subtract: one number a channel, in the order of `channels`, or a file, .binaryproto or .npy, of which each
        channel is averaged. The default is what the data layer says, or nothing.
    std : what to divide the difference by: 1 / scale, in Caffe's words. The default is what the data layer says, or 1.
    pixels : whether `mean` and `std` are for pixels from 0 to 255, which is the default, or from 0 to 1.
    labels : the names of the classes, or a file that `zoo.read_labels` reads; the default is their numbers.
    channels : the order of the channels that the network was trained on. The default is BGR, for one channel L.
    fit, border, fill : how a photograph gets the size of the input, see `Preprocessing`; the default of `fit` is "warp".
    size : (height, width) of the input, if the description does not say it, or instead of what it says.
    output : the blob that is explained, if the network has more than one output.
    ignore : patterns of names. Layers with such a name may have weights though they are not in the description.
    name : the model's name; the default is what the description says.
    logits : whether a softmax or sigmoid at the end is left off, so that the outputs are logits, which can be explained.
    dtype : of the weights.
    assumed : a dictionary that gets the arguments which neither the caller nor the files decide, and their values.

    Raises ModelFormatError, which names file, layer, what was expected and what was found, and ValueError if an argument does
    not fit the files.
    """
    description, assumed = Path(prototxt), {} if assumed is None else assumed
    graph = Graph(read_description(description), description)
    stored = read_weights(Path(weights), np.dtype(dtype))
    stored.require_known(graph.names, ignore, graph.file)
    blob = graph.output(output)
    steps, source = graph.leading_to(graph.blobs[blob])
    draft = _draft(graph, source, steps, stored, size)
    classes = _convert(Net(draft, stored), graph, steps, graph.blobs[blob])

    height, width, depth = draft.source.shape
    transform = graph.sources[source].transform
    stated = None
    if mean is None and (transform.mean_file or transform.mean_value):
        stated = _data_mean(graph.file, draft.source, transform)
    given = read_mean(Path(mean), depth) if isinstance(mean, (str, os.PathLike)) else mean
    order = channel_order(channels, "BGR", depth, f"{graph.file}", assumed)
    preprocessing = input_scaling(
        (height, width),
        order,
        assumed,
        mean=given,
        std=std,
        pixels=pixels,
        fit=fit,
        border=border,
        fill=fill,
        stated=(stated, 1 / transform.scale if transform.HasField("scale") else None),
    )
    name = name or graph.name or description.stem
    return assemble(
        draft,
        classes,
        preprocessing,
        labels,
        where=f"{description}",
        name=name,
        origin=f"Imported from {description.name} and {Path(weights).name}, {name} of Caffe",
        logits=logits,
        dtype=np.dtype(dtype),
        assumed=assumed,
    )


def _convert(net: Net, graph: Graph, steps: Sequence[Step], end: str) -> Value:
    """The value of the key `end`, as one number for each class; `net` gets the nodes that make it."""
    file, values = graph.file, {net.draft.source.name: net.draft.source}
    for step in steps:
        name, kind = step.layer.name, step.layer.type
        if kind not in LAYERS:
            fail(file, name, f"one of the layers {', '.join(sorted(LAYERS))}", kind or "no type")
        for field, parameters in step.layer.ListFields():
            if field.name.endswith("_param"):
                require_finite(file, name, parameters)
        inputs = [values[key] for key in step.inputs]
        if not inputs or (len(inputs) > 1 and kind not in ("Concat", "Eltwise")):
            fail(file, name, "one input", f"{len(inputs)}")
        try:
            values[name] = LAYERS[kind](net, step.layer, inputs)
        except ModelFormatError:
            raise
        except (ValueError, TypeError) as error:
            raise ModelFormatError(f"{file}: {name}: {error}") from error
    y = values[end]
    if y.is_map and y.shape[:2] == (1, 1):
        y = net.flattened(net.draft.free_name(f"{end}/flatten"), y)
    if y.is_map or any(h * w > 1 for _, h, w in y.maps):
        problem = f"{file}: {end}: expected one number for each class, found maps, {y.shape}"
        raise ModelFormatError(f"{problem}; give another output= or size=(height, width)")
    return y


def _draft(graph: Graph, key: str, steps: Sequence[Step], weights: Weights, size: tuple[int, int] | None) -> Draft:
    """A draft that has the input. A data layer does not say its number of channels; the convolution that reads it does."""
    dims, transform = graph.sources[key].dims, graph.sources[key].transform
    require_finite(graph.file, key, transform)
    if transform.scale <= 0:
        fail(graph.file, key, "a scale > 0", str(transform.scale))
    crop = transform.crop_size
    if dims is None:
        if not (crop or size):
            problem = f"{graph.file}: {key}: expected the size of the input, found a data layer"
            raise ModelFormatError(f"{problem}; give size=(height, width)")
        convs = [step.layer for step in steps if step.layer.type == "Convolution" and step.inputs == (key,)]
        stored = [(weights.arrays.get(conv.name, []), conv.convolution_param.group) for conv in convs]
        depths = [arrays[0].shape[1] * groups for arrays, groups in stored if arrays and arrays[0].ndim == 4]
        if not depths:
            fail(graph.file, key, "a convolution that says how many channels the data have", "none")
        dims = (1, depths[0], 0, 0)
    if len(dims) != 4:
        fail(graph.file, key, "four dimensions (samples, channels, height, width)", str(tuple(dims)))
    height, width = as_pair("size", size, 1) if size else (crop, crop) if crop else dims[2:]
    if dims[1] not in (1, 3) or height < 1 or width < 1:
        fail(graph.file, key, "pictures of 1 or 3 channels", f"channels, height and width {dims[1], height, width}")
    shape = (int(height), int(width), int(dims[1]))
    try:
        return Draft(Value(key, shape))
    except ValueError as error:
        raise ModelFormatError(f"{graph.file}: {key}: {error}") from error


def _data_mean(file: Path, source: Value, transform: Any) -> tuple[float, ...]:
    """The mean that the data layer says, one number a channel."""
    if transform.mean_file:
        problem = f"{file}: {source.name}: expected a mean, found the name of a file with it, {transform.mean_file!r}"
        raise ModelFormatError(f"{problem}; give a copy of that file, mean=")
    values, channels = tuple(transform.mean_value), source.shape[2]
    if len(values) not in (1, channels):
        fail(file, source.name, f"a mean_value for each of {channels} channels", f"{len(values)}")
    return values if len(values) == channels else values * channels

"""The layers of a case as Keras layers, for iNNvestigate."""

import numpy as np
import tensorflow as tf
from common import number, numbers, require

tf.compat.v1.disable_eager_execution()  # as iNNvestigate asks for
from tensorflow.keras import backend, layers  # noqa: E402

backend.set_floatx("float64")
CONVOLUTIONS = {"conv1d": layers.Conv1D, "conv2d": layers.Conv2D, "conv3d": layers.Conv3D}
MAXIMA = {"max_pool1d": layers.MaxPool1D, "max_pool2d": layers.MaxPool2D, "max_pool3d": layers.MaxPool3D}
AVERAGES = {"avg_pool1d": layers.AveragePooling1D, "avg_pool2d": layers.AveragePooling2D, "avg_pool3d": layers.AveragePooling3D}
OTHERS = {
    "relu": lambda node: layers.ReLU(),
    "flatten": lambda node: layers.Flatten(),
    "concat": lambda node: layers.Concatenate(),
    "sum": lambda node: layers.Add(),
    "dropout": lambda node: layers.Dropout(0.5),
    "leaky_relu": lambda node: layers.LeakyReLU(number(node["slope"])),
}


def made(node):
    """The layer, and its weights."""
    kind = node["layer"]
    if kind in MAXIMA or kind in AVERAGES:
        require(not any(map(any, node["padding"])) and not node["ceil_mode"], "padding or ceil mode of pooling")
        return (MAXIMA | AVERAGES)[kind](node["kernel"], node["stride"]), []
    if kind == "batch_norm":
        weights = [np.array(numbers(node[k])) for k in ("gamma", "beta", "mean", "variance")]
        return layers.BatchNormalization(epsilon=number(node["eps"])), weights
    if kind in OTHERS:
        return OTHERS[kind](node), []
    require(kind == "dense" or kind in CONVOLUTIONS or kind == "conv_transpose2d", f"no layer {kind}")
    w, b = np.array(numbers(node["w"])), [np.array(numbers(node["b"]))] if node["b"] else []
    if kind == "dense":
        return layers.Dense(w.shape[1], use_bias=bool(b)), [w, *b]
    if kind in CONVOLUTIONS:
        options = {"strides": node["stride"], "dilation_rate": node["dilation"], "groups": node["groups"]}
        return CONVOLUTIONS[kind](w.shape[-1], w.shape[:-2], use_bias=bool(b), **options), [w, *b]
    plain = node["groups"] == 1 and not any(map(any, node["padding"]))
    require(plain, "groups or padding of a transposed convolution")
    options = {"strides": node["stride"], "output_padding": node["output_padding"] if max(node["stride"]) > 1 else None}
    return layers.Conv2DTranspose(w.shape[-1], w.shape[:-2], use_bias=bool(b), **options), [np.swapaxes(w, -1, -2), *b]


def around(node, x):
    """Zeros around a map, as part of the input (Keras itself pads by 'same' only); and where the map lies in them."""
    pads = node["padding"] if node["layer"] in CONVOLUTIONS else []
    counted = any(map(any, pads)) and node["rule"]["name"] in ("flat", "wsquare", "zbox")
    require(not counted, "padding that is not 'same'")
    return np.pad(x, [(0, 0), *pads, (0, 0)]) if pads else x, tuple(slice(b, -a or None) for b, a in pads)

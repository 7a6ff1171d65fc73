from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import innvestigate
import numpy as np
import tensorflow as tf
from tensorflow import keras

tf.compat.v1.disable_eager_execution()

METHODS = {
    "epsilon": ("lrp.epsilon", {"epsilon": 1e-6}),
    "alpha1beta0": ("lrp.alpha_1_beta_0", {}),
    "alpha2beta1": ("lrp.alpha_2_beta_1", {}),
    "cmp_alpha1_flat": ("lrp.sequential_preset_a_flat", {"epsilon": 1e-6}),
    "cmp_alpha2_flat": ("lrp.sequential_preset_b_flat", {"epsilon": 1e-6}),
}


def build(shape, layers, folder, dtype):
    keras.backend.set_floatx(dtype)
    y = x = keras.Input(shape)
    loaded = []
    for i, layer in enumerate(layers):
        if layer["type"] == "conv":
            if layer["pad"] and layer["k"] != 2 * layer["pad"] + 1:
                raise NotImplementedError("padding")
            if layer["groups"] > 1:
                raise NotImplementedError("TensorFlow 2.14 has no grouped convolution on a CPU")
            made = keras.layers.Conv2D(layer["out"], layer["k"], layer["stride"], "same" if layer["pad"] else "valid")
        elif layer["type"] == "dense":
            made = keras.layers.Dense(layer["out"])
        elif layer["type"] == "pool":
            made = keras.layers.MaxPool2D(layer["k"], layer["stride"])
        else:
            made = keras.layers.Activation("relu") if layer["type"] == "relu" else keras.layers.Flatten()
        y = made(y)
        if layer["type"] in ("conv", "dense"):
            loaded.append((made, i))
    model = keras.Model(x, y)
    for made, i in loaded:
        w = np.load(folder / f"{i}.npy").astype(dtype)
        made.set_weights([w, np.zeros(w.shape[-1], dtype)])
    return model


def runner(net, x, method, targets):
    if method == "forward":
        return lambda: net.predict_on_batch(x)
    name, options = METHODS[method]
    analyzer = innvestigate.create_analyzer(name, net, neuron_selection_mode="index", **options)
    return lambda: np.stack([analyzer.analyze(x, neuron_selection=t) for t in range(targets)], axis=1)


def versions():
    return {"innvestigate": "2.1.2", "tensorflow": tf.__version__}

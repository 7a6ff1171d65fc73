"""keras-applications, saved by the real Keras and read here: a table in Markdown.

    python -m benchmarks.keras_applications [NAME …]

Needs Keras 3, with the backend of JAX or with that which KERAS_BACKEND names. The weights are random, and so are the statistics
of batch normalisation and the biases. Columns: layers; seconds to read the file; the largest difference of the logits from
Keras' own, both in float32, in parts of the largest logit. A net that is refused has the reason there.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from lrp_toolbox.importers.keras import read_keras
from lrp_toolbox.io import ModelFormatError

NETS = {  # height = width of the input
    "MobileNet": 64,
    "MobileNetV2": 64,
    "MobileNetV3Small": 64,
    "MobileNetV3Large": 64,
    "ResNet50": 64,
    "ResNet50V2": 64,
    "DenseNet121": 64,
    "Xception": 96,
    "InceptionV3": 96,
    "InceptionResNetV2": 96,
    "EfficientNetB0": 64,
    "EfficientNetV2B0": 64,
    "NASNetMobile": 64,
    "ConvNeXtTiny": 64,
    "VGG16": 64,
}
CLASSES = 10


def write(name: str, size: int, folder: Path) -> tuple[Path, np.ndarray, np.ndarray]:
    """The file, pixels and their logits: the softmax is in the file, and left off here and there."""
    import keras

    keras.utils.set_random_seed(0)
    net = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=CLASSES)
    rng = np.random.default_rng(0)
    for v in net.weights:
        if "variance" in v.path:
            v.assign(rng.uniform(0.5, 2, v.shape))
        elif "moving_mean" in v.path or "beta" in v.path or "bias" in v.path:
            v.assign(rng.normal(0, 0.1, v.shape))
    file = folder / f"{name}.keras"
    net.save(file)
    x = rng.uniform(0, 255, (2, size, size, 3)).astype(np.float32)
    net.layers[-1].activation = keras.activations.linear
    return file, x, net.predict(x, verbose=0)


def apart(model: Any, x: np.ndarray, expected: np.ndarray) -> float:
    p = model.preprocessing
    logits = model.net((x - np.asarray(p.mean, x.dtype)) / np.asarray(p.std, x.dtype))
    return float(abs(logits - expected).max() / abs(expected).max())


def main() -> None:
    print("| network | layers | seconds | difference |\n|---|---|---|---|")
    for name in sys.argv[1:] or NETS:
        with tempfile.TemporaryDirectory() as folder:
            file, x, expected = write(name, NETS[name], Path(folder))
            start = time.perf_counter()
            try:
                model = read_keras(file, mean=(0.0,) * 3, std=1.0)
            except ModelFormatError as error:
                print(f"| {name} | – | – | {error} |", flush=True)
                continue
            seconds = time.perf_counter() - start
            print(f"| {name} | {len(model.net)} | {seconds:.1f} | {apart(model, x, expected):.0e} |", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("KERAS_BACKEND", "jax")
    main()

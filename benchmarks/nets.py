"""The nets that every tool builds, as data: VGG-16 and CaffeNet, with the same random weights and without biases.

Without biases all tools mean the same by αβ: iNNvestigate puts the whole bias into both denominators. CaffeNet goes without
its normalisation layers, for which the peers have no rule. Nothing is imported here but NumPy: each tool has an environment
of its own.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np


def _conv(out: int, k: int = 3, stride: int = 1, pad: int = 1, groups: int = 1) -> dict:
    return {"type": "conv", "out": out, "k": k, "stride": stride, "pad": pad, "groups": groups}


def _pool(k: int = 2, stride: int = 2) -> dict:
    return {"type": "pool", "k": k, "stride": stride}


RELU, FLATTEN = {"type": "relu"}, {"type": "flatten"}


def _dense(*sizes: int) -> list[dict]:
    layers = [FLATTEN]
    for out in sizes:
        layers += [{"type": "dense", "out": out}, RELU]
    return layers[:-1]


def vgg16(size: int = 224, depth: int = 5) -> tuple[tuple[int, int, int], list[dict]]:
    """Shape of the input (height, width, channel) and the layers; `depth` counts the blocks.

    The last pool is as wide as it takes for the dense layers to see about 7 × 7 places, whatever comes before them.
    """
    layers: list[dict] = []
    for block, (channels, n) in enumerate(zip((64, 128, 256, 512, 512), (2, 2, 3, 3, 3), strict=True)):
        if block < depth:
            k = max(2, (size >> block) // 7) if block == depth - 1 else 2
            layers += [_conv(channels), RELU] * n + [_pool(k, k)]
    return (size, size, 3), layers + _dense(4096, 4096, 1000)


def caffenet() -> tuple[tuple[int, int, int], list[dict]]:
    layers = [_conv(96, 11, 4, 0), RELU, _pool(3), _conv(256, 5, 1, 2, 2), RELU, _pool(3), _conv(384), RELU]
    layers += [_conv(384, groups=2), RELU, _conv(256, groups=2), RELU, _pool(3)]
    return (227, 227, 3), layers + _dense(4096, 4096, 1000)


def net(name: str) -> tuple[tuple[int, int, int], list[dict]]:
    """By name: "vgg16", "caffenet", or "vgg16:size=128,depth=3"."""
    base, _, options = name.partition(":")
    given = {k: int(v) for k, v in (o.split("=") for o in options.split(",") if o)}
    return {"vgg16": vgg16, "caffenet": caffenet}[base](**given)


def weights(name: str, folder: Path) -> Path:
    """A folder with one .npy a layer, He-normal, (kh, kw, in / groups, out) and (in, out) for (height, width, channel)."""
    folder = folder / name.replace(":", "-").replace(",", "-").replace("=", "")
    if (folder / "done").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    (h, w, c), layers = net(name)
    for i, layer in enumerate(layers):
        if layer["type"] == "conv":
            shape = (layer["k"], layer["k"], c // layer["groups"], layer["out"])
            h, w = ((n + 2 * layer["pad"] - layer["k"]) // layer["stride"] + 1 for n in (h, w))
            c = layer["out"]
        elif layer["type"] == "pool":
            h, w = ((n - layer["k"]) // layer["stride"] + 1 for n in (h, w))
            continue
        elif layer["type"] == "dense":
            shape, (h, w, c) = (h * w * c, layer["out"]), (1, 1, layer["out"])
        else:
            continue
        scale = np.float32(np.sqrt(2 / np.prod(shape[:-1])))
        np.save(folder / f"{i}.npy", rng.standard_normal(shape, dtype=np.float32) * scale)
    (folder / "done").touch()
    return folder


def images(shape: tuple[int, int, int], batch: int, dtype: str) -> np.ndarray:
    """Images of the size of mean-free pixels, (sample, height, width, channel)."""
    rng = np.random.default_rng(1)
    return (rng.standard_normal((batch, *shape), dtype=np.float32) * 50).astype(dtype)


def map_before_dense(shape: tuple[int, int, int], layers: list[dict]) -> tuple[int, int, int]:
    """(height, width, channel) of the map that is flattened: for tools that flatten (channel, height, width)."""
    h, w, c = shape
    for layer in layers:
        if layer["type"] == "conv":
            h, w = ((n + 2 * layer["pad"] - layer["k"]) // layer["stride"] + 1 for n in (h, w))
            c = layer["out"]
        elif layer["type"] == "pool":
            h, w = ((n - layer["k"]) // layer["stride"] + 1 for n in (h, w))
        elif layer["type"] == "flatten":
            break
    return h, w, c


def flops(shape: tuple[int, int, int], layers: list[dict]) -> tuple[list[int], list[int]]:
    """Operations of each convolution for one image, and the number of weights of each dense layer."""
    (h, w, c), convolutions, dense = shape, [], []
    for layer in layers:
        if layer["type"] == "conv":
            h, w = ((n + 2 * layer["pad"] - layer["k"]) // layer["stride"] + 1 for n in (h, w))
            convolutions.append(2 * h * w * layer["k"] ** 2 * c // layer["groups"] * layer["out"])
            c = layer["out"]
        elif layer["type"] == "pool":
            h, w = ((n - layer["k"]) // layer["stride"] + 1 for n in (h, w))
        elif layer["type"] == "dense":
            dense.append(h * w * c * layer["out"])
            h, w, c = 1, 1, layer["out"]
    return convolutions, dense

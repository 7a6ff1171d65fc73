"""VGG-16 and VGG-19 as Keras has them, whose weights are often stored without the architecture."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ...zoo import VGG_BLOCKS

VGG = ("vgg16", "vgg19")  # those that Keras has
VGG_MEAN = (103.939, 116.779, 123.68)  # of ImageNet, BGR; it was subtracted when these nets were trained


def architecture_of(name: str) -> dict[str, Any]:
    """The architecture of that name, as Keras would write it."""
    layers: list[dict[str, Any]] = []

    def add(kind: str, name: str, **config: Any) -> None:
        layers.append({"class_name": kind, "config": {"name": name, **config}})

    add("InputLayer", "input", batch_shape=[None, 224, 224, 3])
    for block, count in enumerate(VGG_BLOCKS[name], 1):
        for k in range(1, count + 1):
            same = {"filters": 64 * min(2 ** (block - 1), 8), "kernel_size": [3, 3], "padding": "same"}
            add("Conv2D", f"block{block}_conv{k}", **same, activation="relu")
        add("MaxPooling2D", f"block{block}_pool", pool_size=[2, 2], strides=[2, 2])
    add("Flatten", "flatten")
    add("Dense", "fc1", units=4096, activation="relu")
    add("Dense", "fc2", units=4096, activation="relu")
    add("Dense", "predictions", units=1000, activation="softmax")
    return {"class_name": "Sequential", "config": {"name": name, "layers": layers}}


def vgg_with_layers(names: Sequence[str]) -> str | None:
    """The VGG whose layers with weights have these names; None if there is none."""
    for vgg in VGG:
        layers = architecture_of(vgg)["config"]["layers"]
        weighted = {layer["config"]["name"] for layer in layers if layer["class_name"] in ("Conv2D", "Dense")}
        if {name for name in names if re.fullmatch(r"block\d+_conv\d+|fc\d+|predictions", name)} == weighted:
            return vgg
    return None

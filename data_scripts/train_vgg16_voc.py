"""Train the model that ships: VGG-16's own convolutions, and dense layers of ours, on PASCAL VOC 2007 `train`.

    python data_scripts/train_vgg16_voc.py --data ../shared/data --out models/vgg16-voc

NumPy only, and seeded. The convolutions are frozen, so their output (pool5) is computed once for each view of a photograph
and kept in --cache; a run that was interrupted goes on where it stopped. That takes about an hour on two cores; the dense
layers then take minutes.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lrp_toolbox import Conv, MaxPool, Preprocessing, ReLU, Sequential, read_photo

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
PERSON = CLASSES.index("person")
PREPROCESSING = Preprocessing((224, 224), "warp", "BGR", (103.939, 116.779, 123.68))
BLOCKS = (2, 2, 3, 3, 3)
VIEWS = ("whole", "whole, mirrored", "part", "part, mirrored")


def convolutions(file: Path) -> list[tuple[str, Conv | ReLU | MaxPool]]:
    """VGG-16 up to pool5, from the Keras weights in (out, in, height, width)."""
    weights = np.load(file)
    layers: list[tuple[str, Conv | ReLU | MaxPool]] = []
    for block, n in enumerate(BLOCKS, 1):
        for i in range(1, n + 1):
            name = f"block{block}_conv{i}"
            w = weights[f"{name}.W"].astype(np.float32).transpose(2, 3, 1, 0)
            layers.append((name, Conv(np.ascontiguousarray(w), weights[f"{name}.b"].astype(np.float32), padding=1)))
            layers.append((f"block{block}_relu{i}", ReLU()))
        layers.append((f"block{block}_pool", MaxPool(2)))
    return layers


def labels(ids: list[str], annotations: dict) -> tuple[np.ndarray, np.ndarray]:
    """Which classes each photograph shows, and which of these labels are known: `person` is not, where boxes are missing."""
    shown = np.zeros((len(ids), len(CLASSES)), bool)
    known = np.ones_like(shown)
    for i, name in enumerate(ids):
        for kind, *_ in annotations[name]["objects"]:
            shown[i, CLASSES.index(kind)] = True
        known[i, PERSON] = annotations[name]["person_boxes_complete"]
    return shown, known


def view(photo: np.ndarray, kind: int, rng: np.random.Generator) -> np.ndarray:
    """One of VIEWS of a photograph. A part has 60 to 100 % of each side."""
    if kind >= 2:
        height, width = photo.shape[:2]
        h, w = (round(n * rng.uniform(0.6, 1.0)) for n in (height, width))
        top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
        photo = photo[top : top + h, left : left + w]
    return photo[:, ::-1] if kind % 2 else photo


def features(net: Sequential, files: list[Path], views: int, cache: Path, seed: int) -> np.ndarray:
    """pool5 of every view of every photograph, (view, photograph, 25088) in float16. Goes on where it was interrupted."""
    shape = (views, len(files), 7 * 7 * 512)
    done_file = cache.with_suffix(".json")
    done = json.loads(done_file.read_text()) if done_file.exists() else 0
    store = np.lib.format.open_memmap(cache, "r+" if done else "w+", np.float16, shape)
    for k in tqdm(range(done, views * len(files)), initial=done, total=views * len(files), desc=cache.stem):
        kind, i = divmod(k, len(files))
        rng = np.random.default_rng((seed, kind // 2, i))  # a part and its mirror image are the same part
        store[kind, i] = net.forward(PREPROCESSING(view(read_photo(files[i]), kind, rng)))
        if k % 50 == 49 or k == views * len(files) - 1:
            store.flush()
            done_file.write_text(json.dumps(k + 1))
    return store

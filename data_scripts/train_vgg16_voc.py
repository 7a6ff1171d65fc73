"""Train the model that ships: VGG-16's own convolutions, and dense layers of ours, on PASCAL VOC 2007 `train`.

    python data_scripts/train_vgg16_voc.py --data ../shared/data --out models/vgg16-voc
    python data_scripts/train_vgg16_voc.py --evaluate models/vgg16-voc      only its average precision on `val`

NumPy only, and seeded. The convolutions are frozen, so what comes out of them (pool5) is computed once for each view of a
photograph and kept in --cache; a run that was interrupted goes on where it stopped. That takes about two
hours on two cores; the dense layers then take two minutes.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
from tqdm import tqdm
from training import Adam, average_precision, cosine, he_normal

from lrp_toolbox import (
    AvgPool,
    Conv,
    Dropout,
    Flatten,
    Linear,
    MaxPool,
    Model,
    Preprocessing,
    ReLU,
    Sequential,
    load,
    read_photo,
    save,
)

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
    "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
PERSON = CLASSES.index("person")
PREPROCESSING = Preprocessing((224, 224), "warp", "BGR", (103.939, 116.779, 123.68))
BLOCKS = (2, 2, 3, 3, 3)
VIEWS = ("whole", "whole, mirrored", "part", "part, mirrored")

# Chosen on the last 500 photographs of `train`, with the others for training; `val` had no part in any choice.
HIDDEN, EPOCHS, BATCH, RATE, DECAY, DROP_IN, DROP_HIDDEN, SEED = 1024, 12, 100, 5e-4, 1e-4, 0.5, 0.5, 0
POOL6 = AvgPool(3, 2)  # 7×7 to 3×3: a thing is the same thing a little to the left, which 2,500 photographs do not teach


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


def pooled(x: np.ndarray) -> np.ndarray:
    """pool6, (…, 4608) in float32, from pool5, (…, 25088)."""
    maps = x.reshape(-1, 7, 7, 512)
    parts = [POOL6.forward(maps[i : i + 100].astype(np.float32)).reshape(-1, 4608) for i in range(0, len(maps), 100)]
    return np.concatenate(parts).reshape(*x.shape[:-1], 4608)


def train(x: np.ndarray, shown: np.ndarray, known: np.ndarray) -> tuple[Linear, Linear]:
    """Two dense layers on pool6, (view, photograph, 4608), for independent classes: a logistic loss for each known label."""
    rng = np.random.default_rng(SEED)
    views, photographs, n_in = x.shape
    size = np.sqrt(np.mean(x[0] ** 2))  # training sees pool6 / size; see the end
    net = Sequential(
        fc1=Linear(he_normal(rng, (n_in, HIDDEN)), np.zeros(HIDDEN, np.float32)),
        relu=ReLU(),
        fc2=Linear(he_normal(rng, (HIDDEN, len(CLASSES))), np.zeros(len(CLASSES), np.float32)),
    )
    adam, n = Adam(DECAY), views * photographs
    steps = EPOCHS * (n // BATCH)
    for step in tqdm(range(steps), desc="dense layers"):
        at = step % (n // BATCH)
        if at == 0:
            order = rng.permutation(n)
        view_of, photo_of = np.divmod(np.sort(order[at * BATCH : (at + 1) * BATCH]), photographs)
        a = x[view_of, photo_of] / size
        a *= dropout(rng, a.shape, DROP_IN)
        h = net["fc1"].forward(a)
        kept = dropout(rng, h.shape, DROP_HIDDEN) * (h > 0)
        y = net["fc2"].forward(h * kept)
        g = (1 / (1 + np.exp(-y)) - shown[photo_of]) * known[photo_of] / np.float32(BATCH)
        g_h = (g @ net["fc2"].w.T) * kept
        gradients = {"fc1": (a.T @ g_h, g_h.sum(axis=0)), "fc2": ((h * kept).T @ g, g.sum(axis=0))}
        net = adam.step(net, gradients, cosine(RATE, step, steps))
    return Linear(net["fc1"].w / size, net["fc1"].b), net["fc2"]


def dropout(rng: np.random.Generator, shape: tuple[int, ...], rate: float) -> np.ndarray:
    return (rng.random(shape, dtype=np.float32) >= rate) / np.float32(1 - rate)


def evaluate(logits: np.ndarray, shown: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """Average precision of each class, on the photographs whose label of that class is known."""
    return {kind: average_precision(shown[known[:, c], c], logits[known[:, c], c]) for c, kind in enumerate(CLASSES)}


CARD = """\
# vgg16-voc

Which of 20 kinds of things does a photograph show? VGG-16's convolutions as they were trained on ImageNet, an average pooling
(3×3, stride 2) and two dense layers of our own ({hidden} hidden units), trained on PASCAL VOC 2007. Several kinds may be shown at once: the outputs are {classes}
independent logits, no softmax; above 0 means yes (`"logits": "independent"` in model.json).

| | |
|---|---|
| mean average precision | **{mean:.3f}** on the 981 photographs of VOC 2007 `val` that the project has at hand |
| input | 224×224, the whole photograph warped; BGR, minus (103.939, 116.779, 123.68), not scaled |
| parameters | {parameters:,}, stored as float16 |
| data | the 2,500 photographs of VOC 2007 `train` that the project has at hand, warped to 256×256; each as a whole and as one random part of it, both also mirrored. `person` is left out of loss and measurement where its boxes are incomplete |
| recipe | `python data_scripts/train_vgg16_voc.py`, NumPy only: convolutions frozen; logistic loss; Adam, {epochs} epochs, batches of {batch}, rate {rate} falling to 0 along a cosine, weight decay {decay}, dropout {drop_in} before and {drop_hidden} after the hidden layer, seed {seed}. Chosen on 500 photographs of `train`; `val` had no part in training nor in any choice |
| convolutions | VGG-16 (Simonyan and Zisserman 2015, configuration D), weights in Keras' form, rounded to float16: CC BY 4.0, K. Simonyan and A. Zisserman, <https://www.robots.ox.ac.uk/~vgg/research/very_deep/> |
| dense layers | ours, CC BY 4.0; the photographs they were trained on are under the terms of PASCAL VOC (Flickr, research) |
| cat.png | "Chelsea" by Stéfan van der Walt, CC0, from scikit-image |
| cat-and-person.jpg | "Eileen Collins", NASA, public domain, above "Chelsea"; both from scikit-image |
| not for | decisions about people. It knows 20 words, learned from 2,500 holiday photographs |

Average precision (area under the precision–recall curve) on `val`, from `python data_scripts/train_vgg16_voc.py --evaluate models/vgg16-voc`:

| class | AP | class | AP |
|---|---|---|---|
{table}
"""


def card(precision: dict[str, float], parameters: int) -> str:
    pairs = [f"| {kind} | {ap:.3f} " for kind, ap in precision.items()]
    table = "\n".join(left + right + "|" for left, right in zip(pairs[:10], pairs[10:], strict=True))
    return CARD.format(
        mean=np.mean(list(precision.values())), table=table, parameters=parameters, classes=len(CLASSES), hidden=HIDDEN,
        epochs=EPOCHS, batch=BATCH, rate=RATE, decay=DECAY, drop_in=DROP_IN, drop_hidden=DROP_HIDDEN, seed=SEED,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("models/vgg16-voc"))
    parser.add_argument("--cache", type=Path, default=Path(".cache/vgg16-voc"), help="where pool5 is kept (about 0.6 GB)")
    parser.add_argument(
        "--photo", type=Path, default=Path("models/vgg16-voc/cat.png"), help="the photograph that comes with it"
    )
    parser.add_argument("--evaluate", type=Path, metavar="MODEL", help="train nothing; print the average precision of a model")
    arguments = parser.parse_args()

    voc = arguments.data / "voc2007"
    annotations = json.loads((voc / "annotations.json").read_text())
    ids = {s: [line.split()[0] for line in (voc / f"ImageSets/{s}.txt").read_text().splitlines()] for s in ("train", "val")}
    val = [voc / f"JPEGImages/{i}.jpg" for i in ids["val"]]
    if arguments.evaluate:
        model = load(arguments.evaluate)
        logits = np.stack([model.net.forward(model.prepare(read_photo(file))) for file in tqdm(val, desc="val")])
        report(evaluate(logits, *labels(ids["val"], annotations)))
        return

    arguments.cache.mkdir(parents=True, exist_ok=True)
    layers = convolutions(arguments.data / "vgg16_conv" / "vgg16_conv_OIHW_float16.npz")
    trunk = Sequential([*layers, ("flatten", Flatten())])
    x_val = features(trunk, val, 1, arguments.cache / "val.npy", SEED)
    x = features(trunk, [voc / f"train_256/{i}.jpg" for i in ids["train"]], len(VIEWS), arguments.cache / "train.npy", SEED)

    fc1, fc2 = (stored_as_float16(layer) for layer in train(pooled(x), *labels(ids["train"], annotations)))
    head = Sequential(fc1, ReLU(), fc2)
    precision = evaluate(head.forward(pooled(x_val[0])), *labels(ids["val"], annotations))
    report(precision)
    dense = [
        ("pool6", POOL6),
        ("flatten", Flatten()),
        ("fc1", fc1),
        ("fc1_relu", ReLU()),
        ("fc1_dropout", Dropout(DROP_HIDDEN)),
        ("fc2", fc2),
    ]
    net = Sequential([*layers, *dense])
    summary = f"VGG-16 for 20 kinds of things in photographs (PASCAL VOC 2007): mean AP {np.mean(list(precision.values())):.3f}"
    text = card(precision, sum(p.size for p in net.parameters()))
    photo = arguments.cache / "cat.png"
    shutil.copyfile(arguments.photo, photo)
    second = arguments.cache / "cat-and-person.jpg"
    shutil.copyfile(arguments.photo.with_name(second.name), second)
    save(
        Model("vgg16-voc", net, CLASSES, PREPROCESSING, summary, text, photo, logits="independent"),
        arguments.out,
        dtype=np.float16,
    )
    shutil.copyfile(second, arguments.out / second.name)


def stored_as_float16(layer: Linear) -> Linear:
    return Linear(layer.w.astype(np.float16).astype(np.float32), layer.b)


def report(precision: dict[str, float]) -> None:
    for kind, ap in precision.items():
        print(f"{kind:<12} {ap:.3f}")
    print(f"{'mean':<12} {np.mean(list(precision.values())):.3f}")


if __name__ == "__main__":
    main()

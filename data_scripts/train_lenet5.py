"""Train LeNet-5 on MNIST, for lectures and fast tests.

    python data_scripts/train_lenet5.py --data ../shared/data --out models/lenet5-mnist

NumPy only, and seeded; some minutes on two cores.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from tqdm import tqdm
from training import Adam, backward, cosine, he_normal

from lrp_toolbox import Conv, Flatten, Linear, MaxPool, Model, Preprocessing, ReLU, Sequential, save

EPOCHS, BATCH, RATE, DECAY, SEED = 12, 128, 2e-3, 5e-4, 0
PREPROCESSING = Preprocessing((28, 28), "crop", "L", std=255.0)

CARD = """\
# lenet5-mnist

LeNet-5 (LeCun et al. 1998) with ReLU and max-pooling, for handwritten digits: 10 classes, {parameters:,} parameters.

| | |
|---|---|
| data | MNIST, 60,000 training digits (LeCun, Cortes, Burges; CC BY-SA 3.0), shifted by up to two pixels anew in each epoch |
| test | **{right:,} of 10,000** test digits right ({accuracy:.2f} %); they took no part in training, nor in any choice |
| recipe | `python data_scripts/train_lenet5.py`: NumPy, Adam, {epochs} epochs of batches of {batch}, {rates}, seed {seed} |
| input | 28×28 grey, white digit on black, pixel / 255 |
| output | 10 logits, no softmax; the largest is the answer (`"logits": "exclusive"` in model.json) |
| example.png | drawn by the script, not from MNIST |
| licence | weights: CC BY-SA 3.0, as the data; the rest: as the project |
"""


def network(rng: np.random.Generator) -> Sequential:
    def b(n: int) -> np.ndarray:
        return np.zeros(n, np.float32)

    return Sequential(
        conv1=Conv(he_normal(rng, (5, 5, 1, 6)), b(6), padding=2),
        relu1=ReLU(),
        pool1=MaxPool(2),
        conv2=Conv(he_normal(rng, (5, 5, 6, 16)), b(16)),
        relu2=ReLU(),
        pool2=MaxPool(2),
        flatten=Flatten(),
        fc1=Linear(he_normal(rng, (400, 120)), b(120)),
        relu3=ReLU(),
        fc2=Linear(he_normal(rng, (120, 84)), b(84)),
        relu4=ReLU(),
        fc3=Linear(he_normal(rng, (84, 10)), b(10)),
    )


def digits(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32)[..., None] / 255


def shifted(x: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Each digit moved by up to two pixels in every direction."""
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    out = np.empty_like(x)
    for k, (i, j) in enumerate(rng.integers(5, size=(len(x), 2))):
        out[k] = padded[k, i : i + 28, j : j + 28]
    return out


def train(images: np.ndarray, target: np.ndarray) -> Sequential:
    rng = np.random.default_rng(SEED)
    net, adam, steps = network(rng), Adam(DECAY), EPOCHS * (len(images) // BATCH)
    for step in tqdm(range(steps), desc="training"):
        if step % (len(images) // BATCH) == 0:
            order = rng.permutation(len(images))
        batch = order[(step % (len(images) // BATCH)) * BATCH :][:BATCH]
        trace = net.trace(shifted(digits(images[batch]), rng))
        p = np.exp(trace.y - trace.y.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(BATCH), target[batch]] -= 1  # the gradient of the cross-entropy by the logits
        net = adam.step(net, backward(net, trace, p / BATCH), cosine(RATE, step, steps))
    return net


def draw_example(file: Path) -> None:
    """A "2", drawn as with a broad pen, in the manner of MNIST: smooth, 20 pixels high, in the middle of 28."""
    image = Image.new("L", (280, 280))
    pen = ImageDraw.Draw(image)
    curve = [
        (88, 92),
        (98, 66),
        (126, 48),
        (160, 50),
        (184, 74),
        (184, 106),
        (164, 138),
        (130, 174),
        (92, 216),
        (196, 214),
    ]
    pen.line(curve, fill=255, width=24, joint="curve")
    for x, y in curve:
        pen.ellipse((x - 12, y - 12, x + 12, y + 12), fill=255)
    image.filter(ImageFilter.GaussianBlur(5)).resize((28, 28), Image.Resampling.BOX).save(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--out", type=Path, default=Path("models/lenet5-mnist"))
    arguments = parser.parse_args()

    mnist = np.load(arguments.data / "mnist" / "mnist.npz")
    net = train(mnist["train_images"], mnist["train_labels"])
    found = np.concatenate([net.forward(digits(part)).argmax(axis=1) for part in np.split(mnist["test_images"], 20)])
    right = int((found == mnist["test_labels"]).sum())
    print(f"{right} of {len(found)} test digits right")

    arguments.out.mkdir(parents=True, exist_ok=True)
    example = arguments.out / "example.png"
    draw_example(example)
    parameters = sum(p.size for p in net.parameters())
    rates = f"rate {RATE} falling to 0 along a cosine, weight decay {DECAY}"
    numbers = {"parameters": parameters, "right": right, "accuracy": right / 100}
    card = CARD.format(**numbers, epochs=EPOCHS, batch=BATCH, rates=rates, seed=SEED)
    summary = f"LeNet-5 for handwritten digits (MNIST): {right / 100:.2f} % of the test digits right"
    save(
        Model("lenet5-mnist", net, tuple("0123456789"), PREPROCESSING, summary, card, example, logits="exclusive"),
        arguments.out,
    )


if __name__ == "__main__":
    main()

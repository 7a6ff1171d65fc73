"""Fit the patterns of PatternNet and Pattern Attribution to images, and store them in the folder of a model.

    python data_scripts/fit_patterns.py --model lenet5-mnist --images ../shared/data/mnist/mnist.npz:train_images
    python data_scripts/fit_patterns.py --model vgg16-voc --images ../shared/data/voc2007/train_256 --windows 784

One pass, in an order that is drawn once and for all. Interrupted, the same command goes on where it was stored last.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lrp_toolbox import load, read_photo
from lrp_toolbox.attribution import Fit

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
SEED = 0


def find(images: str) -> tuple[str, int, Callable[[int], np.ndarray]]:
    """A name for the images, how many there are, and the k-th as (height, width, 3) of uint8."""
    file, _, key = images.rpartition(":")
    if file.endswith(".npz"):
        stored = np.load(file)[key]
        return f"{Path(file).name}:{key}", len(stored), lambda k: np.repeat(stored[k][..., None], 3, axis=-1)
    photos = sorted(path for path in Path(images).rglob("*") if path.suffix.lower() in SUFFIXES)
    if not photos:
        raise FileNotFoundError(f"{images}: no photographs ({', '.join(SUFFIXES)}), and no FILE.npz:ARRAY")
    return Path(images).name, len(photos), lambda k: read_photo(photos[k])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a name (see `lrp models`) or a folder")
    parser.add_argument("--images", required=True, help="a folder of photographs, or FILE.npz:ARRAY of grey ones")
    parser.add_argument("--out", type=Path, help="default: the folder of the model")
    parser.add_argument("--limit", type=int, help="take so many of the images; default: all")
    parser.add_argument("--estimator", choices=("relu", "linear"), default="relu")
    parser.add_argument("--windows", type=int, help="take about so many windows of a map at most; default: all")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="as what patterns are stored")
    parser.add_argument("--batch", type=int, default=8, help="how many images are worked on at a time")
    parser.add_argument("--every", type=int, default=50, help="store what there is after so many batches")
    arguments = parser.parse_args()

    model = load(arguments.model)
    out = arguments.out or model.folder
    out.mkdir(parents=True, exist_ok=True)
    name, there, image = find(arguments.images)
    order = np.random.default_rng(SEED).permutation(there)[: arguments.limit]
    source = f"{len(order)} of {there} images of {name}, drawn with seed {SEED}"
    fit = Fit(model.net, arguments.estimator, arguments.windows, source)
    partial = out / "patterns.partial.npz"
    if partial.exists():
        fit.go_on(partial)
        print(f"going on after {fit.images} images")

    left = order[fit.images :]
    batches = [left[first : first + arguments.batch] for first in range(0, len(left), arguments.batch)]
    for n, batch in enumerate(tqdm(batches, desc="fitting"), 1):
        fit.add(np.stack([model.prepare(image(k)) for k in batch]))
        if n % arguments.every == 0:
            fit.store(partial)
    patterns = fit.patterns()
    patterns.save(out, arguments.dtype)
    partial.unlink(missing_ok=True)
    silent = ", ".join(f"{layer} {count}" for layer, count in patterns.about["silent neurons"].items() if count)
    print(f"{out / 'patterns.npz'}: {fit.images} images; neurons without a pattern: {silent or 'none'}")


if __name__ == "__main__":
    main()

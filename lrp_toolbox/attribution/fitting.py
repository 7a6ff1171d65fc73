"""Fit the patterns of a model to images, and store them in its folder: what `lrp patterns` does."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ..data import read_photo
from ..files import require_no_file
from ..io import Model, opened_npz
from .patterns import Estimator, Fit, Patterns

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")
SEED = 0
STORE_EVERY = 60.0  # seconds

Photo = np.ndarray[Any, Any]


def fit_to_images(
    model: Model,
    images: str,
    out: Path | None = None,
    *,
    limit: int | None = None,
    estimator: Estimator = "relu",
    windows: int | None = None,
    dtype: str = "float32",
    batch: int = 8,
    overwrite: bool = False,
    progress: bool = True,
) -> tuple[Path, Patterns]:
    """The folder with patterns.npz and patterns.json, and the patterns in it.

    images   a folder of photographs, with its subfolders; or FILE.npz:ARRAY of (image, height, width) or with 3 channels
    out      the folder; None: the model's own
    limit    fit to so many of the images; None: to all. Their order is random, and always the same
    windows  see `Fit`
    dtype    the dtype of the stored patterns

    What is done is stored once a minute and when the run is interrupted, in patterns.partial.npz. The same call goes on
    from there. Raises FileNotFoundError or ValueError for what cannot be read, and FileExistsError for patterns that are there
    already, unless `overwrite`.
    """
    for name, value in (("limit", limit), ("batch", batch)):
        if value is not None and value < 1:
            raise ValueError(f"{name}: expected a number ≥ 1, got {value}")
    out = out or model.folder
    if out is None:
        raise ValueError(f"out: the model {model.name} has no folder of its own; give one")
    require_no_file("out", out)
    name, total, image = find_images(images)
    if (out / "patterns.npz").exists() and not overwrite:
        raise FileExistsError(f"{out / 'patterns.npz'}: there are patterns already; --overwrite replaces them (overwrite=True)")
    out.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(SEED).permutation(total)[:limit]
    fit = Fit(model.net, estimator, windows, f"{len(order)} of {total} images of {name}, drawn with seed {SEED}")
    partial = out / "patterns.partial.npz"
    if partial.exists():
        fit.go_on(partial)
    stored, last = fit.images, time.monotonic()
    with tqdm(total=len(order), initial=fit.images, unit="image", desc="patterns", disable=not progress) as bar:
        try:
            while fit.images < len(order):
                some = order[fit.images : fit.images + batch]
                fit.add(np.stack([model.prepare(image(k)) for k in some]))
                bar.update(len(some))
                if time.monotonic() > last + STORE_EVERY:
                    fit.store(partial)
                    stored, last = fit.images, time.monotonic()
        except BaseException:
            if fit.images > stored:
                fit.store(partial)
            raise
    patterns = fit.patterns()
    patterns.save(out, dtype)
    partial.unlink(missing_ok=True)
    return out, patterns


def find_images(images: str) -> tuple[str, int, Callable[[int], Photo]]:
    """A name for the images, their number, and a function that gives the k-th as uint8 (height, width, 3).

    Raises FileNotFoundError if there are none, ValueError if the array is none of images.
    """
    if not images:  # as of a variable that is not set; Path would take it for the folder in which we are
        raise ValueError("images: expected a folder of photographs, or FILE.npz:ARRAY, got ''")
    file, _, key = images.rpartition(":")
    if file.endswith(".npz"):
        return (f"{Path(file).name}:{key}", *_of_array(Path(file), key))
    folder = Path(images)
    if folder.is_file():
        raise ValueError(f"{images}: expected a folder of photographs, or FILE.npz:ARRAY, found a file")
    if not folder.is_dir():
        raise FileNotFoundError(f"{images}: there is no such folder")
    photos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not photos:
        raise FileNotFoundError(f"{images}: no photographs in this folder ({', '.join(SUFFIXES)})")
    return folder.resolve().name, len(photos), lambda k: read_photo(photos[k])


def _of_array(file: Path, key: str) -> tuple[int, Callable[[int], Photo]]:
    with opened_npz(file) as stored:
        array = stored.read(key)
    if array.dtype != np.uint8 or not (array.ndim == 3 or (array.ndim == 4 and array.shape[3] == 3)) or not array.size:
        raise ValueError(
            f"{file}: {key}: expected uint8 (image, height, width), or with 3 channels, got {array.dtype} {array.shape}"
        )
    if array.ndim == 3:
        return len(array), lambda k: np.repeat(array[k][..., None], 3, axis=-1)
    return len(array), lambda k: array[k]

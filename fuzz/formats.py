"""What is read: for each format its seeds, how they are broken, the reader, and the errors that it documents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import lrp_toolbox as lrp
from lrp_toolbox.data import VOC, DataFormatError, ImageNet, read_photo
from lrp_toolbox.io import ModelFormatError, load

from . import containers, mutators, seeds
from .mutators import Bytes
from .seeds import Files


@dataclass(frozen=True)
class Format:
    """A format, and its reader.

    make      the good files that mutations begin with
    make_rare large ones, with which one in 500 begins
    ways      for the endings of files, how they are broken: (ending, weight, mutation). The first that fits counts
    read      the reader, which gets the folder that the files are in
    refuses   the errors that it documents. Their message must name the folder
    setup     what else must be in the folder
    may_write endings of files that the reader may make: SQLite makes some beside its own
    """

    make: Callable[[], Sequence[Files]]
    ways: Sequence[tuple[str, int, Bytes]]
    read: Callable[[Path], Any]
    refuses: tuple[type[Exception], ...] = (ModelFormatError,)
    setup: Callable[[Path], None] = lambda folder: None
    may_write: tuple[str, ...] = ()
    make_rare: Callable[[], Sequence[Files]] = lambda: ()

    def mutated(self, rng: Random, found: Sequence[Files], rare: Sequence[Files]) -> Files:
        """One of the seeds, with one of its files, or two, broken."""
        files = dict(rng.choice(rare if rare and rng.random() < 1 / 500 else found))
        known = [(name, way, weight) for name in files for way, weight in [self._way(name)] if way is not None]
        for _ in range(rng.choice((1, 1, 1, 1, 2))):
            [(name, way, _)] = rng.choices(known, [weight for *_, weight in known])
            if files[name]:
                files[name] = way(rng, files[name])
        return files

    def _way(self, name: str) -> tuple[Bytes | None, int]:
        return next(((way, weight) for ending, weight, way in self.ways if name.endswith(ending)), (None, 0))


def _checked(model: lrp.Model) -> lrp.Model:
    """What was read has as many outputs as classes, and can be described."""
    assert model.net.output_shape(model.preprocessing.shape) == (len(model.classes),)
    assert model.facts()
    assert repr(model.net)
    return model


def _caffe(folder: Path, weights: str = "net.caffemodel") -> Any:
    from lrp_toolbox.importers.caffe import read_caffe

    return _checked(read_caffe(folder / "net.prototxt", folder / weights))


def _mean(folder: Path) -> Any:
    from lrp_toolbox.importers.caffe.files import read_mean

    return read_mean(folder / "mean", 3)


def _keras(folder: Path) -> Any:
    from lrp_toolbox.importers.keras import read_keras

    [file] = [f for f in folder.iterdir() if f.suffix != ".json"]
    description = folder / "net.json"
    return _checked(read_keras(file, description if description.exists() else None))


def _torch(folder: Path) -> Any:
    from lrp_toolbox.importers.torch import read_torch

    [file] = folder.iterdir()
    return _checked(read_torch(file))


def _original(folder: Path) -> Any:
    from lrp_toolbox.importers.original import read_original

    return _checked(read_original(next(folder.iterdir())))


def _onnx(folder: Path) -> Any:
    from lrp_toolbox.importers.onnx import read_net, read_onnx

    file = folder / "models" / "net.onnx"
    return (read_onnx if file.stat().st_size % 2 else read_net)(file)


def _onnx_places(folder: Path) -> None:
    (folder / "models" / "folder").mkdir(parents=True)
    (folder / "models" / "link").symlink_to(folder / "secret")


def _model(folder: Path) -> Any:
    model = _checked(load(folder / "model"))
    if model.example is not None and model.example.is_file():
        model.prepare(model.example)
    return model


def _arrays(folder: Path) -> Any:
    from lrp_toolbox.io import read_arrays

    return read_arrays(next(folder.iterdir()), np.dtype(np.float32))


def _photo(folder: Path) -> Any:
    return seeds.small_model().prepare(folder / "photo")


def _photo_as_stored(folder: Path) -> Any:
    return read_photo(folder / "photo", upright=False)


def _items(source: VOC | ImageNet, split: str) -> Any:
    items = source.items(split)
    for item in items:
        item.read()
        for kind in item.measured:
            item.mask(kind, lrp.Preprocessing((8, 8), "crop"))
    return items


def _voc(folder: Path) -> Any:
    return _items(VOC(folder), "val")


def _imagenet(folder: Path) -> Any:
    source = ImageNet(folder)
    return [source.index(item) for item in _items(source, "val")]


def _patterns(folder: Path) -> Any:
    from lrp_toolbox.attribution.fitting import find_images
    from lrp_toolbox.attribution.patterns import Fit, Patterns

    changed = {name: content for name, content in seeds.patterns()[0].items() if (folder / name).read_bytes() != content}
    if "patterns.partial.npz" in changed:
        fit = Fit(seeds.small_model().net, source="noise")
        fit.go_on(folder / "patterns.partial.npz")
        return fit.patterns()
    if "images.npz" in changed:
        _, count, image = find_images(f"{folder / 'images.npz'}:x")
        return [image(k) for k in range(min(count, 2))]
    return Patterns.load(folder)


def _compressed(folder: Path) -> Any:
    from lrp_toolbox.importers.compressed import read_compressed

    return read_compressed(folder / "net.bin", {"conv.w": (3, 3, 3, 4), "conv.b": (4,)})


def _labels(folder: Path) -> Any:
    from lrp_toolbox.zoo import read_labels

    return read_labels(next(folder.iterdir()))


def _results(folder: Path) -> Any:
    from lrp_toolbox.experiments.measure import Localise, Setup
    from lrp_toolbox.experiments.results import Localised, rows_csv
    from lrp_toolbox.experiments.store import Store

    # as `lrp experiment` does: first the methods that are there, then their measurements
    measurement = Localise(Setup("small"), ("uniform", "z"))
    told = {"version": "0", "commit": "c", "code": "d"}
    Store(folder, measurement.name, measurement.columns, {}, told).meta()
    store = Store(folder, measurement.name, measurement.columns, {"dataset": "voc val"}, told)
    done = store.done()
    store.seconds()
    methods: Any = {spec: lrp.attribution.parse_method(spec, seeds.small_model()) for spec in measurement.methods}
    return Localised.read(store, methods, done), rows_csv(store, done)


def _onnx_way(rng: Random, content: bytes) -> bytes:
    from .onnx_mutations import mutated

    return mutated(rng, content)


def _attributes(rng: Random, content: bytes) -> bytes:
    return (
        mutators.json_text(rng, content)
        if content[:1] in b"{["
        else mutators.encoded(rng.choice(mutators.STRINGS)).replace(b"\0", b"")
    )


_hdf5 = containers.hdf5(_attributes)
_npz = containers.archive({})
_keras_archive = containers.archive(
    {"config.json": mutators.json_text, "metadata.json": mutators.json_text, "model.weights.h5": _hdf5}
)
_partial = containers.archive({"state.npy": mutators.npy})

FORMATS: dict[str, Format] = {
    "prototxt": Format(seeds.caffe, [(".prototxt", 1, mutators.tokens)], _caffe),
    "caffemodel": Format(seeds.caffe, [(".caffemodel", 1, containers.protobuf)], _caffe),
    "caffe-hdf5": Format(seeds.caffe_of_hdf5, [(".h5", 1, _hdf5)], partial(_caffe, weights="net.caffemodel.h5")),
    "caffe-mean": Format(
        seeds.means, [("mean", 1, lambda rng, c: (mutators.npy if c[:1] == b"\x93" else containers.protobuf)(rng, c))], _mean
    ),
    "keras-hdf5": Format(partial(seeds.keras, "h5"), [(".h5", 1, _hdf5)], _keras),
    "keras-weights": Format(
        partial(seeds.keras, "weights.h5", "old.h5", beside="json"),
        [(".h5", 1, _hdf5), (".json", 1, mutators.json_text)],
        _keras,
    ),
    "keras-archive": Format(partial(seeds.keras, "keras"), [(".keras", 1, _keras_archive)], _keras),
    "safetensors": Format(seeds.safetensors, [("", 1, containers.safetensors)], _torch),
    "torch-npz": Format(seeds.state_dicts_in_npz, [("", 1, _npz)], _torch),
    "npz": Format(lambda: [seeds.npz("a.npz", a=np.float32([1, 2]), b=np.zeros((2, 3), np.float16))], [("", 1, _npz)], _arrays),
    "original-text": Format(lambda: [{"net.txt": seeds.original()["net.txt"]}], [("", 1, mutators.tokens)], _original),
    "original-mat": Format(
        lambda: [{name: content} for name, content in seeds.original().items() if name.endswith(".mat")],
        [("", 1, containers.mat)],
        _original,
    ),
    "onnx": Format(seeds.onnx, [(".onnx", 1, _onnx_way)], _onnx, setup=_onnx_places),
    "model": Format(
        seeds.model_folders,
        [(".json", 6, mutators.json_text), (".npz", 3, _npz), (".md", 1, mutators.any_bytes), (".png", 1, containers.picture)],
        _model,
        refuses=(ModelFormatError, ValueError),
    ),
    "labels": Format(seeds.labels, [(".txt", 1, mutators.lines), (".json", 1, mutators.json_text)], _labels),
    "compressed": Format(seeds.compressed, [("", 1, mutators.any_bytes)], _compressed),
    "patterns": Format(
        seeds.patterns,
        [("partial.npz", 1, _partial), (".npz", 1, _npz), (".json", 1, mutators.json_text)],
        _patterns,
        refuses=(ModelFormatError, ValueError),
    ),
    "photographs": Format(
        seeds.photographs, [("", 1, containers.picture)], _photo, refuses=(ValueError,), make_rare=seeds.large_photographs
    ),
    "pictures": Format(seeds.pictures, [("", 1, containers.picture)], _photo_as_stored, refuses=(ValueError,)),
    "voc": Format(
        seeds.voc,
        [
            (".json", 4, mutators.json_text),
            (".xml", 4, mutators.xml),
            (".txt", 1, mutators.lines),
            (".jpg", 1, containers.picture),
        ],
        _voc,
        refuses=(DataFormatError, ValueError),
    ),
    "imagenet": Format(
        seeds.imagenet,
        [(".csv", 4, mutators.lines), (".xml", 4, mutators.xml), (".txt", 1, mutators.lines), (".mat", 4, containers.mat)],
        _imagenet,
        refuses=(DataFormatError,),
    ),
    "results": Format(
        seeds.results,
        [(".sqlite", 1, containers.sqlite)],
        _results,
        refuses=(ValueError,),
        may_write=("-wal", "-shm", ".sqlite"),
    ),
}

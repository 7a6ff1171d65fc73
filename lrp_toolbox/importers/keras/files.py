"""The files that Keras writes: what is in them, as a description (parsed JSON) and arrays by layer."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ...backend import Array
from ...io import BROKEN_ZIP, ModelFormatError, brief
from ...modules.base import Shape
from .. import hdf5
from ..pickles import refuse_pickle
from .config import LayerConfig

MAX_TEXT = 1 << 26  # bytes of JSON
CONFIG, METADATA, WEIGHTS = ARCHIVE = ("config.json", "metadata.json", "model.weights.h5")


@contextmanager
def opened(path: Path) -> Iterator[tuple[Any, Arrays]]:
    """The description of the net, None for weights alone, and its arrays."""
    if path.is_dir():
        raise ModelFormatError(f"{path}: expected a file, found a folder; a SavedModel has to be saved as .keras first")
    refuse_pickle(path)
    with path.open("rb") as file:
        beginning = file.read(len(hdf5.SIGNATURE))
    if beginning == hdf5.SIGNATURE:
        with hdf5.opened(path, f"{path}") as stored:
            description = stored.text("", "model_config")
            if description is not None:
                yield parse(description, f"{path}: model_config"), _Legacy(stored, "model_weights")
            elif stored.texts("", "layer_names") is not None:
                yield None, _Legacy(stored, "")
            else:
                yield None, _Store(stored, "Keras 3")
    elif beginning.startswith(b"PK"):
        with tempfile.TemporaryDirectory() as folder:
            config, version = _unpack(path, Path(folder) / WEIGHTS)
            with hdf5.opened(Path(folder) / WEIGHTS, f"{path}/{WEIGHTS}") as stored:
                yield config, _Store(stored, f"Keras {version}")
    else:
        raise ModelFormatError(f"{path}: expected HDF5 (.h5) or a .keras archive, found a file that begins {beginning!r}")


def _unpack(path: Path, weights: Path) -> tuple[Any, str]:
    """The description in an archive, and the version of Keras; the weights are copied to the file `weights`."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name, count in Counter(archive.namelist()).items():
                if count > 1 or PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                    raise ModelFormatError(f"{path}: expected plain names that occur once, found {name!r}, {count} times")
            if not all(info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for info in archive.infolist()):
                raise ModelFormatError(f"{path}: expected an archive as Keras writes it, found another kind of compression")
            for name in ARCHIVE:
                if name not in archive.namelist():
                    raise ModelFormatError(f"{path}: expected {', '.join(ARCHIVE)}, found no {name}")
                most = hdf5.allowance(path.stat().st_size) if name == WEIGHTS else MAX_TEXT
                if (size := archive.getinfo(name).file_size) > most:
                    raise ModelFormatError(f"{path}/{name}: expected at most {most} bytes, found {size}")
            config, metadata = (parse(archive.read(name), f"{path}/{name}") for name in (CONFIG, METADATA))
            with archive.open(WEIGHTS) as packed, weights.open("wb") as copy:
                shutil.copyfileobj(packed, copy, 1 << 20)  # ends at the size that is declared; its checksum is checked
    except ModelFormatError:
        raise
    except BROKEN_ZIP as error:
        raise ModelFormatError(f"{path}: not a readable .keras archive: {brief(error)}") from error
    return config, str(metadata.get("keras_version", 3))


def parse(text: str | bytes, where: str) -> Any:
    if len(text) > MAX_TEXT:
        raise ModelFormatError(f"{where}: expected at most {MAX_TEXT} bytes of JSON, found more")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelFormatError(f"{where}: expected JSON: {error}") from error
    if not isinstance(found, dict):
        raise ModelFormatError(f"{where}: expected an object, found {brief(found)}")
    return found


class Arrays:
    """The arrays of a file, by layer."""

    names: Sequence[str] = ()  # of layers, if the file says them

    def __init__(self, file: hdf5.File, path: str, version: str):
        if path not in file:
            raise ModelFormatError(f"{file.where}: expected weights that Keras wrote, found no {path!r}")
        self.file, self.path, self.written_by = file, path, version
        self.left = set(file.arrays(path))

    @property
    def keras_3(self) -> bool:
        return self.written_by.startswith("Keras 3")

    def of(self, layer: LayerConfig) -> list[str]:
        """The paths of a layer's arrays, in Keras' order."""
        raise NotImplementedError

    def take(self, layer: LayerConfig, dtype: np.dtype[Any], **shapes: Shape | None) -> list[Array]:
        """The arrays with these names and shapes; those without a shape are not read."""
        paths = self.of(layer)
        found = [self.file.shape(path) for path in paths]
        if len(found) != len(shapes) or any(b not in (None, a) for a, b in zip(found, shapes.values(), strict=True)):
            wanted = ", ".join(f"{name} {'' if shape is None else shape}" for name, shape in shapes.items())
            given = ", ".join(f"{path.rpartition('/')[2]} {shape}" for path, shape in zip(paths, found, strict=True))
            layer.fail(f"expected arrays {wanted}, found {given or 'none'}")
        self.left -= set(paths)
        read = [path for path, shape in zip(paths, shapes.values(), strict=True) if shape is not None]
        return [self.file.array(path, f"{layer.name}: {path.rpartition('/')[2]}", dtype) for path in read]

    def finish(self) -> None:
        """Raise ModelFormatError if there are arrays that no layer asked for; the seeds of dropout are none."""
        left = sorted(path for path in self.left if "seed_generator" not in path)
        if left:
            raise ModelFormatError(f"{self.file.where}: arrays that no layer asks for: {brief(left)}")


class _Legacy(Arrays):
    """One group for each layer, with the names of its arrays: .h5 of Keras 1 (weights alone), 2 and 3."""

    def __init__(self, file: hdf5.File, path: str):
        version, backend = (file.text(path, name) for name in ("keras_version", "backend"))
        super().__init__(file, path, f"Keras {version or 1}")
        if backend == "theano":
            raise ModelFormatError(f"{file.where}: backend: expected one that does not flip its kernels, found {backend!r}")
        self.names = file.texts(path, "layer_names") or []

    def of(self, layer: LayerConfig) -> list[str]:
        group = f"{self.path}/{layer.path[0]}".lstrip("/")
        names = self.file.texts(group, "weight_names") or []
        if len(layer.path) > 1:  # a model within the model: "base/conv/kernel", or "conv/kernel:0"
            ends = {"/".join(layer.path[k:]) for k in range(len(layer.path))}
            names = [name for name in names if name.rpartition("/")[0] in ends]
        return [f"{group}/{name}" for name in names]


class _Store(Arrays):
    """layers/conv2d_1/vars/0: .weights.h5 and .keras of Keras 3. Layers are named by class and order."""

    def __init__(self, file: hdf5.File, version: str):
        super().__init__(file, "layers" if "layers" in file else "_layer_checkpoint_dependencies", version)

    def of(self, layer: LayerConfig) -> list[str]:
        group = "/".join(f"{self.path}/{key}" for key in layer.keys) + "/vars"
        return [f"{group}/{k}" for k in range(len(self.file.arrays(group)))]

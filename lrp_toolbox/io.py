"""A model is a folder: model.json says what it is made of, weights.npz holds the numbers, README.md is its card.

Never a pickle: reading a model runs none of its code. Weights may be stored in float16; they are read as float32.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import os
import shutil
import struct
import sysconfig
import tokenize
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, get_args

import numpy as np
from PIL import Image

from . import modules
from .backend import Array, asarray, namespace, to_numpy
from .composites import Composite
from .context import join
from .data import Preprocessing, as_photo
from .explain import Targets, explain
from .explanation import Explanation
from .files import new_folder
from .modules import Module, with_ties
from .modules.container import Branches, Graph, Sequential
from .modules.pooling import Ties
from .rules import Rule
from .text import shortened

FORMAT = 1
Logits = Literal["independent", "exclusive"]
SAYS_YES = {"independent": "to every class with a logit above 0", "exclusive": "to the class with the largest logit"}
MAX_TEXT = 1 << 26  # bytes of JSON
LARGE = 1 << 26  # bytes of weights from which on they are not compressed: VGG-16 would take a minute, to be 7 % smaller
TYPES: dict[str, type[Module]] = {
    name: cls for name in modules.__all__ if isinstance(cls := getattr(modules, name), type) and issubclass(cls, Module)
}


class ModelFormatError(ValueError):
    """A model file that is not what it should be; says which file, where in it, what was expected and what was found."""

    def __init__(self, message: str):
        super().__init__(shortened(message))


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A net with all that it takes to ask it about photographs.

    >>> model = load("lenet5-mnist")
    >>> model(model.prepare(model.example)).shape
    (10,)
    >>> e = model.explain(model.example, target=["2", "7"])
    """

    name: str
    net: Module
    classes: tuple[str, ...]
    preprocessing: Preprocessing
    summary: str = ""  # one line
    card: str = ""  # README.md
    example: Path | None = None  # a photograph that comes with the model
    folder: Path | None = None  # where it was read from
    logits: Logits | None = None  # what they mean; None: not known

    def says_yes(self, y: Array) -> np.ndarray[Any, Any] | None:
        """For each class of y (…, class), whether the net says yes; None if it is not known what the logits mean.

        "independent" logits (trained with a sigmoid for each class) say yes above 0. Of "exclusive" ones (trained with a
        softmax over the classes) the largest says yes.
        """
        if self.logits is None:
            return None
        numbers = to_numpy(y)
        if self.logits == "independent":
            return np.asarray(numbers > 0)
        return np.asarray(np.arange(numbers.shape[-1]) == numbers.argmax(axis=-1)[..., None])

    def __call__(self, x: Array) -> Array:
        """The logits, (class) or (sample, class), for one x or several that `prepare` made."""
        return self.net.forward(x)

    def prepare(self, photo: str | os.PathLike[str] | Image.Image | np.ndarray[Any, Any]) -> Array:
        """x for a photograph, in the array module and dtype of the net.

        The photograph is a path, a Pillow image, or an array of uint8 (see `lrp_toolbox.data.as_photo`).
        """
        return self._like_the_net(self.preprocessing(as_photo(photo)))

    def explain(
        self,
        photo: str | os.PathLike[str] | Image.Image | np.ndarray[Any, Any],
        target: Targets | None = "top",
        composite: Composite | Rule | str | None = None,
        *,
        start: Literal["logit", "one"] | Array = "logit",
        keep: Sequence[str] = (),
        ties: Ties | None = None,
    ) -> Explanation:
        """Why does the net say `target` of this photograph? See `lrp_toolbox.explain`, which takes a prepared x.

        The explanation keeps the part of the photograph that the net sees, for its picture.
        """
        pixels = as_photo(photo)
        e = explain(self, self.prepare(pixels), target, composite, start=start, keep=keep, ties=ties)
        return dataclasses.replace(e, photo=self.preprocessing.view(pixels))

    @property
    def bounds(self) -> tuple[Array, Array]:
        """The box in which every x lies, for `ZBox(*model.bounds)`, in the array module and dtype of the net."""
        low, high = self.preprocessing.bounds
        return self._like_the_net(low), self._like_the_net(high)

    def _like_the_net(self, a: np.ndarray[Any, Any]) -> Array:
        parameters = self.net.parameters()
        if not parameters:
            return a
        moved = asarray(a, parameters[0])
        return namespace(moved).astype(moved, parameters[0].dtype)

    def facts(self) -> list[tuple[str, str]]:
        """What the model takes and says, in words: (name, text)."""
        parameters = self.net.parameters()
        dtypes = ", ".join(sorted({str(a.dtype) for a in parameters}))
        names = ", ".join(self.classes[:8]) + (", …" if len(self.classes) > 8 else "")
        return [
            *self.preprocessing.facts().items(),
            ("classes", f"{len(self.classes)}: {names}"),
            *([("says yes", SAYS_YES[self.logits])] if self.logits else []),
            ("parameters", f"{sum(a.size for a in parameters):,} {dtypes}".rstrip()),
        ]

    def __repr__(self) -> str:
        head = f"Model {self.name}" + (f": {self.summary}" if self.summary else "")
        return "\n".join([head, *(f"  {name:<12} {text}" for name, text in self.facts())])

    def _repr_html_(self) -> str:
        from . import pictures

        return pictures.model_html(self)


# ---- Finding ---------------------------------------------------------------------------------------------------------


def model_folders() -> list[Path]:
    """Where `load` looks for names: $LRP_TOOLBOX_MODELS, `models/` of a clone, and what was installed with the package.

    A package is installed for all users, for one user, or into a folder of its own (`pip install --target`).
    Raises FileNotFoundError if $LRP_TOOLBOX_MODELS is set and is no folder.
    """
    asked = os.environ.get("LRP_TOOLBOX_MODELS")
    if asked and not Path(asked).is_dir():
        raise FileNotFoundError(f"LRP_TOOLBOX_MODELS: expected a folder, got {asked!r}")
    beside = Path(__file__).resolve().parent.parent
    user = sysconfig.get_path("data", sysconfig.get_preferred_scheme("user"))
    installed = [Path(base) / "share" / "lrp_toolbox" / "models" for base in (beside, sysconfig.get_path("data"), user)]
    return [*([Path(asked)] if asked else []), beside / "models", *installed]


def available() -> dict[str, Path]:
    """The models that `load` knows by name, and their folders."""
    found: dict[str, Path] = {}
    for folder in model_folders():
        for file in sorted(folder.glob("*/model.json")):
            found.setdefault(file.parent.name, file.parent)
    return found


FETCHED = {  # networks that are not ours to ship, and what gets them
    "vgg16": "data_scripts/fetch_vgg16.py",
    "vgg19": "data_scripts/fetch_vgg16.py --net vgg19",
    "caffenet": "data_scripts/fetch_caffenet.py",
    "alexnet": "data_scripts/fetch_caffenet.py --net alexnet",
    "squeezenet": "data_scripts/fetch_squeezenet.py",
}


def load(name: str | os.PathLike[str], dtype: Any = np.float32, ties: Ties | None = None) -> Model:
    """The model of that name (see `available`), or in that folder.

    `ties`: "share" or "first", for tied winners of max-pooling (see `modules.with_ties`); None leaves them as saved.

    >>> model = load("lenet5-mnist")
    >>> model.preprocessing.shape, model.net.output_shape(model.preprocessing.shape)
    ((28, 28, 1), (10,))

    Raises FileNotFoundError if there is none, and ModelFormatError if its files are not what they should be.
    """
    folder = Path(name)
    if not (folder / "model.json").is_file():
        known = available()
        if str(name) not in known:
            how = f"; python {FETCHED[str(name)]} gets it" if str(name) in FETCHED else ""
            raise FileNotFoundError(
                f"no model {str(name)!r}: neither a folder with a model.json, nor one of {', '.join(known) or '(none)'}{how}"
            )
        folder = known[str(name)]
    spec = read_json(folder / "model.json")
    where = f"{folder / 'model.json'}"
    if spec.get("format") != FORMAT:
        raise ModelFormatError(f"{where}: format: expected {FORMAT}, found {spec.get('format')!r}")
    arrays = read_arrays(folder / "weights.npz", np.dtype(dtype))
    try:
        net = _build(spec["net"], arrays, "net")
        net = net if ties is None else with_ties(net, ties)
        preprocessing = _preprocessing(spec["preprocessing"])
        classes = tuple(spec["classes"])
        if not all(isinstance(c, str) for c in classes):
            raise ValueError("classes: expected a list of names")
        outputs = net.output_shape(preprocessing.shape)
        if outputs != (len(classes),):
            raise ValueError(f"net: expected {len(classes)} outputs, one for each class, found {outputs}")
    except KeyError as error:
        raise ModelFormatError(f"{where}: {error.args[0]!r} is missing") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise ModelFormatError(f"{where}: {error}") from error
    if arrays:
        raise ModelFormatError(f"{folder / 'weights.npz'}: arrays that no layer asks for: {', '.join(sorted(arrays))}")
    example = spec.get("example", "")
    if not isinstance(example, str):
        raise ModelFormatError(f"{where}: example: expected the name of a file, found {brief(example)}")
    logits = spec.get("logits")
    if logits not in (None, *get_args(Logits)):
        expected = " or ".join(f'"{meaning}"' for meaning in get_args(Logits))
        raise ModelFormatError(f"{where}: logits: expected {expected}, found {brief(logits)}")
    return Model(
        name=str(spec.get("name", folder.name)),
        net=net,
        classes=classes,
        preprocessing=preprocessing,
        summary=str(spec.get("summary", "")),
        card=_card(folder / "README.md"),
        example=folder / Path(example).name if example else None,
        folder=folder,
        logits=logits,
    )


def _card(file: Path) -> str:
    if not file.is_file():
        return ""
    try:
        return read_at_most(file, MAX_TEXT).decode("utf-8")
    except UnicodeDecodeError as error:
        raise ModelFormatError(f"{file}: expected text in UTF-8: {error}") from error


def read_at_most(file: Path, most: int) -> bytes:
    """What is in a file. Raises ModelFormatError if that is more than `most` bytes."""
    with file.open("rb") as opened:
        content = opened.read(most + 1)
    if len(content) > most:
        raise ModelFormatError(f"{file}: expected at most {most:,} bytes, found more: another kind of file?")
    return content


def read_json(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises ModelFormatError if there is none."""
    content = read_at_most(file, MAX_TEXT)
    try:
        spec = json.loads(content)
    except (ValueError, RecursionError) as error:  # also of a number of more digits than Python reads
        raise ModelFormatError(f"{file}: expected JSON: {error}") from error
    if not isinstance(spec, dict):
        raise ModelFormatError(f"{file}: expected an object, found {type(spec).__name__}")
    return spec


# what `zipfile` raises for a broken archive
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError, ValueError, KeyError,
              struct.error)  # fmt: skip
# … and NumPy for a broken .npy; what is no number and no text of Python gives the last six
BROKEN = (*BROKEN_ZIP, TypeError, AttributeError, OverflowError, MemoryError, RecursionError, SyntaxError, tokenize.TokenError)


def brief(value: object) -> str:
    """A value, or an error, in an error message."""
    text = str(value) if isinstance(value, BaseException) else repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


INFLATED = 100  # arrays may be so many times as large as their .npz; weights that are nearly all 0 need so many
SMALL = 1 << 26  # bytes of arrays that any .npz may hold
MAX_NAME = 1000  # characters of the name of an array
HEADER = 10_000  # characters of the header of an array, as NumPy itself allows


@dataclass(frozen=True)
class StoredArrays:
    """The arrays of a .npz that is not trusted, each read when it is asked for. Its sizes are checked before that."""

    file: Path
    archive: zipfile.ZipFile

    @property
    def names(self) -> list[str]:
        return [name.removesuffix(".npy") for name in self.archive.namelist()]

    def header(self, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
        """The shape and the dtype of an array."""
        with self._opened(name) as opened:
            shape, _, dtype = _header(opened, f"{self.file}: {name}")
        return shape, dtype

    def read(self, name: str) -> Array:
        """An array. Raises ModelFormatError if it is not there, or is not what its header says."""
        if name not in self.names:
            raise ModelFormatError(f"{self.file}: no array {brief(name)}; there are {', '.join(self.names)}")
        with self._opened(name) as opened:
            return _array(opened, self.archive.getinfo(f"{name}.npy").file_size, f"{self.file}: {name}")

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        try:
            with self.archive.open(f"{name}.npy") as opened:
                yield opened
        except ModelFormatError:
            raise
        except BROKEN as error:
            raise ModelFormatError(f"{self.file}: {brief(name)}: not a readable .npz: {brief(error)}") from error


@contextmanager
def opened_npz(file: Path) -> Iterator[StoredArrays]:
    """The arrays in a .npz. Raises ModelFormatError if it is none, or if they are far larger than the file (`INFLATED`)."""
    with file.open("rb") as opened:
        try:
            archive = zipfile.ZipFile(opened)
            members = archive.infolist()
        except BROKEN_ZIP as error:
            raise ModelFormatError(f"{file}: not a readable .npz: {brief(error)}") from error
        names = [member.filename for member in members]
        if len(set(names)) < len(names) or not all(name.endswith(".npy") and len(name) <= MAX_NAME for name in names):
            raise ModelFormatError(f"{file}: expected a .npz with one .npy for each name, found {brief(names[:3])}")
        if not all(member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
            raise ModelFormatError(f"{file}: expected a .npz as NumPy writes it, found another kind of compression")
        size, most = sum(member.file_size for member in members), max(SMALL, INFLATED * os.fstat(opened.fileno()).st_size)
        if size > most:
            raise ModelFormatError(f"{file}: expected at most {most:,} bytes of arrays in a file of its size, found {size:,}")
        with archive:
            yield StoredArrays(file, archive)


def read_npy(file: Path) -> Array:
    """The array in a .npy. Raises ModelFormatError if it is none."""
    with file.open("rb") as opened:
        try:
            return _array(opened, os.fstat(opened.fileno()).st_size, f"{file}")
        except ModelFormatError:
            raise
        except BROKEN as error:
            raise ModelFormatError(f"{file}: not a readable .npy: {brief(error)}") from error


def _header(opened: IO[bytes], where: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether the order is Fortran's, and dtype, from the beginning of a .npy."""
    beginning = opened.read(8)
    if beginning[:6] != b"\x93NUMPY":
        raise ModelFormatError(f"{where}: expected an array, found bytes that begin {beginning!r}")
    if beginning[6:] not in (b"\1\0", b"\2\0", b"\3\0"):
        raise ModelFormatError(f"{where}: expected a .npy of version 1, 2 or 3, found {tuple(beginning[6:])}")
    width = 2 if beginning[6] == 1 else 4
    length = int.from_bytes(opened.read(width), "little")
    if length > HEADER:
        raise ModelFormatError(f"{where}: expected a header of at most {HEADER:,} characters, found {length:,}")
    text = opened.read(length)
    whole = io.BytesIO(length.to_bytes(4, "little") + text)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about Python 2, whose headers are right, and about text that is refused here
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(whole, max_header_size=HEADER)
    if len(text) < length or dtype.hasobject or not all(type(n) is int and n >= 0 for n in shape):
        found = brief(text.rstrip())
        raise ModelFormatError(f"{where}: not readable: expected the header of an array of numbers, found {found}")
    return shape, fortran, dtype


def _array(opened: IO[bytes], size: int, where: str) -> Array:
    """The array in an open .npy of `size` bytes."""
    shape, fortran, dtype = _header(opened, where)
    count, left = math.prod(shape), size - opened.tell()
    if count * dtype.itemsize != left or not dtype.itemsize:
        raise ModelFormatError(f"{where}: expected the bytes of {brief(shape)} numbers, {dtype}, found {left:,}: cut off?")
    content = bytearray(left)
    view, at = memoryview(content), 0
    while at < left:  # a member of an archive may come in pieces
        if not (n := opened.readinto(view[at:])):  # type: ignore[attr-defined]
            raise ModelFormatError(f"{where}: expected {left:,} bytes, found {at:,}")
        at += n
    opened.read(1)  # at its end, the checksum of the member is compared
    return np.ndarray(shape, dtype, content, order="F" if fortran else "C")


def read_arrays(file: Path, dtype: np.dtype[Any]) -> dict[str, Array]:
    """The arrays of a .npz in `dtype`. Raises ModelFormatError if one cannot be read, is no number or is not finite."""
    if not file.is_file():
        raise ModelFormatError(f"{file}: there is no such file")
    with opened_npz(file) as stored:
        return {name: as_numbers(stored.read(name), f"{file}: {name}", dtype) for name in stored.names}


def as_numbers(a: Any, where: str, dtype: np.dtype[Any]) -> Array:
    """`a` in `dtype`. Raises ModelFormatError, which begins with `where`, if it is no array of finite floats."""
    if a.dtype.kind != "f":
        raise ModelFormatError(f"{where}: expected floating-point numbers, found {a.dtype}")
    with np.errstate(over="ignore"):  # what does not fit is refused here
        a = a.astype(dtype, copy=False)
    if not np.isfinite(a).all():
        raise ModelFormatError(f"{where}: expected finite numbers, found NaN or infinity")
    return a


def _preprocessing(spec: Mapping[str, Any]) -> Preprocessing:
    """What `save` wrote. Files of before `std` say `scale`, by which pixels are multiplied."""
    values = dict(spec)
    if "scale" in values:
        scale = values.pop("scale")
        if "std" in values or not isinstance(scale, (int, float)) or not scale > 0:
            raise ValueError(f"preprocessing: scale: expected a number > 0, and no std, found {brief(scale)}")
        values["std"] = 1 / scale
    return Preprocessing(**values)


# ---- Nets as data ----------------------------------------------------------------------------------------------------


def _build(spec: Any, arrays: dict[str, Array], where: str) -> Module:
    """The module that `spec` describes; takes its arrays out of `arrays`."""
    if not isinstance(spec, Mapping) or spec.get("type") not in TYPES:
        found = spec.get("type") if isinstance(spec, Mapping) else spec
        raise ValueError(f"{where}: type: expected one of {', '.join(sorted(TYPES))}, found {found!r}")
    kind = TYPES[spec["type"]]
    if issubclass(kind, Graph):
        children = [(child["name"], _build(child, arrays, f"{where}/{child['name']}")) for child in spec["modules"]]
        if kind is not Graph:
            return kind(children)
        reads = (child["reads"] for child in spec["modules"])
        return Graph([(*child, read) for child, read in zip(children, reads, strict=True)], spec["inputs"], spec["output"])
    given = {key: value for key, value in spec.items() if key not in ("type", "name", "reads")}
    known = [f.name for f in dataclasses.fields(kind)]  # type: ignore[arg-type]
    values = {}
    for key, value in given.items():
        if key not in known:
            raise ValueError(f"{where}: {kind.__name__} has no {key!r}; it has {', '.join(known)}")
        if isinstance(value, Mapping):
            name = value["array"]
            if name not in arrays:
                raise ValueError(f"{where}: {key}: no array {name!r} in weights.npz, or two layers ask for it")
            value = arrays.pop(name)
        values[key] = value
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where} ({kind.__name__}): {error}") from error


def _describe(module: Module, arrays: dict[str, Array], name: str) -> dict[str, Any]:
    """What `_build` reads; puts the arrays into `arrays`."""
    kind = type(module)
    if TYPES.get(kind.__name__) is not kind:
        raise TypeError(f"{name}: {kind.__name__} cannot be stored; known are {', '.join(sorted(TYPES))}")
    if isinstance(module, Graph):
        nodes = module.nodes[:-1] if isinstance(module, Branches) else module.nodes  # Concat and Add make the last themselves
        children = [{"name": node.name, **_describe(node.module, arrays, join(name, node.name))} for node in nodes]
        if isinstance(module, (Branches, Sequential)):
            return {"type": kind.__name__, "modules": children}
        wired = [{**child, "reads": list(node.reads)} for child, node in zip(children, nodes, strict=True)]
        return {"type": kind.__name__, "inputs": list(module.inputs), "output": module.output, "modules": wired}
    spec: dict[str, Any] = {"type": kind.__name__}
    for field in dataclasses.fields(module):  # type: ignore[arg-type]
        value = getattr(module, field.name)
        if hasattr(value, "dtype"):
            key = f"{name}.{field.name}" if name else field.name
            arrays[key] = to_numpy(value)
            spec[field.name] = {"array": key}
        elif value != field.default:
            spec[field.name] = value
    return spec


def require_model_folder(folder: Path) -> None:
    """Raise ValueError if `save` would replace something that is no model."""
    if folder.exists() and not (folder / "model.json").is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise ValueError(f"{folder}: expected the folder of a model, or none, found something else: it would be replaced")


def save(model: Model, folder: str | os.PathLike[str], dtype: Any = np.float32) -> Path:
    """Write `model` into `folder`, its weights as `dtype`, biases and other vectors as float32.

    What was there is replaced once all is written, and not before.
    """
    folder = Path(folder)
    arrays: dict[str, Array] = {}
    net = _describe(model.net, arrays, "")
    preprocessing = dataclasses.asdict(model.preprocessing)
    example = {"example": model.example.name} if model.example else {}
    logits = {"logits": model.logits} if model.logits else {}
    spec = {"format": FORMAT, "name": model.name, "summary": model.summary, "classes": list(model.classes), **logits,
            "preprocessing": preprocessing, **example, "net": net}  # fmt: skip
    with np.errstate(over="ignore"):  # what does not fit is refused below
        stored = {name: a.astype(dtype if a.ndim > 1 else np.float32, copy=False) for name, a in arrays.items()}
    for name, a in stored.items():
        if not np.isfinite(a).all():
            raise ValueError(f"{name}: not finite as {np.dtype(dtype)}")
    with new_folder(folder) as new:
        (new / "model.json").write_text(json.dumps(spec, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        write = np.savez if sum(a.nbytes for a in stored.values()) > LARGE else np.savez_compressed
        write(new / "weights.npz", **stored)
        (new / "README.md").write_text(model.card, encoding="utf-8")
        if model.example:
            shutil.copyfile(model.example, new / model.example.name)
    return folder

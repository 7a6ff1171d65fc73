"""From a picture file to the numbers that a network was trained on."""

from __future__ import annotations

import math
import struct
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import IO, Any, Literal, get_args

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

Photo = np.ndarray[Any, np.dtype[np.uint8]]  # (height, width, 3), RGB


def read_photo(path: str | PathLike[str], upright: bool = True) -> Photo:
    """The picture in a file as (height, width, 3) of uint8, RGB, the right way up.

    Grey pictures and palettes become RGB, 16 bits become 8, transparent pixels are put on white, and of several frames the
    first is read. `upright` turns the picture as its EXIF orientation says; without it the pixels stay as they are stored.

    Raises FileNotFoundError if there is no such file. Raises ValueError if the file is no picture or is broken, if its pixels
    are floating-point numbers (their white is not known), or if there are more than about 89 million (Pillow's limit).
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: expected a picture, got a folder")
    try:
        with path.open("rb") as file:
            return decode_photo(file, str(path), upright=upright)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such file") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read as a picture: {error}") from error


def as_photo(photo: str | PathLike[str] | Image.Image | np.ndarray[Any, Any]) -> Photo:
    """A photograph as `read_photo` has it, from a path, a Pillow image, or an array of uint8.

    An array is (height, width) or (height, width, 1) for grey, (height, width, 3) for RGB, or (height, width, 4) for RGB with
    opacity. Raises TypeError or ValueError for anything else.
    """
    if isinstance(photo, (str, PathLike)):
        return read_photo(photo)
    if isinstance(photo, Image.Image):
        return _to_rgb(ImageOps.exif_transpose(photo), "photo")
    if not isinstance(photo, np.ndarray):
        raise TypeError(f"photo: expected a path, a Pillow image or an array, got {type(photo).__name__}")
    grey = photo.ndim == 2 or (photo.ndim == 3 and photo.shape[2] == 1)
    if photo.dtype != np.uint8 or 0 in photo.shape or not (grey or (photo.ndim == 3 and photo.shape[2] in (3, 4))):
        raise ValueError(
            f"photo: expected uint8 of shape (height, width), or with 1, 3 or 4 channels, got {photo.dtype} of shape "
            f"{tuple(photo.shape)}; to explain an x that is prepared already, use lrp_toolbox.explain(model, x)"
        )
    if photo.ndim == 3 and photo.shape[2] == 3:
        return photo
    pixels = np.ascontiguousarray(photo.reshape(photo.shape[:2]) if grey else photo)
    return _to_rgb(Image.fromarray(pixels), "photo")


def decode_photo(file: IO[bytes], name: str, *, upright: bool = True, formats: tuple[str, ...] | None = None) -> Photo:
    """The picture in an open file, as `read_photo` returns it. Error messages begin with `name`.

    `formats` lists the formats of Pillow that may be decoded, for example ("JPEG", "PNG"); None allows all of them. The
    number of pixels is checked before the first is decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata, not about pixels
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(file, formats=formats)
            if image.format in RUN_PROGRAMS:
                raise ValueError(f"{image.format} is a program, which is never run")
            image.seek(0)
            image.load()
            if upright:
                ImageOps.exif_transpose(image, in_place=True)  # a copy of a large photograph takes 200 MB
    except UnidentifiedImageError:
        known = "that Pillow does not know" if formats is None else f"other than {', '.join(formats)}"
        raise ValueError(f"{name}: not a picture, or of a format {known}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ValueError(f"{name}: too many pixels to be safe to open (some 89 million); make it smaller") from None
    except BROKEN as error:
        said = str(error) or type(error).__name__
        raise ValueError(f"{name}: cannot be read as a picture: {said[:200]}") from error
    with image:
        return _to_rgb(image, name)


RUN_PROGRAMS = ("EPS",)  # formats that Pillow has another program draw
# what Pillow raises for a broken file: each of its formats has errors of its own
BROKEN = (OSError, SyntaxError, EOFError, ValueError, TypeError, LookupError, ArithmeticError, AttributeError, AssertionError,
          RuntimeError, MemoryError, BufferError, struct.error, zlib.error)  # fmt: skip
BAND = 1 << 22  # pixels that become RGB at a time: copies of all of them would take a gigabyte


def _to_rgb(image: Image.Image, name: str) -> Photo:
    if image.mode == "F":
        raise ValueError(f"{name}: floating-point pixels, whose white is not known; expected 8 or 16 bits")
    (width, height), rows = image.size, max(1, BAND // image.size[0])
    photo = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows):
        band = image.crop((0, top, width, min(top + rows, height)))
        if image.mode.startswith("I"):  # 16 bits, or 32 in which 16 are used
            wide = np.asarray(band)
            if wide.min() < 0 or wide.max() > 65535:
                raise ValueError(f"{name}: pixels from {wide.min()} to {wide.max()}; expected 8 or 16 bits")
            band = Image.fromarray(((wide.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
        try:
            if band.has_transparency_data:
                band = band.convert("RGBA")
                band = Image.alpha_composite(Image.new("RGBA", band.size, "white"), band)
            photo[top : top + rows] = np.asarray(band.convert("RGB"))
        except ValueError as error:  # pixels of a kind that Pillow does not convert
            raise ValueError(f"{name}: cannot be read as a picture: {image.mode}: {error}") from error
    return photo


Fit = Literal["warp", "crop", "pad"]
Numbers = float | tuple[float, ...]  # one for all channels, or one for each
Order = Literal["RGB", "BGR", "L"]
MAX_VIEW = 1 << 25  # pixels of a view that has margins


@dataclass(frozen=True)
class Preprocessing:
    """How photographs are prepared for a network: x = (pixel − mean) / std, of shape (height, width, channel).

    mean, std and fill are for pixels from 0 to 255. Each is one number for each channel, in the order of `channels`; a single
    number is for all channels.

    size       (height, width) of x
    fit        "warp" rescales the whole photograph to this size; "crop" rescales it until it covers the size, and takes the
               middle; "pad" rescales it until it fits into the size, and fills the rest on both sides of it
    channels   "RGB", "BGR" or "L" (grey)
    std        > 0
    border     so many pixels on each side of x are filled, and the photograph is fitted to the rest of the size
    fill       the pixel, from 0 to 255, that "pad" and `border` fill with: 0 is black, and `fill=mean` makes x = 0
    """

    size: tuple[int, int]
    fit: Fit = "warp"
    channels: Order = "RGB"
    mean: Numbers = 0.0
    std: Numbers = 1.0
    border: int = 0
    fill: Numbers = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))
        if len(self.size) != 2 or not all(isinstance(n, int) and n > 0 for n in self.size):
            raise ValueError(f"size: expected (height, width), got {self.size!r}")
        for name, allowed in (("fit", get_args(Fit)), ("channels", get_args(Order))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: expected one of {allowed}, got {getattr(self, name)!r}")
        self._spread("mean", "number", lambda n: True)
        self._spread("std", "number > 0", lambda n: n > 0)
        self._spread("fill", "number from 0 to 255", lambda n: 0 <= n <= 255)
        if not isinstance(self.border, int) or not 0 <= 2 * self.border < min(self.size):
            raise ValueError(f"border: expected pixels ≥ 0 that leave some of {self.size}, got {self.border!r}")

    def _spread(self, name: str, expected: str, allowed: Callable[[float], bool]) -> None:
        """Make a field one float for each channel."""
        value: Any = getattr(self, name)
        given = (value,) * len(self.channels) if isinstance(value, Real) else tuple(value)
        numbers = tuple(map(_as_float, given))
        if len(numbers) != len(self.channels) or not all(math.isfinite(n) and allowed(n) for n in numbers):
            raise ValueError(f"{name}: expected a {expected} for each of {self.channels}, got {value!r}")
        object.__setattr__(self, name, numbers)

    @property
    def shape(self) -> tuple[int, int, int]:
        return (*self.size, len(self.channels))

    def window(self, height: int, width: int) -> tuple[slice, slice]:
        """The rows and columns of a photograph of this size that the network sees."""
        if self.fit != "crop":
            return slice(0, height), slice(0, width)
        rows, columns = self._inner
        scale = min(height / rows, width / columns)
        h, w = max(1, round(rows * scale)), max(1, round(columns * scale))
        top, left = (height - h) // 2, (width - w) // 2
        return slice(top, top + h), slice(left, left + w)

    def place(self, height: int, width: int) -> tuple[slice, slice]:
        """The rows and columns of x that show a photograph of this size. The others are filled."""
        rows, columns = self._inner
        h, w = rows, columns
        if self.fit == "pad":
            scale = min(rows / height, columns / width)
            h, w = max(1, round(height * scale)), max(1, round(width * scale))
        top, left = self.border + (rows - h) // 2, self.border + (columns - w) // 2
        return slice(top, top + h), slice(left, left + w)

    @property
    def _inner(self) -> tuple[int, int]:
        """The size of x without its border."""
        rows, columns = self.size
        return rows - 2 * self.border, columns - 2 * self.border

    def view(self, photo: Photo) -> Photo:
        """What the network sees, in the resolution of the photograph: a part of it, or with "pad" and `border` more than it.

        With margins, a view of more than about 34 million pixels is made smaller.
        """
        seen = photo[self.window(*photo.shape[:2])]
        place = self.place(*photo.shape[:2])
        if (place[0].stop - place[0].start, place[1].stop - place[1].start) == self.size:
            return seen
        full = [n * seen.shape[k] / (place[k].stop - place[k].start) for k, n in enumerate(self.size)]
        smaller = min(1.0, math.sqrt(MAX_VIEW / math.prod(full)))
        edges = [[round(at * smaller * full[k] / n) for at in (0, place[k].start, place[k].stop, n)]
                 for k, n in enumerate(self.size)]  # fmt: skip
        (_, top, bottom, height), (_, left, right, width) = edges
        bottom, right = max(bottom, top + 1), max(right, left + 1)
        if (bottom - top, right - left) != seen.shape[:2]:
            seen = np.asarray(Image.fromarray(np.ascontiguousarray(seen)).resize((right - left, bottom - top)))
        view = np.empty((max(height, bottom), max(width, right), 3), np.uint8)
        colour = np.rint(self.fill).astype(np.uint8)
        view[:] = colour[::-1] if self.channels == "BGR" else colour
        view[top:bottom, left:right] = seen
        return view

    def __call__(self, photo: Photo) -> np.ndarray[Any, np.dtype[np.float32]]:
        """x, float32 (height, width, channel), from an RGB photograph of uint8 (height, width, 3)."""
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or 0 in photo.shape:
            raise ValueError(f"photo: expected uint8 (height, width, 3), RGB, got {photo.dtype} of shape {tuple(photo.shape)}")
        image = Image.fromarray(np.ascontiguousarray(photo[self.window(*photo.shape[:2])]))
        if self.channels == "L":
            image = image.convert("L")
        rows, columns = self.place(*photo.shape[:2])
        resized = image.resize((columns.stop - columns.start, rows.stop - rows.start), Image.Resampling.BILINEAR)
        pixels = np.empty(self.shape, np.float32)
        pixels[:] = self.fill
        seen = np.asarray(resized)
        pixels[rows, columns] = seen[..., None] if self.channels == "L" else seen[..., ::-1] if self.channels == "BGR" else seen
        return self._numbers(pixels)

    def _numbers(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
        # by the reciprocal: models of before `std`, which were stored with a factor, give the same numbers to the last bit
        factor = (1 / np.asarray(self.std)).astype(np.float32)
        numbers = (pixels.astype(np.float32, copy=False) - np.asarray(self.mean, np.float32)) * factor
        return np.ascontiguousarray(numbers, dtype=np.float32)

    @property
    def bounds(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The smallest and the largest possible x, one number for each channel: the box of the rule zᴮ."""
        channels = len(self.channels)
        return self._numbers(np.zeros(channels)), self._numbers(np.full(channels, 255))

    def facts(self) -> dict[str, str]:
        """What becomes of the pixels, and of the size of photographs, in words."""
        scaled = "" if _brief(self.std) == "1" else f", divided by {_brief(self.std)}"
        fit = {"warp": "warped", "crop": "scaled, and cut", "pad": "scaled, and padded"}[self.fit] + " to that size"
        padded = f" with {_brief(self.fill)}" if self.fit == "pad" else ""
        border = f"; {self.border} pixels on each side are a border of {_brief(self.fill)}" if self.border else ""
        return {
            "input": f"{'×'.join(map(str, self.shape))}, {self.channels}, minus ({', '.join(_texts(self.mean))}){scaled}",
            "photographs": f"{fit}{padded}{border}",
        }


def _as_float(n: Any) -> float:
    """NaN, which is refused, for what is no number or too large."""
    try:
        return float(n) if isinstance(n, Real) else math.nan
    except OverflowError:
        return math.nan


def _texts(numbers: Any) -> list[str]:
    return [f"{n:g}" for n in numbers]


def _brief(numbers: Any) -> str:
    """The numbers, or one if all are the same."""
    texts = _texts(numbers)
    return texts[0] if len(set(texts)) == 1 else f"({', '.join(texts)})"

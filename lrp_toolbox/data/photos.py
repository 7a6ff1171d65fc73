"""From a picture file to the numbers that a network was trained on."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import IO, Any, Literal

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
        return np.asarray(_to_rgb(ImageOps.exif_transpose(photo), "photo"))
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
    return np.asarray(_to_rgb(Image.fromarray(pixels), "photo"))


def decode_photo(file: IO[bytes], name: str, *, upright: bool = True, formats: tuple[str, ...] | None = None) -> Photo:
    """The picture in an open file, as `read_photo` returns it. Error messages begin with `name`.

    `formats` lists the formats of Pillow that may be decoded, for example ("JPEG", "PNG"); None allows all of them. The
    number of pixels is checked before the first is decoded.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            warnings.filterwarnings("ignore", category=UserWarning)  # about metadata, not about pixels
            with Image.open(file, formats=formats) as image:
                image.seek(0)
                image.load()
                if upright:
                    ImageOps.exif_transpose(image, in_place=True)  # a copy of a large photograph takes 200 MB
                return np.asarray(_to_rgb(image, name))
    except UnidentifiedImageError:
        known = "that Pillow does not know" if formats is None else f"other than {', '.join(formats)}"
        raise ValueError(f"{name}: not a picture, or of a format {known}") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise ValueError(f"{name}: too many pixels to be safe to open (some 89 million); make it smaller") from None
    except (OSError, SyntaxError, EOFError, OverflowError) as error:  # what Pillow raises for a broken file
        raise ValueError(f"{name}: cannot be read as a picture: {error}") from error


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode == "F":
        raise ValueError(f"{name}: floating-point pixels, whose white is not known; expected 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits, or 32 in which 16 are used
        wide = np.asarray(image)
        if wide.min() < 0 or wide.max() > 65535:
            raise ValueError(f"{name}: pixels from {wide.min()} to {wide.max()}; expected 8 or 16 bits")
        image = Image.fromarray(((wide.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


@dataclass(frozen=True)
class Preprocessing:
    """How photographs are prepared for a network: x = (pixel − mean) · scale, of shape (height, width, channel).

    size       (height, width) of x
    fit        "warp" rescales the whole photograph to this size; "crop" rescales it until it covers the size, and takes the
               middle
    channels   "RGB", "BGR" or "L" (grey)
    mean       one number for each channel, in the order of `channels`, from 0 to 255
    """

    size: tuple[int, int]
    fit: Literal["warp", "crop"] = "warp"
    channels: Literal["RGB", "BGR", "L"] = "RGB"
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    scale: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", tuple(self.size))
        object.__setattr__(self, "mean", tuple(self.mean))
        if len(self.size) != 2 or not all(isinstance(n, int) and n > 0 for n in self.size):
            raise ValueError(f"size: expected (height, width), got {self.size!r}")
        for name, allowed in (("fit", ("warp", "crop")), ("channels", ("RGB", "BGR", "L"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: expected one of {allowed}, got {getattr(self, name)!r}")
        if len(self.mean) != len(self.channels) or not all(map(math.isfinite, self.mean)):
            raise ValueError(f"mean: expected a number for each of {self.channels}, got {self.mean!r}")
        if not math.isfinite(self.scale) or self.scale <= 0:
            raise ValueError(f"scale: expected a number > 0, got {self.scale!r}")

    @property
    def shape(self) -> tuple[int, int, int]:
        return (*self.size, len(self.channels))

    def window(self, height: int, width: int) -> tuple[slice, slice]:
        """The rows and columns of a photograph of this size that the network sees."""
        if self.fit == "warp":
            return slice(0, height), slice(0, width)
        rows, columns = self.size
        scale = min(height / rows, width / columns)
        h, w = max(1, round(rows * scale)), max(1, round(columns * scale))
        top, left = (height - h) // 2, (width - w) // 2
        return slice(top, top + h), slice(left, left + w)

    def view(self, photo: Photo) -> Photo:
        """The part of the photograph that the network sees, in the resolution of the photograph."""
        return photo[self.window(*photo.shape[:2])]

    def __call__(self, photo: Photo) -> np.ndarray[Any, np.dtype[np.float32]]:
        """x, float32 (height, width, channel), from an RGB photograph of uint8 (height, width, 3)."""
        if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3 or 0 in photo.shape:
            raise ValueError(f"photo: expected uint8 (height, width, 3), RGB, got {photo.dtype} of shape {tuple(photo.shape)}")
        image = Image.fromarray(np.ascontiguousarray(self.view(photo)))
        if self.channels == "L":
            image = image.convert("L")
        pixels = np.asarray(image.resize(self.size[::-1], Image.Resampling.BILINEAR)).reshape(*self.size, -1)
        if self.channels == "BGR":
            pixels = pixels[..., ::-1]
        return self._numbers(pixels)

    def _numbers(self, pixels: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.float32]]:
        numbers = (pixels.astype(np.float32) - np.asarray(self.mean, np.float32)) * np.float32(self.scale)
        return np.ascontiguousarray(numbers, dtype=np.float32)

    @property
    def bounds(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The smallest and the largest possible x, one number for each channel: the box of the rule zᴮ."""
        channels = len(self.mean)
        return self._numbers(np.zeros(channels)), self._numbers(np.full(channels, 255))

"""Reading files of annotations. An error names the file, the place in it, what was expected and what was found."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from .. import mat
from ..text import shortened

Size = tuple[int, int]  # (height, width)
Box = tuple[float, float, float, float]  # x0, y0, x1, y1
MAX_PIXELS = 1 << 24  # in a row; no photograph has more
MAX_MAT = 1 << 26  # bytes of a .mat, and of memory that its arrays may take beside


class DataFormatError(ValueError):
    """A broken file of annotations: the message has the file, the place, what was expected and what was found."""

    def __init__(self, message: str):
        super().__init__(shortened(message))


def read_text(file: Path) -> str:
    """Raises DataFormatError if the file is not UTF-8."""
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataFormatError(f"{file}: expected text in UTF-8: {error}") from error


def read_list(file: Path) -> dict[str, tuple[str, str]]:
    """The first word of each line, with the rest of the line and its place ("FILE: line 3"); empty lines are passed over.

    Raises DataFormatError if a first word occurs twice.
    """
    found: dict[str, tuple[str, str]] = {}
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            where = f"{file}: line {number}"
            if name in found:
                raise DataFormatError(f"{where}: expected names to be unique, found {name} again")
            found[name] = rest.strip(), where
    return found


def read_mat(file: Path) -> dict[str, Any]:
    """The arrays of a .mat by name: numbers as an array, text as str, cells as a list, and structures as a list of
    dictionaries, both in the order of MATLAB, the first axis first.

    Raises DataFormatError if the file is not what it should be, or if a variable is something else: objects, complex numbers.
    """
    with file.open("rb") as opened:
        content = opened.read(MAX_MAT + 1)
    if len(content) > MAX_MAT:
        raise DataFormatError(f"{file}: expected at most {MAX_MAT:,} bytes, found more")
    try:
        found = dict(mat.read_mat(content, MAX_MAT))
    except mat.MatError as error:
        raise DataFormatError(f"{file}: {error}") from error
    for name, value in found.items():
        if isinstance(value, mat.Other):
            raise DataFormatError(f"{file}: {name[:100]!r}: expected numbers, text, cells or structures, found {value.kind}")
    return found


def photographs(folders: Iterable[Path], suffix: str) -> dict[str, Path]:
    """The files in `folders` that end in `suffix`, by name without it; of two of the same name, that in the first folder."""
    found: dict[str, Path] = {}
    for folder in folders:
        if folder.is_dir():
            for file in sorted(folder.iterdir()):
                if file.suffix == suffix:
                    found.setdefault(file.stem, file)
    return found


def first_of(folder: Path, choices: Iterable[str], what: str) -> Path:
    """The first of `choices` that is there in `folder`."""
    choices = list(choices)
    for choice in choices:
        if (folder / choice).exists():
            return folder / choice
    raise FileNotFoundError(f"{folder}: no {what}: expected {' or '.join(choices)}")


# ---- XML -------------------------------------------------------------------------------------------------------------


def read_xml(file: Path) -> Element:
    """The root of an XML file. The attributes of its elements are left out; instead, `line` says where each begins.

    A document type is refused: it could define entities that expand without end, and annotations have none.
    """
    parser, builder = expat.ParserCreate(), TreeBuilder()
    parser.buffer_text = True

    def start(tag: str, attributes: dict[str, str]) -> None:
        builder.start(tag, {"line": str(parser.CurrentLineNumber)})

    def refuse(*_: Any) -> NoReturn:
        raise DataFormatError(f"{file}: line {parser.CurrentLineNumber}: expected elements only, found a document type")

    parser.StartElementHandler = start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(file.read_bytes(), True)
    except DataFormatError:
        raise
    except (expat.ExpatError, ValueError, LookupError) as error:  # the latter two for encodings that there are not
        raise DataFormatError(f"{file}: expected XML: {error}") from error
    return builder.close()


def place(file: Path, element: Element) -> str:
    """ "FILE: line 3: <size>", for messages."""
    return f"{file}: line {element.get('line')}: <{element.tag}>"


def child(file: Path, element: Element, tag: str) -> Element:
    """The one child of that name."""
    found = element.findall(tag)
    if len(found) != 1:
        raise DataFormatError(f"{place(file, element)}: expected one <{tag}>, found {len(found)}")
    return found[0]


def text(file: Path, element: Element, tag: str) -> str:
    """What stands in the one child of that name."""
    return (child(file, element, tag).text or "").strip()


def xml_size(file: Path, root: Element) -> Size:
    """Of the photograph, as both PASCAL VOC and ImageNet say it."""
    size = child(file, root, "size")
    height, width = (number(text(file, size, tag), f"{place(file, size)}: {tag}") for tag in ("height", "width"))
    return checked_size(height, width, place(file, size))


def xml_box(file: Path, element: Element, first: int, size: Size) -> Box:
    """The <bndbox> of an <object>, as `edges` has it."""
    box = child(file, element, "bndbox")
    where = place(file, box)
    values = [number(text(file, box, tag), f"{where}: {tag}") for tag in ("xmin", "ymin", "xmax", "ymax")]
    return edges(values, first, size, where)


# ---- Numbers ---------------------------------------------------------------------------------------------------------


def number(value: str, where: str) -> float:
    """The number that `value` writes."""
    try:
        x = float(value)
    except ValueError:
        x = math.nan
    if not math.isfinite(x):
        raise DataFormatError(f"{where}: expected a number, found {value!r}")
    return x


def checked_size(height: float, width: float, where: str) -> Size:
    """(height, width) of a photograph."""
    if not all(1 <= n < MAX_PIXELS and n == int(n) for n in (height, width)):
        raise DataFormatError(f"{where}: expected a width and a height in pixels, found {width}×{height}")
    return int(height), int(width)


def edges(values: Sequence[float], first: int, size: Size, where: str) -> Box:
    """The edges x0, y0, x1, y1 of the area that the pixels from xmin, ymin to xmax, ymax cover, both included.

    The upper left corner of the photograph is 0, 0, so that pixel k of a row, counting from 0, covers k ≤ x < k + 1.

    first   the number that the files give to the first pixel: 1 in PASCAL VOC, 0 in ImageNet
    """
    xmin, ymin, xmax, ymax = values
    if not all(abs(value) < MAX_PIXELS for value in values):
        raise DataFormatError(f"{where}: expected numbers of pixels, found {list(values)}")
    x0, y0, x1, y1 = xmin - first, ymin - first, xmax - first + 1, ymax - first + 1
    height, width = size
    found = f"found xmin {xmin:g}, ymin {ymin:g}, xmax {xmax:g}, ymax {ymax:g}"
    if xmax < xmin or ymax < ymin:
        raise DataFormatError(f"{where}: expected xmin ≤ xmax and ymin ≤ ymax, {found}")
    if x1 <= 0 or y1 <= 0 or x0 >= width or y0 >= height:
        raise DataFormatError(f"{where}: expected a box on the photograph, which is {width}×{height}, {found}")
    return x0, y0, x1, y1

"""PASCAL VOC (Everingham et al. 2010, IJCV 88(2)): photographs with boxes of 20 classes, several of them on most."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, ClassVar

from .annotations import (
    Box,
    DataFormatError,
    Size,
    checked_size,
    edges,
    first_of,
    photographs,
    place,
    read_list,
    read_text,
    read_xml,
    text,
    xml_box,
    xml_size,
)
from .boxes import Item, by_class

FIRST = 1  # pixels are counted from 1
PERSON = "person"


@dataclass(frozen=True)
class _Record:
    size: Size
    objects: list[tuple[str, Box, bool | None]]  # class, box, whether it is difficult, if that is said
    incomplete: frozenset[str] = frozenset()


class VOC:
    """PASCAL VOC in a folder: an official one (VOC2007, or a VOCdevkit with one of these), or one with `annotations.json`.

    difficult   whether boxes that are flagged as difficult count; if not, they are no object's and no measurement's

    `annotations.json` has, for each id, width, height, objects [class, xmin, ymin, xmax, ymax] and person_boxes_complete;
    the photographs are in JPEGImages/, or, rescaled, in train_256/. It has no flags, so that all boxes have to count.

    Raises FileNotFoundError if there is neither.
    """

    classes: ClassVar[tuple[str, ...]] = (
        "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog", "horse",
        "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    )  # fmt: skip

    def __init__(self, folder: str | PathLike[str], difficult: bool = True):
        folder = Path(folder)
        years = sorted(inner.parent for inner in folder.glob("VOC*/Annotations"))
        if len(years) > 1:
            raise ValueError(f"{folder}: expected one year of VOC, found {', '.join(year.name for year in years)}; give one")
        self.folder = years[0] if years else folder
        self.difficult = difficult
        self._json = first_of(self.folder, ("annotations.json", "Annotations"), "annotations").is_file()
        if self._json and not difficult:
            raise ValueError(f"{self.folder / 'annotations.json'}: has no flags of what is difficult; give difficult=True")

    def items(self, split: str = "val") -> list[Item]:
        """The photographs in the order of the list ImageSets/Main/`split`.txt, or ImageSets/`split`.txt.

        Raises FileNotFoundError if there is no such list, and DataFormatError if a file is not what it should be.
        """
        listed = read_list(first_of(self.folder / "ImageSets", (f"Main/{split}.txt", f"{split}.txt"), f"list of {split!r}"))
        photos = photographs((self.folder / "JPEGImages", self.folder / "train_256"), ".jpg")
        read: Callable[[str, str], _Record] = self._from_json if self._json else self._from_xml
        items = []
        for name, (rest, where) in listed.items():
            if rest:
                raise DataFormatError(f"{where}: expected the name of a photograph only, found {rest!r} behind it")
            record = read(name, where)
            if name not in photos:
                raise DataFormatError(f"{where}: {name}: there is no photograph of that name")
            kept = [(kind, box, bool(hard)) for kind, box, hard in record.objects if self.difficult or not hard]
            boxes, difficult = by_class(kept)
            labels = tuple(sorted({kind for kind, *_ in record.objects}))
            items.append(Item(name, photos[name], record.size, boxes, labels, record.incomplete, difficult))
        return items

    def _from_xml(self, name: str, where: str) -> _Record:
        file = self.folder / "Annotations" / f"{name}.xml"
        if "/" in name or not os.path.isfile(file):  # which, unlike Path.is_file, raises nothing for a name that is too long
            raise DataFormatError(f"{where}: {name}: there is no {file}")
        root = read_xml(file)
        size = xml_size(file, root)
        objects: list[tuple[str, Box, bool | None]] = []
        for element in root.findall("object"):
            where = place(file, element)
            kind = self._known(text(file, element, "name"), where)
            flag = text(file, element, "difficult") if element.find("difficult") is not None else None
            if flag not in (("0", "1", None) if self.difficult else ("0", "1")):
                raise DataFormatError(f"{where}: difficult: expected 0 or 1, found {flag!r}")
            objects.append((kind, xml_box(file, element, FIRST, size), None if flag is None else flag == "1"))
        return _Record(size, objects)

    def _from_json(self, name: str, where: str) -> _Record:
        file = self.folder / "annotations.json"
        if name not in self._annotations:
            raise DataFormatError(f"{where}: {name}: not in {file}")
        where, entry = f"{file}: {name}", self._annotations[name]
        if not isinstance(entry, dict):
            raise DataFormatError(f"{where}: expected an object, found {entry!r}")

        def field(key: str, kind: type) -> Any:
            value = entry.get(key)
            if type(value) is not kind:
                raise DataFormatError(f"{where}: {key}: expected {kind.__name__}, found {value!r}")
            return value

        size = checked_size(field("height", int), field("width", int), where)
        objects: list[tuple[str, Box, bool | None]] = []
        for k, values in enumerate(field("objects", list)):
            here = f"{where}: objects[{k}]"
            if not isinstance(values, list) or len(values) != 5 or not all(type(v) in (int, float) for v in values[1:]):
                raise DataFormatError(f"{here}: expected [class, xmin, ymin, xmax, ymax], found {values!r}")
            objects.append((self._known(values[0], here), edges(values[1:], FIRST, size, here), None))
        complete = field("person_boxes_complete", bool)
        return _Record(size, objects, frozenset() if complete else frozenset({PERSON}))

    @cached_property
    def _annotations(self) -> dict[str, Any]:
        file = self.folder / "annotations.json"
        try:
            annotations = json.loads(read_text(file))
        except DataFormatError:
            raise
        except (ValueError, RecursionError) as error:  # also of a number of more digits than Python reads
            raise DataFormatError(f"{file}: expected JSON: {error}") from error
        if not isinstance(annotations, dict):
            raise DataFormatError(f"{file}: expected an object, found {type(annotations).__name__}")
        return annotations

    def _known(self, kind: Any, where: str) -> str:
        if kind not in self.classes:
            raise DataFormatError(f"{where}: expected one of the 20 classes, found {kind!r}")
        return str(kind)

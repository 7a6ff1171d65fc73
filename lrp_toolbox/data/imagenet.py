"""ImageNet, ILSVRC 2012 (Russakovsky et al. 2015, IJCV 115(3)): the validation photographs, one of 1,000 classes on each."""

from __future__ import annotations

import csv
import io
from os import PathLike
from pathlib import Path

import numpy as np

from .annotations import (
    Box,
    DataFormatError,
    Size,
    checked_size,
    edges,
    first_of,
    number,
    photographs,
    place,
    read_list,
    read_mat,
    read_text,
    read_xml,
    text,
    xml_box,
    xml_size,
)
from .boxes import Item, by_class

FIRST = 0  # pixels are counted from 0: in 994 boxes xmin is 0 at the least and xmax the width less 1 at the most, both often
SUFFIX = ".JPEG"
COLUMNS = ("file", "label", "synset", "orig_w", "orig_h", "xmin", "ymin", "xmax", "ymax")

# Where things are: in a folder of few, as Kaggle hands it out, or with the official archives unpacked side by side.
PHOTOGRAPHS = ("images", "ILSVRC/Data/CLS-LOC/val", "ILSVRC2012_img_val")
BOXES = ("boxes.csv", "ILSVRC/Annotations/CLS-LOC/val", "ILSVRC2012_bbox_val_v3/val")
KIT = "ILSVRC2012_devkit_t12/data/meta.mat"  # the official development kit
SYNSETS = ("synset_words.txt", "LOC_synset_mapping.txt", KIT)

Found = tuple[Size, list[tuple[str, Box, bool]]]  # the size of a photograph, and its objects


def read_kit(file: Path) -> dict[str, str]:
    """The WordNet ids in meta.mat, sorted, and their words. Synsets that have others below them are no classes.

    The numbers in meta.mat, ILSVRC2012_ID, have another order than the outputs of networks.
    """
    synsets = read_mat(file).get("synsets")
    found: dict[str, str] = {}
    for k, synset in enumerate(synsets if isinstance(synsets, list) else [None], 1):
        where = f"{file}: synset {k}"
        fields = [synset.get(key) if isinstance(synset, dict) else None for key in ("WNID", "words", "num_children")]
        wnid, words, children = fields
        if not (isinstance(wnid, str) and isinstance(words, str) and isinstance(children, np.ndarray) and children.size == 1):
            raise DataFormatError(f"{where}: expected WNID, words and num_children, found {repr(synset)[:200]}")
        if children.item() == 0:
            found[wnid] = words
    return dict(sorted(found.items()))


class ImageNet:
    """The validation photographs of ImageNet in a folder, with their official boxes as XML, or as a table, boxes.csv.

    Classes are the WordNet ids ("n01440764"), in the order in which networks have their outputs: the order of the file of
    synsets, which has a line for each, or, from meta.mat of the official development kit, sorted. `words` are their names.

    boxes.csv has a line for each box: file, label (the number of the class), synset, orig_w, orig_h, xmin, ymin, xmax, ymax.

    Raises FileNotFoundError if the photographs, the boxes or the synsets are not there.
    """

    def __init__(self, folder: str | PathLike[str]):
        self.folder = Path(folder)
        self._photographs = first_of(self.folder, PHOTOGRAPHS, "photographs")
        self._boxes = first_of(self.folder, BOXES, "boxes")
        synsets = first_of(self.folder, SYNSETS, "synsets")
        words = read_kit(synsets) if synsets.suffix == ".mat" else {k: text for k, (text, _) in read_list(synsets).items()}
        self.classes, self.words = tuple(words), tuple(words.values())
        self._index = {wnid: k for k, wnid in enumerate(self.classes)}

    def index(self, item: Item) -> int:
        """The output of a network that stands for what the photograph shows."""
        [wnid] = item.labels
        return self._index[wnid]

    def items(self, split: str = "val") -> list[Item]:
        """The photographs that have boxes, in the order of the table, or of their names.

        Raises ValueError for another split than "val", and DataFormatError if a file is not what it should be.
        """
        if split != "val":
            raise ValueError(f"split: expected 'val', which has the boxes, got {split!r}")
        found = self._from_csv() if self._boxes.is_file() else self._from_xml()
        if not found:
            raise DataFormatError(f"{self._boxes}: expected boxes, found none")
        photos = photographs([self._photographs], SUFFIX)
        items = []
        for name, (size, objects) in found.items():
            if name not in photos:
                raise DataFormatError(f"{self._boxes}: {name}: there is no {self._photographs / name}{SUFFIX}")
            boxes, difficult = by_class(objects)
            items.append(Item(name, photos[name], size, boxes, tuple(boxes), difficult=difficult))
        return items

    def _from_xml(self) -> dict[str, Found]:
        found: dict[str, Found] = {}
        for file in sorted(self._boxes.glob("*.xml")):
            root = read_xml(file)
            size = xml_size(file, root)
            objects = [
                (self._known(text(file, element, "name"), place(file, element)), xml_box(file, element, FIRST, size), False)
                for element in root.findall("object")
            ]
            if len({kind for kind, *_ in objects}) != 1:
                kinds = ", ".join(sorted({kind for kind, *_ in objects})) or "none"
                raise DataFormatError(f"{file}: expected <object>s of one class, found {kinds}")
            found[file.stem] = size, objects
        return found

    def _from_csv(self) -> dict[str, Found]:
        found: dict[str, Found] = {}
        lines = csv.reader(io.StringIO(read_text(self._boxes), newline=""), strict=True)
        try:
            header = tuple(next(lines, ()))
            if header != COLUMNS:
                raise DataFormatError(f"{self._boxes}: line 1: expected {','.join(COLUMNS)}, found {','.join(header)}")
            for values in lines:
                self._enter(values, f"{self._boxes}: line {lines.line_num}", found)
        except csv.Error as error:
            raise DataFormatError(f"{self._boxes}: line {lines.line_num}: expected CSV: {error}") from error
        return found

    def _enter(self, values: list[str], where: str, found: dict[str, Found]) -> None:
        """A line of the table."""
        if len(values) != len(COLUMNS):
            raise DataFormatError(f"{where}: expected {len(COLUMNS)} values, found {len(values)}")
        row = dict(zip(COLUMNS, values, strict=True))
        label, width, height, *box = (number(row[key], f"{where}: {key}") for key in COLUMNS if key not in ("file", "synset"))
        size = checked_size(height, width, where)
        wnid = self._known(row["synset"], where)
        if self._index[wnid] != label:
            raise DataFormatError(f"{where}: label: expected {self._index[wnid]}, which is {wnid}, found {row['label']}")
        name = row["file"].removesuffix(SUFFIX)
        first_size, objects = found.setdefault(name, (size, []))
        if (size, wnid) != (first_size, objects[0][0] if objects else wnid):
            raise DataFormatError(f"{where}: expected the size and the synset of {name} further up, found {size}, {wnid}")
        objects.append((wnid, edges(box, FIRST, size, where), False))

    def _known(self, wnid: str, where: str) -> str:
        if wnid not in self._index:
            raise DataFormatError(f"{where}: expected one of the {len(self.classes)} synsets, found {wnid!r}")
        return wnid

"""Get the official boxes of ImageNet's validation photographs (ILSVRC 2012), as boxes.csv.

    python data_scripts/fetch_imagenet_boxes.py --dest data/imagenet_val

What is left in --dest: boxes.csv with a line for each box: file, label (0 to 999), synset, the photograph's width and
height, and xmin, ymin, xmax, ymax in its pixels, which begin at 0.

The photographs themselves cannot be had without an account. With one, from https://image-net.org/download-images:
ILSVRC2012_img_val.tar (6.7 GB; md5 29b22e2961454d5413ddabcf34fc5622), to be unpacked into DEST/images:

    mkdir -p data/imagenet_val/images && tar -xf ILSVRC2012_img_val.tar -C data/imagenet_val/images
"""

from __future__ import annotations

import csv
import io
import json
import re
import tarfile
from pathlib import Path
from xml.etree import ElementTree

from fetch_voc2007 import text
from fetching import IMAGENET_CLASSES, FetchError, Remote, get, parser, run
from tqdm import tqdm

LICENCE = "ImageNet's terms of access: non-commercial research and education, https://image-net.org/download"
BOXES = Remote(  # the md5 is ImageNet's (https://image-net.org/challenges/LSVRC/2012/2012-downloads.php)
    "ILSVRC2012_bbox_val_v3.tgz",
    ("https://image-net.org/data/ILSVRC/2012/ILSVRC2012_bbox_val_v3.tgz",),
    2.3e6,
    "md5:f4cd18b5ea29fe6bbea62ec9c20d80f0",
)
COLUMNS = ("file", "label", "synset", "orig_w", "orig_h", "xmin", "ymin", "xmax", "ymax")


def boxes(archive: Path, classes: Path) -> list[tuple[str | int, ...]]:
    """The rows of boxes.csv. Raises FetchError for a box of another class than the thousand."""
    labels = {synset: int(label) for label, (synset, _) in json.loads(classes.read_text(encoding="utf-8")).items()}
    rows: list[tuple[str | int, ...]] = []
    with tarfile.open(archive) as tar:
        for member in tqdm(tar, desc=archive.name, unit=" files", leave=False):
            name = re.fullmatch(r"(?:.*/)?(ILSVRC2012_val_\d{8})\.xml", member.name)
            content = tar.extractfile(member) if name else None
            if name is None or content is None:
                continue
            where, root = f"{archive}: {member.name}", ElementTree.fromstring(content.read())
            size = [int(text(root, f"size/{edge}", where)) for edge in ("width", "height")]
            for thing in root.iter("object"):
                synset = text(thing, "name", where)
                if synset not in labels:
                    raise FetchError(f"{where}: expected one of {len(labels)} synsets, found {synset!r}")
                edges = (int(text(thing, f"bndbox/{edge}", where)) for edge in ("xmin", "ymin", "xmax", "ymax"))
                rows.append((f"{name[1]}.JPEG", labels[synset], synset, *size, *edges))
    return sorted(rows)


def main() -> None:
    arguments = parser(__doc__, "data/imagenet_val").parse_args()
    if not (images := arguments.dest / "images").is_dir():
        print(f"{images}: the photographs are not there; they take an account at ImageNet, see --help")
    files = get((BOXES, IMAGENET_CLASSES), arguments, LICENCE)
    if arguments.dry_run:
        return
    rows = boxes(*files)
    table = io.StringIO(newline="")
    csv.writer(table, lineterminator="\n").writerows([COLUMNS, *rows])
    arguments.dest.mkdir(parents=True, exist_ok=True)
    temporary = arguments.dest / ".boxes.csv.new"
    temporary.write_text(table.getvalue(), encoding="utf-8")
    temporary.replace(arguments.dest / "boxes.csv")
    print(f"{arguments.dest / 'boxes.csv'}: {len(rows):,} boxes of {len({row[0] for row in rows}):,} photographs")


if __name__ == "__main__":
    run(main)

"""Get PASCAL VOC 2007 (Everingham et al. 2010): the photographs, lists and boxes of train, val and test.

    python data_scripts/fetch_voc2007.py --dest data/voc2007
    python data_scripts/fetch_voc2007.py --dest data/voc2007 --from FOLDER    with archives that are there already

What is left in --dest: JPEGImages/ID.jpg; ImageSets/{train,val,test}.txt; and annotations.json, which says for each ID
its width, height and objects, [class, xmin, ymin, xmax, ymax] in the official coordinates, which begin at 1 and include the
last pixel. Objects that are marked as difficult are among them.
"""

from __future__ import annotations

import json
import re
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from fetching import FetchError, Remote, get, parser, run
from tqdm import tqdm

LICENCE = "the photographs are Flickr's users': for research, see http://host.robots.ox.ac.uk/pascal/VOC/voc2007/"
THOR, HOST = "https://thor.robots.ox.ac.uk/pascal/VOC/voc2007", "http://host.robots.ox.ac.uk/pascal/VOC/voc2007"
MIRROR = "https://pjreddie.com/media/files"


def archive(name: str, size: float, sha256: str) -> Remote:
    return Remote(name, tuple(f"{base}/{name}" for base in (THOR, HOST, MIRROR)), size, f"sha256:{sha256}")


# Oxford publishes no checksums; these are torchvision's (prototype/datasets/_builtin/voc.py), for Oxford's files.
ARCHIVES = (
    archive("VOCtrainval_06-Nov-2007.tar", 460e6, "7d8cd951101b0957ddfd7a530bdc8a94f06121cfc1e511bb5937e973020c7508"),
    archive("VOCtest_06-Nov-2007.tar", 451e6, "6836888e2e01dca84577a849d339fa4f73e1e4f135d312430c4856b5609b4892"),
)
WANTED = {  # what is taken out of the archives, and where it goes
    re.compile(r"VOCdevkit/VOC2007/JPEGImages/(\d{6}\.jpg)"): "JPEGImages",
    re.compile(r"VOCdevkit/VOC2007/ImageSets/Main/((?:train|val|test)\.txt)"): "ImageSets",
    re.compile(r"VOCdevkit/VOC2007/Annotations/(\d{6})\.xml"): "annotations",
}


def unpack(archives: list[Path], dest: Path) -> None:
    """The archives as the folder that the top of this page describes; it appears only when all of it is there."""
    annotations: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(dir=dest, prefix=".unpacking-") as temporary:
        for folder in ("JPEGImages", "ImageSets"):
            (Path(temporary) / folder).mkdir()
        for file in archives:
            with tarfile.open(file) as tar:
                for member in tqdm(tar, desc=file.name, unit=" files", leave=False):
                    for pattern, folder in WANTED.items():
                        name = pattern.fullmatch(member.name)
                        content = tar.extractfile(member) if name else None
                        if name is None or content is None:  # something else, or no file
                            continue
                        if folder == "annotations":
                            annotations[name[1]] = annotation(content.read(), f"{file}: {member.name}")
                        else:
                            with (Path(temporary) / folder / name[1]).open("wb") as out:
                                shutil.copyfileobj(content, out)
        photographs = {path.stem for path in (Path(temporary) / "JPEGImages").iterdir()}
        if photographs != set(annotations):
            odd = sorted(photographs.symmetric_difference(annotations))
            raise FetchError(
                f"expected boxes for every photograph, found only one of both for {len(odd)}: {', '.join(odd[:5])}"
            )
        (Path(temporary) / "annotations.json").write_text(json.dumps(dict(sorted(annotations.items()))), encoding="utf-8")
        for name in ("JPEGImages", "ImageSets", "annotations.json"):
            if (dest / name).exists():
                (dest / name).rename(Path(temporary) / f"old-{name}")
            (Path(temporary) / name).rename(dest / name)
    print(f"{dest}: {len(annotations):,} photographs, with boxes")


def annotation(xml: bytes, where: str) -> dict[str, Any]:
    """Size and objects of a photograph."""
    root = ElementTree.fromstring(xml)
    objects = [
        [text(thing, "name", where), *(int(text(thing, f"bndbox/{edge}", where)) for edge in ("xmin", "ymin", "xmax", "ymax"))]
        for thing in root.iter("object")
    ]
    size = {edge: int(text(root, f"size/{edge}", where)) for edge in ("width", "height")}
    return {**size, "person_boxes_complete": True, "objects": objects}


def text(element: ElementTree.Element, path: str, where: str) -> str:
    found = element.findtext(path)
    if found is None:
        raise FetchError(f"{where}: expected <{path}>, found none")
    return found.strip()


def main() -> None:
    arguments = parser(__doc__, "data/voc2007").parse_args()
    archives = get(ARCHIVES, arguments, LICENCE)
    if not arguments.dry_run:
        arguments.dest.mkdir(parents=True, exist_ok=True)
        unpack(archives, arguments.dest)


if __name__ == "__main__":
    run(main)

"""The pictures of the documentation. `python docs/figures/make.py` writes them.

start.jpg    what the first command of the page Start leaves
rules/       one photograph, one class, a picture for each rule. Red speaks for "cat", blue against it. Each picture has a
             colour scale of its own: the colour is full at the 99.9 % quantile of |R|.
"""

import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from PIL import Image

from lrp_toolbox import AlphaBeta, Epsilon, Flat, Gamma, WSquare, Z, ZBox, ZPlus, explain, load, lrp_cmp, read_photo
from lrp_toolbox.cli import main
from lrp_toolbox.render import overlay

HERE = Path(__file__).parent
SIDE = 336  # pixels, 1.5 for each of the network's input


def composites(bounds):
    """Name of the picture → what it shows: the rule in every layer, or in the first one, with LRP_CMP:α2 in the others."""
    return {
        "z": Z(),
        "epsilon": Epsilon(1),
        "alphabeta": AlphaBeta(2),
        "zplus": ZPlus(),
        "gamma": Gamma(0.25),
        "flat": lrp_cmp(alpha=2, flat=0, first=Flat()),
        "wsquare": lrp_cmp(alpha=2, flat=0, first=WSquare()),
        "zbox": lrp_cmp(alpha=2, flat=0, first=ZBox(*bounds)),
    }


def rules(folder):
    model = load("vgg16-voc")
    photo = read_photo(model.folder / "cat-and-person.jpg")
    view = model.preprocessing.view(photo)
    x = model.prepare(photo)
    pictures = {"photograph": view}
    for name, composite in composites(model.bounds).items():
        pictures[name] = overlay(explain(model, x, "cat", composite).R, view, quantile=0.999)
    folder.mkdir(parents=True, exist_ok=True)
    for name, picture in pictures.items():
        image = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        image.save(folder / f"{name}.jpg", quality=80, optimize=True)


def start(file):
    made = file.with_suffix(".png")
    with redirect_stdout(StringIO()):
        assert main(["explain", "-o", str(made)]) == 0
    Image.open(made).convert("RGB").save(file, quality=85, optimize=True)
    made.unlink()


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    rules(folder / "rules")
    start(folder / "start.jpg")

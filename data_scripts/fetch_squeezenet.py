"""Get SqueezeNet v1.0 (Iandola et al. 2016), in the form of Deep Compression (Han et al. 2016), as models/squeezenet.

python data_scripts/fetch_squeezenet.py
python data_scripts/fetch_squeezenet.py --from FOLDER --labels synset_words.txt    with a file that is there already
"""

from __future__ import annotations

from pathlib import Path

from fetching import Remote, get_model, run

from lrp_toolbox import Model
from lrp_toolbox.importers.compressed import read_compressed
from lrp_toolbox.zoo import Architecture

REPOSITORY = "songhan/SqueezeNet-Deep-Compression"
NET = Remote(  # the sha256 is of the file decoded and run: 71.2 / 91.3 % on 677 photographs (tests/importers/test_zoo.py)
    "compressed_SqueezeNet.net",
    (
        f"https://raw.githubusercontent.com/{REPOSITORY}/master/compressed_SqueezeNet.net",
        f"https://github.com/{REPOSITORY}/raw/master/compressed_SqueezeNet.net",
    ),
    675763,
    "sha256:e4ab6960ae8cd81505e1c2136921201507e930966c53deaf15862a395b3a3261",
)


def build(architecture: Architecture, files: list[Path], classes: tuple[str, ...]) -> Model:
    return architecture(read_compressed(files[0], architecture.shapes), classes)


if __name__ == "__main__":
    run(lambda: get_model(__doc__, {"squeezenet": (NET,)}, build))

"""Get CaffeNet or AlexNet (Krizhevsky et al. 2012), as the BVLC trained them on ImageNet with Caffe, as models/caffenet.

python data_scripts/fetch_caffenet.py
python data_scripts/fetch_caffenet.py --net alexnet
python data_scripts/fetch_caffenet.py --from FOLDER    with files that are there already
"""

from __future__ import annotations

from pathlib import Path

from fetching import Remote, get_model, run

from lrp_toolbox import Model
from lrp_toolbox.importers.caffe import read_caffe
from lrp_toolbox.zoo import Architecture

BVLC = "https://raw.githubusercontent.com/BVLC/caffe/master/models"
BERKELEY = "http://dl.caffe.berkeleyvision.org"
OPENVINO = "https://storage.openvinotoolkit.org/repositories/open_model_zoo/public/2022.1"

NETS = {  # the sha1s of the weights are those on the nets' pages in Caffe's model zoo (readme.md beside deploy.prototxt)
    "caffenet": (
        Remote(
            "deploy.prototxt",
            (f"{BVLC}/bvlc_reference_caffenet/deploy.prototxt",),
            2e3,
            "sha1:6a40fd8b77233afee8fd525ce59bb4ccaae78d58",
        ),
        Remote(
            "bvlc_reference_caffenet.caffemodel",
            (f"{BERKELEY}/bvlc_reference_caffenet.caffemodel",),
            244e6,
            "sha1:4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46",
        ),
    ),
    "alexnet": (
        Remote(
            "deploy.prototxt",
            (f"{BVLC}/bvlc_alexnet/deploy.prototxt",),
            4e3,
            "sha1:cb77655eb4db32c9c47699c6050926f9e0fc476a",
        ),
        Remote(
            "bvlc_alexnet.caffemodel",
            (f"{BERKELEY}/bvlc_alexnet.caffemodel", f"{OPENVINO}/alexnet/bvlc_alexnet.caffemodel"),
            244e6,
            "sha1:9116a64c0fbe4459d18f4bb6b56d647b63920377",
        ),
    ),
}


def build(architecture: Architecture, files: list[Path], classes: tuple[str, ...]) -> Model:
    return architecture.of(read_caffe(files[0], files[1]).net, classes)


if __name__ == "__main__":
    run(lambda: get_model(__doc__, NETS, build))

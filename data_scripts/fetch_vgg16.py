"""Get VGG-16 or VGG-19 (Simonyan and Zisserman 2015), trained on ImageNet, in Keras' form, as models/vgg16.

python data_scripts/fetch_vgg16.py
python data_scripts/fetch_vgg16.py --net vgg19
python data_scripts/fetch_vgg16.py --from FOLDER    with files that are there already
"""

from __future__ import annotations

from pathlib import Path

from fetching import Remote, get_model, run

from lrp_toolbox import Model
from lrp_toolbox.importers.keras import read_keras
from lrp_toolbox.zoo import Architecture

GITHUB = "https://github.com/fchollet/deep-learning-models/releases/download/v0.1"
GOOGLE = "https://storage.googleapis.com/tensorflow/keras-applications"


def weights(net: str, size: float, md5: str) -> Remote:
    name = f"{net}_weights_tf_dim_ordering_tf_kernels.h5"
    return Remote(name, (f"{GOOGLE}/{net}/{name}", f"{GITHUB}/{name}"), size, f"md5:{md5}")


NETS = {  # the md5s are Keras' (keras/applications/vgg16.py and vgg19.py)
    "vgg16": (weights("vgg16", 553e6, "64373286793e3c8b2b4e3219cbf3544b"),),
    "vgg19": (weights("vgg19", 575e6, "cbe5617147190e668d6c5d5026f83318"),),
}


def build(architecture: Architecture, files: list[Path], classes: tuple[str, ...]) -> Model:
    return architecture.of(read_keras(files[0], architecture.name).net, classes)


if __name__ == "__main__":
    run(lambda: get_model(__doc__, NETS, build))

"""The files that tutorial 06 writes in the place of Caffe and Keras are what these read: the same logits come out."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from support import agree, opencv

import lrp_toolbox as lrp

KERAS = """
import sys, keras, numpy as np
model = keras.models.load_model("digits.h5", compile=False)
model.layers[-1].activation = keras.activations.linear
np.save("keras.npy", model(np.load("pixels.npy")))
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder in which the tutorial ran, with pixels of our own."""
    folder = tmp_path_factory.mktemp("tutorial")
    tutorial = ROOT / "tutorials" / "06_bring_your_own_network.py"
    environment = {**os.environ, "MPLBACKEND": "agg"}
    subprocess.run([sys.executable, tutorial], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    np.save(folder / "pixels.npy", np.random.default_rng(0).integers(0, 256, (3, 28, 28, 1)).astype(np.float32))
    return folder


@pytest.fixture(scope="module")
def logits(written, lenet):
    return lenet.net.forward(np.load(written / "pixels.npy") / np.float32(255))


def test_opencv_reads_the_files_of_caffe(written, logits):
    x = np.load(written / "pixels.npy") / np.float32(255)
    agree(opencv(written / "digits.prototxt", written / "digits.caffemodel", x, "fc3"), logits)
    wrong = opencv(written / "digits.prototxt", written / "wrong_order.caffemodel", x, "fc3")
    assert abs(wrong - logits).max() > 0.1 * abs(logits).max()


def test_keras_reads_its_file(written, logits):
    environment = {**os.environ, "KERAS_BACKEND": "numpy"}
    subprocess.run([sys.executable, "-c", KERAS], cwd=written, env=environment, check=True)
    agree(np.load(written / "keras.npy"), logits)


@pytest.mark.parametrize("name", ["digits-caffe", "digits-keras"])
def test_models_that_the_command_left(written, logits, name):
    model = lrp.load(written / "models" / name)
    p = model.preprocessing
    agree(model.net.forward((np.load(written / "pixels.npy") - np.float32(p.mean)) / np.float32(p.std)), logits)

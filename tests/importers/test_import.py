"""`lrp import` and `lrp inspect`: from the files of Caffe and Keras to a folder that `lrp explain` takes."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from support import run

import lrp_toolbox as lrp


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


# ---- Caffe -----------------------------------------------------------------------------------------------------------


def caffe(data, name, weights=None):
    folder = data / "caffe" / name
    return next(folder.glob("*.prototxt")), weights or next(folder.glob("*.caffemodel"))


def test_a_net_of_caffe_explains_a_digit(data, digits, capsys, tmp_path):
    (tmp_path / "digits.txt").write_text("\n".join(["nought", "one", "two", *"3456789"]))
    code, out, err = run(
        capsys, "import", "caffe", *caffe(data, "lenet"),
        "--scale", 1 / 256, "--labels", "digits.txt", "-o", "models/lenet",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("lenet: ")
    assert "10 classes, 431,080 parameters" in out
    assert out.endswith("model: models/lenet\n")
    model = lrp.load("models/lenet")
    assert (model.name, model.classes[2]) == ("lenet", "two")
    assert model.preprocessing == lrp.Preprocessing((28, 28), "warp", "L", (0.0,), 1 / 256)
    x, y = digits
    assert np.mean(model.net.forward(x[::20] * np.float32(255 / 256)).argmax(axis=1) == y[::20]) > 0.97
    photo = lrp.load("lenet5-mnist").example
    code, out, _ = run(capsys, "explain", photo, "--model", "models/lenet")
    assert code == 0
    assert out.splitlines()[1].split()[0] == "two"


def test_what_is_said_of_photographs_is_kept(data, capsys):
    mean = data / "caffe" / "cifar10_quick" / "mean.binaryproto"
    code, _, err = run(
        capsys,
        "import",
        "caffe",
        *caffe(data, "cifar10_quick"),
        "--mean",
        mean,
        "--channels",
        "RGB",
        "--fit",
        "crop",
        "-o",
        "a",
    )
    assert (code, err) == (0, "")
    preprocessing = lrp.load("a").preprocessing
    assert (preprocessing.fit, preprocessing.channels) == ("crop", "RGB")
    np.testing.assert_allclose(preprocessing.mean, (125.307, 122.950, 113.865), atol=1e-3)  # of CIFAR-10, as published
    code, *_ = run(capsys, "import", "caffe", *caffe(data, "cifar10_quick"), "--mean", "1,2,3.5", "-o", "a")
    assert code == 0
    assert lrp.load("a").preprocessing.mean == (1, 2, 3.5)


def test_one_output_of_several(data, capsys):
    folder = data / "caffe" / "mtcnn"
    files = [folder / "det2.prototxt", folder / "det2.caffemodel"]
    code, *_ = run(capsys, "import", "caffe", *files, "--blob", "prob1", "--ignore", "conv5-3", "-o", "det2")
    assert code == 0
    assert len(lrp.load("det2").classes) == 2


# ---- Keras -----------------------------------------------------------------------------------------------------------

WRITE = """
import keras, numpy as np
keras.utils.set_random_seed(0)
model = keras.Sequential([
    keras.Input((12, 10, 3)),
    keras.layers.Conv2D(4, 3, padding="same", activation="relu"),
    keras.layers.MaxPooling2D(2),
    keras.layers.Flatten(),
    keras.layers.Dense(3, activation="softmax"),
])
model.save("net.keras")
model.save_weights("net.weights.h5")
open("net.json", "w").write(model.to_json())
x = np.random.default_rng(0).standard_normal((2, 12, 10, 3), dtype="float32")
np.savez("expected.npz", x=x, p=model.predict(x, verbose=0))
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """What Keras itself wrote of a small net, and what it makes of some x."""
    folder = tmp_path_factory.mktemp("keras")
    subprocess.run([sys.executable, "-c", WRITE], cwd=folder, env={**os.environ, "KERAS_BACKEND": "jax"}, check=True)
    return folder


@pytest.mark.parametrize("form", ["archive", "weights"])
def test_a_net_of_keras(written, capsys, form):
    files = (
        [written / "net.keras"] if form == "archive" else [written / "net.weights.h5", "--architecture", written / "net.json"]
    )
    options = ["--mean", "1,2,3", "--scale", 0.5, "--channels", "BGR", "--fit", "crop"] if form == "weights" else []
    code, out, err = run(capsys, "import", "keras", *files, *options, "-o", "mine")
    assert (code, err) == (0, "")
    model = lrp.load("mine")
    with np.load(written / "expected.npz") as expected:
        y = model.net.forward(expected["x"])
        p = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(p, expected["p"], rtol=1e-4, atol=1e-6)
    assert "input 12×10×3, " + ("BGR, minus (1, 2, 3), times 0.5" if options else "RGB, minus (0, 0, 0)") in out


# ---- What cannot be done ---------------------------------------------------------------------------------------------


def test_what_cannot_be_imported_is_one_line_and_exit_code_2(data, written, capsys, tmp_path):
    prototxt, weights = caffe(data, "lenet")
    (tmp_path / "something").mkdir()
    (tmp_path / "something" / "else").touch()
    (tmp_path / "two.txt").write_text("a\nb\n")
    keras = ["keras", written / "net.keras"]
    for arguments, message in [
        (["caffe", prototxt, "no.caffemodel", "-o", "new"], "no.caffemodel: "),
        (["caffe", "no.prototxt", weights, "-o", "new"], "no.prototxt: "),
        (["caffe", prototxt, prototxt, "-o", "new"], f"{prototxt}: expected a .caffemodel"),
        (["caffe", prototxt, weights, "--mean", "no.npy", "-o", "new"], "no.npy: "),
        (["caffe", prototxt, weights, "--mean", "1,2", "-o", "new"], "2"),
        (["caffe", prototxt, weights, "--labels", "two.txt", "-o", "new"], "10"),
        (["caffe", prototxt, weights, "--labels", "no.txt", "-o", "new"], "no.txt: "),
        (["caffe", prototxt, weights, "-o", "something"], "something: expected the folder of a model, or none"),
        (["caffe", prototxt, weights, "-o", "two.txt"], "two.txt: expected the folder of a model, or none"),
        (["keras", prototxt, "-o", "new"], f"{prototxt}: "),
        ([*keras, "--mean", "mean.npy", "-o", "new"], "--mean: expected numbers, one a channel, got 'mean.npy'"),
        ([*keras, "--mean", "1,2", "-o", "new"], "mean: expected a number for each of RGB"),
        ([*keras, "--mean", "1,2,nan", "-o", "new"], "mean: expected a number for each of RGB"),
        ([*keras, "--channels", "L", "-o", "new"], "channels: expected RGB, BGR or L, as many as the input of"),
        ([*keras, "--size", 9, 10, "-o", "new"], "size: expected one that fits [12, 10, 3]"),
        ([*keras, "--labels", "two.txt", "-o", "new"], "expected 3 names"),
    ]:
        code, out, err = run(capsys, "import", *arguments)
        assert (code, out) == (2, ""), arguments
        assert err.startswith("lrp: error: ")
        assert err.count("\n") == 1
        assert message in err
        assert sorted(p.name for p in tmp_path.iterdir()) == ["something", "two.txt"]
    assert [p.name for p in (tmp_path / "something").iterdir()] == ["else"]


@pytest.mark.parametrize(
    ("library", "files"),
    [("google.protobuf", ["caffe", "a.prototxt", "a.caffemodel"]), ("h5py", ["keras", "a.keras"])],
    ids=["caffe", "keras"],
)
def test_a_reader_that_is_not_installed_is_told_with_what_to_install(library, files):
    without = f"import sys; sys.modules[{library!r}] = None; from lrp_toolbox.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", without, "import", *files, "-o", "new"]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"lrp_toolbox[{files[0]}]" in done.stderr


# ---- lrp inspect -----------------------------------------------------------------------------------------------------


def test_inspect_says_what_there_is(capsys):
    code, out, err = run(capsys, "inspect", "lenet5-mnist")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("lenet5-mnist: ")
    assert lines[2] == "10 classes, 61,706 parameters; logits: the net says yes to the largest"
    rows = {line.split()[0]: line.split()[1:] for line in lines[3:]}
    assert rows["layer"] == ["type", "output", "parameters", "sees", "every"]
    assert rows["conv2"] == ["Conv", "10×10×16", "2,416", "14×14", "2×2"]
    assert rows["fc1"] == ["Linear", "120", "48,120", "all", "·"]
    assert list(rows)[1:] == list(lrp.load("lenet5-mnist").net.names)
    assert len({len(line) for line in lines[3:]}) == 1
    code, _, err = run(capsys, "inspect", "vgg19")
    assert code == 2
    assert err.endswith("; python data_scripts/fetch_vgg16.py --net vgg19 gets it\n")

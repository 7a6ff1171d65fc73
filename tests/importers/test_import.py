"""`lrp import` and `lrp inspect`: from the files of Caffe and Keras to a folder that `lrp explain` takes."""

import ast
import os
import pickle
import re
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from support import run

import lrp_toolbox as lrp

KERAS_FILES = Path(__file__).parent / "keras_files"


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
        "--std", 256, "--labels", "digits.txt", "-o", "models/lenet",
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert out.splitlines()[0].startswith("lenet: ")
    assert "10 classes, 431,080 parameters" in out
    assert out.endswith("model: models/lenet\n")
    model = lrp.load("models/lenet")
    assert (model.name, model.classes[2]) == ("lenet", "two")
    assert model.preprocessing == lrp.Preprocessing((28, 28), "warp", "L", std=256.0)
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
    code, *_ = run(capsys, "import", "caffe", *caffe(data, "cifar10_quick"), "--mean", "1,2,3.5", "-o", "a", "--overwrite")
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
    options = ["--mean", "1,2,3", "--std", 2, "--channels", "BGR", "--fit", "crop"] if form == "weights" else []
    code, out, err = run(capsys, "import", "keras", *files, *options, "-o", "mine")
    assert (code, err) == (0, "")
    model = lrp.load("mine")
    with np.load(written / "expected.npz") as expected:
        y = model.net.forward(expected["x"])
        p = np.exp(y) / np.exp(y).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(p, expected["p"], rtol=1e-4, atol=1e-6)
    assert "input 12×10×3, " + ("BGR, minus (1, 2, 3), divided by 2" if options else "RGB, minus (0, 0, 0)") in out


# ---- What is assumed, and what is overwritten ------------------------------------------------------------------------


def assumptions(out):
    lines = out.splitlines()
    start = lines.index("assumed, because neither the files nor an option said it:") + 1 if "assumed" in out else len(lines)
    return {words[0]: words[1] for words in map(str.split, lines[start:]) if words[0].startswith("--")}


def test_what_is_assumed_is_said_with_the_option_that_says_otherwise(data, written, capsys, tmp_path):
    _, out, _ = run(capsys, "import", "keras", written / "net.keras", "-o", "a")
    found = assumptions(out)
    assert found == {"--mean": "0,0,0", "--std": "1,1,1", "--channels": "RGB", "--fit": "warp", "--labels": "FILE"}
    (tmp_path / "labels.txt").write_text("a\nb\nc")
    options = [word for name, value in found.items() for word in (name, value.replace("FILE", "labels.txt"))]
    code, out, _ = run(capsys, "import", "keras", written / "net.keras", *options, "-o", "b")  # the same, said
    assert code == 0
    assert assumptions(out) == {}
    assert lrp.load("a").preprocessing == lrp.load("b").preprocessing
    _, out, _ = run(capsys, "import", "caffe", *caffe(data, "lenet"), "--fit", "crop", "-o", "c")
    assert assumptions(out) == {"--mean": "0", "--std": "1", "--labels": "FILE"}  # with one channel there is one order
    assert "| assumed, since neither the files nor the user said so | mean, std, labels |" in lrp.load("c").card


def test_what_the_file_says_is_not_assumed(data, capsys, tmp_path):
    prototxt, weights = caffe(data, "lenet")
    text = prototxt.read_text().replace('type: "Input"', 'type: "Input" transform_param { scale: 0.5 mean_value: 7 }', 1)
    (tmp_path / "said.prototxt").write_text(text)
    _, out, _ = run(capsys, "import", "caffe", "said.prototxt", weights, "-o", "a")
    assert assumptions(out) == {"--fit": "warp", "--labels": "FILE"}
    assert lrp.load("a").preprocessing == lrp.Preprocessing((28, 28), "warp", "L", (7.0,), 2.0)


def test_a_model_is_overwritten_only_when_that_is_asked_for(data, written, capsys, tmp_path):
    assert run(capsys, "import", "keras", written / "net.keras", "-o", "mine")[0] == 0
    before = {file.name: file.read_bytes() for file in (tmp_path / "mine").iterdir()}
    code, out, err = run(capsys, "import", "caffe", *caffe(data, "lenet"), "-o", "mine")
    assert (code, out) == (2, "")
    assert err == "lrp: error: mine: there is a model already; --overwrite replaces it\n"
    assert {file.name: file.read_bytes() for file in (tmp_path / "mine").iterdir()} == before
    code, *_ = run(capsys, "import", "caffe", *caffe(data, "lenet"), "-o", "mine", "--overwrite")
    assert code == 0
    assert len(lrp.load("mine").classes) == 10


INTERRUPTED = """
import os, signal, sys, time
import numpy as np
import lrp_toolbox.importers.hdf5 as hdf5
from lrp_toolbox.cli import main

def interrupt(*arguments, **named):  # as Ctrl-C does: to this process while it reads or writes
    print("interrupted", flush=True)
    for _ in range(6000):  # a signal just before one long sleep would be seen after it
        time.sleep(0.01)

owner, name = {"reading": (hdf5.File, "array"), "writing": (np, "savez_compressed")}[sys.argv[1]]
setattr(owner, name, interrupt)
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to another process")
@pytest.mark.parametrize("when", ["reading", "writing"])
@pytest.mark.parametrize("there", [False, True], ids=["new", "overwritten"])
def test_an_interrupted_import_leaves_what_was_there(written, capsys, tmp_path, when, there):
    if there:
        run(capsys, "import", "keras", written / "net.keras", "-o", "models/mine")
    (tmp_path / "temporary").mkdir()
    before = {file: file.is_file() and file.read_bytes() for file in tmp_path.rglob("*")}
    command = [sys.executable, "-c", INTERRUPTED, when, "import", "keras", written / "net.keras", "-o", "models/mine"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "temporary")}
    with subprocess.Popen(
        [*map(str, command), *["--overwrite"] * there],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout.readline() == "interrupted\n"
        os.killpg(process.pid, signal.SIGINT)  # Ctrl-C goes to all processes of the command
        _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (130, "lrp: interrupted\n")
    assert {file: file.is_file() and file.read_bytes() for file in tmp_path.rglob("*")} == before


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


def test_errors_name_the_options_of_the_command(data, capsys, tmp_path):
    (tmp_path / "two.txt").write_text("a\nb\n")
    mtcnn, without = data / "caffe" / "mtcnn", KERAS_FILES / "nested.old.h5"
    det2 = ["caffe", mtcnn / "det2.prototxt", mtcnn / "det2.caffemodel"]
    lenet, keras = ["caffe", *caffe(data, "lenet")], ["keras", KERAS_FILES / "branches.h5"]
    for arguments, message in [
        (det2, "found another; --ignore leaves it out"),
        ([*det2, "--ignore", "conv5-3"], "expected one output, found 2, conv5-2, prob1; say which one, --blob"),
        ([*lenet, "--blob", "fc9"], "error: --blob: expected one of data, conv1,"),
        ([*lenet, "--channels", "RGB"], "error: --channels: expected RGB, BGR or L, as many as the input of"),
        ([*lenet, "--std", "-1"], "error: --std: expected a number > 0 for each of L"),
        ([*lenet, "--fill", "300"], "error: --fill: expected a number from 0 to 255"),
        ([*lenet, "--border", "14"], "error: --border: expected pixels ≥ 0 that leave some of (28, 28)"),
        ([*lenet, "--labels", "two.txt"], "error: --labels: expected 10 names"),
        ([*keras, "--size", "9", "9"], "error: --size: expected one that fits [8, 8, 3]"),
        ([*keras, "--mean", "1,2"], "error: --mean: expected a number for each of RGB"),
        ([*keras, "--architecture", "vgg16"], "error: --architecture: expected none, since"),
        (["keras", without], "found weights alone; give --architecture, the file of model.to_json()"),
    ]:
        code, _, err = run(capsys, "import", *arguments, "-o", "new")
        assert (code, err.count("\n")) == (2, 1)
        assert message in err
        assert not re.search(r"[a-z]=(?!\d)", err)


class Harmful:
    def __reduce__(self):
        return (open, ("opened", "w"))


@pytest.mark.parametrize("framework", ["caffe", "keras", "torch"])
@pytest.mark.parametrize("form", ["zip.pth", "old.pt", "text.pkl"])
def test_a_pickle_is_refused_with_the_way_out(data, capsys, tmp_path, framework, form):
    content = pickle.dumps(Harmful(), protocol=0 if form == "text.pkl" else 2)
    (tmp_path / form).write_bytes(content)
    if form == "zip.pth":
        with zipfile.ZipFile(tmp_path / form, "w") as archive:
            archive.writestr("net/data.pkl", content)
    files = [caffe(data, "lenet")[0], form] if framework == "caffe" else [form]
    code, _, err = run(capsys, "import", framework, *files, "-o", "new")
    assert (code, err.count("\n")) == (2, 1)
    assert f"{form}: found a pickle. A pickle can run any code when it is opened, so it is not opened." in err
    lines = err[err.index("import torch;") :].strip()
    called = [node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
              for node in ast.walk(ast.parse(lines)) if isinstance(node, ast.Call)]  # fmt: skip
    assert called == ["load", "save_file"] or called == ["save_file", "load"]
    assert repr(form.partition(".")[0] + ".safetensors") in lines
    assert [file.name for file in tmp_path.iterdir()] == [form]


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

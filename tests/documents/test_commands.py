"""Every command that the README and the pages print in a block is run.

Experiments run on real photographs with the real model, and on one image only. `lrp explain` has a small net in the place of
vgg16-voc, since only time differs; test_readme.py runs it with the real one. What a command reads lies in a folder made for it.
`lrp serve` is started, asked for its page, and interrupted. A Dask cluster is not started here: its image is measured by then
(tests/experiments has a test with a cluster).
"""

import dataclasses
import functools
import importlib.util
import itertools
import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from conftest import DATA, ROOT
from PIL import Image

import lrp_toolbox as lrp
from lrp_toolbox import cli
from lrp_toolbox.data import VOC, ImageNet

pytestmark = pytest.mark.slow

COMMAND = re.compile(r"^(?: {4}|\$ |)(lrp [a-z](?:.*\\\n)*.*)$", re.MULTILINE)
BLOCK = re.compile(r"^```\w*\n(.*?)^```|((?:^ {4}.*\n)+)", re.MULTILINE | re.DOTALL)
MADE = {"_build", "results", "notebooks"}
PAGES = [ROOT / "README.md", *(p for p in sorted((ROOT / "docs").rglob("*.md")) if not MADE & set(p.parts))]


def printed(page):
    """The commands in the blocks of a page, as lists of words. "…" stands for the options of the command before."""
    found, before = [], []
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        for command in COMMAND.finditer(block[1] or block[2] or ""):
            text = command[1].replace("\\\n", " ").replace("$SLURM_ARRAY_TASK_ID", "3")
            words = shlex.split(text, comments=True)
            if "…" in words:
                at = words.index("…")
                words[at : at + 1] = before[len(words[:at]) :]
            found.append(tuple(words))
            before = words
    return found


COMMANDS = list(dict.fromkeys(command for page in PAGES for command in printed(page)))


def test_commands_are_found():
    """At least one of each kind."""
    kinds = {command[1] for command in COMMANDS}
    assert kinds >= {"explain", "models", "rules", "methods", "serve", "inspect", "import", "experiment", "patterns"}
    assert {command[2] for command in COMMANDS if command[1] == "experiment"} >= {"table1", "fig1", "fig3", "fig4"}


# ---- What the commands read ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which a reader may be: beside real data, with a model and photographs of theirs."""
    folder = tmp_path_factory.mktemp("reader") / "here"
    (folder / "data").mkdir(parents=True)
    (folder / "models").mkdir()
    for model in (ROOT / "models").iterdir():
        (folder / "models" / model.name).symlink_to(model)
    (folder / "models" / "mine").symlink_to(ROOT / "models" / "lenet5-mnist")
    if DATA.is_dir():
        (folder.parent / "shared").mkdir()
        (folder.parent / "shared" / "data").symlink_to(DATA)
        for name in ("data/voc2007", "VOC2007", "VOCdevkit"):
            (folder / name).symlink_to(DATA / "voc2007")
        (folder / "imagenet").symlink_to(DATA / "imagenet_val")
        lrp.save(small("vgg16", ImageNet(DATA / "imagenet_val").classes), folder.parent / "for-experiments" / "vgg16")
    model = dataclasses.replace(small("vgg16-voc", VOC.classes), example=ROOT / "models" / "vgg16-voc" / "cat.png")
    lrp.save(model, folder.parent / "for-others" / "vgg16-voc")
    return folder


def small(name, classes):
    """A small net in the place of VGG-16."""
    rng = np.random.default_rng(0)
    w = lambda *shape: (rng.standard_normal(shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)
    layers = [lrp.Conv(w(3, 3, 3, 6), w(6), padding=1), lrp.ReLU(), lrp.Conv(w(3, 3, 6, 6), w(6), padding=1), lrp.ReLU()]
    layers += [lrp.Conv(w(3, 3, 6, 6), w(6), padding=1), lrp.ReLU()]
    layers += [lrp.MaxPool(8), lrp.Flatten(), lrp.Linear(w(4 * 4 * 6, len(classes)), w(len(classes)))]
    return lrp.Model(name, lrp.Sequential(*layers), classes, lrp.Preprocessing((32, 32), "crop", "BGR", (104.0, 117.0, 123.0)))


@pytest.fixture(scope="module")
def loaded():
    """Models are read once for all commands."""
    with pytest.MonkeyPatch.context() as patch:
        known = functools.cache(lambda name, models: lrp.load(name))
        patch.setattr(cli, "load", lambda name: known(name, os.environ["LRP_TOOLBOX_MODELS"]))
        yield


def provide(command, folder):
    """The files that a command names and that are not there."""
    for word in command[2:]:
        path = folder / word
        if path.suffix in (".jpg", ".png") and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(ROOT / "models" / "vgg16-voc" / "cat.png") as image:
                image.convert("RGB").resize((120, 90)).save(path)
    for option, name in itertools.pairwise(command):
        if option in ("-o", "--output"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)


def provide_import(command, folder, importers):
    """The files of `lrp import`: a small net in the framework's own format, and names of its classes."""
    framework, classes = command[2], 6
    if framework == "caffe":
        rng, files = np.random.default_rng(0), importers("caffe_files")
        layers = files.text("Convolution", "conv1", ["data"], ["conv1"], "convolution_param { num_output: 4 kernel_size: 3 }")
        layers += files.text("InnerProduct", "fc", ["conv1"], ["fc"], f"inner_product_param {{ num_output: {classes} }}")
        (folder / command[3]).write_text('input: "data" input_shape { dim: 1 dim: 3 dim: 12 dim: 12 }\n' + layers)
        shapes = {"conv1": (4, 3, 3, 3), "fc": (classes, 400)}
        weights = [(name, [files.noise(rng, *shape), files.noise(rng, shape[0])]) for name, shape in shapes.items()]
        files.write_weights(folder / command[4], weights)
    elif framework == "keras":
        file = folder / command[3]
        file.write_bytes((ROOT / "tests" / "importers" / "keras_files" / f"nested{file.suffix}").read_bytes())
        classes = len(importers("lrp_toolbox.importers.keras").read_keras(file).classes)
    elif framework == "onnx":
        files, rng = importers("onnx_files"), np.random.default_rng(0)
        layers = [("Conv", ["x", "w"], ["a"]), ("GlobalAveragePool", ["a"], ["b"]), ("Flatten", ["b"], ["y"])]
        weights = {"w": rng.standard_normal((classes, 3, 3, 3), np.float32)}
        files.save(folder, files.model(layers, weights, x=(1, 3, 12, 12)), command[3])
    elif framework == "original":
        files = importers("original_files")
        (folder / command[3]).parent.mkdir(parents=True, exist_ok=True)
        (folder / command[3]).write_text(files.text_of(files.lenet(np.random.default_rng(0))))
    else:
        files = importers("test_torch")
        files.saved(files.network(Path(command[3]).stem, classes=classes)[0], folder / command[3])
    if "--labels" in command:
        labels = folder / command[command.index("--labels") + 1]
        labels.write_text("".join(f"n{k:08} class {k}\n" for k in range(classes)))


@pytest.fixture
def importers(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tests" / "importers")
    return lambda name: __import__(name, fromlist=["*"])


# ---- The commands ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_it_runs(command, place, loaded, importers, monkeypatch, tmp_path, capsys):
    words, folder = list(command[1:]), place
    models = "for-experiments" if words[0] in ("experiment", "patterns") else "for-others"
    monkeypatch.setenv("LRP_TOOLBOX_MODELS", str(place.parent / models))
    if words[0] == "serve":
        return serves(words, place)
    if words[0] == "import":
        folder = tmp_path
        provide_import(command, folder, importers)
    if words[0] in ("experiment", "patterns") and not DATA.is_dir():
        pytest.skip("no real data")
    if words[0] == "experiment":
        words += ["--limit", "1"] + (["--examples", "1"] if words[1] == "table1" else [])
    if words[0] == "patterns":
        words += ["--limit", "1", "--out", str(tmp_path / "patterns")]
    provide(command, folder)
    monkeypatch.chdir(folder)
    code = cli.main(words)
    err = capsys.readouterr().err
    if "cupy" in words and importlib.util.find_spec("cupy") is None:
        assert (code, "backend cupy: cannot be imported" in err) == (2, True), err  # what a machine without CuPy says
    else:
        assert code == 0, err
    return None


def serves(words, folder):
    """The page comes, and Ctrl-C ends the command."""
    command = [sys.executable, "-u", "-m", "lrp_toolbox", *words, "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    environment = {**os.environ, "BROWSER": "true", "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=folder, env=environment, **pipes) as process:
        try:
            said = next(found for line in process.stdout if (found := re.search(r"http://\S+?:\d+\S*", line)))
            with urllib.request.urlopen(said[0].rstrip(".,"), timeout=60) as answer:
                assert b"<html" in answer.read()
        finally:
            process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert process.wait(timeout=30) in (0, 130)

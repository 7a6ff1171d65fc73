"""Files that the real Keras wrote give its numbers, are explained, and are refused when they are not what they should be."""

import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import lrp_toolbox as lrp
from lrp_toolbox.importers import hdf5
from lrp_toolbox.importers.keras import read_keras
from lrp_toolbox.io import ModelFormatError, load, save

KERAS_2 = Path(__file__).parent / "keras_files"
NETS = ["convolutions", "separable", "pooling", "global_max", "activations", "normalised", "padded", "branches", "operators",
        "gated", "mobile", "nested", "rescaled", "rescaled_within", "grey", "dense", "any_size", "wide"]  # fmt: skip
SIZES = {"dense": (4, 4), "any_size": (7, 7)}  # of pictures, where the file does not say


def write(folder, *names):
    """Have the real Keras write files, in a process of its own."""
    command = [sys.executable, str(KERAS_2 / "write.py"), str(folder), *names]
    done = subprocess.run(command, env={**os.environ, "KERAS_BACKEND": "numpy"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="session")
def keras_3(tmp_path_factory):
    return write(tmp_path_factory.mktemp("keras"))


def read(folder, net, ending, **arguments):
    alone = ending in (".weights.h5", ".old.h5")
    architecture = folder / f"{net}.json" if alone else None
    return read_keras(folder / f"{net}{ending}", architecture, size=SIZES.get(net), **arguments)


def check(folder, net, ending):
    """The logits, what comes out with the activation at the end, and an explanation whose ledger closes."""
    model = read(folder, net, ending)
    with np.load(folder / f"{net}.npz") as stored:
        pixels, y, logits = stored["x"], stored["y"], stored["logits"]
    p = model.preprocessing
    x = ((pixels.reshape(-1, *p.shape) - p.mean) / p.std).astype(np.float32)
    np.testing.assert_allclose(model.net.forward(x), logits, rtol=1e-4, atol=1e-4 * abs(logits).max())
    if ending == ".keras" and not (logits == y).all():
        whole = read(folder, net, ending, logits=False)
        np.testing.assert_allclose(whole.net.forward(x), y, rtol=1e-4, atol=1e-4 * abs(y).max())
    e = lrp.explain(model.net.astype(np.float64), x.astype(np.float64), composite=lrp.lrp_cmp())
    assert e.R.shape == x.shape
    assert (abs(e.ledger.rounding) < 1e-9 * np.maximum(1, abs(e.R).sum(axis=(1, 2, 3)))).all()
    return model


@pytest.mark.parametrize("net", NETS)
def test_logits_are_those_of_keras_3(keras_3, net):
    for ending in (".h5", ".keras", ".weights.h5", ".old.h5"):
        check(keras_3, net, ending)


def test_layers_of_keras_applications_are_those_of_keras(keras_3, tmp_path):
    model = check(keras_3, "of_applications", ".keras")
    assert [name for name in model.net.names if "scale" in name] == ["layer_scale", "sum/scale"]
    with pytest.raises(ModelFormatError, match=r"layer_scale \(LayerScale\): expected a \.keras archive"):
        read(keras_3, "of_applications", ".h5")
    with zipfile.ZipFile(keras_3 / "of_applications.keras") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    own = contents["config.json"].replace(b"keras.src.applications.convnext", b"keras.of_someone")
    with zipfile.ZipFile(tmp_path / "own.keras", "w") as archive:
        for name, content in (contents | {"config.json": own}).items():
            archive.writestr(name, content)
    with pytest.raises(ModelFormatError, match="code is never run"):
        read_keras(tmp_path / "own.keras")


@pytest.mark.slow
def test_mobilenet_of_keras_applications(tmp_path):
    """What benchmarks/keras_applications.py does with all of them."""
    code = (
        "import sys; from pathlib import Path; from benchmarks.keras_applications import apart, write\n"
        "from lrp_toolbox.importers.keras import read_keras\n"
        "file, x, logits = write('MobileNet', 64, Path(sys.argv[1]))\n"
        "model = read_keras(file, mean=(0.0,) * 3, std=1.0)\n"
        "print(len(model.net), apart(model, x, logits))"
    )
    command, root = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)], Path(__file__).parents[2]
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    layers, difference = done.stdout.split()[-2:]
    assert int(layers) == 85
    assert float(difference) < 1e-5


def test_hard_sigmoid_is_that_of_the_version_that_wrote_the_file(keras_3, tmp_path):
    """Keras 2: clip(0.2 x + 0.5), Keras 3: clip(x / 6 + 0.5)."""
    older = shutil.copy(keras_3 / "mobile.h5", tmp_path / "mobile.h5")
    with h5py.File(older, "r+") as stored:
        stored["model_weights"].attrs["keras_version"] = "2.15.0"
    for file, expected in ((keras_3 / "mobile.keras", 1 / 6), (keras_3 / "mobile.h5", 1 / 6), (older, 0.2)):
        [gate] = [module for module in read_keras(file).net if isinstance(module, lrp.modules.HardSigmoid)]
        assert (gate.alpha, gate.beta) == (expected, 0.5)


@pytest.mark.parametrize("file", sorted(f.name for f in KERAS_2.iterdir() if f.suffix in (".h5", ".keras")))
def test_logits_are_those_of_keras_2(file):
    net, _, ending = file.partition(".")
    model = check(KERAS_2, net, f".{ending}")
    assert "Keras 2.15.0" in model.summary or ending == "weights.h5"


def test_a_model_that_was_read_is_saved_and_loaded(keras_3, tmp_path):
    for net in ("padded", "activations", "branches"):
        model = read(keras_3, net, ".keras")
        again = load(save(model, tmp_path / net))
        x = np.random.default_rng(0).standard_normal(model.preprocessing.shape).astype("float32")
        np.testing.assert_array_equal(again.net.forward(x), model.net.forward(x))
        assert again.summary == model.summary


def test_zeros_become_padding_where_they_can(keras_3):
    net = read(keras_3, "padded", ".keras").net
    assert [name for name, module in net.items() if isinstance(module, lrp.Pad)] == ["kept", "kept_beside"]
    assert net["c1"].padding == ((3, 2), (3, 5))  # (1, 0), 1, and 1 for "same"; (2, 3), 1, and (0, 1) for "same"
    assert [m.padding for m in net if isinstance(m, lrp.MaxPool)] == [((0, 0), (0, 0)), ((1, 0), (0, 1))]
    assert [(m.padding, m.count_include_pad) for m in net if isinstance(m, lrp.AvgPool)] == [(((1, 1), (1, 1)), True)]
    relevance = lrp.explain(net.astype(np.float64), np.ones((6, 5, 3)), 0, lrp.lrp_cmp(flat="all"))
    assert abs(relevance.ledger.rounding) < 1e-9


def test_rescaling_at_the_input_joins_the_preprocessing(keras_3):
    model = read(keras_3, "rescaled", ".keras")
    assert model.net.names[0].startswith("conv2d")
    grey = read(keras_3, "grey", ".keras")
    assert grey.preprocessing == lrp.Preprocessing((7, 5), channels="L", std=255.0)
    both = read_keras(keras_3 / "rescaled.keras", fit="crop", mean=(1.0, 2.0, 3.0), std=0.5).preprocessing
    assert (both.size, both.fit, both.channels) == ((6, 6), "crop", "RGB")
    x = np.arange(3.0)
    with h5py.File(keras_3 / "rescaled.h5") as stored:
        group = next(stored["model_weights"][n][n] for n in stored["model_weights"] if n.startswith("norm"))
        mean, variance = group["mean"][()], group["variance"][()]
        kernels = []
        stored["model_weights"].visititems(lambda name, a: kernels.append(a[()]) if name.endswith("kernel") else None)
    expected = (((x - (1.0, 2.0, 3.0)) * 2 / 127.5 - 1) - mean) / np.sqrt(variance)
    np.testing.assert_allclose((x - both.mean) / both.std, np.ravel(expected), rtol=1e-6)
    np.testing.assert_array_equal(model.net[model.net.names[0]].w, kernels[0])  # as in the file


def test_the_end_is_said_and_can_be_kept(keras_3):
    model = read(keras_3, "dense", ".keras", labels=["a", "b", "c", "d"])
    assert "softmax at the end is left off: the outputs are logits" in model.card
    assert model.classes == ("a", "b", "c", "d")
    assert model.logits == "exclusive"
    with pytest.raises(TypeError, match="explain the logits"):
        lrp.explain(read(keras_3, "dense", ".keras", logits=False), np.ones((4, 4, 3), "float32"))


IN_A_PROCESS_OF_ITS_OWN = """
import os, resource, sys
import numpy as np
from lrp_toolbox.importers.keras import read_keras

file, architecture, expected = sys.argv[1:]
before = sum(os.times()[:4])
model = read_keras(file, architecture or None)
seconds = sum(os.times()[:4]) - before  # of the process that reads, too
[peak] = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")]
kilobytes = peak + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
with np.load(expected) as stored:
    pixels, logits = stored["x"][0], stored["logits"][0]
y = model.net.forward(model.prepare(pixels.astype(np.uint8)))
assert np.ptp(logits) > 0.1, logits
np.testing.assert_allclose(y, logits, rtol=1e-4, atol=1e-4 * abs(logits).max())
assert seconds < 10, seconds
assert kilobytes < 1_500_000, kilobytes
assert model.net.names[-1] == "predictions" and model.preprocessing.channels == "BGR"
"""


def test_vgg16_in_full_size_in_ten_seconds_and_a_gigabyte_and_a_half(tmp_path):
    """In processes of their own, so that their time and memory can be measured."""
    write(tmp_path, "vgg16")
    for ending, architecture in ((".old.h5", ""), (".h5", ""), (".keras", ""), (".weights.h5", tmp_path / "vgg16.json")):
        file = tmp_path / f"vgg16{ending}"
        command = [sys.executable, "-c", IN_A_PROCESS_OF_ITS_OWN, file, architecture, tmp_path / "vgg16.npz"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        file.unlink()
        assert done.returncode == 0, done.stderr


# ---- What is not as it should be -------------------------------------------------------------------------------------


def refused(file, *parts, **arguments):
    with pytest.raises(ModelFormatError) as caught:
        read_keras(file, **arguments)
    for part in (str(file), *parts):
        assert part in str(caught.value)


def edited(folder, net, tmp_path, change):
    """The whole model `net`, with its description changed."""
    file = tmp_path / f"{net}.h5"
    file.write_bytes((folder / f"{net}.h5").read_bytes())
    with h5py.File(file, "r+") as stored:
        spec = json.loads(stored.attrs["model_config"])
        change({layer["config"]["name"]: layer for layer in spec["config"]["layers"]}, spec["config"])
        stored.attrs["model_config"] = json.dumps(spec)
    return file


def changed(name, kind, **config):
    def change(layers, _):
        layers[name]["class_name"] = kind
        layers[name]["config"].update(config)

    return change


BRANCHES = [
    (changed("stem", "Lambda"), ("stem (Lambda)", "expected one of Activation, ", "code")),
    (changed("stem", "My>Conv"), ("stem (My>Conv)", "found My>Conv")),
    (lambda layers, _: layers["stem"].update(module="os"), ("stem (Conv2D): module: expected one of Keras, found 'os'",)),
    (changed("stem", "Conv2D", filters=5), ("stem (Conv2D): expected arrays kernel (1, 1, 3, 5)", "(4,)")),
    (changed("stem", "Conv2D", filters=-1), ("stem (Conv2D): filters: expected a whole number",)),
    (changed("stem", "Conv2D", use_bias=False), ("stem (Conv2D): expected arrays kernel", "found")),
    (changed("stem", "Conv2D", data_format="channels_first"), ("data_format: expected channels_last",)),
    (changed("stem", "Conv2D", activation="exponential"), ("stem (Conv2D): activation: expected one of", "exponential")),
    (changed("stem", "Conv2D", padding="causal"), ("padding: expected 'valid' or 'same', found 'causal'",)),
    (changed("mixed", "Concatenate", axis=1), ("mixed (Concatenate)", "expected the last axis")),
    (lambda layers, c: c["layers"].remove(layers["stem"]), ("stem: read by a layer or as an output, but no layer makes it",)),
    (lambda layers, c: c["layers"].append(layers["stem"]), ("expected names to be unique, found 2 layers named 'stem'",)),
    (lambda layers, c: c.update(output_layers=[["stem", 0, 0], ["five", 0, 0]]), ("output_layers: expected one output",)),
    (lambda layers, c: c.update(output_layers=[["five", 0, 0]]), ("output: expected one number for each class",)),
    (lambda layers, c: c.update(layers=None), ("layers: expected a list of up to 10000 layers, found None",)),
    (lambda layers, _: next(iter(layers.values()))["config"].update(batch_input_shape=[None, 8, True, 3]),
     ("(InputLayer): shape: expected sizes, found [None, 8, True, 3]",)),
    (lambda layers, _: layers["stem"].update(inbound_nodes=layers["five"]["inbound_nodes"]), ("expected no cycle, found",)),
]  # fmt: skip


@pytest.mark.parametrize(("change", "parts"), BRANCHES)
def test_a_description_that_does_not_hold_is_refused(tmp_path, change, parts):
    refused(edited(KERAS_2, "branches", tmp_path, change), *parts)


def test_arguments_that_do_not_fit_are_named(tmp_path):
    whole = KERAS_2 / "branches.h5"
    for message, arguments in [
        ("size: expected one that fits [8, 8, 3]", {"size": (9, 8)}),
        ("labels: expected 4 names, one for each output, found 1", {"labels": ["a"]}),
        ("channels: expected RGB, BGR or L, as many as the input of", {"channels": "L"}),
        ("mean: expected a number for each of RGB", {"mean": (1, 2)}),
        ("mean: expected a number for each of BGR", {"mean": (1, 2, np.nan), "channels": "BGR"}),
        ("architecture: expected none", {"architecture": "vgg16"}),
    ]:
        with pytest.raises(ValueError, match=message.replace("[", r"\[")):
            read_keras(whole, **arguments)
    with pytest.raises(FileNotFoundError):
        read_keras(tmp_path / "none.h5")
    refused(KERAS_2 / "nested.old.h5", "expected a whole model, found weights alone; give architecture=")
    refused(tmp_path, "expected a file, found a folder")


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    file = edited(KERAS_2, "branches", tmp_path, lambda *_: None)
    for change, part in [
        (lambda w: np.full_like(w, np.nan), "expected finite numbers, found NaN or infinity"),
        (lambda w: w.astype(int), "expected floating-point numbers, found int64"),
        (lambda w: w[..., :2], "expected arrays kernel (1, 1, 3, 4), bias (4,), found kernel:0 (1, 1, 3, 2), bias:0 (4,)"),
    ]:
        with h5py.File(KERAS_2 / "branches.h5") as original, h5py.File(file, "r+") as stored:
            path = "model_weights/stem/stem/kernel:0"
            del stored[path]
            stored[path] = change(original[path][()])
        refused(file, "stem", part)
    with h5py.File(KERAS_2 / "branches.h5") as original, h5py.File(file, "r+") as stored:
        del stored[path]
        stored[path] = original[path][()]
        stored["model_weights/more/kernel:0"] = np.ones(2)
    refused(file, "arrays that no layer asks for: ['model_weights/more/kernel:0']")


def test_nothing_outside_of_the_file_is_followed(tmp_path):
    file = edited(KERAS_2, "branches", tmp_path, lambda *_: None)
    path = "model_weights/stem/stem/kernel:0"
    with h5py.File(file, "r+") as stored:
        del stored[path]
        stored[path] = h5py.ExternalLink(str(KERAS_2 / "branches.h5"), path)
    refused(file, "stem (Conv2D): expected arrays kernel (1, 1, 3, 4), bias (4,), found kernel:0 None, bias:0 (4,)")
    (tmp_path / "raw").write_bytes(bytes(48))
    with h5py.File(file, "r+") as stored:
        del stored[path]
        outside = [(str(tmp_path / "raw"), 0, 48)]
        stored["model_weights/stem/stem"].create_dataset("kernel:0", (1, 1, 3, 4), "float32", external=outside)
    refused(file, "stem: kernel:0: not readable: its data lies outside of the file")


def test_sizes_that_are_only_declared_are_refused(tmp_path):
    """Numbers that were never written take no place on disk, and would take 4 GB in memory."""
    spec = {"class_name": "Sequential", "config": {"name": "big", "layers": [
        {"class_name": "InputLayer", "config": {"name": "in", "batch_shape": [None, 1, 1, 1]}},
        {"class_name": "Flatten", "config": {"name": "flat"}},
        {"class_name": "Dense", "config": {"name": "huge", "units": 1 << 28, "use_bias": False}}]}}  # fmt: skip
    with h5py.File(tmp_path / "big.h5", "w") as stored:
        stored.attrs["model_config"] = json.dumps(spec)
        group = stored.create_group("model_weights/huge")
        group.attrs["weight_names"] = ["kernel"]
        group.create_dataset("kernel", (1, 1 << 28), "float32", chunks=(1, 1 << 20))
    refused(tmp_path / "big.h5", "huge: kernel: expected what fits into the file, found an array of (1, 268435456)")


def repacked(tmp_path, change, compression=zipfile.ZIP_STORED):
    file = tmp_path / "net.keras"
    with zipfile.ZipFile(KERAS_2 / "nested.keras") as archive:
        parts = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, part in change(parts):
            archive.writestr(name, part)
    return file


def test_archives_that_trick_are_refused(tmp_path):
    parts = ("expected plain names that occur once",)
    refused(repacked(tmp_path, lambda p: [*p, ("../../outside", b"")]), *parts)
    refused(repacked(tmp_path, lambda p: [*p, ("/outside", b"")]), *parts)
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = repacked(tmp_path, lambda p: [*p, p[0]])
    refused(twice, *parts)
    refused(repacked(tmp_path, lambda p: [x for x in p if x[0] != "model.weights.h5"]), "found no model.weights.h5")
    bomb = repacked(tmp_path, lambda p: [(n, bytes(1 << 26) if n.endswith(".h5") else b) for n, b in p], zipfile.ZIP_DEFLATED)
    refused(bomb, "model.weights.h5: expected at most", "found 67108864")
    refused(
        repacked(tmp_path, lambda p: [(n, b"[]" if n == "config.json" else b) for n, b in p]), "config.json: expected an object"
    )
    with zipfile.ZipFile(
        tmp_path / "lzma.keras", "w", zipfile.ZIP_LZMA
    ) as archive:  # what `python -m fuzz keras-archive` found
        archive.writestr("config.json", b"{}")
    refused(tmp_path / "lzma.keras", "another kind of compression")
    nested = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    refused(
        repacked(tmp_path, lambda p: [(n, nested if n == "config.json" else b) for n, b in p]), "config.json: expected JSON"
    )


def test_files_of_another_kind_are_refused(tmp_path):
    file = tmp_path / "net.h5"
    for content, part in [
        (b"", "begins b''"),
        (b"caffe" * 9, "begins b'caffecaf'"),
        (b"PK\x03\x04" * 9, "not a readable .keras"),
    ]:
        file.write_bytes(content)
        refused(file, part)
    with h5py.File(file, "w") as stored:
        stored["a"] = np.ones(2)
    refused(file, "expected weights that Keras wrote", architecture="vgg16")
    np.savez(tmp_path / "net.npz", a=np.ones(2))
    refused(tmp_path / "net.npz", "expected config.json, metadata.json, model.weights.h5, found no config.json")


@pytest.mark.parametrize("name", ["nested.h5", "nested.keras"])
def test_files_that_were_cut_are_refused(tmp_path, name):
    content = (KERAS_2 / name).read_bytes()
    for cut in range(0, len(content), len(content) // 12):
        (tmp_path / name).write_bytes(content[:cut])
        refused(tmp_path / name)


@pytest.mark.parametrize("name", ["nested.h5", "nested.keras", "nested.old.h5"])
@settings(max_examples=20)
@given(seed=st.integers(0, 1 << 32), flips=st.sampled_from([1, 4, 64]), early=st.booleans())
def test_flipped_bytes_are_read_or_refused(tmp_path_factory, name, seed, flips, early):
    rng, content = random.Random(seed), bytearray((KERAS_2 / name).read_bytes())
    for _ in range(flips):
        content[rng.randrange(4096 if early else len(content))] = rng.randrange(256)
    file = tmp_path_factory.mktemp("flipped") / name
    file.write_bytes(content)
    try:
        read_keras(file, KERAS_2 / "nested.json" if "old" in name else None)
    except ModelFormatError as error:
        assert name in str(error)  # noqa: PT017


def test_a_file_that_crashes_the_reader_is_refused():
    """The process that reads is killed, as the system does when it crashes or is over its limits."""
    with hdf5.opened(KERAS_2 / "nested.h5", "net.h5") as stored:
        stored.process.kill()
        stored.process.wait()
        with pytest.raises(
            ModelFormatError, match=r"net.h5: conv: not readable: libhdf5 crashed over it, or took too long \(SIGKILL\)"
        ):
            stored.array(stored.arrays("model_weights")[0], "conv", np.dtype("float32"))

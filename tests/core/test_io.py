"""Models as folders: what goes in comes out, and what is broken is refused with file, place, expected and found."""

import dataclasses
import json
import math
import shutil
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import broken, small_cnn

import lrp_toolbox as lrp
from lrp_toolbox.io import Model, ModelFormatError, load, read_arrays, read_npy, save

PREPROCESSING = lrp.Preprocessing((12, 12), "crop", "BGR", (1.0, 2.0, 3.0), (2.0, 5.0, 0.3))
CLASSES = ("a", "b", "c", "d", "é")


def model(net=None):
    return Model("toy", net or small_cnn(np.random.default_rng(0), "float32"), CLASSES, PREPROCESSING, "A toy.", "# toy\n")


def everything():
    """One of each module that can be stored."""
    w = np.ones(3, "float32")
    return lrp.Sequential(
        lrp.BatchNorm(w, w, w, w, 1e-3), lrp.PReLU(w), lrp.LeakyReLU(0.3), lrp.ClippedReLU(3.0), lrp.Tanh(),
        lrp.Sigmoid(), lrp.Scale(w, w), lrp.LRN(3, 0.1, 0.5, 2.0), lrp.LRN(3, region="within"),
        lrp.SumPool((2, 1), 2, ceil_mode=True), lrp.AvgPool(2, 1, 1, False, False),
        lrp.MaxPool(2, 1, ((0, 1), (0, 1)), ties="first"), lrp.Dropout(0.2), lrp.Pad((1, 2)), lrp.MaxPool(None), lrp.Flatten(),
        lrp.Linear(np.ones((3, 5), "float32")),
    )  # fmt: skip


@pytest.mark.parametrize("net", [small_cnn(np.random.default_rng(0), "float32"), everything()], ids=["cnn", "everything"])
def test_what_is_saved_is_loaded(tmp_path, net):
    folder = save(model(net), tmp_path / "models" / "toy")
    again = load(folder)
    for field in ("name", "classes", "preprocessing", "summary", "card", "example"):
        assert getattr(again, field) == getattr(model(), field)
    x = np.random.default_rng(1).standard_normal((2, 12, 12, 3)).astype("float32")
    np.testing.assert_array_equal(again.net.forward(x), net.forward(x))
    assert repr(again.net) == repr(net)
    assert all(map(np.array_equal, again.net.parameters(), net.parameters()))
    assert load(folder, dtype=np.float64).net.parameters()[0].dtype == np.float64
    assert sorted(p.name for p in folder.parent.iterdir()) == ["toy"]


def test_a_file_of_before_std_is_read(tmp_path):
    """It says `scale`, by which pixels were multiplied; x is the same to the last bit."""
    folder = save(model(), tmp_path / "toy")
    spec = json.loads((folder / "model.json").read_text())
    spec["preprocessing"] = {"size": [12, 12], "fit": "crop", "channels": "BGR", "mean": [1.0, 2.0, 3.0], "scale": 1 / 255}
    (folder / "model.json").write_text(json.dumps(spec))
    again = load(folder)
    assert again.preprocessing == lrp.Preprocessing((12, 12), "crop", "BGR", (1.0, 2.0, 3.0), 255.0)
    photo = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    expected = (photo[..., ::-1].astype(np.float32) - np.array([1, 2, 3], np.float32)) * np.float32(1 / 255)
    np.testing.assert_array_equal(again.prepare(photo), expected)
    for scale in (0, -1.0, "1", None, float("nan")):
        spec["preprocessing"]["scale"] = scale
        (folder / "model.json").write_text(json.dumps(spec))
        with pytest.raises(ModelFormatError, match=r"model\.json: preprocessing: scale: expected a number > 0"):
            load(folder)


def test_the_box_of_a_model_is_right_for_each_channel(tmp_path):
    low, high = load(save(model(), tmp_path / "toy")).bounds
    photos = np.zeros((12, 12, 3), np.uint8), np.full((12, 12, 3), 255, np.uint8)
    for bound, photo in zip((low, high), photos, strict=True):
        np.testing.assert_array_equal(np.broadcast_to(bound, (12, 12, 3)), model().prepare(photo))
    assert len({float(width) for width in high - low}) == 3


def test_float16_on_disk_is_float32_in_memory(tmp_path):
    folder = save(model(), tmp_path / "toy", dtype=np.float16)
    with np.load(folder / "weights.npz") as stored:
        assert {(stored[name].ndim > 1, str(stored[name].dtype)) for name in stored.files} == {
            (True, "float16"),
            (False, "float32"),
        }
    for a, b in zip(load(folder).net.parameters(), model().net.parameters(), strict=True):
        assert a.dtype == np.float32
        np.testing.assert_array_equal(a, b.astype(np.float16).astype(np.float32) if b.ndim > 1 else b)


def test_saving_replaces_all_or_nothing(tmp_path):
    folder = save(model(), tmp_path / "toy")
    before = {p.name: p.read_bytes() for p in folder.iterdir()}

    class Strange(lrp.Module):
        pass

    huge = lrp.Sequential(lrp.Linear(np.full((3, 5), 1e9, "float32")))
    with pytest.raises(ValueError, match=r"linear1\.w: not finite as float16"):
        save(model(huge), folder, dtype=np.float16)
    with pytest.raises(TypeError, match=r"odd: Strange cannot be stored; known are AvgPool|odd: Strange cannot be stored"):
        save(model(lrp.Sequential(odd=Strange())), folder)
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["toy"]
    save(model(everything()), folder)
    assert load(folder).net.names[0] == "batchnorm1"


@pytest.mark.parametrize("meaning", ["independent", "exclusive", None])
def test_what_the_logits_mean_is_stored_and_says_yes(tmp_path, meaning):
    folder = save(dataclasses.replace(model(), logits=meaning), tmp_path / "toy")
    assert ("logits" in json.loads((folder / "model.json").read_text(encoding="utf-8"))) == (meaning is not None)
    again = load(folder)
    assert again.logits == meaning
    y = np.array([[1.0, -2.0, 3.0, 0.0, 0.5], [-1.0, -2.0, -0.5, -4.0, -5.0]])
    expected = {
        "independent": [[True, False, True, False, True], [False] * 5],
        "exclusive": [[False, False, True, False, False]] * 2,
        None: None,
    }[meaning]
    for found, wanted in ((again.says_yes(y), expected), (again.says_yes(y[0]), expected and expected[0])):
        assert (found is None and wanted is None) or found.tolist() == wanted


def test_models_that_ship_say_what_their_logits_mean(lenet, vgg16):
    for shipped, meaning in ((lenet, "exclusive"), (vgg16, "independent")):
        assert shipped.logits == meaning
        assert f'"logits": "{meaning}"' in shipped.card


def test_models_are_found_by_name(tmp_path, monkeypatch):
    save(model(), tmp_path / "mine")
    monkeypatch.setenv("LRP_TOOLBOX_MODELS", str(tmp_path))
    assert load("mine").name == "toy"
    assert {"mine", "lenet5-mnist", "vgg16-voc"} <= set(lrp.available())
    with pytest.raises(FileNotFoundError, match=r"no model 'yours': neither a folder with a model.json, nor one of mine"):
        load("yours")


def test_folder_of_models_that_is_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("LRP_TOOLBOX_MODELS", str(tmp_path / "nothere"))
    with pytest.raises(FileNotFoundError, match=r"^LRP_TOOLBOX_MODELS: expected a folder, got '.*nothere'$"):
        load("lenet5-mnist")
    with pytest.raises(FileNotFoundError, match="LRP_TOOLBOX_MODELS: expected a folder"):
        lrp.available()


def edit(folder, change):
    spec = json.loads((folder / "model.json").read_text())
    change(spec)
    (folder / "model.json").write_text(json.dumps(spec))


def layer(spec, name):
    return next(child for child in spec["net"]["modules"] if child["name"] == name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(format=2), "format: expected 1, found 2"),
        (lambda s: s.pop("classes"), "'classes' is missing"),
        (lambda s: s["classes"].pop(), "net: expected 4 outputs, one for each class, found (5,)"),
        (lambda s: s.update(classes=[1, 2, 3, 4, 5]), "classes: expected a list of names"),
        (lambda s: s["preprocessing"].update(size=[0, 12]), "size: expected (height, width)"),
        (lambda s: s["preprocessing"].update(colour="red"), "colour"),
        (lambda s: s["preprocessing"].update(std=[1, 0, 1]), "std: expected a number > 0 for each of BGR"),
        (lambda s: s["preprocessing"].update(std=10**400), "std: expected a number > 0"),
        (lambda s: s["preprocessing"].update(mean="abc"), "mean: expected a number"),
        (lambda s: s["preprocessing"].update(fill=[0, 0, 256]), "fill: expected a number from 0 to 255"),
        (lambda s: s["preprocessing"].update(border=6), "border: expected pixels"),
        (lambda s: s["preprocessing"].update(scale=2), "scale: expected a number > 0, and no std, found 2"),
        (lambda s: layer(s, "conv1").update(type="Convolution"), "net/conv1: type: expected one of AdaptiveAvgPool"),
        (lambda s: layer(s, "conv1").update(stride=0), "net/conv1 (Conv): stride: expected an int ≥ 1"),
        (lambda s: layer(s, "conv1").update(dropout=1), "net/conv1: Conv has no 'dropout'; it has w, b, stride"),
        (lambda s: layer(s, "conv1").pop("w"), "net/conv1 (Conv)"),
        (lambda s: layer(s, "conv1")["w"].update(array="conv9.w"), "net/conv1: w: no array 'conv9.w' in weights.npz"),
        (lambda s: s["net"]["modules"].pop(2), "expects"),
        (lambda s: s.update(net=[]), "net: type: expected one of"),
        (lambda s: s.update(example=3), "example: expected the name of a file, found 3"),
        (lambda s: s.update(logits="sigmoid"), """logits: expected "independent" or "exclusive", found 'sigmoid'"""),
        (lambda s: s.update(logits=["exclusive"]), """logits: expected "independent" or "exclusive", found ['exclusive']"""),
    ],
)
def test_a_broken_description_is_refused(tmp_path, change, message):
    folder = save(model(), tmp_path / "toy")
    edit(folder, change)
    with pytest.raises(ModelFormatError) as caught:
        load(folder)
    assert message in str(caught.value)
    assert "model.json" in str(caught.value) or "weights.npz" in str(caught.value)


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return save(model(), tmp_path_factory.mktemp("model") / "toy")


@given(st.data())
def test_broken_weights_load_or_are_refused(toy, tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("broken")
    shutil.copy(toy / "model.json", folder)
    (folder / "weights.npz").write_bytes(data.draw(broken((toy / "weights.npz").read_bytes())))
    try:
        net = load(folder).net
    except ModelFormatError as error:
        assert str(folder) in str(error)  # noqa: PT017
        assert len(str(error)) < 1000  # noqa: PT017
    else:
        assert all(np.isfinite(a).all() for a in net.parameters())


def test_broken_files_are_refused(tmp_path):
    folder = save(model(), tmp_path / "toy")
    weights = (folder / "weights.npz").read_bytes()

    def refused(message):
        with pytest.raises(ModelFormatError, match=message):
            load(folder)

    for cut in range(0, len(weights), 997):
        (folder / "weights.npz").write_bytes(weights[:cut])
        refused("weights.npz")
    (folder / "weights.npz").unlink()
    refused(r"weights.npz: there is no such file")
    with np.load(shutil.copy(save(model(), tmp_path / "other") / "weights.npz", tmp_path / "copy.npz")) as stored:
        arrays = dict(stored)
    for wrong, message in [
        (arrays["conv1.w"] * np.nan, "conv1.w: expected finite numbers, found NaN"),
        (arrays["conv1.w"].astype(int), "conv1.w: expected floating-point numbers, found int64"),
        (arrays["conv1.w"][..., :4], "conv1"),
        (arrays["conv1.w"].astype(float) + 1e300, "conv1.w: expected finite numbers, found NaN or infinity"),
        (np.array([{}]), "conv1.w: not readable: expected the header of an array of numbers"),
    ]:
        np.savez(folder / "weights.npz", **{**arrays, "conv1.w": wrong})
        refused(message)
    np.savez(folder / "weights.npz", **arrays, extra=np.ones(2))
    refused("arrays that no layer asks for: extra")
    np.save(tmp_path / "one.npy", arrays["conv1.w"])
    npy = (tmp_path / "one.npy").read_bytes()
    for content, message in [
        (b"no header", r"conv1.w: expected an array, found bytes that begin b'no heade'"),
        (npy.replace(b"}", b"(", 1), "not a readable .npz"),  # what NumPy gives to the tokenizer of Python
        (npy.replace(b"'<f4'", b"'<f'("), "not a readable .npz"),
    ]:
        with zipfile.ZipFile(folder / "weights.npz", "w") as archive:
            archive.writestr("conv1.w.npy", content)
        refused(message)
    (folder / "model.json").write_text("{")
    refused("model.json: expected JSON")
    (folder / "model.json").write_text("[]")
    refused("model.json: expected an object, found list")


# ---- What fuzzing found (`python -m fuzz npz model`) -----------------------------------------------------------------


def npy(text, body=b""):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + body


PYTHON_2 = npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (2L,)}\n", bytes(8))


def archived(file, content, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("a.npy", content)
    return file


def test_an_array_of_python_2_is_read_without_a_warning(tmp_path):
    found = read_arrays(archived(tmp_path / "a.npz", PYTHON_2), np.dtype(np.float32))
    np.testing.assert_array_equal(found["a"], [0, 0])


@pytest.mark.parametrize("fortran", [False, True])
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3, 4)])
def test_arrays_are_those_of_numpy(tmp_path, shape, fortran):
    a = np.arange(math.prod(shape), dtype=np.float32).reshape(shape, order="F" if fortran else "C")
    for write in (np.savez, np.savez_compressed):
        write(tmp_path / "a.npz", a=a)
        found = read_arrays(tmp_path / "a.npz", np.dtype(np.float32))["a"]
        np.testing.assert_array_equal(found, a)
        assert found.shape == a.shape
    np.save(tmp_path / "a.npy", a)
    np.testing.assert_array_equal(read_npy(tmp_path / "a.npy"), a)


@pytest.mark.parametrize(
    ("content", "method", "message"),
    [
        (npy(rb"'\d'"), zipfile.ZIP_STORED, "not a readable .npz"),  # a DeprecationWarning of Python
        (npy(b"1 is 1"), zipfile.ZIP_STORED, "not a readable .npz"),  # a SyntaxWarning
        (npy(b"(" * 300), zipfile.ZIP_STORED, "not a readable .npz"),
        (npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", bytes(8)), zipfile.ZIP_STORED, "array of numbers"),
        (npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}", bytes(4)), zipfile.ZIP_STORED, "array of numbers"),
        (npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (9,)}", bytes(4)), zipfile.ZIP_STORED, "found 4: cut off"),
        (PYTHON_2 + b"x", zipfile.ZIP_STORED, "found 9: cut off"),
        (PYTHON_2[:4], zipfile.ZIP_STORED, "expected an array"),
        (b"\x93NUMPY\x09\x00" + bytes(80), zipfile.ZIP_STORED, r"version 1, 2 or 3, found \(9, 0\)"),
        (b"\x93NUMPY\x01\x00\xff\xff" + bytes(1 << 16), zipfile.ZIP_STORED, "at most 10,000 characters"),
        (PYTHON_2, zipfile.ZIP_LZMA, "another kind of compression"),
    ],
)
def test_hostile_arrays_are_refused(tmp_path, content, method, message):
    with pytest.raises(ModelFormatError, match=message) as caught:
        read_arrays(archived(tmp_path / "a.npz", content, method), np.dtype(np.float32))
    assert str(tmp_path / "a.npz") in str(caught.value)


def test_an_encrypted_array_is_refused(tmp_path):
    content = bytearray(archived(tmp_path / "a.npz", PYTHON_2).read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + at] |= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ModelFormatError, match=r"a\.npz: 'a': not a readable \.npz: .* encrypted"):
        read_arrays(tmp_path / "a.npz", np.dtype(np.float32))


def test_an_archive_that_becomes_a_thousand_times_as_large_is_refused_unread(tmp_path):
    zeros = npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d,)}" % (1 << 26), bytes(1 << 28))
    file = archived(tmp_path / "a.npz", zeros, zipfile.ZIP_DEFLATED)
    assert file.stat().st_size < 1 << 19
    with pytest.raises(
        ModelFormatError, match=r"expected at most 67,108,864 bytes of arrays in a file of its size, found 268,"
    ):
        read_arrays(file, np.dtype(np.float32))


def test_what_a_model_folder_may_hold_is_refused_with_its_name(tmp_path):
    folder = save(model(), tmp_path / "toy")
    spec = json.loads((folder / "model.json").read_text())
    for change, message in [
        ('{"format": ' + "9" * 5000 + "}", r"model\.json: expected JSON: Exceeds the limit"),
        (json.dumps({**spec, "preprocessing": {**spec["preprocessing"], "fit": [0] * 20_000}}), r"model\.json: fit: expected"),
    ]:
        (folder / "model.json").write_text(change)
        with pytest.raises(ModelFormatError, match=message) as caught:
            load(folder)
        assert len(str(caught.value)) < 5000
    (folder / "model.json").write_text(
        json.dumps({**spec, "net": {**spec["net"], "modules": [{"name": "\x1b[2J", "type": "A"}]}})
    )
    with pytest.raises(ModelFormatError, match=r"net/\\x1b\[2J: type: expected one of"):  # a terminal would be cleared by it
        load(folder)
    (folder / "model.json").write_text(json.dumps(spec))
    (folder / "README.md").write_bytes(b"# \xff")
    with pytest.raises(ModelFormatError, match=r"README\.md: expected text in UTF-8"):
        load(folder)


def test_normalisation_whose_factor_no_float_can_hold_is_refused(tmp_path):
    """What `python -m fuzz caffe-hdf5` found: NumPy warned of an overflow, and the net gave infinity."""
    numbers = np.full(3, 1e-30, np.float32)
    net = lrp.Sequential(norm=lrp.BatchNorm(0 * numbers, numbers, numbers, eps=1e-30), flatten=lrp.Flatten())
    folder = save(Model("m", net, tuple("abc"), lrp.Preprocessing((1, 1))), tmp_path / "m")
    load(folder)
    with np.load(folder / "weights.npz") as stored:
        arrays = dict(stored)
    np.savez(folder / "weights.npz", **{**arrays, "norm.gamma": np.full(3, 3e38, np.float32)})
    with pytest.raises(
        ModelFormatError, match=r"model\.json: net/norm \(BatchNorm\): w: expected gamma / .* that float32 can hold"
    ):
        load(folder)

"""The zoo: SqueezeNet on real photographs and against OpenCV, architectures against what was published, labels."""

import csv
import json
import struct
from pathlib import Path

import caffe_files as files
import cv2
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from support import closes, rngs

import lrp_toolbox as lrp
from lrp_toolbox import ModelFormatError, zoo
from lrp_toolbox.importers.caffe import read_caffe
from lrp_toolbox.importers.compressed import read_compressed
from lrp_toolbox.io import FETCHED, read_json


@pytest.fixture(scope="module")
def squeezenet(data):
    weights = read_compressed(data / "squeezenet_v1.0" / "compressed_SqueezeNet.net", zoo.squeezenet.shapes)
    return zoo.squeezenet(weights, zoo.read_labels(data / "imagenet_val" / "synset_words.txt"))


# ---- SqueezeNet ------------------------------------------------------------------------------------------------------


def test_squeezenet_knows_photographs(data, squeezenet):
    """All 677: 71.2 % top-1, 91.3 % top-5, the net is known for 71.5 and 90.8 % of them."""
    with (data / "imagenet_val" / "boxes.csv").open() as file:
        labels = {row["file"]: int(row["label"]) for row in csv.DictReader(file)}
    ranks = []
    for name, label in labels.items():
        y = squeezenet.net.forward(squeezenet.prepare(lrp.read_photo(data / "imagenet_val" / "images" / name)))
        ranks.append((y > y[label]).sum())
    assert len(ranks) == 677
    assert abs(np.less(ranks, 1).mean() - 0.715) <= 0.005
    assert abs(np.less(ranks, 5).mean() - 0.908) <= 0.005


def test_squeezenet_is_what_its_prototxt_says(data, squeezenet, tmp_path):
    """The same weights as a .caffemodel, read and run by OpenCV with the prototxt that came with them."""
    layers = []
    for name, w in ((n.removesuffix(".w"), a) for n, a in zip(zoo.squeezenet.shapes, squeezenet.net.parameters(), strict=True)
                    if n.endswith(".w")):  # fmt: skip
        fire, _, rest = name.partition("/")
        theirs = {"squeeze": "conv1x1_1", "expand/1x1/conv": "conv1x1_2", "expand/3x3/conv": "conv3x3_2"}
        caffe = f"{fire}/{theirs[rest]}" if rest else name
        b = weights_of(squeezenet)[f"{name}.b"]
        layers.append((caffe, [w.transpose(3, 2, 0, 1), b]))
    weights = files.write_weights(tmp_path / "squeezenet.caffemodel", layers)
    prototxt = data / "squeezenet_v1.0" / "deploy.prototxt"
    photo = lrp.read_photo(next((data / "photos").glob("*tiger_cat*")))
    x = squeezenet.prepare(photo)
    net = cv2.dnn.readNetFromCaffe(str(prototxt), str(weights))
    net.setInput(np.ascontiguousarray(x.transpose(2, 0, 1)[None]))
    expected = net.forward("pool_final").reshape(-1)
    np.testing.assert_allclose(squeezenet.net.forward(x), expected, rtol=1e-4, atol=1e-4 * expected.max())
    imported = read_caffe(prototxt, weights, mean=squeezenet.preprocessing.mean)
    np.testing.assert_allclose(imported.net.forward(x), expected, rtol=1e-4, atol=1e-4 * expected.max())
    assert imported.preprocessing == squeezenet.preprocessing
    weights.unlink()


def weights_of(model):
    return dict(zip(zoo.ZOO[model.name].shapes, model.net.parameters(), strict=True))


def test_squeezenet_tells_two_dogs_apart(data, squeezenet):
    """A Bernese mountain dog and, in front of its right half, a pug: relevance moves from the one to the other."""
    x = squeezenet.prepare(lrp.read_photo(next((data / "photos").glob("*Bernese*"))))
    for composite in (lrp.lrp_cmp(1), lrp.lrp_cmp(2), lrp.lrp_cmp(flat="all")):
        e = lrp.explain(squeezenet, x, ["Bernese mountain dog", "pug"], composite)
        assert closes(e, 1e-5)
        R = np.maximum(e.heatmap, 0)
        share = R[:, 120:, 108:185].sum(axis=(1, 2)) / R.sum(axis=(1, 2))  # where the pug is
        assert share[1] > 4 * share[0], composite.name


def test_squeezenet_says_what_the_photographs_show(data, squeezenet):
    wrong = []
    for file in sorted((data / "photos").iterdir()):
        y = squeezenet.net.forward(squeezenet.prepare(lrp.read_photo(file)))
        name = file.stem.partition("_")[2].replace("_", " ")
        if name not in [squeezenet.classes[k] for k in np.argsort(-y)[:5]]:
            wrong.append(name)
    assert len(wrong) <= 2  # its top five miss one photograph of six (83.6 % of a thousand)


def test_a_folder_of_squeezenet_is_squeezenet(squeezenet, tmp_path):
    again = lrp.load(lrp.save(squeezenet, tmp_path / "squeezenet"))
    assert (again.classes, again.preprocessing, again.card) == (squeezenet.classes, squeezenet.preprocessing, squeezenet.card)
    assert repr(again.net) == repr(squeezenet.net)
    assert all(map(np.array_equal, again.net.parameters(), squeezenet.net.parameters()))
    assert (tmp_path / "squeezenet" / "weights.npz").stat().st_size < 2e6


def test_weights_that_are_not_compressed_are_the_same_and_checked_as_well(lenet, tmp_path, monkeypatch):
    small = (lrp.save(lenet, tmp_path / "small") / "weights.npz").stat().st_size
    monkeypatch.setattr("lrp_toolbox.io.LARGE", 0)
    file = lrp.save(lenet, tmp_path / "large") / "weights.npz"
    assert file.stat().st_size > small
    for a, b in zip(lrp.load(tmp_path / "large").net.parameters(), lenet.net.parameters(), strict=True):
        np.testing.assert_array_equal(a, b)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    for broken in (content, content[: len(content) // 2]):
        file.write_bytes(broken)
        with pytest.raises(ModelFormatError, match=r"weights\.npz"):
            lrp.load(tmp_path / "large")


# ---- Deep Compression ------------------------------------------------------------------------------------------------


def compress(weights):
    """The format that `read_compressed` reads, written weight by weight. A gap of more than 15 takes zeros that are stored."""
    names = [name.removesuffix(".w") for name in weights if name.endswith(".w")]
    counts, bodies = [], b""
    for name in names:
        flat = weights[f"{name}.w"].transpose(3, 2, 0, 1).reshape(-1)
        values = [0.0, *np.unique(flat[flat != 0])]
        codes, gaps, last = [], [], -1
        for place in np.flatnonzero(flat):
            while place - last - 1 > 15:
                last += 16
                codes.append(0)
                gaps.append(15)
            codes.append(values.index(flat[place]))
            gaps.append(place - last - 1)
            last = place
        gaps += [0] * (len(gaps) % 2)
        counts.append(len(codes))
        bodies += struct.pack("<256f", *values, *[9.0] * (256 - len(values)))
        bodies += struct.pack(f"<{len(weights[f'{name}.b'])}f", *weights[f"{name}.b"])
        bodies += bytes(codes) + bytes(low | high << 4 for low, high in zip(gaps[::2], gaps[1::2], strict=True))
    return struct.pack(f"<{len(names)}I", *counts) + bodies


@st.composite
def sparse(draw):
    """Weights of a few small convolutions, most of them 0."""
    rng, weights = draw(rngs()), {}
    for k in range(draw(st.integers(1, 3))):
        kernel, n_in, n_out = draw(st.integers(1, 3)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
        w = rng.integers(-9, 10, (kernel, kernel, n_in, n_out)) * (rng.random((kernel, kernel, n_in, n_out)) < 0.15)
        weights |= {f"{k}.w": w.astype(np.float32), f"{k}.b": rng.integers(-9, 10, n_out).astype(np.float32)}
    return weights


@given(sparse(), st.data())
def test_a_file_with_other_bytes_is_refused_or_read(tmp_path_factory, weights, data):
    file, content = tmp_path_factory.mktemp("compressed") / "net", bytearray(compress(weights))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(content)
    try:
        found = read_compressed(file, {name: a.shape for name, a in weights.items()})
    except ModelFormatError:
        return
    assert all(np.isfinite(a).all() and a.shape == weights[name].shape for name, a in found.items())


@given(sparse())
def test_what_was_compressed_is_read(tmp_path_factory, weights):
    file = tmp_path_factory.mktemp("compressed") / "net"
    file.write_bytes(compress(weights))
    found = read_compressed(file, {name: a.shape for name, a in weights.items()})
    assert list(found) == list(weights)
    for name, a in weights.items():
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], a)


def test_broken_files_are_refused(data, tmp_path):
    whole = (data / "squeezenet_v1.0" / "compressed_SqueezeNet.net").read_bytes()
    shapes, file = zoo.squeezenet.shapes, tmp_path / "net"

    def refused(content, message):
        file.write_bytes(content)
        with pytest.raises(ModelFormatError, match=message) as caught:
            read_compressed(file, shapes)
        assert str(caught.value).startswith(f"{file}: ")

    for cut in range(0, len(whole), 10_007):
        refused(whole[:cut], "cut off")
    refused(whole + b"!", f"expected {len(whole)} bytes, found {len(whole) + 1}")
    refused(b"\xff" * 104 + whole[104:], "conv1: codes: expected 4294967295 bytes")
    codebook = slice(104, 104 + 1024)
    refused(whole[: codebook.start] + b"\xff" * 1024 + whole[codebook.stop :], "conv1: expected finite numbers, found NaN")
    gaps = 104 + 1024 + 4 * 96 + struct.unpack_from("<I", whole)[0]
    refused(whole[:gaps] + b"\xff" * 6000 + whole[gaps + 6000 :], r"conv1: expected 14112 weights, found one at \d+")


# ---- Architectures ---------------------------------------------------------------------------------------------------

PUBLISHED = {  # numbers of parameters: Keras' table of applications; Open Model Zoo (60.965 million); SqueezeNet's own count
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "caffenet": 60_965_224,
    "alexnet": 60_965_224,
    "squeezenet": 1_248_424,
    "lenet5": 61_706,
}


@pytest.mark.parametrize("name", zoo.ZOO)
def test_architectures_have_as_many_parameters_as_published(name):
    architecture = zoo.ZOO[name]
    assert sum(int(np.prod(shape)) for shape in architecture.shapes.values()) == PUBLISHED[name]
    weightless = {key: np.broadcast_to(np.float32(0), shape) for key, shape in architecture.shapes.items()}
    net = architecture.net(weightless)
    assert net.output_shape(architecture.preprocessing.shape) == (10 if name == "lenet5" else 1000,)
    lrp.lrp_cmp().resolve(net, architecture.preprocessing.shape)
    assert f"{PUBLISHED[name]:,}" in architecture.card()


def test_caffenet_is_what_its_prototxt_says(data, tmp_path):
    """Random weights, read by the importer with the prototxt of the BVLC."""
    rng, shapes = np.random.default_rng(0), zoo.caffenet.shapes
    names = [name.removesuffix(".w") for name in shapes if name.endswith(".w")]
    layers = []
    for name in names:
        shape = shapes[f"{name}.w"]
        layers.append((name, [files.noise(rng, *(shape[::-1] if len(shape) == 2 else (*shape[:1:-1], *shape[:2]))),
                              files.noise(rng, shape[-1])]))  # fmt: skip
    weights = files.write_weights(tmp_path / "caffenet.caffemodel", layers)
    imported = read_caffe(data / "caffe" / "caffenet" / "deploy.prototxt", weights)
    weights.unlink()
    ours = zoo.caffenet.of(imported.net, [str(k) for k in range(1000)])
    x = rng.standard_normal(ours.preprocessing.shape, dtype=np.float32) * 60
    np.testing.assert_array_equal(ours.net.forward(x), imported.net.forward(x))
    kinds = [[type(layer.module) for layer in lrp.lrp_cmp().resolve(net, x.shape).layers] for net in (ours.net, imported.net)]
    assert kinds[0] == kinds[1]


def test_the_mean_is_that_of_caffe(data):
    mean = np.load(data / "imagenet_val" / "ilsvrc_2012_mean.npy").mean(axis=(1, 2))
    np.testing.assert_allclose(zoo.caffenet.preprocessing.mean, mean, atol=1e-6)


def test_the_lenet_that_ships_is_that_of_the_zoo(lenet):
    again = zoo.lenet5.of(lenet.net, lenet.classes)
    assert repr(again.net) == repr(lenet.net)
    assert all(map(np.array_equal, again.net.parameters(), lenet.net.parameters()))
    assert again.preprocessing == lenet.preprocessing


def test_weights_that_do_not_fit_are_refused(lenet):
    weights = dict(zip(zoo.lenet5.shapes, lenet.net.parameters(), strict=True))
    for change, message in [
        ({"fc1.w": weights["fc1.w"].T}, r"lenet5: fc1.w: expected shape \(400, 120\), found \(120, 400\)"),
        ({"fc9.w": weights["fc1.w"]}, "lenet5: weights that no layer asks for: fc9.w"),
    ]:
        with pytest.raises(ModelFormatError, match=message):
            zoo.lenet5({**weights, **change}, lenet.classes)
    del weights["conv2.b"]
    with pytest.raises(ModelFormatError, match=r"lenet5: conv2.b: expected weights of shape \(16,\), found none"):
        zoo.lenet5(weights, lenet.classes)
    with pytest.raises(ModelFormatError, match="lenet5: classes: expected 10 names, found 3"):
        zoo.lenet5.of(lenet.net, ("a", "b", "c"))


def test_a_model_that_is_not_there_is_told_with_what_gets_it(tmp_path, monkeypatch):
    assert set(FETCHED) == set(zoo.ZOO) - {"lenet5"}
    monkeypatch.setattr("lrp_toolbox.io.model_folders", lambda: [tmp_path])
    for name, script in FETCHED.items():
        assert (ROOT / script.split()[0]).is_file()
        with pytest.raises(FileNotFoundError, match=f"no model '{name}'.*; python {script} gets it"):
            lrp.load(name)


# ---- Labels ----------------------------------------------------------------------------------------------------------


def test_labels_of_imagenet_are_the_same_from_both_files(data):
    words = zoo.read_labels(data / "imagenet_val" / "synset_words.txt")
    assert words == zoo.read_labels(data / "imagenet_val" / "imagenet_class_index.json")
    assert len(words) == len(set(words)) == 1000
    assert (words[0], words[282], words[134]) == ("tench", "tiger cat", "crane (n02012849)")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no file here that never ends")
@pytest.mark.parametrize("read", [zoo.read_labels, lambda file: read_compressed(file, zoo.lenet5.shapes), read_json])
def test_files_that_never_end_are_refused(read):
    with pytest.raises(ModelFormatError, match=r"/dev/zero: expected at most [\d,]+ bytes, found more"):
        read(Path("/dev/zero"))


def test_labels_of_other_kinds(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_text("airplane\nNew York, NY\nn0 1\n\n", encoding="utf-8-sig")  # as editors leave it
    assert zoo.read_labels(file) == ("airplane", "New York, NY", "n0 1")
    for content, message in [
        (b"a\n\nb\n", "class 1: expected a name, found none"),
        (b"", "expected a line for each class, found none"),
        (b"\xff\xfe", "expected names of classes"),
    ]:
        file.write_bytes(content)
        with pytest.raises(ModelFormatError, match=message):
            zoo.read_labels(file)
    for content in ([], {"1": ["n01440764", "tench"]}, {"0": "tench"}, {"0": 1}, {"0": ["a", "b", "c"]}, 7):
        (tmp_path / "labels.json").write_text(json.dumps(content))
        with pytest.raises(ModelFormatError, match=r"labels.json: "):
            zoo.read_labels(tmp_path / "labels.json")

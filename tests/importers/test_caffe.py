"""Networks from Caffe: the same numbers as OpenCV's own reader and executor of these files gives, and clear errors."""

import re
import subprocess
import sys
from pathlib import Path

import caffe_files as files
import h5py
import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from support import agree, broken, closes, opencv

import lrp_toolbox as lrp
from lrp_toolbox import ModelFormatError
from lrp_toolbox.importers.caffe import read_caffe


def random_input(model, n=2, seed=0):
    return np.random.default_rng(seed).standard_normal((n, *model.preprocessing.shape), dtype=np.float32)


# ---- Real files ------------------------------------------------------------------------------------------------------

REAL = {
    "lenet": ("lenet/lenet.prototxt", "lenet/lenet_iter_10000.caffemodel", "ip2", {}),
    "cifar10 quick": ("cifar10_quick/cifar10_quick.prototxt", "cifar10_quick/cifar10_quick_iter_5000.caffemodel", "ip2", {}),
    "mtcnn 1": ("mtcnn/det1.prototxt", "mtcnn/det1.caffemodel", "conv4-1", {"output": "prob1"}),
    "mtcnn 2": ("mtcnn/det2.prototxt", "mtcnn/det2.caffemodel", "conv5-1", {"output": "prob1", "ignore": ["conv5-3"]}),
    "mtcnn 3": ("mtcnn/det3.prototxt", "mtcnn/det3.caffemodel", "conv6-1", {"output": "prob1"}),
    "mtcnn 3 box": ("mtcnn/det3.prototxt", "mtcnn/det3.caffemodel", "conv6-2", {"output": "conv6-2"}),
}


@pytest.mark.parametrize("which", REAL)
def test_real_files_give_the_numbers_of_opencv(data, which):
    prototxt, weights, layer, options = REAL[which]
    prototxt, weights = data / "caffe" / prototxt, data / "caffe" / weights
    model = read_caffe(prototxt, weights, **options)
    x = random_input(model, 3) * 60
    agree(model.net.forward(x), opencv(prototxt, weights, x, layer))
    double = model.net.astype(np.float64)
    for composite in (lrp.lrp_cmp(), lrp.lrp_cmp(1, flat=0)):
        assert closes(lrp.explain(model, x, [0, "top"], composite), 1e-4)
        assert closes(lrp.explain(double, x.astype(np.float64), [0, "top"], composite), 1e-12)


def test_lenet_of_caffe_reads_ten_thousand_digits(data, digits, tmp_path):
    folder = data / "caffe" / "lenet"
    model = read_caffe(folder / "lenet.prototxt", folder / "lenet_iter_10000.caffemodel", std=256)
    assert model.preprocessing == lrp.Preprocessing((28, 28), "warp", "L", std=256.0)
    assert model.classes == tuple("0123456789")
    again = lrp.load(lrp.save(model, tmp_path / "lenet"))
    x, label = digits[0] * np.float32(255 / 256), digits[1]
    found = np.concatenate([again.net.forward(part).argmax(axis=1) for part in np.split(x, 20)])
    assert (found == label).mean() >= 0.985


def test_hdf5(data, tmp_path):
    """OpenCV does not read HDF5: it gets the same weights as protobuf."""
    folder = data / "caffe" / "cifar10_full"
    prototxt, weights = folder / "cifar10_full.prototxt", folder / "cifar10_full_iter_70000.caffemodel.h5"
    mean = data / "caffe" / "cifar10_quick" / "mean.binaryproto"
    model = read_caffe(prototxt, weights, mean=mean, channels="RGB")
    with h5py.File(weights) as stored:
        arrays = [(name, [group[str(k)][()] for k in range(len(group))]) for name, group in stored["data"].items()]
    same = files.write_weights(tmp_path / "same.caffemodel", arrays)
    x = random_input(model, 3) * 60
    agree(model.net.forward(x), opencv(prototxt, same, x, "ip1"))
    assert closes(lrp.explain(model, x), 1e-5)
    np.testing.assert_allclose(model.preprocessing.mean, (125.3, 123.0, 113.9), atol=0.1)  # as published for CIFAR-10, RGB


def test_mtcnn_has_several_outputs(data):
    folder = data / "caffe" / "mtcnn"
    with pytest.raises(
        ModelFormatError, match=r"prototxt: expected one output, found 2, conv4-2, prob1; say which one, output=$"
    ):
        read_caffe(folder / "det1.prototxt", folder / "det1.caffemodel")
    with pytest.raises(ModelFormatError, match=r"det2\.caffemodel: conv5-3: expected the layers that det2\.prototxt names"):
        read_caffe(folder / "det2.prototxt", folder / "det2.caffemodel", output="prob1")


# ---- Full size -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old", [False, True], ids=["new form", "old form"])
def test_caffenet(data, tmp_path, old):
    rng = np.random.default_rng(0)
    sizes = [("conv1", 96, 3, 11, 11), ("conv2", 256, 48, 5, 5), ("conv3", 384, 256, 3, 3), ("conv4", 384, 192, 3, 3),
             ("conv5", 256, 192, 3, 3), ("fc6", 4096, 9216), ("fc7", 4096, 4096), ("fc8", 1000, 4096)]  # fmt: skip
    layers = ((name, [files.noise(rng, *shape), files.noise(rng, shape[0])]) for name, *shape in sizes)
    weights = files.write_weights(tmp_path / "caffenet.caffemodel", layers, old)
    prototxt = data / "caffe" / "caffenet" / "deploy.prototxt"
    model = read_caffe(prototxt, weights, mean=(104, 117, 123))
    x = random_input(model, 1) * 60
    expected = opencv(prototxt, weights, x, "fc8")
    weights.unlink()
    agree(model.net.forward(x), expected)
    if old:
        assert model.preprocessing == lrp.Preprocessing((227, 227), "warp", "BGR", (104.0, 117.0, 123.0))
        assert closes(lrp.explain(model, x[0]), 1e-4)


IN_A_PROCESS_OF_ITS_OWN = """
import sys, time
import numpy as np
import lrp_toolbox as lrp
from lrp_toolbox.importers.caffe import read_caffe

prototxt, weights, x, y, explained = sys.argv[1:]
start = time.process_time()
model = read_caffe(prototxt, weights)
[peak] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(time.process_time() - start, peak)
x = np.load(x)
np.save(y, model.net.forward(x))
if explained == "True":
    from support import closes
    assert closes(lrp.explain(model, x), 1e-4)
"""


@pytest.mark.parametrize("old", [False, True], ids=["new form", "old form"])
def test_vgg16_in_ten_seconds_and_a_gigabyte_and_a_half(tmp_path, old):
    prototxt, weights = files.write_vgg16(tmp_path, old)
    assert weights.stat().st_size > 550_000_000
    x = np.random.default_rng(1).standard_normal((1, 224, 224, 3), dtype=np.float32) * 60
    np.save(tmp_path / "x.npy", x)
    arguments = [prototxt, weights, tmp_path / "x.npy", tmp_path / "y.npy", str(old)]
    command = [sys.executable, "-c", IN_A_PROCESS_OF_ITS_OWN, *map(str, arguments)]
    measured = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT / "tests")
    seconds, kilobytes = map(float, measured.stdout.split())
    assert seconds < 10
    assert kilobytes < 1_500_000
    expected = opencv(prototxt, weights, x, "fc8")
    weights.unlink()
    agree(np.load(tmp_path / "y.npy"), expected)


# ---- Random networks -------------------------------------------------------------------------------------------------


class Writer:
    """Writes a random network, layer by layer; knows the shape of the blob on top, (channel, height, width) or (feature)."""

    def __init__(self, draw, old):
        self.draw, self.old = draw, old
        self.rng = np.random.default_rng(draw(st.integers(0, 99)))
        self.shape = (draw(st.sampled_from([1, 3])), draw(st.integers(5, 12)), draw(st.integers(5, 12)))
        sizes = " ".join(f"dim: {n}" for n in (1, *self.shape))
        form = draw(st.sampled_from(["input_shape", "input_dim", "layer"][: 2 if old else 3]))
        if form == "layer":
            self.lines = [files.text("Input", "data", [], ["data"], f"input_param {{ shape {{ {sizes} }} }}")]
        elif form == "input_shape":
            self.lines = [f'input: "data" input_shape {{ {sizes} }}\n']
        else:
            self.lines = [f'input: "data" {sizes.replace("dim", "input_dim")}\n']
        self.weights, self.blob = [], "data"

    def layer(self, kind, parameters="", arrays=(), bottom=None):
        name = f"{kind.lower()}{len(self.lines)}"
        in_place = kind in ("ReLU", "PReLU", "TanH", "Sigmoid", "Dropout", "BatchNorm", "Scale") and self.blob != "data"
        top = self.blob if in_place and self.draw(st.booleans()) else name
        self.lines.append(files.text(kind, name, bottom or [self.blob], [top], parameters, self.old))
        if arrays:
            self.weights.append((name, [np.asarray(a, np.float32) for a in arrays]))
        self.blob = top

    def number(self, low, high):
        return self.draw(st.integers(low, high))

    def convolution(self, out=None, kernel=None):
        c, *size = self.shape
        dilation = self.number(1, 2)
        kernel = kernel or [self.number(1, 3), self.number(1, 3)]
        pad, stride, bias = (
            [self.number(0, 2), self.number(0, 2)],
            [self.number(1, 2), self.number(1, 2)],
            self.draw(st.booleans()),
        )
        if kernel == [1, 1]:
            pad, stride, dilation = [0, 0], [1, 1], 1
        spans = [dilation * (k - 1) + 1 for k in kernel]
        if any(n + 2 * p < span for n, p, span in zip(size, pad, spans, strict=True)):
            return
        out = out or 2 * self.number(1, 2)
        group = 2 if c % 2 == 0 and out % 2 == 0 and self.draw(st.booleans()) else 1
        parameters = (
            f"num_output: {out} kernel_h: {kernel[0]} kernel_w: {kernel[1]} pad_h: {pad[0]} pad_w: {pad[1]} "
            f"stride_h: {stride[0]} stride_w: {stride[1]} dilation: {dilation} group: {group} bias_term: {str(bias).lower()}"
        )
        arrays = [files.noise(self.rng, out, c // group, *kernel), files.noise(self.rng, out)][: 1 + bias]
        self.layer("Convolution", f"convolution_param {{ {parameters} }}", arrays)
        sizes = zip(size, pad, spans, stride, strict=True)
        self.shape = (out, *((n + 2 * p - span) // s + 1 for n, p, span, s in sizes))

    def pooling(self):
        c, *size = self.shape
        kernel = self.number(1, 3)
        stride, pad = self.number(1, kernel), self.number(0, kernel - 1)
        if min(size) + 2 * pad < kernel:
            return
        method = self.draw(st.sampled_from(["MAX", "AVE"]))
        self.layer("Pooling", f"pooling_param {{ pool: {method} kernel_size: {kernel} stride: {stride} pad: {pad} }}")
        counts = [-(-(n + 2 * pad - kernel) // stride) + 1 for n in size]
        clipped = [count - (pad > 0 and (count - 1) * stride >= n + pad) for n, count in zip(size, counts, strict=True)]
        self.shape = (c, *clipped)

    def activation(self):
        kinds = ["ReLU", "TanH", "Sigmoid", "Dropout"] + ["PReLU", "BatchNorm"] * (not self.old)
        kind, c = self.draw(st.sampled_from(kinds)), self.shape[0]
        if kind == "PReLU":
            self.layer(kind, arrays=[self.rng.uniform(0, 1, c)])
        elif kind == "BatchNorm":
            arrays = [self.rng.normal(size=c), self.rng.uniform(0.5, 2, c), [2.0]]
            self.layer(kind, "batch_norm_param { eps: 0.001 }", arrays)
            if self.draw(st.booleans()):
                self.layer("Scale", "scale_param { bias_term: true }", [self.rng.uniform(0.5, 2, c), self.rng.normal(size=c)])
        else:
            slope = self.draw(st.sampled_from(["", "relu_param { negative_slope: 0.1 }"])) if kind == "ReLU" else ""
            self.layer(kind, slope)

    def lrn(self):
        """OpenCV leaves `k` aside, so it is 1 here."""
        size, region = 2 * self.number(1, 2) + 1, self.draw(st.sampled_from(["ACROSS_CHANNELS", "WITHIN_CHANNEL"]))
        self.layer("LRN", f"lrn_param {{ local_size: {size} alpha: 0.5 beta: 0.6 norm_region: {region} }}")

    def branches(self):
        """Two or three convolutions, and perhaps what they read, side by side or added."""
        start, shape, add = self.blob, self.shape, self.draw(st.booleans())
        if start == "data":
            return
        tops, channels = [], 0
        for _ in range(self.number(1, 2)):
            self.blob, self.shape = start, shape
            self.convolution(shape[0] if add else None, [1, 1])
            tops, channels = [*tops, self.blob], channels + self.shape[0]
        tops, channels = ([start, *tops], channels + shape[0]) if add or self.draw(st.booleans()) else (tops, channels)
        if add:
            coeff = "".join(f" coeff: {self.rng.choice([1.0, 0.5, -2.0])}" for _ in tops)
            self.layer("Eltwise", f"eltwise_param {{ operation: SUM{coeff} }}", bottom=tops)
        else:
            self.layer("Concat", bottom=tops)
        self.shape = (shape[0] if add else channels, *shape[1:])

    def dense(self):
        out, bias, n_in = self.number(1, 4), self.draw(st.booleans()), int(np.prod(self.shape))
        parameters = f"inner_product_param {{ num_output: {out} bias_term: {str(bias).lower()} }}"
        self.layer("InnerProduct", parameters, [files.noise(self.rng, out, n_in), files.noise(self.rng, out)][: 1 + bias])
        self.shape = (out,)


@st.composite
def networks(draw):
    """(description, weights, name of the layer to be explained, whether it is in the old form)."""
    w = Writer(draw, old := draw(st.booleans()))
    for kind in draw(st.lists(st.sampled_from([w.convolution, w.pooling, w.activation, w.lrn, w.branches]), max_size=5)):
        kind()
    if draw(st.booleans()):
        w.layer("Flatten")
        w.shape = (int(np.prod(w.shape)),)
        if draw(st.booleans()):
            w.activation()
    w.dense()
    if draw(st.booleans()):
        w.activation()
        w.dense()
    end = w.blob
    if draw(st.booleans()):
        w.layer("Softmax")
    return "".join(w.lines), w.weights, end, old


@given(networks(), st.booleans())
def test_random_networks_give_the_numbers_of_opencv(tmp_path_factory, network, double):
    description, stored, end, old = network
    folder = tmp_path_factory.mktemp("net")
    prototxt, weights = folder / "net.prototxt", folder / "net.caffemodel"
    prototxt.write_text(description)
    model = read_caffe(prototxt, files.write_weights(weights, stored, old, double))
    x = random_input(model)
    agree(model.net.forward(x), opencv(prototxt, files.write_weights(weights, stored, old), x, end))
    assert closes(lrp.explain(model, x, "top", lrp.Epsilon(0.1)), 1e-4)
    again = lrp.load(lrp.save(model, folder / "model"))
    np.testing.assert_array_equal(again.net.forward(x), model.net.forward(x))


# ---- One by one: what OpenCV does not do -----------------------------------------------------------------------------

TOY = """name: "toy"
layer { name: "data" type: "Input" top: "data" input_param { shape { dim: 1 dim: 3 dim: 6 dim: 5 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param { num_output: 5 } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""


def toy_weights(seed=0):
    rng = np.random.default_rng(seed)
    return {"conv": [files.noise(rng, 4, 3, 3, 3), files.noise(rng, 4)], "fc": [files.noise(rng, 5, 48), files.noise(rng, 5)]}


def toy(folder, description=TOY, weights=None, **options):
    """The toy, with what a test changes of it."""
    (folder / "toy.prototxt").write_text(description, encoding="utf-8")
    stored = files.write_weights(folder / "toy.caffemodel", {**toy_weights(), **(weights or {})}.items())
    return read_caffe(folder / "toy.prototxt", stored, **options)


def same_as_toy(model, tmp_path):
    x = random_input(model)
    (folder := tmp_path / "plain").mkdir()
    np.testing.assert_array_equal(model.net.forward(x), toy(folder).net.forward(x))


def one_layer(folder, layer, arrays=(), shape=(3, 6, 5)):
    """A network of this layer and a dense one that picks every number of its map: the map, (channel, height, width)."""
    sizes = " ".join(f"dim: {n}" for n in (1, *shape))
    description = f'layer {{ name: "data" type: "Input" top: "data" input_param {{ shape {{ {sizes} }} }} }} {layer}'
    x = np.random.default_rng(0).standard_normal((*shape[1:], shape[0]), dtype=np.float32)

    def run(n):
        parameters = f"inner_product_param {{ num_output: {n} bias_term: false }}"
        fc = files.text("InnerProduct", "fc", ["y"], ["fc"], parameters)
        (folder / "one.prototxt").write_text(description + fc)
        weights = [("layer", arrays), ("fc", [np.eye(n)])] if arrays else [("fc", [np.eye(n)])]
        return read_caffe(folder / "one.prototxt", files.write_weights(folder / "one.caffemodel", weights)).net.forward(x)

    return x.transpose(2, 0, 1), run


def test_lrn_has_a_constant(tmp_path):
    layer = 'layer { name: "layer" type: "LRN" bottom: "data" top: "y" lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 k: 2 } }'
    x, run = one_layer(tmp_path, layer)
    around = np.stack([(x[max(c - 1, 0) : c + 2] ** 2).sum(axis=0) for c in range(3)])
    np.testing.assert_allclose(run(90), (x / (2 + 0.5 / 3 * around) ** 0.6).ravel(), rtol=1e-5)


def test_lrn_within_channels_has_none(tmp_path):
    region = "local_size: 3 alpha: 0.5 beta: 0.6 k: 2 norm_region: WITHIN_CHANNEL"
    x, run = one_layer(tmp_path, f'layer {{ name: "layer" type: "LRN" bottom: "data" top: "y" lrn_param {{ {region} }} }}')
    around = sum(np.pad(x, [(0, 0), (1, 1), (1, 1)])[:, i : i + 6, j : j + 5] ** 2 for i in range(3) for j in range(3))
    np.testing.assert_allclose(run(90), (x / (1 + 0.5 / 9 * around) ** 0.6).ravel(), rtol=1e-5)


FLAT = 'layer { name: "flat" type: "Flatten" bottom: "data" top: "flat" } '


def test_numbers_for_each_feature_of_a_flattened_map_are_in_caffes_order(tmp_path):
    a, b = np.random.default_rng(1).uniform(0.5, 2, (2, 90))
    for kind, arrays, expected in [
        ("PReLU", [a], lambda x: np.where(x > 0, x, a * x)),
        ("Scale", [a], lambda x: a * x),
        ("BatchNorm", [a, b, np.ones(1)], lambda x: (x - a) / np.sqrt(b + 1e-5)),
    ]:
        x, run = one_layer(tmp_path, FLAT + files.text(kind, "layer", ["flat"], ["y"]), arrays)
        np.testing.assert_allclose(run(90), expected(x.ravel()), rtol=1e-4, atol=1e-6)


def test_flattened_maps_side_by_side(tmp_path):
    pool = 'layer { name: "pool" type: "Pooling" bottom: "data" top: "pool" pooling_param { kernel_size: 3 stride: 3 } } '
    more = 'layer { name: "more" type: "Flatten" bottom: "pool" top: "more" } '
    x, run = one_layer(tmp_path, FLAT + pool + more + files.text("Concat", "both", ["more", "flat"], ["y"]))
    padded = np.pad(x, [(0, 0), (0, 0), (0, 1)], constant_values=-np.inf)
    pooled = padded.reshape(3, 2, 3, 2, 3).max((2, 4))
    np.testing.assert_allclose(run(102), np.concatenate([pooled.ravel(), x.ravel()]), rtol=1e-6)


def test_prelu_may_share_its_slope(tmp_path):
    layer = 'layer { name: "layer" type: "PReLU" bottom: "data" top: "y" prelu_param { channel_shared: true } }'
    for slope in ([0.25], 0.25):
        x, run = one_layer(tmp_path, layer, [np.asarray(slope)])
        np.testing.assert_allclose(run(90), np.where(x > 0, x, x / 4).ravel(), rtol=1e-6)


def test_batch_norm_divides_its_sums(tmp_path):
    layer = 'layer { name: "layer" type: "BatchNorm" bottom: "data" top: "y" batch_norm_param { eps: 0.5 } }'
    mean, variance = np.asarray([4.0, -8.0, 2.0]), np.asarray([4.0, 8.0, 2.0])
    x, run = one_layer(tmp_path, layer, [mean, variance, np.asarray([4.0])])
    expected = (x - mean[:, None, None] / 4) / np.sqrt(variance[:, None, None] / 4 + 0.5)
    np.testing.assert_allclose(run(90), expected.ravel(), rtol=1e-5)
    x, run = one_layer(tmp_path, layer, [mean, variance, np.asarray([0.0])])
    np.testing.assert_allclose(run(90), (x / np.sqrt(0.5)).ravel(), rtol=1e-5)


def test_batch_norm_and_scale_are_one(tmp_path):
    norm = """layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "bn" }
        layer { name: "scale" type: "Scale" bottom: "bn" top: "scale" scale_param { bias_term: true } }
        layer { name: "sum" type: "Eltwise" bottom: "scale" bottom: "OTHER" top: "sum" }
        layer { name: "fc" type: "InnerProduct" bottom: "sum" """
    norm = TOY.replace('layer { name: "fc" type: "InnerProduct" bottom: "conv" ', norm)
    c = np.ones(4)
    weights = {"bn": [c, c, np.ones(1)], "scale": [2 * c, 3 * c]}
    model = toy(tmp_path, norm.replace("OTHER", "conv"), weights)
    assert isinstance(model.net["scale"], lrp.BatchNorm)
    assert "bn" not in model.net.names
    x = random_input(model)
    relu = model.net.cut("relu")[0].forward(x)
    expected = 2 * (relu - 1) / np.sqrt(1 + 1e-5) + 3 + relu
    np.testing.assert_allclose(model.net.cut("sum")[0].forward(x), expected, rtol=1e-4, atol=1e-5)
    model = toy(tmp_path, norm.replace("OTHER", "bn"), weights)  # which is read once more, and so stays as it is
    np.testing.assert_allclose(model.net.cut("sum")[0].forward(x), 3 * (relu - 1) / np.sqrt(1 + 1e-5) + 3, rtol=1e-4, atol=1e-5)
    assert model.net.names[:5] == ("conv", "relu", "bn", "scale", "sum")


@pytest.mark.parametrize(
    ("parameters", "shape", "pooled"),
    [
        ("kernel_size: 2 stride: 2 round_mode: FLOOR", (1, 5, 5), lambda x: x[:, :4, :4].reshape(1, 2, 2, 2, 2).max((2, 4))),
        ("kernel_size: 2 stride: 2 ceil_mode: false", (1, 5, 5), lambda x: x[:, :4, :4].reshape(1, 2, 2, 2, 2).max((2, 4))),
        ("global_pooling: true", (3, 4, 5), lambda x: x.max((1, 2))),
        ("pool: AVE global_pooling: true", (3, 4, 5), lambda x: x.mean((1, 2))),
        ("kernel_size: 7 stride: 3", (3, 5, 5), lambda x: x.max((1, 2))),
        ("pool: AVE kernel_size: 7 stride: 3", (3, 5, 5), lambda x: x.mean((1, 2))),
    ],
)
def test_pooling(tmp_path, parameters, shape, pooled):
    layer = f'layer {{ name: "layer" type: "Pooling" bottom: "data" top: "y" pooling_param {{ {parameters} }} }}'
    x, run = one_layer(tmp_path, layer, shape=shape)
    expected = pooled(x).ravel()
    np.testing.assert_allclose(run(len(expected)), expected, rtol=1e-5)


def test_dense_weights_may_be_transposed(tmp_path):
    w, b = toy_weights()["fc"]
    model = toy(tmp_path, TOY.replace("num_output: 5", "num_output: 5 transpose: true"), {"fc": [w.T, b]})
    same_as_toy(model, tmp_path)


def test_split_hands_on_what_it_reads(tmp_path):
    split = """layer { name: "split" type: "Split" bottom: "conv" top: "one" top: "two" }
        layer { name: "fc" type: "InnerProduct" bottom: "two" """
    same_as_toy(toy(tmp_path, TOY.replace('layer { name: "fc" type: "InnerProduct" bottom: "conv" ', split)), tmp_path)


TRAINING = """name: "toy"
layers { name: "data" type: DATA top: "data" top: "label" include { phase: TRAIN } }
layers {
  name: "data" type: DATA top: "data" top: "label" include { phase: TEST }
  transform_param { crop_size: 6 mean_value: 104 mean_value: 117 mean_value: 123 scale: 0.5 }
  data_param { source: "somewhere" backend: LMDB batch_size: 50 }
}
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" convolution_param { num_output: 4 kernel_size: 3 } }
layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
layers { name: "drop" type: DROPOUT bottom: "conv" top: "conv" include { phase: TRAIN } }
layers { name: "fc" type: INNER_PRODUCT bottom: "conv" top: "fc" inner_product_param { num_output: 5 } }
layers {
  name: "aux" type: INNER_PRODUCT bottom: "conv" top: "aux" exclude { phase: TEST }
  blobs_lr: 1 blobs_lr: 2 inner_product_param { num_output: 2 }
}
layers { name: "accuracy" type: ACCURACY bottom: "fc" bottom: "label" top: "accuracy" include { phase: TEST } }
layers { name: "loss" type: SOFTMAX_LOSS bottom: "fc" bottom: "label" top: "loss" }
"""


def test_a_description_for_training_is_read_as_for_testing(tmp_path):
    rng = np.random.default_rng(0)
    weights = {"fc": [files.noise(rng, 5, 64), files.noise(rng, 5)], "aux": [files.noise(rng, 2, 64)]}
    model = toy(tmp_path, TRAINING, weights)
    assert model.net.names == ("conv", "relu", "fc/flatten", "fc")
    assert model.preprocessing == lrp.Preprocessing((6, 6), "warp", "BGR", (104.0, 117.0, 123.0), 2.0)
    w = toy_weights()["fc"][0]
    model = toy(
        tmp_path, TRAINING.replace("crop_size: 6", ""), {"fc": [w, w[:, 0]], "aux": []}, size=(6, 5), mean=(1, 2, 3), std=0.5
    )
    assert model.preprocessing == lrp.Preprocessing((6, 5), "warp", "BGR", (1.0, 2.0, 3.0), 0.5)


@pytest.mark.parametrize(
    "data",
    [
        'layer { name: "data" type: "MemoryData" top: "data" top: "label" '
        "memory_data_param { batch_size: 1 channels: 3 height: 6 width: 5 } }",
        'layer { name: "data" type: "DummyData" top: "data" dummy_data_param { shape { dim: 1 dim: 3 dim: 6 dim: 5 } } }',
        'layer { name: "data" type: "DummyData" top: "data" dummy_data_param { num: 1 channels: 3 height: 6 width: 5 } }',
        'input: "data" input_shape { dim: 1 dim: 3 dim: 6 dim: 5 } input: "more" input_shape { dim: 1 dim: 2 }',
        'input: "more" input: "data" input_dim: [1, 2, 1, 1, 1, 3, 6, 5]',
    ],
)
def test_data_layers_and_inputs(tmp_path, data):
    lines = TOY.splitlines()
    same_as_toy(toy(tmp_path, "\n".join([lines[0], data, *lines[2:]])), tmp_path)


def test_what_is_not_known_is_skipped(tmp_path):
    future = '\ufefffuture_setting: [1, 2]\n# über\nfuture { deep { er: "x" } }\n'
    strange = future + TOY.replace("num_output: 4", "num_output: 4 engine: CUDNN")
    same_as_toy(toy(tmp_path, strange), tmp_path)


def test_weights_in_double(tmp_path):
    (tmp_path / "toy.prototxt").write_text(TOY)
    stored = files.write_weights(tmp_path / "toy.caffemodel", toy_weights().items(), double=True)
    same_as_toy(read_caffe(tmp_path / "toy.prototxt", stored), tmp_path)
    model = read_caffe(tmp_path / "toy.prototxt", stored, dtype=np.float64)
    assert {a.dtype for a in model.net.parameters()} == {np.dtype(np.float64)}


def write_hdf5(file, weights, dtype=np.float32):
    with h5py.File(file, "w") as stored:
        for name, arrays in weights.items():
            group = stored.create_group(f"data/{name}")
            for k, a in enumerate(arrays):
                group[str(k)] = a.astype(dtype)
    return file


def test_weights_in_hdf5(tmp_path):
    (tmp_path / "toy.prototxt").write_text(TOY)
    for dtype in (np.float32, np.float64, ">f4"):
        stored = write_hdf5(tmp_path / "toy.caffemodel.h5", {**toy_weights(), "relu": []}, dtype)
        model = read_caffe(tmp_path / "toy.prototxt", stored)
        x = random_input(model)
        (folder := tmp_path / np.dtype(dtype).str[1:]).mkdir(exist_ok=True)
        np.testing.assert_array_equal(model.net.forward(x), toy(folder).net.forward(x))


# ---- What goes in, and what comes out --------------------------------------------------------------------------------


def test_means(tmp_path):
    mean = np.random.default_rng(0).uniform(0, 255, (3, 8, 9)).astype(np.float32)
    expected = mean.astype(float).mean((1, 2))
    np.save(tmp_path / "mean.npy", mean)
    np.save(tmp_path / "three.npy", expected)
    (tmp_path / "new.binaryproto").write_bytes(b"".join(map(bytes, files.blob(mean[None]))))
    (tmp_path / "old.binaryproto").write_bytes(b"".join(map(bytes, files.blob(mean, old=True))))
    for file in ("mean.npy", "three.npy", "new.binaryproto", "old.binaryproto"):
        model = toy(tmp_path, mean=tmp_path / file, channels="RGB", fit="crop")
        np.testing.assert_allclose(model.preprocessing.mean, expected, rtol=1e-6)
        assert (model.preprocessing.channels, model.preprocessing.fit) == ("RGB", "crop")
    assert toy(tmp_path, mean=tuple(expected)).preprocessing.channels == "BGR"


def test_channels_are_in_the_order_of_training(tmp_path):
    """A photograph that is all red speaks to the channel that the network calls red."""
    photo = np.zeros((6, 5, 3), np.uint8)
    photo[..., 0] = 200
    w = np.zeros((4, 3, 3, 3), np.float32)
    w[0, 0], w[1, 1], w[2, 2] = 1, 1, 1
    for order, expected in (("BGR", [0, 0, 1800, 0]), ("RGB", [1800, 0, 0, 0])):
        model = toy(tmp_path, weights={"conv": [w, np.zeros(4, np.float32)]}, channels=order)
        assert model.net["conv"].forward(model.prepare(photo))[0, 0].tolist() == expected


def test_labels(tmp_path):
    words = ("tench", "goldfish, Carassius auratus", "hen", "ostrich", "crane é")
    (tmp_path / "words.txt").write_text("\n".join(words) + "\n", encoding="utf-8-sig")
    for labels in (words, list(words), tmp_path / "words.txt", str(tmp_path / "words.txt")):
        assert toy(tmp_path, labels=labels).classes == words
    assert toy(tmp_path).classes == tuple("01234")
    with pytest.raises(ModelFormatError, match=r"labels: expected 5 names, one for each output, found 4"):
        toy(tmp_path, labels=words[1:])
    (tmp_path / "words.txt").write_text("\n".join(words[1:]), encoding="utf-8")
    with pytest.raises(ModelFormatError, match=r"words\.txt: expected 5 names, one for each output, found 4"):
        toy(tmp_path, labels=tmp_path / "words.txt")


LOGITS = "Its softmax at the end is left off: the outputs are logits."


def test_the_model_says_what_it_is(tmp_path):
    model = toy(tmp_path, mean=(104, 117, 123))
    assert (model.name, model.summary) == ("toy", f"Imported from toy.prototxt and toy.caffemodel, toy of Caffe. {LOGITS}")
    assert "| parameters | 357 |" in model.card
    assert "| input | 6×5×3, BGR, minus (104, 117, 123) |" in model.card
    assert "| output | `fc`, 5 numbers |" in model.card
    assert str(tmp_path) not in model.card
    assert toy(tmp_path, TOY.replace('name: "toy"', ""), name="mine").name == "mine"
    assert toy(tmp_path, TOY.replace('name: "toy"', "")).name == "toy"  # the file's


def test_any_blob_may_be_the_output(tmp_path):
    pooled = TOY.replace('layer { name: "fc"', 'layer { name: "gap" type: "Pooling" bottom: "conv" top: "gap" '
                         'pooling_param { pool: AVE global_pooling: true } } layer { name: "fc"')  # fmt: skip
    model = toy(tmp_path, pooled, output="gap")
    x = random_input(model)
    np.testing.assert_allclose(model.net.forward(x), model.net[:2].forward(x).mean((1, 2)), rtol=1e-5)
    assert toy(tmp_path, output="prob").net.names == toy(tmp_path, output="fc").net.names


# ---- What is wrong is said -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('type: "ReLU"', 'type: "LSTM"', "toy.prototxt: relu: expected one of the layers BatchNorm, Concat, Convolution, "),
        ('type: "ReLU"', "", "toy.prototxt: relu: expected one of the layers"),
        (
            "dim: 6 dim: 5",
            "dim: 99999 dim: 99999",
            "toy.prototxt: data: expected a map of at most 268435456 numbers, found (99999,",
        ),
        ("kernel_size: 3 }", "kernel_size: 3 pad: 9999 }", "toy.prototxt: conv: expected a map of at most 268435456 numbers"),
        ('type: "ReLU" bottom: "conv"', 'type: "ReLU" bottom: "cave"', "relu: expected a layer before it that makes 'cave'"),
        ('bottom: "data" top: "conv"', 'bottom: "fc" top: "conv"', "conv: expected a layer before it that makes 'fc'"),
        ('type: "ReLU" bottom: "conv"', 'type: "ReLU"', "relu: expected to make a blob of its own, or what it reads"),
        ('type: "ReLU" bottom: "conv" top: "conv"', 'type: "ReLU" top: "new"', "toy.prototxt: expected one output, found 2, "),
        ('name: "relu"', 'name: "conv"', "conv: expected names to be unique, found two layers of that name"),
        ('name: "relu"', 'name: "fc/flatten"', "fc: expected names to be unique, found another layer 'fc/flatten'"),
        ('name: "relu"', "", "toy.prototxt: layer 3: expected a name, found none"),
        ("dim: 3 dim: 6", "dim: 4 dim: 6", "toy.prototxt: data: expected pictures of 1 or 3 channels"),
        ("dim: 3 dim: 6", "dim: 3 dim: 0", "toy.prototxt: data: expected pictures of 1 or 3 channels"),
        ("dim: 3 dim: 6", "dim: 3 dim: -6", "toy.prototxt: data: expected pictures of 1 or 3 channels"),
        ("dim: 3 dim: 6", "dim: 6", "toy.prototxt: data: expected four dimensions"),
        ("dim: 3 dim: 6", "dim: 3 dim: 2", "conv: x: a window of 3 taps does not fit into 2"),
        ("dim: 3 dim: 6", "dim: 3 dim: 7", "toy.caffemodel: fc: array 0: expected the shape (5, 60), found (5, 48)"),
        ("dim: 3 dim: 6", "dim: 1 dim: 6", "conv: array 0: expected the shape (4, 1, 3, 3), found (4, 3, 3, 3)"),
        ("num_output: 4", "num_output: 6", "conv: array 0: expected the shape (6, 3, 3, 3), found (4, 3, 3, 3)"),
        ("num_output: 4", "num_output: 0", "conv: group: expected a divisor of 3 channels and 0 outputs"),
        ("num_output: 4", "num_output: 4000000000", "conv: array 0: expected the shape (4000000000, 3, 3, 3)"),
        ("num_output: 4", "num_output: 4 group: 2", "conv: group: expected a divisor of 3 channels and 4 outputs, found 2"),
        ("num_output: 4", "num_output: 4 group: 0", "conv: group: expected a divisor of 3 channels"),
        ("num_output: 4", "num_output: 4 bias_term: false", "toy.caffemodel: conv: expected 1 arrays of weights, found 2"),
        ("num_output: 4", "num_output: 4 axis: 2", "conv: axis: expected 1, the channels, found 2"),
        ("num_output: 4", "num_output: 4 stride: 0", "conv: stride: expected an int ≥ 1"),
        ("num_output: 4", "num_output: 4 kernel_size: [3, 3]", "conv: kernel_size: expected one number, or one for height and"),
        ("num_output: 4", 'num_output: "4"', "expected the description of a network in text: 3:"),
        ("num_output: 4", "num_output: -4", "expected the description of a network in text: 3:"),
        ("num_output: 5", "num_output: 0", "fc: num_output: expected a number ≥ 1, found 0"),
        ("num_output: 5", "num_output: 5 transpose: true", "fc: array 0: expected the shape (48, 5), found (5, 48)"),
        ('name: "fc"', 'name: "ip"', "toy.caffemodel: fc: expected the layers that toy.prototxt names, found another; ignore="),
        ('"ReLU" bottom: "conv"', '"ReLU" bottom: "conv" bottom: "data"', "relu: expected one input, found 2"),
        (
            '"ReLU" bottom: "conv" top: "conv"',
            '"Concat" bottom: "conv" bottom: "data" top: "x"',
            "expected one output, found 2",
        ),
        (
            'type: "ReLU" b',
            'type: "ReLU" relu_param { negative_slope: nan } b',
            "relu: negative_slope: expected a finite number",
        ),
        ('"ReLU"', '"LRN" lrn_param { local_size: 4 }', "relu: size: expected an odd number"),
        ('"ReLU"', '"PReLU"', "toy.caffemodel: relu: expected 1 arrays of weights, found none"),
        ('"ReLU"', '"Pooling"', "relu: kernel: expected an int ≥ 1"),
        (
            '"ReLU"',
            '"Pooling" pooling_param { pool: STOCHASTIC kernel_size: 2 }',
            "relu: pool: expected MAX or AVE, found STOCH",
        ),
        ('"ReLU"', '"Pooling" pooling_param { pool: SOME }', "expected the description of a network in text"),
        ('"ReLU"', '"Pooling" pooling_param { kernel_size: 1 stride: 3 }', "relu: stride: (3, 3) puts a window outside"),
        ('"ReLU"', '"Pooling" pooling_param { kernel_size: 2 pad: 2 }', "relu: padding: expected less than the kernel"),
        ('"ReLU"', '"Eltwise" eltwise_param { operation: PROD }', "relu: operation: expected SUM, found PROD"),
        ('"ReLU"', '"Eltwise" eltwise_param { coeff: 1 coeff: 2 }', "relu: coeff: expected a number for each of 1 inputs"),
        ('"ReLU"', '"Concat" concat_param { axis: 2 }', "relu: axis: expected 1, the channels, found 2"),
        ('"ReLU"', '"Flatten" flatten_param { axis: 2 }', "relu: axis: expected 1, the channels, found 2"),
        ('"ReLU"', '"Flatten" flatten_param { end_axis: 2 }', "relu: end_axis: expected −1, the last, found 2"),
        ('"ReLU"', '"Scale" scale_param { axis: 0 }', "relu: axis: expected 1, the channels, found 0"),
        ('"ReLU"', '"Scale" scale_param { num_axes: 2 }', "relu: num_axes: expected 1, found 2"),
        ('"ReLU"', '"BatchNorm" batch_norm_param { use_global_stats: false }', "relu: use_global_stats: expected true"),
        (
            'type: "Input"',
            'type: "Data"',
            "toy.prototxt: data: expected the size of the input, found a data layer; give size=(height, width)",
        ),
        ("layer {", "layers {", "expected the description of a network in text"),
        ('layer { name: "prob"', "layers { name: 'prob'", "expected the description of a network in text"),
        ('type: "Softmax" ', "} layers { type: SOFTMAX ", "expected either `layer` or, in the old form, `layers`, found both"),
        ("layer {", "layer { layer {", "expected the description of a network in text"),
        (TOY, 'layers { layer { name: "v0" } }', "v0: expected `layer` or `layers`, found the form of 2013"),
        (TOY, 'name: "nothing"', "toy.prototxt: expected the description of a network, found no layers"),
        (TOY, "", "toy.prototxt: expected the description of a network, found no layers"),
        (TOY, "a {" * 5000, "toy.prototxt: expected the description of a network in text"),
        (TOY, "#" * (1 << 21) + TOY, "toy.prototxt: expected at most 2,097,152 bytes, found more"),
    ],
    ids=lambda value: value if len(value) < 60 else value[:30],
)
def test_a_wrong_description_is_refused(tmp_path, old, new, message):
    assert old in TOY
    with pytest.raises(ModelFormatError) as caught:
        toy(tmp_path, TOY.replace(old, new))
    assert message in str(caught.value)
    assert str(tmp_path / "toy.") in str(caught.value)


def test_layers_that_do_not_fit_together_are_refused(tmp_path):
    flat = 'layer { name: "flat" type: "Flatten" bottom: "conv" top: "flat" } '
    for kind, bottoms, message in [
        ("Concat", ["conv", "data"], "join: expected inputs that fit together, found the shapes (4, 3, 4), (6, 5, 3)"),
        ("Concat", ["conv", "flat"], "join: expected inputs that fit together"),
        ("Eltwise", ["conv", "data"], "join: expected inputs that fit together"),
        ("Eltwise", ["conv", "flat"], "join: expected inputs that fit together"),
        ("LRN", ["flat"], "join: expected an input of 3 axes, found the shape (48,)"),
        ("ReLU", ["flat"], "join: expected one number for each class, found maps, (48,)"),
        ("ReLU", ["conv"], "join: expected one number for each class, found maps, (4, 3, 4)"),
    ]:
        join = files.text(kind, "join", bottoms, ["join"])
        with pytest.raises(ModelFormatError) as caught:
            toy(tmp_path, TOY + flat + join, output="join")
        assert message in str(caught.value)
    with pytest.raises(ModelFormatError, match=r"output: expected one of data, conv, fc, prob, found 'fc9'"):
        toy(tmp_path, output="fc9")
    two = TOY.replace('layer { name: "fc"', 'layer { name: "more" type: "Input" top: "more" } layer { name: "fc"')
    two = two.replace('"InnerProduct" bottom: "conv"', '"Concat" bottom: "conv" bottom: "more"')
    with pytest.raises(ModelFormatError, match=r"output: expected to depend on one input, found 2: data, more"):
        toy(tmp_path, two)
    mask = TOY.replace('"ReLU" bottom: "conv" top: "conv"', '"ReLU" bottom: "conv" top: "conv" top: "mask"')
    with pytest.raises(ModelFormatError, match=r"fc: expected to read the first output of a layer, found 'relu:1'"):
        toy(tmp_path, mask.replace('"InnerProduct" bottom: "conv"', '"InnerProduct" bottom: "mask"'), output="fc")


def test_a_network_of_values_that_are_shared_has_each_layer_once(tmp_path):
    lines = ['input: "r0" input_dim: [1, 3, 1, 1]']
    for k in range(1, 60):  # each sum reads the two values before it: with copies there would be 10¹² layers
        lines.append(files.text("Eltwise", f"r{k}", [f"r{k - 1}", f"r{max(k - 2, 0)}"], [f"r{k}"], HALVES))
    model = toy(tmp_path, "\n".join(lines), ignore=["*"], output="r59")
    assert len(set(model.net.names)) == len(model.net) <= 3 * 59 + 1
    x = np.array([[[1.0, -2.0, 4.0]]], np.float32)
    np.testing.assert_allclose(model.net.forward(x), x[0, 0], rtol=1e-5)  # means of means
    e = lrp.explain(model.net, x, 0, lrp.Z())
    np.testing.assert_allclose(e.R, [[[1, 0, 0]]], rtol=1e-5)


HALVES = "eltwise_param { coeff: 0.5 coeff: 0.5 }"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"channels": "L"}, ValueError, "channels: expected RGB, BGR or L, as many as the input of"),
        ({"channels": "GRB"}, ValueError, "channels: expected RGB, BGR or L"),
        ({"size": (0, 5)}, ValueError, "size: expected an int ≥ 1"),
        ({"mean": (1, 2)}, ValueError, "mean: expected a number for each of BGR, got (1, 2)"),
        ({"std": 0}, ValueError, "std: expected a number > 0 for each of BGR"),
        ({"fit": "tight"}, ValueError, "fit: expected one of"),
        ({"labels": "absent.txt"}, FileNotFoundError, "absent.txt"),
        ({"mean": "absent.npy"}, FileNotFoundError, "absent.npy"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, options, error, message):
    with pytest.raises(error) as caught:
        toy(tmp_path, **options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        (
            'mean_file: "imagenet_mean.binaryproto"',
            "found the name of a file with it, 'imagenet_mean.binaryproto'; give a copy of that file, mean=",
        ),
        ("mean_value: 1 mean_value: 2", "data: expected a mean_value for each of 3 channels, found 2"),
        ("scale: 0", "data: expected a scale > 0, found 0.0"),
        ("scale: inf", "data: scale: expected a finite number, found inf"),
    ],
)
def test_wrong_data_layers_are_refused(tmp_path, transform, message):
    description = TOY.replace('type: "Input"', f'type: "Input" transform_param {{ {transform} }}')
    with pytest.raises(ModelFormatError) as caught:
        toy(tmp_path, description)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"conv": []}, "conv: expected 2 arrays of weights, found none"),
        ({"extra": [np.ones(3)]}, "extra: expected the layers that toy.prototxt names, found another"),
        (
            {"conv": [np.full((4, 3, 3, 3), np.nan), np.ones(4)]},
            "conv: array 0: expected finite numbers, found NaN or infinity",
        ),
        ({"conv": [np.ones((4, 3, 3, 3)), np.full(4, -np.inf)]}, "conv: array 1: expected finite numbers"),
        ({"conv": [np.ones((3, 4, 3, 3)), np.ones(4)]}, "conv: array 0: expected the shape (4, 3, 3, 3), found (3, 4, 3, 3)"),
        ({"conv": [np.ones((4, 3, 3, 3)), np.ones((4, 1))]}, "conv: array 1: expected the shape (4,), found (4, 1)"),
        ({"conv": [np.ones((4, 3, 3, 3)), np.ones((0, 4))]}, "conv: array 1: expected the shape (4,), found (0, 4)"),
    ],
)
def test_wrong_weights_are_refused(tmp_path, weights, message):
    with pytest.raises(ModelFormatError) as caught:
        toy(tmp_path, weights=weights)
    assert f"{tmp_path / 'toy.caffemodel'}: {message}" in str(caught.value)
    (tmp_path / "toy.prototxt").write_text(TOY)
    stored = {name: arrays for name, arrays in {**toy_weights(), **weights}.items() if arrays}
    with pytest.raises(ModelFormatError) as caught:
        read_caffe(tmp_path / "toy.prototxt", write_hdf5(tmp_path / "toy.h5", stored))
    assert message in str(caught.value)


def test_doubles_beyond_float32_are_refused(tmp_path):
    w = toy_weights()["conv"][0]
    (tmp_path / "toy.prototxt").write_text(TOY)
    weights = {**toy_weights(), "conv": [w, np.full(4, 1e300)]}
    stored = files.write_weights(tmp_path / "toy.caffemodel", weights.items(), double=True)
    with pytest.raises(ModelFormatError, match=r"conv: array 1: expected finite numbers"):
        read_caffe(tmp_path / "toy.prototxt", stored)
    assert read_caffe(tmp_path / "toy.prototxt", stored, dtype=np.float64).net["conv"].b[0] == 1e300


def test_layers_of_others_may_be_ignored(tmp_path):
    same_as_toy(toy(tmp_path, weights={"loss1/fc": [np.ones(3)]}, ignore=["loss*"]), tmp_path)


NEGATIVE, NO_COUNT, TOO_LARGE = ([1] * 4, [-2] * 4, [1]), ([1] * 4, [1] * 4, [1e-45]), ([1e38] * 4, [1] * 4, [1e-3])


@pytest.mark.parametrize("sums", [NEGATIVE, NO_COUNT, TOO_LARGE])
def test_wrong_statistics_are_refused(tmp_path, sums):
    with pytest.raises(ModelFormatError, match=r"toy\.prototxt: relu: "):
        toy(tmp_path, TOY.replace('"ReLU"', '"BatchNorm"'), {"relu": [np.asarray(a, np.float32) for a in sums]})


@pytest.mark.parametrize(
    "mean", [np.ones((2, 4, 4)), np.ones((3, 4)), np.full((3, 2, 2), np.nan), np.ones((3, 0, 4)), np.ones(3, int)]
)
def test_wrong_means_are_refused(tmp_path, mean):
    np.save(tmp_path / "mean.npy", mean)
    with pytest.raises(ModelFormatError, match=r"mean\.npy: "):
        toy(tmp_path, mean=tmp_path / "mean.npy")
    (tmp_path / "mean.binaryproto").write_bytes(b"".join(map(bytes, files.blob(mean)))[:-1])
    with pytest.raises(ModelFormatError, match=r"mean\.binaryproto: "):
        toy(tmp_path, mean=tmp_path / "mean.binaryproto")


# ---- Broken files ----------------------------------------------------------------------------------------------------


def pieces(parts):
    return b"".join(map(bytes, parts))


TOY_FILE = pieces(files.field(1, "toy")) + b"".join(pieces(files.layer(name, arrays)) for name, arrays in toy_weights().items())


def read_bytes(folder, weights, description=TOY, **options):
    (folder / "toy.prototxt").write_bytes(description if isinstance(description, bytes) else description.encode())
    (folder / "toy.caffemodel").write_bytes(weights)
    return read_caffe(folder / "toy.prototxt", folder / "toy.caffemodel", **options)


def refusal(read):
    """What the ModelFormatError says, and what was read: one of the two."""
    try:
        return "", read()
    except ModelFormatError as error:
        return str(error), None


def test_files_that_are_cut_off_are_refused(tmp_path):
    for cut in range(len(TOY_FILE)):
        if cut < 99 or cut % 7 == 0:
            with pytest.raises(ModelFormatError, match=r"toy\.caffemodel: "):
                read_bytes(tmp_path, TOY_FILE[:cut])
    read_bytes(tmp_path, TOY_FILE)
    hdf5 = write_hdf5(tmp_path / "toy.h5", toy_weights()).read_bytes()
    for cut in range(0, len(hdf5), 997):  # each a process
        with pytest.raises(ModelFormatError, match=r"toy\.caffemodel: "):
            read_bytes(tmp_path, hdf5[:cut])
    read_bytes(tmp_path, hdf5)


@pytest.mark.parametrize("which", ["lenet", "mtcnn 1", "cifar10 full"])
def test_real_files_that_are_cut_off_are_refused(data, tmp_path, which):
    full = ("cifar10_full/cifar10_full.prototxt", "cifar10_full/cifar10_full_iter_70000.caffemodel.h5", "", {})
    prototxt, weights, _, options = full if which == "cifar10 full" else REAL[which]
    weights = (data / "caffe" / weights).read_bytes()
    cut_off = tmp_path / "cut.caffemodel"
    cut_off.write_bytes(weights)
    x = random_input(whole := read_caffe(data / "caffe" / prototxt, cut_off, **options))
    lengths = range(len(weights) // 1024 * 1024, 0, -1024)
    some = {"lenet": lengths[:3], "mtcnn 1": lengths, "cifar10 full": lengths[::16]}[which]
    for length in some:  # a file that shrinks by a kilobyte each time, or by sixteen where each time takes a process
        with cut_off.open("r+b") as file:
            file.truncate(length)
        refused, model = refusal(lambda: read_caffe(data / "caffe" / prototxt, cut_off, **options))
        if refused:
            assert refused.startswith(f"{cut_off}: ")
        else:  # the end of the file said nothing of weights
            np.testing.assert_array_equal(model.net.forward(x), whole.net.forward(x))
            assert length > len(weights) - 2048


def loads_or_refuses(folder, **contents):
    refused, model = refusal(lambda: read_bytes(folder, **contents))
    if refused:
        assert str(folder) in refused
    else:
        assert all(np.isfinite(a).all() for a in model.net.parameters())
        assert model.net.output_shape(model.preprocessing.shape) == (len(model.classes),)


@given(broken(TOY_FILE))
def test_broken_weights_load_or_are_refused(tmp_path_factory, weights):
    loads_or_refuses(tmp_path_factory.mktemp("broken"), weights=weights)


@given(st.data())
def test_broken_headers_load_or_are_refused(tmp_path_factory, data):
    """Most bytes of a file are weights: here those that are not, of a network that has next to none."""
    arrays = [np.ones((1, 1, 1, 1)), np.ones(1)], [np.ones((1, 1)), np.ones(1)]
    tiny = b"".join(pieces(files.layer(name, a)) for name, a in zip(("conv", "fc"), arrays, strict=True))
    description = re.sub(r"(dim|num_output|kernel_size): \d+", r"\1: 1", TOY)
    folder = tmp_path_factory.mktemp("broken")
    loads_or_refuses(folder, weights=tiny, description=description)
    loads_or_refuses(folder, weights=data.draw(broken(tiny)), description=description)


@given(broken(TOY.encode()))
def test_broken_descriptions_load_or_are_refused(tmp_path_factory, description):
    loads_or_refuses(tmp_path_factory.mktemp("broken"), weights=TOY_FILE, description=description)


@settings(max_examples=12)  # each a process
@given(st.data())
def test_broken_hdf5_loads_or_is_refused(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("broken")
    content = write_hdf5(folder / "toy.h5", {"conv": toy_weights()["conv"], "fc": toy_weights()["fc"]}).read_bytes()
    loads_or_refuses(folder, weights=data.draw(broken(content)))


PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (b"", "expected the weights of a network, found none"),
        (b"\n\x03toy", "expected the weights of a network, found none"),
        (PNG, "expected"),
        (b"PK\x03\x04" + bytes(100), "expected a .caffemodel, that is protobuf, or HDF5, found the field 0 of wire type 3"),
        (TOY.encode(), "expected a .caffemodel, that is protobuf, or HDF5, found the field 13 of wire type 6"),
        (bytes(1000), "expected a .caffemodel, that is protobuf, or HDF5, found the field 0 of wire type 0"),
        (b"\xff" * 1000, "expected a .caffemodel, that is protobuf, or HDF5, found a number of more than ten bytes"),
        (
            pieces([files.varint(100 << 3 | 2), files.varint(2**31), b"abc"]),
            "expected 2,147,483,648 more bytes at byte 7, found 3",
        ),
        (pieces([files.varint(100 << 3 | 2), files.varint(2**63), b"abc"]), "more bytes at byte 12, found 3; is it cut off?"),
        (
            pieces(files.field(100, [b"\x0a\x02\xff\xfe", *files.field(7, files.blob(np.ones(2)))])),
            "expected the name of a layer in UTF-8",
        ),
        (b"\x12\x00" * 100_001, "expected at most 100,000 fields, found more"),
        (pieces(files.field(100, files.field(7, files.blob(np.ones(2))))), "toy.caffemodel: expected"),
        (
            TOY_FILE + pieces(files.layer("conv", [np.ones(2)])),
            "conv: expected names to be unique, found two layers of that name",
        ),
        (
            pieces(files.field(100, files.field(1, "fc") + files.field(7, [b"\xff"]))),
            "fc: expected a BlobProto, that is protobuf",
        ),
    ],
    ids=range(14),
)
def test_what_are_no_weights_is_refused(tmp_path, weights, message):
    with pytest.raises(ModelFormatError) as caught:
        read_bytes(tmp_path, weights)
    assert message in str(caught.value)
    assert str(tmp_path / "toy.caffemodel") in str(caught.value)


def test_blobs_have_as_many_numbers_as_their_shape_says(tmp_path):
    shape, numbers = files.blob(np.ones((4, 3, 3, 3)))[:-3], files.field(5, [np.ones(108, "<f4").tobytes()])
    for parts, message in [
        (shape, "conv: expected as many numbers as the shape (4, 3, 3, 3) says, found 0 bytes of float32"),
        (numbers, "conv: expected as many numbers as the shape (0, 0, 0, 0) says, found 432 bytes of float32"),
        (files.field(7, files.field(1, [files.varint(-108), files.varint(-1)])) + numbers, "shape (-108, -1) says"),
        (files.field(7, files.field(1, [files.varint(2**40)] * 9)) + numbers, "expected as many numbers as the shape"),
        (files.field(7, files.field(1, [b"\1" * 10**6])) + numbers, "conv: expected at most 32 axes, found 1,000,000"),
        ([*shape, *numbers, b"\x2a\0" * 10**6], "says, found 0 bytes of float32"),
    ]:
        with pytest.raises(ModelFormatError) as caught:
            read_bytes(tmp_path, pieces(files.field(100, files.field(1, "conv") + files.field(7, parts))))
        assert message in str(caught.value)
    with pytest.raises(ModelFormatError, match=r"conv: expected at most 64 arrays of weights, found 1,000,000"):
        read_bytes(tmp_path, pieces(files.field(100, [*files.field(1, "conv"), b"\x3a\0" * 10**6])))


def test_hdf5_that_reaches_out_of_itself_is_refused(tmp_path):
    other = write_hdf5(tmp_path / "other.h5", toy_weights())

    def refused(change, message):
        file = write_hdf5(tmp_path / "toy.h5", toy_weights())
        with h5py.File(file, "r+") as stored:
            change(stored)
        with pytest.raises(ModelFormatError) as caught:
            read_bytes(tmp_path, file.read_bytes())
        assert message in str(caught.value)

    def replaced(make):
        def change(stored):
            del stored["data/conv/0"]
            make(stored["data/conv"])

        return change

    shape = (4, 3, 3, 3)
    layout = h5py.VirtualLayout(shape, "f4")
    layout[...] = h5py.VirtualSource(other, "data/conv/0", shape)
    numbers = "conv: expected datasets 0, in this file, found 1"
    refused(replaced(lambda g: g.__setitem__("0", h5py.ExternalLink(other, "data/conv/0"))), numbers)
    refused(replaced(lambda g: g.__setitem__("0", h5py.SoftLink("/data/fc/0"))), numbers)
    refused(replaced(lambda g: g.create_group("0")), numbers)
    refused(replaced(lambda g: g.create_virtual_dataset("0", layout)), "its data lies outside of the file")
    refused(
        replaced(lambda g: g.create_dataset("0", (10**6, 10**6), "f4")), "expected what fits into the file, found an array of"
    )
    refused(replaced(lambda g: g.create_dataset("0", data=h5py.Empty("f4"))), "not readable")
    refused(replaced(lambda g: g.create_dataset("0", data=np.ones(shape, int))), "expected floating-point numbers, found int64")
    refused(
        replaced(lambda g: g.create_dataset("7", data=np.ones(shape, "f4"))), "expected datasets 0, 1, in this file, found 1, 7"
    )
    refused(lambda stored: stored.__delitem__("data"), "toy.caffemodel: data: expected a group of layers, found none")


def test_what_is_no_description_is_refused(tmp_path):
    for content in (
        TOY_FILE,
        PNG,
        b"\xff\xfe" + TOY.encode("utf-16-le"),
        bytes(100),
        b"layer " * 10000,
        b"a: [" * 5000,
        rb'name: "\P"',
    ):
        with pytest.raises(ModelFormatError, match=r"toy\.prototxt: (line 1: )?expected the description of a network in text"):
            read_bytes(tmp_path, TOY_FILE, content)


def test_descriptions_of_far_too_much_are_refused_in_few_words(tmp_path):
    with pytest.raises(ModelFormatError, match="expected at most 10,000 layers, found 10,001"):
        read_bytes(tmp_path, TOY_FILE, "layer {}\n" * 10_001)
    with pytest.raises(
        ModelFormatError, match=r"toy.prototxt: line 8: expected the .*, at most 16,384 bytes a line, found 20,0"
    ):
        read_bytes(tmp_path, TOY_FILE, TOY + "\nunknown: [" + "1," * 10_000 + "1]")  # a million take hours
    loose = "".join(files.text("ReLU", f"loose{k}", ["data"], [f"loose{k}"]) for k in range(300))
    with pytest.raises(ModelFormatError, match=r"expected one output, found 301, prob, loose0, .* …; say which one, "):
        read_bytes(tmp_path, TOY_FILE, TOY + loose)


def test_what_is_no_mean_is_refused(tmp_path):
    np.save(tmp_path / "mean.npy", np.ones((3, 4, 4)))
    npy = (tmp_path / "mean.npy").read_bytes()
    huge = npy.replace(b"(3, 4, 4)", b"(3, 99999999, 9999)".ljust(9)).replace(b" " * 10, b"", 1)
    infinite = npy[:128] + np.asarray([np.inf, -np.inf] * 24).tobytes()
    unended, odd = npy.replace(b"}", b"(", 1), npy.replace(b"(3, 4, 4)", b"(3, 4\n 4")
    for content in (npy[:-1], npy[:40], huge, PNG, TOY_FILE, b"", npy.replace(b"<f8", b"|O8"), infinite, unended, odd):
        (tmp_path / "mean.npy").write_bytes(content)
        with pytest.raises(ModelFormatError, match=r"mean\.npy: "):
            read_bytes(tmp_path, TOY_FILE, mean=tmp_path / "mean.npy")


def test_a_mean_that_python_2_wrote_is_read_without_a_warning(tmp_path):
    """As `python -m fuzz caffe-mean` found: NumPy warns of it."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (3L, 4L, 4L)}"
    content = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + np.ones((3, 4, 4)).tobytes()
    (tmp_path / "mean.npy").write_bytes(content)
    assert read_bytes(tmp_path, TOY_FILE, mean=tmp_path / "mean.npy").preprocessing.mean == (1.0, 1.0, 1.0)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no file here that never ends")
def test_files_that_never_end_are_refused(tmp_path):
    (tmp_path / "toy.prototxt").write_text(TOY)
    stored = files.write_weights(tmp_path / "toy.caffemodel", toy_weights().items())
    for arguments, options in [(("/dev/zero", stored), {}), ((tmp_path / "toy.prototxt", stored), {"mean": "/dev/zero"})]:
        with pytest.raises(ModelFormatError, match=r"/dev/zero: expected at most [\d,]+ bytes, found more"):
            read_caffe(*arguments, **options)
    with pytest.raises(ModelFormatError, match=r"/dev/zero: expected the weights of a network, found none"):
        read_caffe(tmp_path / "toy.prototxt", "/dev/zero")

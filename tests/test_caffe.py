"""Networks from Caffe: the same numbers as OpenCV's own reader and executor of these files gives, and clear errors."""

import subprocess
import sys
from pathlib import Path

import caffe_files as files
import cv2
import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_real import closes, digits  # noqa: F401

import lrp_toolbox as lrp
from lrp_toolbox import ModelFormatError
from lrp_toolbox.importers.caffe import read_caffe


def opencv(prototxt, weights, x, layer):
    """What OpenCV computes: x (sample, height, width, channel) → (sample, class)."""
    net = cv2.dnn.readNetFromCaffe(str(prototxt), str(weights))
    net.setInput(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    return net.forward(layer).reshape(len(x), -1)


def agree(found, expected):
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * abs(expected).max())


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
    for composite in (lrp.lrp_cmp(), lrp.lrp_cmp(1, flat=0)):
        assert closes(lrp.explain(model, x, [0, "top"], composite), 1e-5)


def test_lenet_of_caffe_reads_ten_thousand_digits(data, digits, tmp_path):  # noqa: F811
    folder = data / "caffe" / "lenet"
    model = read_caffe(folder / "lenet.prototxt", folder / "lenet_iter_10000.caffemodel", scale=1 / 256)
    assert model.preprocessing == lrp.Preprocessing((28, 28), "warp", "L", (0.0,), 1 / 256)
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
    with pytest.raises(ModelFormatError, match=r"det1\.prototxt: output: expected one output, found 2; .*: conv4-2, prob1$"):
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


VGG16 = [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)]

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
    from test_real import closes
    assert closes(lrp.explain(model, x), 1e-4)
"""


@pytest.mark.parametrize("old", [False, True], ids=["new form", "old form"])
def test_vgg16_in_ten_seconds_and_a_gigabyte_and_a_half(tmp_path, old):
    lines, sizes, below, depth = ['name: "VGG16" input: "data" input_dim: [1, 3, 224, 224]\n'], [], "data", 3
    for block, (n, channels) in enumerate(VGG16, 1):
        for k in range(1, n + 1):
            name = f"conv{block}_{k}"
            parameters = f"convolution_param {{ num_output: {channels} pad: 1 kernel_size: 3 }}"
            lines += [files.text("Convolution", name, [below], [name], parameters, old)]
            lines += [files.text("ReLU", f"relu{block}_{k}", [name], [name], old=old)]
            sizes.append((name, (channels, depth, 3, 3)))
            below, depth = name, channels
        pooling = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
        lines += [files.text("Pooling", f"pool{block}", [below], [f"pool{block}"], pooling, old)]
        below = f"pool{block}"
    for name, n_in, n_out in (("fc6", 25088, 4096), ("fc7", 4096, 4096), ("fc8", 4096, 1000)):
        parameters = f"inner_product_param {{ num_output: {n_out} }}"
        lines += [files.text("InnerProduct", name, [below], [name], parameters, old)]
        lines += [files.text("ReLU", f"relu{name}", [name], [name], old=old)] if name != "fc8" else []
        sizes.append((name, (n_out, n_in)))
        below = name
    prototxt = tmp_path / "vgg16.prototxt"
    prototxt.write_text("".join(lines))
    rng = np.random.default_rng(0)
    layers = ((name, [files.noise(rng, *shape), files.noise(rng, shape[0])]) for name, shape in sizes)
    weights = files.write_weights(tmp_path / "vgg16.caffemodel", layers, old)
    assert weights.stat().st_size > 550_000_000
    x = np.random.default_rng(1).standard_normal((1, 224, 224, 3), dtype=np.float32) * 60
    np.save(tmp_path / "x.npy", x)
    arguments = [prototxt, weights, tmp_path / "x.npy", tmp_path / "y.npy", str(old)]
    command = [sys.executable, "-c", IN_A_PROCESS_OF_ITS_OWN, *map(str, arguments)]
    measured = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parent)
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

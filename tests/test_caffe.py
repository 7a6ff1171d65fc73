"""Networks from Caffe: the same numbers as OpenCV's own reader and executor of these files gives, and clear errors."""

import subprocess
import sys
from pathlib import Path

import caffe_files as files
import cv2
import h5py
import numpy as np
import pytest
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

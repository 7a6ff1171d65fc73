"""The importer of torchvision's nets, against PyTorch's layers as jax.lax has them: channels in front, and so flattened.

PyTorch itself is too large for a test's environment. The names are those that torchvision's own nets give their state_dict.
"""

import io
import json
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from safetensors.numpy import save, save_file
from support import run

import lrp_toolbox as lrp
from lrp_toolbox.importers.torch import ARCHITECTURES, read_torch
from lrp_toolbox.io import ModelFormatError

MEAN, STD = 255 * np.array([0.485, 0.456, 0.406]), 255 * np.array([0.229, 0.224, 0.225])
VGG = {"vgg11": "4 M 5 M 6 6 M 7 7 M 8 8 M", "vgg13": "4 4 M 5 5 M 6 6 M 7 7 M 8 8 M",
       "vgg16": "4 4 M 5 5 M 6 6 6 M 7 7 7 M 8 8 8 M", "vgg19": "4 4 M 5 5 M 6 6 6 6 M 7 7 7 7 M 8 8 8 8 M"}  # fmt: skip
ALEXNET = ["4 11 4 2", "", "M", "5 5 1 2", "", "M", "6 3 1 1", "", "6 3 1 1", "", "7 3 1 1", "", "M"]


def convolution(x, w, b, stride, pad):
    y = lax.conv_general_dilated(x, w, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NCHW", "OIHW", "NCHW"))
    return np.asarray(y) + b[:, None, None]


def pool(x, kernel):
    return np.asarray(lax.reduce_window(x, -np.inf, lax.max, (1, 1, kernel, kernel), (1, 1, 2, 2), "VALID"))


def batch_norm(x, mean, var, w, b):
    return (x - mean[:, None, None]) / np.sqrt(var + np.float32(1e-5))[:, None, None] * w[:, None, None] + b[:, None, None]


def network(name, inputs=3, classes=6, seed=0):
    """A state_dict with few channels, and what it does: a function of x (sample, channel, height, width)."""
    rng, state, steps = np.random.default_rng(seed), {}, []

    def numbers(*shape):
        return (rng.standard_normal(shape) * np.sqrt(2 / max(1, np.prod(shape[1:])))).astype(np.float32)

    def layer(key, *shape):
        state[f"{key}.weight"], state[f"{key}.bias"] = numbers(*shape), numbers(shape[0]) / 10
        return state[f"{key}.weight"], state[f"{key}.bias"]

    k, channels, bn = 0, inputs, name.endswith("_bn")
    for word in ALEXNET if name == "alexnet" else VGG[name.removesuffix("_bn")].split():
        if word == "M":
            steps.append(lambda x: pool(x, 3 if name == "alexnet" else 2))
        elif word:
            out, kernel, stride, pad = map(int, word.split()) if " " in word else (int(word), 3, 1, 1)
            w, b = layer(f"features.{k}", out, channels, kernel, kernel)
            steps.append(lambda x, w=w, b=b, stride=stride, pad=pad: convolution(x, w, b, stride, pad))
            channels = out
            if bn:
                k += 1
                w, b = layer(f"features.{k}", out)
                w += 1
                mean = state[f"features.{k}.running_mean"] = numbers(out) / 10
                var = state[f"features.{k}.running_var"] = rng.uniform(0.5, 2, out).astype(np.float32)
                state[f"features.{k}.num_batches_tracked"] = np.array(7)
                steps.append(lambda x, given=(mean, var, w, b): batch_norm(x, *given))
            steps.append(lambda x: np.maximum(x, 0))
            k += name != "alexnet"
        k += 1
    places, dense = (36, (1, 4, 6)) if name == "alexnet" else (49, (0, 3, 6))
    sizes = (channels * places, 12, 11, classes)
    steps.append(lambda x: x.reshape(len(x), -1))
    for index, n_in, n_out in zip(dense, sizes, sizes[1:], strict=False):
        w, b = layer(f"classifier.{index}", n_out, n_in)
        steps += [lambda x, w=w, b=b: x @ w.T + b] + [lambda x: np.maximum(x, 0)] * (index < 6)

    def forward(x):
        for step in steps:
            x = step(x)
        return x

    return state, forward


def saved(state, path):
    if path.suffix == ".npz":
        np.savez(path, **state)
    else:
        save_file(state, path)
    return path


def pixels(channels=3, n=2):
    return np.random.default_rng(9).integers(0, 256, (n, 224, 224, channels)).astype(np.float32)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_logits_are_those_of_the_network(name, suffix, tmp_path):
    state, forward = network(name)
    model = read_torch(saved(state, tmp_path / f"net{suffix}"))
    assert model.preprocessing == lrp.Preprocessing(
        (224, 224), "warp", "RGB", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
    )
    assert f"{name} as torchvision has it" in model.summary
    assert model.classes == tuple("012345")
    p = pixels()
    expected = forward(((p - MEAN) / STD).astype(np.float32).transpose(0, 3, 1, 2))
    found = model.net(((p - model.preprocessing.mean) / model.preprocessing.std).astype(np.float32))
    np.testing.assert_array_equal(model.net["features.0"].w, state["features.0.weight"].transpose(2, 3, 1, 0))
    np.testing.assert_allclose(found, expected, atol=2e-5 * abs(expected).max())
    assert np.ptp(expected, axis=1).min() > 1e-2 * abs(expected).max()  # an answer that depends on what is asked


def test_what_is_said_of_photographs_is_heeded(tmp_path):
    state, forward = network("vgg11")
    file = saved(state, tmp_path / "net.npz")
    model = read_torch(file, mean=(1, 2, 3), std=(4, 5, 6), channels="BGR", fit="crop", labels=list("abcdef"))
    assert model.preprocessing == lrp.Preprocessing((224, 224), "crop", "BGR", (1, 2, 3), (4, 5, 6))
    assert model.classes == tuple("abcdef")
    x = pixels()
    np.testing.assert_allclose(model.net(x), forward(x.transpose(0, 3, 1, 2)), rtol=1e-4, atol=1e-4)
    torchvision = read_torch(file, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), fit="pad", fill=9, border=3)
    assert torchvision.preprocessing == lrp.Preprocessing((224, 224), "pad", "RGB", MEAN, STD, 3, 9.0)
    usual = read_torch(file, channels="BGR")
    np.testing.assert_allclose(usual.preprocessing.mean, MEAN[::-1])
    np.testing.assert_allclose(usual.preprocessing.std, STD[::-1])


def test_grey_pictures(tmp_path):
    state, forward = network("vgg11", inputs=1)
    model = read_torch(saved(state, tmp_path / "net.npz"))
    assert model.preprocessing == lrp.Preprocessing((224, 224), "warp", "L", 0.0, 255.0)
    x = pixels(1)
    np.testing.assert_allclose(model.net(x / np.float32(255)), forward((x / 255).transpose(0, 3, 1, 2)), rtol=1e-4, atol=1e-5)


def test_a_wrapper_of_several_cards_is_no_part_of_the_name(tmp_path):
    state, _ = network("vgg11_bn")
    plain = read_torch(saved(state, tmp_path / "plain.npz"))
    wrapped = read_torch(saved({f"module.{name}": a for name, a in state.items()}, tmp_path / "wrapped.safetensors"))
    x = pixels(n=1)
    np.testing.assert_array_equal(plain.net(x), wrapped.net(x))


def test_half_precision_is_read_as_asked(tmp_path):
    state, _ = network("vgg11")
    halves = {name: a.astype(np.float16) for name, a in state.items()}
    model = read_torch(saved(halves, tmp_path / "net.safetensors"), dtype=np.float64)
    conv = dict(model.net.items())["features.3"]
    np.testing.assert_array_equal(conv.w, halves["features.3.weight"].transpose(2, 3, 1, 0).astype(np.float64))


def test_relevance_is_conserved_through_what_was_fused(tmp_path):
    state, _ = network("vgg13_bn")
    model = read_torch(saved(state, tmp_path / "net.npz"), dtype=np.float64)
    e = lrp.explain(model, pixels(n=1)[0].astype(np.float64), target=2, composite=lrp.lrp_cmp())
    assert abs(float(e.ledger.rounding)) < 1e-9 * abs(float(e.ledger.start))


def test_the_command_imports_inspects_and_explains(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    saved(network("alexnet")[0], tmp_path / "net.safetensors")
    (tmp_path / "classes.txt").write_text("\n".join("abcdef"))
    code, out, err = run(capsys, "import", "torch", "net.safetensors", "--labels", "classes.txt", "-o", "models/mine")
    assert (code, err) == (0, "")
    assert out.endswith("model: models/mine\n")
    assert "features.0" in run(capsys, "inspect", "models/mine")[1]
    photo = lrp.load("vgg16-voc").example
    code, out, err = run(capsys, "explain", photo, "--model", "models/mine")
    assert code == 0, err
    code, _, err = run(capsys, "import", "torch", "net.safetensors", "--std", "mean.npy", "-o", "models/other")
    assert code != 0
    assert "--std: expected numbers" in err


# ---- Files that are not what they should be --------------------------------------------------------------------------


def refused(tmp_path, state, match, suffix=".npz", **given):
    with pytest.raises(ModelFormatError, match=match):
        read_torch(saved(state, tmp_path / f"net{suffix}"), **given)


def test_names_of_another_network_are_refused(tmp_path):
    resnet = {"conv1.weight": np.zeros((4, 3, 7, 7), np.float32), "layer1.0.conv1.weight": np.zeros((4, 4, 3, 3), np.float32)}
    refused(tmp_path, resnet, r"one of vgg11, .*alexnet, found \['conv1")
    refused(tmp_path, {}, r"found \[\]", ".safetensors")


def test_what_is_missing_and_what_is_too_many_is_named(tmp_path):
    state, _ = network("vgg16")
    bias = state.pop("features.28.bias")
    refused(tmp_path, state, "the names of vgg16, found no features.28.bias")
    refused(tmp_path, {**state, "features.28.bias": bias, "head.weight": bias}, "vgg16, found unknown head.weight")


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_shapes_and_numbers_are_checked(tmp_path, suffix):
    state, _ = network("vgg11_bn")
    w = state["features.4.weight"]
    nan = np.where(np.arange(w.size).reshape(w.shape) == 3, np.float32(np.nan), w)
    for name, wrong, match in [
        ("features.4.weight", w[0], "features.4.weight: expected 4 axes"),
        ("features.4.weight", w[:0], "features.4.weight: expected 4 axes"),
        ("features.4.weight", nan, "features.4.weight: expected finite"),
        ("features.4.weight", w[:, 1:], "net"),
        ("features.4.weight", np.asfortranarray(w.transpose(1, 0, 2, 3)).copy(), "features.4"),
        ("features.4.bias", np.zeros(3, np.float32), "features.4: b: expected 5"),
        ("features.5.running_var", -np.ones(5, np.float32), "features.5: variance"),
        ("features.4.weight", w.astype(np.int32), "features.4.weight: expected (floating-point|F16)"),
        ("classifier.0.weight", np.zeros((12, 8 * 49 - 1), np.float32), "classifier.0: weight: expected inputs in 8 channels"),
        ("classifier.0.weight", np.zeros((12, 8 * 36), np.float32), "vgg11_bn on 224 × 224"),
        ("classifier.3.weight", np.zeros((11, 13), np.float32), "vgg11_bn on 224 × 224"),
        ("features.0.weight", np.zeros((4, 2, 3, 3), np.float32), "pictures of 1 or 3 channels, found 2"),
    ]:
        refused(tmp_path, {**state, name: wrong}, match, suffix)


def test_arguments_that_do_not_fit_are_refused(tmp_path):
    file = saved(network("vgg11")[0], tmp_path / "net.npz")
    for arguments, match in [
        ({"std": (0.229, 0.0, 0.225)}, "std: expected a number > 0 for each of RGB"),
        ({"std": (60.0, 60.0)}, "std: expected a number > 0 for each of RGB"),
        ({"mean": (1.0, 2.0)}, "mean: expected a number for each of RGB"),
        ({"pixels": 2}, "pixels: expected 1 or 255"),
        ({"channels": "L"}, "channels: expected RGB, BGR or L, .* 3, got 'L'"),
        ({"channels": "GBR"}, "channels: expected RGB, BGR or L, .* got 'GBR'"),
        ({"labels": ["a"]}, "labels: expected 6 names"),
    ]:
        with pytest.raises(ValueError, match=match):
            read_torch(file, **arguments)


def test_pickles_are_refused_unread(tmp_path):
    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
        archive.writestr("net/data.pkl", b"\x80\x02cos\nsystem\nX\x05\x00\x00\x00false\x85R.")
    (tmp_path / "old.pth").write_bytes(b"\x80\x02cos\nsystem\nX\x05\x00\x00\x00false\x85R.")
    for name in ("net.pth", "old.pth"):
        with pytest.raises(ModelFormatError, match="found a pickle"):
            read_torch(tmp_path / name)


def test_other_files_are_refused(tmp_path):
    for name, content in [("a.npz", b""), ("b.safetensors", b"\xff" * 100), ("c.npz", b"PK\x03\x04nothing"),
                          ("d.safetensors", struct.pack("<Q", 1 << 62) + b"{}"),
                          ("e.safetensors", struct.pack("<Q", 2) + b"{]")]:  # fmt: skip
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelFormatError, match=name):
            read_torch(tmp_path / name)
    with pytest.raises(ModelFormatError, match="found a folder"):
        read_torch(tmp_path)
    with pytest.raises(FileNotFoundError):
        read_torch(tmp_path / "nowhere.npz")


def test_an_array_that_claims_to_be_endless_is_not_read(tmp_path):
    state, _ = network("vgg11")
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (1 << 20, 3, 1 << 10, 3)})
    np.savez(tmp_path / "net.npz", **{name: a for name, a in state.items() if name != "features.0.weight"})
    with zipfile.ZipFile(tmp_path / "net.npz", "a") as archive:
        archive.writestr("features.0.weight.npy", header.getvalue())
    with pytest.raises(ModelFormatError, match=r"features.0.weight: expected 4 axes and at most"):
        read_torch(tmp_path / "net.npz")


def test_a_kind_of_number_that_numpy_has_not_is_named(tmp_path):
    state, _ = network("vgg11")
    content = save(state)
    length = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8 : 8 + length])
    for entry in header.values():  # two numbers of 16 bits where there was one of 32
        entry["dtype"], entry["shape"] = "BF16", [*entry["shape"][:-1], 2 * entry["shape"][-1]]
    text = json.dumps(header).encode()
    (tmp_path / "net.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
    with pytest.raises(ModelFormatError, match=r"features.0.weight: expected F16, F32 or F64, found BF16"):
        read_torch(tmp_path / "net.safetensors")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("torch")
    state, _ = network("vgg11")
    return {suffix: saved(state, folder / f"net{suffix}").read_bytes() for suffix in (".npz", ".safetensors")}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_files_that_end_early_are_refused(files, suffix, tmp_path):
    content = files[suffix]
    file = tmp_path / f"net{suffix}"
    for end in range(0, len(content), 1024):
        file.write_bytes(content[:end])
        with pytest.raises(ModelFormatError):
            read_torch(file)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
@settings(max_examples=200)
@given(data=st.data())
def test_flipped_bytes_are_refused_or_read_as_numbers(files, suffix, data, tmp_path):
    content = bytearray(files[suffix])
    beginning = st.integers(0, min(4000, len(content) - 1))
    for at in data.draw(st.lists(beginning | st.integers(0, len(content) - 1), min_size=1, max_size=5)):
        content[at] = data.draw(st.integers(0, 255))
    file = tmp_path / f"net{suffix}"
    file.write_bytes(content)
    try:
        model = read_torch(file)
    except ModelFormatError:
        return
    assert all(np.isfinite(module.w).all() for _, module in model.net.items() if hasattr(module, "w"))

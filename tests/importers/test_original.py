"""The reader of the original LRP Toolbox's models, against its formulas written down a second time in original_files.py."""

import re
import tracemalloc

import numpy as np
import original_files as files
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import rngs, run

import lrp_toolbox as lrp
from lrp_toolbox.importers.original import read_original
from lrp_toolbox.io import ModelFormatError


def random_layers(rng, kinds, side, depth):
    """Layers of these kinds that fit each other, and the shape of the input."""
    shape, layers = (side, side, depth), []
    for kind in kinds:
        if kind == "Convolution":
            h, w, s, t = (int(rng.integers(1, min(4, n + 1))) for n in (*shape[:2], 3, 3))
            n = int(rng.integers(1, 4))
            layers.append((kind, (h, w, shape[2], n, s, t), rng.standard_normal((h, w, shape[2], n)), rng.standard_normal(n)))
            shape = ((shape[0] - h) // s + 1, (shape[1] - w) // t + 1, n)
        elif kind in ("SumPool", "MaxPool"):
            h, w, s, t = (int(rng.integers(1, min(4, n + 1))) for n in (*shape[:2], 3, 3))
            layers.append((kind, (h, w, s, t)))
            shape = ((shape[0] - h) // s + 1, (shape[1] - w) // t + 1, shape[2])
        elif kind == "Linear":
            n = int(rng.integers(2, 5))
            layers.append((kind, (shape[0], n), rng.standard_normal((shape[0], n)), rng.standard_normal(n)))
            shape = (n,)
        else:
            layers.append((kind, ()))
            shape = (int(np.prod(shape)),) if kind == "Flatten" else shape
    return layers


KINDS = st.tuples(
    st.lists(st.sampled_from(["Convolution", "Rect", "Tanh", "SumPool", "MaxPool"]), max_size=4).map(
        lambda kinds: ["Convolution", *kinds, "Flatten"]
    ),
    st.lists(st.sampled_from(["Linear", "Rect", "Tanh"]), max_size=3).map(lambda kinds: [*kinds, "Linear"]),
).map(lambda parts: parts[0] + parts[1])


def written(folder, layers, form, **options):
    path = folder / f"net.{'mat' if form == 'mat' else 'txt'}"
    if form == "mat":
        path.write_bytes(files.mat_of(layers, **options))
    else:
        path.write_text(files.text_of(layers, rows=form == "rows", **options))
    return path


def read(folder, layers, form="txt", options=None, **arguments):
    return read_original(written(folder, layers, form, **(options or {})), dtype=np.float64, **arguments)


@given(rngs(), KINDS, st.sampled_from(["txt", "rows", "mat"]), st.sampled_from([1, 3]), st.booleans())
def test_logits_are_those_of_the_formulas(tmp_path_factory, rng, kinds, form, depth, softmax):
    layers = random_layers(rng, kinds, 9, depth)
    model = read(tmp_path_factory.mktemp("net"), [*layers, *[("SoftMax", ())] * softmax], form, size=(9, 9))
    x = rng.standard_normal((9, 9, depth))
    expected = files.forward(layers, x, "F" if form == "mat" else "C")[-1]
    np.testing.assert_allclose(model.net(x), expected, rtol=1e-9, atol=1e-9)
    assert model.logits == ("exclusive" if softmax else None)
    assert model.preprocessing == lrp.Preprocessing((9, 9), channels="RGB" if depth == 3 else "L", mean=127.5, std=127.5)


RULES = [
    ("simple", 0.0, lrp.Z()),
    ("epsilon", 0.3, lrp.Epsilon(0.3)),
    ("alphabeta", 2.0, lrp.AlphaBeta(2)),
    ("alphabeta", 1.0, lrp.AlphaBeta(1)),
    ("flat", 0.0, lrp.Flat()),
    ("ww", 0.0, lrp.WSquare()),
]


@pytest.mark.parametrize(("name", "param", "rule"), RULES, ids=lambda value: str(value))
@given(rng=rngs(), form=st.sampled_from(["txt", "mat"]))
def test_relevance_is_that_of_the_formulas(tmp_path_factory, name, param, rule, rng, form):
    """A LeNet with ReLU, both poolings, and maps of several places that are flattened; R starts anywhere."""
    kinds = ["Convolution", "Rect", "SumPool", "Convolution", "Rect", "MaxPool", "Flatten", "Linear", "Rect", "Linear"]
    layers = random_layers(rng, kinds, 12, 1)
    model = read(tmp_path_factory.mktemp("net"), layers, form, size=(12, 12))
    order = "F" if form == "mat" else "C"
    x = rng.standard_normal((12, 12, 1))
    seen = files.forward(layers, x, order)
    R = rng.standard_normal(len(seen[-1]))
    # The sum has no weights: w² and ♭ give equal parts there, as the original does, and αβ has nothing to tell apart.
    pool = ("simple", 0.0) if name == "alphabeta" else None
    if name == "epsilon" and not isinstance(lrp.SumPool(2).effective_rule(rule), lrp.Epsilon):
        pool = ("simple", 0.0)
    pooling = lrp.Flat() if name in ("flat", "ww") else rule
    factor = lrp.Flat() if name in ("flat", "ww") else lrp.Z()  # passes on R as a whole; ♭ even where the sum is 0
    rules = [(lrp.Scale, factor), ((lrp.SumPool, lrp.MaxPool), pooling), ((lrp.Conv, lrp.Linear), rule)]
    composite = lrp.Composite(rules)
    e = lrp.explain(model.net, x, None, composite, start=R)
    expected = files.relevance(layers, seen, R, name, param, pool, order)
    np.testing.assert_allclose(e.R, expected, rtol=1e-6, atol=1e-9 * max(1, abs(expected).max()))


def test_a_digit_as_its_demonstration_explains_it(tmp_path, digit):
    """28 × 28 with a border of −1, divided by 127.5 less 1, ε = 1 in all layers, from the output of the class."""
    layers = files.lenet(np.random.default_rng(0))
    assumed = {}
    model = read(tmp_path, layers, border=2, fit="crop", assumed=assumed)
    assert assumed == {"size": (32, 32), "mean": (127.5,), "std": (127.5,), "labels": None}
    x = np.pad(digit / 127.5 - 1, 2, constant_values=-1)[..., None]
    photo = np.repeat(digit[..., None], 3, axis=2)
    np.testing.assert_allclose(model.prepare(photo), x, atol=1e-6)
    seen = files.forward(layers, x)
    R = np.where(np.arange(10) == seen[-1].argmax(), seen[-1], 0)
    composite = lrp.Composite([(lrp.Scale, lrp.Z()), ((lrp.Conv, lrp.Linear, lrp.SumPool), lrp.Epsilon(1.0))])
    pool = None if isinstance(lrp.SumPool(2).effective_rule(lrp.Epsilon(1.0)), lrp.Epsilon) else ("simple", 0.0)
    expected = files.relevance(layers, seen, R, "epsilon", 1.0, pool)
    np.testing.assert_allclose(model.explain(photo, composite=composite).R, expected, atol=1e-5 * abs(expected).max())


@pytest.fixture
def digit():
    photo = lrp.read_photo(lrp.load("lenet5-mnist").example)
    return lrp.Preprocessing((28, 28), channels="L")(photo)[..., 0].astype(np.uint8)


def test_dense_nets_and_old_files(tmp_path):
    """An XOR of two numbers, with a line for each row of weights; and pixels in a row, of a square that nobody says."""
    rng = np.random.default_rng(0)
    layers = [("Linear", (2, 3), rng.standard_normal((2, 3)), rng.standard_normal(3)), ("Tanh", ()),
              ("Linear", (3, 2), rng.standard_normal((3, 2)), rng.standard_normal(2)), ("SoftMax", ())]  # fmt: skip
    model = read(tmp_path, layers, "rows", size=(1, 2))
    x = np.array([0.3, -1.0])
    np.testing.assert_allclose(model.net(x.reshape(1, 2, 1)), files.forward(layers[:-1], x)[-1])
    with pytest.raises(ModelFormatError, match="expected a square of pixels, found a net of 2 inputs; give size"):
        read(tmp_path, layers)
    with pytest.raises(ValueError, match="size: expected one that fits 2 inputs"):
        read(tmp_path, layers, size=(2, 2))
    for depth, side in ((1, 4), (3, 4)):
        layers = [("Linear", (side * side * depth, 2), rng.standard_normal((side * side * depth, 2)), np.zeros(2))]
        for form in ("txt", "mat"):
            model = read(tmp_path, layers, form)
            assert model.preprocessing.shape == (side, side, depth)
            x = rng.standard_normal((side, side, depth))
            np.testing.assert_allclose(model.net(x), x.ravel() @ layers[0][2])


def test_what_the_matlab_part_wrote_as_text(tmp_path):
    """Its numbers end in a space and have 6 digits. How maps are flattened is not in the file."""
    rng = np.random.default_rng(1)
    layers = random_layers(rng, ["Convolution", "MaxPool", "Flatten", "Linear"], 9, 1)
    x, assumed = rng.standard_normal((9, 9, 1)), {}
    python = read(tmp_path, layers, options={"by": "matlab"}, size=(9, 9), assumed=assumed)
    assert assumed["flatten"] == "python"
    matlab = read(tmp_path, layers, options={"by": "matlab"}, size=(9, 9), flatten="matlab")
    for model, order in ((python, "C"), (matlab, "F")):
        np.testing.assert_allclose(model.net(x), files.forward(layers, x, order)[-1], rtol=1e-4, atol=1e-4)
    assert not np.allclose(python.net(x), matlab.net(x))


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize("compressed", [True, False])
def test_forms_of_mat(tmp_path, version, compressed):
    layers = files.lenet(np.random.default_rng(0))
    model = read(tmp_path, layers, "mat", {"version": version, "compressed": compressed})
    assert model.preprocessing.size == (32, 32)
    np.testing.assert_array_equal(model.net["conv2"].w, layers[3][2])
    np.testing.assert_array_equal(model.net["conv2"].b, layers[3][3])


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, files.lenet(np.random.default_rng(0)), "txt")
    code, out, err = run(capsys, "import", "original", "net.txt", "--border", 2, "-o", "mine")
    assert (code, err) == (0, "")
    assert "input 32×32×1, L, minus (127.5), divided by 127.5" in out
    assert re.search(r"--size +32 32 +is the height and width", out)
    options = ["--size", 32, 32, "--std", 0.5, "--mean", 0.5, "--pixels", 1, "--fit", "pad", "--fill", 9]
    code, again, err = run(capsys, "import", "original", "net.txt", *options, "-o", "other")
    assert (code, err) == (0, "")
    assert "--size" not in again
    assert lrp.load("other").preprocessing == lrp.Preprocessing((32, 32), "pad", "L", 127.5, 127.5, 0, 9.0)
    assert "scaled, and padded to that size with 9" in lrp.load("other").card
    code, _, err = run(capsys, "explain", lrp.load("lenet5-mnist").example, "--model", "mine")
    assert code == 0, err


# ---- Files that are not what they should be --------------------------------------------------------------------------


def test_pickles_are_refused_unread(tmp_path):
    for name, content in (("LeNet-5.nn", b"\x80\x02ccopy_reg\n"), ("net", b"\x80\x04."), ("net.pickle", b"(dp0\n.")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelFormatError, match=r"found a pickle.*model_io\.write\(model_io\.read"):
            read_original(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the layers of a network as text, found none"),
        ("\n", "expected the layers of a network as text, found none"),
        ("Rect\n", "expected a layer with weights"),
        ("Dense 2 2\n", "line 1: expected one of the layers Linear, Convolution"),
        ("Linear 2\n", r"line 1: Linear: expected 2 whole numbers from 1 to .*, found \[2\]"),
        ("Linear 2 0\n", "line 1: Linear: expected 2 whole numbers"),
        ("Linear 2 -3\n", "line 1: Linear: expected 2 whole numbers"),
        ("Linear 2 1e3\n", "line 1: Linear: expected 2 whole numbers"),
        ("Linear 100000 100000\n1 2", "line 1: Linear: expected at most 268,435,456 weights, found 10,000,000,000"),
        (f"Linear 2 {'9' * 150}\n", "line 1: Linear: expected 2 whole numbers"),
        ("SumPool 2 2 2\n", "line 1: SumPool: expected 4 whole numbers"),
        ("Linear 4 2\n1 2 3 4 5 6 7\n0 0\n", "line 3: Linear, weights: expected 8 numbers, found more"),
        ("Linear 4 2\n1 2 3 4 5 6 7 8 9\n0 0\n", "line 2: Linear, weights: expected 8 numbers, found more"),
        ("Linear 4 2\n1 2 3 4 5 6 7 8\n0 0 0\n", "line 3: Linear, biases: expected 2 numbers, found more"),
        ("Linear 4 2\n1 2 3 4 5 6 7 8\n0", "line 3: Linear, biases: expected 2 numbers, found 1, and then the end"),
        ("Linear 4 2\n1 2 3 4 5 6 7 8", "Linear, biases: expected 2 numbers, found 0, and then the end"),
        ("Linear 4 2\n1 2 3 4\n\n5 6 7 8\n0 0\n", "line 3: Linear, weights: expected 8 numbers, found 4"),
        ("Linear 4 2\n1 2 3 x 5 6 7 8\n0 0\n", "line 2: Linear, weights: expected numbers"),
        ("Linear 4 2\n1 2 3 nan 5 6 7 8\n0 0\n", "line 2: Linear, weights: expected finite numbers"),
        (f"Linear 4 2\n1 2 3 {'4' * 100} 5 6 7 8\n0 0\n", "line 2: Linear, weights: expected numbers, found"),
        ("Linear 4 2\n1 2 3 4 5 6 7 8\n0 0\n\nRect\n", "expected the name of a layer, found an empty line"),
        ("Linear 4 2\n1 2 3 4 5 6 7 8\n0 0\nLinear 3 1\n1 2 3\n0\n", "line 4, 'Linear'.*: .*expects 3 features"),
        ("Linear 4 2\n1 2 3 4 5 6 7 8\n0 0\nMaxPool 2 2 2 2\n", "line 4, 'MaxPool'"),
        ("Rect " * 100, "line 1: expected the name of a layer and its sizes"),
        ("Lin\xe9ar 4 2\n", "line 1: expected the name of a layer"),
        ("Convolution 2 2 2 1 1 1\n1 2 3 4 5 6 7 8\n0\nFlatten\n", "pictures of 1 or 3 channels, found 2"),
        ("Convolution 2 2 1 1 1 1\n1 2 3 4\n0\n", "fit a square of up to 512 × 512 pixels .*; give size"),
    ],
)
def test_broken_text_is_refused(tmp_path, text, message):
    (tmp_path / "net.txt").write_text(text, encoding="utf-8")
    with pytest.raises(ModelFormatError, match=message):
        read_original(tmp_path / "net.txt")


def test_a_cut_off_file_asks_for_no_memory(tmp_path):
    (tmp_path / "net.txt").write_text("Linear 16384 16384\n1 2 3\n")
    tracemalloc.start()
    with pytest.raises(ModelFormatError, match="expected 268,435,456 numbers, found 3"):
        read_original(tmp_path / "net.txt")
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_other_mat_files_are_refused(tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "numbers.mat", {"W": np.eye(3)})
    (tmp_path / "new.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + b"\0" * 384 + b"\x89HDF\r\n\x1a\n")
    (tmp_path / "big.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI")
    (tmp_path / "short.mat").write_bytes(b"MATLAB")
    layers = [("Linear", (4, 2), np.eye(4)[:, :2], np.zeros(2)), ("Dropout", ())]
    (tmp_path / "unknown.mat").write_bytes(files.mat_of(layers))
    bomb = files.struct.pack("<2I", 15, 10) + b"\0" * 10
    (tmp_path / "bomb.mat").write_bytes(files.mat_of(layers)[:128] + bomb)
    for name, message in [
        ("numbers.mat", r"expected one object, the model, found the variables \['W'\]"),
        ("new.mat", r"found 7.3; Matlab writes version 7 with save\(path, 'model', '-v7'\)"),
        ("big.mat", "expected the head of a .mat of version 5 to 7, little-endian"),
        ("short.mat", "expected the head of a .mat"),
        ("unknown.mat", "layer 2, 'Dropout': expected one of the layers Linear"),
        ("bomb.mat", "not a readable .mat"),
    ]:
        with pytest.raises(ModelFormatError, match=message):
            read_original(tmp_path / name)


@pytest.fixture(scope="module")
def good():
    rng = np.random.default_rng(0)
    layers = random_layers(rng, ["Convolution", "Rect", "SumPool", "Flatten", "Linear", "SoftMax"], 7, 1)
    return {"txt": files.text_of(layers).encode(), "mat": files.mat_of(layers, compressed=False)}


WORDS = st.sampled_from([0, 1, 6, 14, 15, 17, 255, 2**31 - 1, 2**32 - 1])


@given(st.data())
def test_no_garbage_gets_through(tmp_path_factory, good, data):
    form = data.draw(st.sampled_from(["txt", "mat"]))
    content = bytearray(good[form])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        how = data.draw(st.sampled_from(["set", "word", "cut", "twice"]))
        if how == "set":
            content[at] = data.draw(st.integers(0, 255))
        elif how == "word":
            content[at // 4 * 4 : at // 4 * 4 + 4] = data.draw(WORDS).to_bytes(4, "little")
        elif how == "cut":
            del content[at : at + data.draw(st.integers(1, 40))]
        else:
            content[at:at] = content[at : at + data.draw(st.integers(1, 400))]
        if not content:
            return
    path = tmp_path_factory.mktemp("bad") / f"net.{form}"
    path.write_bytes(bytes(content))
    try:
        assert read_original(path, size=(7, 7)).net is not None
    except ModelFormatError as error:
        assert str(path) in str(error)  # noqa: PT017
    except ValueError as error:  # of the argument
        assert str(error).startswith("size: ")  # noqa: PT017

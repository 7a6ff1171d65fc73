"""What nets, models and explanations look like: as text, in a notebook, as a picture; and photographs in, explanations out."""

import base64
import dataclasses
import io
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image, ImageShow

import lrp_toolbox as lrp
from lrp_toolbox.data import as_photo

RNG = np.random.default_rng(0)
FEATURES = lrp.Sequential(
    fc1=lrp.Linear(RNG.standard_normal((30, 8)), RNG.standard_normal(8)),
    relu=lrp.ReLU(),
    fc2=lrp.Linear(RNG.standard_normal((8, 3)), RNG.standard_normal(3)),
)
NAMES = ("cat", "dog & <b>", "fish")


def of_features(target="top", x=None, **more):
    return lrp.explain(FEATURES, RNG.standard_normal(30) if x is None else x, target, "epsilon:eps=0.01", **more)


@pytest.fixture(scope="module")
def digit(lenet):
    return lenet.explain(lenet.example, target=["2", "7"])


# ---- as text ---------------------------------------------------------------------------------------------------------


def deep(n):
    return lrp.Sequential([lrp.Linear(np.ones((4, 4))) if k % 2 else lrp.ReLU() for k in range(n)])


def test_a_net_prints_a_line_for_each_layer():
    net = lrp.Sequential(conv=lrp.Conv(np.ones((3, 3, 2, 4)), np.ones(4), padding=1), act=lrp.ReLU(), inner=deep(2))
    assert str(net).splitlines() == [
        "Sequential(",
        "  conv: Conv(w: 3×3×2×4, b: 4, padding=1)",
        "  act: ReLU()",
        "  inner: Sequential(",
        "    relu1: ReLU()",
        "    linear1: Linear(w: 4×4)",
        "  )",
        ")",
    ]


def test_a_graph_prints_what_each_node_reads():
    """A Sequential, Concat or Add does not: the order says it."""
    nodes = [("a", lrp.Linear(np.ones((2, 2))), "input"), ("b", lrp.ReLU(), "a"), ("sum", lrp.Sum(), ("a", "b"))]
    lines = str(lrp.Graph(nodes)).splitlines()
    assert lines == ["Graph(", "  a: Linear(w: 2×2) ← input", "  b: ReLU() ← a", "  sum: Sum() ← a, b", ")"]
    assert "←" not in str(lrp.Sequential(lrp.Add(lrp.ReLU(), lrp.Identity())))


@pytest.mark.parametrize("n", [29, 30, 40, 1000])
def test_a_long_net_is_folded_in_the_middle(n):
    lines = repr(deep(n)).splitlines()
    assert len(lines) <= 31
    assert lines[1] == "  relu1: ReLU()"
    assert lines[-2].startswith("  linear" if n % 2 == 0 else "  relu")
    folded = [int(found[1]) for line in lines if (found := re.fullmatch(r"  … (\d+) more lines …", line))]
    assert sum(folded) + len(lines) - len(folded) == n + 2


def test_layers_print_what_is_not_usual_and_no_arrays():
    for layer, said in [
        (lrp.Conv(np.ones((3, 3, 2, 4)), stride=(2, 1), groups=1), "Conv(w: 3×3×2×4, stride=(2, 1))"),
        (
            lrp.MaxPool(3, 2, ((0, 1), (0, 1)), ties="first"),
            "MaxPool(kernel=3, stride=2, padding=((0, 1), (0, 1)), ties='first')",
        ),
        (lrp.BatchNorm(np.ones(5), np.ones(5)), "BatchNorm(mean: 5, variance: 5)"),
        (lrp.Dropout(0.2), "Dropout(rate=0.2)"),
        (lrp.Sigmoid(), "Sigmoid()"),
    ]:
        assert repr(layer) == said


def test_layers_of_ones_own_print_alike():
    @dataclass(frozen=True, eq=False)
    class Mine(lrp.Module):
        w: object
        size: int = 3

    @dataclass(frozen=True, eq=False)
    class Yours(Mine):
        def __repr__(self):
            return "yours"

    assert repr(Mine(np.ones((2, 3)), size=5)) == "Mine(w: 2×3, size=5)"
    assert repr(Mine(np.ones((2, 3)))) == "Mine(w: 2×3)"
    assert repr(Yours(np.ones(2))) == "yours"


def test_models_and_explanations_fit_a_screen(lenet, vgg16, digit):
    many = lrp.explain(lenet, RNG.uniform(0, 1, (30, 28, 28, 1)).astype("float32"), ["2", "top"], keep=["*"])
    for shown in (lenet, vgg16, lenet.net, vgg16.net, digit, many, of_features([0, 1, 2])):
        lines = repr(shown).splitlines()
        assert len(lines) <= 31
        assert max(map(len, lines)) <= 128
        assert "array(" not in repr(shown)
    assert "61,706 float32" in repr(lenet)
    assert "… and 48 more" in repr(many)
    assert "sample 1: 2 (" in repr(many)


def test_an_explanation_says_where_relevance_went():
    e = of_features([2, 0], classes=NAMES)
    first, second = repr(e).splitlines()[1:]
    assert first.startswith(f"  fish ({e.y[2]:.4g}".replace("-", "−"))
    assert second.startswith("  cat (")
    for row, line in zip(e.rows(), (first, second), strict=True):
        amounts = line.rpartition(": ")[2].replace("−", "-").replace("- ", "-").replace("+ ", "+")
        start, rest = amounts.split(" = ")
        parts = [float(word) for word in re.findall(r"[-+]?[\d.]+(?:e-?\d+)?", rest)]
        assert float(start) == pytest.approx(float(row.ledger.start), rel=1e-3)
        assert sum(parts) == pytest.approx(float(start), rel=1e-2)


def test_rows_are_samples_and_targets():
    x = RNG.standard_normal((3, 30))
    e = of_features([1, 0], x, classes=NAMES)
    rows = list(e.rows())
    assert [(row.sample, row.target, row.name) for row in rows] == [(s, t, NAMES[t]) for s in range(3) for t in (1, 0)]
    for row in rows:
        assert row.logit == e.y[row.sample, row.target]
        np.testing.assert_array_equal(row.R, e.R[row.sample, 1 - row.target])
        assert row.yes is None
    assert [(row.sample, row.name) for row in of_features(0, x).rows()] == [(s, "class 0") for s in range(3)]
    [one] = of_features(0).rows()
    assert (one.sample, one.name) == (None, "class 0")
    y = FEATURES.forward(x)
    given = of_features(None, x, start=np.stack([y, 2 * y], axis=1))
    assert [row.name for row in given.rows()] == ["start relevance"] * 6
    assert given.count == 6
    assert repr(given).count("start relevance: ") == 6


def test_the_verdict_is_the_models():
    """`says_yes` of the model, if it has one, says which logits are a yes."""
    model = SimpleNamespace(net=FEATURES, classes=NAMES, says_yes=lambda y: y > 0)
    x = RNG.standard_normal((4, 30))
    y = FEATURES.forward(x)
    e = lrp.explain(model, x, [0, 1, 2])
    assert e.model is model
    assert [row.yes for row in e.rows()] == (y > 0).reshape(-1).tolist()
    assert {True, False} <= {row.yes for row in e.rows()}
    one = lrp.explain(model, x[0], [0, 1, 2])
    assert [row.verdict for row in one.rows()] == [f"the net says {'yes' if v > 0 else 'no'}" for v in y[0]]
    cells = page(one).tables[-2]
    assert cells[0] == ["class", "logit", "the net says", ""]
    assert {row[0]: row[2] for row in cells[1:]} == {
        name: "yes" if v > 0 else "no" for name, v in zip(NAMES, y[0], strict=True)
    }


def test_models_that_ship_say_yes_and_no(vgg16, digit):
    """Several logits may be a yes of the one, and only the largest of the other."""
    assert [row.yes for row in digit.rows()] == [True, False]
    both = vgg16.explain(vgg16.folder / "cat-and-person.jpg", ["cat", "person", "dog"])
    assert [row.yes for row in both.rows()] == [True, True, False]
    assert "dog (−9.89), the net says no: " in repr(both)
    assert page(both).words.count("the net says yes") == 2
    assert [line[2] for line in page(both).tables[0][1:]].count("yes") == 2
    assert "says yes     to the class with the largest logit" in repr(digit.model)


# ---- in a notebook ---------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The pictures, the tables and the words of some HTML; every element has to be closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.pictures, self.alts, self.tables, self.words, self.loads = [], [], [], [], "", []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.loads += [value for name, value in attrs.items() if name in ("src", "href")]
        if tag == "img":
            kind, _, data = attrs["src"].partition(",")
            assert kind == "data:image/png;base64"
            self.pictures.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data, validate=True)))))
            self.alts.append(attrs["alt"])
        elif tag != "br":
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words += data
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


def page(shown):
    found = Page(shown._repr_html_())
    assert all(load.startswith("data:image/png;base64,") for load in found.loads)
    assert "<script" not in shown._repr_html_()
    return found


def test_a_notebook_shows_photograph_relevance_prediction_and_ledger(lenet, digit):
    found = page(digit)
    assert len(found.pictures) == 3
    assert all(picture.shape == (28, 28, 3) for picture in found.pictures)
    np.testing.assert_array_equal(found.pictures[0], as_photo(lenet.example))
    np.testing.assert_array_equal(found.pictures[1], lrp.render.overlay(digit.R[0], found.pictures[0], quantile=0.999))
    assert found.alts[1].startswith("2 (14.")
    prediction, ledger = found.tables
    order = np.argsort(-digit.y)[:5].tolist()
    assert [line[0] for line in prediction[1:6]] == [lenet.classes[k] for k in order]
    assert [line[-1] for line in prediction[1:]].count("← explained") == 2
    assert [line[0] for line in ledger] == ["relevance of", "2", "7"]
    assert float(ledger[1][1]) == pytest.approx(float(digit.ledger.start[0]), rel=1e-3)
    assert float(ledger[1][2]) == pytest.approx(float(digit.ledger.end[0]), rel=1e-3)
    assert str(digit.ledger[0]) in found.words
    assert "LRP_CMP:α2+♭" in found.words


def test_without_a_photograph_the_heatmap_is_shown(lenet):
    e = lrp.explain(lenet, lenet.prepare(lenet.example), "2")
    found = page(e)
    assert e.photo is None
    [picture] = found.pictures
    np.testing.assert_array_equal(picture, lrp.render.heatmap(e.R, quantile=0.999))


def test_features_are_listed_the_largest_first():
    e = of_features(1, classes=NAMES)
    found = page(e)
    assert found.pictures == []
    table = found.tables[0]
    order = np.argsort(-abs(e.R))[:12]
    assert [line[0] for line in table[1:]] == [f"feature {i}" for i in order]
    assert [float(line[1].replace("−", "-")) for line in table[1:]] == pytest.approx(e.R[order].tolist(), rel=1e-3)
    assert "dog & <b>" in found.words  # and not as HTML
    assert "<b>" not in e._repr_html_()


def test_many_are_shown_in_part_and_say_so():
    found = page(of_features([0, 1], RNG.standard_normal((50, 30))))
    assert "the first 4 of 100" in found.words
    assert len(found.tables) == 5  # four lists of features, one ledger


def test_a_start_relevance_that_is_handed_in_is_shown():
    x = RNG.standard_normal(30)
    found = page(of_features(None, x, start=FEATURES.forward(x)))
    assert "start relevance" in found.words


def test_a_large_photograph_makes_a_small_page(lenet):
    photo = RNG.integers(0, 256, (3000, 2000, 3), dtype=np.uint8)
    e = lenet.explain(photo)
    assert max(page(e).pictures[0].shape) == 320
    assert len(e._repr_html_()) < 1_000_000
    strip = lenet.explain(RNG.integers(0, 256, (2, 3000, 3), dtype=np.uint8))
    assert min(page(strip).pictures[0].shape[:2]) >= 1


def test_a_model_shows_itself(lenet, vgg16):
    for model in (lenet, vgg16):
        found = page(model)
        assert len(found.pictures) == 1
        assert model.summary in found.words
        assert repr(model.net) in found.words
        assert [name for name, _ in found.tables[0]] == ["input", "photographs", "classes", "says yes", "parameters"]
    assert page(dataclasses.replace(lenet, example=None)).pictures == []


# ---- as a picture ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["png", "jpg", "pdf", "svg"])
def test_save_writes_what_the_ending_says(tmp_path, digit, ending):
    begins = {"png": b"\x89PNG", "jpg": b"\xff\xd8", "pdf": b"%PDF", "svg": b"<?xml"}[ending]
    shown = [digit, of_features([0, 1]), lrp.explain(digit.model, RNG.uniform(0, 1, (5, 28, 28, 1)).astype("float32"))]
    for k, e in enumerate(shown):
        path = e.save(tmp_path / f"{k}.{ending}")
        assert path == tmp_path / f"{k}.{ending}"
        assert path.read_bytes().startswith(begins)
    assert len(list(tmp_path.iterdir())) == len(shown)


def test_save_refuses_before_it_draws(tmp_path, digit, monkeypatch):
    monkeypatch.setattr(lrp.Explanation, "figure", lambda self: pytest.fail("drawn"))
    with pytest.raises(ValueError, match=r"x\.txt: expected a name that ends in one of \.png"):
        digit.save(tmp_path / "x.txt")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        digit.save(tmp_path / "missing" / "x.png")
    assert list(tmp_path.iterdir()) == []


def test_the_picture_of_features_has_their_names_and_signs():
    e = of_features([0, 2], classes=NAMES)
    axes = e.figure().axes
    assert [ax.get_title().partition(" (")[0] for ax in axes] == ["cat", "fish"]
    for ax, R in zip(axes, e.R, strict=True):
        order = np.argsort(-abs(R))[:12]
        assert [label.get_text() for label in ax.get_yticklabels()] == [f"feature {i}" for i in order]
        np.testing.assert_allclose([bar.get_width() for bar in ax.patches], R[order])


def test_the_picture_of_signals_has_time_from_left_to_right_and_a_line_for_each_channel(tmp_path):
    net = lrp.Sequential(lrp.Conv1D(RNG.standard_normal((3, 2, 4))), lrp.ReLU(), lrp.MaxPool1D(None), lrp.Flatten(2))
    e = lrp.explain(net, RNG.standard_normal((3, 20, 2)), [0, 1], lrp.Z())
    axes = e.figure().axes
    assert len(axes) == 6
    for ax, row in zip(axes, e.rows(), strict=True):
        [image] = ax.images
        assert image.get_array().shape == (2, 20, 3)
        np.testing.assert_array_equal(image.get_array(), lrp.render.heatmap(row.R.T, quantile=0.999))
        assert ax.get_title() == row.title
    assert e.save(tmp_path / "signals.png").stat().st_size > 1000
    found = page(e)
    assert [picture.shape for picture in found.pictures] == [(2, 20, 3)] * 4  # the first four of six
    assert found.alts == [row.title for row in e.rows()][:4]


def test_the_picture_says_how_many_it_leaves_out(lenet):
    x = RNG.uniform(0, 1, (20, 28, 28, 1)).astype("float32")
    figure = lrp.explain(lenet, x).figure()
    assert figure.get_suptitle().endswith("(the first 12 of 20)")
    assert sum(len(ax.images) for ax in figure.axes) == 12


def test_show_is_below_the_cell_or_in_a_window(digit, monkeypatch):
    shown = []
    monkeypatch.setattr(ImageShow, "show", lambda image, title: shown.append((image.size, title)) or True)
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert digit.show() is None
    [(size, title)] = shown
    assert min(size) > 100
    assert title == "LRP_CMP:α2+♭"
    below = []
    for shell, wanted in ((SimpleNamespace(kernel=1), 1), (SimpleNamespace(), 1), (None, 1)):
        fake = SimpleNamespace(get_ipython=lambda shell=shell: shell, display=SimpleNamespace(display=below.append))
        monkeypatch.setitem(sys.modules, "IPython", fake)
        digit.show()
        assert len(below) == wanted
    assert len(shown) == 3
    assert below[0]._repr_png_().startswith(b"\x89PNG")
    monkeypatch.setattr(ImageShow, "show", lambda image, title: False)
    with pytest.raises(RuntimeError, match=r"no program here that shows pictures; write one with save"):
        digit.show()


def test_relevance_of_another_shape_has_no_picture():
    e = lrp.explain(lrp.Sequential(lrp.ReLU()), RNG.uniform(1, 2, (2, 3)), None, "z", start=np.ones((2, 3)))
    assert e.figure()
    volumes = dataclasses.replace(e, R=np.ones((2, 4, 5, 6, 1)))
    message = (
        r"R: expected \(feature\), \(place, channel\) or \(height, width, channel\) of one input, got \(2, 4, 5, 6, 1\) of all"
    )
    with pytest.raises(ValueError, match=message):
        volumes.figure()
    assert "R 2×4×5×6×1" in page(volumes).words


# ---- photographs in --------------------------------------------------------------------------------------------------


def test_a_model_takes_a_path_an_image_or_an_array(vgg16):
    path = vgg16.example
    x = vgg16.preprocessing(lrp.read_photo(path))
    for photo in (path, str(path), Image.open(path), lrp.read_photo(path)):
        np.testing.assert_array_equal(vgg16.prepare(photo), x)
        np.testing.assert_array_equal(as_photo(photo), lrp.read_photo(path))


def test_images_are_upright_and_opaque(tmp_path):
    pixels = RNG.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(as_photo(Image.open(tmp_path / "turned.png")), np.rot90(pixels, -1))
    clear = np.concatenate([pixels, np.zeros((4, 6, 1), np.uint8)], axis=-1)
    assert (as_photo(clear) == 255).all()
    assert (as_photo(Image.fromarray(clear)) == 255).all()
    for grey in (pixels[..., 0], pixels[..., :1], Image.fromarray(pixels[..., 0])):
        np.testing.assert_array_equal(as_photo(grey), np.repeat(pixels[..., :1], 3, axis=-1))


@pytest.mark.parametrize(
    ("photo", "error", "message"),
    [
        (
            np.zeros((224, 224, 3), "float32"),
            ValueError,
            "got float32 of shape (224, 224, 3); to explain an x that is prepared",
        ),
        (np.zeros((1, 4, 4, 3), "uint8"), ValueError, "photo: expected uint8 of shape (height, width), or with 1, 3 or 4"),
        (np.zeros((4, 4, 2), "uint8"), ValueError, "got uint8 of shape (4, 4, 2)"),
        (np.zeros((0, 4, 3), "uint8"), ValueError, "got uint8 of shape (0, 4, 3)"),
        ([[1, 2], [3, 4]], TypeError, "photo: expected a path, a Pillow image or an array, got list"),
        (b"cat.png", TypeError, "got bytes"),
        ("no-such.png", FileNotFoundError, "no-such.png: there is no such file"),
        (Image.new("F", (4, 4)), ValueError, "photo: floating-point pixels"),
    ],
)
def test_what_is_no_photograph_is_refused(lenet, photo, error, message):
    for ask in (lenet.prepare, lenet.explain):
        with pytest.raises(error) as caught:
            ask(photo)
        assert message in str(caught.value)


def test_asking_a_model_is_explain(lenet, digit):
    x = lenet.prepare(lenet.example)
    np.testing.assert_array_equal(lenet(x), lenet.net.forward(x))
    assert lenet(np.stack([x, x])).shape == (2, 10)
    e = lrp.explain(lenet, x, ["2", "7"])
    np.testing.assert_array_equal(digit.R, e.R)
    assert digit.labels.tolist() == ["2", "7"]
    assert digit.model is lenet
    assert digit.classes == lenet.classes
    np.testing.assert_array_equal(digit.photo, as_photo(lenet.example))
    other = lenet.explain(lenet.example, 3, "epsilon_plus_flat", start="one", keep=["conv*"])
    expected = lrp.explain(lenet, x, 3, "epsilon_plus_flat", start="one", keep=["conv*"])
    np.testing.assert_array_equal(other.R, expected.R)
    assert list(other.layers) == list(expected.layers)
    assert other.rules.name == "epsilon_plus_flat"


def test_the_photograph_of_an_explanation_is_what_the_net_sees(lenet):
    photo = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)  # lenet5 cuts the middle out
    e = lenet.explain(photo)
    np.testing.assert_array_equal(e.photo, photo[:, 10:50])
    np.testing.assert_array_equal(e.R, lrp.explain(lenet, lenet.prepare(photo)).R)


def test_x_is_where_the_net_is(lenet):
    strict = pytest.importorskip("array_api_strict")
    moved = dataclasses.replace(lenet, net=lenet.net.to(strict).astype(strict.float64))
    x = moved.prepare(lenet.example)
    assert x.__array_namespace__() is strict
    assert x.dtype == strict.float64
    e = moved.explain(lenet.example, "2", "cmp:first=zbox")
    np.testing.assert_allclose(lrp.to_numpy(e.R), lenet.explain(lenet.example, "2", "cmp:first=zbox").R, atol=1e-5)
    assert page(e).pictures
    assert repr(e)


# ---- import ----------------------------------------------------------------------------------------------------------


def python(code, **more):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **more)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_is_quick_and_the_rest_comes_when_asked_for():
    code = """if True:
        import json, sys
        import lrp_toolbox as lrp
        first = "matplotlib" in sys.modules
        names = ("render", "metrics", "attribution", "importers", "experiments", "data")
        names = [getattr(lrp, name).__name__ for name in names]
        print(json.dumps([first, names, "matplotlib" in sys.modules, sorted({"render", "explain"} - set(dir(lrp)))]))
    """
    first, names, then, missing = json.loads(python(code))
    assert not first
    assert names == [f"lrp_toolbox.{n}" for n in ("render", "metrics", "attribution", "importers", "experiments", "data")]
    assert then
    assert missing == []
    with pytest.raises(AttributeError, match="module 'lrp_toolbox' has no attribute 'rendering'"):
        lrp.rendering  # noqa: B018


@pytest.mark.slow
def test_an_installed_package_has_its_models(tmp_path):
    """As after `pip install .`, away from the clone: into a folder of its own, with the models and their examples."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if tracked.returncode != 0:
        pytest.skip("not a clone: the files of the package are not known")
    source, target, elsewhere = tmp_path / "source", tmp_path / "target", tmp_path / "elsewhere"
    for name in tracked.stdout.split("\0"):
        if name.startswith(("lrp_toolbox/", "models/", "conformance/")) or (name and "/" not in name):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).symlink_to(ROOT / name)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*pip, "--target", target, source], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    elsewhere.mkdir()
    code = """if True:
        import lrp_toolbox as lrp
        for name in ("lenet5-mnist", "vgg16-voc"):
            model = lrp.load(name)
            e = model.explain(model.example, composite="epsilon_plus_flat")
            print(lrp.__file__, model.example, e.save(f"{name}.png"), sep="|")
        print(*lrp.available())
    """
    *lines, names = python(code, cwd=elsewhere, env={"PYTHONPATH": str(target), "PATH": "", "HOME": str(tmp_path)}).splitlines()
    for line in lines:
        package, example, picture = line.split("|")
        assert package.startswith(str(target))
        assert example.startswith(str(target))
        assert (elsewhere / picture).read_bytes().startswith(b"\x89PNG")
    assert set(names.split()) == {"lenet5-mnist", "vgg16-voc"}

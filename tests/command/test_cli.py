"""The command `lrp`: what it prints, what it leaves, and one line with exit code 2 for what cannot be done."""

import dataclasses
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from support import run

from lrp_toolbox import Flat, Z, ZBox, explain, lrp_cmp, read_photo, render
from lrp_toolbox.attribution import parse_composite
from lrp_toolbox.cli import _parser, entry, main
from lrp_toolbox.console import in_options, spell
from lrp_toolbox.io import save
from lrp_toolbox.ledger import REASONS

LENET = ["--model", "lenet5-mnist"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_explains_the_photograph_that_comes_with_the_model(capsys, tmp_path):
    code, out, err = run(capsys, "explain", *LENET)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].endswith("example.png: lenet5-mnist says (logits; the net says yes to the largest)")
    assert lines[1].split() == ["2", "14.825", "yes", "←", "explained"]
    assert all(line.endswith("  no") for line in lines[2:6])
    assert "LRP_CMP:α2+♭" in lines
    assert lines[-1] == "picture: example-lrp.png"
    with Image.open(tmp_path / "example-lrp.png") as picture:
        assert picture.size[0] > 300


def test_targets_composites_ledger_and_rules(capsys, tmp_path):
    code, out, _ = run(
        capsys, "explain", ROOT / "models/lenet5-mnist/example.png", *LENET,
        "--target", "2", "--target", 7, "--composite", "z",
        "--composite", "alphabeta:alpha=1,bias=ignore", "--composite", "cmp:alpha=1,flat=all", "--ledger", "--rules",
        "--top", 2,
        "-o", "out.png", "--night", "--quantile", 1,
    )  # fmt: skip
    assert code == 0
    for expected in ("LRP_z", "LRP_αβ (alpha=1, bias='ignore')", "LRP_CMP:α1+♭(all)", "picture: out.png"):
        assert expected in out.splitlines()
    assert out.count("total") == 6
    assert out.count("← explained") == 2
    assert ["conv1", "Conv", "28×28×1", "♭", "Flat()"] in [line.split() for line in out.splitlines()]
    assert (tmp_path / "out.png").exists()


def test_methods_stand_beside_lrp_in_the_order_given(capsys, tmp_path):
    """Only LRP has a ledger to print; with no LRP among them, the classes are printed all the same."""
    methods = ["--method", "gradient_input", "--method", "z", "--method", "guided_backprop:start=logit"]
    code, out, err = run(capsys, "explain", *LENET, *methods, "--target", 2, "--target", 7, "-o", "three.png")
    assert (code, err) == (0, "")
    assert out.count("on the pixels") == 2
    code, out, err = run(capsys, "explain", *LENET, "--method", "excitation_backprop", "-o", "start.png")
    assert "  2: 1.000 = " in out  # it begins with 1
    code, out, err = run(capsys, "explain", *LENET, "--method", "gradcam", "--target", 7, "-o", "one.png")
    assert (code, err) == (0, "")
    assert out.count("← explained") == 1
    assert "on the pixels" not in out
    with Image.open(tmp_path / "three.png") as three, Image.open(tmp_path / "one.png") as one:
        assert three.size[0] > one.size[0]


def test_the_sum_on_the_line_is_right(capsys):
    _, out, _ = run(capsys, "explain", *LENET, "--composite", "epsilon:eps=0.5")
    line = next(line for line in out.splitlines() if "on the pixels" in line)
    start, rest = line.split(":")[1].split("=")
    words = rest.replace("− ", "-").replace("+ ", "").split()
    amounts = [float(w) for w in words if w[0] in "-0123456789"]
    as_printed = 1e-3 + 5e-3 * sum(map(abs, amounts[1:]))  # three decimals, and three digits
    assert float(start) == pytest.approx(sum(amounts), abs=as_printed)
    assert {"bias", "ε", "rounding"} <= set(words)


def test_the_picture_is_there_even_if_nobody_reads_to_the_end(tmp_path):
    """lrp explain … | head -1"""
    command = [sys.executable, "-m", "lrp_toolbox", "explain", *map(str, LENET), "-o", "piped.png"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert (tmp_path / "piped.png").exists()


def test_other_pictures_than_rgb(capsys, tmp_path):
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (40, 30), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.dstack([grey, grey, grey, grey])).save("alpha.png")
    Image.fromarray(grey.astype(np.uint16) * 200).save("deep.png")
    Image.fromarray(grey).save("turned.jpg", exif=exif)
    Image.new("RGB", (1, 1), "red").save("tiny.png")
    Image.new("RGB", (9000, 5600), "red").save("large.jpg")
    for name in ("alpha.png", "deep.png", "turned.jpg", "tiny.png", "large.jpg"):
        code, out, err = run(capsys, "explain", name, *LENET)
        assert (code, err) == (0, ""), name
        assert (tmp_path / out.rpartition("picture: ")[2].strip()).exists()


def renamed(model, folder, logits):
    """A copy of a model, with another meaning of its logits."""
    return save(dataclasses.replace(model, name="toy", logits=logits, example=None), folder)


@pytest.mark.parametrize(
    ("logits", "header", "verdicts"),
    [
        ("independent", "toy says (logits; above 0 the net says yes)", {"2": "yes", "5": "no"}),
        ("exclusive", "toy says (logits; the net says yes to the largest)", {"2": "yes", "5": "no"}),
        (None, "toy says (logits)", {}),
    ],
)
def test_each_class_says_yes_or_no_as_the_model_means_it(capsys, tmp_path, lenet, monkeypatch, logits, header, verdicts):
    folder = renamed(lenet, tmp_path / "toy", logits)
    figures = []
    monkeypatch.setattr(render, "save_picture", lambda figure, path: figures.append(figure))
    code, out, err = run(capsys, "explain", lenet.example, "--model", folder, "--target", "2", "--target", "5", "--top", 1)
    assert (code, err) == (0, "")
    first, *lines = out.splitlines()
    assert first.endswith(header)
    y = lenet.net.forward(lenet.prepare(read_photo(lenet.example)))
    labels = [ax.get_ylabel() for ax in figures[0].axes if ax.get_ylabel()]
    for line, label, name in zip(lines, labels, "25", strict=False):
        says = verdicts.get(name, "")
        assert line.split()[:3] == [name, f"{y[int(name)]:.3f}", says or "←"]
        assert line.endswith("← explained, though the net says no" if says == "no" else "← explained")
        said = f"\nthe net says {says}" if says else ""
        assert label == f"{name} ({y[int(name)]:.2f}){said}".replace("-", "−")


def test_a_net_may_say_yes_to_several_classes_or_none(capsys, tmp_path, vgg16):
    both = vgg16.example.with_name("cat-and-person.jpg")
    _, out, _ = run(capsys, "explain", both, "--target", "dog", "--method", "gradient", "-o", "a.png", "--top", 3)
    assert [line.split()[2:] for line in out.splitlines()[1:5]] == [
        ["yes"], ["yes"], ["no"], ["no", "←", "explained,", "though", "the", "net", "says", "no"]
    ]  # fmt: skip


def test_several_photographs_have_a_picture_each(capsys, tmp_path, lenet):
    with Image.open(lenet.example) as image:
        for name in ("a.png", "b.png"):
            image.save(name)
    for options, folder in ((["--save-relevance", "numbers"], "."), (["-o", "maps"], "maps"), (["-o", "maps"], "maps")):
        code, out, err = run(capsys, "explain", "a.png", "b.png", *LENET, *options)
        assert (code, err) == (0, "")
        for name in "ab":
            assert f"{name}.png: lenet5-mnist says" in out
            assert (tmp_path / folder / f"{name}-lrp.png").stat().st_size > 1000
    assert sorted(p.name for p in (tmp_path / "numbers").iterdir()) == ["a-lrp.npz", "b-lrp.npz"]
    code, out, _ = run(capsys, "explain", "a.png", *LENET, "-o", "maps")  # a folder is also good for one
    assert out.endswith(f"picture: {os.path.join('maps', 'a-lrp.png')}\n")


def test_relevance_as_numbers(capsys, tmp_path, lenet):
    """What is stored is what `explain` finds, and the ledger is complete: it begins with the logit and ends with Σ R."""
    options = ["--method", "z", "--method", "gradient", "--method", "cmp", "--target", 2, "--target", 7]
    code, out, err = run(capsys, "explain", *LENET, *options, "--save-relevance", "r.npz", "-o", "r.png")
    assert (code, err) == (0, "")
    assert out.endswith("numbers: r.npz\n")
    with np.load("r.npz", allow_pickle=False) as stored:
        r = {name: stored[name] for name in stored.files}
    x = lenet.prepare(read_photo(lenet.example))
    for k, composite in ((0, Z()), (2, lrp_cmp())):
        e = explain(lenet, x, [2, 7], composite)
        np.testing.assert_array_equal(r["relevance"][k], e.R)
        np.testing.assert_allclose(r["logits"], e.y, rtol=1e-3)
        assert r["rules"][k] == str(e.rules)
        assert r["ledger_layers"].tolist() == [entry.name for entry in e.ledger]
    assert r["rules"][1] == ""
    assert r["classes"].tolist() == list(lenet.classes)
    assert r["targets"].tolist() == [2, 7]
    assert r["methods"].tolist() == ["LRP_z", "gradient", "LRP_CMP:α2+♭"]
    assert np.isnan(r["ledger"][1]).all()
    amount = {name: r["ledger"][[0, 2], :, :, n] for n, name in enumerate(r["ledger_amounts"].tolist())}
    np.testing.assert_allclose(amount["arriving"][:, :, 0], r["logits"][[2, 7]] * np.ones((2, 1)), rtol=1e-5)
    np.testing.assert_allclose(amount["passed"][:, :, -1], r["relevance"][[0, 2]].sum(axis=(2, 3, 4)), rtol=1e-4, atol=1e-4)
    lost = sum(amount[name] for name in ("passed", *REASONS, "rounding"))
    np.testing.assert_allclose(amount["arriving"], lost, rtol=1e-5, atol=1e-5)
    run(capsys, "explain", *LENET, "--method", "gradient", "--save-relevance", "r.npz", "-o", "r.png")
    with np.load("r.npz", allow_pickle=False) as stored:
        assert stored["ledger"].shape == (1, 1, 0, 7)
    assert {p.name for p in tmp_path.iterdir()} == {"r.npz", "r.png"}


def test_panels_share_a_scale(capsys, tmp_path):
    methods = ["--method", "z", "--method", "cmp"]
    for name, options in (("own.svg", []), ("same.svg", ["--same-scale"])):
        assert run(capsys, "explain", *LENET, *methods, *options, "-o", name)[0] == 0
    assert "each panel has its own scale" in (tmp_path / "own.svg").read_text(encoding="utf-8")
    assert "all panels share one scale" in (tmp_path / "same.svg").read_text(encoding="utf-8")


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="peak memory is read from /proc")
def test_a_huge_or_narrow_photograph_takes_little_memory(tmp_path):
    """48 megapixels took 5 GB; 2×4000 pixels took 24 GB, for a picture of 960,000 lines."""
    with Image.open(ROOT / "models/vgg16-voc/cat.png") as image:
        image.convert("RGB").resize((8000, 6000)).save("huge.jpg")
        image.resize((2, 4000)).save("narrow.png")
    code = (
        "from lrp_toolbox.cli import main; main(['explain', 'huge.jpg', 'narrow.png', '--method', 'gradient'])\n"
        "print(*[line for line in open('/proc/self/status') if line.startswith('VmHWM')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
    )
    assert int(done.stdout.split("VmHWM:")[1].split()[0]) < 1_000_000  # kB
    for name in ("huge", "narrow"):
        with Image.open(f"{name}-lrp.png") as picture:
            assert max(picture.size) < 2000


COMMANDS = [
    ["explain", *LENET, "--ledger", "--rules", "--method", "cmp", "--method", "alphabeta:alpha=1", "--target", "2"],
    ["explain", "nowhere.png"],
    ["explain", *LENET, "--method", "zbox"],
    ["explain", "--quantile", "much"],
    ["inspect", "lenet5-mnist"],
    ["models"],
    ["methods"],
    ["rules"],
    ["experiment", "table1", "--dataset", "voc", "--data", "nowhere", *LENET],
    ["experiment", "table1", "--shard", "9/8"],
    ["import", "keras", "nowhere.keras", "-o", "mine"],
    ["serve", *LENET, "--port", "70000"],
    *([*command, "--help"] for command in ([], ["explain"], ["inspect"], ["experiment"], ["serve"], ["models"], ["methods"],
      ["rules"], ["import"], ["import", "caffe"], ["import", "keras"], ["import", "torch"])),
]  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_every_command_prints_on_every_console(monkeypatch, encoding):
    """What the encoding does not have is spelled: no error, and no code such as \\u03b1 either."""
    for arguments in COMMANDS:
        raw = io.BytesIO()
        for stream, errors in (("stdout", "strict"), ("stderr", "backslashreplace")):
            monkeypatch.setattr(sys, stream, io.TextIOWrapper(raw, encoding=encoding, errors=errors, write_through=True))
        monkeypatch.setattr(sys, "argv", ["lrp", *arguments])
        with pytest.raises(SystemExit) as stop:
            entry()
        text = raw.getvalue().decode(encoding)
        assert stop.value.code in (0, 2)
        assert text
        assert "\\u" not in text
        if arguments == ["rules"]:
            assert "α z⁺_ij" in text if encoding == "utf-8" else "alpha z^+_ij" in text


def test_a_name_that_is_no_text_is_printed(capfd, tmp_path):
    """On Linux a file name is bytes, and need not be text in any encoding."""
    name = os.fsdecode(b"caf\xe9.png")
    try:
        Image.new("L", (28, 28)).save(name)
    except (OSError, UnicodeError):
        pytest.skip("this file system has no such names")
    command = [sys.executable, "-m", "lrp_toolbox", "explain", name, *LENET]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, check=True)
    assert done.stderr == b""
    assert b"caf\\udce9.png: lenet5-mnist says" in done.stdout


def test_spelling():
    assert spell("LRP_CMP:α2+♭") == "LRP_CMP:alpha2+flat"
    assert spell("Σ Δ μ é ½ … 猫 →") == "Sigma Delta mu e 1/2 ... \\u732b ->"
    assert spell("as it is\n") == "as it is\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "error: nowhere.png: there is no such file"),
        (["good.png", "text.png"], "error: text.png: not a picture"),
        (["good.png", "good.png"], "good.png and good.png would both be written to good-lrp.png"),
        (
            ["good.png", "text.png", "-o", "out.png"],
            "--output: out.png is one file, and there are 2 photographs; give a folder",
        ),
        (["good.png", "text.png", "-o", "text.txt"], "--output: text.txt is not a folder, and there are 2 photographs"),
        (["good.png", "-o", "good.png"], "--output: good.png is the photograph itself, which would be overwritten"),
        (
            ["--save-relevance", "out.csv"],
            "--save-relevance: out.csv: expected a name that ends in .npz, or a folder that exists",
        ),
        (["--save-relevance", "no/out.npz"], "--save-relevance: no/out.npz: there is no folder no"),
        (["text.png"], "text.png: not a picture"),
        (["."], ".: expected a picture, got a folder"),
        (["--target", "kat"], "error: --target: no class 'kat'; there are 0, 1, 2"),
        (["--target", "12"], "error: --target: expected a class from 0 to 9, got 12"),
        (["--composite", "zz"], "error: --method zz: there is no 'zz'; there are cmp, z, epsilon, alphabeta"),
        (["--method", ""], "error: --method '': there is no ''"),
        (["--composite", "epsilon:alpha=1"], "error: --method epsilon:alpha=1: no parameter 'alpha'; there are eps, bias"),
        (["--method", "epsilon:eps"], "error: --method epsilon:eps: expected name=value, got 'eps'"),
        (
            ["--method", "smoothgrad:samples=0"],
            "error: --method smoothgrad:samples=0: samples: expected a whole number ≥ 1, got 0",
        ),
        (["--method", "cam"], "error: --method cam: net: CAM is for nets that end in an average over the whole map"),
        (["--composite", "epsilon:eps=much"], "error: --method epsilon:eps=much: eps: expected a number, got 'much'"),
        (
            ["--composite", "alphabeta:alpha=-1"],
            "error: --method alphabeta:alpha=-1: alpha: expected a finite number ≥ 0, got -1",
        ),
        (["--composite", "cmp:flat=9"], "the first 9 layers are asked for, but there are 2"),
        (["--composite", "cmp:dense=head"], "--method cmp:dense=head: LRP_CMP:α2+♭: the pattern 'head' matches no layer"),
        (
            ["--composite", "zbox"],
            "error: --method zbox: x: zᴮ expects low ≤ x ≤ high; some lies outside: it is for the first layer only",
        ),
        (["-o", "out.docx"], "error: --output: out.docx: expected a name that ends in .png or"),
        (["-o", "no/out.png"], "error: --output: no/out.png: there is no folder no"),
        (["--top", "0"], "--top: expected a number ≥ 1, got 0"),
        (["--quantile", "2"], "error: --quantile: expected a number above 0 and up to 1, got 2"),
        (["--model", "resnet"], "no model 'resnet'"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(capsys, tmp_path, arguments, message):
    for name in ("text.png", "text.txt"):
        (tmp_path / name).write_text("no picture")
    Image.new("L", (28, 28)).save("good.png")
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    code, _, err = run(capsys, "explain", *LENET, *arguments)
    assert code == 2
    assert err.startswith("lrp: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["explane"], "COMMAND: invalid choice: 'explane'"),
        (["explain", "--top", "many"], "--top: invalid int value: 'many'"),
        (["explain", "--targets", "cat"], "unrecognized arguments: --targets; did you mean --target?"),
        (["explain", "--zzz"], "unrecognized arguments: --zzz"),
        (["explain", ""], "PHOTO: expected a path, got ''"),
        (["explain", "-o", ""], "-o/--output: expected a path, got ''"),
        (
            ["import", "onnx", "a.onnx", "-o", "b", "--mean", "1", "2", "3"],
            "unrecognized arguments: 2 3; numbers of one option have commas between them: 1,2,3",
        ),
        (["import", "caffe"], "the following arguments are required: PROTOTXT, CAFFEMODEL, -o/--output"),
    ],
)
def test_wrong_usage_is_two_lines_and_exit_code_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    first, second = capsys.readouterr().err.splitlines()
    assert first.startswith(f"lrp: error: {message}")
    assert second.startswith("see `lrp ")
    assert second.endswith("--help`")


CASE = {"id": "a", "catches": "…", "rule": "z", "layer": "dense", "net": {}, "input": {}, "start": {}, "output": 0,
        "relevance": {}, "ledger": []}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["patterns", "file.npz", *LENET], "file.npz: expected a folder of photographs, or FILE.npz:ARRAY, found a file"),
        (["patterns", "folder", *LENET, "--out", "file.npz"], "--out: file.npz: expected a folder, found a file"),
        (["conformance", "folder"], "folder: no conformance cases"),
        (["conformance", "--arrays", "cupy"], "--arrays: cupy cannot be imported: "),
        (["conformance", "keys"], "keys/a.json: case 1: expected id, catches, rule, layer, net, "),
        (["conformance", "number"], "number/a.json: cases: expected a list, got 3"),
    ],
)
def test_wrong_names_and_paths_are_told_in_one_line(capsys, tmp_path, arguments, message, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    (tmp_path / "folder").mkdir()
    Image.new("L", (28, 28)).save(tmp_path / "folder" / "a.png")
    (tmp_path / "file.npz").write_text("")
    for name, cases in (("keys", [{"id": "a"}]), ("number", 3)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.json").write_text(json.dumps({"format": 1, "cases": cases}))
    code, _, err = run(capsys, *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith(f"lrp: error: {message}")


def test_a_conformance_case_that_lacks_something_is_wrong(capsys, tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({"format": 1, "cases": [CASE]}))
    code, out, err = run(capsys, "conformance", ".")
    assert (code, err) == (1, "")
    assert "KeyError: 'nodes'" in out


def test_a_wrong_number_of_threads_is_told_in_one_line():
    environment = {**os.environ, "LRP_NUM_THREADS": "many"}
    command = [sys.executable, "-m", "lrp_toolbox", "explain", *LENET]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "lrp: error: LRP_NUM_THREADS: expected a number ≥ 1, got 'many'\n")


def test_errors_of_every_command_name_its_options(capsys):
    code, _, err = run(capsys, "serve", *LENET, "--port", 70000)
    assert (code, err) == (2, "lrp: error: --port: expected a number from 0 to 65535, got 70000\n")
    arguments = _parser().parse_args(["import", "caffe", "a.prototxt", "a.caffemodel", "-o", "mine"])
    assert arguments.parser.words["output"] == "--blob"  # what read_caffe calls so
    assert arguments.parser.words["weights"] == "CAFFEMODEL"


def test_in_options():
    words = {"output": "--blob", "size": "--size", "method": "--method"}
    for message, expected in (
        ("output: expected one", "--blob: expected one"),
        ("method 'z': no", "--method 'z': no"),
        ("a.prototxt: output: 2; say which, output=…", "a.prototxt: output: 2; say which, --blob …"),
        ("give size=(height, width), or size=, the file", "give --size (height, width), or --size, the file"),
        ("hand in as `size` a number", "hand in as `--size` a number"),
        ("outputs: size: 3", "outputs: size: 3"),
        ("--method box:size=3: size: too small", "--method box:size=3: size: too small"),
    ):
        assert in_options(message, words) == expected
    assert in_options("size: 3", {}) == "size: 3"


def test_help_models_and_rules_read_well(capsys):
    for arguments in (["--help"], ["explain", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0
    help_text = capsys.readouterr().out
    assert "examples:" in help_text
    assert "lrp_toolbox 0." in help_text
    code, out, _ = run(capsys, "models")
    assert code == 0
    assert "lenet5-mnist" in out
    assert "61,706 parameters" in out
    code, out, _ = run(capsys, "rules")
    assert code == 0
    for name in ("z ", "epsilon", "alphabeta", "zplus", "gamma", "flat", "wsquare", "zbox"):
        assert f"\n{name}" in out
    code, out, _ = run(capsys, "methods")
    assert code == 0
    assert "\nsmoothgrad " in out
    assert "samples=25, noise=0.15, seed=0" in out


def test_composites_as_they_are_typed(lenet):
    assert parse_composite("cmp:alpha=1,flat=3,pooling=yes,eps=0.1", lenet).name == "LRP_CMP:α1+♭(3)"
    first = parse_composite("cmp:first=zbox,flat=0", lenet).entries[0][1]
    assert first == ZBox(*lenet.bounds)
    assert parse_composite("flat", lenet).entries[0][1] == Flat()


def test_the_installed_command_and_a_reader_who_has_seen_enough():
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-m", "lrp_toolbox", "rules"]
    whole = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert whole.stderr == ""
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == ""

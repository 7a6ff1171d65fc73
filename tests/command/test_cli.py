"""The command `lrp`: what it prints, what it leaves, and one line with exit code 2 for what cannot be done."""

import os
import subprocess
import sys

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image
from support import run

from lrp_toolbox import Flat, ZBox
from lrp_toolbox.attribution import parse_composite
from lrp_toolbox.cli import main

LENET = ["--model", "lenet5-mnist"]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_explains_the_photograph_that_comes_with_the_model(capsys, tmp_path):
    code, out, err = run(capsys, "explain", *LENET)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].endswith("example.png: lenet5-mnist says (logits)")
    assert lines[1].split()[0] == "2"
    assert lines[1].endswith("← explained")
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
    assert "conv1    Conv     28×28×1   ♭      Flat()" in out
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.png"], "nowhere.png: there is no such file"),
        (["text.png"], "text.png: not a picture"),
        (["."], ".: expected a picture, got a folder"),
        (["--target", "kat"], "target: no class 'kat'; there are 0, 1, 2"),
        (["--target", "12"], "target: expected a class from 0 to 9, got 12"),
        (["--composite", "zz"], "method 'zz': there is no 'zz'; there are cmp, z, epsilon, alphabeta"),
        (["--composite", "epsilon:alpha=1"], "method 'epsilon:alpha=1': no parameter 'alpha'; there are eps, bias"),
        (["--method", "epsilon:eps"], "method 'epsilon:eps': expected name=value, got 'eps'"),
        (["--method", "smoothgrad:samples=0"], "samples: expected a whole number ≥ 1, got 0"),
        (["--method", "cam"], "CAM is for nets that end in an average over the whole map"),
        (["--composite", "epsilon:eps=much"], "eps: expected a number, got 'much'"),
        (["--composite", "alphabeta:alpha=-1"], "alpha: expected a finite number ≥ 0, got -1"),
        (["--composite", "cmp:flat=9"], "the first 9 layers are asked for, but there are 2"),
        (["--composite", "cmp:dense=head"], "the pattern 'head' matches no layer"),
        (["--composite", "zbox"], "x: zᴮ expects low ≤ x ≤ high"),
        (["-o", "out.docx"], "out.docx: expected a name that ends in one of .png"),
        (["-o", "no/out.png"], "no/out.png: there is no folder no"),
        (["--top", "0"], "--top: expected a number ≥ 1, got 0"),
        (["--quantile", "2"], "quantile: expected a number in (0, 1], got 2.0"),
        (["--model", "resnet"], "no model 'resnet'"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(capsys, tmp_path, arguments, message):
    (tmp_path / "text.png").write_text("no picture")
    code, _, err = run(capsys, "explain", *LENET, *arguments)
    assert code == 2
    assert err.startswith("lrp: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert [p.name for p in tmp_path.iterdir()] == ["text.png"]


def test_wrong_usage_is_exit_code_2_too(capsys):
    for arguments in ([], ["explane"], ["explain", "--top", "many"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert "Traceback" not in capsys.readouterr().err


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

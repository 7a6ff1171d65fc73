"""The public conformance cases: this package gives every answer, the files are what they say, and errors are found."""

import ast
import json
import re
import subprocess
import sys
from fractions import Fraction

import jsonschema
import pytest
from conftest import ROOT
from support import run

from lrp_toolbox import rules
from lrp_toolbox.conformance import LAYERS, RULES, Numbers, check, default_folder, read_cases, report
from lrp_toolbox.terms import Part

FOLDER = ROOT / "conformance"
CASES = read_cases(FOLDER)
FILES = sorted((FOLDER / "cases").glob("*.json"))


def case(id):
    [found] = [case for case in CASES if case["id"] == id]
    return found


def has_a_root(case):
    """BatchNorm takes a square root, in floats."""
    return any(node["layer"] == "batch_norm" for node in case["net"]["nodes"])


# ---- this package gives every answer ----------------------------------------------------------------------------------


def test_every_case_is_equal_in_fractions():
    for c in CASES:
        result = check(c, Numbers())
        assert result.verdict == ("to rounding" if has_a_root(c) else "exact"), (c["id"], result.difference)


@pytest.mark.parametrize(("arrays", "dtype"), [("numpy", "float64"), ("numpy", "float32"), ("array_api_strict", "float64")])
def test_floats_agree_to_rounding(arrays, dtype):
    every = 1 if arrays == "numpy" else 6  # it takes its time
    for c in CASES[::every]:
        assert check(c, Numbers(arrays, dtype)).verdict == "to rounding", c["id"]


# ---- the files are what they say --------------------------------------------------------------------------------------


def test_there_are_enough_cases_of_every_kind():
    assert len(CASES) >= 400
    assert len({c["id"] for c in CASES}) == len(CASES)
    nodes = [node for c in CASES for node in c["net"]["nodes"]]
    assert {node["layer"] for node in nodes} == set(LAYERS)
    assert {node["rule"]["name"] for node in nodes} >= set(RULES)
    tags = {tag for c in CASES for tag in c["tags"]}
    for tag in (
        *("negative-input", "zero-input", "negative-relevance", "dead-output", "cancellation", "ties", "contrast"),
        *("bias-positive", "bias-negative", "stride", "padded", "dilation", "groups", "ceil-mode"),
        *("bias", "eps", "zero-denominator", "padding"),
    ):
        assert tag in tags, tag
    assert sum(file.stat().st_size for file in FILES) < 1.5e6


def test_the_schema_fits_every_file_and_refuses_others():
    schema = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate({"format": 1, "cases": CASES[::5]})
    first = case("dense/epsilon/plain")
    for key, value in (("output", [0.5]), ("output", ["2/4/6"]), ("tags", "ties"), ("catches", ""), ("more", 1)):
        assert not validator.is_valid({"format": 1, "cases": [first | {key: value}]}), key
    without = {key: value for key, value in first["net"]["nodes"][0]["rule"].items() if key != "sign_of_zero"}
    node = first["net"]["nodes"][0] | {"rule": without}
    assert not validator.is_valid({"format": 1, "cases": [first | {"net": {"output": "dense", "nodes": [node]}}]})


def test_they_are_what_the_generator_writes(tmp_path):
    subprocess.run([sys.executable, FOLDER / "generate.py", tmp_path], check=True, capture_output=True)
    assert sorted(file.name for file in tmp_path.iterdir()) == [file.name for file in FILES]
    for file in FILES:
        assert (tmp_path / file.name).read_bytes() == file.read_bytes(), file.name


def imports(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, file
            yield node.module.partition(".")[0]


def test_the_formulas_share_no_code_with_the_package():
    own = {"formulas", "making", "catalogue"}
    for name in ("formulas.py", "making.py", "catalogue.py", "generate.py", "compare.py"):
        assert set(imports(FOLDER / name)) <= set(sys.stdlib_module_names) | own, name
    assert set(imports(FOLDER / "example.py")) <= set(sys.stdlib_module_names) | {"numpy"}


def leaves(value):
    if isinstance(value, dict):
        value = [v for key, v in value.items() if key != "layer"]
    return [leaf for v in value for leaf in leaves(v)] if isinstance(value, list) else [value]


def test_floats_are_those_nearest_to_the_fractions_and_ledgers_close():
    for c in CASES:
        for key in ("output", "relevance", "ledger"):
            assert [float(Fraction(v)) for v in leaves(c[key])] == leaves(c["float64"][key]), (c["id"], key)
        for other in c["others"]:
            assert [float(Fraction(v)) for v in leaves(other["relevance"])] == leaves(other["float64"]), c["id"]
        for row in c["ledger"]:
            amounts = {name: Fraction(v) for name, v in row.items() if name != "layer"}
            assert amounts.pop("arriving") == sum(amounts.values()), (c["id"], row)


def test_the_page_explains_every_word_of_the_cases():
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    nodes = [node for c in CASES for node in c["net"]["nodes"]]
    words = {node["layer"] for node in nodes} | {node["rule"]["name"] for node in nodes}
    words |= {key for node in nodes for key in (*node, *node["rule"])} - {"name"}
    words |= {key for c in CASES for key in c}
    words -= {"mean", "variance", "beta", "k"}  # in formulas
    for word in words:
        assert re.search(rf"[`\"]{word}[`\"]", page), word
    names = {
        part for c in CASES for other in c["others"] for part in other["convention"].split(", stab")[0].split(", zero")[0:1]
    }
    for name in names:
        bare = name.partition(", batch_norm")[0]
        assert bare.partition("=1e-")[0] in page, name


@pytest.mark.parametrize("name", ["conformance.md", "conventions.md"])
def test_cases_that_a_page_names_exist(name):
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    named = re.findall(r"`((?:contrast|[a-z_0-9]+/[a-z0-9-]+)/[a-z0-9-]+)`", page)
    assert len(named) > 20
    assert set(named) <= {c["id"] for c in CASES}


def test_every_section_on_conventions_of_lrp_names_its_cases():
    page = (ROOT / "docs" / "conventions.md").read_text(encoding="utf-8")
    sections = dict(part.split("\n\n", 1) for part in page.split("\n## ")[1:])
    assert len(sections) > 10
    assert {title for title, text in sections.items() if not text.startswith("Cases: `")} == {"Metrics", "Known errors"}


def test_the_page_says_how_many_cases_there_are():
    assert f"**{len(CASES)} cases" in (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")


# ---- errors are found ---------------------------------------------------------------------------------------------------


def sign_of_the_weight(self, x, w, b):
    return [Part(x * w.pos, b.pos)]


def bias_left_out(self, x, w, b):
    return [Part(x * w)]


def swapped(self, x, w, b):
    positive, negative = x.pos * w.pos + x.neg * w.neg, x.pos * w.neg + x.neg * w.pos
    return [Part(positive, b.neg, share=self.alpha), Part(negative, b.pos, share=1 - self.alpha)]


@pytest.mark.parametrize(
    ("rule", "planted", "id"),
    [
        (rules.ZPlus, sign_of_the_weight, "contrast/sign-of-product"),
        (rules.Z, bias_left_out, "dense/z/bias-positive"),
        (rules.AlphaBeta, swapped, "dense/alphabeta/bias-positive"),
    ],
)
def test_a_planted_error_is_found(monkeypatch, rule, planted, id):
    monkeypatch.setattr(rule, "parts", planted)
    name = rule.__name__.lower()
    results = [check(c, Numbers()) for c in CASES if c["rule"] == name and c["layer"] == "dense"]
    wrong = [result for result in results if result.verdict == "wrong"]
    assert id in [result.case["id"] for result in wrong]
    smallest = min(wrong, key=lambda result: result.size)
    assert smallest.case["id"] in report(results)
    assert smallest.case["catches"] in report(results)


def test_an_answer_of_another_shape_or_without_a_layer_is_wrong():
    first = case("dense/z/plain")
    assert "shape" in check(first | {"output": [[1]]}, Numbers()).difference
    assert "'nobody'" in check(first | {"relevance": first["relevance"] | {"nobody": [1]}}, Numbers()).difference


def test_a_convention_that_the_package_does_not_have_is_no_error():
    first = case("dense/z/plain")
    [node] = first["net"]["nodes"]
    other = node | {"rule": node["rule"] | {"zero_denominator": "1/1000"}}
    result = check(first | {"net": {"output": "dense", "nodes": [other]}}, Numbers())
    assert (result.verdict, result.difference) == ("cannot express", "dense: no zero_denominator '1/1000'")


# ---- the command --------------------------------------------------------------------------------------------------------


def written(folder, *cases):
    (folder / "cases").mkdir()
    (folder / "cases" / "some.json").write_text(json.dumps({"format": 1, "cases": cases}), encoding="utf-8")
    return folder


def test_the_command_prints_a_table(capsys, tmp_path):
    code, out, _ = run(capsys, "conformance", written(tmp_path, case("dense/z/plain"), case("dense/gamma/plain")))
    assert code == 0
    assert re.search(r"^layer +z +γ$", out, re.MULTILINE)
    assert re.search(r"^dense +1= +1=$", out, re.MULTILINE)
    assert "2 cases: 2 exact =" in out


def test_the_command_says_what_is_wrong(capsys, tmp_path):
    good = case("dense/z/plain")
    bad = good | {"id": "mine/z/bad", "relevance": good["relevance"] | {"input": [0, 0, "1/7"]}}
    code, out, _ = run(capsys, "conformance", written(tmp_path, good, bad), "--dtype", "float64")
    assert code == 1
    assert re.search(r"^dense +1≈ 1✗$", out, re.MULTILINE)
    assert "z, dense: mine/z/bad" in out
    assert "relevance of input at [0]: expected 0, got " in out


def test_the_command_refuses_what_it_cannot_read(capsys, tmp_path):
    assert run(capsys, "conformance", tmp_path)[0] == 2
    (tmp_path / "cases.json").write_text("{", encoding="utf-8")
    code, _, err = run(capsys, "conformance", tmp_path)
    assert code == 2
    assert "no JSON" in err
    (tmp_path / "cases.json").write_text('{"format": 2, "cases": [1]}', encoding="utf-8")
    assert "expected format 1, got 2" in run(capsys, "conformance", tmp_path)[2]
    assert "has no fractions" in run(capsys, "conformance", "--arrays", "array_api_strict", "--dtype", "fraction")[2]


def test_the_cases_of_a_clone_are_found():
    assert default_folder() == FOLDER


def test_an_installed_package_has_the_cases():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"share/lrp_toolbox/conformance/cases" = ["conformance/cases/*.json"]' in text


# ---- without this package -----------------------------------------------------------------------------------------------


def test_the_stranger_agrees_and_is_short():
    script = FOLDER / "example.py"
    assert len(script.read_text(encoding="utf-8").splitlines()) <= 150
    out = subprocess.run([sys.executable, script], check=True, capture_output=True, encoding="utf-8").stdout
    [agree] = re.findall(r"^(\d+) cases agree", out)
    assert int(agree) >= 250
    assert "wrong" not in out
    assert f"{agree} cases agree" in (ROOT / "docs" / "conformance.md").read_text(encoding="utf-8")


def test_adapters_are_short():
    adapters = sorted((FOLDER / "adapters").glob("*_adapter.py"))
    assert len(adapters) == 5
    for file in adapters:
        assert len(file.read_text(encoding="utf-8").splitlines()) <= 60, file.name


def compare(tmp_path, *answers):
    files = []
    for k, given in enumerate(answers):
        files.append(tmp_path / f"{k}.json")
        files[-1].write_text(json.dumps({"toolbox": f"toolbox {k}", "version": "1", "answers": given}), encoding="utf-8")
    command = [sys.executable, FOLDER / "compare.py", *files]
    return subprocess.run(command, check=True, capture_output=True, encoding="utf-8").stdout


def test_the_comparison_tells_conventions_from_errors(tmp_path):
    ours = {c["id"]: {"relevance": c["float64"]["relevance"]["input"]} for c in CASES}
    tie, part, plain = case("contrast/ties-share"), case("contrast/bias-both-parts"), case("dense/z/plain")
    theirs = {id: {"cannot": "no"} for id in ours} | {
        tie["id"]: {"relevance": tie["others"][0]["float64"]},
        part["id"]: {"relevance": part["others"][0]["float64"]},
        plain["id"]: {"relevance": [float("nan")] * 3},
    }
    out = compare(tmp_path, ours, theirs)
    assert "all agree" in out
    assert re.search(r"^winner +max-pooling +◇ ties=first +1 +contrast/ties-share$", out, re.MULTILINE)
    assert re.search(r"^alphabeta +dense +✗ b_j in both parts +1 +contrast/bias-both-parts$", out, re.MULTILINE)
    assert re.search(r"^z +dense +✗ not a number +1 +dense/z/plain$", out, re.MULTILINE)

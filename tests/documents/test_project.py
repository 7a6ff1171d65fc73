"""The files around the package agree with each other: versions and dates, the steps of CI, the versions of Python."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT

import lrp_toolbox


def text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def released():
    """(version, date) of the newest entry of the changelog; the date is None if it is not released."""
    version, date = re.search(r"^## (\S+), (unreleased|\d{4}-\d\d-\d\d)$", text("CHANGELOG.md"), re.MULTILINE).groups()
    return version, None if date == "unreleased" else date


def test_changelog_citation_and_package_agree_on_the_version_and_its_date():
    version, date = released()
    citation = dict(re.findall(r"^(version|date-released): (.+)$", text("CITATION.cff"), re.MULTILINE))
    assert version == lrp_toolbox.__version__
    assert citation == {"version": version} | ({} if date is None else {"date-released": date})


def test_what_is_said_of_a_release_is_true_of_it():
    """Pages that say "not released yet" have to change with the release."""
    version, date = released()
    for page in ("SECURITY.md", "docs/stability.md"):
        assert (f"{version} is not released yet" in text(page)) == (date is None), page


def test_the_sessions_of_nox_are_the_steps_of_ci():
    body = ast.parse(text("noxfile.py")).body
    # `nox -s fuzz mutation` takes hours, and is no step of CI
    sessions = [f.name for f in body if isinstance(f, ast.FunctionDef) and ast.unparse(f.decorator_list[0]) == "nox.session"]
    steps = re.findall(r'^echo "== (.*)"$', text(".ci/run"), re.MULTILINE)
    named = [name for step in steps for name in re.findall(r"\b(?:lint|types|tutorials|site|tests)\b", step.partition(":")[0])]
    assert sessions == named == ["lint", "types", "tutorials", "site", "tests"]
    for command in ("ruff check .", "ruff format --check .", "mypy"):
        assert re.search(rf"^{re.escape(command)}$", text(".ci/run"), re.MULTILINE)
        assert ", ".join(f'"{word}"' for word in command.split()) in text("noxfile.py")


def test_tools_are_pinned_before_each_commit():
    hooks = text(".pre-commit-config.yaml")
    assert set(re.findall(r'"((?:ruff|mypy).*?)[\d.]+"', hooks)) == {"ruff==", "mypy=="}
    assert len(set(re.findall(r'"ruff==([\d.]+)"', hooks))) == 1  # check and format are the same ruff
    project = tomllib.loads(text("pyproject.toml"))["project"]
    extras = [need for extra in project["optional-dependencies"].values() for need in extra]
    for need in re.findall(r'- "(\w+>=[\d.]+)"', hooks):  # what mypy looks into, as the package asks for it
        assert need in project["dependencies"] + extras, need


def test_the_workflow_begins_with_the_oldest_python_that_the_package_takes():
    versions = re.findall(r'"(3\.\d+)"', text(".github/workflows/ci.yml"))
    assert versions == ["3.11", "3.12", "3.13", "3.14"]
    assert tomllib.loads(text("pyproject.toml"))["project"]["requires-python"] == f">={versions[0]}"


BENCHMARKS = [
    "benchmarks",
    *(f"benchmarks.{name}" for name in ("where", "scale", "imports", "compare_onnx", "networks", "keras_applications")),
]


@pytest.mark.parametrize("command", BENCHMARKS)
def test_benchmarks_begin(command):
    """They are not run here, but what they import is there."""
    code = f"import importlib; importlib.import_module({command + ('.__main__' if command == 'benchmarks' else '')!r})"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_benchmark_says_where_the_time_goes(tmp_path):
    command = [sys.executable, "-m", "benchmarks.where", "--net", "vgg16:size=8,depth=1", "--runs", "1"]
    command += ["--method", "forward", "cmp_alpha2_flat", "--weights", tmp_path]
    printed = subprocess.run(command, cwd=ROOT, check=True, timeout=120, capture_output=True, text=True).stdout
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.splitlines() if line.startswith("| ")]
    milliseconds = {(method, kernel): int(clock) for method, kernel, calls, clock, _ in rows[1:]}
    kernels = {kernel for method, kernel in milliseconds if method == "cmp_alpha2_flat"}
    assert {"all", "the rest", "correlate", "correlate_T", "dense", "dense_T"} <= kernels
    assert ("forward", "correlate") in milliseconds
    assert ("forward", "correlate_T") not in milliseconds


def test_benchmark_goes_through_the_convolutions_one_by_one():
    command = [sys.executable, "-m", "benchmarks.where", "--layers", "--runs", "1"]
    printed = subprocess.run(command, cwd=ROOT, check=True, timeout=120, capture_output=True, text=True).stdout
    assert len(re.findall(r"^\| \d+ → \d+, \d+² \| [\d.]+ \[[\d.]+–[\d.]+\] (\| [\d.]+ ){3}\|$", printed, re.MULTILINE)) == 9

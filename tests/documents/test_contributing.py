"""The recipes of CONTRIBUTING, followed to the letter in a copy of the project: what they say to run passes."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
STEP = re.compile(
    r"\b(?:in|at the end of)\s+`(?P<file>[\w/]+\.(?:py|md))`(?:, above `(?P<above>\w+)`)?"
    r"|(?P<block>^ *```(?P<kind>python|diff)\n(?P<code>.*?)^ *```$)",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)


def recipe(title, since=None, until=None):
    """The text below a heading, or the part of it between two phrases."""
    text = re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL).group(1)
    start = 0 if since is None else text.index(since)
    return text[start : None if until is None else text.index(until)]


PASSING = "**It works on each x by itself"
RECIPES = {
    "rule": recipe("How to add a rule"),
    "layer that mixes": recipe("How to add a layer", until=PASSING),
    "layer that passes": recipe("How to add a layer", since=PASSING),
}


def follow(text, root):
    """Do what a recipe says with the files of `root`: each block of code belongs to the file that was named last."""
    file = above = None
    for step in STEP.finditer(text):
        if step["file"]:
            file, above = root / step["file"], step["above"]
            continue
        indent = re.match(" *", step["block"]).group()
        code = re.sub(f"^{indent}", "", step["code"], flags=re.MULTILINE)
        before = "\n" + file.read_text(encoding="utf-8")
        if step["kind"] == "diff":
            after = before
            for hunk in code.split("@@\n"):
                gone = "".join(line[1:] for line in hunk.splitlines(keepends=True) if line[0] in " -")
                come = "".join(line[1:] for line in hunk.splitlines(keepends=True) if line[0] in " +")
                assert after.count(f"\n{gone}") == 1, f"{file}: expected once, found {after.count(gone)} times:\n{gone}"
                after = after.replace(f"\n{gone}", f"\n{come}")
        elif above:
            assert len(re.findall(rf"^{above}\b", before, re.MULTILINE)) == 1, f"{file}: {above}"
            after = re.sub(rf"^(?={above}\b)", lambda _, code=code: f"{code}\n\n", before, flags=re.MULTILINE)
        else:
            after = f"{before}\n\n{code}"
        file.write_text(after[1:], encoding="utf-8")


@pytest.fixture
def copy(tmp_path):
    for name in ("lrp_toolbox", "tests"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    (tmp_path / "models").symlink_to(ROOT / "models", target_is_directory=True)
    return tmp_path


def run(command, copy, **environment):
    tool, *arguments = command.split()
    called = [sys.executable, *arguments] if tool == "python3" else [sys.executable, "-m", tool, *arguments]
    done = subprocess.run(called, cwd=copy, env=os.environ | environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def commands(name):
    """The lines of commands of a recipe."""
    return [line.split(" && ") for line in re.findall(r"^ +((?:python3 -m pytest|ruff) .*)$", RECIPES[name], re.MULTILINE)]


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_work_to_the_letter(name, copy):
    follow(RECIPES[name], copy)
    *tests, lint = commands(name)
    assert tests
    assert [command.split()[0] for command in lint] == ["ruff", "ruff", "mypy"]
    options = "-n0 -q -x -p no:cacheprovider"
    for [command] in tests:
        run(command, copy, HYPOTHESIS_PROFILE="quick", LRP_TOOLBOX_SKIPS="", PYTEST_ADDOPTS=options)


def test_recipes_keep_to_the_style_and_the_types(copy):
    """All of them together: checking types takes its time, though less where the project's own have been checked."""
    pytest.importorskip("ruff", reason="ruff and mypy, of the extra dev, are not installed")
    for text in RECIPES.values():
        follow(text, copy)
    if (ROOT / ".mypy_cache").is_dir():
        shutil.copytree(ROOT / ".mypy_cache", copy / ".mypy_cache")
    for command in commands("rule")[-1]:
        run(command, copy)

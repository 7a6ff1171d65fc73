"""Every tutorial has its notebook: the very same cells, no output, and made by the command that CONTRIBUTING gives."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

TUTORIALS = sorted((ROOT / "tutorials").glob("*.py"))
NOTEBOOKS = ROOT / "notebooks"
each_tutorial = pytest.mark.parametrize("tutorial", TUTORIALS, ids=lambda path: path.stem)


def cells(tutorial):
    """(kind, text) of each cell of a tutorial: what stands between lines that begin with # %%, and not as jupytext reads it."""
    found = []
    for cell in re.split(r"^# %%", tutorial.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]:
        head, _, body = cell.partition("\n")
        lines = body.strip().splitlines()
        if head.strip() == "[markdown]":
            assert all(line == "#" or line.startswith("# ") for line in lines), lines
            found.append(("markdown", "\n".join(line[2:] for line in lines)))
        else:
            assert head == "", f"a cell begins with # %%{head}"
            found.append(("code", "\n".join(lines)))
    return found


def test_every_tutorial_has_its_notebook_and_every_notebook_its_tutorial():
    assert [path.stem for path in TUTORIALS] == sorted(path.stem for path in NOTEBOOKS.iterdir())
    assert TUTORIALS


@each_tutorial
def test_a_notebook_is_its_tutorial_and_nothing_else(tutorial):
    notebook = json.loads((NOTEBOOKS / f"{tutorial.stem}.ipynb").read_text(encoding="utf-8"))
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]] == cells(tutorial)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    for cell in notebook["cells"]:
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)


@each_tutorial
def test_a_notebook_shows_the_figures_that_a_tutorial_saves(tutorial):
    """Those of pyplot are shown by themselves; others where they stand at the end of a cell."""
    for kind, text in cells(tutorial):
        statements = ast.parse(text).body if kind == "code" else []
        calls = [node.func for statement in statements for node in ast.walk(statement) if isinstance(node, ast.Call)]
        if any(isinstance(call, ast.Name) and call.id == "save_picture" for call in calls):
            last = statements[-1]
            assert isinstance(last, ast.Expr), f"end the cell with the name of its figure: {text}"
            assert isinstance(last.value, ast.Name), f"end the cell with the name of its figure: {text}"


def test_the_command_changes_nothing_where_nothing_has_changed(tmp_path):
    """And where a cell has changed, the others stay as they are."""
    pytest.importorskip("jupytext", reason="jupytext, of the extra dev, is not installed")
    command = re.search(r"^    jupytext (.*)$", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    *options, scripts = command.group(1).split()
    for name in ("tutorials", "notebooks", "pyproject.toml"):
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile)(ROOT / name, tmp_path / name)

    def run():
        tutorials = sorted(map(str, tmp_path.glob(scripts)))
        called = [sys.executable, "-m", "jupytext", "--quiet", *options, *(os.path.relpath(t, tmp_path) for t in tutorials)]
        subprocess.run(called, cwd=tmp_path, check=True)

    def contents(root):
        files = [*(root / "tutorials").glob("*.py"), *(root / "notebooks").glob("*.ipynb")]
        return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}

    before = contents(ROOT)
    run()
    assert contents(tmp_path) == before

    changed = tmp_path / "tutorials" / TUTORIALS[0].name
    changed.write_text(changed.read_text(encoding="utf-8") + "\n# %%\nprint('one more')\n", encoding="utf-8")
    run()
    after = contents(tmp_path)
    notebook = f"notebooks/{TUTORIALS[0].stem}.ipynb"
    assert {name for name in after if after[name] != before[name]} == {notebook, f"tutorials/{TUTORIALS[0].name}"}
    old, new = json.loads(before[notebook])["cells"], json.loads(after[notebook])["cells"]
    assert new[:-1] == old
    assert new[-1]["source"] == ["print('one more')"]

"""Every tutorial has its notebook: the same cells, with what they print and draw, made by docs/make_notebooks.py."""

import ast
import json
import re
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
def test_a_notebook_has_the_cells_of_its_tutorial(tutorial):
    notebook = json.loads((NOTEBOOKS / f"{tutorial.stem}.ipynb").read_text(encoding="utf-8"))
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]] == cells(tutorial)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


@each_tutorial
def test_a_notebook_shows_what_its_cells_print_and_draw(tutorial):
    """All cells were run, one after the other and without an error; and there is a picture."""
    file = NOTEBOOKS / f"{tutorial.stem}.ipynb"
    code = [cell for cell in json.loads(file.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data", "execute_result"}
    assert any("image/jpeg" in output.get("data", {}) for output in outputs)


@each_tutorial
def test_a_notebook_is_small_and_names_no_folder_of_the_machine_that_made_it(tutorial):
    text = (NOTEBOOKS / f"{tutorial.stem}.ipynb").read_text(encoding="utf-8")
    assert len(text) < 300_000
    assert not re.search(r"[\" '(](/tmp|/home|/root|/work|/Users|[A-Z]:\\\\)", text)


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


def test_the_command_makes_the_notebook_again(tmp_path):
    """The same cells with the same ids, and the same text."""
    for module in ("jupytext", "nbclient", "ipykernel"):
        pytest.importorskip(module, reason=f"{module}, of the extra dev, is not installed")
    command = [sys.executable, ROOT / "docs" / "make_notebooks.py", "01", "--out", tmp_path]
    subprocess.run(command, check=True, capture_output=True)
    [made] = tmp_path.iterdir()

    def shown(file):
        """What does not depend on the version of Matplotlib."""
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        printed = ["".join(output.get("text", "")) for cell in cells for output in cell.get("outputs", [])]
        return [(cell["id"], cell["cell_type"], cell["source"]) for cell in cells], printed

    assert shown(made) == shown(NOTEBOOKS / made.name)
    assert made.stem == TUTORIALS[0].stem


def test_the_command_refuses_names_that_no_tutorial_has(tmp_path):
    pytest.importorskip("jupytext", reason="jupytext, of the extra dev, is not installed")
    command = [sys.executable, ROOT / "docs" / "make_notebooks.py", "99", "--out", tmp_path]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 2
    assert "no tutorial begins with 99" in done.stderr

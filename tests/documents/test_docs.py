"""The examples of the pages and of the docstrings, run; and the commands that the pages show, as far as they can be typed."""

import doctest
import importlib
import re
import shlex

import pytest
from conftest import ROOT
from support import blocks

import lrp_toolbox
from lrp_toolbox.cli import _parser

COMMAND = re.compile(r"^    (lrp .*(?:\\\n.*)*)|`(lrp [^`]+)`", re.MULTILINE)
SPOKEN_OF = ("lrp explain", "lrp experiment")  # by name only


def text(path):
    return path.read_text(encoding="utf-8")


def name(path):
    return path.relative_to(ROOT).with_suffix("").as_posix()


MADE = {"_build", "results", "notebooks", "tests.md"}
PAGES = {path: text(path) for path in sorted((ROOT / "docs").rglob("*.md")) if not MADE & set(path.parts)}
SOURCES = [path for path in sorted((ROOT / "lrp_toolbox").rglob("*.py")) if ">>> " in text(path)]


def run(test):
    runner = doctest.DocTestRunner()
    runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
    return len(test.examples)


@pytest.mark.parametrize("page", [page for page in PAGES if ">>> " in PAGES[page]], ids=name)
def test_pages(page):
    """All examples of a page, one after the other, as a reader would type them."""
    code = "\n".join(block for block in blocks(PAGES[page]) if ">>> " in block)
    assert run(doctest.DocTestParser().get_doctest(code, {}, page.name, str(page), 0)) == PAGES[page].count(">>> ")


@pytest.mark.parametrize("source", SOURCES, ids=name)
def test_docstrings(source):
    module = importlib.import_module(name(source).replace("/", "."))
    assert sum(run(test) for test in doctest.DocTestFinder().find(module)) == text(source).count(">>> ")


def test_what_is_most_used_has_an_example():
    for used in (lrp_toolbox.explain, lrp_toolbox.rules.share, lrp_toolbox.Composite, lrp_toolbox.Ledger, lrp_toolbox.load):
        assert ">>> " in used.__doc__, used


@pytest.mark.parametrize("page", [page for page in PAGES if COMMAND.search(PAGES[page])], ids=name)
def test_commands_can_be_typed(page):
    for found in COMMAND.finditer(PAGES[page]):
        command = (found[1] or found[2]).replace("\\\n", " ").replace("$SLURM_ARRAY_TASK_ID", "3")
        if command not in SPOKEN_OF:
            _parser().parse_args(shlex.split(command)[1:])

"""The examples of the pages and of the docstrings, run; and the commands that the pages show, as far as they can be typed."""

import doctest
import importlib
import pkgutil
import re
import shlex

import pytest
from conftest import ROOT
from test_readme import blocks

import lrp_toolbox
from lrp_toolbox.cli import _parser

PAGES = sorted(path for path in (ROOT / "docs").rglob("*.md") if not {"_build", "results"} & set(path.parts))
MODULES = [module.name for module in pkgutil.walk_packages(lrp_toolbox.__path__, "lrp_toolbox.")]
COMMAND = re.compile(r"^    (lrp .*(?:\\\n.*)*)|`(lrp [^`]+)`", re.MULTILINE)


def text(page):
    return page.read_text(encoding="utf-8")


def run(test):
    runner = doctest.DocTestRunner()
    runner.run(test)
    assert runner.summarize(verbose=False).failed == 0


@pytest.mark.parametrize("page", [page for page in PAGES if ">>>" in text(page)], ids=lambda page: page.stem)
def test_pages(page):
    """All blocks of a page, one after the other, as a reader would type them."""
    code = "\n".join(block for block in blocks(text(page)) if ">>>" in block)
    assert code.count(">>>") == text(page).count(">>>"), "an example that is not run"
    run(doctest.DocTestParser().get_doctest(code, {}, page.name, str(page), 0))


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_docstrings(name):
    module = importlib.import_module(name)
    for test in doctest.DocTestFinder().find(module, name):
        run(test)


def test_what_is_most_used_has_an_example():
    for function in (lrp_toolbox.explain, lrp_toolbox.rules.share, lrp_toolbox.Composite, lrp_toolbox.Ledger, lrp_toolbox.load):
        assert ">>>" in function.__doc__, function


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_can_be_typed(page):
    for found in COMMAND.finditer(text(page)):
        command = (found[1] or found[2]).replace("\\\n", " ").replace("$SLURM_ARRAY_TASK_ID", "3")
        if command not in ("lrp explain", "lrp COMMAND --help", "lrp experiment"):
            _parser().parse_args(shlex.split(command)[1:])

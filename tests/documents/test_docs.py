"""The examples of pages and docstrings run; the commands of the pages can be typed; what the pages link to exists."""

import doctest
import importlib
import re
import shlex

import numpy as np
import pytest
from conftest import ROOT
from support import blocks

import lrp_toolbox
from lrp_toolbox.attribution import parse_composite
from lrp_toolbox.cli import _parser, main

COMMAND = re.compile(r"^    (lrp (?:[^\\\n]|\\\n)*)|`(lrp [^`]+)`", re.MULTILINE)
SPOKEN_OF = {
    "lrp explain",
    "lrp experiment",
    "lrp import caffe",
    "lrp import keras",
    "lrp import torch",
    "lrp import onnx",
    "lrp import original",
    "lrp patterns",
}  # by name only


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
    for used in (lrp_toolbox.explain, lrp_toolbox.rules.relprop, lrp_toolbox.Composite, lrp_toolbox.Ledger, lrp_toolbox.load):
        assert ">>> " in used.__doc__, used


@pytest.mark.parametrize("page", [page for page in PAGES if COMMAND.search(PAGES[page])], ids=name)
def test_commands_can_be_typed(page):
    for found in COMMAND.finditer(PAGES[page]):
        command = (found[1] or found[2]).replace("\\\n", " ").replace("$SLURM_ARRAY_TASK_ID", "3")
        if command not in SPOKEN_OF:
            _parser().parse_args(shlex.split(command, comments=True)[1:])


def test_the_output_of_the_command_is_what_start_shows(monkeypatch, tmp_path, capsys):
    """The same words, and the same numbers to 1 %; but not those of ε and rounding, which depend on the machine."""
    command, shown = re.search(r"```\n\$ lrp (.*?)\n(.*?)```", PAGES[ROOT / "docs/start.md"], re.DOTALL).groups()
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 0
    printed = capsys.readouterr().out.replace(f"{ROOT.as_posix()}/", "")
    assert len(printed.splitlines()) == len(shown.splitlines())
    for a, b in zip(printed.splitlines(), shown.splitlines(), strict=True):
        for x, y in zip(a.split(), b.split(), strict=True):
            if not re.fullmatch(r"[-−]?\d[\d.]*(e-?\d+)?", y):
                assert x == y or {x, y} <= set("+−-")
            elif abs(number := float(y.replace("−", "-"))) > 1e-4:
                assert float(x.replace("−", "-")) == pytest.approx(number, rel=0.01)


def test_one_image_is_measured_as_the_page_says(data, capsys):
    [code] = [block for block in blocks(PAGES[ROOT / "docs/howto/reproduce.md"]) if "localisation" in block]
    exec(code.replace("../shared/data", data.as_posix()), {})
    mu, mu_w = (np.fromstring(part, sep=" ") for part in re.findall(r"\[(.*?)\]", capsys.readouterr().out))
    assert ((mu > 0) & (mu < 1) & (mu_w > mu)).all()


def test_every_rule_has_its_formula_its_picture_and_its_name_on_the_command_line():
    page = PAGES[ROOT / "docs/rules.md"]
    model = lrp_toolbox.load("lenet5-mnist")
    rows = re.findall(r"^\| \[(\S+)\]\(#(\S+)\) \|.*\| `(\w+\(.*?\))` \| `(\S+?)` \|", page, re.MULTILINE)
    for symbol, place, python, typed in rows:
        section = re.search(rf"^\({place}\)=\n## (.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)[1]
        assert section.startswith(symbol)
        assert "**Use it**" in section
        expected = eval(python, vars(lrp_toolbox) | {"low": model.bounds[0], "high": model.bounds[1]})
        if not isinstance(expected, lrp_toolbox.Composite):
            assert symbol == expected.symbol
            assert "$$R_i = " in section
            assert "```{image} figures/rules/" in section
            expected = lrp_toolbox.uniform(expected)
        assert parse_composite(typed, model) == expected, (python, typed)
    assert {symbol for symbol, *_ in rows} == {rule.symbol for rule in lrp_toolbox.RULES} | {"LRP_CMP"}


PICTURE = re.compile(r"```\{(?:image|figure)\} (\S+)\n((?::.*\n)*)")


@pytest.mark.parametrize("page", [page for page in PAGES if PICTURE.search(PAGES[page])], ids=name)
def test_pictures_exist_and_are_described(page):
    for file, options in PICTURE.findall(PAGES[page]):
        assert file.startswith("results/") or (page.parent / file).exists(), file
        assert re.search(r"^:alt: \S", options, re.MULTILINE), file


def test_pictures_are_small():
    """But for Figure 1, which the README shows at its full size."""
    pictures = [file for file in (ROOT / "docs/figures").rglob("*") if file.suffix in {".jpg", ".png", ".svg"}]
    assert pictures
    for file in pictures:
        assert file.stat().st_size < 100_000, file


TEST = re.compile(r"\{test\}`([\w/]+\.py)::(\w+)`")


def test_every_decision_links_to_a_test_that_exists():
    page = PAGES[ROOT / "docs/decisions.md"]
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| question ")]
    assert rows
    for row in rows:
        [(file, test)] = TEST.findall(row)
        assert re.search(rf"^def {test}\(", text(ROOT / "tests" / file), re.MULTILINE), row


def test_links_between_pages_lead_somewhere():
    """Files and, where one is named, the headings within them; links that leave the site are not followed."""
    made = {"results", "notebooks", "changes.md"}
    for page, content in PAGES.items():
        for file, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)", content):
            target = (page.parent / file).resolve() if file else page
            inside = target.relative_to(ROOT / "docs")
            if inside.parts[0] == "notebooks":
                assert (ROOT / inside).exists(), (page, file)
            elif inside.parts[0] not in made:
                assert target.exists(), (page, file)
                if anchor:
                    headings = [
                        re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-")
                        for h in re.findall(r"^#+ (.*)$", PAGES[target], re.MULTILINE)
                    ]
                    assert anchor in headings + re.findall(r"^\((.+)\)=$", PAGES[target], re.MULTILINE), (page, file, anchor)

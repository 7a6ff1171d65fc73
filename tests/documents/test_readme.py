"""What the README shows runs, and says what it says."""

import re

import pytest
from conftest import ROOT
from support import blocks

import lrp_toolbox as lrp

README = (ROOT / "README.md").read_text(encoding="utf-8")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def block(word):
    """The one block of the README's Python in which that word stands."""
    [found] = [code for code in blocks(README) if word in code]
    return found


def test_ten_lines_of_python(monkeypatch, tmp_path, capsys):
    code = block("save_picture").replace('"models/', f'"{ROOT.as_posix()}/models/')
    monkeypatch.chdir(tmp_path)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    exec(code, {})
    out = capsys.readouterr().out
    assert out.startswith("['cat' 'dog'] [")
    assert "block1_conv1" in out
    assert (tmp_path / "cat-overlay.png").exists()


def test_output_of_the_command(monkeypatch, tmp_path, capsys):
    """What the README says that the command prints, it prints: words, and numbers to 1 %, but for ε and rounding."""
    from lrp_toolbox.cli import main

    command, shown = re.search(r"```\n\$ lrp (.*?)\n(.*?)```", README, re.DOTALL).groups()
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 0
    printed = capsys.readouterr().out.replace(f"{ROOT.as_posix()}/", "")
    assert len(printed.splitlines()) == len(shown.splitlines())
    for a, b in zip(printed.splitlines(), shown.splitlines(), strict=True):
        assert len(a.split()) == len(b.split())
        for x, y in zip(a.split(), b.split(), strict=True):
            number = re.fullmatch(r"-?\d[\d.]*(e-?\d+)?", y)
            if number and abs(float(y)) > 1e-4:
                assert float(x) == pytest.approx(float(y), rel=0.01)
            elif not number and x not in "+−-":
                assert x == y


def test_rules_on_the_command_line_are_those_of_the_table():
    from lrp_toolbox.attribution import parse_composite

    model = lrp.load("lenet5-mnist")
    for python, typed in re.findall(r"\| `(\w+\(.*?\))` \| `(\S+?)`", README):
        spec = parse_composite(typed, model)
        expected = eval(python, vars(lrp) | {"low": model.bounds[0], "high": model.bounds[1]})
        expected = expected if isinstance(expected, lrp.Composite) else lrp.uniform(expected)
        assert spec == expected, (python, typed)


def test_files_that_are_named_exist():
    for text in (README, CONTRIBUTING, (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")):
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (ROOT / link).exists(), link

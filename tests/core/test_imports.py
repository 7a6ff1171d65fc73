"""Imports point one way: a module imports only from the layers before its own."""

import ast

from conftest import ROOT

PACKAGE = ROOT / "lrp_toolbox"
LAYERS = [  # from the bottom up; modules of one layer may import each other only within one package
    ("files", "text", "backend", "cached"),
    ("weights", "special"),
    ("kernels",),
    ("terms",),
    ("rules",),
    ("ledger",),
    ("context",),
    ("propagation",),
    ("modules",),
    ("composites",),
]
LATER = len(LAYERS)  # everything else


def layer_of(name):
    return next((k for k, layer in enumerate(LAYERS) if name in layer), LATER)


def imports(file):
    """The parts of the package that a file imports when it is imported itself."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    inside = parts[:-1]
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = inside[: len(inside) - node.level + 1]
            path = (*base, *(node.module.split(".") if node.module else ()))
            yield from [path[0]] if path else [alias.name for alias in node.names]


def test_imports_point_one_way():
    files = [file for file in PACKAGE.rglob("*.py") if file.parent != PACKAGE or not file.stem.startswith("__")]
    assert {name for layer in LAYERS for name in layer} <= {
        file.relative_to(PACKAGE).parts[0].removesuffix(".py") for file in files
    }
    wrong = []
    for file in files:
        own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        for name in imports(file):
            if name != own and (layer_of(name) > layer_of(own) or layer_of(name) == layer_of(own) < LATER):
                wrong.append(f"{file.relative_to(PACKAGE)} imports {name}")
    assert not wrong


def test_the_core_knows_nothing_of_pictures_files_and_commands():
    """Whoever uses the rules from Python does not wait for matplotlib."""
    core = {name for layer in LAYERS for name in layer}
    files = [f for f in PACKAGE.rglob("*.py") if f.relative_to(PACKAGE).parts[0].removesuffix(".py") in core]
    assert len(files) > 15
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert not any(f"import {name}" in text for name in ("matplotlib", "PIL", "argparse")), file

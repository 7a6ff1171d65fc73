"""{test}`core/test_rules.py::test_name` is a link to that test, on a page that shows all tests that are linked."""

import re
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.errors import SphinxError

ROLE = re.compile(r"\{test\}`([\w/]+\.py)::(\w+)`")
TESTS = Path(__file__).parents[2] / "tests"
PAGE = "tests"


def label(file, name):
    return "-".join(re.split(r"\W+", f"{file} {name}")).replace("_", "-").lower()


def page(docs):
    """The page with the source of every test that some page of `docs` links to, as MyST."""
    linked = sorted({found for source in docs.rglob("*.md") for found in ROLE.findall(source.read_text(encoding="utf-8"))})
    parts = [
        "# Tests of the decisions\n\nThe tests that other pages of this site link to, as they are in the folder `tests`.\n"
    ]
    for file, name in linked:
        if not re.search(rf"^def {name}\(", (TESTS / file).read_text(encoding="utf-8"), re.MULTILINE):
            raise SphinxError(f"{file}: there is no test {name}")
        shown = f"```{{literalinclude}} ../tests/{file}\n:pyobject: {name}\n```\n"
        parts.append(f"({label(file, name)})=\n## {name}\n\n`tests/{file}`\n\n{shown}")
    return "\n".join(parts)


def role(name, rawtext, text, lineno, inliner, options=None, content=None):
    file, _, test = text.partition("::")
    shown = nodes.literal(text, test, classes=["test"])
    reference = addnodes.pending_xref(
        rawtext,
        nodes.inline("", "", shown, classes=["xref", "std", "std-ref"]),
        refdomain="std",
        reftype="ref",
        refexplicit=True,
        reftarget=label(file, test),
        refwarn=True,
        refdoc=inliner.document.settings.env.docname,
    )
    return [reference], []


def setup(app):
    app.add_role("test", role)
    return {"parallel_read_safe": True, "parallel_write_safe": True}

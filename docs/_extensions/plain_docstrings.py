"""Our docstrings are plain text. Here it becomes what Sphinx reads, paragraph by paragraph:

what is indented          stands as it is: a formula, an example
name   what it is         a list of names with what they are, when the second column is straight
name : what it is         the same under Parameters
everything else           text, in which * and _ are themselves and `backticks` are code

and the comments beside the fields of a dataclass, where shapes stand, become such a list, too.
"""

import dataclasses
import inspect
import re

FIELD = re.compile(r"^    (\w+): [^#\n]*?  # (.*)$", re.MULTILINE)
PARAMETER = re.compile(r"\w+ : ")
COLUMNS = re.compile(r"\S.*? {2,}(?=\S)")


def as_rst(docstring):
    """The lines of a docstring as lines of reStructuredText."""
    lines = []
    for paragraph in re.split(r"\n\s*\n", "\n".join(docstring).strip("\n")):
        block = paragraph.split("\n")
        if len(block) > 1 and set(block[1]) == {"-"}:
            lines += [f".. rubric:: {block[0]}", ""]
            lines += _named(block[2:], PARAMETER) if block[0] == "Parameters" else _items(block[2:])
        else:
            lines += _set(block)
        lines.append("")
    return lines


def _set(block):
    columns = COLUMNS.match(block[0])
    if block[0].startswith((">>>", "===")):
        return block
    if all(line.startswith("  ") for line in block):
        return ["::", "", *block]
    if columns and all(line[columns.end() - 2 : columns.end()] == "  " for line in block):
        return _named(block, re.compile(f"(?=\\S).{{{columns.end()}}}"))
    return [_plain(line) for line in block]


def _named(block, name):
    """A definition list of lines that begin with a name, and of those that go on with what it is."""
    lines = []
    for line in block:
        begins = name.match(line)
        if begins:
            names = re.split(r",\s*", begins[0].strip(" :"))
            lines += [", ".join(f"``{n}``" for n in names)]
        lines.append("    " + _plain(line[begins.end() if begins else 0 :].strip()))
    return lines


def _items(block):
    return [f"* {_plain(line)}" for line in block]


def _plain(text):
    """Text with nothing special in it but code in backticks."""
    pieces = re.split(r"(``.+?``|`[^`]+`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([\\*_|])", r"\\\1", p) for p in pieces)


def process(app, what, name, obj, options, lines):
    lines[:] = as_rst(lines)
    if what == "class" and dataclasses.is_dataclass(obj):
        own = {field.name for field in dataclasses.fields(obj)}
        for field, comment in FIELD.findall(inspect.getsource(obj)):
            if field in own:
                lines += [f"``{field}``", f"    {_plain(comment)}"]


def alias(app, what, name, obj, options, signature, returns):
    """Types by the names of their aliases, in unions, too, where autodoc shows what it holds them in."""
    held = re.compile(r"TypeAliasForwardRef\('(\w+)'\)")
    return signature and held.sub(r"\1", signature), returns and held.sub(r"\1", returns)


def setup(app):
    app.connect("autodoc-process-signature", alias)
    app.connect("autodoc-process-docstring", process)
    return {"parallel_read_safe": True}

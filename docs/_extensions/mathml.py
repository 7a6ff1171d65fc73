"""Formulas as MathML, which browsers set by themselves: no script, no font and no network is needed."""

import re

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.errors import SphinxError


def mathml(latex: str, display: str) -> str:
    """The formula; raises SphinxError if the converter left some command as it was."""
    html = convert(latex, display=display)
    unknown = re.search(r"\\[A-Za-z]+|>&<", html)
    if unknown:
        raise SphinxError(f"formula {latex!r}: {unknown[0]} is not known")
    return html


def visit_inline(translator, node):
    translator.body.append(mathml(node.astext(), "inline"))
    raise nodes.SkipNode


def visit_block(translator, node):
    tag = re.search(r"\\tag\{(.*?)\}", node.astext())
    label = f'<span class="tag">({tag[1]})</span>' if tag else ""
    formula = re.sub(r"\\tag\{.*?\}", "", node.astext())
    translator.body.append(translator.starttag(node, "div", CLASS="formula"))
    translator.body.append(f"{mathml(formula, 'block')}{label}</div>")
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (visit_inline, None), (visit_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}

"""```{thumbnails}```: the pages of the page's own toctree as a gallery, each by its title and the last picture on it."""

from docutils import nodes
from sphinx import addnodes
from sphinx.errors import SphinxError
from sphinx.util.docutils import SphinxDirective


class Thumbnails(SphinxDirective):
    def run(self):
        return [nodes.container(classes=["gallery"])]


def fill(app, doctree, docname):
    """Now that every page is read, their pictures are known."""
    for gallery in doctree.findall(lambda n: isinstance(n, nodes.container) and "gallery" in n["classes"]):
        gallery += [_card(app, docname, page) for page in _pages(app.env.get_doctree(docname))]


def _pages(doctree):
    return [page for toctree in doctree.findall(addnodes.toctree) for _, page in toctree["entries"]]


def _card(app, docname, page):
    pictures = list(app.env.get_doctree(page).findall(nodes.image))
    if not pictures:
        raise SphinxError(f"{page}: a gallery shows the last picture of each page, and there is none")
    title = app.env.titles[page].astext()
    picture = nodes.image(alt="", **{key: pictures[-1][key] for key in ("uri", "candidates")})
    link = nodes.reference("", "", picture, nodes.inline(text=title), refuri=app.builder.get_relative_uri(docname, page))
    return nodes.container("", nodes.paragraph("", "", link), classes=["card"])


def setup(app):
    app.add_directive("thumbnails", Thumbnails)
    app.connect("doctree-resolved", fill)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}

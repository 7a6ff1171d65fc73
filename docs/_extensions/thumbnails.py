"""A gallery: in the block ```{thumbnails}```, each line is the path of a page, a colon, and a sentence about it.

A card shows the last picture of the page, its title, the sentence, and a link to the notebook itself.
"""

from docutils import nodes
from sphinx import addnodes
from sphinx.errors import SphinxError
from sphinx.util.docutils import SphinxDirective


class Thumbnails(SphinxDirective):
    has_content = True

    def run(self):
        gallery = nodes.container(classes=["gallery"])
        gallery["pages"] = [tuple(part.strip() for part in line.split(":", 1)) for line in self.content if line.strip()]
        return [gallery]


def fill(app, doctree, docname):
    """Now that every page is read, their pictures are known."""
    galleries = list(doctree.findall(lambda n: isinstance(n, nodes.container) and "gallery" in n["classes"]))
    if galleries:
        shown = [page for gallery in galleries for page, _ in gallery["pages"]]
        listed = _pages(app.env.get_doctree(docname))
        if sorted(shown) != sorted(listed):
            raise SphinxError(f"{docname}: the gallery shows {sorted(shown)}, and the toctree has {sorted(listed)}")
    for gallery in galleries:
        gallery += [_card(app, docname, page, sentence) for page, sentence in gallery["pages"]]


def _pages(doctree):
    return [page for toctree in doctree.findall(addnodes.toctree) for _, page in toctree["entries"]]


def _card(app, docname, page, sentence):
    pictures = list(app.env.get_doctree(page).findall(nodes.image))
    if not pictures:
        raise SphinxError(f"{page}: a gallery shows the last picture of each page, and there is none")
    address = app.builder.get_relative_uri(docname, page)
    title = app.env.titles[page].astext()
    picture = nodes.image(alt="", **{key: pictures[-1][key] for key in ("uri", "candidates")})
    link = nodes.reference("", "", picture, nodes.inline(text=title, classes=["title"]), refuri=address)
    notebook = nodes.reference("", "Notebook", refuri=address.removesuffix(".html") + ".ipynb", classes=["notebook"])
    said = nodes.paragraph("", sentence + " ", notebook, classes=["sentence"])
    return nodes.container("", nodes.paragraph("", "", link), said, classes=["card"])


def setup(app):
    app.add_directive("thumbnails", Thumbnails)
    app.connect("doctree-resolved", fill)
    return {"version": "2", "parallel_read_safe": True, "parallel_write_safe": True}

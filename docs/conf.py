"""The documentation site. `python -m sphinx -W --keep-going -b html docs docs/_build/html` builds it, offline."""

import shutil
import sys
from pathlib import Path

import ziamath

from lrp_toolbox import __version__

HERE = Path(__file__).parent
sys.path.append(str(HERE / "_extensions"))

import shown_tests  # noqa: E402

project = "lrp_toolbox"
author = copyright = "The lrp_toolbox developers"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.viewcode",
    "mathml",
    "plain_docstrings",
    "shown_tests",
    "thumbnails",
]
exclude_patterns = ["_build", "_extensions", "_extra"]

# Every reference has to lead somewhere, but for types in signatures that are not ours (there is no network to look them up in)
# or private, and for what a docstring puts in backticks, which is code, and a link only where there is something to it.
nitpicky = True
nitpick_ignore_regex = [("py:class", r"(?!lrp_toolbox\.).*|.*\._\w+"), ("py:obj", r".*")]
default_role = "py:obj"
suppress_warnings = ["myst.header"]  # pages that are put together from parts of others

autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_inherit_docstrings = False  # what Module says once, its forty layers need not repeat
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
ALIASES = "Array BiasPolicy Number Numbers Weights Value Shape Padding Targets Where Start Step Photo Picture Boxes Mask"
autodoc_type_aliases = {name: name for name in ALIASES.split()}  # as they are written, not what they stand for
python_maximum_signature_line_length = 88
add_module_names = False
toc_object_entries_show_parents = "hide"

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 120
nb_execution_raise_on_error = True
nb_merge_streams = True

smartquotes_action = "qe"  # commands have two dashes
html_theme = "furo"
html_title = "lrp_toolbox"
html_static_path = ["_static", str(Path(ziamath.__file__).parent / "fonts" / "STIXTwoMath-Regular.ttf")]
html_extra_path = ["_extra"]  # the notebooks themselves, beside their pages
html_css_files = ["site.css"]
html_js_files = ["copy.js"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False


def gather(folder: str, *patterns: str, into: Path = HERE) -> None:
    """docs/notebooks and docs/results: pages that are written elsewhere; made anew, and ignored by git."""
    source, here = HERE.parent / folder, into / Path(folder).name
    shutil.rmtree(here, ignore_errors=True)
    for file in [file for pattern in patterns for file in source.rglob(pattern)]:
        page = here / file.relative_to(source)
        page.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, page)


gather("notebooks", "*.ipynb")
gather("notebooks", "*.ipynb", into=HERE / "_extra")
gather("experiments/results", "*.md", "fig[23].png")
(HERE / "tests.md").write_text(shown_tests.page(HERE), encoding="utf-8")

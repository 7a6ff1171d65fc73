"""`lrp serve`: a page, on this machine only, on which the rules are chosen by hand and heatmap and ledger follow.

desk      a photograph, what a model says of it, and ways back that share what they have in common
choices   what can be chosen on the page, and what is asked by it: JSON stops there
server    the standard library's HTTP server: one page, one user, no framework to trust or to install
page/     HTML, CSS and JavaScript as they are, with nothing fetched from elsewhere
"""

from .server import serve

__all__ = ["serve"]

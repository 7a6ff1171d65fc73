"""`lrp serve`: a page, for this machine only, where the user chooses the rules and sees heatmap and ledger.

session   one photograph in one model: one forward pass, then many explanations that reuse what they have in common
choices   what the page offers, and what it asks for: from JSON to composites
recipe    the same explanation as a command and as Python code
server    the HTTP server of the standard library, without a framework
page/     HTML, CSS and JavaScript as they are; nothing comes from other machines
"""

from .server import serve

__all__ = ["serve"]

"""How much the tests see: mutants of the core, and which of them no test kills: `python -m mutation` (see `__main__`)."""

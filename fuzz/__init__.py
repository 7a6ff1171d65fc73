"""Broken and hostile files, for every reader of the package: `python -m fuzz` (see `__main__`)."""

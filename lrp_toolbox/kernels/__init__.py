"""The fast paths of `apply` and `apply_T`. `modules/windows.py` is the plain reference; the numbers are the same."""

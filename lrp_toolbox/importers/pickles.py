"""Pickles, which every importer refuses."""

from __future__ import annotations

import zipfile
from pathlib import Path

from ..io import BROKEN_ZIP, ModelFormatError

PICKLES = (".pth", ".pt", ".pkl", ".pickle", ".ckpt", ".joblib")


def refuse_pickle(path: Path) -> None:
    """Raise ModelFormatError if `path` is a pickle, as torch.save writes it. It is not opened as one."""
    with path.open("rb") as file:
        beginning = file.read(2)
    if beginning == b"PK":
        try:
            with zipfile.ZipFile(path) as archive:
                found = any(name.endswith("data.pkl") for name in archive.namelist())
        except BROKEN_ZIP:
            found = path.suffix in PICKLES
    else:
        found = beginning[:1] == b"\x80" or path.suffix in PICKLES
    if found:
        raise ModelFormatError(
            f"{path}: found a pickle. A pickle can run any code when it is opened, so it is not opened. "
            "PyTorch makes a .safetensors of a state_dict, which `lrp import torch` reads:\n"
            "import torch; from safetensors.torch import save_file;\n"  # semicolons: the command prints one line
            f"state = torch.load({str(path)!r}, map_location='cpu', weights_only=True);\n"
            f"save_file(state, {str(path.with_suffix('.safetensors'))!r})"
        )

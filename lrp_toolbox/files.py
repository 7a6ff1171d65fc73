"""Files and folders that appear whole or not at all: they are written under a temporary name, then renamed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, for the block to write; it becomes `path` when the block ends without an error.

    The temporary name keeps the ending of `path`, from which writers of pictures know their format. What `path` was before
    stays until then. Raises FileNotFoundError if the folder of `path` does not exist.
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist")
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    except OSError as error:
        error.filename = str(path)  # and not the temporary name
        raise
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, for the block to fill; it becomes `path` when the block ends without an error.

    What `path` was before stays until then, and is gone afterwards. Missing parents are made.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as temporary:
        new, old = Path(temporary) / "new", Path(temporary) / "old"
        new.mkdir()
        yield new
        if path.exists():
            path.rename(old)
        try:
            new.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise


def require_no_file(name: str, path: Path) -> None:
    """Raise ValueError if `path`, the argument `name`, is a file where a folder is or will be."""
    if path.exists() and not path.is_dir():
        raise ValueError(f"{name}: {path}: expected a folder, found a file")


def write_text(path: Path, text: str) -> Path:
    """`text` as UTF-8 in the file `path`, with line ends as they are."""
    with new_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
    return path


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask

"""Measuring many images: on whichever executor, a few ahead at a time, each kept as soon as it is done.

Work goes through the standard `concurrent.futures.Executor`: this process, several on this machine, or a Dask cluster. A run
that is killed, or loses workers, goes on where it was: what is in the store is not measured again.
"""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import __version__
from ..data import Item
from ..kernels.cpu import threads
from .measure import Measurement, wanted
from .store import Found, Store

FAILURES = 10  # images that may fail before a run gives up


def measure(
    measurement: Measurement,
    items: Sequence[Item],
    outputs: Mapping[str, int],
    store: Store,
    executor: Executor,
    ahead: int,
    progress: bool = True,
) -> None:
    """Measure the items that are not in the store, up to `ahead` of them at a time, and put them there.

    An image that cannot be measured does not keep the others from it. Raises ValueError at the end, with what was wrong,
    and nothing of it is in the store, so that the next run tries it again.
    """
    done = store.done()
    waiting = iter([item for item in items if item.id not in done])
    pending: dict[Future[Found], Item] = {}
    failed: list[str] = []
    already = sum(item.id in done for item in items)
    bar = tqdm(total=len(items), initial=already, unit="image", desc=measurement.name, disable=not progress, smoothing=0.02)
    with bar, store.open() as writer:
        try:
            while True:
                for item in waiting:
                    pending[executor.submit(measurement, item, wanted(item, outputs))] = item
                    if len(pending) >= ahead:
                        break
                if not pending:
                    break
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    item = pending.pop(future)
                    try:
                        writer.add(future.result())
                    except (ValueError, TypeError, OSError) as error:
                        failed.append(f"{item.id}: {error}")
                    bar.update()
                if len(failed) >= FAILURES:
                    break
        finally:
            for future in pending:
                future.cancel()
    if failed:
        raise ValueError(f"{len(failed)} images could not be measured, and may be tried again: {'; '.join(failed)}")


# ---- Executors -------------------------------------------------------------------------------------------------------


@contextmanager
def executing(workers: int = 1, dask: str | None = None) -> Iterator[tuple[Executor, int]]:
    """An executor, and how many images it should have ahead: this process; `workers` processes; or a Dask cluster.

    Several processes share the threads that one would have.
    """
    if dask is not None:
        with _dask(dask) as found:
            yield found
    elif workers == 1:
        with ThreadPoolExecutor(1) as one:
            yield one, 2
    else:
        if workers < 1:
            raise ValueError(f"workers: expected a number ≥ 1, got {workers}")
        each = max(1, threads() // workers)
        with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_keep_to, initargs=(each,)) as several:
            try:
                yield several, 2 * workers
            except BrokenExecutor as error:
                raise ValueError(f"a worker died ({error}); {KEPT}") from error


KEPT = "all that was done is kept: run this again"


def _keep_to(n: int) -> None:
    os.environ["LRP_NUM_THREADS"] = str(n)


@contextmanager
def _dask(address: str) -> Iterator[tuple[Executor, int]]:
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise ValueError('--dask needs the extra "cluster": pip install "lrp_toolbox[cluster]"') from error
    with Client(address) as client:
        cores = max(1, sum(client.ncores().values()))
        with client.get_executor(pure=False) as executor:
            try:
                yield executor, 3 * cores
            except (KilledWorker, CancelledError) as error:  # an image that killed one worker after the other; no scheduler
                raise ValueError(f"the cluster gave up ({error}); {KEPT}") from error


# ---- What a run says of itself ---------------------------------------------------------------------------------------


def provenance(command: Sequence[str]) -> dict[str, Any]:
    """What measured: the versions, the commit, a digest of this package's source, the machine, and the command."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "pillow"))
    return {
        "version": __version__,
        "commit": _commit(),
        "code": code(),
        "packages": packages,
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "command": " ".join(command),
    }


@cache
def code() -> str:
    """A digest of the source of this package: whatever it says differently may give other numbers."""
    root, digest = Path(__file__).resolve().parent.parent, hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _commit() -> str:
    """The commit of the working copy that this is, and whether something was changed since."""
    root = Path(__file__).resolve().parent.parent.parent
    if not (root / ".git").exists():
        return "none: installed"
    try:
        changes = "" if _git(root, "status", "--porcelain", "-uno") == "" else " and changes"
        return _git(root, "rev-parse", "--short=12", "HEAD") + changes
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"lrp: the commit is not known: {error}", file=sys.stderr)
        return "unknown"


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", root, *words], capture_output=True, text=True, check=True).stdout.strip()


def digest(folder: Path) -> str:
    """A digest of the files that the model in a folder is made of, its patterns among them."""
    whole = hashlib.sha256()
    for name in ("model.json", "weights.npz", "patterns.npz"):
        if (folder / name).is_file():
            whole.update(name.encode() + b"\0" + hashlib.sha256((folder / name).read_bytes()).digest())
    return whole.hexdigest()[:16]

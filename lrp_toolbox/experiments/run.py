"""Measuring many images on an executor. Each image is stored as soon as it is measured.

All work goes through the standard `concurrent.futures.Executor`: this process, several processes of this machine, or a Dask
cluster. A run that was killed or has lost workers can be started again: images in the store are not measured again.
"""

from __future__ import annotations

import hashlib
import os
import platform
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    BrokenExecutor,
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    wait,
)
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from typing import Any

from tqdm import tqdm

from .. import __version__
from ..data import Item
from ..kernels.threads import threads
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
    """Measure the items that are not in the store, and store them. At most `ahead` items are given to the executor at a time.

    If an image cannot be measured, the others still are. At the end, ValueError says what was wrong. Nothing of such an image
    is stored, so that the next run tries it again. If the store cannot be written, OSError ends the run.
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
                        found = future.result()
                    except (ValueError, TypeError, OSError) as error:
                        failed.append(f"{item.id}: {error}")
                    else:
                        writer.add(found)
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
    """An executor, and the number of images to give it at a time: this thread; `workers` processes; or a Dask cluster.

    Several processes share the threads that one process would use. If the block raises an error, running tasks are given up.
    """
    if dask is not None:
        with _dask(dask) as found:
            yield found
    elif workers == 1:
        yield ThisThread(), 1
    else:
        each, before = max(1, threads() // workers), active_children()
        with ProcessPoolExecutor(workers, get_context("spawn"), initializer=_begin_worker, initargs=(each,)) as several:
            try:
                yield several, 2 * workers
            except BrokenExecutor as error:
                raise ValueError(f"a worker died ({error}); {KEPT}") from error
            except BaseException:  # Ctrl-C, for example: do not wait for images that are being measured
                for process in active_children():
                    if process not in before:
                        process.terminate()
                raise


KEPT = "all that was done is kept: run this again"


class ThisThread(Executor):
    """Does each task at once, in the thread that submits it, where Ctrl-C interrupts it."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def _begin_worker(n: int) -> None:
    """Use n threads, leave Ctrl-C to the process that started this one, and end when it ends, even if it is killed."""
    os.environ["LRP_NUM_THREADS"] = str(n)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(parent_process(),), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


@contextmanager
def _dask(address: str) -> Iterator[tuple[Executor, int]]:
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise ValueError('--dask needs the extra "cluster": pip install "lrp_toolbox[cluster]"') from error
    try:
        client = Client(address)
    except ValueError as error:
        raise ValueError(f"dask: expected the address of a scheduler, got {address!r}: {error}") from error
    with client:
        cores = max(1, sum(client.ncores().values()))
        with client.get_executor(pure=False) as executor:
            try:
                yield executor, 3 * cores
            except (KilledWorker, CancelledError) as error:  # an image that killed one worker after the other; no scheduler
                raise ValueError(f"the cluster gave up ({error}); {KEPT}") from error
            except BaseException:  # as above
                executor.shutdown(wait=False)
                raise


# ---- Provenance ------------------------------------------------------------------------------------------------------


def provenance(command: Sequence[str]) -> dict[str, Any]:
    """The versions, the commit, a digest of this package's source, the machine, and the command."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "pillow"))
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
    """A digest of the source of this package: other source may give other numbers."""
    root, digest = Path(__file__).resolve().parent.parent, hashlib.sha256()
    for file in sorted(root.rglob("*.py")):
        digest.update(str(file.relative_to(root)).encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def _commit() -> str:
    """The commit of this working copy, and whether it has changes since."""
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
    """A digest of the files of a model, with its patterns."""
    whole = hashlib.sha256()
    for name in ("model.json", "weights.npz", "patterns.npz"):
        if (folder / name).is_file():
            whole.update(name.encode() + b"\0" + hashlib.sha256((folder / name).read_bytes()).digest())
    return whole.hexdigest()[:16]

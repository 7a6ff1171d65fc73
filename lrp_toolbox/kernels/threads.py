"""The threads of this process: they share the tasks of one kernel, or each of them has an explanation of its own.

The number of threads is LRP_NUM_THREADS, or as many as this process may use. While they work, each has one BLAS thread.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from time import perf_counter
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

Array = Any  # numpy.ndarray, wherever it stands here
SHORT = 0.02  # seconds


def threads() -> int:
    """How many threads work on a layer: LRP_NUM_THREADS, or as many as this process may use."""
    asked = os.environ.get("LRP_NUM_THREADS", "")
    if asked:
        if not asked.isdecimal() or int(asked) < 1:
            raise ValueError(f"LRP_NUM_THREADS: expected a number ≥ 1, got {asked!r}")
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def spread(work: Callable[[Any], None], tasks: Iterable[Any]) -> None:
    """`work(task)` for every task, by all threads that are free, and by this one: each takes the next as soon as it is free.

    A single task is done with all of BLAS' threads. What is spread from within a task is done by the thread that has it.
    """
    waiting, n = deque(tasks), threads()
    alone = len(waiting) == 1 < n or busy()

    def take() -> None:
        _local.busy = True
        try:
            while waiting:
                try:
                    task = waiting.popleft()
                except IndexError:  # another thread was faster
                    return
                work(task)
        except BaseException:
            waiting.clear()
            raise
        finally:
            _local.busy = False

    with _workers.in_kernel():
        if alone:
            for task in waiting:
                work(task)
            return
        with _workers.spreading() as others_at_work:
            helpers = min(n - others_at_work, len(waiting)) - 1
            futures = [_workers.pool(n - 1).submit(take) for _ in range(helpers)]
            try:
                take()
            finally:
                begun = [future for future in futures if not future.cancel()]  # the rest would find nothing to do
                wait(begun)
        for future in begun:
            future.result()


@contextmanager
def turn() -> Iterator[None]:
    """Wait until fewer explanations are under way than there are threads; then this one is.

    Several at once share the threads instead of splitting their layers. More than there are threads would be slower than one
    after the other: their arrays would push each other out of the cache, and each would hold its activations meanwhile.
    Short ones take their turn one by one: they are mostly Python's own work, which one thread at a time can do.
    """
    if getattr(_local, "in_turn", False):
        yield
        return
    with _workers.lock:
        while _workers.in_turn >= (1 if _workers.last < SHORT else threads()):
            _workers.next.wait()
        _workers.count(in_turn=1)
    _local.in_turn = True
    start = perf_counter()
    try:
        yield
    finally:
        _local.in_turn = False
        with _workers.lock:
            _workers.last = perf_counter() - start
            _workers.count(in_turn=-1)
            _workers.next.notify(threads())


class _Workers:
    """The pool of threads, and how many are at work."""

    def __init__(self) -> None:
        self.limit: Any = None
        self.last = SHORT  # how many seconds the last explanation took
        self.callers: set[int] = set()  # the threads that are in a kernel
        self.start_afresh()

    def start_afresh(self) -> None:
        """A forked child has this thread only, and perhaps locks that other threads held."""
        lock = threading.RLock()
        self.next, self.idle = threading.Condition(lock), threading.Condition(lock)
        self.lock, self.forking = lock, 0
        self.callers &= {threading.get_ident()}
        self.pools: dict[int, ThreadPoolExecutor] = {}
        self.in_turn, self.at_work = int(getattr(_local, "in_turn", False)), int(busy())
        self.count()

    def pool(self, n: int) -> ThreadPoolExecutor:
        with self.lock:
            if n not in self.pools:
                self.pools[n] = ThreadPoolExecutor(n, thread_name_prefix="lrp")
            return self.pools[n]

    def hold(self) -> None:
        """Before a fork: no other thread is in a kernel, and none begins. What BLAS locks would stay locked in the child."""
        self.lock.acquire()
        self.forking += 1
        while self.callers - {threading.get_ident()}:
            self.idle.wait()

    def go_on(self) -> None:
        self.forking -= 1
        self.idle.notify_all()
        self.lock.release()

    @contextmanager
    def in_kernel(self) -> Iterator[None]:
        """Within, no other thread forks. Without the lock, except beside a fork: small kernels would wait for each other."""
        caller = threading.get_ident()
        if busy() or caller in self.callers:
            yield
            return
        self.callers.add(caller)
        if self.forking:
            self._leave(caller)
            with self.lock:
                while self.forking:
                    self.idle.wait()
                self.callers.add(caller)
        try:
            yield
        finally:
            self._leave(caller)

    def _leave(self, caller: int) -> None:
        self.callers.discard(caller)
        if self.forking:
            with self.lock:
                self.idle.notify_all()

    @contextmanager
    def spreading(self) -> Iterator[int]:
        """Within, this thread works on tasks. Gives how many others work, too, on tasks or explanations of their own."""
        with self.lock:
            others = max(self.at_work, self.in_turn - 1)
            self.count(at_work=1)
        try:
            yield others
        finally:
            with self.lock:
                self.count(at_work=-1)

    def count(self, in_turn: int = 0, at_work: int = 0) -> None:
        """BLAS keeps to one thread while ours are at work on tasks or in turn; the last to leave gives it back the others."""
        self.in_turn += in_turn
        self.at_work += at_work
        limited = self.at_work > 0 or (self.in_turn > 0 and self.in_turn >= min(2, threads()))
        if limited == (self.limit is not None):
            return
        for library in _blas().lib_controllers:
            if hasattr(library, "clear_controlling_thread"):  # else only the first thread that sets a limit could change it
                library.clear_controlling_thread(force=True)
        if limited:
            self.limit = _blas().limit(limits=1)
        else:
            self.limit.restore_original_limits()
            self.limit = None


@cache
def _blas() -> Any:
    return ThreadpoolController().select(user_api="blas")


def busy() -> bool:
    """Whether this thread is at work on a task already."""
    return getattr(_local, "busy", False)


def scratch(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Memory that this thread uses again and again: fresh memory would be paged in anew each time."""
    size = int(np.prod(shape)) * dtype.itemsize
    held = _local.__dict__.get(name)
    if held is None or held.nbytes < size:
        held = _local.__dict__[name] = np.empty(size, np.uint8)
    return held[:size].view(dtype).reshape(shape)


_local = threading.local()
_workers = _Workers()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_workers.hold, after_in_parent=_workers.go_on, after_in_child=_workers.start_afresh)

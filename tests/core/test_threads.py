"""Threads: every task is done once, several explanations share them, and a forked child has its own."""

import gc
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import lrp_toolbox as lrp
from lrp_toolbox import kernels
from lrp_toolbox.kernels import threads as workers


def blas_threads():
    return [library.num_threads for library in workers._blas().lib_controllers]


def test_work_within_work_does_not_wait_for_itself(monkeypatch):
    monkeypatch.setenv("LRP_NUM_THREADS", "2")
    done = []
    workers.spread(lambda i: workers.spread(lambda j: done.append((i, j)), range(3)), range(4))
    assert sorted(done) == [(i, j) for i in range(4) for j in range(3)]


def test_every_task_is_done_once_and_none_after_an_error(monkeypatch):
    monkeypatch.setenv("LRP_NUM_THREADS", "3")
    done = []
    workers.spread(done.append, range(1000))
    assert sorted(done) == list(range(1000))

    def fail(task):
        raise ValueError(f"task {task}")

    with pytest.raises(ValueError, match="task 0"):
        workers.spread(fail, range(1))
    with pytest.raises(ValueError, match="task"):
        workers.spread(fail, range(1000))
    workers.spread(done.append, range(3))  # and the threads are there for the next
    assert len(done) == 1003


def test_blas_has_its_threads_back_afterwards():
    before = blas_threads()
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRP_NUM_THREADS", "2")
        workers.spread(lambda task: seen.append(blas_threads()), range(4))
        with pytest.raises(ZeroDivisionError):
            workers.spread(lambda task: 1 / 0, range(4))
    assert seen == [[1] * len(before)] * 4
    assert blas_threads() == before


def test_blas_has_all_its_threads_for_a_single_task_and_one_beside_ours(monkeypatch):
    """Three, on any machine and whatever the environment says."""
    monkeypatch.setenv("LRP_NUM_THREADS", "2")
    seen = []
    with workers._blas().limit(limits=3):
        many, one = blas_threads(), [1] * len(blas_threads())
        for _ in range(2):
            for tasks in (1, 4):
                workers.spread(lambda task: seen.append(blas_threads()), range(tasks))
            with workers.turn():  # one explanation alone shares the threads of its kernels
                seen.append(blas_threads())
        assert blas_threads() == many != one
    assert seen == [many, one, one, one, one, many] * 2


def test_the_number_of_threads_is_asked_for(monkeypatch):
    monkeypatch.delenv("LRP_NUM_THREADS", raising=False)
    assert workers.threads() >= 1
    monkeypatch.setenv("LRP_NUM_THREADS", "3")
    assert workers.threads() == 3
    for wrong in ("0", "two", "-1", "1.5"):
        monkeypatch.setenv("LRP_NUM_THREADS", wrong)
        with pytest.raises(ValueError, match="LRP_NUM_THREADS: expected a number ≥ 1, got"):
            workers.threads()


def test_any_thread_can_limit_blas(monkeypatch):
    """The thread that did so first is not the only one that can: threadpoolctl 3.8 would have it so."""
    monkeypatch.setenv("LRP_NUM_THREADS", "2")
    workers.spread(lambda task: None, range(4))  # this thread
    seen = []
    with ThreadPoolExecutor(1) as other:
        other.submit(workers.spread, lambda task: seen.append(blas_threads()), range(4)).result()
    assert seen == [[1] * len(seen[0])] * 4
    workers.spread(lambda task: seen.append(blas_threads()), range(4))
    assert seen == [[1] * len(seen[0])] * 8


class Counting(lrp.ReLU):
    """A layer that counts how many explanations are in it at a time."""

    now, most, lock = 0, 0, threading.Lock()

    def forward(self, x):
        with self.lock:
            Counting.now += 1
            Counting.most = max(Counting.most, Counting.now)
        time.sleep(0.02)
        with self.lock:
            Counting.now -= 1
        return super().forward(x)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_as_many_explanations_at_once_as_there_are_threads(monkeypatch, n):
    monkeypatch.setenv("LRP_NUM_THREADS", str(n))
    monkeypatch.setattr(workers._workers, "last", 1.0)
    net = lrp.Sequential(lrp.Linear(np.ones((4, 3))), Counting())
    Counting.most = 0
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda k: lrp.explain(net, np.ones(4) + k, 0), range(24)))
    assert Counting.most == n


def test_an_explanation_that_fails_ends_its_turn(monkeypatch):
    monkeypatch.setenv("LRP_NUM_THREADS", "1")
    net = lrp.Linear(np.ones((4, 3)))
    for _ in range(3):
        with pytest.raises(ValueError, match="zᴮ expects"):
            lrp.explain(net, np.ones(4), 0, lrp.ZBox(2, 3))
    with kernels.turn(np.ones(1)):  # and one within another does not wait for it
        assert lrp.explain(net, np.ones(4), 0).R.shape == (4,)


def test_explanations_at_once_do_not_split_their_layers(monkeypatch):
    """Two threads at work, and two explanations: each stays in its own thread."""
    monkeypatch.setenv("LRP_NUM_THREADS", "2")
    monkeypatch.setattr(workers._workers, "last", 1.0)
    start, seen = threading.Barrier(2), []

    def explanation():
        with workers.turn():
            start.wait()
            names = set()
            workers.spread(lambda task: (names.add(threading.get_ident()), time.sleep(0.001)), range(20))
            seen.append((names, blas_threads()))
            start.wait()
            return threading.get_ident()

    with ThreadPoolExecutor(2) as pool:
        own = {future.result() for future in [pool.submit(explanation) for _ in range(2)]}
    assert [len(names) for names, _ in seen] == [1, 1]
    assert set.union(*(names for names, _ in seen)) == own
    assert all(set(limits) == {1} for _, limits in seen)


@pytest.mark.parametrize(("short", "most"), [(1e9, 1), (0.001, 2)])  # whatever else the machine does meanwhile
def test_short_explanations_go_one_by_one_and_long_ones_at_once(monkeypatch, short, most):
    monkeypatch.setenv("LRP_NUM_THREADS", "2")
    monkeypatch.setattr(workers, "SHORT", short)
    under_way, seen = [], []

    def explanation(_):
        with workers.turn():
            under_way.append(1)
            time.sleep(0.05)
            seen.append(len(under_way))
            under_way.pop()

    explanation(0)  # how long one takes is known from here on
    seen.clear()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(explanation, range(16)))
    assert max(seen) == most


FORKED = """
import os, sys, threading, tracemalloc
import numpy as np
import lrp_toolbox as lrp
from lrp_toolbox.kernels import threads as workers

rng = np.random.default_rng(0)
net = lrp.Sequential(lrp.Conv(rng.standard_normal((3, 3, 3, 16)), padding=1), lrp.ReLU(),
                     lrp.Conv(rng.standard_normal((3, 3, 16, 16)), padding=1), lrp.ReLU(),
                     lrp.Flatten(), lrp.Linear(rng.standard_normal((64 * 64 * 16, 4))))
x = rng.standard_normal((64, 64, 3))
expected = lrp.explain(net, x, 0).R

def child():
    tracemalloc.start()
    held = []
    for _ in range(20):
        assert (lrp.explain(net, x, 0).R == expected).all()
        held.append(tracemalloc.get_traced_memory()[0])
    assert min(held[-5:]) < min(held[:5]) + 300_000, held  # an activation has 524 kB
    names = set()
    workers.spread(lambda task: (names.add(threading.get_ident()), threading.Event().wait(0.002)), range(50))
    assert len(names) == workers.threads() == 2, names
    assert workers._workers.limit is None and workers._workers.in_turn == workers._workers.at_work == 0

def forked(times):
    for _ in range(times):
        if (pid := os.fork()) == 0:
            try:
                child()
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0

if sys.argv[1] == "quiet":
    forked(1)
else:
    end = threading.Event()
    def explain():
        while not end.is_set():
            lrp.explain(net, x, 0)
    others = [threading.Thread(target=explain) for _ in range(3)]
    for other in others:
        other.start()
    try:
        forked(5)
    finally:
        end.set()
        for other in others:
            other.join()
"""


def test_what_an_explanation_used_is_freed_at_once():
    """Arrays in cycles of references would stay until the garbage collector comes."""
    rng = np.random.default_rng(0)
    net = lrp.Sequential(lrp.Conv(rng.standard_normal((3, 3, 3, 4))), lrp.ReLU(), lrp.Flatten(), lrp.Linear(np.ones((144, 2))))
    x = rng.standard_normal((8, 8, 3))
    gc.collect()
    gc.disable()
    try:
        for rule in (*(kind() for kind in lrp.RULES if kind is not lrp.ZBox), lrp.ZBox(-9999, 9999), lrp.lrp_cmp(2)):
            lrp.explain(net, x, 0, rule)
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        assert not [type(o) for o in gc.garbage if isinstance(o, np.ndarray) or type(o).__module__.startswith("lrp_toolbox")]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def test_one_thread_asked_for_is_one_thread_of_blas(monkeypatch):
    monkeypatch.setenv("LRP_NUM_THREADS", "1")
    seen = []
    workers.spread(lambda task: seen.append(blas_threads()), range(1))
    workers.spread(lambda task: seen.append(blas_threads()), range(2))
    assert len(seen) == 3
    assert all(set(limits) == {1} for limits in seen)


def test_one_explanation_and_one_thread_asked_for_is_one_thread_of_blas(monkeypatch):
    monkeypatch.setenv("LRP_NUM_THREADS", "1")
    with workers._blas().limit(limits=3), workers.turn():
        assert set(blas_threads()) == {1}


def test_a_kernel_that_begins_beside_a_fork_goes_on_after_it():
    done = []
    workers._workers.hold()
    other = threading.Thread(target=workers.spread, args=(done.append, range(1)), daemon=True)
    try:
        other.start()
        other.join(0.2)
        assert other.is_alive()
        assert not done
    finally:
        workers._workers.go_on()
    other.join(20)
    assert done == [0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_forgets_the_threads_that_it_has_not():
    workers._workers.pool(1)
    if (pid := os.fork()) == 0:
        os._exit(len(workers._workers.pools))
    assert os.waitpid(pid, 0)[1] == 0
    assert workers._workers.pools


FORK_IN_A_KERNEL = """
import os, sys, threading, time
from lrp_toolbox.kernels import threads as workers
from lrp_toolbox import terms
import numpy as np

class Slow:
    def __init__(self):
        self.reached, self.go_on = threading.Event(), threading.Event()

    def __call__(self, task):
        self.reached.set()
        self.go_on.wait()

def fork():
    if (pid := os.fork()) == 0:
        done = []
        workers.spread(done.append, range(5))
        os._exit(0 if sorted(done) == list(range(5)) and terms.Input(np.ones(3)).pos.array.sum() == 3 else 1)
    assert os.waitpid(pid, 0)[1] == 0

for tasks in (1, 2):  # with BLAS' threads, and with ours
    slow, forked = Slow(), []
    other = threading.Thread(target=lambda: workers.spread(slow, range(tasks)))
    other.start()
    slow.reached.wait()
    forking = threading.Thread(target=lambda: (fork(), forked.append(True)))
    forking.start()
    time.sleep(0.2)
    assert not forked  # a kernel of another thread is at work: in the child, BLAS would keep its locks
    late = []
    beginning = threading.Thread(target=lambda: workers.spread(late.append, range(tasks)))
    beginning.start()
    time.sleep(0.2)
    assert not late  # no other begins, so that the fork need not wait for one after the other
    slow.go_on.set()
    for thread in (forking, other, beginning):
        thread.join(20)
    assert forked
    assert sorted(late) == list(range(tasks))

slow, positive_part = Slow(), terms.positive_part

def slowly(x):
    if threading.current_thread() is other:
        slow(0)
    return positive_part(x)

terms.positive_part = slowly
other = threading.Thread(target=lambda: terms.Input(np.ones(3)).pos)
other.start()
slow.reached.wait()
fork()
slow.go_on.set()
other.join()
workers.spread(lambda task: fork(), range(1))  # nobody waits for itself
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_waits_for_kernels_and_the_child_for_no_lock():
    environment = {**os.environ, "LRP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORK_IN_A_KERNEL], check=True, timeout=60, env=environment)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("when", ["quiet", "while others explain"])
def test_a_forked_child_has_threads_of_its_own_and_keeps_no_array(when):
    environment = {**os.environ, "LRP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED, when], check=True, timeout=300, env=environment)

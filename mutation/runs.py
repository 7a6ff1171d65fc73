"""Runs the tests on one mutant after the other, in processes forked from this one, in a copy of the tree.

First on the tree as it is, where every test has to pass: this measures how long each test takes, and which lines it runs.
A mutant then meets the tests that run its function, the quickest first, until one fails.
"""

from __future__ import annotations

import compileall
import hashlib
import json
import os
import py_compile
import resource
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Generator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import coverage
import pytest

from .mutants import CORE, ROOT, Mutant, functions

CACHE = ROOT / ".cache" / "mutation"
TREE = CACHE / "tree"
TESTS = ("tests/core", "tests/conformance", "tests/experiments/test_metrics.py", "tests/experiments/test_data.py")
WITHOUT = ("tests/core/test_gpu.py", "tests/core/test_fuzz.py")
PROCESSOR = 90.0  # seconds of processor time after which a mutant hangs
AWAKE = 400.0  # seconds in which both processes could run, after which a mutant waits for ever
MEMORY = 8 << 30
# pytest's: a report of a failure can fail itself (INTERNAL), and a conftest.py cannot import a broken package (USAGE)
PASSED, FAILED, INTERRUPTED, INTERNAL, USAGE, NO_TESTS = 0, 1, 2, 3, 4, 5


@dataclass
class Baseline:
    """Of the tree as it is: how long each test takes, and which tests run each line of a file."""

    seconds: dict[str, float] = field(default_factory=dict)
    lines: dict[str, dict[str, list[str]]] = field(default_factory=dict)

    def tests(self, mutant: Mutant, budget: float) -> list[str]:
        """The tests that run its function; of the file, if it is in none or none is known to. The quickest first.

        As many as take `budget` seconds together, as measured on the tree as it is.
        """
        lines = self.lines.get(mutant.file, {})
        within = [span for span in functions((ROOT / mutant.file).read_text(encoding="utf-8")) if mutant.line in span]
        run_it = {test for line in within[-1] for test in lines.get(str(line), ())} if within else set()
        run_it = run_it or {test for tests in lines.values() for test in tests}
        ordered, chosen, total = sorted(run_it & self.seconds.keys(), key=self.seconds.__getitem__), [], 0.0
        for test in ordered:
            total += self.seconds[test]
            if total < budget or not chosen:
                chosen.append(test)
        return chosen


@dataclass(frozen=True)
class Result:
    """`by`: the test that failed, or how else the run ended."""

    killed: bool
    by: str
    seconds: float
    tests: int


def prepare() -> None:
    """A fresh copy of the tree, uncommitted changes included, with compiled files that are checked by their content."""
    shutil.rmtree(TREE, ignore_errors=True)
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (TREE / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, TREE / name)
    compileall.compile_dir(TREE / "lrp_toolbox", quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)


def baseline() -> Baseline:
    """Measured, or as it was measured on the same files. Raises RuntimeError if a test fails."""
    named = [
        path for name in ("lrp_toolbox", *TESTS) for path in [*(TREE / name).rglob("*.py"), *(TREE / "tests").glob("*.py")]
    ]
    texts = (path.read_bytes() for path in sorted({*named, *(TREE / name for name in TESTS if name.endswith(".py"))}))
    stored = CACHE / f"baseline-{hashlib.sha256(b''.join(texts)).hexdigest()[:16]}.json"
    if not stored.exists():
        measured = CACHE / "measured.json"
        measured.unlink(missing_ok=True)
        code, by = _forked(lambda: _measure(measured), 3600, 3600)
        if code != PASSED:
            raise RuntimeError(f"the tests do not pass on the tree as it is: {by}; see {CACHE / 'log'}")
        measured.rename(stored)
    return Baseline(**json.loads(stored.read_text()))


def run(mutant: Mutant, known: Baseline, budget: float) -> Result:
    """What the tests say of a mutant."""
    chosen, path, began = known.tests(mutant, budget), TREE / mutant.file, time.monotonic()
    original = path.read_bytes()
    path.write_text(mutant.code, encoding="utf-8")
    try:
        code, by = _forked(lambda: _pytest(_Chosen(chosen)), PROCESSOR, AWAKE)
    finally:
        path.write_bytes(original)
    if code not in (PASSED, FAILED, INTERRUPTED, INTERNAL, USAGE, NO_TESTS, None):  # 70 is that of `_become`
        raise RuntimeError(f"pytest ended with {code}; see {CACHE / 'log'}\n{mutant}")
    return Result(
        code != PASSED, by or ("" if code == PASSED else "no test could begin"), time.monotonic() - began, len(chosen)
    )


class _Chosen:
    """For pytest: only these tests, in this order; and which one fails first."""

    def __init__(self, tests: list[str]):
        self.place = {test: k for k, test in enumerate(tests)}
        self.files = sorted({test.partition("::")[0] for test in tests})

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted(
            (i for i in items if _function(i.nodeid) in self.place), key=lambda i: self.place[_function(i.nodeid)]
        )

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            (CACHE / "by").write_text(report.nodeid, encoding="utf-8")


class _Measured(_Chosen):
    """For pytest: how long each test takes, and which lines it runs."""

    def __init__(self, cover: coverage.Coverage):
        self.cover, self.known, self.files = cover, Baseline(), list(TESTS)

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.get_closest_marker("slow") is None]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        test, began = _function(item.nodeid), time.process_time()
        self.cover.switch_context(test)
        answer = yield
        self.known.seconds[test] = self.known.seconds.get(test, 0) + time.process_time() - began
        return answer


def _function(nodeid: str) -> str:
    return nodeid.partition("[")[0]


def _measure(into: Path) -> int:
    cover = coverage.Coverage(data_file=None, include=[str(TREE / file) for file in CORE])
    measured = _Measured(cover)
    cover.start()
    code = _pytest(measured)
    cover.stop()
    data = cover.get_data()
    for file in CORE:
        by_line = data.contexts_by_lineno(str(TREE / file))
        measured.known.lines[file] = {str(line): sorted(filter(None, tests)) for line, tests in by_line.items()}
    into.write_text(json.dumps(asdict(measured.known)))
    return code


def _pytest(plugin: _Chosen) -> int:
    sys.dont_write_bytecode = isinstance(plugin, _Measured) is False
    ignored = [f"--ignore={path}" for path in WITHOUT]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning"]  # hypothesis is loaded
    return int(pytest.main([*options, *ignored, *plugin.files], plugins=[plugin]))


def _forked(f: Callable[[], int], processor: float, awake: float) -> tuple[int | None, str]:
    """The exit status of f in a process of its own, or None if it was killed; and what ended it.

    Time in which this process or that one was stopped does not count.
    """
    (CACHE / "by").write_text("")
    pid = os.fork()
    if pid == 0:
        _become(f, processor)
    waited, stopped = 0.0, False
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
        if ended and (os.WIFEXITED(status) or os.WIFSIGNALED(status)):
            break
        stopped = os.WIFSTOPPED(status) if ended else stopped
        time.sleep(0.05)
        waited += 0 if stopped else 0.05
        if waited > awake:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return None, "it waits for ever"
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return None, "it hangs" if number == signal.SIGXCPU else f"signal {number}"
    return os.WEXITSTATUS(status), (CACHE / "by").read_text(encoding="utf-8")


def _become(f: Callable[[], int], processor: float) -> None:
    """f in this process, which has just been forked, and then the end."""
    code = 70
    try:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (int(processor), int(processor) + 5))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        log = os.open(CACHE / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(TREE)
        sys.path[0] = str(TREE)
        code = f()
    except BaseException:  # with os._exit nothing else would print it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

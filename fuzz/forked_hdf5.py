"""The process that reads HDF5 files, forked instead of started: 10,000 starts of Python would take an hour.

The code that reads is the same, `lrp_toolbox/importers/hdf5_child.py`, with the same limits. Every 100th is really started.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

EVERY = 100


class Forked:
    """As much of `subprocess.Popen` as `lrp_toolbox.importers.hdf5` uses."""

    count = 0

    def __new__(cls, command: list[str], **options: Any) -> Any:
        cls.count += 1
        return subprocess.Popen(command, **options) if cls.count % EVERY == 1 else super().__new__(cls)

    def __init__(self, command: list[str], **_: Any):
        question, answer = os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            _become_child(command[3:], question, answer)
        os.close(question[0])
        os.close(answer[1])
        self.stdin, self.stdout = os.fdopen(question[1], "wb"), os.fdopen(answer[0], "rb")
        self.code: int | None = None

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        self.stdin.close()
        self.stdout.close()
        self.wait()

    def kill(self) -> None:
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code


def _become_child(arguments: list[str], question: tuple[int, int], answer: tuple[int, int]) -> None:
    from lrp_toolbox.importers import hdf5_child

    try:
        os.close(question[1])
        os.close(answer[0])
        os.dup2(question[0], 0)
        os.dup2(answer[1], 1)
        sys.stdin, sys.stdout = os.fdopen(0, "r"), os.fdopen(1, "w")
        hdf5_child.main(*arguments)
        sys.stdout.flush()
    except BaseException:
        os._exit(1)
    os._exit(0)


class _Subprocess:
    """The module `subprocess` with another Popen."""

    Popen = Forked

    def __getattr__(self, name: str) -> Any:
        return getattr(subprocess, name)


def install() -> None:
    from lrp_toolbox.importers import hdf5

    hdf5.subprocess = _Subprocess()  # type: ignore[assignment]

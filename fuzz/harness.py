"""Has another process read broken files, with limits on time and memory, and keeps what must not happen."""

from __future__ import annotations

import base64
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from .child import planted
from .formats import FORMATS
from .seeds import ROOT, Files

SECONDS = 5.0  # of processor time, for one file
HANG = 20.0  # after which a process that does not answer is killed: it may wait for a processor
START = 120.0  # for a process to begin


@dataclass(frozen=True)
class Answer:
    """What came of one input: "read", "refused", or "finding", of which `what` says what it is; "unmade" if there was none."""

    outcome: str
    what: str
    seconds: float = 0.0
    memory: int = 0

    @property
    def kind(self) -> str:
        """Findings of the same kind are the same defect, as far as can be seen: numbers and names are left out."""
        head = self.what.split(": ")[:2] if not self.what.startswith("memory") else [self.what[:40]]
        return re.sub(r"0x[0-9a-f]+|[\d,]+ characters", "", ": ".join(head))


class Child:
    """A process of `child.py`, which is started again whenever it hangs or dies."""

    def __init__(self, name: str, seed: int):
        self.name, self.seed = name, seed
        self.process: subprocess.Popen[bytes] | None = None
        self.ended = False  # whether it has closed its channel

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def ask(self, question: dict[str, Any]) -> Answer:
        """What came of it. A file that took too long is tried once more: other work may have been the reason."""
        answer = self._ask(question)
        return self._ask(question) if answer.what == "hang" or answer.seconds > SECONDS else answer

    def _ask(self, question: dict[str, Any]) -> Answer:
        process = self._running()
        assert process.stdin is not None
        process.stdin.write(json.dumps(question).encode() + b"\n")
        process.stdin.flush()
        if self._line(HANG) is None:
            said = self._said()
            self._end()
            return Answer("unmade", said.strip().rpartition("\n")[2])
        found = self._line(HANG)
        if found is None:
            return self._died()
        answer = Answer(**found)
        if answer.seconds > SECONDS and answer.outcome != "finding":
            return Answer("finding", "hang", answer.seconds, answer.memory)
        return answer

    def _running(self) -> subprocess.Popen[bytes]:
        if self.process is None:
            self.folder = tempfile.TemporaryDirectory(prefix="fuzz-")
            self.channel, theirs = os.pipe()
            self.buffer = b""
            command = [sys.executable, "-m", "fuzz.child", self.name, str(self.seed), self.folder.name, str(theirs)]
            path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
            environment = {
                **os.environ,
                "OPENBLAS_NUM_THREADS": "1",
                "LRP_NUM_THREADS": "1",
                "PYTHONPATH": path,
                "TMPDIR": f"{self.folder.name}/tmp",
            }
            self.errors = tempfile.TemporaryFile()  # noqa: SIM115
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=self.errors,
                pass_fds=[theirs],
                env=environment,
                start_new_session=True,
            )
            os.close(theirs)
            first = self._line(START)
            if first is None or first["outcome"] != "read":
                raise RuntimeError(f"{self.name}: the first seed was not read: {first}: {self._said()}")
        return self.process

    def _said(self) -> str:
        """What the process wrote to standard error."""
        assert self.process is not None
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(5)
        self.errors.seek(0)
        return self.errors.read()[-2000:].decode(errors="replace")

    def _line(self, seconds: float) -> dict[str, Any] | None:
        """The next line; None if the process ends, or says nothing for so long."""
        until = time.monotonic() + seconds
        while b"\n" not in self.buffer:
            ready, _, _ = select.select([self.channel], [], [], max(0.0, until - time.monotonic()))
            piece = os.read(self.channel, 1 << 16) if ready else b""
            self.ended = bool(ready) and not piece
            if not piece:
                return None
            self.buffer += piece
        line, _, self.buffer = self.buffer.partition(b"\n")
        found: dict[str, Any] = json.loads(line)
        return found

    def _died(self) -> Answer:
        assert self.process is not None
        what, seconds = "hang", HANG
        if self.ended:
            code = self.process.wait()
            what, seconds = f"crash: {signal.Signals(-code).name if code < 0 else f'exit {code}'}", 0.0
        self._end()
        return Answer("finding", what, seconds)

    def _end(self) -> None:
        if self.process is not None:
            with self.process as process, suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            os.close(self.channel)
            self.errors.close()
            self.folder.cleanup()
            self.process = None


@dataclass
class Report:
    """What came of all mutations of a format. `findings` has the first of each kind: its number, and the answer.

    `unmade` are mutations that this harness itself could not make; they do not count as inputs.
    """

    name: str
    inputs: int = 0
    read: int = 0
    refused: int = 0
    bad: int = 0
    slowest: float = 0.0
    memory: int = 0
    findings: dict[str, tuple[int, Answer]] = field(default_factory=dict)
    unmade: list[str] = field(default_factory=list)

    def add(self, k: int, answer: Answer) -> None:
        if answer.outcome == "unmade":
            self.unmade.append(f"{k}: {answer.what}")
            return
        self.inputs += 1
        self.slowest, self.memory = max(self.slowest, answer.seconds), max(self.memory, answer.memory)
        match answer.outcome:
            case "read":
                self.read += 1
            case "refused":
                self.refused += 1
            case _:
                self.bad += 1
                self.findings.setdefault(answer.kind, (k, answer))

    def row(self) -> tuple[str, ...]:
        return (
            self.name,
            f"{self.inputs:,}",
            f"{self.read:,}",
            f"{self.refused:,}",
            f"{self.bad:,}",
            str(len(self.findings)),
            f"{self.slowest:.2f}",
            f"{self.memory / 2**20:.0f}",
        )


COLUMNS = ("format", "inputs", "read", "refused", "bad", "kinds", "slowest, s", "memory, MiB")


def run(
    name: str, mutations: int, seed: int, out: Path | None = None, tick: Callable[[], Any] = lambda: None, first: int = 0
) -> Report:
    """Read so many broken files of a format. The first input of each kind of finding is made small and kept in `out`."""
    report = Report(name)
    with Child(name, seed) as child:
        for k in range(first, first + mutations):
            report.add(k, child.ask({"k": k}))
            tick()
        if out is not None:
            for n, (kind, (k, answer)) in enumerate(report.findings.items()):
                keep(out / f"{name}-{n}", kind, minimised(child, files_of(name, seed, k), kind), answer)
    return report


def files_of(name: str, seed: int, k: int) -> Files:
    """The k-th mutation again."""
    given = FORMATS[name] if name in FORMATS else planted(name)
    return given.mutated(Random(f"{seed}-{k}"), list(given.make()), list(given.make_rare()))


def keep(folder: Path, kind: str, files: Files, answer: Answer) -> None:
    for name, content in {**files, "FINDING.txt": f"{kind}\n\n{answer.what}\n".encode()}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def minimised(child: Child, files: Files, kind: str, tries: int = 250) -> Files:
    """The files with as much left out as can be, so that the finding is of the same kind."""

    def same(some: Files) -> bool:
        encoded = {path: base64.b64encode(content).decode() for path, content in some.items()}
        return child.ask({"files": encoded}).kind == kind

    if kind == "hang" or not same(files):
        return files
    for path in list(files):
        content, step = files[path], max(1, len(files[path]) // 2)
        while step and tries > 0:
            start = 0
            while start < len(content) and tries > 0:
                shorter = content[:start] + content[start + step :]
                tries -= 1
                if same({**files, path: shorter}):
                    content = shorter
                else:
                    start += step
            step //= 2
        files = {**files, path: content}
    return files

"""Malformed HTTP for `lrp serve`, which runs as it does for a user, in a process of its own."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

from .containers import picture
from .harness import SECONDS, Answer, Report
from .mutators import NUMBERS, STRINGS, any_bytes, encoded, json_text
from .seeds import ROOT, photograph

STATUSES = (200, 400, 403, 404, 408, 409, 410, 411, 413, 414, 415, 431, 501, 505)
HEADERS = (
    b"Content-Security-Policy: default-src 'self'",
    b"X-Content-Type-Options: nosniff",
    b"Cross-Origin-Resource-Policy: same-origin",
)
HOSTS = (
    "evil.example",
    "127.0.0.1",
    "127.0.0.1:80",
    "localhost:{port}",
    "[::1]:{port}",
    "127.0.0.1:{port}.evil.example",
    "evil@127.0.0.1:{port}",
    "127.0.0.1:{port}\x00",
    " 127.0.0.1:{port}",
    "2130706433:{port}",
    "",
    "127.0.0.1:{port}/",
    "http://127.0.0.1:{port}",
)
PATHS = (
    "/..",
    "/../../etc/passwd",
    "//",
    "/%2e%2e/",
    "/photo/",
    "/?x",
    "*",
    "http://127.0.0.1/",
    "/page.js%00",
    "/PAGE.JS",
    "",
    "/" + "a" * 70_000,
    "/é",
    "/\x00",
)
OWN_HOST = rb"Host:[ \t]*(?:127\.0\.0\.1|localhost|\[::1\]):%d[ \t]*[\r\n]"
METHODS = (
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PATCH",
    "get",
    "GE T",
    "",
    "X" * 70_000,
    "_send",
    "send_error",
)
VERSIONS = (
    "HTTP/1.0",
    "HTTP/1.1",
    "HTTP/2.0",
    "HTTP/0.9",
    "HTTP/9.9",
    "HTTP/1",
    "http/1.1",
    "HTTP/1.1.1",
    "HTTP/-1.1",
    "HTTP/1e9.0",
    "HTTP/99999999999.1",
    "",
    "X",
)
NAMES = (
    "X-Model",
    "X-Page",
    "X-Token",
    "Origin",
    "Host",
    "Content-Length",
    "Content-Type",
    "Transfer-Encoding",
    "Expect",
    "Connection",
    "Upgrade",
    "Content-Encoding",
    "Range",
    "Cookie",
    "X" * 70_000,
    "A b",
    "",
    "é",
    "\x00",
)
VALUES = (
    "lenet5-mnist",
    "../../etc",
    "%2e%2e%2f",
    "%ff%fe",
    "%ud800",
    "<img src=x onerror=alert(1)>",
    "chunked",
    "gzip",
    "100-continue",
    "close",
    "keep-alive",
    "application/json",
    "text/plain",
    "null",
    "x" * 65,
    "x" * 70_000,
    *STRINGS[:8],
    *NUMBERS,
)


class Serving:
    """The command, as a user starts it, in an empty folder."""

    def __init__(self, seconds: float = 1.0) -> None:
        """`seconds`: for a request to arrive."""
        self.folder = tempfile.TemporaryDirectory(prefix="fuzz-serve-")
        code = (
            f"import sys, lrp_toolbox.serve.server as s; s.SECONDS = {seconds}; import lrp_toolbox.cli as c; sys.exit(c.main())"
        )
        command = [sys.executable, "-W", "error", "-c", code, "serve", "--model", "lenet5-mnist", "--port", "0", "--no-browser"]
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "LRP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "TMPDIR": self.folder.name,
            "MPLCONFIGDIR": str(ROOT / ".cache" / "fuzz" / "matplotlib"),
        }
        self.errors = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            command, cwd=self.folder.name, env=environment, stdout=subprocess.PIPE, stderr=self.errors, start_new_session=True
        )
        assert self.process.stdout is not None
        found = re.search(rb"http://127\.0\.0\.1:(\d+)/", self.process.stdout.readline())
        if found is None:
            raise RuntimeError(f"lrp serve did not begin: {self.said()}")
        self.port = int(found[1])
        self.host = f"127.0.0.1:{self.port}".encode()
        page = self.send(b"GET / HTTP/1.1\r\nHost: " + self.host + b"\r\n\r\n")
        token = re.search(rb'content="([\w-]{40,})"', page) or re.search(rb"([\w-]{43})", page)
        assert token is not None
        self.token = token[1]

    def __enter__(self) -> Serving:
        return self

    def __exit__(self, *_: object) -> None:
        with self.process, suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.errors.close()
        self.folder.cleanup()

    def send(self, request: bytes, seconds: float = 4 * SECONDS) -> bytes:
        """All that the server answers. Raises TimeoutError if it does not close the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=seconds) as connection:
            with suppress(OSError):  # the server has answered, and closed the connection
                connection.sendall(request)
                connection.shutdown(socket.SHUT_WR)
            found = []
            with suppress(ConnectionError):
                while piece := connection.recv(1 << 16):
                    found.append(piece)
        return b"".join(found)

    def request(self, method: str, path: str, body: bytes = b"", **changes: str) -> bytes:
        """A request as the page makes it."""
        lines = {"Host": self.host.decode()}
        if method == "POST":
            kind = "application/octet-stream" if path == "/photo" else "application/json"
            lines |= {
                "Origin": f"http://{self.host.decode()}",
                "X-Token": self.token.decode(),
                "X-Page": "fuzz",
                "Content-Type": kind,
            }
            lines["Content-Length"] = str(len(body))
        lines |= {name.replace("_", "-"): value for name, value in changes.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body

    def said(self) -> str:
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")

    def memory(self) -> int:
        """The most that the process has taken, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+)", status)
        assert found is not None
        return int(found[1]) << 10


def good(server: Serving) -> list[tuple[bytes, bytes, str]]:
    """(head, body, what the body is) of every kind of request."""
    asked = server.send(server.request("GET", "/choices")).partition(b"\r\n\r\n")[2]
    choices = json.loads(asked)
    opened = io.BytesIO()
    photograph().save(opened, "PNG")
    preset = next(p for p in choices["presets"] if p["name"] == choices["usual"])
    question = {"target": 3, **{key: preset[key] for key in ("groups", "flat", "layers")}, "colours": "day", "photo": None}
    text = json.dumps(question).encode()
    found = [
        (server.request("GET", path), b"", "") for path in ("/", "/models", "/choices", "/example", "/page.js", "/icon.svg")
    ]
    for path, body, kind in (("/photo", opened.getvalue(), "picture"), ("/explain", text, "json"), ("/numbers", text, "json")):
        whole = server.request("POST", path, body)
        found += [(whole[: -len(body)], body, kind)] * 3
    return found


def mutated(rng: Random, server: Serving, known: list[tuple[bytes, bytes, str]]) -> bytes:
    head, body, kind = rng.choice(known)
    if kind and rng.random() < 0.4:
        body = (picture if kind == "picture" else json_text)(rng, body)
        head = re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % len(body), head)
        if rng.random() < 0.7:
            return head + body
    for _ in range(rng.choice((1, 1, 2, 3))):
        lines = head.split(b"\r\n")
        k = min(rng.randrange(1, max(2, len(lines) - 2)), len(lines) - 1)
        name, value = rng.choice(NAMES), rng.choice(VALUES)
        match rng.randrange(12):
            case 0:
                lines[0] = encoded(rng.choice(METHODS)) + b" " + b" ".join(lines[0].split(b" ")[1:])
            case 1:
                lines[0] = b" ".join([lines[0].split(b" ")[0], encoded(rng.choice(PATHS)), b"HTTP/1.1"])
            case 2:
                lines[0] = lines[0].rpartition(b" ")[0] + b" " + encoded(rng.choice(VERSIONS))
            case 3:
                lines[k] = b"Host: " + encoded(rng.choice(HOSTS).format(port=server.port))
            case 4:
                lines.insert(
                    k,
                    encoded(
                        f"Origin: {rng.choice(('null', 'http://evil.example', 'http://' + rng.choice(HOSTS)))}".format(
                            port=server.port
                        )
                    ),
                )
            case 5:
                lines[k] = lines[k].partition(b":")[0] + b": " + encoded(value)
            case 6:
                lines.insert(k, encoded(f"{name}: {value}"))
            case 7:
                lines[k:k] = [lines[k]] * rng.choice((1, 2, 150))
            case 8:
                del lines[k]
            case 9:
                lines[k] = rng.choice((b" folded", b"\tfolded", b"no colon", b": x", b"a:\rb: c", b"\xff: \xfe", b"x" * 70_000))
            case 10:
                return any_bytes(rng, head + body)
            case _:
                lines = b"\r\n".join(lines).replace(b"\r\n", rng.choice((b"\n", b"\r", b"\r\n\r\n", b"\0"))).split(b"\r\n")
        head = b"\r\n".join(lines)
    return head + body


def judged(server: Serving, request: bytes) -> Answer:
    begun = time.perf_counter()
    try:
        answer = server.send(request)
    except OSError as error:
        return Answer("finding", f"no end of the answer: {type(error).__name__}", time.perf_counter() - begun)
    seconds, wrong = time.perf_counter() - begun, ""
    if server.process.poll() is not None:
        wrong = "crash: the server ended"
    elif answer:
        first, head = answer.partition(b"\r\n")[0], answer.partition(b"\r\n\r\n")[0]
        status = re.fullmatch(rb"HTTP/1\.[01] (\d{3}) .*", first)
        asked = request.partition(b"\n")[0]
        if status is None or int(status[1]) not in STATUSES:
            wrong = f"status: {first[:80]!r}"
        elif missing := [name for name in HEADERS if name not in head]:
            wrong = f"headers: {missing[0].decode()} is missing from {first[:80]!r}"
        elif head.count(b"\r\n\r\n") or len(re.findall(rb"(?i)content-length", head)) != 1:
            wrong = "headers: not one length"
        elif server.token in answer and server.token not in request and not re.search(OWN_HOST % server.port, request):
            wrong = "token: given to who must not have it"
        elif status[1] == b"200" and asked.startswith(b"POST") and server.token not in request:
            wrong = "token: not asked for"
    if "Traceback" in server.said():
        wrong = f"terminal: {server.said().strip().splitlines()[-1]}"
    if wrong:
        return Answer("finding", f"{wrong} || {request[:300]!r} || {answer[:200]!r}", seconds)
    return Answer("read" if b" 200 " in answer[:16] else "refused", "", seconds)


def run(mutations: int, seed: int, tick: Callable[[], Any] = lambda: None) -> Report:
    """Send so many malformed requests to one server. Findings also are: a traceback, a written file, more than 1 GiB."""
    report = Report("requests")
    server = Serving()
    try:
        known = good(server)
        for head, body, _ in known:
            if b" 200 " not in server.send(head + body)[:16]:
                raise RuntimeError(f"lrp serve: a good request was refused: {head[:60]!r}")
        for k in range(mutations):
            answer = judged(server, mutated(Random(f"{seed}-{k}"), server, known))
            report.add(k, answer)
            tick()
            if answer.what.startswith(("terminal", "crash")):  # the next are told apart from it
                server.__exit__()
                server = Serving()
        report.memory = server.memory()
        written = [str(path) for path in Path(server.folder.name).rglob("*")]
        if written:
            report.add(mutations, Answer("finding", f"written: {written}"))
        if b" 200 " not in server.send(server.request("GET", "/"))[:16]:
            report.add(mutations, Answer("finding", "dead: the server no longer answers"))
        return report
    finally:
        server.__exit__()

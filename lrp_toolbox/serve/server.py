"""The page over HTTP, on the loopback interface, by the standard library's server.

    GET   /, /page.css, /page.js, /icon.svg    the page, as it was installed; no other file can be named
    GET   /choices     what there is to choose for the model
    GET   /example     the photograph that comes with the model
    POST  /photo       a picture file → what the model says of it
    POST  /explain     a question (see `Choices.read`) → heatmap and ledger

Whoever can open a connection is on this machine, but may be a web page from elsewhere in the user's browser. So the Host
has to be a name of the loopback interface (a foreign name that resolves to it is a DNS rebinding), and a POST has to come
from this very page: by its Origin, and by a token that only the page can read. Nothing is written to disk.

One question is computed at a time. Of the questions of one page only the newest counts: a slider that moves on leaves
none behind that anybody waits for.
"""

from __future__ import annotations

import base64
import io
import json
import math
import secrets
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from importlib.resources import files
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

import numpy as np
from PIL import Image

from .. import render
from ..data.photos import Photo, decode_photo
from ..io import Model
from ..ledger import AMOUNTS, Ledger
from .choices import Choices
from .desk import Desk, settled

LOOPBACK = "127.0.0.1"
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # of uploads; Pillow hands others, such as EPS, to other programs
LARGEST = {"/photo": 30 << 20, "/explain": 64 << 10}  # bytes of a body
TYPES = {"/photo": "application/octet-stream", "/explain": "application/json"}
SECONDS = 20  # in which a request has to have come, and an answer to have been taken
PAGES = 2  # that have a photograph at hand: VGG-16 takes some 0.3 GB for each
SIDE = 720  # pixels of the longer side of what is shown
QUANTILE = 0.999  # of |R|, at which colours are clipped

STATIC = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def serve(model: Model, port: int = 8000) -> None:
    """Serve the page for `model` until the user interrupts it. `port` 0: any that is free.

    Raises ValueError if there is no such port, or if it is taken.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port: expected a number from 0 to 65535, got {port}")
    try:
        server = Server(model, port)
    except OSError as error:
        raise ValueError(f"port: {port} cannot be had ({error.strerror}); give another, or 0 for any that is free") from error
    with server, suppress(KeyboardInterrupt):
        print(f"{model.name}: {server.url} (Ctrl-C ends it)", flush=True)
        server.serve_forever()


class RefusedError(Exception):
    """A request that is answered with an error: the status, and a sentence for the user."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


class Page:
    """A page that is open in a browser: its newest request and, once it has sent a photograph, what is at hand of it."""

    def __init__(self) -> None:
        self.newest = 0
        self.desk: Desk | None = None
        self.view: Photo | None = None


class Server(ThreadingMixIn, TCPServer):
    """The page, its model, and what is at hand for it. A thread for each connection; one of them computes at a time.

    `photo` and `explain` answer a body with an object, or raise RefusedError, or ValueError for what is wrong with the body.
    """  # no HTTPServer, which looks up the name of the host: offline that may take long

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, model: Model, port: int):
        self.model = settled(model)
        self.choices = Choices(self.model)
        self.token = secrets.token_urlsafe(32)
        folder, token = files(__package__).joinpath("page"), self.token.encode()
        contents = {path: folder.joinpath(name).read_bytes() for path, (name, _) in STATIC.items()}
        self.static = {path: (body.replace(b"{{token}}", token), STATIC[path][1]) for path, body in contents.items()}
        self.pages: OrderedDict[str, Page] = OrderedDict()
        self.lock, self.computing = threading.Lock(), threading.Lock()
        super().__init__((LOOPBACK, port), Handler)
        port = self.server_address[1]
        at = "" if port == 80 else f":{port}"  # as browsers have it in Host and Origin
        self.url = f"http://{LOOPBACK}{at}/"
        self.hosts = {f"{name}{at}" for name in (LOOPBACK, "localhost", "[::1]")}

    @contextmanager
    def turn(self, name: str) -> Iterator[tuple[Page, Callable[[], None]]]:
        """The page of that name, once it is its turn, and a function that raises RefusedError when a newer request has come."""
        with self.lock:
            page = self.pages.setdefault(name, Page())
            self.pages.move_to_end(name)
            if len(self.pages) > PAGES:
                self.pages.popitem(last=False)
            page.newest += 1
            mine = page.newest

        def proceed() -> None:
            if page.newest != mine:
                raise RefusedError(409, "a newer question has come")

        with self.computing:
            proceed()
            yield page, proceed

    def photo(self, name: str, body: bytes) -> dict[str, Any]:
        """What the model says of the picture in `body`, which then lies on the desk of the page of that name."""
        with self.turn(name) as (page, _):
            began = time.perf_counter()
            photo = decode_photo(io.BytesIO(body), "photo", formats=FORMATS)
            page.view = _reduced(self.model.preprocessing.view(photo))
            page.desk = None  # the memory of the last one first
            page.desk = Desk(self.model, photo)
            return {
                "height": photo.shape[0],
                "width": photo.shape[1],
                "outputs": [float(y) for y in page.desk.y],
                "photo": _png(page.view),
                "seconds": time.perf_counter() - began,
            }

    def explain(self, name: str, body: bytes) -> dict[str, Any]:
        """Pictures and the ledger for the question in `body`, about the photograph of the page of that name."""
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"question: expected JSON: {error}") from error
        question = self.choices.read(asked)
        with self.turn(name) as (page, proceed):
            if page.desk is None or page.view is None:
                raise RefusedError(410, "the photograph is no longer at hand: send it again")
            began = time.perf_counter()
            with np.errstate(over="ignore", invalid="ignore"):  # `_ledger` says so
                R, ledger, _ = page.desk.explain(question.target, question.composite, proceed)
            taken, booked = time.perf_counter() - began, _ledger(ledger)
            return {
                "overlay": _png(render.overlay(R, page.view, colours=question.colours, quantile=QUANTILE)),
                "heatmap": _png(render.heatmap(R, colours=question.colours, quantile=QUANTILE)),
                "ledger": booked,
                "seconds": taken,
            }


def _reduced(view: Photo) -> Photo:
    """The picture, no larger than it is shown."""
    image = Image.fromarray(np.ascontiguousarray(view))
    image.thumbnail((SIDE, SIDE))
    return np.asarray(image)


def _png(picture: render.Picture) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=1)
    return base64.b64encode(file.getvalue()).decode()


def _ledger(ledger: Ledger) -> dict[str, Any]:
    """Raises ValueError if a number is not finite: JSON has no word for it."""
    columns = (*AMOUNTS, "rounding")
    entries: list[dict[str, Any]] = []
    for entry in ledger:
        amounts = {column: float(getattr(entry, column)) for column in columns}
        if not all(math.isfinite(amount) for amount in amounts.values()):
            raise ValueError("groups: by these rules relevance grows beyond what float32 can hold")
        entries.append({"layer": entry.name, "rule": entry.rule, **amounts})
    return {"start": float(ledger.start), "end": float(ledger.end), "entries": entries}


class _WithDeadline(io.RawIOBase):
    """What a client sends, all of it within so many seconds: one that sends a byte now and then does not hold a thread."""

    def __init__(self, connection: socket.socket, seconds: float):
        self.connection, self.until = connection, time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self.until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self.connection.settimeout(left)
        return self.connection.recv_into(buffer)


class Handler(BaseHTTPRequestHandler):
    """One request a connection, HTTP/1.0: there is nothing to keep alive on a loopback interface."""

    server: Server
    server_version, sys_version = "lrp", ""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_WithDeadline(self.connection, SECONDS))
        self.unread = False

    def finish(self) -> None:
        """What is left of a refused body is read before the connection is closed, or the client would not see the answer."""
        super().finish()
        if self.unread:
            rest, left = _WithDeadline(self.connection, SECONDS), 2 * max(LARGEST.values())
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)
                while left > 0 and (chunk := rest.read(1 << 16)):
                    left -= len(chunk)

    def handle(self) -> None:
        with suppress(ConnectionError, TimeoutError):  # the client has gone, or sleeps
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the page itself says what went wrong."""

    # ---- requests

    def do_GET(self) -> None:
        self._respond(self._get)

    def do_POST(self) -> None:
        self.unread = True
        self._respond(self._post)

    def _respond(self, answer: Callable[[], tuple[bytes, str]]) -> None:
        try:
            self._require_host()
            body, kind = answer()
        except RefusedError as refused:
            self.send_error(refused.status, str(refused))
        except ValueError as error:
            self.send_error(400, " ".join(str(error).split()))
        except (ConnectionError, TimeoutError):
            raise
        except Exception:
            self.send_error(500, "something went wrong that should not; the terminal says what")
            raise
        else:
            self._send(200, body, kind)

    def _get(self) -> tuple[bytes, str]:
        if self.path in self.server.static:
            return self.server.static[self.path]
        if self.path == "/choices":
            return _json({**self.server.choices.as_json(), "largest": LARGEST["/photo"]})
        example = self.server.model.example
        if self.path == "/example" and example is not None:
            return example.read_bytes(), "application/octet-stream"
        raise RefusedError(404, "there is nothing here")

    def _post(self) -> tuple[bytes, str]:
        if self.path not in TYPES:
            raise RefusedError(404, "there is nothing here")
        self._require_page()
        page = self._only("X-Page", 400)
        if not 0 < len(page) <= 64:
            raise RefusedError(400, "X-Page: expected 1 to 64 characters")
        body = self._body()
        return _json((self.server.photo if self.path == "/photo" else self.server.explain)(page, body))

    # ---- what is refused

    def _only(self, name: str, status: int) -> str:
        """The header of that name, which has to be there once."""
        found: list[str] = self.headers.get_all(name, [])
        if len(found) != 1:
            raise RefusedError(status, f"{name}: expected this header once, got it {len(found)} times")
        return found[0]

    def _require_host(self) -> None:
        host = self._only("Host", 403)
        if host not in self.server.hosts:
            raise RefusedError(403, f"Host: expected {self.server.url}, got {host!r}")

    def _require_page(self) -> None:
        if self._only("Origin", 403) != f"http://{self.headers['Host']}":
            raise RefusedError(403, "Origin: requests from other pages are refused")
        if not secrets.compare_digest(self._only("X-Token", 403).encode(), self.server.token.encode()):
            raise RefusedError(403, "X-Token: this page is of another run of lrp serve; reload it")

    def _body(self) -> bytes:
        if "Transfer-Encoding" in self.headers:
            raise RefusedError(411, "Content-Length: expected the size of the body, got a Transfer-Encoding")
        text = self._only("Content-Length", 411)
        if not (text.isascii() and text.isdecimal() and len(text) < 16):
            raise RefusedError(400, "Content-Length: expected a number")
        kind = self._only("Content-Type", 415)
        if kind != TYPES[self.path]:
            raise RefusedError(415, f"Content-Type: expected {TYPES[self.path]}, got {kind!r}")
        size, largest = int(text), LARGEST[self.path]
        if size > largest:
            raise RefusedError(413, f"{self.path[1:]}: {size:,} bytes are too many; {largest:,} is the limit")
        body = self.rfile.read(size)
        self.unread = False
        if len(body) < size:
            raise RefusedError(400, f"Content-Length: expected {size:,} bytes, got {len(body):,}")
        return body

    # ---- answers

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """An error as the page reads it, in place of the standard library's HTML."""
        body, kind = _json({"error": (message or self.responses.get(code, ("error",))[0])[:400]})
        self._send(code, body, kind)

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.connection.settimeout(SECONDS)
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _json(value: dict[str, Any]) -> tuple[bytes, str]:
    return json.dumps(value, ensure_ascii=False).encode(), "application/json; charset=utf-8"

"""The page over HTTP, for this machine only, with the server of the standard library.

    GET   /, /page.css, /page.js, /icon.svg    the page, as it was installed; no other file has a path
    GET   /models      the models that the user can choose
    GET   /choices     what the user can choose for a model
    GET   /example     the photograph that comes with a model
    POST  /photo       a picture file → the outputs of the model
    POST  /explain     a question (see `Choices.read`) → heatmap, ledger, and the same as a command and as code
    POST  /numbers     a question → a .npz file (see `lrp_toolbox.npz`)

The header X-Model names the model; without it, it is the one that the server was started with.

Every client is on this machine, but it may be a foreign web page in the user's browser. So the Host must be a name of the
loopback interface (a foreign name that resolves to it is a DNS rebinding attack), and a POST must come from this very page:
its Origin and a token, which only the page can read, prove it. Nothing is written to disk.

The server computes one question at a time. Of the questions of one page only the newest counts: when a slider moves on, the
older questions end early.
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
import urllib.parse
import webbrowser
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from importlib.resources import files
from socketserver import TCPServer, ThreadingMixIn
from typing import Any

import numpy as np
from PIL import Image

from .. import npz, render
from ..backend import Array
from ..composites import RuleTable
from ..data.photos import Photo, decode_photo
from ..io import Model, available, load
from ..ledger import Ledger
from .choices import Choices, Question
from .recipe import Recipe
from .session import Session, in_steps

LOOPBACK = "127.0.0.1"
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # of uploads; for others, such as EPS, Pillow runs other programs
LARGEST = {"/photo": 30 << 20, "/explain": 64 << 10, "/numbers": 64 << 10}  # bytes of a body
TYPES = {"/photo": "application/octet-stream", "/explain": "application/json", "/numbers": "application/json"}
SECONDS = 20  # for a request to arrive, and for an answer to be read
PAGES = 2  # that keep their photograph in memory: VGG-16 needs some 0.3 GB for each
MODELS = 2  # that stay in memory
SIDE = 1024  # pixels of the longer side of the pictures on the page
QUANTILE = 0.999  # of |R|, where the colours are clipped
TEXT_BROWSERS = ("www-browser", "links", "elinks", "lynx", "w3m")  # they have no JavaScript

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


def serve(model: Model, port: int = 8000, *, browser: bool = True) -> None:
    """Serve the page until the user interrupts it. It starts with `model`; the user can change to any of `available()`.

    `port` 0 takes any free port. With `browser`, the page opens in the user's browser once the server answers.
    Raises ValueError if the port does not exist or is in use.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port: expected a number from 0 to 65535, got {port}")
    try:
        server = Server(model, port)
    except OSError as error:
        raise ValueError(f"port: {port} is not free ({error.strerror}); give another, or 0 for any free port") from error
    with server, suppress(KeyboardInterrupt):
        print(f"{model.name}: {server.url} (Ctrl-C ends it)", flush=True)
        if browser:
            threading.Thread(target=_open_browser, args=(server,), daemon=True).start()
        server.serve_forever()


def _open_browser(server: Server) -> None:
    """Open the page once the server answers. Without a browser, print a line."""
    connection = HTTPConnection(LOOPBACK, server.server_address[1], timeout=SECONDS)
    connection.request("GET", "/")
    connection.getresponse().read()
    connection.close()
    try:
        found = getattr(webbrowser.get(), "name", "") not in TEXT_BROWSERS and webbrowser.open(server.url)
    except webbrowser.Error:
        found = False
    if not found:
        print("No browser was found here. Open the address above in a browser on this machine.", flush=True)


class RefusedError(Exception):
    """A request that gets an error as its answer: the status, and a sentence for the user."""

    def __init__(self, status: int, sentence: str):
        super().__init__(sentence)
        self.status = status


class Page:
    """A page in a browser: the number of its newest request and, after it has sent a photograph, what it looks at."""

    def __init__(self) -> None:
        self.newest = 0
        self.session: Session | None = None
        self.model = ""
        self.view: Photo | None = None


@dataclass(frozen=True, eq=False)
class Loaded:
    """A model in memory, with all that requests need of it. `model` is in steps (see `in_steps`)."""

    model: Model
    choices: Choices
    recipe: Recipe


class Server(ThreadingMixIn, TCPServer):
    """The page, the models, and the photographs of the open pages. A thread for each connection; one computes at a time.

    `photo`, `explain` and `numbers` answer the body of a request. They raise RefusedError, or ValueError if the body is wrong.
    """  # not an HTTPServer: that looks up the name of the host, which may take long without a network

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, model: Model, port: int):
        self.folders = available()
        self.first = next((name for name, folder in self.folders.items() if folder == model.folder), "")
        if not self.first:
            self.first = str(model.folder or model.name)
            if model.folder is not None:
                self.folders = {self.first: model.folder, **self.folders}
        self.lock, self.computing, self.loading = threading.Lock(), threading.Lock(), threading.Lock()
        self.loaded = OrderedDict({self.first: _loaded(model, self.first)})
        self.token = secrets.token_urlsafe(32)
        folder, token = files(__package__).joinpath("page"), self.token.encode()
        contents = {path: folder.joinpath(name).read_bytes() for path, (name, _) in STATIC.items()}
        self.static = {path: (body.replace(b"{{token}}", token), STATIC[path][1]) for path, body in contents.items()}
        self.pages: OrderedDict[str, Page] = OrderedDict()
        super().__init__((LOOPBACK, port), Handler)
        port = self.server_address[1]
        at = "" if port == 80 else f":{port}"  # as browsers write it in Host and Origin
        self.url = f"http://{LOOPBACK}{at}/"
        self.hosts = {f"{name}{at}" for name in (LOOPBACK, "localhost", "[::1]")}

    @property
    def choices(self) -> Choices:
        """Of the model that the server was started with."""
        return self.model(self.first).choices

    def model(self, name: str) -> Loaded:
        """The model of that name, loaded if necessary."""
        if name != self.first and name not in self.folders:
            raise RefusedError(404, f"X-Model: there is no model {name!r}; there are {', '.join(self.folders)}")
        with self.loading:
            if name not in self.loaded:
                while len(self.loaded) >= MODELS:  # the first model may have no folder to load it from again
                    self.loaded.pop(next(other for other in self.loaded if other != self.first))
                try:
                    self.loaded[name] = _loaded(load(self.folders[name]), name)
                except OSError as error:
                    raise ValueError(f"X-Model: the model {name} cannot be loaded: {error}") from error
            self.loaded.move_to_end(name)
            return self.loaded[name]

    @contextmanager
    def turn(self, name: str) -> Iterator[tuple[Page, Callable[[], None]]]:
        """Wait until the request of page `name` may compute: the page, and a function that raises when it is outdated."""
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

    def photo(self, name: str, model: str, body: bytes) -> dict[str, Any]:
        """The outputs of `model` for the picture in `body`, which the page `name` then asks about."""
        loaded = self.model(model).model
        with self.turn(name) as (page, _):
            began = time.perf_counter()
            photo = decode_photo(io.BytesIO(body), "photo", formats=FORMATS)
            page.view = _reduced(loaded.preprocessing.view(photo))
            page.session = None  # frees the memory of the last one first
            page.session, page.model = Session(loaded, photo), model
            return {
                "height": photo.shape[0],
                "width": photo.shape[1],
                "outputs": [float(y) for y in page.session.y],
                "photo": _png(page.view),
                "seconds": time.perf_counter() - began,
            }

    def explain(self, name: str, model: str, body: bytes) -> dict[str, Any]:
        """Pictures, ledger and recipes for the question in `body` about the photograph of the page `name`."""
        question, recipe = self._question(model, body), self.model(model).recipe
        with self._explanation(name, model, question) as (page, R, ledger, _, began):
            view, colours = page.view, question.colours
            assert view is not None
            taken, booked = time.perf_counter() - began, _ledger(ledger)
            return {
                "overlay": _png(render.overlay(R, view, colours=colours, quantile=QUANTILE)),
                "heatmap": _png(render.heatmap(R, colours=colours, quantile=QUANTILE)),
                "ledger": booked,
                "command": recipe.command(question),
                "code": recipe.code(question),
                "seconds": taken,
            }

    def numbers(self, name: str, model: str, body: bytes) -> bytes:
        """The numbers of the explanation, as a .npz file (see `lrp_toolbox.npz`)."""
        question, classes = self._question(model, body), self.model(model).model.classes
        with self._explanation(name, model, question) as (page, R, ledger, table, _):
            assert page.session is not None
            _ledger(ledger)
            stored = npz.arrays([R[None]], page.session.y, classes, [question.target], [table.name], [table], [ledger[None]])
            file = io.BytesIO()
            np.savez(file, allow_pickle=False, **stored)
            return file.getvalue()

    def _question(self, model: str, body: bytes) -> Question:
        try:
            asked = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"question: expected JSON: {error}") from error
        return self.model(model).choices.read(asked)

    @contextmanager
    def _explanation(self, name: str, model: str, question: Question) -> Iterator[tuple[Page, Array, Ledger, RuleTable, float]]:
        """The page, the relevance, the ledger, the rules, and when the computation began."""
        with self.turn(name) as (page, proceed):
            if page.session is None or page.model != model:
                raise RefusedError(410, "the photograph is no longer in memory: send it again")
            began = time.perf_counter()
            with np.errstate(over="ignore", invalid="ignore"):  # `_ledger` reports it
                R, ledger, table = page.session.explain(question.target, question.composite, proceed)
            yield page, R, ledger, table, began


def _loaded(model: Model, name: str) -> Loaded:
    choices = Choices(in_steps(model))
    return Loaded(choices.model, choices, Recipe(model, name, choices))


def _reduced(view: Photo) -> Photo:
    """The picture, no larger than the page shows it."""
    image = Image.fromarray(np.ascontiguousarray(view))
    image.thumbnail((SIDE, SIDE))
    return np.asarray(image)


def _png(picture: render.Picture) -> str:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG", compress_level=0)  # it goes no further than this machine
    return base64.b64encode(file.getvalue()).decode()


def _ledger(ledger: Ledger) -> dict[str, Any]:
    """The ledger as JSON. Raises ValueError if a number is not finite: JSON cannot say it."""
    entries: list[dict[str, Any]] = []
    for entry in ledger:
        amounts = {column: float(getattr(entry, column)) for column in npz.COLUMNS}
        if not all(math.isfinite(amount) for amount in amounts.values()):
            raise ValueError("groups: with these rules relevance becomes larger than float32 can hold")
        entries.append({"layer": entry.name, "rule": entry.rule, **amounts})
    return {"start": float(ledger.start), "end": float(ledger.end), "entries": entries}


class _WithDeadline(io.RawIOBase):
    """What a client sends, with one deadline for all of it: a client that sends a byte now and then does not hold a thread."""

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
    """One request for each connection (HTTP/1.0): a new connection on this machine costs next to nothing."""

    server: Server
    server_version, sys_version = "lrp", ""

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_WithDeadline(self.connection, SECONDS))
        self.unread = False

    def finish(self) -> None:
        """Read the rest of a refused body before the connection closes; otherwise the client would not see the answer."""
        super().finish()
        if self.unread:
            rest, left = _WithDeadline(self.connection, SECONDS), 2 * max(LARGEST.values())
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_WR)
                while left > 0 and (chunk := rest.read(1 << 16)):
                    left -= len(chunk)

    def handle(self) -> None:
        with suppress(ConnectionError, TimeoutError):  # the client has gone or is silent
            super().handle()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: the page shows what went wrong."""

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
            self.send_error(500, "an error inside of lrp serve; the terminal shows it")
            raise
        else:
            self._send(200, body, kind)

    def _get(self) -> tuple[bytes, str]:
        if self.path in self.server.static:
            return self.server.static[self.path]
        if self.path == "/models":
            return _json({"models": list(self.server.folders) or [self.server.first], "first": self.server.first})
        if self.path in ("/choices", "/example"):
            model = self.server.model(self._model())
            if self.path == "/choices":
                return _json({**model.choices.as_json(), "largest": LARGEST["/photo"]})
            if model.model.example is not None:
                return model.model.example.read_bytes(), "application/octet-stream"
        raise RefusedError(404, "there is nothing here")

    def _post(self) -> tuple[bytes, str]:
        if self.path not in TYPES:
            raise RefusedError(404, "there is nothing here")
        self._require_page()
        page = self._only("X-Page", 400)
        if not 0 < len(page) <= 64:
            raise RefusedError(400, "X-Page: expected 1 to 64 characters")
        model, body = self._model(), self._body()
        if self.path == "/numbers":
            return self.server.numbers(page, model, body), "application/octet-stream"
        return _json((self.server.photo if self.path == "/photo" else self.server.explain)(page, model, body))

    def _model(self) -> str:
        """The name of the model that is asked about."""
        return urllib.parse.unquote(self._only("X-Model", 400)) if "X-Model" in self.headers else self.server.first

    # ---- what is refused

    def _only(self, name: str, status: int) -> str:
        """The header of that name, which must be there once."""
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
            raise RefusedError(403, "X-Token: this page belongs to another run of lrp serve; reload it")

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
        """An error as JSON for the page, instead of the standard library's HTML."""
        body, kind = _json({"error": (message or self.responses.get(code, ("error",))[0])[:400]})
        self._send(code, body, kind)

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.connection.settimeout(SECONDS)
        if self.request_version == "HTTP/0.9":  # so old an answer would have no headers, which keep the page to itself
            self.request_version = self.protocol_version
        self.send_response(status)
        for name, value in {**HEADERS, "Content-Type": kind, "Content-Length": str(len(body)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _json(value: dict[str, Any]) -> tuple[bytes, str]:
    return json.dumps(value, ensure_ascii=False).encode(), "application/json; charset=utf-8"

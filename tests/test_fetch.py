"""Downloads from a server that stalls, breaks off, lies and loses files; and the scripts that fetch models and data."""

import hashlib
import json
import re
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "data_scripts"))

import fetching
from fetching import FetchError, Remote, fetch, take

BODY = np.random.default_rng(0).bytes(300_000)
SHA256 = f"sha256:{hashlib.sha256(BODY).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Serves `body` at every path, in the way that the path says; `asked` is what it was asked for."""

    daemon_threads = True
    body = BODY
    tag = '"1"'

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = []
        self.released = threading.Event()

    def url(self, way):
        return f"http://127.0.0.1:{self.server_port}/{way}/file.bin"


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server, way = self.server, self.path.split("/")[1]
        server.asked.append((way, self.headers.get("Range")))
        times = sum(w == way for w, _ in server.asked)
        if way.isdecimal() or (way == "once-503" and times == 1):
            return self.send_error(int(way) if way.isdecimal() else 503)
        body = b"<html>log in" if way == "login" else server.body
        sent, begin = body, 0
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range", server.tag) == server.tag
        if asked and same and way not in ("no-range", "drop-no-range"):
            begin = int(asked[1])
            if begin >= len(body) or way == "no-such-range":
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.end_headers()
                return None
            sent = body[begin:]
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin + (way == 'wrong-range')}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if way != "no-length":
            self.send_header("Content-Length", str(len(sent)))
        if way != "no-tag":
            self.send_header("ETag", server.tag)
        if way == "packed":
            self.send_header("Content-Encoding", "x-gzip")
        self.send_header("Content-Type", "text/html; charset=utf-8" if way == "login" else "application/octet-stream")
        self.end_headers()
        drops = {"drop-once": times == 1, "drop-no-range": times == 1, "no-tag": times == 1, "drip": begin + 50_000 < len(body)}
        if way == "stall" and times == 1:
            self.wfile.write(sent[:100_000])
            self.wfile.flush()
            server.released.wait(30)
        elif way == "truncate":
            self.wfile.write(sent[:100_000] if not begin else b"")
        elif drops.get(way):
            self.wfile.write(sent[:50_000])
        elif way == "wrong":
            self.wfile.write(sent[::-1])
        else:
            self.wfile.write(sent)
        return None


@pytest.fixture
def server():
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.released.set()
        running.shutdown()
        thread.join()


def got(server, tmp_path, *ways, known=SHA256, attempts=3, timeout=5.0):
    remote = Remote("file.bin", tuple(server.url(way) for way in ways), len(BODY), known)
    return fetch(remote, tmp_path / "here", timeout, attempts, wait=0.001)


def names(tmp_path):
    return sorted(p.name for p in (tmp_path / "here").iterdir())


@pytest.mark.parametrize("way", ["plain", "no-length", "no-range", "packed"])
def test_a_file_is_there_whole_and_is_not_asked_for_twice(server, tmp_path, capsys, way):
    file = got(server, tmp_path, way)
    assert file.read_bytes() == BODY
    assert names(tmp_path) == ["SHA256SUMS", "file.bin"]
    assert (tmp_path / "here" / "SHA256SUMS").read_text() == f"{SHA256[7:]}  file.bin\n"
    assert "as published" in capsys.readouterr().out
    assert got(server, tmp_path, way) == file
    assert len(server.asked) == 1
    assert "there already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("way", "asked"),
    [
        ("drop-once", [None, "bytes=50000-"]),
        ("drip", [None, *(f"bytes={n}-" for n in range(50_000, 300_000, 50_000))]),  # more often than `attempts`
        ("drop-no-range", [None, "bytes=50000-"]),
        ("no-tag", [None, "bytes=50000-"]),
        ("once-503", [None, None]),
        ("stall", [None, "bytes=65536-"]),
    ],
)
def test_a_broken_download_goes_on(server, tmp_path, way, asked):
    began = time.monotonic()
    assert got(server, tmp_path, way, timeout=0.5).read_bytes() == BODY
    assert [r for _, r in server.asked] == asked
    assert names(tmp_path) == ["SHA256SUMS", "file.bin"]
    assert time.monotonic() - began < 10


def test_without_a_version_and_a_checksum_two_halves_are_not_joined(server, tmp_path):
    assert got(server, tmp_path, "no-tag", known=None).read_bytes() == BODY
    assert [r for _, r in server.asked] == [None, None]


def test_the_next_run_goes_on_and_notices_another_version(server, tmp_path):
    with pytest.raises(FetchError, match=r"truncate/file.bin: the connection failed \(\w+\), after 3 attempts"):
        got(server, tmp_path, "truncate", known=None)
    assert names(tmp_path) == [".file.bin.part", ".file.bin.part.json"]
    origin = tmp_path / "here" / ".file.bin.part.json"
    origin.write_text(origin.read_text().replace("truncate", "plain"))
    assert got(server, tmp_path, "plain", known=None).read_bytes() == BODY
    assert server.asked[-1] == ("plain", "bytes=100000-")

    other = tmp_path / "other"
    with pytest.raises(FetchError):
        got(server, other, "truncate", known=None)
    server.body, server.tag = BODY[::-1], '"2"'
    origin = other / "here" / ".file.bin.part.json"
    origin.write_text(origin.read_text().replace("truncate", "plain"))
    assert got(server, other, "plain", known=None).read_bytes() == BODY[::-1]


def test_a_part_that_is_whole_is_taken_and_one_that_does_not_fit_is_not(server, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    for way, part in [("plain", BODY), ("plain", BODY + b"more"), ("wrong-range", BODY[:7]), ("no-such-range", BODY[:7])]:
        (here / ".file.bin.part").write_bytes(part)
        (here / ".file.bin.part.json").write_text(json.dumps({"url": server.url(way), "version": '"1"'}))
        assert got(server, tmp_path, way).read_bytes() == BODY
        assert names(tmp_path) == ["SHA256SUMS", "file.bin"]
        (here / "file.bin").unlink()


def test_mirrors_are_asked_in_turn(server, tmp_path):
    assert got(server, tmp_path, "404", "503", "login", "wrong", "truncate", "plain").read_bytes() == BODY
    asked = [way for way, _ in server.asked]
    assert asked == ["404", *["503"] * 3, "login", "wrong", *["truncate"] * 4, "plain"]


def test_what_cannot_be_had_is_told_with_all_reasons_and_what_to_do(server, tmp_path):
    with pytest.raises(FetchError) as caught:
        got(server, tmp_path, "404", "login", "wrong", "503")
    message = str(caught.value)
    for expected in (
        "/404/file.bin: HTTP 404 Not Found",
        "/login/file.bin: a web page came instead of the file",
        "does not match the known hash",
        "/503/file.bin: HTTP 503 Service Unavailable, after 3 attempts",
        "if you get file.bin by other means, put it into a folder and say --from FOLDER",
    ):
        assert expected in message
    assert names(tmp_path) == []
    with Server() as gone:
        pass
    with pytest.raises(FetchError, match="the connection failed"):
        got(gone, tmp_path, "plain")


def test_a_wrong_file_is_replaced_only_by_a_right_one(server, tmp_path, capsys):
    file = got(server, tmp_path, "plain")
    file.write_bytes(b"mine")
    with pytest.raises(FetchError):
        got(server, tmp_path, "wrong")
    assert file.read_bytes() == b"mine"
    assert got(server, tmp_path, "plain").read_bytes() == BODY
    assert "getting it again" in capsys.readouterr().out


def test_without_a_published_checksum_the_first_download_is_pinned(server, tmp_path, capsys):
    file = got(server, tmp_path, "plain", known=None)
    assert f"trusted on first use; {SHA256} is pinned in" in capsys.readouterr().out
    file.unlink()
    server.body = BODY[::-1]
    with pytest.raises(FetchError, match=r"take its line out of .*SHA256SUMS"):
        got(server, tmp_path, "plain", known=None)
    assert names(tmp_path) == ["SHA256SUMS"]
    (tmp_path / "here" / "SHA256SUMS").unlink()
    assert got(server, tmp_path, "plain", known=None).read_bytes() == BODY[::-1]


def test_a_disk_that_is_full_is_noticed_before(server, tmp_path, monkeypatch):
    monkeypatch.setattr(fetching.shutil, "disk_usage", lambda _: type("usage", (), {"free": 200_000}))
    with pytest.raises(FetchError, match="0 MB are missing, and there are 0 MB free"):
        got(server, tmp_path, "plain")
    assert names(tmp_path) == []
    arguments = fetching.parser("", str(tmp_path / "there")).parse_args([])
    with pytest.raises(FetchError, match="about 0 MB are needed"):
        fetching.get([Remote("file.bin", (server.url("plain"),), len(BODY))], arguments, "none")
    assert len(server.asked) == 1
    assert not (tmp_path / "there").exists()


def test_files_that_are_there_already_are_taken_from_there(tmp_path):
    remote = Remote("file.bin", ("https://example.org/file.bin",), len(BODY), SHA256)
    with pytest.raises(FetchError, match=r"no such file; it comes from https://example.org"):
        take(remote, tmp_path)
    (tmp_path / "file.bin").write_bytes(BODY[:-1])
    with pytest.raises(FetchError, match=f"expected {SHA256}, found sha256:"):
        take(remote, tmp_path)
    (tmp_path / "file.bin").write_bytes(BODY)
    assert take(remote, tmp_path) == tmp_path / "file.bin"

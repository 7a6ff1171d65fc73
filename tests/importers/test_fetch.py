"""Downloads from a server that stalls, breaks off, lies and loses files; and the scripts that fetch models and data."""

import csv
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from conftest import ROOT

import lrp_toolbox as lrp

sys.path.insert(0, str(ROOT / "data_scripts"))

import fetch_caffenet
import fetch_imagenet_boxes
import fetch_squeezenet
import fetch_vgg16
import fetch_voc2007
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
        self.bodies = {}
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
        body = b"<html>log in" if way == "login" else server.bodies.get(self.path.rpartition("/")[2], server.body)
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
    assert got(server, tmp_path, way, timeout=0.5).read_bytes() == BODY
    assert [r for _, r in server.asked] == asked
    assert names(tmp_path) == ["SHA256SUMS", "file.bin"]


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


# ---- The scripts -----------------------------------------------------------------------------------------------------

SCRIPTS = ["fetch_squeezenet", "fetch_vgg16", "fetch_caffenet", "fetch_voc2007", "fetch_imagenet_boxes"]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_dry_run_says_all_and_does_nothing(tmp_path, script):
    command = [sys.executable, ROOT / "data_scripts" / f"{script}.py", "--dry-run"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "licence: " in done.stdout
    assert re.search(r"^  https?://", done.stdout, re.MULTILINE)
    assert re.search(r"^  (sha256|sha1|md5):[0-9a-f]{32,64}$", done.stdout, re.MULTILINE)
    assert ("they take an account at ImageNet" in done.stdout) == (script == "fetch_imagenet_boxes")
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(tmp_path, script):
    command = [sys.executable, ROOT / "data_scripts" / f"{script}.py", "--from", tmp_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert re.fullmatch(r"error: .*there is no such file; it comes from https?://.*\n", done.stderr)
    assert list(tmp_path.iterdir()) == []


def test_addresses_and_checksums_are_well_formed():
    nets = [*fetch_vgg16.NETS.values(), *fetch_caffenet.NETS.values(), (fetch_squeezenet.NET, fetching.IMAGENET_CLASSES)]
    for remote in [*sum(nets, ()), *fetch_voc2007.ARCHIVES, fetch_imagenet_boxes.BOXES]:
        algorithm, _, digest = remote.hash.partition(":")
        assert len(digest) == 2 * hashlib.new(algorithm).digest_size
        assert all(url.startswith(("https://", "http://")) and url.rpartition("/")[2] == remote.name for url in remote.urls)


def on_the_net(server, **contents):
    """The server has these files, at the path of their names, and remotes for them."""
    remotes = []
    for name, content in contents.items():
        server.bodies[name] = content
        url = f"http://127.0.0.1:{server.server_port}/plain/{name}"
        remotes.append(Remote(name, (url,), len(content), f"sha256:{hashlib.sha256(content).hexdigest()}"))
    return remotes


def run(monkeypatch, script, *arguments):
    monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
    fetching.run(script)


def test_squeezenet_from_the_net_to_a_model(server, data, tmp_path, monkeypatch, capsys):
    net = (data / "squeezenet_v1.0" / "compressed_SqueezeNet.net").read_bytes()
    index = (data / "imagenet_val" / "imagenet_class_index.json").read_bytes()
    remote, classes = on_the_net(server, **{"compressed.net": net, "classes.json": index})
    assert remote.hash == fetch_squeezenet.NET.hash
    monkeypatch.setattr(fetching, "IMAGENET_CLASSES", classes)
    monkeypatch.chdir(tmp_path)

    def get(*arguments):
        run(monkeypatch, lambda: fetching.get_model("", {"squeezenet": (remote,)}, fetch_squeezenet.build), *arguments)

    get()
    assert "model: models/squeezenet" in capsys.readouterr().out
    model = lrp.load(tmp_path / "models" / "squeezenet")
    assert (model.name, model.classes[282]) == ("squeezenet", "tiger cat")
    get("--from", tmp_path / ".cache" / "downloads" / "squeezenet", "-o", "again")
    assert lrp.load("again").classes == model.classes
    with pytest.raises(SystemExit):
        get("-o", "models")
    assert "models: expected the folder of a model, or none, found something else" in capsys.readouterr().err
    assert len(server.asked) == 2


def tar(members, mode="w"):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode=mode) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def xml(width, height, *objects):
    """An annotation. Things may have parts, with names and boxes of their own."""
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    edges = ("xmin", "ymin", "xmax", "ymax")
    things = "".join(
        f"<object><name>{name}</name><difficult>1</difficult><bndbox>"
        + "".join(f"<{edge}>{value}</{edge}>" for edge, value in zip(edges, box, strict=True))
        + f"</bndbox>{part}</object>"
        for name, *box in objects
    )
    size = f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size>"
    return f"<annotation><filename>x</filename>{size}{things}</annotation>".encode()


def test_voc2007_from_the_net_to_a_folder(server, tmp_path, monkeypatch, capsys):
    base = "VOCdevkit/VOC2007"
    first = {
        f"{base}/JPEGImages/000005.jpg": b"five", f"{base}/Annotations/000005.xml": xml(500, 375, ("chair", 5, 6, 7, 8)),
        f"{base}/ImageSets/Main/train.txt": b"000005\n", f"{base}/ImageSets/Main/chair_train.txt": b"000005 1\n",
        f"{base}/../../../JPEGImages/000009.jpg": b"outside", "/etc/passwd": b"outside",
    }  # fmt: skip
    second = {
        f"{base}/JPEGImages/000001.jpg": b"one", f"{base}/ImageSets/Main/test.txt": b"000001\n",
        f"{base}/Annotations/000001.xml": xml(353, 500, ("dog", 48, 240, 195, 371), ("person", 8, 12, 352, 498)),
    }  # fmt: skip
    archives = on_the_net(server, **{"trainval.tar": tar(first), "test.tar": tar(second)})
    monkeypatch.setattr(fetch_voc2007, "ARCHIVES", archives)
    dest = tmp_path / "data" / "voc2007"
    run(monkeypatch, fetch_voc2007.main, "--dest", dest)
    assert "2 photographs" in capsys.readouterr().out
    assert sorted(str(p.relative_to(dest)) for p in dest.rglob("*") if p.is_file()) == [
        "ImageSets/test.txt", "ImageSets/train.txt", "JPEGImages/000001.jpg", "JPEGImages/000005.jpg", "SHA256SUMS",
        "annotations.json", "test.tar", "trainval.tar",
    ]  # fmt: skip
    assert json.loads((dest / "annotations.json").read_text()) == {
        "000001": {"width": 353, "height": 500, "person_boxes_complete": True,
                   "objects": [["dog", 48, 240, 195, 371], ["person", 8, 12, 352, 498]]},
        "000005": {"width": 500, "height": 375, "person_boxes_complete": True, "objects": [["chair", 5, 6, 7, 8]]},
    }  # fmt: skip
    assert (dest / "JPEGImages" / "000005.jpg").read_bytes() == b"five"

    before = sorted(dest.rglob("*"))
    del second[f"{base}/Annotations/000001.xml"]
    (tmp_path / "test.tar").write_bytes(tar(second))
    with pytest.raises(FetchError, match="found only one of both for 1: 000001"):
        fetch_voc2007.unpack([dest / "trainval.tar", tmp_path / "test.tar"], dest)
    second[f"{base}/Annotations/000001.xml"] = xml(353, 500).replace(b"width", b"breadth")
    (tmp_path / "test.tar").write_bytes(tar(second))
    with pytest.raises(FetchError, match=r"test.tar: .*000001.xml: expected <size/width>, found none"):
        fetch_voc2007.unpack([dest / "trainval.tar", tmp_path / "test.tar"], dest)
    assert sorted(dest.rglob("*")) == before


def test_imagenet_boxes_from_the_net_to_a_table(server, tmp_path, monkeypatch, capsys):
    members = {
        "val/ILSVRC2012_val_00000002.xml": xml(333, 500, ("n02112137", 76, 135, 292, 473), ("n02112137", 0, 0, 9, 9)),
        "val/ILSVRC2012_val_00000001.xml": xml(500, 375, ("n01440764", 1, 2, 3, 4)),
        "val/readme.txt": b"boxes",
    }
    index = json.dumps({"0": ["n01440764", "tench"], "260": ["n02112137", "chow"]}).encode()
    boxes, classes = on_the_net(server, **{"boxes.tgz": tar(members, "w:gz"), "classes.json": index})
    monkeypatch.setattr(fetch_imagenet_boxes, "BOXES", boxes)
    monkeypatch.setattr(fetch_imagenet_boxes, "IMAGENET_CLASSES", classes)
    run(monkeypatch, fetch_imagenet_boxes.main, "--dest", tmp_path / "imagenet")
    out = capsys.readouterr().out
    assert "3 boxes of 2 photographs" in out
    assert "they take an account at ImageNet" in out
    with (tmp_path / "imagenet" / "boxes.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == list(fetch_imagenet_boxes.COLUMNS)
    assert rows[1] == ["ILSVRC2012_val_00000001.JPEG", "0", "n01440764", "500", "375", "1", "2", "3", "4"]
    assert rows[3] == ["ILSVRC2012_val_00000002.JPEG", "260", "n02112137", "333", "500", "76", "135", "292", "473"]
    (tmp_path / "classes.json").write_text(json.dumps({"0": ["n01440764", "tench"]}))
    with pytest.raises(FetchError, match=r"00000002.xml: expected one of 1 synsets, found 'n02112137'"):
        fetch_imagenet_boxes.boxes(tmp_path / "imagenet" / "boxes.tgz", tmp_path / "classes.json")


def test_the_boxes_have_the_form_of_those_that_are_measured_with(data):
    with (data / "imagenet_val" / "boxes.csv").open(newline="") as file:
        assert next(csv.reader(file)) == list(fetch_imagenet_boxes.COLUMNS)
    annotations = json.loads((data / "voc2007" / "annotations.json").read_text())
    ours = fetch_voc2007.annotation(xml(353, 500, ("dog", 48, 240, 195, 371)), "")
    assert all(set(one) == set(ours) for one in annotations.values())
    assert all(len(thing) == len(ours["objects"][0]) for one in annotations.values() for thing in one["objects"])

"""`lrp serve`: numbers as `explain` has them, hostile requests refused, and the page in a real browser."""

import base64
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from contextlib import contextmanager, suppress

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import lrp_toolbox as lrp
from lrp_toolbox import (
    Add,
    AlphaBeta,
    Composite,
    Concat,
    Conv,
    Epsilon,
    Flat,
    Gamma,
    Identity,
    Linear,
    ReLU,
    Sequential,
    WSquare,
    Z,
    ZPlus,
    is_dense,
    render,
    uniform,
)
from lrp_toolbox.cli import main
from lrp_toolbox.composites import First
from lrp_toolbox.data.photos import decode_photo
from lrp_toolbox.serve import server as serving
from lrp_toolbox.serve.choices import Choices
from lrp_toolbox.serve.desk import Desk, settled
from lrp_toolbox.serve.server import LARGEST, PAGES, Server

EXAMPLE = ROOT / "models" / "lenet5-mnist" / "example.png"
PHOTO = lrp.read_photo(EXAMPLE)

# ---- the desk ---------------------------------------------------------------------------------------------------------


def branching():
    """A net with both kinds of branches, batch normalisation and average pooling."""
    rng = np.random.default_rng(0)
    w = lambda *shape: rng.normal(size=shape).astype(np.float32)
    one, two = Conv(w(3, 3, 2, 3), w(3), padding=1), Sequential(Conv(w(1, 1, 2, 2), w(2)), ReLU())
    residual = Add(Sequential(Conv(w(3, 3, 5, 5), w(5), padding=1), ReLU()), Identity())
    norm = lrp.BatchNorm(w(2), abs(w(2)), w(2), w(2))
    net = Sequential(
        conv=Conv(w(5, 5, 1, 2), w(2), stride=4), norm=norm, relu=ReLU(), fire=Concat(one, two), relu2=ReLU(),
        residual=residual, pool=lrp.AvgPool(None), flatten=lrp.Flatten(), fc=Linear(w(5, 10), w(10)),
    )  # fmt: skip
    return lrp.Model("branching", net, tuple("abcdefghij"), lrp.Preprocessing((28, 28), "crop", "L", (0.0,), 1 / 255))


RULES = [Z(), Epsilon(0.01), AlphaBeta(2), AlphaBeta(1), AlphaBeta(0), AlphaBeta(1.5), ZPlus(), Gamma(0.25), Gamma(3), Flat()]
RULES += [WSquare(), AlphaBeta(2, bias="ignore"), AlphaBeta(2, renormalize=True), AlphaBeta(3, bias="distribute")]
RULES += [Gamma(1, bias="ignore"), ZPlus(bias="ignore"), ZPlus(bias="distribute")]
NETS = {"lenet": lrp.load("lenet5-mnist"), "branching": branching()}
DESKS = {name: Desk(settled(model), PHOTO) for name, model in NETS.items()}


@st.composite
def questions(draw):
    rule = st.sampled_from(RULES)
    entries = [(First(1), draw(rule))] if draw(st.booleans()) else []
    return draw(st.integers(0, 9)), Composite([*entries, (is_dense, draw(rule)), (lrp.modules.Module, draw(rule))])


@pytest.mark.parametrize("name", NETS)
@given(question=questions())
def test_whatever_was_asked_before_the_answer_is_that_of_explain(name, question):
    """One desk for all examples: each question meets what the last one left."""
    target, composite = question
    R, ledger, table = DESKS[name].explain(target, composite)
    expected = lrp.explain(NETS[name], NETS[name].prepare(PHOTO), target, composite)
    size = float(abs(expected.R).max()) + float(sum(abs(e.arriving) for e in expected.ledger)) / len(expected.ledger)
    np.testing.assert_allclose(R, expected.R, rtol=0, atol=1e-3 * size)
    assert [e.name for e in ledger] == [e.name for e in expected.ledger]
    for mine, theirs in zip(ledger, expected.ledger, strict=True):
        assert mine.rule == theirs.rule
        for amount in ("arriving", "passed", "bias", "eps", "empty", "padding"):
            assert float(getattr(mine, amount)) == pytest.approx(float(getattr(theirs, amount)), rel=1e-3, abs=1e-3 * size)
    assert str(table).partition("\n")[2] == str(expected.rules).partition("\n")[2]


def test_only_what_differs_is_walked_again(lenet):
    desk, steps = Desk(settled(lenet), PHOTO), []
    layers = len(lenet.net)

    def walked(target, composite):
        steps.clear()
        desk.explain(target, composite, lambda: steps.append(1))
        return len(steps)

    assert walked(2, lrp.lrp_cmp(flat=0)) == layers
    assert walked(2, lrp.lrp_cmp(flat=0)) == 0
    assert walked(2, lrp.lrp_cmp(flat=1)) == 1  # the first layer
    assert walked(2, lrp.lrp_cmp(flat=2)) == 4  # down from the second convolution
    assert walked(3, lrp.lrp_cmp(flat=2)) == layers


def test_a_question_that_is_given_up_leaves_its_steps_to_the_next(lenet):
    desk, left = Desk(settled(lenet), PHOTO), [5]

    def proceed():
        left[0] -= 1
        if left[0] < 0:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        desk.explain(2, lrp.lrp_cmp(), proceed)
    left[0] = len(lenet.net) - 5
    R, _, _ = desk.explain(2, lrp.lrp_cmp(), proceed)
    np.testing.assert_array_equal(R, Desk(settled(lenet), PHOTO).explain(2, lrp.lrp_cmp())[0])


def test_nets_that_are_no_sequential():
    w = np.random.default_rng(0).normal(size=(28, 28, 1, 10)).astype(np.float32)
    for net in (Concat(Sequential(Conv(w), lrp.Flatten())), Sequential(Sequential(Conv(w)), lrp.Flatten())):
        model = lrp.Model("one", net, tuple("abcdefghij"), NETS["lenet"].preprocessing)
        R, _, _ = Desk(settled(model), PHOTO).explain(3, uniform(Z()))
        np.testing.assert_allclose(R, lrp.explain(model, model.prepare(PHOTO), 3, Z()).R, rtol=1e-5, atol=1e-6)


# ---- choices ----------------------------------------------------------------------------------------------------------


def test_presets_are_the_composites_of_the_paper(vgg16):
    """Each, as the page sends it, resolves to the very rules of `lrp_cmp` and `uniform`."""
    choices = Choices(settled(vgg16))
    shown = json.loads(json.dumps(choices.as_json()))
    assert shown["depth"] == 13
    assert [g["name"] for g in shown["groups"]] == ["dense", "conv", "pooling"]
    expected = {
        "z": uniform(Z()),
        "αβ:α1": uniform(AlphaBeta(1)),
        "CMP:α1": lrp.lrp_cmp(1, flat=0),
        "CMP:α1+♭(3)": lrp.lrp_cmp(1, flat=3),
        "CMP:α2+♭": lrp.lrp_cmp(),
        "all ♭": lrp.lrp_cmp(flat="all"),
    }
    assert [p["name"] for p in shown["presets"]] == list(expected)
    assert shown["usual"] == "CMP:α2+♭"
    for preset in shown["presets"]:
        asked = {"target": 7, "groups": preset["groups"], "flat": preset["flat"], "layers": {}, "colours": "day"}
        shape = vgg16.preprocessing.shape
        mine = choices.read(asked).composite.resolve(vgg16.net, shape)
        assert mine.rules == expected[preset["name"]].resolve(vgg16.net, shape).rules


def test_every_choice_that_is_offered_can_be_made():
    for model in NETS.values():
        choices = Choices(settled(model))
        shown = choices.as_json()
        usual = {**question(shown)}
        for group in shown["groups"]:
            for rule in group["rules"]:
                asked = {**usual, "groups": {**usual["groups"], group["name"]: shown["rules"][rule]}}
                choices.read(asked).composite.resolve(choices.model.net, model.preprocessing.shape)
        for layer in shown["layers"]:
            for rule in layer["rules"]:
                asked = {**usual, "layers": {layer["name"]: shown["rules"][rule]}}
                table = choices.read(asked).composite.resolve(choices.model.net, model.preprocessing.shape)
                assert table[layer["name"]].symbol == layer["rules"][rule]


def question(shown, **changes):
    preset = next(p for p in shown["presets"] if p["name"] == shown["usual"])
    return {"target": 2, "groups": preset["groups"], "flat": preset["flat"], "layers": {}, "colours": "day", **changes}


# ---- HTTP -------------------------------------------------------------------------------------------------------------


@contextmanager
def running(model):
    with Server(model, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def server():
    with running(lrp.load("lenet5-mnist")) as server:
        yield server


def send(server, method, path, body=None, **changes):
    """(status, headers, body) of a request as the page makes it; `changes` replace its headers, or leave them out (None)."""
    host = f"127.0.0.1:{server.server_address[1]}"
    headers = {"Host": host}
    if method == "POST":
        kind = "application/octet-stream" if path == "/photo" else "application/json"
        headers |= {"Origin": f"http://{host}", "X-Token": server.token, "X-Page": "test", "Content-Type": kind}
        headers["Content-Length"] = str(len(body))
    headers |= {name.replace("_", "-"): value for name, value in changes.items()}
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=30)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def post(server, path, body, **changes):
    """(status, answer) of what the page would send."""
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    status, _, answer = send(server, "POST", path, body, **changes)
    return status, json.loads(answer)


def picture(text):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


def encoded(array, kind="PNG"):
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind)
    return file.getvalue()


def test_a_photograph_and_a_question(server, lenet):
    status, seen = post(server, "/photo", EXAMPLE.read_bytes())
    assert status == 200
    expected = lrp.explain(lenet, lenet.prepare(PHOTO), [2, 7])
    np.testing.assert_allclose(seen["outputs"], expected.y, rtol=1e-4)
    np.testing.assert_array_equal(picture(seen["photo"]), PHOTO)
    asked = question(server.choices.as_json(), target=7)
    for colours in render.COLOUR_MAPS:
        status, answer = post(server, "/explain", {**asked, "colours": colours})
        assert status == 200
        mine = picture(answer["overlay"]).astype(int)
        theirs = render.overlay(expected.R[1], PHOTO, colours=render.COLOUR_MAPS[colours], quantile=0.999)
        assert abs(mine - theirs).max() <= 2  # rounding of R moves a colour by as much
        mine = picture(answer["heatmap"]).astype(int)
        assert abs(mine - render.heatmap(expected.R[1], colours=render.COLOUR_MAPS[colours], quantile=0.999)).max() <= 2
    ledger = expected.ledger[1]
    assert answer["ledger"]["start"] == pytest.approx(float(ledger.start), rel=1e-4)
    assert answer["ledger"]["end"] == pytest.approx(float(ledger.end), rel=1e-4)
    for mine, theirs in zip(answer["ledger"]["entries"], ledger, strict=True):
        assert (mine["layer"], mine["rule"]) == (theirs.name, theirs.rule)
        assert mine["bias"] == pytest.approx(float(theirs.bias), rel=1e-3, abs=1e-4)


def test_large_photographs_are_shown_small_and_turned_upright(server):
    exif = Image.Exif()
    exif[0x0112] = 6
    file = io.BytesIO()
    Image.new("RGB", (3000, 1500), "red").save(file, "JPEG", exif=exif)
    status, seen = post(server, "/photo", file.getvalue(), X_Page="large")
    assert status == 200
    assert (seen["height"], seen["width"]) == (3000, 1500)
    assert max(picture(seen["photo"]).shape) == serving.SIDE


@pytest.mark.parametrize("kind", serving.FORMATS)
def test_every_format_that_is_taken(server, kind):
    assert post(server, "/photo", encoded(PHOTO, kind), X_Page="kinds")[0] == 200


def test_the_page_comes_with_headers_that_keep_it_to_itself(server):
    types = {
        "/": "text/html; charset=utf-8",
        "/page.js": "text/javascript; charset=utf-8",
        "/page.css": "text/css; charset=utf-8",
    }
    types |= {
        "/icon.svg": "image/svg+xml",
        "/choices": "application/json; charset=utf-8",
        "/example": "application/octet-stream",
    }
    for path, kind in types.items():
        status, headers, body = send(server, "GET", path)
        assert (status, headers["Content-Type"], int(headers["Content-Length"])) == (200, kind, len(body))
    for path, expected in (("/", 200), ("/nothing", 404)):
        status, headers, body = send(server, "GET", path)
        assert status == expected
        assert headers["Content-Security-Policy"].startswith("default-src 'self';")
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in headers
    assert server.token.encode() in send(server, "GET", "/")[2]
    page = b"".join(send(server, "GET", path)[2] for path in ("/", "/page.js", "/page.css"))
    elsewhere = set(re.findall(rb"https?://[^\"' )]+", page)) - {b"http://www.w3.org/2000/svg"}
    assert not elsewhere


TRICKS = [
    "/../server.py",
    "/page/page.js",
    "/%2e%2e/server.py",
    "//etc/passwd",
    "/etc/passwd",
    "/page.css/",
    "/?x",
    "/page.js%00",
]
TRICKS += ["/..\\server.py", "/models/../page.js", "http://127.0.0.1/page.js", "/PAGE.JS", "/index.html", "/" + "a" * 60000]


@pytest.mark.parametrize("path", TRICKS, ids=lambda path: path[:30])
def test_only_known_paths_are_served(server, path):
    assert send(server, "GET", path)[0] == 404
    status, answer = post(server, path, b"{}")
    assert (status, answer) == (404, {"error": "there is nothing here"})


def test_other_methods_are_refused(server):
    for method in ("PUT", "DELETE", "OPTIONS", "HEAD", "CONNECT", "X"):
        status, headers, _ = send(server, method, "/")
        assert status == 501
        assert "Access-Control-Allow-Origin" not in headers


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "localhost:1", "127.0.0.1.evil.example:{port}", "10.0.0.1:{port}", "", None]
)
def test_foreign_hosts_are_refused(server, host):
    """As after a DNS rebinding: the name is theirs, the address is ours."""
    host = host and host.format(port=server.server_address[1])
    assert send(server, "GET", "/", Host=host)[0] == 403
    status, answer = post(server, "/photo", EXAMPLE.read_bytes(), Host=host, Origin=f"http://{host}")
    assert status == 403
    assert answer["error"].startswith("Host: ")


def test_names_of_the_loopback_interface_are_hosts(server):
    for name in ("localhost", "127.0.0.1", "[::1]"):
        host = f"{name}:{server.server_address[1]}"
        assert send(server, "GET", "/", Host=host)[0] == 200
        assert post(server, "/photo", EXAMPLE.read_bytes(), Host=host, Origin=f"http://{host}")[0] == 200


@pytest.mark.parametrize(
    ("changes", "status", "names"),
    [
        ({"Origin": "http://evil.example"}, 403, "Origin"),
        ({"Origin": "null"}, 403, "Origin"),
        ({"Origin": None}, 403, "Origin"),
        ({"Origin": "http://localhost:1"}, 403, "Origin"),
        ({"X_Token": "guessed"}, 403, "X-Token"),
        ({"X_Token": ""}, 403, "X-Token"),
        ({"X_Token": None}, 403, "X-Token"),
        ({"X_Page": None}, 400, "X-Page"),
        ({"X_Page": "p" * 65}, 400, "X-Page"),
        ({"Content_Type": "text/plain"}, 415, "Content-Type"),
        ({"Content_Type": "multipart/form-data; boundary=x"}, 415, "Content-Type"),
        ({"Content_Type": None}, 415, "Content-Type"),
        ({"Content_Length": None}, 411, "Content-Length"),
        ({"Content_Length": None, "Transfer_Encoding": "chunked"}, 411, "Content-Length"),
        ({"Transfer_Encoding": "chunked"}, 411, "Content-Length"),
        ({"Content_Length": "-1"}, 400, "Content-Length"),
        ({"Content_Length": "1e3"}, 400, "Content-Length"),
        ({"Content_Length": "٣"}, 400, "Content-Length"),
        ({"Content_Length": "9" * 5000}, 400, "Content-Length"),
    ],
)
@pytest.mark.parametrize("path", ["/photo", "/explain"])
def test_requests_that_are_not_from_the_page_are_refused(server, path, changes, status, names):
    changes = {name: value and value.encode() for name, value in changes.items()}
    got, answer = post(server, path, b"{}", **changes)
    assert got == status
    assert answer["error"].startswith(f"{names}: ")


def png(width, height, rows=b"", head=b""):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    body = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)) + head
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) (w) file\n"
HOSTILE = {
    "nothing": (b"", "not a picture"),
    "text": (b"<script>alert(1)</script>", "not a picture"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', "not a picture"),
    "PostScript, which is a program": (EPS, "not a picture"),
    "zeros": (bytes(1000), "not a picture"),
    "a picture cut off": (EXAMPLE.read_bytes()[:150], "cannot be read as a picture"),
    "only the beginning of a picture": (EXAMPLE.read_bytes()[:20], "picture"),
    "a bomb that Pillow warns of": (png(10_000, 10_000), "too many pixels"),
    "a bomb that Pillow refuses": (png(60_000, 60_000), "too many pixels"),
    "a bomb beyond all bounds": (png(2**31 - 1, 2**31 - 1), "too many pixels"),
    "no pixels": (png(0, 9), "picture"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_uploads_are_refused_in_a_sentence(server, name):
    body, sentence = HOSTILE[name]
    status, answer = post(server, "/photo", body, X_Page="hostile")
    assert status == 400
    assert answer["error"].startswith("photo: ")
    assert sentence in answer["error"]


def test_bombs_are_refused_before_a_pixel_is_decoded(monkeypatch):
    """A bomb of real rows, 12 KB that would be 100 million pixels."""
    bomb = png(10_000, 10_000, bytes(30_001 * 10_000)[: 1 << 22])
    monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    with pytest.raises(ValueError, match="bomb: too many pixels"):
        decode_photo(io.BytesIO(bomb), "bomb")


@pytest.mark.parametrize("path", LARGEST)
def test_bodies_that_are_too_large_are_refused_before_they_are_read(server, path):
    status, answer = post(server, path, b"", Content_Length=str(LARGEST[path] + 1))
    assert status == 413
    assert f"{LARGEST[path]:,} is the limit" in answer["error"]


def test_the_answer_to_a_body_that_is_too_large_arrives_even_if_the_client_sends_on(server):
    status, answer = post(server, "/photo", bytes(LARGEST["/photo"] + 1))
    assert status == 413
    assert "photo" in answer["error"]


def test_a_body_that_ends_early(server):
    with socket.create_connection(server.server_address) as connection:
        host = f"127.0.0.1:{server.server_address[1]}"
        head = f"POST /photo HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\nX-Token: {server.token}\r\nX-Page: short\r\n"
        connection.sendall(f"{head}Content-Type: application/octet-stream\r\nContent-Length: 100\r\n\r\nabc".encode())
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert b" 400 " in answer.splitlines()[0]
    assert b"Content-Length: expected 100 bytes, got 3" in answer


@pytest.mark.parametrize("drip", [b"", b"G", b"GET / HTTP/1.0\r\nHost: x\r\nX-Slow: "])
def test_slow_clients_are_let_go(server, monkeypatch, drip):
    """One that says nothing, and ones that send a byte now and then, which no timeout for a single read would notice."""
    monkeypatch.setattr(serving, "SECONDS", 0.4)
    with socket.create_connection(server.server_address, timeout=10) as connection:
        connection.sendall(drip)
        began, answer = time.perf_counter(), b"?"
        connection.settimeout(0.05)
        with suppress(ConnectionError):
            while answer and time.perf_counter() - began < 5:
                if drip:
                    connection.sendall(b"x")
                with suppress(TimeoutError):
                    answer = connection.recv(1)
        assert time.perf_counter() - began < 4


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /\r\n\r\n", b"\r\n"]
)
def test_what_is_no_http_is_refused_and_harms_nothing(server, garbage):
    with socket.create_connection(server.server_address, timeout=10) as connection:
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert b" 200 " not in answer[:20]
    assert server.token.encode() not in answer
    assert send(server, "GET", "/")[0] == 200


CHANGES = [
    ({"target": 10}, "target: expected a whole number from 0 to 9, got 10"),
    ({"target": -1}, "target"),
    ({"target": True}, "target"),
    ({"target": 2.0}, "target"),
    ({"target": "2"}, "target"),
    ({"target": None}, "target"),
    ({"flat": 3}, "flat: expected a whole number from 0 to 2, got 3"),
    ({"flat": "all"}, "flat"),
    ({"colours": "pink"}, "colours: expected one of day, night, got 'pink'"),
    ({"colours": ["day"]}, "colours"),
    ({"layers": []}, "layers: expected an object"),
    ({"layers": {"conv9": {"rule": "z"}}}, "layers: no layer 'conv9'"),
    ({"layers": {"relu1": {"rule": "z"}}}, "layers: no layer 'relu1' that has a choice"),
    ({"layers": {"*": {"rule": "z"}}}, "layers: no layer '*'"),
    ({"layers": {"conv1": "z"}}, "layers.conv1.rule: expected one of z, epsilon"),
    ({"layers": {"conv1": {"rule": "lrp"}}}, "layers.conv1.rule"),
    ({"layers": {"conv2": {"rule": "zbox"}}}, "layers.conv2.rule"),
    ({"layers": {"conv1": {"rule": "gamma", "gamma": 101}}}, "layers.conv1.gamma: expected a number from 0 to 100, got 101"),
    ({"layers": {"conv1": {"rule": "gamma", "alpha": 1}}}, "layers.conv1.alpha: gamma has no such parameter"),
    ({"layers": {"conv1": {"rule": "alphabeta", "bias": "ignore"}}}, "layers.conv1.bias"),
    ({"groups": {}}, "groups: expected an object with dense, conv, pooling, got one with nothing"),
    ({"groups": None}, "groups"),
    ({"dense": {"rule": "epsilon", "eps": -1}}, "groups.dense.eps: expected a number from 0 to 100, got -1"),
    ({"dense": {"rule": "epsilon", "eps": float("nan")}}, "groups.dense.eps"),
    ({"dense": {"rule": "epsilon", "eps": float("inf")}}, "groups.dense.eps"),
    ({"dense": {"rule": "epsilon", "eps": 10**400}}, "groups.dense.eps"),
    ({"dense": {"rule": "epsilon", "eps": "1"}}, "groups.dense.eps"),
    ({"dense": {"rule": "epsilon", "eps": True}}, "groups.dense.eps"),
    ({"conv": {"rule": "alphabeta", "alpha": 5.1}}, "groups.conv.alpha: expected a number from 0 to 5, got 5.1"),
    ({"conv": {"rule": "zbox"}}, "groups.conv.rule"),
    ({"conv": {"rule": ["z"]}}, "groups.conv.rule"),
    ({"pooling": {"rule": "epsilon"}}, "groups.pooling.rule: expected one of z, flat, got 'epsilon'"),
    ({"more": 1}, "question: expected an object with target, groups, flat, layers, colours, got"),
]


@pytest.mark.parametrize(("changes", "sentence"), CHANGES, ids=lambda value: str(value)[:40])
def test_bad_parameters_are_named(server, changes, sentence):
    asked = question(server.choices.as_json())
    groups = {k: v for k, v in changes.items() if k in asked["groups"]}
    asked |= {"groups": asked["groups"] | groups} if groups else changes
    status, answer = post(server, "/explain", asked)
    assert status == 400
    assert answer["error"].startswith(sentence)
    assert len(answer["error"]) <= 400


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b"null", b"\xff\xfe", b"[" * 60000, b"1" * 60000, b'{"target": 1}'])
def test_what_is_no_question(server, body):
    status, answer = post(server, "/explain", body)
    assert status == 400
    assert answer["error"].startswith("question: ")


def test_relevance_that_no_float_can_hold_is_said_to_be(server, monkeypatch):
    """No rule that can be chosen for LeNet does it; a deeper net may."""
    desk = Desk(server.model, PHOTO)
    desk.y = np.full(10, np.float32(3e38))
    monkeypatch.setattr(serving, "Desk", lambda *_: desk)
    assert post(server, "/photo", EXAMPLE.read_bytes(), X_Page="huge")[0] == 200
    asked = question(server.choices.as_json())
    asked["groups"] = {**asked["groups"], "conv": {"rule": "alphabeta", "alpha": 5}, "dense": {"rule": "alphabeta", "alpha": 5}}
    status, answer = post(server, "/explain", asked, X_Page="huge")
    assert status == 400
    assert answer["error"] == "groups: by these rules relevance grows beyond what float32 can hold"


def test_nothing_is_written_to_disk(server):
    writes = []

    def hook(event, arguments):
        if event == "open" and watching and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR):
            writes.append(arguments[0])

    watching = [True]
    sys.addaudithook(hook)  # there is no way to take it off again
    post(server, "/photo", encoded(PHOTO, "TIFF"), X_Page="disk")
    post(server, "/photo", b"no picture", X_Page="disk")
    assert post(server, "/explain", question(server.choices.as_json()), X_Page="disk")[0] == 200
    with open(os.devnull, "w"):
        assert writes == [os.devnull]  # the hook sees what it should
    watching.clear()


def test_a_newer_question_takes_the_place_of_an_older_one(server):
    asked = question(server.choices.as_json())
    for page in "pq":
        assert post(server, "/photo", EXAMPLE.read_bytes(), X_Page=page)[0] == 200
    found = {}

    def ask(key, page, target):
        found[key] = post(server, "/explain", {**asked, "target": target}, X_Page=page)

    with server.computing:
        threads = []
        for k, (page, target) in enumerate((("p", 1), ("p", 2), ("q", 3), ("p", 4))):
            before = server.pages[page].newest
            threads.append(threading.Thread(target=ask, args=(k, page, target)))
            threads[-1].start()
            while server.pages[page].newest == before:
                time.sleep(0.005)
    for thread in threads:
        thread.join()
    assert [found[k][0] for k in range(4)] == [409, 409, 200, 200]
    assert found[0][1] == {"error": "a newer question has come"}
    assert found[3][1]["ledger"]["start"] == pytest.approx(float(server.pages["p"].desk.y[4]))


def test_a_question_is_given_up_between_two_layers(server, monkeypatch):
    asked, steps = question(server.choices.as_json()), []
    assert post(server, "/photo", EXAMPLE.read_bytes(), X_Page="slow")[0] == 200
    whole = Desk.explain

    def explain(self, target, composite, proceed):
        def step():
            steps.append(1)
            if len(steps) == 3:
                server.pages["slow"].newest += 1
            proceed()

        return whole(self, target, composite, step)

    monkeypatch.setattr(Desk, "explain", explain)
    assert post(server, "/explain", asked, X_Page="slow")[0] == 409
    assert len(steps) == 3


def test_only_so_many_photographs_are_kept(server):
    asked = question(server.choices.as_json())
    names = [f"page {k}" for k in range(PAGES + 1)]
    for name in names:
        assert post(server, "/photo", EXAMPLE.read_bytes(), X_Page=name)[0] == 200
    assert len(server.pages) == PAGES
    assert [post(server, "/explain", asked, X_Page=name)[0] for name in names[::-1]][:PAGES] == [200] * PAGES
    status, answer = post(server, "/explain", asked, X_Page=names[0])
    assert (status, answer) == (410, {"error": "the photograph is no longer at hand: send it again"})


def test_what_should_not_go_wrong_is_500_and_on_the_terminal(server, monkeypatch, capfd):
    monkeypatch.setattr(server, "photo", lambda *_: 1 / 0)
    assert post(server, "/photo", b"x") == (500, {"error": "something went wrong that should not; the terminal says what"})
    time.sleep(0.1)
    assert "ZeroDivisionError" in capfd.readouterr().err


# ---- the command ------------------------------------------------------------------------------------------------------


def test_the_command_serves_until_it_is_interrupted():
    command = [sys.executable, "-m", "lrp_toolbox", "serve", "--model", "lenet5-mnist", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}

    def heed_interrupts():
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job in the background is told to ignore them, and so are its children

    with subprocess.Popen(command, env=environment, preexec_fn=heed_interrupts, **pipes) as process:
        try:
            line = process.stdout.readline()
            port = int(re.fullmatch(r"lenet5-mnist: http://127\.0\.0\.1:(\d+)/ \(Ctrl-C ends it\)\n", line)[1])
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/")
            assert connection.getresponse().status == 200
            connection.close()
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 0
            assert process.stderr.read() == ""
        finally:
            process.kill()


def test_ports_that_cannot_be_had(server, capsys):
    for port, sentence in ((70000, "port: expected a number from 0 to 65535"), (server.server_address[1], "cannot be had")):
        assert main(["serve", "--model", "lenet5-mnist", "--port", str(port)]) == 2
        assert sentence in capsys.readouterr().err


def test_only_this_machine_can_connect(server):
    assert server.server_address[0] == "127.0.0.1"


# ---- the page, in a browser -------------------------------------------------------------------------------------------

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ["--headless=new", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync", "--force-device-scale-factor=1"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium, with no window and a profile of its own."""
    driver = shutil.which("chromedriver")
    if CHROMIUM is None or driver is None:
        pytest.skip("no chromium with its chromedriver: apt-get install chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


class Visit:
    """The page as its user meets it."""

    def __init__(self, browser, server, width=1280, theme="light"):
        self.browser = browser
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        self.devtools("Emulation.setDeviceMetricsOverride", **size)
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        browser.get_log("browser")
        browser.get(server.url)
        self.until(lambda: self.run("return document.getElementById('keep').disabled === false"))
        self.settle()

    def devtools(self, command, **parameters):
        return self.browser.execute_cdp_cmd(command, parameters)

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def until(self, condition):
        end = time.monotonic() + 60
        while not condition():
            assert time.monotonic() < end, self.run("return document.body.innerText")
            time.sleep(0.02)

    def settle(self):
        """Until what was asked last is answered."""
        time.sleep(0.06)
        self.until(lambda: self.run("return document.getElementById('figure').getAttribute('aria-busy') === 'false'"))

    def find(self, css):
        return self.browser.find_element("css selector", css)

    def text(self, name):
        return self.run("return document.getElementById(arguments[0]).textContent", name)

    @property
    def pixels(self):
        return self.run("return document.getElementById('picture').toDataURL()")

    @property
    def ledger(self):
        return self.run("return document.getElementById('layers').innerHTML") + self.text("sum")

    def drop(self, *paths):
        """Files dragged in from elsewhere and let go over the picture."""
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.devtools("Input.dispatchDragEvent", type=kind, x=200, y=200, data=data)

    def key(self, key):
        from selenium.webdriver import ActionChains

        ActionChains(self.browser, duration=0).send_keys(key).perform()

    def focused(self):
        return self.run("const e = document.activeElement; return e.id || e.value || e.textContent")

    @contextmanager
    def changes(self, *what):
        """Both the picture and the ledger change, or what else is named."""
        what = what or ("pixels", "ledger")
        before = [getattr(self, name) for name in what]
        yield
        self.settle()
        for name, old in zip(what, before, strict=True):
            assert getattr(self, name) != old, name
        assert self.find("#error").is_displayed() is False

    def complaints(self):
        return [line["message"] for line in self.browser.get_log("browser")]


@pytest.fixture
def visit(browser, server):
    return Visit(browser, server)


@pytest.fixture
def seven(tmp_path):
    """Something like a 7, in a file."""
    digit = np.zeros((28, 28), np.uint8)
    digit[6:9, 6:21] = 255
    for row in range(9, 24):
        column = 20 - (row - 8) // 2
        digit[row, column - 2 : column + 1] = 255
    Image.fromarray(digit).save(tmp_path / "seven.png")
    return tmp_path / "seven.png"


def test_a_photograph_is_dropped_and_everything_is_clicked(visit, server, seven):
    assert visit.find("[name=class]:checked").get_attribute("value") == "2"
    assert visit.text("caption").startswith("2 ")
    with visit.changes():
        visit.drop(seven)
        visit.until(lambda: visit.text("caption").startswith("7 "))
    assert visit.find("[name=class]:checked").get_attribute("value") == "7"
    start = float(server.pages[next(reversed(server.pages))].desk.y[7])
    assert visit.text("sum").startswith(f"7: {start:#.4g} = ")

    with visit.changes():
        visit.find("#classes label:nth-child(2)").click()
    with visit.changes():
        visit.find("#group-conv option[value=gamma]").click()
    with visit.changes():
        drag(visit, "#group-conv-row input[type=range]", 0.8)
    with visit.changes():
        visit.find("#group-conv option[value=alphabeta]").click()
    with visit.changes():
        drag(visit, "#group-conv-row input[type=range]", 0.7)
    assert "α = 3" in visit.text("caption")
    with visit.changes():
        exact = visit.find("#group-dense-row input[type=number]")
        exact.clear()
        exact.send_keys("0.5\t")
    with visit.changes():
        drag(visit, "#flat", 1)
    assert visit.text("flat-said") == "first 2 of 2"
    with visit.changes():
        visit.find("[data-layer=fc2] option[value=alphabeta]").click()
    assert visit.text("caption").endswith(", fc2 αβ")
    with visit.changes():
        visit.find("#forget").click()
    with visit.changes():
        visit.find("#presets button:first-child").click()
    assert visit.find("#presets button:first-child").get_attribute("aria-pressed") == "true"
    for view in ("heatmap", "photo", "overlay"):
        with visit.changes("pixels"):
            visit.find(f"#view label:has([value={view}])").click()
    visit.find("#keep").click()
    chosen = visit.text("caption").split()[0]
    assert visit.find("#kept figcaption").text.startswith(f"{chosen}: z")
    visit.find("#kept button").click()
    assert not visit.find("#kept").is_displayed()
    visit.find("#search").send_keys("9")
    assert [label.text.split()[0] for label in visit.browser.find_elements("css selector", "#classes label")] == ["9"]
    with visit.changes():
        visit.find("#classes label").click()
    with visit.changes("pixels"):
        visit.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        time.sleep(0.1)
    assert visit.complaints() == []


def drag(visit, css, part):
    """The thumb of a slider, with the mouse, to that part of its width."""
    x, y, width, height = visit.run(
        "const e = document.querySelector(arguments[0]); e.scrollIntoView({block: 'center'});"
        "const r = e.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]",
        css,
    )
    at = {"x": x + 8 + part * (width - 16), "y": y + height / 2, "button": "left", "clickCount": 1}
    visit.devtools("Input.dispatchMouseEvent", type="mousePressed", **at)
    visit.devtools("Input.dispatchMouseEvent", type="mouseReleased", **at)


def test_the_keyboard_does_it_all(visit):
    order = []
    visit.run("document.activeElement.blur()")
    for _ in range(40):
        visit.key("\t")
        order.append(visit.focused())
        if order[-1] == "":
            break
    wanted = ["Skip to classes and rules", "file", "overlay", "keep", "search", "2", "z", "group-dense", "group-conv", "flat"]
    places = [order.index(name) for name in wanted]
    assert places == sorted(places)
    outlined = visit.run(
        "document.getElementById('flat').focus(); return getComputedStyle(document.activeElement).outlineStyle"
    )
    assert outlined == "solid"
    with visit.changes():
        visit.key("\ue014")  # → on the ♭ depth
    assert visit.text("flat-said") == "first 2 of 2"
    assert visit.focused() == "flat"
    visit.run("document.querySelector('[name=class]:checked').focus()")
    with visit.changes():
        visit.key("\ue015")  # ↓ to the next class
    visit.run("document.querySelector('#presets button').focus()")
    with visit.changes():
        visit.key(" ")
    visit.run("document.getElementById('group-conv').focus()")
    with visit.changes():
        visit.key("w")  # w²
    visit.run("document.querySelector('[data-layer=conv1] select').focus()")
    with visit.changes():
        visit.key("\ue015")
    assert visit.focused() != ""
    assert ", conv1 " in visit.text("caption")
    assert visit.complaints() == []


def test_what_is_no_photograph_is_said_on_the_page(visit, tmp_path, seven):
    (tmp_path / "text.png").write_text("no picture")
    before = visit.pixels
    visit.drop(tmp_path / "text.png")
    visit.until(lambda: visit.find("#error").is_displayed())
    assert visit.text("error").startswith("photo: not a picture")
    assert visit.pixels == before
    visit.drop(seven)
    visit.until(lambda: not visit.find("#error").is_displayed())
    visit.settle()
    assert visit.text("caption").startswith("7 ")


def test_a_photograph_that_the_server_no_longer_has_is_sent_again(visit, server):
    server.pages.clear()
    with visit.changes():
        visit.find("#classes label:nth-child(3)").click()
    [name] = server.pages
    assert server.pages[name].desk is not None


def test_a_slider_that_moves_leaves_nothing_to_wait_for(visit):
    """Twenty positions at once; the last one counts, whichever answers come."""
    visit.run(
        "const e = document.querySelector('#group-conv-row input[type=range]');"
        "const to = (value) => { e.value = value; e.dispatchEvent(new Event('input')); };"
        "for (let k = 0; k <= 20; k++) setTimeout(() => to(1 + k / 10), 10 * k);"
    )
    time.sleep(0.3)
    visit.settle()
    assert "α = 3" in visit.text("caption")
    assert visit.complaints() == []


PALE = """
const light = (c) => {
  const [r, g, b] = c.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const rgba = (text) => text.match(/[\\d.]+/g).map(Number);
const ground = (e) => {
  const c = rgba(getComputedStyle(e).backgroundColor);
  return c[3] === 0 ? ground(e.parentElement) : c;
};
const words = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
const reads = (e) => words(e) || e.matches("select, [type=search], [type=number]");
return [...document.querySelectorAll("body *")].filter((e) => !e.disabled && e.checkVisibility() && reads(e)).filter((e) => {
  const [a, b] = [rgba(getComputedStyle(e).color), ground(e)].map((c) => light(c.slice(0, 3)));
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5;
}).map((e) => e.outerHTML.slice(0, 80));
"""  # what can be read, and has less than the contrast that WCAG 2 asks for


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_it_fits_is_named_and_can_be_read(browser, server, width, theme):
    visit = Visit(browser, server, width, theme)
    visit.find("#keep").click()
    assert visit.run("return document.documentElement.scrollWidth") <= width
    assert visit.run(PALE) == []
    spoken = {"button", "combobox", "slider", "radio", "spinbutton", "searchbox", "img", "image", "region", "table"}
    nodes = visit.devtools("Accessibility.getFullAXTree")["nodes"]
    named = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n.get("ignored")]
    found = [(role, name) for role, name in named if role in spoken]
    assert {"slider", "combobox", "radio", "button", "searchbox"} <= {role for role, _ in found}
    assert [role for role, name in found if role != "table" and not name.strip()] == []
    assert visit.complaints() == []

"""`lrp serve`: numbers as `explain` has them, hostile requests refused, and the page in a real browser."""

import base64
import dataclasses
import http.client
import io
import json
import os
import re
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import urllib.parse
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

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
from lrp_toolbox.attribution.names import parse_composite
from lrp_toolbox.cli import main
from lrp_toolbox.composites import First
from lrp_toolbox.data.photos import decode_photo
from lrp_toolbox.serve import server as serving
from lrp_toolbox.serve.choices import PAPER, Choices
from lrp_toolbox.serve.recipe import Recipe
from lrp_toolbox.serve.server import LARGEST, PAGES, TYPES, Server
from lrp_toolbox.serve.session import Session, in_steps

EXAMPLE = ROOT / "models" / "lenet5-mnist" / "example.png"
PHOTO = lrp.read_photo(EXAMPLE)

# ---- sessions ---------------------------------------------------------------------------------------------------------


def branching():
    """A net with both kinds of branches, batch normalisation, a transposed convolution and average pooling."""
    rng = np.random.default_rng(0)
    w = lambda *shape: rng.normal(size=shape).astype(np.float32)
    one, two = Conv(w(3, 3, 2, 3), w(3), padding=1), Sequential(Conv(w(1, 1, 2, 2), w(2)), ReLU())
    residual = Add(Sequential(Conv(w(3, 3, 5, 5), w(5), padding=1), ReLU()), Identity())
    norm = lrp.BatchNorm(w(2), abs(w(2)), w(2), w(2))
    net = Sequential(
        conv=Conv(w(5, 5, 1, 2), w(2), stride=4), norm=norm, relu=ReLU(), fire=Concat(one, two), relu2=ReLU(),
        residual=residual, up=lrp.ConvTranspose(w(2, 2, 5, 5), w(5), stride=2), relu3=ReLU(),
        pool=lrp.AvgPool(None), flatten=lrp.Flatten(), fc=Linear(w(5, 10), w(10)),
    )  # fmt: skip
    return lrp.Model("branching", net, tuple("abcdefghij"), lrp.Preprocessing((28, 28), "crop", "L", std=255.0))


RULES = [Z(), Epsilon(0.01), AlphaBeta(2), AlphaBeta(1), AlphaBeta(0), AlphaBeta(1.5), ZPlus(), Gamma(0.25), Gamma(3), Flat()]
RULES += [WSquare(), AlphaBeta(2, bias="ignore"), AlphaBeta(2, renormalize=True), AlphaBeta(3, bias="distribute")]
RULES += [Gamma(1, bias="ignore"), ZPlus(bias="ignore"), ZPlus(bias="distribute")]
NETS = {"lenet": lrp.load("lenet5-mnist"), "branching": branching()}
SESSIONS = {name: Session(in_steps(model), PHOTO) for name, model in NETS.items()}


@st.composite
def questions(draw):
    rule = st.sampled_from(RULES)
    entries = [(First(1), draw(rule))] if draw(st.booleans()) else []
    return draw(st.integers(0, 9)), Composite([*entries, (is_dense, draw(rule)), (lrp.modules.Module, draw(rule))])


@pytest.mark.parametrize("name", NETS)
@given(question=questions())
def test_whatever_was_asked_before_the_answer_is_that_of_explain(name, question):
    """One session for all examples: each question meets what the last one left."""
    target, composite = question
    R, ledger, table = SESSIONS[name].explain(target, composite)
    expected = lrp.explain(NETS[name], NETS[name].prepare(PHOTO), target, composite)
    size = float(abs(expected.R).max()) + float(sum(abs(e.arriving) for e in expected.ledger)) / len(expected.ledger)
    np.testing.assert_allclose(R, expected.R, rtol=0, atol=1e-3 * size)
    assert [e.name for e in ledger] == [e.name for e in expected.ledger]
    for mine, theirs in zip(ledger, expected.ledger, strict=True):
        assert mine.rule == theirs.rule
        for amount in ("arriving", "passed", "bias", "eps", "zero_denominator", "padding"):
            assert float(getattr(mine, amount)) == pytest.approx(float(getattr(theirs, amount)), rel=1e-3, abs=1e-3 * size)
    assert str(table).partition("\n")[2] == str(expected.rules).partition("\n")[2]


def test_only_what_differs_is_walked_again(lenet):
    session, steps = Session(in_steps(lenet), PHOTO), []
    layers = len(lenet.net)

    def walked(target, composite):
        steps.clear()
        session.explain(target, composite, lambda: steps.append(1))
        return len(steps)

    assert walked(2, lrp.lrp_cmp(flat=0)) == layers
    assert walked(2, lrp.lrp_cmp(flat=0)) == 0
    assert walked(2, lrp.lrp_cmp(flat=1)) == 1  # the first layer
    assert walked(2, lrp.lrp_cmp(flat=2)) == 4  # down from the second convolution
    assert walked(3, lrp.lrp_cmp(flat=2)) == layers


def test_a_question_that_is_given_up_leaves_its_steps_to_the_next(lenet):
    session, left = Session(in_steps(lenet), PHOTO), [5]

    def proceed():
        left[0] -= 1
        if left[0] < 0:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        session.explain(2, lrp.lrp_cmp(), proceed)
    left[0] = len(lenet.net) - 5
    R, _, _ = session.explain(2, lrp.lrp_cmp(), proceed)
    np.testing.assert_array_equal(R, Session(in_steps(lenet), PHOTO).explain(2, lrp.lrp_cmp())[0])


def test_nets_that_are_no_sequential():
    w = np.random.default_rng(0).normal(size=(28, 28, 1, 10)).astype(np.float32)
    for net in (Concat(Sequential(Conv(w), lrp.Flatten())), Sequential(Sequential(Conv(w)), lrp.Flatten())):
        model = lrp.Model("one", net, tuple("abcdefghij"), NETS["lenet"].preprocessing)
        R, _, _ = Session(in_steps(model), PHOTO).explain(3, uniform(Z()))
        np.testing.assert_allclose(R, lrp.explain(model, model.prepare(PHOTO), 3, Z()).R, rtol=1e-5, atol=1e-6)


# ---- choices ----------------------------------------------------------------------------------------------------------


def test_presets_are_the_composites_of_the_paper(vgg16):
    """Each, as the page sends it, resolves to the very rules of `lrp_cmp` and `uniform`."""
    choices = Choices(in_steps(vgg16))
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
    assert [p["name"] for p in shown["presets"]][: len(expected)] == list(expected)
    assert shown["usual"] == "CMP:α2+♭"
    for preset in shown["presets"][: len(expected)]:
        asked = {
            "target": 7,
            "groups": preset["groups"],
            "flat": preset["flat"],
            "layers": preset["layers"],
            "colours": "day",
            "photo": None,
        }
        shape = vgg16.preprocessing.shape
        mine = choices.read(asked).composite.resolve(vgg16.net, shape)
        assert mine.rules == expected[preset["name"]].resolve(vgg16.net, shape).rules


def test_every_choice_that_is_offered_can_be_made():
    for model in NETS.values():
        choices = Choices(in_steps(model))
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
    return {
        "target": 2,
        "groups": preset["groups"],
        "flat": preset["flat"],
        "layers": preset["layers"],
        "colours": "day",
        "photo": None,
        **changes,
    }


def test_a_preset_is_offered_as_choices_that_mean_the_same():
    for model in NETS.values():
        choices = Choices(in_steps(model))
        for preset in choices.as_json()["presets"]:
            asked = question(choices.as_json(), **{key: preset[key] for key in ("groups", "flat", "layers")})
            mine = choices.resolve(choices.read(asked).composite).rules
            assert mine == choices.resolve(parse_composite(PAPER.get(preset["name"], preset["name"]), choices.model)).rules


# ---- the same as a command and as code --------------------------------------------------------------------------------


def mixed(shown, **layers):
    """Rules that no method of the command line means."""
    groups = {
        "dense": {"rule": "epsilon", "eps": 0.01},
        "conv": {"rule": "gamma", "gamma": 0.5},
        "pooling": {"rule": "z"},
        "sum": {"rule": "epsilon", "eps": 0.1, "bias": "ignore"},
    }
    return {"groups": {g["name"]: groups[g["name"]] for g in shown["groups"]}, "flat": 1, "layers": layers}


def asked_in_many_ways(shown):
    for preset in shown["presets"]:
        yield {key: preset[key] for key in ("groups", "flat", "layers")}
    usual = question(shown)
    yield {"groups": {**usual["groups"], "conv": {"rule": "alphabeta", "alpha": 1.5}}, "colours": "night"}
    yield {"groups": {**usual["groups"], "dense": {"rule": "epsilon", "eps": 0.25}}, "flat": 2}
    first = next(layer["name"] for layer in shown["layers"][::-1] if "zbox" in layer["rules"])
    yield {"layers": {first: {"rule": "zbox"}}, "flat": 0}
    yield {"layers": {first: {"rule": "wsquare"}}}
    yield mixed(shown)
    yield mixed(shown, **{first: {"rule": "alphabeta", "alpha": 1}})


def relevance_of(code, names):
    """What a script computes, run in a folder of its own."""
    exec(compile(code, "recipe", "exec"), names)
    return names["e"]


def test_the_command_and_the_code_reproduce_the_relevance(tmp_path, monkeypatch, lenet):
    """Each is run as it is shown, in the folder of the photograph. The picture that the code writes is the page's."""
    monkeypatch.chdir(tmp_path)
    name = "-my 'two' \u00fc.png"
    shutil.copy(EXAMPLE, tmp_path / name)
    drawn, commands = [], 0
    whole = render.montage
    monkeypatch.setattr(render, "montage", lambda photo, maps, **given: drawn.append(maps) or whole(photo, maps, **given))
    with running(lenet) as server:
        assert post(server, "/photo", EXAMPLE.read_bytes())[0] == 200
        for k, changes in enumerate(asked_in_many_ways(server.choices.as_json())):
            asked = question(server.choices.as_json(), target=k % 10, photo=name, **{} | changes)
            status, answer = post(server, "/explain", asked)
            assert status == 200
            status, _, numbers = send(server, "POST", "/numbers", json.dumps(asked).encode())
            assert status == 200
            R = np.load(io.BytesIO(numbers))["relevance"][0, 0]
            near = {"rtol": 0, "atol": 1e-4 * float(abs(R).max())}
            e = relevance_of(answer["code"], {})
            np.testing.assert_allclose(e.R, R, **near)
            [written] = [file for file in tmp_path.iterdir() if file.name.endswith("-lrp.png")]
            assert abs(np.asarray(Image.open(written)).astype(int) - picture(answer["overlay"])).max() <= 2
            written.unlink()
            if answer["command"] is not None:
                commands += 1
                words = shlex.split(answer["command"])
                assert words[0] == "lrp"
                assert main(words[1:]) == 0
                np.testing.assert_allclose(drawn[-1][0][0], R, **near)
                for file in tmp_path.glob("*-lrp.png"):
                    file.unlink()
    assert commands == k - 1  # all but the last two, which mix rules


def test_the_code_says_the_layers_of_the_model_as_it_is_stored():
    """The page works on a net in steps, whose layers may have longer names."""
    w = np.random.default_rng(0).normal(size=(28, 28, 1, 10)).astype(np.float32)
    one = lrp.Model("one", Concat(Sequential(Conv(w), lrp.Flatten())), tuple("abcdefghij"), NETS["lenet"].preprocessing)
    for model in (one, NETS["branching"]):
        choices = Choices(in_steps(model))
        layer = next(place.name for place in choices.layers if len(choices.rules[place.name]) > 3)
        asked = choices.read(
            question(choices.as_json(), **mixed(choices.as_json(), **{layer: {"rule": "wsquare"}}) | {"flat": 0})
        )
        code = Recipe(model, model.name, choices).code(asked)
        composite = eval(code.split("composite = ")[1].split("\ne = ")[0], {"lrp": lrp})
        found = lrp.explain(model, model.prepare(PHOTO), 2, composite)
        R, _, _ = Session(choices.model, PHOTO).explain(2, asked.composite)
        np.testing.assert_allclose(found.R, R, rtol=0, atol=1e-3 * float(abs(R).max()))


def test_the_example_of_a_model_needs_no_file_name(lenet):
    choices = Choices(in_steps(lenet))
    recipe = Recipe(lenet, "lenet5-mnist", choices)
    asked = choices.read(question(choices.as_json()))
    assert recipe.command(asked) == "lrp explain --model lenet5-mnist --target 2 --method cmp:alpha=2,flat=1"
    assert "read_photo(model.example)" in recipe.code(asked)


@pytest.mark.parametrize(
    ("classes", "target"),
    [(("cat", "dog"), "cat"), (("cat", "cat"), 0), (("top", "dog"), 0), (("1", "0"), 0), (("-x", "y"), 0), (("a\nb", "c"), 0)],
)
def test_a_class_is_named_where_its_name_means_only_this_class(classes, target):
    net = Sequential(flatten=lrp.Flatten(), fc=Linear(np.ones((784, 2), np.float32)))
    model = lrp.Model("two", net, classes, NETS["lenet"].preprocessing)
    choices = Choices(in_steps(model))
    asked = choices.read(question(choices.as_json(), target=0, groups={"dense": {"rule": "z"}}, flat=0))
    words = shlex.split(Recipe(model, "two", choices).command(asked))
    assert words[words.index("--target") + 1] == str(target)
    assert f"target={json.dumps(target)}" in Recipe(model, "two", choices).code(asked)


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


def test_numbers_are_those_of_explain_and_hold_no_pickle(server, lenet):
    assert post(server, "/photo", EXAMPLE.read_bytes())[0] == 200
    asked = question(server.choices.as_json(), target=7)
    status, headers, body = send(server, "POST", "/numbers", json.dumps(asked).encode())
    assert (status, headers["Content-Type"]) == (200, "application/octet-stream")
    found = np.load(io.BytesIO(body), allow_pickle=False)
    e = lrp.explain(lenet, lenet.prepare(PHOTO), 7)
    np.testing.assert_allclose(found["relevance"][0, 0], e.R, rtol=0, atol=1e-5 * float(abs(e.R).max()))
    np.testing.assert_allclose(found["logits"], e.y, rtol=1e-4)
    assert found["classes"].tolist() == list(lenet.classes)
    assert found["targets"].tolist() == [7]
    assert found["ledger_layers"].tolist() == [entry.name for entry in e.ledger]
    for k, column in enumerate(found["ledger_amounts"].tolist()[:-1]):
        mine, theirs = found["ledger"][0, 0, :, k], [float(getattr(entry, column)) for entry in e.ledger]
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)


def test_the_models_are_those_of_lrp_models(server):
    status, _, body = send(server, "GET", "/models")
    assert status == 200
    assert json.loads(body) == {"models": list(lrp.available()), "first": "lenet5-mnist"}


def test_another_model_is_loaded_when_it_is_asked_for(server, tmp_path, monkeypatch):
    """A small one with a name that no header can hold; the photograph has to be sent again for it."""
    lrp.save(dataclasses.replace(NETS["branching"], name="other"), tmp_path / "größer")
    monkeypatch.setitem(server.folders, "größer", tmp_path / "größer")
    other = {"X_Model": urllib.parse.quote("größer")}
    shown = json.loads(send(server, "GET", "/choices", **other)[2])
    assert (shown["model"], shown["classes"]) == ("other", list("abcdefghij"))
    assert send(server, "GET", "/example", **other)[0] == 404
    assert post(server, "/photo", EXAMPLE.read_bytes())[0] == 200
    assert post(server, "/explain", question(shown), **other)[0] == 410
    status, seen = post(server, "/photo", EXAMPLE.read_bytes(), **other)
    np.testing.assert_allclose(
        seen["outputs"], NETS["branching"].net.forward(NETS["branching"].prepare(PHOTO)), rtol=1e-3, atol=1e-3
    )
    assert post(server, "/explain", question(shown), **other)[0] == 200
    assert len(server.loaded) <= serving.MODELS
    monkeypatch.setitem(server.folders, "gone", tmp_path / "gone")
    status, answer = post(server, "/photo", EXAMPLE.read_bytes(), X_Model="gone")
    assert status == 400
    assert answer["error"].startswith("X-Model: the model gone cannot be loaded: ")


@pytest.mark.parametrize("name", ["nothing", "..", "../models", "/etc", "%2e%2e/%2e%2e", ""])
def test_only_known_models_are_opened(server, name):
    for status, _, body in (send(server, "GET", "/choices", X_Model=name), send(server, "POST", "/photo", b"x", X_Model=name)):
        assert status == 404
        assert json.loads(body)["error"].startswith("X-Model: there is no model ")


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
@pytest.mark.parametrize("path", TYPES)
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


@pytest.mark.parametrize("request_line", ["GET /", "GET / HTTP/0.9", "GET /page.js ", "DELETE / X", "GET /nothing HTTP/0.9"])
def test_every_answer_has_the_headers_that_keep_it_to_itself(server, request_line):
    """In HTTP/0.9 an answer is the file alone; `python -m fuzz requests` found the page without its headers."""
    with socket.create_connection(server.server_address, timeout=10) as connection:
        connection.sendall(f"{request_line}\r\nHost: 127.0.0.1:{server.server_address[1]}\r\n\r\n".encode())
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head = answer.partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.0 ")
    for name, value in serving.HEADERS.items():
        assert f"{name}: {value}".encode() in head


@pytest.fixture(scope="module")
def real():
    """The command in a process of its own, as a user starts it; a request has two seconds to arrive."""
    sys.path.insert(0, str(ROOT))
    from fuzz.requests import Serving

    with Serving(seconds=2) as serving:
        yield serving
        assert serving.said() == ""


def test_fifty_at_once_are_all_answered(real):
    asked = real.request("POST", "/photo", EXAMPLE.read_bytes())
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(real.send, [asked.replace(b"X-Page: fuzz", b"X-Page: %d" % k) for k in range(50)]))
    assert [answer.split(b" ", 2)[1] for answer in answers] == [b"200"] * 50
    with ThreadPoolExecutor(50) as pool:  # of one page only the newest question counts
        answers = list(pool.map(real.send, [asked] * 50))
    assert {answer.split(b" ", 2)[1] for answer in answers} <= {b"200", b"409"}


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: {host}\r\nX-Slow: ", b"POST {body}"])
def test_fifty_slow_clients_keep_nobody_waiting_and_are_let_go(real, sent):
    """Ones that connect and say nothing, that stop in the first line, in the headers or in the body."""
    whole = real.request("POST", "/photo", EXAMPLE.read_bytes())
    sent = whole[:-10] if b"{body}" in sent else sent.replace(b"{host}", real.host)
    slow = [socket.create_connection(("127.0.0.1", real.port), timeout=30) for _ in range(50)]
    try:
        for connection in slow:
            connection.sendall(sent)
        began = time.monotonic()
        assert b" 200 " in real.send(real.request("GET", "/models"))[:16]
        assert b" 200 " in real.send(whole)[:16]
        assert time.monotonic() - began < 10
        for connection in slow:
            with suppress(ConnectionError):
                assert b" 200 " not in b"".join(iter(lambda: connection.recv(1 << 16), b""))[:16]  # noqa: B023
    finally:
        for connection in slow:
            connection.close()


def test_clients_that_do_not_read_are_let_go(real):
    """Their answers are larger than what the system keeps for them."""
    slow = []
    for _ in range(20):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        connection.connect(("127.0.0.1", real.port))
        connection.sendall(real.request("GET", "/page.js"))
        slow.append(connection)
    assert b" 200 " in real.send(real.request("GET", "/models"))[:16]
    until = time.monotonic() + 30
    while len(list(Path(f"/proc/{real.process.pid}/task").glob("*"))) > 20 and time.monotonic() < until:
        time.sleep(0.05)
    assert time.monotonic() < until
    for connection in slow:
        connection.close()


@pytest.mark.parametrize("size", [30 << 20, (30 << 20) + 1])
def test_big_bodies_to_the_command(real, size):
    head = real.request("POST", "/photo").replace(b"Content-Length: 0", b"Content-Length: %d" % size)
    answer = real.send(head + bytes(size), seconds=60)
    assert answer.split(b" ", 2)[1] == (b"400" if size <= 30 << 20 else b"413")
    assert real.memory() < 1 << 30


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"X_Token": "x" * 43}, 403),
        ({"X_Page": "<img src=x onerror=alert(1)>"}, 200),
        ({"X_Model": "<script>alert(1)</script>"}, 404),
        ({"X_Model": "%3Cscript%3E%00%ff"}, 404),
        ({"X_Model": "../../etc"}, 404),
    ],
)
def test_the_command_refuses_strangers_and_sends_no_markup(real, changes, status):
    answer = real.send(real.request("POST", "/photo", EXAMPLE.read_bytes(), **changes))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert int(head.split(b" ", 2)[1]) == status
    assert b"Content-Type: application/json" in head  # a name with markup comes as JSON, which no browser shows as a page
    assert b"nosniff" in head
    assert real.token not in body
    assert b"script" not in head


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
    (
        {"layers": {"conv1": {"rule": "alphabeta", "bias": "no"}}},
        "layers.conv1.bias: expected one of 'absorb', 'ignore', 'distribute'",
    ),
    ({"layers": {"conv1": {"rule": "alphabeta", "renormalize": 1}}}, "layers.conv1.renormalize: expected one of False, True"),
    ({"layers": {"conv1": {"rule": "flat", "bias": "ignore"}}}, "layers.conv1.bias: flat has no such parameter"),
    ({"photo": ""}, "photo: expected the name of a file, or null, got ''"),
    ({"photo": "a\nb"}, "photo"),
    ({"photo": 3}, "photo"),
    ({"photo": "p" * 256}, "photo"),
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
    ({"more": 1}, "question: expected an object with target, groups, flat, layers, colours, photo, got"),
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
    session = Session(server.choices.model, PHOTO)
    session.y = np.full(10, np.float32(3e38))
    monkeypatch.setattr(serving, "Session", lambda *_: session)
    assert post(server, "/photo", EXAMPLE.read_bytes(), X_Page="huge")[0] == 200
    asked = question(server.choices.as_json())
    asked["groups"] = {**asked["groups"], "conv": {"rule": "alphabeta", "alpha": 5}, "dense": {"rule": "alphabeta", "alpha": 5}}
    status, answer = post(server, "/explain", asked, X_Page="huge")
    assert status == 400
    assert answer["error"] == "groups: with these rules relevance becomes larger than float32 can hold"


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
    assert found[3][1]["ledger"]["start"] == pytest.approx(float(server.pages["p"].session.y[4]))


def test_a_question_is_given_up_between_two_layers(server, monkeypatch):
    asked, steps = question(server.choices.as_json()), []
    assert post(server, "/photo", EXAMPLE.read_bytes(), X_Page="slow")[0] == 200
    whole = Session.explain

    def explain(self, target, composite, proceed):
        def step():
            steps.append(1)
            if len(steps) == 3:
                server.pages["slow"].newest += 1
            proceed()

        return whole(self, target, composite, step)

    monkeypatch.setattr(Session, "explain", explain)
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
    assert (status, answer) == (410, {"error": "the photograph is no longer in memory: send it again"})


def test_what_should_not_go_wrong_is_500_and_on_the_terminal(server, monkeypatch, capfd):
    monkeypatch.setattr(server, "photo", lambda *_: 1 / 0)
    assert post(server, "/photo", b"x") == (500, {"error": "an error inside of lrp serve; the terminal shows it"})
    time.sleep(0.1)
    assert "ZeroDivisionError" in capfd.readouterr().err


# ---- the command ------------------------------------------------------------------------------------------------------


def test_the_command_serves_until_it_is_interrupted():
    command = [sys.executable, "-m", "lrp_toolbox", "serve", "--model", "lenet5-mnist", "--port", "0", "--no-browser"]
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


def test_the_browser_is_opened_once_the_page_answers(tmp_path):
    """The program that $BROWSER names gets the address, and can read the page at once."""
    program = tmp_path / "browser"
    program.write_text(
        f"#!{sys.executable}\nimport sys, urllib.request\n"
        f"open({str(tmp_path / 'read')!r}, 'wb').write(urllib.request.urlopen(sys.argv[1]).read())\n"
    )
    program.chmod(0o755)
    lines = printed_by_serve(
        {"BROWSER": str(program)}, lambda: (tmp_path / "read").is_file() and (tmp_path / "read").stat().st_size
    )
    assert (tmp_path / "read").read_bytes().startswith(b"<!doctype html>")
    assert len(lines) == 1


def test_without_a_browser_a_line_says_so(tmp_path):
    """None on the PATH, or only one for text, which could not run the page."""
    bare = {"BROWSER": None, "DISPLAY": None, "WAYLAND_DISPLAY": None, "PATH": str(tmp_path)}
    lines = printed_by_serve(bare, lambda: False, lines=2)
    assert lines[1] == "No browser was found here. Open the address above in a browser on this machine.\n"
    (tmp_path / "w3m").write_text("#!/bin/sh\necho started\n")
    (tmp_path / "w3m").chmod(0o755)
    assert printed_by_serve(bare, lambda: False, lines=2)[1:] == lines[1:]


def printed_by_serve(changes, done, lines=1):
    """The lines that the command prints until `done`, or until there are so many."""
    command = [sys.executable, "-m", "lrp_toolbox", "serve", "--model", "lenet5-mnist", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **changes}
    environment = {name: value for name, value in environment.items() if value is not None}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            found = [process.stdout.readline() for _ in range(lines)]
            end = time.monotonic() + 20
            while lines == 1 and not done():
                assert time.monotonic() < end
                time.sleep(0.02)
        finally:
            process.kill()
        assert process.stderr.read() == ""
        return [*found, *process.stdout.readlines()]


def test_ports_that_cannot_be_had(server, capsys):
    for port, sentence in ((70000, "port: expected a number from 0 to 65535"), (server.server_address[1], "is not free")):
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

    def __init__(self, browser, server, width=1280, theme="light", ready=True):
        self.browser = browser
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        self.devtools("Emulation.setDeviceMetricsOverride", **size)
        self.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        browser.get_log("browser")
        browser.get(server.url)
        if ready:
            self.until(lambda: self.run("return document.getElementById('keep').disabled === false"))
        self.settle()

    def devtools(self, command, **parameters):
        return self.browser.execute_cdp_cmd(command, parameters)

    def run(self, script, *arguments):
        return self.browser.execute_script(script, *arguments)

    def until(self, condition):
        end = time.monotonic() + 20
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
    def zoom(self):
        """How large the picture is drawn, and where its corner lies."""
        matrix = "const m = new DOMMatrix(getComputedStyle(document.querySelector('.layer')).transform); return [m.a, m.e, m.f]"
        return self.run(matrix)

    def box(self, css):
        """Left, top, width, height in the window."""
        script = "const r = document.querySelector(arguments[0]).getBoundingClientRect(); return [r.x, r.y, r.width, r.height]"
        return self.run(script, css)

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
        return self.run("const e = document.activeElement; return e.id || e.dataset.word || e.value || e.textContent")

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
    start = float(server.pages[next(reversed(server.pages))].session.y[7])
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
    visit.find("#kept .away").click()
    assert not visit.find("#kept").is_displayed()
    visit.find("#search").send_keys("9")
    assert [label.text.split()[0] for label in visit.browser.find_elements("css selector", "#classes label")] == ["9"]
    with visit.changes():
        visit.find("#classes label").click()
    with visit.changes("pixels"):
        visit.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
        time.sleep(0.1)
    assert visit.complaints() == []


def wheel(visit, delta, x=0.25, y=0.25, **more):
    left, top, width, height = visit.box("#stage")
    at = {"x": left + x * width, "y": top + y * height}
    visit.devtools("Input.dispatchMouseEvent", type="mouseWheel", deltaX=0, deltaY=delta, **at, **more)
    time.sleep(0.1)


def test_the_wheel_zooms_where_the_mouse_is(visit):
    """The point under the mouse stays where it is; the photograph of the slider moves with the picture."""
    assert visit.zoom == [1, 0, 0]
    assert visit.text("zoomed") == "100 %"
    _, _, width, height = visit.box("#stage")
    wheel(visit, -400)
    zoom, x, y = visit.zoom
    assert zoom == pytest.approx(np.exp(0.8), rel=1e-3)
    assert (x, y) == (pytest.approx(0.25 * width * (1 - zoom), abs=1), pytest.approx(0.25 * height * (1 - zoom), abs=1))
    assert visit.text("zoomed") == f"{100 * zoom:.0f} %"
    assert len(set(visit.run("return [...document.querySelectorAll('#stage .layer')].map((e) => e.style.transform)"))) == 1
    wheel(visit, 4000)
    assert visit.zoom == [1, 0, 0]
    wheel(visit, -9000)
    assert visit.zoom[0] == 16


def test_buttons_and_keys_zoom_and_move(visit):
    visit.find("#zoom-in").click()
    assert visit.zoom[0] == 1.5
    visit.find("#zoom-out").click()
    assert visit.zoom == [1, 0, 0]
    visit.run("document.getElementById('stage').focus()")
    for key in "++":
        visit.key(key)
    zoom, x, y = visit.zoom
    assert zoom == 2.25
    visit.key("\ue014")  # →: what is to the right comes into view
    assert visit.zoom[1] < x
    assert visit.zoom[2] == y
    for _ in range(20):
        visit.key("\ue014")
    assert visit.zoom[1] == pytest.approx(visit.box("#stage")[2] * (1 - zoom), abs=4)  # never beyond the picture
    visit.key("-")
    assert visit.zoom[0] == 1.5
    visit.key("0")
    assert visit.zoom == [1, 0, 0]
    visit.find("#zoom-in").click()
    visit.find("#zoom-fit").click()
    assert visit.zoom == [1, 0, 0]
    assert visit.complaints() == []


def test_the_mouse_drags_and_two_fingers_pinch(visit):
    left, top, width, height = visit.box("#stage")
    wheel(visit, -400, 0.5, 0.5)
    _, x, y = visit.zoom
    at = {"button": "left", "clickCount": 1}
    visit.devtools("Input.dispatchMouseEvent", type="mousePressed", x=left + 200, y=top + 200, **at)
    visit.devtools("Input.dispatchMouseEvent", type="mouseMoved", x=left + 230, y=top + 210, **at)
    visit.devtools("Input.dispatchMouseEvent", type="mouseReleased", x=left + 230, y=top + 210, **at)
    assert visit.zoom[1:] == [pytest.approx(x + 30, abs=1), pytest.approx(y + 10, abs=1)]
    visit.find("#zoom-fit").click()
    middle = left + width / 2, top + height / 2
    for kind, apart in (("touchStart", 40), ("touchMove", 60), ("touchMove", 80)):
        points = [{"x": middle[0] + side * apart, "y": middle[1], "id": k} for k, side in enumerate((-1, 1))]
        visit.devtools("Input.dispatchTouchEvent", type=kind, touchPoints=points)
    visit.devtools("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    assert visit.zoom[0] == pytest.approx(2, rel=0.05)
    assert visit.complaints() == []


def test_the_slider_shows_the_photograph_on_its_left(visit):
    """By keyboard, by its thumb, and by the line on the picture; where the photograph lies is what is seen there."""
    clip = "return getComputedStyle(document.getElementById('before')).clipPath"
    assert visit.run(clip) == "inset(0px 100% 0px 0px)"
    visit.run("document.getElementById('compare').focus()")
    visit.key("\ue010")  # End
    assert visit.run(clip) in ("inset(0px)", "inset(0px 0% 0px 0px)")
    assert visit.run("return document.getElementById('photograph').toDataURL()") != visit.pixels
    visit.find("#view label:has([value=photo])").click()
    assert visit.run("return document.getElementById('photograph').toDataURL()") == visit.pixels
    assert not visit.find("#divider").is_displayed()
    visit.find("#view label:has([value=overlay])").click()
    drag(visit, "#compare", 0.5)
    assert visit.run(clip) == "inset(0px 50% 0px 0px)"
    left, top, width, height = visit.box("#stage")
    at = {"button": "left", "clickCount": 1, "y": top + height / 2}
    visit.devtools("Input.dispatchMouseEvent", type="mousePressed", x=left + width / 2, **at)
    visit.devtools("Input.dispatchMouseEvent", type="mouseMoved", x=left + width / 4, **at)
    visit.devtools("Input.dispatchMouseEvent", type="mouseReleased", x=left + width / 4, **at)
    assert visit.run("return document.getElementById('compare').value") == "25"
    assert visit.run(clip) == "inset(0px 75% 0px 0px)"
    assert visit.zoom == [1, 0, 0]


def downloaded(visit, folder, css):
    visit.devtools("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
    visit.find(css).click()
    visit.until(lambda: [file for file in folder.iterdir() if not file.name.endswith(".crdownload") and file.stat().st_size])
    [file] = folder.iterdir()
    return file


def test_picture_and_numbers_are_downloaded(visit, lenet, tmp_path):
    (tmp_path / "picture").mkdir()
    (tmp_path / "numbers").mkdir()
    file = downloaded(visit, tmp_path / "picture", "#save-picture")
    assert file.name == "example-2-lrp.png"
    e = lrp.explain(lenet, lenet.prepare(PHOTO), 2)
    expected = render.overlay(e.R, PHOTO, quantile=0.999)
    assert abs(np.asarray(Image.open(file).convert("RGB")).astype(int) - expected).max() <= 2
    file = downloaded(visit, tmp_path / "numbers", "#save-numbers")
    assert file.name == "example-2-lrp.npz"
    with np.load(file, allow_pickle=False) as found:
        np.testing.assert_allclose(found["relevance"][0, 0], e.R, rtol=0, atol=1e-4 * float(abs(e.R).max()))
        assert found["targets"].tolist() == [2]
    visit.settle()
    assert visit.complaints() == []


def test_what_is_copied_is_what_is_shown(visit, seven):
    visit.devtools("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    visit.drop(seven)
    visit.until(lambda: visit.text("caption").startswith("7 "))
    visit.find("#recipe summary").click()
    assert visit.text("command") == "lrp explain seven.png --model lenet5-mnist --target 7 --method cmp:alpha=2,flat=1"
    assert 'read_photo("seven.png")' in visit.text("code")
    for name in ("command", "code"):
        visit.find(f"#copy-{name}").click()
        visit.until(lambda name=name: visit.text(f"copy-{name}") == "Copied")
        assert visit.run("return navigator.clipboard.readText()") == visit.text(name)
    with visit.changes():
        visit.find("#group-conv option[value=gamma]").click()
    assert not visit.find("#command").is_displayed()
    assert visit.find("#no-command").is_displayed()
    assert "lrp.Gamma" in visit.text("code")


def test_results_are_compared_and_one_is_restored(visit, server, seven):
    """Another photograph, class and rules; after it is back, the next question is about its photograph."""
    assert not visit.find("#open-compare").is_enabled()
    first = visit.pixels, visit.ledger, visit.text("caption"), visit.text("command")
    visit.find("#keep").click()
    visit.drop(seven)
    visit.until(lambda: visit.text("caption").startswith("7 "))
    visit.settle()
    with visit.changes():
        visit.find("#presets button:first-child").click()
    assert visit.pixels != first[0]
    visit.find("#open-compare").click()
    shown = visit.browser.find_elements("css selector", "#side-figures figure")
    assert [figure.text.split("\n")[0].split()[0] for figure in shown] == ["2", "7"]
    left, right = (figure.rect for figure in shown)
    assert left["y"] == right["y"]
    assert left["width"] + right["width"] > 0.9 * 1280  # side by side, over the whole width
    assert visit.run("return document.activeElement.closest('dialog') !== null")
    visit.key("\ue00c")  # Escape
    assert not visit.find("#side").is_displayed()
    visit.find("#open-compare").click()
    visit.find("#side-figures .restore").click()
    assert not visit.find("#side").is_displayed()
    assert (visit.pixels, visit.ledger, visit.text("caption"), visit.text("command")) == first
    assert visit.find("[name=class]:checked").get_attribute("value") == "2"
    assert visit.find("#presets [aria-pressed=true]").text == "CMP:α2+♭"
    with visit.changes():
        visit.find("#classes label:nth-child(2)").click()
    y = Session(server.choices.model, PHOTO).y
    np.testing.assert_allclose(server.pages[next(reversed(server.pages))].session.y, y)
    assert visit.text("sum").startswith(f"{visit.text('caption').split()[0]}: ")
    visit.find("#kept .restore").click()
    assert visit.pixels == first[0]
    assert visit.complaints() == []


def test_words_are_explained_to_the_mouse_and_to_the_keyboard(visit):
    from selenium.webdriver import ActionChains

    assert not visit.find("#tip").is_displayed()
    found = set()
    visit.run("document.activeElement.blur()")
    for _ in range(60):
        visit.key("\t")
        name = visit.run("return document.activeElement.dataset.word ?? null")
        if name:
            found.add(name)
            tip = visit.find("#tip")
            visit.until(tip.is_displayed)
            assert tip.text.endswith(".")
            assert tip.text == visit.text(f"word-{name}")
            x, y, width, height = visit.box("#tip")
            assert 0 <= x <= 1280 - width
            assert 0 <= y <= 800 - height
            described = visit.run("return document.activeElement.getAttribute('aria-describedby')")
            assert described == f"word-{name}"
        else:
            assert not visit.find("#tip").is_displayed()
    assert {"relevance", "logit", "alpha", "flat", "eps", "ledger", "rule"} <= found
    word = visit.find("[data-word=logit]")
    ActionChains(visit.browser, duration=0).move_to_element(word).perform()
    visit.until(visit.find("#tip").is_displayed)
    assert "score" in visit.find("#tip").text
    visit.key("\ue00c")  # Escape
    assert not visit.find("#tip").is_displayed()


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A server of a model without an example, beside one with."""
    lrp.save(dataclasses.replace(NETS["lenet"], name="bare", example=None), tmp_path / "bare")
    monkeypatch.setenv("LRP_TOOLBOX_MODELS", str(tmp_path))
    with running(lrp.load("bare")) as server:
        yield server


def test_without_a_photograph_the_page_says_what_to_do(browser, bare):
    visit = Visit(browser, bare, ready=False)
    visit.until(lambda: visit.find("#empty").is_displayed())
    assert "Drop one on this page, paste one, or choose a file" in visit.find("#empty").text
    assert not visit.find("#keep").is_enabled()
    visit.find("#file").send_keys(str(EXAMPLE))
    visit.until(lambda: visit.text("caption").startswith("2 "))
    assert not visit.find("#empty").is_displayed()
    assert visit.complaints() == []


def test_another_model_is_chosen_and_restored(browser, bare, tmp_path):
    """The photograph stays. A model that cannot be loaded is said to be, and the last one stays."""
    visit = Visit(browser, bare, ready=False)
    visit.find("#file").send_keys(str(EXAMPLE))
    visit.until(lambda: visit.text("caption").startswith("2 "))
    visit.settle()
    visit.find("#keep").click()
    pixels = visit.pixels
    visit.find("#model option[value=lenet5-mnist]").click()
    visit.until(lambda: "--model lenet5-mnist" in visit.text("command"))
    assert visit.text("summary") == NETS["lenet"].summary
    visit.settle()
    bare.folders["vgg16-voc"] = tmp_path / "gone"
    visit.find("#model option[value=vgg16-voc]").click()
    visit.until(lambda: visit.find("#error").is_displayed())
    assert visit.text("error").startswith("X-Model: the model vgg16-voc cannot be loaded")
    assert visit.run("return document.getElementById('model').value") == "lenet5-mnist"
    visit.find("#kept .restore").click()
    assert visit.pixels == pixels
    assert visit.run("return document.getElementById('model').value") == "bare"
    with visit.changes():
        visit.find("#classes label:nth-child(2)").click()
    assert "--model bare" in visit.text("command")


@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_nothing_moves_while_it_is_computed(browser, server, width):
    """The boxes of the picture and of the controls stay where they are when a class is chosen and an error is shown."""
    visit = Visit(browser, server, width)

    def boxes():
        visit.run("scrollTo(0, 0)")
        return [visit.box(css) for css in ("#stage", "#compare", "#file", "#ask")]

    before = boxes()
    visit.find("#classes label:nth-child(3)").click()
    visit.settle()
    visit.run("const e = document.getElementById('error'); e.textContent = 'An error. '.repeat(20); e.hidden = false")
    assert boxes() == before
    stage = visit.box("#stage")
    assert stage[2] > 0.5 * width or width < 500
    assert stage[3] > 300


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
    wanted = ["Skip to classes and rules", "model", "stage", "zoom-in", "compare", "file", "overlay", "keep", "logit", "search"]
    wanted += ["2", "z", "group-dense", "group-conv", "flat", "save-picture", "save-numbers"]
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
    assert server.pages[name].session is not None


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
@pytest.mark.parametrize("width", [1920, 1280, 390])
def test_it_fits_is_named_and_can_be_read(browser, server, width, theme):
    visit = Visit(browser, server, width, theme)
    visit.find("#keep").click()
    visit.find("#recipe summary").click()
    assert visit.run("return document.documentElement.scrollWidth") <= width
    assert visit.run(PALE) == []
    spoken = {"button", "combobox", "slider", "radio", "spinbutton", "searchbox", "img", "image", "region", "table"}
    nodes = visit.devtools("Accessibility.getFullAXTree")["nodes"]
    named = [(n["role"]["value"], n.get("name", {}).get("value", "")) for n in nodes if not n.get("ignored")]
    found = [(role, name) for role, name in named if role in spoken]
    assert {"slider", "combobox", "radio", "button", "searchbox"} <= {role for role, _ in found}
    assert [role for role, name in found if role != "table" and not name.strip()] == []
    assert visit.complaints() == []

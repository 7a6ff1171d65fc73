"""Experiments: what is shared gives the same numbers; runs that are killed, cut up or spread out leave the same rows."""

import csv
import dataclasses
import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support import rngs

import lrp_toolbox as lrp
from lrp_toolbox.attribution import parse_method
from lrp_toolbox.cli import main
from lrp_toolbox.data import VOC
from lrp_toolbox.experiments import Experiment, Localise, Occlude, Setup, figures, results
from lrp_toolbox.experiments import run as running
from lrp_toolbox.experiments.measure import chosen, outputs_of, shard, wanted
from lrp_toolbox.experiments.methods import asked_methods
from lrp_toolbox.experiments.paper import compared_with_the_paper
from lrp_toolbox.experiments.shared_passes import attribute
from lrp_toolbox.experiments.store import Found, Row, Store
from lrp_toolbox.metrics import Estimate, Localisation, Summary

METHODS = ("uniform", "z", "alphabeta:alpha=1", "alphabeta:alpha=2", "guided_backprop", "gradient_input",
           "cmp:alpha=1,flat=0", "cmp:alpha=2,flat=0", "cmp:alpha=2,flat=1")  # fmt: skip
FEW = ("uniform", "cmp:alpha=2,flat=1")
IMAGES = 40


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """A folder with a model of VOC's 20 classes, and a data set of its form: photographs of noise with one to three boxes."""
    folder, rng = tmp_path_factory.mktemp("tiny"), np.random.default_rng(0)
    normal = lambda *shape: rng.normal(0, 0.3, shape).astype(np.float32)
    net = lrp.Sequential(
        conv1=lrp.Conv(normal(3, 3, 3, 8), normal(8), padding=1), relu1=lrp.ReLU(), pool1=lrp.MaxPool(2),
        conv2=lrp.Conv(normal(3, 3, 8, 8), normal(8), padding=1), relu2=lrp.ReLU(), pool2=lrp.MaxPool(4),
        flatten=lrp.Flatten(), fc=lrp.Linear(normal(288, 20), normal(20)),
    )  # fmt: skip
    preprocessing = lrp.Preprocessing((48, 48), "warp", "BGR", (104.0, 117.0, 123.0), 64.0)
    lrp.save(lrp.Model("tiny", net, VOC.classes, preprocessing), folder / "model")
    (folder / "data" / "JPEGImages").mkdir(parents=True)
    (folder / "data" / "ImageSets").mkdir()
    annotations = {}
    for k in range(IMAGES):
        height, width = rng.integers(40, 90, 2).tolist()
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "data" / "JPEGImages" / f"{k:06}.jpg")
        objects = []
        for _ in range(rng.integers(1, 4)):
            x, y = rng.integers(1, width - 10), rng.integers(1, height - 10)
            box = [x, y, rng.integers(x + 5, width + 1), rng.integers(y + 5, height + 1)]
            objects.append([VOC.classes[rng.choice([3, 7, 14])], *map(int, box)])
        annotations[f"{k:06}"] = {
            "width": width, "height": height, "objects": objects, "person_boxes_complete": k % 4 > 0,
        }  # fmt: skip
    (folder / "data" / "annotations.json").write_text(json.dumps(annotations))
    (folder / "data" / "ImageSets" / "val.txt").write_text("\n".join(annotations))
    return folder


def experiment(tiny, out, **more):
    given = {"methods": FEW, "examples": 2, "bins": 10, **more}
    folders = tiny if isinstance(tiny, dict) else {"data": tiny / "data", "model": tiny / "model"}
    return Experiment("voc", folders["data"], "val", Setup(str(folders["model"])), out, **given)


def arguments(tiny, out, *more):
    return ["experiment", "table1", "--dataset", "voc", "--data", str(tiny / "data"), "--model", str(tiny / "model"), "--out",
            str(out), "--methods", *FEW, "--examples", "1", *map(str, more)]  # fmt: skip


def rows_of(e):
    """All that was measured, from the files themselves."""
    measurement = Localise(e.setup, e.methods)
    return e.store(measurement, {"methods": list(measurement.methods)}).rows()


@pytest.fixture(scope="session")
def whole(tiny, tmp_path_factory):
    """The rows of a run that nothing happened to."""
    e = experiment(tiny, tmp_path_factory.mktemp("whole"))
    assert e.localised() is not None
    return rows_of(e)


# ---- Together --------------------------------------------------------------------------------------------------------


@st.composite
def branching_models(draw):
    """A small net of convolutions with a Concat and an Add, as a model."""
    rng = draw(rngs())
    normal = lambda *shape: rng.normal(size=shape)
    net = lrp.Sequential(
        lrp.Conv(normal(3, 3, 2, 4), normal(4), padding=1), lrp.ReLU(),
        lrp.Concat(lrp.Sequential(lrp.Conv(normal(1, 1, 4, 3), normal(3)), lrp.ReLU()), lrp.MaxPool(3, 1, 1)),
        lrp.Add(lrp.Sequential(lrp.Conv(normal(3, 3, 7, 7), normal(7), padding=1), lrp.ReLU()), lrp.Identity()),
        lrp.AvgPool(2), lrp.Flatten(), lrp.Linear(normal(28, 5), normal(5)), lrp.ReLU(), lrp.Linear(normal(5, 6), normal(6)),
    )  # fmt: skip
    preprocessing = lrp.Preprocessing((4, 4), "warp", "BGR", (0.0, 0.0, 0.0))
    return lrp.Model("branching", net, tuple("abcdef"), preprocessing), normal(4, 4, 2), rng


@settings(max_examples=settings().max_examples // 3)
@given(branching_models(), st.lists(st.integers(0, 5), min_size=1, max_size=7))
def test_shared_passes_give_what_each_method_gives(drawn, targets):
    model, x, _ = drawn
    specs = (*METHODS, "excitation_backprop", "flat", "cmp:alpha=3,flat=all", "cmp:flat=1,pooling=yes", "gradient", "occlusion")
    methods = [parse_method(spec, model) for spec in specs]
    y, relevances = attribute(model, x, targets, methods)
    np.testing.assert_allclose(y, model.net(x)[targets], rtol=1e-12)
    for method, R in zip(methods, relevances, strict=True):
        alone = method(model, x, targets)
        np.testing.assert_allclose(R, alone, rtol=0, atol=1e-9 * max(1.0, np.abs(alone).max()), err_msg=method.name)


def test_the_forward_pass_and_the_common_way_back_are_taken_once(lenet, monkeypatch):
    x = lenet.prepare(lrp.read_photo(lenet.example))
    traced, returned = [], []
    trace, relprop = lrp.Conv.trace, lrp.Conv.relprop

    def counting_trace(self, *args, **kwargs):
        traced.append(self)
        return trace(self, *args, **kwargs)

    def counting_relprop(self, t, R, rule):
        returned.append((self.w.shape[-1], str(rule), len(R)))
        return relprop(self, t, R, rule)

    monkeypatch.setattr(lrp.Conv, "trace", counting_trace)
    monkeypatch.setattr(lrp.Conv, "relprop", counting_relprop)
    specs = ("alphabeta:alpha=1", "cmp:alpha=1,flat=0", "cmp:alpha=1,flat=1", "cmp:alpha=2,flat=0", "cmp:alpha=2,flat=1", "z")
    attribute(lenet, x, [1, 2], [parse_method(spec, lenet) for spec in specs])
    assert len(traced) == 2 * 2  # two convolutions; with and without the parts of αβ
    second = sorted(call for call in returned if call[0] == 16)
    assert second == [(16, "AlphaBeta(alpha=1)", 4), (16, "AlphaBeta(alpha=2)", 2), (16, "Z()", 2)]


# ---- What is measured ------------------------------------------------------------------------------------------------


def inside_over_total(R, boxes, size):
    """Eq. 5 by hand: pixel by pixel, a pixel being in a box if its centre is."""
    (height, width), inside, total, area = R.shape[:2], 0.0, 0.0, 0
    for i in range(height):
        for j in range(width):
            relevance = max(0.0, float(R[i, j].sum()))
            x, y = (j + 0.5) * size[1] / width, (i + 0.5) * size[0] / height
            is_in = any(x0 <= x < x1 and y0 <= y < y1 for x0, y0, x1, y1 in boxes.tolist())
            total, inside, area = total + relevance, inside + is_in * relevance, area + is_in
    return inside / total, inside / total * height * width / area


def test_the_rows_are_equation_5(tiny, whole):
    e = experiment(tiny, tiny / "not used")
    found = {row[:3]: Localisation(*row[3:7]) for row in whole}
    assert len(found) == len(whole) == 2 * sum(len(item.measured) for item in e.items)
    for item in e.items[:3]:
        for name, output in wanted(item, e.outputs).items():
            R = lrp.explain(e.model, e.model.prepare(item.read()), output, lrp.lrp_cmp(2, flat=1)).R
            measured = found[item.id, name, "cmp:alpha=2,flat=1"]
            mu, mu_w = inside_over_total(R, item.boxes[name], item.size)
            assert (measured.mu, measured.mu_w) == pytest.approx((mu, mu_w), rel=1e-5)
            assert found[item.id, name, "uniform"].mu_w == pytest.approx(1, rel=1e-5)


def test_person_is_left_out_where_its_boxes_are_incomplete(tiny, whole):
    measured = {(item, name) for item, name, *_ in whole}
    for item in VOC(tiny / "data").items("val"):
        assert ((item.id, "person") in measured) == ("person" in item.boxes and "person" not in item.incomplete)


def test_occlusion_by_hand(tiny):
    e = experiment(tiny, tiny / "not used")
    item = next(item for item in e.items if len(item.measured) == 2)
    found = {(row.name, row.method): row.values for row in Occlude(e.setup)(item, wanted(item, e.outputs)).rows}
    x = e.model.prepare(item.read())
    for name, output in wanted(item, e.outputs).items():
        mask = item.mask(name, e.model.preprocessing)
        for method, hidden in (("object", mask), ("context", ~mask)):
            without = x.copy()
            without[hidden] = 0
            expected = (e.model.net(x)[output], e.model.net(without)[output], mask.sum(), mask.size)
            assert found[name, method] == pytest.approx(expected, rel=1e-4)


def test_on_the_array_api_standard(tiny):
    pytest.importorskip("array_api_strict")
    e = experiment(tiny, tiny / "not used")
    item = e.items[1]
    for measurement in (Localise(e.setup, METHODS), Occlude(e.setup)):
        other = dataclasses.replace(measurement, setup=dataclasses.replace(e.setup, backend="array_api_strict"))
        rows, same = (m(item, wanted(item, e.outputs)).rows for m in (measurement, other))
        assert [(row.name, row.method) for row in rows] == [(row.name, row.method) for row in same]
        np.testing.assert_allclose([row.values for row in rows], [row.values for row in same], rtol=1e-3)


def test_a_backend_that_is_not_there(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert main(arguments(tiny, tmp_path, "--backend", "cupy")) == 2
    assert "lrp: error: backend cupy: cannot be imported" in capsys.readouterr().err


def test_a_file_in_the_place_of_the_folder_is_told_before_anything_is_measured(tiny, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(arguments(tiny, tmp_path / "file")) == 2
    assert capsys.readouterr().err == f"lrp: error: --out: {tmp_path / 'file'}: expected a folder, found a file\n"


def test_a_model_of_other_classes_is_refused(tiny, lenet):
    with pytest.raises(ValueError, match="lenet5-mnist: does not know the classes of the data set: aeroplane"):
        outputs_of(VOC(tiny / "data"), lenet)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 3), st.integers(1, 9))
def test_samples_grow_and_shards_are_a_partition(n, limit, seed, parts):
    items = list(range(n))
    if limit > n:
        with pytest.raises(ValueError, match=f"limit: expected a number from 1 to {n}"):
            chosen(items, limit, seed)
        return
    some = chosen(items, limit, seed)
    assert len(set(some)) == limit
    assert some == chosen(items, n, seed)[:limit]
    assert sorted(item for i in range(1, parts + 1) for item in shard(some, (i, parts))) == sorted(some)


# ---- The store -------------------------------------------------------------------------------------------------------


def store(folder, part=(1, 1), code="c", **settings):
    told = {"code": code, "version": "1", "commit": code}
    return Store(folder, "m", ("a", "b"), {"methods": ["z"], **settings}, told, part)


def found(item, value=1.0):
    return Found(item, 0.5, [Row("cat", "z", (value, None)), Row("dog", "z", (value, 2.0))])


def test_an_item_is_there_with_all_its_rows_or_not_at_all(tmp_path):
    s = store(tmp_path)
    with s.open() as writer:
        writer.add(found("x"))
        writer.add(found("x", 7.0))  # by another run beside this one
        broken = Found("y", 0.5, [Row("cat", "z", (1.0, 1.0)), Row("cat", "z", (1.0, 1.0))])
        with pytest.raises(sqlite3.IntegrityError):
            writer.add(broken)
    assert s.done() == {"x"}
    assert s.rows() == [("x", "cat", "z", 1.0, None), ("x", "dog", "z", 1.0, 2.0)]
    assert s.seconds() == 0.5


def test_shards_are_read_as_one(tmp_path):
    for i, items in ((1, "ac"), (2, "bc")):
        with store(tmp_path, (i, 2)).open() as writer:
            for item in items:
                writer.add(found(item))
    s = store(tmp_path)
    assert s.done() == set("abc")
    assert [row[:2] for row in s.rows()] == [(item, name) for item in "abc" for name in ("cat", "dog")]
    assert s.seconds() == 1.5


def test_other_settings_and_other_code_are_refused(tmp_path):
    with store(tmp_path).open() as writer:
        writer.add(found("x"))
    with pytest.raises(ValueError, match=r"m\.sqlite: methods: was measured with z, and z, flat is asked for; give another"):
        store(tmp_path, methods=["z", "flat"])
    later = store(tmp_path, code="d")
    assert later.done() == {"x"}  # to draw what is there is no harm
    with pytest.raises(ValueError, match="begun by other code"):
        later.open()


def test_files_that_are_no_measurements(tmp_path):
    with closing(sqlite3.connect(tmp_path / "m.sqlite")) as connection:  # killed before its first word
        connection.execute("PRAGMA journal_mode = WAL")
    s = store(tmp_path)
    assert s.done() == set()
    with s.open() as writer:
        writer.add(found("x"))
    assert s.done() == {"x"}
    (tmp_path / "m-1of2.sqlite").write_text("no database, whatever its name says")
    with pytest.raises(ValueError, match=r"m-1of2\.sqlite: cannot be read as SQLite"):
        store(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE meta SET value = '[' WHERE key = 'settings'", "meta: expected JSON"),
        ("UPDATE meta SET value = x'ff'", "meta: expected JSON"),
        (f"UPDATE meta SET value = '{'[' * 100_000}'", "meta: expected JSON"),
        ("UPDATE meta SET value = '3' WHERE key = 'settings'", "settings: expected an object, found 3"),
        ("UPDATE meta SET value = '{\"methods\": 3}' WHERE key = 'settings'", "methods: expected a list of names, found 3"),
        ("DELETE FROM meta WHERE key = 'code'", "code: expected text, found None"),
        ("UPDATE items SET item = x'ff'", "items: expected a name and a number of seconds"),
        ("UPDATE items SET seconds = 'long'", "items: expected a name and a number of seconds"),
        ("UPDATE rows SET class = x'ff' WHERE class = 'cat'", "rows: expected three names and then numbers"),
        ("UPDATE rows SET a = 'x'", "rows: expected three names and then numbers"),
        ("ALTER TABLE rows RENAME COLUMN a TO c", "expected the measurements of an experiment: no such column"),
        ("DROP TABLE rows", "expected the tables items, meta, rows, found"),
        ("CREATE TRIGGER t AFTER INSERT ON items BEGIN DELETE FROM rows; END", "expected the tables items, meta, rows, found"),
        (
            "ALTER TABLE items RENAME TO old; CREATE VIEW items AS WITH RECURSIVE c(x) AS "
            "(SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x AS item, x AS seconds FROM c",  # without an end
            "expected the tables items, meta, rows, found",
        ),
    ],
)
def test_measurements_that_are_broken_are_refused(tmp_path, change, message):
    """What `python -m fuzz results` found."""
    with store(tmp_path).open() as writer:
        writer.add(found("x"))
    with closing(sqlite3.connect(tmp_path / "m.sqlite")) as connection:
        connection.executescript(change)
    with pytest.raises(ValueError, match=message) as caught:  # noqa: PT012
        s = store(tmp_path)
        s.done(), s.rows(), s.seconds()
    assert str(tmp_path / "m.sqlite") in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_tables_whose_description_is_no_text_are_refused(tmp_path):
    """`python -m fuzz results`: Python then raises an error of its own in the place of SQLite's."""
    with store(tmp_path).open() as writer:
        writer.add(found("x"))
    content = (tmp_path / "m.sqlite").read_bytes()
    (tmp_path / "m.sqlite").write_bytes(content.replace(b"key TEXT PRIMARY", b"key`TEXT\xa0PRIMARY"))
    with pytest.raises(ValueError, match=r"m\.sqlite: (expected the measurements|cannot be read as SQLite).*decode"):
        store(tmp_path)


# ---- Runs that something happens to ----------------------------------------------------------------------------------

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}{os.pathsep}{ROOT / 'tests' / 'experiments'}",
    "LRP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}


def count(file):
    """How many items are in a file that another process writes."""
    if not file.exists():
        return 0
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as connection:
        try:
            return connection.execute("SELECT count(*) FROM items").fetchone()[0]
        except sqlite3.OperationalError:  # the tables are not there yet
            return 0


def until(condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.002)


@dataclasses.dataclass(frozen=True)
class Slowly(Localise):
    """Takes its time, so that something can happen to it."""

    def __call__(self, item, outputs):
        time.sleep(0.03)
        return super().__call__(item, outputs)


SLOW_COMMAND = """
import sys, lrp_toolbox.experiments.commands as commands, test_experiments
commands.Localise = test_experiments.Slowly
from lrp_toolbox.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_killed_and_started_again(tiny, whole, tmp_path):
    command = [sys.executable, "-c", SLOW_COMMAND, *arguments(tiny, tmp_path)]
    file = tmp_path / "localisation.sqlite"
    for least in (5, 12):
        with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            until(lambda least=least: count(file) >= least or process.poll() is not None)
            process.send_signal(signal.SIGKILL)
            assert process.wait() == -signal.SIGKILL
    before = dict(closing_select(file, "SELECT item, seconds FROM items"))
    assert 12 <= len(before) < IMAGES
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert "LRP_CMP:α2+♭" in done.stdout
    after = dict(closing_select(file, "SELECT item, seconds FROM items"))
    assert len(after) == IMAGES
    assert before.items() <= after.items()  # nothing was measured twice
    assert rows_of(experiment(tiny, tmp_path)) == whole


def closing_select(file, query):
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(query).fetchall()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_killed_at_random_instants(tiny, whole, tmp_path, seed):
    """Four times each, wherever it is: while it begins, measures, or writes its report."""
    rng, out, file = random.Random(seed), tmp_path / "out", tmp_path / "out" / "localisation.sqlite"
    command = [sys.executable, "-c", SLOW_COMMAND, *arguments(tiny, out)]
    for _ in range(4):
        before = count(file)
        with subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            if rng.random() < 0.75:
                until(lambda: count(file) > min(before, IMAGES - 1) or process.poll() is not None)  # noqa: B023
            end = time.monotonic() + rng.uniform(0, 0.6)
            while process.poll() is None and time.monotonic() < end:
                time.sleep(0.001)
            process.kill()
        assert count(file) >= before
    e = experiment(tiny, out)
    assert e.localised() is not None
    assert rows_of(e) == whole
    assert closing_select(file, "PRAGMA integrity_check") == [("ok",)]


def test_two_runs_at_once_in_one_folder(tiny, whole, tmp_path):
    command = [sys.executable, "-c", SLOW_COMMAND, *arguments(tiny, tmp_path)]
    runs = [subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(2)]
    for run in runs:
        with run:
            said = run.stderr.read().decode()
            assert run.wait(120) == 0, said
    assert rows_of(experiment(tiny, tmp_path)) == whole
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]  # nothing is left over
    assert (tmp_path / "report.html").read_text().endswith("</html>\n")


def test_two_runs_that_differ_and_begin_at_once_are_not_mixed(tmp_path):
    first, second, shard = (
        store(tmp_path),
        store(tmp_path, methods=["flat"]),
        store(tmp_path, (1, 2), fit="crop", methods=["w2"]),
    )
    other_code = store(tmp_path, code="d")
    with first.open() as writer:
        writer.add(found("x"))
    for late, what in ((second, "methods: was measured with z"), (other_code, "begun by other code"), (shard, "methods")):
        with pytest.raises(ValueError, match=what):
            late.open()
    assert store(tmp_path).rows() == first.rows() != []


FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))  # for each file
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")
def test_a_full_disk_loses_nothing(tiny, whole, tmp_path):
    command = [sys.executable, "-c", FULL_DISK + SLOW_COMMAND, *arguments(tiny, tmp_path)]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if line.startswith("lrp: ")]
    assert re.search(r"localisation\.sqlite: cannot be written: .*; all that was done is kept: run this again", line)
    file = tmp_path / "localisation.sqlite"
    before = closing_select(file, "SELECT item, seconds FROM items")
    assert 0 < len(before) < IMAGES
    e = experiment(tiny, tmp_path)
    assert e.localised() is not None
    assert rows_of(e) == whole
    assert set(before) <= set(closing_select(file, "SELECT item, seconds FROM items"))  # these were not measured again


def test_processes_one_of_which_is_killed(tiny, whole, tmp_path):
    e = experiment(tiny, tmp_path)
    measurement = Slowly(e.setup, FEW)
    s = e.store(measurement, {"methods": list(FEW)})

    def kill(executor):
        until(lambda: count(s.file) >= 3)
        os.kill(next(iter(executor._processes)), signal.SIGKILL)

    with (  # noqa: PT012
        pytest.raises(ValueError, match=r"a worker died .* run this again"),
        running.executing(workers=2) as (executor, ahead),
    ):
        killer = threading.Thread(target=kill, args=[executor])
        killer.start()
        running.measure(measurement, e.items, e.outputs, s, executor, ahead, progress=False)
    killer.join()
    assert 3 <= len(s.done()) < IMAGES
    with running.executing(workers=2) as (executor, ahead):
        running.measure(measurement, e.items, e.outputs, s, executor, ahead, progress=False)
    assert_same(rows_of(e), whole)


def assert_same(rows, whole):
    """Other processes may use another number of threads, and so round otherwise."""
    assert [row[:3] for row in rows] == [row[:3] for row in whole]
    np.testing.assert_allclose([row[3:] for row in rows], [row[3:] for row in whole], rtol=1e-4)


def test_a_wrong_address_of_a_cluster_is_named():
    with (
        pytest.raises(ValueError, match="dask: expected the address of a scheduler, got 'nonsense'"),
        running.executing(dask="nonsense"),
    ):
        pass


@contextmanager
def dask_cluster(folder):
    """The address of a scheduler, and two workers, all of them processes of their own."""
    file, dask = folder / "scheduler.json", [sys.executable, "-m", "dask"]
    quiet = {"env": ENVIRONMENT, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    ask = ["--scheduler-file", str(file)]
    started = [subprocess.Popen([*dask, "scheduler", *ask, "--host", "127.0.0.1", "--port", "0", "--no-dashboard"], **quiet)]
    try:
        for name in ("one", "two"):
            worker = [*dask, "worker", *ask, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--name", name]
            started.append(subprocess.Popen(worker, **quiet))
        until(lambda: file.exists() and file.stat().st_size > 0)
        yield json.loads(file.read_text())["address"], started[1:]
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_a_dask_cluster_one_of_whose_workers_is_killed(tiny, whole, tmp_path):
    distributed = pytest.importorskip("distributed")
    e = experiment(tiny, tmp_path / "out")
    measurement = Slowly(e.setup, FEW)
    s = e.store(measurement, {"methods": list(FEW)})
    with dask_cluster(tmp_path) as (address, workers):
        with distributed.Client(address) as client:
            client.wait_for_workers(2, timeout=60)

        def kill():
            until(lambda: count(s.file) >= 6)
            workers[0].kill()

        killer = threading.Thread(target=kill)
        killer.start()
        with running.executing(dask=address) as (executor, ahead):
            running.measure(measurement, e.items, e.outputs, s, executor, ahead, progress=False)
        killer.join()
        assert workers[0].wait() == -signal.SIGKILL
        assert workers[1].poll() is None
    assert len(closing_select(s.file, "SELECT item FROM items")) == IMAGES
    assert_same(rows_of(e), whole)


def test_an_image_that_is_broken_does_not_keep_the_others_from_it(tiny, tmp_path, capsys, monkeypatch):
    broken = Localise.__call__

    def fails_once(self, item, outputs):
        if item.id == "000007":
            raise ValueError("cannot be read as a picture")
        return broken(self, item, outputs)

    with monkeypatch.context() as patch:
        patch.setattr(Localise, "__call__", fails_once)
        assert main(arguments(tiny, tmp_path, "--limit", 40)) == 2
    assert "1 images could not be measured, and may be tried again: 000007: cannot be read" in capsys.readouterr().err
    assert count(tmp_path / "localisation.sqlite") == IMAGES - 1
    assert main(arguments(tiny, tmp_path)) == 0
    assert count(tmp_path / "localisation.sqlite") == IMAGES


@dataclasses.dataclass(frozen=True)
class Endlessly(Localise):
    """The first six images as usual; the others take minutes, as large ones may."""

    def __call__(self, item, outputs):
        if int(item.id) >= 6:
            time.sleep(300)
        return super().__call__(item, outputs)


@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_ends_at_once(tiny, whole, tmp_path, workers):
    endless = SLOW_COMMAND.replace("Slowly", "Endlessly")
    command = [sys.executable, "-c", endless, *arguments(tiny, tmp_path, "--workers", workers)]
    file = tmp_path / "localisation.sqlite"
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True, **pipes) as process:
        until(lambda: count(file) >= 6 or process.poll() is not None)
        time.sleep(0.2)  # the next images have begun
        begun = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to all processes
        err = process.stderr.read()
        assert process.wait() == 130
        assert time.monotonic() - begun < 2 * max(1, os.getloadavg()[0] / os.cpu_count())  # 2 s where nothing else runs
    assert err.splitlines()[-1] == "lrp: interrupted"
    assert "Traceback" not in err
    assert count(file) == 6
    assert main(arguments(tiny, tmp_path)) == 0
    assert_same(rows_of(experiment(tiny, tmp_path)), whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_the_one_that_started_them(tiny, tmp_path, number):
    """As a batch system ends a job."""
    endless = SLOW_COMMAND.replace("Slowly", "Endlessly")
    command = [sys.executable, "-c", endless, *arguments(tiny, tmp_path, "--workers", "2")]
    with subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True, stderr=subprocess.PIPE) as process:
        try:
            until(lambda: count(tmp_path / "localisation.sqlite") >= 6 or process.poll() is not None)
            process.send_signal(number)
            process.communicate(timeout=20)  # workers that lived on would hold the pipe open
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


# ---- The command -----------------------------------------------------------------------------------------------------


def test_table_1_in_shards_and_its_report(tiny, whole, tmp_path, capsys):
    for part in ("2/2", "1/2"):
        assert main(arguments(tiny, tmp_path, "--shard", part)) == 0
    assert "when all parts are, run without --shard" in capsys.readouterr().out
    assert not (tmp_path / "table1.csv").exists()
    options = ["--dataset", "voc", "--data", str(tiny / "data"), "--model", str(tiny / "model"), "--out", str(tmp_path)]
    assert main(["experiment", "fig2", *options]) == 0
    capsys.readouterr()
    assert main(arguments(tiny, tmp_path)) == 0
    assert not (tmp_path / "localisation.sqlite").exists()  # there was nothing left to measure
    out = capsys.readouterr().out
    assert rows_of(experiment(tiny, tmp_path)) == whole
    lines = out.splitlines()
    assert lines[0].split()[:2] == ["method", "μ_w"]
    assert sorted(line.split("  ")[0] for line in lines[1:3]) == ["Baseline", "LRP_CMP:α2+♭"]
    values = [float(line.split("[")[0].split()[-1]) for line in lines[1:3]]
    assert values == sorted(values, reverse=True)
    page = (tmp_path / "report.html").read_text()
    assert "Fig. 2" in page
    assert "Fig. 3" in page
    assert "| Baseline | 2 (2) | 1.000 (1.000) |" in (tmp_path / "table1.md").read_text()
    assert re.search(r'(src|href)="(?!data:)', page) is None
    assert page.count("<details") == 1
    assert (tmp_path / "localisation.csv").read_text().count("\n") == len(whole) + 1


def test_the_figures(tiny, tmp_path):
    options = ["--dataset", "voc", "--data", str(tiny / "data"), "--model", str(tiny / "model"), "--out", str(tmp_path)]
    for name in ("fig1", "fig4"):
        assert main(["experiment", name, *options, "--methods", *METHODS[1:4], "--item", "000001", "000002"]) == 0
    assert main(["experiment", "fig3", *options, "--methods", *FEW, "--limit", "5"]) == 0
    sizes = {}
    for name in ("fig1", "fig3", "fig4"):
        with Image.open(tmp_path / f"{name}.png") as picture:
            sizes[name] = picture.size
    assert sizes["fig4"][1] > 1.5 * sizes["fig1"][1]
    assert sizes["fig3"][0] > 600


def test_what_figure_3_draws(tiny, tmp_path):
    found, _ = experiment(tiny, tmp_path).localised()
    axes, below = figures.figure_3(found, "t", bins=10).axes
    measured = found.methods["cmp:alpha=2,flat=1"]
    share = measured.box / measured.image
    drawn = {line.get_label(): line.get_xydata() for line in axes.lines}
    for x, y in drawn["LRP_CMP:α2+♭"]:
        inside = (share > x - 0.05 - 1e-9) & (share <= x + 0.05 + 1e-9)
        assert y == pytest.approx(measured.mu[inside].mean())
    assert drawn["Baseline"].tolist() == [[0, 0], [1, 1]]
    assert {line.get_xdata()[0] for line in axes.lines} >= {0.25, 0.5}
    assert sum(bar.get_height() for bar in below.patches) == len(measured.mu)


def test_the_table_sorts_and_compares_pair_by_pair():
    rng, n = np.random.default_rng(0), 200
    image = np.full(n, 100)
    box, noise = rng.integers(20, 60, n), rng.uniform(0, 0.3, n)
    one = Localisation(box / 100 + noise * 0.9, np.ones(n), box, image)
    better = Localisation(box / 100 + noise, np.ones(n), box, image)
    methods = {"uniform": Localisation(box / 100, np.ones(n), box, image), "one": one, "better": better}
    found = results.Localised(np.arange(n), np.full(n, "cat"), methods, methods, {name: name for name in methods})
    lines = results.table(found, samples=200)
    assert [line.method for line in lines] == ["better", "one", "uniform"]
    difference = (better.mu_w - one.mu_w).mean()
    assert lines[0].better.mu_w.value == pytest.approx(difference)
    assert lines[0].better.mu_w.low > 0
    assert results.table_1(lines)[1][7].endswith("*")
    assert lines[2].better is None
    assert results.choices(found, lines)[1][-1] == f"{better.mu.mean():.3f} (1)"


def test_imagenet_cropped(tiny, tmp_path, capsys):
    folder, rng = tmp_path / "imagenet", np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    synsets = [f"n{k:08}" for k in range(20)]
    (folder / "synset_words.txt").write_text("".join(f"{wnid} thing, or another\n" for wnid in synsets))
    table = ["file,label,synset,orig_w,orig_h,xmin,ymin,xmax,ymax"]
    for k, box in enumerate(["20,0,79,49", "0,0,9,49", "30,10,60,40"]):  # of the second, nothing is left in the middle
        Image.fromarray(rng.integers(0, 256, (50, 100, 3), dtype=np.uint8)).save(folder / "images" / f"{k}.JPEG", format="jpeg")
        table.append(f"{k}.JPEG,{k + 4},{synsets[k + 4]},100,50,{box}")
    (folder / "boxes.csv").write_text("\n".join(table))
    options = ["--dataset", "imagenet", "--data", str(folder), "--fit", "crop", "--out", str(tmp_path / "out")]
    assert main([*arguments(tiny, tmp_path), *options]) == 0
    assert "2 {class × image} pairs" in (out := capsys.readouterr().out)
    assert "1 pairs left out, because no pixel of their boxes is seen" in out
    with (tmp_path / "out" / "localisation.csv").open(newline="") as opened:
        seen = {(row["item"], row["class"]): float(row["box"]) / float(row["image"]) for row in csv.DictReader(opened)}
    assert seen == pytest.approx({("0", synsets[4]): 1, ("1", synsets[5]): 0, ("2", synsets[6]): 30 * 30 / 48**2}, rel=0.05)
    assert "(1.902)" in (tmp_path / "out" / "table1.md").read_text()


def test_rows_of_the_paper_in_any_spelling(lenet):
    n = np.ones(2)
    patterns = f"pattern_attribution:patterns={lenet.folder}"
    specs = ("cmp:flat=1,alpha=1,dense=fc*", "cmp", patterns, "cmp:flat=3", "gradient", "uniform")
    of = {spec: Localisation(n / 2 / (1 + k), n, 10 * n, 100 * n) for k, spec in enumerate(specs)}
    found = results.Localised(np.arange(2), n, of, of, {spec: spec for spec in specs})
    rows = compared_with_the_paper(results.table(found, samples=10), "imagenet", lenet)[1:]
    assert [row[:3] for row in rows] == [
        ("cmp:flat=1,alpha=1,dense=fc*", "1 (2)", "5.000 (1.704)"),
        ("cmp", "2 (1)", "2.500 (1.902)"),
        (patterns, "3 (3)", "1.667 (1.591)"),
        ("uniform", "4 (4)", "0.833 (1.000)"),
    ]


# ---- Methods ---------------------------------------------------------------------------------------------------------


def test_spellings_of_a_method_are_one_row(tiny, tmp_path, capsys):
    options = [*arguments(tiny, tmp_path, "--limit", 8), "--methods"]
    assert main([*options, "z", "z", "cmp", "cmp:alpha=2,flat=1", "uniform"]) == 0
    out, err = capsys.readouterr()
    assert "lrp: note: z: LRP_z is named twice, and measured once" in err
    assert "lrp: note: cmp:alpha=2,flat=1: LRP_CMP:α2+♭ is named twice, and measured once" in err
    assert sorted(line.split("  ")[0] for line in out.splitlines()[1:4]) == ["Baseline", "LRP_CMP:α2+♭", "LRP_z"]
    assert "| LRP_CMP:α2+♭ |" in (tmp_path / "table1.md").read_text().partition("Compared with")[2]


def test_some_of_the_measured_methods_are_read(tiny, tmp_path, capsys):
    options = arguments(tiny, tmp_path, "--limit", 8)  # what comes later on the command line replaces these
    assert main([*options, "--methods", "z", "cmp", "uniform"]) == 0
    before = closing_select(tmp_path / "localisation.sqlite", "SELECT item, seconds FROM items")
    capsys.readouterr()
    assert main([*options, "--methods", "cmp:flat=1", "uniform"]) == 0
    assert closing_select(tmp_path / "localisation.sqlite", "SELECT item, seconds FROM items") == before
    assert "LRP_z" not in (tmp_path / "table1.md").read_text()
    assert main([*options, "--methods", "cmp", "--limit", "10"]) == 0  # more images: with all that the folder has
    assert "3 methods; 2 more images are measured for all of them" in capsys.readouterr().err
    assert len({row[:3] for row in closing_select(tmp_path / "localisation.sqlite", "SELECT * FROM rows")}) == len(
        closing_select(tmp_path / "localisation.sqlite", "SELECT * FROM rows")
    )
    assert main([*options, "--methods", "cmp", "gradient"]) == 2
    assert (
        "methods: was measured with z, cmp:alpha=2,flat=1, uniform, and gradient is not among them" in capsys.readouterr().err
    )


def test_without_patterns_pattern_attribution_is_left_out(tiny, tmp_path, capsys):
    options = ["--dataset", "voc", "--data", str(tiny / "data"), "--model", str(tiny / "model"), "--out", str(tmp_path)]
    for name in ("table1", "fig3"):  # tests/documents/test_commands.py has the others, with a net of enough layers
        assert main(["experiment", name, *options, "--limit", "2", "--examples", "0"]) == 0
        err = capsys.readouterr().err
        assert err.count("lrp: note: ") == 1
        [note] = [line for line in err.splitlines() if line.startswith("lrp: note: ")]
        assert note.startswith("lrp: note: pattern_attribution is left out: ")
        assert note.endswith(f"lrp patterns PHOTOGRAPHS --model {tiny / 'model'}")


def test_with_patterns_it_is_measured(tiny, tmp_path, capsys):
    model = tmp_path / "model"
    shutil.copytree(tiny / "model", model)
    assert main(["patterns", str(tiny / "data" / "JPEGImages"), "--model", str(model)]) == 0
    e = experiment({"data": tiny / "data", "model": model}, tmp_path / "out", methods=(), limit=2)
    assert list(e.asked(("z", "pattern_attribution"))) == ["z", "pattern_attribution"]
    assert list(asked_methods(["patternnet", "patternnet:start=logit"], e.model)) == ["patternnet"]


# ---- Few images ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("images", [1, 2])
def test_few_images_have_no_stars(tiny, tmp_path, capsys, images):
    assert main(arguments(tiny, tmp_path, "--limit", images)) == 0
    out = capsys.readouterr().out
    table, _, about = out.partition("\n\n")
    assert not set("[*") & set(table)
    assert "too few images for an interval (fewer than six)" in about
    assert "too few images to say whether this is more than chance" in about
    for file in ("table1.csv", "table1.md", "report.html"):
        assert "nan" not in re.sub(r"data:image/[^\"]*", "", (tmp_path / file).read_text())


# ---- The report ------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The tags of a page in their order, each with its attributes, and the text behind it."""

    def __init__(self, text):
        super().__init__()
        self.tags = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs), []))

    def handle_data(self, data):
        if self.tags:
            self.tags[-1][2].append(data.strip("\n"))

    def texts(self, tag):
        return ["".join(text) for name, _, text in self.tags if name == tag]


def test_the_report_begins_with_the_finding(tiny, tmp_path, capsys):
    assert main(arguments(tiny, tmp_path, "--examples", 3)) == 0
    out, err = capsys.readouterr()
    page = Page((tmp_path / "report.html").read_text())
    finding, meaning, *_ = page.texts("p")
    first = out.splitlines()[1].split("  ")[0]
    assert finding.startswith(f"{first} is first, with a mean μ_w of ")
    assert "95 % interval" in finding
    assert finding in out
    assert "μ is the share of the positive relevance" in meaning
    assert page.texts("h2")[-1] == "How it was measured"  # provenance comes last
    images = [attributes for tag, attributes, _ in page.tags if tag == "img"]
    assert len(images) == 3 + 1
    assert all(len(attributes["alt"]) > 20 for attributes in images)
    summaries = page.texts("summary")
    assert all(re.fullmatch(r"(boat|cat|person)?( and (boat|cat|person))*.* \(image \d{6}\)", text) for text in summaries)
    assert sum("open" in attributes for tag, attributes, _ in page.tags if tag == "details") == 1
    for step in ("localisation", "intervals", "examples"):
        assert f"{step}: 100%" in err


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.1, 0.3, "0.10 to 0.30, excludes 0."),
        (-0.1, 0.3, "contains 0: the order of these two may be chance."),
        (np.nan, np.nan, "too few images to say whether"),
    ],
)
def test_the_finding_in_words(low, high, said):
    def summary(mu_w):
        return Summary(mu_w, *[Estimate(0.0, 0.0, 0.0, 9)] * 5, 9, 0, 0)

    best, other = Estimate(2.5, 2.0, 3.0, 9), Estimate(2.3, 2.0, 3.0, 9)
    lines = [
        results.Line("a", "A", summary(best), summary(Estimate(0.2, low, high, 9))),
        results.Line("b", "B", summary(other), None),
    ]
    text = results.finding(lines)
    assert text.startswith("A is first, with a mean μ_w of 2.50. B is second; the mean difference, pair by pair, is 0.20. ")
    assert text.endswith(said) or said in text
    assert results.finding(lines[1:]) == "B is first, with a mean μ_w of 2.30. No other method was measured."


# ---- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--methods", "zz"], "method 'zz': there is no 'zz'"),
        (["--limit", 1000], f"limit: expected a number from 1 to {IMAGES}, got 1000"),
        (["--workers", 0], "--workers: expected a number ≥ 1, got 0"),
        (["--split", "test"], "no list of 'test'"),
        (["--model", "lenet5-mnist"], "does not know the classes"),
        (["--data", "nowhere"], "--data: there is no folder"),
        (["--data", "nowhere", "--model", "nothing"], "--data: there is no folder"),
        (["--limit", 0], "--limit: expected a number ≥ 1, got 0"),
        (["--bins", 0], "--bins: expected a number from 1 to 1000, got 0"),
        (["--bins", 10**9], "--bins: expected a number from 1 to 1000, got 1000000000"),
        (["--examples", -1], "--examples: expected a number ≥ 0, got -1"),
        (["--seed", -1], "--seed: expected a number ≥ 0, got -1"),
        (
            ["--methods", "pattern_attribution"],
            "no patterns (patterns.npz). To fit them to a folder of photographs: lrp patterns",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line_and_exit_code_2(tiny, tmp_path, capsys, more, message):
    assert main(arguments(tiny, tmp_path / "out", *more)) == 2
    err = capsys.readouterr().err
    assert err.startswith("lrp: error: ")
    assert message in err
    assert not list(tmp_path.glob("out/*.sqlite"))


# ---- Real data -------------------------------------------------------------------------------------------------------


def test_vgg16_on_a_photograph_of_voc(data, vgg16):
    source, setup = VOC(data / "voc2007"), Setup("vgg16-voc")
    item = next(item for item in source.items("val") if len(item.measured) == 1 and "cat" in item.measured)
    specs = ("uniform", "guided_backprop", "cmp:alpha=1,flat=1")
    rows = {row.method: row for row in Localise(setup, specs)(item, wanted(item, outputs_of(source, vgg16))).rows}
    x = vgg16.prepare(item.read())
    for spec in specs[1:]:
        R = parse_method(spec, vgg16)(vgg16, x, "cat")
        mu, _ = inside_over_total(R, item.boxes["cat"], item.size)
        measured = Localisation(*rows[spec].values[:4])
        assert measured.mu == pytest.approx(mu, rel=1e-3)
        assert measured.mu_w > Localisation(*rows["uniform"].values[:4]).mu_w

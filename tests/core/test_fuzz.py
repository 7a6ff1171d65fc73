"""`python -m fuzz` works: it finds a planted bug of each kind, and a few mutations of each format find nothing."""

import ctypes
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT))  # `fuzz` is no part of the package

from fuzz import requests
from fuzz.formats import FORMATS, Format
from fuzz.harness import run

pytestmark = pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the limits are those of Linux")


class PlantedError(ValueError):
    pass


def _reader(folder):
    """Right for most files, and wrong in a way of its own for each of the others."""
    file = folder / "file"
    match file.read_bytes()[0]:
        case 1:
            raise KeyError("no error of this reader")
        case 2:
            warnings.warn("a warning", stacklevel=1)
        case 3:
            (folder.parent / "left over").write_text("x")
        case 4:
            bytearray(b"x") * (1200 << 20)
        case 5:
            ctypes.string_at(0)
        case 6:
            raise PlantedError("a message without the file")
        case 7:
            raise PlantedError(f"{file}: {'x' * 100_000}")
        case 8:
            raise PlantedError(f"{file}: expected another number, found 8")
        case 9:
            end = time.process_time() + 6
            while time.process_time() < end:
                pass


PLANTED = Format(
    make=lambda: [{"file": b"\0"}],
    ways=[("file", 1, lambda rng, content: bytes([rng.randrange(9)]))],
    read=_reader,
    refuses=(PlantedError,),
)
SLOW = Format(make=PLANTED.make, ways=[("file", 1, lambda rng, content: b"\x09")], read=_reader)


@pytest.fixture
def findable(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'tests'}:{ROOT / 'tests' / 'core'}")


@pytest.mark.slow
def test_planted_bugs_are_found_and_made_small(findable, tmp_path):
    report = run("planted.test_fuzz.PLANTED", 40, 0, tmp_path)
    kinds = " ".join(sorted(kind for kind in report.findings))
    for kind in (
        "KeyError",
        "UserWarning",
        "written",
        "memory",
        "crash: SIGSEGV",
        "a message without the file",
        "a message of ",
    ):
        assert kind in kinds, kinds
    assert len(report.findings) == 7
    assert report.inputs == 40 == report.read + report.refused + report.bad
    assert min(report.read, report.refused) > 0
    kept = {folder.joinpath("file").read_bytes() for folder in tmp_path.iterdir()}
    assert kept == {bytes([k]) for k in range(1, 8)}


@pytest.mark.slow
def test_a_reader_that_takes_too_long_is_found(findable):
    report = run("planted.test_fuzz.SLOW", 1, 0)
    assert list(report.findings) == ["hang"]


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_few_mutations_of_each_format_find_nothing(name):
    report = run(name, 30, 7)
    assert not report.findings
    assert not report.unmade
    assert report.inputs == 30


@pytest.mark.slow
def test_few_malformed_requests_find_nothing():
    report = requests.run(100, 7)
    assert not report.findings
    assert min(report.read, report.refused) > 0


def test_the_command_lists_the_formats():
    done = subprocess.run([sys.executable, "-m", "fuzz", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert all(name in done.stdout for name in [*FORMATS, "requests", "all"])

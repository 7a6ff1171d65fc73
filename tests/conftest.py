"""Backends, data folders, and how much hypothesis searches."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # one process a core: two that use two threads each would wait for each other
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings

import lrp_toolbox as lrp

ROOT = Path(__file__).parent.parent
DATA = Path(os.environ.get("LRP_TOOLBOX_DATA", ROOT.parent / "shared" / "data"))

slow = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=slow, max_examples=60)
settings.register_profile("quick", settings.get_profile("ci"), max_examples=5)
found_is_enough = (Phase.explicit, Phase.generate)  # a mutant is killed by any example, not by the smallest
settings.register_profile("mutation", settings.get_profile("ci"), max_examples=15, phases=found_is_enough, database=None)
settings.register_profile("night", deadline=None, suppress_health_check=slow, max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_addoption(parser):
    parser.addoption("--backend", action="append", help="numpy, strict or cupy; may be repeated; default: numpy and strict")


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    """With LRP_TOOLBOX_SKIPS=fail a skipped test is a failure: a machine that has the real data has to use it."""
    if os.environ.get("LRP_TOOLBOX_SKIPS") == "fail" and terminalreporter.stats.get("skipped"):
        terminalreporter.write_line("tests were skipped, and LRP_TOOLBOX_SKIPS=fail", red=True)


def pytest_sessionfinish(session, exitstatus):
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("LRP_TOOLBOX_SKIPS") == "fail" and reporter and reporter.stats.get("skipped") and exitstatus == 0:
        session.exitstatus = 1


def pytest_generate_tests(metafunc):
    if "xp" in metafunc.fixturenames:
        metafunc.parametrize("xp", metafunc.config.getoption("backend") or ["numpy", "strict"], indirect=True)


@pytest.fixture
def xp(request):
    """An array module. `strict` has nothing beyond the array API standard, and stands in for a GPU."""
    if request.param == "strict":
        return pytest.importorskip("array_api_strict")
    if request.param == "cupy":
        return pytest.importorskip("cupy")
    return np


@pytest.fixture(scope="session")
def data():
    """The folder of real data; see CONTRIBUTING for what it holds."""
    if not DATA.is_dir():
        pytest.skip(f"no real data: LRP_TOOLBOX_DATA, {DATA}, is not there")
    return DATA


@pytest.fixture(scope="session")
def lenet():
    return lrp.load(ROOT / "models" / "lenet5-mnist")


@pytest.fixture(scope="session")
def vgg16():
    return lrp.load(ROOT / "models" / "vgg16-voc")


@pytest.fixture(scope="session")
def digits(data):
    stored = np.load(data / "mnist" / "mnist.npz")
    return stored["test_images"].astype(np.float32)[..., None] / 255, stored["test_labels"]

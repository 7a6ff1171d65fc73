"""The steps of .ci/run, one by one: `nox -s lint`, `nox -s tests -- -k rules`; `nox` alone runs all of them.

Each step has an environment of its own with the extra `dev`; `nox -R -s lint` uses it again. `fuzz` and `mutation` are none.
"""

import os
from pathlib import Path

import nox

ROOT = Path(__file__).parent
ONE_THREAD = {"LRP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@nox.session
def lint(session: nox.Session) -> None:
    """Style: ruff."""
    session.install("-e", ".[dev]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types: mypy --strict on the package."""
    session.install("-e", ".[dev]")
    session.run("mypy")


@nox.session
def tutorials(session: nox.Session) -> None:
    """Every tutorial runs, each in an empty folder."""
    session.install("-e", ".[dev]")
    for tutorial in sorted((ROOT / "tutorials").glob("*.py")):
        session.chdir(session.create_tmp())
        session.run("python", str(tutorial), env={"MPLBACKEND": "agg", **ONE_THREAD})


@nox.session
def site(session: nox.Session) -> None:
    """The documentation: every notebook runs, every reference leads to a page."""
    session.install("-e", ".[dev]")
    session.run("sphinx-build", "-q", "-W", "--keep-going", "-b", "html", "docs", "docs/_build/html", env=ONE_THREAD)


@nox.session
def tests(session: nox.Session) -> None:
    """The tests on all cores; arguments after -- go to pytest."""
    session.install("-e", ".[dev]")
    data = os.environ.get("LRP_TOOLBOX_DATA", str(ROOT.parent / "shared" / "data"))
    skips = {"LRP_TOOLBOX_SKIPS": "fail"} if Path(data).is_dir() else {}  # with the data at hand, a test that skips is an error
    session.run("pytest", "-n", "auto", *session.posargs, env=skips)


@nox.session(default=False)
def fuzz(session: nox.Session) -> None:
    """Broken and hostile files for every reader, 10,000 of each format: some hours, and no part of .ci/run."""
    session.install("-e", ".[dev]")
    session.run("python", "-m", "fuzz", *(session.posargs or ["all"]), env=ONE_THREAD)


@nox.session(default=False)
def mutation(session: nox.Session) -> None:
    """Small changes to the core that no test notices: about an hour, every night perhaps, and no part of .ci/run."""
    session.install("-e", ".[dev,mutation]")
    session.run("python", "-m", "mutation", *session.posargs)

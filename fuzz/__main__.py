"""python -m fuzz FORMAT … [--mutations N] [--seed S]: every reader of the package reads broken and hostile files.

    python -m fuzz all                      10,000 mutations of each format: some hours on one core
    python -m fuzz voc npz --mutations 500  a few
    python -m fuzz requests                 malformed HTTP for lrp serve

Each file is read in a process of its own kind, with 5 seconds and 1 GiB. It may be read, or refused with the error that its
reader documents, in a message that names the file. Findings are: any other error, a warning, a hang, more memory, a crash of
Python, and a file that was written. The first input of each kind is kept in `.cache/fuzz/findings`,
as small as it could be made.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tqdm import tqdm

from lrp_toolbox import text

from . import requests, seeds
from .formats import FORMATS
from .harness import COLUMNS, run


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("format", nargs="+", choices=[*FORMATS, "requests", "all"])
    parser.add_argument("--mutations", type=int, default=10_000, help="for each format; the default is 10000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="the number of the first mutation")
    parser.add_argument("--out", type=Path, default=seeds.ROOT / ".cache" / "fuzz" / "findings", help="the folder for findings")
    asked = parser.parse_args()
    names = [*FORMATS, "requests"] if "all" in asked.format else asked.format
    if any(name.startswith("keras") for name in names):
        seeds.write_keras_3()
    reports = []
    for name in names:
        with tqdm(total=asked.mutations, desc=name, disable=None) as bar:
            if name == "requests":
                report = requests.run(asked.mutations, asked.seed, bar.update)
            else:
                report = run(name, asked.mutations, asked.seed, asked.out, bar.update, asked.first)
        reports.append(report)
        for what in report.unmade:
            print(f"{name}, mutation {what}: could not be made")
        for kind, (k, answer) in report.findings.items():
            print(f"{name}, mutation {k} of seed {asked.seed}: {kind}\n    {answer.what}", flush=True)
    print(text.table([COLUMNS, *(report.row() for report in reports)], left=1))
    return 1 if any(report.bad for report in reports) else 0


if __name__ == "__main__":
    sys.exit(main())

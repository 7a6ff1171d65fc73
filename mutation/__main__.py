"""python -m mutation [--mutants N] [--seed S]: small changes to the core, and which of them no test notices.

    python -m mutation                     at least 300 changes: about an hour on one core
    python -m mutation --files rules terms changes to some files only
    python -m mutation --again             those that survived once more, after the tests have changed

Each change (a mutant) is tried in a copy of the tree. It is killed if a test fails, if it hangs, or if it crashes Python. One
that survives is killed by a new test, or listed in `mutation/equivalent.toml` with the reason why no test can kill it.
Results are kept in `.cache/mutation`: a run that was interrupted goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict

# before NumPy comes: a process with threads is not forked
os.environ.update(LRP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", HYPOTHESIS_PROFILE="mutation")

import array_api_strict  # noqa: F401, loaded once here and not in every process
import hypothesis.extra.numpy  # noqa: F401
import numpy  # noqa: F401
import scipy.optimize
import scipy.spatial
import scipy.stats  # noqa: F401
from tqdm import tqdm

from . import runs
from .mutants import CORE, Mutant, draw, equivalents


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m mutation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mutants", type=int, default=300, help="how many at least; the default is 300")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", nargs="+", default=[""], help="only files whose path holds one of these words")
    parser.add_argument("--seconds", type=float, default=40.0, help="tests for each take so long at most; the default is 40")
    parser.add_argument("--again", action="store_true", help="run those that survived before once more")
    asked = parser.parse_args()
    files = tuple(file for file in CORE if any(word in file for word in asked.files))
    runs.CACHE.mkdir(parents=True, exist_ok=True)
    mutants = draw(asked.mutants, asked.seed, files, runs.CACHE)
    runs.prepare()
    known, equivalent = runs.baseline(), equivalents()
    done = _stored()
    if asked.again:
        done = {key: result for key, result in done.items() if result.killed}
    left = [mutant for mutant in mutants if mutant.key not in done and _name(mutant) not in equivalent]
    left.sort(key=lambda mutant: mutant.code_hash)  # in no order of files: what is done so far is a sample of all
    with open(runs.CACHE / "results.jsonl", "a", encoding="utf-8") as kept:
        for mutant in tqdm(left, disable=None):
            done[mutant.key] = runs.run(mutant, known, asked.seconds)
            print(json.dumps({"key": mutant.key, **asdict(done[mutant.key])}), file=kept, flush=True)
    return _report(mutants, done, equivalent)


def _stored() -> dict[str, runs.Result]:
    path, found = runs.CACHE / "results.jsonl", dict[str, runs.Result]()
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        entry = json.loads(line)
        key = entry.pop("key")
        found[key] = runs.Result(**entry)
    return found


def _name(mutant: Mutant) -> tuple[str, str, str]:
    return mutant.file, mutant.old, mutant.new


def _report(mutants: list[Mutant], done: dict[str, runs.Result], equivalent: dict[tuple[str, str, str], str]) -> int:
    listed = [mutant for mutant in mutants if _name(mutant) in equivalent]
    tried = [mutant for mutant in mutants if _name(mutant) not in equivalent]
    survivors = [mutant for mutant in tried if not done[mutant.key].killed]
    for mutant in survivors:
        print(f"{mutant}\n    {done[mutant.key].tests} tests\n")
    for file in CORE:
        drawn, alive, same = (sum(m.file == file for m in group) for group in (mutants, survivors, listed))
        if drawn:
            print(f"{file:40}{drawn:5} mutants{alive:5} survived{same:5} equivalent")
    killed, seconds = len(tried) - len(survivors), sum(done[mutant.key].seconds for mutant in tried)
    print(
        f"{len(mutants)} mutants, {len(listed)} known as equivalent. Of the others {killed} killed, {len(survivors)} survived:",
        end=" ",
    )
    print(f"{killed / max(len(tried), 1):.1%} in {seconds / 60:.0f} minutes.")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())

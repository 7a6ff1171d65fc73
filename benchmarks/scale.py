"""python -m benchmarks.scale --data VOCdevkit: images per second of `lrp experiment table1`, with all the paper's methods.

    python -m benchmarks.scale --data VOCdevkit [--images 6] [--rounds 2]
    python -m benchmarks.scale --data VOCdevkit --before CHECKOUT     beside an older checkout, in turn

One process with one thread and with two, two processes, and two Dask workers. A second run of the same command finds all images
measured; its time, for start-up and report, is taken off.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from tqdm import tqdm

from .__main__ import ROOT, machine

TARGET = 50_000, 64  # images and cores of the estimate
NOW, BEFORE = "now", "before"
TWO = "two processes, one thread each"
WAYS = {  # each: --workers, LRP_NUM_THREADS (which the processes share), and whether the work is done on Dask
    "one process, one thread": (1, 1, False),
    "one process, two threads": (1, 2, False),
    TWO: (2, 2, False),
    "Dask, two workers, one thread each": (1, 1, True),
}


@contextmanager
def scheduler() -> Iterator[str]:
    """The address of a Dask scheduler with two workers of one thread each."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        yield cluster.scheduler_address


def seconds(checkout: Path, way: str, data: Path, images: int) -> float:
    """For `images` images, without start-up and report."""
    workers, threads, on_dask = WAYS[way]
    own = {"PYTHONPATH": str(checkout), "LRP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "lrp_toolbox", "experiment", "table1", "--dataset", "voc", "--data", str(data)]
        command += ["--limit", str(images), "--examples", "1", "--out", out, "--workers", str(workers)]

        def timed(*more: str) -> float:
            begun = time.perf_counter()
            subprocess.run([*command, *more], cwd=checkout, env={**os.environ, **own}, check=True, capture_output=True)
            return time.perf_counter() - begun

        if not on_dask:
            return timed() - timed()
        os.environ |= own  # its workers inherit them
        with scheduler() as address:
            return timed("--dask", address) - timed("--dask", address)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="PASCAL VOC 2007")
    parser.add_argument("--images", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--before", type=Path, help="an older checkout: two processes there, too")
    a = parser.parse_args()
    if a.images % 2:
        parser.error("--images: expected an even number, or one of two processes waits for the other")
    about, taken = machine(), defaultdict[tuple[str, str], list[float]](list)
    runs = [(NOW, ROOT, way) for way in WAYS] + ([(BEFORE, a.before.resolve(), TWO)] if a.before else [])
    with tqdm(total=a.rounds * len(runs)) as bar:
        for _ in range(a.rounds):
            for when, checkout, way in runs:
                bar.set_description(f"{when}: {way}")
                taken[when, way].append(seconds(checkout, way, a.data.resolve(), a.images))
                bar.update()
    print(f"{about['processor']}, {about['cores']} cores, commit {about['commit']}; {a.images} images, {a.rounds} rounds\n")
    print("| | images per second, median [min–max] |\n|---|---|")
    for (when, way), times in taken.items():
        rates = a.images / np.asarray(times)
        print(f"| {way}{', before' * (when == BEFORE)} | {np.median(rates):.3f} [{rates.min():.3f}–{rates.max():.3f}] |")
    images, cores = TARGET
    core = np.median(taken[NOW, TWO]) / a.images * 2
    hours = images * core / cores / 3600
    print(f"\n{images:,} images on {cores} cores: {hours:.0f} hours, if {cores} processes are as fast as these two.")


if __name__ == "__main__":
    main()

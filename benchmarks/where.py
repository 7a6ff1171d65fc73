"""python -m benchmarks.where: where our time goes: seconds of the clock, and of the processors, for each kernel.

    python -m benchmarks.where --net vgg16 --method cmp_alpha2_flat

With n threads, a kernel that keeps all of them busy takes 1/n of its processor time. What no kernel does is the last row.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

from lrp_toolbox.kernels import cpu

from . import nets
from .__main__ import ROOT
from .tools import ours


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="vgg16")
    parser.add_argument("--method", nargs="+", default=["forward", "epsilon", "alpha2beta1", "cmp_alpha2_flat"])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--targets", type=int, default=1)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--weights", type=Path, default=ROOT / ".cache" / "benchmark-weights")
    a = parser.parse_args()
    shape, layers = nets.net(a.net)
    net = ours.build(shape, layers, nets.weights(a.net, a.weights), "float32")
    print(f"{a.net}, {a.batch} images, {a.targets} targets, {cpu.threads()} threads; medians of {a.runs} runs")
    print("\n| method | kernel | calls | clock, ms | processors, ms |\n|---|---|---|---|---|")
    for method in a.method:
        run = ours.runner(net, nets.images(shape, a.batch, "float32"), method, a.targets)
        run()
        for kernel, (calls, clock, processors) in measure(run, a.runs).items():
            print(f"| {method} | {kernel} | {calls} | {clock * 1e3:.0f} | {processors * 1e3:.0f} |")


def measure(run, runs: int) -> dict[str, tuple[int, float, float]]:
    """Calls, and seconds of the clock and of the processors, of each caller of `cpu.spread`; medians over the runs."""
    found: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
    spread = cpu.spread
    for _ in range(runs):
        seen: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0])

        def timed(work, tasks, seen=seen):
            if cpu._busy():  # within a task, which is timed already
                return spread(work, tasks)
            clock, processors = time.perf_counter(), time.process_time()
            spread(work, tasks)
            row = seen[sys._getframe(1).f_code.co_name]
            for i, amount in enumerate((1, time.perf_counter() - clock, time.process_time() - processors)):
                row[i] += amount

        cpu.spread = timed
        try:
            clock, processors = time.perf_counter(), time.process_time()
            run()
            whole = (1, time.perf_counter() - clock, time.process_time() - processors)
        finally:
            cpu.spread = spread
        seen["the rest"] = [1, *(whole[i] - sum(row[i] for row in seen.values()) for i in (1, 2))]
        seen["all"] = list(whole)
        for kernel, row in seen.items():
            found[kernel].append(tuple(row))
    middle = {k: tuple(median(row[i] for row in rows) for i in range(3)) for k, rows in found.items()}
    return dict(sorted(middle.items(), key=lambda item: -item[1][1]))


if __name__ == "__main__":
    main()

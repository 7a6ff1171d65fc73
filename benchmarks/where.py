"""python -m benchmarks.where: where our time goes: seconds of the clock, and of the processors, for each kernel.

    python -m benchmarks.where --net vgg16 --method cmp_alpha2_flat
    python -m benchmarks.where --layers      VGG-16's convolutions one by one: their products, and writing windows out

With n threads, a kernel that keeps all of them busy takes 1/n of its processor time. What no kernel does is the last row.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import numpy as np

from lrp_toolbox.kernels import cpu
from lrp_toolbox.kernels.windows import Windows
from lrp_toolbox.weights import Given

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
    parser.add_argument("--layers", action="store_true")
    a = parser.parse_args()
    if a.layers:
        print(f"3 × 3, one image, {cpu.threads()} threads; milliseconds, medians of {a.runs} runs [min–max]")
        print("\n| in → out, map | all | products | writing out | GF/s of the products |\n|---|---|---|---|---|")
        for shape in SHAPES:
            print(layer(*shape, a.runs))
        return
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
            if cpu.busy():  # within a task, which is timed already
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


def layer(channels: int, outputs: int, size: int, runs: int) -> str:
    """A row: `correlate` of that shape, and its tiles' products and copies alone, in turn; medians."""
    rng, windows = np.random.default_rng(0), Windows((3, 3), padding=((1, 1), (1, 1)))
    x = rng.standard_normal((1, size, size, channels), dtype=np.float32)
    w = rng.standard_normal((3, 3, channels, outputs), dtype=np.float32)
    matrix, y = w.reshape(-1, outputs), np.empty((size, size, outputs), np.float32)
    tiles = cpu._tiles(1, size, size, matrix, minimum=1)

    def products(tile):
        out = y[tile[1]].reshape(-1, outputs)
        np.matmul(cpu.scratch("written out", (len(out), len(matrix)), out.dtype), matrix, out=out)

    def copies(tile):
        view = cpu._seen(cpu._strip(x[tile[0]], windows, tile[1], size), windows, size)
        cpu.scratch("written out", view.shape, x.dtype)[...] = view

    parts = (
        lambda: cpu.correlate(x, Given(w), windows, 1),
        lambda: cpu.spread(products, tiles),
        lambda: cpu.spread(copies, tiles),
    )
    times: list[list[float]] = [[] for _ in parts]
    for _ in range(runs + 1):
        for part, kept in zip(parts, times, strict=True):
            start = time.perf_counter()
            part()
            kept.append(1e3 * (time.perf_counter() - start))
    whole, product, copy = (kept[1:] for kept in times)  # the first run warms up
    rate = 2 * y.size * len(matrix) / median(product) / 1e6
    span = f"{median(whole):.1f} [{min(whole):.1f}–{max(whole):.1f}]"
    return f"| {channels} → {outputs}, {size}² | {span} | {median(product):.1f} | {median(copy):.1f} | {rate:.0f} |"


SHAPES = [(3, 64, 224), (64, 64, 224), (64, 128, 112), (128, 128, 112), (128, 256, 56), (256, 256, 56), (256, 512, 28),
          (512, 512, 28), (512, 512, 14)]  # fmt: skip

if __name__ == "__main__":
    main()

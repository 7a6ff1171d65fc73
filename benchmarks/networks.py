"""python -m benchmarks.networks: ResNet-50 and MobileNetV2, forward and CMP, here and in Zennit, in turn.

    benchmarks/setup.sh vision                                                             the environment, once
    .cache/peers/vision/bin/python -m benchmarks.export_torchvision resnet50 mobilenet_v2  the files
    python -m benchmarks.networks [--rounds 15] [--threads 2] [--size 224]                 the table, in Markdown
    python -m benchmarks.networks --where resnet50                                         where our time goes

lrp_toolbox has the networks of the ONNX files, Zennit those of torchvision with the same weights. CMP is α2β1, ♭ in the first
layer and ε in the dense one: Zennit's EpsilonAlpha2Beta1Flat with its canonisers, and `lrp_cmp(alpha=2, flat=1)`. Zennit has no
canoniser for MobileNetV2's sums and pooling; here it gets one, written like its own for ResNet. Batch normalisation is merged,
and Zennit's rules are hooked in, before the clock runs. One photograph of random numbers, float32.

Each tool has one process, which lives as long as the benchmark does. A round is one run of each, one after the other, with a
pause between. So both have what else the machine does in common: look at the ratio, which is taken within each round. On a
machine that does much else, PyTorch's threads wait for each other: --threads 1, and the time of the processors, are fair there.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import numpy as np

from .__main__ import PEERS, PYTHON, ROOT, machine

FOLDER = ROOT / ".cache" / "onnx"
NETS = ("resnet50", "mobilenet_v2")
METHODS = ("forward", "cmp")
TOOLS = {"ours": PYTHON["ours"], "zennit": PEERS / "vision" / "bin" / "python"}


def image(size: int) -> np.ndarray:
    """(height, width, channel)"""
    return np.random.default_rng(1).standard_normal((size, size, 3), dtype=np.float32)


# ---- The two tools -----------------------------------------------------------------------------------------------------


def ours(name: str, method: str, size: int) -> Callable[[], np.ndarray]:
    from lrp_toolbox import explain, fuse, lrp_cmp
    from lrp_toolbox.importers.onnx import read_net

    net, x, composite = fuse(read_net(FOLDER / f"{name}.onnx").net), image(size), lrp_cmp(alpha=2, flat=1)
    if method == "forward":
        return lambda: net(x[None])[0]
    return lambda: np.asarray(explain(net, x, composite=composite).R)


def zennit(name: str, method: str, size: int) -> Callable[[], np.ndarray]:
    import torch
    from torch import nn
    from torchvision.models import MobileNetV2
    from torchvision.models.mobilenetv2 import InvertedResidual
    from zennit.canonizers import AttributeCanonizer, CompositeCanonizer, SequentialMergeBatchNorm
    from zennit.composites import EpsilonAlpha2Beta1Flat
    from zennit.layer import Sum
    from zennit.torchvision import ResNetCanonizer

    from .export_torchvision import build

    def attributes(_, module):
        if isinstance(module, InvertedResidual) and module.use_res_connect:

            def add(self, x):
                return self.canonizer_sum(torch.stack([x, self.conv(x)], dim=-1))

            return {"forward": add.__get__(module), "canonizer_sum": Sum()}
        if isinstance(module, MobileNetV2):

            def pool(self, x):
                return self.classifier(torch.flatten(self.canonizer_pool(self.features(x)), 1))

            return {"forward": pool.__get__(module), "canonizer_pool": nn.AdaptiveAvgPool2d(1)}
        return None

    net = build(name)[0].float()
    x = torch.from_numpy(np.ascontiguousarray(image(size).transpose(2, 0, 1)))[None]
    mobile = CompositeCanonizer((SequentialMergeBatchNorm(), AttributeCanonizer(attributes)))
    canonizer = mobile if isinstance(net, MobileNetV2) else ResNetCanonizer()
    if method == "forward":
        canonizer.apply(net)

        def forward():
            with torch.no_grad():
                return net(x)[0].numpy()

        return forward
    EpsilonAlpha2Beta1Flat(canonizers=[canonizer]).register(net)

    def cmp():
        given = x.clone().requires_grad_()
        y = net(given)
        start = torch.zeros_like(y)
        start[0, y.argmax()] = y.max().detach()
        [R] = torch.autograd.grad(y, given, start)
        return R[0].numpy().transpose(1, 2, 0)

    return cmp


def worker(tool: str, name: str, method: str, size: int) -> None:
    """A run for each line that comes in, and for each a line with the seconds of the clock and of the processors."""
    run = {"ours": ours, "zennit": zennit}[tool](name, method, size)
    for line in sys.stdin:
        clock, processors = time.perf_counter(), time.process_time()
        result = run()
        seconds = time.perf_counter() - clock, time.process_time() - processors
        if file := line.strip():
            np.save(file, result)
        print(json.dumps(seconds), flush=True)


# ---- The table ---------------------------------------------------------------------------------------------------------


class Worker:
    def __init__(self, tool: str, name: str, method: str, size: int, threads: int):
        command = [TOOLS[tool], "-m", "benchmarks.networks", "--worker", tool, "--nets", name, "--method", method]
        drop = ("PYTHONPATH",) if tool != "ours" else ()
        environment = {k: v for k, v in os.environ.items() if k not in drop}
        environment |= dict.fromkeys(("LRP_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
        self.process = subprocess.Popen([str(c) for c in [*command, "--size", size]], cwd=ROOT, env=environment, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)  # fmt: skip

    def run(self, file: str = "") -> tuple[float, float]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{file}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the process ended with {self.process.wait()}: {self.process.args}")
        clock, processors = json.loads(line)
        return clock, processors

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(name: str, method: str, a: argparse.Namespace) -> tuple[np.ndarray, float]:
    """Seconds (round, tool, clock or processors), and the largest difference of the results in parts of the largest number."""
    workers = [Worker(tool, name, method, a.size, a.threads) for tool in TOOLS]
    try:
        files = [str(FOLDER / f"{tool}.result.npy") for tool in TOOLS]
        for each, file in zip(workers, files, strict=True):
            each.run(file)
        found = [np.load(file) for file in files]
        for file in files:
            os.unlink(file)
        times = []
        for k in range(a.rounds):
            row = {}
            for i in ((0, 1), (1, 0))[k % 2]:  # neither is always the first
                time.sleep(a.pause)
                row[i] = workers[i].run()
            times.append([row[0], row[1]])
    finally:
        for each in workers:
            each.end()
    return np.asarray(times), float(abs(found[0] - found[1]).max() / abs(found[1]).max())


def table(a: argparse.Namespace) -> None:
    about = machine()
    print(f"{about['processor']}, {a.threads} threads of {about['cores']} cores, load {os.getloadavg()[0]:.1f}; "
          f"{a.rounds} rounds; {a.size} × {a.size}; commit {about['commit']}\n")  # fmt: skip
    print("| | lrp_toolbox, ms | Zennit, ms | ratio | processors, ms | processors, ms | ratio | apart |\n|" + "---|" * 8)
    for name in a.nets:
        for method in a.method:
            times, apart = measure(name, method, a)
            cells = []
            for kind in (0, 1):
                cells += [_span(1e3 * times[:, i, kind], ".0f") for i in (0, 1)]
                cells.append(_span(times[:, 0, kind] / times[:, 1, kind], ".2f", bold=True))
            print(f"| {name}, {method} | {' | '.join(cells)} | {apart:.0e} |", flush=True)


def _span(values: np.ndarray, form: str, bold: bool = False) -> str:
    """The median and, in brackets, the quarters below and above which a quarter of the values is."""
    low, middle, high = (format(v, form) for v in np.quantile(values, (0.25, 0.5, 0.75)))
    return f"{'**' if bold else ''}{middle}{'**' if bold else ''} [{low}–{high}]"


# ---- Where the time goes -----------------------------------------------------------------------------------------------


def where(name: str, size: int, runs: int) -> None:
    """Processor time of each kind of layer, forward and back, medians over the runs."""
    from lrp_toolbox import explain, fuse, lrp_cmp
    from lrp_toolbox.importers.onnx import read_net
    from lrp_toolbox.modules import Conv

    net, x, composite = fuse(read_net(FOLDER / f"{name}.onnx").net), image(size), lrp_cmp(alpha=2, flat=1)
    now: dict[tuple[str, str], list[float]] = defaultdict(list)  # of this run, the time of each call
    found: dict[tuple[str, str], list[tuple[int, float]]] = defaultdict(list)
    totals, inside = [], [False]

    def kind(module: Any) -> str:
        if not isinstance(module, Conv):
            return type(module).__name__
        high, wide = module.w.shape[:2]
        return f"Conv {high}×{wide}{', depthwise' if module.groups > 1 else ''}{', stride 2' if max(module.stride) > 1 else ''}"

    def timed(owner: type, method: str, label: str) -> Callable[[], None]:
        original = owner.__dict__[method]

        def run(self: Any, *arguments: Any, **named: Any) -> Any:
            if inside[0]:  # a class that calls the one that it derives from
                return original(self, *arguments, **named)
            inside[0], start = True, time.process_time()
            try:
                return original(self, *arguments, **named)
            finally:
                now[kind(self), label].append(time.process_time() - start)
                inside[0] = False

        setattr(owner, method, run)
        return lambda: setattr(owner, method, original)

    layers = {type(module) for module in net}
    undo = []
    for owner in {base for layer in layers for base in layer.__mro__}:
        for method, label in (("trace", "forward"), ("relprop", "back")):
            if method in owner.__dict__ and owner.__name__ not in ("Graph", "Sequential"):
                undo.append(timed(owner, method, label))
    try:
        explain(net, x, composite=composite)
        for _ in range(runs):
            now.clear()
            start = time.process_time()
            explain(net, x, composite=composite)
            totals.append(time.process_time() - start)
            for key, times in now.items():
                found[key].append((len(times), sum(times)))
    finally:
        for restore in undo:
            restore()
    whole = float(np.median(totals))
    middle = {key: float(np.median([seconds for _, seconds in rows])) for key, rows in found.items()}
    print(f"{name}, CMP: {1e3 * whole:.0f} ms of the processors, median of {runs} runs")
    print("\n| layer | pass | calls | ms |\n|---|---|---|---|")
    for (layer, label), seconds in sorted(middle.items(), key=lambda item: -item[1]):
        print(f"| {layer} | {label} | {found[layer, label][0][0]} | {1e3 * seconds:.1f} |")
    print(f"| the rest | | | {1e3 * (whole - sum(middle.values())):.1f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nets", nargs="+", default=list(NETS))
    parser.add_argument("--method", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--pause", type=float, default=0.1, help="seconds between two runs, in which idle threads go to sleep")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--where", metavar="NET")
    parser.add_argument("--worker", choices=TOOLS, help=argparse.SUPPRESS)
    a = parser.parse_args()
    if a.worker:
        worker(a.worker, a.nets[0], a.method[0], a.size)
    elif a.where:
        where(a.where, a.size, a.rounds)
    else:
        table(a)


if __name__ == "__main__":
    main()

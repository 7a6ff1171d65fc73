"""One measurement in a process of its own: python -m benchmarks.worker --tool ours --net vgg16 … prints one line of JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import sys
import time
from pathlib import Path

import numpy as np

from . import nets


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tool", required=True)
    parser.add_argument("--net", default="vgg16")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--method", default="forward")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--targets", type=int, default=1)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--seconds", type=float, default=6, help="measure for about so long, but at least twice")
    parser.add_argument("--tf32", action="store_true", help="on a GPU: let products round float32 to TF32")
    parser.add_argument("--save", type=Path, help="where to put the result, for comparison")
    a = parser.parse_args()

    tool = importlib.import_module(f"benchmarks.tools.{a.tool}")
    if hasattr(tool, "allow_tf32"):
        tool.allow_tf32(a.tf32)
    shape, layers = nets.net(a.net)
    try:
        net = tool.build(shape, layers, a.weights, a.dtype)
        run = tool.runner(net, nets.images(shape, a.batch, a.dtype), a.method, a.targets)
    except NotImplementedError as error:
        print(json.dumps({"refused": str(error)}))
        return
    if a.tool == "limit":  # not measured but calculated, from a speed that was measured just now
        print(json.dumps({"times": [float(run())], "peak_mib": 0, "versions": tool.versions()}))
        return
    result, times = run(), []
    if a.save:
        np.save(a.save, getattr(tool, "to_numpy", np.asarray)(result))
    del result
    while len(times) < 2 or (sum(times) < a.seconds and len(times) < 50):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    found = {"times": times, "peak_mib": peak_mib(), "versions": {"python": sys.version.split()[0], **tool.versions()}}
    if hasattr(tool, "device_memory"):
        found["pool_mib"], found["card_mib"] = (n / 2**20 for n in tool.device_memory())
    print(json.dumps(found))


def peak_mib() -> float:
    """The most memory that this process had; Linux counts what its parent had towards ru_maxrss, but not towards VmHWM."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(float(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main()

"""python -m benchmarks.imports: how long the import of VGG-16 in full size takes, and how much memory, in every form of file.

Files with random weights are written first, by what the tests have for it; for those of Keras it has to be installed.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import safetensors.numpy

from lrp_toolbox import zoo

TESTS = Path(__file__).resolve().parent.parent / "tests" / "importers"
sys.path.insert(0, str(TESTS))
import caffe_files  # noqa: E402

MEASURE = """
import os, resource, sys, time
from lrp_toolbox.importers import caffe, keras, torch
framework, *files = sys.argv[1:]
start, before = time.perf_counter(), sum(os.times()[:4])
{"caffe": caffe.read_caffe, "keras": keras.read_keras, "torch": torch.read_torch}[framework](*files)
wall, cpu = time.perf_counter() - start, sum(os.times()[:4]) - before
[peak] = [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")]
peak += resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(f"{wall:.1f} {cpu:.1f} {peak / 1e6:.2f}")
"""


def measure(name: str, framework: str, *files: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, framework, *map(str, files)], capture_output=True, text=True, check=True
    )
    wall, cpu, gigabytes = done.stdout.split()
    print(f"| {name} | {wall} | {cpu} | {gigabytes} |", flush=True)


def main() -> None:
    print("| file | wall time, s | CPU time, s | peak memory, GB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for old in (False, True):
            prototxt, weights = caffe_files.write_vgg16(folder, old)
            measure(f".caffemodel, {'old' if old else 'new'} form", "caffe", prototxt, weights)
            weights.unlink()
        write = [sys.executable, str(TESTS / "keras_files" / "write.py"), str(folder), "vgg16"]
        subprocess.run(write, env={**os.environ, "KERAS_BACKEND": "numpy"}, check=True, stderr=subprocess.DEVNULL)
        for ending in (".h5", ".keras"):
            measure(ending, "keras", folder / f"vgg16{ending}")
        measure(".h5, weights alone, as in 2016", "keras", folder / "vgg16.old.h5")
        measure(".weights.h5", "keras", folder / "vgg16.weights.h5", folder / "vgg16.json")
        state = state_dict()
        np.savez(folder / "vgg16.npz", **state)
        safetensors.numpy.save_file(state, folder / "vgg16.safetensors")
        del state
        for ending in (".safetensors", ".npz"):
            measure(f"{ending}, names of torchvision", "torch", folder / f"vgg16{ending}")


def state_dict() -> dict[str, np.ndarray]:
    """VGG-16 with torchvision's names and its axes, (out, in, …)."""
    indices = [f"features.{k}" for k in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)]
    indices += [f"classifier.{k}" for k in (0, 3, 6)]
    names = [f"{name}.{part}" for name in indices for part in ("weight", "bias")]
    shapes = [shape[:-3:-1] + shape[:-2] for shape in zoo.vgg16.shapes.values()]
    rng = np.random.default_rng(0)
    return {n: rng.standard_normal(shape, dtype=np.float32) / 100 for n, shape in zip(names, shapes, strict=True)}


if __name__ == "__main__":
    main()

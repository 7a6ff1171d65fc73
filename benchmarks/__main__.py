"""python -m benchmarks: every method in every tool, interleaved, each measurement in a process of its own.

    benchmarks/setup.sh                 the peers' environments, once
    python -m benchmarks                the table: benchmarks/results/cpu.md, .json and .png; about an hour
    python -m benchmarks --quick        one round, the most telling rows
    python -m benchmarks --growth       how cost grows with size, depth, batch and targets: benchmarks/results/growth.png
    python -m benchmarks --gpu          beside Zennit on one card: benchmarks/results/gpu.md and .json; see benchmarks/gpu.sh

A peer whose environment is missing has a column that says so.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from tqdm import tqdm

from . import nets, report

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".cache" / "peers"
PYTHON = {
    "ours": Path(sys.executable),
    "limit": Path(sys.executable),
    "zennit": PEERS / "torch" / "bin" / "python",
    "captum": PEERS / "torch" / "bin" / "python",
    "innvestigate": PEERS / "tensorflow" / "bin" / "python",
    "ours_gpu": Path(sys.executable),  # on a machine with a GPU CuPy and PyTorch are wherever its owner has put them
    "zennit_gpu": Path(sys.executable),
}
GPU = ["ours_gpu", "zennit_gpu"]
CPU = [tool for tool in PYTHON if tool not in GPU]
CASES = [  # (net, method, batch, targets)
    ("vgg16", "forward", 1, 1),
    ("vgg16", "epsilon", 1, 1),
    ("vgg16", "alpha1beta0", 1, 1),
    ("vgg16", "alpha2beta1", 1, 1),
    ("vgg16", "cmp_alpha1_flat", 1, 1),
    ("vgg16", "cmp_alpha2_flat", 1, 1),
    ("vgg16", "forward", 8, 1),
    ("vgg16", "cmp_alpha2_flat", 8, 1),
    ("vgg16", "cmp_alpha2_flat", 1, 10),
    ("caffenet", "forward", 1, 1),
    ("caffenet", "epsilon", 1, 1),
    ("caffenet", "alpha2beta1", 1, 1),
    ("caffenet", "cmp_alpha2_flat", 1, 1),
]
QUICK = [CASES[i] for i in (0, 1, 3, 5)]
GPU_CASES = [("vgg16", method, batch, 1) for batch in (1, 16, 64) for method in ("forward", "cmp_alpha2_flat")]
AGREEMENT = [(net, method, dtype) for net in ("vgg16", "caffenet") for method, dtype in (
    ("epsilon", "float64"), ("alpha1beta0", "float32"), ("alpha2beta1", "float32"), ("cmp_alpha1_flat", "float32"),
    ("cmp_alpha2_flat", "float32"), ("cmp_alpha2_flat", "float64"))]  # fmt: skip


def measure(tool: str, case: tuple, weights: Path, *more: str, timeout: float = 1800) -> dict:
    """One worker's answer, or {"refused": why}."""
    python = PYTHON[tool]
    if not python.exists():
        return {"refused": "not installed (benchmarks/setup.sh)"}
    net, method, batch, targets = case
    command = [python, "-m", "benchmarks.worker", "--tool", tool, "--net", net, "--method", method, "--batch", batch,
               "--targets", targets, "--weights", nets.weights(net, weights), *more]  # fmt: skip
    ours_alone = ("PYTHONPATH",) if python != Path(sys.executable) else ()
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS", "OMP", "MKL", *ours_alone))}
    load = os.getloadavg()[0]
    try:
        done = subprocess.run([str(c) for c in command], cwd=ROOT, env=environment, capture_output=True, text=True,
                              timeout=timeout)  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"refused": f"took more than {timeout:.0f} s"}
    if done.returncode != 0:
        return {"refused": (done.stderr.strip().splitlines() or ["failed"])[-1][:200]}
    return {**json.loads(done.stdout.strip().splitlines()[-1]), "load": load}


def table(cases: list, rounds: int, tools: list[str], weights: Path, *more: str) -> list[dict]:
    """Every case in every tool, `rounds` times, in turn; `more` is for the workers."""
    rows = [{"case": case, "tools": {tool: {"times": [], "load": []} for tool in tools}} for case in cases]
    with tqdm(total=rounds * len(cases) * len(tools)) as bar:
        for _ in range(rounds):
            for row in rows:
                for tool in tools:
                    bar.set_description(f"{' '.join(map(str, row['case']))} {tool}")
                    kept = row["tools"][tool]
                    if "refused" not in kept:
                        found = measure(tool, row["case"], weights, *more)
                        kept["times"] += found.pop("times", [])
                        kept["load"].append(found.pop("load", None))
                        for peak in ("peak_mib", "pool_mib", "card_mib"):
                            if peak in found:
                                kept[peak] = max(kept.get(peak, 0), found.pop(peak))
                        kept.update(found)
                    bar.update()
    return rows


def agreement(weights: Path, tools: list[str], cases: list, *more: str) -> list[dict]:
    """How far each tool's relevance is from ours on the CPU, as a part of the largest: float32, and ε in float64."""
    rows = []
    peers = [t for t in tools if t not in ("ours", "limit")]
    with tempfile.TemporaryDirectory() as folder:
        for net, method, dtype in tqdm(cases, desc="agreement"):
            row = {"net": net, "method": method, "dtype": dtype}
            case, files = (net, method, 1, 2), {t: Path(folder) / f"{t}.npy" for t in ["ours", *peers]}
            for tool, file in files.items():
                file.unlink(missing_ok=True)
                found = measure(tool, case, weights, "--dtype", dtype, "--save", str(file), "--seconds", "0", *more)
                if "refused" in found:
                    row[tool] = found["refused"]
            ours = np.load(files["ours"])
            for tool in peers:
                if files[tool].exists():
                    row[tool] = float(abs(np.load(files[tool]) - ours).max() / abs(ours).max())
            rows.append(row)
    return rows


def gpu(weights: Path, rounds: int, about: dict, out: Path) -> str:
    """Both tools on the same card, TF32 off and on. The report is written anew after each part, whatever comes of the next."""
    parts: dict[str, list[dict]] = {}
    for name, more in (("off", []), ("on", ["--tf32"])):
        parts[f"TF32 {name}"] = table(GPU_CASES, rounds, GPU, weights, "--seconds", "2", *more)
        text = report.write_gpu(parts, {}, about, out)
    agreed: dict[str, list[dict]] = {}
    cmp, eps = ("vgg16", "cmp_alpha2_flat", "float32"), ("vgg16", "epsilon", "float64")
    for name, cases, more in (("off", [cmp, eps], []), ("on", [cmp], ["--tf32"])):
        agreed[f"TF32 {name}"] = agreement(weights, GPU, cases, *more)
        text = report.write_gpu(parts, agreed, about, out)
    return text


def growth(weights: Path, rounds: int) -> dict[str, list[dict]]:
    """Ours beside the limit, over image size, depth, batch and targets."""
    cmp = "cmp_alpha2_flat"
    series = {
        "image size": [(f"vgg16:size={s}", cmp, 1, 1) for s in (64, 96, 160, 224, 320, 512)],
        "blocks": [(f"vgg16:depth={d}", cmp, 1, 1) for d in (1, 2, 3, 4, 5)],
        "images": [("vgg16", cmp, n, 1) for n in (1, 2, 4, 8, 16)],
        "targets": [("vgg16", cmp, 1, n) for n in (1, 2, 5, 10, 20)],
    }
    return {name: table(cases, rounds, ["ours", "limit"], weights) for name, cases in series.items()}


def machine() -> dict:
    info = Path("/proc/cpuinfo")
    names = [
        line.split(":")[1].strip() for line in (info.read_text() if info.exists() else "").splitlines() if "model name" in line
    ]
    git = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "commit": git.stdout.strip(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tools", nargs="+", default=CPU, choices=CPU)
    parser.add_argument("--no-agreement", action="store_true", help="leave out the comparison of relevances")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results")
    parser.add_argument("--weights", type=Path, default=ROOT / ".cache" / "benchmark-weights")
    a = parser.parse_args()
    a.out.mkdir(parents=True, exist_ok=True)
    about = machine()  # the commit that is measured, and not one made meanwhile
    if a.growth:
        report.write_growth(growth(a.weights, a.rounds), about, a.out)
        return
    if a.gpu:
        print(gpu(a.weights, a.rounds, about, a.out))
        return
    rows = table(QUICK if a.quick else CASES, 1 if a.quick else a.rounds, a.tools, a.weights)
    agreed = [] if a.no_agreement else agreement(a.weights, a.tools, AGREEMENT)
    print(report.write_table(rows, agreed, about, a.out, "quick" if a.quick else "cpu"))


if __name__ == "__main__":
    main()

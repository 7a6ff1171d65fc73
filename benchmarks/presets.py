"""python -m benchmarks.presets: each preset beside Zennit's composite of that name, in float64, on random nets.

    benchmarks/setup.sh             makes the environment of Zennit, once
    python -m benchmarks.presets    prints max |R − R of Zennit| / max |R| for each preset

Four nets: one like VGG (convolutions, ReLU, max-pooling, dense layers, all with biases); the same with BatchNorm behind
each convolution, which both tools fuse into it; and the first over sequences and over volumes. Zennit's stabiliser is set to
what we do: nothing is added to a denominator, and what is divided by 0 is 0. ε of the ε-rule is 1e-6 in both. Zennit has no
composite `deep_taylor`: it is put together from Zennit's own rules there.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

import lrp_toolbox as lrp
from lrp_toolbox.presets import PRESETS, parse_composite
from lrp_toolbox.text import table

ROOT = Path(__file__).resolve().parent.parent
PEER = ROOT / ".cache" / "peers" / "torch" / "bin" / "python"
SPECS = [*PRESETS, "excitation_backprop:bias=ignore"]
WIDTHS = (8, 8, None, 16, 16, None)  # channels of the convolutions; None is a pool
CHANNELS, CLASSES, SAMPLES = 3, 5, 8
KINDS = {1: (64, lrp.Conv1D, lrp.MaxPool1D), 2: (16, lrp.Conv, lrp.MaxPool), 3: (8, lrp.Conv3D, lrp.MaxPool3D)}
"""For each number of axes of places: the size of each axis, and the layers."""
LOW, HIGH = -2.0, 3.0


def random_net(rng: np.random.Generator, places: int, norm: bool) -> tuple[lrp.Module, dict[str, np.ndarray]]:
    """Our net, and the arrays of which Zennit's is built: kind and position in each name."""
    layers, arrays, channels, (size, conv, pool) = [], {}, CHANNELS, KINDS[places]

    def add(kind: str, **of: np.ndarray) -> None:
        arrays.update({f"{len(layers)}.{kind}.{name}": a for name, a in of.items()})

    for width in WIDTHS:
        if width is None:
            add("pool", places=np.asarray(places))
            layers.append(pool(2))
            size //= 2
            continue
        w = rng.standard_normal((*[3] * places, channels, width)) * np.sqrt(2 / (3**places * channels))
        b = rng.standard_normal(width) / 4
        add("conv", w=w, b=b)
        layers.append(conv(w, b, padding=1))
        if norm:
            mean, var, gamma, beta = (
                rng.standard_normal(width) / 4,
                rng.uniform(0.5, 2, width),
                *rng.standard_normal((2, width)),
            )
            add("norm", mean=mean, var=var, gamma=gamma, beta=beta)
            layers.append(lrp.BatchNorm(mean, var, gamma, beta, 1e-5))
        arrays[f"{len(layers)}.relu."] = np.zeros(0)
        layers.append(lrp.ReLU())
        channels = width
    arrays[f"{len(layers)}.flatten."] = np.zeros(0)
    layers.append(lrp.Flatten(places + 1))
    features = size**places * channels
    for i, width in enumerate((32, CLASSES)):
        w, b = rng.standard_normal((features, width)) * np.sqrt(2 / features), rng.standard_normal(width) / 4
        add("dense", w=w, b=b, map=np.array([*[size] * places, channels] if i == 0 else [features]))
        layers.append(lrp.Linear(w, b))
        if i == 0:
            arrays[f"{len(layers)}.relu."] = np.zeros(0)
            layers.append(lrp.ReLU())
        features = width
    return lrp.Sequential(layers), arrays


class Boxed:
    """A net that knows the box of its inputs."""

    bounds = LOW, HIGH


def difference(seed: int, places: int, norm: bool) -> tuple[dict[str, float], float]:
    """The largest relative difference for each preset, and that of the logits."""
    rng = np.random.default_rng(seed)
    net, arrays = random_net(rng, places, norm)
    x = rng.uniform(LOW, HIGH, (SAMPLES, *[KINDS[places][0]] * places, CHANNELS))
    with tempfile.TemporaryDirectory() as folder:
        given, found = Path(folder) / "given.npz", Path(folder) / "found.npz"
        np.savez(given, x=x, box=np.array([LOW, HIGH]), **arrays)
        command = [PEER, "-m", "benchmarks.tools.zennit_presets", given, found, *SPECS]
        subprocess.run(list(map(str, command)), cwd=ROOT, check=True)
        with np.load(found) as theirs:
            explanations = {spec: lrp.explain(net, x, "top", parse_composite(spec, Boxed())) for spec in SPECS}
            relative = {spec: _relative(e.R, theirs[spec]) for spec, e in explanations.items()}
            return relative, float(abs(explanations[SPECS[0]].y - theirs["y"]).max() / abs(theirs["y"]).max())


def _relative(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest of all samples."""
    axes = tuple(range(1, ours.ndim))
    return float((abs(ours - theirs).max(axis=axes) / abs(ours).max(axis=axes)).max())


def main() -> None:
    if not PEER.exists():
        sys.exit(f"{PEER.relative_to(ROOT)}: there is no such file; run benchmarks/setup.sh")
    seeds = range(3)
    columns = {"VGG-like": (2, False), "with BatchNorm": (2, True), "over sequences": (1, False), "over volumes": (3, False)}
    found = {column: [difference(seed, *kind) for seed in seeds] for column, kind in columns.items()}
    rows = [("max |R − R of Zennit| / max |R|", *columns)]
    for spec in SPECS:
        rows.append((spec, *(f"{max(relative[spec] for relative, _ in found[column]):.1e}" for column in columns)))
    rows.append(("(the logits)", *(f"{max(logits for _, logits in found[column]):.1e}" for column in columns)))
    print(table(rows, left=1))
    print(f"{len(seeds)} nets, {SAMPLES} inputs each, the largest of {CLASSES} logits explained; float64")


if __name__ == "__main__":
    main()

"""ONNX files of real networks in lrp_toolbox, beside PyTorch, onnxruntime and Zennit: a table in Markdown.

    benchmarks/setup.sh vision                                           the environment with PyTorch and Zennit, once
    .cache/peers/vision/bin/python -m benchmarks.export_torchvision      the files
    .cache/peers/vision/bin/python -m benchmarks.zennit_onnx             Zennit's relevance
    python -m benchmarks.compare_onnx [NAME …]                           the table
    python -m benchmarks.compare_onnx --exporters [NAME …]               the older exporter's files beside the newer one's

Columns of the first table: the largest difference of our logits from PyTorch's in float64; that of onnxruntime's (ORT)
from ours, both in float32; and, to compare with it, that of PyTorch's in float32 from its own in float64: all in parts of the
largest logit. The largest difference of relevance from Zennit's, in float64, in parts of the largest relevance. What the ledger
leaves unexplained under CMP, in parts of the largest amount that arrives at a layer.

Columns of the second: how many layers either file becomes, once batch normalisation is merged; how many of them have the same
name in both; the largest difference of the newer file's logits from PyTorch's, and of its relevance from the older file's, in
float64, in parts of the largest.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from lrp_toolbox import Epsilon, Gamma, explain, fuse, lrp_cmp, uniform
from lrp_toolbox.importers.onnx import read_net

FOLDER = Path(__file__).resolve().parent.parent / ".cache" / "onnx"
METHODS = {"epsilon": uniform(Epsilon(1e-6)), "cmp": lrp_cmp(alpha=2, flat=1), "gamma": uniform(Gamma(0.25))}
HEADS = ("network", "layers", "same name", "PyTorch", "ε", "CMP", "γ")
HEAD = ("network", "PyTorch", "ORT", "rounding", "ε", "CMP", "γ", "ledger")


def row(name: str) -> tuple[str, ...]:
    import onnxruntime

    file = FOLDER / f"{name}.onnx"
    stored = np.load(FOLDER / f"{name}.npz")
    x, logits = stored["x"], stored["logits"]
    found = read_net(file, dtype=np.float64)
    channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    torch = _apart(found.net(channels_last), logits)
    single = read_net(file).net(channels_last.astype(np.float32))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    [theirs] = session.run(None, {session.get_inputs()[0].name: x.astype(np.float32)})
    rounding = _apart(stored["logits32"], logits)
    zennit_file = FOLDER / f"{name}.zennit.npz"
    zennit = np.load(zennit_file) if zennit_file.exists() else None
    relevance, ledger = [], "–"
    for method, composite in METHODS.items():
        e = explain(found.net, channels_last[0], composite=composite)
        R = np.asarray(e.R).reshape(channels_last[0].shape)
        relevance.append("–" if zennit is None else f"{_apart(R, zennit[method].transpose(1, 2, 0)):.0e}")
        if method == "cmp":
            ledger = f"{_rest(e):.0e}"
    return (name, f"{torch:.0e}", f"{_apart(single, theirs):.0e}", f"{rounding:.0e}", *relevance, ledger)


def pair(name: str) -> tuple[str, ...]:
    stored = np.load(FOLDER / f"{name}-dynamo.npz")
    x = np.ascontiguousarray(stored["x"].transpose(0, 2, 3, 1))
    old, new = (read_net(FOLDER / f"{name}{which}.onnx", dtype=np.float64).net for which in ("", "-dynamo"))
    fused = [fuse(net) for net in (old, new)]
    layers = "{} / {}".format(*map(len, fused))
    same = len(set(fused[0].names) & set(fused[1].names))
    torch = _apart(new(x), stored["logits"])
    relevance = []
    for composite in METHODS.values():
        before, after = (explain(net, x[0], composite=composite).R for net in (old, new))
        relevance.append(f"{_apart(np.asarray(after), np.asarray(before)):.0e}")
    return (name, layers, f"{same}", f"{torch:.0e}", *relevance)


def _apart(a: np.ndarray, b: np.ndarray) -> float:
    return float(abs(a - b).max() / abs(b).max())


def _rest(e: object) -> float:
    """What neither the pixels nor a reason of the ledger has, in parts of the largest amount that arrives at a layer."""
    page = e.ledger[0] if e.ledger.start.ndim else e.ledger
    largest = max(float(np.max(abs(entry.arriving) + abs(entry.absorbed))) for entry in page)
    return abs(float(page.rounding)) / largest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--exporters", action="store_true")
    a = parser.parse_args()
    newer = {file.stem for file in FOLDER.glob("*-dynamo.onnx")}
    older = {file.stem for file in FOLDER.glob("*.onnx")} - newer
    names = a.names or sorted({name.removesuffix("-dynamo") for name in newer} if a.exporters else older)
    head = HEADS if a.exporters else HEAD
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for name in names:
        print(f"| {' | '.join((pair if a.exporters else row)(name))} |", flush=True)


if __name__ == "__main__":
    main()

"""The original LRP Toolbox, Python: `PYTHONPATH=<its folder python> python original_adapter.py OUT.json`.

sebastian-lapuschkin/lrp_toolbox, python/modules, one layer after the other. It is of NumPy < 1.24, which has numpy.float.
"""

import numpy as np
from common import number, numbers, require, run

vars(np)["float"] = float
from modules.convolution import Convolution  # noqa: E402
from modules.linear import Linear  # noqa: E402
from modules.maxpool import MaxPool  # noqa: E402
from modules.sumpool import SumPool  # noqa: E402

NAMES = {"flat": "flat", "wsquare": "ww", "epsilon": "epsilon", "alphabeta": "alphabeta", "zplus": "alphabeta"}
PASSING = {"relu": lambda x: np.maximum(x, 0), "flatten": lambda x: x.reshape(1, -1), "dropout": lambda x: x}


def made(node):
    kind = node["layer"]
    require(not any(p for pair in node.get("padding", []) for p in pair), "no padding")
    require(all(d == 1 for d in node.get("dilation", [1])) and node.get("groups", 1) == 1, "no dilation, no groups")
    require(not node.get("ceil_mode"), "no ceil mode")
    if kind in ("max_pool2d", "sum_pool2d"):
        return (MaxPool if kind == "max_pool2d" else SumPool)(tuple(node["kernel"]), tuple(node["stride"]))
    require(kind in ("dense", "conv2d"), f"no layer {kind}")
    w = np.array(numbers(node["w"]))
    layer = Linear(*w.shape) if kind == "dense" else Convolution(w.shape, tuple(node["stride"]))
    layer.W, layer.B = w, np.array(numbers(node["b"] or [0] * w.shape[-1]))
    return layer


def backward(r, layer, R):
    if r["name"] in ("winner", "z") or r.get("eps") == 0:
        require(r.get("bias", "absorb") == "absorb", "only a bias that absorbs")
        return layer.lrp(R)
    require(r["name"] in NAMES, f"no rule {r['name']}")
    require(r["name"] in ("flat", "wsquare") or r["bias"] == "absorb", "only a bias that absorbs")
    require(r.get("empty_part", "lost") == "lost", "the share of an empty part for the other part")
    return layer.lrp(R, NAMES[r["name"]], number(r.get("eps", r.get("alpha", 1))))


def relevance(case):
    x, nodes, layers = np.array(numbers(case["input"]["input"]))[None], case["net"]["nodes"], []
    for node, before in zip(nodes, ["input", *(n["name"] for n in nodes)], strict=False):
        require(node["reads"] == [before], "only one layer after the other")
        require(node["layer"] != "sum_pool2d" or len(nodes) == 1, "sum-pooling is scaled by 1 / √(h w)")
        layers.append(x.shape if node["layer"] in PASSING else made(node))
        x = PASSING[node["layer"]](x) if node["layer"] in PASSING else layers[-1].forward(x)
    R = np.array(numbers(case["start"]["relevance"]))[None]
    for node, layer in zip(reversed(nodes), reversed(layers), strict=True):
        R = R.reshape(layer) if node["layer"] in PASSING else backward(node["rule"], layer, R)
    return R[0].tolist()


if __name__ == "__main__":
    run("LRPT", "1.3", relevance)

"""The original LRP Toolbox, Python: `PYTHONPATH=<its folder python> python original_adapter.py OUT.json`. One layer after the other.

sebastian-lapuschkin/lrp_toolbox, python/modules. It needs NumPy < 1.24, or `numpy.float = float` before it is imported.
"""

import numpy as np
from common import number, numbers, require, run

np.float = float
from modules.convolution import Convolution  # noqa: E402
from modules.linear import Linear  # noqa: E402
from modules.maxpool import MaxPool  # noqa: E402
from modules.sumpool import SumPool  # noqa: E402

NAMES = {"z": None, "flat": "flat", "wsquare": "ww", "epsilon": "epsilon", "alphabeta": "alphabeta", "zplus": "alphabeta"}
PASSING = ("relu", "flatten", "dropout")


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


def backward(node, layer, R):
    r, name = node["rule"], node["rule"]["name"]
    if name == "winner" or r.get("eps") == 0:
        return layer.lrp(R)
    require(name in NAMES, f"no rule {name}")
    require(name in ("flat", "wsquare") or r["bias"] == "absorb", "only a bias that absorbs")
    require(r.get("empty_part", "lost") == "lost", "the share of an empty part for the other part")
    parameter = {"epsilon": "eps", "alphabeta": "alpha"}.get(name)
    return layer.lrp(R, NAMES[name], number(r[parameter]) if parameter else 1.0) if NAMES[name] else layer.lrp(R)


def relevance(case):
    x, nodes, layers, before = np.array(numbers(case["input"]["input"]))[None], case["net"]["nodes"], [], "input"
    for node in nodes:
        require(node["reads"] == [before], "only one layer after the other")
        require(node["layer"] != "sum_pool2d" or len(nodes) == 1, "sum-pooling is scaled by 1 / √(h w)")
        before = node["name"]
        layers.append(x.shape if node["layer"] in PASSING else made(node))
        x = (
            {"relu": np.maximum(x, 0), "flatten": x.reshape(1, -1), "dropout": x}[node["layer"]]
            if node["layer"] in PASSING
            else layers[-1].forward(x)
        )
    R = np.array(numbers(case["start"]["relevance"]))[None]
    for node, layer in zip(reversed(nodes), reversed(layers), strict=True):
        R = R.reshape(layer) if node["layer"] in PASSING else backward(node, layer, R)
    return R[0].tolist()


if __name__ == "__main__":
    run("LRP Toolbox 1.3 (Python)", relevance)

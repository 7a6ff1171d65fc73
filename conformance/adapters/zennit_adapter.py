"""Zennit 1.0.0: `python zennit_adapter.py OUT.json`. ε is 1e-9 where the case has none, so that only exact zeros show it."""

import torch
from common import number, require, run
from torch_run import Net, channels_first, channels_last, tensor
from zennit.attribution import Gradient
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import NameMapComposite
from zennit.layer import Sum
from zennit.rules import AlphaBeta, Epsilon, Flat, Gamma, Norm, Pass, WSquare, ZBox, ZPlus

EPS = 1e-9
WITHOUT_WEIGHTS = ("avg_pool", "sum_pool", "adaptive_avg_pool", "sum")


def rule(node):
    r, name = node["rule"], node["rule"]["name"]
    require(r.get("bias") != "distribute", "a bias that is distributed")
    require(node["layer"] != "batch_norm" or r.get("bias") != "ignore", "batch normalisation without its bias")
    require(r.get("empty_part") != "other_part", "the share of an empty part for the other part")
    zero = {"zero_params": "bias"} if r.get("bias") == "ignore" else {}
    if name in ("z", "epsilon"):
        eps = number(r.get("eps", 0)) or EPS
        return Norm(eps) if node["layer"].startswith(WITHOUT_WEIGHTS) else Epsilon(eps, **zero)
    if name == "alphabeta":
        return AlphaBeta(number(r["alpha"]), -number(r["beta"]), stabilizer=EPS, **zero)
    if name == "zbox":
        shape = (1, -1, *[1] * (2 if node["layer"] == "conv2d" else 0))
        low, high = (tensor(r[b]).reshape(shape) if isinstance(r[b], list) else number(r[b]) for b in ("low", "high"))
        return ZBox(low, high, stabilizer=EPS)
    if name == "flat":
        require(not node["layer"].startswith(("max_pool", "adaptive_max")), "♭ in max-pooling")
        return Flat(stabilizer=EPS)
    if name == "winner":
        return None  # the gradient
    require(name != "taylor", "no Taylor terms of LRN")
    return {
        "zplus": lambda: ZPlus(stabilizer=EPS, **zero),
        "gamma": lambda: Gamma(number(r["gamma"]), stabilizer=EPS, **zero),
        "wsquare": lambda: WSquare(stabilizer=EPS, **zero),
        "pass": Pass,
        "merged": Pass,  # by a canonizer, if the layer before it has weights
    }[name]()


def relevance(case):
    net = Net(case, Sum, lambda add, read: add(torch.stack(read, dim=-1)))
    modules = dict(net.named_children())
    rules = [([n["name"]], rule(n)) for n in case["net"]["nodes"] if n["name"] in modules]
    composite = NameMapComposite([pair for pair in rules if pair[1]], canonizers=[SequentialMergeBatchNorm()])
    x, start = channels_first(case["input"]["input"]), channels_first(case["start"]["relevance"])
    with Gradient(model=net, composite=composite) as attributor:
        _, R = attributor(x, start)
    return channels_last(R)


if __name__ == "__main__":
    run("Zennit", "1.0.0", relevance)

"""iNNvestigate 2.1.2: `python innvestigate_adapter.py OUT.json`. Its rules and reverse layers, one layer after the other.

Its analyzers can only start from the output itself; its rules take any relevance. Other layers pass the gradient."""

import numpy as np
from common import number, numbers, require, run
from innvestigate import backend as ibackend
from innvestigate.analyzer.relevance_based import relevance_analyzer as reverse
from innvestigate.analyzer.relevance_based import relevance_rule as rules
from keras_net import AVERAGES, MAXIMA, around, backend, layers, made

RULES = {"z": rules.ZRule, "epsilon": rules.EpsilonRule, "alphabeta": rules.AlphaBetaRule, "zplus": rules.ZPlusRule}
RULES |= {"flat": rules.FlatRule, "wsquare": rules.WSquareRule, "zbox": rules.BoundedRule}
PARAMETERS = {
    "epsilon": {"epsilon": lambda r: number(r["eps"])},
    "alphabeta": {"alpha": lambda r: number(r["alpha"]), "beta": lambda r: -number(r["beta"])},
    "zbox": {"low": lambda r: np.array(numbers(r["low"])), "high": lambda r: np.array(numbers(r["high"]))},
}


def mapping(node, layer):
    """The reverse mapping of a layer; None for the gradient."""
    r, name, kind = node["rule"], node["rule"]["name"], node["layer"]
    require(r.get("bias") != "distribute" and r.get("empty_part") != "other_part", "bias or empty part")
    special = {"sum": reverse.AddReverseLayer, "batch_norm": reverse.BatchNormalizationReverseLayer}
    if kind in special or kind in AVERAGES:
        require(name in ("z", "merged"), f"{kind} in proportion only")
        return special.get(kind, reverse.AveragePoolingReverseLayer)(layer, None)
    if name in ("winner", "pass"):
        return None
    require(kind not in MAXIMA and name in RULES, f"no rule {name}")
    bias = {"bias": r["bias"] == "absorb"} if name in ("z", "epsilon", "alphabeta") else {}
    return RULES[name](layer, None, **{key: value(r) for key, value in PARAMETERS.get(name, {}).items()}, **bias)


def relevance(case):
    backend.clear_session()
    values, steps = {"input": np.array(numbers(case["input"]["input"]))[None]}, []
    for node in case["net"]["nodes"]:
        (layer, weights), read = made(node), [around(node, values[name]) for name in node["reads"]]
        xs, inside = [x for x, _ in read], [rows for _, rows in read]
        inputs = [layers.Input(x.shape[1:]) for x in xs]
        y = layer(inputs if len(inputs) > 1 else inputs[0])
        layer.set_weights(weights)
        values[node["name"]] = backend.function(inputs, [y])(xs)[0]
        steps.append((node, layer, xs, inside, inputs, y))
    R = {case["net"]["output"]: np.array(numbers(case["start"]["relevance"]))[None]}
    for node, layer, xs, inside, inputs, y in reversed(steps):
        arriving, way = R[node["name"]], mapping(node, layer)
        r = layers.Input(arriving.shape[1:])
        back = way.apply(inputs, [y], [r], {}) if way else ibackend.gradients(inputs, [y], [r])
        passing = node["layer"] in ("relu", "leaky_relu", "dropout")  # as it is
        found = [arriving] if passing else backend.function([*inputs, r], list(back))([*xs, arriving])
        for name, part, rows in zip(node["reads"], found, inside, strict=True):
            R[name] = R.get(name, 0) + part[(slice(None), *rows)]
    return R["input"][0].tolist()


if __name__ == "__main__":
    run("iNNvestigate", "2.1.2", relevance)

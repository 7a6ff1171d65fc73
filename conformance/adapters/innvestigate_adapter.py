"""iNNvestigate 2.1.2: `python innvestigate_adapter.py OUT.json`. Its rules and reverse layers, one layer after the other.

Its analyzers can only start from the output itself; its rules take any relevance. Layers without a rule pass the gradient.
"""

import numpy as np
from common import number, numbers, require, run
from innvestigate import backend as ibackend
from innvestigate.analyzer.relevance_based import relevance_analyzer as reverse
from innvestigate.analyzer.relevance_based import relevance_rule as rules
from keras_net import AVERAGES, around, backend, layers, made


def mapping(node, layer):
    """The reverse mapping of a layer; None for the gradient, "pass" for relevance as it is."""
    r, name, kind = node["rule"], node["rule"]["name"], node["layer"]
    require(r.get("bias") != "distribute" and r.get("empty_part") != "other_part", "bias or empty part")
    if name == "winner" or kind in ("flatten", "concat", "relu", "leaky_relu", "dropout"):
        return "pass" if kind in ("relu", "leaky_relu", "dropout") else None
    special = {"sum": reverse.AddReverseLayer, "batch_norm": reverse.BatchNormalizationReverseLayer}
    if kind in special or kind in AVERAGES:
        require(name in ("z", "merged"), f"{kind} in proportion only")
        return special.get(kind, reverse.AveragePoolingReverseLayer)(layer, None)
    bias = {"bias": r["bias"] == "absorb"}
    choices = {
        "z": lambda: rules.ZRule(layer, None, **bias),
        "epsilon": lambda: rules.EpsilonRule(layer, None, epsilon=number(r["eps"]), **bias),
        "alphabeta": lambda: rules.AlphaBetaRule(layer, None, alpha=number(r["alpha"]), beta=-number(r["beta"]), **bias),
        "zplus": lambda: rules.ZPlusRule(layer, None),
        "flat": lambda: rules.FlatRule(layer, None),
        "wsquare": lambda: rules.WSquareRule(layer, None),
        "zbox": lambda: rules.BoundedRule(layer, None, *(np.array(numbers(r[b])) for b in ("low", "high"))),
    }
    require(name in choices, f"no rule {name}")
    return choices[name]()


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
        back = [r] if way == "pass" else way.apply(inputs, [y], [r], {}) if way else ibackend.gradients(inputs, [y], [r])
        found = backend.function([*inputs, r], list(back))([*xs, arriving])
        for name, part, rows in zip(node["reads"], found, inside, strict=True):
            R[name] = R.get(name, 0) + part[(slice(None), *rows)]
    return R["input"][0].tolist()


if __name__ == "__main__":
    run("iNNvestigate 2.1.2", relevance)

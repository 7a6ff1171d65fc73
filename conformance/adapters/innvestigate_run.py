"""Runs innvestigate_adapter along the nodes of a case: forward, then back with the mapping of each layer."""

import innvestigate.backend as ibackend
import numpy as np
from common import numbers, require, run
from innvestigate_adapter import backend, layers, made, mapping


def around(node, x):
    """Zeros around a map, as an array and as a layer of their own: Keras pads by 'same' only."""
    pads = node.get("padding", []) if node["layer"].startswith("conv") and "transpose" not in node["layer"] else []
    require(not any(map(any, pads)) or node["rule"]["name"] not in ("flat", "wsquare", "zbox"), "padding that is not 'same'")
    return np.pad(x, [(0, 0), *pads, (0, 0)]) if pads else x, tuple(slice(b, -a or None) for b, a in pads)


def relevance(case):
    backend.clear_session()
    values, steps = {"input": np.array(numbers(case["input"]["input"]))[None]}, []
    for node in case["net"]["nodes"]:
        layer, set_weights = made(node)
        xs, inside = zip(*(around(node, values[name]) for name in node["reads"]), strict=True)
        inputs = [layers.Input(x.shape[1:]) for x in xs]
        y = layer(inputs if len(inputs) > 1 else inputs[0])
        set_weights()
        values[node["name"]] = backend.function(inputs, [y])(list(xs))[0]
        steps.append((node, layer, xs, inputs, y, inside))
    R = {case["net"]["output"]: np.array(numbers(case["start"]["relevance"]))[None]}
    for node, layer, xs, inputs, y, inside in reversed(steps):
        arriving, way = R[node["name"]], mapping(node, layer)
        if way == "pass":
            found = [arriving]
        else:
            r = layers.Input(arriving.shape[1:])
            back = ibackend.gradients(inputs, [y], [r]) if way is None else way.apply(inputs, [y], [r], {})
            found = backend.function([*inputs, r], list(back))([*xs, arriving])
        for name, part, rows in zip(node["reads"], found, inside, strict=True):
            part = part[(slice(None), *rows)] if rows else part
            R[name] = R[name] + part if name in R else part
    return R["input"][0].tolist()


if __name__ == "__main__":
    run("iNNvestigate 2.1.2", relevance)

"""iNNvestigate 2.1.2: `python innvestigate_adapter.py OUT.json`. Its rules and reverse layers, one layer after the other.

Its analyzers can only start from the output itself; its rules take any relevance. Layers without a rule pass the gradient.
"""

import numpy as np
import tensorflow as tf
from common import number, numbers, require, run

tf.compat.v1.disable_eager_execution()
import innvestigate.analyzer.relevance_based.relevance_analyzer as reverse  # noqa: E402
import innvestigate.analyzer.relevance_based.relevance_rule as rules  # noqa: E402
from tensorflow.keras import backend, layers  # noqa: E402

backend.set_floatx("float64")
CONVOLUTIONS = {
    "conv1d": layers.Conv1D,
    "conv2d": layers.Conv2D,
    "conv3d": layers.Conv3D,
    "conv_transpose2d": layers.Conv2DTranspose,
}
POOLS = {"max_pool": {1: layers.MaxPool1D, 2: layers.MaxPool2D, 3: layers.MaxPool3D}}
POOLS["avg_pool"] = {1: layers.AveragePooling1D, 2: layers.AveragePooling2D, 3: layers.AveragePooling3D}
OTHERS = {"relu": lambda n: layers.ReLU(), "flatten": lambda n: layers.Flatten(), "concat": lambda n: layers.Concatenate()}
OTHERS |= {
    "sum": lambda n: layers.Add(),
    "dropout": lambda n: layers.Dropout(0.5),
    "leaky_relu": lambda n: layers.LeakyReLU(number(n["slope"])),
}


def made(node):
    """The Keras layer, and a function that sets its weights once it is built."""
    kind, axes = node["layer"], len(node.get("stride", [0]))
    if kind == "dense" or kind in CONVOLUTIONS:
        w = np.array(numbers(node["w"]))
        options = (
            {} if kind == "dense" else {"strides": node["stride"], "dilation_rate": node["dilation"], "groups": node["groups"]}
        )
        if "transpose" in kind:
            require(node["groups"] == 1 and not any(map(any, node["padding"])), "groups or padding of a transposed convolution")
            w, options = (
                np.swapaxes(w, -1, -2),
                {"strides": node["stride"], "output_padding": node["output_padding"] if max(node["stride"]) > 1 else None},
            )
        outputs = w.shape[-2] if "transpose" in kind else w.shape[-1]
        layer = (
            layers.Dense(outputs, use_bias=bool(node["b"]))
            if kind == "dense"
            else CONVOLUTIONS[kind](outputs, w.shape[:-2], use_bias=bool(node["b"]), **options)
        )
        return layer, lambda: layer.set_weights([w, *([np.array(numbers(node["b"]))] if node["b"] else [])])
    if kind[:-2] in POOLS:
        require(not any(map(any, node["padding"])) and not node["ceil_mode"], "padding or ceil mode of pooling")
        return POOLS[kind[:-2]][axes](node["kernel"], node["stride"]), lambda: None
    if kind == "batch_norm":
        layer = layers.BatchNormalization(epsilon=number(node["eps"]))
        return layer, lambda: layer.set_weights([np.array(numbers(node[k])) for k in ("gamma", "beta", "mean", "variance")])
    require(kind in OTHERS, f"no layer {kind}")
    return OTHERS[kind](node), lambda: None


def mapping(node, layer):
    """The reverse mapping of a layer; None for the gradient, "pass" for relevance as it is."""
    r, name, kind = node["rule"], node["rule"]["name"], node["layer"]
    require(r.get("bias") != "distribute" and r.get("empty_part") != "other_part", "bias or empty part")
    if kind in ("relu", "leaky_relu", "dropout") or name == "winner" or kind in ("flatten", "concat"):
        return None if kind in ("flatten", "concat") or name == "winner" else "pass"
    special = {"sum": reverse.AddReverseLayer, "batch_norm": reverse.BatchNormalizationReverseLayer}
    if kind in special or kind[:-2] in POOLS:
        require(name in ("z", "merged"), f"{kind} in proportion only")
        return special.get(kind, reverse.AveragePoolingReverseLayer)(layer, None)
    bias = {"bias": r["bias"] == "absorb"}
    made = {
        "z": lambda: rules.ZRule(layer, None, **bias),
        "epsilon": lambda: rules.EpsilonRule(layer, None, epsilon=number(r["eps"]), **bias),
        "alphabeta": lambda: rules.AlphaBetaRule(layer, None, alpha=number(r["alpha"]), beta=-number(r["beta"]), **bias),
        "zplus": lambda: rules.ZPlusRule(layer, None),
        "flat": lambda: rules.FlatRule(layer, None),
        "wsquare": lambda: rules.WSquareRule(layer, None),
        "zbox": lambda: rules.BoundedRule(layer, None, *(np.array(numbers(r[b])) for b in ("low", "high"))),
    }
    require(name in made, f"no rule {name}")
    return made[name]()

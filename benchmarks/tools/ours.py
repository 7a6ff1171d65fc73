from __future__ import annotations

import numpy as np

import lrp_toolbox as lrp

METHODS = {
    "epsilon": lrp.Epsilon(1e-6),
    "alpha1beta0": lrp.AlphaBeta(1),
    "alpha2beta1": lrp.AlphaBeta(2),
    "cmp_alpha1_flat": lrp.lrp_cmp(alpha=1, flat=1),
    "cmp_alpha2_flat": lrp.lrp_cmp(alpha=2, flat=1),
}


def build(shape, layers, folder, dtype):
    modules = []
    for i, layer in enumerate(layers):
        if layer["type"] == "conv":
            w = np.load(folder / f"{i}.npy").astype(dtype, copy=False)
            modules.append(lrp.Conv(w, stride=layer["stride"], padding=layer["pad"], groups=layer["groups"]))
        elif layer["type"] == "dense":
            modules.append(lrp.Linear(np.load(folder / f"{i}.npy").astype(dtype, copy=False)))
        elif layer["type"] == "pool":
            modules.append(lrp.MaxPool(layer["k"], layer["stride"]))
        else:
            modules.append(lrp.ReLU() if layer["type"] == "relu" else lrp.Flatten())
    return lrp.Sequential(modules)


def runner(net, x, method, targets):
    if method == "forward":
        return lambda: net.forward(x)
    return lambda: lrp.explain(net, x, list(range(targets)), METHODS[method]).R


def versions():
    return {"lrp_toolbox": lrp.__version__, "numpy": np.__version__}

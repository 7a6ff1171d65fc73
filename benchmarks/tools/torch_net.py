"""The nets in PyTorch, for Zennit and Captum."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from ..nets import map_before_dense


def build(shape, layers, folder, dtype):
    dtype = getattr(torch, dtype)
    modules, c, first = [], shape[2], True
    fh, fw, fc = map_before_dense(shape, layers)
    for i, layer in enumerate(layers):
        if layer["type"] == "conv":
            conv = nn.Conv2d(c, layer["out"], layer["k"], layer["stride"], layer["pad"], groups=layer["groups"], bias=True)
            weight = torch.from_numpy(np.load(folder / f"{i}.npy")).permute(3, 2, 0, 1).contiguous()
            modules.append(_with(conv, weight, dtype))
            c = layer["out"]
        elif layer["type"] == "dense":
            weight = np.load(folder / f"{i}.npy")
            if first:  # rows from (height, width, channel) to (channel, height, width)
                weight, first = weight.reshape(fh, fw, fc, -1).transpose(2, 0, 1, 3).reshape(weight.shape), False
            linear = nn.Linear(*weight.shape)
            modules.append(_with(linear, torch.from_numpy(np.ascontiguousarray(weight.T)), dtype))
        elif layer["type"] == "pool":
            modules.append(nn.MaxPool2d(layer["k"], layer["stride"]))
        else:
            modules.append(nn.ReLU() if layer["type"] == "relu" else None)
    cut = modules.index(None)
    return Net(nn.Sequential(*modules[:cut]), nn.Sequential(*modules[cut + 1 :])).eval()


class Net(nn.Module):
    """Flattened by the function, as in torchvision's nets: Captum has no rule for the module."""

    def __init__(self, features, classifier):
        super().__init__()
        self.features, self.classifier = features, classifier

    def forward(self, x):
        return self.classifier(torch.flatten(self.features(x), 1))


def _with(module, weight, dtype):
    module.weight = nn.Parameter(weight.to(dtype), requires_grad=False)
    module.bias = nn.Parameter(torch.zeros(weight.shape[0], dtype=dtype), requires_grad=False)
    return module


def channels_first(x, net):
    """(sample, channel, height, width), where the net is."""
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).to(next(net.parameters()).device)


def forward(net, x):
    def run():
        with torch.no_grad():
            return net(x)

    return run

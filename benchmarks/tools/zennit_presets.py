"""What Zennit computes for a net in a .npz file; `benchmarks.presets` runs it: zennit_presets GIVEN FOUND SPEC…"""

from __future__ import annotations

import sys

import numpy as np
import torch
from torch import nn
from zennit.canonizers import SequentialMergeBatchNorm
from zennit.composites import COMPOSITES, SpecialFirstLayerMapComposite
from zennit.rules import Pass, ZBox, ZPlus
from zennit.types import Activation, Linear


def tensor(a: np.ndarray) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.ascontiguousarray(a)), requires_grad=False)


def build(given: dict[str, np.ndarray]) -> nn.Sequential:
    layers: dict[tuple[int, str], dict[str, np.ndarray]] = {}
    for name, a in given.items():
        if name[0].isdigit():
            place, kind, of = name.split(".")
            layers.setdefault((int(place), kind), {})[of] = a
    return nn.Sequential(*(module(kind, of) for (_, kind), of in sorted(layers.items(), key=lambda item: item[0][0]))).eval()


def module(kind: str, of: dict[str, np.ndarray]) -> nn.Module:
    if kind == "conv":
        places = of["w"].ndim - 2
        layer: nn.Module = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[places - 1](*of["w"].shape[places:], 3, padding=1)
        layer.weight, layer.bias = tensor(of["w"].transpose(places + 1, places, *range(places))), tensor(of["b"])
    elif kind == "norm":
        layer = nn.BatchNorm2d(of["mean"].size, eps=1e-5, dtype=torch.float64)
        layer.running_mean, layer.running_var = tensor(of["mean"]).data, tensor(of["var"]).data
        layer.weight, layer.bias = tensor(of["gamma"]), tensor(of["beta"])
    elif kind == "dense":  # rows from (height, width, channel) to (channel, height, width)
        layer, last = nn.Linear(*of["w"].shape), len(of["map"]) - 1
        w = of["w"].reshape(*of["map"], -1).transpose(last, *range(last), last + 1).reshape(of["w"].shape)
        layer.weight, layer.bias = tensor(w.T), tensor(of["b"])
    elif kind == "pool":
        layer = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[int(of["places"]) - 1](2)
    else:
        layer = {"relu": nn.ReLU, "flatten": nn.Flatten}[kind]()
    return layer


def nothing_added(z: torch.Tensor) -> torch.Tensor:
    """The stabiliser of this toolbox: what is divided by 0 is 0."""
    return torch.where(z == 0, torch.inf, z)


def deep_taylor(low: torch.Tensor, high: torch.Tensor, stabilizer, canonizers) -> SpecialFirstLayerMapComposite:
    rules = [(Activation, Pass()), (Linear, ZPlus(stabilizer=stabilizer, zero_params="bias"))]
    return SpecialFirstLayerMapComposite(rules, [(Linear, ZBox(low, high, stabilizer=stabilizer))], canonizers=canonizers)


def main() -> None:
    source, target, *specs = sys.argv[1:]
    with np.load(source) as stored:
        given = dict(stored)
    net = build(given)
    x = torch.from_numpy(np.ascontiguousarray(np.moveaxis(given["x"], -1, 1)))
    low, high = (torch.full_like(x[:1], float(bound)) for bound in given["box"])
    found = {"y": net(x).detach().numpy()}
    for spec in specs:
        name, _, parameters = spec.partition(":")
        more = {"zero_params": "bias"} if parameters == "bias=ignore" else {}
        if name in ("epsilon_gamma_box", "deep_taylor"):
            more |= {"low": low, "high": high}
        make = {**COMPOSITES, "deep_taylor": deep_taylor}[name]
        composite = make(stabilizer=nothing_added, canonizers=[SequentialMergeBatchNorm()], **more)
        with composite.context(net) as modified:
            inputs = x.clone().requires_grad_()
            y = modified(inputs)
            largest, top = y.detach().max(dim=1, keepdim=True)
            [R] = torch.autograd.grad(y, inputs, torch.zeros_like(y).scatter(1, top, largest))
        found[spec] = np.moveaxis(R.numpy(), 1, -1)
    np.savez(target, **found)


if __name__ == "__main__":
    main()

from __future__ import annotations

import importlib.metadata

import torch
from zennit.composites import EpsilonAlpha2Beta1Flat, EpsilonPlusFlat, LayerMapComposite
from zennit.rules import AlphaBeta, Epsilon, Pass
from zennit.types import Activation, Convolution, Linear

from .torch_net import build, channels_first, forward

__all__ = ["build", "runner", "versions"]


def _uniform(rule):
    return LayerMapComposite([(Activation, Pass()), (Convolution, rule), (Linear, rule)])


METHODS = {
    "epsilon": lambda: _uniform(Epsilon(1e-6)),
    "alpha1beta0": lambda: _uniform(AlphaBeta(1, 0)),
    "alpha2beta1": lambda: _uniform(AlphaBeta(2, 1)),
    "cmp_alpha1_flat": lambda: EpsilonPlusFlat(epsilon=1e-6),
    "cmp_alpha2_flat": lambda: EpsilonAlpha2Beta1Flat(epsilon=1e-6),
}


def runner(net, x, method, targets):
    x = channels_first(x, net)
    if method == "forward":
        return forward(net, x)
    composite = METHODS[method]()

    def run():
        """The forward pass is shared by the targets; each has a backward pass of its own, as Zennit's own guide has it."""
        maps = []
        with composite.context(net) as modified:
            for target in range(targets):
                given = x.clone().requires_grad_()
                y = modified(given)
                start = torch.zeros_like(y)
                start[:, target] = y.detach()[:, target]
                [gradient] = torch.autograd.grad(y, given, start)
                maps.append(gradient)
        return torch.stack(maps, dim=1).permute(0, 1, 3, 4, 2)

    return run


def versions():
    return {"zennit": importlib.metadata.version("zennit"), "torch": torch.__version__}

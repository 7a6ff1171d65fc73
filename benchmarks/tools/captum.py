from __future__ import annotations

import captum
import torch
from captum.attr import LRP
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule

from .torch_net import build, channels_first, forward

__all__ = ["build", "runner", "versions"]

METHODS = {"epsilon": lambda: EpsilonRule(1e-6), "alpha1beta0": Alpha1_Beta0_Rule}


def runner(net, x, method, targets):
    x = channels_first(x, net)
    if method == "forward":
        return forward(net, x)
    if method not in METHODS:
        raise NotImplementedError("no such rule")

    def run():
        maps = []
        for target in range(targets):
            for module in net.modules():
                if hasattr(module, "weight"):
                    module.rule = METHODS[method]()  # removed by each call
            maps.append(LRP(net).attribute(x.clone().requires_grad_(), target=target).detach())
        return torch.stack(maps, dim=1).permute(0, 1, 3, 4, 2)

    return run


def versions():
    return {"captum": captum.__version__, "torch": torch.__version__}

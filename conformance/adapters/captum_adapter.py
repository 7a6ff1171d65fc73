"""Captum 0.9.0: `python captum_adapter.py OUT.json`. Its ε is 1e-9, as by default.

Captum starts from one output and multiplies by it. Here it starts from 1, for each output that has relevance, and the relevance
of that output multiplies the answer: LRP is linear in it.
"""

import torch
from captum.attr import LRP
from captum.attr._utils.custom_modules import Addition_Module
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule, GammaRule
from common import number, require, run
from torch_run import Net, channels_first, channels_last


class FromOne(LRP):
    """The same, without the factor f(x)."""

    def _compute_output_and_change_weights(self, *arguments):
        return torch.ones_like(super()._compute_output_and_change_weights(*arguments))


def rule(node):
    """The rule of a layer; None where Captum has only one way."""
    r, name = node["rule"], node["rule"]["name"]
    require(r.get("bias") != "distribute", "a bias that is distributed")
    require(r.get("empty_part") != "other_part", "the share of an empty part for the other part")
    ignore = r.get("bias") == "ignore"
    if name in ("pass", "winner", "merged"):
        require(node["layer"] != "lrn", "no LRN")
        return None
    require(name in ("z", "epsilon", "zplus", "alphabeta", "gamma"), f"no rule {name}")
    if name in ("z", "epsilon"):
        require(not ignore, "ε without the bias")
        return EpsilonRule(number(r.get("eps", 0)) or 1e-9)
    if name == "gamma":
        return GammaRule(number(r["gamma"]), set_bias_to_zero=ignore)
    require(number(r.get("alpha", 1)) == 1, "only α = 1")
    return Alpha1_Beta0_Rule(set_bias_to_zero=ignore)


def relevance(case):
    normed = any(node["layer"] == "batch_norm" for node in case["net"]["nodes"])
    require(not normed or case["rule"] not in ("zplus", "alphabeta"), "α1β0 is not for BatchNorm, says its documentation")
    start, x = channels_first(case["start"]["relevance"]), channels_first(case["input"]["input"])
    total = torch.zeros_like(x)
    for at in start.nonzero():
        net = Net(case, Addition_Module, lambda add, read: add(*read))
        for node in case["net"]["nodes"]:
            chosen = rule(node)
            if chosen and hasattr(net, node["name"]):
                getattr(net, node["name"]).rule = chosen
        total += start[tuple(at)] * FromOne(net).attribute(x.clone(), target=tuple(at[1:].tolist())).detach()
    return channels_last(total)


if __name__ == "__main__":
    run("Captum", "0.9.0", relevance)

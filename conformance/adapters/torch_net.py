"""The net of a case as a PyTorch module, for Zennit and Captum. Inside, channels come first; outside, as in the case, last."""

import torch
from common import CannotError, number, numbers, require
from torch import nn

CONVOLUTIONS = {"conv1d": nn.Conv1d, "conv2d": nn.Conv2d, "conv3d": nn.Conv3d, "conv_transpose2d": nn.ConvTranspose2d}
AVERAGES = {"avg_pool1d": nn.AvgPool1d, "avg_pool2d": nn.AvgPool2d, "sum_pool2d": nn.AvgPool2d, "avg_pool3d": nn.AvgPool3d}
MAXIMA = {"max_pool1d": nn.MaxPool1d, "max_pool2d": nn.MaxPool2d, "max_pool3d": nn.MaxPool3d}
PLAIN = {"relu": nn.ReLU, "dropout": nn.Dropout}


def tensor(nested):
    return torch.tensor(numbers(nested), dtype=torch.float64)


def pad_of(node):
    """The padding, if it is the same on both sides; else what goes around the map before."""
    same = all(before == after for before, after in node["padding"])
    return [before for before, _ in node["padding"]] if same else None


def layer(node, add, axes):
    """axes: how many axes of places the input of the net has."""
    kind, options = node["layer"], {}
    if kind in CONVOLUTIONS or kind == "dense":
        w = tensor(node["w"])
        if kind == "dense":
            made = nn.Linear(*w.shape, bias=bool(node["b"]))
        else:
            outputs = w.shape[-1] * (node["groups"] if "transpose" in kind else 1)
            inputs = w.shape[-2] * (1 if "transpose" in kind else node["groups"])
            options = {
                "stride": node["stride"],
                "dilation": node["dilation"],
                "groups": node["groups"],
                "padding": pad_of(node) or 0,
            }
            options |= {"output_padding": node["output_padding"]} if "transpose" in kind else {}
            made = CONVOLUTIONS[kind](inputs, outputs, w.shape[:-2], bias=bool(node["b"]), **options)
            require(pad_of(node) or "transpose" not in kind, "asymmetric padding of a transposed convolution")
        order = (-2, -1) if "transpose" in kind else (-1, -2)
        made.weight.data = w.permute(*(k % w.ndim for k in order), *range(w.ndim - 2)).contiguous()
        if node["b"]:
            made.bias.data = tensor(node["b"])
        return made
    if kind in AVERAGES or kind in MAXIMA:
        require(
            pad_of(node) or (node.get("count_include_pad", True) and not node["ceil_mode"]), "asymmetric padding of pooling"
        )
        options = {"stride": node["stride"], "padding": pad_of(node) or 0, "ceil_mode": node["ceil_mode"]}
        options |= {"count_include_pad": node["count_include_pad"]} if "count_include_pad" in node else {}
        options |= {"divisor_override": 1} if kind == "sum_pool2d" else {}
        return (AVERAGES | MAXIMA)[kind](node["kernel"], **options)
    if kind == "batch_norm":
        made = (nn.BatchNorm2d if axes == 2 else nn.BatchNorm1d)(len(node["mean"]), eps=number(node["eps"])).double()
        made.running_mean, made.running_var = tensor(node["mean"]), tensor(node["variance"])
        made.weight.data, made.bias.data = tensor(node["gamma"]), tensor(node["beta"])
        return made
    if kind in PLAIN:
        return PLAIN[kind]()
    others = {
        "adaptive_avg_pool2d": lambda: nn.AdaptiveAvgPool2d(node["size"]),
        "adaptive_max_pool2d": lambda: nn.AdaptiveMaxPool2d(node["size"]),
        "leaky_relu": lambda: nn.LeakyReLU(number(node["slope"])),
        "lrn": lambda: nn.LocalResponseNorm(node["size"], number(node["alpha"]), number(node["beta"]), number(node["k"])),
        "sum": add,
    }
    if kind in others:
        return others[kind]()
    raise CannotError(f"no layer {kind}")

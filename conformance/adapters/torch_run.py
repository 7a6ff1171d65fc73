"""Runs a module made by torch_net along the nodes of a case."""

import torch
from common import require
from torch import nn
from torch.nn import functional
from torch_net import layer, pad_of, tensor

FUNCTIONS = ("flatten", "concat")  # without a module: their gradient only rearranges


class Net(nn.Module):
    """add: makes the module of a sum. join: how it is called with its inputs."""

    def __init__(self, case, add, join):
        super().__init__()
        self.nodes, self.join = case["net"]["nodes"], join
        for node in self.nodes:
            if node["layer"] not in FUNCTIONS:
                self.add_module(node["name"], layer(node, add, tensor(case["input"]["input"]).ndim - 1))
        self.double().eval()
        for node in self.nodes:  # zeros around the map would be inputs for these rules
            asymmetric = "padding" in node and pad_of(node) is None
            require(not asymmetric or node["rule"]["name"] not in ("flat", "wsquare", "zbox"), "asymmetric padding")
            require(not asymmetric or "max" not in node["layer"], "asymmetric padding")

    def forward(self, x):
        values = {"input": x}
        for node in self.nodes:
            read = [values[name] for name in node["reads"]]
            if node["layer"] == "flatten":
                values[node["name"]] = torch.movedim(read[0], 1, -1).flatten(1)
            elif node["layer"] == "concat":
                values[node["name"]] = torch.cat(read, dim=1)
            elif node["layer"] == "sum":
                values[node["name"]] = self.join(getattr(self, node["name"]), read)
            else:
                if "padding" in node and pad_of(node) is None:
                    read = [functional.pad(read[0], [p for pair in reversed(node["padding"]) for p in pair])]
                values[node["name"]] = getattr(self, node["name"])(read[0])
        return values[self.nodes[-1]["name"]]


def channels_first(nested):
    """Contiguous: PyTorch 2.14's gradient of batch normalisation mixes up channels and places of some arrays that are not."""
    return torch.movedim(tensor(nested), -1, 0)[None].contiguous()


def channels_last(R):
    return torch.movedim(R[0], 0, -1).tolist()

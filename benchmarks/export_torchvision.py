"""torchvision's networks as ONNX files, with random weights: .cache/onnx/NAME.onnx, and beside each an input and its logits.

    benchmarks/setup.sh vision                                                       the environment, once
    .cache/peers/vision/bin/python -m benchmarks.export_torchvision [NAME …]         all, or some

"NAME" is written by PyTorch's older exporter, with batch normalisation as it is; "NAME-fused" too, but merged into the
convolutions; "NAME-dynamo" by the newer one (dynamo=True), which merges it, too. Runs where PyTorch is. None of these files is
ever committed.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torchvision import models

FOLDER = Path(__file__).resolve().parent.parent / ".cache" / "onnx"

NETS: dict[str, tuple[int, dict[str, object]]] = {  # height = width of the input, and arguments
    "resnet18": (64, {}),
    "resnet50": (64, {}),
    "densenet121": (64, {}),
    "mobilenet_v2": (64, {}),
    "mobilenet_v3_small": (64, {}),
    "mobilenet_v3_large": (64, {}),
    "efficientnet_b0": (64, {}),
    "googlenet": (96, {"init_weights": False, "aux_logits": False}),
    "inception_v3": (96, {"init_weights": False, "aux_logits": False}),
    "squeezenet1_1": (96, {}),
    "shufflenet_v2_x1_0": (64, {}),
    "regnet_y_400mf": (64, {}),
    "convnext_tiny": (64, {}),
    "mnasnet1_0": (64, {}),
}
CLASSES = 10


def build(name: str) -> tuple[nn.Module, torch.Tensor]:
    """The net and an input, the same at every call. Both are in float64, and all their numbers are numbers of float32."""
    torch.manual_seed(0)
    name, _, _ = name.partition("-")
    size, arguments = NETS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = models.get_model(name, weights=None, num_classes=CLASSES, **arguments)
    x = torch.randn(2, 3, size, size)
    _settle(net, x)
    return net.eval().double(), x.double()


def _settle(net: nn.Module, x: torch.Tensor) -> None:
    """Statistics as after training, so that neither activations nor gradients vanish; affine parts at random."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.uniform_(module.bias, -0.3, 0.3)
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -0.1, 0.1)
    net.train()
    for module in net.modules():
        if isinstance(module, nn.Dropout) or type(module).__name__ == "StochasticDepth":
            module.eval()
    with torch.no_grad():
        for k in range(4):
            net(torch.randn(8, *x.shape[1:], dtype=x.dtype, generator=torch.Generator().manual_seed(k)))
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var *= torch.empty_like(module.running_var).uniform_(0.8, 1.25)
                module.running_mean += torch.empty_like(module.running_mean).uniform_(-0.1, 0.1) * module.running_var.sqrt()


def export(name: str, opset: int = 17) -> Path:
    """The file is in float32, which onnxruntime can run; the logits beside it are those of float64.

    The newer exporter's file is in float64, so that batch normalisation is merged without rounding.
    """
    net, x = build(name)
    FOLDER.mkdir(parents=True, exist_ok=True)
    file = FOLDER / f"{name}.onnx"
    with torch.no_grad():
        logits = net(x).numpy()
    if name.endswith("-dynamo"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                net, (x,), str(file), dynamo=True, external_data=False, verbose=False,
                input_names=["photo"], output_names=["logits"], dynamic_shapes=({0: torch.export.Dim("batch")},),
            )  # fmt: skip
        np.savez(FOLDER / f"{name}.npz", x=x.numpy(), logits=logits)
        return file
    mode = torch.onnx.TrainingMode.EVAL if name.endswith("-fused") else torch.onnx.TrainingMode.PRESERVE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net.float(), (x[:1].float(),), str(file), dynamo=False, opset_version=opset, training=mode,
            input_names=["photo"], output_names=["logits"], dynamic_axes={"photo": {0: "batch"}, "logits": {0: "batch"}},
        )  # fmt: skip
    with torch.no_grad():
        logits32 = net(x.float()).numpy()
    np.savez(FOLDER / f"{name}.npz", x=x.numpy(), logits=logits, logits32=logits32)
    return file


if __name__ == "__main__":
    for name in sys.argv[1:] or ["resnet18-fused", *NETS, *(f"{name}-dynamo" for name in NETS)]:
        file = export(name)
        print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB", flush=True)

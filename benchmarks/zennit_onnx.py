"""Zennit's relevance of the networks of `export_torchvision`, in float64: .cache/onnx/NAME.zennit.npz.

    .cache/peers/vision/bin/python -m benchmarks.zennit_onnx [NAME …]

Zennit hooks modules. What torchvision's nets do with functions (x + y, pooling, gates) is given its rule here, as functions
whose backward pass is that rule: sums and pools in proportion (Zennit's Norm), gates pass all relevance to the signal.
Batch normalisation is merged into the convolution before it (Zennit's canoniser); where there is none before it, as in
DenseNet, it follows Zennit's Epsilon.
"""

from __future__ import annotations

import sys
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torchvision import models, ops
from zennit import rules
from zennit.canonizers import NamedMergeBatchNorm, SequentialMergeBatchNorm
from zennit.core import Composite

from .export_torchvision import FOLDER, NETS, build

EPS, TINY = 1e-6, 1e-24
METHODS = ("epsilon", "cmp", "gamma")


class Proportional(torch.autograd.Function):
    """y = f(*x), whose relevance goes to each x in proportion to x · ∂y/∂x: R_x = x · ∂y/∂x · R / (y + ε)."""

    @staticmethod
    def forward(ctx, f, eps, *x):
        ctx.f, ctx.eps = f, eps
        ctx.save_for_backward(*x)
        return f(*x)

    @staticmethod
    def backward(ctx, R):
        with torch.enable_grad():
            x = [a.detach().requires_grad_() for a in ctx.saved_tensors]
            y = ctx.f(*x)
            eps = torch.where(y >= 0, ctx.eps, -ctx.eps)
            gradients = torch.autograd.grad(y, x, R / (y + eps).detach())
        return (None, None, *(a * g for a, g in zip(x, gradients, strict=True)))


class Gate(torch.autograd.Function):
    """y = x · gate; relevance goes to x."""

    @staticmethod
    def forward(ctx, x, gate):
        ctx.shape = gate.shape
        return x * gate

    @staticmethod
    def backward(ctx, R):
        return R, R.new_zeros(ctx.shape)


class Passing(torch.autograd.Function):
    """y = f(x), number by number; relevance passes."""

    @staticmethod
    def forward(ctx, f, x):
        return f(x)

    @staticmethod
    def backward(ctx, R):
        return None, R


ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.SiLU, nn.Sigmoid)


def relevance(name: str, method: str) -> np.ndarray:
    """R of the first input for the class of the greatest logit, (channel, height, width)."""
    net, x = build(name)
    eps_sum = {"epsilon": EPS, "cmp": EPS, "gamma": TINY}[method]
    _replace_functions(net, eps_sum)
    first = next(m for m in net.modules() if isinstance(m, nn.Conv2d))

    def rule(ctx, where, module):
        if isinstance(module, ACTIVATIONS):
            return rules.Pass()
        if isinstance(module, (nn.AdaptiveAvgPool2d, nn.AvgPool2d)):
            return rules.Norm(stabilizer=eps_sum)
        if isinstance(module, nn.BatchNorm2d):
            return None if module.eps == 0 else rules.Epsilon(eps_sum)  # Zennit's canoniser leaves eps = 0
        if not isinstance(module, (nn.Conv2d, nn.Linear)):
            return None
        if method == "gamma":
            return rules.Gamma(0.25, stabilizer=TINY)
        if method == "epsilon":
            return rules.Epsilon(EPS)
        if module is first:
            return rules.Flat(stabilizer=TINY)
        return rules.Epsilon(EPS) if _is_dense(module) else rules.AlphaBeta(2, 1, stabilizer=TINY)

    _find_dense(net, x)
    with _functions(eps_sum), Composite(module_map=rule, canonizers=[_canonizer(net)]).context(net) as modified:
        given = x[:1].clone().requires_grad_()
        y = modified(given)
        start = torch.zeros_like(y)
        start[0, y.argmax()] = y.max().detach()
        [R] = torch.autograd.grad(y, given, start)
    return R[0].numpy()


def _canonizer(net):
    """Merges batch normalisation into what it reads. In DenseNet the module before it is not always that."""
    if not isinstance(net, models.DenseNet):
        return SequentialMergeBatchNorm()
    pairs = [("features.conv0", "features.norm0")]
    pairs += [(name[:-1].replace("norm", "conv") + "1", name) for name, _ in net.named_modules() if name.endswith("norm2")]
    return NamedMergeBatchNorm([((linear,), norm) for linear, norm in pairs])


def _find_dense(net, x):
    """Marks the layers that see a whole map of several places, which are dense for the paper's composite."""

    def hook(module, inputs, output):
        size = tuple(inputs[0].shape[2:])
        covers = output.shape[2:] == (1, 1) and tuple(getattr(module, "kernel_size", ())) == size != (1, 1)
        module.sees_all = isinstance(module, nn.Linear) or covers

    handles = [m.register_forward_hook(hook) for m in net.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    with torch.no_grad():
        net(x[:1])
    for handle in handles:
        handle.remove()


def _is_dense(module):
    return module.sees_all


def _sum(eps):
    return lambda x, y: Proportional.apply(torch.add, eps, x, y)


def _replace_functions(net, eps):
    add = _sum(eps)

    def forward(module):
        kind = type(module).__name__
        if kind == "BasicBlock":

            def run(x):
                out = module.bn2(module.conv2(module.relu(module.bn1(module.conv1(x)))))
                return Passing.apply(F.relu, add(out, x if module.downsample is None else module.downsample(x)))
        elif kind == "Bottleneck":

            def run(x):
                out = module.relu(module.bn1(module.conv1(x)))
                out = module.bn3(module.conv3(Passing.apply(F.relu, module.bn2(module.conv2(out)))))
                return Passing.apply(F.relu, add(out, x if module.downsample is None else module.downsample(x)))
        elif kind == "InvertedResidual" and hasattr(module, "conv"):  # mobilenet_v2

            def run(x):
                return add(x, module.conv(x)) if module.use_res_connect else module.conv(x)
        elif kind == "InvertedResidual" and hasattr(module, "block"):  # mobilenet_v3

            def run(x):
                return add(module.block(x), x) if module.use_res_connect else module.block(x)
        elif kind == "_InvertedResidual":  # mnasnet

            def run(x):
                return add(module.layers(x), x) if module.apply_residual else module.layers(x)
        elif kind == "MobileNetV2":

            def run(x):
                pooled = Proportional.apply(lambda a: F.adaptive_avg_pool2d(a, (1, 1)), eps, module.features(x))
                return module.classifier(torch.flatten(pooled, 1))
        elif kind == "MBConv":

            def run(x):
                return add(module.block(x), x) if module.use_res_connect else module.block(x)
        elif kind == "ResBottleneckBlock":  # regnet

            def run(x):
                return Passing.apply(F.relu, add(module.proj(x) if module.proj is not None else x, module.f(x)))
        elif isinstance(module, ops.SqueezeExcitation):

            def run(x):
                return Gate.apply(x, module._scale(x).detach())
        else:
            return None
        return run

    for module in net.modules():
        if (run := forward(module)) is not None:
            module.forward = run


def _functions(eps):
    """Functions of pooling that DenseNet, Inception and ShuffleNet call, in proportion."""
    average, adaptive, mean = F.avg_pool2d, F.adaptive_avg_pool2d, torch.Tensor.mean

    def proportional(f):
        def run(x, *arguments, **named):
            if not x.requires_grad or isinstance(x, nn.Parameter) or x.ndim != 4:
                return f(x, *arguments, **named)
            return Proportional.apply(lambda a: f(a, *arguments, **named), eps, x)

        return run

    pages = [sys.modules[f"torchvision.models.{name}"] for name in ("densenet", "googlenet", "inception")]

    class Functions:
        def __enter__(self):
            self.patches = [mock.patch.object(torch.Tensor, "mean", proportional(mean))]
            for page in pages:
                named = mock.MagicMock(wraps=F)
                named.avg_pool2d, named.adaptive_avg_pool2d = proportional(average), proportional(adaptive)
                self.patches.append(mock.patch.object(page, "F", named))
            for patch in self.patches:
                patch.start()

        def __exit__(self, *_):
            for patch in self.patches:
                patch.stop()

    return Functions()


UNABLE = {"convnext_tiny": "no rule for LayerNorm"}


if __name__ == "__main__":
    for name in sys.argv[1:] or ["resnet18-fused", *NETS]:
        if name in UNABLE:
            print(f"{name}: {UNABLE[name]}", flush=True)
            continue
        found = {method: relevance(name, method) for method in METHODS}
        np.savez(FOLDER / f"{name}.zennit.npz", **found)
        print(name, *(f"{method} {R.sum():.4g}" for method, R in found.items()), flush=True)

"""The methods that the paper compares, under one protocol: R = method(net, x, target)."""

from .backward import LRP, ContrastiveLRP, DeconvNet, Gradient, GradientInput, GuidedBackprop, excitation_backprop
from .base import Method
from .cam import CAM, GradCAM
from .names import METHODS, canonical, parse_composite, parse_method
from .patterns import Fit, PatternAttribution, PatternNet, Patterns
from .perturbing import IntegratedGradients, Occlusion, SmoothGrad
from .reference import Uniform

__all__ = [
    "CAM",
    "LRP",
    "METHODS",
    "ContrastiveLRP",
    "DeconvNet",
    "Fit",
    "GradCAM",
    "Gradient",
    "GradientInput",
    "GuidedBackprop",
    "IntegratedGradients",
    "Method",
    "Occlusion",
    "PatternAttribution",
    "PatternNet",
    "Patterns",
    "SmoothGrad",
    "Uniform",
    "canonical",
    "excitation_backprop",
    "parse_composite",
    "parse_method",
]

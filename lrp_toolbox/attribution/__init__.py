"""The methods that the paper compares, under one protocol: R = method(net, x, target)."""

from .backward import LRP, ContrastiveLRP, DeconvNet, Gradient, GradientInput, GuidedBackprop, excitation_backprop
from .base import Method
from .names import METHODS, parse_composite, parse_method
from .reference import Uniform

__all__ = [
    "LRP",
    "METHODS",
    "ContrastiveLRP",
    "DeconvNet",
    "Gradient",
    "GradientInput",
    "GuidedBackprop",
    "Method",
    "Uniform",
    "excitation_backprop",
    "parse_composite",
    "parse_method",
]

"""The methods that the paper compares, under one protocol: R = method(net, x, target)."""

from .backward import LRP, ContrastiveLRP, DeconvNet, Gradient, GradientInput, GuidedBackprop, excitation_backprop
from .base import Method
from .cam import CAM, GradCAM
from .fitting import fit_to_images
from .names import METHODS, canonical, parse_composite, parse_method
from .patterns import Fit, MissingPatternsError, PatternAttribution, PatternNet, Patterns
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
    "MissingPatternsError",
    "Occlusion",
    "PatternAttribution",
    "PatternNet",
    "Patterns",
    "SmoothGrad",
    "Uniform",
    "canonical",
    "excitation_backprop",
    "fit_to_images",
    "parse_composite",
    "parse_method",
]

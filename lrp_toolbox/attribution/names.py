"""Methods by name: NAME, or NAME:parameter=value,…, as they are typed. `lrp_toolbox.presets` reads the text."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..composites import Composite
from ..io import Model
from ..presets import COMPOSITES, RULE_NAMES, Spec, parse_composite, read_spec, typed_parameters
from .backward import LRP, ContrastiveLRP, DeconvNet, Gradient, GradientInput, GuidedBackprop, excitation_backprop
from .base import Method
from .cam import CAM, GradCAM
from .patterns import PatternAttribution, PatternNet, require_patterns
from .perturbing import IntegratedGradients, Occlusion, SmoothGrad
from .reference import Uniform

__all__ = ["METHODS", "RULE_NAMES", "canonical", "parameters", "parse_composite", "parse_method"]


def _lrp(make: Callable[..., Composite]) -> Callable[..., LRP]:
    """What makes LRP of a composite, from the parameters of the composite."""

    @functools.wraps(make)
    def method(**parameters: Any) -> LRP:
        return LRP(make(**parameters))

    return method


METHODS: Mapping[str, Callable[..., Method]] = {
    **{name: _lrp(make) for name, make in COMPOSITES.items()},
    "excitation_backprop": excitation_backprop,
    "gradient": Gradient,
    "gradient_input": GradientInput,
    "guided_backprop": GuidedBackprop,
    "deconvnet": DeconvNet,
    "smoothgrad": SmoothGrad,
    "integrated_gradients": IntegratedGradients,
    "contrastive_lrp": ContrastiveLRP,
    "patternnet": PatternNet,
    "pattern_attribution": PatternAttribution,
    "gradcam": GradCAM,
    "cam": CAM,
    "occlusion": Occlusion,
    "uniform": Uniform,
}
"""What makes each method, from its parameters."""


def parameters(name: str) -> Mapping[str, inspect.Parameter]:
    """The parameters of the method of that name that can be typed, with their defaults."""
    return typed_parameters(METHODS[name])


def parse_method(spec: str, model: Model) -> Method:
    """The method that `spec` stands for: "cmp:alpha=2,flat=1", "epsilon:eps=0.1", "smoothgrad:samples=50".

    The name is LRP_CMP ("cmp"), a rule for that rule in every layer, a preset, or another method. What a method needs to
    know of the model (the box of zᴮ, patterns) comes from `model`. Raises ValueError for names and values that do not exist.
    """
    read = _read(spec, model)
    given = dict(read.parameters)
    if "patterns" in typed_parameters(read.make):
        folder = given.get("patterns") or getattr(model, "folder", None)  # a net alone has none
        if folder is None:
            name = getattr(model, "name", type(model).__name__)
            raise ValueError(f"method {spec!r}: {name} was not read from a folder; give {read.name}:patterns=FOLDER")
        given["patterns"] = require_patterns(folder)
    return METHODS[read.name](**given)


def canonical(spec: str, model: Model) -> str:
    """The one text for all specs that stand for the same method: "cmp" for "cmp:flat=1,alpha=2.0".

    Parameters stand in the order of the method's signature; those with their usual value are left out. Specs with equal
    canonical forms give equal methods. Raises ValueError for names and parameters that do not exist.
    """
    return _read(spec, model).canonical


def _read(spec: str, model: Model) -> Spec:
    def folder(text: str, _: Any) -> tuple[Path | None, str]:
        """None for the model's own folder, which is the usual one."""
        path = Path(text)
        own = model.folder is not None and path.resolve() == model.folder.resolve()
        return (None, "") if own else (path, text)

    return read_spec(spec, METHODS, model, what="method", readers={"patterns": folder})

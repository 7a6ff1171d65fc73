"""Methods by name: NAME, or NAME:parameter=value,…, as they are typed. Strings stop here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from ..composites import Composite, lrp_cmp, uniform
from ..io import Model
from ..rules import RULES, Rule, ZBox
from .backward import LRP, ContrastiveLRP, DeconvNet, Gradient, GradientInput, GuidedBackprop, excitation_backprop
from .base import Method
from .cam import CAM, GradCAM
from .patterns import PatternAttribution, PatternNet, require_patterns
from .perturbing import IntegratedGradients, Occlusion, SmoothGrad
from .reference import Uniform

RULE_NAMES: dict[str, type[Rule]] = {rule.__name__.lower(): rule for rule in RULES}


def _cmp(**parameters: Any) -> LRP:
    """LRP_CMP, the best practice of Sec. II-B: ε in dense layers, αβ in convolutions, ♭ in the first `flat` of these."""
    return LRP(lrp_cmp(**parameters))


def _everywhere(rule: type[Rule], **parameters: Any) -> LRP:
    return LRP(uniform(rule(**parameters)))


METHODS: Mapping[str, Callable[..., Method]] = {
    "cmp": _cmp,
    **{name: partial(_everywhere, rule) for name, rule in RULE_NAMES.items()},
    "gradient": Gradient,
    "gradient_input": GradientInput,
    "guided_backprop": GuidedBackprop,
    "deconvnet": DeconvNet,
    "smoothgrad": SmoothGrad,
    "integrated_gradients": IntegratedGradients,
    "excitation_backprop": excitation_backprop,
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
    made_by = lrp_cmp if name == "cmp" else RULE_NAMES.get(name, METHODS[name])
    found = inspect.signature(made_by).parameters
    return {} if made_by is ZBox else found


def parse_method(spec: str, model: Model) -> Method:
    """The method that `spec` stands for: "cmp:alpha=2,flat=1", "epsilon:eps=0.1", "smoothgrad:samples=50".

    LRP_CMP, or a rule by its name for that rule in every layer; and the other methods. What a method needs to know of the
    model (the box of zᴮ, patterns) comes from `model`. Raises ValueError for names and values that do not exist.
    """
    name, _, rest = spec.partition(":")
    if name not in METHODS:
        raise ValueError(f"method {spec!r}: there is no {name!r}; there are {', '.join(METHODS)}")
    known, given = parameters(name), dict[str, Any]()
    for item in filter(None, rest.split(",")):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not value:
            raise ValueError(f"method {spec!r}: expected name=value, got {item!r}")
        if key not in known:
            raise ValueError(f"method {spec!r}: no parameter {key!r}; there are {', '.join(known) or 'none'}")
        given[key] = _value(key, value, model)
    if RULE_NAMES.get(name) is ZBox:
        given = dict(zip(("low", "high"), model.bounds, strict=True))
    if "patterns" in known:
        folder = given.get("patterns", model.folder)
        if folder is None:
            raise ValueError(f"method {spec!r}: {model.name} was not read from a folder; give {name}:patterns=FOLDER")
        given["patterns"] = require_patterns(folder)
    return METHODS[name](**given)


def parse_composite(spec: str, model: Model) -> Composite:
    """The composite that `spec` stands for. Raises ValueError if that is no LRP."""
    method = parse_method(spec, model)
    if not isinstance(method, LRP):
        raise ValueError(f"composite {spec!r}: expected LRP, cmp or a rule, got {method.name}")
    return method.composite


def _value(key: str, text: str, model: Model) -> Any:
    """A rule or composite where one is asked for, a number where it reads as one, yes and no, or the text itself."""
    if key == "first":
        entries = parse_composite(text, model).entries
        if len(entries) > 1:
            raise ValueError(f"first: expected a rule, got {text!r}")
        return entries[0][1]
    if key == "of":
        return parse_composite(text, model)
    if key == "patterns":
        return Path(text)
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"yes": True, "true": True, "no": False, "false": False}.get(text.lower(), text)

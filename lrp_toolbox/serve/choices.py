"""What the page offers for a model, as JSON; and what the page asks, read from JSON and checked."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from dataclasses import fields as fields_of
from typing import Any

from ..attribution import LRP
from ..attribution.names import METHODS, RULE_NAMES, parameters, parse_method
from ..composites import POOLING, Composite, First, LayerInfo, RuleTable, Where, is_dense, layers
from ..io import Model
from ..modules import BatchNorm, Conv, ConvTranspose, Scale, Sum
from ..render import COLOUR_MAPS, ColourMap
from ..rules import Flat, Rule, ZBox

JSON = dict[str, Any]


@dataclass(frozen=True)
class Parameter:
    """A number that a slider sets, from `minimum` to `maximum`: in equal steps or, with `log`, in equal factors.

    With `log`, 0 is allowed, too.
    """

    name: str
    symbol: str
    minimum: float
    maximum: float
    log: bool = False

    def read(self, value: Any, where: str) -> float:
        minimum = 0 if self.log else self.minimum
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not minimum <= value <= self.maximum:
            raise ValueError(f"{where}: expected a number from {minimum:g} to {self.maximum:g}, got {value!r}")
        return int(value) if value == int(value) else value


PARAMETERS = {
    parameter.name: parameter
    for parameter in (
        Parameter("alpha", "α", 0, 5),
        Parameter("eps", "ε", 1e-9, 100, log=True),
        Parameter("gamma", "γ", 0.01, 100, log=True),
    )
}


@dataclass(frozen=True)
class Group:
    """Layers that share a rule. A layer belongs to the first of `GROUPS` that it fits.

    `code`: the condition in Python, given that no earlier group fits.
    """

    name: str
    title: str
    code: str
    fits: Callable[[LayerInfo], bool]


GROUPS = (
    Group("dense", "Dense layers", "lrp.is_dense", is_dense),
    Group(
        "conv", "Convolutions", "(lrp.Conv, lrp.ConvTranspose)", lambda layer: isinstance(layer.module, (Conv, ConvTranspose))
    ),
    Group("pooling", "Pooling", "(lrp.MaxPool, lrp.AvgPool, lrp.SumPool)", lambda layer: isinstance(layer.module, POOLING)),
    Group("sum", "Sums and scales", "lrp.Module", lambda layer: isinstance(layer.module, (Sum, Scale, BatchNorm))),
)


def group_of(layer: LayerInfo) -> Group | None:
    return next((group for group in GROUPS if group.fits(layer)), None)


PAPER = {  # columns of Fig. 1 and rows of Table I, as `lrp explain --method` reads them
    "z": "z",
    "αβ:α1": "alphabeta:alpha=1",
    "CMP:α1": "cmp:alpha=1,flat=0",
    "CMP:α1+♭(3)": "cmp:alpha=1,flat=3",
    "CMP:α2+♭": "cmp:alpha=2,flat=1",
    "all ♭": "cmp:flat=all",
}
USUAL = "CMP:α2+♭"  # the page starts with it: the best of Table I


def composite_of(spec: str, model: Model) -> Composite:
    """The composite of `lrp explain --method` `spec`. Raises ValueError if that is no LRP that starts from the logit."""
    method = parse_method(spec, model)
    if not isinstance(method, LRP) or method.start != "logit":
        raise ValueError(f"method {spec!r}: expected LRP that starts from the logit, got {method.name}")
    return method.composite


@dataclass(frozen=True)
class Question:
    """What the page asks about its photograph.

    `groups` and `layers`: rules by the name of the group or the layer; `flat`: how many convolutions follow ♭.
    `photo`: the file, as the user would type it; None for the photograph that comes with the model.
    """

    target: int
    groups: Mapping[str, Rule]
    flat: int
    layers: Mapping[str, Rule]
    colours: ColourMap
    photo: str | None

    @property
    def composite(self) -> Composite:
        entries: list[tuple[Where, Rule]] = [(glob.escape(name), rule) for name, rule in self.layers.items()]
        if self.flat:
            entries.append((First(self.flat, dense=False), Flat()))
        entries += [(group.fits, self.groups[group.name]) for group in GROUPS if group.name in self.groups]
        return Composite(entries, name="page")


class Choices:
    """What the user can choose for `model`, which `in_steps` returned."""

    def __init__(self, model: Model):
        self.model = model
        self.layers = layers(model.net, model.preprocessing.shape)
        self.groups = [group for group in GROUPS if any(group_of(layer) is group for layer in self.layers)]
        convolutions = [
            layer for layer in self.layers if isinstance(layer.module, (Conv, ConvTranspose)) and not is_dense(layer)
        ]
        self.depth = max((layer.depth for layer in convolutions), default=0)
        self.rules = {layer.name: self._rules_of(layer) for layer in self.layers}
        self.rules_of_group = {group.name: self._rules_of_group(group) for group in self.groups}
        self.presets = self._presets()

    def _rules_of(self, layer: LayerInfo) -> dict[str, Rule]:
        """The rules that a layer can choose from, by name, and what each becomes in this layer.

        zᴮ needs the bounds of the pixels, so it is only for layers that touch them.
        """
        if group_of(layer) is None:
            return {}
        made = {name: self._make(name, {}) for name in RULE_NAMES if name != "zbox" or layer.depth == 1}
        taken = {name: layer.module.effective_rule(rule) for name, rule in made.items()}
        return {name: taken[name] for name, rule in made.items() if name == "z" or taken[name] == rule}

    def _rules_of_group(self, group: Group) -> dict[str, list[Rule]]:
        """The rules, except zᴮ, that some layer of the group can choose, and what each becomes in these layers."""
        members = [self.rules[layer.name] for layer in self.layers if group_of(layer) is group]
        taken = {name: [rules[name] for rules in members if name in rules] for name in RULE_NAMES if name != "zbox"}
        return {name: list(dict.fromkeys(rules)) for name, rules in taken.items() if rules}

    def _make(self, name: str, given: Mapping[str, Any]) -> Rule:
        rule = RULE_NAMES[name]
        return ZBox(*self.model.bounds) if rule is ZBox else rule(**given)

    def resolve(self, composite: Composite) -> RuleTable:
        """The rule of each layer."""
        return composite.resolve(self.model.net, self.model.preprocessing.shape)

    # ---- presets

    def _presets(self) -> dict[str, JSON]:
        """By name: the groups, ♭ depth and layers of each preset that this net allows."""
        found = {}
        others = [name for name in METHODS if name not in RULE_NAMES and name != "cmp" and "patterns" not in parameters(name)]
        for name, spec in {**PAPER, **{name: name for name in others}}.items():
            try:
                table = self.resolve(composite_of(spec, self.model))
            except ValueError:  # the net has too few convolutions for it, or it is another method
                continue
            found[name] = self._as_choices(table)
        return found

    def _as_choices(self, table: RuleTable) -> JSON:
        """The groups, ♭ depth and layers that mean the same as `table`."""
        rules = dict(zip((layer.name for layer in table.layers), table.rules, strict=True))
        specs = {layer.name: self._spec(layer, rules[layer.name]) for layer in self.layers if group_of(layer) is not None}
        members = {group.name: [p for p in self.layers if group_of(p) is group] for group in self.groups}
        flat = 0
        convolutions = members.get("conv", [])
        while flat < self.depth and all(specs[p.name]["rule"] == "flat" for p in convolutions if p.depth <= flat + 1):
            flat += 1
        if flat == self.depth:  # ♭ is the rule of the group
            flat = 0
        groups: dict[str, JSON] = {}
        single: dict[str, JSON] = {}
        for name, found in members.items():
            found = [layer for layer in found if name != "conv" or layer.depth > flat]
            several = [tuple(specs[layer.name].items()) for layer in found if specs[layer.name]["rule"] != "zbox"]
            groups[name] = dict(Counter(several).most_common(1)[0][0]) if several else {"rule": "z"}  # zᴮ is for one layer
            single |= {layer.name: specs[layer.name] for layer in found if specs[layer.name] != groups[name]}
        return {"groups": groups, "flat": flat, "layers": single}

    def _spec(self, layer: LayerInfo, rule: Rule) -> JSON:
        """A layer's rule as JSON: {"rule": name} and its parameters."""
        names = {kind: name for name, kind in RULE_NAMES.items()}
        name = names.get(type(rule)) or next(name for name, made in self.rules[layer.name].items() if made == rule)
        usual = self._usual(name)
        own = {f.name: (getattr(rule, f.name), f.default) for f in fields_of(rule)}  # type: ignore[arg-type]
        options = {key: value for key, (value, default) in own.items() if key in OPTIONS and value != default}
        return {"rule": name, **{key: getattr(rule, key) for key in usual if key != "rule"}, **options}

    # ---- for the page

    def as_json(self) -> JSON:
        """All choices, and what the page says about the model."""
        p = self.model.preprocessing
        return {
            "model": self.model.name,
            "summary": self.model.summary,
            "classes": list(self.model.classes),
            "input": list(p.shape),
            "example": None if self.model.example is None else self.model.example.name,
            "depth": self.depth,
            "layers": [self._layer(layer) for layer in self.layers[::-1]],
            "groups": [self._group(group) for group in self.groups],
            "rules": {name: self._usual(name) for name in RULE_NAMES},
            "parameters": {name: vars(parameter) for name, parameter in PARAMETERS.items()},
            "presets": [{"name": name, **preset} for name, preset in self.presets.items()],
            "usual": USUAL,
            "colours": {name: m.stops for name, m in COLOUR_MAPS.items()},
        }

    def _layer(self, layer: LayerInfo) -> JSON:
        group = group_of(layer)
        return {
            "name": layer.name,
            "type": type(layer.module).__name__,
            "output": list(layer.output_shape),
            "group": None if group is None else group.name,
            "rules": {name: rule.symbol for name, rule in self.rules[layer.name].items()},
        }

    def _group(self, group: Group) -> JSON:
        rules = self.rules_of_group[group.name]
        symbols = {name: " / ".join(rule.symbol for rule in taken) for name, taken in rules.items()}
        formulas = {name: [f"{rule.symbol}: {rule.formula}" for rule in taken] for name, taken in rules.items()}
        return {"name": group.name, "title": group.title, "rules": symbols, "formulas": formulas}

    def _usual(self, name: str) -> JSON:
        """The rule of that name with its default parameters."""
        rule = self._make(name, {})
        own = {field.name: getattr(rule, field.name) for field in fields_of(rule)}  # type: ignore[arg-type]
        return {"rule": name, **{key: own[key] for key in PARAMETERS if key in own}}

    # ---- from the page

    def read(self, asked: Any) -> Question:
        """The question that was asked. Raises ValueError; the message begins with the name of the wrong field."""
        _require(asked, "question", ("target", "groups", "flat", "layers", "colours", "photo"))
        target = _index(asked["target"], "target", len(self.model.classes) - 1)
        flat = _index(asked["flat"], "flat", self.depth)
        colours, photo, single = asked["colours"], asked["photo"], asked["layers"]
        if not isinstance(colours, str) or colours not in COLOUR_MAPS:
            raise ValueError(f"colours: expected one of {', '.join(COLOUR_MAPS)}, got {colours!r}")
        if photo is not None and not (isinstance(photo, str) and 0 < len(photo) <= 255 and photo.isprintable()):
            raise ValueError(f"photo: expected the name of a file, or null, got {photo!r}")
        if not isinstance(single, dict):
            raise ValueError(f"layers: expected an object, got {single!r}")
        by_layer: dict[str, Rule] = {}
        for name, spec in single.items():
            if not self.rules.get(name):
                raise ValueError(f"layers: no layer {name!r} that has a choice of rules")
            by_layer[name] = self._read_rule(spec, f"layers.{name}", self.rules[name])
        _require(asked["groups"], "groups", [group.name for group in self.groups])
        by_group = {
            name: self._read_rule(spec, f"groups.{name}", self.rules_of_group[name]) for name, spec in asked["groups"].items()
        }
        return Question(target, by_group, flat, by_layer, COLOUR_MAPS[colours], photo)

    def _read_rule(self, spec: Any, where: str, allowed: Iterable[str]) -> Rule:
        if not isinstance(spec, dict) or not isinstance(spec.get("rule"), str) or spec["rule"] not in allowed:
            got = spec.get("rule") if isinstance(spec, dict) else spec
            raise ValueError(f"{where}.rule: expected one of {', '.join(allowed)}, got {got!r}")
        name = spec["rule"]
        known = {field.name for field in fields_of(RULE_NAMES[name])}  # type: ignore[arg-type]
        given: dict[str, Any] = {}
        for key, value in spec.items():
            if key == "rule":
                continue
            if key not in known or key not in {*PARAMETERS, *OPTIONS}:
                raise ValueError(f"{where}.{key}: {name} has no such parameter")
            if key in OPTIONS and (type(value), value) not in [(type(option), option) for option in OPTIONS[key]]:
                raise ValueError(f"{where}.{key}: expected one of {', '.join(map(repr, OPTIONS[key]))}, got {value!r}")
            given[key] = PARAMETERS[key].read(value, f"{where}.{key}") if key in PARAMETERS else value
        return self._make(name, given)


OPTIONS: Mapping[str, tuple[Any, ...]] = {"bias": ("absorb", "ignore", "distribute"), "renormalize": (False, True)}
"""Parameters of rules that have no slider; presets set them."""


def _require(value: Any, where: str, keys: Any) -> None:
    """Raise ValueError unless `value` is an object with exactly these keys."""
    if not isinstance(value, dict) or set(value) != set(keys):
        got = f"one with {', '.join(map(repr, value)) or 'nothing'}" if isinstance(value, dict) else repr(value)
        raise ValueError(f"{where}: expected an object with {', '.join(keys)}, got {got}")


def _index(value: Any, where: str, maximum: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= maximum:
        raise ValueError(f"{where}: expected a whole number from 0 to {maximum}, got {value!r}")
    return value

"""What can be chosen on the page, as JSON for it; and what the page asks, from JSON: strings stop here."""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from dataclasses import fields as fields_of
from typing import Any

from ..attribution.names import RULE_NAMES
from ..composites import POOLING, Composite, First, LayerInfo, Where, is_dense, layers
from ..io import Model
from ..modules import BatchNorm, Conv, Scale
from ..modules.container import Sum
from ..render import COLOUR_MAPS, ColourMap
from ..rules import AlphaBeta, Epsilon, Flat, Rule, Z, ZBox

JSON = dict[str, Any]


@dataclass(frozen=True)
class Parameter:
    """A number that a slider moves from `least` to `most`: in equal steps or, if `log`, in equal factors; then 0 will do."""

    name: str
    symbol: str
    least: float
    most: float
    log: bool = False

    def read(self, value: Any, where: str) -> float:
        least = 0 if self.log else self.least
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= self.most:
            raise ValueError(f"{where}: expected a number from {least:g} to {self.most:g}, got {value!r}")
        return float(value)


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
    """Layers for which one rule is chosen. A layer belongs to the first of `GROUPS` that it fits."""

    name: str
    title: str
    fits: Callable[[LayerInfo], bool]


GROUPS = (
    Group("dense", "Dense layers", is_dense),
    Group("conv", "Convolutions", lambda place: isinstance(place.module, Conv)),
    Group("pooling", "Pooling", lambda place: isinstance(place.module, POOLING)),
    Group("sum", "Sums and scales", lambda place: isinstance(place.module, (Sum, Scale, BatchNorm))),
)


def group_of(place: LayerInfo) -> Group | None:
    return next((group for group in GROUPS if group.fits(place)), None)


@dataclass(frozen=True)
class Preset:
    """A rule for each group, and how many convolutions follow ♭: columns of the paper's Fig. 1 and rows of its Table I."""

    name: str
    rules: Mapping[str, Rule]
    flat: int = 0


def _cmp(conv: Rule, pooling: Rule = Z()) -> Mapping[str, Rule]:  # noqa: B008, rules are frozen
    return {"dense": Epsilon(), "conv": conv, "pooling": pooling, "sum": Epsilon()}


PRESETS = (
    Preset("z", dict.fromkeys(_cmp(Z()), Z())),
    Preset("αβ:α1", {**_cmp(AlphaBeta(1)), "dense": AlphaBeta(1), "sum": Z()}),
    Preset("CMP:α1", _cmp(AlphaBeta(1))),
    Preset("CMP:α1+♭(3)", _cmp(AlphaBeta(1)), flat=3),
    Preset("CMP:α2+♭", _cmp(AlphaBeta(2)), flat=1),
    Preset("all ♭", _cmp(Flat(), Flat())),
)
USUAL = 4  # which of them the page begins with: the best of Table I


@dataclass(frozen=True)
class Question:
    """What the page asks about the photograph at hand."""

    target: int
    composite: Composite
    colours: ColourMap


class Choices:
    """What there is to choose for a `settled` model."""

    def __init__(self, model: Model):
        self.model = model
        self.places = layers(model.net, model.preprocessing.shape)
        self.groups = [group for group in GROUPS if any(group_of(place) is group for place in self.places)]
        flattened = [place for place in self.places if isinstance(place.module, Conv) and not is_dense(place)]
        self.depth = max((place.depth for place in flattened), default=0)
        self.rules = {place.name: self._rules_of(place) for place in self.places}
        self.rules_of_group = {group.name: self._rules_of_group(group) for group in self.groups}

    def _rules_of(self, place: LayerInfo) -> dict[str, Rule]:
        """The rules among which a layer has a choice, by name, and what it makes of them.

        zᴮ knows the box of the pixels, and is for layers that touch them.
        """
        if group_of(place) is None:
            return {}
        made = {name: self._make(name, {}) for name in RULE_NAMES if name != "zbox" or place.depth == 1}
        taken = {name: place.module.effective_rule(rule) for name, rule in made.items()}
        return {name: taken[name] for name, rule in made.items() if name == "z" or taken[name] == rule}

    def _rules_of_group(self, group: Group) -> dict[str, list[Rule]]:
        """The rules that some layer of the group has, but for zᴮ, and what its layers make of them."""
        members = [self.rules[place.name] for place in self.places if group_of(place) is group]
        taken = {name: [rules[name] for rules in members if name in rules] for name in RULE_NAMES if name != "zbox"}
        return {name: list(dict.fromkeys(rules)) for name, rules in taken.items() if rules}

    def _make(self, name: str, given: Mapping[str, float]) -> Rule:
        rule = RULE_NAMES[name]
        return ZBox(*self.model.bounds) if rule is ZBox else rule(**given)

    # ---- for the page

    def as_json(self) -> JSON:
        """All of it, and the model."""
        p = self.model.preprocessing
        presets = [preset for preset in PRESETS if preset.flat <= self.depth]
        return {
            "model": self.model.name,
            "summary": self.model.summary,
            "classes": list(self.model.classes),
            "input": list(p.shape),
            "example": self.model.example is not None,
            "depth": self.depth,
            "layers": [self._layer(place) for place in self.places[::-1]],
            "groups": [self._group(group) for group in self.groups],
            "rules": {name: self._usual(name) for name in RULE_NAMES},
            "parameters": {name: vars(parameter) for name, parameter in PARAMETERS.items()},
            "presets": [self._preset(preset) for preset in presets],
            "usual": PRESETS[USUAL].name,
            "colours": {name: m.stops for name, m in COLOUR_MAPS.items()},
        }

    def _layer(self, place: LayerInfo) -> JSON:
        group = group_of(place)
        return {
            "name": place.name,
            "type": type(place.module).__name__,
            "output": list(place.output_shape),
            "group": None if group is None else group.name,
            "rules": {name: rule.symbol for name, rule in self.rules[place.name].items()},
        }

    def _group(self, group: Group) -> JSON:
        rules = self.rules_of_group[group.name]
        symbols = {name: " / ".join(rule.symbol for rule in taken) for name, taken in rules.items()}
        formulas = {name: [f"{rule.symbol}: {rule.formula}" for rule in taken] for name, taken in rules.items()}
        return {"name": group.name, "title": group.title, "rules": symbols, "formulas": formulas}

    def _usual(self, name: str) -> JSON:
        """The rule of that name as it is chosen at first."""
        rule = self._make(name, {})
        own = {field.name: getattr(rule, field.name) for field in fields_of(rule)}  # type: ignore[arg-type]
        return {"rule": name, **{key: own[key] for key in PARAMETERS if key in own}}

    def _preset(self, preset: Preset) -> JSON:
        names = {rule: name for name, rule in RULE_NAMES.items()}
        rules = {}
        for group in self.groups:
            rule = preset.rules[group.name]
            name = names[type(rule)]
            rules[group.name] = {key: getattr(rule, key, name) for key in self._usual(name)}
        return {"name": preset.name, "groups": rules, "flat": preset.flat}

    # ---- from the page

    def read(self, asked: Any) -> Question:
        """The question that was asked. Raises ValueError, which begins with the name of what is wrong."""
        _require(asked, "question", ("target", "groups", "flat", "layers", "colours"))
        target = _index(asked["target"], "target", len(self.model.classes) - 1)
        flat = _index(asked["flat"], "flat", self.depth)
        colours = asked["colours"]
        if not isinstance(colours, str) or colours not in COLOUR_MAPS:
            raise ValueError(f"colours: expected one of {', '.join(COLOUR_MAPS)}, got {colours!r}")

        layers = asked["layers"]
        if not isinstance(layers, dict):
            raise ValueError(f"layers: expected an object, got {layers!r}")
        entries: list[tuple[Where, Rule]] = []
        for name, spec in layers.items():
            if not self.rules.get(name):
                raise ValueError(f"layers: no layer {name!r} that has a choice of rules")
            entries.append((glob.escape(name), self._read_rule(spec, f"layers.{name}", self.rules[name])))
        if flat:
            entries.append((First(flat, dense=False), Flat()))
        _require(asked["groups"], "groups", [group.name for group in self.groups])
        for group in self.groups:
            where = f"groups.{group.name}"
            entries.append((group.fits, self._read_rule(asked["groups"][group.name], where, self.rules_of_group[group.name])))
        return Question(target, Composite(entries, name="page"), COLOUR_MAPS[colours])

    def _read_rule(self, spec: Any, where: str, allowed: Iterable[str]) -> Rule:
        if not isinstance(spec, dict) or not isinstance(spec.get("rule"), str) or spec["rule"] not in allowed:
            got = spec.get("rule") if isinstance(spec, dict) else spec
            raise ValueError(f"{where}.rule: expected one of {', '.join(allowed)}, got {got!r}")
        name = spec["rule"]
        usual = self._usual(name)
        for key in spec:
            if key not in usual:
                raise ValueError(f"{where}.{key}: {name} has no such parameter")
        return self._make(name, {key: PARAMETERS[key].read(spec[key], f"{where}.{key}") for key in spec if key != "rule"})


def _require(value: Any, where: str, keys: Any) -> None:
    """Raise ValueError unless `value` is an object with just these keys."""
    if not isinstance(value, dict) or set(value) != set(keys):
        got = f"one with {', '.join(map(repr, value)) or 'nothing'}" if isinstance(value, dict) else repr(value)
        raise ValueError(f"{where}: expected an object with {', '.join(keys)}, got {got}")


def _index(value: Any, where: str, most: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise ValueError(f"{where}: expected a whole number from 0 to {most}, got {value!r}")
    return value

"""Composites by name: LRP_CMP, each rule in every layer, and presets under the names that other toolboxes use.

A composite that is typed is a spec, NAME or NAME:parameter=value,…

    "cmp:alpha=2,flat=1"    LRP_CMP
    "epsilon:eps=0.1"       one rule in every layer
    "epsilon_plus_flat"     a preset

This is the one place where specs are read. `COMPOSITES` says which names there are; a spec may be used wherever a composite
is expected. The presets go by the type of a layer (a convolution or Linear), as Zennit does, and not by `is_dense`. They are
what Zennit 1.0 computes once its stabiliser is 0; `python -m benchmarks.presets` compares the two.
"""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from .backend import Array, Number
from .composites import CONVOLUTIONS, WEIGHTED, Composite, First, lrp_cmp, uniform
from .modules import Linear
from .rules import RULES, AlphaBeta, BiasPolicy, Epsilon, Flat, Gamma, Rule, ZBox, ZPlus


class Boxed(Protocol):
    """A model that knows the box of its inputs, such as `lrp_toolbox.load` returns."""

    @property
    def bounds(self) -> tuple[Array, Array]: ...


# ---- The presets -----------------------------------------------------------------------------------------------------


def _named(name: str, entries: list[tuple[Any, Rule]], **unusual: object) -> Composite:
    """The composite of that name. Parameters are part of the name where they are not the usual ones."""
    own = ", ".join(f"{key}={value}" for key, value in unusual.items() if value is not None)
    return Composite(entries, name=f"{name} ({own})" if own else name)


def _unusual(value: Any, usual: Any) -> Any:
    return None if value == usual else value


def epsilon_plus(eps: Number = 1e-6) -> Composite:
    """z⁺ in convolutions and ε in dense layers."""
    return _named("epsilon_plus", [(CONVOLUTIONS, ZPlus()), (Linear, Epsilon(eps))], eps=_unusual(eps, 1e-6))


def epsilon_plus_flat(eps: Number = 1e-6) -> Composite:
    """`epsilon_plus` with ♭ in the first layer, dense or not."""
    entries = [(First(1), Flat()), *epsilon_plus(eps).entries]
    return _named("epsilon_plus_flat", entries, eps=_unusual(eps, 1e-6))


def epsilon_alpha2_beta1(eps: Number = 1e-6) -> Composite:
    """αβ with α = 2 in convolutions and ε in dense layers. Others write β = 1 for our β = 1 − α = −1."""
    return _named("epsilon_alpha2_beta1", [(CONVOLUTIONS, AlphaBeta(2)), (Linear, Epsilon(eps))], eps=_unusual(eps, 1e-6))


def epsilon_alpha2_beta1_flat(eps: Number = 1e-6) -> Composite:
    """`epsilon_alpha2_beta1` with ♭ in the first layer, dense or not."""
    entries = [(First(1), Flat()), *epsilon_alpha2_beta1(eps).entries]
    return _named("epsilon_alpha2_beta1_flat", entries, eps=_unusual(eps, 1e-6))


def epsilon_gamma_box(low: Any, high: Any, eps: Number = 1e-6, gamma: Number = 0.25) -> Composite:
    """zᴮ in the first layer if that is a convolution, γ in the other convolutions, and ε in dense layers."""
    entries = [(Linear, Epsilon(eps)), (First(1), ZBox(low, high)), (CONVOLUTIONS, Gamma(gamma))]
    return _named("epsilon_gamma_box", entries, eps=_unusual(eps, 1e-6), gamma=_unusual(gamma, 0.25))


def excitation_backprop(bias: BiasPolicy = "absorb") -> Composite:
    """z⁺ in every layer. Zennit lets b⁺ absorb its share; bias="ignore" is Eq. 4 of Zhang et al. 2018."""
    return _named("excitation_backprop", [(WEIGHTED, ZPlus(bias=bias))], bias=_unusual(bias, "absorb"))


def deep_taylor(low: Any, high: Any) -> Composite:
    """zᴮ in the first layer and z⁺ without bias in all others, for logits > 0 (Montavon et al. 2017)."""
    return _named("deep_taylor", [(First(1), ZBox(low, high)), (WEIGHTED, ZPlus(bias="ignore"))])


PRESETS: Mapping[str, Callable[..., Composite]] = {
    "epsilon_plus": epsilon_plus,
    "epsilon_plus_flat": epsilon_plus_flat,
    "epsilon_alpha2_beta1": epsilon_alpha2_beta1,
    "epsilon_alpha2_beta1_flat": epsilon_alpha2_beta1_flat,
    "epsilon_gamma_box": epsilon_gamma_box,
    "excitation_backprop": excitation_backprop,
    "deep_taylor": deep_taylor,
}
"""What makes each preset, from its parameters. `low` and `high` are the box of the inputs, as for `ZBox`."""


# ---- All composites that have a name ---------------------------------------------------------------------------------


def _everywhere(rule: type[Rule]) -> Callable[..., Composite]:
    """What makes LRP with that rule in every layer, from the parameters of the rule."""

    @functools.wraps(rule, updated=())
    def make(**parameters: Any) -> Composite:
        return uniform(rule(**parameters))

    return make


RULE_NAMES: Mapping[str, type[Rule]] = {rule.__name__.lower(): rule for rule in RULES}
COMPOSITES: Mapping[str, Callable[..., Composite]] = {
    "cmp": lrp_cmp,
    **{name: _everywhere(rule) for name, rule in RULE_NAMES.items()},
    **PRESETS,
}
"""What makes each composite, from its parameters."""


def parse_composite(spec: str, model: Boxed | Any = None) -> Composite:
    """The composite that `spec` stands for, such as "cmp:alpha=2,flat=1" or "epsilon_plus_flat".

    The box that zᴮ needs is `model.bounds`. Raises ValueError if `spec` says something that does not exist, or if it needs
    a box and `model` has none.
    """
    composite: Composite = read_spec(spec, COMPOSITES, model).made()
    return composite


def as_composite(given: Composite | Rule | str | None, model: Boxed | Any = None) -> Composite:
    """A composite from what may stand for one: a rule in every layer, a spec, or None for LRP_CMP:α2+♭.

    Raises TypeError for anything else.
    """
    if given is None:
        return lrp_cmp()
    if isinstance(given, str):
        return parse_composite(given, model)
    if isinstance(given, Rule):
        return uniform(given)
    if not isinstance(given, Composite):
        raise TypeError(f"composite: expected a Composite, a Rule or a name such as 'cmp:alpha=2,flat=1', got {given!r}")
    return given


# ---- Specs -----------------------------------------------------------------------------------------------------------

BOX = ("low", "high")
Reader = Callable[[str, Any], tuple[Any, str]]  # (text, model) → the value, and the text in its canonical form


@dataclass(frozen=True)
class Spec:
    """A spec that has been read: what to call, with which parameters.

    `canonical` is the same text for all specs that say the same: parameters in the order of the signature, those left out
    that have their usual value, and numbers in their shortest form. "cmp:flat=1,alpha=2.0" becomes "cmp".
    """

    name: str
    make: Callable[..., Any]
    parameters: Mapping[str, Any]
    canonical: str

    def made(self) -> Any:
        return self.make(**self.parameters)


def typed_parameters(make: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters that a spec can give. The box of zᴮ cannot be typed: it comes from the model."""
    found = inspect.signature(make).parameters
    return {name: p for name, p in found.items() if name not in BOX}


def read_spec(
    spec: str,
    table: Mapping[str, Callable[..., Any]],
    model: Boxed | Any = None,
    *,
    what: str = "composite",
    readers: Mapping[str, Reader] | None = None,
) -> Spec:
    """Read NAME:parameter=value,… for the names in `table`.

    `readers` says how to read parameters that are not numbers, yes or no, or words, by the name of the parameter.
    Raises ValueError, which begins with `what`, for names and parameters that do not exist.
    """
    name, _, rest = (part.strip() for part in spec.partition(":"))
    if name not in table:
        near = difflib.get_close_matches(name, table, n=2)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise ValueError(f"{what} {spec!r}: there is no {name!r}; there are {', '.join(table)}{hint}")
    make = table[name]
    known, values, texts = typed_parameters(make), dict[str, Any](), dict[str, str]()
    for item in filter(None, (item.strip() for item in rest.split(","))):
        key, equals, text = (part.strip() for part in item.partition("="))
        if not equals or not text:
            raise ValueError(f"{what} {spec!r}: expected name=value, got {item!r}")
        if key not in known:
            raise ValueError(f"{what} {spec!r}: no parameter {key!r}; there are {', '.join(known) or 'none'}")
        if key in values:
            raise ValueError(f"{what} {spec!r}: {key} is given twice")
        reader = {**READERS, **(readers or {})}.get(key)
        if reader is not None:
            values[key], texts[key] = reader(text, model)
        elif isinstance(known[key].default, bool):
            values[key], texts[key] = _yes_or_no(f"{what} {spec!r}: {key}", text)
        else:
            values[key], texts[key] = _number_or_word(text)
    said = ",".join(f"{key}={texts[key]}" for key in known if key in values and values[key] != known[key].default)
    canonical = f"{name}:{said}" if said else name
    if set(BOX) <= set(inspect.signature(make).parameters):
        values |= dict(zip(BOX, _box(f"{what} {spec!r}", model), strict=True))
    return Spec(name, make, values, canonical)


def _box(where: str, model: Any) -> tuple[Array, Array]:
    bounds: tuple[Array, Array] | None = getattr(model, "bounds", None)
    if bounds is None:
        raise ValueError(f"{where}: zᴮ needs the box of the inputs, which a loaded model knows; for others use ZBox(low, high)")
    return bounds


def _number_or_word(text: str) -> tuple[Any, str]:
    """A number where `text` reads as one, an int if it is whole; else `text` itself."""
    try:
        number = float(text)
    except ValueError:
        return text, text
    if not number.is_integer():  # nor are infinity and NaN
        return number, repr(number)
    try:
        whole = int(text)  # all digits of a long one
    except ValueError:
        whole = int(number)
    return whole, str(whole)


def _yes_or_no(where: str, text: str) -> tuple[bool, str]:
    words = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    if text.lower() not in words:
        raise ValueError(f"{where}: expected yes or no, got {text!r}")
    value = words[text.lower()]
    return value, "yes" if value else "no"


def _read_word(text: str, model: Any) -> tuple[str, str]:
    return text, text


def _read_rule(text: str, model: Any) -> tuple[Rule, str]:
    spec = read_spec(text, RULE_NAMES, model, what="rule")
    return spec.made(), spec.canonical


def _read_composite(text: str, model: Any) -> tuple[Composite, str]:
    spec = read_spec(text, COMPOSITES, model)
    return spec.made(), spec.canonical


READERS: Mapping[str, Reader] = {"first": _read_rule, "of": _read_composite, "dense": _read_word}
"""How parameters are read that are neither numbers nor yes or no, by their names."""

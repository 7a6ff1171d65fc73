"""Which rule for which layer: composites, resolved up front into one rule per layer, and printable.

A composite is a list of (where, rule); the first entry that fits a layer decides. "Where" is

    a type          Conv, or (Conv, Linear)
    a name          "fc*", a pattern over the names of the layers, as on the command line of a shell
    a predicate     any function of a `Place`, such as `is_dense` or `First(3)`

so that one of your own takes three lines:

    mine = Composite([(First(1), ZBox(-1, 1)),
                      ("fc*", Epsilon(0.1)),
                      (Conv, Gamma(0.25))], name="mine")

Layers that leave no choice need no entry: activations pass relevance on, max-pooling gives it to the winner, and
pooling, scaling and adding share in proportion (z).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from .modules.base import Module, RuleTree, Shape
from .modules.container import Add, Branches, Container, Sequential, Sum, join
from .modules.linear import BatchNorm, Conv, Linear, Scale
from .modules.pooling import AvgPool, MaxPool, SumPool
from .rules import AlphaBeta, Epsilon, Flat, Number, Rule, Z
from .text import table

WEIGHTED = (Linear, Conv)
POOLING = (MaxPool, AvgPool, SumPool)


# ---- Where a layer stands --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """A layer where it stands in a net.

    `depth` counts the layers with weights on the way from the input to here, itself included, whatever the order in
    which the net was written down: the layers that touch the input have depth 1. `depth_pooling` counts pooling, too.
    """

    name: str
    module: Module
    shape: Shape  # of its input, without leading axes
    output_shape: Shape
    depth: int
    depth_pooling: int


def places(net: Module, shape: Shape) -> list[Place]:
    """Every layer of `net`, in order, for an x of `shape` (without leading axes).

    Raises ValueError, with the name of the layer, where x does not fit.
    """
    found: list[Place] = []
    _walk(net, "", tuple(shape), 0, 0, found)
    return found


def _walk(module: Module, name: str, shape: Shape, depth: int, pools: int, found: list[Place]) -> tuple[Shape, int, int]:
    """Append the places of `module` to `found`; what comes out: the shape of its output, and both depths."""
    if isinstance(module, Sequential):
        for child_name, child in module.items():
            shape, depth, pools = _walk(child, join(name, child_name), shape, depth, pools, found)
        return shape, depth, pools
    if isinstance(module, Branches):
        ends = [_walk(child, join(name, n), shape, depth, pools, found) for n, child in module.items()]
        depth, pools = max(end[1] for end in ends), max(end[2] for end in ends)
    weighted, pooling = isinstance(module, WEIGHTED), isinstance(module, POOLING)
    depth, pools = depth + weighted, pools + (weighted or pooling)
    try:
        y = tuple(module.output_shape(shape))
    except ValueError as error:
        raise ValueError(f"{name or 'net'}: {error}") from error
    if isinstance(module, Add):
        found.append(Place(join(name, "sum"), module.join, (*y, len(module)), y, depth, pools))
    elif not isinstance(module, Branches):
        found.append(Place(name or type(module).__name__.lower(), module, shape, y, depth, pools))
    return y, depth, pools


# ---- Conditions ------------------------------------------------------------------------------------------------------


def is_dense(place: Place) -> bool:
    """A Linear, or a Conv or pooling in its role: one that covers the whole map, so that one row and column come out."""
    layer = place.module
    if isinstance(layer, (Conv, *POOLING)):
        kernel = layer.w.shape[:2] if isinstance(layer, Conv) else layer.windows(place.shape).kernel
        return place.output_shape[-3:-1] == (1, 1) and tuple(kernel) == place.shape[-3:-1]
    return isinstance(layer, Linear)


@dataclass(frozen=True)
class First:
    """The first `n` layers from the input, in the order of the graph.

    Counted are the layers with weights; with `pooling`, pooling, too; with `dense=False`, dense layers are not meant.
    """

    n: int = 1
    pooling: bool = False
    dense: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.n, int) or isinstance(self.n, bool) or self.n < 1:
            raise ValueError(f"n: expected a number of layers ≥ 1, got {self.n!r}")

    def __call__(self, place: Place) -> bool:
        kinds = WEIGHTED + POOLING if self.pooling else WEIGHTED
        return isinstance(place.module, kinds) and self._depth(place) <= self.n and (self.dense or not is_dense(place))

    def require(self, found: Sequence[Place]) -> None:
        """Raise ValueError if there are no `n` such layers; a net that is dense throughout is not asked for others."""
        most = max((self._depth(place) for place in found if self(place)), default=0)
        if most < self.n and (most or self.dense):
            raise ValueError(f"the first {self.n} layers are asked for, but there are {most} of the kind: {self}")

    def _depth(self, place: Place) -> int:
        return place.depth_pooling if self.pooling else place.depth


Where = type | tuple[type, ...] | str | Callable[[Place], bool]


def _fits(where: Where, place: Place) -> bool:
    if isinstance(where, str):
        return fnmatchcase(place.name, where)
    if isinstance(where, (type, tuple)):
        return isinstance(place.module, where)
    return where(place)


# ---- Composites ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Composite:
    """(where, rule) entries, of which the first that fits a layer decides (see the top of this page).

    >>> Composite([("fc*", Epsilon(0.1)), (Conv, AlphaBeta(2))], name="mine")
    Composite([('fc*', Epsilon(eps=0.1)), (Conv, AlphaBeta(alpha=2))], name='mine')
    """

    entries: Sequence[tuple[Where, Rule]]
    name: str = "composite"

    def __post_init__(self) -> None:
        object.__setattr__(self, "entries", tuple(self.entries))
        for entry in self.entries:
            if not isinstance(entry, tuple) or len(entry) != 2 or not isinstance(entry[1], Rule):
                raise TypeError(f"entries: expected (where, rule) pairs, got {entry!r}")
            if not isinstance(entry[0], (type, tuple, str)) and not callable(entry[0]):
                raise TypeError(f"entries: expected a type, a name pattern or a predicate of a Place, got {entry[0]!r}")

    def __repr__(self) -> str:
        def name(where: Where) -> str:
            if isinstance(where, tuple):
                return f"({', '.join(map(name, where))})"
            return where.__name__ if hasattr(where, "__name__") else repr(where)

        entries = ", ".join(f"({name(where)}, {rule!r})" for where, rule in self.entries)
        return f"Composite([{entries}], name={self.name!r})"

    def resolve(self, net: Module, shape: Shape) -> RuleTable:
        """One rule for each layer of `net`, for an x of `shape` (without leading axes).

        Raises ValueError if a name pattern matches no layer, or if a Linear or Conv is left without a rule.
        """
        found = places(net, shape)
        for where, _ in self.entries:
            if isinstance(where, str) and not any(_fits(where, place) for place in found):
                raise ValueError(f"{self.name}: the pattern {where!r} matches no layer; there are {_names(found)}")
            if isinstance(where, First):
                where.require(found)
        chosen = [next((rule for where, rule in self.entries if _fits(where, place)), None) for place in found]
        without = [p for p, rule in zip(found, chosen, strict=True) if rule is None and isinstance(p.module, WEIGHTED)]
        if without:
            raise ValueError(f"{self.name}: no rule for {_names(without)}")
        taken = tuple(p.module.takes(rule or Z()) for p, rule in zip(found, chosen, strict=True))
        return RuleTable(self.name, net, tuple(found), taken)


def _names(found: Sequence[Place]) -> str:
    return ", ".join(f"{p.name} ({type(p.module).__name__})" for p in found)


@dataclass(frozen=True)
class RuleTable:
    """Which layer follows which rule. Prints as a table; `tree` is what `net.relprop` takes."""

    name: str
    net: Module = field(repr=False)
    places: tuple[Place, ...] = field(repr=False)
    rules: tuple[Rule, ...]

    @property
    def tree(self) -> RuleTree:
        """The rules in the shape of the net."""
        return _shape_like(self.net, iter(self.rules))

    def __getitem__(self, name: str) -> Rule:
        """The rule of the layer of that name."""
        for place, rule in zip(self.places, self.rules, strict=True):
            if place.name == name:
                return rule
        raise KeyError(f"no layer {name!r}; there are {_names(self.places)}")

    def __str__(self) -> str:
        rows = [("layer", "type", "input", "rule")]
        for place, rule in zip(self.places, self.rules, strict=True):
            shape = "×".join(map(str, place.shape))
            note = "   (♭ says nothing in a dense layer)" if isinstance(rule, Flat) and is_dense(place) else ""
            rows.append((place.name, type(place.module).__name__, shape, f"{rule.symbol:<6} {rule}{note}"))
        return f"{self.name}\n{table(rows, left=4)}"


def _shape_like(module: Module, rules: Iterator[Rule]) -> RuleTree:
    if not isinstance(module, Container):
        return next(rules)
    tree = [_shape_like(child, rules) for child in module]
    return (*tree, next(rules)) if isinstance(module, Add) else tuple(tree)


def uniform(rule: Rule) -> Composite:
    """The same rule in every layer, as in Fig. 1(a) and (b)."""
    parameters = repr(rule).partition("(")[2].rstrip(")")
    return Composite([(Module, rule)], name=f"LRP_{rule.symbol}" + (f" ({parameters})" if parameters else ""))


def lrp_cmp(
    alpha: Number = 2,
    eps: Number = 1e-6,
    flat: int | Literal["all"] = 1,
    *,
    pooling: bool = False,
    dense: str | None = None,
    first: Rule | None = None,
) -> Composite:
    """LRP_CMP, the best practice of Sec. II-B: ε in dense layers, αβ in convolutions, ♭ in the first `flat` of these.

    ========================  ==========================================================
    LRP_CMP:α1, Fig. 1(e)     ``lrp_cmp(alpha=1, flat=0)``
    LRP_CMP:α2                ``lrp_cmp(alpha=2, flat=0)``
    LRP_CMP:α1+♭              ``lrp_cmp(alpha=1, flat=1)``
    LRP_CMP:α2+♭              ``lrp_cmp(alpha=2, flat=1)``: the best of Table I, the default
    Fig. 1(f)                 ``lrp_cmp(alpha=1, flat=3)``: the first three convolutions
    Fig. 1(g)                 ``lrp_cmp(flat="all")``: all convolutions and pooling layers, but not those that are dense
    ========================  ==========================================================

    `flat` counts convolutions from the input; with `pooling=True` it counts pooling layers, too, and flattens them.
    `dense`: a pattern over names, for layers to be taken as dense beside those that are (see `is_dense`).
    `first`: another rule for the layers that touch the input, such as `ZBox(*model.bounds)`.
    The paper says ε ≪ 1 and no more; 1e-6 is ours.
    """
    if flat != "all" and (not isinstance(flat, int) or isinstance(flat, bool) or flat < 0):
        raise ValueError(f"flat: expected a number of layers ≥ 0, or 'all', got {flat!r}")
    entries: list[tuple[Where, Rule]] = [] if first is None else [(First(1), first)]
    if dense is not None:
        entries.append((dense, Epsilon(eps)))
    entries.append((is_dense, Epsilon(eps)))
    if flat == "all":
        entries.append(((Conv, *POOLING), Flat()))
    elif flat != 0:
        entries.append((First(flat, pooling=pooling, dense=False), Flat()))
    entries.append((Conv, AlphaBeta(alpha)))
    entries.append(((Sum, Scale, BatchNorm), Epsilon(eps)))
    extra = {0: "", 1: "+♭"}.get(flat, f"+♭({flat})") if isinstance(flat, int) else "+♭(all)"
    return Composite(entries, name=f"LRP_CMP:α{alpha}{extra}{'' if first is None else '+' + first.symbol}")

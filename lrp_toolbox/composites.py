"""Which rule for which layer: composites, resolved up front into one rule per layer, and printable.

A composite is a list of (where, rule); the first entry that fits a layer decides. "Where" is

    a type          Conv, or (Conv, Linear)
    a name          "fc*", a pattern over the names of the layers, as on the command line of a shell
    a predicate     any function of a `LayerInfo`, such as `is_dense` or `First(3)`

A composite of your own takes three lines:

    mine = Composite([(First(1), ZBox(-1, 1)),
                      ("fc*", Epsilon(0.1)),
                      (Conv, Gamma(0.25))], name="mine")

Layers that leave no choice need no entry: activations pass relevance on, max-pooling gives it to the winner, and average
pooling, scaling and adding redistribute in proportion (z).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, Literal

from .backend import Number
from .context import Context
from .ledger import Recorder
from .modules.base import Layer, Module, Shape
from .modules.container import Graph, Sum
from .modules.convolutions import Conv1D, Conv3D, ConvTranspose
from .modules.linear import BatchNorm, Conv, Linear, Scale
from .modules.pooling import AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, MaxPool, SumPool
from .modules.products import Affine
from .modules.reductions import Mean, ReduceSum
from .rules import AlphaBeta, Epsilon, Flat, Rule, Z
from .text import table

CONVOLUTIONS = (Conv, Conv1D, Conv3D, ConvTranspose)
WEIGHTED = (Linear, *CONVOLUTIONS)
POOLING = (MaxPool, AvgPool, SumPool, AdaptiveAvgPool, AdaptiveMaxPool)  # over any number of axes


# ---- Where a layer stands --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LayerInfo:
    """A layer where it stands in a net.

    `depth` counts the layers with weights on the way from the input to this layer, itself included, on the longest way: the
    layers that touch the input have depth 1, whatever the order in which the net was written down. `depth_pooling` counts
    pooling layers, too. `single_place`: whether its inputs are no maps, or maps that an earlier layer has reduced to a single
    place by its role: pooling of the whole map, or a window that covers it.
    """

    name: str
    module: Layer
    shapes: tuple[Shape, ...]  # of its inputs, without leading axes
    output_shape: Shape
    depth: int
    depth_pooling: int
    single_place: bool

    @property
    def shape(self) -> Shape:
        """The shape of its (first) input."""
        return self.shapes[0]


@dataclass(frozen=True)
class _Reached:
    """What is known of a value on its way through the net."""

    shape: Shape
    depth: int = 0
    depth_pooling: int = 0
    single_place: bool = False


def layers(net: Module, shape: Any) -> list[LayerInfo]:
    """Every layer of `net`, in order, for an x of `shape` (without leading axes; a tuple of shapes for several inputs).

    Raises ValueError, with the name of the layer, where x does not fit.
    """
    found: list[LayerInfo] = []

    def step(name: str, layer: Layer, value: Any) -> _Reached:
        several = value if layer.several_inputs else (value,)
        shapes = tuple(v.shape for v in several)
        try:
            y = tuple(layer.output_shape(shapes if layer.several_inputs else shapes[0]))
        except ValueError as error:
            raise ValueError(f"{name or 'net'}: {error}") from error
        weighted, pooling = isinstance(layer, WEIGHTED), isinstance(layer, POOLING)
        depth = max(v.depth for v in several) + weighted
        depth_pooling = max(v.depth_pooling for v in several) + (weighted or pooling)
        name = name or type(layer).__name__.lower()
        info = LayerInfo(name, layer, shapes, y, depth, depth_pooling, all(v.single_place for v in several))
        found.append(info)
        return _Reached(y, depth, depth_pooling, _one_place(y) and (info.single_place or _reduces(info)))

    def given(shape: Any) -> _Reached:
        return _Reached(tuple(shape), single_place=_one_place(tuple(shape)))

    net.flow(tuple(map(given, shape)) if net.several_inputs else given(shape), step)
    for name, times in Counter(layer.name for layer in found).items():
        if times > 1:
            raise ValueError(f"net: {times} layers have the name {name!r}")
    return found


def _one_place(shape: Shape) -> bool:
    """Whether it is a map of one place, or no map."""
    return all(n == 1 for n in shape[:-1])


def _covers(layer: LayerInfo) -> bool:
    """Whether each output sees the whole map that comes in, of more than one place: as global pooling, or a head's window."""
    module = layer.module
    if isinstance(module, POOLING) and _pools_any_map(module):
        return True
    if _one_place(layer.shape):
        return False
    if isinstance(module, POOLING):
        return module.windows(layer.shape).cover(layer.shape[-module.axes : -1])
    if isinstance(module, (Conv, Conv1D, Conv3D)) and max(module.windows.stride) == 1:  # a stride is for larger maps
        return module.windows.cover(layer.shape[-module.axes : -1])
    return False


def _pools_any_map(module: Layer) -> bool:
    """Whether it gives one place for a map of any size."""
    if isinstance(module, (AdaptiveAvgPool, AdaptiveMaxPool)):
        return all(n == 1 for n in module.windows((1,) * module.axes).count)
    return isinstance(module, POOLING) and getattr(module, "kernel", ()) is None


def _reduces(layer: LayerInfo) -> bool:
    """Whether it reduces a map to a single place by its role. Max-pooling that covers a small map by chance does not."""
    module = layer.module
    if isinstance(module, MaxPool):
        return _pools_any_map(module)
    return _covers(layer) or isinstance(module, (Mean, ReduceSum)) or len(layer.output_shape) == 1


# ---- Conditions ------------------------------------------------------------------------------------------------------


def is_dense(layer: LayerInfo) -> bool:
    """A Linear, or a convolution or pooling in its role: each of its outputs sees all of its inputs.

    Its window covers the whole map, or an earlier layer has reduced the map to a single place (`LayerInfo.single_place`). A
    1 × 1 convolution is not dense if its map has a single place only because the input is small. A transposed convolution is
    dense if what comes in is a single place.
    """
    module = layer.module
    if isinstance(module, (*CONVOLUTIONS, *POOLING)):
        return layer.single_place or _covers(layer)
    return isinstance(module, Linear)


@dataclass(frozen=True)
class First:
    """The first `n` layers from the input, in the order of the graph.

    Counted are the layers with weights; with `pooling`, pooling, too; with `dense=False`, dense layers do not.
    """

    n: int = 1
    pooling: bool = False
    dense: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.n, int) or isinstance(self.n, bool) or self.n < 1:
            raise ValueError(f"n: expected a number of layers ≥ 1, got {self.n!r}")

    def __call__(self, layer: LayerInfo) -> bool:
        kinds = WEIGHTED + POOLING if self.pooling else WEIGHTED
        return isinstance(layer.module, kinds) and self._depth(layer) <= self.n and (self.dense or not is_dense(layer))

    def require(self, found: Sequence[LayerInfo]) -> None:
        """Raise ValueError if there are not `n` such layers (a net of dense layers only is accepted)."""
        deepest = max((self._depth(layer) for layer in found if self(layer)), default=0)
        if deepest < self.n and (deepest or self.dense):
            raise ValueError(f"the first {self.n} layers are asked for, but there are {deepest} of the kind: {self}")

    def _depth(self, layer: LayerInfo) -> int:
        return layer.depth_pooling if self.pooling else layer.depth


Where = type | tuple[type, ...] | str | Callable[[LayerInfo], bool]


def _fits(where: Where, layer: LayerInfo) -> bool:
    if isinstance(where, str):
        return fnmatchcase(layer.name, where)
    if isinstance(where, (type, tuple)):
        return isinstance(layer.module, where)
    return where(layer)


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
                raise TypeError(f"entries: expected a type, a name pattern or a predicate of a LayerInfo, got {entry[0]!r}")

    def __repr__(self) -> str:
        def name(where: Where) -> str:
            if isinstance(where, tuple):
                return f"({', '.join(map(name, where))})"
            return where.__name__ if hasattr(where, "__name__") else repr(where)

        entries = ", ".join(f"({name(where)}, {rule!r})" for where, rule in self.entries)
        return f"Composite([{entries}], name={self.name!r})"

    def resolve(self, net: Module, shape: Shape) -> RuleTable:
        """One rule for each layer of `net`, for an x of `shape` (without leading axes).

        Raises ValueError if a name pattern matches no layer, or if a layer with weights is left without a rule.
        """
        found = layers(net, shape)
        for where, _ in self.entries:
            if isinstance(where, str) and not any(_fits(where, layer) for layer in found):
                raise ValueError(f"{self.name}: the pattern {where!r} matches no layer; there are {_names(found)}")
            if isinstance(where, First):
                where.require(found)
        chosen = [next((rule for where, rule in self.entries if _fits(where, layer)), None) for layer in found]
        without = [info for info, rule in zip(found, chosen, strict=True) if rule is None and isinstance(info.module, WEIGHTED)]
        if without:
            raise ValueError(f"{self.name}: no rule for {_names(without)}")
        for info, rule in zip(found, chosen, strict=True):
            if rule is not None and type(rule).parts is Rule.parts and isinstance(info.module, WEIGHTED):
                raise ValueError(f"{self.name}: {rule} is for layers that do not mix their inputs, not for {_names([info])}")
        effective = tuple(info.module.effective_rule(rule or Z()) for info, rule in zip(found, chosen, strict=True))
        root = "" if isinstance(net, Graph) else found[0].name
        return RuleTable(self.name, tuple(found), effective, root)


def _names(found: Sequence[LayerInfo]) -> str:
    return ", ".join(f"{layer.name} ({type(layer.module).__name__})" for layer in found)


@dataclass(frozen=True)
class RuleTable:
    """Which layer follows which rule. Prints as a table."""

    name: str
    layers: tuple[LayerInfo, ...] = field(repr=False)
    rules: tuple[Rule, ...]
    root: str = field(default="", repr=False)  # the name of the net itself, if it is one layer

    def context(self, recorder: Recorder | None = None, release: bool = False) -> Context:
        """What `net.relprop` takes to follow these rules."""
        rules = {layer.name: rule for layer, rule in zip(self.layers, self.rules, strict=True)}
        return Context(rules, recorder, release, self.root)

    def __getitem__(self, name: str) -> Rule:
        """The rule of the layer of that name."""
        for layer, rule in zip(self.layers, self.rules, strict=True):
            if layer.name == name:
                return rule
        raise KeyError(f"no layer {name!r}; there are {_names(self.layers)}")

    def __str__(self) -> str:
        rows = [("layer", "type", "input", "rule", "")]
        for layer, rule in zip(self.layers, self.rules, strict=True):
            shape = ", ".join("×".join(map(str, s)) for s in dict.fromkeys(layer.shapes))
            rows.append((layer.name, type(layer.module).__name__, shape, rule.symbol, f"{rule}{_note(layer, rule)}"))
        return f"{self.name}\n{table(rows, left=5)}"


def _note(layer: LayerInfo, rule: Rule) -> str:
    if isinstance(rule, Flat) and is_dense(layer):
        return "   (♭ is uninformative in a dense layer)"
    if isinstance(layer.module, CONVOLUTIONS) and is_dense(layer) and not layer.single_place:
        return "   (dense: its window covers the whole map)"
    return ""


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
        entries.append(((*CONVOLUTIONS, *POOLING), Flat()))
    elif flat != 0:
        entries.append((First(flat, pooling=pooling, dense=False), Flat()))
    entries.append((CONVOLUTIONS, AlphaBeta(alpha)))
    entries.append(((Sum, Scale, BatchNorm, Affine), Epsilon(eps)))
    extra = {0: "", 1: "+♭"}.get(flat, f"+♭({flat})") if isinstance(flat, int) else "+♭(all)"
    return Composite(entries, name=f"LRP_CMP:α{alpha}{extra}{'' if first is None else '+' + first.symbol}")

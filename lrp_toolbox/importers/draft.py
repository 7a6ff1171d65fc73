"""A network while it is read: the values that are known so far, and the nodes that make them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..modules import Linear, Module
from ..modules.base import Shape
from .graph import Node
from .layout import Map

MAX_LAYERS = 10_000  # in one file
MAX_NUMBERS = 1 << 28  # in one map or array


@dataclass(frozen=True)
class Value:
    """What a node makes for one sample.

    shape   (height, width, channel) or (feature)
    maps    of features: the (channel, height, width) of each map that was flattened to make them
    """

    name: str
    shape: Shape
    maps: tuple[Map, ...] = ()

    @property
    def is_map(self) -> bool:
        return len(self.shape) == 3


@dataclass
class Draft:
    """The nodes so far, in an order in which each follows its inputs. `source` is the input of the network.

    `add` and `join` raise ValueError if a layer does not fit its input, makes too large a map, or has a name that is taken.
    """

    source: Value
    nodes: dict[str, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _require_size(self.source.shape)

    def add(self, name: str, x: Value, module: Module) -> Value:
        """A node that applies `module` to `x`; the value that it makes."""
        if module.input_axes not in (None, len(x.shape)):
            raise ValueError(f"expected an input of {module.input_axes} axes, found the shape {x.shape}")
        shape = tuple(module.output_shape(x.shape))
        maps: tuple[Map, ...] = ()
        if len(shape) == 1:
            flattened = ((x.shape[2], x.shape[0], x.shape[1]),) if x.is_map else x.maps
            maps = ((shape[0], 1, 1),) if isinstance(module, Linear) else flattened
        return self._enter(Node(name, (x.name,), module), Value(name, shape, maps))

    def join(self, name: str, module: Module, inputs: Sequence[Value], y: Value) -> Value:
        """A node with several inputs; `y` is what comes out."""
        return self._enter(Node(name, tuple(x.name for x in inputs), module), Value(name, y.shape, y.maps))

    def free_name(self, name: str) -> str:
        """`name`, or if it is taken `name_2`, `name_3`, …"""
        names = (name, *(f"{name}_{k}" for k in range(2, len(self.nodes) + 3)))
        return next(n for n in names if n not in self.nodes and n != self.source.name)

    def _enter(self, node: Node, y: Value) -> Value:
        _require_size(y.shape)
        if node.name in self.nodes or node.name == self.source.name:
            raise ValueError(f"expected names to be unique, found another layer {node.name!r}")
        self.nodes[node.name] = node
        return y


def _require_size(shape: Shape) -> None:
    if math.prod(shape) > MAX_NUMBERS:
        raise ValueError(f"expected a map of at most {MAX_NUMBERS} numbers, found {tuple(shape)}")

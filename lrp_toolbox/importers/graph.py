"""From the layers that a file lists, in any order, to a Graph (or a Sequential, if each layer reads the one before it)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

from ..io import ModelFormatError
from ..modules import Graph, Identity, Module, Sequential


@dataclass(frozen=True)
class Node:
    """A layer, and the names of the values that it reads."""

    name: str
    inputs: tuple[str, ...]
    module: Module

    @property
    def kind(self) -> str:
        """The name of the module's class, in lower case."""
        return type(self.module).__name__.lower()


def build(nodes: Iterable[Node], source: str, target: str, where: str = "net") -> Graph:
    """The net from the value named `source` to the one named `target`, which a node of that name makes.

    Nodes that `target` does not depend on are left out. Raises ModelFormatError, which begins with `where`, for names that
    occur twice or not at all, and for cycles.
    """
    by_name: dict[str, Node] = {}
    for node in nodes:
        if node.name in by_name or node.name == source:
            raise ModelFormatError(f"{where}: {node.name}: expected names to be unique, found two layers of that name")
        by_name[node.name] = node
    order = _in_order(by_name, source, target, where)
    if all(by_name[name].inputs == (before,) for before, name in pairwise([source, *order])):
        return Sequential([(name, by_name[name].module) for name in order] or [("identity", Identity())])
    return Graph([(name, by_name[name].module, by_name[name].inputs) for name in order], (source,), target)


def _in_order(by_name: dict[str, Node], source: str, target: str, where: str) -> list[str]:
    """The names of the nodes that `target` needs, each after what it reads."""
    order: list[str] = []
    state = {source: "done"}
    nothing: Iterator[str] = iter(())
    stack: list[tuple[str, Iterator[str], str]] = [(target, nothing, "")]
    while stack:
        name, inputs, asked_by = stack[-1]
        if name not in state:
            if name not in by_name:
                raise ModelFormatError(f"{where}: {asked_by or 'output'}: reads {name!r}, which no layer makes")
            if not by_name[name].inputs:
                raise ModelFormatError(f"{where}: {name}: expected an input, found none; it does not lead back to {source!r}")
            state[name] = "open"
            inputs = iter(by_name[name].inputs)
            stack[-1] = (name, inputs, asked_by)
        following = next(inputs, None)
        if following is None:
            stack.pop()
            if state[name] == "open":
                state[name] = "done"
                order.append(name)
        elif state.get(following) == "open":
            raise ModelFormatError(f"{where}: {name}: reads {following!r}, which itself depends on it: a cycle")
        elif following not in state:
            stack.append((following, nothing, name))
    return order

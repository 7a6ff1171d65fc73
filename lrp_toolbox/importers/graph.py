"""From a graph of layers, as frameworks write them down, to nested Sequentials and branches.

A framework lists nodes with the names of what they read. Here every join (Concat or Add) becomes a module whose branches
begin where all paths to the join last came through one place, its dominator. What two branches share beyond that place
stands in both: that is exact, forward and backward, since relevance and gradients are linear in what comes from above.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..io import ModelFormatError
from ..modules import Identity, Module, Sequential
from ..modules.container import Branches

MOST_LAYERS = 10_000  # that a file may describe
MOST_COPIES = 20  # a graph that needs more modules than so many times its nodes is refused
MOST_NESTED = 64  # branches within branches: as deep as Python follows modules within modules, and more than networks have
MOST_NUMBERS = 1 << 28  # in a map


@dataclass(frozen=True)
class Node:
    """A layer of one input, or a join of several: then `module` is Concat or Add itself."""

    name: str
    inputs: tuple[str, ...]
    module: Module | type[Branches]


def build(nodes: Sequence[Node], source: str, target: str, where: str = "net") -> Sequential:
    """The net from the value named `source` to the one named `target`, which a node of that name makes.

    Nodes that do not lead from the one to the other are left out. Raises ModelFormatError, which begins with `where`, for
    names that occur twice or not at all, for cycles, and for branches that are nested or share beyond all measure.
    """
    by_name: dict[str, Node] = {}
    for node in nodes:
        if node.name in by_name or node.name == source:
            raise ModelFormatError(f"{where}: {node.name}: expected names to be unique, found two layers of that name")
        by_name[node.name] = node
    order = _in_order(by_name, source, target, where)
    dominator = _dominators(by_name, order, source)
    left = [MOST_COPIES * len(order)]
    return Sequential(_chain(by_name, dominator, target, source, left, where) or [("identity", Identity())])


def require_size(shape: Sequence[int], where: str) -> None:
    """Raise ModelFormatError, which begins with `where`, if a map of that shape is larger than any that is meant."""
    if math.prod(shape) > MOST_NUMBERS:
        raise ModelFormatError(f"{where}: expected a map of at most {MOST_NUMBERS} numbers, found {tuple(shape)}")


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


def _dominators(by_name: dict[str, Node], order: list[str], source: str) -> dict[str, str]:
    """For every node, the last place that all paths to it come through (Cooper, Harvey and Kennedy 2001, on a DAG)."""
    rank = {source: 0, **{name: k + 1 for k, name in enumerate(order)}}
    dominator = {source: source}
    for name in order:
        common, *others = by_name[name].inputs
        for other in others:
            while common != other:
                if rank[common] > rank[other]:
                    common = dominator[common]
                else:
                    other = dominator[other]
        dominator[name] = common
    return dominator


def _chain(
    by_name: dict[str, Node], dominator: dict[str, str], name: str, start: str, left: list[int], where: str, depth: int = 0
) -> list[tuple[str, Module]]:
    """The modules from the value `start` to the value `name`, in order."""
    if depth > MOST_NESTED:
        raise ModelFormatError(f"{where}: {name}: expected branches within branches at most {MOST_NESTED} deep, found more")
    chain: list[tuple[str, Module]] = []
    while name != start:
        node, left[0] = by_name[name], left[0] - 1
        if left[0] < 0:
            raise ModelFormatError(f"{where}: {name}: branches share so much that the net would not end")
        if isinstance(node.module, Module):
            [previous] = node.inputs
            chain.append((node.name, node.module))
        else:
            previous = dominator[name]
            branches = []
            for k, value in enumerate(node.inputs, 1):
                inner = _chain(by_name, dominator, value, previous, left, where, depth + 1)
                branches.append(inner[0] if len(inner) == 1 else (str(k), Sequential(inner) if inner else Identity()))
            if len({branch for branch, _ in branches}) < len(branches):  # the same module reads the same value twice
                branches = [(str(k), module) for k, (_, module) in enumerate(branches, 1)]
            chain.append((node.name, node.module(branches)))
        name = previous
    return chain[::-1]

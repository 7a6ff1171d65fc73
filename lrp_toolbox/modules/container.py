"""Nets of modules: Graph, and the three wirings that one writes by hand: Sequential, Concat and Add."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from ..backend import Array, Value, namespace
from ..context import Context, join
from ..rules import Rule
from ..weights import ONE
from .base import Layer, LinearModule, Module, PassingLayer, Shape, Trace, proportional

SCREEN = 31  # lines: longer nets are folded where they print themselves


@dataclass(frozen=True, eq=False)
class Node:
    """A module of a graph, by its name, and the values that it reads: inputs of the graph, or outputs of earlier nodes."""

    name: str
    module: Module
    reads: tuple[str, ...]

    def send_back(self, R_in: Value, arrived: dict[str, Array]) -> None:
        """Add what goes back to the values that this node reads to what has arrived there from other readers."""
        for value, r in zip(self.reads, R_in if self.module.several_inputs else (R_in,), strict=True):
            arrived[value] = arrived[value] + r if value in arrived else r


class Graph(Module):
    """Modules that read each other's outputs, in an order in which each comes after those that it reads.

    `nodes`: (name, module, reads), where `reads` is the name of an input or of an earlier node, or a tuple of several.
    `inputs`: the names of the graph's own inputs. `output`: the node whose output is the graph's; by default the last.

    >>> import numpy as np
    >>> from lrp_toolbox import Linear, ReLU
    >>> w = np.eye(2)
    >>> net = Graph([("a", Linear(w), "input"), ("b", ReLU(), "a"), ("sum", Sum(), ("a", "b"))])
    >>> net(np.asarray([1.0, -2.0]))
    array([ 2., -2.])

    Going forward, every module runs once. Going back, the relevance (or gradient) of a value is the sum of what all its
    readers send back. Raises ValueError if a node reads what is not there yet, or is read by no one.
    """

    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    output: str
    _free: list[list[str]]  # for each node: the values that it is the last to read

    def __init__(self, nodes: Iterable[Any], inputs: Sequence[str] = ("input",), output: str | None = None):
        made = []
        for node in nodes:
            name, module, reads = (node.name, node.module, node.reads) if isinstance(node, Node) else node
            made.append(Node(name, module, (reads,) if isinstance(reads, str) else tuple(reads)))
        if not made:
            raise ValueError(f"{type(self).__name__}: expected at least one module, got none")
        self._set(tuple(made), tuple(inputs), made[-1].name if output is None else output)

    def _set(self, nodes: tuple[Node, ...], inputs: tuple[str, ...], output: str) -> None:
        kind = type(self).__name__
        known, read = set(inputs), {output}
        for node in nodes:
            if not isinstance(node.module, Module):
                raise TypeError(f"{kind}: expected modules, got {node.module!r}")
            if not isinstance(node.name, str) or not node.name:
                raise TypeError(f"{kind}: expected a name for {type(node.module).__name__}, got {node.name!r}")
            if node.name in known:
                raise ValueError(f"names: {node.name!r} occurs twice")
            for value in node.reads:
                if value not in known:
                    raise ValueError(f"{kind}: {node.name!r} reads {value!r}, which is neither an input nor an earlier node")
            if not node.reads or (len(node.reads) > 1 and not node.module.several_inputs):
                raise ValueError(f"{kind}: {node.name!r} ({type(node.module).__name__}) cannot read {len(node.reads)} values")
            known.add(node.name)
            read.update(node.reads)
        if output not in known:
            raise ValueError(f"output: {output!r} is no node; there are {', '.join(node.name for node in nodes)}")
        unread = [node.name for node in nodes if node.name not in read]
        if unread:
            raise ValueError(f"{kind}: no node reads {', '.join(map(repr, unread))}, and it is not the output")
        last = {value: k for k, node in enumerate(nodes) for value in node.reads}
        free = [[value for value in last if last[value] == k and value != output] for k in range(len(nodes))]
        self.__dict__.update(nodes=nodes, inputs=inputs, output=output, _free=free)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: make another one")

    # -- as a collection

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(node.name for node in self.nodes)

    @property
    def children(self) -> tuple[Module, ...]:
        return tuple(node.module for node in self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.children)

    def items(self) -> Iterator[tuple[str, Module]]:
        """(name, module) in order."""
        return zip(self.names, self.children, strict=True)

    @overload
    def __getitem__(self, key: int | str) -> Module: ...
    @overload
    def __getitem__(self, key: slice) -> Sequential: ...
    def __getitem__(self, key: int | str | slice) -> Module:
        """A module by position or name; of a Sequential also a part of the net, by a slice."""
        if isinstance(key, slice):
            raise TypeError(f"{type(self).__name__}: only a Sequential has slices")
        if isinstance(key, str):
            if key not in self.names:
                raise KeyError(f"no module {key!r} here; there are {', '.join(self.names)}")
            return self.children[self.names.index(key)]
        return self.children[key]

    def __repr__(self) -> str:
        """A line for each layer; what does not fit a screen is left out in the middle."""
        lines = self._lines()
        left_out = len(lines) - SCREEN
        if left_out > 0:
            half = (SCREEN - 1) // 2
            lines[half:-half] = [f"  … {len(lines) - 2 * half} more lines …"]
        return "\n".join(lines)

    def _lines(self) -> list[str]:
        inside = []
        for node, reads in zip(self.nodes, self._said_reads(), strict=True):
            first, *more = node.module._lines() if isinstance(node.module, Graph) else [repr(node.module)]
            from_where = f" ← {', '.join(reads)}" if reads else ""
            inside += [f"  {node.name}: {first}", *(f"  {line}" for line in more)]
            inside[-1] += from_where
        return [f"{type(self).__name__}(", *inside, ")"]

    def _said_reads(self) -> list[tuple[str, ...]]:
        """For each node, the values that it reads, as far as the order of the nodes does not say so."""
        return [node.reads for node in self.nodes]

    # -- forward

    @property
    def several_inputs(self) -> bool:
        return len(self.inputs) > 1

    @property
    def input_axes(self) -> int | None:
        return next((n for n in (child.input_axes for child in self.children) if n is not None), None)

    def forward(self, x: Value) -> Array:
        return self.flow(x, lambda _, layer, x: layer.forward(x))

    def flow(self, value: Any, step: Callable[[str, Layer, Any], Any], name: str = "") -> Any:
        values = self._inputs(value)
        for k, node in enumerate(self.nodes):
            values[node.name] = node.module.flow(self._read(node, values), step, join(name, node.name))
            for unneeded in self._free[k]:
                del values[unneeded]
        return values[self.output]

    def trace(self, x: Value, nonneg: bool = False, context: Rule | Context | None = None) -> Trace:
        context = None if context is None else Context.of(context)
        values, known = self._inputs(x), self._inputs((nonneg,) * len(self.inputs) if self.several_inputs else nonneg)
        children = []
        for k, node in enumerate(self.nodes):
            nonnegative = self._read(node, known)
            t = node.module.trace(
                self._read(node, values),
                all(nonnegative) if isinstance(nonnegative, tuple) else nonnegative,
                None if context is None else context.inside(node.name),
            )
            values[node.name], known[node.name] = t.y, node.module.output_is_nonnegative(nonnegative)
            children.append(t if context is None or not isinstance(node.module, (LinearModule, Graph)) else t.without_y())
            for unneeded in self._free[k]:
                del values[unneeded]
        return Trace(x, values[self.output], children, nonneg)

    def _inputs(self, value: Any) -> dict[str, Any]:
        if not self.several_inputs:
            return {self.inputs[0]: value}
        if not isinstance(value, tuple) or len(value) != len(self.inputs):
            raise ValueError(f"x: expected a tuple of {len(self.inputs)} inputs, {', '.join(self.inputs)}")
        return dict(zip(self.inputs, value, strict=True))

    @staticmethod
    def _read(node: Node, values: Mapping[str, Any]) -> Any:
        return tuple(values[v] for v in node.reads) if node.module.several_inputs else values[node.reads[0]]

    def output_is_nonnegative(self, nonneg: Any) -> bool:
        known: bool = self.flow(nonneg, lambda _, layer, n: layer.output_is_nonnegative(n))
        return known

    def output_shape(self, shape: Any) -> Shape:
        return tuple(self.flow(shape, lambda _, layer, s: layer.output_shape(s)))

    def shapes(self, shape: Any) -> dict[str, Shape]:
        """The shape of what each node gives, for an x of `shape`."""
        found = self._inputs(shape)
        for node in self.nodes:
            found[node.name] = tuple(node.module.output_shape(self._read(node, found)))
        return {node.name: found[node.name] for node in self.nodes}

    def can_cut(self, name: str) -> bool:
        """Whether all that follows the node `name` sees the input through its value only."""
        return not self._around(name)

    def cut(self, name: str) -> tuple[Graph, Graph]:
        """The net up to the node `name`, and the rest, which reads its value.

        Raises ValueError if the rest reads another value, too.
        """
        before = self._needs(name)
        head = [node for node in self.nodes if node.name in before]
        tail = [node for node in self.nodes if node.name not in before]
        if around := self._around(name):
            raise ValueError(f"net: cannot be cut at {name!r}: what follows also reads {', '.join(map(repr, around))}")
        return self.of_nodes(head, self.inputs, name), self.of_nodes(tail, (name,), self.output)

    def of_nodes(self, nodes: Sequence[Node], inputs: tuple[str, ...], output: str) -> Graph:
        """A net of the same kind with other nodes."""
        return Graph(nodes, inputs, output)

    def _around(self, name: str) -> list[str]:
        """The other values, of inputs or of nodes before `name`, that nodes after it read."""
        before = {*self._needs(name), *self.inputs} - {name}
        return [value for node in self.nodes if node.name not in (*before, name) for value in node.reads if value in before]

    def _needs(self, name: str) -> set[str]:
        """The nodes that the value of `name` depends on, itself included."""
        needed = {name}
        for node in reversed(self.nodes):
            if node.name in needed:
                needed.update(value for value in node.reads if value not in self.inputs)
        return needed

    # -- back

    def gradient(self, trace: Trace, g: Array) -> Value:
        return self._back(list(trace.children), g, lambda node, t, g: node.module.gradient(t, g))

    def relprop(self, trace: Trace, R: Array, context: Rule | Context) -> Value:
        at = Context.of(context)
        children = trace.children if at.release else list(trace.children)
        if at.release:
            trace.x = trace.y = None
        return self._back(children, R, lambda node, t, R: node.module.relprop(t, R, at.inside(node.name)))

    def _back(self, children: list[Trace], R: Array, step: Callable[[Node, Trace, Array], Value]) -> Value:
        """What arrives at the inputs, if `step` takes each node back. Takes the traces out of `children`, the last first."""
        arrived: dict[str, Array] = {self.output: R}
        for node in reversed(self.nodes):
            node.send_back(step(node, children.pop(), arrived.pop(node.name)), arrived)
        found = tuple(arrived[name] for name in self.inputs)
        return found if self.several_inputs else found[0]

    # -- the layers

    def walk(self, name: str = "") -> Iterator[tuple[str, Layer]]:
        for node in self.nodes:
            yield from node.module.walk(join(name, node.name))

    def walk_trace(self, trace: Trace, name: str = "") -> Iterator[tuple[str, Layer, Trace]]:
        for node, t in zip(self.nodes, trace.children, strict=True):
            yield from node.module.walk_trace(t, join(name, node.name))

    def transform(self, f: Callable[[str, Layer], Module], name: str = "") -> Module:
        return self.with_modules([node.module.transform(f, join(name, node.name)) for node in self.nodes])

    def with_modules(self, modules: Sequence[Module]) -> Graph:
        """The same wiring of other modules."""
        if all(new is node.module for new, node in zip(modules, self.nodes, strict=True)):
            return self
        same: Graph = object.__new__(type(self))
        nodes = tuple(Node(node.name, new, node.reads) for node, new in zip(self.nodes, modules, strict=True))
        same._set(nodes, self.inputs, self.output)
        return same


# ---- Written by hand -------------------------------------------------------------------------------------------------


def _named(kind: str, children: tuple[Any, ...], named: Mapping[str, Module]) -> list[tuple[str, Module]]:
    """(name, module) pairs: the given names, and "conv1", "relu1", … for modules without."""
    if len(children) == 1 and not isinstance(children[0], Module):
        children = tuple(children[0].items() if isinstance(children[0], Mapping) else children[0])
    pairs = [child if isinstance(child, tuple) else (None, child) for child in (*children, *named.items())]
    if not pairs:
        raise ValueError(f"{kind}: expected at least one module, got none")
    names: list[str] = []
    seen = Counter[str]()
    for name, child in pairs:
        if not isinstance(child, Module):
            raise TypeError(f"{kind}: expected modules, got {child!r}")
        if name is not None and (not isinstance(name, str) or not name):
            raise TypeError(f"{kind}: expected a name for {type(child).__name__}, got {name!r}")
        of_kind = type(child).__name__.lower()
        seen[of_kind] += 1
        names.append(f"{of_kind}{seen[of_kind]}" if name is None else name)
    for name, times in Counter(names).items():
        if times > 1:
            raise ValueError(f"names: {name!r} occurs twice")
    return list(zip(names, (child for _, child in pairs), strict=True))


INPUT = "input"


class Sequential(Graph):
    """One module after the other.

    `Sequential(conv, relu)` numbers its modules ("conv1", "relu1"); `Sequential(features=conv, act=relu)` names them. A
    mapping, or a list of modules or of (name, module) pairs, will do as well. The same module may stand twice.
    """

    def __init__(self, *children: Any, **named: Module):
        pairs = _named(type(self).__name__, children, named)
        inputs = _unused([name for name, _ in pairs])
        reads = (inputs, *(name for name, _ in pairs))
        nodes = tuple(Node(name, child, (read,)) for (name, child), read in zip(pairs, reads, strict=False))
        self._set(nodes, (inputs,), nodes[-1].name)

    @overload
    def __getitem__(self, key: int | str) -> Module: ...
    @overload
    def __getitem__(self, key: slice) -> Sequential: ...
    def __getitem__(self, key: int | str | slice) -> Module:
        return Sequential(list(self.items())[key]) if isinstance(key, slice) else super().__getitem__(key)

    def _said_reads(self) -> list[tuple[str, ...]]:
        return [()] * len(self.nodes)

    def of_nodes(self, nodes: Sequence[Node], inputs: tuple[str, ...], output: str) -> Graph:
        return Sequential([(node.name, node.module) for node in nodes])


def _unused(names: Sequence[str]) -> str:
    """A name for the input that no module has."""
    name = INPUT
    while name in names:
        name += "_"
    return name


class Branches(Graph):
    """Modules that all read the input, and a layer that joins what they give."""

    joint: tuple[str, type[Layer]]

    def __init__(self, *children: Any, **named: Module):
        pairs = _named(type(self).__name__, children, named)
        joint, kind = self.joint
        if joint in dict(pairs):
            raise ValueError(f"names: {joint!r} is the name of what joins the branches")
        source = _unused([name for name, _ in pairs])
        branches = tuple(Node(name, child, (source,)) for name, child in pairs)
        self._set((*branches, Node(joint, kind(), tuple(name for name, _ in pairs))), (source,), joint)

    def _said_reads(self) -> list[tuple[str, ...]]:
        return [()] * len(self.nodes)

    @property
    def branches(self) -> dict[str, Module]:
        return {node.name: node.module for node in self.nodes[:-1]}


class Joint(Layer):
    """A layer with several inputs."""

    @property
    def several_inputs(self) -> bool:
        return True

    def output_is_nonnegative(self, nonneg: tuple[bool, ...]) -> bool:
        return all(nonneg)


@dataclass(frozen=True, eq=False)
class Sum(Joint, LinearModule):
    """y = Σ_k x_k over its inputs. How a sum redistributes is a rule of its own: in proportion to x_k, by default."""

    @property
    def w(self) -> Any:
        return ONE

    @property
    def b(self) -> None:  # type: ignore[override]
        return None

    def forward(self, x: tuple[Array, ...]) -> Array:
        return super().forward(self._stack(x))

    def trace(self, x: tuple[Array, ...], nonneg: bool = False, context: Rule | Context | None = None) -> Trace:
        stacked = self._stack(x)
        rule = None if context is None else self.effective_rule(Context.of(context).rule)
        return Trace(stacked, self.apply(stacked, ONE), nonneg=nonneg, rule=rule)

    def _stack(self, x: tuple[Array, ...]) -> Array:
        """The inputs along a last axis, over which `apply` sums. In memory it is the first: whole maps are added, not pairs."""
        shapes = {tuple(part.shape) for part in x}
        if len(shapes) > 1:
            raise ValueError(f"x: Sum expects inputs of one shape, got {', '.join(map(str, sorted(shapes)))}")
        xp = namespace(*x)
        return xp.permute_dims(xp.stack(list(x)), (*range(1, x[0].ndim + 1), 0))

    def apply(self, x: Array, w: Any) -> Array:
        return namespace(x).sum(x, axis=-1)

    def apply_T(self, s: Array, w: Any, shape: Shape) -> Array:
        return namespace(s).broadcast_to(s[..., None], (*s.shape, shape[-1]))

    def effective_rule(self, rule: Rule) -> Rule:
        return proportional(rule)

    def output_shape(self, shape: Any) -> Shape:
        if any(s != shape[0] for s in shape):
            raise ValueError(f"x: Sum expects inputs of one shape, got {', '.join(map(str, shape))}")
        first: Shape = shape[0]
        return first

    def gradient(self, trace: Trace, g: Array) -> Value:
        return (g,) * trace.x.shape[-1]

    def _redistribute(self, trace: Trace, R: Array, rule: Rule, context: Context) -> Value:
        R_in = super()._redistribute(trace, R, rule, context)
        return tuple(R_in[..., k] for k in range(trace.x.shape[-1]))


@dataclass(frozen=True, eq=False)
class Concatenation(Joint, PassingLayer):
    """Its inputs side by side, along the channels or another axis of the features, counted from the end."""

    axis: int = -1

    def __post_init__(self) -> None:
        if not isinstance(self.axis, int) or self.axis >= 0:
            raise ValueError(f"axis: expected an axis counted from the end, −1 for the channels, got {self.axis!r}")

    @property
    def axes(self) -> int:  # type: ignore[override]
        return -self.axis

    def forward(self, x: tuple[Array, ...]) -> Array:
        return namespace(*x).concat(list(x), axis=self.axis)

    def output_shape(self, shape: Any) -> Shape:
        before = [tuple(s[: len(s) + self.axis]) for s in shape]
        behind = [tuple(s[len(s) + self.axis + 1 :]) for s in shape]
        if min(map(len, shape)) < self.axes or len(set(before)) > 1 or len(set(behind)) > 1:
            raise ValueError(f"x: Concatenation expects maps of one size, got {', '.join(map(str, shape))}")
        return (*before[0], sum(s[self.axis] for s in shape), *behind[0])

    def gradient(self, trace: Trace, g: Array) -> Value:
        pieces, start = [], 0
        for x in trace.x:
            stop = start + x.shape[self.axis]
            pieces.append(g[(..., slice(start, stop), *(slice(None),) * (-self.axis - 1))])
            start = stop
        return tuple(pieces)

    def _redistribute(self, trace: Trace, R: Array, rule: Rule, context: Context) -> Value:
        return self.gradient(trace, R)


class Concat(Branches):
    """The outputs of the branches side by side, along the channels: `Concat(left=conv1, right=conv2)`."""

    joint = ("concat", Concatenation)


class Add(Branches):
    """The sum of the branches' outputs, as in residual nets: `Add(Sequential(conv, relu, conv), Identity())`."""

    joint = ("sum", Sum)

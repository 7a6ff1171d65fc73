"""Nets of modules: Sequential, and Concat and Add over branches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

from ..backend import Array, namespace
from ..rules import ONE, Book, Rule, Weights
from .base import LinearModule, Module, RuleTree, Shape, Trace, proportional


class Container(Module):
    """Modules with names, in order. The same module may stand twice.

    `Sequential(conv, relu)` numbers its children ("conv1", "relu1"); `Sequential(features=conv, act=relu)` names them;
    a mapping, or a list of modules or of (name, module) pairs, will do as well.
    """

    children: tuple[Module, ...]
    names: tuple[str, ...]

    def __init__(self, *children: Any, **named: Module):
        if len(children) == 1 and not isinstance(children[0], Module):
            children = tuple(children[0].items() if isinstance(children[0], Mapping) else children[0])
        pairs = [child if isinstance(child, tuple) else (None, child) for child in (*children, *named.items())]
        for name, child in pairs:
            if not isinstance(child, Module):
                raise TypeError(f"{type(self).__name__}: expected modules, got {child!r}")
            if name is not None and (not isinstance(name, str) or not name):
                raise TypeError(f"{type(self).__name__}: expected a name for {type(child).__name__}, got {name!r}")
        if not pairs:
            raise ValueError(f"{type(self).__name__}: expected at least one module, got none")
        object.__setattr__(self, "children", tuple(child for _, child in pairs))
        object.__setattr__(self, "names", _number(pairs))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is frozen: make another one")

    def __len__(self) -> int:
        return len(self.children)

    def __iter__(self) -> Iterator[Module]:
        return iter(self.children)

    def items(self) -> Iterator[tuple[str, Module]]:
        """(name, module) in order."""
        return zip(self.names, self.children, strict=True)

    @overload
    def __getitem__(self, key: int | str) -> Module: ...
    @overload
    def __getitem__(self, key: slice) -> Container: ...
    def __getitem__(self, key: int | str | slice) -> Module:
        """A child by position or name, or the part of the net in a slice."""
        if isinstance(key, slice):
            return type(self)(list(self.items())[key])
        if isinstance(key, str):
            if key not in self.names:
                raise KeyError(f"no module {key!r} here; there are {', '.join(self.names)}")
            return self.children[self.names.index(key)]
        return self.children[key]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={child!r}' for name, child in self.items())})"

    @property
    def input_axes(self) -> int | None:
        return next((n for n in (child.input_axes for child in self.children) if n is not None), None)

    def map(self, f: Callable[[Array], Array]) -> Module:
        return type(self)([(name, child.map(f)) for name, child in self.items()])

    def rules_for(self, rule: RuleTree) -> Sequence[RuleTree]:
        """One rule tree for each child: `rule` itself, if it is a rule for all alike."""
        return _one_for_each(rule, len(self.children), "modules")


def _one_for_each(rule: RuleTree, n: int, what: str) -> Sequence[RuleTree]:
    if rule is None or isinstance(rule, Rule):
        return [rule] * n
    if not isinstance(rule, (list, tuple)):
        raise TypeError(f"rule: expected a rule, or one for each of {n} {what}, got {rule!r}")
    if len(rule) != n:
        raise ValueError(f"rule: expected one for each of {n} {what}, got {len(rule)}")
    return rule


def _number(pairs: Iterable[tuple[str | None, Module]]) -> tuple[str, ...]:
    """The given names, and "conv1", "relu1", … for modules without. Raises ValueError if one occurs twice."""
    names: list[str] = []
    seen: dict[str, int] = {}
    for name, child in pairs:
        kind = type(child).__name__.lower()
        seen[kind] = seen.get(kind, 0) + 1
        names.append(f"{kind}{seen[kind]}" if name is None else name)
    for name, times in Counter(names).items():
        if times > 1:
            raise ValueError(f"names: {name!r} occurs twice")
    return tuple(names)


def join(name: str, child: str) -> str:
    """The name of a child: "block1/conv1"."""
    return f"{name}/{child}" if name else child


def at(book: Book | None, name: str) -> Book | None:
    return None if book is None else book.at(name)


class Sequential(Container):
    """One module after the other."""

    def forward(self, x: Array) -> Array:
        for child in self.children:  # without a trace, which would keep every activation
            x = child.forward(x)
        return x

    def trace(self, x: Array, nonneg: bool = False, rule: RuleTree = None) -> Trace:
        first, known, children = x, nonneg, []
        for child, r in zip(self.children, self.rules_for(rule), strict=True):
            t = child.trace(x, known, r)
            x, known = t.y, child.keeps_sign(known)
            children.append(t.passed_on())
        return Trace(first, x, tuple(children), nonneg)

    def keeps_sign(self, nonneg: bool) -> bool:
        for child in self.children:
            nonneg = child.keeps_sign(nonneg)
        return nonneg

    def output_shape(self, shape: Shape) -> Shape:
        for child in self.children:
            shape = child.output_shape(shape)
        return shape

    def gradient(self, trace: Trace, g: Array) -> Array:
        for child, t in zip(self.children[::-1], trace.children[::-1], strict=True):
            g = child.gradient(t, g)
        return g

    def relprop(self, trace: Trace, R: Array, rule: RuleTree, book: Book | None = None) -> Array:
        steps = list(zip(self.names, self.children, trace.children, self.rules_for(rule), strict=True))
        trace.let_go()
        for name, child, t, r in reversed(steps):
            R = child.relprop(t, R, r, at(book, name))
        return R


class Branches(Container):
    """Modules that all read the same x. Relevance that reaches x over several branches adds up."""

    def forward(self, x: Array) -> Array:
        return self._merge([child.forward(x) for child in self.children])

    def _merge(self, ys: list[Array]) -> Array:
        raise NotImplementedError

    def _shapes(self, shape: Shape) -> list[Shape]:
        return [child.output_shape(shape) for child in self.children]


class Concat(Branches):
    """The outputs of the branches side by side, along the channels."""

    def trace(self, x: Array, nonneg: bool = False, rule: RuleTree = None) -> Trace:
        children = tuple(child.trace(x, nonneg, r) for child, r in zip(self.children, self.rules_for(rule), strict=True))
        return Trace(x, self._merge([t.y for t in children]), children, nonneg)

    def _merge(self, ys: list[Array]) -> Array:
        return namespace(*ys).concat(ys, axis=-1)

    def keeps_sign(self, nonneg: bool) -> bool:
        return all(child.keeps_sign(nonneg) for child in self.children)

    def output_shape(self, shape: Shape) -> Shape:
        shapes = self._shapes(shape)
        if any(s[:-1] != shapes[0][:-1] for s in shapes):
            raise ValueError(f"x: Concat's branches give maps that differ, {', '.join(map(str, shapes))}")
        return (*shapes[0][:-1], sum(s[-1] for s in shapes))

    def _pieces(self, trace: Trace, R: Array) -> list[Array]:
        if R.shape[-1] != trace.y.shape[-1]:
            wanted = tuple(trace.y.shape)
            raise ValueError(f"R: expected the relevance of Concat's output, {wanted}, got {tuple(R.shape)}")
        pieces, start = [], 0
        for t in trace.children:
            pieces.append(R[..., start : start + t.y.shape[-1]])
            start += t.y.shape[-1]
        return pieces

    def gradient(self, trace: Trace, g: Array) -> Array:
        pieces = zip(self.children, trace.children, self._pieces(trace, g), strict=True)
        return _add_up([child.gradient(t, piece) for child, t, piece in pieces])

    def relprop(self, trace: Trace, R: Array, rule: RuleTree, book: Book | None = None) -> Array:
        pieces = self._pieces(trace, R)
        trace.let_go()
        steps = zip(self.names, self.children, trace.children, self.rules_for(rule), pieces, strict=True)
        return _add_up([child.relprop(t, piece, r, at(book, name)) for name, child, t, r, piece in steps])


@dataclass(frozen=True, eq=False)
class Sum(LinearModule):
    """Σ over the last axis, on which `Add` stacks what its branches give: how an Add shares is a rule of its own."""

    w: Any = ONE
    b = None

    def apply(self, x: Array, w: Weights) -> Array:
        return namespace(x).sum(x, axis=-1)

    def apply_T(self, s: Array, w: Weights, shape: Shape) -> Array:
        return namespace(s).broadcast_to(s[..., None], (*s.shape, shape[-1]))

    def takes(self, rule: Rule) -> Rule:
        return proportional(rule)

    def keeps_sign(self, nonneg: bool) -> bool:
        return nonneg

    def output_shape(self, shape: Shape) -> Shape:
        return shape[:-1]


class Add(Branches):
    """The sum of the branches' outputs, as in residual nets: `Add(Sequential(conv, relu, conv), Identity())`.

    The last entry in its rule tree is for the sum itself, which shares in proportion to what each branch gave.
    """

    join = Sum()

    def trace(self, x: Array, nonneg: bool = False, rule: RuleTree = None) -> Trace:
        *of_branches, of_sum = self.rules_for(rule)
        children = [child.trace(x, nonneg, r) for child, r in zip(self.children, of_branches, strict=True)]
        known = all(child.keeps_sign(nonneg) for child in self.children)
        total = self.join.trace(self._stack([t.y for t in children]), known, of_sum)
        return Trace(x, total.y, (*children, total), nonneg)

    def _merge(self, ys: list[Array]) -> Array:
        return self.join.forward(self._stack(ys))

    def _stack(self, ys: list[Array]) -> Array:
        shapes = {tuple(y.shape) for y in ys}
        if len(shapes) > 1:
            raise ValueError(f"x: Add's branches give shapes that differ, {sorted(shapes)}")
        return namespace(*ys).stack(ys, axis=-1)

    def keeps_sign(self, nonneg: bool) -> bool:
        return all(child.keeps_sign(nonneg) for child in self.children)

    def output_shape(self, shape: Shape) -> Shape:
        shapes = self._shapes(shape)
        if any(s != shapes[0] for s in shapes):
            raise ValueError(f"x: Add's branches give shapes that differ, {', '.join(map(str, shapes))}")
        return shapes[0]

    def gradient(self, trace: Trace, g: Array) -> Array:
        return _add_up([child.gradient(t, g) for child, t in zip(self.children, trace.children[:-1], strict=True)])

    def rules_for(self, rule: RuleTree) -> Sequence[RuleTree]:
        """One rule tree for each branch, and the rule of the sum."""
        return _one_for_each(rule, len(self.children) + 1, "branches and the sum")

    def relprop(self, trace: Trace, R: Array, rule: RuleTree, book: Book | None = None) -> Array:
        *of_branches, of_sum = self.rules_for(rule)
        trace.let_go()
        R_sum = self.join.relprop(trace.children[-1], R, of_sum, at(book, "sum"))
        steps = zip(self.names, self.children, trace.children[:-1], of_branches, strict=True)
        return _add_up([child.relprop(t, R_sum[..., k], r, at(book, name)) for k, (name, child, t, r) in enumerate(steps)])


def _add_up(arrays: Sequence[Array]) -> Array:
    y = arrays[0]
    for a in arrays[1:]:
        y = y + a
    return y

"""One input, several classes, several methods: what they have in common is done once.

All share the forward pass. Composites that agree from the output down to some layer are one until there (LRP_CMP with and
without ♭ differ in the first layer only). Relevances that meet the same rule in a layer go through it side by side, so
that its denominators are computed once. The numbers are those of the methods by themselves up to rounding; no ledger is
kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .. import backend
from ..attribution import LRP, Method
from ..attribution.backward import NO_RULES, Walk
from ..backend import Array, namespace, to_numpy
from ..io import Model
from ..modules import Add, Concat, Module, Sequential, Trace, fuse
from ..modules.base import PassingLayer, RuleTree
from ..modules.container import Container
from ..rules import AlphaBeta, Rule

TARGETS = 4  # classes that walk back beside each other: of more, the maps of a large net would not fit into memory


def attribute(model: Model, x: Array, targets: Sequence[int], methods: Sequence[Method]) -> tuple[Array, list[Array]]:
    """The logits (target) of one input x, as NumPy's; and R (target, …) by each of the methods."""
    net = fuse(model.net)
    trees = {k: m.composite.resolve(net, tuple(x.shape)).tree for k, m in enumerate(methods) if isinstance(m, LRP)}
    split = [k for k, tree in trees.items() if _splits(tree)]
    plain = [k for k in trees if k not in split]
    trace = net.trace(x[None, ...])
    rich = net.trace(x[None, ...], rule=_richest([trees[k] for k in split])) if split else trace
    found: list[list[Array]] = [[] for _ in methods]
    for first in range(0, len(targets), TARGETS):
        some = list(targets[first : first + TARGETS])
        for along, members in ((trace, plain), (rich, split)):
            if not members:
                continue
            starts = {name: start(along.y, some, name) for name in ("logit", "one")}
            Rs = [starts[methods[k].start] for k in members]  # type: ignore[attr-defined]
            for k, R in zip(members, walk_back(net, along, Rs, [trees[k] for k in members]), strict=True):
                found[k].append(R)
        for k, method in enumerate(methods):
            if isinstance(method, Walk):
                found[k].append(_walk(method, net, trace, some))
            elif k not in trees:
                found[k].append(method(net, x, some))
    relevances = [parts[0] if len(parts) == 1 else namespace(*parts).concat(parts, axis=0) for parts in found]
    return to_numpy(trace.y)[0, list(targets)], relevances


def start(y: Array, targets: Sequence[int], name: str = "logit") -> Array:
    """(target, class) from the logits y (1, class): each target's own, or 1, and 0 elsewhere."""
    one_hot = backend.beside(np.asarray(targets)[:, None] == np.arange(y.shape[-1]), y)
    return namespace(y).where(one_hot, y if name == "logit" else backend.ones((), y), backend.zeros((), y))


def _walk(method: Walk, net: Module, trace: Trace, targets: Sequence[int]) -> Array:
    """R (target, …) by a method that is `net` with other steps back; along the trace of `net`, where it is no more."""
    walked = method.rewired(net)
    if not (isinstance(net, Container) and isinstance(walked, Container) and walked.names == net.names):
        trace = walked.trace(trace.x)
    rules = NO_RULES.resolve(walked, tuple(trace.x.shape[1:])).tree
    return walked.relprop(trace, start(trace.y, targets, method.start), rules)


# ---- A trace that serves several composites ---------------------------------------------------------------------------


def _splits(tree: RuleTree) -> bool:
    """Whether some rule is αβ in two parts. These come with y in one product, of which y is the sum: but for rounding, so
    that such a trace is for αβ alone."""
    if isinstance(tree, Rule):
        return isinstance(tree, AlphaBeta) and (tree.alpha not in (0, 1) or tree.renormalize)
    return any(_splits(branch) for branch in tree)


def _richest(trees: Sequence[RuleTree]) -> RuleTree:
    """One rule for each layer to trace by: αβ in two parts where a composite has it."""
    if isinstance(trees[0], Rule):
        return next(filter(_splits, trees), trees[0])
    return tuple(_richest(branches) for branches in zip(*trees, strict=True))


# ---- The way back ----------------------------------------------------------------------------------------------------


def walk_back(net: Module, trace: Trace, R: Sequence[Array], trees: Sequence[RuleTree]) -> list[Array]:
    """The relevances of the input of `net`, one for each pair of a relevance of its output, (target, …), and rules.

    What is one and the same array in R, and meets the same rules, is one and the same array in what comes out.
    """
    if not isinstance(net, Container):
        return _through(net, trace, R, trees)
    columns = [list(column) for column in zip(*trees, strict=True)]  # for each child: its rules in all trees
    if isinstance(net, Sequential):
        R = list(R)
        for child, t, rules in reversed(list(zip(net, trace.children, columns, strict=True))):
            R = walk_back(child, t, R, rules)
        return R
    if isinstance(net, Add):
        sums = _through(net.join, trace.children[-1], R, columns[-1])
        given = [_each(lambda a, k=k: a[..., k], sums) for k in range(len(net))]
    elif isinstance(net, Concat):
        ends = np.cumsum([0, *(t.y.shape[-1] for t in trace.children)]).tolist()
        given = [_each(lambda a, k=k: a[..., ends[k] : ends[k + 1]], R) for k in range(len(net))]
    else:
        raise TypeError(f"net: expected Sequential, Concat or Add, got {type(net).__name__}")
    children: Sequence[Module] = list(net)
    taken = [walk_back(c, t, r, rules) for c, t, r, rules in zip(children, trace.children, given, columns, strict=False)]
    return _each(lambda *branches: sum(branches[1:], branches[0]), *taken)


def _through(layer: Module, trace: Trace, R: Sequence[Array], rules: Sequence[Rule]) -> list[Array]:
    """`layer.relprop` of every R by its rule: equal questions are asked once, and those of a rule side by side."""
    asked: dict[Rule, dict[int, Array]] = {}
    for r, rule in zip(R, rules, strict=True):
        asked.setdefault(layer.takes(rule), {})[id(r)] = r
    answers: dict[tuple[Rule, int], Array] = {}
    for rule, questions in asked.items():
        several = list(questions.values())
        if len(several) == 1 or isinstance(layer, PassingLayer):  # nothing to share that would be worth a copy
            answers.update({(rule, id(r)): layer.relprop(trace, r, rule) for r in several})
            continue
        R_in, row = layer.relprop(trace, namespace(*several).concat(several, axis=0), rule), 0
        for r in several:
            answers[rule, id(r)] = R_in[row : row + r.shape[0], ...]
            row += r.shape[0]
    return [answers[layer.takes(rule), id(r)] for r, rule in zip(R, rules, strict=True)]


def _each(f: Callable[..., Array], *lists: Sequence[Array]) -> list[Array]:
    """f of the first arrays, of the second, …; once for what is one and the same."""
    known: dict[tuple[int, ...], Array] = {}
    for arrays in zip(*lists, strict=True):
        key = tuple(map(id, arrays))
        if key not in known:
            known[key] = f(*arrays)
    return [known[tuple(map(id, arrays))] for arrays in zip(*lists, strict=True)]

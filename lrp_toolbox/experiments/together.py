"""One input, several classes, several composites: what they have in common is done once.

All share the forward pass. Composites that agree from the output down to some layer are one until there (LRP_CMP with and
without ♭ differ in the first layer only). Relevances that meet the same rule in a layer go through it side by side, so
that its denominators are computed once. The numbers are those of `explain`, which does one composite at a time, up to
rounding; no ledger is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .. import backend
from ..backend import Array, namespace
from ..composites import Composite
from ..modules import Add, Concat, Module, Sequential, Trace, fuse
from ..modules.base import PassingLayer, RuleTree
from ..modules.container import Container
from ..rules import AlphaBeta, Rule

TARGETS = 4  # classes that walk back beside each other; more would not fit into memory for large nets


def relevances(net: Module, x: Array, targets: Sequence[int], composites: Sequence[Composite]) -> list[Array]:
    """R, (target, …), of one input x for each composite, every one from the logit of the target."""
    net = fuse(net)
    trees = [composite.resolve(net, tuple(x.shape)).tree for composite in composites]
    found: list[Array] = [None] * len(trees)
    for split in (False, True):  # traces with the two parts of αβ, whose sum is y but for rounding, are for αβ alone
        members = [k for k, tree in enumerate(trees) if _splits(tree) == split]
        if not members:
            continue
        mine = [trees[k] for k in members]
        trace = net.trace(x[None, ...], rule=_richest(mine))
        pieces = []
        for first in range(0, len(targets), TARGETS):
            R = start(trace.y, targets[first : first + TARGETS])
            pieces.append(walk_back(net, trace, [R] * len(mine), mine))
        for k, parts in zip(members, zip(*pieces, strict=True), strict=True):
            found[k] = parts[0] if len(parts) == 1 else namespace(*parts).concat(list(parts), axis=0)
    return found


def start(y: Array, targets: Sequence[int]) -> Array:
    """(target, class) from the logits y (1, class): each target's own, and 0 elsewhere."""
    one_hot = backend.beside(np.asarray(targets)[:, None] == np.arange(y.shape[-1]), y)
    return namespace(y).where(one_hot, y, backend.zeros((), y))


# ---- Traces that serve several composites ----------------------------------------------------------------------------


def _splits(tree: RuleTree) -> bool:
    """Whether some rule of the tree is αβ in two parts, which come with the forward pass in one product."""
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

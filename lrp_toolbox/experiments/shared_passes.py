"""One input, several classes, several methods: common work is done once.

All methods share the forward pass. Composites with the same rules from the output down to some layer share the backward pass
down to this layer (LRP_CMP with and without ♭ differ in the first layer only). Relevances that have the same rule in a layer
go through it as one array, so that its denominators are computed once. Each method gives the same numbers as alone, up to
rounding; there is no ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..attribution import LRP, Method
from ..attribution.backward import NO_RULES, Walk
from ..backend import Array, namespace, to_numpy
from ..composites import RuleTable
from ..context import join
from ..inputs import start_relevance
from ..io import Model
from ..modules import Graph, Layer, Module, Trace, fuse
from ..modules.base import PassingLayer
from ..rules import AlphaBeta, Rule

TARGETS = 4  # classes in one backward pass; with more, the maps of a large net would not fit into memory
Rules = Mapping[str, Rule]


def attribute(model: Model, x: Array, targets: Sequence[int], methods: Sequence[Method]) -> tuple[Array, list[Array]]:
    """The logits (target) of one input x, as a NumPy array; and R (target, …) by each of the methods."""
    net = fuse(model.net)
    tables = {k: m.composite.resolve(net, tuple(x.shape)) for k, m in enumerate(methods) if isinstance(m, LRP)}
    split = [k for k, table in tables.items() if any(map(_splits, table.rules))]
    plain = [k for k in tables if k not in split]
    trace = net.trace(x[None, ...])
    rich = net.trace(x[None, ...], context=_richest([tables[k] for k in split]).context()) if split else trace
    found: list[list[Array]] = [[] for _ in methods]
    for first in range(0, len(targets), TARGETS):
        some = np.asarray(targets[first : first + TARGETS])
        for along, members in ((trace, plain), (rich, split)):
            if not members:
                continue
            starts = {name: start_relevance(along.y, some, name) for name in ("logit", "one")}
            Rs = [starts[methods[k].start] for k in members]  # type: ignore[attr-defined]
            contexts = [tables[k].context() for k in members]
            found_here = walk_back(net, along, Rs, [context.rules for context in contexts], contexts[0].name)  # type: ignore[misc]
            for k, R in zip(members, found_here, strict=True):
                found[k].append(R)
        for k, method in enumerate(methods):
            if isinstance(method, Walk):
                found[k].append(_walk(method, net, trace, some))
            elif k not in tables:
                found[k].append(method(net, x, some.tolist()))
    relevances = [parts[0] if len(parts) == 1 else namespace(*parts).concat(parts, axis=0) for parts in found]
    return to_numpy(trace.y)[0, list(targets)], relevances


def _walk(method: Walk, net: Module, trace: Trace, targets: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Array:
    """R (target, …) by a method that is `net` with other steps back; along the trace of `net`, if it has the same nodes."""
    walked = method.rewired(net)
    if not (isinstance(net, Graph) and isinstance(walked, Graph) and walked.names == net.names):
        trace = walked.trace(trace.x)
    context = NO_RULES.resolve(walked, tuple(trace.x.shape[1:])).context()
    return walked.relprop(trace, start_relevance(trace.y, targets, method.start), context)


# ---- A trace that serves several composites ---------------------------------------------------------------------------


def _splits(rule: Rule) -> bool:
    """Whether the rule is αβ in two parts. Its denominators come with y in one product, and y is their sum: this rounds
    differently, so that such a trace is for αβ only."""
    return isinstance(rule, AlphaBeta) and (rule.alpha not in (0, 1) or rule.renormalize)


def _richest(tables: Sequence[RuleTable]) -> RuleTable:
    """One rule for each layer to trace by: αβ in two parts where a composite has it."""
    rules = [next(filter(_splits, of_layer), of_layer[0]) for of_layer in zip(*(t.rules for t in tables), strict=True)]
    return RuleTable("richest", tables[0].layers, tuple(rules), tables[0].root)


# ---- The way back ----------------------------------------------------------------------------------------------------


def walk_back(net: Module, trace: Trace, R: Sequence[Array], rules: Sequence[Rules], name: str = "") -> list[Array]:
    """The relevances of the input of `net`, one for each pair of a relevance of its output, (target, …), and rules.

    Arrays of R that are the same object, and meet the same rules, give the same object.
    """
    if isinstance(net, Layer):
        return _through(net, trace, R, [of_layer[name] for of_layer in rules])
    assert isinstance(net, Graph)
    arrived: dict[str, Sequence[Array]] = {net.output: R}
    for node, t in zip(reversed(net.nodes), reversed(trace.children), strict=True):
        R_in = walk_back(node.module, t, arrived.pop(node.name), rules, join(name, node.name))
        for k, value in enumerate(node.reads):
            part = _each(lambda r, k=k: r[k], R_in) if node.module.several_inputs else R_in
            arrived[value] = _each(lambda a, b: a + b, arrived[value], part) if value in arrived else part
    return list(arrived[net.inputs[0]])


def _through(layer: Layer, trace: Trace, R: Sequence[Array], rules: Sequence[Rule]) -> list[Array]:
    """`layer.relprop` of every R by its rule: the same question is asked once, and those of one rule together."""
    asked: dict[Rule, dict[int, Array]] = {}
    for r, rule in zip(R, rules, strict=True):
        asked.setdefault(layer.effective_rule(rule), {})[id(r)] = r
    answers: dict[tuple[Rule, int], Array] = {}
    for rule, questions in asked.items():
        several = list(questions.values())
        if len(several) == 1 or isinstance(layer, PassingLayer):  # nothing to share that would be worth a copy
            answers.update({(rule, id(r)): layer.relprop(trace, r, rule) for r in several})
            continue
        R_in, row = layer.relprop(trace, namespace(*several).concat(several, axis=0), rule), 0
        for r in several:
            rows = slice(row, row + r.shape[0])
            answers[rule, id(r)] = tuple(part[rows, ...] for part in R_in) if layer.several_inputs else R_in[rows, ...]
            row += r.shape[0]
    return [answers[layer.effective_rule(rule), id(r)] for r, rule in zip(R, rules, strict=True)]


def _each(f: Callable[..., Array], *lists: Sequence[Array]) -> list[Array]:
    """f of the first arrays, of the second, …; once for the same objects."""
    known: dict[tuple[int, ...], Array] = {}
    for arrays in zip(*lists, strict=True):
        key = tuple(map(id, arrays))
        if key not in known:
            known[key] = f(*arrays)
    return [known[tuple(map(id, arrays))] for arrays in zip(*lists, strict=True)]

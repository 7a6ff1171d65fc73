"""One photograph in one model: one forward pass, then as many explanations as are asked for.

A slider changes the rules of some layers. The relevance of the layers above them stays the same, and so does their part of
the ledger: an explanation starts at the first layer whose rule is new. The forward pass computes y_j as z⁺_j + z⁻_j. The
denominators of every rule except ♭, w² and zᴮ follow from these two, for every α and every γ.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import add

import numpy as np

from ..backend import Array
from ..composites import Composite, RuleTable
from ..context import Context
from ..data.photos import Photo
from ..io import Model
from ..kernels import elementwise
from ..ledger import Entry, Ledger, Recorder
from ..modules import Conv, Graph, Module, Sequential, Trace, fuse
from ..rules import AlphaBeta, Gamma, Rule, ZPlus


def in_steps(model: Model) -> Model:
    """The model as a `Session` needs it: batch normalisation is merged, and the net is a Graph, whose nodes are the steps."""
    net = fuse(model.net)
    return replace(model, net=net if isinstance(net, Graph) else Sequential(net=net))


@dataclass(frozen=True, eq=False)
class Step:
    """One node of the net on the way back: the rules of its layers, the relevance that has arrived, and its ledger entries."""

    rules: tuple[Rule, ...]
    arrived: dict[str, Array]
    entries: list[Entry]


class Session:
    """A photograph in a model that `in_steps` returned. Only one thread at a time may use it."""

    def __init__(self, model: Model, photo: Photo):
        assert isinstance(model.net, Graph)
        self.net: Graph = model.net
        self.x = model.prepare(photo)
        self._trace = self.net.trace(self.x[None, ...], context=AlphaBeta())  # computes [z⁺_j, z⁻_j] of all convolutions
        self.y = self._trace.y[0]
        self._target = -1
        self._steps: list[Step] = []  # of the last explanation, from the output down

    def explain(
        self, target: int, composite: Composite, proceed: Callable[[], None] = lambda: None
    ) -> tuple[Array, Ledger, RuleTable]:
        """R in the shape of x, its ledger, and the rule of each layer, as `lrp_toolbox.explain` returns them.

        `proceed` is called before each step and may raise an exception. The next call reuses the steps that were finished.
        """
        table = composite.resolve(self.net, self.x.shape)
        way = list(zip(self.net.nodes, self._trace.children, strict=True))[::-1]
        rules = [tuple(table[name] for name, _ in node.module.walk(node.name)) for node, _ in way]
        if target != self._target:
            self._target, self._steps = target, []
        while [step.rules for step in self._steps] != rules[: len(self._steps)]:
            self._steps.pop()

        start = np.where(np.arange(self.y.size) == target, self.y, self.y.dtype.type(0))[None, :]
        arrived = dict(self._steps[-1].arrived) if self._steps else {self.net.output: start}
        for (node, trace), of_node in list(zip(way, rules, strict=True))[len(self._steps) :]:
            proceed()
            recorder = Recorder(lead=1)
            context = table.context(recorder).inside(node.name)
            filled = _with_denominators(node.module, trace, context)
            node.send_back(node.module.relprop(filled, arrived.pop(node.name), context), arrived)
            self._steps.append(Step(of_node, dict(arrived), recorder.entries))
        entries = [entry for step in self._steps for entry in step.entries]
        R = arrived[self.net.inputs[0]]
        return R[0], Recorder(lead=1, entries=entries).ledger(start, R)[0], table


def _with_denominators(module: Module, trace: Trace, context: Context) -> Trace:
    """The trace of `module` with the denominators that the rules need wherever [z⁺_j, z⁻_j] are known."""
    if isinstance(module, Graph):
        nodes = zip(module.nodes, trace.children, strict=True)
        return replace(trace, children=[_with_denominators(node.module, t, context.inside(node.name)) for node, t in nodes])
    if not isinstance(module, Conv) or trace.z is None:
        return trace
    rule = context.rule
    if rule.uses_output:
        trace = replace(trace, y=elementwise(add, *module.separate(trace.z, 2)))
    if isinstance(rule, (AlphaBeta, ZPlus, Gamma)) and _uses_both_halves(rule):
        trace = replace(trace, rule=rule, z=_denominators(module, rule, trace.y, trace.z))
    return trace


def _uses_both_halves(rule: AlphaBeta | ZPlus | Gamma) -> bool:
    """Whether the rule divides by z⁺_j and z⁻_j, each with its part of the bias."""
    return rule.bias != "ignore" and not getattr(rule, "renormalize", False)


def _denominators(layer: Conv, rule: AlphaBeta | ZPlus | Gamma, y: Array, halves: Array) -> Array:
    """The denominators of the parts of `rule`, joined (see `Rule.parts`), from `halves`, [z⁺_j, z⁻_j], and their sum y."""
    act, inh = layer.separate(halves, 2)
    if isinstance(rule, Gamma):
        return layer.join([y + rule.gamma * act, y + rule.gamma * inh])
    if isinstance(rule, AlphaBeta) and rule.alpha != 1:
        return halves if rule.alpha else inh
    return act

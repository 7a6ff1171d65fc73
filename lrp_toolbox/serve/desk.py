"""A photograph on a desk: one forward pass, and as many ways back as are asked for, each from where it differs.

Moving a slider changes the rules of some layers. Relevance that came down to these, and the ledger of the layers above,
are what they were. And the forward pass computes y_j as z⁺_j + z⁻_j: from these follow the denominators of every rule but
♭, w² and zᴮ, for every α and every γ.
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


def settled(model: Model) -> Model:
    """The model as a `Desk` takes it: batch normalisation merged, and a Graph, whose nodes are the steps back."""
    net = fuse(model.net)
    return replace(model, net=net if isinstance(net, Graph) else Sequential(net=net))


@dataclass(frozen=True, eq=False)
class Step:
    """The way back through one node of the net: the rules of its layers, the relevance that has arrived, and the ledger."""

    rules: tuple[Rule, ...]
    arrived: dict[str, Array]
    entries: list[Entry]


class Desk:
    """A photograph as a `settled` model sees it. Belongs to one thread at a time."""

    def __init__(self, model: Model, photo: Photo):
        assert isinstance(model.net, Graph)
        self.net: Graph = model.net
        self.x = model.prepare(photo)
        self._trace = self.net.trace(self.x[None, ...], context=AlphaBeta())  # for [z⁺_j, z⁻_j] of all convolutions
        self.y = self._trace.y[0]
        self._target = -1
        self._steps: list[Step] = []  # of the last way back, from the output down

    def explain(
        self, target: int, composite: Composite, proceed: Callable[[], None] = lambda: None
    ) -> tuple[Array, Ledger, RuleTable]:
        """R in the shape of x, its ledger, and which layer followed which rule: as `lrp_toolbox.explain` has them.

        `proceed` is called before each step. If it raises, the steps so far are there for the next question.
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
            informed = _informed(node.module, trace, context)
            node.send_back(node.module.relprop(informed, arrived.pop(node.name), context), arrived)
            self._steps.append(Step(of_node, dict(arrived), recorder.entries))
        entries = [entry for step in self._steps for entry in step.entries]
        R = arrived[self.net.inputs[0]]
        return R[0], Recorder(lead=1, entries=entries).ledger(start, R)[0], table


def _informed(module: Module, trace: Trace, context: Context) -> Trace:
    """The trace of `module` with the denominators that the rules will ask for, where [z⁺_j, z⁻_j] are known."""
    if isinstance(module, Graph):
        nodes = zip(module.nodes, trace.children, strict=True)
        return replace(trace, children=[_informed(node.module, t, context.inside(node.name)) for node, t in nodes])
    if not isinstance(module, Conv) or trace.z is None:
        return trace
    rule = context.rule
    if rule.uses_output:
        trace = replace(trace, y=elementwise(add, *module.separate(trace.z, 2)))
    if isinstance(rule, (AlphaBeta, ZPlus, Gamma)) and _is_usual(rule):
        trace = replace(trace, rule=rule, z=_denominators(module, rule, trace.y, trace.z))
    return trace


def _is_usual(rule: AlphaBeta | ZPlus | Gamma) -> bool:
    """Whether z⁺_j and z⁻_j, which have their parts of the bias, are what the rule is about."""
    return rule.bias != "ignore" and not getattr(rule, "renormalize", False)


def _denominators(layer: Conv, rule: AlphaBeta | ZPlus | Gamma, y: Array, halves: Array) -> Array:
    """What the parts of `rule` are divided by, joined (see `Rule.parts`), from `halves`, [z⁺_j, z⁻_j], and their sum."""
    act, inh = layer.separate(halves, 2)
    if isinstance(rule, Gamma):
        return layer.join([y + rule.gamma * act, y + rule.gamma * inh])
    if isinstance(rule, AlphaBeta) and rule.alpha != 1:
        return halves if rule.alpha else inh
    return act

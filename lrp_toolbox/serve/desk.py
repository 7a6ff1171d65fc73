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

from ..backend import Array, elementwise
from ..composites import Composite, RuleTable
from ..data.photos import Photo
from ..io import Model
from ..ledger import Entry, Ledger, Recorder
from ..modules import Conv, Module, Sequential, Trace, fuse
from ..modules.base import RuleTree
from ..modules.container import Container
from ..rules import AlphaBeta, Gamma, ZPlus


def settled(model: Model) -> Model:
    """The model as a `Desk` takes it: batch normalisation merged, and a Sequential, whose children are the steps back."""
    net = fuse(model.net)
    return replace(model, net=net if isinstance(net, Sequential) else Sequential(net=net))


@dataclass(frozen=True, eq=False)
class Step:
    """The way back through one child of the net: the rules it followed, R of its input, and what was entered."""

    rules: RuleTree
    R: Array
    entries: list[Entry]


class Desk:
    """A photograph as a `settled` model sees it. Belongs to one thread at a time."""

    def __init__(self, model: Model, photo: Photo):
        assert isinstance(model.net, Sequential)
        self.net: Sequential = model.net
        self.x = model.prepare(photo)
        self._trace = self.net.trace(self.x[None, ...], rule=AlphaBeta())  # for [z⁺_j, z⁻_j] of all convolutions
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
        rules = list(self.net.rules_for(table.tree))[::-1]
        if target != self._target:
            self._target, self._steps = target, []
        while [step.rules for step in self._steps] != rules[: len(self._steps)]:
            self._steps.pop()

        start = np.where(np.arange(self.y.size) == target, self.y, self.y.dtype.type(0))[None, :]
        R = self._steps[-1].R if self._steps else start
        way = list(zip(self.net.names, self.net.children, self._trace.children, strict=True))[::-1]
        for (name, child, trace), rule in list(zip(way, rules, strict=True))[len(self._steps) :]:
            proceed()
            recorder = Recorder(lead=1)
            R = child.relprop(_informed(child, trace, rule), R, rule, recorder.book(name))
            self._steps.append(Step(rule, R, recorder.entries))
        entries = [entry for step in self._steps for entry in step.entries]
        return R[0], Recorder(lead=1, entries=entries).close(start, R)[0], table


def _informed(module: Module, trace: Trace, rules: RuleTree) -> Trace:
    """The trace of `module` with the denominators that `rules` will ask for, where [z⁺_j, z⁻_j] are known."""
    if isinstance(module, Container):
        branches = zip(module, trace.children, module.rules_for(rules), strict=False)  # the sum of an Add has no branch
        informed = [_informed(child, t, rule) for child, t, rule in branches]
        return replace(trace, children=(*informed, *trace.children[len(informed) :]))
    if not isinstance(module, Conv) or trace.z is None:
        return trace
    if rules.reads_y:
        trace = replace(trace, y=elementwise(add, *module.separate(trace.z, 2)))
    if isinstance(rules, (AlphaBeta, ZPlus, Gamma)) and _is_usual(rules):
        trace = replace(trace, rule=rules, z=_denominators(module, rules, trace.y, trace.z))
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

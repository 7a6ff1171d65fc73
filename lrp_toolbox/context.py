"""What goes down a net beside the relevance: where the walk is, which rule each layer follows, and the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .backend import Array, Value
from .ledger import Recorder
from .rules import Rule


@dataclass(frozen=True)
class Context:
    """The layer that a walk is at, and what holds for the whole walk.

    rules      a rule for every layer, or one for each by its name
    recorder   what writes the ledger; None for none
    release    whether activations may be freed once relevance has passed them (the trace is used up)
    name       of the module that the walk is at, "block1/conv1"
    """

    rules: Rule | Mapping[str, Rule]
    recorder: Recorder | None = None
    release: bool = False
    name: str = ""

    @staticmethod
    def of(rule: Rule | Context) -> Context:
        """A context for a rule that all layers follow; a context as it is. Raises TypeError for anything else."""
        if isinstance(rule, Context):
            return rule
        if not isinstance(rule, Rule):
            raise TypeError(f"rule: expected a rule, or a context with one for each layer, got {rule!r}")
        return Context(rule)

    def inside(self, child: str) -> Context:
        """The context of a child of the module that the walk is at."""
        return Context(self.rules, self.recorder, self.release, join(self.name, child))

    @property
    def rule(self) -> Rule:
        """The rule that is asked of this layer."""
        if isinstance(self.rules, Rule):
            return self.rules
        if self.name not in self.rules:
            raise KeyError(f"rules: no rule for layer {self.name!r}; there are rules for {', '.join(self.rules)}")
        return self.rules[self.name]

    def record_loss(self, reason: str, f: Callable[..., Array], *arrays: Array) -> None:
        """Σ f(*arrays) of this layer's relevance was lost to `reason`, for an f that works on each element by itself."""
        if self.recorder is not None:
            self.recorder.record_loss(reason, f, *arrays)

    def close(self, rule: Rule, R: Value, R_in: Value) -> None:
        """This layer is done: by `rule`, R of its output became R_in of its input."""
        if self.recorder is not None:
            self.recorder.close(self.name, rule, R, R_in)


def join(name: str, child: str) -> str:
    """The name of a child: "block1/conv1"."""
    return f"{name}/{child}" if name else child

"""Methods of one backward pass: LRP itself, gradients, and gradients with another step at some layers.

`explain` goes through the layers from the last to the first. These methods only change the step at a layer, a function

    step(layer, trace, R) → R of the layer's input

A method consists of the steps that differ from the gradient. Targets, batches and memory are those of `explain`.

References
----------
Simonyan et al. 2014, Deep inside convolutional networks, ICLR workshop (the gradient).
Zeiler and Fergus 2014, Visualizing and understanding convolutional networks, ECCV (DeconvNet).
Springenberg et al. 2015, Striving for simplicity, ICLR workshop (Guided Backprop).
Zhang et al. 2018, Top-down neural attention by excitation backprop, IJCV 126(10).
Gu et al. 2018, Understanding individual decisions of CNNs via contrastive backpropagation, ACCV.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from .. import backend, kernels, presets
from ..backend import Array, Value
from ..composites import Composite, lrp_cmp, uniform
from ..context import Context
from ..explain import Targets, explain
from ..explanation import Explanation
from ..inputs import Classifier, net_and_classes
from ..modules import (
    AdaptiveMaxPool,
    ChannelShuffle,
    Clip,
    ClippedReLU,
    Concatenation,
    Dropout,
    Flatten,
    Identity,
    LinearModule,
    MaxPool,
    Module,
    Pad,
    ReLU,
    Reshape,
    Sequential,
    Slice,
    Trace,
    Transpose,
    fuse,
)
from ..modules.base import Layer, Shape
from ..rules import BiasPolicy, Rule, ZPlus
from .base import Method

Start = Literal["logit", "one"]
Step = Callable[[Layer, Trace, Array], Value]


# ---- Another way back ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, repr=False)
class Stepped(Rule):
    """The rule of a layer that has a step of its own."""

    symbol: ClassVar[str] = "∂"
    formula: ClassVar[str] = "R_i = Σ_j ∂y_j/∂x_i R_j, or another step"


@dataclass(frozen=True, eq=False)
class WithStep(Layer):
    """`layer`, whose relevance takes `step`, whatever the rule."""

    layer: Layer
    step: Step

    @property
    def input_axes(self) -> int | None:
        return self.layer.input_axes

    @property
    def axes(self) -> int:  # type: ignore[override]
        return self.layer.axes

    @property
    def output_axes(self) -> int:
        return self.layer.output_axes

    def forward(self, x: Value) -> Array:
        return self.layer.forward(x)

    @property
    def several_inputs(self) -> bool:
        return self.layer.several_inputs

    def trace(self, x: Value, nonneg: bool = False, context: Rule | Context | None = None) -> Trace:
        return self.layer.trace(x, nonneg)

    def output_is_nonnegative(self, nonneg: Any) -> bool:
        return self.layer.output_is_nonnegative(nonneg)

    def output_shape(self, shape: Any) -> Shape:
        return self.layer.output_shape(shape)

    def effective_rule(self, rule: Rule) -> Rule:
        return Stepped()

    def _redistribute(self, trace: Trace, R: Array, rule: Rule, context: Context) -> Value:
        return self.step(self.layer, trace, R)

    def own_parameters(self) -> dict[str, Array]:
        return self.layer.own_parameters()

    def map_own(self, f: Callable[[Array], Array]) -> Layer:
        return replace(self, layer=self.layer.map_own(f))


def gradient_step(layer: Layer, trace: Trace, R: Array) -> Value:
    return layer.gradient(trace, R)


def rewire(module: Module, step: Callable[[str, Layer], Step]) -> Module:
    """The same net with a step for every layer, `step(name, layer)`."""
    return module.transform(lambda name, layer: WithStep(layer, step(name, layer)))


def require_start(start: str) -> None:
    if start not in ("logit", "one"):
        raise ValueError(f"start: expected 'logit' or 'one', got {start!r}")


NO_RULES = Composite([], name="steps")


@dataclass(frozen=True)
class Walk(Method):
    """The gradient of the target, starting with 1 or with its logit, except at layers that have another step."""

    start: Start = "one"

    def __post_init__(self) -> None:
        require_start(self.start)

    def step(self, name: str, layer: Layer) -> Step:
        return gradient_step

    def rewired(self, module: Module) -> Module:
        return rewire(fuse(module), self.step)

    def explain(self, net: Module | Classifier, x: Array, target: Targets = "top") -> Explanation:
        """As `explain`, with the steps of this method. The ledger's columns are meaningful for LRP only."""
        module, classes = net_and_classes(net)
        return explain(self.rewired(module), x, target, NO_RULES, start=self.start, classes=classes)

    def __call__(self, net: Module | Classifier, x: Array, target: Targets = "top") -> Array:
        return self.explain(net, x, target).R


# ---- LRP -------------------------------------------------------------------------------------------------------------


BEST = lrp_cmp()
EVERYWHERE_Z_PLUS = uniform(ZPlus())


@dataclass(frozen=True)
class LRP(Method):
    """Layer-wise Relevance Propagation: `explain(net, x, target, composite)`.

    `composite`: a Composite, or what `explain` takes in its place: a rule, or a name such as "cmp:alpha=2,flat=1".
    """

    composite: Composite = BEST
    start: Start = "logit"

    def __post_init__(self) -> None:
        object.__setattr__(self, "composite", presets.as_composite(self.composite))
        require_start(self.start)

    @property
    def name(self) -> str:
        return self.composite.name

    def explain(self, net: Module | Classifier, x: Array, target: Targets = "top") -> Explanation:
        """With the ledger."""
        return explain(net, x, target, self.composite, start=self.start)

    def __call__(self, net: Module | Classifier, x: Array, target: Targets = "top") -> Array:
        return self.explain(net, x, target).R


def excitation_backprop(bias: BiasPolicy = "ignore") -> LRP:
    """Excitation Backprop: a neuron's winner is drawn with probability x_i w⁺_ij / Σ_i x_i w⁺_ij; R is how often an input wins.

    This is LRP_z⁺, starting with 1, and without the bias in the denominator (Zhang et al. 2018, Eq. 4 and 5, for x ≥ 0). In
    Zennit's composite of that name b⁺ absorbs its part: bias="absorb".
    """
    name = "Excitation Backprop" + ("" if bias == "ignore" else f" (bias={bias})")
    return LRP(Composite(presets.excitation_backprop(bias).entries, name=name), start="one")


def _contrast(layer: Layer, trace: Trace, R: Array) -> Array:
    """R of the one class that has some, and −R / (n − 1) for each of the n − 1 others."""
    others = R.shape[-1] - 1
    if others < 1:
        raise ValueError("target: contrastive LRP sets a class against others, and this net has one output")
    total = backend.namespace(R).sum(R, axis=-1, keepdims=True)
    return R + (R - total) / others


@dataclass(frozen=True)
class ContrastiveLRP(Method):
    """Contrastive LRP: max(0, R − R̄), where R̄ starts with the target's logit spread evenly over all other classes.

    CLRP1 of Gu et al. 2018. One backward pass is enough, since R is linear in the relevance that it starts with.
    """

    title: ClassVar[str] = "CLRP"

    of: Composite = EVERYWHERE_Z_PLUS

    def __post_init__(self) -> None:
        object.__setattr__(self, "of", presets.as_composite(self.of))

    @property
    def name(self) -> str:
        return f"{self.title} of {self.of.name}"

    def __call__(self, net: Module | Classifier, x: Array, target: Targets = "top") -> Array:
        module, classes = net_and_classes(net)
        layers = list(module.items()) if isinstance(module, Sequential) else [("net", module)]
        contrasting = Sequential([*layers, ("contrast", WithStep(Identity(), _contrast))])
        return kernels.positive_part(explain(contrasting, x, target, self.of, classes=classes).R)


# ---- Gradients -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gradient(Walk):
    """∂y_t / ∂x."""

    title: ClassVar[str] = "gradient"


def _times_input(layer: Layer, trace: Trace, R: Array) -> Array:
    return trace.x * R


@dataclass(frozen=True)
class GradientInput(Walk):
    """x · ∂y_t / ∂x. In a ReLU net it is LRP_z (Sec. II-A)."""

    title: ClassVar[str] = "gradient × input"

    def rewired(self, module: Module) -> Module:
        return Sequential(input=WithStep(Identity(), _times_input), net=super().rewired(module))


# Layers at which rectified gradients are ordinary gradients: they are linear in their inputs, or choose or rearrange them.
ORDINARY = (
    *(LinearModule, MaxPool, AdaptiveMaxPool),
    *(Pad, Concatenation, ChannelShuffle, Dropout, Flatten, Identity, Reshape, Slice, Transpose),
)


def _rectifies(layer: Layer) -> bool:
    """Whether it is max(x, 0), with a bound above perhaps (ReLU6)."""
    return isinstance(layer, (ReLU, ClippedReLU)) or (isinstance(layer, Clip) and layer.minimum == 0)


@dataclass(frozen=True)
class GuidedBackprop(Walk):
    """The gradient, but every ReLU passes on only positive values, and only where its input was positive.

    It starts with 1. Some toolboxes start with the logit (iNNvestigate, the Caffe LRP Toolbox), which changes the sign if the
    logit is negative: `start="logit"`. A ReLU with a bound, such as ReLU6, passes on positive values where its input lies
    between 0 and the bound. Raises TypeError if the net has any other layer that is not linear (other activations, gates,
    normalisation by the data as in LRN): the method is not defined there.
    """

    title: ClassVar[str] = "Guided Backprop"

    @staticmethod
    def at_relu(layer: Layer, trace: Trace, R: Array) -> Array:
        return kernels.positive_part(layer.gradient(trace, R))

    def step(self, name: str, layer: Layer) -> Step:
        if _rectifies(layer):
            return self.at_relu
        if isinstance(layer, ORDINARY):
            return gradient_step
        where = f" ({name})" if name else ""
        raise TypeError(
            f"Guided Backprop and DeconvNet are defined for ReLU only, and this net has {type(layer).__name__}{where}"
        )


@dataclass(frozen=True)
class DeconvNet(GuidedBackprop):
    """The gradient, but every ReLU (or ReLU6) passes on only positive values, whatever its input was."""

    title: ClassVar[str] = "DeconvNet"

    @staticmethod
    def at_relu(layer: Layer, trace: Trace, R: Array) -> Array:
        return kernels.positive_part(R)

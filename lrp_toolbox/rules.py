"""Layer-wise Relevance Propagation: Equation 1, and the rules.

A layer computes y_j = Σ_i x_i w_ij + b_j. LRP goes back through it: an output j has relevance R_j, and each input i gets a
part of it, in proportion to what i contributed to j (Kohlbrenner et al. 2020):

    R_i = Σ_j z_ij / z_j · R_j        z_j = Σ_i z_ij                                                                  (1)

A rule is a choice of the contributions z_ij. It writes them with x and w (see `terms.py`), for example

    x * w                                z_ij = x_i w_ij
    x.pos * w.pos + x.neg * w.neg        z_ij = max(x_i w_ij, 0), since the sign is that of the product

and `relprop` is Equation 1 for any of them. It needs two maps from the layer, which knows how its inputs are connected:

    layer.apply(x, w)              Σ_i x_i w_ij        without the bias
    layer.apply_T(s, w, shape)     Σ_j w_ij s_j        back in the shape of x

This page is the whole method, and it runs as it stands. `propagation.py` computes the same numbers faster, and records in
the ledger which relevance did not reach the inputs.

References
----------
Bach et al. 2015, On pixel-wise explanations for non-linear classifier decisions by LRP, PLoS ONE 10(7).
Montavon et al. 2017, Explaining nonlinear classification decisions with deep Taylor decomposition, Pattern Recognition 65.
Montavon et al. 2019, Layer-wise relevance propagation: an overview, LNCS 11700.
Kohlbrenner et al. 2020, Towards best practice in explaining neural network decisions with LRP, IJCNN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

from .backend import Array, Number, like, namespace, ones, to_numpy, zeros
from .kernels import Stabilizer, divide, vanishes, zero_unless
from .terms import ZERO, Bias, Input, Part, Weight, box_around, require_bounds, require_number, without_rounding
from .weights import ONE

__all__ = ["RULES", "AlphaBeta", "Epsilon", "Flat", "Gamma", "Rule", "WSquare", "Z", "ZBox", "ZPlus"]
BiasPolicy = Literal["absorb", "ignore", "distribute"]


def relprop(rule: Rule, layer: Any, x: Array, R: Array) -> Array:
    """R_i = Σ_j z_ij / (z_j + ε sign(z_j)) · R_j: the relevance of the inputs x of a layer whose outputs have relevance R.

    >>> import numpy as np
    >>> from lrp_toolbox import Linear
    >>> x, w, R = np.asarray([1.0, 2.0]), np.asarray([[3.0, -1.0], [1.0, 2.0]]), np.asarray([5.0, 3.0])
    >>> relprop(Z(), Linear(w), x, R)
    array([2., 6.])
    """
    X, w, b = Input(x), Weight(layer.w), ZERO if layer.b is None or rule.bias == "ignore" else Bias(layer.b)
    parts = rule.parts(X, w, b)

    def sum_over_inputs(part: Part) -> Array:
        z_j = sum(layer.apply(x_t.array, w_t.weights) for x_t, w_t in part.z)
        return without_rounding(layer, part, z_j if part.b is ZERO else z_j + part.b.array, rule.eps)

    z = [sum_over_inputs(part) for part in parts]  #                            z_j = Σ_i z_ij + b_j, of each part
    R_in = zeros((), x)
    for part, z_j, R_j in zip(parts, z, split(rule, parts, R, z, sum_over_inputs(Part(X * w, b))), strict=True):
        s = divide(R_j, z_j, rule.eps, layer.output_axes)  #                    s_j = R_j / (z_j + ε sign(z_j))
        for x_t, w_t in part.z:  #                                              R_i = x_i Σ_j w_ij s_j = Σ_j z_ij s_j
            R_in = R_in + x_t.array * layer.apply_T(s, w_t.weights, x.shape)
        if rule.bias == "distribute" and part.b is not ZERO:  #                 what b_j took, evenly to the inputs of j
            inputs = layer.apply(ones(x.shape, x), ONE)
            R_in = R_in + layer.apply_T(divide(s * part.b.array, inputs), ONE, x.shape)
    return R_in


def split(rule: Rule, parts: Sequence[Part], R: Array, z: Sequence[Array], y: Array) -> list[Array]:
    """R_j of each part: its share, for the outputs that it is for (`Part.where`, by their z_j = y).

    Under `rule.renormalize` a part whose denominator vanishes gives its share to the other one.
    """
    shares = [R if part.share == 1 else R * like(part.share, R) for part in parts]
    if rule.renormalize and len(parts) == 2:
        a, b = (vanishes(z_j) for z_j in z)
        where, nothing = namespace(R).where, zeros((), R)
        shares = [where(a == b, shares[0], where(a, nothing, R)), where(a == b, shares[1], where(b, nothing, R))]
    return [s if part.where is None else zero_unless(s, part.where(y)) for s, part in zip(shares, parts, strict=True)]


class Rule:
    """A choice of z_ij. Rules are frozen data: they print, compare, and refuse wrong parameters when they are made."""

    eps: Number | Stabilizer = 0
    bias: BiasPolicy = "absorb"  # b_j keeps its part of R_j; or is left out ("ignore"); or goes to all inputs ("distribute")
    renormalize: bool = False
    symbol: ClassVar[str] = ""
    formula: ClassVar[str] = ""
    uses_output: ClassVar[bool] = False  # whether it needs z_j = y_j, so that the forward pass has to keep y

    def parts(self, x: Input, w: Weight, b: Any) -> list[Part]:
        """The contributions z_ij: of one part, or of several that each have a share of the relevance."""
        raise TypeError(f"{self} is for layers that do not mix their inputs, not for a layer with weights")

    def __post_init__(self) -> None:
        if self.bias not in ("absorb", "ignore", "distribute"):
            raise ValueError(f"bias: expected 'absorb', 'ignore' or 'distribute', got {self.bias!r}")
        for name in {"eps", "alpha", "gamma"} & self.__dict__.keys():
            if not isinstance(value := getattr(self, name), Stabilizer):
                object.__setattr__(self, name, require_number(name, value))

    def __repr__(self) -> str:
        own = ((f.name, getattr(self, f.name)) for f in fields(self))  # type: ignore[arg-type]
        usual = {"bias": "absorb", "renormalize": False}
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in own if usual.get(k) != v)})"


@dataclass(frozen=True, repr=False)
class Z(Rule):
    """LRP_z, Eq. 1: R_i = Σ_j x_i w_ij / z_j · R_j. In a ReLU net it equals gradient × input (Sec. II-A)."""

    symbol: ClassVar[str] = "z"
    formula: ClassVar[str] = "z_ij = x_i w_ij"
    uses_output: ClassVar[bool] = True
    bias: BiasPolicy = "absorb"

    def parts(self, x: Input, w: Weight, b: Any) -> list[Part]:
        return [Part(x * w, b)]


@dataclass(frozen=True, repr=False)
class Epsilon(Rule):
    """LRP_ε, Eq. 2: R_i = Σ_j x_i w_ij / (z_j + ε sign(z_j)) · R_j, with sign(0) = 1. ε absorbs most where |z_j| is small."""

    symbol: ClassVar[str] = "ε"
    formula: ClassVar[str] = "z_ij = x_i w_ij,  over z_j + ε sign(z_j)"
    uses_output: ClassVar[bool] = True
    eps: Number | Stabilizer = 1e-6  # or a Stabilizer: clipped, or relative to the size of z
    bias: BiasPolicy = "absorb"

    def parts(self, x: Input, w: Weight, b: Any) -> list[Part]:
        return [Part(x * w, b)]


@dataclass(frozen=True, repr=False)
class AlphaBeta(Rule):
    """LRP_αβ, Eq. 3 and 4: R_i = Σ_j (α z⁺_ij / z⁺_j + β z⁻_ij / z⁻_j) R_j with β = 1 − α, so that β ≤ 0 for α ≥ 1.

    b⁺ joins z⁺_j, and b⁻ joins z⁻_j. Where z⁺_j or z⁻_j is 0 its share is lost, and recorded in the ledger;
    `renormalize=True` gives it to the other one instead.
    """

    symbol: ClassVar[str] = "αβ"
    formula: ClassVar[str] = "α z⁺_ij / z⁺_j + β z⁻_ij / z⁻_j,  β = 1 − α"
    alpha: Number = 2
    bias: BiasPolicy = "absorb"
    renormalize: bool = False

    def parts(self, x: Input, w: Weight, b: Any) -> list[Part]:
        positive, negative = x.pos * w.pos + x.neg * w.neg, x.pos * w.neg + x.neg * w.pos
        return [Part(positive, b.pos, share=self.alpha), Part(negative, b.neg, share=1 - self.alpha)]


@dataclass(frozen=True, repr=False)
class ZPlus(Rule):
    """LRP_z⁺, which is LRP_αβ with α = 1: R_i = Σ_j z⁺_ij / z⁺_j · R_j (Eq. 3 and 4; Montavon et al. 2017)."""

    symbol: ClassVar[str] = "z⁺"
    formula: ClassVar[str] = "z_ij = max(x_i w_ij, 0)"
    bias: BiasPolicy = "absorb"

    def parts(self, x: Input, w: Weight, b: Any) -> list[Part]:
        return [Part(x.pos * w.pos + x.neg * w.neg, b.pos)]


@dataclass(frozen=True, repr=False)
class Gamma(Rule):
    """LRP_γ for inputs of any sign: R_i = Σ_j (z_ij + γ z⁺_ij) / (z_j + γ z⁺_j) · R_j where z_j > 0; with z⁻ where z_j < 0.

    For x ≥ 0 and z_j > 0 this is Σ_j x_i (w_ij + γ w⁺_ij) / (…) · R_j of Montavon et al. 2019, Sec. 10.2.3. The bias is
    treated likewise, b + γ b⁺. A neuron with z_j = 0 passes no relevance on; the ledger records it.
    """

    symbol: ClassVar[str] = "γ"
    formula: ClassVar[str] = "z_ij = x_i w_ij + γ max(x_i w_ij, 0)"
    uses_output: ClassVar[bool] = True
    gamma: Number = 0.25
    bias: BiasPolicy = "absorb"

    def parts(self, x: Input, w: Weight, b: Any) -> list[Part]:
        up, down = w + self.gamma * w.pos, w + self.gamma * w.neg
        return [
            Part(x.pos * up + x.neg * down, b + self.gamma * b.pos, where=lambda z: z > 0),
            Part(x.pos * down + x.neg * up, b + self.gamma * b.neg, where=lambda z: z < 0),
        ]


@dataclass(frozen=True, repr=False)
class Flat(Rule):
    """LRP_♭: z_ij = 1, so that R_j goes in equal parts to all its inputs (Sec. II-A). No bias.

    The inputs that exist count, of all channels: not the padding, and not the channels of other groups. In a dense layer
    all inputs get the same, so that ♭ is uninformative there.
    """

    symbol: ClassVar[str] = "♭"
    formula: ClassVar[str] = "z_ij = 1"

    def parts(self, x: Input, w: Weight, b: Any) -> list[Part]:
        return [Part(x.one * w.one)]


@dataclass(frozen=True, repr=False)
class WSquare(Rule):
    """LRP_w²: z_ij = w_ij², whatever the input (Montavon et al. 2017, Table 1). No bias."""

    symbol: ClassVar[str] = "w²"
    formula: ClassVar[str] = "z_ij = w_ij²"

    def parts(self, x: Input, w: Weight, b: Any) -> list[Part]:
        return [Part(x.one * w**2)]


@dataclass(frozen=True, eq=False, repr=False)
class ZBox(Rule):
    """LRP_zᴮ for inputs in a box l ≤ x ≤ h, as pixels are: z_ij = x_i w_ij − l_i w⁺_ij − h_i w⁻_ij ≥ 0. No bias.

    `low` and `high`: numbers, or arrays that broadcast against x, such as one bound for each channel (Montavon et al. 2017,
    Table 1). Raises ValueError if some x lies outside its box.
    """

    symbol: ClassVar[str] = "zᴮ"
    formula: ClassVar[str] = "z_ij = x_i w_ij − l_i w⁺_ij − h_i w⁻_ij"
    low: Any = field(default=None)
    high: Any = field(default=None)

    def parts(self, x: Input, w: Weight, b: Any) -> list[Part]:
        low, high = box_around(x, self.low, self.high)
        return [Part(x * w - low * w.pos - high * w.neg)]

    def __post_init__(self) -> None:
        require_bounds(low=self.low, high=self.high)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, ZBox) and repr(self) == repr(other))  # repr fetches bounds from a GPU

    def __hash__(self) -> int:
        return hash(repr(self))

    def __repr__(self) -> str:
        low, high = (to_numpy(b).tolist() if hasattr(b, "dtype") else b for b in (self.low, self.high))
        return f"ZBox(low={low}, high={high})"


RULES: tuple[type[Rule], ...] = (Z, Epsilon, AlphaBeta, ZPlus, Gamma, Flat, WSquare, ZBox)

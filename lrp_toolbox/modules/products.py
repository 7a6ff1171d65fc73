"""Products of values: a signal and its gates; a value and a constant."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import mul
from typing import Any

from .. import backend, kernels
from ..backend import Array, Value, namespace
from ..context import Context
from ..rules import Rule
from ..weights import ONE, as_weights
from .base import LinearModule, Pass, Shape, Trace, proportional
from .container import Joint
from .rearranging import require_broadcast


@dataclass(frozen=True, eq=False)
class Multiply(Joint):
    """y = Π_k x_k over its inputs, element by element: a signal times one or more gates, as in squeeze-and-excite blocks.

    Inputs of size 1 along an axis are broadcast along it: a gate (…, 1, 1, channel) for a map (…, height, width, channel).
    An input with fewer axes than the largest lacks those before its last: a gate (…, channel) is one for all places.

    Relevance: all of it goes to the input number `signal`, and the gates get 0. A gate says how much of the signal comes
    through, the signal what it is (Arras et al. 2017, for the gates of an LSTM). Nothing is lost. Alternatives, none of
    which is built in: half of R_j for each of two inputs (LRP-half), and a share in proportion to their sizes (LRP-prop).
    Arras et al. 2019 compare these in LSTMs, and both explain worse than "signal takes all", since half of the relevance
    then goes through the gates, which squash and hardly carry what was seen. Gradient × input would give R_j to each input,
    twice as much as there is. Half each is right where both inputs carry content, as in products of two features.

    References
    ----------
    Arras et al. 2017, Explaining recurrent neural network predictions in sentiment analysis, WASSA.
    Arras et al. 2019, Evaluating recurrent neural network explanations, BlackboxNLP.
    """

    signal: int = 0  # the number of the input that relevance goes to

    def __post_init__(self) -> None:
        if not isinstance(self.signal, int) or isinstance(self.signal, bool) or self.signal < 0:
            raise ValueError(f"signal: expected the number of an input, from 0 on, got {self.signal!r}")

    def effective_rule(self, rule: Rule) -> Rule:
        return Pass()

    def forward(self, x: tuple[Array, ...]) -> Array:
        for part in x[1:]:
            backend.require_same("x", part, "the first input", x[0])
        return reduce(mul, self._of_one_rank(x))

    def output_shape(self, shape: Any) -> Shape:
        rank = max(map(len, shape))
        shapes = [(*s[:-1], *(1,) * (rank - len(s)), *s[-1:]) for s in shape]
        sizes = []
        for along in zip(*shapes, strict=True):
            found = set(along) - {1}
            if len(found) > 1:
                raise ValueError(f"x: Multiply expects inputs that broadcast, got {', '.join(map(str, shape))}")
            sizes.append(found.pop() if found else 1)
        return tuple(sizes)

    def gradient(self, trace: Trace, g: Array) -> Value:
        parts = self._of_one_rank(trace.x)
        found = []
        for k, x in enumerate(trace.x):
            others = [part for i, part in enumerate(parts) if i != k]
            found.append(self._back_to(x, parts[k], reduce(mul, others, g), trace.y_shape))
        return tuple(found)

    def _redistribute(self, trace: Trace, R: Array, rule: Rule, context: Context) -> Value:
        if self.signal >= len(trace.x):
            raise ValueError(f"signal: expected the number of one of {len(trace.x)} inputs, from 0 on, got {self.signal}")
        parts = self._of_one_rank(trace.x)
        nothing = backend.zeros((1,) * R.ndim, R)
        zeros = namespace(R).broadcast_to(nothing, R.shape)
        return tuple(self._back_to(x, parts[k], R if k == self.signal else zeros, trace.y_shape) for k, x in enumerate(trace.x))

    @staticmethod
    def _of_one_rank(x: tuple[Array, ...]) -> list[Array]:
        """The inputs with as many axes as the largest has."""
        rank = max(part.ndim for part in x)
        xp = namespace(*x)
        return [
            part if part.ndim == rank else xp.reshape(part, (*part.shape[:-1], *(1,) * (rank - part.ndim), part.shape[-1]))
            for part in x
        ]

    @staticmethod
    def _back_to(x: Array, part: Array, g: Array, y_shape: Shape) -> Array:
        """g, in the shape of y or with more leading axes, added up over the axes along which x was broadcast."""
        xp = namespace(g)
        axes = tuple(k - len(y_shape) for k, (n, m) in enumerate(zip(part.shape, y_shape, strict=True)) if n == 1 != m)
        g = xp.sum(g, axis=axes, keepdims=True) if axes else g
        missing = part.ndim - x.ndim
        return xp.reshape(g, (*g.shape[: g.ndim - 1 - missing], g.shape[-1])) if missing else g


@dataclass(frozen=True, eq=False)
class Affine(LinearModule):
    """y = x w + b with constants, element by element: arrays of any shape that broadcasts against the features of x.

    One number for each channel, for each feature, for each place of a map, or for all: `Scale` is the first of these. Either
    may be left out. Each output has one input, which gets what the bias leaves, as in `Scale`.
    """

    w: Array | None
    b: Array | None = None

    def __post_init__(self) -> None:
        if self.w is None and self.b is None:
            raise ValueError("w: expected w, b or both, got neither")
        if self.w is not None and self.b is not None:
            backend.require_same("b", self.b, "w", self.w)
        for name in ("w", "b"):
            a = getattr(self, name)
            if a is not None and a.ndim == 0:
                object.__setattr__(self, name, namespace(a).reshape(a, (1,)))

    @property
    def axes(self) -> int:  # type: ignore[override]
        return max(len(a.shape) for a in (self.w, self.b) if a is not None)

    @property
    def input_axes(self) -> int | None:
        return None  # x may have more axes

    def forward(self, x: Array) -> Array:
        if self.b is not None:
            backend.require_same("x", x, "Affine.b", self.b)
        return super().forward(x)

    def apply(self, x: Array, w: Any) -> Array:
        self.output_shape(x.shape)
        factor = None if w is ONE else as_weights(w).array()
        return x if factor is None else kernels.elementwise(mul, x, factor)

    def apply_T(self, s: Array, w: Any, shape: Shape) -> Array:
        return self.apply(s, w)

    def effective_rule(self, rule: Rule) -> Rule:
        return proportional(rule)

    def separate(self, z: Array, n: int) -> list[Array]:
        return [z]  # rules in proportion have one part; b may be one number for all channels

    def output_shape(self, shape: Shape) -> Shape:
        require_broadcast(self, shape)
        return shape

"""The weights that a layer is asked to compute with: its own, or what a rule derives from them.

A rule needs w⁺, w⁻, w² or w + γ w⁺. For a large dense layer each of these would double the memory. So derived weights are
not arrays: they say how to compute any of their rows, and the kernels ask for the rows that they need next.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from .backend import Array

Shape = tuple[int, ...]


class Weights(Protocol):
    """`shape`; `rows(index)`: the part w[index] of the leading axes, as an array; `array()`: all of it."""

    @property
    def shape(self) -> Shape: ...
    def rows(self, index: Any) -> Array: ...
    def array(self) -> Array: ...


class Given:
    """Weights that are an array."""

    def __init__(self, array: Array):
        self._array = array

    @property
    def shape(self) -> Shape:
        return tuple(self._array.shape)

    def rows(self, index: Any) -> Array:
        return self._array[index]

    def array(self) -> Array:
        return self._array


class Derived:
    """f(*sources), for an f that works on each element, such as max(w, 0)."""

    def __init__(self, f: Callable[..., Array], *sources: Weights):
        self.f, self.sources = f, sources

    @property
    def shape(self) -> Shape:
        return self.sources[0].shape

    def rows(self, index: Any) -> Array:
        return self.f(*(source.rows(index) for source in self.sources))

    def array(self) -> Array:
        return self.f(*(source.array() for source in self.sources))


class Joined:
    """Several weights side by side, as of a layer with so many times its outputs. `join` is the layer's own."""

    def __init__(self, join: Callable[[Sequence[Array]], Array], sides: Sequence[Weights]):
        self.join, self.sides = join, tuple(sides)

    @property
    def shape(self) -> Shape:
        return (*self.sides[0].shape[:-1], sum(side.shape[-1] for side in self.sides))

    def rows(self, index: Any) -> Array:
        return self.join([side.rows(index) for side in self.sides])

    def array(self) -> Array:
        return self.join([side.array() for side in self.sides])


class _One:
    """The weight 1 on every connection that exists: not into the padding, not across groups."""

    def __repr__(self) -> str:
        return "ONE"


ONE = _One()


def as_weights(w: Any) -> Weights:
    """An array as `Given` weights; weights as they are. Raises TypeError for `ONE`, from which nothing is derived."""
    if w is ONE:
        raise TypeError("w.one is 1 on every connection: nothing else is derived from it")
    return w if isinstance(w, (Given, Derived, Joined)) else Given(w)

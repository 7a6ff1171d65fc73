"""A property that is computed once.

In Python 3.11, `functools.cached_property` holds a lock meanwhile, one for all objects of a class. Explanations at once would
wait for each other, and a process that is forked meanwhile would wait for ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

T = TypeVar("T")


class cached(Generic[T]):  # noqa: N801, used as a decorator
    """The value of f(self), computed when it is first asked for. Two threads that ask at once may both compute it."""

    def __init__(self, f: Callable[[Any], T]):
        self.f, self.__doc__ = f, f.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    @overload
    def __get__(self, owner: None, kind: type) -> Self: ...
    @overload
    def __get__(self, owner: Any, kind: type) -> T: ...
    def __get__(self, owner: Any, kind: type) -> Any:
        if owner is None:
            return self
        value = owner.__dict__[self.name] = self.f(owner)  # from now on this is found first
        return value

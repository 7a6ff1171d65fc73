"""How photographs are prepared for a network that was read: from the arguments of an importer to its `Preprocessing`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, Literal

from ..data import Preprocessing
from ..data.photos import Fit, Numbers, Order
from .assemble import choose

Given = float | Sequence[float]  # one number for all channels, or one for each
Scaling = tuple[Numbers, Numbers]  # mean and standard deviation of pixels from 0 to 255

NOTHING: Scaling = (0.0, 1.0)
TORCHVISION: dict[str, Scaling] = {  # torchvision's numbers times 255; grey pictures have the range 0 to 1
    "RGB": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "BGR": ((103.53, 116.28, 123.675), (57.375, 57.12, 58.395)),
    "L": (0.0, 255.0),
}


def input_scaling(
    size: tuple[int, int],
    order: Order,
    assumed: dict[str, Any],
    *,
    mean: Given | None,
    std: Given | None,
    pixels: Literal[1, 255] | None,
    fit: Fit | None,
    border: int = 0,
    fill: Given = 0.0,
    usual: Scaling = NOTHING,
    stated: tuple[Given | None, Given | None] = (None, None),
    white: Literal[1, 255] | None = 255,
) -> Preprocessing:
    """The preprocessing that the arguments describe. What neither caller nor file decides is entered in `assumed`.

    mean, std, pixels   of the caller; `pixels` is the value of white for which `mean` and `std` are
    usual               what holds if the caller gives neither mean nor std; if one is given, the other is 0 or 1
    stated              what the file says, for pixels from 0 to 255
    white               stands for `pixels` if that is None; if this is None, too: 1 if no number is greater than 1, else 255

    Raises ValueError if an argument is not what it should be.
    """
    if pixels not in (None, 1, 255):
        raise ValueError(f"pixels: expected 1 or 255, the value of white, got {pixels!r}")
    given: dict[str, tuple[float, ...]] = {}
    for name, value, expected, allowed in (("mean", mean, "", math.isfinite), ("std", std, " > 0", _is_positive)):
        if value is not None:
            given[name] = _spread(name, value, order, expected, allowed)
    white = pixels or white or (255 if any(abs(n) > 1 for numbers in given.values() for n in numbers) else 1)
    others = (0.0, 255.0 / white) if given else usual
    found = {}
    for name, said, other in zip(("mean", "std"), stated, others, strict=True):
        own = tuple(255 / white * n for n in given[name]) if name in given else None
        file = None if said is None else _spread(name, said, order, "", math.isfinite)
        found[name] = choose(name, own, file, _spread(name, other, order, "", math.isfinite), assumed)
    fitted: Fit = choose("fit", fit, None, "warp", assumed)
    filled = fill if isinstance(fill, Real) else tuple(fill)  # type: ignore[arg-type]
    return Preprocessing(size, fitted, order, found["mean"], found["std"], border, filled)  # type: ignore[arg-type]


def _is_positive(n: float) -> bool:
    return math.isfinite(n) and n > 0


def _spread(name: str, value: Any, order: str, expected: str, allowed: Callable[[Any], bool]) -> tuple[float, ...]:
    """One number for each channel. A single one is for all."""
    numbers: tuple[Any, ...] = (value,) if isinstance(value, Real) else tuple(value)
    if len(numbers) not in (1, len(order)) or not all(isinstance(n, Real) and allowed(n) for n in numbers):
        raise ValueError(f"{name}: expected a number{expected} for each of {order}, got {value!r}")
    return tuple(float(n) for n in (numbers if len(numbers) == len(order) else numbers * len(order)))

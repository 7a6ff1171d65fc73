"""A layer as Keras describes it: its class and its config, each entry checked when it is read."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ...io import ModelFormatError, brief
from ...modules.base import Shape
from ..draft import MAX_LAYERS, MAX_NUMBERS

MODELS = ("Sequential", "Functional", "Model")
SCALED: Mapping[str, Callable[[float], tuple[float, float]]] = {  # the scale and offset of x + c, …
    "Add": lambda c: (1.0, c),
    "Subtract": lambda c: (1.0, -c),
    "Multiply": lambda c: (c, 0.0),
    "TrueDivide": lambda c: (1 / c if c else math.inf, 0.0),
    "Divide": lambda c: (1 / c if c else math.inf, 0.0),
}


@dataclass(frozen=True)
class LayerConfig:
    """A layer as Keras describes it."""

    kind: str  # the name of its class
    config: Mapping[str, Any]
    where: str
    path: tuple[str, ...]  # the names of the models that it is in, then its own
    keys: tuple[str, ...]  # the same in the names that weights of Keras 3 have
    module: str | None = None  # where the class is, if the file says so

    @property
    def name(self) -> str:
        return "/".join(self.path) or "model"

    def fail(self, message: str) -> NoReturn:
        raise ModelFormatError(f"{self.where}: {self.name} ({self.kind}): {message}")

    def refuse(self, key: str, expected: str) -> NoReturn:
        self.fail(f"{key}: expected {expected}, found {brief(self.config.get(key))}")

    def whole(self, key: str, default: int | None = None) -> int:
        value = self.config.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_NUMBERS:
            self.refuse(key, "a whole number ≥ 1")
        return value

    def pair(self, key: str, default: Any = None) -> tuple[int, int]:
        value = self.config.get(key, default)
        pair = (value, value) if isinstance(value, int) else tuple(value) if isinstance(value, list) else ()
        if len(pair) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) and 1 <= n <= 1 << 16 for n in pair):
            self.refuse(key, "one whole number ≥ 1, or two")
        return pair

    def number(self, key: str, default: float | None = None) -> float:
        [value] = self.numbers(key, 1, default)
        return float(value)

    def numbers(self, key: str, count: int, default: Any = None) -> np.ndarray[Any, np.dtype[np.float64]]:
        """`count` numbers, or one for all. A number of NumPy is in an object: {"value": 6.0}, {"config": {"value": 6.0}}."""
        value = self.config.get(key, default)
        for inner in ("config", "value"):
            value = value[inner] if isinstance(value, Mapping) and inner in value else value
        try:
            numbers = np.asarray(value, np.float64).reshape(-1)
        except (TypeError, ValueError, OverflowError):
            self.refuse(key, "numbers")
        if isinstance(value, (str, bool)) or value is None or len(numbers) not in (1, count) or not np.isfinite(numbers).all():
            self.refuse(key, "a number" if count == 1 else f"one number, or {count}")
        return np.broadcast_to(numbers, (count,))

    def flag(self, key: str, default: bool) -> bool:
        value = self.config.get(key, default)
        if not isinstance(value, bool):
            self.refuse(key, "true or false")
        return value

    def last(self, key: str, shape: Shape, default: int = -1) -> None:
        """Refuse an axis that is not the last one, the channels."""
        axis = self.config.get(key, default)
        axis = axis[0] if isinstance(axis, list) and len(axis) == 1 else axis
        if axis not in (-1, len(shape)) or isinstance(axis, bool):
            self.refuse(key, "the last axis, that of the channels")


def layer_config(spec: Any, where: str, model: LayerConfig | None = None, used: Counter[str] | None = None) -> LayerConfig:
    """The layer of `model` that `spec` describes, or the model itself. `used` counts the classes so far, for the keys."""
    path, keys = (model.path, model.keys) if model else ((), ())
    here = f"{where}: {'/'.join(path) or 'model'}"
    kind = spec.get("class_name") if isinstance(spec, Mapping) else None
    config = spec.get("config") if isinstance(spec, Mapping) else None
    if not isinstance(kind, str):
        raise ModelFormatError(f"{here}: expected a layer with class_name and config, found {brief(spec)}")
    if isinstance(config, list):  # a Sequential of Keras 2 before 2.2.3
        config = {"layers": config}
    if not isinstance(config, Mapping):
        raise ModelFormatError(f"{here}: {kind}: config: expected an object, found {brief(config)}")
    name = config.get("name", spec.get("name"))
    if used is not None:
        if not isinstance(name, str) or not name:
            raise ModelFormatError(f"{here}: {kind}: name: expected a name, found {brief(name)}")
        key = _snake(kind)
        path, keys = (*path, name), (*keys, f"{key}_{used[key]}" if used[key] else key)
        used[key] += 1
    module, registered = spec.get("module"), spec.get("registered_name")
    layer = LayerConfig(kind, config, where, path, keys, module if isinstance(module, str) else None)
    if not isinstance(module, str | None) or (module or "keras").split(".")[0] not in ("keras", "tf_keras", "builtins"):
        layer.fail(f"module: expected one of Keras, found {brief(module)}: layers of one's own hold code, which is never run")
    if registered not in (None, kind) and ">" in str(registered):
        layer.fail(f"registered_name: expected a layer of Keras, found {brief(registered)}: code is never run")
    if config.get("data_format") == "channels_first":
        layer.refuse("data_format", "channels_last")
    return layer


def _snake(kind: str) -> str:
    """LeakyReLU as leaky_re_lu."""
    return re.sub(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", kind).lower()


def children_of(model: LayerConfig) -> list[tuple[LayerConfig, Mapping[str, Any]]]:
    """The layers of a model, each with its whole description."""
    specs = model.config.get("layers")
    if not isinstance(specs, list) or not 1 <= len(specs) <= MAX_LAYERS:
        model.fail(f"layers: expected a list of up to {MAX_LAYERS} layers, found {brief(specs)}")
    used: Counter[str] = Counter()
    specs = [_with_number(spec) for spec in specs]
    children = [(layer_config(spec, model.where, model, used), spec) for spec in specs]
    for name, count in Counter(child.name for child, _ in children).items():
        if count > 1:
            model.fail(f"layers: expected names to be unique, found {count} layers named {name!r}")
    return children


def _with_number(spec: Any) -> Any:
    """x + 3, 3 · x and the like, which Keras 3 writes as a layer with a number among its arguments, as a Rescaling of x."""
    kind = spec.get("class_name") if isinstance(spec, Mapping) else None
    if not isinstance(kind, str) or kind not in SCALED:
        return spec
    match spec.get("inbound_nodes"):
        case [{"args": [Mapping() as x, int(c) | float(c)], **rest}]:
            pass
        case [{"args": [int(c) | float(c), Mapping() as x], **rest}] if kind in ("Add", "Multiply"):
            pass
        case _:
            return spec
    scale, offset = SCALED[kind](float(c))
    config, calls = {"name": spec.get("name"), "scale": scale, "offset": offset}, [{**rest, "args": [x]}]
    return {**spec, "class_name": "Rescaling", "config": config, "registered_name": None, "inbound_nodes": calls}

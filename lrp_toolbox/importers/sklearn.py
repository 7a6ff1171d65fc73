"""Nets that scikit-learn trained, for tabular data: MLPClassifier, MLPRegressor, LogisticRegression, and pipelines of these.

`from_sklearn` takes the user's own objects and reads their arrays; scikit-learn itself is not imported.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from ..backend import Array
from ..modules import Identity, Linear, Module, ReLU, Sequential, Sigmoid, Tanh


@dataclass(frozen=True, eq=False)
class Tabular:
    """A net for rows of numbers, with the names of its features and outputs; `explain` takes it as it takes a model.

    `net` sees scaled features. `prepare` scales: x = (raw − center) · scale, so that R of feature i is the relevance of what
    differs from the center, in units of the data's own spread. Of a classifier with two classes, the only output is the logit
    of the second class: relevance > 0 speaks for the second class, < 0 for the first.
    """

    net: Sequential
    classes: tuple[str, ...]  # one for each output
    features: tuple[str, ...]
    center: Array  # (feature)
    scale: Array  # (feature)
    limits: Array | None = None  # (2, feature): what scaled features are clipped to

    def prepare(self, rows: Any) -> Array:
        """x for a row of raw features, or for several: (feature) or (sample, feature), in the dtype of the net.

        Raises ValueError if there are more or fewer features, or if one is not finite.
        """
        raw = np.asarray(rows, np.float64)
        if raw.ndim not in (1, 2) or raw.shape[-1] != len(self.features):
            raise ValueError(f"rows: expected (feature) or (sample, feature), {len(self.features)} features, got {raw.shape}")
        if not np.isfinite(raw).all():
            raise ValueError("rows: expected finite numbers, got NaN or infinity")
        x = (raw - self.center) * self.scale
        x = x if self.limits is None else np.clip(x, *self.limits)
        return x.astype(self.net.parameters()[0].dtype)


def from_sklearn(
    estimator: Any,
    *,
    features: Sequence[str] | None = None,
    outputs: Sequence[str] | None = None,
    dtype: Any = np.float64,
) -> Tabular:
    """The net of an estimator that was fitted.

    Parameters
    ----------
    estimator : MLPClassifier, MLPRegressor, LogisticRegression, or a Pipeline of StandardScaler and MinMaxScaler that ends
        with one of these. The softmax or sigmoid at the end is left off: outputs are logits, as of `decision_function`.
    features : the names of the features; the default is what the estimator was fitted with, or their numbers.
    outputs : the names of the outputs; the default is the classes of the estimator, or the numbers of its targets.
    dtype : of the weights.

    Raises TypeError for other estimators, and ValueError for one that is not fitted, or whose options are not known here.
    """
    *steps, (name, last) = _steps(estimator)
    if last is None or _kind(last) not in NETS:
        _refuse(name, last, NETS)
    _require_fitted(last, name)
    count = int(last.n_features_in_)
    center, scale = np.zeros(count), np.ones(count)
    limits = None
    for name, step in steps:
        if step is None:
            continue
        if _kind(step) not in SCALERS:
            _refuse(name, step, SCALERS)
        _require_fitted(step, name)
        minus, times = SCALERS[_kind(step)](step, count)
        if (times == 0).any():
            raise ValueError(f"{name}: expected scales other than 0, got 0")
        if limits is not None:
            raise ValueError(f"{name}: expected no scaler behind one that clips")
        if getattr(step, "clip", False):
            limits = np.broadcast_to(np.asarray(step.feature_range, np.float64)[:, None], (2, count))
        center, scale = center + minus / scale, scale * times
    net, classes = NETS[_kind(last)](last)
    known = next((s.feature_names_in_ for _, s in (*steps, (name, last)) if hasattr(s, "feature_names_in_")), None)
    given = features if features is not None else known if known is not None else range(count)
    return Tabular(
        net.astype(dtype),  # type: ignore[arg-type]
        _names("outputs", outputs if outputs is not None else classes, len(classes)),
        _names("features", given, count),
        center,
        scale,
        limits,
    )


def _steps(estimator: Any) -> list[tuple[str, Any]]:
    """(name, step) of a pipeline; None for a step that passes everything through."""
    if _kind(estimator) != "Pipeline":
        return [(type(estimator).__name__, estimator)]
    if not estimator.steps:
        raise ValueError("estimator: expected a pipeline with steps, got none")
    return [(name, None if step is None or step == "passthrough" else step) for name, step in estimator.steps]


def _kind(estimator: Any) -> str:
    """The class of scikit-learn that it is, or that its class is derived from."""
    own = (cls.__name__ for cls in type(estimator).__mro__ if cls.__module__.split(".")[0] == "sklearn")
    return next((name for name in own if name in (*NETS, *SCALERS, "Pipeline")), "")


def _refuse(name: str, estimator: Any, known: Mapping[str, Any]) -> NoReturn:
    raise TypeError(f"estimator: {name}: expected one of {', '.join(known)} of scikit-learn, got {type(estimator).__name__}")


def _require_fitted(estimator: Any, name: str) -> None:
    if not hasattr(estimator, "n_features_in_"):
        raise ValueError(f"estimator: {name}: expected one that is fitted; call fit first")


def _names(argument: str, given: Any, count: int) -> tuple[str, ...]:
    names = tuple(str(name) for name in given)
    if len(names) != count:
        raise ValueError(f"{argument}: expected {count} names, got {len(names)}")
    return names


# ---- Scalers: what they subtract, and what they multiply by ----------------------------------------------------------


def _standard(step: Any, count: int) -> tuple[Array, Array]:
    mean = np.zeros(count) if step.mean_ is None or not step.with_mean else np.asarray(step.mean_, np.float64)
    return mean, np.ones(count) if step.scale_ is None else 1 / np.asarray(step.scale_, np.float64)


def _min_max(step: Any, count: int) -> tuple[Array, Array]:
    scale = np.asarray(step.scale_, np.float64)
    return -np.asarray(step.min_, np.float64) / scale, scale


SCALERS: dict[str, Callable[[Any, int], tuple[Array, Array]]] = {"StandardScaler": _standard, "MinMaxScaler": _min_max}


# ---- Nets: layers, and the names of outputs --------------------------------------------------------------------------

ACTIVATIONS: dict[str, Callable[[], Module]] = {"relu": ReLU, "tanh": Tanh, "logistic": Sigmoid, "identity": Identity}


def _multilayer(estimator: Any) -> Sequential:
    activation = estimator.activation
    if activation not in ACTIVATIONS:
        raise ValueError(f"estimator: activation: expected one of {', '.join(ACTIVATIONS)}, got {activation!r}")
    if estimator.out_activation_ not in ("identity", "logistic", "softmax"):
        found = estimator.out_activation_
        raise ValueError(f"estimator: out_activation_: expected identity, logistic or softmax, got {found!r}")
    layers: list[tuple[str, Module]] = []
    for k, (w, b) in enumerate(zip(estimator.coefs_, estimator.intercepts_, strict=True), 1):
        layers.append((f"dense{k}", Linear(np.asarray(w), np.asarray(b))))
        layers.append((f"{activation}{k}", ACTIVATIONS[activation]()))
    return Sequential(layers[:-1])


def _classifier(estimator: Any) -> tuple[Sequential, list[str]]:
    return _multilayer(estimator), _class_names(estimator, len(estimator.intercepts_[-1]))


def _regressor(estimator: Any) -> tuple[Sequential, list[str]]:
    outputs = len(estimator.intercepts_[-1])
    return _multilayer(estimator), ["output"] if outputs == 1 else [f"output {k}" for k in range(outputs)]


def _logistic(estimator: Any) -> tuple[Sequential, list[str]]:
    w, b = np.asarray(estimator.coef_), np.asarray(estimator.intercept_)
    net = Sequential(dense1=Linear(np.ascontiguousarray(w.T), np.broadcast_to(b, len(w)).astype(w.dtype)))
    return net, _class_names(estimator, len(w))


def _class_names(estimator: Any, outputs: int) -> list[str]:
    """The classes of the outputs: of two classes that share one output, the second."""
    names = [str(name) for name in estimator.classes_]
    return names[-outputs:]


NETS: dict[str, Callable[[Any], tuple[Sequential, list[str]]]] = {
    "MLPClassifier": _classifier,
    "MLPRegressor": _regressor,
    "LogisticRegression": _logistic,
}

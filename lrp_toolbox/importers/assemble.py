"""The last step of every importer: from a draft to the `Model`, with its net, preprocessing, classes and card."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from typing import Any, TypeVar

import numpy as np

from ..data import Preprocessing
from ..io import Logits, Model, ModelFormatError, brief
from ..modules import Module, Sigmoid, SoftMax
from ..zoo import class_names
from . import passes
from .draft import Draft, Value
from .graph import build

T = TypeVar("T")


def choose(argument: str, given: T | None, stated: T | None, usual: T, assumed: dict[str, Any]) -> T:
    """The value of an argument: the caller's, else the file's, else the usual one, which is entered in `assumed`."""
    value = given if given is not None else stated
    if value is None:
        assumed[argument] = usual
        return usual
    return value


def assemble(
    draft: Draft,
    output: Value,
    preprocessing: Preprocessing,
    labels: str | PathLike[str] | Sequence[str] | None,
    *,
    where: str,
    name: str,
    origin: str,
    dtype: np.dtype[Any],
    assumed: dict[str, Any],
    logits: bool = True,
) -> Model:
    """The model that computes `output`.

    where     the file, with which errors begin
    origin    what the network is and where it was read from, for summary and card
    logits    whether a softmax or sigmoid at the end is left off
    assumed   the arguments that neither caller nor file decided; "labels" is added if none are given

    Raises ModelFormatError if there is not one number for each class, or if `build` or `class_names` does.
    """
    if len(output.shape) != 1:
        raise ModelFormatError(f"{where}: output: expected one number for each class, found {brief(output.shape)}")
    if labels is None:
        assumed["labels"] = None
    nodes, source, target, end = passes.leading_to(draft.nodes, output.name), draft.source.name, output.name, ""
    meaning: Logits | None = None
    if logits:
        nodes, target, dropped = passes.drop_last_activation(nodes, target)
        meaning = MEANING[type(dropped.module)] if dropped else None
        end = f" Its {dropped.kind} at the end is left off: the outputs are logits." if dropped else ""
    nodes = passes.fuse_normalisation(passes.absorb_padding(nodes), target)
    nodes = passes.leading_to(nodes, target)
    nodes, preprocessing = passes.absorb_input_scaling(nodes, source, target, preprocessing)
    in_dtype = []
    for node in nodes.values():
        try:
            in_dtype.append(replace(node, module=_in(node.module, dtype)))
        except ValueError as error:  # of a BatchNorm
            raise ModelFormatError(f"{where}: {node.name}: {error}") from error
    net = build(in_dtype, source, target, where)
    card = _CARD.format(
        name=name,
        summary=f"{origin}.{end}",
        parameters=f"{sum(math.prod(a.shape) for a in net.parameters()):,}",
        **preprocessing.facts(),
        output=target,
        outputs=output.shape[0],
        assumed=", ".join(assumed) or "nothing",
    )
    classes = class_names(labels, output.shape[0])
    return Model(name, net, classes, preprocessing, f"{origin}.{end}", card, logits=meaning)


MEANING: dict[type[Module], Logits] = {SoftMax: "exclusive", Sigmoid: "independent"}  # of logits, by what was left off

_CARD = """\
# {name}

{summary} The licence is that of these files.

| | |
|---|---|
| input | {input} |
| photographs | {photographs} |
| output | `{output}`, {outputs} numbers |
| parameters | {parameters} |
| assumed, since neither the files nor the user said so | {assumed} |
"""


def _in(module: Module, dtype: np.dtype[Any]) -> Module:
    """`module` in `dtype`: weights that are computed here and not read, those of a Scale, are in double precision so far."""
    return module.map(lambda a: a if a.dtype == dtype else a.astype(dtype))

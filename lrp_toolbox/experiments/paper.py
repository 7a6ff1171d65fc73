"""Table I of Kohlbrenner et al. 2020, to compare with our measurements. Ours need not be equal: the networks and the data
differ, and the paper's toolboxes deviate from its equations."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..attribution import parse_method
from ..io import Model
from .methods import BASELINE
from .results import Line, Table

#: μ_w, μ≤0.25, μ≤0.5, μ by data set and method.
TABLE_I: dict[str, dict[str, tuple[float, float, float, float | None]]] = {
    "voc": {  # PASCAL VOC 2007, CaffeNet
        "cmp:alpha=2,flat=1": (2.716, 0.307, 0.421, 0.532),
        "cmp:alpha=1,flat=0": (2.664, 0.306, 0.426, 0.539),
        "cmp:alpha=1,flat=1": (2.598, 0.301, 0.421, 0.535),
        "cmp:alpha=2,flat=0": (2.475, 0.276, 0.388, 0.504),
        "z": (2.128, 0.236, 0.353, 0.480),
        "guided_backprop": (1.943, 0.212, 0.335, 0.470),
        "alphabeta:alpha=2": (1.843, 0.205, 0.320, 0.452),
        "alphabeta:alpha=1": (1.486, 0.163, 0.273, 0.403),
        BASELINE: (1.000, 0.100, 0.186, 0.322),
    },
    "imagenet": {  # ILSVRC 2012 val, VGG-16
        "cmp:alpha=2,flat=1": (1.902, 0.397, 0.534, None),  # its μ cannot be read in the copy at hand
        "cmp:alpha=2,flat=0": (1.797, 0.368, 0.505, 0.693),
        "cmp:alpha=1,flat=0": (1.7044, 0.3467, 0.4887, 0.6898),
        "cmp:alpha=1,flat=1": (1.7043, 0.3466, 0.4886, 0.6898),
        "alphabeta:alpha=2": (1.702, 0.332, 0.496, 0.706),
        "guided_backprop": (1.640, 0.312, 0.485, 0.710),
        "alphabeta:alpha=1": (1.609, 0.306, 0.475, 0.699),
        "pattern_attribution": (1.591, 0.303, 0.471, 0.698),
        "z": (1.347, 0.236, 0.389, 0.632),
        BASELINE: (1.000, 0.128, 0.260, 0.547),
    },
}


def compared_with_the_paper(lines: Sequence[Line], dataset: str, model: Model) -> Table:
    """Table I here and, in parentheses, in the paper: the numbers, and each row's place among the rows that both have."""
    theirs = TABLE_I[dataset]
    specs = {line.method: _in_the_paper(line.method, dataset, model) for line in lines}
    common = [(line, theirs[spec]) for line in lines if (spec := specs[line.method]) is not None]
    order = [line.method for line, _ in sorted(common, key=lambda pair: -pair[1][0])]
    rows: Table = [("method", "place (paper)", "μ_w (paper)", "μ≤0.25 (paper)", "μ≤0.5 (paper)", "μ (paper)")]
    for place, (line, numbers) in enumerate(common, 1):
        s = line.summary
        here = [f"{estimate.value:.3f}" for estimate in (s.mu_w, s.mu_25, s.mu_50, s.mu)]
        there = ["–" if value is None else f"{value:.3f}" for value in numbers]
        pairs = [f"{a} ({b})" for a, b in zip(here, there, strict=True)]
        rows.append((line.name, f"{place} ({order.index(line.method) + 1})", *pairs))
    return rows


def _in_the_paper(spec: str, dataset: str, model: Model) -> str | None:
    """The method's row in the paper's table. Parameters that depend on the net, `dense` and `patterns`, make no difference."""
    name, method = spec.partition(":")[0], parse_method(spec, model)
    own = re.findall(r"[:,]((?:dense|patterns)=[^,]*)", spec)
    for row in TABLE_I[dataset]:
        if row.partition(":")[0] == name:
            parameters = ",".join(filter(None, [row.partition(":")[2], *own]))
            if parse_method(f"{name}:{parameters}" if parameters else name, model) == method:
                return row
    return None

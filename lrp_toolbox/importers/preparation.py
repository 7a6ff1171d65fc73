"""What a framework does to photographs within the net, as part of our preprocessing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..data import Preprocessing
from ..modules import Conv, Identity, Scale, Sequential


def fold(p: Preprocessing, net: Sequential) -> tuple[Preprocessing, Sequential]:
    """A Scale at the input as part of the preprocessing, (pixel − mean) · scale · w + b = (pixel − mean') · scale'.

    A preprocessing has one scale for all channels: if they differ, w stays behind and joins the weights of the convolution
    that follows, or stands as a Scale without bias, which passes all relevance on.
    """
    children = list(net.items())
    while isinstance(scale := children[0][1], Scale) and len(scale.w) == len(p.mean) and (scale.w != 0).all():
        w = np.asarray(scale.w, np.float64)
        b = np.zeros(len(w)) if scale.b is None else np.asarray(scale.b, np.float64)
        p = replace(p, mean=tuple(float(m) for m in np.asarray(p.mean) - b / (p.scale * w)))
        name = children.pop(0)[0]
        if w[0] > 0 and (w == w[0]).all():
            p = replace(p, scale=p.scale * float(w[0]))
            children = children or [("identity", Identity())]
            continue
        following = children[0][1] if children else None
        if isinstance(following, Conv) and following.groups == 1:
            children[0] = (children[0][0], replace(following, w=following.w * scale.w[:, None].astype(following.w.dtype)))
        else:
            children.insert(0, (name, Scale(scale.w)))
        break
    return p, Sequential(children)

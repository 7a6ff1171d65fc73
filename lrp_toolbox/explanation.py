"""What `explain` found, and how it shows itself: as text, in a notebook, as a picture."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .backend import Array, namespace, to_numpy
from .composites import RuleTable
from .ledger import REASONS, TITLES, Ledger

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 12  # targets that are drawn in one picture
QUANTILE = 0.999  # of |R|, at which the colours of a picture end
FEATURES = 12  # that a list of features has


@dataclass(frozen=True, eq=False)
class Row:
    """One explanation among those of several samples and targets."""

    name: str  # the class, if it is known
    sample: int | None  # None if there is only one
    target: int | None
    logit: float | None
    yes: bool | None  # whether the net says yes to the class; None if that is not known
    R: Array
    ledger: Ledger
    features: Sequence[str] | None = None  # their names, if the model knows them

    @property
    def title(self) -> str:
        """ "cat (20.62)" and, on a second line, whether the net says yes to it."""
        sample = "" if self.sample is None else f"sample {self.sample}: "
        logit = "" if self.logit is None else f" ({number(self.logit)})"
        return f"{sample}{self.name}{logit}" + (f"\n{self.verdict}" if self.verdict else "")

    @property
    def verdict(self) -> str:
        return "" if self.yes is None else f"the net says {'yes' if self.yes else 'no'}"

    @property
    def balance(self) -> str:
        """ "20.62 = 20.52 on the input + 0.1045 bias": where the relevance of the output went."""
        amounts = {TITLES.get(reason, reason): self.ledger.absorbed(reason) for reason in REASONS}
        amounts["rounding"] = self.ledger.rounding
        rest = [(name, float(amount)) for name, amount in amounts.items() if float(amount)]
        said = "".join(f" {'−' if amount < 0 else '+'} {abs(amount):.3g} {name}" for name, amount in rest)
        return f"{number(self.ledger.start)} = {number(self.ledger.end)} on the input{said}"


def number(value: Any, digits: int = 4) -> str:
    """So many digits, with a minus sign of the right width."""
    return f"{float(value):.{digits}g}".replace("-", "−")


@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """What `explain` found.

    R        relevance of the input, in the shape of x; with an axis for targets, behind the one for samples, if several
             targets were asked for: (sample, target, height, width, channel)
    y        the output of the net: the logits, (sample, class)
    target   the index of the class that each R explains; None if the start relevance was given
    labels   the same as words
    ledger   where relevance went, with the leading axes of R
    layers   relevance of the outputs of the layers that were to be kept, by name, with the leading axes of R
    rules    which layer followed which rule
    classes  the names of the outputs; None if they are not known
    model    the model that was asked; None if it was a module
    photo    the part of the photograph that the net sees, if `Model.explain` was asked

    A notebook shows it with its picture. `show` and `save` draw the picture elsewhere.
    """

    R: Array
    y: Array
    target: np.ndarray[Any, Any] | None
    labels: Any
    ledger: Ledger
    layers: Mapping[str, Array]
    rules: RuleTable
    classes: Sequence[str] | None = None
    model: Any = None
    photo: np.ndarray[Any, np.dtype[np.uint8]] | None = None

    @property
    def heatmap(self) -> Array:
        """R summed over the channels: one number for each pixel."""
        return namespace(self.R).sum(self.R, axis=-1)

    def show(self) -> None:
        """Show the picture: below the cell in a notebook, else with the program for pictures of this machine.

        Raises RuntimeError if there is no such program.
        """
        figure = self.figure()
        shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
        if shell is not None and hasattr(shell, "kernel"):
            sys.modules["IPython"].display.display(figure)
            return
        from PIL import Image, ImageShow

        png = io.BytesIO()
        figure.savefig(png, format="png", bbox_inches="tight")
        if not ImageShow.show(Image.open(png), title=self.rules.name):
            raise RuntimeError("there is no program here that shows pictures; write one with save('explanation.png')")

    def save(self, path: str | PathLike[str]) -> Path:
        """Write the picture as .png, .jpg, .pdf or .svg, as the ending of `path` says. An error leaves `path` as it was."""
        from . import render

        path = Path(path)
        render.require_picture_name(path)
        return render.save_picture(self.figure(), path)

    def figure(self) -> Figure:
        """The picture: a row for each sample and target, the first 12 of them.

        With a photograph it is `render.montage`; without one, heatmaps; for features, bars for those with the largest |R|. For
        signals (place, channel), time goes from left to right, with a line for each channel.
        """
        from . import pictures

        return pictures.figure_of(self)

    def rows(self) -> Iterator[Row]:
        """The explanations of the samples and targets, one after the other."""
        lead = self.ledger.start.shape
        batched = self.target is not None and self.y.ndim == 2
        several = batched and self.y.shape[0] > 1
        says = getattr(self.model, "says_yes", None)
        verdicts = None if says is None or self.target is None else says(self.y)
        for index in np.ndindex(*lead):
            of = (index[0],) if batched else ()
            target = None if self.target is None else int(self.target[index])
            name = "start relevance" if target is None else f"class {target}"
            yield Row(
                name=name if self.labels is None or target is None else str(np.asarray(self.labels, dtype=object)[index]),
                sample=index[0] if several else None,
                target=target,
                logit=None if target is None else float(self.y[(*of, target)]),
                yes=None if verdicts is None else bool(verdicts[(*of, target)]),
                R=self.R[(*index, ...)],
                ledger=self.ledger[index],
                features=getattr(self.model, "features", None),
            )

    @property
    def count(self) -> int:
        """How many samples and targets there are together."""
        return int(np.prod(self.ledger.start.shape, dtype=int))

    def __repr__(self) -> str:
        lines = [f"Explanation by {self.rules.name}: R {'×'.join(map(str, self.R.shape))}, {self.R.dtype}"]
        for row in islice(self.rows(), MOST):
            lines.append(f"  {row.title.replace(chr(10), ', ')}: {row.balance}")
        if self.count > MOST:
            lines.append(f"  … and {self.count - MOST} more")
        if self.layers:
            lines.append(f"  kept: {', '.join(islice(self.layers, MOST))}{', …' if len(self.layers) > MOST else ''}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from . import pictures

        return pictures.explanation_html(self)


def largest_features(row: Row) -> list[tuple[str, float]]:
    """(name, relevance) of the features with the largest |R|, the largest first, for R (feature)."""
    values = to_numpy(row.R).astype(np.float64)
    order = np.argsort(-abs(values), kind="stable")[:FEATURES]
    return [(f"feature {i}" if row.features is None else row.features[i], float(values[i])) for i in order]

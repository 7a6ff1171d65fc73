"""What `lrp experiment` does: Table I and Figures 1 to 4 of the paper, each from a data set, a model and methods."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import ascii_lowercase
from typing import Any, Literal

from matplotlib.figure import Figure

from ..data import VOC, ImageNet, Item
from ..files import write_text
from ..io import Model
from ..render import Picture, save_picture
from . import figures, report, results
from .measure import Localise, Measurement, Occlude, Setup, chosen, outputs_of, shard, wanted
from .paper import compared_with_the_paper
from .run import digest, executing, measure, provenance
from .store import Store


@dataclass(frozen=True)
class Experiment:
    """A data set, a model and methods, and how to go about it.

    methods   as they are typed; none: the paper's
    limit     so many images, drawn with `seed`; None: all
    ids       images to show in Fig. 1 and 4; none: the first, in the order of `seed`, on which the model sees what is shown
    part      (i, n): measure the i-th of n parts, and no more
    bins      of box sizes in Fig. 2 and 3
    examples  images that are shown in the report
    """

    dataset: Literal["voc", "imagenet"]
    data: Path
    split: str
    setup: Setup
    out: Path
    methods: tuple[str, ...] = ()
    limit: int | None = None
    seed: int = 0
    ids: tuple[str, ...] = ()
    part: tuple[int, int] = (1, 1)
    workers: int = 1
    dask: str | None = None
    bins: int = 100
    examples: int = 8
    command: tuple[str, ...] = ()

    @cached_property
    def model(self) -> Model:
        return self.setup.open()

    @cached_property
    def source(self) -> VOC | ImageNet:
        return VOC(self.data) if self.dataset == "voc" else ImageNet(self.data)

    @cached_property
    def everything(self) -> list[Item]:
        return self.source.items(self.split)

    @cached_property
    def items(self) -> list[Item]:
        return chosen(self.everything, self.limit, self.seed)

    @cached_property
    def outputs(self) -> dict[str, int]:
        return outputs_of(self.source, self.model)

    @property
    def title(self) -> str:
        name = {"voc": "PASCAL VOC", "imagenet": "ImageNet"}[self.dataset]
        return f"{name} {self.split}, {self.model.name}, {len(self.items)} images"

    # -- measuring

    def localised(self) -> tuple[results.Localised, Store] | None:
        measurement = Localise(self.setup, self.methods or figures.ROWS)
        measurement.parsed()  # what cannot be parsed is refused before anything is measured
        store = self.measured(measurement, {"methods": list(measurement.methods)})
        return None if store is None else (results.Localised.read(store, measurement, self.ids_of_items), store)

    def occluded(self) -> tuple[results.Occluded, Store] | None:
        store = self.measured(Occlude(self.setup), {})
        return None if store is None else (results.Occluded.read(store, self.ids_of_items), store)

    def measured(self, measurement: Measurement, settings: Mapping[str, Any]) -> Store | None:
        """The store with all the items measured; None where only a part was asked for."""
        store = self.store(measurement, settings)
        mine = shard(self.items, self.part)
        if not {item.id for item in mine} <= store.done():
            with executing(self.workers, self.dask) as (executor, ahead):
                measure(measurement, mine, self.outputs, store, executor, ahead)
        if self.part != (1, 1):
            i, n = self.part
            print(f"part {i} of {n}: {len(mine)} images are measured in {store.file}; when all parts are, run without --shard")
            return None
        return store

    def store(self, measurement: Measurement, settings: Mapping[str, Any]) -> Store:
        assert self.model.folder is not None
        common = {
            "dataset": f"{self.dataset} {self.split}",
            "annotations": self._annotations(),
            "model": self.model.name,
            "model files": digest(self.model.folder),
            "fit": self.model.preprocessing.fit,
            "backend": self.setup.backend,
        }
        columns, told = measurement.columns, provenance(self.command)
        return Store(self.out, measurement.name, columns, {**common, **settings}, told, self.part)

    @property
    def ids_of_items(self) -> list[str]:
        return [item.id for item in self.items]

    def _annotations(self) -> str:
        """A digest of what the data set says of its images."""
        whole = hashlib.sha256()
        for item in self.everything:
            boxes = {name: of.tolist() for name, of in item.boxes.items()}
            whole.update(repr((item.id, item.size, boxes, sorted(item.incomplete))).encode())
        return whole.hexdigest()[:16]

    # -- what is left in the folder

    def write(self, name: str, text: str) -> None:
        """A file in the folder; no unfinished one bears that name."""
        print(write_text(self.out / name, text))

    def draw(self, name: str, figure: Picture | Figure) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        print(save_picture(figure, self.out / name))


def table1(e: Experiment) -> None:
    """μ and μ_w of all methods, and a report with the curves and examples."""
    measured = e.localised()
    if measured is None:
        return
    found, store = measured
    lines = results.table(found)
    note = results.counts(lines)
    print(f"{results.as_text(results.table_1(lines))}\n\n{note}\n")
    tables = {
        "Table I": results.table_1(lines),
        "Beside the paper's Table I": compared_with_the_paper(lines, e.dataset),
        "μ_w, and places, by other choices": results.choices(found, lines),
    }
    drawn = {"Fig. 3": figures.figure_3(found, e.title, e.bins)}
    occlusion = e.store(Occlude(e.setup), {})
    if set(e.ids_of_items) <= occlusion.done():
        drawn = {"Fig. 2": figures.figure_2(results.Occluded.read(occlusion, e.ids_of_items), e.title, e.bins), **drawn}
    facts = _facts(store)
    shown = chosen(e.items, min(e.examples, len(e.items)), e.seed) if e.examples else []
    methods = [method for method in found.methods if method != results.BASELINE]
    examples = {item.id: _sheet(e, item, methods) for item in shown}
    e.write("table1.csv", results.table_csv(lines))
    told = "".join(f"- {key}: {value}\n" for key, value in facts.items())
    pages = (f"## {name}\n\n{results.as_markdown(table)}\n" for name, table in tables.items())
    e.write("table1.md", "\n".join([f"# {e.title}\n", told, *pages, note, ""]))
    e.write("localisation.csv", results.rows_csv(store, e.ids_of_items))
    e.write("report.html", report.page(e.title, facts, tables, note, drawn, examples))


def _facts(store: Store) -> dict[str, str]:
    """What was measured and by what, as it is to be read; where shards differ, all of it."""
    facts: dict[str, list[str]] = {}
    for meta in store.meta():
        settings = {key: value for key, value in meta.pop("settings").items() if key != "methods"}
        for key, value in {**settings, **meta}.items():
            found = facts.setdefault(key, [])
            if str(value) not in found:
                found.append(str(value))
    del facts["format"]
    return {**{key: "; ".join(found) for key, found in facts.items()}, "seconds": f"{store.seconds():.0f}, image by image"}


def fig1(e: Experiment) -> None:
    """An image, a row for each of two classes, columns (a) to (g)."""
    e.draw("fig1.png", _stacked(e, 1))


def fig2(e: Experiment) -> None:
    """How far the logit falls when the object, or its context, is replaced by the mean colour."""
    measured = e.occluded()
    if measured is not None:
        found, store = measured
        e.write("occlusion.csv", results.rows_csv(store, e.ids_of_items))
        e.draw("fig2.png", figures.figure_2(found, e.title, e.bins))


def fig3(e: Experiment) -> None:
    """μ over the size of boxes."""
    measured = e.localised()
    if measured is not None:
        e.draw("fig3.png", figures.figure_3(measured[0], e.title, e.bins))


def fig4(e: Experiment) -> None:
    """As Fig. 1, for five images."""
    e.draw("fig4.png", _stacked(e, 5))


def _sheet(e: Experiment, item: Item, methods: Sequence[str], letters: str = "") -> Figure:
    targets, _ = figures.two_targets(e.setup, item, list(wanted(item, e.outputs).values()))
    return figures.sheet(e.setup, item, targets, methods, letters)


def _stacked(e: Experiment, count: int) -> Picture:
    """Sheets, one below the other, of the images that are asked for; or of so many on which the model sees what is shown."""
    known, methods = {item.id: item for item in e.everything}, e.methods or figures.COLUMNS
    for name in e.ids:
        if name not in known:
            raise ValueError(f"--item: no image {name!r} in {e.data}")
    asked = [known[name] for name in e.ids] or _seen(e)
    sheets = [_sheet(e, item, methods, ascii_lowercase) for item in itertools.islice(asked, count)]
    if not sheets:
        raise ValueError(f"{e.model.name} sees on none of the {len(e.items)} images what is shown; give one (--item)")
    return figures.stacked(sheets)


def _seen(e: Experiment) -> Iterator[Item]:
    """Images on which the model sees what is shown; where there are some with several classes, these."""
    several = [item for item in e.items if len(item.measured) > 1] or e.items
    for item in chosen(several, len(several), e.seed):
        if figures.two_targets(e.setup, item, list(wanted(item, e.outputs).values()))[1]:
            yield item


EXPERIMENTS: dict[str, Callable[[Experiment], None]] = {f.__name__: f for f in (table1, fig1, fig2, fig3, fig4)}

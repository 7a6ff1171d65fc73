"""The experiments of `lrp experiment`: Table I and Figures 1 to 4 of the paper, for a data set, a model and methods."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from string import ascii_lowercase
from typing import Any, Literal

from matplotlib.figure import Figure
from tqdm import tqdm

from ..attribution import Method, parse_method
from ..data import VOC, ImageNet, Item
from ..files import require_no_file, write_text
from ..io import Model
from ..modules.pooling import ties_of
from ..render import Picture, save_picture
from . import figures, report, results
from .measure import Localise, Measurement, Occlude, Setup, chosen, outputs_of, shard, wanted
from .methods import BASELINE, COLUMNS, ROWS, asked_methods, note, spelling, usual_methods
from .paper import compared_with_the_paper
from .report import Shown
from .run import digest, executing, measure, provenance
from .store import Store

RANGES: dict[str, tuple[int, int | None]] = {  # smallest and largest value
    "limit": (1, None),
    "seed": (0, None),
    "workers": (1, None),
    "bins": (1, 1000),
    "examples": (0, None),
}


@dataclass(frozen=True)
class Experiment:
    """A data set, a model, methods, and the way to measure them.

    methods   their names, as for `lrp explain`; none: the paper's methods
    limit     the number of images, drawn with `seed`; None: all
    ids       the images in Fig. 1 and 4; none: the first, in the order of `seed`, on which the model is right
    part      (i, n): measure only the i-th of n parts
    bins      the number of box sizes in Fig. 2 and 3
    examples  the number of images in the report

    Raises ValueError for numbers that make no sense.
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

    def __post_init__(self) -> None:
        for name, (smallest, largest) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not (smallest <= value and (largest is None or value <= largest)):
                expected = f"≥ {smallest}" if largest is None else f"from {smallest} to {largest}"
                raise ValueError(f"{name}: expected a number {expected}, got {value}")
        require_no_file("out", self.out)

    @cached_property
    def model(self) -> Model:
        return self.setup.open()

    @cached_property
    def source(self) -> VOC | ImageNet:
        if not self.data.is_dir():
            raise FileNotFoundError(f"data: there is no folder {self.data}")
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

    def asked(self, usual: Sequence[str]) -> dict[str, Method]:
        """The methods by spelling: those that are named, or else the `usual` ones of the paper that the model allows."""
        named = asked_methods(self.methods, self.model)
        return named or usual_methods(usual, self.model)

    def localised(self) -> tuple[results.Localised, Store] | None:
        """The measurements of the methods that are asked for; None if only a part of the images was to be measured.

        If the folder has these methods among others, they are read from there, and missing images are measured for all.
        """
        _ = self.items, self.outputs  # if the data set or the model is not there, say so before anything about methods
        asked = self.asked(ROWS)
        earlier = self._measured_before()
        specs = list(earlier or asked)
        if earlier:
            found = {spec: spelling(method, earlier) for spec, method in asked.items()}
            if missing := [spec for spec, same in found.items() if same is None]:
                raise ValueError(
                    f"{self.out}: methods: was measured with {', '.join(earlier)}, and {', '.join(missing)} is not among them; "
                    "give another folder (--out)"
                )
            asked = {same: asked[spec] for spec, same in found.items() if same is not None}
        measurement = Localise(self.setup, tuple(specs))
        store = self.store(measurement, {"methods": specs})
        left = {item.id for item in shard(self.items, self.part)} - store.done()
        if left and len(asked) < len(specs):
            note(f"{self.out} has {len(specs)} methods; {len(left)} more images are measured for all of them")
        done = self.measured(measurement, store)
        return None if done is None else (results.Localised.read(done, asked, self.ids_of_items), done)

    def _measured_before(self) -> dict[str, Method]:
        """The methods that the folder was measured with, by spelling; none if nothing is there."""
        found = self.store(Localise(self.setup, ()), {}).meta()
        return {spec: parse_method(spec, self.model) for spec in found[0]["settings"]["methods"]} if found else {}

    def occluded(self) -> tuple[results.Occluded, Store] | None:
        measurement = Occlude(self.setup)
        store = self.measured(measurement, self.store(measurement, {}))
        return None if store is None else (results.Occluded.read(store, self.ids_of_items), store)

    def measured(self, measurement: Measurement, store: Store) -> Store | None:
        """The store with all items measured; None if only a part was to be measured."""
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
            "ties": ties_of(self.model.net),
        }
        columns, told = measurement.columns, provenance(self.command)
        return Store(self.out, measurement.name, columns, {**common, **settings}, told, self.part)

    @property
    def ids_of_items(self) -> list[str]:
        return [item.id for item in self.items]

    def _annotations(self) -> str:
        """A digest of the sizes and boxes of all images."""
        whole = hashlib.sha256()
        for item in self.everything:
            boxes = {name: of.tolist() for name, of in item.boxes.items()}
            whole.update(repr((item.id, item.size, boxes, sorted(item.incomplete))).encode())
        return whole.hexdigest()[:16]

    # -- files of the folder

    def write(self, name: str, text: str) -> None:
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
    lines = results.table(found, progress=True)
    finding, about = results.finding(lines), results.counts(lines)
    print(f"{results.as_text(results.table_1(lines))}\n\n{about}\n\n{finding}\n")
    tables = {
        "Table I": results.table_1(lines),
        "Compared with the paper's Table I": compared_with_the_paper(lines, e.dataset, e.model),
        "μ_w, and places, by other choices": results.choices(found, lines),
    }
    facts = _facts(store)
    told = "".join(f"- {key}: {value}\n" for key, value in facts.items())
    pages = [f"## {name}\n\n{results.as_markdown(table)}\n" for name, table in tables.items()]
    heading = [f"# {e.title}\n", f"{finding}\n", f"{results.MEANING}\n"]
    e.write("table1.csv", results.table_csv(lines))
    e.write("table1.md", "\n".join([*heading, *pages, f"{about}\n", "## How it was measured\n", told]))
    e.write("localisation.csv", results.rows_csv(store, e.ids_of_items))
    drawn, examples = _curves(e, found), _examples(e, [m for m in found.methods if m != BASELINE])
    e.write("report.html", report.page(e.title, finding, results.MEANING, tables, about, drawn, examples, facts))


def _curves(e: Experiment, found: results.Localised) -> list[Shown]:
    """Fig. 3 and, if occlusion was measured for all images, Fig. 2."""
    occlusion, drawn = e.store(Occlude(e.setup), {}), []
    if set(e.ids_of_items) <= occlusion.done():
        alt = (
            "Two curves over the size of boxes: how much the logit falls if the object is hidden, and if its context is hidden."
        )
        occluded = results.Occluded.read(occlusion, e.ids_of_items)
        drawn.append(Shown("Fig. 2: what the model needs", figures.figure_2(occluded, e.title, e.bins), alt))
    names = ", ".join(found.names.values())
    alt = f"μ over the size of boxes as a share of the image, with one curve each for: {names}."
    return [*drawn, Shown("Fig. 3: μ over the size of boxes", figures.figure_3(found, e.title, e.bins), alt)]


def _examples(e: Experiment, methods: Sequence[str]) -> list[Shown]:
    if not (e.examples and methods):
        return []
    words, shown = {name: e.model.classes[k] for name, k in e.outputs.items()}, []
    named = [parse_method(spec, e.model).name for spec in methods]
    for item in tqdm(chosen(e.items, min(e.examples, len(e.items)), e.seed), desc="examples", unit="image"):
        seen = " and ".join(words[name] for name in item.measured) or "nothing to measure"
        explained = " and ".join(e.model.classes[k] for k in _targets(e, item)[0])
        alt = f"Photograph {item.id}, and heatmaps of {explained} by {', '.join(named)}."
        shown.append(Shown(f"{seen} (image {item.id})", _sheet(e, item, methods), alt))
    return shown


def _facts(store: Store) -> dict[str, str]:
    """Settings and provenance in words. If shards differ, all their values."""
    facts: dict[str, list[str]] = {}
    for meta in store.meta():
        settings = {key: value for key, value in meta.pop("settings").items() if key != "methods"}
        for key, value in {**settings, **meta}.items():
            found = facts.setdefault(key, [])
            if str(value) not in found:
                found.append(str(value))
    del facts["format"]
    return {
        **{key: "; ".join(found) for key, found in facts.items()},
        "seconds": f"{store.seconds():.0f}, in sum over the images",
    }


def fig1(e: Experiment) -> None:
    """An image, a row for each of two classes, columns (a) to (g)."""
    e.draw("fig1.png", _stacked(e, 1))


def fig2(e: Experiment) -> None:
    """How much the logit falls when the object, or its context, is replaced by the mean colour."""
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


def _targets(e: Experiment, item: Item) -> tuple[list[int], bool]:
    return figures.two_targets(e.setup, item, list(wanted(item, e.outputs).values()))


def _sheet(e: Experiment, item: Item, methods: Sequence[str], letters: str = "") -> Figure:
    return figures.sheet(e.setup, item, _targets(e, item)[0], methods, letters)


def _stacked(e: Experiment, count: int) -> Picture:
    """Up to `count` sheets, one below the other: of the images that are named, or of images on which the model is right."""
    known = {item.id: item for item in e.everything}
    for name in e.ids:
        if name not in known:
            raise ValueError(f"item: no image {name!r} in {e.data}")
    images = iter([known[name] for name in e.ids] or _right(e))
    methods, sheets = list(e.asked(COLUMNS)), []
    count = min(count, len(e.ids)) if e.ids else count
    with tqdm(total=count, desc="sheets", unit="image") as bar:
        for _, item in zip(range(count), images, strict=False):
            sheets.append(_sheet(e, item, methods, ascii_lowercase))
            bar.update()
    if not sheets:
        raise ValueError(f"{e.model.name} is right on none of the {len(e.items)} images; give one (--item)")
    return figures.stacked(sheets)


def _right(e: Experiment) -> Iterator[Item]:
    """Images on which the model is right; images with several classes only, if there are any."""
    several = [item for item in e.items if len(item.measured) > 1] or e.items
    for item in chosen(several, len(several), e.seed):
        if _targets(e, item)[1]:
            yield item


EXPERIMENTS: dict[str, Callable[[Experiment], None]] = {f.__name__: f for f in (table1, fig1, fig2, fig3, fig4)}

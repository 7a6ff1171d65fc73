"""`lrp explain`: photographs in; classes, a picture and, if asked for, the relevance as numbers out."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import npz, render
from .attribution import LRP, parse_method
from .attribution.base import Method, explained_outputs
from .cli import DEFAULT_METHOD, MEANING
from .console import say
from .data import read_photo
from .explain import Explanation
from .files import new_file
from .io import Model, load
from .ledger import REASONS, TITLES


@dataclass(frozen=True)
class Question:
    """What is asked about every photograph."""

    model: Model
    specs: Sequence[str]  # methods as they were typed …
    methods: Sequence[Method]  # … and what they stand for
    targets: Sequence[int | str]


@dataclass(frozen=True)
class Answer:
    """What was found for one photograph. `found` has an explanation for each method that is LRP, and R for each other."""

    photo: Path
    found: Sequence[Any]
    outputs: Explanation  # the logits and the classes that are explained

    @property
    def relevance(self) -> list[Any]:
        """R (target, height, width, channel) of each method."""
        return [e.R if isinstance(e, Explanation) else e for e in self.found]

    @property
    def explanations(self) -> list[Explanation]:
        return [e for e in self.found if isinstance(e, Explanation)]


def run(arguments: argparse.Namespace) -> None:
    """All that can be wrong with the question is found before anything is computed or written."""
    if arguments.top < 1:
        raise ValueError(f"--top: expected a number ≥ 1, got {arguments.top}")
    if not 0 < arguments.quantile <= 1:
        raise ValueError(f"--quantile: expected a number above 0 and up to 1, got {arguments.quantile:g}")
    model = load(arguments.model, ties=arguments.ties)
    photos: list[Path] = arguments.photo or [p for p in [model.example] if p is not None]
    if not photos:
        raise ValueError(f"PHOTO: the model {model.name} comes without a photograph; give one")
    here = Path() if len(photos) > 1 else Path(f"{photos[0].stem}-lrp.png")
    pictures = _files("--output", arguments.output or here, photos, ".png")
    numbers = _files("--save-relevance", arguments.save_relevance, photos, ".npz") if arguments.save_relevance else None

    specs = arguments.method or [DEFAULT_METHOD]
    targets = [int(t) if t.isdecimal() else t for t in arguments.target or ["top"]]
    question = Question(model, specs, [_method(spec, model) for spec in specs], targets)
    explained_outputs(
        np.zeros(len(model.classes), np.float32), targets, model.classes
    )  # refuses classes that the model does not have
    if len(photos) > 1:
        for photo in photos:
            read_photo(photo)
    for k, photo in enumerate(photos):
        if k:
            say()
        _explain(question, photo, pictures[k], numbers[k] if numbers else None, arguments)


def _files(option: str, asked: Path, photos: Sequence[Path], ending: str) -> list[Path]:
    """The file to write for each photograph: `asked` itself, or one in the folder `asked`.

    Raises ValueError if it cannot be written there, if it is the photograph, or if two photographs have the same name.
    """
    known = render.picture_endings() if ending == ".png" else (ending,)
    if asked.suffix.lower() in known and not asked.is_dir():
        if len(photos) > 1:
            raise ValueError(f"{option}: {asked} is one file, and there are {len(photos)} photographs; give a folder")
        files = [asked]
    elif asked.is_dir() or len(photos) > 1:
        if asked.exists() and not asked.is_dir():
            raise ValueError(f"{option}: {asked} is not a folder, and there are {len(photos)} photographs")
        files = [asked / f"{photo.stem}-lrp{ending}" for photo in photos]
    else:
        raise ValueError(f"{option}: {asked}: expected a name that ends in {' or '.join(known)}, or a folder that exists")
    folder = asked if files != [asked] and asked.is_dir() else asked.parent
    if not folder.is_dir():
        raise FileNotFoundError(f"{option}: {asked}: there is no folder {folder}")
    for k, file in enumerate(files):
        if file in files[:k]:
            raise ValueError(
                f"{photos[files.index(file)]} and {photos[k]} would both be written to {file}; explain one at a time"
            )
        for photo in photos:
            if file.exists() and photo.exists() and file.samefile(photo):
                raise ValueError(f"{option}: {file} is the photograph itself, which would be overwritten")
    return files


def _method(spec: str, model: Model) -> Method:
    try:
        return parse_method(spec, model)
    except (ValueError, TypeError) as error:
        raise ValueError(_of_method(spec, error)) from error


def _of_method(spec: str, error: Exception) -> str:
    """The message of an error about a method, which names what was typed."""
    return f"--method {shlex.quote(spec)}: {str(error).removeprefix(f'method {spec!r}: ')}"


# ---- One photograph --------------------------------------------------------------------------------------------------


def _explain(question: Question, path: Path, picture: Path, numbers: Path | None, arguments: argparse.Namespace) -> None:
    model, photo = question.model, read_photo(path)
    x = model.prepare(photo)
    found = [_answer(spec, method, question, x) for spec, method in zip(question.specs, question.methods, strict=True)]
    explained = next((e for e in found if isinstance(e, Explanation)), None)
    outputs = explained or explained_outputs(model.net.forward(x), question.targets, model.classes)
    answer = Answer(path, found, outputs)

    figure = render.montage(
        model.preprocessing.view(photo),
        [[R[row] for R in answer.relevance] for row in range(len(question.targets))],
        rows=_rows(model, outputs),
        columns=[method.name for method in question.methods],
        colours=render.NIGHT if arguments.night else render.DAY,
        quantile=arguments.quantile,
        same_scale=arguments.same_scale,
    )
    # before anything is printed: whoever reads may stop reading
    picture.parent.mkdir(exist_ok=True)
    render.save_picture(figure, picture)
    if numbers:
        numbers.parent.mkdir(exist_ok=True)
        _save_numbers(question, answer, numbers)

    lines = [*_classes(model, answer, arguments.top)]
    for e in answer.explanations:
        lines += _where_relevance_went(e, rules=arguments.rules, ledger=arguments.ledger)
    lines += ["", f"picture: {picture}", *([f"numbers: {numbers}"] if numbers else [])]
    say("\n".join(lines))


def _answer(spec: str, method: Method, question: Question, x: Any) -> Any:
    """An explanation if the method is LRP, and R if it is another."""
    try:
        if isinstance(method, LRP):
            return method.explain(question.model, x, question.targets)
        return method(question.model, x, question.targets)
    except (ValueError, TypeError) as error:
        raise ValueError(_of_method(spec, error)) from error


def _targets(e: Explanation) -> list[tuple[str, int]]:
    """Name and index of the classes that are explained."""
    assert e.target is not None  # no start relevance is handed in here
    return [(str(label), int(index)) for label, index in zip(e.labels, e.target, strict=True)]


def _rows(model: Model, e: Explanation) -> list[str]:
    """What stands beside each row of the picture: class, logit, and whether the net says yes to it."""
    says = model.says_yes(e.y)
    verdict = ["" if says is None else f"\nthe net says {'yes' if says[k] else 'no'}" for k in range(len(model.classes))]
    return [f"{label} ({float(e.y[index]):.2f}){verdict[index]}".replace("(-", "(−") for label, index in _targets(e)]


def _classes(model: Model, answer: Answer, top: int) -> list[str]:
    """The classes with the largest logits, and those that are explained."""
    y, says = answer.outputs.y, model.says_yes(answer.outputs.y)
    explained = {index for _, index in _targets(answer.outputs)}
    best = np.argsort(-y, kind="stable")[:top].tolist()
    listed = best + sorted(explained.difference(best))
    width = max(24, *(len(model.classes[index]) for index in listed))
    lines = [f"{answer.photo}: {model.name} says (logits{f'; {MEANING[model.logits]}' if model.logits else ''})"]
    for index in listed:
        line = f"  {model.classes[index]:<{width}} {float(y[index]):9.3f}"
        if says is not None:
            line += f"  {'yes' if says[index] else 'no':<3}"
        if index in explained:
            line += "  ← explained" + (", though the net says no" if says is not None and not says[index] else "")
        lines.append(line.rstrip())
    return lines


def _where_relevance_went(e: Explanation, *, rules: bool, ledger: bool) -> list[str]:
    lines = ["", e.rules.name]
    if rules:
        lines.append(str(e.rules).partition("\n")[2])
    for row, (label, _) in enumerate(_targets(e)):
        book = e.ledger[row]
        amounts = {TITLES.get(reason, reason): float(book.absorbed(reason)) for reason in REASONS}
        amounts["rounding"] = float(book.rounding)
        rest = "".join(f" {'−' if a < 0 else '+'} {abs(a):.3g} {name}" for name, a in amounts.items() if a)
        lines.append(f"  {label}: {float(book.start):.3f} = {float(book.end):.3f} on the pixels{rest}")
        if ledger:
            lines.append("    " + str(book).replace("\n", "\n    "))
    return lines


# ---- Numbers ---------------------------------------------------------------------------------------------------------


def _save_numbers(question: Question, answer: Answer, file: Path) -> None:
    """The .npz that `lrp explain --help` describes."""
    explanations = [e if isinstance(e, Explanation) else None for e in answer.found]
    stored = npz.arrays(
        answer.relevance,
        answer.outputs.y,
        question.model.classes,
        [index for _, index in _targets(answer.outputs)],
        [method.name for method in question.methods],
        [None if e is None else e.rules for e in explanations],
        [None if e is None else e.ledger for e in explanations],
    )
    with new_file(file) as temporary:
        np.savez_compressed(
            temporary,
            allow_pickle=False,
            **stored,
            model=np.asarray(question.model.name),
            photo=np.asarray(str(answer.photo)),
        )

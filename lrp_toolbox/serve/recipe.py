"""The same explanation outside of the page: as a command, and as Python code."""

from __future__ import annotations

import glob
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..attribution.names import RULE_NAMES
from ..composites import layers
from ..io import Model
from ..modules import fuse
from ..render import NIGHT
from ..rules import AlphaBeta, Epsilon, Rule, ZBox
from .choices import GROUPS, PAPER, Choices, Question, composite_of


class Recipe:
    """Writes the command and the code for questions about `model`, which `lrp_toolbox.load(name)` loads.

    `choices` are those of the same model after `in_steps`.
    """

    def __init__(self, model: Model, name: str, choices: Choices):
        self.model, self.name, self.choices = model, name, choices
        found = layers(fuse(model.net), model.preprocessing.shape)
        self.names = {mine.name: theirs.name for mine, theirs in zip(choices.layers, found, strict=True)}

    def command(self, question: Question) -> str | None:
        """The line for a terminal; None if no `--method` means these rules."""
        spec = self.spec(question)
        if spec is None:
            return None
        target = self._target(question)
        words = ["lrp", "explain", *([] if question.photo is None else [_path(question.photo)]), "--model", self.name]
        words += ["--target", str(target), "--method", spec, *(["--night"] if question.colours is NIGHT else [])]
        return " ".join(map(_quoted, words))

    def code(self, question: Question) -> str:
        """A script that writes the picture to a file."""
        photo = "model.example" if question.photo is None else _string(question.photo)
        stem = self.model.example.stem if question.photo is None and self.model.example else Path(question.photo or "").stem
        target = self._target(question)
        target = _string(target) if isinstance(target, str) else target
        colours = ", colours=render.NIGHT" if question.colours is NIGHT else ""
        return f"""\
import lrp_toolbox as lrp
from lrp_toolbox import render

model = lrp.load({_string(self.name)})
photo = lrp.read_photo({photo})
composite = {self._composite(question)}
e = lrp.explain(model, model.prepare(photo), target={target}, composite=composite)
print(e.ledger)
view = model.preprocessing.view(photo)
picture = render.overlay(e.R, view{colours}, quantile=0.999)
render.save_picture(picture, {_string(stem + "-lrp.png")})
"""

    def spec(self, question: Question) -> str | None:
        """What `--method` calls these rules; None if it has no name for them."""
        wanted = self.choices.resolve(question.composite).rules
        for spec in _specs(question, self.choices.presets):
            try:
                found = self.choices.resolve(composite_of(spec, self.model)).rules
            except ValueError:  # not for this net
                continue
            if found == wanted:
                return spec
        return None

    def _target(self, question: Question) -> int | str:
        """The class by name, if a name means this class and nothing else."""
        name = self.model.classes[question.target]
        unclear = name == "top" or name.isdecimal() or name.startswith("-") or self.model.classes.count(name) > 1
        return question.target if unclear or not name.isprintable() else name

    def _composite(self, question: Question) -> str:
        spec = self.spec(question) or ""
        if spec.startswith("cmp") and "first=" not in spec:
            parameters = spec.partition(":")[2].replace("=all", '="all"').replace("=yes", "=True").replace(",", ", ")
            return f"lrp.lrp_cmp({parameters})"
        lines = [f"({_string(glob.escape(self.names[name]))}, {_rule(rule)})" for name, rule in question.layers.items()]
        if question.flat:
            lines.append(f"(lrp.First({question.flat}, dense=False), lrp.Flat())")
        lines += [f"({g.code}, {_rule(question.groups[g.name])})" for g in GROUPS if g.name in question.groups]
        return "lrp.Composite([\n" + "".join(f"    {line},\n" for line in lines) + "])"


def _specs(question: Question, presets: Iterable[str]) -> Iterator[str]:
    """Methods that may mean the same as `question`."""
    conv, dense = question.groups.get("conv"), question.groups.get("dense")
    alpha = conv.alpha if isinstance(conv, AlphaBeta) else 2
    eps = dense.eps if isinstance(dense, Epsilon) and dense.eps != Epsilon().eps else None
    first = [f",first={_spec(rule)}" for rule in question.layers.values()]
    for flat in (question.flat, "all"):
        for pooling in ("", ",pooling=yes"):
            for extra in ("", *first):
                yield f"cmp:alpha={alpha}{'' if eps is None else f',eps={eps!r}'},flat={flat}{pooling}{extra}"
    yield from (PAPER.get(name, name) for name in presets)
    for rule in question.groups.values():
        yield _spec(rule)


def _spec(rule: Rule) -> str:
    """A rule as `--method` reads it."""
    name = next(name for name, kind in RULE_NAMES.items() if type(rule) is kind)
    if isinstance(rule, ZBox):
        return name
    parameters = re.sub(r"'(\w+)'", r"\1", repr(rule).partition("(")[2][:-1]).replace(" ", "").replace("=True", "=yes")
    return f"{name}:{parameters}" if parameters else name


def _rule(rule: Rule) -> str:
    return "lrp.ZBox(*model.bounds)" if isinstance(rule, ZBox) else f"lrp.{rule!r}"


def _string(text: str) -> str:
    """`text` as a Python string in double quotes."""
    return json.dumps(text, ensure_ascii=False)


def _path(name: str) -> str:
    """A file's name that is not taken for an option."""
    return f"./{name}" if name.startswith("-") else name


def _quoted(word: str) -> str:
    """`word` for a shell. With double quotes where they are enough: the shell of Windows does not know others."""
    if re.search(r'["$`\\!%^]', word) or shlex.quote(word) == word:
        return shlex.quote(word)
    return f'"{word}"'

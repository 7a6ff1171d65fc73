"""The command `lrp`. Strings stop here: what is typed becomes rules, composites and models for the library."""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__
from .composites import Composite, lrp_cmp, uniform
from .data import Preprocessing, read_photo
from .explain import Explanation, explain
from .io import Model, available, load, require_model_folder, save
from .ledger import REASONS
from .rules import RULES, Rule, ZBox
from .zoo import read_labels

DEFAULT_MODEL = "vgg16-voc"
DEFAULT_COMPOSITE = "cmp:alpha=2,flat=1"

EXAMPLES = """\
examples:
  lrp explain                                       the photograph that comes with the model
  lrp explain dog.jpg --target dog --target person  one row for each target
  lrp explain dog.jpg --composite z --composite alphabeta:alpha=1 --composite cmp:alpha=2,flat=1
                                                    one column for each composite, as in the paper's Fig. 1
  lrp explain dog.jpg --composite cmp:flat=all --ledger -o dog-lrp.png

composites:
  cmp[:alpha=2,eps=1e-6,flat=1,pooling=no,dense=PATTERN,first=zbox]
                      LRP_CMP: ε in dense layers, αβ in convolutions, ♭ in the first `flat` (0, 1, … or all)
  RULE[:name=value]   one rule in every layer; `lrp rules` lists them, for example alphabeta:alpha=1
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. 0 if all went well; 2, and one line on standard error, if what was asked for cannot be done."""
    arguments = _parser().parse_args(argv)
    try:
        run: Callable[[argparse.Namespace], None] = arguments.run
        run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("lrp: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, ImportError) as error:
        message = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        print(f"lrp: error: {' '.join(message.split())}", file=sys.stderr)
        return 2
    return 0


def entry() -> None:
    """The command, as it is installed."""
    sys.exit(main())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lrp", description="Layer-wise Relevance Propagation: why does a network say so?")
    parser.add_argument("--version", action="version", version=f"lrp_toolbox {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = commands.add_parser(
        "explain",
        help="explain what a model says of a photograph",
        description="Explain what a model says of a photograph: classes, relevance, and a picture of it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("photo", nargs="?", type=Path, metavar="PHOTO", help="default: the one that comes with the model")
    command.add_argument(
        "--model", default=DEFAULT_MODEL, help=f"a name (see `lrp models`) or a folder; default: {DEFAULT_MODEL}"
    )
    command.add_argument(
        "--target",
        action="append",
        metavar="CLASS",
        help="a class, by name or index; may be repeated; default: the top class",
    )
    command.add_argument(
        "--composite",
        action="append",
        metavar="SPEC",
        help=f"which rule for which layer (see below); may be repeated; default: {DEFAULT_COMPOSITE}",
    )
    command.add_argument("--ledger", action="store_true", help="say for every layer where relevance went")
    command.add_argument("--rules", action="store_true", help="say which layer follows which rule")
    command.add_argument("--top", type=int, default=5, metavar="N", help="how many classes to list; default: 5")
    command.add_argument(
        "--quantile",
        type=float,
        default=0.999,
        metavar="Q",
        help="clip the colours at this quantile of |R|; 1: at its maximum; default: 0.999",
    )
    command.add_argument("--night", action="store_true", help="colours on black instead of on white")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="where to put the picture (.png, .jpg, .pdf, .svg); default: PHOTO-lrp.png, here",
    )
    command.set_defaults(run=_explain)

    command = commands.add_parser("inspect", help="the layers of a model: shapes, parameters, receptive fields")
    command.add_argument("model", metavar="MODEL", help="a name (see `lrp models`) or a folder")
    command.set_defaults(run=_inspect)

    command = commands.add_parser("import", help="make a model folder of a network that another framework trained")
    _add_imports(command.add_subparsers(title="frameworks", required=True, metavar="FRAMEWORK"))

    command = commands.add_parser("models", help="the models that can be asked by name")
    command.set_defaults(run=_models)

    command = commands.add_parser("rules", help="the rules, their formulas and parameters")
    command.set_defaults(run=_rules)
    return parser


# ---- lrp explain -----------------------------------------------------------------------------------------------------


def _explain(arguments: argparse.Namespace) -> None:
    from . import render  # matplotlib takes a moment to import, and `lrp --help` does not need it

    model = load(arguments.model)
    path: Path | None = arguments.photo or model.example
    if path is None:
        raise ValueError(f"PHOTO: the model {model.name} comes without a photograph; give one")
    output = arguments.output or Path(f"{path.stem}-lrp.png")
    render.require_picture_name(output)
    composites = [parse_composite(spec, model) for spec in arguments.composite or [DEFAULT_COMPOSITE]]
    targets = [int(t) if t.isdecimal() else t for t in arguments.target or ["top"]]
    if arguments.top < 1:
        raise ValueError(f"--top: expected a number ≥ 1, got {arguments.top}")

    photo = read_photo(path)
    x = model.prepare(photo)
    explanations = [explain(model, x, targets, composite) for composite in composites]

    _print_classes(model, path, explanations[0], arguments.top)
    for explanation in explanations:
        _print_explanation(explanation, arguments)
    maps = [[e.R[row] for e in explanations] for row in range(len(targets))]
    figure = render.montage(
        model.preprocessing.view(photo),
        maps,
        rows=[f"{label} ({logit:.2f})" for label, logit in _named_logits(explanations[0])],
        columns=[composite.name for composite in composites],
        colours=render.NIGHT if arguments.night else render.DAY,
        quantile=arguments.quantile,
    )
    print(f"\npicture: {render.save_picture(figure, output)}")


def _named_logits(e: Explanation) -> list[tuple[str, float]]:
    assert e.target is not None  # no start relevance is handed in here
    return [(str(label), float(e.y[index])) for label, index in zip(e.labels, e.target, strict=True)]


def _print_classes(model: Model, path: Path, e: Explanation, top: int) -> None:
    print(f"{path}: {model.name} says (logits)")
    explained = set(np.asarray(e.target).tolist())
    best = np.argsort(-e.y)[:top].tolist()
    listed = best + sorted(explained.difference(best))
    width = max(24, *(len(model.classes[index]) for index in listed))
    for index in listed:
        mark = "  ← explained" if index in explained else ""
        print(f"  {model.classes[index]:<{width}} {float(e.y[index]):9.3f}{mark}")


def _print_explanation(e: Explanation, arguments: argparse.Namespace) -> None:
    print(f"\n{e.rules.name}")
    if arguments.rules:
        print(str(e.rules).partition("\n")[2])
    for row, (label, logit) in enumerate(_named_logits(e)):
        ledger = e.ledger[row]
        amounts = {reason.replace("eps", "ε"): float(ledger.absorbed(reason)) for reason in REASONS}
        amounts["rounding"] = float(ledger.rounding)
        rest = "".join(f" {'−' if a < 0 else '+'} {abs(a):.3g} {name}" for name, a in amounts.items() if a)
        print(f"  {label}: {logit:.3f} = {float(ledger.end):.3f} on the pixels{rest}")
        if arguments.ledger:
            print("    " + str(ledger).replace("\n", "\n    "))


# ---- What may be typed for a composite -------------------------------------------------------------------------------

RULE_NAMES: dict[str, type[Rule]] = {rule.__name__.lower(): rule for rule in RULES}


def parse_composite(spec: str, model: Model) -> Composite:
    """The composite that `spec` stands for: "cmp:alpha=2,flat=1", or "RULE:name=value" for one rule everywhere.

    Raises ValueError for names and values that do not exist.
    """
    name, _, rest = spec.partition(":")
    given: dict[str, Any] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals or not value:
            raise ValueError(f"composite {spec!r}: expected name=value, got {item!r}")
        given[key.strip()] = _value(value.strip())
    if name == "cmp":
        if "first" in given:
            given["first"] = _rule(str(given["first"]), {}, spec, model)
        known = ("alpha", "eps", "flat", "pooling", "dense", "first")
        _require_known(spec, given, known)
        return lrp_cmp(**given)
    return uniform(_rule(name, given, spec, model))


def _rule(name: str, given: dict[str, Any], spec: str, model: Model) -> Rule:
    if name not in RULE_NAMES:
        raise ValueError(f"composite {spec!r}: no rule {name!r}; there are cmp, {', '.join(RULE_NAMES)}")
    kind = RULE_NAMES[name]
    if kind is ZBox:
        _require_known(spec, given, ())
        return ZBox(*model.bounds)
    _require_known(spec, given, [field.name for field in dataclasses.fields(kind)])  # type: ignore[arg-type]
    return kind(**given)


def _require_known(spec: str, given: dict[str, Any], known: Sequence[str]) -> None:
    for key in given:
        if key not in known:
            raise ValueError(f"composite {spec!r}: no parameter {key!r}; there are {', '.join(known) or 'none'}")


def _value(text: str) -> Any:
    """A number where it reads as one, yes and no, or the text itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"yes": True, "true": True, "no": False, "false": False}.get(text.lower(), text)


# ---- lrp inspect -----------------------------------------------------------------------------------------------------


def _inspect(arguments: argparse.Namespace) -> None:
    from .receptive import receptive_fields

    model = load(arguments.model)
    _print_model(model)
    rows = [("layer", "type", "output", "parameters", "sees", "every")]
    for place, field in receptive_fields(model.net, model.preprocessing.shape):
        parameters = sum(p.size for p in place.module.parameters())
        sees = "all" if field is None else _times(field.size)
        every = "·" if field is None or place.output_shape[:2] == (1, 1) else _times(field.stride)
        kind, count = type(place.module).__name__, f"{parameters:,}" if parameters else "·"
        rows.append((place.name, kind, _times(place.output_shape), count, sees, every))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        left, right = zip(row[:2], widths[:2], strict=True), zip(row[2:], widths[2:], strict=True)
        print("  ".join([*(cell.ljust(w) for cell, w in left), *(cell.rjust(w) for cell, w in right)]))


def _times(sizes: Sequence[int]) -> str:
    return "×".join(map(str, sizes))


def _print_model(model: Model) -> None:
    p = model.preprocessing
    parameters = sum(a.size for a in model.net.parameters())
    scaled = "" if p.scale == 1 else f", times {p.scale:g}"
    print(f"{model.name}: {model.summary}")
    print(f"input {_times(p.shape)}, {p.channels}, minus ({', '.join(f'{m:g}' for m in p.mean)}){scaled}; photographs: {p.fit}")
    print(f"{len(model.classes)} classes, {parameters:,} parameters")


# ---- lrp import ------------------------------------------------------------------------------------------------------


def _add_imports(frameworks: Any) -> None:
    command = frameworks.add_parser("caffe", help="a .prototxt and its .caffemodel or .caffemodel.h5")
    command.add_argument("prototxt", type=Path, metavar="PROTOTXT")
    command.add_argument("weights", type=Path, metavar="CAFFEMODEL")
    _add_preparation(command, "numbers, one a channel, or a .binaryproto or .npy, each channel of which is averaged")
    command.add_argument("--blob", metavar="NAME", help="what is explained, of a network with several outputs")
    command.add_argument(
        "--ignore", action="append", default=[], metavar="PATTERN", help="layers with weights that PROTOTXT has not"
    )
    command.set_defaults(run=_import_caffe)

    command = frameworks.add_parser("keras", help="a .keras, .h5 or .weights.h5")
    command.add_argument("file", type=Path, metavar="FILE")
    _add_preparation(command, "numbers, one a channel")
    command.add_argument("--architecture", metavar="FILE", help="of weights alone: what model.to_json() said; or vgg16, vgg19")
    command.set_defaults(run=_import_keras)


def _add_preparation(command: argparse.ArgumentParser, mean: str) -> None:
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="the model, for example models/mine"
    )
    command.add_argument(
        "--labels", type=Path, metavar="FILE", help="the classes: a line for each, or imagenet_class_index.json"
    )
    command.add_argument("--mean", type=_mean, help=f"what to subtract from pixels of 0 to 255: {mean}")
    command.add_argument("--scale", type=float, help="what to multiply by after that")
    command.add_argument("--channels", choices=("RGB", "BGR", "L"), help="their order; L is grey")
    command.add_argument(
        "--fit", choices=("warp", "crop"), help="whether photographs are warped to the size, or cut; default: warp"
    )
    command.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of the input")


def _mean(text: str) -> Path | tuple[float, ...]:
    """ "104,117,123" as numbers; anything else is a file."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        return Path(text)


def _import_caffe(a: argparse.Namespace) -> None:
    from .importers.caffe import read_caffe

    labels = _before_import(a)
    given = {"mean": a.mean, "scale": a.scale, "channels": a.channels, "fit": a.fit, "size": a.size and tuple(a.size)}
    given = {name: value for name, value in given.items() if value is not None}
    _finish_import(read_caffe(a.prototxt, a.weights, labels=labels, output=a.blob, ignore=a.ignore, **given), a.output)


def _import_keras(a: argparse.Namespace) -> None:
    from .importers.keras import read_keras

    labels = _before_import(a)
    shape = None if a.size is None else (*a.size, 1 if a.channels == "L" else 3)
    preprocessing = None
    given = {"fit": a.fit, "channels": a.channels, "mean": a.mean, "scale": a.scale}
    given = {name: value for name, value in given.items() if value is not None}
    if given:
        if isinstance(a.mean, Path):
            raise ValueError(f"--mean: expected numbers, one a channel, got {str(a.mean)!r}")
        if a.size is None:
            raise ValueError(f"--{next(iter(given))}: expected --size HEIGHT WIDTH beside it")
        preprocessing = Preprocessing(tuple(a.size), **{"mean": (0.0,) * len(a.channels or "RGB"), **given})
    model = read_keras(a.file, a.architecture, input_shape=shape, preprocessing=preprocessing, classes=labels)
    _finish_import(model, a.output)


def _before_import(a: argparse.Namespace) -> tuple[str, ...] | None:
    """The names of the classes, if any were given. Raises ValueError if the output is a folder of something else."""
    require_model_folder(a.output)
    return None if a.labels is None else read_labels(a.labels)


def _finish_import(model: Model, output: Path) -> None:
    model = dataclasses.replace(model, name=output.resolve().name)
    _print_model(model)
    print(f"model: {save(model, output)}")


# ---- lrp models, lrp rules -------------------------------------------------------------------------------------------


def _models(arguments: argparse.Namespace) -> None:
    found = available()
    if not found:
        raise FileNotFoundError("no models; set LRP_TOOLBOX_MODELS to a folder of model folders")
    for name, folder in found.items():
        model = load(folder)
        parameters = sum(p.size for p in model.net.parameters())
        height, width, channels = model.preprocessing.shape
        print(f"{name}\n  {model.summary}")
        names = ", ".join(model.classes[:6]) + (", …" if len(model.classes) > 6 else "")
        print(f"  {len(model.classes)} classes: {names}")
        print(f"  input {height}×{width}×{channels}, {parameters:,} parameters, in {folder}")


def _rules(arguments: argparse.Namespace) -> None:
    print("R_i = Σ_j z_ij / z_j · R_j with z_j = Σ_i z_ij: a rule is a choice of z_ij\n")
    for name, rule in RULE_NAMES.items():
        fields = dataclasses.fields(rule)  # type: ignore[arg-type]
        usual = ((f.name, "no" if f.default is False else f.default) for f in fields)
        parameters = "low and high are the model's" if rule is ZBox else ", ".join(f"{k}={v}" for k, v in usual)
        print(f"{name:<10} {rule.symbol:<3} {rule.formula}\n{'':<14} {parameters or 'no parameters'}")
    print(
        "\nbias: what b_j takes of R_j is kept (absorb) or handed evenly to all inputs (distribute); or b_j is no part of\n"
        "z_j at all (ignore). "
        "In pooling and activations there is nothing to choose: winners take all, averages share in proportion."
    )

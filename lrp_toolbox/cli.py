"""The command `lrp`. Strings stop here: what is typed becomes methods and models for the library."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from . import __version__
from .attribution import LRP, METHODS, parse_method
from .attribution.base import settle
from .attribution.names import RULE_NAMES, parameters
from .data import read_photo
from .explain import Explanation
from .io import Model, available, load, require_model_folder, save
from .ledger import REASONS
from .rules import ZBox
from .text import table
from .zoo import read_labels

DEFAULT_MODEL = "vgg16-voc"
DEFAULT_METHOD = "cmp:alpha=2,flat=1"

EXAMPLES = """\
examples:
  lrp explain                                       the photograph that comes with the model
  lrp explain dog.jpg --target dog --target person  one row for each target
  lrp explain dog.jpg --method z --method alphabeta:alpha=1 --method guided_backprop --method cmp:alpha=2,flat=1
                                                    one column for each method, as in the paper's Fig. 1
  lrp explain dog.jpg --method cmp:flat=all --ledger -o dog-lrp.png

methods:
  cmp[:alpha=2,eps=1e-6,flat=1,pooling=no,dense=PATTERN,first=zbox]
                      LRP_CMP: ε in dense layers, αβ in convolutions, ♭ in the first `flat` (0, 1, … or all)
  RULE[:name=value]   LRP with one rule in every layer; `lrp rules` lists them, for example alphabeta:alpha=1
  NAME[:name=value]   others, such as gradient_input or smoothgrad:samples=50; `lrp methods` lists them all
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
        "--method",
        "--composite",
        action="append",
        metavar="SPEC",
        help=f"how to explain it (see below); may be repeated; default: {DEFAULT_METHOD}",
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
    _add_experiment(commands)

    command = commands.add_parser("serve", help="a page, on this machine only: drop a photograph, choose classes and rules")
    command.add_argument("--model", default=DEFAULT_MODEL, help=f"a name or a folder; default: {DEFAULT_MODEL}")
    command.add_argument("--port", type=int, default=8000, metavar="N", help="0: any free port; default: 8000")
    command.add_argument("--no-browser", action="store_true", help="do not open the page in a browser")
    command.set_defaults(run=_serve)

    command = commands.add_parser("models", help="the models that can be asked by name")
    command.set_defaults(run=_models)

    command = commands.add_parser("methods", help="the methods, and their parameters")
    command.set_defaults(run=_methods)

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
    methods = [parse_method(spec, model) for spec in arguments.method or [DEFAULT_METHOD]]
    targets = [int(t) if t.isdecimal() else t for t in arguments.target or ["top"]]
    if arguments.top < 1:
        raise ValueError(f"--top: expected a number ≥ 1, got {arguments.top}")

    photo = read_photo(path)
    x = model.prepare(photo)
    found = [m.explain(model, x, targets) if isinstance(m, LRP) else m(model, x, targets) for m in methods]
    explanations = [e for e in found if isinstance(e, Explanation)]
    asked = explanations[0] if explanations else settle(model.net.forward(x), targets, model.classes)

    maps = [[(e.R if isinstance(e, Explanation) else e)[row] for e in found] for row in range(len(targets))]
    figure = render.montage(
        model.preprocessing.view(photo),
        maps,
        rows=[f"{label} ({logit:.2f})" for label, logit in _named_logits(asked)],
        columns=[method.name for method in methods],
        colours=render.NIGHT if arguments.night else render.DAY,
        quantile=arguments.quantile,
    )
    picture = render.save_picture(figure, output)  # before anything is printed: whoever reads may stop reading

    _print_classes(model, path, asked, arguments.top)
    for explanation in explanations:
        _print_explanation(explanation, arguments)
    print(f"\npicture: {picture}")


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
    for row, (label, _) in enumerate(_named_logits(e)):
        ledger = e.ledger[row]
        amounts = {reason.replace("eps", "ε"): float(ledger.absorbed(reason)) for reason in REASONS}
        amounts["rounding"] = float(ledger.rounding)
        rest = "".join(f" {'−' if a < 0 else '+'} {abs(a):.3g} {name}" for name, a in amounts.items() if a)
        print(f"  {label}: {float(ledger.start):.3f} = {float(ledger.end):.3f} on the pixels{rest}")
        if arguments.ledger:
            print("    " + str(ledger).replace("\n", "\n    "))


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
    print(table(rows, left=2))


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
    _add_scale_and_size(command)
    command.add_argument("--blob", metavar="NAME", help="what is explained, of a network with several outputs")
    command.add_argument(
        "--ignore", action="append", default=[], metavar="PATTERN", help="layers with weights that PROTOTXT has not"
    )
    command.set_defaults(run=_import_caffe)

    command = frameworks.add_parser("keras", help="a .keras, .h5 or .weights.h5")
    command.add_argument("file", type=Path, metavar="FILE")
    _add_preparation(command, "numbers, one a channel")
    _add_scale_and_size(command)
    command.add_argument("--architecture", metavar="FILE", help="of weights alone: what model.to_json() said; or vgg16, vgg19")
    command.set_defaults(run=_import_keras)

    command = frameworks.add_parser("torch", help="a state_dict of torchvision's VGG or AlexNet, as .safetensors or .npz")
    command.add_argument("file", type=Path, metavar="FILE")
    _add_preparation(command, "numbers, one a channel; default: 255 · (0.485, 0.456, 0.406)")
    command.add_argument(
        "--std", type=_numbers_or_file, help="what to divide by after that; default: 255 · (0.229, 0.224, 0.225)"
    )
    command.set_defaults(run=_import_torch)


def _add_preparation(command: argparse.ArgumentParser, mean: str) -> None:
    command.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FOLDER", help="the model, for example models/mine"
    )
    command.add_argument(
        "--labels", type=Path, metavar="FILE", help="the classes: a line for each, or imagenet_class_index.json"
    )
    command.add_argument("--mean", type=_numbers_or_file, help=f"what to subtract from pixels of 0 to 255: {mean}")
    command.add_argument("--channels", choices=("RGB", "BGR", "L"), help="their order; L is grey")
    command.add_argument(
        "--fit", choices=("warp", "crop"), help="whether photographs are warped to the size, or cut; default: warp"
    )


def _add_scale_and_size(command: argparse.ArgumentParser) -> None:
    command.add_argument("--scale", type=float, help="what to multiply by after that")
    command.add_argument("--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of the input")


def _numbers_or_file(text: str) -> Path | tuple[float, ...]:
    """ "104,117,123" as numbers; anything else is a file."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        return Path(text)


def _import_caffe(a: argparse.Namespace) -> None:
    from .importers.caffe import read_caffe

    given = _before_import(a)
    _finish_import(read_caffe(a.prototxt, a.weights, output=a.blob, ignore=a.ignore, **given), a.output)


def _import_keras(a: argparse.Namespace) -> None:
    from .importers.keras import read_keras

    given = _before_import(a)
    _require_numbers(a, "mean")
    _finish_import(read_keras(a.file, a.architecture, **given), a.output)


def _import_torch(a: argparse.Namespace) -> None:
    from .importers.torch import read_torch

    given = _before_import(a)
    _require_numbers(a, "mean", "std")
    _finish_import(read_torch(a.file, **given), a.output)


def _require_numbers(a: argparse.Namespace, *options: str) -> None:
    for option in options:
        if isinstance(value := getattr(a, option), Path):
            raise ValueError(f"--{option}: expected numbers, one a channel, got {str(value)!r}")


def _before_import(a: argparse.Namespace) -> dict[str, Any]:
    """What is said of photographs and classes. Raises ValueError if the output is a folder of something else."""
    require_model_folder(a.output)
    options = ("labels", "mean", "std", "scale", "channels", "fit", "size")
    given = {name: value for name in options if (value := getattr(a, name, None)) is not None}
    if "labels" in given:
        given["labels"] = read_labels(given["labels"])
    if "size" in given:
        given["size"] = tuple(given["size"])
    return given


def _finish_import(model: Model, output: Path) -> None:
    model = dataclasses.replace(model, name=output.resolve().name)
    _print_model(model)
    print(f"model: {save(model, output)}")


# ---- lrp models, lrp methods, lrp rules ------------------------------------------------------------------------------


# ---- lrp experiment --------------------------------------------------------------------------------------------------

EXPERIMENT = """\
examples:
  lrp experiment table1 --dataset voc --data ../shared/data/voc2007 --model vgg16-voc --out results/voc
  lrp experiment table1 --dataset voc --data VOCdevkit --model vgg16-voc --out results/voc --limit 300 --workers 4
  lrp experiment fig1 --dataset voc --data VOCdevkit --model vgg16-voc --item 000019
  lrp experiment table1 … --shard 3/8               one of eight jobs of a batch system; then once without --shard
  lrp experiment table1 … --dask tcp://head:8786    on a Dask cluster

A run that is interrupted goes on where it was when it is started again.
"""


def _add_experiment(commands: Any) -> None:
    command = commands.add_parser(
        "experiment",
        help="the paper's Table I and Figures 1 to 4, over a data set",
        description="The paper's Table I and Figures 1 to 4, over a data set.",
        epilog=EXPERIMENT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("name", choices=("table1", "fig1", "fig2", "fig3", "fig4"))
    command.add_argument("--dataset", choices=("voc", "imagenet"), required=True)
    command.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="where the data set is")
    command.add_argument("--split", default="val", metavar="NAME", help="default: val")
    command.add_argument("--model", default=DEFAULT_MODEL, help=f"a name or a folder; default: {DEFAULT_MODEL}")
    command.add_argument("--methods", nargs="+", default=[], metavar="SPEC", help="as for `lrp explain`; default: the paper's")
    command.add_argument("--out", type=Path, metavar="FOLDER", help="default: results/DATASET-MODEL")
    command.add_argument("--limit", type=int, metavar="N", help="so many images, drawn at random; default: all")
    command.add_argument("--seed", type=int, default=0, help="for --limit and the choice of examples; default: 0")
    command.add_argument("--item", nargs="+", default=[], metavar="ID", help="images for fig1 and fig4; default: at random")
    command.add_argument("--fit", choices=("warp", "crop"), help="how photographs are fitted; default: the model's own way")
    command.add_argument("--bins", type=int, default=100, metavar="N", help="box sizes in fig2 and fig3; default: 100")
    command.add_argument("--examples", type=int, default=8, metavar="N", help="images shown in the report; default: 8")
    command.add_argument("--workers", type=int, default=1, metavar="N", help="processes, which share the threads; default: 1")
    command.add_argument("--dask", metavar="ADDRESS", help="of a Dask scheduler, whose workers see the same folders")
    command.add_argument("--shard", type=_shard, default=(1, 1), metavar="I/N", help="measure the I-th of N parts, and no more")
    command.add_argument("--backend", choices=("numpy", "cupy"), default="numpy", help="default: numpy")
    command.set_defaults(run=_experiment)


def _shard(text: str) -> tuple[int, int]:
    i, slash, n = text.partition("/")
    if not (slash and i.isdecimal() and n.isdecimal() and 1 <= int(i) <= int(n)):
        raise argparse.ArgumentTypeError(f"expected I/N with 1 ≤ I ≤ N, got {text!r}")
    return int(i), int(n)


def _experiment(arguments: argparse.Namespace) -> None:
    from .experiments import EXPERIMENTS, Experiment, Setup  # matplotlib, again

    folder = Path(arguments.model)
    model = str(folder.resolve()) if (folder / "model.json").is_file() else arguments.model
    experiment = Experiment(
        dataset=arguments.dataset,
        data=arguments.data.resolve(),
        split=arguments.split,
        setup=Setup(model, arguments.fit, arguments.backend),
        out=arguments.out or Path("results") / f"{arguments.dataset}-{folder.name}",
        methods=tuple(arguments.methods),
        limit=arguments.limit,
        seed=arguments.seed,
        ids=tuple(arguments.item),
        part=arguments.shard,
        workers=arguments.workers,
        dask=arguments.dask,
        bins=arguments.bins,
        examples=arguments.examples,
        command=("lrp", *sys.argv[1:]),
    )
    EXPERIMENTS[arguments.name](experiment)


# ---- lrp serve -------------------------------------------------------------------------------------------------------


def _serve(arguments: argparse.Namespace) -> None:
    from .serve import serve  # matplotlib, again

    serve(load(arguments.model), arguments.port, browser=not arguments.no_browser)


# ---- lrp models, lrp methods, lrp rules ---------------------------------------------------------------------------------


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


def _methods(arguments: argparse.Namespace) -> None:
    print("R = method(net, x, target); cmp and the rules of `lrp rules` are LRP\n")
    for name, made_by in METHODS.items():
        if name not in RULE_NAMES:
            about = (inspect.getdoc(made_by) or "").partition("\n\n")[0].replace("\n", " ")
            usual = ", ".join(_usual(key, p.default) for key, p in parameters(name).items())
            print(f"{name:<21} {about}\n{'':<21} {usual or 'no parameters'}")


def _usual(name: str, value: object) -> str:
    """A parameter with its default, if that can be typed."""
    if isinstance(value, bool):
        return f"{name}={'yes' if value else 'no'}"
    return f"{name}={value}" if isinstance(value, (int, float, str)) else f"{name}=…"


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

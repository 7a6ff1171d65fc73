"""The command `lrp`: its arguments, and the commands that are short. `lrp explain` is in cli_explain.py."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from . import __version__
from .attribution import METHODS
from .attribution.names import RULE_NAMES, parameters
from .console import Parser, a_path, in_options, mute, use_any_encoding
from .data.photos import Fit, Order
from .io import Model, available, load, require_model_folder, save
from .modules.pooling import Ties
from .rules import ZBox
from .text import table
from .zoo import read_labels

DEFAULT_MODEL = "vgg16-voc"
TIES_HELP = "equal largest inputs of max-pooling share relevance, or the first takes it; default: as the model says (share)"
DEFAULT_METHOD = "cmp:alpha=2,flat=1"
MEANING = {"independent": "above 0 the net says yes", "exclusive": "the net says yes to the largest"}  # of logits

EXAMPLES = """\
examples:
  lrp explain                                       the photograph that comes with the model
  lrp explain dog.jpg --target dog --target person  one row for each target
  lrp explain dog.jpg --method z --method alphabeta:alpha=1 --method guided_backprop --method cmp:alpha=2,flat=1
                                                    one column for each method, as in the paper's Fig. 1
  lrp explain dog.jpg --method cmp:flat=all --ledger -o dog-lrp.png
  lrp explain *.jpg -o heatmaps                     a picture for each photograph, in the folder heatmaps

methods:
  cmp[:alpha=2,eps=1e-6,flat=1,pooling=no,dense=PATTERN,first=zbox]
                      LRP_CMP: ε in dense layers, αβ in convolutions, ♭ in the first `flat` (0, 1, … or all)
  RULE[:name=value]   LRP with one rule in every layer, for example alphabeta:alpha=1; `lrp rules` lists the rules
  NAME[:name=value]   other methods, for example gradient_input or smoothgrad:samples=50; `lrp methods` lists them

colours:
  Red pixels speak for the class, blue pixels against it, and the colour in the middle means no relevance.
  Each panel has its own scale: its strongest colours are at the quantile Q of |R| in this panel (--quantile), and
  stronger relevance gets the same colour. So colours show where relevance is, and not how much one panel has more than
  another. With --same-scale all panels of a picture have the largest of these scales, and the colour bar shows it in
  units of relevance: then the same colour is the same relevance in every panel.

numbers:
  --save-relevance writes a .npz file, without pickles: numpy.load(FILE) has these arrays.
    relevance        R (method, target, height, width, channel), in the size of the model's input
    logits, classes  the outputs of the model and their names (class)
    targets          the index of the class that is explained (target)
    methods, rules   the name, and which layer followed which rule as text, "" if the method is not LRP (method)
    ledger           where relevance went (method, target, layer, amount), NaN if the method is not LRP
    ledger_layers, ledger_amounts   the names of the last two axes of the ledger
    model, photo     their names
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command. Returns 0 if all went well, and 2 after an error, which is one line on standard error.

    `lrp conformance` returns 1 if a case is wrong.
    """
    arguments = _parser().parse_args(argv)
    try:
        run: Callable[[argparse.Namespace], int | None] = arguments.run
        status = run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:
        mute()
        return 0
    except KeyboardInterrupt:
        print("lrp: interrupted", file=sys.stderr)
        return 130
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        message = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
        typed = sys.argv[1:] if argv is None else argv  # a file may be called as an argument is
        words = {name: said for name, said in arguments.parser.words.items() if name not in typed}
        print(f"lrp: error: {in_options(' '.join(message.split()), words)}", file=sys.stderr)
        return 2
    return status or 0


def entry() -> None:
    """The command `lrp`, as pip installs it."""
    use_any_encoding()
    sys.exit(main())


def _parser() -> Parser:
    parser = Parser(prog="lrp", description="Layer-wise Relevance Propagation: why does a network say so?")
    parser.add_argument("--version", action="version", version=f"lrp_toolbox {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = commands.add_parser(
        "explain",
        help="explain what a model says about photographs",
        description="Explain what a model says about photographs: classes, where relevance went, and a picture.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_explain(command)
    command.set_defaults(run=_explain)

    command = commands.add_parser("inspect", help="list the layers of a model: shapes, parameters, receptive fields")
    command.add_argument("model", metavar="MODEL", help="a name (see `lrp models`) or a folder")
    command.set_defaults(run=_inspect)

    command = commands.add_parser("import", help="make a model folder from a network of another framework")
    _add_imports(command.add_subparsers(title="frameworks", required=True, metavar="FRAMEWORK"))
    _add_experiment(commands)
    _add_patterns(commands)

    command = commands.add_parser("serve", help="open a page on this machine: drop a photograph, choose classes and rules")
    command.add_argument("--model", default=DEFAULT_MODEL, help=f"a name or a folder; default: {DEFAULT_MODEL}")
    command.add_argument("--port", type=int, default=8000, metavar="N", help="0 takes any free port; default: 8000")
    command.add_argument("--no-browser", action="store_true", help="do not open the page in a browser")
    command.set_defaults(run=_serve)

    _add_conformance(commands)

    command = commands.add_parser("models", help="list the models that are installed")
    command.set_defaults(run=_models)

    command = commands.add_parser("methods", help="list the methods and their parameters")
    command.set_defaults(run=_methods)

    command = commands.add_parser("rules", help="list the rules, their formulas and parameters")
    command.set_defaults(run=_rules)
    return parser


# ---- lrp explain -----------------------------------------------------------------------------------------------------


def _add_explain(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "photo", nargs="*", type=a_path, metavar="PHOTO", help="one or several; default: the one that comes with the model"
    )
    command.add_argument(
        "--model", default=DEFAULT_MODEL, help=f"a name (see `lrp models`) or a folder; default: {DEFAULT_MODEL}"
    )
    command.add_argument(
        "--target",
        action="append",
        metavar="CLASS",
        help="the class to explain, by name or index; may be repeated; default: top, the class with the largest logit",
    )
    command.add_argument(
        "--method",
        "--composite",
        action="append",
        metavar="SPEC",
        help=f"how to explain it (see below); may be repeated; default: {DEFAULT_METHOD}",
    )
    command.add_argument("--ties", choices=get_args(Ties), help=TIES_HELP)
    command.add_argument("--ledger", action="store_true", help="print for every layer where relevance went")
    command.add_argument("--rules", action="store_true", help="print which layer follows which rule")
    command.add_argument("--top", type=int, default=5, metavar="N", help="how many classes to print; default: 5")
    command.add_argument(
        "--quantile",
        type=float,
        default=0.999,
        metavar="Q",
        help="the colours end at this quantile of |R|, so that single pixels do not hide the rest; 1: at its maximum; "
        "default: 0.999",
    )
    command.add_argument(
        "--same-scale", action="store_true", help="one colour scale for all panels; default: a scale for each panel"
    )
    command.add_argument("--night", action="store_true", help="colours on black instead of on white")
    command.add_argument(
        "-o",
        "--output",
        type=a_path,
        metavar="PATH",
        help="the picture (.png, .jpg, .pdf, .svg), or a folder for PHOTO-lrp.png; of several photographs always a folder; "
        "default: PHOTO-lrp.png in this folder",
    )
    command.add_argument(
        "--save-relevance",
        type=a_path,
        metavar="PATH",
        help="also write the relevance as numbers (see below): a .npz, or a folder for PHOTO-lrp.npz",
    )


def _explain(arguments: argparse.Namespace) -> None:
    from .cli_explain import run  # matplotlib takes a moment to import, and `lrp --help` does not need it

    run(arguments)


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
    parameters = sum(a.size for a in model.net.parameters())
    facts = model.preprocessing.facts()
    print(f"{model.name}: {model.summary}")
    print(f"input {facts['input']}; photographs {facts['photographs']}")
    print(f"{len(model.classes)} classes, {parameters:,} parameters{_logits(model)}")


def _logits(model: Model) -> str:
    """What a logit means, if the model says so."""
    return f"; logits: {MEANING[model.logits]}" if model.logits else ""


# ---- lrp import ------------------------------------------------------------------------------------------------------


def _add_imports(frameworks: Any) -> None:
    command = frameworks.add_parser("caffe", help="a .prototxt and its .caffemodel or .caffemodel.h5")
    command.add_argument("prototxt", type=a_path, metavar="PROTOTXT")
    command.add_argument("weights", type=a_path, metavar="CAFFEMODEL")
    _add_model(command)
    _add_preprocessing(
        command, "0 and 1, or what the data layer says", "; or a .binaryproto or .npy, of which each channel is averaged"
    )
    _add_size(command)
    command.add_argument("--blob", metavar="NAME", help="which output is explained, if the network has several")
    command.add_argument(
        "--ignore", action="append", default=[], metavar="PATTERN", help="layers in CAFFEMODEL that PROTOTXT does not have"
    )
    command.set_defaults(run=_import_caffe)
    command.words["output"] = "--blob"  # what read_caffe calls output

    command = frameworks.add_parser("keras", help="a .keras, .h5 or .weights.h5")
    command.add_argument("file", type=a_path, metavar="FILE")
    _add_model(command)
    _add_preprocessing(command, "0 and 1")
    _add_size(command)
    command.add_argument(
        "--architecture", metavar="FILE", help="for weights alone: the text of model.to_json(); or vgg16, or vgg19"
    )
    command.set_defaults(run=_import_keras)

    command = frameworks.add_parser("torch", help="a state_dict of torchvision's VGG or AlexNet, as .safetensors or .npz")
    command.add_argument("file", type=a_path, metavar="FILE")
    _add_model(command)
    _add_preprocessing(command, TORCHVISION)
    command.set_defaults(run=_import_torch)

    command = frameworks.add_parser("onnx", help="a .onnx, which PyTorch, Keras, JAX and others write")
    command.add_argument("file", type=a_path, metavar="FILE")
    _add_model(command)
    _add_preprocessing(command, TORCHVISION)
    _add_size(command)
    command.add_argument("--value", metavar="NAME", help="which output is explained, if the network has several")
    command.set_defaults(run=_import_onnx)
    command.words["output"] = "--value"  # what read_onnx calls output

    command = frameworks.add_parser("original", help="a .txt or .mat of the original LRP Toolbox (Lapuschkin et al. 2016)")
    command.add_argument("file", type=a_path, metavar="FILE")
    _add_model(command)
    _add_preprocessing(command, "127.5 and 127.5, for x from −1 to 1")
    _add_size(command)
    command.add_argument(
        "--flatten",
        choices=("python", "matlab"),
        help="which part of the toolbox says in what order maps are flattened; default: matlab for .mat, else python",
    )
    command.set_defaults(run=_import_original)


TORCHVISION = "0.485,0.456,0.406 and 0.229,0.224,0.225"


def _add_model(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-o", "--output", type=a_path, required=True, metavar="FOLDER", help="the model, for example models/mine"
    )
    command.add_argument("--overwrite", action="store_true", help="replace the model that is in FOLDER")
    command.add_argument(
        "--labels", type=a_path, metavar="FILE", help="the classes: a line for each, or imagenet_class_index.json"
    )


def _add_preprocessing(command: argparse.ArgumentParser, default: str, mean_file: str = "") -> None:
    """`default`: of mean and std."""
    white = "1 if no number is greater, else 255" if default is TORCHVISION else "255"
    command.add_argument(
        "--mean",
        type=_numbers_or_file,
        metavar="N[,N,N]",
        help=f"x = (pixel − mean) / std: one number for each channel{mean_file}; default of mean and std: {default}",
    )
    command.add_argument("--std", type=_numbers_or_file, metavar="N[,N,N]", help="what the difference is divided by")
    command.add_argument(
        "--pixels", type=int, choices=(1, 255), help=f"the value of white for --mean and --std; default: {white}"
    )
    command.add_argument("--channels", choices=get_args(Order), help="the order of the channels; L is grey")
    command.add_argument(
        "--fit",
        choices=get_args(Fit),
        help="whether photographs are warped to the size, cut, or padded to it; default: warp",
    )
    command.add_argument(
        "--border", type=int, metavar="N", help="so many pixels on each side of the input are filled; default: 0"
    )
    command.add_argument(
        "--fill",
        type=_numbers_or_file,
        metavar="N[,N,N]",
        help="the pixel, from 0 to 255, of the border and of what is padded; default: 0, black",
    )


def _add_size(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--size", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="the size of the input, if the file leaves it open"
    )


def _numbers_or_file(text: str) -> Path | tuple[float, ...]:
    """ "104,117,123" as numbers; anything else is a file."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        return Path(text)


def _import_caffe(a: argparse.Namespace) -> None:
    def read(**given: Any) -> Model:
        from .importers.caffe import read_caffe

        return read_caffe(a.prototxt, a.weights, output=a.blob, ignore=a.ignore, **given)

    _import(a, read, numbers=("std", "fill"))


def _import_keras(a: argparse.Namespace) -> None:
    def read(**given: Any) -> Model:
        from .importers.keras import read_keras

        return read_keras(a.file, a.architecture, **given)

    _import(a, read)


def _import_torch(a: argparse.Namespace) -> None:
    def read(**given: Any) -> Model:
        from .importers.torch import read_torch

        return read_torch(a.file, **given)

    _import(a, read)


def _import_onnx(a: argparse.Namespace) -> None:
    def read(**given: Any) -> Model:
        from .importers.onnx import read_onnx

        return read_onnx(a.file, output=a.value, **given)

    _import(a, read)


def _import_original(a: argparse.Namespace) -> None:
    def read(**given: Any) -> Model:
        from .importers.original import read_original

        return read_original(a.file, flatten=a.flatten, **given)

    _import(a, read)


def _import(a: argparse.Namespace, read: Callable[..., Model], numbers: Sequence[str] = ("mean", "std", "fill")) -> None:
    """Read a model and save it. `numbers`: the options that may not be files."""
    _require_new_model(a)
    _require_numbers(a, numbers)
    options = ("labels", "mean", "std", "pixels", "channels", "fit", "border", "fill", "size")
    given = {name: value for name in options if (value := getattr(a, name, None)) is not None}
    if "labels" in given:
        given["labels"] = read_labels(given["labels"])
    if "size" in given:
        given["size"] = tuple(given["size"])
    assumed: dict[str, Any] = {}
    _finish_import(read(**given, assumed=assumed), a.output, assumed)


def _require_new_model(a: argparse.Namespace) -> None:
    """Raise ValueError if the output is a folder of something else, or a model that may not be overwritten."""
    require_model_folder(a.output)
    if (a.output / "model.json").exists() and not a.overwrite:
        raise FileExistsError(f"{a.output}: there is a model already; --overwrite replaces it")


def _require_numbers(a: argparse.Namespace, options: Sequence[str]) -> None:
    for option in options:
        if isinstance(value := getattr(a, option), Path):
            raise ValueError(f"--{option}: expected numbers, one a channel, got {str(value)!r}")


ASSUMPTIONS = {  # what an assumed argument means
    "size": "is the height and width of the input",
    "mean": "is subtracted from pixels of 0 to 255",
    "std": "divides the difference",
    "channels": "is the order of the channels",
    "fit": "is how photographs get the size of the input",
    "flatten": "says in what order maps are flattened",
    "labels": "names the classes; without it they have numbers",
}


def _finish_import(model: Model, output: Path, assumed: dict[str, Any]) -> None:
    """Save the model, then say what it is and what was assumed."""
    model = dataclasses.replace(model, name=output.resolve().name)
    missing = [parent for parent in output.parents if not parent.exists()]
    try:
        folder = save(model, output)
    except BaseException:  # Ctrl-C, too, leaves nothing behind
        for parent in missing:
            with suppress(OSError):
                parent.rmdir()
        raise
    _print_model(model)
    if assumed:
        print("assumed, because neither the files nor an option said it:")
        rows = [
            (f"  --{name}", _as_option(assumed[name], " " if name == "size" else ","), text)
            for name, text in ASSUMPTIONS.items()
            if name in assumed
        ]
        print(table(rows, left=3))
    print(f"model: {folder}")


def _as_option(value: Any, between: str = ",") -> str:
    """A value as it is typed."""
    if isinstance(value, tuple):
        return between.join(map(_as_option, value))
    return "FILE" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


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
    command.add_argument("--data", type=a_path, required=True, metavar="FOLDER", help="where the data set is")
    command.add_argument("--split", default="val", metavar="NAME", help="default: val")
    command.add_argument("--model", default=DEFAULT_MODEL, help=f"a name or a folder; default: {DEFAULT_MODEL}")
    command.add_argument("--methods", nargs="+", default=[], metavar="SPEC", help="as for `lrp explain`; default: the paper's")
    command.add_argument("--out", type=a_path, metavar="FOLDER", help="default: results/DATASET-MODEL")
    command.add_argument("--limit", type=int, metavar="N", help="so many images, drawn at random; default: all")
    command.add_argument("--seed", type=int, default=0, help="for --limit and the choice of examples; default: 0")
    command.add_argument("--item", nargs="+", default=[], metavar="ID", help="images for fig1 and fig4; default: at random")
    command.add_argument("--fit", choices=get_args(Fit), help="how photographs are fitted; default: the model's own way")
    command.add_argument("--ties", choices=get_args(Ties), help=TIES_HELP)
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
        setup=Setup(model, arguments.fit, arguments.backend, arguments.ties),
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


# ---- lrp patterns ----------------------------------------------------------------------------------------------------

PATTERNS = """\
examples:
  lrp patterns photographs --model vgg16-voc --limit 400 --windows 784
  lrp patterns mnist.npz:train_images --model lenet5-mnist --out my-patterns

Any photographs of the kind that the model is for will do. A run that is interrupted goes on where it was when it is started
again.
"""


def _add_patterns(commands: Any) -> None:
    command = commands.add_parser(
        "patterns",
        help="fit the patterns of PatternNet and Pattern Attribution to images",
        description="Fit the patterns of a model, which PatternNet and Pattern Attribution need, to images.",
        epilog=PATTERNS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("images", metavar="IMAGES", help="a folder of photographs, or FILE.npz:ARRAY")
    command.add_argument("--model", default=DEFAULT_MODEL, help=f"a name or a folder; default: {DEFAULT_MODEL}")
    command.add_argument("--out", type=a_path, metavar="FOLDER", help="where to put them; default: the folder of the model")
    command.add_argument("--limit", type=int, metavar="N", help="fit to so many of the images, at random; default: all")
    command.add_argument("--estimator", choices=("relu", "linear"), default="relu", help="default: relu")
    command.add_argument("--windows", type=int, metavar="N", help="use about so many windows of a map; default: all")
    command.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of the file; default: float32")
    command.add_argument("--batch", type=int, default=8, metavar="N", help="images in memory at a time; default: 8")
    command.add_argument("--overwrite", action="store_true", help="replace the patterns that are in FOLDER")
    command.set_defaults(run=_patterns)


def _patterns(arguments: argparse.Namespace) -> None:
    from .attribution import fit_to_images

    model = load(arguments.model)
    names = ("limit", "estimator", "windows", "dtype", "batch", "overwrite")
    folder, patterns = fit_to_images(model, arguments.images, arguments.out, **{n: getattr(arguments, n) for n in names})
    silent = ", ".join(f"{layer} {count}" for layer, count in patterns.about["silent neurons"].items() if count)
    print(f"{folder / 'patterns.npz'}: fitted to {patterns.about['source']}; neurons without a pattern: {silent or 'none'}")


# ---- lrp serve -------------------------------------------------------------------------------------------------------


def _serve(arguments: argparse.Namespace) -> None:
    from .serve import serve  # matplotlib, again

    serve(load(arguments.model), arguments.port, browser=not arguments.no_browser)


# ---- lrp conformance -------------------------------------------------------------------------------------------------

CONFORMANCE = """\
The table has a row for each kind of layer and a column for each rule: = equal in fractions, ≈ equal to rounding, ✗ wrong.
Below it is the smallest case of each cell that is wrong; then the exit status is 1. BatchNorm has a square root, which this
package takes in floats, so that its cases are never more than ≈.
"""


def _add_conformance(commands: Any) -> None:
    command = commands.add_parser(
        "conformance",
        help="run the public conformance cases, whose answers are exact, against this package",
        description="Run the public conformance cases, whose answers are exact fractions, against this package.",
        epilog=CONFORMANCE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument(
        "folder", nargs="?", type=a_path, metavar="FOLDER", help="of case files; default: those of the package"
    )
    command.add_argument("--arrays", choices=("numpy", "array_api_strict", "cupy"), default="numpy", help="default: numpy")
    command.add_argument(
        "--dtype", choices=("fraction", "float64", "float32"), help="default: fraction with numpy, else float64"
    )
    command.set_defaults(run=_conformance)


def _conformance(arguments: argparse.Namespace) -> int:
    from .conformance import run  # only this command needs it

    return run(arguments.folder, arguments.arrays, arguments.dtype)


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
        print(f"  {len(model.classes)} classes: {names}{_logits(model)}")
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
        "\nbias says what happens to the share of b_j in R_j: it stays there (absorb), or all inputs get equal parts of it\n"
        "(distribute); with ignore, b_j is no part of z_j. Pooling and activations have no choice: the largest input of a\n"
        "max-pooling gets all, and the inputs of an average get their shares of it."
    )

"""Put the answers of toolboxes beside those of the cases: `python conformance/compare.py RESULTS.json … [--markdown]`.

RESULTS.json is what an adapter writes: {"toolbox", "version", "answers": {id: {"relevance": …} or {"cannot": reason}}}. An
answer agrees if no number differs by more than 1e-6 of the largest of the case. If it does not, it may be that of another
convention, or of an error that is known: the cases list both under "others".
"""

import json
import sys
from fractions import Fraction
from math import isnan
from pathlib import Path

TOLERANCE = 1e-6
FAMILIES = {  # rows of the table: kinds of layers together
    "dense": ["dense", "net of dense layers"],
    "convolution": ["conv1d", "conv2d", "conv3d", "conv_transpose2d"],
    "average, sum pooling": ["avg_pool1d", "avg_pool2d", "avg_pool3d", "sum_pool2d", "adaptive_avg_pool2d"],
    "max-pooling": ["max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool2d"],
    "scale": ["scale"],
    "BatchNorm": ["batch_norm"],
    "LRN": ["lrn"],
    "sum": ["sum"],
    "concat, shared value": ["concat", "shared value"],
    "product, activation": ["multiply", "activation"],
    "start": ["start"],
    "net": ["net with max-pooling", "net with average pooling"],
}
FAMILY = {layer: family for family, layers in FAMILIES.items() for layer in layers}
MARKS = {"agrees": "✓", "other": "◇", "wrong": "✗", "cannot": "–"}


def read_cases(folder):
    files = sorted((folder / "cases").glob("*.json"))
    return {case["id"]: case for file in files for case in json.loads(file.read_text(encoding="utf-8"))["cases"]}


def numbers(nested):
    if isinstance(nested, list):
        return [number for item in nested for number in numbers(item)]
    return [float(Fraction(nested)) if isinstance(nested, (int, str)) else float(nested)]


def near(found, expected, largest):
    return len(found) == len(expected) and all(abs(a - b) <= TOLERANCE * largest for a, b in zip(found, expected, strict=True))


def verdict(case, answer):
    """("agrees" | "other" | "wrong" | "cannot", which convention or error)."""
    if "cannot" in answer:
        return "cannot", answer["cannot"]
    found = numbers(answer["relevance"])
    if any(map(isnan, found)):
        return "wrong", "not a number"
    for name, relevance in [("", case["relevance"]["input"]), *((o["convention"], o["relevance"]) for o in case["others"])]:
        expected = numbers(relevance)
        if near(found, expected, max(map(abs, [*expected, *numbers(case["start"]["relevance"])]))):
            kind = "agrees" if not name else "wrong" if name.startswith("error: ") else "other"
            return kind, name.removeprefix("error: ")
    return "wrong", ""


def cells(cases, results):
    """{(layers, rule): {toolbox: [(case, verdict, name)]}}, in the order of FAMILIES."""
    table = {}
    for result in results:
        for id, case in cases.items():
            answer = result["answers"].get(id, {"cannot": "no answer"})
            row = table.setdefault((FAMILY[case["layer"]], case["rule"]), {})
            row.setdefault(result["toolbox"], []).append((case, *verdict(case, answer)))
    order = list(FAMILIES)
    rules = list(dict.fromkeys(case["rule"] for case in cases.values() if case["id"].startswith("dense/")))
    rules += sorted({rule for _, rule in table} - set(rules))
    return dict(sorted(table.items(), key=lambda entry: (order.index(entry[0][0]), rules.index(entry[0][1]))))


def size(case):
    return len(json.dumps([case["net"], case["input"]]))


def said(found):
    """A cell: how many of each verdict."""
    counts = {kind: [entry for entry in found if entry[1] == kind] for kind in MARKS}
    if len(counts["cannot"]) == len(found):
        return MARKS["cannot"]
    return " ".join(f"{len(entries)}{MARKS[kind]}" for kind, entries in counts.items() if entries and kind != "cannot")


def findings(table, toolbox):
    """What differs, and the smallest case that shows it: (rule, layers, kind, name, count, case)."""
    groups = {}
    for (layer, rule), row in table.items():
        for case, kind, name in row[toolbox]:
            if kind in ("other", "wrong"):
                groups.setdefault((kind, rule, name), []).append((layer, case))
    for (kind, rule, name), found in sorted(groups.items()):
        smallest = min((case for _, case in found), key=size)
        yield rule, ", ".join(dict.fromkeys(layer for layer, _ in found)), kind, name, len(found), smallest["id"]


def lines(header, rows, markdown):
    if markdown:
        return ["| " + " | ".join(row) + " |" for row in (header, ["---"] * len(header), *rows)]
    widths = [max(len(row[k]) for row in (header, *rows)) for k in range(len(header))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (header, *rows)]


def main(arguments):
    markdown = "--markdown" in arguments
    results = [json.loads(Path(a).read_text(encoding="utf-8")) for a in arguments if not a.startswith("--")]
    cases = read_cases(Path(__file__).parent)
    table = cells(cases, results)
    names = [result["toolbox"] for result in results]
    rows = [
        [rule, layer, str(len(row[names[0]])), *(said(row[name]) for name in names)] for (rule, layer), row in table.items()
    ]
    print("\n".join(lines(["layers", "rule", "cases", *names], rows, markdown)))
    for result in results:
        name = result["toolbox"]
        print(f"\n{'### ' if markdown else ''}{name} {result['version']}\n")
        rows = []
        for rule, layer, kind, which, count, id in findings(table, name):
            rows.append(
                [
                    rule,
                    layer,
                    f"{MARKS[kind]} {which or 'matches nothing that is listed'}",
                    str(count),
                    f"`{id}`" if markdown else id,
                ]
            )
        print("\n".join(lines(["rule", "layers", "finding", "cases", "the smallest"], rows, markdown)) if rows else "all agree")


if __name__ == "__main__":
    main(sys.argv[1:])

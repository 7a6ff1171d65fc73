"""What all adapters share: read the cases, ask the toolbox, write its answers as JSON.

An adapter is a function case → relevance of the input, nested lists in the axis order of the case. It raises CannotError where
the toolbox has no such layer, rule or option. Where the toolbox has no choice about a convention, it is run with the one it
has: compare.py says which one that is.
"""

import json
import sys
from fractions import Fraction
from pathlib import Path

CASES = Path(__file__).parent.parent / "cases"


class CannotError(Exception):
    """The toolbox cannot express the case."""


def number(value):
    return float(Fraction(value))


def numbers(nested):
    return [numbers(item) for item in nested] if isinstance(nested, list) else number(nested)


def require(condition, what):
    if not condition:
        raise CannotError(what)


def run(toolbox, version, relevance):
    """`python adapter.py OUT.json`: the answers of `toolbox` to all cases."""
    answers = {}
    for file in sorted(CASES.glob("*.json")):
        for case in json.loads(file.read_text(encoding="utf-8"))["cases"]:
            try:
                answers[case["id"]] = {"relevance": relevance(case)}
            except CannotError as reason:
                answers[case["id"]] = {"cannot": str(reason)}
            except Exception as error:  # an adapter reports what a toolbox refuses, whatever it raises
                answers[case["id"]] = {"cannot": f"{type(error).__name__}: {error}"[:200]}
    content = json.dumps({"toolbox": toolbox, "version": version, "answers": answers}, ensure_ascii=False, indent=0)
    Path(sys.argv[1]).write_text(content, encoding="utf-8")
    print(f"{toolbox}: {sum('relevance' in a for a in answers.values())} of {len(answers)} cases, {sys.argv[1]}")

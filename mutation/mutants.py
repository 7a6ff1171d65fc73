"""Mutants: the core's files, each with one small change (cosmic-ray's), and the draw of some of them."""

from __future__ import annotations

import ast
import difflib
import hashlib
import json
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

ROOT = Path(__file__).parent.parent
CORE = (
    *(f"lrp_toolbox/{name}.py" for name in ("rules", "terms", "weights", "propagation", "context", "ledger")),
    *(f"lrp_toolbox/{name}.py" for name in ("composites", "receptive", "explain", "metrics", "special", "backend", "cached")),
    *(f"lrp_toolbox/kernels/{name}.py" for name in ("__init__", "plain", "cpu", "windows", "threads")),
    *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "lrp_toolbox" / "modules").glob("*.py"))),
    "lrp_toolbox/data/boxes.py",
)
LEAST = 3  # mutants of each file, if it has as many places


@dataclass(frozen=True)
class Mutant:
    """`code` is the file's text with one change: the lines `old`, from line number `line` on, have become `new`."""

    file: str
    line: int
    old: str
    new: str
    operator: str
    code: str

    @property
    def code_hash(self) -> str:
        return _hash(self.code)

    @property
    def key(self) -> str:
        """The same as long as the file's text is the same, but for this change."""
        return f"{self.file}:{self.code_hash}"

    def __str__(self) -> str:
        marked = [f"{sign} {line}" for sign, text in (("-", self.old), ("+", self.new)) for line in text.split("\n")]
        return "\n".join([f"{self.file}:{self.line} ({self.operator})", *(f"    {line}" for line in marked)])


@dataclass(frozen=True)
class _Place:
    """Where cosmic-ray can change something, and the changes: operators, each with the number of the place among its own."""

    line: int
    name: str
    changes: tuple[tuple[str, int], ...]


def draw(count: int, seed: int, files: tuple[str, ...], cache: Path) -> list[Mutant]:
    """As `_draw`, which takes a minute; from `cache`, if it has been drawn from the same texts before."""
    texts = [(ROOT / file).read_text(encoding="utf-8") for file in (*files, "mutation/mutants.py")]
    stored = cache / f"mutants-{_hash(repr((count, seed, files, texts)))}.json"
    if not stored.exists():
        stored.write_text(json.dumps([asdict(mutant) for mutant in _draw(count, seed, files)]), encoding="utf-8")
    return [Mutant(**fields) for fields in json.loads(stored.read_text(encoding="utf-8"))]


def _draw(count: int, seed: int, files: tuple[str, ...]) -> list[Mutant]:
    """At least `count` mutants: of each file in proportion to the places that it has, at most one at each place.

    The draw depends on the text of the lines, not on their numbers: after an edit elsewhere in a file it is the same.
    """
    sources = {file: (ROOT / file).read_text(encoding="utf-8") for file in files}
    places = {file: _places(source) for file, source in sources.items()}
    total = sum(map(len, places.values()))
    drawn: list[Mutant] = []
    for file, source in sources.items():
        quota = max(LEAST, -(-count * len(places[file]) // total))
        ordered = sorted(places[file], key=lambda place: _hash(f"{seed} {file} {place.name}"))
        made = (mutant for place in ordered if (mutant := _mutant(file, source, place, seed)))
        drawn += [mutant for mutant, _ in zip(made, range(quota), strict=False)]
    return drawn


def equivalents() -> dict[tuple[str, str, str], str]:
    """(file, old, new) of mutants that no test can kill, and the reason."""
    listed = tomllib.loads((Path(__file__).parent / "equivalent.toml").read_text(encoding="utf-8"))
    return {(entry["file"], entry["old"], entry["new"]): entry["reason"] for entry in listed["mutant"]}


def _places(source: str) -> list[_Place]:
    nodes, found = list(ast_nodes(get_ast(source))), dict[tuple[int, int], list[tuple[str, int]]]()
    for name in operator_names():
        kind = get_operator(name)
        if kind.arguments():  # names of variables to put in; our files have no list of them
            continue
        operator = kind()
        positions = (start for node in nodes for start, _ in operator.mutation_positions(node))
        for number, start in enumerate(positions):
            found.setdefault(tuple(start), []).append((name, number))
    lines, seen, places = source.split("\n"), Counter[str](), []
    for (line, column), changes in sorted(found.items()):
        text = f"{lines[line - 1]} {column}"
        places.append(_Place(line, f"{text} {seen[text]}", tuple(changes)))
        seen[text] += 1
    return places


def _mutant(file: str, source: str, place: _Place, seed: int) -> Mutant | None:
    """One of the changes of a place; None if all of them are no Python, or change what only type checkers read."""
    program = _program(source)
    for name, number in sorted(place.changes, key=lambda change: _hash(f"{seed} {place.name} {change[0]}")):
        code = mutate_code(source, get_operator(name)(), number)
        if code is not None and _program(code) not in (program, None):
            line, old, new = _difference(source, code)
            return Mutant(file, line, old, new, name.removeprefix("core/"), code)
    return None


@cache
def _program(source: str) -> str | None:
    """What runs: the file without annotations, overloads and protocols.

    None if it is no Python, as where `*,` among parameters has become `|,`.
    """
    try:
        return ast.dump(_Bare().visit(ast.parse(source)))
    except SyntaxError:
        return None


class _Bare(ast.NodeTransformer):
    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg(node.arg)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST | None:
        return None if "Protocol" in map(ast.unparse, node.bases) else self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST | None:
        if ast.unparse(node.body) == "...":  # an overload
            return None
        node.returns = None
        return self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        if "ClassVar" not in ast.unparse(node.annotation):  # dataclasses read this one
            node.annotation = ast.Name("Any")
        return self.generic_visit(node)


def _difference(source: str, code: str) -> tuple[int, str, str]:
    old, new = source.split("\n"), code.split("\n")
    spans = [span for span in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes() if span[0] != "equal"]
    _, first, last, begin, end = (spans[0][0], spans[0][1], spans[-1][2], spans[0][3], spans[-1][4])
    return first + 1, _stripped(old[first:last]), _stripped(new[begin:end])


def _stripped(lines: list[str]) -> str:
    return "\n".join(line.strip() for line in lines).strip()


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def functions(source: str) -> Iterator[range]:
    """The lines of each function's body, those within others after these."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            body = node.body if isinstance(node.body, list) else [node.body]
            yield range(body[0].lineno, (node.end_lineno or 0) + 1)

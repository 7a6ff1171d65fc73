"""What every command shares: text that any console can show, and errors in the words of the command line."""

from __future__ import annotations

import argparse
import codecs
import difflib
import io
import os
import re
import sys
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

# ---- Text on any console ---------------------------------------------------------------------------------------------

SPELLED = {
    "♭": "flat", "⁺": "^+", "⁻": "^-", "²": "^2", "←": "<-", "→": "->", "≤": "<=", "≥": ">=", "×": "x", "·": ".",
    "−": "-", "–": "-", "—": "-", "′": "'", "‘": "'", "’": "'", "“": '"', "”": '"', "█": "#",
    "⁄": "/", "∂": "d", "√": "sqrt", "∞": "inf", "≈": "~", "≠": "!=", "∈": "in", "‖": "||", "⊙": "*", "≪": "<<", "≫": ">>",
    "∫": "integral ",
}  # fmt: skip


def spell(text: str) -> str:
    """`text` in ASCII: α becomes "alpha", ♭ "flat", é "e"; a character without such a spelling becomes its code, "\\u732b".

    >>> spell("LRP_CMP:α2+♭ → 猫")
    'LRP_CMP:alpha2+flat -> \\\\u732b'
    """
    return "".join(map(_spell, text))


def _spell(character: str) -> str:
    plain = SPELLED.get(character) or unicodedata.normalize("NFKD", character)
    letters = "".join(SPELLED.get(c) or _greek(c) for c in plain if not unicodedata.combining(c))
    return letters if letters.isascii() else character.encode("ascii", "backslashreplace").decode()


def _greek(letter: str) -> str:
    """The name of a Greek letter; any other as it is."""
    alphabet, size, *_, name = f"{unicodedata.name(letter, '')}   ".split(" ")[:4]
    if alphabet != "GREEK":
        return letter
    return name.lower() if size == "SMALL" else name.title()


def _spell_what_does_not_fit(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)  # the handler is for output alone
    return spell(error.object[error.start : error.end]), error.end


codecs.register_error("lrp_toolbox.spell", _spell_what_does_not_fit)


def use_any_encoding() -> None:
    """Let standard output and standard error spell what their encoding does not have, where it would be an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape", "backslashreplace"):
            stream.reconfigure(errors="lrp_toolbox.spell")


def say(text: str = "") -> None:
    """Print a line at once. If the reader has closed the pipe (`lrp … | head`), the command goes on and prints no more."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        mute()


def mute() -> None:
    """Send standard output nowhere from here on: its reader has closed the pipe."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# ---- Errors in the words of the command line -------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that knows what its arguments are called on the command line.

    `words` maps the name of an argument in Python to the option or the placeholder. A command whose option has another name
    in Python adds to it: `command.words["output"] = "--blob"`. What is parsed has the parser of the command as `.parser`.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.words: dict[str, str] = {}
        super().__init__(*args, **kwargs)
        self.set_defaults(parser=self)

    def add_argument(self, *args: Any, **kwargs: Any) -> argparse.Action:
        action = super().add_argument(*args, **kwargs)
        names = [name for name in action.option_strings if name.startswith("--")] or action.option_strings
        self.words[action.dest] = names[0] if names else str(action.metavar or action.dest)
        return action

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As ever; but the command that does not know an argument says so, and which of its options is spelled alike."""
        parsed, rest = self.parse_known_args(args, namespace)
        if rest:
            command: Parser = parsed.parser
            options = [name for name in command.words.values() if name.startswith("--")]
            near = difflib.get_close_matches(rest[0], options, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            if all(map(_is_number, rest)) and any("[,N" in str(action.metavar) for action in command._actions):
                hint = "; numbers of one option have commas between them: 1,2,3"
            command.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Two lines on standard error, and exit code 2."""
        one_line = " ".join(message.removeprefix("argument ").split())
        self.exit(2, f"lrp: error: {one_line}\nsee `{self.prog} --help`\n")


def a_path(text: str) -> Path:
    """The type of arguments that are paths. An empty one, of a variable that is not set, would be this folder."""
    if not text:
        raise argparse.ArgumentTypeError("expected a path, got ''")
    return Path(text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def in_options(message: str, words: Mapping[str, str]) -> str:
    """An error message of the library, with the options of the command in place of the arguments of Python.

    >>> in_options("output: expected one; give output=… or size=(2, 3), see `size`", {"output": "--blob", "size": "--size"})
    '--blob: expected one; give --blob … or --size (2, 3), see `--size`'
    """
    any_of = "|".join(map(re.escape, words)) or "(?!)"
    message = re.sub(rf"^({any_of})(?=:| ')", lambda m: words[m[1]], message)
    message = re.sub(rf"`({any_of})`", lambda m: f"`{words[m[1]]}`", message)
    return re.sub(rf"(?<= )({any_of})=(?=(.?))", lambda m: words[m[1]] + ("" if m[2] in ",;. " else " "), message)

"""Tables of text, as the command and the ledger print them, and messages that can be read."""

from __future__ import annotations

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]], left: int, gap: str = "  ") -> str:
    """Rows of cells in columns: the first `left` columns begin at the same place, the others end at the same place."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    pads = [str.ljust if k < left else str.rjust for k in range(len(widths))]
    lines = (gap.join(pad(cell, width) for pad, cell, width in zip(pads, row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


LONGEST = 4000  # characters of a message


def shortened(message: str) -> str:
    """A message as a terminal can show it: names that a file holds may be of any length, and have codes that terminals obey.

    It loses its middle if it is too long, and characters that cannot be printed are spelled, as "\\x1b".
    """
    half = LONGEST // 2
    message = "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in message)
    return message if len(message) <= LONGEST else f"{message[:half]} … {message[-half:]}"

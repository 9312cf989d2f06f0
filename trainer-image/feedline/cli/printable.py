"""Text that others wrote (a pod, a node, a server), made safe for a terminal.

Whatever comes in, nothing that moves the cursor, sets a title or turns the writing direction comes out. What the text
means is not known here.
"""

import re
from collections.abc import Sequence
from typing import Final

_ESCAPES: Final = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC and the like: titles, links
    r"|\x1b[ -/]*[0-~]"
)


def line(text: str) -> str:
    """Return a line with its indentation, without escape sequences; other control characters become spaces."""
    plain = _ESCAPES.sub("", text).expandtabs(4)
    return "".join(each if each.isprintable() else " " for each in plain).rstrip()


def sentence(text: str, limit: int = 600) -> str:
    """Return text as one line of at most `limit` characters, without a full stop, to be put into a sentence."""
    words = " ".join(line(text.replace("\n", " ")).split())
    return words.removesuffix(".") if len(words) <= limit else words[: limit - 1] + "…"


def columns(rows: Sequence[Sequence[object]]) -> list[str]:
    """Return rows as lines with aligned columns, the first row being the headings."""
    cells = [[sentence("" if cell is None else str(cell), 300) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]

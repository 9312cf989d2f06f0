"""The code blocks of a Markdown page, each with its language and the line it begins on, for the tests that try them."""

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [path for name in ("README.md", "SECURITY.md") if (path := ROOT / name).exists()]
PAGES += sorted((ROOT / "docs").rglob("*.md"))

_FENCE = re.compile(r"^(?P<indent> *)(?P<fence>`{3,}|~{3,})(?P<language>[^`\n]*)$")


@dataclass(frozen=True)
class Block:
    """One fenced block: the page and the line of its fence, its language ("" if none is named), and what is in it."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page, *languages):
    """Return the blocks of a page, in order; with `languages`, those only."""
    found, opened = [], None
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = _FENCE.match(line)
        if opened is None:
            if fence is not None:
                opened = (fence["fence"], number, fence["language"].strip(), fence["indent"])
                lines = []
        elif fence is not None and not fence["language"] and fence["fence"].startswith(opened[0]):
            found.append(Block(page, opened[1], opened[2], "".join(f"{each}\n" for each in lines)))
            opened = None
        else:
            lines.append(line.removeprefix(opened[3]))
    assert opened is None, f"{page}:{opened[1]}: the block has no end"
    return [block for block in found if not languages or block.language in languages]

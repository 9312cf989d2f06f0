"""Put the measured figures into README.md, between its two markers; what `make generate` calls.

The results come from `make bench`. Where there are none, or the README is up to date, nothing is written. Standard
library only.
"""

import json
import sys
from pathlib import Path

import tables

_ROOT = Path(__file__).resolve().parent.parent
_README = _ROOT / "README.md"
_RESULTS = _ROOT / "benchmarks" / "results" / "feed.json"
_BEGIN, _END = "<!-- bench -->", "<!-- /bench -->"


def main() -> int:
    """Rewrite the block; return the exit code."""
    if not _RESULTS.exists():
        sys.stderr.write(f"feedline: README.md keeps its figures, there is no {_RESULTS.relative_to(_ROOT)}\n")
        return 0
    text = _README.read_text()
    before, begin, rest = text.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        sys.stderr.write(f"feedline: README.md: has no block from {_BEGIN} to {_END} for the figures: put one there\n")
        return 65
    block = tables.readme(json.loads(_RESULTS.read_text()))
    changed = f"{before}{begin}\n{block}\n{end}{after}"
    if changed != text:
        _README.write_text(changed)
    return 0


if __name__ == "__main__":
    sys.exit(main())

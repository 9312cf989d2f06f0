"""Put the measured figures into README.md, between two markers each; what `make generate` calls.

The results come from `make bench` and `make bench-rows`. Where there are none, the README keeps its figures. Standard
library only.
"""

import json
import sys
from pathlib import Path

import tables

_ROOT = Path(__file__).resolve().parent.parent
_README = _ROOT / "README.md"
_RESULTS = _ROOT / "benchmarks" / "results"
# For each block of the README the results it is made of, and what makes it.
_BLOCKS = (("bench", "feed.json", tables.readme), ("rows", "rows.json", tables.rows_found))


def main() -> int:
    """Rewrite the blocks; return the exit code."""
    text = changed = _README.read_text()
    for name, file, table in _BLOCKS:
        results, begin, end = _RESULTS / file, f"<!-- {name} -->", f"<!-- /{name} -->"
        if not results.exists():
            sys.stderr.write(f"feedline: README.md keeps its figures, there is no {results.relative_to(_ROOT)}\n")
            continue
        before, found, rest = changed.partition(begin)
        _, also, after = rest.partition(end)
        if not found or not also:
            sys.stderr.write(f"feedline: README.md: has no block from {begin} to {end}: put one there\n")
            return 65
        changed = f"{before}{begin}\n{table(json.loads(results.read_text()))}\n{end}{after}"
    if changed != text:
        _README.write_text(changed)
    return 0


if __name__ == "__main__":
    sys.exit(main())

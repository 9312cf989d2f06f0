"""Write the dashboards as Grafana's JSON, here and into the chart; what `make generate` calls.

The same sources give the same bytes: nothing in them depends on the time, the machine, or the order of a set.
"""

import argparse
import json
import sys
from pathlib import Path

import fleet_board
import operator_board
import pipeline_board
from grafana_foundation_sdk.cog.encoder import JSONEncoder

_ROOT = Path(__file__).resolve().parent.parent
_PLACES = (_ROOT / "dashboards", _ROOT / "charts" / "feedline" / "files" / "dashboards")
_BOARDS = {"pipeline": pipeline_board.board, "fleet": fleet_board.board, "operator": operator_board.board}


def main(arguments: list[str]) -> int:
    """Write all dashboards; return the exit code."""
    parser = argparse.ArgumentParser(description="Write the dashboards as Grafana's JSON.")
    parser.add_argument("--output", type=Path, action="append", help="a folder instead of dashboards/ and the chart's")
    places = parser.parse_args(arguments).output or _PLACES
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    for name, board in _BOARDS.items():
        text = json.dumps(board(), cls=JSONEncoder, indent=1, ensure_ascii=False) + "\n"
        for place in places:
            (place / f"{name}.json").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

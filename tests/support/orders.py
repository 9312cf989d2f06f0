"""What an order of block shuffle says of its blocks."""

from typing import Any


def blocks_of(in_order: Any, start: int, stop: int) -> list[tuple[int, Any]]:
    """Return the blocks that begin from place `start` to `stop`, each with its first place, in their order."""
    rows = in_order.unmixed(start, stop)
    if not len(rows) or stop - start == 1:
        return [(start, rows)] if len(rows) else []
    middle = (start + stop) // 2
    return blocks_of(in_order, start, middle) + blocks_of(in_order, middle, stop)

"""The arguments of a feed: each is checked where it is given, with one sentence for what is wrong."""

import operator
from collections.abc import Mapping
from typing import Any, get_args

from feedline import order
from feedline.errors import DataError, UsageError


def integer(name: str, value: Any) -> int:
    """Return a plain int, as the state's JSON and the order's arithmetic need it, of any kind of integer."""
    try:
        return operator.index(value)
    except TypeError:
        raise UsageError(f"{name}: must be an integer (got {value!r})") from None


def check_arguments(
    rows: int,
    batch_size: int,
    shuffle: str,
    seed: int,
    epochs: int | None,
    last_batch: str,
    rank: int,
    world: int,
    threads: int,
    prefetch: int,
) -> None:
    """Raise `UsageError` for an argument that is out of range, `DataError` for a batch larger than the data."""
    checks = {
        f"batch_size: must be at least 1 (got {batch_size})": batch_size >= 1,
        f"shuffle: must be full, block or none (got {shuffle!r})": shuffle in get_args(order.Shuffle),
        f"last_batch: must be drop or keep (got {last_batch!r})": last_batch in ("drop", "keep"),
        f"seed: must be from 0 to 2**64 - 1 (got {seed})": 0 <= seed < 2**64,
        f"epochs: must be at least 1 (got {epochs})": epochs is None or epochs >= 1,
        f"rank: must be from 0 to world - 1 (got rank {rank}, world {world})": 0 <= rank < world,
        f"threads: must be from 0 to 256 (got {threads})": 0 <= threads <= 256,
        f"prefetch: must be at least 1 (got {prefetch})": prefetch >= 1,
    }
    _require(checks)
    if batch_size % world:
        raise UsageError(f"batch_size: must be a multiple of world (got {batch_size} and {world})")
    if last_batch == "keep" and world > 1:
        raise UsageError("last_batch: keep would give ranks unequal batches; use drop with world > 1")
    if batch_size > rows:
        raise DataError(f"a batch of {batch_size} is larger than the data, which have {rows} rows")


def check_reading(shuffle: str, block_rows: int, window: int, read_ahead: int | None) -> None:
    """Raise `UsageError` for an argument of block shuffle or of reading ahead that is out of range."""
    _require(
        {
            f"block_rows: must be from 0 to 2**40 (got {block_rows})": 0 <= block_rows <= 2**40,
            f"window: must be from 0 to 2**20 (got {window})": 0 <= window <= 2**20,
            "block_rows and window: are for shuffle block alone": shuffle == "block" or not (block_rows or window),
            f"read_ahead: must be at least 0 (got {read_ahead})": read_ahead is None or read_ahead >= 0,
        }
    )


def _require(checks: Mapping[str, bool]) -> None:
    """Raise `UsageError` with the first problem that is one."""
    for problem, holds in checks.items():
        if not holds:
            raise UsageError(problem)

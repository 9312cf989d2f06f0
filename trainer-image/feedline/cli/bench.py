"""`feedline bench disk DIR`: what a disk gives, and what that is in rows."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

_DEPTHS = (1, 8, 32, 128)


class What(StrEnum):
    """What can be measured."""

    DISK = "disk"


def bench(
    what: Annotated[What, typer.Argument(metavar="disk", help="What is measured.", show_default=False)],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the data; its largest file is read.")],
    *,
    row_bytes: Annotated[int, typer.Option(metavar="BYTES", min=1, max=1 << 30, help="Bytes of a row.")] = 4096,
    seconds: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, max=600, help="To take in all.")] = 6.0,
) -> None:
    """Measure what a disk gives: at random, with more and more reads at once, and in order.

        feedline bench disk /data/digits --row-bytes 2500

    Nothing is written. The file is read past the page cache, so that nothing that is in memory helps, and nobody's
    data leave it. Exit codes: 0 fine, 66 no file of 64 MiB or more, 74 it cannot be read, 78 its file system cannot be
    read past the page cache.
    """
    del what  # there is one so far
    from feedline.limits import default_threads
    from feedline.paging import DEPTH, DiskLimits, copied_bytes_per_second, disk_limits, largest_file
    from feedline.paging import reads_per_second as measured
    from feedline.units import rate, size

    path = largest_file(folder)
    share = seconds / (len(_DEPTHS) + 2)
    limits: DiskLimits = disk_limits(path, row_bytes, 2 * share)
    typer.echo(f"{path}: {size(path.stat().st_size)}")
    typer.echo(f"  {limits.read_bytes >> 10} KiB at random")
    for depth in _DEPTHS:
        found = limits.reads_per_second if depth == DEPTH else measured(path, limits.read_bytes, depth, share)
        typer.echo(f"{depth:8} at once  {rate(found, unit=' reads/s'):>16}  {1e3 * depth / found:8.2f} ms each")
    typer.echo(f"  in order          {size(limits.bytes_per_second)}/s")
    threads = default_threads()
    memcpy = copied_bytes_per_second(threads, seconds=0.2)
    typer.echo(f"  memory to memory  {size(memcpy)}/s with {threads} threads")
    in_order, copied = rate(limits.bytes_per_second / row_bytes, unit=""), rate(memcpy / row_bytes, unit="")
    at_random = rate(limits.reads_per_second / -(-row_bytes // limits.read_bytes))
    typer.echo(f"rows of {size(row_bytes)}: {at_random} at random, {in_order} in order, {copied} from memory")
    worth = 4 * limits.break_even_bytes
    typer.echo(
        f"one request takes as long as {size(limits.break_even_bytes)} in order: blocks of {size(worth)} or more "
        f"({-(-int(worth) // row_bytes)} rows) are read about as fast as a file in order"
    )

"""Which rows are a rank's where no row may come twice and none may be left out, such as in a validation. Pure."""

from typing import NamedTuple


class Share(NamedTuple):
    """The rows of a rank, from `start` to `stop`, and how many of them make a batch."""

    start: int
    stop: int
    batch_size: int


def share(rows: int, batch_size: int, rank: int, world: int) -> Share:
    """Return the rows of a rank.

    Every rank has as many batches as any other, as what they do together in each needs it; shares differ by a row at
    most, and a batch may be a little larger than its part of `batch_size` where the last row would be a batch of its
    own for some ranks only.

    Parameters
    ----------
    rows
        Of all ranks, at least `world`.
    batch_size
        Rows of a batch over all ranks.
    """
    least, more = divmod(rows, world)
    each = max(1, batch_size // world)
    if more:
        # The ranks with a row more would need a batch more.
        while least % each == 0:
            each += 1
    return Share(rows * rank // world, rows * (rank + 1) // world, each)

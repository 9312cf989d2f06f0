"""Whether the memory is enough for a feed: the kernel would end a process that takes more."""

from feedline.errors import EnvironmentInvalidError
from feedline.limits import anonymous_bytes
from feedline.order import Blocks, Shuffle
from feedline.units import size

_ROOM_BYTES = 64 << 20
"""Page cache without which even what is read ahead would be gone before it is gathered, and what Python needs."""


def require_room(memory: int, own: dict[str, int], shuffle: Shuffle | Blocks) -> None:
    """Refuse a feed for which the memory is too small, with the arithmetic.

    Parameters
    ----------
    memory
        Bytes that this process may use.
    own
        Bytes that the feed takes, by what for.
    shuffle
        The order, which tells what may be lowered.

    Raises
    ------
    EnvironmentInvalidError
        It is too small.
    """
    parts = {"this process": anonymous_bytes(), **own, "room to work": _ROOM_BYTES}
    needed = sum(parts.values())
    if needed > memory:
        told = ", ".join(f"{size(part)} for {name}" for name, part in parts.items() if part)
        lower = (
            "loader.shuffle.window or loader.batchSize"
            if isinstance(shuffle, Blocks)
            else "loader.batchSize or loader.prefetchBatches"
        )
        raise EnvironmentInvalidError(
            f"the feed takes {size(needed)} of memory, and the limit is {size(memory)}: {told}: "
            f"raise resources.memory, or lower {lower}"
        )

"""Which errors only say that another rank is gone: whoever raises one is a victim, and not what began it."""

import re
import sys
from typing import Final

# gloo's and NCCL's own words come as a RuntimeError (torch 2.15).
_COMMUNICATION: Final = re.compile(
    r"gloo/|Gloo (connect|allreduce|broadcast|barrier|recv|send)|Connection (closed|reset) by (remote )?peer|"
    r"Timed out waiting \d+ ?ms for (recv|send)|Broken pipe|NCCL error|ncclRemoteError|"
    r"(failed to recv|Failed to recv|failed to connect|Failed to send).*(store|Store|socket)|"
    r"Watchdog caught collective operation timeout"
)


def is_of_communication(error: BaseException) -> bool:
    """Return whether an error says no more than that another rank does not answer."""
    distributed = sys.modules.get("torch.distributed")
    kind = getattr(distributed, "DistError", None)
    if kind is not None and isinstance(error, kind):
        return True
    return isinstance(error, RuntimeError) and _COMMUNICATION.search(str(error)) is not None

"""Which errors only say that another rank is gone: whoever raises one is a victim, and not what began it."""

import re
import sys
from typing import Final

from feedline.errors import TemporaryError

# gloo's and NCCL's own words come as a RuntimeError (torch 2.15).
_COMMUNICATION: Final = re.compile(
    r"gloo/|Gloo (connect|allreduce|broadcast|barrier|recv|send)|Connection (closed|reset) by (remote )?peer|"
    r"Timed out waiting \d+ ?ms for (recv|send)|Broken pipe|NCCL error|ncclRemoteError|"
    r"(failed to recv|Failed to recv|failed to connect|Failed to send).*(store|Store|socket)|"
    r"Watchdog caught collective operation timeout"
)
_TIMED_OUT: Final = re.compile(r"[Tt]imed out|[Tt]imeout")


class SilentError(TemporaryError):
    """A rank did not come in time to what all do together."""


class GoneError(TemporaryError):
    """A machine of the training has ended."""


def is_of_communication(error: BaseException) -> bool:
    """Return whether an error says no more than that another rank does not answer, or came of one that does."""
    return lost_connection(error) is not None


def lost_connection(error: BaseException) -> BaseException | None:
    """Return the error of communication that an error is, or was raised from or behind; None: neither."""
    distributed = sys.modules.get("torch.distributed")
    kinds = (distributed.DistError,) if distributed is not None and hasattr(distributed, "DistError") else ()
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        if isinstance(link, (SilentError, GoneError, *kinds)):
            return link
        if isinstance(link, RuntimeError) and _COMMUNICATION.search(str(link)):
            return link
        link = link.__cause__ or link.__context__
    return None


def has_timed_out(error: BaseException) -> bool:
    """Return whether an error of communication says that another rank did not come; else its connection is gone."""
    return isinstance(error, SilentError) or _TIMED_OUT.search(str(error)) is not None

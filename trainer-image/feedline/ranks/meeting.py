"""Where the machines of a training meet: in the store of the first one, under an address that outlives it.

A machine may be replaced at any time, and others may come to the store of a first one that is about to be replaced. So
each leaves a name that is its own; the first says when all are there and who they are, and whoever is not among them
looks for another store.
"""

import json
import logging
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from feedline.ranks.board import Board

LOCAL: Final = "127.0.0.1"
_POLL_SECONDS: Final = 0.2
_AGAIN_SECONDS: Final = 1.0
_TELL_SECONDS: Final = 15.0
_STORE_SECONDS: Final = 60
_log = logging.getLogger("feedline")


@dataclass(frozen=True)
class Site:
    """One machine, or pod, among those that train together.

    Attributes
    ----------
    node, nodes
        Its number, from 0, and how many there are.
    address, port
        Where the first one is found by the others; port 0 takes a free one, for one machine alone.
    """

    node: int = 0
    nodes: int = 1
    address: str = LOCAL
    port: int = 0


@dataclass(frozen=True)
class Meeting:
    """The machines of a training, all of which have come.

    Attributes
    ----------
    address, port
        Where the ranks of this machine find the store.
    name
        That of this meeting, which no other has.
    store
        A `torch.distributed.TCPStore`; while the first machine keeps it, the others can read it.
    """

    site: Site
    address: str
    port: int
    name: str
    store: Any

    def board(self) -> Board:
        """Return the words that the ranks leave for each other, as the one that has started them reads them."""
        return Board.of(self.store)


def meet(site: Site, on_wait: Callable[[str], object] = _log.info) -> Meeting:
    """Wait until all machines are there, for as long as that takes; return the meeting.

    Parameters
    ----------
    site
        Which of them this is.
    on_wait
        Told now and then who is waited for.
    """
    own, told_at = uuid.uuid4().hex, time.monotonic()
    if site.node == 0:
        store = _store(LOCAL, site.port, is_first=True)
        return _convened(site, store, own, on_wait)
    while True:
        try:
            address = _reached(site)
            store = _store(address, site.port)
            name = _admitted(site, store, own)
            if name is not None:
                return Meeting(site, address, site.port, name, store)
        except (OSError, RuntimeError):  # nobody is there yet, or not any more
            pass
        if time.monotonic() - told_at > _TELL_SECONDS:
            told_at = time.monotonic()
            on_wait(f"waiting for the first of {site.nodes} pods, at {site.address}")
        time.sleep(_AGAIN_SECONDS)


def _reached(site: Site) -> str:
    """Return the address that the name has now, if somebody listens there.

    Python's own connection is tried before the store's, which waits where no signal is heard.
    """
    with socket.create_connection((site.address, site.port), timeout=2) as connection:
        return str(connection.getpeername()[0])


def _store(address: str, port: int, *, is_first: bool = False) -> Any:
    from torch.distributed import TCPStore

    seconds = timedelta(seconds=_STORE_SECONDS)
    return TCPStore(address, port, None, is_first, seconds, wait_for_workers=False)


def _convened(site: Site, store: Any, own: str, on_wait: Callable[[str], object]) -> Meeting:
    """Wait for all others, and say who they are."""
    board = Board.of(store, "meeting")
    names = [f"node/{node}" for node in range(site.nodes)]
    board.leave(names[0], own.encode())
    while not board.wait(names, _TELL_SECONDS, _POLL_SECONDS):
        missing = [str(node) for node, name in enumerate(names) if not board.has([name])]
        on_wait(f"waiting for {len(missing)} of {site.nodes} pods: {', '.join(missing)}")
    present = [board.read(name).decode() for name in names]
    board.leave("present", json.dumps(present).encode())
    return Meeting(site, LOCAL, store.port, own, store)


def _admitted(site: Site, store: Any, own: str) -> str | None:
    """Return the name of the meeting once it begins with this machine among those present; None: it has without."""
    board = Board.of(store, "meeting")
    if board.has(["present"]):
        return None
    board.leave(f"node/{site.node}", own.encode())
    board.wait(["present"], poll_seconds=_POLL_SECONDS)
    present: list[str] = json.loads(board.read("present"))
    return present[0] if present[site.node] == own else None

"""Words that ranks leave for each other in the store of their group: bytes by name, each written once."""

import math
import time
from collections.abc import Iterable, Mapping
from typing import Any

_POLL_SECONDS = 0.005


class Board:
    """What ranks leave for each other.

    Each has a connection of its own, and may be used by one thread: the store locks it while it waits.

    Parameters
    ----------
    store
        A `torch.distributed.Store`.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    @classmethod
    def of(cls, store: Any, prefix: str = "feedline") -> "Board":
        """Return a board on a store that is connected already."""
        from torch.distributed import PrefixStore

        return cls(PrefixStore(prefix, store))

    @classmethod
    def connect(cls, environment: Mapping[str, str], seconds: float) -> "Board":
        """Return a board on the store that torchrun's variables name.

        Raises
        ------
        RuntimeError
            Nobody answers there for so long.
        """
        from datetime import timedelta

        from torch.distributed import TCPStore

        address, port = environment["MASTER_ADDR"], int(environment["MASTER_PORT"])
        store = TCPStore(address, port, None, False, timedelta(seconds=seconds), wait_for_workers=False)
        return cls.of(store)

    def leave(self, name: str, content: bytes) -> None:
        """Leave something by a name; what was there before is gone."""
        self._store.set(name, content)

    def leave_first(self, name: str, content: bytes) -> bytes:
        """Leave something where nobody has done so before; return what is there now."""
        return bytes(self._store.compare_set(name, b"", content))

    def has(self, names: Iterable[str]) -> bool:
        """Return whether there is something by each of these names."""
        return bool(self._store.check(list(names)))

    def read(self, name: str) -> bytes:
        """Return what is there by a name that `has` has told."""
        return bytes(self._store.get(name))

    def wait(self, names: list[str], seconds: float = math.inf, poll_seconds: float = _POLL_SECONDS) -> bool:
        """Wait for something by each of these names; return whether it came.

        It asks again and again, since a signal is not heard by who waits within the store.
        """
        due = time.monotonic() + seconds
        while not self.has(names):
            if time.monotonic() > due:
                return False
            time.sleep(poll_seconds)
        return True

    def remove(self, name: str) -> None:
        """Forget what is there by a name."""
        self._store.delete_key(name)

"""The step at which all ranks do something together, such as end: agreed on when it is asked for, not at every step.

Whoever is asked leaves a word for all. A thread of each rank sees it and answers with the number of steps that its rank
has begun, from which moment on the rank begins none without having heard all answers: the step is the largest of them.
So it is one that every rank comes to, whether it is within a step now and waits for the others there or not; nobody
waits for another's training, and no step is lost.
"""

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from feedline.ranks.board import Board
from feedline.ranks.errors import GoneError, SilentError
from feedline.ranks.place import Place

GONE: Final = "gone"
"""By this name a machine leaves a word when it ends before the training does."""
_POLL_SECONDS: Final = 0.1
_LOOK_SECONDS: Final = 1.0


class Asked(NamedTuple):
    """What was asked for: `what` it is, and a number that says more of it."""

    what: str
    number: int


class _Round(NamedTuple):
    number: int
    asked: Asked


class Agreement:
    """What a rank has agreed on with the others.

    Parameters
    ----------
    place
        Which rank this is.
    board, watched
        Two connections: for the training thread, and for the thread that watches.
    on_look
        Called by that thread, some times a second, with its board.
    seconds
        How long an answer is waited for: a rank gives none before its data are open.
    """

    def __init__(
        self, place: Place, board: Board, watched: Board, on_look: Callable[[Board], None], seconds: int = 300
    ) -> None:
        self._seconds = seconds
        self._place, self._board, self._watched, self._on_look = place, board, watched, on_look
        self._changing = threading.Lock()
        self._begun = 0
        self._number = 0
        self._round: _Round | None = None
        self._step: int | None = None  # that was agreed on in this round
        self._wanted: list[Asked] = []
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="feedline-ranks", daemon=True)

    def start(self, begun: int = 0) -> None:
        """Begin to watch; so many steps were begun before."""
        self._begun = begun
        if not self._thread.is_alive():
            self._thread.start()

    def ask(self, asked: Asked) -> None:
        """Ask all ranks for something; the thread that watches sends it. May be called by a signal's handler."""
        self._wanted.append(asked)

    def begin(self, step: int) -> Asked | None:
        """Begin a step, the `step`-th; where something else comes first, do not, and return what.

        Parameters
        ----------
        step
            From 1.
        """
        with self._changing:
            if self._round is None:
                self._begun = max(self._begun, step)
                return None
        if (asked := self.due(step - 1)) is None:
            with self._changing:
                self._begun = max(self._begun, step)
        return asked

    def due(self, step: int) -> Asked | None:
        """Return what is to be done now that `step` steps are done and no other is begun; None: nothing.

        Raises
        ------
        SilentError, GoneError
            A rank does not answer in time, or its machine has ended.
        """
        current = self._round
        if current is None:
            return None
        if self._step is None:
            self._step = self._agreed(current)
        if step < self._step:
            return None
        with self._changing:
            self._number, self._round, self._step = current.number + 1, None, None
        return current.asked

    def _agreed(self, current: _Round) -> int:
        names = [f"begun/{current.number}/{rank}" for rank in range(self._place.world)]
        due = time.monotonic() + self._seconds
        while not self._board.wait(names, _LOOK_SECONDS):
            silent = ", ".join(str(rank) for rank, name in enumerate(names) if not self._board.has([name]))
            if self._board.has([GONE]):
                raise GoneError(f"a pod has ended, and rank {silent} does not answer")
            if time.monotonic() > due:
                raise SilentError(f"rank {silent} does not answer for {self._seconds} s")
        return max(int(self._board.read(name)) for name in names)

    def _watch(self) -> None:
        # The store is gone when its process is: the rank is about to be ended, too.
        with contextlib.suppress(RuntimeError, OSError):
            while not self._is_closed.is_set():
                self._look()
                self._on_look(self._watched)
                time.sleep(_POLL_SECONDS)

    def _look(self) -> None:
        if self._round is not None:
            return
        number = self._number
        name = f"asked/{number}"
        if self._wanted:
            told = self._watched.leave_first(name, _written(self._wanted[0]))
            if _read(told) == self._wanted[0]:
                self._wanted.pop(0)
        elif self._watched.has([name]):
            told = self._watched.read(name)
        else:
            return
        with self._changing:
            self._round = _Round(number, _read(told))
            begun = self._begun
        self._watched.leave(f"begun/{number}/{self._place.rank}", str(begun).encode())

    def close(self) -> None:
        """End the thread that watches."""
        self._is_closed.set()
        if self._thread.is_alive():
            self._thread.join()


def _written(asked: Asked) -> bytes:
    return f"{asked.what} {asked.number}".encode()


def _read(told: bytes) -> Asked:
    what, _, number = told.decode().partition(" ")
    return Asked(what, int(number))

"""What the ranks of one run have to do with each other.

The step at which they end or save, what each adds to a checkpoint, how the feed of each does, and that all of them come
to the end. None of it is a collective: ranks that train keep in step by themselves, and words go by the group's store.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from feedline.contract import ExitCode, Report
from feedline.errors import FeedlineError, StopTraining, TemporaryError, UsageError, UserFunctionError
from feedline.manifest import Manifest
from feedline.ranks import Agreement, Asked, Board, Group, Place, is_of_communication

ENV_FOLDER: Final = "FEEDLINE_RANKS"
"""The folder in which the ranks of a machine and the process that has started them leave files for each other."""
STOP_FILE: Final = "stop"
CULPRIT_FILE: Final = "culprit"
PORT_FILE: Final = "port"
SAVE: Final = "save"
STOP: Final = "stop"
FINISH: Final = "finish"
_TELL_SECONDS: Final = 2.0
# Some kB each. Ranks that do nothing together may be that many apart.
_KEPT_SHARES: Final = 256
# What is around a rank ends it sooner than this, where another one is gone.
_HOLD_SECONDS: Final = 5.0


class Peers:
    """The other ranks of a run.

    Parameters
    ----------
    place
        Which rank this is.
    report
        Returns how this one does.

    Attributes
    ----------
    told
        How the others do, by rank, as far as they have said; of the chief alone.
    """

    def __init__(self, place: Place, report: Callable[[], Report]) -> None:
        self.place, self._report = place, report
        self.told: dict[int, Report] = {}
        self._group = Group(place)
        self._board = self._group.board()
        self._agreement = Agreement(place, self._board, self._group.board(), self._look, self._group.timeout)
        self._folder = Path(os.environ[ENV_FOLDER]) if ENV_FOLDER in os.environ else None
        self._shared: list[str] = []
        self._told_at = 0.0
        self._is_asked = self._is_silent = False

    @property
    def is_model_distributed(self) -> bool:
        """Whether the ranks were given a model to train together."""
        return self._group.is_used

    def distribute(self, model: Any) -> Any:
        """Return the model with gradients that are the mean of those of all ranks."""
        return self._group.distribute(model)

    def mean(self, value: Any, rows: float) -> float:
        """Return the mean of a value over all ranks, weighted by rows."""
        return self._group.mean(value, rows)

    # --- steps --------------------------------------------------------------------------------------------------------

    def start(self, step: int) -> None:
        """Begin to listen; so many steps are done."""
        self._agreement.start(step)

    def begin(self, step: int) -> Asked | None:
        """Begin a step, or return what comes before it."""
        return self._agreement.begin(step)

    def due(self, step: int) -> Asked | None:
        """Return what is due between two steps."""
        return self._agreement.due(step)

    def ask(self, what: str, number: int = 0) -> None:
        """Ask all for something at the next step that all of them come to."""
        self._agreement.ask(Asked(what, number))

    def _look(self, board: Board) -> None:
        if self._folder is not None and self.place.local_rank == 0 and not self._is_asked:
            stop = self._folder / STOP_FILE
            if stop.exists():
                self._is_asked = True
                self.ask(STOP, int(stop.read_text()))
        if time.monotonic() - self._told_at < _TELL_SECONDS:
            return
        self._told_at = time.monotonic()
        board.leave(f"told/{self.place.rank}", json.dumps(self._report()).encode())
        if not self.place.is_chief:
            return
        for rank in range(1, self.place.world):
            if board.has([name := f"told/{rank}"]):
                self.told[rank] = json.loads(board.read(name))

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def share(self, step: int, content: bytes) -> None:
        """Leave what this rank adds to a checkpoint of this step; the chief takes it, or does not."""
        name = f"share/{step}/{self.place.rank}"
        self._board.leave(name, content)
        self._shared.append(name)
        if len(self._shared) > _KEPT_SHARES:
            self._board.remove(self._shared.pop(0))

    def shares(self, step: int) -> dict[int, bytes]:
        """Return what the others add to a checkpoint of this step, by rank.

        Raises
        ------
        TemporaryError
            One does not come to that step.
        """
        names = {rank: f"share/{step}/{rank}" for rank in range(1, self.place.world)}
        if not self._board.wait(list(names.values()), self._group.timeout):
            raise TemporaryError(
                f"not all ranks came to step {step} within {self._group.timeout} s: {self._missing(names)}"
            )
        return {rank: self._board.read(name) for rank, name in names.items()}

    def _missing(self, names: dict[int, str]) -> str:
        return ", ".join(f"rank {rank} did not" for rank, name in names.items() if not self._board.has([name]))

    def tell_chosen(self, step: int | None) -> None:
        """Tell the others from which step all go on; None: from none. The chief calls it."""
        self._board.leave("chosen", str(-1 if step is None else step).encode())

    def chosen(self) -> int | None:
        """Return from which step the chief goes on, once it has said so."""
        self._board.wait(["chosen"])
        step = int(self._board.read("chosen"))
        return None if step < 0 else step

    # --- the end ------------------------------------------------------------------------------------------------------

    def arrive(self, steps: int) -> None:
        """Note that this rank has come to the end of the training; the chief waits for all.

        Raises
        ------
        UserFunctionError
            Another rank took another number of steps.
        """
        self._board.leave(f"ended/{self.place.rank}", str(steps).encode())
        if not self.place.is_chief:
            return
        names = [f"ended/{rank}" for rank in range(self.place.world)]
        if not self._board.wait(names, self._group.timeout):
            raise TemporaryError(
                f"rank 0 came to its end after {steps} steps, and within {self._group.timeout} s not all others did: "
                f"{self._missing(dict(enumerate(names)))}"
            )
        taken = {rank: int(self._board.read(name)) for rank, name in enumerate(names)}
        if len(set(taken.values())) > 1:
            told = ", ".join(f"rank {rank} {number}" for rank, number in taken.items())
            raise UserFunctionError(f"the ranks took different numbers of steps ({told}): each must take all batches")

    def is_to_tell(self, error: BaseException) -> bool:
        """Return whether this rank is the first with an error of its own: the others keep silent about theirs."""
        if isinstance(error, StopTraining) or self._folder is None:
            return True
        if is_of_communication(error):
            self._board.leave(f"lost/{self.place.rank}", b"")
            return False
        with_name = self._folder / CULPRIT_FILE
        try:
            descriptor = os.open(with_name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            self._is_silent = True
            return False
        os.write(descriptor, str(self.place.rank).encode())
        os.close(descriptor)
        return True

    def explained(self, error: BaseException) -> BaseException:
        """Return what an error of communication means, having waited whether this rank is ended for it.

        Where another rank has told its own error, this one is ended once that has left its report.
        """
        if "default process group twice" in str(error):
            return UsageError(
                "the training function makes a process group, and feedline has made it already: leave "
                "init_process_group out, and distribute the model by run.distribute"
            )
        if self._is_silent or is_of_communication(error):
            time.sleep(_HOLD_SECONDS)
        return self._why_lost(error) if is_of_communication(error) else error

    def _why_lost(self, error: BaseException) -> FeedlineError:
        own = self._report().get("steps", 0)
        others = [rank for rank in range(self.place.world) if rank != self.place.rank]
        try:
            ended = {rank: int(self._board.read(f"ended/{rank}")) for rank in others if self._has(f"ended/{rank}")}
            hanging = [rank for rank in others if rank not in ended and not self._has(f"lost/{rank}")]
            steps = {rank: self._steps_of(rank) for rank in hanging}
        except (RuntimeError, OSError):  # the store is gone, too
            return TemporaryError(f"the other ranks are gone ({error})")
        if early := [f"rank {rank} after {steps} steps" for rank, steps in ended.items() if steps < own]:
            return UserFunctionError(
                f"rank {self.place.rank} waits in step {own} for ranks that came to their end ({', '.join(early)}): "
                "each must take all batches of an epoch"
            )
        if hanging:
            told = ", ".join(f"rank {rank} hangs in step {steps[rank]}" for rank in hanging)
            return TemporaryError(
                f"{told}, and did not come to what all do together within {self._group.timeout} s "
                "(spec.policy.peerTimeoutSeconds)"
            )
        return TemporaryError(f"the ranks lost each other in step {own} ({error})")

    def _has(self, name: str) -> bool:
        return self._board.has([name])

    def _steps_of(self, rank: int) -> int:
        """Return the step in which a rank is, as it said last."""
        name = f"told/{rank}"
        told: Report = json.loads(self._board.read(name)) if self._has(name) else {}
        return told.get("steps", 0)

    def close(self) -> None:
        """Leave the group."""
        self._agreement.close()
        self._group.close()


def stop_code(asked: Asked) -> ExitCode:
    """Return the exit code of a run that was asked to stop."""
    return ExitCode(asked.number)


def require_ranks(document: Manifest, world: int) -> None:
    """Refuse a run of several ranks that could not be one.

    Raises
    ------
    UsageError
        The framework, the engine or the batch has no parts for ranks.
    """
    if world == 1:
        return
    loader = document.loader
    if document.backend != "pytorch":
        raise UsageError(
            f"{world} processes: {document.backend} cannot train in several: take backend pytorch, or one process"
        )
    if loader.engine == "Classic":
        raise UsageError(f"{world} processes: loader.engine Classic has no share for each: take Feed, or one process")
    if loader.batch_size % world:
        raise UsageError(
            f"{world} processes: they share a batch, and loader.batchSize {loader.batch_size} is no multiple of that"
        )
    if loader.last_batch == "keep":
        raise UsageError(f"{world} processes: loader.lastBatch Keep would give them unequal batches: take Drop")

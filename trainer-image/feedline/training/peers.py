"""What the ranks of one run have to do with each other.

The step at which they end or save, what each adds to a checkpoint, how the feed of each does, and that all of them come
to the end. None of it is a collective: ranks that train keep in step by themselves, and words go by the group's store.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable
from typing import Any, Final

from feedline.contract import ENV_NODE, ExitCode, Report
from feedline.errors import FeedlineError, StopTraining, TemporaryError, UsageError, UserFunctionError
from feedline.manifest import Manifest
from feedline.ranks import (
    GONE,
    Agreement,
    Asked,
    Board,
    Group,
    Place,
    SilentError,
    has_timed_out,
    is_of_communication,
    lost_connection,
)
from feedline.training.ranks_folder import RanksFolder

SAVE: Final = "save"
STOP: Final = "stop"
FINISH: Final = "finish"
_CULPRIT: Final = "culprit"
_TELL_SECONDS: Final = 2.0
# Some kB each. Ranks that do nothing together may be that many apart.
_KEPT_SHARES: Final = 256
# What is around a rank ends it sooner than this, where another one is gone.
_HOLD_SECONDS: Final = 5.0
_LOOK_SECONDS: Final = 0.1


class Peers:
    """The other ranks of a run.

    Parameters
    ----------
    place
        Which rank this is.
    report
        Returns how this one does.
    seconds
        Returns for how long its loop has waited and worked.

    Attributes
    ----------
    told
        How the others do, by rank, as far as they have said; of the chief alone.
    seconds
        For how long their loops have waited and worked, likewise.
    nodes
        On which node each rank is, as far as they have said and know it.
    """

    def __init__(self, place: Place, report: Callable[[], Report], seconds: Callable[[], tuple[float, float]]) -> None:
        self.place, self._report, self._seconds = place, report, seconds
        self.told: dict[int, Report] = {}
        self.seconds: dict[int, tuple[float, float]] = {}
        self._node = os.environ.get(ENV_NODE, "")
        self.nodes = {place.rank: self._node}
        self._folder = RanksFolder.of_environment()
        self._group = self._joined()
        self._board = self._group.board()
        self._agreement = Agreement(place, self._board, self._group.board(), self._look, self._group.timeout)
        self._shared: list[str] = []
        self._told_at = 0.0
        self._is_asked = self._is_silent = False

    def _joined(self) -> Group:
        try:
            group = Group(self.place)
        except RuntimeError as error:
            if not is_of_communication(error):
                raise
            self._suffer()
            raise TemporaryError(f"not all ranks came together ({error})") from None
        if self._folder is not None and group.is_on_gpu:
            self._folder.note_nccl()
        return group

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
        if self._folder is not None:
            self._folder.listen(self.place.rank)

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
            code = self._folder.stop_code()
            if code is not None:
                self._is_asked = True
                self.ask(STOP, code)
        if time.monotonic() - self._told_at < _TELL_SECONDS:
            return
        self._told_at = time.monotonic()
        self._end_if_hung(board)
        told = [self._node, self._report(), self._seconds()]
        board.leave(f"told/{self.place.rank}", json.dumps(told).encode())
        if not self.place.is_chief:
            return
        for rank in range(1, self.place.world):
            if board.has([name := f"told/{rank}"]):
                self.nodes[rank], self.told[rank], self.seconds[rank] = json.loads(board.read(name))

    def _end_if_hung(self, board: Board) -> None:
        """End this process where the others have waited for it in vain: it is the one that they wait for."""
        if self._folder is not None and board.has([name := f"hangs/{self.place.rank}"]):
            self._folder.note_hung(self.place.rank, board.read(name).decode())
            os._exit(ExitCode.TEMPORARY)

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
        SilentError
            One does not come to that step.
        """
        names = {rank: f"share/{step}/{rank}" for rank in range(1, self.place.world)}
        if not self._board.wait(list(names.values()), self._group.timeout):
            raise SilentError(
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
            raise SilentError(
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
            self._leave(f"lost/{self.place.rank}", b"")
            return False
        self._is_silent = not self._confess()
        return not self._is_silent

    def _confess(self) -> bool:
        """Say that this rank began it; return whether it is the first to say so."""
        is_first = self._is_first_of_all() and (self._folder is None or self._folder.confess(self.place.rank))
        if not is_first:
            self._suffer()
        return is_first

    def _is_first_of_all(self) -> bool:
        own = str(self.place.rank).encode()
        try:
            return self._board.leave_first(_CULPRIT, own) == own
        except (RuntimeError, OSError):  # the store is gone: who was first cannot be known
            return True

    def _leave(self, name: str, content: bytes) -> None:
        with contextlib.suppress(RuntimeError, OSError):
            self._board.leave(name, content)

    def _suffer(self) -> None:
        if self._folder is not None:
            self._folder.suffer(self.place.rank)

    def explained(self, error: BaseException) -> BaseException:
        """Return what an error of communication means, having waited whether this rank is ended for it.

        Where another rank has told its own error, this one is ended once that has left its report.
        """
        if "default process group twice" in str(error):
            return UsageError(
                "the training function makes a process group, and feedline has made it already: leave "
                "init_process_group out, and distribute the model by run.distribute"
            )
        lost = lost_connection(error)
        if self._is_silent or lost is not None:
            self._hold()
        if lost is None:
            return error
        meant = self._why_lost(lost)
        if isinstance(meant, UserFunctionError):
            self._confess()
        else:
            self._suffer()
        return meant

    def _hold(self) -> None:
        due = time.monotonic() + _HOLD_SECONDS
        while time.monotonic() < due and not self._is_elsewhere():
            if self._folder is not None and self._folder.stop_code() is not None:
                return
            time.sleep(_LOOK_SECONDS)

    def _is_elsewhere(self) -> bool:
        """Return whether it is known that another machine began it: nothing on this one is waited for then."""
        try:
            if self._board.has([GONE]):
                return True
            culprit = int(self._board.read(_CULPRIT)) if self._board.has([_CULPRIT]) else self.place.rank
        except (RuntimeError, OSError):  # the store is gone, and with it the first machine
            return True
        return culprit // self.place.local_world != self.place.rank // self.place.local_world

    def _why_lost(self, error: BaseException) -> FeedlineError:
        own = self._report().get("steps", 0)
        others = [rank for rank in range(self.place.world) if rank != self.place.rank]
        try:
            ended = {rank: int(self._board.read(f"ended/{rank}")) for rank in others if self._has(f"ended/{rank}")}
            missing = [rank for rank in others if rank not in ended and not self._has(f"lost/{rank}")]
            steps = {rank: self._steps_of(rank) for rank in missing}
        except (RuntimeError, OSError):  # the store is gone, too
            return TemporaryError(f"the other ranks are gone ({error})")
        if early := [f"rank {rank} after {steps} steps" for rank, steps in ended.items() if steps < own]:
            return UserFunctionError(
                f"rank {self.place.rank} waits in step {own} for ranks that came to their end ({', '.join(early)}): "
                "each must take all batches of an epoch"
            )
        if missing and has_timed_out(error):
            return self._who_hangs(steps)
        if missing:
            told = ", ".join(f"rank {rank} is gone, last seen in step {steps[rank]}" for rank in missing)
            return TemporaryError(told)
        return TemporaryError(f"the ranks lost each other in step {own} ({error})")

    def _who_hangs(self, steps: dict[int, int]) -> TemporaryError:
        """Say which ranks hang, and tell them, so that they are those that end with it."""
        late = f"did not come to what all do together within {self._group.timeout} s (spec.policy.peerTimeoutSeconds)"
        hanging = {rank: f"rank {rank} hangs in step {step}" for rank, step in steps.items()}
        for rank, told in hanging.items():
            self._leave(f"hangs/{rank}", f"{told}, and {late}".encode())
        return TemporaryError(f"{', '.join(hanging.values())}, and {late}")

    def _has(self, name: str) -> bool:
        return self._board.has([name])

    def _steps_of(self, rank: int) -> int:
        """Return the step in which a rank is, as it said last."""
        name = f"told/{rank}"
        told: Report = json.loads(self._board.read(name))[1] if self._has(name) else {}
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

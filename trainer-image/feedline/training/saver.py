"""When a run saves itself, what of it, and how it goes on from there: `run.checkpoint`.

It is asked at borders, where no step is under way: between two steps of an epoch, and between two epochs. What is saved
is as it was at a border, so that whoever goes on from there does what comes behind it once, and nothing twice: a
schedule's step behind the last batch, the validation, the report. That is why a copy is taken before the last step of
an epoch, for a stop that comes behind it; and who goes on within an epoch has a step to do, since what a loop leaves in
its variables is wanted behind it. The file is long for what it says of each border.
"""

import contextlib
import logging
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from feedline.checkpoints import (
    SUFFIX,
    Found,
    Kept,
    Opened,
    Record,
    State,
    Writer,
    checkpoints,
    read_state,
    require_savable,
    state_of,
)
from feedline.errors import DataError, FeedlineError, UsageError, told
from feedline.manifest import Checkpoint
from feedline.training import history
from feedline.training.border import Saved
from feedline.training.output import Output
from feedline.training.own import Own
from feedline.training.peers import SAVE, Peers
from feedline.training.sums import Sums

_RUN: Final = "run"
# Of an epoch, for a copy that is taken for a stop, and mostly for nothing.
_COPY_SHARE: Final = 0.05
_COPY_SECONDS = 0.02
_log = logging.getLogger("feedline")


@contextlib.contextmanager
def _storage() -> Iterator[None]:
    """Tell what a disk does not give from what a user's function raises."""
    try:
        yield
    except OSError as error:
        raise told(error) or error from None


class Saver:
    """Saves a run and restores it.

    Parameters
    ----------
    output
        Where.
    policy
        When, and how many stay.
    run
        What is saved.
    sums
        The run's sums, which are saved with it.
    why_not
        Why this run saves no checkpoints; None where it does.
    peers
        The other ranks of the run, where there are some; those that are not the chief share what they have of their
        own, and write nothing.

    Attributes
    ----------
    from_step
        The step from which this run went on; None where it began anew.
    """

    def __init__(
        self,
        output: Output,
        policy: Checkpoint,
        run: Saved,
        sums: Sums,
        why_not: str | None = None,
        peers: Peers | None = None,
    ) -> None:
        self._output, self._policy, self._run, self._why_not, self._peers = output, policy, run, why_not, peers
        self._states: dict[str, State] = {}
        self._own = Own(sums, 0 if peers is None else peers.place.rank)
        self._writer = Writer(output.checkpoints, output.run, policy.keep)
        self._is_registered = False
        self._due_at_step = 0
        self._due_since = self._epoch_began = time.perf_counter()
        self._best_is_due = self._is_prepared = self._is_asked = False
        self.from_step: int | None = None

    @property
    def kept(self) -> Kept:
        """How saving goes."""
        return self._writer.kept

    @property
    def is_on(self) -> bool:
        """Whether there is something to be saved."""
        return bool(self._states)

    # --- what is saved ------------------------------------------------------------------------------------------------

    @property
    def is_registered(self) -> bool:
        """Whether somebody has said what is to be saved."""
        return self._is_registered

    def register(self, objects: Mapping[str, Any]) -> bool:
        """Take in what is saved from now on; return whether it was restored.

        Raises
        ------
        UsageError
            One has no state, they are none, or it comes too late.
        DataError
            There are checkpoints, and none of them can be gone on with.
        """
        if self._is_registered:
            raise UsageError("run.checkpoint: was called before: pass all objects in one call")
        if not objects:
            raise UsageError(
                "run.checkpoint: pass what is to be saved: run.checkpoint(model=model, optimizer=optimizer)"
            )
        if _RUN in objects or not all(name.isidentifier() for name in objects):
            raise UsageError(f"run.checkpoint: {', '.join(objects)}: names are words, and {_RUN} is feedline's own")
        if self._run.border().step:
            raise UsageError("run.checkpoint: comes after the first batch: call it once, before the loop")
        states = {name: state_of(name, thing) for name, thing in objects.items()}
        require_savable(states)
        self._is_registered = True
        if self._why_not is not None:
            _log.warning("no checkpoints are saved: %s", self._why_not)
            return False
        self._states = states
        is_restored = self._restore()
        self._run.progress()  # reads what it belongs to: by the time at which it is saved, the disk may have gone
        return is_restored

    def replace(self, objects: Mapping[str, Any]) -> None:
        """Save other objects from now on, as where `fit` is called once more with another optimizer."""
        if self._states:
            self._states = {name: state_of(name, thing) for name, thing in objects.items()}

    @property
    def _world(self) -> int:
        return 1 if self._peers is None else self._peers.place.world

    @property
    def _is_chief(self) -> bool:
        return self._peers is None or self._peers.place.is_chief

    def _restore(self) -> bool:
        if self._peers is None:
            return self._restore_newest()
        if self._is_chief:
            is_restored = self._restore_newest()
            self._peers.tell_chosen(self.from_step)
            return is_restored
        step = self._peers.chosen()
        if step is None:
            return False
        for each in self._found():
            if each.step == step:
                opened = Opened(each)
                try:
                    self._go_on_from(opened)
                finally:
                    opened.close()
                return True
        raise DataError(
            f"{self._output.checkpoints}: rank 0 goes on from step {step}, which this rank does not find there: all "
            "need the same output, on a volume that several nodes may mount (ReadWriteMany)"
        )

    def _found(self) -> list[Found]:
        with _storage():
            return checkpoints(self._output.checkpoints, self._output.run)

    def _restore_newest(self) -> bool:
        found = self._found()
        for each in found:
            try:
                opened = Opened(each)
            except DataError as error:
                if not each.was_begun:
                    _log.warning("%s; it is passed over", error)
                if each.record is not None:  # one without counts for nothing anyway, until its folder is written anew
                    self._writer.pass_over(each.path)
                continue
            try:
                self._go_on_from(opened)
            finally:
                opened.close()
            return True
        if any(not each.was_begun for each in found):
            raise DataError(
                f"{self._output.checkpoints}: there are checkpoints, and none of them is whole: "
                f"{found[0].path.name}: {found[0].problem or 'damaged'}; put one back, or start anew (--fresh, or a "
                "new pipeline)"
            )
        return False

    def _go_on_from(self, opened: Opened) -> None:
        record = opened.record
        where = f"the checkpoint of step {record.step} in {opened.path}"
        self._require_same(where, record)
        for name, state in self._states.items():
            try:
                state.put(read_state(opened, name))
            except FeedlineError:
                raise
            except Exception as error:
                error.add_note(f"feedline: while {name} was restored from {where}")
                raise
        self._own.put(read_state(opened, _RUN), self._world)
        try:
            with _storage():
                self._run.go_on(record.progress)
        except UsageError as error:
            raise UsageError(f"{where} is of another training: {error}: give it as it was, or start anew") from None
        self.from_step = self._due_at_step = record.step
        self._writer.begin_with(record)
        _log.info("going on from step %d, which was saved at %s", record.step, record.time)

    def _require_same(self, where: str, record: Record) -> None:
        now = self._run.facts()
        told = [
            f"{name} was {was} and is {now.get(name)}" for name, was in record.facts.items() if now.get(name) != was
        ]
        saved = {file.name.removesuffix(SUFFIX) for file in record.files} - {_RUN}
        told += [f"{name} was saved and is not passed to run.checkpoint" for name in sorted(saved - set(self._states))]
        told += [f"{name} was not saved" for name in sorted(set(self._states) - saved)]
        if told:
            raise UsageError(f"{where} is of another training: {'; '.join(told)}: give it as it was, or start anew")

    def restore_randomness(self) -> None:
        """Have what is drawn from here on be what was drawn from there on; once, where the run goes on."""
        self._own.restore_randomness()

    # --- borders ------------------------------------------------------------------------------------------------------

    def improved(self) -> None:
        """Note that the objective is the best so far, by a report between steps: it is kept at the next border."""
        self._best_is_due = True

    def at_step(self) -> None:
        """Between two steps of an epoch: save what is due; before the last one, copy it for a stop behind that."""
        border = self._run.border()
        if self._peers is not None:
            self._at_step_of_all(self._peers, border.step)
            return
        if not self.is_on:
            return
        if not self._is_prepared:  # behind a step, when an optimizer has its state
            self._is_prepared = True
            self._writer.prepare(self._all_states())
        if self._is_due(border.step):
            if self._writer.is_busy:
                self._note_due(border.step)
                self._writer.skip()
            else:
                self._save("Periodic")
        elif border.is_last and not self._writer.is_busy and self._is_cheap():
            self._copy()

    def _at_step_of_all(self, peers: Peers, step: int) -> None:
        """Save at steps that every rank knows, and ask for one where the time has come."""
        every = self._policy.every_steps
        if every and step % every == 0:
            self.save_agreed()
        elif (
            self._is_chief
            and self.is_on
            and not self._is_asked
            and not self._writer.is_busy
            and self._is_due_by_time(step)
        ):
            self._is_asked = True
            peers.ask(SAVE)

    def save_agreed(self) -> None:
        """Save at a step that all ranks save at; those that are not the chief share what is their own."""
        self._is_asked = False
        if not self._is_chief:
            self.share()
        elif not self.is_on:
            return
        elif self._writer.is_busy:
            self._note_due(self._run.border().step)
            self._writer.skip()
        else:
            self._save("Periodic")

    def share(self) -> None:
        """Leave what is this rank's own, where it is not the chief, for a checkpoint of the step at which it is.

        Of a rank that has registered nothing that is nothing: the chief would wait for it in vain.
        """
        if self._peers is not None and not self._is_chief and self._why_not is None:
            self._peers.share(self._run.border().step, self._own.share() if self.is_on else b"")

    def _is_cheap(self) -> bool:
        """Whether a copy takes little of the time of an epoch."""
        took = time.perf_counter() - self._epoch_began
        return self._writer.kept.copy_seconds <= max(_COPY_SECONDS, _COPY_SHARE * took)

    def at_epoch_end(self) -> None:
        """Between two epochs: save what is due, and what is the best so far."""
        if not self._is_chief:
            self.share()
            return
        if not self.is_on:
            return
        self._epoch_began = time.perf_counter()
        step = self._run.border().step
        if self._best_is_due:
            self._best_is_due = False
            self._writer.wait()
            self._save("Best")
        elif self._is_due(step) and not self._writer.is_busy:
            self._save("Periodic")

    @property
    def _saved_step(self) -> int:
        """The step of the newest checkpoint, -1 before the first one."""
        last = self._writer.kept.last
        return -1 if last is None else last.step

    def _is_due(self, step: int) -> bool:
        policy = self._policy
        if policy.every_steps and step - self._due_at_step >= policy.every_steps:
            return True
        return self._is_due_by_time(step)

    def _is_due_by_time(self, step: int) -> bool:
        seconds, every = time.perf_counter() - self._due_since, self._policy.every_seconds
        return bool(every) and seconds >= every and step > self._saved_step

    def _note_due(self, step: int) -> None:
        self._due_at_step, self._due_since = step, time.perf_counter()

    def _save(self, reason: str, *, is_finished: bool = False) -> None:
        self._copy(is_finished=is_finished)
        self._write(reason)

    def _copy(self, *, is_finished: bool = False) -> None:
        self._run.pause()
        if self._peers is not None:
            others = self._peers.shares(self._run.border().step)
            if lacking := [str(rank) for rank, content in others.items() if not content]:
                raise UsageError(
                    f"run.checkpoint: was called in rank 0 and not in rank {', '.join(lacking)}: call it in every "
                    "rank, without `if run.is_chief`; only rank 0 writes"
                )
            self._own.others = others

        def describe() -> Record:
            border = self._run.border()
            return Record(
                run=self._output.run,
                step=border.step,
                epoch=border.epochs,
                time=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
                reason="",
                objective=self._run.objective_now(),
                facts=self._run.facts(),
                progress={**self._run.progress(), "finished": is_finished},
            )

        self._writer.copy(self._all_states(), describe)

    def _all_states(self) -> dict[str, State]:
        return {**self._states, _RUN: self._own}

    def _write(self, reason: str) -> None:
        copied = self._writer.copied
        if copied is not None:
            self._note_due(copied.step)
            self._writer.write(reason, self._run.best_step(), (self._output.folder / history.HISTORY,))

    # --- the end ------------------------------------------------------------------------------------------------------

    def stopped(self) -> None:
        """Save the run, which was asked to end, as it was at its last border, and wait until that is written.

        Raises
        ------
        FeedlineError
            A state cannot be taken.
        """
        if not self.is_on or not self._is_chief:
            return
        self._writer.wait()
        border, copied = self._run.border(), self._writer.copied
        if border.is_clean and border.step > self._saved_step:
            self._save("Stopped")
        elif not border.is_clean and copied is not None and copied.step > self._saved_step:
            self._write("Stopped")
        self._writer.wait()
        self._publish()

    def finished(self) -> str | None:
        """Save the run, which came to its end; return what went wrong, if anything did.

        Raises
        ------
        FeedlineError
            A state cannot be taken.
        """
        if not self._is_chief:
            self.share()
            return None
        if not self.is_on:
            return None
        self._writer.wait()
        self._save("End", is_finished=True)
        self._writer.wait()
        self._publish()
        return self._writer.kept.error

    def close(self) -> None:
        """Wait for what is being written."""
        self._writer.wait()

    def _publish(self) -> None:
        """Lay the weights of the models, the newest and the best, to where people look for them."""
        step = self._run.best_step()
        try:
            newest, best = self._writer.newest(), self._writer.newest(step) if step is not None else None
        except OSError as error:
            _log.warning("%s cannot be read (%s)", self._output.checkpoints, error.strerror)
            return
        for name, state in self._states.items():
            for path, target in ((newest, name), (best, f"{name}.best")):
                if path is not None and state.is_model:
                    self._output.publish(path / f"{name}{SUFFIX}", f"{target}{SUFFIX}")

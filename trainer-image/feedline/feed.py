"""`Feed`: mini-batches of memory-mapped rows, ready before they are asked for, as views of shared slots.

One thing happens here: what the threads gathered is handed out batch by batch, counted and timed. Which rows make
a batch is `order`'s business, how they are copied `gather`'s, and what a framework sees its adapter's.
"""

import operator
import os
import time
import warnings
import weakref
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self, cast, get_args

import numpy as np
from numpy.typing import NDArray

from feedline import order, slots
from feedline.arrays import Arrays
from feedline.errors import DataError, UsageError
from feedline.gather import Gatherer, Position
from feedline.limits import default_threads

if TYPE_CHECKING:
    from types import GeneratorType

_WINDOW = 4096
"""Fetches that the percentiles look back on."""

Convert = Callable[[tuple[NDArray[Any], ...]], Iterable[tuple[Any, ...]]]
"""Turns the arrays of a slot, each ``[batches, batch_size, *row_shape]``, into a tuple for each batch."""


@dataclass(frozen=True)
class FeedStats:
    """What a feed did since it was made."""

    batches: int
    """Batches handed out."""
    rows: int
    """Rows handed out."""
    bytes: int
    """Bytes handed out."""
    wait_seconds: float
    """Time that the consumer was blocked in `next()`."""
    gather_busy_seconds: float
    """Wall time of the gather threads at work, summed over the threads."""
    gathered_rows: int
    """Rows gathered, those that wait to be handed out included."""
    threads: int
    """Gather threads."""
    fetch_seconds: tuple[float, float, float]
    """Median, 95th and 99th percentile of the last 4,096 fetches; zeros before the first."""
    queue_depth: int
    """Batches that are ready now."""
    queue_capacity: int
    """Batches that can be ready at most."""
    minor_faults: int
    """Page faults of the gather threads that needed no disk."""
    major_faults: int
    """Page faults of the gather threads that waited for the disk."""
    rows_from_disk: int
    """Rows that were not in memory when they came to be due; they are read, and cost no page fault."""
    paging: Mapping[str, str]
    """For each mapped array how its rows come into memory, and why, as a sentence."""


class Feed:
    """Mini-batches of `arrays`, each epoch in an order of its own, gathered by threads ahead of need.

    ::

        arrays = feedline.open_arrays({"features": "features.npy", "labels": "labels.npy"})
        with feedline.Feed(arrays, batch_size=256) as feed:
            for epoch in range(10):
                for batch in feed:  # one epoch
                    train(batch["features"], batch["labels"])

    A batch is a dict of ndarrays, ``[batch_size, *row_shape]``, which are views of a shared slot: it may be kept and
    written to, its memory is reused only when nobody holds it. A kept batch keeps its whole slot of some MB; copy
    what is to be kept for long.

    Parameters
    ----------
    arrays
        From `open_arrays`.
    batch_size
        Rows of a batch over all ranks; rank r gets the r-th of `world` equal parts of every batch.
    shuffle
        ``"full"``: every epoch in a new order over all rows; ``"none"``: in the order of the files; ``"block"``: blocks
        of consecutive rows in a new order, and the rows of some blocks at a time mixed, which a disk reads many times
        faster than single rows, and which mixes less (`feedline.order.Blocks`).
    seed
        From 0 to 2**64 - 1; the same seed gives the same batches, with any number of threads, on any machine.
    epochs
        How many epochs there are at most; after that an iterator is empty. None: no bound.
    last_batch
        ``"drop"`` omits the rows that do not fill a batch, ``"keep"`` makes a smaller one of them.
    rank, world
        This process and the number of processes. With ``"block"`` the rows of each lie in all blocks, and of files that
        do not fit into memory each reads all.
    threads
        Gather threads; 0 takes the CPU limit, at most 4.
    prefetch
        Batches to keep ready, rounded up to whole slots, at least one for each thread.
    block_rows, window
        For ``"block"``: rows of a block, and blocks that are mixed; 0 takes what is 1 MiB, and 64.
    read_ahead
        Batches, beyond the slots that are being filled, whose rows are brought into memory where they are not; None
        takes two slots, or fewer where they would take more than an eighth of the memory.
    state
        From `state`, to go on after the last batch that had been handed out.

    Raises
    ------
    UsageError
        An argument is out of range, or `state` belongs to other rows or another order.
    DataError
        A batch is larger than the data.
    """

    def __init__(
        self,
        arrays: Arrays,
        batch_size: int,
        *,
        shuffle: order.Shuffle = "full",
        seed: int = 0,
        epochs: int | None = None,
        last_batch: order.LastBatch = "drop",
        rank: int = 0,
        world: int = 1,
        threads: int = 0,
        prefetch: int = 4,
        block_rows: int = 0,
        window: int = 0,
        read_ahead: int | None = None,
        state: dict[str, Any] | None = None,
    ) -> None:
        batch_size, seed, rank, world = map(
            _integer, ("batch_size", "seed", "rank", "world"), (batch_size, seed, rank, world)
        )
        threads, prefetch = map(_integer, ("threads", "prefetch"), (threads, prefetch))
        block_rows, window = map(_integer, ("block_rows", "window"), (block_rows, window))
        epochs = None if epochs is None else _integer("epochs", epochs)
        read_ahead = None if read_ahead is None else _integer("read_ahead", read_ahead)
        _check_arguments(arrays.rows, batch_size, shuffle, seed, epochs, last_batch, rank, world, threads, prefetch)
        _check_reading(shuffle, block_rows, window, read_ahead)
        self.arrays = arrays
        self.batch_size = batch_size
        self._arguments: dict[str, Any] = {
            "shuffle": shuffle,
            "seed": seed,
            "epochs": epochs,
            "last_batch": last_batch,
            "rank": rank,
            "world": world,
            "threads": threads,
            "prefetch": prefetch,
            "block_rows": block_rows,
            "window": window,
            "read_ahead": read_ahead,
        }
        self._shuffle: order.Shuffle | order.Blocks = shuffle
        if shuffle == "block":
            widest = max(array.row_bytes for array in arrays.values())
            self._shuffle = order.Blocks.of(widest, block_rows, window)
        self.plan = order.Plan(arrays.rows, batch_size, last_batch, rank, world)
        self.epochs = epochs
        self.threads = threads or default_threads()
        self._row_bytes = sum(array.row_bytes for array in arrays.values())
        self._allocate: slots.Allocate = slots.allocate
        self._gatherer: Gatherer | None = None
        self._closed = False
        self._process = os.getpid()
        self._live: Callable[[], GeneratorType[dict[str, Any], None, None] | None] = lambda: None
        self._all_handed_out = False  # whether nothing is left of the epoch of the newest iterator
        self._position = Position(0, 0)
        self._resumes = True  # whether the next iterator may start in the middle of an epoch
        self._batches = self._rows = 0
        self._wait_seconds = 0.0
        self._fetches = array("d", bytes(8 * _WINDOW))
        if state is not None:
            self.restore(state)

    @property
    def blocks(self) -> order.Blocks | None:
        """How block shuffle cuts and mixes; None in the other orders."""
        return self._shuffle if isinstance(self._shuffle, order.Blocks) else None

    def __len__(self) -> int:
        """Return the steps of an epoch."""
        return self.plan.steps

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Start the next epoch."""
        return self.iterate(_as_ndarrays)

    def iterate(self, convert: Convert) -> Iterator[dict[str, Any]]:
        """Start the next epoch, with the batches of a slot made by `convert`; what adapters to frameworks build on.

        Raises
        ------
        UsageError
            An earlier iterator is neither at its end nor closed, or the feed is closed.
        """
        if self._is_live() and not self._all_handed_out:
            raise UsageError("an epoch of this feed is still being read: finish its iterator, or call its close()")
        if (live := self._live()) is not None:
            live.close()
        self._all_handed_out = False
        generator = self._epoch(convert)
        self._live = weakref.ref(cast("GeneratorType[dict[str, Any], None, None]", generator))
        return generator

    def _is_live(self) -> bool:
        """Tell whether the newest iterator can still yield."""
        live = self._live()
        return live is not None and live.gi_frame is not None

    def _epoch(self, convert: Convert) -> Generator[dict[str, Any]]:
        gatherer = self._start()
        epoch, steps, names = self._position.epoch, self.plan.steps, tuple(self.arrays)
        if self.epochs is not None and epoch >= self.epochs:
            return
        clock, fetches = time.perf_counter, self._fetches
        asked = clock()
        while not self._all_handed_out:
            try:
                slot = gatherer.take()
            except Exception:
                # The finalizer would keep the error, through its traceback this feed, and with it every file open.
                self._finalizer()
                raise
            step, rows = slot.claim.position.step, slot.views[0].shape[1]
            for parts in convert(slot.views):
                batch = dict(zip(names, parts, strict=True))
                step += 1
                self._all_handed_out = step == steps
                self._position = Position(epoch + 1, 0) if self._all_handed_out else Position(epoch, step)
                waited = clock() - asked
                fetches[self._batches % _WINDOW] = waited
                self._wait_seconds += waited
                self._batches += 1
                self._rows += rows
                yield batch
                asked = clock()
                self._check_process()
            # Let go of the slot before waiting for another one.
            del slot, parts, batch

    def _start(self) -> Gatherer:
        """Return the gatherer, set to the epoch that starts now."""
        self._check_process()
        if self._closed:
            raise UsageError("the feed is closed: make a new one")
        if self._position.step and not self._resumes:
            self._position = Position(self._position.epoch + 1, 0)
        self._resumes = False
        if self._gatherer is None:
            seed, prefetch, ahead = (self._arguments[name] for name in ("seed", "prefetch", "read_ahead"))
            self._gatherer = Gatherer(
                self.arrays, self.plan, self._shuffle, seed, self.epochs, self.threads, prefetch, ahead, self._allocate
            )
            # Also ends the threads when the feed is collected, and at the interpreter's exit.
            self._finalizer = weakref.finalize(self, _close_in, self._process, self._gatherer)
        self._gatherer.seek(self._position)
        return self._gatherer

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise UsageError("a Feed cannot be used in a forked process: make it there, or pickle it over")

    def use_memory(self, allocate: slots.Allocate) -> None:
        """Take the memory of slots from `allocate`, for instance pinned memory; before the first batch only."""
        if self._gatherer is not None:
            raise UsageError("the memory of slots must be chosen before the first batch")
        self._allocate = allocate

    def state(self) -> dict[str, Any]:
        """Return how far the run is, as JSON: batches that were handed out count, batches that were prefetched do not.

        The fingerprint in it ties it to these rows and this order, but neither to `world` nor to `threads`.
        """
        return {
            "epoch": self._position.epoch,
            "step": self._position.step,
            "fingerprint": self._fingerprint(),
            "modified": self.arrays.modified_ns(),
        }

    def _fingerprint(self) -> dict[str, Any]:
        names = ("shuffle", "seed", "last_batch")
        arguments = {name: self._arguments[name] for name in names}
        if self.blocks is not None:
            arguments |= {"block_rows": self.blocks.rows, "window": self.blocks.window}
        return {
            "order": order.VERSION,
            "batch_size": self.batch_size,
            **arguments,
            **self.arrays.fingerprint(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on after the last batch that had been handed out when `state` was taken, with the next iterator.

        Raises
        ------
        UsageError
            `state` belongs to other rows or another order; what differs is named. Files that were only modified
            since are warned about.
        """
        if self._is_live() and not self._all_handed_out:
            raise UsageError("an epoch of this feed is still being read: finish its iterator before restoring a state")
        try:
            epoch, step, theirs, modified = (state[key] for key in ("epoch", "step", "fingerprint", "modified"))
            ours = self._fingerprint()
            differing = [name for name in ours if theirs.get(name) != ours[name]]
        except (KeyError, TypeError, AttributeError):
            raise UsageError("state: this is no state of a feed") from None
        if differing:
            told = ", ".join(f"{name} was {theirs.get(name)} and is {ours[name]}" for name in differing)
            raise UsageError(f"state: belongs to another feed: {told}")
        if type(epoch) is not int or type(step) is not int or not 0 <= epoch < 2**64 or not 0 <= step < self.plan.steps:
            raise UsageError(f"state: epoch {epoch} and step {step} are not in this feed")
        if modified != self.arrays.modified_ns():
            warnings.warn(
                "files were modified since the state was saved; their sampled rows are the same", stacklevel=3
            )
        self._position = Position(epoch, step)
        self._resumes = True

    def stats(self) -> FeedStats:
        """Return what the feed did so far."""
        gatherer = self._gatherer
        known = min(self._batches, _WINDOW)
        window = np.frombuffer(self._fetches, np.float64)[:known] if known else np.zeros(1)
        p50, p95, p99 = np.percentile(window, (50, 95, 99)).tolist()
        return FeedStats(
            batches=self._batches,
            rows=self._rows,
            bytes=self._rows * self._row_bytes,
            wait_seconds=self._wait_seconds,
            gather_busy_seconds=gatherer.work.busy_seconds if gatherer else 0.0,
            gathered_rows=gatherer.work.rows if gatherer else 0,
            threads=self.threads,
            fetch_seconds=(p50, p95, p99),
            queue_depth=gatherer.ready_batches if gatherer else 0,
            queue_capacity=gatherer.capacity * gatherer.batches_per_slot if gatherer else 0,
            minor_faults=gatherer.work.minor_faults if gatherer else 0,
            major_faults=gatherer.work.major_faults if gatherer else 0,
            rows_from_disk=gatherer.rows_from_disk if gatherer else 0,
            paging={name: choice.in_words() for name, choice in gatherer.choices.items()} if gatherer else {},
        )

    def close(self) -> None:
        """End the threads. Batches that are still held stay valid."""
        self._closed = True
        if self._gatherer is not None:
            self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.arrays, self.batch_size, self._arguments, self.state())


def _rebuild(arrays: Arrays, batch_size: int, arguments: dict[str, Any], state: dict[str, Any]) -> Feed:
    return Feed(arrays, batch_size, **arguments, state=state)


def _close_in(process: int, gatherer: Gatherer) -> None:
    """Close, but not in a forked child: its copy of the lock may be held by a thread that does not exist there."""
    if os.getpid() == process:
        gatherer.close()


def _as_ndarrays(views: tuple[NDArray[Any], ...]) -> Iterable[tuple[NDArray[Any], ...]]:
    return zip(*views, strict=True)


def _integer(name: str, value: Any) -> int:
    """Return a plain int, as the state's JSON and the order's arithmetic need it, of any kind of integer."""
    try:
        return operator.index(value)
    except TypeError:
        raise UsageError(f"{name}: must be an integer (got {value!r})") from None


def _check_arguments(
    rows: int,
    batch_size: int,
    shuffle: str,
    seed: int,
    epochs: int | None,
    last_batch: str,
    rank: int,
    world: int,
    threads: int,
    prefetch: int,
) -> None:
    checks = {
        f"batch_size: must be at least 1 (got {batch_size})": batch_size >= 1,
        f"shuffle: must be full, block or none (got {shuffle!r})": shuffle in get_args(order.Shuffle),
        f"last_batch: must be drop or keep (got {last_batch!r})": last_batch in ("drop", "keep"),
        f"seed: must be from 0 to 2**64 - 1 (got {seed})": 0 <= seed < 2**64,
        f"epochs: must be at least 1 (got {epochs})": epochs is None or epochs >= 1,
        f"rank: must be from 0 to world - 1 (got rank {rank}, world {world})": 0 <= rank < world,
        f"threads: must be from 0 to 256 (got {threads})": 0 <= threads <= 256,
        f"prefetch: must be at least 1 (got {prefetch})": prefetch >= 1,
    }
    _require(checks)
    if batch_size % world:
        raise UsageError(f"batch_size: must be a multiple of world (got {batch_size} and {world})")
    if last_batch == "keep" and world > 1:
        raise UsageError("last_batch: keep would give ranks unequal batches; use drop with world > 1")
    if batch_size > rows:
        raise DataError(f"a batch of {batch_size} is larger than the data, which have {rows} rows")


def _check_reading(shuffle: str, block_rows: int, window: int, read_ahead: int | None) -> None:
    _require(
        {
            f"block_rows: must be from 0 to 2**40 (got {block_rows})": 0 <= block_rows <= 2**40,
            f"window: must be from 0 to 2**20 (got {window})": 0 <= window <= 2**20,
            "block_rows and window: are for shuffle block alone": shuffle == "block" or not (block_rows or window),
            f"read_ahead: must be at least 0 (got {read_ahead})": read_ahead is None or read_ahead >= 0,
        }
    )


def _require(checks: Mapping[str, bool]) -> None:
    """Raise `UsageError` with the first problem that is one."""
    for problem, holds in checks.items():
        if not holds:
            raise UsageError(problem)

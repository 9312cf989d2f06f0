"""`Feed`: mini-batches of memory-mapped rows, ready before they are asked for, as views of shared slots.

One thing happens here: what the threads gathered is handed out batch by batch, counted and timed. Which rows make
a batch is `order`'s business, how they are copied `gather`'s, and what a framework sees its adapter's.

The file is long for what its class says of each argument.
"""

import os
import time
import warnings
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self, cast

from numpy.typing import NDArray

from feedline import order
from feedline.errors import UsageError
from feedline.feed import slots
from feedline.feed.arguments import check_arguments, check_reading, integer
from feedline.feed.claims import Position
from feedline.feed.durations import Durations
from feedline.feed.gather import Gatherer
from feedline.feed.state import position_of, state_of
from feedline.feed.stats import FeedStats
from feedline.files import Arrays
from feedline.limits import default_threads

if TYPE_CHECKING:
    from types import GeneratorType

Convert = Callable[[tuple[NDArray[Any], ...]], Iterable[tuple[Any, ...]]]
"""Turns the arrays of a slot, each ``[batches, batch_size, *row_shape]``, into a tuple for each batch."""


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
            integer, ("batch_size", "seed", "rank", "world"), (batch_size, seed, rank, world)
        )
        threads, prefetch = map(integer, ("threads", "prefetch"), (threads, prefetch))
        block_rows, window = map(integer, ("block_rows", "window"), (block_rows, window))
        epochs = None if epochs is None else integer("epochs", epochs)
        read_ahead = None if read_ahead is None else integer("read_ahead", read_ahead)
        check_arguments(arrays.rows, batch_size, shuffle, seed, epochs, last_batch, rank, world, threads, prefetch)
        check_reading(shuffle, block_rows, window, read_ahead)
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
        self._fetches = Durations()
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
        clock, fetched = time.perf_counter, self._fetches.add
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
                fetched(clock() - asked)
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
        return state_of(self._position, self._fingerprint(), self.arrays.modified_ns())

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
        position, modified = position_of(state, self._fingerprint(), self.plan.steps)
        if modified != self.arrays.modified_ns():
            warnings.warn(
                "files were modified since the state was saved; their sampled rows are the same", stacklevel=3
            )
        self._position = position
        self._resumes = True

    def stats(self) -> FeedStats:
        """Return what the feed did so far."""
        gatherer = self._gatherer
        return FeedStats(
            batches=self._batches,
            rows=self._rows,
            bytes=self._rows * self._row_bytes,
            wait_seconds=self._fetches.total,
            gather_busy_seconds=gatherer.work.busy_seconds if gatherer else 0.0,
            gathered_rows=gatherer.work.rows if gatherer else 0,
            threads=self.threads,
            fetch_seconds=self._fetches.percentiles(),
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

"""`Feed`: mini-batches of memory-mapped rows, ready before they are asked for, as views of shared slots.

One thing happens here: what the threads gathered is handed out batch by batch, counted and timed. Which rows make
a batch is `order`'s business, how they are copied `gather`'s, and what a framework sees its adapter's.

The file is long for what its class says of each argument.
"""

import functools
import os
import time
import warnings
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, Self

from numpy.typing import NDArray

from feedline import order
from feedline.errors import DataError, UsageError
from feedline.feed import slots
from feedline.feed.arguments import check_arguments, check_reading, integer
from feedline.feed.claims import Position
from feedline.feed.durations import Durations
from feedline.feed.filling import sample
from feedline.feed.gather import Gatherer
from feedline.feed.state import position_of, state_of
from feedline.feed.stats import FeedStats
from feedline.files import Arrays
from feedline.limits import default_threads
from feedline.transforms import ArraySpec, Chain, Function, Spent, Transform

Convert = Callable[[tuple[NDArray[Any], ...]], Iterable[tuple[Any, ...]]]
"""Turns the arrays of a slot, each ``[batches, batch_size, *row_shape]``, into a tuple for each batch."""


_TRIED_ROWS = 2


class _Place(NamedTuple):
    """How far a feed is: the next step, and whether the next iterator may start there in the middle of an epoch."""

    position: Position
    resumes: bool


class _Working(NamedTuple):
    """The threads of a feed, and what ends them when it is collected."""

    gatherer: Gatherer
    finalizer: Callable[[], object]


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
        Rows of a batch over all ranks; rank r gets the r-th of `world` equal parts of every batch, with ``"block"``
        every `world`-th row of it from the r-th on.
    shuffle
        ``"full"``: every epoch in a new order over all rows; ``"none"``: in the order of the files; ``"block"``: blocks
        of consecutive rows in a new order, of which some take turns to give a row, which a disk reads many times faster
        than single rows, and which mixes less (`feedline.order.Blocks`).
    seed
        From 0 to 2**64 - 1; the same seed gives the same batches, with any number of threads, on any machine.
    epochs
        How many epochs there are at most; after that an iterator is empty. None: no bound.
    last_batch
        ``"drop"`` omits the rows that do not fill a batch, ``"keep"`` makes a smaller one of them.
    rank, world
        This process and the number of processes. With ``"block"`` each reads blocks of its own, an equal part of all
        where `world` divides `window`.
    threads
        Gather threads; 0 takes the CPU limit, at most 4.
    prefetch
        Batches to keep ready, rounded up to whole slots, at least one for each thread. The first slots of an iterator
        hold fewer, so that the first batch does not wait for others.
    block_rows, window
        For ``"block"``: rows of a block, and blocks that are mixed; 0 takes what is 1 MiB, and 64.
    read_ahead
        Batches, beyond the slots that are being filled, whose rows are brought into memory where they are not; None
        takes two slots, or fewer where they would take more than an eighth of the memory.
    weights
        Of each row, at least 0: how often it comes, as a share of them all. Every epoch draws anew, and a row comes as
        often as its weight says but for one time. None: every row comes once.
    draws
        Rows of an epoch where there are weights; None takes as many as there are.
    transforms
        What becomes of rows, one after the other, in the feed's threads: `feedline.Cast` and its like, and functions
        ``(batch, context) -> batch`` of a dict of ndarrays and a `feedline.Context`, which are tried with two rows at
        once. What a function returns has as many rows, and the same names, dtypes and shapes in every batch.
    is_training
        What functions are told of the batches.
    state
        From `state`, to go on after the last batch that had been handed out.

    Attributes
    ----------
    element_spec
        Dtype and row shape of each array of a batch, by name.

    Raises
    ------
    UsageError
        An argument is out of range, a transform does not take the rows, or `state` belongs to other rows or another
        order.
    DataError
        A batch is larger than the data, or the weights are none.
    UserFunctionError
        A function returns no batch; what it raises is raised.
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
        weights: NDArray[Any] | None = None,
        draws: int | None = None,
        transforms: Sequence[Transform | Function] = (),
        is_training: bool = True,
        state: dict[str, Any] | None = None,
    ) -> None:
        batch_size, seed, rank, world = map(
            integer, ("batch_size", "seed", "rank", "world"), (batch_size, seed, rank, world)
        )
        threads, prefetch = map(integer, ("threads", "prefetch"), (threads, prefetch))
        block_rows, window = map(integer, ("block_rows", "window"), (block_rows, window))
        epochs = None if epochs is None else integer("epochs", epochs)
        read_ahead = None if read_ahead is None else integer("read_ahead", read_ahead)
        draws = None if draws is None else integer("draws", draws)
        self._draw = _draw(arrays.rows, weights, draws)
        rows = arrays.rows if self._draw is None else self._draw.rows
        check_arguments(rows, batch_size, shuffle, seed, epochs, last_batch, rank, world, threads, prefetch)
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
            "weights": weights,
            "draws": draws,
            "transforms": transforms,
            "is_training": is_training,
        }
        self._shuffle: order.Shuffle | order.Blocks = shuffle
        if shuffle == "block":
            widest = max(array.row_bytes for array in arrays.values())
            self._shuffle = order.Blocks.of(widest, block_rows, window)
        self.plan = order.Plan(rows, batch_size, last_batch, rank, world)
        self.epochs = epochs
        self.threads = threads or default_threads()
        stored = {name: ArraySpec(array.dtype, array.row_shape) for name, array in arrays.items()}
        self._chain = Chain(
            stored, transforms, seed, rank, is_training=is_training, sample=lambda: sample(arrays, _TRIED_ROWS)
        )
        self.element_spec: Mapping[str, ArraySpec] = self._chain.specs
        self._row_bytes = sum(spec.row_bytes for spec in self.element_spec.values())
        self._allocate: slots.Allocate = slots.allocate
        self._working: _Working | None = None
        self._closed = False
        self._process = os.getpid()
        # An exception from outside, such as Ctrl-C, may come between any two bytecodes of the thread that iterates: how
        # far the feed is changes by one assignment, and threads that it leaves in doubt are replaced by new ones.
        self._newest: object = None  # stands for the iterator that may take batches
        self._place = _Place(Position(0, 0), resumes=True)
        self._batches = self._rows = 0
        self._fetches = Durations()
        if state is not None:
            self.restore(state)

    @property
    def blocks(self) -> order.Blocks | None:
        """How block shuffle cuts and mixes; None in the other orders."""
        return self._shuffle if isinstance(self._shuffle, order.Blocks) else None

    @property
    def is_in_order(self) -> bool:
        """Whether an epoch is all rows in the order of the files."""
        return self._shuffle == "none" and self._draw is None and len(self) * self.batch_size >= self.plan.rows

    def __len__(self) -> int:
        """Return the steps of an epoch."""
        return self.plan.steps

    def __iter__(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Start the next epoch; an iterator from before, wherever it was left, can no longer be used."""
        return self.iterate(_as_ndarrays)

    def __getitem__(self, row: object) -> NoReturn:
        """Refuse, in a sentence: a torch DataLoader would take the feed for a list of rows."""
        raise UsageError(
            "a Feed has no single rows, it makes batches: iterate it; a torch DataLoader, which it does not need, "
            "takes feedline.pytorch.batches(feed) with batch_size=None"
        )

    def iterate(
        self, convert: Convert, batch: Callable[[Iterable[tuple[str, Any]]], dict[str, Any]] = dict
    ) -> Iterator[dict[str, Any]]:
        """Start the next epoch; what adapters to frameworks build on.

        Parameters
        ----------
        convert
            Makes the batches of a slot.
        batch
            Makes a batch of pairs of name and array.

        Raises
        ------
        UsageError
            From the iterator: a newer one was started, or the feed is closed.
        """
        mine = self._newest = object()
        return self._epoch(convert, batch, mine)

    def _epoch(
        self, convert: Convert, make: Callable[[Iterable[tuple[str, Any]]], dict[str, Any]], mine: object
    ) -> Generator[dict[str, Any]]:
        self._check(mine)
        epoch, step = self._next_position()
        if self.epochs is not None and epoch >= self.epochs:
            return
        gatherer, finalizer = self._work()
        gatherer.seek(Position(epoch, step))
        steps, names = self.plan.steps, tuple(self.element_spec)
        clock, fetched = time.perf_counter, self._fetches.add
        asked = clock()
        while step < steps:
            try:
                slot = gatherer.take()
            except Exception:
                self._check(mine)  # a newer iterator may have ended these threads
                # The finalizer would keep the error, through its traceback this feed, and with it every file open.
                finalizer()
                raise
            self._check(mine)
            rows = slot.views[0].shape[1]
            for parts in convert(slot.views):
                batch = make(zip(names, parts, strict=True))
                step += 1
                fetched(clock() - asked)
                self._batches += 1
                self._rows += rows
                self._place = _Place(Position(epoch, step) if step < steps else Position(epoch + 1, 0), resumes=False)
                yield batch
                asked = clock()
                if step < steps:
                    self._check(mine)
            # Let go of the slot before waiting for another one.
            del slot, parts, batch

    def _check(self, mine: object) -> None:
        """Raise `UsageError` unless `mine` stands for the newest iterator, in the process that made the feed."""
        self._check_process()
        if self._newest is not mine:
            raise UsageError(
                "this iterator is of an epoch that was left, a newer one of the same feed was started: use that one; "
                "two at a time need two feeds"
            )

    def _next_position(self) -> Position:
        """Return where the next iterator starts: an epoch that was left is not gone on with, unless by a state."""
        position, resumes = self._place
        return Position(position.epoch + 1, 0) if position.step and not resumes else position

    def _work(self) -> _Working:
        """Return the threads; new ones where an exception left those before in the middle of something."""
        if self._closed:
            raise UsageError("the feed is closed: make a new one")
        before = self._working
        if before is not None:
            if not before.gatherer.is_torn:
                return before
            before.gatherer.close()
            before.finalizer()
        seed, prefetch, ahead = (self._arguments[name] for name in ("seed", "prefetch", "read_ahead"))
        gatherer = Gatherer(
            self.arrays,
            self._chain,
            self.plan,
            self._shuffle,
            seed,
            self._draw,
            self.epochs,
            self.threads,
            prefetch,
            ahead,
            self._allocate,
            before.gatherer if before is not None else None,
        )
        # Ends the threads also when the feed is collected, and at the interpreter's exit.
        self._working = _Working(gatherer, weakref.finalize(self, _close_in, self._process, gatherer))
        return self._working

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise UsageError("a Feed cannot be used in a forked process: make it there, or pickle it over")

    def require_room(self) -> int:
        """Return the bytes that slots, orders and rows on their way take.

        Raises
        ------
        EnvironmentInvalidError
            They do not fit into memory.
        """
        return self._work().gatherer.own_bytes

    def use_memory(self, allocate: slots.Allocate) -> None:
        """Take the memory of slots from `allocate`, for instance pinned memory; before the first batch only."""
        if self._working is not None:
            raise UsageError("the memory of slots must be chosen before the first batch")
        self._allocate = allocate

    def state(self) -> dict[str, Any]:
        """Return how far the run is, as JSON: batches that were handed out count, batches that were prefetched do not.

        The fingerprint in it ties it to these rows and this order, but neither to `world` nor to `threads`.
        """
        return state_of(self._place.position, *self._identity)

    def state_at(self, epoch: int, step: int) -> dict[str, Any]:
        """Return the state of a feed of which this many epochs, and steps of the next one, are done, as JSON.

        For who takes batches ahead of the training: they were handed out, and are not done.
        """
        position = Position(epoch, step) if step < self.plan.steps else Position(epoch + 1, 0)
        return state_of(position, *self._identity)

    @functools.cached_property
    def _identity(self) -> tuple[dict[str, Any], int]:
        """What a state belongs to. It is found out once: a disk may have gone when a state is to be saved."""
        return self._fingerprint(), self.arrays.modified_ns()

    def _fingerprint(self) -> dict[str, Any]:
        names = ("shuffle", "seed", "last_batch")
        arguments = {name: self._arguments[name] for name in names}
        if self.blocks is not None:
            arguments |= {"block_rows": self.blocks.rows, "window": self.blocks.window}
        if self._draw is not None:
            arguments["draw"] = self._draw.fingerprint()
        if self._chain.told():
            arguments["transforms"] = self._chain.told()
        return {
            "order": order.version(self._shuffle, self.plan.rows),
            "batch_size": self.batch_size,
            **arguments,
            **self.arrays.fingerprint(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on after the last batch that had been handed out when `state` was taken, with the next iterator.

        An iterator from before can no longer be used.

        Raises
        ------
        UsageError
            `state` belongs to other rows or another order; what differs is named. Files that were only modified
            since are warned about.
        """
        fingerprint, now = self._identity
        position, modified = position_of(state, fingerprint, self.plan.steps)
        if modified != now:
            warnings.warn(
                "files were modified since the state was saved; their sampled rows are the same", stacklevel=3
            )
        self._newest = None
        self._place = _Place(position, resumes=True)

    def skip_to(self, epoch: int) -> None:
        """Go forward to the start of an epoch, with the next iterator; a feed that is there or further stays."""
        if self._place.position.epoch < epoch:
            self._newest = None
            self._place = _Place(Position(epoch, 0), resumes=True)

    def stats(self) -> FeedStats:
        """Return what the feed did so far."""
        gatherer = self._working.gatherer if self._working is not None else None
        return FeedStats(
            batches=self._batches,
            rows=self._rows,
            bytes=self._rows * self._row_bytes,
            wait_seconds=self._fetches.total,
            gather_busy_seconds=gatherer.work.busy_seconds if gatherer else 0.0,
            transform_seconds=gatherer.work.transform_seconds if gatherer else 0.0,
            functions=gatherer.work.functions if gatherer else Spent(),
            gathered_rows=gatherer.work.rows if gatherer else 0,
            threads=self.threads,
            fetch_seconds=self._fetches.percentiles(),
            queue_depth=gatherer.ready_batches if gatherer else 0,
            queue_capacity=gatherer.most_batches if gatherer else 0,
            minor_faults=gatherer.work.minor_faults if gatherer else 0,
            major_faults=gatherer.work.major_faults if gatherer else 0,
            rows_from_disk=gatherer.rows_from_disk if gatherer else 0,
            paging={name: choice.in_words() for name, choice in gatherer.choices.items()} if gatherer else {},
        )

    def close(self) -> None:
        """End the threads. Batches that are still held stay valid."""
        self._closed = True
        if self._working is not None:
            self._working.gatherer.close()
            self._working.finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.arrays, self.batch_size, self._arguments, self.state())


def _draw(rows: int, weights: NDArray[Any] | None, draws: int | None) -> order.Draw | None:
    if weights is None:
        if draws is not None:
            raise UsageError("draws: rows are drawn by weights: give these, too")
        return None
    if len(weights) != rows:
        raise DataError(f"weights: there are {len(weights)} of them for {rows} rows")
    return order.Draw(weights, rows if draws is None else draws)


def _rebuild(arrays: Arrays, batch_size: int, arguments: dict[str, Any], state: dict[str, Any]) -> Feed:
    return Feed(arrays, batch_size, **arguments, state=state)


def _close_in(process: int, gatherer: Gatherer) -> None:
    """Close, but not in a forked child: its copy of the lock may be held by a thread that does not exist there."""
    if os.getpid() == process:
        gatherer.close()


def _as_ndarrays(views: tuple[NDArray[Any], ...]) -> Iterable[tuple[NDArray[Any], ...]]:
    return zip(*views, strict=True)

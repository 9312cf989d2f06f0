"""Block shuffle of files larger than memory: blocks are there before their rows are gathered, and gone afterwards."""

import threading
from functools import partial

import cold
import numpy as np
import pytest

import feedline
from feedline import order
from feedline.feed import ahead, gather, room
from feedline.order.blocks import Blocks
from feedline.paging.pagein import PageIn
from feedline.paging.residency import resident_bytes
from feedline.paging.ways import direct

ROWS, WIDTH, SPLIT = 25_499, 1000, 9_001
ROW_BYTES = 4 * WIDTH
LITTLE_MEMORY, MUCH_MEMORY = 200_000_000, 8 << 30
"""The files hold 102 MB, which is more than half of the one, so that they do not fit, and do fit the other."""
BLOCKS = Blocks(40, 40)
SEED, BATCH = 3, 50
SLOT = 100
"""Rows that share a slot, in batches of 50."""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Return a folder in which `labels` says which row it is, and `features`, of two files, adds the column to it."""
    folder = tmp_path_factory.mktemp("rows")
    numbers = np.arange(ROWS, dtype=np.int32)
    features = numbers[:, None] + np.arange(WIDTH, dtype=np.int32)
    (folder / "features").mkdir()
    np.save(folder / "features" / "part-1.npy", features[:SPLIT])
    np.save(folder / "features" / "part-2.npy", features[SPLIT:])
    np.save(folder / "labels.npy", numbers)
    return cold.on_disk(folder)


@pytest.fixture
def memory(monkeypatch):
    """Return a function that sets the limit of memory; the test run itself does not count towards it."""
    monkeypatch.setattr(room, "anonymous_bytes", lambda: 0)
    monkeypatch.setattr(gather, "SLOT_BYTES", SLOT * (ROW_BYTES + 64))
    return lambda limit: monkeypatch.setattr(gather, "memory_bytes", lambda: limit)


@pytest.fixture
def arrays(files, memory):
    """Return the arrays, none of their rows in memory, and a limit that they exceed."""
    return opened(files, memory)


@pytest.fixture
def page_cache(monkeypatch):
    """Have all rows go through the page cache, as where a file system knows no other way."""
    monkeypatch.setattr(direct, "Runs", cold.no_direct_reads)


@pytest.fixture(params=["past the page cache", "through the page cache"])
def each_way(request):
    """Have rows come in by each of two ways."""
    if request.param == "through the page cache":
        request.getfixturevalue("page_cache")


def opened(files, memory, residency="auto"):
    memory(LITTLE_MEMORY)
    arrays = cold.opened(files, residency=residency)
    assert arrays.bytes > LITTLE_MEMORY / 2
    if residency != "memory":
        cold.eventually(lambda: cold.forget(files) or resident_bytes(arrays) < arrays.bytes // 50, seconds=5)
    return arrays


def block_feed(arrays, blocks=BLOCKS, batch_size=BATCH, **arguments):
    wanted = {"shuffle": "block", "block_rows": blocks.rows, "window": blocks.window, "seed": SEED, **arguments}
    return feedline.Feed(arrays, batch_size, **wanted)


def rows_of(epoch):
    """Return the rows of each batch, and check every byte of them."""
    taken = []
    for batch in epoch:
        assert (batch["features"] == batch["labels"][:, None] + np.arange(WIDTH)).all()
        taken.append(batch["labels"].tolist())
    return taken


def expected(epoch, blocks=BLOCKS, batch_size=BATCH):
    drawn = order.order(ROWS, blocks, SEED, epoch).rows(0, ROWS).tolist()
    return [drawn[start : start + batch_size] for start in range(0, ROWS - ROWS % batch_size, batch_size)]


# --- the bytes ----------------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("threads", [1, 3, 16])
def test_batches_of_files_that_do_not_fit_are_those_of_the_order_for_any_number_of_threads(arrays, threads):
    with block_feed(arrays, threads=threads, epochs=2) as feed:
        for epoch in range(2):
            assert rows_of(feed) == expected(epoch)
        assert list(feed) == []


SHAPES = {
    "blocks longer than a slot": Blocks(2000, 2),
    "blocks of one row": Blocks(1, 1000),
    "blocks that are not mixed": Blocks(300, 1),
    "a window of half the data": Blocks(1000, 12),
    "one block": Blocks(2**40, 1),
}


@pytest.mark.usefixtures("each_way")
@pytest.mark.parametrize("blocks", SHAPES.values(), ids=SHAPES)
def test_blocks_of_any_length_give_the_rows_of_the_order(arrays, blocks):
    with block_feed(arrays, blocks, epochs=2, threads=2) as feed:
        for epoch in range(2):
            assert rows_of(feed) == expected(epoch, blocks)


@pytest.mark.parametrize("residency", ["mapped", "read", "memory"])
def test_rows_are_the_same_wherever_they_reside(files, memory, residency):
    with block_feed(opened(files, memory, residency), threads=2) as feed:
        assert rows_of(feed) == expected(0)


@pytest.mark.parametrize("threads", range(1, 17))
def test_any_number_of_threads_gives_the_same_batches(numbered, monkeypatch, threads):
    monkeypatch.setattr(gather, "SLOT_BYTES", 2048)
    drawn = [order.order(503, Blocks(9, 4), 5, epoch).rows(0, 503).tolist() for epoch in range(2)]
    arguments = {"shuffle": "block", "block_rows": 9, "window": 4, "last_batch": "keep", "threads": threads}
    with feedline.Feed(numbered(503), 7, seed=5, **arguments) as feed:
        for epoch in range(2):
            batches = [batch["labels"].tolist() for batch in feed]
            assert batches == [drawn[epoch][start : start + 7] for start in range(0, 503, 7)]


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_ranks_take_turns_within_the_batch_of_one(numbered, world):
    arrays = numbered(503)
    arguments = {"shuffle": "block", "block_rows": 9, "window": 4, "seed": 5}
    parts = []
    for rank in range(world):
        with feedline.Feed(arrays, 12, rank=rank, world=world, **arguments) as feed:
            parts.append([batch["labels"].tolist() for batch in feed])
    drawn = order.order(503, Blocks(9, 4), 5, 0).rows(0, 503).tolist()
    steps = [[row for turn in zip(*step, strict=True) for row in turn] for step in zip(*parts, strict=True)]
    assert steps == [drawn[start : start + 12] for start in range(0, 492, 12)]


# --- blocks are there before they are gathered --------------------------------------------------------------------------------


class Watched(PageIn):
    """Notes of `features` what is told ahead, and at each take what was not told, and what was not in memory.

    Attributes
    ----------
    told
        The rows of each call of `ahead`.
    tells, takes
        How often each row was told of, and taken, ``[rows]``.
    untold
        Takes of rows that had been told of no more often than taken.
    told_before, missing
        For each take, the calls of `ahead` until then, and the rows that were not in memory.
    gone
        Whether a row was let go since it was told of, ``[rows]``.
    """

    made: "Watched | None" = None

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        Watched.made = self
        self.forget()

    def forget(self):
        self.told, self.told_before, self.missing, self.untold = [], [], [], 0
        self.tells, self.takes = np.zeros(ROWS, np.int64), np.zeros(ROWS, np.int64)
        self.gone = np.zeros(ROWS, np.bool_)

    def ahead(self, rows):
        self.told.append(rows())
        self.gone[self.told[-1]] = False
        np.add.at(self.tells, self.told[-1], 1)
        super().ahead(rows)

    def take(self, array, rows, out):
        if array.name == "features":
            self.untold += np.count_nonzero(self.tells[rows] <= self.takes[rows])
            self.takes[rows] += 1
            self.told_before.append(len(self.told))
            self.missing.append(rows[~are_in_memory(array, rows)])
        super().take(array, rows, out)

    def let_go(self, rows):
        self.gone[rows] = True
        super().let_go(rows)


def are_in_memory(array, rows):
    """Return for each row whether all its pages are in memory."""
    found = np.empty(len(rows), bool)
    for file, local, places in array.in_files(rows):
        known = cold.pages(file.path)
        first = file.header.offset + local * ROW_BYTES
        found[places] = known[first // cold.PAGE] & known[(first + ROW_BYTES - 1) // cold.PAGE]
    return found


@pytest.fixture
def watched(monkeypatch):
    """Watch how the rows of feeds come in; return a function that gives the way of the feed that began last."""
    monkeypatch.setattr(ahead, "PageIn", Watched)
    yield lambda: Watched.made
    Watched.made = None  # what it has touched of the files could not be dropped from memory


def read_slowly(feed, epochs):
    """Read epochs, and go on when about all that is told of is there, as for a training that is slower than the disk."""
    calls = 0
    for _ in range(epochs):
        for _ in feed:
            if len(Watched.made.told) > calls:
                calls = len(Watched.made.told)
                cold.eventually(partial(is_about_all_there, feed.arrays["features"], Watched.made))


def is_about_all_there(features, watched):
    coming = np.flatnonzero((watched.tells > watched.takes) & ~watched.gone)
    return np.count_nonzero(are_in_memory(features, coming)) >= len(coming) - 4 * BLOCKS.rows


def test_each_block_is_told_of_once_and_whole_and_before_its_rows_are_taken(arrays, watched):
    with block_feed(arrays, epochs=1, threads=1) as feed:
        rows_of(feed)
    assert watched().untold == 0
    whole = order.order(ROWS, BLOCKS, SEED, 0).unmixed(0, ROWS - ROWS % BATCH)
    assert np.concatenate(watched().told).tolist() == whole.tolist()


@pytest.mark.parametrize("world", [2, 4])
def test_a_rank_reads_the_blocks_of_its_own_rows_alone(arrays, watched, world):
    read = np.zeros(ROWS, np.int64)
    for rank in range(world):
        taken = []
        with block_feed(arrays, batch_size=60, rank=rank, world=world, epochs=2, threads=2) as feed:
            for epoch in range(2):
                drawn = order.order(ROWS, BLOCKS, SEED, epoch).rows(0, ROWS - ROWS % 60)
                taken = [row for rows in rows_of(feed) for row in rows]
                assert taken == drawn[rank::world].tolist()
        assert watched().untold == 0
        read += watched().tells
        # A share of each epoch, and blocks that are told of again at its start.
        assert watched().tells.sum() < 2 * (ROWS // world + 60 + BLOCKS.rows * BLOCKS.window)
    assert read.sum() > 2 * (ROWS - 60)


@pytest.mark.usefixtures("page_cache")
def test_blocks_are_told_of_as_far_ahead_as_asked_and_no_further(arrays, watched):
    with block_feed(arrays, epochs=1, threads=1, read_ahead=2 * SLOT // BATCH) as feed:
        rows_of(feed)
    in_order = order.order(ROWS, BLOCKS, SEED, 0)
    told = np.cumsum([len(rows) for rows in watched().told])
    for number, calls in enumerate(watched().told_before):
        # The first claim is one batch, the others are whole slots.
        stop = BATCH + (number + 2) * SLOT
        assert told[calls - 1] == len(in_order.unmixed(0, min(stop, ROWS - ROWS % BATCH)))


@pytest.mark.parametrize("batch_size", [BATCH, 500], ids=["49 rows dropped", "499 rows dropped"])
def test_blocks_are_told_of_across_the_ends_of_epochs(arrays, watched, batch_size):
    with block_feed(arrays, batch_size=batch_size, epochs=3, threads=1) as feed:
        for epoch in range(3):
            assert rows_of(feed) == expected(epoch, batch_size=batch_size)
    assert watched().untold == 0
    # But blocks that begin with rows that are dropped.
    assert watched().tells.max() == 3
    assert watched().tells.sum() >= 3 * (ROWS - batch_size)


@pytest.mark.usefixtures("page_cache")
@pytest.mark.parametrize("batch_size", [BATCH, 500], ids=["49 rows dropped", "499 rows dropped"])
def test_rows_are_in_memory_when_they_are_taken(arrays, watched, batch_size):
    with block_feed(arrays, batch_size=batch_size, epochs=2, threads=1) as feed:
        read_slowly(feed, epochs=2)
    assert len(watched().missing) == 2 * -(-(ROWS // batch_size) // max(1, SLOT // batch_size))
    first_window = -(-BLOCKS.lead // max(SLOT, batch_size))
    # A few, for the kernel may take pages at any time, and a disk that others use is late; without it, more than half.
    assert len(np.concatenate(watched().missing[first_window:])) < ROWS // 10


def test_rows_that_nobody_told_of_are_not(arrays, watched, monkeypatch):
    """Without this, the test above would say nothing."""
    monkeypatch.setattr(PageIn, "ahead", lambda self, rows: None)
    with block_feed(arrays, epochs=1, threads=1) as feed:
        assert rows_of(feed) == expected(0)
    assert len(np.concatenate(watched().missing)) > ROWS // 2


@pytest.mark.parametrize("step", [1, 100, 508])
def test_a_resumed_run_brings_its_window_in(arrays, watched, step):
    with block_feed(arrays, threads=1) as feed:
        for number, _ in enumerate(feed, start=1):
            if number == step:
                break
        state = feed.state()
    with block_feed(arrays, threads=1, epochs=2, state=state) as feed:
        assert rows_of(feed) == expected(0)[step:]
        assert watched().untold == 0
        assert rows_of(feed) == expected(1)
    assert watched().untold == 0


def test_an_epoch_that_is_left_is_followed_by_one_whose_window_is_brought_in(arrays, watched):
    with block_feed(arrays, threads=1) as feed:
        for _, _ in zip(range(30), feed, strict=False):
            pass
        cold.eventually(lambda: feed.stats().queue_depth == feed.stats().queue_capacity)
        watched().forget()
        assert rows_of(feed) == expected(1)
    assert watched().untold == 0


def test_whichever_thread_looks_first_the_first_window_is_brought_in(arrays, watched, monkeypatch):
    look_ahead = ahead.LookAhead.look
    second_has_looked = threading.Event()

    def late(looker, claim, first):
        if claim.number == 0:
            assert second_has_looked.wait(30)
        look_ahead(looker, claim, first)
        if claim.number == 1:
            second_has_looked.set()

    monkeypatch.setattr(ahead.LookAhead, "look", late)
    with block_feed(arrays, threads=2, epochs=1) as feed:
        rows_of(feed)
    taken = order.order(ROWS, BLOCKS, SEED, 0).unmixed(0, ROWS - ROWS % BATCH)
    assert (watched().tells[taken] == 1).all()


# --- and gone afterwards ------------------------------------------------------------------------------------------------------


def most_in_memory(feed, epochs):
    """Return the most bytes of rows that were in memory while epochs were read."""
    most = 0
    for _ in range(epochs):
        for step, _ in enumerate(feed):
            if step % 10 == 0:
                most = max(most, resident_bytes(feed.arrays))
    return most


@pytest.mark.usefixtures("page_cache")
def test_memory_holds_three_windows_and_some_slots(arrays):
    with block_feed(arrays, epochs=3, threads=2) as feed:
        most = most_in_memory(feed, 3)
    # A window ahead, one behind, what was left of the epoch before, and slots that are looked ahead to or in use.
    slots = 25 * gather.SLOT_BYTES
    assert most < 3 * BLOCKS.lead * ROW_BYTES + slots < arrays.bytes // 2


@pytest.mark.usefixtures("page_cache")
def test_rows_in_the_order_of_the_files_are_let_go_as_well(arrays):
    with feedline.Feed(arrays, BATCH, shuffle="none", epochs=2, threads=2) as feed:
        assert most_in_memory(feed, 2) < arrays.bytes // 3


def test_a_full_shuffle_lets_nothing_go(arrays):
    """Any row may be needed soon, and the kernel knows best which was not needed for long."""
    with feedline.Feed(arrays, BATCH, shuffle="full", epochs=1, threads=2) as feed:
        rows_of(feed)
    assert resident_bytes(arrays) > 0.95 * arrays.bytes


@pytest.mark.parametrize("shuffle", ["block", "none"])
def test_rows_that_fit_stay(arrays, memory, shuffle):
    memory(MUCH_MEMORY)
    with feedline.Feed(arrays, BATCH, shuffle=shuffle, epochs=2, threads=2) as feed:
        rows_of(feed)
        rows_of(feed)
    assert resident_bytes(arrays) > 0.95 * arrays.bytes


def test_rows_of_others_that_were_in_memory_before_stay_where_all_fit(arrays, memory, files):
    memory(MUCH_MEMORY)
    cold.warm(files)
    with block_feed(arrays, epochs=1, threads=2) as feed:
        rows_of(feed)
    assert resident_bytes(arrays) > 0.95 * arrays.bytes


# --- what does not fit --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("page_cache")
def test_a_window_for_which_there_is_no_room_is_refused_with_the_arithmetic(arrays, memory):
    memory(LITTLE_MEMORY // 2)
    with (
        block_feed(arrays, Blocks(1000, 10)) as feed,
        pytest.raises(feedline.errors.EnvironmentInvalidError, match=r"80 MB for rows on their way.*window"),
    ):
        next(iter(feed))

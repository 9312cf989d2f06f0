"""The feed: which rows its batches hold, and what one may do with a batch."""

import time
from itertools import chain

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import feedline
from feedline.errors import DataError, UsageError
from feedline.feed import gather
from feedline.order.permutation import permutation


@pytest.fixture
def small_slots(monkeypatch):
    """Make slots of a few batches, so that a small epoch passes through many of them."""
    monkeypatch.setattr(gather, "SLOT_BYTES", 2048)


def rows_of(epoch):
    """Return the rows of each batch, and check that all arrays agree on them."""
    rows = []
    for batch in epoch:
        numbers = batch["labels"].tolist()
        assert batch["names"].tolist() == [b"row %d" % number for number in numbers]
        assert (batch["features"] == batch["labels"].reshape(-1, 1, 1)).all()
        rows.append(numbers)
    return rows


def in_order(rows, batch_size, seed, epoch):
    drawn = permutation(rows, seed, epoch).tolist()
    return [drawn[start : start + batch_size] for start in range(0, rows, batch_size)]


def test_a_batch_has_the_shapes_and_dtypes_of_the_files(numbered):
    with feedline.Feed(numbered(100), 32) as feed:
        batch = next(iter(feed))
    assert {name: (array.shape, array.dtype.str) for name, array in batch.items()} == {
        "features": ((32, 5, 5), "<f4"),
        "labels": ((32,), "<i4"),
        "names": ((32,), "|S12"),
    }


@pytest.mark.parametrize("threads", [1, 2, 8])
@pytest.mark.usefixtures("small_slots")
def test_epochs_are_the_rows_in_the_order_of_the_seed_for_any_number_of_threads(numbered, threads):
    with feedline.Feed(numbered(1003), 7, seed=5, last_batch="keep", threads=threads, prefetch=9) as feed:
        for epoch in range(3):
            assert rows_of(feed) == in_order(1003, 7, 5, epoch)


def test_no_shuffle_gives_the_order_of_the_files_in_every_epoch(numbered):
    with feedline.Feed(numbered(100), 10, shuffle="none") as feed:
        for _ in range(2):
            assert np.concatenate(rows_of(feed)).tolist() == list(range(100))


def test_the_last_batch_is_dropped_or_kept(numbered):
    arrays = numbered(103)
    with feedline.Feed(arrays, 10) as dropping, feedline.Feed(arrays, 10, last_batch="keep") as keeping:
        assert (len(dropping), [len(rows) for rows in rows_of(dropping)]) == (10, [10] * 10)
        assert (len(keeping), [len(rows) for rows in rows_of(keeping)]) == (11, [10] * 10 + [3])


@pytest.fixture(scope="module")
def two_hundred(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "labels.npy"
    np.save(path, np.arange(200))
    return path


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_row_comes_once_an_epoch_over_all_ranks(two_hundred, data, monkeypatch):
    monkeypatch.setattr(gather, "SLOT_BYTES", data.draw(st.sampled_from([64, 300, 5000, 4 << 20])))
    world = data.draw(st.integers(1, 4))
    batch_size = world * data.draw(st.integers(1, 20))
    rows = data.draw(st.integers(batch_size, 200))
    last_batch = data.draw(st.sampled_from(["drop", "keep"])) if world == 1 else "drop"
    shuffle = data.draw(st.sampled_from(["full", "none"]))
    threads = data.draw(st.integers(1, 3))
    arrays = feedline.open_arrays({"labels": two_hundred}, rows=(0, rows))
    kept = rows if last_batch == "keep" else rows - rows % batch_size
    epochs = [[], []]
    for rank in range(world):
        arguments = {"last_batch": last_batch, "shuffle": shuffle, "threads": threads, "rank": rank, "world": world}
        with feedline.Feed(arrays, batch_size, **arguments) as feed:
            for taken in epochs:
                batches = [batch["labels"].tolist() for batch in feed]
                assert len(batches) == len(feed)
                taken += [row for batch in batches for row in batch]
    for taken in epochs:
        assert len(set(taken)) == len(taken) == kept
        assert set(taken) <= set(range(rows))


@pytest.mark.parametrize("world", [2, 3, 4])
def test_ranks_take_contiguous_parts_of_the_batch_of_one(numbered, world):
    arrays = numbered(100)
    with feedline.Feed(arrays, 12, seed=3) as feed:
        alone = rows_of(feed)
    parts = []
    for rank in range(world):
        with feedline.Feed(arrays, 12, seed=3, rank=rank, world=world) as feed:
            parts.append(rows_of(feed))
    assert [list(chain(*step)) for step in zip(*parts, strict=True)] == alone


ROWS = {
    "bool": (np.bool_, (3,)),
    "uint8 labels": (np.uint8, ()),
    "float16": (np.float16, (5,)),
    "float32 of 25 by 25": (np.float32, (25, 25)),
    "complex128": (np.complex128, ()),
    "longdouble": (np.longdouble, (2,)),
    "bytes": ("S7", ()),
    "text": ("U3", (2,)),
    "dates": ("M8[D]", ()),
    "structured": ([("a", "<i2"), ("b", "<f8", (3,))], ()),
    "rows above a slot": (np.float32, (600,)),
}


@pytest.mark.parametrize("batch_size", [1, 3, 10, 32, 64])
@pytest.mark.parametrize(("dtype", "row_shape"), ROWS.values(), ids=ROWS)
@pytest.mark.usefixtures("small_slots")
def test_every_batch_of_every_dtype_is_aligned_and_right(save, dtype, row_shape, batch_size):
    random = np.random.default_rng(1)
    shape = (100, *row_shape)
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    # Small bytes make valid text, dates and numbers of every kind.
    rows = (
        (random.integers(0, 2, size, np.uint8) * (np.arange(size) % 4 == 0)).astype(np.uint8).view(dtype).reshape(shape)
    )
    arrays = feedline.open_arrays({"odd": save("odd", np.arange(100, dtype=np.uint8)), "a": save("a", rows)})
    with feedline.Feed(arrays, batch_size, last_batch="keep", threads=2) as feed:
        for batch in feed:
            for array in batch.values():
                assert array.flags.c_contiguous
                assert array.flags.writeable
                assert array.__array_interface__["data"][0] % 64 == 0
            assert batch["a"].dtype == rows.dtype
            assert batch["a"].tobytes() == rows[batch["odd"]].tobytes()


@pytest.mark.usefixtures("small_slots")
def test_kept_batches_never_change(numbered):
    with feedline.Feed(numbered(400), 5, threads=2, prefetch=3) as feed:
        kept = [batch for _ in range(4) for batch in feed]
    rows = [number for epoch in range(4) for batch in in_order(400, 5, 0, epoch) for number in batch]
    assert np.concatenate([batch["labels"] for batch in kept]).tolist() == rows
    assert np.concatenate([batch["features"][:, 2, 3] for batch in kept]).tolist() == rows


@pytest.mark.usefixtures("small_slots")
def test_a_kept_part_of_a_batch_never_changes_while_others_are_reused(numbered):
    kept = []
    with feedline.Feed(numbered(400), 5, threads=2, prefetch=3) as feed:
        for _ in range(4):
            kept += [(batch["features"][1:, 0], batch["labels"][1:].tolist()) for batch in feed][::7]
            assert all(part[:, 0].tolist() == rows for part, rows in kept)


def test_a_batch_may_be_written_to(numbered):
    with feedline.Feed(numbered(100), 10, shuffle="none", threads=1) as feed:
        for _ in range(3):
            for step, batch in enumerate(feed):
                assert batch["labels"].tolist() == list(range(10 * step, 10 * step + 10))
                batch["labels"][:] = -1
                batch["features"][:] = -1


@pytest.mark.usefixtures("small_slots")
def test_many_files_give_the_bytes_of_one(save):
    rows = np.random.default_rng(0).integers(0, 99, (500, 3))
    one = feedline.open_arrays({"a": save("one", rows)})
    parts = [save(f"part-{number}", part) for number, part in enumerate(np.array_split(rows, 8))]
    many = feedline.open_arrays({"a": parts})
    with feedline.Feed(one, 7) as first, feedline.Feed(many, 7, threads=3) as second:
        for _ in range(2):
            assert [batch["a"].tobytes() for batch in first] == [batch["a"].tobytes() for batch in second]


@pytest.mark.parametrize("residency", ["auto", "mapped", "memory"])
def test_rows_are_the_same_wherever_they_reside(numbered, residency):
    with feedline.Feed(numbered(500, residency=residency), 50, seed=6) as feed:
        assert rows_of(feed) == in_order(500, 50, 6, 0)


def test_a_range_of_rows_is_shuffled_within_itself(numbered):
    with feedline.Feed(numbered(100, rows=(40, 70)), 10) as feed:
        taken = [number for batch in rows_of(feed) for number in batch]
    assert taken != sorted(taken)
    assert sorted(taken) == list(range(40, 70))


def test_a_bound_on_epochs_leaves_later_iterators_empty(numbered):
    with feedline.Feed(numbered(100), 10, epochs=2) as feed:
        assert [len(list(feed)) for _ in range(4)] == [10, 10, 0, 0]
        assert feed.state()["epoch"] == 2


@pytest.mark.parametrize("steps", [1, 3, 9, 10])
@pytest.mark.usefixtures("small_slots")
def test_a_break_starts_the_next_epoch(numbered, steps):
    with feedline.Feed(numbered(100), 10, seed=2) as feed:
        for _, _ in zip(range(steps), feed, strict=False):
            pass
        for epoch in (1, 2):
            assert rows_of(feed) == in_order(100, 10, 2, epoch)


def test_breaks_count_towards_the_bound_on_epochs(numbered):
    with feedline.Feed(numbered(100), 10, epochs=2) as feed:
        next(iter(feed))
        next(iter(feed))
        assert list(feed) == []


LETS_GO = {
    "finished": list,
    "closed": lambda iterator: iterator.close(),
    "asked for its last batch": lambda iterator: [next(iterator) for _ in range(9)],
}


@pytest.mark.parametrize("let_go", LETS_GO.values(), ids=LETS_GO)
def test_a_second_iterator_is_the_next_epoch_once_the_first_is(numbered, let_go):
    with feedline.Feed(numbered(100), 10) as feed:
        first = iter(feed)
        next(first)
        let_go(first)
        assert rows_of(feed) == in_order(100, 10, 0, 1)
        assert list(first) == []


def test_an_exception_in_the_loop_starts_the_next_epoch(numbered):
    def stop_at_once(feed):
        for _ in feed:
            raise ZeroDivisionError

    with feedline.Feed(numbered(100), 10) as feed:
        with pytest.raises(ZeroDivisionError):
            stop_at_once(feed)
        assert rows_of(feed) == in_order(100, 10, 0, 1)


def test_statistics_count_what_was_handed_out(numbered):
    with feedline.Feed(numbered(103), 10, last_batch="keep", threads=2, prefetch=1) as feed:
        before = feed.stats()
        list(feed)
        after = feed.stats()
    assert (before.batches, before.rows, before.bytes, before.queue_depth, before.fetch_seconds) == (
        0,
        0,
        0,
        0,
        (0, 0, 0),
    )
    assert (after.batches, after.rows, after.bytes) == (11, 103, 103 * (100 + 4 + 12))
    assert after.threads == 2
    assert after.gathered_rows >= 103
    assert after.gather_busy_seconds > 0
    assert 0 <= after.queue_depth <= after.queue_capacity
    assert 0 < after.fetch_seconds[0] <= after.fetch_seconds[1] <= after.fetch_seconds[2] <= after.wait_seconds


def test_threads_are_counted_for_the_user_when_asked_for_none(numbered):
    assert 1 <= feedline.Feed(numbered(10), 5).threads <= 4


BAD_ARGUMENTS = {
    "no rows in a batch": ({"batch_size": 0}, r"batch_size: must be at least 1 \(got 0\)"),
    "part of a row": ({"batch_size": 10.0}, r"batch_size: must be an integer \(got 10.0\)"),
    "text for a batch": ({"batch_size": "10"}, r"batch_size: must be an integer \(got '10'\)"),
    "unknown shuffle": ({"shuffle": "blocks"}, "shuffle: must be full, block or none"),
    "unknown last batch": ({"last_batch": "pad"}, "last_batch: must be drop or keep"),
    "negative seed": ({"seed": -1}, "seed: must be from 0"),
    "giant seed": ({"seed": 2**64}, "seed: must be from 0"),
    "no seed": ({"seed": None}, "seed: must be an integer"),
    "no epochs": ({"epochs": 0}, "epochs: must be at least 1"),
    "half an epoch": ({"epochs": 0.5}, "epochs: must be an integer"),
    "no world": ({"world": 0}, "rank: must be from 0 to world - 1"),
    "rank outside of the world": ({"rank": 2, "world": 2}, "rank: must be from 0 to world - 1"),
    "negative rank": ({"rank": -1}, "rank: must be from 0 to world - 1"),
    "negative threads": ({"threads": -1}, "threads: must be from 0 to 256"),
    "too many threads": ({"threads": 257}, "threads: must be from 0 to 256"),
    "no prefetch": ({"prefetch": 0}, "prefetch: must be at least 1"),
    "negative block": (
        {"shuffle": "block", "block_rows": -1},
        r"block_rows: must be from 0 to 2\*\*40 \(got -1\)",
    ),
    "giant block": ({"shuffle": "block", "block_rows": 2**40 + 1}, r"block_rows: must be from 0 to 2\*\*40"),
    "part of a block": ({"shuffle": "block", "block_rows": 0.5}, "block_rows: must be an integer"),
    "negative window": ({"shuffle": "block", "window": -1}, r"window: must be from 0 to 2\*\*20 \(got -1\)"),
    "giant window": ({"shuffle": "block", "window": 2**20 + 1}, r"window: must be from 0 to 2\*\*20"),
    "no window": ({"shuffle": "block", "window": None}, "window: must be an integer"),
    "blocks of a full shuffle": ({"block_rows": 10}, "block_rows and window: are for shuffle block alone"),
    "window of no shuffle": ({"shuffle": "none", "window": 4}, "block_rows and window: are for shuffle block alone"),
    "negative read-ahead": ({"read_ahead": -1}, r"read_ahead: must be at least 0 \(got -1\)"),
    "text for a read-ahead": ({"read_ahead": "8"}, r"read_ahead: must be an integer \(got '8'\)"),
    "batch that ranks cannot share": ({"world": 3}, r"batch_size: must be a multiple of world \(got 10 and 3\)"),
    "last batch that ranks cannot share": ({"world": 2, "last_batch": "keep"}, "keep would give ranks unequal batches"),
}


@pytest.mark.parametrize(("arguments", "told"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_a_bad_argument_is_refused_by_name(numbered, arguments, told):
    with pytest.raises(UsageError, match=told):
        feedline.Feed(numbered(100), **{"batch_size": 10, **arguments})


@pytest.mark.parametrize("last_batch", ["drop", "keep"])
def test_a_batch_larger_than_the_data_is_refused(numbered, last_batch):
    with pytest.raises(DataError, match="a batch of 101 is larger than the data, which have 100 rows"):
        feedline.Feed(numbered(100), 101, last_batch=last_batch)


def test_a_batch_may_be_all_the_data(numbered):
    with feedline.Feed(numbered(100), 100, seed=1) as feed:
        assert [rows_of(feed), rows_of(feed)] == [in_order(100, 100, 1, 0), in_order(100, 100, 1, 1)]


def test_the_largest_seed_and_numpy_integers_are_fine(numbered):
    with feedline.Feed(numbered(100), np.int64(10), seed=np.uint64(2**64 - 1), prefetch=np.int32(2)) as feed:
        assert [rows_of(feed), rows_of(feed)] == [in_order(100, 10, 2**64 - 1, 0), in_order(100, 10, 2**64 - 1, 1)]


def test_a_closed_feed_says_so(numbered):
    feed = feedline.Feed(numbered(100), 10)
    batch = next(iter(feed))
    feed.close()
    feed.close()
    with pytest.raises(UsageError, match="the feed is closed: make a new one"):
        next(iter(feed))
    assert (batch["features"][:, 0, 0] == batch["labels"]).all()


def test_memory_cannot_be_chosen_after_the_first_batch(numbered):
    with feedline.Feed(numbered(100), 10) as feed:
        next(iter(feed))
        with pytest.raises(UsageError, match="must be chosen before the first batch"):
            feed.use_memory(lambda size: np.empty(size, np.uint8))


def test_batches_that_are_ready_are_counted_and_not_their_slots(numbered):
    arrays = numbered(40_000, (1,), residency="memory")
    with feedline.Feed(arrays, batch_size=16, threads=1, prefetch=1) as feed:
        next(iter(feed))
        until = time.monotonic() + 10
        while feed.stats().queue_depth < 4 + 16 and time.monotonic() < until:
            time.sleep(0.01)
        assert feed.stats().queue_depth == 4 + 16


def test_the_first_batch_does_not_wait_for_a_whole_slot(numbered, monkeypatch):
    """Of small rows a slot holds thousands of batches, which are read one by one where they lie on a disk."""
    taken = []
    take = feedline.files.Array.take

    def counted(self, rows, out):
        taken.append(len(rows))
        take(self, rows, out)

    monkeypatch.setattr(feedline.files.Array, "take", counted)
    arrays = numbered(40_000, (1,), residency="memory")
    with feedline.Feed(arrays, batch_size=16, threads=1, epochs=1) as feed:
        sizes = [len(batch["labels"]) for batch in feed]
    assert sizes == [16] * 2500
    assert taken[:: len(arrays)] == [16 * batches for batches in (1, 4, 16, 64, 256, 1024, 2500 - 1365)]

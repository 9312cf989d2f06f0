"""A feed for which the memory is too small is refused at its first batch, with the arithmetic."""

import threading

import numpy as np
import pytest

import feedline
from feedline.contract import ExitCode
from feedline.errors import EnvironmentInvalidError
from feedline.feed import gather, room

MB = 1_000_000
ROOM = 64 << 20
ROWS, ROW_BYTES = 5000, 640
BATCH = 100
BATCH_BYTES = BATCH * ROW_BYTES


@pytest.fixture
def arrays(save):
    """Return an array of 3 MB, which is not small: its rows are not."""
    return feedline.open_arrays({"features": save("features", np.zeros((ROWS, ROW_BYTES), np.uint8))})


@pytest.fixture(autouse=True)
def process(monkeypatch):
    """Make slots of one batch, and a process that has taken 100 MB."""
    monkeypatch.setattr(gather, "SLOT_BYTES", BATCH_BYTES)
    monkeypatch.setattr(room, "anonymous_bytes", lambda: 100 * MB)


def start(arrays, memory, monkeypatch, **options):
    """Read a batch where so many bytes of memory may be used."""
    monkeypatch.setattr(gather, "memory_bytes", lambda: memory)
    with feedline.Feed(arrays, BATCH, **{"threads": 2, "prefetch": 4} | options) as feed:
        next(iter(feed))


# Those that wait, one on the way, one in each thread's hands, one at the consumer and one that it lets go.
SLOTS = 4 + 1 + 2 + 2
BLOCKS = {"shuffle": "block", "block_rows": 50, "window": 10}

NEEDS = {
    "slots and orders": ({}, 100 * MB + ROOM + SLOTS * BATCH_BYTES + 2 * 4 * ROWS),
    "more to keep ready": ({"prefetch": 14}, 100 * MB + ROOM + (SLOTS + 10) * BATCH_BYTES + 2 * 4 * ROWS),
    "more threads": ({"threads": 4}, 100 * MB + ROOM + (SLOTS + 2) * BATCH_BYTES + 2 * 4 * ROWS),
    "no order": ({"shuffle": "none"}, 100 * MB + ROOM + SLOTS * BATCH_BYTES),
    "windows of blocks": (
        BLOCKS,
        100 * MB + ROOM + SLOTS * BATCH_BYTES + 2 * 4 * ROWS + 2 * 50 * 10 * ROW_BYTES,
    ),
    "windows that hold more than there is": (
        BLOCKS | {"window": 1000},
        100 * MB + ROOM + SLOTS * BATCH_BYTES + 2 * 4 * ROWS + ROWS * ROW_BYTES,
    ),
}


@pytest.mark.parametrize(("options", "needed"), NEEDS.values(), ids=NEEDS)
def test_a_feed_starts_where_all_it_takes_is_there_and_not_where_a_byte_is_missing(
    arrays, monkeypatch, options, needed
):
    start(arrays, needed, monkeypatch, **options)
    with pytest.raises(EnvironmentInvalidError, match="the feed takes") as error:
        start(arrays, needed - 1, monkeypatch, **options)
    assert error.value.exit_code == ExitCode.ENVIRONMENT == 78


def test_what_a_smaller_rank_takes_counts(arrays, monkeypatch):
    needed = 100 * MB + ROOM + SLOTS * BATCH_BYTES // 2 + 2 * 4 * ROWS
    monkeypatch.setattr(gather, "SLOT_BYTES", BATCH_BYTES // 2)
    start(arrays, needed, monkeypatch, world=2)
    with pytest.raises(EnvironmentInvalidError):
        start(arrays, needed - 1, monkeypatch, world=2)


def test_files_that_are_left_to_the_kernel_need_no_windows(arrays, monkeypatch):
    mapped = feedline.open_arrays({"features": arrays["features"].files[0].path}, residency="mapped")
    start(mapped, 100 * MB + ROOM + SLOTS * BATCH_BYTES + 2 * 4 * ROWS, monkeypatch, **BLOCKS)


SENTENCES = {
    "full": ({}, "168 MB", ", 40 kB for two orders", "loader.batchSize or loader.prefetchBatches"),
    "none": ({"shuffle": "none"}, "168 MB", "", "loader.batchSize or loader.prefetchBatches"),
    "block": (
        BLOCKS,
        "168 MB",
        ", 40 kB for two orders, 640 kB for rows on their way",
        "loader.shuffle.window or loader.batchSize",
    ),
}


@pytest.mark.parametrize(("options", "needed", "parts", "lower"), SENTENCES.values(), ids=SENTENCES)
def test_the_sentence_has_the_arithmetic_and_the_remedy(arrays, monkeypatch, options, needed, parts, lower):
    with pytest.raises(EnvironmentInvalidError) as error:
        start(arrays, 150 * MB, monkeypatch, **options)
    assert str(error.value) == (
        f"the feed takes {needed} of memory, and the limit is 150 MB: 100 MB for this process, "
        f"576 kB for 9 slots of 64 kB{parts}, 67 MB for room to work: raise resources.memory, or lower {lower}"
    )


def test_the_process_counts_as_it_is(arrays, monkeypatch):
    """Unpatched, it is what the kernel says of this very process."""
    monkeypatch.undo()
    with pytest.raises(EnvironmentInvalidError, match=r"[1-9]\d*(\.\d+)? [MG]B for this process"):
        start(arrays, 1 << 20, monkeypatch)


def test_a_refused_feed_leaves_no_thread_and_can_be_tried_again(arrays, monkeypatch):
    feed = feedline.Feed(arrays, BATCH)
    monkeypatch.setattr(gather, "memory_bytes", lambda: MB)
    for _ in range(2):
        with pytest.raises(EnvironmentInvalidError):
            next(iter(feed))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("feedline")]
    monkeypatch.setattr(gather, "memory_bytes", lambda: 1000 * MB)
    assert next(iter(feed))["features"].shape == (BATCH, ROW_BYTES)
    feed.close()

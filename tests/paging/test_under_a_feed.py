"""A feed whose rows are not in memory: the same batches by every way, looked ahead to, and nothing left behind."""

from itertools import takewhile

import numpy as np
import pytest
from cold import (
    AMPLE,
    FEATURES,
    LABELS,
    ROWS,
    SCARCE,
    WIDTH,
    always,
    forget,
    limited,
    no_direct_reads,
    opened,
    pages,
    save,
    warm,
)

import feedline
from feedline.feed import claims, gather
from feedline.order.permutation import permutation
from feedline.paging import governor, survey
from feedline.paging.governor import WORDS
from feedline.paging.pagein import PageIn
from feedline.paging.ways import direct, local

BATCH, SLOT = 80, 4 * 80
SLOTS = ROWS // SLOT
"""Of an epoch."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of `features` in two files and `labels`."""
    return save(tmp_path_factory.mktemp("rows"))


@pytest.fixture
def arrays(folder):
    """Return the opened arrays, nothing of them in memory."""
    return opened(folder)


@pytest.fixture(autouse=True)
def small_slots(monkeypatch):
    """Make slots of four batches, so that an epoch passes through many of them."""
    monkeypatch.setattr(gather, "SLOT_BYTES", SLOT * (WIDTH + 4))


@pytest.fixture
def advised(monkeypatch):
    """Have rows read ahead of need, whether they are in memory or not."""
    monkeypatch.setattr(governor, "choose", always("advise"))


def epochs_of(feed, count=2):
    """Return the labels of so many epochs, having held each batch of features against them."""
    seen = []
    for _ in range(count):
        for batch in feed:
            assert (LABELS[batch["labels"]] == batch["labels"]).all()
            assert (batch["features"] == FEATURES[batch["labels"]]).all()
            seen.append(batch["labels"].copy())
    return np.concatenate(seen)


def in_order(count=2):
    return np.concatenate([permutation(ROWS, 3, epoch) for epoch in range(count)])


# --- the same batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("residency", ["auto", "mapped", "read", "memory"])
def test_the_batches_do_not_depend_on_the_residency(folder, residency, threads):
    with feedline.Feed(opened(folder, residency=residency), BATCH, seed=3, threads=threads) as feed:
        assert (epochs_of(feed) == in_order()).all()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("strategy", ["resident", "fill", "advise"])
def test_the_batches_do_not_depend_on_the_strategy(arrays, monkeypatch, strategy, threads):
    monkeypatch.setattr(governor, "choose", always(strategy))
    with feedline.Feed(arrays, BATCH, seed=3, threads=threads) as feed:
        assert (epochs_of(feed) == in_order()).all()
        assert feed.stats().paging["features"] == f"{WORDS[strategy]}: so it was asked."


@pytest.mark.parametrize("threads", [1, 3])
def test_the_batches_do_not_depend_on_when_pages_go(folder, monkeypatch, threads):
    """What a feed found in memory may be gone a moment later."""
    monkeypatch.setattr(local, "_LOOK_EVERY", 2)
    arrays = opened(folder)
    with feedline.Feed(arrays, BATCH, seed=3, epochs=1, threads=threads) as feed:
        for number, batch in enumerate(feed):
            assert (batch["features"] == FEATURES[batch["labels"]]).all()
            if number % 20 == 0:
                forget(folder, arrays)
            elif number % 20 == 10:
                warm(folder)


def test_rows_of_a_split_are_those_of_the_split(folder):
    arrays = opened(folder, (100, ROWS - 50))
    with feedline.Feed(arrays, 50, seed=3, last_batch="keep") as feed:
        seen = epochs_of(feed, 1)
    assert (np.sort(seen) == np.arange(100, ROWS - 50)).all()


def test_each_rank_gets_its_part_of_each_batch(folder):
    parts = []
    for rank in range(2):
        with feedline.Feed(opened(folder), BATCH, seed=3, rank=rank, world=2) as feed:
            parts.append(epochs_of(feed, 1).reshape(-1, BATCH // 2))
    assert (np.hstack(parts).ravel() == in_order(1)).all()


def test_after_a_return_to_an_earlier_state_the_batches_go_on_from_there(arrays, advised):
    with feedline.Feed(arrays, BATCH, seed=3) as feed:
        epoch = iter(feed)
        for _ in range(70):
            next(epoch)
        state = feed.state()
        for _ in range(30):
            next(epoch)
        epoch.close()
        feed.restore(state)
        rest = np.concatenate([batch["labels"] for batch in feed])
    assert (rest == in_order(1)[70 * BATCH :]).all()


# --- how far ahead -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def looks(monkeypatch, advised):
    """Return what the feed does with rows, in order: ("ahead", those to bring in) and ("take", those of features).

    Its slots are whole ones from the first on.
    """
    monkeypatch.setattr(claims, "_GROWING", 0)
    seen, ahead, take = [], PageIn.ahead, PageIn.take

    def seen_ahead(paging, rows):
        def asked():
            seen.append(("ahead", rows()))
            return seen[-1][1]

        ahead(paging, asked)

    def seen_take(paging, array, rows, out):
        if array.name == "features":
            seen.append(("take", rows))
        take(paging, array, rows, out)

    monkeypatch.setattr(PageIn, "ahead", seen_ahead)
    monkeypatch.setattr(PageIn, "take", seen_take)
    return seen


AHEAD = {
    "by itself": (None, 2),
    "no further": (0, 0),
    "a batch": (1, 1),
    "a slot": (4, 1),
    "more": (5, 2),
    "far": (37, 10),
}


@pytest.mark.parametrize(("read_ahead", "slots"), AHEAD.values(), ids=AHEAD)
def test_the_first_slot_and_so_many_more_are_brought_in_before_it_is_filled(arrays, looks, read_ahead, slots):
    with feedline.Feed(arrays, BATCH, seed=3, threads=1, read_ahead=read_ahead) as feed:
        next(iter(feed))
    before = [rows for _, rows in takewhile(lambda look: look[0] == "ahead", looks)]
    assert len(before) == 1 + slots
    assert np.concatenate(before).tolist() == in_order(1)[: SLOT * (1 + slots)].tolist()


def test_two_slots_are_brought_in_ahead_of_need_across_the_epochs_end(arrays, looks):
    with feedline.Feed(arrays, BATCH, seed=3, epochs=2, threads=1) as feed:
        epochs_of(feed)
    ahead, take = "ahead", "take"
    assert [kind for kind, _ in looks] == [ahead] * 2 + [ahead, take] * (2 * SLOTS - 2) + [take] * 2
    for kind in (ahead, take):
        assert np.concatenate([each for told, each in looks if told == kind]).tolist() == in_order().tolist()


def test_several_threads_bring_in_no_slot_twice(arrays, looks):
    with feedline.Feed(arrays, BATCH, seed=3, epochs=2, threads=3) as feed:
        epochs_of(feed)
    slots = [slot.astype(np.intp).tobytes() for slot in in_order().reshape(-1, SLOT)]
    places = [slots.index(rows.tobytes()) for kind, rows in looks if kind == "ahead"]
    assert places == sorted(set(places)), "what is due first is brought in first"
    assert places


@pytest.mark.parametrize("memory", [AMPLE, SCARCE], ids=["they fit", "they do not fit"])
def test_rows_in_the_order_of_the_files_are_let_go_behind_where_they_do_not_fit(folder, monkeypatch, memory):
    monkeypatch.setattr(direct, "Runs", no_direct_reads)
    limited(monkeypatch, memory)
    arrays = opened(folder)
    with feedline.Feed(arrays, BATCH, shuffle="none", epochs=1, threads=1) as feed:
        assert (epochs_of(feed, 1) == LABELS).all()
    first, second = (pages(part.file.path) for part in arrays["features"].mapped)
    assert first.mean() > 0.95 if memory == AMPLE else first.mean() < 0.05
    assert second[-100:].mean() > 0.95, "what was gathered last is needed by those who still gather"


# --- what is said of it --------------------------------------------------------------------------------------------------------


def test_a_feed_says_how_its_rows_come_in(folder, monkeypatch):
    monkeypatch.setattr(local, "_FILL_BYTES", 0)  # or all of them may be there before it is asked
    with feedline.Feed(opened(folder), BATCH, seed=3) as feed:
        assert feed.stats().paging == {}
        next(iter(feed))
        paging = feed.stats().paging
    assert paging["features"].startswith(f"{WORDS['fill']}: ")
    assert paging["features"].endswith("% of the coming rows are in memory, and all of them fit.")
    assert paging["labels"] == "Taken as it lies in memory: it is small, and is read once, in order."


@pytest.mark.parametrize("residency", ["mapped", "memory"])
def test_of_rows_that_are_left_to_the_kernel_it_says_nothing(folder, residency):
    with feedline.Feed(opened(folder, residency=residency), BATCH) as feed:
        next(iter(feed))
        assert feed.stats().paging == {}
        assert feed.stats().rows_from_disk == 0


def test_rows_of_warm_files_do_not_come_from_the_disk(folder):
    arrays = opened(folder)
    warm(folder)
    with feedline.Feed(arrays, BATCH, seed=3) as feed:
        epochs_of(feed)
        assert feed.stats().rows_from_disk < 0.01 * ROWS
        assert feed.stats().paging["features"] == f"{WORDS['resident']}: 100% of the coming rows are in memory."


def test_rows_of_cold_files_come_from_the_disk_once(folder, monkeypatch):
    """Rows share pages, so that some are there before they are asked for."""
    limited(monkeypatch, SCARCE)
    with feedline.Feed(opened(folder), BATCH, seed=3) as feed:
        epochs_of(feed, 1)
        from_disk = feed.stats().rows_from_disk
        epochs_of(feed, 2)
        assert ROWS / 10 < from_disk <= ROWS
        # The look-ahead had the beginning of the next epoch before it.
        assert feed.stats().rows_from_disk <= from_disk + 0.02 * ROWS


def test_a_survey_looks_at_all_of_a_file_whatever_an_epoch_takes_of_it(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(PageIn, "look", lambda _, rows: seen.extend(rows.tolist()))
    window = feedline.Window(10, stride=10, phase="per_epoch")
    arrays = feedline.open_arrays({"labels": feedline.Stored(folder / "labels.npy", window=window)})
    survey(arrays, AMPLE)
    assert (min(seen), max(seen)) == (0, ROWS - 10)

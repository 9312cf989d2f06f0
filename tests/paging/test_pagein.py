"""Rows come into memory ahead of need, by the way that suits where they are, and no others do."""

import numpy as np
import pytest
from cold import (
    AMPLE,
    FEATURES,
    LABELS,
    PAGE,
    ROWS,
    SCARCE,
    SPARSE,
    SPLIT,
    always,
    eventually,
    forget,
    in_memory,
    opened,
    pages,
    save,
    warm,
)
from hypothesis import given
from hypothesis import strategies as st

from feedline.files import Header
from feedline.files import aio as reads
from feedline.paging import governor, pagein
from feedline.paging.governor import Choice
from feedline.paging.pagein import PageIn, survey
from feedline.paging.ranges import pieces, ranges
from feedline.paging.ways import local, way
from feedline.paging.ways.direct import OnePass

RANGE_BYTES = 128 << 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of `features` in two files and `labels`."""
    return save(tmp_path_factory.mktemp("rows"))


@pytest.fixture
def arrays(folder):
    """Return the opened arrays, nothing of them in memory."""
    return opened(folder)


@pytest.fixture(params=["resident", "fill", "advise", "read"])
def strategy(request, monkeypatch):
    """Have one strategy chosen for what is not small, and return its name."""
    monkeypatch.setattr(governor, "choose", always(request.param))
    if request.param == "read":
        monkeypatch.setattr(pagein, "file_system", lambda file: "nfs4")
    return request.param


# --- which bytes ---------------------------------------------------------------------------------------------------------------

SOME_ROWS = st.lists(st.integers(0, 5000), min_size=1, max_size=200)


def header(offset, row_bytes, stride=0):
    return Header(np.dtype(np.uint8), 10_000, (row_bytes,), offset, stride)


@given(SOME_ROWS, st.integers(64, 300), st.integers(1, 20_000), st.integers(0, 20_000))
def test_ranges_hold_every_row_once_in_whole_pages(rows, offset, row_bytes, stride):
    starts, stops = ranges(np.array(rows), header(offset, row_bytes, stride))
    step = stride or row_bytes
    assert (starts % PAGE == 0).all()
    assert (stops % PAGE == 0).all()
    assert (starts[1:] > stops[:-1]).all(), "ranges that touch are one"
    held = set()
    for row in rows:
        first = offset + row * step
        (inside,) = np.flatnonzero((starts <= first) & (stops >= first + row_bytes))
        held.update(range(first // PAGE, (first + row_bytes - 1) // PAGE + 1))
        assert starts[inside] < stops[inside]
    assert sum((stops - starts).tolist()) == PAGE * len(held), "no page is in them that holds no row"


@given(SOME_ROWS, st.integers(1, 400_000))
def test_pieces_are_ranges_cut_to_what_the_kernel_reads_at_once(rows, row_bytes):
    starts, stops = ranges(np.array(rows), header(128, row_bytes))
    offsets, lengths = pieces(starts, stops)
    assert (offsets % PAGE == 0).all()
    assert (lengths >= PAGE).all()
    assert (lengths <= RANGE_BYTES).all()
    assert len(offsets) <= len(starts) + sum((-(-(stops - starts) // RANGE_BYTES)).tolist())
    in_order = np.argsort(offsets)
    begins, ends = offsets[in_order], (offsets + lengths)[in_order]
    (cuts,) = np.nonzero(begins[1:] != ends[:-1])
    assert begins[np.append(0, cuts + 1)].tolist() == starts.tolist()
    assert ends[np.append(cuts, -1)].tolist() == stops.tolist()


# --- which way -----------------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_brought_in_where_it_is_asked_for_and_nowhere_else(arrays):
    paging = PageIn(arrays, SCARCE)
    paging.ahead(lambda: SPARSE)
    assert paging.choices["features"].strategy == "advise"
    eventually(lambda: in_memory(arrays["features"], SPARSE)[0] > 0.98)
    assert in_memory(arrays["features"], SPARSE)[1] == 0


def test_rows_next_to_those_that_are_in_memory_bring_in_no_more_than_themselves(arrays):
    """To the kernel that would look like reading in order."""
    paging, asked = PageIn(arrays, SCARCE), SPARSE
    for step in range(4):
        asked = np.union1d(asked, SPARSE + step)
        paging.ahead(lambda step=step: SPARSE + step)
        eventually(lambda asked=asked: in_memory(arrays["features"], asked)[0] > 0.98)
        assert in_memory(arrays["features"], asked)[1] == 0


@pytest.mark.parametrize("refused", ["RWF_NOWAIT", "lists"])
def test_where_the_kernel_does_not_say_what_is_in_memory_rows_are_brought_in_as_well(arrays, monkeypatch, refused):
    monkeypatch.setattr(reads.Queue, "run", lambda *arguments: None)
    if refused == "lists":
        monkeypatch.setattr(reads, "_queue", lambda: None)
    paging = PageIn(arrays, SCARCE)
    paging.ahead(lambda: SPARSE)
    assert paging.choices["features"].strategy == "advise"
    assert paging.rows_from_disk == len(SPARSE), "what was asked for is looked at before"
    eventually(lambda: in_memory(arrays["features"], SPARSE)[0] > 0.98)
    assert in_memory(arrays["features"], SPARSE)[1] == 0


def test_what_fits_is_also_read_in_order_until_all_is_there(arrays, monkeypatch):
    monkeypatch.setattr(local, "_FILL_BYTES", 4 << 20)
    first, second = (part.file.path for part in arrays["features"].mapped)
    paging = PageIn(arrays, AMPLE)
    paging.ahead(lambda: SPARSE)
    assert paging.choices["features"].strategy == "fill"
    begun = (4 << 20) // PAGE
    eventually(lambda: pages(first)[:begun].mean() > 0.98)
    eventually(lambda: in_memory(arrays["features"], SPARSE)[0] > 0.98)
    assert pages(first)[begun:].mean() < 0.3
    assert pages(second).mean() < 0.3
    for look in range(1, 5):
        paging.ahead(lambda look=look: SPARSE + 8 * look)
    eventually(lambda: min(pages(first).mean(), pages(second).mean()) > 0.98)


def test_labels_are_read_whole(arrays):
    paging = PageIn(arrays, SCARCE)
    few = np.array([1, ROWS // 2, ROWS - 2])
    paging.ahead(lambda: few)
    out = np.empty((3, 4), np.uint8)
    paging.take(arrays["labels"], few, out)
    assert out.view(np.int32)[:, 0].tolist() == LABELS[few].tolist()
    (part,) = arrays["labels"].mapped
    eventually(lambda: pages(part.file.path).mean() > 0.98)
    assert paging.choices["labels"].strategy == "resident"


def asks(paging):
    """Have the ways look ahead to a slot, and return whether they asked for its rows."""
    asked = []

    def rows():
        asked.append(SPARSE)
        return SPARSE

    paging.ahead(rows)
    return bool(asked)


def left_alone(arrays, folder):
    """Return the ways of arrays that are in memory, once they leave them alone."""
    warm(folder)
    paging = PageIn(arrays, SCARCE)
    for _ in range(10):
        if not asks(paging):
            assert paging.choices["features"].strategy == "resident"
            return paging
    return pytest.fail(paging.choices["features"].in_words())


def test_what_is_in_memory_is_left_alone_for_many_slots(arrays, folder):
    paging = left_alone(arrays, folder)
    asked = [asks(paging) for _ in range(2 * local._LOOK_EVERY)]
    assert asked.count(True) == 2
    assert asked[local._LOOK_EVERY :] == asked[: local._LOOK_EVERY]


def test_what_was_in_memory_and_is_no_more_is_found_at_the_next_look(arrays, folder):
    paging = left_alone(arrays, folder)
    forget(folder, arrays)
    assert any(asks(paging) for _ in range(local._LOOK_EVERY))  # until it does
    assert paging.choices["features"].strategy == "advise"
    eventually(lambda: in_memory(arrays["features"], SPARSE)[0] > 0.98)


def test_faults_that_wait_for_the_disk_bring_the_next_look_forward(arrays, folder):
    paging = left_alone(arrays, folder)
    forget(folder, arrays)
    paging.faulted(0, 3200)
    assert not asks(paging)
    paging.faulted(7, 3200)
    assert asks(paging)
    assert paging.choices["features"].strategy == "advise"


def test_of_rows_that_are_said_to_be_in_memory_and_are_not_the_faults_tell(arrays, folder, monkeypatch):
    paging = left_alone(arrays, folder)
    monkeypatch.setattr(way, "is_in_memory", lambda file, byte: True)
    paging.faulted(100, 1000)
    paging.ahead(lambda: SPARSE)
    assert paging.choices["features"] == Choice("advise", "90% of the coming rows are in memory")


def test_faults_change_nothing_where_rows_are_read_anyway(arrays):
    paging = PageIn(arrays, SCARCE)
    paging.ahead(lambda: SPARSE)
    before = paging.choices
    paging.faulted(1000, 1000)
    assert paging.choices == before


def test_files_on_a_network_are_read_when_they_are_due(arrays, monkeypatch):
    monkeypatch.setattr(pagein, "file_system", lambda file: "nfs4")
    paging = PageIn(arrays, SCARCE)
    paging.ahead(lambda: SPARSE)
    assert paging.choices["features"] == Choice("read", "nfs4 answers many at once")
    assert paging.choices["labels"].strategy == "resident"
    assert in_memory(arrays["features"], SPARSE) == (0, 0)
    out = np.empty((len(SPARSE), arrays["features"].row_bytes), np.uint8)
    paging.take(arrays["features"], SPARSE, out)
    paging.close()
    assert (out == FEATURES[SPARSE]).all()
    assert " ms a row, " in paging.choices["features"].reason


def test_who_asks_for_it_gets_every_row_read(folder):
    paging = PageIn(opened(folder, residency="read"), AMPLE)
    paging.ahead(lambda: SPARSE)
    assert paging.choices["features"] == Choice("read", "loader.residency is Read")


def test_a_survey_says_what_would_be_done_and_brings_nothing_in(arrays, folder):
    found = survey(arrays, SCARCE)
    assert found["features"] == Choice("advise", "0% of the coming rows are in memory")
    assert found["labels"].strategy == "resident"
    assert not any(pages(part.file.path).any() for part in arrays["features"].mapped)
    warm(folder)
    assert survey(arrays, SCARCE)["features"].strategy == "resident"


# --- how many, and how long ----------------------------------------------------------------------------------------------------

COLD = {
    "all": ([], len(SPARSE)),
    "those of one file": (["part-1.npy"], np.count_nonzero(SPARSE >= SPLIT)),
    "none": (["part-1.npy", "part-2.npy"], 0),
}


@pytest.mark.parametrize(("warmed", "expected"), COLD.values(), ids=COLD)
def test_rows_from_disk_are_those_that_were_not_in_memory(arrays, folder, warmed, expected):
    for name in warmed:
        warm(folder / "features" / name)
    paging = PageIn(arrays, SCARCE)
    paging.ahead(lambda: SPARSE)
    # The kernel begins to read what is missing, and may find it there when it looks again.
    assert expected / 2 <= paging.rows_from_disk <= expected + 0.02 * len(SPARSE)


def test_rows_are_let_go_and_what_lies_around_them_is_not(arrays, folder, strategy):
    paging = PageIn(arrays, SCARCE, OnePass(run_rows=1, rows_in_hand=ROWS))
    warm(folder)
    gone = np.arange(SPLIT - 500, SPLIT + 500)
    for _ in range(5):  # also once all was found in memory
        paging.ahead(lambda: gone)
        out = np.empty((len(gone), arrays["features"].row_bytes), np.uint8)
        paging.take(arrays["features"], gone, out)
    assert (out == FEATURES[gone]).all()
    paging.let_go(np.random.default_rng(2).permutation(gone))
    theirs, others = in_memory(arrays["features"], gone)
    assert theirs < 0.1
    assert others > 0.95
    neighbours = np.array([SPLIT - 501, SPLIT + 500])
    assert in_memory(arrays["features"], neighbours)[0] == 1, "pages were let go that others need"
    assert pages(folder / "labels.npy").mean() > 0.95
    paging.close()


@pytest.mark.parametrize("rows", [None, (100, ROWS - 50)], ids=["all", "some"])
def test_the_rows_are_the_same_by_every_way(folder, strategy, rows):
    arrays = opened(folder, rows)
    features, first = arrays["features"], rows[0] if rows else 0
    paging = PageIn(arrays, SCARCE)
    for seed in range(3):
        wanted = np.random.default_rng(seed).integers(0, arrays.rows, 700)
        paging.ahead(lambda wanted=wanted: wanted)
        out = np.zeros((len(wanted), features.row_bytes), np.uint8)
        paging.take(features, wanted, out)
        assert (out == FEATURES[first + wanted]).all()
    assert paging.choices["features"].strategy == strategy
    paging.close()


def test_of_no_rows_nothing_is_asked(arrays):
    paging = PageIn(arrays, SCARCE)
    paging.ahead(lambda: np.empty(0, np.intp))
    assert paging.rows_from_disk == 0
    assert in_memory(arrays["features"], SPARSE) == (0, 0)

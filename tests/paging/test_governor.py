"""Which way rows come into memory, decided from evidence that is made up."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import feedline
from feedline.paging import governor
from feedline.paging.governor import Evidence, choose, fits, slots_ahead

GB = 1_000_000_000
WIDTH = 2500


def evidence(**changes):
    """Return what is known of 8 GB of rows of which one in ten is in memory, where 1 GB may be used."""
    features = {"array_bytes": 8 * GB, "row_bytes": WIDTH, "data_bytes": 8 * GB, "memory_bytes": GB}
    return Evidence(**features | {"file_system": "ext4", "resident": 0.1} | changes)


LABELS = {"row_bytes": 4, "array_bytes": 13_000_000}
HALF = {"array_bytes": GB // 2, "data_bytes": GB // 2}

CHOICES = {
    "what is not in memory is read ahead of need": (evidence(), "advise", "10% of the coming rows are in memory"),
    "of a file system that is not known too": (evidence(file_system=""), "advise", "10%"),
    "none of it is in memory": (evidence(resident=0.0), "advise", "0%"),
    "what is in memory is left alone": (evidence(resident=1.0), "resident", "100% of the coming rows are in memory"),
    "two rows in a thousand may be missing": (evidence(resident=0.998), "resident", "99%"),
    "one in a hundred may not": (evidence(resident=0.99), "advise", "99%"),
    "what fits is read in order as well": (evidence(**HALF), "fill", "10% of the coming rows are in memory, and all"),
    "what fits and is in memory is left alone": (evidence(**HALF, resident=1.0), "resident", "100%"),
    "what fits only without the other arrays does not": (evidence(array_bytes=GB // 2), "advise", "10%"),
    "what takes more than half of the memory does not fit": (evidence(**HALF, memory_bytes=GB - 2), "advise", "10%"),
    "labels are kept": (evidence(**LABELS), "resident", "it is small"),
    "labels are kept, wherever they lie": (evidence(**LABELS, file_system="nfs4"), "resident", "it is small"),
    "rows of half a kilobyte are small": (evidence(row_bytes=512, array_bytes=GB // 16), "resident", "it is small"),
    "larger ones are not, though they be few": (evidence(row_bytes=513, array_bytes=5130), "advise", "10%"),
    "a sixteenth of the memory is small": (evidence(row_bytes=4, array_bytes=GB // 16), "resident", "it is small"),
    "more of it is not": (evidence(row_bytes=4, array_bytes=GB // 16 + 1), "advise", "10%"),
    "64 MiB are small where memory is large": (
        evidence(row_bytes=4, array_bytes=64 << 20, memory_bytes=100 * GB, data_bytes=800 * GB),
        "resident",
        "it is small",
    ),
    "more than 64 MiB is not": (
        evidence(row_bytes=4, array_bytes=(64 << 20) + 4, memory_bytes=100 * GB, data_bytes=800 * GB),
        "advise",
        "10%",
    ),
    "a disk on a network answers many at once": (evidence(file_system="nfs4"), "read", "nfs4 answers many at once"),
    "what is said of it to be in memory does not count": (evidence(file_system="nfs", resident=1.0), "read", "nfs"),
    "64 KiB that lie together and come once need no page cache": (
        evidence(run_bytes=64 << 10),
        "direct",
        "10% of the coming rows are in memory, and rows that lie together come once",
    ),
    "less than that does": (evidence(run_bytes=(64 << 10) - 1), "advise", "10%"),
    "rows of 8 MiB are read whole": (evidence(run_bytes=8 << 20, row_bytes=8 << 20), "direct", "10%"),
    "longer ones are not": (evidence(run_bytes=9 << 20, row_bytes=(8 << 20) + 1), "advise", "10%"),
    "what lies together and is in memory is left alone": (evidence(run_bytes=GB, resident=1.0), "resident", "100%"),
    "what lies together and fits is kept": (evidence(**HALF, run_bytes=GB), "fill", "10%"),
    "what lies together on a network": (evidence(run_bytes=GB, file_system="nfs4"), "read", "nfs4"),
    "it does not matter whether it fits": (evidence(**HALF, file_system="ceph"), "read", "ceph"),
}


@pytest.mark.parametrize(("seen", "strategy", "reason"), CHOICES.values(), ids=CHOICES)
def test_the_way_follows_from_what_is_seen(seen, strategy, reason):
    choice = choose(seen)
    assert choice.strategy == strategy
    assert reason in choice.reason
    assert choice.in_words() == f"{governor.WORDS[strategy]}: {choice.reason}."


FAR = ["nfs", "nfs4", "fuse", "fuseblk", "fuse.sshfs", "fuse.gcsfuse", "cifs", "smb3", "ceph", "lustre", "gpfs", "9p"]
NEAR = ["ext4", "xfs", "btrfs", "overlay", "tmpfs", "zfs", "squashfs", "f2fs", "vfat", ""]


@pytest.mark.parametrize("kind", FAR + NEAR)
def test_the_name_of_a_file_system_tells_whether_it_is_far(kind):
    assert (choose(evidence(file_system=kind)).strategy == "read") == (kind in FAR)


@given(st.floats(0, 1), st.floats(0, 1))
def test_more_rows_in_memory_never_make_more_work(one, other):
    less, more = (choose(evidence(resident=share)).strategy == "resident" for share in sorted((one, other)))
    assert less <= more


@given(st.integers(1, 2**60), st.integers(1, 2**60))
def test_data_fit_in_half_of_the_memory(data, memory):
    assert fits(data, memory) == (2 * data <= memory)


# --- how much at once ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "memory", "slots"),
    [(3200, GB, 2), (3200, 200_000_000, 1), (3200, 50_000_000, 0), (1, GB, 2)],
    ids=["enough", "little", "least", "small slots"],
)
def test_the_look_ahead_takes_an_eighth_of_the_memory_at_most(save, rows, memory, slots):
    arrays = feedline.open_arrays({"features": save("features", np.zeros((20_000, WIDTH), np.uint8))})
    assert slots_ahead(rows, arrays, memory) == slots
    assert slots * rows * (1 + WIDTH / 4096) * 4096 <= memory / 8


def test_a_slot_takes_no_more_memory_than_the_array_has(save):
    arrays = feedline.open_arrays({"labels": save("labels", np.zeros(1000, np.int32))})
    assert slots_ahead(1000, arrays, 8 * 4000) == 1
    assert slots_ahead(1000, arrays, 8 * 8000) == 2

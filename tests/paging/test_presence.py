"""Whether a byte is in memory, by what the kernel says or what a try shows."""

import errno
import math
import os

import numpy as np
import pytest

from feedline.files.file import File
from feedline.paging import presence
from feedline.paging.presence import is_in_memory


@pytest.fixture
def file(save):
    """Return an opened file."""
    return File(save("features", np.zeros((100, 2500), np.uint8)))


def answers(monkeypatch, error):
    """Have the kernel say nothing by mincore, and RWF_NOWAIT answer with an error."""

    def preadv(descriptor, buffers, offset, flags=0):
        assert flags == os.RWF_NOWAIT
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(presence, "is_resident", lambda file, byte: None)
    monkeypatch.setattr(presence.os, "preadv", preadv)


@pytest.mark.parametrize("known", [True, False])
def test_what_mincore_says_counts(file, monkeypatch, known):
    answers(monkeypatch, errno.EIO)
    monkeypatch.setattr(presence, "is_resident", lambda file, byte: known)
    assert is_in_memory(file, 500) is known


@pytest.mark.parametrize("error", [errno.EAGAIN, errno.EIO], ids=["it would wait", "it cannot be read"])
def test_what_is_not_there_at_once_is_not_in_memory(file, monkeypatch, error):
    answers(monkeypatch, error)
    monkeypatch.setattr(presence, "HIT_SECONDS", math.inf)
    assert is_in_memory(file, 500) is False


@pytest.mark.parametrize(("hit_seconds", "there"), [(math.inf, True), (0.0, False)], ids=["quick", "slow"])
def test_where_only_the_time_tells_it_decides(file, monkeypatch, hit_seconds, there):
    monkeypatch.setattr(presence, "HIT_SECONDS", hit_seconds)
    monkeypatch.setattr(presence, "is_resident", lambda file, byte: None)
    assert is_in_memory(file, 500) is there
    answers(monkeypatch, errno.EOPNOTSUPP)
    assert is_in_memory(file, 500) is there

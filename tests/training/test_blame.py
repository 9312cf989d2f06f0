"""Who began it, by what the ranks of a machine have left behind: the culprit is named, and a victim is none."""

import json
import signal

import pytest
from manifests import document

from feedline.manifest import parse
from feedline.ranks import Ended
from feedline.training.blame import judged
from feedline.training.outcome import failure_report
from feedline.training.ranks_folder import RanksFolder

DOCUMENT = parse(document())
RANKS = range(2, 4)  # of the second of two machines


@pytest.fixture
def folder(tmp_path):
    return RanksFolder(tmp_path)


def leave(folder, rank, code, message="words", **more):
    folder.report(rank).write_text(json.dumps({**failure_report(DOCUMENT, code, message), **more}))


def end(folder, codes, first=None, **more):
    """Return how the machine ended, as (exit code, message, rank, whether by itself)."""
    found = judged(DOCUMENT, folder, Ended(codes, first, **more), RANKS)
    return found.report["exitCode"], found.report["message"], found.report.get("rank"), found.is_own


def test_done(folder):
    leave(folder, 2, 0, "completed", steps=9)
    leave(folder, 3, 0)
    assert end(folder, {}) == (0, "completed", None, True)


def test_a_rank_that_was_killed(folder):
    leave(folder, 2, 75, steps=9)
    folder.suffer(2)
    code, message, rank, is_own = end(folder, {0: -signal.SIGTERM, 1: -signal.SIGKILL}, 1)
    assert (code, rank, is_own) == (137, 3, True)
    assert message.startswith("rank 3 was ended by SIGKILL")


def test_what_raised_is_believed_before_what_was_killed_for_it(folder):
    leave(folder, 2, 70, "ValueError: no")
    folder.confess(2)
    assert end(folder, {0: 70, 1: -signal.SIGKILL}, 1) == (70, "rank 2: ValueError: no", 2, True)


def test_a_rank_that_hangs_and_was_told_so(folder):
    folder.note_hung(3, "rank 3 hangs in step 4")
    leave(folder, 2, 75, "rank 3 hangs in step 4")
    folder.suffer(2)
    assert end(folder, {0: 75, 1: 75}, 0) == (75, "rank 3 hangs in step 4", 3, True)


@pytest.mark.parametrize(("codes", "first"), [({}, None), ({0: 75}, 0)])
def test_a_rank_that_ended_with_0_and_no_word(folder, codes, first):
    leave(folder, 2, 75)
    folder.suffer(2)
    code, message, rank, is_own = end(folder, codes, first)
    assert (code, rank, is_own) == (70, 3, True)
    assert message.startswith("rank 3 ended with exit code 0 in the middle of the training")


def test_who_has_only_lost_the_others(folder):
    leave(folder, 2, 75, "rank 0 is gone, last seen in step 4")
    folder.suffer(2)
    assert end(folder, {0: 75, 1: -signal.SIGTERM}, 0) == (75, "rank 0 is gone, last seen in step 4", 2, False)


def test_who_was_done_when_the_first_failed_is_not_done(folder):
    leave(folder, 2, 0, "completed")
    leave(folder, 3, 0, "completed")
    folder.suffer(2)
    folder.suffer(3)
    code, message, _, is_own = end(folder, {0: 143, 1: 143}, 0)
    assert (code, is_own) == (143, False)
    assert "was done when the training ended before its time" in message


@pytest.mark.parametrize("is_asked_here", [True, False])
def test_all_that_ended_at_an_agreed_step(folder, is_asked_here):
    if is_asked_here:
        folder.ask_to_stop(143)
    for rank in RANKS:
        leave(folder, rank, 143, "terminated after 7 of 9 steps")
    assert end(folder, {0: 143, 1: 143}, 0) == (143, "terminated after 7 of 9 steps", None, is_asked_here)


def test_what_nccl_ends_is_a_victim(folder):
    folder.note_nccl()
    code, message, rank, is_own = end(folder, {0: -signal.SIGABRT, 1: -signal.SIGTERM}, 0)
    assert (code, rank, is_own) == (75, 2, False)
    assert "as NCCL does where another rank does not answer" in message


def test_without_nccl_that_is_a_death_like_another(folder):
    assert end(folder, {0: -signal.SIGABRT, 1: -signal.SIGTERM}, 0)[::2] == (134, 2)


def test_an_exit_code_of_ones_own(folder):
    expected = (3, "rank 3 ended with exit code 3, and left no report", 3, True)
    assert end(folder, {0: -signal.SIGTERM, 1: 3}, 1) == expected

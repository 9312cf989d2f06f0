"""Which errors make a rank a victim: those that torch raises where another one is gone, as it words them."""

import pytest

from feedline.ranks import SilentError, has_timed_out, is_of_communication, lost_connection

COMMUNICATION = [
    "[/__w/pytorch/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:4321",
    "[../third_party/gloo/gloo/transport/tcp/pair.cc:544] Read error [127.0.0.1]:1: Connection reset by peer",
    "[/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:78] Timed out waiting 10000ms for recv operation to complete",
    "NCCL error in: ProcessGroupNCCL.cpp:1, remote process exited or there was a network error, ncclRemoteError",
]
OWN = [
    "mat1 and mat2 shapes cannot be multiplied (4x3 and 5x6)",
    "CUDA out of memory. Tried to allocate 2.00 GiB",
    "Expected to have finished reduction in the prior iteration before starting a new one.",
    "Timed out waiting for a lock of mine",
]


@pytest.mark.parametrize("words", COMMUNICATION)
def test_an_error_of_communication_is_one(words):
    assert is_of_communication(RuntimeError(words))


@pytest.mark.parametrize("words", OWN)
def test_an_error_of_the_training_is_none(words):
    assert not is_of_communication(RuntimeError(words))


@pytest.mark.parametrize("error", [ValueError("gloo/transport: Connection closed by peer"), KeyError("gloo")])
def test_only_what_torch_raises_counts(error):
    assert not is_of_communication(error)


def test_who_hides_it_behind_an_error_of_its_own_is_a_victim_all_the_same():
    lost = RuntimeError(COMMUNICATION[0])
    try:
        try:
            raise lost
        except RuntimeError:
            raise ValueError("training failed")  # noqa: B904 - as people write it
    except ValueError as error:
        hidden = error
    assert is_of_communication(hidden)
    assert lost_connection(hidden) is lost
    assert is_of_communication(caused_by(KeyError("loss"), lost))


def caused_by(error, cause):
    error.__cause__ = cause
    return error


def test_an_error_that_comes_round_to_itself_is_looked_through_once():
    one, other = ValueError("one"), ValueError("other")
    one.__context__, other.__context__ = other, one
    assert not is_of_communication(one)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError(COMMUNICATION[0]), False),
        (RuntimeError(COMMUNICATION[2]), True),
        (SilentError("rank 3 does not answer for 300 s"), True),
    ],
)
def test_who_did_not_come_in_time_is_told_from_who_is_gone(error, expected):
    assert has_timed_out(error) == expected

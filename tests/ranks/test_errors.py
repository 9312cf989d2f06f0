"""Which errors make a rank a victim: those that torch raises where another one is gone, as it words them."""

import pytest

from feedline.ranks import is_of_communication

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

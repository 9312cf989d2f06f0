"""What the tests of compiled code share."""

import os

import pytest

from feedline import native


@pytest.fixture(autouse=True)
def compiled():
    """Skip where nothing is compiled: NumPy does its work there, which all other tests see."""
    if native.copied_by() != "native":
        assert not os.environ.get("CI"), "there is no C compiler here: apt install gcc, make clean"
        pytest.skip("there is no C compiler here, or FEEDLINE_NATIVE is 0")

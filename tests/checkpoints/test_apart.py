"""What can be saved of torch's objects; the tests are in the folder `apart`."""

from pathlib import Path

import childtests
import pytest

pytestmark = pytest.mark.trainer


def test_objects_of_torch_come_back_as_they_were():
    childtests.run(Path(__file__).with_name("apart"), "torch")

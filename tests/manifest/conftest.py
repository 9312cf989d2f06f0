"""The manifest that several tests read, as a file."""

import pytest
from manifests import DIGITS


@pytest.fixture
def digits(tmp_path):
    path = tmp_path / "digits.yaml"
    path.write_text(DIGITS, encoding="utf-8")
    return path

"""What the chart's tests share."""

import pytest
from cluster import build
from cluster.fixtures import said_where_it_cannot_run


@pytest.fixture(scope="session")
def helm_level():
    """Say that a test runs helm."""
    with said_where_it_cannot_run():
        build.program("helm", build.HELM)

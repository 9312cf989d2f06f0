"""What the operator's tests share: an operator that runs beside the API server, and pipelines to give it.

Most of these tests wait for Kubernetes nearly all of their time: ten seconds for a second attempt, thirty until Events
are read. So those that take `world` all run at once, each in a thread and a namespace of its own, and pytest asks one
after the other how it went.
"""

import pytest

from cluster import kueue, operators, sites
from cluster.api import ApiCluster
from cluster.together import Together
from cluster.world import World


def pytest_pyfunc_call(pyfuncitem):
    """Let a test that already runs in a thread be what pytest calls."""
    running = [value for value in pyfuncitem.funcargs.values() if isinstance(value, Together)]
    return True if any(together.joins(pyfuncitem) for together in running) else None


@pytest.fixture(scope="session")
def feedline_cluster(api_cluster):
    """Return the api level with the CRD and the operator's rights in it, and no operator."""
    operators.install(api_cluster)
    return api_cluster


@pytest.fixture(scope="session")
def operator(feedline_cluster, tmp_path_factory):
    """Return an operator that leads, for all tests that do nothing to it."""
    with operators.running(feedline_cluster, tmp_path_factory.mktemp("operator")) as process:
        yield process


@pytest.fixture(scope="session")
def world(request, feedline_cluster, operator):
    """Give each test a namespace with a node, and run all that take one at once."""
    together = Together(request, lambda: World.new(feedline_cluster), workers=32)
    yield together
    together.close()


@pytest.fixture(scope="session")
def bare_cluster(api_cluster):
    """Return another api level like `feedline_cluster`, for tests that run operators of their own.

    It asks for `api_cluster` so that a machine that can run neither is told so in one place.
    """
    with ApiCluster() as cluster:
        operators.install(cluster)
        yield cluster


@pytest.fixture(scope="session")
def pair(request, bare_cluster, tmp_path_factory):
    """Give each test a leader and a standby, and run all that take them at once."""
    folder = tmp_path_factory.mktemp("pairs")
    together = Together(request, lambda: sites.new_pair(bare_cluster, folder), workers=4)
    yield together
    together.close()


@pytest.fixture(scope="session")
def site(request, pair, bare_cluster, tmp_path_factory):
    """Give each test an operator behind a proxy, and run all that take one at once, beside those that take `pair`."""
    folder = tmp_path_factory.mktemp("sites")
    together = Together(request, lambda: sites.new_site(bare_cluster, folder, FEEDLINE_RESYNC_SECONDS="8"), workers=8)
    yield together
    together.close()


@pytest.fixture(scope="session")
def queued(request, api_cluster, kueue_level, tmp_path_factory):
    """Give each test a namespace of an API server that has Kueue, and run all that take one at once."""
    with ApiCluster() as cluster:
        operators.install(cluster)
        with kueue.running(cluster), operators.running(cluster, tmp_path_factory.mktemp("queued")):
            together = Together(request, lambda: World.new(cluster), workers=8)
            yield together
            together.close()

"""The clusters as pytest fixtures: each level once a session, a namespace for each test.

A level that this machine cannot run is skipped with the sentence that says what to install; where CI=true, that is a
failure.
"""

import contextlib
import os
from collections.abc import Callable, Iterator

import pytest

from cluster import build
from cluster.api import ApiCluster
from cluster.errors import ClusterError, NotHereError
from cluster.node import NodeCluster

CLUSTERS: dict[str, Callable[[], ApiCluster]] = {
    "api_level": ApiCluster,
    "api_cluster": ApiCluster,
    "oldest_api_cluster": lambda: ApiCluster(build.OLDEST),
    "node_level": NodeCluster,
    "node_cluster": NodeCluster,
}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put what needs no cluster first, since an idle API server takes CPU too, and what uses the session's node last.

    A test that starts a node of its own needs the machine before that.
    """

    def level(item: pytest.Item) -> int:
        used = set(getattr(item, "fixturenames", ()))
        return 2 if "node_cluster" in used else int(bool(used & CLUSTERS.keys()))

    items.sort(key=level)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build what the selected tests need here, where no test's time limit runs."""
    if session.config.option.collectonly:
        return
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())} & CLUSTERS.keys()
    capture = session.config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled():
        for name in sorted(wanted):
            with contextlib.suppress(ClusterError):  # the fixture says it
                CLUSTERS[name]().build()


@pytest.fixture(scope="session")
def api_level() -> None:
    """Say that a test starts API servers of its own."""
    with said_where_it_cannot_run():
        CLUSTERS["api_level"]().build()


@pytest.fixture(scope="session")
def node_level() -> None:
    """Say that a test starts node clusters of its own."""
    with said_where_it_cannot_run():
        CLUSTERS["node_level"]().build()


@pytest.fixture(scope="session")
def api_cluster() -> Iterator[ApiCluster]:
    """Yield the newest supported Kubernetes without a node."""
    yield from _started("api_cluster")


@pytest.fixture(scope="session")
def oldest_api_cluster() -> Iterator[ApiCluster]:
    """Yield the oldest supported Kubernetes without a node."""
    yield from _started("oldest_api_cluster")


@pytest.fixture(scope="session")
def node_cluster() -> Iterator[ApiCluster]:
    """Yield the newest supported Kubernetes with a node that runs pods."""
    yield from _started("node_cluster")


@pytest.fixture
def namespace(api_cluster: ApiCluster) -> Iterator[str]:
    """Yield a namespace of `api_cluster` that is the test's own."""
    name = api_cluster.new_namespace()
    yield name
    api_cluster.kubectl("delete", "namespace", name, "--wait=false")


def _started(fixture: str) -> Iterator[ApiCluster]:
    with contextlib.ExitStack() as stack:
        with said_where_it_cannot_run():
            cluster = stack.enter_context(CLUSTERS[fixture]())
        yield cluster


@contextlib.contextmanager
def said_where_it_cannot_run() -> Iterator[None]:
    """Skip what needs something that is not here, with what to install; where CI=true, fail."""
    try:
        yield
    except NotHereError as error:
        if os.environ.get("CI") == "true":
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        pytest.skip(str(error))
    except ClusterError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None

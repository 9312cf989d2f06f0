"""The clusters as pytest fixtures: each level once a session, a namespace for each test.

A level that this machine cannot run is skipped with the sentence that says what to install; where CI=true, that is a
failure.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from tiers import fixtures_of

from cluster import build, kueue, prometheus
from cluster.api import ApiCluster
from cluster.errors import ClusterError, NotHereError
from cluster.images import build_images
from cluster.node import NodeCluster

CLUSTERS: dict[str, Callable[[], ApiCluster]] = {
    "api_level": ApiCluster,
    "api_cluster": ApiCluster,
    "oldest_api_cluster": lambda: ApiCluster(build.OLDEST),
    "node_level": NodeCluster,
    "node_cluster": NodeCluster,
}

# What takes minutes to build the first time, by the fixture that needs it.
BUILDS: dict[str, Callable[[], object]] = {
    **{name: lambda cluster=cluster: cluster().build() for name, cluster in CLUSTERS.items()},
    "api_levels": lambda: [ApiCluster(version).build() for version in build.KUBERNETES],
    "kueue_level": kueue.build_all,
    "helm_level": lambda: build.program("helm", build.HELM),
    "promtool": lambda: build.program("promtool", build.PROMETHEUS),
    "images": build_images,
    "names": build_images,
    "prometheus": prometheus.build_all,
}
_built: set[str] = set()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Build what a test needs here, where its time limit does not run; what needs nothing of it runs meanwhile."""
    for name in BUILDS.keys() & fixtures_of(item) - _built:
        _built.add(name)
        capture = item.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            try:
                BUILDS[name]()
            except ClusterError as error:  # the fixture tries once more
                sys.stderr.write(f"{error}\n")
    return (yield)


@pytest.fixture(scope="session")
def api_level() -> None:
    """Say that a test starts API servers of its own."""
    _built_or_said("api_level")


@pytest.fixture(scope="session")
def api_levels() -> None:
    """Say that a test starts API servers of each version that is supported."""
    _built_or_said("api_levels")


@pytest.fixture(scope="session")
def node_level() -> None:
    """Say that a test starts node clusters of its own."""
    _built_or_said("node_level")


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


@pytest.fixture(scope="session")
def kueue_level() -> None:
    """Say that a test runs Kueue."""
    _built_or_said("kueue_level")


@pytest.fixture(scope="session")
def helm_level() -> None:
    """Say that a test runs helm."""
    _built_or_said("helm_level")


@pytest.fixture(scope="session")
def promtool() -> Callable[..., str]:
    """Return a function that runs promtool, which must find nothing wrong, and returns what it says."""
    with said_where_it_cannot_run():
        program = build.program("promtool", build.PROMETHEUS)

    def promtool(*arguments: str | Path, input: str | None = None) -> str:  # noqa: A002  # subprocess.run's name for it
        done = subprocess.run(
            [program, *arguments],
            input=input,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    return promtool


@pytest.fixture
def namespace(api_cluster: ApiCluster) -> Iterator[str]:
    """Yield a namespace of `api_cluster` that is the test's own."""
    name = api_cluster.new_namespace()
    yield name
    api_cluster.kubectl("delete", "namespace", name, "--wait=false")


def _built_or_said(fixture: str) -> None:
    with said_where_it_cannot_run():
        BUILDS[fixture]()


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

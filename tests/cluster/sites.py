"""Operators that a test has for itself: one behind a proxy, or a leader and a standby, for one namespace each."""

import contextlib
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster.api import ApiCluster
from cluster.operators import NAMESPACE, OperatorProcess, eventually
from cluster.proxy import Proxy, Request
from cluster.world import World


@dataclass(frozen=True)
class Site:
    """An operator behind a proxy."""

    world: World
    proxy: Proxy
    operator: OperatorProcess

    def requests(self, verb: str, resource: str) -> list[Request]:
        """Return the requests of a kind that came to the proxy."""
        return [request for request in self.proxy.requests if (request.verb, request.resource) == (verb, resource)]

    def writes_about(self, name: str) -> list[Request]:
        """Return the writes about a pipeline that the API server had."""
        return [request for request in self.proxy.requests if about(request, name) and request.code]

    def die(self) -> None:
        """Kill the operator and start it again."""
        self.operator.kill()
        self.world.free_lease()
        self.operator.start()


def about(request: Request, name: str) -> bool:
    """Return whether a request writes about a pipeline, or what has its name.

    An Event's is the pipeline's with a hash behind a dot, a pod's has its number and some letters behind it.
    """
    return request.writes and re.fullmatch(rf"{name}(\..*|-peers|-\d+-[a-z0-9]{{5}})?", request.name) is not None


@contextlib.contextmanager
def new_site(cluster: ApiCluster, folder: Path, **settings: str) -> Iterator[Site]:
    """Make a namespace with a proxy and an operator that leads; its log lies in a new folder in `folder`."""
    with World.new(cluster) as world, Proxy(cluster) as proxy:
        kubeconfig = cluster.kubeconfig_for(NAMESPACE, "feedline-operator", url=proxy.url)
        own = Path(tempfile.mkdtemp(dir=folder))
        environment = {**world.allow_operator(), **settings}
        with OperatorProcess(cluster, own, kubeconfig=kubeconfig, environment=environment) as operator:
            eventually(lambda: operator.leading, "the operator leads", 120)
            yield Site(world, proxy, operator)


@dataclass(frozen=True)
class Pair:
    """A leader and a standby."""

    world: World
    leader: OperatorProcess
    standby: OperatorProcess

    @property
    def lease(self) -> dict:
        """What the Lease says."""
        path = f"/apis/coordination.k8s.io/v1/namespaces/{self.world.namespace}/leases/feedline-operator"
        return self.world.rest.do("GET", path)["spec"]

    def takes_over(self, seconds: float) -> None:
        """Wait until the standby leads, which takes it so many seconds of a quiet machine."""
        eventually(lambda: self.standby.leading, "the standby leads", seconds, every=0.05)


@contextlib.contextmanager
def new_pair(cluster: ApiCluster, folder: Path) -> Iterator[Pair]:
    """Make a namespace with an operator that leads and one that is ready to."""
    own = Path(tempfile.mkdtemp(dir=folder))
    with contextlib.ExitStack() as stack:
        world = stack.enter_context(World.new(cluster))
        settings = world.allow_operator()
        leader, standby = (_replica(cluster, own / name, settings) for name in ("leader", "standby"))
        stack.enter_context(leader)
        eventually(lambda: leader.leading, "the first one leads", 120)
        stack.enter_context(standby)
        eventually(lambda: standby.port and standby.get("/readyz")[0] == 200, "the second one is ready", 120)
        yield Pair(world, leader, standby)


def _replica(cluster: ApiCluster, folder: Path, settings: dict[str, str]) -> OperatorProcess:
    folder.mkdir()
    return OperatorProcess(cluster, folder, environment=settings)

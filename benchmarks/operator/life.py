"""How many calls to the API server the whole life of a pipeline takes, from creation to Completed."""

import statistics
from collections import Counter
from pathlib import Path

import audit
from client import Client
from cluster import operators
from cluster.api import ApiCluster
from crowd import REPORT, STARVED, Crowd, names
from figures import Figure

OPERATOR = f"system:serviceaccount:{operators.NAMESPACE}:feedline-operator"
MOST_CALLS = 6


async def measure(cluster: ApiCluster, folder: Path, count: int) -> list[Figure]:
    """Let pipelines live, half of them held back by their data, which is one Event more to tell."""
    crowd_names = {"fed": names("fed", count), "starved": names("starved", count)}
    everyone = [name for each in crowd_names.values() for name in each]
    async with Client(cluster) as client:
        crowd = Crowd(client, cluster.new_namespace())
        with operators.running(cluster, folder):
            await crowd.create(everyone)
            await crowd.until(everyone, "Starting")
            await crowd.run(everyone)
            await crowd.end(crowd_names["fed"], REPORT)
            await crowd.end(crowd_names["starved"], STARVED)
            operators.eventually(lambda: _events(cluster, crowd) >= 3 * count, "every Event is written")
    calls = [call for call in audit.read(cluster.audit_log, user=OPERATOR) if call.namespace == crowd.namespace]
    per_pipeline = Counter(pipeline_of(call) for call in calls)
    counts = {kind: [per_pipeline[name] for name in each] for kind, each in crowd_names.items()}
    most = max(max(each) for each in counts.values())
    return [
        Figure(
            what="API calls of a pipeline's whole life (create to Completed)",
            wanted=f"≤ {MOST_CALLS}",
            measured=(
                f"{statistics.median(counts['fed']):g}, {statistics.median(counts['starved']):g} where it is input "
                f"bound; at most {most} ({2 * count} pipelines)"
            ),
            met=most <= MOST_CALLS,
            detail={"fed": counts["fed"], "starved": counts["starved"], "calls": audit.kinds(calls)},
        )
    ]


def pipeline_of(call: audit.Call) -> str:
    """Return the pipeline that a call is about: an Event's name begins with that of its object."""
    return call.name.partition(".")[0] if call.resource == "events" else call.name


def _events(cluster: ApiCluster, crowd: Crowd) -> int:
    calls = audit.read(cluster.audit_log, user=OPERATOR)
    return sum(call.resource == "events" and call.namespace == crowd.namespace for call in calls)

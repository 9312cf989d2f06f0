"""docs/reference/metrics.md is what an operator shows over HTTP, no more and no less."""

import asyncio

import aiohttp
from kubernetes.aio import client
from metrics_page import documented, exposed
from promlint import lint
from simulation.documents import at, condition_list, job, pipeline, pod

from feedline_operator import settings
from feedline_operator.app import App
from feedline_operator.cluster import Cluster
from feedline_operator.lease import Elector
from feedline_operator.metrics import Metrics
from feedline_operator.ratelimit import TokenBucket

REPORT = {
    **dict.fromkeys(("steps", "samples", "milliseconds", "samplesPerSecond", "waitPermille"), 1),
    **dict.fromkeys(("feedSamplesPerSecond", "modelSamplesPerSecond"), 1),
    "fetchMicros": {"p50": 1},
    "stepMicros": {"p50": 1},
}
ENDED = {
    "startTime": at(2),
    "completionTime": at(9),
    "feed": {"steps": 1, "targetSteps": 2},
    "report": REPORT,
}
RETRIED = {
    "conditions": condition_list({"Succeeded": ["Unknown", "Retrying", "words"]}),
    "attempts": [{"index": 0, "uid": "a", "startTime": at(3), "endTime": at(5), "reason": "IOError"}],
}
TURNED = {"Succeeded": ["True", "Completed", "done"], "InputBound": ["True", "Disk", "words"]}
SWEEP = {
    "metadata": {"name": "rates", "namespace": "team", "uid": "b", "resourceVersion": "1"},
    "spec": {},
    "status": {
        "conditions": condition_list({"Succeeded": ["True", "Completed", "words"]}),
        "trials": {"created": 1, "complete": 1},
        "best": {"trial": "rates-0", "value": "0.5", "parameters": {}},
    },
}
GPU = {"resources": {"accelerator": {"resourceName": "nvidia.com/gpu", "count": 1}}}


class Leader(Elector):
    def leading(self):
        return True


async def scrape():
    """Return what an operator answers after a pipeline's life, without an API server."""
    metrics = Metrics()
    cluster = Cluster(client.ApiClient(client.Configuration()), TokenBucket(1, 1))
    app = App(settings.read({}), cluster, metrics, Leader("team", "lease", "here"))
    close, port = await app._health.serve(0)
    try:
        ended = pipeline(conditions=TURNED, status=ENDED, spec=GPU)
        for kind, thing in (("pipeline", ended), ("job", job()), ("pod", pod())):
            app.seen(kind, "ADDED", thing)
        app.seen("sweep", "ADDED", SWEEP)
        metrics.sweep_written({**SWEEP, "status": {}}, SWEEP)
        metrics.called("list", "pods", "200", 0.01)
        metrics.reconciled("success", 0.01)
        metrics.status_written(pipeline(), pipeline(status=RETRIED))
        metrics.status_written(pipeline(status=RETRIED), ended)
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/metrics") as answer:
            return await answer.text()
    finally:
        await close()
        await cluster.close()


def test_the_page_has_every_series_of_an_operator_and_no_other():
    text = asyncio.run(scrape())
    live = exposed(text)
    assert len(live) > 40
    assert documented("Operator") == live, "run `make generate`"
    assert list(lint(text)) == []

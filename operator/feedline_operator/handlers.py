"""The watches: the only module with kopf's decorators. News goes into the store, a key onto the queue, and that is all.

Only `on.event`: it stores nothing in the objects, needs no finalizer and is as good after a restart as before it.
`feedline-operator` runs this module; `kopf run -m feedline_operator.handlers` does so as well.
"""

import itertools
from collections.abc import Iterator
from typing import Any, Final

import kopf

from feedline.contract import API_GROUP, API_VERSION, LABEL_PIPELINE, PLURAL, SWEEP_PLURAL
from feedline_operator import settings as operator_settings
from feedline_operator.app import App


class _NoDiffBase(kopf.DiffBaseStorage):
    """kopf makes a diff of every event for handlers that we have not; without it a core takes twice the events."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        return kopf.BodyEssence({})

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        return None

    def store(self, **_: Any) -> None:
        return None


class _Forever:
    """Delays between attempts to reach the API server, without end: a watch must outlive any outage."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain((0.5, 1.0, 2.0, 4.0), itertools.repeat(5.0))


_REQUEST_SECONDS: Final = 15.0


@kopf.on.startup(errors=kopf.ErrorsMode.PERMANENT)
async def start(settings: kopf.OperatorSettings, memo: kopf.Memo, **_: Any) -> None:
    """Configure kopf to watch and to do nothing else, and start the operator."""
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoDiffBase()
    settings.networking.request_timeout = _REQUEST_SECONDS
    settings.networking.error_backoffs = _Forever()
    settings.queueing.idle_timeout = 1
    settings.watching.chunk_size = 500
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 10
    for group, version, plural in (("batch", "v1", "jobs"), ("", "v1", "pods")):
        settings.watching.label_selectors[group, version, plural] = LABEL_PIPELINE
    memo.app = await App.start(operator_settings.read())


@kopf.on.cleanup()
async def stop(memo: kopf.Memo, **_: Any) -> None:
    """End the work and give the Lease up."""
    if "app" in memo:
        await memo.app.stop()


@kopf.on.login()
def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
    """Take the pod's credentials, or the kubeconfig's."""
    return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)


@kopf.on.event(API_GROUP, API_VERSION, PLURAL)
async def pipeline(event: kopf.RawEvent, memo: kopf.Memo, **_: Any) -> None:
    """Take news of a pipeline."""
    memo.app.seen("pipeline", event["type"], event["object"])


@kopf.on.event(API_GROUP, API_VERSION, SWEEP_PLURAL)
async def sweep(event: kopf.RawEvent, memo: kopf.Memo, **_: Any) -> None:
    """Take news of a sweep."""
    memo.app.seen("sweep", event["type"], event["object"])


@kopf.on.event("batch", "v1", "jobs", labels={LABEL_PIPELINE: kopf.PRESENT})
async def job(event: kopf.RawEvent, memo: kopf.Memo, **_: Any) -> None:
    """Take news of a Job."""
    memo.app.seen("job", event["type"], event["object"])


@kopf.on.event("", "v1", "pods", labels={LABEL_PIPELINE: kopf.PRESENT})
async def pod(event: kopf.RawEvent, memo: kopf.Memo, **_: Any) -> None:
    """Take news of a pod."""
    memo.app.seen("pod", event["type"], event["object"])

"""Every call to the API server but kopf's watches: the only module that knows the client.

Objects are plain dicts, errors are the project's own, and no call is retried here: whoever calls knows what has
changed meanwhile. Reads for the resync and the Lease do not take tokens, so that a burst of work delays neither.
"""

import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final
from urllib.parse import quote, urlencode

import aiohttp
from kubernetes.aio import client, config

from feedline.contract import API_GROUP, API_VERSION, LABEL_PIPELINE, PLURAL, SWEEP_PLURAL
from feedline_operator.errors import (
    BusyError,
    ClusterError,
    CredentialsError,
    ExistsError,
    GoneError,
    InvalidError,
    NamespaceGoesError,
    NotLeadingError,
    RefusedError,
    StaleError,
    UnreachableError,
)
from feedline_operator.ratelimit import TokenBucket
from feedline_operator.slim import Kind

Object = Mapping[str, Any]
Observer = Callable[[str, str, str, float], None]

TIMEOUT_SECONDS: Final = 15.0
_PAGE: Final = 500
_MERGE_PATCH: Final = "application/merge-patch+json"
_PODS, _SERVICES = ("/api/v1", "pods"), ("/api/v1", "services")
_PATHS: Final[dict[Kind, tuple[str, str]]] = {
    "pipeline": (f"/apis/{API_GROUP}/{API_VERSION}", PLURAL),
    "job": ("/apis/batch/v1", "jobs"),
    "pod": _PODS,
    "sweep": (f"/apis/{API_GROUP}/{API_VERSION}", SWEEP_PLURAL),
}
_CUSTOM: Final = frozenset({"pipeline", "sweep"})
_EVENTS: Final = ("/api/v1", "events")
_LEASES: Final = ("/apis/coordination.k8s.io/v1", "leases")


async def connect() -> client.ApiClient:
    """Return a client with the credentials of the pod, or else those of the kubeconfig (KUBECONFIG, ~/.kube/config).

    Raises
    ------
    CredentialsError
        If there are none, or none that can be used.
    """
    # Like kopf, which watches, the client asks neither the environment for a proxy nor ~/.netrc for a password; by
    # default it does so for each call, which took 6 % of the CPU in a burst. A kubeconfig's own proxy-url counts.
    configuration = client.Configuration(client_session_kwargs={"trust_env": False})
    try:
        if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
            config.load_incluster_config(configuration)
        else:
            await config.load_kube_config(client_configuration=configuration)
    except Exception as error:  # the loader stumbles over a wrong file in every way that there is
        said = " ".join(str(error).split())
        raise CredentialsError(f"KUBECONFIG: no credentials for the API server ({said}); name a kubeconfig") from error
    return client.ApiClient(configuration)


class Cluster:
    """The API server.

    Parameters
    ----------
    api
        The client.
    limit
        For everything that a pipeline causes.
    may_write
        Whether this replica may write now; asked right before each write.
    observe
        Called after each call with verb, resource, code and seconds.
    """

    def __init__(
        self,
        api: client.ApiClient,
        limit: TokenBucket,
        may_write: Callable[[], bool] = lambda: True,
        observe: Observer = lambda *_: None,
    ) -> None:
        self._api = api
        self._limit = limit
        self._may_write = may_write
        self._observe = observe

    async def close(self) -> None:
        """Close the connections."""
        await self._api.close()

    async def list_all(self, kind: Kind, namespace: str | None) -> AsyncIterator[Object]:
        """Iterate over all objects of a kind, in one namespace or (None) in all, a page at a time."""
        selector = {} if kind in _CUSTOM else {"labelSelector": LABEL_PIPELINE}
        token = ""
        while True:
            query = {"limit": str(_PAGE), **selector, **({"continue": token} if token else {})}
            page = await self._call("list", _PATHS[kind], namespace, query=query)
            for item in page["items"]:
                yield item
            token = page["metadata"].get("continue", "")
            if not token:
                return

    async def get_job(self, namespace: str, name: str) -> Object:
        """Return a Job."""
        await self._limit.take()
        return await self._call("get", _PATHS["job"], namespace, name)

    async def create_job(self, body: Object) -> Object:
        """Create a Job and return it. Raises ExistsError, RefusedError or InvalidError."""
        return await self._write("create", _PATHS["job"], body["metadata"]["namespace"], body=body)

    async def delete_job(self, namespace: str, name: str, uid: str) -> None:
        """Delete the Job with this uid; it stays until its pods are gone."""
        options = {"propagationPolicy": "Foreground", "preconditions": {"uid": uid}}
        await self._write("delete", _PATHS["job"], namespace, name, body=options)

    async def get_service(self, namespace: str, name: str) -> Object:
        """Return a Service."""
        await self._limit.take()
        return await self._call("get", _SERVICES, namespace, name)

    async def create_service(self, body: Object) -> None:
        """Create a Service. Raises ExistsError, RefusedError or InvalidError."""
        await self._write("create", _SERVICES, body["metadata"]["namespace"], body=body)

    async def evict_pod(self, namespace: str, name: str, uid: str) -> None:
        """Take the pod with this uid away; BusyError where a PodDisruptionBudget does not allow it now."""
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": name, "namespace": namespace},
            "deleteOptions": {"preconditions": {"uid": uid}},
        }
        await self._write("create", _PODS, namespace, f"{name}/eviction", body=body)

    async def get_pipeline(self, namespace: str, name: str) -> Object:
        """Return a pipeline."""
        await self._limit.take()
        return await self._call("get", _PATHS["pipeline"], namespace, name)

    async def create_pipeline(self, body: Object) -> Object:
        """Create a pipeline and return it. Raises ExistsError, RefusedError or InvalidError."""
        return await self._write("create", _PATHS["pipeline"], body["metadata"]["namespace"], body=body)

    async def patch_pipeline(self, namespace: str, name: str, uid: str, change: Object) -> Object:
        """Merge a change into the pipeline with this uid, and return it."""
        body = {**change, "metadata": {**change.get("metadata", {}), "uid": uid}}
        return await self._write("patch", _PATHS["pipeline"], namespace, name, body=body)

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str, version: str) -> None:
        """Delete a pipeline or a sweep if it is still what was seen; what it owns follows."""
        options = {"propagationPolicy": "Background", "preconditions": {"uid": uid, "resourceVersion": version}}
        await self._write("delete", _PATHS[kind], namespace, name, body=options)

    async def patch_status(self, kind: Kind, thing: Object, status: Object) -> Object:
        """Make a status equal to `status` if the pipeline or sweep is still what was seen, and return that."""
        metadata = thing["metadata"]
        body = {
            "metadata": {"resourceVersion": metadata["resourceVersion"], "uid": metadata["uid"]},
            "status": merge_patch(thing.get("status", {}), status),
        }
        name = metadata["name"] + "/status"
        return await self._write("patch", _PATHS[kind], metadata["namespace"], name, body=body)

    async def create_event(self, body: Object) -> None:
        """Create an Event."""
        await self._write("create", _EVENTS, body["metadata"]["namespace"], body=body)

    async def list_events(self, namespace: str, uid: str) -> list[Object]:
        """Return the Warning events about an object. The caller limits how often."""
        query = {"fieldSelector": f"involvedObject.uid={uid},type=Warning", "limit": "100"}
        answer = await self._call("list", _EVENTS, namespace, query=query)
        return list(answer["items"])

    async def get_lease(self, namespace: str, name: str) -> Object:
        """Return a Lease."""
        return await self._call("get", _LEASES, namespace, name)

    async def create_lease(self, body: Object) -> Object:
        """Create a Lease."""
        return await self._call("create", _LEASES, body["metadata"]["namespace"], body=body)

    async def replace_lease(self, body: Object) -> Object:
        """Replace a Lease if it is still what was read."""
        metadata = body["metadata"]
        return await self._call("update", _LEASES, metadata["namespace"], metadata["name"], body=body)

    async def _write(self, verb: str, path: tuple[str, str], namespace: str, name: str = "", *, body: Object) -> Object:
        await self._limit.take()
        if not self._may_write():
            raise NotLeadingError("this replica does not hold the Lease")
        return await self._call(verb, path, namespace, name, body=body)

    async def _call(
        self,
        verb: str,
        path: tuple[str, str],
        namespace: str | None,
        name: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: Object | None = None,
    ) -> dict[str, Any]:
        base, resource = path
        parts = [base, *(["namespaces", quote(namespace)] if namespace else []), resource, *([name] if name else [])]
        url = "/".join(parts) + (f"?{urlencode(query)}" if query else "")
        began, code = time.perf_counter(), "0"
        try:
            status, headers, content = await self._send(_METHODS[verb], url, body)
            code = str(status)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise UnreachableError(f"no answer from the API server ({type(error).__name__}: {error})") from error
        finally:
            sub = next((each for each in _SUBRESOURCES if name.endswith(each)), "")
            self._observe(verb, resource + sub, code, time.perf_counter() - began)
        if status >= 300:
            raise _error(status, headers, content, f"{verb} {resource} {namespace}/{name}")
        try:
            answer: dict[str, Any] = json.loads(content)
        except ValueError as error:
            raise UnreachableError(f"the answer to {verb} {resource} is no JSON ({error})") from None
        return answer

    async def _send(self, method: str, url: str, body: Object | None) -> tuple[int, Mapping[str, str], bytes]:
        headers = {"Accept": "application/json"}
        headers["Content-Type"] = _MERGE_PATCH if method == "PATCH" else "application/json"
        call = await self._api.param_serialize(
            method, url, header_params=headers, query_params=[], body=body, auth_settings=["BearerToken"]
        )
        answer = await self._api.call_api(*call, _request_timeout=TIMEOUT_SECONDS)
        return answer.status, answer.headers, await answer.read()


# A ValidatingAdmissionPolicy answers 422 as a schema does, and a webhook what it likes; both may change their mind.
_DENIED: Final = re.compile("denied (the )?request")
_SUBRESOURCES: Final = ("/status", "/eviction")
_METHODS: Final = {"list": "GET", "get": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}


def merge_patch(old: Object, new: Object) -> dict[str, Any]:
    """Return the JSON merge patch (RFC 7386) that turns one object into another."""
    patch: dict[str, Any] = dict.fromkeys(old.keys() - new.keys())
    for field, value in new.items():
        known = old.get(field)
        if isinstance(known, Mapping) and isinstance(value, Mapping):
            if nested := merge_patch(known, value):
                patch[field] = nested
        elif field not in old or known != value:
            patch[field] = value
    return patch


def _error(status: int, headers: Mapping[str, str], content: bytes, what: str) -> ClusterError:
    try:
        answer = json.loads(content)
    except ValueError:
        answer = {}
    answer = answer if isinstance(answer, dict) else {}
    message, reason = str(answer.get("message") or f"{what}: HTTP {status}"), answer.get("reason")
    if status == 404:
        return GoneError(message)
    if status == 409:
        return ExistsError(message) if reason == "AlreadyExists" else StaleError(message)
    if status == 422 and not _DENIED.search(message):
        return InvalidError(message)
    if status == 429 or status >= 500:
        return BusyError(message, _retry_after(headers, answer))
    return NamespaceGoesError(message) if _namespace_goes(answer) else RefusedError(message)


def _namespace_goes(answer: Mapping[str, Any]) -> bool:
    causes = (answer.get("details") or {}).get("causes") or ()
    return any(isinstance(cause, Mapping) and cause.get("reason") == "NamespaceTerminating" for cause in causes)


def _retry_after(headers: Mapping[str, str], answer: Mapping[str, Any]) -> float:
    said = headers.get("Retry-After") or (answer.get("details") or {}).get("retryAfterSeconds")
    try:
        return min(max(float(said), 0.0), 60.0) if said is not None else 0.0
    except (TypeError, ValueError):
        return 0.0

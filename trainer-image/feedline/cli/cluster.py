"""A cluster as a command sees it: one namespace, what it answers, and in which ways it can fail.

Objects are plain dicts, as the API server speaks them, and every way in which a request can fail is one of feedline's
own errors with one sentence. What objects mean, and which cluster it is, is not known here.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from feedline.cli.printable import line, sentence
from feedline.contract import API_GROUP, API_VERSION, LABEL_PIPELINE, PLURAL, SWEEP_PLURAL
from feedline.errors import EnvironmentInvalidError, FeedlineError, InputMissingError, UsageError

Object = dict[str, Any]
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_CONNECT_SECONDS: Final = 10
_READ_SECONDS: Final = 30
_TABLE: Final = "application/json;as=Table;v=v1;g=meta.k8s.io"


class Kind(NamedTuple):
    """Where the objects of a kind are found."""

    api: str
    plural: str
    namespaced: bool = True


PIPELINES: Final = Kind(f"apis/{API_GROUP}/{API_VERSION}", PLURAL)
SWEEPS: Final = Kind(f"apis/{API_GROUP}/{API_VERSION}", SWEEP_PLURAL)
JOBS: Final = Kind("apis/batch/v1", "jobs")
PODS: Final = Kind("api/v1", "pods")
EVENTS: Final = Kind("api/v1", "events")
NODES: Final = Kind("api/v1", "nodes", namespaced=False)
WORKLOADS: Final = tuple(Kind(f"apis/kueue.x-k8s.io/{version}", "workloads") for version in ("v1beta2", "v1beta1"))


class ClusterUnavailableError(FeedlineError):
    """The API server cannot be reached, or has no time (exit 75)."""


class AlreadyExistsError(UsageError):
    """An object of that name is there already (exit 64)."""


class NotPermittedError(EnvironmentInvalidError):
    """The user may not do this (exit 78)."""


class NotServedError(EnvironmentInvalidError):
    """The cluster does not know the kind (exit 78)."""


class Cluster:
    """One namespace of a cluster, with the rights of the user.

    Parameters
    ----------
    configuration
        A `kubernetes.client.Configuration`: server and credentials.
    namespace
        The namespace of all requests.
    """

    def __init__(self, configuration: Any, namespace: str) -> None:
        from kubernetes import client

        # A person waits: a refused connection is said at once.
        configuration.retries = False
        self.server = urlsplit(configuration.host).netloc
        self.namespace = namespace
        self._client: Any = client.ApiClient(configuration)

    def find(self, kind: Kind, name: str) -> Object | None:
        """Return an object, or None if there is none of that name."""
        answer = self._ask("GET", self._path(kind, name))
        return None if answer.is_missing_object else self._checked(answer, f"read {kind.plural}")

    def find_all(self, kind: Kind, *, labels: str = "", fields: str = "") -> list[Object]:
        """Return the objects that a label selector and a field selector choose."""
        answer = self._ask("GET", self._path(kind), {"labelSelector": labels, "fieldSelector": fields})
        items: list[Object] = self._checked(answer, f"list {kind.plural}")["items"]
        return items

    def pipeline(self, name: str) -> Object:
        """Return a pipeline.

        Raises
        ------
        InputMissingError
            There is none of that name.
        """
        found = self.find(PIPELINES, name)
        if found is None:
            raise InputMissingError(
                f"there is no pipeline {name} in namespace {self.namespace}; `feedline status` lists those that are"
            )
        return found

    def pods(self, pipeline: Object) -> list[Object]:
        """Return the pods of a pipeline, without those that an earlier one of its name has left."""
        metadata = pipeline["metadata"]
        since = metadata["creationTimestamp"]
        found = self.find_all(PODS, labels=f"{LABEL_PIPELINE}={metadata['name']}")
        return [pod for pod in found if pod["metadata"]["creationTimestamp"] >= since]

    def table(self, kind: Kind) -> Object:
        """Return all objects as a `meta.k8s.io/v1` Table, with the columns that `kubectl get` shows."""
        return self._checked(self._ask("GET", self._path(kind), accept=_TABLE), f"list {kind.plural}")

    def create(self, kind: Kind, document: Mapping[str, Any]) -> Object:
        """Create an object; a field that the API server does not know is refused.

        Raises
        ------
        AlreadyExistsError
            An object of that name is there.
        UsageError
            The API server has something against the document.
        """
        answer = self._ask("POST", self._path(kind), {"fieldValidation": "Strict"}, body=dict(document))
        return self._checked(answer, f"create {kind.plural}")

    def patch(self, kind: Kind, found: Object, change: Mapping[str, Any]) -> Object:
        """Merge a change into the very object that was found, and into no other one that has got its name since.

        Raises
        ------
        UsageError
            The API server has something against the change.
        """
        metadata = found["metadata"]
        body = {**change, "metadata": {"uid": metadata["uid"]}}
        answer = self._ask("PATCH", self._path(kind, metadata["name"]), body=body)
        return self._checked(answer, f"patch {kind.plural}")

    def delete(self, kind: Kind, found: Object, propagation: str) -> None:
        """Delete the very object that was found, and no other one that has got its name since.

        Parameters
        ----------
        kind, found
            The object, as `find` returned it.
        propagation
            Background or Foreground: whether it goes before what it owns, or after.
        """
        metadata = found["metadata"]
        body = {"propagationPolicy": propagation, "preconditions": {"uid": metadata["uid"]}}
        answer = self._ask("DELETE", self._path(kind, metadata["name"]), body=body)
        is_another = answer.status == 409
        if not answer.is_missing_object and not is_another:
            self._checked(answer, f"delete {kind.plural}")

    def log(self, pod: str, container: str, *, follow: bool, timestamps: bool) -> Iterator[bytes] | None:
        """Return the log of a container piece by piece, or None if the pod is gone.

        Raises
        ------
        ClusterUnavailableError
            Also for a container that has not started yet, with the kubelet's reason.
        """
        query = {"container": container, "follow": _flag(follow), "timestamps": _flag(timestamps)}
        response = self._send("GET", f"{self._path(PODS, pod)}/log", query, accept="*/*", read_seconds=None)
        if response.status == 200:
            return self._pieces(response)
        if response.status == 204:
            raise ClusterUnavailableError("no log yet: the pod waits for a node")
        answer = self._read(response)
        if answer.is_missing_object:
            return None
        if answer.status == 400:
            raise ClusterUnavailableError(f"no log yet: {answer.message}")
        self._checked(answer, "read pods/log")
        return None

    def version(self) -> tuple[int, int]:
        """Return the API server's version, such as (1, 36)."""
        document = self._checked(self._ask("GET", "/version"), "read the version")
        # Providers add a sign, as in "34+".
        major, minor = (int(re.sub(r"\D.*", "", document[part]) or 0) for part in ("major", "minor"))
        return major, minor

    def _path(self, kind: Kind, name: str | None = None) -> str:
        """Return the path of a kind or an object; names are checked, since dots and slashes would lead elsewhere."""
        for what, given in (("namespace", self.namespace), ("name", name)):
            if given is not None and not _NAME.fullmatch(given):
                raise UsageError(f'the {what} "{line(given)[:80]}" is none: it has a-z, 0-9, "-" and "." only')
        parts = [kind.api, *(["namespaces", self.namespace] if kind.namespaced else []), kind.plural]
        return "/" + "/".join([*parts, *([name] if name is not None else [])])

    def _ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: Object | None = None,
        accept: str = "application/json",
    ) -> "_Answer":
        return self._read(self._send(method, path, query or {}, body=body, accept=accept, read_seconds=_READ_SECONDS))

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        body: Object | None = None,
        accept: str,
        read_seconds: int | None,
    ) -> Any:
        """Send a request and return the answer as urllib3 has it, its body not read yet."""
        from kubernetes.client import ApiException
        from urllib3.exceptions import HTTPError

        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Accept": accept, "Content-Type": content}
        used = [(key, value) for key, value in query.items() if value]
        try:
            request = self._client.param_serialize(
                method, path, query_params=used, header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            return self._client.call_api(*request, _request_timeout=(_CONNECT_SECONDS, read_seconds)).response
        except (HTTPError, ApiException) as error:
            raise self._unavailable(error) from None

    def _read(self, response: Any) -> "_Answer":
        from urllib3.exceptions import HTTPError

        try:
            document = json.loads(response.data)
        except HTTPError as error:
            raise self._unavailable(error) from None
        except ValueError:
            document = {}
        return _Answer(response.status, document if isinstance(document, dict) else {})

    def _pieces(self, response: Any) -> Iterator[bytes]:
        from urllib3.exceptions import HTTPError

        try:
            yield from response.stream(1 << 16)
        except HTTPError as error:
            raise self._unavailable(error) from None
        finally:
            response.close()

    def _checked(self, answer: "_Answer", doing: str) -> Object:
        """Return the answer's document, or raise what its status code means."""
        if 200 <= answer.status < 300:
            return answer.document
        match answer.status:
            case 401:
                raise NotPermittedError(f"{self.server} does not know who you are: renew the kubeconfig's credentials")
            case 403:
                raise NotPermittedError(f"you may not {doing} in namespace {self.namespace}: {answer.message}")
            case 404 if not answer.is_missing_object:
                raise NotServedError(
                    f"{self.server} cannot {doing}: it does not know that kind. "
                    "Is it the right --context, and is feedline installed there?"
                )
            case 409 if answer.document.get("reason") == "AlreadyExists":
                raise AlreadyExistsError(answer.message)
            case 429 | 500 | 502 | 503 | 504:
                raise ClusterUnavailableError(f"{self.server} cannot {doing} now: {answer.message}; try again")
            case _:
                raise UsageError(answer.message)

    def _unavailable(self, error: Exception) -> ClusterUnavailableError:
        cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
        reason = getattr(cause, "strerror", None) or getattr(cause, "reason", None) or cause
        return ClusterUnavailableError(
            f"the API server {self.server} cannot be reached ({sentence(str(reason), 200)}): "
            "is the cluster up, and is it the right --context?"
        )


class _Answer(NamedTuple):
    status: int
    document: Object

    @property
    def message(self) -> str:
        return sentence(str(self.document.get("message") or f"HTTP {self.status}"), 2000)

    @property
    def is_missing_object(self) -> bool:
        """Tell "no object of that name" from "no such kind", which names none."""
        return self.status == 404 and bool((self.document.get("details") or {}).get("name"))


def _flag(value: bool) -> str:  # noqa: FBT001 - a value, not a switch
    return "true" if value else ""

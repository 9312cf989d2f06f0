"""The API server by plain HTTP, as cluster-admin: tests poll a lot, and kubectl costs a tenth of a second of CPU a call.

It knows neither retries nor watches, and no errors but those that the server says.
"""

import contextlib
import http.client
import json
import ssl
import threading
from urllib.parse import urlencode, urlsplit

from cluster.api import ApiCluster
from cluster.errors import ClusterError

MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
PIPELINES = "/apis/feedline.dev/v1alpha1"
JOBS = "/apis/batch/v1"
CORE = "/api/v1"


class Rest:
    """Calls to one API server; may be used by several threads, each of which keeps a connection."""

    def __init__(self, cluster: ApiCluster) -> None:
        self._address = urlsplit(cluster.url).netloc
        self._headers = {"Authorization": f"Bearer {cluster._token}"}
        self._trusting = ssl._create_unverified_context()
        self._mine = threading.local()

    def ask(
        self, method: str, path: str, body: object = None, *, content: str = "application/json", **query: str
    ) -> tuple[int, dict]:
        """Return the code and the document that the server answers, whatever they are."""
        text = None if body is None else json.dumps(body)
        url = path + (f"?{urlencode(query)}" if query else "")
        headers = {**self._headers, "Content-Type": content}
        kept = getattr(self._mine, "connection", None)
        if kept is not None:
            # The server may have closed it since.
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                return self._ask(kept, method, url, text, headers)
        self._mine.connection = http.client.HTTPSConnection(self._address, timeout=300, context=self._trusting)
        return self._ask(self._mine.connection, method, url, text, headers)

    @staticmethod
    def _ask(
        connection: http.client.HTTPSConnection, method: str, url: str, text: str | None, headers: dict
    ) -> tuple[int, dict]:
        try:
            connection.request(method, url, body=text, headers=headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        except (OSError, http.client.HTTPException):
            connection.close()
            raise

    def do(self, method: str, path: str, body: object = None, **options: str) -> dict:
        """Return the document that the server answers; raises ClusterError with its message if it refuses."""
        code, document = self.ask(method, path, body, **options)
        if code >= http.HTTPStatus.BAD_REQUEST:
            raise ClusterError(f"{method} {path}: {document.get('message', code)}")
        return document

    def find(self, path: str) -> dict | None:
        """Return an object, None if there is none."""
        code, document = self.ask("GET", path)
        if code == http.HTTPStatus.NOT_FOUND:
            return None
        if code >= http.HTTPStatus.BAD_REQUEST:
            raise ClusterError(f"GET {path}: {document.get('message', code)}")
        return document

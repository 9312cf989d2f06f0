"""The API server by plain HTTP, as cluster-admin: tests poll a lot, and kubectl costs a tenth of a second of CPU a call.

It knows neither retries nor watches, and no errors but those that the server says.
"""

import http.client
import json
import ssl
from urllib.parse import urlencode, urlsplit

from cluster.api import ApiCluster
from cluster.errors import ClusterError

MERGE_PATCH = "application/merge-patch+json"
PIPELINES = "/apis/feedline.dev/v1alpha1"
JOBS = "/apis/batch/v1"
CORE = "/api/v1"


class Rest:
    """Calls to one API server; may be used by several threads."""

    def __init__(self, cluster: ApiCluster) -> None:
        self._address = urlsplit(cluster.url).netloc
        self._headers = {"Authorization": f"Bearer {cluster._token}", "Content-Type": "application/json"}
        self._trusting = ssl._create_unverified_context()

    def ask(
        self, method: str, path: str, body: object = None, *, content: str = "application/json", **query: str
    ) -> tuple[int, dict]:
        """Return the code and the document that the server answers, whatever they are."""
        connection = http.client.HTTPSConnection(self._address, timeout=60, context=self._trusting)
        try:
            text = None if body is None else json.dumps(body)
            url = path + (f"?{urlencode(query)}" if query else "")
            connection.request(method, url, body=text, headers={**self._headers, "Content-Type": content})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

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

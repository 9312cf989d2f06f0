"""The measuring side's own way to the API server: as cluster-admin, in bulk, with as little work a call as Python can.

It shares nothing with the operator's client, so that neither measures the other.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Iterable
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml
from cluster.api import ApiCluster
from cluster.errors import ClusterError

AT_ONCE = 16
PAGE = 500


class Client:
    """Calls to one API server, from `async with` to the end of the block."""

    def __init__(self, cluster: ApiCluster) -> None:
        token = yaml.safe_load(cluster.kubeconfig.read_text())["users"][0]["user"]["token"]
        self._url = cluster.url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._trust = ssl.create_default_context(cafile=str(cluster.certificate))

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(ssl=self._trust, limit=AT_ONCE)
        self._session = aiohttp.ClientSession(connector=connector, headers=self._headers)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._session.close()

    async def call(
        self, method: str, path: str, body: object = None, content_type: str = "application/json"
    ) -> dict[str, Any]:
        """Return the answer to one call; raise ClusterError where it is refused."""
        data = None if body is None else json.dumps(body)
        async with self._session.request(
            method, self._url + path, data=data, headers={"Content-Type": content_type}
        ) as answer:
            document = await answer.json()
            if answer.status >= 300:
                raise ClusterError(f"{method} {path}: {document.get('message', answer.status)}")
            return document

    async def items(self, path: str, selector: str = "") -> AsyncIterator[dict[str, Any]]:
        """Iterate over a collection, a page at a time."""
        token = ""
        while True:
            page = await self.call("GET", f"{path}?limit={PAGE}&labelSelector={selector}&continue={token}")
            for item in page["items"]:
                yield item
            token = page["metadata"].get("continue", "")
            if not token:
                return


async def all_of(calls: Iterable[Awaitable[Any]]) -> list[Any]:
    """Await everything, some at a time, and return the answers in order."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(call: Awaitable[Any]) -> Any:
        async with gate:
            return await call

    return await asyncio.gather(*map(one, calls))

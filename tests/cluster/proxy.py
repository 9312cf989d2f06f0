"""A proxy in front of the API server that loses, delays, refuses and forges what a network and a busy server do.

It passes on everything until told otherwise, watches line by line. Faults are small functions around a request; they
run in the proxy's thread, in order of `inject`, the first one that is due has the request. It knows nothing of what
the client is.
"""

import asyncio
import contextlib
import json
import ssl
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

from cluster.api import ApiCluster

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
_KEPT_HEADERS = ("Authorization", "Content-Type", "Accept")
_EXPIRED = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Expired", "code": 410}


@dataclass
class Request:
    """A request as the audit log would call it.

    Attributes
    ----------
    resource
        With its subresource, such as ``trainingpipelines/status``.
    name
        Of the object, also where it is about to be created.
    code
        What the API server answered, 0 while it has not, or was not asked.
    """

    verb: str
    resource: str
    namespace: str
    name: str
    code: int = field(default=0, compare=False)

    @property
    def writes(self) -> bool:
        """Whether it changes something about a pipeline."""
        return self.verb in _VERBS.values() and self.resource != "leases"


Answer = web.StreamResponse
Forward = Callable[[], Awaitable[Answer]]
Fault = Callable[[Request, Forward], Awaitable[Answer]]
Matches = Callable[[Request], bool]


@dataclass
class _Injected:
    fault: Fault
    matches: Matches
    skip: int
    times: int


class Proxy:
    """A proxy, from `with` to the end of the block.

    Attributes
    ----------
    url
        Its address, for `ApiCluster.kubeconfig_for`.
    requests
        What came, in order; watches and discovery included.
    hides
        Whether to leave an event of a watch out (given kind and event); nothing is left out at first.
    """

    def __init__(self, cluster: ApiCluster) -> None:
        self._upstream = cluster.url
        self._certificate = cluster.certificate
        self._faults: list[_Injected] = []
        self._streams: set[asyncio.Task] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._expired = False
        self.requests: list[Request] = []
        self.hides: Callable[[str, dict], bool] = lambda kind, event: False

    def __enter__(self) -> Self:
        self._thread.start()
        self.url = asyncio.run_coroutine_threadsafe(self._start(), self._loop).result(30)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)
        self._loop.close()

    # --- what tests use ----------------------------------------------------------------------------------------------

    def inject(
        self, fault: Fault, matches: Matches = lambda request: request.writes, *, skip: int = 0, times: int = 1
    ) -> None:
        """Let a fault have the next requests that match, after those to skip."""
        self._faults.append(_Injected(fault, matches, skip, times))

    @property
    def pending(self) -> bool:
        """Whether a fault has not had all of its requests yet."""
        return bool(self._faults)

    def end_watches(self, *, expired: bool = False) -> None:
        """Cut all watches off; or end them by the word that their place in history is gone (410)."""

        def end() -> None:
            self._expired = expired
            for stream in self._streams:
                stream.cancel()

        self._loop.call_soon_threadsafe(end)

    # --- the server --------------------------------------------------------------------------------------------------

    async def _start(self) -> str:
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trusting, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            read_bufsize=2**22,  # a line of a watch is a whole object
        )
        application = web.Application(client_max_size=2**24)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await self._runner.setup()
        own = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        own.load_cert_chain(self._certificate, self._certificate.with_suffix(".key"))
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=own)
        await site.start()
        return f"https://127.0.0.1:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        for stream in self._streams:
            stream.cancel()
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, incoming: web.Request) -> Answer:
        body = await incoming.read()
        request = _parse(incoming, body)
        self.requests.append(request)

        async def forward() -> Answer:
            if request.verb == "watch":
                return await self._watch(incoming, request)
            return await self._forward(incoming, body, request)

        return await self._fault_of(request)(request, forward)

    def _fault_of(self, request: Request) -> Fault:
        for injected in list(self._faults):
            if not injected.matches(request):
                continue
            if injected.skip:
                injected.skip -= 1
                continue
            injected.times -= 1
            if not injected.times:
                self._faults.remove(injected)
            return injected.fault
        return _pass

    async def _forward(self, incoming: web.Request, body: bytes, request: Request) -> Answer:
        try:
            async with self._send(incoming, body) as answer:
                request.code = answer.status
                headers = {
                    name: answer.headers[name] for name in ("Content-Type", "Retry-After") if name in answer.headers
                }
                return web.Response(status=answer.status, headers=headers, body=await answer.read())
        except aiohttp.ClientError:
            return _cut_off(incoming)

    async def _watch(self, incoming: web.Request, request: Request) -> Answer:
        task = asyncio.current_task()
        self._streams.add(task)
        outgoing = web.StreamResponse(headers={"Content-Type": "application/json"})
        try:
            async with self._send(incoming, b"") as answer:
                outgoing.set_status(answer.status)
                await outgoing.prepare(incoming)
                request.code = answer.status
                async for line in answer.content:
                    if not self.hides(request.resource, json.loads(line)):
                        await outgoing.write(line)
        except aiohttp.ClientError:
            return _cut_off(incoming)
        except asyncio.CancelledError:
            task.uncancel()
            if not self._expired:
                return _cut_off(incoming)
            await outgoing.write(json.dumps({"type": "ERROR", "object": _EXPIRED}).encode() + b"\n")
        finally:
            self._streams.discard(task)
        await outgoing.write_eof()
        return outgoing

    def _send(self, incoming: web.Request, body: bytes):
        headers = {name: incoming.headers[name] for name in _KEPT_HEADERS if name in incoming.headers}
        headers["Accept-Encoding"] = "identity"
        url = URL(self._upstream + incoming.raw_path, encoded=True)
        return self._session.request(incoming.method, url, headers=headers, data=body or None)


# --- faults ----------------------------------------------------------------------------------------------------------


def answers(code: int, reason: str, **headers: str) -> Fault:
    """Refuse a request in the API server's name."""

    async def fault(request: Request, forward: Forward) -> Answer:
        status = {"kind": "Status", "status": "Failure", "message": f"forged {reason}", "reason": reason, "code": code}
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.json_response(status, status=code, headers=named)

    return fault


def late_by(seconds: float) -> Fault:
    """Pass a request on after a while."""

    async def fault(request: Request, forward: Forward) -> Answer:
        await asyncio.sleep(seconds)
        return await forward()

    return fault


def instead(act: Callable[[], None]) -> Fault:
    """Do something, and never pass the request on."""

    async def fault(request: Request, forward: Forward) -> Answer:
        act()
        return web.Response(status=503)

    return fault


def afterwards(act: Callable[[], None]) -> Fault:
    """Pass a request on, and do something before the client has the answer; the answer does not arrive."""

    async def fault(request: Request, forward: Forward) -> Answer:
        await forward()
        act()
        return web.Response(status=503)

    return fault


async def _pass(request: Request, forward: Forward) -> Answer:
    return await forward()


def _parse(incoming: web.Request, body: bytes) -> Request:
    parts = urlsplit(incoming.raw_path).path.strip("/").split("/")
    rest = parts[2:] if parts[0] == "api" else parts[3:]
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource, name, sub = (*rest, "", "", "")[:3]
    if incoming.method == "POST":
        name = json.loads(body)["metadata"]["name"]
    verb = _VERBS.get(incoming.method) or ("get" if name else "list")
    if incoming.query.get("watch") in {"1", "true"}:
        verb = "watch"
    return Request(verb, resource + (f"/{sub}" if sub else ""), namespace, name)


def _cut_off(incoming: web.Request) -> Answer:
    """Close the client's connection in the middle."""
    with contextlib.suppress(AttributeError):
        incoming.transport.abort()
    return web.Response(status=503)

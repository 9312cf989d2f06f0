"""Asks running trainers for their feed: now and then, a few at a time, and never with consequences.

A trainer that does not answer, or answers nonsense, is not a fault of the pipeline; its numbers are just not known.
The address comes from the pod's status and the answer from a stranger: no redirects, no proxies, no compression, a
bounded number of bytes, two seconds.
"""

import asyncio
import contextlib
import ipaddress
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp

from feedline.contract import METRICS_PORT
from feedline_operator.reconcile import Sample
from feedline_operator.store import Key
from feedline_operator.untrusted import MAX_REPORT_BYTES, parse_report

TIMEOUT_SECONDS: Final = 2.0
_AT_ONCE: Final = 16

Tell = Callable[[Key, Sample], None]


class Progress:
    """Follows running pipelines.

    Parameters
    ----------
    interval_seconds
        How often each is asked; up to a fifth longer, by chance.
    tell
        Called with each sample.
    """

    def __init__(self, interval_seconds: float, tell: Tell, port: int = METRICS_PORT) -> None:
        self._interval = interval_seconds
        self._tell = tell
        self._port = port
        self._followed: dict[Key, tuple[tuple[str, str], asyncio.Task[None]]] = {}
        self._at_once = asyncio.Semaphore(_AT_ONCE)
        self._session: aiohttp.ClientSession | None = None

    def follow(self, key: Key, target: tuple[str, str] | None) -> None:
        """Ask this trainer (pod uid, address) from now on, and no other of the pipeline; None asks nobody."""
        known = self._followed.get(key)
        if known is not None and known[0] == target:
            return
        if known is not None:
            known[1].cancel()
            del self._followed[key]
        if target is not None:
            task = asyncio.create_task(
                self._ask_repeatedly(key, *target), name=f"progress of {key.namespace}/{key.name}"
            )
            self._followed[key] = (target, task)

    async def close(self) -> None:
        """Stop asking."""
        tasks = [task for _, task in self._followed.values()]
        self._followed.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _ask_repeatedly(self, key: Key, uid: str, address: str) -> None:
        # Sooner at first: whoever starts a pipeline wants to see it train.
        await asyncio.sleep(self._interval * random.uniform(0.2, 0.4))  # noqa: S311
        while True:
            report = None
            async with self._at_once:
                # Whatever a stranger's server does: it has no numbers for us.
                with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, ValueError):
                    report = await self._ask(address)
            if report:
                self._tell(key, Sample(uid, datetime.now(UTC), report))
            await asyncio.sleep(self._interval * random.uniform(1.0, 1.2))  # noqa: S311

    async def _ask(self, address: str) -> dict[str, Any] | None:
        host = ipaddress.ip_address(address)
        host = getattr(host, "ipv4_mapped", None) or host
        if host.is_loopback or host.is_link_local or host.is_multicast or host.is_unspecified:
            return None
        name = f"[{host}]" if host.version == 6 else str(host)
        async with self._open().get(f"http://{name}:{self._port}/feed", allow_redirects=False) as answer:
            if answer.status != 200:
                return None
            content = bytearray()
            async for chunk in answer.content.iter_chunked(MAX_REPORT_BYTES):
                content += chunk
                if len(content) > MAX_REPORT_BYTES:
                    return None
            return parse_report(bytes(content))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=TIMEOUT_SECONDS),
                trust_env=False,
                auto_decompress=False,
                headers={"Accept-Encoding": "identity"},
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

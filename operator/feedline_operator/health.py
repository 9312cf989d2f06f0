"""Whether this process is of use, for the kubelet, and the numbers, for Prometheus: one small HTTP server.

A process is unhealthy where a restart would help: its event loop hangs, a part of it has died, its watches are silent,
its queue is stuck. It is not unhealthy because the API server is away, or because another replica leads.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohttp import web

from feedline_operator.lease import Elector
from feedline_operator.metrics import Metrics
from feedline_operator.queue import WorkQueue
from feedline_operator.resync import Resync
from feedline_operator.settings import SettingsError

_TICK_SECONDS: Final = 1.0
_MAX_LAG_SECONDS: Final = 10.0
_MAX_QUEUE_SECONDS: Final = 300.0
_MAX_MISSED: Final = 2


class Health:
    """Answers the probes.

    Parameters
    ----------
    tasks
        Tasks that run as long as the operator does.
    """

    def __init__(
        self,
        queue: WorkQueue,
        sweeps: WorkQueue,
        resync: Resync,
        elector: Elector,
        metrics: Metrics,
        tasks: Sequence[asyncio.Task[None]],
    ) -> None:
        self._tasks = tasks
        self._queues = {"pipeline": queue, "sweep": sweeps}
        self._resync = resync
        self._elector = elector
        self._metrics = metrics
        self._lag = 0.0
        metrics.gauge("feedline_operator_active", "1 where this replica leads.", lambda: float(elector.leading()))
        metrics.gauge("feedline_operator_queue_length", "Pipelines that wait for a worker.", lambda: len(queue))
        metrics.gauge(
            "feedline_operator_queue_oldest_seconds",
            "How long the oldest pipeline has been waiting for a worker.",
            lambda: queue.oldest_seconds() if elector.leading() else 0.0,
        )
        metrics.gauge(
            "feedline_operator_loop_lag_seconds", "How late the event loop was in the last second.", lambda: self._lag
        )

    async def measure(self) -> None:
        """Measure the event loop's lag until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _TICK_SECONDS
            await asyncio.sleep(_TICK_SECONDS)
            self._lag = loop.time() - due

    def problems(self) -> list[str]:
        """Return what a restart would help against."""
        problems = [f"{task.get_name()} has ended" for task in self._tasks if task.done()]
        if self._lag > _MAX_LAG_SECONDS:
            problems.append(f"the event loop is {self._lag:.0f} s late")
        if self._resync.missed_in_a_row >= _MAX_MISSED:
            problems.append("the watches miss changes")
        for kind, queue in self._queues.items():
            if self._elector.leading() and (waited := queue.oldest_seconds()) > _MAX_QUEUE_SECONDS:
                problems.append(f"a {kind} has been waiting for a worker for {waited:.0f} s")
        return problems

    async def serve(self, port: int) -> tuple[Callable[[], Awaitable[None]], int]:
        """Start to listen; return what ends it, and the port.

        Raises
        ------
        SettingsError
            The port is taken, or not ours to take.
        """
        application = web.Application()
        application.router.add_get("/metrics", self._answer_metrics)
        application.router.add_get("/healthz", self._answer(self.problems))
        application.router.add_get("/readyz", self._answer(self._not_ready))
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, None, port)
        try:
            await site.start()
        except OSError as error:
            await runner.cleanup()
            raise SettingsError(f"FEEDLINE_PORT: cannot listen on port {port} ({error.strerror})") from None
        # Of port 0, IPv4 and IPv6 each make a port of their own, in any order; IPv4's addresses are the shorter ones.
        return runner.cleanup, min(runner.addresses, key=len)[1]

    def _not_ready(self) -> list[str]:
        return [] if self._resync.synced.is_set() else ["the cluster has not been read yet"]

    async def _answer_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4"})

    @staticmethod
    def _answer(ask: Callable[[], list[str]]) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(_: web.Request) -> web.Response:
            problems = ask()
            return web.Response(
                text="".join(f"{line}\n" for line in problems or ["ok"]), status=503 if problems else 200
            )

        return answer

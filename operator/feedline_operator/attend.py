"""Works on keys of a queue, several at once; whatever goes wrong with one, comes back to it later."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Literal

from feedline_operator.errors import (
    BusyError,
    ChildRefusedError,
    ClusterError,
    GoneError,
    NotLeadingError,
    StaleError,
)
from feedline_operator.queue import WorkQueue
from feedline_operator.store import Key

logger = logging.getLogger(__name__)

Result = Literal["success", "conflict", "refused", "error", "fault", "not_leading"]


async def attend(
    queue: WorkQueue,
    reconcile: Callable[[Key], Awaitable[None]],
    reconciled: Callable[[str, float], None],
    workers: int,
) -> None:
    """Work on what a queue gives until cancelled.

    Parameters
    ----------
    reconcile
        Looks at a key, and does what there is to do.
    reconciled
        Called with how each look ended and the seconds that it took.
    workers
        How many keys are worked on at once.
    """
    queue.restart()
    async with asyncio.TaskGroup() as group:
        for number in range(workers):
            group.create_task(_work(queue, reconcile, reconciled), name=f"worker {number}")


async def _work(
    queue: WorkQueue, reconcile: Callable[[Key], Awaitable[None]], reconciled: Callable[[str, float], None]
) -> None:
    while True:
        key = await queue.get()
        began = time.perf_counter()
        result: Result = "error"
        try:
            result = await _look(queue, key, reconcile)
        finally:
            queue.done(key)
            reconciled(result, time.perf_counter() - began)


async def _look(queue: WorkQueue, key: Key, reconcile: Callable[[Key], Awaitable[None]]) -> Result:
    try:
        await reconcile(key)
    except NotLeadingError:
        # Whoever leads looks at everything when it begins.
        return "not_leading"
    except (StaleError, GoneError):
        queue.retry(key)
        return "conflict"
    except ClusterError as error:
        patience = error.retry_after_seconds if isinstance(error, BusyError) else 0.0
        delay = queue.retry(key, patience)
        logger.warning("%s/%s: %s; again in %.0f s", *key, error, delay)
        return "refused" if isinstance(error, ChildRefusedError) else "error"
    except Exception:
        delay = queue.retry(key)
        logger.exception("%s/%s: not reconciled, which is a fault of the operator; again in %.0f s", *key, delay)
        return "fault"
    queue.forget(key)
    return "success"

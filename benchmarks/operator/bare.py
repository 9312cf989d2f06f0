"""The least that an operator can do: for each pipeline that it is told of, create the Job and write the status.

A program of its own, with the operator's client, limiter and settings, and neither watches nor a store nor decisions:
``python bare.py`` reads a line of JSON with the status, then pipelines, a line each. It writes "ready", and at the end
of its input the CPU seconds that they took.
"""

import asyncio
import json
import sys
import time

from feedline_operator import settings
from feedline_operator.build import build_job
from feedline_operator.cluster import Cluster, connect
from feedline_operator.ratelimit import TokenBucket


async def main() -> None:
    own = settings.read()
    cluster = Cluster(await connect(), TokenBucket(own.calls_per_second, own.calls_burst))
    queue: asyncio.Queue[dict | None] = asyncio.Queue()
    status = json.loads(await asyncio.to_thread(sys.stdin.readline))
    before = time.process_time()
    print("ready", flush=True)
    async with asyncio.TaskGroup() as group:
        for _ in range(own.workers):
            group.create_task(_work(cluster, queue, status, own.images))
        while line := await asyncio.to_thread(sys.stdin.readline):
            queue.put_nowait(json.loads(line))
        for _ in range(own.workers):
            queue.put_nowait(None)
    print(time.process_time() - before)
    await cluster.close()


async def _work(cluster: Cluster, queue: asyncio.Queue[dict | None], status: dict, images: dict) -> None:
    while (pipeline := await queue.get()) is not None:
        image = images[pipeline["spec"]["backend"]]
        await cluster.create_job(build_job(pipeline, image=image, retries=3, active_deadline_seconds=None))
        await cluster.patch_status(pipeline, status)


if __name__ == "__main__":
    asyncio.run(main())

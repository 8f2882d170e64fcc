"""`python -m loadtests.cancel`: how long after a cancel was acknowledged anything is still drawn.

Beside `sfumato up`, in its folder. It listens to the service's own messages: a client is told
nothing of a job that has ended, but a replica that goes on drawing goes on telling of progress. Of
what a replica drops it finishes at most the step that it is making.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Annotated, Any

import httpx2
import numpy as np
import orjson
import redis.asyncio as redis
import typer

from loadtests.events.service import Service
from serve.events.bus import EVENTS
from serve.local.valkey import LocalValkey

BODY = {"prompt": "red heart", "n": 4, "num_inference_steps": 150}
SILENCE_S = 1.5


def main(
    key: Annotated[str, typer.Option(envvar="SFUMATO_API_KEY", help="A key of the service.")],
    url: Annotated[str, typer.Option(help="Where it listens.")] = "http://127.0.0.1:8000",
    data_dir: Annotated[Path, typer.Option(envvar="SFUMATO_DATA_DIR")] = Path(".sfumato"),
    number: Annotated[int, typer.Option(help="Jobs to cancel, one after another.")] = 40,
) -> None:
    """Milliseconds from the answer to DELETE to the last sign of drawing."""
    asyncio.run(run(Service(url, key), LocalValkey(data_dir).url, number))


async def run(service: Service, redis_url: str, number: int) -> None:
    async with (
        service.client() as client,
        redis.from_url(redis_url) as valkey,
        valkey.pubsub(ignore_subscribe_messages=True) as messages,
    ):
        await messages.subscribe(EVENTS)
        effects = [await cancel_one(client, messages) for _ in range(number)]
    p50, p95 = np.percentile(effects, [50, 95])
    typer.echo(f"{number} cancels: p50 {p50:.0f} ms, p95 {p95:.0f} ms, max {max(effects):.0f} ms")


async def cancel_one(client: httpx2.AsyncClient, messages: Any) -> float:
    answer = await client.post("/v1/jobs", json=BODY)
    answer.raise_for_status()
    job_id = answer.json()["id"]
    while not await draws(messages, job_id, 30):
        pass
    (await client.delete(f"/v1/jobs/{job_id}")).raise_for_status()
    acknowledged = last = time.perf_counter()
    while time.perf_counter() - last < SILENCE_S:
        if await draws(messages, job_id, SILENCE_S):
            last = time.perf_counter()
    return (last - acknowledged) * 1e3


async def draws(messages: Any, job_id: str, timeout_s: float) -> bool:
    """Whether the next message is of the job's progress."""
    message = await messages.get_message(timeout=timeout_s)
    if message is None:
        return False
    event = orjson.loads(message["data"])
    return bool(event["job_id"] == job_id and event["type"] == "image.progress")


if __name__ == "__main__":
    typer.run(main)

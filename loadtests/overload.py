"""`python -m loadtests.overload`: what a service does with five times what it can draw.

Beside a service whose door closes early, `SFUMATO_JOBS__MAX_WAIT_S=5 sfumato up`: first as many
requests as it can take, then five times as many, in one run.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from typing import Annotated

import aiohttp
import numpy as np
import typer
import uvloop

from loadtests.events.service import Service

Body = dict[str, str | int]
WAITING = 24
"""Requests that wait at once, to find out what the service can draw."""
FILLING_S = 5.0
"""Until steps are full, in either part."""
_CONNECTIONS = 200
_PATIENCE = aiohttp.ClientTimeout(total=120)


def main(
    key: Annotated[str, typer.Option(envvar="SFUMATO_API_KEY", help="A key of the service.")],
    url: Annotated[str, typer.Option(help="Where it listens.")] = "http://127.0.0.1:8000",
    seconds: Annotated[float, typer.Option(help="How long each part lasts.")] = 60,
    times: Annotated[float, typer.Option(help="Load of the second part, in capacities.")] = 5,
    steps: Annotated[int, typer.Option(help="Of each picture.")] = 2,
) -> None:
    """Goodput at capacity and at a multiple of it, and how fast the rest is refused."""
    uvloop.run(run(Service(url, key), seconds, times, steps))


async def run(service: Service, seconds: float, times: float, steps: int) -> None:
    body: Body = {"prompt": "red heart", "num_inference_steps": steps}
    # What a request costs here is taken from who draws on the same cores: a third of httpx's.
    async with aiohttp.ClientSession(
        service.url,
        headers=service.headers,
        timeout=_PATIENCE,
        connector=aiohttp.TCPConnector(limit=_CONNECTIONS),
    ) as client:
        capacity = await at_capacity(client, seconds, body)
        typer.echo(f"at capacity: {capacity:.2f} pictures a second, {WAITING} clients waiting")
        load = asyncio.create_task(overloaded(client, FILLING_S + seconds, times * capacity, body))
        goodput = await pictures_a_second(client, seconds)
        latencies, statuses, advice = await load
    typer.echo(
        f"at {times:g} times that: {goodput:.2f} a second, {goodput / capacity:.2f} of capacity;"
        f" answers {dict(sorted(statuses.items()))}"
    )
    for status, times_ms in sorted(latencies.items()):
        p50, p99 = np.percentile(times_ms, [50, 99])
        typer.echo(f"  {status}: p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    if advice:
        typer.echo(f"  Retry-After {min(advice)} to {max(advice)} s")


async def at_capacity(client: aiohttp.ClientSession, seconds: float, body: Body) -> float:
    """Pictures a second while somebody always waits."""

    async def ask() -> None:
        while True:
            async with client.post("/v1/images/generations", json=body) as answer:
                await answer.read()

    asking = [asyncio.create_task(ask()) for _ in range(WAITING)]
    try:
        return await pictures_a_second(client, seconds)
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)


async def overloaded(
    client: aiohttp.ClientSession, seconds: float, per_second: float, body: Body
) -> tuple[dict[int, list[float]], Counter[int], list[int]]:
    """Submissions at an even rate, whatever becomes of them: milliseconds by status."""
    latencies: dict[int, list[float]] = {}
    advice: list[int] = []

    async def submit() -> None:
        began = time.perf_counter()
        async with client.post("/v1/jobs", json=body) as answer:
            await answer.read()
        latencies.setdefault(answer.status, []).append((time.perf_counter() - began) * 1e3)
        if "Retry-After" in answer.headers:
            advice.append(int(answer.headers["Retry-After"]))

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds * per_second)):
            await asyncio.sleep(max(0.0, began + number / per_second - time.perf_counter()))
            group.create_task(submit())
    return latencies, Counter({status: len(each) for status, each in latencies.items()}), advice


async def pictures_a_second(client: aiohttp.ClientSession, seconds: float) -> float:
    """Once steps are full."""
    await asyncio.sleep(FILLING_S)
    before, began = await succeeded(client), time.perf_counter()
    await asyncio.sleep(seconds)
    return (await succeeded(client) - before) / (time.perf_counter() - began)


async def succeeded(client: aiohttp.ClientSession) -> float:
    """Jobs of the service that ended well, ever."""
    async with client.get("/metrics") as answer:
        text = await answer.text()
    found = re.search(r'^sfumato_jobs\{state="succeeded"[^}]*\} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


if __name__ == "__main__":
    typer.run(main)

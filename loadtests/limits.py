"""`python -m loadtests.limits`: whether several ingress processes together keep a rate limit.

Starts its own Postgres, Valkey and four ingress processes without Ray, and asks all of them at
once for five times what one tenant may use. Nothing is drawn.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import httpx2
import numpy as np
import typer
import uvicorn
from fastapi import FastAPI

from serve.access.remembered import FRESH_S
from serve.api.app import create_app
from serve.api.services import open_services
from serve.local.port import free_port
from serve.local.postgres import LocalPostgres
from serve.local.valkey import LocalValkey
from serve.migrations.upgrade import upgrade
from serve.observability.logging import configure_logging
from serve.settings import Settings

KEY = "sfm_load_test_of_rate_limits"
BODY = {"prompt": "red heart", "num_inference_steps": 4}
PER_SECOND = 10
"""Jobs that the tenant may submit, by their price."""
BURST = 20


def ingress() -> FastAPI:
    """What each process serves."""
    configure_logging("json")
    return create_app(open_services(Settings()))


def main(
    processes: Annotated[int, typer.Option(help="Ingress processes.")] = 4,
    seconds: Annotated[float, typer.Option(help="How long they are asked.")] = 20,
    times: Annotated[float, typer.Option(help="Load, in limits.")] = 5,
) -> None:
    """How many jobs were let in beside how many may be, and how fast the rest was refused."""
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="sfumato-limits-")))
        folder.chmod(0o755)
        postgres, valkey = LocalPostgres(folder), LocalValkey(folder)
        parts.enter_context(postgres)
        parts.enter_context(valkey)
        asyncio.run(upgrade(postgres.url))
        environment = {
            "DATABASE_URL": postgres.url,
            "REDIS_URL": valkey.url,
            "SFUMATO_DATA_DIR": str(folder),
            "SFUMATO_API_KEY": KEY,
            "SFUMATO_JOBS__MAX_WAIT_S": "1e9",
        }
        urls = [parts.enter_context(_process(environment)) for _ in range(processes)]
        asyncio.run(run(urls, seconds, times))


async def run(urls: list[str], seconds: float, times: float) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx2.AsyncClient(headers=headers, timeout=30, trust_env=False) as client:
        for url in urls:
            await _answering(client, url)
        await ask(client, urls, 2, times * PER_SECOND)  # connections, caches, imports
        price = await _limit(client, urls[0])
        let_in, latencies = await ask(client, urls, seconds, times * PER_SECOND)
    may = BURST + PER_SECOND * (let_in[-1] - let_in[0])
    typer.echo(
        f"{len(urls)} processes, {times:g} times the limit, jobs of {price:.4g} GPU seconds:"
        f" {len(let_in)} let in where {may:.1f} may be, {len(let_in) / may:.4f}"
    )
    for status, each in sorted(latencies.items()):
        p50, p99 = np.percentile(each, [50, 99])
        typer.echo(f"  {status}: {len(each)}, p50 {p50:.1f} ms, p99 {p99:.1f} ms")
    typer.echo(f"  load average {os.getloadavg()[0]:.1f}")


async def _limit(client: httpx2.AsyncClient, url: str) -> float:
    """Limits the tenant by what a job turned out to cost, which is returned."""
    usage = (await client.get(f"{url}/v1/usage")).json()
    price: float = usage["gpu_seconds"] / usage["jobs"]
    limits = {
        "gpu_seconds_per_minute": 60 * PER_SECOND * price,
        "gpu_seconds_burst": BURST * price,
    }
    answer = await client.patch(f"{url}/v1/tenants/{usage['tenant_id']}", json={"limits": limits})
    answer.raise_for_status()
    await asyncio.sleep(FRESH_S)  # the others remember that there were none
    return price


async def ask(
    client: httpx2.AsyncClient, urls: list[str], seconds: float, per_second: float
) -> tuple[list[float], dict[int, list[float]]]:
    """At an even rate, by turns: when each was let in, and milliseconds by status."""
    let_in: list[float] = []
    latencies: dict[int, list[float]] = {}

    async def submit(url: str) -> None:
        began = time.perf_counter()
        answer = await client.post(f"{url}/v1/jobs", json=BODY)
        ended = time.perf_counter()
        latencies.setdefault(answer.status_code, []).append((ended - began) * 1e3)
        if answer.status_code == 202:
            let_in.append(ended)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(int(seconds * per_second)):
            await asyncio.sleep(max(0.0, began + number / per_second - time.perf_counter()))
            group.create_task(submit(urls[number % len(urls)]))
    return sorted(let_in), latencies


async def _answering(client: httpx2.AsyncClient, url: str) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                if (await client.get(f"{url}/v1/models")).is_success:
                    return
            except httpx2.TransportError:
                pass
            await asyncio.sleep(0.1)


@contextmanager
def _process(environment: dict[str, str]) -> Iterator[str]:
    """One ingress on a port of its own, stopped at the end."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "loadtests.limits", "--serve", str(port)],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        uvicorn.run(ingress(), port=int(sys.argv[2]), log_config=None)
    else:
        typer.run(main)

"""Faults that are injected to see their alerts fire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from time import monotonic

import psutil
import typer

from loadtests.chaos.processes import Role, find, ready
from loadtests.events.service import Service
from loadtests.monitoring.prometheus import Prometheus, scraping
from loadtests.soak.clients import Load
from loadtests.soak.service import started

QUIET_S = 60.0
"""Of load before the fault, after which its alert may not even be pending."""
FIRES_WITHIN_S = 420.0
_JOBS_PER_S = 0.5
_LEASE_S = 20.0
"""Until the reaper has seen that a worker is gone."""


class Unexpected(Exception):
    """An alert was raised without its fault, or not by it."""


@dataclass(frozen=True)
class Drill:
    """A fault, and the alert that it is to raise."""

    alert: str
    inject: Callable[[Service, int], Awaitable[None]]
    """Given the service and the process id of its `sfumato up`."""


async def kill_workers(service: Service, root: int) -> None:
    """SIGKILL to the diffusion replica, twice, each time once it draws."""
    for _ in range(2):
        while ready(root)[Role.DIFFUSION] < 1 or not await _has_worker(service):
            await asyncio.sleep(1)
        find(root, Role.DIFFUSION)[0].kill()
        typer.echo("  killed the diffusion replica")
        await asyncio.sleep(_LEASE_S)


async def kill_redis(service: Service, root: int) -> None:
    """SIGKILL to Valkey, which `sfumato up` does not start again."""
    for process in psutil.Process(root).children(recursive=True):
        if process.name().startswith("valkey"):
            process.kill()
            typer.echo(f"  killed {process.name()}")


async def flood(service: Service, root: int) -> None:
    """Jobs of the most steps, until one is refused because of the predicted wait."""
    async with service.client() as client:
        body = {"prompt": "red heart", "num_inference_steps": 150, "n": 4}
        sent = 0
        while (await client.post("/v1/jobs", json=body)).status_code == HTTPStatus.ACCEPTED:
            sent += 1
    typer.echo(f"  sent {sent} jobs of 4 pictures with 150 steps; the next was refused")


DRILLS = {
    "leases": Drill("SfumatoLeasesLost", kill_workers),
    "redis": Drill("SfumatoEventLag", kill_redis),
    "flood": Drill("SfumatoBacklog", flood),
}


async def rehearse(drill: Drill) -> None:
    """Inject the fault into a loaded service, and wait for the alert.

    Raises:
        Unexpected: it did not fire, or was raised without the fault.
    """
    async with (
        started() as (service, root),
        scraping(service.url, root) as prometheus,
        _loaded(service),
    ):
        await asyncio.sleep(QUIET_S)
        if drill.alert in await prometheus.alerts():
            raise Unexpected(f"{drill.alert} without a fault")
        began = monotonic()
        await drill.inject(service, root)
        await _until_it_fires(prometheus, drill.alert)
        typer.echo(f"{drill.alert} fired {monotonic() - began:.0f} s after the fault began.")
        for summary in await prometheus.summaries():
            typer.echo(f"  {summary}")


async def _until_it_fires(prometheus: Prometheus, alert: str) -> None:
    until = monotonic() + FIRES_WITHIN_S
    states: dict[str, str] = {}
    while states.get(alert) != "firing":
        if monotonic() > until:
            raise Unexpected(f"{alert} did not fire; the alerts are {states}")
        await asyncio.sleep(2)
        states = await prometheus.alerts()


@asynccontextmanager
async def _loaded(service: Service) -> AsyncIterator[None]:
    load = asyncio.create_task(Load(service, _JOBS_PER_S, seed=1).run(3600))
    try:
        yield
    finally:
        load.cancel()
        await asyncio.gather(load, return_exceptions=True)


async def _has_worker(service: Service) -> bool:
    async with service.client() as client:
        return (await client.get("/ready")).is_success

"""The running service that is measured, and jobs that make it tell something."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import httpx2
from websockets.asyncio.client import connect

FIRST = "job.queued"
TERMINAL = frozenset({"job.succeeded", "job.failed", "job.cancelled", "job.expired"})


@dataclass(frozen=True)
class Service:
    """Where it listens, and who asks."""

    url: str
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    @property
    def events_url(self) -> str:
        return self.url.replace("http", "ws", 1) + "/v1/events"

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            base_url=self.url, headers=self.headers, timeout=60, trust_env=False
        )

    def socket(self, url: str | None = None) -> connect:
        """A connection to the events, by way of ``url`` if given."""
        return connect(
            url or self.events_url,
            additional_headers=self.headers,
            compression=None,
            open_timeout=60,
            ping_interval=None,
            proxy=None,
        )


async def submit(client: httpx2.AsyncClient, steps: int = 1) -> str:
    """A new job's id."""
    body = {"prompt": "red heart", "num_inference_steps": steps}
    answer = await client.post("/v1/jobs", json=body)
    answer.raise_for_status()
    job_id: str = answer.json()["id"]
    return job_id


async def cancel(client: httpx2.AsyncClient, job_id: str) -> None:
    """End the job, unless it has ended."""
    answer = await client.delete(f"/v1/jobs/{job_id}")
    if answer.status_code != 409:
        answer.raise_for_status()


@contextlib.asynccontextmanager
async def driven(service: Service, jobs_per_s: float, steps: int) -> AsyncIterator[list[str]]:
    """Jobs at an even rate meanwhile; every second one is cancelled right after submission."""
    made: list[str] = []

    async def drive() -> None:
        async with service.client() as client:
            while True:
                made.append(await submit(client, steps))
                if len(made) % 2:
                    await cancel(client, made[-1])
                await asyncio.sleep(1 / jobs_per_s)

    driving = asyncio.create_task(drive())
    try:
        yield made
    finally:
        driving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await driving


_ACKNOWLEDGE_EVERY = 16


class Acknowledgements:
    """Counts what a connection brings, and acknowledges every sixteenth message.

    The first time sooner, by chance: clients that came at different times do not do so as one.
    """

    def __init__(self) -> None:
        self._received = 0
        self._due = random.randint(1, _ACKNOWLEDGE_EVERY)

    def received(self) -> str | None:
        """One more has come; what to send now, if it is time."""
        self._received += 1
        if self._received < self._due:
            return None
        self._due += _ACKNOWLEDGE_EVERY
        return f'{{"type":"ack","messages":{self._received}}}'


def is_durable(message: dict[str, Any]) -> bool:
    return message.get("seq") is not None

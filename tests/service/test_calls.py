"""A call that waits for its picture outlives the replica that answers it, and the service's end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect

from serve.local.port import free_port
from serve.local.postgres import LocalPostgres
from tests.conftest import query
from tests.service.conftest import KEY, Service, start
from tests.service.test_redeploy import redeploy

SERVES_OWN_S = 20.0  # after which Serve stops a replica that is told nothing else
PATIENCE_S = 240.0
HEADERS = {"Authorization": f"Bearer {KEY}"}
BODY = {"prompt": "red heart", "num_inference_steps": 4, "response_format": "url"}
# A claim that finds nothing to take looks again a second later.
HOLD = (
    "CREATE OR REPLACE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN RETURN NULL; END'",
    "CREATE TRIGGER hold BEFORE UPDATE ON images FOR EACH ROW"
    " WHEN (NEW.state = 'running') EXECUTE FUNCTION hold()",
)
RELEASE = "DROP TRIGGER hold ON images"


@pytest.fixture(params=["false", "true"], ids=["behind-serve", "behind-haproxy"])
def single(folder: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    """A service with one ingress replica: while it is replaced there is no other one."""
    service = start(
        folder,
        free_port(),
        SFUMATO_HAPROXY=request.param,
        SFUMATO_SCALING__INGRESS_MAX="1",
        SFUMATO_WORKER__THREADS="1",
        SFUMATO_WORKER__DRAIN_S="20",
    )
    yield service
    if service.process.poll() is None:
        assert service.stop() == 0, service.output


def asked(service: Service, *statements: str) -> str:
    return query(LocalPostgres(service.folder / "data").url, *statements)


def ingress(service: Service) -> set[int]:
    return {replica.pid for replica in service.replicas("Ingress")}


@asynccontextmanager
async def waiting(service: Service) -> AsyncIterator[asyncio.Task[httpx2.Response]]:
    """A call without an Idempotency-Key, whose picture nobody may draw yet."""
    before = int(asked(service, *HOLD, "SELECT count(*) FROM jobs"))
    async with httpx2.AsyncClient(headers=HEADERS, timeout=PATIENCE_S) as client:
        url = f"{service.url}/v1/images/generations"
        calling = asyncio.create_task(client.post(url, json=BODY))
        async with asyncio.timeout(PATIENCE_S):
            while int(asked(service, "SELECT count(*) FROM jobs")) == before:
                await asyncio.sleep(0.1)
        yield calling


@asynccontextmanager
async def socket(service: Service) -> AsyncIterator[ClientConnection]:
    url = f"{service.url.replace('http', 'ws')}/v1/events"
    async with connect(url, additional_headers=HEADERS) as events:
        yield events


async def closed(events: ClientConnection) -> int | None:
    """The code with which the server closed it."""
    async with asyncio.timeout(PATIENCE_S):
        await events.wait_closed()
    return events.close_code


async def get(service: Service, path: str) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=service.url, headers=HEADERS, timeout=30) as client:
        return await client.get(path)


async def post(service: Service, path: str, **body: Any) -> httpx2.Response:
    async with httpx2.AsyncClient(base_url=service.url, headers=HEADERS, timeout=30) as client:
        return await client.post(path, json=body)


async def outlive_a_redeployment(service: Service) -> None:
    old = ingress(service)
    async with waiting(service) as calling, socket(service) as events:
        redeploying = asyncio.create_task(
            asyncio.to_thread(redeploy, service, SFUMATO_WORKER__DRAIN_S="19")
        )
        assert await closed(events) == 1012
        closed_at = time.monotonic()
        while time.monotonic() - closed_at < SERVES_OWN_S + 2:
            assert (await get(service, "/health")).status_code == 200, "a new one answers"
            await asyncio.sleep(0.5)
        assert all(psutil.pid_exists(pid) for pid in old), "the old one stays for its call"
        assert ingress(service) - old
        assert not calling.done()
        asked(service, RELEASE)
        answer = await calling
        assert (answer.status_code, len(answer.json()["data"])) == (200, 1)
        await redeploying
    assert not ingress(service) & old
    assert asked(service, "SELECT state, attempt FROM images") == "succeeded|1"


async def outlive_the_stop(service: Service) -> None:
    async with waiting(service) as calling, socket(service) as events:
        stopping = asyncio.create_task(asyncio.to_thread(service.stop))
        assert await closed(events) == 1012
        refused = await post(service, "/v1/images/generations", **BODY)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "stopping")
        assert (await get(service, "/v1/jobs")).status_code == 200
        asked(service, RELEASE)
        answer = await calling
        assert (answer.status_code, len(answer.json()["data"])) == (200, 1)
        assert await stopping == 0, service.output


async def test_a_call_gets_its_picture_whatever_is_replaced_or_stopped(single: Service) -> None:
    await outlive_a_redeployment(single)
    await outlive_the_stop(single)

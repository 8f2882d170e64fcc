"""The load tests' leanest client against a server that tells."""

from __future__ import annotations

import asyncio
from uuid import UUID

import orjson
import pytest
from websockets.exceptions import InvalidStatus

from loadtests.events.listener import Listener
from loadtests.events.service import Service, cancel, submit


async def test_hears_all_and_acknowledges(server: str, key: str) -> None:
    service = Service(server, key)
    heard: asyncio.Queue[tuple[UUID, str]] = asyncio.Queue()

    def hear(text: bytes) -> None:
        event = orjson.loads(text)
        heard.put_nowait((UUID(event["job_id"]), event["type"]))

    listener = await Listener.open(service, hear)
    listener.send('{"type":"watch_all"}')
    jobs = 150  # of two events: more than the service tells without an acknowledgement
    async with service.client() as client:

        async def make_one() -> None:
            await cancel(client, await submit(client))

        for _ in range(jobs // 10):  # not all at once: the listener has to acknowledge meanwhile
            await asyncio.gather(*(make_one() for _ in range(10)))
    async with asyncio.timeout(60):
        told = [await heard.get() for _ in range(2 * jobs)]
    assert len({job for job, _ in told}) == jobs
    assert [kind for _, kind in told].count("job.cancelled") == jobs
    assert not listener.closed.done()
    listener.abort()


async def test_a_refused_handshake_says_so(server: str, key: str) -> None:
    with pytest.raises(InvalidStatus):
        await Listener.open(Service(f"{server}/nowhere", key), lambda _: None)


async def test_sees_that_the_service_ends_it(server: str) -> None:
    listener = await Listener.open(Service(server, "no key of this service"), lambda _: None)
    async with asyncio.timeout(10):
        await listener.closed

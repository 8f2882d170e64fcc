"""A worker's bus hears of work, and of no job's events."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from serve.events.bus import WORK, EventBus
from serve.events.event import Event, EventType


async def test_a_worker_decodes_no_event(valkey_url: str) -> None:
    worker, ingress = EventBus(valkey_url, [WORK]), EventBus(valkey_url)
    await worker.start()
    job_id = uuid4()
    event = Event(uuid4(), job_id, 1, EventType.RUNNING, datetime.now(UTC))
    async with worker.subscribe(event.tenant_id) as subscription, asyncio.timeout(10):
        await worker.work.wait()  # it listens
        await ingress.publish(event)
        while job_id not in worker.ended:  # it came after the event
            worker.work.clear()
            await ingress.publish(replace(event, seq=2, type=EventType.CANCELLED))
            await worker.work.wait()
        assert subscription.pop() is None
    await asyncio.gather(worker.close(), ingress.close())

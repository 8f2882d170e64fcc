"""`python -m loadtests.capacity`: how many pictures and events a second one installation carries.

The slopes of docs/scaling.md. Nothing is drawn: jobs are submitted, workers claim and commit them
as fast as Postgres lets them, and one process publishes events and reads them. It starts its own
Postgres and Valkey; all of it shares this machine's cores, so a server of its own carries more.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID, uuid4

import typer
from sqlalchemy import text

from serve.database import Database
from serve.events.bus import EventBus
from serve.events.event import Event, EventType
from serve.jobs.lifecycle import Jobs
from serve.jobs.request import JobRequest
from serve.local.postgres import LocalPostgres
from serve.local.valkey import LocalValkey
from serve.migrations.upgrade import upgrade
from serve.observability.logging import configure_logging
from serve.pictures.stored_file import StoredFile
from serve.settings import JobSettings, Settings
from serve.storage import open_storage
from serve.tables import Tenant
from serve.worker.claims import Claims

SUBMITTERS = 16
FILES = ("png", "thumbnail")
_ROWS = """
    SELECT sum(pg_total_relation_size(oid)) FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"""


def main(
    jobs: Annotated[int, typer.Option(help="Jobs of one picture.")] = 5000,
    workers: Annotated[int, typer.Option(help="Workers that claim and commit.")] = 16,
    tenants: Annotated[int, typer.Option(help="Tenants that share the queue.")] = 4,
) -> None:
    """Jobs accepted, pictures claimed and committed a second; bytes that a picture leaves."""
    configure_logging("json")
    with ExitStack() as parts:
        folder = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="sfumato-capacity-")))
        folder.chmod(0o755)
        postgres, valkey = LocalPostgres(folder), LocalValkey(folder)
        parts.enter_context(postgres)
        parts.enter_context(valkey)
        settings = Settings(
            database_url=postgres.url,
            redis_url=valkey.url,
            data_dir=folder,
            jobs=JobSettings(max_wait_s=1e7),
        )
        asyncio.run(_measure(settings, jobs, workers, tenants))


async def _measure(settings: Settings, jobs: int, workers: int, tenants: int) -> None:
    assert settings.database_url is not None  # noqa: S101 - `main` set both
    assert settings.redis_url is not None  # noqa: S101
    await upgrade(settings.database_url.get_secret_value(), settings=settings.database)
    database = Database(settings.database_url.get_secret_value(), settings.database)
    bus = EventBus(settings.redis_url.get_secret_value())
    await bus.start()
    service = Jobs(database, bus, open_storage(settings.storage), settings)
    async with database.transaction() as session:
        rows = [Tenant(name=f"tenant-{number}") for number in range(tenants)]
        session.add_all(rows)
        await session.flush()
        tenant_ids = [row.id for row in rows]
    before = await _bytes(database)

    left = iter(range(jobs))
    took = await _seconds(_submit(service, tenant_ids, left) for _ in range(SUBMITTERS))
    typer.echo(f"accepted               {jobs / took:8.0f} jobs/s, {SUBMITTERS} clients")

    model = settings.model.name
    took = await _seconds(_work(Claims(database, bus, [model]), place) for place in range(workers))
    typer.echo(f"claimed and committed  {jobs / took:8.0f} pictures/s, {workers} workers")
    kept = (await _bytes(database) - before) / jobs
    typer.echo(f"kept                   {kept:8.0f} bytes a picture, {len(FILES)} files each")
    took = await _seconds([_read(bus, tenant_ids[0], jobs), _publish(bus, tenant_ids[0], jobs)])
    typer.echo(f"published and read     {jobs / took:8.0f} events/s, one reader")
    await bus.close()
    await database.close()


async def _submit(jobs: Jobs, tenant_ids: list[UUID], left: Iterator[int]) -> None:
    for number in left:
        request = JobRequest(
            model="sfumato-embedded",
            prompt=f"a red heart on a field of snow, number {number}",
            width=64,
            height=64,
            num_inference_steps=20,
            guidance_scale=3.0,
            seed=number,
        )
        await jobs.submit(tenant_ids[number % len(tenant_ids)], request)


async def _work(claims: Claims, place: int) -> None:
    """Claim eight at a time and commit each, until none is left."""
    worker_id = await claims.register(f"cpu-{place}", 8)
    while claimed := await claims.claim(worker_id, 8):
        for claim in claimed:
            key = f"{claim.image_id}/{claim.attempt}"
            files = [
                StoredFile(name, "image/png", 64, 64, 9000, "0" * 64, f"{key}/{name}")
                for name in FILES
            ]
            await claims.complete(claim, files)
    await claims.leave(worker_id)


async def _publish(bus: EventBus, tenant_id: UUID, events: int) -> None:
    for number in range(events):
        data = {"image_id": str(uuid4()), "step": 10, "steps": 20}
        now = datetime.now(UTC)
        await bus.publish(Event(tenant_id, uuid4(), number, EventType.PROGRESS, now, data))


async def _read(bus: EventBus, tenant_id: UUID, events: int) -> None:
    """What an ingress does with every event before it reaches the clients that follow the job."""
    async with bus.subscribe(tenant_id) as subscription:
        while events:
            await subscription.wakeup.wait()
            subscription.wakeup.clear()
            while subscription.pop():
                events -= 1


async def _seconds(tasks: Iterable[Coroutine[None, None, None]]) -> float:
    began = time.perf_counter()
    await asyncio.gather(*tasks)
    return time.perf_counter() - began


async def _bytes(database: Database) -> int:
    async with database.transaction() as session:
        return int((await session.execute(text(_ROWS))).scalar_one())


if __name__ == "__main__":
    typer.run(main)

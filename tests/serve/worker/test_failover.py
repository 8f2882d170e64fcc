"""A worker, a reaper and a courier, with Postgres behind a proxy that does what networks do."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid4

import pytest

from loadtests.chaos.proxy import FaultProxy, unix_socket
from loadtests.chaos.service import SOCKET
from loadtests.chaos.standby import Standby
from serve.database import Database, DatabaseUnavailable
from serve.events.bus import EventBus
from serve.events.event import EventType
from serve.jobs.lifecycle import Jobs
from serve.local.postgres import LocalPostgres
from serve.migrations.upgrade import upgrade
from serve.settings import (
    DatabaseSettings,
    ModelSettings,
    Settings,
    WebhookSettings,
    WorkerSettings,
)
from serve.storage import open_storage
from serve.supervise import Loop
from serve.tables import Job, JobState
from serve.webhooks.courier import Courier
from serve.webhooks.subscriptions import Webhooks
from serve.worker.claims import Claims
from serve.worker.reaper import Reaper
from tests.conftest import query
from tests.serve.conftest import MODEL, ask, make_tenant
from tests.serve.jobs.test_lifecycle import age_worker, worker
from tests.serve.webhooks.receiver import Receiver, receiving
from tests.serve.worker.test_worker import Shelf, Workshop

PATIENCE = DatabaseSettings(
    connect_timeout_s=2, command_timeout_s=2, statement_timeout_s=1.5, idle_timeout_s=3
)
LEASE_S = 6.0


@dataclass
class Scene:
    """What replicas run, on a database behind a proxy, and a client."""

    proxy: FaultProxy
    jobs: Jobs
    tenant_id: UUID
    receiver: Receiver

    async def submit(self, n: int = 1) -> Job:
        """As a client does: again under the same key until it is told something definite."""
        key = str(uuid4())
        async with asyncio.timeout(60):
            while True:
                try:
                    wanted = ask(n=n, num_inference_steps=20)
                    return await self.jobs.submit(self.tenant_id, wanted, idempotency_key=key)
                except DatabaseUnavailable:
                    await asyncio.sleep(0.2)

    async def done(self, job: Job) -> Job:
        """The job once it has ended."""
        async with asyncio.timeout(60):
            while not job.state.terminal:
                await asyncio.sleep(0.1)
                try:
                    job = await self.jobs.get(self.tenant_id, job.id)
                except DatabaseUnavailable:
                    continue
        return job


@asynccontextmanager
async def at_work(
    url: str, folder: Path, bus: EventBus, model_folder: Path
) -> AsyncIterator[Scene]:
    """Everything runs on the database of this URL, and in the end nothing has ended by itself."""
    address = urlsplit(url)
    proxy = FaultProxy(unix_socket(Path(parse_qs(address.query)["host"][0]) / SOCKET))
    proxied = f"postgres://sfumato@127.0.0.1:{await proxy.start()}{address.path}?sslmode=disable"
    database = Database(proxied, PATIENCE)
    settings = Settings(
        database_url=proxied,
        redis_url="redis://unused",
        model=ModelSettings(name=MODEL),
        worker=WorkerSettings(lease_s=LEASE_S, heartbeat_s=LEASE_S / 6),
    )
    jobs = Jobs(database, bus, open_storage(settings.storage), settings)
    webhooks = WebhookSettings(allow_private=True, poll_s=0.2)
    loops = [
        Loop("reaper", Reaper(database, bus, settings).run),
        Loop("courier", Courier(database, webhooks).run),
    ]
    shelf = Shelf(open_storage((folder / "pictures").as_uri()))
    workshop = Workshop(Claims(database, bus, [MODEL]), bus, model_folder, shelf)
    async with (
        receiving(Receiver()) as receiver,
        workshop.worker() as (_, _runner, working),
    ):
        tenant_id = await make_tenant(database, "first")
        await Webhooks(database, webhooks).create(
            tenant_id, receiver.address, [EventType.SUCCEEDED]
        )
        yield Scene(proxy, jobs, tenant_id, receiver)
        assert not working.done()
        for loop in loops:
            assert not loop.task.done()
            await loop.stop()
    await database.close()
    proxy.reset()
    await proxy.close()


@pytest.fixture
def folder() -> Iterator[Path]:
    name = Path(tempfile.mkdtemp(prefix="sfumato-failover-", dir="/tmp"))
    name.chmod(0o755)
    yield name
    rmtree(name)


async def test_when_all_connections_freeze_work_is_drawn_reaped_and_delivered_again(
    database: Database, database_url: str, folder: Path, bus: EventBus, model_folder: Path
) -> None:
    async with at_work(database_url, folder, bus, model_folder) as scene:
        warm = [await scene.submit() for _ in range(4)]
        assert {(await scene.done(job)).state for job in warm} == {JobState.SUCCEEDED}
        await scene.receiver.hears(4)
        assert scene.proxy.freeze() >= 2
        settings = Settings(
            database_url=database_url, redis_url="redis://-", model=ModelSettings(name=MODEL)
        )
        direct = Jobs(database, bus, open_storage(settings.storage), settings)
        claims = Claims(database, bus, [MODEL])
        silent = await worker(claims)
        held = await direct.submit(scene.tenant_id, ask())
        async with asyncio.timeout(10):  # before the others' connections are given up
            while not await claims.claim(silent, 1):
                await asyncio.sleep(0)
        await age_worker(database, silent, 60)
        job = await direct.submit(scene.tenant_id, ask())
        assert (await scene.done(job)).state is JobState.SUCCEEDED
        assert (await scene.done(held)).state is JobState.SUCCEEDED
        await scene.receiver.hears(6)


async def test_a_primary_that_takes_no_writes_for_a_while_ends_nothing(
    database_url: str, folder: Path, bus: EventBus, model_folder: Path
) -> None:
    name = urlsplit(database_url).path.removeprefix("/")
    ends = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with at_work(database_url, folder, bus, model_folder) as scene:
        drawn = await scene.submit(4)
        query(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on", ends)
        try:
            submitting = asyncio.create_task(scene.submit())
            await asyncio.sleep(3)
            assert not submitting.done()
        finally:
            query(
                database_url,
                "BEGIN; SET TRANSACTION READ WRITE;"
                f" ALTER DATABASE {name} RESET default_transaction_read_only; COMMIT",
            )
        await submitting
        later = await scene.submit()
        for job in (drawn, later):
            assert (await scene.done(job)).state is JobState.SUCCEEDED
        await scene.receiver.hears(3)


async def test_a_promoted_standby_goes_on_where_the_primary_ended(
    folder: Path, bus: EventBus, model_folder: Path
) -> None:
    """Nothing that was acknowledged is lost, and no worker is taken for dead."""
    primary = LocalPostgres(folder / "one")
    with primary:
        await upgrade(primary.url)
        async with at_work(primary.url, folder, bus, model_folder) as scene:
            standby = Standby(folder / "two", primary)
            await standby.follow()
            try:
                accepted = [await scene.submit(2) for _ in range(6)]
                scene.proxy.freeze()  # as of a host that is gone without a word
                primary.stop()
                accepting = asyncio.create_task(scene.submit())
                await asyncio.sleep(LEASE_S + 1)  # nobody is heard for more than a lease
                await standby.promote()
                scene.proxy.upstream = unix_socket(standby.sockets / SOCKET)
                accepted.append(await accepting)
                accepted.append(await scene.submit())
                for job in accepted:
                    done = await scene.done(job)
                    assert done.state is JobState.SUCCEEDED
                    assert [image.crashes for image in done.images] == [0] * len(done.images)
                    assert all(len(image.variants) == 2 for image in done.images)
                await scene.receiver.hears(len(accepted))
                told = {
                    headers["body"].split('"job_id":"')[1][:36] for headers in scene.receiver.heard
                }
                assert told == {str(job.id) for job in accepted}
            finally:
                scene.proxy.reset()
    standby.stop()

"""A worker in a process of its own, for tests that stop it.

``python -m tests.serve.worker.one_worker`` takes the URLs of Postgres, Valkey and storage, a
model's folder and the lease in seconds.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

from pipelines.diffusion.engine import DiffusionEngine
from pipelines.diffusion.loading import load_model
from pipelines.diffusion.pool import ModelPool
from pipelines.diffusion.runner import EngineRunner
from serve.database import Database
from serve.events.bus import WORK, EventBus
from serve.settings import WorkerSettings
from serve.storage import open_storage
from serve.worker.claims import Claims
from serve.worker.source import SourceLoader
from serve.worker.worker import Worker
from tests.serve.conftest import MODEL
from tests.serve.worker.test_worker import Shelf


async def work(
    database_url: str, valkey_url: str, storage_url: str, folder: str, lease: str
) -> None:
    lease_s = float(lease)
    settings = WorkerSettings(
        max_batch=4, lease_s=lease_s, heartbeat_s=lease_s / 5, poll_s=0.2, drain_s=5
    )
    database, storage = Database(database_url), open_storage(storage_url)
    bus = EventBus(valkey_url, [WORK])
    await bus.start()
    load = SourceLoader(storage, settings, Path(folder) / "loras").load
    worker = Worker(Claims(database, bus, [MODEL]), bus, load, Shelf(storage), settings)
    engine = DiffusionEngine(ModelPool.of(load_model(folder, "cpu"), MODEL), settings.max_batch)
    runner = EngineRunner(engine, worker.take)
    runner.start()
    await asyncio.to_thread(runner.wait_until_warm)
    working = asyncio.create_task(worker.run(runner, "cpu"))
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    await stopping.wait()
    await worker.drain()
    await working
    await bus.close()
    await database.close()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))

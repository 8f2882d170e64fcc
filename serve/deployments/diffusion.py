"""The diffusion replica: its models, their engine, and the worker that feeds it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import structlog
from ray.serve.handle import DeploymentHandle

from serve.database import Database
from serve.deployments.postprocess import Postprocess, PostprocessReplicas
from serve.deployments.ray_meter import RayMeter
from serve.deployments.replica import replica_name
from serve.deployments.replica_log import open_replica_log
from serve.events.bus import WORK, EventBus
from serve.observability.device import GpuSample, ProcessSample
from serve.observability.logging import adopt_loggers
from serve.observability.meter import Meter
from serve.observability.sampler import Sampler
from serve.observability.tracing import start_tracing, stop_tracing
from serve.settings import Settings
from serve.storage import open_storage
from serve.supervise import Loop, check
from serve.worker.claims import Claims
from serve.worker.delivery import Delivery
from serve.worker.errors import EngineDied
from serve.worker.model_watch import ModelWatch
from serve.worker.retry import until_connected
from serve.worker.source import SourceLoader
from serve.worker.worker import Worker

if TYPE_CHECKING:
    from pipelines.diffusion.pool import ModelSource

log = structlog.get_logger(__name__)


class Diffusion:
    """Draws pictures. It takes no requests: it pulls claims from Postgres.

    Ready, and known to the other processes, only once its first model has made a first picture.
    """

    async def __init__(  # type: ignore[misc] # Serve awaits it
        self, settings: Settings, pool: str, postprocess: DeploymentHandle[Postprocess]
    ) -> None:
        from pipelines.diffusion.engine import DiffusionEngine
        from pipelines.diffusion.loading import choose_device
        from pipelines.diffusion.runner import EngineRunner
        from serve.deployments.pool import (
            hidden_previews,
            hides_previews,
            open_pool,
            open_source,
        )

        open_replica_log(settings, process="diffusion", pool=pool)
        start_tracing(replica_name)
        assert settings.database_url is not None  # noqa: S101 - build_app saw to it
        assert settings.redis_url is not None  # noqa: S101
        meter = RayMeter()
        self._database = Database(
            settings.database_url.get_secret_value(), settings.database, meter=meter
        )

        def take_up(settings: Settings, name: str) -> ModelSource:
            if hides_previews(settings, name):
                hidden.add(name)
            return open_source(settings, name)

        models = await asyncio.to_thread(open_pool, settings, pool)
        hidden = await asyncio.to_thread(hidden_previews, settings, pool)
        device = str(choose_device(settings.served[models.default].device))
        # It draws and publishes; the events of all jobs are for those who have clients.
        self._bus = EventBus(settings.redis_url.get_secret_value(), [WORK], meter)
        await self._bus.start()
        claims = Claims(
            self._database, self._bus, models.names, settings.jobs.unread_wait_s, pool, meter
        )
        delivery = Delivery(PostprocessReplicas(postprocess), settings.worker)
        sources = SourceLoader(
            open_storage(settings.storage, meter), settings.worker, settings.lora_folder
        )
        self._worker = Worker(
            claims, self._bus, sources.load, delivery, settings.worker, hidden, meter
        )
        batch = settings.served_pools[pool].batch
        engine = DiffusionEngine(models, batch, threads=settings.worker.threads)
        niceness = settings.worker.niceness if device == "cpu" else 0
        runner = EngineRunner(engine, self._worker.take, niceness)
        runner.start()
        await asyncio.to_thread(runner.wait_until_warm)
        watch = ModelWatch(self._database, settings, pool, take_up)
        await until_connected(watch.look)(claims, runner)  # before anything is claimed
        adopt_loggers("diffusers", "huggingface_hub", "transformers")
        self._drained = False
        self._working = asyncio.create_task(self._worker.run(runner, device), name="worker")
        # A model may be downloaded within a round.
        self._watching = Loop("models", partial(watch.run, claims, runner), stuck_after_s=None)
        self._sampler = Sampler(
            ProcessSample(meter).sample,
            self._database.sample,
            self._worker.sample,
            *_gpu_samples(meter, device),
        )
        self._sampler.start()
        log.info("diffusion.ready", pool=pool, models=models.names, device=device)

    async def check_health(self) -> None:
        """Asked by Serve; raising replaces the replica."""
        if self._working.done() and not self._drained:
            raise EngineDied("The worker has ended; see the replica's log.")
        if self._worker.engine_hangs:
            raise EngineDied("The engine hangs; what it drew was left to others.")
        check([*self._worker.loops, *self._bus.loops])

    async def drain(self, within_s: float) -> None:
        """Asked by `sfumato up` before it stops: claim nothing more, finish what is being drawn
        within so many seconds, and hand back the rest.
        """
        self._drained = True
        await self._worker.drain(within_s)

    async def __del__(self) -> None:
        """Awaited by Serve at shutdown: drain before the process ends."""
        if not self._working.done():
            await self._worker.drain()
        await self._watching.stop()
        await asyncio.to_thread(self._sampler.stop)
        await asyncio.gather(self._working, return_exceptions=True)
        await self._bus.close()
        await self._database.close()
        await asyncio.to_thread(stop_tracing)


def _gpu_samples(meter: Meter, device: str) -> list[Callable[[], None]]:
    """What there is to sample of the replica's GPU; a service without it works as well."""
    import torch

    if not device.startswith("cuda"):
        return []
    try:
        uuid = str(torch.cuda.get_device_properties(device).uuid)
        return [GpuSample(meter, uuid, device).sample]
    except Exception as error:  # noqa: BLE001 - NVML's are as many as there are drivers
        log.warning("diffusion.gpu_not_sampled", error=f"{type(error).__name__}: {error}")
        return []

"""The ingress replica: the FastAPI app, with the reaper, the sweeper and the courier beside it."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import structlog
from fastapi import FastAPI
from ray import serve
from ray.serve.handle import DeploymentHandle

from serve.api.app import create_app
from serve.api.services import open_services
from serve.artist.schedule import Schedule
from serve.database import Database
from serve.deployments.diffusion import Diffusion
from serve.deployments.proxy import guarded
from serve.deployments.ray_meter import RayMeter
from serve.deployments.replica import replica_name
from serve.deployments.replica_log import open_replica_log
from serve.observability.tracing import start_tracing, stop_tracing
from serve.settings import Settings
from serve.supervise import Loop, RoundDone, check, ignore_round
from serve.trends.counting import TermCounter
from serve.webhooks.courier import Courier
from serve.worker.reaper import Reaper
from serve.worker.sweeper import Sweeper

log = structlog.get_logger(__name__)

# A wave of events to a thousand sockets makes some thousands of objects that are soon gone. Python
# looks for garbage every 700, which took a seventh of the process's busy time.
_GARBAGE_OBJECTS = 50_000
TICK_S = 0.5
TICKS = 8


class DeadMansSwitch:
    """Sets ``stopping`` after four seconds without a health check.

    Serve does not notify a replica before its ongoing requests have ended, and each open socket is
    one: they would delay every redeployment until its time-out, and then be cut without a close
    frame. But Serve's controller stops the health checks when it stops a replica. A controller that
    died resumes them once it is back: then the replica goes on. Ticks are counted rather than time,
    so that a loop that was blocked draws no wrong conclusion.
    """

    def __init__(self, stopping: asyncio.Event) -> None:
        self._stopping = stopping
        self._missed: int | None = None
        """Ticks since the last health check; None before the first, as the start may take long."""

    def health_checked(self) -> None:
        if self._missed is not None and self._missed >= TICKS:
            self._stopping.clear()
        self._missed = 0

    def tick(self) -> None:
        if self._missed is None:
            return
        self._missed += 1
        if self._missed == TICKS:
            self._stopping.set()

    async def run(self, round_done: RoundDone = ignore_round) -> None:
        """Tick until cancelled."""
        while True:
            await asyncio.sleep(TICK_S)
            self.tick()
            round_done()


@serve.ingress()
class Ingress:
    """Answers HTTP and WebSocket. Imports no torch."""

    async def __init__(  # type: ignore[misc] # Serve awaits it
        self, settings: Settings, *_diffusion: DeploymentHandle[Diffusion]
    ) -> None:
        # The handles are never called: binding them makes all deployments one application.
        open_replica_log(settings, process="ingress")
        start_tracing(replica_name)
        if not guarded():
            log.warning(
                "ingress.proxy_unguarded",
                cure="Set RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serve.deployments.proxy:layers"
                " on the whole cluster; without it clients may override Serve's time-outs.",
            )
        self._services = open_services(settings, RayMeter())
        database, bus = self._services.database, self._services.bus
        meter = self._services.meter
        assert settings.database_url is not None  # noqa: S101 - build_app saw to it
        unhurried = Database(
            settings.database_url.get_secret_value(), settings.database.unhurried, pool_size=1
        )
        sweeper = Sweeper(unhurried, self._services.storage, settings.jobs)
        self._app = create_app(self._services)
        gc.collect()
        gc.freeze()  # what was imported and built stays for good
        gc.set_threshold(_GARBAGE_OBJECTS, 20, 20)
        self._switch = DeadMansSwitch(self._app.state.stopping)
        loops = self._services.loops
        loops.append(
            Loop("reaper", Reaper(database, bus, settings, meter, self._services.jobs.meter).run)
        )
        loops.append(Loop("sweeper", sweeper.run, stuck_after_s=None))  # storage may be large
        # A model's description may be downloaded within a round.
        loops.append(Loop("models", self._services.models.watch, stuck_after_s=None))
        loops.append(Loop("courier", Courier(database, settings.webhooks, meter=meter).run))
        terms = TermCounter(database, settings.trends, self._services.answers)
        loops.append(Loop("trends", terms.run))
        if settings.artist.enabled:
            services = self._services
            schedule = Schedule(database, services.artist, services.served, settings.artist)
            loops.append(Loop("artist", schedule.run))
        self._services.sampler.start()
        loops.append(Loop("dead-mans-switch", self._switch.run))

    def __serve_build_asgi_app__(self) -> FastAPI:
        return self._app

    async def reconfigure(self, user_config: dict[str, Any]) -> None:
        """Called by Serve with the deployment's ``user_config``: models beside the configuration's.

        A wrong one changes nothing, and is logged and shown by ``/v1/operator/models``: Serve would
        replace a replica that raises here, until none is left.
        """
        await self._services.models.declare(user_config)

    async def check_health(self) -> None:
        """Asked by Serve every second until it stops this replica; raising replaces it."""
        self._switch.health_checked()
        check(self._services.running)

    async def finish_calls(self, within_s: float) -> None:
        """Asked by `sfumato up` before it stops: close sockets and streams, take no more calls,
        and return once those that wait are answered, within so many seconds.
        """
        self._app.state.stopping.set()
        await self._services.drain.finish(within_s)

    async def __del__(self) -> None:
        """Awaited by Serve at shutdown."""
        await asyncio.gather(*(loop.stop() for loop in self._services.loops))
        await asyncio.to_thread(stop_tracing)

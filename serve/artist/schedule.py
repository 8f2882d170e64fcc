"""Draws by itself: a job now and then, within a budget, behind everybody else's."""

from __future__ import annotations

import asyncio
import random
import secrets
from datetime import timedelta
from functools import partial
from time import monotonic
from uuid import UUID

import structlog
from structlog.contextvars import clear_contextvars

from serve.access.repository import add_tenant, tenant_named
from serve.artist import repository
from serve.artist.artist import Artist
from serve.artist.errors import NotDue
from serve.database import Database, Session
from serve.errors import ServiceError
from serve.jobs.autonomous import as_autonomous
from serve.jobs.limits import ServedModels
from serve.jobs.request import JobRequest
from serve.jobs.schemas import JobBody
from serve.settings import ArtistSettings
from serve.supervise import RoundDone, ignore_round
from serve.tables import Job

log = structlog.get_logger(__name__)

TENANT = "artist"
"""The name of the tenant that scheduled jobs belong to."""
_LOOK_EVERY_S = 5.0


class Schedule:
    """Runs in every ingress; whichever looks first when a job is due submits it.

    What must hold is checked in the transaction that accepts the job, under the tenant's lock: no
    other job of it is unended, the interval has passed, and the budget covers the price.
    """

    def __init__(
        self, database: Database, artist: Artist, served: ServedModels, settings: ArtistSettings
    ) -> None:
        self._database = database
        self._artist = artist
        self._served = served
        self._settings = settings
        self._tried_at = float("-inf")

    async def run(self, round_done: RoundDone = ignore_round) -> None:
        """Submit until cancelled.

        Raises:
            DatabaseUnavailable: run it again.
        """
        while True:
            # What was refused is not tried again before the next one would be due.
            if monotonic() - self._tried_at >= self._settings.every_s:
                await self.submit()
                clear_contextvars()  # of the job that it submitted
            round_done()
            await asyncio.sleep(min(_LOOK_EVERY_S, self._settings.every_s))

    async def submit(self) -> Job | None:
        """One round: the job, if one was due and let in."""
        async with self._database.transaction() as session:
            tenant = await add_tenant(session, TENANT, {"weight": 0})  # draws in the background
            tenant_id = (tenant or await tenant_named(session, TENANT)).id
            try:
                await self._check(tenant_id, session, 0.0)
            except NotDue:
                return None
        self._tried_at = monotonic()
        try:
            job = await self._artist.submit(
                tenant_id,
                await self._request(),
                check=partial(self._check, tenant_id),
                for_all=True,
            )
        except NotDue as reason:
            log.info("artist.not_due", reason=str(reason))
            return None
        except ServiceError as error:
            log.warning("artist.refused", code=error.code, error=error.message)
            return None
        log.info("artist.submitted", job_id=str(job.id), model=job.model)
        return job

    async def _request(self) -> JobRequest:
        """
        Raises:
            ModelNotFound, ModelPaused: the model draws nothing by now.
        """
        seed = secrets.randbelow(2**32)
        chance = random.Random(seed)  # noqa: S311 - it decides nothing that must be secret
        settings = self._settings
        model = chance.choice(settings.models) if settings.models else None
        theme = chance.choice(settings.themes) if settings.themes else None
        body = JobBody(mode="autonomous", model=model, seed=seed)
        limits = await self._served.limits_for(body)
        request = limits.accept(body, size=limits.size(None), without_prompt=True)
        return as_autonomous(request, theme)

    async def _check(self, tenant_id: UUID, session: Session, device_s: float) -> None:
        """Raises NotDue where a job of so many device seconds is not."""
        settings = self._settings
        if await repository.any_unended(session, tenant_id):
            raise NotDue("A job of the artist has not ended.")
        interval = timedelta(seconds=settings.every_s)
        if await repository.submitted_within(session, tenant_id, interval):
            raise NotDue(f"The last job is not {settings.every_s:g} s old.")
        spent_s = await repository.spent_seconds(session, tenant_id)
        if spent_s + device_s > settings.gpu_seconds_per_day:
            raise NotDue(
                f"{spent_s:.1f} device seconds were spent within 24 h, and {device_s:.1f} more"
                f" would exceed the {settings.gpu_seconds_per_day:g} of the budget."
            )

"""Diffusion replicas follow the backlog in Postgres: they take no requests Serve could count."""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Mapping, Sequence
from time import monotonic
from typing import Any

from ray.serve.config import AutoscalingContext

from serve.database import Database, DatabaseUnavailable
from serve.jobs.backlog import Backlog, read_backlog
from serve.models.models import active_models
from serve.observability.logging import redact_records
from serve.settings import DatabaseSettings

log = logging.getLogger("ray.serve")  # the controller's own, in its form

_POLL_S = 2.0


class BacklogPolicy:
    """Enough replicas to clear a pool's backlog, in predicted seconds, within ``target_wait_s``.

    Runs in Serve's controller, which calls it every tick. Each poll is one short task, so that
    nothing outlives the policy when it is replaced.
    """

    def __init__(
        self,
        pool: str,
        models: Sequence[str],
        target_wait_s: float,
        database: Mapping[str, float],
    ) -> None:
        """``models`` are those that the configuration puts into the pool.

        The database is that of DATABASE_URL: what a policy is given stands in Ray's logs.

        ``database`` are the fields of `DatabaseSettings`.
        """
        redact_records()
        self._pool = pool
        self._models = models
        self._target_wait_s = target_wait_s
        self._settings = DatabaseSettings(**database)
        self._database: Database | None = None
        self._backlog: Backlog | None = None
        self._poll: asyncio.Task[None] | None = None
        self._polled_at = -math.inf
        self._failure = ""
        """The last poll's, which is logged once."""

    def __call__(self, context: AutoscalingContext) -> tuple[float, dict[str, Any]]:
        """The number of replicas wanted; Serve keeps it within the configured bounds."""
        if (self._poll is None or self._poll.done()) and monotonic() - self._polled_at >= _POLL_S:
            self._polled_at = monotonic()
            self._poll = asyncio.get_running_loop().create_task(self._read())
        backlog, now = self._backlog, context.target_num_replicas
        if backlog is None:
            return now, {}
        return backlog.replicas(self._target_wait_s, now), {"backlog_s": backlog.seconds}

    async def _read(self) -> None:
        if self._database is None:
            self._database = Database(os.environ["DATABASE_URL"], self._settings, pool_size=1)
        try:
            models = await active_models(self._database, self._pool, self._models)
            self._backlog = await read_backlog(self._database, self._pool, models)
        except Exception as error:  # nobody awaits this task
            if repr(error) != self._failure:
                unexpected = not isinstance(error, DatabaseUnavailable)
                text = f"autoscaling.failed {self._pool}: {error}"
                log.log(logging.ERROR, text, exc_info=unexpected)
            self._failure = repr(error)
        else:
            self._failure = ""

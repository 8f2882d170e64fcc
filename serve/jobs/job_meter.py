"""What a process records of jobs: that it accepted them, and that it brought them to their end."""

from __future__ import annotations

from collections.abc import Callable

from serve.observability.meter import Meter
from serve.observability.metrics import JOB_DURATION, JOBS_ENDED, JOBS_SUBMITTED
from serve.tables import Job


class JobMeter:
    """Each method is called once its transaction is committed."""

    def __init__(self, meter: Meter, pool_of: Callable[[str], str]) -> None:
        """``pool_of`` is a model's pool, or empty where none has it any more."""
        self._meter = meter
        self._pool_of = pool_of

    def submitted(self, job: Job) -> None:
        self._meter.count(JOBS_SUBMITTED, pool=self._pool_of(job.model), model=job.model)

    def ended(self, job: Job) -> None:
        """The job, as its row is now."""
        pool, state = self._pool_of(job.model), job.state.value
        self._meter.count(JOBS_ENDED, state=state, pool=pool, model=job.model)
        if job.finished_at is not None:
            seconds = (job.finished_at - job.created_at).total_seconds()
            self._meter.observe(JOB_DURATION, seconds, state=state, pool=pool, model=job.model)

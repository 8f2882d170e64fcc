"""Jobs that a worker leaves to others."""

from __future__ import annotations

from collections.abc import Sequence
from time import monotonic
from uuid import UUID

LOOK_AGAIN_S = 30.0


class PassedBy:
    """Jobs that this worker cannot read, each for ``LOOK_AGAIN_S`` seconds.

    Then it looks again: the job may have waited for long enough to fail.
    """

    def __init__(self) -> None:
        self._until: dict[UUID, float] = {}

    def add(self, job_id: UUID) -> None:
        self._until[job_id] = monotonic() + LOOK_AGAIN_S

    @property
    def jobs(self) -> Sequence[UUID]:
        """Those to be passed by now."""
        now = monotonic()
        self._until = {job_id: until for job_id, until in self._until.items() if until > now}
        return list(self._until)

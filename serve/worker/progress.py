"""Progress of pictures: the newest of each is published, at most ten times a second a job."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime
from uuid import UUID

from pipelines.diffusion.request import Progress
from pipelines.imaging.preview import encode_preview
from serve.events.bus import EventBus
from serve.events.event import Event, EventType
from serve.supervise import RoundDone, ignore_round
from serve.worker.queue import Claim

_EVERY_S = 0.1


class ProgressBoard:
    """The newest progress of each picture that this worker draws.

    Pictures of one job take turns. A preview waits until it is published, even if a newer step
    brings none.
    """

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._newest: dict[UUID, tuple[Claim, Progress]] = {}
        self._closed = False

    def put(self, claim: Claim, progress: Progress) -> None:
        _, older = self._newest.get(claim.image_id, (None, None))
        if older is not None and older.preview is not None and progress.preview is None:
            progress = Progress(
                progress.request_id, progress.step, progress.steps, preview=older.preview
            )
        self._newest[claim.image_id] = (claim, progress)  # a picture that waits keeps its place

    def drop(self, claim: Claim) -> None:
        """Publish nothing more of a picture that has ended."""
        self._newest.pop(claim.image_id, None)

    def close(self) -> None:
        """End ``run`` within a tenth of a second; redis-py may swallow a cancellation."""
        self._closed = True

    async def run(self, round_done: RoundDone = ignore_round) -> None:
        """Publish until closed."""
        while not self._closed:
            await asyncio.sleep(_EVERY_S)
            if due := self._take_due():
                await self._bus.publish(*[_event(claim, progress) for claim, progress in due])
            round_done()

    def _take_due(self) -> list[tuple[Claim, Progress]]:
        """Take, of each job, the picture that has waited longest."""
        first: dict[UUID, UUID] = {}
        for image_id, (claim, _) in self._newest.items():
            first.setdefault(claim.job_id, image_id)
        return [self._newest.pop(image_id) for image_id in first.values()]


def _event(claim: Claim, progress: Progress) -> Event:
    data = {
        "image_id": str(claim.image_id),
        "index": claim.index,
        "step": progress.step,
        "steps": progress.steps,
    }
    if progress.preview is not None:
        preview = base64.b64encode(encode_preview(progress.preview)).decode()
        data["preview"] = f"data:image/webp;base64,{preview}"
    return Event(
        tenant_id=claim.tenant_id,
        job_id=claim.job_id,
        seq=None,
        type=EventType.PROGRESS,
        created_at=datetime.now(UTC),
        data=data,
    )

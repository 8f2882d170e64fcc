"""What a worker does to a picture, without an engine: claim it, store its files, commit."""

from __future__ import annotations

from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from pipelines.diffusion.request import EngineStats, PromptReading
from serve.api.services import Services
from serve.pictures.credentials import open_signer
from serve.worker.claims import Claims
from serve.worker.delivery import PostprocessTask, store_picture
from serve.worker.queue import Claim


class Desk:
    """A registered worker's place at the tables."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.claims = Claims(services.database, services.bus, list(services.settings.served))
        self._worker_id: UUID | None = None

    async def claim(self, limit: int = 8) -> list[Claim]:
        return await self.claims.claim(await self._registered(), limit, background=limit)

    async def beat(self) -> None:
        """Say that the worker lives."""
        await self.claims.heartbeat(await self._registered(), EngineStats(), draining=False)

    async def _registered(self) -> UUID:
        if self._worker_id is None:
            self._worker_id = await self.claims.register("cpu", 8)
        return self._worker_id

    async def finish(
        self,
        claim: Claim,
        reading: PromptReading | None = None,
        pixels: NDArray[np.uint8] | None = None,
    ) -> None:
        """A grey picture, as dark as its index is high, where none is given."""
        if pixels is None:
            shape = (claim.request.height, claim.request.width, 3)
            pixels = np.full(shape, 200 - claim.index, dtype=np.uint8)
        stored = await store_picture(
            self._services.storage,
            pixels,
            PostprocessTask.of(claim),
            signer=open_signer(self._services.settings),
        )
        told = reading or PromptReading()
        assert await self.claims.complete(
            claim,
            stored.files,
            reading=told,
            blurhash=stored.blurhash,
            critique=stored.critique,
        )

"""What a worker does to a picture, without an engine: claim it, store its files, commit."""

from __future__ import annotations

from uuid import UUID

import numpy as np

from pipelines.imaging.format import PictureFormat
from pipelines.imaging.postprocess import PostprocessSpec, process
from serve.api.services import Services
from serve.jobs.claim import Claim
from serve.jobs.claims import Claims
from serve.jobs.stored_file import StoredFile


class Desk:
    """A registered worker's place at the tables."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self.claims = Claims(services.database, services.bus, services.settings.model.name)
        self._worker_id: UUID | None = None

    async def claim(self, limit: int = 8) -> list[Claim]:
        if self._worker_id is None:
            self._worker_id = await self.claims.register("cpu", 8)
        return await self.claims.claim(self._worker_id, limit)

    async def finish(self, claim: Claim) -> None:
        """A grey picture, as dark as its index is high."""
        shape = (claim.request.height, claim.request.width, 3)
        pixels = np.full(shape, 200 - claim.index, dtype=np.uint8)
        spec = PostprocessSpec(format=PictureFormat(claim.request.output_format))
        files = []
        for variant in process(pixels, spec):
            key = f"{claim.job_id}/{claim.index}/{claim.attempt}/{variant.file_name}"
            await self._services.storage.put(key, variant.data, variant.media_type)
            files.append(
                StoredFile(
                    name=variant.name,
                    media_type=variant.media_type,
                    width=variant.width,
                    height=variant.height,
                    size=variant.size,
                    sha256=variant.sha256,
                    storage_key=key,
                )
            )
        assert await self.claims.complete(claim, files)

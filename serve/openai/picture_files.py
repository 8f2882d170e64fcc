"""How a job's finished pictures are handed to its client: in the answer itself, or by URL."""

from __future__ import annotations

import asyncio
import base64
from typing import Literal
from uuid import UUID

from starlette.requests import Request

from pipelines.imaging.postprocess import ORIGINAL
from serve.http.address import base_url
from serve.openai.generation import GeneratedImage
from serve.openai.services import OpenAIServices
from serve.pictures.errors import ImageDeleted
from serve.pictures.signed_urls import File
from serve.tables import Image, Job


class PictureFiles:
    """The original files of one tenant's pictures."""

    def __init__(self, services: OpenAIServices, tenant_id: UUID) -> None:
        self._services = services
        self._tenant_id = tenant_id

    async def of(
        self, job: Job, form: Literal["b64_json", "url"] | None, request: Request
    ) -> list[GeneratedImage]:
        """One a picture, in order.

        Raises:
            ImageDeleted: one was deleted meanwhile, or before the same request came again.
            FileDamaged, StorageUnavailable: as `CheckedFiles` does.
        """
        if deleted := [image for image in job.images if image.deleted_at is not None]:
            raise ImageDeleted(f"Image {deleted[0].id} of job {job.id} was deleted.")
        if form == "url":
            base = base_url(request)
            urls = [await self.signed_url(image.id, base) for image in job.images]
            return [GeneratedImage(url=url) for url in urls]
        files = await asyncio.gather(*(self.base64_of(image) for image in job.images))
        return [GeneratedImage(b64_json=file) for file in files]

    async def base64_of(self, image: Image) -> str:
        """The picture's file; raises the same."""
        original = next(file for file in image.variants if file.name == ORIGINAL)
        file = await self._services.files.whole(self._tenant_id, original)
        return base64.b64encode(file).decode()

    async def signed_url(self, image_id: UUID, base: str) -> str:
        """Opens the picture's file for a while, at whichever ingress."""
        signature = await self._services.signed_urls.sign(self._tenant_id, File(image_id, ORIGINAL))
        return f"{base}/v1/images/{image_id}/{ORIGINAL}?signature={signature}"

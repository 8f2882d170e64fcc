"""What a post-process replica does: encode a picture, and store its files."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from pipelines.imaging.format import PictureFormat
from pipelines.imaging.postprocess import PostprocessSpec, process
from serve.pictures.stored_file import PictureKey, StoredFile
from serve.storage import Storage
from serve.worker.queue import Claim


@dataclass(frozen=True, slots=True)
class PostprocessTask:
    """What a post-process replica needs of a picture besides its pixels."""

    image_id: UUID
    job_id: UUID
    attempt: int
    spec: PostprocessSpec

    @classmethod
    def of(cls, claim: Claim) -> PostprocessTask:
        request = claim.request
        return cls(
            image_id=claim.image_id,
            job_id=claim.job_id,
            attempt=claim.attempt,
            spec=PostprocessSpec(
                format=PictureFormat(request.output_format),
                quality=request.output_compression,
                metadata=request.metadata(claim.index),
            ),
        )


async def store_picture(
    storage: Storage, image: NDArray[np.uint8], task: PostprocessTask
) -> list[StoredFile]:
    """Encode the picture, (height, width, 3) uint8, in every variant, and store each.

    It may be retried: encoding is deterministic, and the keys hold the attempt, so that two
    attempts never write the same file.

    Raises:
        StorageError: the storage refused, or failed.
    """
    stored = []
    for variant in await asyncio.to_thread(process, image, task.spec):
        key = str(PictureKey(task.job_id, task.image_id, task.attempt, variant.file_name))
        await storage.put(key, variant.data, variant.media_type)
        stored.append(
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
    return stored


async def discard_picture(storage: Storage, task: PostprocessTask) -> None:
    """Delete what the attempt has stored. It must be certain that it is never committed.

    Raises:
        StorageError: the storage failed; the sweeper deletes the rest.
    """
    async for page in storage.list(f"{task.job_id}/{task.image_id}/{task.attempt}"):
        await storage.delete([found.key for found in page])

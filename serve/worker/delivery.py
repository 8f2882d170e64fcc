"""From a drawn picture to stored files.

A diffusion replica has `Delivery`, which says what is tried again, and how often. A post-process
replica encodes the picture and stores its files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC
from importlib.metadata import version
from time import monotonic
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import numpy as np
import structlog
from numpy.typing import NDArray

from pipelines.imaging.critique import Critique
from pipelines.imaging.errors import ImagingError
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.metadata.xmp import SOFTWARE
from pipelines.imaging.postprocess import PostprocessSpec, Variant, process
from serve.moderation.errors import ContentPolicyViolation, ModerationUnavailable
from serve.observability import tracing
from serve.observability.tracing import TraceContext
from serve.pictures.stored_file import PictureKey, StoredFile
from serve.settings import WorkerSettings
from serve.storage import (
    Storage,
    StorageError,
    StorageForbidden,
    StorageFull,
    StorageUnavailable,
)
from serve.worker.errors import PictureFailed, PostprocessLost
from serve.worker.queue import Claim
from serve.worker.retry import pause

if TYPE_CHECKING:  # a diffusion replica needs no library for it
    from pipelines.imaging.credentials.sign import CredentialSigner

log = structlog.get_logger(__name__)

_REPLACED_WITHIN_S = 120.0  # seconds on an idle machine; 15 were measured on a busy one
_DISCARD_S = 10.0

Judge = Callable[[NDArray[np.uint8]], Awaitable[None]]
"""Raises if a picture, (height, width, 3), may not be kept."""


@dataclass(frozen=True, slots=True)
class PostprocessTask:
    """What a post-process replica needs of a picture besides its pixels."""

    image_id: UUID
    job_id: UUID
    tenant_id: UUID
    attempt: int
    spec: PostprocessSpec

    @classmethod
    def of(cls, claim: Claim) -> PostprocessTask:
        request = claim.request
        return cls(
            image_id=claim.image_id,
            job_id=claim.job_id,
            tenant_id=claim.tenant_id,
            attempt=claim.attempt,
            spec=PostprocessSpec(
                format=PictureFormat(request.output_format),
                quality=request.output_compression,
                metadata=request.metadata(claim.index) | _made_by(claim),
                critique=request.autonomous,
            ),
        )

    @property
    def ids(self) -> dict[str, str | int]:
        """What log lines of the picture have."""
        return {
            "job_id": str(self.job_id),
            "image_id": str(self.image_id),
            "tenant_id": str(self.tenant_id),
            "attempt": self.attempt,
        }


@dataclass(frozen=True, slots=True)
class StoredPicture:
    """What post-processing made of a picture, and how long it took."""

    files: Sequence[StoredFile]
    blurhash: str
    postprocessing_s: float
    """For asking the classifier, if there is one, and for encoding."""
    storing_s: float
    critique: Critique | None = None


class PostprocessStep(Protocol):
    """The post-process replicas, as a diffusion replica sees them."""

    async def store_picture(
        self, image: NDArray[np.uint8], task: PostprocessTask, trace: TraceContext | None
    ) -> StoredPicture:
        """See the function `store_picture`; may be repeated. Its spans continue ``trace``.

        Raises:
            PostprocessLost: the replica died, or cannot be reached.
            ContentPolicyViolation, ModerationUnavailable: as `Moderation.judge_picture` does.
            StorageError, ImagingError: as that function does.
        """

    async def discard(self, task: PostprocessTask) -> None:
        """See `discard_picture`; raises the same."""


def _made_by(claim: Claim) -> dict[str, str]:
    """Nothing of the present moment: a retry writes the same bytes."""
    software = {"software": f"{SOFTWARE} {version('sfumato')}"}
    if claim.submitted_at is None:
        return software
    created = claim.submitted_at.astimezone(UTC)
    return {**software, "created_at": created.isoformat(timespec="seconds")}


class Delivery:
    """Stores pictures through the post-process replicas."""

    def __init__(self, step: PostprocessStep, settings: WorkerSettings) -> None:
        self._step = step
        self._settings = settings

    async def store(
        self, image: NDArray[np.uint8], claim: Claim, trace: TraceContext | None = None
    ) -> StoredPicture:
        """The files of a picture, (height, width, 3), once all of them are stored.

        If storage or moderation does not answer, it tries a few times again; if the replica is
        lost, until Serve has had time to replace it. A try may leave files that no row names,
        for the sweeper. A full or forbidden storage, and a picture that is refused or cannot be
        encoded, are final.

        Raises:
            PictureFailed: it gave up; the message is for the client, and some files may be
                stored.
        """
        task = PostprocessTask.of(claim)
        attempt = 1
        lost_since: float | None = None
        while True:
            try:
                return await self._try(image, task, trace)
            except ImagingError as error:
                raise PictureFailed(f"The picture could not be encoded: {error}") from error
            except PostprocessLost as error:
                lost_since = lost_since or monotonic()
                if monotonic() - lost_since > _REPLACED_WITHIN_S:
                    raise _not_stored(error) from error
                reason = str(error)
            except (StorageError, ContentPolicyViolation, ModerationUnavailable) as error:
                lost_since = None
                if attempt >= self._settings.store_tries or not _may_pass(error):
                    raise _not_stored(error) from error
                reason = str(error)
            log.warning("delivery.failed", tries=attempt, error=reason)
            await asyncio.sleep(pause(attempt))
            attempt += 1

    async def discard(self, claim: Claim) -> None:
        """Delete what was stored of a failed claim; the sweeper deletes what this leaves."""
        task = PostprocessTask.of(claim)
        try:
            async with asyncio.timeout(_DISCARD_S):
                await self._step.discard(task)
        except (StorageError, PostprocessLost, TimeoutError) as error:
            log.warning("delivery.files_left", error=str(error))

    async def _try(
        self, image: NDArray[np.uint8], task: PostprocessTask, trace: TraceContext | None
    ) -> StoredPicture:
        limit = self._settings.store_timeout_s
        try:
            async with asyncio.timeout(limit):
                return await self._step.store_picture(image, task, trace)
        except TimeoutError as error:
            raise StorageUnavailable(
                f"Storage did not answer within {limit:g} s: check its disk or network, or raise "
                "SFUMATO_WORKER__STORE_TIMEOUT_S."
            ) from error


def _may_pass(error: Exception) -> bool:
    """Whether another try may help."""
    passing = isinstance(error, StorageUnavailable | ModerationUnavailable)
    return passing and not isinstance(error, StorageFull | StorageForbidden)


def _not_stored(error: Exception) -> PictureFailed:
    if isinstance(error, ContentPolicyViolation | ModerationUnavailable):
        return PictureFailed(error.message, error.code)
    return PictureFailed(f"The picture could not be stored: {error}")


async def store_picture(
    storage: Storage,
    image: NDArray[np.uint8],
    task: PostprocessTask,
    trace: TraceContext | None = None,
    judge: Judge | None = None,
    signer: CredentialSigner | None = None,
) -> StoredPicture:
    """Encode the picture, (height, width, 3) uint8, in every variant, and store each.

    It may be retried: the keys hold the attempt and the content's hash, so that no file takes the
    place of another. A picture that ``judge`` refuses is not stored.

    Raises:
        StorageError: the storage refused, or failed.
        Exception: whatever ``judge`` raises.
    """
    with tracing.timed("postprocess", trace) as encoding:
        if judge is not None:
            await judge(image)
        processed = await asyncio.to_thread(process, image, task.spec, signer)

    async def put(variant: Variant) -> StoredFile:
        key = str(PictureKey(task.job_id, task.image_id, task.attempt, variant.file_name))
        await storage.put(key, variant.data, variant.media_type)
        return StoredFile.of(variant, key)

    with tracing.timed("store", trace) as storing:
        # At once: a disk syncs several files in the time of one. None is still being written when
        # the error of another is raised.
        files = await asyncio.gather(*map(put, processed.files), return_exceptions=True)
        stored = [_stored(file) for file in files]
    return StoredPicture(
        stored, processed.blurhash, encoding.seconds, storing.seconds, processed.critique
    )


def _stored(file: StoredFile | BaseException) -> StoredFile:
    if isinstance(file, BaseException):
        raise file
    return file


async def discard_picture(storage: Storage, task: PostprocessTask) -> None:
    """Delete what the attempt has stored. It must be certain that it is never committed.

    Raises:
        StorageError: the storage failed; the sweeper deletes the rest.
    """
    async for page in storage.list(f"{task.job_id}/{task.image_id}/{task.attempt}"):
        await storage.delete([found.key for found in page])

"""From a drawn picture to stored files: what is tried again, how often, and what is told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import uniform
from time import monotonic
from typing import Protocol

import numpy as np
import structlog
from numpy.typing import NDArray

from pipelines.imaging.errors import ImagingError
from serve.jobs.claim import Claim
from serve.jobs.errors import PostprocessFailed, PostprocessLost
from serve.moderation.errors import ContentPolicyViolation, ModerationUnavailable
from serve.pictures.stored_file import StoredFile
from serve.settings import WorkerSettings
from serve.storage import StorageError, StorageForbidden, StorageFull, StorageUnavailable
from serve.worker.postprocess import PostprocessTask

log = structlog.get_logger(__name__)

_LONGEST_PAUSE_S = 10.0
_REPLACED_WITHIN_S = 120.0  # seconds on an idle machine; on a busy one it was seen to take 15
_DISCARD_S = 10.0


class PostprocessStep(Protocol):
    """The post-process replicas, as a diffusion replica sees them."""

    async def store(self, image: NDArray[np.uint8], task: PostprocessTask) -> Sequence[StoredFile]:
        """See `serve.worker.postprocess.store_picture`; may be repeated.

        Raises:
            PostprocessLost: the replica died, or cannot be reached.
            ContentPolicyViolation, ModerationUnavailable: as `Moderation.judge_picture` does.
            StorageError, ImagingError: as that function does.
        """

    async def discard(self, task: PostprocessTask) -> None:
        """See `serve.worker.postprocess.discard_picture`; raises the same."""


class Delivery:
    """Stores pictures by way of the post-process step."""

    def __init__(self, step: PostprocessStep, settings: WorkerSettings) -> None:
        self._step = step
        self._settings = settings

    async def store(self, image: NDArray[np.uint8], claim: Claim) -> Sequence[StoredFile]:
        """The files of a picture, (height, width, 3), once all of them are stored.

        A storage that does not answer and one that hangs are tried a few times again, a dead
        replica until Serve has had time to replace it: it writes the same bytes under the same
        keys. A full or closed storage and a picture that is refused or cannot be encoded are not.

        Raises:
            PostprocessFailed: it gave up; the message is for the client, and some files may be
                stored.
        """
        task = PostprocessTask.of(claim)
        attempt = 1
        lost_since: float | None = None
        while True:
            try:
                return await self._try(image, task)
            except PostprocessLost as error:
                lost_since = lost_since or monotonic()
                if monotonic() - lost_since > _REPLACED_WITHIN_S:
                    raise _not_stored(error) from error
                self._warn(task, attempt, error)
            except (StorageUnavailable, ModerationUnavailable) as error:
                passing = not isinstance(error, StorageFull | StorageForbidden)
                if not passing or attempt >= self._settings.store_tries:
                    raise _not_stored(error) from error
                lost_since = None
                self._warn(task, attempt, error)
            except (StorageError, ContentPolicyViolation) as error:
                raise _not_stored(error) from error
            except ImagingError as error:
                raise PostprocessFailed(f"The picture could not be encoded: {error}") from error
            await asyncio.sleep(pause(attempt))
            attempt += 1

    async def discard(self, claim: Claim) -> None:
        """Delete what was stored of a failed claim; what this leaves, the sweeper finds."""
        task = PostprocessTask.of(claim)
        try:
            async with asyncio.timeout(_DISCARD_S):
                await self._step.discard(task)
        except (StorageError, PostprocessLost, TimeoutError) as error:
            log.warning("delivery.files_left", image_id=str(task.image_id), error=str(error))

    @staticmethod
    def _warn(task: PostprocessTask, attempt: int, error: Exception) -> None:
        log.warning(
            "delivery.failed", image_id=str(task.image_id), attempt=attempt, error=str(error)
        )

    async def _try(self, image: NDArray[np.uint8], task: PostprocessTask) -> Sequence[StoredFile]:
        limit = self._settings.store_timeout_s
        try:
            async with asyncio.timeout(limit):
                return await self._step.store(image, task)
        except TimeoutError as error:
            raise StorageUnavailable(
                f"Storage did not answer within {limit:g} s: check its disk or network, or raise "
                "SFUMATO_WORKER__STORE_TIMEOUT_S."
            ) from error


def _not_stored(error: Exception) -> PostprocessFailed:
    if isinstance(error, ContentPolicyViolation | ModerationUnavailable):
        return PostprocessFailed(error.message, error.code)
    return PostprocessFailed(f"The picture could not be stored: {error}")


def pause(attempt: int) -> float:
    """Seconds to wait after so many tries: twice as long each time, half of it by chance."""
    longest = min(2.0 ** min(attempt - 1, 10), _LONGEST_PAUSE_S)
    return uniform(longest / 2, longest)  # noqa: S311 - to spread, not to hide

"""What a client may do with pictures: look for them, favour, delete. One transaction each."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import structlog

from serve.database import Database, Session
from serve.jobs import repository
from serve.jobs.errors import (
    ImageDeleted,
    ImageNotFound,
    ImageUnfinished,
    JobNotFound,
    JobUnended,
)
from serve.jobs.picture_filter import PictureFilter
from serve.models import Image
from serve.storage import Storage, StorageError

log = structlog.get_logger(__name__)


class Pictures:
    """The pictures of every tenant; each call sees one tenant's only.

    A deleted one keeps its row, without files: its job goes on telling what was drawn.
    """

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database = database
        self._storage = storage

    async def get(self, tenant_id: UUID, image_id: UUID) -> Image:
        """One image, finished or not, with its job and variants.

        Raises:
            ImageNotFound: the tenant has no such image.
            ImageDeleted: it had.
        """
        async with self._database.transaction() as session:
            return await self._load(session, tenant_id, image_id)

    async def list(
        self, tenant_id: UUID, wanted: PictureFilter, *, limit: int, after: UUID | None
    ) -> Sequence[Image]:
        """Finished pictures older than ``after``, newest first."""
        async with self._database.transaction() as session:
            return await repository.load_images(session, tenant_id, wanted, limit, after)

    async def favour(self, tenant_id: UUID, image_id: UUID, favourite: bool) -> Image:
        """Mark the picture as a favourite, or no longer.

        Raises:
            ImageNotFound, ImageDeleted: as `get` does.
        """
        async with self._database.transaction() as session:
            await self._load(session, tenant_id, image_id)
            await repository.set_favourite(session, image_id, favourite)
            return await self._load(session, tenant_id, image_id)

    async def delete(self, tenant_id: UUID, image_id: UUID) -> None:
        """Delete the picture and its files; one that is deleted already stays so.

        Raises:
            ImageNotFound: the tenant has no such image.
            ImageUnfinished: it is still to be drawn.
        """
        async with self._database.transaction() as session:
            image = await repository.load_image(session, tenant_id, image_id)
            if image is None:
                raise _no_image(image_id)
            if not image.state.terminal:
                raise ImageUnfinished(
                    f"The picture is {image.state}; cancel its job with"
                    f" DELETE /v1/jobs/{image.job_id}, or wait."
                )
            keys = await repository.delete_picture(session, image_id)
        await self._remove(keys)

    async def delete_all(self, tenant_id: UUID, job_id: UUID) -> None:
        """Delete every picture of the job, with their files; repeating it is harmless.

        Raises:
            JobNotFound: the tenant has no such job.
            JobUnended: it may still bring pictures.
        """
        async with self._database.transaction() as session:
            if not await repository.existing_jobs(session, [(tenant_id, job_id)]):
                raise JobNotFound(f"There is no job {job_id}.")
            job, _ = await repository.lock_job(session, job_id)  # so that two take turns
            if not job.state.terminal:
                raise JobUnended(
                    f"The job is {job.state}; cancel it with DELETE /v1/jobs/{job_id}, or wait."
                )
            keys = await repository.delete_pictures_of(session, job_id)
        await self._remove(keys)

    async def _load(self, session: Session, tenant_id: UUID, image_id: UUID) -> Image:
        image = await repository.load_image(session, tenant_id, image_id)
        if image is None:
            raise _no_image(image_id)
        if image.deleted_at is not None:
            raise ImageDeleted(f"Image {image_id} was deleted.")
        return image

    async def _remove(self, keys: Sequence[str]) -> None:
        """No row names the files any more: what this leaves, the sweeper finds."""
        try:
            await self._storage.delete(keys)
        except StorageError as error:
            log.warning("pictures.files_left", files=len(keys), error=str(error))


def _no_image(image_id: UUID) -> ImageNotFound:
    return ImageNotFound(f"There is no image {image_id}.")

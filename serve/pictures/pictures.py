"""A client's pictures: listed, marked as favourites, deleted. One transaction each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from uuid import UUID

import structlog

from serve.answer_cache import AnswerCache, Cached
from serve.database import Database, DatabaseUnavailable, Session
from serve.pictures.errors import ImageDeleted, ImageNotFound, ImageUnfinished
from serve.pictures.repository import delete_pictures, load_image, load_images, set_favourite
from serve.pictures.schemas import PicturePage
from serve.storage import Storage, StorageError
from serve.tables import Image
from serve.trends.repository import note
from serve.trends.signal import SignalKind

log = structlog.get_logger(__name__)


class Pictures:
    """The pictures of every tenant; each call sees one tenant's only.

    A deleted picture keeps its row, without files, so that its job still lists it.
    """

    def __init__(self, database: Database, storage: Storage, answers: AnswerCache) -> None:
        self._database = database
        self._storage = storage
        self._answers = answers

    async def get(self, tenant_id: UUID, image_id: UUID) -> Image:
        """One image, finished or not, with its job and variants.

        Raises:
            ImageNotFound: the tenant has no such image.
            ImageDeleted: it had.
        """
        async with self._database.transaction() as session:
            return await self._load_kept(session, tenant_id, image_id)

    async def list(
        self, tenant_id: UUID, page: PicturePage, *, model: str | None, after: UUID | None
    ) -> Sequence[Image]:
        """Finished pictures older than ``after``, newest first; one more than the page shows."""
        async with self._database.transaction() as session:
            return await load_images(session, tenant_id, page, model, after)

    async def favour(self, tenant_id: UUID, image_id: UUID, favourite: bool) -> Image:
        """Mark the picture as a favourite, or no longer.

        Raises:
            ImageNotFound, ImageDeleted: as `get` does.
        """
        changing = self._answers.changing(Cached.PAGES, tenant_id)
        async with changing, self._database.transaction() as session:
            before = await self._load_kept(session, tenant_id, image_id)
            await set_favourite(session, image_id, favourite)
            if favourite and not before.favourite:
                await _note(session, before, SignalKind.FAVOURED)
            return await self._load_kept(session, tenant_id, image_id)

    async def saved(self, image: Image) -> None:
        """Somebody keeps a file of the picture; while Postgres is away it is not noted."""
        with suppress(DatabaseUnavailable):
            async with self._database.transaction() as session:
                await _note(session, image, SignalKind.DOWNLOADED)

    async def delete(self, tenant_id: UUID, image_id: UUID) -> None:
        """Delete the picture and its files; one that is deleted already stays so.

        Raises:
            ImageNotFound: the tenant has no such image.
            ImageUnfinished: it is still to be drawn.
        """
        changing = self._answers.changing(Cached.PAGES, tenant_id)
        async with changing, self._database.transaction() as session:
            image = await self._load(session, tenant_id, image_id)
            if not image.state.terminal:
                raise ImageUnfinished(
                    f"The picture is {image.state}; cancel its job with"
                    f" DELETE /v1/jobs/{image.job_id}, or wait."
                )
            keys = await delete_pictures(session, job_id=image.job_id, image_id=image_id)
        await remove_files(self._storage, keys)

    async def _load(self, session: Session, tenant_id: UUID, image_id: UUID) -> Image:
        image = await load_image(session, tenant_id, image_id)
        if image is None:
            raise ImageNotFound(f"There is no image {image_id}.")
        return image

    async def _load_kept(self, session: Session, tenant_id: UUID, image_id: UUID) -> Image:
        image = await self._load(session, tenant_id, image_id)
        if image.deleted_at is not None:
            raise ImageDeleted(f"Image {image_id} was deleted.")
        return image


async def _note(session: Session, image: Image, kind: SignalKind) -> None:
    if not image.job.params.get("withhold_prompt"):
        await note(session, image.job_id, kind)


async def remove_files(storage: Storage, keys: Sequence[str]) -> None:
    """Delete files that no row names any more. If storage fails, the sweeper deletes them later."""
    try:
        await storage.delete(keys)
    except StorageError as error:
        log.warning("pictures.files_left", files=len(keys), error=str(error))

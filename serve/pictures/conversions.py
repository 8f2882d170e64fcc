"""Files in other formats than the one that was asked for: made when they are first opened."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import UUID

import anyio
import anyio.to_thread

from pipelines.imaging.convert import convert
from pipelines.imaging.errors import ImagingError
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.postprocess import ORIGINAL
from serve.answer_cache import AnswerCache, Cached
from serve.database import Database
from serve.pictures import repository
from serve.pictures.checked_files import CheckedFiles
from serve.pictures.errors import FormatImpossible, ImageDeleted
from serve.pictures.stored_file import PictureKey, StoredFile
from serve.storage import Storage
from serve.tables import Image, Variant

if TYPE_CHECKING:
    from pipelines.imaging.credentials.sign import CredentialSigner

_AT_ONCE = 2
"""A conversion takes a core for some tenths of a second."""


class Conversions:
    """Makes a file of a finished picture's original, and keeps it as one more variant.

    A file's key holds its hash, so that two processes which make the same file do no harm: one of
    them inserts the row. A file that lost, or whose process died before it had a row, is the
    sweeper's.
    """

    def __init__(
        self,
        database: Database,
        storage: Storage,
        files: CheckedFiles,
        answers: AnswerCache,
        signer: CredentialSigner | None = None,
    ) -> None:
        """``signer`` signs them, as the originals are."""
        self._signer = signer
        self._database = database
        self._storage = storage
        self._files = files
        self._answers = answers
        self._places = anyio.CapacityLimiter(_AT_ONCE)
        self._running: dict[tuple[UUID, PictureFormat], asyncio.Task[Variant]] = {}

    async def get(self, image: Image, wanted: PictureFormat) -> Variant | None:
        """The picture's file in this format; None if the picture has no files yet.

        Raises:
            FormatImpossible: the format cannot hold the picture.
            ImageDeleted: the picture was deleted meanwhile.
            FileDamaged, StorageUnavailable, DatabaseUnavailable: nothing is kept.
        """
        original = next((file for file in image.variants if file.name == ORIGINAL), None)
        if original is None or original.media_type == wanted.media_type:
            return original
        key = (image.id, wanted)
        if key not in self._running:
            task = asyncio.create_task(self._make(image, original, wanted))
            task.add_done_callback(lambda _: self._running.pop(key))
            self._running[key] = task
        return await asyncio.shield(self._running[key])  # others may wait for it as well

    async def _make(self, image: Image, original: Variant, wanted: PictureFormat) -> Variant:
        content = await self._files.whole(image.tenant_id, original)
        try:
            made = await anyio.to_thread.run_sync(
                convert, content, wanted, self._signer, limiter=self._places
            )
        except ImagingError as error:
            raise FormatImpossible(f"There is no {wanted} of this picture: {error}") from error
        key = str(PictureKey(image.job_id, image.id, image.attempt, made.file_name))
        await self._storage.put(key, made.data, made.media_type)
        file = StoredFile.of(made, key)
        changing = self._answers.changing(Cached.PAGES, image.tenant_id)
        async with changing, self._database.transaction() as session:
            variant = await repository.add_variant(session, image.id, file)
        if variant is None:
            await self._storage.delete([key])
            raise ImageDeleted(f"Image {image.id} was deleted.")
        return variant

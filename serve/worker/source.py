"""Fetches what a claim is drawn from."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import structlog
from numpy.typing import NDArray

from pipelines.imaging.errors import ImagingError
from pipelines.imaging.source import read_source
from serve.pictures.stored_file import SourceKey
from serve.settings import WorkerSettings
from serve.storage import ObjectMissing, Storage, StorageError, StorageForbidden, StorageUnavailable
from serve.worker.errors import PictureFailed
from serve.worker.queue import Claim
from serve.worker.retry import pause

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """``image`` and ``control_image``, which a ControlNet follows, are (height, width, 3).

    ``mask`` is (height, width), 255 where the image is painted anew.
    """

    image: NDArray[np.uint8] | None = None
    mask: NDArray[np.uint8] | None = None
    control_image: NDArray[np.uint8] | None = None

    def kept_in(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture, with the source's own pixels wherever the mask keeps them.

        The model's autoencoder reproduces those only nearly.
        """
        if self.mask is None or self.image is None:
            return picture
        return np.where(self.mask[..., None] >= 128, picture, self.image)


class SourceLoader:
    """Fetches what a claim is drawn from."""

    def __init__(self, storage: Storage, settings: WorkerSettings) -> None:
        self._storage = storage
        self._settings = settings

    async def load(self, claim: Claim) -> Source:
        """The pixels of all that the claim is drawn from.

        If storage fails, hangs or does not find a file, it is tried a few times again.

        Raises:
            PictureFailed: it gave up; the message is for the client.
        """
        files = {name: await self._fetch(key) for name, key in claim.sources.items()}
        try:
            return await asyncio.to_thread(_read, files)
        except ImagingError as error:
            raise PictureFailed(str(error)) from error

    async def _fetch(self, key: SourceKey) -> bytes:
        attempt = 1
        while True:
            try:
                async with asyncio.timeout(self._settings.store_timeout_s):
                    file = await self._storage.get(str(key))
                break
            except (StorageError, TimeoutError) as error:
                reason = str(error) or "storage did not answer in time"
                passing = isinstance(error, ObjectMissing | StorageUnavailable | TimeoutError)
                last = attempt >= self._settings.store_tries or isinstance(error, StorageForbidden)
                if last or not passing:
                    message = f"The source picture could not be read: {reason}"
                    raise PictureFailed(message) from error
                log.warning("source.failed", key=str(key), attempt=attempt, error=reason)
            await asyncio.sleep(pause(attempt))
            attempt += 1
        if hashlib.sha256(file).hexdigest() != key.sha256:
            raise PictureFailed("The source picture's file was changed in storage.")
        return file


def _read(files: Mapping[str, bytes]) -> Source:
    return Source(**{name: read_source(file) for name, file in files.items()})

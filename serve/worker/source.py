"""Fetches what a claim is drawn from."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import numpy as np
import structlog
from numpy.typing import NDArray

from pipelines.imaging.errors import ImagingError
from pipelines.imaging.source import read_source
from serve.pictures.stored_file import LoraKey, SourceKey
from serve.settings import WorkerSettings
from serve.storage import ObjectMissing, Storage, StorageError, StorageForbidden, StorageUnavailable
from serve.worker.errors import PictureFailed
from serve.worker.queue import Claim
from serve.worker.retry import pause

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """``image`` and ``control_image``, which a ControlNet follows, are (height, width, 3).

    ``mask`` is (height, width), 255 where the image is painted anew. ``loras`` are files on this
    machine, by the names that the engine has for them.
    """

    image: NDArray[np.uint8] | None = None
    mask: NDArray[np.uint8] | None = None
    control_image: NDArray[np.uint8] | None = None
    loras: Mapping[str, Path] = field(default_factory=dict)

    def kept_in(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture, with the source's own pixels wherever the mask keeps them.

        The model's autoencoder reproduces those only nearly.
        """
        if self.mask is None or self.image is None:
            return picture
        return np.where(self.mask[..., None] >= 128, picture, self.image)


class SourceLoader:
    """Fetches what a claim is drawn from. LoRAs are kept in a folder, each under its SHA-256."""

    def __init__(self, storage: Storage, settings: WorkerSettings, lora_folder: Path) -> None:
        self._storage = storage
        self._settings = settings
        self._lora_folder = lora_folder
        self._fetching_lora = asyncio.Lock()  # the pictures of a job name the same

    async def load(self, claim: Claim) -> Source:
        """The pixels of all that the claim is drawn from, and the files of its uploaded LoRAs.

        If storage fails, hangs or does not find a file, it is tried a few times again.

        Raises:
            PictureFailed: it gave up; the message is for the client.
        """
        loras = {
            name: await self._lora(name, sha256)
            for name, sha256 in claim.request.versioned_loras.items()
        }
        files = {name: await self._fetch(key) for name, key in claim.sources.items()}
        try:
            return await asyncio.to_thread(_read, files, loras)
        except ImagingError as error:
            raise PictureFailed(str(error)) from error

    async def _lora(self, name: str, sha256: str) -> Path:
        path = self._lora_folder / f"{sha256}.safetensors"
        async with self._fetching_lora:
            if await asyncio.to_thread(path.is_file):
                return path
            file = await self._fetch(LoraKey(sha256), f"LoRA {name!r}")
            try:
                await asyncio.to_thread(_keep, path, file)
            except OSError as error:
                log.warning("source.lora_not_kept", path=str(path), error=str(error))
                reason = error.strerror or "the disk failed"
                raise PictureFailed(f"The LoRA {name!r} could not be kept: {reason}.") from error
        log.info("source.lora_fetched", lora=name, bytes=len(file))
        return path

    async def _fetch(self, key: SourceKey | LoraKey, what: str = "source picture") -> bytes:
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
                    message = f"The {what} could not be read: {reason}"
                    raise PictureFailed(message) from error
                log.warning("source.failed", storage_key=str(key), tries=attempt, error=reason)
            await asyncio.sleep(pause(attempt))
            attempt += 1
        if await asyncio.to_thread(_sha256, file) != key.sha256:
            raise PictureFailed(f"The file of the {what} was changed in storage.")
        return file


def _read(files: Mapping[str, bytes], loras: Mapping[str, Path]) -> Source:
    read = {name: read_source(file) for name, file in files.items()}
    return Source(read.get("image"), read.get("mask"), read.get("control_image"), loras)


def _sha256(file: bytes) -> str:
    return hashlib.sha256(file).hexdigest()


def _keep(path: Path, file: bytes) -> None:
    """Whole or not at all; other replicas of this machine may do the same at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    staged = path.with_name(f"{path.name}.{uuid4().hex}")
    try:
        staged.write_bytes(file)
        staged.replace(path)
    finally:
        staged.unlink(missing_ok=True)

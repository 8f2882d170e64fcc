"""Pictures that clients send in: decoded beside the event loop, a few at a time, and stored."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import TYPE_CHECKING
from uuid import UUID

import anyio
import anyio.to_thread
from PIL.Image import Image as Picture

from pipelines.imaging import errors as imaging
from pipelines.imaging.metadata.origin import Origin
from pipelines.imaging.metadata.read import read_origin
from pipelines.imaging.source import (
    mask_pixels,
    open_upload,
    source_file,
    source_pixels,
    upright_size,
)
from serve.database import Database
from serve.http.form import Upload
from serve.pictures import repository
from serve.pictures.errors import (
    AnimatedPicture,
    InvalidMask,
    InvalidPictureFile,
    PictureTooLarge,
    UnsupportedPicture,
)
from serve.pictures.stored_file import SourceKey
from serve.storage import Storage, StorageUnavailable

if TYPE_CHECKING:
    from pipelines.imaging.credentials.verify import Credentials, Verifier

_PUT_S = 30.0
_AT_ONCE = 2
_ALONE_FROM = 4096 * 4096  # pixels: of larger ones, which take the most memory, one at a time
_alone = threading.Lock()
_REFUSALS: dict[type[imaging.InvalidUpload], type[InvalidPictureFile]] = {
    imaging.UnknownFormat: UnsupportedPicture,
    imaging.TooManyPixels: PictureTooLarge,
    imaging.Animated: AnimatedPicture,
    imaging.InvalidMask: InvalidMask,
}

Size = tuple[int, int]


class Intake:
    """Makes sources of uploads, a few at a time in each process, before their job is accepted."""

    def __init__(
        self, database: Database, storage: Storage, open_verifier: Callable[[], Verifier]
    ) -> None:
        """The verifier is opened when it is first needed."""
        self._open_verifier = open_verifier
        self._database = database
        self._storage = storage
        self._places = anyio.CapacityLimiter(_AT_ONCE)

    async def size(self, image: Upload) -> Size:
        """The picture's own size; only its header is read.

        Raises:
            InvalidPictureFile: it is none.
        """
        return await anyio.to_thread.run_sync(_own_size, image, limiter=self._places)

    async def origin(self, image: Upload) -> Origin | None:
        """What the file says of how its picture was made; None if it says nothing.

        Raises:
            InvalidPictureFile: it is none.
        """
        return await anyio.to_thread.run_sync(_origin, image, limiter=self._places)

    async def credentials(self, image: Upload) -> Credentials | None:
        """What the file's content credentials say; None if it has none.

        Raises:
            InvalidPictureFile: it is none.
            NoCredentials: the certificates that are trusted cannot be read.
        """

        def verify() -> Credentials | None:
            with _read(image) as file:
                return self._verifier.verify(file)

        return await anyio.to_thread.run_sync(verify, limiter=self._places)

    @cached_property
    def _verifier(self) -> Verifier:
        return self._open_verifier()

    async def keep(
        self, tenant_id: UUID, size: Size, uploads: Mapping[str, Upload]
    ) -> dict[str, str]:
        """Store pictures at this size: the SHA-256 of each, by the field that names it.

        ``uploads`` are by field, of `serve.jobs.request.SOURCES`.

        Raises:
            InvalidPictureFile: a file is not what it should be.
            StorageUnavailable, DatabaseUnavailable: it is not kept.
        """

        def decode() -> list[bytes]:
            return [_source_file(name, uploads, size) for name in uploads]

        files = await anyio.to_thread.run_sync(decode, limiter=self._places)
        return dict(zip(uploads, await self.store(tenant_id, *files), strict=True))

    async def store(self, tenant_id: UUID, *files: bytes) -> list[str]:
        """The SHA-256 of each PNG file; once this returns they survive a crash.

        The row is written first: the sweeper then leaves the file for as long as it leaves any
        file, and a job that names it keeps it.

        Raises:
            DatabaseUnavailable, StorageUnavailable: nothing is lost by doing it again.
        """
        keys = [SourceKey(tenant_id, hashlib.sha256(file).hexdigest()) for file in files]
        async with self._database.transaction() as session:
            await repository.touch_sources(session, keys)
        try:
            async with asyncio.timeout(_PUT_S):
                for key, file in zip(keys, files, strict=True):
                    await self._storage.put(str(key), file, "image/png")
        except TimeoutError as error:
            raise StorageUnavailable(f"Storage did not answer within {_PUT_S:g} s.") from error
        return [key.sha256 for key in keys]


# The following functions read the uploads, and therefore run in a thread.


def _origin(image: Upload) -> Origin | None:
    with _read(image) as file:
        return read_origin(file)


def _own_size(image: Upload) -> Size:
    with _opened(image) as picture:
        return upright_size(picture)


def _source_file(name: str, uploads: Mapping[str, Upload], size: Size) -> bytes:
    own = _own_size(uploads["image"]) if name == "mask" else size
    with _opened(uploads[name]) as picture:
        large = picture.width * picture.height > _ALONE_FROM
        with _alone if large else nullcontext():
            if name == "mask":
                return source_file(mask_pixels(picture, own, size))
            return source_file(source_pixels(picture, size))


@contextmanager
def _opened(upload: Upload) -> Iterator[Picture]:
    """The upload's picture; an error in it names the upload's field."""
    with _read(upload) as file:
        yield open_upload(file)


@contextmanager
def _read(upload: Upload) -> Iterator[bytes]:
    """The upload's file; an error in it names the upload's field."""
    try:
        upload.file.seek(0)
        yield upload.file.read()
    except imaging.InvalidUpload as error:
        refusal = _REFUSALS.get(type(error), InvalidPictureFile)
        raise refusal(f"{upload.param}: {error}", param=upload.param) from error

"""What comes in as a picture: decoded beside the event loop, a few at a time, and kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from uuid import UUID

import anyio
import anyio.to_thread
from PIL.Image import Image as Picture
from starlette.datastructures import UploadFile

from pipelines.imaging import errors as imaging
from pipelines.imaging.errors import InvalidUpload
from pipelines.imaging.source import (
    mask_pixels,
    open_upload,
    source_file,
    source_pixels,
    upright_size,
)
from serve.api.errors import (
    AnimatedPicture,
    InvalidMask,
    InvalidPictureFile,
    PictureTooLarge,
    UnsupportedPicture,
)
from serve.jobs.request import JobRequest
from serve.jobs.sources import Sources

_AT_ONCE = 2  # each holds a picture of MAX_PIXELS, and a copy of it, at most
_REFUSALS: dict[type[InvalidUpload], type[InvalidPictureFile]] = {
    imaging.UnknownFormat: UnsupportedPicture,
    imaging.TooManyPixels: PictureTooLarge,
    imaging.Animated: AnimatedPicture,
    imaging.InvalidMask: InvalidMask,
}

Size = tuple[int, int]


class Intake:
    """One process's way from uploads to sources."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._places = anyio.CapacityLimiter(_AT_ONCE)

    async def size(self, image: UploadFile) -> Size:
        """The picture's own size, of which nothing is decoded.

        Raises:
            InvalidPictureFile: it is none.
        """
        return await anyio.to_thread.run_sync(_own_size, image, limiter=self._places)

    async def keep(
        self, tenant_id: UUID, asked: JobRequest, image: UploadFile, mask: UploadFile | None
    ) -> JobRequest:
        """Keep the picture and its mask at the size that is asked, and name them in the request.

        Raises:
            InvalidPictureFile: a file is not what it should be.
            StorageUnavailable, DatabaseUnavailable: it is not kept.
        """
        decode = partial(_decoded, image, mask, (asked.width, asked.height))
        files = await anyio.to_thread.run_sync(decode, limiter=self._places)
        image_sha256, *mask_sha256 = await self._sources.keep(tenant_id, *files)
        return replace(asked, image=image_sha256, mask=mask_sha256[0] if mask_sha256 else None)


# These read the uploads, and so are for a thread.


def _own_size(image: UploadFile) -> Size:
    with _opened(image, "image") as picture:
        return upright_size(picture)


def _decoded(image: UploadFile, mask: UploadFile | None, size: Size) -> list[bytes]:
    """The files to keep."""
    with _opened(image, "image") as picture:
        own = upright_size(picture)
        files = [source_file(source_pixels(picture, size))]
    del picture
    if mask is not None:
        with _opened(mask, "mask") as picture:
            files.append(source_file(mask_pixels(picture, own, size)))
    return files


@contextmanager
def _opened(upload: UploadFile, field: str) -> Iterator[Picture]:
    """The upload's picture; what turns out to be wrong with it is told of the field."""
    try:
        upload.file.seek(0)
        yield open_upload(upload.file.read())
    except InvalidUpload as error:
        refusal = _REFUSALS.get(type(error), InvalidPictureFile)
        raise refusal(f"{field}: {error}", param=field) from error

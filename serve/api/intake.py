"""What comes in as a picture: decoded beside the event loop, a few at a time, and kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import anyio
import anyio.to_thread
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
from serve.jobs.sources import Sources

_AT_ONCE = 2  # each holds a picture of MAX_PIXELS, and a copy of it, at most
_REFUSALS: dict[type[InvalidUpload], type[InvalidPictureFile]] = {
    imaging.UnknownFormat: UnsupportedPicture,
    imaging.TooManyPixels: PictureTooLarge,
    imaging.Animated: AnimatedPicture,
    imaging.InvalidMask: InvalidMask,
}

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Taken:
    """A source that is kept, and its mask, by SHA-256; ``size`` is width and height in pixels."""

    size: Size
    image: str
    mask: str | None


class Intake:
    """One process's way from uploads to sources."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._places = anyio.CapacityLimiter(_AT_ONCE)

    async def take(
        self,
        tenant_id: UUID,
        image: UploadFile,
        mask: UploadFile | None,
        size_for: Callable[[Size], Size],
    ) -> Taken:
        """Keep the picture and its mask at ``size_for`` the picture's own size.

        Raises:
            InvalidPictureFile: a file is not what it should be.
            StorageUnavailable, DatabaseUnavailable: it is not kept.
        """
        decode = partial(_decoded, image, mask, size_for)
        size, files = await anyio.to_thread.run_sync(decode, limiter=self._places)
        image_sha256, *mask_sha256 = await self._sources.keep(tenant_id, *files)
        return Taken(size, image_sha256, mask_sha256[0] if mask_sha256 else None)


def _decoded(
    image: UploadFile, mask: UploadFile | None, size_for: Callable[[Size], Size]
) -> tuple[Size, list[bytes]]:
    """The size to draw at, and the files to keep. Reads the uploads, and so is for a thread."""
    field = "image"
    try:
        picture = open_upload(image.file.read())
        own = upright_size(picture)
        size = size_for(own)
        files = [source_file(source_pixels(picture, size))]
        del picture
        if mask is not None:
            field = "mask"
            files.append(source_file(mask_pixels(open_upload(mask.file.read()), own, size)))
    except InvalidUpload as error:
        refusal = _REFUSALS.get(type(error), InvalidPictureFile)
        raise refusal(f"{field}: {error}", param=field) from error
    return size, files

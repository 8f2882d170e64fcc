"""What comes in as a picture: decoded beside the event loop, a few at a time, and kept."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from uuid import UUID

import anyio
import anyio.to_thread
from PIL.Image import Image as Picture

from pipelines.imaging import errors as imaging
from pipelines.imaging.errors import InvalidUpload
from pipelines.imaging.source import (
    mask_pixels,
    open_upload,
    source_file,
    source_pixels,
    upright_size,
)
from serve.http.form import Upload
from serve.pictures.errors import (
    AnimatedPicture,
    InvalidMask,
    InvalidPictureFile,
    PictureTooLarge,
    UnsupportedPicture,
)
from serve.pictures.sources import Sources

_AT_ONCE = 2
_ALONE_FROM = 4096 * 4096  # pixels: of larger ones, which take the most memory, one at a time
_alone = threading.Lock()
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

    async def size(self, image: Upload) -> Size:
        """The picture's own size, of which nothing is decoded.

        Raises:
            InvalidPictureFile: it is none.
        """
        return await anyio.to_thread.run_sync(_own_size, image, limiter=self._places)

    async def keep(
        self, tenant_id: UUID, size: Size, uploads: Mapping[str, Upload]
    ) -> dict[str, str]:
        """Keep pictures at this size: the SHA-256 of each, by the field that names it.

        ``uploads`` are by field, of `serve.jobs.request.SOURCES`.

        Raises:
            InvalidPictureFile: a file is not what it should be.
            StorageUnavailable, DatabaseUnavailable: it is not kept.
        """
        decode = partial(_decoded, uploads, size)
        files = await anyio.to_thread.run_sync(decode, limiter=self._places)
        kept = await self._sources.keep(tenant_id, *files.values())
        return dict(zip(files, kept, strict=True))


# These read the uploads, and so are for a thread.


def _own_size(image: Upload) -> Size:
    with _opened(image) as picture:
        return upright_size(picture)


def _decoded(uploads: Mapping[str, Upload], size: Size) -> dict[str, bytes]:
    """The files to keep, one picture after the other."""
    return {name: _fitted(name, uploads, size) for name in uploads}


def _fitted(name: str, uploads: Mapping[str, Upload], size: Size) -> bytes:
    own = _own_size(uploads["image"]) if name == "mask" else size
    with _opened(uploads[name]) as picture, _alone_if_large(picture):
        if name == "mask":
            return source_file(mask_pixels(picture, own, size))
        return source_file(source_pixels(picture, size))


def _alone_if_large(picture: Picture) -> AbstractContextManager[object]:
    return _alone if picture.width * picture.height > _ALONE_FROM else nullcontext()


@contextmanager
def _opened(upload: Upload) -> Iterator[Picture]:
    """The upload's picture; what turns out to be wrong with it is told of its field."""
    try:
        upload.file.seek(0)
        yield open_upload(upload.file.read())
    except InvalidUpload as error:
        refusal = _REFUSALS.get(type(error), InvalidPictureFile)
        raise refusal(f"{upload.param}: {error}", param=upload.param) from error

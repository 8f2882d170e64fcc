"""From the model's array to the files that are kept: a pure function, so that it may be retried."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines.imaging.encode import encode
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.thumbnail import thumbnail

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

ORIGINAL = "original"
THUMBNAIL = "thumbnail"
_THUMBNAIL_QUALITY = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class PostprocessSpec:
    """What was asked: the original's file format and what the file shall tell.

    A `quality` of None takes the format's default; `metadata` is what JSON can hold.
    """

    format: PictureFormat = PictureFormat.PNG
    quality: int | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One file of a picture; `width` and `height` in pixels, `size` in bytes, `sha256` in hex."""

    name: str
    format: PictureFormat
    width: int
    height: int
    size: int
    sha256: str
    data: bytes = field(repr=False)

    @property
    def media_type(self) -> str:
        """As in `Content-Type`."""
        return self.format.media_type

    @property
    def file_name(self) -> str:
        """Such as `original.png`."""
        return f"{self.name}.{self.format.extension}"


def process(image: NDArray[np.uint8], spec: PostprocessSpec) -> list[Variant]:
    """The files of one picture: the original, and its thumbnail as WebP.

    The same picture and spec give the same bytes.

    Args:
        image: (height, width, 3), RGB.
        spec: What was asked.

    Raises:
        ImagingError: the picture or the spec cannot be made into files.
    """
    small = thumbnail(image)
    files = [
        (ORIGINAL, spec.format, image, encode(image, spec.format, spec.quality, spec.metadata)),
        (
            THUMBNAIL,
            PictureFormat.WEBP,
            small,
            encode(small, PictureFormat.WEBP, _THUMBNAIL_QUALITY),
        ),
    ]
    return [
        Variant(
            name=name,
            format=format_,
            width=pixels.shape[1],
            height=pixels.shape[0],
            size=len(data),
            sha256=hashlib.sha256(data).hexdigest(),
            data=data,
        )
        for name, format_, pixels, data in files
    ]

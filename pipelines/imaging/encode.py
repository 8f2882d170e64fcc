"""A picture into a file."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.imaging.errors import InvalidPicture
from pipelines.imaging.format import PictureFormat, check_quality, check_size


class Encoder(Protocol):
    """The function `encode` of each module in `pipelines.imaging.formats`."""

    def __call__(
        self, picture: Image.Image, quality: int | None, metadata: Mapping[str, Any] | None
    ) -> bytes:
        """The file of an RGB picture; the quality is None where the format takes none.

        Raises:
            MetadataTooLong: the format has no room for the metadata.
            FormatUnavailable: this machine's libraries lack the format.
        """


def encode(
    image: NDArray[np.uint8],
    format: PictureFormat = PictureFormat.PNG,  # noqa: A002 the field's own word
    quality: int | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> bytes:
    """Writes a picture as a file in memory.

    Args:
        image: (height, width, 3), RGB.
        format: The file's format; PNG alone is lossless.
        quality: 0 to 100 for lossy formats; None takes the format's default.
        metadata: What JSON can hold: prompt, seed and the like, written into the file.

    Raises:
        InvalidPicture: another shape or type, or too large for the format.
        InvalidQuality: out of range, or given for PNG.
        MetadataTooLong: the format has no room for the metadata.
        FormatUnavailable: this machine's libraries lack the format.
    """
    picture = picture_of(image)
    check_size(format, *picture.size)
    check_quality(format, quality)
    return _encoder(format)(
        picture, format.default_quality if quality is None else quality, metadata
    )


@cache
def _encoder(format: PictureFormat) -> Encoder:  # noqa: A002 the field's own word
    module = import_module(f"pipelines.imaging.formats.{format.value}")
    return cast(Encoder, module.encode)


def picture_of(image: NDArray[np.uint8]) -> Image.Image:
    """Pillow's view of an array.

    Raises:
        InvalidPicture: it isn't (height, width, 3) uint8 with at least one pixel.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InvalidPicture(
            f"A picture is (height, width, 3) uint8; this is {image.shape} {image.dtype}."
        )
    return Image.fromarray(image)

"""A picture into a file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, features

from pipelines.imaging.errors import FormatUnavailable, InvalidPicture
from pipelines.imaging.format import PictureFormat, check_quality, check_size
from pipelines.imaging.metadata import embedding

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

# Per format: where a visible loss begins to cost more than the bytes that it saves.
_DEFAULT_QUALITY = {PictureFormat.WEBP: 85, PictureFormat.JPEG: 90, PictureFormat.AVIF: 75}
# zlib's run-length strategy: PNG's own filters leave little else to find. On 1024×1024 it took
# 84 ms and 1.76 MB, the default strategy at level 1 113 ms and 2.01 MB, at level 6 245 ms and
# 1.76 MB.
_Z_RLE = 3
_SPEED: dict[PictureFormat, dict[str, Any]] = {
    PictureFormat.PNG: {"compress_level": 1, "compress_type": _Z_RLE},
    # Method 2: 50 ms at 1024×1024; method 4, the default, 105 ms for 4 % fewer bytes.
    PictureFormat.WEBP: {"method": 2},
    PictureFormat.JPEG: {},
    # Speed 9: 86 ms at 1024×1024; 8 takes four times as long for 3 % fewer bytes. One thread,
    # because a post-process replica has one core.
    PictureFormat.AVIF: {"speed": 9, "max_threads": 1},
}


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
        FormatUnavailable: this Pillow lacks the format.
    """
    picture = picture_of(image)
    check_size(format, *picture.size)
    check_quality(format, quality)
    options = dict(_SPEED[format])
    if format.takes_quality:
        options["quality"] = _DEFAULT_QUALITY[format] if quality is None else quality
    if format is PictureFormat.AVIF and not features.check("avif"):
        raise FormatUnavailable("This Pillow was built without AVIF: ask for webp.")
    if metadata is not None:
        options |= embedding(metadata, format)
    file = io.BytesIO()
    picture.save(file, format=format.value, **options)
    return file.getvalue()


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

"""The file formats of pictures. Free of imaging libraries: anyone may import it."""

from __future__ import annotations

from enum import StrEnum


class PictureFormat(StrEnum):
    """A file format by the name that clients use (`output_format`)."""

    PNG = "png"
    WEBP = "webp"
    JPEG = "jpeg"
    AVIF = "avif"

    @property
    def media_type(self) -> str:
        """As in `Content-Type`."""
        return f"image/{self.value}"

    @property
    def extension(self) -> str:
        """Of the file's name, without the dot."""
        return "jpg" if self is PictureFormat.JPEG else self.value

    @property
    def takes_quality(self) -> bool:
        """Whether the format is lossy, so that a quality means something."""
        return self is not PictureFormat.PNG

    @property
    def longest_side(self) -> int:
        """The most pixels a side may have."""
        match self:
            case PictureFormat.PNG:
                return 2**31 - 1
            case PictureFormat.WEBP:
                return 16_383
            case PictureFormat.JPEG:
                return 65_500
            case PictureFormat.AVIF:
                return 65_536

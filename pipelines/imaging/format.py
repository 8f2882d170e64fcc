"""The file formats of pictures. Free of imaging libraries: anyone may import it."""

from __future__ import annotations

from enum import StrEnum

from pipelines.imaging.errors import InvalidPicture, InvalidQuality


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
                return 65_500  # of libjpeg; the format has 35 more
            case PictureFormat.AVIF:
                return 65_536


def check_size(format: PictureFormat, width: int, height: int) -> None:  # noqa: A002
    """Raises InvalidPicture for a picture, in pixels, that is too large for the format."""
    if max(width, height) > format.longest_side:
        raise InvalidPicture(
            f"{format.value} holds at most {format.longest_side} pixels a side, and this picture "
            f"is {width}×{height}: ask for png."
        )


def check_quality(format: PictureFormat, quality: int | None) -> None:  # noqa: A002
    """Raises InvalidQuality for one out of range, or for a lossless format."""
    if quality is None:
        return
    if not format.takes_quality:
        raise InvalidQuality("png is lossless: leave the quality out, or ask for webp or jpeg.")
    if not 0 <= quality <= 100:
        raise InvalidQuality(f"The quality is {quality}; give 0 (smallest) to 100 (best).")

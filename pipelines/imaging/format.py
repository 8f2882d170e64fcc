"""The file formats of pictures. Free of imaging libraries: anyone may import it."""

from __future__ import annotations

from enum import StrEnum

from pipelines.imaging.errors import InvalidPicture, InvalidQuality


class PictureFormat(StrEnum):
    """A file format by the name that clients use (`output_format`).

    Another one is a row here, and a module of its name in `pipelines.imaging.formats`.
    """

    extension: str
    """Of the file's name, without the dot."""
    default_quality: int | None
    """Where a visible loss begins to cost more than the bytes that it saves; None if lossless."""
    longest_side: int
    """The most pixels a side may have."""

    PNG = "png", "png", None, 2**31 - 1
    WEBP = "webp", "webp", 85, 16_383
    JPEG = "jpeg", "jpg", 90, 65_500  # of libjpeg; the format has 35 more
    AVIF = "avif", "avif", 75, 65_536

    def __new__(
        cls,
        name: str,
        extension: str = "",  # a type checker takes a lookup by name for a call of this
        default_quality: int | None = None,
        longest_side: int = 0,
    ) -> PictureFormat:
        member = str.__new__(cls, name)
        member._value_ = name
        member.extension = extension
        member.default_quality = default_quality
        member.longest_side = longest_side
        return member

    @property
    def media_type(self) -> str:
        """As in `Content-Type`."""
        return f"image/{self.value}"

    @property
    def takes_quality(self) -> bool:
        """Whether the format is lossy, so that a quality means something."""
        return self.default_quality is not None


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

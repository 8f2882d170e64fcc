"""Expected failures of pictures, and of the files that are sent in."""

from __future__ import annotations

from typing import ClassVar

from serve.errors import ServiceError


class ImageNotFound(ServiceError):
    status: ClassVar[int] = 404
    code: ClassVar[str] = "image_not_found"
    title: ClassVar[str] = "No such image"
    example = "There is no image 019ab2f4-6c1f-7b44-8e21-90d4a6f2c713."


class ImageDeleted(ServiceError):
    status: ClassVar[int] = 410
    code: ClassVar[str] = "image_deleted"
    title: ClassVar[str] = "The image was deleted"
    example = "Image 019ab2f4-6c1f-7b44-8e21-90d4a6f2c713 was deleted."


class ImageUnfinished(ServiceError):
    status: ClassVar[int] = 409
    code: ClassVar[str] = "image_not_finished"
    title: ClassVar[str] = "The image is not finished"
    example = "The picture is running; cancel its job, or wait."


class InvalidPictureFile(ServiceError):
    """An upload that is cut short, damaged, or more than a picture."""

    status = 422
    code = "invalid_image"
    title = "Not a picture"
    example = "image: The PNG file is cut short or damaged; send all of it."


class UnsupportedPicture(InvalidPictureFile):
    code = "unsupported_image"
    example = "image: The file is not a PNG, JPEG or WebP picture; convert it to one of them."


class PictureTooLarge(InvalidPictureFile):
    code = "image_too_large"
    example = "image: The picture is 12000x9000, which is 108.0 megapixels: make it smaller."


class AnimatedPicture(InvalidPictureFile):
    code = "animated_image"
    example = "image: The WebP file is animated; send a single picture."


class InvalidMask(InvalidPictureFile):
    code = "invalid_mask"
    example = "mask: The mask has 32x32 pixels; make it as large as its image, 64x64."


class VariantNotFound(ServiceError):
    status = 404
    code = "variant_not_found"
    title = "No such file of the picture"
    example = "The image has no file 'large'; it has: original, thumbnail."


class FormatImpossible(ServiceError):
    status = 422
    code = "format_impossible"
    title = "The format cannot hold the picture"
    example = (
        "There is no webp of this picture: webp holds at most 16383 pixels a side: ask for png."
    )


class FileDamaged(ServiceError):
    """A stored file is not what was stored; only its operator can mend that."""

    status = 500
    code = "file_damaged"
    title = "The stored file is damaged"
    example = "The file 'original' of the image was altered in storage, and is not served."


class RangeNotSatisfiable(ServiceError):
    status = 416
    code = "range_not_satisfiable"
    title = "No such bytes"

    def __init__(self, message: str, *, size: int) -> None:
        super().__init__(message, param="Range")
        self.size = size

    @property
    def headers(self) -> dict[str, str]:
        """How large the file is."""
        return {"Content-Range": f"bytes */{self.size}"}

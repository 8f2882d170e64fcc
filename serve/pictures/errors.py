"""Expected failures of pictures, and of the files that are sent in."""

from __future__ import annotations

from typing import ClassVar

from serve.errors import ServiceError


class ImageNotFound(ServiceError):
    status: ClassVar[int] = 404
    code: ClassVar[str] = "image_not_found"
    title: ClassVar[str] = "No such image"


class ImageDeleted(ServiceError):
    status: ClassVar[int] = 410
    code: ClassVar[str] = "image_deleted"
    title: ClassVar[str] = "The image was deleted"


class ImageUnfinished(ServiceError):
    status: ClassVar[int] = 409
    code: ClassVar[str] = "image_not_finished"
    title: ClassVar[str] = "The image is not finished"


class InvalidPictureFile(ServiceError):
    """An upload that is cut short, damaged, or more than a picture."""

    status = 422
    code = "invalid_image"
    title = "Not a picture"


class UnsupportedPicture(InvalidPictureFile):
    code = "unsupported_image"


class PictureTooLarge(InvalidPictureFile):
    code = "image_too_large"


class AnimatedPicture(InvalidPictureFile):
    code = "animated_image"


class InvalidMask(InvalidPictureFile):
    code = "invalid_mask"


class VariantNotFound(ServiceError):
    status = 404
    code = "variant_not_found"
    title = "No such file of the picture"


class FileDamaged(ServiceError):
    """A stored file is not what was stored; only its operator can mend that."""

    status = 500
    code = "file_damaged"
    title = "The stored file is damaged"


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

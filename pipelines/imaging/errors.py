"""What can be wrong with a picture or with how its file is asked for."""

from __future__ import annotations


class ImagingError(ValueError):
    """A picture could not be made into a file; the message names the cure."""


class InvalidPicture(ImagingError):
    """The array is no picture, or one that the format cannot hold."""


class InvalidQuality(ImagingError):
    """The quality is out of range, or the format has none."""


class MetadataTooLong(ImagingError):
    """The metadata does not fit into the file format."""


class FormatUnavailable(ImagingError):
    """This machine's Pillow was built without the format."""


class InvalidCertificate(ImagingError):
    """Pictures cannot be signed with a certificate, or with its key."""


class InvalidUpload(ImagingError):
    """A picture that came in is none that is taken; the message names the cure."""


class UnknownFormat(InvalidUpload):
    """By its first bytes it is neither PNG, JPEG nor WebP."""


class TooManyPixels(InvalidUpload):
    """Its header announces more pixels than are decoded."""


class Animated(InvalidUpload):
    """It has more than one frame."""


class BrokenFile(InvalidUpload):
    """It is cut short, has something behind its end, or cannot be decoded."""


class InvalidMask(InvalidUpload):
    """The mask has another size than its picture, no alpha, or marks nothing."""

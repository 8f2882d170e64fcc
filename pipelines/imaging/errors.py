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

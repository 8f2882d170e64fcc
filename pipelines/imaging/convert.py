"""A file of one format as a file of another, with all that it says of itself."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.imaging.encode import encode
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.metadata.read import read_metadata
from pipelines.imaging.postprocess import Variant, variant_of


def convert(file: bytes, format: PictureFormat) -> Variant:  # noqa: A002 the field's own word
    """The picture of one of our own files in another format, at that format's default quality.

    Raises:
        InvalidPicture: it is too large for the format.
        MetadataTooLong: the format has no room for what it says.
        FormatUnavailable: this machine's libraries lack the format.
    """
    pixels = pixels_of(file)
    return variant_of(
        format.value, format, pixels, encode(pixels, format, metadata=read_metadata(file))
    )


def pixels_of(file: bytes) -> NDArray[np.uint8]:
    """(height, width, 3), RGB, of a file whose size needs no check."""
    with Image.open(io.BytesIO(file)) as picture:
        return np.asarray(picture.convert("RGB"))

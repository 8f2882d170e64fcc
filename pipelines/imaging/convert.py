"""A file of one format as a file of another, with all that it says of itself."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipelines.imaging.encode import encode
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.metadata.read import read_metadata
from pipelines.imaging.postprocess import Variant, variant_of

if TYPE_CHECKING:
    from pipelines.imaging.credentials.sign import CredentialSigner


def convert(
    file: bytes,
    format: PictureFormat,  # noqa: A002 the field's own word
    signer: CredentialSigner | None = None,
) -> Variant:
    """The picture of one of our own files in another format, at that format's default quality.

    ``signer`` adds content credentials that refer to those of the file.

    Raises:
        InvalidPicture: it is too large for the format.
        MetadataTooLong: the format has no room for what it says.
        FormatUnavailable: this machine's libraries lack the format.
    """
    pixels = pixels_of(file)
    converted = encode(pixels, format, metadata=read_metadata(file))
    if signer is not None:
        converted = signer.sign_copy(converted, format, file)
    return variant_of(format.value, format, pixels, converted)


def pixels_of(file: bytes) -> NDArray[np.uint8]:
    """(height, width, 3), RGB, of a file whose size needs no check."""
    with Image.open(io.BytesIO(file)) as picture:
        return np.asarray(picture.convert("RGB"))

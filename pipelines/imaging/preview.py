"""A first glimpse of a picture that is still being denoised."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pipelines.imaging.encode import encode, picture_of
from pipelines.imaging.format import PictureFormat

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SCALE = 8
_LONGEST_SIDE = 256
_QUALITY = 70


def encode_preview(preview: NDArray[np.uint8]) -> bytes:
    """A smooth WebP file of an array at the latents' resolution, in a millisecond or two.

    It grows eightfold, which is the size of the picture that latents stand for, but not beyond
    256 pixels a side, whereby it stays within some two kilobytes.

    Args:
        preview: (height, width, 3), RGB.

    Raises:
        InvalidPicture: another shape or type.
    """
    small = picture_of(preview)
    scale = min(_SCALE, _LONGEST_SIDE / max(small.size))
    size = (max(1, round(small.width * scale)), max(1, round(small.height * scale)))
    file = io.BytesIO()
    large = small.resize(size, Image.Resampling.BILINEAR)
    large.save(file, format="webp", quality=_QUALITY, method=0)
    return file.getvalue()


def enlarge_preview(
    preview: bytes,
    width: int,
    height: int,
    format: PictureFormat,  # noqa: A002 the field's own word
) -> bytes:
    """What `encode_preview` made, as a file in the size and format of the picture to come.

    Width and height are pixels. It is smooth, so that even PNG takes little.
    """
    with Image.open(io.BytesIO(preview)) as small:
        large = small.convert("RGB").resize((width, height), Image.Resampling.BILINEAR)
    return encode(np.asarray(large), format)

"""A picture in some thirty characters, for whoever waits for its file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import blurhash
import numpy as np
from PIL import Image

from pipelines.imaging.encode import picture_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WAVES = 4
_SIDE = 4 * _WAVES
"""In pixels: a larger copy has nearly the same hash, and takes longer by the square of it."""


def placeholder(image: NDArray[np.uint8]) -> str:
    """The picture's BlurHash, by https://github.com/woltapp/blurhash/blob/master/Algorithm.md.

    It has four waves along each side, three along the shorter one of a picture that is no square.

    Args:
        image: (height, width, 3), RGB.

    Raises:
        InvalidPicture: another shape or type.
    """
    picture = picture_of(image)
    small = picture.resize((_SIDE, _SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    across = _WAVES - (picture.width < picture.height)
    down = _WAVES - (picture.height < picture.width)
    return str(blurhash.encode(np.asarray(small).tolist(), across, down))

"""A small copy of a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pipelines.imaging.encode import picture_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


def thumbnail(image: NDArray[np.uint8], longest_side: int) -> NDArray[np.uint8]:
    """Shrinks a picture until its longer side fits; one that fits already stays as it is.

    Args:
        image: (height, width, 3), RGB.
        longest_side: In pixels.

    Raises:
        InvalidPicture: another shape or type.
    """
    picture = picture_of(image)
    # The gap shrinks by whole factors first: half the time, and no visible difference.
    picture.thumbnail((longest_side, longest_side), Image.Resampling.LANCZOS, reducing_gap=2.0)
    return np.asarray(picture)

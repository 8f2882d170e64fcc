"""Pictures to try things on."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def scene(width: int, height: int) -> NDArray[np.uint8]:
    """Smooth colours with a little grain, the same every time."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    waves = [np.sin(6 * x + 3 * y + phase) for phase in (0.0, 2.0, 4.0)]
    grain = np.random.default_rng(7).normal(0, 2, (height, width, 3))
    return np.clip(np.stack(waves, axis=2) * 90 + 128 + grain, 0, 255).astype(np.uint8)


def decode(file: bytes) -> NDArray[np.uint8]:
    """The pixels of a file, through Pillow."""
    with Image.open(io.BytesIO(file)) as picture:
        return np.asarray(picture.convert("RGB"))


def file_format(file: bytes) -> str | None:
    """What Pillow takes the file for, by its content."""
    with Image.open(io.BytesIO(file)) as picture:
        return picture.format

"""How good a picture looks, by two published measures: deterministic, and cheap on a CPU."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


@dataclass(frozen=True, slots=True)
class Critique:
    """Both are 0 and up; noise raises both, so only pictures of one prompt and model compare."""

    sharpness: float
    colourfulness: float

    @property
    def score(self) -> float:
        """Twice as sharp counts like twice as colourful."""
        return math.log1p(self.sharpness) + math.log1p(self.colourfulness)


def critique(image: NDArray[np.uint8]) -> Critique:
    """Of a picture, (height, width, 3) RGB."""
    rgb = image.astype(np.float32)
    return Critique(round(sharpness(rgb), 3), round(colourfulness(rgb), 3))


def sharpness(rgb: NDArray[np.float32]) -> float:
    """The variance of the luma's Laplacian.

    Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy: a comparative study"
    (ICPR 2000), LAP4 of Pertuz et al. (2013). 0 where a side has fewer than 3 pixels.
    """
    luma = rgb @ _LUMA
    if min(luma.shape) < 3:
        return 0.0
    centre = luma[1:-1, 1:-1]
    around = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:]
    return float(np.var(around - 4 * centre))


def colourfulness(rgb: NDArray[np.float32]) -> float:
    """M3 of Hasler and Süsstrunk, "Measuring colourfulness in natural images" (SPIE 2003).

    About 15 is slightly colourful, 59 quite, 109 extremely.
    """
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    rg, yb = red - green, (red + green) / 2 - blue
    return float(
        math.hypot(np.std(rg), np.std(yb))
        + 0.3 * math.hypot(float(np.mean(rg)), float(np.mean(yb)))
    )

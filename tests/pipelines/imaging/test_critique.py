"""How a picture looks, by numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from pipelines.imaging.critique import Critique, critique


def checks(side: int = 64, dark: int = 0, light: int = 255) -> np.ndarray:
    rows, columns = np.indices((side, side))
    grey = np.where((rows // 8 + columns // 8) % 2, light, dark).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def test_laplacian_of_a_single_dot() -> None:
    """By hand: -4, and 1 on each side, times 9, over 7 x 7 places."""
    picture = np.zeros((9, 9, 3), dtype=np.uint8)
    picture[4, 4] = 9
    of_squares = (36**2 + 4 * 9**2) / 49
    assert critique(picture).sharpness == pytest.approx(of_squares, rel=1e-4)


def test_colourfulness_of_two_colours() -> None:
    """By the paper's formula: half red, half blue."""
    picture = np.zeros((4, 4, 3), dtype=np.uint8)
    picture[:2, :, 0] = 255
    picture[2:, :, 2] = 255
    rg, yb = np.array([255.0, 0.0]), np.array([127.5, -255.0])
    expected = math.hypot(rg.std(), yb.std()) + 0.3 * math.hypot(rg.mean(), yb.mean())
    assert critique(picture).colourfulness == pytest.approx(expected, rel=1e-4)


def test_blur_is_less_sharp_and_grey_has_no_colour() -> None:
    sharp = checks()
    blurred = np.array(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(2)))
    assert critique(blurred).sharpness < critique(sharp).sharpness / 10
    assert critique(sharp).colourfulness == 0
    tinted = sharp.copy()
    tinted[..., 2] //= 4
    assert critique(tinted).colourfulness > 30


def test_twice_as_sharp_counts_like_twice_as_colourful() -> None:
    assert Critique(2000, 50).score == pytest.approx(Critique(1000, 101).score, rel=1e-3)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_any_picture_has_finite_ones_and_the_same_again(height: int, width: int, seed: int) -> None:
    shape = (height, width, 3)
    picture = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    found = critique(picture)
    assert found == critique(picture.copy())
    assert found.sharpness >= 0 <= found.colourfulness
    assert math.isfinite(found.score)

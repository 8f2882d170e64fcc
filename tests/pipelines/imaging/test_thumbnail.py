"""Small copies."""

import numpy as np
import pytest

from pipelines.imaging.thumbnail import thumbnail
from tests.pipelines.imaging.pictures import scene


@pytest.mark.parametrize(
    ("size", "small"),
    [
        ((1024, 1024), (256, 256)),
        ((1024, 512), (256, 128)),
        ((300, 900), (85, 256)),
        ((2000, 2), (256, 1)),
        ((257, 10), (256, 10)),
    ],
)
def test_the_longer_side_shrinks_to_fit(size: tuple[int, int], small: tuple[int, int]) -> None:
    shape = thumbnail(scene(*size), 256).shape
    assert (shape[1], shape[0]) == small


@pytest.mark.parametrize("size", [(64, 64), (256, 256), (8, 200)])
def test_what_fits_stays_as_it_is(size: tuple[int, int]) -> None:
    image = scene(*size)
    assert np.array_equal(thumbnail(image, 256), image)


def test_it_shows_the_same_picture() -> None:
    image = scene(1024, 1024)
    means = image.reshape(256, 4, 256, 4, 3).mean(axis=(1, 3))
    assert np.abs(thumbnail(image, 256) - means).mean() < 1.5


def test_the_original_is_left_alone() -> None:
    image = scene(512, 512)
    before = image.copy()
    thumbnail(image, 256)
    assert np.array_equal(image, before)

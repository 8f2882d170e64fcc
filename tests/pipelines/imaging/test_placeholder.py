"""What stands for a picture until its file arrives."""

import blurhash
import numpy as np
import pytest

from pipelines.imaging.placeholder import placeholder
from tests.pipelines.imaging.pictures import scene


def test_it_is_the_picture_out_of_focus() -> None:
    image = np.zeros((96, 96, 3), dtype=np.uint8)
    image[:, :48] = (230, 40, 20)
    image[:, 48:] = (10, 60, 220)

    red, _, blue = np.moveaxis(np.array(blurhash.decode(placeholder(image), 8, 8)), 2, 0)

    assert (red[:, :3] > blue[:, :3] + 80).all()
    assert (blue[:, 5:] > red[:, 5:] + 80).all()


@pytest.mark.parametrize(
    ("height", "width", "waves", "length"),
    [(64, 64, (4, 4), 36), (1, 900, (4, 3), 28), (99, 98, (3, 4), 28)],
)
def test_any_size_has_one(height: int, width: int, waves: tuple[int, int], length: int) -> None:
    hashed = placeholder(scene(width, height))

    assert len(hashed) == length
    assert blurhash.components(hashed) == waves


def test_an_even_picture_is_its_colour() -> None:
    shown = blurhash.decode(placeholder(np.full((40, 60, 3), (128, 30, 200), np.uint8)), 4, 4)

    assert np.array(shown) == pytest.approx(
        np.broadcast_to((128, 30, 200), (4, 4, 3)), abs=40
    )  # its waves are no whole ones

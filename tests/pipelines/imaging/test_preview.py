"""First glimpses."""

import numpy as np
import pytest

from pipelines.imaging.errors import InvalidPicture
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.preview import encode_preview, enlarge_preview
from tests.pipelines.imaging.pictures import decode, file_format, scene


@pytest.mark.parametrize(
    ("latents", "pixels"),
    [((16, 16), (128, 128)), ((24, 16), (192, 128)), ((128, 64), (256, 128)), ((400, 2), (256, 1))],
)
def test_it_grows_to_the_picture_but_not_beyond_a_thumbnail(
    latents: tuple[int, int], pixels: tuple[int, int]
) -> None:
    file = encode_preview(scene(*latents))
    assert file_format(file) == "WEBP"
    assert decode(file).shape[1::-1] == pixels


def test_it_shows_the_same_colours_and_stays_small() -> None:
    latents = scene(64, 64)
    file = encode_preview(latents)
    assert len(file) < 4_000
    means = decode(file).reshape(64, 4, 64, 4, 3).mean(axis=(1, 3))
    assert np.abs(means - latents).mean() < 6


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(InvalidPicture):
        encode_preview(np.zeros((4, 16, 16), np.uint8))


@pytest.mark.parametrize("output", [PictureFormat.PNG, PictureFormat.WEBP, PictureFormat.JPEG])
def test_enlarged_it_has_the_pictures_size_and_format(output: PictureFormat) -> None:
    latents = scene(24, 16)
    file = enlarge_preview(encode_preview(latents), 96, 64, output)
    assert file_format(file) == output.value.upper()
    assert decode(file).shape == (64, 96, 3)


def test_enlarged_it_shows_the_same_colours() -> None:
    latents = scene(64, 64)
    file = enlarge_preview(encode_preview(latents), 512, 512, PictureFormat.PNG)
    means = decode(file).reshape(64, 8, 64, 8, 3).mean(axis=(1, 3))
    assert np.abs(means - latents).mean() < 6

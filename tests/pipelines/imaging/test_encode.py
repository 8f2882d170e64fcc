"""Files that hold the picture that was given."""

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, features

from pipelines.imaging.encode import encode
from pipelines.imaging.errors import FormatUnavailable, InvalidPicture, InvalidQuality
from pipelines.imaging.format import PictureFormat
from tests.pipelines.imaging.pictures import decode, file_format, scene


@pytest.mark.parametrize("size", [(64, 64), (1, 1), (127, 33), (512, 768)])
def test_png_keeps_every_pixel(size: tuple[int, int]) -> None:
    image = scene(*size)
    assert np.array_equal(decode(encode(image)), image)


@pytest.mark.parametrize("format_", PictureFormat)
def test_a_file_is_what_it_says(format_: PictureFormat) -> None:
    image = scene(128, 96)
    file = encode(image, format_)
    assert file_format(file) == format_.name
    error = decode(file).astype(int) - image.astype(int)
    assert decode(file).shape == (96, 128, 3)
    assert np.abs(error).mean() < 4  # loses little, and mixes no channels up


@pytest.mark.parametrize("format_", [f for f in PictureFormat if f.takes_quality])
def test_quality_buys_bytes(format_: PictureFormat) -> None:
    image = scene(128, 128)
    small, default, large = (len(encode(image, format_, quality)) for quality in (10, None, 98))
    assert small < default < large


def test_a_view_of_a_larger_array_is_fine() -> None:
    image = scene(64, 64)
    assert np.array_equal(decode(encode(image[::2, ::-1])), image[::2, ::-1])


def test_the_same_picture_gives_the_same_bytes() -> None:
    image = scene(64, 64)
    for format_ in PictureFormat:
        assert encode(image, format_, None, {"seed": 1}) == encode(
            image, format_, None, {"seed": 1}
        )


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.float32),
        np.zeros((0, 8, 3), np.uint8),
    ],
)
def test_what_is_no_picture_is_refused(image: NDArray[np.uint8]) -> None:
    with pytest.raises(InvalidPicture, match="height, width, 3"):
        encode(image)


def test_a_side_too_long_for_the_format_is_refused() -> None:
    image = np.zeros((1, 16_384, 3), np.uint8)
    with pytest.raises(InvalidPicture, match="png"):
        encode(image, PictureFormat.WEBP)
    assert decode(encode(image)).shape == image.shape


@pytest.mark.parametrize(
    ("format_", "quality"),
    [(PictureFormat.PNG, 90), (PictureFormat.JPEG, -1), (PictureFormat.WEBP, 101)],
)
def test_a_senseless_quality_is_refused(format_: PictureFormat, quality: int) -> None:
    with pytest.raises(InvalidQuality):
        encode(scene(8, 8), format_, quality)


@pytest.mark.parametrize("format_", [f for f in PictureFormat if f.takes_quality])
def test_quality_0_is_the_smallest_file(format_: PictureFormat) -> None:
    picture = scene(64, 64)
    smallest, default = encode(picture, format_, 0), encode(picture, format_)
    assert len(smallest) <= len(encode(picture, format_, 1)) < len(default)
    assert decode(smallest).shape == picture.shape


@pytest.mark.parametrize("format_", [PictureFormat.WEBP, PictureFormat.JPEG])
def test_the_longest_side_is_the_encoders_own(format_: PictureFormat) -> None:
    longest = np.zeros((1, format_.longest_side, 3), np.uint8)
    assert decode(encode(longest, format_)).shape == longest.shape
    with pytest.raises((OSError, ValueError), match=r"encoding error|broken data"):
        Image.fromarray(np.zeros((1, format_.longest_side + 1, 3), np.uint8)).save(
            io.BytesIO(), format_.value
        )


def test_a_pillow_without_avif_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "check", lambda _name: False)
    with pytest.raises(FormatUnavailable, match="webp"):
        encode(scene(8, 8), PictureFormat.AVIF)

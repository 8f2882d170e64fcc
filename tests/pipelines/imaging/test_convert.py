"""Files of one format as files of another."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.imaging.convert import convert
from pipelines.imaging.encode import encode
from pipelines.imaging.errors import InvalidPicture
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.metadata.read import read_metadata
from tests.pipelines.imaging.metadata.files import METADATA
from tests.pipelines.imaging.pictures import decode, file_format, scene


@pytest.mark.parametrize("wanted", PictureFormat)
@pytest.mark.parametrize("given", PictureFormat)
def test_it_shows_and_says_the_same(given: PictureFormat, wanted: PictureFormat) -> None:
    file = encode(scene(96, 64), given, None, METADATA)
    made = convert(file, wanted)
    assert (made.name, made.format, made.width, made.height) == (wanted.value, wanted, 96, 64)
    assert file_format(made.data) == wanted.name
    assert read_metadata(made.data) == METADATA
    error = np.abs(decode(made.data).astype(int) - decode(file))
    assert error.max() == 0 if wanted is PictureFormat.PNG else error.mean() < 4


def test_a_file_that_says_nothing_stays_silent() -> None:
    assert read_metadata(convert(encode(scene(8, 8)), PictureFormat.WEBP).data) is None


def test_a_picture_too_large_for_the_format_is_refused() -> None:
    file = encode(np.zeros((1, 16_384, 3), np.uint8))
    with pytest.raises(InvalidPicture, match="png"):
        convert(file, PictureFormat.WEBP)

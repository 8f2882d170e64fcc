"""The files of a picture."""

import hashlib
import pickle

import blurhash
import numpy as np
import pytest

from pipelines.imaging.errors import ImagingError
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.metadata.read import read_origin
from pipelines.imaging.postprocess import PostprocessSpec, process
from tests.pipelines.imaging.pictures import decode, file_format, scene


def test_a_picture_becomes_an_original_and_thumbnails() -> None:
    image = scene(640, 320)
    processed = process(image, PostprocessSpec(metadata={"seed": 5}))
    original, large, thumbnail = processed.files

    assert (original.name, original.media_type, original.file_name) == (
        "original",
        "image/png",
        f"original-{original.sha256[:16]}.png",
    )
    assert (thumbnail.name, thumbnail.media_type, thumbnail.file_name) == (
        "thumbnail",
        "image/webp",
        f"thumbnail-{thumbnail.sha256[:16]}.webp",
    )
    assert (original.width, original.height) == (640, 320)
    assert large.name == "thumbnail-512"
    assert (large.width, large.height) == (512, 256)
    assert (thumbnail.width, thumbnail.height) == (256, 128)
    assert blurhash.components(processed.blurhash) == (4, 3)
    assert np.array_equal(decode(original.data), image)
    origin = read_origin(original.data)
    assert origin is not None
    assert origin.parameters == {"seed": 5}


@pytest.mark.parametrize("format_", PictureFormat)
def test_the_manifest_is_true_of_the_bytes(format_: PictureFormat) -> None:
    for variant in process(scene(300, 200), PostprocessSpec(format=format_)).files:
        assert variant.sha256 == hashlib.sha256(variant.data).hexdigest()
        assert variant.size == len(variant.data)
        assert decode(variant.data).shape == (variant.height, variant.width, 3)
        assert f"image/{(file_format(variant.data) or '').lower()}" == variant.media_type


def test_a_thumbnail_is_never_larger_than_the_picture() -> None:
    _original, large, _thumbnail = process(scene(200, 300), PostprocessSpec()).files
    assert (large.width, large.height) == (200, 300)


def test_a_small_picture_is_its_own_thumbnail() -> None:
    _original, thumbnail = process(scene(64, 64), PostprocessSpec()).files
    assert (thumbnail.width, thumbnail.height) == (64, 64)


def test_a_retry_gives_the_same_files() -> None:
    image, spec = scene(128, 128), PostprocessSpec(metadata={"prompt": "fog", "seed": 1})
    assert process(image, spec) == process(image.copy(), pickle.loads(pickle.dumps(spec)))  # noqa: S301


def test_the_quality_reaches_the_original() -> None:
    low, high = (
        process(scene(128, 128), PostprocessSpec(format=PictureFormat.WEBP, quality=quality)).files[
            0
        ]
        for quality in (5, 95)
    )
    assert low.size < high.size


def test_a_spec_that_cannot_be_met_is_refused() -> None:
    with pytest.raises(ImagingError):
        process(scene(8, 8), PostprocessSpec(format=PictureFormat.PNG, quality=50))

"""Names of formats."""

from pipelines.imaging.format import PictureFormat


def test_media_types_and_extensions() -> None:
    assert {f.value: (f.media_type, f.extension) for f in PictureFormat} == {
        "png": ("image/png", "png"),
        "webp": ("image/webp", "webp"),
        "jpeg": ("image/jpeg", "jpg"),
        "avif": ("image/avif", "avif"),
    }

"""Pictures whose numbers are not sRGB's come out with the colours that viewers show."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from pipelines.imaging.source import mask_pixels, open_upload, source_file, source_pixels
from tests.pipelines.imaging import profiles
from tests.pipelines.imaging.profiles import ADOBE_RGB, DISPLAY_P3, shown
from tests.pipelines.imaging.test_source import SCENE, file_of

GREEN = (60, 200, 60)
SIZE = (40, 30)


def colour_of(file: bytes) -> np.ndarray:
    pixels = source_pixels(open_upload(file), SIZE)
    assert pixels.shape == (30, 40, 3)
    return np.array(pixels[15, 20], dtype=float)


def plain(colour: Any = GREEN, mode: str = "RGB") -> Image.Image:
    return Image.new(mode, SIZE, colour)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(file: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """Before the pixels of a PNG file."""
    return file[:33] + b"".join(chunk(kind, data) for kind, data in chunks) + file[33:]


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
@pytest.mark.parametrize(("space", "columns"), [("adobe", ADOBE_RGB), ("p3", DISPLAY_P3)])
def test_a_wide_gamut_becomes_srgb(
    kind: str, space: str, columns: tuple[tuple[float, float, float], ...]
) -> None:
    options = {"quality": 95} if kind != "png" else {}
    picture = plain()
    if kind == "webp":
        options["lossless"] = True
    told = colour_of(file_of(picture, kind, icc_profile=profiles.rgb(columns), **options))

    assert np.abs(told - shown(GREEN, space)).max() <= 2
    assert np.abs(told - GREEN).max() > 10  # as it would be without


@pytest.mark.parametrize("size", [SIZE, (400, 300)])
def test_what_is_transparent_and_what_has_a_palette_is_converted(size: tuple[int, int]) -> None:
    profile = profiles.rgb(ADOBE_RGB)
    clear = Image.new("RGBA", size, (*GREEN, 255))
    clear.paste((0, 0, 0, 0), (0, 0, size[0] // 4, size[1]))
    for mode in ("RGBA", "P"):
        file = file_of(clear.convert(mode), icc_profile=profile)
        pixels = source_pixels(open_upload(file), SIZE)
        assert np.abs(pixels[15, 30] - shown(GREEN, "adobe")).max() <= 2
    assert pixels is not None
    file = file_of(clear, icc_profile=profile)
    assert source_pixels(open_upload(file), SIZE)[15, 3].min() == 255


@pytest.mark.parametrize(("mode", "kind"), [("L", "png"), ("LA", "png"), ("L", "jpeg")])
def test_grey_follows_its_own_curve(mode: str, kind: str) -> None:
    picture = plain(55, "L").convert(mode)
    told = colour_of(file_of(picture, kind, icc_profile=profiles.grey(1.0)))

    assert np.abs(told - shown((55, 55, 55), "srgb", 1.0)).max() <= 2


def test_grey_of_16_bits_follows_its_own_curve() -> None:
    deep = Image.fromarray(np.full((30, 40), 55 * 257, dtype=np.uint16))

    told = colour_of(file_of(deep, icc_profile=profiles.grey(1.0)))

    assert np.abs(told - shown((55, 55, 55), "srgb", 1.0)).max() <= 2


def test_grey_with_a_profile_of_colours_follows_its_curve() -> None:
    told = colour_of(file_of(plain(55, "L"), "jpeg", icc_profile=profiles.rgb(ADOBE_RGB, 1.0)))

    assert np.abs(told - shown((55, 55, 55), "srgb", 1.0)).max() <= 2


def test_ink_becomes_light() -> None:
    """A press' cyan is darker than the one that the numbers alone would give, paper is white."""
    profile = profiles.cmyk()
    cyan = colour_of(file_of(plain((255, 0, 0, 0), "CMYK"), "jpeg", icc_profile=profile))
    paper = colour_of(file_of(plain((0, 0, 0, 0), "CMYK"), "jpeg", icc_profile=profile))
    black = colour_of(file_of(plain((0, 0, 0, 255), "CMYK"), "jpeg", icc_profile=profile))
    unknown = colour_of(file_of(plain((255, 0, 0, 0), "CMYK"), "jpeg"))

    assert np.abs(cyan - (0, 149, 219)).max() <= 6  # CIE Lab 55, -37, -50, at sRGB's edge
    assert paper.min() >= 254
    assert black.max() <= 2
    assert np.abs(unknown - (0, 255, 255)).max() <= 2


def test_srgb_by_its_own_profile_stays_as_it_is() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    pixels = source_pixels(open_upload(file_of(SCENE, icc_profile=profile)), SCENE.size)

    assert np.array_equal(pixels, np.asarray(SCENE))


ADOBE_CHUNKS = (
    (b"gAMA", struct.pack(">I", 45455)),
    (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)),
)
P3_CHUNK = (b"cICP", bytes([12, 13, 0, 1]))
ADOBE_PROFILE = (b"iCCP", b"a\0\0" + zlib.compress(profiles.rgb(ADOBE_RGB)))
LINEAR = (b"gAMA", struct.pack(">I", 100_000))


@pytest.mark.parametrize(
    ("chunks", "space", "gamma"),
    [
        (ADOBE_CHUNKS, "adobe", 2.2),
        ((P3_CHUNK,), "p3", None),
        ((P3_CHUNK, ADOBE_PROFILE), "p3", None),
        ((LINEAR, ADOBE_PROFILE), "adobe", 2.2),
        ((LINEAR,), "srgb", 1.0),
        ((LINEAR, (b"sRGB", b"\0")), "srgb", None),
        (((b"cICP", bytes([1, 13, 0, 1])), LINEAR), "srgb", None),
    ],
)
def test_a_png_may_tell_its_colours_by_chunks(
    chunks: tuple[tuple[bytes, bytes], ...], space: str, gamma: float | None
) -> None:
    """The first of the standard's order counts."""
    told = colour_of(with_chunks(file_of(plain()), *chunks))

    assert np.abs(told - shown(GREEN, space, gamma)).max() <= 2


BROKEN: dict[str, bytes] = {
    "text": b"a profile",
    "cut short": profiles.rgb(ADOBE_RGB)[:200],
    "of ink": profiles.cmyk(),
    "of grey": profiles.grey(1.0),
    "of no known space": profiles.rgb(ADOBE_RGB).replace(b"RGB ", b"6CLR"),
    "without its curves": profiles.rgb(ADOBE_RGB).replace(b"rTRC", b"none"),
    "too long": profiles.rgb(ADOBE_RGB) + bytes(5 * 2**20),
}


@pytest.mark.parametrize("kind", ["png", "webp"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_profile_that_is_none_is_passed_over(kind: str, name: str) -> None:
    options = {"lossless": True} if kind == "webp" else {}
    told = colour_of(file_of(plain(), kind, icc_profile=BROKEN[name], **options))

    assert tuple(told) == GREEN


@pytest.mark.parametrize(
    "broken",
    [
        (b"iCCP", b""),
        (b"iCCP", b"a\0\0not deflated"),
        (b"iCCP", b"a\0\0" + zlib.compress(bytes(2**26))),
        (b"iCCP", b"a\0\0" + zlib.compress(profiles.rgb(ADOBE_RGB))[:-8]),
        (b"cICP", b"\x0c"),
        (b"cICP", bytes([12, 16, 0, 1])),
        (b"cICP", bytes([99, 13, 0, 1])),
        (b"gAMA", b""),
        (b"gAMA", bytes(4)),
        (b"gAMA", b"\0\0\0\1"),
        (b"cHRM", bytes(32)),
        (b"cHRM", bytes(7)),
        (b"cHRM", b"\xff" * 32),
        (b"cHRM", struct.pack(">8I", *[33333] * 8)),
    ],
)
def test_a_chunk_that_is_broken_is_passed_over(broken: tuple[bytes, bytes]) -> None:
    told = colour_of(with_chunks(file_of(plain()), broken))

    assert tuple(told) == GREEN


def test_no_damaged_profile_raises_anything() -> None:
    chance = np.random.default_rng(8)
    for sound in (profiles.rgb(ADOBE_RGB), profiles.cmyk(), profiles.grey(2.2)):
        for _ in range(150):
            damaged = bytearray(sound)
            for place in chance.integers(0, min(len(sound), 600), 4):
                damaged[place] = chance.integers(0, 256)
            mode = {b"CMYK": "CMYK", b"GRAY": "L"}.get(bytes(sound[16:20]), "RGB")
            picture = Image.new("RGB", (8, 8), GREEN).convert(mode)
            file = file_of(picture, "jpeg", icc_profile=bytes(damaged))
            assert source_pixels(open_upload(file), (8, 8)).shape == (8, 8, 3)


def test_a_mask_is_no_colour() -> None:
    """Its alpha says what it marks, whatever its profile; and what is kept has no profile."""
    mask = Image.new("RGBA", SIZE, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 20, 30))
    opened = open_upload(file_of(mask, icc_profile=profiles.rgb(ADOBE_RGB)))
    pixels = mask_pixels(opened, SIZE, SIZE)

    assert (pixels[:, :20] == 255).all()
    assert (pixels[:, 20:] == 0).all()
    source = source_pixels(open_upload(file_of(plain(), icc_profile=profiles.rgb(ADOBE_RGB))), SIZE)
    assert b"iCCP" not in source_file(source)

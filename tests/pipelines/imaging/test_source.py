"""Pictures that come in, of every kind that is taken."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipelines.imaging.errors import Animated, BrokenFile, TooManyPixels, UnknownFormat
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.header import read_header
from pipelines.imaging.source import (
    fitted_size,
    mask_pixels,
    open_upload,
    read_source,
    source_file,
    source_pixels,
    upright_size,
)
from tests.pipelines.imaging.pictures import scene

SCENE = Image.fromarray(scene(80, 60))
ORIENTATION = 0x0112


def file_of(picture: Image.Image, kind: str = "png", **options: Any) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    error = np.mean((one.astype(float) - other) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        *((mode, "png") for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
        *((mode, "jpeg") for mode in ("L", "RGB", "CMYK", "YCbCr")),
        *((mode, "webp") for mode in ("RGB", "RGBA")),
    ],
)
def test_every_mode_becomes_rgb(mode: str, kind: str) -> None:
    sent = SCENE.convert(mode)
    pixels = source_pixels(open_upload(file_of(sent, kind)), SCENE.size)

    assert pixels.shape == (60, 80, 3)
    assert pixels.dtype == np.uint8
    assert psnr(pixels, np.asarray(sent.convert("RGB"))) > (25 if kind != "png" else 60)


def test_grey_of_16_bits_is_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 80, dtype=np.uint16)[None].repeat(60, 0)
    pixels = source_pixels(open_upload(file_of(Image.fromarray(ramp))), SCENE.size)

    assert np.array_equal(pixels[0, :, 0], ramp[0] >> 8)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_white(mode: str) -> None:
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0)).convert(mode)
    file = file_of(clear, transparency=clear.getpixel((0, 0))) if mode == "P" else file_of(clear)

    assert source_pixels(open_upload(file), (8, 8)).min() == 255


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_right_side_is_up(kind: str, orientation: int) -> None:
    """As Pillow's own function turns it, which has to decode the whole picture first."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    file = file_of(SCENE, kind, exif=exif)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB")
    picture = open_upload(file)

    assert upright_size(picture) == upright.size
    assert psnr(source_pixels(picture, upright.size), np.asarray(upright)) > 35


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_mask_is_turned_and_cut_as_its_picture(orientation: int) -> None:
    """The picture is black exactly where the mask is clear, and stays so at another shape."""
    clear = Image.new("RGBA", (80, 60), "white")
    clear.paste((0, 0, 0, 0), (16, 0, 48, 30))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    black = Image.new("RGB", (80, 60), "white")
    black.paste((0, 0, 0), (16, 0, 48, 30))
    picture, mask = open_upload(file_of(black, exif=exif)), open_upload(file_of(clear, exif=exif))
    size = (48, 48)
    marked = mask_pixels(mask, upright_size(picture), size)
    pixels = source_pixels(picture, size)

    assert set(np.unique(marked)) == {0, 255}
    assert np.mean((marked == 255) == (pixels[..., 0] < 128)) > 0.97


def test_a_large_jpeg_is_not_decoded_whole() -> None:
    large = SCENE.resize((1600, 1200), Image.Resampling.BICUBIC)
    picture = open_upload(file_of(large, "jpeg"))
    pixels = source_pixels(picture, SCENE.size)

    assert picture.size == (200, 150)
    assert psnr(pixels, np.asarray(SCENE)) > 25


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_large_picture_is_averaged_in_bands(mode: str) -> None:
    """Odd sizes, of which neither bands nor averages are whole; another shape is cut evenly."""
    large = SCENE.resize((2111, 1583), Image.Resampling.BICUBIC)
    if mode == "I;16":
        sent = Image.fromarray(np.asarray(large.convert("L")).astype(np.uint16) * 257)
    else:
        sent = large.convert(mode)
    file = file_of(sent)
    for size in ((80, 60), (60, 60), (80, 30)):
        whole = large.convert("L" if mode in ("1", "L", "LA", "I;16") else "RGB").convert("RGB")
        expected = np.asarray(ImageOps.fit(whole, size, Image.Resampling.LANCZOS))
        assert psnr(source_pixels(open_upload(file), size), expected) > 33, size


@pytest.mark.parametrize(("mode", "kind"), [("RGB", "jpeg"), ("RGB", "png"), ("P", "png")])
def test_photographs_of_48_megapixels_are_taken(mode: str, kind: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    colour = (200, 30, 30) if mode == "RGB" else 3
    photo = Image.new(mode, (8064, 6048), colour)
    if mode == "P":
        photo.putpalette([0, 0, 0] * 3 + [200, 30, 30])
    picture = open_upload(file_of(photo, kind, exif=exif))
    assert upright_size(picture) == (6048, 8064)
    pixels = source_pixels(picture, (48, 64))

    assert pixels.shape == (64, 48, 3)
    assert np.abs(pixels.astype(int) - (200, 30, 30)).max() <= 2


def test_a_phone_s_jpeg_with_a_second_picture_is_its_first() -> None:
    """Of several pictures, as phones add them for depth or for brighter screens."""
    other = Image.new("RGB", SCENE.size)
    picture = open_upload(file_of(SCENE, "mpo", save_all=True, append_images=[other], quality=95))

    assert psnr(source_pixels(picture, SCENE.size), np.asarray(SCENE)) > 30


@pytest.mark.parametrize(("kind", "most"), [("jpeg", 64), ("png", 64), ("webp", 17)])
def test_a_refusal_tells_the_limit_in_megapixels(kind: str, most: int) -> None:
    file = bytearray(file_of(SCENE, kind, **({"lossless": True} if kind == "webp" else {})))
    side = 1 + int((most * 1_000_000) ** 0.5)
    if kind == "jpeg":
        frame = file.index(b"\xff\xc0")
        file[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    elif kind == "png":
        file[16:24] = struct.pack(">II", side, side)
    else:
        file[21:25] = struct.pack("<I", (side - 1) | (side - 1) << 14)
    with pytest.raises(TooManyPixels, match=f"{most}[.]1 megapixels, and {kind} .* {most} are"):
        open_upload(bytes(file))


def test_a_stored_source_is_read_as_it_was_written() -> None:
    mask = (scene(80, 60)[..., 0] > 128).astype(np.uint8) * 255
    for pixels in (scene(80, 60), mask):
        assert np.array_equal(read_source(source_file(pixels)), pixels)
        assert source_file(pixels) == source_file(pixels.copy())
    with pytest.raises(BrokenFile):
        read_source(source_file(mask)[:60])


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_no_part_of_a_file_is_taken_for_the_whole(kind: str) -> None:
    """Cut anywhere, a file is refused by an error of ours, and by no other."""
    file = file_of(SCENE, kind)
    for end in range(0, len(file), max(1, len(file) // 97)):
        with pytest.raises((BrokenFile, UnknownFormat)):
            source_pixels(open_upload(file[:end]), SCENE.size)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_no_damage_raises_anything_else(kind: str) -> None:
    file = file_of(SCENE, kind)
    chance = np.random.default_rng(5)
    for _ in range(200):
        damaged = bytearray(file)
        for place in chance.integers(0, min(len(file), 400), 3):
            damaged[place] = chance.integers(0, 256)
        try:
            source_pixels(open_upload(bytes(damaged)), SCENE.size)
        except (BrokenFile, UnknownFormat, TooManyPixels, Animated):
            continue


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_webp_tells_its_size_before_it_is_opened(lossless: bool, mode: str) -> None:
    header = read_header(file_of(SCENE.convert(mode), "webp", lossless=lossless))

    assert (header.format, header.width, header.height) == (PictureFormat.WEBP, 80, 60)


def test_fitted_sizes_keep_the_shape_within_the_budget() -> None:
    chance = np.random.default_rng(3)
    for _ in range(2000):
        width, height = (int(side) for side in chance.integers(1, 5000, 2))
        multiple = int(chance.choice([8, 16, 32]))
        across, down = fitted_size(width, height, multiple=multiple, max_pixels=512 * 512)
        assert across % multiple == down % multiple == 0
        assert across * down <= 512 * 512
        if min(across, down) > 8 * multiple:
            assert abs(across / down / (width / height) - 1) < 0.15
    assert fitted_size(4000, 3000, multiple=8, max_pixels=1024 * 1024) == (1176, 888)

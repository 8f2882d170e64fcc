"""A picture that comes in: decoded within bounds, and written anew, so that only pixels remain."""

from __future__ import annotations

import io
import math
import struct
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from pipelines.imaging.colour_profile import in_srgb
from pipelines.imaging.encode import encode
from pipelines.imaging.errors import BrokenFile, InvalidMask, TooManyPixels
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.header import read_header

MAX_MEGAPIXELS = {PictureFormat.JPEG: 64, PictureFormat.PNG: 64, PictureFormat.WEBP: 17}
"""Decoded at most, by format: phones' photographs have 12, 24 or 48. WebP's decoder holds a picture
nearly four times."""

_BROKEN = (OSError, ValueError, SyntaxError, EOFError, IndexError, struct.error)
_MARKS = [255] + [0] * 255  # by alpha: only what is wholly transparent is marked
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # by EXIF orientation
_SHRINKS = 2  # a large picture is first averaged to no less than so many times what is wanted
_BAND_ROWS = 256  # of what a picture is averaged to, at a time


def open_upload(file: bytes) -> Image.Image:
    """The upright picture of a PNG, JPEG or WebP file, opened; most of it is not decoded yet.

    Raises:
        InvalidUpload: it is no such file, animated, cut short, disguised or too large.
    """
    header = read_header(file)
    if header.width is not None and header.height is not None:
        _affordable(header.format, header.width, header.height)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # bounded right below
            picture = Image.open(io.BytesIO(header.content), formats=[header.format.value])
    except Image.DecompressionBombError as error:
        raise TooManyPixels(
            f"The picture is far too large; {header.format.value} files of at most"
            f" {MAX_MEGAPIXELS[header.format]} megapixels are taken."
        ) from error
    except (UnidentifiedImageError, *_BROKEN) as error:
        raise BrokenFile(f"The {header.format.value} file cannot be read; save it anew.") from error
    _affordable(header.format, *picture.size)
    if header.profile is not None:
        picture.info["icc_profile"] = header.profile
    return picture


def upright_size(picture: Image.Image) -> tuple[int, int]:
    """Width and height as its EXIF orientation shows it."""
    width, height = picture.size
    return (height, width) if _orientation(picture) >= 5 else (width, height)


def fitted_size(
    width: int, height: int, *, multiple: int, max_pixels: int, max_side: int | None = None
) -> tuple[int, int]:
    """Of the same shape, as nearly as both sides can be multiples; at most ``max_pixels``."""
    scale = min(1.0, (max_pixels / (width * height)) ** 0.5)
    sides = [max(1, round(side * scale / multiple)) for side in (width, height)]
    # What rounding added, or a short side that was raised to one multiple, the long side pays for.
    longest = max(1, max_pixels // (multiple * multiple) // min(sides))
    if max_side is not None:
        longest = min(longest, max_side // multiple)
    across, down = (min(side, longest) * multiple for side in sides)
    return across, down


def source_pixels(picture: Image.Image, size: tuple[int, int]) -> NDArray[np.uint8]:
    """(height, width, 3) RGB of ``size`` = (width, height), which it covers; the rest is cut off.

    Its colours are those of sRGB, by its profile (`in_srgb`). What is transparent lies on white.

    Raises:
        BrokenFile: it cannot be decoded to its end.
    """
    turned, wanted = _turned(picture, size)
    picture.draft("RGB", (wanted[0] * _SHRINKS, wanted[1] * _SHRINKS))  # JPEG only: less to decode
    _load(picture)
    small = in_srgb(
        _covering(picture, wanted), picture.info.get("icc_profile"), grey=_is_grey(picture)
    )
    if small.mode == "RGBA":
        ground = Image.new("RGB", small.size, "white")
        ground.paste(small, mask=small.getchannel("A"))
        small = ground
    return np.asarray(small.transpose(turned) if turned is not None else small)


def mask_pixels(
    mask: Image.Image, source_size: tuple[int, int], size: tuple[int, int]
) -> NDArray[np.uint8]:
    """(height, width) of ``size``: 255 where the mask's alpha is 0, which is painted anew; else 0.

    Raises:
        InvalidMask: it has another size than its picture, no alpha, or marks nothing.
        BrokenFile: it cannot be decoded to its end.
    """
    if mask.format != "PNG":
        raise InvalidMask("The mask is not a PNG file; send one with an alpha channel.")
    if upright_size(mask) != source_size:
        width, height = upright_size(mask)
        raise InvalidMask(
            f"The mask has {width}x{height} pixels; make it as large as its image,"
            f" {source_size[0]}x{source_size[1]}."
        )
    if not mask.has_transparency_data:
        raise InvalidMask("The mask has no alpha channel; make transparent what shall be edited.")
    turned, wanted = _turned(mask, size)
    _load(mask)
    small = ImageOps.fit(mask, wanted, Image.Resampling.NEAREST)
    alpha = (small if "A" in small.mode else small.convert("RGBA")).getchannel("A")
    marked = alpha.point(_MARKS)
    pixels = np.asarray(marked.transpose(turned) if turned is not None else marked)
    if not pixels.any():
        raise InvalidMask("The mask is transparent nowhere; make so what shall be edited.")
    return pixels


def source_file(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of (height, width, 3) RGB or a (height, width) mask, and of nothing else.

    The same pixels give the same bytes.
    """
    if pixels.ndim == 3:
        return encode(pixels)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="png", compress_level=6)
    return file.getvalue()


def read_source(file: bytes) -> NDArray[np.uint8]:
    """The pixels that ``source_file`` wrote.

    Raises:
        BrokenFile: they cannot be read.
    """
    try:
        with Image.open(io.BytesIO(file), formats=["PNG"]) as picture:
            return np.asarray(picture)
    except (UnidentifiedImageError, *_BROKEN) as error:
        raise BrokenFile(f"The stored picture cannot be read: {error}") from error


def _affordable(format: PictureFormat, width: int, height: int) -> None:  # noqa: A002
    if width < 1 or height < 1:
        raise BrokenFile(f"The picture is {width}x{height} pixels; send one that has some.")
    most = MAX_MEGAPIXELS[format]
    if width * height > most * 1_000_000:
        raise TooManyPixels(
            f"The picture is {width}x{height}, which is {math.ceil(width * height / 100_000) / 10}"
            f" megapixels, and {format.value} files of at most {most} are taken: make it smaller"
            f"{', or send a JPEG.' if format is PictureFormat.WEBP else '.'}"
        )


def _orientation(picture: Image.Image) -> int:
    """1 to 8 as in EXIF; what cannot be read is 1."""
    exif = Image.Exif()
    try:
        exif.load(picture.info.get("exif", b""))
        value = exif.get(ExifTags.Base.Orientation, 1)
    except _BROKEN:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _turned(
    picture: Image.Image, size: tuple[int, int]
) -> tuple[Image.Transpose | None, tuple[int, int]]:
    """How to set the picture upright, and which size becomes ``size`` by that."""
    orientation = _orientation(picture)
    return _TURNS.get(orientation), size if orientation < 5 else size[::-1]


def _load(picture: Image.Image) -> None:
    try:
        picture.load()
    except _BROKEN as error:
        raise BrokenFile(
            f"The {picture.format} file is cut short or damaged; send all of it."
        ) from error


def _covering(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """RGB, RGBA or CMYK of ``size``, which the picture covers; the rest is cut off evenly.

    A large one is averaged in bands first: beside the picture itself, little is in memory.
    """
    scale = min(own / wanted for own, wanted in zip(picture.size, size, strict=True))
    left, top = ((own - wanted * scale) / 2 for own, wanted in zip(picture.size, size, strict=True))
    box = (left, top, picture.width - left, picture.height - top)
    factor = max(1, int(scale / _SHRINKS))
    if factor == 1:
        return _colours(picture).resize(size, Image.Resampling.LANCZOS, box)
    small: Image.Image | None = None
    for row in range(0, picture.height, _BAND_ROWS * factor):
        end = min(row + _BAND_ROWS * factor, picture.height)
        band = _colours(picture.crop((0, row, picture.width, end))).reduce(factor)
        small = small or Image.new(band.mode, (band.width, -(-picture.height // factor)))
        small.paste(band, (0, row // factor))
    assert small is not None  # noqa: S101 - a picture has rows
    left, top, right, bottom = (edge / factor for edge in box)
    return small.resize(size, Image.Resampling.LANCZOS, (left, top, right, bottom))


def _is_grey(picture: Image.Image) -> bool:
    return picture.mode.startswith(("1", "L", "I"))


def _colours(picture: Image.Image) -> Image.Image:
    """RGB, or RGBA where something is transparent, or CMYK."""
    if picture.mode == "CMYK":
        return picture
    if picture.mode.startswith("I"):  # grey of 16 bits, which Pillow would clip instead of scale
        return Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8)).convert("RGB")
    mode = "RGBA" if picture.has_transparency_data else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)

"""What the numbers of a picture mean as colours, and the same colours in sRGB.

Models know nothing but sRGB, in which pictures of the web are. Those of a camera or a phone are
often in a wider space, those of a press in CMYK, and say so by an ICC profile; a PNG may say it by
chunks as well.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from functools import cache

import numpy as np
from PIL import Image, ImageCms

# Scanned presses have the largest profiles, of 1 to 3 MB; what is longer is passed over.
_LONGEST = 4 * 2**20
_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_D50 = np.array([0.9642, 1.0, 0.8249])
_D65 = (0.3127, 0.3290)
# By ITU-T H.273's numbers, white first, then red, green and blue as x and y.
_PRIMARIES = {
    1: (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06),  # BT.709 and sRGB
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),  # BT.2020
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),  # Display P3
}
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_CURVES = {4: (2.2,), 5: (2.8,), 8: (1.0,), 13: _SRGB_CURVE}
_UNUSABLE = (
    ImageCms.PyCMSError,
    *(OSError, ValueError, TypeError, ArithmeticError),
    *(struct.error, zlib.error, np.linalg.LinAlgError),
)


def in_srgb(picture: Image.Image, profile: bytes | None, *, grey: bool) -> Image.Image:
    """The picture as RGB, or RGBA if it is so, with the colours that its ICC profile means.

    The intent is relative colorimetric with black-point compensation: what sRGB has is kept as it
    is, what lies beyond comes to its edge, white stays white and black black. A profile that is
    broken, or of another kind of picture, is passed over: then the numbers are taken for sRGB's.

    Args:
        picture: RGB, RGBA or CMYK of 8 bits.
        profile: A whole ICC profile.
        grey: Whether the picture was grey before it became RGB.
    """
    plain = picture.convert("RGB") if picture.mode == "RGBA" else picture
    converted = _converted(plain, profile, grey=grey) if profile else None
    if converted is None:
        return picture.convert("RGB") if picture.mode == "CMYK" else picture
    if picture.mode == "RGBA":
        converted.putalpha(picture.getchannel("A"))
    return converted


def _converted(picture: Image.Image, profile: bytes, *, grey: bool) -> Image.Image | None:
    if len(profile) > _LONGEST:
        return None
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        mode = {"RGB": "RGB", "CMYK": "CMYK", "GRAY": "L"}[opened.profile.xcolor_space.strip()]
        if mode == "L" and grey:
            picture = picture.convert("L")
        if picture.mode != mode:
            return None
        transform = ImageCms.buildTransform(
            opened,
            _srgb(),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        return ImageCms.applyTransform(picture, transform)
    except (KeyError, *_UNUSABLE):
        return None


@cache
def _srgb() -> ImageCms.ImageCmsProfile:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def png_profile(chunks: Mapping[bytes, bytes]) -> bytes | None:
    """The ICC profile that a PNG's colour chunks, by their kinds, hold or amount to.

    As the standard ranks them: cICP, iCCP, sRGB, then gAMA and cHRM. None stands for sRGB, and for
    what has no profile: a broken chunk, or the light of HDR, which needs more than a profile.
    """
    try:
        if b"cICP" in chunks:
            primaries, curve, matrix, full = chunks[b"cICP"]
            if matrix or not full or primaries not in _PRIMARIES or curve not in _CURVES:
                return None
            return _profile(_PRIMARIES[primaries], _CURVES[curve])
        if b"iCCP" in chunks:
            return _unpacked(chunks[b"iCCP"])
        if b"sRGB" in chunks or not chunks:
            return None
        gamma = struct.unpack(">I", chunks[b"gAMA"])[0] if b"gAMA" in chunks else None
        told = struct.unpack(">8I", chunks[b"cHRM"]) if b"cHRM" in chunks else None
        return _profile(
            tuple(each / 100_000 for each in told) if told else _PRIMARIES[1],
            (100_000 / gamma,) if gamma else _SRGB_CURVE,
        )
    except _UNUSABLE:
        return None


def _unpacked(chunk: bytes) -> bytes | None:
    """Behind a name and the method's number; no more is unpacked than a profile may have."""
    _, _, packed = chunk.partition(b"\0")
    unpacking = zlib.decompressobj()
    profile = unpacking.decompress(packed[1:], _LONGEST)
    return profile if unpacking.eof else None


def _profile(primaries: tuple[float, ...], curve: tuple[float, ...]) -> bytes:
    """An ICC profile of white, red, green and blue, each x and y, and of one curve for all three.

    The curve is a power, or the five numbers of ICC's parametric curve of type 3.
    """
    white, *colours = (
        np.array([x / y, 1.0, (1 - x - y) / y])
        for x, y in zip(primaries[::2], primaries[1::2], strict=True)
    )
    matrix = np.stack(colours, axis=1)
    matrix = matrix * np.linalg.solve(matrix, white)
    to_d50 = np.diag(_BRADFORD @ _D50 / (_BRADFORD @ white))
    matrix = np.linalg.inv(_BRADFORD) @ to_d50 @ _BRADFORD @ matrix
    if not np.isfinite(matrix).all():
        raise ValueError("the primaries span no space")
    parametric = struct.pack(">4x2H", 0 if len(curve) == 1 else 3, 0)
    tags = {
        b"wtpt": b"XYZ " + bytes(4) + _fixed(*_D50),
        **{
            name: b"XYZ " + bytes(4) + _fixed(*column)
            for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), matrix.T, strict=True)
        },
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), b"para" + parametric + _fixed(*curve)),
    }
    return _icc(tags)


def _icc(tags: Mapping[bytes, bytes]) -> bytes:
    """A display profile of RGB over XYZ, version 4.3."""
    at = 128 + 4 + 12 * len(tags)
    table = struct.pack(">I", len(tags))
    for name, value in tags.items():
        table += name + struct.pack(">II", at, len(value))
        at += len(value)
    head = struct.pack(">I4xI", at, 0x04300000) + b"mntrRGB XYZ " + bytes(12) + b"acsp"
    head += bytes(68 - len(head)) + _fixed(*_D50)
    return head + bytes(128 - len(head)) + table + b"".join(tags.values())


def _fixed(*numbers: float) -> bytes:
    """ICC's numbers of 16 bits before and 16 behind the point."""
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)

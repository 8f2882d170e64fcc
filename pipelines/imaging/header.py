"""What a picture's file says before anything of it is decompressed.

Pillow unpacks a PNG's text and colour profile, however long, and allocates a WebP's canvas, as soon
as it opens the file; so this looks first.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pipelines.imaging.colour_profile import png_profile
from pipelines.imaging.errors import Animated, BrokenFile, UnknownFormat
from pipelines.imaging.format import PictureFormat

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_MOST_CHUNKS = 16_384  # a file of 128 MiB in the usual pieces of 8 KiB
_MOST_SCANS = 256  # of a progressive JPEG: each one passes over all of its pixels
_PADDING = b"\0\t\n\r "  # what tools append to files that they take for text or for blocks
_DRAWN = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_COLOUR = (b"cICP", b"iCCP", b"sRGB", b"gAMA", b"cHRM")
_HEIF = (b"heic", b"heix", b"mif1", b"msf1")


@dataclass(frozen=True, slots=True)
class Header:
    """``width`` and ``height`` in pixels as the file has them; None where only Pillow can tell.

    ``content`` is the file without the parts that say nothing of its pixels. ``profile`` is a PNG's
    ICC profile; those of others Pillow hands on.
    """

    format: PictureFormat
    content: bytes
    width: int | None = None
    height: int | None = None
    profile: bytes | None = None


def format_of(file: bytes) -> PictureFormat | None:
    """By its first bytes alone; None if it is none of ours."""
    if file.startswith(PNG_SIGNATURE):
        return PictureFormat.PNG
    if file.startswith(b"\xff\xd8\xff"):
        return PictureFormat.JPEG
    if file.startswith(b"RIFF") and file[8:12] == b"WEBP":
        return PictureFormat.WEBP
    return PictureFormat.AVIF if file[4:12] == b"ftypavif" else None


def read_header(file: bytes) -> Header:
    """The header of a PNG, JPEG or WebP file, told by its content alone.

    Raises:
        UnknownFormat: it is none of them.
        Animated: it has several frames.
        BrokenFile: it is cut short, or has something behind its end.
    """
    readers = {PictureFormat.PNG: _png, PictureFormat.JPEG: _jpeg, PictureFormat.WEBP: _webp}
    kind = format_of(file)
    if kind in readers:
        return readers[kind](file)
    if file[4:8] == b"ftyp" and file[8:12] in _HEIF:
        raise UnknownFormat(
            "The file is a HEIC picture, as phones keep them; export it as a JPEG, and send that."
        )
    raise UnknownFormat("The file is not a PNG, JPEG or WebP picture; convert it to one of them.")


def _png(file: bytes) -> Header:
    """Chunk by chunk; those of text, profiles and time are left out, however large they unpack."""
    whole = memoryview(file)
    kept: list[bytes | memoryview] = [PNG_SIGNATURE]
    colour: dict[bytes, bytes] = {}
    end = len(PNG_SIGNATURE)
    for kind, begin, end in png_chunks(file):
        if kind == b"eXIf":
            kept.insert(2, whole[begin:end])  # before the pixels, where Pillow sees it unasked
        elif kind in _DRAWN:
            kept.append(whole[begin:end])
        elif kind in _COLOUR:
            colour.setdefault(kind, file[begin + 8 : end - 4])
    _no_tail(file, end, "PNG")
    if kept[1][4:8] != b"IHDR" or len(kept[1]) != 25:
        raise BrokenFile("The PNG file does not begin with its header; save it anew.")
    width, height = struct.unpack_from(">II", kept[1], 8)
    return Header(PictureFormat.PNG, b"".join(kept), width, height, png_profile(colour))


def png_chunks(file: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The kind of each chunk up to the last, and where it begins and ends.

    Raises:
        Animated, BrokenFile: as `read_header` does.
    """
    at = len(PNG_SIGNATURE)
    for _ in range(_MOST_CHUNKS):
        if at + 12 > len(file):
            raise BrokenFile("The PNG file is cut short; send all of it.")
        length, kind = struct.unpack_from(">I4s", file, at)
        if kind == b"acTL":
            raise Animated("The PNG file is animated; send a single picture.")
        end = at + 12 + length
        if end > len(file):
            raise BrokenFile("The PNG file is cut short; send all of it.")
        yield kind, at, end
        if kind == b"IEND":
            return
        at = end
    raise BrokenFile(f"The PNG file has more than {_MOST_CHUNKS} chunks; save it anew.")


def _jpeg(file: bytes) -> Header:
    """Within its data a 0xff is always followed by a zero or a restart: markers can be counted.

    What follows the end is let be: cameras write previews and films there.
    """
    if file.count(b"\xff\xda") > _MOST_SCANS:
        raise BrokenFile(f"The JPEG file has more than {_MOST_SCANS} scans; save it anew.")
    return Header(PictureFormat.JPEG, file)


def _webp(file: bytes) -> Header:
    if len(file) < 30:
        raise BrokenFile("The WebP file is cut short; send all of it.")
    end = 8 + int.from_bytes(file[4:8], "little")
    if end > len(file):
        raise BrokenFile("The WebP file is cut short; send all of it.")
    _no_tail(file, end, "WebP")
    match file[12:16]:
        case b"VP8X":
            if file[20] & 0x02:
                raise Animated("The WebP file is animated; send a single picture.")
            width = 1 + int.from_bytes(file[24:27], "little")
            height = 1 + int.from_bytes(file[27:30], "little")
        case b"VP8L":
            bits = int.from_bytes(file[21:25], "little")
            width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
        case b"VP8 ":
            width = int.from_bytes(file[26:28], "little") & 0x3FFF
            height = int.from_bytes(file[28:30], "little") & 0x3FFF
        case _:
            raise BrokenFile("The WebP file holds no picture; save it anew.")
    return Header(PictureFormat.WEBP, file, width, height)


def _no_tail(file: bytes, end: int, name: str) -> None:
    if file[end:].strip(_PADDING):
        raise BrokenFile(
            f"{len(file) - end} bytes follow the end of the {name} file; send the picture alone."
        )

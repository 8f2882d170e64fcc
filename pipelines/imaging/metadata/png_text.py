"""The text of a PNG file, read within bounds: a small chunk may unpack to any length."""

from __future__ import annotations

import zlib

from pipelines.imaging.header import png_chunks

_LONGEST = 2**20
"""Bytes of all texts together, unpacked."""


def png_texts(file: bytes) -> dict[str, str]:
    """By keyword, of the chunks ``tEXt``, ``zTXt`` and ``iTXt`` (PNG 3rd edition, 11.3.3).

    Once they are longer than 1 MiB together, the rest is left out.

    Raises:
        Animated, BrokenFile: as `read_header` does.
    """
    texts: dict[str, str] = {}
    left = _LONGEST
    for kind, begin, end in png_chunks(file):
        if kind not in _READERS:
            continue
        keyword, _, content = file[begin + 8 : end - 4].partition(b"\0")
        try:
            text = _READERS[kind](content, left)
        except (ValueError, zlib.error):  # not as the standard has it
            continue
        left -= len(text)
        texts.setdefault(keyword.decode("latin-1"), text)
    return texts


def _plain(content: bytes, left: int) -> str:
    if len(content) > left:
        raise ValueError("too long")
    return content.decode("latin-1")


def _packed(content: bytes, left: int) -> str:
    return _unpacked(content[1:], left).decode("latin-1")


def _international(content: bytes, left: int) -> str:
    """A flag and a method, a language, the keyword in that language, then UTF-8."""
    _language, _, rest = content[2:].partition(b"\0")
    _translated, _, text = rest.partition(b"\0")
    if content[:1] == b"\1":
        text = _unpacked(text, left)
    if len(text) > left:
        raise ValueError("too long")
    return text.decode()


def _unpacked(packed: bytes, left: int) -> bytes:
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(packed, max(1, left))
    if not unpacking.eof:
        raise ValueError("too long, or cut short")
    return text


_READERS = {b"tEXt": _plain, b"zTXt": _packed, b"iTXt": _international}

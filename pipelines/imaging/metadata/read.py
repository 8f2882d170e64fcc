"""From a file to what it says of how its picture was made."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

from PIL import ExifTags, Image, UnidentifiedImageError

from pipelines.imaging.errors import BrokenFile, UnknownFormat
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.header import PNG_SIGNATURE
from pipelines.imaging.metadata.automatic1111 import read_text
from pipelines.imaging.metadata.comfyui import read_graph
from pipelines.imaging.metadata.embed import PNG_TEXT, PNG_XMP, UNICODE
from pipelines.imaging.metadata.origin import Origin
from pipelines.imaging.metadata.png_text import png_texts
from pipelines.imaging.metadata.xmp import origin_of, read_xmp

_COMFYUI_GRAPH = "prompt"
# ComfyUI's WebP files have the graph behind its name in one of these.
_COMFYUI_TAGS = (ExifTags.Base.Make, ExifTags.Base.Model)


def read_origin(file: bytes) -> Origin | None:
    """What the file says; None if it says nothing in a dialect that is known.

    No pixel is decoded. Ours is asked first, which is exact, then AUTOMATIC1111's and ComfyUI's.

    Raises:
        InvalidUpload: it is no PNG, JPEG, WebP or AVIF file, or a broken one.
    """
    blocks = _blocks(file)
    metadata = read_xmp(blocks.xmp)
    if metadata is not None:
        return origin_of(metadata)
    return read_text(blocks.text) or read_graph(blocks.graph)


def read_metadata(file: bytes) -> dict[str, Any] | None:
    """What `encode` wrote into a file of ours; None if it is another's, or has none.

    Raises:
        InvalidUpload: as `read_origin`.
    """
    return read_xmp(_blocks(file).xmp)


class _Blocks(NamedTuple):
    """What a file has for each dialect; empty if nothing."""

    xmp: bytes | str
    text: str
    graph: str


def _blocks(file: bytes) -> _Blocks:
    return _of_png(file) if file.startswith(PNG_SIGNATURE) else _of_others(file)


def _of_png(file: bytes) -> _Blocks:
    texts = png_texts(file)
    return _Blocks(*(texts.get(name, "") for name in (PNG_XMP, PNG_TEXT, _COMFYUI_GRAPH)))


def _of_others(file: bytes) -> _Blocks:
    formats = [each.value for each in PictureFormat if each is not PictureFormat.PNG]
    try:
        with Image.open(io.BytesIO(file), formats=formats) as picture:
            exif = picture.getexif()
            comment = exif.get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
            xmp = picture.info.get("xmp", b"")
    except UnidentifiedImageError as error:
        raise UnknownFormat("The file is not a PNG, JPEG, WebP or AVIF picture.") from error
    except Exception as error:
        raise BrokenFile("The file cannot be read; save it anew.") from error
    graphs = (str(exif.get(tag, "")) for tag in _COMFYUI_TAGS)
    name = f"{_COMFYUI_GRAPH}:"
    graph = next((each.removeprefix(name) for each in graphs if each.startswith(name)), "")
    return _Blocks(xmp, _decoded(comment) if isinstance(comment, bytes) else "", graph)


def _decoded(comment: bytes) -> str:
    """By the eight bytes before it. Tools disagree on the order of UTF-16's bytes, and the text has
    ASCII in it, of which one byte is zero.
    """
    if not comment.startswith(UNICODE):
        return comment[len(UNICODE) :].decode("utf-8", "replace")
    text = comment[len(UNICODE) :]
    little = text[1::2].count(0) > text[0::2].count(0)
    return text.decode("utf-16-le" if little else "utf-16-be", "replace")

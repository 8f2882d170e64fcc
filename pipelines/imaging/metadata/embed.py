"""How a picture was made, written into its file.

XMP has our parameters in every format. AUTOMATIC1111's text stands where its readers look for it:
in PNG's text, elsewhere in EXIF's UserComment.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from PIL import ExifTags, Image

from pipelines.imaging.errors import MetadataTooLong
from pipelines.imaging.format import PictureFormat
from pipelines.imaging.metadata.automatic1111 import write_text
from pipelines.imaging.metadata.xmp import SOFTWARE, write_xmp

PNG_TEXT = "parameters"
PNG_XMP = "XML:com.adobe.xmp"
UNICODE = b"UNICODE\0"
"""EXIF says by eight bytes how a comment is written; AUTOMATIC1111's readers want UTF-16."""
# One JPEG segment holds 64 KiB, of which the segment's own names take a share.
_LONGEST_BYTES = 65_000


def check_length(
    metadata: Mapping[str, Any],
    format: PictureFormat,  # noqa: A002 the field's own word
) -> None:
    """Raises MetadataTooLong where the format has no room for the metadata."""
    if format is not PictureFormat.PNG:
        exif_and_xmp(metadata, format)


def png_chunks(metadata: Mapping[str, Any] | None) -> list[tuple[bytes, bytes]]:
    """The chunks that say `metadata` (what JSON can hold), each with its kind."""
    if metadata is None:
        return []
    return [
        (b"iTXt", _text(PNG_TEXT, write_text(metadata))),
        (b"iTXt", _text(PNG_XMP, write_xmp(metadata))),
        (b"eXIf", _exif(metadata, None).removeprefix(b"Exif\0\0")),
    ]


def _text(keyword: str, text: str) -> bytes:
    """Not compressed, in no language, without a translated keyword."""
    return keyword.encode() + b"\0" + b"\0\0" + b"\0" + b"\0" + text.encode("utf-8", "replace")


def exif_and_xmp(
    metadata: Mapping[str, Any] | None,
    format: PictureFormat,  # noqa: A002 the field's own word
) -> dict[str, bytes]:
    """The same for another format.

    Raises:
        MetadataTooLong: the format has no room for it.
    """
    if metadata is None:
        return {}
    blocks = {
        "exif": _exif(metadata, write_text(metadata)),
        "xmp": write_xmp(metadata).encode(),
    }
    longest = max(map(len, blocks.values()))
    if longest > _LONGEST_BYTES:
        raise MetadataTooLong(
            f"The metadata takes {longest} bytes, and {format.value} files hold {_LONGEST_BYTES}:"
            " shorten the prompt, or ask for png."
        )
    return blocks


def _exif(metadata: Mapping[str, Any], comment: str | None) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = metadata.get("software", SOFTWARE)
    details = exif.get_ifd(ExifTags.IFD.Exif)
    if "created_at" in metadata:
        created = datetime.fromisoformat(metadata["created_at"]).astimezone(UTC)
        details[ExifTags.Base.DateTimeOriginal] = f"{created:%Y:%m:%d %H:%M:%S}"
        details[ExifTags.Base.OffsetTimeOriginal] = "+00:00"
    if comment is not None:
        details[ExifTags.Base.UserComment] = UNICODE + comment.encode("utf-16-be", "replace")
    return exif.tobytes()

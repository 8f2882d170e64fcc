"""What a picture's file says about how it was made.

The parameters stand as JSON where each format has room for text: in PNG an `iTXt` chunk named
`sfumato`, elsewhere EXIF's UserComment, which image viewers show. Beside it stands the IPTC
marker for pictures out of a trained model, which search engines and social networks read.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from PIL import ExifTags, Image, PngImagePlugin, UnidentifiedImageError

from pipelines.imaging.errors import InvalidPicture, MetadataTooLong
from pipelines.imaging.format import PictureFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = "sfumato"
_SOFTWARE = "Sfumato"
# EXIF says by eight bytes how a comment is written; JSON escapes what isn't ASCII.
_ASCII = b"ASCII\0\0\0"
# One JPEG segment holds 64 KiB; the rest of the EXIF block takes its share.
_LONGEST_EXIF_BYTES = 65_000
_XMP_KEY = "XML:com.adobe.xmp"
_XMP = """\
<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="\
http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"/>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>"""


def check_length(
    metadata: Mapping[str, Any],
    format: PictureFormat,  # noqa: A002 the field's own word
) -> None:
    """Raises MetadataTooLong where the format has no room for the metadata."""
    if format is not PictureFormat.PNG:
        _exif(metadata, format)


def embedding(
    metadata: Mapping[str, Any],
    format: PictureFormat,  # noqa: A002 the field's own word
) -> dict[str, Any]:
    """The options of Pillow's `save` that write `metadata` (what JSON can hold) into a file.

    Raises:
        MetadataTooLong: the format has no room for it.
    """
    if format is PictureFormat.PNG:
        chunks = PngImagePlugin.PngInfo()
        chunks.add_text("Software", _SOFTWARE)
        chunks.add_itxt(KEY, json.dumps(dict(metadata), ensure_ascii=False))
        chunks.add_itxt(_XMP_KEY, _XMP)
        return {"pnginfo": chunks}
    return {"exif": _exif(metadata, format), "xmp": _XMP.encode()}


def _exif(
    metadata: Mapping[str, Any],
    format: PictureFormat,  # noqa: A002 the field's own word
) -> bytes:
    comment = _ASCII + json.dumps(dict(metadata), separators=(",", ":")).encode("ascii")
    exif = Image.Exif()
    exif[ExifTags.Base.Software] = _SOFTWARE
    exif.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.UserComment] = comment
    block = exif.tobytes()
    if len(block) > _LONGEST_EXIF_BYTES:
        raise MetadataTooLong(
            f"The metadata takes {len(block)} bytes, and {format.value} files hold "
            f"{_LONGEST_EXIF_BYTES}: shorten the prompt, or ask for png."
        )
    return block


def read_metadata(file: bytes) -> dict[str, Any] | None:
    """What `encode` wrote into a file; None where there is nothing of ours.

    Raises:
        InvalidPicture: the file is no picture.
    """
    try:
        with Image.open(io.BytesIO(file)) as picture:
            if picture.format == "PNG":
                text = picture.info.get(KEY)
            else:
                text = picture.getexif().get_ifd(ExifTags.IFD.Exif).get(ExifTags.Base.UserComment)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InvalidPicture(f"The file is no picture that can be read: {error}.") from error
    if isinstance(text, bytes):
        text = text.removeprefix(_ASCII).decode("ascii", errors="replace")
    if not isinstance(text, str):
        return None
    try:
        metadata = json.loads(text)
    except ValueError:  # somebody else's comment
        return None
    return metadata if isinstance(metadata, dict) else None
